//! The rules of multi-perspective issuance corroboration (MPIC), without I/O.
//!
//! One direction of flow: `request → plan → lookups → observations → verdict → record`. Each arrow is
//! one function of values. This crate opens no socket, reads no clock, draws no randomness and starts
//! no task: time, random bytes and settings are arguments. So a verdict is a pure function of
//! (request, observations, policy, clock), and a stored record can be judged again years later.
//!
//! * [`request`]: what is asked, fully parsed; a bad one cannot exist.
//! * [`plan`]: what each perspective must look up.
//! * [`lookup`]: protocol cores, bytes and time in, bytes and deadlines out.
//! * [`observation`]: what one perspective saw; evidence, never opinion.
//! * [`check`]: one perspective's answer, judged from its observation.
//! * [`verdict`]: primary and remotes compared under the policy in force.
//! * [`record`]: the audit entry, and its recomputation.
//! * [`explain`]: what the results mean, whose turn it is, and what to say.
//! * [`preflight`]: what a check would meet, before there is one.

pub mod base;
pub mod check;
pub mod explain;
pub mod lookup;
pub mod observation;
pub mod plan;
pub mod preflight;
pub mod problem;
pub mod record;
pub mod request;
pub mod verdict;
