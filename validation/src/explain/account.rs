//! TXT records that belong to an account, in words.

use super::{
    Cause, dns,
    text::{list, number},
};
use crate::{
    base::octets::Octets,
    check::dcv::{
        Method,
        dns_persist01::{PersistFault, PersistReason},
        dns01::joined_strings,
    },
    observation::{DnsLookup, DnsOutcome, HintObservation},
    problem::ProblemKind,
    request::CheckRequest,
};

/// Octets of a record, or of a URI, that a message shows.
const SHOWN_BYTES: usize = 200;

/// A TXT name without records.
pub(super) fn no_txt(request: &CheckRequest, lookup: &DnsLookup, hints: &[HintObservation]) -> Cause {
    let mut cause = dns::no_txt(lookup, hints);
    let challenge = request.control.as_ref().filter(|challenge| challenge.method == Method::DnsAccount01);
    if let Some(account_uri) = challenge.and_then(|challenge| challenge.account_uri()) {
        cause.details.push(format!(
            "The first label of that name is made from the account URI {}; another account has another label.",
            shown(account_uri)
        ));
    }
    cause
}

/// Records of dns-persist-01, none of which does.
pub(super) fn wrong_record(request: &CheckRequest, lookup: &DnsLookup, fault: &PersistFault) -> Cause {
    let found = if fault.found == 1 {
        format!("the one TXT record at {} does not do", lookup.name)
    } else {
        format!("none of the {} TXT records at {} does", number(fault.found as usize), lookup.name)
    };
    let which = if fault.found == 1 { "it" } else { "the closest one" };
    let did = format!("{found}: {which} {}", reason_in_words(&fault.reason));
    let account_uri = request.control.as_ref().and_then(|challenge| challenge.account_uri()).unwrap_or_default();
    let mut details: Vec<String> = record(lookup, fault.record).into_iter().collect();
    if matches!(fault.reason, PersistReason::Expired { .. }) {
        details.push("A record with a later persistUntil, or without one, would do.".to_owned());
    } else if fault.reason.problem() == ProblemKind::Unauthorized || fault.reason == PersistReason::AccountMissing {
        let mut parts = vec![
            "an issuer domain name of this CA in lower case".to_owned(),
            format!("accounturi={}", shown(account_uri)),
        ];
        if request.identifier.is_wildcard() || request.is_pruned() {
            parts.push("policy=wildcard".to_owned());
        }
        details.push(format!("Wanted are {}, with a semicolon between them.", list(&parts)));
    }
    Cause { problem: fault.reason.problem(), ..dns::record_cause(did, details) }
}

/// A clause whose subject is the record.
fn reason_in_words(reason: &PersistReason) -> String {
    match reason {
        PersistReason::Malformed(error) => format!("names this CA but is malformed at {error}"),
        PersistReason::IssuerCase => "names this CA with capital letters; enter its name in lower case".to_owned(),
        PersistReason::Repeated(parameter) => format!("has {parameter} more than once"),
        PersistReason::AccountMissing => "has no accounturi".to_owned(),
        PersistReason::UntilUnreadable => {
            "has a persistUntil that is no decimal number of seconds since 1970-01-01".to_owned()
        }
        PersistReason::WildcardNotAllowed => {
            "is for this account but not for wildcards and names below its own, for want of policy=wildcard".to_owned()
        }
        PersistReason::Expired { until } => {
            let when = jiff::Timestamp::from_second(*until).map(|time| format!(", {time}")).unwrap_or_default();
            format!("is for this account but has expired, by persistUntil={until}{when}")
        }
        PersistReason::AccountDiffers => "names this CA but another account".to_owned(),
        PersistReason::Unreadable(error) => format!("is not in the grammar of such records, at {error}"),
        PersistReason::NoIssuer => "names no CA".to_owned(),
        PersistReason::OtherIssuer => "names another CA".to_owned(),
        PersistReason::BrokenStrings => "has character-strings that do not add up to its data".to_owned(),
    }
}

fn record(lookup: &DnsLookup, index: u32) -> Option<String> {
    let DnsOutcome::Answer(set) = &lookup.outcome else { return None };
    let rdata = set.rdata.get(index as usize)?;
    let value = Octets(joined_strings(rdata.as_slice()).unwrap_or_default());
    let through =
        if set.aliases.is_empty() { String::new() } else { format!(" (through {})", dns::chain(&set.aliases)) };
    Some(format!("It says{through}: '{}'.", value.shown(SHOWN_BYTES)))
}

/// The account's URI was checked to be visible ASCII; it is only cut.
fn shown(account_uri: &str) -> String {
    Octets(account_uri.as_bytes().to_vec()).shown(SHOWN_BYTES)
}
