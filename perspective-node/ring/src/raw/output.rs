//! Where the stack puts frames, and the one form in which it composes them.
//!
//! Leaves out moving them.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol, IpRepr};
use std::net::IpAddr;

/// Octets of an Ethernet header.
pub(super) const ETHERNET_HEADER: usize = EthernetFrame::<&[u8]>::header_len();

/// Hop limit of everything but neighbour discovery.
pub(super) const HOP_LIMIT: u8 = 64;

/// Frames on their way out, between the stack that writes them and the frame
/// layer that takes them: the stack answers while the frame layer is lending
/// out what it has received.
///
/// Invariant: frames leave in the order they were written, and none is longer
/// than what the frame layer takes: the first would hold up all others for good.
pub(super) struct Outbox {
    longest: usize,
    bytes: Vec<u8>,
    /// Ends in `bytes`, of each frame.
    ends: Vec<usize>,
}

impl Outbox {
    /// Frames at a time; what is more waits with whoever wants to send it.
    const FRAMES_MAX: usize = 1024;

    /// Of frames of at most `longest` octets.
    pub(super) fn new(longest: usize) -> Outbox {
        Outbox { longest, bytes: Vec::new(), ends: Vec::new() }
    }

    /// Whether a frame would be taken now.
    pub(super) fn room(&self) -> bool {
        self.ends.len() < Outbox::FRAMES_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A frame of `len` octets, all zero, to be written; `None` if there is no
    /// room, or never will be for one so long.
    pub(super) fn frame(&mut self, len: usize) -> Option<&mut [u8]> {
        if !self.room() || len > self.longest {
            return None;
        }
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        self.ends.push(self.bytes.len());
        self.bytes.get_mut(start..)
    }

    /// Hands frames to `take` until it refuses one; that one and those after it
    /// stay.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&[u8]) -> bool) {
        let (mut start, mut taken) = (0, 0);
        for &end in &self.ends {
            if !take(self.bytes.get(start..end).unwrap_or_default()) {
                break;
            }
            start = end;
            taken += 1;
        }
        if taken == self.ends.len() {
            self.bytes.clear();
            self.ends.clear();
        } else if taken > 0 {
            self.bytes.drain(..start);
            self.ends.drain(..taken);
            self.ends.iter_mut().for_each(|end| *end -= start);
        }
    }
}

/// From us to a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) from: EthernetAddress,
    pub(super) to: EthernetAddress,
}

impl Wire {
    /// Writes an Ethernet header; the rest of the frame is left as it is.
    pub(super) fn emit(self, protocol: EthernetProtocol, frame: &mut [u8]) {
        let mut frame = EthernetFrame::new_unchecked(frame);
        frame.set_src_addr(self.from);
        frame.set_dst_addr(self.to);
        frame.set_ethertype(protocol);
    }
}

/// What an Ethernet header says of an IP packet.
pub(super) fn protocol_of(address: IpAddr) -> EthernetProtocol {
    if address.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 }
}

/// Who a packet is from and to, and what it carries.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    pub(super) wire: Wire,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) protocol: IpProtocol,
    pub(super) hop_limit: u8,
}

impl Envelope {
    /// Sends a packet whose payload `fill` writes; false if there was no room.
    pub(super) fn send(self, payload: usize, out: &mut Outbox, fill: impl FnOnce(&mut [u8])) -> bool {
        let header = IpRepr::new(self.from.into(), self.to.into(), self.protocol, payload, self.hop_limit);
        let start = ETHERNET_HEADER + header.header_len();
        let Some(frame) = out.frame(start + payload) else { return false };
        self.wire.emit(protocol_of(self.to), frame);
        let Some((headers, rest)) = frame.split_at_mut_checked(start) else { return false };
        let Some(ip) = headers.get_mut(ETHERNET_HEADER..) else { return false };
        header.emit(ip, &ChecksumCapabilities::default());
        fill(rest);
        true
    }
}
