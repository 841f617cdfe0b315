//! The count: whether enough remotes, in enough RIR regions, confirmed the primary's determination.
//!
//! Implements TLS BR 2.3.1 §3.2.2.9 (quorum table and RIR condition; req A3, A4). Remotes are bits: bit
//! `i` of a mask is the remote at place `i` of the list the [`Quorum`] was built from. What makes an
//! answer a confirmation is judged elsewhere, and so is the primary, which never counts here (req A1).
//!
//! Where one cohort serves control and CAA, the joint count (req A14) is
//! `settle(control & caa, control_refused | caa_refused)`.
//!
//! Invariant: what is settled stays settled, whatever the pending remotes answer.
//! Invariant: a refusal in place of a confirmation or of silence never helps.
//! Invariant: a remote reported both ways is a refusal; bits of no remote are ignored.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::policy::{PolicyRow, REMOTES_DEFINED_MIN, REMOTES_MAX};
use crate::base::perspective::Rir;

/// The remotes cannot form a quorum under the row (TLS BR 2.3.1 §3.2.2.9; req A2, A3).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// The quorum table begins at two remotes.
    #[error("{remotes} remotes: no quorum is defined below {REMOTES_DEFINED_MIN}")]
    Undefined {
        /// Given.
        remotes: usize,
    },
    /// Fewer than the row demands.
    #[error("{remotes} remotes, but {revision} requires at least {remotes_min}")]
    TooFewRemotes {
        /// Given.
        remotes: usize,
        /// Demanded.
        remotes_min: u8,
        /// The row that demands it.
        revision: String,
    },
    /// More than a summary word can hold.
    #[error("{remotes} remotes, but at most {REMOTES_MAX} can take part in one attempt")]
    TooManyRemotes {
        /// Given.
        remotes: usize,
    },
}

/// What the answers so far decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// Quorum and RIR condition hold, whatever else is answered.
    Corroborated,
    /// They can no longer both hold.
    NotCorroborated(QuorumShortfall),
    /// The pending remotes decide.
    Open,
}

/// Which condition can no longer be met. If both fail it is the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuorumShortfall {
    /// More remotes refused than the quorum table allows (req A3).
    TooFewConfirmations,
    /// The confirming remotes lie in too few RIR regions (req A4).
    TooFewRegions,
}

impl fmt::Display for QuorumShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooFewConfirmations => "too few remotes confirmed",
            Self::TooFewRegions => "the confirming remotes lie in too few RIR regions",
        })
    }
}

/// The counting rule of one attempt, fixed before anything is asked (req A15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    remotes: u8,
    allowed: u8,
    rirs_min: u8,
    enforced: bool,
    rir_masks: [u16; Rir::ALL.len()],
}

impl Quorum {
    /// The rule of `row` for remotes in these regions, in the order of their bits.
    ///
    /// # Errors
    /// Fewer remotes than the table defines or the row demands, or more than fit a mask.
    pub fn new(row: &PolicyRow, rirs: &[Rir]) -> Result<Self, QuorumError> {
        let (remotes, allowed) = numbers(row, rirs.len())?;
        let mut rir_masks = [0; Rir::ALL.len()];
        for (place, rir) in rirs.iter().enumerate() {
            rir_masks[rir.index()] |= 1 << place;
        }
        Ok(Self { remotes, allowed, rirs_min: row.rirs_min(), enforced: row.quorum_enforced(), rir_masks })
    }

    /// The same, but so many may fail at most if that is fewer.
    #[must_use]
    pub fn restricted(self, allowed_max: Option<u8>) -> Self {
        Self { allowed: allowed_max.map_or(self.allowed, |most| most.min(self.allowed)), ..self }
    }

    /// What the answers so far decide: `confirmed` and `refused` are masks, the rest is pending.
    /// Timeouts, errors and rejected replies are refusals (req A13).
    ///
    /// It says whether the quorum is met even where the row does not enforce it; see
    /// [`Quorum::enforced`].
    #[must_use]
    pub fn settle(&self, confirmed: u16, refused: u16) -> Settlement {
        // The worst the pending remotes can do is refuse, the best is to confirm; both conditions are
        // monotone in the confirming set, so these two sets decide.
        let worst = self.confirming(confirmed, refused);
        let best = self.all() & !refused;
        match (self.shortfall(worst), self.shortfall(best)) {
            (None, _) => Settlement::Corroborated,
            (_, Some(shortfall)) => Settlement::NotCorroborated(shortfall),
            (Some(_), None) => Settlement::Open,
        }
    }

    /// The figures for the record: confirmations out of *attempted* remotes (req A15,
    /// TLS BR 2.3.1 §5.4.1).
    #[must_use]
    pub fn result(&self, confirmed: u16, refused: u16) -> QuorumResult {
        let confirming = self.confirming(confirmed, refused);
        let rirs = Rir::ALL.into_iter().filter(|rir| self.rir_mask(*rir) & confirming != 0).collect();
        QuorumResult { confirmed: count(confirming), attempted: self.remotes, rirs, margin: self.margin(confirming) }
    }

    /// How many of `confirming` may be lost before a condition fails; negative if one fails already.
    fn margin(&self, confirming: u16) -> i8 {
        let by_number = signed(count(confirming)) - signed(self.needed());
        let Some(regions_short) = self.rirs_min.checked_sub(1) else { return by_number };
        let mut held = self.rir_masks.map(|mask| count(mask & confirming));
        held.sort_unstable_by(|a, b| b.cmp(a));
        // Too few regions are left once every confirmation outside the fullest ones is lost.
        let outside: u8 = held.iter().skip(usize::from(regions_short)).sum();
        by_number.min(signed(outside) - 1)
    }

    fn confirming(&self, confirmed: u16, refused: u16) -> u16 {
        self.all() & confirmed & !refused
    }

    fn shortfall(&self, confirming: u16) -> Option<QuorumShortfall> {
        if count(confirming) < self.needed() {
            Some(QuorumShortfall::TooFewConfirmations)
        } else if self.regions(confirming) < self.rirs_min {
            Some(QuorumShortfall::TooFewRegions)
        } else {
            None
        }
    }

    fn regions(&self, confirming: u16) -> u8 {
        self.rir_masks.iter().map(|mask| u8::from(mask & confirming != 0)).sum()
    }

    /// One bit for each remote.
    #[must_use]
    pub fn all(&self) -> u16 {
        // At most REMOTES_MAX remotes, so the shift stays inside the word.
        (1 << self.remotes) - 1
    }

    /// The remotes of one region.
    #[must_use]
    pub fn rir_mask(&self, rir: Rir) -> u16 {
        self.rir_masks[rir.index()]
    }

    /// The number of remotes attempted.
    #[must_use]
    pub fn remotes(&self) -> u8 {
        self.remotes
    }

    /// How many of them may fail to corroborate (req A3).
    #[must_use]
    pub fn allowed(&self) -> u8 {
        self.allowed
    }

    /// How many must confirm (req A3).
    #[must_use]
    pub fn needed(&self) -> u8 {
        self.remotes - self.allowed
    }

    /// In how many RIR regions those that confirm must lie at least; 0 = no rule (req A4).
    #[must_use]
    pub fn rirs_min(&self) -> u8 {
        self.rirs_min
    }

    /// Whether a missing quorum bars issuance (req A2).
    #[must_use]
    pub fn enforced(&self) -> bool {
        self.enforced
    }
}

const _: () = assert!((REMOTES_MAX as u32) < u16::BITS, "a mask has a bit for every remote");

/// Number of remotes and allowed failures, or why there is no quorum.
fn numbers(row: &PolicyRow, remotes: usize) -> Result<(u8, u8), QuorumError> {
    let fits = u8::try_from(remotes).ok().filter(|n| *n <= REMOTES_MAX);
    let n = fits.ok_or(QuorumError::TooManyRemotes { remotes })?;
    if n < REMOTES_DEFINED_MIN {
        return Err(QuorumError::Undefined { remotes });
    }
    let remotes_min = row.remotes_min();
    if n < remotes_min {
        return Err(QuorumError::TooFewRemotes { remotes, remotes_min, revision: row.revision().to_owned() });
    }
    Ok((n, row.allowed(n).ok_or(QuorumError::Undefined { remotes })?))
}

/// Bits set in a mask of at most 16.
fn count(mask: u16) -> u8 {
    mask.count_ones() as u8
}

/// A count of at most [`REMOTES_MAX`], with a sign.
fn signed(count: u8) -> i8 {
    count as i8
}

/// The figures of one attempt; prints like `4/5` (TLS BR 2.3.1 §5.4.1; req A15).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuorumResult {
    /// Remotes that confirmed.
    pub confirmed: u8,
    /// Remotes attempted, whether or not they answered.
    pub attempted: u8,
    /// The RIR regions of those that confirmed, in the order of [`Rir::ALL`].
    pub rirs: Vec<Rir>,
    /// How many of those that confirmed could be lost without failing the number or the RIR condition;
    /// 0 or more exactly if the quorum is met.
    pub margin: i8,
}

impl fmt::Display for QuorumResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.confirmed, self.attempted)
    }
}
