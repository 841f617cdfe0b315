//! Reading and verifying a journal.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{JournalError, io_error};
use super::segment::{SEGMENT_NUMBER_MAX, Scan, Start, Step, last_segment, segment_path};
use super::{CHAIN_START, Cut, Entry, SEQUENCE_FIRST};

/// Reads all entries of a journal in order and verifies each.
///
/// It takes no lock and changes nothing, so that it works beside a writer and
/// after a crash. Beside a writer it may return entries that are written but not
/// yet durable.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
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
    /// If the directory cannot be read, or segments are missing or misnamed.
    pub fn open(directory: &Path) -> Result<Reader, JournalError> {
        last_segment(directory)?;
        Ok(Reader { directory: directory.to_path_buf(), scan: None, superseded: false, torn: None, failure: None })
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
            None => (1, SEQUENCE_FIRST, CHAIN_START),
            Some(scan) => (scan.segment + 1, scan.sequence, scan.chain),
        };
        let last = !exists(&self.directory, number + 1)?;
        let path = segment_path(&self.directory, number);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && last => return Ok(false),
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

fn exists(directory: &Path, number: u64) -> Result<bool, JournalError> {
    if number > SEGMENT_NUMBER_MAX {
        return Ok(false);
    }
    let path = segment_path(directory, number);
    path.try_exists().map_err(io_error("looking for", path))
}
