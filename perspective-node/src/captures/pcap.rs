//! Frames as a capture file: the classic form with nanoseconds, which tcpdump and Wireshark read.
//!
//! ```text
//! file   magic a1b23c4d | version 2.4 | zone 0 | accuracy 0 | longest frame | link type 1 (Ethernet)
//! frame  seconds | nanoseconds | octets kept | octets on the wire | the octets kept
//! ```
//!
//! All numbers are little-endian: the magic tells a reader so.

use jiff::Timestamp;
use parallax_ring::KeptFrame;

/// Says that times have nanoseconds, and in which order octets are.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];
/// Ethernet.
const LINK_TYPE: u32 = 1;
/// No frame is longer, octets.
const FRAME_MAX: u32 = 65_535;
/// Octets before the first frame.
pub(crate) const FILE_HEADER: usize = 24;
/// Octets before the octets of each frame.
pub(crate) const FRAME_HEADER: usize = 16;

/// Whether a file is a capture of this form, by its header.
#[must_use]
pub fn is_capture_file(file: &[u8]) -> bool {
    file.len() >= FILE_HEADER && file.starts_with(&MAGIC.to_le_bytes())
}

/// A capture of frames that came and left before `now`.
pub(crate) fn compose(frames: &[KeptFrame<'_>], now: Timestamp) -> Vec<u8> {
    let octets: usize = frames.iter().map(|frame| FRAME_HEADER + frame.bytes.len()).sum();
    let mut file = Vec::with_capacity(FILE_HEADER + octets);
    let word = |file: &mut Vec<u8>, word: u32| file.extend_from_slice(&word.to_le_bytes());
    word(&mut file, MAGIC);
    VERSION.iter().for_each(|number| file.extend_from_slice(&number.to_le_bytes()));
    for number in [0, 0, FRAME_MAX, LINK_TYPE] {
        word(&mut file, number);
    }
    for frame in frames {
        // Before 1970 there were no frames: whoever set the clock so sees the begin of it.
        let at = now.checked_sub(frame.ago).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH);
        // The form has 32 bits; they last until 2106.
        word(&mut file, at.as_second() as u32);
        word(&mut file, at.subsec_nanosecond() as u32);
        word(&mut file, frame.bytes.len() as u32);
        word(&mut file, frame.length as u32);
        file.extend_from_slice(frame.bytes);
    }
    file
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_capture_is_what_the_form_says() {
        let frame = |ago, length, bytes| KeptFrame { ago: Duration::from_micros(ago), length, bytes };
        let frames = [frame(1_500_000, 1514, &b"first"[..]), frame(0, 3, &b"end"[..])];
        let now = "2026-12-15T00:00:00.25Z".parse().expect("an instant");
        let file = compose(&frames, now);
        let seconds = 1_797_292_800_u32;
        assert_eq!(now.as_second(), i64::from(seconds));
        let header = [&[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[255, 255, 0, 0, 1, 0, 0, 0]].concat();
        let record = |seconds: u32, nanoseconds: u32, kept: u32, length: u32, bytes: &[u8]| {
            let numbers = [seconds, nanoseconds, kept, length].map(u32::to_le_bytes);
            [numbers.as_flattened(), bytes].concat()
        };
        let first = record(seconds - 2, 750_000_000, 5, 1514, b"first");
        let second = record(seconds, 250_000_000, 3, 3, b"end");
        assert_eq!(file, [header, first, second].concat());
    }
}
