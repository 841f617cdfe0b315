//! Waking a thread that sleeps in [`crate::Ring::wait`].
//!
//! Leaves out what the thread should do then; the caller has a queue for that.
//!
//! Invariant: a `wake` that begins after the ring has delivered `Woken` causes
//! another `Woken`; calls before that are merged into one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the ring's thread from any other; cheap to clone and to call.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    /// A write to `event` has not been consumed yet.
    pending: AtomicBool,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Waker> {
        // Blocking on purpose: io_uring refuses to wait on descriptors that
        // are set to be non-blocking, and epoll reads only what is there.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Waker { shared: Arc::new(Shared { event, pending: AtomicBool::new(false) }) })
    }

    /// Makes the ring deliver [`crate::Event::Woken`] soon.
    pub fn wake(&self) {
        // Release pairs with the acquire in `consumed`: what the caller wrote
        // to its queue before is visible to the woken thread, also when this
        // call is merged into an earlier one.
        if !self.shared.pending.swap(true, Ordering::AcqRel) {
            // Can fail only if the counter is full, and then a wake is pending.
            let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
        }
    }

    /// Whether there is a wake that was not consumed.
    pub(crate) fn is_pending(&self) -> bool {
        // A hint; `consumed` synchronises.
        self.shared.pending.load(Ordering::Relaxed)
    }

    /// The ring has read the event and will now look at its queue.
    pub(crate) fn consumed(&self) {
        // Acquire pairs with the release in `wake`; a swap, not a store, so
        // that it reads the last `wake` before it.
        self.shared.pending.swap(false, Ordering::AcqRel);
    }

    /// Readable while a wake has not been consumed. Only the ring reads it.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}
