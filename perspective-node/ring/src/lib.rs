//! The loop of a perspective node: connected datagram sockets, outgoing TCP
//! streams and a waker, all driven by one [`Ring`] per worker thread.
//!
//! **Does**: opens sockets, starts operations, waits, and hands what came of
//! them to a sink as [`Event`]s. Nothing here knows DNS, HTTP or any other
//! protocol.
//!
//! **Two drivers** do the same over the kernel's sockets: io_uring, and epoll
//! for hosts that block io_uring. [`RingConfig::driver`] chooses. A third ring,
//! [`Ring::raw`], has addresses of its own on an interface and no sockets.
//! Nothing falls back silently: a kernel that cannot run the ring asked for is
//! reported by [`RingError`] in words an operator can act on.
//!
//! **Leaves out**: timers (the caller passes the nearest deadline to
//! [`Ring::wait`]), retries, listening sockets, TLS, the choice of the driver.
//!
//! This is the only crate of the project with `unsafe` code, and the epoll
//! driver has none. Its public API is safe. What all rings keep:
//!
//! - Invariant: events are delivered only inside [`Ring::wait`], and the sink
//!   cannot reach the ring. A caller notes what it wants to do and applies it
//!   when `wait` has returned.
//! - Invariant: ids carry a generation from a counter that does not repeat, so
//!   a stale id is ignored, and no event follows a close.
//! - Invariant: an abort leaks no descriptor, whatever the socket was doing.
//! - Invariant: a sink that panics leaves a ring that works.

mod datagram;
mod driver;
#[forbid(unsafe_code)]
mod epoll;
mod error;
mod raw;
mod ring;
mod slots;
mod stream;
mod uring;
mod waker;

use std::io;

pub use crate::datagram::{DatagramId, SendError};
pub use crate::driver::{Driver, UnknownDriver};
pub use crate::error::{RingError, explain_setup_error};
pub use crate::raw::{
    Flow, FlowProtocol, FlowSpan, FrameMethod, FrameSocket, FramesError, FramesStats, FramesStep, KeptFrame, RawConfig,
    RawConfigError, RawStats, UnknownFrameMethod,
};
pub use crate::ring::{Ring, RingConfig, RingStats};
pub use crate::stream::{Close, StreamId, StreamPhase};
pub use crate::waker::Waker;

/// Largest datagram [`Ring::send_datagram`] accepts, in bytes.
pub const MAX_DATAGRAM_SEND: usize = datagram::SEND_BYTES_MAX;

/// Where a driver puts events.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Event<'_>);

/// What [`Ring::wait`] hands to its sink. Borrowed bytes are valid only during
/// the call.
#[derive(Debug)]
pub enum Event<'a> {
    /// A datagram from the peer. It may be empty. One longer than
    /// [`RingConfig::receive_buffer_bytes`] arrives cut to that size.
    Datagram {
        /// The socket.
        id: DatagramId,
        /// The payload.
        bytes: &'a [u8],
    },
    /// The kernel reported an error on the socket, for example
    /// `ECONNREFUSED` after an ICMP message. The socket stays usable.
    DatagramFailed {
        /// The socket.
        id: DatagramId,
        /// What the kernel said.
        error: io::Error,
    },
    /// The TCP connection stands.
    Connected {
        /// The stream.
        id: StreamId,
    },
    /// One buffer given to [`Ring::send`] was accepted by the kernel entirely.
    Sent {
        /// The stream.
        id: StreamId,
    },
    /// The answer to one [`Ring::receive`]. Empty means the peer's FIN.
    Received {
        /// The stream.
        id: StreamId,
        /// The bytes, at most one receive buffer.
        bytes: &'a [u8],
    },
    /// An operation failed. The stream keeps its descriptor until closed.
    Failed {
        /// The stream.
        id: StreamId,
        /// Which operation failed.
        phase: StreamPhase,
        /// What the kernel said.
        error: io::Error,
    },
    /// A [`Waker`] was used since the last such event.
    Woken,
}
