//! One TCP connection, one GET, one small answer, close; a fixed number at a time.
//!
//! Two ways to make the calls; the request and the check are the same. Leaves out everything of HTTP but the status
//! line and the body's length and octets.

mod epoll;
mod uring;

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::{BareError, During as _};
use crate::report::Report;
use crate::respond::DEFAULT_BODY;
use crate::run::{Load, Run};

/// How long a client sleeps at most before it looks at the limit.
const TICK: Duration = Duration::from_millis(100);
/// Room for an answer; one that fills it is wrong.
const ANSWER_BYTES_MAX: usize = 1_024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 ";
const CONTENT_LENGTH: &[u8] = b"\r\nContent-Length: ";

/// How the calls are made.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// io_uring: socket, connect, send and receive linked, direct descriptors.
    Uring,
    /// Plain calls, epoll when they would block.
    Epoll,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Close {
    /// After the responder has closed, so that the TIME_WAIT is on its side.
    Fin,
    /// With a reset, once the answer is complete; no TIME_WAIT on either side.
    Rst,
}

/// Options of the HTTP clients.
#[derive(Debug, Args)]
pub(crate) struct Http {
    way: Way,
    /// The responder.
    #[arg(long)]
    peer: SocketAddr,
    /// How connections are closed.
    #[arg(long, value_enum, default_value_t = Close::Fin)]
    close: Close,
    /// The body that a right answer has.
    #[arg(long, default_value = DEFAULT_BODY)]
    body: String,
    #[command(flatten)]
    load: Load,
}

impl Http {
    pub(crate) fn run(&self) -> Result<Report, BareError> {
        let run = Run::start(&self.load)?;
        match self.way {
            Way::Uring => uring::drive(self, run),
            Way::Epoll => epoll::drive(self, run),
        }
    }

    fn name(&self, way: &str) -> String {
        let close = if self.close == Close::Fin { "fin" } else { "rst" };
        format!("http {way} {close}")
    }

    fn request(&self) -> Vec<u8> {
        let peer = self.peer;
        format!("GET /.well-known/acme-challenge/bare HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n")
            .into_bytes()
    }
}

/// Begins a connection with a new non-blocking socket; nothing if the system refuses to connect it.
pub(crate) fn connect(peer: SocketAddr, close: Close) -> Result<Option<TcpStream>, BareError> {
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    // Running out of descriptors is our failure, not the peer's.
    let socket = socket_with(family, SocketType::STREAM, flags, None).during("socket")?;
    if close == Close::Rst {
        set_socket_linger(&socket, Some(Duration::ZERO)).during("socket")?;
    }
    match rustix::net::connect(&socket, &peer) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(socket.into())),
        Err(_) => Ok(None),
    }
}

/// What the octets of an answer are so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Partial,
    Right,
    Wrong,
}

/// `ended`: no more will come.
fn examine(answer: &[u8], ended: bool, expected: &[u8]) -> Answer {
    let incomplete = if ended || answer.len() >= ANSWER_BYTES_MAX { Answer::Wrong } else { Answer::Partial };
    let Some(head_length) = find(answer, END_OF_HEAD) else { return incomplete };
    let (head, rest) = answer.split_at(head_length);
    let body = rest.strip_prefix(END_OF_HEAD).unwrap_or_default();
    let Some(length) = content_length(head) else { return Answer::Wrong };
    if body.len() < length {
        return incomplete;
    }
    let right = head.starts_with(STATUS) && body.len() == length && body == expected;
    if right { Answer::Right } else { Answer::Wrong }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let value = &head[find(head, CONTENT_LENGTH)? + CONTENT_LENGTH.len()..];
    let digits = value.split(|&octet| octet == b'\r').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn find(octets: &[u8], what: &[u8]) -> Option<usize> {
    octets.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn ok_only_the_whole_answer_is_right() {
        assert_eq!(examine(GOOD, false, b"hello"), Answer::Right);
        assert_eq!(examine(GOOD, true, b"hello"), Answer::Right);
        for length in 0..GOOD.len() {
            assert_eq!(examine(&GOOD[..length], false, b"hello"), Answer::Partial, "{length}");
            assert_eq!(examine(&GOOD[..length], true, b"hello"), Answer::Wrong, "{length}");
        }
    }

    #[test]
    fn err_other_answers_are_wrong() {
        for (what, answer) in [
            ("status", "HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nhello"),
            ("text", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhellO"),
            ("length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello"),
            ("no length", "HTTP/1.1 200 OK\r\n\r\nhello"),
            ("odd length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
        ] {
            assert_eq!(examine(answer.as_bytes(), false, b"hello"), Answer::Wrong, "{what}");
        }
        assert_eq!(examine(&[b'x'; ANSWER_BYTES_MAX], false, b"hello"), Answer::Wrong, "endless");
    }
}
