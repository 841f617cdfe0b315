//! The perspectives themselves, and what their own lookups come to, which is what a check would see.

use std::collections::BTreeMap;

use super::{Code, Finding, Severity, reach::is_anybody_answered, view::Case};
use crate::{
    check::{LookupFailure, caa::CaaFinding},
    explain::{
        Blame, contested,
        dns::{hint_wildcard, met},
        dnssec::{self, advice},
        may_be_forged, sees_secure,
        text::list,
    },
    observation::{ControlObservation, DnsFailure, DnsLookup, DnsOutcome, Observation, Survey},
};

/// Who told nothing, or not what was asked.
pub(super) fn perspectives(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let places = |is: fn(Option<&Observation>) -> bool| -> Vec<usize> {
        case.views.iter().enumerate().filter(|(_, view)| is(view.observation)).map(|(place, _)| place).collect()
    };
    let silent = places(|observation| observation.is_none());
    if !silent.is_empty() {
        let text = format!(
            "Nothing came from {}: the node there is not running, or cannot be reached. It counts as not confirming.",
            case.perspectives(&silent)
        );
        findings.push(case.finding(Code::PerspectiveSilent, (Severity::MayBlock, Blame::Perspective), &silent, text));
    }
    let old = places(|observation| observation.is_some_and(|observation| observation.survey.is_none()));
    if !old.is_empty() {
        let text = format!(
            "No survey came from {} that can be used: the node there is of another version, which does not know surveys or \
             makes others. Update it; its own lookups count all the same.",
            case.perspectives(&old)
        );
        findings.push(case.finding(Code::PerspectiveOld, (Severity::Note, Blame::Perspective), &old, text));
    }
}

pub(super) fn findings(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    failures(case, would_fail, findings);
    wildcard(case, findings);
    incomplete(case, findings);
}

/// What became of a lookup that failed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Failed {
    what: String,
    how: String,
    advice: Option<String>,
    /// The servers answer the perspective itself.
    answered: bool,
    of: Of,
}

/// Where a failure lies by what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    /// What is published.
    Record,
    /// What servers answer here: elsewhere it is validly signed.
    Elsewhere,
    /// The perspective: its resolver cannot be reached, or it cannot ask.
    Us,
    /// That cannot be told from it.
    Unknown,
}

/// The perspective's own climb failed.
fn failures(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    let mut by_failure: BTreeMap<Failed, Vec<usize>> = BTreeMap::new();
    for (by, view) in case.views.iter().enumerate() {
        let answered = is_anybody_answered(view);
        let failed = match view.caa() {
            // Who reaches no server cannot have an answer.
            Some(CaaFinding::Failed(failure)) if !view.is_dark() => failed(case, failure, answered),
            _ => None,
        };
        if let Some(failed) = failed {
            by_failure.entry(failed).or_default().push(by);
        }
    }
    for (failed, by) in by_failure {
        let Failed { what, how, advice, answered, of } = failed;
        let mut text = format!("The lookup of {what} by the resolver of {} {how}.", case.perspectives(&by));
        if answered && of == Of::Unknown {
            text += " Asked directly, nameservers of the zone answer there: see what is said of them above, and the resolver.";
        }
        if let Some(advice) = advice {
            text += &format!(" {advice}");
        }
        let code = if answered { Code::ResolverFails } else { Code::LookupFails };
        let blame = match (of, answered) {
            (Of::Record, _) => Blame::Record,
            (Of::Elsewhere, _) => Blame::Dns,
            (Of::Us, _) | (Of::Unknown, true) => Blame::Perspective,
            (Of::Unknown, false) => Blame::Dns,
        };
        let severity = if would_fail { Severity::Blocks } else { Severity::MayBlock };
        findings.push(case.finding(code, (severity, blame), &by, text));
    }
}

fn failed(case: &Case<'_>, failure: &LookupFailure, answered: bool) -> Option<Failed> {
    let LookupFailure::Dns { name, rtype, failure } = failure else { return None };
    let fault = match failure {
        DnsFailure::Dnssec(fault) => Some(fault),
        _ => None,
    };
    let secure = case.places_where(|view| view.observation.is_some_and(|seen| sees_secure(seen, name, *rtype)));
    // Who then changed the DS would take away just what refused the forger.
    let is_contested = fault.is_some_and(may_be_forged) && !secure.is_empty();
    Some(Failed {
        what: format!("{rtype} of {name}"),
        how: fault.map_or_else(|| met(failure), dnssec::met),
        advice: match is_contested {
            true => Some(contested(&case.perspectives(&secure))),
            false => fault.and_then(advice),
        },
        answered,
        of: match failure {
            _ if is_contested => Of::Elsewhere,
            DnsFailure::Dnssec(_) => Of::Record,
            DnsFailure::ResolverUnreachable(_) | DnsFailure::Local(_) | DnsFailure::Tcp(_) => Of::Us,
            _ => Of::Unknown,
        },
    })
}

/// `cases.md` D22. One perspective asked for it.
fn wildcard(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for (by, view) in case.views.iter().enumerate() {
        let Some(observation) = view.observation else { continue };
        let Some(ControlObservation::Record(lookup)) = &observation.control else { continue };
        let Some(text) = first_alias(lookup).and_then(|alias| hint_wildcard(alias, &observation.hints)) else {
            continue;
        };
        let what = (Severity::MayBlock, Blame::Record);
        return findings.push(case.finding(Code::WildcardAnswersChallenge, what, &[by], text));
    }
}

fn first_alias(lookup: &DnsLookup) -> Option<&crate::observation::Alias> {
    match &lookup.outcome {
        DnsOutcome::Answer(set) => set.aliases.first(),
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => denial.aliases.first(),
        DnsOutcome::Failed(_) => None,
    }
}

fn incomplete(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let places = |is: fn(&Survey) -> bool| -> Vec<usize> {
        case.surveys().filter(|(_, survey)| is(survey)).map(|(by, _)| by).collect()
    };
    let (omitted, cut_off) = (places(|survey| survey.omitted > 0), places(|survey| survey.cut_off));
    let strays = case.places_where(|view| view.strays);
    let mut texts = Vec::new();
    if !omitted.is_empty() {
        texts.push("the zone has more nameservers or addresses than are asked".to_owned());
    }
    if !cut_off.is_empty() {
        texts.push(format!("the time ran out at {}", case.perspectives(&cut_off)));
    }
    let mut sentences = Vec::new();
    if !texts.is_empty() {
        sentences.push(format!("Not everything was asked: {}.", list(&texts)));
    }
    if !strays.is_empty() {
        sentences.push(format!(
            "{} found no zone, or another than most; what nameservers say there was not compared.",
            case.perspectives(&strays)
        ));
    }
    if sentences.is_empty() {
        return;
    }
    let by: Vec<usize> = (0..case.views.len())
        .filter(|by| [&omitted, &cut_off, &strays].into_iter().any(|places| places.contains(by)))
        .collect();
    let text = sentences.join(" ");
    findings.push(case.finding(Code::SurveyIncomplete, (Severity::Note, Blame::Perspective), &by, text));
}
