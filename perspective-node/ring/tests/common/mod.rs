//! What the test files share. Not every file uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use parallax_ring::*;

/// No single test step may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a test of each function for each driver: `io_uring::name`, `epoll::name`.
/// A function that is forgotten is dead code, which is warned about.
#[macro_export]
macro_rules! with_both_drivers {
    ($($name:ident),+ $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() { super::$name(parallax_ring::Driver::IoUring); })+
        }
        mod epoll {
            $(#[test] fn $name() { super::$name(parallax_ring::Driver::Epoll); })+
        }
    };
}

pub fn config(driver: Driver) -> RingConfig {
    RingConfig { driver, entries: 256, receive_buffers: 256, receive_buffer_bytes: 4096, datagram_send_slots: 512 }
}

pub fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An event that owns its bytes.
#[derive(Debug)]
pub enum Seen {
    Datagram(DatagramId, Vec<u8>),
    DatagramFailed(DatagramId, io::Error),
    Connected(StreamId),
    Sent(StreamId),
    Received(StreamId, Vec<u8>),
    Failed(StreamId, StreamPhase, io::Error),
    Woken,
}

pub fn own(event: Event<'_>) -> Seen {
    match event {
        Event::Datagram { id, bytes } => Seen::Datagram(id, bytes.to_vec()),
        Event::DatagramFailed { id, error } => Seen::DatagramFailed(id, error),
        Event::Connected { id } => Seen::Connected(id),
        Event::Sent { id } => Seen::Sent(id),
        Event::Received { id, bytes } => Seen::Received(id, bytes.to_vec()),
        Event::Failed { id, phase, error } => Seen::Failed(id, phase, error),
        Event::Woken => Seen::Woken,
    }
}

pub struct Harness {
    pub ring: Ring,
    pub seen: VecDeque<Seen>,
}

impl Harness {
    pub fn new(config: RingConfig) -> Harness {
        let ring = Ring::new(config).unwrap();
        assert_eq!(ring.describe(), config.driver.name());
        Harness { ring, seen: VecDeque::new() }
    }

    pub fn turn(&mut self, timeout: Duration) {
        let seen = &mut self.seen;
        self.ring.wait(Some(timeout), &mut |event| seen.push_back(own(event))).unwrap();
    }

    /// The next event, or a panic.
    pub fn next(&mut self) -> Seen {
        let end = Instant::now() + PATIENCE;
        while self.seen.is_empty() {
            assert!(Instant::now() < end, "no event in time");
            self.turn(Duration::from_millis(200));
        }
        self.seen.pop_front().unwrap()
    }

    /// Lets completions arrive; returns the events of that time.
    pub fn settle(&mut self, time: Duration) -> Vec<Seen> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Duration::from_millis(10));
        }
        self.seen.drain(..).collect()
    }

    pub fn connected(&mut self, peer: SocketAddr) -> StreamId {
        let id = self.ring.connect(None, peer).unwrap();
        match self.next() {
            Seen::Connected(connected) if connected == id => id,
            other => panic!("{other:?}"),
        }
    }
}

pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
