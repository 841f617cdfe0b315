//! Frames by AF_XDP: a program on the interface picks ours, and each receive
//! queue has a socket they are redirected to.
//!
//! All sockets are drained in turn by one thread. Frames are sent on the first
//! queue; the rings of the others hold only what is received.
//!
//! A peer on the same host, at the other end of a veth pair, may leave checksums
//! to the device; they are then missing from what is received here (`ethtool -K
//! <the peer's end> tx off` makes it compute them).
//!
//! Leaves out the words of the program (`program`), bpf(2) (`bpf`), one socket
//! ([`queue`]) and its rings ([`ring`]).
//!
//! Invariant: the fields of [`Xdp`] are dropped in their order, the attachment
//! first, so that no frame is redirected to a socket that is gone.

mod queue;
mod ring;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::xdp::SocketAddrXdpFlags;

use super::error::{FramesError, Step, explain};
use super::interface::{Interface, packet_socket};
use super::{Checksum, FramesConfig, FramesStats, bpf, program};
use queue::{Queue, Sizes};

/// The most receive queues an interface may have.
const QUEUES_MAX: u32 = 256;
/// The least frames a queue receives into; as many as a driver takes at once.
const QUEUE_RECEIVE_MIN: u32 = 64;

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attach {
    /// In the driver.
    Native,
    /// In the kernel's common path, with an skb; for drivers that cannot.
    Generic,
}

impl Attach {
    /// The best first.
    pub(super) const ALL: [Attach; 2] = [Attach::Native, Attach::Generic];

    const fn name(self) -> &'static str {
        match self {
            Attach::Native => "native",
            Attach::Generic => "generic",
        }
    }

    /// `XDP_FLAGS_DRV_MODE` and `XDP_FLAGS_SKB_MODE`.
    const fn flags(self) -> u32 {
        match self {
            Attach::Native => 1 << 2,
            Attach::Generic => 1 << 1,
        }
    }

    /// How to bind the sockets, the best first.
    const fn modes(self) -> &'static [SocketAddrXdpFlags] {
        match self {
            Attach::Native => &[SocketAddrXdpFlags::XDP_ZEROCOPY, SocketAddrXdpFlags::XDP_COPY],
            Attach::Generic => &[SocketAddrXdpFlags::XDP_COPY],
        }
    }
}

#[derive(Debug)]
pub(super) struct Xdp {
    /// Closing it detaches the program.
    _link: OwnedFd,
    /// Never empty.
    queues: Vec<Queue>,
    /// Holds the group memberships.
    _control: OwnedFd,
    attach: Attach,
    /// The queue to drain first, next time.
    turn: usize,
    stats: FramesStats,
}

impl Xdp {
    pub(super) fn open(interface: &Interface, config: &FramesConfig<'_>, ways: &[Attach]) -> Result<Xdp, FramesError> {
        let control = packet_socket(&interface.name)?;
        interface.join(control.as_fd(), config.addresses)?;
        let fail = |step| move |errno| explain(&interface.name, step, errno);
        let map = bpf::socket_map(QUEUES_MAX).map_err(fail(Step::SocketMap))?;
        let program = load(interface, config, &map)?;
        // The sockets come after the program: its mode tells how to bind, and
        // another program is noticed first. Until a queue has its socket, its
        // frames pass on to the kernel.
        let (link, attach) = attach(interface, &program, ways)?;
        let count = count_queues(interface)?;
        let queues = open_queues(interface, config.frames, count, attach)?;
        for (index, queue) in (0..).zip(&queues) {
            bpf::set_socket(map.as_fd(), index, queue.descriptor()).map_err(fail(Step::SocketMap))?;
        }
        Ok(Xdp { _link: link, queues, _control: control, attach, turn: 0, stats: FramesStats::default() })
    }

    pub(super) fn describe(&self) -> String {
        let zero_copy = self.queues.iter().all(Queue::is_zero_copy);
        format!("xdp, {}, {}", self.attach.name(), if zero_copy { "zero-copy" } else { "copy" })
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.queues.iter().map(Queue::descriptor)
    }

    /// Starts with another queue each time, so that none is starved by a small
    /// budget.
    pub(super) fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8], Checksum)) -> io::Result<usize> {
        let first = self.turn;
        self.turn = (first + 1) % self.queues.len();
        let (before, after) = self.queues.split_at_mut(first);
        let mut count = 0;
        for queue in after.iter_mut().chain(before) {
            count += queue.receive(budget - count, &mut self.stats, sink)?;
            if count == budget {
                break;
            }
        }
        Ok(count)
    }

    pub(super) fn transmit(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let queued = self.queues.first_mut().is_some_and(|queue| queue.transmit(len, fill));
        self.stats.transmitted += u64::from(queued);
        queued
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.queues.first_mut().map_or(Ok(()), |queue| queue.flush(&mut self.stats))
    }

    #[cfg(test)]
    pub(super) fn room(&self) -> bool {
        self.queues.first().is_some_and(Queue::room)
    }

    pub(super) fn stats(&self) -> FramesStats {
        FramesStats { kernel_drops: self.queues.iter().map(Queue::kernel_drops).sum(), ..self.stats }
    }
}

fn load(interface: &Interface, config: &FramesConfig<'_>, map: &OwnedFd) -> Result<OwnedFd, FramesError> {
    let program = program::assemble(config.addresses, interface.hardware_address, map.as_raw_fd());
    bpf::load(&program).map_err(|(errno, log)| {
        if log.is_empty() {
            explain(&interface.name, Step::LoadProgram, errno)
        } else {
            FramesError::Verifier { interface: interface.name.clone(), errno, log }
        }
    })
}

/// Attaches the program in the first way that the interface can do.
fn attach(interface: &Interface, program: &OwnedFd, ways: &[Attach]) -> Result<(OwnedFd, Attach), FramesError> {
    let mut refused = Errno::OPNOTSUPP;
    for way in ways {
        match bpf::attach(program.as_fd(), interface.index, way.flags()) {
            Ok(link) => return Ok((link, *way)),
            // With these another way cannot work either, or must not.
            Err(errno @ (Errno::BUSY | Errno::EXIST | Errno::PERM | Errno::NODEV)) => {
                return Err(explain(&interface.name, Step::AttachProgram, errno));
            }
            // No driver support (EOPNOTSUPP), or not with these features or
            // this MTU (each driver has an errno of its own).
            Err(errno) => refused = errno,
        }
    }
    Err(explain(&interface.name, Step::AttachProgram, refused))
}

/// How many queues the interface has, found by binding a small socket to one
/// after the other. Neither ethtool nor netlink tells it for every driver, and
/// /sys shows another namespace's interfaces. In copy mode a bind does not
/// touch the driver, and the kernel allows it for each queue of either
/// direction, so that some that never receive may be counted.
fn count_queues(interface: &Interface) -> Result<u32, FramesError> {
    let sizes = Sizes { receive: 2, transmit: 0 };
    for queue in 0..QUEUES_MAX {
        match Queue::open(interface, queue, SocketAddrXdpFlags::XDP_COPY, sizes) {
            Ok(_) => {}
            Err(FramesError::Other { step: Step::Bind, ref source, .. })
                if queue > 0 && source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) =>
            {
                return Ok(queue);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(QUEUES_MAX)
}

/// A socket on each queue, all in the same mode.
fn open_queues(interface: &Interface, frames: u32, count: u32, attach: Attach) -> Result<Vec<Queue>, FramesError> {
    let transmit = frames / 2;
    let each = (transmit / count).max(1);
    // Rounded down to a power of two, as rings are.
    let receive = (1 << each.ilog2()).max(QUEUE_RECEIVE_MIN.min(transmit));
    let open = |mode: SocketAddrXdpFlags| {
        let sizes = |queue| Sizes { receive, transmit: if queue == 0 { transmit } else { 0 } };
        (0..count).map(|queue| Queue::open(interface, queue, mode, sizes(queue))).collect::<Result<Vec<_>, _>>()
    };
    let mut result = Ok(Vec::new());
    for mode in attach.modes() {
        result = open(*mode);
        match &result {
            // The driver cannot do it in this mode; the next may work.
            Err(FramesError::NoXdp { .. } | FramesError::Other { .. }) => {}
            _ => return result,
        }
    }
    result
}
