//! Requests, observations and records made by hand, for the tests of the Open MPIC interface and its samples.

#![allow(dead_code, reason = "each user uses its part")]
#![allow(clippy::unwrap_used, reason = "only tests and samples use it")]

use std::{cell::RefCell, rc::Rc};

use jiff::Timestamp;
use parallax_protocol::open_mpic::{self, CheckerSettings, Reply, Settings, Unavailable};
use parallax_validation::{
    base::{
        attempt::AttemptId,
        octets::Octets,
        perspective::{Coordinates, Perspective, ResolverSite, Rir, Role},
        suffix::Suffixes,
    },
    check::caa::authorize::CaaPolicy,
    observation::{
        Alias, CertificateDer, ControlObservation, Denial, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecMode,
        HttpHop, HttpObservation, HttpOutcome, HttpTry, Observation, RecordSet, RecordType, ResponseHead, TlsHandshake,
        TlsObservation, TlsOutcome, TlsTry, TlsTryEnd, TlsVersion, TryEnd,
    },
    plan::PlanLimits,
    record::{Conduct, FORM_VERSION, Record, Reply as Answered, Rules, Setup, Terms},
    request::{CheckRequest, RequestRules},
    verdict::PerspectiveState,
};
use serde_json::{Value, json};

pub(crate) const NAME: &str = "shop.example.net";
pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
pub(crate) const KEY: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";
/// SHA-256 of [`KEY`] in base64url.
pub(crate) const DIGEST: &str = "NGwKoXBgCT8JhEa0bK7AwfSqHyu_ZWeugV07fLGIVq0";
pub(crate) const VALUE: &str = "8f3a09c47d21e65bb1d04e7796c2a350";
pub(crate) const ACCOUNT: &str = "https://ca1.example/acct/7";
pub(crate) const REMOTES: u8 = 5;

pub(crate) fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn perspective(id: &str, role: Role, rir: Rir, latitude: f64) -> Perspective {
    let coordinates = Coordinates::new(latitude, 0.0).unwrap();
    Perspective {
        id: id.parse().unwrap(),
        role,
        rir,
        coordinates,
        as_number: 64500,
        provider: "test".to_owned(),
        resolver: ResolverSite { name: "192.0.2.53:53".to_owned(), rir, coordinates },
    }
}

pub(crate) fn node() -> Perspective {
    perspective("p1", Role::Remote, Rir::Arin, 10.0)
}

pub(crate) fn policy() -> CaaPolicy {
    CaaPolicy { issuer_domains: vec!["ca1.example".to_owned(), "ca2.example".to_owned()], ..CaaPolicy::default() }
}

pub(crate) fn rules() -> Rules {
    let remotes = [Rir::Arin, Rir::RipeNcc, Rir::Apnic, Rir::Lacnic, Rir::Afrinic];
    let primary = perspective("p0", Role::Primary, Rir::Arin, 0.0);
    let remotes = remotes
        .iter()
        .enumerate()
        .map(|(index, rir)| perspective(&format!("p{}", index + 1), Role::Remote, *rir, 10.0 * (index + 1) as f64));
    let setup = Setup {
        form: FORM_VERSION,
        software: "test".to_owned(),
        policy: parallax_validation::verdict::policy::BUILTIN_TEXT.to_owned(),
        caa: policy(),
        perspectives: std::iter::once(primary).chain(remotes).collect(),
        limits: PlanLimits::default(),
        public_suffixes: None,
        conduct: Conduct::default(),
    };
    setup.rules().unwrap()
}

pub(crate) fn lookup(name: &str, rtype: RecordType, outcome: DnsOutcome) -> DnsLookup {
    DnsLookup {
        name: name.to_owned(),
        rtype,
        resolver: "192.0.2.53:53".parse().unwrap(),
        transport: DnsTransport::Udp,
        transmissions: 1,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 1000,
        authenticated: false,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome,
    }
}

pub(crate) fn answer(name: &str, rtype: RecordType, rdata: Vec<Vec<u8>>) -> DnsLookup {
    let rdata = rdata.into_iter().map(Octets).collect();
    let set = RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata };
    lookup(name, rtype, DnsOutcome::Answer(set))
}

pub(crate) fn over_alias(mut found: DnsLookup, target: &str) -> DnsLookup {
    if let DnsOutcome::Answer(set) = &mut found.outcome {
        set.aliases = vec![Alias { owner: found.name.clone(), target: target.to_owned(), dname: false }];
        set.owner = target.to_owned();
    }
    found
}

pub(crate) fn nodata(name: &str, rtype: RecordType) -> DnsLookup {
    lookup(name, rtype, DnsOutcome::Nodata(Denial::default()))
}

pub(crate) fn nxdomain(name: &str, rtype: RecordType) -> DnsLookup {
    lookup(name, rtype, DnsOutcome::Nxdomain(Denial::default()))
}

pub(crate) fn failed(name: &str, rtype: RecordType, failure: DnsFailure) -> DnsLookup {
    lookup(name, rtype, DnsOutcome::Failed(failure))
}

pub(crate) fn txt(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(255).flat_map(|chunk| std::iter::once(chunk.len() as u8).chain(chunk.to_vec())).collect()
}

pub(crate) fn caa(flags: u8, tag: &str, value: &str) -> Vec<u8> {
    [&[flags, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat()
}

pub(crate) fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|l| std::iter::once(l.len() as u8).chain(l.bytes()));
    labels.chain([0]).collect()
}

pub(crate) fn observed(control: Option<ControlObservation>, caa: Vec<DnsLookup>) -> Observation {
    Observation {
        started: "2026-11-25T12:00:00.25Z".parse().unwrap(),
        elapsed_us: 12_345,
        control,
        derivation: Vec::new(),
        caa,
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    }
}

/// The CAA climb of [`NAME`] with `records` at its parent.
pub(crate) fn climb(records: &[(u8, &str, &str)]) -> Vec<DnsLookup> {
    let set = records.iter().map(|(flags, tag, value)| caa(*flags, tag, value)).collect();
    vec![nodata(NAME, RecordType::Caa), answer("example.net", RecordType::Caa, set)]
}

pub(crate) fn no_caa() -> Vec<DnsLookup> {
    vec![nodata(NAME, RecordType::Caa), nodata("example.net", RecordType::Caa), nodata("net", RecordType::Caa)]
}

pub(crate) fn caa_seen(levels: Vec<DnsLookup>) -> Observation {
    observed(None, levels)
}

pub(crate) fn dns_seen(lookup: DnsLookup) -> Observation {
    observed(Some(ControlObservation::Record(lookup)), Vec::new())
}

pub(crate) fn hop(url: &str, name: &str, status: Option<u16>, location: Option<&str>) -> HttpHop {
    let head = |status| ResponseHead {
        status,
        location: location.map(|text| Octets(text.as_bytes().to_vec())),
        server: None,
        content_type: None,
        content_encoding: None,
    };
    HttpHop {
        url: url.to_owned(),
        resolution: vec![answer(name, RecordType::A, vec![vec![8, 8, 4, 4]])],
        unused: Vec::new(),
        tries: vec![HttpTry {
            address: "8.8.4.4:80".parse().unwrap(),
            connected_us: Some(10),
            elapsed_us: 100,
            received_bytes: 100,
            end: TryEnd::Answered,
        }],
        tls: None,
        response: status.map(head),
    }
}

pub(crate) fn http01_url() -> String {
    format!("http://{NAME}/.well-known/acme-challenge/{TOKEN}")
}

pub(crate) fn http_seen(hops: Vec<HttpHop>, outcome: HttpOutcome) -> Observation {
    observed(Some(ControlObservation::Http(HttpObservation { hops, outcome })), Vec::new())
}

pub(crate) fn page(status: u16, body: &str) -> HttpOutcome {
    HttpOutcome::Response { status, body: Octets(body.as_bytes().to_vec()), truncated: false }
}

pub(crate) fn http01_page(status: u16, body: &str) -> Observation {
    http_seen(vec![hop(&http01_url(), NAME, Some(status), None)], page(status, body))
}

pub(crate) fn tls_seen(outcome: TlsOutcome, end: TlsTryEnd) -> Observation {
    let tls = TlsObservation {
        server_name: NAME.to_owned(),
        resolution: vec![answer(NAME, RecordType::A, vec![vec![8, 8, 4, 4]])],
        unused: Vec::new(),
        tries: vec![TlsTry {
            address: "8.8.4.4:443".parse().unwrap(),
            connected_us: Some(10),
            elapsed_us: 100,
            received_bytes: 100,
            end,
        }],
        outcome,
    };
    observed(Some(ControlObservation::Tls(tls)), Vec::new())
}

/// A handshake that shows a certificate for `names`, with the digest in an extension if there is one.
pub(crate) fn handshake(names: &[&str], digest: Option<&[u8]>, critical: bool) -> Observation {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => rcgen::SanType::IpAddress(address),
            Err(_) => rcgen::SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, NAME);
    if let Some(digest) = digest {
        let value = [&[4, digest.len() as u8], digest].concat();
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 31], value);
        extension.set_criticality(critical);
        params.custom_extensions.push(extension);
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let handshake = TlsHandshake {
        version: TlsVersion::V13,
        cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
        protocol: Some(Octets(b"acme-tls/1".to_vec())),
        certificate: CertificateDer(certificate.der().to_vec()),
    };
    tls_seen(TlsOutcome::Handshake(handshake), TlsTryEnd::Handshake)
}

/// SHA-256 of [`KEY`].
pub(crate) fn digest_octets() -> Vec<u8> {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    BASE64_URL_SAFE_NO_PAD.decode(DIGEST).unwrap()
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// What each perspective of an attempt replies.
pub(crate) type Seen = Vec<Answered>;

/// All six see the same.
pub(crate) fn all(seen: Observation) -> Seen {
    vec![Answered::Observed(seen); usize::from(REMOTES) + 1]
}

/// All but the last see the first; the last is in `state`.
pub(crate) fn all_but_one(seen: Observation, state: PerspectiveState) -> Seen {
    let mut replies = all(seen);
    *replies.last_mut().unwrap() = Answered::None(state);
    replies
}

pub(crate) fn record(rules: &Rules, request: &CheckRequest, number: u128, replies: Seen) -> Record {
    let started = now();
    let members = rules.members(started, None).unwrap();
    let terms = Terms { attempt: AttemptId(number), request, started, members: &members, seed: None, restart: None };
    Record::new(rules, &terms, "2026-11-25T12:00:00.7Z".parse().unwrap(), replies)
}

/// What a call to the coordinator came to.
pub(crate) struct Called {
    pub(crate) reply: Reply,
    /// What the engine was asked, attempt by attempt.
    pub(crate) requests: Vec<CheckRequest>,
}

impl Called {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.reply.body).unwrap()
    }
}

/// Calls the coordinator with an engine whose attempts see what `attempts` says; the last of them again and again.
pub(crate) fn call_with(body: &[u8], settings: &Settings<'_>, attempts: Vec<Result<Seen, Unavailable>>) -> Called {
    let rules = Rc::new(rules());
    let asked = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&asked);
    let ask = move |request: CheckRequest| {
        let index = noted.borrow().len();
        let seen = attempts.get(index).or(attempts.last()).expect("an attempt").clone();
        let record = seen.map(|seen| record(&rules, &request, index as u128 + 1, seen));
        noted.borrow_mut().push(request);
        std::future::ready(record)
    };
    let reply = wait(open_mpic::corroborate(body, settings, ask));
    let requests = asked.take();
    Called { reply, requests }
}

pub(crate) fn call(body: &Value, attempts: Vec<Seen>) -> Called {
    let rules = RequestRules::default();
    let domains = policy().issuer_domains;
    let body = serde_json::to_vec(body).unwrap();
    call_with(&body, &settings(&rules, &domains), attempts.into_iter().map(Ok).collect())
}

pub(crate) fn settings<'a>(rules: &'a RequestRules, issuer_domains: &'a [String]) -> Settings<'a> {
    Settings {
        remotes: REMOTES,
        allowed: 1,
        issuer_domains,
        rules,
        attempts_max: 3,
        now: now(),
        id: "mpic-1",
        account: Some("caller-1"),
    }
}

/// Calls a node that sees this.
pub(crate) fn check(path: &str, body: &Value, seen: Result<Observation, Unavailable>) -> (u16, Value) {
    let reply = check_reply(path, body, seen);
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

/// The same, as the node answers.
pub(crate) fn check_reply(path: &str, body: &Value, seen: Result<Observation, Unavailable>) -> Reply {
    let (node, policy, suffixes, rules) = (node(), policy(), Suffixes::default(), RequestRules::default());
    let settings = CheckerSettings {
        perspective: &node,
        caa: &policy,
        suffixes: &suffixes,
        rules: &rules,
        limits: PlanLimits::default(),
        now: now(),
        id: "node-1",
    };
    let body = serde_json::to_vec(body).unwrap();
    let look = |_| std::future::ready(seen);
    match path {
        "/caa" => wait(open_mpic::check_caa(&body, &settings, look)),
        _ => wait(open_mpic::check_dcv(&body, &settings, look)),
    }
}

/// Ends a future that waits for nothing.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

pub(crate) fn caa_request() -> Value {
    json!({ "check_type": "caa", "domain_or_ip_target": NAME })
}

pub(crate) fn dcv_request(parameters: Value) -> Value {
    json!({ "check_type": "dcv", "domain_or_ip_target": NAME, "dcv_check_parameters": parameters })
}

pub(crate) fn http01() -> Value {
    json!({ "validation_method": "acme-http-01", "token": TOKEN, "key_authorization": KEY })
}

pub(crate) fn dns01() -> Value {
    json!({ "validation_method": "acme-dns-01", "key_authorization_hash": DIGEST })
}

pub(crate) fn tls_alpn01() -> Value {
    json!({ "validation_method": "acme-tls-alpn-01", "key_authorization_hash": hex(&digest_octets()) })
}

pub(crate) fn dns_change(rtype: &str, value: &str) -> Value {
    json!({ "validation_method": "dns-change", "challenge_value": value, "dns_record_type": rtype })
}

pub(crate) fn website() -> Value {
    json!({ "validation_method": "website-change", "challenge_value": VALUE, "http_token_path": "a.txt" })
}

pub(crate) fn persist() -> Value {
    json!({ "validation_method": "dns-persistent", "issuer_domain_names": ["CA1.example"],
            "expected_account_uri": ACCOUNT })
}

pub(crate) fn contact(method: &str, contact: &str) -> Value {
    json!({ "validation_method": method, "challenge_value": contact })
}

/// With more members at the top.
pub(crate) fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) fn orchestrated(parameters: Value) -> Value {
    with(caa_request(), json!({ "orchestration_parameters": parameters }))
}
