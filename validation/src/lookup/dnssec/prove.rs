//! Validating again from what an observation keeps (req B7): the same function, fed from the record instead of
//! the network, by the clock of the attempt.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Assessment, Reading,
    anchor::TrustAnchors,
    chain::{Chain, ChainSite, ZoneCache},
};
use crate::{
    base::limits::ADDRESSES_KEPT_MAX,
    lookup::dns::message::{Question, read_reply},
    observation::{DnsFailure, DnsLookup, DnsOutcome, Link, Validation},
};

/// What validating again came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The same status, from the same anchor, by the same signers, for the same records.
    Holds,
    /// Only a summary was kept.
    NotKept,
    /// Nobody validated at this perspective but its resolver, if anybody.
    NotMade,
    /// Nothing came that could be validated, and nothing was believed.
    NoAnswer,
    /// Something else, in words.
    Differs(String),
}

/// Validates a lookup again. `links` are those of its observation, `started` is when that began.
#[must_use]
pub fn prove(lookup: &DnsLookup, links: &[Link], anchors: &TrustAnchors, started: Timestamp) -> Proof {
    let failed = matches!(lookup.outcome, DnsOutcome::Failed(_));
    let Some(stored) = &lookup.validation else { return if failed { Proof::NoAnswer } else { Proof::NotMade } };
    if stored.message.is_none() && stored.links.is_empty() {
        return Proof::NotKept;
    }
    match again(lookup, stored, links, anchors, started) {
        Ok(found) => compare(stored, &found),
        Err(problem) => Proof::Differs(problem),
    }
}

/// The worst outcome of all lookups of one record counts, so every difference is told.
fn compare(stored: &Validation, found: &Validation) -> Proof {
    if stored.status != found.status {
        let why = found.fault.as_ref().map(|fault| format!(": it {}", crate::explain::dnssec::met(fault)));
        return Proof::Differs(format!(
            "recorded as {}, and what was kept makes it {}{}",
            stored.status,
            found.status,
            why.unwrap_or_default()
        ));
    }
    if (stored.anchor, &stored.signers, &stored.insecure) != (found.anchor, &found.signers, &found.insecure) {
        return Proof::Differs("the status holds, but by other signers or another denial than recorded".to_owned());
    }
    Proof::Holds
}

fn again(
    lookup: &DnsLookup,
    stored: &Validation,
    links: &[Link],
    anchors: &TrustAnchors,
    started: Timestamp,
) -> Result<Validation, String> {
    let outcome = claimed(lookup, stored)?;
    let packet = stored.message.as_ref().map_or_else(Arc::default, |message| Arc::clone(&message.0));
    let reading = Reading::new(lookup.name.clone(), lookup.rtype, outcome, packet);
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let mut site = ChainSite { anchors, now: started, kept: &mut kept };
    loop {
        match reading.assess(&mut chain, &mut site) {
            Assessment::Done(validation, _) => return Ok(*validation),
            Assessment::Need(questions) if questions.is_empty() => {
                return Err("a link of the chain is wanted that was not asked".to_owned());
            }
            Assessment::Need(questions) => {
                for question in questions {
                    let kept = links.iter().find(|link| link.name == question.name && link.rtype == question.rtype);
                    let missing = || DnsFailure::Local("not kept in the record".to_owned());
                    chain.answer(&question, kept.map(|link| Arc::clone(&link.message.0)).ok_or_else(missing));
                }
            }
        }
    }
}

/// Whether what was recorded is what the reply says. Of a huge set of addresses only some are recorded.
fn is_of(recorded: &DnsOutcome, said: &DnsOutcome) -> bool {
    let (DnsOutcome::Answer(some), DnsOutcome::Answer(all)) = (recorded, said) else { return recorded == said };
    let is_cut = some.rdata.len() == ADDRESSES_KEPT_MAX && all.rdata.len() > ADDRESSES_KEPT_MAX;
    let within = some.rdata.iter().all(|rdata| all.rdata.contains(rdata));
    let same_place = (&some.owner, some.ttl, &some.aliases) == (&all.owner, all.ttl, &all.aliases);
    recorded == said || (is_cut && within && same_place)
}

/// What the kept reply says, which must be what was recorded; a reply found bogus was recorded as a failure.
fn claimed(lookup: &DnsLookup, stored: &Validation) -> Result<DnsOutcome, String> {
    let Some(message) = &stored.message else {
        return match &lookup.outcome {
            failed @ DnsOutcome::Failed(_) => Ok(failed.clone()),
            DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => {
                Err("the reply was not kept".to_owned())
            }
        };
    };
    let question = Question::new(&lookup.name, lookup.rtype)?;
    let said = read_reply(&message.0, &question)?.outcome;
    match &lookup.outcome {
        DnsOutcome::Failed(DnsFailure::Dnssec(_)) => Ok(said),
        recorded if is_of(recorded, &said) => Ok(said),
        _ => Err("the reply that was kept says something else than was recorded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::octets::Octets, observation::RecordSet};

    fn addresses(count: u8) -> RecordSet {
        let rdata = (0..count).map(|n| Octets(vec![192, 0, 2, n])).collect();
        RecordSet { owner: "www.customer.example".to_owned(), ttl: 60, aliases: Vec::new(), rdata }
    }

    #[test]
    fn of_a_huge_set_of_addresses_what_was_kept_must_be_of_the_reply() {
        let all = DnsOutcome::Answer(addresses(40));
        let mut kept = addresses(40);
        kept.rdata.rotate_left(30);
        kept.rdata.truncate(ADDRESSES_KEPT_MAX);
        assert!(is_of(&DnsOutcome::Answer(kept.clone()), &all));
        kept.rdata[0] = Octets(vec![203, 0, 113, 1]);
        assert!(!is_of(&DnsOutcome::Answer(kept), &all), "an address that the reply does not have");
        let mut fewer = addresses(40);
        fewer.rdata.truncate(ADDRESSES_KEPT_MAX - 1);
        assert!(!is_of(&DnsOutcome::Answer(fewer), &all), "fewer than are kept");
        let few = addresses(3);
        assert!(!is_of(&DnsOutcome::Answer(addresses(2)), &DnsOutcome::Answer(few)), "a small set is kept whole");
    }
}
