//! The end of a stream, from our side.

use smoltcp::wire::TcpControl;

use super::super::clock::Micros;
use super::world::{Segment, World, near, pattern, segments};
use crate::Close;

fn controls(left: &[(Micros, Vec<u8>)]) -> Vec<TcpControl> {
    left.iter().filter_map(|(_, frame)| Segment::parse(frame)).map(|s| s.control).collect()
}

#[test]
fn reset_sends_one_rst_and_nothing_is_left() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.stack.send(id, pattern(5000, 1));
        world.turn(&[]);
        world.told();
        world.close(id, Close::Reset);
        world.close(id, Close::Graceful);
        let left = world.pass(Micros::from_secs(100));
        assert_eq!(controls(&left), [TcpControl::Rst]);
        assert_eq!(world.stack.streams.len(), 0);
        let left = segments(&world.input(&next.with(|s| s.payload = b"late".to_vec()).frame()));
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].control, Some(left[0].seq)), (TcpControl::Rst, next.ack), "to a stranger");
        assert!(world.input(&next.with(|s| s.control = TcpControl::Rst).frame()).is_empty(), "RST is not answered");
        assert_eq!(world.told(), []);
    }
}

#[test]
fn graceful_delivers_what_was_queued_and_then_fin() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        let bytes = pattern(5000, 9);
        world.stack.send(id, bytes[..3000].to_vec());
        world.stack.send(id, bytes[3000..].to_vec());
        world.stack.receive(id);
        world.close(id, Close::Graceful);
        world.stack.send(id, b"too late".to_vec());
        let (mut got, mut end) = (Vec::new(), 0);
        let mut left = segments(&world.turn(&[]));
        for _ in 0..20 {
            for segment in left.drain(..) {
                end = segment.seq.wrapping_add(segment.len());
                got.extend(segment.payload);
                if segment.control == TcpControl::Fin {
                    assert_eq!(got, bytes);
                }
            }
            left = segments(&world.input(&next.with(|s| s.ack = Some(end)).frame()));
        }
        assert_eq!(got, bytes);
        assert_eq!(end, next.ack.unwrap().wrapping_add(5001), "FIN was sent");
        assert_eq!(world.stack.streams.len(), 1, "its peer has not said goodbye");
        let left = world.input(
            &next
                .with(|s| {
                    s.ack = Some(end);
                    s.control = TcpControl::Fin;
                })
                .frame(),
        );
        assert_eq!(segments(&left)[0].ack, Some(next.seq + 1));
        assert_eq!(world.stack.streams.len(), 0);
        assert_eq!(world.told(), [], "no event after close");
    }
}

#[test]
fn a_stream_closed_gracefully_goes_after_a_while_whatever_its_peer_does() {
    for acknowledged in [0u32, 500, 1001] {
        let mut world = World::new();
        let (id, next) = world.connected(near()[0]);
        world.stack.send(id, pattern(1000, 9));
        world.close(id, Close::Graceful);
        world.turn(&[]);
        if acknowledged > 0 {
            world.input(&next.with(|s| s.ack = Some(s.ack.unwrap().wrapping_add(acknowledged))).frame());
        }
        world.pass(Micros(9_999_999));
        assert_eq!(world.stack.streams.len(), 1);
        world.pass(Micros(1));
        assert_eq!(world.stack.streams.len(), 0, "{acknowledged}");
        assert!(world.pass(Micros::from_secs(300)).is_empty());
        assert_eq!(world.told(), []);
        assert_eq!(world.stack.agenda.len(), 0);
    }
}

/// Its last octets and FIN come together: smoltcp would like to wait with the
/// acknowledgement.
#[test]
fn the_last_acknowledgement_leaves_before_the_stream_goes() {
    for peer in near() {
        for full in [false, true] {
            let mut world = World::new();
            let (id, next) = world.connected(peer);
            world.close(id, Close::Graceful);
            world.turn(&[]);
            let seen = next.with(|s| s.ack = Some(s.ack.unwrap().wrapping_add(1)));
            world.input(&seen.frame());
            if full {
                world.fill();
            }
            let goodbye = seen.with(|s| {
                s.payload = b"goodbye".to_vec();
                s.control = TcpControl::Fin;
            });
            let mut left = world.input(&goodbye.frame());
            world.stuck = false;
            left.extend(world.pass(Micros(20_000)).into_iter().map(|(_, frame)| frame));
            assert_eq!(segments(&left).last().and_then(|s| s.ack), Some(next.seq + 8));
            assert_eq!(world.stack.streams.len(), 0);
            assert_eq!(world.told(), []);
        }
    }
}

#[test]
fn before_it_stands_a_stream_is_gone_at_once() {
    for peer in near() {
        for how in [Close::Graceful, Close::Reset] {
            let mut world = World::new();
            let id = world.connect(peer);
            world.close(id, how);
            assert!(world.pass(Micros::from_secs(1)).is_empty(), "not even called");
            let id = world.connect(peer);
            let syn = segments(&world.turn(&[])).pop().unwrap();
            world.close(id, how);
            assert_eq!(world.stack.streams.len(), 0);
            let left = segments(&world.input(&syn.answer(50).frame()));
            assert_eq!(left.len(), 1, "RFC 9293 §3.10.7.1");
            assert_eq!((left[0].control, left[0].seq), (TcpControl::Rst, syn.seq.wrapping_add(1)));
            assert!(world.pass(Micros::from_secs(200)).is_empty());
            assert_eq!(world.told(), []);
        }
    }
}

#[test]
fn nothing_is_told_after_close_whatever_arrives() {
    for peer in near() {
        for control in [TcpControl::None, TcpControl::Psh, TcpControl::Fin, TcpControl::Rst, TcpControl::Syn] {
            for how in [Close::Graceful, Close::Reset] {
                for turned in [true, false] {
                    let mut world = World::new();
                    let (id, next) = world.connected(peer);
                    world.stack.send(id, pattern(2000, 1));
                    world.stack.receive(id);
                    world.close(id, how);
                    world.stack.receive(id);
                    if turned {
                        world.turn(&[]);
                    }
                    let arrives = next.with(|s| {
                        s.control = control;
                        s.payload = b"x".to_vec();
                    });
                    world.input(&arrives.frame());
                    world.pass(Micros::from_secs(30));
                    assert_eq!(world.told(), [], "{control:?} {how:?}");
                    assert_eq!(world.stack.streams.len(), 0);
                }
            }
        }
    }
}
