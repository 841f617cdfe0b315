//! `parallax-perf validate-plan`: does the capacity planner say what an engine then shows?
//!
//! The planner is asked, as a program of its own, what one engine should show with a mix of kinds at a few rates, by the
//! measurement of pure mixes that it plans by; then the engine is measured at these rates ([`crate::open`]), and the two
//! are compared.
//!
//! A prediction holds if it is within [`TOLERANCE`] of what was measured.

use std::{
    error::Error,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

use crate::open::{self, Open};

/// How far a prediction may be from what was measured, as a share of the latter.
pub const TOLERANCE: f64 = 0.15;

/// The mix that is measured if none is given: good ones by all methods, and failing and slow ones as the mixes
/// `refused-at-primary` and `slow` have them, so that each kind was measured by a pure mix.
pub const MIX: &str = r#"{"name":"planned","kinds":{
"dns-ok":0.25,"http-ok":0.25,"alpn-ok":0.05,"caa-issue":0.05,
"http-wrong-body":0.06,"http-404-echo":0.06,"http-nxdomain":0.06,"dns-wrong":0.06,"dns-nxdomain":0.03,"caa-other":0.03,
"http-black-hole":0.03,"http-slow-head":0.03,"dns-silent":0.02,"caa-silent":0.01,"alpn-never":0.01}}
"#;

/// What to compare.
#[derive(Debug, Args)]
pub struct ValidatePlan {
    /// What the planner plans by: the result of `parallax-perf open` with the pure mixes.
    #[arg(long, value_name = "FILE", required = true)]
    pub measured: Vec<PathBuf>,
    /// The mix that is measured: JSON with name and kinds; a built-in one of all kinds of attempt if not given.
    #[arg(long, value_name = "FILE")]
    pub mix: Option<PathBuf>,
    /// Requests a second, one load point each.
    #[arg(long, value_name = "RATE,...", value_delimiter = ',', default_value = "100,300,600")]
    pub rates: Vec<f64>,
    /// How long each is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=600))]
    pub seconds: u16,
    /// The planner; `parallax` beside this program if not given.
    #[arg(long, value_name = "FILE")]
    pub parallax: Option<PathBuf>,
    /// Print the comparison as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What an engine showed at one load point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunFigures {
    /// CPU time of its process for each request.
    pub cpu_us_per_request: f64,
    /// Its resident memory, mean.
    pub rss_kib: f64,
    /// Requests in flight, mean.
    pub in_flight: f64,
}

/// What the planner expects at one load point.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Expected {
    /// CPU time of the process for each request.
    pub cpu_us_per_request: f64,
    /// Requests that one core carries in a second.
    pub validations_per_second_per_core: f64,
    /// Resident memory, mean.
    pub rss_kib: f64,
    /// Requests in flight, mean.
    pub in_flight: f64,
}

/// One figure of one load point, predicted and measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// The load point.
    pub offered_per_second: f64,
    /// Which figure.
    pub figure: &'static str,
    /// What the planner said.
    pub predicted: f64,
    /// What the engine showed.
    pub measured: f64,
    /// How far the prediction is off, as a share of what was measured; none if nothing was measured.
    pub off: Option<f64>,
    /// Whether that is within [`TOLERANCE`].
    pub holds: bool,
}

/// Why nothing could be compared.
#[derive(Debug, ThisError)]
pub enum ValidateError {
    /// A file of our own cannot be written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The planner did not start.
    #[error("cannot run {program}: {error}")]
    Start {
        /// The planner.
        program: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The planner refused.
    #[error("{program} ended with {status} and said: {said}")]
    Refused {
        /// The planner.
        program: PathBuf,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its first line on standard error.
        said: String,
    },
    /// The planner's answer is not what it should be.
    #[error("{program} did not answer as it should: {error}")]
    Answer {
        /// The planner.
        program: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// The engine was not measured, or the run is no figure.
    #[error("{per_second}/s: {error}")]
    Measure {
        /// The load point.
        per_second: f64,
        /// Why.
        error: Box<dyn Error + Send + Sync>,
    },
}

/// Asks the planner and measures an engine at each rate, prints the comparison; the status is 1 if a prediction does not
/// hold.
///
/// # Errors
/// The planner cannot be asked, or a load point cannot be measured.
pub fn run(command: &ValidatePlan) -> Result<ExitCode, ValidateError> {
    run_by(command, |mix, per_second, seconds| {
        let result = open::measure(&Open::at(mix, per_second, seconds))?;
        let run = result.runs.first().ok_or("no run was made")?;
        figures_of(run)
    })
}

/// The figures of a run that may be compared: one that was whole and right.
fn figures_of(run: &open::result::Run) -> Result<RunFigures, Box<dyn Error + Send + Sync>> {
    if let Some(why) = &run.failed {
        return Err(why.to_string().into());
    }
    let (overloaded, wrong, errors, unexpected) = (run.overloaded, run.wrong_in_all(), run.errors, run.unexpected);
    if overloaded || wrong > 0 || errors > 0 || unexpected > 0 {
        let why = format!(
            "overloaded: {overloaded}, wrong answers: {wrong}, requests without an answer: {errors}, answers that \
             nothing waited for: {unexpected}"
        );
        return Err(why.into());
    }
    Ok(RunFigures {
        cpu_us_per_request: run.cpu_us_per_request.process,
        rss_kib: run.rss_kib.mean as f64,
        in_flight: run.in_flight.mean,
    })
}

/// Asks the planner and measures at each rate, prints the comparison; the status is 1 if a prediction does not hold.
///
/// `measure` is given the file of the mix, requests a second, and seconds.
///
/// # Errors
/// The planner cannot be asked, or a load point cannot be measured.
fn run_by(
    command: &ValidatePlan,
    mut measure: impl FnMut(&Path, f64, u16) -> Result<RunFigures, Box<dyn Error + Send + Sync>>,
) -> Result<ExitCode, ValidateError> {
    let temporary = std::env::temp_dir();
    let own = tempfile::tempdir().map_err(|error| ValidateError::File { path: temporary, error })?;
    let mix = match &command.mix {
        Some(path) => path.clone(),
        None => {
            let path = own.path().join("mix.json");
            fs::write(&path, MIX).map_err(|error| ValidateError::File { path: path.clone(), error })?;
            path
        }
    };
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("parallax"));
    let planner = command.parallax.clone().or(beside).unwrap_or_else(|| PathBuf::from("parallax"));
    let mut compared = Vec::new();
    for per_second in &command.rates {
        // The planner first: what it refuses need not be measured.
        let expected = ask(&planner, &command.measured, &mix, *per_second)?;
        let measured = measure(&mix, *per_second, command.seconds)
            .map_err(|error| ValidateError::Measure { per_second: *per_second, error })?;
        compared.extend(compare(*per_second, &expected, &measured));
    }
    if command.json {
        println!("{}", serde_json::json!({ "tolerance": TOLERANCE, "compared": compared, "holds": holds(&compared) }));
    } else {
        print!("{}", table(&compared));
    }
    Ok(if holds(&compared) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the planner expects.
///
/// # Errors
/// It does not start, refuses, or answers otherwise than it should.
pub fn ask(planner: &Path, measured: &[PathBuf], mix: &Path, per_second: f64) -> Result<Expected, ValidateError> {
    let program = planner.to_owned();
    let mut command = Command::new(planner);
    command.args(["plan", "--json"]);
    measured.iter().for_each(|file| {
        command.arg("--measured").arg(file);
    });
    command.arg("--expect-mix").arg(mix);
    let output = command.arg("--rate").arg(per_second.to_string()).output();
    let output = output.map_err(|error| ValidateError::Start { program: program.clone(), error })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or_default().escape_debug().to_string();
        return Err(ValidateError::Refused { program, status: output.status, said });
    }
    serde_json::from_slice(&output.stdout).map_err(|error| ValidateError::Answer { program, error })
}

/// One load point.
#[must_use]
pub fn compare(per_second: f64, expected: &Expected, measured: &RunFigures) -> [Compared; 4] {
    let per_core = if measured.cpu_us_per_request > 0.0 { 1e6 / measured.cpu_us_per_request } else { 0.0 };
    [
        ("CPU of a request, us", expected.cpu_us_per_request, measured.cpu_us_per_request),
        ("validations a second and core", expected.validations_per_second_per_core, per_core),
        ("resident memory, KiB", expected.rss_kib, measured.rss_kib),
        ("in flight", expected.in_flight, measured.in_flight),
    ]
    .map(|(figure, predicted, measured)| {
        let off = (measured > 0.0).then(|| (predicted - measured) / measured);
        // What cannot be told is not within any bound.
        let holds = off.is_some_and(|off| off.abs() <= TOLERANCE);
        Compared { offered_per_second: per_second, figure, predicted, measured, off, holds }
    })
}

/// Whether there are predictions, and all hold.
#[must_use]
pub fn holds(compared: &[Compared]) -> bool {
    !compared.is_empty() && compared.iter().all(|compared| compared.holds)
}

/// The comparison for people.
#[must_use]
pub fn table(compared: &[Compared]) -> String {
    let mut text =
        format!("{:>10}  {:<30}  {:>12}  {:>12}  {:>8}\n", "offered/s", "figure", "predicted", "measured", "off");
    for row in compared {
        let off = row.off.map_or_else(|| "?".to_owned(), |off| format!("{:+.1} %", off * 100.0));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:>10}  {:<30}  {:>12.1}  {:>12.1}  {off:>8}{}",
            row.offered_per_second,
            row.figure,
            row.predicted,
            row.measured,
            if row.holds { "" } else { "  does not hold" }
        );
    }
    let failed = compared.iter().filter(|row| !row.holds).count();
    let _ = writeln!(
        text,
        "{} of {} predictions are within {:.0} % of what was measured",
        compared.len() - failed,
        compared.len(),
        TOLERANCE * 100.0
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::kinds::Kind;

    fn expected() -> Expected {
        Expected {
            cpu_us_per_request: 100.0,
            validations_per_second_per_core: 10_000.0,
            rss_kib: 50_000.0,
            in_flight: 20.0,
        }
    }

    fn figures(cpu_us_per_request: f64, rss_kib: f64, in_flight: f64) -> RunFigures {
        RunFigures { cpu_us_per_request, rss_kib, in_flight }
    }

    #[test]
    fn ok_fifteen_in_a_hundred_hold_and_more_do_not() {
        let compared = compare(300.0, &expected(), &figures(100.0, 50_000.0, 20.0));
        assert!(holds(&compared) && compared.iter().all(|row| row.off == Some(0.0)));
        // 100 instead of 87 is 14.9 % too much; instead of 86 it is 16.3 %.
        let which = |measured: RunFigures| compare(300.0, &expected(), &measured).map(|row| row.holds);
        assert_eq!(which(figures(87.0, 50_000.0, 20.0)), [true, true, true, true]);
        assert_eq!(which(figures(86.0, 50_000.0, 20.0)), [false, true, true, true]);
        // A rate is off the other way, and by another share.
        assert_eq!(which(figures(118.0, 50_000.0, 20.0)), [false, false, true, true]);
        assert_eq!(which(figures(100.0, 40_000.0, 24.0)), [true, true, false, false]);
    }

    #[test]
    fn err_a_run_that_was_not_whole_and_right_is_not_compared() {
        use crate::open::{failure::Failure, result::Run};
        assert!(figures_of(&Run::default()).is_ok());
        let table = [
            (Run { errors: 3, ..Run::default() }, "without an answer: 3"),
            (Run { unexpected: 2, ..Run::default() }, "waited for: 2"),
            (Run { wrong_in_warm_up: 1, ..Run::default() }, "wrong answers: 1"),
            (Run { overloaded: true, ..Run::default() }, "overloaded: true"),
            (Run { failed: Some(Failure::Stream("gone".to_owned())), ..Run::default() }, "the stream ended: gone"),
        ];
        for (run, why) in table {
            let error = figures_of(&run).expect_err(why).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn err_what_was_not_measured_does_not_hold() {
        let compared = compare(300.0, &expected(), &figures(0.0, 50_000.0, 0.0));
        assert_eq!(compared.clone().map(|row| row.holds), [false, false, true, false]);
        assert_eq!((compared[0].off, holds(&compared), holds(&[])), (None, false, false));
        let text = table(&compared);
        assert!(text.contains("1 of 4 predictions are within 15 %"), "{text}");
        assert_eq!(text.matches("does not hold").count(), 3);
    }

    #[test]
    fn ok_the_built_in_mix_is_of_kinds_that_the_laboratory_has_and_whole() {
        let mix: serde_json::Value = serde_json::from_str(MIX).expect("JSON");
        let kinds = mix["kinds"].as_object().expect("kinds");
        for kind in kinds.keys() {
            assert!(Kind::ALL.iter().any(|known| known.slug() == kind), "{kind}");
        }
        let sum: f64 = kinds.values().filter_map(serde_json::Value::as_f64).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    /// A program in the planner's place.
    fn planner(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("planner");
        // Written by a process of its own: a program that is open for writing here, and so in whatever another test starts
        // meanwhile, cannot be run.
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod +x \"$0\"";
        let status = Command::new("sh").args(["-c", write]).arg(&path).arg(script).status().expect("a shell");
        assert!(status.success());
        path
    }

    fn command(parallax: PathBuf) -> ValidatePlan {
        ValidatePlan {
            measured: vec![PathBuf::from("m.json")],
            mix: None,
            rates: vec![100.0, 300.0, 600.0],
            seconds: 7,
            parallax: Some(parallax),
            json: false,
        }
    }

    #[test]
    fn ok_every_load_point_is_asked_for_and_measured() {
        let directory = tempfile::tempdir().expect("a directory");
        // It answers with the rate as CPU time, and only if it was asked as the planner is.
        let script = "[ \"$1 $2 $3 $4 $5\" = 'plan --json --measured m.json --expect-mix' ] && [ -s \"$6\" ] && [ \"$7\" = --rate ] || exit 9\n\
                      echo \"{\\\"cpu_us_per_request\\\":$8,\\\"validations_per_second_per_core\\\":1,\\\"rss_kib\\\":10,\\\"in_flight\\\":1}\"";
        let command = command(planner(directory.path(), script));
        let mut asked = Vec::new();
        let status = run_by(&command, |mix, per_second, seconds| {
            assert!(fs::read_to_string(mix)?.contains("\"planned\""));
            asked.push((per_second, seconds));
            Ok(figures(per_second, 10.0, 1.0))
        });
        assert_eq!(asked, [(100.0, 7), (300.0, 7), (600.0, 7)]);
        // Validations a second and core do not fit their CPU time.
        assert_eq!(format!("{:?}", status.expect("a comparison")), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn err_a_planner_that_refuses_or_talks_nonsense_and_a_run_that_fails_are_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let fine = |_: &Path, _: f64, _: u16| Ok(figures(1.0, 1.0, 1.0));
        let error =
            run_by(&command(planner(directory.path(), "echo 'no such kind' >&2; exit 2")), fine).expect_err("refused");
        assert!(error.to_string().ends_with("and said: no such kind"), "{error}");
        let error = run_by(&command(planner(directory.path(), "echo nonsense")), fine).expect_err("no answer");
        assert!(matches!(error, ValidateError::Answer { .. }), "{error}");
        let error = run_by(&command(directory.path().join("missing")), fine).expect_err("no planner");
        assert!(matches!(error, ValidateError::Start { .. }), "{error}");
        let script =
            "echo '{\"cpu_us_per_request\":1,\"validations_per_second_per_core\":1,\"rss_kib\":1,\"in_flight\":1}'";
        let error = run_by(&command(planner(directory.path(), script)), |_, _, _| Err("overloaded".into()));
        assert_eq!(error.expect_err("not measured").to_string(), "100/s: overloaded");
    }
}
