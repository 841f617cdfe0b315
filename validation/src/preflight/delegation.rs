//! What the zone above says of the zone, beside what the zone says of itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Code, Finding, ServerAt, Severity,
    view::{Case, names},
};
use crate::{
    explain::{Blame, text::list},
    lookup::dnssec::set::{target_of, text_of},
    observation::{SurveyedServer, SurveyedSet},
};

pub(super) fn findings(case: &Case<'_>, findings: &mut Vec<Finding>) {
    if case.zone.is_none() {
        return;
    }
    parent(case, findings);
    server_sets(case, findings);
    glue(case, findings);
    addresses(case, findings);
}

/// Whether the zone above was asked, and names servers.
fn parent(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let zone = case.zone();
    // Servers that did not answer say nothing of a delegation.
    let parents = || {
        let answered = case.surveys().filter_map(|(by, survey)| Some((by, survey.parent.as_ref()?)));
        answered.filter(|(_, parent)| parent.has_answered())
    };
    let Some((_, first)) = parents().next() else {
        let by: Vec<usize> = case.surveys().map(|(by, _)| by).collect();
        let text = format!(
            "The nameservers of the zone above {zone} could not be asked, or did not answer, so the delegation, its glue and its DS were not \
             checked."
        );
        return findings.push(case.finding(Code::DelegationNotChecked, (Severity::Note, Blame::Parent), &by, text));
    };
    let by: Vec<usize> = parents().map(|(by, _)| by).collect();
    // Those on trial make no difference, unless nobody else asked.
    let only_trials = !by.iter().any(|by| case.counts(*by));
    if parents().any(|(by, parent)| parent.delegates && (only_trials || case.counts(by))) {
        return;
    }
    let text = format!(
        "The nameservers of {} name no nameservers of {zone}. Have the delegation entered at the registrar; what resolvers \
         remember of an older one will be gone soon.",
        first.zone
    );
    findings.push(case.finding(Code::NotDelegated, (Severity::MayBlock, Blame::Parent), &by, text));
}

/// Names by who gives them.
fn server_sets(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let zone = case.zone();
    let by_parent: BTreeSet<&String> =
        case.surveys().filter_map(|(_, survey)| survey.parent.as_ref()).flat_map(|parent| &parent.servers).collect();
    let groups = case.grouped(|look| {
        let answer = look.seen.servers.as_ref().filter(|answer| answer.answer.authoritative)?;
        let names = names_of(look.survey.set_of(answer)?);
        (!names.is_empty()).then_some(names)
    });
    let by_child: BTreeSet<&String> = groups.iter().flat_map(|group| &group.shows).collect();
    let distinct: BTreeSet<&Vec<String>> = groups.iter().map(|group| &group.shows).collect();
    if distinct.len() > 1 {
        let mut by_set: BTreeMap<&Vec<String>, Vec<ServerAt>> = BTreeMap::new();
        for group in &groups {
            let servers = by_set.entry(&group.shows).or_default();
            servers.extend(group.servers.iter().filter(|at| !servers.contains(at)).cloned().collect::<Vec<_>>());
        }
        let texts: Vec<String> =
            by_set.iter().map(|(set, servers)| format!("{} by the word of {}", list(set), names(servers))).collect();
        let by: Vec<usize> = case.surveys().map(|(by, _)| by).collect();
        let text = format!(
            "The nameservers of {zone} do not name the same nameservers: {}. Their copies of the zone differ.",
            texts.join("; ")
        );
        let finding = case.finding(Code::ServerSetsDiffer, (Severity::Note, Blame::Dns), &by, text);
        findings.push(Finding { servers: by_set.into_values().flatten().collect(), ..finding });
    }
    if by_parent.is_empty() || by_child.is_empty() {
        return;
    }
    let only = |a: &BTreeSet<&String>, b: &BTreeSet<&String>| -> Vec<String> {
        a.difference(b).map(|name| (*name).clone()).collect()
    };
    let only_at_parent = only(&by_parent, &by_child);
    one_sided(case, findings, Code::ServerOnlyAtParent, &only_at_parent, |names, are| {
        format!(
            "The zone above names {names} as {are} of {zone}, and {zone} itself does not. Take {} out at the registrar, or \
             add the NS record to the zone.",
            if only_at_parent.len() == 1 { "it" } else { "them" }
        )
    });
    let only_at_child = only(&by_child, &by_parent);
    one_sided(case, findings, Code::ServerOnlyAtChild, &only_at_child, |names, are| {
        format!(
            "{zone} itself names {names} as {are}, and the zone above does not. Add {} at the registrar, or take the NS \
             record out of the zone.",
            if only_at_child.len() == 1 { "it" } else { "them" }
        )
    });
}

fn one_sided(
    case: &Case<'_>,
    findings: &mut Vec<Finding>,
    code: Code,
    servers: &[String],
    text: impl Fn(&str, &str) -> String,
) {
    if servers.is_empty() {
        return;
    }
    let are = if servers.len() == 1 { "a nameserver" } else { "nameservers" };
    let by: Vec<usize> = case.surveys().map(|(by, _)| by).collect();
    let finding = case.finding(code, (Severity::Note, Blame::Record), &by, text(&list(servers), are));
    let servers = servers.iter().map(|server| ServerAt { server: server.clone(), address: None }).collect();
    findings.push(Finding { servers, ..finding });
}

/// The names of an NS set, sorted.
fn names_of(set: &SurveyedSet) -> Vec<String> {
    let mut names: Vec<String> =
        set.records.iter().filter_map(|rdata| target_of(rdata.as_slice())).map(|name| text_of(&name)).collect();
    names.sort();
    names
}

/// Servers with what one perspective found of their addresses, each difference once.
fn by_server<K: Ord>(
    case: &Case<'_>,
    shows: impl Fn(&SurveyedServer) -> Option<K>,
) -> BTreeMap<(String, K), Vec<usize>> {
    let mut found: BTreeMap<(String, K), Vec<usize>> = BTreeMap::new();
    for (by, survey) in case.surveys() {
        for server in &survey.servers {
            if let Some(key) = shows(server) {
                found.entry((server.name.clone(), key)).or_default().push(by);
            }
        }
    }
    found
}

fn glue(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let found = by_server(case, |server| {
        // Of records that could not all be looked up it is not known which are missing.
        let is_whole = server.types_whole == 2;
        let own: BTreeSet<IpAddr> = server.looked_up.iter().filter(|_| is_whole).flatten().copied().collect();
        let stale: BTreeSet<IpAddr> = server.glue.iter().filter(|glue| !own.contains(glue)).copied().collect();
        // Glue may be less than all addresses there are.
        (!own.is_empty() && !stale.is_empty()).then_some((stale, own))
    });
    for ((server, (glue, own)), by) in found {
        let texts = |addresses: &BTreeSet<IpAddr>| list(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
        let text = format!(
            "The zone above gives {} as {server}'s, and its own records give {}. Correct the glue at the registrar.",
            texts(&glue),
            texts(&own)
        );
        let finding = case.finding(Code::GlueDiffers, (Severity::MayBlock, Blame::Record), &by, text);
        findings.push(Finding { servers: vec![ServerAt { server, address: None }], ..finding });
    }
}

fn addresses(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let found = by_server(case, |server| {
        let none = server.addresses.is_empty() && server.glue.is_empty() && server.forbidden.is_empty();
        // One whose address another server has too is asked under that one's name.
        let looked_up = server.looked_up.as_ref();
        (none && looked_up.is_none_or(Vec::is_empty)).then_some(looked_up.is_some())
    });
    for ((server, denied), by) in found {
        let text = match denied {
            true => format!("The nameserver {server} has no address. Give it one, or take it out of the delegation."),
            false => {
                format!("The address of the nameserver {server} could not be looked up. See to the zone it lies in.")
            }
        };
        let finding = case.finding(Code::ServerWithoutAddress, (Severity::MayBlock, Blame::Record), &by, text);
        findings.push(Finding { servers: vec![ServerAt { server, address: None }], ..finding });
    }
    let forbidden = by_server(case, |server| (!server.forbidden.is_empty()).then(|| server.forbidden.clone()));
    for ((server, addresses), by) in forbidden {
        let text = format!(
            "The nameserver {server} has {} as address, which lies in a special-purpose block: nobody out there can ask it. \
             Correct the record.",
            list(&addresses.iter().map(ToString::to_string).collect::<Vec<_>>())
        );
        let finding = case.finding(Code::ServerAddressForbidden, (Severity::MayBlock, Blame::Record), &by, text);
        let at = |address: &IpAddr| ServerAt { server: server.clone(), address: Some(*address) };
        findings.push(Finding { servers: addresses.iter().map(at).collect(), ..finding });
    }
}
