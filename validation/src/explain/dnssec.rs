//! DNSSEC in words.

use super::{Blame, Retry, text::list};
use crate::observation::{DnsFailure, DnssecFault, InsecureBy, InsecureProof, SecurityStatus, Validation};

fn tags(tags: &[u16]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for tag in tags {
        let text = tag.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    list(&texts)
}

/// What is wrong with a reply, as a clause.
#[must_use]
pub fn met(fault: &DnssecFault) -> String {
    match fault {
        DnssecFault::NoSignature { owner, rtype, zone } => {
            format!("is bogus: the zone {zone} is signed, and {rtype} of {owner} has no signature by it")
        }
        DnssecFault::NoSuchKey { owner, rtype, zone, key_tag } => {
            format!("is bogus: {rtype} of {owner} is signed by key {key_tag}, which the zone {zone} does not have")
        }
        DnssecFault::Expired { owner, rtype, zone, at } => {
            format!("is bogus: the signature over {rtype} of {owner} (zone {zone}) expired {at}")
        }
        DnssecFault::NotYetValid { owner, rtype, zone, at } => {
            format!("is bogus: the signature over {rtype} of {owner} (zone {zone}) is valid from {at} only")
        }
        DnssecFault::BadSignature { owner, rtype, zone, key_tag } => {
            format!("is bogus: the signature over {rtype} of {owner} does not fit key {key_tag} of the zone {zone}")
        }
        DnssecFault::DsMatchesNoKey { zone, ds, keys } if zone == "." => format!(
            "cannot be validated: our resolver gives {} of the root, and none fits our trust anchors {}",
            if keys.is_empty() { "no key".to_owned() } else { format!("keys {}", tags(keys)) },
            tags(ds)
        ),
        DnssecFault::DsMatchesNoKey { zone, ds, keys } if keys.is_empty() => {
            format!("is bogus: the parent publishes DS {} for {zone}, and {zone} has no DNSKEY", tags(ds))
        }
        DnssecFault::DsMatchesNoKey { zone, ds, keys } => {
            format!(
                "is bogus: the parent publishes DS {} for {zone}, and no DNSKEY matches (seen: {})",
                tags(ds),
                tags(keys)
            )
        }
        DnssecFault::DenialUnproven { name, rtype: Some(rtype), zone } => {
            format!("is bogus: the zone {zone} is signed, and nothing signed shows that {name} has no {rtype}")
        }
        DnssecFault::DenialUnproven { name, rtype: None, zone } => {
            format!("is bogus: the zone {zone} is signed, and nothing signed shows that {name} does not exist")
        }
        DnssecFault::Nsec3Iterations { zone, iterations } => format!(
            "is taken as bogus: the zone {zone} asks for {iterations} rounds of NSEC3 hashing; we make {} at most",
            crate::base::limits::NSEC3_ITERATIONS_MAX
        ),
        DnssecFault::SignerIsNoZone { owner, signer } => {
            format!("is bogus: {owner} is signed in the name of {signer}, which is no zone above it")
        }
        DnssecFault::NotInReply { owner, rtype } => {
            format!("is bogus: the reply does not hold {rtype} of {owner} as it claims to")
        }
        DnssecFault::Unreadable { name, rtype, problem } => {
            format!("is bogus: the reply about {rtype} of {name} cannot be read ({problem})")
        }
        DnssecFault::TooMuchWork => {
            "is taken as bogus: checking its signatures would take more work than one check may".to_owned()
        }
        DnssecFault::LinkFailed { name, rtype, failure } => {
            format!(
                "cannot be validated: the lookup of {name} {rtype}, a link of its chain of trust, {}",
                super::dns::met(failure)
            )
        }
    }
}

/// What to do about it.
pub(crate) fn advice(fault: &DnssecFault) -> Option<String> {
    Some(match fault {
        DnssecFault::DsMatchesNoKey { zone, .. } if zone == "." => {
            "See whether the trust anchors are up to date, and whether the resolver passes on DNSSEC records."
                .to_owned()
        }
        DnssecFault::DsMatchesNoKey { keys, .. } => {
            let remove = if keys.is_empty() { "Remove" } else { "Remove or replace" };
            format!("{remove} the DS at the registrar.")
        }
        DnssecFault::Expired { zone, .. } => {
            format!("Sign the zone {zone} anew, or see why its transfer is stuck.")
        }
        DnssecFault::NotYetValid { .. } => "Check the clock of the signing server.".to_owned(),
        DnssecFault::Nsec3Iterations { .. } => "RFC 9276 wants none; sign the zone with 0.".to_owned(),
        DnssecFault::NoSignature { .. }
        | DnssecFault::NoSuchKey { .. }
        | DnssecFault::BadSignature { .. }
        | DnssecFault::DenialUnproven { .. } => {
            "Sign the zone anew, and see that all its servers have the same copy.".to_owned()
        }
        DnssecFault::SignerIsNoZone { .. }
        | DnssecFault::NotInReply { .. }
        | DnssecFault::Unreadable { .. }
        | DnssecFault::TooMuchWork
        | DnssecFault::LinkFailed { .. } => return None,
    })
}

/// The zone a fault lies in, if it names one.
fn zone(fault: &DnssecFault) -> Option<&str> {
    match fault {
        DnssecFault::NoSignature { zone, .. }
        | DnssecFault::NoSuchKey { zone, .. }
        | DnssecFault::Expired { zone, .. }
        | DnssecFault::NotYetValid { zone, .. }
        | DnssecFault::BadSignature { zone, .. }
        | DnssecFault::DsMatchesNoKey { zone, .. }
        | DnssecFault::DenialUnproven { zone, .. }
        | DnssecFault::Nsec3Iterations { zone, .. } => Some(zone),
        DnssecFault::LinkFailed { name, .. } => Some(name),
        DnssecFault::SignerIsNoZone { .. }
        | DnssecFault::NotInReply { .. }
        | DnssecFault::Unreadable { .. }
        | DnssecFault::TooMuchWork => None,
    }
}

/// Whose fault it is, and when to try again.
pub(super) fn fault(fault: &DnssecFault) -> (Blame, Retry) {
    let is_top_level = zone(fault).is_some_and(|zone| !zone.contains('.'));
    match fault {
        DnssecFault::LinkFailed { failure, .. } => match **failure {
            DnsFailure::ResolverUnreachable(_) | DnsFailure::Local(_) | DnsFailure::Tcp(_) => {
                (Blame::Perspective, Retry::Now)
            }
            _ if is_top_level => (Blame::Parent, Retry::Now),
            _ => (Blame::Dns, Retry::Later),
        },
        // The root's keys and our trust anchors, or our resolver, do not fit: nothing a subscriber could mend.
        _ if zone(fault) == Some(".") => (Blame::Perspective, Retry::Later),
        _ if is_top_level => (Blame::Parent, Retry::Now),
        _ => (Blame::Record, Retry::Fix),
    }
}

/// What is known about the signing of a name whose lookup failed.
pub(super) fn of_failed(validation: &Validation) -> Option<String> {
    match (validation.status, &validation.insecure, &validation.fault) {
        (SecurityStatus::Insecure, Some(proof), _) => Some(format!("{}.", capital(&insecure(proof)))),
        (SecurityStatus::Indeterminate, _, None) => validation
            .signers
            .last()
            .map(|zone| format!("The zone {zone} is signed, so the failure can never be permission.")),
        _ => None,
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Where signing ends, and what proves it.
#[must_use]
pub fn insecure(proof: &InsecureProof) -> String {
    let InsecureProof { name, parent, by } = proof;
    match by {
        InsecureBy::Nsec { owner } => format!("{name} is not signed: NSEC of {owner} in the zone {parent} has no DS"),
        InsecureBy::Nsec3 { owner, .. } => format!("{name} is not signed: NSEC3 {owner} has no DS"),
        InsecureBy::OptOut { owner, next } => {
            format!("{name} is not signed: it lies in the opt-out span {owner} to {next} of the zone {parent}")
        }
        InsecureBy::Unsupported { algorithms, digests } => format!(
            "{name} is signed with what nobody here can check (algorithms {algorithms:?}, digests {digests:?}), \
             and is taken as unsigned"
        ),
    }
}

/// That a second question to the resolver was needed (`cases.md` D34).
pub(super) fn warning(validation: &Validation) -> Option<String> {
    let first = validation.first_fault.as_ref()?;
    let good = matches!(validation.status, SecurityStatus::Secure | SecurityStatus::Insecure);
    good.then(|| {
        format!(
            "The first answer {}; another server of the zone gave a good one. Its servers do not agree.",
            met(first)
        )
    })
}
