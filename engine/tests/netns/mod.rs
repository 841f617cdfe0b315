//! An engine and its nodes as on hosts of their own: each program in a network namespace, and nothing that leads out.
//!
//! ```text
//!   127.2.0.0/16  127.3.0.0/16  fd00:3::1      world: the laboratory's resolvers and web servers
//!       │n1          │n2    …       │n6        a wire to each node
//!   127.1.0.1    127.1.0.2      127.1.0.6
//!   fd00:1::1    fd00:1::2      fd00:1::6      nodes
//!   10.77.0.11   10.77.0.12     10.77.0.16
//!       │m1          │m2    …       │m6        ports of a bridge, which do not reach each other
//!                10.77.0.1                     the engine, and who calls it
//! ```
//!
//! The laboratory's addresses are loopback addresses. `route_localnet` lets them go over a wire, once the route that
//! keeps all of 127.0.0.0/8 within a namespace has been taken out of it. A node has no way to the world but its own wire,
//! and none to the engine but the bridge; no namespace has a default route or a wire to the host's.
//!
//! The wires to the world may lead through one more namespace, where somebody has to forward ([`Net::put_between`]).
//!
//! What a killed run left over goes at the next start.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use parallax_perf::{
    lab::world::{Perspective, World},
    netns::{Namespace, NetnsError, clear_left_over, run},
};
use toml::{Table, Value};

use crate::{
    fleet::{Fleet, Program, get, node_program},
    support::Bench,
};

/// Set where these tests must run: then it is an error if they cannot.
const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";

/// Whether these tests must run.
pub(crate) fn required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty())
}

const PREFIX: &str = "parallax";
const POLL: Duration = Duration::from_millis(10);
/// The good web server over IPv6: ::1 would be each namespace's own.
const SITE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, 1);
const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Where everything listens: every namespace has all ports to itself.
const PORT: u16 = 24_000;

/// Waits until something holds, for no longer than `limit`.
#[track_caller]
pub(crate) fn wait(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// The namespaces of one deployment, with the wires between them.
pub(crate) struct Net {
    pub(crate) world: Namespace,
    pub(crate) engine: Namespace,
    /// The primary's first.
    pub(crate) nodes: Vec<Namespace>,
}

impl Net {
    /// Around a world that has nothing yet.
    fn make(stem: &str, world: Namespace) -> Result<Self, NetnsError> {
        let namespace = |role: &str| Namespace::make(format!("{stem}-{role}"));
        let engine = namespace("engine")?;
        world.keep_loopback(&["127.2.0.0/16", "127.3.0.0/16"])?;
        world.ip(&format!("addr add {SITE_IPV6}/128 dev lo nodad"))?;
        engine.ip("link add bridge type bridge")?;
        engine.ip(&format!("addr add {ENGINE}/24 dev bridge"))?;
        engine.ip("link set bridge up")?;
        let mut nodes = Vec::new();
        for perspective in Perspective::ALL {
            let number = perspective.index() + 1;
            let node = namespace(&format!("node{number}"))?;
            world.ip(&format!("link add n{number} type veth peer name world netns {}", node.name()))?;
            engine.ip(&format!("link add m{number} type veth peer name engine netns {}", node.name()))?;
            node.keep_loopback(&[])?;
            node.ip(&format!("addr add {}/24 dev engine", node_address(perspective.index())))?;
            node.ip("link set engine up")?;
            engine.ip(&format!("link set m{number} master bridge"))?;
            engine.ip(&format!("link set m{number} type bridge_slave isolated on"))?;
            engine.ip(&format!("link set m{number} up"))?;
            address_wire(&world, &node, perspective)?;
            nodes.push(node);
        }
        Ok(Self { world, engine, nodes })
    }

    /// Has the wires to the world lead through another namespace: the names of both ends there, by node, the node's
    /// first. Nothing passes until somebody forwards frames between them.
    pub(crate) fn put_between(&self, middle: &Namespace) -> Result<Vec<[String; 2]>, NetnsError> {
        // Or its kernel would answer for the world's loopback addresses.
        middle.keep_loopback(&[])?;
        let mut ends = Vec::new();
        for perspective in Perspective::ALL {
            let (number, node) = (perspective.index() + 1, &self.nodes[perspective.index()]);
            self.world.ip(&format!("link del n{number}"))?;
            let both = [format!("node{number}"), format!("world{number}")];
            middle.ip(&format!("link add {} type veth peer name world netns {}", both[0], node.name()))?;
            middle.ip(&format!("link add {} type veth peer name n{number} netns {}", both[1], self.world.name()))?;
            for end in &both {
                // The kernel there has no addresses, not even link-local ones.
                middle.ip(&format!("link set {end} addrgenmode none"))?;
                middle.ip(&format!("link set {end} up"))?;
            }
            // Who forwards must see frames as they are on a wire: with checksums, and no longer than the MTU.
            node.run("ethtool", "-K world tx off gro off")?;
            self.world.run("ethtool", &format!("-K n{number} tx off gro off"))?;
            address_wire(&self.world, node, perspective)?;
            ends.push(both);
        }
        Ok(ends)
    }

    /// Takes the plug out of a node's wire to the engine, or puts it in: both ends see that.
    pub(crate) fn plug(&self, index: usize, is_in: bool) {
        self.nodes[index].ip(&format!("link set engine {}", if is_in { "up" } else { "down" })).unwrap();
    }

    /// Drops whatever goes between a node and the engine, or stops to: neither end sees anything of it.
    pub(crate) fn drop_silently(&self, index: usize, drops: bool) {
        // States of a bridge's port: disabled, forwarding. This needs no packet filter.
        let state = if drops { 0 } else { 3 };
        run("bridge", &format!("-n {} link set dev m{} state {state}", self.engine.name(), index + 1)).unwrap();
    }

    /// Frames that came from a node into the world.
    pub(crate) fn received(&self, index: usize) -> u64 {
        let text = self.world.ip(&format!("-j -s link show dev n{}", index + 1)).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        read[0]["stats64"]["rx"]["packets"].as_u64().unwrap_or_else(|| panic!("{text}"))
    }

    /// Takes away a node's wire to the world.
    pub(crate) fn cut_off_from_world(&self, index: usize) {
        self.world.ip(&format!("link set n{} down", index + 1)).unwrap();
    }
}

/// Addresses and routes of a wire between the world, where it is called after the node, and a node, where it is `world`.
fn address_wire(world: &Namespace, node: &Namespace, perspective: Perspective) -> Result<(), NetnsError> {
    let number = perspective.index() + 1;
    let (source, source_ipv6) = (perspective.source(), source_ipv6(perspective));
    node.ip(&format!("addr add {source}/32 dev world"))?;
    node.ip(&format!("addr add {source_ipv6}/128 dev world nodad"))?;
    node.ip("link set world up")?;
    world.ip(&format!("addr add fe80::1/64 dev n{number} nodad"))?;
    world.ip(&format!("link set n{number} up"))?;
    world.ip(&format!("route add {source}/32 dev n{number}"))?;
    world.ip(&format!("-6 route add {source_ipv6}/128 dev n{number}"))?;
    node.ip(&format!("route add 127.2.0.0/16 dev world src {source}"))?;
    node.ip(&format!("route add 127.3.0.0/16 dev world src {source}"))?;
    node.ip(&format!("-6 route add {SITE_IPV6}/128 via fe80::1 dev world src {source_ipv6}")).map(drop)
}

fn source_ipv6(perspective: Perspective) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(perspective.source().octets()[3]))
}

/// Where a node listens for the engine.
fn node_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 11 + index as u8)
}

/// An engine and six nodes that are not started yet, with certificates, and a laboratory that runs.
pub(crate) struct Deployment {
    pub(crate) fleet: Fleet,
    pub(crate) bench: Bench,
    /// Last: programs and sockets in them go first.
    pub(crate) net: Net,
}

impl Deployment {
    /// None, which is told, if this may not be done here and need not.
    pub(crate) fn make(world: World) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        clear_left_over(PREFIX);
        let stem = format!("{PREFIX}-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let world_namespace = match Namespace::make(format!("{stem}-world")) {
            Ok(namespace) => namespace,
            Err(error) => {
                assert!(!required(), "{REQUIRED} is set, but: {error}");
                // Not through the test's captured output: who reads the run's must see it.
                let text = format!("\nNOT TESTED, no network namespaces can be made here: {error}\n\n");
                let _ = std::io::stderr().write_all(text.as_bytes());
                return None;
            }
        };
        // Where there may be one namespace, all else is expected to work.
        let net = Net::make(&stem, world_namespace).unwrap_or_else(|error| panic!("{error}"));
        let bench = net.world.inside(|| Bench::of(World { site_ipv6: SITE_IPV6, ..world })).unwrap();
        let mut settings = fs::read_to_string(bench.path("parallax.toml")).unwrap();
        for perspective in Perspective::ALL {
            let usual = "source_ipv6 = \"::1\"";
            assert!(settings.contains(usual));
            settings = settings.replacen(usual, &format!("source_ipv6 = \"{}\"", source_ipv6(perspective)), 1);
        }
        bench.write("parallax.toml", settings);
        let fleet = Fleet::make_at(&bench.path(""), PORT, ENGINE, |index| node_address(index.into()));
        // Where it is built does not matter, but it is built where the host's network is.
        node_program();
        Some(Self { fleet, bench, net })
    }

    /// Has nodes that are not started yet look by frames: their addresses are on no interface any more.
    pub(crate) fn go_raw(&self, method: impl Fn(usize) -> &'static str) {
        for (index, node) in self.net.nodes.iter().enumerate() {
            node.ip("addr flush dev world").unwrap();
            // Nothing on the way to a node computes the checksums that the world's kernel leaves out otherwise.
            let wire = format!("-K n{} tx off", index + 1);
            self.net.world.run("ethtool", &wire).unwrap();
            let path = self.bench.path(&format!("{}.toml", self.fleet.places[index].id));
            let mut settings: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
            let networks = ["127.2.0.0/16", "127.3.0.0/16", "fe80::/64"].map(Value::from);
            let transport = [
                ("kind", "raw".into()),
                ("interface", "world".into()),
                ("method", method(index).into()),
                ("networks", Value::Array(networks.into())),
                ("gateway_ipv6", "fe80::1".into()),
            ];
            let transport = transport.map(|(key, value): (&str, Value)| (key.to_owned(), value));
            settings.insert("transport".to_owned(), Value::Table(Table::from_iter(transport)));
            fs::write(&path, settings.to_string()).unwrap();
        }
    }

    pub(crate) fn start_node(&self, index: usize) -> Program {
        self.net.nodes[index].inside(|| self.fleet.start_node(index)).unwrap()
    }

    pub(crate) fn start_nodes(&self) -> Vec<Program> {
        (0..self.net.nodes.len()).map(|index| self.start_node(index)).collect()
    }

    /// The engine, once it is ready.
    pub(crate) fn start_engine(&self, journal: &str) -> Program {
        let engine = self.net.engine.inside(|| self.fleet.start_engine(journal)).unwrap();
        wait("the primary's link stands", Duration::from_secs(30), || self.is_ready());
        engine
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.net.engine.inside(|| get(self.fleet.engine_metrics, "/readyz")).unwrap().0 == 200
    }

    /// Whether the engine says that the link to a node stands.
    pub(crate) fn is_linked(&self, index: usize) -> bool {
        let (_, figures) = self.net.engine.inside(|| get(self.fleet.engine_metrics, "/metrics")).unwrap();
        let name = format!("parallax_engine_link_up{{perspective=\"{}\"}} ", self.fleet.places[index].id);
        let line = figures.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("{figures}")) == "1"
    }

    /// Runs `parallax` where the engine is.
    pub(crate) fn run(&self, arguments: &[&str]) -> crate::support::Ended {
        self.net.engine.inside(|| self.bench.run(arguments)).unwrap()
    }
}
