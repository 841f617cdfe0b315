//! `parallax bulk`: requests from a file, results as they come, resumable.
//!
//! The journal is the truth: a result line is written only after its record is durable, and with
//! `--resume` the results file is rebuilt from the journal before anything new is asked, so that after a
//! kill at any moment every request ends with exactly one verdict, and none contradicts its record.

pub mod remote;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{BufReader, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parallax_protocol::transport::IdentityError;
use parallax_validation::{
    base::perspective::PerspectiveId,
    problem::ProblemKind,
    record::{Mode, Record, Restart},
    request::{CheckRequest, RequestError},
    verdict::{PerspectiveState, Refusal, Verdict},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    audit::{AuditError, Item, Items},
    config::Config,
    corroborate::{Corroborator, EngineError, Released},
    input::{BadLine, Format, Input},
    journal::JournalError,
    log::LogForm,
    upkeep,
};

/// Latencies are recorded from 1 µs to this.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Malformed lines waiting to be written.
const BAD_LINES_QUEUED_MAX: usize = 1024;
/// Age from which a verdict taken over from the journal is remarked on: CAA evidence lasts 8 hours (TLS BR
/// 2.3.1 §4.2.2.1), and the time of issuing is needed too.
const FRESH_HOURS_MAX: i64 = 7;
/// How far records may lie ahead of the clock before it is not trusted (req A20).
const CLOCK_AHEAD_MAX: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);
/// Differences from the expected verdicts that are listed.
const DIFFERENCES_LISTED_MAX: usize = 20;

/// What a bulk run is given.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// Requests; `-` is standard input.
    pub file: PathBuf,
    /// How they are written; by the file's ending if none.
    pub format: Option<Format>,
    /// Results; none is standard output.
    pub out: Option<PathBuf>,
    /// The journal's directory.
    pub journal: PathBuf,
    /// Whether to go on where the journal ends.
    pub resume: bool,
    /// Right answers, to compare with.
    pub expected: Option<PathBuf>,
    /// Whether progress may be drawn.
    pub progress: bool,
    /// How what somebody may have to look at is written.
    pub log: LogForm,
}

/// A bulk run that could not be carried out.
#[derive(Debug, Error)]
pub enum BulkError {
    /// A file.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Results cannot be written, though requests were sent.
    #[error("{path}: {error}; every verdict is in the journal, and --resume writes the results again")]
    Results {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A line of the expected answers.
    #[error("{path}: line {line}: {problem}")]
    Expected {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The journal is not empty, and `--resume` was not given.
    #[error("{0}: the journal holds records already; --resume goes on where it ends, or name another directory")]
    NotEmpty(PathBuf),
    /// The journal was made by an engine that only reported.
    #[error("{0}: the journal was made with engine.mode = \"report-only\"; what it refused for that is no answer here")]
    OtherMode(PathBuf),
    /// The journal was made for another file.
    #[error(
        "the journal holds a record of request '{0}' that differs from the file's; it belongs to another bulk file"
    )]
    OtherFile(String),
    /// Results of other requests.
    #[error(
        "the results hold an answer to request '{0}' that was another request then; they belong to another bulk file"
    )]
    OtherResults(String),
    /// The clock went back, or was ahead when the journal was written.
    #[error(
        "the record of request '{request}' was decided at {decided}, which is still to come: the system's clock is wrong \
         now or was then, and cannot be trusted to pick the policy row in force"
    )]
    Clock {
        /// Whose record.
        request: String,
        /// When it says it was decided.
        decided: jiff::Timestamp,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Reading the journal.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Who asks an engine elsewhere.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// An engine elsewhere, or the way to it.
    #[error("{0}; what was answered is in the results, and --resume goes on")]
    Remote(String),
}

/// One line of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultLine {
    /// The request's id, or none if none could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its line, for a line that is no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// `pass`, `fail`, or `refused` for a line that is no request.
    pub verdict: String,
    /// What was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The label of the method, or `caa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Problem type of RFC 8555 §6.7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemKind>,
    /// `primary`, `quorum`, `method` if it has ended, `mode` if the engine may only report, `dry-run` if that was asked
    /// for and all checks were passed, or `request` if nothing was sent.
    pub decided_by: String,
    /// The enforced figure, such as 4/5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<String>,
    /// What to say.
    pub message: String,
    /// Whose turn it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<parallax_validation::explain::Blame>,
    /// When trying again can help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<parallax_validation::explain::Retry>,
    /// What else should be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What was asked: `control`, `caa`, or both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<String>,
    /// When the attempt began; reuse and the CAA window count from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<jiff::Timestamp>,
    /// The attempt, to be looked up in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// SHA-256 of the request as it was sent to an engine elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl ResultLine {
    /// From a record.
    #[must_use]
    pub fn of_record(record: &Record) -> Self {
        let decided_by = match &record.verdict {
            Verdict::Refused { refusal: Refusal::Primary(_), .. } => "primary",
            Verdict::Refused { refusal: Refusal::MethodEnded, .. } => "method",
            Verdict::Refused { refusal: Refusal::ReportOnly, .. } if record.request.restrictions.dry_run => "dry-run",
            Verdict::Refused { refusal: Refusal::ReportOnly, .. } => "mode",
            Verdict::Refused { refusal: Refusal::Quorum(_), .. } | Verdict::Corroborated(_) => "quorum",
        };
        Self {
            id: Some(record.request.id.to_string()),
            line: None,
            verdict: if record.permits() { "pass" } else { "fail" }.to_owned(),
            identifier: Some(record.request.identifier.to_string()),
            method: Some(record.request.method_label().to_owned()),
            problem: record.explanation.problem,
            decided_by: decided_by.to_owned(),
            quorum: record.verdict.figures().map(|figures| figures.joint.to_string()),
            message: record.explanation.message.clone(),
            blame: record.explanation.blame,
            retry: record.explanation.retry,
            warnings: record.explanation.warnings.clone(),
            checked: checked(&record.request),
            started: Some(record.started),
            attempt: Some(record.attempt.to_string()),
            request: None,
        }
    }

    /// Of a request that was refused before anything was sent.
    #[must_use]
    pub fn of_refusal(id: Option<&str>, error: &RequestError) -> Self {
        Self { id: id.map(str::to_owned), line: None, ..Self::refused(error.problem(), error.to_string()) }
    }

    fn of_bad_line(bad: &BadLine) -> Self {
        let message = format!("line {}: {}", bad.line, bad.reason);
        Self { id: bad.id.clone(), line: Some(bad.line), ..Self::refused(bad.problem, message) }
    }

    fn refused(problem: ProblemKind, message: String) -> Self {
        Self {
            id: None,
            line: None,
            verdict: "refused".to_owned(),
            identifier: None,
            method: None,
            problem: Some(problem),
            decided_by: "request".to_owned(),
            quorum: None,
            message,
            blame: Some(parallax_validation::explain::Blame::Request),
            retry: Some(parallax_validation::explain::Retry::Fix),
            warnings: Vec::new(),
            checked: Vec::new(),
            started: None,
            attempt: None,
            request: None,
        }
    }
}

/// What a request asked for.
fn checked(request: &CheckRequest) -> Vec<String> {
    let parts = [("control", request.control.is_some()), ("caa", request.caa.is_some())];
    parts.into_iter().filter(|(_, asked)| *asked).map(|(part, _)| part.to_owned()).collect()
}

/// One line of expected answers.
#[derive(Clone, Debug, Deserialize)]
struct Expected {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    line: Option<u64>,
    #[serde(default)]
    kind: String,
    verdict: String,
    #[serde(default)]
    problem: Option<String>,
    /// A problem type that is as right.
    #[serde(default)]
    also_problem: Option<String>,
    decided_by: String,
}

/// The right answers, by id or by line.
#[derive(Default)]
struct ExpectedSet {
    by_id: HashMap<String, Expected>,
    by_line: HashMap<u64, Expected>,
    compared: usize,
    differences: Vec<String>,
    difference_count: usize,
    kinds: HashSet<String>,
}

impl ExpectedSet {
    fn read(path: &Path) -> Result<Self, BulkError> {
        let text = std::fs::read_to_string(path).map_err(|error| BulkError::File { path: path.to_owned(), error })?;
        let mut set = Self::default();
        for (index, line) in text.lines().enumerate() {
            let expected: Expected = serde_json::from_str(line).map_err(|e| BulkError::Expected {
                path: path.to_owned(),
                line: index + 1,
                problem: e.to_string(),
            })?;
            match (expected.line, &expected.id) {
                (Some(line), _) => {
                    set.by_line.insert(line, expected);
                }
                (None, Some(id)) => {
                    set.by_id.insert(id.clone(), expected);
                }
                (None, None) => {
                    let problem = "neither id nor line".to_owned();
                    return Err(BulkError::Expected { path: path.to_owned(), line: index + 1, problem });
                }
            }
        }
        Ok(set)
    }

    /// Compares one result. An answer is used up, so that a second one for it is a difference.
    fn compare(&mut self, result: &ResultLine) {
        let by_line = result.line.and_then(|line| self.by_line.remove(&line));
        let expected = by_line.or_else(|| result.id.as_ref().and_then(|id| self.by_id.remove(id)));
        let name = result.id.clone().or_else(|| result.line.map(|l| format!("line {l}"))).unwrap_or_default();
        self.compared += 1;
        let Some(expected) = expected else {
            return self.differ(format!("{name}: {} where no answer was expected", result.verdict));
        };
        let problem = result.problem.map(|p| p.as_str().to_owned());
        let got = (result.verdict.as_str(), problem.as_deref(), result.decided_by.as_str());
        let wanted = (expected.verdict.as_str(), expected.problem.as_deref(), expected.decided_by.as_str());
        let also = expected.also_problem.as_deref().map(|problem| (wanted.0, Some(problem), wanted.2));
        if got != wanted && Some(got) != also {
            self.differ(format!(
                "{name} ({}): {got:?} where {wanted:?} was expected: {}",
                expected.kind, result.message
            ));
        }
        self.kinds.insert(expected.kind);
    }

    fn differ(&mut self, text: String) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_LISTED_MAX {
            self.differences.push(text);
        }
    }

    /// Answers that never came.
    fn missing(&mut self) {
        let mut left: Vec<String> = std::mem::take(&mut self.by_id).into_keys().collect();
        left.extend(std::mem::take(&mut self.by_line).into_keys().map(|line| format!("line {line}")));
        left.sort();
        for name in left {
            self.differ(format!("{name}: no answer came"));
        }
    }
}

/// What a bulk run did.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Verdicts released in this run.
    pub released: u64,
    /// Verdicts taken over from the journal.
    pub resumed: u64,
    /// Lines that are no requests.
    pub refused_lines: u64,
    /// Results by verdict, problem and who decided.
    pub results: BTreeMap<String, u64>,
    /// From start to last release, seconds.
    pub seconds: f64,
    /// Validations released per second.
    pub validations_per_second: f64,
    /// CPU time of the whole process per validation, microseconds.
    pub cpu_us_per_validation: f64,
    /// By method, latency from submission to release.
    pub latency: BTreeMap<String, Latency>,
    /// By perspective.
    pub perspectives: Vec<PerspectiveSummary>,
    /// Journal commits, each with one fsync.
    pub commits: u64,
    /// Answers that came after their verdict.
    pub late_answers: u64,
    /// Late answers that go against a permission: an alarm.
    pub late_contradictions: u64,
    /// Attempts whose outcome was not released, since perspectives disagreed and the process started afresh.
    pub restarts: u64,
    /// Reports that answer nothing that was asked: an alarm.
    pub rejected_reports: u64,
    /// Results compared with expected ones; none if there were none to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<usize>,
    /// Kinds of scenario compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<usize>,
    /// Results that differ from the expected ones.
    pub difference_count: usize,
    /// Some of them.
    pub differences: Vec<String>,
    /// Whether the run was stopped before the file's end.
    pub interrupted: bool,
}

/// Latency, milliseconds.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half are faster.
    pub p50_ms: f64,
    /// Nine in ten are faster.
    pub p90_ms: f64,
    /// 99 in 100 are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// One perspective's part in a run.
#[derive(Debug, Serialize)]
pub struct PerspectiveSummary {
    /// Who.
    pub perspective: String,
    /// How it did its input and output.
    pub driver: &'static str,
    /// Tasks carried out.
    pub tasks: u64,
    /// Terminal states of the attempts it was asked in.
    pub states: BTreeMap<String, u64>,
    /// CPU time of its workers per task, microseconds.
    pub cpu_us_per_task: f64,
    /// Datagrams sent.
    pub queries: u64,
    /// Connections made.
    pub connections: u64,
    /// Datagrams that belonged to no query.
    pub stray_datagrams: u64,
    /// Datagrams that had a query's port and id and were not its reply: mangled or forged (req B14).
    pub mismatched_replies: u64,
}

/// Carries out a bulk run. `stop` ends it early and in order: what is in flight is finished.
///
/// # Errors
/// Files, journal or engine; released results stay valid.
pub fn run(config: &Config, options: &BulkOptions, stop: &Arc<AtomicBool>) -> Result<Summary, BulkError> {
    let expected = options.expected.as_deref().map(ExpectedSet::read).transpose()?;
    let reader: Box<dyn std::io::Read + Send> = if options.file == Path::new("-") {
        Box::new(StoppableInput(Arc::clone(stop)))
    } else {
        Box::new(File::open(&options.file).map_err(|error| BulkError::File { path: options.file.clone(), error })?)
    };
    let lines_total = count_lines(options);
    let format = options.format.unwrap_or_else(|| Format::of(&options.file));
    let rules = config.request_rules();
    let input = Input::new(BufReader::with_capacity(1 << 20, reader), format, rules);
    let (journal, _) = upkeep::open(&options.journal, &config.journal)?;
    let committed = journal.committed_sequence();
    let mut results = Results::open(options, expected, lines_total, committed)?;
    let taken = results.take_over(options, (config.rules.digest(), config.engine.mode), committed)?;
    let (engine, released) = Corroborator::start(config, None, journal, Arc::new(options.log), Arc::clone(stop))?;
    drive(engine, &released, input, &taken, &mut results, options, stop)
}

fn count_lines(options: &BulkOptions) -> Option<u64> {
    if !options.progress || options.file == Path::new("-") {
        return None;
    }
    let file = File::open(&options.file).ok()?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut lines = 0;
    loop {
        let buffer = std::io::BufRead::fill_buf(&mut reader).ok()?;
        if buffer.is_empty() {
            return Some(lines);
        }
        lines += buffer.iter().filter(|&&b| b == b'\n').count() as u64;
        let used = buffer.len();
        std::io::BufRead::consume(&mut reader, used);
    }
}

/// Feeds requests in from one thread while this one takes released verdicts.
fn drive(
    mut engine: Corroborator,
    released: &crossbeam::channel::Receiver<Vec<Released>>,
    mut input: Input<impl std::io::BufRead + Send>,
    taken: &TakenOver,
    results: &mut Results,
    options: &BulkOptions,
    stop: &Arc<AtomicBool>,
) -> Result<Summary, BulkError> {
    let begun = Instant::now();
    let cpu_before = process_cpu();
    let (bad_in, bad_out) = crossbeam::channel::bounded(BAD_LINES_QUEUED_MAX);
    let outcome = std::thread::scope(|scope| {
        let engine_ref = &mut engine;
        let feeder = scope.spawn(move || feed(engine_ref, &mut input, taken, &bad_in, stop, &options.file));
        let mut write_error = None;
        loop {
            for bad in bad_out.try_iter() {
                keep_first(&mut write_error, results.bad_line(&bad));
            }
            match released.recv_timeout(Duration::from_millis(100)) {
                Ok(batch) => keep_first(&mut write_error, results.released(&batch)),
                Err(crossbeam::channel::RecvTimeoutError::Timeout) if feeder.is_finished() && released.is_empty() => {
                    // The feeder waits for the engine's end, so nothing more comes.
                    break;
                }
                Err(crossbeam::channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam::channel::RecvTimeoutError::Disconnected) => break,
            }
            if write_error.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        // Nothing is released any more; the feeder may still wait for room to say what is no request.
        while !feeder.is_finished() {
            match bad_out.recv_timeout(Duration::from_millis(100)) {
                Ok(bad) => keep_first(&mut write_error, results.bad_line(&bad)),
                Err(crossbeam::channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam::channel::RecvTimeoutError::Disconnected) => break,
            }
        }
        let fed = feeder.join().unwrap_or(Err(BulkError::Engine(EngineError::Stopped)));
        for bad in bad_out.try_iter() {
            keep_first(&mut write_error, results.bad_line(&bad));
        }
        fed.and_then(|interrupted| write_error.map_or(Ok(interrupted), Err))
    });
    results.end_progress();
    let interrupted = outcome?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(results.summary(Some(&engine), seconds, process_cpu() - cpu_before, interrupted))
}

fn keep_first(first: &mut Option<BulkError>, result: Result<(), BulkError>) {
    if let (None, Err(error)) = (&first, result) {
        *first = Some(error);
    }
}

/// Submits every request that has no record yet, then waits for the engine's end. True if stopped.
fn feed(
    engine: &mut Corroborator,
    input: &mut Input<impl std::io::BufRead>,
    taken: &TakenOver,
    bad_lines: &crossbeam::channel::Sender<BadLine>,
    stop: &AtomicBool,
    path: &Path,
) -> Result<bool, BulkError> {
    let fed = feed_lines(engine, input, taken, bad_lines, stop, path);
    // Whatever became of the file, what was begun is finished and its results are written.
    let finished = engine.finish();
    let interrupted = match fed {
        // The engine takes nothing more because it was told to stop.
        Err(BulkError::Engine(EngineError::Stopped)) if stop.load(Ordering::Relaxed) => true,
        fed => fed?,
    };
    finished?;
    Ok(interrupted || stop.load(Ordering::Relaxed))
}

/// The file, line by line.
fn feed_lines(
    engine: &Corroborator,
    input: &mut Input<impl std::io::BufRead>,
    taken: &TakenOver,
    bad_lines: &crossbeam::channel::Sender<BadLine>,
    stop: &AtomicBool,
    path: &Path,
) -> Result<bool, BulkError> {
    loop {
        let next = input.next_line().map_err(|error| BulkError::File { path: path.to_owned(), error })?;
        if stop.load(Ordering::Relaxed) {
            return Ok(true);
        }
        match next {
            None => return Ok(false),
            Some((_, Err(bad))) => {
                // The receiver outlives this thread.
                let _ = bad_lines.send(bad);
            }
            Some((_, Ok(request))) => match taken.requests.get(request.id.as_str()) {
                Some((before, _)) if *before != request => {
                    return Err(BulkError::OtherFile(request.id.to_string()));
                }
                Some((_, Standing::Answered)) => {}
                Some((_, Standing::Restarts(restart))) => engine.submit(request, Some(*restart))?,
                None => engine.submit(request, None)?,
            },
        }
    }
}

/// Standard input that ends when the run is stopped, even if nobody writes to it.
struct StoppableInput(Arc<AtomicBool>);

impl std::io::Read for StoppableInput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = std::io::stdin();
        let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if self.0.load(Ordering::Relaxed) {
                return Ok(0);
            }
            match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&tick)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(rustix::io::read(&stdin, &mut *buffer)?),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// CPU time of the whole process so far.
fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What a journal says about a request.
enum Standing {
    /// It has its verdict.
    Answered,
    /// Perspectives disagreed, and nothing was released: the next attempt follows that one.
    Restarts(Restart),
}

/// What a journal has of earlier runs.
#[derive(Default)]
struct TakenOver {
    /// Requests by id.
    requests: HashMap<String, (CheckRequest, Standing)>,
}

/// Where results go, and what is counted on the way.
struct Results {
    path: PathBuf,
    out: BufWriter<Box<dyn Write + Send>>,
    expected: Option<ExpectedSet>,
    released: u64,
    resumed: u64,
    refused_lines: u64,
    by_kind: BTreeMap<String, u64>,
    latency: BTreeMap<String, Histogram<u64>>,
    states: HashMap<PerspectiveId, BTreeMap<String, u64>>,
    progress: Option<indicatif::ProgressBar>,
}

impl Results {
    fn open(
        options: &BulkOptions,
        expected: Option<ExpectedSet>,
        lines: Option<u64>,
        committed: u64,
    ) -> Result<Self, BulkError> {
        let (path, out): (PathBuf, Box<dyn Write + Send>) = match &options.out {
            None => (PathBuf::from("standard output"), Box::new(std::io::stdout())),
            Some(path) => {
                let is_input =
                    path.canonicalize().is_ok_and(|out| options.file.canonicalize().is_ok_and(|file| file == out));
                let holds_results = std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
                let refusal = match (holds_results, options.resume, committed) {
                    _ if is_input => Some("is the file of requests; results need another"),
                    (true, false, _) => Some("exists already; it is only written over with --resume"),
                    // Nothing would be put back: the journal is another run's.
                    (true, true, 0) => Some("holds results, but the journal is empty; is --journal the right one?"),
                    _ => None,
                };
                if let Some(refusal) = refusal {
                    return Err(BulkError::File { path: path.clone(), error: std::io::Error::other(refusal) });
                }
                let file = File::create(path).map_err(|error| BulkError::File { path: path.clone(), error })?;
                (path.clone(), Box::new(file))
            }
        };
        Ok(Self::with(path, out, expected, lines, options))
    }

    fn with(
        path: PathBuf,
        out: Box<dyn Write + Send>,
        expected: Option<ExpectedSet>,
        lines: Option<u64>,
        options: &BulkOptions,
    ) -> Self {
        let progress = (options.progress && std::io::stderr().is_terminal()).then(|| progress_bar(lines));
        Self {
            path,
            out: BufWriter::with_capacity(1 << 18, out),
            expected,
            released: 0,
            resumed: 0,
            refused_lines: 0,
            by_kind: BTreeMap::new(),
            latency: BTreeMap::new(),
            states: HashMap::new(),
            progress,
        }
    }

    /// Writes the results of the records that are there, and gives the requests they answer.
    fn take_over(
        &mut self,
        options: &BulkOptions,
        (setup, mode): (&str, Mode),
        committed: u64,
    ) -> Result<TakenOver, BulkError> {
        let mut taken = TakenOver::default();
        if committed == 0 {
            return Ok(taken);
        }
        let now = jiff::Timestamp::now();
        let fresh = now - jiff::SignedDuration::from_hours(FRESH_HOURS_MAX);
        let (mut old, mut other_setup) = (0_u64, 0_u64);
        let mut items = Items::open(&options.journal)?;
        while let Some((_, item)) = items.next_item()? {
            let Item::Record(record) = item else { continue };
            if !options.resume {
                return Err(BulkError::NotEmpty(options.journal.clone()));
            }
            if record.decided > now + CLOCK_AHEAD_MAX {
                return Err(BulkError::Clock { request: record.request.id.to_string(), decided: record.decided });
            }
            let reported = matches!(record.verdict, Verdict::Refused { refusal: Refusal::ReportOnly, .. })
                && !record.request.restrictions.dry_run;
            if reported && mode == Mode::Enforcing {
                return Err(BulkError::OtherMode(options.journal.clone()));
            }
            if record.restarted {
                let number = record.restart.map_or(0, |restart| restart.number).saturating_add(1);
                let standing = Standing::Restarts(Restart { predecessor: record.attempt, number });
                taken.requests.insert(record.request.id.to_string(), (record.request, standing));
                continue;
            }
            self.resumed += 1;
            old += u64::from(record.permits() && record.started < fresh);
            other_setup += u64::from(record.setup != setup);
            self.write(&ResultLine::of_record(&record))?;
            self.count_states(&record);
            taken.requests.insert(record.request.id.to_string(), (record.request, Standing::Answered));
        }
        self.flush()?;
        if old > 0 {
            eprintln!(
                "parallax: warning: {old} permissions taken over are older than {FRESH_HOURS_MAX} hours; their CAA evidence is too old to issue on (see `started`)"
            );
        }
        if other_setup > 0 {
            eprintln!(
                "parallax: warning: {other_setup} verdicts taken over were made under other settings than today's"
            );
        }
        Ok(taken)
    }

    /// Counts a result that is written already.
    fn note(&mut self, line: &ResultLine) {
        let kind = match line.problem {
            None => line.verdict.clone(),
            Some(problem) => format!("{} {problem}, decided by {}", line.verdict, line.decided_by),
        };
        *self.by_kind.entry(kind).or_default() += 1;
        if let Some(expected) = &mut self.expected {
            expected.compare(line);
        }
        if let Some(progress) = &self.progress {
            progress.inc(1);
        }
    }

    /// Writes an answer of an engine elsewhere.
    fn answered(&mut self, line: &ResultLine) -> Result<(), BulkError> {
        if line.verdict == "refused" {
            self.refused_lines += 1;
        } else {
            self.released += 1;
        }
        self.write(line)
    }

    fn write(&mut self, line: &ResultLine) -> Result<(), BulkError> {
        self.note(line);
        serde_json::to_writer(&mut self.out, line)
            .map_err(std::io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|error| BulkError::Results { path: self.path.clone(), error })
    }

    fn flush(&mut self) -> Result<(), BulkError> {
        self.out.flush().map_err(|error| BulkError::Results { path: self.path.clone(), error })
    }

    fn bad_line(&mut self, bad: &BadLine) -> Result<(), BulkError> {
        self.refused_lines += 1;
        self.write(&ResultLine::of_bad_line(bad))?;
        self.flush()
    }

    fn released(&mut self, batch: &[Released]) -> Result<(), BulkError> {
        for Released { record, latency, .. } in batch {
            self.released += 1;
            let histogram = self.latency.entry(record.request.method_label().to_owned()).or_insert_with(|| {
                Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("constant bounds that fit three digits")
            });
            histogram
                .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US).min(LATENCY_MAX_US));
            self.count_states(record);
            self.write(&ResultLine::of_record(record))?;
        }
        self.flush()
    }

    fn count_states(&mut self, record: &Record) {
        for part in record.perspectives.iter().filter(|part| part.state != PerspectiveState::NotAsked) {
            let counts = self.states.entry(part.perspective.clone()).or_default();
            *counts.entry(state_name(part.state).to_owned()).or_default() += 1;
        }
    }

    fn end_progress(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish_and_clear();
        }
    }

    fn summary(&mut self, engine: Option<&Corroborator>, seconds: f64, cpu: Duration, interrupted: bool) -> Summary {
        if let Some(expected) = self.expected.as_mut().filter(|_| !interrupted) {
            expected.missing();
        }
        let per = |total: f64, count: u64| if count == 0 { 0.0 } else { total / count as f64 };
        let states = &mut self.states;
        let perspectives = engine
            .map(Corroborator::nodes)
            .unwrap_or_default()
            .iter()
            .map(|(id, driver, stats)| {
                let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                PerspectiveSummary {
                    perspective: id.to_string(),
                    driver,
                    tasks: read(&stats.tasks),
                    states: states.remove(id).unwrap_or_default(),
                    cpu_us_per_task: per(read(&stats.cpu_us) as f64, read(&stats.tasks)),
                    queries: read(&stats.queries),
                    connections: read(&stats.connections),
                    stray_datagrams: read(&stats.stray_datagrams),
                    mismatched_replies: read(&stats.mismatched_replies),
                }
            })
            .collect();
        let none = Arc::default();
        let stats = engine.map_or(&none, Corroborator::stats);
        Summary {
            released: self.released,
            resumed: self.resumed,
            refused_lines: self.refused_lines,
            results: std::mem::take(&mut self.by_kind),
            seconds,
            validations_per_second: if seconds > 0.0 { self.released as f64 / seconds } else { 0.0 },
            cpu_us_per_validation: per(cpu.as_micros() as f64, self.released),
            latency: self.latency.iter().map(|(method, histogram)| (method.clone(), latency_of(histogram))).collect(),
            perspectives,
            commits: stats.commits.load(Ordering::Relaxed),
            late_answers: stats.late.load(Ordering::Relaxed),
            late_contradictions: stats.late_contradictions.load(Ordering::Relaxed),
            restarts: stats.restarts.load(Ordering::Relaxed),
            rejected_reports: stats.rejected_reports.load(Ordering::Relaxed),
            compared: self.expected.as_ref().map(|e| e.compared),
            kinds: self.expected.as_ref().map(|e| e.kinds.len()),
            difference_count: self.expected.as_ref().map_or(0, |e| e.difference_count),
            differences: self.expected.as_mut().map_or_else(Vec::new, |e| std::mem::take(&mut e.differences)),
            interrupted,
        }
    }
}

fn latency_of(histogram: &Histogram<u64>) -> Latency {
    let ms = |us: u64| us as f64 / 1000.0;
    Latency {
        count: histogram.len(),
        p50_ms: ms(histogram.value_at_quantile(0.5)),
        p90_ms: ms(histogram.value_at_quantile(0.9)),
        p99_ms: ms(histogram.value_at_quantile(0.99)),
        max_ms: ms(histogram.max()),
    }
}

pub(crate) fn progress_bar(lines: Option<u64>) -> indicatif::ProgressBar {
    let bar = lines.map_or_else(indicatif::ProgressBar::no_length, indicatif::ProgressBar::new);
    let template = "{elapsed_precise} {wide_bar} {pos}/{len} ({per_sec}, {eta} left)";
    bar.with_style(
        indicatif::ProgressStyle::with_template(template).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
    )
}

/// A terminal state in words.
#[must_use]
pub fn state_name(state: PerspectiveState) -> &'static str {
    match state {
        PerspectiveState::Confirmed => "confirmed",
        PerspectiveState::Contradicted => "contradicted",
        PerspectiveState::Failed => "failed",
        PerspectiveState::TimedOut => "timed out",
        PerspectiveState::Cancelled => "cancelled",
        PerspectiveState::RejectedReply => "rejected reply",
        PerspectiveState::NotAwaited => "not awaited",
        PerspectiveState::NotAsked => "not asked",
    }
}
