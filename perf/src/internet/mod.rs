//! A small Internet of network namespaces: a real router in each autonomous system, our real programs at its edge, and an
//! attacker who really announces what is not its own.
//!
//! * [`topology`]: which systems there are, as data; all else follows from it.
//! * [`attack`], [`predict`]: what is announced, and where packets ought to go then.
//! * [`bird`], [`routes`]: the routers' settings, and where packets go.
//! * [`zones`], [`services`], [`responder`], [`settings`], [`programs`]: what runs.
//! * [`state`], [`up`], `owner`: brings it up, changes it, takes it down; the file that says what is up, and whose it is.
//! * [`scenario`], [`script`], [`verdict`], [`run`], [`requests`], [`evidence`], [`summary`]: runs with a known right outcome.
//! * [`status`], [`picture`]: how it stands.
//!
//! Invariant: no namespace has a wire that leads out, so nothing of this reaches a real network.

pub mod attack;
pub mod bird;
pub mod command;
pub mod error;
pub mod evidence;
mod owner;
pub mod picture;
pub mod predict;
pub mod programs;
pub mod requests;
pub mod responder;
mod rise;
pub mod routes;
pub mod run;
pub mod scenario;
pub mod script;
pub mod services;
pub mod settings;
pub mod state;
pub mod status;
pub mod summary;
pub mod topology;
pub mod up;
pub mod verdict;
pub mod zones;
