//! TCP streams on the loopback interface, and the waker.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::{Duration, Instant};

use common::*;
use parallax_ring::*;

with_both_drivers! {
    connect_send_receive_fin,
    ipv6,
    refused,
    a_connect_that_fails_at_once_is_told_by_the_next_wait,
    an_address_that_is_not_ours_is_an_error_at_once,
    a_stale_id_is_ignored,
    no_event_follows_a_close,
    a_big_send_to_a_slow_reader_arrives_complete,
    many_streams_share_few_buffers,
    reset_is_seen_by_the_peer,
    a_reset_by_the_peer_fails_the_receive,
    another_thread_wakes_the_ring,
    no_wake_is_lost,
    the_timeout_is_kept,
    a_completion_queue_that_overflows_loses_nothing,
    a_sink_that_panics_leaves_a_ring_that_works,
}

fn round_trip(driver: Driver, address: &str, local: Option<&str>) {
    let (listener, peer) = listen(address);
    let thread = std::thread::spawn(move || {
        let (mut socket, from) = listener.accept().unwrap();
        let mut request = [0; 9];
        socket.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"onetwosix");
        socket.write_all(b"answer").unwrap();
        from.ip()
    });
    let mut harness = Harness::new(config(driver));
    let local = local.map(|local| local.parse().unwrap());
    let id = harness.ring.connect(local, peer).unwrap();
    // Before the connection stands, sends and a receive wait.
    harness.ring.receive(id);
    for bytes in [b"one", b"two", b"six"] {
        harness.ring.send(id, bytes.to_vec());
    }
    let (mut connected, mut sent, mut got) = (0, 0, Vec::new());
    loop {
        match harness.next() {
            Seen::Connected(_) => connected += 1,
            Seen::Sent(_) => sent += 1,
            Seen::Received(_, bytes) if bytes.is_empty() => break,
            Seen::Received(_, bytes) => {
                got.extend(bytes);
                harness.ring.receive(id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((connected, sent, got.as_slice()), (1, 3, &b"answer"[..]));
    let from = thread.join().unwrap();
    if let Some(local) = local {
        assert_eq!(from, local);
    }
    harness.ring.close(id, Close::Graceful);
    assert_eq!(harness.ring.streams_open(), 0);
}

fn connect_send_receive_fin(driver: Driver) {
    round_trip(driver, "127.0.0.1:0", None);
    round_trip(driver, "127.0.0.1:0", Some("127.0.0.7"));
}

fn ipv6(driver: Driver) {
    round_trip(driver, "[::1]:0", None);
    round_trip(driver, "[::1]:0", Some("::1"));
}

fn refused(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    drop(listener);
    let mut harness = Harness::new(config(driver));
    let id = harness.ring.connect(None, peer).unwrap();
    match harness.next() {
        Seen::Failed(failed, StreamPhase::Connect, error) => {
            assert_eq!(failed, id);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    harness.ring.send(id, vec![1]);
    harness.ring.receive(id);
    assert!(harness.settle(Duration::from_millis(30)).is_empty());
    harness.ring.close(id, Close::Graceful);
    assert_eq!(harness.ring.streams_open(), 0);
}

fn a_connect_that_fails_at_once_is_told_by_the_next_wait(driver: Driver) {
    let mut harness = Harness::new(config(driver));
    // The kernel refuses to connect to a multicast address without trying.
    let id = harness.ring.connect(None, "224.0.0.1:9".parse().unwrap()).unwrap();
    harness.ring.send(id, vec![1]);
    harness.ring.receive(id);
    match harness.next() {
        Seen::Failed(failed, StreamPhase::Connect, _) => assert_eq!(failed, id),
        other => panic!("{other:?}"),
    }
    assert!(harness.settle(Duration::from_millis(30)).is_empty());
    let closed = harness.ring.connect(None, "224.0.0.1:9".parse().unwrap()).unwrap();
    harness.ring.close(closed, Close::Reset);
    harness.ring.close(id, Close::Graceful);
    assert!(harness.settle(Duration::from_millis(30)).is_empty());
    assert_eq!(harness.ring.streams_open(), 0);
}

fn an_address_that_is_not_ours_is_an_error_at_once(driver: Driver) {
    let mut harness = Harness::new(config(driver));
    let peer = "127.0.0.1:9".parse().unwrap();
    for local in ["192.0.2.1", "::1"] {
        assert!(harness.ring.connect(Some(local.parse().unwrap()), peer).is_err());
    }
    assert_eq!(harness.ring.streams_open(), 0);
}

fn a_stale_id_is_ignored(driver: Driver) {
    let (_listener, peer) = listen("127.0.0.1:0");
    let mut harness = Harness::new(config(driver));
    let old = harness.connected(peer);
    harness.ring.close(old, Close::Reset);
    let new = harness.connected(peer);
    assert_eq!(old.index(), new.index());
    assert_ne!(old, new);
    harness.ring.send(old, vec![1]);
    harness.ring.receive(old);
    harness.ring.close(old, Close::Reset);
    assert!(harness.settle(Duration::from_millis(30)).is_empty());
    assert_eq!(harness.ring.streams_open(), 1);
    harness.ring.send(new, vec![1]);
    assert!(matches!(harness.next(), Seen::Sent(id) if id == new));
}

fn no_event_follows_a_close(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    let mut harness = Harness::new(config(driver));
    let id = harness.connected(peer);
    let (mut accepted, _) = listener.accept().unwrap();
    harness.ring.receive(id);
    harness.turn(Duration::ZERO);
    accepted.write_all(b"late").unwrap();
    harness.ring.send(id, vec![0; 100]);
    harness.ring.close(id, Close::Graceful);
    assert!(harness.settle(Duration::from_millis(50)).is_empty());
    assert_eq!(harness.ring.streams_open(), 0);
}

fn a_big_send_to_a_slow_reader_arrives_complete(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    let size = 8 << 20;
    let pattern = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut all = Vec::with_capacity(size);
        let mut buffer = vec![0; 256 << 10];
        loop {
            std::thread::sleep(Duration::from_millis(5));
            match socket.read(&mut buffer).unwrap() {
                0 => return all,
                len => all.extend_from_slice(&buffer[..len]),
            }
        }
    });
    let mut harness = Harness::new(config(driver));
    let id = harness.connected(peer);
    let bytes: Vec<u8> = (0..size).map(pattern).collect();
    harness.ring.send(id, bytes.clone());
    assert!(matches!(harness.next(), Seen::Sent(sent) if sent == id));
    harness.ring.close(id, Close::Graceful);
    assert!(thread.join().unwrap() == bytes);
}

fn many_streams_share_few_buffers(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    let thread = std::thread::spawn(move || {
        let mut sockets: Vec<_> = (0..40).map(|_| listener.accept().unwrap().0).collect();
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.write_all(&vec![number as u8; 20_000]).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        }
        // Stay until the reader has closed.
        for socket in &mut sockets {
            let _ = socket.read(&mut [0]);
        }
    });
    let mut harness = Harness::new(RingConfig { receive_buffers: 4, receive_buffer_bytes: 1024, ..config(driver) });
    let ids: Vec<_> = (0..40).map(|_| harness.connected(peer)).collect();
    ids.iter().for_each(|id| harness.ring.receive(*id));
    let mut totals = vec![0; 40];
    let mut finished = 0;
    while finished < 40 {
        match harness.next() {
            Seen::Received(id, bytes) if bytes.is_empty() => {
                finished += 1;
                harness.ring.close(id, Close::Graceful);
            }
            Seen::Received(id, bytes) => {
                let fill = bytes[0];
                assert!(bytes.iter().all(|byte| *byte == fill));
                totals[id.index()] += bytes.len();
                harness.ring.receive(id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(totals, vec![20_000; 40]);
    thread.join().unwrap();
}

fn reset_is_seen_by_the_peer(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    let mut harness = Harness::new(config(driver));
    for receiving in [false, true] {
        let id = harness.connected(peer);
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        if receiving {
            harness.ring.receive(id);
            harness.turn(Duration::ZERO);
        }
        harness.ring.close(id, Close::Reset);
        harness.settle(Duration::from_millis(20));
        let error = accepted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

fn a_reset_by_the_peer_fails_the_receive(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    let mut harness = Harness::new(config(driver));
    let id = harness.connected(peer);
    let (accepted, _) = listener.accept().unwrap();
    harness.ring.receive(id);
    harness.ring.send(id, vec![1]);
    assert!(matches!(harness.next(), Seen::Sent(_)));
    // Unread bytes turn the close into a reset.
    drop(accepted);
    assert!(matches!(
        harness.next(),
        Seen::Failed(failed, StreamPhase::Receive, _) if failed == id
    ));
}

fn another_thread_wakes_the_ring(driver: Driver) {
    let mut harness = Harness::new(config(driver));
    let start = Instant::now();
    for round in 0..5 {
        let waker = harness.ring.waker();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            (0..100).for_each(|_| waker.wake());
        });
        let seen = &mut harness.seen;
        let timeout = if round == 0 { None } else { Some(Duration::from_secs(3600)) };
        while seen.is_empty() {
            harness.ring.wait(timeout, &mut |event| seen.push_back(own(event))).unwrap();
        }
        thread.join().unwrap();
        let rest = harness.settle(Duration::from_millis(10));
        assert!(rest.iter().all(|seen| matches!(seen, Seen::Woken)));
        assert!(rest.len() < 100);
    }
    assert!(start.elapsed() < PATIENCE);
}

fn no_wake_is_lost(driver: Driver) {
    let mut harness = Harness::new(config(driver));
    let waker = harness.ring.waker();
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        for number in 0..20_000u32 {
            sender.send(number).unwrap();
            waker.wake();
        }
    });
    let mut got = 0;
    while got < 20_000 {
        assert!(matches!(harness.next(), Seen::Woken));
        got += receiver.try_iter().count();
    }
    thread.join().unwrap();
}

fn the_timeout_is_kept(driver: Driver) {
    let mut harness = Harness::new(config(driver));
    for millis in [0, 1, 50] {
        let start = Instant::now();
        harness.turn(Duration::from_millis(millis));
        assert!(start.elapsed() >= Duration::from_millis(millis));
        assert!(start.elapsed() < Duration::from_millis(millis + 500));
    }
    for absurd in [Duration::MAX, Duration::from_secs(1 << 40)] {
        let waker = harness.ring.waker();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            waker.wake();
        });
        let enters = harness.ring.stats().enters;
        harness.turn(absurd);
        assert!(matches!(harness.seen.pop_front(), Some(Seen::Woken)));
        assert!(harness.ring.stats().enters <= enters + 2, "it must sleep");
        thread.join().unwrap();
    }
}

fn a_completion_queue_that_overflows_loses_nothing(driver: Driver) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || (0..100).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>());
    // Four submission entries, sixteen completions.
    let mut harness = Harness::new(RingConfig { entries: 4, ..config(driver) });
    let ids: Vec<_> = (0..100).map(|_| harness.ring.connect(None, peer).unwrap()).collect();
    for _ in &ids {
        assert!(matches!(harness.next(), Seen::Connected(_)));
    }
    let mut accepted = thread.join().unwrap();
    ids.iter().for_each(|id| harness.ring.receive(*id));
    harness.turn(Duration::ZERO);
    accepted.iter_mut().for_each(|socket| socket.write_all(b"x").unwrap());
    for _ in &ids {
        assert!(matches!(harness.next(), Seen::Received(_, bytes) if bytes == b"x"));
    }
    // epoll has no queue of completions that could.
    assert_eq!(harness.ring.stats().overflows > 0, driver == Driver::IoUring);
}

fn a_sink_that_panics_leaves_a_ring_that_works(driver: Driver) {
    let (listener, peer) = listen("127.0.0.1:0");
    let mut harness = Harness::new(config(driver));
    let id = harness.ring.connect(None, peer).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let patience = Some(PATIENCE);
        harness.ring.wait(patience, &mut |_| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    let (mut accepted, _) = listener.accept().unwrap();
    harness.ring.receive(id);
    accepted.write_all(b"after").unwrap();
    assert!(matches!(harness.next(), Seen::Received(_, bytes) if bytes == b"after"));
}
