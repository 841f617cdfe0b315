//! Segment files: names, listing, and the verifying scan of one segment.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{JournalError, io_error};
use super::frame::{
    FRAME_HEADER_BYTES, FrameHeader, HeaderFlaw, SEGMENT_HEADER_BYTES, SegmentHeader, VERSION, chain_next, frame_crc,
};
use super::{CHAIN_START, Cut, Entry, FRAME_PAYLOAD_BYTES_MAX};

const SUFFIX: &str = ".journal";
const INDEX_SUFFIX: &str = ".index";
const DIGITS: usize = 10;
/// The highest number that fits a file name.
pub(super) const SEGMENT_NUMBER_MAX: u64 = 9_999_999_999;
/// How many bytes are read ahead.
const WINDOW_BYTES: u64 = 256 * 1024;
/// How far beyond the expected sequence a frame behind a flaw is still taken for a frame.
const SEQUENCE_DISTANCE_MAX: u64 = 1 << 32;

/// The file of segment `number`.
pub(super) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:0DIGITS$}{SUFFIX}"))
}

/// The file beside segment `number` that is derived from it and goes with it.
pub(super) fn index_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:0DIGITS$}{INDEX_SUFFIX}"))
}

/// The numbers of the first and the last segment, both 0 if there is none; all between them exist.
pub(super) fn segments(directory: &Path) -> Result<(u64, u64), JournalError> {
    let mut numbers = Vec::new();
    let entries = fs::read_dir(directory).map_err(io_error("listing", directory))?;
    for entry in entries {
        let entry = entry.map_err(io_error("listing", directory))?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let Some(stem) = name.strip_suffix(SUFFIX.as_bytes()) else {
            continue;
        };
        match segment_number(stem) {
            Some(number) => numbers.push(number),
            None => return Err(JournalError::StrayFile { path: entry.path() }),
        }
    }
    numbers.sort_unstable();
    let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else { return Ok((0, 0)) };
    for (found, expected) in numbers.into_iter().zip(first..) {
        if found != expected {
            let path = segment_path(directory, expected);
            return Err(JournalError::MissingSegment { path, segment: expected, last });
        }
    }
    Ok((first, last))
}

fn segment_number(stem: &[u8]) -> Option<u64> {
    if stem.len() != DIGITS || !stem.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = stem.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (number > 0).then_some(number)
}

/// Random read access to a segment file that may be growing.
#[derive(Debug)]
struct Source {
    file: File,
    path: PathBuf,
    length: u64,
    window: Vec<u8>,
    window_start: u64,
    /// How many bytes are read ahead.
    ahead: u64,
}

impl Source {
    fn new(file: File, path: PathBuf) -> Result<Self, JournalError> {
        let mut source = Source { file, path, length: 0, window: Vec::new(), window_start: 0, ahead: WINDOW_BYTES };
        source.refresh()?;
        Ok(source)
    }

    /// Forgets what was read and looks at the file's length again.
    fn refresh(&mut self) -> Result<(), JournalError> {
        self.window.clear();
        let metadata = self.file.metadata().map_err(io_error("examining", &self.path))?;
        self.length = metadata.len();
        Ok(())
    }

    /// `count` bytes from `offset` on, or `None` if the file ends before that.
    fn bytes(&mut self, offset: u64, count: usize) -> Result<Option<&[u8]>, JournalError> {
        let end = offset.saturating_add(count as u64);
        if end > self.length {
            return Ok(None);
        }
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || end > window_end {
            self.load(offset, (count as u64).max(self.ahead).min(self.length - offset))?;
            if self.window.len() < count {
                // The file was truncated since its length was taken.
                self.length = offset + self.window.len() as u64;
                return Ok(None);
            }
        }
        let start = (offset - self.window_start) as usize;
        Ok(Some(&self.window[start..start + count]))
    }

    fn load(&mut self, offset: u64, count: u64) -> Result<(), JournalError> {
        self.window.resize(count as usize, 0);
        self.window_start = offset;
        let mut filled = 0;
        while filled < self.window.len() {
            match self.file.read_at(&mut self.window[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.window.clear();
                    return Err(io_error("reading", &self.path)(error));
                }
            }
        }
        self.window.truncate(filled);
        Ok(())
    }
}

/// What stands at the reading position of a segment.
#[derive(Debug)]
pub(super) enum Step {
    /// A valid entry; the position is now behind it.
    Frame(Entry),
    /// The file ends here.
    End,
    /// No valid frame; the position is unchanged.
    Flaw(Flaw),
}

/// Why there is no valid frame.
#[derive(Debug)]
pub(super) struct Flaw {
    detail: String,
    /// The checksum was right, so that this is no torn write.
    whole: bool,
}

/// What stands at the beginning of a segment.
#[derive(Debug)]
pub(super) enum Start {
    /// A header that continues the journal.
    Header,
    /// An incomplete header of this many bytes.
    Torn(u64),
}

/// The verifying scan of one segment.
#[derive(Debug)]
pub(super) struct Scan {
    source: Source,
    /// The segment's number by its file name.
    pub(super) segment: u64,
    /// The position at which the next frame is expected.
    pub(super) offset: u64,
    /// The sequence expected there.
    pub(super) sequence: u64,
    /// The chain hash before it.
    pub(super) chain: [u8; 32],
    first_sequence: u64,
}

impl Scan {
    /// Begins a scan of an opened segment; `sequence` and `chain` are those its
    /// header should have.
    pub(super) fn new(
        file: File,
        path: PathBuf,
        segment: u64,
        sequence: u64,
        chain: [u8; 32],
    ) -> Result<Self, JournalError> {
        let source = Source::new(file, path)?;
        Ok(Scan { source, segment, offset: 0, sequence, chain, first_sequence: sequence })
    }

    /// A scan of a segment of which nothing is known but its number.
    pub(super) fn unplaced(directory: &Path, segment: u64) -> Result<Self, JournalError> {
        let path = segment_path(directory, segment);
        let file = File::open(&path).map_err(io_error("opening", &path))?;
        Scan::new(file, path, segment, 0, CHAIN_START)
    }

    /// Reads nothing ahead: only the header is wanted.
    pub(super) fn only_header(&mut self) {
        self.source.ahead = 0;
    }

    /// The segment's file.
    pub(super) fn path(&self) -> &Path {
        &self.source.path
    }

    /// Gives the file back.
    pub(super) fn into_file(self) -> File {
        self.source.file
    }

    /// Looks at the file again, which another process may have changed.
    pub(super) fn refresh(&mut self) -> Result<(), JournalError> {
        self.source.refresh()
    }

    /// The damage found at the current position.
    pub(super) fn damage(&self, detail: impl Into<String>) -> JournalError {
        JournalError::Damaged {
            path: self.source.path.clone(),
            segment: self.segment,
            offset: self.offset,
            sequence: self.sequence,
            detail: detail.into(),
        }
    }

    /// Damage found in an entry that was read.
    pub(super) fn damage_of(&self, entry: &Entry, detail: impl Into<String>) -> JournalError {
        JournalError::Damaged {
            path: self.source.path.clone(),
            segment: self.segment,
            offset: entry.offset,
            sequence: entry.sequence,
            detail: detail.into(),
        }
    }

    /// Reads the header by itself: its number must be right, all else is believed.
    ///
    /// The outer error is one of reading; the inner says why there is no valid header.
    pub(super) fn header(&mut self) -> Result<Result<SegmentHeader, JournalError>, JournalError> {
        let length = self.source.length;
        let Some(bytes) = self.source.bytes(0, SEGMENT_HEADER_BYTES)? else {
            let detail = format!("the segment header is incomplete, {length} of {SEGMENT_HEADER_BYTES} bytes");
            return Ok(Err(self.damage(detail)));
        };
        let mut raw = [0; SEGMENT_HEADER_BYTES];
        raw.copy_from_slice(bytes);
        Ok(match SegmentHeader::decode(&raw) {
            Ok(header) if header.segment == self.segment => Ok(header),
            Ok(header) => Err(self.damage(format!(
                "the segment header is that of segment {}, not of segment {}",
                header.segment, self.segment
            ))),
            Err(HeaderFlaw::Magic) => Err(self.damage("the file does not begin as a segment does")),
            Err(HeaderFlaw::Checksum) => Err(self.damage("the checksum of the segment header is wrong")),
            Err(HeaderFlaw::Version(version)) => {
                Err(JournalError::Version { path: self.source.path.clone(), version, known: VERSION })
            }
        })
    }

    /// Reads the header and checks that it continues the journal.
    ///
    /// In the last segment the header may be torn: a prefix of the right one,
    /// perhaps filled up with zeros, and no frame behind it.
    pub(super) fn start(&mut self, last: bool) -> Result<Start, JournalError> {
        let expected = SegmentHeader { segment: self.segment, first_sequence: self.sequence, chain: self.chain };
        match self.header()? {
            Ok(header) if header == expected => {
                self.offset = SEGMENT_HEADER_BYTES as u64;
                Ok(Start::Header)
            }
            Ok(header) if header.first_sequence != expected.first_sequence => Err(self.damage(format!(
                "the segment begins with sequence {}, which does not follow the segment before",
                header.first_sequence
            ))),
            Ok(_) => Err(self.damage("the hash chain does not continue the segment before")),
            Err(flaw) => {
                if last && self.is_torn_header(&expected)? {
                    Ok(Start::Torn(self.source.length))
                } else {
                    Err(flaw)
                }
            }
        }
    }

    /// Believes the header in what it says about the segments before.
    pub(super) fn start_at(&mut self, header: &SegmentHeader) {
        self.offset = SEGMENT_HEADER_BYTES as u64;
        self.sequence = header.first_sequence;
        self.first_sequence = header.first_sequence;
        self.chain = header.chain;
    }

    /// Whether nothing but an interrupted write of `expected` is in the file.
    fn is_torn_header(&mut self, expected: &SegmentHeader) -> Result<bool, JournalError> {
        let length = self.source.length;
        if length > SEGMENT_HEADER_BYTES as u64 {
            return Ok(false);
        }
        let expected = expected.encode();
        let Some(found) = self.source.bytes(0, length as usize)? else {
            return Ok(false);
        };
        let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        Ok(found[same..].iter().all(|byte| *byte == 0))
    }

    /// Whether the file is too short to hold more than an incomplete header.
    pub(super) fn may_be_torn_header(&self) -> bool {
        self.source.length <= SEGMENT_HEADER_BYTES as u64
    }

    /// Reads and verifies the frame at the current position.
    pub(super) fn step(&mut self) -> Result<Step, JournalError> {
        let torn = |detail: String| Ok(Step::Flaw(Flaw { detail, whole: false }));
        let whole = |detail: String| Ok(Step::Flaw(Flaw { detail, whole: true }));
        let Some(bytes) = self.source.bytes(self.offset, FRAME_HEADER_BYTES)? else {
            return match self.source.length.checked_sub(self.offset) {
                None => whole(format!("the file has shrunk to {} bytes while it was read", self.source.length)),
                Some(0) => Ok(Step::End),
                Some(rest) => torn(format!("the frame header is incomplete, {rest} of {FRAME_HEADER_BYTES} bytes")),
            };
        };
        let header = FrameHeader::decode(bytes);
        let length = header.length as usize;
        if length > FRAME_PAYLOAD_BYTES_MAX {
            return torn(format!("the frame's payload length {length} exceeds the limit"));
        }
        let Some(bytes) = self.source.bytes(self.offset, FRAME_HEADER_BYTES + length)? else {
            return torn(format!(
                "the frame needs {} bytes, the file has {}",
                FRAME_HEADER_BYTES + length,
                self.source.length.saturating_sub(self.offset)
            ));
        };
        let payload = &bytes[FRAME_HEADER_BYTES..];
        if frame_crc(bytes, payload) != header.crc {
            return torn("the frame's checksum is wrong".into());
        }
        if header.reserved != [0; 3] {
            return whole("the frame's reserved bytes are not zero".into());
        }
        if header.sequence != self.sequence || header.sequence == u64::MAX {
            return whole(format!("the frame has sequence {}", header.sequence));
        }
        if chain_next(&self.chain, header.sequence, header.kind, payload) != header.chain {
            return whole("the frame does not continue the hash chain".into());
        }
        let entry = Entry {
            sequence: header.sequence,
            kind: header.kind,
            payload: payload.to_vec(),
            segment: self.segment,
            offset: self.offset,
            chain: header.chain,
        };
        self.offset += (FRAME_HEADER_BYTES + length) as u64;
        self.sequence += 1;
        self.chain = header.chain;
        Ok(Step::Frame(entry))
    }

    /// Decides what a flaw at the current position is: a torn tail, or damage.
    pub(super) fn judge(&mut self, flaw: Flaw, last: bool) -> Result<Cut, JournalError> {
        if flaw.whole || !last {
            return Err(self.damage(flaw.detail));
        }
        if let Some((offset, sequence)) = self.find_frame()? {
            return Err(self.damage(format!(
                "{}, yet a valid frame with sequence {sequence} follows at byte {offset}",
                flaw.detail
            )));
        }
        let bytes = self.source.length.saturating_sub(self.offset);
        Ok(Cut { segment: self.segment, offset: self.offset, bytes })
    }

    /// Looks for a valid frame at any byte behind the current position.
    fn find_frame(&mut self) -> Result<Option<(u64, u64)>, JournalError> {
        let sequences = self.first_sequence..=self.sequence.saturating_add(SEQUENCE_DISTANCE_MAX);
        let mut offset = self.offset + 1;
        while let Some(bytes) = self.source.bytes(offset, FRAME_HEADER_BYTES)? {
            let header = FrameHeader::decode(bytes);
            let length = header.length as usize;
            if header.reserved == [0; 3]
                && sequences.contains(&header.sequence)
                && length <= FRAME_PAYLOAD_BYTES_MAX
                && let Some(bytes) = self.source.bytes(offset, FRAME_HEADER_BYTES + length)?
                && frame_crc(bytes, &bytes[FRAME_HEADER_BYTES..]) == header.crc
            {
                return Ok(Some((offset, header.sequence)));
            }
            offset += 1;
        }
        Ok(None)
    }
}
