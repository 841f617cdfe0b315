//! What a preflight says: every finding with its severity and its full text, and the outlook (`cases.md` D02, D17, D22 to
//! D26, D33 to D35).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use parallax_validation::{
    base::{
        address::AddressFilter,
        octets::Octets,
        perspective::{Coordinates, Perspective, ResolverSite, Rir, Role},
    },
    check::caa::authorize::CaaPolicy,
    explain::Blame,
    observation::{
        Alias, ControlObservation, Denial, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecFault, DnssecMode,
        HintObservation, MixedCase, NetworkError, Observation, ParentView, RecordSet, RecordType, SecurityStatus,
        ServerAnswer, ServerOutcome, Soa, Survey, SurveyAnswer, SurveyedAddress, SurveyedServer, SurveyedSet,
        Validation,
    },
    plan::{HintKind, PlanLimits},
    preflight::{
        Code, Preflight,
        Severity::{self, Blocks, MayBlock, Note},
        Subject, judge,
    },
    record::{Conduct, FORM_VERSION, Rules, Setup},
    request::{CheckRequest, RawRequest},
    verdict::{PerspectiveState, cohort::Diversity, draw::Draw},
};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
const SIN1: usize = 3;
const GRU1: usize = 4;
const JNB1: usize = 5;

// ---- a sound world ------------------------------------------------------------------------------------

fn rules() -> Rules {
    rules_with(|_| {})
}

fn rules_with(change: impl FnOnce(&mut Setup)) -> Rules {
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
    let mut setup = Setup {
        form: FORM_VERSION,
        software: "test".to_owned(),
        policy: include_str!("../src/verdict/policy.toml").to_owned(),
        caa: CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() },
        perspectives: perspectives.collect(),
        limits: PlanLimits::default(),
        public_suffixes: None,
        conduct: Conduct::default(),
    };
    change(&mut setup);
    setup.rules().expect("rules")
}

fn request(name: &str) -> CheckRequest {
    let raw = RawRequest { identifier: name.to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
    let now = "2026-11-25T12:00:00Z".parse().expect("an instant");
    CheckRequest::parse(raw, "test", &AddressFilter::default().into(), now).expect("good")
}

fn lookup(name: &str, rtype: RecordType, outcome: DnsOutcome) -> DnsLookup {
    DnsLookup {
        name: name.to_owned(),
        rtype,
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

fn issue(value: &str) -> Octets {
    Octets([&[0, 5][..], b"issue", value.as_bytes()].concat())
}

fn found(owner: &str, rdata: Vec<Octets>) -> DnsOutcome {
    DnsOutcome::Answer(RecordSet { owner: owner.to_owned(), ttl: 60, aliases: Vec::new(), rdata })
}

fn nothing(aliases: Vec<Alias>) -> DnsOutcome {
    DnsOutcome::Nodata(Denial { aliases, soa: Some(Soa { zone: "customer.example".to_owned(), serial: 41 }) })
}

fn said(outcome: ServerOutcome) -> SurveyAnswer {
    SurveyAnswer {
        answer: ServerAnswer { outcome, over_tcp: None, authoritative: true, soa: true, elapsed_us: 20_000 },
        recursion: false,
        edns: true,
        set: None,
        ttl: None,
        serial: None,
        negative_ttl: None,
        signed: false,
        signatures_expired: None,
    }
}

fn with_set(set: u16) -> SurveyAnswer {
    SurveyAnswer { set: Some(set), ttl: Some(60), ..said(ServerOutcome::Records) }
}

fn wire(name: &str) -> Octets {
    let mut octets: Vec<u8> = Vec::new();
    for label in name.split('.') {
        octets.push(label.len() as u8);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    Octets(octets)
}

fn set(rtype: RecordType, digest: &str, records: Vec<Octets>) -> SurveyedSet {
    let (owner, count) = ("customer.example".to_owned(), records.len() as u32);
    SurveyedSet { owner, rtype: rtype.number(), count, digest: digest.to_owned(), records }
}

/// Places of the sets of the sound world.
const SOA_SET: u16 = 0;
const NS_SET: u16 = 1;
const CAA_SET: u16 = 2;
/// Where a test's own sets begin.
const OWN_SET: u16 = 3;

fn at(address: IpAddr) -> SurveyedAddress {
    SurveyedAddress {
        version: Some(SurveyAnswer { serial: Some(41), ..with_set(SOA_SET) }),
        over_tcp: Some(ServerOutcome::Records),
        mixed_case: Some(MixedCase::Copied),
        servers: Some(with_set(NS_SET)),
        caa: Some(with_set(CAA_SET)),
        txt: Some(SurveyAnswer { negative_ttl: Some(60), ..said(ServerOutcome::Nxdomain) }),
        ..SurveyedAddress::new(address)
    }
}

fn survey() -> Survey {
    let names = ["ns1.customer.example", "ns2.customer.example"];
    let server = |(name, address): (&str, IpAddr)| SurveyedServer {
        name: name.to_owned(),
        by_parent: true,
        by_resolver: true,
        glue: vec![address],
        looked_up: Some(vec![address]),
        types_whole: 2,
        forbidden: Vec::new(),
        addresses: vec![at(address)],
    };
    Survey {
        name: "customer.example".to_owned(),
        challenge: "_acme-challenge.customer.example".to_owned(),
        zone: Some("customer.example".to_owned()),
        parent: Some(ParentView {
            zone: "example".to_owned(),
            asked: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            delegates: true,
            servers: names.map(str::to_owned).to_vec(),
            ds: Some(Vec::new()),
        }),
        servers: names.into_iter().zip([ONE, TWO]).map(server).collect(),
        sets: vec![
            set(RecordType::Soa, "00", vec![Octets(vec![0; 22])]),
            set(RecordType::Ns, "01", names.map(wire).to_vec()),
            set(RecordType::Caa, "02", vec![issue("ca.example")]),
        ],
        omitted: 0,
        cut_off: false,
    }
}

fn sound() -> Observation {
    let levels =
        vec![lookup("customer.example", RecordType::Caa, found("customer.example", vec![issue("ca.example")]))];
    let challenge = lookup("_acme-challenge.customer.example", RecordType::Txt, nothing(Vec::new()));
    Observation {
        started: "2026-12-20T00:00:00Z".parse().expect("a time"),
        elapsed_us: 1,
        control: Some(ControlObservation::Record(challenge)),
        derivation: Vec::new(),
        caa: levels,
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis: None,
        survey: Some(Box::new(survey())),
    }
}

/// What six perspectives saw; none told nothing.
type World = Vec<Option<Observation>>;

fn judged(change: impl FnOnce(&mut World)) -> Preflight {
    judged_by(&rules(), change)
}

fn judged_by(rules: &Rules, change: impl FnOnce(&mut World)) -> Preflight {
    let setup = rules.setup();
    let mut world: World = vec![Some(sound()); setup.perspectives.len() + setup.conduct.trials.len()];
    change(&mut world);
    let request = request("customer.example");
    let subject = Subject { request: &request, rules, at: "2026-12-20T00:00:00Z".parse().expect("a time") };
    let seen: Vec<_> = world.iter().map(Option::as_ref).collect();
    let preflight = judge(&subject, &seen);
    let json = serde_json::to_string(&preflight).expect("JSON");
    assert_eq!(serde_json::from_str::<Preflight>(&json).expect("its own text"), preflight);
    assert!(preflight.findings.is_sorted_by_key(|finding| finding.severity), "the gravest first");
    preflight
}

/// Changes what perspectives saw at one address, or at both.
fn each(world: &mut World, by: &[usize], address: Option<IpAddr>, change: impl Fn(&mut SurveyedAddress)) {
    for place in by {
        let survey = world[*place].as_mut().and_then(|seen| seen.survey.as_mut()).expect("a survey");
        for seen in survey.servers.iter_mut().flat_map(|server| &mut server.addresses) {
            if address.is_none_or(|address| address == seen.address) {
                change(seen);
            }
        }
    }
}

const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

fn surveys(world: &mut World, change: impl Fn(&mut Survey)) {
    for seen in world.iter_mut().flatten() {
        change(seen.survey.as_mut().expect("a survey"));
    }
}

fn die(seen: &mut SurveyedAddress) {
    *seen = SurveyedAddress {
        version: Some(said(ServerOutcome::Silent)),
        without_edns: Some(said(ServerOutcome::Silent)),
        over_tcp: Some(ServerOutcome::Silent),
        ..SurveyedAddress::new(seen.address)
    };
}

/// Findings of the sound world, which others are told beside.
const USUAL: [Code; 2] = [Code::CaaPermits, Code::ChallengeMissing];

/// The findings are these and the usual ones; `out` says how the outlook reads.
#[track_caller]
fn assert_found(out: &str, wants: &[(Severity, Code, Blame, &str)], change: impl FnOnce(&mut World)) -> Preflight {
    let preflight = judged(change);
    let told: BTreeSet<(Severity, Code, String)> = preflight
        .findings
        .iter()
        .filter(|finding| !USUAL.contains(&finding.code) || wants.iter().any(|want| want.1 == finding.code))
        .map(|finding| (finding.severity, finding.code, format!("{:?}: {}", finding.blame, finding.text)))
        .collect();
    let wanted: BTreeSet<(Severity, Code, String)> =
        wants.iter().map(|(severity, code, blame, text)| (*severity, *code, format!("{blame:?}: {text}"))).collect();
    assert_eq!(told, wanted, "\n{:#?}", preflight.findings);
    assert_eq!(preflight.outlook.to_string(), out);
    assert_eq!(preflight.blocks(), wants.iter().any(|want| want.0 == Blocks));
    preflight
}

const FINE: &str = "5/5, margin 1";

// ---- outlook ------------------------------------------------------------------------------------------

#[test]
fn ok_a_sound_name() {
    let preflight = assert_found(FINE, &[], |_| {});
    let texts: Vec<&str> = preflight.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "There is no TXT record at _acme-challenge.customer.example yet, at any nameserver. A check by a dns method needs \
             one; others do not.",
            "CAA at customer.example: Permitted: issue names ca.example.",
        ]
    );
    assert!(preflight.outlook.permits);
    assert_eq!(preflight.outlook.primary, PerspectiveState::Confirmed);
}

#[test]
fn the_outlook_is_by_the_row_in_force_and_by_who_reaches_the_servers() {
    // One remote in the dark is allowed, two are not.
    let one = judged(|world| each(world, &[SIN1], None, die));
    assert_eq!((one.outlook.to_string().as_str(), one.outlook.permits), ("4/5, margin 0", true));
    let two = judged(|world| each(world, &[SIN1, GRU1], None, die));
    assert_eq!((two.outlook.to_string().as_str(), two.outlook.permits, two.blocks()), ("3/5, margin -1", false, true));
    let primary = judged(|world| each(world, &[0], None, die));
    assert_eq!(primary.outlook.to_string(), "5/5, margin 1, and the primary would not confirm");
    assert!(!primary.outlook.permits && primary.blocks());
    let silent = judged(|world| world[JNB1] = None);
    assert_eq!(silent.outlook.to_string(), "4/5, margin 0");
    // Before the first row nothing is defined.
    let (rules, request, seen) = (rules(), request("customer.example"), sound());
    let subject = Subject { request: &request, rules: &rules, at: "2020-01-01T00:00:00Z".parse().expect("a time") };
    let early = judge(&subject, &[Some(&seen); 6]);
    assert_eq!((early.outlook.to_string().as_str(), early.outlook.permits), ("no quorum is possible", false));
    assert!(early.findings.iter().any(|finding| finding.code == Code::QuorumMissed));
}

/// Sixteen remotes, of which five are drawn: more than one attempt could ask.
fn pool() -> Rules {
    rules_with(|setup| {
        let first = setup.perspectives[1].clone();
        setup.perspectives.truncate(1);
        for place in 0..16_u8 {
            let coordinates =
                Coordinates::new(f64::from(place / 4).mul_add(25.0, -40.0), f64::from(place % 4).mul_add(85.0, -170.0))
                    .expect("on Earth");
            let mut remote = first.clone();
            remote.id = format!("pool{place}").parse().expect("an id");
            (remote.rir, remote.coordinates) = (Rir::ALL[usize::from(place) % 5], coordinates);
            (remote.resolver.rir, remote.resolver.coordinates) = (remote.rir, coordinates);
            setup.perspectives.push(remote);
        }
        setup.conduct.draw = Some(Draw { remotes: 5, diversity: Diversity::default() });
    })
}

#[test]
fn the_outlook_of_a_pool_is_that_of_every_cohort_that_may_be_drawn() {
    let rules = pool();
    let cohorts = rules.cohorts("2026-12-20T00:00:00Z".parse().expect("a time"));
    let total = cohorts.len();
    assert!(total > 100, "{total}");
    let sound = judged_by(&rules, |_| {});
    assert_eq!(sound.outlook.to_string(), format!("5/5, margin 1 at worst, {total} of {total} cohorts pass"));
    assert!(sound.outlook.permits);
    // Each cohort may lose one.
    let one = judged_by(&rules, |world| each(world, &[1], None, die));
    assert_eq!(one.outlook.to_string(), format!("4/5, margin 0 at worst, {total} of {total} cohorts pass"));
    assert!(one.outlook.permits && !one.blocks());
    // Two in the dark: those fail that have both.
    let two = judged_by(&rules, |world| each(world, &[1, 2], None, die));
    let pass = cohorts.iter().filter(|members| !(members.contains(&1) && members.contains(&2))).count();
    assert!(pass > 0 && pass < total);
    assert_eq!(two.outlook.to_string(), format!("3/5, margin -1 at worst, {pass} of {total} cohorts pass"));
    assert!(!two.outlook.permits && !two.outlook.would_fail() && !two.blocks());
    let missed = two.findings.iter().find(|finding| finding.code == Code::QuorumMissed).expect("told");
    assert_eq!(missed.severity, MayBlock);
    let dark: Vec<usize> = (1..17).collect();
    let none = judged_by(&rules, |world| each(world, &dark, None, die));
    assert!(none.outlook.would_fail() && none.blocks(), "{:#?}", none.findings);
}

#[test]
fn who_is_on_trial_sets_no_severity() {
    let rules = rules_with(|setup| {
        let mut trial = setup.perspectives[1].clone();
        (trial.id, trial.role) = ("try1".parse().expect("an id"), Role::Trial);
        setup.conduct.trials = vec![trial];
    });
    const TRY1: usize = 6;
    let of = |preflight: &Preflight, code: Code| -> Vec<Severity> {
        preflight.findings.iter().filter(|f| f.code == code).map(|f| f.severity).collect()
    };
    let refuse = |seen: &mut SurveyedAddress| seen.caa = Some(said(ServerOutcome::Rcode(4)));
    let found = judged_by(&rules, |world| {
        each(world, &[TRY1], None, |seen| {
            refuse(seen);
            seen.version.as_mut().expect("SOA").serial = Some(7);
        });
        world[TRY1].as_mut().expect("seen").caa =
            vec![lookup("customer.example", RecordType::Caa, found("customer.example", vec![issue(";")]))];
    });
    for code in [Code::CaaForbids, Code::CaaNotAnswered, Code::SerialsDiffer] {
        assert_eq!(of(&found, code), [Note], "{code}");
    }
    let dark = judged_by(&rules, |world| each(world, &[TRY1], None, die));
    assert_eq!(of(&dark, Code::PerspectiveReachesNoServer), [Note]);
    // Nor does it make less of what all the others see, at one server or at all.
    let others = judged_by(&rules, |world| each(world, &ALL, None, refuse));
    assert_eq!(of(&others, Code::CaaNotAnswered), [Blocks]);
    let one_more = judged_by(&rules, |world| {
        each(world, &ALL, None, refuse);
        each(world, &[TRY1], Some(ONE), refuse);
    });
    assert_eq!(of(&one_more, Code::CaaNotAnswered), [Blocks]);
}

// ---- reach --------------------------------------------------------------------------------------------

#[test]
fn d02_servers_that_some_or_all_do_not_reach() {
    let servers = "ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2)";
    let text = format!(
        "From APNIC and LACNIC no nameserver of customer.example answered: {servers}; UDP and TCP were tried. From RIPE NCC, \
         ARIN and AFRINIC they answer, so this looks like filtering by source location. Open port 53, UDP and TCP, to the \
         whole world."
    );
    let wants = [(Blocks, Code::PerspectiveReachesNoServer, Blame::Filter, text.as_str())];
    let found = assert_found("3/5, margin -1", &wants, |world| each(world, &[SIN1, GRU1], None, die));
    let by: Vec<String> = found.findings[0].perspectives.iter().map(ToString::to_string).collect();
    assert_eq!((by, found.findings[0].servers.len()), (vec!["sin1".to_owned(), "gru1".to_owned()], 2));
    let text = format!(
        "None of the nameservers of customer.example answers anybody: {servers}. UDP and TCP were tried from every \
         perspective. Start them, or correct the delegation at the registrar."
    );
    let wants = [(Blocks, Code::NoServerAnswers, Blame::Dns, text.as_str())];
    let dark = "0/5, margin -4, and the primary would not confirm";
    assert_found(dark, &wants, |world| each(world, &ALL, None, die));
    let text = "ns2.customer.example (198.51.100.2) does not answer, over UDP or TCP, to anybody. Nothing listens on port 53 \
                there. Start it, or take it out of the delegation: whoever asks there first waits for nothing.";
    assert_found(FINE, &[(MayBlock, Code::ServerUnreachable, Blame::Dns, text)], |world| {
        each(world, &ALL, Some(TWO), |seen| {
            die(seen);
            seen.over_tcp = Some(ServerOutcome::Network(NetworkError::Refused));
        });
    });
    let text = "ns1.customer.example (198.51.100.1) does not answer jnb1 (AFRINIC), over UDP or TCP, and answers others. This \
                looks like filtering by source location: open port 53 to the whole world.";
    assert_found(FINE, &[(MayBlock, Code::ServerUnreachableFromSome, Blame::Filter, text)], |world| {
        each(world, &[JNB1], Some(ONE), die);
    });
}

#[test]
fn only_who_told_something_and_was_heard_elsewhere_shows_that_servers_are_silent() {
    // One said nothing at all: not every perspective tried.
    let text = "None of the nameservers of customer.example answers anybody: ns1.customer.example (198.51.100.1) and \
                ns2.customer.example (198.51.100.2). UDP and TCP were tried from ams1 (RIPE NCC), nyc1 (ARIN), waw1 (RIPE \
                NCC), sin1 (APNIC) and gru1 (LACNIC). Start them, or correct the delegation at the registrar.";
    let silent = judged(|world| {
        each(world, &ALL, None, die);
        world[JNB1] = None;
    });
    assert!(silent.findings.iter().any(|f| f.code == Code::NoServerAnswers && f.text == text), "{silent:#?}");
    // One told of its own lookups only.
    let old = judged(|world| {
        each(world, &ALL, None, die);
        world[JNB1].as_mut().expect("seen").survey = None;
    });
    assert!(old.findings.iter().all(|f| f.code != Code::NoServerAnswers), "{old:#?}");
    let reaches = old.findings.iter().find(|f| f.code == Code::PerspectiveReachesNoServer).expect("told");
    assert!(reaches.text.ends_with("tried. No other perspective asked them itself."), "{}", reaches.text);
    // One is closed in itself.
    let text = "sin1 (APNIC) gets no answer from any nameserver, of customer.example or of the zone above: port 53 seems \
                closed there but for the resolver. Open it to compare nameservers; the lookups by the resolver count all the \
                same.";
    assert_found(FINE, &[(Note, Code::PerspectiveCannotAsk, Blame::Perspective, text)], |world| {
        each(world, &[SIN1], None, die);
        world[SIN1].as_mut().and_then(|seen| seen.survey.as_mut()).expect("a survey").parent = Some(deaf_parent());
    });
    // One did not ask all of them.
    let some = judged(|world| {
        each(world, &[SIN1], None, die);
        world[SIN1].as_mut().and_then(|seen| seen.survey.as_mut()).expect("a survey").cut_off = true;
    });
    assert_eq!(some.outlook.to_string(), FINE);
}

#[test]
fn surveys_of_another_zone_are_told_of_and_not_compared() {
    let text = "jnb1 (AFRINIC) found no zone, or another than most; what nameservers say there was not compared.";
    assert_found(FINE, &[(Note, Code::SurveyIncomplete, Blame::Perspective, text)], |world| {
        each(world, &[JNB1], None, die);
        world[JNB1].as_mut().and_then(|seen| seen.survey.as_mut()).expect("a survey").zone =
            Some("b.example".to_owned());
    });
}

#[test]
fn d33_tcp_that_cures_and_that_does_not() {
    let cut = |over_tcp: ServerOutcome| {
        let mut answer = with_set(CAA_SET);
        (answer.answer.outcome, answer.answer.over_tcp) = (ServerOutcome::Truncated, Some(over_tcp));
        Some(answer)
    };
    assert_found(FINE, &[], |world| {
        each(world, &ALL, Some(ONE), |seen| {
            (seen.caa, seen.over_tcp) = (cut(ServerOutcome::Records), Some(ServerOutcome::Silent));
        });
    });
    let text = "The TXT answer does not fit UDP and ns1.customer.example (198.51.100.1) does not give it over TCP port 53, \
                though other questions are answered there. See whether something cuts off long answers (RFC 7766).";
    assert_found(FINE, &[(MayBlock, Code::TcpNotAnswered, Blame::Filter, text)], |world| {
        each(world, &ALL, Some(ONE), |seen| {
            seen.txt = cut(ServerOutcome::Silent).map(|answer| SurveyAnswer { set: None, ..answer });
        });
    });
}

#[test]
fn d33_transports() {
    let refuse = |seen: &mut SurveyedAddress| seen.over_tcp = Some(ServerOutcome::Network(NetworkError::Refused));
    let text = "ns1.customer.example (198.51.100.1) refuses TCP port 53. Answers fit UDP today; one that does not could not be \
                had. Open TCP port 53 (RFC 7766).";
    assert_found(FINE, &[(Note, Code::TcpNotAnswered, Blame::Filter, text)], |world| {
        each(world, &ALL, Some(ONE), refuse)
    });
    let cut = |seen: &mut SurveyedAddress| {
        let mut answer = said(ServerOutcome::Truncated);
        answer.answer.over_tcp = Some(ServerOutcome::Silent);
        (seen.caa, seen.over_tcp) = (Some(answer), Some(ServerOutcome::Silent));
    };
    let text = "The CAA answer does not fit UDP and ns1.customer.example (198.51.100.1) does not answer on TCP port 53. Open \
                TCP port 53 (RFC 7766).";
    assert_found(FINE, &[(MayBlock, Code::TcpNotAnswered, Blame::Filter, text)], |world| {
        each(world, &ALL, Some(ONE), cut)
    });
    let text = "The CAA answer does not fit UDP and ns1.customer.example (198.51.100.1) and ns2.customer.example \
                (198.51.100.2) do not answer on TCP port 53. Open TCP port 53 (RFC 7766).";
    assert_found(FINE, &[(Blocks, Code::TcpNotAnswered, Blame::Filter, text)], |world| each(world, &ALL, None, cut));
    let text = "ns2.customer.example (198.51.100.2) answers over TCP but not over UDP, as seen from sin1 (APNIC). Resolvers \
                ask over UDP first: let UDP port 53 through.";
    assert_found(FINE, &[(MayBlock, Code::UdpNotAnswered, Blame::Filter, text)], |world| {
        each(world, &[SIN1], Some(TWO), |seen| {
            die(seen);
            seen.over_tcp = Some(ServerOutcome::Records);
        });
    });
}

// ---- serving ------------------------------------------------------------------------------------------

#[test]
fn lame_servers() {
    let lame = |outcome: ServerOutcome| {
        move |seen: &mut SurveyedAddress| {
            *seen = SurveyedAddress {
                version: Some(said(outcome.clone())),
                over_tcp: Some(outcome.clone()),
                ..SurveyedAddress::new(seen.address)
            };
        }
    };
    let name = "ns2.customer.example (198.51.100.2)";
    for (outcome, text) in [
        (
            ServerOutcome::Rcode(5),
            "answers REFUSED for customer.example. Serve the zone there, or correct the delegation at the registrar.",
        ),
        (
            ServerOutcome::Rcode(2),
            "answers SERVFAIL for customer.example. The zone is probably not loaded there, or its copy has run out.",
        ),
        (
            ServerOutcome::Referral(".".to_owned()),
            "refers to the nameservers of the root in place of an answer: customer.example is not served there. Serve it, or \
             correct the delegation at the registrar.",
        ),
        (
            ServerOutcome::Nxdomain,
            "has no SOA for customer.example: the zone is not served there. Serve it, or correct the delegation at the \
             registrar.",
        ),
        (
            ServerOutcome::Unreadable,
            "answers for customer.example with what cannot be read. Mend or replace the software there.",
        ),
    ] {
        let text = format!("{name} {text}");
        let wants = [(MayBlock, Code::LameServer, Blame::Dns, text.as_str())];
        assert_found(FINE, &wants, |world| each(world, &ALL, Some(TWO), lame(outcome)));
    }
    let text = "ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2) answer REFUSED for \
                customer.example. Serve the zone there, or correct the delegation at the registrar.";
    // What resolvers remember still permits.
    assert_found(FINE, &[(MayBlock, Code::LameServer, Blame::Dns, text)], |world| {
        each(world, &ALL, None, lame(ServerOutcome::Rcode(5)));
    });
    let gone = judged(|world| {
        each(world, &ALL, None, lame(ServerOutcome::Rcode(5)));
        climbs(world, &DnsOutcome::Failed(DnsFailure::Rcode(2)));
    });
    assert!(gone.findings.iter().any(|f| (f.code, f.severity) == (Code::LameServer, Blocks)), "{gone:#?}");
    let text = "ns2.customer.example (198.51.100.2) answers for customer.example without the authoritative flag: it gives a \
                copy from elsewhere. Have it serve the zone itself.";
    assert_found(FINE, &[(MayBlock, Code::LameServer, Blame::Dns, text)], |world| {
        each(world, &ALL, Some(TWO), |seen| {
            seen.version.as_mut().expect("SOA").answer.authoritative = false;
        });
    });
}

/// A finding about one server, and what makes it.
type Case = (Severity, Code, Blame, &'static str, fn(&mut SurveyedAddress));

#[test]
fn d23_edns_case_and_recursion() {
    let name = "ns2.customer.example (198.51.100.2)";
    let plain = || Some(SurveyAnswer { serial: Some(41), edns: false, ..with_set(SOA_SET) });
    let table: [Case; 7] = [
        (
            MayBlock,
            Code::EdnsDropped,
            Blame::Filter,
            "answers plain queries but not those with EDNS. Resolvers lose time there, or give up. Let EDNS through (RFC \
             6891).",
            |seen| seen.version = Some(said(ServerOutcome::Silent)),
        ),
        (
            Note,
            Code::EdnsNotUnderstood,
            Blame::Dns,
            "answers FORMERR to EDNS and answers without it. Answers beyond 512 octets need TCP there, and DNSSEC is not \
             possible.",
            |seen| seen.version = Some(said(ServerOutcome::Rcode(1))),
        ),
        (
            Note,
            Code::EdnsNotUnderstood,
            Blame::Dns,
            "answers EDNS without EDNS. Answers beyond 512 octets need TCP there, and DNSSEC is not possible.",
            |seen| {
                seen.without_edns = None;
                seen.version.as_mut().expect("SOA").edns = false;
            },
        ),
        (
            Note,
            Code::CaseNotCopied,
            Blame::Dns,
            "does not copy the case of the query name. Whoever guards against forged answers so has to repeat each query \
             over TCP.",
            |seen| (seen.mixed_case, seen.without_edns) = (Some(MixedCase::NotCopied), None),
        ),
        (
            Note,
            Code::MixedCaseNotAnswered,
            Blame::Dns,
            "has no answer for a name in mixed case. Whoever guards against forged answers so has to repeat each query over \
             TCP.",
            |seen| (seen.mixed_case, seen.without_edns) = (Some(MixedCase::Unlike(ServerOutcome::Silent)), None),
        ),
        (
            Note,
            Code::RecursionOffered,
            Blame::Dns,
            "offers recursion to whoever asks. A nameserver of a zone should not.",
            |seen| {
                seen.without_edns = None;
                seen.version.as_mut().expect("SOA").recursion = true;
            },
        ),
        (
            Note,
            Code::TcpNotAnswered,
            Blame::Filter,
            "does not answer on TCP port 53. Answers fit UDP today; one that does not could not be had. Open TCP port 53 (RFC \
             7766).",
            |seen| (seen.over_tcp, seen.without_edns) = (Some(ServerOutcome::Silent), None),
        ),
    ];
    for (severity, code, blame, text, change) in table {
        let text = format!("{name} {text}");
        assert_found(FINE, &[(severity, code, blame, text.as_str())], |world| {
            each(world, &ALL, Some(TWO), |seen| {
                seen.without_edns = plain();
                change(seen);
            });
        });
    }
    // Without TCP nothing is left to fall back on.
    let worse = judged(|world| {
        each(world, &ALL, Some(TWO), |seen| {
            (seen.mixed_case, seen.over_tcp) = (Some(MixedCase::NotCopied), Some(ServerOutcome::Silent));
        });
    });
    let case = worse.findings.iter().find(|finding| finding.code == Code::CaseNotCopied).expect("told");
    assert_eq!(case.severity, MayBlock);
    assert!(case.text.ends_with("so gets none, since TCP does not answer either."), "{}", case.text);
}

// ---- delegation ---------------------------------------------------------------------------------------

#[test]
fn what_the_zone_above_says() {
    let text = "The zone above names old.customer.example as a nameserver of customer.example, and customer.example itself \
                does not. Take it out at the registrar, or add the NS record to the zone.";
    let found = assert_found(FINE, &[(Note, Code::ServerOnlyAtParent, Blame::Record, text)], |world| {
        surveys(world, |survey| {
            survey.parent.as_mut().expect("a parent").servers.push("old.customer.example".to_owned());
        });
    });
    let servers =
        &found.findings.iter().find(|finding| finding.code == Code::ServerOnlyAtParent).expect("told").servers;
    assert_eq!((servers[0].server.as_str(), servers[0].address), ("old.customer.example", None));
    let text = "customer.example itself names ns2.customer.example as a nameserver, and the zone above does not. Add it at the \
                registrar, or take the NS record out of the zone.";
    assert_found(FINE, &[(Note, Code::ServerOnlyAtChild, Blame::Record, text)], |world| {
        surveys(world, |survey| survey.parent.as_mut().expect("a parent").servers.truncate(1));
    });
    let text = "The nameservers of example name no nameservers of customer.example. Have the delegation entered at the \
                registrar; what resolvers remember of an older one will be gone soon.";
    assert_found(FINE, &[(MayBlock, Code::NotDelegated, Blame::Parent, text)], |world| {
        surveys(world, |survey| {
            let parent = survey.parent.as_mut().expect("a parent");
            (parent.delegates, parent.servers) = (false, Vec::new());
        });
    });
    let text = "The nameservers of the zone above customer.example could not be asked, or did not answer, so the delegation, \
                its glue and its DS were not checked.";
    assert_found(FINE, &[(Note, Code::DelegationNotChecked, Blame::Parent, text)], |world| {
        surveys(world, |survey| survey.parent = None);
    });
    // They were asked and did not answer.
    assert_found(FINE, &[(Note, Code::DelegationNotChecked, Blame::Parent, text)], |world| {
        surveys(world, |survey| survey.parent = Some(deaf_parent()));
    });
    let text = "The nameservers of customer.example do not name the same nameservers: ns1.customer.example by the word of \
                ns2.customer.example (198.51.100.2); ns1.customer.example and ns2.customer.example by the word of \
                ns1.customer.example (198.51.100.1). Their copies of the zone differ.";
    assert_found(FINE, &[(Note, Code::ServerSetsDiffer, Blame::Dns, text)], |world| {
        surveys(world, |survey| survey.sets.push(set(RecordType::Ns, "10", vec![wire("ns1.customer.example")])));
        each(world, &ALL, Some(TWO), |seen| seen.servers = Some(with_set(OWN_SET)));
    });
}

/// Servers of the zone above that were asked and did not answer.
fn deaf_parent() -> ParentView {
    ParentView { zone: "example".to_owned(), asked: vec![Ipv4Addr::new(192, 0, 2, 1).into()], ..ParentView::default() }
}

#[test]
fn a_zone_that_is_not_there_and_one_that_is_not_surveyed() {
    let empty = |world: &mut World| {
        surveys(world, |survey| {
            *survey = Survey { name: survey.name.clone(), challenge: survey.challenge.clone(), ..Survey::default() };
        });
    };
    let text = "The nameservers of customer.example were not compared: no zone was found for it that is not a public \
                suffix's. What is said of CAA is what the perspectives' resolvers say.";
    assert_found(FINE, &[(Note, Code::ZoneNotSurveyed, Blame::Perspective, text)], empty);
    let text = "No zone was found that customer.example lies in: the domain is not delegated, or not registered. Register it, \
                or have the delegation entered at the registrar.";
    let denial = Denial { aliases: Vec::new(), soa: None };
    let outcomes = [DnsOutcome::Nxdomain(denial.clone()), DnsOutcome::Nodata(denial)];
    let denied: Vec<DnsLookup> = ["customer.example", "example"]
        .into_iter()
        .zip(outcomes)
        .map(|(name, outcome)| lookup(name, RecordType::Caa, outcome))
        .collect();
    let none =
        (Note, Code::CaaNone, Blame::Policy, "No CAA record stands at customer.example or above: any CA may issue.");
    assert_found(FINE, &[(Blocks, Code::ZoneNotFound, Blame::Parent, text), none], |world| {
        empty(world);
        for seen in world.iter_mut().flatten() {
            seen.caa.clone_from(&denied);
        }
    });
}

#[test]
fn glue_and_addresses() {
    let text = "The zone above gives 198.51.100.9 as ns1.customer.example's, and its own records give 198.51.100.1. Correct \
                the glue at the registrar.";
    assert_found(FINE, &[(MayBlock, Code::GlueDiffers, Blame::Record, text)], |world| {
        surveys(world, |survey| survey.servers[0].glue = vec![Ipv4Addr::new(198, 51, 100, 9).into()]);
    });
    // Fewer glue addresses than there are, and addresses of which not all could be looked up.
    let more: IpAddr = Ipv4Addr::new(198, 51, 100, 8).into();
    assert_found(FINE, &[], |world| surveys(world, |s| s.servers[0].looked_up.as_mut().expect("both").push(more)));
    assert_found(FINE, &[], |world| {
        surveys(world, |survey| {
            survey.servers[0].glue.push(more);
            survey.servers[0].types_whole = 1;
        });
    });
    for (looked_up, text) in [
        (
            Some(Vec::new()),
            "The nameserver ns3.customer.example has no address. Give it one, or take it out of the delegation.",
        ),
        (
            None,
            "The address of the nameserver ns3.customer.example could not be looked up. See to the zone it lies in.",
        ),
    ] {
        assert_found(FINE, &[(MayBlock, Code::ServerWithoutAddress, Blame::Record, text)], |world| {
            surveys(world, |survey| {
                let name = "ns3.customer.example".to_owned();
                survey.servers.push(SurveyedServer { name, looked_up: looked_up.clone(), ..SurveyedServer::default() });
            });
        });
    }
    let text = "The nameserver ns2.customer.example has 10.0.0.1 as address, which lies in a special-purpose block: nobody out \
                there can ask it. Correct the record.";
    assert_found(FINE, &[(MayBlock, Code::ServerAddressForbidden, Blame::Record, text)], |world| {
        surveys(world, |survey| survey.servers[1].forbidden = vec![Ipv4Addr::new(10, 0, 0, 1).into()]);
    });
}

// ---- data ---------------------------------------------------------------------------------------------

#[test]
fn d17_versions() {
    let serial =
        |serial: u32| move |seen: &mut SurveyedAddress| seen.version.as_mut().expect("SOA").serial = Some(serial);
    let text = "The nameservers of customer.example hold different versions of the zone: serial 40 at ns2.customer.example \
                (198.51.100.2); serial 41 at ns1.customer.example (198.51.100.1). Wait until all have the newest, or mend the \
                zone transfer.";
    assert_found(FINE, &[(MayBlock, Code::SerialsDiffer, Blame::Dns, text)], |world| {
        each(world, &ALL, Some(TWO), serial(40));
    });
    // One address, two machines.
    let text = "The nameservers of customer.example hold different versions of the zone: serial 40 at ns1.customer.example \
                (198.51.100.1) as sin1 (APNIC) and gru1 (LACNIC) see it (NSID syd1); serial 41 at ns2.customer.example \
                (198.51.100.2) and ns1.customer.example (198.51.100.1) as ams1 (RIPE NCC), nyc1 (ARIN), waw1 (RIPE NCC) and \
                jnb1 (AFRINIC) see it. Wait until all have the newest, or mend the zone transfer.";
    assert_found(FINE, &[(MayBlock, Code::SerialsDiffer, Blame::Dns, text)], |world| {
        each(world, &[SIN1, GRU1], Some(ONE), |seen| {
            serial(40)(seen);
            seen.nsid = Some(Octets(b"syd1".to_vec()));
        });
    });
}

#[test]
fn the_challenge_name() {
    let value = |digest: &str| set(RecordType::Txt, digest, vec![Octets(b"\x06secret".to_vec())]);
    let has = |set: u16| move |seen: &mut SurveyedAddress| seen.txt = Some(with_set(set));
    let text = "The nameservers do not hold the same at _acme-challenge.customer.example: 1 record at ns1.customer.example \
                (198.51.100.1); nothing at ns2.customer.example (198.51.100.2). A check sees one or the other: wait until all \
                have the newest, or mend the zone transfer.";
    assert_found(FINE, &[(MayBlock, Code::ChallengeMissingAtSome, Blame::Dns, text)], |world| {
        surveys(world, |survey| survey.sets.push(value("10")));
        each(world, &ALL, Some(ONE), has(OWN_SET));
    });
    let text = "The nameservers do not hold the same at _acme-challenge.customer.example: 1 record (digest 10) at \
                ns1.customer.example (198.51.100.1); 1 record (digest 11) at ns2.customer.example (198.51.100.2). A check \
                sees one or the other: wait until all have the newest, or mend the zone transfer.";
    let found = assert_found(FINE, &[(MayBlock, Code::ChallengeDiffers, Blame::Dns, text)], |world| {
        surveys(world, |survey| survey.sets.extend([value("10"), value("11")]));
        each(world, &ALL, Some(ONE), has(OWN_SET));
        each(world, &ALL, Some(TWO), has(OWN_SET + 1));
    });
    // No value is shown.
    assert!(!serde_json::to_string(&found).expect("JSON").contains("secret"));
    let text = "What stands at _acme-challenge.customer.example may be remembered for 3600 s, by the word of \
                ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2): a resolver that asked before \
                keeps showing the old value that long. 300 s or less is better for a challenge.";
    assert_found(FINE, &[(Note, Code::ChallengeTtlLong, Blame::Record, text)], |world| {
        surveys(world, |survey| survey.sets.push(value("10")));
        each(world, &ALL, None, |seen| seen.txt = Some(SurveyAnswer { ttl: Some(3600), ..with_set(OWN_SET) }));
    });
    let text = "That _acme-challenge.customer.example has no TXT may be remembered for 86400 s, by the SOA of \
                ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2). Publish the record before a \
                check is asked for, or lower the SOA's minimum.";
    assert_found(FINE, &[(Note, Code::NegativeTtlLong, Blame::Record, text)], |world| {
        each(world, &ALL, None, |seen| seen.txt.as_mut().expect("TXT").negative_ttl = Some(86_400));
    });
    let text = "ns2.customer.example (198.51.100.2) answers SOA but never TXT of _acme-challenge.customer.example. A firewall \
                in front of it is probably discarding such queries.";
    assert_found(FINE, &[(MayBlock, Code::ChallengeNotAnswered, Blame::Filter, text)], |world| {
        each(world, &ALL, Some(TWO), |seen| seen.txt = Some(said(ServerOutcome::Silent)));
    });
}

#[test]
fn a_challenge_that_stands_elsewhere() {
    let text = "_acme-challenge.customer.example is an alias for u1.auth.example at ns1.customer.example (198.51.100.1) and \
                ns2.customer.example (198.51.100.2): the TXT record is looked for there, and the nameservers of that name \
                were not compared.";
    assert_found(FINE, &[(Note, Code::ChallengeIsAlias, Blame::Record, text)], |world| {
        surveys(world, |survey| survey.sets.push(set(RecordType::Cname, "10", vec![wire("u1.auth.example")])));
        each(world, &ALL, None, |seen| seen.txt = Some(with_set(OWN_SET)));
    });
    let zone = "_acme-challenge.customer.example";
    let text = format!(
        "{zone} lies in the zone {zone}, which its parent's servers refer to other nameservers; these were not compared."
    );
    assert_found(FINE, &[(Note, Code::ChallengeDelegated, Blame::Record, text.as_str())], |world| {
        each(world, &ALL, None, |seen| seen.txt = Some(said(ServerOutcome::Referral(zone.to_owned()))));
    });
    // D22: a name nobody created gets the same alias.
    let text = "_acme-challenge.customer.example is answered by the wildcard *.customer.example → lb.host.example, which has \
                no TXT: q7.customer.example, a name nobody created, gets the same answer. Create the TXT record explicitly; \
                it takes precedence over the wildcard.";
    assert_found(FINE, &[(MayBlock, Code::WildcardAnswersChallenge, Blame::Record, text)], |world| {
        let alias = |owner: &str| {
            nothing(vec![Alias { owner: owner.to_owned(), target: "lb.host.example".to_owned(), dname: false }])
        };
        let primary = world[0].as_mut().expect("seen");
        let (challenge, sibling) = ("_acme-challenge.customer.example", "q7.customer.example");
        primary.control = Some(ControlObservation::Record(lookup(challenge, RecordType::Txt, alias(challenge))));
        let lookup = lookup(sibling, RecordType::Txt, alias(sibling));
        primary.hints = vec![HintObservation { kind: HintKind::WildcardSibling, lookup }];
    });
}

// ---- CAA ----------------------------------------------------------------------------------------------

/// All perspectives' own lookups of CAA come to this.
fn climbs(world: &mut World, outcome: &DnsOutcome) {
    for seen in world.iter_mut().flatten() {
        seen.caa = vec![lookup("customer.example", RecordType::Caa, outcome.clone())];
    }
}

#[test]
fn d24_d25_d26_servers_without_an_answer_to_caa() {
    let both = "ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2)";
    let text = format!("{both} answer NOTIMP to CAA (type 257). They should answer NOERROR with an empty answer.");
    assert_found(FINE, &[(Blocks, Code::CaaNotAnswered, Blame::Dns, text.as_str())], |world| {
        each(world, &ALL, None, |seen| seen.caa = Some(said(ServerOutcome::Rcode(4))));
    });
    let text = "ns2.customer.example (198.51.100.2) answers SOA but never CAA, as seen from jnb1 (AFRINIC). A firewall in front \
                of it is probably discarding query types it does not know.";
    assert_found(FINE, &[(MayBlock, Code::CaaNotAnswered, Blame::Filter, text)], |world| {
        each(world, &[JNB1], Some(TWO), |seen| seen.caa = Some(said(ServerOutcome::Silent)));
    });
    let text = "ns2.customer.example (198.51.100.2) answers to CAA without the authoritative flag and without SOA; resolvers \
                may reject that.";
    assert_found(FINE, &[(MayBlock, Code::CaaDenialBare, Blame::Dns, text)], |world| {
        each(world, &ALL, Some(TWO), |seen| {
            let mut answer = said(ServerOutcome::Nodata);
            (answer.answer.authoritative, answer.answer.soa) = (false, false);
            seen.caa = Some(answer);
        });
    });
    let text = "The nameservers do not hold the same CAA records of customer.example: 0 issue \"ca.example\" at \
                ns1.customer.example (198.51.100.1); none at ns2.customer.example (198.51.100.2). A check obeys whichever it \
                is given: wait until all have the newest, or mend the zone transfer.";
    assert_found(FINE, &[(MayBlock, Code::CaaDiffers, Blame::Dns, text)], |world| {
        each(world, &ALL, Some(TWO), |seen| seen.caa = Some(said(ServerOutcome::Nodata)));
    });
}

#[test]
fn what_caa_means_for_this_ca() {
    let none = "0/5, margin -4, and the primary would not confirm";
    let text = "CAA at customer.example: Forbidden: issue governs this name and names only other.example. Add this CA there, \
                or publish a CAA record at customer.example that names it.";
    assert_found(none, &[(Blocks, Code::CaaForbids, Blame::Policy, text)], |world| {
        climbs(world, &found("customer.example", vec![issue("other.example")]));
    });
    // A preflight has no method, so what binds one is not satisfied; a check by it would be.
    let text = "CAA at customer.example names this CA for certain accounts or methods only; a preflight is by none, so a check \
                by another account or method is refused.";
    let preflight = judged(|world| {
        climbs(world, &found("customer.example", vec![issue("ca.example; validationmethods=dns-01")]));
    });
    let binds = preflight.findings.iter().find(|finding| finding.code == Code::CaaBinds).expect("told");
    assert_eq!((binds.severity, binds.text.as_str()), (MayBlock, text));
    assert_eq!((preflight.outlook.to_string().as_str(), preflight.blocks()), (FINE, false));
    let text = "No CAA record stands at customer.example or above: any CA may issue.";
    assert_found(FINE, &[(Note, Code::CaaNone, Blame::Policy, text)], |world| {
        for seen in world.iter_mut().flatten() {
            seen.caa =
                ["customer.example", "example"].map(|name| lookup(name, RecordType::Caa, nothing(Vec::new()))).to_vec();
        }
    });
    // Split by perspective.
    let preflight = judged(|world| {
        world[JNB1].as_mut().expect("seen").caa =
            vec![lookup("customer.example", RecordType::Caa, found("customer.example", vec![issue(";")]))];
    });
    let forbids = preflight.findings.iter().find(|finding| finding.code == Code::CaaForbids).expect("told");
    assert!(forbids.text.ends_with("So it is seen from jnb1 (AFRINIC)."), "{}", forbids.text);
    assert_eq!(preflight.outlook.to_string(), "4/5, margin 0");
    assert_eq!((forbids.severity, preflight.blocks()), (MayBlock, false), "the others suffice");
}

// ---- DNSSEC -------------------------------------------------------------------------------------------

/// DS of key 11111, and signatures over everything.
fn sign(world: &mut World) {
    surveys(world, |survey| {
        let ds = Octets([&[0x2b, 0x67, 13, 2][..], &[7; 32]].concat());
        survey.parent.as_mut().expect("a parent").ds = Some(vec![ds]);
    });
    each(world, &ALL, None, |seen| {
        for answer in [&mut seen.version, &mut seen.caa, &mut seen.txt].into_iter().flatten() {
            answer.signed = true;
        }
    });
}

#[test]
fn d35_ds_and_keys() {
    let both = "ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2)";
    let text = format!(
        "The zone above publishes DS 11111 for customer.example, and {both} have no DNSKEY. Remove the DS at the registrar."
    );
    assert_found(FINE, &[(Blocks, Code::DsMatchesNoKey, Blame::Record, text.as_str())], |world| {
        sign(world);
        each(world, &ALL, None, |seen| seen.keys = Some(said(ServerOutcome::Nodata)));
    });
    let key = Octets([&[1, 1, 3, 13][..], &[9; 64]].concat());
    let text = format!(
        "The zone above publishes DS 11111 for customer.example, and {both} have DNSKEY 9519, none of which fits. Remove or \
         replace the DS at the registrar."
    );
    assert_found(FINE, &[(Blocks, Code::DsMatchesNoKey, Blame::Record, text.as_str())], |world| {
        sign(world);
        surveys(world, |survey| survey.sets.push(set(RecordType::Dnskey, "10", vec![key.clone()])));
        each(world, &ALL, None, |seen| seen.keys = Some(with_set(OWN_SET)));
    });
    // A DS that fits, by its own digest.
    let digest: Vec<u8> = {
        use ring::digest::{SHA256, digest};
        digest(&SHA256, &[wire("customer.example").as_slice(), key.as_slice()].concat()).as_ref().to_vec()
    };
    let fits = |world: &mut World| {
        sign(world);
        surveys(world, |survey| {
            let ds = Octets([&9519_u16.to_be_bytes()[..], &[13, 2], &digest].concat());
            survey.parent.as_mut().expect("a parent").ds = Some(vec![ds]);
            survey.sets.push(set(RecordType::Dnskey, "10", vec![key.clone()]));
        });
        each(world, &ALL, None, |seen| seen.keys = Some(SurveyAnswer { signed: true, ..with_set(OWN_SET) }));
    };
    assert_found(FINE, &[], fits);
    // One server without signatures.
    let text = "The zone customer.example is signed by the word of the zone above, and ns2.customer.example (198.51.100.2) \
                answers to SOA and TXT without signatures. Sign the zone anew, and see that all its servers have the same copy.";
    assert_found(FINE, &[(MayBlock, Code::SignaturesMissing, Blame::Dns, text)], |world| {
        fits(world);
        each(world, &ALL, Some(TWO), |seen| {
            for answer in [&mut seen.version, &mut seen.txt].into_iter().flatten() {
                answer.signed = false;
            }
        });
    });
    // The challenge name may be a zone of its own, which need not be signed.
    assert_found(FINE, &[], |world| {
        fits(world);
        each(world, &ALL, None, |seen| seen.txt.as_mut().expect("TXT").signed = false);
    });
    // D34.
    let over = |seen: &mut SurveyedAddress| {
        for answer in [&mut seen.version, &mut seen.caa].into_iter().flatten() {
            answer.signatures_expired = Some("2026-12-19T00:00:00Z".parse().expect("a time"));
        }
    };
    let text = "Signatures from ns2.customer.example (198.51.100.2) over SOA and CAA expired 2026-12-19T00:00:00Z. Its zone \
                transfer seems stuck.";
    assert_found(FINE, &[(MayBlock, Code::SignaturesExpired, Blame::Dns, text)], |world| {
        fits(world);
        each(world, &ALL, Some(TWO), over);
    });
    let text = format!(
        "Signatures from {both} over SOA and CAA expired 2026-12-19T00:00:00Z. Sign the zone customer.example anew."
    );
    assert_found(FINE, &[(Blocks, Code::SignaturesExpired, Blame::Dns, text.as_str())], |world| {
        fits(world);
        each(world, &ALL, None, over);
    });
    // Without DS nobody looks at signatures.
    assert_found(FINE, &[], |world| each(world, &ALL, None, over));
}

/// From a place, CAA of the name is validly signed.
fn secure(world: &mut World, by: usize) {
    world[by].as_mut().expect("seen").caa[0].validation = Some(Box::new(Validation {
        status: SecurityStatus::Secure,
        anchor: None,
        signers: vec!["customer.example".to_owned()],
        insecure: None,
        fault: None,
        first_fault: None,
        links: Vec::new(),
        message: None,
    }));
}

#[test]
fn what_is_bogus_here_and_validly_signed_elsewhere_is_left_as_it_is() {
    let fault = DnssecFault::DsMatchesNoKey { zone: "customer.example".to_owned(), ds: vec![11_111], keys: Vec::new() };
    let text = "The lookup of CAA of customer.example by the resolver of sin1 (APNIC) is bogus: the parent publishes DS 11111 \
                for customer.example, and customer.example has no DNSKEY. From nyc1 (ARIN) it is validly signed: leave the \
                DS and the zone as they are. Servers or routes differ by place.";
    assert_found("4/5, margin 0", &[(MayBlock, Code::ResolverFails, Blame::Dns, text)], |world| {
        world[SIN1].as_mut().expect("seen").caa =
            vec![lookup("customer.example", RecordType::Caa, DnsOutcome::Failed(DnsFailure::Dnssec(fault.clone())))];
        secure(world, 1);
    });
    let both = "ns1.customer.example (198.51.100.1) and ns2.customer.example (198.51.100.2)";
    let text = format!(
        "The zone above publishes DS 11111 for customer.example, and {both} have no DNSKEY. From nyc1 (ARIN) it is validly \
         signed: leave the DS and the zone as they are. Servers or routes differ by place."
    );
    let unkeyed = |seen: &mut SurveyedAddress| seen.keys = Some(said(ServerOutcome::Nodata));
    assert_found(FINE, &[(MayBlock, Code::DsMatchesNoKey, Blame::Dns, text.as_str())], |world| {
        sign(world);
        each(world, &ALL, None, unkeyed);
        secure(world, 1);
    });
    // Nobody else reaches the servers, so one perspective's word is all there is.
    let alone = judged(|world| {
        sign(world);
        each(world, &ALL, None, die);
        each(world, &[0], None, |seen| {
            *seen = at(seen.address);
            unkeyed(seen);
        });
    });
    let finding = alone.findings.iter().find(|f| f.code == Code::DsMatchesNoKey).expect("told");
    assert_eq!((finding.severity, finding.blame), (MayBlock, Blame::Dns));
    assert!(finding.text.ends_with("See that all nameservers have the same copy."), "{}", finding.text);
}

// ---- perspectives -------------------------------------------------------------------------------------

#[test]
fn perspectives_and_their_resolvers() {
    let failed = |failure: DnsFailure| vec![lookup("customer.example", RecordType::Caa, DnsOutcome::Failed(failure))];
    let text = "The lookup of CAA of customer.example by the resolver of sin1 (APNIC) was answered SERVFAIL (rcode 2). Asked \
                directly, nameservers of the zone answer there: see what is said of them above, and the resolver.";
    assert_found("4/5, margin 0", &[(MayBlock, Code::ResolverFails, Blame::Perspective, text)], |world| {
        world[SIN1].as_mut().expect("seen").caa = failed(DnsFailure::Rcode(2));
    });
    let fault = DnssecFault::DsMatchesNoKey { zone: "customer.example".to_owned(), ds: vec![11_111], keys: Vec::new() };
    let all = "ams1 (RIPE NCC), nyc1 (ARIN), waw1 (RIPE NCC), sin1 (APNIC), gru1 (LACNIC) and jnb1 (AFRINIC)";
    let text = format!(
        "The lookup of CAA of customer.example by the resolver of {all} is bogus: the parent publishes DS 11111 for \
         customer.example, and customer.example has no DNSKEY. Remove the DS at the registrar."
    );
    let none = "0/5, margin -4, and the primary would not confirm";
    assert_found(none, &[(Blocks, Code::ResolverFails, Blame::Record, text.as_str())], |world| {
        for seen in world.iter_mut().flatten() {
            seen.caa = failed(DnsFailure::Dnssec(fault.clone()));
        }
    });
    // No server was found that could be asked.
    let text = "The lookup of CAA of customer.example by the resolver of sin1 (APNIC) did not reach our resolver: the packet \
                was refused.";
    assert_found("4/5, margin 0", &[(MayBlock, Code::LookupFails, Blame::Perspective, text)], |world| {
        let seen = world[SIN1].as_mut().expect("seen");
        seen.caa = failed(DnsFailure::ResolverUnreachable(NetworkError::Refused));
        seen.survey.as_mut().expect("a survey").servers.clear();
    });
    let text = "The lookup of CAA of customer.example by the resolver of sin1 (APNIC) was never answered.";
    assert_found("4/5, margin 0", &[(MayBlock, Code::LookupFails, Blame::Dns, text)], |world| {
        let seen = world[SIN1].as_mut().expect("seen");
        seen.caa = failed(DnsFailure::Timeout);
        seen.survey.as_mut().expect("a survey").servers.clear();
    });
    let text = "Nothing came from gru1 (LACNIC): the node there is not running, or cannot be reached. It counts as not \
                confirming.";
    assert_found("4/5, margin 0", &[(MayBlock, Code::PerspectiveSilent, Blame::Perspective, text)], |world| {
        world[GRU1] = None;
    });
    let text = "No survey came from gru1 (LACNIC) that can be used: the node there is of another version, which does not know \
                surveys or makes others. Update it; its own lookups count all the same.";
    assert_found(FINE, &[(Note, Code::PerspectiveOld, Blame::Perspective, text)], |world| {
        world[GRU1].as_mut().expect("seen").survey = None;
    });
    let text = "Not everything was asked: the zone has more nameservers or addresses than are asked and the time ran out at \
                jnb1 (AFRINIC).";
    assert_found(FINE, &[(Note, Code::SurveyIncomplete, Blame::Perspective, text)], |world| {
        surveys(world, |survey| survey.omitted = 3);
        world[JNB1].as_mut().and_then(|seen| seen.survey.as_mut()).expect("a survey").cut_off = true;
    });
}

#[test]
fn every_code_is_told_by_some_test_and_its_name_is_the_one_in_json() {
    for code in Code::ALL {
        let json = serde_json::to_value(code).expect("JSON");
        assert_eq!(json, code.as_str(), "{code:?}");
    }
    let own = include_str!("preflight.rs");
    let untold: Vec<&Code> = Code::ALL.iter().filter(|code| !own.contains(&format!("Code::{code:?}"))).collect();
    assert_eq!(untold, Vec::<&Code>::new());
}
