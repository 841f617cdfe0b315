//! The ring itself: settings, waiting, delivery, teardown.
//!
//! Leaves out what single sockets do; see `datagram` and `stream`.
//!
//! Invariants: an event is delivered only inside [`Ring::wait`]; the waker's
//! read is always armed or queued.

use std::io;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fd};

use crate::arena::SendArena;
use crate::buffers::ReceiveBuffers;
use crate::core::{Completion, Core};
use crate::datagram::Datagram;
use crate::error::setup_error;
use crate::memory::Pages;
use crate::slots::Slots;
use crate::stream::Stream;
use crate::token::Token;
use crate::{Close, Event, RingError, Waker};

pub(crate) type Sink<'a> = &'a mut dyn FnMut(Event<'_>);

/// How long dropping a ring waits for the kernel to let go of the memory.
const TEARDOWN: Duration = Duration::from_secs(2);
/// A single sleep; the kernel's clock arithmetic overflows on absurd values.
const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// Sizes of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Submission entries; the completion queue is four times as long. Clamped
    /// to what the kernel allows.
    pub entries: u32,
    /// Receive buffers shared by all sockets; a power of two, at most 32 768.
    pub receive_buffers: u16,
    /// Size of each; also the longest datagram received whole.
    pub receive_buffer_bytes: u32,
    /// Datagrams that can be under way at a time, a kibibyte each.
    pub datagram_send_slots: u32,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig { entries: 4096, receive_buffers: 1024, receive_buffer_bytes: 4096, datagram_send_slots: 4096 }
    }
}

/// Counters since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// System calls that submitted or waited.
    pub enters: u64,
    /// Completions handled.
    pub completions: u64,
    /// Datagrams the kernel accepted.
    pub datagrams_sent: u64,
    /// Datagrams delivered.
    pub datagrams_received: u64,
    /// Receives that ended because no buffer was free.
    pub out_of_buffers: u64,
    /// Harvests that found the completion queue overflowed.
    pub overflows: u64,
    /// Streams opened.
    pub streams_opened: u64,
    /// `Woken` events.
    pub wakes: u64,
}

/// One io_uring and everything it drives. Stays on the thread that made it.
pub struct Ring {
    // Declared first, so the ring is closed before any memory below is freed.
    pub(crate) core: Core,
    pub(crate) buffers: ReceiveBuffers,
    pub(crate) arena: SendArena,
    pub(crate) datagrams: Slots<Datagram>,
    pub(crate) streams: Slots<Stream>,
    /// `send_datagram` found no slot and the caller waits for one.
    pub(crate) slot_wanted: bool,
    pub(crate) slot_freed: bool,
    waker: Waker,
    /// Where the eventfd's counter is read to.
    wake_value: Pages,
    dropping: bool,
    /// SINGLE_ISSUER: the kernel refuses other threads.
    _thread: PhantomData<*mut ()>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("datagrams", &self.datagrams.len())
            .field("streams", &self.streams.len())
            .field("in_flight", &self.core.in_flight())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread.
    pub fn new(config: RingConfig) -> Result<Ring, RingError> {
        check_config(&config)?;
        let core = Core::new(config.entries)?;
        let buffers = ReceiveBuffers::new(core.uring(), config.receive_buffers, config.receive_buffer_bytes)?;
        let arena = SendArena::new(config.datagram_send_slots).ok_or(RingError::MemoryLimit)?;
        let wake_value = Pages::new(size_of::<u64>()).ok_or(RingError::MemoryLimit)?;
        let mut ring = Ring {
            core,
            buffers,
            arena,
            datagrams: Slots::new(),
            streams: Slots::new(),
            slot_wanted: false,
            slot_freed: false,
            waker: Waker::new().map_err(setup_error)?,
            wake_value,
            dropping: false,
            _thread: PhantomData,
        };
        ring.arm_waker();
        Ok(ring)
    }

    /// A handle that makes [`Ring::wait`] return, for other threads.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Counters since the ring was made.
    pub fn stats(&self) -> RingStats {
        self.core.stats
    }

    /// Submits everything queued, waits until an event is there, a send slot
    /// that was refused is free, a signal arrives or `timeout` has passed
    /// (`None`: never), and hands all events to the sink.
    ///
    /// Completions that concern nobody (a datagram left) do not end the wait.
    pub fn wait(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        // A timeout beyond the clock's range is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut limit = deadline.and(timeout);
        // Not empty only if a sink panicked or an entry was submitted early.
        let mut visible = self.deliver(sink);
        loop {
            if visible {
                limit = Some(Duration::ZERO);
            }
            let interrupted = self.core.enter(limit.map(|limit| limit.min(LONGEST_SLEEP)))?;
            visible |= self.deliver(sink);
            if visible || interrupted || self.slot_freed {
                self.slot_wanted = false;
                self.slot_freed = false;
                return Ok(());
            }
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                limit = Some(left);
            }
        }
    }

    /// Handles all harvested completions; true if an event was delivered.
    fn deliver(&mut self, sink: Sink<'_>) -> bool {
        let mut visible = false;
        while let Some(completion) = self.core.next_completion() {
            visible |= self.handle(completion, sink);
        }
        self.buffers.publish();
        visible
    }

    fn handle(&mut self, completion: Completion, sink: Sink<'_>) -> bool {
        let Some(token) = completion.token() else {
            return false;
        };
        match token {
            Token::DatagramReceive(index) => self.datagram_received(index, completion, sink),
            Token::DatagramSend(slot) => self.datagram_sent(slot, completion, sink),
            Token::StreamReceive(index) => self.stream_received(index, completion, sink),
            Token::StreamSend(index) => self.stream_sent(index, completion, sink),
            Token::Connect(index) => self.stream_connected(index, completion, sink),
            Token::StreamCancel(index) => {
                self.stream_cancelled(index, completion);
                false
            }
            Token::DatagramCancel(index) => {
                self.datagram_cancelled(index, completion);
                false
            }
            Token::Wake => self.woken(completion, sink),
            Token::CancelWake => false,
        }
    }

    fn arm_waker(&mut self) {
        let entry =
            opcode::Read::new(Fd(self.waker.raw_fd()), self.wake_value.start(), size_of::<u64>() as u32).build();
        // SAFETY: memory and descriptor belong to the ring, which gives them up
        // only after this operation has completed; nobody reads the memory.
        unsafe { self.core.push(entry, Token::Wake) };
    }

    fn woken(&mut self, completion: Completion, sink: Sink<'_>) -> bool {
        if self.dropping {
            return false;
        }
        self.arm_waker();
        if completion.result().is_err() {
            return false;
        }
        self.waker.consumed();
        self.core.stats.wakes += 1;
        sink(Event::Woken);
        true
    }

    /// Cancels everything and waits until the kernel has let go; false if it
    /// did not in time.
    fn quiesce(&mut self) -> bool {
        self.dropping = true;
        for key in self.datagrams.keys() {
            self.close_datagram(key.into());
        }
        for key in self.streams.keys() {
            self.close(key.into(), Close::Graceful);
        }
        let wake = CancelBuilder::user_data(Token::Wake.encode());
        let entry = opcode::AsyncCancel2::new(wake).build();
        // SAFETY: a cancel by token names no memory and no descriptor.
        unsafe { self.core.push(entry, Token::CancelWake) };
        let deadline = Instant::now() + TEARDOWN;
        while self.core.in_flight() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.core.enter(Some(left)).is_err() {
                return false;
            }
            self.deliver(&mut |_| {});
        }
        true
    }
}

impl Drop for Ring {
    /// Takes the memory back from the kernel before it is freed. Closing the
    /// ring's descriptor alone would not do: the kernel ends requests some time
    /// after that. So every operation is cancelled and its completion awaited;
    /// then no request is left that could touch the memory, and the registered
    /// buffer ring is only ever read on behalf of a request. If the kernel does
    /// not finish in time, the memory and the sockets are leaked.
    fn drop(&mut self) {
        if !self.quiesce() {
            self.buffers.leak();
            self.arena.leak();
            self.wake_value.leak();
            self.streams.leak();
            self.datagrams.leak();
            std::mem::forget(self.waker.clone());
        }
    }
}

fn check_config(config: &RingConfig) -> Result<(), RingError> {
    let wrong = if config.entries == 0 {
        "entries must be at least 1"
    } else if !config.receive_buffers.is_power_of_two() {
        "receive_buffers must be a power of two, at most 32768"
    } else if !(64..=1 << 20).contains(&config.receive_buffer_bytes) {
        "receive_buffer_bytes must be between 64 and 1048576"
    } else if !(1..=1 << 20).contains(&config.datagram_send_slots) {
        "datagram_send_slots must be between 1 and 1048576"
    } else {
        return Ok(());
    };
    Err(RingError::Config(wrong))
}
