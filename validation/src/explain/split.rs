//! The splitting variable: what tells the perspectives that confirm from those that do not.
//!
//! The address used, the place asked from, the version of the zone, or the records served. Naming the
//! right one is the difference between a useful message and "secondary validation failed".

use std::net::IpAddr;

use super::{
    Blame, Cause, Kind, Retry, Seen, caa, dns, dnssec, http,
    text::{list, places, sentence},
    tls,
};
use crate::{
    check::Finding,
    observation::{
        ControlObservation, DnsFailure, DnsLookup, DnsOutcome, DnssecFault, Observation, RecordType, SecurityStatus,
    },
    problem::ProblemKind,
    verdict::{Answer, PerspectiveState},
};

/// A perspective that did not confirm, and why.
pub(super) struct Failing<'a> {
    pub(super) seen: &'a Seen<'a>,
    pub(super) cause: Cause,
}

/// What the split says.
pub(super) struct Split {
    pub(super) text: String,
    pub(super) blame: Blame,
    pub(super) retry: Retry,
}

/// Finds what splits `failing`, which failed in the same way, from the perspectives that confirm.
pub(super) fn split(failing: &[&Failing<'_>], seen: &[Seen<'_>]) -> Option<Split> {
    let first = &failing.first()?.cause;
    let confirming: Vec<&Seen<'_>> = seen.iter().filter(|s| confirms(s, first.kind)).collect();
    Some(match first.kind {
        Kind::Http => by_address(failing, &confirming).unwrap_or_else(|| by_source(failing, &confirming)),
        Kind::Txt => by_version(failing, &confirming),
        Kind::Caa if first.problem == ProblemKind::Caa => by_caa_set(failing, &confirming),
        Kind::Dns | Kind::Caa => by_reach(failing, &confirming),
        Kind::Ours => Split { text: in_groups(failing), blame: first.blame, retry: first.retry },
    })
}

fn confirms(seen: &Seen<'_>, kind: Kind) -> bool {
    let Answer::Determined(determination) = seen.answer else { return false };
    match kind {
        Kind::Http | Kind::Txt => determination.control == Some(Finding::Confirmed),
        Kind::Caa => determination.caa_permits() == Some(true),
        Kind::Dns | Kind::Ours => seen.answer.state() == PerspectiveState::Confirmed,
    }
}

/// One sentence for all that met the same, then what should be added, each once.
pub(super) fn in_groups(failing: &[&Failing<'_>]) -> String {
    let mut sentences: Vec<String> = Vec::new();
    let mut left: Vec<&Failing<'_>> = failing.to_vec();
    while let Some(first) = left.first().copied() {
        let (group, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|other| other.cause.same_as(&first.cause));
        sentences.push(format!("From {}: {}.", places(group.iter().map(|f| f.seen)), first.cause.clause()));
        left = rest;
    }
    sentences.extend(details(failing));
    sentences.join(" ")
}

/// What is bogus here and validly signed elsewhere is not the domain's to mend: somebody else's servers have answered
/// here. Who then changed the DS would take away just what refused the forger.
pub(super) fn contest(cause: &mut Cause, seen: &Seen<'_>, all: &[Seen<'_>]) {
    if !matches!(cause.kind, Kind::Dns | Kind::Caa) {
        return;
    }
    let Some((bogus, fault)) = seen.observation.and_then(|observation| bogus(observation).next()) else { return };
    let is_secure = |other: &&Seen<'_>| other.observation.is_some_and(|o| sees_secure(o, &bogus.name, bogus.rtype));
    let secure: Vec<&Seen<'_>> = all.iter().filter(is_secure).collect();
    if secure.is_empty() {
        return;
    }
    let advice = dnssec::advice(fault);
    cause.details.retain(|detail| Some(detail) != advice.as_ref());
    cause.details.insert(0, contested(&places(secure.iter().copied())));
    (cause.blame, cause.retry) = (Blame::Dns, Retry::Later);
}

/// What to do about what is validly signed as seen from `places`.
pub(crate) fn contested(places: &str) -> String {
    format!(
        "From {places} it is validly signed: leave the DS and the zone as they are. Servers or routes differ by place."
    )
}

/// The questions that a judgement may rest on whose answers are bogus as forged ones would be.
pub fn bogus_questions(observation: &Observation) -> impl Iterator<Item = (&str, RecordType)> {
    bogus(observation).map(|(lookup, _)| (lookup.name.as_str(), lookup.rtype))
}

/// The questions of some lookups that have a validly signed answer.
pub fn signed_questions<'a>(
    lookups: impl IntoIterator<Item = &'a DnsLookup>,
) -> impl Iterator<Item = (&'a str, RecordType)> {
    let is_secure =
        |lookup: &&DnsLookup| lookup.validation.as_ref().is_some_and(|v| v.status == SecurityStatus::Secure);
    lookups.into_iter().filter(is_secure).map(|lookup| (lookup.name.as_str(), lookup.rtype))
}

/// Whether an observation has a validly signed answer to a question.
pub(crate) fn sees_secure(observation: &Observation, name: &str, rtype: RecordType) -> bool {
    signed_questions(observation.lookups()).any(|question| question == (name, rtype))
}

/// Whether what has this fault may be somebody else's answer. An old signature is a server's own, and of a link that
/// could not be looked up nothing is known.
pub(crate) fn may_be_forged(fault: &DnssecFault) -> bool {
    use DnssecFault::{BadSignature, DenialUnproven, DsMatchesNoKey, NoSignature, NoSuchKey};
    matches!(
        fault,
        BadSignature { .. } | DenialUnproven { .. } | DsMatchesNoKey { .. } | NoSignature { .. } | NoSuchKey { .. }
    )
}

/// The lookups that a judgement may rest on whose replies somebody may have forged.
fn bogus(observation: &Observation) -> impl Iterator<Item = (&DnsLookup, &DnssecFault)> {
    observation.lookups().filter_map(|lookup| match &lookup.outcome {
        DnsOutcome::Failed(DnsFailure::Dnssec(fault)) if may_be_forged(fault) => Some((lookup, fault)),
        _ => None,
    })
}

fn details(failing: &[&Failing<'_>]) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for text in failing.iter().flat_map(|f| &f.cause.details) {
        if !texts.contains(text) {
            texts.push(text.clone());
        }
    }
    texts
}

fn address_used(seen: &Seen<'_>) -> Option<IpAddr> {
    let address = match seen.observation?.control.as_ref()? {
        ControlObservation::Http(fetch) => http::last_try(fetch)?.address,
        ControlObservation::Tls(probe) => tls::last_try(probe)?.address,
        ControlObservation::Record(_) | ControlObservation::Climb(_) => return None,
    };
    Some(address.ip())
}

/// The addresses of the host that decided.
fn addresses(seen: &Seen<'_>) -> Option<Vec<IpAddr>> {
    match seen.observation?.control.as_ref()? {
        ControlObservation::Http(fetch) => fetch.hops.last().map(http::addresses),
        ControlObservation::Tls(probe) => Some(tls::addresses(probe)),
        ControlObservation::Record(_) | ControlObservation::Climb(_) => None,
    }
}

/// What a server that does right serves, and what to do if only some do.
fn proof(seen: &Seen<'_>) -> (&'static str, &'static str) {
    match seen.observation.and_then(|o| o.control.as_ref()) {
        Some(ControlObservation::Tls(_)) => {
            ("the challenge certificate", "Let every host show the challenge certificate.")
        }
        Some(ControlObservation::Http(fetch)) if http::is_website_change(fetch) => {
            ("the random value", "Copy the file to every host or redirect it to one.")
        }
        _ => ("the token", "Copy the challenge to every host or redirect it to one."),
    }
}

/// Whether every perspective's DNS gave the same addresses for the host that decided.
fn same_addresses<'a>(seen: impl Iterator<Item = &'a Seen<'a>>) -> bool {
    let mut sets = seen.filter_map(addresses);
    let Some(first) = sets.next() else { return false };
    sets.all(|other| other == first)
}

/// No address both served the token and failed: the hosts differ (`cases.md` D15).
fn by_address(failing: &[&Failing<'_>], confirming: &[&Seen<'_>]) -> Option<Split> {
    let bad = failing.iter().map(|f| address_used(f.seen)).collect::<Option<Vec<_>>>()?;
    let good = confirming.iter().map(|s| address_used(s)).collect::<Option<Vec<_>>>()?;
    if good.is_empty() || bad.iter().any(|address| good.contains(address)) {
        return None;
    }
    let (what, advice) = proof(confirming.first()?);
    let mut parts = counted(&good)
        .into_iter()
        .map(|(address, count)| format!("{address} served {what} ({count} of {count})"))
        .collect::<Vec<_>>();
    for (address, count) in counted(&bad) {
        let did = failing
            .iter()
            .find(|f| address_used(f.seen) == Some(address))
            .map(|f| f.cause.did.as_str())
            .unwrap_or_default();
        parts.push(format!("{address} {did} ({count} of {count})"));
    }
    let head = if same_addresses(confirming.iter().copied().chain(failing.iter().map(|f| f.seen))) {
        "Results split by address, not by region"
    } else {
        "Results split by address, and DNS gives different addresses to different perspectives"
    };
    let text = format!("{head}: {}. {advice}", parts.join(", "));
    Some(Split { text, blame: Blame::Web, retry: Retry::Fix })
}

fn counted(addresses: &[IpAddr]) -> Vec<(IpAddr, usize)> {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into_iter().map(|address| (address, addresses.iter().filter(|a| **a == address).count())).collect()
}

/// The same address serves some and not others: something filters by source (`cases.md` D01, D03, D04).
fn by_source(failing: &[&Failing<'_>], confirming: &[&Seen<'_>]) -> Split {
    let first = &failing[0].cause;
    let mut sentences = Vec::new();
    let good: Vec<IpAddr> = confirming.iter().filter_map(|s| address_used(s)).collect();
    if !good.is_empty() {
        let addresses: Vec<String> = counted(&good).into_iter().map(|(address, _)| address.to_string()).collect();
        let (what, _) = proof(confirming[0]);
        sentences.push(format!("{} served {what} to {}.", list(&addresses), places(confirming.iter().copied())));
    }
    sentences.push(in_groups(failing));
    let mut blame = first.blame;
    let never_let_in = first.problem == ProblemKind::Connection && first.is_network;
    if !good.is_empty() && (never_let_in || blame == Blame::Filter) {
        blame = Blame::Filter;
        if same_addresses(confirming.iter().copied().chain(failing.iter().map(|f| f.seen))) {
            sentences.push("DNS was identical everywhere, so this looks like filtering by source location.".to_owned());
        }
    } else if failing.iter().any(|f| address_used(f.seen).is_some_and(|address| good.contains(&address))) {
        sentences.push(
            "The same address answers differently by place: the machines behind it differ, or a route leads elsewhere."
                .to_owned(),
        );
    }
    let retry = if blame == Blame::Filter { Retry::Fix } else { first.retry };
    Split { text: sentences.join(" "), blame, retry }
}

/// TXT seen by some only: versions of the zone, or servers that differ (`cases.md` D17).
fn by_version(failing: &[&Failing<'_>], confirming: &[&Seen<'_>]) -> Split {
    let serials = |seen: &Seen<'_>, zone: &str| -> Option<u32> {
        seen.observation.and_then(|o| dns::versions(o).find(|soa| soa.zone == zone).map(|soa| soa.serial))
    };
    let zone = failing.iter().filter_map(|f| f.seen.observation).find_map(dns::zone_of_txt);
    let Some(zone) = zone.filter(|_| !confirming.is_empty()) else {
        let first = &failing[0].cause;
        let (blame, retry) =
            if confirming.is_empty() { (first.blame, first.retry) } else { (Blame::Dns, Retry::Later) };
        return Split { text: side_by_side(failing, confirming), blame, retry };
    };
    let mut seen: Vec<(Option<u32>, bool, Vec<&Seen<'_>>)> = Vec::new();
    let all = confirming.iter().map(|s| (*s, true)).chain(failing.iter().map(|f| (f.seen, false)));
    for (s, has) in all {
        let serial = serials(s, &zone);
        match seen.iter_mut().find(|(other, had, _)| *other == serial && *had == has) {
            Some((.., group)) => group.push(s),
            None => seen.push((serial, has, vec![s])),
        }
    }
    let parts: Vec<String> = seen
        .iter()
        .map(|(serial, has, group)| {
            let version = serial.map_or("no serial seen".to_owned(), |serial| format!("serial {serial}"));
            format!("{version} ({}) {}", places(group.iter().copied()), if *has { "has the value" } else { "has not" })
        })
        .collect();
    let is_one_version = seen.iter().all(|(serial, ..)| serial.is_some() && *serial == seen[0].0);
    let what = if is_one_version { "answers for the same version of the zone" } else { "versions of the zone" };
    let text = format!(
        "The name servers of {zone} give different {what}: {}. Wait for the provider to finish and try again.",
        parts.join(", ")
    );
    Split { text, blame: Blame::Dns, retry: Retry::Later }
}

fn side_by_side(failing: &[&Failing<'_>], confirming: &[&Seen<'_>]) -> String {
    let mut text = in_groups(failing);
    if !confirming.is_empty() {
        text.push_str(&format!(
            " The value was seen from {}, so the name servers give different answers. Wait for the provider to finish and try again.",
            places(confirming.iter().copied())
        ));
    }
    text
}

/// Questions that are answered from some places only (`cases.md` D02).
fn by_reach(failing: &[&Failing<'_>], confirming: &[&Seen<'_>]) -> Split {
    let first = &failing[0].cause;
    let mut text = in_groups(failing);
    if confirming.is_empty() || first.blame != Blame::Dns {
        return Split { text, blame: first.blame, retry: first.retry };
    }
    text.push_str(&format!(
        " From {} the same questions were answered, so something seems to filter DNS by source location; let the name servers answer the whole Internet over UDP and TCP.",
        places(confirming.iter().copied())
    ));
    Split { text, blame: Blame::Filter, retry: Retry::Fix }
}

/// CAA forbids from some places only: the sets differ.
fn by_caa_set(failing: &[&Failing<'_>], confirming: &[&Seen<'_>]) -> Split {
    let first = &failing[0].cause;
    let mut text = in_groups(failing);
    if confirming.is_empty() {
        return Split { text, blame: first.blame, retry: first.retry };
    }
    let sets = confirming
        .iter()
        .filter_map(|s| s.observation)
        .map(|o| caa::set_in_words(o).unwrap_or_else(|| "no CAA".to_owned()));
    let mut sets: Vec<String> = sets.collect();
    sets.sort_unstable();
    sets.dedup();
    text.push_str(&format!(
        " CAA differs: from {} it permits ({}). The name servers must all give the same records.",
        places(confirming.iter().copied()),
        list(&sets)
    ));
    Split { text: sentence(&text), blame: Blame::Dns, retry: Retry::Later }
}
