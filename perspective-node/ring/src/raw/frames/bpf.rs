//! The four uses of bpf(2) that an XDP program needs.
//!
//! Leaves out what the program does, and pinning: everything made here goes
//! with its descriptor.
//!
//! The structures are the beginnings of `union bpf_attr` (include/uapi/linux/
//! bpf.h). The kernel takes the length of what it is given, and zeros for the
//! members that follow.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::interface::last_errno;
use super::program::Instruction;

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_PROG_LOAD: u32 = 5;
const BPF_LINK_CREATE: u32 = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// Of the verifier's log; the end of it says why.
const LOG_BYTES: usize = 64 << 10;
const LOG_END: usize = 600;
const NAME: [u8; 16] = *b"parallax_frames\0";
/// `bpf_redirect_map` asks for no licence in particular.
const LICENCE: &std::ffi::CStr = c"Apache-2.0 OR MIT";

#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
///
/// `T` must be what `command` takes, and addresses in it must be good for what
/// the kernel does with them, until the call returns.
unsafe fn bpf<T>(command: u32, attributes: &T) -> Result<i64, Errno> {
    // SAFETY: the structure is borrowed and of this size; the rest is what the
    // caller promised.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) };
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// The same for commands that return a descriptor.
///
/// # Safety
///
/// As for [`bpf`], and the command must return a new descriptor.
unsafe fn bpf_descriptor<T>(command: u32, attributes: &T) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller promised it.
    let descriptor = unsafe { bpf(command, attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made it (close-on-exec) and gave it to us only.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A map from receive queue to AF_XDP socket.
pub(super) fn socket_map(queues: u32) -> Result<OwnedFd, Errno> {
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: NAME,
    };
    // SAFETY: what BPF_MAP_CREATE takes, without addresses; it returns a descriptor.
    unsafe { bpf_descriptor(BPF_MAP_CREATE, &attributes) }
}

/// Frames redirected on `queue` go to `socket` from now on.
pub(super) fn set_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let value = socket.as_raw_fd() as u32;
    let attributes = MapUpdate {
        map_fd: map.as_raw_fd() as u32,
        padding: 0,
        key: (&raw const queue) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    // SAFETY: what BPF_MAP_UPDATE_ELEM takes; key and value are four octets
    // each, as the map has them, only read, and live during the call.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attributes) }.map(drop)
}

/// Loads an XDP program; with the error comes the end of the verifier's log,
/// empty if the verifier was not reached.
pub(super) fn load(program: &[Instruction]) -> Result<OwnedFd, (Errno, String)> {
    let quiet = load_logging(program, &mut []);
    quiet.or_else(|errno| {
        let mut log = vec![0; LOG_BYTES];
        // Once more for the reason; if it is accepted now, all the better.
        load_logging(program, &mut log).map_err(|_| (errno, log_end(&log)))
    })
}

fn load_logging(program: &[Instruction], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let log_buf = if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 };
    let attributes = ProgramLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: LICENCE.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf,
        kern_version: 0,
        prog_flags: 0,
        prog_name: NAME,
        prog_ifindex: 0,
        expected_attach_type: BPF_XDP,
    };
    // SAFETY: what BPF_PROG_LOAD takes. The instructions are in the kernel's
    // layout and as many as said, the licence ends with a zero, the log is
    // borrowed mutably and as long as said.
    unsafe { bpf_descriptor(BPF_PROG_LOAD, &attributes) }
}

fn log_end(log: &[u8]) -> String {
    let log = log.split(|octet| *octet == 0).next().unwrap_or_default();
    let end = log.get(log.len().saturating_sub(LOG_END)..).unwrap_or_default();
    String::from_utf8_lossy(end).trim().to_owned()
}

/// Attaches a program to an interface until the descriptor is closed.
pub(super) fn attach(program: BorrowedFd<'_>, interface: u32, flags: u32) -> Result<OwnedFd, Errno> {
    let attributes =
        LinkCreate { prog_fd: program.as_raw_fd() as u32, target_ifindex: interface, attach_type: BPF_XDP, flags };
    // SAFETY: what BPF_LINK_CREATE takes, without addresses; it returns a descriptor.
    unsafe { bpf_descriptor(BPF_LINK_CREATE, &attributes) }
}
