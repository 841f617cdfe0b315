//! What an incident waits for: one rare address among many records, with indexes and without.
//!
//! `cargo bench -p parallax-benches --bench incident [-- RECORDS]`. The records are small ones that differ in name and
//! address only, in segments of 16 MiB below cargo's target directory. This is no criterion bench: making the journal
//! takes far longer than asking it. Without `--bench`, as in a test run, it is done with few records.

use std::{net::IpAddr, num::NonZeroUsize, path::Path, sync::atomic::AtomicBool, time::Instant};

use parallax_benches::{checksum, decided, observation, request, rules, terms};
use parallax_engine::{
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    find::{Found, Wanted, find},
    index::build_missing,
    journal::{JournalOptions, Writer},
};
use parallax_validation::{
    check::dcv::Method,
    record::{Record, Reply, Rules},
    verdict::PerspectiveState,
};

const RECORDS: u64 = 2_000_000;
const RECORDS_FEW: u64 = 2_000;
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const COMMIT_RECORDS: u64 = 256;
/// One record in so many has the rare address; in a test run one in a hundred.
const RARE_EVERY: u64 = 100_000;
const RARE: &str = "203.113.99.99";
/// In the sample, and replaced.
const NAME: &str = "www.customer.example";
const ADDRESS: &str = "203.113.7.10:80";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let large = arguments.iter().any(|argument| argument == "--bench");
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    let records: u64 = given.unwrap_or(if large { RECORDS } else { RECORDS_FEW });
    let every = if large { RARE_EVERY } else { 100 };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo makes this directory");

    let begun = Instant::now();
    let segment_bytes_max = if large { SEGMENT_BYTES_MAX } else { SEGMENT_BYTES_MAX / 64 };
    let bytes = write(directory.path(), records, every, segment_bytes_max);
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("incident: {records} records of {bytes} octets written in {seconds:.1} s");

    let rare: IpAddr = RARE.parse().expect("an address");
    let wanted = Wanted { address: Some(rare), ..Wanted::default() };
    let without = ask(directory.path(), &wanted, threads, "without indexes");

    let begun = Instant::now();
    let built = build_missing(directory.path(), threads, &AtomicBool::new(false)).expect("a sound journal");
    let built = built.expect("nobody else is at it");
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "incident: {} indexes in {seconds:.1} s on {threads} threads, {:.0} records/s, {:.0} octets a record",
        built.built,
        built.records as f64 / seconds,
        built.bytes as f64 / built.records as f64
    );
    let with = ask(directory.path(), &wanted, threads, "with indexes");
    assert_eq!(with, without);
    assert_eq!(with.len() as u64, records / every);
    let name = format!("n{}.customer.example", records / 2);
    let wanted = Wanted { domain: Some(name), ..Wanted::default() };
    assert_eq!(ask(directory.path(), &wanted, threads, "for a name, with indexes").len(), 1);
    checksum("incident/found", &with);
}

fn ask(directory: &Path, wanted: &Wanted, threads: NonZeroUsize, how: &str) -> Vec<Found> {
    let begun = Instant::now();
    let search = find(directory, wanted, threads).expect("a sound journal");
    assert!(search.notes.is_empty(), "{:?}", search.notes);
    let (found, milliseconds) = (search.found.len(), begun.elapsed().as_secs_f64() * 1e3);
    eprintln!("incident: {how}: {found} of {} records found in {milliseconds:.1} ms", search.searched);
    search.found
}

/// Writes the journal; gives the length of a record.
fn write(directory: &Path, records: u64, every: u64, segment_bytes_max: u64) -> usize {
    let rules = rules();
    let sample = serde_json::to_string(&small(&rules)).expect("records hold only text, numbers, lists and maps");
    let parts = split(&sample);
    let (mut writer, _) = Writer::open(directory, JournalOptions { segment_bytes_max }).expect("a new journal");
    let setup = serde_json::to_vec(rules.setup()).expect("a setup holds only text, numbers and lists");
    writer.set_head(ENTRY_SETUP, &setup).expect("a setup fits");
    let mut text = String::new();
    for number in 1..=records {
        text.clear();
        let name = format!("n{number}.customer.example");
        let address = match number % every {
            0 => format!("{RARE}:80"),
            _ => format!("203.{}.{}.{}:80", 114 + number % 80, number / 80 % 256, number / 20_480 % 256),
        };
        for (literal, next) in &parts {
            text.push_str(literal);
            match next {
                Part::Name => text.push_str(&name),
                Part::Address => text.push_str(&address),
                Part::End => {}
            }
        }
        writer.append(ENTRY_RECORD, text.as_bytes()).expect("a record fits");
        if number % COMMIT_RECORDS == 0 {
            writer.commit().expect("the disk takes it");
        }
    }
    writer.commit().expect("the disk takes it");
    text.len()
}

/// The primary alone has evidence.
fn small(rules: &Rules) -> Record {
    let replies = rules.setup().perspectives.iter().enumerate().map(|(index, _)| match index {
        0 => Reply::Observed(observation(Method::Http01)),
        _ => Reply::None(PerspectiveState::TimedOut),
    });
    Record::new(rules, &terms(&request(Method::Http01)), decided(), replies.collect())
}

enum Part {
    Name,
    Address,
    End,
}

/// The sample, cut where something is put in.
fn split(sample: &str) -> Vec<(String, Part)> {
    let mut parts = Vec::new();
    let mut rest = sample;
    loop {
        let (name, address) = (rest.find(NAME), rest.find(ADDRESS));
        let (at, length, part) = match (name, address) {
            (Some(name), Some(address)) if address < name => (address, ADDRESS.len(), Part::Address),
            (Some(name), _) => (name, NAME.len(), Part::Name),
            (None, Some(address)) => (address, ADDRESS.len(), Part::Address),
            (None, None) => {
                parts.push((rest.to_owned(), Part::End));
                return parts;
            }
        };
        parts.push((rest[..at].to_owned(), part));
        rest = &rest[at + length..];
    }
}
