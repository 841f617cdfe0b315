//! The plain client: one edge-triggered registration per connection.

use std::net::TcpStream;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{ANSWER_BYTES_MAX, Answer, Close, Http, TICK, connect, examine};
use crate::error::BareError;
use crate::poll::Poll;
use crate::report::Report;
use crate::run::Run;

pub(super) fn drive(http: &Http, mut run: Run<'_>) -> Result<Report, BareError> {
    let mut client = Client { http, request: http.request(), poll: Poll::new()? };
    let mut connections = Vec::new();
    for number in 0..http.load.in_flight as usize {
        connections.push(client.open(number, &mut run)?);
    }
    let mut ready = Vec::new();
    while run.wants_more()? {
        client.poll.wait(Some(TICK), &mut ready)?;
        for &(number, flags) in &ready {
            let Some(connection) = &mut connections[number] else { continue };
            match client.turn(connection, flags) {
                Answer::Partial => continue,
                answer => run.finish_item(answer == Answer::Right),
            }
            connections[number] = client.open(number, &mut run)?;
        }
    }
    Ok(run.report(http.name("epoll")))
}

struct Connection {
    stream: TcpStream,
    sent: bool,
    answer: [u8; ANSWER_BYTES_MAX],
    length: usize,
}

struct Client<'a> {
    http: &'a Http,
    request: Vec<u8>,
    poll: Poll,
}

impl Client<'_> {
    /// Begins an item; one that cannot connect fails, and the next takes its place. Nothing when the run is over.
    fn open(&mut self, number: usize, run: &mut Run<'_>) -> Result<Option<Connection>, BareError> {
        while run.wants_more()? {
            let Some(stream) = connect(self.http.peer, self.http.close)? else {
                run.finish_item(false);
                continue;
            };
            self.poll.add(&stream, number, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET)?;
            return Ok(Some(Connection { stream, sent: false, answer: [0; ANSWER_BYTES_MAX], length: 0 }));
        }
        Ok(None)
    }

    fn turn(&self, connection: &mut Connection, flags: EventFlags) -> Answer {
        if !connection.sent {
            let whole = send(&connection.stream, &self.request, SendFlags::NOSIGNAL) == Ok(self.request.len());
            if !whole {
                return Answer::Wrong;
            }
            connection.sent = true;
            if !flags.contains(EventFlags::IN) {
                return Answer::Partial;
            }
        }
        self.read(connection)
    }

    fn read(&self, connection: &mut Connection) -> Answer {
        loop {
            let room = &mut connection.answer[connection.length..];
            let received = match recv(&connection.stream, room, RecvFlags::empty()) {
                Ok((_, length)) => length,
                Err(Errno::AGAIN | Errno::INTR) => return Answer::Partial,
                Err(_) => return Answer::Wrong,
            };
            connection.length = (connection.length + received).min(ANSWER_BYTES_MAX);
            let is_full = connection.length == ANSWER_BYTES_MAX;
            if self.http.close == Close::Rst || received == 0 || is_full {
                let answer = &connection.answer[..connection.length];
                let so_far = examine(answer, received == 0, self.http.body.as_bytes());
                if so_far != Answer::Partial {
                    return so_far;
                }
            }
        }
    }
}
