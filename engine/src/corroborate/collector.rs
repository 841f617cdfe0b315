//! Takes one perspective's reports, judges them, and counts.

use std::{
    collections::HashMap,
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use parallax_protocol::{AttemptId, Report};
use parallax_validation::{
    base::perspective::{PerspectiveId, Rir, Role},
    observation::{ControlObservation, Observation},
    record::{RejectedEntry, Rejection, Rules, determine, role_at},
    verdict::PerspectiveState,
};

use super::{
    EngineStats,
    attempt::{Attempt, Confirmed, Expected, ToDecider},
    clock::Clock,
};
use crate::{
    log::{Event, Log},
    tally::{Arrival, Evidence},
};

/// Expected reports from which on a collector looks for forgotten ones.
const FORGET_EXPECTED_MIN: usize = 16_384;

/// Entries about rejected reports that one link may have in the journal in a minute; others are counted.
const REJECTED_ENTRIES_PER_MINUTE: u32 = 60;

/// How often a collector whose perspective says nothing takes in what it is to expect.
const SILENCE: Duration = Duration::from_secs(1);

/// Keeps a link that has gone mad from filling the journal.
#[derive(Debug, Default)]
pub(super) struct RejectedLimit {
    since: Option<Instant>,
    entries: u32,
    suppressed: u64,
    /// The latest that was suppressed.
    latest: Option<(AttemptId, Rejection)>,
}

impl RejectedLimit {
    /// Whether there is room for an entry, and how many had none before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(60)) {
            (self.since, self.entries) = (Some(now), 0);
        }
        if self.entries < REJECTED_ENTRIES_PER_MINUTE {
            self.entries += 1;
            Some(self.suppressed)
        } else {
            self.suppressed += 1;
            None
        }
    }
}

pub(super) struct Collector {
    /// The perspective's number; those on trial come after the others.
    pub(super) index: usize,
    pub(super) perspective: PerspectiveId,
    pub(super) rir: Rir,
    pub(super) rules: Arc<Rules>,
    pub(super) expect: Receiver<(AttemptId, Expected)>,
    pub(super) expected: HashMap<AttemptId, Expected>,
    pub(super) decider: Sender<ToDecider>,
    pub(super) fan_out: Sender<Confirmed>,
    pub(super) stats: Arc<EngineStats>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Arc<dyn Log>,
    pub(super) rejected: RejectedLimit,
    /// Reports this late are answered by nobody: their perspective was given up long ago.
    pub(super) forget_after: Duration,
    pub(super) forget_at: usize,
}

impl Collector {
    pub(super) const FORGET_AT: usize = FORGET_EXPECTED_MIN;

    pub(super) fn run(mut self, reports: &Receiver<Vec<Report>>) {
        loop {
            match reports.recv_timeout(SILENCE) {
                Ok(batch) => self.take_batch(batch),
                // What is expected of a silent perspective is forgotten in time.
                Err(RecvTimeoutError::Timeout) => self.take_batch(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.end();
    }

    /// Nothing more comes: those that were suppressed get an entry.
    pub(super) fn end(&mut self) {
        if let Some((attempt, why)) = self.rejected.latest.take() {
            let suppressed = self.rejected.suppressed - 1;
            self.tell(attempt, why, suppressed);
        }
    }

    pub(super) fn take_batch(&mut self, batch: Vec<Report>) {
        // What was asked was announced before it was sent, so every announcement is here by now.
        self.expected.extend(self.expect.try_iter());
        for report in batch {
            self.take(report);
        }
        if self.expected.len() >= self.forget_at {
            let (now, after) = (self.clock.instant(), self.forget_after);
            self.expected.retain(|_, expected| now.duration_since(expected.asked) < after);
            self.forget_at = FORGET_EXPECTED_MIN.max(self.expected.len() * 2);
        }
    }

    fn take(&mut self, mut report: Report) {
        let attempt = report.header.attempt;
        let Some(Expected { nonce, attempt: asked, .. }) = self.expected.remove(&attempt) else {
            return self.reject(attempt, Rejection::Unasked);
        };
        let wrong = if report.header.nonce != nonce {
            Some(Rejection::Nonce)
        } else if report.perspective != self.perspective {
            Some(Rejection::Perspective)
        } else if report.rir != self.rir {
            Some(Rejection::Region)
        } else if *report.header.setup != *self.rules.digest() {
            Some(Rejection::Setup)
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.reject(attempt, wrong);
            return self.count(&asked, Evidence::None(PerspectiveState::RejectedReply), false);
        }
        // An attempt asks for no survey, and none is kept.
        report.observation.survey = None;
        let role = asked.place_of(self.index).map_or(Role::Trial, role_at);
        let judged = || determine(&self.rules, role, &asked.request, &report.observation).confirms();
        // Evidence that breaks the judge confirms nothing, and stops nothing else. Nothing of it is kept.
        match std::panic::catch_unwind(AssertUnwindSafe(judged)) {
            Ok(confirms) => self.count(&asked, Evidence::Observed(report.observation), confirms),
            Err(_) => {
                self.reject(attempt, Rejection::Unjudged);
                self.count(&asked, Evidence::None(PerspectiveState::RejectedReply), false);
            }
        }
    }

    /// On trial: recorded once, and never counted. What comes after its time has its entry already.
    fn try_out(&self, attempt: &Arc<Attempt>, evidence: Evidence) {
        let trial = self.index.checked_sub(self.rules.setup().perspectives.len());
        if trial.is_some_and(|trial| attempt.tries_first(trial)) {
            let _ = self.decider.send(ToDecider::Trial(Arc::clone(attempt), self.index, evidence));
        }
    }

    fn reject(&mut self, attempt: AttemptId, why: Rejection) {
        EngineStats::add(&self.stats.rejected_reports, 1);
        match self.rejected.admit(self.clock.instant()) {
            Some(suppressed) => self.tell(attempt, why, suppressed),
            None => self.rejected.latest = Some((attempt, why)),
        }
    }

    fn tell(&mut self, attempt: AttemptId, why: Rejection, suppressed: u64) {
        (self.rejected.suppressed, self.rejected.latest) = (0, None);
        self.log.tell(&Event::ReportRejected { perspective: &self.perspective, attempt, why, suppressed });
        let perspective = self.perspective.clone();
        let entry = RejectedEntry { received: self.clock.now(), perspective, attempt, why, suppressed };
        let _ = self.decider.send(ToDecider::Rejected(entry));
    }

    fn count(&self, attempt: &Arc<Attempt>, evidence: Evidence, confirms: bool) {
        let Some(place) = attempt.place_of(self.index) else {
            return self.try_out(attempt, evidence);
        };
        // The primary's evidence is gone once it is counted.
        let targets = match &evidence {
            Evidence::Observed(observation) if place == 0 && confirms => targets(observation),
            Evidence::Observed(_) | Evidence::None(_) => Vec::new(),
        };
        // A send fails only if the decider ended because the journal failed: then nothing is released.
        match attempt.tally.arrive(place, evidence, confirms) {
            Arrival::Counted { ready } => {
                if ready {
                    let _ = self.decider.send(ToDecider::Ready(Arc::clone(attempt)));
                } else if place == 0 && confirms && attempt.primary_first {
                    let _ = self.fan_out.send(Confirmed { attempt: Arc::clone(attempt), targets });
                }
            }
            Arrival::Late(evidence) => {
                let _ = self.decider.send(ToDecider::Late(Arc::clone(attempt), self.index, evidence));
            }
        }
    }
}

/// The addresses of the applicant's servers that an observation connected to.
fn targets(seen: &Observation) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = seen.control.iter().flat_map(ControlObservation::connected).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
