//! Arbitrary octets as a certificate.
//!
//! Invariants: the reader and a plain one below, written from X.690 and RFC 5280 alone, accept the same octets and
//! find the same extensions and names in them; what is read has a key for a handshake; one octet less or more makes
//! it unreadable; what is written down of it keeps its bounds and says of names what the plain reader says.

use parallax_validation::{
    base::limits::SUBJECT_KEPT_BYTES_MAX,
    lookup::tls::certificate::{AlternativeName, Certificate, alternative_names, facts, key_of},
    plan::Host,
};

use crate::feed::Feed;

/// In the first octet: the octets are extensions within a certificate that is otherwise good.
pub const FRAMED: u8 = 0x80;
const NAME: &str = "www.customer.example";
const PARENT: &str = "customer.example";
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// An element of DER.
#[must_use]
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [&head, content].concat()
}

/// A certificate with these extensions, which no key has signed.
#[must_use]
pub fn with_extensions(extensions: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    let name = der(0x30, &der(0x31, &der(0x30, &[der(6, &[0x55, 4, 3]), der(12, b"a")].concat())));
    let validity = der(0x30, &[der(0x17, b"260101000000Z"), der(0x17, b"270101000000Z")].concat());
    let key = der(0x30, &[algorithm.clone(), der(3, &[0, 4, 1, 2])].concat());
    let (version, serial) = (der(0xa0, &der(2, &[2])), der(2, &[1]));
    let extensions = der(0xa3, &der(0x30, extensions));
    let tbs = [version, serial, algorithm.clone(), name.clone(), validity, name, key, extensions].concat();
    der(0x30, &[der(0x30, &tbs), algorithm, der(3, &[0, 1])].concat())
}

/// Takes one element: its tag and content (X.690 §10.1: lengths in their shortest form; here of 3 octets at most).
fn take<'a>(from: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, first) = (*from.first()?, usize::from(*from.get(1)?));
    let octets = first.saturating_sub(0x80);
    (octets <= 3).then_some(())?;
    let length = from.get(2..2 + octets)?.iter().fold(0, |sum, octet| sum * 256 + usize::from(*octet));
    let length = if octets == 0 { first } else { length };
    let shortest = match octets {
        0 => first != 0x80,
        1 => length >= 0x80,
        2 => length >= 0x100,
        _ => length >= 0x1_0000,
    };
    let content = from.get(2 + octets..2 + octets + length)?;
    *from = &from[2 + octets + length..];
    (shortest && tag & 0x1f != 0x1f).then_some((tag, content))
}

/// As [`take`], if the tag is this.
fn take_tag<'a>(from: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    take(from).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// Takes an element if its tag is this; none if it is not, and an error if it is and cannot be read.
fn take_if<'a>(from: &mut &'a [u8], tag: u8) -> Option<Option<&'a [u8]>> {
    if from.first() == Some(&tag) { take(from).map(|(_, content)| Some(content)) } else { Some(None) }
}

type Extension<'a> = (&'a [u8], bool, &'a [u8]);

/// The extensions of a certificate, as plainly as can be.
fn extensions_of(mut der: &[u8]) -> Option<Vec<Extension<'_>>> {
    let mut certificate = take_tag(&mut der, 0x30)?;
    let mut tbs = take_tag(&mut certificate, 0x30)?;
    let algorithm = take_tag(&mut certificate, 0x30)?;
    let signature = take_tag(&mut certificate, 3)?;
    let version = match take_if(&mut tbs, 0xa0)? {
        Some(mut version) => {
            let number = take_tag(&mut version, 2)?;
            (version.is_empty() && matches!(number, [0..=2])).then(|| number[0])?
        }
        None => 0,
    };
    take_tag(&mut tbs, 2)?;
    let same_algorithm = take_tag(&mut tbs, 0x30)? == algorithm;
    for _issuer_validity_subject in 0..3 {
        take_tag(&mut tbs, 0x30)?;
    }
    let mut key = take_tag(&mut tbs, 0x30)?;
    take_tag(&mut key, 0x30)?;
    let whole_octets = take_tag(&mut key, 3)?.first() == Some(&0) && signature.first() == Some(&0);
    take_if(&mut tbs, 0x81)?;
    take_if(&mut tbs, 0x82)?;
    let mut found = Vec::new();
    if let Some(mut outer) = take_if(&mut tbs, 0xa3)? {
        let mut list = take_tag(&mut outer, 0x30)?;
        while !list.is_empty() {
            let mut extension = take_tag(&mut list, 0x30)?;
            let oid = take_tag(&mut extension, 6)?;
            let critical = match take_if(&mut extension, 1)? {
                None | Some([0]) => false,
                Some([0xff]) => true,
                Some(_) => return None,
            };
            found.push((oid, critical, take_tag(&mut extension, 4)?));
            extension.is_empty().then_some(())?;
        }
        (outer.is_empty() && version == 2).then_some(())?;
    }
    let nothing_left = der.is_empty() && certificate.is_empty() && tbs.is_empty();
    (nothing_left && same_algorithm && whole_octets).then_some(found)
}

/// Tags and contents of a list of names.
fn names_of(mut value: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut list = take_tag(&mut value, 0x30)?;
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(take(&mut list)?);
    }
    value.is_empty().then_some(names)
}

/// Compares the two readings.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let octets = if feed.octet() & FRAMED == 0 { feed.0.to_vec() } else { with_extensions(feed.0) };
    let said = facts(&octets, &Host::Name(NAME.to_owned()));
    assert_eq!((said.sha256.len(), said.octets as usize), (64, octets.len()));
    let plain = extensions_of(&octets);
    let Ok(certificate) = Certificate::read(&octets) else {
        assert_eq!((plain, said.content), (None, None), "the plain reader reads it");
        return;
    };
    let found: Vec<Extension<'_>> = certificate.extensions.iter().map(|e| (e.oid, e.critical, e.value)).collect();
    assert_eq!(plain.as_ref(), Some(&found));
    assert!(key_of(&octets).is_ok());
    assert!(
        Certificate::read(&octets[..octets.len() - 1]).is_err()
            && Certificate::read(&[&octets[..], &[0]].concat()).is_err()
    );
    let mut first_names = None;
    for (oid, _, value) in found {
        let names = names_of(value);
        let read = alternative_names(value).ok().map(|names| {
            let plainly = |name: &AlternativeName<'_>| match *name {
                AlternativeName::Dns(name) => (0x82, name.to_vec()),
                AlternativeName::Ip(octets) => (0x87, octets.to_vec()),
                AlternativeName::Other(tag) => (tag, Vec::new()),
            };
            names.iter().map(plainly).collect::<Vec<_>>()
        });
        let plainly =
            |(tag, name): &(u8, &[u8])| (*tag, if matches!(tag, 0x82 | 0x87) { name.to_vec() } else { Vec::new() });
        assert_eq!(read, names.as_ref().map(|names| names.iter().map(plainly).collect()));
        if oid == SUBJECT_ALT_NAME && first_names.is_none() {
            first_names = Some(names.unwrap_or_default());
        }
    }
    let content = said.content.expect("it can be read");
    assert!(content.subject.0.len() <= SUBJECT_KEPT_BYTES_MAX);
    let names = first_names.unwrap_or_default();
    assert_eq!(usize::from(content.names), names.len());
    let covers = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        name == NAME.as_bytes() || name == format!("*.{PARENT}").as_bytes()
    };
    assert_eq!(content.name_matches, names.iter().any(|(tag, name)| *tag == 0x82 && covers(name)));
}
