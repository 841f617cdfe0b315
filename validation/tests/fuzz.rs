//! Arbitrary and nearly right input: no panic, bounded output, and an end in every case.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
};

use parallax_validation::{
    base::{
        Entropy, Micros,
        address::AddressFilter,
        limits::{
            ALIAS_HOPS_MAX, CHECK_QUERIES_MAX, DIAGNOSED_SERVERS_MAX, DIAGNOSIS_PARENTS_MAX, DIAGNOSIS_QUERIES_MAX,
            EDE_MAX, EDE_TEXT_BYTES_MAX, HTTP_BODY_BYTES_MAX, HTTP_REDIRECTS_MAX, NAME_OCTETS_MAX, NSID_BYTES_MAX,
            SURVEY_KEPT_BYTES_MAX, SURVEY_PARENTS_MAX, SURVEY_QUERIES_MAX, SURVEYED_ADDRESSES_MAX,
            SURVEYED_SERVERS_MAX, URL_BYTES_MAX,
        },
        perspective::{Coordinates, Perspective, ResolverSite, Rir, Role},
    },
    check::caa::authorize::CaaPolicy,
    lookup::{
        Dnssec,
        dns::{
            message::{Match, Question, compose, match_reply, read_reply},
            query::{Query, QueryLimits, QueryStep},
        },
        dnssec::{anchor::TrustAnchors, chain::ZoneCache},
        http::{
            redirect::Target,
            response::{Progress, Response},
        },
        task::{Command, Site, Stream, Task, TaskSettings, TurnEvent},
        tls::{TlsSettings, rustls},
    },
    observation::{
        ControlObservation, DnsFailure, DnsLookup, DnsOutcome, HttpOutcome, NetworkError, Observation, RecordType,
        ServerView, Survey,
    },
    plan::{ControlPlan, Hint, HintKind, Host, Plan, PlanLimits, survey::SurveyPlan},
    preflight::{Subject, judge},
    record::{Conduct, FORM_VERSION, Rules, Setup},
    request::{CheckRequest, RawRequest},
};
use proptest::{collection::vec, prelude::*};

/// Text of a label or a header kept as evidence can quadruple when it is escaped; nothing is larger.
const NAME_TEXT_MAX: usize = 4 * NAME_OCTETS_MAX + 8;

struct Bits(u64);

impl Entropy for Bits {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 33)
    }
}

fn settings() -> ProptestConfig {
    // 256 cases, or as many as PROPTEST_CASES says.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn tls() -> TlsSettings {
    TlsSettings::new(rustls::crypto::ring::default_provider()).expect("TLS 1.2 and 1.3 are built in")
}

fn resolver() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(127, 0, 0, 53), 53))
}

// ---- DNS packets -------------------------------------------------------------------------------------

/// What is done to a packet that was right.
#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        4 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, with)| Damage::Flip(at, with)),
        1 => any::<prop::sample::Index>().prop_map(Damage::Cut),
        1 => (any::<prop::sample::Index>(), vec(any::<u8>(), 0..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
    ];
    vec(one, 0..4)
}

fn damaged(mut packet: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for step in damage {
        match step {
            Damage::Flip(at, with) if !packet.is_empty() => {
                let at = at.index(packet.len());
                packet[at] ^= with;
            }
            Damage::Flip(..) => {}
            Damage::Cut(at) => packet.truncate(at.index(packet.len() + 1)),
            Damage::Insert(at, bytes) => {
                let at = at.index(packet.len() + 1);
                packet.splice(at..at, bytes.iter().copied());
            }
        }
    }
    packet
}

/// A record: which name owns it, its type, and its data.
type RecordParts = (u8, u8, Vec<u8>);

fn records() -> impl Strategy<Value = Vec<RecordParts>> {
    vec((0..24u8, 0..11u8, vec(any::<u8>(), 0..40)), 0..24)
}

/// Names in wire form: the one asked as a pointer, some others, one that points at itself.
fn owner(number: u8) -> Vec<u8> {
    match number {
        0..=3 => vec![0xc0, 12],
        4 => vec![0],
        5 => vec![0xc0, 0xff],
        6 => vec![1, b'e', 0xc0, 12],
        n => vec![2, b'n', b'a' + n, 0],
    }
}

/// A reply to the composed query, with records of a few types in all sections.
fn reply_to(query: &[u8], flags: u16, records: &[RecordParts]) -> Vec<u8> {
    let name = query[12..].iter().position(|&b| b == 0).expect("a name ends");
    let mut packet = query[..12 + name + 5].to_vec();
    packet[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    let third = records.len() / 3;
    let (answers, authority, additional) = (records.len() - 2 * third, third, third);
    for (at, count) in [(6, answers), (8, authority), (10, additional)] {
        packet[at..at + 2].copy_from_slice(&(count as u16).to_be_bytes());
    }
    for (number, kind, data) in records {
        let first = data.first().copied().unwrap_or(0);
        let (rtype, rdata) = match kind {
            0 => (16, data.clone()),
            1 => (257, data.clone()),
            2 => (1, data.clone()),
            3 | 4 => (5, owner(first % 24)),
            5 => (39, owner(first % 24)),
            6 => (6, [owner(first % 24), owner(4), vec![first; 20]].concat()),
            7 => (2, owner(first % 24)),
            8 => (1, if first % 4 == 0 { vec![10, 0, 0, first] } else { vec![8, 8, first, 4] }),
            9 => (46, [&[1, 1, 13, 2, 0, 0, 0, 60, first, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0], data.as_slice()].concat()),
            _ => (41, [&[0, if first % 2 == 0 { 3 } else { 15 }, 0, data.len() as u8], data.as_slice()].concat()),
        };
        packet.extend_from_slice(&owner(*number));
        packet.extend_from_slice(&[(rtype >> 8) as u8, rtype as u8, 0, 1, 0, 0, 0, 60]);
        packet.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        packet.extend_from_slice(&rdata);
    }
    packet
}

fn flags() -> impl Strategy<Value = u16> {
    prop_oneof![6 => Just(0u16), 1 => Just(3), 1 => Just(2), 1 => Just(0x0200), 1 => any::<u16>()]
}

fn assert_bounded_lookup(outcome: &DnsOutcome, packet_octets: usize) {
    let aliases = match outcome {
        DnsOutcome::Answer(set) => {
            assert!(!set.rdata.is_empty());
            assert!(set.rdata.iter().map(|rdata| rdata.0.len()).sum::<usize>() <= packet_octets);
            assert!(set.owner.len() <= NAME_TEXT_MAX);
            &set.aliases
        }
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => &denial.aliases,
        DnsOutcome::Failed(DnsFailure::AliasLoop(aliases)) => aliases,
        DnsOutcome::Failed(DnsFailure::Malformed(text)) => {
            assert!(text.len() < 200, "{text}");
            return;
        }
        DnsOutcome::Failed(_) => return,
    };
    assert!(aliases.len() <= ALIAS_HOPS_MAX + 1, "{} aliases", aliases.len());
    assert!(aliases.iter().all(|a| a.owner.len() <= NAME_TEXT_MAX && a.target.len() <= NAME_TEXT_MAX));
}

fn read_all(packet: &[u8], id: u16, question: &Question) {
    let matched = match_reply(packet, id, question.section());
    if packet.len() < 12 + question.section().len() {
        assert_eq!(matched, Match::Stray);
    }
    match read_reply(packet, question) {
        Ok(reply) => {
            assert_bounded_lookup(&reply.outcome, packet.len());
            assert!(reply.extended_errors.len() <= EDE_MAX);
            assert!(reply.extended_errors.iter().all(|ede| ede.text.0.len() <= EDE_TEXT_BYTES_MAX));
        }
        Err(problem) => assert!(problem.len() < 200, "{problem}"),
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn any_packet_can_be_read(packet in vec(any::<u8>(), 0..300), id: u16) {
        let mut question = Question::new("www.customer.example", RecordType::Txt).expect("good");
        question.mix_case(&mut Bits(id.into()));
        read_all(&packet, id, &question);
    }

    #[test]
    fn any_nearly_right_packet_can_be_read(
        records in records(), flags in flags(), damage in damage(), id: u16,
        rtype in prop::sample::select(vec![RecordType::A, RecordType::Txt, RecordType::Caa]),
    ) {
        let mut question = Question::new("www.customer.example", rtype).expect("good");
        question.mix_case(&mut Bits(id.into()));
        let mut query = Vec::new();
        compose(&question, id, &mut query);
        let right = reply_to(&query, flags & !0x7a00, &records);
        prop_assert_eq!(match_reply(&right, id, question.section()), Match::Reply);
        read_all(&damaged(right, &damage), id, &question);
    }
}

// ---- queries -----------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum QueryEvent {
    Datagram(u16, Vec<RecordParts>, Vec<Damage>),
    Noise(Vec<u8>),
    DatagramFailed,
    Connected(u16),
    /// A framed reply, cut at this place.
    Stream(u16, Vec<RecordParts>, Vec<Damage>, prop::sample::Index),
    StreamNoise(Vec<u8>),
    StreamFailed,
    LocalFailure,
    Later(u32),
}

fn query_event() -> impl Strategy<Value = QueryEvent> {
    prop_oneof![
        3 => (flags(), records(), damage()).prop_map(|(f, r, d)| QueryEvent::Datagram(f, r, d)),
        1 => vec(any::<u8>(), 0..80).prop_map(QueryEvent::Noise),
        1 => Just(QueryEvent::DatagramFailed),
        3 => any::<u16>().prop_map(QueryEvent::Connected),
        3 => (flags(), records(), damage(), any::<prop::sample::Index>())
            .prop_map(|(f, r, d, cut)| QueryEvent::Stream(f, r, d, cut)),
        1 => vec(any::<u8>(), 0..80).prop_map(QueryEvent::StreamNoise),
        1 => Just(QueryEvent::StreamFailed),
        1 => Just(QueryEvent::LocalFailure),
        3 => (0..400u32).prop_map(QueryEvent::Later),
    ]
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn feed_query(query: &mut Query, now: &mut Micros, packet: &[u8], event: &QueryEvent) -> QueryStep {
    match event {
        QueryEvent::Datagram(flags, records, damage) => {
            query.handle_datagram(*now, &damaged(reply_to(packet, *flags, records), damage))
        }
        QueryEvent::Noise(bytes) => query.handle_datagram(*now, bytes),
        QueryEvent::DatagramFailed => query.handle_datagram_failed(NetworkError::Refused),
        QueryEvent::Connected(id) => query.handle_connected(*id),
        QueryEvent::Stream(flags, records, damage, cut) => {
            let mut bytes = framed(&damaged(reply_to(packet, *flags, records), damage));
            bytes.truncate(cut.index(bytes.len() + 1));
            query.handle_stream(&bytes)
        }
        QueryEvent::StreamNoise(bytes) => query.handle_stream(bytes),
        QueryEvent::StreamFailed => query.handle_stream_failed(NetworkError::Reset),
        QueryEvent::LocalFailure => query.handle_local_failure("no port"),
        QueryEvent::Later(millis) => {
            *now = now.plus_ms((*millis).into());
            query.handle_timeout(*now)
        }
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_query_ends_once_and_by_its_deadline(events in vec(query_event(), 0..24), transmissions in 1..=3u8, seed: u64) {
        let question = Question::new("www.customer.example", RecordType::Txt).expect("good");
        let deadline = Micros(5).plus_ms(1_000);
        let limits = QueryLimits { try_ms: 150, transmissions, deadline };
        let (mut now, mut entropy, mut packet) = (Micros(5), Bits(seed), Vec::new());
        let mut query = Query::new(question, resolver(), limits, now);
        query.compose(now, seed as u16, &mut entropy, &mut packet);
        let (mut ended, mut streams) = (false, 0);
        let mut turns = events.iter();
        for turn in 0.. {
            prop_assert!(turn < 200, "a query that never ends");
            let step = match turns.next() {
                Some(event) => feed_query(&mut query, &mut now, &packet, event),
                None if ended => break,
                None => {
                    now = now.max(query.timeout());
                    query.handle_timeout(now)
                }
            };
            prop_assert!(!ended || step == QueryStep::Wait, "after its end it wants {:?}", step);
            match step {
                QueryStep::Wait => prop_assert!(ended || query.timeout() <= deadline),
                QueryStep::Transmit => query.compose(now, 0, &mut entropy, &mut packet),
                QueryStep::OpenStream => streams += 1,
                QueryStep::SendStream(bytes) => packet = bytes[2..].to_vec(),
                QueryStep::Done => ended = true,
            }
        }
        prop_assert!(streams <= 1);
        let lookup = query.finish(now).0;
        prop_assert!(lookup.transmissions <= transmissions);
        prop_assert_ne!(&lookup.outcome, &DnsOutcome::Failed(DnsFailure::Local(String::new())));
        assert_bounded_lookup(&lookup.outcome, 70_000);
    }
}

// ---- responses ---------------------------------------------------------------------------------------

fn response_octets() -> impl Strategy<Value = Vec<u8>> {
    let line = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 404 Not Found\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 302 Found\r\n",
        "HTTP/1.1 204 None\r\n",
        "HTTP/1.1 101 Switching\r\n",
        "HTTP/2 200\r\n",
        "SSH-2.0-x\r\n",
        "",
    ]);
    let piece = prop_oneof![
        6 => prop::sample::select(vec![
            "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length: 999999999999\r\n", "Content-Length: x\r\n",
            "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: gzip\r\n",
            "Location: /x\r\n", "Server: x\r\n", "\r\n", "\n", "5\r\nhello\r\n", "0\r\n\r\n", "0\r\n", "ffffff\r\n",
            "5;a=b\r\n", "hello", "T: v\r\n", ": \r\n", "A:\r\n b\r\n", "\r", "2\r\nhello",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..30),
        1 => (any::<u8>(), 0..3_000usize).prop_map(|(byte, times)| vec![byte; times]),
    ];
    (line, vec(piece, 0..12)).prop_map(|(line, pieces)| [line.as_bytes().to_vec(), pieces.concat()].concat())
}

/// What a response came to: its status and body, or nothing.
fn read_response(octets: &[u8], cuts: &[usize]) -> Option<(u16, Vec<u8>, bool)> {
    let mut response = Response::default();
    let (mut rest, mut cuts) = (octets, cuts.iter().cycle());
    let mut last = Progress::More;
    while !rest.is_empty() {
        let (segment, after) = rest.split_at(rest.len().min(*cuts.next().unwrap_or(&usize::MAX)));
        rest = after;
        last = response.push(segment);
        if let Progress::Bad { .. } | Progress::Complete = last {
            break;
        }
    }
    if let Progress::More | Progress::Head = last {
        last = response.close();
    }
    assert!(response.received() <= octets.len() as u64);
    if let Some(head) = response.head() {
        let kept = [&head.server, &head.content_type, &head.content_encoding];
        assert!(kept.into_iter().flatten().all(|value| value.0.len() <= 256));
        assert!(head.location.as_ref().is_none_or(|value| value.0.len() <= URL_BYTES_MAX + 1));
    }
    // Whatever comes after the end is borne.
    response.push(b"more");
    response.close();
    let status = response.head().map_or(0, |head| head.status);
    let (body, truncated) = response.into_body();
    assert!(body.0.len() <= HTTP_BODY_BYTES_MAX);
    match last {
        Progress::Complete => Some((status, body.0, truncated)),
        Progress::Bad { first, problem } => {
            assert!(first.0.len() <= 64 && !problem.is_empty());
            None
        }
        Progress::More | Progress::Head => {
            // Nothing, or interim responses only: the fetch says that it was closed early.
            assert!(octets.is_empty() || octets.starts_with(b"HTTP/1.1 100"), "neither complete nor bad after the end");
            assert_eq!(status, 0);
            None
        }
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_response_is_the_same_in_any_segments(octets in response_octets(), cuts in vec(1..64usize, 1..6)) {
        let whole = read_response(&octets, &[usize::MAX]);
        let parts = read_response(&octets, &cuts);
        prop_assert_eq!(&whole, &parts);
        prop_assert_eq!(whole, read_response(&octets, &[1]));
    }

    #[test]
    fn any_octets_can_be_read_as_a_response(octets in vec(any::<u8>(), 0..600), cuts in vec(1..64usize, 1..6)) {
        read_response(&octets, &cuts);
    }
}

// ---- redirects ---------------------------------------------------------------------------------------

fn location() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "http:", "https:", "ftp:", "javascript:", "data:", "HTTP:", "//", "/", "\\", "@", "user:pass@", ":", ":80",
            ":443", ":8080", ":0", ":65536", "www.customer.example", "127.0.0.1", "0x7f.1", "[::1]", "[::ffff:1.2.3.4]",
            "[", "]", "..", ".", "a_b.example", "xn--a", "%2e", "%00", "?", "#", "a", "1", "*", "{", "\"", "<",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..6),
        1 => (0x21..0x7fu8, 0..400usize).prop_map(|(byte, times)| vec![byte; times]),
    ];
    let prefix = prop::sample::select(vec!["", "", "http://", "https://", "//"]);
    (prefix, vec(piece, 0..8)).prop_map(|(prefix, pieces)| [prefix.as_bytes().to_vec(), pieces.concat()].concat())
}

fn assert_allowed(target: &Target) {
    assert!(matches!(target.port(), 80 | 443), "{}", target.as_str());
    let url = url::Url::parse(target.as_str()).expect("a target is a URL");
    assert_eq!(url.scheme() == "https", target.is_https());
    assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    assert_eq!(url.port_or_known_default(), Some(target.port()));
    match target.host() {
        Host::Ip(address) => match url.host() {
            Some(url::Host::Ipv4(seen)) => assert_eq!(*address, seen),
            Some(url::Host::Ipv6(seen)) => assert_eq!(*address, seen),
            other => panic!("{url}: {other:?}"),
        },
        Host::Name(name) => {
            assert!(!name.is_empty() && name.len() <= NAME_OCTETS_MAX, "{url}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)), "{url}");
            assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{url}");
            assert!(name.parse::<std::net::IpAddr>().is_err(), "{url}");
        }
    }
    let request = String::from_utf8(target.request()).expect("ASCII");
    assert!(request.is_ascii() && request.ends_with("\r\n\r\n"));
    assert_eq!(
        request.bytes().filter(|b| b.is_ascii_control()).count(),
        12,
        "six lines and nothing between: {request:?}"
    );
    assert_eq!(request.lines().next().map(|line| line.split(' ').count()), Some(3), "{request:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: settings().cases.max(2_000), ..settings() })]

    #[test]
    fn a_redirect_leads_to_port_80_or_443_or_nowhere(locations in vec(location(), 1..4)) {
        let mut target = Target::first(&Host::Name("www.customer.example".to_owned()), "/t", false).expect("good");
        for (number, location) in locations.iter().enumerate() {
            match target.redirected(location, number as u8 + 1) {
                Ok(next) => {
                    assert_allowed(&next);
                    target = next;
                }
                Err(refusal) => {
                    prop_assert_eq!(usize::from(refusal.redirect), number + 1);
                    prop_assert!(refusal.target.0.len() <= URL_BYTES_MAX);
                }
            }
        }
    }
}

// ---- tasks -------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum TaskEvent {
    Datagram(prop::sample::Index, u16, Vec<RecordParts>, Vec<Damage>),
    /// A reply that leads a diagnosis on, to one of the latest queries; with this code if it is for a server.
    Helpful(prop::sample::Index, u16),
    DatagramFailed(u16),
    LocalFailure(u16),
    /// The oldest open stream, or any.
    Connected(Option<Stream>),
    Octets(Option<Stream>, Vec<u8>),
    StreamReply(u16, Vec<RecordParts>),
    StreamFailed(Option<Stream>),
    Compose(u16),
    Later(u32),
}

fn stream() -> impl Strategy<Value = Option<Stream>> {
    prop_oneof![
        3 => Just(None),
        1 => (0..12u16).prop_map(|slot| Some(Stream::Query(slot))),
        1 => (0..6u16).prop_map(|number| Some(Stream::Fetch(number))),
    ]
}

fn task_event() -> impl Strategy<Value = TaskEvent> {
    let flags = || prop_oneof![8 => Just(0u16), 1 => Just(3), 1 => Just(0x0200), 1 => any::<u16>()];
    let no_damage = prop_oneof![3 => Just(Vec::new()), 1 => damage()];
    prop_oneof![
        6 => (any::<prop::sample::Index>(), flags(), records(), no_damage)
            .prop_map(|(at, f, r, d)| TaskEvent::Datagram(at, f, r, d)),
        6 => (any::<prop::sample::Index>(), prop::sample::select(vec![0u16, 2, 4, 5, 0x0200]))
            .prop_map(|(at, flags)| TaskEvent::Helpful(at, flags)),
        1 => (0..12u16).prop_map(TaskEvent::DatagramFailed),
        1 => (0..12u16).prop_map(TaskEvent::LocalFailure),
        4 => stream().prop_map(TaskEvent::Connected),
        4 => (stream(), response_octets()).prop_map(|(s, o)| TaskEvent::Octets(s, o)),
        1 => stream().prop_map(|s| TaskEvent::Octets(s, Vec::new())),
        2 => (flags(), records()).prop_map(|(f, r)| TaskEvent::StreamReply(f, r)),
        1 => stream().prop_map(TaskEvent::StreamFailed),
        1 => (0..12u16).prop_map(TaskEvent::Compose),
        3 => (0..200u32).prop_map(TaskEvent::Later),
    ]
}

/// Events under which a diagnosis comes far.
fn diagnosis_event() -> impl Strategy<Value = TaskEvent> {
    let helpful = (any::<prop::sample::Index>(), prop::sample::select(vec![0u16, 2, 2, 4, 5, 0x0200]));
    prop_oneof![
        12 => helpful.prop_map(|(at, flags)| TaskEvent::Helpful(at, flags)),
        2 => (0..40u32).prop_map(TaskEvent::Later),
        1 => (0..1_100u32).prop_map(TaskEvent::Later),
        1 => task_event(),
    ]
}

fn a_plan() -> impl Strategy<Value = Plan> {
    let control = prop_oneof![
        1 => Just(None),
        2 => Just(Some(ControlPlan::txt("_acme-challenge.www.customer.example".to_owned()))),
        2 => prop::sample::select(vec![
            Host::Name("www.customer.example".to_owned()),
            Host::Name("not a host".to_owned()),
            Host::Ip(Ipv4Addr::new(8, 8, 4, 4).into()),
            Host::Ip(Ipv4Addr::LOCALHOST.into()),
        ])
        .prop_map(|host| Some(ControlPlan::http(host, "/t".to_owned()))),
        1 => prop::sample::select(vec![
            Host::Name("www.customer.example".to_owned()),
            Host::Name("not a host".to_owned()),
            Host::Ip(Ipv4Addr::new(8, 8, 4, 4).into()),
        ])
        .prop_map(|host| Some(ControlPlan::TlsAlpn { host })),
    ];
    (control, 0..20usize, any::<[bool; 2]>(), 50..300u32, 1..=3u8).prop_map(
        |(control, levels, [hints, diagnose], try_ms, transmissions)| {
            let limits = PlanLimits {
                task_deadline_ms: 1_000,
                dns_try_ms: try_ms,
                dns_transmissions: transmissions,
                caa_repeat_ms: if levels % 3 == 0 { 120 } else { 0 },
                http_connect_ms: 300,
                http_response_ms: 400,
            };
            let caa_levels = (0..levels).map(|n| format!("{}example", "l.".repeat(levels - 1 - n))).collect();
            let names = [(HintKind::DoubledName, "doubled.example"), (HintKind::WildcardSibling, "a..bad")];
            let named = |(kind, name): (HintKind, &str)| Hint { kind, name: name.to_owned() };
            let hints = if hints { names.map(named).to_vec() } else { Vec::new() };
            Plan { control, derivation: None, caa_levels, hints, keep_proof: true, diagnose, survey: None, limits }
        },
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waits,
    Taken,
}

/// A task with what a driver keeps for it.
struct Driver {
    task: Task,
    settings: TaskSettings,
    zones: ZoneCache,
    entropy: Bits,
    now: Micros,
    /// Queries that hold a port and an id.
    held: HashSet<u16>,
    ever_held: HashSet<u16>,
    packets: Vec<(u16, Vec<u8>)>,
    open: Vec<Stream>,
    ever_opened: HashSet<Stream>,
    /// Who was asked, other than the resolver.
    peers: HashSet<SocketAddr>,
    /// Queries to name servers that have their turn, or wait for it.
    turns: HashMap<u16, Turn>,
    sent: Vec<(Stream, Vec<u8>)>,
}

impl Driver {
    fn new(plan: Plan, seed: u64) -> Self {
        // Half of the tasks validate, from anchors that nothing fits.
        let dnssec = if seed & 1 == 0 { Dnssec::Local(TrustAnchors::iana().into()) } else { Dnssec::None };
        let settings = TaskSettings { resolver: resolver(), filter: AddressFilter::default(), dnssec, tls: tls() };
        let (mut entropy, mut zones, now) = (Bits(seed), ZoneCache::default(), Micros(17));
        let mut site = Site { settings: &settings, zones: &mut zones, entropy: &mut entropy };
        let task = Task::new(plan, &mut site, now, jiff::Timestamp::UNIX_EPOCH);
        let (packets, open, sent, held) = (Vec::new(), Vec::new(), Vec::new(), HashSet::new());
        let (ever_opened, peers, turns) = (HashSet::new(), HashSet::new(), HashMap::new());
        Self {
            task,
            settings,
            zones,
            entropy,
            now,
            held,
            ever_held: HashSet::new(),
            packets,
            open,
            ever_opened,
            peers,
            turns,
            sent,
        }
    }

    /// Whether query `slot` may be sent: at times one to a name server has to wait.
    fn has_turn(&mut self, slot: u16) -> bool {
        if self.task.peer(slot).is_none() {
            return true;
        }
        let waits = self.entropy.next_u64().is_multiple_of(4);
        let turn = *self.turns.entry(slot).or_insert(if waits { Turn::Waits } else { Turn::Taken });
        if turn == Turn::Waits {
            self.task.wait_for_turn(slot);
        }
        turn == Turn::Taken
    }

    /// Gives their turn to some of those that wait.
    fn give_turns(&mut self) {
        for (slot, turn) in &mut self.turns {
            if *turn == Turn::Waits && self.entropy.next_u64().is_multiple_of(2) {
                *turn = Turn::Taken;
                self.task.take_turn(*slot, self.now);
            }
        }
    }

    fn compose(&mut self, slot: u16) -> bool {
        let mut packet = Vec::new();
        let id = self.entropy.next_u64() as u16;
        let composed = self.task.compose(self.now, slot, id, &mut self.entropy, &mut packet);
        if composed {
            self.packets.push((slot, packet));
        }
        composed
    }

    /// A query goes to this name server.
    fn asks(&mut self, peer: Option<SocketAddr>) {
        let Some(peer) = peer else { return };
        assert_eq!((self.settings.filter.forbids(peer.ip()), peer.port()), (None, 53), "{peer}");
        self.peers.insert(peer);
    }

    /// Does what the task asks for; the observation if it has ended.
    fn settle(&mut self) -> Option<Observation> {
        for command in self.task.take_commands() {
            match command {
                Command::Transmit(slot) if !self.has_turn(slot) => {}
                Command::Transmit(slot) => {
                    self.asks(self.task.peer(slot));
                    self.held.insert(slot);
                    self.ever_held.insert(slot);
                    self.compose(slot);
                }
                Command::Release(slot) => {
                    self.held.remove(&slot);
                }
                Command::Connect(Stream::Query(slot), _) if !self.has_turn(slot) => {}
                Command::Connect(stream, peer) => {
                    assert!(self.ever_opened.insert(stream), "{stream:?} was opened twice");
                    self.open.push(stream);
                    let fetches = self.open.iter().filter(|stream| matches!(stream, Stream::Fetch(_))).count();
                    assert!(fetches <= 1, "a fetch holds one connection at a time");
                    if matches!(stream, Stream::Query(_)) {
                        self.asks(Some(*peer).filter(|peer| *peer != resolver()));
                    } else {
                        assert_eq!(self.settings.filter.forbids(peer.ip()), None, "{peer}");
                        assert!(matches!(peer.port(), 80 | 443), "{peer}");
                    }
                }
                Command::Send(stream, bytes) => {
                    assert!(self.open.contains(&stream), "{stream:?} is not open");
                    self.sent.push((stream, bytes));
                }
                Command::Part(stream, _) => {
                    assert!(self.open.contains(&stream), "{stream:?} is not open");
                    self.open.retain(|open| *open != stream);
                }
                Command::Close(Stream::Query(slot)) if self.turns.get(&slot) == Some(&Turn::Waits) => {}
                Command::Close(stream) => {
                    assert!(self.ever_opened.contains(&stream), "{stream:?} was never opened");
                    self.open.retain(|open| *open != stream);
                }
                Command::Pace(slot, TurnEvent::Ended) => {
                    // One that ended before anything was asked for has no turn.
                    self.turns.remove(&slot);
                }
                Command::Pace(slot, _) => {
                    assert_eq!(self.turns.get(&slot), Some(&Turn::Taken), "{slot} was heard of before its turn");
                }
            }
        }
        self.task.poll_observation(self.now).map(|observation| *observation)
    }

    fn feed(&mut self, event: &TaskEvent) {
        self.give_turns();
        let oldest = self.open.first().copied().unwrap_or(Stream::Fetch(1));
        let Self { task, settings, zones, entropy, now, .. } = self;
        let site = &mut Site { settings, zones, entropy };
        let now_at = *now;
        match event {
            TaskEvent::Datagram(at, flags, records, damage) => {
                if self.packets.is_empty() {
                    return;
                }
                let (slot, query) = &self.packets[at.index(self.packets.len())];
                let packet = damaged(reply_to(query, *flags, records), damage);
                task.handle_datagram(site, now_at, *slot, &packet);
            }
            TaskEvent::Helpful(at, flags) => {
                let latest = self.packets.len().min(8);
                if latest == 0 {
                    return;
                }
                let (slot, query) = &self.packets[self.packets.len() - 1 - at.index(latest)];
                let name = query[12..].iter().position(|&b| b == 0).expect("a name ends");
                let records: Vec<RecordParts> = match (query[12 + name + 2], query[2] & 1) {
                    (2, _) => (0..18).map(|n| (n % 4, 7, vec![6 + n % 6])).collect(),
                    (1, 1) => vec![(0, 8, vec![*flags as u8 + 1]); 3],
                    // A name server that serves the zone.
                    (6, 0) => vec![(0, 6, vec![*flags as u8])],
                    _ => Vec::new(),
                };
                let flags = if records.is_empty() { *flags } else { 0 };
                let packet = reply_to(query, flags, &records);
                task.handle_datagram(site, now_at, *slot, &packet);
            }
            TaskEvent::DatagramFailed(slot) => {
                task.handle_datagram_failed(site, now_at, *slot, NetworkError::Refused);
            }
            TaskEvent::LocalFailure(slot) => task.handle_local_failure(site, now_at, *slot, "no port"),
            TaskEvent::Connected(stream) => {
                task.handle_connected(site, now_at, stream.unwrap_or(oldest));
            }
            TaskEvent::Octets(stream, bytes) => {
                task.handle_stream(site, now_at, stream.unwrap_or(oldest), bytes);
            }
            TaskEvent::StreamReply(flags, records) => {
                let query = self.sent.iter().rev().find(|(stream, _)| matches!(stream, Stream::Query(_)));
                let Some((stream, query)) = query else { return };
                let bytes = framed(&reply_to(&query[2..], *flags, records));
                task.handle_stream(site, now_at, *stream, &bytes);
            }
            TaskEvent::StreamFailed(stream) => {
                task.handle_stream_failed(site, now_at, stream.unwrap_or(oldest), NetworkError::Reset);
            }
            TaskEvent::Compose(slot) => {
                // A send that waited for a free slot, perhaps too long.
                let waits = self.turns.get(slot) == Some(&Turn::Waits);
                let composed = !waits && self.compose(*slot);
                assert!(!composed || self.held.contains(slot), "query {slot} is sent without port and id");
            }
            TaskEvent::Later(millis) => {
                *now = now.plus_ms((*millis).into()).max(*now);
                task.handle_timeout(site, *now);
            }
        }
    }
}

fn assert_bounded(observation: &Observation, plan: &Plan) {
    assert!(observation.caa.len() <= plan.caa_levels.len() && observation.hints.len() <= plan.hints.len());
    let in_order = observation.caa.iter().zip(&plan.caa_levels).all(|(seen, level)| seen.name == *level);
    assert!(in_order, "the climb is reported leaf first");
    let mut lookups: Vec<&DnsLookup> =
        observation.caa.iter().chain(observation.hints.iter().map(|h| &h.lookup)).collect();
    match (&observation.control, &plan.control) {
        (None, None) => {}
        (Some(ControlObservation::Record(lookup)), Some(ControlPlan::Dns(_))) => lookups.push(lookup),
        (Some(ControlObservation::Http(http)), Some(ControlPlan::Http { .. })) => {
            assert!(http.hops.len() <= HTTP_REDIRECTS_MAX + 1);
            assert!(http.hops.iter().all(|hop| hop.tries.len() <= 2 && hop.resolution.len() <= 2));
            if let HttpOutcome::Response { body, .. } = &http.outcome {
                assert!(body.0.len() <= HTTP_BODY_BYTES_MAX);
            }
            lookups.extend(http.hops.iter().flat_map(|hop| &hop.resolution));
        }
        (Some(ControlObservation::Tls(probe)), Some(ControlPlan::TlsAlpn { .. })) => {
            assert!(probe.tries.len() <= 2 && probe.resolution.len() <= 2);
            lookups.extend(&probe.resolution);
        }
        (seen, planned) => panic!("{planned:?} was asked and {seen:?} came"),
    }
    assert!(lookups.len() <= CHECK_QUERIES_MAX);
    if let Some(diagnosis) = &observation.diagnosis {
        assert!(plan.diagnose && (diagnosis.reached || !diagnosis.servers.is_empty()));
        assert!(diagnosis.servers.len() <= DIAGNOSED_SERVERS_MAX);
        for server in &diagnosis.servers {
            assert!(server.name.len() <= NAME_TEXT_MAX);
            assert!(server.nsid.as_ref().is_none_or(|nsid| nsid.0.len() <= NSID_BYTES_MAX));
            assert!(server.address.is_some() || server.answer.is_none());
        }
        for text in parallax_validation::explain::diagnosis::sentences(diagnosis) {
            assert!(text.len() < 20_000 && !text.contains(char::is_control), "{text:?}");
        }
    }
    for lookup in lookups {
        assert_bounded_lookup(&lookup.outcome, 70_000);
        assert!(lookup.extended_errors.len() <= EDE_MAX);
    }
}

/// What a survey must be, whatever came.
fn assert_bounded_survey(survey: &Survey) {
    assert!(survey.servers.len() <= SURVEYED_SERVERS_MAX && survey.asked().count() <= SURVEYED_ADDRESSES_MAX);
    let kept: usize = survey.sets.iter().flat_map(|set| &set.records).map(|rdata| rdata.0.len()).sum();
    assert!(kept <= SURVEY_KEPT_BYTES_MAX, "{kept}");
    for (server, seen) in survey.asked() {
        assert!(server.name.len() <= NAME_TEXT_MAX && !server.forbidden.contains(&seen.address));
        let answers = [&seen.version, &seen.without_edns, &seen.servers, &seen.caa, &seen.txt, &seen.keys];
        for set in answers.into_iter().flatten().filter_map(|answer| answer.set) {
            assert!(usize::from(set) < survey.sets.len());
        }
    }
}

/// Rules without a quorum: what is judged is the survey.
fn rules() -> Rules {
    let coordinates = Coordinates::new(52.4, 4.9).expect("on Earth");
    let perspective = |(id, role): (&str, Role)| Perspective {
        id: id.parse().expect("an id"),
        role,
        rir: Rir::RipeNcc,
        coordinates,
        as_number: 64_500,
        provider: "example".to_owned(),
        resolver: ResolverSite { name: id.to_owned(), rir: Rir::RipeNcc, coordinates },
    };
    let setup = Setup {
        form: FORM_VERSION,
        software: "test".to_owned(),
        policy: include_str!("../src/verdict/policy.toml").to_owned(),
        caa: CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() },
        perspectives: [("ams1", Role::Primary), ("waw1", Role::Remote)].map(perspective).to_vec(),
        limits: PlanLimits::default(),
        public_suffixes: None,
        conduct: Conduct::default(),
    };
    setup.rules().expect("rules")
}

/// Feeds the events, then only time, and checks what must hold at each step and at the end.
fn play(plan: Plan, events: &[TaskEvent], seed: u64) -> Result<(Observation, Driver), TestCaseError> {
    let mut driver = Driver::new(plan.clone(), seed);
    let deadline = driver.now.plus_ms(plan.limits.task_deadline_ms.into());
    let mut events = events.iter();
    let mut observation = driver.settle();
    for turn in 0.. {
        prop_assert!(turn < 1_000, "a task that never ends");
        if observation.is_some() {
            break;
        }
        prop_assert!(driver.now < deadline, "no end at the deadline");
        match events.next() {
            Some(event) => driver.feed(event),
            None => {
                let wakes = driver.task.timeout();
                prop_assert!(wakes <= deadline && wakes > driver.now, "{:?} after {:?}", wakes, driver.now);
                driver.now = wakes;
                let Driver { task, settings, zones, entropy, .. } = &mut driver;
                task.handle_timeout(&mut Site { settings, zones, entropy }, wakes);
            }
        }
        observation = driver.settle();
    }
    let observation = observation.expect("ended");
    prop_assert!(driver.open.is_empty(), "left open: {:?}", driver.open);
    prop_assert!(driver.held.is_empty(), "never released: {:?}", driver.held);
    prop_assert!(driver.turns.is_empty(), "turns that were kept: {:?}", driver.turns);
    prop_assert!(driver.task.take_commands().is_empty());
    let (peers, queries) = match plan.survey {
        Some(_) => (SURVEYED_ADDRESSES_MAX + SURVEY_PARENTS_MAX, SURVEY_QUERIES_MAX),
        None => (0, 0),
    };
    prop_assert!(driver.peers.len() <= DIAGNOSED_SERVERS_MAX + DIAGNOSIS_PARENTS_MAX + peers);
    prop_assert!(plan.diagnose || plan.survey.is_some() || driver.peers.is_empty());
    prop_assert!(driver.ever_held.len() <= CHECK_QUERIES_MAX + DIAGNOSIS_QUERIES_MAX + queries);
    assert_bounded(&observation, &plan);
    if driver.now < deadline {
        prop_assert_eq!(observation.budget, None);
    }
    Ok((observation, driver))
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_task_ends_once_by_its_deadline_with_everything_closed(
        plan in a_plan(), events in vec(task_event(), 0..60), seed: u64,
    ) {
        play(plan, &events, seed)?;
    }

    #[test]
    fn a_diagnosis_is_bounded_and_ends_by_the_deadline(
        kind in any::<bool>(), events in vec(diagnosis_event(), 0..60), seed: u64, deadline_ms in 300..8_000u32,
    ) {
        let limits = PlanLimits { task_deadline_ms: deadline_ms, dns_try_ms: 100, dns_transmissions: 1, ..PlanLimits::default() };
        let name = "_acme-challenge.www.customer.example".to_owned();
        let (control, caa_levels) = match kind {
            true => (Some(ControlPlan::txt(name)), Vec::new()),
            false => (None, vec!["customer.example".to_owned(), "example".to_owned()]),
        };
        let plan = Plan { control, derivation: None, caa_levels, hints: Vec::new(), keep_proof: true, diagnose: true, survey: None, limits };
        let (observation, driver) = play(plan, &events, seed)?;
        let answered = |server: &ServerView| server.answer.is_some();
        let asked = observation.diagnosis.iter().flat_map(|d| &d.servers).filter(|server| answered(server)).count();
        prop_assert!(asked <= driver.peers.len());
        prop_assert!(driver.ever_held.len() <= 3 + DIAGNOSIS_QUERIES_MAX + 8, "{} queries", driver.ever_held.len());
    }

    #[test]
    fn a_survey_is_bounded_ends_by_the_deadline_and_can_be_judged(
        events in vec(diagnosis_event(), 0..400), others in vec(task_event(), 0..40), seed: u64, deadline_ms in 300..16_000u32,
    ) {
        let limits = PlanLimits { task_deadline_ms: deadline_ms, dns_try_ms: 100, dns_transmissions: 1, ..PlanLimits::default() };
        let raw = RawRequest { identifier: "www.customer.example".to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
        let now = "2026-11-25T12:00:00Z".parse().expect("an instant");
        let request = CheckRequest::parse(raw, "test", &AddressFilter::default().into(), now).expect("good");
        let plan = Plan::of_survey(&request, ("_acme-challenge", Some("q7")), limits).expect("a name");
        let wanted = SurveyPlan { name: "www.customer.example".to_owned(), challenge: "_acme-challenge.www.customer.example".to_owned() };
        prop_assert_eq!(plan.survey.as_deref(), Some(&wanted));
        let (observation, _) = play(plan, &[events, others].concat(), seed)?;
        assert_bounded_survey(observation.survey.as_ref().expect("a survey was planned"));
        let json = serde_json::to_string(&observation.survey).expect("JSON");
        prop_assert!(json.len() < 1 << 19, "{} octets", json.len());
        let rules = rules();
        let preflight = judge(&Subject { request: &request, rules: &rules, at: now }, &[Some(&observation), None]);
        for finding in &preflight.findings {
            prop_assert!(finding.text.len() < 60_000 && !finding.text.contains(char::is_control), "{:?}", finding.text);
        }
    }
}
