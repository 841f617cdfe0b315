//! Primary and remotes compared under the policy row in force.
//!
//! * [`policy`]: dated rows as data.
//! * [`cohort`]: which perspectives may be asked together.
//! * [`draw`]: which of them are, out of a pool.
//! * [`quorum`] counts.
//! * [`mod@decide`] makes the verdict.

pub mod cohort;
pub mod decide;
pub mod draw;
pub mod policy;
pub mod quorum;

pub use decide::{Answer, Figures, PerspectiveState, Refusal, Verdict, decide, disagree};
