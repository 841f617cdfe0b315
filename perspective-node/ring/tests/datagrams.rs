//! Datagram sockets on the loopback interface.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::*;
use parallax_ring::*;

with_both_drivers! {
    ten_thousand_echoes_over_four_sockets,
    a_burst_beyond_the_buffers_does_not_stop_the_socket,
    a_refused_datagram_is_reported_and_the_socket_works_later,
    send_errors,
    empty_datagrams_and_ipv6,
    more_operations_than_submission_entries,
    a_datagram_longer_than_a_buffer_is_cut,
    a_flooded_socket_does_not_starve_the_others,
    a_closed_socket_sends_what_was_queued_and_tells_nothing,
}

/// Over epoll everything waits for the next wait, so this is io_uring's alone.
#[test]
fn what_is_submitted_leaves_without_a_wait() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut harness = Harness::new(config(Driver::IoUring));
    let id = harness.ring.open_datagram(any(), peer.local_addr().unwrap()).unwrap();
    let before = harness.ring.stats().enters;
    for number in 0..3 {
        harness.ring.send_datagram(id, &payload(number)).unwrap();
    }
    harness.ring.submit();
    let mut buffer = [0; 2048];
    for number in 0..3 {
        let len = peer.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..len], payload(number));
    }
    harness.ring.submit();
    assert_eq!(harness.ring.stats().enters, before + 1, "nothing is left, so the kernel is not asked");
}

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

fn ten_thousand_echoes_over_four_sockets(driver: Driver) {
    let (peer, thread) = echo("127.0.0.1:0");
    let mut harness = Harness::new(config(driver));
    let ids: Vec<_> = (0..4).map(|_| harness.ring.open_datagram(any(), peer).unwrap()).collect();
    let locals: HashSet<_> = ids.iter().map(|id| harness.ring.datagram_local(*id)).collect();
    assert_eq!(locals.len(), 4);
    let mut open = HashSet::new();
    let (mut next, mut done) = (0u32, 0);
    while done < 10_000 {
        while next < 10_000 && open.len() < 128 {
            let id = ids[next as usize % 4];
            harness.ring.send_datagram(id, &payload(next)).unwrap();
            open.insert(next);
            next += 1;
        }
        match harness.next() {
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
    let stats = harness.ring.stats();
    assert_eq!(stats.datagrams_sent, 10_000);
    assert_eq!(stats.datagrams_received, 10_000);
    assert_eq!(harness.ring.datagram_slots_free(), 512);
    harness.ring.send_datagram(ids[0], &[]).unwrap();
    harness.turn(Duration::ZERO);
    thread.join().unwrap();
}

fn a_burst_beyond_the_buffers_does_not_stop_the_socket(driver: Driver) {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut harness = Harness::new(RingConfig { receive_buffers: 8, ..config(driver) });
    let id = harness.ring.open_datagram(any(), sender.local_addr().unwrap()).unwrap();
    sender.connect(harness.ring.datagram_local(id)).unwrap();
    harness.turn(Duration::ZERO);
    for number in 0..500u32 {
        sender.send(&payload(number)).unwrap();
    }
    let mut got = 0;
    let end = Instant::now() + PATIENCE;
    while got < 500 && Instant::now() < end {
        harness.turn(Duration::from_millis(300));
        if harness.seen.is_empty() {
            break;
        }
        for seen in harness.seen.drain(..) {
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
    // epoll takes a datagram when it has room for it, so it never runs out.
    assert_eq!(harness.ring.stats().out_of_buffers > 0, driver == Driver::IoUring);
    sender.send(b"still there").unwrap();
    assert!(matches!(harness.next(), Seen::Datagram(_, bytes) if bytes == b"still there"));
}

fn a_refused_datagram_is_reported_and_the_socket_works_later(driver: Driver) {
    let placeholder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = placeholder.local_addr().unwrap();
    drop(placeholder);
    let mut harness = Harness::new(config(driver));
    let id = harness.ring.open_datagram(any(), peer).unwrap();
    harness.ring.send_datagram(id, b"one").unwrap();
    match harness.next() {
        Seen::DatagramFailed(failed, error) => {
            assert_eq!(failed, id);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    harness.settle(Duration::from_millis(50));
    let responder = UdpSocket::bind(peer).unwrap();
    responder.set_read_timeout(Some(PATIENCE)).unwrap();
    harness.ring.send_datagram(id, b"two").unwrap();
    harness.turn(Duration::ZERO);
    let mut buffer = [0; 16];
    let (len, from) = responder.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"two");
    responder.send_to(b"answer", from).unwrap();
    assert!(matches!(harness.next(), Seen::Datagram(_, bytes) if bytes == b"answer"));
}

fn send_errors(driver: Driver) {
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = sink.local_addr().unwrap();
    let mut harness = Harness::new(RingConfig { datagram_send_slots: 2, ..config(driver) });
    let id = harness.ring.open_datagram(any(), peer).unwrap();
    let send = |harness: &mut Harness, len: usize| harness.ring.send_datagram(id, &vec![7; len]);
    assert_eq!(send(&mut harness, MAX_DATAGRAM_SEND + 1), Err(SendError::TooLong));
    assert_eq!(send(&mut harness, MAX_DATAGRAM_SEND), Ok(()));
    assert_eq!(send(&mut harness, 1), Ok(()));
    assert_eq!(send(&mut harness, 1), Err(SendError::NoSlot));
    // The wait ends without an event, because a slot was wanted.
    let start = Instant::now();
    harness.turn(PATIENCE);
    assert!(start.elapsed() < PATIENCE / 2);
    assert!(harness.seen.is_empty());
    assert_eq!(send(&mut harness, 1), Ok(()));
    harness.ring.close_datagram(id);
    assert_eq!(send(&mut harness, 1), Err(SendError::Closed));
    harness.settle(Duration::from_millis(30));
    let new = harness.ring.open_datagram(any(), peer).unwrap();
    assert_ne!(new, id);
    assert_eq!(new.index(), id.index());
    assert_eq!(send(&mut harness, 1), Err(SendError::Closed));
    harness.ring.close_datagram(id);
    assert_eq!(harness.ring.send_datagram(new, b"x"), Ok(()));
    assert_eq!(harness.ring.datagram_local(id), "0.0.0.0:0".parse().unwrap());
}

fn empty_datagrams_and_ipv6(driver: Driver) {
    let responder = UdpSocket::bind("[::1]:0").unwrap();
    let mut harness = Harness::new(config(driver));
    let id = harness.ring.open_datagram("[::1]:0".parse().unwrap(), responder.local_addr().unwrap()).unwrap();
    let local = harness.ring.datagram_local(id);
    harness.turn(Duration::ZERO);
    for bytes in [&b""[..], b"a", b"", b"b"] {
        responder.send_to(bytes, local).unwrap();
        assert!(matches!(harness.next(), Seen::Datagram(_, got) if got == bytes));
    }
}

fn more_operations_than_submission_entries(driver: Driver) {
    let (peer, thread) = echo("127.0.0.1:0");
    let mut harness = Harness::new(RingConfig { entries: 4, receive_buffers: 16, ..config(driver) });
    let ids: Vec<_> = (0..50).map(|_| harness.ring.open_datagram(any(), peer).unwrap()).collect();
    for (number, id) in ids.iter().enumerate() {
        harness.ring.send_datagram(*id, &payload(number as u32)).unwrap();
    }
    let mut got = HashSet::new();
    while got.len() < 50 {
        match harness.next() {
            Seen::Datagram(id, bytes) => {
                let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
                assert_eq!(id, ids[number as usize]);
                got.insert(number);
            }
            other => panic!("{other:?}"),
        }
    }
    harness.ring.send_datagram(ids[0], &[]).unwrap();
    harness.turn(Duration::ZERO);
    thread.join().unwrap();
}

fn a_datagram_longer_than_a_buffer_is_cut(driver: Driver) {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut harness = Harness::new(RingConfig { receive_buffer_bytes: 64, ..config(driver) });
    let id = harness.ring.open_datagram(any(), sender.local_addr().unwrap()).unwrap();
    for len in [63, 64, 65, 1400, 1] {
        sender.send_to(&vec![len as u8; len], harness.ring.datagram_local(id)).unwrap();
        assert!(matches!(harness.next(), Seen::Datagram(_, bytes) if bytes == vec![len as u8; len.min(64)]));
    }
}

fn a_flooded_socket_does_not_starve_the_others(driver: Driver) {
    const FLOOD: usize = 200;
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut harness = Harness::new(config(driver));
    let ids = [(); 2].map(|()| harness.ring.open_datagram(any(), sender.local_addr().unwrap()).unwrap());
    for _ in 0..FLOOD {
        sender.send_to(b"flood", harness.ring.datagram_local(ids[0])).unwrap();
    }
    sender.send_to(b"one", harness.ring.datagram_local(ids[1])).unwrap();
    let before = (0..FLOOD).find(|_| matches!(harness.next(), Seen::Datagram(id, _) if id == ids[1]));
    assert!(before.is_some_and(|before| before < FLOOD / 2), "{before:?}");
}

fn a_closed_socket_sends_what_was_queued_and_tells_nothing(driver: Driver) {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut harness = Harness::new(config(driver));
    let id = harness.ring.open_datagram(any(), peer.local_addr().unwrap()).unwrap();
    harness.turn(Duration::ZERO);
    peer.send_to(b"too late", harness.ring.datagram_local(id)).unwrap();
    harness.ring.send_datagram(id, b"the last").unwrap();
    harness.ring.close_datagram(id);
    assert!(harness.settle(Duration::from_millis(30)).is_empty());
    let mut buffer = [0; 16];
    let len = peer.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"the last");
    assert_eq!(harness.ring.datagram_slots_free(), 512);
}
