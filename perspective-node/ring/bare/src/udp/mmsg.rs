//! The client of batches: what one `recvmmsg` brings, one `sendmmsg` follows.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use super::TICK;
use super::window::{QUERY_BYTES, Reply, Window};
use crate::error::BareError;
use crate::messages::Messages;
use crate::poll::Poll;
use crate::report::Report;
use crate::run::Run;

const BATCH: usize = 128;
const REPLY_BYTES_MAX: usize = 512;

pub(super) fn drive(mut run: Run<'_>, mut window: Window, sockets: &[UdpSocket]) -> Result<Report, BareError> {
    let mut poll = Poll::new()?;
    for (number, socket) in sockets.iter().enumerate() {
        poll.add(socket, number, EventFlags::IN)?;
    }
    let mut client = Client {
        replies: Messages::connected(BATCH, REPLY_BYTES_MAX),
        queries: Messages::connected(BATCH, QUERY_BYTES),
        queued: 0,
    };
    let (mut ready, mut opened) = (Vec::new(), 0);
    while run.wants_more()? {
        window.look_at_clock();
        // Socket by socket, one batch each, so that the responder is not given everything at once.
        if opened < window.slots() {
            opened = client.open(&mut window, sockets, opened);
        }
        let limit = if opened < window.slots() { Duration::ZERO } else { TICK };
        poll.wait(Some(limit), &mut ready)?;
        window.look_at_clock();
        for &(number, _) in &ready {
            client.exchange(number, &sockets[number], &mut window, &mut run);
        }
        // Few, so each is a batch of its own.
        let mut overdue = Vec::new();
        window.overdue(&mut run, |slot, query| overdue.push((slot, query)));
        for (slot, query) in overdue {
            client.queue(&query);
            client.flush(&sockets[window.socket_of(slot)]);
        }
    }
    Ok(run.report("udp mmsg"))
}

struct Client {
    replies: Messages,
    queries: Messages,
    queued: usize,
}

impl Client {
    /// Sends the first queries of some slots; gives the first slot without one.
    fn open(&mut self, window: &mut Window, sockets: &[UdpSocket], from: u32) -> u32 {
        let step = sockets.len();
        let until = window.slots().min(from + (8 * step) as u32);
        for (number, socket) in sockets.iter().enumerate() {
            // `from` is a multiple of the number of sockets until all slots are open.
            for slot in (from + number as u32..until).step_by(step) {
                let query = window.compose(slot);
                self.queue(&query);
            }
            self.flush(socket);
        }
        until
    }

    /// Takes one batch; epoll reports again what is left.
    fn exchange(&mut self, number: usize, socket: &UdpSocket, window: &mut Window, run: &mut Run<'_>) {
        // An error of the socket (a port unreachable) is a lost query.
        let received = self.replies.receive(socket).unwrap_or(0);
        for index in 0..received {
            if let Reply::To { slot, .. } = window.accept(number, self.replies.bytes(index), run) {
                let query = window.compose(slot);
                self.queue(&query);
            }
        }
        self.flush(socket);
    }

    fn queue(&mut self, query: &[u8; QUERY_BYTES]) {
        // Never full: a batch of replies frees at most a batch, and opening stays below one.
        if self.queued < self.queries.capacity() {
            self.queries.room(self.queued).copy_from_slice(query);
            self.queries.set_length(self.queued, QUERY_BYTES);
            self.queued += 1;
        }
    }

    /// What the kernel does not take is as good as lost on the way.
    fn flush(&mut self, socket: &UdpSocket) {
        if self.queued > 0 {
            let _ = self.queries.send(socket, self.queued);
            self.queued = 0;
        }
    }
}
