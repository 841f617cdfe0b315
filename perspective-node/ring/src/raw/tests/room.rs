//! The kernel takes no frames for a while: nothing is lost for good.

use smoltcp::wire::TcpControl;

use super::super::clock::Micros;
use super::super::output::Outbox;
use super::world::{Segment, Told, World, datagram, near, segments};
use crate::{Close, SendError};

/// What leaves when there is room again.
fn relieved(world: &mut World) -> Vec<Segment> {
    assert!(world.pass(Micros(10_000)).is_empty());
    world.stuck = false;
    let mut left = segments(&world.turn(&[]));
    left.extend(world.pass(Micros(500_000)).iter().filter_map(|(_, frame)| Segment::parse(frame)));
    left
}

#[test]
fn syns_leave_when_there_is_room_each_once() {
    for peer in near() {
        let mut world = World::new();
        world.connected(peer);
        world.fill();
        let ids = [world.connect(peer), world.connect(peer), world.connect(peer)];
        let left = relieved(&mut world);
        assert_eq!(left.len(), 3);
        for syn in left {
            world.input(&syn.answer(1).frame());
        }
        assert_eq!(world.told(), ids.map(Told::Connected));
    }
}

#[test]
fn what_is_sent_and_closed_leaves_when_there_is_room() {
    for peer in near() {
        for (how, expected) in [(None, TcpControl::Psh), (Some(Close::Graceful), TcpControl::Fin)] {
            let mut world = World::new();
            let (id, _) = world.connected(peer);
            world.fill();
            world.stack.send(id, b"GET /".to_vec());
            if let Some(how) = how {
                world.close(id, how);
            }
            let left = relieved(&mut world);
            assert_eq!(left.len(), 1, "{left:?}");
            assert_eq!((left[0].control, &left[0].payload[..]), (expected, &b"GET /"[..]));
        }
        let mut world = World::new();
        let (id, _) = world.connected(peer);
        world.fill();
        world.close(id, Close::Reset);
        let left = relieved(&mut world);
        assert_eq!(left.iter().map(|s| s.control).collect::<Vec<_>>(), [TcpControl::Rst]);
        assert_eq!(world.stack.streams.len(), 0);
    }
}

#[test]
fn an_acknowledgement_that_found_no_room_follows() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.stack.receive(id);
        world.turn(&[]);
        world.fill();
        let said = next.with(|s| {
            s.payload = b"hello".to_vec();
            s.control = TcpControl::Psh;
        });
        world.input(&said.frame());
        assert_eq!(world.told(), [Told::Received(id, b"hello".to_vec())]);
        let left = relieved(&mut world);
        assert_eq!(left.last().and_then(|s| s.ack), Some(next.seq + 5));
    }
}

/// The third duplicate acknowledgement comes while there is no room for what
/// it asks for.
#[test]
fn a_segment_sent_again_early_leaves_when_there_is_room() {
    for peer in near() {
        let mut world = World::new();
        let (id, next) = world.connected(peer);
        world.stack.send(id, b"lost on the way".to_vec());
        assert_eq!(segments(&world.turn(&[])).len(), 1);
        for _ in 0..2 {
            assert!(world.input(&next.frame()).is_empty());
        }
        world.fill();
        world.input(&next.frame());
        let left = relieved(&mut world);
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].seq, &left[0].payload[..]), (next.ack.unwrap(), &b"lost on the way"[..]));
    }
}

#[test]
fn the_acknowledgement_of_the_handshake_follows() {
    let mut world = World::new();
    let id = world.connect(near()[0]);
    let syn = segments(&world.turn(&[])).pop().unwrap();
    world.fill();
    world.input(&syn.answer(1).frame());
    assert_eq!(world.told(), [Told::Connected(id)]);
    assert_eq!(relieved(&mut world).last().and_then(|s| s.ack), Some(2));
}

#[test]
fn a_question_that_found_no_room_is_asked_a_second_later() {
    for peer in near() {
        let mut world = World::new();
        world.fill();
        world.connect(peer);
        world.pass(Micros(10_000));
        world.stuck = false;
        let left = world.pass(Micros::from_secs(1));
        assert_eq!(left.iter().filter(|(_, frame)| Segment::parse(frame).is_some()).count(), 1);
    }
}

#[test]
fn a_datagram_without_room_is_refused_at_once() {
    for peer in near() {
        let mut world = World::new();
        let id = world.open_datagram(peer);
        world.send_datagram(id, b"one").unwrap();
        assert_eq!(world.turn(&[]).len(), 1);
        world.fill();
        assert_eq!(world.send_datagram(id, b"two"), Err(SendError::NoSlot));
        world.stuck = false;
        assert!(world.turn(&[]).is_empty());
        world.send_datagram(id, b"three").unwrap();
        assert_eq!(datagram(&world.turn(&[])[0]).unwrap().2, b"three");
    }
}

#[test]
fn what_the_frame_layer_leaves_stays_in_order() {
    let mut outbox = Outbox::new(1514);
    let write = |outbox: &mut Outbox, text: &str| {
        outbox.frame(text.len()).unwrap().copy_from_slice(text.as_bytes());
    };
    for text in ["one", "two", "three"] {
        write(&mut outbox, text);
    }
    let mut taken = Vec::new();
    for room in [1, 0, 1] {
        let start = taken.len();
        outbox.drain(|frame| {
            let takes = taken.len() < start + room;
            if takes {
                taken.push(String::from_utf8(frame.to_vec()).unwrap());
            }
            takes
        });
    }
    write(&mut outbox, "four");
    outbox.drain(|frame| {
        taken.push(String::from_utf8(frame.to_vec()).unwrap());
        true
    });
    assert_eq!(taken, ["one", "two", "three", "four"]);
    assert!(outbox.is_empty());
}

/// The fourth SYN finds no room; the fifth is where it would have been.
#[test]
fn a_repeated_syn_without_room_is_one_lost() {
    let mut world = World::new();
    world.connect(near()[0]);
    let start = world.now;
    world.pass(Micros::from_secs(5));
    world.fill();
    world.pass(Micros::from_secs(5));
    world.stuck = false;
    world.turn(&[]);
    let left = world.pass(Micros::from_secs(60));
    let times: Vec<u64> = left.iter().map(|(at, _)| at.since(start).0 / 1_000_000).collect();
    assert_eq!(times, [15, 31, 63]);
}
