//! Outgoing TCP streams: a table of flows in front, and one smoltcp socket in
//! a set of its own behind each flow that stands.
//!
//! Leaves out deadlines and what the bytes mean. smoltcp looks through a whole
//! set for every packet and every poll, so a set holds one socket and the
//! table finds it.
//!
//! A stream that has no answer yet is not a socket but the seed of one: the
//! random number its first sequence number comes from. Its SYN is made anew
//! from the seed each time it is sent, and the socket when somebody answers.
//! So a target that is silent costs no buffers, and no initial sequence number
//! follows from another (RFC 9293 §3.4.1), which one generator for all would
//! let every peer compute.
//!
//! - Invariant: a stream is removed when its owner has closed it and its last
//!   segment has left; no event follows a close.
//! - Invariant: a stream has one entry in the agenda at most, and none when it
//!   is gone.
//! - Invariant: `Connected` is told after an answer to our own sequence number.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, EthernetProtocol, HardwareAddress, IpCidr, TcpPacket};

use super::buffers::{Buffers, Lent};
use super::clock::Micros;
use super::datagram::{LOWEST_PORT, plain};
use super::frames::Checksum;
use super::hops::Known;
use super::output::{ETHERNET_HEADER, Outbox, Wire};
use super::stack::{Due, Packet, Stack, Turn};
use super::unreachable::{Quoted, Reason};
use crate::Event;
use crate::slots::{Key, Slots};
use crate::stream::{Close, Sending, StreamId, StreamPhase, failed};

/// What a peer may send before we have looked at it. Its pages cost nothing
/// while a peer is silent.
const RECEIVE_BYTES: usize = 8 * 1024;
/// What is on its way to a peer and not acknowledged.
const SEND_BYTES: usize = 1024;
/// Draws of a port before a peer's ports count as used up.
const PORT_DRAWS_MAX: usize = 64;
/// The first wait for an answer to a SYN; each further one is twice as long
/// (RFC 6298 §2, §5.5).
const SYN_WAIT: Micros = Micros::from_secs(1);
/// SYNs in all, as many as Linux sends.
const SYNS_MAX: u8 = 7;
/// How long a stream closed gracefully may take to deliver what it has.
const LINGER: Micros = Micros::from_secs(10);
/// How far a peer's sequence number may be from what we have acknowledged to be
/// looked at: a window to both sides, and more.
///
/// Comparing numbers half their space apart is meaningless (RFC 9293 §3.4),
/// and smoltcp takes one of them for an octet of the window while a FIN that
/// fills the window is not acknowledged; it then panics on the hole before it.
const SEQUENCE_NEAR: u32 = 64 * 1024;
/// An acknowledgement is due within this, the end of TIME-WAIT much later.
const ACKNOWLEDGEMENT_WAIT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(1);
/// When a frame that found no room is tried again.
const NO_ROOM_WAIT: Micros = Micros(100);

/// What a stream costs that has no answer yet, beside its table entries.
#[cfg(test)]
pub(super) const SILENT_BYTES: usize = size_of::<(u64, Stream)>() + size_of::<(Flow, Key)>();

/// Local port and peer; our address follows from the peer's family.
type Flow = (u16, SocketAddr);

enum Phase {
    /// Waits for the hardware address of its hop, or for room for its SYN.
    Resolving,
    /// Its SYN is on the way.
    Calling {
        sequence: u32,
        first_sent: Micros,
        syns: u8,
    },
    Open(Box<Socket>),
    Failed,
}

struct Socket {
    /// Uses the buffers, so it is dropped before them.
    set: SocketSet<'static>,
    handle: SocketHandle,
    _buffers: [Lent; 2],
    /// The last acknowledgement number sent to the peer.
    acknowledged: u32,
}

struct Stream {
    local: SocketAddr,
    peer: SocketAddr,
    hop: IpAddr,
    hardware: EthernetAddress,
    phase: Phase,
    seed: u64,
    /// When its one entry in the agenda is; the end of time if it has none.
    wakes: Micros,
    receiving: bool,
    /// In `ready` already.
    is_ready: bool,
    queue: VecDeque<Sending>,
    /// Closed by its owner; goes by then at the latest.
    closing: Option<Micros>,
}

pub(super) struct Streams {
    slots: Slots<Stream>,
    flows: HashMap<Flow, Key>,
    /// Streams that wait for a hop.
    waiting: HashMap<IpAddr, Vec<Key>>,
    /// Streams that something was asked of since the last turn.
    ready: VecDeque<Key>,
    addresses: Vec<IpCidr>,
    /// Serves every socket that stands: it has no state of its own.
    interface: Interface,
    nobody: SocketSet<'static>,
    receive_buffers: Buffers,
    send_buffers: Buffers,
    /// Lent to a socket while it sends its SYN: of the real buffers' lengths,
    /// which the SYN tells, and never written to.
    lengths: (Vec<u8>, Vec<u8>),
    mtu: usize,
}

/// The far side, as smoltcp sees it: one packet to take in at most, and the
/// output to send to, or nothing if what is sent was sent before.
struct Far<'f> {
    packet: Option<&'f [u8]>,
    out: Option<&'f mut Outbox>,
    wire: Wire,
    mtu: usize,
    /// The last segment sent.
    last: Option<Numbers>,
}

/// What a segment of ours says of both directions.
#[derive(Clone, Copy)]
struct Numbers {
    sequence: u32,
    acknowledgement: Option<u32>,
}

struct Taken<'p>(&'p [u8]);

impl RxToken for Taken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

struct Leaving<'t> {
    out: Option<&'t mut Outbox>,
    wire: Wire,
    last: &'t mut Option<Numbers>,
}

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = self.out.and_then(|out| out.frame(ETHERNET_HEADER + len));
        let Some((header, packet)) = frame.and_then(|frame| frame.split_at_mut_checked(ETHERNET_HEADER)) else {
            // To nowhere: it has been sent before, or is lost as on any wire and will be sent again.
            let mut nowhere = vec![0; len];
            let result = f(&mut nowhere);
            *self.last = numbers_of(&nowhere);
            return result;
        };
        let result = f(packet);
        let v6 = packet.first().is_some_and(|octet| octet >> 4 == 6);
        self.wire.emit(if v6 { EthernetProtocol::Ipv6 } else { EthernetProtocol::Ipv4 }, header);
        *self.last = numbers_of(packet);
        result
    }
}

/// The numbers in a packet that smoltcp has made: no options in its IP header,
/// no extension headers.
fn numbers_of(packet: &[u8]) -> Option<Numbers> {
    let start = if packet.first()? >> 4 == 6 { 40 } else { 20 };
    let segment = TcpPacket::new_checked(packet.get(start..)?).ok()?;
    let acknowledgement = segment.ack().then(|| segment.ack_number().0 as u32);
    Some(Numbers { sequence: segment.seq_number().0 as u32, acknowledgement })
}

impl Device for Far<'_> {
    type RxToken<'t>
        = Taken<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Leaving<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Taken<'_>, Leaving<'_>)> {
        let packet = self.packet.take()?;
        Some((Taken(packet), self.leaving()))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        let room = self.out.as_ref().is_none_or(|out| out.room());
        room.then(|| self.leaving())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        // Verified before the packet is handed over, or vouched for.
        capabilities.checksum.ipv4 = phy::Checksum::Tx;
        capabilities.checksum.tcp = phy::Checksum::Tx;
        capabilities
    }
}

impl Far<'_> {
    fn leaving(&mut self) -> Leaving<'_> {
        Leaving { out: self.out.as_deref_mut(), wire: self.wire, last: &mut self.last }
    }
}

impl Streams {
    pub(super) fn new(addresses: &[IpAddr], mtu: usize) -> Streams {
        let addresses: Vec<IpCidr> = addresses
            .iter()
            .map(|&address| IpCidr::new(address.into(), if address.is_ipv4() { 32 } else { 128 }))
            .collect();
        let interface = interface(&addresses, mtu, 0, Micros(0));
        Streams {
            slots: Slots::new(),
            flows: HashMap::new(),
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            addresses,
            interface,
            nobody: SocketSet::new(Vec::new()),
            receive_buffers: Buffers::new(RECEIVE_BYTES),
            send_buffers: Buffers::new(SEND_BYTES),
            lengths: (vec![0; RECEIVE_BYTES], vec![0; SEND_BYTES]),
            mtu,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Our port and the peer.
    pub(super) fn ends(&self, id: StreamId) -> Option<Flow> {
        self.slots.get_ref(id.0).map(|stream| (stream.local.port(), stream.peer))
    }

    /// Pairs of a local port and a peer that are taken; as many as streams.
    pub(super) fn flows_len(&self) -> usize {
        self.flows.len()
    }

    #[cfg(test)]
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Whether [`Stack::turn_streams`] has something to do.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Puts a stream among those that are looked at in the next turn.
    fn make_ready(&mut self, key: Key) {
        if let Some(stream) = self.slots.get(key).filter(|stream| !stream.is_ready) {
            stream.is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// A port that no other stream to this peer has, out of all with equal
    /// chance.
    fn draw_port(&self, peer: SocketAddr, draw: &mut dyn FnMut() -> u64) -> Option<u16> {
        (0..PORT_DRAWS_MAX)
            .map(|_| draw() as u16)
            .find(|port| *port >= LOWEST_PORT && !self.flows.contains_key(&(*port, peer)))
    }
}

/// Makes the SYN of a seed, and sends it if there is an output. Returns the set
/// with the socket that has sent it.
fn call<'s>(
    interface: &mut Interface,
    stream: &Stream,
    mut socket: tcp::Socket<'s>,
    at: Micros,
    far: &mut Far<'_>,
) -> Option<(SocketSet<'s>, SocketHandle)> {
    socket.set_nagle_enabled(false);
    socket.connect(interface.context(), stream.peer, stream.local).ok()?;
    let mut set = SocketSet::new(Vec::with_capacity(1));
    let handle = set.add(socket);
    interface.poll_egress(at.into(), far, &mut set);
    Some((set, handle))
}

/// An interface whose first random number, which numbers the first connection
/// made with it, comes from `seed`.
fn interface(addresses: &[IpCidr], mtu: usize, seed: u64, now: Micros) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let wire = Wire { from: EthernetAddress([0; 6]), to: EthernetAddress([0; 6]) };
    let mut far = Far { packet: None, out: None, wire, mtu, last: None };
    let mut interface = Interface::new(config, &mut far, now.into());
    interface.update_ip_addrs(|list| {
        for address in addresses {
            // At most one of each family, which is what the list holds.
            let _ = list.push(*address);
        }
    });
    interface
}

impl Stack {
    pub(super) fn connect(
        &mut self,
        local: Option<IpAddr>,
        peer: SocketAddr,
        draw: &mut dyn FnMut() -> u64,
    ) -> io::Result<StreamId> {
        let (address, hop) = self.way(local, peer)?;
        let peer = plain(peer);
        let port = self.streams.draw_port(peer, draw).ok_or(Errno::ADDRNOTAVAIL)?;
        let key = self.streams.slots.insert(Stream {
            local: SocketAddr::new(address, port),
            peer,
            hop,
            hardware: EthernetAddress([0; 6]),
            phase: Phase::Resolving,
            seed: draw(),
            wakes: Micros(u64::MAX),
            receiving: false,
            is_ready: false,
            queue: VecDeque::new(),
            closing: None,
        });
        self.streams.flows.insert((port, peer), key);
        self.streams.make_ready(key);
        Ok(StreamId(key))
    }

    pub(super) fn send(&mut self, id: StreamId, bytes: Vec<u8>) {
        let Some(stream) = self.streams.slots.get(id.0) else { return };
        if stream.closing.is_none() && !matches!(stream.phase, Phase::Failed) {
            stream.queue.push_back(Sending { bytes, done: 0 });
            self.asked(id);
        }
    }

    pub(super) fn receive(&mut self, id: StreamId) {
        let Some(stream) = self.streams.slots.get(id.0) else { return };
        if stream.closing.is_none() && !stream.receiving {
            stream.receiving = true;
            self.asked(id);
        }
    }

    /// One that does not stand yet is looked at when it does.
    fn asked(&mut self, id: StreamId) {
        if self.streams.slots.get_ref(id.0).is_some_and(|stream| matches!(stream.phase, Phase::Open(_))) {
            self.streams.make_ready(id.0);
        }
    }

    fn remove_stream(&mut self, key: Key) {
        if let Some(stream) = self.streams.slots.get(key) {
            self.agenda.remove(stream.wakes, Due::Stream(key));
            self.streams.flows.remove(&(stream.local.port(), stream.peer));
            self.streams.slots.remove(key.index);
        }
    }

    pub(super) fn close(&mut self, id: StreamId, how: Close, now: Micros) {
        let Some(stream) = self.streams.slots.get(id.0).filter(|stream| stream.closing.is_none()) else { return };
        stream.receiving = false;
        let end = now.plus(LINGER);
        stream.closing = Some(end);
        let Phase::Open(socket) = &mut stream.phase else {
            // Nobody knows of it: a late answer to its SYN is answered with RST, as to any stranger.
            return self.remove_stream(id.0);
        };
        if how == Close::Reset {
            stream.queue.clear();
            socket.get().abort();
        }
        // With bytes still waiting, `pump` ends it after them.
        self.wake_stream(id.0, end);
        self.streams.make_ready(id.0);
    }

    /// Looks at the streams something was asked of.
    pub(super) fn turn_streams(&mut self, turn: &mut Turn<'_>) {
        for _ in 0..self.streams.ready.len() {
            let Some(key) = self.streams.ready.pop_front() else { break };
            let Some(stream) = self.streams.slots.get(key) else { continue };
            stream.is_ready = false;
            self.step(key, turn);
        }
    }

    pub(super) fn expire_stream(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.slots.get(key) else { return };
        stream.wakes = Micros(u64::MAX);
        if stream.closing.is_some_and(|by| by <= turn.now) {
            return self.remove_stream(key);
        }
        self.step(key, turn);
    }

    /// Does what the stream's phase asks for.
    fn step(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.slots.get(key) else { return };
        match stream.phase {
            Phase::Resolving => self.resolve(key, turn),
            Phase::Calling { first_sent, syns, .. } => self.call_again(key, first_sent, syns, turn),
            Phase::Open(_) => self.pump(key, None, turn),
            Phase::Failed => {}
        }
    }

    fn resolve(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.slots.get(key) else { return };
        let hop = stream.hop;
        match self.find_hop(hop, turn.now, turn.out) {
            Known::Yes(hardware, _) => self.call(key, hardware, turn),
            Known::NotYet(_) => self.streams.waiting.entry(hop).or_default().push(key),
            Known::Never => self.fail(key, StreamPhase::Connect, Errno::NOBUFS, turn),
        }
    }

    pub(super) fn streams_ready(&mut self, hop: IpAddr, turn: &mut Turn<'_>) {
        for key in self.streams.waiting.remove(&hop).unwrap_or_default() {
            if self.streams.slots.get(key).is_some_and(|stream| matches!(stream.phase, Phase::Resolving)) {
                self.resolve(key, turn);
            }
        }
    }

    /// Nobody answers where the hop should be.
    pub(super) fn streams_lost(&mut self, hop: IpAddr, turn: &mut Turn<'_>) {
        let waiting = self.streams.waiting.remove(&hop).unwrap_or_default();
        // Those a sink that panics keeps from being told ask again.
        for &key in &waiting {
            self.streams.make_ready(key);
        }
        for key in waiting {
            if self.streams.slots.get(key).is_some_and(|stream| matches!(stream.phase, Phase::Resolving)) {
                self.fail(key, StreamPhase::Connect, Errno::HOSTUNREACH, turn);
            }
        }
    }

    /// Sends the first SYN.
    fn call(&mut self, key: Key, hardware: EthernetAddress, turn: &mut Turn<'_>) {
        let now = turn.now;
        let Some(stream) = self.streams.slots.get(key) else { return };
        stream.hardware = hardware;
        match self.send_syn(key, now, turn.out) {
            Some(sequence) => {
                if let Some(stream) = self.streams.slots.get(key) {
                    stream.phase = Phase::Calling { sequence, first_sent: now, syns: 1 };
                }
                self.wake_stream(key, now.plus(SYN_WAIT));
            }
            // No room: it is still to be called.
            None => self.wake_stream(key, now.plus(NO_ROOM_WAIT)),
        }
    }

    /// Sends the SYN again, or gives up; does nothing before its time.
    fn call_again(&mut self, key: Key, first_sent: Micros, syns: u8, turn: &mut Turn<'_>) {
        // The nth SYN is followed by 2^(n-1) waits, so the next is due after 2^n - 1 of them.
        let next = |syns: u8| first_sent.plus(Micros(SYN_WAIT.0 * ((1 << syns.min(SYNS_MAX)) - 1)));
        if turn.now < next(syns) {
            return self.wake_stream(key, next(syns));
        }
        if syns >= SYNS_MAX {
            return self.fail(key, StreamPhase::Connect, Errno::TIMEDOUT, turn);
        }
        // Without room it counts as sent: it is one of several.
        let _ = self.send_syn(key, first_sent, turn.out);
        if let Some(stream) = self.streams.slots.get(key)
            && let Phase::Calling { syns, .. } = &mut stream.phase
        {
            *syns += 1;
        }
        self.wake_stream(key, next(syns + 1));
    }

    /// The peer took our SYN for one of an earlier stream from this port, and
    /// has been told that that one has ended: a second SYN need not wait for its
    /// time. Done once, for anybody may send such a challenge.
    fn call_after_challenge(&mut self, key: Key, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.slots.get(key) else { return };
        let Phase::Calling { first_sent, syns, .. } = &mut stream.phase else { return };
        if *syns == 1 {
            *syns = 2;
            let first_sent = *first_sent;
            // Without room it counts as sent: it is one of several.
            let _ = self.send_syn(key, first_sent, turn.out);
        }
    }

    /// Makes and sends the SYN of a stream; its sequence number, if there was
    /// room.
    fn send_syn(&mut self, key: Key, at: Micros, out: &mut Outbox) -> Option<u32> {
        if !out.room() {
            return None;
        }
        let Streams { slots, addresses, lengths, mtu, .. } = &mut self.streams;
        let stream = slots.get_ref(key)?;
        let wire = Wire { from: self.hardware, to: stream.hardware };
        let mut far = Far { packet: None, out: Some(out), wire, mtu: *mtu, last: None };
        let mut interface = interface(addresses, *mtu, stream.seed, at);
        let (receive, send) = (tcp::SocketBuffer::new(&mut lengths.0[..]), tcp::SocketBuffer::new(&mut lengths.1[..]));
        let socket = tcp::Socket::new(receive, send);
        call(&mut interface, stream, socket, at, &mut far)?;
        Some(far.last?.sequence)
    }

    /// Has [`Stack::expire_stream`] called no later than `at`.
    fn wake_stream(&mut self, key: Key, at: Micros) {
        if let Some(stream) = self.streams.slots.get(key).filter(|stream| at < stream.wakes) {
            self.agenda.remove(stream.wakes, Due::Stream(key));
            stream.wakes = at;
            self.agenda.add(at, Due::Stream(key));
        }
    }

    /// Tells of a failure; the stream stays until it is closed.
    fn fail(&mut self, key: Key, phase: StreamPhase, errno: Errno, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.slots.get(key) else { return };
        stream.phase = Phase::Failed;
        stream.queue.clear();
        turn.tell(failed(StreamId(key), phase, errno));
    }

    pub(super) fn input_segment(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) {
        let Ok(segment) = TcpPacket::new_checked(packet.payload) else {
            self.stats.malformed += 1;
            return;
        };
        let vouched = matches!(packet.checksum, Checksum::Vouched);
        if !vouched && !segment.verify_checksum(&packet.from.into(), &packet.to.into()) {
            self.stats.checksums += 1;
            return;
        }
        let peer = SocketAddr::new(packet.from, segment.src_port());
        let found = self.streams.flows.get(&(segment.dst_port(), peer)).copied();
        let Some(key) = found else {
            self.stats.strangers += 1;
            return self.turn_away(packet, turn);
        };
        let Some(stream) = self.streams.slots.get(key) else { return };
        let number = segment.seq_number().0 as u32;
        let (sequence, sent) = match &stream.phase {
            Phase::Open(socket) if socket.is_near(number) => return self.pump(key, Some(packet.whole), turn),
            Phase::Open(_) => {
                self.stats.strangers += 1;
                return;
            }
            // Which of several SYNs is answered cannot be known, so the answer measures nothing (RFC 6298 §3).
            Phase::Calling { sequence, first_sent, syns } => {
                (*sequence, if *syns == 1 { *first_sent } else { turn.now })
            }
            Phase::Resolving | Phase::Failed => return,
        };
        let ours = segment.ack() && segment.ack_number().0 as u32 == sequence.wrapping_add(1);
        match (ours, segment.rst(), segment.syn()) {
            (true, true, _) => self.fail(key, StreamPhase::Connect, Errno::CONNREFUSED, turn),
            (true, false, true) => self.open(key, sent, number.wrapping_add(1), packet, turn),
            // An answer to an earlier stream of ours: it has ended (RFC 9293 §3.10.7.3).
            (false, false, _) if segment.ack() => {
                self.turn_away(packet, turn);
                self.call_after_challenge(key, turn);
            }
            _ => self.stats.strangers += 1,
        }
    }

    /// Answers a segment of no stream of ours with RST, unless it is one.
    fn turn_away(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) {
        let wire = Wire { from: self.hardware, to: packet.source };
        let mtu = self.streams.mtu;
        let mut far = Far { packet: Some(packet.whole), out: Some(turn.out), wire, mtu, last: None };
        let Streams { interface, nobody, .. } = &mut self.streams;
        interface.poll_ingress_single(turn.now.into(), &mut far, nobody);
    }

    /// The answer to our SYN is here: makes the socket that has sent it, and
    /// lets it take the answer in.
    fn open(&mut self, key: Key, sent: Micros, acknowledged: u32, packet: &Packet<'_>, turn: &mut Turn<'_>) {
        let Some(stream) = self.streams.slots.get_ref(key) else { return };
        let wire = Wire { from: self.hardware, to: stream.hardware };
        let mtu = self.streams.mtu;
        let mut far = Far { packet: None, out: None, wire, mtu, last: None };
        let mut interface = interface(&self.streams.addresses, mtu, stream.seed, sent);
        let lent = self.streams.receive_buffers.lend().and_then(|one| Ok([one, self.streams.send_buffers.lend()?]));
        // Declared before the set, which uses them, so dropped after it.
        let mut buffers = match lent {
            Ok(buffers) => buffers,
            Err(_) => return self.fail(key, StreamPhase::Connect, Errno::NOBUFS, turn),
        };
        let [receive, send] = &mut buffers;
        // SAFETY: once for each. The slices go into a socket that stays in its
        // set; the set is dropped before the buffers, here and in `Socket`, and
        // never taken out of it.
        let (receive, send) = unsafe { (receive.bytes(), send.bytes()) };
        let socket = tcp::Socket::new(tcp::SocketBuffer::new(receive), tcp::SocketBuffer::new(send));
        let made = call(&mut interface, stream, socket, sent, &mut far);
        let Some((mut set, handle)) = made else { return };
        far.packet = Some(packet.whole);
        far.out = Some(turn.out);
        interface.poll_ingress_single(turn.now.into(), &mut far, &mut set);
        if !set.get::<tcp::Socket<'_>>(handle).may_send() {
            // It did not take the answer: something about it is wrong that was not looked at here.
            self.stats.strangers += 1;
            return;
        }
        if let Some(stream) = self.streams.slots.get(key) {
            stream.phase = Phase::Open(Box::new(Socket { set, handle, _buffers: buffers, acknowledged }));
        }
        // Its acknowledgement leaves with the first octets the owner sends, or in the next turn.
        self.streams.make_ready(key);
        turn.tell(Event::Connected { id: StreamId(key) });
    }

    /// Lets the socket of a stream take a packet in, moves octets between it
    /// and the owner, and lets it send what it has to.
    fn pump(&mut self, key: Key, packet: Option<&[u8]>, turn: &mut Turn<'_>) {
        let Streams { slots, interface, mtu, .. } = &mut self.streams;
        let Some(stream) = slots.get(key) else { return };
        let Phase::Open(socket) = &mut stream.phase else { return };
        let wire = Wire { from: self.hardware, to: stream.hardware };
        let now: Instant = turn.now.into();
        if packet.is_some() {
            let mut far = Far { packet, out: Some(turn.out), wire, mtu: *mtu, last: None };
            interface.poll_ingress_single(now, &mut far, &mut socket.set);
            socket.has_sent(far.last);
        }
        self.exchange(key, turn);
        let Streams { slots, interface, mtu, .. } = &mut self.streams;
        let Some(stream) = slots.get(key) else { return };
        let Phase::Open(socket) = &mut stream.phase else { return };
        // Without room it must not even try: smoltcp forgets a fast retransmission that could not leave.
        if turn.out.room() {
            let mut far = Far { packet: None, out: Some(turn.out), wire, mtu: *mtu, last: None };
            interface.poll_egress(now, &mut far, &mut socket.set);
            socket.has_sent(far.last);
        }
        let wakes = interface.poll_at(now, &socket.set);
        let quiet = wakes.is_none_or(|at| at > now + ACKNOWLEDGEMENT_WAIT);
        let ended = stream.closing.is_some() && socket.has_ended(quiet);
        if ended {
            return self.remove_stream(key);
        }
        // What is due at once and did not leave found no room, or is the next of several segments.
        let soon = turn.now.plus(NO_ROOM_WAIT);
        let wakes = wakes.map(|at| soon.max(Micros(u64::try_from(at.total_micros()).unwrap_or(0))));
        if let Some(at) = wakes.into_iter().chain(stream.closing).min() {
            self.wake_stream(key, at);
        }
    }

    /// Moves octets between a socket and its owner.
    fn exchange(&mut self, key: Key, turn: &mut Turn<'_>) {
        let id = StreamId(key);
        let receive_max = self.datagrams.receive_bytes();
        let mut sent = 0;
        let Streams { slots, ready, .. } = &mut self.streams;
        let Some(stream) = slots.get(key) else { return };
        let Phase::Open(socket) = &mut stream.phase else { return };
        let tcp = socket.get();
        let mut broken = false;
        while let Some(sending) = stream.queue.front_mut() {
            match tcp.send_slice(sending.rest()) {
                Ok(taken) => sending.done += taken,
                Err(tcp::SendError::InvalidState) => {
                    broken = true;
                    break;
                }
            }
            if !sending.rest().is_empty() {
                break;
            }
            stream.queue.pop_front();
            sent += 1;
        }
        if sent > 0 && stream.queue.is_empty() {
            // Most have sent all they ever send, and may then wait for long.
            stream.queue = VecDeque::new();
        }
        if stream.closing.is_some() {
            if stream.queue.is_empty() || broken {
                tcp.close();
            }
            return;
        }
        // Should the sink panic, what is left to be done here and by `pump` is done in the next turn.
        let tells = sent > 0 || (stream.receiving && (tcp.can_recv() || !tcp.may_recv()));
        if tells && !stream.is_ready {
            stream.is_ready = true;
            ready.push_back(key);
        }
        for _ in 0..sent {
            turn.tell(Event::Sent { id });
        }
        if stream.receiving {
            // The owner asks for the next one when it has seen this one.
            let got = tcp.recv(|bytes| {
                let bytes = bytes.get(..receive_max).unwrap_or(bytes);
                if !bytes.is_empty() {
                    stream.receiving = false;
                    turn.tell(Event::Received { id, bytes });
                }
                (bytes.len(), ())
            });
            match got {
                Ok(()) => {}
                Err(tcp::RecvError::Finished) => {
                    stream.receiving = false;
                    turn.tell(Event::Received { id, bytes: &[] });
                }
                Err(tcp::RecvError::InvalidState) => {
                    return self.fail(key, StreamPhase::Receive, Errno::CONNRESET, turn);
                }
            }
        }
        if broken {
            self.fail(key, StreamPhase::Send, Errno::PIPE, turn);
        }
    }

    pub(super) fn stream_unreachable(&mut self, quoted: &Quoted, reason: Reason, turn: &mut Turn<'_>) {
        let found = self.streams.flows.get(&(quoted.from.port(), quoted.to)).copied();
        let calling = found.and_then(|key| {
            let stream = self.streams.slots.get_ref(key).filter(|stream| stream.local == quoted.from)?;
            // Only one who has seen our SYN can quote its number; and a stream that stands outlives such messages
            // (RFC 5927 §5).
            matches!(stream.phase, Phase::Calling { sequence, .. } if sequence == quoted.sequence).then_some(key)
        });
        match calling {
            Some(key) => self.fail(key, StreamPhase::Connect, reason.errno, turn),
            None => self.stats.strangers += 1,
        }
    }
}

impl Socket {
    fn get(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }

    fn has_sent(&mut self, last: Option<Numbers>) {
        if let Some(acknowledged) = last.and_then(|last| last.acknowledgement) {
            self.acknowledged = acknowledged;
        }
    }

    fn is_near(&self, sequence: u32) -> bool {
        (sequence.wrapping_sub(self.acknowledged) as i32).unsigned_abs() <= SEQUENCE_NEAR
    }

    /// Everything it had to send has left and was acknowledged, or it was cut
    /// off and the RST has left too. `quiet` if no acknowledgement is due.
    fn has_ended(&mut self, quiet: bool) -> bool {
        let tcp = self.get();
        match tcp.state() {
            tcp::State::TimeWait => quiet,
            tcp::State::Closed => tcp.remote_endpoint().is_none(),
            _ => false,
        }
    }
}
