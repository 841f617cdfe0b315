//! What one engine shows of a mix as load grows, by its measured points: how many requests it carries while so many
//! cores are busy, at what latency, and in how much memory.
//!
//! A process has work that does not grow with requests: timers, syncs of the journal, wake-ups. So the CPU time of a request
//! falls with the rate, and two mixes are compared at the same load of the process, not at the same rate.
//!
//! Memory that was touched once stays with the process: a mix needs as much as the neediest kind in it, and what it has
//! in flight.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    measured::Run,
    times::{Kind, TimesError},
};

/// Between the least and the most attempts in flight of a mix there must be this in one of the mixes, or memory for each
/// cannot be told.
const IN_FLIGHT_SPREAD_MIN: f64 = 1.0;

/// One measured point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Cores that the process kept busy.
    pub busy_cores: f64,
    /// Requests that it answered in a second.
    pub per_second: f64,
    /// Mean latency.
    pub latency_us: f64,
}

/// The points of a mix or a kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// In order of load.
    points: Vec<Point>,
    /// Resident memory with nothing in flight, after such requests.
    pub base_rss_octets: f64,
}

impl Curve {
    /// Of points in any order.
    #[must_use]
    pub fn new(mut points: Vec<Point>, base_rss_octets: f64) -> Self {
        points.sort_by(|one, other| one.busy_cores.total_cmp(&other.busy_cores));
        Self { points, base_rss_octets }
    }

    /// The points, in order of load.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Requests a second with so many cores busy: on the straight line between the points beside it, and along the
    /// outermost line beyond them. Not above 0 if the load is less than what an idle process makes.
    #[must_use]
    pub fn per_second_at(&self, busy: f64) -> f64 {
        let of_point =
            |point: &Point| if point.busy_cores > 0.0 { busy * point.per_second / point.busy_cores } else { 0.0 };
        match self.beside(busy) {
            Some((before, after)) => {
                let rise = (after.per_second - before.per_second) / (after.busy_cores - before.busy_cores);
                // A busier run that carried less says nothing of the load between.
                if rise > 0.0 { before.per_second + rise * (busy - before.busy_cores) } else { of_point(after) }
            }
            None => self.points.first().map_or(0.0, of_point),
        }
    }

    /// Mean latency with so many cores busy: on the line between the points, and that of the outermost one beyond.
    #[must_use]
    pub fn latency_us_at(&self, busy: f64) -> f64 {
        match self.beside(busy) {
            Some((before, after)) => {
                let way = (busy - before.busy_cores) / (after.busy_cores - before.busy_cores);
                before.latency_us + way.clamp(0.0, 1.0) * (after.latency_us - before.latency_us)
            }
            None => self.points.first().map_or(0.0, |point| point.latency_us),
        }
    }

    /// The two points that a load lies between, or is nearest to; none if there are not two that differ.
    fn beside(&self, busy: f64) -> Option<(&Point, &Point)> {
        let pairs = || self.points.windows(2).filter(|pair| pair[1].busy_cores > pair[0].busy_cores);
        let pair = pairs().find(|pair| busy <= pair[1].busy_cores).or_else(|| pairs().next_back())?;
        Some((&pair[0], &pair[1]))
    }
}

/// Every mix, and every kind of the laboratory in a pure mix, with its curve by name; and the memory that an attempt in
/// flight adds. `set_aside` names the runs that are not among `runs`, for the error.
///
/// # Errors
/// Memory cannot be told.
pub(super) fn of_runs(runs: &[Run], set_aside: &[String]) -> Result<(BTreeMap<String, Curve>, f64), TimesError> {
    let mut names: BTreeMap<String, Vec<(Point, &str)>> = BTreeMap::new();
    let alone = |kind: &str| runs.iter().any(|run| run.shares.len() == 1 && run.shares.contains_key(kind));
    for run in runs {
        let point =
            |latency_us| Point { busy_cores: run.busy_cores(), per_second: run.carried_per_second(), latency_us };
        names.entry(run.mix.clone()).or_default().push((point(run.latency_us.mean), &run.mix));
        let is_pure = Kind::ALL.iter().any(|kind| kind.name() == run.mix) || run.shares.len() == 1;
        // A kind that has runs of its own is told by these alone, and one of a mix's name by the mix.
        let told = run.shares.keys().filter(|kind| **kind != run.mix && (run.shares.len() == 1 || !alone(kind)));
        for kind in told.filter(|_| is_pure) {
            let latency_us = run.by_kind.get(kind).map_or(run.latency_us.mean, |of| of.latency_us_mean);
            names.entry(kind.clone()).or_default().push((point(latency_us), &run.mix));
        }
    }
    let memory = Memory::of(runs, set_aside)?;
    let curves = names.into_iter().map(|(name, told)| {
        let bases = told.iter().filter_map(|(_, mix)| memory.base_kib.get(*mix));
        let base_kib = bases.copied().fold(0.0, f64::max);
        (name, Curve::new(told.into_iter().map(|(point, _)| point).collect(), base_kib * 1024.0))
    });
    Ok((curves.collect(), memory.kib_per_in_flight * 1024.0))
}

/// Resident memory, by lines of least squares that are parallel: one for each mix.
struct Memory<'a> {
    base_kib: BTreeMap<&'a str, f64>,
    kib_per_in_flight: f64,
}

impl<'a> Memory<'a> {
    fn of(runs: &'a [Run], set_aside: &[String]) -> Result<Self, TimesError> {
        let mut mixes: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
        for run in runs {
            mixes.entry(&run.mix).or_default().push((run.in_flight.mean, run.rss_kib.mean));
        }
        let spread_of = |points: &[(f64, f64)]| {
            let least = points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min);
            points.iter().map(|point| point.0).fold(0.0, f64::max) - least
        };
        let most = mixes.values().map(|points| spread_of(points)).fold(0.0, f64::max);
        if most < IN_FLIGHT_SPREAD_MIN {
            return Err(TimesError::NoSlope { most, set_aside: set_aside.to_vec() });
        }
        let (mut along, mut spread) = (0.0, 0.0);
        for points in mixes.values() {
            let (middle, mean_kib) = middle(points);
            along += points.iter().map(|(at, kib)| (at - middle) * (kib - mean_kib)).sum::<f64>();
            spread += points.iter().map(|(at, _)| (at - middle).powi(2)).sum::<f64>();
        }
        // A line that falls says only that memory is no matter of what is in flight.
        let kib_per_in_flight = (along / spread).max(0.0);
        let base = |points: &[(f64, f64)]| {
            let (middle, mean_kib) = middle(points);
            (mean_kib - kib_per_in_flight * middle).max(0.0)
        };
        let base_kib = mixes.iter().map(|(mix, points)| (*mix, base(points))).collect();
        Ok(Self { base_kib, kib_per_in_flight })
    }
}

fn middle(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    let sum = |figure: fn(&(f64, f64)) -> f64| points.iter().map(figure).sum::<f64>();
    (sum(|point| point.0) / count, sum(|point| point.1) / count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{fixture, measured::Measured};

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} instead of {expected}");
    }

    fn point(busy_cores: f64, per_second: f64, latency_us: f64) -> Point {
        Point { busy_cores, per_second, latency_us }
    }

    #[test]
    fn ok_requests_and_latency_lie_on_the_lines_between_points() {
        // 0.1 cores of its own and 1 ms a request.
        let curve = Curve::new(vec![point(0.3, 200.0, 9.0), point(0.2, 100.0, 5.0)], 0.0);
        for (busy, per_second, latency) in [(0.2, 100.0, 5.0), (0.25, 150.0, 7.0), (0.3, 200.0, 9.0), (0.5, 400.0, 9.0)]
        {
            near(curve.per_second_at(busy), per_second);
            near(curve.latency_us_at(busy), latency);
        }
        assert!(curve.per_second_at(0.1).abs() < 1e-9 && curve.per_second_at(0.05) < 0.0);
        near(curve.latency_us_at(0.05), 5.0);
    }

    #[test]
    fn ok_one_point_or_a_line_that_falls_is_taken_as_in_proportion() {
        let one = Curve::new(vec![point(0.2, 100.0, 5.0)], 0.0);
        near(one.per_second_at(0.4), 200.0);
        near(one.latency_us_at(9.0), 5.0);
        let falls = Curve::new(vec![point(0.2, 100.0, 5.0), point(0.4, 90.0, 5.0)], 0.0);
        near(falls.per_second_at(0.8), 180.0);
        assert_eq!(Curve::default().per_second_at(1.0), 0.0);
    }

    #[test]
    fn ok_memory_is_parallel_lines_one_a_mix() {
        let mut value = fixture::measured();
        // Requests for CAA leave 10 000 KiB more behind.
        for run in [6, 7] {
            let mean = value["runs"][run]["rss_kib"]["mean"].as_f64().expect("a figure");
            value["runs"][run]["rss_kib"]["mean"] = (mean + 10_000.0).into();
        }
        let measured = Measured::parse(&value.to_string()).expect("a measurement");
        let (curves, octets_per_in_flight) = of_runs(&measured.runs, &[]).expect("curves");
        near(octets_per_in_flight, 8.0 * 1024.0);
        near(curves["caa"].base_rss_octets, 40_000.0 * 1024.0);
        near(curves["caa-none"].base_rss_octets, 40_000.0 * 1024.0);
        near(curves["slow"].base_rss_octets, 30_000.0 * 1024.0);
    }

    #[test]
    fn err_memory_needs_runs_of_one_mix_that_differ() {
        let mut value = fixture::measured();
        // One run of each mix is left: however much they differ, it may be the mix that does it.
        let mut place = 0;
        value["runs"].as_array_mut().expect("runs").retain(|_| {
            place += 1;
            place % 2 == 0
        });
        let measured = Measured::parse(&value.to_string()).expect("a measurement");
        let aside = ["slow at 9/s: overloaded".to_owned()];
        let error = of_runs(&measured.runs, &aside).expect_err("no slope").to_string();
        assert!(error.ends_with("would do (set aside: slow at 9/s: overloaded)"), "{error}");
    }
}
