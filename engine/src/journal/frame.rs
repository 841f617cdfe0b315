//! Encoding and decoding of segment headers and frames.

use sha2::{Digest, Sha256};

/// The first bytes of every segment.
pub(super) const MAGIC: [u8; 8] = *b"PLXJRNL1";
/// The only format version there is.
pub(super) const VERSION: u32 = 1;
/// Length of a segment header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
/// Length of a frame without its payload.
pub(super) const FRAME_HEADER_BYTES: usize = 52;

const HEADER_CRC_AT: usize = 60;
const CRC_AT: usize = 16;
const CHAIN_AT: usize = 20;

/// A segment header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) segment: u64,
    pub(super) first_sequence: u64,
    pub(super) chain: [u8; 32],
}

/// Why a segment header is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFlaw {
    Magic,
    Checksum,
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.segment.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[28..HEADER_CRC_AT].copy_from_slice(&self.chain);
        let crc = crc32c::crc32c(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, HeaderFlaw> {
        if bytes[..8] != MAGIC {
            return Err(HeaderFlaw::Magic);
        }
        if crc32c::crc32c(&bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT) {
            return Err(HeaderFlaw::Checksum);
        }
        match u32_at(bytes, 8) {
            VERSION => Ok(SegmentHeader {
                segment: u64_at(bytes, 12),
                first_sequence: u64_at(bytes, 20),
                chain: array_at(bytes, 28),
            }),
            other => Err(HeaderFlaw::Version(other)),
        }
    }
}

/// A frame header's fields; decoding checks nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) reserved: [u8; 3],
    pub(super) sequence: u64,
    pub(super) crc: u32,
    pub(super) chain: [u8; 32],
}

impl FrameHeader {
    /// Decodes the first [`FRAME_HEADER_BYTES`] of `bytes`, which must be there.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        FrameHeader {
            length: u32_at(bytes, 0),
            kind: bytes[4],
            reserved: array_at(bytes, 5),
            sequence: u64_at(bytes, 8),
            crc: u32_at(bytes, CRC_AT),
            chain: array_at(bytes, CHAIN_AT),
        }
    }
}

/// Appends a frame to `buffer` and returns the new chain hash.
///
/// The caller has checked the payload's length.
pub(super) fn encode_frame(
    buffer: &mut Vec<u8>,
    previous: &[u8; 32],
    sequence: u64,
    kind: u8,
    payload: &[u8],
) -> [u8; 32] {
    let chain = chain_next(previous, sequence, kind, payload);
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[4] = kind;
    header[8..CRC_AT].copy_from_slice(&sequence.to_le_bytes());
    header[CHAIN_AT..].copy_from_slice(&chain);
    let crc = frame_crc(&header, payload);
    header[CRC_AT..CHAIN_AT].copy_from_slice(&crc.to_le_bytes());
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(payload);
    chain
}

/// The checksum of a whole frame, its checksum field left out.
pub(super) fn frame_crc(header: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&header[..CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &header[CHAIN_AT..FRAME_HEADER_BYTES]);
    crc32c::crc32c_append(crc, payload)
}

/// The chain hash after an entry.
pub(super) fn chain_next(previous: &[u8; 32], sequence: u64, kind: u8, payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(sequence.to_le_bytes());
    hash.update([kind]);
    hash.update(payload);
    hash.finalize().into()
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
