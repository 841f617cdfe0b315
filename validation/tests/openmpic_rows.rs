//! What Open MPIC does about CAA and DNS, by section of the peer study, and what its users and its weak
//! points (`W`) teach.
//!
//! Each row has what is asked, the outcome there and ours. Rows whose outcomes differ have a reason, and
//! `docs/divergences.md` lists them; what does not apply, or waits, stands only there. Rows about weak points
//! hold ours alone.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the world has more than these rows need")]
mod world;

use std::collections::BTreeSet;

use parallax_validation::{
    base::octets::Octets,
    check::{
        Finding,
        caa::{self, CaaFinding, authorize::CaaPolicy},
        dcv::dns01,
    },
    lookup::dns::message::{Question, compose},
    observation::{ControlObservation, DnsFailure, DnsLookup, DnsOutcome, ExtendedError, RecordType},
    problem::ProblemKind,
    request::{CaaCheck, CheckRequest, Identifier, RawRequest},
};
use world::{P, Played, Quirk, Web, World, filter, raw, resolver};

const ZONE: &str = "customer.example";
const WWW: &str = "www.customer.example";
const WILDCARD: &str = "*.customer.example";
const TXT: &str = "_acme-challenge.customer.example";

const EXPECTED: [&str; 29] = [
    "4.1",
    "4.2",
    "4.3.1",
    "4.3.2",
    "4.3.3",
    "4.3.4",
    "4.3.4a",
    "4.3.4b",
    "4.3.5",
    "4.3.5a",
    "4.4",
    "5",
    "10.3 CAA",
    "10.3 DNS",
    "s-mime",
    "6844",
    "dns-change",
    "website-change",
    "contact",
    "ip-address",
    "reverse",
    "dns-account",
    "dns-persistent",
    "W3",
    "W6",
    "W9",
    "W12",
    "W16",
    "W19",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail(ProblemKind),
}

const PASS: Outcome = Outcome::Pass;
const CAA: Outcome = Outcome::Fail(ProblemKind::Caa);
const DNS: Outcome = Outcome::Fail(ProblemKind::Dns);
const UNAUTHORIZED: Outcome = Outcome::Fail(ProblemKind::Unauthorized);
const MALFORMED: Outcome = Outcome::Fail(ProblemKind::Malformed);
const REJECTED: Outcome = Outcome::Fail(ProblemKind::RejectedIdentifier);

struct Row {
    id: &'static str,
    what: &'static str,
    /// None for a weak point.
    theirs: Option<Outcome>,
    ours: Outcome,
    /// Why they differ; empty if they agree.
    because: &'static str,
    play: Play,
}

type Play = fn() -> Outcome;

fn same(id: &'static str, what: &'static str, outcome: Outcome, play: Play) -> Row {
    Row { id, what, theirs: Some(outcome), ours: outcome, because: "", play }
}

fn lesson(id: &'static str, what: &'static str, ours: Outcome, play: Play) -> Row {
    Row { id, what, theirs: None, ours, because: "", play }
}

fn differs(
    id: &'static str,
    what: &'static str,
    [theirs, ours]: [Outcome; 2],
    because: &'static str,
    play: Play,
) -> Row {
    Row { id, what, theirs: Some(theirs), ours, because, play }
}

fn outcome(played: &Played) -> Outcome {
    match played.passed() {
        true => PASS,
        false => Outcome::Fail(played.explanation().problem.expect("a refusal has a problem type")),
    }
}

/// A CAA check of a name.
fn climb(name: &str, zones: impl Fn(World) -> World) -> Outcome {
    outcome(&zones(World::caa_of(name)).play())
}

/// A CAA check of the zone, or of its wildcard, with this set.
fn set(name: &str, records: &[(u8, &str, &str)]) -> Outcome {
    climb(name, |world| world.caa(ZONE, records))
}

fn value(value: &str) -> Outcome {
    set(ZONE, &[(0, "issue", value)])
}

fn quirk(quirk: Quirk) -> Outcome {
    climb(ZONE, |world| world.caa(ZONE, &[(0, "issue", "ca.example")]).quirk(ZONE, Some(RecordType::Caa), quirk))
}

fn request(identifier: &str, method: &str) -> Outcome {
    match CheckRequest::parse(
        raw(identifier, method),
        "row",
        &filter().into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    ) {
        Ok(_) => PASS,
        Err(error) => Outcome::Fail(error.problem()),
    }
}

fn txt(zones: impl Fn(World, &str) -> World) -> Outcome {
    let world = World::dns();
    let digest = world.digest();
    outcome(&zones(world, &digest).play())
}

/// The levels of a CAA check of the zone with this set, the leaf's lookup changed, judged under a policy.
fn judged(records: &[(u8, &str, &str)], policy: CaaPolicy, change: impl Fn(&mut DnsLookup)) -> Outcome {
    let played = World::caa_of(ZONE).caa(ZONE, records).play();
    let mut levels = played.observation(P).caa.clone();
    change(&mut levels[0]);
    let identifier = Identifier::Name(ZONE.parse().unwrap());
    match caa::judge(&identifier, &CaaCheck::default(), &levels, false, &policy) {
        finding if finding.permits() => PASS,
        CaaFinding::Decided { .. } => CAA,
        CaaFinding::NoSet | CaaFinding::Failed(_) | CaaFinding::Excused { .. } => DNS,
    }
}

/// A policy under which failures may permit.
fn lenient() -> CaaPolicy {
    let issuer_domains = vec!["ca.example".to_owned()];
    CaaPolicy { issuer_domains, lookup_failure_permits: true, ..CaaPolicy::default() }
}

fn named(names: &[&str]) -> CaaPolicy {
    let issuer_domains = names.iter().map(|name| (*name).to_owned()).collect();
    CaaPolicy { issuer_domains, ..CaaPolicy::default() }
}

/// The right TXT and another, of raw octets.
fn txt_beside(other: &[u8]) -> Outcome {
    let world = World::dns();
    let digest = world.digest();
    let played = world.txt(TXT, &[&digest]).play();
    let Some(ControlObservation::Record(lookup)) = &played.observation(P).control else { panic!("a TXT lookup") };
    let mut lookup = lookup.clone();
    let DnsOutcome::Answer(set) = &mut lookup.outcome else { panic!("an answer") };
    set.rdata.insert(0, Octets([&[other.len() as u8], other].concat()));
    let challenge = CheckRequest::parse(
        raw(ZONE, "dns-01"),
        "row",
        &filter().into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .unwrap()
    .control
    .unwrap();
    let key = challenge.key_authorization().unwrap();
    match dns01::judge(&key.digest(), Some(key), &[], &lookup) {
        Finding::Confirmed => PASS,
        Finding::Contradicted(_) => UNAUTHORIZED,
        Finding::Failed(_) => DNS,
    }
}

/// Whether a query has an OPT record with DO (RFC 6891 §6.1.3).
fn asks_for_dnssec() -> bool {
    let mut packet = Vec::new();
    compose(&Question::new(ZONE, RecordType::Caa).unwrap(), 1, &mut packet);
    packet.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0])
}

fn section_rows() -> Vec<Row> {
    let binds = "RFC 8657 §3 and §4, req C15";
    vec![
        same("4.1", "a wildcard is judged at its base", CAA, || set(WILDCARD, &[(0, "issue", "other.example")])),
        same("4.1", "an underscore", REJECTED, || request("a_b.customer.example", "caa")),
        same("4.1", "an empty label", REJECTED, || request("a..example", "caa")),
        differs("4.1", "a final dot", [PASS, REJECTED], "req B16", || request("customer.example.", "caa")),
        differs("4.1", "a U-label", [PASS, REJECTED], "req B16", || request("bücher.example", "caa")),
        same("4.2", "truncation leads to TCP", PASS, || quirk(Quirk::Truncates)),
        same("4.3.1", "NXDOMAIN and NODATA climb", CAA, || {
            climb("no.name.customer.example", |world| world.caa("example", &[(0, "issue", "other.example")]))
        }),
        same("4.3.1", "the first set wins", PASS, || {
            climb(WWW, |w| w.caa(WWW, &[(0, "issue", "ca.example")]).caa(ZONE, &[(0, "issue", "other.example")]))
        }),
        differs("4.3.1", "an address", [PASS, MALFORMED], "an address has no CAA", || request("192.0.2.7", "caa")),
        same("4.3.2", "silence", DNS, || quirk(Quirk::Silent)),
        same("4.3.2", "SERVFAIL", DNS, || quirk(Quirk::Rcode(2, ""))),
        same("4.3.2", "REFUSED", DNS, || quirk(Quirk::Rcode(5, ""))),
        differs("4.3.2", "a failure that may permit, without proof", [PASS, DNS], "req C16", || {
            judged(&[(0, "issue", "ca.example")], lenient(), |lookup| lookup.outcome = failed(2))
        }),
        same("4.3.3", "no set", PASS, || climb(WWW, |world| world)),
        same("4.3.4", "tags have no case", CAA, || set(ZONE, &[(0, "ISSUE", "other.example")])),
        same("4.3.4", "an unknown tag, critical", CAA, || set(ZONE, &[(130, "tbs", "x")])),
        same("4.3.4", "an unknown tag", PASS, || set(ZONE, &[(0, "tbs", "x")])),
        same("4.3.4", "a critical iodef", PASS, || set(ZONE, &[(128, "iodef", "mailto:a@b.example")])),
        same("4.3.4", "issuewild decides for a wildcard", CAA, || {
            set(WILDCARD, &[(0, "issue", "ca.example"), (0, "issuewild", "other.example")])
        }),
        same("4.3.4", "issue decides for a wildcard", PASS, || set(WILDCARD, &[(0, "issue", "ca.example")])),
        same("4.3.4", "issuewild and a plain name", PASS, || set(ZONE, &[(0, "issuewild", "other.example")])),
        differs("4.3.4", "a critical contactemail", [PASS, CAA], "TLS BR 2.3.1 App. A.1", || {
            set(ZONE, &[(128, "contactemail", "a@b.example")])
        }),
        differs("4.3.4a", "an unknown tag with flags 1", [PASS, CAA], "req C10", || set(ZONE, &[(1, "tbs", "x")])),
        differs("4.3.4b", "a critical issuevmc", [CAA, PASS], "req C14", || set(ZONE, &[(128, "issuevmc", ";")])),
        same("4.3.5", "the published issuer in capitals", PASS, || value("CA.EXAMPLE")),
        differs("4.3.5", "the configured issuer in capitals", [CAA, PASS], "RFC 8659 §4.2", || {
            judged(&[(0, "issue", "ca.example")], named(&["CA.Example"]), |_| ())
        }),
        same("4.3.5", "an underscore in the issuer", CAA, || value("ca_x.example")),
        same("4.3.5", "a final dot", CAA, || value("ca.example.")),
        same("4.3.5", "two dots", CAA, || value("ca..example")),
        same("4.3.5", "a hyphen in a parameter tag", PASS, || value("ca.example; a-b=c")),
        same("4.3.5", "a final semicolon", PASS, || value("ca.example;")),
        same("4.3.5", "a semicolon after a parameter", CAA, || value("ca.example; a=b;")),
        same("4.3.5", "nothing", CAA, || value("")),
        same("4.3.5", "a semicolon", CAA, || value(";")),
        differs("4.3.5a", "another account", [PASS, CAA], binds, || value("ca.example; accounturi=u:8")),
        differs("4.3.5a", "another method", [PASS, CAA], binds, || value("ca.example; validationmethods=x")),
        same("4.4", "dns-01, strings joined", PASS, || {
            txt(|world, digest| world.txt_strings(TXT, &[vec![&digest[..9], &digest[9..]]]))
        }),
        same("4.4", "dns-01, another case", UNAUTHORIZED, || txt(|w, digest| w.txt(TXT, &[&digest.to_uppercase()]))),
        same("4.4", "dns-01, no name", UNAUTHORIZED, || txt(|world, _| world)),
        same("4.4", "dns-01, SERVFAIL", DNS, || txt(|world, _| world.quirk(TXT, None, Quirk::Rcode(2, "")))),
    ]
}

fn failed(code: u16) -> DnsOutcome {
    DnsOutcome::Failed(DnsFailure::Rcode(code))
}

/// What a compatible service must show (10.3).
fn compatibility_rows() -> Vec<Row> {
    vec![
        same("10.3 CAA", "1001 records, none of them ours", CAA, || {
            let others: Vec<String> = (0..1001).map(|n| format!("o{n}.example")).collect();
            set(ZONE, &others.iter().map(|other| (0, "issue", other.as_str())).collect::<Vec<_>>())
        }),
        same("10.3 CAA", "critical, 128", CAA, || set(ZONE, &[(128, "tbs", "x")])),
        same("10.3 CAA", "at the parent", CAA, || climb(WWW, |w| w.caa(ZONE, &[(0, "issue", ";")]))),
        same("10.3 CAA", "at the grandparent", CAA, || {
            climb("a.www.customer.example", |world| world.caa(ZONE, &[(0, "issue", ";")]))
        }),
        same("10.3 CAA", "over an alias", CAA, || {
            climb(WWW, |w| w.cname(WWW, "t.cdn.example").caa("t.cdn.example", &[(0, "issue", ";")]))
        }),
        same("10.3 CAA", "over two aliases", CAA, || {
            climb(WWW, |world| {
                let world = world.cname(WWW, "t.cdn.example").cname("t.cdn.example", "u.cdn.example");
                world.caa("u.cdn.example", &[(0, "issue", ";")])
            })
        }),
        same("10.3 CAA", "a parent that is an alias", CAA, || {
            climb("a.www.customer.example", |world| {
                world.cname(WWW, "t.cdn.example").caa("t.cdn.example", &[(0, "issue", ";")])
            })
        }),
        same("10.3 CAA", "a child stricter than its parent", CAA, || {
            climb(WWW, |w| w.caa(WWW, &[(0, "issue", ";")]).caa(ZONE, &[(0, "issue", "ca.example")]))
        }),
        same("10.3 CAA", "markup in the value", CAA, || value("<script>ca.example</script>")),
        same("10.3 CAA", "several names of the CA", PASS, || {
            judged(&[(0, "issue", "two.example")], named(&["ca.example", "two.example"]), |_| ())
        }),
        same("10.3 CAA", "a wildcard without a set", PASS, || climb(WILDCARD, |world| world)),
        same("10.3 DNS", "one of several", PASS, || txt(|world, digest| world.txt(TXT, &["old", digest, "older"]))),
        same("10.3 DNS", "one alias", PASS, || {
            txt(|world, digest| world.cname(TXT, "a.auth.example").txt("a.auth.example", &[digest]))
        }),
        same("10.3 DNS", "four aliases", PASS, || {
            txt(|world, digest| {
                let world = world.cname(TXT, "a.auth.example").cname("a.auth.example", "b.auth.example");
                let world = world.cname("b.auth.example", "c.auth.example").cname("c.auth.example", "d.auth.example");
                world.txt("d.auth.example", &[digest])
            })
        }),
        same("10.3 DNS", "a space before", UNAUTHORIZED, || txt(|w, digest| w.txt(TXT, &[&format!(" {digest}")]))),
        same("10.3 DNS", "a space after", UNAUTHORIZED, || txt(|w, digest| w.txt(TXT, &[&format!("{digest} ")]))),
    ]
}

fn weak_point_rows() -> Vec<Row> {
    vec![
        lesson("W3", "an empty record", UNAUTHORIZED, || txt(|world, _| world.txt(TXT, &[""]))),
        lesson("W6", "bogus, where failures may permit", DNS, || {
            judged(&[(0, "issue", "other.example")], lenient(), |lookup| {
                lookup.outcome = failed(2);
                lookup.extended_errors = vec![ExtendedError { code: 7, text: Octets::default() }];
            })
        }),
        lesson("W6", "a malformed tag, where failures may permit", CAA, || {
            judged(&[(0, "issue", "ca.example"), (0, "a b", "x")], lenient(), |_| ())
        }),
        lesson("W9", "octets that are no UTF-8 beside the right TXT", PASS, || txt_beside(&[0xff, 0, 0xc3])),
        lesson("W9", "octets that are no UTF-8 beside the right CAA value", PASS, || {
            judged(&[(0, "issue", "ca.example")], named(&["ca.example"]), |lookup| {
                let DnsOutcome::Answer(set) = &mut lookup.outcome else { panic!("an answer") };
                set.rdata.push(Octets(b"\x00\x05issue\xff\xc3".to_vec()));
            })
        }),
        lesson("W16", "control and CAA in one request", CAA, || {
            txt(|world, digest| world.txt(TXT, &[digest]).caa(ZONE, &[(0, "issue", "other.example")]))
        }),
    ]
}

/// A name to be shown by dns-persist-01, and its one record.
fn persist(name: &str, record: &str) -> Outcome {
    let world = World::new(raw(name, "dns-persist-01"));
    outcome(&world.txt("_validation-persist.customer.example", &[record]).play())
}

fn account_rows() -> Vec<Row> {
    vec![
        differs("dns-account", "in a request", [MALFORMED, PASS], "TLS BR 2.3.1 §3.2.2.4.21, req D8", || {
            request(ZONE, "dns-account-01")
        }),
        same("dns-persistent", "unknown parameters", PASS, || {
            persist(ZONE, "ca.example; x=1; accounturi=https://ca.example/acct/7")
        }),
        same("dns-persistent", "the last second of persistUntil", PASS, || {
            persist(ZONE, "ca.example; accounturi=https://ca.example/acct/7; persistuntil=1797724800")
        }),
        same("dns-persistent", "another issuer", UNAUTHORIZED, || {
            persist(ZONE, "other.example; accounturi=https://ca.example/acct/7")
        }),
        same("dns-persistent", "policy=wildcard for a wildcard", PASS, || {
            persist(WILDCARD, "ca.example; accounturi=https://ca.example/acct/7; policy=wildcard")
        }),
        differs("dns-persistent", "issuer in capitals", [PASS, MALFORMED], "the draft, req D9", || {
            persist(ZONE, "CA.example; accounturi=https://ca.example/acct/7")
        }),
        differs("dns-persistent", "URI in capitals", [PASS, UNAUTHORIZED], "RFC 8657 §3", || {
            persist(ZONE, "ca.example; accounturi=https://CA.example/acct/7")
        }),
        differs("dns-persistent", "no policy for a wildcard", [PASS, UNAUTHORIZED], "the draft, req D9", || {
            persist(WILDCARD, "ca.example; accounturi=https://ca.example/acct/7")
        }),
    ]
}

const VALUE: &str = "8f3a09c47d21e65bb1d04e7796c2a350";

/// A value in a TXT record.
fn change(record: &str) -> Outcome {
    let request = RawRequest { random_value: Some(VALUE.to_owned()), ..raw(ZONE, "dns-change") };
    outcome(&World::new(request).txt(ZONE, &[record]).play())
}

/// A value in a file.
fn website(status: u16, body: &str) -> Outcome {
    let request = RawRequest {
        random_value: Some(VALUE.to_owned()),
        file: Some("a.txt".to_owned()),
        ..raw(WWW, "website-change")
    };
    outcome(&World::new(request).a(WWW, &["192.0.2.10"]).web("192.0.2.10", Web::body(status, "", body)).play())
}

/// A contact in a TXT record.
fn contact(record: &str) -> Outcome {
    let request = RawRequest { contact: Some("Security@other.example".to_owned()), ..raw(ZONE, "contact-email-txt") };
    outcome(&World::new(request).txt("_validation-contactemail.customer.example", &[record]).play())
}

/// CAA for a mailbox.
fn mailbox(tag: &str, value: &str) -> Outcome {
    climb("user@customer.example", |world| world.caa(ZONE, &[(0, tag, value)]))
}

fn method_rows() -> Vec<Row> {
    vec![
        same("dns-change", "the value", PASS, || change(VALUE)),
        same("dns-change", "another value", UNAUTHORIZED, || change("0123456789abcdef0123456789abcdef")),
        differs("dns-change", "the value within text", [PASS, UNAUTHORIZED], "req D6", || {
            change(&format!("v={VALUE}"))
        }),
        same("website-change", "the value", PASS, || website(200, VALUE)),
        same("website-change", "the value among others", PASS, || website(200, &format!("one\n{VALUE}\nca.example"))),
        same("website-change", "404", UNAUTHORIZED, || website(404, VALUE)),
        differs("website-change", "a longer value", [PASS, UNAUTHORIZED], "req D14", || {
            website(200, &format!("{VALUE}00"))
        }),
        same("contact", "the contact", PASS, || contact("Security@other.example")),
        same("contact", "with spaces", UNAUTHORIZED, || contact(" Security@other.example")),
        differs("contact", "in another case", [PASS, UNAUTHORIZED], "req D10", || contact("security@other.example")),
        differs("ip-address", "A as evidence", [PASS, MALFORMED], "TLS BR 2.3.1 §3.2.2.4.8", || {
            request(ZONE, "ip-address")
        }),
        differs("reverse", "PTR alone", [PASS, MALFORMED], "TLS BR 2.3.1 §3.2.2.5.3", || {
            request("192.0.2.10", "reverse-address-lookup")
        }),
        same("s-mime", "issuemail of another CA", CAA, || mailbox("issuemail", "other.example")),
        same("s-mime", "issuemail of this CA", PASS, || mailbox("issuemail", "ca.example")),
        same("s-mime", "issue has no bearing", PASS, || mailbox("issue", "other.example")),
    ]
}

fn rows() -> Vec<Row> {
    section_rows()
        .into_iter()
        .chain(account_rows())
        .chain(method_rows())
        .chain(compatibility_rows())
        .chain(weak_point_rows())
        .collect()
}

#[test]
fn rows_are_as_listed() {
    let mut wrong = Vec::new();
    for row in rows() {
        let agree = row.theirs.is_none_or(|theirs| theirs == row.ours);
        assert_eq!(agree, row.because.is_empty(), "{}: a difference has a reason", row.id);
        let found = (row.play)();
        if found != row.ours {
            wrong.push(format!("{} {}: {found:?}", row.id, row.what));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// 4.2, 5 and W12.
#[test]
fn dnssec_is_asked_for() {
    assert!(asks_for_dnssec());
}

/// W19.
#[test]
fn addresses_of_a_fetch_come_from_the_perspectives_own_resolver() {
    let played = World::http().play();
    let Some(ControlObservation::Http(http)) = &played.observation(P).control else { panic!("a fetch") };
    let lookups = &http.hops[0].resolution;
    assert!(lookups.len() == 2 && lookups.iter().all(|lookup| lookup.resolver == resolver(P)));
}

#[test]
fn every_behaviour_is_tested_or_listed() {
    let text = include_str!("../../docs/divergences.md");
    let (_, section) = text.split_once("\n## CAA and DNS behaviours of Open MPIC\n").expect("the heading");
    let mut listed = BTreeSet::new();
    let mut left_out = BTreeSet::new();
    for line in section.split("\n## ").next().unwrap().lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [ids, _, we, why] = cells[..] else { panic!("four cells: {line}") };
        for id in ids.split(", ").filter(|_| ids != "rows") {
            assert!(!why.is_empty() && EXPECTED.contains(&id), "{line}");
            let out = we.starts_with("not applicable") || we.starts_with("later");
            assert!(if out { &mut left_out } else { &mut listed }.insert(id), "{id} is listed twice");
        }
    }
    let rows = rows();
    let functions = ["4.2", "5"];
    let differing: BTreeSet<&str> =
        rows.iter().filter(|row| !row.because.is_empty()).map(|row| row.id).chain(functions).collect();
    let tested: BTreeSet<&str> = rows.iter().map(|row| row.id).chain(functions).chain(["W12", "W19"]).collect();
    assert_eq!(listed, differing, "what differs is what is listed");
    assert!(tested.is_disjoint(&left_out));
    assert_eq!(tested.union(&left_out).copied().collect::<BTreeSet<_>>(), EXPECTED.into_iter().collect());
}
