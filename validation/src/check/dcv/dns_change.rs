//! DNS change: TLS BR 2.3.1 §3.2.2.4.7 with a Random Value or Request Token (req D6).
//!
//! The value is all of a TXT record, whole labels of a CNAME's target, or a whole parameter value of a CAA
//! issue, issuewild or issuemail property. Nothing is trimmed and nothing is searched in. Case counts; in a CNAME's
//! target, whose case no name server keeps, only values in lower case are asked for.

use serde::{Deserialize, Serialize};

use super::{dns01::joined_strings, http01::equal_in_constant_time, website};
use crate::{
    base::octets::Octets,
    check::{
        Contradiction, Finding, LookupFailure,
        caa::property::{TagKind, parse_issue_value, parse_rdata},
    },
    lookup::dns::names,
    observation::{DnsLookup, DnsOutcome, RecordType},
    request::RandomValue,
};

/// How the records found differ from the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueFault {
    /// Records found.
    pub found: u32,
    /// What one of them looks like.
    pub hint: ValueHint,
}

/// What a wrong record looks like; the first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueHint {
    /// The value within literal quotation marks.
    Quoted,
    /// The value with white space around it.
    WhiteSpace,
    /// The value in another case.
    Case,
    /// The value with more text before or after it.
    Within,
    /// Nothing like it.
    Other,
}

/// Judges the lookup of a record.
#[must_use]
pub fn judge(value: &RandomValue, within: bool, seen: &DnsLookup) -> Finding {
    let set = match &seen.outcome {
        DnsOutcome::Answer(set) => set,
        DnsOutcome::Nodata(_) => return Finding::Contradicted(Contradiction::NoRecord { nxdomain: false }),
        DnsOutcome::Nxdomain(_) => return Finding::Contradicted(Contradiction::NoRecord { nxdomain: true }),
        DnsOutcome::Failed(failure) => return Finding::Failed(LookupFailure::dns(seen, failure)),
    };
    let label_count = value.expose().split('.').count();
    let values: Vec<Vec<u8>> = set.rdata.iter().flat_map(|rdata| values(seen.rtype, rdata, label_count)).collect();
    let expected = value.expose().as_bytes();
    // A name or a parameter has a form of its own; only free text may hold more.
    let within = within && seen.rtype == RecordType::Txt;
    let right = |found: &Vec<u8>| {
        equal_in_constant_time(found, expected) || (within && website::holds_whole(found, expected, false))
    };
    if !expected.is_empty() && values.iter().any(right) {
        return Finding::Confirmed;
    }
    let hint = values.iter().map(|found| hint(found, expected)).min().unwrap_or(ValueHint::Other);
    let found = u32::try_from(set.rdata.len()).unwrap_or(u32::MAX);
    Finding::Contradicted(Contradiction::Value(ValueFault { found, hint }))
}

/// What a record may say the value with. In a CNAME's target it is as many whole labels as the value has.
fn values(rtype: RecordType, rdata: &Octets, label_count: usize) -> Vec<Vec<u8>> {
    let rdata = rdata.as_slice();
    match rtype {
        RecordType::Txt => joined_strings(rdata).into_iter().collect(),
        RecordType::Cname => {
            let target = names::of_cname(rdata).unwrap_or_default();
            let labels: Vec<&str> = target.split('.').collect();
            let runs = labels.windows(label_count.clamp(1, labels.len()));
            runs.map(|run| run.join(".").into_bytes()).collect()
        }
        RecordType::Caa => {
            let Some(property) = parse_rdata(rdata).ok() else { return Vec::new() };
            if !matches!(property.tag.kind(), TagKind::Issue | TagKind::Issuewild | TagKind::Issuemail) {
                return Vec::new();
            }
            let Some(value) = parse_issue_value(&property.value).ok() else { return Vec::new() };
            value.parameters.into_iter().map(|(_, value)| value.into_bytes()).collect()
        }
        _ => Vec::new(),
    }
}

fn hint(found: &[u8], expected: &[u8]) -> ValueHint {
    let unquoted = found.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    if unquoted == Some(expected) {
        ValueHint::Quoted
    } else if found.trim_ascii() == expected {
        ValueHint::WhiteSpace
    } else if found.eq_ignore_ascii_case(expected) {
        ValueHint::Case
    } else if !expected.is_empty() && found.windows(expected.len()).any(|window| window == expected) {
        ValueHint::Within
    } else {
        ValueHint::Other
    }
}
