//! The io_uring client: a multishot receive per socket, provided buffers, registered files, silent sends.
//!
//! Invariant: a receive is armed on every socket whenever the thread sleeps.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use io_uring::opcode::{RecvMulti, Send};
use io_uring::squeue::{self, Flags};
use io_uring::types::Fixed;

use super::TICK;
use super::window::{QUERY_BYTES, Reply, Window};
use crate::error::{BareError, During as _};
use crate::memory::Slots;
use crate::report::Report;
use crate::run::Run;
use crate::uring::{Buffers, Completion, GROUP, Ring};

const BUFFERS: u16 = 4_096;
const BUFFER_BYTES: u32 = 2_048;
/// A cache line per query, so that no query shares one.
const SLOT_BYTES: usize = 64;
/// The token of a send, which completes only if it fails; a receive's is its socket.
const SEND: u64 = u64::MAX;
/// Queries sent at the start before replies are looked at.
const BURST: u32 = 1_024;

pub(super) fn drive(mut run: Run<'_>, window: Window, sockets: &[UdpSocket]) -> Result<Report, BareError> {
    let ring = Ring::new()?;
    let descriptors: Vec<i32> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
    ring.uring().submitter().register_files(&descriptors).during("registered files")?;
    let buffers = Buffers::new(&ring, BUFFERS, BUFFER_BYTES)?;
    let queries = Slots::new(window.slots() as usize, SLOT_BYTES);
    let mut client = Client { ring, buffers, queries, window };
    for socket in 0..sockets.len() {
        client.arm(socket)?;
    }
    let (mut opened, mut harvest) = (0, Vec::new());
    while run.wants_more()? {
        client.window.look_at_clock();
        let slots = client.window.slots();
        for slot in opened..slots.min(opened + BURST) {
            client.send_new(slot)?;
        }
        opened = slots.min(opened + BURST);
        let wanted = usize::from(opened == slots);
        client.ring.harvest(wanted, TICK, &mut harvest)?;
        for completion in harvest.drain(..) {
            client.handle(completion, &mut run)?;
        }
        client.buffers.publish();
        client.send_overdue(&mut run)?;
    }
    Ok(run.report("udp uring"))
}

struct Client {
    ring: Ring,
    buffers: Buffers,
    queries: Slots,
    window: Window,
}

impl Client {
    fn handle(&mut self, completion: Completion, run: &mut Run<'_>) -> Result<(), BareError> {
        if completion.token == SEND {
            // As good as lost on the way: sent once more when it is overdue.
            return Ok(());
        }
        let socket = completion.token as usize;
        let mut freed = None;
        if let Some(buffer) = completion.buffer() {
            let bytes = self.buffers.bytes(buffer, usize::try_from(completion.result).unwrap_or(0));
            if let Reply::To { slot, .. } = self.window.accept(socket, bytes, run) {
                freed = Some(slot);
            }
            self.buffers.recycle(buffer);
        }
        if !completion.more() {
            self.arm(socket)?;
        }
        freed.map_or(Ok(()), |slot| self.send_new(slot))
    }

    fn arm(&mut self, socket: usize) -> Result<(), BareError> {
        let entry = RecvMulti::new(Fixed(socket as u32), GROUP).build().user_data(socket as u64);
        // SAFETY: the memory is that of the provided buffers, which is never freed and read only when a completion
        // names it.
        unsafe { self.ring.push(&[entry]) }
    }

    fn send_new(&mut self, slot: u32) -> Result<(), BareError> {
        let query = self.window.compose(slot);
        self.send(slot, &query)
    }

    fn send_overdue(&mut self, run: &mut Run<'_>) -> Result<(), BareError> {
        let mut overdue = Vec::new();
        self.window.overdue(run, |slot, query| overdue.push((slot, query)));
        overdue.iter().try_for_each(|(slot, query)| self.send(*slot, query))
    }

    fn send(&mut self, slot: u32, query: &[u8; QUERY_BYTES]) -> Result<(), BareError> {
        self.queries.write(slot as usize, query);
        let entry = self.entry(slot);
        // SAFETY: the query's memory is never freed, and nothing in the process reads it.
        unsafe { self.ring.push(&[entry]) }
    }

    fn entry(&self, slot: u32) -> squeue::Entry {
        let socket = Fixed(self.window.socket_of(slot) as u32);
        Send::new(socket, self.queries.address(slot as usize), QUERY_BYTES as u32)
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(SEND)
    }
}
