//! dns-01: TLS BR 2.3.1 §3.2.2.4.7, RFC 8555 §8.4 (req D6, D7).
//!
//! Any one TXT record whose character-strings, joined, are exactly the digest. Case counts; nothing is
//! trimmed.

use serde::{Deserialize, Serialize};

use super::http01::equal_in_constant_time;
use crate::{
    check::{Contradiction, Finding, LookupFailure},
    observation::{DnsLookup, DnsOutcome},
    request::KeyAuthorization,
};

/// How the TXT records found differ from the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxtFault {
    /// Records found.
    pub found: u32,
    /// What one of them looks like.
    pub hint: TxtHint,
}

/// What a wrong TXT record looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TxtHint {
    /// The digest within literal quotation marks.
    Quoted,
    /// The digest with white space around it.
    WhiteSpace,
    /// The digest in another case.
    Case,
    /// The digest of another authorization of the same order (`cases.md` D18).
    Sibling,
    /// The key authorization itself, not its digest.
    NotHashed,
    /// Another value of the right form: an old challenge, or another client's.
    OtherDigest,
    /// Nothing of the right form.
    Other,
}

/// Judges a TXT lookup.
#[must_use]
pub fn judge(expected: &str, key: Option<&KeyAuthorization>, sibling_digests: &[String], seen: &DnsLookup) -> Finding {
    let set = match &seen.outcome {
        DnsOutcome::Answer(set) => set,
        DnsOutcome::Nodata(_) => return Finding::Contradicted(Contradiction::NoRecord { nxdomain: false }),
        DnsOutcome::Nxdomain(_) => return Finding::Contradicted(Contradiction::NoRecord { nxdomain: true }),
        DnsOutcome::Failed(failure) => {
            let (name, rtype, failure) = (seen.name.clone(), seen.rtype, failure.clone());
            return Finding::Failed(LookupFailure::Dns { name, rtype, failure });
        }
    };
    let values: Vec<Option<Vec<u8>>> = set.rdata.iter().map(|rdata| joined_strings(rdata.as_slice())).collect();
    let right =
        |value: &Option<Vec<u8>>| value.as_ref().is_some_and(|v| equal_in_constant_time(v, expected.as_bytes()));
    if values.iter().any(right) {
        return Finding::Confirmed;
    }
    let hint =
        values.iter().flatten().map(|value| hint(value, expected, key, sibling_digests)).min_by_key(|hint| *hint as u8);
    let found = u32::try_from(values.len()).unwrap_or(u32::MAX);
    Finding::Contradicted(Contradiction::Txt(TxtFault { found, hint: hint.unwrap_or(TxtHint::Other) }))
}

/// The character-strings of TXT RDATA joined (RFC 1035 §3.3.14); none if the lengths do not add up.
#[must_use]
pub fn joined_strings(mut rdata: &[u8]) -> Option<Vec<u8>> {
    let mut joined = Vec::with_capacity(rdata.len());
    while let Some((&length, rest)) = rdata.split_first() {
        let string = rest.get(..usize::from(length))?;
        joined.extend_from_slice(string);
        rdata = &rest[string.len()..];
    }
    Some(joined)
}

fn hint(value: &[u8], expected: &str, key: Option<&KeyAuthorization>, sibling_digests: &[String]) -> TxtHint {
    let unquoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    let is_digest_form =
        value.len() == 43 && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if unquoted == Some(expected.as_bytes()) {
        TxtHint::Quoted
    } else if value.trim_ascii() == expected.as_bytes() {
        TxtHint::WhiteSpace
    } else if value.eq_ignore_ascii_case(expected.as_bytes()) {
        TxtHint::Case
    } else if sibling_digests.iter().any(|digest| digest.as_bytes() == value) {
        TxtHint::Sibling
    } else if key.is_some_and(|key| value == key.value.as_bytes()) {
        TxtHint::NotHashed
    } else if is_digest_form {
        TxtHint::OtherDigest
    } else {
        TxtHint::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::octets::Octets,
        observation::{DnsTransport, RecordSet, RecordType},
    };

    fn key() -> KeyAuthorization {
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA".to_owned();
        let value = format!("{token}.{}", "T".repeat(43));
        KeyAuthorization { token, value }
    }

    fn strings(parts: &[&[u8]]) -> Octets {
        Octets(parts.iter().flat_map(|part| [&[part.len() as u8], *part].concat()).collect())
    }

    fn judged(rdata: Vec<Octets>, siblings: &[String]) -> Finding {
        let set =
            RecordSet { owner: "_acme-challenge.customer.example".to_owned(), ttl: 60, aliases: Vec::new(), rdata };
        let seen = DnsLookup {
            name: set.owner.clone(),
            rtype: RecordType::Txt,
            resolver: "192.0.2.53:53".parse().expect("an address"),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome: DnsOutcome::Answer(set),
        };
        judge(&key().digest(), Some(&key()), siblings, &seen)
    }

    #[test]
    fn d20_ok_shapes() {
        let digest = key().digest();
        let (front, back) = digest.as_bytes().split_at(20);
        let old = strings(&[&[b'o'; 43]]);
        assert_eq!(judged(vec![strings(&[digest.as_bytes()])], &[]), Finding::Confirmed);
        assert_eq!(judged(vec![strings(&[front, back])], &[]), Finding::Confirmed, "two strings");
        assert_eq!(judged(vec![old.clone(), strings(&[digest.as_bytes()])], &[]), Finding::Confirmed, "second right");
        let many = (0..60).map(|_| old.clone()).chain([strings(&[digest.as_bytes()])]).collect();
        assert_eq!(judged(many, &[]), Finding::Confirmed, "61 records");
    }

    #[test]
    fn d18_d20_err_shapes_have_their_fault_named() {
        let digest = key().digest();
        let sibling = "s".repeat(43);
        let swapped: String = digest
            .chars()
            .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        for (value, hint) in [
            (format!("\"{digest}\""), TxtHint::Quoted),
            (format!("{digest} "), TxtHint::WhiteSpace),
            (swapped, TxtHint::Case),
            (sibling.clone(), TxtHint::Sibling),
            (key().value, TxtHint::NotHashed),
            ("o".repeat(43), TxtHint::OtherDigest),
            ("v=spf1 -all".to_owned(), TxtHint::Other),
        ] {
            let expected = Finding::Contradicted(Contradiction::Txt(TxtFault { found: 1, hint }));
            assert_eq!(judged(vec![strings(&[value.as_bytes()])], std::slice::from_ref(&sibling)), expected, "{value}");
        }
    }

    #[test]
    fn err_rdata_whose_lengths_do_not_add_up_is_no_value() {
        let mut broken = strings(&[key().digest().as_bytes()]);
        broken.0[0] += 1;
        assert!(matches!(judged(vec![broken], &[]), Finding::Contradicted(_)));
    }
}
