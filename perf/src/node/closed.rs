//! A closed loop: so many tasks are under way at a time, until so many have ended.
//!
//! Tasks are given until the last that is counted has ended, so that as many are under way at the end of what is measured
//! as at its begin: work done before for tasks counted is made up for by work done for tasks that are not. What is still
//! under way then is left to the exit, as the bare clients do.
//!
//! It shows what a task costs and how many a node can do, not how long one takes under a given load: a slow server slows
//! the loop down. Latency is from handing a task over to reading its report.

use std::{
    net::IpAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum as _};
use parallax_validation::plan::PlanLimits;

use super::{
    Common,
    bench::Bench,
    work::{Items, Work},
};
use crate::measure::{self, Latencies, Line, micros};

/// Failures that are told in words.
const TOLD_MAX: u64 = 5;
/// The servers share a machine with much else; that they answer late is no failure of the node.
const PATIENT: PlanLimits = PlanLimits {
    task_deadline_ms: 60_000,
    dns_try_ms: 4_000,
    dns_transmissions: 3,
    caa_repeat_ms: 0,
    http_connect_ms: 20_000,
    http_response_ms: 20_000,
};

/// With fewer under way, all may begin at once; beyond, each that ends makes room for two. A hundred thousand questions
/// in one burst would fill every queue on the way, and the run would be about repeating those that were lost.
const BURST_MAX: u64 = 1_000;

/// One run.
#[derive(Clone, Debug, Args)]
pub struct Run {
    #[command(flatten)]
    common: Common,
    /// Tasks under way at a time.
    #[arg(long, value_name = "TASKS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    in_flight: u64,
    /// Tasks that are measured.
    #[arg(long, value_name = "TASKS", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    items: u64,
    /// Tasks before the first that is measured; at least as many as are under way at a time make the rest a steady state.
    #[arg(long, value_name = "TASKS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    warm_up: u64,
}

/// One run of connections.
#[derive(Clone, Debug, Args)]
pub struct ByAddress {
    #[command(flatten)]
    pub(super) run: Run,
    /// Asks about --web-address itself, as for a certificate of an IP address, so that no name is resolved.
    #[arg(long)]
    pub(super) by_address: bool,
}

/// Where the account stood at one moment.
struct Mark {
    at: Instant,
    cpu: Duration,
    worker: Option<Duration>,
}

impl Mark {
    fn now() -> Self {
        Self { at: Instant::now(), cpu: measure::cpu_of_process(), worker: Bench::worker_cpu() }
    }
}

/// What was counted after the warm-up.
#[derive(Default)]
struct Counts {
    ended: u64,
    failed: u64,
    /// Failures of the warm-up, which count too: servers that answer wrongly are no comparison.
    failed_before: u64,
    retransmitted: u64,
    latencies: Latencies,
}

pub(super) fn run(work: Work, run: &Run, by_address: bool) -> Result<ExitCode, String> {
    let address = by_address.then_some(IpAddr::V4(run.common.web_address));
    let mut items = Items::new(work, address, PATIENT)?;
    let mut bench = Bench::start(&run.common, run.in_flight)?;
    let (counts, begin, end) = drive(&mut bench, &mut items, run)?;
    let name = work.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    let how = if by_address { " by address" } else { "" };
    let line = line(format!("node {name}{how} {}", run.common.carrier()), run, &counts, &begin, &end);
    println!("{}", serde_json::to_string(&line).map_err(|error| error.to_string())?);
    eprintln!("{}", in_words(&line));
    if counts.failed_before > 0 {
        eprintln!("{} failed before the measurement began", counts.failed_before);
    }
    Ok(if counts.failed + counts.failed_before == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn drive(bench: &mut Bench, items: &mut Items, run: &Run) -> Result<(Counts, Mark, Mark), String> {
    let total = run.warm_up + run.items;
    let mut counts = Counts::default();
    let (mut begin, mut end) = ((run.warm_up == 0).then(Mark::now), None);
    let mut told = 0;
    while counts.ended < total {
        let window = run.in_flight.min(BURST_MAX + counts.ended);
        while bench.outstanding() < window && !bench.is_refusing() {
            let due = bench.now_us();
            bench.add(items.plan(bench.submitted()), due);
        }
        bench.take(Duration::from_secs(1), |ended| {
            if counts.ended == total {
                return;
            }
            let checked = items.check(ended.number, &ended.report);
            counts.ended += 1;
            if let Err(why) = &checked {
                told += 1;
                if told <= TOLD_MAX {
                    eprintln!("task {}: {why}", ended.number);
                }
            }
            let failed = u64::from(checked.is_err());
            if begin.is_none() {
                counts.failed_before += failed;
                if counts.ended == run.warm_up {
                    begin = Some(Mark::now());
                }
                return;
            }
            counts.failed += failed;
            counts.latencies.add(ended.latency_us);
            let again =
                ended.report.observation.lookups().map(|lookup| u64::from(lookup.transmissions.saturating_sub(1)));
            counts.retransmitted += again.sum::<u64>();
            if counts.ended == total {
                end = Some(Mark::now());
            }
        })?;
    }
    let end = end.ok_or("the last task never ended")?;
    let begin = begin.ok_or("the warm-up never ended")?;
    Ok((counts, begin, end))
}

fn line(client: String, run: &Run, counts: &Counts, begin: &Mark, end: &Mark) -> Line {
    let items = run.items as f64;
    let seconds = (end.at - begin.at).as_secs_f64();
    let cpu_us = micros(end.cpu.saturating_sub(begin.cpu));
    let worker = begin.worker.zip(end.worker).map(|(begin, end)| micros(end.saturating_sub(begin)));
    Line {
        client,
        items: run.items,
        failed: counts.failed,
        in_flight: run.in_flight,
        seconds,
        cpu_us,
        cpu_us_per_item: cpu_us / items,
        per_second: items / seconds.max(1e-9),
        peak_rss_kib: measure::status_kib("VmHWM").unwrap_or(0),
        worker_cpu_us_per_item: worker.map(|us| us / items),
        p50_us: counts.latencies.at(0.5),
        p99_us: counts.latencies.at(0.99),
        retransmitted: Some(counts.retransmitted),
    }
}

fn in_words(line: &Line) -> String {
    let worker = line.worker_cpu_us_per_item.map_or_else(|| "-".to_owned(), |us| format!("{us:.2}"));
    format!(
        "{}: {} tasks, {} at a time, {} failed, {:.0}/s, CPU {:.2} µs each ({worker} in the worker), p50 {} µs, p99 {} µs, \
         {} retransmissions, peak {} KiB",
        line.client,
        line.items,
        line.in_flight,
        line.failed,
        line.per_second,
        line.cpu_us_per_item,
        line.p50_us.unwrap_or(0),
        line.p99_us.unwrap_or(0),
        line.retransmitted.unwrap_or(0),
        line.peak_rss_kib
    )
}
