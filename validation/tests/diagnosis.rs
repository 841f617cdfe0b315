//! What is told when a zone's own servers were asked: whose turn it is, when to try again, and every sentence
//! (`cases.md` D02, D17, D24 to D26, D33, D34).

use std::net::Ipv4Addr;

use jiff::Timestamp;
use parallax_validation::{
    base::{
        address::AddressFilter,
        attempt::AttemptId,
        octets::Octets,
        perspective::{Coordinates, Perspective, ResolverSite, Rir, Role},
    },
    check::caa::authorize::CaaPolicy,
    explain::{
        Blame::{self, Dns, Filter, Parent},
        Explanation,
        Retry::{self, Fix, Later, Now},
        diagnosis::sentences,
    },
    observation::{
        Denial, Diagnosis, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecFault, DnssecMode, NetworkError,
        Observation, RecordType, SecurityStatus, ServerAnswer, ServerOutcome, ServerView, Validation,
    },
    plan::PlanLimits,
    record::{Conduct, FORM_VERSION, Record, Reply, Rules, Setup, Terms},
    request::{CheckRequest, RawRequest},
    verdict::PerspectiveState,
};

fn answer(outcome: ServerOutcome) -> Option<ServerAnswer> {
    Some(ServerAnswer { outcome, over_tcp: None, authoritative: true, soa: true, elapsed_us: 20_000 })
}

fn over_tcp(outcome: ServerOutcome, tcp: ServerOutcome) -> Option<ServerAnswer> {
    answer(outcome).map(|answer| ServerAnswer { over_tcp: Some(tcp), ..answer })
}

fn bare(outcome: ServerOutcome) -> Option<ServerAnswer> {
    answer(outcome).map(|answer| ServerAnswer { authoritative: false, soa: false, ..answer })
}

/// A server at `198.51.100.last` that answers A with records.
fn server(last: u8, answer_to_question: Option<ServerAnswer>) -> ServerView {
    ServerView {
        name: format!("ns{last}.customer.example"),
        address: Some(Ipv4Addr::new(198, 51, 100, last).into()),
        answer: answer_to_question,
        contrast: answer(ServerOutcome::Records),
        serial: Some(2_026_122_002),
        nsid: None,
        signatures_expired: None,
    }
}

fn good(last: u8) -> ServerView {
    server(last, answer(ServerOutcome::Nodata))
}

/// A server whose other answers are like the one to the question.
fn always(last: u8, outcome: ServerOutcome) -> ServerView {
    let contrast = answer(outcome.clone());
    ServerView { contrast, serial: None, ..server(last, answer(outcome)) }
}

fn expired(last: u8) -> ServerView {
    let at = "2026-12-19T00:00:00Z".parse().expect("a time");
    ServerView { signatures_expired: Some(at), ..server(last, answer(ServerOutcome::Records)) }
}

fn of_caa(servers: Vec<ServerView>) -> Diagnosis {
    let (zone, name) = ("customer.example".to_owned(), "customer.example".to_owned());
    Diagnosis { zone, name, rtype: RecordType::Caa, reached: true, servers }
}

fn lookup(name: &str, outcome: DnsOutcome) -> DnsLookup {
    DnsLookup {
        name: name.to_owned(),
        rtype: RecordType::Caa,
        resolver: "192.0.2.53:53".parse().expect("an address"),
        transport: DnsTransport::Udp,
        transmissions: 1,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 30_000,
        authenticated: false,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome,
    }
}

fn rules() -> Rules {
    let sites = [
        ("ams1", Rir::RipeNcc, 52.4, 4.9),
        ("nyc1", Rir::Arin, 40.7, -74.0),
        ("waw1", Rir::RipeNcc, 52.2, 21.0),
        ("sin1", Rir::Apnic, 1.4, 103.8),
        ("gru1", Rir::Lacnic, -23.5, -46.6),
        ("jnb1", Rir::Afrinic, -26.2, 28.0),
    ];
    let perspectives = sites.iter().enumerate().map(|(place, (id, rir, latitude, longitude))| {
        let coordinates = Coordinates::new(*latitude, *longitude).expect("on Earth");
        Perspective {
            id: id.parse().expect("an id"),
            role: if place == 0 { Role::Primary } else { Role::Remote },
            rir: *rir,
            coordinates,
            as_number: 64_500 + place as u32,
            provider: "example".to_owned(),
            resolver: ResolverSite { name: format!("192.0.2.{place}"), rir: *rir, coordinates },
        }
    });
    let setup = Setup {
        form: FORM_VERSION,
        software: "test".to_owned(),
        policy: include_str!("../src/verdict/policy.toml").to_owned(),
        caa: CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() },
        perspectives: perspectives.collect(),
        limits: PlanLimits::default(),
        public_suffixes: None,
        conduct: Conduct::default(),
    };
    setup.rules().expect("rules")
}

fn observation(caa: Vec<DnsLookup>, diagnosis: Option<Diagnosis>) -> Observation {
    Observation {
        started: "2026-12-20T00:00:00Z".parse().expect("a time"),
        elapsed_us: 1,
        control: None,
        derivation: Vec::new(),
        caa,
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis,
        survey: None,
    }
}

fn explained(primary: Observation, remotes: Option<Observation>) -> Explanation {
    let raw =
        RawRequest { identifier: "customer.example".to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
    let request = CheckRequest::parse(
        raw,
        "test",
        &AddressFilter::default().into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .expect("good");
    let rules = rules();
    let remote = remotes.map_or(Reply::None(PerspectiveState::NotAsked), Reply::Observed);
    let replies = std::iter::once(Reply::Observed(primary)).chain(std::iter::repeat_n(remote, 5)).collect();
    let time: Timestamp = "2026-12-20T00:00:00Z".parse().expect("a time");
    let members = rules.members(time, None).expect("all of them");
    let terms =
        Terms { attempt: AttemptId(7), request: &request, started: time, members: &members, seed: None, restart: None };
    let record = Record::new(&rules, &terms, time, replies);
    record.recompute(&rules).expect("the same again");
    let again: Record = serde_json::from_str(&serde_json::to_string(&record).expect("JSON")).expect("a record");
    assert_eq!(again, record, "a record survives JSON");
    record.explanation
}

/// The lookup of CAA failed at the primary, and its servers say this.
fn failed(failure: DnsFailure, servers: Vec<ServerView>) -> Explanation {
    let caa = vec![lookup("customer.example", DnsOutcome::Failed(failure))];
    explained(observation(caa, Some(of_caa(servers))), None)
}

#[track_caller]
fn assert_told(failure: DnsFailure, servers: Vec<ServerView>, (blame, retry): (Blame, Retry), wants: &str) {
    let told = failed(failure, servers);
    println!("{}", told.message);
    assert!(told.message.contains(wants), "want: {wants}\nis: {}", told.message);
    assert_eq!((told.blame, told.retry), (Some(blame), Some(retry)), "{}", told.message);
}

const SERVFAIL: DnsFailure = DnsFailure::Rcode(2);

#[test]
fn d24_codes() {
    use ServerOutcome::Rcode;
    let notimp = |last| server(last, answer(Rcode(4)));
    assert_told(
        SERVFAIL,
        vec![notimp(1), notimp(2)],
        (Dns, Fix),
        "The lookup of customer.example CAA was answered SERVFAIL (rcode 2). Both nameservers of customer.example answer \
         NOTIMP to CAA (type 257). They should answer NOERROR with an empty answer. Our resolver",
    );
    assert_told(
        SERVFAIL,
        vec![good(1), notimp(2)],
        (Dns, Fix),
        "ns2.customer.example (198.51.100.2) answers NOTIMP to CAA (type 257). It should answer NOERROR with an empty answer.",
    );
    assert_told(
        SERVFAIL,
        vec![notimp(1)],
        (Dns, Fix),
        "The nameserver ns1.customer.example (198.51.100.1) of customer.example answers NOTIMP to CAA",
    );
    assert_told(
        SERVFAIL,
        (1..=4).map(notimp).collect(),
        (Dns, Fix),
        "All four nameservers of customer.example that we asked answer NOTIMP to CAA",
    );
    assert_told(
        SERVFAIL,
        vec![always(1, Rcode(5)), always(2, Rcode(5))],
        (Dns, Fix),
        "Both nameservers of customer.example (198.51.100.1 and 198.51.100.2) answer REFUSED to every question. Serve the \
         zone there, or correct the delegation at the registrar.",
    );
    assert_told(
        SERVFAIL,
        vec![always(1, Rcode(2)), always(2, Rcode(2))],
        (Dns, Fix),
        "answer SERVFAIL to every question. The zone is probably not loaded there, or its copy has run out.",
    );
}

#[test]
fn d25_and_d02_silence() {
    use ServerOutcome::{Network, Nodata, Silent};
    assert_told(
        DnsFailure::Timeout,
        vec![server(1, over_tcp(Silent, Network(NetworkError::ClosedEarly)))],
        (Filter, Fix),
        "198.51.100.1 answers A in 20 ms but never CAA. A firewall in front of it is probably discarding query types it \
         does not know. TCP was tried too, and closed without an answer.",
    );
    assert_told(
        DnsFailure::Timeout,
        vec![server(1, answer(Silent)), server(2, answer(Silent))],
        (Filter, Fix),
        "198.51.100.1 and 198.51.100.2 answer A in 20 ms but never CAA. A firewall in front of them is probably",
    );
    assert_told(
        DnsFailure::Timeout,
        vec![server(1, over_tcp(Silent, Nodata))],
        (Filter, Fix),
        "198.51.100.1 answers CAA over TCP but not over UDP.",
    );
    assert_told(
        SERVFAIL,
        vec![always(1, Silent), always(2, Silent)],
        (Dns, Later),
        "None of the nameservers of customer.example (198.51.100.1 and 198.51.100.2) answers.",
    );
    assert_told(
        SERVFAIL,
        vec![always(1, Network(NetworkError::Refused))],
        (Dns, Later),
        "None of the nameservers of customer.example (198.51.100.1) answers. Nothing listens on port 53 there.",
    );
    assert_told(
        SERVFAIL,
        vec![good(1), always(2, Silent)],
        (Dns, Later),
        "ns2.customer.example (198.51.100.2) does not answer at all.",
    );
}

#[test]
fn d26_and_d33_replies_that_do_not_do() {
    use ServerOutcome::{Network, Nodata, Referral, Silent, Truncated, Unreadable};
    let incomplete = || DnsFailure::IncompleteChain("customer.example".to_owned());
    assert_told(
        incomplete(),
        vec![server(1, bare(Nodata)), good(2)],
        (Dns, Fix),
        "ns1.customer.example (198.51.100.1) answers without the authoritative flag and without SOA; resolvers may reject \
         that.",
    );
    assert_told(
        incomplete(),
        vec![server(1, bare(Referral(".".to_owned())))],
        (Dns, Fix),
        "ns1.customer.example (198.51.100.1) refers to the nameservers of the root in place of an answer: customer.example \
         is not served there.",
    );
    let cut = |tcp| vec![server(1, over_tcp(Truncated, tcp))];
    assert_told(
        SERVFAIL,
        cut(Network(NetworkError::Refused)),
        (Dns, Fix),
        "The CAA answer does not fit UDP and 198.51.100.1 refuses TCP port 53.",
    );
    assert_told(
        SERVFAIL,
        cut(Silent),
        (Filter, Fix),
        "The CAA answer does not fit UDP and 198.51.100.1 does not answer on TCP port 53.",
    );
    assert_told(
        SERVFAIL,
        vec![server(1, over_tcp(Unreadable, Unreadable))],
        (Dns, Fix),
        "ns1.customer.example (198.51.100.1) replies to CAA with a message that cannot be read.",
    );
}

#[test]
fn d17_two_versions_of_a_zone() {
    let old = |last| ServerView { serial: Some(2_026_122_001), nsid: Some(Octets(b"syd1\n".to_vec())), ..good(last) };
    assert_told(
        SERVFAIL,
        vec![good(1), good(2), old(3)],
        (Dns, Later),
        "The nameservers of customer.example hold different versions of the zone: serial 2026122001 at 198.51.100.3 (NSID \
         syd1\\x0a), 2026122002 at the others.",
    );
    assert_told(
        SERVFAIL,
        vec![good(1), old(3)],
        (Dns, Later),
        "serial 2026122001 at 198.51.100.3 (NSID syd1\\x0a), 2026122002 at 198.51.100.1.",
    );
}

fn expired_fault() -> DnssecFault {
    DnssecFault::Expired {
        owner: "customer.example".to_owned(),
        rtype: "CAA".to_owned(),
        zone: "customer.example".to_owned(),
        at: "2026-12-19T00:00:00Z".parse().expect("a time"),
    }
}

const STALE: &str = "Signatures from ns3.customer.example (198.51.100.3) over CAA of customer.example expired \
                     2026-12-19T00:00:00Z; the other servers are current. Its zone transfer seems stuck.";

#[test]
fn d34_expired_signatures() {
    let bogus = || DnsFailure::Dnssec(expired_fault());
    assert_told(bogus(), vec![good(1), good(2), expired(3)], (Dns, Fix), STALE);
    assert_told(
        bogus(),
        vec![expired(1), expired(2)],
        (Blame::Record, Fix),
        "Signatures from both nameservers of customer.example (198.51.100.1 and 198.51.100.2) over CAA of customer.example \
         expired 2026-12-19T00:00:00Z. Sign the zone customer.example anew. Our resolver",
    );
}

#[test]
fn d34_a_pass_at_the_second_asking_has_a_warning_that_names_the_server() {
    let nodata = || lookup("customer.example", DnsOutcome::Nodata(Denial::default()));
    let top = || lookup("example", DnsOutcome::Nodata(Denial::default()));
    let validation = Validation {
        status: SecurityStatus::Secure,
        anchor: None,
        signers: vec!["customer.example".to_owned()],
        insecure: None,
        fault: None,
        first_fault: Some(expired_fault()),
        links: Vec::new(),
        message: None,
    };
    let repaired = DnsLookup { validation: Some(Box::new(validation)), ..nodata() };
    let servers = vec![good(1), good(2), expired(3)];
    let primary = |diagnosis| observation(vec![repaired.clone(), top()], diagnosis);
    let remote = || Some(observation(vec![nodata(), top()], None));
    let told = explained(primary(Some(of_caa(servers))), remote());
    assert_eq!(told.warnings, [format!("A first answer was bogus; another one is good. {STALE}")]);
    assert_eq!((told.blame, told.retry), (Some(Dns), None), "{told:?}");
    let untold = explained(primary(None), remote());
    assert!(untold.warnings[0].contains("Its servers do not agree."), "{untold:?}");
    assert_eq!(untold.blame, Some(Dns));
}

#[test]
fn what_is_bogus_here_and_validly_signed_elsewhere_is_not_the_domains_to_mend() {
    let zone = || "customer.example".to_owned();
    let secure = Validation {
        status: SecurityStatus::Secure,
        anchor: None,
        signers: vec![zone()],
        insecure: None,
        fault: None,
        first_fault: None,
        links: Vec::new(),
        message: None,
    };
    let signed = |status| {
        let validation = Some(Box::new(Validation { status, ..secure.clone() }));
        let nodata = DnsLookup { validation, ..lookup("customer.example", DnsOutcome::Nodata(Denial::default())) };
        Some(observation(vec![nodata, lookup("example", DnsOutcome::Nodata(Denial::default()))], None))
    };
    let primary =
        |fault| observation(vec![lookup("customer.example", DnsOutcome::Failed(DnsFailure::Dnssec(fault)))], None);
    let without_key = || DnssecFault::DsMatchesNoKey { zone: zone(), ds: vec![1], keys: Vec::new() };
    let told = explained(primary(without_key()), signed(SecurityStatus::Secure));
    let wants = "From nyc1 (ARIN), waw1 (RIPE NCC), sin1 (APNIC), gru1 (LACNIC) and jnb1 (AFRINIC) it is validly signed: \
                 leave the DS and the zone as they are. Servers or routes differ by place.";
    assert!(told.message.contains(wants), "{}", told.message);
    assert!(!told.message.contains("registrar"), "who removes the DS helps the forger: {}", told.message);
    assert!(!told.parts[0].detail.contains("registrar"), "{told:?}");
    assert_eq!((told.blame, told.retry), (Some(Dns), Some(Later)));
    // Nobody has seen it signed, or it is a server's own old signature.
    for (fault, status, advice) in [
        (without_key(), SecurityStatus::Insecure, "Remove the DS at the registrar."),
        (expired_fault(), SecurityStatus::Secure, "Sign the zone customer.example anew"),
    ] {
        let told = explained(primary(fault), signed(status));
        assert!(told.message.contains(advice) && !told.message.contains("routes"), "{}", told.message);
    }
}

#[test]
fn servers_that_do_all_right_are_not_blamed() {
    let told = failed(SERVFAIL, vec![good(1), good(2)]);
    let wants = "Asked by us directly, both nameservers of customer.example answer CAA, so the fault lies between our \
                 resolver and them, or is over.";
    assert!(told.message.contains(wants), "{}", told.message);
    assert_eq!((told.blame, told.retry), (Some(Dns), Some(Later)));
    // What is behind a bogus answer is told elsewhere, and is not mended at the servers.
    let no_key = || {
        DnsFailure::Dnssec(DnssecFault::DsMatchesNoKey {
            zone: "customer.example".to_owned(),
            ds: vec![1],
            keys: vec![2],
        })
    };
    let old = ServerView { serial: Some(1), ..good(2) };
    assert_told(no_key(), vec![good(1), old], (Blame::Record, Fix), "hold different versions of the zone");
    let told = failed(DnsFailure::Dnssec(expired_fault()), vec![good(1)]);
    assert!(!told.message.contains("directly"), "{}", told.message);
}

#[test]
fn d27_nothing_of_it_is_told_about_another_lookup() {
    let caa = vec![
        lookup("customer.example", DnsOutcome::Nodata(Denial::default())),
        lookup("example", DnsOutcome::Failed(SERVFAIL)),
    ];
    let notimp = server(1, answer(ServerOutcome::Rcode(4)));
    let told = explained(observation(caa, Some(of_caa(vec![notimp]))), None);
    assert!(!told.message.contains("NOTIMP"), "{}", told.message);
    assert_eq!((told.blame, told.retry), (Some(Parent), Some(Now)));
}

#[test]
fn a_server_that_was_silent_once_and_not_asked_again_is_not_called_dead() {
    use ServerOutcome::Silent;
    let once = ServerView { contrast: None, serial: None, ..server(1, answer(Silent)) };
    assert!(sentences(&of_caa(vec![once.clone()])).is_empty());
    let told = failed(SERVFAIL, vec![once]);
    assert!(!told.message.contains("Asked by us directly"), "{}", told.message);
    let told = sentences(&of_caa(vec![always(1, Silent)])).join(" ");
    assert!(told.contains("answer"), "{told}");
}

#[test]
fn one_dead_server_is_not_all_of_them_if_others_were_not_asked() {
    let not_asked = ServerView { answer: None, contrast: None, serial: None, ..always(2, ServerOutcome::Silent) };
    let told = sentences(&of_caa(vec![always(1, ServerOutcome::Silent), not_asked])).join(" ");
    assert!(told.contains("ns1.customer.example (198.51.100.1) does not answer at all."), "{told}");
    assert!(!told.contains("None of the nameservers"), "{told}");
}

#[test]
fn servers_that_were_not_asked_say_nothing() {
    let unasked = ServerView { address: None, answer: None, contrast: None, serial: None, ..good(1) };
    assert!(sentences(&of_caa(vec![unasked.clone()])).is_empty());
    let notimp = server(2, answer(ServerOutcome::Rcode(4)));
    let told = sentences(&of_caa(vec![unasked, notimp])).join(" ");
    assert!(
        told.starts_with("The nameserver ns2.customer.example (198.51.100.2) of customer.example, the only one that we could ask, answers"),
        "{told}"
    );
}
