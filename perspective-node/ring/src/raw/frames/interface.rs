//! What must be known of an interface, and the groups joined on it.
//!
//! Asked through a socket and not read from /sys: what /sys shows belongs to
//! the namespace it was mounted in, a socket to the one it was made in.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::MTU_MAX;
use super::error::{FramesError, Step, explain};

#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) hardware_address: [u8; 6],
    /// In octets of IP packet, at most [`MTU_MAX`].
    pub(super) mtu: usize,
}

impl Interface {
    /// An Ethernet interface that is up.
    pub(super) fn find(name: &str) -> Result<Interface, FramesError> {
        let fail = |errno| explain(name, Step::AskInterface, errno);
        let no_interface = || FramesError::NoInterface { interface: name.to_owned() };
        let mut request = request(name).ok_or_else(no_interface)?;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(fail)?;
        let index = name_to_index(&socket, name).map_err(fail)?;

        ask(socket.as_fd(), libc::SIOCGIFFLAGS as _, &mut request).map_err(fail)?;
        // SAFETY: the call filled this member; any bytes are a valid integer.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & libc::IFF_UP == 0 {
            return Err(FramesError::Down { interface: name.to_owned() });
        }
        ask(socket.as_fd(), libc::SIOCGIFMTU as _, &mut request).map_err(fail)?;
        // SAFETY: as above.
        let mtu = usize::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0).min(MTU_MAX);
        ask(socket.as_fd(), libc::SIOCGIFHWADDR as _, &mut request).map_err(fail)?;
        // SAFETY: as above; `sockaddr` is integers too.
        let hardware = unsafe { request.ifr_ifru.ifru_hwaddr };
        // The loopback device has Ethernet headers, with addresses of zeros.
        if ![libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&hardware.sa_family) {
            let hardware_type = hardware.sa_family;
            return Err(FramesError::NotEthernet { interface: name.to_owned(), hardware_type });
        }
        let mut hardware_address = [0; 6];
        for (to, from) in hardware_address.iter_mut().zip(hardware.sa_data) {
            *to = from as u8;
        }
        Ok(Interface { name: name.to_owned(), index, hardware_address, mtu })
    }

    /// Joins the Ethernet groups of the solicited-node addresses (RFC 4291
    /// §2.7.1, RFC 2464 §7), for as long as the socket lives.
    pub(super) fn join(&self, socket: BorrowedFd<'_>, addresses: &[IpAddr]) -> Result<(), FramesError> {
        for address in addresses {
            let IpAddr::V6(address) = address else { continue };
            let [.., a, b, c] = address.octets();
            let group = libc::packet_mreq {
                mr_ifindex: self.index as i32,
                mr_type: libc::PACKET_MR_MULTICAST as _,
                mr_alen: 6,
                mr_address: [0x33, 0x33, 0xff, a, b, c, 0, 0],
            };
            set_option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &group)
                .map_err(|errno| explain(&self.name, Step::JoinGroups, errno))?;
        }
        Ok(())
    }
}

/// An AF_PACKET socket that gets no frame yet.
pub(super) fn packet_socket(interface: &str) -> Result<OwnedFd, FramesError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 gets no frames; the filter must be in place before the first.
    socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)
        .map_err(|errno| explain(interface, Step::PacketSocket, errno))
}

/// `None` if the name is too long to be one.
fn request(name: &str) -> Option<libc::ifreq> {
    // SAFETY: integers and unions of integers; zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero.
    if name.len() >= request.ifr_name.len() || name.is_empty() || name.contains('\0') {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as _;
    }
    Some(request)
}

fn ask(socket: BorrowedFd<'_>, what: libc::Ioctl, request: &mut libc::ifreq) -> Result<(), Errno> {
    // SAFETY: these calls read the name and write the union of one `ifreq`,
    // which is borrowed mutably.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, request as *mut libc::ifreq) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Sets an option whose value is a plain structure or integer. The kernel only
/// reads it; what it points to must be what the option says.
pub(super) fn set_option<T: Copy>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> Result<(), Errno> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is borrowed and `len` bytes long; the kernel copies it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (value as *const T).cast(), len) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}
