//! What is kept of the answers of a survey: record sets once each, and no more octets than a report may have.

use domain::base::Rtype;
use sha2::{Digest as _, Sha256};

use crate::{
    base::{
        limits::{SURVEY_KEPT_BYTES_MAX, SURVEY_SET_RECORDS_MAX},
        octets::Octets,
    },
    lookup::{
        dnssec::set::{Rrset, Section, owner_of, text_of},
        nameserver::{Reading, answer},
    },
    observation::{DnsLookup, RecordType, SurveyAnswer, SurveyedSet},
};

/// Octets of a digest that are written.
const DIGEST_BYTES: usize = 16;

/// The record sets kept so far.
#[derive(Debug, Default)]
pub(super) struct Kept {
    sets: Vec<SurveyedSet>,
    bytes: usize,
}

impl Kept {
    pub(super) fn into_sets(self) -> Vec<SurveyedSet> {
        self.sets
    }

    /// What a lookup and its reply came to; none if it was not asked, or not waited for.
    pub(super) fn answer(&mut self, rtype: RecordType, lookup: &DnsLookup, reading: Reading) -> Option<SurveyAnswer> {
        let answer = answer(lookup, &reading)?;
        let said = said(&reading.sets, &lookup.name, rtype);
        let set = said.map(|set| self.keep(set));
        let signatures = reading.sets.iter().filter(|set| said.is_none_or(|said| std::ptr::eq(said, *set)));
        let signed = signatures.clone().any(|set| !set.signatures.is_empty());
        Some(SurveyAnswer {
            answer,
            recursion: reading.recursion,
            edns: reading.edns,
            set,
            ttl: said.map(|set| set.ttl),
            serial: reading.serial,
            negative_ttl: reading.negative_ttl,
            signed,
            signatures_expired: reading.signatures_expired,
        })
    }

    /// The place of a set. Its number stays small: an address has few questions.
    fn keep(&mut self, set: &Rrset) -> u16 {
        let (owner, digest) = (text_of(&set.owner), digest_of(set));
        let rtype = set.rtype.to_int();
        let known =
            self.sets.iter().position(|kept| kept.rtype == rtype && kept.digest == digest && kept.owner == owner);
        if let Some(at) = known {
            return at as u16;
        }
        let mut records = Vec::new();
        for rdata in set.rdata.iter().take(SURVEY_SET_RECORDS_MAX) {
            if self.bytes + rdata.len() > SURVEY_KEPT_BYTES_MAX {
                break;
            }
            self.bytes += rdata.len();
            records.push(Octets(rdata.clone()));
        }
        self.sets.push(SurveyedSet { owner, rtype, count: set.rdata.len() as u32, digest, records });
        (self.sets.len() - 1) as u16
    }
}

/// The answer's set of the type asked, or else of an alias.
fn said<'a>(sets: &'a [Rrset], name: &str, rtype: RecordType) -> Option<&'a Rrset> {
    let owner = owner_of(name)?;
    let of = |rtype: Rtype| {
        sets.iter().find(|set| set.section == Section::Answer && set.rtype == rtype && set.owner == owner)
    };
    of(Rtype::from_int(rtype.number())).or_else(|| of(Rtype::CNAME))
}

/// Over the records as they are sorted, each with its length.
fn digest_of(set: &Rrset) -> String {
    let mut hash = Sha256::new();
    for rdata in &set.rdata {
        hash.update((rdata.len() as u32).to_be_bytes());
        hash.update(rdata);
    }
    hash.finalize().iter().take(DIGEST_BYTES).map(|octet| format!("{octet:02x}")).collect()
}
