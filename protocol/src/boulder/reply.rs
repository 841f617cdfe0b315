//! What is answered: problems and validation records, in the form that the caller reads.
//!
//! Invariant: a problem has a type and a text, both not empty; without either the caller takes the whole reply for
//! malformed. Invariant: no text holds the key authorization.

use std::net::{IpAddr, SocketAddr};

use parallax_validation::{
    base::octets::Octets,
    explain::{Blame, Part, without_secret},
    observation::{
        ControlObservation, DnsLookup, HttpHop, HttpObservation, Observation, TlsObservation, UnusedAddress,
        UnusedReason,
    },
    problem::ProblemKind,
    request::{CheckRequest, RequestError},
};

use crate::wire::core::{ProblemDetails, ValidationRecord};

/// Octets of a problem's text.
const DETAIL_BYTES_MAX: usize = 4096;
/// Octets of a URL that a text shows.
const URL_SHOWN_BYTES: usize = 200;
/// What the caller is told of faults that are ours; the operator is told more.
const OURS: &str = "Our perspective could not carry out the check. Nothing is wrong with what was asked.";

/// What is answered instead of a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    pub(super) detail: String,
    /// What only the operator is told.
    pub(super) internal: Option<String>,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: cut(detail.into()), internal: None }
    }

    /// A fault of ours.
    pub(super) fn ours(internal: impl Into<String>) -> Self {
        Self { internal: Some(cut(internal.into())), ..Self::new(ProblemKind::ServerInternal, OURS) }
    }

    /// What control came to. What was found over HTTP names the URL.
    pub(super) fn of_control(request: &CheckRequest, part: Part, observation: &Observation) -> Self {
        if is_ours(&part) {
            return Self::ours(part.detail);
        }
        let mut detail = part.detail;
        if let Some(ControlObservation::Http(HttpObservation { hops, .. })) = &observation.control
            && let Some(hop) = hops.last()
        {
            let url = without_secret(request, &Octets(hop.url.as_bytes().to_vec()).shown(URL_SHOWN_BYTES));
            if !detail.contains(&url) {
                detail.push_str(&format!(" The URL is {url}."));
            }
        }
        Self::new(part.problem, detail)
    }

    /// What CAA came to. A lookup that failed says whom it was made for.
    pub(super) fn of_caa(request: &CheckRequest, part: Part) -> Self {
        match part.problem {
            _ if is_ours(&part) => Self::ours(part.detail),
            ProblemKind::Dns => Self::new(ProblemKind::Dns, format!("{}: {}", request.identifier, part.detail)),
            kind => Self::new(kind, part.detail),
        }
    }

    /// As the caller reads it.
    pub(super) fn to_wire(&self) -> ProblemDetails {
        let (problem_type, http_status) = in_boulder(self.kind);
        ProblemDetails { problem_type: problem_type.to_owned(), detail: self.detail.clone(), http_status }
    }
}

impl From<&RequestError> for Problem {
    /// A request that is refused before anything is sent.
    fn from(error: &RequestError) -> Self {
        Self::new(error.problem(), error.to_string())
    }
}

fn is_ours(part: &Part) -> bool {
    part.problem == ProblemKind::ServerInternal && part.blame == Blame::Perspective
}

/// The type without its namespace, and the status that goes with it. Boulder has neither incorrectResponse nor
/// unsupportedIdentifier.
fn in_boulder(kind: ProblemKind) -> (&'static str, i32) {
    match kind {
        ProblemKind::Unauthorized | ProblemKind::IncorrectResponse => (ProblemKind::Unauthorized.as_str(), 403),
        ProblemKind::Caa => (kind.as_str(), 403),
        ProblemKind::ServerInternal => (kind.as_str(), 500),
        ProblemKind::UnsupportedIdentifier => (ProblemKind::Malformed.as_str(), 400),
        ProblemKind::Connection
        | ProblemKind::Dns
        | ProblemKind::Malformed
        | ProblemKind::RejectedIdentifier
        | ProblemKind::Tls => (kind.as_str(), 400),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > DETAIL_BYTES_MAX {
        let end = (0..=DETAIL_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What was looked at for control, also if it failed. Over HTTP there is one for each connection: each hop, and each
/// further address of it.
pub(super) fn records(request: &CheckRequest, observation: &Observation) -> Vec<ValidationRecord> {
    match &observation.control {
        Some(ControlObservation::Http(fetch)) => fetch.hops.iter().flat_map(of_hop).collect(),
        Some(ControlObservation::Tls(probe)) => vec![of_probe(request, probe)],
        Some(control @ (ControlObservation::Record(_) | ControlObservation::Climb(_))) => vec![ValidationRecord {
            hostname: request.identifier.domain().map(ToString::to_string).unwrap_or_default(),
            resolver_addrs: resolvers(control.records()),
            ..ValidationRecord::default()
        }],
        None => Vec::new(),
    }
}

/// Nothing of a hop that nothing was connected to.
fn of_hop(hop: &HttpHop) -> Vec<ValidationRecord> {
    let tried: Vec<SocketAddr> = hop.tries.iter().map(|one| one.address).collect();
    let resolved = resolved(&hop.resolution, &hop.unused, &tried);
    let of_try = |(place, used): (usize, &SocketAddr)| ValidationRecord {
        hostname: host_of(&hop.url).to_owned(),
        port: used.port().to_string(),
        addresses_resolved: resolved.clone(),
        address_used: text(used.ip()),
        url: hop.url.clone(),
        addresses_tried: tried.iter().take(place).map(|earlier| octets(earlier.ip())).collect(),
        resolver_addrs: resolvers(&hop.resolution),
        ..ValidationRecord::default()
    };
    tried.iter().enumerate().map(of_try).collect()
}

fn of_probe(request: &CheckRequest, probe: &TlsObservation) -> ValidationRecord {
    let tried: Vec<SocketAddr> = probe.tries.iter().map(|one| one.address).collect();
    let (used, earlier) = match tried.split_last() {
        Some((used, earlier)) => (Some(used), earlier),
        None => (None, &[][..]),
    };
    ValidationRecord {
        hostname: request.identifier.to_string(),
        port: used.map_or(443, SocketAddr::port).to_string(),
        addresses_resolved: resolved(&probe.resolution, &probe.unused, &tried),
        address_used: used.map(|used| text(used.ip())).unwrap_or_default(),
        addresses_tried: earlier.iter().map(|earlier| octets(earlier.ip())).collect(),
        resolver_addrs: resolvers(&probe.resolution),
        ..ValidationRecord::default()
    }
}

/// What may be connected to of the addresses found, or the address that was asked about.
fn resolved(lookups: &[DnsLookup], unused: &[UnusedAddress], tried: &[SocketAddr]) -> Vec<Vec<u8>> {
    if lookups.is_empty() {
        return tried.first().map(|used| octets(used.ip())).into_iter().collect();
    }
    let is_special = |one: &&UnusedAddress| matches!(one.reason, UnusedReason::Special(_));
    let special: Vec<Vec<u8>> = unused.iter().filter(is_special).map(|one| octets(one.address)).collect();
    let found = lookups.iter().flat_map(DnsLookup::addresses).map(<[u8]>::to_vec);
    found.filter(|address| !special.contains(address)).collect()
}

fn resolvers(lookups: &[DnsLookup]) -> Vec<String> {
    lookups.iter().map(|lookup| lookup.resolver.to_string()).collect()
}

/// In raw form, as addresses that were found or tried are.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// As text, as the address that was used is.
fn text(address: IpAddr) -> Vec<u8> {
    address.to_string().into_bytes()
}

/// The host of a URL that was fetched, without brackets. Such a URL was parsed, and has no user name.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls() {
        for (url, host) in [
            ("http://www.customer.example/.well-known/x", "www.customer.example"),
            ("https://www.customer.example:80/a?b=c:d", "www.customer.example"),
            ("http://[2001:db8::7]/x", "2001:db8::7"),
            ("http://[2001:db8::7]:443/x", "2001:db8::7"),
            ("http://203.0.113.7?a", "203.0.113.7"),
            ("", ""),
            ("http://[", "["),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let problem = Problem::new(ProblemKind::Dns, "é".repeat(DETAIL_BYTES_MAX));
        assert!(problem.detail.len() <= DETAIL_BYTES_MAX + '…'.len_utf8() && problem.detail.ends_with("é…"));
        let odd = Problem::new(ProblemKind::Dns, format!("a{}", "é".repeat(DETAIL_BYTES_MAX)));
        assert!(odd.detail.len() <= DETAIL_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn every_kind_has_a_type_and_the_status_that_goes_with_it() {
        for (kind, expected) in [
            (ProblemKind::Unauthorized, ("unauthorized", 403)),
            (ProblemKind::Caa, ("caa", 403)),
            (ProblemKind::Connection, ("connection", 400)),
            (ProblemKind::Dns, ("dns", 400)),
            (ProblemKind::Tls, ("tls", 400)),
            (ProblemKind::Malformed, ("malformed", 400)),
            (ProblemKind::RejectedIdentifier, ("rejectedIdentifier", 400)),
            (ProblemKind::ServerInternal, ("serverInternal", 500)),
            (ProblemKind::IncorrectResponse, ("unauthorized", 403)),
            (ProblemKind::UnsupportedIdentifier, ("malformed", 400)),
        ] {
            assert_eq!(in_boulder(kind), expected);
        }
    }
}
