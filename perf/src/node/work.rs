//! What a node is given to do, and what must come of it.
//!
//! Every report is judged by the rules that a verdict is made by, with one shortcut: a certificate that has been
//! judged right once is compared octet by octet afterwards, so that the checker's arithmetic on its signature is not
//! counted as the node's.
//!
//! Items take turns with a thousand names, all for one challenge. Two questions for one name at a time are as good as
//! never asked over the same port with the same id, so that a late reply to one is not taken for a wrong one to another;
//! with one name that happens, and a node then asks again over TCP. Only a handshake is always for the same name, which
//! is in the server's certificate.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use clap::ValueEnum;
use parallax_protocol::Report;
use parallax_validation::{
    base::{address::AddressFilter, perspective::Role},
    check::{self, caa::authorize::CaaPolicy},
    explain,
    observation::{
        CertificateDer, ControlObservation, DnsFailure, DnsOutcome, NetworkError, Observation, TlsHandshake,
        TlsOutcome, TryEnd,
    },
    plan::{Plan, PlanLimits},
    request::{CheckRequest, RawRequest},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The challenge's token, and the last of an http-01 path.
pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const THUMBPRINT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
/// The name in the TLS server's certificate; its CAA climb has three levels, as that of the other names has.
const NAME: &str = "www.customer.example";
/// Other names that items take turns with.
const NAMES: u64 = 1_000;
/// Of 10 checks of a mix, the first so many are http-01 and the next so many dns-01; the rest are tls-alpn-01.
const MIX: (u64, u64) = (5, 4);

/// Silent web servers are at 127.1.0.1 and so many more: each connection to one peer needs a port of its own, of which
/// one source address has 28 232.
pub const SILENT_ADDRESSES: u8 = 250;

/// What a node is given to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// One dns-01 lookup: one TXT question and its answer.
    Resolver,
    /// One CAA check of three levels, none of which has a set: three questions.
    Caa,
    /// One http-01 fetch of a small body.
    Http,
    /// One tls-alpn-01 handshake.
    Tls,
    /// As a CA has them: 5 of 10 http-01, 4 dns-01, 1 tls-alpn-01, each with a CAA check of three levels.
    Mixed,
}

/// What the servers must answer, so that the checks succeed.
#[derive(Debug, Serialize)]
pub struct Values {
    /// The name that a tls-alpn-01 certificate must hold.
    pub name: &'static str,
    /// What every TXT record must hold.
    pub text: String,
    /// The body of an http-01 response, and what a tls-alpn-01 certificate proves.
    pub key_authorization: String,
}

impl Values {
    /// They are constant.
    #[must_use]
    pub fn new() -> Self {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let key_authorization = format!("{TOKEN}.{THUMBPRINT}");
        Self { name: NAME, text: URL_SAFE_NO_PAD.encode(Sha256::digest(&key_authorization)), key_authorization }
    }
}

impl Default for Values {
    fn default() -> Self {
        Self::new()
    }
}

/// Items of one kind, with what must come of each.
#[derive(Debug)]
pub struct Items {
    kinds: Vec<Vec<Item>>,
    policy: CaaPolicy,
}

/// What is asked about one name.
#[derive(Debug)]
struct Item {
    request: CheckRequest,
    /// The same request for CAA alone, if it asks for control and CAA.
    caa_alone: Option<CheckRequest>,
    plan: Plan,
    /// A certificate that was judged right.
    known: Option<CertificateDer>,
}

impl Items {
    /// Items of a work. By address they need no name to be resolved.
    ///
    /// # Errors
    /// The limits cannot be, or the work cannot be done by address.
    pub fn new(work: Work, address: Option<IpAddr>, limits: PlanLimits) -> Result<Self, String> {
        if address.is_some() && !matches!(work, Work::Http | Work::Tls) {
            return Err("only http and tls can be asked of an address".to_owned());
        }
        let of = |method: &str, caa| -> Result<Vec<Item>, String> {
            match (address, method) {
                (Some(address), _) => Ok(vec![Item::new(method, &address.to_string(), caa, limits)?]),
                (None, "tls-alpn-01") => Ok(vec![Item::new(method, NAME, caa, limits)?]),
                (None, _) => {
                    let names = (0..NAMES).map(|name| format!("www.c{name}.example"));
                    names.map(|name| Item::new(method, &name, caa, limits)).collect()
                }
            }
        };
        let kinds = match work {
            Work::Resolver => vec![of("dns-01", false)?],
            Work::Caa => vec![of("caa", true)?],
            Work::Http => vec![of("http-01", false)?],
            Work::Tls => vec![of("tls-alpn-01", false)?],
            Work::Mixed => vec![of("http-01", true)?, of("dns-01", true)?, of("tls-alpn-01", true)?],
        };
        Ok(Self { kinds, policy: CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() } })
    }

    /// The plan of item `number`: one of its own, as a link gives it.
    #[must_use]
    pub fn plan(&self, number: u64) -> Arc<Plan> {
        let (kind, name) = self.place(number);
        Arc::new(self.kinds[kind][name].plan.clone())
    }

    /// Which kind it is, and which name of it.
    fn place(&self, number: u64) -> (usize, usize) {
        let turn = number % 10;
        let of_mix = usize::from(turn >= MIX.0) + usize::from(turn >= MIX.0 + MIX.1);
        let kind = if self.kinds.len() == 1 { 0 } else { of_mix };
        // Kinds take turns by the last digit, so names do by the others too.
        (kind, ((number / 10 + number) % self.kinds[kind].len() as u64) as usize)
    }

    /// Whether a report on item `number` confirms it.
    ///
    /// # Errors
    /// What it says instead, in words.
    pub fn check(&mut self, number: u64, report: &Report) -> Result<(), String> {
        let (kind, name) = self.place(number);
        let Item { request, caa_alone, known, .. } = &mut self.kinds[kind][name];
        let observation = &*report.observation;
        let shown = certificate(observation);
        let is_known = shown.is_some() && shown.map(|shown| &shown.certificate) == known.as_ref();
        let rest = if is_known { caa_alone.as_ref() } else { Some(&*request) };
        let Some(rest) = rest else { return Ok(()) };
        let found = check::judge(rest, observation, &self.policy, Role::Remote);
        if found.confirms() {
            *known = shown.map(|shown| shown.certificate.clone());
            return Ok(());
        }
        let told = explain::explain_one(rest, &report.perspective, &found, observation);
        Err(told.map_or_else(|| format!("{found:?}"), |part| part.detail))
    }
}

/// The handshake of a probe, if it agreed on `acme-tls/1`.
fn certificate(observation: &Observation) -> Option<&TlsHandshake> {
    match &observation.control {
        Some(ControlObservation::Tls(probe)) => match &probe.outcome {
            TlsOutcome::Handshake(handshake) => {
                let is_acme =
                    |protocol: &parallax_validation::base::octets::Octets| protocol.as_slice() == b"acme-tls/1";
                handshake.protocol.as_ref().is_some_and(is_acme).then_some(handshake)
            }
            TlsOutcome::Failed(_) => None,
        },
        _ => None,
    }
}

impl Item {
    fn new(method: &str, identifier: &str, caa: bool, limits: PlanLimits) -> Result<Self, String> {
        limits.check()?;
        let request = request_of(method, identifier, caa)?;
        let caa_alone = (method != "caa" && caa).then(|| request_of("caa", identifier, true)).transpose()?;
        let plan = Plan::new(&request, limits, None);
        Ok(Self { request, caa_alone, plan, known: None })
    }
}

fn request_of(method: &str, identifier: &str, caa: bool) -> Result<CheckRequest, String> {
    let control = method != "caa";
    let raw = RawRequest {
        identifier: identifier.to_owned(),
        method: method.to_owned(),
        token: control.then(|| TOKEN.to_owned()),
        key_authorization: control.then(|| Values::new().key_authorization),
        caa: control.then_some(caa),
        ..RawRequest::default()
    };
    let filter = AddressFilter::allowing(super::loopback());
    CheckRequest::parse(raw, "load", &filter.into(), jiff::Timestamp::now()).map_err(|error| error.to_string())
}

/// What a node is given to do that ends in silence, and only then.
#[derive(Debug)]
pub struct SilentItems {
    plans: Vec<Plan>,
    /// How the last try of a fetch must end; none for lookups.
    end: Option<TryEnd>,
}

impl SilentItems {
    /// Fetches of servers that accept and say nothing, at [`SILENT_ADDRESSES`] addresses.
    ///
    /// # Errors
    /// The limits cannot be.
    pub fn http(limits: PlanLimits) -> Result<Self, String> {
        Self::fetches(1, limits, TryEnd::NoResponse(NetworkError::Timeout))
    }

    /// Fetches of hosts that answer no SYN, at as many addresses.
    ///
    /// # Errors
    /// The limits cannot be.
    pub fn http_unanswered(limits: PlanLimits) -> Result<Self, String> {
        Self::fetches(77, limits, TryEnd::NotConnected(NetworkError::Timeout))
    }

    /// Fetches at 127.`network`.0.1 and so on, and how their tries must end.
    fn fetches(network: u8, limits: PlanLimits, end: TryEnd) -> Result<Self, String> {
        let of = |last| Item::new("http-01", &Ipv4Addr::new(127, network, 0, last).to_string(), false, limits);
        let plans = (1..=SILENT_ADDRESSES).map(|last| Ok(of(last)?.plan)).collect::<Result<_, String>>()?;
        Ok(Self { plans, end: Some(end) })
    }

    /// Lookups that a resolver never answers.
    ///
    /// # Errors
    /// The limits cannot be.
    pub fn dns(limits: PlanLimits) -> Result<Self, String> {
        Ok(Self { plans: vec![Item::new("dns-01", NAME, false, limits)?.plan], end: None })
    }

    /// The plan of item `number`: one of its own, as a link gives it.
    #[must_use]
    pub fn plan(&self, number: u64) -> Arc<Plan> {
        Arc::new(self.plans[(number % self.plans.len() as u64) as usize].clone())
    }

    /// Whether a report says that nothing came, after the question, the request or the SYN had gone out.
    ///
    /// # Errors
    /// What it says instead.
    pub fn check(&self, report: &Report) -> Result<(), String> {
        let is_silence = match &report.observation.control {
            Some(ControlObservation::Record(lookup)) => lookup.outcome == DnsOutcome::Failed(DnsFailure::Timeout),
            Some(ControlObservation::Http(fetch)) => {
                let last = fetch.hops.last().and_then(|hop| hop.tries.last()).map(|one| one.end);
                last.is_some() && last == self.end
            }
            _ => false,
        };
        if is_silence { Ok(()) } else { Err(format!("{:?}", report.observation.control)) }
    }
}
