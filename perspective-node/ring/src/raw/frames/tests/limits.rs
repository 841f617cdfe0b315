//! Many frames, full rings, and that every frame comes back.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::hand::{self, Ends};
use super::{Frames, PATIENCE, Way, at_peer, by_each_way, contains, receive_until, send, wait};
use crate::raw::namespace::{Wire, command};

by_each_way!(bursts_cost_no_frame, a_sink_or_a_filler_that_panics_costs_no_frame, lengths_have_limits);

const FRAMES: u32 = 256;
const BURST: usize = 10_000;
/// What has not come after this was lost.
const SETTLED: Duration = Duration::from_millis(500);

fn ends(wire: &Wire) -> [Ends; 2] {
    let out = Ends {
        to: wire.peer_hardware,
        from: wire.raw_hardware,
        source: Wire::OURS_V4.into(),
        destination: Wire::PEER_V4.into(),
    };
    [out, Ends { to: out.from, from: out.to, source: out.destination, destination: out.source }]
}

/// All frames for sending are ours: as many find room as there are, no more.
#[track_caller]
fn room_for_all(frames: &mut Frames, frame: &[u8]) {
    let begun = Instant::now();
    loop {
        frames.flush().unwrap();
        let mut count = 0;
        while frames.room() {
            assert!(frames.transmit(frame.len(), |bytes| bytes.copy_from_slice(frame)));
            count += 1;
            assert!(count <= FRAMES / 2);
        }
        assert!(!frames.transmit(frame.len(), |_| panic!("there was no room")));
        if count == FRAMES / 2 {
            frames.flush().unwrap();
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "room for {count} only");
    }
}

fn bursts_cost_no_frame(way: Way) {
    let wire = Wire::make();
    let [out, back] = ends(&wire);
    let mut frames = way.open_raw(FRAMES);
    let mut peer = at_peer();
    let sink = UdpSocket::bind((Wire::PEER_V4, 0)).unwrap();
    sink.set_nonblocking(true).unwrap();
    let outward = hand::udp(out, [5, sink.local_addr().unwrap().port()], &[0x55; 64]);
    let inward = hand::udp(back, [5, 5], b"one of a burst");

    // A host that is busy with something else may lose a frame on the wire, so
    // that not every round must be perfect; three that lost nothing are demanded.
    let mut perfect = 0;
    for round in 0..9 {
        let drops_before = frames.stats().kernel_drops as usize;
        let mut received = 0;
        let mut arrived = 0;
        for i in 0..BURST {
            assert!(peer.transmit(inward.len(), |bytes| bytes.copy_from_slice(&inward)), "{i}");
            while !frames.transmit(outward.len(), |bytes| bytes.copy_from_slice(&outward)) {
                frames.flush().unwrap();
            }
            if i % 50 == 49 {
                peer.flush().unwrap();
                frames.flush().unwrap();
                while let Ok(1..) = frames.receive(7, &mut |bytes, _| received += usize::from(*bytes == inward)) {}
                while let Ok(64) = sink.recv(&mut [0; 64]) {
                    arrived += 1;
                }
            }
        }
        let begun = Instant::now();
        while received < BURST && begun.elapsed() < SETTLED {
            wait(&frames);
            frames.receive(7, &mut |bytes, _| received += usize::from(*bytes == inward)).unwrap();
        }
        while let Ok(64) = sink.recv(&mut [0; 64]) {
            arrived += 1;
        }
        let stats = frames.stats();
        println!("round {round}: {received} received, {arrived} arrived, {stats:?}");
        let drops = stats.kernel_drops as usize - drops_before;
        assert!(received + drops <= BURST && arrived <= BURST && stats.malformed == 0, "{stats:?}");
        perfect += u32::from((received, arrived) == (BURST, BURST));
        // Filled to the last, and all of it leaves with one flush.
        while sink.recv(&mut [0; 64]).is_ok() {}
        room_for_all(&mut frames, &outward);
        let begun = Instant::now();
        let mut arrived = 0;
        while arrived < FRAMES / 2 {
            arrived += u32::from(sink.recv(&mut [0; 64]).is_ok());
            assert!(begun.elapsed() < PATIENCE, "{arrived} arrived");
        }
        if perfect == 3 {
            break;
        }
    }
    assert_eq!(perfect, 3);

    // More at once than there is room for: some are dropped, and counted, and
    // then it goes on as before.
    for _ in 0..40 {
        for _ in 0..100 {
            assert!(peer.transmit(inward.len(), |bytes| bytes.copy_from_slice(&inward)));
        }
        peer.flush().unwrap();
    }
    send(&mut peer, &inward);
    std::thread::sleep(Duration::from_millis(50));
    let mut received = 0;
    while frames.receive(64, &mut |bytes, _| received += u64::from(*bytes == inward)).unwrap() != 0 {}
    let stats = frames.stats();
    println!("overrun: {received} received, {stats:?}");
    assert_eq!(received + stats.kernel_drops, 4001, "{stats:?}");
    for _ in 0..FRAMES {
        send(&mut peer, &inward);
        receive_until(&mut frames, |frame| frame == inward);
    }
    assert_eq!(frames.stats().kernel_drops, stats.kernel_drops);
    room_for_all(&mut frames, &outward);
}

fn a_sink_or_a_filler_that_panics_costs_no_frame(way: Way) {
    let wire = Wire::make();
    let [out, back] = ends(&wire);
    let mut frames = way.open_raw(FRAMES);
    let mut peer = at_peer();
    let inward = hand::udp(back, [5, 5], b"one of some");
    let outward = hand::udp(out, [5, 5], b"one of some");
    std::panic::set_hook(Box::new(|_| {}));
    for _ in 0..2 * FRAMES {
        send(&mut peer, &inward);
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "not received: {:?}", frames.stats());
            wait(&frames);
            let mut sink = |_: &[u8], _| panic!("a sink");
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| frames.receive(9, &mut sink)));
            if caught.is_err() {
                break;
            }
        }
        let fill = |_: &mut [u8]| panic!("a filler");
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| frames.transmit(60, fill)));
        assert!(caught.is_err());
    }
    let _ = std::panic::take_hook();
    send(&mut peer, &hand::udp(back, [5, 5], b"the last one"));
    receive_until(&mut frames, |frame| contains(frame, b"the last one"));
    assert_eq!(frames.stats().kernel_drops, 0);
    room_for_all(&mut frames, &outward);
}

fn lengths_have_limits(way: Way) {
    let wire = Wire::make();
    let mut frames = way.open_raw(FRAMES);
    for len in [0, 13, 1515, 2048, 2049, usize::MAX] {
        assert!(!frames.transmit(len, |_| panic!("{len} octets were accepted")), "{len}");
    }
    for len in [14, 15, 60, 1514] {
        assert!(frames.transmit(len, |bytes| {
            assert_eq!(bytes.len(), len);
            bytes.fill(0);
        }));
    }
    // What the kernel does not send must not stay in the way of the rest.
    frames.flush().unwrap();
    room_for_all(&mut frames, &[0; 60]);
    // Nor what it would have sent before.
    command("ip link set raw0 mtu 1000");
    let [out, _] = ends(&wire);
    send(&mut frames, &hand::udp(out, [5, 5], &[0; 1400]));
    send(&mut frames, &hand::echo_request(out, b"ping to the peer"));
    receive_until(&mut frames, |frame| contains(frame, b"ping to the peer"));
    room_for_all(&mut frames, &[0; 60]);
}
