//! What a check of CAA would come to, counted by the functions that count verdicts.
//!
//! Where each attempt draws its remotes out of a pool, what was seen is held against every cohort that may be drawn, and
//! the figures are those of the worst. There are at most [`CHOICES_MAX`](crate::verdict::draw::CHOICES_MAX) cohorts; those
//! that are alike in regions and answers come to the same and are decided once.
//!
//! Invariant: [`Outlook::permits`] only if every cohort would.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    Code, Finding, Severity, Subject,
    view::{Case, View},
};
use crate::{
    base::perspective::Rir,
    check::{
        Determination,
        caa::{CaaFinding, authorize::CaaRule},
    },
    explain::Blame,
    verdict::{Answer, PerspectiveState, Verdict, decide, draw::Members, quorum::QuorumResult},
};

/// What a check of CAA would come to now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// What the primary would say.
    pub primary: PerspectiveState,
    /// The remotes that would confirm, by the row in force; none if they can form no quorum under it. Where remotes are
    /// drawn, those of the worst cohort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<QuorumResult>,
    /// The row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Whether CAA and the way to the name servers would let a check pass, whatever remotes are drawn for it.
    pub permits: bool,
    /// The cohorts, if remotes are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn: Option<DrawnOutlook>,
}

/// How cohorts would do that an attempt may draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrawnOutlook {
    /// The lawful ones; each is as likely as any other.
    pub cohorts: u32,
    /// Those of them with which a check would pass.
    pub pass: u32,
}

impl Outlook {
    /// Whether a check would fail, whatever remotes are drawn for it.
    #[must_use]
    pub fn would_fail(&self) -> bool {
        !self.permits && self.drawn.is_none_or(|drawn| drawn.pass == 0)
    }
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.quorum {
            Some(quorum) => write!(f, "{quorum}, margin {}", quorum.margin)?,
            None => f.write_str("no quorum is possible")?,
        }
        if let Some(DrawnOutlook { cohorts, pass }) = self.drawn.filter(|drawn| drawn.cohorts > 0) {
            write!(f, " at worst, {pass} of {cohorts} cohorts pass")?;
        }
        if self.primary != PerspectiveState::Confirmed {
            f.write_str(", and the primary would not confirm")?;
        }
        Ok(())
    }
}

/// What decides a cohort: by region, its remotes that confirm and those that do not.
type Pattern = [[u8; 2]; Rir::ALL.len()];

/// Counts as an attempt would. A perspective counts if CAA permits there and it reaches a name server itself: what its
/// resolver remembers is gone by the time of a check. CAA that permits this CA to some accounts or methods permits here:
/// a preflight is by none of them, and the finding says so.
pub(super) fn outlook(subject: &Subject<'_>, case: &Case<'_>) -> Outlook {
    let states: Vec<PerspectiveState> = case.views.iter().filter(|view| view.counts).map(state).collect();
    let is_drawn = subject.rules.setup().conduct.draw.is_some();
    let all: Vec<Members> = subject.rules.members(subject.at, None).into_iter().collect();
    let cohorts = if is_drawn { subject.rules.cohorts(subject.at) } else { &all };
    let mut outlook = Outlook {
        primary: states.first().copied().unwrap_or(PerspectiveState::NotAsked),
        quorum: None,
        policy: None,
        permits: !cohorts.is_empty(),
        drawn: is_drawn.then_some(DrawnOutlook { cohorts: cohorts.len() as u32, pass: 0 }),
    };
    let mut alike: BTreeMap<Pattern, (&Members, u32)> = BTreeMap::new();
    for members in cohorts {
        alike.entry(pattern(subject, &states, members)).or_insert((members, 0)).1 += 1;
    }
    for (members, count) in alike.into_values() {
        let passes = add_cohort(&mut outlook, subject, &states, members);
        outlook.permits &= passes;
        if let Some(drawn) = outlook.drawn.as_mut().filter(|_| passes) {
            drawn.pass += count;
        }
    }
    outlook
}

fn pattern(subject: &Subject<'_>, states: &[PerspectiveState], members: &Members) -> Pattern {
    let mut pattern = Pattern::default();
    for place in members.iter().skip(1) {
        let Some(remote) = subject.rules.perspective(*place) else { continue };
        let confirms = states.get(usize::from(*place)) == Some(&PerspectiveState::Confirmed);
        pattern[remote.rir.index()][usize::from(confirms)] += 1;
    }
    pattern
}

/// Whether a check by a cohort would pass. Its figures are kept if they are the worst so far.
fn add_cohort(outlook: &mut Outlook, subject: &Subject<'_>, states: &[PerspectiveState], members: &Members) -> bool {
    let Some((quorum, revision)) = subject.rules.quorum(subject.request, members, subject.at, subject.at) else {
        return false;
    };
    let state = |place: &u8| states.get(usize::from(*place)).copied().unwrap_or(PerspectiveState::NotAsked);
    let answers: Vec<Answer> = members.iter().map(|place| Answer::None(state(place))).collect();
    let Some((primary, remotes)) = answers.split_first() else { return false };
    let verdict = decide(&quorum, primary, remotes);
    let rank = |quorum: &QuorumResult| (quorum.margin, quorum.confirmed);
    if let Some(joint) = verdict.figures().map(|figures| &figures.joint)
        && outlook.quorum.as_ref().is_none_or(|worst| rank(joint) < rank(worst))
    {
        outlook.quorum = Some(joint.clone());
    }
    outlook.policy.get_or_insert_with(|| revision.to_owned());
    Verdict::permits(&verdict)
}

fn state(view: &View<'_>) -> PerspectiveState {
    match &view.determination {
        None => PerspectiveState::TimedOut,
        Some(_) if view.is_dark() => PerspectiveState::Failed,
        Some(determination) => Answer::Determined(to_whom_it_binds(determination.clone())).state(),
    }
}

/// As an account and a method would see it that the records name.
fn to_whom_it_binds(mut determination: Determination) -> Determination {
    if let Some(CaaFinding::Decided { decision, .. }) = &mut determination.caa {
        decision.permitted |= matches!(decision.rule, CaaRule::NotAuthorized { names_this_ca: true, .. });
    }
    determination
}

/// No finding blocks by itself, and together they do; or they do with some of the cohorts that may be drawn.
pub(super) fn quorum_missed(outlook: &Outlook) -> Finding {
    let row = outlook.policy.as_ref().map(|row| format!(" under the row {row}")).unwrap_or_default();
    let (severity, with) = match outlook.would_fail() {
        true => (Severity::Blocks, ""),
        false => (Severity::MayBlock, " in some of the cohorts that may be drawn"),
    };
    Finding {
        severity,
        code: Code::QuorumMissed,
        blame: Blame::Dns,
        servers: Vec::new(),
        perspectives: Vec::new(),
        text: format!("Too few perspectives would confirm{with}{row}: {outlook}. See the findings about perspectives."),
    }
}
