//! Inputs halved and doubled, one at a time, and other numbers of remotes: what each would change at one step.

use parallax_validation::verdict::policy::REMOTES_MAX;
use serde::Serialize;

use super::{
    demand::Demand,
    lifetimes::Step,
    model::StepPlan,
    times::{ServiceTimes, TimesError},
};

/// What each input is multiplied by.
pub const FACTORS: [f64; 3] = [0.5, 1.0, 2.0];
/// Numbers of remotes that are compared.
pub const REMOTES: std::ops::RangeInclusive<u8> = 3..=8;

/// One input and what came of changing it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// The input.
    pub input: &'static str,
    /// One outcome for each of its values.
    pub outcomes: Vec<Outcome>,
}

/// What a changed input leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// How the input was changed.
    pub change: String,
    /// Whether it could only be changed in part, or the rules do not allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Attempts a second in the peak hour.
    pub peak_attempts_per_second: f64,
    /// Attempts in flight then.
    pub in_flight: f64,
    /// All cores.
    pub cores: f64,
    /// All memory.
    pub memory_octets: f64,
    /// Disk of the journal.
    pub disk_octets: f64,
    /// Money in a month, if prices are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_month: Option<f64>,
}

/// Changes an input by a factor; says so if it could not go all the way.
type Change = fn(&mut Demand, f64) -> Option<String>;

/// The inputs of the demand that are changed.
const INPUTS: [(&str, Change); 7] = [
    ("certificates", |demand, factor| {
        let of = &mut demand.certificates;
        of.active.iter_mut().chain(&mut of.per_day).for_each(|figure| *figure *= factor);
        None
    }),
    ("names of a certificate", |demand, factor| {
        let names = demand.names_mean() * factor;
        demand.certificates.names_distribution = None;
        demand.certificates.names_mean = Some(names.max(1.0));
        (names < 1.0).then(|| "1 is the least".to_owned())
    }),
    ("failed attempts for each good one", |demand, factor| {
        let of = &mut demand.attempts;
        let (slow, failing) = (of.slow_share, of.failing_share);
        let failed = failing / (1.0 - failing) * factor;
        of.failing_share = failed / (1.0 + failed);
        // As many of the failing ones are slow as before.
        of.slow_share = if failing > 0.0 { of.failing_share * slow / failing } else { 0.0 };
        None
    }),
    ("slow share", |demand, factor| {
        let of = &mut demand.attempts;
        let slow = of.slow_share * factor;
        of.slow_share = slow.min(of.failing_share);
        (slow > of.failing_share).then(|| format!("{} is the most: all that fail", of.failing_share))
    }),
    ("how long slow ones are held", |demand, factor| {
        demand.attempts.slow_held_ms *= factor;
        None
    }),
    ("added latency", |demand, factor| {
        demand.network.added_ms *= factor;
        None
    }),
    ("peak factor", |demand, factor| {
        let peak = demand.load.peak_factor * factor;
        demand.load.peak_factor = peak.max(1.0);
        (peak < 1.0).then(|| "1 is the least".to_owned())
    }),
];

/// The tables of one step.
///
/// # Errors
/// A kind of attempt that occurs was not measured.
pub fn tables(demand: &Demand, times: &ServiceTimes, first: &Step, step: &Step) -> Result<Vec<WhatIf>, TimesError> {
    let outcome = |change: String, note, demand: &Demand, times: &ServiceTimes| {
        StepPlan::of(demand, times, first, step).map(|plan| Outcome::of(change, note, &plan))
    };
    let mut tables = Vec::with_capacity(INPUTS.len() + 2);
    for (input, change) in INPUTS {
        let outcomes = FACTORS.iter().map(|factor| {
            let mut changed = demand.clone();
            let note = change(&mut changed, *factor);
            outcome(format!("× {factor}"), note, &changed, times)
        });
        tables.push(WhatIf { input, outcomes: outcomes.collect::<Result<_, _>>()? });
    }
    let outcomes =
        FACTORS.iter().map(|factor| outcome(format!("× {factor}"), None, demand, &times.with_cpu_times(*factor)));
    tables.push(WhatIf { input: "measured CPU times", outcomes: outcomes.collect::<Result<_, _>>()? });
    let outcomes = REMOTES.filter(|remotes| *remotes <= REMOTES_MAX).map(|remotes| {
        let mut changed = demand.clone();
        changed.perspectives.remotes = remotes;
        let note = (remotes < step.remotes_min).then(|| format!("the rules want {}", step.remotes_min));
        outcome(format!("{remotes}"), note, &changed, times)
    });
    tables.push(WhatIf { input: "remotes", outcomes: outcomes.collect::<Result<_, _>>()? });
    Ok(tables)
}

impl Outcome {
    fn of(change: String, note: Option<String>, plan: &StepPlan) -> Self {
        Self {
            change,
            note,
            peak_attempts_per_second: plan.peak.attempts_per_second,
            in_flight: plan.peak.engine.in_flight,
            cores: plan.fleet.cores,
            memory_octets: plan.fleet.memory_octets,
            disk_octets: plan.journal.disk_octets,
            cost_per_month: plan.cost.as_ref().map(|cost| cost.per_month),
        }
    }
}
