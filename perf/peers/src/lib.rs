//! What the clients have in common: their options, the loop that keeps items under way, and the line that they print.
//!
//! The libraries are used as their documentation shows, on one thread, for the comparison is of CPU time per item.

use std::{
    cell::Cell,
    future::Future,
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

/// How many items, and for how long at most.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// The responder.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub peer: SocketAddr,
    /// Items that are measured.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub items: u64,
    /// Items at a time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub in_flight: u64,
    /// Items before the first that is measured.
    #[arg(long, default_value_t = 0)]
    pub warm_up: u64,
    /// Seconds after which the run is given up.
    #[arg(long, default_value_t = 60)]
    pub limit: u64,
}

/// What a client prints, in the form that `parallax-perf peers` reads.
#[derive(Debug, Serialize)]
struct Line<'a> {
    client: &'a str,
    items: u64,
    failed: u64,
    in_flight: u64,
    seconds: f64,
    cpu_us: f64,
    cpu_us_per_item: f64,
    per_second: f64,
    peak_rss_kib: u64,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::new(cpu.tv_sec.try_into().unwrap_or(0), cpu.tv_nsec.try_into().unwrap_or(0));
        Self { at: Instant::now(), cpu }
    }
}

#[derive(Default)]
struct Counts {
    begun: Cell<u64>,
    ended: Cell<u64>,
    failed: Cell<u64>,
    failed_before: Cell<u64>,
    begin: Cell<Option<Mark>>,
}

/// Makes a runtime, keeps `load.in_flight` items under way until all have ended, and prints the line. An item is `one`
/// of a number, and went well if it says so.
pub fn run<F>(client: &str, load: &Load, one: impl Fn(u64) -> F + 'static) -> ExitCode
where
    F: Future<Output = Result<(), String>> + 'static,
{
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{client}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let local = tokio::task::LocalSet::new();
    let limit = Duration::from_secs(load.limit);
    let drive = drive(load.clone(), Rc::new(one));
    let outcome = runtime.block_on(local.run_until(async { tokio::time::timeout(limit, drive).await }));
    let Ok((counts, end)) = outcome else {
        eprintln!("{client}: not done after {limit:?}");
        return ExitCode::FAILURE;
    };
    let begin = counts.begin.get().unwrap_or(end);
    let (cpu, seconds) = (end.cpu.saturating_sub(begin.cpu), (end.at - begin.at).as_secs_f64());
    let cpu_us = cpu.as_nanos() as f64 / 1000.0;
    let line = Line {
        client,
        items: load.items,
        failed: counts.failed.get(),
        in_flight: load.in_flight,
        seconds,
        cpu_us,
        cpu_us_per_item: cpu_us / load.items as f64,
        per_second: load.items as f64 / seconds.max(1e-9),
        peak_rss_kib: peak_rss_kib(),
    };
    match serde_json::to_string(&line) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("{client}: {error}"),
    }
    // The process is about to end: what is left under way is not waited for.
    runtime.shutdown_background();
    if counts.failed_before.get() > 0 {
        eprintln!("{client}: {} failed before the measurement began", counts.failed_before.get());
    }
    if line.failed + counts.failed_before.get() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// So many loops, each of which begins an item when its last has ended.
async fn drive<F>(load: Load, one: Rc<impl Fn(u64) -> F + 'static>) -> (Rc<Counts>, Mark)
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let counts = Rc::new(Counts::default());
    counts.begin.set((load.warm_up == 0).then(Mark::now));
    let total = load.warm_up + load.items;
    let mut loops = JoinSet::new();
    for _ in 0..load.in_flight.min(total) {
        let (counts, one) = (Rc::clone(&counts), Rc::clone(&one));
        let warm_up = load.warm_up;
        loops.spawn_local(async move {
            while counts.begun.get() < total {
                let number = counts.begun.replace(counts.begun.get() + 1);
                let outcome = one(number).await;
                counts.ended.set(counts.ended.get() + 1);
                if let Err(why) = outcome {
                    if counts.failed.get() < 5 {
                        eprintln!("item {number}: {why}");
                    }
                    counts.failed.set(counts.failed.get() + 1);
                }
                if counts.ended.get() == warm_up {
                    counts.failed_before.set(counts.failed.replace(0));
                    counts.begin.set(Some(Mark::now()));
                }
            }
        });
    }
    while loops.join_next().await.is_some() {}
    (counts, Mark::now())
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    // What is still too little is met, and told, when a socket fails.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}

fn peak_rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}
