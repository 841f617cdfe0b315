//! The HTTP responder: reads until a blank line, writes one answer and closes.
//!
//! It leaves out everything a request says. The answer and the FIN leave in one segment, so the TIME_WAIT is on this
//! side.

use std::convert::Infallible;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};

use clap::Args;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{DEFAULT_BODY, Place, accept, announce};
use crate::error::BareError;
use crate::poll::Poll;

/// The listener's number; connections have that of their descriptor.
const LISTENER: usize = usize::MAX;
/// Connections accepted before those that wait have their turn.
const ACCEPTS: usize = 64;
const HEAD_BYTES_MAX: usize = 4_096;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Options of the HTTP responder.
#[derive(Debug, Args)]
pub(crate) struct Http {
    #[command(flatten)]
    place: Place,
    /// The body of every answer.
    #[arg(long, default_value = DEFAULT_BODY)]
    body: String,
    /// Accepts, says nothing, and holds the connections until their clients close them.
    #[arg(long)]
    silent: bool,
}

impl Http {
    pub(crate) fn run(&self) -> Result<Infallible, BareError> {
        self.place.prepare()?;
        let listener = self.place.tcp_listener()?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, EventFlags::IN)?;
        announce(listener.local_addr())?;
        let mut server = Server { answer: answer(&self.body), silent: self.silent, poll, connections: Vec::new() };
        server.serve(&listener)
    }
}

fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

struct Server {
    answer: Vec<u8>,
    silent: bool,
    poll: Poll,
    /// By descriptor: those whose head is not complete, with what came of it.
    connections: Vec<Option<(TcpStream, Vec<u8>)>>,
}

impl Server {
    fn serve(&mut self, listener: &TcpListener) -> Result<Infallible, BareError> {
        let mut ready = Vec::new();
        loop {
            self.poll.wait(None, &mut ready)?;
            for &(number, _) in &ready {
                if number == LISTENER {
                    self.accept(listener);
                } else if let Some((stream, head)) = self.connections.get_mut(number).and_then(Option::take) {
                    self.proceed(stream, head);
                }
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener) {
        for _ in 0..ACCEPTS {
            let Some(stream) = accept(listener) else { return };
            // Most often the request is here already, and the connection needs no place in the poll.
            if let Some((stream, head)) = self.turn(stream, Vec::new()) {
                let number = stream.as_raw_fd() as usize;
                if self.poll.add(stream.as_fd(), number, EventFlags::IN).is_ok() {
                    self.keep(stream, head);
                }
            }
        }
    }

    fn proceed(&mut self, stream: TcpStream, head: Vec<u8>) {
        if let Some((stream, head)) = self.turn(stream, head) {
            self.keep(stream, head);
        }
    }

    fn keep(&mut self, stream: TcpStream, head: Vec<u8>) {
        let number = stream.as_raw_fd() as usize;
        if self.connections.len() <= number {
            self.connections.resize_with(number + 1, || None);
        }
        self.connections[number] = Some((stream, head));
    }

    /// Reads once, answers if it can; gives the connection back if there is more to wait for.
    fn turn(&self, stream: TcpStream, mut head: Vec<u8>) -> Option<(TcpStream, Vec<u8>)> {
        let mut chunk = [0; HEAD_BYTES_MAX];
        let length = match recv(&stream, &mut chunk[..], RecvFlags::empty()) {
            Ok((_, length @ 1..)) => length.min(chunk.len()),
            Err(Errno::AGAIN | Errno::INTR) => return Some((stream, head)),
            Ok(_) | Err(_) => return None,
        };
        if self.silent {
            return Some((stream, head));
        }
        // Nearly always the whole head comes at once and needs no memory.
        let at_once = head.is_empty() && chunk[..length].ends_with(END_OF_HEAD);
        if !at_once {
            head.extend_from_slice(&chunk[..length]);
        }
        if at_once || head.ends_with(END_OF_HEAD) {
            // Held back until the close that follows adds the FIN; a short answer always fits.
            let _ = send(&stream, &self.answer, SendFlags::NOSIGNAL | SendFlags::MORE);
            return None;
        }
        (head.len() <= HEAD_BYTES_MAX).then_some((stream, head))
    }
}
