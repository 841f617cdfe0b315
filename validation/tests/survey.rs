//! The survey of a task against scripted name servers in memory: what is asked of whom, and what is kept of the answers.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use parallax_validation::{
    base::{
        Entropy, Micros,
        address::AddressFilter,
        limits::{
            SURVEY_KEPT_BYTES_MAX, SURVEY_PARENTS_MAX, SURVEY_QUERIES_IN_FLIGHT_MAX, SURVEY_QUERIES_MAX,
            SURVEYED_ADDRESSES_MAX, SURVEYED_SERVERS_MAX,
        },
    },
    lookup::{
        Dnssec,
        dnssec::chain::ZoneCache,
        task::{Command, Site, Stream, Task, TaskSettings, TurnEvent},
        tls::{TlsSettings, rustls},
    },
    observation::{MixedCase, NetworkError, Observation, ServerOutcome, Survey, SurveyedAddress},
    plan::{Plan, PlanLimits, survey::SurveyPlan},
};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
const DS: u16 = 43;
const DNSKEY: u16 = 48;
const CAA: u16 = 257;
const FORMERR: u16 = 1;
const SERVFAIL: u16 = 2;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
/// TC.
const TRUNCATED: u16 = 0x0200;
const AA: u16 = 0x0400;

const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53));
const PARENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));

// ---- packets ------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Rr(String, u16, u32, Vec<u8>);

fn rr(owner: &str, rtype: u16, rdata: impl AsRef<[u8]>) -> Rr {
    Rr(owner.to_owned(), rtype, 60, rdata.as_ref().to_vec())
}

fn wire(name: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        octets.push(label.len() as u8);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.push(0);
    octets
}

fn soa(zone: &str, serial: u32) -> Rr {
    let numbers: Vec<u8> = [serial, 3600, 600, 86_400, 1800].iter().flat_map(|n| n.to_be_bytes()).collect();
    rr(zone, SOA, [wire("ns1.customer.example"), wire("hm.customer.example"), numbers].concat())
}

fn address(name: &str, address: IpAddr) -> Rr {
    match address {
        IpAddr::V4(address) => rr(name, A, address.octets()),
        IpAddr::V6(address) => rr(name, 28, address.octets()),
    }
}

fn caa(owner: &str, issuer: &str) -> Rr {
    rr(owner, CAA, [&[0, 5][..], b"issue", issuer.as_bytes()].concat())
}

/// A question as it came.
#[derive(Clone, Debug)]
struct Asked {
    /// Whom.
    at: IpAddr,
    /// In lower case.
    name: String,
    rtype: u16,
    mixed: bool,
    edns: bool,
    tcp: bool,
    query: Vec<u8>,
}

impl Asked {
    fn read(at: IpAddr, tcp: bool, query: &[u8]) -> Self {
        let mut labels = Vec::new();
        let mut pos = 12;
        while query[pos] != 0 {
            let end = pos + 1 + usize::from(query[pos]);
            labels.push(String::from_utf8(query[pos + 1..end].to_vec()).expect("ASCII"));
            pos = end;
        }
        let name = labels.join(".");
        let rtype = u16::from_be_bytes([query[pos + 1], query[pos + 2]]);
        let mixed = name.bytes().any(|b| b.is_ascii_uppercase());
        Self { at, name: name.to_ascii_lowercase(), rtype, mixed, edns: query[11] == 1, tcp, query: query.to_vec() }
    }

    fn question(&self) -> &[u8] {
        &self.query[12..12 + wire(&self.name).len() + 4]
    }

    fn is(&self, name: &str, rtype: u16) -> bool {
        self.name == name && self.rtype == rtype
    }
}

/// A reply: flags and code, and three sections. EDNS is answered with EDNS and an identifier.
fn reply(asked: &Asked, flags: u16, sections: [&[Rr]; 3]) -> Vec<u8> {
    let mut packet = asked.query[..2].to_vec();
    let counts = sections.map(|section| section.len() as u16);
    for field in [0x8000 | flags, 1, counts[0], counts[1], counts[2] + u16::from(asked.edns)] {
        packet.extend_from_slice(&field.to_be_bytes());
    }
    packet.extend_from_slice(asked.question());
    for Rr(owner, rtype, ttl, rdata) in sections.into_iter().flatten() {
        packet.extend_from_slice(&wire(owner));
        for field in [*rtype, 1] {
            packet.extend_from_slice(&field.to_be_bytes());
        }
        packet.extend_from_slice(&ttl.to_be_bytes());
        packet.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        packet.extend_from_slice(rdata);
    }
    if asked.edns {
        packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 8, 0, 3, 0, 4, b's', b'y', b'd', b'1']);
    }
    packet
}

// ---- servers ------------------------------------------------------------------------------------------

/// What comes back.
enum Back {
    Octets(Vec<u8>),
    Nothing,
    Refused,
}

fn records(asked: &Asked, records: &[Rr]) -> Back {
    Back::Octets(reply(asked, AA, [records, &[], &[]]))
}

fn code(asked: &Asked, code: u16) -> Back {
    Back::Octets(reply(asked, code, [&[], &[], &[]]))
}

/// `customer.example` with two servers below `example`, all as it should be.
fn sound(asked: &Asked) -> Back {
    let servers = ["ns1.customer.example", "ns2.customer.example"].map(|name| rr("customer.example", NS, wire(name)));
    let glue = [address("ns1.customer.example", ONE), address("ns2.customer.example", TWO)];
    if asked.at == PARENT {
        return match asked.rtype {
            NS => Back::Octets(reply(asked, 0, [&[], &servers, &glue])),
            _ => Back::Octets(reply(asked, AA, [&[], &[soa("example", 7)], &[]])),
        };
    }
    let zone = if asked.name.ends_with("customer.example") { "customer.example" } else { "example" };
    let found = match (asked.name.as_str(), asked.rtype) {
        ("customer.example", SOA) => vec![soa("customer.example", 41)],
        ("customer.example", NS) => servers.to_vec(),
        ("customer.example", CAA) => vec![caa("customer.example", "ca.example")],
        ("ns1.customer.example", A) => vec![glue[0].clone()],
        ("ns2.customer.example", A) => vec![glue[1].clone()],
        ("example", NS) => vec![rr("example", NS, wire("a.nic.example"))],
        ("a.nic.example", A) => vec![address("a.nic.example", PARENT)],
        _ => Vec::new(),
    };
    let denial = if found.is_empty() { vec![soa(zone, 41)] } else { Vec::new() };
    Back::Octets(reply(asked, AA, [&found, &denial, &[]]))
}

// ---- the driver ---------------------------------------------------------------------------------------

struct Bits(u64);

impl Entropy for Bits {
    fn next_u64(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }
}

fn plan(name: &str) -> Plan {
    Plan {
        control: None,
        derivation: None,
        caa_levels: Vec::new(),
        hints: Vec::new(),
        keep_proof: false,
        diagnose: false,
        survey: Some(Box::new(SurveyPlan { name: name.to_owned(), challenge: format!("_acme-challenge.{name}") })),
        limits: PlanLimits::default(),
    }
}

/// What was seen, and every question in order; a retransmission is one too.
struct Played {
    seen: Observation,
    asked: Vec<Asked>,
    elapsed: u64,
}

impl Played {
    fn survey(&self) -> &Survey {
        self.seen.survey.as_ref().expect("a survey")
    }

    fn at(&self, address: IpAddr) -> &SurveyedAddress {
        self.survey().asked().map(|(_, seen)| seen).find(|seen| seen.address == address).expect("it was asked")
    }

    /// Questions to an address: how many, retransmissions among them.
    fn count(&self, at: IpAddr) -> usize {
        self.asked.iter().filter(|asked| asked.at == at).count()
    }
}

fn play(plan: Plan, answers: impl Fn(&Asked) -> Back) -> Played {
    play_in_turns(plan, |_, _| Micros(0), answers)
}

/// The same, where a name server may not be asked, over TCP or not, before a time.
fn play_in_turns(plan: Plan, turn: impl Fn(IpAddr, bool) -> Micros, answers: impl Fn(&Asked) -> Back) -> Played {
    let provider = rustls::crypto::ring::default_provider();
    let allowed = ["192.0.2.0/24", "198.51.100.0/24"].map(|net| net.parse().expect("a prefix"));
    let settings = TaskSettings {
        resolver: SocketAddr::new(RESOLVER, 53),
        filter: AddressFilter::allowing(allowed.to_vec()),
        dnssec: Dnssec::Resolver,
        tls: TlsSettings::new(provider).expect("TLS"),
    };
    let (mut zones, mut entropy, mut now) = (ZoneCache::default(), Bits(7), Micros(1_000));
    let started = "2026-12-20T00:00:00Z".parse().expect("a time");
    macro_rules! site {
        () => {
            &mut Site { settings: &settings, zones: &mut zones, entropy: &mut entropy }
        };
    }
    let deadline = now.plus_ms(plan.limits.task_deadline_ms.into());
    let mut task = Task::new(plan, site!(), now, started);
    let (mut asked, mut open, mut in_flight) = (Vec::new(), Vec::new(), 0_usize);
    let mut events: VecDeque<(u16, Asked)> = VecDeque::new();
    let (mut waiting, mut turns): (Vec<(Micros, u16)>, Vec<u16>) = (Vec::new(), Vec::new());
    loop {
        for command in task.take_commands() {
            let wants_turn = match &command {
                Command::Transmit(slot) => Some((*slot, false)),
                Command::Connect(Stream::Query(slot), _) => Some((*slot, true)),
                _ => None,
            };
            if let Some((slot, tcp)) = wants_turn
                && let Some(at) = task.peer(slot).map(|peer| peer.ip())
                && !turns.contains(&slot)
            {
                turns.push(slot);
                if turn(at, tcp) > now {
                    waiting.push((turn(at, tcp), slot));
                    task.wait_for_turn(slot);
                    continue;
                }
            }
            match command {
                Command::Transmit(slot) => {
                    let mut packet = Vec::new();
                    if task.compose(now, slot, 100 + slot, &mut Bits(slot.into()), &mut packet) {
                        let at = task.peer(slot).unwrap_or(settings.resolver).ip();
                        let question = Asked::read(at, false, &packet);
                        in_flight += usize::from(at != RESOLVER);
                        asked.push(question.clone());
                        events.push_back((slot, question));
                    }
                }
                Command::Connect(stream, peer) => {
                    open.push((stream, peer.ip()));
                    let probe = Asked {
                        at: peer.ip(),
                        name: String::new(),
                        rtype: 0,
                        mixed: false,
                        edns: false,
                        tcp: true,
                        query: vec![0; 17],
                    };
                    match answers(&probe) {
                        Back::Refused => task.handle_stream_failed(site!(), now, stream, NetworkError::Refused),
                        Back::Nothing => {}
                        Back::Octets(_) => task.handle_connected(site!(), now, stream),
                    }
                }
                Command::Send(stream, octets) => {
                    let at = open.iter().find(|(other, _)| *other == stream).map(|(_, at)| *at).expect("connected");
                    let question = Asked::read(at, true, &octets[2..]);
                    asked.push(question.clone());
                    if let Back::Octets(packet) = answers(&question) {
                        let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
                        task.handle_stream(site!(), now, stream, &framed);
                    }
                }
                Command::Close(stream) => open.retain(|(other, _)| *other != stream),
                Command::Release(_) => {}
                Command::Part(..) => panic!("a survey parts with nobody"),
                Command::Pace(slot, TurnEvent::Ended) => {
                    waiting.retain(|(_, other)| *other != slot);
                    turns.retain(|other| *other != slot);
                }
                Command::Pace(..) => {}
            }
        }
        assert!(open.iter().all(|(stream, _)| matches!(stream, Stream::Query(_))));
        if let Some(seen) = task.poll_observation(now) {
            assert!(open.is_empty(), "{open:?} are left open");
            assert!(turns.is_empty(), "{turns:?} keep their turns");
            return Played { seen: *seen, asked, elapsed: now.since(Micros(1_000)) };
        }
        match events.pop_front() {
            Some((slot, question)) => {
                in_flight = in_flight.saturating_sub(usize::from(question.at != RESOLVER));
                assert!(in_flight <= SURVEY_QUERIES_IN_FLIGHT_MAX);
                now = Micros(now.0 + 1_000);
                match answers(&question) {
                    Back::Octets(packet) => task.handle_datagram(site!(), now, slot, &packet),
                    Back::Nothing => {}
                    Back::Refused => task.handle_datagram_failed(site!(), now, slot, NetworkError::Refused),
                }
            }
            None => {
                now = waiting.iter().map(|(at, _)| *at).fold(task.timeout(), Micros::min);
                assert!(now <= deadline, "it waits beyond its deadline");
                for (_, slot) in waiting.extract_if(.., |(at, _)| *at <= now) {
                    task.take_turn(slot, now);
                }
                task.handle_timeout(site!(), now);
            }
        }
    }
}

// ---- what is asked, and what is kept ------------------------------------------------------------------

#[test]
fn ok_a_sound_zone_is_asked_once_at_every_address() {
    let played = play(plan("customer.example"), sound);
    let survey = played.survey();
    assert_eq!(survey.zone.as_deref(), Some("customer.example"));
    let parent = survey.parent.as_ref().expect("the parent was asked");
    assert_eq!((parent.zone.as_str(), parent.delegates, parent.asked.as_slice()), ("example", true, &[PARENT][..]));
    assert_eq!(parent.servers, ["ns1.customer.example", "ns2.customer.example"]);
    assert_eq!(parent.ds, Some(Vec::new()), "no DS, and that was answered");
    for (server, at) in survey.servers.iter().zip([ONE, TWO]) {
        assert!(server.by_parent && server.by_resolver, "{server:?}");
        assert_eq!((&server.glue, &server.looked_up), (&vec![at], &Some(vec![at])));
        assert_eq!(server.types_whole, 2, "addresses of one type, and a denial of the other");
        let seen = played.at(at);
        assert_eq!((seen.answers_udp(), seen.answers_tcp(), seen.is_reached()), (Some(true), Some(true), Some(true)));
        let version = seen.version.as_ref().expect("SOA");
        assert_eq!((version.serial, version.edns, version.answer.authoritative), (Some(41), true, true));
        assert_eq!(seen.mixed_case, Some(MixedCase::Copied));
        assert_eq!(seen.nsid.as_ref().map(ToString::to_string), Some("syd1".to_owned()));
        let txt = seen.txt.as_ref().expect("TXT");
        assert_eq!((&txt.answer.outcome, txt.negative_ttl), (&ServerOutcome::Nodata, Some(60)));
        assert_eq!(seen.keys, None, "without DS nobody is asked for keys");
        // SOA over UDP, over TCP and in mixed case, NS, CAA and TXT.
        assert_eq!(played.count(at), 6);
    }
    // What both hold is kept once.
    let sets: Vec<u16> = [ONE, TWO].map(|at| played.at(at).caa.as_ref().expect("CAA").set.expect("records")).to_vec();
    assert_eq!(sets[0], sets[1]);
    assert_eq!(survey.sets[usize::from(sets[0])].records[0].as_slice(), b"\x00\x05issueca.example");
    assert!(!survey.cut_off && survey.omitted == 0);
    assert!(played.elapsed < 100_000, "nothing waited for a timeout");
}

#[test]
fn ok_the_zone_is_found_of_a_name_below_it_and_of_an_alias() {
    let with_alias = |asked: &Asked| match asked.is("www.customer.example", SOA) {
        true => records(asked, &[rr("www.customer.example", CNAME, wire("lb.elsewhere.example"))]),
        false => sound(asked),
    };
    for (name, answers) in
        [("a.b.customer.example", &sound as &dyn Fn(&Asked) -> Back), ("www.customer.example", &with_alias)]
    {
        let played = play(plan(name), answers);
        assert_eq!(played.survey().zone.as_deref(), Some("customer.example"), "{name}");
        assert!(played.asked.iter().any(|asked| asked.at == ONE && asked.is(name, CAA)), "{name}");
        let challenge = format!("_acme-challenge.{name}");
        assert!(played.asked.iter().any(|asked| asked.at == TWO && asked.is(&challenge, TXT)), "{name}");
    }
}

#[test]
fn ok_a_signed_zone_is_asked_for_its_keys() {
    let played = play(plan("customer.example"), |asked| match (asked.at, asked.rtype) {
        (PARENT, DS) => records(asked, &[rr("customer.example", DS, [0x2b, 0x67, 13, 2, 1, 2, 3])]),
        (_, DNSKEY) => records(asked, &[rr("customer.example", DNSKEY, [1, 1, 3, 13, 9, 9, 9, 9])]),
        _ => sound(asked),
    });
    assert_eq!(played.survey().parent.as_ref().and_then(|parent| parent.ds.as_ref()).map(Vec::len), Some(1));
    for at in [ONE, TWO] {
        let keys = played.at(at).keys.as_ref().expect("DNSKEY was asked");
        assert_eq!(played.survey().set_of(keys).map(|set| set.rtype), Some(DNSKEY));
    }
}

#[test]
fn err_no_zone_and_a_public_suffix_ask_nobody() {
    let gone = |asked: &Asked| Back::Octets(reply(asked, 3, [&[], &[soa("example", 7)], &[]]));
    let played = play(plan("customer.example"), gone);
    assert_eq!((played.survey().zone.clone(), played.survey().servers.len()), (None, 0));
    assert!(played.asked.iter().all(|asked| asked.at == RESOLVER));
    assert_eq!(played.asked.len(), 1);
    // The zone is that of a public suffix.
    let played = play(plan("nothing.co.uk"), |asked| Back::Octets(reply(asked, 3, [&[], &[soa("co.uk", 7)], &[]])));
    assert_eq!(played.survey().zone, None);
    assert!(played.asked.iter().all(|asked| asked.at == RESOLVER));
}

/// Whether a server is reached over UDP and over TCP, and how many questions it gets.
type Wants = (Option<bool>, Option<bool>, usize);
/// What a server does, how, what follows, and what shows it.
type Case = (&'static str, fn(&Asked) -> Back, Wants, fn(&SurveyedAddress) -> bool);

#[test]
fn err_each_way_of_a_server_to_misbehave_is_told_apart() {
    use ServerOutcome::{Network, Rcode, Records, Referral, Silent};
    let of_one = |answers: fn(&Asked) -> Back| {
        play(plan("customer.example"), move |asked| if asked.at == ONE { answers(asked) } else { sound(asked) })
    };
    let table: [Case; 12] = [
        // Twice with EDNS and twice without; a connection without an answer is no question.
        (
            "dead",
            |_| Back::Nothing,
            (Some(false), Some(false), 4),
            |seen| seen.version.as_ref().is_some_and(|a| a.answer.outcome == Silent) && seen.caa.is_none(),
        ),
        (
            "closed",
            |_| Back::Refused,
            (Some(false), Some(false), 4),
            |seen| seen.over_tcp == Some(Network(NetworkError::Refused)) && seen.caa.is_none(),
        ),
        (
            "refuses",
            |asked| code(asked, REFUSED),
            (Some(true), Some(true), 2),
            |seen| seen.version.as_ref().is_some_and(|a| a.answer.outcome == Rcode(REFUSED)) && seen.txt.is_none(),
        ),
        (
            "refers upward",
            |asked| Back::Octets(reply(asked, 0, [&[], &[rr("", NS, wire("a.root-servers.net"))], &[]])),
            (Some(true), Some(true), 2),
            |seen| seen.soa().is_some_and(|a| a.answer.outcome == Referral(".".to_owned())),
        ),
        (
            "no TCP",
            |asked| if asked.tcp { Back::Refused } else { sound(asked) },
            (Some(true), Some(false), 5),
            |seen| seen.caa.is_some(),
        ),
        (
            "no UDP",
            |asked| if asked.tcp { sound(asked) } else { Back::Nothing },
            (Some(false), Some(true), 5),
            |seen| seen.over_tcp == Some(Records),
        ),
        (
            "does not know EDNS",
            |asked| if asked.edns && !asked.tcp { code(asked, FORMERR) } else { sound(asked) },
            (Some(true), Some(true), 6),
            |seen| {
                seen.without_edns.as_ref().is_some_and(|a| a.serial == Some(41))
                    && seen.caa.as_ref().is_some_and(|a| a.answer.outcome == Records && !a.edns)
                    && seen.mixed_case.is_none()
            },
        ),
        (
            "drops EDNS",
            |asked| if asked.edns && !asked.tcp { Back::Nothing } else { sound(asked) },
            (Some(true), Some(true), 7),
            |seen| {
                seen.version.as_ref().is_some_and(|a| a.answer.outcome == Silent)
                    && seen.soa().is_some_and(|a| a.serial == Some(41))
            },
        ),
        (
            "lowers case",
            |asked| {
                let query = asked.query.to_ascii_lowercase();
                let header = asked.query[..12].to_vec();
                sound(&Asked { query: [&header, &query[12..]].concat(), ..asked.clone() })
            },
            (Some(true), Some(true), 6),
            |seen| seen.mixed_case == Some(MixedCase::NotCopied),
        ),
        (
            "refuses mixed case",
            |asked| if asked.mixed { code(asked, REFUSED) } else { sound(asked) },
            (Some(true), Some(true), 6),
            |seen| seen.mixed_case == Some(MixedCase::Unlike(Rcode(REFUSED))),
        ),
        (
            "knows no CAA",
            |asked| if asked.rtype == CAA { code(asked, NOTIMP) } else { sound(asked) },
            (Some(true), Some(true), 6),
            |seen| seen.caa.as_ref().is_some_and(|a| a.answer.outcome == Rcode(NOTIMP)),
        ),
        (
            "cuts CAA",
            |asked| {
                let cut = asked.rtype == CAA && !asked.tcp;
                if cut { Back::Octets(reply(asked, TRUNCATED, [&[], &[], &[]])) } else { sound(asked) }
            },
            (Some(true), Some(true), 7),
            |seen| {
                seen.caa.as_ref().is_some_and(|a| {
                    a.answer.outcome == ServerOutcome::Truncated
                        && a.answer.over_tcp == Some(Records)
                        && a.set.is_some()
                })
            },
        ),
    ];
    for (what, answers, (udp, tcp, questions), shows) in table {
        let played = of_one(answers);
        let seen = played.at(ONE);
        assert_eq!((seen.answers_udp(), seen.answers_tcp()), (udp, tcp), "{what}: {seen:?}");
        assert!(shows(seen), "{what}: {seen:?}");
        assert_eq!(played.count(ONE), questions, "{what}");
        // The other server is none the worse.
        assert_eq!(played.at(TWO).soa().and_then(|soa| soa.serial), Some(41), "{what}");
        assert!(!played.survey().cut_off, "{what}");
    }
}

#[test]
fn err_servers_that_the_parent_and_the_resolver_name_differently_are_all_asked() {
    let three: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 3));
    let played = play(plan("customer.example"), |asked| match (asked.at, asked.rtype) {
        (PARENT, NS) => {
            let set = [
                rr("customer.example", NS, wire("ns1.customer.example")),
                rr("customer.example", NS, wire("old.customer.example")),
            ];
            let glue = [address("ns1.customer.example", TWO), address("old.customer.example", three)];
            Back::Octets(reply(asked, 0, [&[], &set, &glue]))
        }
        _ => sound(asked),
    });
    let sides: BTreeMap<&str, (bool, bool)> = played
        .survey()
        .servers
        .iter()
        .map(|server| (server.name.as_str(), (server.by_parent, server.by_resolver)))
        .collect();
    let wants = [
        ("ns1.customer.example", (true, true)),
        ("ns2.customer.example", (false, true)),
        ("old.customer.example", (true, false)),
    ];
    assert_eq!(sides, BTreeMap::from(wants));
    let one = played.survey().servers.iter().find(|server| server.name == "ns1.customer.example").expect("named");
    assert_eq!((&one.glue, &one.looked_up), (&vec![TWO], &Some(vec![ONE])), "glue differs from its own record");
    assert!(played.count(three) > 0 && played.count(ONE) > 0);
    // Two names, one machine: it is asked once.
    assert_eq!(played.count(TWO), 6);
}

#[test]
fn d17_err_addresses_that_are_not_allowed_are_named_and_never_asked() {
    let inside: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let played = play(plan("customer.example"), |asked| match asked.is("ns1.customer.example", A) {
        true => records(asked, &[address("ns1.customer.example", inside)]),
        false => sound(asked),
    });
    assert_eq!(played.survey().servers[0].forbidden, [inside]);
    assert_eq!(played.count(inside), 0);
}

#[test]
fn err_dead_name_servers_everywhere_end_by_the_deadline() {
    let short =
        |ms| Plan { limits: PlanLimits { task_deadline_ms: ms, ..PlanLimits::default() }, ..plan("customer.example") };
    let dead = |asked: &Asked| if asked.at == RESOLVER || asked.at == PARENT { sound(asked) } else { Back::Nothing };
    let played = play(short(15_000), dead);
    assert!(!played.survey().cut_off && played.elapsed < 6_000_000, "{}", played.elapsed);
    assert_eq!(played.at(ONE).is_reached(), Some(false));
    // The same with less time than that takes.
    let played = play(short(8_000), |_| Back::Nothing);
    assert!(played.elapsed <= 8_000_000);
    let played = play(
        Plan {
            limits: PlanLimits { task_deadline_ms: 1_500, dns_try_ms: 500, ..PlanLimits::default() },
            ..plan("customer.example")
        },
        dead,
    );
    assert!(played.survey().cut_off && played.elapsed == 1_500_000, "{}", played.elapsed);
    assert_eq!(played.at(ONE).is_reached(), None, "nobody says that it is dead");
    assert_eq!(played.seen.budget, None, "the check itself lacked no time");
}

// ---- turns --------------------------------------------------------------------------------------------

/// Not while a task lasts.
const NEVER: Micros = Micros(u64::MAX);

#[test]
fn ok_the_time_of_a_question_begins_with_its_turn() {
    let later = Micros(1_000).plus_ms(4_000);
    let played = play_in_turns(plan("customer.example"), |at, _| if at == ONE { later } else { Micros(0) }, sound);
    assert!(!played.survey().cut_off && played.elapsed >= 4_000_000);
    let seen = played.at(ONE);
    assert_eq!((seen.answers_udp(), seen.answers_tcp()), (Some(true), Some(true)));
    let version = seen.version.as_ref().expect("SOA");
    assert!(version.answer.elapsed_us < 1_000_000, "{version:?}");
    assert_eq!(played.count(ONE), played.count(TWO), "it was sent as often");
    // One that is silent is so for as long as any other.
    let silent = |asked: &Asked| if asked.at == ONE { Back::Nothing } else { sound(asked) };
    let played = play_in_turns(plan("customer.example"), |at, _| if at == ONE { later } else { Micros(0) }, silent);
    assert_eq!(played.at(ONE).is_reached(), Some(false));
    let version = played.at(ONE).version.as_ref().expect("SOA");
    assert_eq!(version.answer.outcome, ServerOutcome::Silent);
    assert!((2_000_000..2_100_000).contains(&version.answer.elapsed_us), "{version:?}");
}

#[test]
fn err_who_was_not_asked_in_time_is_not_called_silent() {
    let short =
        Plan { limits: PlanLimits { task_deadline_ms: 5_000, ..PlanLimits::default() }, ..plan("customer.example") };
    let played = play_in_turns(short.clone(), |at, _| if at == ONE { NEVER } else { Micros(0) }, sound);
    assert!(played.survey().cut_off && played.count(ONE) == 0 && played.elapsed == 5_000_000);
    assert_eq!(*played.at(ONE), SurveyedAddress::new(ONE));
    assert_eq!(played.at(TWO).is_reached(), Some(true));
    // It is silent over UDP, and over TCP it was not asked: perhaps it answers there.
    let silent = |asked: &Asked| if asked.at == ONE { Back::Nothing } else { sound(asked) };
    let played = play_in_turns(short, |at, tcp| if at == ONE && tcp { NEVER } else { Micros(0) }, silent);
    let seen = played.at(ONE);
    assert_eq!((seen.answers_udp(), seen.answers_tcp(), seen.is_reached()), (Some(false), None, None));
}

#[test]
fn err_a_diagnosis_says_nothing_of_a_server_that_it_did_not_ask_in_time() {
    let plan = Plan {
        survey: None,
        diagnose: true,
        caa_levels: vec!["customer.example".to_owned()],
        ..plan("customer.example")
    };
    let fails = |asked: &Asked| match asked.at == RESOLVER && asked.rtype == CAA {
        true => code(asked, SERVFAIL),
        false => sound(asked),
    };
    let played = play_in_turns(plan.clone(), |at, _| if at == ONE { NEVER } else { Micros(0) }, fails);
    let diagnosis = played.seen.diagnosis.as_ref().expect("a diagnosis");
    let of = |at: IpAddr| diagnosis.servers.iter().find(|server| server.address == Some(at)).expect("a server");
    let (one, two) = (of(ONE), of(TWO));
    assert_eq!((&one.answer, &one.contrast, one.serial), (&None, &None, None));
    assert!(two.answer.as_ref().is_some_and(|answer| answer.is_reply()), "{two:?}");
    assert!(played.count(ONE) == 0 && played.elapsed < 5_100_000, "{}", played.elapsed);
    assert_eq!(played.seen.budget, None, "the check itself lacked no time");
    // It goes on over TCP within its turn.
    let cuts = |asked: &Asked| match asked.at == ONE && asked.rtype == CAA && !asked.tcp {
        true => code(asked, TRUNCATED),
        false => fails(asked),
    };
    let played = play_in_turns(plan, |_, tcp| if tcp { NEVER } else { Micros(0) }, cuts);
    let diagnosis = played.seen.diagnosis.as_ref().expect("a diagnosis");
    let one = diagnosis.servers.iter().find(|server| server.address == Some(ONE)).expect("a server");
    assert_eq!(one.answer.as_ref().map(|answer| &answer.outcome), Some(&ServerOutcome::Truncated));
    assert!(one.answer.as_ref().is_some_and(|answer| answer.over_tcp.is_some()), "{one:?}");
}

#[test]
fn err_a_zone_made_to_be_expensive_stays_within_the_bounds() {
    const SERVERS: u8 = 60;
    let name = |n: u8| format!("ns{n}.customer.example");
    let played = play(plan("customer.example"), move |asked| {
        let number = asked.name.strip_prefix("ns").and_then(|rest| rest.split('.').next()?.parse::<u8>().ok());
        let sets: Vec<Rr> = (0..SERVERS).map(|n| rr("customer.example", NS, wire(&name(n)))).collect();
        match (asked.at, asked.rtype, number) {
            (PARENT, NS, _) => Back::Octets(reply(asked, 0, [&[], &sets, &[]])),
            (_, NS, _) if asked.name == "customer.example" => records(asked, &sets),
            (_, A, Some(n)) => {
                let addresses: Vec<Rr> = (0..6)
                    .map(|k| address(&asked.name, IpAddr::V4(Ipv4Addr::new(198, 51, 100, 6 * (n % 40) + k))))
                    .collect();
                records(asked, &addresses)
            }
            (IpAddr::V4(at), TXT, _) if asked.at != RESOLVER => {
                // Each server has other and large records.
                let large: Vec<Rr> = (0..60)
                    .map(|n| rr(&asked.name, TXT, [&[200][..], &[at.octets()[3]; 199], &[n]].concat()))
                    .collect();
                records(asked, &large)
            }
            _ => sound(asked),
        }
    });
    let survey = played.survey();
    assert_eq!(survey.servers.len(), SURVEYED_SERVERS_MAX);
    assert_eq!(survey.asked().count(), SURVEYED_ADDRESSES_MAX);
    assert!(survey.omitted > 0);
    assert!(played.asked.len() <= SURVEY_QUERIES_MAX + 2 * SURVEY_PARENTS_MAX, "{}", played.asked.len());
    let kept: usize = survey.sets.iter().flat_map(|set| &set.records).map(|rdata| rdata.as_slice().len()).sum();
    assert!(kept <= SURVEY_KEPT_BYTES_MAX && kept > SURVEY_KEPT_BYTES_MAX / 2, "{kept}");
    // Sets that were not kept whole are still told apart.
    let digests: std::collections::BTreeSet<&str> =
        survey.sets.iter().filter(|set| set.rtype == TXT).map(|set| set.digest.as_str()).collect();
    assert_eq!(digests.len(), SURVEYED_ADDRESSES_MAX);
    let json = serde_json::to_string(&played.seen).expect("JSON");
    assert!(json.len() < 1 << 19, "{} octets", json.len());
    assert_eq!(serde_json::from_str::<Observation>(&json).expect("its own text"), played.seen);
}

#[test]
fn ok_plans_and_observations_without_a_survey_are_as_before() {
    let with = plan("customer.example");
    let without = Plan { survey: None, ..with.clone() };
    let json = serde_json::to_string(&without).expect("JSON");
    assert!(!json.contains("survey"), "{json}");
    assert_eq!(serde_json::from_str::<Plan>(&json).expect("an older text"), without);
    assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&with).expect("JSON")).expect("a text"), with);
    let played = play(without, |_| panic!("nobody is asked"));
    assert_eq!((played.seen.survey, played.asked.len()), (None, 0));
    let long = SurveyPlan { name: "a".repeat(300), challenge: "b.example".to_owned() };
    let error = Plan { survey: Some(Box::new(long)), ..with }.check().expect_err("too long");
    assert!(error.starts_with("survey: a name of 300 octets"), "{error}");
}
