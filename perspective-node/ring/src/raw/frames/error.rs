//! Why frames cannot be had from an interface, in words an operator can act on.
//!
//! Leaves out errors while frames are moved: those are `io::Error`, as the
//! kernel gave them.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// Opening an interface for frames failed.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// The settings make no sense.
    #[error("frame settings: {0}")]
    Config(&'static str),
    /// `ENODEV`: the name is not known.
    #[error("there is no interface {interface} in this network namespace; `ip link` lists those there are")]
    NoInterface {
        /// As given.
        interface: String,
    },
    /// Frames of another kind than Ethernet.
    #[error(
        "interface {interface} carries no Ethernet frames (hardware type {hardware_type}); name an Ethernet \
         interface"
    )]
    NotEthernet {
        /// As given.
        interface: String,
        /// One of `ARPHRD_*`.
        hardware_type: u16,
    },
    /// The interface is administratively down.
    #[error("interface {interface} is down; `ip link set {interface} up` brings it up")]
    Down {
        /// As given.
        interface: String,
    },
    /// `EPERM` or `EACCES`: a right is missing.
    #[error(
        "{step} for interface {interface} is not permitted ({errno}): the process needs {right} (setcap, \
         AmbientCapabilities= in the systemd unit, --cap-add for a container), and no seccomp profile may block \
         the system call"
    )]
    Forbidden {
        /// As given.
        interface: String,
        /// What was being done.
        step: Step,
        /// The capabilities that allow it.
        right: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// `EBUSY` or `EEXIST`: the place of the XDP program is taken.
    #[error(
        "another XDP program is attached to interface {interface} ({errno}): `ip -d link show {interface}` names \
         it; stop what attached it, or `ip link set {interface} xdp off`, or choose the method \"packet\""
    )]
    ProgramAttached {
        /// As given.
        interface: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// `EBUSY`: another AF_XDP socket has the queue.
    #[error(
        "receive queue {queue} of interface {interface} belongs to another AF_XDP socket (EBUSY): stop the program \
         that has it, or choose the method \"packet\""
    )]
    QueueTaken {
        /// As given.
        interface: String,
        /// Its number.
        queue: u32,
    },
    /// `EAFNOSUPPORT`, `ENOSYS` and their like: the kernel cannot do it.
    #[error(
        "this kernel cannot do it: {step} for interface {interface} gives {errno}; AF_XDP needs Linux 6.1 or later \
         with CONFIG_XDP_SOCKETS and CONFIG_BPF_SYSCALL, or choose the method \"packet\""
    )]
    NoXdp {
        /// As given.
        interface: String,
        /// What was being done.
        step: Step,
        /// What the kernel said.
        errno: Errno,
    },
    /// `ENOBUFS` or `ENOMEM`: memory could not be had or locked.
    #[error(
        "not enough memory: {step} for interface {interface} gives {errno}; raise RLIMIT_MEMLOCK (LimitMEMLOCK= in \
         the systemd unit, --ulimit memlock= for a container) or the memory limit of the control group, or use \
         fewer frames"
    )]
    MemoryLimit {
        /// As given.
        interface: String,
        /// What was being done.
        step: Step,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel does not accept our XDP program.
    #[error(
        "the kernel rejects the XDP program for interface {interface} ({errno}); choose the method \"packet\", and \
         report this: {log}"
    )]
    Verifier {
        /// As given.
        interface: String,
        /// What the kernel said.
        errno: Errno,
        /// The end of the verifier's log.
        log: String,
    },
    /// Anything else the kernel said.
    #[error("{step} for interface {interface} failed: {source}")]
    Other {
        /// As given.
        interface: String,
        /// What was being done.
        step: Step,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What was being done when the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A socket to ask about the interface.
    AskInterface,
    /// A socket of the family AF_PACKET.
    PacketSocket,
    /// Its filter, rings and other options.
    PacketOptions,
    /// Joining the groups that neighbour solicitations go to.
    JoinGroups,
    /// A socket of the family AF_XDP.
    XdpSocket,
    /// The memory that holds the frames.
    FrameMemory,
    /// Rings between the kernel and us.
    Rings,
    /// The map from queues to sockets.
    SocketMap,
    /// Loading the XDP program.
    LoadProgram,
    /// Attaching the XDP program.
    AttachProgram,
    /// Binding a socket to a queue, or to the interface.
    Bind,
}

impl Step {
    const fn words(self) -> &'static str {
        match self {
            Step::AskInterface => "asking for its properties",
            Step::PacketSocket => "making an AF_PACKET socket",
            Step::PacketOptions => "setting up the AF_PACKET socket",
            Step::JoinGroups => "joining the groups of neighbour solicitations",
            Step::XdpSocket => "making an AF_XDP socket",
            Step::FrameMemory => "registering the memory of the frames",
            Step::Rings => "setting up the rings",
            Step::SocketMap => "making the map of AF_XDP sockets",
            Step::LoadProgram => "loading the XDP program",
            Step::AttachProgram => "attaching the XDP program",
            Step::Bind => "binding a socket",
        }
    }

    const fn right(self) -> &'static str {
        match self {
            Step::SocketMap => "CAP_BPF and CAP_NET_ADMIN",
            Step::LoadProgram => "CAP_BPF and CAP_NET_ADMIN",
            Step::AttachProgram => "CAP_NET_ADMIN",
            _ => "CAP_NET_RAW",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What an errno at a step means.
pub(super) fn explain(interface: &str, step: Step, errno: Errno) -> FramesError {
    let interface = interface.to_owned();
    match (errno, step) {
        (Errno::NODEV | Errno::NXIO, _) => FramesError::NoInterface { interface },
        (Errno::NETDOWN, _) => FramesError::Down { interface },
        (Errno::PERM | Errno::ACCESS, _) => FramesError::Forbidden { interface, step, right: step.right(), errno },
        (Errno::BUSY | Errno::EXIST, Step::AttachProgram) => FramesError::ProgramAttached { interface, errno },
        (Errno::AFNOSUPPORT | Errno::NOSYS, _) => FramesError::NoXdp { interface, step, errno },
        (Errno::OPNOTSUPP | Errno::NOPROTOOPT, Step::AttachProgram | Step::XdpSocket | Step::Bind) => {
            FramesError::NoXdp { interface, step, errno }
        }
        (Errno::NOBUFS | Errno::NOMEM, _) => FramesError::MemoryLimit { interface, step, errno },
        _ => FramesError::Other { interface, step, source: errno.into() },
    }
}
