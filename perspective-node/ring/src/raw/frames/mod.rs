//! Ethernet frames in and out of one interface, past the kernel's IP stack,
//! for a set of addresses of our own.
//!
//! **Does**: takes from the interface what is meant for our addresses (IPv4 and
//! IPv6 to them, ARP and neighbour solicitations about them) and leaves the
//! rest to the kernel; sends frames as they are given.
//!
//! **Two methods** do the same: [`xdp`] (AF_XDP), and [`packet`] (AF_PACKET)
//! for kernels or rights that do not allow the first. Nothing falls back from
//! one to the other silently.
//!
//! **Leaves out**: what the frames mean, ARP, fragments, VLANs (a tagged frame
//! stays with the kernel), several interfaces, promiscuous mode.
//!
//! - Invariant: bytes are handed out only during the sink's call, and their
//!   memory goes back to the kernel whatever the sink does.
//! - Invariant: what a ring shared with the kernel says is checked before it
//!   becomes a slice; what does not hold is counted and dropped.
//! - Invariant: a frame is taken only if its destination is the hardware
//!   address the interface had when opened, or a group.
//! - Invariant: dropping [`Frames`], or an open that fails, leaves nothing
//!   behind: the program, the group memberships and the memory are bound to
//!   descriptors and mappings we own.

mod bpf;
mod error;
mod filter;
mod interface;
mod method;
mod packet;
mod program;
#[cfg(test)]
mod tests;
mod whole;
mod xdp;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use rustix::net::sockopt::socket_error;

pub use error::{FramesError, Step as FramesStep};
pub use method::{FrameMethod, UnknownFrameMethod};
pub use whole::FrameSocket;

use interface::Interface;

/// The most addresses of [`FramesConfig::addresses`]; bounds the length of the
/// filter programs.
pub(crate) const ADDRESSES_MAX: usize = 64;
/// Bounds of [`FramesConfig::frames`]. The lower makes a transmit ring of one
/// 64 KiB page, the upper is 2 GiB.
const FRAMES: std::ops::RangeInclusive<u32> = 64..=1 << 20;
/// Memory of one frame; half a page, as AF_XDP wants it.
const FRAME_BYTES: usize = 2048;
/// Before the IP packet: two hardware addresses and a type.
const ETHERNET_HEADER: usize = 14;
/// Kept free by the kernel before each frame it receives by XDP.
const XDP_HEADROOM: usize = 256;
/// The longest IP packet that fits either way by either method.
const MTU_MAX: usize = FRAME_BYTES - XDP_HEADROOM - ETHERNET_HEADER;

/// What to open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramesConfig<'a> {
    /// Its name in the network namespace of the calling thread.
    pub(crate) interface: &'a str,
    /// Only frames for these are taken: IPv4/IPv6 to them, ARP and NDP about
    /// them. At most [`ADDRESSES_MAX`].
    pub(crate) addresses: &'a [IpAddr],
    /// How frames are moved.
    pub(crate) method: FrameMethod,
    /// Frames in the shared memory, a power of two, half of it for each
    /// direction. The packet method takes at least 512 KiB to receive.
    pub(crate) frames: u32,
}

/// What is known of the transport checksum of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// To be verified.
    Unknown,
    /// The kernel vouches: it verified it, or the frame never left the host
    /// and it was not computed yet.
    Vouched,
}

/// Counters since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesStats {
    /// Frames handed to a sink.
    pub received: u64,
    /// Frames written and queued; one may still be lost after that.
    pub transmitted: u64,
    /// Frames for us that the kernel dropped for want of room.
    pub kernel_drops: u64,
    /// Frames or reports that did not hold what they promised, or were cut.
    pub malformed: u64,
    /// System calls that told the kernel of work.
    pub kicks: u64,
}

/// Frames in and out of one interface. Stays on the thread that opened it.
#[derive(Debug)]
pub(crate) struct Frames {
    interface: Interface,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Xdp(xdp::Xdp),
    Packet(packet::Packet),
}

/// The same call on whichever method there is.
macro_rules! forward {
    ($inner:expr, $frames:ident => $call:expr) => {
        match $inner {
            Inner::Xdp($frames) => $call,
            Inner::Packet($frames) => $call,
        }
    };
}

impl Frames {
    /// Opens the interface by the method asked for and no other.
    pub(crate) fn open(config: &FramesConfig<'_>) -> Result<Frames, FramesError> {
        match config.method {
            FrameMethod::Xdp => Frames::open_xdp(config, &xdp::Attach::ALL),
            FrameMethod::Packet => {
                check(config)?;
                let interface = Interface::find(config.interface)?;
                let inner = Inner::Packet(packet::Packet::open(&interface, config)?);
                Ok(Frames { interface, inner })
            }
        }
    }

    /// The same with only some of the ways to attach, in this order.
    fn open_xdp(config: &FramesConfig<'_>, ways: &[xdp::Attach]) -> Result<Frames, FramesError> {
        check(config)?;
        let interface = Interface::find(config.interface)?;
        let inner = Inner::Xdp(xdp::Xdp::open(&interface, config, ways)?);
        Ok(Frames { interface, inner })
    }

    /// Of the interface.
    pub(crate) fn hardware_address(&self) -> [u8; 6] {
        self.interface.hardware_address
    }

    /// Of the interface, in octets of IP packet; less if a frame holds less.
    pub(crate) fn mtu(&self) -> usize {
        self.interface.mtu
    }

    /// Such as "xdp, native, copy" or "packet"; for logs.
    pub(crate) fn describe(&self) -> String {
        forward!(&self.inner, frames => frames.describe())
    }

    /// Descriptors to poll for readability. An error polled on one stays until
    /// [`Frames::take_error`].
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (queues, socket) = match &self.inner {
            Inner::Xdp(xdp) => (Some(xdp.descriptors()), None),
            Inner::Packet(packet) => (None, Some(packet.descriptor())),
        };
        queues.into_iter().flatten().chain(socket)
    }

    /// Hands at most `budget` frames to the sink and gives their memory back.
    /// The bytes start with the Ethernet header.
    ///
    /// By the packet method a frame may be longer than the MTU: the kernel
    /// merges segments of one TCP flow where the interface has GRO on.
    pub(crate) fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8], Checksum)) -> io::Result<usize> {
        forward!(&mut self.inner, frames => frames.receive(budget, sink))
    }

    /// Tells and clears an error of a descriptor. A call for each, so only to be
    /// asked when one was polled.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        self.descriptors().try_for_each(|descriptor| Ok(socket_error(descriptor)??))
    }

    /// Lets `fill` write one frame of `len` bytes, Ethernet header included;
    /// the bytes it gets hold anything. False, and `fill` is not called, if
    /// there is no room now (then flush and try later), if `len` is more than a
    /// frame holds, or less than an Ethernet header.
    pub(crate) fn transmit(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        if !(ETHERNET_HEADER..=self.interface.mtu + ETHERNET_HEADER).contains(&len) {
            return false;
        }
        forward!(&mut self.inner, frames => frames.transmit(len, fill))
    }

    /// Tells the kernel of what was queued; takes back what has left. What the
    /// kernel cannot take now stays queued for the next flush.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        forward!(&mut self.inner, frames => frames.flush())
    }

    #[cfg(test)]
    /// Whether a transmit would find room.
    pub(crate) fn room(&self) -> bool {
        forward!(&self.inner, frames => frames.room())
    }

    /// Counters since the opening; asks the kernel for its own.
    pub(crate) fn stats(&self) -> FramesStats {
        forward!(&self.inner, frames => frames.stats())
    }
}

/// Errors that mean "not now": the kernel's queues are full.
fn is_later(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(errno, Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR)
}

fn check(config: &FramesConfig<'_>) -> Result<(), FramesError> {
    let is_host = |address: &IpAddr| {
        let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
        !(broadcast || address.is_multicast() || address.is_unspecified())
    };
    let wrong = if !config.frames.is_power_of_two() || !FRAMES.contains(&config.frames) {
        "frames must be a power of two between 64 and 1048576"
    } else if config.addresses.is_empty() || config.addresses.len() > ADDRESSES_MAX {
        "between 1 and 64 addresses are needed"
    } else if !config.addresses.iter().all(is_host) {
        "an address is not one of a single host"
    } else {
        return Ok(());
    };
    Err(FramesError::Config(wrong))
}
