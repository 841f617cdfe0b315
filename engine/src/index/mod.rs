//! Which records of a segment have what an incident asks for (req E11), in a file beside the segment.
//!
//! An index names candidates and decides nothing: whoever asks reads the candidates from the segment and looks at each.
//! It is made from its segment alone, once that is complete, and can be made again at any time.
//!
//! # Format
//!
//! `NNNNNNNNNN.index` beside `NNNNNNNNNN.journal`. Blocks of 4096 octets: 4092 of content, and the CRC32C of the block's
//! number (8 octets) and content. Everything is little-endian. The content:
//!
//! | octets | part |
//! |---:|---|
//! | 160 | header: magic `PLXINDEX`, version, zero, segment, first sequence, chain hash before and after, octets of the segment, entries, rows, setups, keys, octets of postings, earliest and latest decision |
//! | 8 × setups | setups, by offset in the segment; each text once |
//! | 16 × rows | records in order: offset × 2 + whether it is a permission, when it was decided (ns) |
//! | 16 × keys | keys in order: hash, where its posting begins |
//! | | postings: row numbers in order, the first and then differences, 7 bits an octet, lowest first |
//!
//! Invariant: an index counts only if the segment's header, the header of the segment after it and the segment's length
//! are those it names. Every number read from it is checked against the length of the file.

mod blocks;
mod build;
mod keys;

use std::{fs::File, io, path::Path};

use jiff::Timestamp;
use thiserror::Error;

pub use build::{Built, IndexError, build_missing};

use self::{
    blocks::{BlockFlaw, BlockReader, file_bytes},
    keys::{Key, wanted_keys, without_rules},
};
use crate::{
    find::Wanted,
    journal::{JournalError, Place, index_path, segment_bytes},
};

const MAGIC: [u8; 8] = *b"PLXINDEX";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 160;
const SETUP_BYTES: u64 = 8;
const ROW_BYTES: u64 = 16;
const KEY_BYTES: u64 = 16;
/// The longest difference of row numbers.
const VARINT_BYTES_MAX: u64 = 5;

/// What an index begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    /// Where the segment begins.
    place: Place,
    /// The chain hash after its last entry.
    chain_after: [u8; 32],
    segment_bytes: u64,
    entries: u64,
    rows: u64,
    setups: u64,
    keys: u64,
    posting_bytes: u64,
    decided_min: i64,
    decided_max: i64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.place.segment.to_le_bytes());
        bytes.extend_from_slice(&self.place.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.place.chain);
        bytes.extend_from_slice(&self.chain_after);
        for number in [self.segment_bytes, self.entries, self.rows, self.setups, self.keys, self.posting_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.decided_min.to_le_bytes());
        bytes.extend_from_slice(&self.decided_max.to_le_bytes());
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Flaw> {
        if bytes[..8] != MAGIC {
            return Err(Flaw::Magic);
        }
        let version = u32::from_le_bytes(array_at(bytes, 8));
        if version != VERSION {
            return Err(Flaw::Version(version));
        }
        let number = |at: usize| u64::from_le_bytes(array_at(bytes, at));
        Ok(Header {
            place: Place { segment: number(16), sequence: number(24), chain: array_at(bytes, 32) },
            chain_after: array_at(bytes, 64),
            segment_bytes: number(96),
            entries: number(104),
            rows: number(112),
            setups: number(120),
            keys: number(128),
            posting_bytes: number(136),
            decided_min: i64::from_le_bytes(array_at(bytes, 144)),
            decided_max: i64::from_le_bytes(array_at(bytes, 152)),
        })
    }

    /// Where setups, rows, keys and postings begin, and where they end.
    fn layout(&self) -> Option<Layout> {
        let setups = HEADER_BYTES as u64;
        let rows = setups.checked_add(self.setups.checked_mul(SETUP_BYTES)?)?;
        let keys = rows.checked_add(self.rows.checked_mul(ROW_BYTES)?)?;
        let postings = keys.checked_add(self.keys.checked_mul(KEY_BYTES)?)?;
        let end = postings.checked_add(self.posting_bytes)?;
        // Row numbers are kept as 32 bits.
        u32::try_from(self.rows).ok()?;
        Some(Layout { setups, rows, keys, postings, end })
    }
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    setups: u64,
    rows: u64,
    keys: u64,
    postings: u64,
    end: u64,
}

/// Why an index cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Flaw {
    #[error("{0}")]
    Block(#[from] BlockFlaw),
    #[error("it does not begin as an index does")]
    Magic,
    #[error("its version is {0}")]
    Version(u32),
    #[error("its length does not fit its contents")]
    Length,
    #[error("it belongs to another segment, or another state of this one")]
    Stale,
    #[error("its {0} are out of order")]
    Order(&'static str),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Self {
        Self::Block(BlockFlaw::Io(error))
    }
}

/// The index of a complete segment, open.
#[derive(Debug)]
pub(crate) struct Index {
    blocks: BlockReader,
    header: Header,
    layout: Layout,
}

/// A record that may fit.
#[derive(Clone, Copy, Debug)]
struct Row {
    offset: u64,
    permitted: bool,
    decided: i64,
}

impl Index {
    /// The index of the segment that begins at `place`, if it has one that counts; else what is wrong with it.
    ///
    /// # Errors
    /// The segment or the one after it cannot be read.
    pub(crate) fn open(directory: &Path, place: Place) -> Result<Option<Result<Self, Flaw>>, JournalError> {
        match File::open(index_path(directory, place.segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Ok(Some(Err(error.into()))),
            Ok(file) => match Self::read(file) {
                Ok(index) if index.fits(directory, place)? => Ok(Some(Ok(index))),
                Ok(_) => Ok(Some(Err(Flaw::Stale))),
                Err(flaw) => Ok(Some(Err(flaw))),
            },
        }
    }

    fn read(file: File) -> Result<Self, Flaw> {
        let mut blocks = BlockReader::new(file);
        let mut bytes = [0; HEADER_BYTES];
        blocks.read(0, &mut bytes)?;
        let header = Header::decode(&bytes)?;
        let layout = header.layout().ok_or(Flaw::Length)?;
        if file_bytes(layout.end) != Some(blocks.file().metadata()?.len()) {
            return Err(Flaw::Length);
        }
        Ok(Self { blocks, header, layout })
    }

    /// Whether it was made from this segment, as it is, between these neighbours.
    fn fits(&self, directory: &Path, place: Place) -> Result<bool, JournalError> {
        if self.header.place != place || Place::of_segment(directory, place.segment)? != place {
            return Ok(false);
        }
        let length = segment_bytes(directory, place.segment)?;
        // A header that is not there yet, or not whole, is for those to judge who read the segment.
        let after = Place::of_segment(directory, place.segment + 1).ok();
        Ok(length == self.header.segment_bytes && after == Some(self.after()))
    }

    /// Where the segment after this one begins.
    pub(crate) fn after(&self) -> Place {
        Place {
            segment: self.header.place.segment + 1,
            sequence: self.header.place.sequence.saturating_add(self.header.entries),
            chain: self.header.chain_after,
        }
    }

    /// How many records the segment has.
    pub(crate) fn rows(&self) -> u64 {
        self.header.rows
    }

    /// Where its setups are.
    pub(crate) fn setups(&mut self) -> Result<Vec<u64>, Flaw> {
        (0..self.header.setups)
            .map(|number| {
                let mut bytes = [0; SETUP_BYTES as usize];
                self.blocks.read(self.layout.setups + number * SETUP_BYTES, &mut bytes)?;
                Ok(u64::from_le_bytes(bytes))
            })
            .collect()
    }

    /// Where the records are that may fit, in order: all that do are among them.
    pub(crate) fn candidates(&mut self, wanted: &Wanted) -> Result<Vec<u64>, Flaw> {
        let from = wanted.from.map_or(i64::MIN, nanosecond);
        let until = wanted.until.map_or(i64::MAX, nanosecond);
        if self.header.rows == 0 || self.header.decided_max < from || self.header.decided_min > until {
            return Ok(Vec::new());
        }
        let rows: Vec<u32> = match self.intersection(wanted)? {
            Some(rows) => rows,
            None => (0..u32::try_from(self.header.rows).unwrap_or(u32::MAX)).collect(),
        };
        let mut offsets = Vec::new();
        for row in rows {
            let row = self.row(row)?;
            // Times beyond what 64 bits hold are kept at their end, so that the bounds belong to it.
            if (from..=until).contains(&row.decided) && (row.permitted || !wanted.corroborated) {
                offsets.push(row.offset);
            }
        }
        Ok(offsets)
    }

    /// Rows that have every wanted key; `None` if none is wanted.
    fn intersection(&mut self, wanted: &Wanted) -> Result<Option<Vec<u32>>, Flaw> {
        let mut rows: Option<Vec<u32>> = None;
        for wanted in wanted_keys(wanted) {
            let mut having = self.posting(wanted.key)?;
            if wanted.of_rules {
                having.extend(self.posting(without_rules())?);
                having.sort_unstable();
                having.dedup();
            }
            let both = match rows {
                None => having,
                Some(rows) => rows.into_iter().filter(|row| having.binary_search(row).is_ok()).collect(),
            };
            if both.is_empty() {
                return Ok(Some(both));
            }
            rows = Some(both);
        }
        Ok(rows)
    }

    fn row(&mut self, number: u32) -> Result<Row, Flaw> {
        let mut bytes = [0; ROW_BYTES as usize];
        self.blocks.read(self.layout.rows + u64::from(number) * ROW_BYTES, &mut bytes)?;
        let first = u64::from_le_bytes(array_at(&bytes, 0));
        Ok(Row { offset: first >> 1, permitted: first & 1 == 1, decided: i64::from_le_bytes(array_at(&bytes, 8)) })
    }

    fn key(&mut self, number: u64) -> Result<(Key, u64), Flaw> {
        let mut bytes = [0; KEY_BYTES as usize];
        self.blocks.read(self.layout.keys + number * KEY_BYTES, &mut bytes)?;
        Ok((u64::from_le_bytes(array_at(&bytes, 0)), u64::from_le_bytes(array_at(&bytes, 8))))
    }

    /// The rows that have a key.
    fn posting(&mut self, key: Key) -> Result<Vec<u32>, Flaw> {
        let Some((number, begin)) = self.find_key(key)? else { return Ok(Vec::new()) };
        let end = match number + 1 {
            last if last == self.header.keys => self.header.posting_bytes,
            next => self.key(next)?.1,
        };
        let bytes = end.checked_sub(begin).filter(|bytes| {
            end <= self.header.posting_bytes && *bytes <= self.header.rows.saturating_mul(VARINT_BYTES_MAX)
        });
        let mut posting = vec![0; bytes.ok_or(Flaw::Order("postings"))? as usize];
        self.blocks.read(self.layout.postings + begin, &mut posting)?;
        rows_of(&posting, self.header.rows).ok_or(Flaw::Order("postings"))
    }

    /// A key's number and where its posting begins. Hashes are spread evenly, so that the place is nearly known.
    fn find_key(&mut self, key: Key) -> Result<Option<(u64, u64)>, Flaw> {
        let (mut low, mut high) = (0, self.header.keys);
        let (mut above, mut below) = (0_u64, u64::MAX);
        let mut guessing = true;
        while low < high {
            let middle = if guessing {
                let share = u128::from(high - low) * u128::from(key - above) / (u128::from(below - above) + 1);
                low + share as u64
            } else {
                low + (high - low) / 2
            };
            guessing = !guessing;
            let (found, begin) = self.key(middle)?;
            if found == key {
                return Ok(Some((middle, begin)));
            }
            if found < above || found > below {
                return Err(Flaw::Order("keys"));
            }
            if found < key {
                (low, above) = (middle + 1, found);
            } else {
                (high, below) = (middle, found);
            }
        }
        Ok(None)
    }
}

/// The rows of a posting; `None` if it is none.
fn rows_of(posting: &[u8], rows: u64) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let (mut row, mut difference, mut shift) = (0_u64, 0_u64, 0);
    for byte in posting {
        if shift > 28 {
            return None;
        }
        difference |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            if difference == 0 && !found.is_empty() {
                return None;
            }
            row += difference;
            found.push(u32::try_from(row).ok().filter(|_| row < rows)?);
            (difference, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(found)
}

/// Puts a difference of row numbers behind a posting.
fn put_difference(posting: &mut Vec<u8>, mut difference: u32) {
    while difference >= 0x80 {
        posting.push(difference as u8 | 0x80);
        difference >>= 7;
    }
    posting.push(difference as u8);
}

/// An instant as a number that keeps the order; what 64 bits do not hold is at their end.
fn nanosecond(at: Timestamp) -> i64 {
    let exact = at.as_nanosecond();
    i64::try_from(exact).unwrap_or(if exact < 0 { i64::MIN } else { i64::MAX })
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postings_read_back_and_what_is_none_is_refused() {
        for rows in [vec![], vec![0], vec![5], vec![0, 1, 2, 130, 20_000, 3_000_000, u32::MAX - 1]] {
            let mut posting = Vec::new();
            let mut before = 0;
            for row in &rows {
                put_difference(&mut posting, row - before);
                before = *row;
            }
            assert_eq!(rows_of(&posting, u64::from(u32::MAX)), Some(rows.clone()));
            if let Some(last) = rows.last() {
                assert_eq!(rows_of(&posting, u64::from(*last)), None, "a row beyond the last");
            }
        }
        for none in [&[0x80][..], &[1, 0], &[0xff, 0xff, 0xff, 0xff, 0xff, 1], &[0xff, 0xff, 0xff, 0xff, 0x7f]] {
            assert_eq!(rows_of(none, u64::from(u32::MAX)), None, "{none:?}");
        }
    }

    #[test]
    fn headers_read_back_and_lengths_never_overflow() {
        let place = Place { segment: 3, sequence: 70, chain: [7; 32] };
        let header = Header {
            place,
            chain_after: [9; 32],
            segment_bytes: 1,
            entries: 2,
            rows: 3,
            setups: 4,
            keys: 5,
            posting_bytes: 6,
            decided_min: -7,
            decided_max: 8,
        };
        assert_eq!(Header::decode(&header.encode()).ok(), Some(header.clone()));
        let layout = header.layout().expect("small numbers");
        assert_eq!(layout.end, HEADER_BYTES as u64 + 4 * 8 + 3 * 16 + 5 * 16 + 6);
        for large in [
            Header { setups: u64::MAX, ..header.clone() },
            Header { rows: u64::MAX / 16, ..header.clone() },
            Header { rows: 1 << 32, ..header.clone() },
            Header { keys: u64::MAX / 16, ..header.clone() },
            Header { posting_bytes: u64::MAX, ..header.clone() },
        ] {
            assert!(large.layout().is_none(), "{large:?}");
        }
    }
}
