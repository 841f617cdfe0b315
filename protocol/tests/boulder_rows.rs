//! The rows of Boulder's behaviour table (`H`, `A`, `D`, `P`, `C`) as a remote validation authority answers them: type,
//! status, text, and the form of the records.
//!
//! What the rules make of evidence is tested row by row in `validation/tests`; here evidence of the same worlds goes
//! through a call. Outcomes are ours: where they are not Boulder's, `docs/divergences.md` says why. Rows about the wire
//! to resolvers and web servers are left to the node.

#![allow(clippy::unwrap_used, reason = "tests")]

mod boulder_lab;

#[allow(dead_code, reason = "the world has more than these rows need")]
#[path = "../../validation/tests/world/mod.rs"]
mod world;

use std::{net::IpAddr, sync::Arc};

use boulder_lab::{Lab, caa, dcv};
use parallax_protocol::wire::{
    core::{ProblemDetails, ValidationRecord},
    va::IsCaaValidRequest,
};
use parallax_validation::{
    check::dcv::dns_account01,
    observation::{ControlObservation, Observation, RecordType},
    plan::Plan,
};
use sha2::{Digest as _, Sha256};
use world::{
    P, Quirk, TOKEN, Web, World, challenge_path, key_authorization, raw, response,
    tls_server::{self, BOTH, ONLY_12, ONLY_13, Recipe, der, dns, extension, ip, san},
};

const ZONE: &str = "customer.example";
const WWW: &str = "www.customer.example";
const WILDCARD: &str = "*.customer.example";
const OTHER: &str = "other.example";
const TXT: &str = "_acme-challenge.customer.example";
const PERSIST: &str = "_validation-persist.customer.example";
const RIGHT: &str = "ca.example; accounturi=https://ca.example/acct/7";
const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";

/// Nothing, or the type of the problem.
type Outcome = Option<&'static str>;

const PASS: Outcome = None;
const UNAUTHORIZED: Outcome = Some("unauthorized");
const CONNECTION: Outcome = Some("connection");
const DNS: Outcome = Some("dns");
const MALFORMED: Outcome = Some("malformed");
const TLS: Outcome = Some("tls");
const CAA: Outcome = Some("caa");

struct Row {
    number: &'static str,
    outcome: Outcome,
    /// Identifier and method.
    asked: (&'static str, &'static str),
    world: World,
    /// Records that are told, if that is of interest.
    records: Option<usize>,
    says: &'static str,
}

impl Row {
    fn new(number: &'static str, outcome: Outcome, asked: (&'static str, &'static str), world: World) -> Self {
        Self { number, outcome, asked, world, records: None, says: "" }
    }

    fn http(number: &'static str, outcome: Outcome, world: World) -> Self {
        Self::new(number, outcome, (WWW, "http-01"), world)
    }

    fn dns(number: &'static str, outcome: Outcome, zones: impl FnOnce(World, &str) -> World) -> Self {
        let world = World::dns();
        let digest = world.digest();
        Self::new(number, outcome, (ZONE, "dns-01"), zones(world, &digest))
    }

    fn persist(number: &'static str, outcome: Outcome, name: &'static str, records: &[&str]) -> Self {
        let world = World::new(raw(name, "dns-persist-01"));
        let world = if records.is_empty() { world } else { world.txt(PERSIST, records) };
        Self::new(number, outcome, (name, "dns-persist-01"), world)
    }

    fn telling(self, records: usize) -> Self {
        Self { records: Some(records), ..self }
    }

    fn saying(self, says: &'static str) -> Self {
        Self { says, ..self }
    }
}

fn status_of(kind: &str) -> i32 {
    match kind {
        "unauthorized" | "caa" => 403,
        "serverInternal" => 500,
        _ => 400,
    }
}

/// What holds of every problem.
fn check_problem(at: &str, found: Option<&ProblemDetails>, outcome: Outcome, says: &str) {
    let Some(found) = found else {
        assert_eq!(outcome, None, "{at}: passed");
        return;
    };
    assert_eq!(Some(found.problem_type.as_str()), outcome, "{at}: {found:?}");
    assert_eq!(found.http_status, status_of(&found.problem_type), "{at}");
    assert!(!found.detail.is_empty() && found.detail.chars().all(|c| !c.is_control()), "{at}: {found:?}");
    assert!(found.detail.contains(says), "{at}: {found:?} without {says}");
    let lower = found.detail.to_lowercase();
    let digest = World::dns().digest().to_lowercase();
    for secret in [&digest, &world::THUMBPRINT.to_lowercase()] {
        assert!(!lower.contains(&secret[..16]), "{at}: {found:?}");
    }
}

/// What holds of every record, by the method.
fn check_records(at: &str, row: &Row, observation: &Observation, records: &[ValidationRecord]) {
    let is_raw = |address: &Vec<u8>| matches!(address.len(), 4 | 16);
    let connected = observation.control.iter().flat_map(ControlObservation::connected).count();
    let base = row.asked.0.trim_start_matches("*.");
    for record in records {
        assert!(!record.hostname.is_empty(), "{at}: {record:?}");
        assert!(record.authorities.is_empty());
        assert!(record.resolver_addrs.iter().all(|text| text == "198.18.0.53:53"), "{at}: {record:?}");
        assert!(record.addresses_resolved.iter().chain(&record.addresses_tried).all(is_raw), "{at}: {record:?}");
        let used = std::str::from_utf8(&record.address_used).expect("text");
        let is_literal = record.hostname.parse::<IpAddr>().is_ok();
        match row.asked.1 {
            "http-01" => {
                used.parse::<IpAddr>().expect("an address");
                assert!(matches!(record.port.as_str(), "80" | "443"), "{at}: {record:?}");
                assert!(record.url.starts_with("http"), "{at}: {record:?}");
                assert!(!record.addresses_resolved.is_empty(), "{at}: {record:?}");
                assert_eq!(record.resolver_addrs.len(), if is_literal { 0 } else { 2 }, "{at}: {record:?}");
            }
            "tls-alpn-01" => {
                assert_eq!((record.hostname.as_str(), record.port.as_str(), record.url.as_str()), (base, "443", ""));
                assert_eq!(used.is_empty(), connected == 0, "{at}: {record:?}");
                assert_eq!(record.resolver_addrs.len(), if is_literal { 0 } else { 2 }, "{at}: {record:?}");
            }
            _ => {
                let alone = ValidationRecord {
                    hostname: base.to_owned(),
                    resolver_addrs: vec!["198.18.0.53:53".to_owned()],
                    ..ValidationRecord::default()
                };
                assert_eq!(*record, alone, "{at}");
            }
        }
    }
    let wanted = if row.asked.1 == "http-01" { connected } else { 1 };
    assert_eq!(records.len(), row.records.unwrap_or(wanted), "{at}");
}

async fn check(rows: Vec<Row>) {
    let mut lab = Lab::new().await;
    for (place, row) in rows.iter().enumerate() {
        let at = format!("{}, row {}", row.number, place + 1);
        let mut observation = row.world.play().observation(P).clone();
        // Those are the primary's alone.
        observation.hints.clear();
        lab.shows(&observation);
        let (identifier, method) = row.asked;
        let result = lab.va.do_dcv(dcv(identifier, method)).await.expect(&at).into_inner();
        let (plan, ..) = lab.asked().pop().expect("it was looked at");
        let mut wanted = Plan::new(&row.world.request, plan.limits, None);
        // Control and CAA are asked for one by one.
        wanted.caa_levels.clear();
        assert_eq!(plan, wanted, "{at}");
        check_problem(&at, result.problem.as_ref(), row.outcome, row.says);
        check_records(&at, row, &observation, &result.records);
        assert_eq!((result.perspective.as_str(), result.rir.as_str()), ("waw1", "RIPE"));
        let Some(found) = &result.problem else { continue };
        let last = observation.control.iter().flat_map(ControlObservation::connected).last();
        if let (Some(last), false) = (last, found.problem_type == "dns") {
            let starts = [format!("{last}:"), format!("[{last}]:")];
            assert!(starts.iter().any(|start| found.detail.starts_with(start)), "{at}: {found:?}");
        }
        if method == "http-01" {
            assert!(found.detail.contains("http"), "{at}: {found:?}");
        }
    }
}

// http-01 -------------------------------------------------------------------------------------------------------

fn asked(identifier: &str) -> World {
    World::new(raw(identifier, "http-01"))
}

fn at(web: Web) -> World {
    World::http().web(V4, web)
}

fn dual(web: Web) -> World {
    World::http().aaaa(WWW, &[V6]).web(V6, web)
}

fn body(body: impl AsRef<[u8]>) -> World {
    at(Web::body(200, "", body))
}

fn octets(text: &str) -> World {
    at(Web::Octets(text.replace("KEY", &key_authorization()).into_bytes()))
}

#[tokio::test]
async fn h1_to_h21_targets() {
    let fails = |rtype| World::http().quirk(WWW, Some(rtype), Quirk::Rcode(2, ""));
    let literal = |address: &'static str| {
        Row::new("H8", PASS, (address, "http-01"), asked(address).web(address, Web::right())).telling(1)
    };
    check(vec![
        Row::http("H1", PASS, World::http()).telling(1),
        Row::http("H2", PASS, asked(WWW).aaaa(WWW, &[V6]).web(V6, Web::right())).telling(1),
        Row::http("H3", PASS, dual(Web::right())).telling(1),
        Row::http("H4", DNS, asked(WWW).txt(WWW, &["x"])).telling(0).saying("neither A nor AAAA"),
        Row::http("H5", PASS, fails(RecordType::Aaaa)),
        Row::http("H6", PASS, fails(RecordType::A).aaaa(WWW, &[V6]).web(V6, Web::right())),
        Row::http("H7", DNS, fails(RecordType::A).quirk(WWW, Some(RecordType::Aaaa), Quirk::Rcode(2, "")))
            .telling(0)
            .saying("SERVFAIL"),
        literal("203.0.113.7"),
        literal("2001:db8::7"),
        Row::http(
            "H12",
            PASS,
            World::http().a(WWW, &[V4, "192.0.2.11"]).web(V4, Web::Refuses).web("192.0.2.11", Web::right()),
        )
        .telling(2),
        Row::http("H13", PASS, dual(Web::Refuses)).telling(2),
        Row::http("H14", CONNECTION, asked(WWW).aaaa(WWW, &[V6]).web(V6, Web::Refuses)).saying("[2001:db8::10]:80"),
        Row::http("H15", PASS, dual(Web::SilentAfterRequest)).telling(2),
        Row::http("H18", DNS, asked(WWW).a(WWW, &["10.0.0.1"])).telling(0).saying("10.0.0.0/8"),
        Row::http("H18", PASS, World::http().a(WWW, &["10.0.0.1", V4])).telling(1),
        Row::http("H20", CONNECTION, at(Web::SilentSyn)).saying("never answered the TCP connection"),
        Row::http("H21", CONNECTION, at(Web::Refuses)).saying("refused the TCP connection"),
        Row::http("H22", UNAUTHORIZED, at(Web::body(403, "", "no robots"))).saying("403"),
    ])
    .await;
}

#[tokio::test]
async fn h30_to_h45_bodies_and_statuses() {
    let right = key_authorization();
    let then = |tail: &str| body(format!("{right}{tail}"));
    let mut rows: Vec<Row> = ["", "\n\r \t", "\r\n", "\x0b", "\x0c", "                    "]
        .map(|tail| Row::http("H31", PASS, then(tail)))
        .into();
    rows.extend(
        ["\u{a0}", "\u{2003}", "\0", "x", &" ".repeat(600)].map(|tail| Row::http("H37", UNAUTHORIZED, then(tail))),
    );
    for wrong in [
        String::new(),
        format!(" {right}"),
        format!("\u{feff}{right}"),
        right.to_ascii_lowercase(),
        format!("\"{right}\""),
        TOKEN.to_owned(),
        format!("{TOKEN}.{}", "x".repeat(43)),
        "%s%n%d {}".to_owned(),
    ] {
        rows.push(Row::http("H38", UNAUTHORIZED, body(wrong)).saying("192.0.2.10:80 returned 200"));
    }
    rows.push(Row::http("H40", UNAUTHORIZED, body([&[0xff, 0xc0], right.as_bytes()].concat())).saying("\\xff\\xc0"));
    rows.push(Row::http("H41", UNAUTHORIZED, body([0xff; 3000])));
    for status in [404, 410, 500, 201, 202, 203, 204, 206, 304, 401, 403, 429, 503, 999, 101] {
        rows.push(Row::http("H43", UNAUTHORIZED, at(Web::body(status, "", &right))).saying("returned"));
    }
    check(rows).await;
}

#[tokio::test]
async fn h46_to_h71_responses() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let plain = format!("{OK}Content-Length: 87\r\n\r\nKEY");
    let mut rows: Vec<Row> = [
        ("H46", PASS, format!("HTTP/1.1 100 Continue\r\n\r\n{plain}")),
        ("H46", PASS, format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{plain}")),
        ("H47", PASS, format!("{OK}Transfer-Encoding: chunked\r\n\r\n57\r\nKEY\r\n0\r\n\r\n")),
        ("H49", CONNECTION, format!("{OK}Transfer-Encoding: chunked\r\n\r\nxyz\r\nKEY\r\n0\r\n\r\n")),
        ("H50", CONNECTION, format!("{OK}Transfer-Encoding: chunked\r\n\r\n100\r\nKEY")),
        ("H51", UNAUTHORIZED, format!("{OK}Content-Length: 50\r\n\r\nKEY")),
        ("H52", CONNECTION, format!("{OK}Content-Length: 500\r\n\r\nKEY")),
        ("H53", CONNECTION, format!("{OK}Content-Length: -1\r\n\r\nKEY")),
        ("H54", CONNECTION, format!("{OK}Content-Length: 87\r\nContent-Length: 86\r\n\r\nKEY")),
        ("H55", PASS, format!("{OK}\r\nKEY")),
        ("H57", PASS, format!("{OK}Content-Encoding: deflate\r\n\r\nKEY")),
        ("H58", PASS, format!("{OK}Content-Type: text/html\r\n\r\nKEY")),
        ("H59", PASS, "HTTP/1.0 200 OK\r\n\r\nKEY".to_owned()),
        ("H60", CONNECTION, "HTTP/1.9 200 OK\r\n\r\nKEY".to_owned()),
        ("H61", PASS, "HTTP/1.1 200\r\n\r\nKEY".to_owned()),
        ("H61", PASS, "HTTP/1.1 200 OK\nServer: x\n\nKEY".to_owned()),
        ("H62", CONNECTION, "KEY".to_owned()),
        ("H63", CONNECTION, "\0\x01\x02garbage".to_owned()),
        ("H63", CONNECTION, "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        ("H63", CONNECTION, "\x15\x03\x01\0\x02\x02F".to_owned()),
        ("H64", CONNECTION, "\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d".to_owned()),
        ("H65", CONNECTION, String::new()),
    ]
    .map(|(number, outcome, text)| Row::http(number, outcome, octets(&text)))
    .into();
    let gzip = Web::body(200, "Content-Encoding: gzip\r\n", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    let large = Web::body(200, &("A: ".to_owned() + &"b".repeat(1019) + "\r\n").repeat(300), key_authorization());
    rows.extend([
        Row::http("H56", UNAUTHORIZED, at(gzip)),
        Row::http("H66", CONNECTION, at(Web::ResetsAfterRequest)),
        Row::http("H67", CONNECTION, at(large)),
        Row::http("H69", CONNECTION, at(Web::SilentAfterRequest)).saying("sent nothing for"),
        Row::http("H70", CONNECTION, at(Web::drips(1_000, OK.as_bytes()))),
    ]);
    check(rows).await;
}

/// The challenge's URL answers so; everything else is right.
fn to(web: Web) -> World {
    let Web::Says(redirect) = web else { panic!("a web that says something") };
    let here = Web::says(move |host, path| match path == challenge_path() {
        true => redirect(host, path),
        false => response(200, "", key_authorization().as_bytes()),
    });
    World::http().web(V4, here).a(OTHER, &["198.51.100.7"]).web("198.51.100.7", Web::right())
}

fn chain(redirects: u32) -> World {
    at(Web::says(move |_, path| {
        let hop: u32 = path.strip_prefix("/hop").map_or(0, |n| n.parse().unwrap());
        match hop == redirects {
            true => response(200, "", key_authorization().as_bytes()),
            false => response(302, &format!("Location: /hop{}\r\n", hop + 1), b""),
        }
    }))
}

#[tokio::test]
async fn h80_to_h123_redirects() {
    let redirect = |location: &str| to(Web::redirect(302, location));
    let mut rows: Vec<Row> = [301, 302, 307, 308]
        .map(|code| Row::http("H80", PASS, to(Web::redirect(code, "http://other.example/x"))).telling(2))
        .into();
    rows.extend(
        [303, 300, 304, 305, 306, 309].map(|code| Row::http("H83", UNAUTHORIZED, to(Web::redirect(code, "/x")))),
    );
    rows.push(Row::http("H84", UNAUTHORIZED, to(Web::body(302, "", ""))));
    rows.extend(
        ["/x", "x", "?q", "//other.example/x", "/x#part", "HTTP://OTHER.Example/x", "http://other.example:80/x"]
            .map(|location| Row::http("H86", PASS, redirect(location)).telling(2)),
    );
    for (number, location) in [
        ("H89", "http://user:pass@other.example/x"),
        ("H94", "http://other.example:8080/x"),
        ("H94", "http://other.example:99999/x"),
        ("H95", "http://other.example:abc/x"),
        ("H96", "ftp://other.example/x"),
        ("H96", "javascript:alert(1)"),
        ("H97", "http://"),
        ("H100", "http://10.10.10.*/"),
        ("H106", "http://[fe80::1%25eth0]/x"),
        ("H107", "http://[2001:db8::g]/x"),
        ("H111", "http://other example/x"),
        ("H112", "http:\\\\other.example\\x"),
    ] {
        rows.push(Row::http(number, CONNECTION, redirect(location)).telling(1).saying("redirect 1"));
    }
    for (number, location) in [("H99", "http://other.internal/"), ("H98", "http://other.example.well-known/x")] {
        rows.push(Row::http(number, DNS, redirect(location)).telling(1));
    }
    let itself = format!("http://{WWW}{}", challenge_path());
    let broken = redirect("http://b.example/x").a("b.example", &["198.51.100.7"]).aaaa("b.example", &[V6]);
    rows.extend([
        Row::http("H102", PASS, redirect("http://203.0.113.9/x").web("203.0.113.9", Web::right())).telling(2),
        Row::http("H102", PASS, redirect("http://[2001:db8::9]/x").web("2001:db8::9", Web::right())).telling(2),
        Row::http("H115", CONNECTION, redirect(&itself)).telling(1).saying("redirect loop"),
        Row::http("H116", PASS, chain(10)).telling(11),
        Row::http("H116", CONNECTION, chain(11)).telling(11).saying("more than 10 redirects"),
        Row::http("H118", UNAUTHORIZED, redirect("http://other.example/x").web("198.51.100.7", Web::body(500, "", "")))
            .saying("http://other.example/x"),
        Row::http("H119", CONNECTION, redirect("http://other.example/x").web("198.51.100.7", Web::Refuses))
            .saying("http://other.example/x"),
        Row::http("H123", PASS, broken.web(V6, Web::Refuses)).telling(3),
    ]);
    check(rows).await;
}

#[tokio::test]
async fn h104_h105_redirects_to_addresses_that_may_not_be_connected_to() {
    let mut lab = Lab::new().await;
    for location in ["http://10.0.0.1/x", "http://169.254.1.1/x", "http://[3fff::1]/x", "http://[64:ff9b::c000:20a]/x"]
    {
        let played = to(Web::redirect(302, location)).play();
        lab.shows(played.observation(P));
        let result = lab.va.do_dcv(dcv(WWW, "http-01")).await.unwrap().into_inner();
        check_problem(location, result.problem.as_ref(), CONNECTION, "may not be connected to");
        assert_eq!(result.records.len(), 1, "{location}");
    }
}

// tls-alpn-01 ---------------------------------------------------------------------------------------------------

const ACME_TLS_1: &[u8] = b"acme-tls/1";

fn digest() -> [u8; 32] {
    Sha256::digest(key_authorization()).into()
}

fn silent(server: Arc<rustls::ServerConfig>) -> Web {
    Web::SaysInTls(server, Arc::new(|host, path| panic!("asked {host} for {path}")))
}

fn answering(certificate: Vec<u8>) -> Web {
    silent(tls_server::server(certificate, &[ACME_TLS_1], BOTH))
}

fn challenged(web: Web) -> World {
    World::new(raw(WWW, "tls-alpn-01")).a(WWW, &["203.0.113.7"]).web_on(443, "203.0.113.7", web)
}

#[tokio::test]
async fn a1_to_a34_handshakes() {
    let row = |number, outcome, world| Row::new(number, outcome, (WWW, "tls-alpn-01"), world);
    let right = || Recipe::challenge(dns(WWW), &digest());
    let with = |extensions: Vec<Vec<u8>>| answering(right().extensions(extensions).make());
    let name = || san(&[dns(WWW)]);
    let acme = tls_server::acme;
    let address = World::new(raw("203.0.113.7", "tls-alpn-01")).web_on(
        443,
        "203.0.113.7",
        answering(Recipe::challenge(ip("203.0.113.7"), &digest()).make()),
    );
    let six = |web: Web| challenged(answering(right().make())).aaaa(WWW, &[V6]).web_on(443, V6, web);
    let of = |versions| silent(tls_server::server(right().make(), &[b"h2", ACME_TLS_1], versions));
    check(vec![
        row("A1", PASS, challenged(answering(right().make()))),
        Row::new("A1", PASS, ("203.0.113.7", "tls-alpn-01"), address),
        row("A3", PASS, challenged(of(ONLY_12))),
        row("A3", PASS, challenged(of(ONLY_13))),
        row("A3", TLS, challenged(Web::Octets(vec![21, 3, 2, 0, 2, 2, 70]))),
        row("A4", UNAUTHORIZED, challenged(silent(tls_server::server(right().make(), &[], BOTH)))),
        row("A5", TLS, challenged(silent(tls_server::server(right().make(), &[b"h2"], BOTH)))),
        row("A7", TLS, challenged(Web::Octets(vec![21, 3, 3, 0, 2, 2, 80]))),
        row("A7", CONNECTION, challenged(Web::Octets(Vec::new()))),
        row("A8", TLS, challenged(Web::Octets(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()))),
        row("A9", CONNECTION, challenged(Web::SilentAfterRequest)),
        row("A10", CONNECTION, challenged(Web::SilentSyn)),
        row("A11", CONNECTION, challenged(Web::Refuses)),
        row("A12", DNS, World::new(raw(WWW, "tls-alpn-01")).txt(WWW, &["x"])),
        row("A13", PASS, six(Web::Refuses)),
        row("A13", PASS, six(Web::SilentAfterRequest)),
        row("A14", UNAUTHORIZED, with(vec![name(), acme(&[7; 32])]).into_world()),
        row("A15", UNAUTHORIZED, with(vec![name(), acme(&[7; 31])]).into_world()),
        row("A15", UNAUTHORIZED, with(vec![name(), extension(tls_server::ACME, true, &digest())]).into_world()),
        row(
            "A16",
            UNAUTHORIZED,
            with(vec![name(), extension(tls_server::ACME, false, &der(4, &digest()))]).into_world(),
        ),
        row("A17", UNAUTHORIZED, with(vec![name()]).into_world()),
        row(
            "A17",
            UNAUTHORIZED,
            with(vec![name(), extension(tls_server::ACME_DRAFT, true, &der(4, &digest()))]).into_world(),
        ),
        row(
            "A18",
            PASS,
            with(vec![name(), acme(&digest()), extension(tls_server::ACME_DRAFT, true, &der(4, &digest()))])
                .into_world(),
        ),
        row("A19", UNAUTHORIZED, with(vec![acme(&digest())]).into_world()),
        row("A20", UNAUTHORIZED, with(vec![san(&[dns(OTHER)]), acme(&digest())]).into_world()),
        row("A21", UNAUTHORIZED, with(vec![san(&[dns(WWW), dns(OTHER)]), acme(&digest())]).into_world()),
        row("A21", UNAUTHORIZED, with(vec![san(&[dns(WWW), dns(WWW)]), acme(&digest())]).into_world()),
        row("A23", UNAUTHORIZED, with(vec![san(&[dns(WWW), ip("203.0.113.7")]), acme(&digest())]).into_world()),
        row("A26", UNAUTHORIZED, with(vec![san(&[dns(WILDCARD)]), acme(&digest())]).into_world()),
        row(
            "A29",
            UNAUTHORIZED,
            challenged(answering(Recipe { issuer: tls_server::common_name("x"), ..right() }.make())),
        ),
        row("A30", UNAUTHORIZED, challenged(answering(Recipe { bad_signature: true, ..right() }.make()))),
        row("A31", UNAUTHORIZED, with(vec![name(), acme(&digest()), acme(&digest())]).into_world()),
    ])
    .await;
}

trait IntoWorld {
    fn into_world(self) -> World;
}

impl IntoWorld for Web {
    fn into_world(self) -> World {
        challenged(self)
    }
}

// DNS methods ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn d1_to_d26_dns_01() {
    let many = ["w1", "w2", "w3", "w4", "w5"];
    let wildcard = World::new(raw(WILDCARD, "dns-01"));
    let wildcard = Row::new("D25", PASS, (WILDCARD, "dns-01"), {
        let digest = wildcard.digest();
        wildcard.txt(TXT, &[&digest])
    });
    let mut rows = vec![
        Row::dns("D1", PASS, |w, digest| w.txt(TXT, &[digest])),
        Row::dns("D2", PASS, |w, digest| {
            let old: Vec<String> = (0..60).map(|n| format!("old-value-{n:033}")).collect();
            w.txt(TXT, &old.iter().map(String::as_str).chain([digest]).collect::<Vec<_>>())
        }),
        Row::dns("D3", PASS, |w, digest| w.txt_strings(TXT, &[vec![&digest[..20], &digest[20..]]])),
        Row::dns("D4", UNAUTHORIZED, |w, digest| w.txt(TXT, &[&digest[..20], &digest[20..]])),
        Row::dns("D5", UNAUTHORIZED, |w, _| w.txt(TXT, &["wrong"])).saying("wrong"),
        Row::dns("D6", UNAUTHORIZED, |w, _| w.txt(TXT, &many)).saying("and 2 more"),
        Row::dns("D7", UNAUTHORIZED, |w, _| w.txt_strings(TXT, &[vec![&"x".repeat(200); 4]])).saying("xxx"),
        Row::dns("D8", UNAUTHORIZED, |w, _| w.a(TXT, &["192.0.2.10"])).saying("No TXT was found"),
        Row::dns("D9", UNAUTHORIZED, |w, _| w).saying("the name does not exist"),
        Row::dns("D13", UNAUTHORIZED, |w, digest| w.txt(TXT, &[&format!(" {digest} ")])),
        Row::dns("D13", UNAUTHORIZED, |w, digest| w.txt(TXT, &[&digest.to_uppercase()])),
        Row::dns("D13", UNAUTHORIZED, |w, digest| w.txt(TXT, &[&format!("{digest}=")])),
        Row::dns("D14", UNAUTHORIZED, |w, _| w.txt(TXT, &[""])),
        Row::dns("D15", PASS, |w, digest| w.cname(TXT, "u.auth.example").txt("u.auth.example", &[digest])),
        Row::dns("D16", UNAUTHORIZED, |w, _| w.cname(TXT, "u.auth.example").a("u.auth.example", &[V4])),
        Row::dns("D16", DNS, |w, _| w.cname(TXT, "u.auth.example").cname("u.auth.example", TXT)).saying("alias loop"),
        Row::dns("D18", DNS, |w, digest| w.txt(TXT, &[digest]).quirk(TXT, None, Quirk::TruncatesTcpRefused)),
        Row::dns("D19", PASS, |w, digest| w.txt(TXT, &[digest]).quirk(TXT, None, Quirk::Truncates)),
        Row::dns("D24", DNS, |w, _| w.quirk(TXT, None, Quirk::Silent)),
        wildcard,
    ];
    for (code, says) in [(2, "SERVFAIL"), (5, "REFUSED"), (4, "NOTIMP"), (1, "FORMERR")] {
        rows.push(Row::dns("D11", DNS, |w, _| w.quirk(TXT, None, Quirk::Rcode(code, ""))).saying(says));
    }
    check(rows).await;
}

#[tokio::test]
async fn d28_to_d33_dns_account_01() {
    let name = |account: &str| format!("{}.{TXT}", dns_account01::label(account));
    let (own, foreign) = (name("https://ca.example/acct/7"), name("https://ca.example/acct/8"));
    let row = |number, outcome, zones: &dyn Fn(World, &str) -> World| {
        let world = World::new(raw(ZONE, "dns-account-01"));
        let digest = world.digest();
        Row::new(number, outcome, (ZONE, "dns-account-01"), zones(world, &digest))
    };
    check(vec![
        row("D28", PASS, &|w, digest| w.txt(&own, &[digest])),
        row("D28", PASS, &|w, digest| w.txt(&own, &["old", digest])),
        row("D29", UNAUTHORIZED, &|w, _| w.txt(&own, &["wrong"])),
        row("D29", UNAUTHORIZED, &|w, _| w.txt(&own, &["w1", "w2", "w3", "w4", "w5"])),
        row("D29", UNAUTHORIZED, &|w, _| w.txt(&own, &["localhost"])),
        row("D30", DNS, &|w, _| w.quirk(&own, None, Quirk::Rcode(2, ""))),
        row("D33", UNAUTHORIZED, &|w, digest| w.txt(&foreign, &[digest])).saying("https://ca.example/acct/7"),
        row("D33", UNAUTHORIZED, &|w, digest| w.txt(TXT, &[digest])),
    ])
    .await;
}

#[tokio::test]
async fn p1_to_p28_dns_persist_01() {
    let and = |addition: &str| format!("{RIGHT}{addition}");
    let other = RIGHT.replacen("ca.", "other.", 1);
    let foreign = RIGHT.replace("/7", "/8");
    let second = RIGHT.replacen("//ca.", "//old.ca.", 1);
    let malformed = and(";");
    let broken = World::new(raw(ZONE, "dns-persist-01")).quirk(PERSIST, None, Quirk::Rcode(2, ""));
    let halves = World::new(raw(ZONE, "dns-persist-01")).txt_strings(PERSIST, &[vec![&RIGHT[..9], &RIGHT[9..]]]);
    let mut rows = vec![
        Row::persist("P3", UNAUTHORIZED, ZONE, &[&other]),
        Row::persist("P4", PASS, ZONE, &[&format!("{other};"), RIGHT]),
        Row::persist("P5", UNAUTHORIZED, ZONE, &["; accounturi=https://ca.example/acct/7"]),
        Row::persist("P17", PASS, WILDCARD, &[&and("; policy=wildcard")]),
        Row::persist("P15", PASS, WILDCARD, &[&and("; Policy=WildCard")]),
        Row::persist("P18", UNAUTHORIZED, WILDCARD, &[RIGHT]).saying("policy=wildcard"),
        Row::persist("P18", UNAUTHORIZED, WILDCARD, &[&and("; policy=other")]),
        Row::persist("P21", UNAUTHORIZED, ZONE, &[&foreign]),
        // The first prefix alone makes the account's URI here.
        Row::persist("P21", UNAUTHORIZED, ZONE, &[&second]),
        Row::persist("P22", PASS, ZONE, &[&malformed, RIGHT]),
        Row::persist("P23", PASS, ZONE, &[&foreign, RIGHT]),
        Row::persist("P25", MALFORMED, ZONE, &[&foreign, &malformed]),
        Row::persist("P26", UNAUTHORIZED, ZONE, &[]).saying("No TXT was found"),
        Row::new("P27", DNS, (ZONE, "dns-persist-01"), broken),
        Row::new("P28", PASS, (ZONE, "dns-persist-01"), halves),
    ];
    for (number, outcome, record) in [
        ("P1", PASS, RIGHT.to_owned()),
        ("P2", MALFORMED, RIGHT.replacen("ca.example", "CA.EXAMPLE.", 1)),
        ("P6", PASS, " \t ca.example\t ;\t accounturi \t= https://ca.example/acct/7 \t".to_owned()),
        ("P7", PASS, and("; x=1; x=2")),
        ("P8", MALFORMED, and("; a")),
        ("P9", MALFORMED, and("; =x")),
        ("P10", MALFORMED, "ca.example".to_owned()),
        ("P11", MALFORMED, and("; a=b c")),
        ("P12", MALFORMED, and("; persistUntil=soon")),
        ("P13", MALFORMED, malformed.clone()),
        ("P14", MALFORMED, and("; AccountURI=https://ca.example/acct/8")),
        ("P16", PASS, and("; policy=unknown")),
        ("P19", PASS, and("; persistUntil=4102444800")),
        ("P20", UNAUTHORIZED, and("; persistUntil=1767225600")),
        ("P20", UNAUTHORIZED, and("; persistUntil=0")),
        ("P20", UNAUTHORIZED, and("; persistUntil=-1")),
    ] {
        rows.push(Row::persist(number, outcome, ZONE, &[&record]));
    }
    check(rows).await;
}

// CAA -----------------------------------------------------------------------------------------------------------

type Record = (u8, &'static str, &'static str);

fn world_of(name: &str) -> World {
    World::caa_of(name)
}

fn set(name: &'static str, records: &[Record]) -> (&'static str, World) {
    (name, world_of(name).caa(ZONE, records))
}

async fn check_caa(rows: Vec<(&'static str, Outcome, &'static str, World)>) {
    let mut lab = Lab::new().await;
    for (place, (number, outcome, name, world)) in rows.iter().enumerate() {
        let at = format!("{number}, row {}", place + 1);
        lab.shows(world.play().observation(P));
        let answer = lab.caa.do_caa(caa(name)).await.expect(&at).into_inner();
        let (plan, ..) = lab.asked().pop().expect("it was looked at");
        assert_eq!(plan, Plan::new(&world.request, plan.limits, None), "{at}");
        check_problem(&at, answer.problem.as_ref(), *outcome, "");
        assert_eq!((answer.perspective.as_str(), answer.rir.as_str()), ("waw1", "RIPE"));
        let Some(found) = answer.problem else { continue };
        let says = if found.problem_type == "dns" { format!("{name}: ") } else { "CAA at ".to_owned() };
        assert!(found.detail.starts_with(&says), "{at}: {found:?}");
    }
}

#[tokio::test]
async fn c1_to_c44_finding_the_set() {
    let climb = |name: &'static str| (name, world_of(name));
    let other = |world: World, name: &str| world.caa(name, &[(0, "issue", "other.example")]);
    let ours = |world: World, name: &str| world.caa(name, &[(0, "issue", "ca.example")]);
    let broken = |world: World, name: &str, code| world.quirk(name, Some(RecordType::Caa), Quirk::Rcode(code, ""));
    let www = || world_of(WWW);
    let rows = vec![
        ("C1", PASS, climb(WWW)),
        ("C1", PASS, climb("www.customer.co.uk")),
        ("C2", CAA, (WWW, other(www(), WWW))),
        ("C6", CAA, (WWW, other(www(), ZONE))),
        ("C7", PASS, (WWW, ours(www(), WWW))),
        ("C7", PASS, (WWW, ours(www(), ZONE))),
        ("C8", PASS, (WWW, broken(ours(www(), WWW), ZONE, 2))),
        ("C9", DNS, (WWW, ours(broken(www(), WWW, 2), ZONE))),
        ("C10", DNS, ("a.www.customer.example", broken(world_of("a.www.customer.example"), WWW, 2))),
        ("C37", DNS, (ZONE, broken(world_of(ZONE), ZONE, 2))),
        ("C37", DNS, (WILDCARD, broken(world_of(WILDCARD), ZONE, 2))),
        ("C38", DNS, (WWW, broken(www(), "example", 3))),
        ("C39", CAA, ("no.data.customer.example", other(world_of("no.data.customer.example"), ZONE))),
        ("C39", PASS, (WWW, broken(www(), WWW, 3))),
        ("C40", DNS, (ZONE, broken(world_of(ZONE), ZONE, 5))),
        ("C41", DNS, (ZONE, ours(world_of(ZONE), ZONE).quirk(ZONE, Some(RecordType::Caa), Quirk::TruncatesTcpRefused))),
        ("C41", PASS, (ZONE, ours(world_of(ZONE), ZONE).quirk(ZONE, Some(RecordType::Caa), Quirk::Truncates))),
        ("C42", PASS, (WWW, ours(www().cname(WWW, "t.cdn.example"), "t.cdn.example"))),
        ("C42", CAA, (WWW, other(www().cname(WWW, "t.cdn.example"), "t.cdn.example"))),
    ];
    check_caa(rows.into_iter().map(|(number, outcome, (name, world))| (number, outcome, name, world)).collect()).await;
}

#[tokio::test]
async fn c3_to_c36_what_a_set_means() {
    let (own, other) = ((0, "issue", "ca.example"), (0, "issue", "other.example"));
    let (wild, other_wild) = ((0, "issuewild", "ca.example"), (0, "issuewild", "other.example"));
    let (none, no_wild) = ((0, "issue", ";"), (0, "issuewild", ";"));
    let sets: Vec<(&str, Outcome, &'static str, Vec<Record>)> = vec![
        ("C3", CAA, ZONE, vec![(0, "iSsUe", "other.example")]),
        ("C4", PASS, ZONE, vec![(0, "ISSUE", "ca.example")]),
        ("C5", CAA, ZONE, vec![(128, "issue", "other.example")]),
        ("C11", PASS, ZONE, vec![(1, "issue", "other.example"), (1, "issue", "ca.example")]),
        ("C12", CAA, ZONE, vec![(128, "tbs", "x")]),
        ("C12", CAA, ZONE, vec![(1, "tbs", "x")]),
        ("C13", PASS, ZONE, vec![(2, "tbs", "x")]),
        ("C14", CAA, WILDCARD, vec![(9, "tbs", "x")]),
        ("C15", CAA, ZONE, vec![(128, "tbs", "x"), own]),
        ("C16", PASS, ZONE, vec![(128, "iodef", "mailto:a@b.example")]),
        ("C16", PASS, ZONE, vec![(128, "issuemail", ";"), (0, "issuevmc", ";")]),
        ("C17", CAA, ZONE, vec![(128, "contactemail", "a@b.example")]),
        ("C28", CAA, ZONE, vec![none]),
        ("C28", CAA, WILDCARD, vec![none]),
        ("C29", CAA, WILDCARD, vec![no_wild]),
        ("C30", CAA, WILDCARD, vec![own, other_wild]),
        ("C31", PASS, WILDCARD, vec![wild]),
        ("C32", PASS, WILDCARD, vec![other_wild, wild]),
        ("C33", PASS, WILDCARD, vec![other, wild]),
        ("C34", PASS, WILDCARD, vec![own]),
        ("C35", PASS, ZONE, vec![other_wild]),
        ("C36", CAA, ZONE, vec![none, wild]),
        ("C72", PASS, ZONE, vec![(0, "issue", "ca.example; a"), own]),
        ("C73", PASS, ZONE, vec![none, own]),
        ("C74", CAA, ZONE, vec![(0, "", "ca.example")]),
    ];
    let rows = sets.into_iter().map(|(number, outcome, name, records)| {
        let (name, world) = set(name, &records);
        (number, outcome, name, world)
    });
    check_caa(rows.collect()).await;
}

#[tokio::test]
async fn c18_to_c71_values_for_this_account_and_method() {
    const VALUES: &[(&str, Outcome, &str)] = &[
        ("C18", PASS, "ca.example; policy=ev; b=c"),
        ("C19", CAA, "ca.example; a_b=c"),
        ("C20", CAA, "ca.example; validationmethods=dns-01"),
        ("C21", PASS, "ca.example; validationmethods=dns-01,http-01"),
        ("C22", PASS, "ca.example; accounturi=https://ca.example/acct/7"),
        ("C23", PASS, "ca.example; accounturi=https://ca.example/acct/7; validationmethods=http-01"),
        ("C24", CAA, "ca.example; accounturi=https://ca.example/acct/7; validationmethods=dns-01"),
        ("C25", CAA, "ca.example; accounturi=https://ca.example/acct/8; validationmethods=http-01"),
        ("C26", CAA, "ca.example; accounturi=https://ca.example/acct/8"),
        ("C45", CAA, ""),
        ("C46", PASS, "ca.example;   "),
        ("C47", CAA, "ca.example; a=b;"),
        ("C48", PASS, "\tca.example\t;\ta\t=\tb\t"),
        ("C52", CAA, "ca.example; a"),
        ("C53", PASS, "ca.example; a-b=c"),
        ("C54", CAA, "ca.example; =x"),
        ("C57", CAA, "ca.example; accounturi="),
        ("C57", CAA, "ca.example; accounturi=https://ca.example/acct/7; accounturi=https://ca.example/acct/7"),
        ("C58", CAA, "ca.example; accounturi=7"),
        ("C59", PASS, "ca.example; accounturi=https://old.ca.example/acct/7"),
        ("C60", CAA, "ca.example; accounturi=https://other.example/acct/7"),
        ("C60", CAA, "ca.example; accounturi=https://old.ca.example/acct/77"),
        ("C61", CAA, "ca.example; accounturi=HTTPS://ca.example/acct/7"),
        ("C61", CAA, "ca.example; accounturi=https://ca.example/acct/07"),
        ("C62", CAA, "ca.example; AccountURI=https://ca.example/acct/8"),
        ("C62", PASS, "ca.example; AccountURI=https://old.ca.example/acct/7"),
        ("C63", CAA, "ca.example; ValidationMethods=dns-01"),
        ("C64", CAA, "ca.example; validationmethods="),
        ("C65", CAA, "ca.example; validationmethods=unknown-01"),
        ("C66", CAA, "ca.example; validationmethods=http-01; validationmethods=http-01"),
        ("C67", CAA, "ca.example; validationmethods=http-01,"),
        ("C68", CAA, "ca.example; validationmethods=,http-01"),
        ("C69", PASS, "ca.example; validationmethods=ca-foo,http-01"),
        ("C70", CAA, "ca.example; validationmethods=HTTP-01"),
        ("C71", CAA, "ca.example."),
        ("C71", PASS, "CA.Example"),
    ];
    let rows = VALUES.iter().map(|(number, outcome, value)| {
        let (name, world) = set(ZONE, &[(0, "issue", value)]);
        (*number, *outcome, name, world)
    });
    check_caa(rows.collect()).await;
    // C27: of two records one has the right account.
    let both = [
        (0, "issue", "ca.example; accounturi=https://ca.example/acct/8"),
        (0, "issue", "ca.example; accounturi=https://old.ca.example/acct/7"),
    ];
    let (name, world) = set(ZONE, &both);
    check_caa(vec![("C27", PASS, name, world)]).await;
}

#[tokio::test]
async fn caa_knows_every_method_by_its_label() {
    let mut lab = Lab::new().await;
    for method in ["http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01"] {
        let value = format!("ca.example; validationmethods={method}");
        let world = world_of(ZONE).caa(ZONE, &[(0, "issue", &value)]);
        lab.shows(world.play().observation(P));
        for asked in ["http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01"] {
            let message = IsCaaValidRequest { validation_method: asked.to_owned(), ..caa(ZONE) };
            let found = lab.caa.do_caa(message).await.unwrap().into_inner().problem;
            assert_eq!(found.is_none(), asked == method, "{asked} {method}");
        }
    }
}
