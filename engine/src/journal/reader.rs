//! Reading and verifying a journal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::{JournalError, io_error};
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, frame_crc};
use super::removal::{Begin, Removed};
use super::segment::{SEGMENT_NUMBER_MAX, Scan, Start, Step, segment_path, segments};
use super::{Cut, Entry, FRAME_PAYLOAD_BYTES_MAX, Place};

/// Reads all entries of a journal in order and verifies each.
///
/// It takes no lock and changes nothing, so that it works beside a writer and
/// after a crash. Beside a writer it may return entries that are written but not
/// yet durable, and fails if the writer removes the segment it would read next.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    /// Where it begins.
    begin: Place,
    removed: Option<Removed>,
    scan: Option<Scan>,
    /// A segment after the current one exists, so that the current one is complete.
    superseded: bool,
    torn: Option<Cut>,
    failure: Option<JournalError>,
}

impl Reader {
    /// Opens the journal in `directory`, which must exist.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or segments are misnamed, or missing without a removal on record.
    pub fn open(directory: &Path) -> Result<Reader, JournalError> {
        let begin = Begin::of(directory)?;
        Ok(Reader { removed: begin.removed, ..Reader::at(directory, begin.place) })
    }

    /// Reads from the segment on that begins at `place`. What stands before it is not looked at.
    pub fn at(directory: &Path, place: Place) -> Reader {
        Reader {
            directory: directory.to_path_buf(),
            begin: place,
            removed: None,
            scan: None,
            superseded: false,
            torn: None,
            failure: None,
        }
    }

    /// Where it begins.
    pub fn begins(&self) -> Place {
        self.begin
    }

    /// Why the journal does not begin with segment 1, if so.
    pub fn removed(&self) -> Option<&Removed> {
        self.removed.as_ref()
    }

    /// The next entry, or `None` at the end of what has been written so far.
    ///
    /// After `None` it may be called again, to see what a writer has added.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or does not verify. From then on every call
    /// returns the same error.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.torn = None;
        let result = self.advance();
        if let Err(failure) = &result {
            self.failure = Some(failure.clone());
        }
        result
    }

    /// The torn tail, if the last call of [`next_entry`](Self::next_entry) ended at one.
    ///
    /// Beside a writer this may be a write that is still going on.
    pub fn torn_tail(&self) -> Option<Cut> {
        self.torn
    }

    fn advance(&mut self) -> Result<Option<Entry>, JournalError> {
        loop {
            let Some(scan) = &mut self.scan else {
                if self.next_segment()? {
                    continue;
                }
                return Ok(None);
            };
            let step = scan.step()?;
            if let Step::Frame(entry) = step {
                return Ok(Some(entry));
            }
            // What follows a flaw, or the end, may have been written since.
            // First ask whether this segment is complete, then look again.
            let complete = self.superseded || exists(&self.directory, scan.segment + 1)?;
            self.superseded = complete;
            scan.refresh()?;
            match scan.step()? {
                Step::Frame(entry) => return Ok(Some(entry)),
                Step::Flaw(flaw) => {
                    self.torn = Some(scan.judge(flaw, !complete)?);
                    return Ok(None);
                }
                Step::End => {
                    if !complete || !self.next_segment()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Moves to the next segment; `false` if there is none with a complete header yet.
    fn next_segment(&mut self) -> Result<bool, JournalError> {
        let (number, sequence, chain) = match &self.scan {
            None => (self.begin.segment, self.begin.sequence, self.begin.chain),
            Some(scan) => (scan.segment + 1, scan.sequence, scan.chain),
        };
        let last = !exists(&self.directory, number + 1)?;
        let path = segment_path(&self.directory, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            // The end, unless it was removed from the front meanwhile, and more than the one after it too.
            Err(error) if error.kind() == io::ErrorKind::NotFound && last && segments(&self.directory)?.1 < number => {
                return Ok(false);
            }
            Err(error) => return Err(io_error("opening", path)(error)),
        };
        let mut next = Scan::new(file, path, number, sequence, chain)?;
        match next.start(last)? {
            Start::Header => {
                self.scan = Some(next);
                self.superseded = !last;
                Ok(true)
            }
            Start::Torn(bytes) => {
                self.torn = (bytes > 0).then_some(Cut { segment: number, offset: 0, bytes });
                Ok(false)
            }
        }
    }
}

/// Single entries of one segment, read by their place.
///
/// Each is checked by its checksum. Whether it is part of the chain only a [`Reader`] can tell.
#[derive(Debug)]
pub struct Frames {
    file: File,
    path: PathBuf,
    segment: u64,
    /// Of the file, when it was opened.
    length: u64,
    buffer: Vec<u8>,
}

/// How much is read at a time when an entry's length is not known yet.
const GUESS_BYTES: usize = 16 * 1024;

impl Frames {
    /// Opens a segment.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened.
    pub fn open(directory: &Path, segment: u64) -> Result<Frames, JournalError> {
        let path = segment_path(directory, segment);
        let file = File::open(&path).map_err(io_error("opening", &path))?;
        let length = file.metadata().map_err(io_error("examining", &path))?.len();
        Ok(Frames { file, path, segment, length, buffer: vec![0; GUESS_BYTES] })
    }

    /// The entry whose frame begins at `offset`, or `None` if no valid frame does.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn entry_at(&mut self, offset: u64) -> Result<Option<Entry>, JournalError> {
        if offset >= self.length {
            return Ok(None);
        }
        let mut there = self.fill(offset, 0)?;
        if there < FRAME_HEADER_BYTES {
            return Ok(None);
        }
        let header = FrameHeader::decode(&self.buffer);
        let length = header.length as usize;
        if length > FRAME_PAYLOAD_BYTES_MAX {
            return Ok(None);
        }
        let end = FRAME_HEADER_BYTES + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        if there < end {
            there = self.fill(offset, there)?;
        }
        let payload = &self.buffer[FRAME_HEADER_BYTES..end];
        if there < end || header.reserved != [0; 3] || frame_crc(&self.buffer, payload) != header.crc {
            return Ok(None);
        }
        let payload = payload.to_vec();
        self.buffer.truncate(GUESS_BYTES);
        let FrameHeader { sequence, kind, chain, .. } = header;
        Ok(Some(Entry { sequence, kind, payload, segment: self.segment, offset, chain }))
    }

    /// Fills the buffer behind its first `filled` bytes; gives how many are there.
    fn fill(&mut self, offset: u64, mut filled: usize) -> Result<usize, JournalError> {
        while filled < self.buffer.len() {
            match self.file.read_at(&mut self.buffer[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("reading", &self.path)(error)),
            }
        }
        Ok(filled)
    }
}

fn exists(directory: &Path, number: u64) -> Result<bool, JournalError> {
    if number > SEGMENT_NUMBER_MAX {
        return Ok(false);
    }
    let path = segment_path(directory, number);
    path.try_exists().map_err(io_error("looking for", path))
}
