//! Frames made by hand, for the tests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const BROADCAST: [u8; 6] = [0xff; 6];

/// The ones' complement sum of RFC 1071.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let octets = parts.concat();
    let mut sum: u32 =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ethertype.to_be_bytes(), packet].concat()
}

/// `operation` is 1 for a request, 2 for a reply.
pub(super) fn arp(operation: u8, sender: ([u8; 6], Ipv4Addr), target: ([u8; 6], Ipv4Addr), to: [u8; 6]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let packet = [&head[..], &sender.0, &sender.1.octets(), &target.0, &target.1.octets()].concat();
    ethernet(to, sender.0, 0x0806, &packet)
}

pub(super) fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let mut header =
        [&[0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, protocol, 0, 0], &from.octets()[..], &to.octets()].concat();
    let sum = checksum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

pub(super) fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    // Neighbour discovery demands 255 hops.
    [&[0x60, 0, 0, 0, len[0], len[1], next, 255], &from.octets()[..], &to.octets(), payload].concat()
}

fn pseudo(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    };
    [&octets(from)[..], &octets(to), &(len as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// An IP packet with a transport checksum at `at` in `payload`.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, mut payload: Vec<u8>, at: usize) -> (u16, Vec<u8>) {
    // ICMP for IPv4 has no pseudo header.
    let pseudo = if protocol == 1 { Vec::new() } else { pseudo(from, to, protocol, payload.len()) };
    let sum = checksum(&[&pseudo, &payload]).to_be_bytes();
    payload[at..at + 2].copy_from_slice(&sum);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x0800, ipv4(from, to, protocol, &payload)),
        (IpAddr::V6(from), IpAddr::V6(to)) => (0x86dd, ipv6(from, to, protocol, &payload)),
        _ => panic!("two versions"),
    }
}

#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) to: [u8; 6],
    pub(super) from: [u8; 6],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

pub(super) fn udp(ends: Ends, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let [source, destination] = ports.map(u16::to_be_bytes);
    let len = (8 + payload.len() as u16).to_be_bytes();
    let datagram = [&source[..], &destination, &len, &[0, 0], payload].concat();
    let (ethertype, packet) = packet(ends.source, ends.destination, 17, datagram, 6);
    ethernet(ends.to, ends.from, ethertype, &packet)
}

pub(super) fn echo_request(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let (protocol, kind) = if ends.source.is_ipv4() { (1, 8) } else { (58, 128) };
    let message = [&[kind, 0, 0, 0, 0, 7, 0, 1], payload].concat();
    let (ethertype, packet) = packet(ends.source, ends.destination, protocol, message, 2);
    ethernet(ends.to, ends.from, ethertype, &packet)
}

/// A solicitation for `target`, to its solicited-node group.
pub(super) fn solicitation(from: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..], &[1, 1], &from].concat();
    let (ethertype, packet) = packet(source.into(), group.into(), 58, message, 2);
    ethernet([0x33, 0x33, 0xff, a, b, c], from, ethertype, &packet)
}

/// The answer to a solicitation for `target`.
fn advertisement(hardware: [u8; 6], target: Ipv6Addr, to: ([u8; 6], Ipv6Addr)) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x60, 0, 0, 0], &target.octets()[..], &[2, 1], &hardware].concat();
    let (ethertype, packet) = packet(target.into(), to.1.into(), 58, message, 2);
    ethernet(to.0, hardware, ethertype, &packet)
}

/// What a host answers to a question for its hardware address.
pub(super) fn answer(frame: &[u8], hardware: [u8; 6]) -> Option<Vec<u8>> {
    let octets = |at: usize, len: usize| &frame[at..at + len];
    let asker = octets(6, 6).try_into().unwrap();
    let v4 = |at| Ipv4Addr::from(<[u8; 4]>::try_from(octets(at, 4)).unwrap());
    let v6 = |at| Ipv6Addr::from(<[u8; 16]>::try_from(octets(at, 16)).unwrap());
    match octets(12, 2) {
        [0x08, 0x06] if frame[21] == 1 => Some(arp(2, (hardware, v4(38)), (asker, v4(28)), asker)),
        [0x86, 0xdd] if frame[20] == 58 && frame[54] == 135 => Some(advertisement(hardware, v6(62), (asker, v6(22)))),
        _ => None,
    }
}

/// Whether the transport checksum of a UDP or ICMP frame is right.
pub(super) fn sums_up(frame: &[u8]) -> bool {
    let (source, destination, protocol, payload) = if frame[12..14] == [8, 0] {
        let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
        (address(26), address(30), frame[23], &frame[34..14 + len])
    } else {
        let len = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        (address(22), address(38), frame[20], &frame[54..54 + len])
    };
    let pseudo = if protocol == 1 { Vec::new() } else { pseudo(source, destination, protocol, payload.len()) };
    checksum(&[&pseudo, payload]) == 0
}
