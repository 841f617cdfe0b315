//! How long records are kept, and what remains when they go (req E5).

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod made;
mod support;

use std::{
    fs,
    num::NonZeroUsize,
    path::Path,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use made::{Maker, more, parallax, rules, run};
use parallax_engine::{
    audit,
    config::JournalSection,
    corroborate::ENTRY_SETUP,
    find::{Wanted, find},
    index::build_missing,
    journal::{Place, Reader, index_path, segments},
    retention::{self, RetentionError},
    upkeep,
};
use parallax_perf::lab::{generate::request_line, kinds::Kind};
use serde_json::Value;
use support::Bench;

const LONG_AGO: &str = "2020-02-01T00:00:00Z";
const LATER: &str = "2021-06-01T00:00:00Z";
const THREADS: NonZeroUsize = NonZeroUsize::MIN;
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Records of 2020, and after them records of 2021, in small segments.
fn journal(directory: &Path) -> Maker {
    let mut writer = made::open(directory, 40_000);
    let mut maker = Maker::new(1, LONG_AGO);
    run(&mut writer, &mut maker, &rules(), 60);
    maker.clock = LATER.parse().unwrap();
    more(&mut writer, &mut maker, &rules(), 40);
    maker
}

/// When each record was decided, with its segment.
fn decided(directory: &Path) -> Vec<(u64, Timestamp)> {
    let mut reader = Reader::open(directory).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let value: Value = serde_json::from_slice(&entry.payload).unwrap();
        if let Some(at) = value["decided"].as_str() {
            found.push((entry.segment, at.parse().unwrap()));
        }
    }
    found
}

#[test]
fn e5_old_segments_are_pruned_and_that_is_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let (here, path) = (directory.path(), directory.path().join("j"));
    let maker = journal(&path);
    build_missing(&path, THREADS, &AtomicBool::new(false)).unwrap();
    let before = decided(&path);
    let (_, last) = segments(&path).unwrap();
    let cut: Timestamp = "2021-01-01T00:00:00Z".parse().unwrap();
    let stays = before.iter().find(|(_, at)| *at >= cut).unwrap().0;
    assert!((3..last).contains(&stays));
    let gone = before.iter().filter(|(segment, _)| *segment < stays).count();
    let command = |arguments: &[&str]| parallax(&[&["journal"], arguments].concat(), here);

    let (status, out, _) = command(&["prune", "j", "--before", "2021-01-01", "--dry-run"]);
    assert_eq!((status, segments(&path).unwrap()), (Some(0), (1, last)));
    assert_eq!(out, format!("segments 1 to {} with {gone} records would be removed\n", stays - 1));
    let (status, out, _) = command(&["prune", "j", "--before", "2020-01-01"]);
    assert!(status == Some(0) && out.starts_with("no segment of j"), "{out}");

    let (status, out, errors) = command(&["prune", "j", "--before", "2021-01-01", "--json"]);
    assert_eq!(status, Some(0), "{errors}");
    let removed = &serde_json::from_str::<Value>(&out).unwrap()["removed"];
    assert_eq!((removed["from"].as_u64(), removed["to"].as_u64()), (Some(1), Some(stays - 1)));
    assert_eq!(removed["records"].as_u64(), Some(gone as u64));
    assert_eq!(removed["why"], "the command, before 2021-01-01T00:00:00Z");
    let of = |name: &str| removed[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let old: Vec<Timestamp> = before.iter().filter(|(s, _)| *s < stays).map(|(_, at)| *at).collect();
    assert_eq!((of("oldest"), of("newest")), (*old.iter().min().unwrap(), *old.iter().max().unwrap()));
    assert!(of("newest") < cut);

    // The rest stands on its own, and says what is missing.
    assert_eq!(segments(&path).unwrap().0, stays);
    assert_eq!(Place::of_segment(&path, stays).unwrap().sequence, removed["sequence"].as_u64().unwrap());
    assert!((1..stays).all(|segment| !index_path(&path, segment).exists()));
    assert!(index_path(&path, stays).exists());
    assert_eq!(decided(&path), before[gone..]);
    let found = audit::verify(&path, THREADS).unwrap();
    assert!(found.holds() && found.records == (before.len() - gone) as u64, "{found:?}");
    let said = format!("segments 1 to {} with {gone} records", stays - 1);
    let (status, out, _) = command(&["verify", "j"]);
    assert!(status == Some(0) && out.contains(&said), "{out}");
    for reading in [&["show", "j"][..], &["find", "j"]] {
        let (status, _, errors) = command(reading);
        assert!(status == Some(0) && errors.contains(&said), "{errors}");
    }
    let search = find(&path, &Wanted::default(), THREADS).unwrap();
    assert_eq!(search.found.len(), before.len() - gone);
    assert!(search.indexed > 0 && search.removed.is_some());

    // It goes on, and once more later.
    let mut maker = maker;
    let mut writer = made::open(&path, 40_000);
    run(&mut writer, &mut maker, &rules(), 30);
    drop(writer);
    let (status, out, _) = command(&["prune", "j", "--before", "2022-01-01"]);
    assert!(status == Some(0) && out.contains(&format!("and {gone} records before")), "{out}");
    let (first, last) = segments(&path).unwrap();
    assert!(first + 1 >= last, "the last segment stays");
    assert!(audit::verify(&path, THREADS).unwrap().holds());
}

#[test]
fn e5_what_must_be_kept_is_not_pruned() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let mut maker = Maker::new(2, &retention::days_before(Timestamp::now(), 1000).to_string());
    run(&mut made::open(&path, 40_000), &mut maker, &rules(), 60);
    let there = segments(&path).unwrap();
    let prune = |before: &str| parallax(&["journal", "prune", "j", "--before", before], directory.path());
    let (status, _, errors) = prune("2026-01-01");
    assert_eq!((status, segments(&path).unwrap()), (Some(2), there));
    assert!(errors.contains("kept for 1130 days") && errors.contains("§5.4.3"), "{errors}");
    let now = Timestamp::now();
    let too_recent = retention::plan(&path, retention::days_before(now, 1129), now, &GO_ON);
    assert!(matches!(too_recent, Err(RetentionError::TooRecent { .. })));
    let oldest = retention::days_before(now, 1130);
    assert_eq!(retention::plan(&path, oldest, now, &GO_ON).unwrap(), None);
    // An engine that runs holds the lock.
    let old = directory.path().join("old");
    journal(&old);
    let writer = made::open(&old, 40_000);
    let (status, _, errors) = parallax(&["journal", "prune", "old", "--before", "2021-01-01"], directory.path());
    assert!(status == Some(2) && errors.contains("in use"), "{errors}");
    assert_eq!(segments(&old).unwrap().0, 1);
    drop(writer);
    let (status, _, errors) = parallax(&["journal", "prune", "nothing", "--before", "2021-01-01"], directory.path());
    assert!(status == Some(2) && errors.contains("nothing") && !directory.path().join("nothing").exists(), "{errors}");
}

#[test]
fn a_setup_that_later_segments_rest_on_stays() {
    // As early versions wrote it: the setup stands in the first segment only.
    let directory = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(3, LONG_AGO);
    let mut writer = made::open(directory.path(), 40_000);
    writer.append(ENTRY_SETUP, &serde_json::to_vec(rules().setup()).unwrap()).unwrap();
    more(&mut writer, &mut maker, &rules(), 60);
    let cut = "2022-01-01T00:00:00Z".parse().unwrap();
    let now = Timestamp::now();
    assert!(writer.segments().1 > 3);
    assert_eq!(retention::plan(directory.path(), cut, now, &GO_ON).unwrap(), None);
    // From the first segment on that begins with its own, the rest may go.
    let early = writer.segments().1;
    run(&mut writer, &mut maker, &rules(), 60);
    let plan = retention::plan(directory.path(), cut, now, &GO_ON).unwrap().unwrap();
    assert_eq!((plan.from, plan.before), (1, writer.segments().1));
    maker.clock = "2022-02-01T00:00:00Z".parse().unwrap();
    assert!(plan.before > early);
    retention::prune(&mut writer, cut, now, "a test").unwrap();
    assert!(audit::verify(directory.path(), THREADS).unwrap().holds());
}

#[test]
fn keep_days_is_kept_to_at_opening_and_at_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let mut maker = journal(&path);
    let settings = JournalSection { directory: path.clone(), segment_mib: 1, keep_days: 0, captures_mib: 0 };
    drop(upkeep::open(&path, &settings).unwrap());
    assert_eq!(segments(&path).unwrap().0, 1, "0 keeps for ever");

    let settings = JournalSection { keep_days: 1130, ..settings };
    let (mut writer, _) = upkeep::open(&path, &settings).unwrap();
    let opened = writer.segments().0;
    // Packets of an attempt whose record is to go at a rotation, and of one whose record stays.
    let captures = path.join("captures");
    fs::create_dir(&captures).unwrap();
    let [old, new] = ["ams1", "waw1"].map(|of| captures.join(format!("{}-{of}.pcap", "0".repeat(32))));
    fs::File::create(&old).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::File::create(&new).unwrap();
    assert!(opened > 1 && opened == writer.segments().1);
    assert_eq!(writer.removed().unwrap().note.why, "journal.keep_days = 1130");
    // What is complete and old later goes too, while the writer is at work; and what stays gets its index.
    let begun = Instant::now();
    run(&mut writer, &mut maker, &rules(), 4);
    while writer.segments().0 == opened {
        assert!(begun.elapsed() < Duration::from_secs(120), "never removed: {:?}", writer.segments());
        more(&mut writer, &mut maker, &rules(), 40);
    }
    assert!(!old.exists() && new.exists(), "packets go as their records do");
    maker.clock = Timestamp::now();
    let recent = writer.segments().1 + 2;
    while !index_path(&path, recent).exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never indexed: {recent}");
        more(&mut writer, &mut maker, &rules(), 40);
    }
    drop(writer);
    assert!(segments(&path).unwrap().0 <= recent, "what is recent stays");
    let found = audit::verify(&path, THREADS).unwrap();
    assert!(found.holds(), "{:?}", found.mismatches.first());
}

#[test]
fn nothing_is_removed_by_a_clock_that_may_be_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    journal(&path);
    // As if the clock had gone ahead by a year since the last entry.
    let year = Duration::from_secs(365 * 86_400);
    for number in segments(&path).unwrap().0..=segments(&path).unwrap().1 {
        let file = fs::File::options().write(true).open(path.join(format!("{number:010}.journal"))).unwrap();
        file.set_modified(std::time::SystemTime::now() - year).unwrap();
    }
    let settings = JournalSection { directory: path.clone(), segment_mib: 1, keep_days: 1130, captures_mib: 0 };
    drop(upkeep::open(&path, &settings).unwrap());
    assert_eq!(segments(&path).unwrap().0, 1);
    // It was written to now, so the next run believes the clock.
    let file = fs::File::options().write(true).open(path.join("0000000001.journal")).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
    drop(upkeep::open(&path, &settings).unwrap());
    assert!(segments(&path).unwrap().0 > 1);
}

#[test]
fn what_upkeep_cannot_do_does_not_stop_the_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("j");
    let mut maker = journal(&path);
    // No index can be made.
    fs::create_dir(path.join("index.lock")).unwrap();
    let settings = JournalSection { directory: path.clone(), segment_mib: 1, keep_days: 0, captures_mib: 0 };
    let (mut writer, _) = upkeep::open(&path, &settings).unwrap();
    let last = writer.segments().1;
    run(&mut writer, &mut maker, &rules(), 4);
    while writer.segments().1 < last + 2 {
        more(&mut writer, &mut maker, &rules(), 40);
    }
    drop(writer);
    assert!((1..last).all(|segment| !index_path(&path, segment).exists()));
    assert!(audit::verify(&path, THREADS).unwrap().holds());
}

#[test]
fn an_engine_told_to_keep_1130_days_removes_what_is_older() {
    let bench = Bench::new(41, 41, 500);
    journal(&bench.path("j"));
    let settings = fs::read_to_string(bench.path("parallax.toml")).unwrap() + "\n[journal]\nkeep_days = 1130\n";
    bench.write("keep.toml", settings);
    bench.write("one.jsonl", request_line(&bench.scenario(Kind::HttpOk)) + "\n");
    let run = ["bulk", "one.jsonl", "--config", "keep.toml", "--journal", "j", "--out", "o", "--resume"];
    bench.run(&run).expect(0, &["were removed on", "by journal.keep_days = 1130"]);
    let (first, last) = segments(&bench.path("j")).unwrap();
    assert_eq!(first, last);
    bench.run(&["journal", "verify", "j"]).expect(0, &[]);
    let shorter = fs::read_to_string(bench.path("keep.toml")).unwrap().replace("= 1130", "= 500");
    bench.write("short.toml", shorter);
    bench.run(&["config", "check", "short.toml"]).expect(2, &["journal.keep_days", "2 years"]);
}
