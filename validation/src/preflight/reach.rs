//! Who reaches which server, over what (`cases.md` D02, D33).

use super::{
    Code, Finding, Severity,
    view::{Case, View, names},
};
use crate::{
    explain::Blame,
    observation::{NetworkError, ServerOutcome, SurveyAnswer, SurveyedAddress},
};

pub(super) fn findings(case: &Case<'_>, permits: bool, findings: &mut Vec<Finding>) {
    if zone_not_found(case, findings) {
        return;
    }
    let dark: Vec<usize> =
        case.views.iter().enumerate().filter(|(_, view)| view.is_dark()).map(|(place, _)| place).collect();
    let asked = case.surveys().filter(|(_, survey)| survey.asked().next().is_some()).count();
    if asked > 0 && dark.len() == asked {
        return findings.push(no_server_answers(case, &dark));
    }
    if !dark.is_empty() {
        findings.push(reaches_no_server(case, permits, &dark));
    }
    unreachable(case, &dark, findings);
    udp_not_answered(case, findings);
    tcp_not_answered(case, findings);
}

/// True if there are no servers to speak of.
fn zone_not_found(case: &Case<'_>, findings: &mut Vec<Finding>) -> bool {
    let without: Vec<usize> = case.surveys().filter(|(_, survey)| survey.zone.is_none()).map(|(by, _)| by).collect();
    if without.is_empty() || case.zone.is_some() {
        return false;
    }
    let text = format!(
        "No zone was found that {} lies in: the domain is not delegated, or not registered. Register it, or have the \
         delegation entered at the registrar.",
        case.name
    );
    findings.push(case.finding(Code::ZoneNotFound, (Severity::Blocks, Blame::Parent), &without, text));
    true
}

fn no_server_answers(case: &Case<'_>, dark: &[usize]) -> Finding {
    let servers: Vec<_> = case.places().into_iter().map(|place| place.at).collect();
    let text = format!(
        "None of the nameservers of {} answers anybody: {}. UDP and TCP were tried from every perspective. Start them, or \
         correct the delegation at the registrar.",
        case.zone(),
        names(&servers)
    );
    let finding = case.finding(Code::NoServerAnswers, (Severity::Blocks, Blame::Dns), dark, text);
    Finding { servers, ..finding }
}

/// `cases.md` D02.
fn reaches_no_server(case: &Case<'_>, permits: bool, dark: &[usize]) -> Finding {
    let servers: Vec<_> = case.places().into_iter().map(|place| place.at).collect();
    let others: Vec<usize> =
        case.surveys().map(|(by, _)| by).filter(|by| !dark.contains(by) && !case.views[*by].is_dark()).collect();
    let text = format!(
        "From {} no nameserver of {} answered: {}; UDP and TCP were tried. From {} they answer, so this looks like filtering \
         by source location. Open port 53, UDP and TCP, to the whole world.",
        case.regions(dark),
        case.zone(),
        names(&servers),
        case.regions(&others)
    );
    let severity = if permits { Severity::MayBlock } else { Severity::Blocks };
    let finding = case.finding(Code::PerspectiveReachesNoServer, (severity, Blame::Filter), dark, text);
    Finding { servers, ..finding }
}

/// Addresses that do not answer those who are answered elsewhere.
fn unreachable(case: &Case<'_>, dark: &[usize], findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        let unreached = look.seen.is_reached() == Some(false) && !dark.contains(&look.by);
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

/// `cases.md` D33.
fn tcp_not_answered(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let groups = case.grouped(|look| {
        let lacks = look.seen.answers_udp() == Some(true) && look.seen.answers_tcp() == Some(false);
        lacks.then(|| {
            let refused = look.seen.over_tcp == Some(ServerOutcome::Network(NetworkError::Refused));
            (needs_tcp(look.seen), refused)
        })
    });
    for group in groups {
        let (needed, refused) = &group.shows;
        let does = match refused {
            true => group.verb("refuses", "refuse"),
            false => group.verb("does not answer on", "do not answer on"),
        };
        let (names, from) = (group.names(), case.seen_from(&group));
        let (severity, text) = match needed {
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

/// The type whose answer was truncated and could not be had over TCP.
fn needs_tcp(seen: &SurveyedAddress) -> Option<&'static str> {
    let cut = |answer: &Option<SurveyAnswer>| {
        answer.as_ref().is_some_and(|answer| answer.answer.outcome == ServerOutcome::Truncated)
    };
    let parts = [("CAA", &seen.caa), ("TXT", &seen.txt), ("DNSKEY", &seen.keys), ("NS", &seen.servers)];
    parts.into_iter().find(|(_, part)| cut(part)).map(|(rtype, _)| rtype)
}

/// Whether somebody sees an answer of a server.
pub(super) fn is_anybody_answered(view: &View<'_>) -> bool {
    view.survey().into_iter().flat_map(|survey| survey.asked()).any(|(_, seen)| seen.is_reached() == Some(true))
}
