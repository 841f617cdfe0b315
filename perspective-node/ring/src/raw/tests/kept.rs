//! The log of frames by itself: what it keeps, of whom, and for how long.

use smoltcp::wire::{IpProtocol, TcpControl};

use super::super::clock::Micros;
use super::super::kept::{FLOW_FRAMES_MAX, FRAME_OCTETS_MAX, Flow, FlowProtocol, Kept, Span};
use super::world::{Segment, ip, near, ours, packet, pattern, udp};

const ALL: usize = usize::MAX;
const START: Micros = Micros(1_000_000);

fn flow(nth: u16) -> Flow {
    let protocol = FlowProtocol::Tcp;
    Flow { protocol, port: 2000 + nth, peer: near()[usize::from(nth) % 2], tag: 0 }
}

fn segment(flow: &Flow, control: TcpControl, payload: &[u8]) -> Segment {
    let local = std::net::SocketAddr::new(ours(flow.peer.ip()), flow.port);
    let (mss, sack, ack) = (None, false, None);
    Segment { from: local, to: flow.peer, seq: 1, ack, control, window: 1, mss, sack, payload: payload.to_vec() }
}

fn back(flow: &Flow, control: TcpControl, payload: &[u8]) -> Segment {
    let ours = segment(flow, control, payload);
    Segment { from: ours.to, to: ours.from, ack: Some(2), ..ours }
}

fn span(flow: Flow, from: u64, until: u64) -> Span {
    Span { flow, from: Micros(START.0 + from), until: Micros(START.0 + until) }
}

/// A flow at any time.
fn all_of(flow: Flow) -> Span {
    Span { flow, from: Micros(0), until: Micros(u64::MAX) }
}

/// Octets of each frame of a flow, as kept.
fn lengths(kept: &Kept, flow: &Flow) -> Vec<usize> {
    kept.of(&[all_of(*flow)], START, ALL).iter().map(|frame| frame.bytes.len()).collect()
}

#[test]
fn frames_of_both_directions_are_kept_by_flow_in_their_order() {
    let mut kept = Kept::new(1 << 20);
    let (first, second) = (flow(0), flow(1));
    let frames = [
        (segment(&first, TcpControl::Syn, b"").frame(), true),
        (segment(&second, TcpControl::Syn, b"").frame(), true),
        (back(&first, TcpControl::Syn, b"").frame(), false),
        (back(&second, TcpControl::Rst, b"").frame(), false),
        (segment(&first, TcpControl::Psh, &pattern(2 * FRAME_OCTETS_MAX, 1)).frame(), true),
        (segment(&first, TcpControl::Rst, b"").frame(), true),
    ];
    for (nth, (frame, is_ours)) in (0..).zip(&frames) {
        kept.keep(Micros(START.0 + nth), frame, *is_ours);
    }
    let now = Micros(START.0 + 10);
    let told = kept.of(&[all_of(first)], now, ALL);
    assert_eq!(told.len(), 4);
    for (frame, (nth, whole)) in told.iter().zip([0, 2, 4, 5].map(|nth| (nth, &frames[nth].0))) {
        assert_eq!(frame.bytes, &whole[..whole.len().min(FRAME_OCTETS_MAX)]);
        assert_eq!((frame.length, frame.ago.as_micros()), (whole.len(), 10 - nth as u128));
    }
    assert_eq!(kept.of(&[all_of(second)], now, ALL).len(), 2);
    assert_eq!(kept.of(&[first, second, first].map(all_of), now, ALL).len(), 6, "each once");
    assert_eq!(kept.of(&[span(first, 4, 10)], now, ALL).len(), 2, "from then on");
    assert_eq!(kept.of(&[span(first, 0, 4)], now, ALL).len(), 2, "before then");
    assert_eq!(kept.of(&[span(first, 0, 1), span(first, 5, 6)], now, ALL).len(), 2, "twice");
    let octets = frames[0].0.len() + frames[2].0.len();
    assert_eq!(kept.of(&[all_of(first)], now, octets).len(), 2, "the first that fit");
}

#[test]
fn queries_that_share_a_port_are_told_apart_by_their_first_octets() {
    let mut kept = Kept::new(1 << 20);
    let (local, peer) = ((ours(ip("192.0.2.53")), 3000), (ip("192.0.2.53"), 53));
    for (nth, tag) in [(0, 0x0102), (1, 0x0304)] {
        let payload = [&u16::to_be_bytes(tag)[..], b"question"].concat();
        kept.keep(Micros(START.0 + nth), &udp(local.into(), peer.into(), &payload), true);
        kept.keep(Micros(START.0 + nth), &udp(peer.into(), local.into(), &payload), false);
    }
    // Nobody asked this.
    kept.keep(START, &udp(peer.into(), local.into(), &[9, 9, 9]), false);
    let flow = |tag| all_of(Flow { protocol: FlowProtocol::Udp, port: 3000, peer: peer.into(), tag });
    assert_eq!(kept.of(&[flow(0x0102)], START, ALL).len(), 2);
    assert_eq!(kept.of(&[flow(0x0102), flow(0x0304)], START, ALL).len(), 4);
    assert_eq!(kept.of(&[flow(0x0909)], START, ALL).len(), 0);
}

#[test]
fn who_uses_a_port_and_an_id_again_is_another() {
    let mut kept = Kept::new(1 << 20);
    let (local, peer) = ((ours(ip("192.0.2.53")), 3000), (ip("192.0.2.53"), 53));
    let flow = Flow { protocol: FlowProtocol::Udp, port: 3000, peer: peer.into(), tag: 0x0102 };
    for (at, payload) in [(0, b"\x01\x02first"), (100, b"\x01\x02other")] {
        kept.keep(Micros(START.0 + at), &udp(local.into(), peer.into(), payload), true);
        kept.keep(Micros(START.0 + at + 10), &udp(peer.into(), local.into(), payload), false);
    }
    let said = |from, until| {
        let frames = kept.of(&[span(flow, from, until)], START, ALL);
        frames.iter().map(|frame| frame.bytes[frame.bytes.len() - 5..].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(said(0, 100), [b"first", b"first"]);
    assert_eq!(said(100, 200), [b"other", b"other"]);
    assert_eq!(said(20, 100), [b""; 0]);
}

#[test]
fn what_nobody_here_began_is_not_kept() {
    let mut kept = Kept::new(1 << 20);
    let stranger = flow(0);
    kept.keep(START, &back(&stranger, TcpControl::Syn, b"").frame(), false);
    kept.keep(START, &segment(&stranger, TcpControl::Rst, b"").frame(), true);
    assert_eq!(lengths(&kept, &stranger).len(), 0);
}

#[test]
fn an_error_message_belongs_to_the_flow_it_quotes() {
    for (nth, protocol, kind) in [(0, IpProtocol::Icmp, 3), (1, IpProtocol::Icmpv6, 1)] {
        let mut kept = Kept::new(1 << 20);
        let flow = flow(nth);
        let syn = segment(&flow, TcpControl::Syn, b"").frame();
        let quoted = &syn[14..syn.len().min(14 + 40 + 8)];
        let message = [&[kind, 1, 0, 0, 0, 0, 0, 0][..], quoted].concat();
        let router = if nth == 0 { ip("192.0.2.1") } else { ip("2001:db8::1") };
        let error = packet(router, ours(flow.peer.ip()), protocol, 64, &message);
        kept.keep(START, &error, false);
        assert_eq!(lengths(&kept, &flow), [], "before anything was sent");
        kept.keep(START, &syn, true);
        kept.keep(START, &error, false);
        assert_eq!(lengths(&kept, &flow), [syn.len(), error.len()]);
    }
}

#[test]
fn of_a_flow_that_talks_without_end_the_first_frames_are_kept() {
    let mut kept = Kept::new(4 << 20);
    let (loud, quiet) = (flow(0), flow(1));
    kept.keep(START, &segment(&quiet, TcpControl::Syn, b"").frame(), true);
    kept.keep(START, &segment(&loud, TcpControl::Syn, b"").frame(), true);
    for _ in 0..100_000 {
        kept.keep(START, &back(&loud, TcpControl::Psh, &[1; 1000]).frame(), false);
    }
    assert_eq!(lengths(&kept, &loud).len(), usize::from(FLOW_FRAMES_MAX));
    assert_eq!(lengths(&kept, &quiet).len(), 1);
}

#[test]
fn the_newest_frames_push_out_the_oldest_whatever_their_sizes() {
    for octets in [0, 600, 5_000, 64 * 1024] {
        let mut kept = Kept::new(octets);
        let mut state = 7_u32;
        for nth in 0..2_000_u16 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let payload = pattern((state >> 16) as usize % 900, nth as u8);
            let flow = flow(nth);
            let frame = segment(&flow, TcpControl::Syn, &payload).frame();
            kept.keep(START, &frame, true);
            let told = kept.of(&[all_of(flow)], START, ALL);
            assert_eq!(told.len(), 1, "{octets}: {nth}");
            assert_eq!(told[0].bytes, &frame[..frame.len().min(FRAME_OCTETS_MAX)], "{octets}: {nth}");
        }
        // All that is here is from the end, without a gap.
        let there: Vec<u16> = (0..2_000).filter(|nth| !lengths(&kept, &flow(*nth)).is_empty()).collect();
        assert_eq!(there, (2_000 - there.len() as u16..2_000).collect::<Vec<_>>());
        assert!(there.len() < 2_000 && (octets < 64 * 1024 || there.len() > 64), "{octets}: {}", there.len());
    }
}

#[test]
fn any_octets_at_all_are_read_to_the_end() {
    let whole = segment(&flow(0), TcpControl::Syn, b"payload").frame();
    let mut kept = Kept::new(1 << 16);
    for length in 0..whole.len() {
        for is_ours in [true, false] {
            kept.keep(START, &whole[..length], is_ours);
        }
        for octet in 0..=u8::MAX {
            let mut changed = whole.clone();
            changed[length] = octet;
            kept.keep(START, &changed, length % 2 == 0);
        }
    }
}
