//! Datagrams: our ports, who may answer to them, and what waits for the
//! hardware address of the next hop.
//!
//! Leaves out what the bytes mean.
//!
//! - Invariant: a port belongs to one socket, and only its peer's datagrams
//!   reach it.
//! - Invariant: no more than the send slots of the settings wait.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetAddress, IpProtocol, UdpPacket, UdpRepr};

use super::clock::Micros;
use super::config::is_host;
use super::frames::Checksum;
use super::hops::Known;
use super::output::{Envelope, HOP_LIMIT, Outbox, Wire};
use super::stack::{Packet, Stack, Turn};
use super::unreachable::{Quoted, Reason};
use crate::Event;
use crate::datagram::{DatagramId, SEND_BYTES_MAX, SendError};
use crate::slots::{Key, Slots};

const HEADER: usize = 8;
/// Draws of a port before the ports count as used up.
const PORT_DRAWS_MAX: usize = 64;
/// Ports below are other people's.
pub(super) const LOWEST_PORT: u16 = 1024;

struct Datagram {
    local: SocketAddr,
    peer: SocketAddr,
    hop: IpAddr,
}

struct Waiting {
    key: Key,
    bytes: Vec<u8>,
}

pub(super) struct Datagrams {
    slots: Slots<Datagram>,
    /// The socket of each of our ports.
    ports: HashMap<u16, Key>,
    waiting: HashMap<IpAddr, Vec<Waiting>>,
    waiting_count: usize,
    send_slots: usize,
    receive_bytes: usize,
    /// Delivered so far.
    pub(super) received: u64,
}

impl Datagrams {
    pub(super) fn new(send_slots: u32, receive_bytes: u32) -> Datagrams {
        Datagrams {
            slots: Slots::new(),
            ports: HashMap::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            send_slots: send_slots as usize,
            receive_bytes: receive_bytes as usize,
            received: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn local(&self, id: DatagramId) -> Option<SocketAddr> {
        Some(self.slots.get_ref(id.0)?.local)
    }

    /// Our port and the peer.
    pub(super) fn ends(&self, id: DatagramId) -> Option<(u16, SocketAddr)> {
        self.slots.get_ref(id.0).map(|datagram| (datagram.local.port(), datagram.peer))
    }

    pub(super) fn receive_bytes(&self) -> usize {
        self.receive_bytes
    }

    pub(super) fn slots_free(&self) -> usize {
        self.send_slots.saturating_sub(self.waiting_count)
    }

    pub(super) fn close(&mut self, id: DatagramId) {
        let Some(datagram) = self.slots.get(id.0) else { return };
        self.ports.remove(&datagram.local.port());
        self.slots.remove(id.0.index);
    }

    /// A port nobody here uses, out of all with equal chance.
    fn draw_port(&self, draw: &mut dyn FnMut() -> u64) -> Option<u16> {
        (0..PORT_DRAWS_MAX).map(|_| draw() as u16).find(|port| *port >= LOWEST_PORT && !self.ports.contains_key(port))
    }
}

impl Stack {
    pub(super) fn open_datagram(
        &mut self,
        local: SocketAddr,
        peer: SocketAddr,
        draw: &mut dyn FnMut() -> u64,
    ) -> io::Result<DatagramId> {
        let (address, hop) = self.way(Some(local.ip()), peer)?;
        let port = match local.port() {
            0 => self.datagrams.draw_port(draw).ok_or(Errno::ADDRINUSE)?,
            port if self.datagrams.ports.contains_key(&port) => return Err(Errno::ADDRINUSE.into()),
            port => port,
        };
        let peer = plain(peer);
        let key = self.datagrams.slots.insert(Datagram { local: SocketAddr::new(address, port), peer, hop });
        self.datagrams.ports.insert(port, key);
        Ok(DatagramId(key))
    }

    /// Our address towards a peer and the hop after us.
    pub(super) fn way(&self, local: Option<IpAddr>, peer: SocketAddr) -> io::Result<(IpAddr, IpAddr)> {
        if !is_host(peer.ip()) || peer.port() == 0 {
            return Err(Errno::INVAL.into());
        }
        let address = self.config.address_for(peer.ip()).ok_or(Errno::NETUNREACH)?;
        if local.is_some_and(|local| !local.is_unspecified() && local != address) {
            return Err(Errno::ADDRNOTAVAIL.into());
        }
        let hop = self.config.next_hop(peer.ip()).ok_or(Errno::NETUNREACH)?;
        Ok((address, hop))
    }

    pub(super) fn send_datagram(
        &mut self,
        id: DatagramId,
        bytes: &[u8],
        now: Micros,
        out: &mut Outbox,
    ) -> Result<(), SendError> {
        if bytes.len() > SEND_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        let hop = self.datagrams.slots.get_ref(id.0).ok_or(SendError::Closed)?.hop;
        match self.find_hop(hop, now, out) {
            Known::Yes(hardware, _) => {
                let sent = self.emit_datagram(id.0, hardware, bytes, out);
                if sent { Ok(()) } else { Err(SendError::NoSlot) }
            }
            // Lost, as on any wire: nobody asks for that hop, so nothing may wait for it.
            Known::Never => {
                self.stats.no_room += 1;
                Ok(())
            }
            Known::NotYet(_) if self.datagrams.slots_free() == 0 => Err(SendError::NoSlot),
            Known::NotYet(_) => {
                self.datagrams.waiting_count += 1;
                let waiting = Waiting { key: id.0, bytes: bytes.to_vec() };
                self.datagrams.waiting.entry(hop).or_default().push(waiting);
                Ok(())
            }
        }
    }

    fn emit_datagram(&mut self, key: Key, to: EthernetAddress, bytes: &[u8], out: &mut Outbox) -> bool {
        // Closed meanwhile: nothing to be sent any more.
        let Some(datagram) = self.datagrams.slots.get_ref(key) else { return true };
        let (local, peer) = (datagram.local, datagram.peer);
        let envelope = Envelope {
            wire: Wire { from: self.hardware, to },
            from: local.ip(),
            to: peer.ip(),
            protocol: IpProtocol::Udp,
            hop_limit: HOP_LIMIT,
        };
        let header = UdpRepr { src_port: local.port(), dst_port: peer.port() };
        envelope.send(HEADER + bytes.len(), out, |payload| {
            header.emit(
                &mut UdpPacket::new_unchecked(payload),
                &local.ip().into(),
                &peer.ip().into(),
                bytes.len(),
                |room| room.copy_from_slice(bytes),
                &ChecksumCapabilities::default(),
            );
        })
    }

    fn take_waiting(&mut self, hop: IpAddr) -> Vec<Waiting> {
        let waiting = self.datagrams.waiting.remove(&hop).unwrap_or_default();
        self.datagrams.waiting_count -= waiting.len();
        waiting
    }

    /// Sends what waited for a hop. What finds no room is lost, as on any wire.
    pub(super) fn datagrams_ready(&mut self, hop: IpAddr, hardware: EthernetAddress, turn: &mut Turn<'_>) {
        for waiting in self.take_waiting(hop) {
            let sent = self.emit_datagram(waiting.key, hardware, &waiting.bytes, turn.out);
            self.stats.no_room += u64::from(!sent);
        }
    }

    /// Nobody answers where the hop should be.
    pub(super) fn datagrams_lost(&mut self, hop: IpAddr, turn: &mut Turn<'_>) {
        for waiting in self.take_waiting(hop) {
            if self.datagrams.slots.get_ref(waiting.key).is_some() {
                let id = DatagramId(waiting.key);
                turn.tell(Event::DatagramFailed { id, error: Errno::HOSTUNREACH.into() });
            }
        }
    }

    pub(super) fn input_datagram(&mut self, packet: &Packet<'_>, turn: &mut Turn<'_>) {
        let Ok(udp) = UdpPacket::new_checked(packet.payload) else {
            self.stats.malformed += 1;
            return;
        };
        let found = self.datagrams.ports.get(&udp.dst_port()).copied();
        let Some((key, datagram)) = found.and_then(|key| Some((key, self.datagrams.slots.get_ref(key)?))) else {
            self.stats.strangers += 1;
            return;
        };
        if datagram.peer != SocketAddr::new(packet.from, udp.src_port()) || datagram.local.ip() != packet.to {
            self.stats.strangers += 1;
            return;
        }
        // No checksum at all is allowed over IPv4 only (RFC 768, RFC 8200 §8.1).
        let absent = udp.checksum() == 0;
        let good = match packet.checksum {
            Checksum::Vouched => true,
            Checksum::Unknown if absent => packet.from.is_ipv4(),
            Checksum::Unknown => udp.verify_checksum(&packet.from.into(), &packet.to.into()),
        };
        if !good {
            self.stats.checksums += 1;
            return;
        }
        let bytes = udp.payload();
        let bytes = bytes.get(..self.datagrams.receive_bytes).unwrap_or(bytes);
        self.datagrams.received += 1;
        turn.tell(Event::Datagram { id: DatagramId(key), bytes });
    }

    pub(super) fn datagram_unreachable(&mut self, quoted: &Quoted, reason: Reason, turn: &mut Turn<'_>) {
        let found = self.datagrams.ports.get(&quoted.from.port()).copied();
        let meant = found.filter(|key| {
            let datagram = self.datagrams.slots.get_ref(*key);
            datagram.is_some_and(|d| d.local == quoted.from && d.peer == quoted.to)
        });
        match meant {
            // What is not hard may pass; the kernel keeps it from connected sockets too.
            Some(key) if reason.hard => {
                turn.tell(Event::DatagramFailed { id: DatagramId(key), error: reason.errno.into() });
            }
            Some(_) => {}
            None => self.stats.strangers += 1,
        }
    }
}

/// A peer as packets name it: a scope and a flow label are the caller's, and no
/// answer would be from the same address.
pub(super) fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip(), peer.port())
}
