//! Stage `record`, made durable: serialising a record, and group commits of records of real size.
//!
//! Commits wait for the disk. The journal is written below cargo's target directory, since `/tmp` may be
//! memory; what is measured is that file system.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{checksum, record, rules};
use parallax_engine::journal::{JournalOptions, Reader, Writer};
use parallax_validation::record::Record;

const KIND: u8 = 1;

fn benches(criterion: &mut Criterion) {
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
    group.finish();
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
