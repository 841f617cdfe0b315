//! One AF_XDP socket on one receive queue, with memory of its own.
//!
//! The frames of the memory are numbered; the first ones are for receiving,
//! the rest for sending. Each frame is in one place: with the kernel, or with
//! us (being read, or in `free`).
//!
//! Leaves out who attaches the program and which queue is sent on.
//!
//! Invariants: a frame for receiving is handed out only between the kernel's
//! report of it and the next `publish` of the fill ring; a frame for sending is
//! written only while it is in `free`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_send_buffer_size_force, set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size,
    set_xdp_umem_fill_ring_size, set_xdp_umem_reg, xdp_mmap_offsets, xdp_options, xdp_statistics,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING,
    XDP_UMEM_PGOFF_FILL_RING, XdpDesc, XdpDescOptions, XdpOptionsFlags, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use super::ring::{Drained, Filled};
use crate::raw::frames::error::{FramesError, Step, explain};
use crate::raw::frames::interface::{Interface, set_option};
use crate::raw::frames::{Checksum, FRAME_BYTES, FramesStats, is_later};
use crate::raw::memory::Mapping;

/// The completion ring of a socket that never sends; it must have one.
const NO_COMPLETIONS: u32 = 2;
/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): frames sent by one system call in copy
/// mode, 32 unless told otherwise.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;
/// How often and after what time a bind to a queue that is taken is tried
/// again; half a second in all.
const BIND_RETRIES: u32 = 250;
const BIND_PAUSE: Duration = Duration::from_millis(2);
/// What a frame under way costs the send buffer in copy mode, generously.
const SEND_BUFFER_PER_FRAME: usize = 4096;

/// Frames for each direction; powers of two, `transmit` may be zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) receive: u32,
    pub(super) transmit: u32,
}

#[derive(Debug)]
pub(super) struct Queue {
    socket: OwnedFd,
    memory: Mapping,
    sizes: Sizes,
    fill: Filled<u64>,
    received: Drained<XdpDesc>,
    outgoing: Option<Filled<XdpDesc>>,
    completed: Drained<u64>,
    /// Frames for sending that are ours.
    free: Vec<u32>,
    /// By frame for sending: whether the kernel has it.
    lent: Vec<bool>,
}

impl Queue {
    /// Makes a socket, gives it memory and binds it. It gets frames once it is
    /// in the program's map.
    pub(super) fn open(
        interface: &Interface,
        queue: u32,
        mode: SocketAddrXdpFlags,
        sizes: Sizes,
    ) -> Result<Queue, FramesError> {
        let fail = |step| move |errno| explain(&interface.name, step, errno);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::XDP, SocketType::RAW, flags, None).map_err(fail(Step::XdpSocket))?;
        let memory = frame_memory(&socket, sizes).map_err(fail(Step::FrameMemory))?;
        let mut queue_socket = map_rings(socket, memory, sizes).map_err(fail(Step::Rings))?;
        let socket = queue_socket.socket.as_fd();
        let address = SocketAddrXdp::new(mode | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP, interface.index, queue);
        bind_patiently(socket, &address).map_err(|errno| match errno {
            Errno::BUSY => FramesError::QueueTaken { interface: interface.name.clone(), queue },
            _ => explain(&interface.name, Step::Bind, errno),
        })?;
        if sizes.transmit != 0 {
            // Both only make copy mode faster, so that failing is no error.
            let _ = set_option(socket, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &sizes.transmit);
            let _ = set_socket_send_buffer_size_force(socket, sizes.transmit as usize * SEND_BUFFER_PER_FRAME);
        }
        for frame in 0..sizes.receive {
            queue_socket.fill.push(address_of(frame));
        }
        queue_socket.fill.publish();
        Ok(queue_socket)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_zero_copy(&self) -> bool {
        xdp_options(&self.socket).is_ok_and(|options| options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
    }

    pub(super) fn receive(
        &mut self,
        budget: usize,
        stats: &mut FramesStats,
        sink: &mut dyn FnMut(&[u8], Checksum),
    ) -> io::Result<usize> {
        // What a sink that panicked left undone.
        self.give_back();
        let mut count = 0;
        for _ in 0..budget {
            let Some(descriptor) = self.received.pop() else { break };
            let Some((start, len)) = self.checked(&descriptor) else {
                stats.malformed += 1;
                continue;
            };
            // Given back before the sink runs, so that one that panics costs
            // nothing; the kernel learns of it with `publish` below, and until
            // then the bytes are ours.
            self.fill.push(address_of((start / FRAME_BYTES) as u32));
            // SAFETY: the kernel reported this frame and does not write to it
            // before the fill ring is published, which needs `&mut self`.
            if let Some(bytes) = unsafe { self.memory.slice(start, len) } {
                count += 1;
                stats.received += 1;
                sink(bytes, Checksum::Unknown);
            }
        }
        self.give_back();
        // Only a driver with zero-copy ever asks for it.
        if self.fill.needs_wakeup() {
            stats.kicks += 1;
            later_is_fine(recv(&self.socket, &mut [0u8; 0], RecvFlags::DONTWAIT).map(drop))?;
        }
        Ok(count)
    }

    /// Frames that were read are the kernel's again.
    fn give_back(&mut self) {
        self.received.release();
        self.fill.publish();
    }

    /// Offset and length of what the kernel says it received, if it can be.
    /// What is not true costs one frame for good: which one, nobody knows.
    fn checked(&self, descriptor: &XdpDesc) -> Option<(usize, usize)> {
        let start = usize::try_from(descriptor.addr).ok()?;
        let len = usize::try_from(descriptor.len).ok()?;
        let is_for_receiving = start / FRAME_BYTES < self.sizes.receive as usize;
        let is_whole = !descriptor.options.contains(XdpDescOptions::XDP_PKT_CONTD);
        let fits = start % FRAME_BYTES + len.min(FRAME_BYTES + 1) <= FRAME_BYTES;
        (is_for_receiving && is_whole && fits).then_some((start, len))
    }

    pub(super) fn transmit(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let (Some(outgoing), Some(&frame)) = (&mut self.outgoing, self.free.last()) else { return false };
        if len > FRAME_BYTES || !outgoing.has_room() {
            return false;
        }
        // SAFETY: the frame is in `free`, so the kernel has no business there.
        let Some(bytes) = (unsafe { self.memory.slice_mut(frame as usize * FRAME_BYTES, len) }) else {
            return false;
        };
        // Taken out of `free` afterwards, so that one that panics costs nothing.
        fill(bytes);
        self.free.pop();
        self.lent[(frame - self.sizes.receive) as usize] = true;
        outgoing.push(XdpDesc { addr: address_of(frame), len: len as u32, options: XdpDescOptions::empty() })
    }

    /// Shows the kernel what was queued, and takes back what has left.
    pub(super) fn flush(&mut self, stats: &mut FramesStats) -> io::Result<()> {
        let Some(outgoing) = &mut self.outgoing else { return Ok(()) };
        if self.free.len() == self.sizes.transmit as usize {
            return Ok(());
        }
        outgoing.publish();
        // In copy mode a call sends a limited number of frames; as long as it
        // sends any there is reason for another.
        let mut kicked = Ok(());
        let mut pending = outgoing.pending();
        while kicked.is_ok() && pending != 0 && outgoing.needs_wakeup() {
            stats.kicks += 1;
            kicked = later_is_fine(send(&self.socket, &[], SendFlags::DONTWAIT).map(drop));
            let left = outgoing.pending();
            if left >= pending {
                break;
            }
            pending = left;
        }
        self.reclaim(stats);
        kicked
    }

    fn reclaim(&mut self, stats: &mut FramesStats) {
        while let Some(address) = self.completed.pop() {
            let slot = (address / FRAME_BYTES as u64).checked_sub(u64::from(self.sizes.receive));
            let lent = slot.and_then(|slot| self.lent.get_mut(usize::try_from(slot).ok()?));
            match lent {
                Some(lent) if *lent => {
                    *lent = false;
                    self.free.push((address / FRAME_BYTES as u64) as u32);
                }
                _ => stats.malformed += 1,
            }
        }
        self.completed.release();
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> bool {
        !self.free.is_empty() && self.outgoing.as_ref().is_some_and(Filled::has_room)
    }

    /// Frames for us that found no room.
    pub(super) fn kernel_drops(&self) -> u64 {
        xdp_statistics(&self.socket).map_or(0, |drops| drops.rx_dropped + drops.rx_ring_full.unwrap_or(0))
    }
}

fn address_of(frame: u32) -> u64 {
    u64::from(frame) * FRAME_BYTES as u64
}

fn later_is_fine(result: Result<(), Errno>) -> io::Result<()> {
    result.or_else(|errno| if is_later(errno) { Ok(()) } else { Err(errno.into()) })
}

/// Binds, and waits a little for a queue to become free: the kernel takes it
/// from a socket some time after that was closed.
fn bind_patiently(socket: BorrowedFd<'_>, address: &SocketAddrXdp) -> Result<(), Errno> {
    for _ in 0..BIND_RETRIES {
        match bind(socket, address) {
            Err(Errno::BUSY) => std::thread::sleep(BIND_PAUSE),
            result => return result,
        }
    }
    bind(socket, address)
}

fn frame_memory(socket: &OwnedFd, sizes: Sizes) -> Result<Mapping, Errno> {
    let memory = Mapping::anonymous((sizes.receive + sizes.transmit) as usize * FRAME_BYTES)?;
    let register = XdpUmemReg {
        addr: memory.address(),
        len: memory.len() as u64,
        chunk_size: FRAME_BYTES as u32,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    set_xdp_umem_reg(socket, register)?;
    Ok(memory)
}

fn map_rings(socket: OwnedFd, memory: Mapping, sizes: Sizes) -> Result<Queue, Errno> {
    let completions = sizes.transmit.max(NO_COMPLETIONS);
    set_xdp_umem_fill_ring_size(&socket, sizes.receive)?;
    set_xdp_umem_completion_ring_size(&socket, completions)?;
    set_xdp_rx_ring_size(&socket, sizes.receive)?;
    if sizes.transmit != 0 {
        set_xdp_tx_ring_size(&socket, sizes.transmit)?;
    }
    let at = xdp_mmap_offsets(&socket)?;
    let fd = socket.as_fd();
    let outgoing = match sizes.transmit {
        0 => None,
        size => Some(Filled::map(fd, XDP_PGOFF_TX_RING, &at.tx, size)?),
    };
    Ok(Queue {
        fill: Filled::map(fd, XDP_UMEM_PGOFF_FILL_RING, &at.fr, sizes.receive)?,
        received: Drained::map(fd, XDP_PGOFF_RX_RING, &at.rx, sizes.receive)?,
        completed: Drained::map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &at.cr, completions)?,
        outgoing,
        free: (sizes.receive..sizes.receive + sizes.transmit).collect(),
        lent: vec![false; sizes.transmit as usize],
        socket,
        memory,
        sizes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { receive: 4, transmit: 4 };

    /// A queue without a kernel.
    fn alone() -> Queue {
        Queue {
            socket: socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::NONBLOCK, None).unwrap(),
            memory: Mapping::anonymous(8 * FRAME_BYTES).unwrap(),
            sizes: SIZES,
            fill: Filled::alone(4),
            received: Drained::alone(4),
            outgoing: Some(Filled::alone(4)),
            completed: Drained::alone(4),
            free: (4..8).collect(),
            lent: vec![false; 4],
        }
    }

    #[test]
    fn a_report_of_what_cannot_be_is_counted_and_dropped() {
        let frame = FRAME_BYTES as u64;
        let none = XdpDescOptions::empty();
        for (what, addr, len, options, good) in [
            ("a frame after its headroom", 256, 60, none, true),
            ("the last octets of a frame", frame - 60, 60, none, true),
            ("a whole frame, and the last", 3 * frame, 2048, none, true),
            ("nothing", 256, 0, none, true),
            ("more than the rest of a frame", frame - 60, 61, none, false),
            ("more than a frame", 0, 2049, none, false),
            ("a length as great as can be", 0, u32::MAX, none, false),
            ("a frame for sending", 4 * frame, 60, none, false),
            ("a frame behind the memory", 8 * frame, 60, none, false),
            ("an address as great as can be", u64::MAX, 60, none, false),
            ("a part of a frame", 256, 60, XdpDescOptions::XDP_PKT_CONTD, false),
        ] {
            let mut queue = alone();
            let mut stats = FramesStats::default();
            queue.received.say(&[XdpDesc { addr, len, options }], 1);
            let mut seen = Vec::new();
            let count = queue.receive(9, &mut stats, &mut |bytes, _| seen.push(bytes.len()));
            let expected = if good { vec![len as usize] } else { Vec::new() };
            assert_eq!((count.unwrap(), seen), (usize::from(good), expected), "{what}");
            assert_eq!((stats.received, stats.malformed), (u64::from(good), u64::from(!good)), "{what}");
            assert_eq!(queue.fill.pending(), u32::from(good), "{what}: only a good one is given back");
        }
    }

    #[test]
    fn only_a_frame_that_is_lent_comes_back_and_only_once() {
        let mut queue = alone();
        let mut stats = FramesStats::default();
        assert!(queue.transmit(60, |bytes| bytes.fill(1)));
        assert_eq!(queue.free.len(), 3);
        let frame = FRAME_BYTES as u64;
        // Not lent, for receiving, not there at all.
        queue.completed.say(&[4 * frame, 0, 8 * frame, u64::MAX], 4);
        queue.reclaim(&mut stats);
        assert_eq!((queue.free.len(), stats.malformed), (3, 4));
        queue.completed.say(&[7 * frame, 7 * frame], 6);
        queue.reclaim(&mut stats);
        assert_eq!((queue.free.clone(), stats.malformed), (vec![4, 5, 6, 7], 5));
    }
}
