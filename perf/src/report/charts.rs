//! The charts of one mix.

use crate::{
    open::{
        knee::{beyond, knee},
        latency,
        process::ROLES,
        result::Run,
    },
    plot::{Axis, Bars, Chart, Mark, Series, Unit, written},
};

/// Curves of percentiles in one chart; further ones would hide each other.
const CURVES_MAX: usize = 8;

/// Latency by rate. Crosses are runs beyond the knee or without a figure.
pub(super) fn latency_by_rate(runs: &[&Run]) -> Chart {
    let of = |value: fn(&Run) -> u64| -> Vec<(f64, f64)> {
        runs.iter().map(|run| (run.offered_per_second, value(run) as f64)).collect()
    };
    let chart = Chart::new(
        "Latency by rate",
        Axis::log("offered, requests a second", Unit::Number),
        Axis::log("from due to answer", Unit::Micros),
    );
    let mut chart = chart
        .with(Series::new("p50", Mark::Dotted, of(|run| run.latency_us.p50)).in_color(0))
        .with(Series::new("p99", Mark::Dotted, of(|run| run.latency_us.p99)).in_color(1));
    if runs.iter().any(|run| run.latency_quick_us.is_some_and(|quick| quick != run.latency_us)) {
        let quick = of(|run| run.quick_p99_us());
        chart = chart.with(Series::new("p99 of what waits for nothing", Mark::Dashed, quick).in_color(2));
    }
    let lowest = runs.first();
    // A run that ended before anything was answered is marked too, as high as the worst.
    let worst = runs.iter().map(|run| run.latency_us.p99).max().unwrap_or(1);
    let height = |run: &Run| if run.completed > 0 { run.latency_us.p99 as f64 } else { worst as f64 };
    let crossed = |is_wanted: &dyn Fn(&Run) -> bool| -> Vec<(f64, f64)> {
        let wanted = runs.iter().filter(|run| is_wanted(run));
        wanted.map(|run| (run.offered_per_second, height(run))).collect()
    };
    let overloaded = crossed(&|run| run.overloaded);
    let too_much = crossed(&|run| !run.overloaded && lowest.is_some_and(|lowest| beyond(run, lowest).is_some()));
    for (name, points) in [("overloaded", overloaded), ("beyond the knee", too_much)] {
        if !points.is_empty() {
            chart = chart.with(Series::new(name, Mark::Crosses, points));
        }
    }
    match knee(runs).and_then(|knee| knee.beyond.and(knee.carried)) {
        Some(carried) => chart.marked(carried.offered_per_second, "knee"),
        None => chart,
    }
}

/// What was carried of what was offered.
pub(super) fn carried_by_rate(runs: &[&Run]) -> Chart {
    let ends = |run: &&Run| (run.offered_per_second, run.offered_per_second);
    let carried = runs.iter().map(|run| (run.offered_per_second, run.carried_per_second()));
    Chart::new(
        "Carried by offered",
        Axis::linear("offered, requests a second", Unit::Number),
        Axis::linear("answered a second", Unit::Number),
    )
    .with(Series::new("all that is offered", Mark::Dashed, runs.iter().map(ends).collect()).in_color(7))
    .with(Series::new("answered", Mark::Dotted, carried.collect()).in_color(2))
}

/// CPU time for a request by what it is used for.
pub(super) fn cpu_by_role(runs: &[&Run]) -> Bars {
    let of = |role: &str| -> Vec<f64> {
        let roles = runs.iter().map(|run| &run.cpu_us_per_request.by_role);
        roles.map(|roles| roles.get(role).copied().unwrap_or(0.0)).collect()
    };
    // Roles that another version of the engine has are shown too.
    let more = runs.iter().flat_map(|run| run.cpu_us_per_request.by_role.keys().map(String::as_str));
    let mut roles: Vec<&str> = ROLES.to_vec();
    for role in more {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    Bars {
        title: "CPU time for a request by role".to_owned(),
        label: "offered, requests a second".to_owned(),
        categories: runs.iter().map(|run| written(Unit::Number, run.offered_per_second)).collect(),
        y: Axis::linear("CPU time for a request", Unit::Micros),
        parts: roles
            .into_iter()
            .map(|role| (role.to_owned(), of(role)))
            .filter(|(_, part)| part.iter().any(|us| *us > 0.0))
            .collect(),
    }
}

/// How CPU time for a request grows with the rate.
pub(super) fn cpu_by_rate(runs: &[&Run]) -> Chart {
    let each = runs.iter().map(|run| (run.offered_per_second, run.cpu_us_per_request.process));
    Chart::new(
        "CPU time for a request by rate",
        Axis::log("offered, requests a second", Unit::Number),
        Axis::linear("CPU time for a request", Unit::Micros),
    )
    .with(Series::new("engine's process", Mark::Dotted, each.collect()).in_color(3))
}

/// Memory by requests in flight.
pub(super) fn memory_by_in_flight(runs: &[&Run]) -> Chart {
    let of = |value: fn(&Run) -> u64| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = runs
            .iter()
            .map(|run| (run.in_flight.max as f64, value(run) as f64))
            .filter(|point| point.1 > 0.0)
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    Chart::new(
        "Memory by requests in flight",
        Axis::linear("requests in flight, at most", Unit::Number),
        Axis::linear("resident", Unit::Kibibytes),
    )
    .with(Series::new("highest", Mark::Dotted, of(|run| run.rss_kib.max)).in_color(5))
    .with(Series::new("mean", Mark::Dots, of(|run| run.rss_kib.mean)).in_color(0))
    .with(Series::new("at rest", Mark::Dashed, of(|run| run.rss_kib.idle)).in_color(7))
}

/// Latency by percentile, out of the histograms.
pub(super) fn percentiles(runs: &[&Run]) -> Chart {
    let chart = Chart::new(
        "Latency by percentile",
        Axis::log("so many requests were answered within", Unit::Quantile),
        Axis::log("from due to answer", Unit::Micros),
    );
    // As many as fit, evenly out of all.
    let step = runs.len().div_ceil(CURVES_MAX).max(1);
    runs.iter().rev().step_by(step).collect::<Vec<_>>().into_iter().rev().fold(chart, |chart, run| {
        // A file was checked when it was read.
        let points = latency::decode(&run.histogram).map(|histogram| latency::tail(&histogram)).unwrap_or_default();
        let name = format!("{}/s", written(Unit::Number, run.offered_per_second));
        chart.with(Series::new(name, Mark::Line, points))
    })
}
