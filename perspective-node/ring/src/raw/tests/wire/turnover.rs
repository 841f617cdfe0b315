//! Very many streams one after another leave nothing behind.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::{Close, Owner, StreamId, Told, Way, listen, on_each_wire};

on_each_wire!(ten_thousand_streams_leave_nothing);

const COUNT: u32 = 10_000;
const OPEN_MAX: usize = 256;
/// For all of them.
const LIMIT: Duration = Duration::from_secs(60);

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sockets of TCP in use, listening ones too.
fn kernel_sockets() -> String {
    ["/proc/net/sockstat", "/proc/net/sockstat6"]
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let line = text.lines().find(|line| line.starts_with("TCP")).unwrap();
            line.split(' ').take(3).collect::<Vec<_>>().join(" ")
        })
        .join(", ")
}

fn ten_thousand_streams_leave_nothing(way: Way) {
    let mut owner = Owner::new(way);
    let (listener, peer) = listen(way.peer);
    let before = (descriptors(), kernel_sockets());
    let server = std::thread::spawn(move || {
        for _ in 0..COUNT {
            let mut socket = listener.accept().unwrap().0;
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            let mut number = [0; 4];
            // One that is reset may be gone when it is looked at.
            if socket.read_exact(&mut number).is_ok() {
                let _ = socket.write_all(&number);
            }
        }
        listener
    });
    let mut open: HashMap<StreamId, u32> = HashMap::new();
    let (mut next, begun) = (0, Instant::now());
    while next < COUNT || !open.is_empty() {
        assert!(begun.elapsed() < LIMIT, "{next} begun, {} open, {:?}", open.len(), owner.ring.raw_stats());
        while next < COUNT && open.len() < OPEN_MAX {
            let id = owner.ring.connect(None, peer).unwrap();
            owner.ring.send(id, next.to_be_bytes().to_vec());
            owner.ring.receive(id);
            assert_eq!(open.insert(id, next), None);
            next += 1;
        }
        match owner.next() {
            Told::Connected(_) | Told::Sent(_) => {}
            Told::Received(id, bytes) => {
                let number = open.remove(&id).expect("one that is open");
                assert_eq!(bytes, number.to_be_bytes());
                owner.ring.close(id, if number.is_multiple_of(2) { Close::Graceful } else { Close::Reset });
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{:?}, {:?}", begun.elapsed(), owner.ring.raw_stats());
    owner.until("all streams are gone", |ring| ring.streams_open() == 0);
    let _listener = server.join().unwrap();
    owner.settle(Duration::from_millis(100));
    assert_eq!((descriptors(), kernel_sockets()), before);
    owner.until("no table has an entry", |ring| format!("{ring:?}").contains("streams: 0, flows: 0, due: 0"));
    // So it sleeps.
    let enters = owner.ring.stats().enters;
    owner.turn(Some(Duration::from_millis(300)));
    assert!(owner.ring.stats().enters <= enters + 3, "{:?}", owner.ring.stats());
}
