//! The epoll driver: non-blocking calls, made when the kernel says that they
//! will not be in vain.
//!
//! Here: waiting, turns, delivery. Leaves out what single sockets do; see
//! `datagram` and `stream`.
//!
//! All work goes through one queue of what is due. A call of the user, or a
//! report of the kernel, puts a socket there; a turn takes each entry once and
//! does one bounded thing for it. So nobody starves behind a busy socket, and
//! nothing is delivered but inside [`Ring::wait`].
//!
//! - Invariant: an entry of the queue is a hint. One too many does no harm; for
//!   a socket with something to do there is one, or the kernel will report it.
//! - Invariant: a socket's state is that after the event before the sink is
//!   called, which may panic.
//! - Invariant: a socket is taken out of epoll before its descriptor is closed,
//!   so a report never meets a reused slot, not even while a child process that
//!   has not yet executed its program shares the descriptor.

mod datagram;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use self::datagram::{Datagram, SendSlots};
use self::stream::Stream;
use crate::error::epoll_error;
use crate::ring::LONGEST_SLEEP;
use crate::slots::{Key, Slots};
use crate::{Event, RingConfig, RingError, RingStats, Sink, Waker};

/// Reports taken from the kernel at a time.
const REPORTS_MAX: usize = 512;

/// What a report is about, in the upper half of its data; the lower half is
/// the slot.
const WAKE: u64 = 1;
const DATAGRAM: u64 = 2;
const STREAM: u64 = 3;

fn data(kind: u64, index: u32) -> EventData {
    EventData::new_u64(kind << 32 | u64::from(index))
}

/// Something to be done in the next turn.
#[derive(Clone, Copy)]
enum Due {
    Woken,
    DatagramSend(Key),
    DatagramReceive(Key),
    Stream(Key),
}

/// One epoll descriptor and everything it watches. Stays on the thread that
/// made it, as its twin does.
pub(crate) struct Ring {
    epoll: OwnedFd,
    /// Empty but while reports are taken in.
    reports: Vec<epoll::Event>,
    due: VecDeque<Due>,
    /// Where every receive goes first.
    buffer: Box<[u8]>,
    datagrams: Slots<Datagram>,
    streams: Slots<Stream>,
    slots: SendSlots,
    waker: Waker,
    stats: RingStats,
    _thread: PhantomData<*mut ()>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("datagrams", &self.datagrams.len())
            .field("streams", &self.streams.len())
            .field("due", &self.due.len())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread, of settings that were checked.
    pub(crate) fn new(config: RingConfig) -> Result<Ring, RingError> {
        let waker = Waker::new().map_err(epoll_error)?;
        let open = || {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            epoll::add(&epoll, waker.event(), data(WAKE, 0), EventFlags::IN)?;
            Ok(epoll)
        };
        Ok(Ring {
            epoll: open().map_err(|errno: Errno| epoll_error(errno.into()))?,
            reports: Vec::with_capacity(REPORTS_MAX),
            due: VecDeque::new(),
            buffer: vec![0; config.receive_buffer_bytes as usize].into(),
            datagrams: Slots::new(),
            streams: Slots::new(),
            slots: SendSlots::new(config.datagram_send_slots),
            waker,
            stats: RingStats::default(),
            _thread: PhantomData,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn stats(&self) -> RingStats {
        self.stats
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, sink: Sink<'_>) -> io::Result<()> {
        // A timeout beyond the clock's range is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut limit = deadline.and(timeout);
        let mut visible = self.turn(sink);
        loop {
            // What is ready is taken in all the same: a socket that always has
            // something due must not keep the others from being looked at.
            if visible || self.slots.ends_wait() || !self.due.is_empty() {
                limit = Some(Duration::ZERO);
            }
            let interrupted = self.poll(limit)?;
            visible |= self.turn(sink);
            if visible || interrupted || self.slots.ends_wait() {
                self.slots.wait_ended();
                return Ok(());
            }
            limit = None;
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                limit = Some(left);
            }
        }
    }

    /// Does what is due now, each once; true if an event was delivered.
    fn turn(&mut self, sink: Sink<'_>) -> bool {
        let mut visible = false;
        for _ in 0..self.due.len() {
            let Some(due) = self.due.pop_front() else { break };
            visible |= match due {
                Due::Woken => self.woken(sink),
                Due::DatagramSend(key) => self.send_queued(key, sink),
                Due::DatagramReceive(key) => self.receive_datagrams(key, sink),
                Due::Stream(key) => self.advance_stream(key, sink),
            };
        }
        visible
    }

    /// Waits for reports or the limit and takes the reports in. True if the
    /// wait was cut short by a signal.
    fn poll(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        self.stats.enters += 1;
        let limit = limit
            .map(|limit| limit.min(LONGEST_SLEEP))
            .map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
        match epoll::wait(&self.epoll, spare_capacity(&mut self.reports), limit.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
        self.stats.completions += self.reports.len() as u64;
        let mut reports = std::mem::take(&mut self.reports);
        for report in reports.drain(..) {
            self.take_in(report.data.u64(), report.flags);
        }
        self.reports = reports;
        Ok(false)
    }

    fn take_in(&mut self, data: u64, flags: EventFlags) {
        let index = data as u32;
        match data >> 32 {
            WAKE => {
                // Readable, and nobody else reads it, so this does not block.
                // Read here and not when it is due: as long as it is readable
                // it is reported again.
                let _ = rustix::io::read(self.waker.event(), &mut [0; size_of::<u64>()]);
                self.due.push_back(Due::Woken);
            }
            DATAGRAM => self.datagram_ready(index, flags),
            _ => self.stream_ready(index, flags),
        }
    }

    fn woken(&mut self, sink: Sink<'_>) -> bool {
        self.waker.consumed();
        self.stats.wakes += 1;
        sink(Event::Woken);
        true
    }
}
