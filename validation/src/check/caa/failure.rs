//! When a CAA lookup that failed may count as permission (TLS BR 2.3.1 §4.2.2.1; req C16, C17, B5, B10).
//!
//! Only if the policy allows it at all, and only if all of this is in the evidence of the very perspective: the
//! zone is proven to be Insecure; the failure lies beyond our resolver, and a name server of the zone or of the
//! zone above replied to the perspective itself after it, so that its own way out works; the lookup was repeated,
//! and neither time answered from the resolver's memory; no alias leads elsewhere. The climb goes on above such a
//! level, so a parent that forbids still forbids.
//!
//! Invariant: what is missing from the evidence excuses nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observation::{DnsFailure, DnsLookup, DnsOutcome, InsecureBy, RecordType, SecurityStatus};

const SERVFAIL: u16 = 2;
/// RFC 8914 §4.14: the answer was a failure kept from before.
const EDE_CACHED_ERROR: u16 = 13;
/// Extended errors that leave the fault with the zone's servers: other, no reachable authority, network error, and
/// the failure kept from before, which is judged apart (RFC 8914 §4). Any other is about signatures or our side.
const EDE_BEYOND: [u16; 4] = [0, EDE_CACHED_ERROR, 22, 23];
/// Extended errors about signatures (RFC 8914 §4, and 25 and 27 of the registry).
const EDE_DNSSEC: [u16; 12] = [1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27];
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
    /// One of the two was answered from the resolver's memory (`cases.md` D36).
    FromMemory,
    /// No server outside replied to the perspective itself, so its own way out may be what failed.
    NotReached,
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
            Self::FromMemory => "a lookup was answered from our resolver's memory of the failure",
            Self::NotReached => "no name server replied to us directly, so the failure may lie on our side",
            Self::Alias => "the name is an alias, or that could not be told",
        })
    }
}

/// Whether a failed CAA lookup has everything the clause wants. `reached` is whether a name server outside replied
/// to the perspective itself after it.
///
/// # Errors
/// The first thing that is missing.
pub fn excuse(lookup: &DnsLookup, reached: bool) -> Result<(), NotExcused> {
    is_beyond_our_resolver(lookup)?;
    let insecure = lookup.validation.as_ref().filter(|validation| validation.status == SecurityStatus::Insecure);
    let proof = insecure.and_then(|validation| validation.insecure.as_ref()).ok_or(NotExcused::NotInsecure)?;
    if let InsecureBy::Unsupported { .. } = proof.by {
        return Err(NotExcused::Unsupported);
    }
    let repeat = lookup.repeat.as_ref().ok_or(NotExcused::NotRepeated)?;
    let is_of = |other: &DnsLookup, rtype| other.name == lookup.name && other.rtype == rtype;
    if !is_of(&repeat.first, lookup.rtype) || repeat.waited_us == 0 {
        return Err(NotExcused::NotRepeated);
    }
    is_beyond_our_resolver(&repeat.first)?;
    let sudden =
        repeat.first.elapsed_us > QUICK_US && lookup.elapsed_us.saturating_mul(CACHED_FACTOR) < repeat.first.elapsed_us;
    if sudden || is_from_memory(lookup) || is_from_memory(&repeat.first) {
        return Err(NotExcused::FromMemory);
    }
    let alias = repeat.alias.as_ref().filter(|alias| is_of(alias, RecordType::Cname));
    match alias.map(|alias| &alias.outcome) {
        // No alias; or the name's servers say nothing about that either.
        Some(DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial)) if denial.aliases.is_empty() => {}
        Some(DnsOutcome::Failed(DnsFailure::Rcode(SERVFAIL) | DnsFailure::Timeout)) => {}
        Some(_) | None => return Err(NotExcused::Alias),
    }
    if reached { Ok(()) } else { Err(NotExcused::NotReached) }
}

/// Whether an answer shows that it was not fetched.
fn is_from_memory(lookup: &DnsLookup) -> bool {
    let says_so = lookup.extended_errors.iter().any(|error| error.code == EDE_CACHED_ERROR);
    says_so || lookup.elapsed_us < AT_ONCE_US || lookup.transmissions == 0
}

/// SERVFAIL, or silence. A code of the resolver's own, such as REFUSED, and connections to it are our side.
fn is_beyond_our_resolver(lookup: &DnsLookup) -> Result<(), NotExcused> {
    let code = |codes: &[u16]| lookup.extended_errors.iter().any(|error| codes.contains(&error.code));
    let other_code = lookup.extended_errors.iter().any(|error| !EDE_BEYOND.contains(&error.code));
    match &lookup.outcome {
        DnsOutcome::Failed(DnsFailure::Dnssec(_)) => Err(NotExcused::Dnssec),
        DnsOutcome::Failed(_) if code(&EDE_DNSSEC) => Err(NotExcused::Dnssec),
        DnsOutcome::Failed(_) if other_code => Err(NotExcused::OwnSide),
        DnsOutcome::Failed(DnsFailure::Rcode(SERVFAIL) | DnsFailure::Timeout) => Ok(()),
        DnsOutcome::Failed(_) => Err(NotExcused::OwnSide),
        DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => Err(NotExcused::NotFailed),
    }
}
