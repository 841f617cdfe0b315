//! What can go wrong with the small Internet itself. That a run ends otherwise than it ought to is no error but a result.

use std::{io, path::PathBuf, time::Duration};

use crate::netns::NetnsError;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum InternetError {
    /// Namespaces are for root alone.
    #[error("the laboratory makes network namespaces, which only root may: run it with sudo")]
    NotRoot,
    /// A program is not installed.
    #[error("the program {program} is missing: install the Debian package {package}")]
    Missing {
        /// Which.
        program: &'static str,
        /// Where it is from.
        package: &'static str,
    },
    /// A program of ours is not beside this one.
    #[error("{} is missing: build it, or say where it is with --bin", path.display())]
    NotBuilt {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A namespace or a wire.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file of the laboratory is not what the laboratory writes.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Where it is wrong.
        error: serde_json::Error,
    },
    /// There is no laboratory.
    #[error("no laboratory is up in {}: begin with `up`", .0.display())]
    NotUp(PathBuf),
    /// There is one already.
    #[error("a laboratory is up already: end it with `down`")]
    IsUp,
    /// A directory that holds something else.
    #[error(
        "{} holds something else than a laboratory that was made there: remove it yourself, or choose another with --dir",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// The laboratory of the directory has another name.
    #[error("the laboratory in {} is {is:?} and not {given:?}: leave --name away, or choose another with --dir", directory.display())]
    OtherName {
        /// Where its files are.
        directory: PathBuf,
        /// What it is called.
        is: String,
        /// What was given.
        given: String,
    },
    /// The namespaces of a name are another laboratory's.
    #[error(
        "the namespaces of {name:?} are {}: choose another with --name or --dir",
        owner.as_ref().map_or_else(
            || "of a laboratory of which nothing is written down".to_owned(),
            |owner| format!("of the laboratory in {}", owner.display()),
        )
    )]
    Anothers {
        /// The name.
        name: String,
        /// Where its files are; none if that is not known.
        owner: Option<PathBuf>,
    },
    /// Another command brings it up or takes it down just now.
    #[error("another command brings the laboratory {name:?} up or takes it down: wait for its end")]
    Held {
        /// The name.
        name: String,
    },
    /// A directory whose sockets would have names the kernel does not take.
    #[error("{}: the path is too long for the routers' sockets; choose a shorter one with --dir", .0.display())]
    LongPath(PathBuf),
    /// A program ended or said no.
    #[error("{what}: {said}")]
    Program {
        /// Which, doing what.
        what: String,
        /// What it said.
        said: String,
    },
    /// A router does not take a command.
    #[error("the router of AS {system} answers {command:?} with: {said}")]
    Router {
        /// Whose.
        system: u32,
        /// What was asked.
        command: String,
        /// What it said.
        said: String,
    },
    /// Something did not come about in time.
    #[error("not within {} s: {what}", limit.as_secs())]
    Late {
        /// What was waited for, and how it stood.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// Keys and certificates of our own programs.
    #[error("certificates of the laboratory: {0}")]
    Pki(String),
    /// A site that does not exist.
    #[error("there is no site {0:?}: one of ams1, iad1, waw1, syd1, gru1, jnb1")]
    NoSite(String),
    /// A system that does not exist.
    #[error("there is no AS {0} in the laboratory")]
    NoSystem(u32),
    /// A run that does not exist.
    #[error("there is no run {0:?}: `run --list` names them")]
    NoScenario(String),
    /// A signal came.
    #[error("stopped by a signal")]
    Stopped,
}

impl InternetError {
    /// For `map_err` on what is done to a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}
