//! `parallax-perf soak` as a program: a short run that is well, one that is ended by Ctrl-C, and one that must not be.
//!
//! It starts `parallax` and `parallax-node`, which are built first.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PERF: &str = env!("CARGO_BIN_EXE_parallax-perf");
/// A short run and what comes before and after it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Builds the programs that are started, beside `parallax-perf`.
fn built() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let directory = Path::new(PERF).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "parallax-engine", "-p", "parallax-node", "--bins", "--target-dir"]);
        cargo.arg(directory.parent().unwrap());
        if directory.ends_with("release") {
            cargo.arg("--release");
        }
        // What cargo tells a test about its own package would make it build dependencies of others anew.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|of| name.starts_with(of)) {
                cargo.env_remove(name);
            }
        }
        assert!(cargo.status().unwrap().success(), "parallax and parallax-node cannot be built");
    });
}

struct Soak {
    child: Child,
    directory: PathBuf,
}

impl Soak {
    fn start(directory: &Path, port: u16, minutes: f64) -> Self {
        built();
        let mut command = Command::new(PERF);
        command.args(["soak", "--rate", "20", "--slow-share", "0"]);
        command.args(["--port", &port.to_string(), "--minutes", &minutes.to_string(), "--dir"]).arg(directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), directory: directory.to_owned() }
    }

    /// Lines of `soak.jsonl`.
    fn entries(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.join("soak.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        self.entries().into_iter().filter(|entry| entry["entry"] == kind).collect()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the engine has recorded; it begins with its setup, which is smaller than some answers.
    fn journal_octets(&self) -> u64 {
        let files = fs::read_dir(self.directory.join("journal")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    }

    fn end(mut self) -> (Output, Value) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        let summary = self.of_kind("summary").pop().unwrap_or_default();
        let output = self.child.wait_with_output().unwrap();
        (output, summary)
    }
}

/// Processes whose command line names this directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.to_string_lossy().into_owned();
    let command = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    fs::read_dir("/proc").unwrap().flatten().filter_map(command).filter(|line| line.contains(&name)).collect()
}

#[test]
fn ok_a_short_run_asks_samples_and_ends_well() {
    let directory = tempfile::tempdir().unwrap();
    let soak = Soak::start(directory.path(), 27_100, 20.0 / 60.0);
    let (output, summary) = soak.end();
    let text = fs::read_to_string(directory.path().join("soak.jsonl")).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let counts = &summary["counts"];
    assert!(
        counts["asked"].as_u64().unwrap() >= 300,
        "20 a second for 20 seconds, but for lines no caller sends: {said}"
    );
    assert_eq!(counts["asked"], counts["answered"], "{said}");
    assert_eq!((&summary["unanswered"]["count"], &summary["interrupted"]), (&0.into(), &false.into()));
    assert!(summary["journal_octets"].as_u64().unwrap() > 100_000, "{said}");
    for process in ["engine", "lab", "ams1", "iad1", "waw1", "syd1", "gru1", "jnb1"] {
        let of_it = |finding: &&Value| finding["process"] == process && finding["measure"] == "resident-kib";
        let finding = summary["findings"].as_array().unwrap().iter().find(of_it).expect(process);
        assert!(finding["median"].as_f64().unwrap() > 1000.0, "{finding}");
        assert_eq!(finding["verdict"], "too-short", "nothing is said of 20 seconds: {finding}");
    }
    let page = fs::read_to_string(directory.path().join("soak.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 9, "a chart for each measure");
    let windows = entries.iter().filter(|entry| entry["entry"] == "load");
    let beside = windows.filter(|window| window["canary_p50_ms"].as_f64().is_some_and(|ms| ms > 0.0)).count();
    assert!(beside > 10, "the canary is seen in the windows: {beside}");
    let judged = |of: &str| summary["findings"].as_array().unwrap().iter().filter(|f| f["measure"] == of).count();
    assert_eq!((judged("p50-ms"), judged("cpu-us-per-answer"), judged("canary-p50-ms")), (1, 8, 0));
    assert_eq!(processes_of(directory.path()), [""; 0], "nothing is left running");
}

#[test]
fn ok_ctrl_c_ends_it_with_what_there_is() {
    let directory = tempfile::tempdir().unwrap();
    let soak = Soak::start(directory.path(), 27_200, 60.0);
    soak.until("answers are recorded", |soak| soak.journal_octets() > 20_000);
    kill_process(Pid::from_child(&soak.child), Signal::INT).unwrap();
    let (output, summary) = soak.end();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(summary["interrupted"], true);
    assert!(summary["counts"]["answered"].as_u64().unwrap() > 0, "{summary}");
    assert_eq!(summary["counts"]["asked"], summary["counts"]["answered"], "what was asked is awaited");
    assert_eq!(processes_of(directory.path()), [""; 0]);
}

#[test]
fn err_a_program_that_dies_is_told_and_nothing_is_left_running() {
    let directory = tempfile::tempdir().unwrap();
    let soak = Soak::start(directory.path(), 27_300, 60.0);
    soak.until("answers are recorded", |soak| soak.journal_octets() > 20_000);
    let engine = |entry: fs::DirEntry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let is_it = line.contains("serve\0--config") && line.contains(&*directory.path().to_string_lossy());
        is_it.then(|| entry.file_name().to_string_lossy().parse().ok()).flatten()
    };
    let engine: i32 = fs::read_dir("/proc").unwrap().flatten().find_map(engine).expect("the engine runs");
    kill_process(Pid::from_raw(engine).unwrap(), Signal::KILL).unwrap();
    let (output, summary) = soak.end();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    let faults = summary["faults"].to_string();
    assert!(faults.contains("engine ended with signal: 9 (SIGKILL)"), "{faults}");
    assert_eq!(processes_of(directory.path()), [""; 0]);
}

#[test]
fn err_what_cannot_be_done_is_said_and_nothing_of_others_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("of-somebody"), "dear").unwrap();
    let run = |arguments: &[&str]| {
        let output =
            Command::new(PERF).arg("soak").args(arguments).arg("--dir").arg(directory.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run(&[]).contains("is not a directory of a soak"));
    assert!(run(&["--minutes", "0"]).contains("--minutes 0 is out of range"));
    assert!(run(&["--rate", "NaN"]).contains("--rate NaN is out of range"));
    assert_eq!(fs::read_to_string(directory.path().join("of-somebody")).unwrap(), "dear");
}
