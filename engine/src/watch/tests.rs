//! Records made by hand, and what is told of them.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use parallax_validation::{
    base::{attempt::AttemptId, octets::Octets, perspective::PerspectiveId},
    observation::{
        ControlObservation, Denial, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecFault, DnssecMode, HttpHop,
        HttpObservation, HttpOutcome, HttpTry, NetworkError, Observation, RecordSet, RecordType, SecurityStatus, Soa,
        TryEnd, Validation,
    },
    problem::ProblemKind,
    record::{LateEntry, Record, RejectedEntry, Rejection, Reply, Rules, Terms, perspective_record},
    request::{CheckRequest, RawRequest},
    verdict::{Answer, Figures, PerspectiveState, Refusal, Verdict, quorum::QuorumResult},
};
use proptest::prelude::*;

use super::{
    alarm::{Alarm, Kind, Known, Severity, Source, of_late, of_record, printable},
    limit::{Digest, Limiter},
    watcher::{Watcher, as_text},
};
use crate::{
    audit::Item,
    config::{Config, SAMPLE},
};

use PerspectiveState::{Cancelled, Confirmed, Contradicted, Failed, NotAsked, NotAwaited, RejectedReply, TimedOut};

fn instant(second: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn rules() -> Rules {
    Config::parse(SAMPLE, Path::new("sample"), "2026-11-25T12:00:00Z".parse().unwrap()).unwrap().rules
}

fn source(sequence: u64) -> Source {
    Source { sequence, chain: "c0ffee".to_owned() }
}

fn request(name: &str, id: &str) -> CheckRequest {
    let raw = RawRequest { identifier: name.to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
    CheckRequest::parse(raw, id, &Default::default(), instant(0)).unwrap()
}

/// A record with these states, the primary's first.
fn record(rules: &Rules, number: u64, name: &str, states: &[PerspectiveState]) -> Record {
    let id = format!("r{number}");
    let at = instant(i64::try_from(number).unwrap());
    let replies = vec![Reply::None(NotAsked); 6];
    let (attempt, request) = (AttemptId(u128::from(number)), request(name, &id));
    let members = rules.members(at, None).unwrap();
    let terms = Terms { attempt, request: &request, started: at, members: &members, seed: None, restart: None };
    let mut record = Record::new(rules, &terms, at, replies);
    for (part, state) in record.perspectives.iter_mut().zip(states) {
        part.state = *state;
        part.caa = match state {
            Confirmed => Some(true),
            Contradicted => Some(false),
            _ => None,
        };
    }
    let permitted = states[0] == Confirmed && states[1..].iter().filter(|state| **state == Confirmed).count() >= 4;
    let joint = QuorumResult { confirmed: 4, attempted: 5, rirs: Vec::new(), margin: 0 };
    record.explanation.problem = (!permitted).then_some(ProblemKind::Caa);
    record.verdict = if permitted {
        Verdict::Corroborated(Figures { control: None, caa: None, joint })
    } else {
        Verdict::Refused { refusal: Refusal::Primary(states[0]), figures: None }
    };
    record
}

fn late(record: &Record, index: usize, state: PerspectiveState, contradicts: bool) -> LateEntry {
    let id = &record.perspectives[index].perspective;
    LateEntry {
        attempt: record.attempt,
        request: record.request.id.clone(),
        received: record.decided,
        perspective: perspective_record(id, &Answer::None(state), None),
        contradicts_verdict: contradicts,
    }
}

fn told(alarms: &[Alarm]) -> Vec<(Kind, Severity, &'static str)> {
    alarms.iter().map(|alarm| (alarm.kind, alarm.severity, alarm.class)).collect()
}

const ALL: [PerspectiveState; 6] = [Confirmed; 6];

fn with(changes: &[(usize, PerspectiveState)]) -> [PerspectiveState; 6] {
    let mut states = ALL;
    changes.iter().for_each(|(index, state)| states[*index] = *state);
    states
}

#[test]
fn h10_h12_what_is_told_of_an_attempt_follows_from_its_states() {
    let rules = rules();
    let contrary = (Kind::Contradiction, Severity::High, "unexplained");
    let refused = (Kind::FailedValidation, Severity::Low, "caa");
    let forged = (Kind::RejectedReply, Severity::Critical, "before_verdict");
    for (states, wants) in [
        (ALL, vec![]),
        (with(&[(5, NotAwaited)]), vec![]),
        (with(&[(5, Failed)]), vec![]),
        (with(&[(5, Cancelled)]), vec![]),
        (with(&[(2, Contradicted)]), vec![contrary]),
        (with(&[(2, RejectedReply)]), vec![forged]),
        (with(&[(2, Contradicted), (3, Contradicted)]), vec![contrary, refused]),
        (with(&[(2, Contradicted), (3, RejectedReply), (4, TimedOut)]), vec![contrary, refused, forged]),
        (with(&[(2, TimedOut), (3, TimedOut)]), vec![refused]),
        // The other way round, when all are asked at once.
        (with(&[(0, Contradicted)]), vec![contrary, refused]),
        // No answer is no contrary.
        (with(&[(0, Failed), (1, Contradicted)]), vec![refused]),
        ([Contradicted, NotAsked, NotAsked, NotAsked, NotAsked, NotAsked], vec![refused]),
    ] {
        let record = record(&rules, 7, "www.a.example", &states);
        let alarms = of_record(&source(9), &record);
        assert_eq!(told(&alarms), wants, "{states:?}");
        for alarm in &alarms {
            assert_eq!(alarm.id, format!("9-{}-c0ffee", alarm.kind.as_str()));
            assert_eq!((alarm.entry, alarm.attempt), (9, Some(record.attempt)));
            assert_eq!((alarm.identifier.as_deref(), alarm.method), (Some("www.a.example"), Some("caa")));
            assert_eq!((alarm.at, alarm.permitted), (record.decided, Some(record.verdict.permits())));
        }
    }
    let both = record(&rules, 7, "a.example", &with(&[(2, Contradicted), (4, TimedOut)]));
    let names = |index: usize| both.perspectives[index].perspective.to_string();
    let alarms = of_record(&source(9), &both);
    assert_eq!(alarms[0].perspectives, [names(2)]);
    assert_eq!(alarms[1].perspectives, [names(2), names(4)]);
    assert_eq!(alarms[1].problem, Some(ProblemKind::Caa));
}

#[test]
fn h8_an_attempt_that_was_started_afresh_is_no_failed_validation() {
    let rules = rules();
    let mut record = record(&rules, 7, "a.example", &with(&[(2, Contradicted), (3, Contradicted)]));
    record.restarted = true;
    let alarms = of_record(&source(9), &record);
    assert_eq!(told(&alarms), [(Kind::Contradiction, Severity::High, "unexplained")]);
    assert!(alarms[0].message.contains("starts afresh") && alarms[0].permitted == Some(false), "{alarms:?}");
}

#[test]
fn a12_a_report_that_did_not_count_is_critical() {
    let perspective: PerspectiveId = "iad1".parse().unwrap();
    let (attempt, why) = (AttemptId(7), Rejection::Nonce);
    let entry = RejectedEntry { received: instant(3), perspective, attempt, why, suppressed: 4 };
    let (mut watcher, mut out) = (Watcher::new(30), Vec::new());
    watcher.take(&source(9), Item::Rejected(Box::new(entry)), &mut out);
    assert_eq!(told(&out), [(Kind::RejectedReply, Severity::Critical, "report")]);
    assert_eq!((&out[0].perspectives[..], out[0].attempt), (&["iad1".to_owned()][..], Some(attempt)));
    assert!(out[0].message.contains("nonce") && out[0].message.contains("4 others"), "{}", out[0].message);
}

#[test]
fn h12_a_late_contradiction_is_critical_once_a_permission_was_released() {
    let rules = rules();
    let mut watcher = Watcher::new(30);
    let mut out = Vec::new();
    let passed = record(&rules, 1, "a.example", &with(&[(5, NotAwaited)]));
    let refused = record(&rules, 2, "b.example", &with(&[(5, NotAwaited), (1, TimedOut), (2, TimedOut)]));
    let unknown = record(&rules, 3, "c.example", &with(&[(5, NotAwaited)]));
    watcher.take(&source(1), Item::Setup(Box::new(rules.setup().clone())), &mut out);
    watcher.take(&source(2), Item::Record(Box::new(passed.clone())), &mut out);
    watcher.take(&source(3), Item::Record(Box::new(refused.clone())), &mut out);
    out.clear();
    let entries = [
        late(&passed, 5, Confirmed, false),
        late(&passed, 5, Contradicted, true),
        late(&refused, 5, Contradicted, true),
        late(&unknown, 5, Contradicted, true),
        late(&passed, 4, RejectedReply, false),
    ];
    for (entry, sequence) in entries.into_iter().zip(4..) {
        watcher.take(&source(sequence), Item::Late(Box::new(entry)), &mut out);
    }
    assert_eq!(
        told(&out),
        [
            (Kind::LateContradiction, Severity::Critical, "permission_released"),
            (Kind::LateContradiction, Severity::High, "verdict_refused"),
            (Kind::LateContradiction, Severity::Critical, "verdict_unknown"),
            (Kind::RejectedReply, Severity::Critical, "after_verdict"),
        ]
    );
    assert_eq!(out[0].identifier.as_deref(), Some("a.example"));
    assert_eq!(out[0].perspectives, [passed.perspectives[5].perspective.to_string()]);
    assert_eq!((out[2].identifier.as_deref(), out[2].request.as_deref()), (None, Some("r3")));
    assert_eq!(of_late(&source(4), &late(&passed, 5, Failed, false), None), []);
}

fn lookup(name: &str, rtype: RecordType, outcome: DnsOutcome) -> DnsLookup {
    DnsLookup {
        name: name.to_owned(),
        rtype,
        resolver: "192.0.2.53:53".parse().unwrap(),
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

fn status(status: SecurityStatus) -> Validation {
    Validation {
        status,
        anchor: None,
        signers: Vec::new(),
        insecure: None,
        fault: None,
        first_fault: None,
        links: Vec::new(),
        message: None,
    }
}

fn answer(name: &str, rdata: &[&[u8]]) -> DnsOutcome {
    let rdata = rdata.iter().map(|octets| Octets(octets.to_vec())).collect();
    DnsOutcome::Answer(RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata })
}

fn nothing(serial: u32) -> DnsOutcome {
    let soa = Some(Soa { zone: "a.example".to_owned(), serial });
    DnsOutcome::Nodata(Denial { aliases: Vec::new(), soa })
}

fn observation(control: Option<ControlObservation>, caa: Vec<DnsLookup>) -> Observation {
    Observation {
        started: instant(0),
        elapsed_us: 1,
        control,
        derivation: Vec::new(),
        caa,
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::Local,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    }
}

/// A fetch whose host had these addresses, and which used one of them.
fn fetched(addresses: &[[u8; 4]], used: [u8; 4], serial: u32) -> Observation {
    let rdata: Vec<&[u8]> = addresses.iter().map(<[u8; 4]>::as_slice).collect();
    let hop = HttpHop {
        url: "http://a.example/".to_owned(),
        resolution: vec![
            lookup("a.example", RecordType::A, answer("a.example", &rdata)),
            lookup("a.example", RecordType::Aaaa, nothing(serial)),
        ],
        unused: Vec::new(),
        tries: vec![HttpTry {
            address: (IpAddr::from(used), 80).into(),
            connected_us: Some(1),
            elapsed_us: 1,
            received_bytes: 1,
            end: TryEnd::NoResponse(NetworkError::Reset),
        }],
        tls: None,
        response: None,
    };
    let outcome = HttpOutcome::Failed(parallax_validation::observation::HttpFailure::DeadlineOfTask);
    observation(Some(ControlObservation::Http(HttpObservation { hops: vec![hop], outcome })), Vec::new())
}

#[test]
fn h10_a_contradiction_is_classed_by_what_splits_the_evidence() {
    let rules = rules();
    let (one, two, three) = ([192, 0, 2, 1], [192, 0, 2, 2], [198, 51, 100, 3]);
    let with_caa = |fetched: Observation, rdata: &[u8]| {
        let lookup = lookup("a.example", RecordType::Caa, answer("a.example", &[rdata]));
        Observation { caa: vec![lookup], ..fetched }
    };
    let caa = |outcome| observation(None, vec![lookup("a.example", RecordType::Caa, outcome)]);
    let bogus = DnsOutcome::Failed(DnsFailure::Dnssec(DnssecFault::TooMuchWork));
    let mut unsigned = lookup("a.example", RecordType::Caa, nothing(1));
    unsigned.validation = Some(Box::new(status(SecurityStatus::Insecure)));
    let unsigned = observation(None, vec![unsigned]);
    for (confirming, against, by_control, wants) in [
        (fetched(&[one, two], one, 1), fetched(&[two, one], one, 1), true, "routing"),
        (fetched(&[one, two], one, 1), fetched(&[one, two], two, 1), true, "hosts_differ"),
        (fetched(&[one], one, 1), fetched(&[three], three, 1), true, "split_view"),
        (fetched(&[one], one, 2), fetched(&[three], three, 1), true, "stale_secondary"),
        // Another version of the zone that says the same explains nothing.
        (fetched(&[one], one, 2), fetched(&[one], one, 1), true, "routing"),
        (caa(nothing(1)), caa(answer("a.example", &[b"\0\x05issue;"])), false, "split_view"),
        (unsigned, caa(bogus), false, "dnssec"),
        (caa(nothing(1)), caa(nothing(1)), false, "unexplained"),
        // CAA that differs explains nothing about a fetch.
        (
            with_caa(fetched(&[one], one, 1), b"\0\x05issueca.example"),
            with_caa(fetched(&[one], one, 1), b"\0\x05issue;"),
            true,
            "routing",
        ),
    ] {
        let mut record = record(&rules, 7, "a.example", &with(&[(3, Contradicted)]));
        for (index, part) in record.perspectives.iter_mut().enumerate() {
            let agrees = index != 3;
            part.observation = Some(if agrees { confirming.clone() } else { against.clone() });
            (part.control, part.caa) = if by_control { (Some(agrees), None) } else { (None, Some(agrees)) };
        }
        let alarms = of_record(&source(1), &record);
        assert_eq!(told(&alarms), [(Kind::Contradiction, Severity::High, wants)]);
    }
}

#[test]
fn h10_what_is_bogus_at_one_and_validly_signed_at_others_is_told() {
    let rules = rules();
    let secure = |name: &str| {
        let mut lookup = lookup(name, RecordType::Caa, nothing(1));
        lookup.validation = Some(Box::new(status(SecurityStatus::Secure)));
        observation(None, vec![lookup])
    };
    let bogus = |fault| {
        let failed = DnsOutcome::Failed(DnsFailure::Dnssec(fault));
        observation(None, vec![lookup("a.example", RecordType::Caa, failed)])
    };
    let [owner, rtype, zone] = ["a.example", "CAA", "a.example"].map(str::to_owned);
    let stale = || {
        let (owner, rtype, zone) = (owner.clone(), rtype.clone(), zone.clone());
        DnssecFault::Expired { owner, rtype, zone, at: instant(-1) }
    };
    let forged = || DnssecFault::NoSignature { owner: owner.clone(), rtype: rtype.clone(), zone: zone.clone() };
    let contrary = (Kind::Contradiction, Severity::High, "dnssec");
    let late_contrary = (Kind::LateContradiction, Severity::High, "dnssec");
    let refused = (Kind::FailedValidation, Severity::Low, "caa");
    for (who, here, elsewhere, wants) in [
        (3, bogus(forged()), secure("a.example"), vec![contrary]),
        (0, bogus(forged()), secure("a.example"), vec![contrary, refused]),
        // A server's own old signature, another name, nothing signed: failures.
        (3, bogus(stale()), secure("a.example"), vec![]),
        (3, bogus(forged()), secure("b.example"), vec![]),
        (3, bogus(forged()), observation(None, vec![lookup("a.example", RecordType::Caa, nothing(1))]), vec![]),
    ] {
        let mut record = record(&rules, 7, "a.example", &with(&[(who, Failed)]));
        for (index, part) in record.perspectives.iter_mut().enumerate() {
            part.observation = Some(if index == who { here.clone() } else { elsewhere.clone() });
        }
        let alarms = of_record(&source(1), &record);
        assert_eq!(told(&alarms), wants, "{here:?}");
        if wants.contains(&contrary) {
            let name = record.perspectives[who].perspective.to_string();
            let message = &alarms[0].message;
            assert!(message.starts_with(&format!("What {name} was told is bogus")) && !message.contains("contrary"));
            assert_eq!(alarms[0].perspectives, [name]);
        }
        // The same after the verdict, when it was waited for no longer.
        let mut late = late(&record, who, Failed, false);
        late.perspective.observation = record.perspectives[who].observation.take();
        let alarms = of_late(&source(2), &late, Some(&Known::of(&record)));
        let wants = if wants.contains(&contrary) { vec![late_contrary] } else { Vec::new() };
        assert_eq!(told(&alarms), wants, "{here:?}");
        // What contradicts goes first: being bogus as well makes it no less grave.
        late.perspective.state = Contradicted;
        late.contradicts_verdict = true;
        let mut known = Known::of(&record);
        known.permitted = true;
        let alarms = of_late(&source(2), &late, Some(&known));
        assert_eq!(told(&alarms), [(Kind::LateContradiction, Severity::Critical, "permission_released")]);
    }
}

#[test]
fn h10_a_bogus_answer_is_told_whatever_else_was_asked() {
    let rules = rules();
    let signed = |names: &[String]| {
        let lookups = names.iter().map(|name| {
            let mut lookup = lookup(name, RecordType::A, answer(name, &[&[192, 0, 2, 1]]));
            lookup.validation = Some(Box::new(status(SecurityStatus::Secure)));
            lookup
        });
        lookups.collect::<Vec<_>>()
    };
    let forged = |name: &str| {
        let [owner, rtype, zone] = [name, "A", "example"].map(str::to_owned);
        let fault = DnssecFault::NoSignature { owner, rtype, zone };
        lookup(name, RecordType::A, DnsOutcome::Failed(DnsFailure::Dnssec(fault)))
    };
    // Where redirects led each of them, in an order that is theirs.
    let hosts: Vec<String> = (0..200).map(|number| format!("a{number}.redirects.example")).collect();
    let mut elsewhere = observation(None, signed(&["www.example".to_owned()]));
    elsewhere.derivation = signed(&hosts);
    let mut here = observation(None, vec![forged("www.example")]);
    here.derivation = vec![forged("z.redirects.example")];
    let mut record = record(&rules, 7, "www.example", &with(&[(3, Failed)]));
    for (index, part) in record.perspectives.iter_mut().enumerate() {
        part.observation = Some(if index == 3 { here.clone() } else { elsewhere.clone() });
    }
    assert_eq!(told(&of_record(&source(1), &record)), [(Kind::Contradiction, Severity::High, "dnssec")]);
    let mut late = late(&record, 3, Failed, false);
    late.perspective.observation = record.perspectives[3].observation.take();
    let alarms = of_late(&source(2), &late, Some(&Known::of(&record)));
    assert_eq!(told(&alarms), [(Kind::LateContradiction, Severity::High, "dnssec")]);
    assert!(alarms[0].message.contains("about www.example A is bogus"), "{}", alarms[0].message);
}

#[test]
fn nothing_in_an_alarm_moves_a_cursor_or_has_no_end() {
    let rules = rules();
    let mut record = record(&rules, 7, "a.example", &with(&[(0, Contradicted)]));
    record.explanation.message = format!("a\u{1b}[2J\nb\u{202e}c\u{9b}{}", "x".repeat(100_000));
    for alarm in of_record(&source(1), &record) {
        let text = alarm.as_text();
        assert!(text.ends_with('\n') && text.len() < 4_000, "{}", text.len());
        assert!(!text[..text.len() - 1].contains(|c: char| c.is_control() || c == '\u{202e}'), "{text}");
    }
    assert_eq!(printable("ü\tb"), "ü\\u{9}b");
}

/// One event of a stream: kind, severity, seconds since the one before, perspective.
fn events() -> impl Strategy<Value = Vec<(u8, u8, i64, u8)>> {
    // The clock may step back.
    proptest::collection::vec((0..4_u8, 0..3_u8, -40..90_i64, 0..5_u8), 0..400)
}

fn sum(counts: &BTreeMap<impl Ord, u64>) -> u64 {
    counts.values().sum()
}

proptest! {
    #[test]
    fn h12_every_event_is_told_once_by_itself_or_in_a_digest(
        events in events(), per_minute in 1..8_u32, ticks in proptest::collection::vec(0..400_usize, 0..6)
    ) {
        let mut limiter = Limiter::new(per_minute);
        let (mut told, mut seconds, mut latest) = (Vec::new(), 0, 0);
        for (index, (kind, severity, step, perspective)) in events.iter().enumerate() {
            seconds += step;
            latest = latest.max(seconds);
            let kind = [Kind::Contradiction, Kind::FailedValidation, Kind::RejectedReply, Kind::Pattern][usize::from(*kind)];
            let severity = [Severity::Low, Severity::High, Severity::Critical][usize::from(*severity)];
            let source = source(index as u64 + 1);
            let alarm = Alarm {
                perspectives: vec![format!("p{perspective}")],
                method: Some("caa"),
                ..Alarm::bare(&source, kind, severity, "class", instant(seconds))
            };
            limiter.offer(&source, alarm, &mut told);
            // Whatever is not told yet holds the cursor back.
            let held = limiter.first_held().unwrap_or(u64::MAX);
            let out = told.iter().filter(|alarm| alarm.kind != Kind::Digest).map(|alarm| alarm.entry);
            let digests = told.iter().filter_map(|alarm| alarm.digest.as_ref()).map(|digest| digest.total).sum::<u64>();
            prop_assert_eq!(out.count() as u64 + digests < index as u64 + 1, held <= index as u64 + 1);
            if ticks.contains(&index) {
                limiter.tick(instant(latest + 61), &mut told);
                prop_assert_eq!(limiter.first_held(), None);
            }
        }
        limiter.end(&mut told);
        prop_assert_eq!(limiter.first_held(), None);
        let digests: Vec<&Digest> = told.iter().filter_map(|alarm| alarm.digest.as_ref()).collect();
        let single = told.iter().filter(|alarm| alarm.digest.is_none()).count() as u64;
        let counted: u64 = digests.iter().map(|digest| digest.total).sum();
        prop_assert_eq!(single + counted, events.len() as u64);
        for digest in &digests {
            for counts in [sum(&digest.kinds), sum(&digest.severities), sum(&digest.classes), sum(&digest.perspectives), sum(&digest.methods)] {
                prop_assert_eq!(counts, digest.total);
            }
            prop_assert_eq!(digest.first_ids.len() as u64, digest.total.min(10));
        }
        // A digest is at least as severe as what it counts, and names stay apart.
        for alarm in told.iter().filter(|alarm| alarm.severity == Severity::Low) {
            prop_assert!(alarm.digest.as_ref().is_none_or(|digest| !digest.severities.contains_key("critical")));
        }
        let ids: std::collections::BTreeSet<&str> = told.iter().map(|alarm| alarm.id.as_str()).collect();
        prop_assert_eq!(ids.len(), told.len());
    }
}

#[test]
fn h12_the_rate_is_by_kind_severity_and_minute() {
    let mut limiter = Limiter::new(2);
    let mut told = Vec::new();
    let mut offer = |sequence: u64, second: i64, kind: Kind| {
        let alarm = Alarm::bare(&source(sequence), kind, Severity::Low, "class", instant(second));
        limiter.offer(&source(sequence), alarm, &mut told);
        told.iter().map(|alarm| (alarm.kind, alarm.entry)).collect::<Vec<_>>()
    };
    // The instants begin at 40 seconds of a minute.
    let mut after = Vec::new();
    for (sequence, second, kind) in [
        (1, 0, Kind::FailedValidation),
        (2, 1, Kind::FailedValidation),
        (3, 2, Kind::FailedValidation),
        (4, 3, Kind::Contradiction),
        // Out of order: still the same minute.
        (5, -30, Kind::FailedValidation),
        (6, 20, Kind::FailedValidation),
    ] {
        after = offer(sequence, second, kind);
    }
    let single = |kind, entries: &[u64]| entries.iter().map(|entry| (kind, *entry)).collect::<Vec<_>>();
    let mut wants = single(Kind::FailedValidation, &[1, 2]);
    wants.extend(single(Kind::Contradiction, &[4]));
    wants.extend(single(Kind::Digest, &[5]));
    wants.extend(single(Kind::FailedValidation, &[6]));
    assert_eq!(after, wants);
    let digest = &told[3];
    assert_eq!((digest.first_entry, digest.id.as_str()), (3, "5-digest-c0ffee"));
    assert_eq!(digest.digest.as_ref().map(|digest| digest.total), Some(2));
}

fn watched(rules: &Rules) -> Watcher {
    let mut watcher = Watcher::new(100_000);
    watcher.take(&source(1), Item::Setup(Box::new(rules.setup().clone())), &mut Vec::new());
    watcher
}

/// The patterns that a stream of records makes.
fn patterns(watcher: &mut Watcher, records: impl IntoIterator<Item = Record>) -> Vec<Alarm> {
    let mut out = Vec::new();
    for (record, sequence) in records.into_iter().zip(2..) {
        watcher.take(&source(sequence), Item::Record(Box::new(record)), &mut out);
    }
    out.retain(|alarm| alarm.kind == Kind::Pattern);
    out
}

#[test]
fn h11_a_perspective_that_differs_is_told_with_its_numbers() {
    let rules = rules();
    let states = |number: u64| if number.is_multiple_of(4) { with(&[(3, TimedOut)]) } else { ALL };
    let records = (0..400).map(|number| record(&rules, number, &format!("n{number}.example"), &states(number)));
    let mut watcher = watched(&rules);
    let found = patterns(&mut watcher, records);
    let perspective = rules.setup().perspectives[3].id.to_string();
    let own: Vec<&Alarm> = found.iter().filter(|alarm| alarm.id.contains("pattern-perspective-")).collect();
    assert_eq!(told(&found)[0], (Kind::Pattern, Severity::High, "differs"));
    assert_eq!(own.len(), 1, "{found:?}");
    let pattern = own[0].pattern.as_ref().unwrap();
    assert_eq!(
        (pattern.key.as_str(), own[0].perspectives.as_slice()),
        (perspective.as_str(), &[perspective.clone()][..])
    );
    assert_eq!(pattern.others_answers, 4 * pattern.answers);
    assert_eq!(pattern.others_refusing, 0);
    assert!(pattern.refusing * 4 >= pattern.answers - 4 && pattern.refusing > 10, "{pattern:?}");
    assert!(own[0].message.contains("take it out of the configuration"), "{}", own[0].message);
    let report = watcher.report();
    let row = report.rows.iter().find(|row| row.sort == "perspective" && row.key == perspective).unwrap();
    assert!(row.differs);
    assert_eq!((row.all.attempts, row.all.timed_out, row.all.confirmed), (400, 100, 300));
    assert!(as_text(&report).contains("differs from the others"));
}

#[test]
fn h11_one_subscriber_alone_makes_no_pattern() {
    let rules = rules();
    let mut watcher = watched(&rules);
    let states = with(&[(3, Contradicted)]);
    let records = (0..2_000).map(|number| record(&rules, number, &format!("n{number}.victim.example"), &states));
    assert_eq!(patterns(&mut watcher, records), []);
}

#[test]
fn h11_what_was_not_asked_or_not_awaited_never_counts() {
    let rules = rules();
    let mut watcher = watched(&rules);
    let states = |number: u64| with(&[(3, [NotAwaited, Cancelled, NotAsked][(number % 3) as usize])]);
    let records = (0..600).map(|number| record(&rules, number, &format!("n{number}.example"), &states(number)));
    assert_eq!(patterns(&mut watcher, records), []);
    let perspective = rules.setup().perspectives[3].id.to_string();
    assert!(watcher.report().rows.iter().all(|row| row.key != perspective));
    // A primary that refuses says nothing about the remotes either.
    let mut refusing = with(&[(0, Failed), (3, TimedOut)]);
    refusing[5] = TimedOut;
    let records = (600..1_200).map(|number| record(&rules, number, &format!("n{number}.example"), &refusing));
    assert_eq!(patterns(&mut watcher, records), []);
    // Nor does an attempt that most remotes did not confirm: it is the target that differs.
    let most = with(&[(1, TimedOut), (2, TimedOut), (3, TimedOut)]);
    let records = (1_200..1_800).map(|number| record(&rules, number, &format!("n{number}.example"), &most));
    assert_eq!(patterns(&mut watcher, records), []);
}

#[test]
fn h11_the_last_hour_is_told_apart_and_tables_are_bounded() {
    let rules = rules();
    let mut watcher = watched(&rules);
    let records = (0..5_000_u64).map(|number| {
        let mut record = record(&rules, number, &format!("n{number}.example"), &with(&[(3, Failed)]));
        let octets = (number as u32).to_be_bytes();
        let address = [10, octets[2], octets[3], 7];
        record.perspectives[3].observation = Some(fetched(&[address], address, 1));
        record
    });
    patterns(&mut watcher, records);
    let report = watcher.report();
    assert_eq!(report.left_out.prefixes, 5_000 - 4_096);
    let rows: Vec<_> = report.rows.iter().filter(|row| row.sort == "prefix").collect();
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row.key.ends_with(".0/24")), "{rows:?}");
    let server = report.rows.iter().find(|row| row.sort == "server").unwrap();
    assert_eq!((server.key.as_str(), server.all.failed), ("192.0.2.53", 5_000));
    // The window holds twelve parts of five minutes, the last of them begun.
    assert!((3_300..=3_600).contains(&server.last_hour.failed), "{server:?}");
    let method = report.rows.iter().find(|row| row.sort == "method").unwrap();
    assert_eq!((method.key.as_str(), method.all.attempts), ("caa", 30_000));
}

#[test]
fn h11_no_figure_has_a_name_an_address_or_a_forged_perspective_as_label() {
    let rules = rules();
    let mut watcher = watched(&rules);
    for number in 0..50 {
        let mut record = record(&rules, number, &format!("marker{number}.marker.example"), &with(&[(2, Contradicted)]));
        record.request = request(&format!("marker{number}.marker.example"), &format!("marker-{number}"));
        record.method = "marker".to_owned();
        record.explanation.message = "marker".to_owned();
        record.perspectives[1].perspective = format!("marker{number}").parse::<PerspectiveId>().unwrap();
        record.perspectives[2].observation = Some(fetched(&[[203, 0, 113, 77]], [203, 0, 113, 77], 1));
        let mut forged = late(&record, 1, Contradicted, true);
        watcher.take(&source(2 + number), Item::Record(Box::new(record.clone())), &mut Vec::new());
        watcher.take(&source(3 + number), Item::Late(Box::new(forged.clone())), &mut Vec::new());
        // Of an attempt that is not known.
        forged.attempt = AttemptId(1 << 100);
        watcher.take(&source(4 + number), Item::Late(Box::new(forged)), &mut Vec::new());
        // A setup that is not there.
        record.setup = "marker".to_owned();
        watcher.take(&source(5 + number), Item::Record(Box::new(record)), &mut Vec::new());
    }
    let text = watcher.metrics.text();
    for word in ["marker", "203.0.113", "192.0.2.53"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    let known = rules.setup().perspectives[2].clone();
    let line = format!(
        "parallax_perspective_answers_total{{perspective=\"{}\",rir=\"{}\",as_number=\"{}\",state=\"contradicted\"}} 50",
        known.id, known.rir, known.as_number
    );
    for line in [
        line.as_str(),
        "parallax_unknown_perspective_answers_total 450",
        "parallax_alarms_total{kind=\"late_contradiction\",severity=\"critical\"} 100",
        "parallax_attempts_total{method=\"caa\",verdict=\"corroborated\"} 100",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert_eq!(watcher.report().left_out.unknown, 50 + 300);
}

#[test]
fn a_setup_that_cannot_be_used_is_told_and_its_perspectives_are_not_known() {
    let rules = rules();
    let mut setup = rules.setup().clone();
    setup.perspectives.reverse();
    let mut watcher = Watcher::new(30);
    let told = watcher.take(&source(1), Item::Setup(Box::new(setup)), &mut Vec::new());
    assert!(told.is_some_and(|text| text.starts_with("perspectives: one primary, first")));
    let mut out = Vec::new();
    let record = record(&rules, 1, "a.example", &with(&[(2, Contradicted)]));
    watcher.take(&source(2), Item::Record(Box::new(record)), &mut out);
    assert_eq!(told_kinds(&out), [Kind::Contradiction], "the alarm comes all the same");
    let report = watcher.report();
    assert_eq!((report.left_out.unknown, report.rows.len()), (6, 0));
}

fn told_kinds(alarms: &[Alarm]) -> Vec<Kind> {
    alarms.iter().map(|alarm| alarm.kind).collect()
}

#[test]
fn h11_figures_stay_few_whatever_setups_a_journal_has() {
    let rules = rules();
    let mut watcher = watched(&rules);
    for number in 0..400_u32 {
        let mut setup = rules.setup().clone();
        setup.perspectives.iter_mut().for_each(|perspective| perspective.as_number = number);
        let rules = setup.rules().unwrap();
        watcher.take(&source(2), Item::Setup(Box::new(rules.setup().clone())), &mut Vec::new());
        let record = record(&rules, u64::from(number), "a.example", &ALL);
        watcher.take(&source(3), Item::Record(Box::new(record)), &mut Vec::new());
    }
    let series = watcher.metrics.text().lines().filter(|line| line.starts_with("parallax_perspective_answers")).count();
    assert_eq!(series, 64);
    assert!(watcher.report().rows.iter().filter(|row| row.sort == "network").count() <= 512);
}
