//! What every host on a network is expected to answer.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol, TcpControl};

use super::world::{Frame, Segment, World, icmpv6, ip, near, open, ours, packet, segments, v6};

fn ping4(to: &str) -> Frame {
    let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data: b"are you there" };
    let mut bytes = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
    packet(ip("192.0.2.20"), ip(to), IpProtocol::Icmp, 64, &bytes)
}

fn ping6(from: &str, to: &str) -> Frame {
    let repr = Icmpv6Repr::EchoRequest { ident: 7, seq_no: 9, data: b"are you there" };
    icmpv6(&repr, v6(from), v6(to), 64)
}

#[test]
fn pings_are_answered() {
    let mut world = World::new();
    let caps = ChecksumCapabilities::default();
    let left = world.input(&ping4("192.0.2.10"));
    let (from, to, _, bytes) = open(&left[0]).unwrap();
    assert_eq!((left.len(), from, to), (1, ip("192.0.2.10"), ip("192.0.2.20")));
    let icmp = Icmpv4Packet::new_checked(&bytes[..]).unwrap();
    let expected = Icmpv4Repr::EchoReply { ident: 7, seq_no: 9, data: b"are you there" };
    assert_eq!(Icmpv4Repr::parse(&icmp, &caps).unwrap(), expected);

    let left = world.input(&ping6("2001:db8::20", "2001:db8::10"));
    let (from, to, _, bytes) = open(&left[0]).unwrap();
    assert_eq!((left.len(), from, to), (1, ip("2001:db8::10"), ip("2001:db8::20")));
    let icmp = Icmpv6Packet::new_checked(&bytes[..]).unwrap();
    let expected = Icmpv6Repr::EchoReply { ident: 7, seq_no: 9, data: b"are you there" };
    assert_eq!(Icmpv6Repr::parse(&v6("2001:db8::10"), &v6("2001:db8::20"), &icmp, &caps).unwrap(), expected);
}

/// A neighbour may send more than we can, and its answer would hold up all else.
#[test]
fn pings_too_long_to_be_answered_are_not_and_hold_up_nothing() {
    let mut world = World::new();
    let long = |data: &[u8]| {
        let repr = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 9, data };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &ChecksumCapabilities::default());
        packet(ip("192.0.2.20"), ip("192.0.2.10"), IpProtocol::Icmp, 64, &bytes)
    };
    assert_eq!(world.input(&long(&[0; 1472])).len(), 1, "1500 octets of IP");
    assert_eq!(world.input(&long(&[0; 1473])), Vec::<Frame>::new());
    assert_eq!(world.input(&long(&[0; 20_000])), Vec::<Frame>::new());
    assert_eq!(world.input(&ping4("192.0.2.10")).len(), 1);
}

#[test]
fn pings_for_others_or_for_all_are_not() {
    let mut world = World::new();
    let mut broken = ping4("192.0.2.10");
    *broken.last_mut().unwrap() ^= 1;
    let mut broken6 = ping6("2001:db8::20", "2001:db8::10");
    *broken6.last_mut().unwrap() ^= 1;
    let mut to_all = ping4("192.0.2.10");
    to_all[..6].copy_from_slice(&[0xff; 6]);
    for ignored in [
        ping4("192.0.2.11"),
        ping4("255.255.255.255"),
        ping4("192.0.2.255"),
        ping6("2001:db8::20", "2001:db8::11"),
        ping6("2001:db8::20", "ff02::1"),
        ping6("::", "2001:db8::10"),
        broken,
        broken6,
        to_all,
    ] {
        assert_eq!(world.input(&ignored), Vec::<Frame>::new());
    }
}

#[test]
fn a_segment_of_no_stream_gets_rst_and_rst_gets_nothing() {
    for peer in near() {
        let mut world = World::new();
        let stray = Segment {
            from: peer,
            to: std::net::SocketAddr::new(ours(peer.ip()), 5555),
            seq: 100,
            ack: None,
            control: TcpControl::Syn,
            window: 100,
            mss: None,
            sack: false,
            payload: Vec::new(),
        };
        let left = segments(&world.input(&stray.frame()));
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].control, left[0].seq, left[0].ack), (TcpControl::Rst, 0, Some(101)), "nobody listens");
        assert!(world.input(&stray.with(|s| s.control = TcpControl::Rst).frame()).is_empty());
        let mut broken = stray.frame();
        *broken.last_mut().unwrap() ^= 1;
        assert!(world.input(&broken).is_empty());
        let whole = stray.frame();
        for len in 0..whole.len() {
            assert!(world.input(&whole[..len]).is_empty());
        }
        assert_eq!(world.stack.streams.len(), 0);
        assert_eq!(world.told(), []);
    }
}
