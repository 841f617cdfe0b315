//! Frames through the kernel, on a wire in a network namespace: by each way to
//! move them, both directions, what is taken and what is not, what is left
//! behind, and what is said when it cannot be.

mod hand;
mod limits;
mod moving;
mod opening;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::xdp::Attach;
use super::{Checksum, FrameMethod, Frames, FramesConfig, FramesError};
use crate::raw::namespace::Wire;

const OURS: [IpAddr; 2] = [IpAddr::V4(Wire::OURS_V4), IpAddr::V6(Wire::OURS_V6)];
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Way {
    Native,
    Generic,
    Packet,
}

impl Way {
    const fn method(self) -> FrameMethod {
        match self {
            Way::Native | Way::Generic => FrameMethod::Xdp,
            Way::Packet => FrameMethod::Packet,
        }
    }

    fn open(self, config: FramesConfig<'_>) -> Result<Frames, FramesError> {
        match self {
            Way::Native => Frames::open_xdp(&config, &[Attach::Native]),
            Way::Generic => Frames::open_xdp(&config, &[Attach::Generic]),
            Way::Packet => Frames::open(&config),
        }
    }

    /// At our end of the wire.
    fn open_raw(self, frames: u32) -> Frames {
        self.open(FramesConfig { method: self.method(), frames, ..ours() }).unwrap()
    }
}

fn ours() -> FramesConfig<'static> {
    FramesConfig { interface: Wire::RAW, addresses: &OURS, method: FrameMethod::Packet, frames: 256 }
}

/// Frames at the peer's end, to send what the kernel would not.
fn at_peer() -> Frames {
    let addresses = [IpAddr::from([10, 99, 0, 1])];
    Frames::open(&FramesConfig { interface: Wire::PEER, addresses: &addresses, ..ours() }).unwrap()
}

/// One test for each way, in namespaces of their own.
macro_rules! by_each_way {
    ($($test:ident),+) => {$(
        mod $test {
            use super::super::Way;
            #[test]
            fn xdp_native() {
                crate::raw::namespace::run(|| super::$test(Way::Native));
            }
            #[test]
            fn xdp_generic() {
                crate::raw::namespace::run(|| super::$test(Way::Generic));
            }
            #[test]
            fn packet() {
                crate::raw::namespace::run(|| super::$test(Way::Packet));
            }
        }
    )+};
}
use by_each_way;

/// Queues and sends, waiting for room if there is none.
fn send(frames: &mut Frames, frame: &[u8]) {
    let begun = Instant::now();
    while !frames.transmit(frame.len(), |bytes| bytes.copy_from_slice(frame)) {
        assert!(begun.elapsed() < PATIENCE, "no room");
        frames.flush().unwrap();
    }
    frames.flush().unwrap();
}

/// Waits for readability, not for longer than a moment.
fn wait(frames: &Frames) {
    let mut descriptors: Vec<_> = frames.descriptors().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    poll(&mut descriptors, Some(&moment)).unwrap();
}

/// Receives until a frame is wanted, and answers questions for our hardware
/// address meanwhile. Returns it and all before it.
#[track_caller]
fn receive_until(frames: &mut Frames, wanted: impl Fn(&[u8]) -> bool) -> Vec<(Vec<u8>, Checksum)> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        assert!(begun.elapsed() < PATIENCE, "not received; seen: {seen:x?}; {:?}", frames.stats());
        let mut new = Vec::new();
        frames.receive(16, &mut |bytes, checksum| new.push((bytes.to_vec(), checksum))).unwrap();
        for (frame, checksum) in new {
            if let Some(answer) = hand::answer(&frame, frames.hardware_address()) {
                send(frames, &answer);
            }
            let found = wanted(&frame);
            seen.push((frame, checksum));
            if found {
                return seen;
            }
        }
        wait(frames);
    }
}

fn contains(frame: &[u8], text: &[u8]) -> bool {
    frame.windows(text.len()).any(|window| window == text)
}

/// A kernel's socket that sends back what it gets, until the program ends.
fn echo_at(address: IpAddr) -> u16 {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
    port
}

fn descriptors_open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Mappings of the rings of sockets.
fn ring_mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().matches("socket:[").count()
}
