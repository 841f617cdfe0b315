//! What both drivers know of datagram sockets: ids, opening, and what the end
//! of a send means.
//!
//! Leaves out waiting, receiving and the queues of the drivers.
//!
//! Invariant: what arrived before a socket was connected is thrown away.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};

use crate::slots::Key;

/// Size of the largest datagram that can be sent, in bytes.
pub(crate) const SEND_BYTES_MAX: usize = 1024;
/// A send that met a passing condition is tried this often.
pub(crate) const SEND_ATTEMPTS: u8 = 3;
/// What the socket asks for; the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_QUEUE_BYTES: usize = 4 << 20;

/// Names an open datagram socket of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatagramId(pub(crate) Key);

impl DatagramId {
    /// A small number, unique among the sockets open now; for tables.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// Why a datagram was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// All [`crate::RingConfig::datagram_send_slots`] are in use.
    /// [`crate::Ring::wait`] returns as soon as one is free, with or without
    /// an event.
    #[error("no send slot is free")]
    NoSlot,
    /// Longer than [`crate::MAX_DATAGRAM_SEND`].
    #[error("the datagram is longer than a send slot")]
    TooLong,
    /// The id names no open socket.
    #[error("the socket is closed")]
    Closed,
}

/// A UDP socket bound to `local` and connected to `peer`, and the address it
/// is bound to. Blocking: io_uring refuses to wait on descriptors that are set
/// to be non-blocking, and never blocks the thread itself; epoll asks for no
/// waiting with each call.
pub(crate) fn open_socket(local: SocketAddr, peer: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
    // A smaller queue only means earlier loss.
    let _ = socket.set_recv_buffer_size(RECEIVE_QUEUE_BYTES);
    socket.bind(&local.into())?;
    socket.connect(&peer.into())?;
    discard_strangers(&socket);
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, local))
}

/// Throws away what arrived between `bind` and `connect`: it may come from
/// anybody, and nothing was asked yet.
fn discard_strangers(socket: &Socket) {
    let mut scratch = [0u8; 1];
    for _ in 0..1024 {
        if rustix::net::recv(socket, &mut scratch, RecvFlags::DONTWAIT).is_err() {
            return;
        }
    }
}

/// What the end of a send means.
pub(crate) enum Verdict {
    Sent,
    /// A condition of the moment: nothing to tell while there is another try.
    Passing(Errno),
    /// The ICMP error of an *earlier* datagram, which the kernel reports by
    /// refusing this one: to be told, and this one to be tried again.
    Earlier(Errno),
    Lost(io::Error),
}

impl Verdict {
    /// Judges the result of sending a datagram of `len` bytes.
    pub(crate) fn of(result: Result<usize, Errno>, len: usize) -> Verdict {
        match result {
            Ok(sent) if sent == len => Verdict::Sent,
            Ok(_) => Verdict::Lost(io::ErrorKind::WriteZero.into()),
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => Verdict::Passing(errno),
            Err(errno @ (Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::PROTO)) => Verdict::Earlier(errno),
            Err(errno) => Verdict::Lost(errno.into()),
        }
    }

    pub(crate) fn may_retry(&self) -> bool {
        matches!(self, Verdict::Passing(_) | Verdict::Earlier(_))
    }

    /// What the caller is told; `retried` if there is another try.
    pub(crate) fn report(self, retried: bool) -> Option<io::Error> {
        match self {
            Verdict::Sent => None,
            Verdict::Passing(errno) => (!retried).then(|| errno.into()),
            Verdict::Earlier(errno) => Some(errno.into()),
            Verdict::Lost(error) => Some(error),
        }
    }
}
