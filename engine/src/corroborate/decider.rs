//! Decides, records, and releases.

use std::sync::{Arc, OnceLock, atomic::Ordering};

use crossbeam::channel::{Receiver, Sender};
use parallax_validation::{
    explain::Blame,
    record::{LateEntry, PerspectiveRecord, Record, Reply, Rules, determine, perspective_record, role_at},
    verdict::{Answer, PerspectiveState},
};

use super::{
    ENTRY_LATE, ENTRY_RECORD, ENTRY_REJECTED, ENTRY_TRIAL, EngineStats, Failure, Released,
    attempt::{Attempt, Settled, ToDecider},
    clock::Clock,
};
use crate::{
    admission::Ending,
    captures::worth_a_look,
    journal::{JournalError, Writer},
    log::{Event, Log},
    tally::Evidence,
};

/// What an outcome says about whoever asked.
fn ending(record: &Record) -> Ending {
    if record.restarted
        || record.request.restrictions.dry_run
        || (!record.permits() && record.explanation.blame == Some(Blame::Perspective))
    {
        Ending::Neither
    } else if record.permits() {
        Ending::Passed
    } else {
        Ending::Failed
    }
}

/// Records that share one commit.
const COMMIT_RECORDS_MAX: usize = 256;

/// Where records are made durable.
pub trait Ledger: Send {
    /// Takes an entry that is durable after the next commit.
    ///
    /// # Errors
    /// As [`Writer::append`].
    fn append(&mut self, kind: u8, payload: &[u8]) -> Result<(), JournalError>;

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// As [`Writer::commit`]; then nothing more may be released.
    fn commit(&mut self) -> Result<(), JournalError>;

    /// Entries that wait for a commit.
    fn buffered(&self) -> usize;
}

impl Ledger for Writer {
    fn append(&mut self, kind: u8, payload: &[u8]) -> Result<(), JournalError> {
        Self::append(self, kind, payload).map(|_| ())
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        Self::commit(self)
    }

    fn buffered(&self) -> usize {
        Self::buffered(self)
    }
}

pub(super) struct Decider {
    pub(super) rules: Arc<Rules>,
    pub(super) ledger: Box<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Arc<dyn Log>,
    pub(super) released: Sender<Vec<Released>>,
    pub(super) settled: Sender<Vec<Settled>>,
    pub(super) failure: Arc<OnceLock<Failure>>,
    pub(super) stats: Arc<EngineStats>,
}

impl Decider {
    pub(super) fn run(mut self, ready: &Receiver<ToDecider>) {
        while let Ok(first) = ready.recv() {
            if self.settle_with(first, ready).is_err() {
                return;
            }
        }
    }

    /// Settles `first` with what else waits. An error stops the engine.
    pub(super) fn settle_with(&mut self, first: ToDecider, ready: &Receiver<ToDecider>) -> Result<(), JournalError> {
        let batch = std::iter::once(first).chain(ready.try_iter().take(COMMIT_RECORDS_MAX - 1)).collect();
        self.settle(batch).inspect_err(|error| {
            // Set once, here. Dropping the channels stops everything; nothing more is released.
            let _ = self.failure.set(Failure::Journal(error.clone()));
        })
    }

    /// Records a batch, makes it durable, and only then releases it (req E10).
    pub(super) fn settle(&mut self, batch: Vec<ToDecider>) -> Result<(), JournalError> {
        let mut decided = Vec::new();
        for item in batch {
            match item {
                ToDecider::Ready(attempt) => {
                    let record = self.decide(&attempt);
                    let record = self.append_record(record)?;
                    decided.push((record, attempt));
                }
                ToDecider::Late(attempt, index, evidence) => {
                    if let Some(entry) = self.late(&attempt, index, evidence) {
                        self.append_answer(ENTRY_LATE, &entry)?;
                    }
                }
                ToDecider::Trial(attempt, index, evidence) => {
                    if let Some(entry) = self.tried(&attempt, index, evidence) {
                        self.append_answer(ENTRY_TRIAL, &entry)?;
                    }
                }
                ToDecider::Rejected(entry) => self.append(ENTRY_REJECTED, &entry)?,
            }
        }
        self.ledger.commit()?;
        EngineStats::add(&self.stats.commits, 1);
        let now = self.clock.instant();
        let (mut released, mut settled) = (Vec::with_capacity(decided.len()), Vec::with_capacity(decided.len()));
        for (record, attempt) in decided {
            settled.push(Settled {
                ending: ending(&record),
                packets_of: worth_a_look(record.permits(), record.perspectives.iter().map(|one| one.state)),
                restarts: record.restarted,
                attempt: Arc::clone(&attempt),
            });
            if record.restarted {
                EngineStats::add(&self.stats.restarts, 1);
            } else {
                let latency = now.duration_since(attempt.submitted);
                released.push(Released { record, tag: attempt.tag, latency });
            }
        }
        if !released.is_empty() {
            // Whoever wanted the outcomes may be gone, as after Ctrl-C; the records are safe all the same.
            let _ = self.released.send(released);
        }
        let _ = self.settled.send(settled);
        Ok(())
    }

    fn append(&mut self, kind: u8, entry: &impl serde::Serialize) -> Result<(), JournalError> {
        let text = serde_json::to_vec(entry).expect("records hold only text, numbers, lists and maps with text keys");
        match self.ledger.append(kind, &text) {
            // Nothing of this batch is released before its last commit, so an early one is safe.
            Err(JournalError::BatchFull { .. }) if self.ledger.buffered() > 0 => {
                self.ledger.commit()?;
                self.ledger.append(kind, &text)
            }
            other => other,
        }
    }

    /// Appends an answer that changes no verdict.
    fn append_answer(&mut self, kind: u8, entry: &LateEntry) -> Result<(), JournalError> {
        match self.append(kind, entry) {
            Err(JournalError::PayloadTooLarge { .. }) => {
                self.log.tell(&Event::AnswerNotKept { request: &entry.request });
                Ok(())
            }
            other => other,
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
                let members = self.rules.members(record.started, record.seed).unwrap_or_default();
                let record = Record::new(&self.rules, &record.terms(&members), record.decided, replies);
                self.append(ENTRY_RECORD, &record)?;
                Ok(record)
            }
            other => other.map(|()| record),
        }
    }

    fn decide(&self, attempt: &Attempt) -> Record {
        let snapshot = attempt.tally.close();
        let remotes_asked = attempt.asked_remotes.get().is_some();
        let replies = (0..attempt.members.len())
            .map(|place| match attempt.tally.take(snapshot, place) {
                Some(Evidence::Observed(observation)) => Reply::Observed(*observation),
                Some(Evidence::None(state)) => Reply::None(state),
                None if place > 0 && !remotes_asked => Reply::None(PerspectiveState::NotAsked),
                None => Reply::None(PerspectiveState::NotAwaited),
            })
            .collect();
        let record = Record::new(&self.rules, &attempt.terms(), self.clock.now(), replies);
        // Relaxed: written and read by this thread alone.
        attempt.permitted.store(record.permits(), Ordering::Relaxed);
        record
    }

    fn late(&self, attempt: &Attempt, index: usize, evidence: Evidence) -> Option<LateEntry> {
        let Evidence::Observed(_) = evidence else { return None };
        let entry = self.uncounted(attempt, index, evidence)?;
        EngineStats::add(&self.stats.late, 1);
        if entry.contradicts_verdict {
            EngineStats::add(&self.stats.late_contradictions, 1);
            self.log.tell(&Event::LateContradiction {
                perspective: &entry.perspective.perspective,
                attempt: entry.attempt,
                request: &entry.request,
            });
        }
        Some(entry)
    }

    fn tried(&self, attempt: &Attempt, index: usize, evidence: Evidence) -> Option<LateEntry> {
        EngineStats::add(&self.stats.trial_answers, u64::from(matches!(evidence, Evidence::Observed(_))));
        self.uncounted(attempt, index, evidence)
    }

    /// An answer that changes no verdict, and whether it goes against a permission that was released.
    fn uncounted(&self, attempt: &Attempt, index: usize, evidence: Evidence) -> Option<LateEntry> {
        let role = role_at(attempt.place_of(index).unwrap_or(index));
        let (answer, reply) = match evidence {
            Evidence::Observed(observation) => {
                let determination = determine(&self.rules, role, &attempt.request, &observation);
                (Answer::Determined(determination), Reply::Observed(*observation))
            }
            Evidence::None(state) => (Answer::None(state), Reply::None(state)),
        };
        let setup = self.rules.setup();
        let id = &setup.perspectives.iter().chain(&setup.conduct.trials).nth(index)?.id;
        // Before the verdict, after its perspective was given up, it goes against what the primary confirmed.
        let against = match attempt.tally.is_closed() {
            true => attempt.permitted.load(Ordering::Relaxed),
            false => attempt.tally.primary_confirmed(),
        };
        Some(LateEntry {
            attempt: attempt.id,
            request: attempt.request.id.clone(),
            received: self.clock.now(),
            contradicts_verdict: answer.state() == PerspectiveState::Contradicted && against,
            perspective: perspective_record(id, &answer, Some(reply)),
        })
    }
}
