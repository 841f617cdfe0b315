//! Tests on a network of their own.
//!
//! [`run`] starts the test's own program once more, in a fresh network
//! namespace and for this test only. [`Wire`] is what most of them need there.
//! Nothing leads out of such a namespace, and it ends with the program.
//!
//! Needs root. Without, a test says loudly that it was skipped, and fails where
//! `PARALLAX_REQUIRE_NETNS` is set.

use std::any::type_name;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Set where these tests must run: then it is an error if they cannot.
const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
/// Set for a program started by [`run`]: the name of the test.
const INSIDE: &str = "PARALLAX_RING_INSIDE";
/// No test may take longer, in seconds.
const LIMIT_S: &str = "120";

/// Runs `test`, the closure in a test function, in a network namespace.
pub(crate) fn run<F: FnOnce()>(test: F) {
    // The path of the test function, without the crate. If names of closures
    // ever look different no test has this name, which is noticed below.
    let name = type_name::<F>().split_once("::").map_or("", |(_, path)| path).trim_end_matches("::{{closure}}");
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
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
    // One at a time: the kernel's queue between the ends of a wire is one for
    // all namespaces, and what a burst of one test fills another would lose.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
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
    println!("{text}");
}

/// Runs a program with arguments parted by blanks; returns what it printed.
#[track_caller]
pub(crate) fn command(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error} (is {program} installed?)"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The two ends of a wire, both in the namespace of the test. The kernel has
/// addresses on `peer0`; ours, which are reached by `raw0`, are on no interface.
pub(crate) struct Wire {
    pub(crate) raw_hardware: [u8; 6],
    pub(crate) peer_hardware: [u8; 6],
}

impl Wire {
    pub(crate) const RAW: &str = "raw0";
    pub(crate) const PEER: &str = "peer0";
    pub(crate) const PEER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
    pub(crate) const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
    pub(crate) const OURS_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
    pub(crate) const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

    /// Makes the wire. Checksums are computed before a frame enters it.
    pub(crate) fn make() -> Wire {
        Wire::make_with_queues(1)
    }

    /// The same with several receive queues at `raw0`.
    pub(crate) fn make_with_queues(queues: u32) -> Wire {
        for setting in ["all/disable_ipv6", "default/disable_ipv6"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{setting}"), "0").expect("a kernel with IPv6");
        }
        let (raw, peer) = (Wire::RAW, Wire::PEER);
        command("ip link set lo up");
        command(&format!(
            "ip link add {raw} numrxqueues {queues} numtxqueues {queues} type veth peer name {peer} \
             numrxqueues {queues} numtxqueues {queues}"
        ));
        // Loud if ethtool is missing: without it checksums are not on the wire.
        command(&format!("ethtool -K {peer} tx off"));
        // The kernel has no addresses of its own at our end, not even link-local.
        command(&format!("ip link set {raw} addrgenmode none"));
        command(&format!("ip link set {raw} up"));
        command(&format!("ip link set {peer} up"));
        command(&format!("ip address add {}/24 dev {peer}", Wire::PEER_V4));
        command(&format!("ip address add {}/64 dev {peer} nodad", Wire::PEER_V6));
        Wire { raw_hardware: hardware_address(raw), peer_hardware: hardware_address(peer) }
    }
}

fn hardware_address(interface: &str) -> [u8; 6] {
    let text = command(&format!("ip -o link show {interface}"));
    let (_, rest) = text.split_once("link/ether ").expect("an Ethernet interface");
    let octets = rest.split_whitespace().next().into_iter().flat_map(|address| address.split(':'));
    let octets: Vec<u8> = octets.map(|octet| u8::from_str_radix(octet, 16).expect("hexadecimal")).collect();
    octets.try_into().expect("six octets")
}
