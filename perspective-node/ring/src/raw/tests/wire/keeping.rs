//! The loop itself: how long it waits, what ends a wait, and that it outlives
//! an interface that goes down.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::{Close, Owner, PATIENCE, Told, Way, command, listen, on_each_wire, pattern};

on_each_wire!(a_transfer_outlives_an_interface_that_goes_down, another_thread_wakes_it, the_timeout_is_kept);

fn a_transfer_outlives_an_interface_that_goes_down(way: Way) {
    const BYTES: usize = 300 * 1024;
    let mut owner = Owner::new(way);
    let (listener, peer) = listen(way.peer);
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 4096];
        let mut all = 0;
        while all < BYTES {
            let len = socket.read(&mut buffer).unwrap();
            assert_ne!(len, 0);
            socket.write_all(&buffer[..len]).unwrap();
            all += len;
        }
        socket.shutdown(Shutdown::Write).unwrap();
    });
    let id = owner.connected(peer);
    let ours = pattern(BYTES, 5);
    let all = owner.converse(id, &ours, BYTES, |owner| {
        command("ip link set raw0 down");
        let enters = owner.ring.stats().enters;
        owner.ring.receive(id);
        let begun = Instant::now();
        // What comes meanwhile was here before.
        while begun.elapsed() < Duration::from_secs(1) {
            owner.turn(Some(Duration::from_millis(100)));
        }
        let enters = owner.ring.stats().enters - enters;
        println!("{enters} system calls while it was down");
        assert!(enters < 1000, "it does not turn idly: {enters}");
        command("ip link set raw0 up");
    });
    assert!(all == ours, "{} bytes", all.len());
    thread.join().unwrap();
    owner.ring.close(id, Close::Graceful);
    owner.until("the stream is gone", |ring| ring.streams_open() == 0);
}

fn another_thread_wakes_it(way: Way) {
    let mut owner = Owner::new(way);
    for timeout in [None, Some(Duration::from_secs(3600)), Some(Duration::MAX)] {
        let waker = owner.ring.waker();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            (0..100).for_each(|_| waker.wake());
        });
        let begun = Instant::now();
        owner.turn(timeout);
        assert_eq!(owner.told.pop_front(), Some(Told::Woken));
        assert!(begun.elapsed() < PATIENCE);
        thread.join().unwrap();
        let rest = owner.settle(Duration::from_millis(10));
        assert!(rest.len() < 100 && rest.iter().all(|told| *told == Told::Woken), "{rest:?}");
    }
    let woken = owner.ring.stats().wakes;
    assert_eq!(owner.settle(Duration::from_millis(20)), []);
    assert_eq!(owner.ring.stats().wakes, woken);
}

fn the_timeout_is_kept(way: Way) {
    let mut owner = Owner::new(way);
    owner.settle(Duration::from_millis(20));
    for time in [0, 1, 50].map(Duration::from_millis) {
        let begun = Instant::now();
        owner.turn(Some(time));
        let waited = begun.elapsed();
        assert!((time..time + Duration::from_millis(300)).contains(&waited), "{time:?}: {waited:?}");
        assert!(owner.told.is_empty(), "{:?}", owner.told);
    }
}
