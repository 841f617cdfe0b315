//! One question to a resolver, by RFC section: matching, retransmission, TCP, aliases, denials.

use parallax_validation::{
    base::{Entropy, Micros},
    lookup::dns::{
        message::{Match, Question, compose, match_reply},
        query::{Query, QueryLimits, QueryStep},
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, DnsTransport, NetworkError, RecordType, TcpReason},
};

const NAME: &str = "www.customer.example";
const START: Micros = Micros(1_000_000);

struct Counter(u64);

impl Entropy for Counter {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ self.0 >> 29
    }
}

/// A name in wire form.
fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|l| !l.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

fn record(owner: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    [&wire(owner)[..], &rtype.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &(rdata.len() as u16).to_be_bytes(), rdata]
        .concat()
}

fn soa(zone: &str) -> Vec<u8> {
    let numbers = [2_026_122_001_u32, 3600, 600, 86400, 300].map(u32::to_be_bytes).concat();
    record(zone, 6, 300, &[wire("ns1.customer.example"), wire("host.customer.example"), numbers].concat())
}

/// A reply to `query` with the question copied as it was sent.
fn reply(query: &[u8], flags: u16, answers: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    let end = query.len() - 11;
    let counts = [1, answers.len() as u16, authority.len() as u16, 0].map(u16::to_be_bytes).concat();
    [&query[..2], &(0x8180 | flags).to_be_bytes(), &counts, &query[12..end], &answers.concat(), &authority.concat()]
        .concat()
}

fn begun(rtype: RecordType) -> (Query, Vec<u8>) {
    let question = Question::new(NAME, rtype).expect("a good name");
    let limits = QueryLimits { try_ms: 1000, transmissions: 2, deadline: START.plus_ms(10_000) };
    let mut query = Query::new(question, "192.0.2.53:53".parse().expect("an address"), limits, START);
    let mut packet = Vec::new();
    query.compose(START, 0x1234, &mut Counter(7), &mut packet);
    (query, packet)
}

fn outcome_of(rtype: RecordType, flags: u16, answers: &[Vec<u8>], authority: &[Vec<u8>]) -> DnsOutcome {
    let (mut query, packet) = begun(rtype);
    assert_eq!(query.handle_datagram(START, &reply(&packet, flags, answers, authority)), QueryStep::Done);
    query.finish(START).0.outcome
}

#[test]
fn a_query_asks_with_edns_1232_do_and_mixed_case() {
    let (_, packet) = begun(RecordType::Caa);
    assert_eq!(&packet[..12], &[0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    let (opt, head) = (&packet[packet.len() - 11..], &packet[12..packet.len() - 11]);
    assert_eq!(opt, &[0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0], "OPT, 1232 octets, DO");
    assert!(head.eq_ignore_ascii_case(&[&wire(NAME)[..], &[1, 1, 0, 1]].concat()));
    assert!(head.iter().any(u8::is_ascii_uppercase) && head.iter().any(u8::is_ascii_lowercase), "case is mixed");
}

#[test]
fn b14_only_the_exact_reply_matches() {
    let mut question = Question::new(NAME, RecordType::A).expect("a good name");
    question.mix_case(&mut Counter(1));
    let sent = question.section().to_vec();
    let mut packet = Vec::new();
    compose(&question, 7, &mut packet);
    let good = reply(&packet, 0, &[], &[]);
    assert_eq!(match_reply(&good, 7, &sent), Match::Reply);
    assert_eq!(match_reply(&good, 8, &sent), Match::Stray, "another id");
    assert_eq!(match_reply(&packet, 7, &sent), Match::Stray, "a query is no reply");
    assert_eq!(match_reply(&good[..20], 7, &sent), Match::Stray, "too short");
    let mut other = good.clone();
    other[14] = b'x';
    assert_eq!(match_reply(&other, 7, &sent), Match::Stray, "another name");
    let mut cased = good.clone();
    cased[13..16].make_ascii_lowercase();
    cased[17..25].make_ascii_uppercase();
    assert_eq!(match_reply(&cased, 7, &sent), Match::CaseDiffers);
    let mut truncated = good.clone();
    truncated[2] |= 0x02;
    assert_eq!(match_reply(&truncated, 7, &sent), Match::Truncated);
    let mut notify = good;
    notify[2] |= 0x20;
    assert_eq!(match_reply(&notify, 7, &sent), Match::Stray, "another opcode");
}

#[test]
fn b14_nothing_is_taken_before_the_query_was_sent() {
    let question = Question::new(NAME, RecordType::Caa).expect("a good name");
    let limits = QueryLimits { try_ms: 1000, transmissions: 2, deadline: START.plus_ms(10_000) };
    let mut query = Query::new(question, "192.0.2.53:53".parse().expect("an address"), limits, START);
    let late = [&[0, 0, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0][..], &wire("other.example"), &[1, 1, 0, 1]].concat();
    assert_eq!(query.handle_datagram(START, &late), QueryStep::Wait);
    assert_eq!(match_reply(&late, 0, &[]), Match::Stray);
}

#[test]
fn b14_stray_packets_are_counted_and_do_not_end_the_wait() {
    let (mut query, packet) = begun(RecordType::A);
    let good = reply(&packet, 0, &[record(NAME, 1, 60, &[192, 0, 2, 10])], &[]);
    let mut forged = good.clone();
    forged[14] = b'x';
    for _ in 0..3 {
        assert_eq!(query.handle_datagram(START, &forged), QueryStep::Wait);
    }
    assert_eq!(query.handle_datagram(START, b"?"), QueryStep::Wait);
    assert_eq!(query.handle_datagram(START, &good), QueryStep::Done);
    let seen = query.finish(START).0;
    assert!(matches!(seen.outcome, DnsOutcome::Answer(_)) && seen.ignored_replies == 4, "{seen:?}");
}

/// Nothing that came in less than the time of a try is silence, over either transport.
#[test]
fn a_try_that_its_deadline_cuts_short_is_no_silence() {
    let question = || Question::new(NAME, RecordType::Caa).expect("a good name");
    let peer = "192.0.2.53:53".parse().expect("an address");
    let ends = |left_ms: u64, over_tcp: bool| {
        let limits = QueryLimits { try_ms: 1000, transmissions: 1, deadline: START.plus_ms(left_ms) };
        let begin = if over_tcp { Query::over_stream } else { Query::new };
        let mut query = begin(question(), peer, limits, START);
        if over_tcp {
            let _ = query.handle_connected(7);
        } else {
            query.compose(START, 7, &mut Counter(1), &mut Vec::new());
        }
        let at = query.timeout();
        assert_eq!(query.handle_timeout(at), QueryStep::Done);
        (query.is_timed_out(), query.finish(at).0.outcome)
    };
    let failed = |failure| DnsOutcome::Failed(failure);
    for over_tcp in [false, true] {
        assert_eq!(ends(999, over_tcp), (None, failed(DnsFailure::DeadlineOfTask)), "{over_tcp}");
        let silent = if over_tcp { DnsFailure::Tcp(NetworkError::Timeout) } else { DnsFailure::Timeout };
        assert_eq!(ends(1000, over_tcp), (Some(true), failed(silent)), "{over_tcp}");
    }
}

#[test]
fn a_silent_resolver_is_asked_again_once_with_the_same_packet() {
    let (mut query, first) = begun(RecordType::A);
    assert_eq!(query.handle_timeout(START.plus_ms(999)), QueryStep::Wait);
    assert_eq!(query.handle_timeout(START.plus_ms(1000)), QueryStep::Transmit);
    let mut again = Vec::new();
    query.compose(START.plus_ms(1000), 0x9999, &mut Counter(99), &mut again);
    assert_eq!(first, again);
    assert_eq!(query.handle_timeout(START.plus_ms(2000)), QueryStep::Done);
    let seen = query.finish(START.plus_ms(2000)).0;
    assert_eq!((seen.transmissions, seen.outcome), (2, DnsOutcome::Failed(DnsFailure::Timeout)));
}

/// What a query waited for before it was sent is none of the resolver's time, and none of its try's.
#[test]
fn the_time_of_a_query_begins_when_it_is_sent() {
    let question = Question::new(NAME, RecordType::Caa).expect("a good name");
    let limits = QueryLimits { try_ms: 1000, transmissions: 2, deadline: START.plus_ms(10_000) };
    let mut query = Query::new(question, "192.0.2.53:53".parse().expect("an address"), limits, START);
    let (sent, mut packet) = (START.plus_ms(700), Vec::new());
    query.compose(sent, 7, &mut Counter(7), &mut packet);
    assert_eq!(query.timeout(), sent.plus_ms(1000));
    let again = sent.plus_ms(1000);
    assert_eq!(query.handle_timeout(again), QueryStep::Transmit);
    query.compose(again.plus_ms(300), 7, &mut Counter(7), &mut packet);
    assert_eq!(query.timeout(), again.plus_ms(1300));
    let came = again.plus_ms(400);
    assert_eq!(query.handle_datagram(came, &reply(&packet, 0x8182, &[], &[])), QueryStep::Done);
    assert_eq!(query.finish(came).0.elapsed_us, 1_400_000, "from the first sending on");
}

/// What waits for room to be sent asks for it once, and what was never sent is no silence.
#[test]
fn a_query_that_cannot_be_sent_waits_for_its_deadline_and_was_not_asked() {
    let question = || Question::new(NAME, RecordType::Caa).expect("a good name");
    let limits = QueryLimits { try_ms: 1000, transmissions: 2, deadline: START.plus_ms(10_000) };
    let peer = "192.0.2.53:53".parse().expect("an address");
    let mut query = Query::new(question(), peer, limits, START);
    assert_eq!(query.timeout(), limits.deadline);
    assert_eq!(query.handle_timeout(START.plus_ms(9_999)), QueryStep::Wait);
    assert_eq!(query.handle_timeout(limits.deadline), QueryStep::Done);
    assert_eq!(query.finish(limits.deadline).0.outcome, DnsOutcome::Failed(DnsFailure::DeadlineOfTask));
    // The same for a retransmission: until it leaves, a reply to the first still counts.
    let (mut query, packet) = begun(RecordType::A);
    assert_eq!(query.handle_timeout(START.plus_ms(1000)), QueryStep::Transmit);
    assert_eq!(query.handle_timeout(START.plus_ms(5000)), QueryStep::Wait);
    assert_eq!(query.handle_datagram(START.plus_ms(5500), &reply(&packet, 0x8180, &[], &[])), QueryStep::Done);
    assert_eq!(query.finish(START.plus_ms(5500)).0.transmissions, 1);
}

fn over_tcp(reason: TcpReason, spoil: impl Fn(&mut Vec<u8>)) -> DnsLookup {
    let (mut query, packet) = begun(RecordType::A);
    let mut spoilt = reply(&packet, 0, &[record(NAME, 1, 60, &[192, 0, 2, 66])], &[]);
    spoil(&mut spoilt);
    assert_eq!(query.handle_datagram(START, &spoilt), QueryStep::OpenStream, "{reason:?}");
    let QueryStep::SendStream(sent) = query.handle_connected(0x4321) else { panic!("nothing sent") };
    assert_eq!(usize::from(u16::from_be_bytes([sent[0], sent[1]])), sent.len() - 2);
    assert!(!sent[14..sent.len() - 11].iter().any(u8::is_ascii_uppercase), "plain case over TCP");
    let good = reply(&sent[2..], 0, &[record(NAME, 1, 60, &[192, 0, 2, 10])], &[]);
    let framed = [&(good.len() as u16).to_be_bytes()[..], &good].concat();
    for octet in &framed[..framed.len() - 1] {
        assert_eq!(query.handle_stream(&[*octet]), QueryStep::Wait);
    }
    assert_eq!(query.handle_stream(&framed[framed.len() - 1..]), QueryStep::Done);
    let seen = query.finish(START).0;
    assert_eq!((seen.transport, seen.tcp_because), (DnsTransport::Tcp, Some(reason)));
    seen
}

#[test]
fn truncation_changed_case_and_damage_go_to_tcp_and_nothing_of_the_datagram_is_used() {
    for seen in [
        over_tcp(TcpReason::Truncated, |packet| packet[2] |= 0x02),
        over_tcp(TcpReason::CaseNotCopied, |packet| packet[12..32].make_ascii_uppercase()),
        over_tcp(TcpReason::Malformed, |packet| packet.truncate(packet.len() - 3)),
    ] {
        let DnsOutcome::Answer(set) = seen.outcome else { panic!("{:?}", seen.outcome) };
        assert_eq!(set.rdata[0].as_slice(), [192, 0, 2, 10], "the answer over TCP");
    }
}

#[test]
fn a_tcp_failure_after_truncation_is_a_failure_with_its_reason() {
    for (event, error) in [(Some(NetworkError::Refused), NetworkError::Refused), (None, NetworkError::ClosedEarly)] {
        let (mut query, packet) = begun(RecordType::A);
        query.handle_datagram(START, &reply(&packet, 0x0200, &[], &[]));
        let step = match event {
            Some(error) => query.handle_stream_failed(error),
            None => {
                query.handle_connected(1);
                query.handle_stream(&[])
            }
        };
        assert_eq!(step, QueryStep::Done);
        assert_eq!(query.finish(START).0.outcome, DnsOutcome::Failed(DnsFailure::Tcp(error)));
    }
}

#[test]
fn rfc1034_aliases_are_followed_in_any_order_and_loops_are_named() {
    let a = record("c.host.example", 1, 30, &[192, 0, 2, 10]);
    let first = record(NAME, 5, 60, &wire("b.host.example"));
    let second = record("B.host.example", 5, 20, &wire("c.host.example"));
    let DnsOutcome::Answer(set) = outcome_of(RecordType::A, 0, &[a, second, first.clone()], &[]) else {
        panic!("no answer")
    };
    assert_eq!((set.owner.as_str(), set.ttl, set.aliases.len()), ("c.host.example", 20, 2));
    let back = record("b.host.example", 5, 20, &wire(NAME));
    let looped = outcome_of(RecordType::A, 0, &[first, back], &[soa("host.example")]);
    assert!(matches!(looped, DnsOutcome::Failed(DnsFailure::AliasLoop(ref chain)) if chain.len() == 2), "{looped:?}");
    let chain: Vec<_> = std::iter::once(record(NAME, 5, 60, &wire("h0.example")))
        .chain((0..20).map(|n| record(&format!("h{n}.example"), 5, 60, &wire(&format!("h{}.example", n + 1)))))
        .collect();
    assert_eq!(outcome_of(RecordType::A, 0, &chain, &[]), DnsOutcome::Failed(DnsFailure::AliasChainTooLong));
}

#[test]
fn rfc6672_a_dname_above_the_name_is_followed_and_one_at_it_is_not() {
    let dname = record("customer.example", 39, 60, &wire("moved.example"));
    let target = record("www.moved.example", 257, 60, &[0, 5, b'i', b's', b's', b'u', b'e', b';']);
    let DnsOutcome::Answer(set) = outcome_of(RecordType::Caa, 0, &[dname, target], &[]) else { panic!("no answer") };
    assert!(set.aliases[0].dname && set.owner == "www.moved.example");
    let at_owner = record(NAME, 39, 60, &wire("moved.example"));
    let outcome = outcome_of(RecordType::Caa, 0, &[at_owner], &[soa("customer.example")]);
    assert!(matches!(outcome, DnsOutcome::Nodata(ref denial) if denial.aliases.is_empty()), "{outcome:?}");
}

#[test]
fn rfc2308_a_denial_carries_its_soa_and_silence_is_never_empty() {
    let nodata = outcome_of(RecordType::Caa, 0, &[], &[soa("customer.example")]);
    assert!(matches!(nodata, DnsOutcome::Nodata(ref d) if d.soa.as_ref().is_some_and(|s| s.serial == 2_026_122_001)));
    assert!(matches!(outcome_of(RecordType::Caa, 3, &[], &[]), DnsOutcome::Nxdomain(_)));
    let referral = record("customer.example", 2, 3600, &wire("ns1.customer.example"));
    let silent = outcome_of(RecordType::Caa, 0, &[], &[referral]);
    assert_eq!(silent, DnsOutcome::Failed(DnsFailure::IncompleteChain(NAME.to_owned())));
    let alias = record(NAME, 5, 60, &wire("t.cdn.example"));
    let foreign = outcome_of(RecordType::Caa, 0, std::slice::from_ref(&alias), &[soa("customer.example")]);
    assert_eq!(
        foreign,
        DnsOutcome::Failed(DnsFailure::IncompleteChain("t.cdn.example".to_owned())),
        "another zone's SOA"
    );
    let silent = outcome_of(RecordType::Caa, 0, &[alias], &[]);
    assert_eq!(silent, DnsOutcome::Failed(DnsFailure::IncompleteChain("t.cdn.example".to_owned())));
}

#[test]
fn records_of_other_names_types_and_classes_are_no_answer() {
    let other = record("www.attacker.example", 1, 60, &[192, 0, 2, 66]);
    let mut chaos = record(NAME, 1, 60, &[192, 0, 2, 66]);
    let class_at = wire(NAME).len() + 3;
    chaos[class_at] = 3;
    let outcome =
        outcome_of(RecordType::A, 0, &[other, chaos, record(NAME, 16, 60, b"\x01x")], &[soa("customer.example")]);
    assert!(matches!(outcome, DnsOutcome::Nodata(_)), "{outcome:?}");
}

#[test]
fn b12_error_codes_are_failures_with_their_code() {
    for code in [1, 2, 4, 5, 9] {
        assert_eq!(outcome_of(RecordType::Caa, code, &[], &[]), DnsOutcome::Failed(DnsFailure::Rcode(code)));
    }
}
