//! What both drivers know of outgoing TCP streams: ids, phases, opening.
//!
//! Leaves out connecting, sending and receiving, which each driver does its
//! own way.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::Event;
use crate::slots::Key;

/// Names an open stream of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub(crate) Key);

impl StreamId {
    /// A small number, unique among the streams open now; for tables.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// What the kernel has accepted is delivered, then FIN. (The kernel sends
    /// RST instead if received bytes were left unread.)
    Graceful,
    /// RST at once; the local port is free at once.
    Reset,
}

impl Close {
    /// Makes the coming close of the descriptor one of this kind.
    pub(crate) fn prepare(self, socket: &Socket) {
        if self == Close::Reset {
            // Fails only on a bad descriptor.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamPhase {
    /// Connecting.
    Connect,
    /// Sending; everything queued is dropped.
    Send,
    /// Receiving.
    Receive,
}

/// A buffer given to [`crate::Ring::send`] of which the kernel has taken the
/// first `done` bytes.
pub(crate) struct Sending {
    pub(crate) bytes: Vec<u8>,
    pub(crate) done: usize,
}

impl Sending {
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.done..).unwrap_or(&[])
    }
}

pub(crate) fn failed<'a>(id: StreamId, phase: StreamPhase, errno: Errno) -> Event<'a> {
    Event::Failed { id, phase, error: errno.into() }
}

/// A TCP socket for connections to `peer`, bound to `local` if that is given.
/// Blocking: io_uring refuses to wait on descriptors that are set to be
/// non-blocking, and never blocks the thread itself.
pub(crate) fn open_socket(local: Option<IpAddr>, peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(local) = local {
        bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    Ok(socket)
}

/// Lets `bind` choose the address only; `connect` chooses the port, so that
/// ports are unique per peer and not per host. No crate in use wraps this.
fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    const SOL_IP: c_int = 0;
    const IP_BIND_ADDRESS_NO_PORT: c_int = 24;
    // SAFETY: this is the C library's declaration; std links it.
    unsafe extern "C" {
        fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const c_void, len: u32) -> c_int;
    }
    let on: c_int = 1;
    // SAFETY: the pointer is to a live int of the given length, which the call
    // only reads; the descriptor is open.
    let result = unsafe {
        setsockopt(
            socket.as_raw_fd(),
            SOL_IP,
            IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<c_int>() as u32,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
