//! The journal against real faults: a full disk and a killed process.

#![allow(clippy::unwrap_used)]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parallax_engine::journal::{JournalError, JournalOptions, Reader, Recovery, Writer};

const FULL_DISK: &str = "JOURNAL_TEST_FULL_DISK";
const KILLED: &str = "JOURNAL_TEST_KILLED";

fn entries(directory: &Path) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::open(directory).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        found.push((entry.sequence, entry.payload));
    }
    assert_eq!(reader.torn_tail(), None);
    found
}

#[test]
fn full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let shell = |script: &str| {
        Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .arg(directory.path())
            .arg(env::current_exe().unwrap())
            .env(FULL_DISK, directory.path())
            .output()
    };
    const MOUNT: &str = "mount -t tmpfs -o size=64k tmpfs \"$1\"";
    match shell(MOUNT) {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            println!("skipped: no tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim());
            return;
        }
        Err(error) => {
            println!("skipped: no unshare: {error}");
            return;
        }
    }
    let run = "exec \"$2\" --exact full_disk_child --nocapture";
    let output = shell(&format!("{MOUNT} && {run}")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("full disk: done"), "the child did not run");
}

/// Runs in a mount namespace with a tmpfs of 64 KiB, otherwise does nothing.
#[test]
fn full_disk_child() {
    let Some(disk) = env::var_os(FULL_DISK).map(PathBuf::from) else {
        return;
    };
    // Failing within one segment, and at the creation of a segment.
    fill_disk(&disk, 1 << 20, &[b'a'; 700]);
    fill_disk(&disk, 8 * 1024, &[b'b'; 700]);
    fill_disk(&disk, 4096, &[b'c'; 3900]);
    println!("full disk: done");
}

fn fill_disk(disk: &Path, segment_bytes_max: u64, payload: &[u8]) {
    let options = JournalOptions { segment_bytes_max };
    let ballast = disk.join("ballast");
    fs::write(&ballast, [0; 16 * 1024]).unwrap();
    let directory = disk.join("journal");
    let (mut writer, _) = Writer::open(&directory, options.clone()).unwrap();
    let mut committed = Vec::new();
    let error = loop {
        let mut batch = Vec::new();
        for _ in 0..3 {
            batch.push((writer.append(1, payload).unwrap(), payload.to_vec()));
        }
        match writer.commit() {
            Ok(()) => committed.append(&mut batch),
            Err(error) => break error,
        }
        assert!(committed.len() < 1000, "the disk never fills");
    };
    println!("{error}");
    let last = committed.len() as u64;
    assert!(last > 0);
    let JournalError::Commit { committed_sequence, rollback, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*committed_sequence, last);
    assert!(rollback.is_none());
    assert_eq!(error.io_error().unwrap().kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains(&format!("nothing after sequence {last} was released")));
    assert_eq!(writer.committed_sequence(), last);

    // Poisoned for good, even though there is space again.
    fs::remove_file(&ballast).unwrap();
    for later in [writer.append(1, b"x").map(drop), writer.commit()] {
        let Err(later @ JournalError::Poisoned { .. }) = later else { panic!("{later:?}") };
        assert_eq!(later.io_error().unwrap().kind(), ErrorKind::StorageFull);
    }
    assert_eq!(entries(&directory), committed);
    drop(writer);

    let (mut writer, recovery) = Writer::open(&directory, options).unwrap();
    assert_eq!(recovery, Recovery { next_sequence: last + 1, cut: None });
    assert_eq!(entries(&directory), committed);
    committed.push((writer.append(1, b"onward").unwrap(), b"onward".to_vec()));
    writer.commit().unwrap();
    drop(writer);
    assert_eq!(entries(&directory), committed);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut released = 0;
    for round in 1..=8 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed_child", "--nocapture"])
            .env(KILLED, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in &mut lines {
            let Some(sequence) = line.unwrap().strip_prefix("released ").map(str::to_owned) else {
                continue;
            };
            released = sequence.parse().unwrap();
            seen += 1;
            if seen == round * 3 {
                child.kill().unwrap();
                break;
            }
        }
        assert_eq!(seen, round * 3, "the child ended by itself");
        // What it had said before it died counts as well.
        for line in lines.map_while(Result::ok) {
            if let Some(Ok(sequence)) = line.strip_prefix("released ").map(str::parse) {
                released = sequence;
            }
        }
        child.wait().unwrap();

        let (writer, recovery) = Writer::open(directory.path(), options()).unwrap();
        assert!(recovery.next_sequence > released, "{recovery:?}, released {released}");
        drop(writer);
        let found = entries(directory.path());
        assert_eq!(found.len() as u64, recovery.next_sequence - 1);
        for (sequence, payload) in found {
            assert_eq!(payload, payload_of(sequence));
        }
    }
}

fn options() -> JournalOptions {
    JournalOptions { segment_bytes_max: 64 * 1024 }
}

fn payload_of(sequence: u64) -> Vec<u8> {
    sequence.to_string().repeat(200).into_bytes()
}

/// Appends until it is killed, and says what is released.
#[test]
fn killed_child() {
    let Some(directory) = env::var_os(KILLED).map(PathBuf::from) else {
        return;
    };
    let (mut writer, recovery) = Writer::open(&directory, options()).unwrap();
    let mut next = recovery.next_sequence;
    let mut out = std::io::stdout();
    // A newline first, as the test harness leaves its line open.
    writeln!(out).unwrap();
    loop {
        for _ in 0..20 {
            assert_eq!(writer.append(1, &payload_of(next)).unwrap(), next);
            next += 1;
        }
        writer.commit().unwrap();
        // Ends with an error if the parent is gone.
        writeln!(out, "released {}", writer.committed_sequence()).unwrap();
        out.flush().unwrap();
    }
}
