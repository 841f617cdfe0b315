//! The public CAA test suite (req C-h), rebuilt in the laboratory: a real node climbs, validates and is judged
//! for the issuer `ca.example`.

mod common;
mod dnssec_lab;

use std::{fmt::Write as _, net::SocketAddr, sync::Arc};

use common::{Bench, config};
use dnssec_lab::{CaaCase, Lab};
use parallax_node::NodeConfig;
use parallax_validation::{
    base::address::AddressFilter,
    check::caa::{CaaFinding, authorize::CaaPolicy, judge},
    lookup::{Dnssec, dnssec::anchor::TrustAnchors},
    observation::{DnsOutcome, DnssecMode, Observation, SecurityStatus},
    plan::{Plan, PlanLimits},
    request::{CheckRequest, RawRequest},
};

const SIDE_BY_SIDE: usize = 16;

/// Servers that say nothing cost two tries, and the resolvers have one thread.
fn patient() -> PlanLimits {
    PlanLimits { task_deadline_ms: 40_000, dns_try_ms: 12_000, ..PlanLimits::default() }
}

fn request(case: &CaaCase) -> CheckRequest {
    let raw = RawRequest { identifier: case.name.clone(), method: "caa".to_owned(), ..RawRequest::default() };
    CheckRequest::parse(
        raw,
        "oracle",
        &AddressFilter::default().into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

fn finding(request: &CheckRequest, seen: &Observation) -> CaaFinding {
    let policy = CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() };
    judge(&request.identifier, request.caa.as_ref().expect("a CAA check"), &seen.caa, false, &policy)
}

/// What was seen at each level, in a few words.
fn levels(seen: &Observation) -> String {
    let told: Vec<String> = seen
        .caa
        .iter()
        .map(|lookup| {
            let found = match &lookup.outcome {
                DnsOutcome::Answer(set) => format!("{} records at {}", set.rdata.len(), set.owner),
                DnsOutcome::Nodata(_) => "nodata".to_owned(),
                DnsOutcome::Nxdomain(_) => "nxdomain".to_owned(),
                DnsOutcome::Failed(failure) => format!("{failure:?}"),
            };
            let status = lookup.validation.as_ref().map_or("-".to_owned(), |validation| validation.status.to_string());
            format!("{}: {found} [{status}]", lookup.name)
        })
        .collect();
    told.join("; ")
}

/// Everything answered was found secure or insecure, and nothing else was let through.
fn is_validated(seen: &Observation) -> bool {
    seen.dnssec == DnssecMode::Local
        && seen.caa.iter().all(|lookup| {
            let status = lookup.validation.as_ref().map(|validation| validation.status);
            matches!(lookup.outcome, DnsOutcome::Failed(_))
                || matches!(status, Some(SecurityStatus::Secure | SecurityStatus::Insecure))
        })
}

/// Runs all cases in one node; a row for each that comes out otherwise.
fn differences(lab: &Lab, resolver: SocketAddr) -> Vec<String> {
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    let config = NodeConfig { dnssec: Dnssec::Local(Arc::new(anchors)), ..config(resolver) };
    let mut bench = Bench::start(&config);
    let cases = lab.caa_cases();
    assert!(cases.len() > 60, "{} cases", cases.len());
    let mut rows = Vec::new();
    for some in cases.chunks(SIDE_BY_SIDE) {
        let requests: Vec<CheckRequest> = some.iter().map(request).collect();
        let plans = requests.iter().map(|request| Plan::new(request, patient(), None)).collect();
        for ((case, request), seen) in some.iter().zip(&requests).zip(bench.run_all(plans)) {
            let finding = finding(request, &seen);
            if finding.permits() != case.permitted || !is_validated(&seen) {
                let word = |permitted| if permitted { "permit" } else { "forbid" };
                let (wanted, found) = (word(case.permitted), word(finding.permits()));
                rows.push(format!(
                    "{:<28} {wanted:<7} {found:<7} {} | {finding:?} | {}",
                    case.name,
                    case.note,
                    levels(&seen)
                ));
            }
        }
    }
    rows
}

fn check(lab: &Lab, resolver: SocketAddr) {
    let rows = differences(lab, resolver);
    let mut table = format!("{} differ\n{:<28} {:<7} {:<7} why\n", rows.len(), "name", "wanted", "found");
    for row in &rows {
        let _ = writeln!(table, "{row}");
    }
    assert!(rows.is_empty(), "{table}");
}

#[test]
fn c_h_the_public_oracle_behind_a_validating_resolver() {
    let Some(lab) = dnssec_lab::inside("c_h_the_public_oracle_behind_a_validating_resolver") else { return };
    check(lab, lab.validating());
}

#[test]
fn c_h_the_public_oracle_behind_a_resolver_that_does_not_validate() {
    let Some(lab) = dnssec_lab::inside("c_h_the_public_oracle_behind_a_resolver_that_does_not_validate") else {
        return;
    };
    check(lab, lab.plain());
}
