//! The ring of the bare clients: set-up, one way in, one way out, and buffers the kernel picks from.
//!
//! Invariant: harvest first, then act: completions are copied out of the queue before anything is pushed.
//!
//! Invariant: memory named by an entry comes from [`Slots`] or is leaked, so it outlives every operation.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};
use rustix::io::Errno;

use crate::error::{BareError, During as _};
use crate::memory::Slots;

/// The only group of provided buffers.
pub(crate) const GROUP: u16 = 0;
const ENTRIES: u32 = 4_096;
const COMPLETIONS: u32 = 16_384;

/// One harvested completion.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) token: u64,
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

pub(crate) struct Ring {
    uring: IoUring,
}

impl Ring {
    pub(crate) fn new() -> Result<Ring, BareError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)
            .during("io_uring")?;
        Ok(Ring { uring })
    }

    pub(crate) fn uring(&self) -> &IoUring {
        &self.uring
    }

    /// Puts all entries into one submission, because links do not reach beyond it.
    ///
    /// # Safety
    ///
    /// Memory the entries name must outlive the ring's operations, and must not be read through a reference while the
    /// kernel writes to it.
    pub(crate) unsafe fn push(&mut self, entries: &[squeue::Entry]) -> Result<(), BareError> {
        // An error of a submission (EBUSY, EAGAIN, EINTR) leaves entries in the queue. Each time round some
        // completions may overflow into the kernel's list, which `harvest` gets later (NODROP).
        for _ in 0..1_000 {
            // SAFETY: the caller's promise is the one that `push_multiple` asks for.
            if unsafe { self.uring.submission().push_multiple(entries) }.is_ok() {
                return Ok(());
            }
            let _ = self.uring.submit();
        }
        Err(BareError::Setting("the ring takes no more operations"))
    }

    /// Submits, waits for `wanted` completions or for `limit`, and copies what there is.
    pub(crate) fn harvest(
        &mut self,
        wanted: usize,
        limit: Duration,
        into: &mut Vec<Completion>,
    ) -> Result<(), BareError> {
        let limit = Timespec::from(limit);
        let arguments = SubmitArgs::new().timespec(&limit);
        match self.uring.submitter().submit_with_args(wanted, &arguments) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error).during("io_uring_enter"),
        }
        into.extend(self.uring.completion().map(|entry| Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        Ok(())
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::TIME | Errno::INTR | Errno::AGAIN | Errno::BUSY))
}

/// Buffers the kernel takes from by itself.
///
/// Invariant: a buffer is either in the kernel's ring or named by a completion not handled yet.
pub(crate) struct Buffers {
    ring: Slots,
    data: Slots,
    count: u16,
    size: u32,
    tail: u16,
}

impl Buffers {
    /// `count` must be a power of two.
    pub(crate) fn new(ring: &Ring, count: u16, size: u32) -> Result<Buffers, BareError> {
        let mut buffers = Buffers {
            ring: Slots::new(usize::from(count), size_of::<BufRingEntry>()),
            data: Slots::new(usize::from(count), size as usize),
            count,
            size,
            tail: 0,
        };
        let start = buffers.ring.address(0) as u64;
        // SAFETY: the memory holds `count` entries, is aligned to a page and never freed.
        unsafe { ring.uring().submitter().register_buf_ring_with_flags(start, count, GROUP, 0) }
            .during("provided buffers")?;
        for id in 0..count {
            buffers.recycle(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// What a completion has put into the buffer it names.
    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        // SAFETY: a completion named the buffer, so the kernel leaves it alone until `recycle`, which needs `&mut`.
        unsafe { self.data.bytes(usize::from(id), len) }
    }

    /// Gives a buffer back; the kernel sees it after [`Buffers::publish`].
    pub(crate) fn recycle(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let entry = self.ring.address(slot).cast::<BufRingEntry>();
        let address = self.data.address(usize::from(id)) as u64;
        // SAFETY: the entry is inside the ring and aligned; the kernel reads entries below the published tail only.
        // The tail shares the first entry's memory, and the setters do not touch it.
        unsafe {
            (*entry).set_addr(address);
            (*entry).set_len(self.size);
            (*entry).set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was recycled.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the tail is inside the ring, two octets wide and aligned, and written only here.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.ring.address(0).cast()).cast_mut();
            AtomicU16::from_ptr(tail)
        };
        // Pairs with the kernel's acquire load of the tail.
        tail.store(self.tail, Ordering::Release);
    }
}
