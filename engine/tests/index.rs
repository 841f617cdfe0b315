//! Searches by index find what searches without find (req E11).

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod made;
mod support;

use std::{fs, num::NonZeroUsize, path::Path, sync::atomic::AtomicBool};

use jiff::SignedDuration;
use made::{Maker, NOW, more, other_rules, parallax, rules, run};
use parallax_engine::{
    audit,
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    find::{Search, Wanted, find},
    index::build_missing,
    journal::{Reader, index_path, segment_path, segments},
};
use parallax_perf::lab::kinds::Kind;
use rand::RngExt as _;
use support::Bench;

const THREADS: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn build(directory: &Path) -> parallax_engine::index::Built {
    build_missing(directory, THREADS, &AtomicBool::new(false)).unwrap().unwrap()
}

/// A copy without indexes.
fn without(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for segment in segments(directory).map(|(first, last)| first..=last).unwrap() {
        fs::copy(segment_path(directory, segment), segment_path(copy.path(), segment)).unwrap();
    }
    copy
}

fn same(found: &Search, expected: &Search, what: &dyn std::fmt::Debug) {
    assert_eq!(found.found, expected.found, "{what:?}");
    assert_eq!(found.searched, expected.searched, "{what:?}");
}

fn wanted(maker: &mut Maker) -> Wanted {
    let chance = |maker: &mut Maker| maker.random.random_bool(0.3);
    let places = rules().setup().perspectives.clone();
    let place = maker.random.random_range(0..places.len());
    let seconds = |maker: &mut Maker| SignedDuration::from_secs(maker.random.random_range(0..3000));
    let begin: jiff::Timestamp = NOW.parse().unwrap();
    Wanted {
        address: chance(maker).then(|| {
            let resolver = std::net::IpAddr::from([10, 0, 0, maker.random.random_range(1..6_u8)]);
            if maker.random.random_bool(0.3) { resolver } else { maker.address() }
        }),
        perspective: chance(maker).then(|| places[place].id.clone()),
        as_number: chance(maker).then(|| places[place].as_number + maker.random.random_range(0..2_u32)),
        method: chance(maker).then(|| maker.one_of(&["3.2.2.4.19", "3.2.2.4.7", "caa", "3.2.2.5.6", "3.2"]).to_owned()),
        software: chance(maker).then(|| {
            maker.one_of(&["parallax 9.9.9", concat!("parallax ", env!("CARGO_PKG_VERSION")), "parallax"]).to_owned()
        }),
        domain: chance(maker).then(|| {
            let domain = maker.domain();
            maker.one_of(&[domain.as_str(), "one.com", "com", "ne.com", "www.one.com", "", ".com", "com."]).to_owned()
        }),
        from: chance(maker).then(|| begin + seconds(maker)),
        until: chance(maker).then(|| begin + seconds(maker)),
        corroborated: maker.random.random_bool(0.1),
    }
}

/// Several runs, by this version and another, over many segments. The first segments are as early versions wrote them:
/// with the setup in the first one only.
fn journal(seed: u64) -> (tempfile::TempDir, Maker) {
    journal_of(seed, 60_000, 10)
}

fn journal_of(seed: u64, segment_bytes_max: u64, tenth: usize) -> (tempfile::TempDir, Maker) {
    let directory = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(seed, NOW);
    let (these, others) = (rules(), other_rules());
    let mut writer = made::open(directory.path(), segment_bytes_max);
    writer.append(ENTRY_SETUP, &serde_json::to_vec(others.setup()).unwrap()).unwrap();
    more(&mut writer, &mut maker, &others, 4 * tenth);
    run(&mut writer, &mut maker, &these, 6 * tenth);
    run(&mut writer, &mut maker, &others, 3 * tenth);
    run(&mut writer, &mut maker, &these, 6 * tenth);
    drop(writer);
    (directory, maker)
}

#[test]
fn e11_an_index_finds_what_a_scan_finds() {
    for seed in 0..3 {
        let (directory, mut maker) = journal(seed);
        let plain = without(directory.path());
        let last = segments(directory.path()).unwrap().1;
        let built = build(directory.path());
        assert_eq!((built.segments, built.built), (last - 1, last - 1));
        assert!(last > 6 && built.records > 100 && built.bytes > 0 && !built.stopped, "{last} {built:?}");
        assert_eq!(build(directory.path()).built, 0, "all are good");
        let (mut hits, mut empty) = (0, 0);
        for _ in 0..150 {
            let wanted = wanted(&mut maker);
            let by_index = find(directory.path(), &wanted, THREADS).unwrap();
            let by_scan = find(plain.path(), &wanted, THREADS).unwrap();
            same(&by_index, &by_scan, &wanted);
            assert_eq!((by_index.indexed, by_scan.indexed), (last - 1, 0));
            assert!(by_index.notes.is_empty() && by_index.searched == 190);
            hits += by_scan.found.len();
            empty += usize::from(by_scan.found.is_empty());
        }
        assert!(hits > 300 && (20..130).contains(&empty), "{hits} {empty}");
    }
}

#[test]
fn e11_with_an_index_only_what_may_fit_is_read() {
    let (directory, _) = journal(7);
    build(directory.path());
    // Every record of the first segment is damaged but for those of one domain.
    let mut reader = Reader::open(directory.path()).unwrap();
    let wanted = Wanted { domain: Some("two.com".to_owned()), ..Wanted::default() };
    let expected = find(directory.path(), &wanted, THREADS).unwrap();
    let file = segment_path(directory.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    let mut damaged = 0;
    while let Some(entry) = reader.next_entry().unwrap().filter(|entry| entry.segment == 1) {
        if entry.kind == ENTRY_RECORD && expected.found.iter().all(|found| found.entry != entry.sequence) {
            bytes[entry.offset as usize + 60] ^= 1;
            damaged += 1;
        }
    }
    assert!(damaged > 3);
    fs::write(&file, bytes).unwrap();
    same(&find(directory.path(), &wanted, THREADS).unwrap(), &expected, &wanted);
    // What is read is checked: one that may fit and is damaged is told as the scan tells it.
    let error = find(directory.path(), &Wanted::default(), THREADS).unwrap_err().to_string();
    assert!(error.contains("damaged at byte"), "{error}");
}

#[test]
fn a_flaw_anywhere_in_an_index_changes_no_answer() {
    let (directory, mut maker) = journal_of(3, 500_000, 30);
    let begun: Vec<Wanted> = std::iter::repeat_with(|| wanted(&mut maker)).take(40).collect();
    let answers: Vec<(Wanted, Search)> = begun
        .into_iter()
        .map(|wanted| (wanted.clone(), find(directory.path(), &wanted, THREADS).unwrap()))
        .filter(|(_, search)| !search.found.is_empty())
        .take(2)
        .collect();
    assert_eq!(answers.len(), 2);
    build(directory.path());
    let file = index_path(directory.path(), 2);
    let good = fs::read(&file).unwrap();
    assert!(good.len() >= 2 * 4096, "{}", good.len());
    let mut noted = 0;
    let mut try_with = |bytes: &[u8], what: String| {
        fs::write(&file, bytes).unwrap();
        for (wanted, expected) in &answers {
            let found = find(directory.path(), wanted, THREADS).unwrap();
            same(&found, expected, &what);
            noted += found.notes.len();
        }
    };
    let places = (0..160).step_by(7).chain((160..good.len()).step_by(good.len() / 60));
    for at in places {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        try_with(&bytes, format!("octet {at}"));
    }
    for length in [0, 1, 4095, 4096, good.len() - 4096, good.len() - 1] {
        try_with(&good[..length], format!("length {length}"));
    }
    try_with(&[&good[..], &[0]].concat(), "one octet more".to_owned());
    try_with(&[&good[..], &[0; 4096]].concat(), "one block more".to_owned());
    for other in [1, 3] {
        let bytes = fs::read(index_path(directory.path(), other)).unwrap();
        try_with(&bytes, format!("the index of segment {other}"));
    }
    assert!(noted > 60, "{noted}");
    // It is told, and made anew.
    fs::write(&file, &good[..4096]).unwrap();
    let notes = find(directory.path(), &answers[0].0, THREADS).unwrap().notes;
    assert!(notes[0].starts_with("segment 2: its index is not used: "), "{notes:?}");
    assert_eq!(build(directory.path()).built, 1);
    assert_eq!(fs::read(&file).unwrap(), good);
}

#[test]
fn an_index_that_names_a_wrong_place_is_given_up_and_its_segment_read() {
    let (directory, _) = journal(8);
    let all = Wanted::default();
    let expected = find(directory.path(), &all, THREADS).unwrap();
    build(directory.path());
    let file = index_path(directory.path(), 2);
    let good = fs::read(&file).unwrap();
    let number = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().unwrap()) as usize;
    let (rows, setups) = (number(112), number(120));
    // The last row, so that all before it have been handed out by then, one octet too far; and the chain hash before
    // the segment.
    let row = 160 + 8 * setups + 16 * (rows - 1);
    assert!(rows > 2 && row < 4092);
    for (at, problem) in [(row, "no such entry at offset"), (32, "another segment, or another state")] {
        let mut bytes = good.clone();
        bytes[at] ^= 2;
        // With a right checksum.
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&0_u64.to_le_bytes()), &bytes[..4092]);
        bytes[4092..4096].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&file, bytes).unwrap();
        let found = find(directory.path(), &all, THREADS).unwrap();
        same(&found, &expected, &problem);
        assert!(found.notes.len() == 1 && found.notes[0].contains(problem), "{:?}", found.notes);
    }
}

#[test]
fn an_index_of_another_journal_or_of_what_was_there_before_is_not_used() {
    let (directory, _) = journal(4);
    let (other, _) = journal(5);
    build(directory.path());
    build(other.path());
    let plain = without(directory.path());
    let all = Wanted { corroborated: false, method: Some("caa".to_owned()), ..Wanted::default() };
    let expected = find(plain.path(), &all, THREADS).unwrap();
    for segment in 1..4 {
        fs::copy(index_path(other.path(), segment), index_path(directory.path(), segment)).unwrap();
    }
    let found = find(directory.path(), &all, THREADS).unwrap();
    same(&found, &expected, &all);
    assert_eq!(found.notes.len(), 3, "{:?}", found.notes);
    assert!(found.notes.iter().all(|note| note.contains("another segment, or another state")));

    // The last segment has none; one that it should not have is not used either.
    let last = segments(directory.path()).unwrap().1;
    assert!(!index_path(directory.path(), last).exists());
    fs::copy(index_path(directory.path(), last - 1), index_path(directory.path(), last)).unwrap();
    assert_eq!(find(directory.path(), &all, THREADS).unwrap().found, expected.found);

    // A segment that lost its end is still found out.
    let file = segment_path(directory.path(), last - 1);
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    let error = find(directory.path(), &all, THREADS).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

#[test]
fn building_stops_when_told_to_and_leaves_nothing_half_made() {
    let (directory, _) = journal(6);
    let built = build_missing(directory.path(), THREADS, &AtomicBool::new(true)).unwrap().unwrap();
    assert!(built.stopped && built.built == 0);
    let last = segments(directory.path()).unwrap().1;
    assert!((1..=last).all(|segment| !index_path(directory.path(), segment).exists()));
    // A draft that a process left when it was killed is written over.
    let draft = index_path(directory.path(), 1).with_extension("index-draft");
    fs::write(&draft, b"half").unwrap();
    assert_eq!(build(directory.path()).built, last - 1);
    assert!(!draft.exists());
    // One process at a time.
    let lock = fs::File::open(directory.path().join("index.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(build_missing(directory.path(), THREADS, &AtomicBool::new(false)).unwrap(), None);
}

#[test]
fn every_segment_of_a_run_begins_with_its_setup_which_is_made_ready_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut maker = Maker::new(1, NOW);
    run(&mut made::open(directory.path(), 30_000), &mut maker, &rules(), 60);
    run(&mut made::open(directory.path(), 30_000), &mut maker, &other_rules(), 60);
    run(&mut made::open(directory.path(), 30_000), &mut maker, &rules(), 60);
    let mut reader = Reader::open(directory.path()).unwrap();
    let (mut segment, mut setups) = (0, 0);
    while let Some(entry) = reader.next_entry().unwrap() {
        assert!(entry.segment == segment || entry.kind == ENTRY_SETUP, "{entry:?}");
        segment = entry.segment;
        setups += u64::from(entry.kind == ENTRY_SETUP);
    }
    assert!(segment > 6 && setups >= segment);
    let found = audit::verify(directory.path(), THREADS).unwrap();
    assert!(found.holds() && found.setups == 2, "{found:?}");
}

#[test]
fn e11_the_program_makes_indexes_and_answers_the_same_with_and_without() {
    let bench = Bench::new(40, 40, 3_000);
    let kinds = [Kind::HttpOk, Kind::DnsOk, Kind::CaaNone, Kind::HttpWrongBody, Kind::DnsNxdomain];
    let some = |kind: Kind| bench.scenarios().filter(move |s| s.kind == kind).take(400);
    let lines =
        kinds.iter().flat_map(|kind| some(*kind)).map(|s| parallax_perf::lab::generate::request_line(&s) + "\n");
    bench.write("some.jsonl", lines.collect::<String>());
    let settings = fs::read_to_string(bench.path("parallax.toml")).unwrap() + "\n[journal]\nsegment_mib = 1\n";
    bench.write("small.toml", settings);
    bench.run(&["bulk", "some.jsonl", "--config", "small.toml", "--journal", "j", "--out", "o"]).expect(0, &[]);
    let directory = bench.path("j");
    let last = segments(&directory).unwrap().1;
    assert!(last >= 2, "{last} {:?}", fs::metadata(segment_path(&directory, last)).map(|m| m.len()));
    let mut reader = Reader::open(&directory).unwrap();
    let mut segment = 0;
    while let Some(entry) = reader.next_entry().unwrap() {
        assert!(entry.segment == segment || entry.kind == ENTRY_SETUP, "segment {} has no setup first", entry.segment);
        segment = entry.segment;
    }
    let resolver = bench.world.resolver(parallax_perf::lab::world::Perspective::ALL[1]).ip().to_string();
    let queries: [&[&str]; 4] = [&[], &["--address", &resolver], &["--method", "caa"], &["--corroborated"]];
    let answers = || {
        queries.map(|query| {
            let ended = bench.run(&[&["journal", "find", "j"], query].concat());
            ended.expect(0, &[]);
            assert_eq!(ended.err, "");
            ended.out
        })
    };
    // As the engine left it, then without any, then with all.
    let first = answers();
    (1..=last).for_each(|segment| drop(fs::remove_file(index_path(&directory, segment))));
    assert_eq!(answers(), first);
    let made = bench.run(&["journal", "index", "j", "--json"]).json();
    assert_eq!((made["segments"].as_u64(), made["built"].as_u64()), (Some(last - 1), Some(last - 1)));
    assert_eq!(answers(), first);
    let text = bench.run(&["journal", "index", "j"]).out;
    assert!(text.starts_with(&format!("0 of {} complete segments got an index", last - 1)), "{text}");
    bench.run(&["journal", "verify", "j"]).expect(0, &[]);

    let (status, _, errors) = parallax(&["journal", "index", "nothing-there"], &bench.path(""));
    assert!(status == Some(2) && errors.contains("nothing-there"), "{errors}");
}
