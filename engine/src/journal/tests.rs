use std::fs::{self, File, OpenOptions};
use std::path::Path;

use tempfile::TempDir;

use super::frame::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, chain_next, frame_crc};
use super::*;

type Written = Vec<(u64, u8, Vec<u8>)>;

fn options(segment_bytes_max: u64) -> JournalOptions {
    JournalOptions { segment_bytes_max }
}

fn open(directory: &Path, segment_bytes_max: u64) -> (Writer, Recovery) {
    Writer::open(directory, options(segment_bytes_max)).unwrap()
}

fn last_segment(directory: &Path) -> Result<u64, JournalError> {
    segments(directory).map(|(_, last)| last)
}

fn payload(number: u64) -> Vec<u8> {
    format!("{{\"n\":{number},\"pad\":\"{}\"}}", "x".repeat((number * 7 % 40) as usize)).into_bytes()
}

/// Writes `count` entries, `batch` to a commit.
fn fill(writer: &mut Writer, count: u64, batch: u64) -> Written {
    let mut written = Written::new();
    for number in 1..=count {
        let payload = payload(number);
        let kind = (number % 5) as u8;
        let sequence = writer.append(kind, &payload).unwrap();
        written.push((sequence, kind, payload));
        if number % batch == 0 {
            writer.commit().unwrap();
        }
    }
    writer.commit().unwrap();
    written
}

fn read(directory: &Path) -> Result<(Written, Option<Cut>), JournalError> {
    let mut reader = Reader::open(directory)?;
    let mut found = Written::new();
    let mut chain = CHAIN_START;
    while let Some(entry) = reader.next_entry()? {
        chain = chain_next(&chain, entry.sequence, entry.kind, &entry.payload);
        assert_eq!(chain, entry.chain);
        found.push((entry.sequence, entry.kind, entry.payload));
    }
    Ok((found, reader.torn_tail()))
}

/// Copies a journal, to memory if possible: thousands of copies are synced.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

fn truncate(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn is_damage<T>(result: &Result<T, JournalError>) -> bool {
    matches!(result, Err(JournalError::Damaged { .. } | JournalError::Version { .. }))
}

/// The frames of a segment: offset and length.
fn frames(directory: &Path, segment: u64) -> Vec<(usize, usize)> {
    let mut reader = Reader::open(directory).unwrap();
    let mut frames = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.segment == segment {
            frames.push((entry.offset as usize, FRAME_HEADER_BYTES + entry.payload.len()));
        }
    }
    frames
}

#[test]
fn round_trip_over_segments_and_reopenings() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b/journal");
    let (mut writer, recovery) = open(&path, 1000);
    assert_eq!(recovery, Recovery { next_sequence: 1, cut: None });
    assert_eq!(writer.committed_sequence(), 0);
    writer.commit().unwrap();
    let mut all = fill(&mut writer, 50, 3);
    assert_eq!(writer.committed_sequence(), 50);
    assert_eq!(writer.buffered(), 0);
    let chain = writer.committed_chain();
    writer.append(9, b"never committed").unwrap();
    assert_eq!(writer.buffered(), FRAME_HEADER_BYTES + 15);
    drop(writer);

    let (mut writer, recovery) = open(&path, 1000);
    assert_eq!(recovery, Recovery { next_sequence: 51, cut: None });
    assert_eq!(writer.committed_chain(), chain);
    assert_eq!(writer.append(7, b"").unwrap(), 51);
    all.push((51, 7, Vec::new()));
    writer.commit().unwrap();
    assert!(last_segment(&path).unwrap() > 4);
    for segment in 1..last_segment(&path).unwrap() {
        let length = fs::metadata(segment_path(&path, segment)).unwrap().len();
        assert!((1000..1000 + 3 * 150).contains(&length), "{segment}: {length}");
    }
    assert_eq!(read(&path).unwrap(), (all, None));
}

#[test]
fn large_payloads_and_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), SEGMENT_BYTES_MAX);
    let large = vec![0xa5; FRAME_PAYLOAD_BYTES_MAX];
    assert!(matches!(writer.append(1, &[&large[..], b"x"].concat()), Err(JournalError::PayloadTooLarge { .. })));
    let mut count = 0;
    while writer.append(1, &large).is_ok() {
        count += 1;
    }
    assert!(matches!(writer.append(1, &large), Err(JournalError::BatchFull { .. })));
    writer.commit().unwrap();
    assert_eq!(writer.append(1, b"small").unwrap(), count + 1);
    writer.commit().unwrap();
    let (found, torn) = read(directory.path()).unwrap();
    assert_eq!(found.len() as u64, count + 1);
    assert!(found[..count as usize].iter().all(|entry| entry.2 == large));
    assert_eq!(torn, None);
}

#[test]
fn a_kill_at_any_byte_loses_nothing_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 1000);
    let written = fill(&mut writer, 24, 2);
    drop(writer);
    let last = last_segment(directory.path()).unwrap();
    assert!(last >= 2);
    // Cut from the end of the last segment down through the one before, as if
    // its successor had not been created yet.
    let mut cuts = 0;
    for segment in [last, last - 1] {
        let file = segment_path(directory.path(), segment);
        let frames = frames(directory.path(), segment);
        let before = written.len() - (segment..=last).map(|s| self::frames(directory.path(), s).len()).sum::<usize>();
        for length in (0..=fs::metadata(&file).unwrap().len()).rev() {
            let copy = copy(directory.path());
            for later in segment + 1..=last {
                fs::remove_file(segment_path(copy.path(), later)).unwrap();
            }
            truncate(&segment_path(copy.path(), segment), length);
            let complete: Vec<_> = frames.iter().filter(|(at, bytes)| (at + bytes) as u64 <= length).collect();
            let mut expected = written[..before + complete.len()].to_vec();
            let clean = complete
                .last()
                .map_or(if length >= SEGMENT_HEADER_BYTES as u64 { SEGMENT_HEADER_BYTES } else { 0 }, |(at, bytes)| {
                    at + bytes
                }) as u64;
            let cut = (length > clean).then_some(Cut { segment, offset: clean, bytes: length - clean });

            assert_eq!(read(copy.path()).unwrap(), (expected.clone(), cut), "{segment} {length}");
            let (mut writer, recovery) = open(copy.path(), 1000);
            let next_sequence = expected.len() as u64 + 1;
            assert_eq!(recovery, Recovery { next_sequence, cut });
            assert_eq!(read(copy.path()).unwrap(), (expected.clone(), None));
            for entry in fill(&mut writer, 3, 1) {
                expected.push(entry);
            }
            assert_eq!(expected.last().unwrap().0, next_sequence + 2);
            drop(writer);
            assert_eq!(read(copy.path()).unwrap(), (expected, None));
            assert_eq!(open(copy.path(), 1000).1.cut, None);
            cuts += 1;
        }
    }
    assert!(cuts > 600, "{cuts}");
}

#[test]
fn a_zero_filled_tail_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    let written = fill(&mut writer, 4, 1);
    drop(writer);
    let file = segment_path(directory.path(), 1);
    let offset = fs::metadata(&file).unwrap().len();
    truncate(&file, offset + 5000);
    let cut = Some(Cut { segment: 1, offset, bytes: 5000 });
    assert_eq!(read(directory.path()).unwrap(), (written, cut));
    assert_eq!(open(directory.path(), 100_000).1, Recovery { next_sequence: 5, cut });

    // A successor whose header never reached the disk.
    fs::write(segment_path(directory.path(), 2), [0; SEGMENT_HEADER_BYTES]).unwrap();
    let cut = Some(Cut { segment: 2, offset: 0, bytes: SEGMENT_HEADER_BYTES as u64 });
    assert_eq!(read(directory.path()).unwrap().1, cut);
    assert_eq!(open(directory.path(), 100_000).1, Recovery { next_sequence: 5, cut });
    // One with frames cannot be.
    fs::write(segment_path(directory.path(), 2), [0; SEGMENT_HEADER_BYTES + 1]).unwrap();
    assert!(is_damage(&read(directory.path())));
    assert!(is_damage(&Writer::open(directory.path(), JournalOptions::default())));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 400);
    let written = fill(&mut writer, 8, 1);
    drop(writer);
    let last = last_segment(directory.path()).unwrap();
    assert!(last >= 2);
    let frames = frames(directory.path(), last);
    assert!(frames.len() >= 2);
    let (last_frame, _) = *frames.last().unwrap();
    let work = copy(directory.path());
    for segment in 1..=last {
        let file = segment_path(work.path(), segment);
        let original = fs::read(&file).unwrap();
        for at in 0..original.len() {
            let flips = (0..8).map(|bit| 1 << bit).chain([0xff]);
            for flip in flips {
                let mut bytes = original.clone();
                bytes[at] ^= flip;
                fs::write(&file, &bytes).unwrap();
                let result = read(work.path());
                if segment == last && at >= last_frame {
                    let (found, torn) = result.unwrap();
                    assert_eq!(found, written[..written.len() - 1]);
                    assert_eq!(torn.map(|cut| cut.offset), Some(last_frame as u64));
                } else {
                    assert!(is_damage(&result), "{segment} {at} {flip:#x}: {result:?}");
                }
                if segment == last && at < last_frame {
                    // And the writer leaves it alone.
                    let result = Writer::open(work.path(), options(400)).map(drop);
                    assert!(is_damage(&result), "{at} {flip:#x}: {result:?}");
                    assert_eq!(fs::read(&file).unwrap(), bytes);
                }
            }
        }
        fs::write(&file, &original).unwrap();
    }
}

#[test]
fn damage_names_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    fill(&mut writer, 5, 1);
    drop(writer);
    let frames = frames(directory.path(), 1);
    let file = segment_path(directory.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[frames[2].0 + FRAME_HEADER_BYTES] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let mut reader = Reader::open(directory.path()).unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().sequence, 1);
    assert_eq!(reader.next_entry().unwrap().unwrap().sequence, 2);
    let error = reader.next_entry().unwrap_err();
    let JournalError::Damaged { offset, sequence, segment, path, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!((*offset, *sequence, *segment), (frames[2].0 as u64, 3, 1));
    assert_eq!(path, &file);
    let text = error.to_string();
    assert!(text.contains(&format!("follows at byte {}", frames[3].0)), "{text}");
    assert_eq!(reader.next_entry().unwrap_err().to_string(), text);
}

#[test]
fn a_valid_checksum_does_not_hide_a_forgery() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    fill(&mut writer, 3, 1);
    drop(writer);
    let file = segment_path(directory.path(), 1);
    let original = fs::read(&file).unwrap();
    for (at, length) in frames(directory.path(), 1) {
        for changed in [FRAME_HEADER_BYTES, 4, 5, 8, 20] {
            let mut bytes = original.clone();
            let frame = &mut bytes[at..at + length];
            frame[changed] ^= 0x10;
            let (header, payload) = frame.split_at(FRAME_HEADER_BYTES);
            let crc = frame_crc(header, payload);
            frame[16..20].copy_from_slice(&crc.to_le_bytes());
            fs::write(&file, &bytes).unwrap();
            assert!(is_damage(&read(directory.path())), "{at} {changed}");
            assert!(is_damage(&Writer::open(directory.path(), options(100_000)).map(drop)));
        }
    }
}

#[test]
fn swapped_frames_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    for _ in 0..4 {
        writer.append(1, b"same length").unwrap();
    }
    writer.commit().unwrap();
    drop(writer);
    let file = segment_path(directory.path(), 1);
    let frames = frames(directory.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    let (head, tail) = bytes.split_at_mut(frames[3].0);
    head[frames[2].0..].swap_with_slice(&mut tail[..frames[3].1]);
    fs::write(&file, &bytes).unwrap();
    assert!(is_damage(&read(directory.path())));
    assert!(is_damage(&Writer::open(directory.path(), options(100_000)).map(drop)));
}

#[test]
fn missing_swapped_and_shortened_segments_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 300);
    fill(&mut writer, 12, 1);
    drop(writer);
    assert!(last_segment(directory.path()).unwrap() >= 4);
    let two = frames(directory.path(), 2);

    for missing in [1, 2] {
        let work = copy(directory.path());
        fs::remove_file(segment_path(work.path(), missing)).unwrap();
        for error in [read(work.path()).unwrap_err(), Writer::open(work.path(), options(300)).map(drop).unwrap_err()] {
            match (missing, error) {
                (1, JournalError::MissingFront { first: 2, .. })
                | (2, JournalError::MissingSegment { segment: 2, .. }) => {}
                (_, error) => panic!("{missing}: {error}"),
            }
        }
    }

    let work = copy(directory.path());
    let (a, b) = (segment_path(work.path(), 2), segment_path(work.path(), 3));
    let bytes = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(&a, &bytes.1).unwrap();
    fs::write(&b, &bytes.0).unwrap();
    assert!(is_damage(&read(work.path())));
    assert!(is_damage(&Writer::open(work.path(), options(300)).map(drop)));

    // Whole and partial frames missing at the end of a segment in the middle.
    for length in SEGMENT_HEADER_BYTES..two.last().map(|(at, bytes)| at + bytes).unwrap() {
        let work = copy(directory.path());
        truncate(&segment_path(work.path(), 2), length as u64);
        assert!(is_damage(&read(work.path())), "{length}");
    }

    // A segment of another journal, its header right in all but the chain.
    let work = copy(directory.path());
    let file = segment_path(work.path(), 2);
    let mut bytes = fs::read(&file).unwrap();
    let first_sequence = frames(directory.path(), 1).len() as u64 + 1;
    let header = SegmentHeader { segment: 2, first_sequence, chain: [7; 32] };
    bytes[..SEGMENT_HEADER_BYTES].copy_from_slice(&header.encode());
    fs::write(&file, &bytes).unwrap();
    let error = read(work.path()).unwrap_err().to_string();
    assert!(error.contains("hash chain"), "{error}");

    let work = copy(directory.path());
    File::create(work.path().join("12.journal")).unwrap();
    assert!(matches!(read(work.path()), Err(JournalError::StrayFile { .. })));
}

#[test]
fn a_torn_header_behind_a_damaged_segment_is_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    fill(&mut writer, 3, 1);
    drop(writer);
    let file = segment_path(directory.path(), 1);
    truncate(&file, fs::metadata(&file).unwrap().len() - 1);
    File::create(segment_path(directory.path(), 2)).unwrap();
    assert!(is_damage(&read(directory.path())));
    assert!(is_damage(&Writer::open(directory.path(), options(100_000)).map(drop)));
}

#[test]
fn a_second_writer_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, _) = open(directory.path(), 1000);
    let error = Writer::open(directory.path(), options(1000)).map(drop).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains(&directory.path().display().to_string()), "{text}");
    assert!(text.contains("another process has it"), "{text}");
    drop(writer);
    open(directory.path(), 1000);
}

#[test]
fn a_reader_follows_a_writer() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 300);
    let mut reader = Reader::open(directory.path()).unwrap();
    for number in 1..=30 {
        assert_eq!(reader.next_entry().unwrap(), None);
        writer.append(1, &payload(number)).unwrap();
        writer.append(2, &payload(number)).unwrap();
        assert_eq!(reader.next_entry().unwrap(), None);
        writer.commit().unwrap();
        for kind in [1, 2] {
            let entry = reader.next_entry().unwrap().unwrap();
            assert_eq!((entry.kind, entry.payload), (kind, payload(number)));
        }
    }
    drop(writer);
    // Through a torn tail and its recovery.
    let last = last_segment(directory.path()).unwrap();
    let file = segment_path(directory.path(), last);
    let length = fs::metadata(&file).unwrap().len();
    truncate(&file, length + 10);
    assert_eq!(reader.next_entry().unwrap(), None);
    assert_eq!(reader.torn_tail(), Some(Cut { segment: last, offset: length, bytes: 10 }));
    let (mut writer, _) = open(directory.path(), 300);
    writer.append(3, b"on").unwrap();
    writer.commit().unwrap();
    assert_eq!(reader.next_entry().unwrap().unwrap().payload, b"on");
    assert_eq!(reader.torn_tail(), None);
}

#[test]
fn a_failed_sync_poisons() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    let written = fill(&mut writer, 3, 1);
    // Takes every write, but cannot be synced, nor truncated.
    writer.replace_file(OpenOptions::new().write(true).open("/dev/null").unwrap());
    writer.append(1, b"lost").unwrap();
    let error = writer.commit().unwrap_err();
    let JournalError::Commit { action: "syncing", committed_sequence: 3, rollback: Some(_), .. } = &error else {
        panic!("{error:?}");
    };
    let text = error.to_string();
    assert!(text.contains("nothing after sequence 3 was released"), "{text}");
    for later in [writer.append(1, b"x").map(drop), writer.commit()] {
        let Err(JournalError::Poisoned { cause }) = later else { panic!("{later:?}") };
        assert_eq!(cause.to_string(), text);
    }
    assert_eq!((writer.committed_sequence(), writer.buffered()), (3, 0));
    drop(writer);
    assert_eq!(read(directory.path()).unwrap(), (written, None));
    assert_eq!(open(directory.path(), 100_000).1, Recovery { next_sequence: 4, cut: None });
}

#[test]
fn a_successor_that_exists_already_poisons() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100);
    fill(&mut writer, 1, 1);
    fs::write(segment_path(directory.path(), 2), b"not ours").unwrap();
    writer.append(1, b"lost").unwrap();
    let error = writer.commit().unwrap_err();
    assert!(matches!(error, JournalError::Commit { action: "creating", .. }), "{error:?}");
    assert!(matches!(writer.commit(), Err(JournalError::Poisoned { .. })));
    drop(writer);
    assert!(is_damage(&Writer::open(directory.path(), options(100)).map(drop)));
}

#[test]
fn a_concurrent_reader_never_takes_a_write_for_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 20_000);
    let mut reader = Reader::open(directory.path()).unwrap();
    const COUNT: u64 = 4000;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 1..=COUNT {
                let payload = number.to_string().repeat(300);
                assert_eq!(writer.append(1, payload.as_bytes()).unwrap(), number);
                if number % 16 == 0 {
                    writer.commit().unwrap();
                }
            }
            writer.commit().unwrap();
        });
        let mut next = 1;
        while next <= COUNT {
            match reader.next_entry().unwrap() {
                None => std::thread::yield_now(),
                Some(entry) => {
                    assert_eq!(entry.sequence, next);
                    assert_eq!(entry.payload, next.to_string().repeat(300).into_bytes());
                    next += 1;
                }
            }
        }
    });
    assert!(last_segment(directory.path()).unwrap() > 10);
}

const HEAD: u8 = 100;

type Plain = (u8, Vec<u8>);

/// The entries of each segment that is there, as kind and payload.
fn by_segment(directory: &Path) -> Vec<(u64, Vec<Plain>)> {
    let mut reader = Reader::open(directory).unwrap();
    let mut found: Vec<(u64, Vec<Plain>)> = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        match found.last_mut() {
            Some((segment, entries)) if *segment == entry.segment => entries.push((entry.kind, entry.payload)),
            _ => found.push((entry.segment, vec![(entry.kind, entry.payload)])),
        }
    }
    found
}

fn note() -> RemovalNote {
    let at = "2026-11-26T00:00:00Z".parse().unwrap();
    RemovalNote { records: 3, oldest: Some(at), newest: Some(at), at, why: "a test".to_owned() }
}

#[test]
fn every_segment_begins_with_the_head() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 500);
    writer.set_head(HEAD, b"first").unwrap();
    let written = fill(&mut writer, 20, 2);
    // Sequences given are those that are found.
    let (found, _) = read(directory.path()).unwrap();
    for entry in &written {
        assert!(found.contains(entry), "{}", entry.0);
    }
    assert_eq!(found.iter().filter(|entry| entry.1 != HEAD).count(), written.len());
    let segments = by_segment(directory.path());
    assert!(segments.len() >= 4);
    for (segment, entries) in &segments {
        assert_eq!(entries[0], (HEAD, b"first".to_vec()), "{segment}");
        assert_eq!(entries.iter().filter(|entry| entry.0 == HEAD).count(), 1, "{segment}");
    }
    // Another head counts from now on; a writer opened anew has none.
    writer.set_head(HEAD, b"second").unwrap();
    fill(&mut writer, 10, 2);
    drop(writer);
    let later = by_segment(directory.path()).split_off(segments.len());
    assert!(later.len() >= 2 && later.iter().all(|(_, entries)| entries[0] == (HEAD, b"second".to_vec())));
    let (mut writer, _) = open(directory.path(), 500);
    fill(&mut writer, 10, 2);
    assert_ne!(by_segment(directory.path()).pop().unwrap().1[0].0, HEAD);
    assert!(matches!(writer.set_head(KIND_REMOVED, b""), Err(JournalError::ReservedKind { .. })));
    assert!(matches!(writer.append(KIND_REMOVED, b""), Err(JournalError::ReservedKind { .. })));
}

#[test]
fn a_kill_amid_the_head_of_a_new_segment_is_a_torn_tail() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 500);
    writer.set_head(HEAD, b"the head").unwrap();
    fill(&mut writer, 9, 1);
    drop(writer);
    let last = last_segment(directory.path()).unwrap();
    let file = segment_path(directory.path(), last);
    let head = frames(directory.path(), last)[0];
    assert_eq!(head.0, SEGMENT_HEADER_BYTES);
    let (before, _) = read(directory.path()).unwrap();
    let before: Written = before[..before.len() - frames(directory.path(), last).len()].to_vec();
    for length in head.0..=head.0 + head.1 {
        let work = copy(directory.path());
        truncate(&segment_path(work.path(), last), length as u64);
        let whole = length == head.0 + head.1;
        let (mut writer, recovery) = open(work.path(), 500);
        assert_eq!(recovery.cut.is_some(), length > head.0 && !whole, "{length}");
        assert_eq!(recovery.next_sequence, before.len() as u64 + 1 + u64::from(whole));
        writer.set_head(HEAD, b"the head").unwrap();
        fill(&mut writer, 9, 1);
        drop(writer);
        assert_eq!(read(work.path()).unwrap().0[..before.len()], before);
        let segments = by_segment(work.path());
        assert!(segments.len() as u64 > last);
        assert!(segments.iter().all(|(_, entries)| entries[0] == (HEAD, b"the head".to_vec())), "{length}");
    }
    assert!(file.exists());
}

/// A journal with a head, and what is in it.
fn with_head(segment_bytes_max: u64, entries: u64) -> (TempDir, Writer, Written) {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), segment_bytes_max);
    writer.set_head(HEAD, b"head").unwrap();
    fill(&mut writer, entries, 1);
    let (written, _) = read(directory.path()).unwrap();
    (directory, writer, written)
}

#[test]
fn removed_segments_are_on_record_and_the_rest_stands_on_its_own() {
    let (directory, mut writer, written) = with_head(400, 30);
    let last = last_segment(directory.path()).unwrap();
    assert!(last >= 5);
    for before in [0, 1, last + 1, u64::MAX] {
        let error = writer.remove_before(before, note()).unwrap_err();
        assert!(matches!(error, JournalError::NotRemovable { first: 1, .. }), "{error}");
    }
    for segment in 1..=last {
        fs::write(index_path(directory.path(), segment), b"index").unwrap();
    }
    let place = Place::of_segment(directory.path(), 3).unwrap();
    writer.append(9, b"not committed yet").unwrap();
    let removed = writer.remove_before(3, note()).unwrap();
    assert_eq!((removed.from, removed.to, removed.sequence), (1, 2, place.sequence));
    assert_eq!(segments(directory.path()).unwrap().0, 3);
    for segment in 1..=last {
        assert_eq!(index_path(directory.path(), segment).exists(), segment >= 3, "{segment}");
    }
    let reader = Reader::open(directory.path()).unwrap();
    assert_eq!((reader.begins(), reader.removed()), (place, Some(&removed)));
    let remaining = |directory: &Path| -> Written {
        let mut reader = Reader::open(directory).unwrap();
        let mut found = Written::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            found.push((entry.sequence, entry.kind, entry.payload));
        }
        found
    };
    let found = remaining(directory.path());
    assert!(found.starts_with(&written[place.sequence as usize - 1..]));
    assert_eq!(found.last().unwrap().1, KIND_REMOVED);
    assert!(found.iter().any(|entry| entry.2 == b"not committed yet"));

    // Again, by a writer that has to find out, over segments that begin later.
    drop(writer);
    let (mut writer, _) = open(directory.path(), 400);
    assert_eq!((writer.removed(), writer.segments().0), (Some(&removed), 3));
    writer.set_head(HEAD, b"head").unwrap();
    fill(&mut writer, 20, 1);
    let newest = by_segment(directory.path()).pop().unwrap();
    assert!(newest.0 > last);
    assert_eq!((newest.1[0].0, newest.1[1].0), (HEAD, KIND_REMOVED));
    let again = writer.remove_before(newest.0, note()).unwrap();
    assert_eq!((again.from, again.to, again.earlier_records), (3, newest.0 - 1, 3));
    drop(writer);
    let (writer, _) = open(directory.path(), 400);
    assert_eq!(writer.removed(), Some(&again));
    assert_eq!(by_segment(directory.path())[0].0, newest.0);
    let text = again.to_string();
    assert!(text.contains("segments 3 to") && text.contains("by a test, and 3 records before"), "{text}");
}

#[test]
fn an_interrupted_removal_is_carried_to_its_end() {
    let (directory, mut writer, _) = with_head(400, 30);
    let full = copy(directory.path());
    let removed = writer.remove_before(5, note()).unwrap();
    drop(writer);
    let after = by_segment(directory.path());
    // `left` is the first segment that was not yet deleted.
    for left in 1..=5 {
        let work = copy(directory.path());
        for segment in left..5 {
            fs::copy(segment_path(full.path(), segment), segment_path(work.path(), segment)).unwrap();
            fs::write(index_path(work.path(), segment), b"index").unwrap();
        }
        let reader = Reader::open(work.path()).unwrap();
        let begins = if left == 1 { 1 } else { 5 };
        assert_eq!(reader.begins().segment, begins, "{left}");
        assert_eq!(by_segment(work.path()).last(), after.last());
        let (writer, recovery) = open(work.path(), 400);
        assert_eq!(recovery.cut, None);
        assert_eq!((writer.removed(), writer.segments().0), (Some(&removed), 5));
        assert_eq!(segments(work.path()).unwrap().0, 5, "{left}");
        assert!((1..5).all(|segment| !index_path(work.path(), segment).exists()));
        drop(writer);
        assert_eq!(by_segment(work.path()), after);
    }
}

#[test]
fn a_removal_whose_files_cannot_be_deleted_is_completed_later() {
    for reopened in [false, true] {
        let (directory, mut writer, _) = with_head(400, 30);
        // The second segment's index cannot be removed as a file.
        let obstacle = index_path(directory.path(), 2);
        fs::create_dir(&obstacle).unwrap();
        let error = writer.remove_before(4, note()).unwrap_err();
        assert!(matches!(&error, JournalError::Io { action: "removing", path, .. } if *path == obstacle), "{error}");
        assert_eq!(segments(directory.path()).unwrap().0, 2);
        assert_eq!(Reader::open(directory.path()).unwrap().begins().segment, 4);
        // Meanwhile it goes on, over a rotation.
        fill(&mut writer, 10, 1);
        assert!(matches!(writer.remove_before(6, note()), Err(JournalError::Io { action: "removing", .. })));
        fs::remove_dir(&obstacle).unwrap();
        if reopened {
            drop(writer);
            writer = open(directory.path(), 400).0;
            assert_eq!(segments(directory.path()).unwrap().0, 4);
        }
        let removed = writer.remove_before(6, note()).unwrap();
        assert_eq!((removed.from, removed.to, removed.earlier_records), (4, 5, 3));
        drop(writer);
        assert_eq!(segments(directory.path()).unwrap().0, 6);
        assert_eq!(by_segment(directory.path())[0].0, 6);
    }
}

#[test]
fn segments_missing_without_a_removal_that_says_so_are_damage() {
    let (directory, mut writer, _) = with_head(400, 30);
    // More than is on record.
    writer.remove_before(3, note()).unwrap();
    drop(writer);
    let work = copy(directory.path());
    fs::remove_file(segment_path(work.path(), 3)).unwrap();
    for error in [
        Reader::open(work.path()).map(drop).unwrap_err(),
        Writer::open(work.path(), options(400)).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, JournalError::MissingFront { first: 4, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("the segments before 4 are missing and no removal is on record"), "{text}");
    }
    // Another segment in the place of the first.
    let other = tempfile::tempdir().unwrap();
    fill(&mut open(other.path(), 400).0, 30, 1);
    fs::copy(segment_path(other.path(), 3), segment_path(directory.path(), 3)).unwrap();
    for error in [
        Reader::open(directory.path()).map(drop).unwrap_err(),
        Writer::open(directory.path(), options(400)).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, JournalError::Damaged { segment: 3, offset: 0, .. }), "{error}");
    }
}

#[test]
fn what_is_removed_while_it_is_read_is_not_taken_for_the_end() {
    let (directory, mut writer, _) = with_head(400, 30);
    assert!(writer.segments().1 > 5);
    for read in [0, 1] {
        let work = copy(directory.path());
        let mut reader = Reader::open(work.path()).unwrap();
        for _ in 0..read {
            assert!(reader.next_entry().unwrap().is_some());
        }
        for number in 1..=4 {
            fs::remove_file(segment_path(work.path(), number)).unwrap();
        }
        let end = loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(end, Err(JournalError::Io { .. })), "{end:?}");
    }
    writer.commit().unwrap();
}

#[test]
fn what_follows_a_rotation_is_called_once_for_each() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 300);
    let (tell, told) = std::sync::mpsc::channel();
    writer.after_rotation(move |writer| {
        // The callback may write, even so much that another segment begins.
        writer.append(1, &[b'c'; 400]).unwrap();
        writer.commit().unwrap();
        tell.send((writer.segments().1, writer.committed_sequence())).unwrap();
    });
    fill(&mut writer, 20, 1);
    drop(writer);
    let told: Vec<_> = told.try_iter().collect();
    let last = last_segment(directory.path()).unwrap();
    assert!(told.len() >= 3 && told.windows(2).all(|pair| pair[0].0 < pair[1].0), "{told:?}");
    assert!(told.last().unwrap().0 >= last - 1);
    read(directory.path()).unwrap();
}

#[test]
fn single_entries_are_read_by_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(directory.path(), 100_000);
    writer.append(1, b"small").unwrap();
    writer.append(2, &vec![7; 50_000]).unwrap();
    writer.append(3, b"").unwrap();
    writer.commit().unwrap();
    let mut reader = Reader::open(directory.path()).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        entries.push(entry);
    }
    let mut frames = Frames::open(directory.path(), 1).unwrap();
    for entry in entries.iter().rev().chain(&entries) {
        assert_eq!(frames.entry_at(entry.offset).unwrap().as_ref(), Some(entry));
    }
    for offset in [0, 1, entries[0].offset + 1, entries[2].offset + 1, 1 << 40, u64::MAX] {
        assert_eq!(frames.entry_at(offset).unwrap(), None, "{offset}");
    }
    let file = segment_path(directory.path(), 1);
    let mut bytes = fs::read(&file).unwrap();
    bytes[entries[1].offset as usize + 40_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(frames.entry_at(entries[1].offset).unwrap(), None);
}
