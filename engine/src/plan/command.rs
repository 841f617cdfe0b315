//! The command `plan`: files in, a plan out.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Serialize;
use thiserror::Error;

use super::{
    basis::{self, Assumption, Formula, Source},
    demand::{Demand, DemandError, FIGURE_MAX, Form, SAMPLE},
    expect::{self, ExpectError, Expected, Mix},
    html,
    lifetimes::{LifetimeError, Step, steps_from},
    measured::{self, Measured, MeasuredError},
    model::{self, StepPlan},
    reference::Reference,
    text,
    times::{ServiceTimes, TimesError},
    traffic::Traffic,
    what_if::{self, WhatIf},
};

/// A demand is at most this large.
const DEMAND_OCTETS_MAX: u64 = 1 << 20;

const HELP: &str = "EXIT STATUS\n  0  done\n  2  the command line, the demand or a measurement cannot be used\n  3  the page cannot be written\n\nEXAMPLES\n  parallax plan --sample > demand.toml\n  parallax plan demand.toml\n  parallax plan demand.toml --measured open.json --html plan.html\n  parallax plan demand.toml --measured open.json --at 2029-03-15 --remotes 6 --json\n  parallax plan --measured open.json --expect-mix mix.json --rate 1000 --json";

/// The command line of `plan`.
#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub struct PlanCommand {
    /// What is expected: TOML, or JSON if the name ends in .json. See --sample.
    #[arg(required_unless_present_any = ["sample", "expect_mix"], conflicts_with_all = ["sample", "expect_mix"])]
    demand: Option<PathBuf>,
    /// Service times measured on your machine, as `parallax-perf open` writes them; may be given several times. Without it
    /// the plan rests on a built-in reference, measured on another machine, and says so.
    #[arg(long, value_name = "FILE")]
    measured: Vec<PathBuf>,
    /// Print a commented demand.
    #[arg(long)]
    sample: bool,
    /// Plan for the rules of one date only; otherwise for today and each later change of the rules.
    #[arg(long, value_name = "DATE")]
    at: Option<Date>,
    /// Say instead, as JSON, what one engine in the laboratory should show with this mix: JSON with name and kinds.
    #[arg(long, value_name = "FILE", requires = "rate")]
    expect_mix: Option<PathBuf>,
    /// Requests a second, for --expect-mix.
    #[arg(long, value_name = "PER_SECOND", requires = "expect_mix")]
    rate: Option<f64>,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
    /// Write the plan there too, as a page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write its curves to this directory, as files of their own.
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    instead: Instead,
}

/// Figures in place of the demand's.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "In place of the demand's")]
struct Instead {
    /// Active certificates.
    #[arg(long, value_name = "N", conflicts_with = "per_day")]
    active: Option<f64>,
    /// Certificates a day.
    #[arg(long, value_name = "N")]
    per_day: Option<f64>,
    /// Names of a certificate, mean.
    #[arg(long, value_name = "N")]
    names: Option<f64>,
    /// Growth in a year; 0.1 is a tenth.
    #[arg(long, value_name = "SHARE")]
    growth: Option<f64>,
    /// Share of the attempts that are refused.
    #[arg(long, value_name = "SHARE")]
    failing_share: Option<f64>,
    /// Share of the attempts whose target never answers.
    #[arg(long, value_name = "SHARE")]
    slow_share: Option<f64>,
    /// How long these are held, milliseconds.
    #[arg(long, value_name = "MS")]
    slow_held_ms: Option<f64>,
    /// Remotes beside the primary.
    #[arg(long, value_name = "N")]
    remotes: Option<u8>,
    /// Ask all perspectives at once.
    #[arg(long)]
    parallel: bool,
    /// Peak hour over the mean.
    #[arg(long, value_name = "FACTOR")]
    peak_factor: Option<f64>,
    /// How busy a core may be in the peak hour.
    #[arg(long, value_name = "SHARE")]
    utilisation: Option<f64>,
    /// Days that the journal is kept.
    #[arg(long, value_name = "DAYS")]
    keep_days: Option<u32>,
    /// Certificates of a mass re-issue.
    #[arg(long, value_name = "N")]
    mass: Option<f64>,
}

/// A plan with all that it rests on.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// That the service times are the built-in ones; none if they were given. It comes first wherever a plan is shown.
    pub(super) reference: Option<Reference>,
    /// The demand, with what the command line put in its place.
    pub(super) demand: Demand,
    /// What was measured.
    pub(super) times: ServiceTimes,
    /// The rules of each step.
    #[serde(skip)]
    pub(super) rules: Vec<Step>,
    /// The plan of each step.
    pub(super) steps: Vec<StepPlan>,
    /// The formulae with the numbers of the last step.
    pub(super) formulae: Vec<Formula>,
    /// Changed inputs at the last step.
    pub(super) what_if: Vec<WhatIf>,
    /// What is assumed.
    pub(super) assumptions: Vec<Assumption>,
}

/// What an engine should show, with what it rests on.
#[derive(Debug, Serialize)]
struct ExpectedAnswer {
    reference: Option<Reference>,
    #[serde(flatten)]
    expected: Expected,
}

/// Service times, and whether they are the built-in ones.
pub(super) struct Base {
    pub(super) times: ServiceTimes,
    pub(super) reference: Option<Reference>,
}

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PlanError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file is too large.
    #[error("{path}: more than {octets_max} octets")]
    Large {
        /// The file.
        path: PathBuf,
        /// The most.
        octets_max: u64,
    },
    /// The page cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The demand.
    #[error("{path}: {error}")]
    Demand {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        error: DemandError,
    },
    /// What the command line puts in the demand's place.
    #[error("the demand with what the command line puts in its place: {0}")]
    Instead(DemandError),
    /// A measurement.
    #[error("{path}: {error}")]
    Measured {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        error: MeasuredError,
    },
    /// Measurements that do not go together.
    #[error(transparent)]
    Together(MeasuredError),
    /// What was measured does not do.
    #[error(transparent)]
    Times(#[from] TimesError),
    /// A date.
    #[error(transparent)]
    Date(#[from] LifetimeError),
    /// Growth that leads to more certificates than a demand may have.
    #[error("{date}: growth of {growth} a year makes {active:.3e} certificates of it; {FIGURE_MAX:e} are the most")]
    Growth {
        /// The step's.
        date: Date,
        /// As the demand has it.
        growth: f64,
        /// Certificates in use then.
        active: f64,
    },
    /// The mix to say something of.
    #[error("{path}: {error}")]
    Expect {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        error: ExpectError,
    },
    /// The plan as JSON.
    #[error("the plan cannot be written as JSON: {0}")]
    Json(serde_json::Error),
}

impl PlanError {
    /// Whether the system failed, and not what was given.
    #[must_use]
    pub fn is_of_system(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

/// Does what the command line says, and gives what is to be printed.
///
/// # Errors
/// Demand, measurement, mix or date cannot be used, or the page cannot be written.
pub fn run(command: &PlanCommand, now: Timestamp) -> Result<String, PlanError> {
    if command.sample {
        return Ok(SAMPLE.to_owned());
    }
    let base = base(&command.measured)?;
    if let (Some(path), Some(rate)) = (&command.expect_mix, command.rate) {
        return expected(path, rate, base);
    }
    let today = TimeZone::UTC.to_datetime(now).date();
    // Clap lets nothing else through than a demand here.
    let path = command.demand.clone().unwrap_or_default();
    let demand = command.instead.put_into(demand(&path)?)?;
    let answer = answer(demand, base, today, command.at)?;
    if let Some(path) = &command.html {
        fs::write(path, html::page(&answer)).map_err(|error| PlanError::Write { path: path.clone(), error })?;
    }
    if let Some(directory) = &command.pictures {
        fs::create_dir_all(directory).map_err(|error| PlanError::Write { path: directory.clone(), error })?;
        for (name, svg) in html::files(&answer) {
            let path = directory.join(name);
            fs::write(&path, svg).map_err(|error| PlanError::Write { path, error })?;
        }
    }
    if command.json { json_line(&answer) } else { Ok(text::plan(&answer)) }
}

/// The plan for `at`, or for `today` and each later change of the rules.
pub(super) fn answer(demand: Demand, base: Base, today: Date, at: Option<Date>) -> Result<Answer, PlanError> {
    let Base { times, reference } = base;
    let first = Step::at(today, today)?;
    let rules = match at {
        Some(date) => vec![Step::at(date, today)?],
        None => steps_from(today)?,
    };
    for step in &rules {
        let active = Traffic::at(&demand, &first, step).active;
        if !(active.is_finite() && active <= FIGURE_MAX) {
            return Err(PlanError::Growth { date: step.date, growth: demand.certificates.growth_per_year, active });
        }
    }
    let steps = model::plan(&demand, &times, &first, &rules)?;
    let (mut formulae, mut what_if) = (Vec::new(), Vec::new());
    if let (Some(step), Some(plan)) = (rules.last(), steps.last()) {
        formulae = basis::formulae(&demand, &times, step, plan);
        what_if = what_if::tables(&demand, &times, &first, step)?;
    }
    let source = if reference.is_some() { Source::Reference } else { Source::Measured };
    let assumptions = basis::assumptions(&demand, &times, source);
    Ok(Answer { reference, demand, times, rules, steps, formulae, what_if, assumptions })
}

fn base(paths: &[PathBuf]) -> Result<Base, PlanError> {
    if paths.is_empty() {
        let (reference, measured) = Reference::built_in();
        return Ok(Base { times: ServiceTimes::derive(&measured)?, reference: Some(reference) });
    }
    let files = paths.iter().map(|path| {
        let text = read(path, measured::FILE_OCTETS_MAX)?;
        Measured::parse(&text).map_err(|error| PlanError::Measured { path: path.clone(), error })
    });
    let measured = Measured::together(files.collect::<Result<_, _>>()?).map_err(PlanError::Together)?;
    Ok(Base { times: ServiceTimes::derive(&measured)?, reference: None })
}

fn demand(path: &Path) -> Result<Demand, PlanError> {
    let form = if path.extension().is_some_and(|ending| ending == "json") { Form::Json } else { Form::Toml };
    Demand::parse(&read(path, DEMAND_OCTETS_MAX)?, form)
        .map_err(|error| PlanError::Demand { path: path.to_owned(), error })
}

fn expected(path: &Path, rate: f64, base: Base) -> Result<String, PlanError> {
    let wrong = |error| PlanError::Expect { path: path.to_owned(), error };
    let mix = Mix::parse(&read(path, expect::FILE_OCTETS_MAX)?).map_err(wrong)?;
    let expected = expect::expect(&mix, rate, &base.times).map_err(wrong)?;
    json_line(&ExpectedAnswer { reference: base.reference, expected })
}

fn read(path: &Path, octets_max: u64) -> Result<String, PlanError> {
    let wrong = |error| PlanError::Read { path: path.to_owned(), error };
    let mut text = String::new();
    let read = File::open(path).map_err(wrong)?.take(octets_max + 1).read_to_string(&mut text).map_err(wrong)?;
    if read as u64 > octets_max {
        return Err(PlanError::Large { path: path.to_owned(), octets_max });
    }
    Ok(text)
}

fn json_line(value: &impl Serialize) -> Result<String, PlanError> {
    Ok(serde_json::to_string(value).map_err(PlanError::Json)? + "\n")
}

impl Instead {
    fn put_into(&self, mut demand: Demand) -> Result<Demand, PlanError> {
        let certificates = &mut demand.certificates;
        if self.active.is_some() || self.per_day.is_some() {
            (certificates.active, certificates.per_day) = (self.active, self.per_day);
        }
        if self.names.is_some() {
            (certificates.names_mean, certificates.names_distribution) = (self.names, None);
        }
        put(&mut certificates.growth_per_year, self.growth);
        put(&mut demand.attempts.failing_share, self.failing_share);
        put(&mut demand.attempts.slow_share, self.slow_share);
        put(&mut demand.attempts.slow_held_ms, self.slow_held_ms);
        put(&mut demand.perspectives.remotes, self.remotes);
        put(&mut demand.perspectives.primary_first, self.parallel.then_some(false));
        put(&mut demand.load.peak_factor, self.peak_factor);
        put(&mut demand.load.utilisation, self.utilisation);
        put(&mut demand.journal.keep_days, self.keep_days);
        if let Some(certificates) = self.mass {
            let fresh = demand.mass.is_none_or(|mass| mass.fresh);
            let failing_share = demand.mass.and_then(|mass| mass.failing_share);
            demand.mass = Some(super::demand::Mass { certificates, fresh, failing_share });
        }
        demand.check().map_err(PlanError::Instead)?;
        Ok(demand)
    }
}

fn put<T>(field: &mut T, instead: Option<T>) {
    if let Some(value) = instead {
        *field = value;
    }
}
