//! What stays the same over many attempts, named by digest in every record.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::FORM_VERSION;
use crate::{
    base::{
        perspective::{Perspective, PerspectiveId, Rir, Role},
        suffix::{SuffixList, SuffixListError, Suffixes},
    },
    check::caa::authorize::CaaPolicy,
    plan::PlanLimits,
    request::CheckRequest,
    verdict::{
        draw::{CohortSeed, Draw, DrawError, Lawful, Members, POOL_MAX, chosen},
        policy::{PolicyError, PolicyTable},
        quorum::Quorum,
    },
};

/// Whether verdicts may authorise issuance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// They may.
    #[default]
    Enforcing,
    /// They never do; for dry runs (req H15).
    ReportOnly,
}

/// How attempts are carried out, as far as their verdicts depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conduct {
    /// Whether verdicts may authorise issuance.
    pub mode: Mode,
    /// The draw of each attempt's remotes out of all that are named; all take part if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<Draw>,
    /// How often the whole process starts afresh after perspectives disagreed, at most (req H8).
    pub restarts_max: u8,
    /// Perspectives that are asked on trial: recorded, and never counted (req H15).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Perspective>,
}

impl Conduct {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Restarts of one request, at most; each asks a third party again from everywhere.
pub const RESTARTS_MAX: u8 = 5;

/// Perspectives on trial, at most.
pub const TRIALS_MAX: usize = 16;

/// What stays the same over many attempts: the rules and the perspectives.
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
    /// The primary first, then the remotes: in the order of their bits, or as a pool out of which cohorts are drawn.
    pub perspectives: Vec<Perspective>,
    /// Limits of each perspective's task.
    pub limits: PlanLimits,
    /// The ICANN rules of a public suffix list besides the built-in one, a line each (req B17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_suffixes: Option<String>,
    /// How attempts are carried out.
    #[serde(default, skip_serializing_if = "Conduct::is_default")]
    pub conduct: Conduct,
}

/// A setup that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// Its form.
    #[error("form {0} is not known to this version")]
    Form(u32),
    /// Its policy rows.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    /// Its public suffixes.
    #[error("public_suffixes: {0}")]
    Suffixes(#[from] SuffixListError),
    /// Its perspectives.
    #[error("perspectives: one primary, first, and its remotes are wanted, and on trial others of other names")]
    Perspectives,
    /// Its draw.
    #[error("cohort: {0}")]
    Draw(#[from] DrawError),
    /// Its restarts.
    #[error("restarts: {0} are more than the {RESTARTS_MAX} there may be")]
    Restarts(u8),
}

/// A setup made ready.
#[derive(Clone, Debug)]
pub struct Rules {
    setup: Setup,
    table: PolicyTable,
    suffixes: Suffixes,
    digest: String,
    lawful: Lawful,
}

impl Setup {
    /// Makes it ready.
    ///
    /// # Errors
    /// Rows that cannot be read or are laxer than the Baseline Requirements, or perspectives that are
    /// no cohort.
    pub fn rules(self) -> Result<Rules, SetupError> {
        if self.form != FORM_VERSION {
            return Err(SetupError::Form(self.form));
        }
        let table = PolicyTable::parse_stricter(&self.policy)?;
        self.check_perspectives()?;
        if self.conduct.restarts_max > RESTARTS_MAX {
            return Err(SetupError::Restarts(self.conduct.restarts_max));
        }
        let list: Option<SuffixList> = self.public_suffixes.as_deref().map(str::parse).transpose()?;
        let suffixes = list.map(Suffixes::with).unwrap_or_default();
        let digest = self.digest();
        let lawful = Lawful::of_rows(table.rows().len());
        Ok(Rules { setup: self, table, suffixes, digest, lawful })
    }

    fn check_perspectives(&self) -> Result<(), SetupError> {
        let Some((primary, remotes)) = self.perspectives.split_first() else { return Err(SetupError::Perspectives) };
        let trials = &self.conduct.trials;
        let roles_fit = primary.role == Role::Primary
            && remotes.iter().all(|perspective| perspective.role == Role::Remote)
            && trials.iter().all(|perspective| perspective.role == Role::Trial);
        let mut names: Vec<&PerspectiveId> = self.perspectives.iter().chain(trials).map(|p| &p.id).collect();
        names.sort();
        let differ = names.windows(2).all(|pair| pair[0] != pair[1]);
        // Without a draw every remote takes part, and the quorum's own bound holds; with one, the draw's.
        if !roles_fit || !differ || trials.len() > TRIALS_MAX || remotes.len() > POOL_MAX {
            return Err(SetupError::Perspectives);
        }
        Ok(self.conduct.draw.map_or(Ok(()), |draw| draw.check(remotes.len()))?)
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

    /// The remotes: all of each attempt, or those that cohorts are drawn from.
    #[must_use]
    pub fn remotes(&self) -> &[Perspective] {
        &self.setup.perspectives[1..]
    }

    /// Which public suffixes count.
    pub(super) fn suffixes(&self) -> &Suffixes {
        &self.suffixes
    }

    /// The lawful cohorts of an instant, if they are drawn.
    #[must_use]
    pub fn cohorts(&self, at: Timestamp) -> &[Members] {
        let Some(draw) = self.setup.conduct.draw else { return &[] };
        let Some(row) = self.table.row_at(at) else { return &[] };
        let number = self.table.rows().iter().position(|other| other.revision() == row.revision());
        number.map_or(&[], |number| self.lawful.under(number, row, &self.setup.perspectives, draw))
    }

    /// The perspectives of an attempt that began at `started` (req A15). None if the seed is one too many or is
    /// missing, or no cohort is lawful then.
    #[must_use]
    pub fn members(&self, started: Timestamp, seed: Option<CohortSeed>) -> Option<Members> {
        match (self.setup.conduct.draw, seed) {
            (None, None) => Some((0..self.setup.perspectives.len()).map(|place| place as u8).collect()),
            (Some(_), Some(seed)) => chosen(self.cohorts(started), seed).cloned(),
            (None, Some(_)) | (Some(_), None) => None,
        }
    }

    /// The perspective at a place.
    #[must_use]
    pub fn perspective(&self, place: u8) -> Option<&Perspective> {
        self.setup.perspectives.get(usize::from(place))
    }

    /// The counting rule for an attempt from `started` to `decided`: the later row if it spans a change
    /// (req A20), and what the request restricts. None if its remotes cannot form a quorum under it.
    #[must_use]
    pub fn quorum(
        &self,
        request: &CheckRequest,
        members: &[u8],
        started: Timestamp,
        decided: Timestamp,
    ) -> Option<(Quorum, &str)> {
        let row = self.table.governing(started, decided)?;
        let rirs: Option<Vec<Rir>> =
            members.iter().skip(1).map(|place| self.perspective(*place).map(|remote| remote.rir)).collect();
        let quorum = Quorum::new(row, &rirs?).ok()?;
        Some((quorum.restricted(request.restrictions.non_corroborations_max), row.revision()))
    }
}
