//! The ports a worker asks from: connected sockets, chosen unpredictably, each with its own table of ids.
//!
//! A connected socket takes packets from its peer's address and port only; the kernel checks that. Ports to the
//! resolver are shared by many queries and exchanged for fresh ones as they are used up, so that no port is in
//! use for long. A query to any other peer has a socket of its own, which is closed with it.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use parallax_ring::{DatagramId, Ring};
use parallax_validation::base::Entropy;
use rustc_hash::FxBuildHasher;

use crate::{config::NodeConfig, tasks::TaskKey};

/// Queries after which an idle port is exchanged.
const PORT_USES_MAX: u32 = 20_000;
/// Draws of an id before the port counts as full.
const ID_DRAWS_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
enum Place {
    /// One of the ports to the resolver.
    Shared(u16),
    /// A socket of the query's own.
    Own(DatagramId),
}

/// Where a query was sent from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    place: Place,
    pub(crate) id: u16,
}

/// What waits at a port, by id. Ids are drawn here, so nobody else can make them collide.
type Queries = HashMap<u16, (TaskKey, u16), FxBuildHasher>;

struct Port {
    socket: DatagramId,
    queries: Queries,
    uses: u32,
}

/// What a socket is for.
#[derive(Clone, Copy)]
enum Use {
    /// One of the ports to the resolver.
    Shared(usize),
    /// One query, with this id.
    Own(u16, (TaskKey, u16)),
}

pub(crate) struct PortPool {
    ports: Vec<Port>,
    /// By the socket's index in the ring.
    sockets: Vec<Option<(DatagramId, Use)>>,
    local: SocketAddr,
    resolver: SocketAddr,
}

impl PortPool {
    pub(crate) fn open(config: &NodeConfig, ring: &mut Ring) -> io::Result<Self> {
        let resolver = config.resolver;
        let local = SocketAddr::new(config.source_for(resolver.ip()).unwrap_or_else(|| any(resolver)), 0);
        let mut pool = Self { ports: Vec::new(), sockets: Vec::new(), local, resolver };
        for index in 0..usize::from(config.source_ports) {
            let socket = ring.open_datagram(local, resolver)?;
            pool.note(socket, Some(Use::Shared(index)));
            pool.ports.push(Port { socket, queries: Queries::default(), uses: 0 });
        }
        Ok(pool)
    }

    fn note(&mut self, socket: DatagramId, used_for: Option<Use>) {
        if self.sockets.len() <= socket.index() {
            self.sockets.resize(socket.index() + 1, None);
        }
        self.sockets[socket.index()] = used_for.map(|used_for| (socket, used_for));
    }

    fn used_for(&self, socket: DatagramId) -> Option<Use> {
        self.sockets.get(socket.index())?.filter(|(own, _)| *own == socket).map(|(_, used_for)| used_for)
    }

    /// Draws a port and an id that no other query there has. None if every draw was taken.
    pub(crate) fn take(&mut self, key: TaskKey, slot: u16, entropy: &mut dyn Entropy) -> Option<Origin> {
        for _ in 0..ID_DRAWS_MAX {
            let bits = entropy.next_u64();
            let port = (bits >> 16) as usize % self.ports.len();
            let id = bits as u16;
            let entry = &mut self.ports[port];
            if let std::collections::hash_map::Entry::Vacant(free) = entry.queries.entry(id) {
                free.insert((key, slot));
                entry.uses += 1;
                return Some(Origin { place: Place::Shared(port as u16), id });
            }
        }
        None
    }

    /// Opens a socket from `source` to `peer` for one query. None if the kernel gives none. How many there are at a time
    /// is bounded by [`crate::pacing`].
    pub(crate) fn take_own(
        &mut self,
        (key, slot): (TaskKey, u16),
        (source, peer): (Option<IpAddr>, SocketAddr),
        ring: &mut Ring,
        entropy: &mut dyn Entropy,
    ) -> Option<Origin> {
        let local = SocketAddr::new(source.unwrap_or_else(|| any(peer)), 0);
        let socket = ring.open_datagram(local, peer).ok()?;
        let id = entropy.next_u64() as u16;
        self.note(socket, Some(Use::Own(id, (key, slot))));
        Some(Origin { place: Place::Own(socket), id })
    }

    /// Gives port and id back.
    pub(crate) fn release(&mut self, origin: Origin, ring: &mut Ring) {
        let index = match origin.place {
            Place::Shared(port) => usize::from(port),
            Place::Own(socket) => {
                self.note(socket, None);
                return ring.close_datagram(socket);
            }
        };
        let port = &mut self.ports[index];
        port.queries.remove(&origin.id);
        if port.uses >= PORT_USES_MAX && port.queries.is_empty() {
            // Without a fresh one the old one serves on.
            if let Ok(fresh) = ring.open_datagram(self.local, self.resolver) {
                let old = std::mem::replace(&mut port.socket, fresh);
                port.uses = 0;
                self.note(old, None);
                self.note(fresh, Some(Use::Shared(index)));
                ring.close_datagram(old);
            }
        }
    }

    pub(crate) fn socket(&self, origin: Origin) -> DatagramId {
        match origin.place {
            Place::Shared(port) => self.ports[usize::from(port)].socket,
            Place::Own(socket) => socket,
        }
    }

    /// The query a packet with this id on this socket may belong to.
    pub(crate) fn find(&self, socket: DatagramId, id: u16) -> Option<(TaskKey, u16)> {
        match self.used_for(socket)? {
            Use::Shared(index) => self.ports[index].queries.get(&id).copied(),
            Use::Own(own, query) => (own == id).then_some(query),
        }
    }

    /// All queries waiting on a socket.
    pub(crate) fn waiting(&self, socket: DatagramId) -> Vec<(TaskKey, u16)> {
        match self.used_for(socket) {
            Some(Use::Shared(index)) => self.ports[index].queries.values().copied().collect(),
            Some(Use::Own(_, query)) => vec![query],
            None => Vec::new(),
        }
    }
}

/// Whatever address the kernel chooses for this peer.
fn any(peer: SocketAddr) -> IpAddr {
    if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
