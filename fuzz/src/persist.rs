//! Arbitrary octets as the TXT records of dns-persist-01.
//!
//! Invariants: a record is usable exactly if the grammar in [`crate::abnf`] and the rules below say so; one usable
//! record suffices, wherever it stands; a record more never makes a set unusable; and the record that a refusal names
//! is one of those found, and is refused for the reason given.

use jiff::Timestamp;
use parallax_validation::{
    base::octets::Octets,
    check::{
        Contradiction, Finding,
        dcv::{
            dns_persist01::{Wanted, judge, judge_value},
            dns01::joined_strings,
        },
    },
    observation::{DnsLookup, DnsOutcome, DnsTransport, RecordSet, RecordType},
};

use crate::{abnf::recognise, feed::Feed};

/// Values that reach every rule.
pub const DICTIONARY: [&str; 8] =
    ["ca.example", "; ", "accounturi=", ACCOUNT, "policy=wildcard", "persistUntil=", "1800000000", "CA.example"];

const ISSUERS: [&str; 2] = ["ca.example", "ca-2.example"];
const ACCOUNT: &str = "https://ca.example/a/1";
const SECOND: i64 = 1_800_000_000;

/// Whether a value is usable `nanos` after [`SECOND`], by the grammar's own words.
fn usable(value: &[u8], wildcard: bool, nanos: i32) -> bool {
    let Some((Some(issuer), parameters)) = recognise(value) else { return false };
    let all = |tag: &str| -> Vec<&str> {
        let named = parameters.iter().filter(|(name, _)| name.to_ascii_lowercase() == tag);
        named.map(|(_, value)| value.as_str()).collect()
    };
    let (accounts, policies, untils) = (all("accounturi"), all("policy"), all("persistuntil"));
    let until = match untils[..] {
        [] => Some(i128::MAX),
        [until] => decimal(until),
        _ => None,
    };
    let now = i128::from(SECOND) * 1_000_000_000 + i128::from(nanos);
    ISSUERS.contains(&issuer.as_str())
        && accounts == [ACCOUNT]
        && policies.len() <= 1
        && (!wildcard || policies.iter().all(|policy| policy.eq_ignore_ascii_case("wildcard")) && policies.len() == 1)
        && until.is_some_and(|until| until.saturating_mul(1_000_000_000) >= now)
}

/// A number of 64 bits in decimal.
fn decimal(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    if digits.is_empty() {
        return None;
    }
    let magnitude = digits.chars().try_fold(0_i128, |sum, digit| {
        let digit = "0123456789".find(digit)?;
        Some((sum * 10 + digit as i128).min(1 << 80))
    })?;
    Some(sign * magnitude).filter(|number| (-(1_i128 << 63)..1 << 63).contains(number))
}

fn lookup(records: &[&[u8]]) -> DnsLookup {
    let name = "_validation-persist.customer.example".to_owned();
    let rdata = records.iter().map(|record| Octets(record.to_vec())).collect();
    DnsLookup {
        name: name.clone(),
        rtype: RecordType::Txt,
        resolver: ([192, 0, 2, 53], 53).into(),
        transport: DnsTransport::Udp,
        transmissions: 1,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 1,
        authenticated: false,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome: DnsOutcome::Answer(RecordSet { owner: name, ttl: 60, aliases: Vec::new(), rdata }),
    }
}

/// Judges records alone and together.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let choices = feed.octet();
    let (wildcard, nanos) = (choices & 1 != 0, i32::from(choices >> 1 & 3) - 1);
    let issuer_domains = ISSUERS.map(str::to_owned);
    let at = Timestamp::new(SECOND, nanos).expect("a time of this century");
    let wanted = Wanted { issuer_domains: &issuer_domains, account_uri: ACCOUNT, wildcard, at };
    // As values, each in one character-string, or as they are.
    let framed = choices & 8 != 0;
    let mut records: Vec<Vec<u8>> = Vec::new();
    while !feed.is_empty() && records.len() < 8 {
        let octets = feed.counted();
        records.push(if framed { octets.to_vec() } else { [&[octets.len() as u8], octets].concat() });
    }
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let alone = |record: &[u8]| joined_strings(record).map(|value| (judge_value(&wanted, &value), value));
    let mut any = false;
    for record in &records {
        let Some((judged, value)) = alone(record) else { continue };
        assert_eq!(judged.is_ok(), usable(&value, wildcard, nanos), "{judged:?}");
        any |= judged.is_ok();
    }
    match judge(&wanted, &lookup(&records)) {
        Finding::Confirmed => assert!(any, "no record is usable"),
        Finding::Contradicted(Contradiction::Persist(fault)) => {
            assert!(!any, "a usable record is passed over");
            assert_eq!(fault.found as usize, records.len());
            if let Some((judged, _)) = alone(records[fault.record as usize]) {
                assert_eq!(judged, Err(fault.reason));
            }
        }
        finding => assert!(records.is_empty(), "{finding:?}"),
    }
    let reversed: Vec<&[u8]> = records.iter().rev().copied().collect();
    assert_eq!(judge(&wanted, &lookup(&reversed)) == Finding::Confirmed, any, "the order decides");
    let right = format!("ca.example;accounturi={ACCOUNT};policy=wildcard");
    let right = [&[right.len() as u8], right.as_bytes()].concat();
    let with_right: Vec<&[u8]> = records.iter().copied().chain([right.as_slice()]).collect();
    assert_eq!(judge(&wanted, &lookup(&with_right)), Finding::Confirmed, "a usable record is passed over");
}
