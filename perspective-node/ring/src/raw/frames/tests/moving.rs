//! Both directions, and which frames are ours.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use super::hand::{self, BROADCAST, Ends};
use super::{Checksum, PATIENCE, Way, at_peer, by_each_way, contains, echo_at, receive_until, send};
use crate::raw::namespace::{Wire, command};

by_each_way!(
    the_kernel_answers_what_we_send,
    other_frames_stay_with_the_kernel,
    a_cut_frame_is_taken_only_if_it_is_known_to_be_ours,
    all_of_many_addresses_are_ours,
    every_queue_is_drained,
    an_interface_that_goes_down_is_told_and_comes_back
);

fn the_kernel_answers_what_we_send(way: Way) {
    let wire = Wire::make();
    let mut frames = way.open_raw(256);
    println!("{}", frames.describe());
    match way {
        Way::Native => assert!(frames.describe().starts_with("xdp, native, ")),
        Way::Generic => assert_eq!(frames.describe(), "xdp, generic, copy"),
        Way::Packet => assert_eq!(frames.describe(), "packet"),
    }
    assert_eq!(frames.hardware_address(), wire.raw_hardware);
    assert_eq!(frames.mtu(), 1500);

    send(&mut frames, &hand::arp(1, (wire.raw_hardware, Wire::OURS_V4), ([0; 6], Wire::PEER_V4), BROADCAST));
    let expected =
        hand::arp(2, (wire.peer_hardware, Wire::PEER_V4), (wire.raw_hardware, Wire::OURS_V4), wire.raw_hardware);
    receive_until(&mut frames, |frame| frame.starts_with(&expected));

    for (ours, peer) in
        [(Wire::OURS_V4.into(), IpAddr::from(Wire::PEER_V4)), (Wire::OURS_V6.into(), Wire::PEER_V6.into())]
    {
        let ends = Ends { to: wire.peer_hardware, from: wire.raw_hardware, source: ours, destination: peer };
        send(&mut frames, &hand::echo_request(ends, b"ping to the peer"));
        let seen = receive_until(&mut frames, |frame| contains(frame, b"ping to the peer"));
        assert!(seen.iter().any(|(frame, _)| hand::answer(frame, wire.raw_hardware).is_some()) || ours.is_ipv4());
        let port = echo_at(peer);
        // Of odd and of greatest length.
        let overhead = if ours.is_ipv4() { 28 } else { 48 };
        for len in [33, 1500 - overhead] {
            let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
            send(&mut frames, &hand::udp(ends, [4000, port], &payload));
            let mut seen = receive_until(&mut frames, |frame| frame.ends_with(&payload));
            let (frame, checksum) = seen.pop().unwrap();
            assert_eq!(frame.len(), 14 + overhead + len);
            assert!(hand::sums_up(&frame), "{frame:x?}");
            assert!(matches!(way, Way::Packet) || checksum == Checksum::Unknown);
        }
    }
    let stats = frames.stats();
    assert_eq!((stats.kernel_drops, stats.malformed), (0, 0), "{stats:?}");
    assert!(stats.received >= 7 && stats.transmitted >= 7 && stats.kicks >= 7, "{stats:?}");
}

fn other_frames_stay_with_the_kernel(way: Way) {
    let wire = Wire::make();
    let kernel = Ipv4Addr::new(10, 78, 0, 1);
    command("ip address add 10.78.0.1/24 dev raw0");
    let socket = UdpSocket::bind((kernel, 7)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut frames = way.open_raw(256);
    let mut peer = at_peer();

    let to_kernel = Ends {
        to: wire.raw_hardware,
        from: wire.peer_hardware,
        source: Ipv4Addr::new(10, 78, 0, 9).into(),
        destination: kernel.into(),
    };
    let to_us = Ends { source: Wire::PEER_V4.into(), destination: Wire::OURS_V4.into(), ..to_kernel };
    let stranger = [2, 0, 0, 0, 0, 1];
    let mut tagged = hand::udp(to_us, [1, 2], b"in a VLAN");
    tagged.splice(12..12, [0x81, 0x00, 0x00, 0x05]);
    let mut reverse = hand::arp(1, (wire.peer_hardware, Wire::PEER_V4), ([0; 6], Wire::OURS_V4), BROADCAST);
    reverse[15] = 6;
    let not_ours = [
        hand::udp(to_kernel, [1, 7], b"for the kernel"),
        hand::udp(Ends { to: stranger, ..to_us }, [1, 2], b"for another station"),
        hand::udp(Ends { destination: Ipv4Addr::new(10, 77, 0, 3).into(), ..to_us }, [1, 2], b"for another host"),
        hand::udp(Ends { destination: Ipv4Addr::BROADCAST.into(), to: BROADCAST, ..to_us }, [1, 2], b"for everybody"),
        hand::arp(1, (wire.peer_hardware, Wire::PEER_V4), ([0; 6], kernel), BROADCAST),
        hand::solicitation(wire.peer_hardware, Wire::PEER_V6, "fd77::1:2".parse().unwrap()),
        hand::ethernet(wire.raw_hardware, wire.peer_hardware, 0x88b5, &[0; 100]),
        tagged,
        reverse,
    ];
    for frame in &not_ours {
        send(&mut peer, frame);
    }
    let ours = [
        hand::arp(1, (wire.peer_hardware, Wire::PEER_V4), ([0; 6], Wire::OURS_V4), BROADCAST),
        hand::solicitation(wire.peer_hardware, Wire::PEER_V6, Wire::OURS_V6),
        hand::udp(to_us, [1, 2], b"the last one"),
    ];
    // What the kernel of our side itself asks on the wire is not for us.
    command("ip route add 10.77.0.2 dev raw0");
    UdpSocket::bind((kernel, 0)).unwrap().send_to(b"from the kernel", (Wire::OURS_V4, 9)).unwrap();
    for frame in &ours {
        send(&mut peer, frame);
    }
    let seen = receive_until(&mut frames, |frame| contains(frame, b"the last one"));
    // What the kernel of the peer asks by itself is ours too.
    let seen: Vec<_> = seen.into_iter().map(|(frame, _)| frame).collect();
    for frame in &not_ours {
        assert!(!seen.contains(frame), "taken: {frame:x?}");
    }
    // Which may have lost its tag.
    assert!(!seen.iter().any(|frame| contains(frame, b"in a VLAN")), "{seen:x?}");
    assert!(!seen.iter().any(|frame| frame[6..12] == wire.raw_hardware), "{seen:x?}");
    for frame in &ours {
        assert!(seen.contains(frame), "not taken: {frame:x?}");
    }
    let mut bytes = [0; 64];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], from), (&b"for the kernel"[..], (Ipv4Addr::new(10, 78, 0, 9), 1).into()));
}

fn a_cut_frame_is_taken_only_if_it_is_known_to_be_ours(way: Way) {
    let wire = Wire::make();
    let mut frames = way.open_raw(256);
    let mut peer = at_peer();
    let v4 = Ends {
        to: wire.raw_hardware,
        from: wire.peer_hardware,
        source: Wire::PEER_V4.into(),
        destination: Wire::OURS_V4.into(),
    };
    let v6 = Ends { source: Wire::PEER_V6.into(), destination: Wire::OURS_V6.into(), ..v4 };
    let end = hand::udp(v4, [1, 2], b"the end of these");
    for (what, frame, least) in [
        ("IPv4", hand::udp(v4, [1, 2], b"some text"), 34),
        ("IPv6", hand::udp(v6, [1, 2], b"some text"), 54),
        ("ARP", hand::arp(1, (wire.peer_hardware, Wire::PEER_V4), ([0; 6], Wire::OURS_V4), BROADCAST), 42),
        ("solicitation", hand::solicitation(wire.peer_hardware, Wire::PEER_V6, Wire::OURS_V6), 78),
    ] {
        // The kernel does not send a header alone.
        for len in 15..=frame.len() {
            send(&mut peer, &frame[..len]);
        }
        send(&mut peer, &end);
        let mut seen: Vec<_> = Vec::new();
        // Without answers, which an ARP or solicitation cut short could not get.
        let begun = std::time::Instant::now();
        while !seen.contains(&end) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {seen:x?}");
            frames.receive(64, &mut |bytes, _| seen.push(bytes.to_vec())).unwrap();
            super::wait(&frames);
        }
        for len in 15..=frame.len() {
            assert_eq!(seen.iter().any(|seen| *seen == frame[..len]), len >= least, "{what}, {len} octets");
        }
    }
}

fn all_of_many_addresses_are_ours(way: Way) {
    let wire = Wire::make();
    let addresses: Vec<IpAddr> = (0..super::super::ADDRESSES_MAX as u8)
        .map(|i| match i % 2 {
            0 => IpAddr::from([203, 0, 113, 4 * i]),
            _ => IpAddr::from([0xfd77, 0, 0, 0, 0xffff, 0xfedc, 0x8000, u16::from(i)]),
        })
        .collect();
    let mut frames =
        way.open(super::FramesConfig { method: way.method(), addresses: &addresses, ..super::ours() }).unwrap();
    let mut peer = at_peer();
    for address in addresses {
        let source = if address.is_ipv4() { Wire::PEER_V4.into() } else { Wire::PEER_V6.into() };
        let ends = Ends { to: wire.raw_hardware, from: wire.peer_hardware, source, destination: address };
        send(&mut peer, &hand::udp(ends, [1, 2], address.to_string().as_bytes()));
        receive_until(&mut frames, |frame| contains(frame, address.to_string().as_bytes()));
        let question = match address {
            IpAddr::V4(address) => hand::arp(1, (wire.peer_hardware, Wire::PEER_V4), ([0; 6], address), BROADCAST),
            IpAddr::V6(address) => hand::solicitation(wire.peer_hardware, Wire::PEER_V6, address),
        };
        send(&mut peer, &question);
        receive_until(&mut frames, |frame| *frame == question);
    }
}

fn every_queue_is_drained(way: Way) {
    let wire = Wire::make_with_queues(4);
    command("ethtool -L raw0 rx 3 tx 3");
    command("ethtool -L peer0 rx 3 tx 3");
    let mut frames = way.open_raw(512);
    let queues = if matches!(way, Way::Packet) { 1 } else { 3 };
    assert_eq!(frames.descriptors().count(), queues);
    let say = |text: &[u8]| {
        // The kernel chooses a queue by flow.
        let socket = UdpSocket::bind((Wire::PEER_V4, 0)).unwrap();
        socket.send_to(text, (Wire::OURS_V4, 9)).unwrap();
    };
    say(b"where are you?");
    receive_until(&mut frames, |frame| contains(frame, b"where are you?"));
    // One call finds them all, wherever they are, once the kernel had the time
    // to bring them.
    let begun = std::time::Instant::now();
    let mut received = 0;
    while received != 64 {
        assert!(begun.elapsed() < PATIENCE, "{received} received; {:?}", frames.stats());
        while frames.receive(1000, &mut |_, _| {}).unwrap() != 0 {}
        (0..64).for_each(|_| say(b"one of many"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        received = 0;
        let mut sink = |frame: &[u8], _| received += usize::from(contains(frame, b"one of many"));
        frames.receive(1000, &mut sink).unwrap();
    }
    assert_eq!(frames.stats().kernel_drops, 0);
    let ends = Ends {
        to: wire.peer_hardware,
        from: wire.raw_hardware,
        source: Wire::OURS_V4.into(),
        destination: Wire::PEER_V4.into(),
    };
    send(&mut frames, &hand::echo_request(ends, b"ping to the peer"));
    receive_until(&mut frames, |frame| contains(frame, b"ping to the peer"));
}

fn an_interface_that_goes_down_is_told_and_comes_back(way: Way) {
    let wire = Wire::make();
    let mut frames = way.open_raw(256);
    let ends = Ends {
        to: wire.peer_hardware,
        from: wire.raw_hardware,
        source: Wire::OURS_V4.into(),
        destination: Wire::PEER_V4.into(),
    };
    let ping = hand::echo_request(ends, b"ping to the peer");
    command("ip link set raw0 down");
    assert!(frames.transmit(ping.len(), |bytes| bytes.copy_from_slice(&ping)));
    let error = frames.flush().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NetworkDown, "{error}");
    command("ip link set raw0 up");
    // By AF_PACKET one more report of it may be waiting.
    let _ = frames.take_error();
    let begun = std::time::Instant::now();
    let mut answered = false;
    while !answered {
        assert!(begun.elapsed() < PATIENCE, "{:?}", frames.stats());
        send(&mut frames, &ping);
        super::wait(&frames);
        let mut questions = Vec::new();
        let mut sink = |frame: &[u8], _| {
            answered |= contains(frame, b"ping to the peer");
            questions.extend(hand::answer(frame, wire.raw_hardware));
        };
        frames.receive(16, &mut sink).unwrap();
        for answer in questions {
            send(&mut frames, &answer);
        }
    }
}

#[test]
fn the_kernel_vouches_for_checksums_it_did_not_compute() {
    crate::raw::namespace::run(|| {
        let wire = Wire::make();
        let mut frames = Way::Packet.open_raw(256);
        let socket = UdpSocket::bind((Wire::PEER_V4, 0)).unwrap();
        for (offload, expected) in [("off", Checksum::Unknown), ("on", Checksum::Vouched)] {
            command(&format!("ethtool -K peer0 tx {offload}"));
            socket.send_to(offload.as_bytes(), (Wire::OURS_V4, 9)).unwrap();
            let mut seen = receive_until(&mut frames, |frame| frame.len() > 42 && frame.ends_with(offload.as_bytes()));
            let (frame, checksum) = seen.pop().unwrap();
            assert_eq!((checksum, hand::sums_up(&frame)), (expected, expected == Checksum::Unknown));
        }
        assert_eq!(frames.hardware_address(), wire.raw_hardware);
    });
}
