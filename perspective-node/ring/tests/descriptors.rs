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
fn drain(driver: &mut Driver) {
    let end = Instant::now() + PATIENCE;
    while driver.ring.streams_open() > 0 {
        assert!(Instant::now() < end, "{} streams left", driver.ring.streams_open());
        driver.turn(Duration::from_millis(10));
    }
}

#[test]
fn aborted_streams_leave_no_descriptor() {
    let (_hole, _fillers, hole) = black_hole();
    let (listener, peer) = listen("127.0.0.1:0");
    listener.set_nonblocking(true).unwrap();
    let before_ring = descriptors();
    let mut driver = Driver::new(config());
    let start = descriptors();

    connects_to_a_black_hole(&mut driver, hole);
    assert_eq!(descriptors(), start);

    for round in 0..20 {
        aborts_in_all_phases(&mut driver, peer, hole, round);
        while let Ok((socket, _)) = listener.accept() {
            drop(socket);
        }
        assert_eq!(descriptors(), start, "round {round}");
    }
    assert_eq!(driver.ring.stats().streams_opened, 50 + 2_000);

    // Dropping the ring in the middle of everything closes it all, too.
    let datagram = driver.ring.open_datagram(any(), peer).unwrap();
    driver.ring.send_datagram(datagram, b"x").unwrap();
    for _ in 0..20 {
        driver.ring.connect(None, hole).unwrap();
        let id = driver.ring.connect(None, peer).unwrap();
        driver.ring.receive(id);
        driver.ring.send(id, vec![1; 8 << 20]);
    }
    driver.turn(Duration::from_millis(20));
    let dropping = Instant::now();
    drop(driver);
    assert!(dropping.elapsed() < Duration::from_secs(1));
    while let Ok((socket, _)) = listener.accept() {
        drop(socket);
    }
    assert_eq!(descriptors(), before_ring);
}

fn connects_to_a_black_hole(driver: &mut Driver, hole: SocketAddr) {
    let ids: Vec<_> = (0..50).map(|_| driver.ring.connect(None, hole).unwrap()).collect();
    assert!(driver.settle(Duration::from_millis(50)).is_empty());
    assert_eq!(driver.ring.streams_open(), 50);
    for id in ids {
        driver.ring.close(id, Close::Graceful);
    }
    drain(driver);
    assert!(driver.seen.is_empty());
}

/// Opens 100 streams, takes each to one of eight states, aborts them.
fn aborts_in_all_phases(driver: &mut Driver, peer: SocketAddr, hole: SocketAddr, round: usize) {
    let mut ids = Vec::new();
    for number in 0..100 {
        let target = if number % 8 == 7 { hole } else { peer };
        let id = driver.ring.connect(None, target).unwrap();
        match number % 8 {
            0 => driver.ring.close(id, Close::Graceful),
            1 => driver.ring.close(id, Close::Reset),
            2 | 3 => driver.ring.receive(id),
            4 => driver.ring.send(id, vec![5; 4 << 20]),
            5 => {
                driver.ring.receive(id);
                driver.ring.send(id, vec![5; 4 << 20]);
            }
            _ => {}
        }
        ids.push(id);
        if (number + round).is_multiple_of(10) {
            driver.turn(Duration::ZERO);
        }
    }
    if !round.is_multiple_of(3) {
        driver.settle(Duration::from_millis(20));
    }
    for (number, id) in ids.into_iter().enumerate() {
        let how = if number % 2 == 0 { Close::Graceful } else { Close::Reset };
        driver.ring.close(id, how);
        if number % 16 == 0 {
            driver.turn(Duration::ZERO);
        }
    }
    drain(driver);
    driver.seen.clear();
}
