//! A long run at a modest, steady rate: does anything grow, is any verdict wrong, is anything left unanswered?
//!
//! The laboratory, six nodes and an engine are started as processes of their own on loopback addresses. One caller asks
//! requests of every kind over the engine's gRPC stream, on a schedule. Meanwhile memory, descriptors and threads of
//! each process are sampled, and latencies, CPU time and the journal's growth by windows, of a minute if the run is half an
//! hour or longer. In the end every curve is judged: what a program holds by its slope ([`trend`]), what the machine moves
//! as well by its levels, beside a canary ([`levels`]). JSON lines and a page of the curves are written.
//!
//! Invariant: the run is bounded by time, and ends with a summary however it ends.
//!
//! Left out: faults on purpose (`engine/tests/faults.rs`), the highest rate that can be had (`load`), and several
//! hosts. If this program itself is killed without a word, those that it started stay.

mod canary;
pub mod chart;
mod deploy;
pub mod levels;
mod load;
pub mod sample;
pub mod summary;
pub mod trend;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use parallax_protocol::{
    pki::PkiError,
    transport::{ConnectError, Identity, IdentityError, Peer},
};
use serde::Serialize;

use self::{
    canary::Canary,
    deploy::{Deployment, Site},
    load::{Asking, Load, Window},
    sample::{CANARY, Curves, Measure, ProcessSample, directory_octets},
    summary::Summary,
};
use crate::{
    lab::{error::LabError, kinds::SLOW_SHARE, world::World},
    open::process::Watched,
    program::{Program, StartError},
    signals,
};

pub use load::{Counts, Unanswered};

const TICK: Duration = Duration::from_millis(50);
/// Samples of processes in one run, and windows; the longest time between two of either.
const SAMPLES: u32 = 240;
const WINDOWS: u32 = 30;
const EVERY_MAX: Duration = Duration::from_secs(60);
const EVERY_MIN: Duration = Duration::from_millis(500);
/// The laboratory stays for this much longer than requests are asked.
const SLACK_SECONDS: u64 = 600;
/// A day less than two weeks, so that a mistyped number does not run for months.
const MINUTES_MAX: f64 = 13.0 * 24.0 * 60.0;
/// More is a matter for `load`.
const RATE_MAX: f64 = 2000.0;
/// The last port that all others have room behind.
const PORT_MAX: u16 = u16::MAX - (deploy::PORTS - 1);

/// A long run at a steady rate.
#[derive(Debug, Args)]
pub struct Soak {
    /// How long requests are asked.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Requests a second.
    #[arg(long, default_value_t = 40.0)]
    rate: f64,
    /// The share of requests that cost a client seconds, 0 to 0.03.
    #[arg(long, default_value_t = SLOW_SHARE / 3.0)]
    slow_share: f64,
    /// Everything that is asked follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where files go; what an earlier run left there goes first.
    #[arg(long, default_value = "soak-out")]
    dir: PathBuf,
    /// The first of forty ports.
    #[arg(long, default_value_t = 27_000)]
    port: u16,
    /// Where `parallax` and `parallax-node` are; beside this program, if not given.
    #[arg(long)]
    binaries: Option<PathBuf>,
}

/// Why a soak could not be begun, or what broke it.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// A number on the command line is out of range.
    #[error("--{option} {value} is out of range: more than 0, at most {most}")]
    Range {
        /// Which.
        option: &'static str,
        /// As given.
        value: f64,
        /// The most that it may be.
        most: f64,
    },
    /// The directory holds something else than an earlier run.
    #[error("{} is not a directory of a soak (it has no soak.jsonl): remove it, or name another one", .0.display())]
    NotOurs(PathBuf),
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The laboratory's settings cannot be read.
    #[error("{}: {error}", path.display())]
    Settings {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: toml::de::Error,
    },
    /// The laboratory.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Or not read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A program or thread could not be started.
    #[error("cannot start {program}: {error}")]
    Start {
        /// Which.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// A program never said that it is ready.
    #[error(transparent)]
    NotReady(#[from] StartError),
    /// The engine was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The engine ended a call with an error.
    #[error("the engine: {0}")]
    Call(#[from] tonic::Status),
    /// An answer that cannot be read.
    #[error("an answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    /// An answer to what was not asked, or the second to the same request.
    #[error("the engine answers {0:?}, which does not wait for an answer")]
    NotAsked(String),
    /// The stream ended too soon.
    #[error("the engine ended the stream with {0} unanswered")]
    StreamEnded(usize),
    /// The engine cannot keep up.
    #[error("{0} requests wait for an answer: the rate is more than this machine can do")]
    TooFarBehind(usize),
    /// The laboratory has too few.
    #[error("the laboratory has no more requests")]
    NoMoreRequests,
    /// The load's thread panicked.
    #[error("the load broke down")]
    LoadBroke,
}

/// Carries a soak out. The status is 1 if anything was wrong.
///
/// # Errors
/// It could not be begun, or its files cannot be written.
pub fn run(soak: &Soak) -> Result<ExitCode, SoakError> {
    check(soak)?;
    let failed = |error| SoakError::Start { program: "signal handling".to_owned(), error };
    let stop = signals::end_flag().map_err(failed)?;
    let directory = make_directory(&soak.dir)?;
    let mut record = Record::create(&directory.join("soak.jsonl"))?;
    let length = Duration::from_secs_f64(soak.minutes * 60.0);
    // Some are left out because a caller cannot send them.
    let requests = (length.as_secs_f64() * soak.rate * 1.2) as u64 + 1000;
    let world = World { slow_share: soak.slow_share, ..World::new(soak.seed, requests) }.checked()?;
    let binaries = binaries(soak)?;
    let site =
        Site { directory: &directory, binaries: &binaries, port: soak.port, seconds: length.as_secs() + SLACK_SECONDS };
    let mut deployment = Deployment::start(&site, &world)?;
    let identity = Arc::new(Identity::load(&Deployment::caller_files(&directory))?);
    let peer = Peer { address: deployment.engine.to_string(), name: "engine".to_owned(), keys: Vec::new() };
    let load = Load::start(Asking { world, identity, peer, rate: soak.rate })?;

    let mut watch = Watch::new(length, directory.join("journal"));
    let canary = Canary::start(&directory).map_err(|error| SoakError::Start { program: CANARY.to_owned(), error })?;
    watch.until_the_end(&mut deployment, &load, &canary, &stop, &mut record)?;
    let seconds = watch.begun.elapsed().as_secs_f64();
    let broke = Vec::from_iter(canary.end().err().map(|error| format!("{CANARY}: {error}")));
    let (counts, ended) = load.end();
    let mut summary = Summary { seconds, counts, broke, ..Summary::of(&watch.curves) };
    summary.interrupted = stop.load(Ordering::Relaxed);
    match ended {
        Ok(unanswered) => summary.unanswered = unanswered,
        Err(error) => {
            summary.unanswered.count = summary.counts.asked - summary.counts.answered;
            summary.broke.push(error.to_string());
        }
    }
    summary.broke.extend(deployment.stop());
    summary.journal_octets = directory_octets(&watch.journal);
    record.add(&Entry::Summary { summary: &summary, faults: summary.faults() })?;
    let page = directory.join("soak.html");
    fs::write(&page, chart::page(&watch.curves, &summary)).map_err(|error| SoakError::File { path: page, error })?;
    print!("{}", summary.text());
    Ok(if summary.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(soak: &Soak) -> Result<(), SoakError> {
    let in_range = |option, value: f64, most: f64| {
        if value > 0.0 && value <= most { Ok(()) } else { Err(SoakError::Range { option, value, most }) }
    };
    in_range("minutes", soak.minutes, MINUTES_MAX)?;
    in_range("rate", soak.rate, RATE_MAX)?;
    in_range("port", f64::from(soak.port), f64::from(PORT_MAX))
}

/// An empty directory, which only what looks like an earlier run makes room for.
fn make_directory(path: &Path) -> Result<PathBuf, SoakError> {
    let failed = |error| SoakError::File { path: path.to_owned(), error };
    if path.exists() {
        let is_empty = fs::read_dir(path).map_err(failed)?.next().is_none();
        if !is_empty && !path.join("soak.jsonl").is_file() {
            return Err(SoakError::NotOurs(path.to_owned()));
        }
        fs::remove_dir_all(path).map_err(failed)?;
    }
    fs::create_dir_all(path).map_err(failed)?;
    path.canonicalize().map_err(failed)
}

fn binaries(soak: &Soak) -> Result<PathBuf, SoakError> {
    if let Some(given) = &soak.binaries {
        return Ok(given.clone());
    }
    let itself = std::env::current_exe().map_err(|error| SoakError::Start { program: "parallax".to_owned(), error })?;
    Ok(itself.parent().map_or_else(PathBuf::new, Path::to_owned))
}

/// What was counted until a window.
#[derive(Default)]
struct Before {
    answers: u64,
    journal_octets: u64,
    /// CPU time, by program.
    cpu: BTreeMap<String, Duration>,
}

/// Looks at the programs and the load until the end.
struct Watch {
    begun: Instant,
    length: Duration,
    journal: PathBuf,
    curves: Curves,
    sample_every: Duration,
    window_every: Duration,
    /// As it was at the last window.
    before: Before,
}

impl Watch {
    fn new(length: Duration, journal: PathBuf) -> Self {
        let every = |count: u32| (length / count).clamp(EVERY_MIN, EVERY_MAX);
        let (sample_every, window_every) = (every(SAMPLES), every(WINDOWS));
        let begun = Instant::now();
        Self {
            begun,
            length,
            journal,
            curves: Curves::default(),
            sample_every,
            window_every,
            before: Before::default(),
        }
    }

    /// Until the time is up, it is told to stop, or something ends that must not.
    fn until_the_end(
        &mut self,
        deployment: &mut Deployment,
        load: &Load,
        canary: &Canary,
        stop: &AtomicBool,
        record: &mut Record,
    ) -> Result<(), SoakError> {
        let (mut next_sample, mut next_window) = (Duration::ZERO, self.window_every);
        loop {
            let now = self.begun.elapsed();
            if load.has_ended() || deployment.programs().iter_mut().any(Program::has_ended) {
                return Ok(());
            }
            if now >= next_sample {
                next_sample += self.sample_every;
                self.sample(deployment, record)?;
            }
            if now >= next_window {
                next_window += self.window_every;
                self.window(deployment, load, canary, record)?;
            }
            if now >= self.length || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(TICK);
        }
    }

    fn sample(&mut self, deployment: &mut Deployment, record: &mut Record) -> Result<(), SoakError> {
        let seconds = self.begun.elapsed().as_secs_f64();
        for program in deployment.programs() {
            if let Some(sample) = ProcessSample::of(program.pid()) {
                self.curves.add_process(program.name(), seconds, sample);
                record.add(&Entry::Process { seconds, process: program.name(), sample })?;
            }
        }
        Ok(())
    }

    fn window(
        &mut self,
        deployment: &mut Deployment,
        load: &Load,
        canary: &Canary,
        record: &mut Record,
    ) -> Result<(), SoakError> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let (counts, window, octets) = (load.counts(), load.take_window(), directory_octets(&self.journal));
        let rounds = canary.take_window();
        for (whose, measure, value) in [
            ("load", Measure::P50Ms, window.p50_ms),
            ("load", Measure::P99Ms, window.p99_ms),
            (CANARY, Measure::CanaryP50Ms, rounds.p50_ms),
            (CANARY, Measure::CanaryP99Ms, rounds.p99_ms),
        ] {
            if let Some(value) = value {
                self.curves.add(whose, measure, seconds, value);
            }
        }
        let answers = counts.answered - self.before.answers;
        let grown = octets.saturating_sub(self.before.journal_octets);
        let mut per_answer = |whose: &str, measure, amount: f64| {
            if answers > 0 {
                self.curves.add(whose, measure, seconds, amount / answers as f64);
            }
        };
        per_answer("engine", Measure::JournalOctetsPerAnswer, grown as f64);
        let mut cpu = BTreeMap::new();
        for program in deployment.programs() {
            let Some(now) = Watched::new(program.pid()).cpu() else { continue };
            // Until the first window it has that of its start as well.
            if let Some(before) = self.before.cpu.get(program.name()) {
                per_answer(program.name(), Measure::CpuUsPerAnswer, now.saturating_sub(*before).as_secs_f64() * 1e6);
            }
            cpu.insert(program.name().to_owned(), now);
        }
        self.before = Before { answers: counts.answered, journal_octets: octets, cpu };
        progress(self.begun.elapsed(), self.length, &counts, window);
        let (canary_p50_ms, canary_p99_ms) = (rounds.p50_ms, rounds.p99_ms);
        record.add(&Entry::Load {
            seconds,
            window,
            canary_p50_ms,
            canary_p99_ms,
            journal_octets: octets,
            counts: &counts,
        })
    }
}

/// One line that changes on a terminal, a line a window elsewhere.
fn progress(now: Duration, length: Duration, counts: &Counts, window: Window) {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
    let line = format!(
        "{:>6.1} of {:.1} min  {} asked  {} under way  p50 {} ms  p99 {} ms  {} wrong",
        now.as_secs_f64() / 60.0,
        length.as_secs_f64() / 60.0,
        counts.asked,
        counts.asked - counts.answered,
        ms(window.p50_ms),
        ms(window.p99_ms),
        counts.wrong_passes + counts.wrong_others
    );
    if io::stderr().is_terminal() {
        eprint!("\r{line:<100}");
        if now >= length {
            eprintln!();
        }
    } else {
        eprintln!("{line}");
    }
}

/// One line of `soak.jsonl`.
#[derive(Serialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
enum Entry<'a> {
    /// A process at one time.
    Process {
        seconds: f64,
        process: &'a str,
        #[serde(flatten)]
        sample: ProcessSample,
    },
    /// A window of the load.
    Load {
        seconds: f64,
        #[serde(flatten)]
        window: Window,
        canary_p50_ms: Option<f64>,
        canary_p99_ms: Option<f64>,
        journal_octets: u64,
        #[serde(flatten)]
        counts: &'a Counts,
    },
    /// The end.
    Summary {
        #[serde(flatten)]
        summary: &'a Summary,
        faults: Vec<String>,
    },
}

/// `soak.jsonl`: each line is in the file once it is known, whatever becomes of this program.
struct Record {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Record {
    fn create(path: &Path) -> Result<Self, SoakError> {
        let file = File::create(path).map_err(|error| SoakError::File { path: path.to_owned(), error })?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    fn add(&mut self, entry: &Entry<'_>) -> Result<(), SoakError> {
        // A structure with names for keys is always serializable.
        let line = serde_json::to_string(entry).unwrap_or_default();
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|error| SoakError::File { path: self.path.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        soak: Soak,
    }

    #[test]
    fn err_ports_that_do_not_fit_behind_the_first() {
        let check = |port: u16| check(&Line::parse_from(["soak", "--port", &port.to_string()]).soak);
        assert!(check(27_000).is_ok() && check(65_496).is_ok());
        for port in [0, 65_497, 65_535] {
            let error = check(port).expect_err("no room").to_string();
            assert!(error.starts_with(&format!("--port {port} is out of range")), "{error}");
        }
    }
}
