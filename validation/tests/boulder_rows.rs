//! The DNS and CAA rows of Boulder's behaviour table (`D`, `P`, `C`, and `R20` to `R25`), row by row.
//!
//! Each row has its number, what is asked and what the zones or the path say, the outcome Boulder has and
//! ours. Rows whose outcomes differ have a reason, and `docs/divergences.md` lists them; rows that do not
//! apply, or wait, stand only there. Most rows are played from six perspectives in virtual time (`world`);
//! those about datagrams drive one `Query`.
//!
//! Boulder's issuer "ca" is `ca.example` here, its account 123 is account 7, and its three remotes are five:
//! both quorums stand one loss.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the world has more than these rows need")]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use parallax_validation::{
    base::{Entropy, Micros},
    check::{
        Finding,
        caa::{self, CaaFinding, authorize::CaaPolicy},
        dcv::{dns_account01, dns01},
    },
    lookup::dns::{
        message::Question,
        query::{Query, QueryLimits, QueryStep},
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, DnsTransport, NetworkError, RecordType},
    problem::ProblemKind,
    request::{CheckRequest, RawRequest},
};
use world::{P, Played, Quirk, R1, R2, R3, World, filter, raw};

const ZONE: &str = "customer.example";
const WWW: &str = "www.customer.example";
const WILDCARD: &str = "*.customer.example";
const TXT: &str = "_acme-challenge.customer.example";
/// Of 100 characters.
const LONG: &str =
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const ACCOUNT: &str = "https://ca.example/acct/7";
const PERSIST: &str = "_validation-persist.customer.example";
/// A record of dns-persist-01 that does.
const RIGHT: &str = "ca.example; accounturi=https://ca.example/acct/7";
/// Numbers of a block: prefix, first, last.
const BLOCKS: [(&str, u32, u32); 4] = [("C", 1, 80), ("D", 1, 34), ("P", 1, 29), ("R", 20, 25)];

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

/// What is in the zones, given the digest.
type Zones = fn(World, &str) -> World;

struct Row {
    number: &'static str,
    input: Input,
    boulder: Outcome,
    ours: Outcome,
    /// Why they differ; empty if they agree.
    because: &'static str,
    /// What the message must hold.
    says: &'static str,
}

impl Row {
    /// A row about which Boulder and we agree.
    fn same(number: &'static str, outcome: Outcome, input: impl Into<Input>) -> Self {
        Self { number, input: input.into(), boulder: outcome, ours: outcome, because: "", says: "" }
    }

    fn differs(
        number: &'static str,
        [boulder, ours]: [Outcome; 2],
        because: &'static str,
        input: impl Into<Input>,
    ) -> Self {
        Self { number, input: input.into(), boulder, ours, because, says: "" }
    }

    fn saying(self, says: &'static str) -> Self {
        Self { says, ..self }
    }
}

#[derive(Debug)]
enum Input {
    /// A CAA check against these levels.
    Climb(Climb),
    /// A request and what is in the zones; the text is the digest.
    Zones(RawRequest, Zones),
    /// A name to be shown by dns-persist-01, and the records there.
    Records(&'static str, Vec<String>),
    /// One query against a path.
    Path(Path),
    /// A request that is refused before any packet.
    Request(RawRequest),
}

impl Input {
    fn outcome(&self) -> (Outcome, String) {
        match self {
            Self::Climb(climb) => outcome_of(&climb.play()),
            Self::Zones(request, zones) => outcome_of(&played(request.clone(), *zones)),
            Self::Records(name, records) => {
                let records: Vec<&str> = records.iter().map(String::as_str).collect();
                outcome_of(&World::new(raw(name, "dns-persist-01")).txt(PERSIST, &records).play())
            }
            Self::Path(path) => (path.outcome(), String::new()),
            Self::Request(request) => match CheckRequest::parse(
                request.clone(),
                "row",
                &filter().into(),
                "2026-11-25T12:00:00Z".parse().expect("an instant"),
            ) {
                Ok(_) => (PASS, String::new()),
                Err(error) => (Outcome::Fail(error.problem()), error.to_string()),
            },
        }
    }
}

fn outcome_of(played: &Played) -> (Outcome, String) {
    let outcome = match played.passed() {
        true => PASS,
        false => Outcome::Fail(played.explanation().problem.expect("a refusal has a problem type")),
    };
    (outcome, played.message().to_owned())
}

/// What dns-01 expects.
fn digest() -> String {
    World::dns().digest()
}

fn played(request: RawRequest, zones: Zones) -> Played {
    zones(World::new(request).a(ZONE, &["192.0.2.10"]), &digest()).play()
}

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        assert_eq!(row.boulder == row.ours, row.because.is_empty(), "{}: a difference has a reason", row.number);
        let (outcome, message) = row.input.outcome();
        if outcome != row.ours || !message.contains(row.says) {
            wrong.push(format!("{} {:?}\n    {outcome:?} {message}", row.number, row.input));
        }
    }
    assert!(wrong.is_empty(), "{} rows are not as listed:\n{}", wrong.len(), wrong.join("\n"));
}

// CAA ---------------------------------------------------------------------------------------------------

type Record = (u8, &'static str, &'static str);

#[derive(Clone, Debug)]
enum Level {
    Set(Vec<Record>),
    /// 999 records of others and one of ours.
    Thousand,
    Alias(&'static str),
    /// Of the CAA type.
    Quirk(Quirk),
}

#[derive(Clone, Debug)]
struct Climb {
    name: &'static str,
    levels: Vec<(&'static str, Level)>,
    method: Option<&'static str>,
    account: Option<&'static str>,
}

impl Climb {
    /// http-01 and account 7 ask.
    fn of(name: &'static str, levels: &[(&'static str, Level)]) -> Self {
        Self { name, levels: levels.to_vec(), method: Some("http-01"), account: Some(ACCOUNT) }
    }

    fn play(&self) -> Played {
        let request = RawRequest {
            relied_on_method: self.method.map(str::to_owned),
            account_uri: self.account.map(str::to_owned),
            ..raw(self.name, "caa")
        };
        let mut world = World::new(request).a(ZONE, &["192.0.2.10"]);
        for (owner, level) in &self.levels {
            world = match level {
                Level::Set(records) => world.caa(owner, records),
                Level::Thousand => {
                    let others: Vec<String> = (0..999).map(|n| format!("o{n}.example")).collect();
                    let mut records: Vec<_> = others.iter().map(|other| (0, "issue", other.as_str())).collect();
                    records.push((0, "issue", "ca.example"));
                    world.caa(owner, &records)
                }
                Level::Alias(target) => world.cname(owner, target),
                Level::Quirk(quirk) => world.quirk(owner, Some(RecordType::Caa), *quirk),
            };
        }
        world.play()
    }
}

impl From<Path> for Input {
    fn from(path: Path) -> Self {
        Self::Path(path)
    }
}

impl From<Climb> for Input {
    fn from(climb: Climb) -> Self {
        Self::Climb(climb)
    }
}

fn set(records: &[Record]) -> Level {
    Level::Set(records.to_vec())
}

fn ours() -> Level {
    set(&[(0, "issue", "ca.example")])
}

fn others() -> Level {
    set(&[(0, "issue", "other.example")])
}

fn broken() -> Level {
    Level::Quirk(Quirk::Rcode(2, ""))
}

/// A name and the set it has.
fn at(name: &'static str, records: &[Record]) -> Climb {
    Climb::of(name, &[(ZONE, set(records))])
}

/// A row for each value of a single issue record at the name.
fn values(number: &'static str, outcome: Outcome, values: &[&'static str]) -> Vec<Row> {
    values.iter().map(|value| Row::same(number, outcome, at(ZONE, &[(0, "issue", value)]))).collect()
}

fn values_differ(
    number: &'static str,
    outcomes: [Outcome; 2],
    because: &'static str,
    values: &[&'static str],
) -> Vec<Row> {
    values.iter().map(|value| Row::differs(number, outcomes, because, at(ZONE, &[(0, "issue", value)]))).collect()
}

/// C1 to C10, C37 to C44, C77 to C80: finding the set.
fn climb_rows() -> Vec<Row> {
    let tcp = "RFC 7766 §5: what is truncated is asked again over TCP, and that answer counts";
    let optional = "the request may leave it out; then nothing that binds to it is satisfied";
    let mut no_method = at(ZONE, &[(0, "issue", "ca.example")]);
    no_method.method = None;
    let mut no_account = at(ZONE, &[(0, "issue", "ca.example")]);
    no_account.account = None;
    let unknown_method = RawRequest { relied_on_method: Some("tls-sni-01".to_owned()), ..raw(ZONE, "caa") };
    vec![
        Row::same("C1", PASS, Climb::of("www.customer.co.uk", &[])),
        Row::same("C1", PASS, Climb::of(WWW, &[])),
        Row::same("C2", CAA, Climb::of(WWW, &[(WWW, others())])).saying("CAA at www.customer.example"),
        Row::same("C3", CAA, at(ZONE, &[(0, "iSsUe", "other.example")])),
        Row::same("C4", PASS, at(ZONE, &[(0, "ISSUE", "ca.example")])),
        Row::same("C5", CAA, at(ZONE, &[(1, "issue", "other.example")])),
        Row::same("C5", CAA, at(ZONE, &[(128, "issue", "other.example")])),
        Row::same("C6", CAA, Climb::of("a.b.customer.example", &[(ZONE, others())])).saying("CAA at customer.example"),
        Row::same("C7", PASS, Climb::of(WWW, &[(WWW, ours())])),
        Row::same("C7", PASS, Climb::of(WWW, &[(ZONE, ours())])),
        Row::same("C8", PASS, Climb::of(WWW, &[(WWW, ours()), (ZONE, broken())])),
        Row::same("C8", CAA, Climb::of(WWW, &[(WWW, others()), (ZONE, broken())])),
        Row::same("C9", DNS, Climb::of(WWW, &[(WWW, broken()), (ZONE, ours())])),
        Row::same("C10", DNS, Climb::of("a.www.customer.example", &[(WWW, broken()), (ZONE, ours())])),
        Row::same("C37", DNS, Climb::of(ZONE, &[(ZONE, broken())])).saying("customer.example CAA"),
        Row::same("C38", DNS, Climb::of(WWW, &[("example", Level::Quirk(Quirk::Rcode(3, "")))]))
            .saying("does not exist"),
        Row::same("C39", CAA, Climb::of("no.data.customer.example", &[(ZONE, others())])),
        Row::same("C39", PASS, Climb::of(WWW, &[(WWW, Level::Quirk(Quirk::Rcode(3, "")))])),
        Row::same("C40", DNS, Climb::of(ZONE, &[(ZONE, Level::Quirk(Quirk::Rcode(5, "")))])).saying("REFUSED"),
        Row::same("C40", DNS, Climb::of(ZONE, &[(ZONE, broken())])).saying("SERVFAIL"),
        Row::same("C40", DNS, Climb::of(ZONE, &[(ZONE, Level::Quirk(Quirk::Rcode(2, "no authority")))])).saying("EDE"),
        Row::differs(
            "C41",
            [DNS, PASS],
            tcp,
            Climb::of(ZONE, &[(ZONE, ours()), (ZONE, Level::Quirk(Quirk::Truncates))]),
        ),
        Row::differs(
            "C41",
            [DNS, PASS],
            tcp,
            Path::caa(|query, _| reply(query, 0x0203, &[], &[]), Some(|query| reply(query, 0, &[caa(ZONE)], &[]))),
        ),
        Row::same("C41", DNS, Climb::of(ZONE, &[(ZONE, ours()), (ZONE, Level::Quirk(Quirk::TruncatesTcpRefused))])),
        Row::same("C42", PASS, Climb::of(WWW, &[(WWW, Level::Alias("t.cdn.example")), ("t.cdn.example", ours())])),
        Row::same("C42", CAA, Climb::of(WWW, &[(WWW, Level::Alias("t.cdn.example")), ("t.cdn.example", others())])),
        Row::same("C43", PASS, Climb::of(ZONE, &[(ZONE, Level::Thousand)])),
        Row::differs(
            "C44",
            [PASS, DNS],
            "records of another name say nothing about this one (RFC 1034 §4.3.2, RFC 5452 §6)",
            Path::caa(|query, _| reply(query, 0, &[caa("other.example")], &[]), None),
        ),
        Row::same("C77", PASS, Climb::of("www.customer.co.uk", &[])),
        Row::same("C77", DNS, Climb::of(WWW, &[(WWW, broken()), (ZONE, ours())])),
        Row::same("C77", PASS, Climb::of(WWW, &[(WWW, ours()), (ZONE, broken())])),
        Row::same("C77", PASS, Climb::of(WWW, &[(ZONE, ours()), ("example", others())])),
        Row::differs("C78", [MALFORMED, PASS], optional, no_method),
        Row::differs("C78", [MALFORMED, PASS], optional, no_account),
        Row::same("C78", MALFORMED, Input::Request(unknown_method)),
        Row::same("C78", MALFORMED, Input::Request(raw("192.0.2.7", "caa"))),
        Row::same("C80", CAA, Climb::of("WWW.Customer.EXAMPLE", &[(WWW, others())])),
    ]
}

/// C11 to C36: what a set means.
fn set_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for name in [ZONE, WILDCARD] {
        let (number, other) = if name == ZONE { ("C12", "C13") } else { ("C14", "C14") };
        for flags in [128, 1, 9] {
            rows.push(Row::same(number, CAA, at(name, &[(flags, "tbs", "x")])));
        }
        for flags in [2, 0x7e, 0] {
            rows.push(Row::same(other, PASS, at(name, &[(flags, "tbs", "x")])));
        }
    }
    for tag in ["iodef", "issuemail", "issuevmc"] {
        rows.extend([0, 128].map(|flags| Row::same("C16", PASS, at(ZONE, &[(flags, tag, "mailto:a@b.example")]))));
    }
    let other = (0, "issue", "other.example");
    let ours = (0, "issue", "ca.example");
    let none = (0, "issue", ";");
    let wild = (0, "issuewild", "ca.example");
    let other_wild = (0, "issuewild", "other.example");
    let no_wild = (0, "issuewild", ";");
    let mut by_dns = at(ZONE, &[(0, "issue", "ca.example; validationmethods=dns-01")]);
    by_dns.method = Some("dns-01");
    rows.extend([
        Row::same("C11", PASS, at(ZONE, &[(1, "issue", "other.example"), (1, "issue", "ca.example")])),
        Row::same("C15", CAA, at(ZONE, &[(128, "tbs", "x"), ours])),
        Row::same("C17", PASS, at(ZONE, &[(0, "contactemail", "a@b.example")])),
        Row::same("C17", CAA, at(ZONE, &[(128, "contactemail", "a@b.example")])),
        Row::same("C20", PASS, by_dns),
        Row::same("C28", CAA, at(ZONE, &[none])),
        Row::same("C28", CAA, at(WILDCARD, &[none])),
        Row::same("C29", CAA, at(WILDCARD, &[no_wild])),
        Row::same("C30", CAA, at(WILDCARD, &[ours, other_wild])),
        Row::same("C31", PASS, at(WILDCARD, &[wild])),
        Row::same("C32", PASS, at(WILDCARD, &[other_wild, wild])),
        Row::same("C33", PASS, at(WILDCARD, &[other, wild])),
        Row::same("C34", PASS, at(WILDCARD, &[ours])),
        Row::same("C35", PASS, at(ZONE, &[other_wild])),
        Row::same("C35", PASS, at(ZONE, &[no_wild])),
        Row::same("C36", CAA, at(ZONE, &[none, wild])),
        Row::same("C72", PASS, at(ZONE, &[(0, "issue", "ca.example; a"), ours])),
        Row::same("C73", PASS, at(ZONE, &[none, ours])),
        Row::same("C74", PASS, at(ZONE, &[(0, "tbs", "x"), (0, "auth", "y")])),
        Row::differs(
            "C74",
            [PASS, CAA],
            "RFC 8659 §4.1: a tag has at least one octet; a record that cannot be split forbids (req C10)",
            at(ZONE, &[(0, "", "ca.example")]),
        ),
    ]);
    rows
}

/// C18 to C27 and C45 to C71: values and parameters.
fn value_rows() -> Vec<Row> {
    let case = "no RFC gives parameter names a case; in doubt a record restricts";
    let whole = "the whole list is read first; a malformed list is never satisfied (req C15)";
    let mut rows = vec![
        Row::same(
            "C27",
            PASS,
            at(
                ZONE,
                &[
                    (0, "issue", "ca.example; accounturi=https://ca.example/acct/8"),
                    (0, "issue", "ca.example; accounturi=https://ca.example/acct/7"),
                ],
            ),
        ),
        Row::differs(
            "C59",
            [PASS, CAA],
            "the request names one account URI, and nothing else equals it (RFC 8657 §3)",
            at(ZONE, &[(0, "issue", "ca.example; accounturi=https://old.ca.example/acct/7")]),
        ),
    ];
    let agreed: [(&'static str, Outcome, &[&'static str]); 36] = [
        ("C18", PASS, &["ca.example; policy=ev; b=c"]),
        ("C19", CAA, &["ca.example; a_b=c", "ca.example; a=b c"]),
        ("C20", CAA, &["ca.example; validationmethods=dns-01"]),
        ("C21", PASS, &["ca.example; validationmethods=http-01", "ca.example; validationmethods=dns-01,http-01"]),
        ("C22", PASS, &["ca.example; accounturi=https://ca.example/acct/7"]),
        ("C23", PASS, &["ca.example; accounturi=https://ca.example/acct/7; validationmethods=http-01"]),
        ("C24", CAA, &["ca.example; accounturi=https://ca.example/acct/7; validationmethods=dns-01"]),
        ("C25", CAA, &["ca.example; accounturi=https://ca.example/acct/8; validationmethods=http-01"]),
        ("C26", CAA, &["ca.example; accounturi=https://ca.example/acct/8"]),
        ("C45", CAA, &["", ";", " ; ", " \t;\t"]),
        ("C46", PASS, &["ca.example", "ca.example;", "ca.example;   "]),
        ("C47", CAA, &["ca.example;;", "ca.example; ;", "ca.example; a=b;"]),
        ("C48", PASS, &[" ca.example ", "\tca.example\t;\ta\t=\tb\t", "ca.example ; a = b"]),
        ("C49", PASS, &["ca.example; foo="]),
        ("C50", PASS, &["ca.example; a=b,c-d=e"]),
        ("C51", PASS, &["ca.example; 123=b"]),
        ("C52", CAA, &["ca.example; a"]),
        ("C53", CAA, &["ca.example; a:b=c"]),
        ("C55", CAA, &["ca.example; a=ü", "ca.example; a=b c=d"]),
        ("C56", PASS, &["ca.example; a=b; a=c"]),
        (
            "C57",
            CAA,
            &[
                "ca.example; accounturi=",
                "ca.example; accounturi=https://ca.example/acct/7; accounturi=https://ca.example/acct/8",
                "ca.example; accounturi=https://ca.example/acct/7; accounturi=https://ca.example/acct/7",
                "ca.example; accounturi=; accounturi=https://ca.example/acct/7",
            ],
        ),
        ("C58", CAA, &["ca.example; accounturi=7", "ca.example; accounturi=:x", "ca.example; accounturi=u:%zz"]),
        ("C60", CAA, &["ca.example; accounturi=https://other.example/acct/7"]),
        ("C60", CAA, &["ca.example; accounturi=https://ca.example/acct/77"]),
        ("C61", CAA, &["ca.example; accounturi=HTTPS://ca.example/acct/7"]),
        ("C61", CAA, &["ca.example; accounturi=https://ca.example/acct/7/"]),
        ("C61", CAA, &["ca.example; accounturi=https://ca.example/acct/%37"]),
        ("C61", CAA, &["ca.example; accounturi=https://ca.example/acct/07", "ca.example; accounturi=/acct/7"]),
        ("C64", CAA, &["ca.example; validationmethods=", "ca.example; validationmethods=,"]),
        ("C64", CAA, &["ca.example; validationmethods=http-01 !", "ca.example; validationmethods=http-01!"]),
        ("C65", CAA, &["ca.example; validationmethods=unknown-01"]),
        (
            "C66",
            CAA,
            &[
                "ca.example; validationmethods=http-01; validationmethods=http-01",
                "ca.example; validationmethods=http-01; validationmethods=dns-01",
                "ca.example; validationmethods=; validationmethods=http-01",
            ],
        ),
        ("C68", CAA, &["ca.example; validationmethods=,http-01", "ca.example; validationmethods=a_b,http-01"]),
        ("C68", CAA, &["ca.example; validationmethods=dns-01, http-01"]),
        ("C69", PASS, &["ca.example; validationmethods=ca-foo,http-01"]),
        ("C70", CAA, &["ca.example; validationmethods=HTTP-01"]),
    ];
    rows.extend(agreed.into_iter().flat_map(|(number, outcome, list)| values(number, outcome, list)));
    rows.extend(values(
        "C71",
        CAA,
        &["ca.example.", "\"ca.example\"", "sub.ca.example", "ca.example other.example", "ca.example, other.example"],
    ));
    rows.extend(values_differ(
        "C71",
        [CAA, PASS],
        "RFC 8659 §4.2: the issuer is a domain name, compared without case",
        &["CA.Example"],
    ));
    rows.extend(values_differ(
        "C53",
        [CAA, PASS],
        "RFC 8659 §4.2: hyphens may stand inside a parameter tag",
        &["ca.example; a-b=c"],
    ));
    rows.extend(values_differ(
        "C54",
        [PASS, CAA],
        "RFC 8659 §4.2: a parameter tag has at least one character",
        &["ca.example; =x"],
    ));
    rows.extend(values_differ("C62", [PASS, CAA], case, &["ca.example; AccountURI=https://ca.example/acct/8"]));
    rows.extend(values_differ("C63", [PASS, CAA], case, &["ca.example; ValidationMethods=dns-01"]));
    rows.extend(values_differ(
        "C67",
        [PASS, CAA],
        whole,
        &["ca.example; validationmethods=http-01,", "ca.example; validationmethods=http-01,a_b"],
    ));
    rows
}

fn caa_rows() -> Vec<Row> {
    climb_rows().into_iter().chain(set_rows()).chain(value_rows()).collect()
}

#[test]
fn caa_rows_are_as_listed() {
    check(&caa_rows());
}

// DNS ---------------------------------------------------------------------------------------------------

fn dns01() -> RawRequest {
    raw(ZONE, "dns-01")
}

fn zones(zones: Zones) -> Input {
    Input::Zones(dns01(), zones)
}

/// D1 to D16, D22, D25 to D27: what is published, and what is asked.
fn published_rows() -> Vec<Row> {
    let mut rows = vec![
        Row::same("D1", PASS, zones(|world, digest| world.txt(TXT, &[digest]))),
        Row::same(
            "D2",
            PASS,
            zones(|world, digest| {
                let old: Vec<String> = (0..60).map(|n| format!("old-value-{n:033}")).collect();
                world.txt(TXT, &old.iter().map(String::as_str).chain([digest]).collect::<Vec<_>>())
            }),
        ),
        Row::same("D3", PASS, zones(|w, digest| w.txt_strings(TXT, &[vec![&digest[..20], &digest[20..]]]))),
        Row::same("D4", UNAUTHORIZED, zones(|world, digest| world.txt(TXT, &[&digest[..20], &digest[20..]]))),
        Row::same("D5", UNAUTHORIZED, zones(|world, _| world.txt(TXT, &["wrong"]))).saying("wrong"),
        Row::same("D6", UNAUTHORIZED, zones(|world, _| world.txt(TXT, &["w1", "w2", "w3", "w4", "w5"]))).saying("w1"),
        Row::same("D6", UNAUTHORIZED, zones(|world, _| world.txt(TXT, &["w1", "w2", "w3", "w4", "w5"])))
            .saying("and 2 more"),
        Row::same("D7", UNAUTHORIZED, zones(|world, _| world.txt_strings(TXT, &[vec![LONG; 4]]))).saying("xxxx"),
        Row::same("D8", UNAUTHORIZED, zones(|world, _| world.a(TXT, &["192.0.2.10"]))).saying("No TXT was found"),
        Row::differs(
            "D9",
            [DNS, UNAUTHORIZED],
            "the look-up worked and there is no record: the subject's turn, as with NODATA (RFC 8555 §6.7)",
            zones(|world, _| world),
        )
        .saying("the name does not exist"),
        Row::same("D10", DNS, Path::txt(|query, digest| reply(query, 3, &[txt(TXT, digest)], &[]), None)),
        Row::same("D13", UNAUTHORIZED, zones(|world, digest| world.txt(TXT, &[&format!(" {digest} ")]))),
        Row::same("D13", UNAUTHORIZED, zones(|world, digest| world.txt(TXT, &[&format!("\"{digest}\"")]))),
        Row::same("D13", UNAUTHORIZED, zones(|world, digest| world.txt(TXT, &[&digest.to_uppercase()]))),
        Row::same("D13", UNAUTHORIZED, zones(|world, digest| world.txt(TXT, &[&format!("{digest}=")]))),
        Row::same("D14", UNAUTHORIZED, zones(|world, _| world.txt(TXT, &[""]))),
        Row::same(
            "D15",
            PASS,
            zones(|w, digest| {
                w.cname(TXT, "u.auth.example")
                    .cname("u.auth.example", "v.auth.example")
                    .txt("v.auth.example", &[digest])
            }),
        ),
        Row::same(
            "D16",
            UNAUTHORIZED,
            zones(|world, _| world.cname(TXT, "u.auth.example").a("u.auth.example", &["192.0.2.81"])),
        ),
        Row::differs(
            "D16",
            [UNAUTHORIZED, DNS],
            "a loop is no denial of records (RFC 1034 §3.6.2): the look-up failed",
            zones(|world, _| world.cname(TXT, "u.auth.example").cname("u.auth.example", TXT)),
        )
        .saying("alias loop"),
        Row::same("D22", PASS, Path::txt(|q, digest| reply(q, 0, &[txt(&TXT.to_uppercase(), digest)], &[]), None)),
        Row::same("D25", PASS, Input::Zones(raw(WILDCARD, "dns-01"), |world, digest| world.txt(TXT, &[digest]))),
        Row::same("D26", MALFORMED, Input::Request(raw("192.0.2.7", "dns-01"))),
        Row::same("D26", MALFORMED, Input::Request(raw(ZONE, "tls-sni-01"))),
        Row::same("D27", PASS, Path::txt(|query, digest| reply(query, 0, &[txt(TXT, digest)], &[]), None)),
    ];
    let codes: [(Zones, &'static str); 4] = [
        (|world, _| world.quirk(TXT, None, Quirk::Rcode(2, "")), "SERVFAIL"),
        (|world, _| world.quirk(TXT, None, Quirk::Rcode(5, "")), "REFUSED"),
        (|world, _| world.quirk(TXT, None, Quirk::Rcode(4, "")), "NOTIMP"),
        (|world, _| world.quirk(TXT, None, Quirk::Rcode(1, "")), "FORMERR"),
    ];
    rows.extend(codes.map(|(code, says)| Row::same("D11", DNS, zones(code)).saying(says)));
    rows
}

/// D17 to D19, D23, D24: datagrams.
fn datagram_rows() -> Vec<Row> {
    let strict = "only the reply to the very question is read (RFC 5452 §9.1); the wait goes on";
    let strays: [Datagram; 4] = [
        |query, digest| spoilt(query, digest, |packet| packet[0] ^= 1),
        |query, digest| spoilt(query, digest, |packet| packet[14] = b'x'),
        |query, digest| [&spoilt(query, digest, |packet| packet[5] = 0)[..12], &txt(TXT, digest)].concat(),
        |query, digest| spoilt(query, digest, |packet| packet[2] &= 0x7f),
    ];
    let mut rows = vec![
        Row::differs(
            "D17",
            [PASS, DNS],
            "records of another name say nothing about this one (RFC 1034 §4.3.2, RFC 5452 §6)",
            Path::txt(|query, digest| reply(query, 0, &[txt("other.example", digest)], &[]), None),
        ),
        Row::same(
            "D18",
            PASS,
            Path::txt(
                |query, digest| spoilt(query, digest, |packet| packet[2] |= 2),
                Some(|query| reply(query, 0, &[txt(TXT, &digest())], &[])),
            ),
        ),
        Row::differs(
            "D18",
            [PASS, DNS],
            "nothing of a truncated reply is used (RFC 2181 §9), and TCP was refused",
            Path::txt(|query, digest| spoilt(query, digest, |packet| packet[2] |= 2), None),
        ),
        Row::differs(
            "D19",
            [UNAUTHORIZED, PASS],
            "RFC 7766 §5: what is truncated is asked again over TCP, and that answer counts",
            Path::txt(
                |query, _| reply(query, 0x0200, &[], &[]),
                Some(|query| reply(query, 0, &[txt(TXT, &digest())], &[])),
            ),
        ),
        Row::same("D23", PASS, Path { silent: 1, ..Path::txt(|q, digest| spoilt(q, digest, |_| ()), None) }),
        Row::same("D24", DNS, Path { silent: 2, ..Path::txt(|q, digest| spoilt(q, digest, |_| ()), None) }),
        Row::same("D24", DNS, zones(|world, _| world.quirk(TXT, None, Quirk::Silent))).saying("within 8 s"),
    ];
    rows.extend(strays.map(|stray| Row::differs("D17", [PASS, DNS], strict, Path::txt(stray, None))));
    rows
}

/// D28 to D33: dns-account-01.
fn account_rows() -> Vec<Row> {
    fn zones(zones: Zones) -> Input {
        Input::Zones(raw(ZONE, "dns-account-01"), zones)
    }
    fn name() -> String {
        format!("{}.{TXT}", dns_account01::label(ACCOUNT))
    }
    let empty = RawRequest { account_uri: Some(String::new()), ..raw(ZONE, "dns-account-01") };
    vec![
        Row::same("D28", PASS, zones(|world, digest| world.txt(&name(), &[digest]))),
        Row::same("D28", PASS, zones(|world, digest| world.txt(&name(), &["old", digest]))),
        Row::same("D29", UNAUTHORIZED, zones(|world, _| world.txt(&name(), &["wrong"]))).saying("wrong"),
        Row::same("D29", UNAUTHORIZED, zones(|world, _| world.txt(&name(), &["w1", "w2", "w3", "w4", "w5"])))
            .saying("and 2 more"),
        Row::same("D29", UNAUTHORIZED, zones(|world, _| world.txt_strings(&name(), &[vec![LONG; 4]]))).saying("xxxx"),
        Row::same("D29", UNAUTHORIZED, zones(|world, _| world.txt(&name(), &["localhost"]))),
        Row::same("D29", UNAUTHORIZED, zones(|world, _| world)),
        Row::same("D30", DNS, zones(|world, _| world.quirk(&name(), None, Quirk::Rcode(2, "")))).saying("SERVFAIL"),
        Row::same("D31", MALFORMED, Input::Request(raw("192.0.2.7", "dns-account-01"))),
        Row::same("D31", MALFORMED, Input::Request(raw(ZONE, "dns-account-02"))),
        Row::differs(
            "D32",
            [Outcome::Fail(ProblemKind::ServerInternal), MALFORMED],
            "the request is at fault, and its field is named",
            Input::Request(empty),
        )
        .saying("account_uri"),
        Row::same(
            "D33",
            UNAUTHORIZED,
            zones(|world, digest| {
                world.txt(&format!("{}.{TXT}", dns_account01::label("https://ca.example/acct/8")), &[digest])
            }),
        )
        .saying("is made from the account URI https://ca.example/acct/7"),
        Row::same("D33", UNAUTHORIZED, zones(|world, digest| world.txt(TXT, &[digest]))),
    ]
}

fn dns_rows() -> Vec<Row> {
    published_rows().into_iter().chain(datagram_rows()).chain(account_rows()).collect()
}

// dns-persist-01 ------------------------------------------------------------------------------------------

/// A row for records beside each other.
fn records(number: &'static str, outcome: Outcome, records: &[&str]) -> Row {
    Row::same(number, outcome, at_persist(ZONE, records))
}

fn at_persist(name: &'static str, records: &[&str]) -> Input {
    Input::Records(name, records.iter().map(|record| (*record).to_owned()).collect())
}

/// Rows for records that are right but for what is added.
fn right_and(number: &'static str, outcome: Outcome, additions: &[&str]) -> Vec<Row> {
    additions.iter().map(|addition| records(number, outcome, &[&format!("{RIGHT}{addition}")])).collect()
}

fn persist_rows() -> Vec<Row> {
    let other = RIGHT.replacen("ca.", "other.", 1);
    let foreign = RIGHT.replace("/7", "/8");
    let malformed = format!("{RIGHT};");
    let lower =
        "the draft's form of issuer names, lower case without a final dot, is enforced: it only narrows (req D9)";
    let zones = |zones: Zones| Input::Zones(raw(ZONE, "dns-persist-01"), zones);
    let mut rows = vec![
        records("P1", PASS, &[RIGHT]),
        records("P3", UNAUTHORIZED, &[&other]).saying("names another CA"),
        records("P3", PASS, &[&other, RIGHT]),
        records("P4", UNAUTHORIZED, &[&format!("{other};")]),
        records("P4", PASS, &[&format!("{other};"), RIGHT]),
        records("P5", UNAUTHORIZED, &["; accounturi=https://ca.example/acct/7"]).saying("names no CA"),
        records("P5", PASS, &["; accounturi=https://ca.example/acct/7", RIGHT]),
        records("P6", PASS, &[" \t ca.example\t ;\t accounturi \t= https://ca.example/acct/7 \t"]),
        Row::differs(
            "P7",
            [PASS, MALFORMED],
            "RFC 8659 §4.2: a tag is made of letters, digits and hyphens",
            at_persist(ZONE, &[&format!("{RIGHT}; a_b=c")]),
        ),
        records("P10", MALFORMED, &["ca.example"]),
        records("P10", MALFORMED, &["ca.example; accounturi="]),
        records("P10", MALFORMED, &["ca.example; policy=wildcard"]),
        Row::same("P15", PASS, at_persist(WILDCARD, &[&format!("{RIGHT}; Policy=wildcard")])),
        Row::same("P15", PASS, at_persist(WILDCARD, &[&format!("{RIGHT}; policy=WildCard")])),
        Row::same("P17", PASS, at_persist(WILDCARD, &[&format!("{RIGHT}; policy=wildcard")])),
        Row::same("P18", UNAUTHORIZED, at_persist(WILDCARD, &[RIGHT])).saying("policy=wildcard"),
        Row::same("P18", UNAUTHORIZED, at_persist(WILDCARD, &[&format!("{RIGHT}; policy=other")])),
        records("P21", UNAUTHORIZED, &[&foreign]).saying("another account"),
        records("P22", PASS, &[&malformed, RIGHT]),
        records("P23", PASS, &[&foreign, RIGHT]),
        records("P24", MALFORMED, &[&malformed]).saying("malformed at"),
        records("P25", MALFORMED, &[&foreign, &malformed]).saying("malformed at"),
        records("P25", MALFORMED, &[&malformed, &foreign]),
        Row::same("P26", UNAUTHORIZED, zones(|world, _| world)).saying("No TXT was found"),
        Row::same("P26", UNAUTHORIZED, zones(|world, _| world.a(PERSIST, &["192.0.2.10"]))),
        Row::same("P27", DNS, zones(|world, _| world.quirk(PERSIST, None, Quirk::Rcode(2, "")))).saying("SERVFAIL"),
        Row::same("P28", PASS, zones(|world, _| world.txt_strings(PERSIST, &[vec![&RIGHT[..9], &RIGHT[9..]]]))),
        Row::differs(
            "P29",
            [MALFORMED, PASS],
            "TLS BR 2.3.1 §3.2.2.5.8 has the method for addresses, below the reverse zone's name",
            Input::Zones(raw("192.0.2.7", "dns-persist-01"), |world, _| {
                world.txt("_ip-validation-persist.7.2.0.192.in-addr.arpa", &[RIGHT])
            }),
        ),
    ];
    for name in ["CA.EXAMPLE", "ca.example.", "CA.EXAMPLE."] {
        rows.push(Row::differs(
            "P2",
            [PASS, MALFORMED],
            lower,
            at_persist(ZONE, &[&RIGHT.replacen("ca.example", name, 1)]),
        ));
    }
    let own: [(&'static str, Outcome, &[&str]); 9] = [
        ("P7", PASS, &["; x=1", "; x=1; x=2", "; 123=", "; a-b=c"]),
        ("P8", MALFORMED, &["; a"]),
        ("P9", MALFORMED, &["; =x"]),
        ("P11", MALFORMED, &["; a=b c", "; a=ü"]),
        ("P12", MALFORMED, &["; persistUntil=soon", "; persistUntil="]),
        ("P13", MALFORMED, &[";", "; policy=wildcard;"]),
        ("P14", MALFORMED, &["; accounturi=https://ca.example/acct/7", "; AccountURI=https://ca.example/acct/8"]),
        ("P16", PASS, &["; policy=unknown", "; policy="]),
        ("P19", PASS, &["; persistUntil=4102444800", "; persistuntil=1797724800"]),
    ];
    rows.extend(own.into_iter().flat_map(|(number, outcome, additions)| right_and(number, outcome, additions)));
    let past = ["; persistUntil=1767225600", "; persistUntil=0", "; persistUntil=-1"];
    rows.extend(right_and("P20", UNAUTHORIZED, &past).into_iter().map(|row| row.saying("has expired")));
    rows
}

#[test]
fn persist_rows_are_as_listed() {
    check(&persist_rows());
}

#[test]
fn dns_rows_are_as_listed() {
    check(&dns_rows());
}

#[test]
fn d7_a_long_value_is_cut_and_d25_the_record_keeps_the_wildcard() {
    let long = played(dns01(), |world, _| world.txt_strings(TXT, &[vec![LONG; 4]]));
    assert!(!long.message().contains(LONG));
    let wildcard = played(raw(WILDCARD, "dns-01"), |world, digest| world.txt(TXT, &[digest]));
    assert_eq!(wildcard.record.request.identifier.to_string(), WILDCARD);
    assert!(wildcard.questions.iter().any(|(_, name, rtype)| name == TXT && *rtype == RecordType::Txt.number()));
}

#[test]
fn d23_d24_tries_take_their_time_and_no_more() {
    let (answered, _) = Path { silent: 1, ..Path::txt(|q, digest| spoilt(q, digest, |_| ()), None) }.run();
    assert_eq!((answered.transmissions, answered.elapsed_us), (2, 1_000_000));
    let (silent, _) = Path { silent: 2, ..Path::txt(|q, digest| spoilt(q, digest, |_| ()), None) }.run();
    assert_eq!((silent.transmissions, silent.elapsed_us), (2, 2_000_000));
    assert_eq!(silent.outcome, DnsOutcome::Failed(DnsFailure::Timeout));
}

#[test]
fn d17_d18_nothing_of_a_reply_that_does_not_match_is_used() {
    let (stray, _) = Path::txt(|q, digest| spoilt(q, digest, |packet| packet[0] ^= 1), None).run();
    assert_eq!((stray.ignored_replies, stray.outcome), (2, DnsOutcome::Failed(DnsFailure::Timeout)));
    let (cut, _) = Path::txt(|q, digest| spoilt(q, digest, |packet| packet[2] |= 2), None).run();
    assert_eq!(cut.transport, DnsTransport::Tcp);
    assert_eq!(cut.outcome, DnsOutcome::Failed(DnsFailure::Tcp(NetworkError::Refused)));
}

// One query ---------------------------------------------------------------------------------------------

/// A reply over TCP, made from the query.
type OverTcp = fn(&[u8]) -> Vec<u8>;
/// A reply made from the query and the digest.
type Datagram = fn(&[u8], &str) -> Vec<u8>;

/// The path to a resolver.
#[derive(Clone, Copy, Debug)]
struct Path {
    rtype: RecordType,
    /// Transmissions that are lost.
    silent: u8,
    /// The reply to each of the others.
    datagram: Datagram,
    /// The reply over TCP; none if TCP is refused.
    tcp: Option<OverTcp>,
}

impl Path {
    fn caa(datagram: Datagram, tcp: Option<OverTcp>) -> Self {
        Self { rtype: RecordType::Caa, silent: 0, datagram, tcp }
    }

    fn txt(datagram: Datagram, tcp: Option<OverTcp>) -> Self {
        Self { rtype: RecordType::Txt, silent: 0, datagram, tcp }
    }

    fn outcome(&self) -> Outcome {
        let (lookup, request) = self.run();
        if let Some(challenge) = &request.control {
            let key = challenge.key_authorization().unwrap();
            return match dns01::judge(&key.digest(), Some(key), &[], &lookup) {
                Finding::Confirmed => PASS,
                Finding::Contradicted(_) => UNAUTHORIZED,
                Finding::Failed(_) => DNS,
            };
        }
        let policy = CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() };
        let top = query("example", RecordType::Caa, 0, |query| reply(query, 0, &[], &[soa("example")]), None);
        match caa::judge(&request.identifier, &request.caa.unwrap(), &[lookup, top], false, &policy) {
            finding if finding.permits() => PASS,
            CaaFinding::Decided { .. } => CAA,
            CaaFinding::NoSet | CaaFinding::Failed(_) | CaaFinding::Excused { .. } => DNS,
        }
    }

    /// The lookup and the request it is for.
    fn run(&self) -> (DnsLookup, CheckRequest) {
        let (name, request) = match self.rtype {
            RecordType::Txt => (TXT, dns01()),
            _ => (ZONE, raw(ZONE, "caa")),
        };
        let lookup = query(name, self.rtype, self.silent, |query| (self.datagram)(query, &digest()), self.tcp);
        (
            lookup,
            CheckRequest::parse(request, "row", &filter().into(), "2026-11-25T12:00:00Z".parse().expect("an instant"))
                .unwrap(),
        )
    }
}

struct Mixed;

impl Entropy for Mixed {
    fn next_u64(&mut self) -> u64 {
        0x5a5a_a5a5_33cc_cc32
    }
}

/// A query of two tries of a second each.
fn query(
    name: &str,
    rtype: RecordType,
    silent: u8,
    datagram: impl Fn(&[u8]) -> Vec<u8>,
    tcp: Option<OverTcp>,
) -> DnsLookup {
    let mut now = Micros(1_000_000);
    let limits = QueryLimits { try_ms: 1000, transmissions: 2, deadline: now.plus_ms(10_000) };
    let mut query = Query::new(Question::new(name, rtype).unwrap(), "192.0.2.53:53".parse().unwrap(), limits, now);
    let mut step = QueryStep::Transmit;
    let mut sent = 0;
    for _ in 0..100 {
        step = match step {
            QueryStep::Transmit => {
                let mut packet = Vec::new();
                query.compose(now, 0x1234, &mut Mixed, &mut packet);
                sent += 1;
                if sent > silent { query.handle_datagram(now, &datagram(&packet)) } else { QueryStep::Wait }
            }
            QueryStep::Wait => {
                now = query.timeout();
                query.handle_timeout(now)
            }
            QueryStep::OpenStream if tcp.is_some() => query.handle_connected(0x4321),
            QueryStep::OpenStream => query.handle_stream_failed(NetworkError::Refused),
            QueryStep::SendStream(packet) => {
                let answer = tcp.unwrap()(&packet[2..]);
                query.handle_stream(&[&(answer.len() as u16).to_be_bytes(), answer.as_slice()].concat())
            }
            QueryStep::Done => return query.finish(now).0,
        };
    }
    panic!("the query does not end");
}

fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Vec<u8> {
    let fixed = [0, 1, 0, 0, 0, 60];
    [&wire(owner)[..], &rtype.to_be_bytes(), &fixed, &(rdata.len() as u16).to_be_bytes(), rdata].concat()
}

fn txt(owner: &str, value: &str) -> Vec<u8> {
    record(owner, 16, &[&[value.len() as u8], value.as_bytes()].concat())
}

/// A CAA record that permits.
fn caa(owner: &str) -> Vec<u8> {
    record(owner, 257, b"\x00\x05issueca.example")
}

fn soa(zone: &str) -> Vec<u8> {
    let numbers = [1_u32, 3600, 600, 86400, 300].map(u32::to_be_bytes).concat();
    record(zone, 6, &[wire("ns1.customer.example"), wire("host.customer.example"), numbers].concat())
}

/// A reply to `query` with the question as it was sent; `flags` are added to QR, RD and RA.
fn reply(query: &[u8], flags: u16, answers: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    let question = &query[12..query.len() - 11];
    let counts = [1, answers.len() as u16, authority.len() as u16, 0].map(u16::to_be_bytes).concat();
    let head = [&query[..2], &(0x8180 | flags).to_be_bytes(), &counts].concat();
    [&head, question, &answers.concat(), &authority.concat()].concat()
}

/// The right reply, changed.
fn spoilt(query: &[u8], digest: &str, spoil: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = reply(query, 0, &[txt(TXT, digest)], &[]);
    spoil(&mut packet);
    packet
}

// Remotes -----------------------------------------------------------------------------------------------

/// R20 to R25: how many see what.
fn remote_rows() -> Vec<Row> {
    const SOME: [&[usize]; 3] = [&[R1], &[R1, R2], &[R1, R2, R3]];
    fn zones(zones: Zones) -> Input {
        Input::Zones(raw(ZONE, "caa"), zones)
    }
    fn wildcard(zones: Zones) -> Input {
        Input::Zones(raw(WILDCARD, "caa"), zones)
    }
    fn broken(world: World, remotes: &[usize]) -> World {
        world.from(remotes).quirk(ZONE, Some(RecordType::Caa), Quirk::Rcode(2, ""))
    }
    fn issue(world: World) -> World {
        world.caa(ZONE, &[(0, "issue", "ca.example")])
    }
    fn hijack(world: World, remotes: &[usize]) -> World {
        issue(world).from(remotes).caa(ZONE, &[(0, "issue", "other.example")])
    }
    fn hijack_wild(world: World, remotes: &[usize]) -> World {
        let world = world.caa(ZONE, &[(0, "issuewild", "ca.example")]);
        world.from(remotes).caa(ZONE, &[(0, "issuewild", "other.example")])
    }
    vec![
        Row::same("R20", PASS, zones(|world, _| world)),
        Row::same("R20", DNS, zones(|world, _| broken(world, &[P]))),
        Row::same("R21", PASS, zones(|world, _| broken(world, SOME[0]))),
        Row::same("R21", DNS, zones(|world, _| broken(world, SOME[1]))).saying("3 of 5"),
        Row::same("R21", DNS, zones(|world, _| broken(world, SOME[2]))).saying("2 of 5"),
        Row::same("R22", PASS, zones(|world, _| broken(issue(world), SOME[0]))),
        Row::same("R22", DNS, zones(|world, _| broken(issue(world), SOME[1]))).saying("3 of 5"),
        Row::same("R22", DNS, zones(|world, _| broken(issue(world), SOME[2]))).saying("2 of 5"),
        Row::same("R23", CAA, zones(|world, _| world.caa(ZONE, &[(0, "issue", "other.example")]))),
        Row::same("R24", PASS, zones(|world, _| hijack(world, SOME[0]))),
        Row::same("R24", CAA, zones(|world, _| hijack(world, SOME[1]))).saying("3 of 5"),
        Row::same("R24", CAA, zones(|world, _| hijack(world, SOME[2]))).saying("2 of 5"),
        Row::same("R25", PASS, wildcard(|world, _| hijack_wild(world, SOME[0]))),
        Row::same("R25", CAA, wildcard(|world, _| hijack_wild(world, SOME[1]))).saying("3 of 5"),
        Row::same("R25", CAA, wildcard(|world, _| hijack_wild(world, SOME[2]))).saying("2 of 5"),
    ]
}

#[test]
fn remote_rows_are_as_listed() {
    check(&remote_rows());
}

#[test]
fn r20_r23_remotes_are_not_asked_after_the_primary_refused() {
    let forbidden = played(raw(ZONE, "caa"), |world, _| world.caa(ZONE, &[(0, "issue", "other.example")]));
    let failed = played(raw(ZONE, "caa"), |world, _| world.from(&[P]).quirk(ZONE, None, Quirk::Rcode(2, "")));
    for played in [forbidden, failed] {
        assert_eq!(played.joint(), "-");
        assert!(played.questions.iter().all(|(place, ..)| *place == P));
    }
}

// Coverage ----------------------------------------------------------------------------------------------

/// The rows of a table of `docs/divergences.md`: what we do, and why, by number.
fn listed(heading: &str) -> BTreeMap<String, [String; 2]> {
    let text = include_str!("../../docs/divergences.md");
    let (_, section) = text.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap();
    let mut found = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [numbers, _, we, why] = cells[..] else { panic!("four cells: {line}") };
        for number in numbers.split(", ").filter(|_| numbers != "rows").flat_map(expand) {
            let earlier = found.insert(number.clone(), [we.to_owned(), why.to_owned()]);
            assert!(earlier.is_none(), "{number} is listed twice");
        }
    }
    found
}

/// `D28–D33` or a single number.
fn expand(numbers: &str) -> Vec<String> {
    let Some((first, last)) = numbers.split_once('–') else { return vec![numbers.to_owned()] };
    let (prefix, first) = first.split_at(1);
    let last = last.strip_prefix(prefix).expect("one prefix");
    (first.parse::<u32>().unwrap()..=last.parse().unwrap()).map(|n| format!("{prefix}{n}")).collect()
}

#[test]
fn every_number_is_tested_or_listed() {
    let rows: Vec<Row> = caa_rows().into_iter().chain(dns_rows()).chain(persist_rows()).chain(remote_rows()).collect();
    let tested: BTreeSet<String> = rows.iter().map(|row| row.number.to_owned()).collect();
    let differing: BTreeSet<String> =
        rows.iter().filter(|row| !row.because.is_empty()).map(|row| row.number.to_owned()).collect();
    let listed = listed("\n## CAA and DNS rows of Boulder's behaviour table\n");
    let expected: BTreeSet<String> = BLOCKS
        .iter()
        .flat_map(|(prefix, first, last)| (*first..=*last).map(move |number| format!("{prefix}{number}")))
        .collect();
    for number in tested.iter().chain(listed.keys()) {
        assert!(expected.contains(number), "{number} is no row of the table");
    }
    for number in &expected {
        let left_out = |[we, _]: &[String; 2]| we.starts_with("not applicable") || we.starts_with("later");
        match (listed.get(number), tested.contains(number)) {
            (None, true) => assert!(!differing.contains(number), "{number} differs and is not listed"),
            (Some(row), true) => {
                assert!(differing.contains(number) && !left_out(row), "{number} is listed, and does not differ");
            }
            (Some(row), false) => assert!(left_out(row), "{number} is neither tested nor left out"),
            (None, false) => panic!("{number} is neither tested nor listed"),
        }
        assert!(listed.get(number).is_none_or(|[_, why]| !why.is_empty()), "{number} has no reason");
    }
}
