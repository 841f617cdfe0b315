//! The verdict: the only place where a permission is made.
//!
//! The primary makes the determination; remotes only confirm it or fail to (TLS BR 2.3.1 §1.6.1, req
//! A1). Three figures are computed and recorded: for control, for CAA, and the joint one in which a
//! remote counts only if it confirms everything asked. The joint figure is enforced, which is safe under
//! either reading of the text (req A14).

use serde::{Deserialize, Serialize};

use super::quorum::{Quorum, QuorumResult, QuorumShortfall, Settlement};
use crate::check::Determination;

/// The terminal state of an asked perspective; each ends in exactly one (req E7, E9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerspectiveState {
    /// It confirmed everything asked.
    Confirmed,
    /// It saw something that contradicts.
    Contradicted,
    /// Its lookups failed.
    Failed,
    /// Nothing came within the attempt's time.
    TimedOut,
    /// The call was given up from our side before it could end.
    Cancelled,
    /// What came was not the reply to what was asked.
    RejectedReply,
    /// The verdict was settled before it answered; a late answer is recorded as such.
    NotAwaited,
    /// It was never asked, since the primary had already refused.
    NotAsked,
}

/// One perspective's part in an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It answered, and this is what it means.
    Determined(Determination),
    /// It did not; the state says how.
    None(PerspectiveState),
}

impl Answer {
    /// Its terminal state.
    #[must_use]
    pub fn state(&self) -> PerspectiveState {
        match self {
            Self::None(state) => *state,
            Self::Determined(determination) if determination.confirms() => PerspectiveState::Confirmed,
            Self::Determined(determination) if contradicts(determination) => PerspectiveState::Contradicted,
            Self::Determined(_) => PerspectiveState::Failed,
        }
    }

    fn determination(&self) -> Option<&Determination> {
        match self {
            Self::Determined(determination) => Some(determination),
            Self::None(_) => None,
        }
    }
}

fn contradicts(determination: &Determination) -> bool {
    use crate::check::{Finding, caa::CaaFinding};
    matches!(determination.control, Some(Finding::Contradicted(_)))
        || matches!(&determination.caa, Some(CaaFinding::Decided { decision, .. }) if !decision.permitted)
}

/// The figures of an attempt (req E2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Remotes that confirmed control.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<QuorumResult>,
    /// Remotes for which CAA permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<QuorumResult>,
    /// Remotes that confirmed everything asked: the figure that is enforced.
    pub joint: QuorumResult,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Control and authority are shown and corroborated.
    Corroborated(Figures),
    /// They are not.
    Refused {
        /// Why.
        refusal: Refusal,
        /// What was counted; none if no remote was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        figures: Option<Figures>,
    },
}

/// Why an attempt was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The primary did not confirm; no number of remotes can overrule it (req A1).
    Primary(PerspectiveState),
    /// The remotes fell short.
    Quorum(QuorumShortfall),
    /// The method may not be used any more, whatever was found by it (req F6).
    MethodEnded,
    /// It would have been corroborated, by an engine that may only report (req H15).
    ReportOnly,
}

impl Verdict {
    /// Whether issuance may go on.
    #[must_use]
    pub fn permits(&self) -> bool {
        matches!(self, Self::Corroborated(_))
    }

    /// The figures, if remotes were asked.
    #[must_use]
    pub fn figures(&self) -> Option<&Figures> {
        match self {
            Self::Corroborated(figures) => Some(figures),
            Self::Refused { figures, .. } => figures.as_ref(),
        }
    }
}

/// Decides. `remotes` are those of the cohort in its order, the one `quorum` was made for; a remote that
/// did not answer, for whatever reason, does not confirm (req A13, A15).
#[must_use]
pub fn decide(quorum: &Quorum, primary: &Answer, remotes: &[Answer]) -> Verdict {
    let asked = remotes.iter().any(|answer| answer.state() != PerspectiveState::NotAsked);
    let figures = asked.then(|| figures(quorum, remotes));
    if primary.state() != PerspectiveState::Confirmed {
        return Verdict::Refused { refusal: Refusal::Primary(primary.state()), figures };
    }
    let confirmed = mask(remotes, |answer| answer.state() == PerspectiveState::Confirmed);
    let refused = quorum.all() & !confirmed;
    match (quorum.settle(confirmed, refused), figures) {
        (Settlement::Corroborated, Some(figures)) => Verdict::Corroborated(figures),
        (Settlement::NotCorroborated(shortfall), figures) => {
            Verdict::Refused { refusal: Refusal::Quorum(shortfall), figures }
        }
        // Every remote is in one of the two masks, so nothing is open; if it were, it would not confirm.
        (Settlement::Open | Settlement::Corroborated, figures) => {
            Verdict::Refused { refusal: Refusal::Quorum(QuorumShortfall::TooFewConfirmations), figures }
        }
    }
}

/// Whether some saw what contradicts and others confirmed: an anomaly after which the whole process starts afresh
/// (req H8).
#[must_use]
pub fn disagree(answers: &[Answer]) -> bool {
    let any = |state: PerspectiveState| answers.iter().any(|answer| answer.state() == state);
    any(PerspectiveState::Confirmed) && any(PerspectiveState::Contradicted)
}

fn figures(quorum: &Quorum, remotes: &[Answer]) -> Figures {
    let aspect = |confirms: fn(&Determination) -> Option<bool>| {
        let asked = remotes.iter().filter_map(Answer::determination).any(|d| confirms(d).is_some());
        let confirmed = mask(remotes, |answer| answer.determination().and_then(confirms) == Some(true));
        asked.then(|| quorum.result(confirmed, quorum.all() & !confirmed))
    };
    let joint = mask(remotes, |answer| answer.state() == PerspectiveState::Confirmed);
    Figures {
        control: aspect(Determination::control_confirmed),
        caa: aspect(Determination::caa_permits),
        joint: quorum.result(joint, quorum.all() & !joint),
    }
}

fn mask(remotes: &[Answer], holds: impl Fn(&Answer) -> bool) -> u16 {
    remotes.iter().enumerate().filter(|(_, answer)| holds(answer)).fold(0, |mask, (index, _)| mask | 1 << index)
}
