//! Outgoing TCP streams: connect, send in order, receive on request, abort.
//!
//! Leaves out deadlines, TLS and what the bytes mean.
//!
//! Invariants: at most one connect, one send and one receive of a stream are
//! with the kernel; the bytes of a send stay in the stream until its last
//! completion; a closing stream is removed, and its descriptor closed, when
//! `pending` is zero.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;

use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::Fd;
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::{SockAddr, Socket};

use super::Ring;
use super::buffers::GROUP;
use super::core::Completion;
use super::datagram::cancel_all;
use super::token::Token;
use crate::stream::{Close, Sending, StreamId, StreamPhase, failed, open_socket};
use crate::{Event, Sink};

/// One send operation takes at most this much.
const SEND_BYTES: usize = 1 << 30;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receive {
    Idle,
    /// Asked for before the connection stood.
    Wanted,
    Armed,
}

pub(crate) struct Stream {
    socket: Socket,
    phase: Phase,
    closing: bool,
    /// Operations whose final completion is outstanding, cancels included.
    pending: u32,
    /// The peer, while the connect is with the kernel.
    address: Option<Box<SockAddr>>,
    sending: Option<Sending>,
    queue: VecDeque<Vec<u8>>,
    receive: Receive,
}

impl Ring {
    pub(crate) fn connect(&mut self, local: Option<IpAddr>, peer: SocketAddr) -> io::Result<StreamId> {
        let socket = open_socket(local, peer)?;
        self.core.stats.streams_opened += 1;
        let key = self.streams.insert(Stream {
            socket,
            phase: Phase::Connecting,
            closing: false,
            pending: 0,
            address: None,
            sending: None,
            queue: VecDeque::new(),
            receive: Receive::Idle,
        });
        self.push_connect(key.index, peer);
        Ok(StreamId(key))
    }

    pub(crate) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        match self.streams.get(id.0) {
            Some(stream) if !stream.closing && stream.phase != Phase::Failed => {
                // Nearly always it goes at once, and needs no queue. What waits in one is sent by what it waits for.
                if stream.phase == Phase::Open && stream.sending.is_none() && stream.queue.is_empty() {
                    stream.sending = Some(Sending { bytes, done: 0 });
                    self.push_stream_send(id.0.index);
                } else {
                    stream.queue.push_back(bytes);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn receive(&mut self, id: StreamId) {
        match self.streams.get(id.0) {
            Some(stream) if !stream.closing && stream.receive == Receive::Idle => {
                stream.receive = Receive::Wanted;
                self.arm_stream(id.0.index);
            }
            _ => {}
        }
    }

    pub(crate) fn close(&mut self, id: StreamId, how: Close) {
        let Some(stream) = self.streams.get(id.0) else {
            return;
        };
        if stream.closing {
            return;
        }
        stream.closing = true;
        stream.queue.clear();
        how.prepare(&stream.socket);
        self.cancel_stream(id.0.index);
    }

    pub(crate) fn streams_open(&self) -> usize {
        self.streams.len()
    }

    fn push_connect(&mut self, index: u32, peer: SocketAddr) {
        let Some((_, stream)) = self.streams.at(index) else {
            return;
        };
        let address = stream.address.insert(Box::new(peer.into()));
        let entry = opcode::Connect::new(Fd(stream.socket.as_raw_fd()), address.as_ptr().cast(), address.len()).build();
        stream.pending += 1;
        // SAFETY: the address is boxed, so it does not move with the stream,
        // and is dropped in `stream_connected` only; the socket stays in its
        // slot while `pending` is not zero.
        unsafe { self.core.push(entry, Token::Connect(index)) };
    }

    /// Starts the next queued send if none is with the kernel.
    fn send_next(&mut self, index: u32) {
        if let Some((_, stream)) = self.streams.at(index)
            && stream.phase == Phase::Open
            && stream.sending.is_none()
            && let Some(bytes) = stream.queue.pop_front()
        {
            stream.sending = Some(Sending { bytes, done: 0 });
            self.push_stream_send(index);
        }
    }

    fn push_stream_send(&mut self, index: u32) {
        let Some((_, stream)) = self.streams.at(index) else {
            return;
        };
        let Some(sending) = &stream.sending else {
            return;
        };
        let rest = sending.rest();
        let entry = opcode::Send::new(Fd(stream.socket.as_raw_fd()), rest.as_ptr(), rest.len().min(SEND_BYTES) as u32)
            .flags(SendFlags::NOSIGNAL.bits() as i32)
            .build();
        stream.pending += 1;
        // SAFETY: the vector stays in `sending`, untouched, until
        // `stream_sent`; its heap block does not move with the stream. The
        // socket stays in its slot while `pending` is not zero.
        unsafe { self.core.push(entry, Token::StreamSend(index)) };
    }

    /// Arms the wanted receive if the connection stands.
    fn arm_stream(&mut self, index: u32) {
        let size = self.buffers.size();
        if let Some((_, stream)) = self.streams.at(index)
            && stream.phase == Phase::Open
            && stream.receive == Receive::Wanted
        {
            let fd = Fd(stream.socket.as_raw_fd());
            let entry =
                opcode::Recv::new(fd, std::ptr::null_mut(), size).buf_group(GROUP).build().flags(Flags::BUFFER_SELECT);
            stream.receive = Receive::Armed;
            stream.pending += 1;
            // SAFETY: the memory is the buffer group's, which outlives the
            // ring; the socket stays in its slot while `pending` is not zero.
            unsafe { self.core.push(entry, Token::StreamReceive(index)) };
        }
    }

    /// Cancels what is pending on a closing stream, or removes it.
    fn cancel_stream(&mut self, index: u32) {
        let Some((_, stream)) = self.streams.at(index) else {
            return;
        };
        if stream.pending == 0 {
            self.streams.remove(index);
            return;
        }
        stream.pending += 1;
        let entry = cancel_all(stream.socket.as_raw_fd());
        // SAFETY: no memory is involved; the descriptor stays open while
        // `pending` is not zero.
        unsafe { self.core.push(entry, Token::StreamCancel(index)) };
    }

    fn finish_stream(&mut self, index: u32) {
        if let Some((_, stream)) = self.streams.at(index)
            && stream.closing
            && stream.pending == 0
        {
            self.streams.remove(index);
        }
    }

    pub(crate) fn stream_cancelled(&mut self, index: u32, completion: Completion) {
        let Some((_, stream)) = self.streams.at(index) else {
            return;
        };
        stream.pending -= 1;
        let missed = !matches!(completion.result(), Ok(1..));
        if missed && stream.pending > 0 {
            // What the cancel missed is woken by the shutdown and finds the
            // next cancel.
            let _ = stream.socket.shutdown(Shutdown::Both);
            self.cancel_stream(index);
        } else {
            self.finish_stream(index);
        }
    }

    /// Takes a completion off the books; `None` if nobody wants its event.
    fn settle_stream(&mut self, index: u32) -> Option<(StreamId, &mut Stream)> {
        let (_, stream) = self.streams.at(index)?;
        stream.pending -= 1;
        if stream.closing {
            self.finish_stream(index);
            return None;
        }
        let (key, stream) = self.streams.at(index)?;
        Some((StreamId(key), stream))
    }

    pub(crate) fn stream_connected(&mut self, index: u32, completion: Completion, sink: Sink<'_>) -> bool {
        let Some((id, stream)) = self.settle_stream(index) else {
            return false;
        };
        stream.address = None;
        match completion.result() {
            Ok(_) => {
                stream.phase = Phase::Open;
                self.send_next(index);
                self.arm_stream(index);
                sink(Event::Connected { id });
            }
            Err(errno) => {
                stream.phase = Phase::Failed;
                stream.queue.clear();
                sink(failed(id, StreamPhase::Connect, errno));
            }
        }
        true
    }

    pub(crate) fn stream_sent(&mut self, index: u32, completion: Completion, sink: Sink<'_>) -> bool {
        let Some((id, stream)) = self.settle_stream(index) else {
            return false;
        };
        let Some(sending) = &mut stream.sending else {
            return false;
        };
        let errno = match completion.result() {
            Ok(0) if sending.done < sending.bytes.len() => Errno::PIPE,
            Ok(len) => {
                sending.done += len;
                if sending.done < sending.bytes.len() {
                    self.push_stream_send(index);
                    return false;
                }
                stream.sending = None;
                self.send_next(index);
                sink(Event::Sent { id });
                return true;
            }
            Err(Errno::INTR | Errno::AGAIN) => {
                self.push_stream_send(index);
                return false;
            }
            Err(errno) => errno,
        };
        stream.sending = None;
        stream.queue.clear();
        sink(failed(id, StreamPhase::Send, errno));
        true
    }

    pub(crate) fn stream_received(&mut self, index: u32, completion: Completion, sink: Sink<'_>) -> bool {
        let buffer = completion.buffer();
        let visible = self.deliver_received(index, completion, sink);
        if let Some(buffer) = buffer {
            self.buffers.recycle(buffer);
        }
        visible
    }

    fn deliver_received(&mut self, index: u32, completion: Completion, sink: Sink<'_>) -> bool {
        let Some((id, stream)) = self.settle_stream(index) else {
            return false;
        };
        stream.receive = Receive::Idle;
        match completion.result() {
            Ok(len) => {
                let buffer = completion.buffer();
                let bytes = buffer.map_or(&[][..], |buffer| self.buffers.bytes(buffer, len));
                sink(Event::Received { id, bytes });
                true
            }
            Err(errno @ (Errno::NOBUFS | Errno::INTR | Errno::AGAIN)) => {
                // The buffers are given back at the end of this harvest, before
                // the new receive reaches the kernel.
                stream.receive = Receive::Wanted;
                self.core.stats.out_of_buffers += u64::from(errno == Errno::NOBUFS);
                self.arm_stream(index);
                false
            }
            Err(errno) => {
                sink(failed(id, StreamPhase::Receive, errno));
                true
            }
        }
    }
}
