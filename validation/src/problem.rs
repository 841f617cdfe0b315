//! Problem types of RFC 8555 §6.7: the one place where reasons become types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A problem type of RFC 8555 §6.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// CAA records forbid the CA to issue.
    Caa,
    /// The server could not connect to the validation target.
    Connection,
    /// There was a problem with a DNS query.
    Dns,
    /// The response received did not match the challenge's requirements.
    IncorrectResponse,
    /// The request message was malformed.
    Malformed,
    /// The server will not issue for the identifier.
    RejectedIdentifier,
    /// The server experienced an internal error.
    ServerInternal,
    /// The server received a TLS error.
    Tls,
    /// The client lacks sufficient authorization: the proof was not there.
    Unauthorized,
    /// An identifier is of an unsupported type.
    UnsupportedIdentifier,
}

impl ProblemKind {
    /// The last part of the URN.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caa => "caa",
            Self::Connection => "connection",
            Self::Dns => "dns",
            Self::IncorrectResponse => "incorrectResponse",
            Self::Malformed => "malformed",
            Self::RejectedIdentifier => "rejectedIdentifier",
            Self::ServerInternal => "serverInternal",
            Self::Tls => "tls",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedIdentifier => "unsupportedIdentifier",
        }
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
