//! CAA lookups that fail, against real servers: when the lookup-failure clause applies, and when it does not (req C16,
//! C17, `cases.md` D36).

mod common;
mod dnssec_lab;

use std::sync::Arc;

use common::{Bench, config};
use dnssec_lab::Lab;
use parallax_node::NodeConfig;
use parallax_validation::{
    base::octets::Octets,
    check::caa::{
        self,
        authorize::CaaPolicy,
        failure::{self, NotExcused},
    },
    lookup::{
        Dnssec,
        dnssec::{
            anchor::TrustAnchors,
            prove::{Proof, prove},
        },
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, ExtendedError, Observation, RecordSet},
    plan::{Plan, PlanLimits},
    request::{CaaCheck, Identifier},
};

fn local(lab: &Lab, resolver: std::net::SocketAddr) -> NodeConfig {
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    NodeConfig { dnssec: Dnssec::Local(Arc::new(anchors)), ..config(resolver) }
}

/// The climb of a name whose CAA lookups fail, with a repeat after `repeat_ms`.
fn failing_climb(name: &str, repeat_ms: u32) -> Plan {
    let limits = PlanLimits {
        task_deadline_ms: 20_000,
        dns_try_ms: 3_000,
        dns_transmissions: 1,
        caa_repeat_ms: repeat_ms,
        ..PlanLimits::default()
    };
    limits.check().expect("limits that can be");
    let mut levels = vec![name.to_owned()];
    levels.extend(name.match_indices('.').map(|(at, _)| name[at + 1..].to_owned()));
    Plan {
        control: None,
        derivation: None,
        caa_levels: levels,
        hints: Vec::new(),
        keep_proof: true,
        diagnose: true,
        survey: None,
        limits,
    }
}

fn reached(seen: &Observation) -> bool {
    seen.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.reached)
}

fn permits(name: &str, seen: &Observation, lookup_failure_permits: bool) -> bool {
    let policy =
        CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], lookup_failure_permits, ..CaaPolicy::default() };
    let check = CaaCheck::default();
    caa::judge(&Identifier::Name(name.parse().expect("a name")), &check, &seen.caa, reached(seen), &policy).permits()
}

#[test]
fn c16_a_failed_lookup_permits_only_in_a_zone_proven_unsigned_and_after_a_real_repeat() {
    let Some(lab) =
        dnssec_lab::inside("c16_a_failed_lookup_permits_only_in_a_zone_proven_unsigned_and_after_a_real_repeat")
    else {
        return;
    };
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    // Unbound keeps failures for five seconds.
    let unsigned = ["silentplain.example", "closedplain.example"];
    let signed = ["silent.example", "closed.example", "servfail.example", "refused.example"];
    let mut bench = Bench::start(&local(lab, lab.plain()));
    let plans = unsigned.iter().chain(&signed).map(|name| failing_climb(name, 6_000)).collect();
    let mut plans: Vec<Plan> = plans;
    plans.push(failing_climb("tosilent.unsigned.example", 6_000));
    plans.push(failing_climb("www.silentplain.example", 6_000));
    // All at once: what one asks is not in the resolver's memory for another.
    let seen = bench.run_all(plans);
    for (name, seen) in unsigned.iter().chain(&signed).zip(&seen) {
        let excused = failure::excuse(&seen.caa[0], reached(seen));
        let is_unsigned = unsigned.contains(name);
        assert_eq!(excused.is_ok(), is_unsigned, "{name}: {excused:?} {:?}", seen.caa[0]);
        assert_eq!(permits(name, seen, true), is_unsigned, "{name}");
        assert!(!permits(name, seen, false), "{name}: never by default");
        assert_eq!(prove(&seen.caa[0], &seen.links, &anchors, seen.started), Proof::Holds, "{name}");
    }
    an_alias_is_not_excused(&seen[6].caa[0]);
    a_parent_that_forbids_still_forbids(seen[7].clone());
    // A refusal over loopback is as quick as the resolver's memory; it is then taken for that.
    for name in ["servfailplain.example", "refusedplain.example"] {
        let seen = bench.run(failing_climb(name, 1_000));
        assert!(
            matches!(failure::excuse(&seen.caa[0], reached(&seen)), Ok(()) | Err(NotExcused::FromMemory)),
            "{name}"
        );
    }
    // Without a word from outside the failure may be our own.
    assert_eq!(failure::excuse(&seen[0].caa[0], false), Err(NotExcused::NotReached));
    // What is missing from the evidence excuses nothing.
    type Spoil = fn(&mut DnsLookup);
    let spoilt: [(Spoil, NotExcused); 6] = [
        (|lookup| lookup.repeat = None, NotExcused::NotRepeated),
        (|lookup| lookup.validation = None, NotExcused::NotInsecure),
        (|lookup| lookup.repeat.as_mut().expect("a repeat").alias = None, NotExcused::Alias),
        (|lookup| lookup.outcome = DnsOutcome::Failed(DnsFailure::Rcode(5)), NotExcused::OwnSide),
        (|lookup| lookup.extended_errors.push(ExtendedError { code: 6, text: Octets::default() }), NotExcused::Dnssec),
        (
            |lookup| lookup.extended_errors.push(ExtendedError { code: 13, text: Octets::default() }),
            NotExcused::FromMemory,
        ),
    ];
    for (spoil, why) in spoilt {
        let mut lookup = seen[0].caa[0].clone();
        spoil(&mut lookup);
        assert_eq!(failure::excuse(&lookup, true), Err(why));
    }
}

#[test]
fn d36_a_repeat_that_the_resolver_answers_from_memory_is_none() {
    let Some(lab) = dnssec_lab::inside("d36_a_repeat_that_the_resolver_answers_from_memory_is_none") else { return };
    let mut bench = Bench::start(&local(lab, lab.validating()));
    let seen = bench.run(failing_climb("silentplain.example", 1_000));
    assert_eq!(failure::excuse(&seen.caa[0], true), Err(NotExcused::FromMemory), "{:?}", seen.caa[0]);
    assert!(!permits("silentplain.example", &seen, true));
}

fn an_alias_is_not_excused(lookup: &DnsLookup) {
    let mut alias = lookup.clone();
    assert!(failure::excuse(&alias, true).is_err(), "{alias:?}");
    // However real both lookups were.
    alias.elapsed_us = 4_000_000;
    alias.repeat.as_mut().expect("a repeat").first.elapsed_us = 4_000_000;
    assert_eq!(failure::excuse(&alias, true), Err(NotExcused::Alias), "{alias:?}");
}

fn a_parent_that_forbids_still_forbids(mut seen: Observation) {
    assert!(permits("www.silentplain.example", &seen, true), "{:?}", seen.caa);
    let set = RecordSet {
        owner: "silentplain.example".to_owned(),
        ttl: 60,
        aliases: Vec::new(),
        rdata: vec![Octets(b"\x00\x05issueother.example".to_vec())],
    };
    seen.caa[1].outcome = DnsOutcome::Answer(set);
    assert!(!permits("www.silentplain.example", &seen, true));
}
