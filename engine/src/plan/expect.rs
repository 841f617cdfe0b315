//! What one engine in the laboratory, primary and remotes in its process, should show at one rate of a mix.
//!
//! `parallax-perf validate-plan` compares it with a measurement. Compared are the measured points that a plan begins from,
//! and how kinds are put together; not what the plan makes of them for a fleet (`needs`), which splits CPU time by role and
//! perspective, adds network and held time, and has no engine to be measured on.
//!
//! A kind that would come alone at `r(u)` requests a second to keep `u` cores busy has, at a share `s` of `R` requests a
//! second, the part `s R / r(u)` of the load; `u` is where the parts of all kinds make a whole. So each kind's CPU time is
//! that at the load of the whole mix, and what a process does without requests is counted once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    curves::Curve,
    times::{ServiceTimes, TimesError},
};

/// A file of a mix is at most this large.
pub const FILE_OCTETS_MAX: u64 = 1 << 20;

/// Doublings until a load is found that carries all, and halvings of the range that it ends.
const HALVINGS: u32 = 60;
/// Cores; no load is looked for between this and nothing before the first doubling.
const BUSY_LEAST: f64 = 1e-9;

/// A mix of the laboratory's kinds, or of mixes by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mix {
    /// Its name.
    pub name: String,
    /// Shares; they are divided by their sum.
    pub kinds: BTreeMap<String, f64>,
}

/// What an engine should show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expected {
    /// The mix.
    pub mix: String,
    /// Requests a second.
    pub offered_per_second: f64,
    /// CPU time of the process for each request.
    pub cpu_us_per_request: f64,
    /// Requests that one core carries in a second.
    pub validations_per_second_per_core: f64,
    /// Resident memory, mean.
    pub rss_kib: f64,
    /// Requests in flight, mean.
    pub in_flight: f64,
}

/// A mix or a rate that nothing can be said of.
#[derive(Debug, Error)]
pub enum ExpectError {
    /// Not the form of a mix.
    #[error("not a mix: {0}")]
    Json(#[from] serde_json::Error),
    /// A share that is none.
    #[error("kinds.{}: {share} is not a share", kind.escape_debug())]
    Share {
        /// Of which kind.
        kind: String,
        /// What is written.
        share: f64,
    },
    /// No kind has a share.
    #[error("kinds: none has a share above 0")]
    Empty,
    /// The shares are too large to be added up.
    #[error("kinds: the shares add up to {0}")]
    Sum(f64),
    /// No load carries the rate.
    #[error("rate: at no load do the measured curves carry {0} a second of this mix")]
    NoLoad(f64),
    /// A rate that is none.
    #[error("rate: {0} is not above 0")]
    Rate(f64),
    /// A kind was not measured.
    #[error(transparent)]
    Times(#[from] TimesError),
}

impl Mix {
    /// Reads a mix, and divides its shares by their sum.
    ///
    /// # Errors
    /// It is not of the form, or a share is none.
    pub fn parse(text: &str) -> Result<Self, ExpectError> {
        let mut mix: Self = serde_json::from_str(text)?;
        if let Some((kind, share)) = mix.kinds.iter().find(|(_, share)| !(share.is_finite() && **share >= 0.0)) {
            return Err(ExpectError::Share { kind: kind.clone(), share: *share });
        }
        let sum: f64 = mix.kinds.values().sum();
        if sum <= 0.0 {
            return Err(ExpectError::Empty);
        }
        if !sum.is_finite() {
            return Err(ExpectError::Sum(sum));
        }
        mix.kinds.retain(|_, share| *share > 0.0);
        mix.kinds.values_mut().for_each(|share| *share /= sum);
        Ok(mix)
    }
}

/// What an engine should show with `mix` at `per_second`.
///
/// # Errors
/// The rate is none or more than any load carries, or a kind was not measured.
pub fn expect(mix: &Mix, per_second: f64, times: &ServiceTimes) -> Result<Expected, ExpectError> {
    if !(per_second.is_finite() && per_second > 0.0) {
        return Err(ExpectError::Rate(per_second));
    }
    let curves: Vec<(f64, &Curve)> =
        mix.kinds.iter().map(|(kind, share)| Ok((*share, times.curve(kind)?))).collect::<Result<_, TimesError>>()?;
    let busy = load(per_second, &curves).ok_or(ExpectError::NoLoad(per_second))?;
    let cpu_us_per_request = busy * 1e6 / per_second;
    let latency_us: f64 = curves.iter().map(|(share, curve)| share * curve.latency_us_at(busy)).sum();
    let in_flight = per_second * latency_us / 1e6;
    let base_rss_octets = curves.iter().map(|(_, curve)| curve.base_rss_octets).fold(0.0, f64::max);
    Ok(Expected {
        mix: mix.name.clone(),
        offered_per_second: per_second,
        cpu_us_per_request,
        validations_per_second_per_core: if cpu_us_per_request > 0.0 { 1e6 / cpu_us_per_request } else { 0.0 },
        rss_kib: (base_rss_octets + in_flight * times.octets_per_in_flight) / 1024.0,
        in_flight,
    })
}

/// The load at which the parts of all kinds make a whole; none if there is none.
fn load(per_second: f64, curves: &[(f64, &Curve)]) -> Option<f64> {
    let carries_all = |busy: f64| {
        let parts = curves.iter().map(|(share, curve)| {
            let alone = curve.per_second_at(busy);
            if alone > 0.0 { share * per_second / alone } else { f64::INFINITY }
        });
        parts.sum::<f64>() <= 1.0
    };
    let mut most = BUSY_LEAST;
    for _ in 0..HALVINGS {
        if carries_all(most) {
            break;
        }
        most *= 2.0;
    }
    if !carries_all(most) {
        return None;
    }
    let mut least = 0.0;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(least, most);
        if carries_all(middle) { most = middle } else { least = middle }
    }
    Some(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{curves::Point, fixture};

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected.abs() * 1e-6, "{found} instead of {expected}");
    }

    fn mix(text: &str) -> Mix {
        Mix::parse(text).expect("a mix")
    }

    #[test]
    fn ok_at_a_measured_point_of_one_kind_the_run_itself_is_expected() {
        let found = expect(&mix(r#"{"name":"one","kinds":{"dns-ok":1}}"#), 1000.0, &fixture::times()).expect("figures");
        near(found.cpu_us_per_request, 150.0);
        near(found.validations_per_second_per_core, 1e6 / 150.0);
        near(found.in_flight, 4.0);
        near(found.rss_kib, 30_000.0 + 8.0 * 4.0);
    }

    #[test]
    fn ok_a_mix_is_the_sum_of_its_kinds_and_idle_work_is_counted_once() {
        // Each kind makes 0.05 cores busy without requests, and takes 1 ms or 3 ms for each.
        let line = |ms: f64, latency_us| {
            let point = |per_second| Point { busy_cores: 0.05 + per_second * ms / 1e3, per_second, latency_us };
            Curve::new(vec![point(10.0), point(100.0)], 0.0)
        };
        let (light, heavy) = (line(1.0, 5.0), line(3.0, 7.0));
        for per_second in [1.0, 20.0, 60.0, 300.0] {
            let busy = load(per_second, &[(0.75, &light), (0.25, &heavy)]);
            near(busy.expect("a load"), 0.05 + per_second * (0.75 * 1.0 + 0.25 * 3.0) / 1e3);
        }
        assert_eq!(load(1.0, &[(1.0, &Curve::default())]), None);
    }

    #[test]
    fn ok_shares_may_name_mixes_and_need_not_add_up_to_one() {
        let times = fixture::times();
        let found = expect(&mix(r#"{"name":"m","kinds":{"dns-ok":3,"slow":1}}"#), 1000.0, &times).expect("figures");
        // Of dns-01, 0.018 cores carry 100 and 0.15 cores 1 000; of slow, 0.00408 cores carry 50 and 0.034 cores 500.
        let busy = found.cpu_us_per_request * 1000.0 / 1e6;
        let dns = 100.0 + (busy - 0.018) * 900.0 / 0.132;
        let slow = 50.0 + (busy - 0.004_08) * 450.0 / 0.029_92;
        near(0.75 * 1000.0 / dns + 0.25 * 1000.0 / slow, 1.0);
        near(found.in_flight, 1000.0 * (0.75 * 0.004 + 0.25 * 8.0));
        near(found.rss_kib, 30_000.0 + 8.0 * found.in_flight);
    }

    #[test]
    fn err_what_is_no_mix_or_was_not_measured_is_named() {
        let error = |text: &str| Mix::parse(text).expect_err("no mix").to_string();
        assert_eq!(error(r#"{"name":"m","kinds":{"dns-ok":-1}}"#), "kinds.dns-ok: -1 is not a share");
        assert_eq!(error(r#"{"name":"m","kinds":{"dns-ok":0}}"#), "kinds: none has a share above 0");
        assert!(error(r#"{"kinds":{}}"#).contains("`name`"));
        let times = fixture::times();
        let unknown = expect(&mix(r#"{"name":"m","kinds":{"adn-alias":1}}"#), 1.0, &times).expect_err("not measured");
        assert_eq!(unknown.to_string(), "no usable run measured adn-alias");
        assert_eq!(error(r#"{"name":"m","kinds":{"dns-ok":1e308,"caa":1e308}}"#), "kinds: the shares add up to inf");
        let much = expect(&mix(r#"{"name":"m","kinds":{"dns-ok":1}}"#), 1e300, &times).expect_err("no load");
        assert!(much.to_string().starts_with("rate: at no load"), "{much}");
        let idle = expect(&mix(r#"{"name":"m","kinds":{"dns-ok":1}}"#), 0.0, &times).expect_err("no rate");
        assert_eq!(idle.to_string(), "rate: 0 is not above 0");
    }
}
