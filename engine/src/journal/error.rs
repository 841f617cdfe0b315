//! The journal's errors.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that can go wrong with a journal.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file operation failed while opening or reading.
    #[error("{source} while {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },

    /// Another writer has the journal open.
    #[error(
        "the journal in {} is in use: another process has it open for writing \
         and holds the lock on {}",
        directory.display(),
        directory.join("lock").display()
    )]
    Locked {
        /// The journal's directory.
        directory: PathBuf,
    },

    /// A file is named `*.journal` without being a possible segment name.
    #[error(
        "{} does not belong in a journal: segments are named by ten digits, \
         from 0000000001.journal on",
        path.display()
    )]
    StrayFile {
        /// The file.
        path: PathBuf,
    },

    /// A segment is missing although later ones exist.
    #[error("journal segment {} is missing although segment {last} exists", path.display())]
    MissingSegment {
        /// Where the segment should be.
        path: PathBuf,
        /// Its number.
        segment: u64,
        /// The highest number found.
        last: u64,
    },

    /// The journal does not begin with segment 1, and nothing in it says why.
    #[error(
        "the journal in {} begins with segment {first}: the segments before {first} are missing \
         and no removal is on record",
        directory.display()
    )]
    MissingFront {
        /// The journal's directory.
        directory: PathBuf,
        /// The lowest number found.
        first: u64,
    },

    /// Segments that cannot be removed.
    #[error(
        "segments before {before} of the journal in {} cannot be removed: it has segments {first} to {last}, \
         of which the last one stays",
        directory.display()
    )]
    NotRemovable {
        /// The journal's directory.
        directory: PathBuf,
        /// The segment that the journal would begin with.
        before: u64,
        /// The first segment.
        first: u64,
        /// The last segment.
        last: u64,
    },

    /// The kind of an entry that only the journal itself writes.
    #[error("entries of kind {kind} are the journal's own")]
    ReservedKind {
        /// The kind.
        kind: u8,
    },

    /// A segment was written in a format this program does not know.
    #[error("journal segment {} has format version {version}, this program knows only {known}", path.display())]
    Version {
        /// The segment's file.
        path: PathBuf,
        /// The version found.
        version: u32,
        /// The version supported.
        known: u32,
    },

    /// The journal does not verify, and not because of a torn tail.
    #[error(
        "journal segment {} is damaged at byte {offset}, where sequence {sequence} was expected: \
         {detail}; damage is never repaired automatically",
        path.display()
    )]
    Damaged {
        /// The segment's file.
        path: PathBuf,
        /// The segment's number.
        segment: u64,
        /// The byte offset in the segment.
        offset: u64,
        /// The sequence that was expected there.
        sequence: u64,
        /// What does not verify.
        detail: String,
    },

    /// A payload is larger than [`FRAME_PAYLOAD_BYTES_MAX`](super::FRAME_PAYLOAD_BYTES_MAX).
    #[error("a journal payload of {bytes} bytes exceeds the limit of {limit}")]
    PayloadTooLarge {
        /// The payload's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// The entry would exceed [`BATCH_BYTES_MAX`](super::BATCH_BYTES_MAX); commit first.
    #[error("{bytes} bytes await a commit of the journal, the limit is {limit}: commit first")]
    BatchFull {
        /// The bytes buffered already.
        bytes: usize,
        /// The limit.
        limit: usize,
    },

    /// There is no further segment number or sequence.
    #[error("the journal in {} has no {what} left after {last}", directory.display())]
    Exhausted {
        /// The journal's directory.
        directory: PathBuf,
        /// What ran out.
        what: &'static str,
        /// The last one used.
        last: u64,
    },

    /// A commit failed, and the journal is poisoned.
    #[error(
        "{source} while {action} {} from byte {offset} on; \
         nothing after sequence {committed_sequence} was released{}",
        path.display(),
        rollback_text(rollback.as_deref())
    )]
    Commit {
        /// What was being done.
        action: &'static str,
        /// The segment's file, or the directory.
        path: PathBuf,
        /// The byte offset at which the commit began.
        offset: u64,
        /// The last sequence that was committed.
        committed_sequence: u64,
        /// The cause.
        source: Arc<io::Error>,
        /// Why the file could not be truncated to its committed length, if so.
        rollback: Option<Arc<io::Error>>,
    },

    /// An earlier commit failed; the journal must be opened anew.
    #[error("the journal takes no more entries since an earlier commit failed: {cause}")]
    Poisoned {
        /// The error of that commit.
        cause: Box<JournalError>,
    },
}

fn rollback_text(rollback: Option<&io::Error>) -> String {
    match rollback {
        None => String::new(),
        Some(error) => {
            format!("; the file could not be truncated to its committed length either ({error})")
        }
    }
}

impl JournalError {
    /// The input/output error behind this error, if there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match self {
            JournalError::Io { source, .. } | JournalError::Commit { source, .. } => Some(source),
            JournalError::Poisoned { cause } => cause.io_error(),
            _ => None,
        }
    }
}

/// Makes a closure for `map_err` that says what was being done to which file.
pub(super) fn io_error<E: Into<io::Error>>(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> JournalError {
    let path = path.into();
    move |error| JournalError::Io { action, path, source: Arc::new(error.into()) }
}
