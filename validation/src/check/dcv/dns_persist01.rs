//! dns-persist-01, a TXT record that stays: TLS BR 2.3.1 §3.2.2.4.22 for names and §3.2.2.5.8 for addresses,
//! draft-ietf-acme-dns-persist (req D9).
//!
//! The record says in the grammar of CAA's issue values (RFC 8659 §4.2) which CA may issue for which account. It is
//! public, and nothing in it changes from one validation to the next. One record that fits suffices; each perspective
//! is judged alone, by its own clock, so a remote that confirms saw a fitting record with the same accounturi.
//!
//! Beyond the section, as the draft has it, and all of it narrower: issuer names in lower case only, no known
//! parameter twice, `policy=wildcard` for wildcards and for names below the record's. There is no step from the name to
//! its CNAME target (TLS BR 2.3.1 §3.2.2.4, req D1): an alias at `_validation-persist` itself is followed, as for
//! any other record, and what stands at its end is the answer about that name.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dns01::joined_strings;
use crate::{
    check::{
        Contradiction, Finding, LookupFailure,
        caa::property::{IssueValue, IssueValueError, parse_issue_value},
    },
    observation::{DnsLookup, DnsOutcome},
    problem::ProblemKind,
    request::Identifier,
};

/// What a record must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The issuer domain names that stand for this CA, as its CP/CPS discloses them.
    pub issuer_domains: &'a [String],
    /// The requesting account.
    pub account_uri: &'a str,
    /// Whether the certificate would name a wildcard, or a name below the record's.
    pub wildcard: bool,
    /// When the perspective checked, by its own clock.
    pub at: Timestamp,
}

/// How the records found differ from what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistFault {
    /// Records found.
    pub found: u32,
    /// Which of them comes closest, from 0 in the order of the answer.
    pub record: u32,
    /// Why that one does not do.
    pub reason: PersistReason,
}

/// Why a record does not do; the first reason that fits. Those about a record of ours that cannot be read come
/// first, as the draft's error types do; then a record comes the closer, the more of it is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersistReason {
    /// It names this CA and is not in the grammar.
    Malformed(IssueValueError),
    /// It names this CA, and not in lower case.
    IssuerCase,
    /// It has one of the parameters twice.
    Repeated(Parameter),
    /// It has no accounturi, or an empty one.
    AccountMissing,
    /// Its persistUntil is no decimal number of seconds.
    UntilUnreadable,
    /// It does not allow wildcards.
    WildcardNotAllowed,
    /// Its time is over.
    Expired {
        /// Its persistUntil, Unix seconds.
        until: i64,
    },
    /// Its accounturi is not that of the requesting account.
    AccountDiffers,
    /// It is not in the grammar, and not known to be meant for this CA.
    Unreadable(IssueValueError),
    /// It names no CA.
    NoIssuer,
    /// It names another CA.
    OtherIssuer,
    /// Its character-strings do not add up to its data (RFC 1035 §3.3.14).
    BrokenStrings,
}

/// A parameter that has a meaning here. Others are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parameter {
    /// RFC 8657 §3.
    #[serde(rename = "accounturi")]
    AccountUri,
    /// Of the draft.
    #[serde(rename = "policy")]
    Policy,
    /// TLS BR 2.3.1 §3.2.2.4.22.
    #[serde(rename = "persistUntil")]
    PersistUntil,
}

impl Parameter {
    const ALL: [Self; 3] = [Self::AccountUri, Self::Policy, Self::PersistUntil];

    /// Its tag. In a record it may have any case.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::AccountUri => "accounturi",
            Self::Policy => "policy",
            Self::PersistUntil => "persistUntil",
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag())
    }
}

impl PersistReason {
    /// The problem type of RFC 8555 §6.7: a record of ours that cannot be read is malformed, all else is
    /// unauthorized, as the draft has it.
    #[must_use]
    pub fn problem(&self) -> ProblemKind {
        match self.distance() {
            0 => ProblemKind::Malformed,
            _ => ProblemKind::Unauthorized,
        }
    }

    fn distance(&self) -> u8 {
        match self {
            Self::Malformed(_)
            | Self::IssuerCase
            | Self::Repeated(_)
            | Self::AccountMissing
            | Self::UntilUnreadable => 0,
            Self::WildcardNotAllowed => 1,
            Self::Expired { .. } => 2,
            Self::AccountDiffers => 3,
            Self::Unreadable(_) => 4,
            Self::NoIssuer => 5,
            Self::OtherIssuer => 6,
            Self::BrokenStrings => 7,
        }
    }
}

/// The name whose TXT is asked (TLS BR 2.3.1 §3.2.2.4.22 and §3.2.2.5.8).
#[must_use]
pub fn record_name(subject: &Identifier) -> Option<String> {
    match subject {
        Identifier::Name(name) | Identifier::Wildcard(name) => Some(format!("_validation-persist.{name}")),
        Identifier::Ip(address) => Some(format!("_ip-validation-persist.{}", reverse_name(*address))),
        Identifier::Mailbox(_) => None,
    }
}

/// The name of an address below `in-addr.arpa` (RFC 1035 §3.5) or `ip6.arpa` (RFC 3596 §2.5).
#[must_use]
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let labels = (0..32).map(|nibble| format!("{:x}.", bits >> (4 * nibble) & 15));
            labels.chain(["ip6.arpa".to_owned()]).collect()
        }
    }
}

/// Whether RDATA looks like such a record, whoever it is for. One that does not can be no right one.
#[must_use]
pub fn resembles(rdata: &[u8]) -> bool {
    let tag = Parameter::AccountUri.tag().as_bytes();
    joined_strings(rdata).is_some_and(|value| value.windows(tag.len()).any(|window| window.eq_ignore_ascii_case(tag)))
}

/// Judges a TXT lookup.
#[must_use]
pub fn judge(wanted: &Wanted<'_>, seen: &DnsLookup) -> Finding {
    let set = match &seen.outcome {
        DnsOutcome::Answer(set) => set,
        DnsOutcome::Nodata(_) => return Finding::Contradicted(Contradiction::NoRecord { nxdomain: false }),
        DnsOutcome::Nxdomain(_) => return Finding::Contradicted(Contradiction::NoRecord { nxdomain: true }),
        DnsOutcome::Failed(failure) => {
            let (name, rtype, failure) = (seen.name.clone(), seen.rtype, failure.clone());
            return Finding::Failed(LookupFailure::Dns { name, rtype, failure });
        }
    };
    let mut closest: Option<(u32, PersistReason)> = None;
    for (record, rdata) in (0_u32..).zip(&set.rdata) {
        let judged = match joined_strings(rdata.as_slice()) {
            Some(value) => judge_value(wanted, &value),
            None => Err(PersistReason::BrokenStrings),
        };
        match judged {
            Ok(()) => return Finding::Confirmed,
            Err(reason) if closest.as_ref().is_none_or(|(_, other)| reason.distance() < other.distance()) => {
                closest = Some((record, reason));
            }
            Err(_) => {}
        }
    }
    let found = u32::try_from(set.rdata.len()).unwrap_or(u32::MAX);
    match closest {
        Some((record, reason)) => Finding::Contradicted(Contradiction::Persist(PersistFault { found, record, reason })),
        None => Finding::Contradicted(Contradiction::NoRecord { nxdomain: false }),
    }
}

/// Judges the value of one record, its character-strings joined.
///
/// # Errors
/// The first reason why it does not do.
pub fn judge_value(wanted: &Wanted<'_>, value: &[u8]) -> Result<(), PersistReason> {
    let said = match parse_issue_value(value) {
        Ok(said) => said,
        Err(error) if is_meant_for(wanted, value) => return Err(PersistReason::Malformed(error)),
        Err(error) => return Err(PersistReason::Unreadable(error)),
    };
    let issuer = said.issuer.as_deref().ok_or(PersistReason::NoIssuer)?;
    if !is_own(wanted, issuer) {
        return Err(PersistReason::OtherIssuer);
    }
    if issuer.bytes().any(|octet| octet.is_ascii_uppercase()) {
        return Err(PersistReason::IssuerCase);
    }
    if let Some(parameter) = Parameter::ALL.into_iter().find(|parameter| values(&said, *parameter).count() > 1) {
        return Err(PersistReason::Repeated(parameter));
    }
    let one = |parameter| values(&said, parameter).next();
    let account =
        one(Parameter::AccountUri).filter(|account| !account.is_empty()).ok_or(PersistReason::AccountMissing)?;
    let until = match one(Parameter::PersistUntil) {
        Some(text) => Some(seconds(text).ok_or(PersistReason::UntilUnreadable)?),
        None => None,
    };
    if account != wanted.account_uri {
        return Err(PersistReason::AccountDiffers);
    }
    if let Some(until) = until.filter(|until| is_after(wanted.at, *until)) {
        return Err(PersistReason::Expired { until });
    }
    let allows_wildcard = one(Parameter::Policy).is_some_and(|policy| policy.eq_ignore_ascii_case("wildcard"));
    if wanted.wildcard && !allows_wildcard { Err(PersistReason::WildcardNotAllowed) } else { Ok(()) }
}

fn values(said: &IssueValue, parameter: Parameter) -> impl Iterator<Item = &str> {
    let fits = move |tag: &str| tag.eq_ignore_ascii_case(parameter.tag());
    said.parameters.iter().filter(move |(tag, _)| fits(tag)).map(|(_, value)| value.as_str())
}

fn is_own(wanted: &Wanted<'_>, issuer: &str) -> bool {
    wanted.issuer_domains.iter().any(|own| own.eq_ignore_ascii_case(issuer))
}

/// Whether a value that is not in the grammar begins with a name of this CA, quotation marks and a final dot aside.
/// Others are not ours to complain about: several CAs may have their records side by side.
fn is_meant_for(wanted: &Wanted<'_>, value: &[u8]) -> bool {
    let begin = value.trim_ascii_start();
    let end = begin.iter().position(|octet| matches!(octet, b';' | b' ' | b'\t')).unwrap_or(begin.len());
    let issuer = String::from_utf8_lossy(&begin[..end]);
    let issuer = issuer.trim_matches(['"', '\'']);
    is_own(wanted, issuer.strip_suffix('.').unwrap_or(issuer))
}

/// Unix seconds in decimal digits, with `-` before 1970.
fn seconds(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_decimal = !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit());
    if is_decimal { text.parse().ok() } else { None }
}

/// Whether `at` is after `until`: at the very second, to the nanosecond, it is not yet.
fn is_after(at: Timestamp, until: i64) -> bool {
    at.as_nanosecond() > i128::from(until) * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_e_reverse_names_of_both_families() {
        for (address, name) in [
            ("192.0.2.7", "7.2.0.192.in-addr.arpa"),
            ("2001:db8::567:89ab", "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        ] {
            assert_eq!(reverse_name(address.parse().expect("an address")), name);
        }
    }

    #[test]
    fn seconds_are_decimal_digits_and_nothing_else() {
        assert_eq!(["0", "1767225600", "007", "-1"].map(seconds), [Some(0), Some(1_767_225_600), Some(7), Some(-1)]);
        for text in ["", "-", "+1", "1.0", "0x10", "1e9", "--1", "1 ", "1767225600Z", "99999999999999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
