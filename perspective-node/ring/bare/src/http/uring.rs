//! The io_uring client: all operations of an item are submitted at once, on a direct descriptor.
//!
//! The close of the last connection, the new socket and its option never wait, so the kernel does them in order while
//! it takes the submission; a link would only cost a detour. Connect, send and receive wait, and are linked.
//!
//! Invariant: a chain completes exactly once. Connect and send are silent when they succeed; when one of them fails,
//! it completes, and the kernel drops the rest of the chain without a word. Without a socket, the connect fails.

use std::io;
use std::net::SocketAddr;

use io_uring::opcode::{self, SetSockOpt};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fixed};
use libc::{MSG_NOSIGNAL, MSG_WAITALL, SO_LINGER, SOCK_STREAM, SOL_SOCKET, linger};
use rustix::net::AddressFamily;
use socket2::SockAddr;

use super::{ANSWER_BYTES_MAX, Answer, Close, Http, TICK, examine};
use crate::error::{BareError, During as _};
use crate::memory::Slots;
use crate::report::Report;
use crate::run::Run;
use crate::uring::{Completion, Ring};

/// The token of what precedes a chain, and completes only if it fails. The chain's is its slot.
const PREPARATION: u64 = u64::MAX;
/// Do not try to receive before the socket is readable: directly after the send it never is.
const RECVSEND_POLL_FIRST: u16 = 1;

const RESET: linger = linger { l_onoff: 1, l_linger: 0 };

pub(super) fn drive(http: &Http, mut run: Run<'_>) -> Result<Report, BareError> {
    let slots = http.load.in_flight;
    let ring = Ring::new()?;
    ring.uring().submitter().register_files_sparse(slots).during("direct descriptors")?;
    let mut client = Client {
        http,
        ring,
        answers: Slots::new(slots as usize, ANSWER_BYTES_MAX),
        lengths: vec![0; slots as usize],
        peer: leak_address(http.peer),
        linger: Box::leak(Box::new(RESET)),
        request: http.request().leak(),
    };
    for slot in 0..slots {
        client.begin(slot, false)?;
    }
    let mut harvest = Vec::new();
    while run.wants_more()? {
        client.ring.harvest(1, TICK, &mut harvest)?;
        for completion in harvest.drain(..) {
            client.handle(completion, &mut run)?;
        }
    }
    Ok(run.report(http.name("uring")))
}

fn leak_address(peer: SocketAddr) -> &'static SockAddr {
    Box::leak(Box::new(peer.into()))
}

struct Client<'a> {
    http: &'a Http,
    ring: Ring,
    answers: Slots,
    /// What has come of each answer.
    lengths: Vec<usize>,
    // The kernel reads these at any time, so they are never freed.
    peer: &'static SockAddr,
    linger: &'static linger,
    request: &'static [u8],
}

impl Client<'_> {
    fn handle(&mut self, completion: Completion, run: &mut Run<'_>) -> Result<(), BareError> {
        if completion.token == PREPARATION {
            // No descriptor, or an option this kernel does not set: ours, and nothing to measure without.
            return Err(io::Error::from_raw_os_error(-completion.result)).during("socket through the ring");
        }
        let slot = completion.token as u32;
        let answer = match usize::try_from(completion.result) {
            Ok(received) => self.received(slot, received),
            Err(_) => Answer::Wrong,
        };
        if answer == Answer::Partial {
            let receive = self.receive(slot);
            // SAFETY: the memory is part of `answers`, which is never freed, and read only after the completion.
            return unsafe { self.ring.push(&[receive]) };
        }
        run.finish_item(answer == Answer::Right);
        self.begin(slot, true)
    }

    fn received(&mut self, slot: u32, received: usize) -> Answer {
        let length = &mut self.lengths[slot as usize];
        *length = (*length + received).min(ANSWER_BYTES_MAX);
        // SAFETY: the only operation that writes to this part has just completed.
        let answer = unsafe { self.answers.bytes(slot as usize, *length) };
        // With FIN the receive waits for all there is.
        let ended = received == 0 || self.http.close == Close::Fin;
        examine(answer, ended, self.http.body.as_bytes())
    }

    /// Closes the slot's last connection and begins the next.
    fn begin(&mut self, slot: u32, close: bool) -> Result<(), BareError> {
        self.lengths[slot as usize] = 0;
        let family = if self.http.peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let Ok(place) = DestinationSlot::try_from_slot_target(slot) else {
            return Err(BareError::Setting("--in-flight: no such slot"));
        };
        let preparing = |entry: Entry| entry.flags(Flags::SKIP_SUCCESS).user_data(PREPARATION);
        let socket = opcode::Socket::new(family.as_raw().into(), SOCK_STREAM, 0).file_index(Some(place)).build();
        let mut entries = Vec::with_capacity(6);
        if close {
            entries.push(preparing(opcode::Close::new(Fixed(slot)).build()));
        }
        entries.push(preparing(socket));
        if self.http.close == Close::Rst {
            let (option, length) = ((&raw const *self.linger).cast(), size_of::<linger>() as u32);
            let linger = SetSockOpt::new(Fixed(slot), SOL_SOCKET as u32, SO_LINGER as u32, option, length);
            entries.push(preparing(linger.build()));
        }
        let linked = |entry: Entry| entry.flags(Flags::IO_LINK | Flags::SKIP_SUCCESS).user_data(slot.into());
        let (address, request) = (self.peer.as_ptr().cast(), self.request.as_ptr());
        let send = opcode::Send::new(Fixed(slot), request, self.request.len() as u32).flags(MSG_NOSIGNAL);
        entries.push(linked(opcode::Connect::new(Fixed(slot), address, self.peer.len()).build()));
        entries.push(linked(send.build()));
        entries.push(self.receive(slot));
        // SAFETY: address, option and request are leaked; the answer's memory is never freed, and read only when the
        // receive has completed.
        unsafe { self.ring.push(&entries) }
    }

    fn receive(&self, slot: u32) -> Entry {
        let length = self.lengths[slot as usize];
        let room = (ANSWER_BYTES_MAX - length) as u32;
        // SAFETY: `length` is at most the part's size.
        let address = unsafe { self.answers.address(slot as usize).add(length) };
        let flags = if self.http.close == Close::Fin { MSG_WAITALL } else { 0 };
        opcode::Recv::new(Fixed(slot), address, room)
            .flags(flags)
            .ioprio(RECVSEND_POLL_FIRST)
            .build()
            .user_data(slot.into())
    }
}
