//! The messages between engine and perspective nodes.
//!
//! The same types go over an in-memory channel today and over a link later; nothing here depends on both
//! ends being one process. A report names its attempt, its nonce and its perspective, so that a wrong,
//! replayed or mis-wired one is noticed and counts as a non-corroboration (req A12, A13, F2).

pub use parallax_validation::base::attempt::AttemptId;
use parallax_validation::{base::perspective::PerspectiveId, observation::Observation, plan::Plan};
use serde::{Deserialize, Serialize};

/// Tasks or reports that travel together.
pub const BATCH_ITEMS_MAX: usize = 256;

/// What a perspective is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The attempt it belongs to.
    pub attempt: AttemptId,
    /// Drawn afresh for this perspective and attempt; comes back in the report.
    pub nonce: u64,
    /// Who is asked.
    pub perspective: PerspectiveId,
    /// What to look up.
    pub plan: Plan,
}

/// What a perspective saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The attempt it belongs to.
    pub attempt: AttemptId,
    /// The task's nonce.
    pub nonce: u64,
    /// Who looked.
    pub perspective: PerspectiveId,
    /// The evidence.
    pub observation: Observation,
}
