//! What counts as a failure to see.

use super::*;

fn lookup(outcome: DnsOutcome) -> DnsLookup {
    DnsLookup {
        name: "www.example.com".to_owned(),
        rtype: RecordType::Txt,
        resolver: "192.0.2.53:53".parse().expect("an address"),
        transport: DnsTransport::Udp,
        transmissions: 1,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 1,
        authenticated: false,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome,
    }
}

fn observation(control: Option<ControlObservation>) -> Observation {
    Observation {
        started: Timestamp::UNIX_EPOCH,
        elapsed_us: 1,
        control,
        derivation: Vec::new(),
        caa: Vec::new(),
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::None,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    }
}

fn fetch(resolution: Vec<DnsLookup>, outcome: HttpOutcome) -> Option<ControlObservation> {
    let url = "http://www.example.com/".to_owned();
    let hop = HttpHop { url, resolution, unused: Vec::new(), tries: Vec::new(), tls: None, response: None };
    Some(ControlObservation::Http(HttpObservation { hops: vec![hop], outcome }))
}

#[test]
fn a_failure_is_what_could_not_be_seen_and_not_what_was_seen_and_shows_nothing() {
    let failed = || lookup(DnsOutcome::Failed(DnsFailure::Timeout));
    let denied = || lookup(DnsOutcome::Nxdomain(Denial::default()));
    let response = |status| HttpOutcome::Response { status, body: Octets::default(), truncated: false };
    for (what, control, expected) in [
        ("nothing asked", None, false),
        ("a name that does not exist", Some(ControlObservation::Record(denied())), false),
        ("silence", Some(ControlObservation::Record(failed())), true),
        ("a page that is not there", fetch(vec![denied()], response(404)), false),
        ("one family that cannot be looked up", fetch(vec![denied(), failed()], response(200)), true),
        ("no connection", fetch(vec![denied()], HttpOutcome::Failed(HttpFailure::NotAnswered)), true),
    ] {
        assert_eq!(observation(control).has_failure(), expected, "{what}");
    }
    let caa = |lookup| Observation { caa: vec![lookup], ..observation(None) };
    assert!(!caa(denied()).has_failure() && caa(failed()).has_failure());
    let hint = HintObservation { kind: HintKind::DoubledName, lookup: failed() };
    assert!(!Observation { hints: vec![hint], ..observation(None) }.has_failure(), "it explains, and no more");
    let (budget_ms, median_us) = (1, 1);
    let budget = Some(BudgetExhausted { budget_ms, lookups_planned: 1, lookups_answered: 0, median_us });
    assert!(Observation { budget, ..observation(None) }.has_failure());
}
