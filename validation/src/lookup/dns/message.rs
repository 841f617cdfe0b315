//! Composing queries and reading replies, on the wire types of the `domain` crate.
//!
//! A reply is matched octet by octet against the question as sent, case included: names compare without
//! case everywhere else. Record data are copied as raw octets, but names of CNAME, PTR and MX are made whole and put
//! in lower case; what they mean is judged elsewhere.
//!
//! Implements RFC 1035 §4, RFC 6891 §6 (EDNS), RFC 8914, RFC 2308 §2 (denials), and the query-name case
//! randomisation of draft-vixie-dnsext-dns0x20.

use std::{borrow::Cow, str::FromStr};

use domain::{
    base::{
        Name, ParsedName, Rtype, ToName,
        iana::Class,
        opt::{ExtendedError as EdeOption, Opt},
        wire::ParseError,
    },
    rdata::{Cname, Dname, Soa as SoaData},
};
use smallvec::SmallVec;

use super::{
    super::dnssec::set::{canonical_rdata, is_plain, text_of},
    wire::{OwnerAt, Record, Records, Section},
};
use crate::{
    base::{
        Entropy,
        limits::{ALIAS_HOPS_MAX, EDE_MAX, EDE_TEXT_BYTES_MAX, EDNS_PAYLOAD_BYTES},
        octets::Octets,
    },
    observation::{Alias, Denial, DnsFailure, DnsOutcome, ExtendedError, RecordSet, RecordType, Soa},
};

const HEADER_BYTES: usize = 12;
/// Flags by their distance from the least significant bit (RFC 1035 §4.1.1, RFC 4035 §3.2.2, RFC 3225 §3).
const RD_BIT: u16 = 8;
const CD_BIT: u16 = 4;
const DO_BIT: u16 = 15;
/// An NSID option without data: the question for it (RFC 5001 §2.1).
const NSID_OPTION: [u8; 4] = [0, 3, 0, 0];
/// RFC 1035 §2.3.4.
const LABEL_OCTETS_MAX: usize = 63;
/// The same, with all lengths and the root.
const NAME_OCTETS_MAX: usize = 255;
/// In the fourth octet (RFC 4035 §3.2.3).
const AD: u8 = 0x20;
const RCODE_NOERROR: u16 = 0;
const RCODE_NXDOMAIN: u16 = 3;

/// A question: a name that was checked, and a type.
#[derive(Clone, Debug)]
pub struct Question {
    /// The question section (RFC 1035 §4.1.2): the name, in the case in which it is sent, then type and class.
    section: SmallVec<[u8; SECTION_INLINE]>,
    /// The name needs no escapes as text.
    is_plain: bool,
    rtype: RecordType,
    checking_disabled: bool,
    to_name_server: bool,
    /// Whether [`Question::mix_case`] draws its case.
    mixed_case: bool,
    edns: bool,
}

/// Of a question section, type and class.
const TYPE_AND_CLASS: usize = 4;
/// Most question sections have no more octets, and so no memory of their own.
const SECTION_INLINE: usize = 56;

impl Question {
    /// A question about `name`, which is given without final dot. It is asked in lower case unless [`Self::mix_case`] is
    /// called.
    ///
    /// # Errors
    /// The name cannot be put on the wire.
    pub fn new(name: &str, rtype: RecordType) -> Result<Self, String> {
        let mut section = SmallVec::new();
        let is_plain = write_plain_name(name, &mut section);
        if !is_plain {
            let wire = Name::<Vec<u8>>::from_str(name).map_err(|error| format!("{name}: {error}"))?;
            section = SmallVec::from_slice(wire.as_slice());
        }
        // Lengths are below 64, and so are no letters.
        section.make_ascii_lowercase();
        section.extend_from_slice(&rtype.number().to_be_bytes());
        section.extend_from_slice(&Class::IN.to_int().to_be_bytes());
        Ok(Self {
            section,
            is_plain,
            rtype,
            checking_disabled: false,
            to_name_server: false,
            mixed_case: true,
            edns: true,
        })
    }

    /// The same with CD set: the resolver is to pass on what it does not believe, since it is validated here
    /// (RFC 4035 §3.2.2, RFC 6840 §5.9).
    #[must_use]
    pub fn with_checking_disabled(mut self) -> Self {
        self.checking_disabled = true;
        self
    }

    /// The same for a name server of the zone itself: RD clear, the name in plain case, and the server is asked
    /// who it is (RFC 5001 §2.1).
    #[must_use]
    pub fn to_name_server(mut self) -> Self {
        self.to_name_server = true;
        self.mixed_case = false;
        self
    }

    /// The same with the case of the name's letters drawn for a name server too, to see whether it copies it.
    #[must_use]
    pub fn with_mixed_case(mut self) -> Self {
        self.mixed_case = true;
        self
    }

    /// The same without EDNS, for servers that do not know it (RFC 6891 §6.2.2): no DO, no NSID, and replies of 512
    /// octets at most.
    #[must_use]
    pub fn without_edns(mut self) -> Self {
        self.edns = false;
        self
    }

    /// Draws the case of each letter of the name from `entropy`, if the question is to have mixed case as those to a
    /// resolver have.
    pub fn mix_case(&mut self, entropy: &mut dyn Entropy) {
        if self.mixed_case {
            mix_case(self.wire_mut(), entropy);
        }
    }

    /// Puts the name in lower case again.
    pub fn unmix_case(&mut self) {
        self.wire_mut().make_ascii_lowercase();
    }

    fn wire_mut(&mut self) -> &mut [u8] {
        let octets = self.section.len() - TYPE_AND_CLASS;
        &mut self.section[..octets]
    }

    /// The question section as it is sent; a reply copies it.
    #[must_use]
    pub fn section(&self) -> &[u8] {
        &self.section
    }

    /// The name asked, as it is sent.
    fn name(&self) -> &Name<[u8]> {
        // It was made of a name, which case does not change.
        Name::from_slice(self.wire()).unwrap_or(Name::root_slice())
    }

    fn wire(&self) -> &[u8] {
        &self.section[..self.section.len() - TYPE_AND_CLASS]
    }

    /// Whether it is for a name server of the zone itself.
    #[must_use]
    pub fn is_to_name_server(&self) -> bool {
        self.to_name_server
    }

    /// The type asked.
    #[must_use]
    pub fn rtype(&self) -> RecordType {
        self.rtype
    }

    /// Whether its letters are in mixed case, and whether it has EDNS: servers that drop queries may do so by either.
    pub(super) fn form(&self) -> (bool, bool) {
        (self.mixed_case, self.edns)
    }

    /// The name asked, lower case, without final dot.
    #[must_use]
    pub fn name_text(&self) -> String {
        let wire = self.wire();
        let mut text = wire.get(1..wire.len().saturating_sub(1)).unwrap_or_default().to_vec();
        text.make_ascii_lowercase();
        // A dot goes where each length is but the first.
        let mut length_at = wire.first().map_or(0, |length| usize::from(*length));
        while let Some(length) = text.get_mut(length_at) {
            length_at += 1 + usize::from(std::mem::replace(length, b'.'));
        }
        match String::from_utf8(text) {
            Ok(text) if self.is_plain => text,
            _ => text_of(self.name()),
        }
    }
}

/// Composes a query into `buffer`.
///
/// RD set unless a name server is asked, EDNS with a payload size of 1232 octets and DO unless the question is without;
/// CD as the question says.
pub fn compose(question: &Question, id: u16, buffer: &mut Vec<u8>) {
    let nsid: &[u8] = if question.to_name_server { &NSID_OPTION } else { &[] };
    let flags = (u16::from(!question.to_name_server) << RD_BIT) | (u16::from(question.checking_disabled) << CD_BIT);
    buffer.clear();
    // One question and, in the additional section, the OPT record.
    for field in [id, flags, 1, 0, 0, u16::from(question.edns)] {
        buffer.extend_from_slice(&field.to_be_bytes());
    }
    buffer.extend_from_slice(&question.section);
    if !question.edns {
        return;
    }
    // Owner: the root. TTL: extended code 0, version 0, DO.
    buffer.push(0);
    for field in [Rtype::OPT.to_int(), EDNS_PAYLOAD_BYTES, 0, 1 << DO_BIT, nsid.len() as u16] {
        buffer.extend_from_slice(&field.to_be_bytes());
    }
    buffer.extend_from_slice(nsid);
}

/// Writes the wire form of a name that needs no escapes, as nearly all names do. False for others and for what is no name;
/// what is written then means nothing.
fn write_plain_name(text: &str, wire: &mut SmallVec<[u8; SECTION_INLINE]>) -> bool {
    // Without a way out before the end, so that many octets are looked at in one step.
    let all_plain = text.bytes().fold(true, |plain, octet| plain & (is_plain(octet) | (octet == b'.')));
    if !all_plain || text.len() + 2 > NAME_OCTETS_MAX {
        return false;
    }
    wire.reserve(text.len() + 2 + TYPE_AND_CLASS);
    // The text, behind where the first length goes; each dot is where another goes.
    wire.push(0);
    wire.extend_from_slice(text.as_bytes());
    wire.push(0);
    let mut label_at = 0;
    let ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'.').map(|(at, _)| at);
    for end in ends.chain([text.len()]) {
        let length = end - label_at;
        if length == 0 || length > LABEL_OCTETS_MAX {
            return false;
        }
        // Where the dot before it was, one octet on.
        wire[label_at] = length as u8;
        label_at = end + 1;
    }
    true
}

/// Flips the case of letters in a wire-form name by random bits, one for each octet. Length octets are below 64 and so
/// are never letters.
fn mix_case(name: &mut [u8], entropy: &mut dyn Entropy) {
    for octets in name.chunks_mut(64) {
        let bits = entropy.next_u64();
        for (at, octet) in octets.iter_mut().enumerate() {
            let flips = (bits >> at) as u8 & u8::from(octet.is_ascii_alphabetic());
            *octet ^= flips << 5;
        }
    }
}

/// Whether a packet is the reply to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is.
    Reply,
    /// It is, but TC is set.
    Truncated,
    /// It would be if case did not count.
    CaseDiffers,
    /// It is not.
    Stray,
}

/// Compares a packet with a query's id and the octets of its question section.
#[must_use]
pub fn match_reply(packet: &[u8], id: u16, question: &[u8]) -> Match {
    // A packet too short to hold the question is never a reply, and an empty question was never asked.
    let Some(section) = packet.get(HEADER_BYTES..HEADER_BYTES + question.len()).filter(|_| !question.is_empty()) else {
        return Match::Stray;
    };
    let is_response = packet[2] & 0x80 != 0 && packet[2] & 0x78 == 0;
    let one_question = packet[4] == 0 && packet[5] == 1;
    if u16::from_be_bytes([packet[0], packet[1]]) != id || !is_response || !one_question {
        return Match::Stray;
    }
    if section != question {
        return if section.eq_ignore_ascii_case(question) { Match::CaseDiffers } else { Match::Stray };
    }
    if packet[2] & 0x02 != 0 { Match::Truncated } else { Match::Reply }
}

/// What a matched reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What became of the question.
    pub outcome: DnsOutcome,
    /// AD was set.
    pub authenticated: bool,
    /// Extended errors.
    pub extended_errors: Vec<ExtendedError>,
}

/// Reads a matched reply.
///
/// # Errors
/// It cannot be read to its end: the text says where. The caller tries TCP or gives up.
pub fn read_reply(packet: &[u8], question: &Question) -> Result<Reply, String> {
    let sections = Sections::read(packet, question.rtype)?;
    let rcode = u16::from(packet.get(3).map_or(0, |octet| octet & 0x0f)) | u16::from(sections.extended_code) << 4;
    let outcome = match rcode {
        RCODE_NOERROR | RCODE_NXDOMAIN => sections.follow(question, rcode == RCODE_NXDOMAIN),
        other => DnsOutcome::Failed(DnsFailure::Rcode(other)),
    };
    let authenticated = packet.get(3).is_some_and(|octet| octet & AD != 0);
    Ok(Reply { outcome, authenticated, extended_errors: sections.extended_errors })
}

type WireName<'a> = ParsedName<&'a [u8]>;

/// Owner, TTL and data of a record of the type asked.
type Datum<'a> = (OwnerAt<'a>, u32, Cow<'a, [u8]>);

/// The records of a reply that bear on the question, in the order they came.
#[derive(Default)]
struct Sections<'a> {
    data: SmallVec<[Datum<'a>; 2]>,
    aliases: Vec<(WireName<'a>, u32, WireName<'a>)>,
    redirections: Vec<(WireName<'a>, u32, WireName<'a>)>,
    soa: Option<(Name<Vec<u8>>, Soa)>,
    /// The upper bits of the code (RFC 6891 §6.1.3).
    extended_code: u8,
    extended_errors: Vec<ExtendedError>,
}

impl<'a> Sections<'a> {
    /// Reads all sections to their end: a reply cut short is noticed whatever it was about.
    fn read(packet: &'a [u8], rtype: RecordType) -> Result<Self, String> {
        let (mut sections, mut has_opt) = (Self::default(), false);
        let mut records = Records::of(packet)?;
        while let Some(record) = records.next()? {
            match record.section {
                Section::Answer if record.class == Class::IN.to_int() => sections.read_answer(&record, rtype)?,
                Section::Authority if record.class == Class::IN.to_int() && sections.soa.is_none() => {
                    sections.soa = soa_of(&record);
                }
                // The first counts; its class is a size (RFC 6891 §6.1.2).
                Section::Additional if record.rtype == Rtype::OPT.to_int() && !has_opt => {
                    has_opt = true;
                    sections.read_opt(&record);
                }
                Section::Answer | Section::Authority | Section::Additional => {}
            }
        }
        Ok(sections)
    }

    fn read_answer(&mut self, record: &Record<'a>, wanted: RecordType) -> Result<(), String> {
        let in_answer = |e: ParseError| format!("answer section: {e}");
        let rtype = Rtype::from_int(record.rtype);
        if record.rtype == wanted.number() {
            let rdata = match rtype {
                Rtype::CNAME | Rtype::PTR | Rtype::MX => {
                    Cow::Owned(record.parsed().and_then(|record| canonical_rdata(&record)).map_err(in_answer)?)
                }
                _ => Cow::Borrowed(record.rdata),
            };
            self.data.push((record.owner(), record.ttl, rdata));
        } else if rtype == Rtype::CNAME {
            let parsed = record.parsed().map_err(in_answer)?;
            if let Some(alias) = parsed.to_record::<Cname<_>>().map_err(|e| format!("CNAME: {e}"))? {
                self.aliases.push((parsed.owner(), record.ttl, alias.into_data().into_cname()));
            }
        } else if rtype == Rtype::DNAME {
            let parsed = record.parsed().map_err(in_answer)?;
            if let Some(alias) = parsed.to_record::<Dname<_>>().map_err(|e| format!("DNAME: {e}"))? {
                self.redirections.push((parsed.owner(), record.ttl, alias.into_data().into_dname()));
            }
        }
        Ok(())
    }

    /// An OPT record that cannot be read is none.
    fn read_opt(&mut self, record: &Record<'a>) {
        let Ok(parsed) = record.parsed() else { return };
        let Ok(Some(opt)) = parsed.to_record::<Opt<_>>() else { return };
        let [extended_code, ..] = record.ttl.to_be_bytes();
        self.extended_code = extended_code;
        if record.rdata.is_empty() {
            return;
        }
        self.extended_errors = opt
            .data()
            .iter::<EdeOption<&[u8]>>()
            .flatten()
            .take(EDE_MAX)
            .map(|ede| ExtendedError {
                code: ede.code().to_int(),
                text: ede.text_slice().map(|text| Octets::first(text, EDE_TEXT_BYTES_MAX)).unwrap_or_default(),
            })
            .collect();
    }

    /// Follows aliases from the name asked to the records or to their denial.
    fn follow(&self, question: &Question, nxdomain: bool) -> DnsOutcome {
        // Where aliases have led; nothing while it is the name asked.
        let mut visited: Vec<Name<Vec<u8>>> = Vec::new();
        let mut aliases: Vec<Alias> = Vec::new();
        let mut ttl = u32::MAX;
        loop {
            let current = visited.last();
            let text = || current.map_or_else(|| question.name_text(), text_of);
            let set = self.set_at(current.map_or(question.wire(), Name::as_slice));
            if nxdomain && set.is_some() {
                let problem = format!("NXDOMAIN, with records of {}", text());
                return DnsOutcome::Failed(DnsFailure::Malformed(problem));
            }
            if let Some((set_ttl, rdata)) = set {
                return DnsOutcome::Answer(RecordSet { owner: text(), ttl: ttl.min(set_ttl), aliases, rdata });
            }
            let Some((target, alias_ttl, dname)) = self.alias_at(current, question) else { break };
            ttl = ttl.min(alias_ttl);
            aliases.push(Alias { owner: text(), target: text_of(&target), dname });
            if target == *question.name() || visited.contains(&target) {
                return DnsOutcome::Failed(DnsFailure::AliasLoop(aliases));
            }
            if aliases.len() > ALIAS_HOPS_MAX {
                return DnsOutcome::Failed(DnsFailure::AliasChainTooLong);
            }
            visited.push(target);
        }
        match visited.last() {
            Some(last) => self.denied(aliases, last, nxdomain),
            None => self.denied(aliases, question.name(), nxdomain),
        }
    }

    /// The chain ended without records. Only NXDOMAIN, or a denial that carries the SOA of a zone the name
    /// lies in (RFC 2308 §2.2), speaks about the name; silence, as in a referral of a server that does not
    /// recurse, or another zone's SOA is a failure and never "empty".
    fn denied<Octs: AsRef<[u8]> + ?Sized>(&self, aliases: Vec<Alias>, name: &Name<Octs>, nxdomain: bool) -> DnsOutcome {
        let covers = self.soa.as_ref().is_some_and(|(zone, _)| name.ends_with(zone));
        let denial = Denial { aliases, soa: self.soa.as_ref().map(|(_, soa)| soa.clone()) };
        match (nxdomain, covers) {
            (true, _) => DnsOutcome::Nxdomain(denial),
            (false, true) => DnsOutcome::Nodata(denial),
            (false, false) => DnsOutcome::Failed(DnsFailure::IncompleteChain(text_of(&name))),
        }
    }

    fn set_at(&self, name: &[u8]) -> Option<(u32, Vec<Octets>)> {
        let mut found: Option<(u32, Vec<Octets>)> = None;
        for (_, ttl, rdata) in self.data.iter().filter(|(owner, ..)| owner.is(name)) {
            let (lowest, set) = found.get_or_insert_with(|| (*ttl, Vec::with_capacity(self.data.len())));
            *lowest = (*lowest).min(*ttl);
            set.push(Octets(rdata.to_vec()));
        }
        found
    }

    /// Where the name leads, or the name asked if there is none.
    fn alias_at(&self, name: Option<&Name<Vec<u8>>>, question: &Question) -> Option<(Name<Vec<u8>>, u32, bool)> {
        if self.aliases.is_empty() && self.redirections.is_empty() {
            return None;
        }
        let name: Name<Vec<u8>> = name.map_or_else(|| question.name().to_name(), Name::clone);
        let by_dname = self.redirections.iter().find_map(|(owner, ttl, target)| {
            let owner: Name<Vec<u8>> = owner.to_name();
            if name == owner || !name.ends_with(&owner) {
                return None;
            }
            let prefix = name.clone().strip_suffix(&owner).ok()?;
            let target: Name<Vec<u8>> =
                domain::base::name::ToRelativeName::chain(prefix, target.to_name::<Vec<u8>>()).ok()?.to_name();
            Some((target, *ttl))
        });
        let by_cname = self.aliases.iter().find(|(owner, ..)| owner.name_eq(&name));
        match (by_cname, by_dname) {
            (Some((_, ttl, target)), dname) => Some((target.to_name(), *ttl, dname.is_some())),
            (None, Some((target, ttl))) => Some((target, ttl, true)),
            (None, None) => None,
        }
    }
}

/// The zone and its serial, if the record is an SOA that can be read.
fn soa_of(record: &Record<'_>) -> Option<(Name<Vec<u8>>, Soa)> {
    if record.rtype != Rtype::SOA.to_int() {
        return None;
    }
    let parsed = record.parsed().ok()?;
    let serial = parsed.to_record::<SoaData<_>>().ok()??.data().serial().into_int();
    let owner: Name<Vec<u8>> = parsed.owner().to_name();
    let zone = text_of(&owner);
    Some((owner, Soa { zone, serial }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain_name(text: &str) -> Option<Vec<u8>> {
        let mut wire = SmallVec::new();
        write_plain_name(text, &mut wire).then(|| wire.into_vec())
    }

    proptest! {
        #[test]
        fn a_plain_name_has_the_librarys_wire_form(text in "[a-zA-Z0-9_.-]{0,40}|([a-z]{1,64}\\.){0,5}[a-z]{0,64}") {
            let theirs = Name::<Vec<u8>>::from_str(&text).ok();
            // The root, and a name with a final dot, are not given as such.
            let theirs = theirs.filter(|_| !text.is_empty() && !text.ends_with('.'));
            let ours = plain_name(&text);
            prop_assert_eq!(ours.as_deref(), theirs.as_ref().map(|name| name.as_slice()));
            if let Some(theirs) = theirs {
                let question = Question::new(&text, RecordType::Caa).expect("a name");
                prop_assert_eq!(question.name_text(), text_of(&theirs));
            }
        }
    }

    #[test]
    fn the_case_of_each_letter_is_drawn_and_of_nothing_else() {
        struct Fixed(std::vec::IntoIter<u64>);
        impl Entropy for Fixed {
            fn next_u64(&mut self) -> u64 {
                self.0.next().expect("a draw for each 64 octets")
            }
        }
        let text = format!("{}.{}.Z-9.example", "a".repeat(61), "b".repeat(30));
        let plain = plain_name(&text).expect("a plain name");
        let mixed = |draws: Vec<u64>| {
            let mut name = plain.clone();
            mix_case(&mut name, &mut Fixed(draws.into_iter()));
            name
        };
        assert_eq!(mixed(vec![0, 0]), plain);
        let other: Vec<u8> = plain.iter().map(|o| if o.is_ascii_alphabetic() { o ^ 0x20 } else { *o }).collect();
        assert_eq!(mixed(vec![u64::MAX, u64::MAX]), other);
        for at in (0..plain.len()).filter(|at| plain[*at].is_ascii_alphabetic()) {
            let mut one = plain.clone();
            one[at] ^= 0x20;
            let draw = |chunk: usize| if at / 64 == chunk { 1 << (at % 64) } else { 0 };
            assert_eq!(mixed(vec![draw(0), draw(1)]), one, "{at}");
        }
    }

    #[test]
    fn a_question_is_asked_in_lower_case_unless_its_case_is_drawn() {
        struct Ones;
        impl Entropy for Ones {
            fn next_u64(&mut self) -> u64 {
                u64::MAX
            }
        }
        let mut question = Question::new("WWW.Customer-1.example", RecordType::Caa).expect("a name");
        let plain = b"\x03www\x0acustomer-1\x07example\x00\x01\x01\x00\x01";
        assert_eq!(question.section(), plain);
        question.mix_case(&mut Ones);
        assert_eq!(question.section(), b"\x03WWW\x0aCUSTOMER-1\x07EXAMPLE\x00\x01\x01\x00\x01");
        assert_eq!(question.name(), &Name::<Vec<u8>>::from_str("www.customer-1.example").expect("a name"));
        assert_eq!(question.name_text(), "www.customer-1.example");
        question.unmix_case();
        assert_eq!(question.section(), plain);
        let mut to_server = question.clone().to_name_server();
        to_server.mix_case(&mut Ones);
        assert_eq!(to_server.section(), plain);
        assert_eq!(question.name_text(), "www.customer-1.example");
    }

    #[test]
    fn what_needs_an_escape_is_left_to_the_library() {
        for text in ["a\\.b.example", "a b.example", "b\u{fc}cher.example", "*.example"] {
            assert_eq!(plain_name(text), None, "{text}");
        }
        for (text, told) in [
            ("*.example", "*.example"),
            ("a\\.B.example", "a\\.b.example"),
            ("a b.example", "a\\ b.example"),
            (".", "."),
        ] {
            assert_eq!(Question::new(text, RecordType::Caa).expect("a name").name_text(), told);
        }
    }
}
