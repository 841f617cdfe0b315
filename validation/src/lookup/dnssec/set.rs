//! The record sets of a message, in the canonical form that signatures are made over.
//!
//! Implements RFC 4034 §6 (canonical form and order) with the corrections of RFC 6840 §5.1. Everything is
//! copied out of the message, and bounded by it; what a set means is judged elsewhere.

use std::borrow::Cow;

use domain::{
    base::{
        Message, Name, ParsedName, Record, Rtype, ToName, iana::Class, name::FlattenInto as _,
        rdata::ComposeRecordData, record::ParsedRecord,
    },
    rdata::{Cname, Dname, Mx, Ns, Ptr, Rrsig, Soa, Srv},
};

use crate::base::limits::{SIGNATURES_PER_SET_MAX, SIGNED_SETS_MAX};

/// A name in lower case.
pub type Owner = Name<Vec<u8>>;

/// One RRSIG over a set (RFC 4034 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// DNSSEC algorithm number.
    pub algorithm: u8,
    /// Labels of the owner as signed, without the root and a leading asterisk.
    pub labels: u8,
    /// TTL as signed, seconds.
    pub original_ttl: u32,
    /// End of validity, seconds in serial arithmetic (RFC 4034 §3.1.5).
    pub expiration: u32,
    /// Begin of validity.
    pub inception: u32,
    /// Tag of the key that made it.
    pub key_tag: u16,
    /// The zone that made it.
    pub signer: Owner,
    /// The RDATA up to the signature, in canonical form.
    pub prefix: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// Which section a set came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Answer.
    Answer,
    /// Authority.
    Authority,
}

/// All records of one owner and type in one section, with their signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrset {
    /// Where it came.
    pub section: Section,
    /// The owner.
    pub owner: Owner,
    /// The type.
    pub rtype: Rtype,
    /// Lowest TTL, seconds.
    pub ttl: u32,
    /// RDATA in canonical form and order, without repetition.
    pub rdata: Vec<Vec<u8>>,
    /// Its signatures, at most [`SIGNATURES_PER_SET_MAX`].
    pub signatures: Vec<Signature>,
}

/// Reads the answer and authority sections. Sets beyond [`SIGNED_SETS_MAX`] are not read, so what they would
/// prove stays unproven.
///
/// # Errors
/// A section cannot be read to its end: the text says which.
pub fn read_sets(packet: &[u8]) -> Result<Vec<Rrset>, String> {
    let message = Message::from_slice(packet).map_err(|_| "shorter than a header".to_owned())?;
    let mut sets: Vec<Rrset> = Vec::new();
    let mut signatures: Vec<(Section, Owner, Rtype, Signature)> = Vec::new();
    let answer = message.answer().map_err(|e| format!("question section: {e}"))?;
    let authority = answer.next_section().map_err(|e| format!("answer section: {e}"))?;
    let authority = authority.ok_or("no authority section")?;
    for (section, records) in [(Section::Answer, answer), (Section::Authority, authority)] {
        let place = if section == Section::Answer { "answer" } else { "authority" };
        for record in records {
            let record = record.map_err(|e| format!("{place} section: {e}"))?;
            if record.class() != Class::IN {
                continue;
            }
            if record.rtype() == Rtype::RRSIG {
                if let Ok(Some(found)) = read_signature(&record) {
                    let owner = record.owner().to_canonical_name();
                    signatures.push((section, owner, found.0, found.1));
                }
                continue;
            }
            // A record whose data cannot be read proves nothing, and need not be what the reply is about.
            if let Ok(rdata) = canonical_rdata(&record) {
                add(&mut sets, section, &record, rdata);
            }
        }
    }
    for set in &mut sets {
        set.rdata.sort();
        set.rdata.dedup();
    }
    for (section, owner, covered, signature) in signatures {
        let set = sets.iter_mut().find(|s| s.section == section && s.rtype == covered && s.owner == owner);
        if let Some(set) = set.filter(|set| set.signatures.len() < SIGNATURES_PER_SET_MAX) {
            set.signatures.push(signature);
        }
    }
    Ok(sets)
}

fn add(sets: &mut Vec<Rrset>, section: Section, record: &ParsedRecord<'_, [u8]>, rdata: Vec<u8>) {
    let (rtype, ttl) = (record.rtype(), record.ttl().as_secs());
    // Records of a set nearly always stand together, so the last set is looked at first.
    let found = sets.iter().rposition(|s| s.section == section && s.rtype == rtype && record.owner() == s.owner);
    match found {
        Some(at) => {
            sets[at].ttl = sets[at].ttl.min(ttl);
            sets[at].rdata.push(rdata);
        }
        None if sets.len() < SIGNED_SETS_MAX => {
            let owner = record.owner().to_canonical_name();
            sets.push(Rrset { section, owner, rtype, ttl, rdata: vec![rdata], signatures: Vec::new() });
        }
        None => {}
    }
}

fn read_signature(
    record: &ParsedRecord<'_, [u8]>,
) -> Result<Option<(Rtype, Signature)>, domain::base::wire::ParseError> {
    let Some(record) = record.to_record::<Rrsig<&[u8], ParsedName<&[u8]>>>()? else { return Ok(None) };
    let rrsig = record.into_data();
    let mut prefix = Vec::with_capacity(64);
    prefix.extend_from_slice(&rrsig.type_covered().to_int().to_be_bytes());
    prefix.extend_from_slice(&[rrsig.algorithm().to_int(), rrsig.labels()]);
    prefix.extend_from_slice(&rrsig.original_ttl().as_secs().to_be_bytes());
    prefix.extend_from_slice(&rrsig.expiration().into_int().to_be_bytes());
    prefix.extend_from_slice(&rrsig.inception().into_int().to_be_bytes());
    prefix.extend_from_slice(&rrsig.key_tag().to_be_bytes());
    let signer: Owner = rrsig.signer_name().to_canonical_name();
    prefix.extend_from_slice(signer.as_slice());
    let signature = Signature {
        algorithm: rrsig.algorithm().to_int(),
        labels: rrsig.labels(),
        original_ttl: rrsig.original_ttl().as_secs(),
        expiration: rrsig.expiration().into_int(),
        inception: rrsig.inception().into_int(),
        key_tag: rrsig.key_tag(),
        signer,
        prefix,
        signature: rrsig.signature().to_vec(),
    };
    Ok(Some((rrsig.type_covered(), signature)))
}

/// Canonical RDATA: names in the types of RFC 4034 §6.2 are decompressed and in lower case, all else is as
/// it came. NSEC's name keeps its case (RFC 6840 §5.1).
pub(crate) fn canonical_rdata(record: &ParsedRecord<'_, [u8]>) -> Result<Vec<u8>, domain::base::wire::ParseError> {
    macro_rules! with_names {
        ($data:ty) => {
            canonical(record.to_record::<$data>()?)
        };
    }
    let converted = match record.rtype() {
        Rtype::CNAME => with_names!(Cname<ParsedName<&[u8]>>),
        Rtype::DNAME => with_names!(Dname<ParsedName<&[u8]>>),
        Rtype::SOA => with_names!(Soa<ParsedName<&[u8]>>),
        Rtype::NS => with_names!(Ns<ParsedName<&[u8]>>),
        Rtype::PTR => with_names!(Ptr<ParsedName<&[u8]>>),
        Rtype::MX => with_names!(Mx<ParsedName<&[u8]>>),
        Rtype::SRV => with_names!(Srv<ParsedName<&[u8]>>),
        _ => None,
    };
    match converted {
        Some(rdata) => Ok(rdata),
        None => {
            let raw = record.to_record::<domain::base::UnknownRecordData<&[u8]>>()?;
            Ok(raw.map(|raw| raw.data().data().to_vec()).unwrap_or_default())
        }
    }
}

fn canonical<D: ComposeRecordData>(record: Option<Record<ParsedName<&[u8]>, D>>) -> Option<Vec<u8>> {
    let mut rdata = Vec::new();
    record.and_then(|record| record.data().compose_canonical_rdata(&mut rdata).ok()).map(|()| rdata)
}

/// The name a CNAME or DNAME points to.
#[must_use]
pub fn target_of(rdata: &[u8]) -> Option<Owner> {
    Name::<Vec<u8>>::from_octets(rdata.to_vec()).ok()
}

/// `name` in lower case.
#[must_use]
pub fn owner_of(name: &str) -> Option<Owner> {
    let mut owner = Name::<Vec<u8>>::vec_from_str(name).ok()?;
    owner.make_canonical();
    Some(owner)
}

/// Presentation form in lower case, without the final dot except for the root.
#[must_use]
pub fn text_of(name: &(impl ToName + ?Sized)) -> String {
    let flat = name.as_flat_slice().map(Cow::Borrowed);
    let wire = flat.unwrap_or_else(|| Cow::Owned(name.to_vec().into_octets()));
    // Without the first length and the root; a length that is left is where a dot goes.
    let inner = wire.get(1..wire.len().saturating_sub(1)).unwrap_or_default();
    if inner.is_empty() {
        return ".".to_owned();
    }
    let mut text = inner.to_vec();
    let mut length_at = wire.first().map_or(0, |length| usize::from(*length));
    let mut all_plain = true;
    for (at, octet) in text.iter_mut().enumerate() {
        if at == length_at {
            length_at = at + 1 + usize::from(*octet);
            *octet = b'.';
        } else {
            *octet = PLAIN[usize::from(*octet)];
            all_plain &= *octet != 0;
        }
    }
    match String::from_utf8(text) {
        Ok(text) if all_plain => text,
        // With what must be escaped; nearly no name has any.
        _ => name.to_name::<Vec<u8>>().to_string().to_ascii_lowercase(),
    }
}

/// Of each octet that is written as it is, in lower case; 0 for all others.
const PLAIN: [u8; 256] = {
    let mut plain = [0; 256];
    let mut octet: u8 = 0;
    while octet < 128 {
        if octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_' {
            plain[octet as usize] = octet.to_ascii_lowercase();
        }
        octet += 1;
    }
    plain
};

/// Whether an octet of a label is written as it is: letters, digits, hyphen and underscore.
#[must_use]
pub fn is_plain(octet: u8) -> bool {
    // Compared rather than looked up, which a processor does for many at a time.
    octet.is_ascii_alphanumeric() | (octet == b'-') | (octet == b'_')
}

/// `name` and all names above it, the root last.
pub fn suffixes(name: &Owner) -> impl Iterator<Item = Owner> + '_ {
    name.iter_suffixes().map(|suffix| suffix.flatten_into())
}

/// Labels without the root.
#[must_use]
pub fn labels_of(name: &Owner) -> usize {
    name.label_count() - 1
}

/// The last `labels` labels of a name.
#[must_use]
pub fn suffix_of(name: &Owner, labels: usize) -> Owner {
    let drop = labels_of(name).saturating_sub(labels);
    suffixes(name).nth(drop).unwrap_or_else(Name::root_vec)
}

/// `*` below a name; none if that is too long.
#[must_use]
pub fn wildcard_at(name: &Owner) -> Option<Owner> {
    let mut octets = vec![1, b'*'];
    octets.extend_from_slice(name.as_slice());
    Name::from_octets(octets).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_name_reads_as_the_library_writes_it(labels in vec(vec(any::<u8>(), 1..12), 0..5), plain: bool) {
            let mut wire = Vec::new();
            for mut label in labels {
                if plain {
                    label.iter_mut().for_each(|octet| *octet = b"aZ-_09"[usize::from(*octet) % 6]);
                }
                wire.push(label.len() as u8);
                wire.extend(label);
            }
            wire.push(0);
            let name = Name::from_octets(wire).expect("short enough");
            let theirs = name.to_string().to_ascii_lowercase();
            prop_assert_eq!(text_of(&name), if name.is_root() { ".".to_owned() } else { theirs });
        }
    }
}
