//! The messages between engine and perspective nodes.
//!
//! The same types go over an in-memory channel and over a link; nothing here depends on both ends being one process.
//!
//! * here: what engine and nodes say to each other;
//! * [`api`]: requests of the engine's own API, as messages and as what they mean;
//! * [`boulder`]: what a node answers when Boulder's validation authority calls it;
//! * [`open_mpic`]: the API of Open MPIC, as functions from bodies to bodies;
//! * [`transport`]: how the programs speak to each other, HTTP over mutual TLS;
//! * [`pki`]: a private authority for the programs' certificates;
//! * [`wire`]: the messages and services of `proto/`.

pub mod api;
pub mod boulder;
pub mod open_mpic;
pub mod pki;
pub mod transport;
pub mod wire;

use std::sync::Arc;

pub use parallax_validation::base::attempt::AttemptId;
use parallax_validation::{
    base::perspective::{PerspectiveId, Rir},
    observation::Observation,
    plan::Plan,
};
use serde::{Deserialize, Serialize};

/// Tasks or reports that travel together.
pub const BATCH_ITEMS_MAX: usize = 256;

/// Version of the link between engine and nodes, and of the form of tasks and reports.
pub const LINK_FORM: u32 = 1;

/// What a report must bring back unchanged, so that a wrong, replayed or mis-wired one is noticed (req A12, A13, F2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The attempt.
    pub attempt: AttemptId,
    /// Drawn afresh for this perspective and attempt.
    pub nonce: u64,
    /// Digest of the rules and perspectives that the attempt is made under.
    pub setup: Arc<str>,
}

/// What a perspective is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Comes back in the report.
    pub header: Header,
    /// Who is asked.
    pub perspective: PerspectiveId,
    /// What to look up.
    pub plan: Arc<Plan>,
}

/// What a perspective saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The task's.
    pub header: Header,
    /// Who looked.
    pub perspective: PerspectiveId,
    /// Where it believes to be (req A12).
    pub rir: Rir,
    /// The evidence.
    pub observation: Box<Observation>,
}
