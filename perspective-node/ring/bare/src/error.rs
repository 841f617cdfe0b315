//! Why a command ended without a result.

use std::io;

/// Our own settings, system or time failed; what a peer did wrong is counted instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BareError {
    #[error("the limit of {seconds} s passed after {done} of {wanted} items")]
    Limit { seconds: u64, done: u64, wanted: u64 },
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
    #[error("{0}")]
    Setting(&'static str),
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("report: {0}")]
    Report(#[from] serde_json::Error),
}

/// Says what failed, beside what the system said.
pub(crate) trait During<T> {
    fn during(self, what: &'static str) -> Result<T, BareError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: &'static str) -> Result<T, BareError> {
        self.map_err(|source| BareError::System { what, source: source.into() })
    }
}
