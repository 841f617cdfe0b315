//! The measurements of a node and their comparisons, with a few thousand items: that they run, and that they can fail.
//!
//! They need the program `parallax-bare`, which is built first: it is taken from PARALLAX_BARE, or built by cargo.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

const PERF: &str = env!("CARGO_BIN_EXE_parallax-perf");

/// The program with the responders. Without it there is nothing to compare with, and the tests say so.
fn bare() -> Option<&'static Path> {
    static BARE: OnceLock<Option<PathBuf>> = OnceLock::new();
    BARE.get_or_init(find_bare).as_deref()
}

fn find_bare() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("PARALLAX_BARE") {
        return Some(given.into());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    if !root.join("perspective-node/ring/bare/Cargo.toml").is_file() {
        eprintln!("left out: there is no perspective-node/ring/bare, and PARALLAX_BARE names no program");
        return None;
    }
    // TARGET/debug/parallax-perf or TARGET/release/parallax-perf.
    let directory = Path::new(PERF).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["build", "--quiet", "-p", "parallax-bare", "--target-dir"]);
    cargo.arg(directory.parent().unwrap());
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "parallax-bare cannot be built");
    Some(directory.join("parallax-bare"))
}

/// A responder, with its port, that ends with the test.
struct Responder(Child, String);

impl Responder {
    fn start(kind: &str, more: &[&str]) -> Option<Self> {
        let mut command = Command::new(bare()?);
        command.args(["respond", kind]).args(more);
        for (option, usual) in [("--listen", "127.0.0.1:0"), ("--limit", "120")] {
            if !more.contains(&option) {
                command.args([option, usual]);
            }
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().to_owned();
        Some(Self(child, port))
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.1)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn perf(arguments: &[&str]) -> Output {
    Command::new(PERF).args(arguments).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn values() -> (String, String) {
    let values = json(&perf(&["node", "values"]));
    (values["text"].as_str().unwrap().to_owned(), values["key_authorization"].as_str().unwrap().to_owned())
}

#[test]
fn ok_a_node_does_each_work_over_each_driver() {
    let (text, key_authorization) = values();
    let Some(dns) = Responder::start("dns", &["--text", &text]) else { return };
    let http = Responder::start("http", &["--body", &key_authorization]).unwrap();
    let tls = ["--name", "www.customer.example", "--key-authorization", &key_authorization];
    let tls = Responder::start("tls", &tls).unwrap();
    for driver in ["io-uring", "epoll"] {
        for (work, items, by_address) in [
            ("resolver", "3000", false),
            ("caa", "1000", false),
            ("http", "500", false),
            ("http", "500", true),
            ("tls", "40", false),
            ("mixed", "300", false),
        ] {
            let address = dns.address();
            let mut arguments = vec!["node", work, "--driver", driver, "--resolver", &address, "--items", items];
            arguments.extend(["--http-port", &http.1, "--tls-port", &tls.1, "--warm-up", "50", "--in-flight", "40"]);
            arguments.extend(by_address.then_some("--by-address"));
            let output = perf(&arguments);
            let line = json(&output);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), line["failed"].as_u64()), (Some(0), Some(0)), "{work} {driver}: {said}");
            assert_eq!(line["items"].as_u64(), items.parse().ok(), "{line}");
            let number = |key: &str| line[key].as_f64().unwrap();
            let worker = number("worker_cpu_us_per_item");
            assert!(worker > 0.0 && number("p50_us") > 0.0 && number("p99_us") >= number("p50_us"), "{line}");
            // The one is counted by the scheduler's tick, the other exactly.
            assert!(worker < 2.0 * number("cpu_us_per_item") + 20.0, "{line}");
        }
    }
}

#[test]
fn err_servers_that_answer_wrongly_are_told_in_words_and_by_the_status() {
    let Some(dns) = Responder::start("dns", &["--text", "another"]) else { return };
    let http = Responder::start("http", &["--body", "another"]).unwrap();
    let tls = Responder::start("tls", &["--name", "other.example", "--key-authorization", "another"]).unwrap();
    for (work, told) in [("resolver", "another"), ("http", "another"), ("tls", "certificate")] {
        let address = dns.address();
        let mut arguments = vec!["node", work, "--resolver", &address, "--items", "20", "--warm-up", "0"];
        arguments.extend(["--http-port", &http.1, "--tls-port", &tls.1, "--in-flight", "5"]);
        let output = perf(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), json(&output)["failed"].as_u64()), (Some(1), Some(20)), "{work}: {said}");
        assert!(said.contains("task 0:") && said.contains(told), "{work}: {said}");
    }
}

#[test]
fn err_a_run_is_given_up_at_its_limit_and_a_wrong_option_is_another_failure() {
    let Some(silent) = Responder::start("dns", &["--silent"]) else { return };
    let output = perf(&["node", "resolver", "--resolver", &silent.address(), "--items", "10", "--limit", "1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("had not ended after 1s"), "{said}");
    assert_eq!(perf(&["node", "resolver", "--driver", "none"]).status.code(), Some(2));
    assert_eq!(perf(&["node", "silent"]).status.code(), Some(2));
}

#[test]
fn ok_silent_tasks_end_in_silence_and_hold_little_beside_good_ones() {
    let (text, key_authorization) = values();
    let Some(dns) = Responder::start("dns", &["--text", &text]) else { return };
    let mute = Responder::start("dns", &["--silent"]).unwrap();
    let http = Responder::start("http", &["--body", &key_authorization]).unwrap();
    let holder = Responder::start("http", &["--silent", "--listen", "0.0.0.0:0"]).unwrap();
    for (target, resolver, port) in [("--http", &dns, &holder.1), ("--dns", &mute, &http.1)] {
        let address = resolver.address();
        let arguments = [
            "node",
            "silent",
            target,
            "300",
            "--phase",
            "1",
            "--resolver",
            &address,
            "--http-port",
            port,
            "--limit",
            "60",
        ];
        let output = perf(&arguments);
        let findings = json(&output);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((findings["silent"].as_u64(), findings["silent_failed"].as_u64()), (Some(300), Some(0)));
        for phase in ["alone", "beside"] {
            let phase = &findings[phase];
            assert_eq!((phase["good"].as_u64(), phase["failed"].as_u64()), (Some(100), Some(0)), "{phase}");
        }
        let held = findings["descriptors_per_silent"].as_f64().unwrap();
        assert_eq!(held.round(), if target == "--http" { 1.0 } else { 0.0 }, "one connection has one descriptor");
    }
}

#[test]
fn err_tasks_that_do_not_wait_or_not_to_the_end_are_not_silent() {
    let (text, _) = values();
    let Some(dns) = Responder::start("dns", &["--text", &text]) else { return };
    let address = dns.address();
    let run = |port: &str| {
        let options = ["node", "silent", "--http", "50", "--phase", "1", "--resolver", &address, "--http-port", port];
        perf(&options)
    };
    let refused = run("1");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ended before all had begun"));
    // It ends after both phases, long before the tasks' time has run out, and so their connections do.
    let holder = Responder::start("http", &["--silent", "--listen", "0.0.0.0:0", "--limit", "6"]).unwrap();
    let cut = run(&holder.1);
    assert_eq!((cut.status.code(), json(&cut)["silent_failed"].as_u64()), (Some(1), Some(50)));
}

/// Load generators of others are run if they are installed; if not, they have rows too.
#[test]
fn ok_a_quick_comparison_has_a_row_for_every_client() {
    let Some(bare) = bare() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out.json");
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let core = (cpus - 1).min(1).to_string();
    for (command, clients) in [("peers", vec![8, 2, 9, 4]), ("ceiling", vec![3, 3, 1])] {
        let mut run = Command::new(PERF);
        run.args([command, "--quick", "--responder-core", &core, "--bare"]).arg(bare).arg("--out").arg(&file);
        let output = run.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let kept: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let rows = kept["rows"].as_array().unwrap();
        let counts: Vec<usize> = rows.iter().map(|row| row["clients"].as_array().unwrap().len()).collect();
        assert_eq!(counts, clients, "{kept}");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Client")).count();
        assert_eq!(lines, clients.iter().sum::<usize>(), "{text}");
        assert_eq!(
            text.contains("- CAA, three labels / DNS lookup, 100 in flight, ours: "),
            command == "peers",
            "{text}"
        );
        for key in ["date", "command", "kernel", "cpu"] {
            assert!(kept[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
    }
}

/// Whether network namespaces can be made. Where they must be, it is an error if they cannot.
fn may_make_namespaces() -> bool {
    const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        assert!(std::env::var_os(REQUIRED).is_none_or(|value| value.is_empty()), "{REQUIRED} is set: not root");
        // Not through the test's captured output: who reads the run's must see it.
        let _ = std::io::stderr().write_all(b"\nNOT TESTED, network namespaces need root\n\n");
    }
    is_root
}

/// Namespaces that a process has made and not taken away.
fn namespaces_of(pid: u32) -> Vec<String> {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("pxf-{pid}-"))).collect()
}

#[test]
fn ok_a_comparison_over_a_wire_has_every_way_to_reach_it_and_leaves_nothing_behind() {
    let Some(bare) = bare().filter(|_| may_make_namespaces()) else { return };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let core = (cpus - 1).min(1).to_string();
    let mut run = Command::new(PERF);
    run.args(["peers", "--wire", "--quick", "--responder-core", &core, "--bare"]).arg(bare);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = run.id();
    let output = run.wait_with_output().unwrap();
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{text}");
    for (client, rows) in [
        ("ours, io-uring", 4),
        ("ours, raw-xdp", 4),
        ("ours, frames kept (raw-xdp)", 4),
        ("ours, raw-packet", 4),
        ("bare uring", 2),
        ("bare tls", 1),
    ] {
        let found = text.lines().filter(|line| line.starts_with(&format!("| {client}"))).count();
        assert_eq!(found, rows, "{client}\n{text}");
    }
    assert_eq!(namespaces_of(pid), Vec::<String>::new());
}

#[test]
fn err_an_interrupted_comparison_takes_its_namespaces_with_it() {
    let Some(bare) = bare().filter(|_| may_make_namespaces()) else { return };
    let mut run = Command::new(PERF);
    run.args(["peers", "--wire", "--responder-core", "0", "--work", "dns", "--bare"]).arg(bare);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while namespaces_of(run.id()).len() < 2 {
        assert!(Instant::now() < until, "no namespaces");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = run.wait().unwrap();
    assert_eq!((status.code(), namespaces_of(run.id())), (Some(1), Vec::new()));
}

/// A host that swallows all is a wire whose far end is meant by no frame, for without ARP the near end's own hardware
/// address is put on them.
#[test]
fn ok_fetches_of_hosts_that_answer_no_syn_end_in_silence() {
    if !may_make_namespaces() {
        return;
    }
    let Some(bare) = bare() else { return };
    let (text, key_authorization) = values();
    let script = r#"
        set -e
        # The servers end with their input, and that of a background command is empty otherwise.
        mkfifo "$5/open"
        exec 9<>"$5/open"
        ip link set lo up
        ip link add void type veth peer name end
        ip link set void arp off
        ip link set end up
        sysctl -qw net.ipv4.conf.all.route_localnet=1
        ip link set void up
        ip route del local 127.0.0.0/8 dev lo table local
        ip route add local 127.0.0.0/16 dev lo table local
        ip route add 127.77.0.0/16 dev void src 127.0.0.1
        "$1" respond dns --listen 127.0.0.1:5300 --limit 60 --text "$3" <&9 >/dev/null & dns=$!
        "$1" respond http --listen 127.0.0.1:5380 --limit 60 --body "$4" <&9 >/dev/null & http=$!
        trap 'kill $dns $http' EXIT
        sleep 0.3
        "$2" node silent --http-unanswered 300 --phase 1
    "#;
    let mut run = Command::new("timeout");
    run.args(["60", "unshare", "--net", "sh", "-c", script, "sh"]).arg(bare).args([PERF, &text, &key_authorization]);
    let directory = tempfile::tempdir().unwrap();
    run.arg(directory.path());
    let output = run.stdin(Stdio::null()).output().unwrap();
    let findings = json(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((findings["silent"].as_u64(), findings["silent_failed"].as_u64()), (Some(300), Some(0)));
    assert_eq!(findings["client"].as_str(), Some("node silent http unanswered io-uring"));
    assert_eq!(findings["beside"]["failed"].as_u64(), Some(0));
}
