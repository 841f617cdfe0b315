//! Keys, delegation signers, and the checking of one set's signatures.
//!
//! Implements RFC 4035 §5.2 and §5.3, RFC 4509 (SHA-256 digests), RFC 5702, RFC 6605, RFC 8080, RFC 6840
//! §5.11 (any valid path suffices). The arithmetic of signatures is the `domain` crate's and `ring`'s.
//!
//! Algorithms 5 and 7 and SHA-1 digests are checked too: to treat such zones as unsigned, the alternative,
//! would believe more and not less. Algorithm 16 is not available in `ring`.
//!
//! Invariant: work is bounded by [`Work`], for one set and for a whole task; a zone made to be expensive
//! ends as bogus.

use std::sync::Arc;

use domain::{
    base::{Rtype, iana::SecurityAlgorithm},
    crypto::common::{AlgorithmError, DigestBuilder, DigestType, PublicKey},
    rdata::Dnskey,
};
use jiff::Timestamp;

use super::set::{Owner, Rrset, Signature, labels_of, suffix_of, text_of, wildcard_at};
use crate::{
    base::limits::{ATTEMPTS_PER_SET_MAX, FAILED_SIGNATURES_MAX, KEYS_PER_ZONE_MAX, NSEC3_HASHES_MAX, SIGNATURES_MAX},
    observation::DnssecFault,
};

const FLAG_ZONE: u16 = 0x0100;
const FLAG_REVOKED: u16 = 0x0080;
const PROTOCOL: u8 = 3;

/// The work one task may still do. Denial of service by signatures (KeyTrap) or by hashes costs no more.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    signatures: u32,
    failed: u32,
    hashes: u32,
}

impl Default for Work {
    fn default() -> Self {
        Self { signatures: SIGNATURES_MAX, failed: FAILED_SIGNATURES_MAX, hashes: NSEC3_HASHES_MAX }
    }
}

impl Work {
    /// Takes `count` rounds of the NSEC3 hash.
    ///
    /// # Errors
    /// There are none left.
    pub fn take_hashes(&mut self, count: u32) -> Result<(), DnssecFault> {
        self.hashes = self.hashes.checked_sub(count).ok_or(DnssecFault::TooMuchWork)?;
        Ok(())
    }

    fn take_signature(&mut self) -> Result<(), DnssecFault> {
        if self.failed == 0 {
            return Err(DnssecFault::TooMuchWork);
        }
        self.signatures = self.signatures.checked_sub(1).ok_or(DnssecFault::TooMuchWork)?;
        Ok(())
    }
}

/// A delegation signer (RFC 4034 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ds {
    /// Tag of the key it stands for.
    pub key_tag: u16,
    /// Algorithm of that key.
    pub algorithm: u8,
    /// Kind of digest.
    pub digest_type: u8,
    /// Digest.
    pub digest: Vec<u8>,
}

impl Ds {
    /// Reads RDATA.
    #[must_use]
    pub fn parse(rdata: &[u8]) -> Option<Self> {
        let (&[high, low, algorithm, digest_type], digest) = rdata.split_first_chunk::<4>()?;
        let key_tag = u16::from_be_bytes([high, low]);
        (!digest.is_empty()).then(|| Self { key_tag, algorithm, digest_type, digest: digest.to_vec() })
    }

    /// Whether it can be checked here: RFC 4035 §5.2 has the zone treated as unsigned if none can.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        is_supported_algorithm(self.algorithm) && digest_of(self.digest_type).is_some()
    }

    /// Whether it stands for a key of `zone`, given as RDATA.
    #[must_use]
    pub fn stands_for(&self, zone: &Owner, dnskey: &[u8]) -> bool {
        Key::parse(dnskey).is_some_and(|key| self.matches(zone, &key))
    }

    fn matches(&self, zone: &Owner, key: &Key) -> bool {
        let Some((kind, _)) = digest_of(self.digest_type) else { return false };
        if self.key_tag != key.tag || self.algorithm != key.algorithm {
            return false;
        }
        let mut builder = DigestBuilder::new(kind);
        builder.update(zone.as_slice());
        builder.update(&key.rdata);
        builder.finish().as_ref() == self.digest
    }
}

/// A digest's kind and its strength, stronger higher.
fn digest_of(digest_type: u8) -> Option<(DigestType, u8)> {
    match digest_type {
        1 => Some((DigestType::Sha1, 1)),
        2 => Some((DigestType::Sha256, 2)),
        4 => Some((DigestType::Sha384, 3)),
        _ => None,
    }
}

/// Whether signatures of an algorithm can be checked here.
#[must_use]
pub fn is_supported_algorithm(algorithm: u8) -> bool {
    matches!(
        SecurityAlgorithm::from_int(algorithm),
        SecurityAlgorithm::RSASHA1
            | SecurityAlgorithm::RSASHA1_NSEC3_SHA1
            | SecurityAlgorithm::RSASHA256
            | SecurityAlgorithm::RSASHA512
            | SecurityAlgorithm::ECDSAP256SHA256
            | SecurityAlgorithm::ECDSAP384SHA384
            | SecurityAlgorithm::ED25519
    )
}

/// The tag of a key that may sign a zone, given as RDATA (RFC 4034 Appendix B).
#[must_use]
pub fn key_tag(dnskey: &[u8]) -> Option<u16> {
    Key::parse(dnskey).map(|key| key.tag)
}

/// One zone key (RFC 4034 §2).
pub struct Key {
    tag: u16,
    algorithm: u8,
    rdata: Vec<u8>,
    public: Result<PublicKey, AlgorithmError>,
}

impl Key {
    /// Reads RDATA; none if it is no key that may sign a zone.
    fn parse(rdata: &[u8]) -> Option<Self> {
        let (&[high, low, protocol, algorithm], public) = rdata.split_first_chunk::<4>()?;
        let flags = u16::from_be_bytes([high, low]);
        if flags & FLAG_ZONE == 0 || flags & FLAG_REVOKED != 0 || protocol != PROTOCOL {
            return None;
        }
        let dnskey = Dnskey::new(flags, protocol, SecurityAlgorithm::from_int(algorithm), public).ok()?;
        let tag = dnskey.key_tag();
        Some(Self { tag, algorithm, rdata: rdata.to_vec(), public: PublicKey::from_dnskey(&dnskey) })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}/{})", self.tag, self.algorithm)
    }
}

/// The keys of a zone that the chain of trust reaches.
#[derive(Debug)]
pub struct ZoneKeys {
    /// The zone.
    pub zone: Owner,
    keys: Vec<Key>,
    /// Tag of the trust anchor the chain begins at.
    pub anchor: u16,
    /// End of validity of the DNSKEY set's signature.
    pub expires: Timestamp,
}

impl ZoneKeys {
    /// Trusts a DNSKEY set if a key that one of `delegation` stands for has signed it (RFC 4035 §5.2).
    /// `anchor` is the tag of the trust anchor; none if `delegation` is the trust anchors themselves.
    ///
    /// # Errors
    /// Why not.
    pub fn trust(
        delegation: &[Ds],
        set: &Rrset,
        anchor: Option<u16>,
        now: Timestamp,
        work: &mut Work,
    ) -> Result<Arc<Self>, DnssecFault> {
        let zone = set.owner.clone();
        // SHA-1 digests count only if there is nothing stronger (RFC 4509 §3).
        let strength = |ds: &Ds| digest_of(ds.digest_type).map_or(0, |(_, strength)| strength);
        let strongest = delegation.iter().filter(|ds| ds.is_supported()).map(strength).max().unwrap_or(0);
        let usable = |ds: &&Ds| ds.is_supported() && (strength(ds) > 1 || strongest == 1);
        let usable: Vec<&Ds> = delegation.iter().filter(usable).take(KEYS_PER_ZONE_MAX).collect();
        // Keys that a DS stands for go first, so that the bound on keys cannot cost them.
        let (mut keys, others): (Vec<Key>, Vec<Key>) = set
            .rdata
            .iter()
            .filter_map(|rdata| Key::parse(rdata))
            .partition(|key| usable.iter().any(|ds| ds.matches(&zone, key)));
        keys.truncate(KEYS_PER_ZONE_MAX);
        let entries = keys.len();
        keys.extend(others);
        keys.truncate(KEYS_PER_ZONE_MAX);
        if entries == 0 {
            let mut ds: Vec<u16> = delegation.iter().take(KEYS_PER_ZONE_MAX).map(|ds| ds.key_tag).collect();
            ds.sort_unstable();
            ds.dedup();
            let mut tags: Vec<u16> = keys.iter().map(|key| key.tag).collect();
            tags.sort_unstable();
            return Err(DnssecFault::DsMatchesNoKey { zone: text_of(&zone), ds, keys: tags });
        }
        let candidates: Vec<&Key> = keys[..entries].iter().collect();
        let (checked, tag) = check_set(set, &zone, &candidates, now, work)?;
        let anchor = anchor.unwrap_or(tag);
        Ok(Arc::new(Self { zone, keys, anchor, expires: checked.expires }))
    }

    /// Checks that a set of this zone is signed by one of its keys.
    ///
    /// # Errors
    /// What is wrong with its signatures.
    pub fn check(&self, set: &Rrset, now: Timestamp, work: &mut Work) -> Result<Checked, DnssecFault> {
        let keys: Vec<&Key> = self.keys.iter().collect();
        check_set(set, &self.zone, &keys, now, work).map(|(checked, _)| checked)
    }
}

/// A set whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// If a wildcard was expanded: the name right above the asterisk. That nothing closer exists is for the
    /// caller to prove (RFC 4035 §5.3.4).
    pub wildcard: Option<Owner>,
    /// End of validity.
    pub expires: Timestamp,
}

fn check_set(
    set: &Rrset,
    zone: &Owner,
    keys: &[&Key],
    now: Timestamp,
    work: &mut Work,
) -> Result<(Checked, u16), DnssecFault> {
    let named = |fault: fn(String, String, String) -> DnssecFault| {
        fault(text_of(&set.owner), type_text(set.rtype), text_of(zone))
    };
    if !set.owner.ends_with(zone) {
        return Err(named(|owner, rtype, zone| DnssecFault::NoSignature { owner, rtype, zone }));
    }
    let mut worst = named(|owner, rtype, zone| DnssecFault::NoSignature { owner, rtype, zone });
    let mut attempts = 0;
    for signature in set.signatures.iter().filter(|signature| signature.signer == *zone) {
        let Some(signed_owner) = signed_owner(set, signature) else { continue };
        let (inception, expiration) = validity(signature, now);
        if now > expiration {
            worse(
                &mut worst,
                named(|owner, rtype, zone| DnssecFault::Expired { owner, rtype, zone, at: Timestamp::UNIX_EPOCH }),
                expiration,
            );
            continue;
        }
        if now < inception {
            worse(
                &mut worst,
                named(|owner, rtype, zone| DnssecFault::NotYetValid { owner, rtype, zone, at: Timestamp::UNIX_EPOCH }),
                inception,
            );
            continue;
        }
        let mut key_found = false;
        let mut data = None;
        for key in keys.iter().filter(|key| key.tag == signature.key_tag && key.algorithm == signature.algorithm) {
            key_found = true;
            attempts += 1;
            if attempts > ATTEMPTS_PER_SET_MAX {
                return Err(DnssecFault::TooMuchWork);
            }
            work.take_signature()?;
            let data = data.get_or_insert_with(|| signed_data(set, &signed_owner, signature));
            let good = key.public.as_ref().is_ok_and(|public| public.verify(data, &signature.signature).is_ok());
            if good {
                let below =
                    usize::from(signature.labels) < labels_of(&set.owner) && !is_literal_wildcard(set, signature);
                let wildcard = below.then(|| suffix_of(&set.owner, usize::from(signature.labels)));
                return Ok((Checked { wildcard, expires: expiration }, key.tag));
            }
            work.failed = work.failed.saturating_sub(1);
            let tag = key.tag;
            worst = DnssecFault::BadSignature {
                owner: text_of(&set.owner),
                rtype: type_text(set.rtype),
                zone: text_of(zone),
                key_tag: tag,
            };
        }
        if !key_found {
            let missing = DnssecFault::NoSuchKey {
                owner: text_of(&set.owner),
                rtype: type_text(set.rtype),
                zone: text_of(zone),
                key_tag: signature.key_tag,
            };
            if matches!(worst, DnssecFault::NoSignature { .. }) {
                worst = missing;
            }
        }
    }
    Err(worst)
}

/// Keeps the fault that explains most: a bad signature before a wrong time before a missing key.
fn worse(worst: &mut DnssecFault, mut fault: DnssecFault, when: Timestamp) {
    if let DnssecFault::Expired { at, .. } | DnssecFault::NotYetValid { at, .. } = &mut fault {
        *at = when;
    }
    if matches!(worst, DnssecFault::NoSignature { .. } | DnssecFault::NoSuchKey { .. }) {
        *worst = fault;
    }
}

/// Whether the owner is itself `*.…`, signed as such and not expanded.
fn is_literal_wildcard(set: &Rrset, signature: &Signature) -> bool {
    set.owner.first().is_wildcard() && usize::from(signature.labels) + 1 == labels_of(&set.owner)
}

/// The owner as signed: the wildcard if one was expanded (RFC 4035 §5.3.2). None if the signature claims
/// more labels than there are.
fn signed_owner(set: &Rrset, signature: &Signature) -> Option<Owner> {
    let (signed, have) = (usize::from(signature.labels), labels_of(&set.owner));
    match signed.cmp(&have) {
        std::cmp::Ordering::Equal => Some(set.owner.clone()),
        std::cmp::Ordering::Less => wildcard_at(&suffix_of(&set.owner, signed)),
        std::cmp::Ordering::Greater => None,
    }
}

fn signed_data(set: &Rrset, owner: &Owner, signature: &Signature) -> Vec<u8> {
    let records: usize = set.rdata.iter().map(|rdata| owner.len() + 10 + rdata.len()).sum();
    let mut data = Vec::with_capacity(signature.prefix.len() + records);
    data.extend_from_slice(&signature.prefix);
    for rdata in &set.rdata {
        data.extend_from_slice(owner.as_slice());
        data.extend_from_slice(&set.rtype.to_int().to_be_bytes());
        data.extend_from_slice(&1_u16.to_be_bytes());
        data.extend_from_slice(&signature.original_ttl.to_be_bytes());
        data.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        data.extend_from_slice(rdata);
    }
    data
}

/// Begin and end of validity as points in time nearest to `now` (serial arithmetic, RFC 1982).
fn validity(signature: &Signature, now: Timestamp) -> (Timestamp, Timestamp) {
    let at = |serial: u32| {
        let base = now.as_second();
        let ahead = serial.wrapping_sub(base as u32) as i32;
        Timestamp::from_second(base + i64::from(ahead)).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    (at(signature.inception), at(signature.expiration))
}

/// A type as people write it.
#[must_use]
pub fn type_text(rtype: Rtype) -> String {
    rtype.to_string()
}
