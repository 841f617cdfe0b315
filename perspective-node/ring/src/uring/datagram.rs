//! Connected UDP sockets: one multishot receive each, sends from the arena.
//!
//! Leaves out matching replies to queries and retransmission.
//!
//! Invariants: an open socket always has its receive armed or queued; a socket
//! that is closing is removed, and its descriptor closed, when `pending` is
//! zero.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::Socket;

use super::Ring;
use super::buffers::GROUP;
use super::core::Completion;
use super::token::Token;
use crate::datagram::{DatagramId, SEND_ATTEMPTS, SEND_BYTES_MAX, SendError, Verdict, open_socket};
use crate::{Event, Sink};

pub(crate) struct Datagram {
    socket: Socket,
    local: SocketAddr,
    /// Operations whose final completion is outstanding, cancels included.
    pending: u32,
    closing: bool,
}

impl Ring {
    pub(crate) fn open_datagram(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<DatagramId> {
        let (socket, local) = open_socket(local, peer)?;
        let key = self.datagrams.insert(Datagram { socket, local, pending: 0, closing: false });
        self.arm_datagram(key.index);
        Ok(DatagramId(key))
    }

    pub(crate) fn close_datagram(&mut self, id: DatagramId) {
        let Some(datagram) = self.datagrams.get(id.0) else {
            return;
        };
        if !datagram.closing {
            datagram.closing = true;
            self.cancel_datagram(id.0.index);
        }
    }

    pub(crate) fn datagram_local(&self, id: DatagramId) -> Option<SocketAddr> {
        self.datagrams.get_ref(id.0).map(|datagram| datagram.local)
    }

    pub(crate) fn datagram_slots_free(&self) -> usize {
        self.arena.free_slots()
    }

    pub(crate) fn want_datagram_slot(&mut self) {
        self.slot_wanted = true;
    }

    pub(crate) fn send_datagram(&mut self, id: DatagramId, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > SEND_BYTES_MAX {
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
        let verdict = Verdict::of(completion.result(), outgoing.len.into());
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
