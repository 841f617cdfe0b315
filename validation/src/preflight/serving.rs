//! How servers serve: whether they serve the zone at all, EDNS, the case of names, recursion (`cases.md` D23).

use super::{Code, Finding, Severity, view::Case};
use crate::{
    explain::{Blame, dns::rcode_name},
    observation::{MixedCase, ServerOutcome, SurveyedAddress},
};

/// Why a server is lame.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Lame {
    Rcode(u16),
    Refers(String),
    NotAuthoritative,
    Denies,
    Unreadable,
}

pub(super) fn findings(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    lame(case, would_fail, findings);
    edns(case, findings);
    mixed_case(case, findings);
    recursion(case, findings);
}

fn lame(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    let zone = case.zone();
    for group in case.grouped(|look| lameness(look.seen)) {
        let (names, from) = (group.names(), case.seen_from(&group));
        let what = match &group.shows {
            Lame::Rcode(2) => format!(
                "{names} {} SERVFAIL for {zone}{from}. The zone is probably not loaded there, or its copy has run out.",
                group.verb("answers", "answer")
            ),
            Lame::Rcode(code) => format!(
                "{names} {} {} for {zone}{from}. Serve the zone there, or correct the delegation at the registrar.",
                group.verb("answers", "answer"),
                rcode_name(*code)
            ),
            Lame::Refers(elsewhere) => format!(
                "{names} {} to the nameservers of {}{from} in place of an answer: {zone} is not served there. Serve it, or \
                 correct the delegation at the registrar.",
                group.verb("refers", "refer"),
                if elsewhere == "." { "the root" } else { elsewhere }
            ),
            Lame::NotAuthoritative => format!(
                "{names} {} for {zone} without the authoritative flag{from}: {} a copy from elsewhere. Have {} serve the zone \
                 itself.",
                group.verb("answers", "answer"),
                group.verb("it gives", "they give"),
                group.verb("it", "them"),
            ),
            Lame::Denies => format!(
                "{names} {} no SOA for {zone}{from}: the zone is not served there. Serve it, or correct the delegation at the \
                 registrar.",
                group.verb("has", "have")
            ),
            Lame::Unreadable => format!(
                "{names} {} for {zone} with what cannot be read{from}. Mend or replace the software there.",
                group.verb("answers", "answer")
            ),
        };
        let if_all = if would_fail { Severity::Blocks } else { Severity::MayBlock };
        let severity = group.severity(case, if_all, Severity::MayBlock);
        findings.push(case.about(Code::LameServer, (severity, Blame::Dns), &group, what));
    }
}

fn lameness(seen: &SurveyedAddress) -> Option<Lame> {
    let soa = seen.soa()?;
    match &soa.answer.outcome {
        ServerOutcome::Rcode(code) => Some(Lame::Rcode(*code)),
        ServerOutcome::Referral(zone) => Some(Lame::Refers(zone.clone())),
        ServerOutcome::Records if soa.set.is_none() => Some(Lame::Denies),
        ServerOutcome::Records if !soa.answer.authoritative => Some(Lame::NotAuthoritative),
        ServerOutcome::Nodata | ServerOutcome::Nxdomain => Some(Lame::Denies),
        ServerOutcome::Unreadable => Some(Lame::Unreadable),
        ServerOutcome::Records | ServerOutcome::Truncated | ServerOutcome::Silent | ServerOutcome::Network(_) => None,
    }
}

/// How a server meets EDNS.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Edns {
    Dropped,
    Refused(u16),
    Ignored,
}

fn edns(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        let with = &look.seen.version.as_ref()?.answer.outcome;
        let without = look.seen.without_edns.as_ref().is_some_and(|a| a.answer.outcome == ServerOutcome::Records);
        match with {
            ServerOutcome::Silent | ServerOutcome::Network(_) | ServerOutcome::Unreadable if without => {
                Some(Edns::Dropped)
            }
            ServerOutcome::Rcode(code) if without => Some(Edns::Refused(*code)),
            ServerOutcome::Records if !look.seen.version.as_ref()?.edns => Some(Edns::Ignored),
            _ => None,
        }
    });
    for group in groups {
        let (names, from) = (group.names(), case.seen_from(&group));
        let (code, severity, blame, text) = match &group.shows {
            Edns::Dropped => (
                Code::EdnsDropped,
                Severity::MayBlock,
                Blame::Filter,
                format!(
                    "{names} {} plain queries but not those with EDNS{from}. Resolvers lose time there, or give up. Let EDNS \
                     through (RFC 6891).",
                    group.verb("answers", "answer")
                ),
            ),
            Edns::Refused(code) => (
                Code::EdnsNotUnderstood,
                Severity::Note,
                Blame::Dns,
                format!(
                    "{names} {} {} to EDNS{from} and {} without it. Answers beyond 512 octets need TCP there, and DNSSEC is \
                     not possible.",
                    group.verb("answers", "answer"),
                    rcode_name(*code),
                    group.verb("answers", "answer")
                ),
            ),
            Edns::Ignored => (
                Code::EdnsNotUnderstood,
                Severity::Note,
                Blame::Dns,
                format!(
                    "{names} {} EDNS without EDNS{from}. Answers beyond 512 octets need TCP there, and DNSSEC is not possible.",
                    group.verb("answers", "answer")
                ),
            ),
        };
        findings.push(case.about(code, (severity, blame), &group, text));
    }
}

/// `cases.md` D23.
fn mixed_case(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| match look.seen.mixed_case.as_ref()? {
        MixedCase::Copied => None,
        MixedCase::NotCopied => Some((false, look.seen.answers_tcp() == Some(true))),
        MixedCase::Unlike(_) => Some((true, look.seen.answers_tcp() == Some(true))),
    });
    for group in groups {
        let (unanswered, has_tcp) = group.shows;
        let (names, from) = (group.names(), case.seen_from(&group));
        let again = match has_tcp {
            true => "Whoever guards against forged answers so has to repeat each query over TCP",
            false => "Whoever guards against forged answers so gets none, since TCP does not answer either",
        };
        let (code, text) = if unanswered {
            let does = group.verb("has", "have");
            (Code::MixedCaseNotAnswered, format!("{names} {does} no answer for a name in mixed case{from}. {again}."))
        } else {
            let does = group.verb("does", "do");
            (Code::CaseNotCopied, format!("{names} {does} not copy the case of the query name{from}. {again}."))
        };
        let severity = if has_tcp { Severity::Note } else { Severity::MayBlock };
        findings.push(case.about(code, (severity, Blame::Dns), &group, text));
    }
}

fn recursion(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| look.seen.soa().filter(|soa| soa.recursion).map(|_| ()));
    for group in groups {
        let text = format!(
            "{} {} recursion to whoever asks{}. A nameserver of a zone should not.",
            group.names(),
            group.verb("offers", "offer"),
            case.seen_from(&group)
        );
        findings.push(case.about(Code::RecursionOffered, (Severity::Note, Blame::Dns), &group, text));
    }
}
