//! The laboratory of BGP as commands: up, runs with a known right outcome, status, down, and what is left when one of
//! them is interrupted.
//!
//! Needs root, network namespaces and the Debian packages that `scripts/lab` installs. Where `PARALLAX_REQUIRE_NETNS` is
//! set they must be there.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use parallax_perf::{
    internet::{programs::Needed, state::State},
    netns::{Namespace, clear_left_over},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Set where these tests must run: then it is an error if they cannot.
const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
/// What the laboratory's namespaces begin with; the number of this process follows.
const PREFIX: &str = "internet";
const PATIENCE: Duration = Duration::from_secs(60);

/// A laboratory of this process. There is one at a time.
struct Lab {
    directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// None, which is told, if this may not be done here and need not.
    fn make() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        clear_left_over(PREFIX);
        let missing = Needed::ALL.iter().find_map(|needed| needed.path().err()).map(|error| error.to_string());
        let probe = || Namespace::make(format!("{PREFIX}-{}-probe", std::process::id())).map(drop);
        if let Some(why) = missing.or_else(|| probe().err().map(|error| error.to_string())) {
            let required = std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty());
            assert!(!required, "{REQUIRED} is set, but: {why}");
            // Not through the test's captured output: who reads the run's must see it.
            let text = format!("\nNOT TESTED, the laboratory of BGP cannot be made here: {why}\n\n");
            let _ = std::io::stderr().write_all(text.as_bytes());
            return None;
        }
        Some(Self { directory: tempfile::tempdir().unwrap(), _alone: alone })
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("lab")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallax-perf"));
        command.arg("internet").args(words).arg("--dir").arg(self.files()).arg("--bin").arg(programs());
        command.args(["--name", &std::process::id().to_string()]);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    #[track_caller]
    fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {out}{err}");
        out.into_owned()
    }

    /// How many namespaces of this laboratory there are.
    fn namespaces(&self) -> usize {
        let stem = format!("{PREFIX}-{}-", std::process::id());
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&stem)).count()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever the test came to.
        let _ = self.run(&["down"]);
    }
}

/// Where the programs are, built if they are not.
fn programs() -> &'static Path {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_parallax-perf")).parent().unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--package", "parallax-engine", "--package", "parallax-node", "--bins"]);
        command.arg("--target-dir").arg(folder.parent().unwrap());
        // What cargo tells a test about its own package would make it build others' dependencies anew.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|of| name.starts_with(of)) {
                command.env_remove(name);
            }
        }
        if folder.ends_with("release") {
            command.arg("--release");
        }
        assert!(command.status().unwrap().success(), "the programs cannot be built");
        folder.to_owned()
    })
}

#[test]
fn a3_hijacks_end_as_they_must_and_status_says_where_packets_go() {
    let Some(lab) = Lab::make() else { return };
    lab.must(&["up"]);
    assert_eq!(lab.namespaces(), 20);
    let summary: Value =
        serde_json::from_str(&lab.must(&["run", "equal-one", "primary", "first-primary", "--json"])).unwrap();
    assert_eq!(summary["journal_holds"], true);
    let requests = |run: usize| summary["runs"][run]["requests"].as_array().unwrap().clone();
    let find = |run: usize, id: &str| {
        requests(run).into_iter().find(|request| request["id"].as_str().unwrap().ends_with(id)).unwrap()
    };
    // One remote is fooled: 4/5, with the warning that comes with it.
    let owner = find(0, "owner-http-01-plain");
    assert_eq!((owner["permitted"].as_bool(), owner["quorum"].as_str()), (Some(true), Some("4/5")), "{owner}");
    assert!(owner["warnings"][0].as_str().unwrap().contains("ARIN"), "{owner}");
    // The primary is fooled: the process starts afresh, and nothing is permitted.
    let attacker = find(1, "attacker-http-01-plain");
    assert_eq!(attacker["permitted"], false);
    assert_eq!(attacker["attempts"].as_array().unwrap().len(), 2, "{attacker}");
    assert_eq!(attacker["attempts"][0]["restarted"], true);
    assert_eq!(attacker["attempts"][1]["perspectives"][0]["seen"], "attacker");
    assert_eq!(attacker["attempts"][1]["perspectives"][1]["seen"], "owner");
    // A certificate that answers a challenge is no better than a file, over a route that is stolen.
    let attacker = find(1, "attacker-tls-alpn-01-plain");
    assert_eq!(
        (attacker["permitted"].as_bool(), attacker["attempts"][0]["restarted"].as_bool()),
        (Some(false), Some(true))
    );
    assert_eq!(attacker["attempts"][1]["perspectives"][0]["seen"], "attacker");
    // Where the primary is asked first and refuses, nobody else is asked.
    let owner = find(2, "owner-tls-alpn-01-plain");
    let states = |attempt: &Value| -> Vec<String> {
        let views = attempt["perspectives"].as_array().unwrap();
        views.iter().map(|view| view["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(owner["attempts"].as_array().unwrap().len(), 1, "{owner}");
    assert_eq!(states(&owner["attempts"][0]), [&["contradicted"][..], &["not_asked"; 5]].concat(), "{owner}");
    let attacker = find(2, "attacker-tls-alpn-01-plain");
    assert_eq!(states(&attacker["attempts"][1]), [&["confirmed"][..], &["contradicted"; 5]].concat(), "{attacker}");
    // Nothing is left of the attack, and another one is seen where it is.
    assert!(lab.must(&["status"]).starts_with("no attack\n"));
    lab.must(&["hijack", "--nameserver", "--near", "gru1"]);
    let status: Value = serde_json::from_str(&lab.must(&["status", "--json"])).unwrap();
    let end = |site: usize, of: &str| status["sites"][site][of]["way"]["systems"].as_array().unwrap().last().cloned();
    assert_eq!(end(4, "name_servers"), Some(64_666.into()));
    assert_eq!(end(4, "web"), Some(64_531.into()));
    assert_eq!(end(3, "name_servers"), Some(64_532.into()));
    assert!(std::fs::read_to_string(lab.files().join("status.svg")).unwrap().contains("sees the attacker"));
    // A node that is gone is said to be.
    let state = State::read(&lab.files()).unwrap();
    let pid = state.program("node-syd1").unwrap().pid;
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let begun = Instant::now();
    loop {
        let text = lab.must(&["status"]);
        let line = text.lines().find(|line| line.starts_with("syd1")).unwrap();
        if line.starts_with("syd1  DOWN  DOWN") && text.contains("ended by themselves: node-syd1") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
    }
    // A run in which a perspective is missing does not pass for one that is as it must be.
    let output = lab.run(&["run", "peace"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("owner-http-01-plain: attempt 1: syd1 saw Nothing and is TimedOut, must see Owner"),
        "{text}"
    );
    assert!(!lab.run(&["up"]).status.success(), "one is up already");
    // By its name alone nobody takes it down, or brings up another, from elsewhere.
    for word in ["down", "up"] {
        let mut elsewhere = Command::new(env!("CARGO_BIN_EXE_parallax-perf"));
        elsewhere.args(["internet", word, "--name", &std::process::id().to_string()]).arg("--bin").arg(programs());
        let output = elsewhere.arg("--dir").arg(lab.directory.path().join("elsewhere")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(lab.files().to_str().unwrap()), "{word}: {said}");
        assert_eq!(lab.namespaces(), 20, "{word}");
    }
    lab.must(&["down"]);
    assert_eq!(lab.namespaces(), 0);
    lab.must(&["down"]);
    assert!(!lab.run(&["status"]).status.success(), "nothing is up");
}

#[test]
fn err_what_was_interrupted_or_killed_leaves_nothing_that_down_does_not_clear() {
    let Some(lab) = Lab::make() else { return };
    for signal in [Signal::INT, Signal::KILL] {
        let mut rising = lab.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while lab.namespaces() < 5 {
            assert!(begun.elapsed() < PATIENCE && rising.try_wait().unwrap().is_none(), "it comes up");
        }
        kill_process(Pid::from_raw(rising.id().cast_signed()).unwrap(), signal).unwrap();
        assert!(!rising.wait().unwrap().success());
        if signal == Signal::INT {
            assert_eq!(lab.namespaces(), 0, "it clears up by itself");
        } else {
            assert!(lab.namespaces() > 0);
            assert!(!lab.run(&["hijack"]).status.success(), "it is not up");
            lab.must(&["down"]);
            assert_eq!(lab.namespaces(), 0);
        }
    }
}

#[test]
fn err_names_that_mean_nothing() {
    let Some(lab) = Lab::make() else { return };
    for (words, says) in [
        (&["hijack", "--near", "lhr1"][..], "there is no site \"lhr1\""),
        (&["hijack", "--filtering", "64511,1"], "there is no AS 1 "),
        (&["run", "everything"], "there is no run \"everything\""),
        (&["status"], "no laboratory is up"),
    ] {
        let output = lab.run(words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{words:?}: {said}");
    }
}
