//! Hosts made of smoltcp, and the wire between them and the stack.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::super::clock::Micros;
use super::world::{Frame, MTU, PEER_HARDWARE, Told, World, near, pattern};
use crate::StreamId;

#[derive(Default)]
struct Port {
    arrived: VecDeque<Frame>,
    left: Vec<Frame>,
}

struct Arrived(Frame);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Leaves<'p>(&'p mut Vec<Frame>);

impl TxToken for Leaves<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

impl Device for Port {
    type RxToken<'t> = Arrived;
    type TxToken<'t> = Leaves<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaves<'_>)> {
        Some((Arrived(self.arrived.pop_front()?), Leaves(&mut self.left)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaves<'_>> {
        Some(Leaves(&mut self.left))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MTU + 14;
        capabilities
    }
}

/// What a peer says to one stream, and what it has heard.
pub(super) struct Talk {
    handle: SocketHandle,
    says: Vec<u8>,
    said: usize,
    pub(super) heard: Vec<u8>,
    /// Closes its side after everything is said.
    polite: bool,
}

/// A host at the addresses of [`near`], with sockets that listen at port 80.
pub(super) struct Peer {
    interface: Interface,
    sockets: SocketSet<'static>,
    port: Port,
    pub(super) talks: Vec<Talk>,
}

impl Peer {
    pub(super) fn new(now: Micros, talks: usize, says: &[u8]) -> Peer {
        let mut port = Port::default();
        let mut config = Config::new(HardwareAddress::Ethernet(PEER_HARDWARE));
        config.random_seed = 99;
        let mut interface = Interface::new(config, &mut port, now.into());
        interface.update_ip_addrs(|list| {
            for peer in near() {
                list.push(IpCidr::new(peer.ip().into(), if peer.is_ipv4() { 24 } else { 64 })).unwrap();
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let talks = (0..talks)
            .map(|_| {
                let buffer = || tcp::SocketBuffer::new(vec![0; 16_384]);
                let mut socket = tcp::Socket::new(buffer(), buffer());
                socket.listen(80).unwrap();
                let handle = sockets.add(socket);
                Talk { handle, says: says.to_vec(), said: 0, heard: Vec::new(), polite: true }
            })
            .collect();
        Peer { interface, sockets, port, talks }
    }

    fn turn(&mut self, now: Micros, frames: Vec<Frame>) -> Vec<Frame> {
        self.port.arrived.extend(frames);
        for _ in 0..2 {
            self.interface.poll(now.into(), &mut self.port, &mut self.sockets);
            for talk in &mut self.talks {
                talk.go_on(self.sockets.get_mut(talk.handle));
            }
        }
        self.interface.poll(now.into(), &mut self.port, &mut self.sockets);
        std::mem::take(&mut self.port.left)
    }

    fn next_due(&mut self, now: Micros) -> Option<Micros> {
        let at = self.interface.poll_at(now.into(), &self.sockets)?;
        Some(Micros(at.total_micros() as u64))
    }
}

impl Talk {
    fn go_on(&mut self, socket: &mut tcp::Socket<'_>) {
        if socket.can_recv() {
            let _ = socket.recv(|bytes| {
                self.heard.extend_from_slice(bytes);
                (bytes.len(), ())
            });
        }
        if socket.can_send() {
            self.said += socket.send_slice(&self.says[self.said..]).unwrap();
        }
        if self.polite && self.said == self.says.len() && socket.may_send() {
            socket.close();
        }
    }
}

/// What a wire does to a frame, each in so many of a hundred cases.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) lost: u8,
    pub(super) doubled: u8,
    pub(super) late: u8,
    pub(super) altered: u8,
    pub(super) cut: u8,
    /// Turns in which our frame layer takes nothing, once hop and peer are known.
    pub(super) full: u8,
}

/// A millisecond of wire in each direction. It is good to neighbour discovery:
/// three lost questions in a row end a stream, and that is not what is tried.
struct Wire {
    faults: Faults,
    random: StdRng,
    /// By time and order: whether it is for us, and the frame.
    under_way: BTreeMap<(Micros, u64), (bool, Frame)>,
    count: u64,
}

impl Wire {
    fn chance(&mut self, percent: u8) -> bool {
        self.random.random_range(0..100u8) < percent
    }

    fn carry(&mut self, now: Micros, to_us: bool, frame: Frame) {
        let question = frame[12..14] == [8, 6] || (frame[12..14] == [0x86, 0xdd] && frame[20] == 58);
        if question {
            self.count += 1;
            self.under_way.insert((now.plus(Micros(1000)), self.count), (to_us, frame));
            return;
        }
        if self.chance(self.faults.lost) {
            return;
        }
        for _ in 0..1 + u8::from(self.chance(self.faults.doubled)) {
            let mut frame = frame.clone();
            if self.chance(self.faults.altered) {
                let at = self.random.random_range(0..frame.len());
                frame[at] ^= 1 << self.random.random_range(0..8u8);
            }
            if self.chance(self.faults.cut) {
                frame.truncate(self.random.random_range(0..frame.len()));
            }
            let late = if self.chance(self.faults.late) { self.random.random_range(0..20_000) } else { 0 };
            self.count += 1;
            self.under_way.insert((now.plus(Micros(1000 + late)), self.count), (to_us, frame));
        }
    }
}

pub(super) struct Net {
    pub(super) world: World,
    pub(super) peer: Peer,
    wire: Wire,
}

impl Net {
    pub(super) fn new(seed: u64, faults: Faults, talks: usize, says: &[u8]) -> Net {
        let mut world = World::seeded(seed);
        world.answering = false;
        let peer = Peer::new(world.now, talks, says);
        let random = StdRng::seed_from_u64(seed ^ 0x5eed);
        Net { world, peer, wire: Wire { faults, random, under_way: BTreeMap::new(), count: 0 } }
    }

    /// Runs until `done` says so; false if `limit` comes first.
    pub(super) fn run(&mut self, limit: Micros, mut done: impl FnMut(&mut World, &mut Peer) -> bool) -> bool {
        let end = self.world.now.plus(limit);
        loop {
            let now = self.world.now;
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            while let Some(entry) = self.wire.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
                let (to_us, frame) = entry.remove();
                if to_us { ours.push(frame) } else { theirs.push(frame) }
            }
            if self.wire.count > 4 && self.wire.chance(self.wire.faults.full) {
                self.world.fill();
            } else {
                self.world.stuck = false;
            }
            for frame in self.world.turn(&ours) {
                self.wire.carry(now, false, frame);
            }
            for frame in self.peer.turn(now, theirs) {
                self.wire.carry(now, true, frame);
            }
            if done(&mut self.world, &mut self.peer) {
                return true;
            }
            if self.world.stack.streams.has_ready() {
                continue;
            }
            let wire = self.wire.under_way.keys().next().map(|(at, _)| *at);
            // As the loop does it: what is full is looked at again soon.
            let full = self.world.stuck.then(|| now.plus(Micros(200)));
            let due = [self.world.stack.next_due(), self.peer.next_due(now), wire, full];
            let next = due.into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.world.now = end;
                return false;
            };
            self.world.now = next.max(now.plus(Micros(1)));
        }
    }
}

/// The owner of a stream that sends `says` and takes everything.
pub(super) struct Owner {
    pub(super) id: StreamId,
    says: Vec<u8>,
    pub(super) heard: Vec<u8>,
    pub(super) sent: usize,
    pub(super) ended: bool,
    pub(super) failed: Option<Told>,
}

impl Owner {
    pub(super) fn new(world: &mut World, peer: SocketAddr, says: Vec<u8>) -> Owner {
        Owner { id: world.connect(peer), says, heard: Vec::new(), sent: 0, ended: false, failed: None }
    }

    /// Reacts to what was told of its stream.
    pub(super) fn react(&mut self, world: &mut World, told: &Told) {
        match told {
            Told::Connected(id) if *id == self.id => {
                for part in self.says.chunks(7000) {
                    world.stack.send(self.id, part.to_vec());
                }
                world.stack.receive(self.id);
            }
            Told::Sent(id) if *id == self.id => self.sent += 1,
            Told::Received(id, bytes) if *id == self.id => {
                assert!(!self.ended);
                self.ended = bytes.is_empty();
                self.heard.extend_from_slice(bytes);
                if !self.ended {
                    world.stack.receive(self.id);
                }
            }
            Told::Failed(id, ..) if *id == self.id => self.failed = Some(told.clone()),
            _ => {}
        }
    }

    pub(super) fn has_all(&self, len: usize) -> bool {
        self.heard.len() >= len && self.sent == self.says.chunks(7000).count()
    }
}

/// Two hosts that say `len` bytes to each other over `streams` streams of one
/// family, and whether they heard them, all and in order.
pub(super) fn converse(seed: u64, faults: Faults, peer: SocketAddr, len: usize, streams: usize) {
    let (theirs, ours) = (pattern(len, 0x11), pattern(len, 0x77));
    let mut net = Net::new(seed, faults, streams, &theirs);
    // smoltcp 0.14 sends a FIN only once if three duplicate acknowledgements follow it; a wire this bad makes them.
    let polite = faults.lost < 10;
    net.peer.talks.iter_mut().for_each(|talk| talk.polite = polite);
    let mut owners: Vec<Owner> = (0..streams).map(|_| Owner::new(&mut net.world, peer, ours.clone())).collect();
    let done = net.run(Micros::from_secs(7200), |world, host| {
        for told in world.told() {
            owners.iter_mut().for_each(|owner| owner.react(world, &told));
        }
        assert!(owners.iter().all(|owner| theirs.starts_with(&owner.heard)), "in order, seed {seed}");
        assert!(host.talks.iter().all(|talk| ours.starts_with(&talk.heard)), "in order, seed {seed}");
        let failed = owners.iter().any(|owner| owner.failed.is_some());
        let complete = owners.iter().all(|owner| owner.has_all(len) && owner.ended == polite);
        failed || (complete && host.talks.iter().all(|talk| talk.heard.len() == len))
    });
    let failed: Vec<&Told> = owners.iter().filter_map(|owner| owner.failed.as_ref()).collect();
    assert!(failed.is_empty(), "{failed:?}, seed {seed}");
    let heard: Vec<(usize, usize)> = owners.iter().map(|owner| (owner.heard.len(), owner.sent)).collect();
    assert!(done, "seed {seed}: {heard:?}");
    for owner in &owners {
        assert_eq!(owner.heard, theirs);
        net.world.close(owner.id, crate::Close::Graceful);
    }
    assert!(net.run(Micros::from_secs(11), |world, _| world.stack.streams.len() == 0), "seed {seed}");
    assert_eq!(net.world.told(), []);
}
