//! Outgoing TCP streams: connect, send in order, receive on request, abort.
//!
//! Leaves out deadlines, TLS and what the bytes mean.
//!
//! A stream is watched once, for everything and edge-triggered: the kernel
//! says when it becomes readable or writable, and a call that would have
//! blocked says that it no longer is.
//!
//! Invariants: `readable` and `writable` are false only if the kernel will
//! report the change; a receive takes at most one buffer, and a turn makes at
//! most one call to the kernel for a stream.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::Socket;

use super::{Due, Ring, STREAM, data};
use crate::slots::Key;
use crate::stream::{Close, Sending, StreamId, StreamPhase, failed, open_socket};
use crate::{Event, Sink};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    /// The connect failed at once, which is still to be told.
    Refused(Errno),
    Open,
    Failed,
}

pub(super) struct Stream {
    socket: Socket,
    phase: Phase,
    readable: bool,
    writable: bool,
    /// A receive was asked for and not answered yet.
    receiving: bool,
    queue: VecDeque<Sending>,
}

/// What came of a step.
enum Outcome {
    Nothing,
    Connected,
    Sent,
    /// So many bytes are in the buffer.
    Received(usize),
    Failed(StreamPhase, Errno),
}

impl Ring {
    pub(crate) fn connect(&mut self, local: Option<IpAddr>, peer: SocketAddr) -> io::Result<StreamId> {
        let socket = open_socket(local, peer)?;
        socket.set_nonblocking(true)?;
        let phase = match rustix::net::connect(&socket, &peer) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Phase::Connecting,
            Err(errno) => Phase::Refused(errno),
        };
        // Not before the connect: a socket that does not even try is reported
        // as hung up.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, data(STREAM, self.streams.vacant()), flags)?;
        self.stats.streams_opened += 1;
        let key = self.streams.insert(Stream {
            socket,
            phase,
            readable: false,
            writable: false,
            receiving: false,
            queue: VecDeque::new(),
        });
        self.consider(key);
        Ok(StreamId(key))
    }

    pub(crate) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        let Some(stream) = self.streams.get(id.0) else { return };
        if stream.phase != Phase::Failed {
            stream.queue.push_back(Sending { bytes, done: 0 });
            self.consider(id.0);
        }
    }

    pub(crate) fn receive(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(id.0) else { return };
        if !stream.receiving {
            stream.receiving = true;
            self.consider(id.0);
        }
    }

    pub(crate) fn close(&mut self, id: StreamId, how: Close) {
        let Some(stream) = self.streams.get(id.0) else { return };
        how.prepare(&stream.socket);
        // Fails only for a descriptor that is not watched.
        let _ = epoll::delete(&self.epoll, &stream.socket);
        self.streams.remove(id.0.index);
    }

    pub(crate) fn streams_open(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn stream_ready(&mut self, index: u32, flags: EventFlags) {
        let Some((key, stream)) = self.streams.at(index) else { return };
        let broken = EventFlags::ERR | EventFlags::HUP;
        stream.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | broken);
        stream.writable |= flags.intersects(EventFlags::OUT | broken);
        self.consider(key);
    }

    /// Makes a stream due if it has something to do.
    fn consider(&mut self, key: Key) {
        if self.streams.get(key).is_some_and(|stream| stream.has_work()) {
            self.due.push_back(Due::Stream(key));
        }
    }

    /// Does one thing for a stream.
    pub(super) fn advance_stream(&mut self, key: Key, sink: Sink<'_>) -> bool {
        let Some(stream) = self.streams.get(key) else { return false };
        let outcome = stream.step(&mut self.buffer);
        self.consider(key);
        let id = StreamId(key);
        match outcome {
            Outcome::Nothing => return false,
            Outcome::Connected => sink(Event::Connected { id }),
            Outcome::Sent => sink(Event::Sent { id }),
            Outcome::Received(len) => {
                let bytes = self.buffer.get(..len).unwrap_or_default();
                sink(Event::Received { id, bytes });
            }
            Outcome::Failed(phase, errno) => sink(failed(id, phase, errno)),
        }
        true
    }
}

impl Stream {
    fn may_receive(&self) -> bool {
        self.receiving && self.readable
    }

    fn may_send(&self) -> bool {
        self.writable && !self.queue.is_empty()
    }

    fn has_work(&self) -> bool {
        match self.phase {
            Phase::Connecting => self.writable,
            Phase::Refused(_) => true,
            Phase::Open => self.may_receive() || self.may_send(),
            Phase::Failed => false,
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> Outcome {
        match self.phase {
            Phase::Connecting if self.writable => self.finish_connect(),
            Phase::Refused(errno) => self.fail_connect(errno),
            // A receive is one buffer at a time, so sending gets its turn too.
            Phase::Open if self.may_receive() => self.receive(buffer),
            Phase::Open if self.may_send() => self.send(),
            _ => Outcome::Nothing,
        }
    }

    fn finish_connect(&mut self) -> Outcome {
        match rustix::net::sockopt::socket_error(&self.socket) {
            Ok(Ok(())) => {
                self.phase = Phase::Open;
                Outcome::Connected
            }
            Ok(Err(errno)) | Err(errno) => self.fail_connect(errno),
        }
    }

    fn fail_connect(&mut self, errno: Errno) -> Outcome {
        self.phase = Phase::Failed;
        self.queue.clear();
        Outcome::Failed(StreamPhase::Connect, errno)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Outcome {
        let result = rustix::net::recv(&self.socket, buffer, RecvFlags::empty());
        self.readable = result != Err(Errno::AGAIN);
        self.receiving = matches!(result, Err(Errno::AGAIN | Errno::INTR));
        match result {
            Ok((len, _)) => Outcome::Received(len),
            Err(_) if self.receiving => Outcome::Nothing,
            Err(errno) => Outcome::Failed(StreamPhase::Receive, errno),
        }
    }

    /// Sends from the first buffer; one that is sent entirely leaves the queue.
    fn send(&mut self) -> Outcome {
        let Some(sending) = self.queue.front_mut() else { return Outcome::Nothing };
        let errno = match rustix::net::send(&self.socket, sending.rest(), SendFlags::NOSIGNAL) {
            Ok(0) if !sending.rest().is_empty() => Errno::PIPE,
            Ok(len) => {
                sending.done += len;
                if !sending.rest().is_empty() {
                    return Outcome::Nothing;
                }
                self.queue.pop_front();
                return Outcome::Sent;
            }
            Err(Errno::INTR) => return Outcome::Nothing,
            Err(Errno::AGAIN) => {
                self.writable = false;
                return Outcome::Nothing;
            }
            Err(errno) => errno,
        };
        self.queue.clear();
        Outcome::Failed(StreamPhase::Send, errno)
    }
}
