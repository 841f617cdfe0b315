//! Which remotes of a larger pool take part in an attempt.
//!
//! The cohort is fixed before anything is asked (req A15). Where the pool is larger than a cohort, one of all lawful
//! cohorts is drawn by a seed that the record keeps, so that the draw can be made again. Nobody outside can tell in
//! advance from where an attempt will be looked at.
//!
//! Invariant: only cohorts that [`Cohort::check`] passes can be drawn, each as likely as any other.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use super::{
    cohort::{Cohort, DISTANCE_MARGIN_KM, DISTANCE_MIN_KM, Diversity, Site, chord_km},
    policy::{PolicyRow, REMOTES_MAX},
};
use crate::base::perspective::Perspective;

/// Remotes a pool may have.
pub const POOL_MAX: usize = 64;

/// Ways to choose a cohort out of a pool, lawful or not; more would take too long to look through.
pub const CHOICES_MAX: u64 = 50_000;

/// Chooses the cohort of one attempt; random and never used twice. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CohortSeed(pub u128);

impl fmt::Display for CohortSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for CohortSeed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CohortSeed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(D::Error::custom("a seed has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(CohortSeed).map_err(D::Error::custom)
    }
}

/// How a cohort is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draw {
    /// Remotes of each attempt.
    pub remotes: u8,
    /// What every cohort must have besides.
    #[serde(default)]
    pub diversity: Diversity,
}

/// A draw that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DrawError {
    /// Fewer are there than are to be drawn, or more than can take part.
    #[error("{remotes} remotes of {pool} cannot be drawn; 2 to {REMOTES_MAX} take part in an attempt")]
    Remotes {
        /// To be drawn.
        remotes: u8,
        /// Remotes of the pool.
        pool: usize,
    },
    /// Too many.
    #[error("{pool} remotes are more than the {POOL_MAX} a pool may have")]
    Pool {
        /// Remotes of the pool.
        pool: usize,
    },
    /// Too many ways.
    #[error("{remotes} remotes can be chosen out of {pool} in more than {CHOICES_MAX} ways; make the pool smaller")]
    Choices {
        /// To be drawn.
        remotes: u8,
        /// Remotes of the pool.
        pool: usize,
    },
}

impl Draw {
    /// Checks it against the number of remotes there are.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn check(&self, pool: usize) -> Result<(), DrawError> {
        let remotes = self.remotes;
        if pool > POOL_MAX {
            return Err(DrawError::Pool { pool });
        }
        if !(2..=REMOTES_MAX).contains(&remotes) || usize::from(remotes) > pool {
            return Err(DrawError::Remotes { remotes, pool });
        }
        let few = choices(pool as u64, u64::from(remotes)).is_some_and(|choices| choices <= CHOICES_MAX);
        if few { Ok(()) } else { Err(DrawError::Choices { remotes, pool }) }
    }
}

/// The ways to choose `k` out of `n`; none if there are more than a number holds.
fn choices(n: u64, k: u64) -> Option<u64> {
    (0..k.min(n - k)).try_fold(1_u64, |ways, i| Some(ways.checked_mul(n - i)? / (i + 1)))
}

/// The perspectives of one attempt, by their places in [`crate::record::Setup::perspectives`]: the primary's, which is
/// 0, then the remotes' in the order of their bits.
pub type Members = Box<[u8]>;

/// The lawful cohorts of a pool under each policy row; looked for when first wanted.
#[derive(Clone, Debug)]
pub struct Lawful(Arc<[OnceLock<Vec<Members>>]>);

impl Lawful {
    /// None looked for yet.
    #[must_use]
    pub fn of_rows(rows: usize) -> Self {
        Self((0..rows).map(|_| OnceLock::new()).collect())
    }

    /// Those of a row, by its number; in the order of the pool.
    #[must_use]
    pub fn under(&self, number: usize, row: &PolicyRow, perspectives: &[Perspective], draw: Draw) -> &[Members] {
        self.0.get(number).map_or(&[], |cell| cell.get_or_init(|| lawful(perspectives, draw, row)))
    }
}

/// The one of several that a seed chooses.
#[must_use]
pub fn chosen(cohorts: &[Members], seed: CohortSeed) -> Option<&Members> {
    // A list of at most CHOICES_MAX out of 2^128 seeds: no cohort is favoured by more than one part in 2^112.
    let place = seed.0.checked_rem(cohorts.len() as u128)?;
    cohorts.get(usize::try_from(place).ok()?)
}

/// All cohorts of the pool that are lawful under a row. The primary is the first of `perspectives`.
fn lawful(perspectives: &[Perspective], draw: Draw, row: &PolicyRow) -> Vec<Members> {
    let Some((primary, pool)) = perspectives.split_first() else { return Vec::new() };
    if draw.check(pool.len()).is_err() {
        return Vec::new();
    }
    let apart = |a: &Perspective, b: &Perspective| {
        let far = |site: Site| chord_km(site.of(a), site.of(b)) >= DISTANCE_MIN_KM + DISTANCE_MARGIN_KM;
        far(Site::Perspective) && far(Site::Resolver)
    };
    let pairs: Vec<u128> = perspectives
        .iter()
        .map(|a| perspectives.iter().enumerate().filter(|(_, b)| apart(a, b)).fold(0, |mask, (i, _)| mask | bit(i)))
        .collect();
    let mut found = Vec::new();
    let mut chosen = vec![0_u8];
    extend(&mut chosen, usize::from(draw.remotes), &pairs, &mut |members| {
        let remotes: Vec<Perspective> =
            members.iter().skip(1).map(|place| perspectives[usize::from(*place)].clone()).collect();
        if Cohort::check(primary, &remotes, row).is_ok() && draw.diversity.lacking(primary, &remotes).is_empty() {
            found.push(members.into());
        }
    });
    found
}

/// Adds remotes in ascending order, each far from all that are there, and hands on those that are complete.
fn extend(chosen: &mut Vec<u8>, remotes: usize, pairs: &[u128], complete: &mut impl FnMut(&[u8])) {
    if chosen.len() > remotes {
        return complete(chosen);
    }
    let from = chosen.last().map_or(1, |last| usize::from(*last) + 1);
    for place in from..pairs.len() {
        if chosen.iter().all(|other| pairs[usize::from(*other)] & bit(place) != 0) {
            chosen.push(place as u8);
            extend(chosen, remotes, pairs, complete);
            chosen.pop();
        }
    }
}

/// The primary has a place too, so there are at most one more than [`POOL_MAX`].
fn bit(place: usize) -> u128 {
    1_u128 << place
}

const _: () = assert!(POOL_MAX < 128, "a mask has a bit for every place");
