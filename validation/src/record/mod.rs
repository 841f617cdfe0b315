//! `Record`: the audit entry of one attempt, and its recomputation (req E1–E10).
//!
//! [`evaluate`] is the whole engine as a function: (request, replies, policy, clock) → verdict. The
//! engine calls it to decide and an auditor calls it, through [`Record::recompute`], to check. A
//! [`Setup`] holds what stays the same over many attempts; a record names it by digest.

mod setup;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::setup::{Conduct, Mode, RESTARTS_MAX, Rules, Setup, SetupError, TRIALS_MAX};
use crate::{
    base::{
        attempt::AttemptId,
        perspective::{PerspectiveId, Role},
    },
    check::{
        Determination,
        dcv::registry::{self, Row, Standing},
        judge_with,
    },
    explain::{Explanation, Seen, explain, method_ended},
    observation::Observation,
    request::CheckRequest,
    verdict::{
        Answer, PerspectiveState, Refusal, Verdict, decide, disagree, draw::CohortSeed, quorum::QuorumShortfall,
    },
};

/// Version of the form of records and setups.
pub const FORM_VERSION: u32 = 1;

/// What came from one perspective.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Its observation.
    Observed(Observation),
    /// None; the state says why.
    None(PerspectiveState),
}

/// The attempt that another follows, because perspectives disagreed in it (req H8). Nothing of it is used (req F2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// That attempt.
    pub predecessor: AttemptId,
    /// The how manieth restart of its request this is, from 1.
    pub number: u8,
}

/// The terms of one attempt, fixed before anything is asked.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Its name.
    pub attempt: AttemptId,
    /// What is asked.
    pub request: &'a CheckRequest,
    /// When it began, engine's clock.
    pub started: Timestamp,
    /// Its perspectives, as [`Rules::members`] gives them.
    pub members: &'a [u8],
    /// What they were drawn by, if they were drawn.
    pub seed: Option<CohortSeed>,
    /// Whether it is a restart.
    pub restart: Option<Restart>,
}

/// What an attempt means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The primary first.
    pub answers: Vec<Answer>,
    /// The row that governed, or none if no row did.
    pub revision: Option<String>,
    /// The outcome.
    pub verdict: Verdict,
    /// Whether the outcome is not to be released, since the whole process starts afresh (req H8).
    pub restarts: bool,
    /// What to say about it.
    pub explanation: Explanation,
}

/// Decides an attempt: a pure function of (terms, replies, policy, clock). `replies` are those of the
/// attempt's members in their order; missing ones do not confirm.
#[must_use]
pub fn evaluate(rules: &Rules, terms: &Terms<'_>, decided: Timestamp, replies: &[Reply]) -> Evaluation {
    let Terms { request, started, members, .. } = *terms;
    // Without a primary there is no determination; its place stands for it.
    let members = if members.is_empty() { &[0] } else { members };
    let observation = |index: usize| match replies.get(index) {
        Some(Reply::Observed(observation)) => Some(observation),
        Some(Reply::None(_)) | None => None,
    };
    let answers: Vec<Answer> = (0..members.len())
        .map(|index| match replies.get(index) {
            Some(Reply::Observed(observation)) => {
                Answer::Determined(determine(rules, role_at(index), request, observation))
            }
            Some(Reply::None(state)) => Answer::None(*state),
            None => Answer::None(PerspectiveState::NotAsked),
        })
        .collect();
    // As the row: the later of the two, should the clock have gone back a little.
    let latest = decided.max(started);
    let ended: Vec<&Row> =
        request.rows().filter(|row| matches!(row.standing(latest), Standing::Ended { .. })).collect();
    let (verdict, revision) = match rules.quorum(request, members, started, decided) {
        // An attempt that spans a change obeys the later rule (req A20, F6).
        quorum if !ended.is_empty() => {
            let refused = Verdict::Refused { refusal: Refusal::MethodEnded, figures: None };
            (refused, quorum.map(|(_, revision)| revision.to_owned()))
        }
        Some((quorum, revision)) => (decide(&quorum, &answers[0], &answers[1..]), Some(revision.to_owned())),
        None => (no_quorum_possible(&answers), None),
    };
    let mode = if request.restrictions.dry_run { Mode::ReportOnly } else { rules.setup().conduct.mode };
    let verdict = permitted_by(mode, verdict);
    let seen: Vec<Seen<'_>> = members
        .iter()
        .zip(&answers)
        .enumerate()
        .filter_map(|(index, (place, answer))| {
            let perspective = rules.perspective(*place)?;
            Some(Seen { perspective, observation: observation(index), answer })
        })
        .collect();
    let mut explanation = match verdict {
        Verdict::Refused { refusal: Refusal::MethodEnded, .. } => method_ended(&ended, &seen),
        _ => explain(request, &verdict, &seen),
    };
    explanation.warnings.extend(discouraged(request, decided));
    let so_far = terms.restart.map_or(0, |restart| restart.number);
    // A restart cannot help a method that has ended.
    let restarts = ended.is_empty() && so_far < rules.setup().conduct.restarts_max && disagree(&answers);
    Evaluation { answers, revision, verdict, restarts, explanation }
}

/// The part of the member at `index` of an attempt.
#[must_use]
pub fn role_at(index: usize) -> Role {
    if index == 0 { Role::Primary } else { Role::Remote }
}

/// The only way from what was counted to what may be relied on: an engine that may only report permits nothing.
fn permitted_by(mode: Mode, verdict: Verdict) -> Verdict {
    match (mode, verdict) {
        (Mode::ReportOnly, Verdict::Corroborated(figures)) => {
            Verdict::Refused { refusal: Refusal::ReportOnly, figures: Some(figures) }
        }
        (Mode::Enforcing | Mode::ReportOnly, verdict) => verdict,
    }
}

/// Methods that should not be used any more, and until when they may.
fn discouraged(request: &CheckRequest, at: Timestamp) -> Vec<String> {
    let mut texts = Vec::new();
    for row in request.rows() {
        let Standing::Discouraged { since, ends } = row.standing(at) else { continue };
        let until =
            ends.map(|ends| format!(" and may not be used from {} on", registry::day(ends))).unwrap_or_default();
        let text = format!("{row} is discouraged since {}{until}.", registry::day(since));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Judges the observation of one perspective under a setup.
#[must_use]
pub fn determine(rules: &Rules, role: Role, request: &CheckRequest, observation: &Observation) -> Determination {
    judge_with(request, observation, &rules.setup().caa, rules.suffixes(), role)
}

/// Too few remotes for the row in force: refused whatever they say.
fn no_quorum_possible(answers: &[Answer]) -> Verdict {
    let refusal = match answers[0].state() {
        PerspectiveState::Confirmed => Refusal::Quorum(QuorumShortfall::TooFewConfirmations),
        state => Refusal::Primary(state),
    };
    Verdict::Refused { refusal, figures: None }
}

/// The audit entry of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORM_VERSION`].
    pub form: u32,
    /// The attempt.
    pub attempt: AttemptId,
    /// The attempt this one follows, if perspectives disagreed in that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The [`Setup`] it was made under, by digest.
    pub setup: String,
    /// The sub-section of the TLS BR of the method, and of what leads to it, or `caa` (req E3).
    pub method: String,
    /// What was asked.
    pub request: CheckRequest,
    /// What its perspectives were drawn by, if they were drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<CohortSeed>,
    /// When the attempt began, engine's clock.
    pub started: Timestamp,
    /// When it was decided, engine's clock.
    pub decided: Timestamp,
    /// The policy row that governed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Every perspective of the cohort, the primary first (req E1).
    pub perspectives: Vec<PerspectiveRecord>,
    /// The outcome, with the figures of req E2.
    pub verdict: Verdict,
    /// Whether the outcome was not released, since perspectives disagreed and the whole process started afresh: nobody
    /// may rely on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
    /// What was said about it.
    pub explanation: Explanation,
}

/// One perspective's part in a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerspectiveRecord {
    /// Who.
    pub perspective: PerspectiveId,
    /// Its terminal state.
    pub state: PerspectiveState,
    /// Whether control was confirmed, if it was asked and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<bool>,
    /// Whether CAA permits, if it was asked and answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<bool>,
    /// The evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observation: Option<Observation>,
}

/// An answer that came after the verdict (req E9). It changes nothing, but is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LateEntry {
    /// The attempt.
    pub attempt: AttemptId,
    /// What was asked, by id.
    pub request: crate::request::RequestId,
    /// When it came, engine's clock.
    pub received: Timestamp,
    /// Who, with what state and evidence.
    pub perspective: PerspectiveRecord,
    /// Whether it goes against a permission that was released, or against the primary if there is no verdict yet.
    pub contradicts_verdict: bool,
}

/// Why a report did not count: a wrong, replayed or mis-wired one, which somebody should look into (req A12, A13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// It answers nothing that was asked, or what has been answered.
    Unasked,
    /// Its nonce is not the question's.
    Nonce,
    /// It comes in another perspective's name.
    Perspective,
    /// It comes from another region than its perspective's.
    Region,
    /// It was made under another setup than it was asked.
    Setup,
    /// Its evidence could not be judged: a fault of ours.
    Unjudged,
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unasked => "it answers nothing that was asked, or what has been answered",
            Self::Nonce => "its nonce is not the question's",
            Self::Perspective => "it comes in another perspective's name",
            Self::Region => "it comes from another region than its perspective's",
            Self::Setup => "it was made under another setup than it was asked",
            Self::Unjudged => "its evidence could not be judged, which is a fault of ours",
        })
    }
}

/// A report that did not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedEntry {
    /// When it came, engine's clock.
    pub received: Timestamp,
    /// By whose link.
    pub perspective: PerspectiveId,
    /// The attempt that it names.
    pub attempt: AttemptId,
    /// Why it did not count.
    pub why: Rejection,
    /// Others by this link since the last entry, which have no entry of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub suppressed: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a record differs from its recomputation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Another form of record.
    #[error("form {0} is not known to this version")]
    Form(u32),
    /// The setup is another one.
    #[error("the record names another setup")]
    Setup,
    /// The perspectives are not the setup's.
    #[error("the perspectives are not those of the setup, or not those that its seed draws")]
    Perspectives,
    /// A perspective's state or results.
    #[error("{perspective}: recorded as {recorded}, recomputed as {recomputed}")]
    Perspective {
        /// Who.
        perspective: PerspectiveId,
        /// In the record.
        recorded: String,
        /// Now.
        recomputed: String,
    },
    /// A terminal state that only evidence can give, without evidence.
    #[error("{0}: a state that needs an observation, and there is none")]
    NoEvidence(PerspectiveId),
    /// The outcome.
    #[error("the verdict differs: recorded {recorded}, recomputed {recomputed}")]
    Verdict {
        /// In the record.
        recorded: String,
        /// Now.
        recomputed: String,
    },
    /// Whether the process started afresh.
    #[error("started afresh: recorded {recorded}, recomputed {recomputed}")]
    Restarted {
        /// In the record.
        recorded: bool,
        /// Now.
        recomputed: bool,
    },
    /// The sections of the method.
    #[error("the method differs: recorded {recorded}, recomputed {recomputed}")]
    Method {
        /// In the record.
        recorded: String,
        /// Now.
        recomputed: String,
    },
    /// The policy row.
    #[error("the policy row differs: recorded {recorded}, recomputed {recomputed}")]
    Policy {
        /// In the record.
        recorded: String,
        /// Now.
        recomputed: String,
    },
}

impl Record {
    /// Makes the record of an attempt from what was decided and nothing else.
    #[must_use]
    pub fn new(rules: &Rules, terms: &Terms<'_>, decided: Timestamp, replies: Vec<Reply>) -> Self {
        let evaluation = evaluate(rules, terms, decided, &replies);
        let mut replies = replies.into_iter();
        let perspectives = terms
            .members
            .iter()
            .filter_map(|place| rules.perspective(*place))
            .zip(&evaluation.answers)
            .map(|(perspective, answer)| perspective_record(&perspective.id, answer, replies.next()))
            .collect();
        Self {
            form: FORM_VERSION,
            attempt: terms.attempt,
            restart: terms.restart,
            setup: rules.digest().to_owned(),
            method: terms.request.sections().unwrap_or_else(|| "caa".to_owned()),
            request: terms.request.clone(),
            seed: terms.seed,
            started: terms.started,
            decided,
            policy: evaluation.revision,
            perspectives,
            verdict: evaluation.verdict,
            restarted: evaluation.restarts,
            explanation: evaluation.explanation,
        }
    }

    /// Its terms, with its members.
    #[must_use]
    pub fn terms<'a>(&'a self, members: &'a [u8]) -> Terms<'a> {
        Terms {
            attempt: self.attempt,
            request: &self.request,
            started: self.started,
            members,
            seed: self.seed,
            restart: self.restart,
        }
    }

    /// Whether issuance may rely on it.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.verdict.permits() && !self.restarted
    }

    /// What came from each perspective, as recorded.
    ///
    /// # Errors
    /// A state that needs evidence, without any.
    pub fn replies(&self) -> Result<Vec<Reply>, Mismatch> {
        self.perspectives.iter().map(reply_of).collect()
    }

    /// Judges the evidence and decides again, and compares.
    ///
    /// # Errors
    /// The first difference.
    pub fn recompute(&self, rules: &Rules) -> Result<(), Mismatch> {
        if self.form != FORM_VERSION {
            return Err(Mismatch::Form(self.form));
        }
        if self.setup != rules.digest() {
            return Err(Mismatch::Setup);
        }
        let members = rules.members(self.started, self.seed).ok_or(Mismatch::Perspectives)?;
        let named = members.iter().filter_map(|place| rules.perspective(*place)).map(|perspective| &perspective.id);
        if !self.perspectives.iter().map(|part| &part.perspective).eq(named) {
            return Err(Mismatch::Perspectives);
        }
        let replies = self.replies()?;
        let again = Self::new(rules, &self.terms(&members), self.decided, replies);
        for (recorded, recomputed) in self.perspectives.iter().zip(&again.perspectives) {
            if summary(recorded) != summary(recomputed) {
                return Err(Mismatch::Perspective {
                    perspective: recorded.perspective.clone(),
                    recorded: format!("{:?}", summary(recorded)),
                    recomputed: format!("{:?}", summary(recomputed)),
                });
            }
        }
        if self.method != again.method {
            let (recorded, recomputed) = (self.method.clone(), again.method.clone());
            return Err(Mismatch::Method { recorded, recomputed });
        }
        let as_text = |policy: &Option<String>| policy.clone().unwrap_or_else(|| "none".to_owned());
        if self.policy != again.policy {
            return Err(Mismatch::Policy { recorded: as_text(&self.policy), recomputed: as_text(&again.policy) });
        }
        if self.verdict != again.verdict {
            let (recorded, recomputed) = (format!("{:?}", self.verdict), format!("{:?}", again.verdict));
            return Err(Mismatch::Verdict { recorded, recomputed });
        }
        if self.restarted != again.restarted {
            return Err(Mismatch::Restarted { recorded: self.restarted, recomputed: again.restarted });
        }
        Ok(())
    }
}

/// One perspective's part, from its answer and its evidence.
#[must_use]
pub fn perspective_record(perspective: &PerspectiveId, answer: &Answer, reply: Option<Reply>) -> PerspectiveRecord {
    let (control, caa) = match answer {
        Answer::Determined(determination) => (determination.control_confirmed(), determination.caa_permits()),
        Answer::None(_) => (None, None),
    };
    let observation = match reply {
        Some(Reply::Observed(observation)) => Some(observation),
        Some(Reply::None(_)) | None => None,
    };
    PerspectiveRecord { perspective: perspective.clone(), state: answer.state(), control, caa, observation }
}

fn summary(record: &PerspectiveRecord) -> (PerspectiveState, Option<bool>, Option<bool>) {
    (record.state, record.control, record.caa)
}

fn reply_of(record: &PerspectiveRecord) -> Result<Reply, Mismatch> {
    match (&record.observation, record.state) {
        (Some(observation), _) => Ok(Reply::Observed(observation.clone())),
        (None, PerspectiveState::Confirmed | PerspectiveState::Contradicted | PerspectiveState::Failed) => {
            Err(Mismatch::NoEvidence(record.perspective.clone()))
        }
        (None, state) => Ok(Reply::None(state)),
    }
}
