//! Why a ring could not be made, in words an operator can act on.
//!
//! Where io_uring cannot be had the words name the other driver too; to choose
//! it is up to whoever reads them.
//!
//! Leaves out errors of sockets: those are `io::Error`, as the kernel gave them.

use std::io;

use rustix::io::Errno;

use crate::raw::{FramesError, RawConfigError};

/// Setting up the ring failed.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// `ENOSYS`: the system call does not exist.
    #[error(
        "this kernel has no io_uring (ENOSYS): it was built without CONFIG_IO_URING, or a sandbox \
         such as gVisor hides it; run on Linux 6.1 or later with io_uring enabled, or choose the epoll \
         driver (driver = \"epoll\")"
    )]
    NoIoUring,
    /// `EPERM` or `EACCES`: something forbids the system call.
    #[error(
        "io_uring is forbidden for this process (EPERM): either the sysctl kernel.io_uring_disabled \
         is not 0 (check with `sysctl kernel.io_uring_disabled`, enable with `sysctl -w \
         kernel.io_uring_disabled=0`), or the container's seccomp profile blocks it, as Docker and \
         containerd do by default; allow the system calls io_uring_setup, io_uring_enter and \
         io_uring_register in the profile, or choose the epoll driver (driver = \"epoll\")"
    )]
    Forbidden,
    /// `ENOMEM`: the ring's memory could not be had or locked.
    #[error(
        "not enough memory for the ring (ENOMEM): raise RLIMIT_MEMLOCK (LimitMEMLOCK= in the systemd \
         unit, --ulimit memlock= for a container) or the memory limit of the control group, or use a \
         smaller ring"
    )]
    MemoryLimit,
    /// `EINVAL`: a setup flag is unknown.
    #[error(
        "the kernel refuses the ring's setup flags (EINVAL): SINGLE_ISSUER and DEFER_TASKRUN need \
         Linux 6.1 or later; upgrade the kernel, or choose the epoll driver (driver = \"epoll\")"
    )]
    KernelTooOld,
    /// `EMFILE` or `ENFILE`: no descriptor left.
    #[error(
        "no file descriptor left for the ring (EMFILE or ENFILE): raise RLIMIT_NOFILE (LimitNOFILE= \
         in the systemd unit) or fs.file-max"
    )]
    Descriptors,
    /// The kernel's probe says an operation is missing.
    #[error(
        "this kernel's io_uring lacks the operation {0}; run on Linux 6.1 or later, or lift the \
         restriction that hides the operation, or choose the epoll driver (driver = \"epoll\")"
    )]
    MissingOperation(&'static str),
    /// The kernel does not announce a feature.
    #[error(
        "this kernel's io_uring lacks the feature {0}; run on Linux 6.1 or later, or choose the epoll \
         driver (driver = \"epoll\")"
    )]
    MissingFeature(&'static str),
    /// The settings make no ring.
    #[error("ring settings: {0}")]
    Config(&'static str),
    /// The settings make no raw transport.
    #[error("raw transport: {0}")]
    RawConfig(#[from] RawConfigError),
    /// The interface cannot be had.
    #[error("raw transport: {0}")]
    Frames(#[from] FramesError),
    /// What the kernel said to the epoll driver.
    #[error("setting up epoll failed: {0}")]
    Epoll(#[source] io::Error),
    /// Anything else the kernel said to the io_uring driver.
    #[error("setting up io_uring failed: {0}")]
    Other(#[source] io::Error),
}

/// What an errno from `io_uring_setup` or `io_uring_register` means.
pub fn explain_setup_error(errno: i32) -> RingError {
    match Errno::from_raw_os_error(errno) {
        Errno::NOSYS => RingError::NoIoUring,
        Errno::PERM | Errno::ACCESS => RingError::Forbidden,
        Errno::NOMEM => RingError::MemoryLimit,
        Errno::INVAL => RingError::KernelTooOld,
        Errno::MFILE | Errno::NFILE => RingError::Descriptors,
        _ => RingError::Other(io::Error::from_raw_os_error(errno)),
    }
}

pub(crate) fn setup_error(error: io::Error) -> RingError {
    match error.raw_os_error() {
        Some(errno) => explain_setup_error(errno),
        None => RingError::Other(error),
    }
}

/// The same for what the epoll driver needs.
pub(crate) fn epoll_error(error: io::Error) -> RingError {
    match Errno::from_io_error(&error) {
        Some(Errno::MFILE | Errno::NFILE) => RingError::Descriptors,
        _ => RingError::Epoll(error),
    }
}
