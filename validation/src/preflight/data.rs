//! Whether the servers hold the same data: versions of the zone, and the challenge name (`cases.md` D17).

use std::collections::BTreeMap;

use super::{
    Code, Finding, ServerAt, Severity,
    caa::short,
    view::{Case, Look, names},
};
use crate::{
    explain::{Blame, dns::rcode_name, text::SHOWN_BYTES},
    lookup::dnssec::set::{target_of, text_of},
    observation::{RecordType, ServerOutcome, SurveyAnswer},
};

/// A record at a challenge name that is remembered for longer than this, seconds, may hide its successor.
const CHALLENGE_TTL_SECONDS_MAX: u32 = 300;
/// A denial that is remembered for longer than this, seconds, may hide a record that was published since.
const NEGATIVE_TTL_SECONDS_MAX: u32 = 900;

pub(super) fn findings(case: &Case<'_>, findings: &mut Vec<Finding>) {
    serials(case, findings);
    challenge(case, findings);
    challenge_not_answered(case, findings);
    challenge_elsewhere(case, findings);
    times(case, findings);
}

/// Who saw something, by what they saw: perspectives by server.
pub(super) type Split<K> = BTreeMap<K, BTreeMap<ServerAt, Vec<usize>>>;

/// Sorts all looks by what they show.
pub(super) fn split<K: Ord>(case: &Case<'_>, shows: impl Fn(&Look<'_>) -> Option<K>) -> Split<K> {
    let mut split: Split<K> = BTreeMap::new();
    for place in case.places() {
        for look in &place.looks {
            if let Some(key) = shows(look) {
                split.entry(key).or_default().entry(place.at.clone()).or_default().push(look.by);
            }
        }
    }
    split
}

/// Where something was seen: servers, and perspectives where one server shows several things.
pub(super) fn whereabouts<K: Ord>(case: &Case<'_>, split: &Split<K>, key: &K) -> String {
    let Some(here) = split.get(key) else { return String::new() };
    let has_several = |at: &ServerAt| split.values().filter(|servers| servers.contains_key(at)).count() > 1;
    let (mixed, plain): (Vec<&ServerAt>, Vec<&ServerAt>) = here.keys().partition(|at| has_several(at));
    let plain: Vec<ServerAt> = plain.into_iter().cloned().collect();
    let mut texts = Vec::new();
    if !plain.is_empty() {
        texts.push(names(&plain));
    }
    for at in mixed {
        let by = here.get(at).map(Vec::as_slice).unwrap_or_default();
        texts.push(format!("{} as {} {} it", names(std::slice::from_ref(at)), case.perspectives(by), sees(by)));
    }
    texts.join(" and ")
}

fn sees(by: &[usize]) -> &'static str {
    if by.len() == 1 { "sees" } else { "see" }
}

/// Everything a split is about.
pub(super) fn of_split<K: Ord>(
    case: &Case<'_>,
    (code, severity, blame): (Code, Severity, Blame),
    split: &Split<K>,
    text: String,
) -> Finding {
    let mut by: Vec<usize> = split.values().flat_map(BTreeMap::values).flatten().copied().collect();
    by.sort_unstable();
    by.dedup();
    let mut servers: Vec<ServerAt> = split.values().flat_map(BTreeMap::keys).cloned().collect();
    servers.sort();
    servers.dedup();
    // Those on trial make no difference.
    let counting = split.values().filter(|servers| servers.values().flatten().any(|by| case.counts(*by))).count();
    let severity = if counting > 1 { severity } else { Severity::Note };
    Finding { servers, ..case.finding(code, (severity, blame), &by, text) }
}

/// `cases.md` D17.
fn serials(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let by_serial = split(case, |look| look.seen.soa().filter(|soa| soa.answer.authoritative)?.serial);
    if by_serial.len() < 2 {
        return;
    }
    let texts: Vec<String> = by_serial
        .keys()
        .map(|serial| format!("serial {serial} at {}{}", whereabouts(case, &by_serial, serial), nsids(case, *serial)))
        .collect();
    let text = format!(
        "The nameservers of {} hold different versions of the zone: {}. Wait until all have the newest, or mend the zone \
         transfer.",
        case.zone(),
        texts.join("; ")
    );
    findings.push(of_split(case, (Code::SerialsDiffer, Severity::MayBlock, Blame::Dns), &by_serial, text));
}

/// Who of several machines holds a version, by their own word.
fn nsids(case: &Case<'_>, serial: u32) -> String {
    let mut texts: Vec<String> = Vec::new();
    for look in case.places().iter().flat_map(|place| &place.looks) {
        let holds = look.seen.soa().and_then(|soa| soa.serial) == Some(serial);
        let nsid = look.seen.nsid.as_ref().filter(|_| holds).map(|nsid| nsid.shown(SHOWN_BYTES));
        texts.extend(nsid.filter(|nsid| !texts.contains(nsid)));
    }
    if texts.is_empty() { String::new() } else { format!(" (NSID {})", texts.join(", ")) }
}

/// What stands at the challenge name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Stands {
    /// So many records, by their digest.
    Records(u32, String),
    /// None.
    Nothing,
}

fn stands(look: &Look<'_>) -> Option<Stands> {
    let txt = look.seen.txt.as_ref()?;
    match txt.answer.last() {
        ServerOutcome::Records => {
            let set = look.survey.set_of(txt)?;
            Some(Stands::Records(set.count, set.digest.clone()))
        }
        ServerOutcome::Nodata | ServerOutcome::Nxdomain if txt.answer.authoritative => Some(Stands::Nothing),
        _ => None,
    }
}

fn challenge(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let found = split(case, stands);
    let name = &case.challenge;
    let missing = found.contains_key(&Stands::Nothing);
    match (found.len(), missing) {
        (0, _) | (1, false) => {}
        (1, true) => {
            let text = format!(
                "There is no TXT record at {name} yet, at any nameserver. A check by a dns method needs one; others do not."
            );
            findings.push(of_split(case, (Code::ChallengeMissing, Severity::Note, Blame::Record), &found, text));
        }
        (_, missing) => {
            let texts: Vec<String> = found.keys().map(|key| told(case, &found, key)).collect();
            let code = if missing { Code::ChallengeMissingAtSome } else { Code::ChallengeDiffers };
            let text = format!(
                "The nameservers do not hold the same at {name}: {}. A check sees one or the other: wait until all have the \
                 newest, or mend the zone transfer.",
                texts.join("; ")
            );
            findings.push(of_split(case, (code, Severity::MayBlock, Blame::Dns), &found, text));
        }
    }
}

/// What stands, and where; never a value.
fn told(case: &Case<'_>, found: &Split<Stands>, key: &Stands) -> String {
    let place = whereabouts(case, found, key);
    match key {
        Stands::Nothing => format!("nothing at {place}"),
        Stands::Records(count, digest) => {
            let records = if *count == 1 { "record" } else { "records" };
            let alike = found.keys().filter(|other| matches!(other, Stands::Records(n, _) if n == count)).count();
            // Two sets of one number are told apart by what is no value.
            let which = if alike > 1 { format!(" (digest {})", short(digest)) } else { String::new() };
            format!("{count} {records}{which} at {place}")
        }
    }
}

fn challenge_not_answered(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| match look.seen.txt.as_ref()?.answer.last() {
        ServerOutcome::Rcode(code) => Some(Some(*code)),
        // An answer that is cut and cannot be had over TCP is told of there.
        ServerOutcome::Silent if look.seen.txt.as_ref()?.answer.outcome != ServerOutcome::Truncated => Some(None),
        _ => None,
    });
    for group in groups {
        let (names, from) = (group.names(), case.seen_from(&group));
        let text = match group.shows {
            Some(code) => format!(
                "{names} {} {} to TXT of {}{from}. It should answer NOERROR or NXDOMAIN.",
                group.verb("answers", "answer"),
                rcode_name(code),
                case.challenge
            ),
            None => format!(
                "{names} {} SOA but never TXT of {}{from}. A firewall in front of {} is probably discarding such queries.",
                group.verb("answers", "answer"),
                case.challenge,
                group.verb("it", "them")
            ),
        };
        let blame = if group.shows.is_some() { Blame::Dns } else { Blame::Filter };
        findings.push(case.about(Code::ChallengeNotAnswered, (Severity::MayBlock, blame), &group, text));
    }
}

/// The record may stand elsewhere, by an alias or in a zone below.
fn challenge_elsewhere(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let aliases = case.grouped(|look| {
        let set = look.survey.set_of(look.seen.txt.as_ref()?)?;
        let is_alias = set.rtype == RecordType::Cname.number();
        is_alias.then(|| set.records.first().and_then(|rdata| target_of(rdata.as_slice())).map(|name| text_of(&name)))
    });
    for group in aliases {
        let target = group.shows.clone().unwrap_or_else(|| "a name that cannot be read".to_owned());
        let text = format!(
            "{} is an alias for {target} at {}: the TXT record is looked for there, and the nameservers of that name were not \
             compared.",
            case.challenge,
            group.names()
        );
        findings.push(case.about(Code::ChallengeIsAlias, (Severity::Note, Blame::Record), &group, text));
    }
    let zones = case.grouped(|look| match look.seen.txt.as_ref()?.answer.last() {
        ServerOutcome::Referral(zone) if zone.len() > case.zone().len() => Some(zone.clone()),
        _ => None,
    });
    for group in zones {
        let text = format!(
            "{} lies in the zone {}, which {} to other nameservers; these were not compared.",
            case.challenge,
            group.shows,
            if group.servers.len() == 1 { "its parent's server refers" } else { "its parent's servers refer" }
        );
        findings.push(case.about(Code::ChallengeDelegated, (Severity::Note, Blame::Record), &group, text));
    }
}

fn times(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let long = case.grouped(|look| look.seen.txt.as_ref()?.ttl.filter(|ttl| *ttl > CHALLENGE_TTL_SECONDS_MAX));
    for group in long {
        let text = format!(
            "What stands at {} may be remembered for {} s, by the word of {}: a resolver that asked before keeps showing the \
             old value that long. {CHALLENGE_TTL_SECONDS_MAX} s or less is better for a challenge.",
            case.challenge,
            group.shows,
            group.names()
        );
        findings.push(case.about(Code::ChallengeTtlLong, (Severity::Note, Blame::Record), &group, text));
    }
    let denied =
        |answer: &SurveyAnswer| matches!(answer.answer.last(), ServerOutcome::Nodata | ServerOutcome::Nxdomain);
    let negative = case.grouped(|look| {
        let txt = look.seen.txt.as_ref().filter(|txt| denied(txt))?;
        txt.negative_ttl.filter(|ttl| *ttl > NEGATIVE_TTL_SECONDS_MAX)
    });
    for group in negative {
        let text = format!(
            "That {} has no TXT may be remembered for {} s, by the SOA of {}. Publish the record before a check is asked for, \
             or lower the SOA's minimum.",
            case.challenge,
            group.shows,
            group.names()
        );
        findings.push(case.about(Code::NegativeTtlLong, (Severity::Note, Blame::Record), &group, text));
    }
}
