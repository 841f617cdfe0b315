//! What came of a check, in Open MPIC's terms.
//!
//! A check that found something else is no error: it is completed, not passed, and its `errors` are null. What could
//! not be looked up is an error with the name that Open MPIC's clients know for it, and with our own words.
//!
//! Invariant: `check_passed` is the judgement that the record holds, and never anything laxer.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use parallax_validation::{
    base::octets::{Octets, escape},
    check::{
        Contradiction, Finding,
        caa::{
            RelevantSet,
            property::{TagKind, parse_rdata},
            relevant_set,
        },
        dcv::{
            contact::ContactKind,
            dns01::joined_strings,
            tls_alpn01::{self, CertificateFault},
        },
    },
    explain::{Blame, Retry},
    lookup::{dns::names, tls::certificate::Certificate},
    observation::{
        ControlObservation, DnsFailure, DnsLookup, DnsOutcome, HttpFailure, HttpHop, HttpObservation, HttpOutcome,
        NetworkError, Observation, RecordType, SecurityStatus, TlsHandshake, TlsObservation, TlsOutcome,
        TlsProbeFailure, TlsTryEnd, TryEnd,
    },
    record::{PerspectiveRecord, Record},
    request::{CheckRequest, Identifier, Proof},
    verdict::PerspectiveState,
};
use serde::Serialize;

use super::{
    request::{Asked, CaaParameters, Check, CheckType, DcvParameters, Members, Orchestration},
    translate::Counting,
};

const CAA_LOOKUP: &str = "mpic_error:caa_checker:lookup";
const DCV_LOOKUP: &str = "mpic_error:dcv_checker:lookup";

/// What one perspective came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckResponse {
    /// Whether the check ended in an answer, whatever it is.
    pub check_completed: bool,
    /// Whether it passed.
    pub check_passed: bool,
    /// What went wrong; null if nothing did.
    pub errors: Option<Vec<CheckError>>,
    /// When it ended, Unix nanoseconds.
    pub timestamp_ns: i64,
    /// What was checked.
    pub check_type: CheckType,
    /// What was seen.
    pub details: Details,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckError {
    /// Its name.
    pub error_type: &'static str,
    /// In words.
    pub error_message: String,
}

impl CheckError {
    fn new(error_type: &'static str, error_message: impl Into<String>) -> Self {
        Self { error_type, error_message: error_message.into() }
    }
}

/// What was seen, by the kind of check. What was not seen is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Details {
    /// CAA.
    Caa(CaaDetails),
    /// The methods over HTTP.
    Http(HttpDetails),
    /// The methods over DNS.
    Dns(DnsDetails),
    /// `acme-tls-alpn-01`.
    Tls(TlsDetails),
}

/// What was seen of CAA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CaaDetails {
    /// Whether there is a set; null if that could not be looked up.
    pub caa_record_present: Option<bool>,
    /// The name that has it, as it was asked.
    pub found_at: Option<String>,
    /// Its records, as in a zone file.
    pub records_seen: Option<Vec<String>>,
}

/// What was seen over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HttpDetails {
    /// The method.
    pub validation_method: &'static str,
    /// Redirects; null if there were none.
    pub response_history: Option<Vec<Redirect>>,
    /// The first URL.
    pub response_url: Option<String>,
    /// The last status code.
    pub response_status_code: Option<u16>,
    /// What was read of the body, in base64.
    pub response_page: Option<String>,
    /// The address that was connected to last.
    pub resolved_ip: Option<String>,
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Redirect {
    /// Its status code.
    pub status_code: u16,
    /// Its `Location`, as it was sent.
    pub url: String,
}

/// What was seen over DNS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DnsDetails {
    /// The method.
    pub validation_method: &'static str,
    /// Values of the records.
    pub records_seen: Option<Vec<String>>,
    /// The response code.
    pub response_code: Option<u16>,
    /// Whether DNSSEC vouches for it.
    pub ad_flag: Option<bool>,
    /// The name that was asked.
    pub found_at: Option<String>,
    /// Targets of aliases from there, each with its final dot.
    pub cname_chain: Option<Vec<String>>,
}

/// What was seen of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TlsDetails {
    /// The method.
    pub validation_method: &'static str,
    /// The common name of its subject.
    pub common_name: Option<String>,
}

/// One perspective in an answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerspectiveElement {
    /// Its name.
    pub perspective_code: String,
    /// What it came to.
    pub check_response: CheckResponse,
}

/// What was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ActualOrchestration {
    /// Remotes.
    pub perspective_count: u8,
    /// How many of them must confirm.
    pub quorum_count: u8,
    /// Attempts that were made.
    pub attempt_count: u32,
}

/// What to say about the last attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShortExplanation {
    /// Sentences.
    pub message: String,
    /// Whose turn it is; null if it passed.
    pub blame: Option<Blame>,
    /// When trying again can help; null if it passed.
    pub retry: Option<Retry>,
}

/// The answer to `POST /mpic`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MpicResponse<'a> {
    /// Whether enough remotes came to an answer.
    pub mpic_completed: bool,
    /// As sent.
    pub request_orchestration_parameters: Option<&'a Orchestration>,
    /// As used.
    pub actual_orchestration_parameters: ActualOrchestration,
    /// What was checked.
    pub check_type: CheckType,
    /// As sent.
    pub domain_or_ip_target: &'a str,
    /// Whether issuance may rely on it.
    pub is_valid: bool,
    /// As sent.
    pub trace_identifier: Option<&'a str>,
    /// The remotes of the last attempt, in the order of the cohort.
    pub perspectives: Vec<PerspectiveElement>,
    /// As sent with defaults; null if not sent; absent for control.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caa_check_parameters: Option<Option<&'a CaaParameters>>,
    /// As sent with defaults; absent for CAA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dcv_check_parameters: Option<Members>,
    /// The remotes of earlier attempts, oldest first; null if there were none.
    pub previous_attempt_results: Option<Vec<Vec<PerspectiveElement>>>,
    /// The primary of the last attempt.
    pub primary_perspective: Option<PerspectiveElement>,
    /// What to say about the last attempt.
    pub explanation: ShortExplanation,
}

impl<'a> MpicResponse<'a> {
    /// The answer, after the last attempt. `perspectives` are its remotes, `previous` those of attempts before it.
    #[must_use]
    pub fn new(
        asked: &'a Asked,
        counting: &Counting,
        attempt_count: u32,
        record: &Record,
        perspectives: Vec<PerspectiveElement>,
        previous: Vec<Vec<PerspectiveElement>>,
    ) -> Self {
        let unfinished = perspectives.iter().filter(|element| !element.check_response.check_completed).count();
        let (caa_check_parameters, dcv_check_parameters) = match &asked.check {
            Check::Caa(parameters) => (Some(parameters.as_ref()), None),
            Check::Dcv(parameters) => (None, Some(parameters.echo())),
        };
        let explanation = &record.explanation;
        Self {
            mpic_completed: unfinished <= usize::from(counting.allowed),
            request_orchestration_parameters: asked.orchestration.as_ref(),
            actual_orchestration_parameters: ActualOrchestration {
                perspective_count: counting.remotes,
                quorum_count: counting.quorum(),
                attempt_count,
            },
            check_type: asked.check_type(),
            domain_or_ip_target: &asked.domain_or_ip_target,
            is_valid: record.permits(),
            trace_identifier: asked.trace_identifier.as_deref(),
            perspectives,
            caa_check_parameters,
            dcv_check_parameters,
            previous_attempt_results: (!previous.is_empty()).then_some(previous),
            primary_perspective: record.perspectives.first().map(|part| element(asked, record, part)),
            explanation: ShortExplanation {
                message: explanation.message.clone(),
                blame: explanation.blame,
                retry: explanation.retry,
            },
        }
    }
}

/// The remotes of an attempt, in the order of the cohort.
#[must_use]
pub fn remotes(asked: &Asked, record: &Record) -> Vec<PerspectiveElement> {
    record.perspectives.iter().skip(1).map(|part| element(asked, record, part)).collect()
}

fn element(asked: &Asked, record: &Record, part: &PerspectiveRecord) -> PerspectiveElement {
    let told = record.explanation.parts.iter().find(|told| told.perspective == part.perspective);
    let told = told.map(|told| told.detail.as_str());
    PerspectiveElement {
        perspective_code: part.perspective.to_string(),
        check_response: check_response(asked, &record.request, part, told, record.decided),
    }
}

/// What one perspective came to. `told` is what is said about it, if anything is; `decided` is when the attempt ended,
/// for a perspective without observation.
#[must_use]
pub fn check_response(
    asked: &Asked,
    request: &CheckRequest,
    part: &PerspectiveRecord,
    told: Option<&str>,
    decided: Timestamp,
) -> CheckResponse {
    let seen = part.observation.as_ref();
    let passed = match asked.check {
        Check::Caa(_) => part.caa,
        Check::Dcv(_) => part.control,
    };
    let check_passed = passed == Some(true) && part.state == PerspectiveState::Confirmed;
    let mut errors = errors(asked, request, part, told);
    // Open MPIC says it so.
    if errors.is_none() && check_passed && matches!(asked.check, Check::Dcv(DcvParameters::AcmeTlsAlpn01 { .. })) {
        errors = Some(Vec::new());
    }
    CheckResponse {
        check_completed: is_completed(part),
        check_passed,
        errors,
        timestamp_ns: timestamp_ns(seen, decided),
        check_type: asked.check_type(),
        details: details(asked, request, part),
    }
}

/// Whether it ended in an answer. A redirect that may not be followed is one.
fn is_completed(part: &PerspectiveRecord) -> bool {
    match part.state {
        PerspectiveState::Confirmed | PerspectiveState::Contradicted => true,
        PerspectiveState::Failed => {
            let control = part.observation.as_ref().and_then(|seen| seen.control.as_ref());
            matches!(control, Some(ControlObservation::Http(fetch)) if is_redirect_refused(fetch))
        }
        PerspectiveState::TimedOut
        | PerspectiveState::Cancelled
        | PerspectiveState::RejectedReply
        | PerspectiveState::NotAwaited
        | PerspectiveState::NotAsked => false,
    }
}

fn is_redirect_refused(fetch: &HttpObservation) -> bool {
    matches!(fetch.outcome, HttpOutcome::Failed(HttpFailure::RedirectRefused(_)))
}

fn timestamp_ns(seen: Option<&Observation>, decided: Timestamp) -> i64 {
    let end = |seen: &Observation| {
        let elapsed = SignedDuration::from_micros(i64::try_from(seen.elapsed_us).unwrap_or(i64::MAX));
        seen.started.checked_add(elapsed).unwrap_or(seen.started)
    };
    let end = seen.map_or(decided, end);
    i64::try_from(end.as_nanosecond()).unwrap_or(i64::MAX)
}

/// What went wrong; none if nothing did.
fn errors(
    asked: &Asked,
    request: &CheckRequest,
    part: &PerspectiveRecord,
    told: Option<&str>,
) -> Option<Vec<CheckError>> {
    let unanswered = |error_type, text: &str| Some(vec![CheckError::new(error_type, told.unwrap_or(text))]);
    match part.state {
        PerspectiveState::NotAwaited => {
            return unanswered("parallax:not_awaited", "The result was settled before this perspective answered.");
        }
        PerspectiveState::NotAsked => {
            return unanswered("parallax:not_asked", "The primary perspective had refused before this one was asked.");
        }
        PerspectiveState::TimedOut => {
            return unanswered("parallax:timed_out", "This perspective did not answer in time.");
        }
        PerspectiveState::Cancelled => {
            return unanswered("parallax:cancelled", "The call to this perspective was given up.");
        }
        PerspectiveState::RejectedReply => {
            return unanswered("parallax:rejected_reply", "The reply was not the reply to this attempt.");
        }
        PerspectiveState::Confirmed | PerspectiveState::Contradicted | PerspectiveState::Failed => {}
    }
    let error = part.observation.as_ref().and_then(|seen| match asked.check {
        Check::Caa(_) => caa_error(seen),
        Check::Dcv(_) => control_error(seen.control.as_ref()?, request, part.state),
    });
    let say = |(error_type, class): (&'static str, String)| {
        let message = told.map_or_else(|| class.clone(), |told| format!("{class}: {told}"));
        vec![CheckError::new(error_type, message)]
    };
    match error {
        Some(error) => Some(say(error)),
        None if part.state == PerspectiveState::Failed => {
            unanswered("parallax:not_judged", "The observation holds nothing that could be judged.")
        }
        None => None,
    }
}

/// Kind and class of what went wrong with CAA: a lookup that stopped the climb, or one that was excused.
fn caa_error(seen: &Observation) -> Option<(&'static str, String)> {
    // What lies above the set that was found has no bearing.
    let climbed = seen.caa.iter().take_while(|lookup| !matches!(lookup.outcome, DnsOutcome::Answer(_)));
    let failed = climbed.filter_map(|lookup| match &lookup.outcome {
        DnsOutcome::Failed(failure) => Some(of_lookup(lookup, dns_class(failure))),
        // Without such a top-level domain the climb ends in nothing.
        DnsOutcome::Nxdomain(_) if !lookup.name.contains('.') => Some(of_lookup(lookup, "NXDOMAIN")),
        DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => None,
    });
    failed.map(|class| (CAA_LOOKUP, class)).next()
}

fn of_lookup(lookup: &DnsLookup, class: &str) -> String {
    format!("{class} ({} {})", lookup.name, lookup.rtype)
}

/// Kind and class of what went wrong with control.
fn control_error(
    control: &ControlObservation,
    request: &CheckRequest,
    state: PerspectiveState,
) -> Option<(&'static str, String)> {
    match control {
        ControlObservation::Http(fetch) => http_error(fetch),
        ControlObservation::Record(lookup) => {
            let class = match &lookup.outcome {
                DnsOutcome::Answer(_) => return None,
                DnsOutcome::Nodata(_) => "NoAnswer",
                DnsOutcome::Nxdomain(_) => "NXDOMAIN",
                DnsOutcome::Failed(failure) => dns_class(failure),
            };
            Some((DCV_LOOKUP, of_lookup(lookup, class)))
        }
        // A climb that finds nothing is an answer.
        ControlObservation::Climb(levels) => match levels.last().map(|lookup| (lookup, &lookup.outcome)) {
            Some((lookup, DnsOutcome::Failed(failure))) => Some((DCV_LOOKUP, of_lookup(lookup, dns_class(failure)))),
            _ => None,
        },
        ControlObservation::Tls(probe) => tls_error(probe, request, state),
    }
}

/// The name that Open MPIC's DNS library has for a failure.
fn dns_class(failure: &DnsFailure) -> &'static str {
    match failure {
        DnsFailure::Rcode(3) => "NXDOMAIN",
        DnsFailure::Timeout | DnsFailure::DeadlineOfTask => "LifetimeTimeout",
        DnsFailure::IncompleteChain(_) => "NoAnswer",
        DnsFailure::AliasLoop(_) | DnsFailure::AliasChainTooLong => "ChainTooLong",
        DnsFailure::Local(_) => "OSError",
        DnsFailure::Rcode(_)
        | DnsFailure::ResolverUnreachable(_)
        | DnsFailure::Tcp(_)
        | DnsFailure::Malformed(_)
        | DnsFailure::Dnssec(_) => "NoNameservers",
    }
}

fn http_error(fetch: &HttpObservation) -> Option<(&'static str, String)> {
    let failure = match &fetch.outcome {
        HttpOutcome::Response { status: 200, .. } => return None,
        HttpOutcome::Response { status, .. } => return Some(("mpic_error:http", status.to_string())),
        HttpOutcome::Failed(failure) => failure,
    };
    let class = match failure {
        HttpFailure::RedirectRefused(refusal) => {
            let status = fetch.hops.last().and_then(|hop| hop.response.as_ref()).map(|head| head.status);
            let status = status.map(|status| format!("{status} ")).unwrap_or_default();
            return Some(("mpic_error:redirect:invalid", format!("{status}{}", refusal.target)));
        }
        HttpFailure::TooManyRedirects => "TooManyRedirects",
        HttpFailure::NoAddress | HttpFailure::LookupFailed => "ClientConnectorDNSError",
        HttpFailure::OnlySpecialAddresses => "ClientConnectorError",
        HttpFailure::NotAnswered => match fetch.hops.last().and_then(|hop| hop.tries.last()).map(|last| last.end) {
            Some(TryEnd::NotConnected(NetworkError::Timeout) | TryEnd::NoResponse(NetworkError::Timeout)) => {
                "TimeoutError"
            }
            Some(TryEnd::NoResponse(_)) => "ServerDisconnectedError",
            _ => "ClientConnectorError",
        },
        HttpFailure::Tls(_) => "ClientConnectorSSLError",
        HttpFailure::BrokenOff(NetworkError::Timeout) | HttpFailure::TooSlow | HttpFailure::DeadlineOfTask => {
            "TimeoutError"
        }
        HttpFailure::BrokenOff(_) => "ClientPayloadError",
        HttpFailure::BadResponse { .. } => "ClientResponseError",
        HttpFailure::Local(_) => "ClientOSError",
    };
    Some((DCV_LOOKUP, class.to_owned()))
}

fn tls_error(
    probe: &TlsObservation,
    request: &CheckRequest,
    state: PerspectiveState,
) -> Option<(&'static str, String)> {
    let failure = match &probe.outcome {
        TlsOutcome::Handshake(_) if state == PerspectiveState::Contradicted => {
            return certificate_error(probe, request).map(|kind| (kind, "certificate".to_owned()));
        }
        TlsOutcome::Handshake(_) => return None,
        TlsOutcome::Failed(failure) => failure,
    };
    let class = match failure {
        TlsProbeFailure::NoAddress | TlsProbeFailure::LookupFailed => "gaierror",
        TlsProbeFailure::OnlySpecialAddresses => "ConnectionRefusedError",
        TlsProbeFailure::NotAnswered => match probe.tries.last().map(|last| &last.end) {
            Some(TlsTryEnd::NotConnected(NetworkError::Timeout)) => "TimeoutError",
            Some(TlsTryEnd::NotConnected(_)) => "ConnectionRefusedError",
            Some(TlsTryEnd::Handshake | TlsTryEnd::Failed(_)) | None => "SSLError",
        },
        TlsProbeFailure::DeadlineOfTask => "TimeoutError",
        TlsProbeFailure::Local(_) => "OSError",
    };
    Some((DCV_LOOKUP, class.to_owned()))
}

/// Which property of a certificate is wrong; none if it is the digest, which is a failed match.
fn certificate_error(probe: &TlsObservation, request: &CheckRequest) -> Option<&'static str> {
    let expected = match &request.control.as_ref()?.proof {
        Proof::KeyDigest(digest) => digest.octets()?,
        Proof::KeyAuthorization(key) => key.octets(),
        _ => return None,
    };
    let subject = request.subject();
    let Finding::Contradicted(Contradiction::Certificate(fault)) =
        tls_alpn01::judge(&expected, subject.as_ref(), probe)
    else {
        return None;
    };
    let is_address = matches!(subject.as_ref(), Identifier::Ip(_));
    Some(match fault {
        CertificateFault::OtherDigest => return None,
        CertificateFault::ExtensionMissing | CertificateFault::DraftExtension | CertificateFault::NoNames => {
            "mpic_error:dcv_checker:tls_alpn:certificate:extension_missing"
        }
        CertificateFault::NotCritical => "mpic_error:dcv_checker:tls_alpn:certificate:noncritical_alpn_extension",
        CertificateFault::NameCount(_) | CertificateFault::NamesTwice | CertificateFault::UnreadableNames => {
            "mpic_error:dcv_checker:tls_alpn:certificate:no_single_san"
        }
        CertificateFault::NameKind if is_address => "mpic_error:dcv_checker:tls_alpn:certificate:san_type_not_match",
        CertificateFault::NameKind => "mpic_error:dcv_checker:tls_alpn:certificate:san_not_dnsname",
        CertificateFault::OtherName => "mpic_error:dcv_checker:tls_alpn:certificate:san_not_hostname",
        CertificateFault::NoProtocol | CertificateFault::OtherProtocol => "parallax:tls_alpn:protocol",
        CertificateFault::Unreadable => "parallax:tls_alpn:certificate:unreadable",
        CertificateFault::ExtensionTwice | CertificateFault::MalformedExtension => {
            "parallax:tls_alpn:certificate:malformed_alpn_extension"
        }
        CertificateFault::OtherIssuer | CertificateFault::UnknownAlgorithm | CertificateFault::NotSelfSigned => {
            "parallax:tls_alpn:certificate:not_self_signed"
        }
    })
}

fn details(asked: &Asked, request: &CheckRequest, part: &PerspectiveRecord) -> Details {
    let seen = part.observation.as_ref();
    let parameters = match &asked.check {
        Check::Caa(_) => return Details::Caa(seen.map(|seen| caa_details(request, part, seen)).unwrap_or_default()),
        Check::Dcv(parameters) => parameters,
    };
    let validation_method = parameters.validation_method();
    let control = seen.and_then(|seen| seen.control.as_ref());
    match parameters {
        DcvParameters::WebsiteChange { .. } | DcvParameters::AcmeHttp01 { .. } => {
            let details = match control {
                Some(ControlObservation::Http(fetch)) => http_details(fetch),
                _ => HttpDetails::default(),
            };
            Details::Http(HttpDetails { validation_method, ..details })
        }
        DcvParameters::AcmeTlsAlpn01 { .. } => {
            let common_name = match control {
                Some(ControlObservation::Tls(probe)) => common_name(probe),
                _ => None,
            };
            Details::Tls(TlsDetails { validation_method, common_name })
        }
        DcvParameters::DnsChange { .. }
        | DcvParameters::DnsPersistent { .. }
        | DcvParameters::AcmeDns01 { .. }
        | DcvParameters::Contact { .. }
        | DcvParameters::NotOffered { .. } => {
            let kind = request.control.as_ref().and_then(|challenge| challenge.contact_kind());
            let answered = control.and_then(|control| control.records().last());
            let details = answered.map(|lookup| dns_details(lookup, kind)).unwrap_or_default();
            Details::Dns(DnsDetails { validation_method, ..details })
        }
    }
}

fn caa_details(request: &CheckRequest, part: &PerspectiveRecord, seen: &Observation) -> CaaDetails {
    let Some(domain) = request.identifier.domain() else { return CaaDetails::default() };
    if !matches!(part.state, PerspectiveState::Confirmed | PerspectiveState::Contradicted) {
        return CaaDetails::default();
    }
    // Failures that were passed over when it was judged are passed over here.
    match relevant_set(domain, &seen.caa, |_| true).0 {
        RelevantSet::Found(lookup, set) => CaaDetails {
            caa_record_present: Some(true),
            found_at: Some(lookup.name.clone()),
            records_seen: Some(set.rdata.iter().map(caa_text).collect()),
        },
        RelevantSet::None => CaaDetails { caa_record_present: Some(false), ..CaaDetails::default() },
        RelevantSet::Failed(_) | RelevantSet::Incomplete => CaaDetails::default(),
    }
}

/// A record as in a zone file (RFC 8659 §4.1.1); octets that cannot be read, as unknown data (RFC 3597 §5).
fn caa_text(rdata: &Octets) -> String {
    match parse_rdata(rdata.as_slice()) {
        Ok(property) => format!("{} {} \"{}\"", property.flags, property.tag, zone_text(&property.value)),
        Err(_) => {
            let hex: String = rdata.as_slice().iter().map(|octet| format!("{octet:02x}")).collect();
            format!("\\# {} {hex}", rdata.as_slice().len())
        }
    }
}

/// Octets within the quotation marks of a zone file (RFC 1035 §5.1).
fn zone_text(octets: &[u8]) -> String {
    octets.iter().fold(String::with_capacity(octets.len()), |mut text, &octet| {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            0x20..=0x7e => text.push(char::from(octet)),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
        text
    })
}

/// Only a response of status 200 is told; its redirects, as they were sent.
fn http_details(fetch: &HttpObservation) -> HttpDetails {
    let connected = fetch.hops.iter().rev().find_map(|hop| hop.tries.last());
    let resolved_ip = connected.map(|connection| connection.address.ip().to_string());
    let HttpOutcome::Response { status: 200, body, .. } = &fetch.outcome else {
        return HttpDetails { resolved_ip, ..HttpDetails::default() };
    };
    let redirect = |hop: &HttpHop| {
        let head = hop.response.as_ref()?;
        Some(Redirect { status_code: head.status, url: text_of(head.location.as_ref()?.as_slice()) })
    };
    let followed = fetch.hops.len().saturating_sub(1);
    let history: Vec<Redirect> = fetch.hops.iter().take(followed).filter_map(redirect).collect();
    HttpDetails {
        response_history: (!history.is_empty()).then_some(history),
        response_url: fetch.hops.first().map(|hop| hop.url.clone()),
        response_status_code: Some(200),
        response_page: Some(BASE64_STANDARD.encode(body.as_slice())),
        resolved_ip,
        ..HttpDetails::default()
    }
}

/// Only an answer with records is told. Of CAA with a contact in it, that property alone.
fn dns_details(lookup: &DnsLookup, kind: Option<ContactKind>) -> DnsDetails {
    let DnsOutcome::Answer(set) = &lookup.outcome else { return DnsDetails::default() };
    let wanted = kind.map(|kind| match kind {
        ContactKind::Email => TagKind::Contactemail,
        ContactKind::Phone => TagKind::Contactphone,
    });
    let values = set.rdata.iter().filter_map(|rdata| value_text(lookup.rtype, rdata, wanted.as_ref())).collect();
    let ad_flag = match &lookup.validation {
        Some(validation) => validation.status == SecurityStatus::Secure,
        None => lookup.authenticated,
    };
    DnsDetails {
        records_seen: Some(values),
        response_code: Some(0),
        ad_flag: Some(ad_flag),
        found_at: Some(lookup.name.clone()),
        cname_chain: Some(set.aliases.iter().map(|alias| format!("{}.", alias.target)).collect()),
        ..DnsDetails::default()
    }
}

/// The value of a record; none for a property that is not wanted.
fn value_text(rtype: RecordType, rdata: &Octets, wanted: Option<&TagKind>) -> Option<String> {
    let octets = rdata.as_slice();
    match rtype {
        RecordType::Txt => Some(joined_strings(octets).map_or_else(|| escape(octets), |joined| text_of(&joined))),
        RecordType::Caa => match parse_rdata(octets) {
            Ok(property) => wanted.is_none_or(|wanted| wanted == property.tag.kind()).then(|| text_of(&property.value)),
            Err(_) => wanted.is_none().then(|| escape(octets)),
        },
        RecordType::Cname | RecordType::Ptr => {
            Some(names::of_cname(octets).map_or_else(|| escape(octets), |name| format!("{name}.")))
        }
        _ => Some(escape(octets)),
    }
}

/// Octets as text; escaped if they are not UTF-8.
fn text_of(octets: &[u8]) -> String {
    std::str::from_utf8(octets).map_or_else(|_| escape(octets), str::to_owned)
}

/// The common name of the certificate that was shown. It plays no part in any judgement.
fn common_name(probe: &TlsObservation) -> Option<String> {
    let TlsOutcome::Handshake(TlsHandshake { certificate, .. }) = &probe.outcome else { return None };
    let subject = text_of(Certificate::read(&certificate.0).ok()?.subject().as_slice());
    subject.split(", ").find_map(|part| part.strip_prefix("CN=")).map(str::to_owned)
}
