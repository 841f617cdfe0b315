//! Submission and harvest: the two queues shared with the kernel.
//!
//! Leaves out what the operations are for.
//!
//! Invariants: an entry handed to [`Core::push`] reaches the kernel, in order,
//! before the thread sleeps; `in_flight` counts pushed operations whose final
//! completion has not been taken with [`Core::next_completion`].

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};
use rustix::io::Errno;

use super::token::Token;
use crate::RingStats;
use crate::error::{RingError, setup_error};

/// One harvested completion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    token: u64,
    result: i32,
    flags: u32,
}

impl Completion {
    pub(crate) fn token(&self) -> Option<Token> {
        Token::decode(self.token)
    }

    pub(crate) fn more(&self) -> bool {
        cqueue::more(self.flags)
    }

    pub(crate) fn buffer(&self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    pub(crate) fn result(&self) -> Result<usize, Errno> {
        if self.result >= 0 { Ok(self.result as usize) } else { Err(Errno::from_raw_os_error(-self.result)) }
    }
}

pub(crate) struct Core {
    uring: IoUring,
    /// Entries that found the submission queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Completions copied out of the queue and not handled yet.
    harvest: VecDeque<Completion>,
    in_flight: u64,
    pub(crate) stats: RingStats,
}

impl Core {
    pub(crate) fn new(entries: u32) -> Result<Core, RingError> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_clamp()
            .setup_submit_all()
            .setup_cqsize(entries.saturating_mul(4))
            .build(entries)
            .map_err(setup_error)?;
        check_features(&uring)?;
        check_operations(&uring)?;
        Ok(Core {
            uring,
            backlog: VecDeque::new(),
            harvest: VecDeque::new(),
            in_flight: 0,
            stats: RingStats::default(),
        })
    }

    pub(crate) fn uring(&self) -> &IoUring {
        &self.uring
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Queues one operation.
    ///
    /// # Safety
    ///
    /// Memory the entry points to must stay valid, and unwritten if the kernel
    /// reads it, until the operation's final completion was taken; the
    /// descriptor must stay open until then.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry, token: Token) {
        self.in_flight += 1;
        let entry = entry.user_data(token.encode());
        if !self.backlog.is_empty() || !self.push_or_submit(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// Puts the entry into the submission queue, emptying a full one once.
    fn push_or_submit(&mut self, entry: &squeue::Entry) -> bool {
        for submit in [true, false] {
            // SAFETY: `push` demanded that the entry's memory and descriptor
            // outlive the operation.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return true;
            }
            if submit {
                self.stats.enters += 1;
                // An error (EBUSY, EAGAIN, EINTR) leaves the queue full; the
                // entry then waits in the backlog.
                let _ = self.uring.submit();
            }
        }
        false
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.push_or_submit(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Submits and does not wait.
    pub(crate) fn submit(&mut self) {
        self.flush_backlog();
        if !self.uring.submission().is_empty() {
            self.stats.enters += 1;
            // An error leaves the entries where they are, for the next enter.
            let _ = self.uring.submit();
        }
    }

    /// Submits, waits for a completion or the limit, and harvests. True if the
    /// wait was cut short by a signal or by pressure in the kernel.
    pub(crate) fn enter(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        self.flush_backlog();
        self.stats.enters += 1;
        // With a backlog left the kernel is under pressure: do not sleep on it.
        let limit = if self.backlog.is_empty() { limit } else { Some(Duration::ZERO) };
        let queued = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        let entered = match limit {
            None => submitter.submit_and_wait(1),
            // SAFETY: no argument is passed (a null pointer without EXT_ARG),
            // and `queued` is the length of the submission queue.
            Some(Duration::ZERO) => unsafe { submitter.enter::<u8>(queued, 0, EnterFlags::GETEVENTS.bits(), None) },
            Some(limit) => {
                let limit = Timespec::from(limit);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&limit))
            }
        };
        self.collect();
        match entered.map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(_) | Err((Some(Errno::TIME), _)) => Ok(false),
            Err((Some(Errno::INTR | Errno::AGAIN | Errno::BUSY), _)) => Ok(true),
            Err((_, error)) => Err(error),
        }
    }

    /// Copies all completions out of the shared queue. What overflowed it stays
    /// with the kernel (NODROP), which hands it over at the next enter.
    fn collect(&mut self) {
        if self.uring.submission().cq_overflow() {
            self.stats.overflows += 1;
        }
        let queue = self.uring.completion();
        self.harvest.extend(queue.map(|entry| Completion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
    }

    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        let completion = self.harvest.pop_front()?;
        self.stats.completions += 1;
        if !completion.more() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        Some(completion)
    }
}

fn check_features(uring: &IoUring) -> Result<(), RingError> {
    let parameters = uring.params();
    for (present, name) in [
        (parameters.is_feature_nodrop(), "NODROP"),
        (parameters.is_feature_submit_stable(), "SUBMIT_STABLE"),
        (parameters.is_feature_fast_poll(), "FAST_POLL"),
        (parameters.is_feature_ext_arg(), "EXT_ARG"),
    ] {
        if !present {
            return Err(RingError::MissingFeature(name));
        }
    }
    Ok(())
}

fn check_operations(uring: &IoUring) -> Result<(), RingError> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(setup_error)?;
    for (code, name) in [
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Connect::CODE, "IORING_OP_CONNECT"),
        (opcode::AsyncCancel2::CODE, "IORING_OP_ASYNC_CANCEL"),
        // Not used itself: it came with 6.0, as multishot receive did, which
        // cannot be probed.
        (opcode::SendZc::CODE, "IORING_OP_SEND_ZC"),
    ] {
        if !probe.is_supported(code) {
            return Err(RingError::MissingOperation(name));
        }
    }
    Ok(())
}
