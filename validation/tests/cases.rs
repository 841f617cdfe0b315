//! The cases of `cases.md`, played against the real cores in virtual time (see `world`).
//!
//! Each test checks the result, the joint figure, the problem type, whose turn it is, when to try again,
//! and what the message must and must not say.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the world has more than these cases need")]
mod world;

use parallax_validation::{
    base::perspective::Rir,
    explain::{Blame, Retry},
    observation::{ControlObservation, DnsFailure, DnsOutcome, DnsTransport, RecordType, TcpReason},
    plan::PlanLimits,
    problem::ProblemKind,
    request::{CheckRequest, RawRequest},
    verdict::PerspectiveState,
};
use sha2::{Digest, Sha256};
use world::{
    ALL, P, Played, Quirk, R1, R2, R3, R4, R5, SIBLING, TOKEN, Web, World, challenge_path, filter, key_authorization,
    names_asked, raw, response,
    tls_server::{self, BOTH, Recipe},
};

const WWW: &str = "www.customer.example";
const TXT: &str = "_acme-challenge.customer.example";
const CHALLENGE_PAGE: &str = "<!doctype html><html><script>prove()</script></html>";

fn says(played: &Played, wanted: &[&str], unwanted: &[&str]) {
    let message = played.message();
    println!("{message}");
    for text in wanted {
        assert!(message.contains(text), "'{text}' is missing: {message}");
    }
    for text in unwanted {
        assert!(!message.to_lowercase().contains(&text.to_lowercase()), "'{text}' is in: {message}");
    }
}

fn refused(played: &Played, joint: &str, problem: ProblemKind, blame: Blame, retry: Retry) {
    let explanation = played.explanation();
    assert!(!played.passed(), "{}", played.message());
    assert_eq!(played.joint(), joint, "{}", played.message());
    let found = (explanation.problem, explanation.blame, explanation.retry);
    assert_eq!(found, (Some(problem), Some(blame), Some(retry)), "{}", played.message());
}

fn passed(played: &Played, joint: &str, blame: Option<Blame>) {
    let explanation = played.explanation();
    assert!(played.passed(), "{}", played.message());
    assert_eq!(played.joint(), joint);
    assert_eq!(
        (explanation.problem, explanation.blame, explanation.retry),
        (None, blame, None),
        "{}",
        played.message()
    );
    assert_eq!(explanation.warnings.is_empty(), blame.is_none(), "{:?}", explanation.warnings);
}

// A. Reachability and filtering ---------------------------------------------------------------------

#[test]
fn d01_web_server_open_to_one_region_only() {
    let played = World::http().from(&[R2, R3, R4, R5]).web("192.0.2.10", Web::SilentSyn).play();
    refused(&played, "1/5", ProblemKind::Connection, Blame::Filter, Retry::Fix);
    says(
        &played,
        &[
            "192.0.2.10:80",
            "nyc1 (ARIN)",
            "RIPE NCC",
            "APNIC",
            "LACNIC",
            "AFRINIC",
            "never answered",
            "DNS was identical everywhere",
            "filtering by source location",
            "1 of 5",
            "Open port 80",
        ],
        &["server down", "198.18."],
    );
}

#[test]
fn d02_name_servers_filtered_by_region() {
    let ede = "At delegation customer.example: no answer from 198.51.100.1, 198.51.100.2";
    let played = World::http()
        .from(&[R3, R4])
        .quirk(WWW, None, Quirk::Rcode(2, ede))
        .quirk("customer.example", None, Quirk::Rcode(2, ede))
        .play();
    refused(&played, "3/5", ProblemKind::Dns, Blame::Filter, Retry::Fix);
    says(
        &played,
        &[
            "sin1 (APNIC) and gru1 (LACNIC)",
            "198.51.100.1, 198.51.100.2",
            "198.18.3.53:53",
            "198.18.4.53:53",
            "SERVFAIL",
            "UDP",
            "EDE 22",
            "We never got as far as the web server",
            "3 of 5",
        ],
        &["port 80"],
    );
    let silent = World::http().from(&[R3, R4]).quirk("*", None, Quirk::Silent).play();
    refused(&silent, "3/5", ProblemKind::Dns, Blame::Filter, Retry::Fix);
    says(&silent, &["over UDP, two times, within 8 s", "never answered", "We never got as far"], &["port 80"]);
}

#[test]
fn d03_one_remote_is_on_a_block_list() {
    let played = World::http().from(&[R5]).web("192.0.2.10", Web::Refuses).play();
    passed(&played, "4/5", Some(Blame::Filter));
    assert_eq!(played.record.verdict.figures().unwrap().joint.margin, 0);
    says(
        &played,
        &[
            "Validated. One of five remote regions (AFRINIC)",
            "192.0.2.10:80 refused the TCP connection",
            "A second failure would block issuance.",
        ],
        &[],
    );
}

#[test]
fn d04_bot_challenge_for_some_regions() {
    let edge = Web::body(403, "Server: edge.example\r\nContent-Type: text/html\r\n", CHALLENGE_PAGE);
    let played = World::http().from(&[R1, R2, R3]).web("192.0.2.10", edge).play();
    refused(&played, "2/5", ProblemKind::Unauthorized, Blame::Filter, Retry::Fix);
    says(
        &played,
        &[
            "returned 403 with an HTML page",
            "server: edge.example",
            "<!doctype html>",
            "Exempt /.well-known/acme-challenge/",
            "nyc1 (ARIN), waw1 (RIPE NCC) and sin1 (APNIC)",
        ],
        &["wrong key authorization"],
    );
}

#[test]
fn one_address_that_answers_differently_by_place_may_be_a_route() {
    let elsewhere = Web::body(200, "", "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.another-accounts-thumbprint");
    let played = World::http().from(&[R2, R3]).web("192.0.2.10", elsewhere).play();
    refused(&played, "3/5", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    let wants =
        "The same address answers differently by place: the machines behind it differ, or a route leads elsewhere.";
    says(&played, &[wants], &["filtering"]);
}

#[test]
fn d05_firewall_that_recognises_the_path() {
    let played = World::http().web("192.0.2.10", Web::ResetsAfterRequest).play();
    refused(&played, "-", ProblemKind::Connection, Blame::Filter, Retry::Fix);
    says(
        &played,
        &[
            "192.0.2.10:80 accepted the connection and reset the connection right after our request for the challenge path",
            "0 octets",
            "Application-aware firewalls",
        ],
        &["refused", "timeout", "timed out"],
    );
    for status in [200, 503] {
        let page = Web::body(status, "Content-Type: text/html\r\n", "<html>Blocked. Application: acme-protocol</html>");
        let variant = World::http().web("192.0.2.10", page).play();
        refused(&variant, "-", ProblemKind::Unauthorized, Blame::Filter, Retry::Fix);
        says(&variant, &["acme-protocol", "allow the ACME application"], &["refused", "timeout"]);
    }
}

// B. IPv6 ---------------------------------------------------------------------------------------------

#[test]
fn d06_stale_aaaa_answers_404() {
    let played = World::http().aaaa(WWW, &["2001:db8::bad"]).web("2001:db8::bad", Web::body(404, "", "no")).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Record, Retry::Fix);
    says(
        &played,
        &[
            "[2001:db8::bad]:80 returned 404",
            "AAAA of www.customer.example",
            "The IPv4 address 192.0.2.10 was not tried because IPv6 answered",
            "Fix or remove the AAAA record",
        ],
        &[],
    );
    assert!(played.connections.iter().all(|(_, at)| at.is_ipv6()));
}

#[test]
fn d07_aaaa_is_silent_and_ipv4_is_good() {
    let played = World::http().aaaa(WWW, &["2001:db8::10"]).web("2001:db8::10", Web::SilentSyn).play();
    passed(&played, "5/5", Some(Blame::Record));
    says(&played, &["over IPv4 (192.0.2.10", "after IPv6 (2001:db8::10) did not answer within 3 s", " ms)"], &[]);
}

#[test]
fn d08_fallback_and_redirect_are_no_loop() {
    let world = World::http()
        .aaaa(WWW, &["2001:db8::10"])
        .web("2001:db8::10", Web::SilentAfterRequest)
        .web("192.0.2.10", Web::redirect(302, "http://s3.customer.example/t"))
        .a("s3.customer.example", &["203.0.113.9"]);
    let played = world.web("203.0.113.9", Web::right()).play();
    passed(&played, "5/5", Some(Blame::Record));
    says(&played, &[], &["loop"]);

    let world = World::http()
        .aaaa(WWW, &["2001:db8::10"])
        .web("2001:db8::10", Web::SilentAfterRequest)
        .web("192.0.2.10", Web::redirect(302, "http://s3.customer.example/t"))
        .a("s3.customer.example", &["203.0.113.9"]);
    let silent = world.web("203.0.113.9", Web::SilentAfterRequest).play();
    assert!(!silent.passed());
    says(&silent, &["Timed out reading from 203.0.113.9 after redirect 1 of 10"], &["loop"]);
}

// C. HTTP behaviour -----------------------------------------------------------------------------------

/// A world whose first answer is this.
fn answering(web: Web) -> World {
    World::http().web("192.0.2.10", web)
}

#[test]
fn d10a_redirect_to_another_port_is_refused_before_any_packet() {
    let played = answering(Web::redirect(302, "https://www.customer.example:9443/t")).play();
    refused(&played, "-", ProblemKind::Connection, Blame::Web, Retry::Fix);
    says(
        &played,
        &["redirect 1 points at port 9443; only 80 and 443 may be used", "https://www.customer.example:9443/t"],
        &[],
    );
    assert_eq!(played.connections.len(), 1, "nothing went to port 9443");
}

#[test]
fn d10b_see_other_is_not_followed() {
    let played = answering(Web::redirect(303, "http://good.customer.example/t")).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(&played, &["returned 303", "only 301, 302, 307 and 308"], &[]);
    assert_eq!(played.connections.len(), 1);
}

#[test]
fn d10c_refresh_in_html_is_no_redirect() {
    let page = "<html><meta http-equiv=refresh content='0;url=http://good.customer.example/t'></html>";
    let played = answering(Web::body(200, "", page)).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(&played, &["an HTML page instead of the key authorization", "A refresh written in HTML is no redirect"], &[]);
}

#[test]
fn d10d_other_schemes_are_refused() {
    let played = answering(Web::redirect(301, "ftp://www.customer.example/t")).play();
    refused(&played, "-", ProblemKind::Connection, Blame::Web, Retry::Fix);
    says(&played, &["redirect 1 has the scheme 'ftp'", "ftp://www.customer.example/t"], &[]);
}

#[test]
fn d10e_permanent_redirect_to_another_host_passes() {
    let played = answering(Web::redirect(308, "http://other.example/t"))
        .a("other.example", &["203.0.113.9"])
        .web("203.0.113.9", Web::right())
        .play();
    passed(&played, "5/5", None);
}

#[test]
fn d09_the_certificate_of_a_redirect_target_is_recorded_and_not_enforced() {
    let validity = [tls_server::der(0x17, b"200101000000Z"), tls_server::der(0x17, b"210101000000Z")].concat();
    let names = tls_server::san(&[tls_server::dns("wrong.example")]);
    let expired = Recipe { validity: tls_server::der(0x30, &validity), ..Recipe::plain().extensions([names]) };
    let server = tls_server::server(expired.make(), &[b"http/1.1"], BOTH);
    let played = answering(Web::redirect(301, "https://www.customer.example/t"))
        .web_on(443, "192.0.2.10", Web::right_in_tls(server))
        .play();
    passed(&played, "5/5", None);
    let Some(ControlObservation::Http(fetch)) = &played.observation(P).control else { panic!("a fetch") };
    let content = fetch.hops[1].tls.as_ref().and_then(|tls| tls.certificate.content.as_ref()).unwrap();
    assert!(content.self_signed && !content.name_matches);
    assert_eq!(content.not_after.unwrap().to_string(), "2021-01-01T00:00:00Z");
}

#[test]
fn d10_https_that_is_plain_http_is_told_apart() {
    let played = answering(Web::redirect(301, "https://www.customer.example/t"))
        .web_on(443, "192.0.2.10", Web::Octets(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()))
        .play();
    refused(&played, "-", ProblemKind::Tls, Blame::Web, Retry::Fix);
    says(&played, &["speaks plain HTTP on port 443, not TLS", "after redirect 1 of 10"], &["timeout", "refused"]);
}

#[test]
fn d10f_the_eleventh_redirect_is_one_too_many() {
    let next = Web::says(|_, path| {
        let hop: u32 = path.strip_prefix("/hop").map_or(0, |n| n.parse().unwrap());
        response(302, &format!("Location: /hop{}\r\n", hop + 1), b"")
    });
    let played = answering(next).play();
    refused(&played, "-", ProblemKind::Connection, Blame::Web, Retry::Fix);
    says(&played, &["more than 10 redirects"], &["loop"]);
    assert_eq!(played.connections.len(), 11);
    let ten = Web::says(|_, path| match path.strip_prefix("/hop").map_or(0, |n| n.parse::<u32>().unwrap()) {
        10 => response(200, "", key_authorization().as_bytes()),
        hop => response(302, &format!("Location: /hop{}\r\n", hop + 1), b""),
    });
    passed(&answering(ten).play(), "5/5", None);
}

#[test]
fn d11_missing_slash_in_the_redirect_rule() {
    let location = format!("http://www.customer.example.well-known/acme-challenge/{TOKEN}");
    let played = answering(Web::redirect(301, &location)).play();
    refused(&played, "-", ProblemKind::Dns, Blame::Web, Retry::Fix);
    says(&played, &["'www.customer.example.well-known'", "A '/' is probably missing after the host name"], &[]);
}

#[test]
fn d12a_a_404_that_prints_the_url() {
    let echo = Web::says(|host, path| {
        response(404, "Content-Type: text/plain\r\n", format!("http://{host}{path} not found").as_bytes())
    });
    let played = answering(echo).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(&played, &["returned 404", "the body of another status is not looked at"], &["echo"]);
}

#[test]
fn d12b_a_soft_404_that_prints_the_path() {
    let echo = Web::says(|_, path| response(200, "", format!("Nothing at {path}, sorry").as_bytes()));
    let played = answering(echo).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(&played, &["echoes our URL", "contains the token but not the full key authorization"], &[]);
}

#[test]
fn d12c_a_value_that_occurs_in_the_request_is_refused() {
    let value = "8f3a09c47d21e65b8f3a09c47d21e65b";
    let website = |identifier: &str, file: &str| {
        let request = RawRequest {
            identifier: identifier.to_owned(),
            method: "website-change".to_owned(),
            random_value: Some(value.to_owned()),
            file: Some(file.to_owned()),
            ..RawRequest::default()
        };
        CheckRequest::parse(request, "case", &filter().into(), "2026-11-25T12:00:00Z".parse().unwrap())
    };
    website(WWW, "fileauth.txt").expect("the value is not asked for by itself");
    for (identifier, file, field) in [
        (WWW, format!("{value}.txt"), "file"),
        (WWW, format!("a/{}/b", value.to_ascii_uppercase()), "file"),
        ("8f3a09c47d21e65b8f3a09c47d21e65b.customer.example", "fileauth.txt".to_owned(), "identifier"),
    ] {
        let error = website(identifier, &file).unwrap_err();
        assert!(error.to_string().starts_with(&format!("random_value: it occurs in {field}")), "{error}");
        assert_eq!(error.problem(), ProblemKind::Malformed);
        assert!(!error.to_string().contains(value), "{error}");
    }
}

#[test]
fn d13_white_space_marks_and_encodings() {
    let right = key_authorization();
    for tail in ["\r\n", "   \n"] {
        passed(&answering(Web::body(200, "", format!("{right}{tail}"))).play(), "5/5", None);
    }
    let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(right.bytes().flat_map(|b| [b, 0])).collect();
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
    for (fields, body, wanted) in [
        (
            "",
            [&[0xef, 0xbb, 0xbf], right.as_bytes()].concat(),
            &["starts with a byte-order mark", "'\\xef\\xbb\\xbf"][..],
        ),
        ("", utf16, &["starts with a byte-order mark", "'\\xff\\xfe"]),
        ("", format!("{right} extra").into_bytes(), &["more text after it", "begins '"]),
        ("Content-Encoding: gzip\r\n", gzip.to_vec(), &["compressed", "content-encoding: gzip", "'\\x1f\\x8b"]),
        ("", gzip.to_vec(), &["compressed", "'\\x1f\\x8b"]),
    ] {
        let played = answering(Web::body(200, fields, body)).play();
        refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
        says(&played, wanted, &[]);
    }
}

#[test]
fn d14_many_slow_answers_use_up_the_budget() {
    let name = format!("{}.customer.example", vec!["a"; 85].join("."));
    let limits = PlanLimits { task_deadline_ms: 10_000, ..PlanLimits::default() };
    let played = World::caa_of(&name).limits(limits).dns_takes_ms(3000).play();
    refused(&played, "-", ProblemKind::Dns, Blame::Dns, Retry::Later);
    says(
        &played,
        &["10 s budget", "after 48 of 87 lookups", "3 s for each answer (median)", "No single lookup failed"],
        &["CAA", "TXT", "malfunction"],
    );
}

#[test]
fn d14_a_slow_server_is_not_taken_for_slow_dns() {
    let limits = PlanLimits { task_deadline_ms: 4000, dns_try_ms: 1000, ..PlanLimits::default() };
    let played = answering(Web::SilentAfterRequest).limits(limits).play();
    refused(&played, "-", ProblemKind::Connection, Blame::Web, Retry::Later);
    says(&played, &["192.0.2.10:80 accepted the connection and sent nothing for 4 s"], &["name server"]);
}

// D. Several machines behind one name -------------------------------------------------------------------

#[test]
fn d15_token_on_one_of_two_hosts() {
    let played = World::http()
        .a(WWW, &["192.0.2.10", "192.0.2.11"])
        .web("192.0.2.11", Web::body(404, "", "no such file"))
        .from(&[R2, R3, R5])
        .draws(1)
        .play();
    refused(&played, "2/5", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(
        &played,
        &[
            "Results split by address, not by region",
            "192.0.2.10 served the token (3 of 3)",
            "192.0.2.11 returned 404",
            "(3 of 3)",
            "Copy the challenge to every host or redirect it to one",
        ],
        &["location", "ARIN) to", "AFRINIC"],
    );
}

#[test]
fn d16_other_addresses_same_token() {
    let mut world = World::http();
    for place in ALL {
        let address = format!("203.0.113.{}", 10 + place);
        world = world.from(&[*place]).a(WWW, &[&address]).web(&address, Web::right());
    }
    passed(&world.play(), "5/5", None);
}

// E. DNS-01 and aliases ---------------------------------------------------------------------------------

#[test]
fn d17_some_sites_hold_an_older_zone() {
    let world = World::dns();
    let digest = world.digest();
    let played = world
        .from(&[P, R1, R2])
        .txt(TXT, &[&digest])
        .serial(2_026_122_002)
        .from(&[R3, R4, R5])
        .serial(2_026_122_001)
        .play();
    refused(&played, "2/5", ProblemKind::Unauthorized, Blame::Dns, Retry::Later);
    says(
        &played,
        &[
            "serial 2026122002 (ams1 (RIPE NCC), nyc1 (ARIN) and waw1 (RIPE NCC)) has the value",
            "serial 2026122001 (sin1 (APNIC), gru1 (LACNIC) and jnb1 (AFRINIC)) has not",
            "Wait",
        ],
        &["record missing", "no TXT"],
    );
}

#[test]
fn d17_servers_of_one_version_that_differ() {
    let world = World::dns();
    let digest = world.digest();
    let played = world.from(&[P, R1, R2]).txt(TXT, &[&digest]).from(&[R3, R4, R5]).txt(TXT, &["an old value"]).play();
    refused(&played, "2/5", ProblemKind::Unauthorized, Blame::Dns, Retry::Later);
    says(&played, &["different answers for the same version of the zone", "serial 2026122001"], &[]);
}

#[test]
fn d18_the_value_of_the_other_authorization() {
    let sibling = "Y2hhbGxlbmdlLW9mLXRoZS1vdGhlci1uYW1lLW9yZGV";
    let request = RawRequest { sibling_digests: vec![sibling.to_owned()], ..raw("customer.example", "dns-01") };
    let played = World::new(request).txt(TXT, &[sibling]).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Record, Retry::Fix);
    says(
        &played,
        &[
            "One TXT value was found",
            "it belongs to the other authorization in this order. Both values must be present together",
        ],
        &[],
    );
}

#[test]
fn d19_name_entered_twice() {
    let doubled = "_acme-challenge.customer.example.customer.example";
    let world = World::dns();
    let digest = world.digest();
    let played = world.txt(doubled, &[&digest]).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Record, Retry::Fix);
    says(
        &played,
        &[
            "No TXT was found at _acme-challenge.customer.example",
            "One exists at _acme-challenge.customer.example.customer.example: most panels add the domain themselves",
        ],
        &[],
    );
    assert!(names_asked(&played, P).contains(doubled));

    let world = World::dns();
    let digest = world.digest();
    let good = world.txt(TXT, &[&digest]).play();
    passed(&good, "5/5", None);
    assert!(ALL.iter().all(|place| !names_asked(&good, *place).contains(doubled)), "no hint for a pass");
}

#[test]
fn d20_txt_shapes() {
    let digest = World::dns().digest();
    let (front, back) = digest.split_at(20);
    let swapped: String = digest
        .chars()
        .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    passed(&World::dns().txt_strings(TXT, &[vec![front, back]]).play(), "5/5", None);
    passed(&World::dns().txt(TXT, &["an old value", &digest]).play(), "5/5", None);
    let old: Vec<String> = (0..60).map(|n| format!("old-value-{n:033}")).collect();
    let many: Vec<&str> = old.iter().map(String::as_str).chain([digest.as_str()]).collect();
    let played = World::dns().txt(TXT, &many).play();
    passed(&played, "5/5", None);
    let Some(ControlObservation::Record(lookup)) = &played.observation(P).control else { panic!("a TXT lookup") };
    assert_eq!((lookup.transport, lookup.tcp_because), (DnsTransport::Tcp, Some(TcpReason::Truncated)));
    for (value, hint) in [
        (format!("\"{digest}\""), "within literal quotation marks"),
        (format!("{digest} "), "white space around it"),
        (swapped, "upper and lower case matter"),
    ] {
        let played = World::dns().txt(TXT, &[&value]).play();
        refused(&played, "-", ProblemKind::Unauthorized, Blame::Record, Retry::Fix);
        says(&played, &["One TXT value was found", hint], &[]);
    }
}

#[test]
fn d22_wildcard_swallows_the_challenge_name() {
    let played =
        World::dns().cname("*.customer.example", "lb.host.example").a("lb.host.example", &["192.0.2.80"]).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Record, Retry::Fix);
    says(
        &played,
        &[
            "_acme-challenge.customer.example is answered by the wildcard *.customer.example → lb.host.example, which has no TXT",
            "Create the TXT record explicitly; it takes precedence over the wildcard",
            SIBLING,
        ],
        &[],
    );
    let explicit = World::dns().cname(TXT, "u1.auth.example").a("u1.auth.example", &["192.0.2.81"]).play();
    says(&explicit, &["_acme-challenge.customer.example → u1.auth.example"], &["wildcard"]);
}

// F. Name-server behaviour --------------------------------------------------------------------------------

#[test]
fn d21_a_challenge_host_that_denies_its_own_name() {
    let world = World::dns().cname(TXT, "u1.auth.example");
    let digest = world.digest();
    let denies = world
        .txt("u1.auth.example", &[&digest])
        .quirk("u1.auth.example", Some(RecordType::A), Quirk::Rcode(3, ""))
        .quirk("u1.auth.example", Some(RecordType::Ns), Quirk::Rcode(3, ""))
        .quirk("auth.example", None, Quirk::Rcode(3, ""));
    // The name is asked whole and for TXT alone, so what its server says of other types has no bearing.
    passed(&denies.play(), "5/5", None);
}

#[test]
fn d23_case_is_not_copied() {
    let played = World::http().quirk(WWW, Some(RecordType::A), Quirk::LowersCase).play();
    passed(&played, "5/5", Some(Blame::Perspective));
    says(&played, &["did not copy the case of the query name", "repeat the query over TCP", "198.18.0.53:53"], &[]);
}

#[test]
fn d24_notimp_for_caa_is_a_failure() {
    let played = World::http().quirk("customer.example", Some(RecordType::Caa), Quirk::Rcode(4, "")).play();
    refused(&played, "-", ProblemKind::Dns, Blame::Dns, Retry::Fix);
    says(&played, &["customer.example CAA", "NOTIMP (rcode 4)"], &["SERVFAIL"]);
}

// G. CAA --------------------------------------------------------------------------------------------------

#[test]
fn d27_failure_at_the_top_level_domain() {
    let played = World::http().quirk("example", Some(RecordType::Caa), Quirk::Rcode(2, "")).play();
    refused(&played, "-", ProblemKind::Dns, Blame::Parent, Retry::Now);
    says(
        &played,
        &["top-level domain", "nothing is wrong with the domain itself", "trying again is safe"],
        &["malfunction"],
    );
}

#[test]
fn d28_inherited_record() {
    let played = World::caa_of("a.b.customer.example").caa("customer.example", &[(0, "issue", "other.example")]).play();
    refused(&played, "-", ProblemKind::Caa, Blame::Policy, Retry::Fix);
    says(
        &played,
        &[
            "CAA at customer.example (inherited by a.b.customer.example) allows only other.example",
            "0 issue \"other.example\"",
            "publish a CAA record lower down",
        ],
        &[],
    );
}

#[test]
fn d29a_caa_at_the_alias_target() {
    let played =
        World::caa_of(WWW).cname(WWW, "t.cdn.example").caa("t.cdn.example", &[(0, "issue", "other.example")]).play();
    refused(&played, "-", ProblemKind::Caa, Blame::Policy, Retry::Fix);
    says(
        &played,
        &[
            "CAA at t.cdn.example (alias target of www.customer.example)",
            "allows only other.example",
            "www.customer.example → t.cdn.example",
        ],
        &[],
    );
}

#[test]
fn d29b_parents_of_the_target_are_not_searched() {
    let played = World::caa_of(WWW)
        .cname(WWW, "t.cdn.example")
        .a("t.cdn.example", &["192.0.2.80"])
        .caa("cdn.example", &[(0, "issue", "other.example")])
        .play();
    passed(&played, "5/5", None);
    assert!(!names_asked(&played, P).contains("cdn.example"));
}

#[test]
fn d29c_the_climb_goes_on_at_the_name_itself() {
    let played = World::caa_of(WWW)
        .cname(WWW, "t.cdn.example")
        .a("t.cdn.example", &["192.0.2.80"])
        .caa("cdn.example", &[(0, "issue", "ca.example")])
        .caa("customer.example", &[(0, "issue", "other.example")])
        .play();
    refused(&played, "-", ProblemKind::Caa, Blame::Policy, Retry::Fix);
    says(&played, &["CAA at customer.example (inherited by www.customer.example)"], &["cdn.example"]);
}

#[test]
fn d29d_alias_loop() {
    let played = World::caa_of(WWW).cname(WWW, "b.customer.example").cname("b.customer.example", WWW).play();
    refused(&played, "-", ProblemKind::Dns, Blame::Record, Retry::Fix);
    says(&played, &["alias loop: www.customer.example → b.customer.example → www.customer.example"], &[]);
    assert!(played.questions.len() <= 3, "bounded work");
}

#[test]
fn d30_quotation_marks_and_final_dots_in_the_value() {
    for (value, wanted) in [
        ("'ca.example'", &["'ca.example'", "including the quote marks"][..]),
        ("\u{201c}ca.example\u{201d}", &["\\xe2\\x80\\x9cca.example\\xe2\\x80\\x9d", "including the quote marks"]),
        ("ca.example.", &["ca.example.", "including the final dot"]),
    ] {
        let played = World::caa_of("customer.example").caa("customer.example", &[(0, "issue", value)]).play();
        refused(&played, "-", ProblemKind::Caa, Blame::Record, Retry::Fix);
        says(&played, wanted, &[]);
    }
}

#[test]
fn d31_critical_flag() {
    for (flags, tag) in [(128, "tbs"), (130, "tbs"), (1, "tbs")] {
        let played = World::caa_of("customer.example").caa("customer.example", &[(flags, tag, "x")]).play();
        refused(&played, "-", ProblemKind::Caa, Blame::Policy, Retry::Fix);
        says(&played, &["'tbs'", &format!("flag value {flags}")], &[]);
        if flags == 1 {
            says(&played, &["by policy"], &[]);
        }
    }
    for (flags, tag, value) in [
        (0, "tbs", "x"),
        (128, "iodef", "mailto:a@customer.example"),
        (128, "issuemail", "other.example"),
        (128, "issuevmc", "other.example"),
    ] {
        passed(&World::caa_of("customer.example").caa("customer.example", &[(flags, tag, value)]).play(), "5/5", None);
    }
}

#[test]
fn d32_wildcard_rules() {
    let issue = (0, "issue", "ca.example");
    let none = (0, "issue", ";");
    let wild = (0, "issuewild", "ca.example");
    let no_wild = (0, "issuewild", ";");
    for (identifier, records, permitted) in [
        ("customer.example", vec![issue, no_wild], true),
        ("*.customer.example", vec![issue, no_wild], false),
        ("customer.example", vec![wild], true),
        ("*.customer.example", vec![wild], true),
        ("customer.example", vec![none, wild], false),
        ("*.customer.example", vec![none, wild], true),
    ] {
        let played = World::caa_of(identifier).caa("customer.example", &records).play();
        assert_eq!(played.passed(), permitted, "{identifier} {records:?}: {}", played.message());
        if !permitted {
            refused(&played, "-", ProblemKind::Caa, Blame::Policy, Retry::Fix);
        }
        if identifier.starts_with('*') && !permitted {
            says(&played, &["*.customer.example is governed by issuewild", "issuewild ';' (no CA)"], &[]);
        }
    }
}

/// 1001 records, the last of which permits.
fn huge() -> World {
    let others: Vec<String> = (0..1000).map(|n| format!("o{n}.example")).collect();
    let mut records: Vec<(u8, &str, &str)> = others.iter().map(|other| (0, "issue", other.as_str())).collect();
    records.push((0, "issue", "ca.example"));
    World::caa_of("customer.example").caa("customer.example", &records)
}

#[test]
fn d33a_all_of_a_huge_set_counts() {
    let played = huge().play();
    passed(&played, "5/5", None);
    let lookup = &played.observation(P).caa[0];
    let DnsOutcome::Answer(set) = &lookup.outcome else { panic!("an answer") };
    assert_eq!((set.rdata.len(), lookup.tcp_because), (1001, Some(TcpReason::Truncated)));
}

#[test]
fn d33b_truncated_and_tcp_refused() {
    // The refusal is our own resolver's: that of a name server shows as SERVFAIL.
    let played = huge().quirk("customer.example", Some(RecordType::Caa), Quirk::TruncatesTcpRefused).play();
    refused(&played, "-", ProblemKind::Dns, Blame::Perspective, Retry::Now);
    says(
        &played,
        &[
            "needs TCP, and the TCP connection to our resolver was refused",
            "198.18.0.53:53",
            "over UDP, once, and over TCP",
        ],
        &["allows only"],
    );
    assert!(matches!(played.observation(P).caa[0].outcome, DnsOutcome::Failed(DnsFailure::Tcp(_))));
}

#[test]
fn d33c_cut_without_tc() {
    let caa = Some(RecordType::Caa);
    let played = huge().quirk("customer.example", caa, Quirk::Cuts(512)).play();
    passed(&played, "5/5", Some(Blame::Perspective));
    says(&played, &["could not be read to its end"], &[]);
    let refused_tcp = huge().quirk("customer.example", caa, Quirk::CutsTcpRefused(512)).play();
    refused(&refused_tcp, "-", ProblemKind::Dns, Blame::Perspective, Retry::Now);
    let tcp_works = huge().quirk("customer.example", caa, Quirk::Truncates).play();
    passed(&tcp_works, "5/5", None);
}

// J. Request and engine -----------------------------------------------------------------------------------

#[test]
fn d39_name_hygiene_before_any_packet() {
    let long_label = format!("{}.customer.example", "a".repeat(64));
    let long_name = format!("{}.customer.example", vec!["a".repeat(59); 4].join("."));
    assert_eq!(long_name.len(), 256);
    for (identifier, method, wanted, problem) in [
        ("bücher.example", "http-01", "write xn--bcher-kva.example", ProblemKind::RejectedIdentifier),
        ("xn--a.example", "http-01", "does not survive", ProblemKind::RejectedIdentifier),
        ("foo_bar.customer.example", "http-01", "not allowed in a certificate", ProblemKind::RejectedIdentifier),
        ("customer.example.", "http-01", "ends in a dot", ProblemKind::RejectedIdentifier),
        ("com", "dns-01", "public suffix", ProblemKind::RejectedIdentifier),
        ("co.uk", "dns-01", "public suffix", ProblemKind::RejectedIdentifier),
        (&long_label, "dns-01", "64 octets", ProblemKind::RejectedIdentifier),
        (&long_name, "dns-01", "256 octets", ProblemKind::RejectedIdentifier),
        ("*.customer.example", "http-01", "cannot validate the wildcard", ProblemKind::Malformed),
        ("*.customer.example", "tls-alpn-01", "cannot validate the wildcard", ProblemKind::Malformed),
        ("customer.example", "tls-sni-01", "not a method offered", ProblemKind::Malformed),
    ] {
        let error = CheckRequest::parse(
            raw(identifier, method),
            "case",
            &filter().into(),
            "2026-11-25T12:00:00Z".parse().expect("an instant"),
        )
        .expect_err(identifier);
        assert!(error.to_string().contains(wanted), "{identifier}: {error}");
        assert_eq!(error.problem(), problem, "{identifier}");
    }
    let played = World::new(raw("192.0.2.7", "http-01")).web("192.0.2.7", Web::right()).play();
    passed(&played, "5/5", None);
    assert!(played.questions.is_empty(), "no CAA for an address");
}

#[test]
fn d40_enough_perspectives_in_too_few_regions() {
    let rirs = [Rir::RipeNcc, Rir::Arin, Rir::Arin, Rir::Arin, Rir::Arin, Rir::RipeNcc];
    let played = World::http().rirs(rirs).from(&[R5]).ends_as(PerspectiveState::TimedOut).play();
    refused(&played, "4/5", ProblemKind::ServerInternal, Blame::Perspective, Retry::Now);
    says(&played, &["4 of 5 remotes agree, but all 4 are in the ARIN region; two regions are required", "jnb1"], &[]);
}

#[test]
fn d40_with_a_remote_that_is_filtered() {
    let rirs = [Rir::RipeNcc, Rir::Arin, Rir::Arin, Rir::Arin, Rir::Arin, Rir::RipeNcc];
    let played = World::http().rirs(rirs).from(&[R5]).web("192.0.2.10", Web::SilentSyn).play();
    refused(&played, "4/5", ProblemKind::Connection, Blame::Perspective, Retry::Now);
    says(&played, &["4 of 5 remotes agree, but all 4 are in the ARIN region", "192.0.2.10:80 never answered"], &[]);
}

// What the other cases do not show ----------------------------------------------------------------------

#[test]
fn control_leads_and_caa_is_mentioned_too() {
    let played = answering(Web::body(404, "", "")).caa("customer.example", &[(0, "issue", "other.example")]).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(&played, &["returned 404", "Besides, CAA at customer.example", "other.example"], &[]);
}

#[test]
fn silent_perspectives_are_our_fault() {
    let played = World::http().from(&[R1, R2]).ends_as(PerspectiveState::TimedOut).play();
    refused(&played, "3/5", ProblemKind::ServerInternal, Blame::Perspective, Retry::Now);
    says(&played, &["nyc1 (ARIN) and waw1 (RIPE NCC)", "our perspective did not answer in time"], &["192.0.2.10"]);
}

#[test]
fn text_from_the_network_is_escaped() {
    let played = answering(Web::body(403, "Server: \x1b[31m\r\n", "\x1b]0;owned\x07<html>")).play();
    says(&played, &["\\x1b"], &["\x1b"]);
    assert!(challenge_path().contains(TOKEN));
}

#[test]
fn caa_that_differs_by_place() {
    let played = World::caa_of(WWW).from(&[R3, R4]).caa("customer.example", &[(0, "issue", "other.example")]).play();
    refused(&played, "3/5", ProblemKind::Caa, Blame::Dns, Retry::Later);
    says(&played, &["CAA differs", "sin1 (APNIC) and gru1 (LACNIC)", "other.example", "no CAA"], &[]);
}

fn shaking_hands(certificate: Vec<u8>, protocols: &[&[u8]]) -> World {
    let server = tls_server::server(certificate, protocols, BOTH);
    World::new(raw(WWW, "tls-alpn-01")).a(WWW, &["203.0.113.7"]).web_on(443, "203.0.113.7", Web::right_in_tls(server))
}

#[test]
fn d37_tls_that_ends_at_a_load_balancer() {
    let names = tls_server::san(&[tls_server::dns(WWW)]);
    let played = shaking_hands(Recipe::plain().extensions([names]).make(), &[]).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Filter, Retry::Fix);
    let wanted = [
        "203.0.113.7:443 completed TLS without agreeing on 'acme-tls/1'",
        "it selected no protocol; certificate subject: 'CN=challenge'",
        "Something in front of the ACME client terminates TLS; use http-01 or dns-01.",
    ];
    says(&played, &wanted, &["digest"]);
}

#[test]
fn d38_the_right_protocol_with_another_digest() {
    let acme: &[&[u8]] = &[b"acme-tls/1"];
    let right = Sha256::digest(key_authorization()).to_vec();
    passed(
        &shaking_hands(Recipe::challenge(tls_server::dns("WWW.customer.EXAMPLE"), &right).make(), acme).play(),
        "5/5",
        None,
    );
    let played = shaking_hands(Recipe::challenge(tls_server::dns(WWW), &[1; 32]).make(), acme).play();
    refused(&played, "-", ProblemKind::Unauthorized, Blame::Web, Retry::Fix);
    says(&played, &["digest differs"], &["346c0aa1"]);
}
