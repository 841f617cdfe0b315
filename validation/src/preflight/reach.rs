//! Who reaches which server, over what (`cases.md` D02, D33).

use super::{
    Code, Finding, Severity,
    view::{Case, View, names},
};
use crate::{
    explain::Blame,
    observation::{DnsOutcome, NetworkError, Observation, ServerOutcome, SurveyedAddress},
};

pub(super) fn findings(case: &Case<'_>, would_fail: bool, findings: &mut Vec<Finding>) {
    if case.zone.is_none() {
        return without_zone(case, findings);
    }
    let shut = case.places_where(View::is_shut);
    if !shut.is_empty() {
        findings.push(cannot_ask(case, &shut));
    }
    let dark = case.places_where(View::is_dark);
    let told = case.places_where(|view| view.counts && view.observation.is_some());
    if !told.is_empty() && told.iter().all(|place| dark.contains(place)) {
        return findings.push(no_server_answers(case, &dark));
    }
    if !dark.is_empty() {
        findings.push(reaches_no_server(case, would_fail, &dark));
    }
    unreachable(case, &[dark, shut].concat(), findings);
    udp_not_answered(case, findings);
    tcp_not_answered(case, findings);
}

/// There are no servers to speak of. A name that exists lies in a zone that is not surveyed, that of a public suffix.
fn without_zone(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let surveyed: Vec<usize> = case.surveys().map(|(by, _)| by).collect();
    let (missing, others): (Vec<usize>, Vec<usize>) =
        surveyed.into_iter().partition(|by| case.views[*by].observation.is_some_and(is_denied));
    if !missing.is_empty() {
        let severity = match others.iter().any(|by| case.counts(*by)) {
            true => Severity::MayBlock,
            false => Severity::Blocks,
        };
        let text = format!(
            "No zone was found that {} lies in: the domain is not delegated, or not registered. Register it, or have the \
             delegation entered at the registrar.",
            case.name
        );
        findings.push(case.finding(Code::ZoneNotFound, (severity, Blame::Parent), &missing, text));
    }
    if !others.is_empty() {
        let text = format!(
            "The nameservers of {} were not compared: no zone was found for it that is not a public suffix's. What is said of \
             CAA is what the perspectives' resolvers say.",
            case.name
        );
        findings.push(case.finding(Code::ZoneNotSurveyed, (Severity::Note, Blame::Perspective), &others, text));
    }
}

/// Whether the name itself does not exist, by the resolver's answer to CAA.
fn is_denied(observation: &Observation) -> bool {
    observation.caa.first().is_some_and(|lookup| matches!(lookup.outcome, DnsOutcome::Nxdomain(_)))
}

fn cannot_ask(case: &Case<'_>, shut: &[usize]) -> Finding {
    let text = format!(
        "{} {} no answer from any nameserver, of {} or of the zone above: port 53 seems closed there but for the resolver. \
         Open it to compare nameservers; the lookups by the resolver count all the same.",
        case.perspectives(shut),
        if shut.len() == 1 { "gets" } else { "get" },
        case.zone()
    );
    case.finding(Code::PerspectiveCannotAsk, (Severity::Note, Blame::Perspective), shut, text)
}

fn no_server_answers(case: &Case<'_>, dark: &[usize]) -> Finding {
    let servers: Vec<_> = case.places().into_iter().map(|place| place.at).collect();
    let everybody = (0..case.views.len()).filter(|place| case.counts(*place)).all(|place| dark.contains(&place));
    let tried = if everybody { "every perspective".to_owned() } else { case.perspectives(dark) };
    let text = format!(
        "None of the nameservers of {} answers anybody: {}. UDP and TCP were tried from {tried}. Start them, or correct the \
         delegation at the registrar.",
        case.zone(),
        names(&servers)
    );
    let finding = case.finding(Code::NoServerAnswers, (Severity::Blocks, Blame::Dns), dark, text);
    Finding { servers, ..finding }
}

/// `cases.md` D02.
fn reaches_no_server(case: &Case<'_>, would_fail: bool, dark: &[usize]) -> Finding {
    let servers: Vec<_> = case.places().into_iter().map(|place| place.at).collect();
    let answered = case.places_where(is_anybody_answered);
    let told = if answered.is_empty() {
        "No other perspective asked them itself.".to_owned()
    } else {
        format!(
            "From {} they answer, so this looks like filtering by source location. Open port 53, UDP and TCP, to the whole \
             world.",
            case.regions(&answered)
        )
    };
    let text = format!(
        "From {} no nameserver of {} answered: {}; UDP and TCP were tried. {told}",
        case.regions(dark),
        case.zone(),
        names(&servers)
    );
    let severity = if would_fail { Severity::Blocks } else { Severity::MayBlock };
    let finding = case.finding(Code::PerspectiveReachesNoServer, (severity, Blame::Filter), dark, text);
    Finding { servers, ..finding }
}

/// Addresses that do not answer those who are answered elsewhere.
fn unreachable(case: &Case<'_>, deaf: &[usize], findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        let unreached = look.seen.is_reached() == Some(false) && !deaf.contains(&look.by);
        unreached.then(|| is_closed(look.seen))
    });
    for group in groups {
        let answered = case
            .places()
            .iter()
            .filter(|place| group.servers.contains(&place.at))
            .any(|place| place.looks.iter().any(|look| look.seen.is_reached() == Some(true)));
        let closed = if group.shows { " Nothing listens on port 53 there." } else { "" };
        let (code, blame, text) = if answered {
            let text = format!(
                "{} {} not answer {}, over UDP or TCP, and {} others.{closed} This looks like filtering by source \
                 location: open port 53 to the whole world.",
                group.names(),
                group.verb("does", "do"),
                case.perspectives(&group.by),
                group.verb("answers", "answer"),
            );
            (Code::ServerUnreachableFromSome, Blame::Filter, text)
        } else {
            let text = format!(
                "{} {} not answer, over UDP or TCP, to anybody.{closed} Start {}, or take {} out of the delegation: whoever \
                 asks there first waits for nothing.",
                group.names(),
                group.verb("does", "do"),
                group.verb("it", "them"),
                group.verb("it", "them"),
            );
            (Code::ServerUnreachable, Blame::Dns, text)
        };
        findings.push(case.about(code, (Severity::MayBlock, blame), &group, text));
    }
}

/// Whether a word came that nobody listens.
fn is_closed(seen: &SurveyedAddress) -> bool {
    let refused = |outcome: &ServerOutcome| *outcome == ServerOutcome::Network(NetworkError::Refused);
    seen.version.as_ref().is_some_and(|version| refused(&version.answer.outcome))
        || seen.over_tcp.as_ref().is_some_and(refused)
}

fn udp_not_answered(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        (look.seen.answers_udp() == Some(false) && look.seen.answers_tcp() == Some(true)).then_some(())
    });
    for group in groups {
        let text = format!(
            "{} {} over TCP but not over UDP{}. Resolvers ask over UDP first: let UDP port 53 through.",
            group.names(),
            group.verb("answers", "answer"),
            case.seen_from(&group)
        );
        let severity = group.severity(case, Severity::Blocks, Severity::MayBlock);
        findings.push(case.about(Code::UdpNotAnswered, (severity, Blame::Filter), &group, text));
    }
}

/// How TCP fails at an address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TcpFault {
    /// The type whose answer was truncated and could not be had over TCP.
    needed: Option<&'static str>,
    /// Nobody listens.
    refused: bool,
    /// Other questions were answered over TCP.
    others: bool,
}

/// `cases.md` D33.
fn tcp_not_answered(case: &Case<'_>, findings: &mut Vec<Finding>) {
    for group in case.grouped(|look| tcp_fault(look.seen)) {
        let TcpFault { needed, refused, others } = group.shows;
        let does = match refused {
            true => group.verb("refuses", "refuse"),
            false => group.verb("does not answer on", "do not answer on"),
        };
        let (names, from) = (group.names(), case.seen_from(&group));
        let (severity, text) = match needed {
            Some(rtype) if others => (
                group.severity(case, Severity::Blocks, Severity::MayBlock),
                format!(
                    "The {rtype} answer does not fit UDP and {names} {} not give it over TCP port 53{from}, though other \
                     questions are answered there. See whether something cuts off long answers (RFC 7766).",
                    group.verb("does", "do")
                ),
            ),
            Some(rtype) => (
                group.severity(case, Severity::Blocks, Severity::MayBlock),
                format!(
                    "The {rtype} answer does not fit UDP and {names} {does} TCP port 53{from}. Open TCP port 53 (RFC 7766)."
                ),
            ),
            None => (
                Severity::Note,
                format!(
                    "{names} {does} TCP port 53{from}. Answers fit UDP today; one that does not could not be had. Open TCP \
                     port 53 (RFC 7766)."
                ),
            ),
        };
        findings.push(case.about(Code::TcpNotAnswered, (severity, Blame::Filter), &group, text));
    }
}

fn tcp_fault(seen: &SurveyedAddress) -> Option<TcpFault> {
    if seen.answers_udp() != Some(true) {
        return None;
    }
    let parts = [("CAA", &seen.caa), ("TXT", &seen.txt), ("DNSKEY", &seen.keys), ("NS", &seen.servers)];
    // What came over TCP after a truncated answer; none if TCP was not needed, or not waited for.
    let after_cut = parts.into_iter().filter_map(|(rtype, part)| {
        let answer = &part.as_ref()?.answer;
        let was_cut = answer.outcome == ServerOutcome::Truncated;
        Some((rtype, answer.over_tcp.as_ref().filter(|_| was_cut)?))
    });
    let (failed, cured): (Vec<_>, Vec<_>) =
        after_cut.partition(|(_, over_tcp)| matches!(over_tcp, ServerOutcome::Silent | ServerOutcome::Network(_)));
    let is_refused = |outcome: &ServerOutcome| *outcome == ServerOutcome::Network(NetworkError::Refused);
    let others = seen.answers_tcp() == Some(true) || !cured.is_empty();
    match failed.first() {
        Some((rtype, outcome)) => Some(TcpFault { needed: Some(rtype), refused: is_refused(outcome), others }),
        None if seen.answers_tcp() == Some(false) && !others => {
            let refused = seen.over_tcp.as_ref().is_some_and(is_refused);
            Some(TcpFault { needed: None, refused, others })
        }
        None => None,
    }
}

/// Whether somebody sees an answer of a server.
pub(super) fn is_anybody_answered(view: &View<'_>) -> bool {
    view.survey().into_iter().flat_map(|survey| survey.asked()).any(|(_, seen)| seen.is_reached() == Some(true))
}
