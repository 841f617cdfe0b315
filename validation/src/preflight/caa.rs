//! CAA: what the servers answer (`cases.md` D24 to D26, D33), whether they agree, and what it means for this CA.

use std::collections::BTreeMap;

use super::{
    Code, Finding, Severity,
    data::{Split, of_split, split, whereabouts},
    view::{Case, Look},
};
use crate::{
    check::caa::{
        CaaFinding,
        authorize::{CaaDecision, CaaRule},
        property::{escape, parse_rdata},
    },
    explain::{Blame, dns::rcode_name},
    observation::{RecordType, ServerOutcome, SurveyedSet},
};

/// Records of a set that a sentence shows; of more the number is said.
const SHOWN_MAX: usize = 4;
/// Digits of a digest that a sentence shows.
const DIGEST_SHOWN: usize = 8;

pub(super) fn findings(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    not_answered(case, findings);
    bare(case, findings);
    differs(case, findings);
    meaning(case, would_fail, findings);
}

/// Why there is no answer to CAA from a server that answers SOA.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lacks {
    Rcode(u16),
    Silent,
    Unreadable,
}

fn not_answered(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| match look.seen.caa.as_ref()?.answer.last() {
        ServerOutcome::Rcode(code) => Some(Lacks::Rcode(*code)),
        ServerOutcome::Silent | ServerOutcome::Network(_) => {
            // An answer that is cut and cannot be had over TCP is told of there.
            let cut = look.seen.caa.as_ref()?.answer.outcome == ServerOutcome::Truncated;
            (!cut).then_some(Lacks::Silent)
        }
        ServerOutcome::Unreadable => Some(Lacks::Unreadable),
        _ => None,
    });
    for group in groups {
        let (names, from) = (group.names(), case.seen_from(&group));
        let (blame, text) = match &group.shows {
            Lacks::Rcode(code) => (
                Blame::Dns,
                format!(
                    "{names} {} {} to CAA (type 257){from}. {} should answer NOERROR with an empty answer.",
                    group.verb("answers", "answer"),
                    rcode_name(*code),
                    group.verb("It", "They")
                ),
            ),
            Lacks::Silent => (
                Blame::Filter,
                format!(
                    "{names} {} SOA but never CAA{from}. A firewall in front of {} is probably discarding query types it does \
                     not know.",
                    group.verb("answers", "answer"),
                    group.verb("it", "them")
                ),
            ),
            Lacks::Unreadable => (
                Blame::Dns,
                format!("{names} {} to CAA with a message that cannot be read{from}.", group.verb("replies", "reply")),
            ),
        };
        // Where a failure counts as permission, none of them blocks.
        let is_excused = |by: &usize| matches!(case.views[*by].caa(), Some(CaaFinding::Excused { .. }));
        let severity = match group.by.iter().filter(|by| case.counts(**by)).all(is_excused) {
            true => Severity::MayBlock,
            false => group.severity(case, Severity::Blocks, Severity::MayBlock),
        };
        findings.push(case.about(Code::CaaNotAnswered, (severity, blame), &group, text));
    }
}

/// `cases.md` D26.
fn bare(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        let answer = &look.seen.caa.as_ref()?.answer;
        let denies = matches!(answer.last(), ServerOutcome::Nodata | ServerOutcome::Nxdomain);
        (denies && !answer.authoritative && !answer.soa).then_some(())
    });
    for group in groups {
        let text = format!(
            "{} {} to CAA without the authoritative flag and without SOA{}; resolvers may reject that.",
            group.names(),
            group.verb("answers", "answer"),
            case.seen_from(&group)
        );
        findings.push(case.about(Code::CaaDenialBare, (Severity::MayBlock, Blame::Dns), &group, text));
    }
}

/// The CAA records of the name at a server, as a text; `none` is one too.
fn published(look: &Look<'_>) -> Option<String> {
    let caa = look.seen.caa.as_ref()?;
    match caa.answer.last() {
        ServerOutcome::Records => Some(shown(look.survey.set_of(caa)?)),
        ServerOutcome::Nodata | ServerOutcome::Nxdomain if caa.answer.authoritative => Some("none".to_owned()),
        _ => None,
    }
}

fn differs(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let found: Split<String> = split(case, published);
    if found.len() < 2 {
        return;
    }
    let texts: Vec<String> = found.keys().map(|key| format!("{key} at {}", whereabouts(case, &found, key))).collect();
    let text = format!(
        "The nameservers do not hold the same CAA records of {}: {}. A check obeys whichever it is given: wait until all have \
         the newest, or mend the zone transfer.",
        case.name,
        texts.join("; ")
    );
    findings.push(of_split(case, (Code::CaaDiffers, Severity::MayBlock, Blame::Dns), &found, text));
}

/// `0 issue "ca.example"` and so on; sets that differ have texts that differ.
fn shown(set: &SurveyedSet) -> String {
    if set.rtype == RecordType::Cname.number() {
        return "an alias".to_owned();
    }
    let record = |rdata: &[u8]| match parse_rdata(rdata) {
        Ok(property) => format!("{} {} \"{}\"", property.flags, property.tag, escape(&property.value)),
        Err(_) => format!("\"{}\"", escape(rdata)),
    };
    let mut texts: Vec<String> = set.records.iter().take(SHOWN_MAX).map(|rdata| record(rdata.as_slice())).collect();
    if set.count as usize > texts.len() {
        texts.push(format!("{} more (digest {})", set.count as usize - texts.len(), short(&set.digest)));
    }
    texts.join(", ")
}

/// So much of a digest as tells two apart.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..DIGEST_SHOWN).unwrap_or(digest)
}

/// What the climb of each perspective means.
fn meaning(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    let mut by_meaning: BTreeMap<(Severity, Code, String), Vec<usize>> = BTreeMap::new();
    for (by, view) in case.views.iter().enumerate() {
        if let Some(meaning) = view.caa().and_then(|finding| told(case, finding)) {
            by_meaning.entry(meaning).or_default().push(by);
        }
    }
    let is_split = by_meaning.len() > 1;
    for ((severity, code, text), by) in by_meaning {
        let from = if is_split { format!(" So it is seen from {}.", case.perspectives(&by)) } else { String::new() };
        // Too few may forbid to fail a check.
        let severity = if would_fail { severity } else { severity.max(Severity::MayBlock) };
        findings.push(case.finding(code, (severity, Blame::Policy), &by, format!("{text}{from}")));
    }
}

fn told(case: &Case<'_>, finding: &CaaFinding) -> Option<(Severity, Code, String)> {
    match finding {
        CaaFinding::NoSet => {
            let text = format!("No CAA record stands at {} or above: any CA may issue.", case.name);
            Some((Severity::Note, Code::CaaNone, text))
        }
        CaaFinding::Decided { level, decision, .. } => Some(decided(case, level, decision)),
        CaaFinding::Excused { others, .. } => told(case, others),
        CaaFinding::Failed(_) => None,
    }
}

fn decided(case: &Case<'_>, level: &str, decision: &CaaDecision) -> (Severity, Code, String) {
    let inherited = if level == case.name { String::new() } else { format!(" (inherited by {})", case.name) };
    let head = format!("CAA at {level}{inherited}: {}", decision.rule);
    let advice = format!("Add this CA there, or publish a CAA record at {} that names it.", case.name);
    match &decision.rule {
        rule if rule.permits() => (Severity::Note, Code::CaaPermits, head),
        CaaRule::NotAuthorized { names_this_ca: true, .. } => (
            Severity::MayBlock,
            Code::CaaBinds,
            format!(
                "CAA at {level}{inherited} names this CA for certain accounts or methods only; a preflight is by none, so a \
                 check by another account or method is refused."
            ),
        ),
        _ => (Severity::Blocks, Code::CaaForbids, format!("{head} {advice}")),
    }
}
