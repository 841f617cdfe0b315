//! A message where it lies: records one after another in one pass, names compared without copying them.
//!
//! Leaves out what record data mean; those that hold names are read by `domain`, from where the record begins.
//!
//! Invariants: nothing outside the packet is read; a name ends, since each pointer leads back (RFC 1035 §4.1.4), there
//! are at most 255 of them, and labels add up to at most 255 octets. So a name takes few steps, whatever comes.

use domain::{
    base::{record::ParsedRecord, wire::ParseError},
    dep::octseq::Parser,
};

const HEADER_BYTES: usize = 12;
const NAME_OCTETS_MAX: usize = 255;
/// More than a name has labels; a message can hold thousands in a row.
const POINTERS_MAX: u32 = 255;
/// The two highest bits of a length octet that is the first of a pointer.
const POINTER: u8 = 0xc0;

/// A part of a message that has records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

impl Section {
    const ALL: [Self; 3] = [Self::Answer, Self::Authority, Self::Additional];

    fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Authority => "authority",
            Self::Additional => "additional",
        }
    }
}

/// One record of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    packet: &'a [u8],
    /// Where it begins: at its owner.
    start: usize,
    pub(super) section: Section,
    pub(super) rtype: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) rdata: &'a [u8],
}

impl<'a> Record<'a> {
    /// Its owner.
    pub(super) fn owner(&self) -> OwnerAt<'a> {
        OwnerAt { packet: self.packet, at: self.start }
    }

    /// The record as `domain` reads it.
    pub(super) fn parsed(&self) -> Result<ParsedRecord<'a, [u8]>, ParseError> {
        let mut parser = Parser::from_ref(self.packet);
        parser.advance(self.start)?;
        ParsedRecord::parse(&mut parser)
    }
}

/// A name in a message, known to be one.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerAt<'a> {
    packet: &'a [u8],
    at: usize,
}

impl OwnerAt<'_> {
    /// Whether it is the name with this wire form. Case does not count (RFC 4343).
    pub(super) fn is(&self, name: &[u8]) -> bool {
        if self.stands_whole(name) {
            return true;
        }
        let mut rest = name;
        let whole = walk(self.packet, self.at, &mut |label| match rest.split_at_checked(label.len()) {
            Some((ours, behind)) if ours.eq_ignore_ascii_case(label) => {
                rest = behind;
                true
            }
            _ => false,
        });
        matches!(whole, Ok(Some(_))) && rest.is_empty()
    }

    /// Whether its octets stand in one piece where it begins, or where a pointer there leads, as those of the question do
    /// for nearly every answer. A name that is compressed elsewhere has to be walked through.
    fn stands_whole(&self, wire: &[u8]) -> bool {
        let whole_at = match u16_at(self.packet, self.at) {
            Some(first) if first.to_be_bytes()[0] & POINTER == POINTER => usize::from(first & 0x3fff),
            _ => self.at,
        };
        // Length octets are below 64, and so are no letters.
        self.packet.get(whole_at..whole_at + wire.len()).is_some_and(|octets| octets.eq_ignore_ascii_case(wire))
    }
}

/// The records of a message, all sections one after another.
pub(super) struct Records<'a> {
    packet: &'a [u8],
    at: usize,
    section: usize,
    left: [u16; 3],
}

impl<'a> Records<'a> {
    /// Skips the header and the questions.
    ///
    /// # Errors
    /// They are not all there.
    pub(super) fn of(packet: &'a [u8]) -> Result<Self, String> {
        let mut at = HEADER_BYTES;
        let count = |at: usize| u16_at(packet, at).ok_or_else(|| "shorter than a header".to_owned());
        for _ in 0..count(4)? {
            at = skip_name(packet, at).map_err(|problem| format!("question section: {problem}"))? + 4;
        }
        if at > packet.len() {
            return Err(format!("question section: {CUT}"));
        }
        Ok(Self { packet, at, section: 0, left: [count(6)?, count(8)?, count(10)?] })
    }

    /// The next record.
    ///
    /// # Errors
    /// It is not whole, or its owner is no name.
    pub(super) fn next(&mut self) -> Result<Option<Record<'a>>, String> {
        while self.left.get(self.section) == Some(&0) {
            self.section += 1;
        }
        let Some(&section) = Section::ALL.get(self.section) else { return Ok(None) };
        self.left[self.section] -= 1;
        let record = self.read(section).map_err(|problem| format!("{} section: {problem}", section.name()))?;
        Ok(Some(record))
    }

    fn read(&mut self, section: Section) -> Result<Record<'a>, &'static str> {
        let (packet, start) = (self.packet, self.at);
        let fields = skip_name(packet, start)?;
        let head = packet.get(fields..).and_then(<[u8]>::first_chunk::<10>).ok_or(CUT)?;
        let &[t1, t0, c1, c0, l3, l2, l1, l0, r1, r0] = head;
        let data = fields + head.len();
        let end = data + usize::from(u16::from_be_bytes([r1, r0]));
        let rdata = packet.get(data..end).ok_or(CUT)?;
        self.at = end;
        Ok(Record {
            packet,
            start,
            section,
            rtype: u16::from_be_bytes([t1, t0]),
            class: u16::from_be_bytes([c1, c0]),
            ttl: u32::from_be_bytes([l3, l2, l1, l0]),
            rdata,
        })
    }
}

const CUT: &str = "cut short";

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..)?.first_chunk::<2>().map(|octets| u16::from_be_bytes(*octets))
}

/// Where the name at `at` ends in the message.
fn skip_name(packet: &[u8], at: usize) -> Result<usize, &'static str> {
    walk(packet, at, &mut |_| true).map(Option::unwrap_or_default)
}

/// Reads the name at `at`, label by label, each with its length octet, the root last. Tells where it ends in the
/// message, or nothing if `each` refused a label.
fn walk(packet: &[u8], at: usize, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<Option<usize>, &'static str> {
    let (mut at, mut octets, mut pointers) = (at, 0, 0);
    let mut end = None;
    loop {
        let length = *packet.get(at).ok_or(CUT)?;
        match length & POINTER {
            0 => {
                let behind = at + 1 + usize::from(length);
                let label = packet.get(at..behind).ok_or(CUT)?;
                octets += label.len();
                if octets > NAME_OCTETS_MAX {
                    return Err("a name of more than 255 octets");
                }
                if !each(label) {
                    return Ok(None);
                }
                at = behind;
                if length == 0 {
                    return Ok(Some(end.unwrap_or(at)));
                }
            }
            POINTER => {
                let target = usize::from(u16_at(packet, at).ok_or(CUT)? & 0x3fff);
                end = end.or(Some(at + 2));
                pointers += 1;
                if target >= at {
                    return Err("a pointer to itself or ahead");
                }
                if pointers > POINTERS_MAX {
                    return Err("too many pointers");
                }
                at = target;
            }
            _ => return Err("a label of an unknown kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use domain::base::{Message, Name, ToName as _, UnknownRecordData};

    use super::*;

    fn name(text: &str) -> Name<Vec<u8>> {
        Name::from_str(text).expect("a name")
    }

    #[test]
    fn names_are_compared_through_pointers_and_without_case() {
        // "example" at 12, "CuStomer" before it at 21, a name in full at 32.
        let mut packet = vec![0; HEADER_BYTES];
        packet.extend(b"\x07example\x00\x08CuStomer\xc0\x0c\x01a\xc0\x15");
        let at = |at| OwnerAt { packet: &packet, at };
        assert!(at(21).is(name("customer.EXAMPLE").as_slice()));
        assert!(at(32).is(name("a.customer.example").as_slice()));
        assert!(!at(32).is(name("b.customer.example").as_slice()));
        assert!(!at(21).is(name("customer.example.org").as_slice()));
        assert!(!at(21).is(name("customer").as_slice()));
        assert!(!at(12).is(name("customer.example").as_slice()));
        assert_eq!(skip_name(&packet, 12), Ok(21));
        assert_eq!(skip_name(&packet, 21), Ok(32));
        assert_eq!(skip_name(&packet, 32), Ok(36));
    }

    #[test]
    fn a_name_ends_or_is_none() {
        let refused = |octets: &[u8], at: usize| skip_name(octets, at).expect_err("no name");
        assert!(refused(b"\xc0\x00", 0).contains("itself"));
        assert!(refused(b"\x01a\xc0\x00", 0).contains("255"), "a name that contains itself");
        assert!(refused(b"\xc0\x02\x00", 0).contains("ahead"));
        assert!(refused(b"\xc0\x02\xc0\x00", 2).contains("ahead"), "two that point to each other");
        assert!(refused(b"\x40a\x00", 0).contains("unknown"));
        for octets in [&b""[..], b"\x01", b"\x01a", b"\xc0"] {
            assert_eq!(refused(octets, 0), CUT);
        }
        let mut long = b"\x3f".iter().chain([b'a'; 63].iter()).copied().collect::<Vec<u8>>().repeat(4);
        long.push(0);
        assert!(refused(&long, 0).contains("255"));
        long.drain(..2);
        long[0] = 61;
        assert_eq!(skip_name(&long, 0), Ok(255));
    }

    /// A message whose one record has an owner of so many pointers, each to the one before.
    fn chained(pointers: u16) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
        packet.extend(b"\x01q\x00\x00\x10\x00\x01");
        // The chain lies in the data of the first record; its first pointer leads to the question.
        packet.extend(b"\xc0\x0c\x00\x63\x00\x01\x00\x00\x00\x00");
        packet.extend((2 * (pointers - 1)).to_be_bytes());
        let mut target = 12_u16;
        for _ in 1..pointers {
            let at = packet.len() as u16;
            packet.extend((0xc000 | target).to_be_bytes());
            target = at;
        }
        packet.extend((0xc000 | target).to_be_bytes());
        packet.extend(b"\x00\x63\x00\x01\x00\x00\x00\x00\x00\x00");
        packet
    }

    /// Thousands of pointers in a row, in thousands of records, would be followed for seconds.
    #[test]
    fn no_name_has_more_pointers_than_another_reader_follows() {
        for (pointers, is_read) in [(1, true), (254, true), (255, true), (256, false), (5000, false)] {
            let packet = chained(pointers);
            assert_eq!(by_domain(&packet).is_some(), is_read, "{pointers}");
            let ours = by_us(&packet);
            assert_eq!(ours.is_ok(), is_read, "{pointers}: {ours:?}");
            if let Some(last) = ours.ok().and_then(|records| records.last().copied()) {
                assert!(last.owner().is(name("q").as_slice()));
            }
        }
    }

    /// A reply with compressed names in every section.
    fn seed() -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 3, 0, 1, 0, 2];
        packet.extend(b"\x03wWw\x08customer\x07example\x00\x01\x01\x00\x01");
        // CNAME to a name below the same zone, then CAA of that one; an unrelated A.
        packet.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x0e\x10\x00\x08\x05alias\xc0\x10");
        packet.extend(b"\xc0\x32\x01\x01\x00\x01\x00\x00\x01\x2c\x00\x0b\x00\x05issue\x63\x61\x2e\x74");
        packet.extend(b"\xc0\x19\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01");
        packet.extend(b"\xc0\x10\x00\x02\x00\x01\x00\x00\x00\x3c\x00\x05\x02ns\xc0\x10");
        packet.extend(b"\x02ns\xc0\x10\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x02");
        packet.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x06\x00\x0f\x00\x02\x00\x16");
        packet
    }

    type Told = Vec<(u16, u16, u32, Vec<u8>, Name<Vec<u8>>)>;

    /// What `domain` reads, if it reads all of it.
    fn by_domain(packet: &[u8]) -> Option<Told> {
        let message = Message::from_slice(packet).ok()?;
        let mut told = Vec::new();
        let mut section = Some(message.answer().ok()?);
        while let Some(mut records) = section {
            for record in records.by_ref() {
                let record = record.ok()?;
                let raw = record.to_record::<UnknownRecordData<&[u8]>>().ok()??;
                let rdata = raw.data().data().to_vec();
                let class = record.class().to_int();
                let owner = record.owner().to_name();
                told.push((record.rtype().to_int(), class, record.ttl().as_secs(), rdata, owner));
            }
            section = records.next_section().ok()?;
        }
        Some(told)
    }

    fn by_us(packet: &[u8]) -> Result<Vec<Record<'_>>, String> {
        let mut records = Records::of(packet)?;
        let mut told = Vec::new();
        while let Some(record) = records.next()? {
            told.push(record);
        }
        Ok(told)
    }

    /// Whatever comes, both read the same or neither reads anything.
    #[test]
    fn a_message_is_read_as_another_reader_reads_it() {
        let seed = seed();
        assert_eq!(by_domain(&seed).expect("a message").len(), 6);
        let mut state = 7_u64;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..60_000 {
            let mut packet = seed.clone();
            for _ in 0..=draw(3) {
                let at = draw(packet.len());
                match draw(4) {
                    0 => packet[at] = draw(256) as u8,
                    1 => packet[at] ^= 1 << draw(8),
                    2 => packet[at] = [0, 1, 63, 64, 0xc0, 12][draw(6)],
                    _ => packet.truncate(at.max(1)),
                }
            }
            match (by_domain(&packet), by_us(&packet)) {
                (Some(theirs), Ok(ours)) => {
                    read += 1;
                    assert_eq!(theirs.len(), ours.len(), "{packet:02x?}");
                    for ((rtype, class, ttl, rdata, owner), record) in theirs.iter().zip(&ours) {
                        assert_eq!((*rtype, *class, *ttl), (record.rtype, record.class, record.ttl), "{packet:02x?}");
                        assert_eq!(rdata, record.rdata, "{packet:02x?}");
                        assert!(record.owner().is(owner.as_slice()), "{packet:02x?}");
                        assert_eq!(
                            record.owner().is(name("www.customer.example").as_slice()),
                            *owner == name("www.customer.example")
                        );
                        assert_eq!(record.parsed().expect("a record").owner().to_name::<Vec<u8>>(), *owner);
                    }
                }
                (None, Err(_)) => refused += 1,
                (theirs, ours) => panic!("{packet:02x?}: domain {theirs:?}, here {ours:?}"),
            }
        }
        assert!(read > 10_000 && refused > 10_000, "{read} read, {refused} refused");
    }
}
