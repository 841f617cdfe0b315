//! Sample inputs of the benches, and the checks that keep them honest.
//!
//! Everything here is fixed: the same names, tokens, octets and times in every run, so that two runs
//! measure the same work. The cohort is that of the engine's commented sample: one primary and five
//! remotes in five RIR regions.
//!
//! Each bench asserts its results outside of what is timed and prints their [`checksum`]. It leaves out
//! throughput and tails of the whole engine: those are `perf`'s.

pub mod task;

use std::{
    fmt::Debug,
    hint::spin_loop,
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use jiff::Timestamp;
use parallax_engine::config::{Config, SAMPLE};
use parallax_validation::{
    base::{Entropy, address::AddressFilter, attempt::AttemptId, octets::Octets},
    check::dcv::Method,
    observation::{
        CertificateDer, ControlObservation, Denial, DnsLookup, DnsOutcome, DnsTransport, HttpHop, HttpObservation,
        HttpOutcome, HttpTry, Observation, RecordSet, RecordType, ResponseHead, Soa, TlsHandshake, TlsObservation,
        TlsOutcome, TlsTry, TlsTryEnd, TlsVersion, TryEnd, UnusedAddress, UnusedReason,
    },
    plan::ControlPlan,
    record::{Record, Reply, Rules, Terms},
    request::{Challenge, CheckRequest, RawRequest},
};

/// The name that is validated.
pub const NAME: &str = "www.customer.example";
/// The challenge's token: 43 characters.
pub const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
/// `token.thumbprint`: 87 characters.
pub const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";
/// The account that asks.
pub const ACCOUNT_URI: &str = "https://acme.ca.example/acct/1234567";

/// The octets of a typical response to an http-01 request; the body is [`KEY_AUTHORIZATION`].
pub const HTTP_RESPONSE: &str = concat!(
    "HTTP/1.1 200 OK\r\n",
    "Server: nginx/1.26.2\r\n",
    "Date: Wed, 25 Nov 2026 12:00:00 GMT\r\n",
    "Content-Type: application/octet-stream\r\n",
    "Content-Length: 87\r\n",
    "Last-Modified: Wed, 25 Nov 2026 11:59:58 GMT\r\n",
    "Connection: close\r\n",
    "ETag: \"6744a5ee-57\"\r\n",
    "Accept-Ranges: bytes\r\n",
    "\r\n",
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ",
);

/// Prints the checksum (FNV-1a, 64 bits, of the debug form) of what `bench` computes.
///
/// A number that changed says that the bench computes something else now, so its time cannot be compared
/// with an earlier one. What the result must be, each bench asserts by itself.
pub fn checksum(bench: &str, result: &impl Debug) {
    let digest = format!("{result:?}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, octet| (sum ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    eprintln!("{bench}: checksum {digest:016x}");
}

/// Bits that are the same in every run: SplitMix64.
#[derive(Clone, Debug)]
pub struct FixedBits(pub u64);

impl Entropy for FixedBits {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Lets threads begin within nanoseconds of each other, which a barrier that sleeps does not.
#[derive(Debug, Default)]
pub struct StartLine(AtomicUsize);

impl StartLine {
    /// Spins until `threads` have come here. A start line serves once.
    pub fn wait(&self, threads: usize) {
        // AcqRel and Acquire pair with each other: what was prepared before is seen behind the line.
        self.0.fetch_add(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) < threads {
            spin_loop();
        }
    }
}

/// When attempts begin.
#[must_use]
pub fn started() -> Timestamp {
    // 2026-11-25T12:00:00.25Z; not read from text, since stages that are counted ask for it.
    Timestamp::constant(1_795_608_000, 250_000_000)
}

/// When they are decided.
#[must_use]
pub fn decided() -> Timestamp {
    Timestamp::constant(1_795_608_000, 734_125_000)
}

/// The rules of the engine's commented sample: the setup, one primary and five remotes.
#[must_use]
pub fn rules() -> Rules {
    let config = Config::parse(SAMPLE, Path::new("parallax.sample.toml"), started());
    config.expect("the sample is checked by the engine's tests").rules
}

/// A line of a bulk file, without its end: a request for `method` of [`NAME`] with CAA.
#[must_use]
pub fn bulk_line(id: &str, method: Method) -> String {
    let has_key = method != Method::DnsPersist01;
    let raw = RawRequest {
        id: Some(id.to_owned()),
        identifier: NAME.to_owned(),
        method: method.label().to_owned(),
        token: has_key.then(|| TOKEN.to_owned()),
        key_authorization: has_key.then(|| KEY_AUTHORIZATION.to_owned()),
        account_uri: Some(ACCOUNT_URI.to_owned()),
        ..RawRequest::default()
    };
    serde_json::to_string(&raw).expect("a request holds only text and flags")
}

/// The request of [`bulk_line`], parsed.
#[must_use]
pub fn request(method: Method) -> CheckRequest {
    let raw = serde_json::from_str(&bulk_line("order-4711/0", method)).expect("own text");
    CheckRequest::parse(
        raw,
        "unnamed",
        &AddressFilter::default().into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .expect("the sample request is a good one")
}

/// What a perspective sees that confirms control by `method`, and CAA: no set at the name, four records
/// at its parent, of which the first permits.
#[must_use]
pub fn observation(method: Method) -> Observation {
    let control = match method {
        Method::Http01 => ControlObservation::Http(http_observation()),
        Method::Dns01 | Method::DnsAccount01 | Method::DnsPersist01 => ControlObservation::Record(txt_lookup(method)),
        Method::TlsAlpn01 => ControlObservation::Tls(tls_observation()),
        other => panic!("{other} has no sample"),
    };
    let leaf = lookup(NAME, RecordType::Caa, nodata());
    let parent = lookup("customer.example", RecordType::Caa, answer("customer.example", caa_rdata()));
    Observation {
        started: started(),
        elapsed_us: 183_412,
        control: Some(control),
        derivation: Vec::new(),
        caa: vec![leaf, parent],
        hints: Vec::new(),
        budget: None,
        dnssec: parallax_validation::observation::DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    }
}

/// One confirming reply for each of six perspectives.
#[must_use]
pub fn replies(method: Method) -> Vec<Reply> {
    vec![Reply::Observed(observation(method)); 6]
}

/// The record of an http-01 attempt that all six perspectives confirm.
#[must_use]
pub fn record(rules: &Rules) -> Record {
    let request = request(Method::Http01);
    Record::new(rules, &terms(&request), decided(), replies(Method::Http01))
}

/// The terms of an attempt of all six perspectives.
#[must_use]
pub fn terms(request: &CheckRequest) -> Terms<'_> {
    let attempt = AttemptId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    Terms { attempt, request, started: started(), members: &[0, 1, 2, 3, 4, 5], seed: None, restart: None }
}

/// RDATA of a small CAA set: this CA, another one, no wildcards, and whom to tell.
#[must_use]
pub fn caa_rdata() -> Vec<Vec<u8>> {
    vec![
        caa_record("issue", "ca.example"),
        caa_record("issue", "other-ca.example"),
        caa_record("issuewild", ";"),
        caa_record("iodef", "mailto:pki-security-cc@customer.example"),
    ]
}

/// RDATA of a CAA set of `count` records, of which only the last names this CA.
#[must_use]
pub fn large_caa_rdata(count: usize) -> Vec<Vec<u8>> {
    let others = (1..count).map(|number| caa_record("issue", &format!("ca-{number}.other.example")));
    others.chain([caa_record("issue", "ca.example")]).collect()
}

/// RDATA of one CAA record without flags (RFC 8659 §4.1).
#[must_use]
pub fn caa_record(tag: &str, value: &str) -> Vec<u8> {
    [&[0], length_octet(tag.len()).as_slice(), tag.as_bytes(), value.as_bytes()].concat()
}

/// A reply of 368 octets to a CAA question about [`NAME`], whose section as sent is `question`: two
/// CNAMEs, the set of [`caa_rdata`] with its RRSIG, and OPT. Names are compressed as servers do it.
#[must_use]
pub fn caa_reply(id: u16, question: &[u8]) -> Vec<u8> {
    const FLAGS: [u8; 2] = [0x81, 0xa0]; // QR RD RA AD
    let mut packet = [&id.to_be_bytes()[..], &FLAGS, &[0, 1, 0, 7, 0, 0, 0, 1], question].concat();
    let at_question = pointer(12);
    let first = push_answer(&mut packet, &at_question, 5, 300, &wire_name("customer.edge.cdn.example"));
    // "edge.cdn.example" begins behind "customer" in the first target.
    let target = [&[2], b"e1".as_slice(), &[4], b"node", &pointer(first + 9)].concat();
    let second = push_answer(&mut packet, &pointer(first), 5, 60, &target);
    let owner = pointer(second);
    for rdata in caa_rdata() {
        push_answer(&mut packet, &owner, 257, 3600, &rdata);
    }
    push_answer(&mut packet, &owner, 46, 3600, &rrsig_rdata());
    packet.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    packet
}

/// Appends a record and returns where its RDATA begins.
fn push_answer(packet: &mut Vec<u8>, owner: &[u8], rtype: u16, ttl: u32, rdata: &[u8]) -> usize {
    packet.extend_from_slice(owner);
    packet.extend(rtype.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(ttl.to_be_bytes());
    let length = u16::try_from(rdata.len()).expect("sample RDATA are short");
    packet.extend(length.to_be_bytes());
    packet.extend_from_slice(rdata);
    packet.len() - rdata.len()
}

/// A compression pointer (RFC 1035 §4.1.4).
fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(at).expect("sample packets are short")).to_be_bytes()
}

fn wire_name(name: &str) -> Vec<u8> {
    let labels = name.split('.').map(|label| [length_octet(label.len()).as_slice(), label.as_bytes()].concat());
    labels.chain([vec![0]]).flatten().collect()
}

fn length_octet(length: usize) -> [u8; 1] {
    [u8::try_from(length).expect("sample strings are short")]
}

/// CAA, ECDSA P-256, five labels; the signature is no real one, as nobody here verifies it.
fn rrsig_rdata() -> Vec<u8> {
    let fixed = [1, 1, 13, 5, 0, 0, 14, 16, 106, 30, 0, 0, 106, 20, 0, 0, 0x30, 0x39];
    let signature: Vec<u8> = (0..64).collect();
    [&fixed[..], &wire_name("edge.cdn.example"), &signature].concat()
}

fn http_observation() -> HttpObservation {
    let url = format!("http://{NAME}/.well-known/acme-challenge/{TOKEN}");
    let v4 = answer(NAME, vec![vec![203, 113, 7, 10], vec![203, 113, 7, 11]]);
    let unused =
        UnusedAddress { address: "203.113.7.11".parse().expect("an address"), reason: UnusedReason::OtherDrawn };
    let attempt = HttpTry {
        address: socket("203.113.7.10:80"),
        connected_us: Some(31_204),
        elapsed_us: 64_870,
        received_bytes: HTTP_RESPONSE.len() as u64,
        end: TryEnd::Answered,
    };
    let response = ResponseHead {
        status: 200,
        location: None,
        server: Some(octets("nginx/1.26.2")),
        content_type: Some(octets("application/octet-stream")),
        content_encoding: None,
    };
    let hop = HttpHop {
        url,
        resolution: vec![lookup(NAME, RecordType::Aaaa, nodata()), lookup(NAME, RecordType::A, v4)],
        unused: vec![unused],
        tries: vec![attempt],
        tls: None,
        response: Some(response),
    };
    let outcome = HttpOutcome::Response { status: 200, body: octets(KEY_AUTHORIZATION), truncated: false };
    HttpObservation { hops: vec![hop], outcome }
}

/// A P-256 certificate that answers tls-alpn-01 for [`NAME`] and [`KEY_AUTHORIZATION`], DER.
#[must_use]
pub fn challenge_certificate() -> Vec<u8> {
    let lines = include_str!("../../validation/tests/vectors/tls_alpn01.txt").lines();
    let text = lines.filter_map(|line| line.strip_prefix("P-256 ")).next().expect("a P-256 certificate");
    let certificate: CertificateDer = serde_json::from_value(text.into()).expect("base64");
    certificate.0
}

/// One handshake over IPv4.
fn tls_observation() -> TlsObservation {
    let v4 = answer(NAME, vec![vec![203, 113, 7, 10]]);
    let attempt = TlsTry {
        address: socket("203.113.7.10:443"),
        connected_us: Some(31_204),
        elapsed_us: 95_310,
        received_bytes: 1_024,
        end: TlsTryEnd::Handshake,
    };
    let handshake = TlsHandshake {
        version: TlsVersion::V13,
        cipher_suite: "TLS13_AES_128_GCM_SHA256".to_owned(),
        protocol: Some(octets("acme-tls/1")),
        certificate: CertificateDer(challenge_certificate()),
    };
    TlsObservation {
        server_name: NAME.to_owned(),
        resolution: vec![lookup(NAME, RecordType::A, v4), lookup(NAME, RecordType::Aaaa, nodata())],
        unused: Vec::new(),
        tries: vec![attempt],
        outcome: TlsOutcome::Handshake(handshake),
    }
}

/// Three TXT records, as where several orders are open; the last is the right one.
fn txt_lookup(method: Method) -> DnsLookup {
    let request = request(method);
    let Some(ControlPlan::Dns(inquiry)) = ControlPlan::of(&request) else { panic!("{method} asks for TXT") };
    let name = inquiry.subject().to_owned();
    let values = match request.control.as_ref().and_then(Challenge::key_authorization) {
        Some(key) => ["A".repeat(43), "B".repeat(43), key.digest()],
        None => [
            "other.example; accounturi=https://other.example/acct/1".to_owned(),
            format!("ca.example; accounturi={ACCOUNT_URI}; persistUntil=1"),
            format!("ca.example; accounturi={ACCOUNT_URI}; policy=wildcard; persistUntil=4102444800"),
        ],
    };
    let rdata = values.iter().map(|value| [length_octet(value.len()).as_slice(), value.as_bytes()].concat());
    let outcome = answer(&name, rdata.collect());
    lookup(&name, RecordType::Txt, outcome)
}

fn lookup(name: &str, rtype: RecordType, outcome: DnsOutcome) -> DnsLookup {
    DnsLookup {
        name: name.to_owned(),
        rtype,
        resolver: socket("10.0.1.53:53"),
        transport: DnsTransport::Udp,
        transmissions: 1,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 24_311,
        authenticated: true,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome,
    }
}

fn answer(owner: &str, rdata: Vec<Vec<u8>>) -> DnsOutcome {
    let rdata = rdata.into_iter().map(Octets).collect();
    DnsOutcome::Answer(RecordSet { owner: owner.to_owned(), ttl: 300, aliases: Vec::new(), rdata })
}

fn nodata() -> DnsOutcome {
    let soa = Soa { zone: "customer.example".to_owned(), serial: 2_026_112_501 };
    DnsOutcome::Nodata(Denial { aliases: Vec::new(), soa: Some(soa) })
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("an address and port written above")
}

fn octets(text: &str) -> Octets {
    Octets(text.as_bytes().to_vec())
}
