//! The HTTP rows of Boulder's behaviour table (`H`), row by row; those about TLS are in `tls.rs`.
//!
//! Each row has its number, a host and what it does, the outcome Boulder has and ours. Rows that differ have a
//! reason, and `docs/divergences.md` lists them; rows that do not apply stand only there. All are played from six
//! perspectives in virtual time (`world`), or are requests that are refused before any packet.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the world has more than these rows need")]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use parallax_validation::{
    observation::{ControlObservation, HttpObservation, RecordType},
    problem::ProblemKind,
    request::{CheckRequest, RawRequest},
};
use world::{
    P, Played, Quirk, THUMBPRINT, TOKEN, Web, World, challenge_path, filter, key_authorization, raw, response,
    tls_server::{self, BOTH, Recipe},
};

const WWW: &str = "www.customer.example";
const OTHER: &str = "other.example";
const V4: &str = "192.0.2.10";
const SECOND: &str = "192.0.2.11";
const V6: &str = "2001:db8::10";
/// Numbers of the table: first and last of each block.
const BLOCKS: [(u32, u32); 3] = [(1, 25), (30, 72), (80, 126)];
/// Rows about TLS, played in `tls.rs`.
const TLS_ROWS: [u32; 4] = [92, 120, 121, 122];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail(ProblemKind),
}

const PASS: Outcome = Outcome::Pass;
const CONNECTION: Outcome = Outcome::Fail(ProblemKind::Connection);
const DNS: Outcome = Outcome::Fail(ProblemKind::Dns);
const UNAUTHORIZED: Outcome = Outcome::Fail(ProblemKind::Unauthorized);
const MALFORMED: Outcome = Outcome::Fail(ProblemKind::Malformed);

enum Input {
    World(Box<World>),
    /// A request that is refused before any packet.
    Request(RawRequest),
}

impl From<World> for Input {
    fn from(world: World) -> Self {
        Self::World(Box::new(world))
    }
}

impl From<RawRequest> for Input {
    fn from(request: RawRequest) -> Self {
        Self::Request(request)
    }
}

struct Row {
    number: u32,
    input: Input,
    boulder: Outcome,
    ours: Outcome,
    /// Why we do otherwise; empty if we agree.
    because: &'static str,
    /// What the message must hold.
    says: Vec<String>,
    /// What else must be so.
    shows: Vec<fn(&Played)>,
}

impl Row {
    /// A row about which Boulder and we agree.
    fn same(number: u32, outcome: Outcome, input: impl Into<Input>) -> Self {
        Self::differs(number, [outcome, outcome], "", input)
    }

    fn differs(number: u32, [boulder, ours]: [Outcome; 2], because: &'static str, input: impl Into<Input>) -> Self {
        Self { number, input: input.into(), boulder, ours, because, says: Vec::new(), shows: Vec::new() }
    }

    fn saying(mut self, says: impl Into<String>) -> Self {
        self.says.push(says.into());
        self
    }

    fn showing(mut self, shows: fn(&Played)) -> Self {
        self.shows.push(shows);
        self
    }
}

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let at = format!("H{}, row {}", row.number, place + 1);
        let reasoned = !row.because.is_empty();
        assert!(reasoned || row.boulder == row.ours, "{at}: a difference has a reason");
        assert!(!reasoned || row.boulder != row.ours || !row.shows.is_empty(), "{at}: where is the difference?");
        let (outcome, message) = match &row.input {
            Input::World(world) => {
                let played = world.play();
                row.shows.iter().for_each(|shows| shows(&played));
                let problem = played.explanation().problem;
                (problem.map_or(PASS, Outcome::Fail), played.message().to_owned())
            }
            Input::Request(request) => {
                let received = "2026-11-25T12:00:00Z".parse().unwrap();
                match CheckRequest::parse(request.clone(), "row", &filter().into(), received) {
                    Ok(_) => (PASS, String::new()),
                    Err(error) => (Outcome::Fail(error.problem()), error.to_string()),
                }
            }
        };
        let missing = row.says.iter().find(|text| !message.contains(text.as_str()));
        if outcome != row.ours || missing.is_some() {
            wrong.push(format!("{at}: {outcome:?}, wanted {:?}, missing {missing:?}\n    {message}", row.ours));
        }
    }
    assert!(wrong.is_empty(), "{} rows are not as listed:\n{}", wrong.len(), wrong.join("\n"));
}

fn fetched(played: &Played) -> &HttpObservation {
    match &played.observation(P).control {
        Some(ControlObservation::Http(fetch)) => fetch,
        other => panic!("{other:?}"),
    }
}

/// Requests of the primary.
fn sent(played: &Played) -> Vec<&str> {
    played.requests.iter().filter(|(place, _)| *place == P).map(|(_, request)| request.as_str()).collect()
}

/// Connections of the primary, by address.
fn tried(played: &Played) -> Vec<String> {
    played.connections.iter().filter(|(place, _)| *place == P).map(|(_, at)| at.ip().to_string()).collect()
}

fn asked(identifier: &str) -> World {
    World::new(raw(identifier, "http-01"))
}

/// `WWW` has one IPv4 address, where this is.
fn at(web: Web) -> World {
    World::http().web(V4, web)
}

/// `WWW` has an IPv6 address too, where this is.
fn dual(web: Web) -> World {
    World::http().aaaa(WWW, &[V6]).web(V6, web)
}

// 5.1 Request and target --------------------------------------------------------------------------------

fn target_rows() -> Vec<Row> {
    let fails = |rtype| World::http().quirk(WWW, Some(rtype), Quirk::Rcode(2, ""));
    let token = |token: &str| RawRequest {
        token: Some(token.to_owned()),
        key_authorization: Some(format!("{token}.{THUMBPRINT}")),
        ..raw(WWW, "http-01")
    };
    let mut rows = vec![
        Row::same(1, PASS, World::http()).showing(|played| {
            let hop = &fetched(played).hops[0];
            assert_eq!(hop.url, format!("http://{WWW}{}", challenge_path()));
            assert_eq!((hop.tries[0].address.to_string(), hop.resolution.len()), (format!("{V4}:80"), 2));
        }),
        Row::same(2, PASS, asked(WWW).aaaa(WWW, &[V6]).web(V6, Web::right())),
        Row::same(3, PASS, dual(Web::right())).showing(|played| {
            assert_eq!(tried(played), [V6]);
            assert_eq!(fetched(played).hops[0].unused[0].address.to_string(), V4);
        }),
        Row::same(4, DNS, asked(WWW).txt(WWW, &["something"])).saying("neither A nor AAAA"),
        Row::same(5, PASS, fails(RecordType::Aaaa)),
        Row::same(6, PASS, fails(RecordType::A).aaaa(WWW, &[V6]).web(V6, Web::right())).showing(|played| {
            assert_eq!(tried(played), [V6]);
        }),
        Row::same(7, DNS, fails(RecordType::A).quirk(WWW, Some(RecordType::Aaaa), Quirk::Rcode(2, "")))
            .saying("SERVFAIL"),
        Row::same(8, PASS, asked("203.0.113.7").web("203.0.113.7", Web::right())).showing(|played| {
            assert!(played.questions.is_empty());
        }),
        Row::same(9, PASS, asked("2001:db8::7").web("2001:db8::7", Web::right())),
        Row::differs(
            10,
            [MALFORMED, Outcome::Fail(ProblemKind::RejectedIdentifier)],
            "a request names no type; what is neither name nor address is rejected by its form",
            raw("uri:customer.example", "http-01"),
        ),
        Row::same(11, PASS, World::http())
            .showing(|played| assert!(sent(played)[0].contains("\r\nHost: www.customer.example\r\n"))),
        Row::same(11, PASS, asked("203.0.113.7").web("203.0.113.7", Web::right()))
            .showing(|played| assert!(sent(played)[0].contains("\r\nHost: 203.0.113.7\r\n"))),
        Row::same(11, PASS, asked("2001:db8::7").web("2001:db8::7", Web::right()))
            .showing(|played| assert!(sent(played)[0].contains("\r\nHost: [2001:db8::7]\r\n"))),
        Row::differs(
            12,
            [CONNECTION, PASS],
            "a second address of a family is tried, within the deadline",
            World::http().a(WWW, &[V4, SECOND]).web(V4, Web::Refuses).web(SECOND, Web::right()),
        )
        .showing(|played| assert_eq!(tried(played), [V4, SECOND])),
        Row::same(13, PASS, dual(Web::Refuses)).saying("Fix or remove the AAAA record"),
        Row::same(14, CONNECTION, asked(WWW).aaaa(WWW, &[V6]).web(V6, Web::Refuses))
            .saying("[2001:db8::10]:80 refused the TCP connection"),
        Row::differs(15, [CONNECTION, PASS], "no answer is no answer (cases.md D08)", dual(Web::SilentAfterRequest)),
        Row::same(17, PASS, dual(Web::Refuses)),
        Row::same(17, PASS, dual(Web::SilentSyn)),
        Row::same(18, DNS, asked(WWW).a(WWW, &["10.0.0.1"])).saying("10.0.0.0/8"),
        Row::same(18, PASS, World::http().a(WWW, &["10.0.0.1", V4])),
        Row::same(20, CONNECTION, at(Web::SilentSyn)).saying("never answered the TCP connection (waited 3 s)"),
        Row::same(21, CONNECTION, at(Web::Refuses)).saying("refused the TCP connection"),
        Row::same(22, PASS, to("/next")).showing(|played| {
            assert_eq!(sent(played).len(), 2);
            assert!(sent(played).iter().all(|request| request.contains("\r\nUser-Agent: parallax/")));
        }),
        Row::same(22, UNAUTHORIZED, at(Web::body(403, "", "no robots"))).saying("403"),
        Row::same(23, PASS, to("/next")).showing(|played| {
            assert!(sent(played).iter().all(|request| request.contains("\r\nConnection: close\r\n")));
            assert_eq!(tried(played).len(), 2, "a connection for each request");
        }),
        Row::differs(24, [PASS, PASS], "req D17: no compression", World::http()).showing(|played| {
            let agent = concat!("User-Agent: parallax/", env!("CARGO_PKG_VERSION"));
            let fields = format!("Host: {WWW}\r\n{agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n");
            assert_eq!(sent(played), [format!("GET {} HTTP/1.1\r\n{fields}", challenge_path())]);
        }),
    ];
    rows.extend(
        ["short", "", &"x".repeat(129), "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ+PCt92wr/oA"]
            .map(|bad| Row::same(25, MALFORMED, token(bad))),
    );
    rows
}

#[test]
fn target_rows_are_as_listed() {
    check(&target_rows());
}

// 5.2 Response ------------------------------------------------------------------------------------------

fn body(body: impl AsRef<[u8]>) -> World {
    at(Web::body(200, "", body))
}

/// These octets for a response; `KEY` stands for the key authorization.
fn octets(text: impl AsRef<[u8]>) -> World {
    let text = String::from_utf8(text.as_ref().to_vec()).unwrap().replace("KEY", &key_authorization());
    at(Web::Octets(text.into_bytes()))
}

fn body_rows() -> Vec<Row> {
    let right = key_authorization();
    let then = |tail: &str| body(format!("{right}{tail}"));
    let padded = |length: usize| then(&" ".repeat(length - right.len()));
    let unicode = "white space is ASCII's, as in ACME's examples; a key authorization has no other";
    let larger = "512 octets are read, for longer keys and comments after them";
    let mut rows = vec![Row::same(30, PASS, World::http()), Row::same(31, PASS, then("\n\r \t"))];
    rows.extend(["\r\n", "\t", "\x0b", "\x0c"].map(|tail| Row::same(32, PASS, then(tail))));
    rows.extend(["\u{a0}", "\u{2003}"].map(|tail| Row::differs(32, [PASS, UNAUTHORIZED], unicode, then(tail))));
    rows.push(Row::same(33, PASS, padded(127)));
    rows.extend([128, 129, 512].map(|length| Row::differs(34, [UNAUTHORIZED, PASS], larger, padded(length))));
    rows.extend([513, 100_000].map(|length| Row::same(34, UNAUTHORIZED, padded(length)).saying("it begins")));
    rows.push(Row::same(35, UNAUTHORIZED, body("")).saying("an empty body"));
    rows.extend([" ", "\n", "\u{feff}"].map(|head| Row::same(36, UNAUTHORIZED, body(format!("{head}{right}")))));
    rows.push(Row::same(37, UNAUTHORIZED, then("\0")));
    rows.extend(
        [right.to_ascii_lowercase(), format!("\"{right}\""), format!("{right}x"), TOKEN.to_owned()]
            .map(|wrong| Row::same(38, UNAUTHORIZED, body(wrong))),
    );
    rows.extend([
        Row::same(39, UNAUTHORIZED, body(format!("{}.{THUMBPRINT}", "x".repeat(43)))),
        Row::same(40, UNAUTHORIZED, body([&[0xff, 0xc0], right.as_bytes()].concat())).saying("\\xff\\xc0"),
        Row::same(41, UNAUTHORIZED, body([0xff; 3000])).saying("\\xff"),
        Row::same(42, UNAUTHORIZED, body("%s%n%d {}")).saying("%s%n%d {}"),
    ]);
    rows
}

fn status_rows() -> Vec<Row> {
    let status = |number, status: u16| {
        Row::same(number, UNAUTHORIZED, at(Web::body(status, "", key_authorization())))
            .saying(format!("returned {status}"))
    };
    let mut rows: Vec<Row> = [404, 410, 500].map(|code| status(43, code)).into();
    rows.extend([201, 202, 203, 204, 206, 304, 401, 403, 429, 503, 999].map(|code| status(44, code)));
    rows.push(status(45, 101));
    rows
}

fn response_rows() -> Vec<Row> {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    let right = response(200, "", key_authorization().as_bytes());
    let interim = |head: &[u8]| at(Web::Octets([head, b"\r\n\r\n", &right].concat()));
    let length = key_authorization().len();
    let chunks =
        format!("3\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &key_authorization()[..3], length - 3, &key_authorization()[3..]);
    let large = |kilobytes: usize| {
        let fields = "A: ".to_owned() + &"b".repeat(1019) + "\r\n";
        at(Web::body(200, &fields.repeat(kilobytes), key_authorization()))
    };
    vec![
        Row::same(46, PASS, interim(b"HTTP/1.1 100 Continue")),
        Row::same(46, PASS, interim(b"HTTP/1.1 103 Early Hints\r\nLink: </a>")),
        Row::same(47, PASS, octets(format!("{CHUNKED}\r\n{chunks}"))),
        Row::same(48, PASS, octets(format!("{CHUNKED}Content-Length: 5\r\n\r\n{chunks}"))),
        Row::same(48, PASS, octets(format!("{CHUNKED}Content-Length: 5000\r\n\r\n{chunks}"))),
        Row::same(49, CONNECTION, octets(format!("{CHUNKED}\r\nxyz\r\nKEY\r\n0\r\n\r\n"))).saying("hexadecimal"),
        Row::same(50, CONNECTION, octets(format!("{CHUNKED}\r\n100\r\nKEY"))).saying("before the body was complete"),
        Row::same(51, UNAUTHORIZED, octets(format!("{OK}Content-Length: 50\r\n\r\nKEY"))),
        Row::same(52, CONNECTION, octets(format!("{OK}Content-Length: 500\r\n\r\nKEY"))).saying("before the body"),
        Row::same(53, CONNECTION, octets(format!("{OK}Content-Length: -1\r\n\r\nKEY"))).saying("no number"),
        Row::same(54, CONNECTION, octets(format!("{OK}Content-Length: 87\r\nContent-Length: 86\r\n\r\nKEY")))
            .saying("two different Content-Length"),
        Row::same(55, PASS, octets(format!("{OK}\r\nKEY"))),
        Row::differs(
            56,
            [PASS, UNAUTHORIZED],
            "req D17: none was asked for",
            at(Web::body(200, "Content-Encoding: gzip\r\n", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3])),
        )
        .saying("Serve the file without Content-Encoding"),
        Row::same(57, PASS, at(Web::body(200, "Content-Encoding: deflate\r\n", key_authorization()))),
        Row::same(58, PASS, at(Web::body(200, "Content-Type: text/html\r\n", key_authorization()))),
        Row::same(59, PASS, octets("HTTP/1.0 200 OK\r\n\r\nKEY")),
        Row::differs(60, [PASS, CONNECTION], "no such version of this framing", octets("HTTP/1.9 200 OK\r\n\r\nKEY")),
        Row::differs(60, [PASS, CONNECTION], "no such version of this framing", octets("HTTP/2.0 200 OK\r\n\r\nKEY"))
            .saying("not HTTP/1.0 or HTTP/1.1"),
        Row::same(61, PASS, octets("HTTP/1.1 200\r\n\r\nKEY")),
        Row::same(61, PASS, octets("HTTP/1.1 200 OK\nServer: x\n\nKEY")),
        Row::same(62, CONNECTION, octets("KEY")).saying("does not start with an HTTP status line"),
        Row::same(63, CONNECTION, octets("\0\x01\x02garbage")),
        Row::same(63, CONNECTION, octets("SSH-2.0-OpenSSH_9.2\r\n")).saying("SSH-2.0"),
        Row::same(63, CONNECTION, octets("\x15\x03\x01\0\x02\x02F")).saying("It speaks TLS on port 80"),
        Row::same(64, CONNECTION, octets("\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d")).saying("It speaks HTTP/2 on port 80"),
        Row::same(65, CONNECTION, octets("")).saying("closed the connection"),
        Row::same(66, CONNECTION, at(Web::ResetsAfterRequest)).saying("reset the connection"),
        Row::differs(67, [PASS, CONNECTION], "a head of 64 KiB is read, which no real server needs", large(300))
            .saying("larger than 64 KiB"),
        Row::same(67, PASS, large(50)),
        Row::same(68, CONNECTION, large(30_000)),
        Row::same(69, CONNECTION, at(Web::SilentAfterRequest)).saying("sent nothing for 5 s"),
        Row::same(70, CONNECTION, at(Web::drips(1_000, [OK.as_bytes(), b"\r\n", &[b'x'; 100]].concat()))),
        Row::same(70, CONNECTION, at(Web::drips(15, [OK.as_bytes(), &[b'x'; 2_000]].concat()))),
        Row::same(71, CONNECTION, at(Web::Parts([(22_000, right.clone())].into()))).showing(|played| {
            assert!(played.observation(P).elapsed_us <= 15_000_000);
        }),
        Row::same(72, PASS, world_to(Web::body(302, "Location: /next\r\nSet-Cookie: a=b; Path=/\r\n", "")))
            .showing(|played| assert!(sent(played).iter().all(|request| !request.contains("Cookie")))),
    ]
}

#[test]
fn body_rows_are_as_listed() {
    check(&body_rows());
}

#[test]
fn status_rows_are_as_listed() {
    check(&status_rows());
}

#[test]
fn response_rows_are_as_listed() {
    check(&response_rows());
}

// 5.3 Redirects -----------------------------------------------------------------------------------------

/// The challenge's URL answers so; all other paths of `WWW`, and both ports of `OTHER`, have the right file.
fn world_to(web: Web) -> World {
    let Web::Says(redirect) = web else { panic!("a web that says something") };
    let here = Web::says(move |host, path| match path == challenge_path() {
        true => redirect(host, path),
        false => response(200, "", key_authorization().as_bytes()),
    });
    let tls = tls_server::server(Recipe::plain().make(), &[b"http/1.1"], BOTH);
    World::http().web(V4, here).a(OTHER, &["198.51.100.7"]).web("198.51.100.7", Web::right()).web_on(
        443,
        "198.51.100.7",
        Web::right_in_tls(tls),
    )
}

fn to(location: &str) -> World {
    world_to(Web::redirect(302, location))
}

fn hosts_at(world: World, hosts: &[&str]) -> World {
    hosts.iter().fold(world, |world, host| world.a(host, &["198.51.100.7"]))
}

/// A chain of so many redirects before the right file.
fn chain(redirects: u32) -> World {
    at(Web::says(move |_, path| {
        let hop: u32 = path.strip_prefix("/hop").map_or(0, |n| n.parse().unwrap());
        match hop == redirects {
            true => response(200, "", key_authorization().as_bytes()),
            false => response(302, &format!("Location: /hop{}\r\n", hop + 1), b""),
        }
    }))
}

fn followed_rows() -> Vec<Row> {
    let mut rows: Vec<Row> = [(80, 301), (80, 302), (81, 307), (81, 308)]
        .map(|(number, status)| {
            Row::same(number, PASS, world_to(Web::redirect(status, "http://other.example/x"))).showing(|played| {
                let hops = &fetched(played).hops;
                assert_eq!((hops.len(), hops[1].url.as_str()), (2, "http://other.example/x"));
            })
        })
        .into();
    rows.push(
        Row::differs(
            82,
            [CONNECTION, UNAUTHORIZED],
            "a status like any other that is not followed",
            world_to(Web::redirect(303, "http://other.example/x")),
        )
        .saying("only 301, 302, 307 and 308 are"),
    );
    rows.extend([300, 304, 305, 306, 309].map(|status| {
        Row::same(83, UNAUTHORIZED, world_to(Web::redirect(status, "/x"))).saying(format!("returned {status}"))
    }));
    rows.extend(["", "Location: \r\n", "Location:\r\n"].map(|fields| {
        Row::same(84, UNAUTHORIZED, world_to(Web::body(302, fields, ""))).saying("a redirect without a usable Location")
    }));
    rows.push(Row::same(85, PASS, world_to(Web::body(302, "Location: /x\r\n", "moved".repeat(1000)))));
    rows.extend(
        ["http://www.customer.example/x", "/x", "x", "../x", "?q", "//other.example/x"]
            .map(|location| Row::same(86, PASS, to(location))),
    );
    rows.extend([
        Row::same(87, PASS, to("/x#part")).showing(|played| {
            assert!(sent(played)[1].starts_with("GET /x HTTP/1.1\r\n") && fetched(played).hops[1].url.ends_with("/x"));
        }),
        Row::same(88, PASS, to("HTTP://OTHER.Example/x")).showing(|played| {
            assert_eq!(fetched(played).hops[1].url, "http://other.example/x");
        }),
        Row::differs(89, [PASS, CONNECTION], "req D16: no user-info", to("http://user:pass@other.example/x"))
            .saying("holds a user name or password"),
        Row::same(90, PASS, to("/x?a=b&c=%20d")).showing(|played| {
            assert!(sent(played)[1].starts_with("GET /x?a=b&c=%20d HTTP/1.1\r\n"));
        }),
        Row::same(91, PASS, to("http://other.example:80/x")),
        Row::same(91, PASS, to("http://other.example:/x")),
        Row::same(93, PASS, to("http://other.example:443/x").web_on(443, "198.51.100.7", Web::right())),
        Row::same(93, PASS, {
            let tls = tls_server::server(Recipe::plain().make(), &[b"http/1.1"], BOTH);
            to("https://other.example:80/x").web("198.51.100.7", Web::right_in_tls(tls))
        }),
    ]);
    rows
}

fn refused_rows() -> Vec<Row> {
    let refused = |number: u32, location: &str| Row::same(number, CONNECTION, to(location)).showing(goes_no_further);
    let unlisted = "no list of top-level domains is kept; DNS says what exists";
    let mut rows: Vec<Row> = [0, 8080, 1337, 1987, 9999]
        .map(|port| refused(94, &format!("http://other.example:{port}/x")).saying(format!("points at port {port}")))
        .into();
    rows.extend([refused(94, "http://other.example:99999/x"), refused(95, "http://other.example:abc/x")]);
    rows.extend(
        ["gopher://other.example/x", "ftp://other.example/x", "file:///etc/passwd", "javascript:alert(1)", "data:,x"]
            .map(|location| refused(96, location).saying("only http and https may be used")),
    );
    rows.extend(["http://", "http:///x", "https://:443/", "///x"].map(|location| refused(97, location)));
    rows.push(
        Row::differs(
            98,
            [CONNECTION, DNS],
            unlisted,
            to(&format!("http://other.example.well-known/acme-challenge/{TOKEN}")),
        )
        .saying("A '/' is probably missing after the host name"),
    );
    rows.extend(
        ["http://other.cpu/", "http://other.internal/", "http://invalid.invalid/", "http://localhost/"]
            .map(|location| Row::differs(99, [CONNECTION, DNS], unlisted, to(location)).showing(goes_no_further)),
    );
    rows.push(refused(100, "http://10.10.10.*/"));
    rows.extend(["134744072", "0x8080808", "010.8.8.8", "8.8.2056"].map(|address| {
        let because = "the URL standard reads them as addresses, which pass the filter or do not";
        let world = to(&format!("http://{address}/x")).web("8.8.8.8", Web::right());
        Row::differs(101, [CONNECTION, PASS], because, world)
    }));
    rows.extend(["2130706433", "0x7f.1", "0"].map(|address| refused(101, &format!("http://{address}/x"))));
    rows
}

fn goes_no_further(played: &Played) {
    assert_eq!(tried(played).len(), 1, "nothing is connected to");
}

fn host_rows() -> Vec<Row> {
    let refused = |number: u32, location: &str| Row::same(number, CONNECTION, to(location)).showing(goes_no_further);
    let literal = |location: &str| {
        let world = to(location).web_on(443, "203.0.113.9", Web::right());
        let world = world.web("203.0.113.9", Web::right()).web("2001:db8::9", Web::right());
        Row::same(102, PASS, world).showing(|played| assert!(fetched(played).hops[1].resolution.is_empty()))
    };
    let mut rows: Vec<Row> = [
        "http://203.0.113.9/x",
        "http://203.0.113.9:80/x",
        "http://203.0.113.9:443/x",
        "http://[2001:db8::9]/x",
        "http://[2001:db8::9]:80/x",
    ]
    .map(literal)
    .into();
    rows.push(refused(103, "http://203.0.113.9:8080/x"));
    for (number, address, block) in [
        (104, "10.0.0.1", "10.0.0.0/8"),
        (104, "169.254.1.1", "169.254.0.0/16"),
        (105, "[3fff::1]", "3fff::/20"),
        (105, "[::ffff:192.0.2.10]", "::ffff:0:0/96"),
        (105, "[64:ff9b::c000:20a]", "64:ff9b::/96"),
    ] {
        rows.push(refused(number, &format!("http://{address}/x")).saying(block));
    }
    rows.extend([refused(106, "http://[fe80::1%25eth0]/x"), refused(107, "http://[2001:db8::g]/x")]);
    rows.push(Row::differs(
        108,
        [CONNECTION, PASS],
        "the same name in DNS (RFC 3986 §3.2.2)",
        to("http://other.example./x"),
    ));
    rows.push(Row::same(109, PASS, hosts_at(to("http://com/x"), &["com"])));
    for host in ["a_b.example", "xn--bcher-kva.example"] {
        rows.push(Row::same(110, PASS, hosts_at(to(&format!("http://{host}/x")), &[host])));
    }
    for location in ["http://b\u{fc}cher.example/x", "http://other example/x"] {
        rows.push(refused(111, location).saying("octets that may not stand in a URL"));
    }
    rows.push(refused(112, "http:\\\\other.example\\x"));
    rows
}

fn chain_rows() -> Vec<Row> {
    let path = |octets: usize| to(&format!("http://other.example/{}", "p".repeat(octets - 1)));
    let whole = "one bound, of 2048 octets, for the whole URL";
    let itself = format!("http://{WWW}{}", challenge_path());
    let broken = |web: Web| hosts_at(to("http://b.example/x"), &["b.example"]).aaaa("b.example", &[V6]).web(V6, web);
    vec![
        Row::same(113, PASS, path(2000)),
        Row::differs(113, [CONNECTION, PASS], whole, path(2001)),
        Row::same(113, CONNECTION, path(2048)).saying("longer than 2048 octets"),
        Row::differs(114, [PASS, CONNECTION], whole, to(&format!("/x?{}", "q".repeat(5000))))
            .saying("longer than 2048 octets"),
        Row::same(115, CONNECTION, to(&itself)).saying("a redirect loop").showing(|played| {
            assert_eq!((tried(played).len(), fetched(played).hops[0].tries.len()), (1, 1));
        }),
        Row::same(116, PASS, chain(10)),
        Row::differs(116, [PASS, CONNECTION], "req D16: ten hops", chain(11))
            .saying("more than 10 redirects")
            .showing(|played| assert_eq!(tried(played).len(), 11)),
        Row::same(116, CONNECTION, chain(12)),
        Row::same(117, PASS, chain(3)).showing(|played| {
            let questions = played.questions.iter();
            let asked = questions.filter(|(place, name, rtype)| *place == P && name == WWW && *rtype == 1);
            assert_eq!(asked.count(), 4, "for each hop, also of the same host");
        }),
        Row::same(118, UNAUTHORIZED, to("http://other.example/x").web("198.51.100.7", Web::body(500, "", "")))
            .saying("198.51.100.7:80 returned 500")
            .saying("http://other.example/x"),
        Row::same(119, CONNECTION, to("http://other.example/x").web("198.51.100.7", Web::Refuses))
            .saying("198.51.100.7:80 refused the TCP connection")
            .saying("http://other.example/x"),
        Row::differs(123, [CONNECTION, PASS], "cases.md D07", broken(Web::Refuses)),
        Row::differs(123, [CONNECTION, PASS], "cases.md D07", broken(Web::SilentSyn)),
        Row::differs(
            124,
            [CONNECTION, PASS],
            "a visit over another address is no loop (cases.md D08)",
            to("http://other.example/x").aaaa(WWW, &[V6]).web(V6, Web::SilentAfterRequest),
        ),
        Row::same(125, PASS, world_to(Web::body(302, "Location: /x\r\nSet-Cookie: a=b\r\n", ""))),
        Row::same(125, PASS, to("/x%0d%0aHost:%20evil.example")).showing(|played| {
            assert!(sent(played)[1].starts_with("GET /x%0d%0aHost:%20evil.example HTTP/1.1\r\nHost: www.customer"));
        }),
        Row::differs(126, [PASS, PASS], "nothing is sent that is not needed", to("http://other.example/x"))
            .showing(|played| assert!(sent(played).iter().all(|request| !request.contains("Referer")))),
    ]
}

#[test]
fn followed_rows_are_as_listed() {
    check(&followed_rows());
}

#[test]
fn refused_rows_are_as_listed() {
    check(&refused_rows());
}

#[test]
fn host_rows_are_as_listed() {
    check(&host_rows());
}

#[test]
fn chain_rows_are_as_listed() {
    check(&chain_rows());
}

// Coverage ----------------------------------------------------------------------------------------------

/// The rows of our section of `docs/divergences.md`: what we do, and why, by number.
fn listed() -> BTreeMap<u32, [String; 2]> {
    let text = include_str!("../../docs/divergences.md");
    let (_, section) = text.split_once("\n## HTTP rows of Boulder's behaviour table\n").expect("the heading");
    let section = section.split("\n## ").next().unwrap();
    let mut found = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| H")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [numbers, _, we, why] = cells[..] else { panic!("four cells: {line}") };
        for number in numbers.split(", ") {
            let number = number.strip_prefix('H').and_then(|n| n.parse().ok()).expect("a number");
            assert!(found.insert(number, [we.to_owned(), why.to_owned()]).is_none(), "H{number} is listed twice");
        }
    }
    found
}

#[test]
fn every_number_is_tested_or_listed() {
    let rows: Vec<Row> = [
        target_rows(),
        body_rows(),
        status_rows(),
        response_rows(),
        followed_rows(),
        refused_rows(),
        host_rows(),
        chain_rows(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let tested: BTreeSet<u32> = rows.iter().map(|row| row.number).collect();
    let differing: BTreeSet<u32> = rows.iter().filter(|row| !row.because.is_empty()).map(|row| row.number).collect();
    let listed = listed();
    let expected: BTreeSet<u32> = BLOCKS.iter().flat_map(|(first, last)| *first..=*last).collect();
    for number in tested.iter().chain(listed.keys()) {
        assert!(expected.contains(number), "H{number} is no row of the table");
    }
    for number in &expected {
        let left_out = |[we, _]: &[String; 2]| we.starts_with("not applicable");
        match (listed.get(number), tested.contains(number)) {
            (None, true) => assert!(!differing.contains(number), "H{number} differs and is not listed"),
            (Some(row), true) => {
                assert!(differing.contains(number) && !left_out(row), "H{number} is listed, and does not differ");
            }
            (Some(row), false) => assert!(left_out(row), "H{number} is neither tested nor left out"),
            (None, false) => {
                let name = format!("h{number}_");
                assert!(TLS_ROWS.contains(number), "H{number} is neither tested nor listed");
                assert!(include_str!("tls.rs").contains(&name), "no test of TLS is named after H{number}");
            }
        }
        assert!(listed.get(number).is_none_or(|[_, why]| !why.is_empty()), "H{number} has no reason");
    }
}
