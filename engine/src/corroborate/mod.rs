//! The threads that carry attempts from request to released verdict.
//!
//! ```text
//! submit → dispatcher ─ tasks in batches ─▶ nodes ─ reports ─▶ collectors (one a perspective)
//!              ▲  ▲                                               │ tally, without a lock
//!              │  └───────── primary confirmed: ask remotes ──────┤
//!              └─ room ─ decider: judge, decide, record, fsync ◀──┘ ready
//!                            └─▶ released outcomes
//! ```
//!
//! Invariants: every submitted request is released exactly once, after its record is durable, or not at
//! all because the journal failed; every asked perspective ends in exactly one terminal state; nothing of
//! one attempt is used for another.

mod attempt;
mod clock;
mod collector;
mod decider;
mod dispatcher;
mod link;
mod opener;
mod pass_rate;
mod remote;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use parallax_node::{NodeConfig, NodeError, NodeStats, captures::CaptureError};
use parallax_protocol::{
    Report,
    transport::{Identity, IdentityError},
};
use parallax_validation::{
    base::perspective::PerspectiveId,
    record::{Record, Restart, Rules},
    request::CheckRequest,
};
use thiserror::Error;

pub(crate) use self::opener::Opener;
use self::{
    attempt::Submission,
    collector::{Collector, RejectedLimit},
    decider::Decider,
    dispatcher::{Channels, Dispatcher, Shared},
    link::Link,
};
pub use self::{
    clock::{Clock, SystemClock},
    decider::Ledger,
    link::Way,
    remote::{Expectation, LinkStats},
};
use crate::{
    captures::Captures,
    config::Config,
    journal::{JournalError, Writer},
    log::Log,
};

/// Journal entry: a [`parallax_validation::record::Setup`].
pub const ENTRY_SETUP: u8 = 1;
/// Journal entry: a [`Record`].
pub const ENTRY_RECORD: u8 = 2;
/// Journal entry: a [`parallax_validation::record::LateEntry`].
pub const ENTRY_LATE: u8 = 3;
/// Journal entry: a [`parallax_validation::record::LateEntry`] of a perspective on trial.
pub const ENTRY_TRIAL: u8 = 5;
/// Journal entry: a [`parallax_validation::record::RejectedEntry`].
pub const ENTRY_REJECTED: u8 = 6;

/// Batches of released verdicts that wait for their reader; it holds the decider back.
const RELEASED_BATCHES_MAX: usize = 16;
/// Requests handed over that the dispatcher has not put in line yet.
const REQUESTS_QUEUED_MAX: usize = 32;

/// The engine cannot go on.
#[derive(Debug, Error)]
pub enum EngineError {
    /// A node did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The journal failed: no verdict was released since.
    #[error("the journal failed, and no verdict is released without its record: {0}")]
    Journal(JournalError),
    /// No thread.
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    /// Who this engine is to its nodes.
    #[error("tls: {0}")]
    Identity(#[from] IdentityError),
    /// Where packets are to be kept.
    #[error("journal.captures_mib: {0}")]
    Captures(#[from] CaptureError),
    /// No policy row is in force, or the remotes cannot form a quorum under it.
    #[error("no quorum is possible under the policy row in force now")]
    NoQuorum,
    /// The primary's node ended; what it said stands on standard error.
    #[error("the primary perspective's node ended")]
    Primary,
    /// The clock was moved.
    #[error(
        "the system's clock was moved by {moved_ms} ms while the engine ran, so it cannot be trusted to pick the \
         policy row in force; set it right and start again"
    )]
    Clock {
        /// Forward if positive.
        moved_ms: i64,
    },
    /// A thread of the engine ended before its time.
    #[error("a thread of the engine ended before its time")]
    Stopped,
}

/// Why an engine stopped by itself.
#[derive(Debug)]
enum Failure {
    Journal(JournalError),
    NoQuorum,
    Primary,
    Clock { moved_ms: i64 },
}

impl Failure {
    fn error(&self) -> EngineError {
        match self {
            Self::Journal(error) => EngineError::Journal(error.clone()),
            Self::NoQuorum => EngineError::NoQuorum,
            Self::Primary => EngineError::Primary,
            Self::Clock { moved_ms } => EngineError::Clock { moved_ms: *moved_ms },
        }
    }
}

/// A verdict with its record on disk.
#[derive(Debug)]
pub struct Released {
    /// The record.
    pub record: Record,
    /// What it was submitted under.
    pub tag: u64,
    /// From submission to release.
    pub latency: Duration,
}

/// Counters of the engine.
#[derive(Debug, Default)]
pub struct EngineStats {
    /// Answers that came after the verdict.
    pub late: AtomicU64,
    /// Late answers that go against a permission: an alarm.
    pub late_contradictions: AtomicU64,
    /// Reports that answer nothing that was asked: an alarm.
    pub rejected_reports: AtomicU64,
    /// Perspectives given up because they were silent.
    pub timed_out: AtomicU64,
    /// Attempts whose outcome was not released, since the whole process started afresh.
    pub restarts: AtomicU64,
    /// Answers of perspectives on trial.
    pub trial_answers: AtomicU64,
    /// Requests that wait to be begun, now.
    pub waiting: AtomicU64,
    /// Commits of the journal.
    pub commits: AtomicU64,
}

impl EngineStats {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// A running engine.
pub struct Corroborator {
    requests: Option<Sender<Submission>>,
    dispatcher: Option<JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
    shared: Shared,
    nodes: Vec<(PerspectiveId, &'static str, Arc<NodeStats>)>,
    links: Vec<(PerspectiveId, Arc<LinkStats>)>,
    /// Carries the links.
    runtime: Option<tokio::runtime::Runtime>,
    /// Waits for the links, so it goes last.
    captures: Option<Captures>,
}

impl Corroborator {
    /// Starts with nodes in this process and links to those elsewhere, as whom the settings or `identity` say. Once `stop` is set nothing more is begun: what waits is left, and what is in
    /// flight is finished. Released verdicts come over the receiver in batches; it ends when all
    /// submitted requests have been released after [`Corroborator::finish`], or when the journal failed.
    ///
    /// # Errors
    /// A node that does not start, or a journal that cannot take the setup.
    pub fn start(
        config: &Config,
        identity: Option<&Arc<Identity>>,
        mut journal: Writer,
        log: Arc<dyn Log>,
        stop: Arc<AtomicBool>,
    ) -> Result<(Self, Receiver<Vec<Released>>), EngineError> {
        write_setup(&config.rules, &mut journal).map_err(EngineError::Journal)?;
        let captures = Captures::start(journal.directory(), &config.journal)?;
        let mut opener = Opener::new(config, identity, Arc::clone(&log))?.with_captures(captures.as_ref());
        let (mut engine, released) =
            Self::start_with(config, Box::new(journal), Arc::new(SystemClock), (log, stop), |settings, reports| {
                opener.open(settings, reports)
            })?;
        (engine.nodes, engine.links, engine.runtime) = (opener.nodes, opener.links, opener.runtime);
        engine.captures = captures;
        Ok((engine, released))
    }

    /// Starts with perspectives that `open` opens, each to report on the sender it is given. The ledger has the setup
    /// already.
    ///
    /// # Errors
    /// Those of `open`, or no thread.
    pub fn start_with(
        config: &Config,
        ledger: Box<dyn Ledger>,
        clock: Arc<dyn Clock>,
        (log, stop): (Arc<dyn Log>, Arc<AtomicBool>),
        mut open: impl FnMut(&NodeConfig, &Sender<Vec<Report>>) -> Result<Box<dyn Way>, EngineError>,
    ) -> Result<(Self, Receiver<Vec<Released>>), EngineError> {
        let rules = Arc::new(config.rules.clone());
        let shared = Shared { rules, clock, log, stats: Arc::default(), failure: Arc::default(), stop };
        let (ready_in, ready_out) = unbounded();
        let (fan_in, fan_out) = unbounded();
        let (settled_in, settled_out) = unbounded();
        let (released_in, released_out) = bounded(RELEASED_BATCHES_MAX);
        let (requests_in, requests_out) = bounded(REQUESTS_QUEUED_MAX);
        let mut links = Vec::new();
        let mut threads = Vec::new();
        for (index, settings) in config.nodes.iter().enumerate() {
            let (reports_in, reports_out) = unbounded();
            let (expect_in, expect_out) = unbounded();
            let way = open(settings, &reports_in)?;
            drop(reports_in);
            let collector = Collector {
                index,
                perspective: settings.perspective.clone(),
                rir: settings.rir,
                rules: Arc::clone(&shared.rules),
                expect: expect_out,
                expected: HashMap::new(),
                decider: ready_in.clone(),
                fan_out: fan_in.clone(),
                stats: Arc::clone(&shared.stats),
                clock: Arc::clone(&shared.clock),
                log: Arc::clone(&shared.log),
                rejected: RejectedLimit::default(),
                forget_after: patience(config) * 2,
                forget_at: Collector::FORGET_AT,
            };
            threads.push(spawn(format!("collect {}", settings.perspective), move || collector.run(&reports_out))?);
            links.push(Link {
                way,
                expect: expect_in,
                pending: VecDeque::new(),
                perspective: settings.perspective.clone(),
            });
        }
        let decider = Decider {
            rules: Arc::clone(&shared.rules),
            ledger,
            clock: Arc::clone(&shared.clock),
            log: Arc::clone(&shared.log),
            released: released_in,
            settled: settled_in,
            failure: Arc::clone(&shared.failure),
            stats: Arc::clone(&shared.stats),
        };
        threads.push(spawn("decide".to_owned(), move || decider.run(&ready_out))?);
        let dispatcher = Dispatcher::new(
            shared.clone(),
            (config.engine.clone(), config.limits.clone()),
            links,
            Channels { requests: requests_out, fan_out, settled: settled_out, decider: ready_in },
            rand::make_rng(),
        );
        drop(fan_in);
        let dispatcher = spawn("dispatch".to_owned(), move || dispatcher.run())?;
        let engine = Self {
            requests: Some(requests_in),
            dispatcher: Some(dispatcher),
            threads,
            shared,
            nodes: Vec::new(),
            links: Vec::new(),
            runtime: None,
            captures: None,
        };
        Ok((engine, released_out))
    }

    /// Hands over a request, and the attempt that it follows if perspectives disagreed in one; waits while the
    /// engine is full.
    ///
    /// # Errors
    /// The journal failed, or a thread ended.
    pub fn submit(&self, request: CheckRequest, restart: Option<Restart>) -> Result<(), EngineError> {
        self.submit_as(0, request, restart)
    }

    /// The same under a name of the submitter's, by which the verdict comes back.
    ///
    /// # Errors
    /// As [`Corroborator::submit`].
    pub fn submit_as(&self, tag: u64, request: CheckRequest, restart: Option<Restart>) -> Result<(), EngineError> {
        let requests = self.requests.as_ref().ok_or(EngineError::Stopped)?;
        let submission = Submission { request, restart, tag, submitted: self.shared.clock.instant() };
        requests.send(submission).map_err(|_| self.why_stopped())
    }

    fn why_stopped(&self) -> EngineError {
        self.shared.failure.get().map_or(EngineError::Stopped, Failure::error)
    }

    /// Says that no request follows.
    pub fn no_more(&mut self) {
        self.requests = None;
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<EngineStats> {
        &self.shared.stats
    }

    /// Each node in this process: how it does its input and output, and its counters.
    #[must_use]
    pub fn nodes(&self) -> &[(PerspectiveId, &'static str, Arc<NodeStats>)] {
        &self.nodes
    }

    /// Counters of the link to each node elsewhere.
    #[must_use]
    pub fn links(&self) -> &[(PerspectiveId, Arc<LinkStats>)] {
        &self.links
    }

    /// Waits until every submitted request is released and every straggler is recorded or given up.
    ///
    /// # Errors
    /// The journal failed, or a thread ended before its time.
    pub fn finish(&mut self) -> Result<(), EngineError> {
        self.requests = None;
        let mut sound = true;
        for thread in self.dispatcher.take().into_iter().chain(std::mem::take(&mut self.threads)) {
            sound &= thread.join().is_ok();
        }
        match self.shared.failure.get() {
            Some(failure) => Err(failure.error()),
            None if sound => Ok(()),
            None => Err(EngineError::Stopped),
        }
    }
}

impl Drop for Corroborator {
    fn drop(&mut self) {
        // Threads end by themselves once the requests end; an error was told by `finish` or is told by
        // the released channel ending early.
        let _ = self.finish();
    }
}

/// How long an asked perspective is waited for.
fn patience(config: &Config) -> Duration {
    let task_ms = u64::from(config.rules.setup().limits.task_deadline_ms);
    Duration::from_millis(task_ms + u64::from(config.engine.reply_grace_ms))
}

/// Two threads carry all links: what they do is read and write messages.
fn links_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("links").enable_all().build()
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, EngineError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(EngineError::Thread)
}

fn write_setup(rules: &Rules, journal: &mut Writer) -> Result<(), JournalError> {
    let text = serde_json::to_vec(rules.setup()).expect("a setup holds only text, numbers and lists");
    // Records name it, and earlier segments may be removed.
    journal.set_head(ENTRY_SETUP, &text)?;
    journal.commit()
}
