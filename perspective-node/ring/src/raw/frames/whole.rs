//! All frames of one interface, in and out, as they are: for laboratories that
//! play a network between two interfaces.
//!
//! Leaves out filters and rings: a node's frames go by [`super::Frames`]. The
//! network beyond must leave nothing for hardware to do: with checksums or
//! segments offloaded, frames here are not yet what goes over a wire
//! (`ethtool -K … tx off`).
//!
//! - Invariant: what is sent here is not received here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::error::{FramesError, Step, explain};
use super::interface::{Interface, packet_socket, set_option};
use super::{is_later, packet};

/// Bursts of this many octets are not lost, where the right to say so is had.
const BUFFER_BYTES: usize = 16 << 20;

/// All frames of one Ethernet interface of the network namespace that the
/// opening thread was in. Nothing here waits.
#[derive(Debug)]
pub struct FrameSocket {
    socket: OwnedFd,
    mtu: usize,
}

impl FrameSocket {
    /// Opens an Ethernet interface that is up; frames to any hardware address
    /// are seen from here on.
    ///
    /// # Errors
    /// There is no such interface, it is down, or `CAP_NET_RAW` is missing.
    pub fn open(interface: &str) -> Result<FrameSocket, FramesError> {
        let interface = Interface::find(interface)?;
        let socket = packet_socket(&interface.name)?;
        let name = interface.name.as_str();
        let fail = |step| move |errno| explain(name, step, errno);
        let all = libc::packet_mreq {
            mr_ifindex: interface.index as i32,
            mr_type: libc::PACKET_MR_PROMISC as _,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &all)
            .map_err(fail(Step::PacketOptions))?;
        set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)
            .map_err(fail(Step::PacketOptions))?;
        // Without CAP_NET_ADMIN a burst may be cut; no error.
        let _ = set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
        let _ = set_socket_send_buffer_size_force(&socket, BUFFER_BYTES);
        packet::bind(socket.as_fd(), &interface).map_err(fail(Step::Bind))?;
        Ok(FrameSocket { socket, mtu: interface.mtu })
    }

    /// Of the interface, in octets of IP packet.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// The next frame, from its Ethernet header on; `None` if none waits. One
    /// that is longer than the buffer is an error of the kind `InvalidData`, and
    /// is gone.
    ///
    /// # Errors
    /// What the kernel says, such as that the interface went down.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, length)) => match buffer.get(..length) {
                Some(frame) => Ok(Some(frame)),
                None => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame longer than the buffer")),
            },
            Err(errno) if is_later(errno) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends a frame; false if there is no room for it now.
    ///
    /// # Errors
    /// What the kernel says, such as that the frame is longer than the MTU.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match send(&self.socket, frame, SendFlags::DONTWAIT) {
            Ok(_) => Ok(true),
            Err(errno) if is_later(errno) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for FrameSocket {
    /// To be polled for readability.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::namespace::{Wire, run};

    fn next(socket: &FrameSocket, of: [u8; 2]) -> Option<Vec<u8>> {
        let mut buffer = [0; 2048];
        for _ in 0..200 {
            // The kernel sends frames of its own.
            while let Some(frame) = socket.receive(&mut buffer).expect("the interface is up") {
                if frame.get(12..14) == Some(&of) {
                    return Some(frame.to_vec());
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        None
    }

    #[test]
    fn frames_to_anybody_come_whole_and_none_comes_back() {
        run(|| {
            let _wire = Wire::make();
            let (one, other) = (FrameSocket::open(Wire::RAW).unwrap(), FrameSocket::open(Wire::PEER).unwrap());
            // An experimental ethertype (RFC 7042 appendix B), to somebody who is not there.
            let of = [0x88, 0xb5];
            let frame = [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8][..], &of, &[7; 300]].concat();
            assert!(one.send(&frame).unwrap());
            assert_eq!(next(&other, of).as_ref(), Some(&frame));
            assert_eq!(next(&one, of), None, "what was sent here");
            assert!(one.send(&vec![0; one.mtu() + 15]).is_err(), "longer than the MTU");
            let mut small = [0; 100];
            assert!(one.send(&frame).unwrap());
            let cut = (0..200).find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                other.receive(&mut small).err()
            });
            assert_eq!(cut.map(|error| error.kind()), Some(io::ErrorKind::InvalidData));
        });
    }

    #[test]
    fn what_cannot_be_opened_is_said() {
        run(|| {
            let error = FrameSocket::open("nowhere0").unwrap_err();
            assert!(matches!(error, FramesError::NoInterface { .. }), "{error}");
        });
    }
}
