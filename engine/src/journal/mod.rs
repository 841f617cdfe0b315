//! The audit journal: append-only, checksummed, hash-chained, group-committed.
//!
//! A journal is a directory of segment files named `NNNNNNNNNN.journal`
//! (numbered from 1) plus a file `lock`. Payloads are opaque bytes; nothing in
//! this module knows what an entry means, but for the one kind it writes itself.
//!
//! Beside a segment there may be a file `NNNNNNNNNN.index`, made from that segment
//! by others. The journal only removes it together with its segment.
//!
//! # Contract
//!
//! * [`Writer::append`] only buffers. An entry is durable, and may be acted
//!   upon, after a [`Writer::commit`] that follows it returned `Ok`.
//! * The reverse does not hold: an entry found in the journal may have been
//!   written by a process that died before it could act upon it.
//! * A failed commit poisons the writer for good. Neither the write nor the
//!   `fdatasync` is repeated, because after a failed `fdatasync` the kernel may
//!   report success for data that never reached the disk.
//! * An incomplete tail of the last segment is cut by [`Writer::open`] and
//!   reported. Anything else that does not verify is damage: an error that
//!   names the place, never a repair.
//!
//! # Segments stand on their own
//!
//! A segment that has reached [`JournalOptions::segment_bytes_max`] is followed by
//! another. What [`Writer::set_head`] was given is the first entry of every segment
//! begun after that; it is written by the same commit as the entry behind it.
//! So a segment can be read without those before it, and these can be removed.
//!
//! # Removal
//!
//! [`Writer::remove_before`] removes segments from the front, in this order:
//!
//! 1. An entry of kind [`KIND_REMOVED`] (JSON, [`Removed`]) is committed. It names the
//!    segments, and the sequence and chain hash that the journal begins with since.
//! 2. The files are deleted, the lowest number first, each durably.
//!
//! Every segment begun later has that entry again behind its head, so that it is
//! found in the last segment, or in one shortly before it. A journal whose first
//! segment is not segment 1 is accepted only if such an entry in its chain names
//! exactly the beginning that is there. If the process dies between the two steps
//! or amid the second, readers begin where the entry says, and the next
//! [`Writer::open`] deletes the rest.
//!
//! # Format
//!
//! All integers are little-endian. Segment header, 64 bytes:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 8 | magic `PLXJRNL1` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 8 | segment number, as in the file name |
//! | 20 | 8 | sequence of the first frame |
//! | 28 | 32 | chain hash before the first frame (zeros in segment 1) |
//! | 60 | 4 | CRC32C of bytes 0..60 |
//!
//! Frame, 52 bytes and the payload:
//!
//! | at | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | payload length |
//! | 4 | 1 | kind, chosen by the caller; 255 is the journal's own |
//! | 5 | 3 | zero |
//! | 8 | 8 | sequence, counted from 1 without gaps over all segments |
//! | 16 | 4 | CRC32C of bytes 0..16, bytes 20..52 and the payload |
//! | 20 | 32 | chain: SHA-256(previous chain ‖ sequence ‖ kind ‖ payload) |
//! | 52 | | payload |
//!
//! # Limits
//!
//! No journal can tell by itself that whole entries were removed from its very
//! end, or its last segments deleted: keep [`Writer::committed_chain`] elsewhere
//! to notice. A flaw within the last frame cannot be told from a torn write. If
//! power fails during a commit, and the file system persisted later pages of that
//! commit without earlier ones, the result looks like damage and is refused,
//! although nothing of that commit was released.

mod error;
mod frame;
mod reader;
mod removal;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use reader::{Frames, Reader};
pub use removal::{KIND_REMOVED, RemovalNote, Removed};
pub use writer::Writer;

use std::path::{Path, PathBuf};

use error::io_error;

/// Largest payload of one entry.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Default of [`JournalOptions::segment_bytes_max`].
pub const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Most bytes that may be buffered between two commits.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The chain hash before the first entry of a journal.
pub const CHAIN_START: [u8; 32] = [0; 32];

/// The sequence of the first entry of a journal.
pub const SEQUENCE_FIRST: u64 = 1;

/// How a journal is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// A segment that has reached this length is followed by another.
    ///
    /// One commit never spans segments, so that a segment may be longer by one
    /// commit.
    pub segment_bytes_max: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions { segment_bytes_max: SEGMENT_BYTES_MAX }
    }
}

/// What [`Writer::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The sequence that the next appended entry gets.
    pub next_sequence: u64,
    /// The torn tail that was cut off, if there was one.
    pub cut: Option<Cut>,
}

/// A torn tail: bytes at the end of the last segment that hold no complete entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment's number.
    pub segment: u64,
    /// The byte offset in the segment at which the tail begins.
    pub offset: u64,
    /// The length of the tail.
    pub bytes: u64,
}

/// Where a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// The sequence of its first entry.
    pub sequence: u64,
    /// The chain hash before that.
    pub chain: [u8; 32],
}

/// The numbers of the first and the last segment in a directory, both 0 if there is none.
///
/// # Errors
///
/// If the directory cannot be read, or a segment is missing in the middle or misnamed.
pub fn segments(directory: &Path) -> Result<(u64, u64), JournalError> {
    segment::segments(directory)
}

/// The file of a segment.
#[must_use]
pub fn segment_path(directory: &Path, segment: u64) -> PathBuf {
    segment::segment_path(directory, segment)
}

/// The file beside a segment that is derived from it and is removed with it.
#[must_use]
pub fn index_path(directory: &Path, segment: u64) -> PathBuf {
    segment::index_path(directory, segment)
}

/// The length of a segment's file.
///
/// # Errors
///
/// If it cannot be examined.
pub fn segment_bytes(directory: &Path, segment: u64) -> Result<u64, JournalError> {
    let path = segment_path(directory, segment);
    let metadata = path.metadata().map_err(io_error("examining", path))?;
    Ok(metadata.len())
}

/// One verified entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The entry's sequence.
    pub sequence: u64,
    /// The kind that the caller of [`Writer::append`] gave.
    pub kind: u8,
    /// The payload.
    pub payload: Vec<u8>,
    /// The number of the segment that holds the entry.
    pub segment: u64,
    /// The byte offset of the entry's frame in that segment.
    pub offset: u64,
    /// The chain hash up to and including this entry.
    pub chain: [u8; 32],
}
