//! Making indexes.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parallax_validation::record::Rules;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    Header, Index, Key,
    blocks::{BlockWriter, file_bytes},
    keys::record_keys,
    nanosecond, put_difference,
};
use crate::{
    audit::{AuditError, Item, read_item},
    corroborate::ENTRY_SETUP,
    journal::{Entry, JournalError, Place, Reader, index_path, segment_bytes, segments},
};

/// An index that cannot be made.
#[derive(Debug, Error)]
pub enum IndexError {
    /// The journal, or an entry of it.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file.
    #[error("{error} while {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// More records than an index counts.
    #[error("segment {0} has too many records for an index")]
    TooMany(u64),
}

impl From<JournalError> for IndexError {
    fn from(error: JournalError) -> Self {
        Self::Audit(error.into())
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IndexError {
    let path = path.to_owned();
    move |error| IndexError::Io { action, path, error }
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Complete segments there are.
    pub segments: u64,
    /// Of these, how many got an index now; the others had a good one.
    pub built: u64,
    /// Records in those that got one.
    pub records: u64,
    /// Octets of the new indexes.
    pub bytes: u64,
    /// Whether it ended early: it was told to stop.
    pub stopped: bool,
}

/// Makes the indexes of all complete segments that lack a good one, on `threads` threads. Gives `None` if another
/// process is at it.
///
/// # Errors
/// The first segment that cannot be read, or whose index cannot be written.
pub fn build_missing(directory: &Path, threads: NonZeroUsize, stop: &AtomicBool) -> Result<Option<Built>, IndexError> {
    let begins = Reader::open(directory)?.begins();
    let last = segments(directory)?.1;
    if begins.segment >= last {
        return Ok(Some(Built::default()));
    }
    let Some(_lock) = lock(directory)? else { return Ok(None) };
    let next = AtomicU64::new(begins.segment);
    let total = Mutex::new(Built { segments: last.saturating_sub(begins.segment), ..Built::default() });
    let failure: Mutex<Option<(u64, IndexError)>> = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let work = || {
        loop {
            // A counter only: nothing else hangs on its order.
            let segment = next.fetch_add(1, Ordering::Relaxed);
            if segment >= last || failed.load(Ordering::Relaxed) {
                return;
            }
            match build_if_missing(directory, segment, stop) {
                Ok(None) => {}
                Ok(Some(built)) => {
                    let mut total = total.lock().expect("no holder panics");
                    total.built += built.built;
                    total.records += built.records;
                    total.bytes += built.bytes;
                    total.stopped |= built.stopped;
                    if built.stopped {
                        return;
                    }
                }
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    let mut first = failure.lock().expect("no holder panics");
                    if first.as_ref().is_none_or(|(earlier, _)| segment < *earlier) {
                        *first = Some((segment, error));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get() {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().expect("no holder panics") {
        Some((_, error)) => Err(error),
        None => Ok(Some(total.into_inner().expect("no holder panics"))),
    }
}

/// One process at a time, so that no two write to the same file.
fn lock(directory: &Path) -> Result<Option<File>, IndexError> {
    let path = directory.join("index.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(io_error("opening", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(io_error("locking", &path)(error.into())),
    }
}

fn build_if_missing(directory: &Path, segment: u64, stop: &AtomicBool) -> Result<Option<Built>, IndexError> {
    let place = Place::of_segment(directory, segment)?;
    if matches!(Index::open(directory, place)?, Some(Ok(_))) {
        return Ok(None);
    }
    let Some(draft) = Draft::of(directory, place, stop)? else {
        return Ok(Some(Built { stopped: true, ..Built::default() }));
    };
    let records = draft.rows.len() as u64;
    let bytes = draft.write(directory)?;
    Ok(Some(Built { built: 1, records, bytes, ..Built::default() }))
}

/// The contents of an index.
struct Draft {
    place: Place,
    after: Place,
    segment_bytes: u64,
    setups: Vec<u64>,
    /// Offset and permission in one, and when it was decided.
    rows: Vec<(u64, i64)>,
    postings: HashMap<Key, Posting>,
}

#[derive(Default)]
struct Posting {
    last: u32,
    bytes: Vec<u8>,
}

/// Setups of the segment at hand.
#[derive(Default)]
struct Known {
    texts: HashSet<[u8; 32]>,
    rules: HashMap<String, Rules>,
}

impl Draft {
    /// Reads a segment, and verifies it. Gives `None` if it is told to stop.
    fn of(directory: &Path, place: Place, stop: &AtomicBool) -> Result<Option<Self>, IndexError> {
        let mut draft = Draft {
            place,
            after: Place::of_segment(directory, place.segment + 1)?,
            segment_bytes: segment_bytes(directory, place.segment)?,
            setups: Vec::new(),
            rows: Vec::new(),
            postings: HashMap::new(),
        };
        let mut known = Known::default();
        let mut reader = Reader::at(directory, place);
        let mut keys = Vec::new();
        // The reader itself checks that the segment after this one goes on where this one ends.
        while let Some(entry) = reader.next_entry()?.filter(|entry| entry.segment == place.segment) {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            draft.take(&entry, &mut known, &mut keys)?;
        }
        Ok(Some(draft))
    }

    fn take(&mut self, entry: &Entry, known: &mut Known, keys: &mut Vec<Key>) -> Result<(), IndexError> {
        if entry.kind == ENTRY_SETUP && !known.texts.insert(Sha256::digest(&entry.payload).into()) {
            return Ok(());
        }
        match read_item(entry)? {
            Item::Setup(setup) => {
                self.setups.push(entry.offset);
                // One that cannot be used explains no record; so does a search see it.
                if let Ok(rules) = setup.rules() {
                    known.rules.insert(rules.digest().to_owned(), rules);
                }
            }
            Item::Record(record) => {
                let row = u32::try_from(self.rows.len()).map_err(|_| IndexError::TooMany(entry.segment))?;
                keys.clear();
                record_keys(&record, known.rules.get(&record.setup), keys);
                keys.sort_unstable();
                keys.dedup();
                for key in keys.iter() {
                    let posting = self.postings.entry(*key).or_default();
                    put_difference(&mut posting.bytes, row - posting.last);
                    posting.last = row;
                }
                let permitted = u64::from(record.permits());
                self.rows.push((entry.offset << 1 | permitted, nanosecond(record.decided)));
            }
            Item::Late(_) | Item::Trial(_) | Item::Rejected(_) | Item::Removed(_) => {}
        }
        Ok(())
    }

    fn header(&self) -> Header {
        let decided = || self.rows.iter().map(|(_, decided)| *decided);
        Header {
            place: self.place,
            chain_after: self.after.chain,
            segment_bytes: self.segment_bytes,
            entries: self.after.sequence.saturating_sub(self.place.sequence),
            rows: self.rows.len() as u64,
            setups: self.setups.len() as u64,
            keys: self.postings.len() as u64,
            posting_bytes: self.postings.values().map(|posting| posting.bytes.len() as u64).sum(),
            decided_min: decided().min().unwrap_or(0),
            decided_max: decided().max().unwrap_or(0),
        }
    }

    /// Writes it beside its place, and puts it there once it is on disk. Gives its length.
    fn write(self, directory: &Path) -> Result<u64, IndexError> {
        let path = index_path(directory, self.place.segment);
        let draft = path.with_extension("index-draft");
        let file = File::create(&draft).map_err(io_error("creating", &draft))?;
        let bytes = self.header().layout().and_then(|layout| file_bytes(layout.end));
        let bytes = bytes.ok_or(IndexError::TooMany(self.place.segment))?;
        let written = self.put(BufWriter::with_capacity(1 << 18, file)).and_then(|out| {
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(directory)?.sync_all()
        });
        if written.is_err() {
            // It is no index yet, and the first error matters.
            let _ = fs::remove_file(&draft);
        }
        written.map_err(io_error("writing", &path)).map(|()| bytes)
    }

    fn put<W: Write>(self, out: W) -> io::Result<W> {
        let mut out = BlockWriter::new(out);
        out.put(&self.header().encode())?;
        for offset in &self.setups {
            out.put(&offset.to_le_bytes())?;
        }
        for (offset, decided) in &self.rows {
            out.put(&offset.to_le_bytes())?;
            out.put(&decided.to_le_bytes())?;
        }
        let mut postings: Vec<(Key, Vec<u8>)> =
            self.postings.into_iter().map(|(key, posting)| (key, posting.bytes)).collect();
        postings.sort_unstable_by_key(|(key, _)| *key);
        let mut begin = 0_u64;
        for (key, bytes) in &postings {
            out.put(&key.to_le_bytes())?;
            out.put(&begin.to_le_bytes())?;
            begin += bytes.len() as u64;
        }
        for (_, bytes) in &postings {
            out.put(bytes)?;
        }
        out.finish()
    }
}
