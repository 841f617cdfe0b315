//! Connected UDP sockets: one multishot receive each, sends from the arena.
//!
//! Leaves out matching replies to queries and retransmission.
//!
//! Invariants: an open socket always has its receive armed or queued; a socket
//! that is closing is removed, and its descriptor closed, when `pending` is
//! zero; what arrived before the socket was connected is thrown away.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Event;
use crate::arena::SLOT_BYTES;
use crate::buffers::GROUP;
use crate::core::Completion;
use crate::ring::{Ring, Sink};
use crate::slots::Key;
use crate::token::Token;

/// What the socket asks for; the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_QUEUE_BYTES: usize = 4 << 20;
/// A send that met a passing condition is tried this often.
const SEND_ATTEMPTS: u8 = 3;

/// Names an open datagram socket of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatagramId(Key);

impl From<Key> for DatagramId {
    fn from(key: Key) -> DatagramId {
        DatagramId(key)
    }
}

impl DatagramId {
    /// A small number, unique among the sockets open now; for tables.
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// Why a datagram was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// All [`crate::RingConfig::datagram_send_slots`] are in use. [`Ring::wait`]
    /// returns as soon as one is free, with or without an event.
    #[error("no send slot is free")]
    NoSlot,
    /// Longer than [`crate::MAX_DATAGRAM_SEND`].
    #[error("the datagram is longer than a send slot")]
    TooLong,
    /// The id names no open socket.
    #[error("the socket is closed")]
    Closed,
}

pub(crate) struct Datagram {
    socket: Socket,
    local: SocketAddr,
    /// Operations whose final completion is outstanding, cancels included.
    pending: u32,
    closing: bool,
}

impl Ring {
    /// Opens a UDP socket bound to `local` (port 0: one the kernel picks at
    /// random), connected to `peer`, and starts to receive on it.
    pub fn open_datagram(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<DatagramId> {
        // Blocking on purpose: io_uring refuses to wait on descriptors that are
        // set to be non-blocking, and never blocks the thread itself.
        let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
        // A smaller queue only means earlier loss.
        let _ = socket.set_recv_buffer_size(RECEIVE_QUEUE_BYTES);
        socket.bind(&local.into())?;
        socket.connect(&peer.into())?;
        discard_strangers(&socket);
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let key = self.datagrams.insert(Datagram { socket, local, pending: 0, closing: false });
        self.arm_datagram(key.index);
        Ok(DatagramId(key))
    }

    /// Closes the socket; no event for `id` follows.
    pub fn close_datagram(&mut self, id: DatagramId) {
        let Some(datagram) = self.datagrams.get(id.0) else {
            return;
        };
        if !datagram.closing {
            datagram.closing = true;
            self.cancel_datagram(id.0.index);
        }
    }

    /// The address the socket is bound to; `0.0.0.0:0` for a stale id.
    pub fn datagram_local(&self, id: DatagramId) -> SocketAddr {
        match self.datagrams.get_ref(id.0) {
            Some(datagram) => datagram.local,
            None => (Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// Free send slots, of [`crate::RingConfig::datagram_send_slots`].
    pub fn datagram_slots_free(&self) -> usize {
        self.arena.free_slots()
    }

    /// Queues one datagram; it leaves with the next [`Ring::wait`].
    pub fn send_datagram(&mut self, id: DatagramId, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > SLOT_BYTES {
            return Err(SendError::TooLong);
        }
        match self.datagrams.get(id.0) {
            Some(datagram) if !datagram.closing => {}
            _ => return Err(SendError::Closed),
        }
        let Some(slot) = self.arena.take(id.0.index, bytes) else {
            self.slot_wanted = true;
            return Err(SendError::NoSlot);
        };
        self.push_send(slot);
        Ok(())
    }

    fn push_send(&mut self, slot: u32) {
        let outgoing = *self.arena.outgoing(slot);
        let Some((_, datagram)) = self.datagrams.at(outgoing.socket) else {
            self.arena.release(slot);
            return;
        };
        datagram.pending += 1;
        let entry =
            opcode::Send::new(Fd(datagram.socket.as_raw_fd()), self.arena.address(slot), u32::from(outgoing.len))
                .flags(SendFlags::NOSIGNAL.bits() as i32)
                .build();
        // SAFETY: the slot is taken until `datagram_sent` releases it; the
        // socket stays in its slot while `pending` is not zero.
        unsafe { self.core.push(entry, Token::DatagramSend(slot)) };
    }

    fn arm_datagram(&mut self, index: u32) {
        if let Some((_, datagram)) = self.datagrams.at(index) {
            datagram.pending += 1;
            let entry = opcode::RecvMulti::new(Fd(datagram.socket.as_raw_fd()), GROUP).build();
            // SAFETY: the memory is the buffer group's, which outlives the
            // ring; the socket stays in its slot while `pending` is not zero.
            unsafe { self.core.push(entry, Token::DatagramReceive(index)) };
        }
    }

    /// Cancels what is pending on a closing socket, or removes it.
    fn cancel_datagram(&mut self, index: u32) {
        let Some((_, datagram)) = self.datagrams.at(index) else {
            return;
        };
        if datagram.pending == 0 {
            self.datagrams.remove(index);
            return;
        }
        datagram.pending += 1;
        let entry = cancel_all(datagram.socket.as_raw_fd());
        // SAFETY: no memory is involved; the descriptor stays open while
        // `pending` is not zero.
        unsafe { self.core.push(entry, Token::DatagramCancel(index)) };
    }

    fn finish_datagram(&mut self, index: u32) {
        if let Some((_, datagram)) = self.datagrams.at(index)
            && datagram.closing
            && datagram.pending == 0
        {
            self.datagrams.remove(index);
        }
    }

    pub(crate) fn datagram_cancelled(&mut self, index: u32, completion: Completion) {
        let Some((_, datagram)) = self.datagrams.at(index) else {
            return;
        };
        datagram.pending -= 1;
        let missed = !matches!(completion.result(), Ok(1..));
        if missed && datagram.pending > 0 {
            // What the cancel missed is woken by the shutdown and finds the
            // next cancel.
            let _ = datagram.socket.shutdown(std::net::Shutdown::Both);
            self.cancel_datagram(index);
        } else {
            self.finish_datagram(index);
        }
    }

    pub(crate) fn datagram_sent(&mut self, slot: u32, completion: Completion, sink: Sink<'_>) -> bool {
        let outgoing = self.arena.outgoing(slot);
        outgoing.attempts += 1;
        let verdict = judge_send(completion.result(), outgoing.len);
        let retry = outgoing.attempts < SEND_ATTEMPTS && verdict.may_retry();
        let error = verdict.report(retry).filter(|_| !outgoing.reported);
        outgoing.reported |= error.is_some();
        let index = outgoing.socket;
        let Some((key, datagram)) = self.datagrams.at(index) else {
            self.arena.release(slot);
            return false;
        };
        datagram.pending -= 1;
        let closing = datagram.closing;
        if retry && !closing {
            self.push_send(slot);
        } else {
            self.arena.release(slot);
            self.slot_freed |= self.slot_wanted;
        }
        if closing {
            self.finish_datagram(index);
            return false;
        }
        self.core.stats.datagrams_sent += u64::from(completion.result().is_ok());
        let Some(error) = error else {
            return false;
        };
        let id = DatagramId(key);
        sink(Event::DatagramFailed { id, error });
        true
    }

    pub(crate) fn datagram_received(&mut self, index: u32, completion: Completion, sink: Sink<'_>) -> bool {
        let Some((key, datagram)) = self.datagrams.at(index) else {
            return false;
        };
        let id = DatagramId(key);
        let closing = datagram.closing;
        if !completion.more() {
            datagram.pending -= 1;
            if closing {
                self.finish_datagram(index);
            } else {
                self.arm_datagram(index);
            }
        }
        let buffer = completion.buffer();
        let visible = match completion.result() {
            Ok(_) if closing => false,
            Ok(len) => {
                self.core.stats.datagrams_received += 1;
                let bytes = buffer.map_or(&[][..], |buffer| self.buffers.bytes(buffer, len));
                sink(Event::Datagram { id, bytes });
                true
            }
            Err(Errno::NOBUFS) => {
                self.core.stats.out_of_buffers += 1;
                false
            }
            Err(Errno::CANCELED | Errno::INTR | Errno::AGAIN) => false,
            Err(_) if closing => false,
            Err(errno) => {
                let error = errno.into();
                sink(Event::DatagramFailed { id, error });
                true
            }
        };
        if let Some(buffer) = buffer {
            self.buffers.recycle(buffer);
        }
        visible
    }
}

/// Cancels every operation on a descriptor.
pub(crate) fn cancel_all(fd: i32) -> squeue::Entry {
    opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(fd)).all()).build()
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
enum Verdict {
    Sent,
    /// A condition of the moment: nothing to tell while there is another try.
    Passing(Errno),
    /// The ICMP error of an *earlier* datagram, which the kernel reports by
    /// refusing this one: to be told, and this one to be tried again.
    Earlier(Errno),
    Lost(io::Error),
}

impl Verdict {
    fn may_retry(&self) -> bool {
        matches!(self, Verdict::Passing(_) | Verdict::Earlier(_))
    }

    /// What the caller is told; `retried` if there is another try.
    fn report(self, retried: bool) -> Option<io::Error> {
        match self {
            Verdict::Sent => None,
            Verdict::Passing(errno) => (!retried).then(|| errno.into()),
            Verdict::Earlier(errno) => Some(errno.into()),
            Verdict::Lost(error) => Some(error),
        }
    }
}

fn judge_send(result: Result<usize, Errno>, len: u16) -> Verdict {
    match result {
        Ok(sent) if sent == usize::from(len) => Verdict::Sent,
        Ok(_) => Verdict::Lost(io::ErrorKind::WriteZero.into()),
        Err(errno @ (Errno::AGAIN | Errno::INTR)) => Verdict::Passing(errno),
        Err(errno @ (Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::PROTO)) => Verdict::Earlier(errno),
        Err(errno) => Verdict::Lost(errno.into()),
    }
}
