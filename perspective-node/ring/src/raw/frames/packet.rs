//! Frames by AF_PACKET: rings of TPACKET_V3, one to receive and one to send,
//! in one mapping (Documentation/networking/packet_mmap.rst).
//!
//! The kernel fills blocks with frames of any length and hands over a block
//! when it is full or a millisecond old. A frame to send has a slot of its own.
//! The kernel's own stack sees all frames as well; it has no use for those to
//! addresses that are on no interface.
//!
//! Invariant: bytes of a block are read only while its status says that it is
//! ours, a slot is written only while its status says that it is free.

use std::cell::Cell;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{tpacket_block_desc, tpacket_req3, tpacket3_hdr};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{SendFlags, send};

use super::error::{FramesError, Step, explain};
use super::interface::{Interface, last_errno, packet_socket, set_option};
use super::{Checksum, FRAME_BYTES, FramesConfig, FramesStats, filter, is_later};
use crate::raw::memory::Mapping;

/// Holds the longest frame there is: segments merged to 64 KiB by GRO.
const BLOCK_BYTES: usize = 128 << 10;
/// One is read while others are filled.
const BLOCKS_MIN: usize = 4;
/// A block that is not full is handed over after this.
const RETIRE_MS: u32 = 1;
/// A unit of allocation only, as frames have their own slots.
const SEND_BLOCK_BYTES: usize = 64 << 10;
/// Where a frame to send begins in its slot (`TPACKET3_HDRLEN` counts a
/// socket address that is not there).
const SEND_OFFSET: usize = libc::TPACKET3_HDRLEN - size_of::<libc::sockaddr_ll>();
/// What a frame under way costs the send buffer, generously.
const SEND_BUFFER_PER_FRAME: usize = 4096;

const BLOCK_STATUS: usize = offset_of!(tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);
const SLOT_STATUS: usize = offset_of!(tpacket3_hdr, tp_status);

/// The block being read.
#[derive(Clone, Copy, Debug)]
struct Open {
    frames_left: u32,
    /// Of the next frame, from the start of the block.
    offset: usize,
}

#[derive(Debug)]
pub(super) struct Packet {
    socket: OwnedFd,
    memory: Mapping,
    blocks: usize,
    block: usize,
    open: Option<Open>,
    slots: usize,
    /// The next to write.
    slot: usize,
    /// Slots before `slot` that the kernel was not seen to take.
    queued: usize,
    stats: FramesStats,
    /// What the kernel counted before it was last asked; it starts again then.
    kernel_drops: Cell<u64>,
}

impl Packet {
    pub(super) fn open(interface: &Interface, config: &FramesConfig<'_>) -> Result<Packet, FramesError> {
        let socket = packet_socket(&interface.name)?;
        let each = config.frames as usize / 2;
        let blocks = (each * FRAME_BYTES / BLOCK_BYTES).max(BLOCKS_MIN);
        let fail = |step| move |errno| explain(&interface.name, step, errno);
        set_options(socket.as_fd(), interface, config, each).map_err(fail(Step::PacketOptions))?;
        let memory = map_rings(socket.as_fd(), blocks, each).map_err(fail(Step::Rings))?;
        interface.join(socket.as_fd(), config.addresses)?;
        bind(socket.as_fd(), interface).map_err(fail(Step::Bind))?;
        Ok(Packet {
            socket,
            memory,
            blocks,
            block: 0,
            open: None,
            slots: each,
            slot: 0,
            queued: 0,
            stats: FramesStats::default(),
            kernel_drops: Cell::new(0),
        })
    }

    pub(super) fn describe(&self) -> String {
        "packet".to_owned()
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8], Checksum)) -> io::Result<usize> {
        let mut count = 0;
        while count < budget && self.open_block() {
            if let Some((start, len, checksum)) = self.next_frame() {
                count += 1;
                self.stats.received += 1;
                // SAFETY: inside a block that is ours until `close_block`.
                if let Some(bytes) = unsafe { self.memory.slice(start, len) } {
                    sink(bytes, checksum);
                }
            }
        }
        self.close_block_if_read();
        Ok(count)
    }

    /// Whether there is a block with a frame left, opening the next if it is ours.
    fn open_block(&mut self) -> bool {
        self.close_block_if_read();
        if self.open.is_none() && self.block_status().is_some_and(is_ours) {
            // SAFETY: plain integers, and the block is ours.
            let header = unsafe { self.memory.read::<tpacket_block_desc>(self.block * BLOCK_BYTES) };
            self.open = header.map(|header| {
                // SAFETY: the union has this member only; any bytes are integers.
                let header = unsafe { header.hdr.bh1 };
                Open { frames_left: header.num_pkts, offset: header.offset_to_first_pkt as usize }
            });
        }
        self.open.is_some()
    }

    /// Start, length and checksum of the open block's next frame; `None` if
    /// there is none that is whole.
    fn next_frame(&mut self) -> Option<(usize, usize, Checksum)> {
        let open = self.open.as_mut()?;
        open.frames_left = open.frames_left.checked_sub(1)?;
        let block = self.block * BLOCK_BYTES;
        let at = open.offset;
        let in_block = at <= BLOCK_BYTES - size_of::<tpacket3_hdr>();
        // SAFETY: plain integers, and the block is ours.
        let header = if in_block { unsafe { self.memory.read::<tpacket3_hdr>(block + at) } } else { None };
        let Some(header) = header else {
            // Where the following ones are is not known either.
            self.stats.malformed += 1;
            open.frames_left = 0;
            return None;
        };
        open.offset = at.saturating_add(header.tp_next_offset as usize);
        if header.tp_next_offset == 0 {
            // Said of the last one only.
            open.frames_left = 0;
        }
        let start = at + usize::from(header.tp_mac);
        let len = header.tp_snaplen as usize;
        if header.tp_snaplen != header.tp_len || start.saturating_add(len) > BLOCK_BYTES {
            self.stats.malformed += 1;
            return None;
        }
        let vouched = header.tp_status & (libc::TP_STATUS_CSUMNOTREADY | libc::TP_STATUS_CSUM_VALID) != 0;
        Some((block + start, len, if vouched { Checksum::Vouched } else { Checksum::Unknown }))
    }

    fn close_block_if_read(&mut self) {
        if self.open.is_none_or(|open| open.frames_left != 0) {
            return;
        }
        self.open = None;
        if let Some(status) = self.block_status() {
            // Release pairs with the kernel's read of the status before it
            // writes to the block: our reads come first.
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.block = (self.block + 1) % self.blocks;
    }

    fn block_status(&self) -> Option<&AtomicU32> {
        self.memory.word(self.block * BLOCK_BYTES + BLOCK_STATUS)
    }

    fn slot_offset(&self, slot: usize) -> usize {
        self.blocks * BLOCK_BYTES + slot * FRAME_BYTES
    }

    fn slot_status(&self, slot: usize) -> Option<&AtomicU32> {
        self.memory.word(self.slot_offset(slot) + SLOT_STATUS)
    }

    pub(super) fn transmit(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let at = self.slot_offset(self.slot);
        if !self.room() || len > FRAME_BYTES - SEND_OFFSET {
            return false;
        }
        // SAFETY: the slot's status says that it is free, and only we change that.
        let Some(bytes) = (unsafe { self.memory.slice_mut(at + SEND_OFFSET, len) }) else { return false };
        fill(bytes);
        let lengths = [(offset_of!(tpacket3_hdr, tp_len), len), (offset_of!(tpacket3_hdr, tp_next_offset), 0)];
        for (field, value) in lengths {
            let Some(field) = self.memory.word(at + field) else { return false };
            field.store(value as u32, Ordering::Relaxed);
        }
        let Some(status) = self.slot_status(self.slot) else { return false };
        // Release pairs with the kernel's read of the status before it reads
        // the frame.
        status.store(libc::TP_STATUS_SEND_REQUEST, Ordering::Release);
        self.slot = (self.slot + 1) % self.slots;
        self.queued += 1;
        self.stats.transmitted += 1;
        true
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.queued != 0 {
            let before = self.queued;
            self.stats.kicks += 1;
            let sent = send(&self.socket, &[], SendFlags::DONTWAIT);
            self.count_queued();
            match sent {
                Err(errno) if !is_later(errno) => return Err(errno.into()),
                _ if self.queued == before => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes off `queued` what the kernel has begun to send. It goes from slot
    /// to slot in order.
    fn count_queued(&mut self) {
        while self.queued != 0 {
            let oldest = (self.slot + self.slots - self.queued) % self.slots;
            let status = self.slot_status(oldest).map_or(0, |status| status.load(Ordering::Relaxed));
            if status & libc::TP_STATUS_SEND_REQUEST != 0 {
                break;
            }
            self.queued -= 1;
        }
    }

    pub(super) fn room(&self) -> bool {
        self.slot_status(self.slot).is_some_and(is_free)
    }

    pub(super) fn stats(&self) -> FramesStats {
        self.kernel_drops.set(self.kernel_drops.get() + new_drops(self.socket.as_fd()));
        FramesStats { kernel_drops: self.kernel_drops.get(), ..self.stats }
    }
}

/// Acquire pairs with the kernel's write of the status when the block is full.
fn is_ours(status: &AtomicU32) -> bool {
    status.load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
}

/// Acquire pairs with the kernel's write of the status when it needs the frame
/// no longer.
fn is_free(status: &AtomicU32) -> bool {
    status.load(Ordering::Acquire) & (libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING) == 0
}

/// Drops since this was last called.
fn new_drops(socket: BorrowedFd<'_>) -> u64 {
    let mut stats = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
    let mut len = size_of_val(&stats) as libc::socklen_t;
    let value = (&raw mut stats).cast();
    // SAFETY: the kernel writes at most `len` octets to `stats`, both of which
    // are borrowed mutably.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut len) };
    if result < 0 { 0 } else { u64::from(stats.tp_drops) }
}

/// All that must be set before there are rings, or before there are frames.
fn set_options(
    socket: BorrowedFd<'_>,
    interface: &Interface,
    config: &FramesConfig<'_>,
    slots: usize,
) -> Result<(), Errno> {
    let set = |name, value: i32| set_option(socket, libc::SOL_PACKET, name, &value);
    let mut program = filter::assemble(config.addresses, interface.hardware_address);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
    set(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V3 as i32)?;
    set(libc::PACKET_IGNORE_OUTGOING, 1)?;
    // What the kernel cannot send it skips, where it would stop for good.
    set(libc::PACKET_LOSS, 1)?;
    set(libc::PACKET_QDISC_BYPASS, 1)?;
    // Without CAP_NET_ADMIN fewer frames are under way at a time; no error.
    let _ = set_socket_send_buffer_size_force(socket, slots * SEND_BUFFER_PER_FRAME);
    Ok(())
}

/// Sets up both rings. They come in one mapping, first the one to receive.
fn map_rings(socket: BorrowedFd<'_>, blocks: usize, slots: usize) -> Result<Mapping, Errno> {
    let send_bytes = slots * FRAME_BYTES;
    let receive = tpacket_req3 {
        tp_block_size: BLOCK_BYTES as u32,
        tp_block_nr: blocks as u32,
        // Of no meaning in this version but for arithmetic.
        tp_frame_size: FRAME_BYTES as u32,
        tp_frame_nr: (blocks * BLOCK_BYTES / FRAME_BYTES) as u32,
        tp_retire_blk_tov: RETIRE_MS,
        tp_sizeof_priv: 0,
        tp_feature_req_word: 0,
    };
    let transmit = tpacket_req3 {
        tp_block_size: SEND_BLOCK_BYTES as u32,
        tp_block_nr: (send_bytes / SEND_BLOCK_BYTES) as u32,
        tp_frame_nr: slots as u32,
        tp_retire_blk_tov: 0,
        ..receive
    };
    set_option(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &receive)?;
    set_option(socket, libc::SOL_PACKET, libc::PACKET_TX_RING, &transmit)?;
    Mapping::of(socket, blocks * BLOCK_BYTES + send_bytes, 0)
}

/// From here on there are frames, of all protocols: the filter chooses, if there is one.
pub(super) fn bind(socket: BorrowedFd<'_>, interface: &Interface) -> Result<(), Errno> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: interface.index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the address is borrowed and `len` octets long; the kernel copies it.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, socket};

    /// A ring of two blocks without a kernel.
    fn alone() -> Packet {
        Packet {
            socket: socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap(),
            memory: Mapping::anonymous(2 * BLOCK_BYTES).unwrap(),
            blocks: 2,
            block: 0,
            open: None,
            slots: 0,
            slot: 0,
            queued: 0,
            stats: FramesStats::default(),
            kernel_drops: Cell::new(0),
        }
    }

    impl Packet {
        /// What the kernel writes, or might: words by their offset in the block.
        fn say(&mut self, block: usize, words: &[(usize, u32)]) {
            for (offset, word) in words {
                self.memory.word(block * BLOCK_BYTES + offset).unwrap().store(*word, Ordering::Relaxed);
            }
            let status = block * BLOCK_BYTES + BLOCK_STATUS;
            self.memory.word(status).unwrap().store(libc::TP_STATUS_USER, Ordering::Release);
        }

        /// Lengths handed out, and frames that were malformed.
        fn heard(&mut self) -> (Vec<usize>, u64) {
            let before = self.stats.malformed;
            let mut lengths = Vec::new();
            self.receive(100, &mut |bytes, _| lengths.push(bytes.len())).unwrap();
            for block in 0..2 {
                let status = self.memory.word(block * BLOCK_BYTES + BLOCK_STATUS).unwrap().load(Ordering::Relaxed);
                assert_eq!(status, libc::TP_STATUS_KERNEL, "block {block} is given back");
            }
            (lengths, self.stats.malformed - before)
        }
    }

    const COUNT: usize = BLOCK_STATUS + 4;
    const FIRST: usize = BLOCK_STATUS + 8;

    /// Header of a frame at `at`: next, length there, length before, start.
    fn frame(at: usize, next: u32, there: u32, before: u32, start: u16) -> [(usize, u32); 4] {
        let start = u32::from_ne_bytes([start.to_ne_bytes(), [0; 2]].concat().try_into().unwrap());
        [(at, next), (at + 12, there), (at + 16, before), (at + 24, start)]
    }

    #[test]
    fn a_block_of_lies_costs_its_frames_only() {
        let good = frame(48, 0, 60, 60, 80);
        let end = BLOCK_BYTES as u32;
        for (what, count, first, frames, expected) in [
            ("one", 1, 48, vec![good], (vec![60], 0)),
            ("two", 2, 48, vec![frame(48, 400, 60, 60, 80), frame(448, 0, 61, 61, 80)], (vec![60, 61], 0)),
            ("none", 0, 48, vec![], (vec![], 0)),
            ("more than there are", 3, 48, vec![good], (vec![60], 0)),
            ("first outside", 1, end, vec![], (vec![], 1)),
            ("first far outside", 1, u32::MAX, vec![], (vec![], 1)),
            ("first not aligned", 1, 50, vec![], (vec![], 1)),
            ("header cut by the end", 1, end - 40, vec![], (vec![], 1)),
            ("next outside", 2, 48, vec![frame(48, end, 60, 60, 80)], (vec![60], 1)),
            ("next far outside", 2, 48, vec![frame(48, u32::MAX, 60, 60, 80)], (vec![60], 1)),
            ("a cut frame", 1, 48, vec![frame(48, 0, 60, 61, 80)], (vec![], 1)),
            ("a cut frame first", 2, 48, vec![frame(48, 400, 60, 61, 80), frame(448, 0, 61, 61, 80)], (vec![61], 1)),
            ("longer than the block", 1, 48, vec![frame(48, 0, end, end, 80)], (vec![], 1)),
            ("as long as can be", 1, 48, vec![frame(48, 0, u32::MAX, u32::MAX, 80)], (vec![], 1)),
            ("ends behind the block", 1, 48, vec![frame(48, 0, end - 127, end - 127, 80)], (vec![], 1)),
            ("ends with the block", 1, 48, vec![frame(48, 0, end - 128, end - 128, 80)], (vec![BLOCK_BYTES - 128], 0)),
        ] {
            let mut packet = alone();
            packet.say(0, &[(COUNT, count), (FIRST, first)]);
            packet.say(0, frames.as_flattened());
            assert_eq!(packet.heard(), expected, "{what}");
            // And the next block is read as if nothing had been.
            packet.say(1, &[(COUNT, 1), (FIRST, 48)]);
            packet.say(1, &good);
            assert_eq!(packet.heard(), (vec![60], 0), "after: {what}");
        }
    }

    #[test]
    fn any_words_at_all_are_read_to_the_end() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // As many bits as chance will have, so that small values occur.
            (state >> 32) as u32 >> (state % 32)
        };
        for _ in 0..2000 {
            let mut packet = alone();
            let words: Vec<_> = (0..200).map(|i| (COUNT + 4 * i, random())).collect();
            packet.say(0, &words);
            for _ in 0..BLOCK_BYTES {
                if packet.receive(100, &mut |bytes, _| assert!(bytes.len() <= BLOCK_BYTES)).unwrap() == 0 {
                    break;
                }
            }
            assert_eq!(packet.block, 1);
        }
    }
}
