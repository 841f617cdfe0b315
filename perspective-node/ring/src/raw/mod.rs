//! The ring over raw frames: our own addresses on an interface, past the
//! kernel's IP stack, for very many probes without kernel sockets.
//!
//! Same calls, same events as over the kernel. What moves frames is below
//! (`frames`), what makes datagrams and streams of them beside (`stack`); here
//! is the loop.
//!
//! Leaves out fragments, IP options and extension headers, path MTU discovery:
//! what a probe sends fits every path, and what is asked for is no larger than
//! a frame or comes by TCP.
//!
//! - Invariant: one thread, one interface. A second ring needs another.
//! - Invariant: nothing is delivered but inside [`Ring::wait`].

mod buffers;
mod clock;
mod config;
mod datagram;
mod frames;
mod hops;
mod kept;
mod memory;
#[cfg(test)]
mod namespace;
mod output;
mod stack;
mod stream;
#[cfg(test)]
mod tests;
mod unreachable;

use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::clock::Micros;
pub use self::config::{RawConfig, RawConfigError};
pub use self::frames::{FrameMethod, FrameSocket, FramesError, FramesStats, FramesStep, UnknownFrameMethod};
use self::frames::{Frames, FramesConfig};
pub use self::kept::{Flow, FlowProtocol, FlowSpan, KeptFrame};
use self::kept::{Kept, Span};
use self::output::{ETHERNET_HEADER, Outbox};
pub use self::stack::RawStats;
use self::stack::{Stack, Turn};
use crate::error::setup_error;
use crate::ring::LONGEST_SLEEP;
use crate::{Close, DatagramId, Event, RingConfig, RingError, RingStats, SendError, Sink, StreamId, Waker};

/// Frames taken in between two flushes.
const FRAMES_A_TURN: usize = 256;
/// How long to wait for the kernel to send when there is no room.
const ROOM_WAIT: Duration = Duration::from_micros(200);

/// A frame layer, the stack over it and their clock.
pub(crate) struct Ring {
    frames: Frames,
    stack: Stack,
    outbox: Outbox,
    /// Frames that are kept, if any are.
    kept: Option<Box<Kept>>,
    waker: Waker,
    random: StdRng,
    origin: Instant,
    /// A send was refused for want of room.
    slot_wanted: bool,
    stats: RingStats,
    _thread: PhantomData<*mut ()>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("frames", &self.frames.describe())
            .field("datagrams", &self.stack.datagrams.len())
            .field("streams", &self.stack.streams.len())
            .field("flows", &self.stack.streams.flows_len())
            .field("due", &self.stack.agenda.len())
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// Makes a ring for the calling thread, of ring settings that were checked.
    pub(crate) fn new(config: RingConfig, raw: &RawConfig) -> Result<Ring, RingError> {
        raw.check()?;
        let frames = Frames::open(&FramesConfig {
            interface: &raw.interface,
            addresses: &raw.addresses,
            method: raw.method,
            frames: raw.frames,
        })?;
        let (hardware, mtu) = (frames.hardware_address(), frames.mtu());
        let (slots, bytes) = (config.datagram_send_slots, config.receive_buffer_bytes);
        Ok(Ring {
            stack: Stack::new(raw.clone(), hardware, mtu, slots, bytes),
            frames,
            outbox: Outbox::new(mtu + ETHERNET_HEADER),
            kept: (raw.kept_octets > 0).then(|| Box::new(Kept::new(raw.kept_octets))),
            waker: Waker::new().map_err(setup_error)?,
            random: rand::make_rng(),
            origin: Instant::now(),
            slot_wanted: false,
            stats: RingStats::default(),
            _thread: PhantomData,
        })
    }

    /// What frames are moved by, for logs.
    pub(crate) fn describe(&self) -> String {
        format!("raw ({})", self.frames.describe())
    }

    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    pub(crate) fn stats(&self) -> RingStats {
        let frames = self.frames.stats();
        RingStats {
            enters: self.stats.enters + frames.kicks,
            completions: frames.received,
            datagrams_received: self.stack.datagrams.received,
            ..self.stats
        }
    }

    /// What was dropped, and what the frame layer counted.
    pub(crate) fn raw_stats(&self) -> (RawStats, FramesStats) {
        (self.stack.stats, self.frames.stats())
    }

    fn now(&self) -> Micros {
        Micros(self.origin.elapsed().as_micros() as u64)
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, sink: Sink<'_>) -> io::Result<()> {
        // A timeout beyond the clock's range is none.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut visible = false;
        loop {
            visible |= self.turn(sink)?;
            visible |= self.woken(sink);
            let room = self.slot_wanted && self.datagram_slots_free() > 0;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if visible || room || left == Some(Duration::ZERO) {
                self.slot_wanted = false;
                return Ok(());
            }
            if self.sleep(left)? == Slept::Interrupted {
                return Ok(());
            }
        }
    }

    /// Takes in what has arrived and does what is due, each a bounded number of
    /// times; true if an event was delivered.
    fn turn(&mut self, sink: Sink<'_>) -> io::Result<bool> {
        let now = self.now();
        let Ring { frames, stack, outbox, kept, .. } = self;
        let mut turn = Turn { now, out: outbox, sink, visible: false };
        stack.turn_streams(&mut turn);
        let received = frames.receive(FRAMES_A_TURN, &mut |frame, checksum| {
            if let Some(kept) = kept {
                kept.keep(now, frame, false);
            }
            stack.input(frame, checksum, &mut turn);
        });
        unless_down(received.map(drop))?;
        stack.expire(&mut turn);
        let visible = turn.visible;
        self.transmit(now)?;
        Ok(visible)
    }

    /// Hands waiting frames to the interface, as far as it takes them.
    fn transmit(&mut self, now: Micros) -> io::Result<()> {
        let Ring { frames, outbox, kept, .. } = self;
        outbox.drain(|frame| {
            let taken = frames.transmit(frame.len(), |room| room.copy_from_slice(frame));
            if let Some(kept) = kept.as_mut().filter(|_| taken) {
                kept.keep(now, frame, true);
            }
            taken
        });
        unless_down(frames.flush())
    }

    pub(crate) fn submit(&mut self) {
        let now = self.now();
        // What is wrong now is wrong in the next turn, too, which tells.
        let _ = self.transmit(now);
    }

    fn woken(&mut self, sink: Sink<'_>) -> bool {
        if !self.waker.is_pending() {
            return false;
        }
        // Written to right after it became pending; this waits for it.
        let _ = rustix::io::read(self.waker.event(), &mut [0; size_of::<u64>()]);
        self.waker.consumed();
        self.stats.wakes += 1;
        sink(Event::Woken);
        true
    }

    /// Sleeps until a frame is there, somebody wakes us, or something is due.
    fn sleep(&mut self, left: Option<Duration>) -> io::Result<Slept> {
        let mut limit = left.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        if let Some(due) = self.stack.next_due() {
            limit = limit.min(Duration::from_micros(due.since(self.now()).0));
        }
        if self.stack.streams.has_ready() {
            limit = Duration::ZERO;
        }
        if !self.outbox.is_empty() {
            limit = limit.min(ROOM_WAIT);
        }
        self.stats.enters += 1;
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(8);
        polled.push(PollFd::from_borrowed_fd(self.waker.event(), PollFlags::IN));
        polled.extend(self.frames.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match poll(&mut polled, Some(&limit)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Slept::Interrupted),
            Err(errno) => return Err(errno.into()),
        }
        if polled.iter().any(|polled| polled.revents().contains(PollFlags::ERR)) {
            // Left there it would end every sleep at once.
            unless_down(self.frames.take_error())?;
        }
        Ok(Slept::Through)
    }

    pub(crate) fn open_datagram(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<DatagramId> {
        let Ring { stack, random, .. } = self;
        stack.open_datagram(local, peer, &mut || random.random())
    }

    pub(crate) fn close_datagram(&mut self, id: DatagramId) {
        self.stack.datagrams.close(id);
    }

    pub(crate) fn datagram_local(&self, id: DatagramId) -> Option<SocketAddr> {
        self.stack.datagrams.local(id)
    }

    pub(crate) fn datagram_slots_free(&self) -> usize {
        if self.outbox.room() { self.stack.datagrams.slots_free() } else { 0 }
    }

    pub(crate) fn want_datagram_slot(&mut self) {
        self.slot_wanted = true;
    }

    pub(crate) fn send_datagram(&mut self, id: DatagramId, bytes: &[u8]) -> Result<(), SendError> {
        let now = self.now();
        let sent = self.stack.send_datagram(id, bytes, now, &mut self.outbox);
        self.slot_wanted |= sent == Err(SendError::NoSlot);
        self.stats.datagrams_sent += u64::from(sent.is_ok());
        sent
    }

    pub(crate) fn connect(&mut self, local: Option<IpAddr>, peer: SocketAddr) -> io::Result<StreamId> {
        let Ring { stack, random, .. } = self;
        let id = stack.connect(local, peer, &mut || random.random())?;
        self.stats.streams_opened += 1;
        Ok(id)
    }

    pub(crate) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        self.stack.send(id, bytes);
    }

    pub(crate) fn receive(&mut self, id: StreamId) {
        self.stack.receive(id);
    }

    pub(crate) fn close(&mut self, id: StreamId, how: Close) {
        let now = self.now();
        self.stack.close(id, how, now);
    }

    pub(crate) fn streams_open(&self) -> usize {
        self.stack.streams.len()
    }

    pub(crate) fn keeps_frames(&self) -> bool {
        self.kept.is_some()
    }

    pub(crate) fn datagram_flow(&self, id: DatagramId, bytes: &[u8]) -> Option<Flow> {
        let (port, peer) = self.stack.datagrams.ends(id)?;
        let tag = bytes.first_chunk().map_or(0, |tag| u16::from_be_bytes(*tag));
        Some(Flow { protocol: FlowProtocol::Udp, port, peer, tag })
    }

    pub(crate) fn stream_flow(&self, id: StreamId) -> Option<Flow> {
        let (port, peer) = self.stack.streams.ends(id)?;
        Some(Flow { protocol: FlowProtocol::Tcp, port, peer, tag: 0 })
    }

    pub(crate) fn kept(&self, spans: &[FlowSpan], octets_max: usize) -> Vec<KeptFrame<'_>> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let by_our_clock = |at: Instant| Micros(at.saturating_duration_since(self.origin).as_micros() as u64);
        let span = |&FlowSpan { flow, from, until }: &FlowSpan| Span {
            flow,
            from: by_our_clock(from),
            until: by_our_clock(until),
        };
        let spans: Vec<Span> = spans.iter().map(span).collect();
        kept.of(&spans, self.now(), octets_max)
    }
}

/// An interface that is down is like a wire that is cut: what waits for an
/// answer has its time, and the interface may come up again.
fn unless_down(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::NETDOWN.raw_os_error()) => Ok(()),
        other => other,
    }
}

#[derive(PartialEq, Eq)]
enum Slept {
    Through,
    Interrupted,
}
