//! What NSEC and NSEC3 records prove to be absent.
//!
//! Implements RFC 4035 §5.4, RFC 5155 §8, RFC 6840 §4.1 (a record from the parent's side of a delegation
//! denies nothing below it but DS) and §4.3 (CNAME in the bitmap).
//!
//! Invariant: only records whose signature was checked are looked at. Invariant: opt-out never proves that
//! something does not exist, only that it is not signed (RFC 5155 §9.2).

use std::cell::RefCell;

use domain::{
    base::{ParsedName, Rtype, ToName as _, iana::Nsec3HashAlgorithm},
    dep::octseq::Parser,
    dnssec::common::nsec3_hash,
    rdata::{
        Nsec, Nsec3,
        dnssec::RtypeBitmap,
        nsec3::{Nsec3Salt, OwnerHash},
    },
    utils::base32,
};
use jiff::Timestamp;

use super::{
    set::{Owner, Rrset, labels_of, suffix_of, suffixes, text_of, wildcard_at},
    signature::{Work, ZoneKeys, type_text},
};
use crate::{
    base::limits::NSEC3_ITERATIONS_MAX,
    observation::{DnssecFault, InsecureBy},
};

/// RFC 9824 §2.
const NXNAME: Rtype = Rtype::from_int(128);

/// What was shown about something that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It does not exist.
    Proven,
    /// It may exist without being signed.
    OptOut(InsecureBy),
}

/// What was shown about a name without DS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoDs {
    /// An unsigned zone begins there.
    Unsigned(InsecureBy),
    /// No zone begins there.
    NoCut,
}

struct NsecRecord {
    owner: Owner,
    next: Owner,
    types: RtypeBitmap<Vec<u8>>,
}

impl NsecRecord {
    fn parse(set: &Rrset) -> Option<Self> {
        let raw: &[u8] = set.rdata.first()?;
        let nsec = Nsec::<&[u8], ParsedName<&[u8]>>::parse(&mut Parser::from_ref(raw)).ok()?;
        let next = nsec.next_name().to_canonical_name();
        let types = RtypeBitmap::from_octets(nsec.types().as_slice().to_vec()).ok()?;
        Some(Self { owner: set.owner.clone(), next, types })
    }

    fn covers(&self, name: &Owner) -> bool {
        let after = self.owner.name_cmp(name).is_lt();
        let before = name.name_cmp(&self.next).is_lt() || self.next.name_cmp(&self.owner).is_le();
        after && before && !denies_nothing_below(&self.types, &self.owner, name)
    }

    /// `name` does not exist, not even as the end of longer names.
    fn shows_absent(&self, name: &Owner) -> bool {
        self.covers(name) && !self.next.ends_with(name)
    }

    /// The next name lies below `name`, so `name` exists and has no records.
    fn shows_empty_non_terminal(&self, name: &Owner) -> bool {
        self.covers(name) && self.next.ends_with(name)
    }

    /// The deepest name above `name` that this record shows to exist.
    fn closest_encloser(&self, name: &Owner) -> Owner {
        let by_owner = common_labels(&self.owner, name);
        suffix_of(name, by_owner.max(common_labels(&self.next, name)))
    }
}

struct Nsec3Record {
    zone_hash: Vec<u8>,
    owner: Owner,
    nsec3: Nsec3<Vec<u8>>,
}

impl Nsec3Record {
    fn parse(set: &Rrset, zone: &Owner) -> Option<Self> {
        let raw: &[u8] = set.rdata.first()?;
        let parsed = Nsec3::parse(&mut Parser::from_ref(raw)).ok()?;
        // RFC 5155 §8.1 and §8.2: unknown hash algorithms and flags are ignored.
        if parsed.hash_algorithm() != Nsec3HashAlgorithm::SHA1 || parsed.flags() & !1 != 0 {
            return None;
        }
        if labels_of(&set.owner) != labels_of(zone) + 1 || !set.owner.ends_with(zone) {
            return None;
        }
        let label = std::str::from_utf8(set.owner.first().as_slice()).ok()?.to_owned();
        let zone_hash: Vec<u8> = base32::decode_hex(&label).ok()?;
        let nsec3 = Nsec3::new(
            parsed.hash_algorithm(),
            parsed.flags(),
            parsed.iterations(),
            Nsec3Salt::from_octets(parsed.salt().as_slice().to_vec()).ok()?,
            OwnerHash::from_octets(parsed.next_owner().as_slice().to_vec()).ok()?,
            RtypeBitmap::from_octets(parsed.types().as_slice().to_vec()).ok()?,
        );
        Some(Self { zone_hash, owner: set.owner.clone(), nsec3 })
    }

    fn covers(&self, hash: &[u8]) -> bool {
        let (owner, next) = (self.zone_hash.as_slice(), self.nsec3.next_owner().as_slice());
        if owner < next { owner < hash && hash < next } else { owner < hash || hash < next }
    }

    fn same_parameters(&self, other: &Self) -> bool {
        self.nsec3.iterations() == other.nsec3.iterations() && self.nsec3.salt() == other.nsec3.salt()
    }

    fn opt_out(&self) -> InsecureBy {
        let next = base32::encode_string_hex(self.nsec3.next_owner().as_slice()).to_ascii_lowercase();
        InsecureBy::OptOut { owner: text_of(&self.owner), next }
    }
}

/// A delegation's or a DNAME's record says nothing about names below its owner (RFC 6840 §4.1).
fn denies_nothing_below(types: &RtypeBitmap<Vec<u8>>, owner: &Owner, name: &Owner) -> bool {
    let below = name != owner && name.ends_with(owner);
    below && (is_delegation(types) || types.contains(Rtype::DNAME))
}

fn is_delegation(types: &RtypeBitmap<Vec<u8>>) -> bool {
    types.contains(Rtype::NS) && !types.contains(Rtype::SOA)
}

/// Whether a record at the very name shows that no signed zone begins there. It must be the parent's: the
/// child's own, which has SOA, says nothing about DS.
fn is_without_ds(types: &RtypeBitmap<Vec<u8>>) -> bool {
    !types.contains(Rtype::DS) && !types.contains(Rtype::SOA)
}

/// Whether a record at the very name denies a type there.
fn denies_type(types: &RtypeBitmap<Vec<u8>>, rtype: Rtype, is_apex_of_root: bool) -> bool {
    if types.contains(rtype) || types.contains(Rtype::CNAME) {
        return false;
    }
    match rtype {
        // DS lies on the parent's side; the child's own record denies nothing about it.
        Rtype::DS => !types.contains(Rtype::SOA) || is_apex_of_root,
        _ => !is_delegation(types),
    }
}

fn common_labels(a: &Owner, b: &Owner) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count() - 1
}

/// The records of one reply that deny, checked against one zone's keys.
pub struct Denials {
    zone: Owner,
    nsec: Vec<NsecRecord>,
    nsec3: Vec<Nsec3Record>,
    /// Why a record was left out.
    refused: Option<DnssecFault>,
    /// Hashes made so far.
    hashes: RefCell<Vec<(Owner, Vec<u8>)>>,
}

impl Denials {
    /// Takes the records of the authority section that `keys` have signed.
    ///
    /// # Errors
    /// The records of the zone ask for too much hashing, or the task has done too much work.
    pub fn collect(sets: &[Rrset], keys: &ZoneKeys, now: Timestamp, work: &mut Work) -> Result<Self, DnssecFault> {
        let mut denials = Self {
            zone: keys.zone.clone(),
            nsec: Vec::new(),
            nsec3: Vec::new(),
            refused: None,
            hashes: RefCell::new(Vec::new()),
        };
        for set in sets.iter().filter(|set| matches!(set.rtype, Rtype::NSEC | Rtype::NSEC3)) {
            match keys.check(set, now, work) {
                // An expanded wildcard has no NSEC of its own.
                Ok(checked) if checked.wildcard.is_some() => {}
                Ok(_) if set.rtype == Rtype::NSEC => denials.nsec.extend(NsecRecord::parse(set)),
                Ok(_) => denials.add_nsec3(set)?,
                Err(DnssecFault::TooMuchWork) => return Err(DnssecFault::TooMuchWork),
                Err(fault) => denials.refused = Some(fault),
            }
        }
        Ok(denials)
    }

    fn add_nsec3(&mut self, set: &Rrset) -> Result<(), DnssecFault> {
        let Some(record) = Nsec3Record::parse(set, &self.zone) else { return Ok(()) };
        let iterations = record.nsec3.iterations();
        if iterations > NSEC3_ITERATIONS_MAX {
            return Err(DnssecFault::Nsec3Iterations { zone: text_of(&self.zone), iterations });
        }
        // RFC 5155 §8.2: records with other parameters do not belong to this proof.
        if self.nsec3.first().is_none_or(|first| first.same_parameters(&record)) {
            self.nsec3.push(record);
        }
        Ok(())
    }

    fn unproven(&self, name: &Owner, rtype: Option<Rtype>) -> DnssecFault {
        self.refused.clone().unwrap_or_else(|| DnssecFault::DenialUnproven {
            name: text_of(name),
            rtype: rtype.map(type_text),
            zone: text_of(&self.zone),
        })
    }

    /// That `name` exists without `rtype`, or that the wildcard which matches it has none.
    ///
    /// # Errors
    /// It is not proven.
    pub fn no_data(&self, name: &Owner, rtype: Rtype, work: &mut Work) -> Result<Denied, DnssecFault> {
        let denied = if self.nsec3.is_empty() {
            self.nsec_no_data(name, rtype).then_some(Denied::Proven)
        } else {
            self.nsec3_no_data(name, rtype, work)?
        };
        match denied {
            Some(denied) => Ok(denied),
            // A name that does not exist has no data either.
            None => self.no_name(name, work).map_err(|fault| match fault {
                DnssecFault::DenialUnproven { .. } => self.unproven(name, Some(rtype)),
                other => other,
            }),
        }
    }

    /// That `name` does not exist, nor a wildcard that matches it.
    ///
    /// # Errors
    /// It is not proven.
    pub fn no_name(&self, name: &Owner, work: &mut Work) -> Result<Denied, DnssecFault> {
        let denied = if self.nsec3.is_empty() {
            self.nsec_no_name(name).then_some(Denied::Proven)
        } else {
            self.nsec3_no_name(name, work)?
        };
        denied.ok_or_else(|| self.unproven(name, None))
    }

    /// That nothing closer than the wildcard below `encloser` matches `name` (RFC 4035 §5.3.4, RFC 5155 §8.8).
    ///
    /// # Errors
    /// It is not proven.
    pub fn nothing_closer(&self, name: &Owner, encloser: &Owner, work: &mut Work) -> Result<Denied, DnssecFault> {
        let next_closer = suffix_of(name, labels_of(encloser) + 1);
        if self
            .nsec
            .iter()
            .any(|nsec| nsec.covers(name) && labels_of(&nsec.closest_encloser(name)) <= labels_of(encloser))
        {
            return Ok(Denied::Proven);
        }
        if !self.nsec3.is_empty()
            && let Some(cover) = self.covering(&next_closer, work)?
        {
            return Ok(if cover.nsec3.opt_out() { Denied::OptOut(cover.opt_out()) } else { Denied::Proven });
        }
        Err(self.unproven(name, None))
    }

    /// What a denial of DS at `name` shows (RFC 4035 §5.2, RFC 5155 §8.6 and §8.9).
    ///
    /// # Errors
    /// It shows nothing.
    pub fn no_ds(&self, name: &Owner, work: &mut Work) -> Result<NoDs, DnssecFault> {
        if let Some(nsec) = self.nsec.iter().find(|nsec| nsec.owner == *name)
            && is_without_ds(&nsec.types)
        {
            return Ok(match is_delegation(&nsec.types) {
                true => NoDs::Unsigned(InsecureBy::Nsec { owner: text_of(&nsec.owner) }),
                false => NoDs::NoCut,
            });
        }
        if !self.nsec3.is_empty()
            && let Some(matching) = self.matching(name, work)?
            && is_without_ds(matching.nsec3.types())
        {
            return Ok(match is_delegation(matching.nsec3.types()) {
                true => NoDs::Unsigned(InsecureBy::Nsec3 { owner: text_of(&matching.owner), name: text_of(name) }),
                false => NoDs::NoCut,
            });
        }
        match self.no_data(name, Rtype::DS, work)? {
            Denied::Proven => Ok(NoDs::NoCut),
            Denied::OptOut(by) => Ok(NoDs::Unsigned(by)),
        }
    }

    fn nsec_no_data(&self, name: &Owner, rtype: Rtype) -> bool {
        let at_root = name.is_root();
        self.nsec.iter().any(|nsec| {
            if nsec.owner == *name {
                return denies_type(&nsec.types, rtype, at_root);
            }
            if nsec.shows_empty_non_terminal(name) {
                return true;
            }
            nsec.covers(name)
                && wildcard_at(&nsec.closest_encloser(name)).is_some_and(|wildcard| {
                    self.nsec.iter().any(|at| {
                        (at.owner == wildcard && denies_type(&at.types, rtype, false))
                            || at.shows_empty_non_terminal(&wildcard)
                    })
                })
        })
    }

    fn nsec_no_name(&self, name: &Owner) -> bool {
        // RFC 9824 §2: an NSEC at the name itself says by NXNAME that the name does not exist.
        if self.nsec.iter().any(|nsec| nsec.owner == *name && nsec.types.contains(NXNAME)) {
            return true;
        }
        self.nsec.iter().any(|nsec| {
            nsec.shows_absent(name)
                && wildcard_at(&nsec.closest_encloser(name))
                    .is_none_or(|wildcard| self.nsec.iter().any(|other| other.shows_absent(&wildcard)))
        })
    }

    fn nsec3_no_data(&self, name: &Owner, rtype: Rtype, work: &mut Work) -> Result<Option<Denied>, DnssecFault> {
        if let Some(matching) = self.matching(name, work)? {
            return Ok(denies_type(matching.nsec3.types(), rtype, name.is_root()).then_some(Denied::Proven));
        }
        let Some((encloser, cover)) = self.closest_encloser(name, work)? else { return Ok(None) };
        if cover.nsec3.opt_out() {
            return Ok(Some(Denied::OptOut(cover.opt_out())));
        }
        let Some(wildcard) = wildcard_at(&encloser) else { return Ok(None) };
        let at = self.matching(&wildcard, work)?;
        Ok(at.filter(|at| denies_type(at.nsec3.types(), rtype, false)).map(|_| Denied::Proven))
    }

    fn nsec3_no_name(&self, name: &Owner, work: &mut Work) -> Result<Option<Denied>, DnssecFault> {
        let Some((encloser, cover)) = self.closest_encloser(name, work)? else { return Ok(None) };
        if cover.nsec3.opt_out() {
            return Ok(Some(Denied::OptOut(cover.opt_out())));
        }
        // A wildcard too long to exist needs no denial. Opt-out leaves out delegations, which wildcards are not, so
        // it says nothing here; and were it to, a zone's own records could make a name of it look unsigned.
        let Some(wildcard) = wildcard_at(&encloser) else { return Ok(Some(Denied::Proven)) };
        Ok(self.covering(&wildcard, work)?.map(|_| Denied::Proven))
    }

    /// The closest encloser of a name that does not exist, with the record that covers the next closer one
    /// (RFC 5155 §8.3).
    fn closest_encloser(&self, name: &Owner, work: &mut Work) -> Result<Option<(Owner, &Nsec3Record)>, DnssecFault> {
        for candidate in suffixes(name) {
            if !candidate.ends_with(&self.zone) {
                return Ok(None);
            }
            let Some(matching) = self.matching(&candidate, work)? else { continue };
            if candidate == *name || denies_nothing_below(matching.nsec3.types(), &candidate, name) {
                return Ok(None);
            }
            let next_closer = suffix_of(name, labels_of(&candidate) + 1);
            return Ok(self.covering(&next_closer, work)?.map(|cover| (candidate, cover)));
        }
        Ok(None)
    }

    fn matching(&self, name: &Owner, work: &mut Work) -> Result<Option<&Nsec3Record>, DnssecFault> {
        let hash = self.hash(name, work)?;
        Ok(self.nsec3.iter().find(|record| record.zone_hash == hash))
    }

    fn covering(&self, name: &Owner, work: &mut Work) -> Result<Option<&Nsec3Record>, DnssecFault> {
        let hash = self.hash(name, work)?;
        Ok(self.nsec3.iter().find(|record| record.covers(&hash)))
    }

    fn hash(&self, name: &Owner, work: &mut Work) -> Result<Vec<u8>, DnssecFault> {
        if let Some((_, hash)) = self.hashes.borrow().iter().find(|(known, _)| known == name) {
            return Ok(hash.clone());
        }
        let Some(first) = self.nsec3.first() else { return Ok(Vec::new()) };
        let iterations = first.nsec3.iterations();
        work.take_hashes(u32::from(iterations) + 1)?;
        let hash = nsec3_hash::<_, _, Vec<u8>>(name, Nsec3HashAlgorithm::SHA1, iterations, first.nsec3.salt())
            .map(|hash| hash.as_slice().to_vec())
            .map_err(|_| self.unproven(name, None))?;
        self.hashes.borrow_mut().push((name.clone(), hash.clone()));
        Ok(hash)
    }
}
