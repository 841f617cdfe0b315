//! A file of blocks with a checksum each, read and written as if the checksums were not there.
//!
//! Whatever is read was checked, however little of a large file it is. Reads and writes count octets of content.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

use thiserror::Error;

const BLOCK_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;
/// Content of a block.
const CONTENT_BYTES: usize = BLOCK_BYTES - CRC_BYTES;

/// A block that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum BlockFlaw {
    /// Reading.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its checksum.
    #[error("the checksum of block {0} is wrong")]
    Checksum(u64),
    /// There is none.
    #[error("it has no block {0}")]
    Short(u64),
}

/// The checksum of a block's content, at its place.
fn checksum(number: u64, content: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), content)
}

/// Length of the file that holds so much content.
pub(super) fn file_bytes(content_bytes: u64) -> Option<u64> {
    content_bytes.div_ceil(CONTENT_BYTES as u64).checked_mul(BLOCK_BYTES as u64)
}

/// Writes content from its beginning to its end.
pub(super) struct BlockWriter<W> {
    out: W,
    number: u64,
    block: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, number: 0, block: Vec::with_capacity(BLOCK_BYTES) }
    }

    pub(super) fn put(&mut self, mut content: &[u8]) -> io::Result<()> {
        while !content.is_empty() {
            let room = CONTENT_BYTES - self.block.len();
            let (now, later) = content.split_at(room.min(content.len()));
            self.block.extend_from_slice(now);
            content = later;
            if self.block.len() == CONTENT_BYTES {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// Fills up the last block with zeros, and gives back what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.block.resize(CONTENT_BYTES, 0);
            self.write_block()?;
        }
        Ok(self.out)
    }

    fn write_block(&mut self) -> io::Result<()> {
        let crc = checksum(self.number, &self.block);
        self.block.extend_from_slice(&crc.to_le_bytes());
        self.out.write_all(&self.block)?;
        self.block.clear();
        self.number += 1;
        Ok(())
    }
}

/// Reads content at any place.
#[derive(Debug)]
pub(super) struct BlockReader {
    file: File,
    /// The block read last, and its number.
    block: Vec<u8>,
    number: Option<u64>,
}

impl BlockReader {
    pub(super) fn new(file: File) -> Self {
        Self { file, block: vec![0; BLOCK_BYTES], number: None }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Fills `content` from the octet `at` on.
    pub(super) fn read(&mut self, mut at: u64, mut content: &mut [u8]) -> Result<(), BlockFlaw> {
        while !content.is_empty() {
            let number = at / CONTENT_BYTES as u64;
            let begin = (at % CONTENT_BYTES as u64) as usize;
            self.load(number)?;
            let count = content.len().min(CONTENT_BYTES - begin);
            let (now, later) = content.split_at_mut(count);
            now.copy_from_slice(&self.block[begin..begin + count]);
            content = later;
            at = at.saturating_add(count as u64);
        }
        Ok(())
    }

    fn load(&mut self, number: u64) -> Result<(), BlockFlaw> {
        if self.number == Some(number) {
            return Ok(());
        }
        self.number = None;
        let Some(at) = number.checked_mul(BLOCK_BYTES as u64) else { return Err(BlockFlaw::Short(number)) };
        match self.file.read_exact_at(&mut self.block, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(BlockFlaw::Short(number)),
            result => result?,
        }
        let (content, crc) = self.block.split_at(CONTENT_BYTES);
        if checksum(number, content).to_le_bytes() != crc {
            return Err(BlockFlaw::Checksum(number));
        }
        self.number = Some(number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_any_length_reads_back_at_any_place() {
        for length in [0, 1, CONTENT_BYTES - 1, CONTENT_BYTES, CONTENT_BYTES + 1, 3 * CONTENT_BYTES + 17] {
            let content: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
            let mut writer = BlockWriter::new(tempfile::tempfile().expect("a file"));
            content.chunks(1000).for_each(|chunk| writer.put(chunk).expect("written"));
            let file = writer.finish().expect("written");
            assert_eq!(Some(file.metadata().expect("a length").len()), file_bytes(length as u64));
            let mut reader = BlockReader::new(file);
            for (from, to) in [(0, length), (length / 2, length), (length / 3, length / 2)] {
                let mut found = vec![0; to - from];
                reader.read(from as u64, &mut found).expect("read");
                assert_eq!(found, content[from..to]);
            }
            let beyond = length.next_multiple_of(CONTENT_BYTES) as u64;
            assert!(matches!(reader.read(beyond, &mut [0]), Err(BlockFlaw::Short(_))));
            assert!(matches!(reader.read(u64::MAX, &mut [0]), Err(BlockFlaw::Short(_))));
        }
    }

    #[test]
    fn a_block_in_the_place_of_another_is_noticed() {
        let mut writer = BlockWriter::new(tempfile::tempfile().expect("a file"));
        writer.put(&[5; 2 * CONTENT_BYTES]).expect("written");
        let file = writer.finish().expect("written");
        let mut block = [0; BLOCK_BYTES];
        file.read_exact_at(&mut block, 0).expect("read");
        file.write_all_at(&block, BLOCK_BYTES as u64).expect("written");
        let mut reader = BlockReader::new(file);
        assert!(reader.read(0, &mut [0]).is_ok());
        assert!(matches!(reader.read(CONTENT_BYTES as u64, &mut [0]), Err(BlockFlaw::Checksum(1))));
    }
}
