//! What routers and hosts say when a packet could not be delivered.
//!
//! Leaves out whom it concerns. The meaning of each code is what Linux makes
//! of it, so that both transports tell the same story.
//!
//! Invariant: a quoted packet says which flow is meant and nothing else; it was
//! sent by anybody.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use smoltcp::wire::{IpProtocol, Ipv4Packet};

/// The packet a message is about, as quoted there: one of ours, if it is true.
pub(super) struct Quoted {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) protocol: IpProtocol,
    /// The sequence number, if it was a segment.
    pub(super) sequence: u32,
}

impl Quoted {
    /// Reads a quoted IPv4 packet, of which routers leave as much as they like;
    /// a check of its length against its header would refuse most.
    pub(super) fn v4(packet: &[u8]) -> Option<Quoted> {
        let header = packet.first_chunk::<20>()?;
        let ip = Ipv4Packet::new_unchecked(header);
        // The ports are in the first fragment.
        if ip.version() != 4 || usize::from(ip.header_len()) < header.len() || ip.frag_offset() != 0 {
            return None;
        }
        let data = packet.get(usize::from(ip.header_len())..)?;
        Quoted::new(ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), data)
    }

    /// Reads ports and sequence number out of the first eight octets, which
    /// every message quotes (RFC 792).
    pub(super) fn new(from: IpAddr, to: IpAddr, protocol: IpProtocol, data: &[u8]) -> Option<Quoted> {
        let &[a, b, c, d, e, f, g, h] = data.first_chunk::<8>()?;
        Some(Quoted {
            from: SocketAddr::new(from, u16::from_be_bytes([a, b])),
            to: SocketAddr::new(to, u16::from_be_bytes([c, d])),
            protocol,
            sequence: u32::from_be_bytes([e, f, g, h]),
        })
    }
}

/// Why, and whether waiting is pointless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) errno: Errno,
    /// Ends a datagram's wait; what is not hard may pass.
    pub(super) hard: bool,
}

impl Reason {
    /// The codes of ICMP type 3 (RFC 792, RFC 1122 §3.2.2.1).
    pub(super) fn v4(code: u8) -> Option<Reason> {
        let (errno, hard) = match code {
            0 | 11 => (Errno::NETUNREACH, false),
            1 | 12 => (Errno::HOSTUNREACH, false),
            2 => (Errno::NOPROTOOPT, true),
            3 => (Errno::CONNREFUSED, true),
            6 | 9 => (Errno::NETUNREACH, true),
            7 => (Errno::HOSTDOWN, true),
            8 => (Errno::NONET, true),
            10 | 13..=15 => (Errno::HOSTUNREACH, true),
            // 4: too large for the way; what we send fits the smallest. 5: source routes.
            _ => return None,
        };
        Some(Reason { errno, hard })
    }

    /// The codes of ICMPv6 type 1 (RFC 4443 §3.1).
    pub(super) fn v6(code: u8) -> Option<Reason> {
        let (errno, hard) = match code {
            0 => (Errno::NETUNREACH, false),
            2 | 3 => (Errno::HOSTUNREACH, false),
            4 => (Errno::CONNREFUSED, true),
            1 | 5 | 6 => (Errno::ACCESS, true),
            _ => return None,
        };
        Some(Reason { errno, hard })
    }
}
