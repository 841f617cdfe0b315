//! No descriptor leaks, whatever is aborted. One test function: descriptors
//! are counted for the process.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::*;
use parallax_ring::*;
use socket2::{Domain, Socket, Type};

/// A listener whose backlog is full: further connects get no answer.
fn black_hole() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&any().into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut fillers = Vec::new();
    while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fillers.push(filler);
    }
    (socket, fillers, address)
}

/// Waits until no stream is left; nothing may be reported meanwhile.
fn drain(harness: &mut Harness) {
    let end = Instant::now() + PATIENCE;
    while harness.ring.streams_open() > 0 {
        assert!(Instant::now() < end, "{} streams left", harness.ring.streams_open());
        harness.turn(Duration::from_millis(10));
    }
}

#[test]
fn aborted_streams_leave_no_descriptor() {
    Driver::ALL.into_iter().for_each(aborts_leave_no_descriptor);
}

fn aborts_leave_no_descriptor(driver: Driver) {
    let (_hole, _fillers, hole) = black_hole();
    let (listener, peer) = listen("127.0.0.1:0");
    listener.set_nonblocking(true).unwrap();
    let before_ring = descriptors();
    let mut harness = Harness::new(config(driver));
    let start = descriptors();

    connects_to_a_black_hole(&mut harness, hole);
    assert_eq!(descriptors(), start);

    for round in 0..20 {
        aborts_in_all_phases(&mut harness, peer, hole, round);
        while let Ok((socket, _)) = listener.accept() {
            drop(socket);
        }
        assert_eq!(descriptors(), start, "round {round}");
    }
    assert_eq!(harness.ring.stats().streams_opened, 50 + 2_000);

    for _ in 0..50 {
        let id = harness.ring.open_datagram(any(), peer).unwrap();
        harness.ring.send_datagram(id, b"x").unwrap();
        harness.ring.close_datagram(id);
    }
    harness.settle(Duration::from_millis(30));
    assert_eq!(descriptors(), start);

    // Dropping the ring in the middle of everything closes it all, too.
    let datagram = harness.ring.open_datagram(any(), peer).unwrap();
    harness.ring.send_datagram(datagram, b"x").unwrap();
    for _ in 0..20 {
        harness.ring.connect(None, hole).unwrap();
        let id = harness.ring.connect(None, peer).unwrap();
        harness.ring.receive(id);
        harness.ring.send(id, vec![1; 8 << 20]);
    }
    harness.turn(Duration::from_millis(20));
    let dropping = Instant::now();
    drop(harness);
    assert!(dropping.elapsed() < Duration::from_secs(1));
    while let Ok((socket, _)) = listener.accept() {
        drop(socket);
    }
    assert_eq!(descriptors(), before_ring);
}

fn connects_to_a_black_hole(harness: &mut Harness, hole: SocketAddr) {
    let ids: Vec<_> = (0..50).map(|_| harness.ring.connect(None, hole).unwrap()).collect();
    assert!(harness.settle(Duration::from_millis(50)).is_empty());
    assert_eq!(harness.ring.streams_open(), 50);
    for id in ids {
        harness.ring.close(id, Close::Graceful);
    }
    drain(harness);
    assert!(harness.seen.is_empty());
}

/// Opens 100 streams, takes each to one of eight states, aborts them.
fn aborts_in_all_phases(harness: &mut Harness, peer: SocketAddr, hole: SocketAddr, round: usize) {
    let mut ids = Vec::new();
    for number in 0..100 {
        let target = if number % 8 == 7 { hole } else { peer };
        let id = harness.ring.connect(None, target).unwrap();
        match number % 8 {
            0 => harness.ring.close(id, Close::Graceful),
            1 => harness.ring.close(id, Close::Reset),
            2 | 3 => harness.ring.receive(id),
            4 => harness.ring.send(id, vec![5; 4 << 20]),
            5 => {
                harness.ring.receive(id);
                harness.ring.send(id, vec![5; 4 << 20]);
            }
            _ => {}
        }
        ids.push(id);
        if (number + round).is_multiple_of(10) {
            harness.turn(Duration::ZERO);
        }
    }
    if !round.is_multiple_of(3) {
        harness.settle(Duration::from_millis(20));
    }
    for (number, id) in ids.into_iter().enumerate() {
        let how = if number % 2 == 0 { Close::Graceful } else { Close::Reset };
        harness.ring.close(id, how);
        if number % 16 == 0 {
            harness.turn(Duration::ZERO);
        }
    }
    drain(harness);
    harness.seen.clear();
}
