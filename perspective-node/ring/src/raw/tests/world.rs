//! A stack, its clock and what it told; and hand-made frames to give it.

use std::net::{IpAddr, SocketAddr};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr,
    IpProtocol, IpRepr, Ipv4Packet, Ipv6Address, Ipv6Packet, NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

use super::super::clock::Micros;
use super::super::config::RawConfig;
use super::super::frames::{Checksum, FrameMethod};
use super::super::output::{ETHERNET_HEADER, Outbox};
use super::super::stack::{Stack, Turn};
use crate::{Close, DatagramId, Event, SendError, StreamId, StreamPhase};

pub(super) const OUR_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0x10]);
pub(super) const PEER_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0x20]);
pub(super) const OTHER_HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 0x66]);
pub(super) const MTU: usize = 1500;
pub(super) const SEND_SLOTS: u32 = 8;
pub(super) const RECEIVE_BYTES: u32 = 1200;

pub(super) type Frame = Vec<u8>;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn v6(text: &str) -> Ipv6Address {
    text.parse().unwrap()
}

/// The address of ours that a peer sees.
pub(super) fn ours(peer: IpAddr) -> IpAddr {
    if peer.is_ipv4() { ip("192.0.2.10") } else { ip("2001:db8::10") }
}

/// A web server on the link, of each family.
pub(super) fn near() -> [SocketAddr; 2] {
    [SocketAddr::new(ip("192.0.2.20"), 80), SocketAddr::new(ip("2001:db8::20"), 80)]
}

/// A web server behind the gateway, of each family, and its gateway.
pub(super) fn far() -> [(SocketAddr, IpAddr); 2] {
    [
        (SocketAddr::new(ip("198.51.100.7"), 80), ip("192.0.2.1")),
        (SocketAddr::new(ip("2001:db8:99::7"), 80), ip("2001:db8::1")),
    ]
}

/// An event, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Datagram(DatagramId, Vec<u8>),
    DatagramFailed(DatagramId, Option<i32>),
    Connected(StreamId),
    Sent(StreamId),
    Received(StreamId, Vec<u8>),
    Failed(StreamId, StreamPhase, Option<i32>),
    Woken,
}

impl From<Event<'_>> for Told {
    fn from(event: Event<'_>) -> Told {
        match event {
            Event::Datagram { id, bytes } => Told::Datagram(id, bytes.to_vec()),
            Event::DatagramFailed { id, error } => Told::DatagramFailed(id, error.raw_os_error()),
            Event::Connected { id } => Told::Connected(id),
            Event::Sent { id } => Told::Sent(id),
            Event::Received { id, bytes } => Told::Received(id, bytes.to_vec()),
            Event::Failed { id, phase, error } => Told::Failed(id, phase, error.raw_os_error()),
            Event::Woken => Told::Woken,
        }
    }
}

pub(super) fn failed(id: StreamId, phase: StreamPhase, errno: rustix::io::Errno) -> Told {
    Told::Failed(id, phase, Some(errno.raw_os_error()))
}

pub(super) struct World {
    pub(super) stack: Stack,
    pub(super) outbox: Outbox,
    pub(super) now: Micros,
    pub(super) told: Vec<Told>,
    /// Answers every question for a hardware address at once.
    pub(super) answering: bool,
    /// The frame layer takes nothing.
    pub(super) stuck: bool,
    /// The sink panics at its next event.
    pub(super) panics: bool,
    random: StdRng,
}

impl World {
    pub(super) fn new() -> World {
        World::seeded(1)
    }

    pub(super) fn seeded(seed: u64) -> World {
        let config = RawConfig {
            interface: "eth1".to_owned(),
            method: FrameMethod::Packet,
            addresses: vec![ip("192.0.2.10"), ip("2001:db8::10")],
            networks: vec![(ip("192.0.2.0"), 24), (ip("2001:db8::"), 64)],
            gateways: vec![ip("192.0.2.1"), ip("2001:db8::1")],
            frames: 4096,
            kept_octets: 0,
        };
        config.check().unwrap();
        World {
            stack: Stack::new(config, OUR_HARDWARE.0, MTU, SEND_SLOTS, RECEIVE_BYTES),
            outbox: Outbox::new(1514),
            now: Micros::from_secs(1000),
            told: Vec::new(),
            answering: true,
            stuck: false,
            panics: false,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// As the loop does it: what is ready, what has arrived, what is due; then
    /// the frames that leave.
    pub(super) fn turn(&mut self, frames: &[Frame]) -> Vec<Frame> {
        self.turn_with(frames, Checksum::Unknown)
    }

    pub(super) fn turn_with(&mut self, frames: &[Frame], checksum: Checksum) -> Vec<Frame> {
        let World { stack, outbox, now, told, panics, .. } = self;
        let mut sink = |event: Event<'_>| {
            told.push(event.into());
            assert!(!std::mem::take(panics), "the sink was told to");
        };
        let mut turn = Turn { now: *now, out: outbox, sink: &mut sink, visible: false };
        stack.turn_streams(&mut turn);
        for frame in frames {
            stack.input(frame, checksum, &mut turn);
        }
        stack.expire(&mut turn);
        self.leave()
    }

    /// The frame layer takes nothing and there is no room for more.
    pub(super) fn fill(&mut self) {
        self.stuck = true;
        while self.outbox.frame(60).is_some() {}
    }

    fn leave(&mut self) -> Vec<Frame> {
        let mut left = Vec::new();
        if !self.stuck {
            self.outbox.drain(|frame| {
                // Empty frames are there to take room.
                if frame.iter().any(|octet| *octet != 0) {
                    left.push(frame.to_vec());
                }
                true
            });
        }
        if !self.answering {
            return left;
        }
        let (questions, rest): (Vec<Frame>, Vec<Frame>) = left.into_iter().partition(|f| question(f).is_some());
        let answers: Vec<Frame> = questions.iter().filter_map(|f| question(f)).map(answer).collect();
        let mut left = rest;
        if !answers.is_empty() {
            left.extend(self.turn(&answers));
        }
        left
    }

    pub(super) fn input(&mut self, frame: &[u8]) -> Vec<Frame> {
        self.turn(&[frame.to_vec()])
    }

    /// Lets time pass, stopping wherever something is due; what left when.
    pub(super) fn pass(&mut self, time: Micros) -> Vec<(Micros, Frame)> {
        let end = self.now.plus(time);
        let mut left = Vec::new();
        loop {
            left.extend(self.turn(&[]).into_iter().map(|frame| (self.now, frame)));
            let due = self.stack.next_due().filter(|due| *due <= end);
            if !self.stack.streams.has_ready() {
                let Some(due) = due else { break };
                assert!(due > self.now, "what was due was done");
                self.now = due;
            }
        }
        self.now = end;
        left
    }

    pub(super) fn told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn connect(&mut self, peer: SocketAddr) -> StreamId {
        let World { stack, random, .. } = self;
        stack.connect(None, peer, &mut || random.random()).unwrap()
    }

    pub(super) fn open_datagram(&mut self, peer: SocketAddr) -> DatagramId {
        let World { stack, random, .. } = self;
        let local = SocketAddr::new(ours(peer.ip()), 0);
        stack.open_datagram(local, peer, &mut || random.random()).unwrap()
    }

    pub(super) fn send_datagram(&mut self, id: DatagramId, bytes: &[u8]) -> Result<(), SendError> {
        self.stack.send_datagram(id, bytes, self.now, &mut self.outbox)
    }

    pub(super) fn close(&mut self, id: StreamId, how: Close) {
        self.stack.close(id, how, self.now);
    }

    /// A stream that stands, and what its peer says next: an empty segment
    /// with the right numbers.
    pub(super) fn connected(&mut self, peer: SocketAddr) -> (StreamId, Segment) {
        let (id, next) = self.connected_among(peer);
        assert_eq!(self.told(), [Told::Connected(id)]);
        (id, next)
    }

    /// The same beside streams that have something to tell.
    pub(super) fn connected_among(&mut self, peer: SocketAddr) -> (StreamId, Segment) {
        let id = self.connect(peer);
        let left = segments(&self.turn(&[]));
        let syn = left.iter().find(|s| s.control == TcpControl::Syn && s.to == peer).expect("a SYN");
        let synack = syn.answer(7_000);
        self.input(&synack.frame());
        self.turn(&[]);
        let next = Segment { control: TcpControl::None, seq: 7_001, mss: None, sack: false, ..synack };
        (id, next)
    }
}

/// A frame around a payload.
pub(super) fn frame(from: EthernetAddress, to: EthernetAddress, protocol: EthernetProtocol, bytes: &[u8]) -> Frame {
    let mut frame = vec![0; ETHERNET_HEADER + bytes.len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(from);
    ethernet.set_dst_addr(to);
    ethernet.set_ethertype(protocol);
    ethernet.payload_mut().copy_from_slice(bytes);
    frame
}

/// A packet from a peer, in a frame to us.
pub(super) fn packet(from: IpAddr, to: IpAddr, protocol: IpProtocol, hop_limit: u8, payload: &[u8]) -> Frame {
    let header = IpRepr::new(from.into(), to.into(), protocol, payload.len(), hop_limit);
    let mut bytes = vec![0; header.header_len() + payload.len()];
    header.emit(&mut bytes[..], &ChecksumCapabilities::default());
    bytes[header.header_len()..].copy_from_slice(payload);
    let ethertype = if from.is_ipv4() { EthernetProtocol::Ipv4 } else { EthernetProtocol::Ipv6 };
    frame(PEER_HARDWARE, OUR_HARDWARE, ethertype, &bytes)
}

/// Sender, receiver, protocol and payload of a frame, its checksums verified.
pub(super) fn open(frame: &[u8]) -> Option<(IpAddr, IpAddr, IpProtocol, Vec<u8>)> {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    assert_eq!(ethernet.src_addr(), OUR_HARDWARE);
    match ethernet.ethertype() {
        EthernetProtocol::Ipv4 => {
            let ip = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
            assert!(ip.verify_checksum());
            Some((ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload().to_vec()))
        }
        EthernetProtocol::Ipv6 => {
            let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
            Some((ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.payload().to_vec()))
        }
        _ => None,
    }
}

/// Whose hardware address a frame asks for.
pub(super) fn question(frame: &[u8]) -> Option<IpAddr> {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    if ethernet.ethertype() == EthernetProtocol::Arp {
        let arp = ArpPacket::new_checked(ethernet.payload()).unwrap();
        let ArpRepr::EthernetIpv4 { operation, target_protocol_addr, .. } = ArpRepr::parse(&arp).unwrap() else {
            return None;
        };
        assert_eq!(ethernet.dst_addr() == EthernetAddress::BROADCAST, operation == ArpOperation::Request);
        return (operation == ArpOperation::Request).then_some(target_protocol_addr.into());
    }
    match neighbour(frame)? {
        NdiscRepr::NeighborSolicit { target_addr, .. } => Some(target_addr.into()),
        _ => None,
    }
}

/// Neighbour discovery in a frame of ours.
pub(super) fn neighbour(frame: &[u8]) -> Option<NdiscRepr<'_>> {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    if ethernet.ethertype() != EthernetProtocol::Ipv6 {
        return None;
    }
    let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
    let icmp = (ip.next_header() == IpProtocol::Icmpv6).then(|| Icmpv6Packet::new_checked(ip.payload()).unwrap())?;
    let caps = ChecksumCapabilities::default();
    match Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &caps).unwrap() {
        Icmpv6Repr::Ndisc(ndisc) => {
            assert_eq!(ip.hop_limit(), 255);
            Some(ndisc)
        }
        _ => None,
    }
}

/// The answer of the host that was asked for.
pub(super) fn answer(address: IpAddr) -> Frame {
    answer_of(address, PEER_HARDWARE)
}

pub(super) fn answer_of(address: IpAddr, hardware: EthernetAddress) -> Frame {
    match (address, ours(address)) {
        (IpAddr::V4(address), IpAddr::V4(ours)) => {
            arp(ArpOperation::Reply, hardware, address, OUR_HARDWARE, ours, OUR_HARDWARE)
        }
        (IpAddr::V6(address), IpAddr::V6(ours)) => {
            let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
            let repr = NdiscRepr::NeighborAdvert { flags, target_addr: address, lladdr: Some(hardware.into()) };
            ndisc(repr, address, ours, 255)
        }
        _ => unreachable!("one family"),
    }
}

pub(super) fn arp(
    operation: ArpOperation,
    source: EthernetAddress,
    from: std::net::Ipv4Addr,
    target: EthernetAddress,
    to: std::net::Ipv4Addr,
    destination: EthernetAddress,
) -> Frame {
    let repr = ArpRepr::EthernetIpv4 {
        operation,
        source_hardware_addr: source,
        source_protocol_addr: from,
        target_hardware_addr: target,
        target_protocol_addr: to,
    };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
    let source = if source.is_unicast() { source } else { PEER_HARDWARE };
    frame(source, destination, EthernetProtocol::Arp, &bytes)
}

pub(super) fn ndisc(repr: NdiscRepr<'_>, from: Ipv6Address, to: Ipv6Address, hop_limit: u8) -> Frame {
    icmpv6(&Icmpv6Repr::Ndisc(repr), from, to, hop_limit)
}

pub(super) fn icmpv6(repr: &Icmpv6Repr<'_>, from: Ipv6Address, to: Ipv6Address, hop_limit: u8) -> Frame {
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
    packet(from.into(), to.into(), IpProtocol::Icmpv6, hop_limit, &bytes)
}

/// The payload of a UDP packet.
pub(super) fn udp_bytes(from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let mut payload = vec![0; 8 + bytes.len()];
    repr.emit(
        &mut UdpPacket::new_unchecked(&mut payload[..]),
        &from.ip().into(),
        &to.ip().into(),
        bytes.len(),
        |room| room.copy_from_slice(bytes),
        &ChecksumCapabilities::default(),
    );
    payload
}

pub(super) fn udp(from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Frame {
    packet(from.ip(), to.ip(), IpProtocol::Udp, 64, &udp_bytes(from, to, bytes))
}

/// Sender, receiver and bytes of a datagram of ours.
pub(super) fn datagram(frame: &[u8]) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
    let (from, to, protocol, payload) = open(frame)?;
    (protocol == IpProtocol::Udp).then(|| {
        let udp = UdpPacket::new_checked(&payload[..]).unwrap();
        assert!(udp.verify_checksum(&from.into(), &to.into()));
        let (from, to) = (SocketAddr::new(from, udp.src_port()), SocketAddr::new(to, udp.dst_port()));
        (from, to, udp.payload().to_vec())
    })
}

/// A TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) control: TcpControl,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) sack: bool,
    pub(super) payload: Vec<u8>,
}

impl Segment {
    pub(super) fn parse(frame: &[u8]) -> Option<Segment> {
        let (from, to, protocol, payload) = open(frame)?;
        (protocol == IpProtocol::Tcp).then(|| {
            let tcp = TcpPacket::new_checked(&payload[..]).unwrap();
            let repr = TcpRepr::parse(&tcp, &from.into(), &to.into(), &ChecksumCapabilities::default()).unwrap();
            Segment {
                from: SocketAddr::new(from, repr.src_port),
                to: SocketAddr::new(to, repr.dst_port),
                seq: repr.seq_number.0 as u32,
                ack: repr.ack_number.map(|ack| ack.0 as u32),
                control: repr.control,
                window: repr.window_len,
                mss: repr.max_seg_size,
                sack: repr.sack_permitted,
                payload: repr.payload.to_vec(),
            }
        })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let repr = TcpRepr {
            src_port: self.from.port(),
            dst_port: self.to.port(),
            control: self.control,
            seq_number: TcpSeqNumber(self.seq as i32),
            ack_number: self.ack.map(|ack| TcpSeqNumber(ack as i32)),
            window_len: self.window,
            window_scale: None,
            max_seg_size: self.mss,
            sack_permitted: self.sack,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &self.payload,
        };
        let mut bytes = vec![0; repr.buffer_len()];
        let (from, to) = (self.from.ip().into(), self.to.ip().into());
        repr.emit(&mut TcpPacket::new_unchecked(&mut bytes[..]), &from, &to, &ChecksumCapabilities::default());
        bytes
    }

    pub(super) fn frame(&self) -> Frame {
        packet(self.from.ip(), self.to.ip(), IpProtocol::Tcp, 64, &self.bytes())
    }

    /// The SYN|ACK to a SYN.
    pub(super) fn answer(&self, seq: u32) -> Segment {
        assert_eq!((self.control, self.ack), (TcpControl::Syn, None));
        Segment {
            from: self.to,
            to: self.from,
            seq,
            ack: Some(self.seq.wrapping_add(1)),
            control: TcpControl::Syn,
            window: 65_535,
            mss: Some(1400),
            sack: true,
            payload: Vec::new(),
        }
    }

    pub(super) fn with(&self, change: impl FnOnce(&mut Segment)) -> Segment {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// Octets of sequence space.
    pub(super) fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(matches!(self.control, TcpControl::Syn | TcpControl::Fin))
    }
}

pub(super) fn segments(frames: &[Frame]) -> Vec<Segment> {
    frames.iter().filter_map(|frame| Segment::parse(frame)).collect()
}

/// Bytes that show where they belong.
pub(super) fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8) ^ ((at >> 8) as u8).wrapping_mul(31) ^ salt).collect()
}
