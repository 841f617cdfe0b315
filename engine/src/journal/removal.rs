//! Segments removed from the front: what is on record about them, and where a journal begins since.
//!
//! Invariant: segments are missing only if an entry of kind [`KIND_REMOVED`] in the chain says so. The last segment
//! always has the latest such entry, or the one before it has: every new segment begins with it.

use std::{fmt, fs, io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    CHAIN_START, Entry, Place, SEQUENCE_FIRST,
    error::{JournalError, io_error},
    segment::{Scan, Step, index_path, segment_path, segments},
};

/// The kind of the entry that says which segments were removed; nobody else may write one.
pub const KIND_REMOVED: u8 = 0xff;

/// Why segments are removed, and what was in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalNote {
    /// How many records they hold.
    pub records: u64,
    /// When the earliest of them was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// When the latest of them was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
    /// When they were removed.
    pub at: Timestamp,
    /// On whose word: a command or a setting.
    pub why: String,
}

/// Segments that were removed, as the journal has it on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// The sequence that the journal begins with since.
    pub sequence: u64,
    /// The chain hash before that, hexadecimal.
    pub chain: String,
    /// How many records earlier removals took.
    #[serde(default)]
    pub earlier_records: u64,
    /// What was in them.
    #[serde(flatten)]
    pub note: RemovalNote,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, note, .. } = self;
        write!(f, "segments {from} to {to} with {} records", note.records)?;
        if let (Some(oldest), Some(newest)) = (note.oldest, note.newest) {
            write!(f, ", decided from {oldest} to {newest},")?;
        }
        write!(f, " were removed on {} by {}", note.at, note.why)?;
        match self.earlier_records {
            0 => Ok(()),
            earlier => write!(f, ", and {earlier} records before"),
        }
    }
}

impl Removed {
    /// Reads an entry of kind [`KIND_REMOVED`].
    pub(super) fn read(scan: &Scan, entry: &Entry) -> Result<Self, JournalError> {
        let removed: Result<Self, _> = serde_json::from_slice(&entry.payload);
        match removed {
            Ok(removed) if 0 < removed.from && removed.from <= removed.to && removed.to < entry.segment => Ok(removed),
            Ok(_) => Err(scan.damage_of(entry, "the removal on record is none: its segments cannot be right")),
            Err(error) => Err(scan.damage_of(entry, format!("the removal on record cannot be read: {error}"))),
        }
    }

    /// Where the journal begins since; the segment there must be the one that was meant.
    pub(super) fn begins(&self, directory: &Path) -> Result<Place, JournalError> {
        let place = Place::of_segment(directory, self.to + 1)?;
        if place.sequence == self.sequence && hex(&place.chain) == self.chain {
            return Ok(place);
        }
        Err(JournalError::Damaged {
            path: segment_path(directory, place.segment),
            segment: place.segment,
            offset: 0,
            sequence: self.sequence,
            detail: format!("the removal of segments {} to {} names another beginning", self.from, self.to),
        })
    }
}

/// The segments there are, and where reading begins.
#[derive(Debug)]
pub(super) struct Begin {
    /// The first segment that is there, 0 if none is.
    pub(super) first: u64,
    /// The last one.
    pub(super) last: u64,
    /// The first entry that counts. Before it, segments may be left that are on record as removed.
    pub(super) place: Place,
    /// Why the journal does not begin with segment 1.
    pub(super) removed: Option<Removed>,
}

impl Begin {
    /// Finds out where a journal begins, and that it may.
    pub(super) fn of(directory: &Path) -> Result<Self, JournalError> {
        let (first, last) = segments(directory)?;
        if first <= 1 {
            return Ok(Begin { first, last, place: Place::BEGINNING, removed: None });
        }
        for segment in (first..=last).rev() {
            if let Some(removed) = removal_in(directory, segment, first)? {
                let place = removed.begins(directory)?;
                return Ok(Begin { first, last, place, removed: Some(removed) });
            }
        }
        Err(JournalError::MissingFront { directory: directory.to_path_buf(), first })
    }
}

/// The first entry of a segment that explains why the journal begins with segment `first`.
fn removal_in(directory: &Path, segment: u64, first: u64) -> Result<Option<Removed>, JournalError> {
    let mut scan = Scan::unplaced(directory, segment)?;
    let Ok(header) = scan.header()? else { return Ok(None) };
    scan.start_at(&header);
    // A flaw is for those to judge who read the segment.
    while let Step::Frame(entry) = scan.step()? {
        if entry.kind == KIND_REMOVED {
            let removed = Removed::read(&scan, &entry)?;
            // An interrupted removal leaves some of its last segments.
            if (removed.from..=removed.to + 1).contains(&first) {
                return Ok(Some(removed));
            }
        }
    }
    Ok(None)
}

/// Removes the files of segments, the lowest first, each durably.
pub(super) fn delete(directory: &Path, from: u64, to: u64) -> Result<(), JournalError> {
    for segment in from..=to {
        for path in [index_path(directory, segment), segment_path(directory, segment)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(io_error("removing", path))?,
            }
        }
        super::writer::sync_directory(directory)?;
    }
    Ok(())
}

/// Octets as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Place {
    /// The beginning of a journal of which nothing was removed.
    pub(super) const BEGINNING: Place = Place { segment: 1, sequence: SEQUENCE_FIRST, chain: CHAIN_START };

    /// Where a segment begins, as its header has it; the header's number and checksum are right.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or does not begin with a valid header.
    pub fn of_segment(directory: &Path, segment: u64) -> Result<Place, JournalError> {
        let mut scan = Scan::unplaced(directory, segment)?;
        scan.only_header();
        let header = scan.header()??;
        Ok(Place { segment, sequence: header.first_sequence, chain: header.chain })
    }
}
