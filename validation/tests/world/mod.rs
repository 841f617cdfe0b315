//! A small world in virtual time: zones, name-server quirks and web servers, seen from six perspectives.
//!
//! It drives the real task core with real packets. Rules given later win over earlier ones; a rule given
//! through [`World::from`] holds for these perspectives only. It fails the test if a connection goes to a
//! place the script does not know, if anything is left open at the end, if the record cannot be
//! recomputed, or if a text holds the expected value.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is a failed test")]

pub(crate) mod tls_server;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use jiff::Timestamp;
use parallax_validation::{
    base::{
        Entropy, Micros,
        address::AddressFilter,
        attempt::AttemptId,
        perspective::{Coordinates, Perspective, ResolverSite, Rir, Role},
    },
    check::caa::authorize::CaaPolicy,
    explain::Explanation,
    lookup::{
        Dnssec,
        dnssec::chain::ZoneCache,
        task::{Command, Site, Stream, Task, TaskSettings},
        tls::{TlsSettings, rustls},
    },
    observation::{NetworkError, Observation, RecordType},
    plan::{Plan, PlanLimits},
    record::{Conduct, FORM_VERSION, Record, Reply, Rules, Setup, Terms, evaluate},
    request::{Challenge, CheckRequest, RawRequest},
    verdict::{PerspectiveState, Verdict},
};

pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
pub(crate) const THUMBPRINT: &str = "nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";
pub(crate) const SIBLING: &str = "q7h2k9xw4m";

pub(crate) const P: usize = 0;
pub(crate) const R1: usize = 1;
pub(crate) const R2: usize = 2;
pub(crate) const R3: usize = 3;
pub(crate) const R4: usize = 4;
pub(crate) const R5: usize = 5;
pub(crate) const ALL: &[usize] = &[P, R1, R2, R3, R4, R5];

const COHORT: [(&str, Rir, f64, f64); 6] = [
    ("ams1", Rir::RipeNcc, 52.4, 4.9),
    ("nyc1", Rir::Arin, 40.7, -74.0),
    ("waw1", Rir::RipeNcc, 52.2, 21.0),
    ("sin1", Rir::Apnic, 1.4, 103.8),
    ("gru1", Rir::Lacnic, -23.5, -46.6),
    ("jnb1", Rir::Afrinic, -26.2, 28.0),
];

pub(crate) fn key_authorization() -> String {
    format!("{TOKEN}.{THUMBPRINT}")
}

pub(crate) fn challenge_path() -> String {
    format!("/.well-known/acme-challenge/{TOKEN}")
}

/// What a name server does with a question, or a path to it does with the packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Quirk {
    /// Answers from the zones.
    Answers,
    /// Answers this code, with the text of an extended error if not empty.
    Rcode(u8, &'static str),
    /// UDP is dropped.
    Silent,
    /// UDP replies are empty with TC set; TCP works.
    Truncates,
    /// As `Truncates`, and TCP is refused.
    TruncatesTcpRefused,
    /// UDP replies have the name in lower case; TCP works.
    LowersCase,
    /// UDP replies are cut at so many octets, without TC; TCP works.
    Cuts(usize),
    /// As `Cuts`, and TCP is refused.
    CutsTcpRefused(usize),
}

/// Octets from host and path.
type Answer = Arc<dyn Fn(&str, &str) -> Vec<u8>>;

/// What a web server, or a path to it, does.
#[derive(Clone)]
pub(crate) enum Web {
    Refuses,
    SilentSyn,
    ResetsAfterRequest,
    SilentAfterRequest,
    /// Octets, made from host and path; then the connection is closed.
    Says(Answer),
    /// As `Says`, within TLS.
    SaysInTls(Arc<rustls::ServerConfig>, Answer),
    /// These octets whatever it is sent; then the connection is closed.
    Octets(Vec<u8>),
    /// Parts of octets, each so many milliseconds after the first octet of the client; then it stays open.
    Parts(Arc<[(u64, Vec<u8>)]>),
}

impl Web {
    pub(crate) fn says(answer: impl Fn(&str, &str) -> Vec<u8> + 'static) -> Self {
        Self::Says(Arc::new(answer))
    }

    /// Within TLS, the right file for every request.
    pub(crate) fn right_in_tls(server: Arc<rustls::ServerConfig>) -> Self {
        Self::SaysInTls(server, Arc::new(|_, _| response(200, "", key_authorization().as_bytes())))
    }

    /// Single octets, one every so many milliseconds.
    pub(crate) fn drips(every_ms: u64, octets: impl AsRef<[u8]>) -> Self {
        Self::Parts((1..).zip(octets.as_ref()).map(|(n, octet)| (n * every_ms, vec![*octet])).collect())
    }

    pub(crate) fn right() -> Self {
        Self::body(200, "", key_authorization())
    }

    pub(crate) fn body(status: u16, fields: &str, body: impl AsRef<[u8]>) -> Self {
        let answer = response(status, fields, body.as_ref());
        Self::says(move |_, _| answer.clone())
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::body(status, &format!("Location: {location}\r\n"), "")
    }
}

/// A response; `fields` end with CR LF each.
pub(crate) fn response(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 {status} Some reason\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

type Rdata = Vec<u8>;

#[derive(Clone)]
enum Data {
    Records(RecordType, Vec<Rdata>),
    Cname(String),
    Quirk(Option<RecordType>, Quirk),
    Serial(u32),
    DelayMs(u64),
    Draws(u64),
    State(PerspectiveState),
}

pub(crate) struct World {
    pub(crate) request: CheckRequest,
    limits: PlanLimits,
    rirs: [Rir; 6],
    scope: Vec<usize>,
    /// Perspective, owner, what.
    dns: Vec<(usize, String, Data)>,
    web: BTreeMap<(usize, SocketAddr), Web>,
    tls: TlsSettings,
    decided: Timestamp,
    suffixes: Option<String>,
    conduct: Conduct,
}

/// Connections made, questions asked and HTTP requests sent, by perspective.
type Traffic = (Vec<(usize, SocketAddr)>, Vec<(usize, String, u16)>, Vec<(usize, String)>);

/// How it went.
pub(crate) struct Played {
    pub(crate) record: Record,
    /// Connections made, by perspective.
    pub(crate) connections: Vec<(usize, SocketAddr)>,
    /// Names asked, by perspective.
    pub(crate) questions: Vec<(usize, String, u16)>,
    /// HTTP requests, by perspective, as far as they were read by a server that answers them.
    pub(crate) requests: Vec<(usize, String)>,
}

impl Played {
    pub(crate) fn explanation(&self) -> &Explanation {
        &self.record.explanation
    }

    pub(crate) fn message(&self) -> &str {
        &self.record.explanation.message
    }

    /// `joint` as text, or `-` if no remote was asked.
    pub(crate) fn joint(&self) -> String {
        self.record.verdict.figures().map_or("-".to_owned(), |figures| figures.joint.to_string())
    }

    pub(crate) fn passed(&self) -> bool {
        matches!(self.record.verdict, Verdict::Corroborated(_))
    }

    pub(crate) fn observation(&self, perspective: usize) -> &Observation {
        self.record.perspectives[perspective].observation.as_ref().unwrap()
    }
}

pub(crate) fn filter() -> AddressFilter {
    let nets = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];
    AddressFilter::allowing(nets.iter().map(|net| net.parse().unwrap()).collect())
}

pub(crate) fn raw(identifier: &str, method: &str) -> RawRequest {
    let has_key = matches!(method, "http-01" | "dns-01" | "dns-account-01" | "tls-alpn-01");
    RawRequest {
        identifier: identifier.to_owned(),
        method: method.to_owned(),
        token: has_key.then(|| TOKEN.to_owned()),
        key_authorization: has_key.then(key_authorization),
        account_uri: Some("https://ca.example/acct/7".to_owned()),
        ..RawRequest::default()
    }
}

impl World {
    pub(crate) fn new(raw: RawRequest) -> Self {
        let request =
            CheckRequest::parse(raw, "case", &filter().into(), "2026-11-25T12:00:00Z".parse().expect("an instant"))
                .unwrap();
        Self {
            request,
            limits: PlanLimits::default(),
            rirs: COHORT.map(|(_, rir, ..)| rir),
            scope: ALL.to_vec(),
            dns: Vec::new(),
            web: BTreeMap::new(),
            tls: TlsSettings::new(rustls::crypto::ring::default_provider()).unwrap(),
            decided: "2026-12-20T00:00:16Z".parse().unwrap(),
            suffixes: None,
            conduct: Conduct::default(),
        }
    }

    /// A suffix list besides the built-in one.
    pub(crate) fn conduct(mut self, conduct: Conduct) -> Self {
        self.conduct = conduct;
        self
    }

    pub(crate) fn public_suffixes(mut self, list: &str) -> Self {
        self.suffixes = Some(list.to_owned());
        self
    }

    /// The attempt is decided at this instant, and began 16 s before.
    pub(crate) fn decided(mut self, at: &str) -> Self {
        self.decided = at.parse().unwrap();
        self
    }

    /// http-01 for www.customer.example at 192.0.2.10, where the right file is served.
    pub(crate) fn http() -> Self {
        Self::new(raw("www.customer.example", "http-01"))
            .a("www.customer.example", &["192.0.2.10"])
            .web("192.0.2.10", Web::right())
    }

    /// dns-01 for customer.example, without any TXT.
    pub(crate) fn dns() -> Self {
        Self::new(raw("customer.example", "dns-01")).a("customer.example", &["192.0.2.10"])
    }

    /// CAA alone.
    pub(crate) fn caa_of(identifier: &str) -> Self {
        Self::new(raw(identifier, "caa")).a("customer.example", &["192.0.2.10"])
    }

    pub(crate) fn digest(&self) -> String {
        self.request.control.as_ref().unwrap().key_authorization().unwrap().digest()
    }

    /// What follows holds for these perspectives only.
    pub(crate) fn from(mut self, scope: &[usize]) -> Self {
        self.scope = scope.to_vec();
        self
    }

    pub(crate) fn limits(mut self, limits: PlanLimits) -> Self {
        limits.check().unwrap();
        self.limits = limits;
        self
    }

    pub(crate) fn rirs(mut self, rirs: [Rir; 6]) -> Self {
        self.rirs = rirs;
        self
    }

    fn add(mut self, name: &str, data: Data) -> Self {
        self.dns.extend(self.scope.iter().map(|place| (*place, name.to_owned(), data.clone())));
        self
    }

    pub(crate) fn a(self, name: &str, addresses: &[&str]) -> Self {
        let rdata = addresses.iter().map(|a| a.parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec()).collect();
        self.add(name, Data::Records(RecordType::A, rdata))
    }

    pub(crate) fn aaaa(self, name: &str, addresses: &[&str]) -> Self {
        let rdata = addresses.iter().map(|a| a.parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()).collect();
        self.add(name, Data::Records(RecordType::Aaaa, rdata))
    }

    /// Each value one record of one character-string.
    pub(crate) fn txt(self, name: &str, values: &[&str]) -> Self {
        let strings: Vec<Vec<&str>> = values.iter().map(|value| vec![*value]).collect();
        self.txt_strings(name, &strings)
    }

    pub(crate) fn txt_strings(self, name: &str, records: &[Vec<&str>]) -> Self {
        let rdata = records
            .iter()
            .map(|strings| strings.iter().flat_map(|s| [&[s.len() as u8], s.as_bytes()].concat()).collect())
            .collect();
        self.add(name, Data::Records(RecordType::Txt, rdata))
    }

    pub(crate) fn caa(self, name: &str, records: &[(u8, &str, &str)]) -> Self {
        let rdata = records
            .iter()
            .map(|(flags, tag, value)| [&[*flags, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat())
            .collect();
        self.add(name, Data::Records(RecordType::Caa, rdata))
    }

    /// Hosts with the preference 10, 20 and so on.
    pub(crate) fn mx(self, name: &str, hosts: &[&str]) -> Self {
        let rdata = (1_u16..).zip(hosts).map(|(n, host)| [(10 * n).to_be_bytes().to_vec(), wire_name(host)].concat());
        let rdata = rdata.collect();
        self.add(name, Data::Records(RecordType::Mx, rdata))
    }

    pub(crate) fn ptr(self, name: &str, targets: &[&str]) -> Self {
        let rdata = targets.iter().map(|target| wire_name(target)).collect();
        self.add(name, Data::Records(RecordType::Ptr, rdata))
    }

    /// `name` may be a wildcard.
    pub(crate) fn cname(self, name: &str, target: &str) -> Self {
        self.add(name, Data::Cname(target.to_owned()))
    }

    /// A quirk for one name (`*` for all) and one type (none for all).
    pub(crate) fn quirk(self, name: &str, rtype: Option<RecordType>, quirk: Quirk) -> Self {
        self.add(name, Data::Quirk(rtype, quirk))
    }

    /// The serial of the SOA in denials.
    pub(crate) fn serial(self, serial: u32) -> Self {
        self.add("", Data::Serial(serial))
    }

    /// How long each DNS answer takes.
    pub(crate) fn dns_takes_ms(self, ms: u64) -> Self {
        self.add("", Data::DelayMs(ms))
    }

    /// Which of several addresses of a family is drawn: 0 or 1.
    pub(crate) fn draws(self, index: u64) -> Self {
        self.add("", Data::Draws(index))
    }

    /// The perspective gives no observation.
    pub(crate) fn ends_as(self, state: PerspectiveState) -> Self {
        self.add("", Data::State(state))
    }

    /// A server on port 80.
    pub(crate) fn web(self, address: &str, web: Web) -> Self {
        self.web_on(80, address, web)
    }

    pub(crate) fn web_on(mut self, port: u16, address: &str, web: Web) -> Self {
        let at = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        self.web.extend(self.scope.iter().map(|place| ((*place, at), web.clone())));
        self
    }

    fn setting<T>(&self, place: usize, default: T, read: impl Fn(&Data) -> Option<T>) -> T {
        self.dns.iter().rev().filter(|(p, ..)| *p == place).find_map(|(.., data)| read(data)).unwrap_or(default)
    }

    pub(crate) fn rules(&self) -> Rules {
        let perspectives = COHORT
            .iter()
            .enumerate()
            .map(|(place, (id, _, latitude, longitude))| {
                let coordinates = Coordinates::new(*latitude, *longitude).unwrap();
                Perspective {
                    id: id.parse().unwrap(),
                    role: if place == P { Role::Primary } else { Role::Remote },
                    rir: self.rirs[place],
                    coordinates,
                    as_number: 64_500 + place as u32,
                    provider: "example".to_owned(),
                    resolver: ResolverSite { name: resolver(place).to_string(), rir: self.rirs[place], coordinates },
                }
            })
            .collect();
        let setup = Setup {
            form: FORM_VERSION,
            software: "test".to_owned(),
            policy: include_str!("../../src/verdict/policy.toml").to_owned(),
            caa: CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() },
            perspectives,
            limits: self.limits,
            public_suffixes: self.suffixes.clone(),
            conduct: self.conduct.clone(),
        };
        setup.rules().unwrap()
    }

    /// Plays one attempt: the primary, then the remotes if it confirms.
    pub(crate) fn play(&self) -> Played {
        let rules = self.rules();
        let decided = self.decided;
        let started = decided - jiff::SignedDuration::from_secs(16);
        let mut played = Traffic::default();
        let mut replies = vec![self.reply(P, started, &mut played)];
        let members = rules.members(started, None).unwrap();
        let terms = Terms {
            attempt: AttemptId(7),
            request: &self.request,
            started,
            members: &members,
            seed: None,
            restart: None,
        };
        let primary = evaluate(&rules, &terms, started, &replies).answers[P].state();
        for place in &ALL[1..] {
            replies.push(match primary {
                PerspectiveState::Confirmed => self.reply(*place, started, &mut played),
                _ => Reply::None(PerspectiveState::NotAsked),
            });
        }
        let record = Record::new(&rules, &terms, decided, replies);
        record.recompute(&rules).unwrap();
        let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(again, record, "a record survives JSON");
        again.recompute(&rules).unwrap();
        self.assert_discreet(&record.explanation);
        Played { record, connections: played.0, questions: played.1, requests: played.2 }
    }

    fn assert_discreet(&self, explanation: &Explanation) {
        let key = self.request.control.as_ref().and_then(Challenge::key_authorization);
        let mut secrets: Vec<String> = key.iter().flat_map(|key| [key.digest(), THUMBPRINT.to_owned()]).collect();
        let value = self.request.control.as_ref().and_then(Challenge::random_value);
        secrets.extend(value.map(|value| value.expose().to_owned()));
        let parts = explanation.parts.iter().map(|part| &part.detail);
        for text in explanation.warnings.iter().chain([&explanation.message]).chain(parts) {
            let lower = text.to_lowercase();
            for secret in &secrets {
                assert!(!lower.contains(&secret.to_lowercase()[..16]), "the expected value shows: {text}");
            }
            assert!(text.chars().all(|c| !c.is_control()), "unescaped: {text:?}");
        }
    }

    fn reply(&self, place: usize, started: Timestamp, played: &mut Traffic) -> Reply {
        if let Some(state) =
            self.setting(place, None, |data| if let Data::State(state) = data { Some(Some(*state)) } else { None })
        {
            return Reply::None(state);
        }
        Reply::Observed(Driver::new(self, place).run(started, played))
    }

    // What the zones say --------------------------------------------------------------------------

    fn data_of(&self, place: usize, name: &str) -> impl Iterator<Item = &Data> {
        let at = move |owner: &str| {
            self.dns
                .iter()
                .rev()
                .filter(move |(p, n, _)| *p == place && *n == owner)
                .map(|(.., data)| data)
                .collect::<Vec<_>>()
        };
        let holds = |data: &[&Data]| data.iter().any(|d| matches!(d, Data::Records(..) | Data::Cname(_)));
        let mut found = at(name);
        if !holds(&found) && !self.exists(place, name) {
            let wildcard = name.split_once('.').map(|(_, parent)| at(&format!("*.{parent}"))).unwrap_or_default();
            found.extend(wildcard);
        }
        found.into_iter()
    }

    fn exists(&self, place: usize, name: &str) -> bool {
        self.dns.iter().any(|(p, owner, data)| {
            *p == place
                && matches!(data, Data::Records(..) | Data::Cname(_))
                && (owner == name || owner.ends_with(&format!(".{name}")))
        })
    }

    fn quirk_of(&self, place: usize, name: &str, rtype: u16) -> Quirk {
        let fits = |owner: &str, data: &Data| match data {
            Data::Quirk(of, quirk) if (owner == name || owner == "*") && of.is_none_or(|of| of.number() == rtype) => {
                Some(*quirk)
            }
            _ => None,
        };
        let rules = self.dns.iter().rev().filter(|(p, ..)| *p == place);
        rules.into_iter().find_map(|(_, owner, data)| fits(owner, data)).unwrap_or(Quirk::Answers)
    }

    /// Answer records (owner, type, rdata), the code, and whether there is a denial to add.
    fn look_up(&self, place: usize, name: &str, rtype: u16) -> (Vec<(String, u16, Rdata)>, u8, String) {
        let mut answer = Vec::new();
        let mut current = name.to_owned();
        for _ in 0..20 {
            let data: Vec<&Data> = self.data_of(place, &current).collect();
            let records = data.iter().find_map(|d| match d {
                Data::Records(of, rdata) if of.number() == rtype => Some(rdata),
                _ => None,
            });
            if let Some(rdata) = records {
                answer.extend(rdata.iter().map(|rdata| (current.clone(), rtype, rdata.clone())));
                return (answer, 0, String::new());
            }
            let alias = data.iter().find_map(|d| if let Data::Cname(target) = d { Some(target) } else { None });
            if let (Some(target), 5) = (alias, rtype) {
                answer.push((current.clone(), 5, wire_name(target)));
                return (answer, 0, String::new());
            }
            let target =
                data.iter().find_map(|d| if let Data::Cname(target) = d { Some(target.clone()) } else { None });
            let Some(target) = target else {
                let exists = !data.is_empty() || self.exists(place, &current) || !current.contains('.');
                return (answer, if exists { 0 } else { 3 }, zone_of(&current));
            };
            answer.push((current.clone(), 5, wire_name(&target)));
            if answer.iter().any(|(owner, ..)| *owner == target) {
                return (answer, 0, String::new());
            }
            current = target;
        }
        (answer, 0, String::new())
    }
}

fn zone_of(name: &str) -> String {
    let labels: Vec<&str> = name.split('.').collect();
    labels[labels.len().saturating_sub(2)..].join(".")
}

pub(crate) fn resolver(place: usize) -> SocketAddr {
    format!("198.18.{place}.53:53").parse().unwrap()
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut wire: Vec<u8> = name
        .split('.')
        .filter(|label| !label.is_empty())
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    wire.push(0);
    wire
}

fn push_record(message: &mut Vec<u8>, owner: &str, rtype: u16, rdata: &[u8]) {
    message.extend(wire_name(owner));
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1, 0, 0, 0, 60]);
    message.extend((rdata.len() as u16).to_be_bytes());
    message.extend_from_slice(rdata);
}

/// Name, type and the octets of the question section.
fn read_query(query: &[u8]) -> (String, u16, Vec<u8>) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..=at + length].to_vec()).unwrap());
        at += 1 + length;
    }
    let rtype = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    (labels.join(".").to_ascii_lowercase(), rtype, query[12..at + 5].to_vec())
}

enum Event {
    Datagram(u16, Vec<u8>),
    Connected(Stream),
    Bytes(Stream, Vec<u8>),
    Failed(Stream, NetworkError),
}

struct Fixed(u64);

impl Entropy for Fixed {
    fn next_u64(&mut self) -> u64 {
        self.0
    }
}

struct Driver<'a> {
    world: &'a World,
    place: usize,
    settings: TaskSettings,
    now: Micros,
    zones: ZoneCache,
    entropy: Fixed,
    events: BTreeMap<(Micros, u64), Event>,
    next: u64,
    queries: BTreeMap<u16, u16>,
    streams: BTreeMap<StreamKey, (SocketAddr, String)>,
    tls: BTreeMap<StreamKey, tls_server::Session>,
    connections: Vec<SocketAddr>,
    questions: Vec<(String, u16)>,
    requests: Vec<String>,
}

/// A stream that can be ordered.
type StreamKey = (u8, u16);

fn key(stream: Stream) -> StreamKey {
    match stream {
        Stream::Query(number) => (0, number),
        Stream::Fetch(number) => (1, number),
    }
}

impl<'a> Driver<'a> {
    fn new(world: &'a World, place: usize) -> Self {
        let draws = world.setting(place, 0, |data| if let Data::Draws(index) = data { Some(*index) } else { None });
        Self {
            world,
            place,
            settings: TaskSettings {
                resolver: resolver(place),
                filter: filter(),
                dnssec: Dnssec::Resolver,
                tls: world.tls.clone(),
            },
            now: Micros(0),
            zones: ZoneCache::default(),
            entropy: Fixed(0x5a5a_a5a5_33cc_cc32 | draws),
            events: BTreeMap::new(),
            next: 0,
            queries: BTreeMap::new(),
            streams: BTreeMap::new(),
            tls: BTreeMap::new(),
            connections: Vec::new(),
            questions: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn run(mut self, started: Timestamp, played: &mut Traffic) -> Observation {
        let sibling = (self.place == P).then_some(SIBLING);
        let plan = Plan::new(&self.world.request, self.world.limits, sibling);
        let deadline = Micros(0).plus_ms(u64::from(self.world.limits.task_deadline_ms));
        let site = &mut Site { settings: &self.settings, zones: &mut self.zones, entropy: &mut self.entropy };
        let mut task = Task::new(plan, site, self.now, started);
        for _ in 0..100_000 {
            self.obey(&mut task);
            if let Some(observation) = task.poll_observation(self.now) {
                self.obey(&mut task);
                assert!(self.now <= deadline, "a task ends by its deadline");
                assert!(self.queries.is_empty(), "queries left open: {:?}", self.queries);
                assert!(self.streams.is_empty(), "streams left open: {:?}", self.streams);
                played.0.extend(self.connections.iter().map(|at| (self.place, *at)));
                played.1.extend(self.questions.into_iter().map(|(name, rtype)| (self.place, name, rtype)));
                played.2.extend(self.requests.into_iter().map(|request| (self.place, request)));
                return *observation;
            }
            self.step(&mut task);
        }
        panic!("the task does not end");
    }

    fn step(&mut self, task: &mut Task) {
        let timeout = task.timeout();
        match self.events.first_key_value().map(|((at, _), _)| *at) {
            Some(at) if at <= timeout => {
                let (_, event) = self.events.pop_first().unwrap();
                self.now = at;
                self.deliver(task, event);
            }
            Some(_) | None => {
                assert!(timeout >= self.now, "time runs backwards");
                self.now = timeout;
                let site = &mut Site { settings: &self.settings, zones: &mut self.zones, entropy: &mut self.entropy };
                task.handle_timeout(site, self.now);
            }
        }
    }

    fn deliver(&mut self, task: &mut Task, event: Event) {
        let site = &mut Site { settings: &self.settings, zones: &mut self.zones, entropy: &mut self.entropy };
        let now = self.now;
        match event {
            Event::Datagram(slot, packet) => {
                if self.queries.contains_key(&slot) {
                    task.handle_datagram(site, now, slot, &packet);
                }
            }
            Event::Connected(stream) if self.streams.contains_key(&key(stream)) => {
                task.handle_connected(site, now, stream)
            }
            Event::Bytes(stream, bytes) if self.streams.contains_key(&key(stream)) => {
                task.handle_stream(site, now, stream, &bytes);
            }
            Event::Failed(stream, error) if self.streams.contains_key(&key(stream)) => {
                task.handle_stream_failed(site, now, stream, error);
            }
            Event::Connected(_) | Event::Bytes(..) | Event::Failed(..) => {}
        }
    }

    fn after_ms(&mut self, ms: u64, event: Event) {
        self.next += 1;
        self.events.insert((self.now.plus_ms(ms), self.next), event);
    }

    fn obey(&mut self, task: &mut Task) {
        loop {
            let commands = task.take_commands();
            if commands.is_empty() {
                return;
            }
            for command in commands {
                match command {
                    Command::Transmit(slot) => self.transmit(task, slot),
                    Command::Release(slot) => {
                        self.queries.remove(&slot);
                    }
                    Command::Connect(stream, at) => self.connect(stream, *at),
                    Command::Send(stream, bytes) => self.send(stream, &bytes),
                    Command::Part(stream, _) | Command::Close(stream) => {
                        self.streams.remove(&key(stream));
                    }
                    Command::Pace(..) => {}
                }
            }
        }
    }

    fn transmit(&mut self, task: &mut Task, slot: u16) {
        let id = *self.queries.entry(slot).or_insert(0x4000 + slot);
        let mut packet = Vec::new();
        if !task.compose(self.now, slot, id, &mut self.entropy, &mut packet) {
            return;
        }
        let (name, rtype, _) = read_query(&packet);
        self.questions.push((name.clone(), rtype));
        let reply = match self.world.quirk_of(self.place, &name, rtype) {
            Quirk::Silent => return,
            Quirk::Answers => self.fitting(self.answer(&packet), &packet),
            Quirk::Rcode(code, text) => refusal(&packet, code, text),
            Quirk::Truncates | Quirk::TruncatesTcpRefused => truncated(&packet),
            Quirk::LowersCase => {
                let mut reply = self.answer(&packet);
                let end = 12 + name.len() + 2;
                reply[12..end].make_ascii_lowercase();
                reply
            }
            Quirk::Cuts(at) | Quirk::CutsTcpRefused(at) => {
                let mut reply = self.answer(&packet);
                reply.truncate(at);
                reply
            }
        };
        let delay = self.dns_delay();
        self.after_ms(delay, Event::Datagram(slot, reply));
    }

    fn dns_delay(&self) -> u64 {
        self.world.setting(self.place, 20, |data| if let Data::DelayMs(ms) = data { Some(*ms) } else { None })
    }

    /// Over UDP a reply longer than 1232 octets becomes an empty one with TC.
    fn fitting(&self, reply: Vec<u8>, packet: &[u8]) -> Vec<u8> {
        if reply.len() > 1232 { truncated(packet) } else { reply }
    }

    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let (name, rtype, question) = read_query(query);
        let (records, rcode, denied_zone) = self.world.look_up(self.place, &name, rtype);
        let mut message = header(query, rcode, records.len() as u16, u16::from(!denied_zone.is_empty()), 0);
        message.extend(question);
        for (owner, rtype, rdata) in &records {
            push_record(&mut message, owner, *rtype, rdata);
        }
        if !denied_zone.is_empty() {
            let serial = self.world.setting(self.place, 2_026_122_001, |data| {
                if let Data::Serial(serial) = data { Some(*serial) } else { None }
            });
            let mut soa = [wire_name("ns1.customer.example"), wire_name("hostmaster.customer.example")].concat();
            soa.extend([serial, 7200, 3600, 1_209_600, 300].iter().flat_map(|number| number.to_be_bytes()));
            push_record(&mut message, &denied_zone, 6, &soa);
        }
        message
    }

    fn connect(&mut self, stream: Stream, at: SocketAddr) {
        self.connections.push(at);
        self.streams.insert(key(stream), (at, String::new()));
        if let Stream::Query(_) = stream {
            assert_eq!(at, self.settings.resolver, "DNS over TCP goes to the resolver");
            let refused = self.world.dns.iter().any(|(p, _, data)| {
                *p == self.place
                    && matches!(data, Data::Quirk(_, Quirk::TruncatesTcpRefused | Quirk::CutsTcpRefused(_)))
            });
            let event = if refused { Event::Failed(stream, NetworkError::Refused) } else { Event::Connected(stream) };
            return self.after_ms(10, event);
        }
        match self.web_at(at) {
            Web::Refuses => self.after_ms(15, Event::Failed(stream, NetworkError::Refused)),
            Web::SilentSyn => {}
            Web::SaysInTls(server, _) => {
                self.tls.insert(key(stream), tls_server::Session::new(server));
                self.after_ms(15, Event::Connected(stream));
            }
            Web::ResetsAfterRequest | Web::SilentAfterRequest | Web::Says(_) | Web::Octets(_) | Web::Parts(_) => {
                self.after_ms(15, Event::Connected(stream));
            }
        }
    }

    fn web_at(&self, at: SocketAddr) -> Web {
        let web = self.world.web.get(&(self.place, at)).cloned();
        web.unwrap_or_else(|| panic!("a connection went to {at}, which the script does not know"))
    }

    fn send(&mut self, stream: Stream, bytes: &[u8]) {
        let (at, _) = self.streams.get(&key(stream)).cloned().expect("sending on an open stream");
        if let Stream::Query(_) = stream {
            let reply = self.answer(&bytes[2..]);
            let framed = [&(reply.len() as u16).to_be_bytes(), reply.as_slice()].concat();
            let delay = self.dns_delay();
            return self.after_ms(delay, Event::Bytes(stream, framed));
        }
        match self.web_at(at) {
            Web::ResetsAfterRequest => self.after_ms(15, Event::Failed(stream, NetworkError::Reset)),
            Web::Says(answer) => {
                let (host, path) = request_line(bytes);
                self.requests.push(String::from_utf8(bytes.to_vec()).unwrap());
                self.after_ms(30, Event::Bytes(stream, answer(&host, &path)));
                self.after_ms(31, Event::Bytes(stream, Vec::new()));
            }
            Web::SaysInTls(_, answer) => {
                let session = self.tls.get_mut(&key(stream)).expect("a session for each connection");
                let asked = session.take(bytes);
                if !asked.is_empty() {
                    let (host, path) = request_line(&asked);
                    self.requests.push(String::from_utf8(asked).unwrap());
                    session.say(&answer(&host, &path));
                }
                let (octets, closes) = session.outgoing();
                if !octets.is_empty() {
                    self.after_ms(30, Event::Bytes(stream, octets));
                }
                if closes {
                    self.after_ms(31, Event::Bytes(stream, Vec::new()));
                }
            }
            Web::Octets(octets) => {
                if !octets.is_empty() {
                    self.after_ms(30, Event::Bytes(stream, octets));
                }
                self.after_ms(31, Event::Bytes(stream, Vec::new()));
            }
            Web::Parts(parts) => {
                for (ms, octets) in parts.iter() {
                    self.after_ms(*ms, Event::Bytes(stream, octets.clone()));
                }
            }
            Web::SilentAfterRequest | Web::SilentSyn | Web::Refuses => {}
        }
    }
}

/// Host and path of a request.
fn request_line(bytes: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(bytes).unwrap();
    let path = text.split(' ').nth(1).unwrap();
    let host = text.split_once("\r\nHost: ").unwrap().1.split('\r').next().unwrap();
    (host.to_owned(), path.to_owned())
}

fn header(query: &[u8], rcode: u8, answers: u16, authority: u16, additional: u16) -> Vec<u8> {
    let mut message = vec![query[0], query[1], 0x81, 0x80 | rcode, 0, 1];
    for count in [answers, authority, additional] {
        message.extend(count.to_be_bytes());
    }
    message
}

fn truncated(query: &[u8]) -> Vec<u8> {
    let mut message = header(query, 0, 0, 0, 0);
    message[2] |= 0x02;
    message.extend(read_query(query).2);
    message
}

/// A reply with a code, and an extended error 22 (no reachable authority) if there is a text.
fn refusal(query: &[u8], rcode: u8, text: &str) -> Vec<u8> {
    let mut message = header(query, rcode, 0, 0, u16::from(!text.is_empty()));
    message.extend(read_query(query).2);
    if !text.is_empty() {
        let option = [&[0, 15], &(2 + text.len() as u16).to_be_bytes()[..], &[0, 22], text.as_bytes()].concat();
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        message.extend((option.len() as u16).to_be_bytes());
        message.extend(option);
    }
    message
}

/// Distinct names asked by a perspective.
pub(crate) fn names_asked(played: &Played, place: usize) -> BTreeSet<String> {
    played.questions.iter().filter(|(p, ..)| *p == place).map(|(_, name, _)| name.clone()).collect()
}
