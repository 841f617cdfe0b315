//! A virtual wire in a network namespace of the test's own: the node has addresses of its own at one end, the kernel has
//! the other. Nothing leads out, and all of it ends with the program.
//!
//! [`run`] starts the test's own program once more in a fresh namespace, for this test only. Needs root; without, a test
//! says loudly that it was left out, and fails where `PARALLAX_REQUIRE_NETNS` is set.

use std::{
    any::type_name,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use parallax_node::{FrameMethod, NodeConfig, RawTransport, Transport};

/// Set where these tests must run: then it is an error if they cannot.
const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
/// Set for a program started by [`run`]: the name of the test.
const INSIDE: &str = "PARALLAX_NODE_INSIDE";
/// No test may take longer, in seconds.
const LIMIT_S: &str = "120";

/// The node's end of the wire, and the kernel's.
const RAW: &str = "raw0";
const PEER: &str = "peer0";
/// The kernel's address: servers are here.
pub(crate) const SERVERS: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
/// The node's, which no interface has.
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);

/// Runs `test`, the closure in a test function, in a network namespace.
pub(crate) fn run<F: FnOnce()>(test: F) {
    // The path of the test function, without the crate; that no test has this name is noticed below.
    let name = type_name::<F>().split_once("::").map_or("", |(_, path)| path).trim_end_matches("::{{closure}}");
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        make();
        return test();
    }
    if !rustix::process::geteuid().is_root() {
        let required = std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty());
        assert!(!required, "{REQUIRED} is set, and this is not root");
        // Not through the captured output of the test, which nobody reads.
        let text = format!("\nNOT TESTED, a network namespace needs root: {name}\n\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
        return;
    }
    let program = std::env::current_exe().expect("the path of the test program");
    let output = Command::new("timeout")
        .args([LIMIT_S, "unshare", "--net", "--"])
        .arg(program)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .expect("timeout and unshare are installed");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} in a namespace: {}\n{text}", output.status);
    assert!(text.contains("1 passed"), "no test was run by the name {name}\n{text}");
}

fn make() {
    command("ip link set lo up");
    command(&format!("ip link add {RAW} type veth peer name {PEER}"));
    compute_checksums(true);
    // The kernel has no addresses of its own at the node's end, not even link-local.
    command(&format!("ip link set {RAW} addrgenmode none"));
    command(&format!("ip link set {RAW} up"));
    command(&format!("ip link set {PEER} up"));
    command(&format!("ip address add {SERVERS}/24 dev {PEER}"));
}

/// Whether the kernel computes checksums before a frame enters the wire. Otherwise it leaves them to hardware, and there
/// is none.
pub(crate) fn compute_checksums(computes: bool) {
    command(&format!("ethtool -K {PEER} tx {}", if computes { "off" } else { "on" }));
}

/// Runs a program with arguments parted by blanks.
fn command(line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error} (is {program} installed?)"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A node at its end of the wire, which asks a resolver at the other.
pub(crate) fn config(resolver: SocketAddr) -> NodeConfig {
    let mut config = crate::common::config(resolver);
    config.source_ipv4 = Some(NODE);
    config.laboratory.allow_addresses.push("10.78.0.0/24".parse().expect("a network"));
    config.transport = Transport::Raw(raw());
    config
}

/// Its transport.
pub(crate) fn raw() -> RawTransport {
    RawTransport {
        interface: RAW.to_owned(),
        method: FrameMethod::Xdp,
        networks: vec!["10.78.0.0/24".parse().expect("a network")],
        frames: 1024,
        ..RawTransport::default()
    }
}
