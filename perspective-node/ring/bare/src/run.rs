//! What all clients share: the options of a load, the counts, the clocks, the limit.
//!
//! Invariant: the counts stop at the last item asked for; what is still in flight then is left to the exit.

use std::fs;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::error::{BareError, During as _};
use crate::report::Report;

/// Where and how long a command may run.
#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// Pins the thread to this core.
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Ends the command after so many seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) limit: u64,
}

impl Bounds {
    /// Pins the thread, and lets the process have as many descriptors as it can get.
    pub(crate) fn apply(&self) -> Result<(), BareError> {
        if let Some(core) = self.core {
            if core >= CpuSet::MAX_CPU {
                return Err(BareError::Setting("--core: no such core"));
            }
            let mut set = CpuSet::new();
            set.set(core);
            sched_setaffinity(None, &set).during("--core")?;
        }
        raise_descriptor_limit();
        Ok(())
    }
}

/// To `fs.nr_open` with the privilege for it, else to the hard limit. That it fails shows where descriptors run out.
fn raise_descriptor_limit() {
    let system = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let hard = getrlimit(Resource::Nofile).maximum;
    for maximum in [system, hard] {
        if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
            return;
        }
    }
}

/// The load of a client.
#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Items to be counted.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) items: u64,
    /// Items outstanding at any time.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) in_flight: u32,
    /// Items before those that are counted. At least as many as are in flight makes the counted ones a steady state.
    #[arg(long, default_value_t = 0)]
    pub(crate) warm_up: u64,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    fn now() -> Mark {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Mark { at: Instant::now(), cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32) }
    }
}

/// One client at work.
pub(crate) struct Run<'a> {
    load: &'a Load,
    deadline: Instant,
    warm_up_left: u64,
    items: u64,
    failed: u64,
    retransmitted: u64,
    start: Mark,
    end: Option<Mark>,
}

impl<'a> Run<'a> {
    pub(crate) fn start(load: &'a Load) -> Result<Run<'a>, BareError> {
        load.bounds.apply()?;
        Ok(Run {
            load,
            deadline: Instant::now() + Duration::from_secs(load.bounds.limit),
            warm_up_left: load.warm_up,
            items: 0,
            failed: 0,
            retransmitted: 0,
            start: Mark::now(),
            end: None,
        })
    }

    /// One more item has its answer, or will get none.
    pub(crate) fn finish_item(&mut self, answered: bool) {
        if self.warm_up_left > 0 {
            self.warm_up_left -= 1;
            if self.warm_up_left == 0 {
                self.retransmitted = 0;
                self.start = Mark::now();
            }
        } else if self.end.is_none() {
            self.items += 1;
            self.failed += u64::from(!answered);
            if self.items == self.load.items {
                self.end = Some(Mark::now());
            }
        }
    }

    pub(crate) fn count_retransmission(&mut self) {
        self.retransmitted += 1;
    }

    /// True while items are wanted; an error when time is over.
    pub(crate) fn wants_more(&self) -> Result<bool, BareError> {
        if self.end.is_some() {
            return Ok(false);
        }
        if Instant::now() < self.deadline {
            return Ok(true);
        }
        let (seconds, wanted) = (self.load.bounds.limit, self.load.warm_up.saturating_add(self.load.items));
        Err(BareError::Limit { seconds, done: self.load.warm_up - self.warm_up_left + self.items, wanted })
    }

    pub(crate) fn report(&self, client: impl Into<String>) -> Report {
        let end = self.end.unwrap_or_else(Mark::now);
        let seconds = (end.at - self.start.at).as_secs_f64();
        let cpu_us = end.cpu.saturating_sub(self.start.cpu).as_nanos() as f64 / 1_000.0;
        Report {
            client: client.into(),
            items: self.items,
            failed: self.failed,
            in_flight: self.load.in_flight,
            retransmitted: self.retransmitted,
            seconds,
            cpu_us,
            cpu_us_per_item: cpu_us / self.items.max(1) as f64,
            per_second: self.items as f64 / seconds.max(f64::MIN_POSITIVE),
            peak_rss_kib: peak_rss_kib(),
        }
    }
}

/// `VmHWM`; zero if the system does not say.
fn peak_rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(items: u64, warm_up: u64) -> Load {
        Load { bounds: Bounds { core: None, limit: 1 }, items, in_flight: 1, warm_up }
    }

    #[test]
    fn counts_stop_at_the_last_item_and_leave_the_warm_up_out() {
        let load = load(3, 2);
        let mut run = Run::start(&load).unwrap();
        for answered in [false, true, true, false, true] {
            assert!(run.wants_more().unwrap());
            run.finish_item(answered);
        }
        run.finish_item(false);
        assert!(!run.wants_more().unwrap());
        let report = run.report("test");
        assert_eq!((report.items, report.failed), (3, 1));
    }

    #[test]
    fn the_limit_is_an_error_that_says_how_far_it_came() {
        let load = load(3, 2);
        let mut run = Run::start(&load).unwrap();
        run.finish_item(true);
        run.deadline = Instant::now();
        assert!(matches!(run.wants_more(), Err(BareError::Limit { seconds: 1, done: 1, wanted: 5 })));
    }
}
