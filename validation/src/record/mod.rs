//! `Record`: the audit entry of one attempt, and its recomputation (req E1–E10).
//!
//! [`evaluate`] is the whole engine as a function: (request, replies, policy, clock) → verdict. The
//! engine calls it to decide and an auditor calls it, through [`Record::recompute`], to check. A
//! [`Setup`] holds what stays the same over many attempts; a record names it by digest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    base::{
        attempt::AttemptId,
        perspective::{Perspective, PerspectiveId, Rir, Role},
        suffix::{SuffixList, SuffixListError, Suffixes},
    },
    check::{
        Determination,
        caa::authorize::CaaPolicy,
        dcv::registry::{self, Row, Standing},
        judge_with,
    },
    explain::{Explanation, Seen, explain, method_ended},
    observation::Observation,
    plan::PlanLimits,
    request::CheckRequest,
    verdict::{
        Answer, PerspectiveState, Refusal, Verdict, decide,
        policy::{PolicyError, PolicyTable},
        quorum::{Quorum, QuorumShortfall},
    },
};

/// Version of the form of records and setups.
pub const FORM_VERSION: u32 = 1;

/// What stays the same over many attempts: the rules and the cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// [`FORM_VERSION`].
    pub form: u32,
    /// The program and its version.
    pub software: String,
    /// The policy rows, as the data file has them.
    pub policy: String,
    /// How CAA is judged.
    pub caa: CaaPolicy,
    /// The primary first, then the remotes in the order of their bits; fixed before anything is asked
    /// (req A15).
    pub perspectives: Vec<Perspective>,
    /// Limits of each perspective's task.
    pub limits: PlanLimits,
    /// The ICANN rules of a public suffix list besides the built-in one, a line each (req B17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_suffixes: Option<String>,
}

/// A setup that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// Its policy rows.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    /// Its public suffixes.
    #[error("public_suffixes: {0}")]
    Suffixes(#[from] SuffixListError),
    /// Its perspectives.
    #[error("perspectives: one primary, first, and its remotes are wanted")]
    Perspectives,
}

/// A setup made ready.
#[derive(Clone, Debug)]
pub struct Rules {
    setup: Setup,
    table: PolicyTable,
    suffixes: Suffixes,
    digest: String,
}

impl Setup {
    /// Makes it ready.
    ///
    /// # Errors
    /// Rows that cannot be read or are laxer than the Baseline Requirements, or perspectives that are
    /// no cohort.
    pub fn rules(self) -> Result<Rules, SetupError> {
        let table = PolicyTable::parse_stricter(&self.policy)?;
        let roles_fit =
            self.perspectives.iter().enumerate().all(|(index, p)| (p.role == Role::Primary) == (index == 0));
        if self.perspectives.is_empty() || !roles_fit {
            return Err(SetupError::Perspectives);
        }
        let list: Option<SuffixList> = self.public_suffixes.as_deref().map(str::parse).transpose()?;
        let suffixes = list.map(Suffixes::with).unwrap_or_default();
        let digest = self.digest();
        Ok(Rules { setup: self, table, suffixes, digest })
    }

    fn digest(&self) -> String {
        let text = serde_json_text(self);
        Sha256::digest(text.as_bytes()).iter().fold(String::with_capacity(64), |mut hex, byte| {
            use std::fmt::Write as _;
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

fn serde_json_text(setup: &Setup) -> String {
    serde_json::to_string(setup).expect("a setup holds only text, numbers and lists")
}

impl Rules {
    /// The setup they were made from.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The dated rows.
    #[must_use]
    pub fn table(&self) -> &PolicyTable {
        &self.table
    }

    /// SHA-256 of the setup, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The primary.
    #[must_use]
    pub fn primary(&self) -> &Perspective {
        &self.setup.perspectives[0]
    }

    /// The remotes, in the order of their bits.
    #[must_use]
    pub fn remotes(&self) -> &[Perspective] {
        &self.setup.perspectives[1..]
    }

    /// The counting rule for an attempt from `started` to `decided`: the later row if it spans a change
    /// (req A20). None if the remotes cannot form a quorum under it.
    #[must_use]
    pub fn quorum(&self, started: Timestamp, decided: Timestamp) -> Option<(Quorum, &str)> {
        let row = self.table.governing(started, decided)?;
        let rirs: Vec<Rir> = self.remotes().iter().map(|remote| remote.rir).collect();
        Quorum::new(row, &rirs).ok().map(|quorum| (quorum, row.revision()))
    }
}

/// What came from one perspective.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Its observation.
    Observed(Observation),
    /// None; the state says why.
    None(PerspectiveState),
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
    /// What to say about it.
    pub explanation: Explanation,
}

/// Decides an attempt: a pure function of (request, replies, policy, clock). `replies` are those of the
/// cohort in its order; missing ones do not confirm.
#[must_use]
pub fn evaluate(
    rules: &Rules,
    request: &CheckRequest,
    started: Timestamp,
    decided: Timestamp,
    replies: &[Reply],
) -> Evaluation {
    let perspectives = &rules.setup.perspectives;
    let answers: Vec<Answer> = (0..perspectives.len())
        .map(|index| match replies.get(index) {
            Some(Reply::Observed(observation)) => Answer::Determined(determine(rules, index, request, observation)),
            Some(Reply::None(state)) => Answer::None(*state),
            None => Answer::None(PerspectiveState::NotAsked),
        })
        .collect();
    let ended: Vec<&Row> =
        request.rows().filter(|row| matches!(row.standing(decided), Standing::Ended { .. })).collect();
    let (verdict, revision) = match rules.quorum(started, decided) {
        // An attempt that spans a change obeys the later rule (req A20, F6).
        quorum if !ended.is_empty() => {
            let refused = Verdict::Refused { refusal: Refusal::MethodEnded, figures: None };
            (refused, quorum.map(|(_, revision)| revision.to_owned()))
        }
        Some((quorum, revision)) => (decide(&quorum, &answers[0], &answers[1..]), Some(revision.to_owned())),
        None => (no_quorum_possible(&answers), None),
    };
    let seen: Vec<Seen<'_>> = perspectives
        .iter()
        .zip(&answers)
        .enumerate()
        .map(|(index, (perspective, answer))| {
            let observation = match replies.get(index) {
                Some(Reply::Observed(observation)) => Some(observation),
                Some(Reply::None(_)) | None => None,
            };
            Seen { perspective, observation, answer }
        })
        .collect();
    let mut explanation = match verdict {
        Verdict::Refused { refusal: Refusal::MethodEnded, .. } => method_ended(&ended, &seen),
        _ => explain(request, &verdict, &seen),
    };
    explanation.warnings.extend(discouraged(request, decided));
    Evaluation { answers, revision, verdict, explanation }
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

/// Judges the observation of one perspective, by its place in the cohort, under a setup.
#[must_use]
pub fn determine(rules: &Rules, index: usize, request: &CheckRequest, observation: &Observation) -> Determination {
    let role = rules.setup.perspectives.get(index).map_or(Role::Primary, |perspective| perspective.role);
    judge_with(request, observation, &rules.setup.caa, &rules.suffixes, role)
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
    /// The attempt this one retries, if any; nothing of it was used (req F2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<AttemptId>,
    /// The [`Setup`] it was made under, by digest.
    pub setup: String,
    /// The sub-section of the TLS BR of the method, and of what leads to it, or `caa` (req E3).
    pub method: String,
    /// What was asked.
    pub request: CheckRequest,
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
    /// Whether it goes against the verdict.
    pub contradicts_verdict: bool,
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
    #[error("the perspectives are not those of the setup, in its order")]
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
    pub fn new(
        rules: &Rules,
        attempt: AttemptId,
        request: &CheckRequest,
        started: Timestamp,
        decided: Timestamp,
        replies: Vec<Reply>,
    ) -> Self {
        let evaluation = evaluate(rules, request, started, decided, &replies);
        let mut replies = replies.into_iter();
        let perspectives = rules
            .setup
            .perspectives
            .iter()
            .zip(&evaluation.answers)
            .map(|(perspective, answer)| perspective_record(&perspective.id, answer, replies.next()))
            .collect();
        Self {
            form: FORM_VERSION,
            attempt,
            predecessor: None,
            setup: rules.digest.clone(),
            method: request.sections().unwrap_or_else(|| "caa".to_owned()),
            request: request.clone(),
            started,
            decided,
            policy: evaluation.revision,
            perspectives,
            verdict: evaluation.verdict,
            explanation: evaluation.explanation,
        }
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
        if self.setup != rules.digest {
            return Err(Mismatch::Setup);
        }
        if !self.perspectives.iter().map(|p| &p.perspective).eq(rules.setup.perspectives.iter().map(|p| &p.id)) {
            return Err(Mismatch::Perspectives);
        }
        let replies = self.replies()?;
        let again = Self::new(rules, self.attempt, &self.request, self.started, self.decided, replies);
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
