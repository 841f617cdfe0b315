//! Open-loop load on the real programs, in a small mode: everything is started, measured, written, shown and ended.
//!
//! Nothing here is a figure: the programs are those of a debug build, on a machine that has other things to do.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use parallax_perf::open::{
    failure::Failure,
    process::ROLES,
    result::{self, Run},
};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(120);

/// The directory of the programs; the engine's is built if it is not.
fn programs() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let perf = Path::new(env!("CARGO_BIN_EXE_parallax-perf"));
        let directory = perf.parent().unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "parallax-engine", "--bin", "parallax", "--target-dir"]);
        command.arg(directory.parent().unwrap());
        // What cargo tells a test about its own package would make it build others' dependencies anew.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|of| name.starts_with(of)) {
                command.env_remove(name);
            }
        }
        if directory.ends_with("release") {
            command.arg("--release");
        }
        assert!(command.status().unwrap().success(), "the engine's program cannot be built");
        directory.to_owned()
    })
}

/// The command, with all its files in a directory.
fn open(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new(programs().join("parallax-perf"));
    command.arg("open").args(arguments.split(' ')).arg("--out").arg(directory.join("result.json"));
    command.env("TMPDIR", directory).stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &str) -> (Output, Run) {
    let output = open(directory, arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut read = result::read(&directory.join("result.json")).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(read.runs.len(), 1);
    assert_eq!((read.engine.remotes, read.engine.workers, read.engine.primary_first), (5, 1, true));
    (output, read.runs.remove(0))
}

/// Nothing is left of the programs' files.
fn is_tidy(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().flatten().all(|file| file.file_name().to_string_lossy().ends_with(".json"))
}

/// Whether a process of this directory runs.
fn runs_within(directory: &Path) -> bool {
    let directory = directory.to_string_lossy().into_owned();
    let lines =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| line.contains(&directory))
}

#[test]
fn ok_every_answer_of_the_mix_of_a_ca_is_right_and_all_of_it_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = "--mix ca --rates 200 --seconds 2 --warm-up 1 --spacing constant --seed 5";
    let (output, run) = run(directory.path(), arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();

    assert_eq!((run.requests, run.completed, run.errors), (400, 400, 0), "{told}");
    assert_eq!((run.wrong, run.wrong_in_warm_up), (0, 0), "{told}");
    assert_eq!(run.permitted + run.refused, 400);
    // Nobody can promise that a machine that is busy by tests lets a generator run when it wants to.
    let is_late = run.failed.as_ref().is_some_and(Failure::is_late);
    assert!(run.failed.is_none() || is_late, "{told}");
    assert_eq!(output.status.success(), run.failed.is_none(), "{told}");

    assert_eq!(run.by_kind.values().map(|kind| kind.requests).sum::<u64>(), 400);
    let passing: u64 =
        ["http-ok", "http-cname", "http-cname-5", "http-redirect-https", "dns-ok", "dns-cname", "alpn-ok"]
            .iter()
            .map(|kind| run.by_kind[*kind].requests)
            .sum();
    assert_eq!(run.permitted, passing);
    // What never answers is waited for: 2.5 s for a connection.
    assert!(run.by_kind["http-black-hole"].latency_us_mean > 2e6, "{:?}", run.by_kind);
    assert!(run.latency_quick_us.is_some_and(|quick| quick.p50 < run.latency_us.max));
    assert!(run.in_flight.mean > 1.0 && run.in_flight.max as f64 > run.in_flight.mean);

    let cpu = &run.cpu_us_per_request;
    assert!((cpu.by_role.values().sum::<f64>() - cpu.process).abs() < 1e-6 * cpu.process);
    for role in ["dispatcher", "collector", "decider", "node", "runtime"] {
        assert!(cpu.by_role[role] > 0.0, "{role}: {cpu:?}");
    }
    assert!(ROLES.iter().all(|role| cpu.by_role.contains_key(*role)));
    assert!(run.rss_kib.idle > 1_000 && run.rss_kib.max >= run.rss_kib.mean && run.descriptors.max > 10);
    assert!(run.journal_octets_per_request > 100.0);
    assert!(run.loopback.udp_out.is_some_and(|count| count > 1.0) && run.loopback.tcp_opened.is_some());
    assert!(run.others.laboratory_busiest.is_some_and(|share| share > 0.0));
    assert!(is_tidy(directory.path()) && !runs_within(directory.path()));

    let page = directory.path().join("page.html");
    let mut report = Command::new(programs().join("parallax-perf"));
    report.arg("report").arg(directory.path().join("result.json")).arg("--out").arg(&page);
    assert!(report.status().unwrap().success());
    let html = fs::read_to_string(page).unwrap();
    assert!(html.contains("<h2>ca</h2>") && html.matches("<svg").count() == 6);
}

#[test]
fn ok_a_run_that_reaches_its_bound_ends_as_overloaded_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = "--mix slow --rates 400 --seconds 20 --warm-up 0 --outstanding 30 --seed 6";
    let (output, run) = run(directory.path(), arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(run.overloaded && told.contains("OVERLOADED"), "{told}");
    assert!(run.seconds < 20.0, "it ended before its time: {} s", run.seconds);
    assert!((1..=30).contains(&run.requests) && run.in_flight.max <= 30, "{run:?}");
    assert_eq!((run.completed, run.wrong), (run.requests, 0), "{told}");
    assert!(is_tidy(directory.path()));
}

#[test]
fn ok_everything_ends_with_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = open(directory.path(), "--mix dns-01 --rates 20 --seconds 300");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the engine runs", || runs_within(directory.path()) && is_serving(directory.path()));
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    assert!(said(child).contains("interrupted"));
    assert!(!runs_within(directory.path()) && is_tidy(directory.path()));
}

#[test]
fn err_a_mix_or_a_directory_that_is_none_is_named_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, why) in [
        ("--mix no-such --rates 1", "--mix: \"no-such\" is neither a mix"),
        ("--mix ca --rates 1 --bin-dir /nowhere", "/nowhere/parallax is not there"),
        ("--mix ca", "--rates"),
    ] {
        let output = open(directory.path(), arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(why), "{arguments}: {told}");
    }
}

/// Whether the engine has said that it serves.
fn is_serving(directory: &Path) -> bool {
    let runs =
        fs::read_dir(directory).unwrap().flatten().flat_map(|own| fs::read_dir(own.path()).into_iter().flatten());
    let logs = runs.flatten().map(|run| run.path().join("engine.log"));
    logs.filter_map(|log| fs::read_to_string(log).ok()).any(|text| text.contains("serving on"))
}

fn said(child: Child) -> String {
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
