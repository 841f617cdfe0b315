//! Tasks that wait for servers which never answer, and good ones beside them, on a schedule.
//!
//! Good tasks are due at fixed times, whether those before them have ended or not, and their latency counts from when
//! they were due: a node that stalls cannot hide it by asking for less. Silent tasks must end in silence; one that ends
//! otherwise counts as failed, and so does a good one that does not confirm.

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use parallax_validation::plan::PlanLimits;
use serde::Serialize;

use super::{
    Common,
    bench::{Bench, Ended},
    work::{Items, SilentItems, Work},
};
use crate::measure::{self, KernelMemory, Latencies, micros};

const TOLD_MAX: u64 = 5;
const SECOND_US: u64 = 1_000_000;
/// From the last silent task's start to the measurement, so that what starting costs is not taken for what waiting does.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the last silent task waits beyond what is measured.
const MARGIN_MS: u64 = 5_000;
/// `PlanLimits` take no longer waits.
const HOLD_MS_MAX: u64 = 119_000;

/// Descriptors for ports, good tasks and the ring itself.
const DESCRIPTORS_BESIDES: u64 = 500;

/// What good tasks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Good {
    /// A dns-01 lookup. Not beside silent lookups, for there is one resolver.
    Resolver,
    /// A fetch from --web-address, by address.
    Http,
    /// A handshake with --web-address, by address.
    Tls,
}

/// What is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Http,
    HttpUnanswered,
    Dns,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpUnanswered => "http unanswered",
            Self::Dns => "dns",
        }
    }
}

/// One run.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["http", "http_unanswered", "dns"]))]
pub struct Silent {
    #[command(flatten)]
    common: Common,
    /// So many fetches of servers that accept and say nothing. They are at 127.1.0.1 to 127.1.0.250 and --http-port.
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u64).range(1..=500_000))]
    http: Option<u64>,
    /// So many fetches of hosts that answer no SYN. They are at 127.77.0.1 to 127.77.0.250, and whatever is there must
    /// swallow all it gets.
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u64).range(1..=500_000))]
    http_unanswered: Option<u64>,
    /// So many lookups that the resolver never answers. It must swallow all questions.
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u64).range(1..=500_000))]
    dns: Option<u64>,
    /// Good tasks per second.
    #[arg(long, value_name = "TASKS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    good: u64,
    /// What good tasks are; if not given, lookups beside silent fetches and fetches beside silent lookups.
    #[arg(long, value_enum)]
    good_check: Option<Good>,
    /// Seconds of each of the two phases: good tasks alone, good tasks beside the silent ones.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    phase: u64,
    /// Silent tasks started per second.
    #[arg(long, value_name = "TASKS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    fill: u64,
}

/// Good tasks of one phase.
#[derive(Debug, Serialize)]
struct Phase {
    good: u64,
    failed: u64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    max_us: Option<u64>,
    /// Of the process, per second, in microseconds.
    cpu_us_per_second: f64,
    /// Of the worker alone.
    worker_cpu_us_per_second: Option<f64>,
}

/// What is held at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
struct Held {
    rss_kib: Option<u64>,
    descriptors: Option<u64>,
    /// Of all sockets in this network namespace: both ends, if the servers are in it too.
    socket_buffer_kib: Option<u64>,
    /// Of the whole machine.
    slab_kib: Option<u64>,
}

impl Held {
    fn now() -> Self {
        let kernel = KernelMemory::now();
        Self {
            rss_kib: measure::status_kib("VmRSS"),
            descriptors: measure::open_descriptors(),
            socket_buffer_kib: kernel.map(|kernel| kernel.socket_buffer_bytes / 1024),
            slab_kib: kernel.map(|kernel| kernel.slab_bytes / 1024),
        }
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Findings {
    client: String,
    silent: u64,
    silent_failed: u64,
    /// From the first silent task to the moment when all had sent what they have to send.
    fill_seconds: f64,
    /// CPU time of the process in that time, per silent task; the good ones beside are in it.
    fill_cpu_us_per_silent: f64,
    before: Held,
    during: Held,
    after: Held,
    bytes_per_silent: Option<f64>,
    kernel_bytes_per_silent: Option<f64>,
    descriptors_per_silent: Option<f64>,
    alone: Phase,
    beside: Phase,
    peak_rss_kib: u64,
}

/// A run under way.
struct Course<'a> {
    bench: Bench,
    good: Items,
    silent: SilentItems,
    options: &'a Silent,
    /// By number, whether a task is a silent one.
    is_silent: Vec<bool>,
    silent_ended: u64,
    silent_failed: u64,
    told: u64,
    latencies: Latencies,
    good_failed: u64,
}

impl Silent {
    fn target(&self) -> (Target, u64) {
        let targets =
            [(Target::Http, self.http), (Target::HttpUnanswered, self.http_unanswered), (Target::Dns, self.dns)];
        let given = targets.into_iter().find_map(|(target, count)| Some((target, count?)));
        // The command line has one of them; none would be none of any.
        given.unwrap_or((Target::Http, 0))
    }
}

pub(super) fn run(options: &Silent) -> Result<ExitCode, String> {
    let (target, count) = options.target();
    let hold_ms = 1_000 * count.div_ceil(options.fill) + 1_000 * options.phase + 2 * MARGIN_MS;
    if hold_ms > HOLD_MS_MAX {
        return Err(format!("silent tasks would have to wait for {hold_ms} ms, and may {HOLD_MS_MAX}; raise --fill"));
    }
    let may_have = measure::raise_descriptor_limit();
    let by_kernel = options.common.interface.is_none();
    if by_kernel && target != Target::Dns && count + DESCRIPTORS_BESIDES > may_have {
        return Err(format!(
            "{count} connections at a time need {} descriptors, and this process may have {may_have} (ulimit -Hn)",
            count + DESCRIPTORS_BESIDES
        ));
    }
    let good = options.good_check.unwrap_or(if target == Target::Dns { Good::Http } else { Good::Resolver });
    if target == Target::Dns && good == Good::Resolver {
        return Err("the resolver is silent, so good tasks cannot be lookups".to_owned());
    }
    let web = Some(options.common.web_address.into());
    let (good, address) = match good {
        Good::Resolver => (Work::Resolver, None),
        Good::Http => (Work::Http, web),
        Good::Tls => (Work::Tls, web),
    };
    let limits = PlanLimits {
        task_deadline_ms: hold_ms as u32 + 1_000,
        dns_try_ms: hold_ms as u32,
        dns_transmissions: 1,
        caa_repeat_ms: 0,
        // Only those that are to wait for their connection wait long for it.
        http_connect_ms: if target == Target::HttpUnanswered { hold_ms as u32 } else { 10_000 },
        http_response_ms: hold_ms as u32,
    };
    let silent = match target {
        Target::Http => SilentItems::http(limits)?,
        Target::HttpUnanswered => SilentItems::http_unanswered(limits)?,
        Target::Dns => SilentItems::dns(limits)?,
    };
    let mut course = Course {
        bench: Bench::start(&options.common, count + 10_000)?,
        good: Items::new(good, address, PlanLimits::default())?,
        silent,
        options,
        is_silent: Vec::new(),
        silent_ended: 0,
        silent_failed: 0,
        told: 0,
        latencies: Latencies::default(),
        good_failed: 0,
    };
    let findings = course.findings(count)?;
    println!("{}", serde_json::to_string(&findings).map_err(|error| error.to_string())?);
    in_words(&findings);
    let failed = findings.silent_failed + findings.alone.failed + findings.beside.failed;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Course<'_> {
    fn findings(&mut self, count: u64) -> Result<Findings, String> {
        // So that what the first tasks make once is not counted.
        self.phase(Duration::from_millis(500))?;
        let length = Duration::from_secs(self.options.phase);
        let alone = self.phase(length)?;
        let before = Held::now();
        let (cpu, filling) = (measure::cpu_of_process(), self.bench.now_us());
        self.fill(count)?;
        let fill_seconds = (self.bench.now_us() - filling) as f64 / 1e6;
        let fill_cpu = micros(measure::cpu_of_process().saturating_sub(cpu));
        self.phase(SETTLE)?;
        let during = Held::now();
        let beside = self.phase(length)?;
        // Those that have failed are counted as such.
        let early = self.silent_ended - self.silent_failed;
        while self.bench.outstanding() > 0 {
            self.take(Duration::from_millis(200))?;
        }
        self.take(Duration::from_millis(500))?;
        let after = Held::now();
        let per_silent = |before: Option<u64>, during: Option<u64>, unit: f64| {
            before.zip(during).map(|(before, during)| (during as f64 - before as f64) * unit / count as f64)
        };
        let kernel = |held: Held| held.socket_buffer_kib.zip(held.slab_kib).map(|(sockets, slab)| sockets + slab);
        let target = self.options.target().0.name();
        Ok(Findings {
            client: format!("node silent {target} {}", self.options.common.carrier()),
            silent: count,
            silent_failed: self.silent_failed + early,
            fill_seconds,
            fill_cpu_us_per_silent: fill_cpu / count as f64,
            before,
            during,
            after,
            bytes_per_silent: per_silent(before.rss_kib, during.rss_kib, 1024.0),
            kernel_bytes_per_silent: per_silent(kernel(before), kernel(during), 1024.0),
            descriptors_per_silent: per_silent(before.descriptors, during.descriptors, 1.0),
            alone,
            beside,
            peak_rss_kib: measure::status_kib("VmHWM").unwrap_or(0),
        })
    }

    /// Good tasks on their schedule for so long, and then until they have ended.
    fn phase(&mut self, length: Duration) -> Result<Phase, String> {
        (self.latencies, self.good_failed) = (Latencies::default(), 0);
        let (cpu, worker, begin) = (measure::cpu_of_process(), Bench::worker_cpu(), self.bench.now_us());
        let length_us = length.as_micros() as u64;
        let due = |nth: u64| begin + nth * SECOND_US / self.options.good;
        let good = length_us * self.options.good / SECOND_US;
        let mut given = 0;
        while self.bench.now_us() < begin + length_us || self.latencies.count() < good {
            let now = self.bench.now_us();
            while given < good && due(given) <= now && !self.bench.is_refusing() {
                self.give_good(due(given));
                given += 1;
            }
            let next = if given < good { due(given) } else { now + 10_000 };
            self.take(Duration::from_micros(next.saturating_sub(self.bench.now_us())))?;
        }
        let seconds = (self.bench.now_us() - begin) as f64 / 1e6;
        let per_second = |before: Duration, after: Duration| micros(after.saturating_sub(before)) / seconds;
        Ok(Phase {
            good: self.latencies.count(),
            failed: self.good_failed,
            p50_us: self.latencies.at(0.5),
            p99_us: self.latencies.at(0.99),
            max_us: self.latencies.at(1.0),
            cpu_us_per_second: per_second(cpu, measure::cpu_of_process()),
            worker_cpu_us_per_second: worker.zip(Bench::worker_cpu()).map(|(before, after)| per_second(before, after)),
        })
    }

    /// Starts the silent tasks, until all have sent what they have to send.
    fn fill(&mut self, count: u64) -> Result<(), String> {
        use std::sync::atomic::Ordering;
        // Relaxed: counters that nothing else depends on.
        let sent = |bench: &Bench| {
            let stats = bench.stats();
            stats.connections.load(Ordering::Relaxed) + stats.queries.load(Ordering::Relaxed)
        };
        let (begin, sent_before) = (self.bench.now_us(), sent(&self.bench));
        let mut given = 0;
        while given < count || sent(&self.bench) < sent_before + count {
            let due = (self.bench.now_us() - begin) * self.options.fill / SECOND_US;
            while given < count.min(due) && !self.bench.is_refusing() {
                self.is_silent.resize(self.bench.submitted() as usize, false);
                self.is_silent.push(true);
                let now = self.bench.now_us();
                self.bench.add(self.silent.plan(given), now);
                given += 1;
            }
            self.take(Duration::from_millis(1))?;
            if self.silent_ended > 0 {
                return Err(format!("{} silent tasks ended before all had begun", self.silent_ended));
            }
        }
        Ok(())
    }

    fn give_good(&mut self, due_us: u64) {
        let plan = self.good.plan(self.bench.submitted());
        self.bench.add(plan, due_us);
    }

    fn take(&mut self, wait: Duration) -> Result<(), String> {
        let Self { bench, good, silent, is_silent, silent_ended, silent_failed, told, latencies, good_failed, .. } =
            self;
        bench.take(wait, |ended: Ended| {
            let is_silent = is_silent.get(ended.number as usize).copied().unwrap_or(false);
            let checked = if is_silent {
                *silent_ended += 1;
                let checked = silent.check(&ended.report);
                *silent_failed += u64::from(checked.is_err());
                checked
            } else {
                latencies.add(ended.latency_us);
                let checked = good.check(ended.number, &ended.report);
                *good_failed += u64::from(checked.is_err());
                checked
            };
            if let Err(why) = checked {
                *told += 1;
                if *told <= TOLD_MAX {
                    let kind = if is_silent { "silent" } else { "good" };
                    eprintln!("{kind} task {}: {why}", ended.number);
                }
            }
        })
    }
}

fn in_words(findings: &Findings) {
    let kib = |bytes: Option<f64>| bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} KiB", bytes / 1024.0));
    eprintln!(
        "{}: {} tasks in {:.1} s, {} failed; each holds {} of memory, {} of the kernel's (both ends), {:.2} descriptors",
        findings.client,
        findings.silent,
        findings.fill_seconds,
        findings.silent_failed,
        kib(findings.bytes_per_silent),
        kib(findings.kernel_bytes_per_silent),
        findings.descriptors_per_silent.unwrap_or(0.0),
    );
    for (when, phase) in [("alone", &findings.alone), ("beside", &findings.beside)] {
        eprintln!(
            "  good {when}: {} tasks, {} failed, p50 {} µs, p99 {} µs, most {} µs, CPU {:.2} % of one",
            phase.good,
            phase.failed,
            phase.p50_us.unwrap_or(0),
            phase.p99_us.unwrap_or(0),
            phase.max_us.unwrap_or(0),
            phase.cpu_us_per_second / 1e4
        );
    }
}
