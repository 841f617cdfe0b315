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

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    process::Command,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::PeerError;

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
/// In force for devices that are made afterwards, so they come before the wire.
const SETTINGS: [(&str, &str); 4] = [
    ("ip_forward", "0"),
    ("conf/all/rp_filter", "0"),
    ("conf/default/rp_filter", "0"),
    ("conf/all/route_localnet", "1"),
];

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
        clear_left_over();
        let namespace = |role: &str| Namespace::make(format!("{PREFIX}-{}-{role}", std::process::id()));
        let wire = Self { world: namespace("world")?, client: namespace("client")? };
        let Self { world, client } = &wire;
        world.ip(&format!("link add {INTERFACE} type veth peer name {INTERFACE} netns {}", client.name))?;
        world.ip(&format!("route add local {WORLD} dev lo table local"))?;
        world.ip(&format!("link set {INTERFACE} up"))?;
        client.ip(&format!("link set {INTERFACE} up"))?;
        world.ip(&format!("route add {SOURCE}/32 dev {INTERFACE}"))?;
        // A kernel leaves checksums to the device, and this one computes none: a client that reads frames needs them.
        world.inside(|| run("ethtool", &format!("-K {INTERFACE} tx off")))?;
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

/// One network namespace; its name goes when dropped, and it with the last process in it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    fn make(name: String) -> Result<Self, PeerError> {
        run("ip", &format!("netns add {name}"))?;
        let file = File::open(Path::new("/run/netns").join(&name)).map_err(|error| {
            let _ = run("ip", &format!("netns del {name}"));
            PeerError::Wire(format!("{name}: {error}"))
        })?;
        let namespace = Self { name, file };
        namespace.inside(|| {
            SETTINGS.iter().try_for_each(|(key, value)| {
                let path = Path::new("/proc/sys/net/ipv4").join(key);
                fs::write(&path, value).map_err(|error| PeerError::File { path, error })
            })
        })?;
        namespace.ip("link set lo up")?;
        namespace.ip("route del local 127.0.0.0/8 dev lo table local")?;
        Ok(namespace)
    }

    /// What a thread enters it by.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn ip(&self, arguments: &str) -> Result<(), PeerError> {
        run("ip", &format!("-n {} {arguments}", self.name))
    }

    /// Does something on a thread in it.
    fn inside(&self, act: impl FnOnce() -> Result<(), PeerError> + Send) -> Result<(), PeerError> {
        let moved = || {
            enter(self.handle()).map_err(PeerError::Wire)?;
            act()
        };
        let ended = std::thread::scope(|scope| scope.spawn(moved).join());
        ended.unwrap_or_else(|_| Err(PeerError::Wire(format!("a thread in {} panicked", self.name))))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run("ip", &format!("netns del {}", self.name)) {
            eprintln!("{error}");
        }
    }
}

/// Moves this thread into a namespace, and with it whatever it starts.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> Result<(), String> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        .map_err(|error| format!("the network namespace cannot be entered: {error}"))
}

fn run(program: &str, arguments: &str) -> Result<(), PeerError> {
    let failed = |why: &str| PeerError::Wire(format!("{program} {arguments}: {}", why.trim()));
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.map_err(|error| failed(&error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
}

/// Namespaces of processes that are no more. The responders in them have ended with their input.
fn clear_left_over() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        let Some(maker) = maker.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(maker.to_string()).exists() {
            // Another run may clear up at the same time.
            let _ = run("ip", &format!("netns del {name}"));
        }
    }
}
