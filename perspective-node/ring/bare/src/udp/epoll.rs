//! The plain client: one call per datagram.

use std::net::UdpSocket;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use super::TICK;
use super::window::{Reply, Window};
use crate::error::BareError;
use crate::poll::Poll;
use crate::report::Report;
use crate::run::Run;

const REPLY_BYTES_MAX: usize = 2_048;
/// Datagrams taken from a socket before the next one has its turn.
const TURN: usize = 64;
/// Queries sent at the start before replies are looked at.
const BURST: u32 = 1_024;

pub(super) fn drive(mut run: Run<'_>, mut window: Window, sockets: &[UdpSocket]) -> Result<Report, BareError> {
    let mut poll = Poll::new()?;
    for (number, socket) in sockets.iter().enumerate() {
        poll.add(socket, number, EventFlags::IN)?;
    }
    let mut buffer = [0; REPLY_BYTES_MAX];
    let (mut ready, mut opened) = (Vec::new(), 0);
    while run.wants_more()? {
        window.look_at_clock();
        for slot in opened..window.slots().min(opened + BURST) {
            send_new(&mut window, sockets, slot);
        }
        opened = window.slots().min(opened + BURST);
        let limit = if opened < window.slots() { Duration::ZERO } else { TICK };
        poll.wait(Some(limit), &mut ready)?;
        window.look_at_clock();
        for &(number, _) in &ready {
            for _ in 0..TURN {
                let Ok(length) = sockets[number].recv(&mut buffer) else { break };
                if let Reply::To { slot, .. } = window.accept(number, &buffer[..length], &mut run) {
                    send_new(&mut window, sockets, slot);
                }
            }
        }
        let mut overdue = Vec::new();
        window.overdue(&mut run, |slot, query| overdue.push((slot, query)));
        for (slot, query) in overdue {
            let _ = sockets[window.socket_of(slot)].send(&query);
        }
    }
    Ok(run.report("udp epoll"))
}

/// A query the kernel does not take is as good as lost on the way.
fn send_new(window: &mut Window, sockets: &[UdpSocket], slot: u32) {
    let query = window.compose(slot);
    let _ = sockets[window.socket_of(slot)].send(&query);
}
