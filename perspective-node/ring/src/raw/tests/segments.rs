//! A stream that stands, segment by segment.

use rustix::io::Errno;
use smoltcp::wire::TcpControl;

use super::super::clock::Micros;
use super::world::{Segment, Told, World, failed, near, pattern, segments};
use crate::StreamPhase;

/// The peer's next segment: `bytes`, and what of ours it has seen.
fn says(next: &Segment, bytes: &[u8]) -> Segment {
    next.with(|s| {
        s.control = if bytes.is_empty() { TcpControl::None } else { TcpControl::Psh };
        s.payload = bytes.to_vec();
    })
}

#[test]
fn each_receive_is_answered_once() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.input(&says(&next, b"hello").frame());
        assert_eq!(world.told(), [], "nobody asked");
        world.stack.receive(id);
        world.stack.receive(id);
        world.turn(&[]);
        assert_eq!(world.told(), [Told::Received(id, b"hello".to_vec())]);
        world.turn(&[]);
        assert_eq!(world.told(), []);
        world.stack.receive(id);
        world.turn(&[]);
        let more = says(&next, b"more").with(|s| s.seq += 5);
        world.input(&more.frame());
        world.input(&more.frame());
        assert_eq!(world.told(), [Told::Received(id, b"more".to_vec())], "a duplicate is no news");
    }
}

#[test]
fn what_is_received_at_a_time_is_bounded() {
    let mut world = World::new();
    let (id, next) = world.connected(near()[0]);
    let bytes = pattern(2800, 1);
    world.input(&says(&next, &bytes[..1400]).frame());
    world.input(&says(&next, &bytes[1400..]).with(|s| s.seq += 1400).frame());
    let mut got = Vec::new();
    for _ in 0..3 {
        world.stack.receive(id);
        world.turn(&[]);
        let told = world.told();
        let [Told::Received(_, some)] = &told[..] else { panic!("{told:?}") };
        assert!(some.len() <= super::world::RECEIVE_BYTES as usize);
        got.extend_from_slice(some);
    }
    assert_eq!(got, bytes);
}

#[test]
fn fin_is_an_empty_receive_after_everything() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.input(&says(&next, b"all").with(|s| s.control = TcpControl::Fin).frame());
        for expected in [&b"all"[..], b"", b""] {
            world.stack.receive(id);
            world.turn(&[]);
            assert_eq!(world.told(), [Told::Received(id, expected.to_vec())]);
        }
        world.stack.send(id, b"still open this way".to_vec());
        assert_eq!(segments(&world.turn(&[]))[0].payload, b"still open this way");
        assert_eq!(world.told(), [Told::Sent(id)]);
    }
}

#[test]
fn rst_fails_what_is_asked_next() {
    for peer in near() {
        for asked_before in [true, false] {
            let mut world = World::new();
            let (id, next) = world.connected(peer);
            if asked_before {
                world.stack.receive(id);
                world.turn(&[]);
            }
            let rst = next.with(|s| s.control = TcpControl::Rst);
            assert!(world.input(&rst.frame()).is_empty());
            if !asked_before {
                assert_eq!(world.told(), []);
                world.stack.receive(id);
                world.turn(&[]);
            }
            assert_eq!(world.told(), [failed(id, StreamPhase::Receive, Errno::CONNRESET)]);
            world.stack.send(id, b"x".to_vec());
            world.stack.receive(id);
            assert!(world.pass(Micros::from_secs(60)).is_empty());
            assert_eq!(world.told(), []);
        }
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.input(&next.with(|s| s.control = TcpControl::Rst).frame());
        world.stack.send(id, b"x".to_vec());
        world.turn(&[]);
        assert_eq!(world.told(), [failed(id, StreamPhase::Send, Errno::PIPE)]);
    }
}

#[test]
fn sent_is_told_once_a_buffer_and_in_order() {
    let mut world = World::new();
    let (id, next) = world.connected(near()[0]);
    let buffers = [pattern(10, 1), Vec::new(), pattern(3000, 2), pattern(1, 3)];
    for buffer in &buffers {
        world.stack.send(id, buffer.clone());
    }
    let expected = buffers.concat();
    let (mut got, mut sent) = (Vec::new(), 0);
    let mut left = segments(&world.turn(&[]));
    for _ in 0..20 {
        for segment in left.drain(..) {
            assert_eq!(segment.seq, next.ack.unwrap().wrapping_add(got.len() as u32));
            got.extend(segment.payload);
        }
        let told = world.told();
        assert!(told.iter().all(|told| *told == Told::Sent(id)));
        sent += told.len();
        let ends = [10, 10, 3010, 3011];
        assert!(sent <= ends.iter().filter(|end| **end <= got.len() + 1024).count());
        let seen = next.with(|s| s.ack = Some(s.ack.unwrap().wrapping_add(got.len() as u32)));
        left = segments(&world.input(&seen.frame()));
    }
    assert_eq!((got, sent), (expected, 4));
}

#[test]
fn a_blind_segment_changes_nothing() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.stack.receive(id);
        world.turn(&[]);
        for off in [8192u32, 100_000, 0x4000_0000, 0x8000_0000, 0xc000_0000, u32::MAX - 100_000] {
            for control in [TcpControl::Rst, TcpControl::Psh, TcpControl::Fin, TcpControl::None, TcpControl::Syn] {
                let blind = says(&next, b"evil").with(|s| {
                    s.seq = s.seq.wrapping_add(off);
                    s.control = control;
                });
                let left = segments(&world.input(&blind.frame()));
                assert!(left.len() <= 1 && left.iter().all(|s| s.control == TcpControl::None), "{left:?}");
                let blind = blind.with(|s| {
                    s.seq = next.seq;
                    s.ack = Some(s.ack.unwrap().wrapping_add(off));
                });
                if control != TcpControl::Rst {
                    let left = segments(&world.input(&blind.frame()));
                    assert!(left.len() <= 1 && left.iter().all(|s| s.control == TcpControl::None), "{left:?}");
                }
            }
        }
        assert_eq!(world.told(), []);
        world.input(&says(&next, b"good").frame());
        assert_eq!(world.told(), [Told::Received(id, b"good".to_vec())]);
    }
}

/// After a FIN that just fits, the window ends before the next number; a
/// number half the space away then looks as if it were inside.
#[test]
fn a_number_from_the_other_side_of_the_world_is_no_hole() {
    for peer in near() {
        for (sack, stuck) in [(true, false), (false, false), (true, true)] {
            let mut world = World::new();
            let id = world.connect(peer);
            let syn = segments(&world.turn(&[])).pop().unwrap();
            let synack = syn.answer(7000).with(|s| s.sack = sack);
            world.input(&synack.frame());
            let left = world.turn(&[]);
            assert_eq!(world.told(), [Told::Connected(id)]);
            let edge = segments(&left).iter().map(|s| s.ack.unwrap() + u32::from(s.window)).max().unwrap();
            let mut next = Segment { control: TcpControl::None, seq: 7001, mss: None, sack: false, ..synack.clone() };
            while edge - next.seq > 100 {
                let len = (edge - next.seq - 100).min(1000);
                world.input(&says(&next, &vec![1; len as usize]).frame());
                next.seq += len;
                world.pass(Micros(20_000));
            }
            if stuck {
                world.fill();
            }
            world.input(&says(&next, &[2; 100]).with(|s| s.control = TcpControl::Fin).frame());
            let far = says(&next, &[3; 500]).with(|s| {
                s.seq = edge.wrapping_add(0x8000_0000);
                s.control = TcpControl::None;
            });
            for _ in 0..3 {
                assert!(world.input(&far.frame()).len() <= 1);
            }
            world.stack.receive(id);
            world.turn(&[]);
            assert!(matches!(&world.told()[..], [Told::Received(..)]), "still at work");
        }
    }
}

/// RFC 1122 §4.2.2.17: a closed window is asked about until it opens.
#[test]
fn a_closed_window_is_probed() {
    let mut world = World::new();
    let (id, next) = world.connected(near()[0]);
    world.input(&next.with(|s| s.window = 0).frame());
    world.stack.send(id, b"patience".to_vec());
    let left = world.pass(Micros::from_secs(20));
    assert!((3..12).contains(&left.len()), "{}", left.len());
    let start = next.ack.unwrap();
    world.input(&next.frame());
    let left = world.pass(Micros::from_secs(60));
    let whole =
        left.iter().filter_map(|(_, frame)| Segment::parse(frame)).any(|s| s.seq == start && s.payload == b"patience");
    assert!(whole);
}
