//! `parallax preflight`: what a check of a name would meet, told before there is one.
//!
//! Every configured perspective makes the lookups of a check and asks every name server of the name's zone itself;
//! `parallax_validation::preflight` says what that means. Names of a file are carried out some at a time, and results come
//! in the order they end. Nothing is written to a journal, no verdict is made, and no attempt uses what was seen.
//!
//! Invariant: nothing is sent before every name was checked.

mod fits;
mod fleet;
mod names;
mod output;

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use parallax_validation::{
    base::perspective::PerspectiveId,
    preflight::{Preflight, Subject, judge},
};
use thiserror::Error;

pub use self::{
    fleet::NAMES_IN_FLIGHT_MAX,
    names::{BadNames, NAMES_MAX, NamesError},
    output::{Form, Summary, as_text, summary_text},
};
use self::{
    fleet::{Fleet, Seen},
    names::{Checking, lines, read_file},
    output::Results,
};
use crate::{bulk::progress_bar, config::Config, corroborate::EngineError, log::LogForm};

/// What a preflight is given.
#[derive(Clone, Debug)]
pub struct PreflightOptions {
    /// Names, `*.` included; none if there is a file.
    pub names: Vec<String>,
    /// A file of names, one a line; `-` is standard input.
    pub file: Option<PathBuf>,
    /// The instant whose policy row is used; now if none.
    pub at: Option<Timestamp>,
    /// Labels before the name that make the challenge name.
    pub challenge_label: String,
    /// Results; none is standard output.
    pub out: Option<PathBuf>,
    /// How results are written.
    pub form: Form,
    /// Whether progress may be drawn.
    pub progress: bool,
    /// How what happens to links is written.
    pub log: LogForm,
}

/// A preflight that could not be carried out.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// Names.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// Where results were to go.
    #[error("{}: {error}", path.display())]
    Out {
        /// Which file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Results cannot be written.
    #[error("{}: {error}", path.display())]
    Results {
        /// Where to.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A node does not start, or a certificate cannot be used.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A node of this process ended; what it said stands on standard error.
    #[error("the node of {0} ended")]
    NodeEnded(PerspectiveId),
}

impl PreflightError {
    /// Whether what was given cannot be used, and nothing was sent.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::Names(_) | Self::Out { .. } | Self::Engine(EngineError::Identity(_)) => true,
            Self::Results { .. } | Self::Engine(_) | Self::NodeEnded(_) => false,
        }
    }
}

/// Carries out a preflight. `stop` ends it early: what has ended is written, and the rest is left.
///
/// # Errors
/// Names or files that cannot be used, before anything is sent; nodes or results that fail, later.
pub fn run(config: &Config, options: &PreflightOptions, stop: &AtomicBool) -> Result<Summary, PreflightError> {
    let rules = config.request_rules();
    let label = options.challenge_label.as_str();
    let checking = Checking { rules: &rules, challenge_label: label, now: Timestamp::now() };
    let names = match &options.file {
        Some(path) => {
            let octets = read_file(path)?;
            checking.all(lines(&octets).map(|(line, name)| (Some(line), name)))?
        }
        None => checking.all(options.names.iter().map(|name| (None, name.as_bytes())))?,
    };
    // A fleet that does not open leaves no empty file.
    let mut fleet = Fleet::open(config, label, Arc::new(options.log))?;
    let mut results = Results::open(options.out.as_deref(), options.form)?;
    let bar = options.progress && names.len() > 1 && std::io::stderr().is_terminal();
    let progress = bar.then(|| progress_bar(Some(names.len() as u64)));
    let at = options.at;
    let mut left = names.iter();
    let mut interrupted = false;
    loop {
        if stop.load(Ordering::Relaxed) {
            interrupted = true;
            break;
        }
        while fleet.has_room() {
            let Some(name) = left.next() else { break };
            // It was checked with all the others.
            if let Ok(request) = checking.request(name, "preflight") {
                fleet.begin(request);
            }
        }
        if !fleet.is_busy() {
            break;
        }
        for seen in fleet.turn()? {
            results.write(&judged(config, at, &seen))?;
            if let Some(progress) = &progress {
                progress.inc(1);
            }
        }
        results.flush()?;
    }
    if let Some(progress) = progress {
        progress.finish_and_clear();
    }
    Ok(results.summary(names.len() as u64, fleet.rejected(), interrupted))
}

fn judged(config: &Config, at: Option<Timestamp>, seen: &Seen) -> Preflight {
    let at = at.unwrap_or_else(Timestamp::now);
    let subject = Subject { request: &seen.request, rules: &config.rules, at };
    let observations: Vec<_> = seen.observations.iter().map(Option::as_deref).collect();
    judge(&subject, &observations)
}
