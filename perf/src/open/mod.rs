//! `parallax-perf open`: load that does not wait, on the real engine, and a file with what came of it.
//!
//! Requests are due on a schedule and leave when they are, whether those before have ended or not, as those of a CA's
//! callers do. Latency counts from when a request was due. A closed loop would hide what this shows: it asks less as soon
//! as answers come later.
//!
//! ```text
//! mix schedule prepare   what is asked and when                 pure
//! answer tally           answers, held against the right ones   pure
//! knee                   where it ends, and for lack of what    pure
//! result check latency   the file; failure: why a run is no figure
//! programs process watch laboratory and engine, and what they use
//! drive                  the generator
//! ```
//!
//! Each run has a laboratory and an engine of its own, so that none begins with what another left behind.
//!
//! Left out: nodes elsewhere, callers on many connections, and any network but loopback.

pub mod answer;
mod assemble;
pub mod check;
mod command;
pub mod drive;
pub mod failure;
pub mod knee;
pub mod latency;
pub mod mix;
pub mod prepare;
pub mod process;
pub mod programs;
pub mod result;
pub mod schedule;
pub mod tally;
pub mod watch;

use std::{io, path::PathBuf};

use thiserror::Error;

pub use self::command::{Open, measure, run};
use self::{mix::MixError, result::ResultError};
use crate::program::StartError;

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The mix.
    #[error("--mix: {0}")]
    Mix(#[from] MixError),
    /// The file of results.
    #[error("--out: {0}")]
    Result(#[from] ResultError),
    /// A program is missing.
    #[error("{0} is not there: build it, or name its directory with --bin-dir")]
    NoProgram(PathBuf),
    /// A program did not become ready.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Every port that was tried is in use.
    #[error("no ports for laboratory and engine are free")]
    NoPorts,
    /// The certificates.
    #[error("certificates cannot be made: {0}")]
    Pki(String),
    /// The laboratory's settings are not what was expected.
    #[error("the laboratory's settings cannot be read: {0}")]
    Settings(String),
    /// A request of the laboratory's is not one of ours.
    #[error("a request of the laboratory cannot be read: {0}")]
    Request(serde_json::Error),
    /// More requests than can be kept.
    #[error("{0:.0} requests in one run; at most {max}", max = prepare::REQUESTS_MAX)]
    TooManyRequests(f64),
    /// The laboratory has not so many of a kind.
    #[error("the laboratory has too few requests of the kind {0} for so long a run at such a rate")]
    TooFewOfKind(&'static str),
    /// A file or directory cannot be written.
    #[error("{path}: {error}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The engine cannot be reached.
    #[error("the engine cannot be asked: {0}")]
    Engine(String),
    /// The generator cannot be bound to its CPU.
    #[error("the generator {0}")]
    Core(String),
    /// A thread, a runtime or a signal cannot be had.
    #[error("{0}")]
    System(io::Error),
    /// A thread of the generator panicked, and has said why.
    #[error("the generator panicked")]
    Panicked,
    /// A signal came.
    #[error("interrupted; what was not written is lost")]
    Interrupted,
}
