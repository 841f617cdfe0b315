//! UDP: what reaches a socket, and what does not.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, UdpPacket};

use super::super::frames::Checksum;
use super::super::hops::Known;
use super::world::{
    Frame, OTHER_HARDWARE, RECEIVE_BYTES, SEND_SLOTS, Told, World, datagram, far, frame, ip, near, packet, pattern,
    udp, udp_bytes,
};
use crate::{DatagramId, SendError};

/// A world with a socket towards `peer`, and the socket's address.
fn socket(peer: SocketAddr) -> (World, DatagramId, SocketAddr) {
    let mut world = World::new();
    let id = world.open_datagram(peer);
    let local = world.stack.datagrams.local(id).unwrap();
    (world, id, local)
}

fn peers() -> [SocketAddr; 4] {
    let [four, six] = near();
    let [(far_four, _), (far_six, _)] = far();
    [four, six, far_four, far_six]
}

#[test]
fn datagrams_go_both_ways() {
    for peer in peers() {
        let (mut world, id, local) = socket(peer);
        for len in [0, 1, 2, 511, 1024] {
            let bytes = pattern(len, 7);
            world.send_datagram(id, &bytes).unwrap();
            let left = world.turn(&[]);
            assert_eq!(left.len(), 1);
            assert_eq!(datagram(&left[0]), Some((local, peer, bytes.clone())));
            assert!(world.input(&udp(peer, local, &bytes)).is_empty());
            assert_eq!(world.told(), [Told::Datagram(id, bytes)]);
        }
        assert_eq!(world.send_datagram(id, &[0; 1025]), Err(SendError::TooLong));
        assert_eq!(world.stack.stats, super::super::RawStats::default());
    }
}

#[test]
fn only_the_peer_and_only_at_our_address() {
    for (at, peer) in peers().into_iter().enumerate() {
        let (mut world, id, local) = socket(peer);
        let another = world.open_datagram(peers()[(at + 2) % 4]);
        let another_local = world.stack.datagrams.local(another).unwrap();
        let port = |address: SocketAddr, port| SocketAddr::new(address.ip(), port);
        let stranger = SocketAddr::new(if peer.is_ipv4() { ip("192.0.2.21") } else { ip("2001:db8::21") }, peer.port());
        let not_us = SocketAddr::new(if peer.is_ipv4() { ip("192.0.2.11") } else { ip("2001:db8::11") }, local.port());
        let wrong = [
            udp(stranger, local, b"x"),
            udp(port(peer, peer.port() + 1), local, b"x"),
            udp(peer, port(local, local.port() ^ 1), b"x"),
            udp(peer, not_us, b"x"),
            udp(peer, another_local, b"x"),
        ];
        for frame in &wrong {
            assert!(world.input(frame).is_empty());
            assert_eq!(world.told(), []);
        }
        let stats = world.stack.stats;
        assert_eq!((stats.strangers, stats.unknown), (4, 1));
        let mut elsewhere = udp(peer, local, b"x");
        elsewhere[..6].copy_from_slice(OTHER_HARDWARE.as_bytes());
        world.input(&elsewhere);
        let mut everybody = udp(peer, local, b"x");
        everybody[..6].copy_from_slice(&[0xff; 6]);
        world.input(&everybody);
        assert_eq!(world.told(), [], "RFC 1122 §3.3.6: a frame to all carries no packet to one");
        world.input(&udp(peer, local, b"x"));
        assert_eq!(world.told(), [Told::Datagram(id, b"x".to_vec())]);
    }
}

#[test]
fn checksums_are_verified_unless_vouched_for() {
    for peer in peers() {
        let (mut world, id, local) = socket(peer);
        let bytes = pattern(33, 1);
        let good = udp_bytes(peer, local, &bytes);
        let sent = |payload: &[u8]| packet(peer.ip(), local.ip(), IpProtocol::Udp, 64, payload);
        for at in 0..good.len() {
            let mut wrong = good.clone();
            wrong[at] ^= 0x10;
            world.input(&sent(&wrong));
            assert_eq!(world.told(), [], "octet {at}");
        }
        let mut wrong = good.clone();
        wrong[20] ^= 1;
        world.turn_with(&[sent(&wrong)], Checksum::Vouched);
        let told = world.told();
        assert!(matches!(&told[..], [Told::Datagram(_, got)] if got.len() == bytes.len()), "never completed");
        let mut absent = good.clone();
        UdpPacket::new_unchecked(&mut absent[..]).set_checksum(0);
        world.input(&sent(&absent));
        let expected = if peer.is_ipv4() { vec![Told::Datagram(id, bytes.clone())] } else { Vec::new() };
        assert_eq!(world.told(), expected, "RFC 768, RFC 8200 §8.1");
    }
}

#[test]
fn the_header_of_ipv4_has_its_own_checksum() {
    let peer = near()[0];
    let (mut world, _, local) = socket(peer);
    for at in 14..34 {
        let mut frame = udp(peer, local, b"x");
        frame[at] ^= 1;
        world.turn_with(&[frame], Checksum::Vouched);
        assert_eq!(world.told(), [], "octet {at}");
    }
}

#[test]
fn what_is_cut_short_is_nothing() {
    for peer in peers() {
        let (mut world, id, local) = socket(peer);
        let whole = udp(peer, local, b"the whole of it");
        for checksum in [Checksum::Unknown, Checksum::Vouched] {
            for len in 0..whole.len() {
                assert!(world.turn_with(&[whole[..len].to_vec()], checksum).is_empty());
                assert_eq!(world.told(), [], "{len} octets");
            }
        }
        let mut padded = whole.clone();
        padded.extend([0xaa; 30]);
        world.input(&padded);
        assert_eq!(world.told(), [Told::Datagram(id, b"the whole of it".to_vec())], "padding is not data");
        // A UDP header that claims more or less than the packet has.
        for claimed in [0u16, 7, 24, 0xffff] {
            let mut payload = udp_bytes(peer, local, b"the whole of it");
            payload[4..6].copy_from_slice(&claimed.to_be_bytes());
            let lie = packet(peer.ip(), local.ip(), IpProtocol::Udp, 64, &payload);
            world.turn_with(&[lie], Checksum::Vouched);
            assert_eq!(world.told(), [], "{claimed}");
        }
    }
}

#[test]
fn fragments_are_dropped() {
    let peer = near()[0];
    let (mut world, _, local) = socket(peer);
    for (more, offset) in [(true, 0), (true, 8), (false, 8)] {
        let mut frame = udp(peer, local, b"part");
        let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
        ip.set_more_frags(more);
        ip.set_frag_offset(offset);
        ip.fill_checksum();
        world.input(&frame);
    }
    let peer = near()[1];
    let (mut six, _, local) = socket(peer);
    let mut payload = vec![17, 0, 0, 1, 0, 0, 0, 9];
    payload.extend(udp_bytes(peer, local, b"part"));
    six.input(&packet(peer.ip(), local.ip(), IpProtocol::Ipv6Frag, 64, &payload));
    assert_eq!((world.stack.stats.fragments, six.stack.stats.fragments), (3, 1));
    assert!(world.told().is_empty() && six.told().is_empty());
}

#[test]
fn a_long_datagram_is_cut_to_what_is_asked_for() {
    for peer in peers() {
        let (mut world, id, local) = socket(peer);
        let most = RECEIVE_BYTES as usize;
        for len in [most - 1, most, most + 1, 1452] {
            let bytes = pattern(len, 3);
            world.input(&udp(peer, local, &bytes));
            assert_eq!(world.told(), [Told::Datagram(id, bytes[..len.min(most)].to_vec())]);
        }
    }
}

#[test]
fn what_waits_is_bounded_and_closing_gives_it_back() {
    for peer in peers() {
        let (mut world, id, _) = socket(peer);
        world.answering = false;
        for _ in 0..SEND_SLOTS {
            world.send_datagram(id, b"x").unwrap();
        }
        assert_eq!(world.send_datagram(id, b"x"), Err(SendError::NoSlot));
        let left = world.turn(&[]);
        assert_eq!(left.len(), 1, "one question");
        world.stack.datagrams.close(id);
        assert_eq!(world.send_datagram(id, b"x"), Err(SendError::Closed));
        assert_eq!(world.stack.datagrams.local(id), None);
        let hop = super::world::question(&left[0]).unwrap();
        assert_eq!(world.input(&super::world::answer(hop)), Vec::<Frame>::new(), "closed: nothing is sent");
        assert_eq!(world.stack.datagrams.slots_free(), SEND_SLOTS as usize);
        assert_eq!(world.told(), []);
    }
}

#[test]
fn a_closed_socket_gets_nothing_and_its_port_belongs_to_the_next() {
    for peer in peers() {
        let (mut world, id, local) = socket(peer);
        world.stack.datagrams.close(id);
        world.stack.datagrams.close(id);
        world.input(&udp(peer, local, b"late"));
        assert_eq!(world.told(), []);
        let next = world.stack.open_datagram(local, peer, &mut || 0).unwrap();
        assert!(world.stack.open_datagram(local, peer, &mut || 0).is_err(), "taken");
        world.stack.datagrams.close(id);
        world.input(&udp(peer, local, b"new"));
        assert_eq!(world.told(), [Told::Datagram(next, b"new".to_vec())]);
    }
}

/// Every hop that can be remembered is in use: nothing may wait for another,
/// because nobody would ever ask for it.
#[test]
fn with_too_many_hops_nothing_waits_for_ever() {
    let (mut world, _, _) = socket(near()[0]);
    world.stack.config.networks.push((ip("0.0.0.0"), 0));
    world.answering = false;
    for n in 0..65_536u32 {
        let peer = SocketAddr::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 53);
        assert!(matches!(world.stack.find_hop(peer.ip(), world.now, &mut world.outbox), Known::NotYet(_)));
    }
    let id = world.open_datagram("172.16.0.1:53".parse().unwrap());
    for _ in 0..=SEND_SLOTS {
        world.send_datagram(id, b"x").unwrap();
    }
    assert_eq!(world.stack.datagrams.slots_free(), SEND_SLOTS as usize);
}

#[test]
fn what_is_not_ip_or_not_from_a_host_is_dropped() {
    let (mut world, _, _) = socket(near()[0]);
    let (peer, local) = (near()[0], "192.0.2.10:1".parse().unwrap());
    let bytes = udp_bytes(peer, local, b"x");
    for from in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        assert!(world.input(&packet(ip(from), local.ip(), IpProtocol::Udp, 64, &bytes)).is_empty());
    }
    assert!(world.input(&packet(ip("ff02::1"), ip("2001:db8::10"), IpProtocol::Udp, 64, &bytes)).is_empty());
    let vlan = frame(OTHER_HARDWARE, super::world::OUR_HARDWARE, EthernetProtocol::from(0x8100), &[0; 46]);
    assert!(world.input(&vlan).is_empty());
    let mut group = udp(peer, local, b"x");
    group[6] |= 1;
    assert!(EthernetFrame::new_unchecked(&group).src_addr().is_multicast());
    assert!(world.input(&group).is_empty());
    let mut swapped = udp(peer, local, b"x");
    swapped[12..14].copy_from_slice(&[0x86, 0xdd]);
    assert!(world.input(&swapped).is_empty());
    assert_eq!(world.told(), []);
}
