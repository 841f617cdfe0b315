//! TLS in words: handshakes of tls-alpn-01, and how a handshake fails on any hop.

use super::{
    Blame, Cause, Kind, Retry, http,
    text::{quoted, seconds},
};
use crate::{
    base::{
        limits::{PACE_GRACE_MS, PACE_OCTETS_PER_SECOND_MIN},
        octets::Octets,
    },
    check::dcv::tls_alpn01::CertificateFault,
    lookup::tls::certificate::Certificate,
    observation::{
        HttpFailure, HttpHop, HttpObservation, HttpOutcome, NetworkError, TlsFailure, TlsHandshake, TlsObservation,
        TlsOutcome, TlsProbeFailure, TlsTry, TlsTryEnd,
    },
    problem::ProblemKind,
};

const OPEN_TO_ALL: &str = "Open port 443 to the whole Internet, or use a DNS method.";

/// The name of an alert (RFC 8446 §6, RFC 5246 §7.2).
#[must_use]
pub fn alert_name(alert: u8) -> &'static str {
    match alert {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "an alert without name",
    }
}

/// What a server did in a handshake that failed, as the end of a clause about it. `waited_us` since it was
/// connected.
#[must_use]
pub fn failure_in_words(failure: &TlsFailure, port: u16, waited_us: u64) -> String {
    match failure {
        TlsFailure::Alert(70) | TlsFailure::OldVersion => {
            "speaks no TLS newer than 1.1; TLS 1.2 or 1.3 is required".to_owned()
        }
        TlsFailure::Alert(alert) => {
            format!("ended the TLS handshake with the alert '{}' ({alert})", alert_name(*alert))
        }
        TlsFailure::NotTls { first } if is_http(first) => {
            format!("speaks plain HTTP on port {port}, not TLS (it begins {})", quoted(first))
        }
        TlsFailure::NotTls { first } => {
            format!("sent something that is not TLS on port {port} (it begins {})", quoted(first))
        }
        TlsFailure::Incompatible(problem) => {
            format!("cannot agree with us on how to speak TLS ({})", escaped(problem))
        }
        TlsFailure::Malformed(problem) => format!("broke the rules of TLS ({})", escaped(problem)),
        TlsFailure::NoCertificate => "showed no certificate".to_owned(),
        TlsFailure::UnreadableCertificate => "showed a certificate without a key that can be read".to_owned(),
        TlsFailure::BadSignature => {
            "did not sign the TLS handshake with its certificate's key, or with a kind of key that is not known here"
                .to_owned()
        }
        TlsFailure::TooLarge => "sent far more than a TLS handshake needs".to_owned(),
        TlsFailure::TooSlow => format!(
            "began a TLS handshake and went on too slowly (after {} s it must have come at {PACE_OCTETS_PER_SECOND_MIN} octets a second)",
            PACE_GRACE_MS / 1000
        ),
        TlsFailure::Network(error) => match error {
            NetworkError::Timeout => {
                format!("accepted the connection and did not finish the TLS handshake within {}", seconds(waited_us))
            }
            NetworkError::ClosedEarly => "closed the connection during the TLS handshake".to_owned(),
            NetworkError::Reset => "reset the connection during the TLS handshake".to_owned(),
            NetworkError::Refused | NetworkError::Unreachable | NetworkError::Local | NetworkError::Other => {
                "broke the connection during the TLS handshake".to_owned()
            }
        },
        TlsFailure::Local(problem) => format!("was given up by our side ({})", escaped(problem)),
    }
}

fn escaped(text: &str) -> String {
    Octets(text.as_bytes().to_vec()).shown(120)
}

fn is_http(first: &Octets) -> bool {
    let first = first.as_slice();
    let is = |word: &[u8]| first.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    is(b"HTTP/") || is(b"<html") || is(b"<!doctype")
}

/// Problem type, blame and retry of a failed handshake, and what to add.
pub(super) fn weighed(failure: &TlsFailure) -> (ProblemKind, Blame, Retry, Option<&'static str>) {
    match failure {
        TlsFailure::Local(_) | TlsFailure::Network(NetworkError::Local) => {
            (ProblemKind::ServerInternal, Blame::Perspective, Retry::Now, None)
        }
        TlsFailure::Network(NetworkError::ClosedEarly | NetworkError::Reset) => {
            (ProblemKind::Connection, Blame::Filter, Retry::Fix, None)
        }
        TlsFailure::Network(_) | TlsFailure::TooSlow => (ProblemKind::Connection, Blame::Web, Retry::Later, None),
        TlsFailure::Alert(80) => (ProblemKind::Tls, Blame::Web, Retry::Later, None),
        TlsFailure::Alert(40 | 71) | TlsFailure::Incompatible(_) => {
            let offer =
                "We offer TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, and no more than that.";
            (ProblemKind::Tls, Blame::Web, Retry::Fix, Some(offer))
        }
        TlsFailure::Alert(112) => {
            let unknown = "The server has no certificate for the name it was asked for.";
            (ProblemKind::Tls, Blame::Web, Retry::Fix, Some(unknown))
        }
        TlsFailure::Alert(_)
        | TlsFailure::NotTls { .. }
        | TlsFailure::OldVersion
        | TlsFailure::Malformed(_)
        | TlsFailure::NoCertificate
        | TlsFailure::UnreadableCertificate
        | TlsFailure::BadSignature
        | TlsFailure::TooLarge => (ProblemKind::Tls, Blame::Web, Retry::Fix, None),
    }
}

/// The connection that decided.
pub(super) fn last_try(seen: &TlsObservation) -> Option<&TlsTry> {
    seen.tries.last()
}

/// The addresses the name resolved to, sorted.
pub(super) fn addresses(seen: &TlsObservation) -> Vec<std::net::IpAddr> {
    let tried = seen.tries.iter().map(|t| t.address.ip());
    let mut all: Vec<_> = tried.chain(seen.unused.iter().map(|unused| unused.address)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn waited_us(attempt: &TlsTry) -> u64 {
    attempt.elapsed_us.saturating_sub(attempt.connected_us.unwrap_or(0))
}

/// Protocol and certificate, as evidence in brackets.
fn evidence(handshake: &TlsHandshake) -> String {
    let protocol = match &handshake.protocol {
        Some(protocol) => format!("it selected {}", quoted(protocol)),
        None => "it selected no protocol".to_owned(),
    };
    let subject = match Certificate::read(&handshake.certificate.0) {
        Ok(certificate) => format!("certificate subject: {}", quoted(&certificate.subject())),
        Err(problem) => format!("its certificate cannot be read: {}", problem.0),
    };
    format!(" ({protocol}; {subject}; {})", handshake.version)
}

/// A whole handshake that shows something else.
pub(super) fn wrong_certificate(seen: &TlsObservation, fault: CertificateFault) -> Cause {
    let TlsOutcome::Handshake(handshake) = &seen.outcome else {
        return Cause::ours("the observation lacks the handshake".to_owned());
    };
    use CertificateFault as Fault;
    let what = match fault {
        Fault::NoProtocol | Fault::OtherProtocol => "completed TLS without agreeing on 'acme-tls/1'".to_owned(),
        Fault::Unreadable => "agreed on 'acme-tls/1' and showed a certificate that cannot be read".to_owned(),
        Fault::NameCount(count) => {
            format!("showed a challenge certificate with {count} names; exactly one is required")
        }
        Fault::ExtensionMissing => "showed a certificate whose acmeIdentifier extension is missing".to_owned(),
        Fault::DraftExtension => {
            "showed a certificate with the acmeIdentifier extension of an early draft (1.3.6.1.5.5.7.1.30.1)".to_owned()
        }
        Fault::ExtensionTwice => "showed a certificate with two acmeIdentifier extensions".to_owned(),
        Fault::NotCritical => "showed a certificate whose acmeIdentifier extension is not critical".to_owned(),
        Fault::MalformedExtension => {
            "showed a certificate whose acmeIdentifier extension is not an OCTET STRING of 32 octets".to_owned()
        }
        Fault::NoNames => "showed a challenge certificate without subjectAltName".to_owned(),
        Fault::NamesTwice => "showed a challenge certificate with two subjectAltName extensions".to_owned(),
        Fault::UnreadableNames => "showed a challenge certificate whose subjectAltName cannot be read".to_owned(),
        Fault::NameKind => {
            "showed a challenge certificate whose one name is of another kind than what is validated".to_owned()
        }
        Fault::OtherName => "showed a challenge certificate for another name".to_owned(),
        Fault::OtherIssuer => {
            "showed a challenge certificate that is not self-signed: its issuer is another".to_owned()
        }
        Fault::UnknownAlgorithm => {
            "showed a challenge certificate signed with an algorithm that is not known here".to_owned()
        }
        Fault::NotSelfSigned => {
            "showed a challenge certificate that is not self-signed: its key did not sign it".to_owned()
        }
        Fault::OtherDigest => {
            "showed a challenge certificate whose digest differs from that of our key authorization".to_owned()
        }
    };
    let (blame, advice) = match fault {
        Fault::NoProtocol | Fault::OtherProtocol => {
            (Blame::Filter, "Something in front of the ACME client terminates TLS; use http-01 or dns-01.")
        }
        Fault::ExtensionMissing => (
            Blame::Web,
            "The server knows the protocol but has no certificate for this challenge; it may be set up for another one, or too late.",
        ),
        Fault::OtherDigest => (Blame::Web, "The ACME client that answers uses another account, or an older challenge."),
        Fault::UnknownAlgorithm => (Blame::Web, "Use a P-256, P-384, Ed25519 or RSA key of 2048 bits or more."),
        Fault::Unreadable
        | Fault::DraftExtension
        | Fault::ExtensionTwice
        | Fault::NotCritical
        | Fault::MalformedExtension
        | Fault::NoNames
        | Fault::NamesTwice
        | Fault::UnreadableNames
        | Fault::NameCount(_)
        | Fault::NameKind
        | Fault::OtherName
        | Fault::OtherIssuer
        | Fault::NotSelfSigned => (Blame::Web, "The certificate must be made as RFC 8737 §3 says."),
    };
    let mut details = vec![advice.to_owned()];
    if let Some((address, passed_over)) = other_family(seen) {
        details.push(format!("The IPv4 address {passed_over} was not tried because {address} answered over IPv6."));
    }
    Cause {
        problem: ProblemKind::Unauthorized,
        blame,
        retry: Retry::Fix,
        kind: Kind::Http,
        subject: last_try(seen).map(|t| t.address),
        did: format!("{what}{}", evidence(handshake)),
        details,
        is_network: false,
    }
}

/// The IPv6 address that answered, and the IPv4 address that was therefore not asked (`cases.md` D06).
fn other_family(seen: &TlsObservation) -> Option<(std::net::IpAddr, std::net::IpAddr)> {
    use crate::observation::UnusedReason::OtherAnswered;
    let used = last_try(seen).filter(|used| used.address.is_ipv6())?.address.ip();
    let passed_over = seen.unused.iter().find(|u| u.reason == OtherAnswered && u.address.is_ipv4())?;
    Some((used, passed_over.address))
}

/// What an address did in a try without a whole handshake.
pub(super) fn try_in_words(attempt: &TlsTry) -> String {
    match &attempt.end {
        TlsTryEnd::Handshake => "completed the handshake".to_owned(),
        TlsTryEnd::NotConnected(error) => http::not_connected(*error, attempt.elapsed_us),
        TlsTryEnd::Failed(failure) => failure_in_words(failure, attempt.address.port(), waited_us(attempt)),
    }
}

/// A probe that saw no whole handshake.
pub(super) fn failed(seen: &TlsObservation, failure: &TlsProbeFailure) -> Cause {
    match failure {
        TlsProbeFailure::NoAddress => http::failed(&as_fetch(seen), &HttpFailure::NoAddress),
        TlsProbeFailure::LookupFailed => http::failed(&as_fetch(seen), &HttpFailure::LookupFailed),
        TlsProbeFailure::OnlySpecialAddresses => http::failed(&as_fetch(seen), &HttpFailure::OnlySpecialAddresses),
        TlsProbeFailure::NotAnswered => not_answered(seen),
        TlsProbeFailure::DeadlineOfTask if seen.tries.is_empty() => {
            http::failed(&as_fetch(seen), &HttpFailure::DeadlineOfTask)
        }
        TlsProbeFailure::DeadlineOfTask => {
            let mut cause = not_answered(seen);
            cause.did.push_str("; then the time for the whole check ran out");
            cause
        }
        TlsProbeFailure::Local(reason) => {
            Cause::ours(format!("our own perspective could not make the handshake ({})", escaped(reason)))
        }
    }
}

/// The lookups of a probe, for texts about addresses, which are the same for a fetch.
fn as_fetch(seen: &TlsObservation) -> HttpObservation {
    let hop = HttpHop {
        url: format!("https://{}", seen.server_name),
        resolution: seen.resolution.clone(),
        unused: seen.unused.clone(),
        tries: Vec::new(),
        tls: None,
        response: None,
    };
    HttpObservation { hops: vec![hop], outcome: HttpOutcome::Failed(HttpFailure::NotAnswered) }
}

fn not_answered(seen: &TlsObservation) -> Cause {
    let Some(last) = last_try(seen) else {
        return Cause::ours("the observation lacks the connection that failed".to_owned());
    };
    let (problem, blame, retry, advice) = match &last.end {
        TlsTryEnd::Failed(failure) => weighed(failure),
        TlsTryEnd::NotConnected(NetworkError::Local) => {
            (ProblemKind::ServerInternal, Blame::Perspective, Retry::Now, None)
        }
        TlsTryEnd::NotConnected(NetworkError::Timeout | NetworkError::Reset | NetworkError::ClosedEarly) => {
            (ProblemKind::Connection, Blame::Filter, Retry::Fix, Some(OPEN_TO_ALL))
        }
        TlsTryEnd::NotConnected(NetworkError::Refused) => (ProblemKind::Connection, Blame::Web, Retry::Fix, None),
        TlsTryEnd::NotConnected(NetworkError::Unreachable | NetworkError::Other) | TlsTryEnd::Handshake => {
            (ProblemKind::Connection, Blame::Web, Retry::Later, None)
        }
    };
    let advice = match &last.end {
        TlsTryEnd::Failed(TlsFailure::Alert(120)) => Some(
            "It knows no 'acme-tls/1': something in front of the ACME client terminates TLS; use http-01 or dns-01.",
        ),
        _ => advice,
    };
    let mut details: Vec<String> = Vec::new();
    let earlier = seen.tries.iter().rev().skip(1).rev();
    details.extend(earlier.map(|t| format!("Before that, {} {}.", t.address, try_in_words(t))));
    details.extend(advice.map(str::to_owned));
    let is_network = matches!(last.end, TlsTryEnd::NotConnected(_) | TlsTryEnd::Failed(TlsFailure::Network(_)));
    Cause {
        problem,
        blame,
        retry,
        kind: Kind::Http,
        subject: Some(last.address),
        did: try_in_words(last),
        details,
        is_network,
    }
}

/// Whether the time ran out while a server was being asked.
pub(super) fn is_being_asked(seen: &TlsObservation) -> bool {
    seen.outcome == TlsOutcome::Failed(TlsProbeFailure::DeadlineOfTask) && !seen.tries.is_empty()
}

/// An address that answered after others had not, most often IPv4 after IPv6 (`cases.md` D07).
pub(super) fn fallback(seen: &TlsObservation) -> Option<String> {
    let [first, between @ .., last] = seen.tries.as_slice() else { return None };
    if last.end != TlsTryEnd::Handshake {
        return None;
    }
    let family = if last.address.is_ipv4() { "IPv4" } else { "IPv6" };
    let between: String = between.iter().map(|t| format!(", and {} {}", t.address, try_in_words(t))).collect();
    Some(format!(
        "{} was validated over {family} ({}) because {} {}{between}. {}",
        seen.server_name,
        last.address.ip(),
        first.address,
        try_in_words(first),
        http::dead_records(seen.tries.iter().map(|t| t.address.ip())),
    ))
}
