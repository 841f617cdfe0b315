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
        let signed = match said.map(|set| made_from(&reading.sets, set).unwrap_or(set)) {
            Some(set) => !set.signatures.is_empty(),
            None => reading.sets.iter().any(|set| !set.signatures.is_empty()),
        };
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

/// The DNAME that an alias was made from: such an alias has no signature of its own (RFC 6672 §5.3.1).
fn made_from<'a>(sets: &'a [Rrset], alias: &Rrset) -> Option<&'a Rrset> {
    let stands_above = |set: &&Rrset| {
        set.section == Section::Answer
            && set.rtype == Rtype::DNAME
            && set.owner != alias.owner
            && alias.owner.ends_with(&set.owner)
    };
    sets.iter().filter(|_| alias.rtype == Rtype::CNAME).find(stands_above)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lookup::dnssec::set::Signature,
        observation::{DnsFailure, DnsOutcome, DnsTransport, ServerOutcome},
    };

    fn set(owner: &str, rtype: Rtype, is_signed: bool) -> Rrset {
        let signature = Signature {
            algorithm: 13,
            labels: 2,
            original_ttl: 60,
            expiration: 0,
            inception: 0,
            key_tag: 1,
            signer: owner_of("customer.example").expect("a name"),
            prefix: Vec::new(),
            signature: Vec::new(),
        };
        Rrset {
            section: Section::Answer,
            owner: owner_of(owner).expect("a name"),
            rtype,
            ttl: 60,
            rdata: vec![vec![0]],
            signatures: if is_signed { vec![signature] } else { Vec::new() },
        }
    }

    fn is_signed(sets: Vec<Rrset>) -> bool {
        let lookup = DnsLookup {
            name: "www.old.customer.example".to_owned(),
            rtype: RecordType::Caa,
            resolver: "198.51.100.1:53".parse().expect("an address"),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome: DnsOutcome::Failed(DnsFailure::Timeout),
        };
        let reading = Reading { outcome: Some(ServerOutcome::Records), sets, ..Reading::default() };
        Kept::default().answer(RecordType::Caa, &lookup, reading).expect("an answer").signed
    }

    #[test]
    fn an_alias_made_from_a_dname_is_signed_if_that_is() {
        let (alias, above) = ("www.old.customer.example", "old.customer.example");
        for signed in [true, false] {
            let sets = vec![set(above, Rtype::DNAME, signed), set(alias, Rtype::CNAME, false)];
            assert_eq!(is_signed(sets), signed);
        }
        // One that stands elsewhere has made another alias.
        let sets = vec![set("other.example", Rtype::DNAME, true), set(alias, Rtype::CNAME, false)];
        assert!(!is_signed(sets));
        assert!(is_signed(vec![set(alias, Rtype::CNAME, true)]));
    }
}
