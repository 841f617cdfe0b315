//! What a CA expects, as read from a file: certificates, names, attempts, and what they meet.
//!
//! Decided here: whether every figure can be. Left out: what follows from them (`model`), and files.
//!
//! Invariant: a [`Demand`] that [`Demand::parse`] gives, or [`Demand::check`] accepts, has only finite figures in their
//! ranges, so that the model divides by nothing that is 0.

use parallax_validation::{plan::PlanLimits, verdict::policy::REMOTES_MAX};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::retention::KEEP_DAYS_MIN;

/// A demand with comments.
pub const SAMPLE: &str = include_str!("sample.toml");

/// The most certificates, attempts, names or octets a figure may be.
pub(super) const FIGURE_MAX: f64 = 1e12;
/// Times of a task are at most this, microseconds or milliseconds alike.
const TIME_MAX: f64 = 1e7;
/// How far a sum of shares may be from 1.
const SHARES_TOLERANCE: f64 = 1e-3;
/// Of the attempts, at least one in so many passes.
const FAILING_SHARE_MAX: f64 = 0.9999;
/// The days a journal may keep, at most: a century.
const KEEP_DAYS_MAX: f64 = 36_500.0;

/// A demand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// How many certificates, of how many names.
    pub certificates: Certificates,
    /// How attempts to show control end, and by which methods.
    pub attempts: Attempts,
    /// Who looks.
    pub perspectives: Perspectives,
    /// Peak and headroom.
    pub load: Load,
    /// What lies between a node and what it looks at.
    #[serde(default)]
    pub network: Network,
    /// Sizes on the wire.
    #[serde(default)]
    pub octets: Octets,
    /// Retention.
    #[serde(default)]
    pub journal: Retention,
    /// A mass re-issue to be ready for.
    #[serde(default)]
    pub mass: Option<Mass>,
    /// What resources cost.
    #[serde(default)]
    pub prices: Option<Prices>,
}

/// `[certificates]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    /// Certificates that are in use and are renewed.
    #[serde(default)]
    pub active: Option<f64>,
    /// Certificates issued in a day, under the lifetimes of the day the plan begins.
    #[serde(default)]
    pub per_day: Option<f64>,
    /// Growth of the active ones in a year; 0.1 is a tenth.
    #[serde(default)]
    pub growth_per_year: f64,
    /// Names of a certificate, mean.
    #[serde(default)]
    pub names_mean: Option<f64>,
    /// The same as a distribution.
    #[serde(default)]
    pub names_distribution: Option<Vec<NamesShare>>,
    /// Renewed at this share of the lifetime.
    pub renew_at_share: f64,
    /// Lifetime, if shorter than the rules allow.
    #[serde(default)]
    pub lifetime_days: Option<u32>,
    /// Reuse of validations, if shorter than the rules allow; 0 is none.
    #[serde(default)]
    pub reuse_days: Option<u32>,
    /// Share of freshly validated names whose CAA is looked up once more, 8 hours having passed (req C2).
    #[serde(default)]
    pub caa_again_share: f64,
}

/// So many certificates have so many names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamesShare {
    /// Names.
    pub names: f64,
    /// Share of the certificates.
    pub share: f64,
}

/// `[attempts]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// Share of the attempts to show control that are refused.
    pub failing_share: f64,
    /// Share of them whose target never answers; part of the failing ones.
    pub slow_share: f64,
    /// How long such an attempt is held.
    #[serde(default = "task_deadline_ms")]
    pub slow_held_ms: f64,
    /// By which methods.
    pub methods: Methods,
    /// Share of the names in signed zones.
    #[serde(default)]
    pub signed_share: f64,
    /// Aliases a name is followed through, mean.
    #[serde(default)]
    pub alias_hops_mean: f64,
    /// Labels that CAA is looked for at, mean.
    #[serde(default = "three")]
    pub labels_mean: f64,
}

/// Shares of the methods.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Methods {
    /// DNS change, ACME.
    #[serde(rename = "dns-01", default)]
    pub dns_01: f64,
    /// Website change, ACME.
    #[serde(rename = "http-01", default)]
    pub http_01: f64,
    /// TLS using ALPN.
    #[serde(rename = "tls-alpn-01", default)]
    pub tls_alpn_01: f64,
}

/// `[perspectives]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perspectives {
    /// Beside the primary.
    pub remotes: u8,
    /// Whether remotes are asked only once the primary has confirmed.
    #[serde(default = "yes")]
    pub primary_first: bool,
}

/// `[load]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Peak hour over the mean.
    pub peak_factor: f64,
    /// How busy a core may be in the peak hour.
    pub utilisation: f64,
}

/// `[network]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Added to a task's measured latency, mean.
    pub added_ms: f64,
    /// CPU of the resolver beside a node for one task.
    pub resolver_us_per_task: f64,
    /// CPU of checking signatures for one task of a signed name.
    pub signed_us_per_task: f64,
    /// CPU of the link for one task and its report, on each side.
    pub link_us_per_task: f64,
    /// How long a closed connection holds its port.
    pub time_wait_seconds: f64,
}

/// `[octets]`: sizes on the wire, headers included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Octets {
    /// A question.
    pub question: f64,
    /// A reply without signatures.
    pub reply: f64,
    /// A reply with them.
    pub signed_reply: f64,
    /// An HTTP exchange, out.
    pub http_out: f64,
    /// An HTTP exchange, in.
    pub http_in: f64,
    /// A TLS handshake, out.
    pub tls_out: f64,
    /// A TLS handshake, in.
    pub tls_in: f64,
    /// A task from engine to node.
    pub link_task: f64,
}

/// `[journal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long records are kept.
    pub keep_days: u32,
}

/// `[mass]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mass {
    /// Certificates to be replaced within 24 hours.
    pub certificates: f64,
    /// Whether every name is validated afresh.
    #[serde(default = "yes")]
    pub fresh: bool,
    /// Share of the attempts that are refused; the usual one if missing.
    #[serde(default)]
    pub failing_share: Option<f64>,
}

/// `[prices]`, all in one currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// The currency's name.
    #[serde(default = "units")]
    pub currency: String,
    /// One core for an hour.
    pub core_hour: f64,
    /// One GiB of memory for an hour.
    pub gib_hour: f64,
    /// One TiB that leaves a site.
    pub egress_tib: f64,
    /// One TiB of disk for a month.
    pub disk_tib_month: f64,
}

impl Default for Network {
    fn default() -> Self {
        // Unbound with recursion to a name server on the same machine took 70 to 155 µs a check (docs/planning.md).
        Self {
            added_ms: 0.0,
            resolver_us_per_task: 155.0,
            signed_us_per_task: 0.0,
            link_us_per_task: 0.0,
            time_wait_seconds: 0.0,
        }
    }
}

impl Default for Octets {
    fn default() -> Self {
        Self {
            question: 90.0,
            reply: 200.0,
            signed_reply: 700.0,
            http_out: 500.0,
            http_in: 700.0,
            tls_out: 1300.0,
            tls_in: 1700.0,
            link_task: 600.0,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep_days: KEEP_DAYS_MIN }
    }
}

fn task_deadline_ms() -> f64 {
    f64::from(PlanLimits::default().task_deadline_ms)
}

fn three() -> f64 {
    3.0
}

fn yes() -> bool {
    true
}

fn units() -> String {
    "units".to_owned()
}

/// How a demand is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

/// A demand that cannot be.
#[derive(Debug, Error)]
pub enum DemandError {
    /// Not TOML, or unknown or missing keys.
    #[error("{0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// Not JSON, or unknown or missing keys.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A figure outside its range.
    #[error("{field}: {value} is not in {from}..={to}")]
    Range {
        /// The field.
        field: &'static str,
        /// What it is.
        value: f64,
        /// The least.
        from: f64,
        /// The most.
        to: f64,
    },
    /// Shares that do not add up.
    #[error("{field}: the shares add up to {sum}, not to 1")]
    Sum {
        /// The field.
        field: &'static str,
        /// What they add up to.
        sum: f64,
    },
    /// Both of two fields, or neither.
    #[error("exactly one of {0} and {1} is wanted")]
    ExactlyOne(&'static str, &'static str),
    /// Slow attempts that are not among the failing ones.
    #[error("attempts.slow_share: {slow} is more than attempts.failing_share ({failing}), which it is a part of")]
    SlowBeyondFailing {
        /// The share of the slow.
        slow: f64,
        /// The share of the failing.
        failing: f64,
    },
}

impl Demand {
    /// Reads a demand.
    ///
    /// # Errors
    /// It is not in that form, or a figure cannot be: the field is named.
    pub fn parse(text: &str, form: Form) -> Result<Self, DemandError> {
        let demand: Self = match form {
            Form::Toml => toml::from_str(text).map_err(Box::new)?,
            Form::Json => serde_json::from_str(text)?,
        };
        demand.check()?;
        Ok(demand)
    }

    /// Names of a certificate, mean.
    #[must_use]
    pub fn names_mean(&self) -> f64 {
        match (&self.certificates.names_distribution, self.certificates.names_mean) {
            (Some(shares), _) => shares.iter().map(|share| share.names * share.share).sum(),
            (None, mean) => mean.unwrap_or(1.0),
        }
    }

    /// Whether every figure can be.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), DemandError> {
        self.check_certificates()?;
        self.check_attempts()?;
        range("perspectives.remotes", f64::from(self.perspectives.remotes), 2.0, f64::from(REMOTES_MAX))?;
        range("load.peak_factor", self.load.peak_factor, 1.0, 1000.0)?;
        range("load.utilisation", self.load.utilisation, 0.01, 1.0)?;
        range("journal.keep_days", f64::from(self.journal.keep_days), f64::from(KEEP_DAYS_MIN), KEEP_DAYS_MAX)?;
        self.check_network()?;
        if let Some(mass) = &self.mass {
            range("mass.certificates", mass.certificates, 0.0, FIGURE_MAX)?;
            range("mass.failing_share", mass.failing_share.unwrap_or(0.0), 0.0, FAILING_SHARE_MAX)?;
        }
        if let Some(prices) = &self.prices {
            range("prices.core_hour", prices.core_hour, 0.0, FIGURE_MAX)?;
            range("prices.gib_hour", prices.gib_hour, 0.0, FIGURE_MAX)?;
            range("prices.egress_tib", prices.egress_tib, 0.0, FIGURE_MAX)?;
            range("prices.disk_tib_month", prices.disk_tib_month, 0.0, FIGURE_MAX)?;
        }
        Ok(())
    }

    fn check_certificates(&self) -> Result<(), DemandError> {
        let of = &self.certificates;
        match (of.active, of.per_day) {
            (Some(active), None) => range("certificates.active", active, 1.0, FIGURE_MAX)?,
            (None, Some(per_day)) => range("certificates.per_day", per_day, 1e-3, FIGURE_MAX)?,
            _ => return Err(DemandError::ExactlyOne("certificates.active", "certificates.per_day")),
        }
        match (of.names_mean, &of.names_distribution) {
            (Some(mean), None) => range("certificates.names_mean", mean, 1.0, 10_000.0)?,
            (None, Some(shares)) => {
                for share in shares {
                    range("certificates.names_distribution.names", share.names, 1.0, 10_000.0)?;
                    range("certificates.names_distribution.share", share.share, 0.0, 1.0)?;
                }
                sum("certificates.names_distribution", shares.iter().map(|share| share.share))?;
            }
            _ => return Err(DemandError::ExactlyOne("certificates.names_mean", "certificates.names_distribution")),
        }
        range("certificates.growth_per_year", of.growth_per_year, -0.9, 100.0)?;
        range("certificates.renew_at_share", of.renew_at_share, 0.01, 1.0)?;
        range("certificates.lifetime_days", f64::from(of.lifetime_days.unwrap_or(1)), 1.0, 10_000.0)?;
        range("certificates.caa_again_share", of.caa_again_share, 0.0, 1.0)
    }

    fn check_attempts(&self) -> Result<(), DemandError> {
        let of = &self.attempts;
        range("attempts.failing_share", of.failing_share, 0.0, FAILING_SHARE_MAX)?;
        range("attempts.slow_share", of.slow_share, 0.0, 1.0)?;
        if of.slow_share > of.failing_share {
            return Err(DemandError::SlowBeyondFailing { slow: of.slow_share, failing: of.failing_share });
        }
        range("attempts.slow_held_ms", of.slow_held_ms, 1.0, TIME_MAX)?;
        range("attempts.methods.dns-01", of.methods.dns_01, 0.0, 1.0)?;
        range("attempts.methods.http-01", of.methods.http_01, 0.0, 1.0)?;
        range("attempts.methods.tls-alpn-01", of.methods.tls_alpn_01, 0.0, 1.0)?;
        sum("attempts.methods", [of.methods.dns_01, of.methods.http_01, of.methods.tls_alpn_01].into_iter())?;
        range("attempts.signed_share", of.signed_share, 0.0, 1.0)?;
        range("attempts.alias_hops_mean", of.alias_hops_mean, 0.0, 16.0)?;
        range("attempts.labels_mean", of.labels_mean, 1.0, 127.0)
    }

    fn check_network(&self) -> Result<(), DemandError> {
        let (network, octets) = (&self.network, &self.octets);
        for (field, value, most) in [
            ("network.added_ms", network.added_ms, TIME_MAX),
            ("network.resolver_us_per_task", network.resolver_us_per_task, TIME_MAX),
            ("network.signed_us_per_task", network.signed_us_per_task, TIME_MAX),
            ("network.link_us_per_task", network.link_us_per_task, TIME_MAX),
            ("network.time_wait_seconds", network.time_wait_seconds, 3600.0),
            ("octets.question", octets.question, FIGURE_MAX),
            ("octets.reply", octets.reply, FIGURE_MAX),
            ("octets.signed_reply", octets.signed_reply, FIGURE_MAX),
            ("octets.http_out", octets.http_out, FIGURE_MAX),
            ("octets.http_in", octets.http_in, FIGURE_MAX),
            ("octets.tls_out", octets.tls_out, FIGURE_MAX),
            ("octets.tls_in", octets.tls_in, FIGURE_MAX),
            ("octets.link_task", octets.link_task, FIGURE_MAX),
        ] {
            range(field, value, 0.0, most)?;
        }
        Ok(())
    }
}

fn range(field: &'static str, value: f64, from: f64, to: f64) -> Result<(), DemandError> {
    // What is no number is in no range.
    if (from..=to).contains(&value) { Ok(()) } else { Err(DemandError::Range { field, value, from, to }) }
}

fn sum(field: &'static str, shares: impl Iterator<Item = f64>) -> Result<(), DemandError> {
    let sum: f64 = shares.sum();
    if (sum - 1.0).abs() <= SHARES_TOLERANCE { Ok(()) } else { Err(DemandError::Sum { field, sum }) }
}
