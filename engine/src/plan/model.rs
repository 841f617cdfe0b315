//! The plan: for each dated step the traffic, what its peak hour needs, the fleet, what binds first, disk, money, and
//! whether a mass re-issue fits.
//!
//! Pure: demand, service times and steps in, figures out. Left out: files, tables and pictures.

use serde::Serialize;

use super::{
    demand::{Demand, Mass, Prices},
    lifetimes::Step,
    needs::{Needs, NodeNeeds, PORTS_OF_ADDRESS},
    times::{ServiceTimes, TimesError},
    traffic::{self, ByKind, SECONDS_OF_DAY, Traffic},
};
use crate::config::{EngineSection, TASKS_IN_FLIGHT_DEFAULT};

/// Octets of a GiB.
pub const GIB: f64 = 1_073_741_824.0;
/// Octets of a TiB.
pub const TIB: f64 = 1_099_511_627_776.0;
/// Days of a month, mean.
pub const DAYS_OF_MONTH: f64 = 365.25 / 12.0;
/// Hours of a month, mean.
const HOURS_OF_MONTH: f64 = DAYS_OF_MONTH * 24.0;
/// A mass re-issue is to be done in so many hours: certificates that must be revoked within 24 hours (TLS BR 2.3.1
/// §4.9.1.1) are replaced before.
pub const MASS_HOURS: f64 = 24.0;

/// The plan of one step.
#[derive(Clone, Debug, Serialize)]
pub struct StepPlan {
    /// The first day it holds for.
    pub date: String,
    /// Remotes that the rules want at least.
    pub remotes_min: u8,
    /// Since when they do; none if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remotes_since: Option<String>,
    /// Whether the demand has fewer.
    pub too_few_remotes: bool,
    /// What a day brings.
    pub traffic: Traffic,
    /// What the mean rate needs.
    pub mean: Needs,
    /// What the peak hour needs.
    pub peak: Needs,
    /// Whole machines' worth for the peak hour.
    pub fleet: Fleet,
    /// What the resources of one engine process and one worker a node carry, the least first.
    pub carries: Vec<Carries>,
    /// Journal.
    pub journal: Journal,
    /// Money, if prices are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// A mass re-issue, if one is asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mass: Option<MassPlan>,
}

/// What is to be had for the peak hour: whole cores, at the utilisation that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fleet {
    /// Processes of the engine.
    pub engine_processes: f64,
    /// Their cores, at least one each.
    pub engine_cores: f64,
    /// Workers of the primary's node.
    pub primary_workers: f64,
    /// Workers of each remote's node.
    pub remote_workers: f64,
    /// Cores of the primary's resolver.
    pub primary_resolver_cores: f64,
    /// Cores of each remote's resolver.
    pub remote_resolver_cores: f64,
    /// All cores.
    pub cores: f64,
    /// All memory.
    pub memory_octets: f64,
}

/// How many attempts a second one resource carries, with this mix of attempts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Carries {
    /// The resource.
    pub resource: &'static str,
    /// Attempts a second.
    pub attempts_per_second: f64,
}

/// Disk of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Journal {
    /// Written in a day.
    pub octets_per_day: f64,
    /// Kept for so long.
    pub keep_days: u32,
    /// Held in the end, if every day were as those of this step.
    pub disk_octets: f64,
}

/// Money, in the currency of the prices.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The currency.
    pub currency: String,
    /// Cores, in a month.
    pub cores_per_month: f64,
    /// Memory.
    pub memory_per_month: f64,
    /// Octets that leave sites.
    pub egress_per_month: f64,
    /// The journal's disk.
    pub disk_per_month: f64,
    /// All of it.
    pub per_month: f64,
    /// For a million permitted attempts.
    pub per_million_corroborations: f64,
    /// For a million attempts, refused ones among them.
    pub per_million_attempts: f64,
    /// For a certificate.
    pub per_certificate: f64,
}

/// A mass re-issue on the fleet of the peak hour, beside the mean of other days.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MassPlan {
    /// Certificates.
    pub certificates: f64,
    /// Attempts for them.
    pub attempts: f64,
    /// Attempts a second if they are spread evenly over [`MASS_HOURS`], those of other days included.
    pub attempts_per_second: f64,
    /// Hours it takes on this fleet; none if other days leave nothing of a resource.
    pub hours: Option<f64>,
    /// Whether that is at most [`MASS_HOURS`].
    pub fits: bool,
    /// The resource that sets the hours.
    pub binds: &'static str,
    /// What is missing to be done in [`MASS_HOURS`].
    pub missing: Vec<Missing>,
    /// What it adds to the journal.
    pub journal_octets: f64,
}

/// A resource that a mass re-issue has too little of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Missing {
    /// The resource.
    pub resource: &'static str,
    /// What there is.
    pub have: f64,
    /// What is needed.
    pub need: f64,
}

/// Plans each step, for a demand of the day of `first`.
///
/// # Errors
/// A kind of attempt that occurs was not measured.
pub fn plan(demand: &Demand, times: &ServiceTimes, first: &Step, steps: &[Step]) -> Result<Vec<StepPlan>, TimesError> {
    steps.iter().map(|step| StepPlan::of(demand, times, first, step)).collect()
}

impl StepPlan {
    /// Plans one step.
    ///
    /// # Errors
    /// A kind of attempt that occurs was not measured.
    pub fn of(demand: &Demand, times: &ServiceTimes, first: &Step, step: &Step) -> Result<Self, TimesError> {
        let traffic = Traffic::at(demand, first, step);
        let rates = traffic.mean_per_second();
        let mean = Needs::of(&rates, demand, times)?;
        let peak = Needs::of(&(rates * demand.load.peak_factor), demand, times)?;
        let fleet = Fleet::of(&peak);
        let journal = Journal::of(&mean, demand.journal.keep_days);
        let mass = demand.mass.as_ref().map(|mass| MassPlan::of(mass, demand, times, (&rates, &peak, &fleet)));
        Ok(Self {
            date: step.date.to_string(),
            remotes_min: step.remotes_min,
            remotes_since: step.remotes_since.map(|date| date.to_string()),
            too_few_remotes: demand.perspectives.remotes < step.remotes_min,
            carries: carries(&peak, demand.load.utilisation),
            cost: demand.prices.as_ref().map(|prices| Cost::of(prices, &traffic, &mean, &fleet, &journal)),
            mass: mass.transpose()?,
            traffic,
            mean,
            peak,
            fleet,
            journal,
        })
    }
}

impl Fleet {
    fn of(peak: &Needs) -> Self {
        let whole = |cores: f64| cores.ceil().max(1.0);
        let engine_cores = whole(peak.engine.cores).max(peak.engine.processes);
        let (primary_workers, remote_workers) = (whole(peak.primary.cores), whole(peak.remote.cores));
        let (primary_resolver_cores, remote_resolver_cores) =
            (whole(peak.primary.resolver_cores), whole(peak.remote.resolver_cores));
        let remotes = f64::from(peak.remotes);
        Self {
            engine_processes: peak.engine.processes,
            engine_cores,
            primary_workers,
            remote_workers,
            primary_resolver_cores,
            remote_resolver_cores,
            cores: engine_cores
                + primary_workers
                + primary_resolver_cores
                + remotes * (remote_workers + remote_resolver_cores),
            memory_octets: peak.engine.memory_octets + peak.of_nodes(|node| node.memory_octets),
        }
    }
}

/// What one engine process, one worker a node, one core for each resolver and one source address carry of such a mix.
fn carries(peak: &Needs, utilisation: f64) -> Vec<Carries> {
    let rate = peak.attempts_per_second;
    let settings = EngineSection::default();
    // Each pair: how much there is of a resource, and how much of it the peak takes.
    let mut carries: Vec<Carries> = [
        ("dispatcher thread", utilisation, peak.engine.dispatcher_busy),
        ("collector thread of the primary", utilisation, peak.engine.collector_busy),
        ("decider thread", utilisation, peak.engine.decider_busy),
        ("engine.attempts_in_flight by default", settings.attempts_in_flight as f64, peak.engine.in_flight),
        ("one worker of the primary's node", utilisation, peak.primary.busy_cores),
        ("one worker of a remote's node", utilisation, peak.remote.busy_cores),
        ("tasks_in_flight_max of a worker by default", f64::from(TASKS_IN_FLIGHT_DEFAULT), peak.primary.in_flight),
        ("one core of the primary's resolver", utilisation, peak.primary.resolver_busy_cores),
        ("source ports of one address of the primary", PORTS_OF_ADDRESS, peak.primary.ports),
    ]
    .into_iter()
    .filter(|(_, _, taken)| *taken > 0.0)
    .map(|(resource, there_is, taken)| Carries { resource, attempts_per_second: rate * there_is / taken })
    .collect();
    carries.sort_by(|one, other| one.attempts_per_second.total_cmp(&other.attempts_per_second));
    carries
}

impl Journal {
    fn of(mean: &Needs, keep_days: u32) -> Self {
        let octets_per_day = mean.engine.journal_octets_per_second * SECONDS_OF_DAY;
        Self { octets_per_day, keep_days, disk_octets: octets_per_day * f64::from(keep_days) }
    }
}

impl Cost {
    fn of(prices: &Prices, traffic: &Traffic, mean: &Needs, fleet: &Fleet, journal: &Journal) -> Self {
        let egress_per_second = mean.engine.octets_out_per_second + mean.of_nodes(|node| node.octets_out_per_second);
        let cores_per_month = fleet.cores * HOURS_OF_MONTH * prices.core_hour;
        let memory_per_month = fleet.memory_octets / GIB * HOURS_OF_MONTH * prices.gib_hour;
        let egress_per_month = egress_per_second * SECONDS_OF_DAY * DAYS_OF_MONTH / TIB * prices.egress_tib;
        let disk_per_month = journal.disk_octets / TIB * prices.disk_tib_month;
        let per_month = cores_per_month + memory_per_month + egress_per_month + disk_per_month;
        let each = |per_day: f64| per_month / (per_day * DAYS_OF_MONTH);
        Self {
            currency: prices.currency.clone(),
            cores_per_month,
            memory_per_month,
            egress_per_month,
            disk_per_month,
            per_month,
            per_million_corroborations: 1e6 * each(traffic.attempts_per_day.permitted()),
            per_million_attempts: 1e6 * each(traffic.attempts_per_day.sum()),
            per_certificate: each(traffic.certificates_per_day),
        }
    }
}

/// A resource of the fleet: its name, how much of it a load takes, and how much there is.
type Resource = (&'static str, fn(&Needs) -> f64, f64);

impl MassPlan {
    fn of(
        mass: &Mass,
        demand: &Demand,
        times: &ServiceTimes,
        (rates, peak, fleet): (&ByKind, &Needs, &Fleet),
    ) -> Result<Self, TimesError> {
        let attempts = traffic::mass(demand, mass);
        let added = attempts * (1.0 / (MASS_HOURS * 3600.0));
        let (mean, alone) = (Needs::of(rates, demand, times)?, Needs::of(&added, demand, times)?);
        let (mut hours, mut binds, mut missing) = (0.0, "nothing", Vec::new());
        for (resource, takes, have) in resources(demand.load.utilisation, peak, fleet) {
            let (usual, further) = (takes(&mean), takes(&alone));
            if further == 0.0 {
                continue;
            }
            // What other days leave of the resource is the mass re-issue's.
            let takes_hours = if have > usual { MASS_HOURS * further / (have - usual) } else { f64::INFINITY };
            if takes_hours > hours {
                (hours, binds) = (takes_hours, resource);
            }
            if usual + further > have {
                missing.push(Missing { resource, have, need: usual + further });
            }
        }
        Ok(Self {
            certificates: mass.certificates,
            attempts: attempts.sum(),
            attempts_per_second: rates.sum() + added.sum(),
            hours: hours.is_finite().then_some(hours),
            fits: missing.is_empty(),
            binds,
            missing,
            journal_octets: alone.engine.journal_octets_per_second * MASS_HOURS * 3600.0,
        })
    }
}

fn resources(utilisation: f64, peak: &Needs, fleet: &Fleet) -> [Resource; 9] {
    let ports = |node: &NodeNeeds| node.source_addresses * PORTS_OF_ADDRESS;
    [
        ("engine cores", |needs| needs.engine.busy_cores, fleet.engine_cores * utilisation),
        (
            "engine processes (one dispatcher and one decider each)",
            |needs| needs.engine.dispatcher_busy.max(needs.engine.decider_busy).max(needs.engine.collector_busy),
            fleet.engine_processes * utilisation,
        ),
        ("workers of the primary's node", |needs| needs.primary.busy_cores, fleet.primary_workers * utilisation),
        ("workers of each remote's node", |needs| needs.remote.busy_cores, fleet.remote_workers * utilisation),
        (
            "cores of the primary's resolver",
            |needs| needs.primary.resolver_busy_cores,
            fleet.primary_resolver_cores * utilisation,
        ),
        (
            "cores of each remote's resolver",
            |needs| needs.remote.resolver_busy_cores,
            fleet.remote_resolver_cores * utilisation,
        ),
        (
            "attempts in flight as bounded for the peak hour",
            |needs| needs.engine.in_flight,
            peak.engine.in_flight_bound,
        ),
        ("source ports of the primary", |needs| needs.primary.ports, ports(&peak.primary)),
        ("source ports of each remote", |needs| needs.remote.ports, ports(&peak.remote)),
    ]
}
