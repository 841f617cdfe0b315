//! A full disk under the journal: no verdict is told without its record, and `--resume` goes on.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::{
    collections::HashMap,
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use parallax_engine::{audit, bulk::ResultLine};
use support::{Bench, journal};

/// Set in the mount namespace that has a small disk there.
const DISK: &str = "PARALLAX_TEST_SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=512k tmpfs \"$1\"";

#[test]
fn a_full_disk_tells_nothing_that_is_not_recorded() {
    let disk = tempfile::tempdir().unwrap();
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, "sh"]).arg(disk.path()).arg(env::current_exe().unwrap());
        command.env(DISK, disk.path()).stdin(Stdio::null()).output()
    };
    match in_namespace(MOUNT) {
        Ok(output) if output.status.success() => {}
        Ok(output) => return println!("skipped: no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return println!("skipped: no unshare: {error}"),
    }
    let output = in_namespace(&format!("{MOUNT} && exec \"$2\" --exact small_disk_child --nocapture")).unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("small disk: done"), "the child did not run: {out}");
}

/// Runs in a mount namespace with a disk of 512 KiB, otherwise does nothing.
#[test]
fn small_disk_child() {
    let Some(disk) = env::var_os(DISK).map(PathBuf::from) else { return };
    let bench = Bench::new(2, 2, 200);
    let directory = disk.join("journal");
    let mut arguments = vec!["bulk", "bulk.jsonl", "--json", "--out", "out.jsonl"];
    arguments.extend(["--journal", directory.to_str().unwrap()]);
    let full = bench.run(&arguments);
    full.expect(3, &["No space left on device", "no verdict is released without its record"]);
    let kept: HashMap<String, ResultLine> = recorded(&directory);
    assert!(!kept.is_empty(), "the disk was full too soon");
    let told = bench.results("out.jsonl");
    let mut verdicts = 0;
    for line in told.iter().filter(|line| line.line.is_none()) {
        verdicts += 1;
        assert_eq!(kept.get(line.id.as_ref().unwrap()), Some(line), "told without its record");
    }
    assert!(verdicts < 200, "the disk never filled");

    // Still full: the same end, and nothing is lost.
    arguments.push("--resume");
    bench.run(&arguments).expect(3, &["No space left on device"]);
    let again = recorded(&directory);
    assert!(kept.iter().all(|(id, line)| again.get(id) == Some(line)));

    let remount = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk).status().unwrap();
    assert!(remount.success());
    let summary = bench.run(&arguments).expect(0, &[]).json();
    assert_eq!(summary["resumed"], again.len());
    bench.assert_as_expected(&bench.results("out.jsonl"));
    let last = recorded(&directory);
    assert!(again.iter().all(|(id, line)| last.get(id) == Some(line)));
    let verification = audit::verify(&directory, std::num::NonZeroUsize::MIN).unwrap();
    assert!(verification.holds() && verification.repeated.is_empty(), "{verification:?}");
    println!("{} recorded and {verdicts} told when the disk was full\nsmall disk: done", kept.len());
}

fn recorded(directory: &std::path::Path) -> HashMap<String, ResultLine> {
    let lines = journal(directory).0;
    lines.iter().map(ResultLine::of_record).map(|line| (line.id.clone().unwrap(), line)).collect()
}
