//! Fetches in words.

use std::net::IpAddr;

use super::{
    Blame, Cause, Kind, Retry, dns,
    text::{address_type, list, quoted, seconds},
    tls,
};
use crate::{
    base::{
        limits::{PACE_GRACE_MS, PACE_OCTETS_PER_SECOND_MIN},
        octets::Octets,
    },
    check::dcv::{http01::BodyFault, website},
    observation::{
        ControlObservation, DnsLookup, DnsOutcome, HttpFailure, HttpHop, HttpObservation, HttpOutcome, HttpTry,
        NetworkError, Observation, RedirectReason, RedirectRefusal, TlsFailure, TryEnd, UnusedReason,
    },
    problem::ProblemKind,
    request::{Challenge, CheckRequest},
};

/// Whether the first URL is one of website-change.
pub(super) fn is_website_change(seen: &HttpObservation) -> bool {
    seen.hops.first().is_some_and(|hop| hop.url.contains(website::FOLDER))
}

/// Where the first URL's file lies.
fn folder(seen: &HttpObservation) -> &'static str {
    if is_website_change(seen) { website::FOLDER } else { CHALLENGE_DIRECTORY }
}

const CHALLENGE_DIRECTORY: &str = "/.well-known/acme-challenge/";
const OPEN_TO_ALL: &str = "to the whole Internet, or use a DNS method.";

/// The connection that decided.
pub(super) fn last_try(seen: &HttpObservation) -> Option<&HttpTry> {
    seen.hops.last().and_then(|hop| hop.tries.last())
}

/// The addresses a hop's host resolved to, sorted.
pub(super) fn addresses(hop: &HttpHop) -> Vec<IpAddr> {
    let tried = hop.tries.iter().map(|t| t.address.ip());
    let mut all: Vec<IpAddr> = tried.chain(hop.unused.iter().map(|unused| unused.address)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn new(problem: ProblemKind, (blame, retry): (Blame, Retry), seen: &HttpObservation, did: String) -> Cause {
    let subject = last_try(seen).map(|t| t.address);
    let mut details = Vec::new();
    let redirects = seen.hops.len().saturating_sub(1);
    if let (true, Some(hop)) = (redirects > 0, seen.hops.last()) {
        details.push(format!("This was after redirect {redirects} of 10, at {}.", shown_url(&hop.url)));
    }
    Cause { problem, blame, retry, kind: Kind::Http, subject, did, details, is_network: false }
}

fn shown_url(url: &str) -> String {
    Octets(url.as_bytes().to_vec()).shown(200)
}

/// `server` and the first octets of the body.
fn evidence(seen: &HttpObservation, body: &Octets) -> String {
    let head = seen.hops.last().and_then(|hop| hop.response.as_ref());
    let mut parts: Vec<String> = Vec::new();
    if let Some(server) = head.and_then(|head| head.server.as_ref()) {
        parts.push(format!("server: {}", server.shown(60)));
    }
    if let Some(encoding) = head.and_then(|head| head.content_encoding.as_ref()) {
        parts.push(format!("content-encoding: {}", encoding.shown(60)));
    }
    if !body.is_empty() {
        parts.push(format!("it begins {}", quoted(body)));
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join("; ")) }
}

fn response_body(seen: &HttpObservation) -> Octets {
    match &seen.outcome {
        HttpOutcome::Response { body, .. } => body.clone(),
        HttpOutcome::Failed(_) => Octets::default(),
    }
}

fn is_html(seen: &HttpObservation, body: &Octets) -> bool {
    let head = seen.hops.last().and_then(|hop| hop.response.as_ref());
    let says_so =
        head.and_then(|head| head.content_type.as_ref()).is_some_and(|t| contains(t.as_slice(), b"text/html"));
    says_so || contains(body.as_slice(), b"<html") || contains(body.as_slice(), b"<!doctype")
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// Firewalls that recognise ACME write this word into their block page (`cases.md` D05).
fn names_acme_application(body: &Octets) -> bool {
    contains(body.as_slice(), b"acme-protocol")
}

const ACME_FIREWALL: &str = "Application-aware firewalls do this; allow the ACME application on it.";

/// A status other than 200.
pub(super) fn wrong_status(seen: &HttpObservation, status: u16, wanted: &str) -> Cause {
    let body = response_body(seen);
    let html = is_html(seen, &body);
    let page = if html { " with an HTML page" } else { "" };
    let did = format!("returned {status}{page}{}", evidence(seen, &body));
    let filter =
        names_acme_application(&body) || matches!(status, 401 | 403 | 406 | 429 | 451) || (html && status == 503);
    let blame = if filter { Blame::Filter } else { Blame::Web };
    let mut cause = new(ProblemKind::Unauthorized, (blame, Retry::Fix), seen, did);
    cause.details.push(match status {
        301 | 302 | 307 | 308 => "It is a redirect without a usable Location.".to_owned(),
        300..=399 => format!("Status {status} is not followed; only 301, 302, 307 and 308 are."),
        _ => format!(
            "Status 200 with {} is required; the body of another status is not looked at.",
            if wanted == KEY_AUTHORIZATION {
                "exactly the key authorization as its body".to_owned()
            } else {
                format!("the {wanted} in its body")
            }
        ),
    });
    if names_acme_application(&body) {
        cause.details.push(format!("The page speaks of 'acme-protocol'. {ACME_FIREWALL}"));
    } else if filter {
        cause.details.push(format!("Exempt {} from bot protection and access rules.", folder(seen)));
    }
    other_family(seen, &mut cause);
    cause
}

/// A body that is not the key authorization.
const KEY_AUTHORIZATION: &str = "key authorization";

/// What the body should hold.
pub(super) fn wanted(request: &CheckRequest) -> &'static str {
    match request.control.as_ref().and_then(Challenge::random_value) {
        Some(_) => "random value",
        None => KEY_AUTHORIZATION,
    }
}

pub(super) fn wrong_body(seen: &HttpObservation, fault: BodyFault, wanted: &str) -> Cause {
    let body = response_body(seen);
    let (too_long, html, other) = (
        format!("a body far longer than a {wanted}"),
        format!("an HTML page instead of the {wanted}"),
        format!("a body that is not the {wanted}"),
    );
    let what = match fault {
        BodyFault::Empty => "an empty body",
        BodyFault::ByteOrderMark => "a body that starts with a byte-order mark",
        BodyFault::Utf16 => "a body in UTF-16",
        BodyFault::Compressed => "a compressed body although none was asked for",
        BodyFault::ValueInUrl => {
            "the right text, but a redirect carried that text in its URL, so the answer proves nothing"
        }
        BodyFault::EchoesToken => {
            "a page that echoes our URL: it contains the token but not the full key authorization"
        }
        BodyFault::TrailingText => "the right text with more text after it",
        BodyFault::OtherThumbprint => "the token with the thumbprint of another account key",
        BodyFault::TooLong => &too_long,
        BodyFault::Html => &html,
        BodyFault::Other => &other,
    };
    let did = format!("returned 200 with {what}{}", evidence(seen, &body));
    let acme = names_acme_application(&body);
    let blame = if acme { Blame::Filter } else { Blame::Web };
    let mut cause = new(ProblemKind::Unauthorized, (blame, Retry::Fix), seen, did);
    let advice = match fault {
        BodyFault::ByteOrderMark => "The file starts with a byte-order mark; save it as plain ASCII without one.",
        BodyFault::Utf16 => "Every other octet of the file is zero; save it as plain ASCII.",
        _ if wanted != KEY_AUTHORIZATION && fault != BodyFault::Compressed => {
            "The body must hold the whole random value, and no URL of the chain may."
        }
        BodyFault::Compressed => "Serve the file without Content-Encoding.",
        BodyFault::TrailingText => "Nothing but white space may follow the key authorization.",
        BodyFault::OtherThumbprint => "The ACME client that wrote the file uses another account.",
        BodyFault::Html => "A refresh written in HTML is no redirect.",
        BodyFault::ValueInUrl => "No URL of the chain may hold the key authorization.",
        BodyFault::Empty | BodyFault::EchoesToken | BodyFault::TooLong | BodyFault::Other => {
            "The body must be exactly the key authorization."
        }
    };
    cause.details.push(if acme {
        format!("The page speaks of 'acme-protocol'. {ACME_FIREWALL}")
    } else {
        advice.to_owned()
    });
    other_family(seen, &mut cause);
    cause
}

fn family(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}

/// An answer over IPv6 is final, although IPv4 might be right (`cases.md` D06).
fn other_family(seen: &HttpObservation, cause: &mut Cause) {
    let (Some(hop), Some(used)) = (seen.hops.last(), last_try(seen).filter(|used| used.address.is_ipv6())) else {
        return;
    };
    let passed_over: Vec<String> = hop
        .unused
        .iter()
        .filter(|unused| unused.reason == UnusedReason::OtherAnswered && unused.address.is_ipv4())
        .map(|unused| unused.address.to_string())
        .collect();
    if passed_over.is_empty() || cause.blame == Blame::Filter {
        return;
    }
    cause.blame = Blame::Record;
    let addresses = if passed_over.len() == 1 { "address" } else { "addresses" };
    let verb = if passed_over.len() == 1 { "was" } else { "were" };
    cause.details.push(format!(
        "We connected to {} ({} of {}). The IPv4 {addresses} {} {verb} not tried because IPv6 answered. Fix or remove the {} record.",
        used.address.ip(),
        address_type(used.address.ip()),
        host_of(hop),
        list(&passed_over),
        address_type(used.address.ip()),
    ));
}

fn host_of(hop: &HttpHop) -> String {
    hop.resolution.first().map_or_else(|| host_in(&hop.url).to_owned(), |lookup| lookup.name.clone())
}

fn host_in(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':', '?']).next().unwrap_or(rest)
}

/// A redirect rule without the slash after the host (`cases.md` D11).
fn missing_slash(url: &str) -> Option<String> {
    let host = host_in(url);
    host.ends_with(".well-known").then(|| {
        format!("The redirect goes to host '{host}'. A '/' is probably missing after the host name in the server's redirect rule.")
    })
}

/// A fetch that got no response that could be judged.
pub(super) fn failed(seen: &HttpObservation, failure: &HttpFailure) -> Cause {
    let connection = ProblemKind::Connection;
    match failure {
        HttpFailure::NoAddress => no_address(seen),
        HttpFailure::LookupFailed => lookup_failed(seen),
        HttpFailure::OnlySpecialAddresses => only_special(seen),
        HttpFailure::NotAnswered => not_answered(seen),
        HttpFailure::Tls(failure) => tls_failed(seen, failure),
        HttpFailure::BrokenOff(error) => {
            let bytes = last_try(seen).map_or(0, |t| t.received_bytes);
            let did = format!("began a response and {} after {bytes} octets", ending(*error, "stopped sending"));
            new(connection, (Blame::Web, Retry::Fix), seen, did)
        }
        HttpFailure::TooSlow => {
            let bytes = last_try(seen).map_or(0, |t| t.received_bytes);
            let did = format!("began a response and sent it too slowly: {bytes} octets came before we gave up");
            let mut cause = new(connection, (Blame::Web, Retry::Later), seen, did);
            cause.details.push(format!(
                "From {} s after its first octet on, a response must have come at {PACE_OCTETS_PER_SECOND_MIN} octets a second or more.",
                PACE_GRACE_MS / 1000
            ));
            cause
        }
        HttpFailure::BadResponse { problem, first } => {
            let did =
                format!("sent something that is no usable HTTP response: {problem} (it begins {})", quoted(first));
            let mut cause = new(connection, (Blame::Web, Retry::Fix), seen, did);
            cause.details.extend(other_protocol(seen, first));
            cause
        }
        HttpFailure::RedirectRefused(refusal) => redirect_refused(seen, refusal),
        HttpFailure::TooManyRedirects => {
            let did = "sent redirect 11; more than 10 redirects are not followed".to_owned();
            new(connection, (Blame::Web, Retry::Fix), seen, did)
        }
        HttpFailure::DeadlineOfTask => out_of_time(seen),
        HttpFailure::Local(reason) => Cause::ours(format!("our own perspective could not make the request ({reason})")),
    }
}

/// What a server speaks instead of HTTP/1.1, by its first octets: a TLS record, or a SETTINGS frame of HTTP/2 (RFC
/// 9113 §6.5).
fn other_protocol(seen: &HttpObservation, first: &Octets) -> Option<String> {
    let protocol = match first.as_slice() {
        [0x15 | 0x16, 3, ..] => "TLS",
        [0, _, _, 4, ..] => "HTTP/2",
        _ => return None,
    };
    let port = last_try(seen).map_or(80, |t| t.address.port());
    let is_https = seen.hops.last().is_some_and(|hop| hop.url.starts_with("https:"));
    let expected = if is_https { "HTTP/1.1 within TLS" } else { "plain HTTP/1.1" };
    Some(format!("It speaks {protocol} on port {port}, where {expected} is expected."))
}

/// TLS failed on a hop, which only a redirect leads to.
fn tls_failed(seen: &HttpObservation, failure: &TlsFailure) -> Cause {
    let (problem, blame, retry, advice) = tls::weighed(failure);
    let last = last_try(seen);
    let port = last.map_or(443, |t| t.address.port());
    let waited_us = last.map_or(0, |t| t.elapsed_us.saturating_sub(t.connected_us.unwrap_or(0)));
    let mut cause = new(problem, (blame, retry), seen, tls::failure_in_words(failure, port, waited_us));
    cause.is_network = matches!(failure, TlsFailure::Network(_));
    cause.details.extend(advice.map(str::to_owned));
    cause
}

fn no_address(seen: &HttpObservation) -> Cause {
    let hop = seen.hops.last();
    let host = hop.map(host_of).unwrap_or_default();
    let gone = hop.is_some_and(|hop| hop.resolution.iter().any(|l| matches!(l.outcome, DnsOutcome::Nxdomain(_))));
    let how = if gone { "the name does not exist (NXDOMAIN)" } else { "the name has neither A nor AAAA" };
    let mut cause =
        new(ProblemKind::Dns, (Blame::Record, Retry::Fix), seen, format!("no address was found for {host}: {how}"));
    cause.kind = Kind::Dns;
    cause.subject = None;
    if let Some(advice) = hop.filter(|_| seen.hops.len() > 1).and_then(|hop| missing_slash(&hop.url)) {
        cause.blame = Blame::Web;
        cause.details.push(advice);
    }
    cause
}

fn lookup_failed(seen: &HttpObservation) -> Cause {
    let lookups: Vec<&DnsLookup> = seen.hops.last().map(|hop| hop.resolution.iter().collect()).unwrap_or_default();
    let Some(mut cause) = dns::cause(&lookups, Kind::Dns, None) else {
        return Cause::ours("the observation lacks the lookup that failed".to_owned());
    };
    if let Some(advice) = seen.hops.last().filter(|_| seen.hops.len() > 1).and_then(|hop| missing_slash(&hop.url)) {
        cause.blame = Blame::Web;
        cause.details.push(advice);
    }
    cause.details.push(match seen.hops.len() {
        0 | 1 => "We never got as far as the web server.".to_owned(),
        hops => format!("We never got as far as the target of redirect {}.", hops - 1),
    });
    cause
}

/// Addresses that a message names.
const SPECIAL_NAMED_MAX: usize = 4;

fn only_special(seen: &HttpObservation) -> Cause {
    let hop = seen.hops.last();
    let named: Vec<String> = hop
        .iter()
        .flat_map(|hop| &hop.unused)
        .take(SPECIAL_NAMED_MAX)
        .map(|unused| match &unused.reason {
            UnusedReason::Special(block) => format!("{} in {block}", unused.address),
            UnusedReason::OtherAnswered | UnusedReason::OtherDrawn | UnusedReason::NoTurn => unused.address.to_string(),
        })
        .collect();
    let host = hop.map(host_of).unwrap_or_default();
    let looked_up = hop.is_some_and(|hop| !hop.resolution.is_empty());
    let problem = if looked_up { ProblemKind::Dns } else { ProblemKind::Connection };
    let did = format!("{host} has only addresses that may not be connected to: {}", list(&named));
    let mut cause = new(problem, (Blame::Record, Retry::Fix), seen, did);
    cause.subject = None;
    cause
}

/// How a connection ended, as the end of a clause about the server.
fn ending(error: NetworkError, silence: &str) -> &str {
    match error {
        NetworkError::Timeout => silence,
        NetworkError::Refused => "refused it",
        NetworkError::Reset => "reset the connection",
        NetworkError::ClosedEarly => "closed the connection",
        NetworkError::Unreachable => "became unreachable",
        NetworkError::Local => "was given up by our side",
        NetworkError::Other => "broke the connection",
    }
}

/// What an address did in a try that got no response.
pub(super) fn try_in_words(attempt: &HttpTry) -> String {
    match attempt.end {
        TryEnd::Answered => "answered".to_owned(),
        TryEnd::NoTls => "accepted the connection, and the TLS handshake failed".to_owned(),
        TryEnd::NotConnected(error) => not_connected(error, attempt.elapsed_us),
        TryEnd::NoResponse(error) => {
            let how = match error {
                NetworkError::Timeout => format!(
                    "sent nothing for {}",
                    seconds(attempt.elapsed_us.saturating_sub(attempt.connected_us.unwrap_or(0)))
                ),
                NetworkError::Reset
                | NetworkError::ClosedEarly
                | NetworkError::Refused
                | NetworkError::Unreachable
                | NetworkError::Local
                | NetworkError::Other => {
                    format!("{} right after our request for the challenge path", ending(error, ""))
                }
            };
            format!("accepted the connection and {how} ({} octets of a response came)", attempt.received_bytes)
        }
    }
}

/// What an address did that no connection came of.
pub(super) fn not_connected(error: NetworkError, elapsed_us: u64) -> String {
    match error {
        NetworkError::Timeout => format!("never answered the TCP connection (waited {})", seconds(elapsed_us)),
        NetworkError::Refused => "refused the TCP connection".to_owned(),
        NetworkError::Unreachable => "could not be reached: there is no route to it".to_owned(),
        NetworkError::Reset | NetworkError::ClosedEarly | NetworkError::Local | NetworkError::Other => {
            format!("did not let the TCP connection stand: it {}", ending(error, "stayed silent"))
        }
    }
}

fn not_answered(seen: &HttpObservation) -> Cause {
    let Some(last) = last_try(seen) else {
        return Cause::ours("the observation lacks the connection that failed".to_owned());
    };
    let (whose, firewall) = match last.end {
        TryEnd::NoResponse(NetworkError::Reset | NetworkError::ClosedEarly) => ((Blame::Filter, Retry::Fix), true),
        TryEnd::NotConnected(NetworkError::Timeout | NetworkError::Reset | NetworkError::ClosedEarly) => {
            ((Blame::Filter, Retry::Fix), false)
        }
        TryEnd::NotConnected(NetworkError::Refused) => ((Blame::Web, Retry::Fix), false),
        TryEnd::NotConnected(NetworkError::Local) | TryEnd::NoResponse(NetworkError::Local) => {
            ((Blame::Perspective, Retry::Now), false)
        }
        TryEnd::NotConnected(NetworkError::Unreachable | NetworkError::Other)
        | TryEnd::NoResponse(
            NetworkError::Timeout | NetworkError::Refused | NetworkError::Unreachable | NetworkError::Other,
        )
        | TryEnd::Answered
        | TryEnd::NoTls => ((Blame::Web, Retry::Later), false),
    };
    let problem = if whose.0 == Blame::Perspective { ProblemKind::ServerInternal } else { ProblemKind::Connection };
    let mut cause = new(problem, whose, seen, try_in_words(last));
    cause.is_network = true;
    let redirects = seen.hops.len().saturating_sub(1);
    if let (TryEnd::NoResponse(NetworkError::Timeout), true) = (last.end, redirects > 0) {
        let at = seen.hops.last().map(|hop| shown_url(&hop.url)).unwrap_or_default();
        cause.details =
            vec![format!("Timed out reading from {} after redirect {redirects} of 10, at {at}.", last.address.ip())];
    }
    if let Some(hop) = seen.hops.last() {
        let earlier = hop.tries.iter().rev().skip(1).rev();
        cause.details.extend(earlier.map(|t| format!("Before that, {} {}.", t.address, try_in_words(t))));
    }
    if firewall {
        cause.details.push(ACME_FIREWALL.to_owned());
    } else if whose.0 == Blame::Filter {
        let port = last_try(seen).map_or(80, |last| last.address.port());
        cause.details.push(format!("Open port {port} for {} {OPEN_TO_ALL}", folder(seen)));
    }
    cause
}

fn redirect_refused(seen: &HttpObservation, refusal: &RedirectRefusal) -> Cause {
    let why = match &refusal.reason {
        RedirectReason::Scheme(scheme) => format!(
            "has the scheme '{}'; only http and https may be used",
            Octets(scheme.as_bytes().to_vec()).shown(20)
        ),
        RedirectReason::Port(port) => format!("points at port {port}; only 80 and 443 may be used"),
        RedirectReason::UserInfo => "holds a user name or password".to_owned(),
        RedirectReason::NotAUrl(problem) => format!("is no URL that can be followed ({problem})"),
        RedirectReason::Loop => "leads back to a URL already fetched from the same address: a redirect loop".to_owned(),
    };
    let did = format!("answered with a redirect that cannot be followed: redirect {} {why}", refusal.redirect);
    let mut cause = new(ProblemKind::Connection, (Blame::Web, Retry::Fix), seen, did);
    cause.subject = seen.hops.iter().rev().find_map(|hop| hop.tries.last()).map(|t| t.address);
    let target = refusal.target.shown(200);
    cause.details.push(format!("Its target is '{target}'."));
    cause.details.extend(missing_slash(&target));
    cause
}

/// Whether the time ran out while a server was being asked, and not while names were looked up.
pub(super) fn is_being_fetched(observation: &Observation) -> bool {
    match &observation.control {
        Some(ControlObservation::Http(seen)) => {
            seen.outcome == HttpOutcome::Failed(HttpFailure::DeadlineOfTask)
                && seen.hops.last().is_some_and(|hop| !hop.tries.is_empty())
        }
        Some(ControlObservation::Tls(seen)) => tls::is_being_asked(seen),
        Some(ControlObservation::Record(_) | ControlObservation::Climb(_)) | None => false,
    }
}

fn out_of_time(seen: &HttpObservation) -> Cause {
    match seen.hops.last() {
        Some(hop) if hop.tries.is_empty() => {
            let did = format!("the time for the whole check ran out while {} was looked up", host_of(hop));
            let mut cause = new(ProblemKind::Dns, (Blame::Dns, Retry::Later), seen, did);
            cause.kind = Kind::Dns;
            cause.details.push("We never got as far as the web server.".to_owned());
            cause
        }
        Some(_) | None => {
            let did = last_try(seen).map_or("was not asked".to_owned(), try_in_words);
            let did = format!("{did}; then the time for the whole check ran out");
            new(ProblemKind::Connection, (Blame::Web, Retry::Later), seen, did)
        }
    }
}

/// An address that answered after others had not, most often IPv4 after IPv6 (`cases.md` D07).
pub(super) fn fallback(seen: &HttpObservation) -> Option<String> {
    seen.hops.iter().find_map(|hop| {
        let [first, between @ .., last] = hop.tries.as_slice() else { return None };
        if last.end != TryEnd::Answered {
            return None;
        }
        let after = match first.end {
            TryEnd::NotConnected(NetworkError::Timeout) | TryEnd::NoResponse(NetworkError::Timeout) => {
                format!("did not answer within {}", seconds(first.elapsed_us))
            }
            TryEnd::Answered | TryEnd::NotConnected(_) | TryEnd::NoResponse(_) | TryEnd::NoTls => {
                format!("{} after {}", try_in_words(first), seconds(first.elapsed_us))
            }
        };
        let between: String = between.iter().map(|t| format!(", and {} {}", t.address, try_in_words(t))).collect();
        Some(format!(
            "{} was fetched over {} ({}, answered in {} ms) after {} ({}) {after}{between}. {}",
            host_of(hop),
            family(last.address.is_ipv4()),
            last.address.ip(),
            last.elapsed_us / 1000,
            family(first.address.is_ipv4()),
            first.address.ip(),
            dead_records(hop.tries.iter().map(|t| t.address.ip())),
        ))
    })
}

/// What to do about addresses that do not answer, all but the last of these.
pub(super) fn dead_records(tried: impl DoubleEndedIterator<Item = IpAddr>) -> String {
    let mut types: Vec<&str> = tried.rev().skip(1).map(address_type).collect();
    types.sort_unstable();
    types.dedup();
    let records = if types.len() == 1 { "record" } else { "records" };
    format!("Fix or remove the {} {records}.", types.join(" and "))
}
