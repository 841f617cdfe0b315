//! The command: runs at given rates or along a sweep, told as they go, and the file.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool, mpsc},
    thread,
    time::Duration,
};

use clap::Args;
use parallax_protocol::transport::Identity;

use super::{
    OpenError,
    assemble::{Facts, assemble},
    drive::{Drive, drive},
    failure::Failure,
    knee::{Beyond, Sweep, knee},
    mix::Mix,
    prepare::{Offer, prepare},
    process::Watched,
    programs::{Binaries, Programs, Setup, caller_files, make_pki},
    result::{self, EngineSetup, FORM, OpenResult, Run},
    schedule::Spacing,
    watch::watch,
};
use crate::{measure, peers, plot, signals};

/// The warm-up of a mix that waits for nothing, seconds.
const WARM_UP_QUICK: f64 = 2.0;
/// And of one that does: longer than the laboratory's deadline of a task, so that as many end as begin.
const WARM_UP_SLOW: f64 = 12.0;
/// Remotes of the laboratory's settings.
const REMOTES: usize = 5;
/// How often a run in which the generator was late is repeated.
const REPEATS_MAX: u64 = 2;
/// Seeds of repeated runs lie so far from those of others.
const REPEAT_SEEDS: u64 = 1_000;
/// Rates beyond this are no rates.
const RATE_MAX: f64 = 1_000_000.0;

/// What to measure.
#[derive(Debug, Args)]
pub struct Open {
    /// What is asked: dns-01, http-01, tls-alpn-01, caa, refused-at-primary, slow, ca, or a file such as
    /// {"name":"mine","kinds":{"dns-ok":0.4,"http-ok":0.6}}. More than one is measured one after the other.
    #[arg(long, value_name = "NAME|FILE", default_value = "ca", value_delimiter = ',')]
    mix: Vec<String>,
    /// Requests a second, one run each.
    #[arg(long, value_name = "RATE,...", value_delimiter = ',', conflicts_with = "sweep", required_unless_present = "sweep", value_parser = rate)]
    rates: Vec<f64>,
    /// Double the rate until the engine carries less than 95 % of what is offered, or the 99th percentile of what waits
    /// for nothing is more than ten times that at the first rate; then close in.
    #[arg(long)]
    sweep: bool,
    /// The first rate of a sweep.
    #[arg(long, value_name = "RATE", default_value = "100", value_parser = rate)]
    from: f64,
    /// Runs of a sweep, at most.
    #[arg(long, value_name = "RUNS", default_value_t = 12, value_parser = clap::value_parser!(u8).range(1..=40))]
    steps: u8,
    /// How often a sweep halves the range in which the knee lies.
    #[arg(long, value_name = "TIMES", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=8))]
    refine: u8,
    /// How long each run lasts, without warm-up.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// How long the same rate is offered before; 2, or 12 for a mix with targets that never answer.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(0..=120))]
    warm_up: Option<u16>,
    /// How requests follow one another.
    #[arg(long, value_enum, default_value = "poisson")]
    spacing: Spacing,
    /// What times, kinds and names follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests without an answer, at which a run ends as overloaded.
    #[arg(long, value_name = "REQUESTS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    outstanding: u32,
    /// The engine's attempts_in_flight: further requests wait in line.
    #[arg(long, value_name = "ATTEMPTS", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    attempts_in_flight: u32,
    /// Worker threads of each perspective.
    #[arg(long, value_name = "THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// The CPU of the engine; none: wherever the kernel puts it.
    #[arg(long, value_name = "CPU")]
    engine_core: Option<usize>,
    /// The CPU of laboratory and generator.
    #[arg(long, value_name = "CPU")]
    other_core: Option<usize>,
    /// Where parallax and parallax-perf are; beside this program, if not said.
    #[arg(long, value_name = "DIRECTORY")]
    bin_dir: Option<PathBuf>,
    /// The file of results.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if rate.is_finite() && rate > 0.0 && rate <= RATE_MAX {
        Ok(rate)
    } else {
        Err(format!("{rate} is not above 0 and at most {RATE_MAX}"))
    }
}

impl Open {
    /// One run of a mix at a rate, evenly spaced: what is compared with a mean should not vary by chance.
    #[must_use]
    pub fn at(mix: &Path, per_second: f64, seconds: u16) -> Self {
        Self {
            mix: vec![mix.display().to_string()],
            rates: vec![per_second],
            sweep: false,
            from: per_second,
            steps: 1,
            refine: 0,
            seconds,
            warm_up: None,
            spacing: Spacing::Constant,
            seed: 1,
            outstanding: 20_000,
            attempts_in_flight: 2_000,
            workers: 1,
            engine_core: None,
            other_core: None,
            bin_dir: None,
            out: None,
        }
    }
}

/// Measures, tells and writes. The status is a failure if a run is not sound.
///
/// # Errors
/// Nothing could be measured.
pub fn run(open: &Open) -> Result<ExitCode, OpenError> {
    let result = measure(open)?;
    let sound = result.runs.iter().all(|run| is_sound(run, open.sweep));
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether nothing went wrong in a run. A sweep goes on until the engine or the generator does not keep up, so that is
/// nothing wrong there, nor are requests that an overloaded engine did not come to; that the engine or its stream ended is.
fn is_sound(run: &Run, in_sweep: bool) -> bool {
    let has_ended = run.failed.as_ref().is_some_and(|why| !why.is_late());
    let kept_up = !run.overloaded && run.failed.is_none();
    let answered = run.errors == 0 || (in_sweep && run.overloaded);
    run.wrong_in_all() == 0 && run.unexpected == 0 && answered && !has_ended && (kept_up || in_sweep)
}

/// Whether a run may be made again in place of this one: only if the generator was late and nothing else was amiss. What
/// an engine did wrong is not asked again until it does it right.
fn may_repeat(run: &Run) -> bool {
    let is_late = run.failed.as_ref().is_some_and(Failure::is_late);
    is_late && !run.overloaded && run.wrong_in_all() == 0 && run.errors == 0 && run.unexpected == 0
}

/// Measures, tells and writes.
///
/// # Errors
/// Nothing could be measured.
pub fn measure(open: &Open) -> Result<OpenResult, OpenError> {
    let mixes: Vec<Mix> = open.mix.iter().map(|name| Mix::load(name)).collect::<Result<_, _>>()?;
    let interrupted = signals::end_flag().map_err(OpenError::System)?;
    let bench = Bench::new(open, &interrupted)?;
    let mut result = bench.header();
    for mix in &mixes {
        if let Some(sum) = mix.written_sum {
            eprintln!("{}: the shares add up to {sum}; each is divided by that", mix.name);
        }
        let runs = bench.measure(mix)?;
        tell_knee(mix, &runs);
        result.runs.extend(runs);
        // After each mix, so that a later one takes nothing along.
        if let Some(path) = &open.out {
            result::write(path, &result)?;
        }
    }
    Ok(result)
}

/// What all runs are made with.
struct Bench<'a> {
    open: &'a Open,
    binaries: Binaries,
    setup: Setup,
    identity: Arc<Identity>,
    interrupted: &'a AtomicBool,
    directory: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(open: &'a Open, interrupted: &'a AtomicBool) -> Result<Self, OpenError> {
        let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
        let binaries = Binaries::find(open.bin_dir.as_deref().or(beside.as_deref()).unwrap_or(Path::new(".")))?;
        let file = |error| OpenError::File { path: std::env::temp_dir(), error };
        let directory = tempfile::Builder::new().prefix("parallax-open-").tempdir().map_err(file)?;
        make_pki(directory.path())?;
        let identity = Identity::load(&caller_files(directory.path()));
        let identity = Arc::new(identity.map_err(|error| OpenError::Pki(error.to_string()))?);
        // The programs inherit it; the generator needs few.
        let _ = measure::raise_descriptor_limit();
        let setup = Setup {
            attempts_in_flight: open.attempts_in_flight as usize,
            // With room for what is on its way, so that the engine never holds the generator back.
            outstanding_max: open.outstanding as usize + 2 * parallax_protocol::api::API_BATCH_MAX,
            workers: open.workers,
            engine_core: open.engine_core,
            other_core: open.other_core,
        };
        Ok(Self { open, binaries, setup, identity, interrupted, directory })
    }

    fn header(&self) -> OpenResult {
        OpenResult {
            form: FORM.to_owned(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            commit: peers::commit().unwrap_or_else(|| "unknown".to_owned()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpu: peers::cpu_model(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            command: measure::command_line(std::env::args()),
            engine: EngineSetup {
                remotes: REMOTES,
                workers: usize::from(self.setup.workers),
                primary_first: true,
                attempts_in_flight: Some(self.setup.attempts_in_flight),
                outstanding_max: Some(self.open.outstanding as usize),
                core: self.setup.engine_core,
                other_core: self.setup.other_core,
            },
            runs: Vec::new(),
        }
    }

    /// All runs of a mix.
    fn measure(&self, mix: &Mix) -> Result<Vec<Run>, OpenError> {
        let sweep = Sweep {
            from: self.open.from,
            steps_max: usize::from(self.open.steps),
            refinements: usize::from(self.open.refine),
        };
        let mut runs: Vec<Run> = Vec::new();
        loop {
            let next = if self.open.sweep { sweep.next_rate(&runs) } else { self.open.rates.get(runs.len()).copied() };
            let Some(per_second) = next else { return Ok(runs) };
            runs.push(self.run_until_figure(mix, per_second, runs.len() as u64)?);
        }
    }

    /// One run, repeated a few times if the generator was late: the machine may have had something else to do.
    fn run_until_figure(&self, mix: &Mix, per_second: f64, number: u64) -> Result<Run, OpenError> {
        let mut repeats = 0;
        loop {
            let run = Run { repeats, ..self.run(mix, per_second, number + repeats * REPEAT_SEEDS)? };
            tell(&run);
            if !may_repeat(&run) || repeats >= REPEATS_MAX {
                return Ok(run);
            }
            eprintln!("    repeated, for the generator was late");
            repeats += 1;
        }
    }

    fn run(&self, mix: &Mix, per_second: f64, number: u64) -> Result<Run, OpenError> {
        let usual = if mix.has_slow() { WARM_UP_SLOW } else { WARM_UP_QUICK };
        let warm_up = self.open.warm_up.map_or(usual, f64::from);
        let window = Duration::from_secs_f64(warm_up)
            ..Duration::from_secs_f64(warm_up) + Duration::from_secs(u64::from(self.open.seconds));
        let seed = self.open.seed.wrapping_add(number);
        let programs = Programs::start(&self.binaries, &self.setup, self.directory.path(), seed)?;
        let offer = Offer { spacing: self.open.spacing, per_second, lasts: window.end, seed };
        let prepared = prepare(mix, &programs.world, &offer)?;
        let journal_before = programs.journal_octets();
        let (engine, laboratory) = (Watched::new(programs.engine.pid()), Watched::new(programs.laboratory.pid()));
        let (marks, marked) = mpsc::channel();
        let (driven, seen) = thread::scope(|scope| {
            let watcher = scope.spawn(move || watch(&engine, &laboratory, &marked));
            let load = Drive {
                peer: &programs.peer,
                identity: Arc::clone(&self.identity),
                mix,
                prepared,
                window,
                outstanding_max: u64::from(self.open.outstanding),
                core: self.setup.other_core,
                interrupted: self.interrupted,
            };
            let driven = drive(load, &marks);
            drop(marks);
            (driven, watcher.join().unwrap_or_default())
        });
        let driven = driven?;
        let remains = programs.finish();
        let facts = Facts {
            mix,
            per_second,
            warm_up_seconds: warm_up,
            seen,
            journal_octets: remains.journal_octets.saturating_sub(journal_before),
            laboratory: remains.laboratory,
            engine_ended: remains.engine_ended,
        };
        Ok(assemble(driven, facts))
    }
}

/// One line for a run, and what is wrong with it.
fn tell(run: &Run) {
    let told = |us: u64| plot::written(plot::Unit::Micros, us as f64);
    eprintln!(
        "{:<20} {:>7.0}/s offered {:>7.0}/s carried  p50 {:>8}  p99 {:>8}  of quick ones {:>8}  CPU {:>5.0} µs  \
         in flight {:>6.0}  {:>4} MiB  wrong {}  errors {}  unexpected {}{}",
        run.mix,
        run.offered_per_second,
        run.carried_per_second(),
        told(run.latency_us.p50),
        told(run.latency_us.p99),
        told(run.quick_p99_us()),
        run.cpu_us_per_request.process,
        run.in_flight.mean,
        run.rss_kib.max / 1024,
        run.wrong + run.wrong_in_warm_up,
        run.errors,
        run.unexpected,
        if run.overloaded { "  OVERLOADED" } else { "" },
    );
    for line in run.failed.iter().map(|why| format!("NO FIGURE: {why}")).chain(run.wrong_examples.iter().cloned()) {
        eprintln!("    {line}");
    }
    run.error_examples.iter().for_each(|line| eprintln!("    {line}"));
}

fn tell_knee(mix: &Mix, runs: &[Run]) {
    let all: Vec<&Run> = runs.iter().collect();
    let Some(knee) = knee(&all) else { return };
    let carried = knee.carried.map_or_else(|| "none".to_owned(), |run| format!("{:.0}/s", run.offered_per_second));
    match knee.beyond {
        None => eprintln!("{}: carried up to {carried}; the knee lies beyond", mix.name),
        Some((run, why)) => {
            let why = match why {
                Beyond::Overloaded => "is overloaded".to_owned(),
                Beyond::Behind(share) => format!("carries {:.0} % of what is offered", share * 100.0),
                Beyond::Slow(times) => format!("has a 99th percentile {times:.0} times that of the lowest rate"),
                Beyond::NoFigure => "is no figure".to_owned(),
            };
            eprintln!("{}: carried up to {carried}; {:.0}/s {why}", mix.name, run.offered_per_second);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        open: Open,
    }

    fn parse(words: &[&str]) -> Result<Open, clap::Error> {
        Line::try_parse_from([&["open"], words].concat()).map(|line| line.open)
    }

    type Change = fn(&mut Run);

    fn of(change: impl Fn(&mut Run)) -> Run {
        let mut run = Run::default();
        change(&mut run);
        run
    }

    fn late(run: &mut Run) {
        run.failed = Some(Failure::Late { late: 9, sent: 10 });
    }

    #[test]
    fn err_a_run_in_which_anything_but_the_generator_failed_is_not_made_again() {
        assert!(may_repeat(&of(late)) && !may_repeat(&Run::default()));
        let others: [Change; 7] = [
            |run| run.wrong = 1,
            |run| run.wrong_in_warm_up = 1,
            |run| run.errors = 1,
            |run| run.unexpected = 1,
            |run| run.overloaded = true,
            |run| run.failed = Some(Failure::EngineEnded("signal: 9".to_owned())),
            |run| run.failed = Some(Failure::Stream("Unavailable".to_owned())),
        ];
        for (place, change) in others.iter().enumerate() {
            let run = of(|run| {
                late(run);
                change(run);
            });
            assert!(!may_repeat(&run), "{place}");
        }
    }

    #[test]
    fn err_what_makes_a_run_unsound_by_itself_and_in_a_sweep() {
        let table: [(Change, bool, bool); 10] = [
            (|_| {}, true, true),
            (late, false, true),
            (|run| run.overloaded = true, false, true),
            (|run| (run.overloaded, run.errors) = (true, 5), false, true),
            (|run| run.errors = 1, false, false),
            (|run| run.unexpected = 1, false, false),
            (|run| run.wrong = 1, false, false),
            (|run| run.wrong_in_warm_up = 1, false, false),
            (|run| run.failed = Some(Failure::EngineEnded(String::new())), false, false),
            (|run| run.failed = Some(Failure::Stream(String::new())), false, false),
        ];
        for (place, (change, alone, in_sweep)) in table.into_iter().enumerate() {
            let run = of(change);
            assert_eq!((is_sound(&run, false), is_sound(&run, true)), (alone, in_sweep), "{place}");
        }
    }

    #[test]
    fn ok_rates_or_a_sweep_are_wanted() {
        let open = parse(&["--rates", "100,250.5", "--mix", "ca,dns-01"]).expect("a command");
        assert_eq!((open.rates.as_slice(), open.mix.len()), ([100.0, 250.5].as_slice(), 2));
        assert!(parse(&["--sweep"]).is_ok());
        assert!(parse(&[]).is_err() && parse(&["--sweep", "--rates", "1"]).is_err());
    }

    #[test]
    fn err_a_rate_that_is_none() {
        for text in ["0", "-1", "NaN", "inf", "2e6", "x"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
