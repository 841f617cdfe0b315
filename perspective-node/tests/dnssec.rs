//! Validation by the node itself against a signed tree of real servers, beside what a validating Unbound says
//! (req B1, B2, B7 to B10, B14, B15).

mod common;
mod dnssec_lab;

use std::sync::Arc;

use common::{Bench, config};
use dnssec_lab::{Case, Expect, Lab};
use parallax_node::NodeConfig;
use parallax_validation::{
    lookup::{
        Dnssec,
        dnssec::{
            anchor::TrustAnchors,
            prove::{Proof, prove},
        },
    },
    observation::{ControlObservation, DnsLookup, DnsOutcome, InsecureBy, Observation, RecordType, SecurityStatus},
    plan::{ControlPlan, Host, Plan, PlanLimits, inquiry::Inquiry},
};

fn local(lab: &Lab, resolver: std::net::SocketAddr) -> NodeConfig {
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    NodeConfig { dnssec: Dnssec::Local(Arc::new(anchors)), ..config(resolver) }
}

fn plan(case: &Case) -> Plan {
    let (control, caa_levels) = match case.rtype {
        RecordType::Txt => (Some(ControlPlan::txt(case.name.clone())), Vec::new()),
        RecordType::Caa => (None, vec![case.name.clone()]),
        RecordType::A | RecordType::Aaaa => {
            let host = Host::Name(case.name.clone());
            (Some(ControlPlan::http(host, "/".to_owned())), Vec::new())
        }
        RecordType::Cname | RecordType::Ptr | RecordType::Mx => {
            let (name, rtype) = (case.name.clone(), case.rtype);
            (Some(ControlPlan::Dns(Inquiry::Records { name, rtype })), Vec::new())
        }
        RecordType::Ns | RecordType::Soa | RecordType::Ds | RecordType::Dnskey => {
            unreachable!("no check asks these of itself")
        }
    };
    let limits = PlanLimits { task_deadline_ms: 20_000, dns_try_ms: 6_000, ..PlanLimits::default() };
    Plan {
        control,
        derivation: None,
        caa_levels,
        hints: Vec::new(),
        keep_proof: true,
        diagnose: false,
        survey: None,
        limits,
    }
}

fn lookup<'a>(case: &Case, seen: &'a Observation) -> &'a DnsLookup {
    let found = match &seen.control {
        Some(ControlObservation::Record(lookup)) => Some(lookup),
        Some(ControlObservation::Http(http)) => {
            http.hops.iter().flat_map(|hop| &hop.resolution).find(|lookup| lookup.rtype == case.rtype)
        }
        Some(ControlObservation::Climb(_) | ControlObservation::Tls(_)) | None => seen.caa.first(),
    };
    found.unwrap_or_else(|| panic!("{case}: no lookup in {seen:?}"))
}

fn status(lookup: &DnsLookup) -> Expect {
    let Some(validation) = &lookup.validation else { return Expect::Failed };
    let unsupported = matches!(&validation.insecure, Some(proof) if matches!(proof.by, InsecureBy::Unsupported { .. }));
    match (validation.status, &lookup.outcome) {
        (SecurityStatus::Bogus, _) => Expect::Bogus,
        (_, DnsOutcome::Failed(_)) => Expect::Failed,
        (SecurityStatus::Secure, _) => Expect::Secure,
        (SecurityStatus::Insecure, _) if unsupported => Expect::Unsupported,
        (SecurityStatus::Insecure, _) => Expect::Insecure,
        (SecurityStatus::Indeterminate, _) => Expect::Failed,
    }
}

/// Runs all cases in one node and tells every difference.
fn differences(lab: &Lab, resolver: std::net::SocketAddr) -> (usize, Vec<String>) {
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    let mut bench = Bench::start(&local(lab, resolver));
    // Those that come to nothing last and in company, the others a few at a time: the resolvers have one thread.
    let (failing, mut cases): (Vec<Case>, Vec<Case>) =
        lab.cases().into_iter().partition(|case| case.expect == Expect::Failed);
    let mut seen: Vec<Observation> =
        cases.chunks(24).flat_map(|some| bench.run_all(some.iter().map(plan).collect())).collect();
    seen.extend(bench.run_all(failing.iter().map(plan).collect()));
    cases.extend(failing);
    let mut differences = Vec::new();
    for (case, seen) in cases.iter().zip(&seen) {
        let lookup = lookup(case, seen);
        let found = status(lookup);
        // A resolver that does not validate keeps what the stale server gave it; then only bogus is left to say.
        let stuck = resolver == lab.plain() && case.name.ends_with("stale.example") && found == Expect::Bogus;
        if found != case.expect && !stuck {
            differences.push(format!(
                "{case}: want {:?}, is {found:?}: {:?} {:?}",
                case.expect, lookup.outcome, lookup.validation
            ));
        }
        let proof = prove(lookup, &seen.links, &anchors, seen.started);
        let no_answer = lookup.validation.is_none() && matches!(lookup.outcome, DnsOutcome::Failed(_));
        if proof != if no_answer { Proof::NoAnswer } else { Proof::Holds } {
            differences.push(format!("{case}: the proof says {proof:?}: {lookup:?}"));
        }
        if case.expect == Expect::Failed && case.rtype == RecordType::Caa {
            let zone = lookup.validation.as_ref().map(|validation| validation.status);
            let insecure = zone == Some(SecurityStatus::Insecure);
            if insecure != case.insecure_zone {
                differences.push(format!("{case}: zone {zone:?}: {lookup:?}"));
            }
        }
    }
    (cases.len(), differences)
}

#[test]
fn b8_every_zone_of_the_laboratory_has_the_right_status_behind_a_resolver_that_does_not_validate() {
    let Some(lab) = dnssec_lab::inside(
        "b8_every_zone_of_the_laboratory_has_the_right_status_behind_a_resolver_that_does_not_validate",
    ) else {
        return;
    };
    let (cases, differences) = differences(lab, lab.plain());
    assert!(cases > 200, "{cases} cases");
    assert!(differences.is_empty(), "{} of {cases} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn b8_every_zone_of_the_laboratory_has_the_right_status_behind_a_validating_resolver() {
    let Some(lab) =
        dnssec_lab::inside("b8_every_zone_of_the_laboratory_has_the_right_status_behind_a_validating_resolver")
    else {
        return;
    };
    let (cases, differences) = differences(lab, lab.validating());
    assert!(differences.is_empty(), "{} of {cases} differ:\n{}", differences.len(), differences.join("\n"));
}

/// Every step from the identifier to the authorization domain name is a lookup of its own, and each is validated
/// (TLS BR 2.3.1 §4.2.2.2, req B1, D1).
#[test]
fn b1_d1_each_alias_on_the_way_is_proven() {
    let Some(lab) = dnssec_lab::inside("b1_d1_each_alias_on_the_way_is_proven") else { return };
    let mut bench = Bench::start(&local(lab, lab.plain()));
    // From, to, the status of each step.
    let rows: [(&str, &str, &[Expect]); 5] = [
        ("www.aliases.example", "good.example", &[Expect::Secure]),
        ("two.aliases.example", "www.good.example", &[Expect::Secure, Expect::Secure]),
        ("tobogus.aliases.example", "elsewhere.example", &[Expect::Secure, Expect::Bogus]),
        ("toplain.aliases.example", "elsewhere.example", &[Expect::Secure, Expect::Insecure]),
        ("tosilent.aliases.example", "elsewhere.example", &[Expect::Secure, Expect::Failed]),
    ];
    let plan = |(from, to, _): &(&str, &str, &[Expect])| {
        let derivation = Some(Inquiry::Aliases { from: (*from).to_owned(), to: (*to).to_owned() });
        let limits = PlanLimits { task_deadline_ms: 20_000, dns_try_ms: 6_000, ..PlanLimits::default() };
        Plan {
            control: Some(ControlPlan::txt(format!("_acme-challenge.{to}"))),
            derivation,
            caa_levels: Vec::new(),
            hints: Vec::new(),
            keep_proof: true,
            diagnose: false,
            survey: None,
            limits,
        }
    };
    let seen = bench.run_all(rows.iter().map(plan).collect());
    for ((from, _, expected), seen) in rows.iter().zip(&seen) {
        let found: Vec<Expect> = seen.derivation.iter().map(status).collect();
        assert_eq!(found, *expected, "{from}: {:?}", seen.derivation);
    }
}

/// Observations of signed and unsigned zones, with their proofs, as pure tests and benches use them.
#[test]
#[ignore = "writes validation/tests/data/signed.jsonl anew"]
fn write_the_observations_that_pure_tests_use() {
    let Some(lab) = dnssec_lab::inside("write_the_observations_that_pure_tests_use") else { return };
    let mut text = serde_json::json!({ "anchor": lab.root_anchor() }).to_string() + "\n";
    let mut bench = Bench::start(&local(lab, lab.plain()));
    for (note, name, rtype) in [
        ("answer, ECDSA P-256", "_acme-challenge.good.example", RecordType::Txt),
        ("answer, RSA 2048", "_acme-challenge.rsa2048.rsa", RecordType::Txt),
        ("no data, NSEC", "www.cust.nsec", RecordType::Caa),
        ("no data, NSEC3", "www.nsec3.example", RecordType::Caa),
        ("no name, NSEC", "_acme-challenge.gone.cust.nsec", RecordType::Txt),
        ("no name, NSEC3", "_acme-challenge.gone.nsec3.example", RecordType::Txt),
        ("answer, wildcard, NSEC", "x.wild.example", RecordType::Caa),
        ("answer, wildcard, NSEC3", "x.wild3.example", RecordType::Caa),
        ("unsigned, NSEC3", "_acme-challenge.unsigned.example", RecordType::Txt),
        ("unsigned, NSEC", "_acme-challenge.unsigned.nsec", RecordType::Txt),
        ("unsigned, opt-out", "_acme-challenge.unsigned.optout", RecordType::Txt),
        ("alias into another signed zone", "www.aliases.example", RecordType::Caa),
        ("DS matches no key", "_acme-challenge.wrongkey.example", RecordType::Txt),
        ("expired", "_acme-challenge.expired.example", RecordType::Txt),
    ] {
        let case = Case {
            name: name.to_owned(),
            rtype,
            kind: dnssec_lab::Kind::Answer,
            expect: Expect::Secure,
            unbound: Expect::Secure,
            insecure_zone: false,
            note,
        };
        let observation = bench.run(plan(&case));
        text += &(serde_json::json!({ "note": note, "observation": observation }).to_string() + "\n");
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../validation/tests/data/signed.jsonl");
    std::fs::write(file, text).expect("written");
}
