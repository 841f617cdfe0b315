//! Fetching for http-01 to the letter (req D15–D17, RFC 9112): addresses and their turns, time and pace, redirects
//! and loops, each against the real core in virtual time (see `world`).

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "this program uses a part of it")]
mod world;

use std::net::SocketAddr;

use parallax_validation::{
    base::{
        address::AddressFilter,
        limits::{PACE_GRACE_MS, PACE_OCTETS_PER_SECOND_MIN},
    },
    explain::{Blame, Retry},
    observation::{
        ControlObservation, HttpFailure, HttpObservation, HttpOutcome, NetworkError, TlsFailure, TlsTryEnd, TryEnd,
        UnusedReason,
    },
    plan::PlanLimits,
    problem::ProblemKind,
};
use world::{
    P, Played, Web, World, challenge_path, key_authorization, raw, response,
    tls_server::{self, BOTH, Recipe},
};

const WWW: &str = "www.customer.example";
const V4: [&str; 3] = ["192.0.2.10", "192.0.2.11", "192.0.2.12"];
const V6: [&str; 3] = ["2001:db8::10", "2001:db8::11", "2001:db8::12"];

fn fetched(played: &Played) -> &HttpObservation {
    match &played.observation(P).control {
        Some(ControlObservation::Http(fetch)) => fetch,
        other => panic!("{other:?}"),
    }
}

/// Addresses the primary connected to, in order.
fn tried(played: &Played) -> Vec<String> {
    let primary = played.connections.iter().filter(|(place, _)| *place == P);
    primary.map(|(_, at)| at.ip().to_string()).collect()
}

/// Where the first `dead` addresses of the order are as told, and the next has the right file.
fn host(order: &[&str], dead: &[Web]) -> World {
    let (v4, v6): (Vec<&str>, Vec<&str>) = order.iter().partition(|a| a.parse::<std::net::Ipv4Addr>().is_ok());
    let mut world = World::new(raw(WWW, "http-01"));
    if !v4.is_empty() {
        world = world.a(WWW, &v4);
    }
    if !v6.is_empty() {
        world = world.aaaa(WWW, &v6);
    }
    for (address, web) in order.iter().zip(dead) {
        world = world.web(address, web.clone());
    }
    order[dead.len()..].iter().fold(world, |world, address| world.web(address, Web::right()))
}

// Addresses ---------------------------------------------------------------------------------------------

#[test]
fn d17_a_second_address_of_a_family_has_its_turn_after_the_first_of_both() {
    let order = [V6[0], V4[0], V6[1], V4[1]];
    for (dead, warns) in [
        (0, ""),
        (1, "Fix or remove the AAAA record."),
        (2, "Fix or remove the A and AAAA records."),
        (3, "Fix or remove the A and AAAA records."),
    ] {
        for web in [Web::Refuses, Web::ResetsAfterRequest, Web::SilentSyn] {
            let played = host(&order, &vec![web; dead]).play();
            assert!(played.passed(), "{}", played.message());
            assert_eq!(tried(&played), &order[..=dead]);
            assert!(played.message().contains(warns), "{}", played.message());
            let hop = &fetched(&played).hops[0];
            let unused: Vec<_> = hop.unused.iter().map(|u| (u.address.to_string(), u.reason.clone())).collect();
            let expected: Vec<_> =
                order[dead + 1..].iter().map(|a| ((*a).to_owned(), UnusedReason::OtherAnswered)).collect();
            assert_eq!(unused, expected, "in the order of their turns");
        }
    }
    let played = host(&[V4[0], V4[1]], &[Web::SilentSyn]).play();
    assert!(played.passed(), "{}", played.message());
    assert!(played.message().contains("over IPv4 (192.0.2.11"), "{}", played.message());
    assert!(
        played.message().contains("after IPv4 (192.0.2.10) did not answer within 3 s. Fix or remove the A record.")
    );
}

#[test]
fn d17_no_third_address_of_a_family_is_tried() {
    // Which are drawn of three is known here.
    let order = [V6[2], V4[2], V6[0], V4[0], V6[1], V4[1]];
    let world = order.iter().fold(World::new(raw(WWW, "http-01")).a(WWW, &V4).aaaa(WWW, &V6), |world, address| {
        world.web(address, Web::Refuses)
    });
    let played = world.play();
    assert!(!played.passed());
    assert_eq!(tried(&played), &order[..4]);
    let fetch = fetched(&played);
    assert_eq!(fetch.outcome, HttpOutcome::Failed(HttpFailure::NotAnswered));
    let drawn: Vec<_> = fetch.hops[0].unused.iter().map(|u| (u.address.to_string(), &u.reason)).collect();
    let others = UnusedReason::OtherDrawn;
    assert_eq!(drawn, [(V6[1].to_owned(), &others), (V4[1].to_owned(), &others)]);
}

#[test]
fn d17_an_answer_is_final_whatever_other_addresses_there_are() {
    let order = [V6[0], V4[0], V6[1], V4[1]];
    let played = host(&order, &[Web::body(404, "", "no")]).play();
    assert!(!played.passed());
    assert_eq!(tried(&played), &order[..1]);
    let words = "The IPv4 addresses 192.0.2.10 and 192.0.2.11 were not tried because IPv6 answered.";
    assert!(played.message().contains(words), "{}", played.message());
}

/// The first of each family have the time they had without the others; what is left is for these.
#[test]
fn d17_further_addresses_get_what_time_is_left() {
    let limits = PlanLimits { task_deadline_ms: 8_000, dns_try_ms: 1_000, ..Default::default() };
    let order = [V6[0], V4[0], V6[1], V4[1]];
    let played = host(&order, &vec![Web::SilentSyn; 4]).limits(limits).play();
    assert!(!played.passed());
    assert_eq!(tried(&played), &order[..4]);
    let fetch = fetched(&played);
    let waited: Vec<u64> = fetch.hops[0].tries.iter().map(|t| t.elapsed_us / 1_000).collect();
    assert_eq!((waited[0], waited[1]), (3_000, 3_000), "{waited:?}");
    assert!(waited[2] > 900 && waited[3] > 900 && waited.iter().sum::<u64>() <= 8_000, "{waited:?}");

    let limits = PlanLimits { task_deadline_ms: 6_000, dns_try_ms: 1_000, ..Default::default() };
    let played = host(&order, &vec![Web::SilentSyn; 4]).limits(limits).play();
    assert_eq!(tried(&played), &order[..2]);
    let unused: Vec<_> = fetched(&played).hops[0].unused.iter().map(|u| u.reason.clone()).collect();
    assert_eq!(unused, [UnusedReason::NoTurn, UnusedReason::NoTurn]);
}

#[test]
fn d17_every_hop_is_resolved_and_falls_back_by_itself() {
    let world = (1..4).fold(World::http().web("192.0.2.10", Web::redirect(302, "http://h1.example/t")), |world, n| {
        let next = if n == 3 { Web::right() } else { Web::redirect(307, &format!("http://h{}.example/t", n + 1)) };
        let name = format!("h{n}.example");
        let (dead, good) = (format!("2001:db8::a{n}"), format!("198.51.100.{n}"));
        world.a(&name, &[&good]).aaaa(&name, &[&dead]).web(&dead, Web::Refuses).web(&good, next)
    });
    let played = world.play();
    assert!(played.passed(), "{}", played.message());
    let fetch = fetched(&played);
    assert_eq!(fetch.hops.len(), 4);
    for hop in &fetch.hops[1..] {
        assert_eq!((hop.resolution.len(), hop.tries.len()), (2, 2), "{hop:?}");
        assert_eq!(hop.tries[0].end, TryEnd::NotConnected(NetworkError::Refused));
    }
}

#[test]
fn d17_the_filter_stands_before_every_connection() {
    let other = "other.example";
    for (addresses, block) in
        [("10.1.2.3", "10.0.0.0/8"), ("169.254.169.254", "169.254.0.0/16"), ("127.0.0.1", "127.0.0.0/8")]
    {
        let played =
            World::http().web("192.0.2.10", Web::redirect(301, "http://other.example/t")).a(other, &[addresses]).play();
        assert!(!played.passed());
        assert_eq!(tried(&played), ["192.0.2.10"]);
        assert!(played.message().contains(block), "{}", played.message());
    }
    // What may be connected to is used, the rest is left out.
    let played = World::http()
        .web("192.0.2.10", Web::redirect(301, "http://other.example/t"))
        .a(other, &["10.1.2.3", "198.51.100.7"])
        .aaaa(other, &["::1", "64:ff9b::c000:20a"])
        .web("198.51.100.7", Web::right())
        .play();
    assert!(played.passed(), "{}", played.message());
    assert_eq!(fetched(&played).hops[1].unused.len(), 3);
    assert!(AddressFilter::allowing(Vec::new()).forbids("64:ff9b::c000:20a".parse().unwrap()).is_some());
}

/// tls-alpn-01 takes its addresses from the same place.
#[test]
fn d20_tls_alpn_01_tries_a_second_address_of_a_family_too() {
    let digest = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(key_authorization())).to_vec();
    let server = tls_server::server(Recipe::challenge(tls_server::dns(WWW), &digest).make(), &[b"acme-tls/1"], BOTH);
    let right = Web::SaysInTls(server, std::sync::Arc::new(|_, _| panic!("nothing is asked")));
    let world = World::new(raw(WWW, "tls-alpn-01")).a(WWW, &V4).aaaa(WWW, &V6);
    let alert = Web::Octets(vec![21, 3, 3, 0, 2, 2, 80]);
    let at = |world: World, address: &str, web: &Web| world.web_on(443, address, web.clone());
    // Which are drawn of three is known here.
    let world = at(at(at(world, V6[2], &Web::Refuses), V4[2], &alert), V6[0], &Web::ResetsAfterRequest);
    let played = at(world, V4[0], &right).play();
    assert!(played.passed(), "{}", played.message());
    assert_eq!(tried(&played), [V6[2], V4[2], V6[0], V4[0]]);
    assert!(played.message().contains("Fix or remove the A and AAAA records."), "{}", played.message());
    let Some(ControlObservation::Tls(probe)) = &played.observation(P).control else { panic!("a probe") };
    let drawn: Vec<_> = probe.unused.iter().map(|u| u.reason.clone()).collect();
    assert_eq!(drawn, [UnusedReason::OtherDrawn, UnusedReason::OtherDrawn]);
}

// Time --------------------------------------------------------------------------------------------------

fn slow_limits() -> PlanLimits {
    PlanLimits { task_deadline_ms: 60_000, http_response_ms: 50_000, ..PlanLimits::default() }
}

fn answering(web: Web) -> World {
    World::http().web("192.0.2.10", web).limits(slow_limits())
}

#[test]
fn d17_a_response_that_drips_is_given_up_soon() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    for (web, octets) in [
        (Web::drips(900, [b'H'; 60]), 3),
        (Web::drips(500, [head.as_slice(), &[b'x'; 100]].concat()), 5),
        // A whole head, and then an octet now and then.
        (Web::Parts((0..20).map(|n| (n * 1_000, if n == 0 { head.to_vec() } else { b"x".to_vec() })).collect()), 21),
    ] {
        let played = answering(web).play();
        let fetch = fetched(&played);
        let end = &fetch.hops[0].tries[0];
        assert_eq!(fetch.outcome, HttpOutcome::Failed(HttpFailure::TooSlow), "{end:?}");
        assert_eq!((end.end, end.received_bytes), (TryEnd::Answered, octets));
        assert!(end.elapsed_us <= 1_000 * (PACE_GRACE_MS + 1_000), "{end:?}");
        let explained = played.explanation();
        let what = (explained.problem, explained.blame, explained.retry);
        assert_eq!(what, (Some(ProblemKind::Connection), Some(Blame::Web), Some(Retry::Later)));
        for words in ["192.0.2.10:80 began a response and sent it too slowly", "From 2 s after", "64 octets a second"] {
            assert!(played.message().contains(words), "{}", played.message());
        }
    }
}

#[test]
fn d17_a_response_that_is_slow_and_keeps_the_pace_is_read() {
    let body = key_authorization();
    let whole = response(200, "", body.as_bytes());
    // 100 octets a second.
    let played = answering(Web::drips(10, &whole)).play();
    assert!(played.passed(), "{}", played.message());
    // Silence before the first octet is no slowness.
    let played = answering(Web::Parts([(40_000, whole.clone())].into())).play();
    assert!(played.passed(), "{}", played.message());
    // A page that is made after its head was sent: the head buys the time.
    let head = format!("HTTP/1.1 200 OK\r\nServer: {}\r\nContent-Length: {}\r\n\r\n", "x".repeat(300), body.len());
    let bought_ms = head.len() as u64 * 1_000 / PACE_OCTETS_PER_SECOND_MIN;
    assert!(bought_ms > 5_000);
    let parts = [(10, head.into_bytes()), (5_000, body.into_bytes())];
    let played = answering(Web::Parts(parts.into())).play();
    assert!(played.passed(), "{}", played.message());
}

#[test]
fn d17_each_phase_has_its_limit_and_all_have_one_deadline() {
    let silent = World::http().web("192.0.2.10", Web::SilentAfterRequest).play();
    assert_eq!(fetched(&silent).hops[0].tries[0].elapsed_us, 5_015_000, "http_response_ms after connecting");
    let pace = |octets: usize| Web::drips(12, vec![b'0'; octets]);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let parts = std::iter::once((1, head)).chain((1..2_000).map(|n| (n * 12, b"0".to_vec())));
    let endless = World::http().web("192.0.2.10", Web::Parts(parts.collect())).play();
    let fetch = fetched(&endless);
    assert_eq!(
        fetch.outcome,
        HttpOutcome::Failed(HttpFailure::BrokenOff(NetworkError::Timeout)),
        "no faster than that"
    );
    assert_eq!(fetch.hops[0].tries[0].elapsed_us, 5_015_000);
    let played = World::http().web("192.0.2.10", pace(3_000)).play();
    assert!(!played.passed() && played.observation(P).elapsed_us < 6_000_000);
}

#[test]
fn d17_a_tls_handshake_that_drips_is_given_up_soon() {
    let record = [&[0x16, 3, 3, 0x20, 0][..], &[0; 100]].concat();
    let played = World::http()
        .limits(slow_limits())
        .web("192.0.2.10", Web::redirect(301, "https://www.customer.example/t"))
        .web_on(443, "192.0.2.10", Web::drips(500, &record))
        .play();
    assert_eq!(fetched(&played).outcome, HttpOutcome::Failed(HttpFailure::Tls(TlsFailure::TooSlow)));
    assert!(played.message().contains("began a TLS handshake and went on too slowly"), "{}", played.message());
    assert!(played.observation(P).elapsed_us < 4_000_000);

    let played = World::new(raw(WWW, "tls-alpn-01"))
        .limits(slow_limits())
        .a(WWW, &["192.0.2.10"])
        .web_on(443, "192.0.2.10", Web::drips(500, &record))
        .play();
    let Some(ControlObservation::Tls(probe)) = &played.observation(P).control else { panic!("a probe") };
    assert_eq!(probe.tries[0].end, TlsTryEnd::Failed(TlsFailure::TooSlow));
    assert!(played.message().contains("went on too slowly (after 2 s"), "{}", played.message());
}

// Redirects ---------------------------------------------------------------------------------------------

#[test]
fn d16_a_loop_is_the_same_url_redirecting_at_the_same_address() {
    // Only the address that redirected counts: the other one may have moved on.
    let itself = format!("http://{WWW}{}", challenge_path());
    let world = World::http().aaaa(WWW, &[V6[0]]).web(V6[0], Web::SilentSyn);
    let played = world.web("192.0.2.10", Web::redirect(302, &itself)).play();
    assert!(played.message().contains("a redirect loop"), "{}", played.message());
    assert_eq!(tried(&played), [V6[0], "192.0.2.10", V6[0]], "IPv6 never redirected, so it is asked again");
    let fetch = fetched(&played);
    assert_eq!(fetch.hops.len(), 2);
    // A fragment makes no other request.
    let played = World::http().web("192.0.2.10", Web::redirect(302, &format!("{itself}#again"))).play();
    assert!(played.message().contains("a redirect loop"), "{}", played.message());
    assert_eq!(tried(&played).len(), 1);
    // Over two URLs.
    let there =
        Web::says(|_, path| response(302, &format!("Location: {}\r\n", if path == "/b" { "/a" } else { "/b" }), b""));
    let played = World::http().web("192.0.2.10", there).play();
    assert!(played.message().contains("redirect 3 leads back to a URL"), "{}", played.message());
}

#[test]
fn d16_a_location_that_is_given_twice_must_be_one() {
    let same = Web::body(302, "Location: http://b.example/\r\nLocation: http://b.example/\r\n", "");
    let world = || World::http().a("b.example", &["198.51.100.7"]).web("198.51.100.7", Web::right());
    let played = world().web("192.0.2.10", same).play();
    assert!(played.passed(), "{}", played.message());
    let two = Web::body(302, "Location: http://b.example/\r\nLocation: http://c.example/\r\n", "");
    let played = world().web("192.0.2.10", two).play();
    assert!(!played.passed() && tried(&played).len() == 1);
    assert!(played.message().contains("two different Location fields"), "{}", played.message());
}

#[test]
fn d16_d17_requests_carry_nothing_but_what_they_need() {
    let first = Web::body(307, "Location: https://@b.example/t#part\r\nSet-Cookie: a=b\r\n", "");
    let server = tls_server::server(Recipe::plain().make(), &[b"http/1.1"], BOTH);
    let played = World::http()
        .web("192.0.2.10", first)
        .a("b.example", &["198.51.100.7"])
        .web_on(443, "198.51.100.7", Web::right_in_tls(server))
        .play();
    assert!(played.passed(), "{}", played.message());
    let sent: Vec<&str> = played.requests.iter().filter(|(place, _)| *place == P).map(|(_, r)| r.as_str()).collect();
    let agent = concat!("User-Agent: parallax/", env!("CARGO_PKG_VERSION"));
    let request = |path: &str, host: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{agent}\r\nAccept: */*\r\nConnection: close\r\n\r\n")
    };
    assert_eq!(sent, [request(&challenge_path(), WWW), request("/t", "b.example")]);
}

#[test]
fn d16_user_info_is_refused_and_never_sent() {
    for location in ["http://u:p@b.example/", "http://u@b.example/", "//u@b.example/", "https://:p@b.example/"] {
        let played = World::http().web("192.0.2.10", Web::redirect(301, location)).play();
        assert!(played.message().contains("holds a user name or password"), "{}", played.message());
        assert_eq!(tried(&played).len(), 1);
        assert!(played.requests.iter().all(|(_, request)| !request.contains("Authorization")));
    }
}

// Responses ---------------------------------------------------------------------------------------------

fn answered(octets: &[u8]) -> Played {
    World::http().web("192.0.2.10", Web::Octets(octets.to_vec())).play()
}

#[test]
fn d17_what_is_spoken_instead_of_http_is_named() {
    for (octets, words) in [
        (&[0x15, 3, 1, 0, 2, 2, 70][..], "It speaks TLS on port 80, where plain HTTP/1.1 is expected."),
        (&[0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 128, 0, 4, 0, 1, 0, 0], "It speaks HTTP/2 on port 80"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        (&key_authorization().as_bytes()[..20], "does not start with an HTTP status line"),
    ] {
        let played = answered(octets);
        assert!(played.message().contains(words), "{}", played.message());
        assert_eq!(played.explanation().problem, Some(ProblemKind::Connection));
    }
}

#[test]
fn d17_what_is_shown_of_a_response_is_escaped_and_cut() {
    let nasty = b"\x1b[31m\xff\xfe\x00 %n%s {} \r\n<script>\xe2\x80\xae".repeat(30);
    for octets in [nasty.clone(), response(200, "", &nasty), response(404, "Server: \x1b[2J\x7f\r\n", &nasty)] {
        let played = answered(&octets);
        let message = played.message();
        assert!(message.is_ascii() || message.chars().all(|c| c.is_ascii() || c == '…'), "{message}");
        assert!(message.len() < 1_000 && !message.contains('\x1b'), "{message}");
    }
    let location = format!("http://b.example:81/{}", "%1b\u{7f}".repeat(400));
    let played = World::http().web("192.0.2.10", Web::redirect(302, &location)).play();
    assert!(!played.passed() && played.message().len() < 1_500 && !played.message().contains('\x7f'));
}

#[test]
fn d17_bodies_that_are_encoded_in_other_ways_have_a_hint() {
    let right = key_authorization();
    let wide: Vec<u8> = right.bytes().flat_map(|b| [b, 0]).collect();
    for (fields, body, words) in [
        ("", [&[0xef, 0xbb, 0xbf], right.as_bytes()].concat(), "starts with a byte-order mark"),
        ("", [&[0xff, 0xfe], wide.as_slice()].concat(), "starts with a byte-order mark"),
        ("", wide, "a body in UTF-16"),
        ("Content-Encoding: gzip\r\n", vec![0x1f, 0x8b, 8, 0, 0], "Serve the file without Content-Encoding"),
    ] {
        let played = World::http().web("192.0.2.10", Web::body(200, fields, body)).play();
        assert!(!played.passed() && played.message().contains(words), "{}", played.message());
    }
}

#[test]
fn every_connection_went_to_port_80_or_443() {
    let played = host(&[V6[0], V4[0]], &[Web::Refuses]).play();
    let ports = |at: &SocketAddr| matches!(at.port(), 80 | 443);
    assert!(played.connections.iter().all(|(_, at)| ports(at)));
}
