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

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, bounded, never, unbounded};
use jiff::Timestamp;
use parallax_node::{Full, Node, NodeError, NodeStats};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Report, Task};
use parallax_validation::{
    base::perspective::PerspectiveId,
    plan::Plan,
    record::{LateEntry, PerspectiveRecord, Record, Reply, Rules, determine, perspective_record},
    request::CheckRequest,
    verdict::{Answer, PerspectiveState},
};
use rand::{RngExt as _, rngs::StdRng};
use thiserror::Error;

use crate::{
    config::{Config, FanOut},
    journal::{JournalError, Writer},
    tally::{Arrival, Evidence, Readiness, Tally},
};

/// Journal entry: a [`parallax_validation::record::Setup`].
pub const ENTRY_SETUP: u8 = 1;
/// Journal entry: a [`Record`].
pub const ENTRY_RECORD: u8 = 2;
/// Journal entry: a [`LateEntry`].
pub const ENTRY_LATE: u8 = 3;

/// Expected reports from which on a collector looks for forgotten ones.
const FORGET_EXPECTED_MIN: usize = 16_384;
/// Batches of released verdicts that wait for their reader; it holds the decider back.
const RELEASED_BATCHES_MAX: usize = 16;
/// Records that share one commit.
const COMMIT_RECORDS_MAX: usize = 256;
/// Requests waiting to be begun; what is here is still carried out when a run is stopped.
const REQUESTS_QUEUED_MAX: usize = 32;
/// How often the dispatcher looks at deadlines.
const TICK: Duration = Duration::from_millis(20);
/// How soon it offers tasks again that a full node refused.
const FULL_RETRY: Duration = Duration::from_millis(1);

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
    /// No policy row is in force, or the remotes cannot form a quorum under it.
    #[error("no quorum is possible under the policy row in force now")]
    NoQuorum,
    /// The primary's node ended; what it said stands on standard error.
    #[error("the primary perspective's node ended")]
    Primary,
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
}

impl Failure {
    fn error(&self) -> EngineError {
        match self {
            Self::Journal(error) => EngineError::Journal(error.clone()),
            Self::NoQuorum => EngineError::NoQuorum,
            Self::Primary => EngineError::Primary,
        }
    }
}

/// A verdict with its record on disk.
#[derive(Debug)]
pub struct Released {
    /// The record.
    pub record: Record,
    /// From submission to release.
    pub latency: Duration,
}

/// One attempt on its way.
struct Attempt {
    id: AttemptId,
    request: CheckRequest,
    started: Timestamp,
    begun: Instant,
    tally: Tally,
    primary_first: bool,
    asked_remotes: OnceLock<()>,
}

/// What a collector expects.
struct Expected {
    nonce: u64,
    attempt: Arc<Attempt>,
}

enum ToDecider {
    Ready(Arc<Attempt>),
    Late(Arc<Attempt>, usize, Evidence),
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
    /// Commits of the journal.
    pub commits: AtomicU64,
}

/// A running engine with its nodes embedded.
pub struct Corroborator {
    requests: Option<Sender<CheckRequest>>,
    dispatcher: Option<JoinHandle<()>>,
    threads: Vec<JoinHandle<()>>,
    failure: Arc<OnceLock<Failure>>,
    stats: Arc<EngineStats>,
    nodes: Vec<(PerspectiveId, Arc<NodeStats>)>,
}

impl Corroborator {
    /// Starts nodes and threads. Released verdicts come over the receiver in batches; it ends when all
    /// submitted requests have been released after [`Corroborator::finish`], or when the journal failed.
    ///
    /// # Errors
    /// A node that does not start, or a journal that cannot take the setup.
    pub fn start(config: &Config, mut journal: Writer) -> Result<(Self, Receiver<Vec<Released>>), EngineError> {
        let rules = Arc::new(config.rules.clone());
        write_setup(&rules, &mut journal).map_err(EngineError::Journal)?;
        let (ready_in, ready_out) = unbounded();
        let (fan_in, fan_out) = unbounded();
        let (room_in, room_out) = unbounded();
        let (released_in, released_out) = bounded(RELEASED_BATCHES_MAX);
        let (requests_in, requests_out) = bounded(REQUESTS_QUEUED_MAX);
        let stats = Arc::new(EngineStats::default());
        let failure = Arc::new(OnceLock::new());
        let mut links = Vec::new();
        let mut threads = Vec::new();
        for (index, node_config) in config.nodes.iter().enumerate() {
            let (reports_in, reports_out) = unbounded();
            let (expect_in, expect_out) = unbounded();
            let node = Node::start(node_config, &reports_in)?;
            let collector = Collector {
                index,
                perspective: node_config.perspective.clone(),
                rules: Arc::clone(&rules),
                expect: expect_out,
                expected: HashMap::new(),
                decider: ready_in.clone(),
                fan_out: fan_in.clone(),
                stats: Arc::clone(&stats),
                forget_after: patience(config) * 2,
                forget_at: FORGET_EXPECTED_MIN,
            };
            threads.push(spawn(format!("collect {}", node_config.perspective), move || collector.run(&reports_out))?);
            links.push(Link {
                node,
                expect: expect_in,
                pending: VecDeque::new(),
                perspective: node_config.perspective.clone(),
                index,
            });
        }
        let nodes = links.iter().map(|l| (l.perspective.clone(), Arc::clone(l.node.stats()))).collect();
        let decider = Decider {
            rules: Arc::clone(&rules),
            journal,
            released: released_in,
            room: room_in,
            failure: Arc::clone(&failure),
            stats: Arc::clone(&stats),
        };
        threads.push(spawn("decide".to_owned(), move || decider.run(&ready_out))?);
        let dispatcher = Dispatcher::new(
            config,
            rules,
            links,
            Channels { requests: requests_out, fan_out, room: room_out, decider: ready_in },
            Shared { stats: Arc::clone(&stats), failure: Arc::clone(&failure) },
        );
        drop(fan_in);
        let dispatcher = spawn("dispatch".to_owned(), move || dispatcher.run())?;
        let engine = Self { requests: Some(requests_in), dispatcher: Some(dispatcher), threads, failure, stats, nodes };
        Ok((engine, released_out))
    }

    /// Hands over a request; waits while the engine is full.
    ///
    /// # Errors
    /// The journal failed, or a thread ended.
    pub fn submit(&self, request: CheckRequest) -> Result<(), EngineError> {
        let requests = self.requests.as_ref().ok_or(EngineError::Stopped)?;
        requests.send(request).map_err(|_| self.why_stopped())
    }

    fn why_stopped(&self) -> EngineError {
        self.failure.get().map_or(EngineError::Stopped, Failure::error)
    }

    /// Says that no request follows.
    pub fn no_more(&mut self) {
        self.requests = None;
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Counters of each node.
    #[must_use]
    pub fn nodes(&self) -> &[(PerspectiveId, Arc<NodeStats>)] {
        &self.nodes
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
        match self.failure.get() {
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

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, EngineError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(EngineError::Thread)
}

fn write_setup(rules: &Rules, journal: &mut Writer) -> Result<(), JournalError> {
    let text = serde_json::to_vec(rules.setup()).expect("a setup holds only text, numbers and lists");
    journal.append(ENTRY_SETUP, &text)?;
    journal.commit()
}

/// The engine's side of one node.
struct Link {
    node: Node,
    expect: Sender<(AttemptId, Expected)>,
    pending: VecDeque<(Arc<Attempt>, Task)>,
    perspective: PerspectiveId,
    index: usize,
}

impl Link {
    /// Hands pending tasks over in batches until the node is full.
    fn flush(&mut self) {
        while !self.pending.is_empty() {
            let take = self.pending.len().min(BATCH_ITEMS_MAX);
            let (attempts, batch): (Vec<_>, Vec<Task>) = self.pending.drain(..take).unzip();
            if let Err(Full(back)) = self.node.submit(batch) {
                for pair in attempts.into_iter().zip(back).rev() {
                    self.pending.push_front(pair);
                }
                return;
            }
        }
    }

    /// Drops tasks that nobody waits for any more: their attempt is closed, or this perspective was given
    /// up. A node that is slower than the rest then neither holds memory nor is kept busy for nothing.
    fn drop_stale(&mut self) {
        let index = self.index;
        self.pending.retain(|(attempt, _)| {
            if attempt.tally.is_claimed(index) {
                return false;
            }
            if attempt.tally.is_closed() {
                // The record says "not awaited"; this ends the wait for a straggler that will not come.
                let _ = attempt.tally.arrive(index, Evidence::None(PerspectiveState::Cancelled), false);
                return false;
            }
            true
        });
    }
}

struct Shared {
    stats: Arc<EngineStats>,
    failure: Arc<OnceLock<Failure>>,
}

struct Channels {
    requests: Receiver<CheckRequest>,
    fan_out: Receiver<Arc<Attempt>>,
    room: Receiver<usize>,
    decider: Sender<ToDecider>,
}

/// Begins attempts, asks perspectives, and gives silent ones up.
struct Dispatcher {
    rules: Arc<Rules>,
    links: Vec<Link>,
    channels: Channels,
    in_flight: usize,
    in_flight_max: usize,
    await_all_on_refusal: bool,
    primary_first: bool,
    patience: Duration,
    /// Asked perspectives, oldest first: every one has the same time.
    deadlines: VecDeque<(Instant, Arc<Attempt>, std::ops::Range<usize>)>,
    random: StdRng,
    stats: Arc<EngineStats>,
    failure: Arc<OnceLock<Failure>>,
}

impl Dispatcher {
    fn new(config: &Config, rules: Arc<Rules>, links: Vec<Link>, channels: Channels, shared: Shared) -> Self {
        let Shared { stats, failure } = shared;
        Self {
            rules,
            links,
            channels,
            in_flight: 0,
            in_flight_max: config.engine.attempts_in_flight,
            await_all_on_refusal: config.engine.await_all_on_refusal,
            primary_first: config.engine.fan_out == FanOut::PrimaryFirst,
            patience: patience(config),
            deadlines: VecDeque::new(),
            random: rand::make_rng(),
            stats,
            failure,
        }
    }

    fn run(mut self) {
        let mut more = true;
        loop {
            let room = self.in_flight < self.in_flight_max && self.links_have_room();
            if self.links[0].node.has_ended() {
                // Without its primary nothing can be confirmed.
                let _ = self.failure.set(Failure::Primary);
            }
            if self.failure.get().is_some() {
                return;
            }
            if !more && self.in_flight == 0 && self.stragglers_done() {
                return;
            }
            let requests = if more && room { self.channels.requests.clone() } else { never() };
            let fan_out = self.channels.fan_out.clone();
            let released = self.channels.room.clone();
            crossbeam::channel::select! {
                recv(requests) -> request => match request {
                    Ok(request) => self.begin_many(request),
                    Err(_) => more = false,
                },
                recv(fan_out) -> attempt => if let Ok(attempt) = attempt { self.ask_remotes_of_many(attempt) },
                recv(released) -> count => match count {
                    Ok(count) => self.in_flight -= count,
                    // The decider ended: the journal failed.
                    Err(_) => return,
                },
                default(self.pause()) => {}
            }
            for link in &mut self.links {
                link.flush();
            }
            self.give_up_silent();
        }
    }

    /// A link that holds as many tasks as there may be attempts first drops the stale ones.
    fn links_have_room(&mut self) -> bool {
        let most = self.in_flight_max;
        self.links.iter_mut().all(|link| {
            if link.pending.len() >= most {
                link.drop_stale();
            }
            link.pending.len() < most
        })
    }

    fn pause(&self) -> Duration {
        if self.links.iter().any(|link| !link.pending.is_empty()) { FULL_RETRY } else { TICK }
    }

    /// Every perspective that was asked has answered or had its time.
    fn stragglers_done(&mut self) -> bool {
        self.deadlines.retain(|(_, attempt, asked)| asked.clone().any(|index| !attempt.tally.is_claimed(index)));
        self.deadlines.is_empty()
    }

    fn begin_many(&mut self, first: CheckRequest) {
        self.begin(first);
        for _ in 1..BATCH_ITEMS_MAX {
            if self.in_flight >= self.in_flight_max {
                break;
            }
            match self.channels.requests.try_recv() {
                Ok(request) => self.begin(request),
                Err(_) => break,
            }
        }
    }

    fn begin(&mut self, request: CheckRequest) {
        let started = Timestamp::now();
        // Checked at start and for 24 hours on: only a clock that jumps gets here without a quorum.
        let Some((quorum, _)) = self.rules.quorum(started, started) else {
            // Set once unless the journal failed first; either stops the engine.
            let _ = self.failure.set(Failure::NoQuorum);
            return;
        };
        let readiness =
            Readiness { quorum, await_all_on_refusal: self.await_all_on_refusal, primary_first: self.primary_first };
        let attempt = Arc::new(Attempt {
            id: AttemptId(self.random.random()),
            request,
            started,
            begun: Instant::now(),
            tally: Tally::new(readiness),
            primary_first: self.primary_first,
            asked_remotes: OnceLock::new(),
        });
        self.in_flight += 1;
        if self.primary_first {
            self.ask(&attempt, 0..1);
        } else {
            self.mark_asked(&attempt);
            self.ask(&attempt, 0..self.links.len());
        }
    }

    fn mark_asked(&self, attempt: &Attempt) {
        // Set once, here, by the only dispatcher.
        let _ = attempt.asked_remotes.set(());
    }

    fn ask_remotes_of_many(&mut self, first: Arc<Attempt>) {
        let mut next = Some(first);
        for _ in 0..BATCH_ITEMS_MAX {
            let Some(attempt) = next else { break };
            self.mark_asked(&attempt);
            self.ask(&attempt, 1..self.links.len());
            next = self.channels.fan_out.try_recv().ok();
        }
    }

    fn ask(&mut self, attempt: &Arc<Attempt>, whom: std::ops::Range<usize>) {
        let limits = self.rules.setup().limits;
        for index in whom.clone() {
            let nonce: u64 = self.random.random();
            let sibling = (index == 0).then(|| format!("parallax-{:016x}", self.random.random::<u64>()));
            let mut plan = Plan::new(&attempt.request, limits, sibling.as_deref());
            plan.keep_proof = index == 0;
            // Where a failed CAA lookup may be excused, each perspective must show that its own way out works.
            plan.diagnose = index == 0 || self.rules.setup().caa.lookup_failure_permits;
            let link = &mut self.links[index];
            let expected = Expected { nonce, attempt: Arc::clone(attempt) };
            if link.expect.send((attempt.id, expected)).is_err() {
                // The collector is gone; the deadline will say so.
                continue;
            }
            let perspective = link.perspective.clone();
            let task = Task { attempt: attempt.id, nonce, perspective, plan };
            link.pending.push_back((Arc::clone(attempt), task));
        }
        self.deadlines.push_back((Instant::now() + self.patience, Arc::clone(attempt), whom));
    }

    /// Gives up perspectives that had their time: one terminal state for each (req E7).
    fn give_up_silent(&mut self) {
        let now = Instant::now();
        let answered = |(_, attempt, whom): &(Instant, Arc<Attempt>, std::ops::Range<usize>)| {
            whom.clone().all(|index| attempt.tally.is_claimed(index))
        };
        while self.deadlines.front().is_some_and(answered) {
            self.deadlines.pop_front();
        }
        while self.deadlines.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, attempt, whom)) = self.deadlines.pop_front() else { break };
            for index in whom.filter(|&index| !attempt.tally.is_claimed(index)) {
                let silence = Evidence::None(PerspectiveState::TimedOut);
                if let Arrival::Counted { ready } = attempt.tally.arrive(index, silence, false) {
                    self.stats.timed_out.fetch_add(1, Ordering::Relaxed);
                    if ready && self.channels.decider.send(ToDecider::Ready(Arc::clone(&attempt))).is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Takes one perspective's reports, judges them, and counts.
struct Collector {
    index: usize,
    perspective: PerspectiveId,
    rules: Arc<Rules>,
    expect: Receiver<(AttemptId, Expected)>,
    expected: HashMap<AttemptId, Expected>,
    decider: Sender<ToDecider>,
    fan_out: Sender<Arc<Attempt>>,
    stats: Arc<EngineStats>,
    /// Reports this late are answered by nobody: their perspective was given up long ago.
    forget_after: Duration,
    forget_at: usize,
}

impl Collector {
    fn run(mut self, reports: &Receiver<Vec<Report>>) {
        for batch in reports {
            // What was asked was announced before it was sent, so every announcement is here by now.
            self.expected.extend(self.expect.try_iter());
            for report in batch {
                self.take(report);
            }
            if self.expected.len() >= self.forget_at {
                self.expected.retain(|_, expected| expected.attempt.begun.elapsed() < self.forget_after);
                self.forget_at = FORGET_EXPECTED_MIN.max(self.expected.len() * 2);
            }
        }
    }

    fn take(&mut self, report: Report) {
        let Some(expected) = self.expected.remove(&report.attempt) else {
            self.stats.rejected_reports.fetch_add(1, Ordering::Relaxed);
            eprintln!(
                "perspective {}: a report about attempt {}, which was not asked or has been answered",
                self.perspective, report.attempt
            );
            return;
        };
        let Expected { nonce, attempt } = expected;
        if report.nonce != nonce || report.perspective != self.perspective {
            self.stats.rejected_reports.fetch_add(1, Ordering::Relaxed);
            eprintln!(
                "perspective {}: a report about attempt {} with a wrong nonce or name; it does not count",
                self.perspective, report.attempt
            );
            return self.count(&attempt, Evidence::None(PerspectiveState::RejectedReply), false);
        }
        let confirms = determine(&self.rules, self.index, &attempt.request, &report.observation).confirms();
        self.count(&attempt, Evidence::Observed(Box::new(report.observation)), confirms);
    }

    fn count(&self, attempt: &Arc<Attempt>, evidence: Evidence, confirms: bool) {
        // A send fails only if the decider ended because the journal failed: then nothing is released.
        match attempt.tally.arrive(self.index, evidence, confirms) {
            Arrival::Counted { ready } => {
                if ready {
                    let _ = self.decider.send(ToDecider::Ready(Arc::clone(attempt)));
                } else if self.index == 0 && confirms && attempt.primary_first {
                    let _ = self.fan_out.send(Arc::clone(attempt));
                }
            }
            Arrival::Late(evidence) => {
                let _ = self.decider.send(ToDecider::Late(Arc::clone(attempt), self.index, evidence));
            }
        }
    }
}

/// Decides, records, and releases.
struct Decider {
    rules: Arc<Rules>,
    journal: Writer,
    released: Sender<Vec<Released>>,
    room: Sender<usize>,
    failure: Arc<OnceLock<Failure>>,
    stats: Arc<EngineStats>,
}

impl Decider {
    fn run(mut self, ready: &Receiver<ToDecider>) {
        while let Ok(first) = ready.recv() {
            let batch = std::iter::once(first).chain(ready.try_iter().take(COMMIT_RECORDS_MAX - 1)).collect();
            if let Err(error) = self.settle(batch) {
                // Set once, here. Dropping the channels stops everything; nothing more is released.
                let _ = self.failure.set(Failure::Journal(error));
                return;
            }
        }
    }

    /// Records a batch, makes it durable, and only then releases it (req E10).
    fn settle(&mut self, batch: Vec<ToDecider>) -> Result<(), JournalError> {
        let mut decided = Vec::new();
        for item in batch {
            match item {
                ToDecider::Ready(attempt) => {
                    let record = self.decide(&attempt);
                    let record = self.append_record(record)?;
                    decided.push((record, attempt.begun));
                }
                ToDecider::Late(attempt, index, evidence) => {
                    if let Some(entry) = self.late(&attempt, index, evidence) {
                        match self.append(ENTRY_LATE, &entry) {
                            Err(JournalError::PayloadTooLarge { .. }) => {
                                eprintln!("a late answer about {} is too large to be kept", entry.request);
                            }
                            other => other?,
                        }
                    }
                }
            }
        }
        self.journal.commit()?;
        self.stats.commits.fetch_add(1, Ordering::Relaxed);
        let count = decided.len();
        let released: Vec<Released> =
            decided.into_iter().map(|(record, begun)| Released { record, latency: begun.elapsed() }).collect();
        if count > 0 {
            // Whoever wanted the outcomes may be gone, as after Ctrl-C; the records are safe all the same.
            let _ = self.released.send(released);
        }
        let _ = self.room.send(count);
        Ok(())
    }

    fn append(&mut self, kind: u8, entry: &impl serde::Serialize) -> Result<(), JournalError> {
        let text = serde_json::to_vec(entry).expect("records hold only text, numbers, lists and maps with text keys");
        match self.journal.append(kind, &text) {
            // Nothing of this batch is released before its last commit, so an early one is safe.
            Err(JournalError::BatchFull { .. }) if self.journal.buffered() > 0 => {
                self.journal.commit()?;
                self.journal.append(kind, &text).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    /// Appends a record. Evidence too large to be kept confirms nothing: it is recorded as rejected, and
    /// the verdict is made again without it, so that no subscriber can stop the journal.
    fn append_record(&mut self, record: Record) -> Result<Record, JournalError> {
        match self.append(ENTRY_RECORD, &record) {
            Err(JournalError::PayloadTooLarge { .. }) => {
                let without = |p: &PerspectiveRecord| {
                    Reply::None(if p.observation.is_some() { PerspectiveState::RejectedReply } else { p.state })
                };
                let replies = record.perspectives.iter().map(without).collect();
                let record =
                    Record::new(&self.rules, record.attempt, &record.request, record.started, record.decided, replies);
                self.append(ENTRY_RECORD, &record)?;
                Ok(record)
            }
            other => other.map(|()| record),
        }
    }

    fn decide(&self, attempt: &Attempt) -> Record {
        let snapshot = attempt.tally.close();
        let remotes_asked = attempt.asked_remotes.get().is_some();
        let replies = (0..=self.rules.remotes().len())
            .map(|index| match attempt.tally.take(snapshot, index) {
                Some(Evidence::Observed(observation)) => Reply::Observed(*observation),
                Some(Evidence::None(state)) => Reply::None(state),
                None if index > 0 && !remotes_asked => Reply::None(PerspectiveState::NotAsked),
                None => Reply::None(PerspectiveState::NotAwaited),
            })
            .collect();
        Record::new(&self.rules, attempt.id, &attempt.request, attempt.started, Timestamp::now(), replies)
    }

    fn late(&self, attempt: &Attempt, index: usize, evidence: Evidence) -> Option<LateEntry> {
        let Evidence::Observed(observation) = evidence else { return None };
        self.stats.late.fetch_add(1, Ordering::Relaxed);
        let determination = determine(&self.rules, index, &attempt.request, &observation);
        let answer = Answer::Determined(determination);
        let contradicts = answer.state() == PerspectiveState::Contradicted && attempt.tally.primary_confirmed();
        if contradicts {
            self.stats.late_contradictions.fetch_add(1, Ordering::Relaxed);
        }
        let id = &self.rules.setup().perspectives[index].id;
        Some(LateEntry {
            attempt: attempt.id,
            request: attempt.request.id.clone(),
            received: Timestamp::now(),
            perspective: perspective_record(id, &answer, Some(Reply::Observed(*observation))),
            contradicts_verdict: contradicts,
        })
    }
}

#[cfg(test)]
mod tests {
    use parallax_validation::{
        base::{address::AddressFilter, octets::Octets},
        observation::{DnsLookup, DnsOutcome, DnsTransport, Observation, RecordSet, RecordType},
        request::RawRequest,
    };

    use super::*;
    use crate::{
        audit,
        config::SAMPLE,
        journal::{FRAME_PAYLOAD_BYTES_MAX, JournalOptions},
    };

    /// A CAA answer whose text form is larger than a journal entry may be.
    fn huge_answer(name: &str) -> Observation {
        let rdata = vec![Octets(vec![0; 64]); FRAME_PAYLOAD_BYTES_MAX / 128];
        let set = RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata };
        let lookup = DnsLookup {
            name: name.to_owned(),
            rtype: RecordType::Caa,
            resolver: "192.0.2.53:53".parse().expect("an address"),
            transport: DnsTransport::Tcp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome: DnsOutcome::Answer(set),
        };
        Observation {
            started: Timestamp::now(),
            elapsed_us: 1,
            control: None,
            derivation: Vec::new(),
            caa: vec![lookup],
            hints: Vec::new(),
            budget: None,
            dnssec: parallax_validation::observation::DnssecMode::Resolver,
            links: Vec::new(),
            diagnosis: None,
        }
    }

    #[test]
    fn evidence_too_large_to_keep_confirms_nothing_and_does_not_stop_the_journal() {
        let config = Config::parse(SAMPLE, std::path::Path::new("sample"), Timestamp::now()).expect("the sample");
        let rules = Arc::new(config.rules);
        let directory = tempfile::tempdir().expect("a directory");
        let (mut journal, _) = Writer::open(directory.path(), JournalOptions::default()).expect("a journal");
        write_setup(&rules, &mut journal).expect("the setup");
        let (released_in, released) = bounded(1);
        let (room_in, room) = unbounded();
        let mut decider = Decider {
            rules: Arc::clone(&rules),
            journal,
            released: released_in,
            room: room_in,
            failure: Arc::default(),
            stats: Arc::default(),
        };
        let raw = RawRequest { identifier: "a.example".to_owned(), method: "caa".to_owned(), ..RawRequest::default() };
        let request = CheckRequest::parse(
            raw,
            "one",
            &AddressFilter::default().into(),
            "2026-11-25T12:00:00Z".parse().expect("an instant"),
        )
        .expect("a good request");
        let started = Timestamp::now();
        let (quorum, _) = rules.quorum(started, started).expect("a quorum");
        let readiness = Readiness { quorum, await_all_on_refusal: true, primary_first: true };
        let attempt = Arc::new(Attempt {
            id: AttemptId(1),
            request,
            started,
            begun: Instant::now(),
            tally: Tally::new(readiness),
            primary_first: true,
            asked_remotes: OnceLock::new(),
        });
        let evidence = Evidence::Observed(Box::new(huge_answer("a.example")));
        assert!(matches!(attempt.tally.arrive(0, evidence, false), Arrival::Counted { ready: true }));
        decider.settle(vec![ToDecider::Ready(attempt)]).expect("the journal goes on");
        let record = &released.recv().expect("released")[0].record;
        assert_eq!(record.perspectives[0].state, PerspectiveState::RejectedReply);
        assert!(!record.verdict.permits());
        assert_eq!(room.recv(), Ok(1));
        let found = audit::verify(directory.path(), std::num::NonZeroUsize::MIN).expect("a sound journal");
        assert!(found.holds() && found.records == 1, "{found:?}");
    }
}
