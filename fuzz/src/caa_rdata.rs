//! Arbitrary octets as CAA records, and the decision about a set of them.
//!
//! Invariants: nothing is lost or repaired in a record that is split; the order of records never matters; a
//! record that cannot be split forbids; a set that authorizes has a record that does so by the grammar in
//! [`crate::abnf`]; and without one, only a set without the governing property permits.

use parallax_validation::check::caa::{
    authorize::{CaaContext, CaaPolicy, CaaRule, CaaSubject, authorize},
    property::parse_rdata,
};

use crate::{abnf::recognise, feed::Feed};

const OWN_ISSUER: &str = "ca.example";
const ACCOUNT: &str = "https://ca.example/a/1";

/// Flags, tag and value, by nothing but the lengths.
fn split(rdata: &[u8]) -> Option<(u8, String, &[u8])> {
    let length = usize::from(*rdata.get(1)?);
    let tag = rdata.get(2..2 + length)?;
    let good = length > 0 && tag.iter().all(u8::is_ascii_alphanumeric);
    good.then(|| (rdata[0], String::from_utf8_lossy(tag).to_ascii_lowercase(), &rdata[2 + length..]))
}

fn check_split(rdata: &[u8]) {
    match (parse_rdata(rdata), split(rdata)) {
        (Ok(property), Some((flags, tag, value))) => {
            assert_eq!((property.flags, property.is_critical()), (flags, flags >= 128));
            assert_eq!(property.tag.published().to_ascii_lowercase(), tag);
            let again = [&[flags, tag.len() as u8], property.tag.published().as_bytes(), &property.value].concat();
            assert_eq!((again.as_slice(), property.value.as_slice()), (rdata, value));
        }
        (Err(error), None) => assert!(error.to_string().len() < 200),
        (parsed, plain) => panic!("{parsed:?}, but {plain:?}"),
    }
}

fn names_this_ca(rdata: &[u8], governing: &str) -> bool {
    let Some((_, tag, value)) = split(rdata) else { return false };
    let issuer = recognise(value).and_then(|(issuer, _)| issuer);
    tag == governing && issuer.is_some_and(|issuer| issuer.eq_ignore_ascii_case(OWN_ISSUER))
}

/// Splits and judges.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let choices = feed.octet();
    let policy = CaaPolicy {
        issuer_domains: vec![OWN_ISSUER.to_owned()],
        processes_contactemail: choices & 1 != 0,
        processes_contactphone: choices & 2 != 0,
        flags_one_is_critical: choices & 4 != 0,
        unsatisfiable_parameters: if choices & 8 != 0 { vec!["x".to_owned()] } else { Vec::new() },
        ..CaaPolicy::default()
    };
    let context = CaaContext {
        subject: match choices & 48 {
            0 => CaaSubject::Name,
            16 => CaaSubject::Wildcard,
            _ => CaaSubject::Mailbox,
        },
        account_uri: (choices & 32 != 0).then_some(ACCOUNT),
        method_labels: if choices & 64 != 0 { &["http-01", "ca-tbr-19"] } else { &[] },
    };
    let mut rdatas = Vec::new();
    while !feed.is_empty() && rdatas.len() < 8 {
        rdatas.push(feed.counted());
    }
    rdatas.iter().for_each(|rdata| check_split(rdata));
    let decision = authorize(&rdatas, &policy, &context);
    assert_eq!(decision.permitted, decision.rule.permits());
    assert_eq!(decision.records.len(), rdatas.len());
    assert!(decision.records.iter().all(|finding| finding.to_string().len() < 2_000));
    assert!(decision.rule.to_string().len() < 8_000);

    let reversed: Vec<&[u8]> = rdatas.iter().rev().copied().collect();
    let backwards = authorize(&reversed, &policy, &context);
    assert_eq!(backwards.permitted, decision.permitted, "the order decides");
    assert!(backwards.records.iter().rev().eq(&decision.records));
    let unreadable: Vec<&[u8]> = rdatas.iter().copied().chain([&[0_u8, 0][..]]).collect();
    assert!(!authorize(&unreadable, &policy, &context).permitted, "a record that cannot be split is skipped");
    let repeated: Vec<&[u8]> = rdatas.iter().chain(&rdatas).copied().collect();
    assert_eq!(authorize(&repeated, &policy, &context).permitted, decision.permitted, "repetition decides");

    let tags: Vec<Option<String>> = rdatas.iter().map(|rdata| split(rdata).map(|(_, tag, _)| tag)).collect();
    let has = |wanted: &str| tags.iter().any(|tag| tag.as_deref() == Some(wanted));
    let governing = match context.subject {
        CaaSubject::Wildcard if has("issuewild") => "issuewild",
        CaaSubject::Mailbox => "issuemail",
        CaaSubject::Wildcard | CaaSubject::Name => "issue",
    };
    if decision.permitted {
        assert!(tags.iter().all(Option::is_some), "a record that cannot be split permits");
        let named = rdatas.iter().any(|rdata| names_this_ca(rdata, governing));
        assert!(named || !has(governing), "nothing names this CA");
        assert_eq!(matches!(decision.rule, CaaRule::NoRestrictingProperty { .. }), !has(governing));
    }
}
