//! When a CAA lookup that failed may count as permission (TLS BR 2.3.1 §4.2.2.1; req C16, C17, B5, B10).
//!
//! Only if the policy allows it at all, and only if all of this is in the evidence of the very perspective: the
//! zone is proven to be Insecure; the failure lies beyond our resolver; the lookup was repeated, and the repeat
//! was not answered from the resolver's memory of the failure; no alias leads elsewhere. The climb goes on
//! above such a level, so a parent that forbids still forbids.
//!
//! Invariant: what is missing from the evidence excuses nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observation::{DnsFailure, DnsLookup, DnsOutcome, InsecureBy, SecurityStatus};

const SERVFAIL: u16 = 2;
/// RFC 8914 §4.14: the answer was a failure kept from before.
const EDE_CACHED_ERROR: u16 = 13;
/// Extended errors by which a resolver says that it, or its operator, will not answer: not ready, blocked,
/// censored, filtered, prohibited, not authoritative, not supported (RFC 8914 §4.15 to §4.22).
const EDE_OWN_SIDE: [u16; 7] = [14, 15, 16, 17, 18, 20, 21];
/// Extended errors about signatures (RFC 8914 §4).
const EDE_DNSSEC: [u16; 10] = [1, 2, 5, 6, 7, 8, 9, 10, 11, 12];
/// An answer this much faster than the first cannot have come from the same servers.
const CACHED_FACTOR: u64 = 20;
/// A failure that took less may be as quick again.
const QUICK_US: u64 = 20_000;
/// What comes back within this, microseconds, did not go to anybody else's server and back.
const AT_ONCE_US: u64 = 1_000;

/// Why a failed lookup does not count as permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotExcused {
    /// It did not fail.
    NotFailed,
    /// Its zone is not proven to be Insecure here.
    NotInsecure,
    /// Its zone is signed with algorithms nobody here can check (req B10).
    Unsupported,
    /// The failure is our resolver's, or on the way to it.
    OwnSide,
    /// It is about DNSSEC (req B5).
    Dnssec,
    /// It was not repeated.
    NotRepeated,
    /// The repeat was answered from the resolver's memory (`cases.md` D36).
    FromMemory,
    /// The name is an alias, or that could not be told.
    Alias,
}

impl fmt::Display for NotExcused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFailed => "the lookup did not fail",
            Self::NotInsecure => "the zone is not proven to be unsigned",
            Self::Unsupported => "the zone is signed, with algorithms that cannot be checked here",
            Self::OwnSide => "the failure may lie on our side",
            Self::Dnssec => "the failure is about DNSSEC",
            Self::NotRepeated => "the lookup was not repeated",
            Self::FromMemory => "the repeat was answered from our resolver's memory of the failure",
            Self::Alias => "the name is an alias, or that could not be told",
        })
    }
}

/// Whether a failed CAA lookup has everything the clause wants.
///
/// # Errors
/// The first thing that is missing.
pub fn excuse(lookup: &DnsLookup) -> Result<(), NotExcused> {
    is_beyond_our_resolver(lookup)?;
    let insecure = lookup.validation.as_ref().filter(|validation| validation.status == SecurityStatus::Insecure);
    let proof = insecure.and_then(|validation| validation.insecure.as_ref()).ok_or(NotExcused::NotInsecure)?;
    if let InsecureBy::Unsupported { .. } = proof.by {
        return Err(NotExcused::Unsupported);
    }
    let repeat = lookup.repeat.as_ref().ok_or(NotExcused::NotRepeated)?;
    is_beyond_our_resolver(&repeat.first)?;
    let memory = lookup.extended_errors.iter().any(|error| error.code == EDE_CACHED_ERROR);
    let sudden =
        repeat.first.elapsed_us > QUICK_US && lookup.elapsed_us.saturating_mul(CACHED_FACTOR) < repeat.first.elapsed_us;
    if memory || sudden || lookup.elapsed_us < AT_ONCE_US || lookup.transmissions == 0 {
        return Err(NotExcused::FromMemory);
    }
    match repeat.alias.as_ref().map(|alias| &alias.outcome) {
        // No alias; or the name's servers say nothing about that either.
        Some(DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_)) => Ok(()),
        Some(DnsOutcome::Failed(DnsFailure::Rcode(SERVFAIL) | DnsFailure::Timeout)) => Ok(()),
        Some(DnsOutcome::Answer(_) | DnsOutcome::Failed(_)) | None => Err(NotExcused::Alias),
    }
}

/// SERVFAIL, or silence while the resolver answered other questions of the task: the proof that the zone is
/// Insecure came from it. A code of the resolver's own, such as REFUSED, and connections to it are our side.
fn is_beyond_our_resolver(lookup: &DnsLookup) -> Result<(), NotExcused> {
    let code = |codes: &[u16]| lookup.extended_errors.iter().any(|error| codes.contains(&error.code));
    match &lookup.outcome {
        DnsOutcome::Failed(DnsFailure::Dnssec(_)) => Err(NotExcused::Dnssec),
        DnsOutcome::Failed(_) if code(&EDE_DNSSEC) => Err(NotExcused::Dnssec),
        DnsOutcome::Failed(_) if code(&EDE_OWN_SIDE) => Err(NotExcused::OwnSide),
        DnsOutcome::Failed(DnsFailure::Rcode(SERVFAIL) | DnsFailure::Timeout) => Ok(()),
        DnsOutcome::Failed(_) => Err(NotExcused::OwnSide),
        DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => Err(NotExcused::NotFailed),
    }
}
