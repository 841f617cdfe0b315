//! Messages, keys and signatures, octet by octet from RFC 1035, RFC 4034 and RFC 5155.

use std::{cell::RefCell, collections::HashMap};

use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};

/// Record types by number.
pub mod rtype {
    #![allow(missing_docs)]
    pub const A: u16 = 1;
    pub const NS: u16 = 2;
    pub const CNAME: u16 = 5;
    pub const SOA: u16 = 6;
    pub const TXT: u16 = 16;
    pub const DNAME: u16 = 39;
    pub const DS: u16 = 43;
    pub const RRSIG: u16 = 46;
    pub const NSEC: u16 = 47;
    pub const DNSKEY: u16 = 48;
    pub const NSEC3: u16 = 50;
    pub const CAA: u16 = 257;
}

/// The perspective's clock, seconds since 1970.
pub const NOW: u32 = 1_800_000_000;
const INCEPTION: u32 = NOW - 10_000;
const EXPIRATION: u32 = NOW + 1_000_000;
const TTL: u32 = 300;

/// A name from its text, labels separated by dots; the root is empty or a dot.
#[must_use]
pub fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// Labels of a name in wire form, without the root.
#[must_use]
pub fn labels(name: &[u8]) -> u8 {
    let (mut at, mut count) = (0, 0);
    while name[at] != 0 {
        at += usize::from(name[at]) + 1;
        count += 1;
    }
    count
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// Owner in wire form.
    pub owner: Vec<u8>,
    /// Type.
    pub rtype: u16,
    /// Data.
    pub rdata: Vec<u8>,
}

impl Record {
    /// As it goes into a section.
    #[must_use]
    pub fn wire(&self) -> Vec<u8> {
        let numbers = [&self.rtype.to_be_bytes()[..], &[0, 1], &TTL.to_be_bytes()].concat();
        [&self.owner[..], &numbers, &(self.rdata.len() as u16).to_be_bytes(), &self.rdata].concat()
    }
}

/// A message: flags and code, question section, sections.
#[must_use]
pub fn message(id: u16, flags: u16, question: &[u8], answer: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    let counts = [1, answer.len() as u16, authority.len() as u16, 0].map(u16::to_be_bytes).concat();
    let head = [id.to_be_bytes(), (0x8180 | flags).to_be_bytes()].concat();
    [&head[..], &counts, question, &answer.concat(), &authority.concat()].concat()
}

/// RDATA of an SOA.
#[must_use]
pub fn soa() -> Vec<u8> {
    [&name("n")[..], &name("h"), &[1_u32, 3600, 600, 86400, 300].map(u32::to_be_bytes).concat()].concat()
}

/// RDATA of the one key that signs everything.
#[must_use]
pub fn dnskey() -> Vec<u8> {
    with_signer(|signer| [&[1, 1, 3, 15], signer.key.public_key().as_ref()].concat())
}

/// Its tag (RFC 4034, Appendix B).
#[must_use]
pub fn key_tag() -> u16 {
    let sum: u32 = dnskey().chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    (sum + (sum >> 16)) as u16
}

/// RDATA of the DS that stands for the key at the apex of `zone`.
#[must_use]
pub fn ds(zone: &[u8]) -> Vec<u8> {
    let digest = digest::digest(&digest::SHA256, &[zone, &dnskey()].concat());
    [&key_tag().to_be_bytes()[..], &[15, 2], digest.as_ref()].concat()
}

/// A type bitmap (RFC 4034 §4.1.2).
#[must_use]
pub fn bitmap(types: &[u16]) -> Vec<u8> {
    let mut windows: [[u8; 32]; 2] = [[0; 32]; 2];
    for rtype in types {
        windows[usize::from(rtype >> 8)][usize::from(rtype & 0xff) / 8] |= 0x80 >> (rtype & 7);
    }
    let mut out = Vec::new();
    for (number, window) in windows.iter().enumerate() {
        let length = window.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        if length > 0 {
            out.extend_from_slice(&[number as u8, length as u8]);
            out.extend_from_slice(&window[..length]);
        }
    }
    out
}

/// The hash of a name (RFC 5155 §5).
#[must_use]
pub fn nsec3_hash(name: &[u8], salt: &[u8], iterations: u16) -> Vec<u8> {
    let mut hash = name.to_vec();
    for _ in 0..=iterations {
        hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[&hash, salt].concat()).as_ref().to_vec();
    }
    hash
}

/// Base 32 with extended hex alphabet (RFC 4648 §7), for lengths that need no padding.
#[must_use]
pub fn base32hex(octets: &[u8]) -> Vec<u8> {
    let bit = |at: usize| octets[at / 8] >> (7 - at % 8) & 1;
    let digits = (0..octets.len() * 8 / 5).map(|digit| (0..5).fold(0, |value, at| value << 1 | bit(digit * 5 + at)));
    digits.map(|digit| b"0123456789abcdefghijklmnopqrstuv"[usize::from(digit)]).collect()
}

struct Signer {
    key: Ed25519KeyPair,
    made: HashMap<Vec<u8>, Vec<u8>>,
}

fn with_signer<T>(use_it: impl FnOnce(&mut Signer) -> T) -> T {
    thread_local! {
        static SIGNER: RefCell<Option<Signer>> = const { RefCell::new(None) };
    }
    SIGNER.with_borrow_mut(|signer| {
        use_it(signer.get_or_insert_with(|| Signer {
            key: Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 octets make a key"),
            made: HashMap::new(),
        }))
    })
}

/// The RRSIG that `zone` makes over a set of one owner and type, records in canonical order.
#[must_use]
pub fn sign(zone: &[u8], set: &[Record]) -> Record {
    let (owner, covered) = (set[0].owner.clone(), set[0].rtype);
    let signed_labels = labels(&owner) - u8::from(owner.starts_with(b"\x01*"));
    let mut data = covered.to_be_bytes().to_vec();
    data.extend_from_slice(&[15, signed_labels]);
    for number in [TTL, EXPIRATION, INCEPTION] {
        data.extend_from_slice(&number.to_be_bytes());
    }
    data.extend_from_slice(&key_tag().to_be_bytes());
    data.extend_from_slice(zone);
    let prefix = data.clone();
    data.extend(set.iter().flat_map(Record::wire));
    let signature = with_signer(|signer| {
        if signer.made.len() > 20_000 {
            signer.made.clear();
        }
        let Signer { key, made } = signer;
        made.entry(data).or_insert_with_key(|data| key.sign(data).as_ref().to_vec()).clone()
    });
    Record { owner, rtype: rtype::RRSIG, rdata: [prefix, signature].concat() }
}

/// A set and its signature, as they go into a section.
#[must_use]
pub fn signed(zone: &[u8], set: &[Record]) -> Vec<Vec<u8>> {
    set.iter().map(Record::wire).chain([sign(zone, set).wire()]).collect()
}
