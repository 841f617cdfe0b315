//! Problem types of RFC 8555 §6.7: the one place where reasons become types, and documents of them.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{
    base::limits::NAME_OCTETS_MAX,
    explain::{Blame, Explanation, Retry},
    request::{CheckRequest, Identifier, RequestError},
};

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

/// The namespace of the types (RFC 8555 §9.6).
const NAMESPACE: &str = "urn:ietf:params:acme:error:";

/// A problem document (RFC 9457) as RFC 8555 §6.7 uses it, with a sub-problem for each perspective that did not confirm
/// (§6.7.1) and, as extension members, whose turn it is and when trying again can help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemDocument {
    /// The type's URN.
    #[serde(rename = "type")]
    pub urn: String,
    /// Sentences.
    pub detail: String,
    /// What it is about, as in an ACME order.
    pub identifier: AcmeIdentifier,
    /// Whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// When trying again can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Whose problem a sub-problem is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perspective: Option<String>,
    /// One for each perspective that did not confirm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subproblems: Vec<ProblemDocument>,
}

/// An identifier of an ACME order (RFC 8555 §7.1.3, RFC 8738 §3, RFC 8823 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcmeIdentifier {
    /// `dns`, `ip` or `email`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// As written.
    pub value: String,
}

impl ProblemDocument {
    /// That of a request which was refused before anything was sent. The identifier is as it was given.
    #[must_use]
    pub fn of_refusal(identifier: &str, error: &RequestError) -> Self {
        let kind = match identifier.parse::<IpAddr>() {
            Ok(_) => "ip",
            Err(_) if identifier.contains('@') => "email",
            Err(_) => "dns",
        };
        let value = identifier.chars().take(NAME_OCTETS_MAX + 2).collect();
        Self {
            urn: format!("{NAMESPACE}{}", error.problem()),
            detail: error.to_string(),
            identifier: AcmeIdentifier { kind, value },
            blame: Some(Blame::Request),
            retry: Some(Retry::Fix),
            perspective: None,
            subproblems: Vec::new(),
        }
    }

    /// That of an attempt; none if it passed.
    #[must_use]
    pub fn of(request: &CheckRequest, explanation: &Explanation) -> Option<Self> {
        let kind = match &request.identifier {
            Identifier::Name(_) | Identifier::Wildcard(_) => "dns",
            Identifier::Ip(_) => "ip",
            Identifier::Mailbox(_) => "email",
        };
        let identifier = AcmeIdentifier { kind, value: request.identifier.to_string() };
        let subproblems = explanation.parts.iter().map(|part| Self {
            urn: format!("{NAMESPACE}{}", part.problem),
            detail: part.detail.clone(),
            identifier: identifier.clone(),
            blame: Some(part.blame),
            retry: Some(part.retry),
            perspective: Some(part.perspective.to_string()),
            subproblems: Vec::new(),
        });
        Some(Self {
            urn: format!("{NAMESPACE}{}", explanation.problem?),
            detail: explanation.message.clone(),
            subproblems: subproblems.collect(),
            identifier,
            blame: explanation.blame,
            retry: explanation.retry,
            perspective: None,
        })
    }
}
