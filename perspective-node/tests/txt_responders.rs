//! A node against TXT records as Knot and NSD serve them, asked through Unbound and directly: strings, many records,
//! large sets over TCP, wildcards and aliases.
//!
//! Needs the Debian packages `knot`, `nsd` and `unbound`.

mod common;
mod responder;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use common::{Bench, THUMBPRINT, TOKEN, config};
use parallax_validation::{
    check::{
        Contradiction, Finding, LookupFailure,
        dcv::dns01::{TxtFault, TxtHint},
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, DnsTransport, Observation, TcpReason},
    request::CheckRequest,
};
use responder::{Process, judged, observe, request};
use tempfile::TempDir;

fn asked(name: &str) -> CheckRequest {
    request(name, "dns-01", TOKEN, &format!("{TOKEN}.{THUMBPRINT}"))
}

/// What should stand in the record.
fn value() -> String {
    asked("customer.example").control.expect("a challenge").key_authorization().expect("a key").digest()
}

/// An old value, of the right form.
fn old(number: usize) -> String {
    format!("{number:043}")
}

fn record(label: &str, data: &str) -> String {
    format!("_acme-challenge.{label} TXT {data}\n")
}

fn customer_zone() -> String {
    let value = value();
    let single: String = value.chars().map(|c| format!("\"{c}\" ")).collect();
    let escaped: String = value.bytes().map(|octet| format!("\\{octet:03}")).collect();
    let many = |label: &str, last: &str| {
        let old: String = (0..60).map(|n| record(label, &format!("\"{}\"", old(n)))).collect();
        old + &record(label, &format!("\"{last}\""))
    };
    let text = [
        "$ORIGIN customer.example.\n$TTL 0\n@ SOA ns hostmaster 7 600 60 600 0\n@ NS ns\nns A 127.0.0.1\n".to_owned(),
        record("halves", &format!("\"{}\" \"{}\"", &value[..20], &value[20..])),
        record("singles", &single),
        record("empties", &format!("\"\" \"{value}\" \"\"")),
        record("escaped", &format!("\"{escaped}\"")),
        record("second", &format!("\"{}\"", old(1))),
        record("second", &format!("\"{value}\"")),
        many("many", &value),
        many("stale", &old(60)),
        record("quoted", &format!("\"\\\"{value}\\\"\"")),
        record("space", &format!("\"{value} \"")),
        record("case", &format!("\"{}\"", value.to_ascii_lowercase())),
        record("more", &format!("\"{value}\" \"and more\"")),
        record("raw", &format!("\"{TOKEN}.{THUMBPRINT}\"")),
        record("wide", &format!("\"{0}\" \"{0}\" \"{0}\" \"{0}\" \"{0}\" \"{0}\" \"{0}\"", "x".repeat(255))),
        format!("_ACME-Challenge.Mixed TXT \"{value}\"\n"),
        "_acme-challenge.other A 127.0.0.1\n".to_owned(),
        format!("*.starred TXT \"{value}\"\n"),
        // A name that is there is not answered by the wildcard.
        format!("*.covered TXT \"{value}\"\n_acme-challenge.covered A 127.0.0.1\n"),
        "*.swallowed CNAME lb.host.example.\n".to_owned(),
        "_acme-challenge.alias CNAME value.host.example.\n".to_owned(),
        "_acme-challenge.chain CNAME one.customer.example.\none CNAME two\ntwo CNAME value.host.example.\n".to_owned(),
        "_acme-challenge.dangling CNAME gone.host.example.\n".to_owned(),
        "moved DNAME challenges.host.example.\n".to_owned(),
        "*.stars CNAME value.host.example.\n".to_owned(),
        record("doubled.customer.example", &format!("\"{value}\"")),
    ];
    text.concat()
}

fn host_zone() -> String {
    let value = value();
    format!(
        "$ORIGIN host.example.\n$TTL 0\n@ SOA ns hostmaster 7 600 60 600 0\n@ NS ns\nns A 127.0.0.1\nlb A 127.0.0.1\n\
         value TXT \"{value}\"\n_acme-challenge.www.challenges TXT \"{value}\"\n"
    )
}

/// A label, what is found there, how many aliases lead there, and whether TCP is needed.
type Case = (&'static str, Finding, usize, bool);

fn cases() -> Vec<Case> {
    let right = || Finding::Confirmed;
    let wrong = |found, hint| Finding::Contradicted(Contradiction::Txt(TxtFault { found, hint }));
    let none = |nxdomain| Finding::Contradicted(Contradiction::NoRecord { nxdomain });
    vec![
        // `cases.md` D20.
        ("halves", right(), 0, false),
        ("singles", right(), 0, false),
        ("empties", right(), 0, false),
        ("escaped", right(), 0, false),
        ("second", right(), 0, false),
        ("many", right(), 0, true),
        ("stale", wrong(61, TxtHint::OtherDigest), 0, true),
        ("quoted", wrong(1, TxtHint::Quoted), 0, false),
        ("space", wrong(1, TxtHint::WhiteSpace), 0, false),
        ("case", wrong(1, TxtHint::Case), 0, false),
        ("more", wrong(1, TxtHint::Other), 0, false),
        ("raw", wrong(1, TxtHint::NotHashed), 0, false),
        ("wide", wrong(1, TxtHint::Other), 0, true),
        ("mixed", right(), 0, false),
        ("other", none(false), 0, false),
        ("absent", none(true), 0, false),
        ("any.starred", right(), 0, false),
        ("covered", none(false), 0, false),
        ("other.covered", right(), 0, false),
        ("alias", right(), 1, false),
        ("chain", right(), 3, false),
        ("dangling", none(true), 1, false),
        ("www.moved", right(), 1, false),
        ("shop.moved", none(true), 1, false),
        ("any.stars", right(), 1, false),
        // `cases.md` D22 and D19.
        ("any.swallowed", none(false), 1, false),
        ("doubled", none(true), 0, false),
    ]
}

fn lookup(observation: &Observation) -> &DnsLookup {
    let mut all = observation.lookups();
    let lookup = all.next().expect("a lookup");
    assert_eq!(all.count(), 0, "{observation:?}");
    lookup
}

/// Every case by one resolver. One that does not follow aliases out of a zone, as an authoritative server need not,
/// tells nothing about what they lead to.
fn assert_cases(resolver: SocketAddr, follows: bool, through: &str) {
    let mut bench = Bench::start(&config(resolver));
    for (label, expected, aliases, over_tcp) in cases() {
        let request = asked(&format!("{label}.customer.example"));
        let seen = observe(&mut bench, &request);
        if aliases > 0 && !follows {
            let finding = judged(&request, &seen);
            let Finding::Failed(LookupFailure::Dns { failure: DnsFailure::IncompleteChain(_), .. }) = &finding else {
                panic!("{label} {through}: {finding:?} {seen:?}");
            };
            continue;
        }
        assert_eq!(judged(&request, &seen), expected, "{label} {through}: {seen:?}");
        let lookup = lookup(&seen);
        let followed = match &lookup.outcome {
            DnsOutcome::Answer(set) => set.aliases.len(),
            DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => denial.aliases.len(),
            DnsOutcome::Failed(_) => usize::MAX,
        };
        assert_eq!(followed, aliases, "{label} {through}: {lookup:?}");
        let transport =
            if over_tcp { (DnsTransport::Tcp, Some(TcpReason::Truncated)) } else { (DnsTransport::Udp, None) };
        assert_eq!((lookup.transport, lookup.tcp_because), transport, "{label} {through}: {lookup:?}");
        assert_eq!(lookup.ignored_replies, 0, "{label} {through}: {lookup:?}");
    }
}

/// Starts a server with zones, each a name and its text, and gives its port.
type Start = fn(&Path, &[(&str, &str)]) -> (Process, u16);

fn assert_server(start: Start, follows: bool) {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (customer, host) = (customer_zone(), host_zone());
    let (_server, port) = start(at, &[("customer.example", &customer), ("host.example", &host)]);
    let (_unbound, resolver) = responder::unbound_before(at, port, &["customer.example", "host.example"]);
    assert_cases(resolver, true, "through Unbound");
    assert_cases((Ipv4Addr::LOCALHOST, port).into(), follows, "directly");
}

#[test]
fn d20_shapes_of_txt_records_from_knot() {
    assert_server(responder::knot, false);
}

#[test]
fn d20_shapes_of_txt_records_from_nsd() {
    assert_server(responder::nsd, true);
}
