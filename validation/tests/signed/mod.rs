//! Signed zones for tests: keys, signatures, denials, replies, and a world that answers questions about the chain
//! of trust.
//!
//! Nothing of the code under test is used to make them: names, key tags, digests and hashes are written out here.
//! Every part of a signature can be chosen, since most tests want one that is wrong in one thing.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is a failed test")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use parallax_validation::{
    lookup::{
        dns::message::{Question, read_reply},
        dnssec::{
            Assessment, Reading,
            anchor::TrustAnchors,
            chain::{Chain, ChainSite, LinkQuestion, Links, ZoneCache},
        },
    },
    observation::{DnsFailure, DnsOutcome, RecordType, SecurityStatus, Validation},
};
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const MX: u16 = 15;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const DNAME: u16 = 39;
pub(crate) const DS: u16 = 43;
pub(crate) const RRSIG: u16 = 46;
pub(crate) const NSEC: u16 = 47;
pub(crate) const DNSKEY: u16 = 48;
pub(crate) const NSEC3: u16 = 50;
pub(crate) const NXNAME: u16 = 128;
pub(crate) const CAA: u16 = 257;

pub(crate) const NOERROR: u8 = 0;
pub(crate) const NXDOMAIN: u8 = 3;

pub(crate) const ED25519: u8 = 15;
const TTL: u32 = 3600;
const DAY: i64 = 86_400;
/// November 2026.
pub(crate) const NOW: i64 = 1_795_000_000;

// ---- Names and records -------------------------------------------------------------------------------

/// Wire form, the case kept. `\DDD` is an octet.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let (mut octets, mut label) = (Vec::new(), Vec::new());
    let mut rest = name.strip_suffix('.').unwrap_or(name).bytes();
    let mut end = |label: &mut Vec<u8>| {
        if !label.is_empty() {
            octets.push(u8::try_from(label.len()).unwrap());
            octets.append(label);
        }
    };
    while let Some(octet) = rest.next() {
        match octet {
            b'.' => end(&mut label),
            b'\\' => label.push((0..3).fold(0, |sum: u8, _| sum * 10 + (rest.next().unwrap() - b'0'))),
            other => label.push(other),
        }
    }
    end(&mut label);
    octets.push(0);
    octets
}

/// Wire form in lower case. Length octets are never letters.
pub(crate) fn canonical(name: &str) -> Vec<u8> {
    wire(name).to_ascii_lowercase()
}

/// Labels as RRSIG counts them: without the root and a leading asterisk.
fn labels(name: &str) -> u8 {
    let (octets, mut at, mut count) = (wire(name), 0, 0);
    while octets[at] != 0 {
        at += usize::from(octets[at]) + 1;
        count += 1;
    }
    if octets.starts_with(b"\x01*") { count - 1 } else { count }
}

fn lies_in(name: &str, zone: &str) -> bool {
    zone == "." || name == zone || name.ends_with(&format!(".{zone}"))
}

#[derive(Clone, Debug)]
pub(crate) struct Rec {
    pub(crate) owner: String,
    pub(crate) rtype: u16,
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<u8>,
}

pub(crate) fn rec(owner: &str, rtype: u16, rdata: Vec<u8>) -> Rec {
    Rec { owner: owner.to_owned(), rtype, ttl: TTL, rdata }
}

pub(crate) fn txt(owner: &str, text: &str) -> Rec {
    rec(owner, TXT, [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
}

pub(crate) fn caa(owner: &str, issuer: &str) -> Rec {
    rec(owner, CAA, [b"\x00\x05issue", issuer.as_bytes()].concat())
}

pub(crate) fn a(owner: &str) -> Rec {
    rec(owner, A, vec![192, 0, 2, 1])
}

pub(crate) fn cname(owner: &str, target: &str) -> Rec {
    rec(owner, CNAME, canonical(target))
}

pub(crate) fn dname(owner: &str, target: &str) -> Rec {
    rec(owner, DNAME, canonical(target))
}

/// An SOA without signature, as an attacker or an unsigned zone would send it.
pub(crate) fn soa(zone: &str) -> Rec {
    rec(zone, SOA, [canonical(zone), canonical(zone), vec![0; 20]].concat())
}

/// A bitmap of types (RFC 4034 §4.1.2).
pub(crate) fn bitmap(types: &[u16]) -> Vec<u8> {
    let mut windows: BTreeMap<u8, [u8; 32]> = BTreeMap::new();
    for rtype in types {
        let [window, low] = rtype.to_be_bytes();
        windows.entry(window).or_default()[usize::from(low / 8)] |= 0x80 >> (low % 8);
    }
    let mut octets = Vec::new();
    for (window, bits) in windows {
        let used = bits.iter().rposition(|bits| *bits != 0).unwrap() + 1;
        octets.extend([window, u8::try_from(used).unwrap()]);
        octets.extend(&bits[..used]);
    }
    octets
}

/// A reply as a resolver sends it.
pub(crate) fn reply(name: &str, rtype: u16, rcode: u8, answer: &[Rec], authority: &[Rec]) -> Arc<[u8]> {
    let count = |records: &[Rec]| u16::try_from(records.len()).unwrap().to_be_bytes();
    let mut message = vec![0, 0, 0x81, 0x80 | rcode, 0, 1];
    message.extend([count(answer), count(authority), [0, 0]].concat());
    message.extend(wire(name));
    message.extend([rtype.to_be_bytes(), [0, 1]].concat());
    for record in answer.iter().chain(authority) {
        message.extend(wire(&record.owner));
        message.extend([record.rtype.to_be_bytes(), [0, 1]].concat());
        message.extend(record.ttl.to_be_bytes());
        message.extend(u16::try_from(record.rdata.len()).unwrap().to_be_bytes());
        message.extend(&record.rdata);
    }
    message.into()
}

// ---- Keys and signatures -----------------------------------------------------------------------------

pub(crate) struct Key {
    pair: Ed25519KeyPair,
    /// RDATA of its DNSKEY.
    pub(crate) rdata: Vec<u8>,
}

impl Key {
    /// The same for the same `seed`.
    pub(crate) fn new(seed: &str, flags: u16, protocol: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(digest(&SHA256, seed.as_bytes()).as_ref()).unwrap();
        let mut rdata = flags.to_be_bytes().to_vec();
        rdata.extend([protocol, ED25519]);
        rdata.extend(pair.public_key().as_ref());
        Self { pair, rdata }
    }

    pub(crate) fn tag(&self) -> u16 {
        tag_of(&self.rdata)
    }

    /// RDATA of the DS that stands for this key.
    pub(crate) fn ds(&self, zone: &str, algorithm: u8, kind: u8) -> Vec<u8> {
        let how = match kind {
            1 => &SHA1_FOR_LEGACY_USE_ONLY,
            4 => &SHA384,
            _ => &SHA256,
        };
        let sum = digest(how, &[canonical(zone), self.rdata.clone()].concat());
        [&self.tag().to_be_bytes(), &[algorithm, kind][..], sum.as_ref()].concat()
    }
}

/// RFC 4034 appendix B.
pub(crate) fn tag_of(dnskey: &[u8]) -> u16 {
    let sum: u32 = dnskey.iter().zip([8, 0].into_iter().cycle()).map(|(octet, shift)| u32::from(*octet) << shift).sum();
    (sum + (sum >> 16)) as u16
}

/// Everything a signature says. What is none is as it should be.
pub(crate) struct Signing<'a> {
    pub(crate) key: &'a Key,
    pub(crate) signer: String,
    pub(crate) begin: i64,
    pub(crate) end: i64,
    /// The owner that is signed, if it is not the one shown: a wildcard, or another name.
    pub(crate) owner: Option<String>,
    /// The type that is signed, if it is not the one shown.
    pub(crate) rtype: Option<u16>,
    /// The number of labels that is written.
    pub(crate) labels: Option<u8>,
    pub(crate) ttl: u32,
    /// The key tag that is written.
    pub(crate) tag: Option<u16>,
}

impl Signing<'_> {
    pub(crate) fn rrsig(&self, set: &[Rec]) -> Rec {
        let shown = &set[0];
        let owner = self.owner.as_ref().unwrap_or(&shown.owner);
        let mut data = shown.rtype.to_be_bytes().to_vec();
        data.extend([ED25519, self.labels.unwrap_or_else(|| labels(owner))]);
        data.extend(self.ttl.to_be_bytes());
        data.extend((self.end as u32).to_be_bytes());
        data.extend((self.begin as u32).to_be_bytes());
        data.extend(self.tag.unwrap_or_else(|| self.key.tag()).to_be_bytes());
        data.extend(canonical(&self.signer));
        let mut rdata = data.clone();
        if let Some(rtype) = self.rtype {
            data[..2].copy_from_slice(&rtype.to_be_bytes());
        }
        let mut sorted: Vec<&Vec<u8>> = set.iter().map(|record| &record.rdata).collect();
        sorted.sort();
        for octets in sorted {
            data.extend(canonical(owner));
            data.extend([self.rtype.unwrap_or(shown.rtype).to_be_bytes(), [0, 1]].concat());
            data.extend(self.ttl.to_be_bytes());
            data.extend(u16::try_from(octets.len()).unwrap().to_be_bytes());
            data.extend(octets);
        }
        rdata.extend(self.key.pair.sign(&data).as_ref());
        rec(&shown.owner, RRSIG, rdata)
    }

    /// The set with its signature.
    pub(crate) fn sign(&self, set: &[Rec]) -> Vec<Rec> {
        [set, &[self.rrsig(set)]].concat()
    }
}

/// A zone with one key.
pub(crate) struct Zone {
    pub(crate) name: String,
    pub(crate) key: Key,
    now: i64,
}

impl Zone {
    pub(crate) fn new(name: &str, now: i64) -> Self {
        Self { name: name.to_owned(), key: Key::new(name, 257, 3), now }
    }

    /// How the zone signs, to change a part of it.
    pub(crate) fn signing(&self) -> Signing<'_> {
        Signing {
            key: &self.key,
            signer: self.name.clone(),
            begin: self.now - DAY,
            end: self.now + DAY,
            owner: None,
            rtype: None,
            labels: None,
            ttl: TTL,
            tag: None,
        }
    }

    pub(crate) fn sign(&self, set: &[Rec]) -> Vec<Rec> {
        self.signing().sign(set)
    }

    /// A record the zone has at `wildcard`, as it is shown at the owner of `record`.
    pub(crate) fn expand(&self, wildcard: &str, record: Rec) -> Vec<Rec> {
        Signing { owner: Some(wildcard.to_owned()), ..self.signing() }.sign(&[record])
    }

    pub(crate) fn soa(&self) -> Vec<Rec> {
        self.sign(&[soa(&self.name)])
    }

    pub(crate) fn nsec(&self, owner: &str, next: &str, types: &[u16]) -> Vec<Rec> {
        self.sign(&[rec(owner, NSEC, [wire(next), bitmap(types)].concat())])
    }

    pub(crate) fn nsec3(&self, record: &Nsec3) -> Vec<Rec> {
        let owner = match self.name.as_str() {
            "." => base32hex(&record.hash),
            name => format!("{}.{name}", base32hex(&record.hash)),
        };
        self.nsec3_at(&owner, record)
    }

    pub(crate) fn nsec3_at(&self, owner: &str, record: &Nsec3) -> Vec<Rec> {
        self.sign(&[rec(owner, NSEC3, record.rdata())])
    }

    pub(crate) fn ds(&self) -> Rec {
        rec(&self.name, DS, self.key.ds(&self.name, ED25519, 2))
    }

    pub(crate) fn dnskey(&self) -> Rec {
        rec(&self.name, DNSKEY, self.key.rdata.clone())
    }
}

// ---- NSEC3 -------------------------------------------------------------------------------------------

/// RFC 4648 §7, in lower case.
pub(crate) fn base32hex(octets: &[u8]) -> String {
    let bits: Vec<u8> = octets.iter().flat_map(|octet| (0..8).rev().map(move |at| octet >> at & 1)).collect();
    let value = |five: &[u8]| five.iter().chain([0; 4].iter()).take(5).fold(0, |sum, bit| sum * 2 + usize::from(*bit));
    bits.chunks(5).map(|five| char::from(b"0123456789abcdefghijklmnopqrstuv"[value(five)])).collect()
}

/// How a zone hashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hashing {
    pub(crate) iterations: u16,
    pub(crate) salt: Vec<u8>,
}

impl Hashing {
    /// RFC 5155 §5.
    pub(crate) fn hash(&self, name: &str) -> Vec<u8> {
        let round = |octets: &[u8]| digest(&SHA1_FOR_LEGACY_USE_ONLY, &[octets, &self.salt].concat()).as_ref().to_vec();
        (0..self.iterations).fold(round(&canonical(name)), |hash, _| round(&hash))
    }

    /// The record that matches `name`; its span is empty.
    pub(crate) fn at(&self, name: &str, types: &[u16]) -> Nsec3 {
        let hash = self.hash(name);
        let next = step(hash.clone(), 1);
        Nsec3 { hash, next, algorithm: 1, flags: 0, hashing: self.clone(), types: types.to_vec() }
    }

    /// A record that covers `name` and hardly anything else.
    pub(crate) fn over(&self, name: &str) -> Nsec3 {
        let hash = self.hash(name);
        let (before, next) = (step(hash.clone(), 255), step(hash, 1));
        Nsec3 { hash: before, next, algorithm: 1, flags: 0, hashing: self.clone(), types: vec![A, RRSIG] }
    }
}

/// The hash after (`by` 1) or before (`by` 255).
fn step(mut hash: Vec<u8>, by: u8) -> Vec<u8> {
    let carries = |octet: u8| if by == 1 { octet == 0 } else { octet == 255 };
    for octet in hash.iter_mut().rev() {
        *octet = octet.wrapping_add(by);
        if !carries(*octet) {
            break;
        }
    }
    hash
}

/// An NSEC3 record. It is public in all parts, so that a span can be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Nsec3 {
    pub(crate) hash: Vec<u8>,
    pub(crate) next: Vec<u8>,
    pub(crate) algorithm: u8,
    pub(crate) flags: u8,
    pub(crate) hashing: Hashing,
    pub(crate) types: Vec<u16>,
}

impl Nsec3 {
    pub(crate) fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    fn rdata(&self) -> Vec<u8> {
        let mut octets = vec![self.algorithm, self.flags];
        octets.extend(self.hashing.iterations.to_be_bytes());
        octets.push(u8::try_from(self.hashing.salt.len()).unwrap());
        octets.extend(&self.hashing.salt);
        octets.push(u8::try_from(self.next.len()).unwrap());
        octets.extend(&self.next);
        octets.extend(bitmap(&self.types));
        octets
    }
}

// ---- The world ---------------------------------------------------------------------------------------

/// What a validation came to.
pub(crate) struct Ended {
    pub(crate) validation: Validation,
    pub(crate) asked: Vec<LinkQuestion>,
    pub(crate) links: Links,
}

impl Ended {
    pub(crate) fn has_asked(&self, name: &str, rtype: RecordType) -> bool {
        self.asked.iter().any(|question| question.name == name && question.rtype == rtype)
    }
}

/// What a resolver answers, or how it fails to.
pub(crate) type Answer = Result<Arc<[u8]>, DnsFailure>;

/// Zones from the root down, and what is answered about them.
pub(crate) struct World {
    now: i64,
    zones: Vec<Zone>,
    links: HashMap<(String, u16), Answer>,
    anchors: TrustAnchors,
}

impl World {
    /// A signed root.
    pub(crate) fn at(now: i64) -> Self {
        let root = Zone::new(".", now);
        let digest: String = root.ds().rdata[4..].iter().map(|octet| format!("{octet:02X}")).collect();
        let anchors = TrustAnchors::parse(&format!(". IN DS {} {ED25519} 2 {digest}", root.key.tag())).unwrap();
        let mut world = Self { now, zones: Vec::new(), links: HashMap::new(), anchors };
        world.link(".", DNSKEY, NOERROR, &root.sign(&[root.dnskey()]), &[]);
        world.zones.push(root);
        world
    }

    /// Signed: `com`, `example.com`, `sub.example.com`, `other.com`. Not signed: `un.com`, `un.example.com`.
    pub(crate) fn standard() -> Self {
        let mut world = Self::at(NOW);
        for name in ["com", "example.com", "sub.example.com", "other.com"] {
            world.delegate(name);
        }
        for name in ["un.com", "un.example.com"] {
            world.delegate_unsigned(name);
        }
        world
    }

    pub(crate) fn zone(&self, name: &str) -> &Zone {
        self.zones.iter().find(|zone| zone.name == name).unwrap()
    }

    /// The deepest zone above `name`.
    pub(crate) fn parent(&self, name: &str) -> &Zone {
        let above = self.zones.iter().filter(|zone| zone.name != name && lies_in(name, &zone.name));
        above.max_by_key(|zone| labels(&zone.name)).unwrap()
    }

    pub(crate) fn delegate(&mut self, name: &str) {
        let zone = Zone::new(name, self.now);
        let ds = self.parent(name).sign(&[zone.ds()]);
        self.link(name, DS, NOERROR, &ds, &[]);
        self.link(name, DNSKEY, NOERROR, &zone.sign(&[zone.dnskey()]), &[]);
        self.zones.push(zone);
    }

    pub(crate) fn delegate_unsigned(&mut self, name: &str) {
        let parent = self.parent(name);
        let nsec = parent.nsec(name, &format!("\\000.{name}"), &[NS, RRSIG, NSEC]);
        let authority = [parent.soa(), nsec].concat();
        self.link(name, DS, NOERROR, &[], &authority);
    }

    /// What is answered about a link.
    pub(crate) fn link(&mut self, name: &str, rtype: u16, rcode: u8, answer: &[Rec], authority: &[Rec]) {
        self.links.insert((name.to_owned(), rtype), Ok(reply(name, rtype, rcode, answer, authority)));
    }

    pub(crate) fn fail(&mut self, name: &str, rtype: u16, failure: DnsFailure) {
        self.links.insert((name.to_owned(), rtype), Err(failure));
    }

    /// The answer to a question about the chain. A name nothing is said about is no zone cut.
    pub(crate) fn answer(&self, question: &LinkQuestion) -> Answer {
        let name = &question.name;
        match self.links.get(&(name.clone(), question.rtype.number())) {
            Some(known) => known.clone(),
            None if question.rtype == RecordType::Ds => {
                let zone = self.parent(name);
                let nsec = zone.nsec(name, &format!("\\000.{name}"), &[A, RRSIG, NSEC]);
                Ok(reply(name, DS, NOERROR, &[], &[zone.soa(), nsec].concat()))
            }
            None => Err(DnsFailure::Timeout),
        }
    }

    /// Validates a reply.
    pub(crate) fn assess(&self, name: &str, rtype: RecordType, packet: Arc<[u8]>) -> Ended {
        self.assess_in(name, rtype, packet, &mut Chain::default(), &mut ZoneCache::default())
    }

    /// The same in a task that goes on, with what its worker keeps.
    pub(crate) fn assess_in(
        &self,
        name: &str,
        rtype: RecordType,
        packet: Arc<[u8]>,
        chain: &mut Chain,
        kept: &mut ZoneCache,
    ) -> Ended {
        self.run(&reading(name, rtype, packet), chain, kept)
    }

    /// Validates what never came, or what another reader read from the packet.
    pub(crate) fn assess_outcome(
        &self,
        name: &str,
        rtype: RecordType,
        outcome: DnsOutcome,
        packet: Arc<[u8]>,
    ) -> Ended {
        let reading = Reading::new(name.to_owned(), rtype, outcome, packet);
        self.run(&reading, &mut Chain::default(), &mut ZoneCache::default())
    }

    pub(crate) fn run(&self, reading: &Reading, chain: &mut Chain, kept: &mut ZoneCache) -> Ended {
        let mut asked = Vec::new();
        loop {
            match self.step(reading, chain, kept) {
                Assessment::Done(validation, links) => return Ended { validation: *validation, asked, links },
                Assessment::Need(questions) => {
                    assert!(!questions.is_empty(), "it waits for nothing; asked so far: {asked:?}");
                    for question in questions {
                        chain.answer(&question, self.answer(&question));
                        asked.push(question);
                    }
                }
            }
        }
    }

    /// One assessment, by the time of this world.
    pub(crate) fn step(&self, reading: &Reading, chain: &mut Chain, kept: &mut ZoneCache) -> Assessment {
        reading.assess(chain, &mut ChainSite { anchors: &self.anchors, now: self.time(), kept })
    }

    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    /// The same world and its packets, seen at another time.
    pub(crate) fn seen_at(mut self, now: i64) -> Self {
        self.now = now;
        self
    }
}

pub(crate) fn reading(name: &str, rtype: RecordType, packet: Arc<[u8]>) -> Reading {
    let outcome = read_reply(&packet, &Question::new(name, rtype).unwrap()).unwrap().outcome;
    Reading::new(name.to_owned(), rtype, outcome, packet)
}

// ---- Tables ------------------------------------------------------------------------------------------

pub(crate) const SECURE: SecurityStatus = SecurityStatus::Secure;
pub(crate) const INSECURE: SecurityStatus = SecurityStatus::Insecure;
pub(crate) const INDETERMINATE: SecurityStatus = SecurityStatus::Indeterminate;
pub(crate) const BOGUS: SecurityStatus = SecurityStatus::Bogus;

/// Cases of one kind. All are looked at before the test fails.
#[derive(Default)]
pub(crate) struct Table {
    wanted: Vec<SecurityStatus>,
    wrong: Vec<String>,
}

impl Table {
    pub(crate) fn case(&mut self, what: &str, wants: SecurityStatus, ended: &Ended) {
        let Validation { status, insecure, fault, .. } = &ended.validation;
        self.wanted.push(wants);
        if *status != wants {
            self.wrong.push(format!("{what}: {status} instead of {wants}; {insecure:?} {fault:?}"));
        }
        // What is refused says why, unless there was nothing to refuse; what is believed has nothing to say.
        if (*status == BOGUS) != fault.is_some() && *status != INDETERMINATE {
            self.wrong.push(format!("{what}: {status} with fault {fault:?}"));
        }
        if (*status == INSECURE) != insecure.is_some() {
            self.wrong.push(format!("{what}: {status} with {insecure:?}"));
        }
    }

    /// Everything was as wanted.
    pub(crate) fn end(self) {
        assert!(self.wrong.is_empty(), "\n{}", self.wrong.join("\n"));
    }

    /// The same for attacks: each kind has a twin that is believed and differs in nothing but the attack.
    pub(crate) fn end_with_twin(self) {
        assert!(self.wanted.iter().any(|wanted| matches!(*wanted, SECURE | INSECURE)), "no honest twin");
        assert!(self.wanted.iter().any(|wanted| matches!(*wanted, BOGUS | INDETERMINATE)), "no attack");
        self.end();
    }
}
