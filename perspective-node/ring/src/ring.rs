//! The ring as its user sees it: settings, and one set of calls for whichever
//! driver was chosen.
//!
//! Leaves out everything the drivers do; see `uring` and `epoll`.
//!
//! Invariant: the driver is the one that was asked for. If it cannot be had,
//! there is no ring.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::{
    Close, DatagramId, Driver, Event, Flow, FlowSpan, FramesStats, KeptFrame, RawConfig, RawStats, RingError,
    SendError, StreamId, Waker, epoll, raw, uring,
};

/// A single sleep; the kernel's clock arithmetic overflows on absurd values.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_secs(86_400);

/// The driver and the sizes of a ring. All are checked whatever the driver, so
/// that settings good for one are good for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// What the ring is built on.
    pub driver: Driver,
    /// Submission entries; the completion queue is four times as long. Clamped
    /// to what the kernel allows. Of no effect with epoll.
    pub entries: u32,
    /// Receive buffers shared by all sockets; a power of two, at most 32 768.
    /// epoll needs only one.
    pub receive_buffers: u16,
    /// Size of each in bytes; also the longest datagram received whole.
    pub receive_buffer_bytes: u32,
    /// Datagrams that can be under way at a time, a kibibyte each.
    pub datagram_send_slots: u32,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig {
            driver: Driver::IoUring,
            entries: 4096,
            receive_buffers: 1024,
            receive_buffer_bytes: 4096,
            datagram_send_slots: 4096,
        }
    }
}

/// Counters since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// System calls that submitted or waited.
    pub enters: u64,
    /// Completions handled, or with epoll reports of readiness.
    pub completions: u64,
    /// Datagrams the kernel accepted.
    pub datagrams_sent: u64,
    /// Datagrams delivered.
    pub datagrams_received: u64,
    /// Receives that ended because no buffer was free; never with epoll.
    pub out_of_buffers: u64,
    /// Harvests that found the completion queue overflowed; never with epoll.
    pub overflows: u64,
    /// Streams opened.
    pub streams_opened: u64,
    /// `Woken` events.
    pub wakes: u64,
}

/// One loop and everything it drives. Stays on the thread that made it.
pub struct Ring {
    inner: Inner,
}

#[expect(clippy::large_enum_variant, reason = "one ring a thread; what the smaller leaves unused is nothing")]
enum Inner {
    Uring(uring::Ring),
    Epoll(epoll::Ring),
    Raw(raw::Ring),
}

/// The same call on whichever driver there is.
macro_rules! forward {
    ($inner:expr, $ring:ident => $call:expr) => {
        match $inner {
            Inner::Uring($ring) => $call,
            Inner::Epoll($ring) => $call,
            Inner::Raw($ring) => $call,
        }
    };
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        forward!(&self.inner, ring => ring.fmt(f))
    }
}

impl Ring {
    /// Makes a ring for the calling thread, with the driver of the settings
    /// and no other: where io_uring is blocked, asking for it is an error.
    pub fn new(config: RingConfig) -> Result<Ring, RingError> {
        check_config(&config)?;
        let inner = match config.driver {
            Driver::IoUring => Inner::Uring(uring::Ring::new(config)?),
            Driver::Epoll => Inner::Epoll(epoll::Ring::new(config)?),
        };
        Ok(Ring { inner })
    }

    /// Makes a ring for the calling thread over an interface of its own, past
    /// the kernel's sockets. [`RingConfig::driver`] is of no effect; of the
    /// sizes, only the send slots and the longest datagram are.
    pub fn raw(config: RingConfig, raw: &RawConfig) -> Result<Ring, RingError> {
        check_config(&config)?;
        Ok(Ring { inner: Inner::Raw(raw::Ring::new(config, raw)?) })
    }

    /// What the ring is built on, such as "io-uring" or "raw (xdp, native,
    /// copy)"; for logs.
    pub fn describe(&self) -> String {
        match &self.inner {
            Inner::Uring(_) => Driver::IoUring.to_string(),
            Inner::Epoll(_) => Driver::Epoll.to_string(),
            Inner::Raw(ring) => ring.describe(),
        }
    }

    /// What a raw ring has dropped and its frame layer counted; `None` for
    /// others.
    pub fn raw_stats(&self) -> Option<(RawStats, FramesStats)> {
        match &self.inner {
            Inner::Raw(ring) => Some(ring.raw_stats()),
            Inner::Uring(_) | Inner::Epoll(_) => None,
        }
    }

    /// Whether frames are kept, as only a raw ring does if it is told to
    /// ([`RawConfig::kept_octets`]).
    pub fn keeps_frames(&self) -> bool {
        matches!(&self.inner, Inner::Raw(ring) if ring.keeps_frames())
    }

    /// The flow of a datagram with these octets, for [`Ring::kept`]; `None` for
    /// a stale id, and of others than a raw ring.
    pub fn datagram_flow(&self, id: DatagramId, bytes: &[u8]) -> Option<Flow> {
        match &self.inner {
            Inner::Raw(ring) => ring.datagram_flow(id, bytes),
            Inner::Uring(_) | Inner::Epoll(_) => None,
        }
    }

    /// The flow of a stream, for [`Ring::kept`]; `None` for a stale id, and of
    /// others than a raw ring.
    pub fn stream_flow(&self, id: StreamId) -> Option<Flow> {
        match &self.inner {
            Inner::Raw(ring) => ring.stream_flow(id),
            Inner::Uring(_) | Inner::Epoll(_) => None,
        }
    }

    /// What is still kept of these flows, each in its time, in the order it
    /// came and left; the first frames, if all are more than so many octets.
    ///
    /// Of a frame its first octets are kept, of a flow its first frames, and
    /// the newest frames of all flows push out the oldest.
    pub fn kept(&self, spans: &[FlowSpan], octets_max: usize) -> Vec<KeptFrame<'_>> {
        match &self.inner {
            Inner::Raw(ring) => ring.kept(spans, octets_max),
            Inner::Uring(_) | Inner::Epoll(_) => Vec::new(),
        }
    }

    /// A handle that makes [`Ring::wait`] return, for other threads.
    pub fn waker(&self) -> Waker {
        forward!(&self.inner, ring => ring.waker())
    }

    /// Counters since the ring was made.
    pub fn stats(&self) -> RingStats {
        forward!(&self.inner, ring => ring.stats())
    }

    /// Starts everything queued, waits until an event is there, a send slot
    /// that was refused is free, a signal arrives or `timeout` has passed
    /// (`None`: never), and hands all events to the sink. io_uring keeps the
    /// timeout to the microsecond, epoll rounds it up to the millisecond.
    ///
    /// What concerns nobody (a datagram left) does not end the wait.
    ///
    /// An error means that the loop itself failed, not a socket.
    pub fn wait(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        forward!(&mut self.inner, ring => ring.wait(timeout, sink))
    }

    /// Opens a UDP socket bound to `local` (port 0: one the kernel picks at
    /// random), connected to `peer`, and starts to receive on it. An error is
    /// the kernel's, and no socket exists then.
    pub fn open_datagram(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<DatagramId> {
        forward!(&mut self.inner, ring => ring.open_datagram(local, peer))
    }

    /// Closes the socket; no event for `id` follows.
    pub fn close_datagram(&mut self, id: DatagramId) {
        forward!(&mut self.inner, ring => ring.close_datagram(id));
    }

    /// The address the socket is bound to; `0.0.0.0:0` for a stale id.
    pub fn datagram_local(&self, id: DatagramId) -> SocketAddr {
        let local = forward!(&self.inner, ring => ring.datagram_local(id));
        local.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into())
    }

    /// Free send slots, of [`RingConfig::datagram_send_slots`].
    pub fn datagram_slots_free(&self) -> usize {
        forward!(&self.inner, ring => ring.datagram_slots_free())
    }

    /// Has the coming [`Ring::wait`] end when a send slot is free, as if a send
    /// had been refused for want of one.
    pub fn want_datagram_slot(&mut self) {
        forward!(&mut self.inner, ring => ring.want_datagram_slot());
    }

    /// Hands what is queued to the kernel and does not wait. What it does not
    /// take now leaves with the next [`Ring::wait`], as everything does with
    /// epoll.
    pub fn submit(&mut self) {
        match &mut self.inner {
            Inner::Uring(ring) => ring.submit(),
            // It sends within a wait, where there is somebody to tell of errors.
            Inner::Epoll(_) => {}
            Inner::Raw(ring) => ring.submit(),
        }
    }

    /// Queues one datagram; it leaves with the next [`Ring::wait`] or
    /// [`Ring::submit`].
    pub fn send_datagram(&mut self, id: DatagramId, bytes: &[u8]) -> Result<(), SendError> {
        forward!(&mut self.inner, ring => ring.send_datagram(id, bytes))
    }

    /// Starts to connect. [`Event::Connected`] or [`Event::Failed`] follows;
    /// an error here (no descriptor, address not local) means no stream exists.
    pub fn connect(&mut self, local: Option<IpAddr>, peer: SocketAddr) -> io::Result<StreamId> {
        forward!(&mut self.inner, ring => ring.connect(local, peer))
    }

    /// Queues bytes; [`Event::Sent`] follows once per call, in order. Before
    /// `Connected` they wait; on a failed or stale stream they are dropped.
    pub fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        forward!(&mut self.inner, ring => ring.send(id, bytes));
    }

    /// Asks for one [`Event::Received`]. Has no effect while one is awaited.
    pub fn receive(&mut self, id: StreamId) {
        forward!(&mut self.inner, ring => ring.receive(id));
    }

    /// Ends the stream; no event for `id` follows. Pending operations are
    /// cancelled, bytes not yet sent are dropped.
    pub fn close(&mut self, id: StreamId, how: Close) {
        forward!(&mut self.inner, ring => ring.close(id, how));
    }

    /// Descriptors held by streams, those still being closed included.
    pub fn streams_open(&self) -> usize {
        forward!(&self.inner, ring => ring.streams_open())
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
