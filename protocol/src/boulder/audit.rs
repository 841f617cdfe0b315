//! What is written down and counted about each call.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use parallax_validation::problem::ProblemKind;
use serde::Serialize;
use tokio::time::Instant;

use super::reply::Problem;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// `DoDCV`.
    Dcv,
    /// `DoCAA`.
    Caa,
}

impl Operation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Dcv, Self::Caa];

    /// For labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dcv => "dcv",
            Self::Caa => "caa",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Control was shown, or CAA permits.
    Passed,
    /// With this problem.
    Problem(ProblemKind),
    /// With an error: the request cannot be, or comes too late.
    Refused,
    /// The caller went away before there was a result.
    Abandoned,
}

impl Ending {
    /// Every one that there is.
    pub const ALL: [Self; 13] = [
        Self::Passed,
        Self::Problem(ProblemKind::Caa),
        Self::Problem(ProblemKind::Connection),
        Self::Problem(ProblemKind::Dns),
        Self::Problem(ProblemKind::IncorrectResponse),
        Self::Problem(ProblemKind::Malformed),
        Self::Problem(ProblemKind::RejectedIdentifier),
        Self::Problem(ProblemKind::ServerInternal),
        Self::Problem(ProblemKind::Tls),
        Self::Problem(ProblemKind::Unauthorized),
        Self::Problem(ProblemKind::UnsupportedIdentifier),
        Self::Refused,
        Self::Abandoned,
    ];

    /// For labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Problem(kind) => kind.as_str(),
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Calls by what was called and how it ended, since the start. They only ever grow, and nothing else hangs on their
/// order.
#[derive(Debug, Default)]
pub struct Counters {
    calls: [[AtomicU64; Ending::ALL.len()]; Operation::ALL.len()],
}

impl Counters {
    pub(super) fn count(&self, operation: Operation, ending: Ending) {
        if let Some(counter) = self.counter(operation, ending) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of this kind.
    #[must_use]
    pub fn calls(&self, operation: Operation, ending: Ending) -> u64 {
        self.counter(operation, ending).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn counter(&self, operation: Operation, ending: Ending) -> Option<&AtomicU64> {
        let place = Ending::ALL.iter().position(|one| *one == ending)?;
        self.calls.get(operation as usize)?.get(place)
    }
}

/// Takes audit lines. It must not block.
pub trait Audit: Send + Sync + 'static {
    /// Takes one.
    fn write(&self, line: &AuditLine);
}

/// What is written down about a call that was not refused. It holds no key authorization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditLine {
    /// What was called.
    pub operation: Operation,
    /// The caller's number of the authorization.
    pub authz: i64,
    /// The caller's number of the account.
    pub requester: i64,
    /// What it was about, as the caller wrote it; escaped and cut.
    pub identifier: AuditIdentifier,
    /// The method, as the caller wrote it; escaped and cut.
    pub method: String,
    /// What was answered; none if it passed, or if nobody waited for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<AuditProblem>,
    /// What only the operator is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_error: Option<String>,
    /// From the call to its end.
    pub latency_ms: u64,
    /// As answered.
    pub perspective: String,
    /// As answered.
    pub rir: String,
    /// Addresses that servers were connected to, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses_tried: Vec<IpAddr>,
}

/// An identifier in an audit line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditIdentifier {
    /// `dns` or `ip`, or what else the caller wrote.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name or address.
    pub value: String,
}

/// A problem in an audit line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditProblem {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// Its text.
    pub detail: String,
}

/// One call from its acceptance to its end.
///
/// Invariant: each is counted and written down once, also if its future is dropped because the caller went away.
pub(super) struct Call<'a, A: Audit> {
    audit: &'a A,
    counters: &'a Counters,
    began: Instant,
    pub(super) line: AuditLine,
    ended: bool,
}

impl<'a, A: Audit> Call<'a, A> {
    pub(super) fn new(audit: &'a A, counters: &'a Counters, began: Instant, line: AuditLine) -> Self {
        Self { audit, counters, began, line, ended: false }
    }

    /// Ends with a result.
    pub(super) fn end(mut self, problem: Option<&Problem>) {
        self.line.problem = problem.map(|p| AuditProblem { kind: p.kind, detail: p.detail.clone() });
        self.line.internal_error = problem.and_then(|problem| problem.internal.clone());
        self.write(problem.map_or(Ending::Passed, |problem| Ending::Problem(problem.kind)));
    }

    fn write(&mut self, ending: Ending) {
        self.ended = true;
        self.line.latency_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counters.count(self.line.operation, ending);
        self.audit.write(&self.line);
    }
}

impl<A: Audit> Drop for Call<'_, A> {
    fn drop(&mut self) {
        if !self.ended {
            self.line.internal_error = Some("the caller went away before there was a result".to_owned());
            self.write(Ending::Abandoned);
        }
    }
}
