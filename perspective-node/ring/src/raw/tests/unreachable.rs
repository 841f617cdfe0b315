//! What routers say of a flow, true or not.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use smoltcp::wire::{Icmpv4Packet, Icmpv6Packet, IpProtocol};

use super::super::clock::Micros;
use super::world::{Frame, Told, World, failed, ip, near, ours, packet, segments, udp};
use crate::StreamPhase;

/// "Destination unreachable" about a packet, from a router.
fn message(code: u8, quote: &[u8]) -> Frame {
    let v6 = quote[0] >> 4 == 6;
    let router = if v6 { ip("2001:db8::1") } else { ip("192.0.2.1") };
    let mut bytes = vec![if v6 { 1 } else { 3 }, code, 0, 0, 0, 0, 0, 0];
    bytes.extend(quote);
    match (router, ours(router)) {
        (IpAddr::V6(from), IpAddr::V6(to)) => Icmpv6Packet::new_unchecked(&mut bytes[..]).fill_checksum(&from, &to),
        _ => Icmpv4Packet::new_unchecked(&mut bytes[..]).fill_checksum(),
    }
    let protocol = if v6 { IpProtocol::Icmpv6 } else { IpProtocol::Icmp };
    packet(router, ours(router), protocol, 64, &bytes)
}

/// The packet in a frame of ours.
fn quote(frame: &[u8]) -> Vec<u8> {
    frame[14..].to_vec()
}

fn header(peer: SocketAddr) -> usize {
    if peer.is_ipv4() { 20 } else { 40 }
}

fn port_unreachable(peer: SocketAddr) -> u8 {
    if peer.is_ipv4() { 3 } else { 4 }
}

#[test]
fn a_datagram_is_refused_if_the_message_quotes_it() {
    for peer in near() {
        let mut world = World::new();
        let id = world.open_datagram(peer);
        world.send_datagram(id, b"a question of some length").unwrap();
        let whole = quote(&world.turn(&[])[0]);
        let refused = Told::DatagramFailed(id, Some(Errno::CONNREFUSED.raw_os_error()));
        for len in [header(peer) + 8, header(peer) + 9, whole.len()] {
            assert!(world.input(&message(port_unreachable(peer), &whole[..len])).is_empty());
            assert_eq!(world.told(), std::slice::from_ref(&refused), "RFC 792 asks for eight octets, {len} are quoted");
        }
        for len in 1..header(peer) + 8 {
            world.input(&message(port_unreachable(peer), &whole[..len]));
        }
        let start = header(peer);
        // Each port and one octet of each address.
        for at in [start, start + 1, start + 2, start + 3, start - 1, start / 2 + 5] {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            world.input(&message(port_unreachable(peer), &wrong));
        }
        let mut broken = message(port_unreachable(peer), &whole);
        *broken.last_mut().unwrap() ^= 1;
        world.input(&broken);
        assert_eq!(world.told(), []);
        for soft in if peer.is_ipv4() { vec![0, 1, 4, 5, 11, 12, 16, 255] } else { vec![0, 2, 3, 7, 255] } {
            world.input(&message(soft, &whole));
            assert_eq!(world.told(), [], "code {soft} may pass");
        }
        world.stack.datagrams.close(id);
        world.input(&message(port_unreachable(peer), &whole));
        assert_eq!(world.told(), []);
    }
}

/// A header that claims to end before its addresses would have them read as
/// ports: 192.0 is 49152 and 2.20 is 532.
#[test]
fn a_quoted_header_has_its_length() {
    let mut world = World::new();
    let (local, peer) = ("192.0.2.10:49152".parse().unwrap(), "192.0.2.20:532".parse().unwrap());
    let id = world.stack.open_datagram(local, peer, &mut || 0).unwrap();
    let whole = quote(&udp(local, peer, b"x"));
    for first in [0x40, 0x44, 0x46, 0x4f, 0x55, 0x65] {
        let mut wrong = whole.clone();
        wrong[0] = first;
        if first >> 4 != 6 {
            world.input(&message(3, &wrong));
        }
        assert_eq!(world.told(), []);
    }
    let mut fragment = whole.clone();
    fragment[7] = 1;
    world.input(&message(3, &fragment));
    assert_eq!(world.told(), []);
    let mut options = whole.clone();
    options[0] = 0x46;
    options.splice(20..20, [1; 4]);
    world.input(&message(3, &options));
    assert_eq!(world.told(), [Told::DatagramFailed(id, Some(Errno::CONNREFUSED.raw_os_error()))]);
}

#[test]
fn what_is_quoted_as_another_protocol_is_not_meant() {
    for peer in near() {
        let mut world = World::new();
        let id = world.open_datagram(peer);
        let local = world.stack.datagrams.local(id).unwrap();
        let mut whole = quote(&udp(local, peer, b"x"));
        whole[if peer.is_ipv4() { 9 } else { 6 }] = 6;
        world.input(&message(port_unreachable(peer), &whole));
        assert_eq!(world.told(), []);
    }
}

#[test]
fn a_stream_that_calls_is_unreachable_if_the_message_knows_its_number() {
    for peer in near() {
        for (code, errno) in if peer.is_ipv4() {
            [(0, Errno::NETUNREACH), (1, Errno::HOSTUNREACH), (3, Errno::CONNREFUSED), (13, Errno::HOSTUNREACH)]
        } else {
            [(0, Errno::NETUNREACH), (1, Errno::ACCESS), (3, Errno::HOSTUNREACH), (4, Errno::CONNREFUSED)]
        } {
            let mut world = World::new();
            let id = world.connect(peer);
            let whole = quote(&world.turn(&[])[0]);
            let start = header(peer);
            for at in start..start + 8 {
                let mut wrong = whole.clone();
                wrong[at] ^= 1;
                assert!(world.input(&message(code, &wrong)).is_empty());
                assert_eq!(world.told(), [], "octet {at}");
            }
            assert!(world.input(&message(code, &whole[..start + 8])).is_empty());
            assert_eq!(world.told(), [failed(id, StreamPhase::Connect, errno)]);
            assert!(world.pass(Micros::from_secs(200)).is_empty(), "no more SYNs");
            assert_eq!(world.told(), []);
        }
    }
}

#[test]
fn a_stream_that_stands_outlives_messages() {
    for peer in near() {
        let mut world = World::new();
        let id = world.connect(peer);
        let left = world.turn(&[]);
        let syn = segments(&left).pop().unwrap();
        world.input(&syn.answer(1).frame());
        assert_eq!(world.told(), [Told::Connected(id)]);
        world.input(&message(port_unreachable(peer), &quote(&left[0])));
        assert_eq!(world.told(), []);
    }
}
