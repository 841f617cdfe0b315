//! `parallax-perf forward` as a program, between two interfaces of a network namespace.
//!
//! Needs root. Without, a test says loudly that it was not run, and fails where `PARALLAX_REQUIRE_NETNS` is set.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::UdpSocket,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use parallax_perf::netns::{Namespace, clear_left_over};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PERF: &str = env!("CARGO_BIN_EXE_parallax-perf");
const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
const PREFIX: &str = "parallax-forward";

/// Two hosts, and what is between them.
struct Net {
    one: Namespace,
    middle: Namespace,
    other: Namespace,
}

impl Net {
    fn make(test: &str) -> Option<Self> {
        clear_left_over(PREFIX);
        let name = |role: &str| format!("{PREFIX}-{}-{test}-{role}", std::process::id());
        let one = match Namespace::make(name("one")) {
            Ok(namespace) => namespace,
            Err(error) => {
                let required = std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty());
                assert!(!required, "{REQUIRED} is set, but: {error}");
                let text = format!("\nNOT TESTED, no network namespaces can be made here: {error}\n\n");
                let _ = std::io::stderr().write_all(text.as_bytes());
                return None;
            }
        };
        let (middle, other) = (Namespace::make(name("middle")).unwrap(), Namespace::make(name("other")).unwrap());
        for (end, host, address) in [("first", &one, "192.0.2.1"), ("second", &other, "192.0.2.2")] {
            middle.ip(&format!("link add {end} type veth peer name wire netns {}", host.name())).unwrap();
            middle.ip(&format!("link set {end} addrgenmode none")).unwrap();
            middle.ip(&format!("link set {end} up")).unwrap();
            host.run("ethtool", "-K wire tx off").unwrap();
            host.ip(&format!("addr add {address}/24 dev wire")).unwrap();
            host.ip("link set wire up").unwrap();
        }
        Some(Self { one, middle, other })
    }

    /// Forwards by these rules, from when this returns.
    fn forward(&self, rules: &Path) -> Child {
        let mut command = Command::new(PERF);
        command.args(["forward", "--between", "first,second", "--seconds", "60", "--policy"]).arg(rules);
        command.stdout(Stdio::piped());
        let mut child = self.middle.inside(|| command.spawn()).unwrap().unwrap();
        let mut ready = String::new();
        // Read by octets: what comes later is for somebody else.
        while !ready.ends_with('\n') {
            let mut octet = [0];
            child.stdout.as_mut().unwrap().read_exact(&mut octet).unwrap();
            ready.push(char::from(octet[0]));
        }
        assert_eq!(ready, "ready\n");
        child
    }

    /// What arrives at port 53 of the other host of these datagrams.
    fn sent(&self, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let there = self.other.inside(|| UdpSocket::bind("192.0.2.2:53")).unwrap().unwrap();
        let here = self.one.inside(|| UdpSocket::bind("192.0.2.1:0")).unwrap().unwrap();
        for datagram in datagrams {
            here.send_to(datagram, "192.0.2.2:53").unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        there.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| there.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
    }
}

/// Tells it to stop; what it says that it did.
fn stop(mut child: Child) -> Value {
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    serde_json::from_str(&line).unwrap()
}

#[test]
fn ok_frames_are_forwarded_as_the_file_has_it() {
    let Some(net) = Net::make("rules") else { return };
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.toml");
    let datagrams: Vec<Vec<u8>> = (0..20).map(|number| vec![number; 200]).collect();

    std::fs::write(&rules, "").unwrap();
    let forwarder = net.forward(&rules);
    assert_eq!(net.sent(&datagrams), datagrams, "nothing is done to them");
    let done = stop(forwarder);
    assert!(done["sent"].as_u64().unwrap() >= 20 && done["lost"] == 0, "{done}");

    // Only what one host sends is doubled, or else its neighbour's address would be.
    std::fs::write(&rules, "seed = 3\n[from_a]\nduplicate = 1.0\nvanish_above_octets = 300\n").unwrap();
    let forwarder = net.forward(&rules);
    let twice: Vec<Vec<u8>> = datagrams.iter().flat_map(|datagram| [datagram.clone(), datagram.clone()]).collect();
    assert_eq!(net.sent(&[datagrams.clone(), vec![vec![9; 400]]].concat()), twice);
    let done = stop(forwarder);
    assert!(done["doubled"].as_u64().unwrap() >= 20 && done["vanished"] == 1, "{done}");
}

#[test]
fn ok_a_question_that_passes_is_answered_by_nobody() {
    let Some(net) = Net::make("forge") else { return };
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.toml");
    std::fs::write(&rules, "[from_a]\nloss = 0.0\n[forge]\nanswers = [\"perfect\"]\naddress = \"192.0.2.99\"\n")
        .unwrap();
    let forwarder = net.forward(&rules);
    let _there = net.other.inside(|| UdpSocket::bind("192.0.2.2:53")).unwrap().unwrap();
    let here = net.one.inside(|| UdpSocket::bind("192.0.2.1:0")).unwrap().unwrap();
    // Who is asked is all that the kernel lets through.
    here.connect("192.0.2.2:53").unwrap();
    here.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let question = b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07eXample\x00\x00\x01\x00\x01";
    here.send(question).unwrap();
    let mut buffer = [0; 512];
    let length = here.recv(&mut buffer).unwrap();
    assert_eq!((&buffer[..2], &buffer[12..question.len()]), (&question[..2], &question[12..]));
    assert!(buffer[..length].ends_with(&[192, 0, 2, 99]));
    let done = stop(forwarder);
    assert_eq!((&done["questions"], &done["forged_answers"]), (&1.into(), &1.into()), "{done}");
}

#[test]
fn err_what_cannot_be_done_is_said() {
    let run = |arguments: &[&str]| {
        let output = Command::new(PERF).arg("forward").args(arguments).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for between in ["a", "a,", "a,b,c", "a,a"] {
        assert!(run(&["--between", between]).contains("two different interfaces"), "{between}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[both]\nloss = 2\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert!(run(&["--between", "a,b", "--policy", path]).contains("both.loss cannot be 2"));
    assert!(run(&["--between", "a,b", "--policy", "/nowhere"]).contains("/nowhere"));
    assert!(run(&["--between", "nowhere0,nowhere1"]).contains("nowhere0"));
}
