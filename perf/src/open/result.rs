//! The file that `parallax-perf open` writes: what was offered, what came of it, and what it cost the engine's process.
//!
//! Form `parallax-open-1`. Fields may be added to it; none changes its meaning. [`read`] says what is wrong with a file
//! that is not of this form.
//!
//! Invariant: what could not be measured is null or missing, never 0.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{check::RunFault, failure::Failure, latency::Latency};

/// The form's name.
pub const FORM: &str = "parallax-open-1";
/// The longest file that is read, octets.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A file of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenResult {
    /// [`FORM`].
    pub form: String,
    /// When it was begun, UTC.
    pub date: String,
    /// Of the programs, with a `+` if the tree differed from it; `unknown` outside of a tree.
    pub commit: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processor's model.
    pub cpu: String,
    /// Processors that could be used.
    pub cpus: usize,
    /// As it was typed.
    pub command: String,
    /// How the engine was set up.
    pub engine: EngineSetup,
    /// The runs, in their order.
    pub runs: Vec<Run>,
}

/// How the engine was set up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineSetup {
    /// Remote perspectives, all of them in the engine's process.
    pub remotes: usize,
    /// Worker threads of each perspective.
    pub workers: usize,
    /// Whether remotes are asked only once the primary has confirmed.
    pub primary_first: bool,
    /// Attempts in flight, at most; further requests wait in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_in_flight: Option<usize>,
    /// Requests without an answer, at which a run ends as overloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outstanding_max: Option<usize>,
    /// The CPU that the engine was bound to, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<usize>,
    /// The CPU that laboratory and generator were bound to, if they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_core: Option<usize>,
}

/// One run: a mix at a rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The mix's name.
    pub mix: String,
    /// Shares of kinds of the laboratory; their sum is 1.
    pub shares: BTreeMap<String, f64>,
    /// Requests that were due each second.
    pub offered_per_second: f64,
    /// How long, without warm-up and without waiting for the last answers. Shorter than asked for if it was overloaded.
    pub seconds: f64,
    /// Requests that were sent in this time.
    pub requests: u64,
    /// Of them, those that were answered.
    pub completed: u64,
    /// Of the answers, those that permit.
    pub permitted: u64,
    /// Those that do not.
    pub refused: u64,
    /// Requests without an answer that could be read.
    pub errors: u64,
    /// Answers that were not the right ones.
    pub wrong: u64,
    /// Whether the bound of outstanding requests was reached, which ended the run.
    pub overloaded: bool,
    /// Requests that left more than 5 ms after they were due.
    pub late_sends: u64,
    /// From when a request was due to its answer, microseconds, of all that were answered.
    pub latency_us: Latency,
    /// The same as a histogram; see [`decode`](super::latency::decode).
    pub histogram: String,
    /// By kind.
    pub by_kind: BTreeMap<String, OfKind>,
    /// Requests without an answer, over this time.
    pub in_flight: InFlight,
    /// What the engine's process used, for each answer in this time.
    pub cpu_us_per_request: CpuPerRequest,
    /// CPU time of the engine's process in this time.
    pub cpu_seconds: f64,
    /// Resident memory of the engine's process.
    pub rss_kib: Level,
    /// Its descriptors.
    pub descriptors: Descriptors,
    /// What its journal grew by, warm-up included, for each answer.
    pub journal_octets_per_request: f64,
    /// What the laboratory saw, warm-up included, for each request.
    pub loopback: Loopback,

    /// Why the run is no figure: the generator did not keep up, or the engine ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failure>,
    /// Answers in this time, to whichever request, each second. With a warm-up longer than the latency it is the rate that
    /// was carried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_per_second: Option<f64>,
    /// Latency of the kinds that wait for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_quick_us: Option<Latency>,
    /// The same rate was offered for so long before.
    #[serde(default)]
    pub warm_up_seconds: f64,
    /// The busiest thread of each role of the engine: its share of one CPU.
    #[serde(default)]
    pub busiest_by_role: BTreeMap<String, f64>,
    /// Laboratory and generator, which share the machine.
    #[serde(default)]
    pub others: Others,
    /// Runs at this rate before this one, which came to no figure and were repeated.
    #[serde(default)]
    pub repeats: u64,
    /// Answers to requests of the warm-up that were not the right ones.
    #[serde(default)]
    pub wrong_in_warm_up: u64,
    /// Answers that nothing waited for, warm-up included: not asked for, answered before, or not to be read.
    #[serde(default)]
    pub unexpected: u64,
    /// The first few wrong answers, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_examples: Vec<String>,
    /// Errors, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub error_examples: Vec<String>,
}

/// What came of the requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OfKind {
    /// Requests that were sent.
    pub requests: u64,
    /// Mean latency of those that were answered.
    pub latency_us_mean: f64,
    /// Its 99th percentile.
    pub latency_us_p99: u64,
    /// Those that were answered.
    #[serde(default)]
    pub completed: u64,
    /// Answers that permit.
    #[serde(default)]
    pub permitted: u64,
    /// Answers that were not the right ones.
    #[serde(default)]
    pub wrong: u64,
}

/// Requests without an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    /// Over time.
    pub mean: f64,
    /// At most.
    pub max: u64,
}

/// CPU time, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuPerRequest {
    /// Of the whole process.
    pub process: f64,
    /// Of it, that of threads by what they are for. The sum is `process`.
    pub by_role: BTreeMap<String, f64>,
}

/// A quantity before a run and within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Before the first request.
    pub idle: u64,
    /// Mean of samples every 200 ms.
    pub mean: u64,
    /// Highest sample.
    pub max: u64,
}

/// Descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Descriptors {
    /// Before the first request.
    pub idle: u64,
    /// Highest sample.
    pub max: u64,
}

/// What went over the wire for each request, as the laboratory counted it. Null is what it does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loopback {
    /// Questions over UDP.
    pub udp_out: Option<f64>,
    /// Replies over UDP.
    pub udp_in: Option<f64>,
    /// Connections that were accepted, for DNS, HTTP and TLS.
    pub tcp_opened: Option<f64>,
}

/// What shares the machine with the engine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Others {
    /// CPU time of the laboratory in this time.
    pub laboratory_cpu_seconds: Option<f64>,
    /// The share of one CPU that its busiest thread used.
    pub laboratory_busiest: Option<f64>,
    /// CPU time of the generator.
    pub generator_cpu_seconds: Option<f64>,
    /// Whether the generator's threads ran in real time.
    #[serde(default)]
    pub generator_real_time: Option<bool>,
    /// The share of all CPUs that was not idle, by whomever used.
    pub machine_busy: Option<f64>,
}

/// Why a file of results cannot be used.
#[derive(Debug, Error)]
pub enum ResultError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is too long for one.
    #[error("{path}: {octets} octets; at most {FILE_BYTES_MAX}")]
    Long {
        /// The file.
        path: String,
        /// How long it is.
        octets: u64,
    },
    /// It is not JSON, or lacks a field.
    #[error("{path}: {error}")]
    Json {
        /// The file.
        path: String,
        /// Where and why.
        error: serde_json::Error,
    },
    /// It is of another form.
    #[error("{path}: form {form:?}; {FORM:?} is read here")]
    Form {
        /// The file.
        path: String,
        /// What it says it is.
        form: String,
    },
    /// A run contradicts itself.
    #[error("{path}: runs[{run}]: {fault}")]
    Run {
        /// The file.
        path: String,
        /// Which run, from 0.
        run: usize,
        /// What is wrong.
        fault: RunFault,
    },
}

/// Reads and checks a file.
///
/// # Errors
/// It cannot be read, or is not what [`write()`] writes.
pub fn read(path: &Path) -> Result<OpenResult, ResultError> {
    let name = || path.display().to_string();
    let file = |error| ResultError::File { path: name(), error };
    let octets = fs::metadata(path).map_err(file)?.len();
    if octets > FILE_BYTES_MAX {
        return Err(ResultError::Long { path: name(), octets });
    }
    parse(&fs::read_to_string(path).map_err(file)?, &name())
}

/// Reads and checks the text of a file; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, path: &str) -> Result<OpenResult, ResultError> {
    #[derive(Deserialize)]
    struct Form {
        form: String,
    }
    let json = |error| ResultError::Json { path: path.to_owned(), error };
    // Before anything else, so that a file of another form is called that and not one with a field missing.
    let Form { form } = serde_json::from_str(text).map_err(json)?;
    if form != FORM {
        return Err(ResultError::Form { path: path.to_owned(), form });
    }
    let result: OpenResult = serde_json::from_str(text).map_err(json)?;
    for (index, run) in result.runs.iter().enumerate() {
        run.check().map_err(|fault| ResultError::Run { path: path.to_owned(), run: index, fault })?;
    }
    Ok(result)
}

/// Writes a file.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, result: &OpenResult) -> Result<(), ResultError> {
    let json = |error| ResultError::Json { path: path.display().to_string(), error };
    let text = serde_json::to_string_pretty(result).map_err(json)?;
    fs::write(path, text + "\n").map_err(|error| ResultError::File { path: path.display().to_string(), error })
}

impl Run {
    /// The rate that was carried: answers within the time of the run, or those to its requests where that was not told.
    #[must_use]
    pub fn carried_per_second(&self) -> f64 {
        self.completed_per_second.unwrap_or_else(|| self.completed as f64 / self.seconds.max(1e-9))
    }

    /// Answers that were not the right ones, those of the warm-up too.
    #[must_use]
    pub fn wrong_in_all(&self) -> u64 {
        self.wrong.saturating_add(self.wrong_in_warm_up)
    }

    /// The 99th percentile of what waits for nothing, or of all where that was not told.
    #[must_use]
    pub fn quick_p99_us(&self) -> u64 {
        self.latency_quick_us.map_or(self.latency_us.p99, |quick| quick.p99)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::open::latency;

    /// A run of three answers.
    pub(crate) fn run() -> Run {
        let mut histogram = latency::empty();
        [900, 1_000, 4_000].into_iter().for_each(|us| latency::add(&mut histogram, us));
        Run {
            mix: "dns-01".to_owned(),
            shares: BTreeMap::from([("dns-ok".to_owned(), 1.0)]),
            offered_per_second: 3.0,
            seconds: 1.0,
            requests: 3,
            completed: 3,
            permitted: 3,
            latency_us: latency::summary(&histogram),
            histogram: latency::encode(&histogram).expect("written"),
            by_kind: BTreeMap::from([("dns-ok".to_owned(), OfKind { requests: 3, ..OfKind::default() })]),
            cpu_us_per_request: CpuPerRequest { process: 100.0, by_role: BTreeMap::from([("node".to_owned(), 100.0)]) },
            loopback: Loopback { udp_out: Some(6.0), ..Loopback::default() },
            ..Run::default()
        }
    }

    pub(crate) fn result(runs: Vec<Run>) -> OpenResult {
        OpenResult {
            form: FORM.to_owned(),
            date: "2026-11-27T08:00:00Z".to_owned(),
            commit: "0123456789ab+".to_owned(),
            kernel: "6.18".to_owned(),
            cpu: "a CPU".to_owned(),
            cpus: 2,
            command: "parallax-perf open".to_owned(),
            engine: EngineSetup { remotes: 5, workers: 1, primary_first: true, ..EngineSetup::default() },
            runs,
        }
    }

    #[test]
    fn ok_what_was_written_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("result.json");
        let was = result(vec![run(), Run { overloaded: true, ..run() }]);
        write(&path, &was).expect("written");
        assert_eq!(read(&path).expect("read"), was);
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.contains("\"udp_in\": null"), "what is not known is null: {text}");
    }

    #[test]
    fn ok_the_form_that_others_read_has_all_it_must() {
        let json = serde_json::to_value(result(vec![run()])).expect("JSON");
        let run = &json["runs"][0];
        for field in [
            "mix shares offered_per_second seconds requests completed permitted refused errors wrong overloaded late_sends",
            "latency_us histogram by_kind in_flight cpu_us_per_request cpu_seconds rss_kib descriptors",
            "journal_octets_per_request loopback",
        ]
        .iter()
        .flat_map(|line| line.split(' '))
        {
            assert!(run.get(field).is_some(), "{field}");
        }
        for (part, fields) in [
            ("latency_us", "mean p50 p90 p99 p999 max"),
            ("in_flight", "mean max"),
            ("cpu_us_per_request", "process by_role"),
            ("rss_kib", "idle mean max"),
            ("descriptors", "idle max"),
            ("loopback", "udp_out udp_in tcp_opened"),
        ] {
            assert!(fields.split(' ').all(|field| run[part].get(field).is_some()), "{part}");
        }
        for field in ["requests", "latency_us_mean", "latency_us_p99"] {
            assert!(run["by_kind"]["dns-ok"].get(field).is_some(), "{field}");
        }
        assert!(json["engine"].get("primary_first").is_some());
    }

    #[test]
    fn ok_fields_that_are_not_known_here_do_no_harm() {
        let mut json = serde_json::to_value(result(vec![run()])).expect("JSON");
        json["more"] = "more".into();
        json["runs"][0]["more"] = 1.into();
        assert_eq!(parse(&json.to_string(), "x").expect("read"), result(vec![run()]));
    }

    #[test]
    fn err_each_fault_is_named_with_its_place() {
        let with = |change: &dyn Fn(&mut Run)| {
            let mut second = run();
            change(&mut second);
            serde_json::to_string(&result(vec![run(), second])).expect("JSON")
        };
        let table: &[(String, &str)] = &[
            ("{".to_owned(), "x.json: EOF"),
            (
                r#"{"form":"parallax-open-2"}"#.to_owned(),
                r#"x.json: form "parallax-open-2"; "parallax-open-1" is read here"#,
            ),
            (r#"{"form":"parallax-open-1"}"#.to_owned(), "x.json: missing field"),
            (with(&|run| run.completed = 4), "runs[1]: completed: 4 where 3 is the most"),
            (with(&|run| run.refused = 1), "runs[1]: permitted and refused: 4 where 3 is the most"),
            (with(&|run| run.wrong = 9), "runs[1]: wrong: 9 where 3 is the most"),
            (with(&|run| run.seconds = -1.0), "runs[1]: seconds is -1"),
            (with(&|run| run.loopback.udp_in = Some(-2.0)), "runs[1]: loopback.udp_in is -2"),
            (with(&|run| _ = run.shares.insert("caa-ok".to_owned(), 0.5)), "runs[1]: the shares add up to 1.5, not 1"),
            (with(&|run| run.histogram = "!".to_owned()), "runs[1]: histogram: not base64"),
            (with(&|run| (run.requests, run.completed) = (9, 8)), "runs[1]: the histogram holds 3 latencies of 8"),
        ];
        for (text, why) in table {
            let error = parse(text, "x.json").expect_err(why).to_string();
            assert!(error.contains(why), "{error} where {why}");
        }
        let missing = read(Path::new("/nowhere/result.json")).expect_err("no file").to_string();
        assert!(missing.starts_with("/nowhere/result.json: "), "{missing}");
    }
}
