use std::fs::{self, File, OpenOptions};
use std::path::Path;

use tempfile::TempDir;

use super::frame::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, chain_next, frame_crc};
use super::segment::segment_path;
use super::*;

type Written = Vec<(u64, u8, Vec<u8>)>;

fn options(segment_bytes_max: u64) -> JournalOptions {
    JournalOptions { segment_bytes_max }
}

fn open(directory: &Path, segment_bytes_max: u64) -> (Writer, Recovery) {
    Writer::open(directory, options(segment_bytes_max)).unwrap()
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
    assert!(segment::last_segment(&path).unwrap() > 4);
    for segment in 1..=segment::last_segment(&path).unwrap() {
        assert!(fs::metadata(segment_path(&path, segment)).unwrap().len() <= 1000);
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
    let last = segment::last_segment(directory.path()).unwrap();
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
    let last = segment::last_segment(directory.path()).unwrap();
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
    let (mut writer, _) = open(directory.path(), 400);
    fill(&mut writer, 12, 1);
    drop(writer);
    assert!(segment::last_segment(directory.path()).unwrap() >= 4);
    let two = frames(directory.path(), 2);

    for missing in [1, 2] {
        let work = copy(directory.path());
        fs::remove_file(segment_path(work.path(), missing)).unwrap();
        for error in [read(work.path()).unwrap_err(), Writer::open(work.path(), options(400)).map(drop).unwrap_err()] {
            let JournalError::MissingSegment { segment, .. } = error else { panic!("{error}") };
            assert_eq!(segment, missing);
        }
    }

    let work = copy(directory.path());
    let (a, b) = (segment_path(work.path(), 2), segment_path(work.path(), 3));
    let bytes = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
    fs::write(&a, &bytes.1).unwrap();
    fs::write(&b, &bytes.0).unwrap();
    assert!(is_damage(&read(work.path())));
    assert!(is_damage(&Writer::open(work.path(), options(400)).map(drop)));

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
    let last = segment::last_segment(directory.path()).unwrap();
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
    assert!(segment::last_segment(directory.path()).unwrap() > 10);
}
