//! Stage `record`, made durable: serialising a record, and group commits of records of real size.
//!
//! Commits wait for the disk. The journal is written below cargo's target directory, since `/tmp` may be
//! memory; what is measured is that file system. Its kind is printed, and on one that is memory nothing is measured.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{checksum, record, rules};
use parallax_engine::journal::{JournalOptions, Reader, Writer};
use parallax_validation::record::Record;

const KIND: u8 = 1;

/// A payload as small as a late answer or a refusal without evidence.
const SMALL_BYTES: usize = 400;
/// As many as the engine commits at once.
const SMALL_BATCH: u64 = 256;

fn benches(criterion: &mut Criterion) {
    state_file_system();
    let record = record(&rules());
    let text = serialised(&record);
    let again: Record = serde_json::from_slice(&text).expect("own text");
    assert_eq!(again, record, "a record survives its text form");
    checksum("journal/serialise_record", &text);
    eprintln!("journal: a record has {} octets", text.len());

    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("serialise_record", |bencher| bencher.iter(|| serialised(black_box(&record))));
    group.sample_size(20);
    for records in [1, 64, 256] {
        group.throughput(Throughput::Elements(records));
        group.bench_function(format!("commit_{records}"), |bencher| {
            bencher.iter_custom(|batches| commit(&text, records, batches));
        });
    }
    let small = [b'x'; SMALL_BYTES];
    group.throughput(Throughput::Elements(SMALL_BATCH));
    group.bench_function(format!("commit_{SMALL_BATCH}_of_{SMALL_BYTES}_octets"), |bencher| {
        bencher.iter_custom(|batches| commit(&small, SMALL_BATCH, batches));
    });
    group.finish();
}

/// Says what file system commits wait for.
fn state_file_system() {
    let directory = std::fs::canonicalize(env!("CARGO_TARGET_TMPDIR")).expect("cargo makes this directory");
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("Linux has it");
    let of_line = |line: &str| {
        let mut parts = line.split(' ').skip(1).map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    let above = mounts.lines().filter_map(of_line).filter(|(point, _)| directory.starts_with(point));
    // Of several at one place the last hides the others.
    let (point, kind) = above.max_by_key(|(point, _)| point.len()).expect("something is mounted");
    eprintln!("journal: {} is on {kind}, mounted at {point}", directory.display());
    let only_tried = std::env::args().any(|argument| argument == "--test");
    assert!(only_tried || !["tmpfs", "ramfs"].contains(&kind.as_str()), "memory makes nothing durable");
}

fn serialised(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("records hold only text, numbers, lists and maps with text keys")
}

/// Commits `batches` times `records` entries to a new journal, and reads the first batch back.
fn commit(text: &[u8], records: u64, batches: u64) -> Duration {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo makes this directory");
    let (mut writer, _) = Writer::open(directory.path(), JournalOptions::default()).expect("a new journal");
    let start = Instant::now();
    for _ in 0..batches {
        for _ in 0..records {
            writer.append(KIND, black_box(text)).expect("a record fits");
        }
        writer.commit().expect("the disk takes it");
    }
    let elapsed = start.elapsed();
    assert_eq!((writer.committed_sequence(), writer.buffered()), (records * batches, 0));
    let mut reader = Reader::open(directory.path()).expect("a journal");
    for sequence in 1..=records {
        let entry = reader.next_entry().expect("no damage").expect("committed entries");
        assert_eq!((entry.sequence, entry.kind, entry.payload.as_slice()), (sequence, KIND, text));
        if sequence == writer.committed_sequence() {
            assert_eq!(entry.chain, writer.committed_chain());
        }
    }
    elapsed
}

criterion_group!(group, benches);
criterion_main!(group);
