//! Hardware addresses: what we ask, what we believe, what we answer.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use smoltcp::wire::{ArpOperation, EthernetAddress, EthernetFrame, Ipv6Packet, NdiscNeighborFlags, NdiscRepr};

use super::super::clock::Micros;
use super::world::{
    Frame, OTHER_HARDWARE, OUR_HARDWARE, PEER_HARDWARE, Told, World, answer, answer_of, arp, datagram, failed, far, ip,
    ndisc, near, neighbour, open, question, segments, v6,
};
use crate::StreamPhase;

/// Peer and the hop before it.
fn ways() -> [(SocketAddr, IpAddr); 4] {
    let [four, six] = near();
    let [far_four, far_six] = far();
    [(four, four.ip()), (six, six.ip()), far_four, far_six]
}

fn quiet() -> World {
    let mut world = World::new();
    world.answering = false;
    world
}

fn destination(frame: &[u8]) -> EthernetAddress {
    EthernetFrame::new_checked(frame).unwrap().dst_addr()
}

#[test]
fn a_hop_is_asked_for_once_and_what_waited_goes_when_it_answers() {
    for (peer, hop) in ways() {
        let mut world = quiet();
        let socket = world.open_datagram(peer);
        world.connect(peer);
        world.connect(peer);
        world.send_datagram(socket, b"one").unwrap();
        world.send_datagram(socket, b"two").unwrap();
        let left = world.turn(&[]);
        assert_eq!(left.iter().map(|f| question(f)).collect::<Vec<_>>(), [Some(hop)]);
        if let IpAddr::V6(hop) = hop {
            let [.., a, b, c] = hop.octets();
            assert_eq!(destination(&left[0]), EthernetAddress([0x33, 0x33, 0xff, a, b, c]));
            let NdiscRepr::NeighborSolicit { lladdr: Some(told), .. } = neighbour(&left[0]).unwrap() else { panic!() };
            assert_eq!(told.as_bytes(), OUR_HARDWARE.as_bytes());
        }
        let left = world.input(&answer(hop));
        assert_eq!(left.len(), 4);
        assert!(left.iter().all(|frame| destination(frame) == PEER_HARDWARE));
        let bytes: Vec<Vec<u8>> = left
            .iter()
            .filter_map(|f| datagram(f))
            .map(|(_, to, bytes)| {
                assert_eq!(to, peer);
                bytes
            })
            .collect();
        assert_eq!(bytes, [b"one", b"two"]);
        assert_eq!(segments(&left).len(), 2);
        assert_eq!(world.stack.datagrams.slots_free(), 8);
        world.send_datagram(socket, b"three").unwrap();
        assert_eq!(world.turn(&[]).len(), 1, "nobody is asked again");
        assert_eq!(world.told(), []);
    }
}

#[test]
fn nobody_is_asked_three_times_and_then_given_up() {
    for (peer, hop) in ways() {
        let mut world = quiet();
        let start = world.now;
        let socket = world.open_datagram(peer);
        let stream = world.connect(peer);
        world.stack.send(stream, b"GET".to_vec());
        world.stack.receive(stream);
        world.send_datagram(socket, b"one").unwrap();
        let left = world.pass(Micros(2_999_999));
        let times: Vec<(u64, Option<IpAddr>)> = left.iter().map(|(at, f)| (at.since(start).0, question(f))).collect();
        assert_eq!(times, [(0, Some(hop)), (1_000_000, Some(hop)), (2_000_000, Some(hop))]);
        assert_eq!(world.told(), []);
        assert!(world.pass(Micros(1)).is_empty());
        let unreachable = Some(Errno::HOSTUNREACH.raw_os_error());
        assert_eq!(
            world.told(),
            [Told::DatagramFailed(socket, unreachable), failed(stream, StreamPhase::Connect, Errno::HOSTUNREACH)]
        );
        assert_eq!(world.stack.datagrams.slots_free(), 8);
        assert!(world.input(&answer(hop)).is_empty(), "too late");
        world.send_datagram(socket, b"two").unwrap();
        assert_eq!(world.turn(&[]).len(), 1, "the next use asks again");
        assert_eq!(world.input(&answer(hop)).iter().filter_map(|f| datagram(f)).count(), 1);
    }
}

#[test]
fn an_answer_nobody_asked_for_changes_nothing() {
    for (peer, hop) in ways() {
        let mut world = quiet();
        assert!(world.input(&answer_of(hop, OTHER_HARDWARE)).is_empty());
        let socket = world.open_datagram(peer);
        world.send_datagram(socket, b"one").unwrap();
        world.turn(&[]);
        let another = if hop.is_ipv4() { ip("192.0.2.99") } else { ip("2001:db8::99") };
        assert!(world.input(&answer_of(another, OTHER_HARDWARE)).is_empty());
        assert_eq!(world.input(&answer(hop)).len(), 1);
        assert!(world.input(&answer_of(hop, OTHER_HARDWARE)).is_empty(), "a second answer");
        world.send_datagram(socket, b"two").unwrap();
        assert_eq!(destination(&world.turn(&[])[0]), PEER_HARDWARE);
    }
}

#[test]
fn what_no_neighbour_would_say_is_no_answer() {
    let hop = v6("2001:db8::20");
    let us = v6("2001:db8::10");
    let solicited = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
    let advert = |flags, hardware: EthernetAddress| NdiscRepr::NeighborAdvert {
        flags,
        target_addr: hop,
        lladdr: Some(hardware.into()),
    };
    let mut world = quiet();
    let socket = world.open_datagram(near()[1]);
    world.send_datagram(socket, b"one").unwrap();
    world.turn(&[]);
    let mut broken = ndisc(advert(solicited, PEER_HARDWARE), hop, us, 255);
    broken[60] ^= 1;
    for wrong in [
        ndisc(advert(solicited, OTHER_HARDWARE), hop, us, 254),
        ndisc(advert(solicited, OTHER_HARDWARE), hop, us, 64),
        ndisc(advert(NdiscNeighborFlags::OVERRIDE, OTHER_HARDWARE), hop, us, 255),
        ndisc(advert(solicited, EthernetAddress::BROADCAST), hop, us, 255),
        ndisc(advert(solicited, OTHER_HARDWARE), hop, v6("ff02::1"), 255),
        broken,
    ] {
        assert_eq!(world.input(&wrong), Vec::<Frame>::new());
    }
    // A question that went to one host only may be answered without it.
    let without = NdiscRepr::NeighborAdvert { flags: solicited, target_addr: hop, lladdr: None };
    let left = world.input(&ndisc(without, hop, us, 255));
    assert_eq!(left.len(), 1);
    assert_eq!(destination(&left[0]), PEER_HARDWARE);
}

#[test]
fn a_known_hop_is_used_while_it_is_asked_again() {
    for (peer, hop) in ways() {
        let mut world = quiet();
        let socket = world.open_datagram(peer);
        world.send_datagram(socket, b"one").unwrap();
        world.turn(&[]);
        world.input(&answer(hop));
        world.now = world.now.plus(Micros::from_secs(30));
        world.send_datagram(socket, b"two").unwrap();
        let left = world.turn(&[]);
        assert_eq!(left.iter().filter_map(|f| question(f)).count(), 1);
        assert_eq!(left.iter().filter_map(|f| datagram(f)).count(), 1);
        world.input(&answer_of(hop, OTHER_HARDWARE));
        world.send_datagram(socket, b"three").unwrap();
        assert_eq!(destination(&world.turn(&[])[0]), OTHER_HARDWARE, "it has moved");
    }
}

#[test]
fn arp_is_answered_for_our_address_only() {
    let mut world = quiet();
    let (us, them) = ("192.0.2.10".parse().unwrap(), "192.0.2.20".parse().unwrap());
    let nobody = EthernetAddress([0; 6]);
    let broadcast = EthernetAddress::BROADCAST;
    let ask = |from, target, to| arp(ArpOperation::Request, PEER_HARDWARE, from, nobody, target, to);
    for to in [broadcast, OUR_HARDWARE] {
        let left = world.input(&ask(them, us, to));
        assert_eq!(left, [arp_answer(them)]);
    }
    let probe = "0.0.0.0".parse().unwrap();
    assert_eq!(world.input(&ask(probe, us, broadcast)), [arp_answer(probe)], "RFC 5227: the address is taken");
    assert!(world.input(&ask(them, "192.0.2.11".parse().unwrap(), broadcast)).is_empty());
    assert!(world.input(&ask(them, us, OTHER_HARDWARE)).is_empty(), "not for our hardware");
    let lie = arp(ArpOperation::Request, broadcast, them, nobody, us, broadcast);
    assert!(world.input(&lie).is_empty(), "no host has that hardware address");
    let mut cut = ask(them, us, broadcast);
    for len in 0..14 + 28 {
        cut.truncate(14 + 28 - len - 1);
        assert!(world.input(&cut).is_empty());
    }
    assert_eq!(world.told(), []);
}

fn arp_answer(to: std::net::Ipv4Addr) -> Frame {
    arp(ArpOperation::Reply, OUR_HARDWARE, "192.0.2.10".parse().unwrap(), PEER_HARDWARE, to, PEER_HARDWARE)
}

#[test]
fn neighbour_solicitations_are_answered_for_our_address_only() {
    let us = v6("2001:db8::10");
    let them = v6("2001:db8::20");
    let group = v6("ff02::1:ff00:10");
    let ask = |target_addr| NdiscRepr::NeighborSolicit { target_addr, lladdr: Some(PEER_HARDWARE.into()) };
    let mut world = quiet();
    for to in [us, group] {
        let left = world.input(&ndisc(ask(us), them, to, 255));
        assert_eq!(left.len(), 1);
        let (from, to, ..) = open(&left[0]).unwrap();
        assert_eq!((from, to, destination(&left[0])), (us.into(), them.into(), PEER_HARDWARE));
        let expected = NdiscRepr::NeighborAdvert {
            flags: NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE,
            target_addr: us,
            lladdr: Some(OUR_HARDWARE.into()),
        };
        assert_eq!(neighbour(&left[0]), Some(expected));
    }
    let probe = NdiscRepr::NeighborSolicit { target_addr: us, lladdr: None };
    let left = world.input(&ndisc(probe, v6("::"), group, 255));
    assert_eq!(left.len(), 1, "duplicate address detection");
    let to =
        Ipv6Packet::new_checked(EthernetFrame::new_checked(&left[0]).unwrap().payload().to_vec()).unwrap().dst_addr();
    assert_eq!((to, destination(&left[0])), (v6("ff02::1"), EthernetAddress([0x33, 0x33, 0, 0, 0, 1])));
    let expected = NdiscRepr::NeighborAdvert {
        flags: NdiscNeighborFlags::OVERRIDE,
        target_addr: us,
        lladdr: Some(OUR_HARDWARE.into()),
    };
    assert_eq!(neighbour(&left[0]), Some(expected));
    for ignored in [
        ndisc(ask(us), them, us, 254),
        ndisc(ask(us), them, group, 64),
        ndisc(ask(them), them, us, 255),
        ndisc(ask(v6("2001:db8::11")), them, v6("ff02::1:ff00:11"), 255),
        ndisc(ask(us), v6("ff02::1"), us, 255),
    ] {
        assert_eq!(world.input(&ignored), Vec::<Frame>::new());
    }
}
