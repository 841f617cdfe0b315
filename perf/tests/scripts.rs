//! What the scripts that install packages leave on the machine: nothing, whether or not the packages could be installed.

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
