//! Arbitrary octets as the target of a redirect.
//!
//! Invariants: what is followed is http or https, on port 80 or 443, without user-info or fragment, within bounds,
//! by its own words and not only by the reader's; it is the same URL from wherever it is named, and its own target
//! leads to itself; its request has the five lines it should have, and nothing of the target but path and query.

use parallax_validation::{
    base::limits::{NAME_OCTETS_MAX, URL_BYTES_MAX},
    lookup::http::redirect::Target,
    observation::RedirectReason,
    plan::Host,
};

use crate::feed::Feed;

/// Where a redirect may be found.
pub const BASES: [&str; 4] =
    ["/.well-known/acme-challenge/t", "https://b.example/a/b?c", "http://8.8.8.8:443/", "http://[2600::1]/x/"];

fn first() -> Target {
    Target::first(&Host::Name("www.customer.example".to_owned()), BASES[0], false).expect("a good URL")
}

fn base(choice: u8) -> Target {
    match usize::from(choice) % BASES.len() {
        0 => first(),
        other => first().redirected(BASES[other].as_bytes(), 1).expect("a good URL"),
    }
}

/// Scheme, authority, and the rest, read as plainly as can be.
fn parts(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    (scheme, &rest[..end], &rest[end..])
}

fn port(scheme: &str, authority: &str) -> u16 {
    let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
    match after_host.rsplit_once(':') {
        Some((_, port)) => port.parse().expect("a port"),
        None if scheme == "https" => 443,
        None => 80,
    }
}

fn check(target: &Target) {
    let url = target.as_str();
    assert!(url.len() <= URL_BYTES_MAX && url.bytes().all(|b| (0x21..=0x7e).contains(&b)), "{url:?}");
    let (scheme, authority, rest) = parts(url);
    assert!(matches!(scheme, "http" | "https") && target.is_https() == (scheme == "https"), "{url}");
    assert!(!authority.is_empty() && !authority.contains('@'), "{url}");
    assert!(rest.starts_with('/') && !rest.contains('#'), "{url}");
    assert!(matches!(target.port(), 80 | 443) && target.port() == port(scheme, authority), "{url}");
    match target.host() {
        Host::Name(name) => {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
            assert!(!name.is_empty() && name.len() <= NAME_OCTETS_MAX && name.bytes().all(plain), "{name}");
            assert!(authority.starts_with(name.as_str()), "{name}, {url}");
            assert!(name.parse::<std::net::IpAddr>().is_err(), "{name} is an address");
        }
        Host::Ip(address) => {
            let host = authority.trim_start_matches('[').split(']').next().unwrap_or_default();
            let host = if address.is_ipv4() { host.split(':').next().unwrap_or_default() } else { host };
            assert_eq!(host.parse(), Ok(*address), "{url}");
        }
    }
    let request = String::from_utf8(target.request()).expect("ASCII");
    let lines: Vec<&str> = request.split("\r\n").collect();
    let [line, host, agent, "Accept: */*", "Connection: close", "", ""] = lines[..] else { panic!("{request:?}") };
    assert_eq!((line, host), (format!("GET {rest} HTTP/1.1").as_str(), format!("Host: {authority}").as_str()));
    assert!(
        agent.starts_with("User-Agent: parallax/") && !request.contains(['\n', '\r', '\0'])
            || request.matches('\n').count() == 6
    );
}

/// Follows one redirect, and what it leads to.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let (from, number) = (base(feed.octet()), feed.octet());
    let location = feed.0;
    match from.redirected(location, number) {
        Ok(target) => {
            check(&target);
            for base in [&target, &from, &first()] {
                let again = base.redirected(target.as_str().as_bytes(), number);
                assert_eq!(again.as_ref(), Ok(&target), "not itself: {}", target.as_str());
            }
        }
        Err(refusal) => {
            assert_eq!(
                (refusal.redirect, refusal.target.as_slice()),
                (number, &location[..location.len().min(URL_BYTES_MAX)])
            );
            assert_ne!(refusal.reason, RedirectReason::Loop, "that is not for a target to say");
        }
    }
}
