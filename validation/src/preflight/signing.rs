//! DNSSEC as the servers give it: DS beside DNSKEY, signatures that are missing or over (`cases.md` D34, D35).
//!
//! What the perspectives' own validation says is in their lookups; here is which server is at fault. A zone without DS is
//! not signed to anybody, and nothing is said about it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Code, Finding, Severity,
    view::{Case, Look},
};
use crate::{
    explain::{Blame, contested, text::list},
    lookup::dnssec::{
        set::owner_of,
        signature::{Ds, key_tag},
    },
    observation::{Observation, RecordType, SecurityStatus, ServerOutcome, Validation},
};

pub(super) fn findings(case: &Case<'_>, findings: &mut Vec<Finding>) {
    keys(case, findings);
    missing(case, findings);
    expired(case, findings);
}

/// The DS records that can be checked here, as one perspective was given them.
fn signers(look: &Look<'_>) -> Vec<Ds> {
    let parent = look.survey.parent.as_ref().and_then(|parent| parent.ds.as_ref());
    parent.into_iter().flatten().filter_map(|rdata| Ds::parse(rdata.as_slice())).filter(Ds::is_supported).collect()
}

/// Tags of DS that fit no key of a server, and of its keys.
fn unmatched(look: &Look<'_>) -> Option<(Vec<u16>, Vec<u16>)> {
    let signers = signers(look);
    let answer = look.seen.keys.as_ref().filter(|_| !signers.is_empty())?;
    let zone = owner_of(look.survey.zone.as_deref()?)?;
    let keys = match answer.answer.last() {
        ServerOutcome::Records => {
            let set = look.survey.set_of(answer)?;
            // Of keys that were not kept it is not known whether they fit.
            if set.rtype == RecordType::Dnskey.number() && !set.is_whole() {
                return None;
            }
            set.records.as_slice()
        }
        ServerOutcome::Nodata | ServerOutcome::Nxdomain => &[],
        _ => return None,
    };
    let fits = signers.iter().any(|signer| keys.iter().any(|key| signer.stands_for(&zone, key.as_slice())));
    let distinct = |tags: BTreeSet<u16>| tags.into_iter().collect();
    (!fits).then(|| {
        let ds = signers.iter().map(|signer| signer.key_tag).collect();
        (distinct(ds), distinct(keys.iter().filter_map(|key| key_tag(key.as_slice())).collect()))
    })
}

/// `cases.md` D35.
fn keys(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let zone = case.zone();
    for group in case.grouped(unmatched) {
        let (ds, keys) = &group.shows;
        let tags = |tags: &[u16]| list(&tags.iter().map(ToString::to_string).collect::<Vec<_>>());
        let seen = match keys.as_slice() {
            [] => "no DNSKEY".to_owned(),
            keys => format!("DNSKEY {}, none of which fits", tags(keys)),
        };
        let secure = case.places_where(|view| view.observation.is_some_and(|seen| is_secure_zone(seen, zone)));
        // One perspective may be given somebody else's answers. Who removed the DS then would help whoever gives them.
        let is_sure = group.by.iter().filter(|by| case.counts(**by)).count() > 1 && secure.is_empty();
        let severity = match is_sure {
            true => group.severity(case, Severity::Blocks, Severity::MayBlock),
            false => Severity::MayBlock,
        };
        let advice = match severity {
            _ if !secure.is_empty() => contested(&case.perspectives(&secure)),
            Severity::Blocks if keys.is_empty() => "Remove the DS at the registrar.".to_owned(),
            Severity::Blocks => "Remove or replace the DS at the registrar.".to_owned(),
            _ => "See that all nameservers have the same copy.".to_owned(),
        };
        let blame = if severity == Severity::Blocks { Blame::Record } else { Blame::Dns };
        let text = format!(
            "The zone above publishes DS {} for {zone}, and {} {} {seen}{}. {advice}",
            tags(ds),
            group.names(),
            group.verb("has", "have"),
            case.seen_from(&group)
        );
        findings.push(case.about(Code::DsMatchesNoKey, (severity, blame), &group, text));
    }
}

/// Whether a lookup found something validly signed by the zone.
fn is_secure_zone(seen: &Observation, zone: &str) -> bool {
    let signed = |validation: &Validation| {
        validation.status == SecurityStatus::Secure && validation.signers.iter().any(|signer| signer == zone)
    };
    seen.lookups().filter_map(|lookup| lookup.validation.as_deref()).any(signed)
}

fn missing(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        // Without any key the zone is not signed there, which is told already.
        let is_told = unmatched(look).is_some_and(|(_, keys)| keys.is_empty());
        if signers(look).is_empty() || is_told {
            return None;
        }
        let parts = [("SOA", &look.seen.version), ("CAA", &look.seen.caa), ("TXT", &look.seen.txt)];
        let unsigned: Vec<&str> = parts
            .into_iter()
            .filter(|(_, part)| {
                part.as_ref().is_some_and(|answer| {
                    let says = matches!(
                        answer.answer.last(),
                        ServerOutcome::Records | ServerOutcome::Nodata | ServerOutcome::Nxdomain
                    );
                    says && !answer.signed
                })
            })
            .map(|(rtype, _)| rtype)
            .collect();
        // The challenge name may be a zone of its own on the same servers, and such a zone need not be signed.
        unsigned.iter().any(|rtype| *rtype != "TXT").then_some(unsigned)
    });
    for group in groups {
        let types: Vec<String> = group.shows.iter().map(|rtype| (*rtype).to_owned()).collect();
        let text = format!(
            "The zone {} is signed by the word of the zone above, and {} {} to {} without signatures{}. Sign the zone anew, \
             and see that all its servers have the same copy.",
            case.zone(),
            group.names(),
            group.verb("answers", "answer"),
            list(&types),
            case.seen_from(&group)
        );
        let severity = group.severity(case, Severity::Blocks, Severity::MayBlock);
        findings.push(case.about(Code::SignaturesMissing, (severity, Blame::Dns), &group, text));
    }
}

/// `cases.md` D34.
fn expired(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        if signers(look).is_empty() {
            return None;
        }
        let parts = [
            ("SOA", &look.seen.version),
            ("CAA", &look.seen.caa),
            ("TXT", &look.seen.txt),
            ("DNSKEY", &look.seen.keys),
        ];
        let over: Vec<(&str, Timestamp)> =
            parts.into_iter().filter_map(|(rtype, part)| Some((rtype, part.as_ref()?.signatures_expired?))).collect();
        let first = over.iter().map(|(_, at)| *at).min()?;
        Some((over.into_iter().map(|(rtype, _)| rtype).collect::<Vec<_>>(), first))
    });
    for group in groups {
        let (types, first) = &group.shows;
        let types: Vec<String> = types.iter().map(|rtype| (*rtype).to_owned()).collect();
        let severity = group.severity(case, Severity::Blocks, Severity::MayBlock);
        let advice = match severity {
            Severity::Blocks => format!("Sign the zone {} anew.", case.zone()),
            _ => format!("{} zone transfer seems stuck.", group.verb("Its", "Their")),
        };
        let text = format!(
            "Signatures from {} over {} expired {first}{}. {advice}",
            group.names(),
            list(&types),
            case.seen_from(&group)
        );
        findings.push(case.about(Code::SignaturesExpired, (severity, Blame::Dns), &group, text));
    }
}
