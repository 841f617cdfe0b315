use std::{
    sync::{OnceLock, atomic::AtomicU16},
    time::Instant,
};

use jiff::Timestamp;
use parallax_protocol::AttemptId;
use parallax_validation::{
    base::{address::AddressFilter, octets::Octets},
    observation::{DnsLookup, DnsOutcome, DnsTransport, Observation, RecordSet, RecordType},
    request::RawRequest,
    verdict::PerspectiveState,
};

use super::{
    attempt::{Attempt, ToDecider},
    *,
};
use crate::{
    audit,
    config::SAMPLE,
    journal::{FRAME_PAYLOAD_BYTES_MAX, JournalOptions},
    log::LogForm,
    tally::{Arrival, Evidence, Readiness, Tally},
};

/// A CAA answer whose text form is larger than a journal entry may be.
fn huge_answer(name: &str) -> Observation {
    let rdata = vec![Octets(vec![0; 64]); FRAME_PAYLOAD_BYTES_MAX / 128];
    let set = RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata };
    let lookup = DnsLookup {
        name: name.to_owned(),
        rtype: RecordType::Caa,
        resolver: "192.0.2.53:53".parse().expect("an address"),
        transport: DnsTransport::Tcp,
        transmissions: 1,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 1,
        authenticated: false,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome: DnsOutcome::Answer(set),
    };
    Observation {
        started: Timestamp::now(),
        elapsed_us: 1,
        control: None,
        derivation: Vec::new(),
        caa: vec![lookup],
        hints: Vec::new(),
        budget: None,
        dnssec: parallax_validation::observation::DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    }
}

#[test]
fn evidence_too_large_to_keep_confirms_nothing_and_does_not_stop_the_journal() {
    let config = Config::parse(SAMPLE, std::path::Path::new("sample"), Timestamp::now()).expect("the sample");
    let rules = Arc::new(config.rules);
    let directory = tempfile::tempdir().expect("a directory");
    let (mut journal, _) = Writer::open(directory.path(), JournalOptions::default()).expect("a journal");
    write_setup(&rules, &mut journal).expect("the setup");
    let (released_in, released) = bounded(1);
    let (settled_in, settled) = unbounded();
    let mut decider = Decider {
        rules: Arc::clone(&rules),
        ledger: Box::new(journal),
        clock: Arc::new(SystemClock),
        log: Arc::new(LogForm::Text),
        released: released_in,
        settled: settled_in,
        failure: Arc::default(),
        stats: Arc::default(),
    };
    let raw = RawRequest { identifier: "a.example".to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
    let request = CheckRequest::parse(
        raw,
        "one",
        &AddressFilter::default().into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .expect("a good request");
    let started = Timestamp::now();
    let members = rules.members(started, None).expect("all of them");
    let (quorum, _) = rules.quorum(&request, &members, started, started).expect("a quorum");
    let readiness =
        Readiness { quorum, await_all_on_refusal: true, await_all_on_permission: false, primary_first: true };
    let attempt = Arc::new(Attempt {
        id: AttemptId(1),
        request,
        started,
        tag: 0,
        submitted: Instant::now(),
        members,
        seed: None,
        restart: None,
        tally: Tally::new(readiness),
        primary_first: true,
        asked_remotes: OnceLock::new(),
        tried: AtomicU16::new(0),
        permitted: AtomicBool::new(false),
    });
    let evidence = Evidence::Observed(Box::new(huge_answer("a.example")));
    assert!(matches!(attempt.tally.arrive(0, evidence, false), Arrival::Counted { ready: true }));
    decider.settle(vec![ToDecider::Ready(attempt)]).expect("the journal goes on");
    let record = &released.recv().expect("released")[0].record;
    assert_eq!(record.perspectives[0].state, PerspectiveState::RejectedReply);
    assert!(!record.verdict.permits());
    assert_eq!(settled.recv().expect("settled").len(), 1);
    let found = audit::verify(directory.path(), std::num::NonZeroUsize::MIN).expect("a sound journal");
    assert!(found.holds() && found.records == 1, "{found:?}");
}
