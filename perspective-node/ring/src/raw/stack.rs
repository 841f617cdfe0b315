//! From frames to datagrams and streams, and back: a stack for clients only.
//!
//! Opens no socket and reads no clock: frames, time and randomness come from
//! outside, frames leave through an [`Outbox`]. It listens to nobody, forwards
//! nothing, puts no fragments together, and answers pings and questions for
//! its hardware address. The wire formats and TCP are smoltcp's.
//!
//! - Invariant: a frame is looked at if it is for our hardware address (or is a
//!   question to all) and a packet if it is for one of our addresses; lengths
//!   and checksums are verified before anything in them is used.
//! - Invariant: what a frame can cause is bounded: an event, one answer, or a
//!   step of the one stream it belongs to.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet,
    Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv6Address, Ipv6Packet, NdiscNeighborFlags,
    NdiscRepr,
};

use super::clock::{Agenda, Micros};
use super::config::{RawConfig, is_host};
use super::datagram::Datagrams;
use super::frames::Checksum;
use super::hops::{Ask, Expired, Hops, Known};
use super::output::{ETHERNET_HEADER, Envelope, HOP_LIMIT, Outbox, Wire};
use super::stream::Streams;
use super::unreachable::{Quoted, Reason};
use crate::Sink;
use crate::slots::Key;

/// A hop limit of 255 proves that neighbour discovery crossed no router
/// (RFC 4861 §3.1).
const NEIGHBOUR_HOP_LIMIT: u8 = 255;

/// What was dropped, since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawStats {
    /// Frames and packets that are cut short or contradict themselves.
    pub malformed: u64,
    /// Packets whose checksum is wrong. Many of them on a virtual wire mean
    /// that the other side leaves checksums to hardware that is not there.
    pub checksums: u64,
    /// Fragments; nothing that is asked for comes in fragments.
    pub fragments: u64,
    /// Packets for no datagram socket and no stream.
    pub strangers: u64,
    /// Everything else that nobody here speaks.
    pub unknown: u64,
    /// Frames that had to leave and found no room.
    pub no_room: u64,
}

/// Something to look at at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Hop(IpAddr),
    Stream(Key),
}

pub(super) struct Stack {
    pub(super) config: RawConfig,
    pub(super) hardware: EthernetAddress,
    pub(super) hops: Hops,
    pub(super) agenda: Agenda<Due>,
    pub(super) datagrams: Datagrams,
    pub(super) streams: Streams,
    pub(super) stats: RawStats,
}

/// What a step of the stack works with.
pub(super) struct Turn<'t> {
    pub(super) now: Micros,
    pub(super) out: &'t mut Outbox,
    pub(super) sink: Sink<'t>,
    /// An event was delivered.
    pub(super) visible: bool,
}

impl Turn<'_> {
    pub(super) fn tell(&mut self, event: crate::Event<'_>) {
        self.visible = true;
        (self.sink)(event);
    }
}

/// A packet, without its headers.
pub(super) struct Packet<'p> {
    pub(super) source: EthernetAddress,
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// The packet from its IP header to its end.
    pub(super) whole: &'p [u8],
    pub(super) payload: &'p [u8],
    pub(super) checksum: Checksum,
    hop_limit: u8,
    /// For one of our addresses, in a frame for us alone.
    ours: bool,
}

impl Stack {
    pub(super) fn new(config: RawConfig, hardware: [u8; 6], mtu: usize, send_slots: u32, receive_bytes: u32) -> Stack {
        let streams = Streams::new(&config.addresses, mtu);
        Stack {
            config,
            hardware: EthernetAddress(hardware),
            hops: Hops::new(),
            agenda: Agenda::new(),
            datagrams: Datagrams::new(send_slots, receive_bytes),
            streams,
            stats: RawStats::default(),
        }
    }

    /// When [`Stack::expire`] has something to do.
    pub(super) fn next_due(&self) -> Option<Micros> {
        self.agenda.next()
    }

    /// Does what has become due.
    pub(super) fn expire(&mut self, turn: &mut Turn<'_>) {
        while let Some(due) = self.agenda.due(turn.now) {
            match due {
                Due::Hop(address) => self.expire_hop(address, turn),
                Due::Stream(key) => self.expire_stream(key, turn),
            }
        }
    }

    /// Takes a frame in.
    pub(super) fn input(&mut self, frame: &[u8], checksum: Checksum, turn: &mut Turn<'_>) {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            self.stats.malformed += 1;
            return;
        };
        let to = ethernet.dst_addr();
        let source = ethernet.src_addr();
        if (to != self.hardware && !to.is_multicast() && !to.is_broadcast()) || !source.is_unicast() {
            self.stats.unknown += 1;
            return;
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => self.input_arp(ethernet.payload(), turn),
            // A frame to all must not make everybody answer a packet that is for one (RFC 1122 §3.3.6).
            EthernetProtocol::Ipv4 if to == self.hardware => {
                self.input_ipv4(source, ethernet.payload(), checksum, turn);
            }
            EthernetProtocol::Ipv6 => {
                let alone = to == self.hardware;
                self.input_ipv6((source, alone), ethernet.payload(), checksum, turn);
            }
            _ => self.stats.unknown += 1,
        }
    }

    fn input_ipv4(&mut self, source: EthernetAddress, bytes: &[u8], checksum: Checksum, turn: &mut Turn<'_>) {
        let Ok(ip) = Ipv4Packet::new_checked(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        let (from, to) = (IpAddr::V4(ip.src_addr()), IpAddr::V4(ip.dst_addr()));
        if ip.version() != 4 || !is_host(from) {
            self.stats.malformed += 1;
            return;
        }
        if !self.config.addresses.contains(&to) {
            self.stats.unknown += 1;
            return;
        }
        if !ip.verify_checksum() {
            self.stats.checksums += 1;
            return;
        }
        if ip.more_frags() || ip.frag_offset() != 0 {
            self.stats.fragments += 1;
            return;
        }
        let whole = bytes.get(..usize::from(ip.total_len())).unwrap_or_default();
        let payload = ip.payload();
        let packet = Packet { source, from, to, whole, payload, checksum, hop_limit: ip.hop_limit(), ours: true };
        match ip.next_header() {
            IpProtocol::Udp => self.input_datagram(&packet, turn),
            IpProtocol::Tcp => self.input_segment(&packet, turn),
            IpProtocol::Icmp => self.input_icmpv4(&packet, turn),
            _ => self.stats.unknown += 1,
        }
    }

    fn input_ipv6(
        &mut self,
        (source, alone): (EthernetAddress, bool),
        bytes: &[u8],
        checksum: Checksum,
        turn: &mut Turn<'_>,
    ) {
        let Ok(ip) = Ipv6Packet::new_checked(bytes) else {
            self.stats.malformed += 1;
            return;
        };
        let (from, to) = (IpAddr::V6(ip.src_addr()), IpAddr::V6(ip.dst_addr()));
        if ip.version() != 6 || from.is_multicast() {
            self.stats.malformed += 1;
            return;
        }
        let ours = alone && self.config.addresses.contains(&to);
        let whole = bytes.get(..ip.total_len()).unwrap_or_default();
        let payload = ip.payload();
        let packet = Packet { source, from, to, whole, payload, checksum, hop_limit: ip.hop_limit(), ours };
        match ip.next_header() {
            IpProtocol::Icmpv6 => self.input_icmpv6(&packet, turn),
            IpProtocol::Udp if ours && is_host(from) => self.input_datagram(&packet, turn),
            IpProtocol::Tcp if ours && is_host(from) => self.input_segment(&packet, turn),
            IpProtocol::Ipv6Frag if ours => self.stats.fragments += 1,
            _ => self.stats.unknown += 1,
        }
    }

    fn input_arp(&mut self, bytes: &[u8], turn: &mut Turn<'_>) {
        let Ok(repr) = ArpPacket::new_checked(bytes).and_then(|packet| ArpRepr::parse(&packet)) else {
            self.stats.malformed += 1;
            return;
        };
        let ArpRepr::EthernetIpv4 {
            operation, source_hardware_addr, source_protocol_addr, target_protocol_addr, ..
        } = repr
        else {
            self.stats.unknown += 1;
            return;
        };
        if !self.config.addresses.contains(&IpAddr::V4(target_protocol_addr)) {
            return;
        }
        match operation {
            // What is sent to the address it gives is not to reach everybody.
            ArpOperation::Request if !source_hardware_addr.is_unicast() => self.stats.malformed += 1,
            ArpOperation::Request => {
                let answer = ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Reply,
                    source_hardware_addr: self.hardware,
                    source_protocol_addr: target_protocol_addr,
                    target_hardware_addr: source_hardware_addr,
                    target_protocol_addr: source_protocol_addr,
                };
                self.send_arp(&answer, source_hardware_addr, turn);
            }
            ArpOperation::Reply => self.hop_known(IpAddr::V4(source_protocol_addr), source_hardware_addr, turn),
            ArpOperation::Unknown(_) => self.stats.unknown += 1,
        }
    }

    fn send_arp(&mut self, repr: &ArpRepr, to: EthernetAddress, turn: &mut Turn<'_>) {
        let wire = Wire { from: self.hardware, to };
        let Some(frame) = turn.out.frame(ETHERNET_HEADER + repr.buffer_len()) else {
            self.stats.no_room += 1;
            return;
        };
        wire.emit(EthernetProtocol::Arp, frame);
        if let Some(rest) = frame.get_mut(ETHERNET_HEADER..) {
            repr.emit(&mut ArpPacket::new_unchecked(rest));
        }
    }

    fn input_icmpv4(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) {
        let caps = ChecksumCapabilities::default();
        let Ok(icmp) = Icmpv4Packet::new_checked(packet.payload) else {
            self.stats.malformed += 1;
            return;
        };
        if !icmp.verify_checksum() {
            self.stats.checksums += 1;
            return;
        }
        if icmp.msg_type() == Icmpv4Message::DstUnreachable {
            return self.unreachable(Quoted::v4(icmp.data()), Reason::v4(icmp.msg_code()), turn);
        }
        match Icmpv4Repr::parse(&icmp, &caps) {
            Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) => {
                let answer = Icmpv4Repr::EchoReply { ident, seq_no, data };
                let sent =
                    self.back(packet, IpProtocol::Icmp, HOP_LIMIT).send(answer.buffer_len(), turn.out, |bytes| {
                        answer.emit(&mut Icmpv4Packet::new_unchecked(bytes), &caps)
                    });
                self.stats.no_room += u64::from(!sent);
            }
            Ok(_) => {}
            Err(_) => self.stats.unknown += 1,
        }
    }

    fn input_icmpv6(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) {
        let caps = ChecksumCapabilities::default();
        let (IpAddr::V6(from), IpAddr::V6(to)) = (packet.from, packet.to) else { return };
        let Ok(icmp) = Icmpv6Packet::new_checked(packet.payload) else {
            self.stats.malformed += 1;
            return;
        };
        let Ok(repr) = Icmpv6Repr::parse(&from, &to, &icmp, &caps) else {
            self.stats.malformed += 1;
            return;
        };
        match repr {
            Icmpv6Repr::Ndisc(ndisc) if packet.hop_limit == NEIGHBOUR_HOP_LIMIT => {
                self.input_neighbour(packet, from, &ndisc, turn);
            }
            Icmpv6Repr::EchoRequest { ident, seq_no, data } if packet.ours && is_host(packet.from) => {
                let answer = Icmpv6Repr::EchoReply { ident, seq_no, data };
                let sent =
                    self.back(packet, IpProtocol::Icmpv6, HOP_LIMIT).send(answer.buffer_len(), turn.out, |bytes| {
                        answer.emit(&to, &from, &mut Icmpv6Packet::new_unchecked(bytes), &caps)
                    });
                self.stats.no_room += u64::from(!sent);
            }
            Icmpv6Repr::DstUnreachable { reason, header, data } if packet.ours => {
                let quoted = Quoted::new(header.src_addr.into(), header.dst_addr.into(), header.next_header, data);
                self.unreachable(quoted, Reason::v6(reason.into()), turn);
            }
            _ => {}
        }
    }

    fn input_neighbour(&mut self, packet: &Packet<'_>, from: Ipv6Address, ndisc: &NdiscRepr<'_>, turn: &mut Turn<'_>) {
        match *ndisc {
            NdiscRepr::NeighborSolicit { target_addr, .. } if self.config.addresses.contains(&target_addr.into()) => {
                // One who asks whether the address is free has none yet, and is told with all others
                // (RFC 4861 §7.2.4).
                let (to, wire) = if from.is_unspecified() {
                    let all = Ipv6Address::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
                    (all, multicast(all))
                } else {
                    (from, packet.source)
                };
                let mut flags = NdiscNeighborFlags::OVERRIDE;
                flags.set(NdiscNeighborFlags::SOLICITED, !from.is_unspecified());
                let lladdr = Some(self.hardware.into());
                let answer = NdiscRepr::NeighborAdvert { flags, target_addr, lladdr };
                self.send_neighbour(answer, target_addr, to, wire, turn);
            }
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr }
                if packet.ours && flags.contains(NdiscNeighborFlags::SOLICITED) =>
            {
                let told = lladdr.and_then(|address| <[u8; 6]>::try_from(address.as_bytes()).ok());
                // An answer to a question that went to one host only may leave its address out (RFC 4861 §7.2.4).
                let hardware = told.map_or(packet.source, EthernetAddress);
                self.hop_known(target_addr.into(), hardware, turn);
            }
            _ => {}
        }
    }

    fn send_neighbour(
        &mut self,
        ndisc: NdiscRepr<'_>,
        from: Ipv6Address,
        to: Ipv6Address,
        hardware: EthernetAddress,
        turn: &mut Turn<'_>,
    ) {
        let repr = Icmpv6Repr::Ndisc(ndisc);
        let envelope = Envelope {
            wire: Wire { from: self.hardware, to: hardware },
            from: from.into(),
            to: to.into(),
            protocol: IpProtocol::Icmpv6,
            hop_limit: NEIGHBOUR_HOP_LIMIT,
        };
        let caps = ChecksumCapabilities::default();
        let sent = envelope.send(repr.buffer_len(), turn.out, |bytes| {
            repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(bytes), &caps);
        });
        self.stats.no_room += u64::from(!sent);
    }

    /// The way back to whoever sent a packet.
    fn back(&self, packet: &Packet<'_>, protocol: IpProtocol, hop_limit: u8) -> Envelope {
        let wire = Wire { from: self.hardware, to: packet.source };
        Envelope { wire, from: packet.to, to: packet.from, protocol, hop_limit }
    }

    /// The hardware address of a hop, if it is known; asks for it if that is due.
    pub(super) fn find_hop(&mut self, address: IpAddr, now: Micros, out: &mut Outbox) -> Known {
        let known = self.hops.find(address, now);
        if let Known::Yes(_, Ask::Now) | Known::NotYet(Ask::Now) = known {
            self.ask_hop(address, now, out);
        }
        known
    }

    fn ask_hop(&mut self, address: IpAddr, now: Micros, out: &mut Outbox) {
        let mut nobody = |_: crate::Event<'_>| {};
        let mut turn = Turn { now, out, sink: &mut nobody, visible: false };
        match (address, self.config.address_for(address)) {
            (IpAddr::V4(address), Some(IpAddr::V4(from))) => {
                let question = ArpRepr::EthernetIpv4 {
                    operation: ArpOperation::Request,
                    source_hardware_addr: self.hardware,
                    source_protocol_addr: from,
                    target_hardware_addr: EthernetAddress([0; 6]),
                    target_protocol_addr: address,
                };
                self.send_arp(&question, EthernetAddress::BROADCAST, &mut turn);
            }
            (IpAddr::V6(address), Some(IpAddr::V6(from))) => {
                let group = solicited_node(address);
                let lladdr = Some(self.hardware.into());
                let question = NdiscRepr::NeighborSolicit { target_addr: address, lladdr };
                self.send_neighbour(question, from, group, multicast(group), &mut turn);
            }
            _ => {}
        }
        if let Some(at) = self.hops.deadline(address) {
            self.agenda.add(at, Due::Hop(address));
        }
    }

    fn hop_known(&mut self, address: IpAddr, hardware: EthernetAddress, turn: &mut Turn<'_>) {
        if self.hops.confirm(address, hardware, turn.now) {
            self.datagrams_ready(address, hardware, turn);
            self.streams_ready(address, turn);
        }
    }

    fn expire_hop(&mut self, address: IpAddr, turn: &mut Turn<'_>) {
        match self.hops.expire(address, turn.now) {
            Expired::Nothing => {}
            Expired::Ask => self.ask_hop(address, turn.now, turn.out),
            Expired::Gone => {
                self.datagrams_lost(address, turn);
                self.streams_lost(address, turn);
            }
        }
    }

    fn unreachable(&mut self, quoted: Option<Quoted>, reason: Option<Reason>, turn: &mut Turn<'_>) {
        let (Some(quoted), Some(reason)) = (quoted, reason) else { return };
        if !self.config.addresses.contains(&quoted.from.ip()) {
            self.stats.strangers += 1;
            return;
        }
        match quoted.protocol {
            IpProtocol::Udp => self.datagram_unreachable(&quoted, reason, turn),
            IpProtocol::Tcp => self.stream_unreachable(&quoted, reason, turn),
            _ => self.stats.unknown += 1,
        }
    }
}

/// The group of everybody whose address ends like this one (RFC 4291 §2.7.1).
fn solicited_node(address: Ipv6Address) -> Ipv6Address {
    let [.., a, b, c] = address.octets();
    Ipv6Address::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The hardware address of a group (RFC 2464 §7).
fn multicast(group: Ipv6Address) -> EthernetAddress {
    let [.., a, b, c, d] = group.octets();
    EthernetAddress([0x33, 0x33, a, b, c, d])
}
