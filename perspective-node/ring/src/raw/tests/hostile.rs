//! Frames nobody honest sends: no panic, bounded answers, bounded tables, and
//! never a byte to anybody but from his peer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use smoltcp::wire::{
    ArpOperation, EthernetAddress, Icmpv4Packet, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv6Packet,
    NdiscNeighborFlags, NdiscRepr, TcpControl, TcpPacket, UdpPacket,
};

use super::super::clock::Micros;
use super::super::frames::Checksum;
use super::world::{
    Frame, OUR_HARDWARE, PEER_HARDWARE, Segment, Told, World, answer, arp, icmpv6, ndisc, near, ours, packet, segments,
    udp, v6,
};
use crate::Close;

/// How long each of these tests may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Makes the checksums right again where the lengths allow it.
fn repair(frame: &mut [u8]) {
    match frame.get(12..14) {
        Some([8, 0]) => {
            let Ok(mut ip) = Ipv4Packet::new_checked(&mut frame[14..]) else { return };
            ip.fill_checksum();
            let (from, to, protocol) = (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header());
            let payload = ip.payload_mut();
            match protocol {
                IpProtocol::Icmp if payload.len() >= 8 => Icmpv4Packet::new_unchecked(payload).fill_checksum(),
                IpProtocol::Tcp if TcpPacket::new_checked(&*payload).is_ok() => {
                    TcpPacket::new_unchecked(payload).fill_checksum(&from, &to);
                }
                IpProtocol::Udp if UdpPacket::new_checked(&*payload).is_ok() => {
                    UdpPacket::new_unchecked(payload).fill_checksum(&from, &to);
                }
                _ => {}
            }
        }
        Some([0x86, 0xdd]) => {
            let Ok(mut ip) = Ipv6Packet::new_checked(&mut frame[14..]) else { return };
            let (from, to, protocol) = (ip.src_addr(), ip.dst_addr(), ip.next_header());
            let payload = ip.payload_mut();
            match protocol {
                IpProtocol::Icmpv6 if payload.len() >= 4 => {
                    Icmpv6Packet::new_unchecked(payload).fill_checksum(&from, &to);
                }
                IpProtocol::Tcp if TcpPacket::new_checked(&*payload).is_ok() => {
                    TcpPacket::new_unchecked(payload).fill_checksum(&from.into(), &to.into());
                }
                IpProtocol::Udp if UdpPacket::new_checked(&*payload).is_ok() => {
                    UdpPacket::new_unchecked(payload).fill_checksum(&from.into(), &to.into());
                }
                _ => {}
            }
        }
        _ => {}
    }
}

/// A world with something of everything, and a frame that fits each of it.
fn everything(seed: u64) -> (World, Vec<Frame>) {
    let mut world = World::seeded(seed);
    let mut frames = Vec::new();
    for peer in near() {
        let us = ours(peer.ip());
        let socket = world.open_datagram(peer);
        world.send_datagram(socket, b"question").unwrap();
        let sent = world.turn(&[]).pop().unwrap();
        let local = world.stack.datagrams.local(socket).unwrap();
        frames.push(udp(peer, local, b"the answer"));
        let mut quote = vec![if peer.is_ipv4() { 3 } else { 1 }, 3, 0, 0, 0, 0, 0, 0];
        quote.extend(&sent[14..]);
        let protocol = if peer.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 };
        let mut message = packet(peer.ip(), us, protocol, 64, &quote);
        repair(&mut message);
        frames.push(message);
        let (id, next) = world.connected(peer);
        world.stack.receive(id);
        frames.push(next.with(|s| s.payload = b"HTTP/1.1 200 OK".to_vec()).frame());
        frames.push(next.with(|s| s.control = TcpControl::Fin).frame());
        frames.push(next.with(|s| s.control = TcpControl::Rst).frame());
        world.connect(peer);
        let syn = segments(&world.turn(&[])).pop().unwrap();
        frames.push(syn.answer(1).frame());
    }
    world.answering = false;
    world.connect("192.0.2.77:80".parse().unwrap());
    world.connect("[2001:db8::77]:80".parse().unwrap());
    world.turn(&[]);
    let (us, them) = ("192.0.2.10".parse().unwrap(), "192.0.2.20".parse().unwrap());
    frames.push(arp(ArpOperation::Request, PEER_HARDWARE, them, EthernetAddress([0; 6]), us, OUR_HARDWARE));
    for hop in ["192.0.2.77", "2001:db8::77"] {
        frames.push(answer(hop.parse().unwrap()));
    }
    let (us, them) = (v6("2001:db8::10"), v6("2001:db8::20"));
    let asks = NdiscRepr::NeighborSolicit { target_addr: us, lladdr: Some(PEER_HARDWARE.into()) };
    frames.push(ndisc(asks, them, us, 255));
    let tells = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: smoltcp::wire::NdiscRouterFlags::empty(),
        router_lifetime: smoltcp::time::Duration::from_secs(1),
        reachable_time: smoltcp::time::Duration::from_secs(1),
        retrans_time: smoltcp::time::Duration::from_secs(1),
        lladdr: Some(PEER_HARDWARE.into()),
        mtu: Some(1500),
        prefix_info: None,
    };
    frames.push(ndisc(tells, them, us, 255));
    let flags = NdiscNeighborFlags::SOLICITED;
    frames.push(ndisc(NdiscRepr::NeighborAdvert { flags, target_addr: them, lladdr: None }, them, us, 255));
    frames.push(icmpv6(&Icmpv6Repr::EchoRequest { ident: 1, seq_no: 2, data: &[7; 40] }, them, us, 64));
    frames.push(icmpv6(&Icmpv6Repr::EchoRequest { ident: 1, seq_no: 2, data: &[7; 40] }, them, us, 64));
    world.told();
    (world, frames)
}

fn mutate(frame: &mut Frame, random: &mut StdRng) {
    for _ in 0..random.random_range(0..6) {
        if frame.is_empty() {
            break;
        }
        // Headers deserve more attention than what they carry.
        let at = if random.random_bool(0.7) { 12..frame.len().min(80) } else { 0..frame.len() };
        if at.is_empty() {
            continue;
        }
        let at = random.random_range(at);
        frame[at] = match random.random_range(0..5) {
            0 => random.random(),
            1 => frame[at] ^ (1 << random.random_range(0..8)),
            2 => 0,
            3 => 0xff,
            _ => frame[at].wrapping_add(1),
        };
    }
    match random.random_range(0..12) {
        0 => frame.truncate(random.random_range(0..=frame.len())),
        1 => frame.extend((0..random.random_range(0..200)).map(|_| 0xa5)),
        _ => {}
    }
}

/// What any frame may cause at most.
fn assert_bounded(world: &World, left: &[Frame], told: &[Told]) {
    assert!(left.len() <= 4, "{} frames for one", left.len());
    assert!(told.len() <= 3, "{told:?}");
    let stack = &world.stack;
    assert!(stack.hops.len() <= 6, "{} hops", stack.hops.len());
    assert!(stack.agenda.len() <= stack.streams.len() + 2 * stack.hops.len(), "{} entries", stack.agenda.len());
}

#[test]
fn mutated_frames_do_no_harm() {
    let start = Instant::now();
    let mut random = StdRng::seed_from_u64(4711);
    let mut count = 0;
    for seed in 0..1500 {
        let (mut world, frames) = everything(seed);
        let streams = world.stack.streams.len();
        for _ in 0..200 {
            let mut frame = frames[random.random_range(0..frames.len())].clone();
            mutate(&mut frame, &mut random);
            if random.random_bool(0.8) {
                repair(&mut frame);
            }
            let checksum = if random.random_bool(0.1) { Checksum::Vouched } else { Checksum::Unknown };
            let left = world.turn_with(&[frame], checksum);
            let told = world.told();
            assert_bounded(&world, &left, &told);
            count += 1;
        }
        assert_eq!(world.stack.streams.len(), streams);
        if start.elapsed() > PATIENCE {
            break;
        }
    }
    println!("{count} frames in {:?}", start.elapsed());
    assert!(count >= 10_000);
}

#[test]
fn random_frames_do_no_harm() {
    let start = Instant::now();
    let mut random = StdRng::seed_from_u64(1234);
    let (mut world, _) = everything(1);
    for _ in 0..200_000 {
        let mut frame: Frame = vec![0; random.random_range(0..120)];
        random.fill(&mut frame[..]);
        if frame.len() > 34 && random.random_bool(0.9) {
            frame[..6].copy_from_slice(OUR_HARDWARE.as_bytes());
            frame[6] &= 0xfe;
            let payload = frame.len() - 14;
            match random.random_range(0..3) {
                0 => {
                    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
                    frame[16..22].copy_from_slice(&[0, payload as u8, 0, 0, 0, 0]);
                    frame[23] = [1, 6, 17, 41][random.random_range(0..4)];
                    frame[26..34].copy_from_slice(&[192, 0, 2, 20, 192, 0, 2, 10]);
                }
                1 if payload >= 40 => {
                    frame[12..18].copy_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
                    frame[18..22].copy_from_slice(&[
                        0,
                        (payload - 40) as u8,
                        [58, 6, 17, 0, 44][random.random_range(0..5)],
                        255,
                    ]);
                    let addresses = [v6("2001:db8::20").octets(), v6("2001:db8::10").octets()].concat();
                    frame[22..54].copy_from_slice(&addresses);
                    if payload > 40 {
                        frame[54] = [1, 2, 3, 4, 128, 130, 133, 134, 135, 136, 137, 143][random.random_range(0..12)];
                        if payload > 41 {
                            frame[55] = 0;
                        }
                    }
                }
                _ => frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, random.random_range(0..4)]),
            }
            repair(&mut frame);
        }
        let left = world.input(&frame);
        let told = world.told();
        assert_bounded(&world, &left, &told);
        assert!(!told.iter().any(|told| matches!(told, Told::Received(..) | Told::Connected(_))), "{told:?}");
        if start.elapsed() > PATIENCE {
            break;
        }
    }
}

/// A segment with all the flags and options there are.
fn odd_segment(from: &Segment, random: &mut StdRng) -> Frame {
    let mut bytes = from.bytes();
    if random.random_bool(0.4) {
        bytes[13] = random.random();
    }
    if random.random_bool(0.4) {
        let mut options: Vec<u8> = Vec::new();
        while options.len() < random.random_range(0..40) {
            match random.random_range(0..8) {
                0 => options.extend([2, 4, random.random_range(0..6), random.random()]),
                1 => options.extend([3, 3, random.random_range(0..20)]),
                2 => options.extend([4, 2]),
                3 => {
                    options.extend([5, 10]);
                    options.extend(random.random::<[u8; 8]>());
                }
                4 => {
                    options.extend([8, 10]);
                    options.extend(random.random::<[u8; 8]>());
                }
                5 => options.extend(random.random::<[u8; 2]>()),
                6 => options.push(0),
                _ => options.push(1),
            }
        }
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 1);
        let old = usize::from(bytes[12] >> 4) * 4;
        bytes.splice(20..old, options.iter().copied());
        bytes[12] = (((20 + options.len()) / 4) << 4) as u8;
    }
    let mut frame = packet(from.from.ip(), from.to.ip(), IpProtocol::Tcp, 64, &bytes);
    repair(&mut frame);
    frame
}

/// A number near one that matters, or half the space away from it, or any.
fn odd_number(known: &[u32], random: &mut StdRng) -> u32 {
    let base = known[random.random_range(0..known.len())];
    let off = [0, 0, 0, 1, 2, 536, 1024, 1400, 8191, 8192, 8193, 65_536, 0x7fff_ffff, 0x8000_0000, 0x8000_0001];
    let off: u32 = off[random.random_range(0..off.len())];
    match random.random_range(0..10) {
        0 => random.random(),
        1..3 => base.wrapping_sub(off),
        _ => base.wrapping_add(off),
    }
}

/// A peer that knows all numbers and keeps no rule.
#[test]
fn a_peer_that_knows_the_numbers_does_no_harm() {
    let start = Instant::now();
    let mut count = 0;
    for seed in 0..2500u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::seeded(seed);
        let peer = near()[(seed % 2) as usize];
        let id = world.connect(peer);
        let syn = segments(&world.turn(&[])).pop().unwrap();
        let irs: u32 = random.random();
        let mut base = syn.answer(irs).with(|s| {
            s.window = [0, 1, 100, 8192, 65_535][random.random_range(0..5)];
            s.mss = [None, Some(0), Some(1), Some(48), Some(536), Some(1400), Some(65_535)][random.random_range(0..7)];
            s.sack = random.random();
        });
        let mut left = world.input(&odd_segment(&base, &mut random));
        left.extend(world.input(&base.frame()));
        (base.mss, base.sack, base.control) = (None, false, TcpControl::None);
        let (mut theirs, mut mine) = (vec![irs.wrapping_add(1)], vec![syn.seq.wrapping_add(1)]);
        let mut closed = false;
        for _ in 0..120 {
            for segment in segments(&left) {
                mine.push(segment.seq.wrapping_add(segment.len()));
                if let Some(ack) = segment.ack {
                    theirs.push(ack);
                    theirs.push(ack.wrapping_add(segment.window.into()));
                }
            }
            let recent = |known: &[u32]| known[known.len().saturating_sub(4)..].to_vec();
            (theirs, mine) = (recent(&theirs), recent(&mine));
            let segment = base.with(|s| {
                s.seq = odd_number(&theirs, &mut random);
                s.ack = Some(odd_number(&mine, &mut random));
                s.window = [0, 1, 100, 8192, 65_535][random.random_range(0..5)];
                s.payload = vec![7; [0, 0, 1, 2, 100, 536, 1024, 1400][random.random_range(0..8)]];
                s.control =
                    [TcpControl::None, TcpControl::None, TcpControl::Psh, TcpControl::Fin][random.random_range(0..4)];
            });
            // Or what fits the window to the last octet.
            let window =
                theirs.last().copied().unwrap_or_default().wrapping_sub(theirs[theirs.len().saturating_sub(2)]);
            let segment = if window <= 8192 && random.random_bool(0.4) {
                segment.with(|s| {
                    s.seq = theirs[theirs.len().saturating_sub(2)];
                    s.ack = mine.last().copied();
                    s.payload = vec![9; window.min(1400) as usize];
                })
            } else {
                segment
            };
            match random.random_range(0..12) {
                0 => world.stack.send(id, vec![1; random.random_range(0..4000)]),
                // Some owners take nothing, so that windows fill.
                1..4 if seed % 3 != 0 => world.stack.receive(id),
                4 if random.random_bool(0.3) && !closed => {
                    closed = true;
                    world.told();
                    world.close(id, if random.random() { Close::Graceful } else { Close::Reset });
                }
                5 | 7..9 => {
                    let time = [100, 1000, 10_000, 1_000_000, 3_000_000][random.random_range(0..5)];
                    left.extend(world.pass(Micros(time)).into_iter().map(|(_, frame)| frame));
                }
                6 if random.random_bool(0.2) => world.fill(),
                _ => world.stuck = false,
            }
            left = world.input(&odd_segment(&segment, &mut random));
            count += 1;
            assert!(world.stack.agenda.len() <= 3);
            assert!(!closed || world.told().is_empty(), "seed {seed}");
        }
        world.stuck = false;
        world.close(id, Close::Graceful);
        world.pass(Micros::from_secs(11));
        assert_eq!(world.stack.streams.len(), 0, "seed {seed}");
        if start.elapsed() > PATIENCE {
            break;
        }
    }
    println!("{count} segments in {:?}", start.elapsed());
    assert!(count >= 10_000);
}

/// Everybody but the peer, with the peer's ports and numbers.
#[test]
fn bytes_of_others_reach_nobody() {
    let mut world = World::new();
    let mut streams = Vec::new();
    for peer in near() {
        for _ in 0..4 {
            let (id, next) = world.connected(peer);
            world.stack.receive(id);
            world.turn(&[]);
            streams.push((id, next.with(|s| s.payload = b"evil".to_vec())));
        }
    }
    let ports: HashSet<u16> = streams.iter().map(|(_, next)| next.to.port()).collect();
    for (_, next) in &streams {
        for other in &ports {
            let wrong = next.with(|s| s.to.set_port(*other));
            if *other != next.to.port() {
                world.input(&wrong.frame());
            }
        }
        for wrong in [
            next.with(|s| s.from.set_port(443)),
            next.with(|s| {
                s.from.set_ip(if s.from.is_ipv4() { [192, 0, 2, 66].into() } else { v6("2001:db8::66").into() })
            }),
            next.with(|s| {
                s.to.set_ip(if s.from.is_ipv4() { [192, 0, 2, 66].into() } else { v6("2001:db8::66").into() })
            }),
        ] {
            world.input(&wrong.frame());
        }
    }
    assert_eq!(world.told(), []);
    for (id, next) in &streams {
        world.input(&next.with(|s| s.payload = b"good".to_vec()).frame());
        assert_eq!(world.told(), [Told::Received(*id, b"good".to_vec())]);
    }
}
