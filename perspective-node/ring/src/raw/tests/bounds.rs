//! What things cost, and that nothing keeps others waiting or stops for good.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use smoltcp::wire::TcpControl;

use super::super::clock::Micros;
use super::super::stack::Due;
use super::super::stream::SILENT_BYTES;
use super::world::{Told, World, failed, near, segments};
use crate::{Close, StreamPhase};

#[test]
fn a_silent_stream_costs_a_few_hundred_bytes() {
    let entry = size_of::<(Micros, Due)>();
    println!("a silent stream: {SILENT_BYTES} and {entry} of agenda");
    assert!(SILENT_BYTES + entry <= 288, "{SILENT_BYTES} and {entry}");
}

#[test]
fn the_agenda_is_as_long_as_what_is_waited_for() {
    let mut world = World::new();
    let (id, mut next) = world.connected(near()[0]);
    world.pass(Micros::from_secs(2));
    let mut longest = 0;
    for n in 0..5_000u32 {
        world.stack.receive(id);
        if n % 3 == 0 {
            world.stack.send(id, b"x".to_vec());
        }
        next.payload = vec![n as u8; 10];
        next.control = TcpControl::Psh;
        let left = segments(&world.input(&next.frame()));
        next.seq += 10;
        // Some of what we say stays without an answer for a while.
        if n % 64 == 0
            && let Some(last) = left.last()
        {
            next.ack = Some(last.seq.wrapping_add(last.len()));
        }
        longest = longest.max(world.stack.agenda.len());
        world.pass(Micros(u64::from(n % 7) * 3_000));
        longest = longest.max(world.stack.agenda.len());
    }
    assert!(longest <= 2, "{longest} entries for one stream");
    world.close(id, Close::Reset);
    world.pass(Micros(1000));
    assert_eq!(world.stack.agenda.len(), 0);
}

#[test]
fn streams_that_come_and_go_leave_nothing() {
    let mut world = World::new();
    for n in 0..2_000 {
        let id = world.connect(near()[n % 2]);
        world.stack.send(id, b"GET".to_vec());
        let left = segments(&world.turn(&[]));
        if n % 3 == 0 {
            world.input(&left[0].answer(1).frame());
        }
        world.turn(&[]);
        world.close(id, if n % 5 == 0 { Close::Graceful } else { Close::Reset });
    }
    world.pass(Micros::from_secs(11));
    assert_eq!((world.stack.streams.len(), world.stack.agenda.len()), (0, 0));
}

#[test]
fn what_is_asked_of_a_stream_that_waits_for_its_hop_costs_nothing_more() {
    let mut world = World::new();
    world.answering = false;
    let id = world.connect(near()[0]);
    for _ in 0..100 {
        world.stack.send(id, b"x".to_vec());
        world.turn(&[]);
    }
    assert_eq!(world.stack.streams.waiting_len(), 1);
    assert_eq!(world.stack.agenda.len(), 1);
}

/// A stream with far more to send than its window takes its turn like others.
#[test]
fn a_busy_stream_does_not_keep_others_waiting() {
    let mut world = World::new();
    let (busy, mut next) = world.connected(near()[0]);
    next.mss = None;
    world.stack.send(busy, vec![0; 1 << 20]);
    let (quiet, _) = world.connected_among(near()[1]);
    world.stack.send(quiet, b"me too".to_vec());
    let left = segments(&world.turn(&[]));
    assert!(left.len() <= 3, "{} segments in a turn", left.len());
    assert!(left.iter().any(|s| s.payload == b"me too"));
}

fn panics_once(world: &mut World, frames: &[Vec<u8>]) {
    world.panics = true;
    let result = catch_unwind(AssertUnwindSafe(|| world.turn(frames)));
    assert!(result.is_err() && !world.panics);
}

#[test]
fn a_sink_that_panics_leaves_a_stack_that_goes_on() {
    for peer in near() {
        // While it is told that a stream stands.
        let mut world = World::new();
        let id = world.connect(peer);
        let syn = segments(&world.turn(&[])).pop().unwrap();
        panics_once(&mut world, &[syn.answer(10).frame()]);
        assert_eq!(segments(&world.turn(&[]))[0].ack, Some(11), "its answer is acknowledged");
        // While it is told that a buffer was taken: the octets leave and are sent again until they are acknowledged.
        world.told();
        world.stack.send(id, b"GET".to_vec());
        panics_once(&mut world, &[]);
        let left = world.pass(Micros::from_secs(4));
        assert_eq!(left.len(), 3, "at once, after one second and after three");
        // While it is given bytes.
        let mut says = syn.answer(10);
        says.control = TcpControl::Psh;
        says.seq = 11;
        says.ack = Some(syn.seq.wrapping_add(4));
        says.mss = None;
        says.sack = false;
        says.payload = b"hello".to_vec();
        world.told();
        world.stack.receive(id);
        world.turn(&[]);
        panics_once(&mut world, &[says.frame()]);
        let left = world.pass(Micros(20_000));
        assert_eq!(segments(&[left.last().unwrap().1.clone()])[0].ack, Some(16), "acknowledged");
        world.close(id, Close::Reset);
        world.pass(Micros(1000));
        assert_eq!(world.stack.streams.len(), 0);
    }
}

#[test]
fn a_sink_that_panics_at_a_lost_hop_hears_of_the_other_streams_later() {
    let mut world = World::new();
    world.answering = false;
    let ids = [world.connect(near()[0]), world.connect(near()[0]), world.connect(near()[0])];
    world.pass(Micros(2_999_999));
    world.now = world.now.plus(Micros(1));
    panics_once(&mut world, &[]);
    assert_eq!(world.told().len(), 1);
    world.pass(Micros::from_secs(4));
    let expected = ids[1..].iter().map(|id| failed(*id, StreamPhase::Connect, Errno::HOSTUNREACH));
    assert_eq!(world.told(), expected.collect::<Vec<Told>>());
}
