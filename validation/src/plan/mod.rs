//! `Plan`: the lookups and probes every perspective makes for one attempt, with their limits.
//!
//! A plan never holds the expected value: a perspective reports what it saw, and the comparison is the
//! CA's (req D4).

pub mod inquiry;
pub mod survey;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::{inquiry::Inquiry, survey::SurveyPlan};
use crate::{
    base::limits::{
        FILE_CHARS_MAX, HINTS_MAX, HTTP_BODY_BYTES_MAX, NAME_LABELS_MAX, NAME_OCTETS_MAX, TOKEN_CHARS_MAX,
        WEBSITE_BODY_BYTES_MAX,
    },
    check::dcv::{Method, dns_account01, dns_persist01, website},
    observation::RecordType,
    request::{Challenge, CheckRequest, Identifier, Proof},
};

/// Of the path of a first request: a folder below `/.well-known/`, and a token or a file.
const PATH_CHARS_MAX: usize = 64 + if FILE_CHARS_MAX > TOKEN_CHARS_MAX { FILE_CHARS_MAX } else { TOKEN_CHARS_MAX };

/// What to look up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// For control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlPlan>,
    /// What leads from the identifier to the name that control is shown for, if that takes lookups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Inquiry>,
    /// The levels of the CAA climb, leaf first (req C6); empty if CAA is not checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caa_levels: Vec<String>,
    /// Names to ask TXT of once, after control was not shown, to explain why (`cases.md` D19, D22). Only
    /// the primary's plan has any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<Hint>,
    /// Whether DNSSEC proofs are kept whole in the observation (req B7), as the primary's are. Otherwise only
    /// those of lookups that failed are.
    #[serde(default)]
    pub keep_proof: bool,
    /// Whether the name servers of a zone are asked themselves once a lookup of theirs has failed for good, to
    /// explain why. Only the primary's plan says so.
    #[serde(default)]
    pub diagnose: bool,
    /// Whether every name server of the zone is asked itself, whatever the lookups come to. No attempt's plan says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survey: Option<Box<SurveyPlan>>,
    /// How long each part may take.
    pub limits: PlanLimits,
}

/// What to look up for control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlPlan {
    /// GET `path` on port 80 (RFC 8555 §8.3), or as TLS BR 2.3.1 §3.2.2.4.18 has it.
    Http {
        /// Whom to ask.
        host: Host,
        /// Path of the first request.
        path: String,
        /// Whether the first request goes to port 443, over TLS.
        #[serde(default)]
        https: bool,
        /// Octets of the body that are read.
        body_bytes: u32,
    },
    /// Records (RFC 8555 §8.4, TLS BR 2.3.1 §3.2.2.4.7, §3.2.2.4.21 and §3.2.2.4.22).
    Dns(Inquiry),
    /// A TLS handshake on port 443 that offers `acme-tls/1` alone (RFC 8737 §3).
    TlsAlpn {
        /// Whom to ask.
        host: Host,
    },
}

/// A host in a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// To be resolved.
    Name(String),
    /// To be connected to.
    Ip(IpAddr),
}

/// A lookup that explains a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// What it would show.
    pub kind: HintKind,
    /// The name whose TXT is asked.
    pub name: String,
}

/// What a hint lookup would show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HintKind {
    /// The record was entered with the domain's name twice (`cases.md` D19).
    DoubledName,
    /// A name nobody created is answered too, so a wildcard is at work (`cases.md` D22).
    WildcardSibling,
}

/// How long each part of a plan may take, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanLimits {
    /// The whole task of a perspective.
    pub task_deadline_ms: u32,
    /// From sending a query to sending it again or giving up.
    pub dns_try_ms: u32,
    /// Times a query is sent over UDP, 1 to 3.
    pub dns_transmissions: u8,
    /// A CAA lookup that failed in an unsigned zone is repeated after this; 0 repeats none. It must be longer
    /// than the resolver keeps failures (req C16, D36).
    pub caa_repeat_ms: u32,
    /// One TCP connection.
    pub http_connect_ms: u32,
    /// From connection to the complete response, or to the end of a TLS handshake. Less if what has begun to come is
    /// too slow: see [`PACE_GRACE_MS`](crate::base::limits::PACE_GRACE_MS) and
    /// [`PACE_OCTETS_PER_SECOND_MIN`](crate::base::limits::PACE_OCTETS_PER_SECOND_MIN).
    pub http_response_ms: u32,
}

impl Default for PlanLimits {
    fn default() -> Self {
        Self {
            task_deadline_ms: 15_000,
            dns_try_ms: 4_000,
            dns_transmissions: 2,
            caa_repeat_ms: 0,
            http_connect_ms: 3_000,
            http_response_ms: 5_000,
        }
    }
}

impl PlanLimits {
    /// Checks the relations between the limits.
    ///
    /// # Errors
    /// A text that names the key and the relation.
    pub fn check(&self) -> Result<(), String> {
        let range = |key: &str, value: u32| {
            if (50..=120_000).contains(&value) { Ok(()) } else { Err(format!("{key}: {value} is not in 50..=120000")) }
        };
        range("task_deadline_ms", self.task_deadline_ms)?;
        range("dns_try_ms", self.dns_try_ms)?;
        range("http_connect_ms", self.http_connect_ms)?;
        range("http_response_ms", self.http_response_ms)?;
        if !(1..=3).contains(&self.dns_transmissions) {
            return Err(format!("dns_transmissions: {} is not in 1..=3", self.dns_transmissions));
        }
        let dns = self.dns_try_ms * u32::from(self.dns_transmissions);
        if dns > self.task_deadline_ms {
            return Err(format!(
                "dns_try_ms: {} times dns_transmissions ({}) exceeds task_deadline_ms ({})",
                self.dns_try_ms, self.dns_transmissions, self.task_deadline_ms
            ));
        }
        if self.caa_repeat_ms != 0 {
            range("caa_repeat_ms", self.caa_repeat_ms)?;
            if 2 * dns + self.caa_repeat_ms >= self.task_deadline_ms {
                return Err(format!(
                    "caa_repeat_ms: {} with two lookups of {dns} leaves nothing of task_deadline_ms ({})",
                    self.caa_repeat_ms, self.task_deadline_ms
                ));
            }
        }
        Ok(())
    }
}

impl ControlPlan {
    /// What the resolver is asked, if control is shown by records.
    #[must_use]
    pub fn inquiry(&self) -> Option<&Inquiry> {
        match self {
            Self::Dns(inquiry) => Some(inquiry),
            Self::Http { .. } | Self::TlsAlpn { .. } => None,
        }
    }

    /// TXT of a name.
    #[must_use]
    pub fn txt(name: impl Into<String>) -> Self {
        Self::Dns(Inquiry::txt(name))
    }

    /// A fetch of a challenge: http, and no more of the body than a key authorization needs.
    #[must_use]
    pub fn http(host: Host, path: impl Into<String>) -> Self {
        Self::Http { host, path: path.into(), https: false, body_bytes: HTTP_BODY_BYTES_MAX as u32 }
    }

    /// What control of a request needs; none if control is not asked, or of a request that no parsing gave.
    #[must_use]
    pub fn of(request: &CheckRequest) -> Option<Self> {
        let challenge = request.control.as_ref()?;
        let subject = request.subject();
        let host = || match subject.as_ref() {
            Identifier::Name(name) | Identifier::Wildcard(name) => Some(Host::Name(name.to_string())),
            Identifier::Ip(address) => Some(Host::Ip(*address)),
            Identifier::Mailbox(_) => None,
        };
        match (challenge.method, &challenge.proof) {
            (Method::Http01, Proof::KeyAuthorization(key)) => {
                Some(Self::http(host()?, format!("/.well-known/acme-challenge/{}", key.token)))
            }
            (Method::TlsAlpn01, Proof::KeyAuthorization(_) | Proof::KeyDigest(_)) => {
                Some(Self::TlsAlpn { host: host()? })
            }
            (Method::Dns01, Proof::KeyAuthorization(_) | Proof::KeyDigest(_)) => {
                Some(Self::txt(format!("_acme-challenge.{}", subject.domain()?)))
            }
            (Method::DnsAccount01, Proof::AccountName { account_uri, .. }) => {
                Some(Self::txt(dns_account01::record_name(account_uri, subject.domain()?)))
            }
            (Method::DnsPersist01, Proof::Persistent { .. }) => Some(Self::txt(dns_persist01::record_name(&subject)?)),
            (Method::DnsChange, Proof::DnsChange { record, prefix, .. }) => {
                let domain = subject.domain()?;
                let name = prefix.as_ref().map_or_else(|| domain.to_string(), |label| format!("{label}.{domain}"));
                Some(Self::Dns(Inquiry::Records { name, rtype: record.rtype() }))
            }
            (Method::WebsiteChange, Proof::Website { file, https, .. }) => Some(Self::Http {
                host: host()?,
                path: format!("{}{file}", website::FOLDER),
                https: *https,
                body_bytes: WEBSITE_BODY_BYTES_MAX as u32,
            }),
            (Method::ContactEmailTxt | Method::ContactPhoneTxt, Proof::Contact { .. }) => {
                Some(Self::txt(challenge.contact_kind()?.record_name(subject.domain()?)))
            }
            (Method::ContactEmailCaa | Method::ContactPhoneCaa, Proof::Contact { .. }) => {
                let levels = subject.domain()?.tree_climb().map(str::to_owned).collect();
                Some(Self::Dns(Inquiry::Climb { levels }))
            }
            _ => None,
        }
    }
}

impl Plan {
    /// The plan of a request. `sibling` is a random label for the wildcard hint; without one the plan
    /// has no hints, as a remote's.
    #[must_use]
    pub fn new(request: &CheckRequest, limits: PlanLimits, sibling: Option<&str>) -> Self {
        let control = ControlPlan::of(request);
        let caa_levels = match (&request.caa, request.identifier.domain()) {
            (Some(_), Some(name)) => name.tree_climb().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        // What a wrong value of another method looks like is not known here, and so not when to ask.
        let hinted = |challenge: &Challenge| {
            matches!(challenge.method, Method::Dns01 | Method::DnsAccount01 | Method::DnsPersist01)
        };
        let sibling = sibling.filter(|_| request.control.as_ref().is_some_and(hinted));
        let hints = match (&control, sibling) {
            (Some(ControlPlan::Dns(Inquiry::Records { name, rtype: RecordType::Txt })), Some(sibling)) => {
                hints(request, name, sibling)
            }
            _ => Vec::new(),
        };
        Self {
            control,
            derivation: request.derivation_inquiry(),
            caa_levels,
            hints,
            keep_proof: false,
            diagnose: false,
            survey: None,
            limits,
        }
    }

    /// The plan of a survey: what a check of CAA and of the challenge name would look up, with every name server asked
    /// itself. With a random label the plan has a hint that shows whether a wildcard answers for the challenge name.
    #[must_use]
    pub fn of_survey(
        request: &CheckRequest,
        (label, sibling): (&str, Option<&str>),
        limits: PlanLimits,
    ) -> Option<Self> {
        let name = request.identifier.domain()?;
        let survey = SurveyPlan::new(name, label);
        let sibling = sibling.map(|sibling| format!("{sibling}.{name}")).filter(|name| name.len() <= NAME_OCTETS_MAX);
        let hints = sibling.map(|name| Hint { kind: HintKind::WildcardSibling, name }).into_iter().collect();
        let control = Some(ControlPlan::txt(survey.challenge.clone()));
        Some(Self { control, hints, survey: Some(Box::new(survey)), ..Self::new(request, limits, None) })
    }

    /// The plan of a look that shows whether a perspective's resolver answers: SOA of a name, and nothing else.
    #[must_use]
    pub fn of_resolver(name: &str) -> Self {
        Self {
            control: Some(ControlPlan::Dns(Inquiry::Records { name: name.to_owned(), rtype: RecordType::Soa })),
            derivation: None,
            caa_levels: Vec::new(),
            hints: Vec::new(),
            keep_proof: false,
            diagnose: false,
            survey: None,
            limits: PlanLimits::default(),
        }
    }

    /// Whether it stays within the bounds of what [`Plan::new`] makes: for a perspective that was sent it.
    ///
    /// # Errors
    /// What does not, by field.
    pub fn check(&self) -> Result<(), String> {
        let check_name = |name: &str| {
            let fits = (1..=NAME_OCTETS_MAX).contains(&name.len()) && name.is_ascii();
            if fits { Ok(()) } else { Err(format!("a name of {} octets", name.len())) }
        };
        let levels = |field: &str, levels: &[String]| {
            if levels.len() > NAME_LABELS_MAX {
                return Err(format!("{field}: {} levels", levels.len()));
            }
            levels.iter().try_for_each(|level| check_name(level).map_err(|problem| format!("{field}: {problem}")))
        };
        let inquiry = |field: &str, inquiry: &Inquiry| match inquiry {
            Inquiry::Climb { levels: of } => levels(field, of),
            Inquiry::Records { name: one, .. } => check_name(one).map_err(|problem| format!("{field}: {problem}")),
            Inquiry::Aliases { from: one, to: other } | Inquiry::Mail { domain: one, host: other } => {
                check_name(one).and_then(|()| check_name(other)).map_err(|problem| format!("{field}: {problem}"))
            }
        };
        let host = |host: &Host| match host {
            Host::Name(name) => check_name(name).map_err(|problem| format!("control.host: {problem}")),
            Host::Ip(_) => Ok(()),
        };
        match &self.control {
            None => {}
            Some(ControlPlan::Dns(asked)) => inquiry("control", asked)?,
            Some(ControlPlan::TlsAlpn { host: asked }) => host(asked)?,
            Some(ControlPlan::Http { host: asked, path, body_bytes, .. }) => {
                host(asked)?;
                if *body_bytes as usize > WEBSITE_BODY_BYTES_MAX.max(HTTP_BODY_BYTES_MAX) {
                    return Err(format!("control.body_bytes: {body_bytes}"));
                }
                let is_path = path.starts_with('/')
                    && path.len() <= PATH_CHARS_MAX
                    && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\".contains(&b));
                if !is_path {
                    return Err("control.path: no plain path, or too long".to_owned());
                }
            }
        }
        self.derivation.as_ref().map_or(Ok(()), |asked| inquiry("derivation", asked))?;
        levels("caa_levels", &self.caa_levels)?;
        if self.hints.len() > HINTS_MAX {
            return Err(format!("hints: {}", self.hints.len()));
        }
        if let Some(SurveyPlan { name, challenge }) = self.survey.as_deref() {
            check_name(name).and_then(|()| check_name(challenge)).map_err(|problem| format!("survey: {problem}"))?;
        }
        self.hints.iter().try_for_each(|hint| check_name(&hint.name).map_err(|problem| format!("hints: {problem}")))?;
        self.limits.check().map_err(|problem| format!("limits: {problem}"))
    }

    /// The name it is about, if it is not about an address alone.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        match &self.control {
            Some(ControlPlan::Dns(inquiry)) => Some(inquiry.subject()),
            Some(
                ControlPlan::Http { host: Host::Name(name), .. } | ControlPlan::TlsAlpn { host: Host::Name(name) },
            ) => Some(name),
            Some(ControlPlan::Http { host: Host::Ip(_), .. } | ControlPlan::TlsAlpn { host: Host::Ip(_) }) | None => {
                self.caa_levels.first().map(String::as_str)
            }
        }
    }
}

fn hints(request: &CheckRequest, name: &str, sibling: &str) -> Vec<Hint> {
    let subject = request.subject();
    let Some(domain) = subject.domain() else { return Vec::new() };
    let candidates = [
        (HintKind::DoubledName, format!("{name}.{}", domain.base_domain())),
        (HintKind::WildcardSibling, format!("{sibling}.{domain}")),
    ];
    candidates
        .into_iter()
        .filter(|(_, name)| name.len() <= NAME_OCTETS_MAX)
        .map(|(kind, name)| Hint { kind, name })
        .collect()
}
