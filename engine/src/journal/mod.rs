//! The audit journal: append-only, checksummed, hash-chained, group-committed.
//!
//! A journal is a directory of segment files named `NNNNNNNNNN.journal`
//! (numbered from 1) plus a file `lock`. Payloads are opaque bytes; nothing in
//! this module knows what an entry means.
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
//! | 4 | 1 | kind, chosen by the caller |
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
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub use error::JournalError;
pub use reader::Reader;
pub use writer::Writer;

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
    /// A commit that would make a segment longer than this begins a new one.
    ///
    /// One commit never spans segments, so a commit larger than this makes a
    /// segment of its own.
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
