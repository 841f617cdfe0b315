//! Certificates as they come from servers (RFC 5280), read without judging them.
//!
//! One reader serves all: the key that must have signed a handshake, the facts that are written down of an
//! https hop, and the judge of tls-alpn-01. So a key, a name and a signature are always those of the same
//! octets, and there is no second reader that could see something else in them.
//!
//! [`Certificate::read`] wants strict DER. [`key_of`] wants as little as it can: a redirect may lead to a
//! server with any certificate, and none of its oddities matter there, as long as the key can be found.
//! Paths, validity and revocation are left out on purpose.
//!
//! Invariant: no recursion; every step consumes octets.

use std::{net::IpAddr, sync::LazyLock};

use jiff::{Timestamp, civil, tz::Offset};
use rustls::crypto::WebPkiSupportedAlgorithms;
use sha2::{Digest, Sha256};

use crate::{
    base::{
        limits::{SUBJECT_KEPT_BYTES_MAX, SUBJECT_PARTS_MAX},
        octets::Octets,
    },
    observation::{CertificateContent, CertificateFacts},
    plan::Host,
};

/// `subjectAltName` (RFC 5280 §4.2.1.6).
pub const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// `id-pe-acmeIdentifier`, 1.3.6.1.5.5.7.1.31 (RFC 8737 §3).
pub const ACME_IDENTIFIER: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1f];
/// The identifier of early drafts, 1.3.6.1.5.5.7.1.30.1.
pub const ACME_IDENTIFIER_OF_DRAFTS: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1e, 0x01];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` to `[3]`, constructed.
const VERSION: u8 = 0xa0;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
/// `[2]` and `[7]` of a GeneralName.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// Where octets are no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable(pub &'static str);

#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// With tag and length.
    whole: &'a [u8],
}

struct Reader<'a> {
    rest: &'a [u8],
    /// Whether lengths must be in the one form that DER allows.
    strict: bool,
}

impl<'a> Reader<'a> {
    fn strict(rest: &'a [u8]) -> Self {
        Self { rest, strict: true }
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Result<Element<'a>, Unreadable> {
        let short = Unreadable("it ends too soon");
        let (&[tag, first], mut rest) = self.rest.split_first_chunk::<2>().ok_or(short)?;
        if tag & 0x1f == 0x1f {
            return Err(Unreadable("a tag of many octets"));
        }
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let octets = usize::from(first & 0x7f);
            if !(1..=3).contains(&octets) {
                return Err(Unreadable("a length without end, or far too large"));
            }
            let (length, after) = rest.split_at_checked(octets).ok_or(short)?;
            rest = after;
            let value = length.iter().fold(0, |value: usize, octet| value << 8 | usize::from(*octet));
            if self.strict && (value < 0x80 || length[0] == 0) {
                return Err(Unreadable("a length that is not in its shortest form"));
            }
            value
        };
        let (content, after) = rest.split_at_checked(length).ok_or(short)?;
        let whole = &self.rest[..self.rest.len() - after.len()];
        self.rest = after;
        Ok(Element { tag, content, whole })
    }

    fn expect(&mut self, tag: u8, problem: &'static str) -> Result<Element<'a>, Unreadable> {
        let element = self.next()?;
        if element.tag == tag { Ok(element) } else { Err(Unreadable(problem)) }
    }

    /// The next element, if it has this tag.
    fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, Unreadable> {
        if self.peek() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }

    fn inside(&self, element: Element<'a>) -> Self {
        Self { rest: element.content, strict: self.strict }
    }

    fn end(&self, problem: &'static str) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(Unreadable(problem)) }
    }
}

/// A public key with its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey<'a> {
    /// Content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    bits: &'a [u8],
}

/// The key that a certificate holds, whatever else is in it.
///
/// # Errors
/// No key is where a certificate has one.
pub fn key_of(der: &[u8]) -> Result<PublicKey<'_>, Unreadable> {
    let mut reader = Reader { rest: der, strict: false };
    let certificate = reader.expect(SEQUENCE, "no certificate")?;
    let mut certificate = reader.inside(certificate);
    let tbs = certificate.expect(SEQUENCE, "no certificate")?;
    let mut tbs = certificate.inside(tbs);
    tbs.optional(VERSION)?;
    for _serial_signature_issuer_validity_subject in 0..5 {
        tbs.next()?;
    }
    public_key(&mut tbs)
}

fn public_key<'a>(reader: &mut Reader<'a>) -> Result<PublicKey<'a>, Unreadable> {
    let problem = "its key cannot be read";
    let info = reader.expect(SEQUENCE, problem)?;
    let mut info = reader.inside(info);
    let algorithm = info.expect(SEQUENCE, problem)?.content;
    let bits = bits(info.expect(BIT_STRING, problem)?)?;
    Ok(PublicKey { algorithm, bits })
}

fn bits(string: Element<'_>) -> Result<&[u8], Unreadable> {
    match string.content.split_first() {
        Some((0, bits)) => Ok(bits),
        _ => Err(Unreadable("a bit string that is not of whole octets")),
    }
}

/// An extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// Content of its object identifier.
    pub oid: &'a [u8],
    /// Whether it is critical.
    pub critical: bool,
    /// Its value: DER within an OCTET STRING, without that string's head.
    pub value: &'a [u8],
}

/// A certificate, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    tbs: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    validity: &'a [u8],
    key: PublicKey<'a>,
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
    /// Its extensions in order.
    pub extensions: Vec<Extension<'a>>,
}

/// Why a certificate is not signed by its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSelfSigned {
    /// Issuer and subject differ.
    OtherIssuer,
    /// Neither of the algorithms known here, or the key is of another kind.
    Algorithm,
    /// The signature is not by its own key.
    Signature,
}

impl<'a> Certificate<'a> {
    /// Reads strict DER.
    ///
    /// # Errors
    /// The octets are no certificate; the value says where.
    pub fn read(der: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::strict(der);
        let certificate = reader.expect(SEQUENCE, "no certificate")?;
        reader.end("octets after the certificate")?;
        let mut certificate = reader.inside(certificate);
        let tbs = certificate.expect(SEQUENCE, "no certificate")?;
        let signature_algorithm = certificate.expect(SEQUENCE, "no signature algorithm")?.content;
        let signature = bits(certificate.expect(BIT_STRING, "no signature")?)?;
        certificate.end("octets after the signature")?;
        let whole = tbs.whole;
        let mut tbs = certificate.inside(tbs);
        let version = version(&mut tbs)?;
        tbs.expect(INTEGER, "no serial number")?;
        if tbs.expect(SEQUENCE, "no signature algorithm")?.content != signature_algorithm {
            return Err(Unreadable("two signature algorithms that differ"));
        }
        let issuer = tbs.expect(SEQUENCE, "no issuer")?.whole;
        let validity = tbs.expect(SEQUENCE, "no validity")?.content;
        let subject = tbs.expect(SEQUENCE, "no subject")?.whole;
        let key = public_key(&mut tbs)?;
        tbs.optional(ISSUER_UNIQUE_ID)?;
        tbs.optional(SUBJECT_UNIQUE_ID)?;
        let extensions = match tbs.optional(EXTENSIONS)? {
            Some(_) if version != 2 => return Err(Unreadable("extensions in a certificate that is not version 3")),
            Some(extensions) => read_extensions(tbs.inside(extensions))?,
            None => Vec::new(),
        };
        tbs.end("octets after the extensions")?;
        Ok(Self { tbs: whole, issuer, subject, validity, key, signature_algorithm, signature, extensions })
    }

    /// Its extensions with this object identifier.
    pub fn extensions_of(&self, oid: &'static [u8]) -> impl Iterator<Item = &Extension<'a>> {
        self.extensions.iter().filter(move |extension| extension.oid == oid)
    }

    /// Whether it is signed by its own key, under its own name (RFC 5280 §3.2).
    ///
    /// # Errors
    /// It is not; the value says why.
    pub fn self_signed(&self) -> Result<(), NotSelfSigned> {
        if self.issuer != self.subject {
            return Err(NotSelfSigned::OtherIssuer);
        }
        let fitting = ALGORITHMS.all.iter().filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.signature_algorithm
                && algorithm.public_key_alg_id().as_ref() == self.key.algorithm
        });
        let mut known = false;
        for algorithm in fitting {
            known = true;
            if algorithm.verify_signature(self.key.bits, self.tbs, self.signature).is_ok() {
                return Ok(());
            }
        }
        Err(if known { NotSelfSigned::Signature } else { NotSelfSigned::Algorithm })
    }

    /// Its subject as text, attributes from first to last, bounded.
    #[must_use]
    pub fn subject(&self) -> Octets {
        let mut text = Vec::new();
        for (number, (kind, value)) in attributes(self.subject).into_iter().take(SUBJECT_PARTS_MAX).enumerate() {
            if number > 0 {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(attribute_name(kind).as_bytes());
            text.push(b'=');
            text.extend_from_slice(value);
        }
        Octets::first(&text, SUBJECT_KEPT_BYTES_MAX)
    }

    /// Begin and end of validity, as far as they can be read.
    #[must_use]
    pub fn validity(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let mut reader = Reader::strict(self.validity);
        let not_before = reader.next().ok().and_then(time);
        (not_before, reader.next().ok().and_then(time))
    }

    /// The names of its first subjectAltName; none if it has none that can be read.
    fn alternative_names(&self) -> Vec<AlternativeName<'a>> {
        let first = self.extensions_of(SUBJECT_ALT_NAME).next();
        first.and_then(|extension| alternative_names(extension.value).ok()).unwrap_or_default()
    }
}

/// Algorithms that signatures are checked with; choosing among them takes neither randomness nor a clock.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| rustls::crypto::ring::default_provider().signature_verification_algorithms);

/// Whether `key` signed `message` in the way a handshake calls `scheme`; TLS 1.3 binds the scheme to one curve.
pub(super) fn signed_handshake(
    key: PublicKey<'_>,
    (scheme, is_tls13): (rustls::SignatureScheme, bool),
    message: &[u8],
    signature: &[u8],
) -> bool {
    let algorithms = ALGORITHMS.mapping.iter().find(|(known, _)| *known == scheme).map_or(&[][..], |(_, all)| all);
    let algorithms = if is_tls13 { algorithms.get(..1).unwrap_or_default() } else { algorithms };
    algorithms.iter().any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == key.algorithm
            && algorithm.verify_signature(key.bits, message, signature).is_ok()
    })
}

/// Schemes a server may sign a handshake with.
pub(super) fn handshake_schemes() -> Vec<rustls::SignatureScheme> {
    ALGORITHMS.supported_schemes()
}

/// 0 for version 1, 2 for version 3.
fn version(tbs: &mut Reader<'_>) -> Result<u8, Unreadable> {
    let Some(version) = tbs.optional(VERSION)? else { return Ok(0) };
    let mut inside = tbs.inside(version);
    match (inside.expect(INTEGER, "no version")?.content, inside.rest) {
        ([number @ 0..=2], []) => Ok(*number),
        _ => Err(Unreadable("a version that does not exist")),
    }
}

fn read_extensions(mut outer: Reader<'_>) -> Result<Vec<Extension<'_>>, Unreadable> {
    let list = outer.expect(SEQUENCE, "no list of extensions")?;
    outer.end("octets after the extensions")?;
    let mut list = outer.inside(list);
    let mut extensions = Vec::new();
    while !list.rest.is_empty() {
        let extension = list.expect(SEQUENCE, "no extension")?;
        let mut inside = list.inside(extension);
        let oid = inside.expect(OBJECT_IDENTIFIER, "an extension without identifier")?.content;
        let critical = match inside.optional(BOOLEAN)?.map(|boolean| boolean.content) {
            None | Some([0]) => false,
            Some([0xff]) => true,
            Some(_) => return Err(Unreadable("a Boolean that is neither")),
        };
        let value = inside.expect(OCTET_STRING, "an extension without value")?.content;
        inside.end("octets after an extension")?;
        extensions.push(Extension { oid, critical, value });
    }
    Ok(extensions)
}

/// An entry of a subjectAltName.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlternativeName<'a> {
    /// A dNSName, as it stands there.
    Dns(&'a [u8]),
    /// An iPAddress of this many octets or that.
    Ip(&'a [u8]),
    /// Another kind: its tag.
    Other(u8),
}

/// The entries of a subjectAltName's value.
///
/// # Errors
/// It is no list of names.
pub fn alternative_names(value: &[u8]) -> Result<Vec<AlternativeName<'_>>, Unreadable> {
    let mut reader = Reader::strict(value);
    let list = reader.expect(SEQUENCE, "no list of names")?;
    reader.end("octets after the list of names")?;
    let mut list = reader.inside(list);
    let mut names = Vec::new();
    while !list.rest.is_empty() {
        let name = list.next()?;
        names.push(match name.tag {
            DNS_NAME => AlternativeName::Dns(name.content),
            IP_ADDRESS => AlternativeName::Ip(name.content),
            other => AlternativeName::Other(other),
        });
    }
    Ok(names)
}

/// Whether octets of an iPAddress are this address.
#[must_use]
pub fn is_address(octets: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => octets == address.octets(),
        IpAddr::V6(address) => octets == address.octets(),
    }
}

/// What a certificate says, to be written down.
#[must_use]
pub fn facts(der: &[u8], host: &Host) -> CertificateFacts {
    let sha256 = Sha256::digest(der).iter().map(|octet| format!("{octet:02x}")).collect();
    let content = Certificate::read(der).ok().map(|certificate| {
        let names = certificate.alternative_names();
        let (not_before, not_after) = certificate.validity();
        CertificateContent {
            subject: certificate.subject(),
            names: u16::try_from(names.len()).unwrap_or(u16::MAX),
            not_before,
            not_after,
            self_signed: certificate.self_signed().is_ok(),
            name_matches: names.iter().any(|name| covers(*name, host)),
        }
    });
    CertificateFacts { sha256, octets: u32::try_from(der.len()).unwrap_or(u32::MAX), content }
}

/// Whether a name of a certificate is the host, or a wildcard one label above it (RFC 6125 §6.4).
fn covers(name: AlternativeName<'_>, host: &Host) -> bool {
    match (name, host) {
        (AlternativeName::Dns(name), Host::Name(host)) => match name.strip_prefix(b"*.") {
            Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest.as_bytes().eq_ignore_ascii_case(parent)),
            None => name.eq_ignore_ascii_case(host.as_bytes()),
        },
        (AlternativeName::Ip(octets), Host::Ip(address)) => is_address(octets, *address),
        _ => false,
    }
}

/// Kind and value of each attribute of a Name, as far as it can be read.
fn attributes(name: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut attributes = Vec::new();
    let mut reader = Reader::strict(name);
    let Ok(sequence) = reader.next() else { return attributes };
    let mut sets = reader.inside(sequence);
    while let Ok(set) = sets.expect(SET, "no set") {
        let mut pairs = sets.inside(set);
        while let Ok(pair) = pairs.expect(SEQUENCE, "no attribute") {
            let mut pair = pairs.inside(pair);
            if let (Ok(kind), Ok(value)) = (pair.expect(OBJECT_IDENTIFIER, "no kind"), pair.next()) {
                attributes.push((kind.content, value.content));
            }
        }
    }
    attributes
}

/// Short names of RFC 4514 §3, and what else is common.
fn attribute_name(oid: &[u8]) -> &'static str {
    match oid {
        [0x55, 0x04, 3] => "CN",
        [0x55, 0x04, 5] => "serialNumber",
        [0x55, 0x04, 6] => "C",
        [0x55, 0x04, 7] => "L",
        [0x55, 0x04, 8] => "ST",
        [0x55, 0x04, 10] => "O",
        [0x55, 0x04, 11] => "OU",
        _ => "?",
    }
}

/// UTCTime or GeneralizedTime in the form RFC 5280 §4.1.2.5 wants.
fn time(element: Element<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (element.tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i16 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i8>().ok();
    let moment = civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    Offset::UTC.to_timestamp(moment).ok()
}
