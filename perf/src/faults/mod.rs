//! A bad network of our own: frames between two interfaces are late, lost, doubled, out of order, too many or too
//! large, and some that come were never sent.
//!
//! ```text
//! rules    what is to be done, out of a file
//! policy   (time, frame) → frames and when; by a seed           pure
//! forge    DNS answers and TCP resets that nobody sent          pure
//! forward  sockets, clock, threads
//! ```
//!
//! Left out: everything above Ethernet but what is forged, and more than two interfaces.

mod forge;
pub mod forward;
pub mod policy;
pub mod rules;

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::Args;
use parallax_ring::FramesError;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::rules::Rules;
use crate::netns::NetnsError;

pub use forward::{Forwarded, Forwarder};

/// Why frames are not forwarded.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// The rules could not be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// They are not what rules look like.
    #[error("{}: {error}", path.display())]
    Rules {
        /// Which file.
        path: PathBuf,
        /// Where, and what is wrong.
        error: Box<toml::de::Error>,
    },
    /// A value of them means nothing.
    #[error("{table}.{key} cannot be {value}")]
    Value {
        /// The table.
        table: &'static str,
        /// The key.
        key: &'static str,
        /// As given.
        value: String,
    },
    /// An interface could not be opened.
    #[error(transparent)]
    Interface(#[from] FramesError),
    /// A namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// Frames could not be taken or sent any more.
    #[error("frames cannot be moved: {0}")]
    Moving(io::Error),
    /// Signals could not be waited for.
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
}

/// Two interfaces, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Between([String; 2]);

impl FromStr for Between {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(',') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() && !b.contains(',') && a != b => {
                Ok(Self([a.to_owned(), b.to_owned()]))
            }
            _ => Err("two different interfaces, parted by a comma, are needed"),
        }
    }
}

/// Forwarding between two interfaces.
#[derive(Debug, Args)]
pub struct Forward {
    /// Both interfaces, parted by a comma, in the network namespace that this is run in.
    #[arg(long, value_name = "A,B")]
    between: Between,
    /// What is to be done to frames; without, nothing is.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

/// Forwards until its time is over or it is told to stop; prints `ready`, and in the end what was done as JSON.
///
/// # Errors
/// See [`FaultsError`].
pub fn run(command: &Forward) -> Result<ExitCode, FaultsError> {
    let rules = command.policy.as_deref().map(Rules::read).transpose()?.unwrap_or_default();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(FaultsError::Signals)?;
    }
    let wire = forward::Wire::open(command.between.0.each_ref().map(String::as_str), rules)?;
    println!("ready");
    let forwarded = wire.run(Duration::from_secs(command.seconds), &stop)?;
    // A structure of numbers is always serializable.
    println!("{}", serde_json::to_string(&forwarded).unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}
