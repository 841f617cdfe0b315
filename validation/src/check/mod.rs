//! One perspective's answer, made from its observation by pure functions.
//!
//! Three things are kept apart: an *outcome* (CAA forbids, the token differs) is a [`Contradiction`]; a
//! *lookup failure* is a [`LookupFailure`] with its evidence; an *error* of our own code or settings
//! never gets here. Only [`Finding::Confirmed`] counts for anything: silence, a default or a missing
//! field is never a confirmation (req A13).

pub mod caa;
pub mod dcv;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::{
    caa::{CaaFinding, authorize::CaaPolicy},
    dcv::{
        Method,
        contact::{self, ContactFault},
        derivation::{self, DerivationFault},
        dns_account01,
        dns_change::{self, ValueFault},
        dns_persist01::{self, PersistFault},
        dns01::{self, TxtFault},
        http01::{self, BodyFault},
        tls_alpn01::{self, CertificateFault},
        website,
    },
};
use crate::{
    base::{perspective::Role, suffix::Suffixes},
    lookup::{http::redirect::Target, tls::alpn},
    observation::{
        ControlObservation, DnsFailure, DnsLookup, DnsOutcome, DnssecMode, HttpFailure, HttpHop, HttpObservation,
        HttpOutcome, Observation, RecordType, SecurityStatus, TlsObservation, TlsProbeFailure,
    },
    plan::{ControlPlan, Host},
    request::{Challenge, CheckRequest, Proof},
};

/// What one perspective's observation means for control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The expected value was found.
    Confirmed,
    /// Something else was found.
    Contradicted(Contradiction),
    /// Nothing that could be judged was found.
    Failed(LookupFailure),
}

/// What was found instead of the expected value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// The response's status is not 200 (req D15, D19); its body was not looked at.
    Status(u16),
    /// The body is not the key authorization.
    Body(BodyFault),
    /// No such record.
    NoRecord {
        /// The name does not exist at all.
        nxdomain: bool,
    },
    /// Records, none of which holds the value (req D6).
    Value(ValueFault),
    /// Records, none of which is the contact (req D10, D11).
    Contact(ContactFault),
    /// The lookups do not lead from the identifier to the name that control was to be shown for (req D1).
    Derivation(DerivationFault),
    /// TXT records, none of them right.
    Txt(TxtFault),
    /// TXT records, none of which lets the account have a certificate (req D9).
    Persist(PersistFault),
    /// A handshake that does not show what it should (req D20).
    Certificate(CertificateFault),
}

/// Why nothing that could be judged was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupFailure {
    /// A question got no answer.
    Dns {
        /// The name asked.
        name: String,
        /// The type asked.
        rtype: RecordType,
        /// What went wrong.
        failure: DnsFailure,
    },
    /// A fetch got no response.
    Http(HttpFailure),
    /// No handshake was completed.
    Tls(TlsProbeFailure),
    /// The observation holds nothing about what was asked. Never a confirmation.
    NotObserved,
    /// Nobody validated DNSSEC, and a primary must (req B1).
    NotValidated,
}

impl LookupFailure {
    /// A question that got no answer.
    #[must_use]
    pub fn dns(lookup: &DnsLookup, failure: &DnsFailure) -> Self {
        Self::Dns { name: lookup.name.clone(), rtype: lookup.rtype, failure: failure.clone() }
    }
}

/// One perspective's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Determination {
    /// For control, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Finding>,
    /// For CAA, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<CaaFinding>,
}

impl Determination {
    /// Whether control was confirmed; none if it was not asked.
    #[must_use]
    pub fn control_confirmed(&self) -> Option<bool> {
        self.control.as_ref().map(|finding| *finding == Finding::Confirmed)
    }

    /// Whether CAA permits; none if it was not asked.
    #[must_use]
    pub fn caa_permits(&self) -> Option<bool> {
        self.caa.as_ref().map(CaaFinding::permits)
    }

    /// Whether everything asked was confirmed: the joint count of req A14. Nothing asked is nothing
    /// confirmed.
    #[must_use]
    pub fn confirms(&self) -> bool {
        let asked = self.control.is_some() || self.caa.is_some();
        asked && self.control_confirmed() != Some(false) && self.caa_permits() != Some(false)
    }
}

/// Judges what one perspective saw. The same rules for the primary and every remote, except that a primary
/// must have validated DNSSEC (TLS BR 2.3.1 §4.2.2.2; req B1, B6).
#[must_use]
pub fn judge(request: &CheckRequest, observation: &Observation, policy: &CaaPolicy, role: Role) -> Determination {
    judge_with(request, observation, policy, &Suffixes::default(), role)
}

/// The same with suffix lists besides the built-in one.
#[must_use]
pub fn judge_with(
    request: &CheckRequest,
    observation: &Observation,
    policy: &CaaPolicy,
    suffixes: &Suffixes,
    role: Role,
) -> Determination {
    let policy = &*request.restrictions.applied_to(policy);
    let unfit = if role == Role::Primary && observation.dnssec == DnssecMode::None {
        Some(LookupFailure::NotValidated)
    } else {
        holds_unproven(observation).then_some(LookupFailure::NotObserved)
    };
    if let Some(failure) = unfit {
        return Determination {
            control: request.control.as_ref().map(|_| Finding::Failed(failure.clone())),
            caa: request.caa.as_ref().map(|_| CaaFinding::Failed(failure)),
        };
    }
    let control = request.control.as_ref().map(|challenge| control(request, challenge, observation, policy, suffixes));
    let reached = observation.diagnosis.as_ref().is_some_and(|diagnosis| diagnosis.reached);
    let caa =
        request.caa.as_ref().map(|check| caa::judge(&request.identifier, check, &observation.caa, reached, policy));
    Determination { control, caa }
}

/// Judges control: what leads to the subject, and then the proof. What is not evidence about what was asked, by the
/// method that was asked, is none.
fn control(
    request: &CheckRequest,
    challenge: &Challenge,
    observation: &Observation,
    policy: &CaaPolicy,
    suffixes: &Suffixes,
) -> Finding {
    // A request is parsed so that this cannot be; one read back from a forged journal was not.
    let is_lawful = derivation::is_lawful(&request.identifier, request.derivation.as_ref(), challenge.method);
    if !is_lawful || request.holds_its_value() {
        return Finding::Failed(LookupFailure::NotObserved);
    }
    match derivation::judge(request, &observation.derivation, suffixes) {
        Finding::Confirmed => proof(request, challenge, observation, policy),
        other => other,
    }
}

fn proof(request: &CheckRequest, challenge: &Challenge, observation: &Observation, policy: &CaaPolicy) -> Finding {
    let not_observed = Finding::Failed(LookupFailure::NotObserved);
    let (Some(plan), Some(seen)) = (ControlPlan::of(request), &observation.control) else { return not_observed };
    if !is_about(&plan, seen) {
        return not_observed;
    }
    match (challenge.method, &challenge.proof, seen) {
        (Method::Http01, Proof::KeyAuthorization(key), ControlObservation::Http(seen)) => http01::judge(key, seen),
        (Method::Dns01, Proof::KeyAuthorization(key), ControlObservation::Record(seen)) => {
            dns01::judge(&key.digest(), Some(key), &request.sibling_digests, seen)
        }
        (Method::Dns01, Proof::KeyDigest(digest), ControlObservation::Record(seen)) => {
            dns01::judge(digest.as_str(), None, &request.sibling_digests, seen)
        }
        (Method::DnsAccount01, Proof::AccountName { key_authorization: key, .. }, ControlObservation::Record(seen)) => {
            dns_account01::judge(key, &request.sibling_digests, seen)
        }
        (Method::DnsPersist01, Proof::Persistent { account_uri }, ControlObservation::Record(seen)) => {
            let wanted = dns_persist01::Wanted {
                issuer_domains: &policy.issuer_domains,
                account_uri,
                // The draft asks for its policy for names below the record's too.
                wildcard: request.identifier.is_wildcard() || request.is_pruned(),
                at: observation.started,
            };
            dns_persist01::judge(&wanted, seen)
        }
        (Method::TlsAlpn01, Proof::KeyAuthorization(key), ControlObservation::Tls(seen)) => {
            tls_alpn01::judge(&key.octets(), &request.subject(), seen)
        }
        (Method::TlsAlpn01, Proof::KeyDigest(digest), ControlObservation::Tls(seen)) => match digest.octets() {
            Some(expected) => tls_alpn01::judge(&expected, &request.subject(), seen),
            None => not_observed,
        },
        (Method::DnsChange, Proof::DnsChange { value, within, .. }, ControlObservation::Record(seen)) => {
            dns_change::judge(value, *within, seen)
        }
        (Method::WebsiteChange, Proof::Website { value, .. }, ControlObservation::Http(seen)) => {
            website::judge(value, seen)
        }
        (
            Method::ContactEmailTxt | Method::ContactPhoneTxt,
            Proof::Contact { contact },
            ControlObservation::Record(seen),
        ) => challenge.contact_kind().map_or(not_observed, |kind| contact::judge_txt(kind, contact, seen)),
        (
            Method::ContactEmailCaa | Method::ContactPhoneCaa,
            Proof::Contact { contact },
            ControlObservation::Climb(levels),
        ) => match (challenge.contact_kind(), request.subject().domain()) {
            (Some(kind), Some(domain)) => contact::judge_caa(kind, contact, domain, levels),
            _ => not_observed,
        },
        _ => not_observed,
    }
}

/// Evidence counts only if it is about what was asked (req A13).
fn is_about(plan: &ControlPlan, seen: &ControlObservation) -> bool {
    match (plan, seen) {
        (ControlPlan::Http { host, path, https, .. }, ControlObservation::Http(seen)) => {
            is_first_url(host, path, *https, seen)
        }
        (ControlPlan::TlsAlpn { host }, ControlObservation::Tls(seen)) => is_named_server(host, seen),
        (ControlPlan::Dns(inquiry), ControlObservation::Record(_) | ControlObservation::Climb(_)) => {
            inquiry.is_answered_by(seen.records())
        }
        _ => false,
    }
}

/// Whether a perspective that validates itself reports an answer which it did not find secure or insecure.
/// It never should.
fn holds_unproven(observation: &Observation) -> bool {
    let proven = |lookup: &DnsLookup| {
        let status = lookup.validation.as_ref().map(|validation| validation.status);
        matches!(status, Some(SecurityStatus::Secure | SecurityStatus::Insecure))
    };
    observation.dnssec == DnssecMode::Local
        && observation.lookups().any(|lookup| !matches!(lookup.outcome, DnsOutcome::Failed(_)) && !proven(lookup))
}

/// The first URL is the challenge's.
fn is_first_url(host: &Host, path: &str, https: bool, seen: &HttpObservation) -> bool {
    let wanted = Target::first(host, path, https).map(|target| target.as_str().to_owned());
    match seen.hops.first() {
        Some(hop) => wanted.is_ok_and(|url| url == hop.url) && seen.hops.iter().all(is_at_its_host),
        // A fetch that never began confirms nothing either way.
        None => matches!(seen.outcome, HttpOutcome::Failed(_)),
    }
}

/// Whether what a hop connected to are addresses that its host was found to have.
fn is_at_its_host(hop: &HttpHop) -> bool {
    let host = url::Url::parse(&hop.url).ok().and_then(|url| url.host().map(|host| host.to_owned()));
    hop.tries.iter().map(|connection| connection.address.ip()).all(|address| match &host {
        Some(url::Host::Domain(_)) => is_address_in(address, &hop.resolution),
        Some(url::Host::Ipv4(host)) => address == *host,
        Some(url::Host::Ipv6(host)) => address == *host,
        None => false,
    })
}

/// This server name was sent, and what was connected to are port 443 of the address itself, or addresses of this
/// name.
fn is_named_server(host: &Host, seen: &TlsObservation) -> bool {
    let mut addresses = seen.tries.iter().map(|connection| connection.address);
    let about = match host {
        Host::Name(name) => {
            seen.resolution.iter().all(|lookup| lookup.name == *name)
                && addresses.clone().all(|tried| is_address_in(tried.ip(), &seen.resolution))
        }
        Host::Ip(address) => seen.resolution.is_empty() && addresses.clone().all(|tried| tried.ip() == *address),
    };
    about && seen.server_name == alpn::server_name(host) && addresses.all(|tried| tried.port() == 443)
}

/// Whether one of the lookups found this address.
fn is_address_in(address: IpAddr, lookups: &[DnsLookup]) -> bool {
    let (rtype, octets) = match address {
        IpAddr::V4(address) => (RecordType::A, address.octets().to_vec()),
        IpAddr::V6(address) => (RecordType::Aaaa, address.octets().to_vec()),
    };
    lookups.iter().filter(|lookup| lookup.rtype == rtype).any(|lookup| match &lookup.outcome {
        DnsOutcome::Answer(set) => set.rdata.iter().any(|rdata| rdata.0 == octets),
        DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) | DnsOutcome::Failed(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::octets::Octets,
        observation::{DnsTransport, HttpHop, RecordSet},
        request::{CaaCheck, Identifier, KeyAuthorization, Proof},
    };

    const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

    fn request(method: Method, identifier: Identifier) -> CheckRequest {
        let key = KeyAuthorization { token: TOKEN.to_owned(), value: format!("{TOKEN}.{}", "T".repeat(43)) };
        CheckRequest {
            id: "one".to_owned().try_into().expect("an id"),
            identifier,
            derivation: None,
            control: Some(Challenge { method, proof: Proof::KeyAuthorization(key) }),
            caa: Some(CaaCheck { method: Some(method), ..CaaCheck::default() }),
            account: None,
            sibling_digests: Vec::new(),
            restrictions: crate::request::Restrictions::default(),
            caller: None,
        }
    }

    fn name() -> Identifier {
        Identifier::Name("customer.example".parse().expect("a name"))
    }

    fn lookup(name: &str, rtype: RecordType, rdata: Vec<u8>) -> DnsLookup {
        let set = RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata: vec![Octets(rdata)] };
        DnsLookup {
            name: name.to_owned(),
            rtype,
            resolver: "192.0.2.53:53".parse().expect("an address"),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome: DnsOutcome::Answer(set),
        }
    }

    fn observation(control: ControlObservation, caa: DnsLookup) -> Observation {
        Observation {
            started: "2026-11-25T12:00:00Z".parse().expect("a timestamp"),
            elapsed_us: 1,
            control: Some(control),
            derivation: Vec::new(),
            caa: vec![caa],
            hints: Vec::new(),
            budget: None,
            dnssec: DnssecMode::None,
            links: Vec::new(),
            diagnosis: None,
            survey: None,
        }
    }

    fn determined(request: &CheckRequest, control: ControlObservation, caa: DnsLookup) -> Determination {
        let policy = CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() };
        judge(request, &observation(control, caa), &policy, Role::Remote)
    }

    fn permitting(rtype: RecordType) -> DnsLookup {
        lookup("customer.example", rtype, b"\x00\x05issueca.example".to_vec())
    }

    fn key(request: &CheckRequest) -> &KeyAuthorization {
        request.control.as_ref().and_then(Challenge::key_authorization).expect("a key authorization")
    }

    fn txt(request: &CheckRequest, name: &str, rtype: RecordType) -> ControlObservation {
        let digest = key(request).digest();
        ControlObservation::Record(lookup(name, rtype, [&[43], digest.as_bytes()].concat()))
    }

    #[test]
    fn b1_a_primary_for_which_nobody_validated_never_confirms() {
        let asked = request(Method::Dns01, name());
        let policy = CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() };
        let seen =
            observation(txt(&asked, "_acme-challenge.customer.example", RecordType::Txt), permitting(RecordType::Caa));
        for (mode, role, confirms) in [
            (DnssecMode::None, Role::Primary, false),
            (DnssecMode::None, Role::Remote, true),
            (DnssecMode::Resolver, Role::Primary, true),
        ] {
            let seen = Observation { dnssec: mode, ..seen.clone() };
            let determination = judge(&asked, &seen, &policy, role);
            assert_eq!(determination.confirms(), confirms, "{mode:?} {role:?}");
            if !confirms {
                assert_eq!(determination.control, Some(Finding::Failed(LookupFailure::NotValidated)));
                assert_eq!(determination.caa, Some(CaaFinding::Failed(LookupFailure::NotValidated)));
            }
        }
    }

    #[test]
    fn a13_txt_evidence_about_another_question_never_confirms() {
        let asked = request(Method::Dns01, name());
        let right = "_acme-challenge.customer.example";
        for (at, rtype, confirms) in [
            (right, RecordType::Txt, true),
            ("_acme-challenge.other.example", RecordType::Txt, false),
            ("customer.example", RecordType::Txt, false),
            (right, RecordType::Caa, false),
        ] {
            let determination = determined(&asked, txt(&asked, at, rtype), permitting(RecordType::Caa));
            assert_eq!(determination.confirms(), confirms, "{at} {rtype}");
        }
        let wrong_type = determined(&asked, txt(&asked, right, RecordType::Txt), permitting(RecordType::Txt));
        assert!(!wrong_type.confirms(), "CAA evidence of another type");
    }

    #[test]
    fn a13_http_evidence_about_another_url_never_confirms() {
        let asked = request(Method::Http01, name());
        let path = format!("/.well-known/acme-challenge/{TOKEN}");
        for (url, confirms) in [
            (format!("http://customer.example{path}"), true),
            (format!("http://other.example{path}"), false),
            ("http://customer.example/".to_owned(), false),
        ] {
            let hop = HttpHop {
                url,
                resolution: Vec::new(),
                unused: Vec::new(),
                tries: Vec::new(),
                tls: None,
                response: None,
            };
            let body = Octets(key(&asked).value.clone().into_bytes());
            let outcome = HttpOutcome::Response { status: 200, body, truncated: false };
            let seen = ControlObservation::Http(HttpObservation { hops: vec![hop.clone()], outcome });
            assert_eq!(determined(&asked, seen, permitting(RecordType::Caa)).confirms(), confirms, "{}", hop.url);
        }
    }

    #[test]
    fn err_a_forged_request_that_could_not_be_parsed_is_judged_without_panic() {
        let forged = request(Method::Dns01, Identifier::Ip("192.0.2.7".parse().expect("an address")));
        let seen = txt(&forged, "_acme-challenge.192.0.2.7", RecordType::Txt);
        assert!(!determined(&forged, seen, permitting(RecordType::Caa)).confirms());
    }
}
