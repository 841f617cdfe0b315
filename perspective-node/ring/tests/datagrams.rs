//! Datagram sockets on the loopback interface.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::*;
use parallax_ring::*;

/// Answers with the same bytes until it receives an empty datagram.
fn echo(address: &str) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if len == 0 {
                return;
            }
            socket.send_to(&buffer[..len], from).unwrap();
        }
    });
    (address, thread)
}

fn payload(number: u32) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((0..number % 400).map(|i| (number + i) as u8));
    bytes
}

#[test]
fn ten_thousand_echoes_over_four_sockets() {
    let (peer, thread) = echo("127.0.0.1:0");
    let mut driver = Driver::new(config());
    let ids: Vec<_> = (0..4).map(|_| driver.ring.open_datagram(any(), peer).unwrap()).collect();
    let locals: HashSet<_> = ids.iter().map(|id| driver.ring.datagram_local(*id)).collect();
    assert_eq!(locals.len(), 4);
    let mut open = HashSet::new();
    let (mut next, mut done) = (0u32, 0);
    while done < 10_000 {
        while next < 10_000 && open.len() < 128 {
            let id = ids[next as usize % 4];
            driver.ring.send_datagram(id, &payload(next)).unwrap();
            open.insert(next);
            next += 1;
        }
        match driver.next() {
            Seen::Datagram(id, bytes) => {
                let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                assert_eq!(id, ids[number as usize % 4]);
                assert_eq!(bytes, payload(number));
                assert!(open.remove(&number));
                done += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    let stats = driver.ring.stats();
    assert_eq!(stats.datagrams_sent, 10_000);
    assert_eq!(stats.datagrams_received, 10_000);
    assert_eq!(driver.ring.datagram_slots_free(), 512);
    driver.ring.send_datagram(ids[0], &[]).unwrap();
    driver.turn(Duration::ZERO);
    thread.join().unwrap();
}

#[test]
fn a_burst_beyond_the_buffers_does_not_stop_the_socket() {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut driver = Driver::new(RingConfig { receive_buffers: 8, ..config() });
    let id = driver.ring.open_datagram(any(), sender.local_addr().unwrap()).unwrap();
    sender.connect(driver.ring.datagram_local(id)).unwrap();
    driver.turn(Duration::ZERO);
    for number in 0..500u32 {
        sender.send(&payload(number)).unwrap();
    }
    let mut got = 0;
    let end = Instant::now() + PATIENCE;
    while got < 500 && Instant::now() < end {
        driver.turn(Duration::from_millis(300));
        if driver.seen.is_empty() {
            break;
        }
        for seen in driver.seen.drain(..) {
            match seen {
                Seen::Datagram(_, bytes) => {
                    let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                    assert_eq!(bytes, payload(number));
                    got += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // The kernel's queue may drop some; what it kept must all arrive.
    assert!(got >= 64, "{got}");
    assert!(driver.ring.stats().out_of_buffers > 0);
    sender.send(b"still there").unwrap();
    assert!(matches!(driver.next(), Seen::Datagram(_, bytes) if bytes == b"still there"));
}

#[test]
fn a_refused_datagram_is_reported_and_the_socket_works_later() {
    let placeholder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = placeholder.local_addr().unwrap();
    drop(placeholder);
    let mut driver = Driver::new(config());
    let id = driver.ring.open_datagram(any(), peer).unwrap();
    driver.ring.send_datagram(id, b"one").unwrap();
    match driver.next() {
        Seen::DatagramFailed(failed, error) => {
            assert_eq!(failed, id);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    driver.settle(Duration::from_millis(50));
    let responder = UdpSocket::bind(peer).unwrap();
    responder.set_read_timeout(Some(PATIENCE)).unwrap();
    driver.ring.send_datagram(id, b"two").unwrap();
    driver.turn(Duration::ZERO);
    let mut buffer = [0; 16];
    let (len, from) = responder.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"two");
    responder.send_to(b"answer", from).unwrap();
    assert!(matches!(driver.next(), Seen::Datagram(_, bytes) if bytes == b"answer"));
}

#[test]
fn send_errors() {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = sink.local_addr().unwrap();
    let mut driver = Driver::new(RingConfig { datagram_send_slots: 2, ..config() });
    let id = driver.ring.open_datagram(any(), peer).unwrap();
    let send = |driver: &mut Driver, len: usize| driver.ring.send_datagram(id, &vec![7; len]);
    assert_eq!(send(&mut driver, MAX_DATAGRAM_SEND + 1), Err(SendError::TooLong));
    assert_eq!(send(&mut driver, MAX_DATAGRAM_SEND), Ok(()));
    assert_eq!(send(&mut driver, 1), Ok(()));
    assert_eq!(send(&mut driver, 1), Err(SendError::NoSlot));
    // The wait ends without an event, because a slot was wanted.
    let start = Instant::now();
    driver.turn(PATIENCE);
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(driver.seen.is_empty());
    assert_eq!(send(&mut driver, 1), Ok(()));
    driver.ring.close_datagram(id);
    assert_eq!(send(&mut driver, 1), Err(SendError::Closed));
    driver.settle(Duration::from_millis(30));
    let new = driver.ring.open_datagram(any(), peer).unwrap();
    assert_ne!(new, id);
    assert_eq!(new.index(), id.index());
    assert_eq!(send(&mut driver, 1), Err(SendError::Closed));
    driver.ring.close_datagram(id);
    assert_eq!(driver.ring.send_datagram(new, b"x"), Ok(()));
    assert_eq!(driver.ring.datagram_local(id), "0.0.0.0:0".parse().unwrap());
}

#[test]
fn empty_datagrams_and_ipv6() {
    let responder = UdpSocket::bind("[::1]:0").unwrap();
    let mut driver = Driver::new(config());
    let id = driver.ring.open_datagram("[::1]:0".parse().unwrap(), responder.local_addr().unwrap()).unwrap();
    let local = driver.ring.datagram_local(id);
    driver.turn(Duration::ZERO);
    for bytes in [&b""[..], b"a", b"", b"b"] {
        responder.send_to(bytes, local).unwrap();
        assert!(matches!(driver.next(), Seen::Datagram(_, got) if got == bytes));
    }
}

#[test]
fn more_operations_than_submission_entries() {
    let (peer, thread) = echo("127.0.0.1:0");
    let mut driver = Driver::new(RingConfig { entries: 4, receive_buffers: 16, ..config() });
    let ids: Vec<_> = (0..50).map(|_| driver.ring.open_datagram(any(), peer).unwrap()).collect();
    for (number, id) in ids.iter().enumerate() {
        driver.ring.send_datagram(*id, &payload(number as u32)).unwrap();
    }
    let mut got = HashSet::new();
    while got.len() < 50 {
        match driver.next() {
            Seen::Datagram(id, bytes) => {
                let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                assert_eq!(id, ids[number as usize]);
                got.insert(number);
            }
            other => panic!("{other:?}"),
        }
    }
    driver.ring.send_datagram(ids[0], &[]).unwrap();
    driver.turn(Duration::ZERO);
    thread.join().unwrap();
}
