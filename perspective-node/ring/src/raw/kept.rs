//! Frames that are kept for a while, so that one who wants to know why a check
//! failed can see what was on the wire.
//!
//! A log of the last frames of both directions, in memory of a fixed size: the
//! newest overwrites the oldest. Frames of one flow are found by chains through
//! the log, one a bucket of a hash table, newest first.
//!
//! Leaves out what nobody here began: pings, questions for hardware addresses,
//! packets of strangers. They would push out what is of use.
//!
//! - Invariant: a flow begins with a frame of ours that is no RST; all else is
//!   kept only if its flow has a frame here already.
//! - Invariant: of a flow no more than [`FLOW_FRAMES_MAX`] frames are here, and
//!   of a frame no more than [`FRAME_OCTETS_MAX`] octets.
//! - Invariant: nothing grows after the log was made.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::clock::Micros;
use super::output::ETHERNET_HEADER;

/// Octets kept of a frame: all headers, a DNS message of usual size, the head
/// of a response, the begin of a certificate.
pub(crate) const FRAME_OCTETS_MAX: usize = 512;
/// Frames kept of a flow, the first of them: whoever talks without end pushes
/// out nobody else.
pub(crate) const FLOW_FRAMES_MAX: u16 = 128;
/// Steps along a chain to find the flow of a frame that has come or leaves.
const STEPS_MAX: usize = 64;
/// Steps along a chain to find all frames of a flow.
const SEARCH_STEPS_MAX: usize = 4096;
/// What a frame is reckoned to take of the log, its entry beside.
const TYPICAL_OCTETS: usize = 128;

/// What runs over a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowProtocol {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// Who talks with whom. Our address follows from the peer's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// What runs over it.
    pub protocol: FlowProtocol,
    /// Our port.
    pub port: u16,
    /// Whom we talk with.
    pub peer: SocketAddr,
    /// Of datagrams the first two octets of what they carry, which tell apart
    /// what shares a port; of streams 0.
    pub tag: u16,
}

/// A flow while it was somebody's. Ports and tags are used again, by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSpan {
    /// Who talked with whom.
    pub flow: Flow,
    /// Since when.
    pub from: Instant,
    /// Until when; what came or left just then is not of it any more.
    pub until: Instant,
}

/// The same by the ring's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) flow: Flow,
    pub(super) from: Micros,
    pub(super) until: Micros,
}

impl Span {
    fn has(&self, entry: &Entry) -> bool {
        entry.flow == self.flow && entry.at >= self.from && entry.at < self.until
    }
}

/// A frame that was kept, with its Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptFrame<'k> {
    /// When it came or left, to the turn of the loop, as time before now.
    pub ago: std::time::Duration,
    /// Its octets on the wire.
    pub length: usize,
    /// Those that were kept, from its begin.
    pub bytes: &'k [u8],
}

struct Entry {
    at: Micros,
    flow: Flow,
    /// Frames of this flow before it.
    nth: u16,
    kept: u16,
    length: u32,
    start: usize,
    /// The one before it in its chain, as in `heads`.
    before: u64,
}

pub(super) struct Kept {
    bytes: Box<[u8]>,
    /// Where the next frame's octets go.
    next: usize,
    /// Oldest first. Their octets lie in `bytes` in this order, which goes
    /// round.
    entries: VecDeque<Entry>,
    entries_max: usize,
    /// The number of the oldest entry.
    oldest: u64,
    /// The newest entry of each bucket: its number plus one, or 0.
    heads: Box<[u64]>,
    hasher: RandomState,
}

impl Kept {
    /// A log that takes so many octets in all.
    pub(super) fn new(octets: usize) -> Kept {
        let entries_max = (octets / (size_of::<Entry>() + size_of::<u64>() + TYPICAL_OCTETS)).max(1);
        // Rounded down to a power of two, as a mask is made of it.
        let buckets = 1 << entries_max.ilog2();
        let taken = entries_max * size_of::<Entry>() + buckets * size_of::<u64>();
        let bytes = octets.saturating_sub(taken).max(FRAME_OCTETS_MAX);
        Kept {
            bytes: vec![0; bytes].into(),
            next: 0,
            entries: VecDeque::with_capacity(entries_max),
            entries_max,
            oldest: 0,
            heads: vec![0; buckets].into(),
            hasher: RandomState::new(),
        }
    }

    /// Keeps a frame that has come, or one of ours that has left, if its flow
    /// is one of ours.
    pub(super) fn keep(&mut self, now: Micros, frame: &[u8], is_ours: bool) {
        let Some((flow, begins)) = read(frame, is_ours) else { return };
        let bucket = self.bucket(&flow);
        let Some(&head) = self.heads.get(bucket) else { return };
        let nth = match self.chain(head).take(STEPS_MAX).find(|(_, entry)| entry.flow == flow) {
            Some((_, newest)) => newest.nth + 1,
            None if begins => 0,
            None => return,
        };
        if nth >= FLOW_FRAMES_MAX {
            return;
        }
        let octets = frame.get(..FRAME_OCTETS_MAX).unwrap_or(frame);
        let start = self.make_room(octets.len());
        let Some(room) = self.bytes.get_mut(start..start + octets.len()) else { return };
        room.copy_from_slice(octets);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        // As `FRAME_OCTETS_MAX` says it fits.
        let kept = octets.len() as u16;
        self.entries.push_back(Entry { at: now, flow, nth, kept, length, start, before: head });
        if let Some(head) = self.heads.get_mut(bucket) {
            *head = self.oldest + self.entries.len() as u64;
        }
    }

    /// Frames of these flows, each in its time, in the order they came and
    /// left; the first ones, if all of them are more than so many octets.
    pub(super) fn of(&self, spans: &[Span], now: Micros, octets_max: usize) -> Vec<KeptFrame<'_>> {
        let mut found: Vec<u64> = Vec::new();
        for span in spans {
            let head = self.heads.get(self.bucket(&span.flow)).copied().unwrap_or(0);
            let recent = self.chain(head).take(SEARCH_STEPS_MAX).take_while(|(_, entry)| entry.at >= span.from);
            found.extend(recent.filter(|(_, entry)| span.has(entry)).map(|(number, _)| number));
        }
        found.sort_unstable();
        found.dedup();
        let mut octets = 0;
        let entries = found.into_iter().filter_map(|number| self.entry(number));
        let frames = entries.map_while(|entry| {
            let bytes = self.bytes.get(entry.start..entry.start + usize::from(entry.kept))?;
            octets += bytes.len();
            let ago = std::time::Duration::from_micros(now.since(entry.at).0);
            (octets <= octets_max).then_some(KeptFrame { ago, length: entry.length as usize, bytes })
        });
        frames.collect()
    }

    fn bucket(&self, flow: &Flow) -> usize {
        self.hasher.hash_one(flow) as usize & (self.heads.len() - 1)
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }

    /// Entries of one bucket with their numbers, newest first, as far as they
    /// are still here.
    fn chain(&self, head: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let find = |head: u64| {
            let number = head.checked_sub(1)?;
            Some((number, self.entry(number)?))
        };
        std::iter::successors(find(head), move |(_, entry)| find(entry.before))
    }

    /// Drops the oldest frames until there is room for one of `len` octets;
    /// where that is.
    fn make_room(&mut self, len: usize) -> usize {
        let end = self.next;
        let goes_round = end + len > self.bytes.len();
        let start = if goes_round { 0 } else { end };
        while let Some(oldest) = self.entries.front() {
            // What lies behind the end of the last lap is older than what lies at its begin.
            let behind = goes_round && oldest.start >= end;
            if self.entries.len() < self.entries_max && !behind && !(start..start + len).contains(&oldest.start) {
                break;
            }
            self.entries.pop_front();
            self.oldest += 1;
        }
        self.next = start + len;
        start
    }
}

/// The flow of a frame, and whether it may begin one.
fn read(frame: &[u8], is_ours: bool) -> Option<(Flow, bool)> {
    let packet = frame.get(ETHERNET_HEADER..)?;
    let ip = Ip::read(packet)?;
    match ip.protocol {
        TCP | UDP => {
            let (flow, is_reset) = ip.flow(is_ours)?;
            Some((flow, is_ours && !is_reset))
        }
        // An error message quotes a packet of ours (RFC 792, RFC 4443 §3).
        ICMP | ICMPV6 if !is_ours && ip.is_error() => {
            let (flow, _) = Ip::read(ip.payload.get(8..)?)?.flow(true)?;
            Some((flow, false))
        }
        _ => None,
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What has to be known of an IP packet, which may be cut short.
struct Ip<'p> {
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    payload: &'p [u8],
}

impl<'p> Ip<'p> {
    fn read(packet: &'p [u8]) -> Option<Ip<'p>> {
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet.first()? & 15) * 4;
                let later_fragment = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x1fff != 0;
                let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?)));
                let payload = packet.get(header..).filter(|_| header >= 20 && !later_fragment)?;
                Some(Ip { from: address(12)?, to: address(16)?, protocol: *packet.get(9)?, payload })
            }
            6 => {
                let address = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?)));
                let (from, to) = (address(8)?, address(24)?);
                Some(Ip { from, to, protocol: *packet.get(6)?, payload: packet.get(40..)? })
            }
            _ => None,
        }
    }

    fn is_error(&self) -> bool {
        match (self.protocol, self.payload.first()) {
            // Unreachable, source quench, time exceeded, parameter problem.
            (ICMP, Some(kind)) => matches!(kind, 3 | 4 | 11 | 12),
            (ICMPV6, Some(kind)) => *kind < 128,
            _ => false,
        }
    }

    /// The flow of a segment or datagram, and whether it is a RST.
    fn flow(&self, is_ours: bool) -> Option<(Flow, bool)> {
        let word = |at: usize| Some(u16::from_be_bytes(*self.payload.get(at..)?.first_chunk()?));
        let (source, destination) = (word(0)?, word(2)?);
        let (port, peer) = if is_ours { (source, (self.to, destination)) } else { (destination, (self.from, source)) };
        let peer = SocketAddr::from(peer);
        match self.protocol {
            TCP => {
                // A quoted segment may end before its flags.
                let is_reset = self.payload.get(13).is_some_and(|flags| flags & 4 != 0);
                Some((Flow { protocol: FlowProtocol::Tcp, port, peer, tag: 0 }, is_reset))
            }
            UDP => Some((Flow { protocol: FlowProtocol::Udp, port, peer, tag: word(8).unwrap_or(0) }, false)),
            _ => None,
        }
    }
}
