//! The io_uring loop of a perspective node: connected datagram sockets,
//! outgoing TCP streams and a waker, all driven by one ring per worker thread.
//!
//! **Does**: opens sockets, submits operations, waits, and hands completions to
//! a sink as [`Event`]s. Nothing here knows DNS, HTTP or any other protocol.
//!
//! **Leaves out**: timers (the caller passes the nearest deadline to
//! [`Ring::wait`]), retries, listening sockets, TLS, fallback to another
//! driver. A kernel that cannot run the ring is reported by [`RingError`] in
//! words an operator can act on; nothing falls back silently.
//!
//! This is the only crate of the project with `unsafe` code. Its public API is
//! safe. The invariants behind that:
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
//! - Invariant: ids carry a generation from a counter that does not repeat, so
//!   a stale id is ignored.
//!
//! Harvest first, act later: completions are copied out of the queue before
//! the first event is delivered, and the sink cannot reach the ring. A caller
//! notes what it wants to do and applies it when [`Ring::wait`] has returned.

mod arena;
mod buffers;
mod core;
mod datagram;
mod error;
mod memory;
mod ring;
mod slots;
mod stream;
mod token;
mod waker;

use std::io;

pub use crate::datagram::{DatagramId, SendError};
pub use crate::error::{RingError, explain_setup_error};
pub use crate::ring::{Ring, RingConfig, RingStats};
pub use crate::stream::{Close, StreamId, StreamPhase};
pub use crate::waker::Waker;

/// Largest datagram [`Ring::send_datagram`] accepts, in bytes.
pub const MAX_DATAGRAM_SEND: usize = arena::SLOT_BYTES;

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
