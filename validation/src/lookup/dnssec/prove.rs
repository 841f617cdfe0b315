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
        recorded if *recorded == said => Ok(said),
        _ => Err("the reply that was kept says something else than was recorded".to_owned()),
    }
}
