//! From certificates to attempts a day: the rules' part of the arithmetic.
//!
//! Decided here: how many certificates are issued, how many names are validated afresh or have CAA looked up again, and
//! how many attempts that takes. Left out: what attempts cost (`needs`).
//!
//! Certificates are taken to be renewed evenly, each when its share of the lifetime has passed.

use std::ops::{Add, Index, IndexMut, Mul};

use serde::{Serialize, Serializer};

use super::{
    demand::{Demand, Mass},
    lifetimes::Step,
    times::Kind,
};

/// A number of renewals this little below a whole one is that: a share of a lifetime is seldom exact in binary.
const ROUNDING: f64 = 1e-9;
/// Seconds of a day.
pub const SECONDS_OF_DAY: f64 = 86_400.0;

/// One figure for each kind of attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ByKind([f64; Kind::ALL.len()]);

impl ByKind {
    /// All kinds together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Those that end as permissions.
    #[must_use]
    pub fn permitted(&self) -> f64 {
        self.iter().filter(|(kind, _)| kind.is_permitted()).map(|(_, figure)| figure).sum()
    }

    /// Kind by kind.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, f64)> {
        Kind::ALL.into_iter().zip(self.0)
    }

    /// The mean of a figure over all attempts; 0 if there are none.
    pub fn mean(&self, figure: impl Fn(Kind) -> f64) -> f64 {
        let sum = self.sum();
        if sum == 0.0 { 0.0 } else { self.iter().map(|(kind, rate)| rate * figure(kind)).sum::<f64>() / sum }
    }
}

impl Index<Kind> for ByKind {
    type Output = f64;

    fn index(&self, kind: Kind) -> &f64 {
        &self.0[kind as usize]
    }
}

impl IndexMut<Kind> for ByKind {
    fn index_mut(&mut self, kind: Kind) -> &mut f64 {
        &mut self.0[kind as usize]
    }
}

impl Mul<f64> for ByKind {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self(self.0.map(|figure| figure * factor))
    }
}

impl Add for ByKind {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (figure, further) in self.0.iter_mut().zip(other.0) {
            *figure += further;
        }
        self
    }
}

impl Serialize for ByKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, figure)| (kind.name(), figure)))
    }
}

/// What a day brings at a step, mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Certificates in use.
    pub active: f64,
    /// Lifetime: the rules' or the CA's own, whichever is shorter.
    pub lifetime_days: f64,
    /// Reuse of validations, likewise.
    pub reuse_days: f64,
    /// Between two issuances for the same names.
    pub renewal_days: f64,
    /// Certificates issued.
    pub certificates_per_day: f64,
    /// Their names.
    pub names_per_day: f64,
    /// Share of these that are validated afresh; the others use an earlier validation again.
    pub fresh_share: f64,
    /// Attempts by kind.
    pub attempts_per_day: ByKind,
}

/// Between two issuances for the same names, days.
#[must_use]
pub fn renewal_days(demand: &Demand, step: &Step) -> f64 {
    lifetime_days(demand, step) * demand.certificates.renew_at_share
}

fn lifetime_days(demand: &Demand, step: &Step) -> f64 {
    f64::from(demand.certificates.lifetime_days.map_or(step.lifetime_days, |own| own.min(step.lifetime_days)))
}

/// Share of issuances that need a validation of their own: one validation serves the issuance it is made for and each
/// further one within its reuse (TLS BR 2.3.1 §4.2.1).
#[must_use]
pub fn fresh_share(renewal_days: f64, reuse_days: f64) -> f64 {
    1.0 / ((reuse_days / renewal_days + ROUNDING).floor() + 1.0)
}

impl Traffic {
    /// What a day at `step` brings, for a demand of the day of `first`.
    #[must_use]
    pub fn at(demand: &Demand, first: &Step, step: &Step) -> Self {
        let of = &demand.certificates;
        let today = of.active.unwrap_or_else(|| of.per_day.unwrap_or(0.0) * renewal_days(demand, first));
        let active = today * (1.0 + of.growth_per_year).powf(step.years);
        let renewal_days = renewal_days(demand, step);
        let reuse_days = f64::from(of.reuse_days.map_or(step.reuse_days, |own| own.min(step.reuse_days)));
        let certificates_per_day = active / renewal_days;
        let names_per_day = certificates_per_day * demand.names_mean();
        let fresh_share = fresh_share(renewal_days, reuse_days);
        let fresh = names_per_day * fresh_share;
        let mut attempts_per_day = control(demand, fresh, demand.attempts.failing_share, demand.attempts.slow_share);
        attempts_per_day[Kind::Caa] = names_per_day - fresh + fresh * of.caa_again_share;
        Self {
            active,
            lifetime_days: lifetime_days(demand, step),
            reuse_days,
            renewal_days,
            certificates_per_day,
            names_per_day,
            fresh_share,
            attempts_per_day,
        }
    }

    /// Attempts a second, mean.
    #[must_use]
    pub fn mean_per_second(&self) -> ByKind {
        self.attempts_per_day * (1.0 / SECONDS_OF_DAY)
    }
}

/// Attempts to show control until `shown` have succeeded, when `failing` of all fail and `slow` of all are held.
fn control(demand: &Demand, shown: f64, failing: f64, slow: f64) -> ByKind {
    let attempts = shown / (1.0 - failing);
    let methods = &demand.attempts.methods;
    let mut by_kind = ByKind::default();
    by_kind[Kind::Dns01] = shown * methods.dns_01;
    by_kind[Kind::Http01] = shown * methods.http_01;
    by_kind[Kind::TlsAlpn01] = shown * methods.tls_alpn_01;
    by_kind[Kind::RefusedAtPrimary] = attempts * (failing - slow);
    by_kind[Kind::Slow] = attempts * slow;
    by_kind
}

/// Attempts of a mass re-issue, all of them.
#[must_use]
pub fn mass(demand: &Demand, mass: &Mass) -> ByKind {
    let names = mass.certificates * demand.names_mean();
    if !mass.fresh {
        let mut by_kind = ByKind::default();
        by_kind[Kind::Caa] = names;
        return by_kind;
    }
    let usual = &demand.attempts;
    let failing = mass.failing_share.unwrap_or(usual.failing_share);
    // Of those that fail, as many are slow as on other days.
    let slow = if usual.failing_share == 0.0 { 0.0 } else { failing * usual.slow_share / usual.failing_share };
    control(demand, names, failing, slow)
}
