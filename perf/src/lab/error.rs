//! What can go wrong with the laboratory itself.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why the laboratory could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// An address is in use, or may not be used.
    #[error("cannot listen on {transport} {address}: {source}")]
    Bind {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The address and port wanted.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A port that must stay closed is open.
    #[error("{0} must be closed, but something listens there")]
    NotClosed(SocketAddr),
    /// The black hole lets connections through.
    #[error("cannot fill the accept queue of {0}: connections still succeed")]
    NotBlack(SocketAddr),
    /// Load could not be put on.
    #[error("{0}")]
    Load(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `lab.json` is not what `lab generate` writes.
    #[error("{path}: {source}")]
    Description {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// More requests than the seven digits of an index can number.
    #[error("{0} requests are too many: at most {max}", max = super::world::REQUESTS_MAX)]
    TooMany(u64),
    /// A share of slow requests beyond what the kinds hold.
    #[error("a slow share of {0} is out of range: 0 to 0.03")]
    SlowShare(f64),
    /// A thread or its io_uring could not be started.
    #[error("cannot start the {thread} thread: {source}")]
    Start {
        /// Which one.
        thread: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The servers' key or settings for TLS could not be made.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The command to run did not start.
    #[error("cannot run {command}: {source}")]
    Command {
        /// Its name.
        command: String,
        /// What the system said.
        source: io::Error,
    },
}
