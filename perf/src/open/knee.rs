//! How far an engine goes: at which rate it stops to carry what is offered, and what it lacks there.
//!
//! Pure functions of results. Nothing here knows how they were measured.

use super::result::{EngineSetup, Others, Run};

/// An engine that carries less of what is offered is beyond its knee.
pub const CARRIED_MIN: f64 = 0.95;
/// So is one whose 99th percentile of what waits for nothing is so many times that at the lowest rate.
pub const P99_GROWTH_MAX: f64 = 10.0;
/// A difference of counts within so many deviations of a Poisson process is chance.
const CHANCE_DEVIATIONS: f64 = 3.0;
/// From this share of a CPU on a thread has no more to give.
pub const BUSY: f64 = 0.9;
/// From this share of one CPU on, programs that have nothing to do with a run disturb it.
pub const FOREIGN_MIN: f64 = 0.1;
/// How many times a rate grows from one step of a sweep to the next.
const GROWTH: f64 = 2.0;

/// Why a run is beyond the knee.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Beyond {
    /// It reached the bound of outstanding requests.
    Overloaded,
    /// It carried this share of what was offered.
    Behind(f64),
    /// Its 99th percentile is so many times that at the lowest rate.
    Slow(f64),
    /// It is no figure at all.
    NoFigure,
}

/// Whether a run is beyond the knee, seen from that at the lowest rate.
#[must_use]
pub fn beyond(run: &Run, lowest: &Run) -> Option<Beyond> {
    if run.overloaded {
        return Some(Beyond::Overloaded);
    }
    if run.failed.is_some() {
        return Some(Beyond::NoFigure);
    }
    let (offered, carried) = (run.requests as f64, run.carried_per_second() * run.seconds);
    if carried < CARRIED_MIN * offered && offered - carried > CHANCE_DEVIATIONS * offered.sqrt() {
        return Some(Beyond::Behind(carried / offered));
    }
    let growth = run.quick_p99_us() as f64 / lowest.quick_p99_us().max(1) as f64;
    (growth > P99_GROWTH_MAX).then_some(Beyond::Slow(growth))
}

/// Where the knee lies.
#[derive(Clone, Copy, Debug)]
pub struct Knee<'a> {
    /// The highest rate below the first that was beyond it; none if even the lowest was.
    pub carried: Option<&'a Run>,
    /// The lowest rate beyond it, and why; none if no rate was.
    pub beyond: Option<(&'a Run, Beyond)>,
}

/// The knee of runs of one mix, in any order. None without runs.
#[must_use]
pub fn knee<'a>(runs: &[&'a Run]) -> Option<Knee<'a>> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second));
    let lowest = *sorted.first()?;
    let mut knee = Knee { carried: None, beyond: None };
    for run in sorted {
        match beyond(run, lowest) {
            None => knee.carried = Some(run),
            Some(why) => {
                knee.beyond = Some((run, why));
                break;
            }
        }
    }
    Some(knee)
}

/// A sweep: a rate grows until the engine is beyond its knee, and then the knee is closed in on.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// The first rate.
    pub from: f64,
    /// Runs, at most.
    pub steps_max: usize,
    /// How often the range in which the knee lies is halved.
    pub refinements: usize,
}

impl Sweep {
    /// The rate of the next run after these; none if the sweep is done.
    #[must_use]
    pub fn next_rate(&self, runs: &[Run]) -> Option<f64> {
        if runs.len() >= self.steps_max {
            return None;
        }
        let all: Vec<&Run> = runs.iter().collect();
        let Some(knee) = knee(&all) else { return Some(self.from) };
        match (knee.carried, knee.beyond) {
            (Some(carried), None) => Some(carried.offered_per_second * GROWTH),
            (Some(carried), Some((too_much, _))) => {
                // Until then the rate grew; every run since then has closed in.
                let first_beyond = runs.iter().position(|run| beyond(run, &runs[0]).is_some());
                let refined = first_beyond.map_or(0, |at| runs.len() - at - 1);
                let between = (carried.offered_per_second * too_much.offered_per_second).sqrt();
                (refined < self.refinements).then_some(between)
            }
            (None, _) => None,
        }
    }
}

/// What an engine lacks at a rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    /// The generator did not keep up.
    Generator,
    /// A thread of this role has a CPU to itself and uses it up.
    Thread {
        /// The role.
        role: String,
        /// The share of one CPU it used.
        share: f64,
    },
    /// The engine uses up the one CPU that it was bound to.
    Core {
        /// The role that used most of it.
        role: String,
        /// The share of the engine's time that was this role's.
        of_engine: f64,
    },
    /// The run broke off: it shows no limit.
    Broken,
    /// A thread of the laboratory does.
    Laboratory {
        /// The share of one CPU it used.
        share: f64,
    },
    /// All CPUs are in use, by all together.
    Machine {
        /// The share of all CPUs that was in use.
        busy: f64,
        /// CPUs that the engine used.
        engine: f64,
        /// CPUs that the laboratory used.
        laboratory: f64,
        /// CPUs that the generator used.
        generator: f64,
        /// The engine's role that used most.
        role: String,
        /// The share of the engine's time that was this role's.
        of_engine: f64,
    },
    /// Programs that have nothing to do with the run use CPUs that it lacks.
    Foreign {
        /// CPUs that they used.
        cpus: f64,
    },
    /// As many attempts were under way as may be, while CPUs were idle.
    Bound {
        /// The bound.
        attempts_in_flight: usize,
        /// Requests without an answer at most, those in line included.
        in_flight: u64,
    },
    /// Nothing that was measured.
    Unknown,
}

/// CPUs that programs used which have nothing to do with a run; none if that is not known.
#[must_use]
pub fn foreign_cpus(run: &Run, cpus: usize) -> Option<f64> {
    let Others { laboratory_cpu_seconds, generator_cpu_seconds, machine_busy, .. } = run.others;
    let own = run.cpu_seconds + laboratory_cpu_seconds? + generator_cpu_seconds?;
    Some((machine_busy? * cpus as f64 - own / run.seconds.max(1e-9)).max(0.0))
}

/// What the engine lacked in a run, on a machine with so many CPUs.
#[must_use]
pub fn limit(run: &Run, setup: &EngineSetup, cpus: usize) -> Limit {
    match &run.failed {
        Some(why) if why.is_late() => return Limit::Generator,
        Some(_) => return Limit::Broken,
        None => {}
    }
    let seconds = run.seconds.max(1e-9);
    let (role, of_engine) = busiest_role(run);
    let engine = run.cpu_seconds / seconds;
    if setup.core.is_some() && engine >= BUSY {
        return Limit::Core { role, of_engine };
    }
    let busiest = run.busiest_by_role.iter().max_by(|a, b| a.1.total_cmp(b.1));
    if let Some((role, share)) = busiest.filter(|(_, share)| **share >= BUSY) {
        return Limit::Thread { role: role.clone(), share: *share };
    }
    if let Some(share) = run.others.laboratory_busiest.filter(|share| *share >= BUSY) {
        return Limit::Laboratory { share };
    }
    let is_full = run.others.machine_busy.is_some_and(|busy| busy >= BUSY);
    if let Some(cpus) = foreign_cpus(run, cpus).filter(|cpus| is_full && *cpus >= FOREIGN_MIN) {
        return Limit::Foreign { cpus };
    }
    let cpus_of = |cpu_seconds: Option<f64>| cpu_seconds.unwrap_or(0.0) / seconds;
    if let Some(busy) = run.others.machine_busy.filter(|busy| *busy >= BUSY) {
        let laboratory = cpus_of(run.others.laboratory_cpu_seconds);
        let generator = cpus_of(run.others.generator_cpu_seconds);
        return Limit::Machine { busy, engine, laboratory, generator, role, of_engine };
    }
    match setup.attempts_in_flight {
        Some(bound) if run.in_flight.max >= bound as u64 => {
            Limit::Bound { attempts_in_flight: bound, in_flight: run.in_flight.max }
        }
        _ => Limit::Unknown,
    }
}

/// The role that used most, and its share of the engine's time.
fn busiest_role(run: &Run) -> (String, f64) {
    let cpu = &run.cpu_us_per_request;
    let most = cpu.by_role.iter().max_by(|a, b| a.1.total_cmp(b.1));
    most.map_or_else(|| ("unknown".to_owned(), 0.0), |(role, us)| (role.clone(), us / cpu.process.max(1e-9)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::latency::Latency, *};
    use crate::open::{
        failure::Failure,
        result::{CpuPerRequest, InFlight},
    };

    /// A run of ten seconds that carried `carried` a second.
    fn run(offered: f64, carried: f64, p99: u64) -> Run {
        Run {
            offered_per_second: offered,
            seconds: 10.0,
            requests: (offered * 10.0) as u64,
            completed_per_second: Some(carried),
            latency_us: Latency { p99, ..Latency::default() },
            ..Run::default()
        }
    }

    #[test]
    fn ok_the_knee_is_the_last_rate_that_was_carried_in_time() {
        let curve =
            [run(800.0, 700.0, 2_000), run(100.0, 100.0, 1_000), run(400.0, 399.0, 1_900), run(200.0, 200.0, 1_500)];
        let all: Vec<&Run> = curve.iter().collect();
        let knee = knee(&all).expect("runs");
        assert_eq!(knee.carried.map(|run| run.offered_per_second), Some(400.0));
        assert!(matches!(knee.beyond, Some((run, Beyond::Behind(share)))
            if run.offered_per_second == 800.0 && (share - 0.875).abs() < 1e-9));
    }

    #[test]
    fn ok_each_way_to_be_beyond_is_told_apart() {
        let lowest = run(100.0, 100.0, 1_000);
        let table = [
            (run(200.0, 200.0, 10_000), None),
            (run(200.0, 200.0, 10_001), Some(Beyond::Slow(10.001))),
            (run(2_000.0, 1_900.0, 1_000), None),
            (run(2_000.0, 1_899.0, 1_000), Some(Beyond::Behind(0.9495))),
            (Run { overloaded: true, ..run(200.0, 10.0, 1) }, Some(Beyond::Overloaded)),
            (Run { failed: Some(Failure::Late { late: 9, sent: 9 }), ..run(200.0, 200.0, 1) }, Some(Beyond::NoFigure)),
        ];
        for (run, right) in table {
            assert_eq!(beyond(&run, &lowest), right, "{} {}", run.offered_per_second, run.latency_us.p99);
        }
    }

    #[test]
    fn ok_a_lack_that_chance_explains_is_none() {
        // 94 of 100 in ten seconds at ten a second: three deviations are 30.
        assert_eq!(beyond(&run(10.0, 9.4, 1_000), &run(10.0, 9.4, 1_000)), None);
        assert!(matches!(beyond(&run(10.0, 6.9, 1_000), &run(10.0, 10.0, 1_000)), Some(Beyond::Behind(_))));
    }

    #[test]
    fn ok_what_waits_by_its_nature_does_not_count_as_slow() {
        let mut slow = run(200.0, 200.0, 10_000_000);
        slow.latency_quick_us = Some(Latency { p99: 1_200, ..Latency::default() });
        let mut lowest = run(100.0, 100.0, 900_000);
        lowest.latency_quick_us = Some(Latency { p99: 1_000, ..Latency::default() });
        assert_eq!(beyond(&slow, &lowest), None);
    }

    #[test]
    fn ok_a_sweep_doubles_then_closes_in_and_ends() {
        let sweep = Sweep { from: 100.0, steps_max: 20, refinements: 2 };
        let (knee_at, mut runs, mut rates) = (1000.0, Vec::new(), Vec::new());
        while let Some(rate) = sweep.next_rate(&runs) {
            rates.push(rate.round());
            runs.push(run(rate, f64::min(rate, knee_at), 1_000));
        }
        assert_eq!(rates, [100.0, 200.0, 400.0, 800.0, 1600.0, 1131.0, 951.0]);
    }

    #[test]
    fn ok_a_sweep_is_bounded_and_ends_at_once_if_the_first_rate_is_too_much() {
        let sweep = Sweep { from: 100.0, steps_max: 4, refinements: 2 };
        let mut runs = Vec::new();
        while let Some(rate) = sweep.next_rate(&runs) {
            runs.push(run(rate, rate, 1_000));
        }
        assert_eq!(runs.len(), 4);
        assert_eq!(sweep.next_rate(&[Run { overloaded: true, ..run(100.0, 1.0, 1) }]), None);
    }

    #[test]
    fn ok_what_is_lacking_is_what_is_used_up() {
        let base = || Run {
            cpu_seconds: 9.5,
            cpu_us_per_request: CpuPerRequest {
                process: 100.0,
                by_role: BTreeMap::from([("node".to_owned(), 60.0), ("collector".to_owned(), 40.0)]),
            },
            in_flight: InFlight { mean: 10.0, max: 2000 },
            ..run(100.0, 100.0, 1_000)
        };
        let bound = EngineSetup { attempts_in_flight: Some(2000), ..EngineSetup::default() };
        let pinned = EngineSetup { core: Some(0), ..bound.clone() };
        assert!(
            matches!(limit(&base(), &pinned, 2), Limit::Core { role, of_engine } if role == "node" && of_engine == 0.6)
        );
        assert!(matches!(limit(&base(), &bound, 2), Limit::Bound { attempts_in_flight: 2000, in_flight: 2000 }));
        let mut one = base();
        one.others = Others { machine_busy: Some(0.97), laboratory_cpu_seconds: Some(6.0), ..Others::default() };
        assert!(matches!(limit(&one, &bound, 2), Limit::Machine { busy, engine, laboratory, .. }
            if busy == 0.97 && engine == 0.95 && laboratory == 0.6));
        // Of 1.94 CPUs in use the run's own programs used 1.6.
        one.others.generator_cpu_seconds = Some(0.5);
        assert!(matches!(limit(&one, &bound, 2), Limit::Foreign { cpus } if (cpus - 0.34).abs() < 1e-9));
        one.others.laboratory_busiest = Some(0.95);
        assert_eq!(limit(&one, &bound, 2), Limit::Laboratory { share: 0.95 });
        one.busiest_by_role = BTreeMap::from([("decider".to_owned(), 0.99), ("node".to_owned(), 0.5)]);
        assert_eq!(limit(&one, &bound, 2), Limit::Thread { role: "decider".to_owned(), share: 0.99 });
        one.failed = Some(Failure::Late { late: 9, sent: 9 });
        assert_eq!(limit(&one, &bound, 2), Limit::Generator);
        one.failed = Some(Failure::EngineEnded("signal: 9".to_owned()));
        assert_eq!(limit(&one, &bound, 2), Limit::Broken);
        assert_eq!(limit(&run(1.0, 1.0, 1), &EngineSetup::default(), 2), Limit::Unknown);
    }
}
