//! Two network namespaces joined by a wire, so that a client can have an address past the kernel's sockets.
//!
//! ```text
//!   127.2.0.0/16    world: the responders
//!        │wire      a veth pair
//!   127.9.0.1       client: on the interface for clients of the kernel, on none for a node with frames of its own
//! ```
//!
//! The addresses are loopback addresses, as everywhere in the laboratory, and nothing leads out. `route_localnet` lets
//! them go over a wire, once the route that keeps all of 127.0.0.0/8 within a namespace has been taken out of it.
//!
//! Left out: who runs in them. Invariant: both namespaces go with their owner. What a killed run left over goes at the
//! next start.

use std::net::Ipv4Addr;

use super::PeerError;
use crate::netns::{Namespace, clear_left_over};

/// Where the responders are.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);
/// Where the clients are.
pub(super) const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Both ends of the wire.
pub(super) const INTERFACE: &str = "wire";

/// Of the names of namespaces; the process that made them follows.
const PREFIX: &str = "pxf";
/// What the world keeps of 127.0.0.0/8.
const WORLD: &str = "127.2.0.0/16";
/// Whose the client's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The kernel's: it is on the interface.
    Kernel,
    /// The client's own: it is on no interface, or the kernel would answer too.
    Client,
}

/// The namespaces and the wire between them.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) world: Namespace,
    pub(super) client: Namespace,
}

impl Wire {
    pub(super) fn make() -> Result<Self, PeerError> {
        if !rustix::process::geteuid().is_root() {
            return Err(PeerError::NotRoot);
        }
        clear_left_over(PREFIX);
        let namespace = |role: &str| Namespace::make(format!("{PREFIX}-{}-{role}", std::process::id()));
        let wire = Self { world: namespace("world")?, client: namespace("client")? };
        let Self { world, client } = &wire;
        world.ip(&format!("link add {INTERFACE} type veth peer name {INTERFACE} netns {}", client.name()))?;
        world.keep_loopback(&[WORLD])?;
        client.keep_loopback(&[])?;
        world.ip(&format!("link set {INTERFACE} up"))?;
        client.ip(&format!("link set {INTERFACE} up"))?;
        world.ip(&format!("route add {SOURCE}/32 dev {INTERFACE}"))?;
        // A kernel leaves checksums to the device, and this one computes none: a client that reads frames needs them.
        world.run("ethtool", &format!("-K {INTERFACE} tx off"))?;
        Ok(wire)
    }

    /// Puts the client's address on its interface, or takes it off.
    pub(super) fn give_address(&self, holder: Holder) -> Result<(), PeerError> {
        // Its routes go with it.
        self.client.ip(&format!("address flush dev {INTERFACE}"))?;
        if holder == Holder::Kernel {
            self.client.ip(&format!("address add {SOURCE}/32 dev {INTERFACE}"))?;
            self.client.ip(&format!("route add {WORLD} dev {INTERFACE} src {SOURCE}"))?;
        }
        Ok(())
    }
}
