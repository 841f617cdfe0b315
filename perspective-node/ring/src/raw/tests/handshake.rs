//! From a SYN to a stream, or to the reason why not.

use rustix::io::Errno;
use smoltcp::wire::TcpControl;

use super::super::clock::Micros;
use super::world::{Told, World, failed, ip, near, segments};
use crate::StreamPhase;
use std::net::SocketAddr;

const NOBODY_WAITS: [u64; 7] = [0, 1, 3, 7, 15, 31, 63];

#[test]
fn a_silent_peer_gets_seven_identical_syns_and_then_the_stream_has_timed_out() {
    for peer in near() {
        let mut world = World::new();
        let start = world.now;
        let id = world.connect(peer);
        let left = world.pass(Micros::from_secs(126));
        let times: Vec<u64> = left.iter().map(|(at, _)| at.since(start).0).collect();
        assert_eq!(times, NOBODY_WAITS.map(|seconds| seconds * 1_000_000));
        assert!(left.iter().all(|(_, frame)| *frame == left[0].1));
        assert_eq!(world.told(), []);
        let left = world.pass(Micros(999_999));
        assert!(left.is_empty() && world.told().is_empty());
        let left = world.pass(Micros(1));
        assert!(left.is_empty());
        assert_eq!(world.told(), [failed(id, StreamPhase::Connect, Errno::TIMEDOUT)]);
        world.close(id, crate::Close::Graceful);
        assert_eq!(world.stack.streams.len(), 0);
    }
}

#[test]
fn a_stream_connects_after_any_of_its_syns() {
    for peer in near() {
        for waited in [0, 2, 40, 100] {
            let mut world = World::new();
            let id = world.connect(peer);
            let left = world.pass(Micros::from_secs(waited));
            let syn = segments(&[left[0].1.clone()]).pop().unwrap();
            assert_eq!((syn.to, syn.window, syn.ack), (peer, 8192, None));
            assert_eq!(syn.mss, Some(if peer.is_ipv4() { 1460 } else { 1440 }));
            let mut left = world.input(&syn.answer(u32::MAX).frame());
            assert_eq!(world.told(), [Told::Connected(id)]);
            left.extend(world.turn(&[]));
            let acks = segments(&left);
            assert_eq!(acks.len(), 1, "{acks:?}");
            assert_eq!((acks[0].seq, acks[0].ack), (syn.seq.wrapping_add(1), Some(0)), "numbers wrap");
            assert!(world.pass(Micros::from_secs(300)).is_empty());
            assert_eq!(world.told(), []);
        }
    }
}

/// RFC 6298 §3: an answer to one of several SYNs says nothing of the way.
#[test]
fn a_late_answer_does_not_slow_what_is_sent_again() {
    let mut world = World::new();
    let id = world.connect(near()[0]);
    let left = world.pass(Micros::from_secs(40));
    let syn = segments(&[left[0].1.clone()]).pop().unwrap();
    world.input(&syn.answer(9).frame());
    world.stack.send(id, b"GET".to_vec());
    let start = world.now;
    let left = world.pass(Micros::from_secs(4));
    let times: Vec<u64> = left.iter().map(|(at, _)| at.since(start).0 / 1000).collect();
    assert_eq!(times.len(), 3, "{times:?}");
    assert_eq!(times[0], 0);
    assert!((900..=1100).contains(&times[1]), "{times:?}");
}

#[test]
fn rst_refuses_if_it_answers_our_syn() {
    for peer in near() {
        let mut world = World::new();
        let id = world.connect(peer);
        let syn = segments(&world.turn(&[])).pop().unwrap();
        let rst = syn.answer(0).with(|s| {
            s.control = TcpControl::Rst;
            s.mss = None;
            s.sack = false;
        });
        for wrong in [rst.with(|s| s.ack = None), rst.with(|s| s.ack = Some(syn.seq)), rst.with(|s| s.to.set_port(9))] {
            assert!(world.input(&wrong.frame()).is_empty());
            assert_eq!(world.told(), []);
        }
        assert!(world.input(&rst.frame()).is_empty());
        assert_eq!(world.told(), [failed(id, StreamPhase::Connect, Errno::CONNREFUSED)]);
        assert!(world.input(&syn.answer(1).frame()).is_empty(), "it has failed");
        assert_eq!(world.told(), []);
    }
}

#[test]
fn what_fits_the_ports_but_not_the_numbers_changes_nothing() {
    for peer in near() {
        let mut world = World::new();
        let id = world.connect(peer);
        let syn = segments(&world.turn(&[])).pop().unwrap();
        let good = syn.answer(100);
        for off in [1u32, 2, 1000, 0x8000_0000, u32::MAX] {
            let wrong = good.with(|s| s.ack = Some(syn.seq.wrapping_add(1).wrapping_add(off)));
            let left = segments(&world.input(&wrong.frame()));
            // Who takes our SYN for that of an earlier stream is told that it has ended, and called again at once;
            // not more than once, for anybody may say that.
            assert_eq!(left.len(), if off == 1 { 2 } else { 1 }, "{off}");
            assert!(off != 1 || left[1] == syn, "the same SYN");
            assert_eq!((left[0].control, Some(left[0].seq)), (TcpControl::Rst, wrong.ack), "RFC 9293 §3.10.7.3");
            assert_eq!(world.told(), []);
        }
        let silent = [
            good.with(|s| s.ack = None),
            good.with(|s| s.control = TcpControl::None),
            good.with(|s| {
                s.control = TcpControl::Psh;
                s.payload = b"HTTP/1.1 200".to_vec();
            }),
            good.with(|s| s.control = TcpControl::Fin),
        ];
        for wrong in silent {
            assert_eq!(world.input(&wrong.frame()), Vec::<Vec<u8>>::new(), "{wrong:?}");
            assert_eq!(world.told(), []);
        }
        let stranger = good.with(|s| s.from.set_port(81));
        assert_eq!(segments(&world.input(&stranger.frame())).len(), 1, "another port is another flow");
        let elsewhere = SocketAddr::new(if peer.is_ipv4() { ip("192.0.2.21") } else { ip("2001:db8::21") }, 80);
        let stranger = good.with(|s| s.from = elsewhere);
        assert_eq!(segments(&world.input(&stranger.frame())).len(), 1, "another address is another flow");
        assert_eq!(world.told(), []);
        world.input(&good.frame());
        assert_eq!(world.told(), [Told::Connected(id)], "and the stream goes on to connect");
    }
}

#[test]
fn first_sequence_numbers_are_unrelated() {
    let mut world = World::new();
    let mut numbers: Vec<u32> = Vec::new();
    let mut ports: Vec<u16> = Vec::new();
    for _ in 0..64 {
        world.connect(near()[0]);
        let syn = segments(&world.turn(&[])).pop().unwrap();
        numbers.push(syn.seq);
        ports.push(syn.from.port());
    }
    let mut steps: Vec<u32> = numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    steps.sort_unstable();
    steps.dedup();
    assert_eq!(steps.len(), 63, "no step comes twice");
    assert!(steps.iter().all(|step| *step > 1000));
    let high = numbers.iter().filter(|number| **number >= 1 << 31).count();
    assert!((16..=48).contains(&high), "{high} of 64 in the upper half");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 64, "no port twice to one peer");
    assert!(ports[0] >= 1024);
}

#[test]
fn peers_that_no_host_can_be_are_refused() {
    let mut world = World::new();
    for peer in ["0.0.0.0:80", "192.0.2.20:0", "224.0.0.1:80", "255.255.255.255:80", "[::]:80", "[ff02::1]:80"] {
        let peer: SocketAddr = peer.parse().unwrap();
        assert!(world.stack.connect(None, peer, &mut || 77_777).is_err(), "{peer}");
        assert!(
            world.stack.open_datagram(SocketAddr::new(super::world::ours(peer.ip()), 0), peer, &mut || 77_777).is_err()
        );
    }
    let other = Some(ip("192.0.2.11"));
    assert!(world.stack.connect(other, near()[0], &mut || 77_777).is_err(), "not our address");
    assert!(world.stack.connect(Some(ip("192.0.2.10")), near()[0], &mut || 77_777).is_ok());
}

/// A scope and a flow label are the caller's; no packet brings them back.
#[test]
fn a_scoped_address_is_the_same_peer() {
    let mut world = World::new();
    let peer = "[2001:db8::20%7]:80".parse().unwrap();
    let id = world.connect(peer);
    let syn = segments(&world.turn(&[])).pop().unwrap();
    world.input(&syn.answer(5).frame());
    assert_eq!(world.told(), [Told::Connected(id)]);
    let id = world.open_datagram(peer);
    let local = world.stack.datagrams.local(id).unwrap();
    world.input(&super::world::udp(near()[1], local, b"hello"));
    assert_eq!(world.told(), [Told::Datagram(id, b"hello".to_vec())]);
}
