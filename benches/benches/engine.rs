//! The whole engine with perspectives that are played: what is left beside the looking.
//!
//! `cargo bench -p parallax-benches --bench engine [-- ATTEMPTS]`. One primary and five remotes answer at once, with one
//! confirming observation of http-01 and CAA each, so every attempt takes six judgements, a record and its share of a
//! commit. Shown are verdicts a second and the time from submission to release with so many attempts in flight, without
//! a disk and with a journal below cargo's target directory; then how it grows: the primary holds all its answers back
//! until so many attempts are in flight, and gives them at once. This is no criterion bench, since one run takes seconds.
//! Without `--bench`, as in a test run, it is done with few.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam::channel::Sender;
use hdrhistogram::Histogram;
use parallax_benches::{observation, request, rules};
use parallax_engine::{
    config::{Config, SAMPLE},
    corroborate::{Corroborator, ENTRY_SETUP, Ledger, SystemClock, Way},
    journal::{JournalError, JournalOptions, Writer},
    log::LogForm,
};
use parallax_node::{Full, NodeConfig};
use parallax_protocol::{Report, Task};
use parallax_validation::{check::dcv::Method, observation::Observation};

/// Keeps nothing.
struct Nowhere;

impl Ledger for Nowhere {
    fn append(&mut self, _: u8, _: &[u8]) -> Result<(), JournalError> {
        Ok(())
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    fn buffered(&self) -> usize {
        0
    }
}

/// A task that waits to be answered: where to, and as whom.
type Held = (Sender<Vec<Report>>, Task, Arc<NodeConfig>);

/// Holds the primary's answers back until it is opened.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    held: AtomicUsize,
    tasks: Mutex<VecDeque<Held>>,
}

struct Played {
    settings: Arc<NodeConfig>,
    reports: Sender<Vec<Report>>,
    seen: Arc<Observation>,
    gate: Option<Arc<Gate>>,
}

fn report(task: Task, settings: &NodeConfig, seen: &Observation) -> Report {
    Report {
        header: task.header,
        perspective: task.perspective,
        rir: settings.rir,
        observation: Box::new(seen.clone()),
    }
}

impl Way for Played {
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        if let Some(gate) = self.gate.as_ref().filter(|gate| !gate.open.load(Ordering::Acquire)) {
            let mut held = gate.tasks.lock().expect("no holder panics");
            held.extend(batch.into_iter().map(|task| (self.reports.clone(), task, Arc::clone(&self.settings))));
            gate.held.store(held.len(), Ordering::Release);
            return Ok(());
        }
        let reports = batch.into_iter().map(|task| report(task, &self.settings, &self.seen)).collect();
        // The engine may be stopping.
        let _ = self.reports.send(reports);
        Ok(())
    }

    fn has_ended(&self) -> bool {
        false
    }
}

fn config(in_flight: usize) -> Config {
    let at = "2026-11-25T12:00:00Z".parse().expect("an instant");
    let mut config = Config::parse(SAMPLE, Path::new("sample"), at).expect("the sample");
    config.engine.attempts_in_flight = in_flight;
    // A million answers take longer to be given than a perspective has.
    config.engine.reply_grace_ms = 600_000;
    config.limits.waiting_max = in_flight.max(1_000);
    config.limits.in_flight_per_name_max = NonZeroUsize::MAX;
    config.limits.in_flight_per_target_max = NonZeroUsize::MAX;
    assert_eq!(config.rules.digest(), rules().digest(), "the observations are made for the sample");
    config
}

struct Run {
    seconds: f64,
    latency: Histogram<u64>,
}

/// Carries out so many attempts.
fn run(config: &Config, ledger: Box<dyn Ledger>, attempts: usize, gate: Option<&Arc<Gate>>) -> Run {
    let seen = Arc::new(observation(Method::Http01));
    let open = |settings: &NodeConfig, reports: &Sender<Vec<Report>>| {
        let gate = gate.filter(|_| settings.perspective == config.nodes[0].perspective).cloned();
        let (settings, reports) = (Arc::new(settings.clone()), reports.clone());
        Ok(Box::new(Played { settings, reports, seen: Arc::clone(&seen), gate }) as Box<dyn Way>)
    };
    let told = (Arc::new(LogForm::Text) as _, Arc::default());
    let (mut engine, released) =
        Corroborator::start_with(config, ledger, Arc::new(SystemClock), told, open).expect("it starts");
    let sample = request(Method::Http01);
    let begun = Instant::now();
    let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("constant bounds");
    let mut last = begun;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..attempts {
                engine.submit(sample.clone(), None).expect("the engine goes on");
            }
            if let Some(gate) = gate {
                open_when_full(gate, attempts, &seen);
            }
            engine.no_more();
            engine.finish().expect("the engine ends in order");
        });
        for batch in &released {
            for released in batch {
                assert!(released.record.permits(), "all six confirm");
                latency.saturating_record(released.latency.as_micros() as u64);
            }
            last = Instant::now();
        }
    });
    assert_eq!(latency.len(), attempts as u64);
    Run { seconds: last.duration_since(begun).as_secs_f64(), latency }
}

fn open_when_full(gate: &Gate, attempts: usize, seen: &Observation) {
    let begun = Instant::now();
    while gate.held.load(Ordering::Acquire) < attempts {
        std::thread::sleep(Duration::from_millis(1));
    }
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = resident() / attempts as f64;
    gate.open.store(true, Ordering::Release);
    let tasks = std::mem::take(&mut *gate.tasks.lock().expect("no holder panics"));
    let opened = Instant::now();
    for (reports, task, settings) in tasks {
        let _ = reports.send(vec![report(task, &settings, seen)]);
    }
    eprintln!(
        "engine: {attempts} in flight: full {seconds:.2} s after the last was handed over, {bytes:.0} octets resident \
         an attempt; answers given within {:.2} s",
        opened.elapsed().as_secs_f64()
    );
}

/// Memory of this process, octets.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: f64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096.0
}

fn tell(what: &str, attempts: usize, run: &Run) {
    let ms = |quantile: f64| run.latency.value_at_quantile(quantile) as f64 / 1e3;
    eprintln!(
        "engine: {what}: {:.0} verdicts/s over {attempts} attempts; p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        attempts as f64 / run.seconds,
        ms(0.5),
        ms(0.99),
        run.latency.max() as f64 / 1e3
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let large = arguments.iter().any(|argument| argument == "--bench");
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    let attempts: usize = given.unwrap_or(if large { 100_000 } else { 500 });
    for in_flight in if large { vec![64, 1_000, 10_000] } else { vec![64] } {
        let found = run(&config(in_flight), Box::new(Nowhere), attempts, None);
        tell(&format!("at most {in_flight} in flight, no disk"), attempts, &found);
    }
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo makes this directory");
    let (mut journal, _) = Writer::open(directory.path(), JournalOptions::default()).expect("a new journal");
    let config_of = config(1_000);
    let setup = serde_json::to_vec(config_of.rules.setup()).expect("a setup holds only text, numbers and lists");
    journal.set_head(ENTRY_SETUP, &setup).expect("a setup fits");
    journal.commit().expect("the disk takes it");
    let found = run(&config_of, Box::new(journal), attempts, None);
    tell("at most 1000 in flight, with a journal", attempts, &found);
    for in_flight in if large { vec![1_000, 10_000, 100_000, 1_000_000] } else { vec![200] } {
        let found = run(&config(in_flight), Box::new(Nowhere), in_flight, Some(&Arc::default()));
        tell(&format!("{in_flight} held in flight, then answered, no disk"), in_flight, &found);
    }
}
