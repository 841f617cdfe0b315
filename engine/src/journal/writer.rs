//! Opening a journal for writing, recovery of its tail, and group commit.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, fdatasync, flock, fsync};
use rustix::io::Errno;

use super::error::{JournalError, io_error};
use super::frame::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, encode_frame};
use super::removal::{Begin, KIND_REMOVED, RemovalNote, Removed, delete, hex};
use super::segment::{SEGMENT_NUMBER_MAX, Scan, Start, Step, segment_path};
use super::{BATCH_BYTES_MAX, CHAIN_START, Cut, FRAME_PAYLOAD_BYTES_MAX, JournalOptions, Place, Recovery};

const HEADER_BYTES: u64 = SEGMENT_HEADER_BYTES as u64;
const FILE_MODE: u32 = 0o640;

/// The only writer of a journal.
///
/// Dropping it discards what was appended and not committed.
#[derive(Debug)]
pub struct Writer {
    /// Dropped before the lock is.
    rotated: Rotated,
    directory: PathBuf,
    options: JournalOptions,
    /// The first segment there is.
    first: u64,
    /// The latest removal on record.
    removed: Option<Removed>,
    /// The first entry of every segment to come.
    head: Option<(u8, Vec<u8>)>,
    /// Holds the lock as long as it is open.
    _lock: File,
    tail: Tail,
    /// Encoded frames that await a commit.
    buffer: Vec<u8>,
    /// The buffer belongs to a segment that is yet to begin.
    rotating: bool,
    /// The last sequence given out, and the chain hash after it.
    appended: Position,
    poison: Option<JournalError>,
}

/// What is called after a commit that began a segment.
#[derive(Default)]
struct Rotated(Option<Box<AfterRotation>>);

type AfterRotation = dyn FnMut(&mut Writer) + Send;

impl fmt::Debug for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Rotated(Some(_))" } else { "Rotated(None)" })
    }
}

/// The end of the journal as far as it is committed.
#[derive(Debug)]
struct Tail {
    file: File,
    path: PathBuf,
    segment: u64,
    /// The committed length of the file.
    length: u64,
    position: Position,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The last sequence, 0 before the first.
    sequence: u64,
    /// The chain hash after it.
    chain: [u8; 32],
}

impl Writer {
    /// Opens the journal in `directory` for writing, or begins one.
    ///
    /// Creates the directory if there is none and takes the lock. Of all segments
    /// but the last only the header is read; [`Reader`](super::Reader) verifies
    /// them in full. A torn tail of the last segment is cut off. What is left was
    /// synced to disk before this returns. A removal that was interrupted is
    /// carried to its end.
    ///
    /// # Errors
    ///
    /// If another writer is open, a file operation fails, or the journal is damaged.
    /// A damaged journal is left as it is.
    pub fn open(directory: &Path, options: JournalOptions) -> Result<(Writer, Recovery), JournalError> {
        create_directory(directory)?;
        let lock = lock(directory)?;
        let begin = Begin::of(directory)?;
        let (tail, cut, latest) = recover(directory, &begin)?;
        let removed = latest.or(begin.removed);
        let appended = tail.position;
        let recovery = Recovery { next_sequence: appended.sequence + 1, cut };
        let mut writer = Writer {
            rotated: Rotated::default(),
            directory: directory.to_path_buf(),
            options,
            first: begin.first.max(1),
            removed,
            head: None,
            _lock: lock,
            tail,
            buffer: Vec::new(),
            rotating: false,
            appended,
            poison: None,
        };
        writer.finish_removal()?;
        Ok((writer, recovery))
    }

    /// Buffers an entry for the next commit and returns its sequence.
    ///
    /// # Errors
    ///
    /// [`PayloadTooLarge`](JournalError::PayloadTooLarge),
    /// [`ReservedKind`](JournalError::ReservedKind),
    /// [`BatchFull`](JournalError::BatchFull) and
    /// [`Exhausted`](JournalError::Exhausted) refuse this entry only;
    /// [`Poisoned`](JournalError::Poisoned) is final.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<u64, JournalError> {
        self.check_entry(kind, payload)?;
        self.begin_segment()?;
        self.push(kind, payload)
    }

    /// Makes an entry the first one of every segment to come.
    ///
    /// In this one it is appended like any other, so that what is appended after it
    /// finds it before itself, whatever happens to earlier segments. It takes the
    /// place of the head that was set before.
    ///
    /// # Errors
    ///
    /// As of [`append`](Self::append).
    pub fn set_head(&mut self, kind: u8, payload: &[u8]) -> Result<(), JournalError> {
        self.check_entry(kind, payload)?;
        self.head = Some((kind, payload.to_vec()));
        if self.begin_segment()? { Ok(()) } else { self.push(kind, payload).map(drop) }
    }

    /// Calls `rotated` after each [`commit`](Self::commit) that began a segment; the
    /// entries of that commit are durable by then. Those that it causes itself, and
    /// those of [`remove_before`](Self::remove_before), are left out.
    pub fn after_rotation(&mut self, rotated: impl FnMut(&mut Writer) + Send + 'static) {
        self.rotated = Rotated(Some(Box::new(rotated)));
    }

    /// Removes all segments before `before` for good.
    ///
    /// What is appended and not committed is committed first.
    ///
    /// # Errors
    ///
    /// [`NotRemovable`](JournalError::NotRemovable) if there are no such segments, or
    /// none would be left; then nothing changed. An error of the commit poisons the
    /// journal, as of [`commit`](Self::commit). After any other the removal is on
    /// record, and [`finish_removal`](Self::finish_removal) or the next
    /// [`open`](Self::open) completes it.
    pub fn remove_before(&mut self, before: u64, note: RemovalNote) -> Result<Removed, JournalError> {
        // What is called after a rotation may want to remove segments too.
        let rotated = std::mem::take(&mut self.rotated);
        let removed = self.remove(before, note);
        self.rotated = rotated;
        removed
    }

    /// Deletes what is left of segments that are on record as removed; mostly nothing is.
    ///
    /// # Errors
    ///
    /// If a file cannot be deleted, or the rest does not begin as the record says.
    pub fn finish_removal(&mut self) -> Result<(), JournalError> {
        if let Some(removed) = self.removed.as_ref().filter(|removed| removed.to >= self.first) {
            removed.begins(&self.directory)?;
            delete(&self.directory, self.first, removed.to)?;
            self.first = removed.to + 1;
        }
        Ok(())
    }

    fn remove(&mut self, before: u64, note: RemovalNote) -> Result<Removed, JournalError> {
        self.commit()?;
        self.finish_removal()?;
        let (first, last) = (self.first, self.tail.segment);
        if before <= first || last < before {
            return Err(JournalError::NotRemovable { directory: self.directory.clone(), before, first, last });
        }
        let place = Place::of_segment(&self.directory, before)?;
        let removed = Removed {
            from: first,
            to: before - 1,
            sequence: place.sequence,
            chain: hex(&place.chain),
            earlier_records: self.removed.as_ref().map_or(0, |r| r.earlier_records.saturating_add(r.note.records)),
            note,
        };
        let text = serde_json::to_vec(&removed).expect("a removal holds only text and numbers");
        self.begin_segment()?;
        self.push(KIND_REMOVED, &text)?;
        self.commit()?;
        self.removed = Some(removed.clone());
        self.finish_removal()?;
        Ok(removed)
    }

    /// The latest removal of segments on record.
    pub fn removed(&self) -> Option<&Removed> {
        self.removed.as_ref()
    }

    /// The first and the last segment.
    pub fn segments(&self) -> (u64, u64) {
        (self.first, self.tail.segment)
    }

    /// The journal's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn check_entry(&self, kind: u8, payload: &[u8]) -> Result<(), JournalError> {
        self.check_poison()?;
        if kind == KIND_REMOVED {
            return Err(JournalError::ReservedKind { kind });
        }
        if payload.len() > FRAME_PAYLOAD_BYTES_MAX {
            return Err(JournalError::PayloadTooLarge { bytes: payload.len(), limit: FRAME_PAYLOAD_BYTES_MAX });
        }
        Ok(())
    }

    /// Begins a segment with its head, in the buffer, if this one is long enough and nothing awaits a commit to it.
    fn begin_segment(&mut self) -> Result<bool, JournalError> {
        let full = self.tail.length > HEADER_BYTES && self.tail.length >= self.options.segment_bytes_max;
        if !self.buffer.is_empty() || !full {
            return Ok(false);
        }
        self.rotating = true;
        if let Some((kind, payload)) = self.head.take() {
            let pushed = self.push(kind, &payload);
            self.head = Some((kind, payload));
            pushed?;
        }
        if let Some(removed) = &self.removed {
            let text = serde_json::to_vec(removed).expect("a removal holds only text and numbers");
            self.push(KIND_REMOVED, &text)?;
        }
        Ok(true)
    }

    /// Encodes an entry that was checked.
    fn push(&mut self, kind: u8, payload: &[u8]) -> Result<u64, JournalError> {
        if self.buffer.len() + FRAME_HEADER_BYTES + payload.len() > BATCH_BYTES_MAX {
            return Err(JournalError::BatchFull { bytes: self.buffer.len(), limit: BATCH_BYTES_MAX });
        }
        // One is kept back, so that the sequence expected next always exists.
        let Some(sequence) = self.appended.sequence.checked_add(1).filter(|s| *s < u64::MAX) else {
            return Err(self.exhausted("sequence", self.appended.sequence));
        };
        let chain = encode_frame(&mut self.buffer, &self.appended.chain, sequence, kind, payload);
        self.appended = Position { sequence, chain };
        Ok(sequence)
    }

    /// Writes everything buffered and waits until it is on disk.
    ///
    /// Without anything buffered it does nothing.
    ///
    /// # Errors
    ///
    /// On any error nothing appended since the last successful commit counts, and
    /// the journal is poisoned: all later calls fail with
    /// [`Poisoned`](JournalError::Poisoned). The file is truncated to its committed
    /// length if that is possible, which the error tells.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.check_poison()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let rotating = std::mem::take(&mut self.rotating);
        if let Err(error) = self.write_out(rotating) {
            self.buffer = Vec::new();
            self.appended = self.tail.position;
            self.poison = Some(error.clone());
            return Err(error);
        }
        self.tail.length += self.buffer.len() as u64;
        self.tail.position = self.appended;
        self.buffer.clear();
        if rotating && let Some(mut rotated) = self.rotated.0.take() {
            rotated(self);
            self.rotated = Rotated(Some(rotated));
        }
        Ok(())
    }

    /// How many bytes await a commit.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The last committed sequence, 0 if there is none.
    pub fn committed_sequence(&self) -> u64 {
        self.tail.position.sequence
    }

    /// The chain hash after the last committed entry.
    ///
    /// Kept elsewhere together with the sequence it shows later whether entries
    /// were removed from the end of the journal.
    pub fn committed_chain(&self) -> [u8; 32] {
        self.tail.position.chain
    }

    /// Puts another file in the place of the segment's.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.tail.file = file;
    }

    fn check_poison(&self) -> Result<(), JournalError> {
        match &self.poison {
            None => Ok(()),
            Some(cause) => Err(JournalError::Poisoned { cause: Box::new(cause.clone()) }),
        }
    }

    fn exhausted(&self, what: &'static str, last: u64) -> JournalError {
        JournalError::Exhausted { directory: self.directory.clone(), what, last }
    }

    fn write_out(&mut self, rotating: bool) -> Result<(), JournalError> {
        if rotating {
            self.rotate()?;
        }
        let tail = &self.tail;
        let written = tail
            .file
            .write_all_at(&self.buffer, tail.length)
            .map_err(|error| ("writing", error))
            .and_then(|()| fdatasync(&tail.file).map_err(|error| ("syncing", error.into())));
        written.map_err(|(action, error)| {
            // That the truncation is synced is hoped for, never relied upon: what it
            // fails to remove is found by the next recovery, valid or torn.
            let rollback = tail.file.set_len(tail.length).and_then(|()| fsync(&tail.file).map_err(io::Error::from));
            JournalError::Commit {
                action,
                path: tail.path.clone(),
                offset: tail.length,
                committed_sequence: tail.position.sequence,
                source: Arc::new(error),
                rollback: rollback.err().map(Arc::new),
            }
        })
    }

    /// Begins the next segment.
    fn rotate(&mut self) -> Result<(), JournalError> {
        let tail = &self.tail;
        if tail.segment >= SEGMENT_NUMBER_MAX {
            return Err(self.exhausted("segment number", tail.segment));
        }
        let fail = |error: JournalError| match error {
            JournalError::Io { action, path, source } => JournalError::Commit {
                action,
                offset: if path == tail.path { tail.length } else { 0 },
                path,
                committed_sequence: tail.position.sequence,
                source,
                rollback: None,
            },
            other => other,
        };
        fsync(&tail.file).map_err(io_error("syncing", &tail.path)).map_err(fail)?;
        let segment = tail.segment + 1;
        let next = Tail::create(&self.directory, segment, tail.position).map_err(fail)?;
        self.tail = next;
        Ok(())
    }
}

impl Tail {
    /// Creates a segment without frames; on disk when this returns.
    fn create(directory: &Path, segment: u64, position: Position) -> Result<Self, JournalError> {
        let path = segment_path(directory, segment);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(io_error("creating", &path))?;
        Tail::begin(directory, file, path, segment, position)
    }

    /// Writes the header of an empty segment.
    fn begin(
        directory: &Path,
        file: File,
        path: PathBuf,
        segment: u64,
        position: Position,
    ) -> Result<Self, JournalError> {
        let header = SegmentHeader { segment, first_sequence: position.sequence + 1, chain: position.chain };
        if let Err(error) = file.write_all_at(&header.encode(), 0) {
            // An empty file is as good as an incomplete header; the first error matters.
            let _ = file.set_len(0);
            return Err(io_error("writing the header of", path)(error));
        }
        fsync(&file).map_err(io_error("syncing", &path))?;
        sync_directory(directory)?;
        Ok(Tail { file, path, segment, length: HEADER_BYTES, position })
    }
}

/// Finds the end of the journal, and makes it clean and durable. Gives the latest removal in its last segment too.
fn recover(directory: &Path, begin: &Begin) -> Result<(Tail, Option<Cut>, Option<Removed>), JournalError> {
    let last = begin.last;
    let start = Position::before(begin.place);
    if last == 0 {
        return Ok((Tail::create(directory, 1, start)?, None, None));
    }

    // The last segment without its header: as far as the one before goes.
    let torn_header = {
        let mut scan = open_scan(directory, last, start)?;
        scan.may_be_torn_header() && scan.header()?.is_err()
    };
    check_headers(directory, begin.place, if torn_header { last - 1 } else { last })?;
    if torn_header {
        let before = match last {
            1 => start,
            _ => {
                let (scan, cut, _) = scan_frames(directory, last - 1, false)?;
                debug_assert!(cut.is_none(), "only the last segment may be torn");
                position(&scan)
            }
        };
        let mut scan = open_scan(directory, last, before)?;
        let cut = match scan.start(true)? {
            Start::Torn(bytes) => (bytes > 0).then_some(Cut { segment: last, offset: 0, bytes }),
            Start::Header => return Err(scan.damage("the segment header changed meanwhile")),
        };
        let path = scan.path().to_path_buf();
        let file = scan.into_file();
        file.set_len(0).map_err(io_error("truncating", &path))?;
        return Ok((Tail::begin(directory, file, path, last, before)?, cut, None));
    }

    let (scan, cut, removed) = scan_frames(directory, last, true)?;
    let (position, length) = (position(&scan), scan.offset);
    let path = scan.path().to_path_buf();
    let file = scan.into_file();
    if cut.is_some() {
        file.set_len(length).map_err(io_error("truncating", &path))?;
    }
    // Whoever wrote the entries found may have died before syncing them.
    fsync(&file).map_err(io_error("syncing", &path))?;
    sync_directory(directory)?;
    Ok((Tail { file, path, segment: last, length, position }, cut, removed))
}

impl Position {
    /// That of the entry before a segment.
    fn before(place: Place) -> Self {
        Position { sequence: place.sequence.saturating_sub(1), chain: place.chain }
    }
}

/// Where a scan has come to.
fn position(scan: &Scan) -> Position {
    Position { sequence: scan.sequence.saturating_sub(1), chain: scan.chain }
}

fn open_scan(directory: &Path, segment: u64, before: Position) -> Result<Scan, JournalError> {
    let path = segment_path(directory, segment);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(io_error("opening", &path))?;
    Scan::new(file, path, segment, before.sequence + 1, before.chain)
}

/// Checks the headers of all segments from the first that counts up to `last`, without their frames.
fn check_headers(directory: &Path, first: Place, last: u64) -> Result<(), JournalError> {
    let mut before = Position::before(first);
    for segment in first.segment..=last {
        let mut scan = open_scan(directory, segment, before)?;
        scan.only_header();
        if segment == first.segment {
            // What precedes the first is known, so that all of its header is.
            if matches!(scan.start(false)?, Start::Torn(_)) {
                return Err(scan.damage("the segment header is incomplete"));
            }
            continue;
        }
        let header = scan.header()??;
        if header.first_sequence < scan.sequence {
            return Err(scan.damage(format!(
                "the segment begins with sequence {}, before the segment that precedes it",
                header.first_sequence
            )));
        }
        before.sequence = header.first_sequence.saturating_sub(1);
    }
    Ok(())
}

/// Scans the frames of one segment, its header believed, up to its end or torn tail; gives the latest removal in it.
fn scan_frames(
    directory: &Path,
    segment: u64,
    last: bool,
) -> Result<(Scan, Option<Cut>, Option<Removed>), JournalError> {
    let unknown = Position { sequence: 0, chain: CHAIN_START };
    let mut scan = open_scan(directory, segment, unknown)?;
    let header = scan.header()??;
    scan.start_at(&header);
    let mut removed = None;
    loop {
        match scan.step()? {
            Step::Frame(entry) if entry.kind == KIND_REMOVED => removed = Some(Removed::read(&scan, &entry)?),
            Step::Frame(_) => {}
            Step::End => return Ok((scan, None, removed)),
            Step::Flaw(flaw) => {
                let cut = scan.judge(flaw, last)?;
                return Ok((scan, Some(cut), removed));
            }
        }
    }
}

fn lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(&path)
        .map_err(io_error("opening", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(JournalError::Locked { directory: directory.to_path_buf() }),
        Err(error) => Err(io_error("locking", path)(error)),
    }
}

/// Creates a directory and those above it, each durably.
fn create_directory(directory: &Path) -> Result<(), JournalError> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_directory(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => {}
        result => result.map_err(io_error("creating", directory))?,
    }
    sync_directory(parent)
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    let file = File::open(directory).map_err(io_error("opening", directory))?;
    fsync(&file).map_err(io_error("syncing", directory))
}
