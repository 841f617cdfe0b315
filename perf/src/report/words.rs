//! What results mean, in words: where the knee is, what limits there, how cost and memory grow.
//!
//! Pure functions of results: every sentence is derived from figures, and none is written beforehand.

use crate::{
    open::{
        knee::{BUSY, Beyond, FOREIGN_MIN, Limit, P99_GROWTH_MAX, foreign_cpus, knee, limit},
        result::{EngineSetup, Run},
    },
    plot::{Unit, written},
};

/// CPU time within this factor of that at the lowest rate is called the same.
const SAME: f64 = 1.15;
/// Memory is related to requests in flight only where these differ by this factor.
const SPREAD_MIN: f64 = 2.0;

/// What runs of one mix mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Where the knee is.
    pub knee: String,
    /// What limits there.
    pub limit: String,
    /// How CPU time for a request grows with the rate.
    pub cpu: String,
    /// How memory grows with requests in flight.
    pub memory: String,
    /// What must be known of the figures: wrong answers, runs that are no figures.
    pub doubts: Vec<String>,
}

/// What runs of one mix on a machine with so many CPUs mean, whatever their order.
#[must_use]
pub fn words(setup: &EngineSetup, cpus: usize, runs: &[&Run]) -> Words {
    let mut sorted = runs.to_vec();
    sorted.sort_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second));
    let Some(knee) = knee(&sorted) else { return Words::default() };
    let doubtless: Vec<&Run> = sorted.iter().copied().filter(|run| is_figure(run)).collect();
    Words {
        knee: match (knee.carried, knee.beyond) {
            (Some(carried), Some((run, why))) => format!(
                "The engine carried {}, with {} at the median and {} at the 99th percentile. At {} {}.",
                per_second(carried.offered_per_second),
                micros(carried.latency_us.p50),
                micros(carried.latency_us.p99),
                per_second(run.offered_per_second),
                beyond(&why)
            ),
            (Some(carried), None) => format!(
                "The engine carried every rate that was offered, up to {}: the knee lies beyond.",
                per_second(carried.offered_per_second)
            ),
            (None, Some((run, why))) => format!(
                "Already at the lowest rate, {}, {}: the knee lies below.",
                per_second(run.offered_per_second),
                beyond(&why)
            ),
            (None, None) => String::new(),
        },
        limit: knee.beyond.map_or_else(
            || "What would limit it was not reached.".to_owned(),
            |(run, _)| limited(run, &limit(run, setup, cpus)),
        ),
        cpu: cpu(&doubtless),
        memory: memory(&doubtless),
        doubts: doubts(&sorted, cpus),
    }
}

/// Whether figures of a run are ones at all.
fn is_figure(run: &Run) -> bool {
    run.failed.is_none() && run.completed > 0 && run.seconds > 0.0
}

fn beyond(why: &Beyond) -> String {
    match why {
        Beyond::Overloaded => "requests without an answer reached their bound, and the run was ended".to_owned(),
        Beyond::Behind(share) => format!("it carried {} of what was offered", written(Unit::Share, *share)),
        Beyond::Slow(times) => format!(
            "the 99th percentile of what waits for nothing was {times:.0} times that at the lowest rate (more than \
             {P99_GROWTH_MAX:.0} is called too slow)"
        ),
        Beyond::NoFigure => "the run came to no figure".to_owned(),
    }
}

/// A sentence on what a run lacked.
fn limited(run: &Run, limit: &Limit) -> String {
    let at = format!("What limits at {}", per_second(run.offered_per_second));
    let share = |share: f64| written(Unit::Share, share);
    match limit {
        Limit::Generator => {
            let why =
                run.failed.as_ref().map_or_else(|| "the generator did not keep up".to_owned(), ToString::to_string);
            format!("{at} is not the engine: {why}.")
        }
        Limit::Broken => {
            let why = run.failed.as_ref().map_or_else(|| "the run broke off".to_owned(), ToString::to_string);
            format!("{at} cannot be told: {why}.")
        }
        Limit::Thread { role, share: used } => {
            format!("{at} is one thread of the engine, of the role {role}: it used {} of a CPU.", share(*used))
        }
        Limit::Core { role, of_engine } => format!(
            "{at} is the one CPU that the engine was bound to; the role {role} used most of it, {}.",
            share(*of_engine)
        ),
        Limit::Laboratory { share: used } => {
            format!("{at} is the laboratory: its busiest thread used {} of a CPU.", share(*used))
        }
        Limit::Machine { busy, engine, laboratory, generator, role, of_engine } => format!(
            "{at} is the machine: {} of all CPUs were in use, {engine:.2} by the engine (most of it, {}, by the role \
             {role}), {laboratory:.2} by the laboratory, {generator:.2} by the generator.",
            share(*busy),
            share(*of_engine)
        ),
        Limit::Foreign { cpus } => format!(
            "{at} is not the engine: programs that have nothing to do with it used {cpus:.1} CPUs, and none was idle."
        ),
        Limit::Bound { attempts_in_flight, in_flight } => format!(
            "{at} is the bound of {attempts_in_flight} attempts in flight: {in_flight} requests were without an answer \
             at a time, those in line among them, and CPUs were idle."
        ),
        Limit::Unknown => {
            format!("{at} cannot be told from what was measured: no thread and no CPU was used to {}.", share(BUSY))
        }
    }
}

fn cpu(runs: &[&Run]) -> String {
    let (Some(low), Some(high)) = (runs.first(), runs.last()) else {
        return "No run has a figure for CPU time.".to_owned();
    };
    let (at_low, at_high) = (low.cpu_us_per_request.process, high.cpu_us_per_request.process);
    let each = |us: f64| written(Unit::Micros, us);
    if runs.len() < 2 {
        return format!("A request costs the engine's process {} of CPU time.", each(at_low));
    }
    let told = format!(
        "{} of CPU time at {} and {} at {}",
        each(at_low),
        per_second(low.offered_per_second),
        each(at_high),
        per_second(high.offered_per_second)
    );
    let factor = at_high / at_low.max(1e-9);
    if factor > SAME {
        format!("A request costs the engine's process more the more there are: {told}.")
    } else if factor < 1.0 / SAME {
        format!("A request costs the engine's process less the more there are: {told}.")
    } else {
        format!("A request costs the engine's process the same at every rate: {told}.")
    }
}

fn memory(runs: &[&Run]) -> String {
    let points: Vec<(f64, f64)> = runs
        .iter()
        .map(|run| (run.in_flight.max as f64, run.rss_kib.max as f64))
        .filter(|point| point.1 > 0.0)
        .collect();
    let most = runs.iter().max_by_key(|run| run.rss_kib.max).filter(|run| run.rss_kib.max > 0);
    let Some(most) = most else { return "No run has a figure for memory.".to_owned() };
    let told = format!(
        "At most the engine's process held {}, with {} requests in flight; at rest it holds {}.",
        written(Unit::Kibibytes, most.rss_kib.max as f64),
        most.in_flight.max,
        written(Unit::Kibibytes, most.rss_kib.idle as f64)
    );
    match slope(&points) {
        Some(kib) if kib > 0.0 => {
            format!("{told} Each further request in flight takes about {}.", written(Unit::Kibibytes, kib))
        }
        _ => told,
    }
}

/// How much y grows for each x, by least squares; none where x hardly differs.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let (low, high) = points.iter().fold((f64::MAX, 0.0_f64), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
    if points.len() < 3 || high < SPREAD_MIN * low.max(1.0) {
        return None;
    }
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|(x, _)| x).sum::<f64>() / count, points.iter().map(|(_, y)| y).sum::<f64>() / count);
    let above: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    (below > 0.0).then(|| above / below)
}

fn doubts(runs: &[&Run], cpus: usize) -> Vec<String> {
    let mut doubts = Vec::new();
    for run in runs {
        let rate = per_second(run.offered_per_second);
        if let Some(why) = &run.failed {
            doubts.push(format!("The run at {rate} is no figure: {why}."));
        }
        let wrong = run.wrong + run.wrong_in_warm_up;
        if wrong > 0 {
            let example = run.wrong_examples.first().map_or_else(String::new, |text| format!(", such as {text}"));
            doubts.push(format!("Wrong answers at {rate}: {wrong}{example}."));
        }
        if run.unexpected > 0 {
            doubts.push(format!("Answers that nothing waited for at {rate}: {}.", run.unexpected));
        }
        if run.errors > 0 {
            doubts.push(format!("Requests without an answer that could be read at {rate}: {}.", run.errors));
        }
    }
    let foreign = runs.iter().filter_map(|run| foreign_cpus(run, cpus)).fold(0.0, f64::max);
    if foreign >= FOREIGN_MIN {
        doubts.push(format!(
            "Programs that have nothing to do with this used up to {foreign:.1} CPUs meanwhile: rates and latencies are \
             those of a machine that was busy otherwise."
        ));
    }
    doubts
}

fn per_second(rate: f64) -> String {
    format!("{}/s", written(Unit::Number, rate))
}

fn micros(us: u64) -> String {
    written(Unit::Micros, us as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::open::{
        failure::Failure,
        latency::Latency,
        result::{CpuPerRequest, InFlight, Level, Others},
    };

    fn run(offered: f64, carried: f64, cpu_us: f64, in_flight: u64) -> Run {
        Run {
            offered_per_second: offered,
            seconds: 10.0,
            requests: (offered * 10.0) as u64,
            completed: (offered * 10.0) as u64,
            completed_per_second: Some(carried),
            latency_us: Latency { p50: 1_500, p99: 9_000, ..Latency::default() },
            cpu_us_per_request: CpuPerRequest {
                process: cpu_us,
                by_role: BTreeMap::from([("node".to_owned(), cpu_us * 0.75), ("decider".to_owned(), cpu_us * 0.25)]),
            },
            in_flight: InFlight { mean: in_flight as f64 / 2.0, max: in_flight },
            rss_kib: Level { idle: 20_480, mean: 0, max: 30_720 + 10 * in_flight },
            ..Run::default()
        }
    }

    fn said(runs: &[Run]) -> Words {
        let setup = EngineSetup { attempts_in_flight: Some(2000), ..EngineSetup::default() };
        words(&setup, 2, &runs.iter().collect::<Vec<_>>())
    }

    #[test]
    fn ok_the_knee_and_what_is_short_there_are_told() {
        let mut full = run(4_000.0, 3_000.0, 300.0, 900);
        full.cpu_seconds = 9.0;
        full.others = Others {
            machine_busy: Some(0.92),
            laboratory_cpu_seconds: Some(8.0),
            generator_cpu_seconds: Some(1.0),
            ..Others::default()
        };
        let told = said(&[full, run(1_000.0, 1_000.0, 500.0, 50), run(2_000.0, 2_000.0, 400.0, 100)]);
        assert_eq!(
            told.knee,
            "The engine carried 2000/s, with 1.5 ms at the median and 9 ms at the 99th percentile. At 4000/s it carried \
             75 % of what was offered."
        );
        assert_eq!(
            told.limit,
            "What limits at 4000/s is the machine: 92 % of all CPUs were in use, 0.90 by the engine (most of it, 75 %, \
             by the role node), 0.80 by the laboratory, 0.10 by the generator."
        );
        assert!(told.cpu.contains("less the more there are: 500 µs of CPU time at 1000/s and 300 µs"), "{}", told.cpu);
        assert!(told.memory.ends_with("Each further request in flight takes about 10 KiB."), "{}", told.memory);
        assert!(told.doubts.is_empty());
    }

    #[test]
    fn ok_a_knee_that_was_not_reached_or_lies_below_is_told() {
        let below = said(&[Run { overloaded: true, ..run(100.0, 10.0, 1.0, 9) }]);
        assert!(
            below.knee.starts_with("Already at the lowest rate, 100/s, requests without an answer"),
            "{}",
            below.knee
        );
        let beyond = said(&[run(100.0, 100.0, 100.0, 9), run(200.0, 200.0, 110.0, 9)]);
        assert!(beyond.knee.contains("up to 200/s: the knee lies beyond"), "{}", beyond.knee);
        assert_eq!(beyond.limit, "What would limit it was not reached.");
        assert!(beyond.cpu.contains("the same at every rate"), "{}", beyond.cpu);
        assert!(!beyond.memory.contains("Each further"), "in flight hardly differs: {}", beyond.memory);
        assert_eq!(said(&[]), Words::default());
    }

    #[test]
    fn ok_a_bound_a_thread_and_the_laboratory_are_told_apart() {
        let base = || Run { overloaded: true, ..run(800.0, 100.0, 100.0, 2_500) };
        let limit = |run: Run| said(&[run]).limit;
        assert!(limit(base()).contains("is the bound of 2000 attempts in flight: 2500 requests"));
        let mut thread = base();
        thread.busiest_by_role = BTreeMap::from([("dispatcher".to_owned(), 0.97)]);
        assert!(limit(thread).contains("one thread of the engine, of the role dispatcher: it used 97 %"));
        let mut laboratory = base();
        laboratory.others.laboratory_busiest = Some(0.93);
        assert!(limit(laboratory).contains("is the laboratory: its busiest thread used 93 %"));
        let mut foreign = base();
        (foreign.cpu_seconds, foreign.others.machine_busy) = (2.0, Some(1.0));
        (foreign.others.laboratory_cpu_seconds, foreign.others.generator_cpu_seconds) = (Some(3.0), Some(1.0));
        let told = said(&[foreign]);
        assert!(told.limit.contains("used 1.4 CPUs, and none was idle"), "{}", told.limit);
        assert!(told.doubts.iter().any(|doubt| doubt.contains("up to 1.4 CPUs")), "{:?}", told.doubts);
        let mut unknown = base();
        unknown.in_flight.max = 5;
        assert!(limit(unknown).contains("cannot be told from what was measured"));
    }

    #[test]
    fn ok_what_is_doubtful_is_told_and_is_no_figure() {
        let failed = Some(Failure::Late { late: 9, sent: 9 });
        let late = Run { failed, ..run(400.0, 400.0, 9_999.0, 5) };
        let wrong =
            Run { wrong: 2, wrong_examples: vec!["r1 <b>".to_owned()], errors: 3, ..run(100.0, 100.0, 80.0, 5) };
        let told = said(&[wrong, late]);
        assert_eq!(told.doubts.len(), 3, "{:?}", told.doubts);
        assert!(told.doubts[0].contains("Wrong answers at 100/s: 2, such as r1 <b>"));
        assert!(told.limit.contains("is not the engine: 9 of 9 requests left"), "{}", told.limit);
        let ended = Run { failed: Some(Failure::Stream("Unavailable".to_owned())), ..run(400.0, 400.0, 80.0, 5) };
        let told = said(&[run(100.0, 100.0, 80.0, 5), Run { unexpected: 2, ..ended }]);
        assert!(told.limit.contains("cannot be told: the stream ended: Unavailable"), "{}", told.limit);
        assert!(told.doubts.iter().any(|doubt| doubt.contains("nothing waited for at 400/s: 2")), "{:?}", told.doubts);
        assert!(told.cpu.contains("80 µs") && !told.cpu.contains("9.9"), "{}", told.cpu);
    }

    #[test]
    fn ok_a_slope_needs_three_points_that_differ() {
        assert_eq!(slope(&[(1.0, 10.0), (2.0, 20.0), (3.0, 30.0)]), Some(10.0));
        assert_eq!(slope(&[(1.0, 10.0), (9.0, 20.0)]), None);
        assert_eq!(slope(&[(10.0, 10.0), (11.0, 20.0), (12.0, 90.0)]), None);
    }
}
