//! Measured runs of an engine, in the form that `parallax-perf open` writes, and which of them can be a base.
//!
//! Decided here: what is missing from a file, and which runs are no figures: those that were overloaded, lost requests, or
//! were late in sending are set aside. A run with a wrong verdict, or an answer to nothing, makes the whole file unusable:
//! an engine that errs is no base for a plan. Left out: what is made of the others (`times`).
//!
//! Unknown fields are allowed: the form may grow.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// The form that is read.
pub const FORM: &str = "parallax-open-1";

/// A file is at most this large.
pub const FILE_OCTETS_MAX: u64 = 64 << 20;

/// One request in so many may be sent late; beyond it the schedule was not kept.
const LATE_SENDS_ONE_IN: u64 = 1000;

/// One request in so many may stay without an answer; beyond it too much of a run's work was for nothing.
const FAILED_ONE_IN: u64 = 1000;

/// What was measured of one engine.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where it stands: commit, machine, date.
    pub origin: Origin,
    /// What was measured.
    pub engine: EngineShape,
    /// Runs that can be a base.
    pub runs: Vec<Run>,
    /// Those that cannot, with the reason.
    pub set_aside: Vec<String>,
}

/// Where a measurement was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// When.
    pub date: String,
    /// Of which source.
    pub commit: String,
    /// On which kernel.
    pub kernel: String,
    /// On which processor.
    pub cpu: String,
    /// How many of them.
    pub cpus: u32,
    /// By which command.
    pub command: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, commit {}, {} × {}, Linux {}", self.date, self.commit, self.cpus, self.cpu, self.kernel)
    }
}

/// The engine that was measured: primary and remotes in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct EngineShape {
    /// Remotes.
    pub remotes: u8,
    /// Workers of each node.
    pub workers: u16,
    /// Whether remotes are asked only once the primary has confirmed.
    pub primary_first: bool,
}

/// One run at one rate.
#[derive(Clone, Debug, Deserialize)]
pub struct Run {
    /// Its mix.
    pub mix: String,
    /// Shares of the laboratory's kinds.
    pub shares: BTreeMap<String, f64>,
    /// Requests due in a second.
    pub offered_per_second: f64,
    /// How long requests were sent.
    pub seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Answered.
    pub completed: u64,
    /// Of these, permitted.
    pub permitted: u64,
    /// Not answered, or not as the API has it.
    pub errors: u64,
    /// Answered with another verdict than the right one.
    pub wrong: u64,
    /// The same before the time that is counted.
    #[serde(default)]
    pub wrong_in_warm_up: u64,
    /// Answers that nothing waited for.
    #[serde(default)]
    pub unexpected: u64,
    /// Whether the bound on outstanding requests was reached.
    pub overloaded: bool,
    /// Why the run is no figure, in its own words.
    #[serde(default)]
    pub failed: Option<String>,
    /// Requests that left late.
    pub late_sends: u64,
    /// From the instant a request was due.
    pub latency_us: LatencyUs,
    /// By kind of the laboratory.
    #[serde(default)]
    pub by_kind: BTreeMap<String, OfKind>,
    /// Outstanding requests.
    pub in_flight: InFlight,
    /// Of the engine's process.
    pub cpu_us_per_request: CpuUs,
    /// The same.
    pub rss_kib: RssKib,
    /// What it wrote.
    pub journal_octets_per_request: f64,
    /// What it sent, for each request, where that was counted.
    #[serde(default)]
    pub loopback: Option<Loopback>,
}

/// Latencies.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LatencyUs {
    /// Mean.
    pub mean: f64,
}

/// What came of the requests of one kind.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct OfKind {
    /// Mean.
    pub latency_us_mean: f64,
}

/// Requests in flight.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct InFlight {
    /// Over time.
    pub mean: f64,
}

/// CPU time for each request.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct CpuUs {
    /// All threads.
    pub process: f64,
    /// Thread by thread.
    pub by_role: Roles,
}

/// CPU time by what a thread does. What no role is named for here, the API above all, is the rest of the process's.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Roles {
    /// Begins attempts.
    pub dispatcher: f64,
    /// Judge reports, a thread for each perspective.
    pub collector: f64,
    /// Decides and records.
    pub decider: f64,
    /// Workers of the nodes.
    pub node: f64,
}

/// Resident memory.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RssKib {
    /// Before the first request.
    pub idle: f64,
    /// Over the run.
    pub mean: f64,
}

/// For each request; none of it where it could not be counted.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Loopback {
    /// Datagrams out.
    #[serde(default)]
    pub udp_out: Option<f64>,
    /// Connections.
    #[serde(default)]
    pub tcp_opened: Option<f64>,
}

/// A file that is no measurement, or none to plan by.
#[derive(Debug, Error)]
pub enum MeasuredError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(serde_json::Error),
    /// Another form.
    #[error("form: {found} is not \"{FORM}\"")]
    Form {
        /// What it says.
        found: String,
    },
    /// A missing or wrong field outside the runs.
    #[error("{0}")]
    Head(serde_json::Error),
    /// The runs are no list.
    #[error("runs: a list is wanted")]
    NoRuns,
    /// A missing or wrong field of a run.
    #[error("runs[{index}]{}: {error}", mix.as_ref().map(|mix| format!(" ({})", mix.escape_debug())).unwrap_or_default())]
    Run {
        /// Its place, from 0.
        index: usize,
        /// Its mix, if it has one.
        mix: Option<String>,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A figure that cannot be.
    #[error("runs[{index}] ({}): {field}: {value} is not a figure of a run", mix.escape_debug())]
    Figure {
        /// Its place, from 0.
        index: usize,
        /// Its mix.
        mix: String,
        /// The field.
        field: &'static str,
        /// What it says.
        value: f64,
    },
    /// Verdicts that were not to be.
    #[error(
        "runs[{index}] ({} at {offered_per_second}/s): {wrong} wrong verdicts and {unexpected} answers to nothing: an engine \
         that errs is no base for a plan; find out why, and measure again",
        mix.escape_debug()
    )]
    Erred {
        /// Its place, from 0.
        index: usize,
        /// Its mix.
        mix: String,
        /// Its rate.
        offered_per_second: f64,
        /// Verdicts other than the right ones, warm-up included.
        wrong: u64,
        /// Answers that nothing waited for.
        unexpected: u64,
    },
    /// Files of differently made engines.
    #[error(
        "engine: {first:?} in the first file and {other:?} in another: figures of different engines are not put together"
    )]
    Engines {
        /// Of the first.
        first: EngineShape,
        /// Of another.
        other: EngineShape,
    },
    /// No file.
    #[error("no measurement was given")]
    None,
}

#[derive(Deserialize)]
struct Head {
    #[serde(flatten)]
    origin: Origin,
    engine: EngineShape,
}

impl Measured {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not of the form, or lacks a field that is needed: field and run are named.
    pub fn parse(text: &str) -> Result<Self, MeasuredError> {
        let mut value: Value = serde_json::from_str(text).map_err(MeasuredError::Json)?;
        if value["form"] != FORM {
            return Err(MeasuredError::Form { found: value["form"].to_string() });
        }
        let Value::Array(runs) = value["runs"].take() else { return Err(MeasuredError::NoRuns) };
        let head: Head = serde_json::from_value(value).map_err(MeasuredError::Head)?;
        let mut measured = Self { origin: head.origin, engine: head.engine, runs: Vec::new(), set_aside: Vec::new() };
        for (index, run) in runs.into_iter().enumerate() {
            let mix = run["mix"].as_str().map(str::to_owned);
            let run: Run = serde_json::from_value(run).map_err(|error| MeasuredError::Run { index, mix, error })?;
            run.check(index)?;
            match run.set_aside() {
                Some(why) => measured.set_aside.push(format!("{} at {}/s: {why}", run.mix, run.offered_per_second)),
                None => measured.runs.push(run),
            }
        }
        Ok(measured)
    }

    /// Several files as one.
    ///
    /// # Errors
    /// There is none, or the engines were made differently.
    pub fn together(files: Vec<Self>) -> Result<Self, MeasuredError> {
        let mut files = files.into_iter();
        let mut all = files.next().ok_or(MeasuredError::None)?;
        for file in files {
            if file.engine != all.engine {
                return Err(MeasuredError::Engines { first: all.engine, other: file.engine });
            }
            all.runs.extend(file.runs);
            all.set_aside.extend(file.set_aside);
        }
        Ok(all)
    }
}

impl Run {
    /// Why it is no figure to plan by; none if it is one.
    fn set_aside(&self) -> Option<String> {
        if self.overloaded {
            Some("overloaded".to_owned())
        } else if self.completed == 0 {
            Some("nothing was completed".to_owned())
        } else if self.failed_requests().saturating_mul(FAILED_ONE_IN) > self.requests {
            let (failed, of) = (self.failed_requests(), self.requests);
            Some(format!("{failed} of {of} requests failed; one in {FAILED_ONE_IN} may"))
        } else if self.late_sends.saturating_mul(LATE_SENDS_ONE_IN) > self.requests {
            Some(format!("{} of {} requests left late", self.late_sends, self.requests))
        } else {
            self.failed.as_ref().map(|why| why.escape_debug().to_string())
        }
    }

    /// Requests without an answer that could be read.
    fn failed_requests(&self) -> u64 {
        self.errors.max(self.requests.saturating_sub(self.completed))
    }

    fn check(&self, index: usize) -> Result<(), MeasuredError> {
        let wrong = self.wrong.saturating_add(self.wrong_in_warm_up);
        if wrong > 0 || self.unexpected > 0 {
            let (mix, offered_per_second, unexpected) = (self.mix.clone(), self.offered_per_second, self.unexpected);
            return Err(MeasuredError::Erred { index, mix, offered_per_second, wrong, unexpected });
        }
        let roles = &self.cpu_us_per_request.by_role;
        let loopback = self.loopback.unwrap_or_default();
        let by_kind = self.by_kind.values().map(|of| ("by_kind.….latency_us_mean", of.latency_us_mean));
        let fields = [
            ("offered_per_second", self.offered_per_second),
            // Not none at all.
            ("seconds", if self.seconds > 0.0 { self.seconds } else { -1.0 }),
            ("latency_us.mean", self.latency_us.mean),
            ("in_flight.mean", self.in_flight.mean),
            ("cpu_us_per_request.process", self.cpu_us_per_request.process),
            ("cpu_us_per_request.by_role.dispatcher", roles.dispatcher),
            ("cpu_us_per_request.by_role.collector", roles.collector),
            ("cpu_us_per_request.by_role.decider", roles.decider),
            ("cpu_us_per_request.by_role.node", roles.node),
            ("rss_kib.idle", self.rss_kib.idle),
            ("rss_kib.mean", self.rss_kib.mean),
            ("journal_octets_per_request", self.journal_octets_per_request),
            ("loopback.udp_out", loopback.udp_out.unwrap_or(0.0)),
            ("loopback.tcp_opened", loopback.tcp_opened.unwrap_or(0.0)),
        ];
        for (field, value) in fields.into_iter().chain(by_kind) {
            if !(value.is_finite() && value >= 0.0) {
                return Err(MeasuredError::Figure { index, mix: self.mix.clone(), field, value });
            }
        }
        let of_completed = self.permitted as f64;
        if self.permitted > self.completed {
            let field = "permitted";
            return Err(MeasuredError::Figure { index, mix: self.mix.clone(), field, value: of_completed });
        }
        Ok(())
    }

    /// Requests that were answered in a second. Those that come by chance are not quite as many as were offered.
    #[must_use]
    pub fn carried_per_second(&self) -> f64 {
        self.completed as f64 / self.seconds
    }

    /// Cores that the engine's process kept busy.
    #[must_use]
    pub fn busy_cores(&self) -> f64 {
        self.cpu_us_per_request.process * self.carried_per_second() / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;

    #[test]
    fn ok_a_file_is_read_and_fields_nobody_knows_are_passed_over() {
        let measured = Measured::parse(&fixture::measured().to_string()).expect("a measurement");
        assert_eq!(measured.engine, EngineShape { remotes: 5, workers: 1, primary_first: true });
        assert_eq!(measured.runs.len(), 12);
        assert!(measured.origin.to_string().contains("commit made"), "{}", measured.origin);
    }

    #[test]
    fn err_runs_that_are_no_figures_are_set_aside_with_the_reason() {
        let mut value = fixture::measured();
        value["runs"][0]["overloaded"] = true.into();
        value["runs"][1]["errors"] = 11.into();
        // Without an answer, whatever the count of errors says.
        value["runs"][2]["completed"] = 990.into();
        value["runs"][2]["permitted"] = 990.into();
        value["runs"][3]["late_sends"] = 11.into();
        value["runs"][4]["completed"] = 0.into();
        value["runs"][4]["permitted"] = 0.into();
        value["runs"][5]["failed"] = "the engine ended".into();
        let measured = Measured::parse(&value.to_string()).expect("a measurement");
        assert_eq!(measured.runs.len(), 6);
        let told = measured.set_aside.join("; ");
        for part in [
            "overloaded",
            "dns-01 at 1000/s: 11 of 10000 requests failed; one in 1000 may",
            "http-01 at 100/s: 10 of 1000 requests failed",
            "11 of 10000 requests left late",
            "nothing",
            "ended",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn ok_a_request_in_a_thousand_may_fail() {
        let mut value = fixture::measured();
        value["runs"][1]["errors"] = 10.into();
        let measured = Measured::parse(&value.to_string()).expect("a measurement");
        assert_eq!((measured.runs.len(), measured.set_aside.len()), (12, 0));
    }

    #[test]
    fn err_a_file_with_a_verdict_that_was_not_to_be_is_refused() {
        for (field, counts) in [
            ("wrong", "1 wrong verdicts and 0 answers to nothing"),
            ("wrong_in_warm_up", "1 wrong verdicts and 0 answers to nothing"),
            ("unexpected", "0 wrong verdicts and 1 answers to nothing"),
        ] {
            let mut value = fixture::measured();
            value["runs"][3][field] = 1.into();
            // That it was overloaded besides is no excuse.
            value["runs"][3]["overloaded"] = true.into();
            let error = Measured::parse(&value.to_string()).expect_err(field).to_string();
            assert!(error.starts_with(&format!("runs[3] (http-01 at 1000/s): {counts}")), "{error}");
        }
    }

    #[test]
    fn err_the_missing_or_impossible_field_is_named_with_its_run() {
        let without = |path: &[&str]| {
            let mut value = fixture::measured();
            let (last, before) = path.split_last().expect("a path");
            let at = before.iter().fold(&mut value, |at, key| match key.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[*key],
            });
            at.as_object_mut().expect("an object").remove(*last);
            Measured::parse(&value.to_string()).expect_err("a field is missing").to_string()
        };
        assert!(without(&["form"]).contains("form: null is not"));
        assert_eq!(without(&["runs"]), "runs: a list is wanted");
        assert!(without(&["engine"]).contains("`engine`"));
        assert!(without(&["commit"]).contains("`commit`"));
        assert_eq!(without(&["runs", "2", "rss_kib"]), "runs[2] (http-01): missing field `rss_kib`");
        assert!(without(&["runs", "2", "cpu_us_per_request", "by_role", "decider"]).contains("`decider`"));
        let mut value = fixture::measured();
        value["runs"][1]["latency_us"]["mean"] = (-1.0).into();
        let error = Measured::parse(&value.to_string()).expect_err("a figure cannot be").to_string();
        assert_eq!(error, "runs[1] (dns-01): latency_us.mean: -1 is not a figure of a run");
        assert!(matches!(Measured::parse("{"), Err(MeasuredError::Json(_))));
    }

    #[test]
    fn err_files_of_differently_made_engines_are_not_put_together() {
        let one = Measured::parse(&fixture::measured().to_string()).expect("a measurement");
        let both = Measured::together(vec![one.clone(), one.clone()]).expect("the same engine");
        assert_eq!(both.runs.len(), 24);
        let mut other = one.clone();
        other.engine.remotes = 3;
        assert!(matches!(Measured::together(vec![one, other]), Err(MeasuredError::Engines { .. })));
        assert!(matches!(Measured::together(Vec::new()), Err(MeasuredError::None)));
    }
}
