//! What the scripts that install packages leave on the machine: nothing, whether or not the packages could be installed.
//! And what the scripts of the soak begin.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{fs, path::Path, process::Command};

/// What keeps Debian from starting servers as they are installed.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The part of a script that installs, about another file than the machine's own.
fn installing(script: &str, policy: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(script);
    let text = fs::read_to_string(path).unwrap();
    let (_, from) =
        text.split_once("\n  apt-get update").or_else(|| text.split_once("\n  $sudo apt-get update")).unwrap();
    let (part, _) = from.split_once("\nfi\n").unwrap();
    let (_, part) = part.split_once('\n').unwrap();
    assert_eq!(part.matches(POLICY).count(), 1, "{script}");
    part.replace(POLICY, &policy.display().to_string())
}

/// Runs that part with an `apt-get` that sees the file and ends so; whether all went well, and whether the file is there.
fn run(script: &str, was_there: bool, status: u8) -> (bool, bool) {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy-rc.d");
    if was_there {
        fs::write(&policy, "another's").unwrap();
    }
    let shell = format!(
        "set -euo pipefail; sudo=; need=(a b); apt-get() {{ [ -e {} ] && return {status}; }}\n{}\n",
        policy.display(),
        installing(script, &policy)
    );
    let output = Command::new("bash").args(["-c", &shell]).output().unwrap();
    (output.status.success(), policy.exists())
}

#[test]
fn ok_the_file_that_keeps_servers_from_starting_does_not_stay() {
    for script in ["lab", "test"] {
        assert_eq!(run(script, false, 0), (true, false), "{script}: installed");
        assert_eq!(run(script, false, 100), (false, false), "{script}: apt-get fails");
        assert_eq!(run(script, true, 0), (true, true), "{script}: another's");
        assert_eq!(run(script, true, 100), (false, true), "{script}: another's, and apt-get fails");
    }
}

/// What a script begins with programs of ours, of which each says only how it was called.
fn begun(arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    // Written by a process of its own: a program that is open for writing in this one cannot be run.
    let write = "printf '#!/bin/sh\\necho \"$*\"\\n' > \"$0\" && chmod +x \"$0\"";
    assert!(
        Command::new("sh").args(["-c", write]).arg(directory.path().join("parallax-perf")).status().unwrap().success()
    );
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let (script, further) = arguments.split_first().unwrap();
    let output = Command::new(scripts.join(script)).args(further).env("BIN", directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ok_the_soak_is_begun_by_either_script_alike() {
    for (further, right) in [
        (&[][..], "soak --minutes 30\n"),
        (&["12"], "soak --minutes 12\n"),
        (&["0.5", "--rate", "9"], "soak --minutes 0.5 --rate 9\n"),
        (&["--rate", "9"], "soak --minutes 30 --rate 9\n"),
    ] {
        assert_eq!(begun(&[&["soak"], further].concat()), right, "scripts/soak {further:?}");
        assert_eq!(begun(&[&["lab", "soak"], further].concat()), right, "scripts/lab soak {further:?}");
    }
}
