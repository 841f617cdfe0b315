//! The io_uring driver: one ring of submissions and completions, and what the
//! kernel reads and writes meanwhile.
//!
//! Here: waiting, delivery, teardown. Leaves out what single sockets do; see
//! `datagram` and `stream`.
//!
//! The driver shares memory and descriptors with the kernel, which is why it
//! holds `unsafe` code. The invariants behind its being safe to call:
//!
//! - Invariant: memory named by a submitted operation belongs to that operation
//!   until its final completion was harvested. Dropping interest (`close`)
//!   cancels; it never frees. If a ring cannot be drained when it is dropped,
//!   the memory is leaked instead of freed.
//! - Invariant: a socket keeps its slot and its descriptor until every
//!   operation on it, cancellations included, has completed; `pending` counts
//!   them. So a completion never meets a reused slot, and an abort leaks nothing.
//! - Invariant: a submission entry is never lost. If the queue stays full, the
//!   entry waits in a backlog that is flushed before the next sleep.
//! - Invariant: every operation that must stay armed (multishot receive, waker)
//!   is queued again before the thread sleeps, and buffers are given back to
//!   the kernel before that.
//!
//! Harvest first, act later: completions are copied out of the queue before
//! the first event is delivered.

mod arena;
mod buffers;
mod core;
mod datagram;
mod memory;
mod stream;
mod token;

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::{CancelBuilder, Fd};

use self::arena::SendArena;
use self::buffers::ReceiveBuffers;
use self::core::{Completion, Core};
use self::datagram::Datagram;
use self::memory::Pages;
use self::stream::Stream;
use self::token::Token;
use crate::datagram::DatagramId;
use crate::error::setup_error;
use crate::ring::LONGEST_SLEEP;
use crate::slots::Slots;
use crate::stream::StreamId;
use crate::{Close, Event, RingConfig, RingError, RingStats, Sink, Waker};

/// How long dropping a ring waits for the kernel to let go of the memory.
const TEARDOWN: Duration = Duration::from_secs(2);

/// One io_uring and everything it drives. Stays on the thread that made it.
pub(crate) struct Ring {
    // Declared first, so the ring is closed before any memory below is freed.
    core: Core,
    buffers: ReceiveBuffers,
    arena: SendArena,
    datagrams: Slots<Datagram>,
    streams: Slots<Stream>,
    /// `send_datagram` found no slot and the caller waits for one.
    slot_wanted: bool,
    slot_freed: bool,
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
    /// Makes a ring for the calling thread, of settings that were checked.
    pub(crate) fn new(config: RingConfig) -> Result<Ring, RingError> {
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

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn stats(&self) -> RingStats {
        self.core.stats
    }

    pub(crate) fn submit(&mut self) {
        self.core.submit();
    }

    /// Completions that concern nobody (a datagram left) do not end the wait.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, sink: Sink<'_>) -> io::Result<()> {
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
            opcode::Read::new(Fd(self.waker.event().as_raw_fd()), self.wake_value.start(), size_of::<u64>() as u32)
                .build();
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
            self.close_datagram(DatagramId(key));
        }
        for key in self.streams.keys() {
            self.close(StreamId(key), Close::Graceful);
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
