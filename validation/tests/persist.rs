//! dns-persist-01 rule by rule (TLS BR 2.3.1 §3.2.2.4.22 and §3.2.2.5.8, draft-ietf-acme-dns-persist; req D9), and
//! what it and dns-account-01 (§3.2.2.4.21; req D8) mean from six perspectives.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "the world has more than these tests need")]
mod world;

use std::collections::BTreeSet;

use jiff::Timestamp;
use parallax_validation::{
    check::{
        Contradiction, Finding,
        caa::property::{IssueValueFault, parse_issue_value},
        dcv::{
            Method,
            dns_account01::label,
            dns_persist01::{self, Parameter, PersistFault, PersistReason as Reason, Wanted, judge_value},
        },
    },
    explain::{Blame, Retry},
    observation::{ControlObservation, RecordType},
    problem::ProblemKind,
    request::RawRequest,
};
use proptest::{collection::vec, prelude::*, sample::select};
use world::{P, Played, Quirk, R1, R2, R3, World, raw};

const ACCOUNT: &str = "https://ca.example/acct/7";
const RIGHT: &str = "ca.example; accounturi=https://ca.example/acct/7";
const PERSIST: &str = "_validation-persist.customer.example";
/// When the world's perspectives check: 2026-12-20.
const STARTED: i64 = 1_797_724_800;

fn own() -> Vec<String> {
    vec!["ca.example".to_owned(), "ca2.example".to_owned()]
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Judges a value for account 7 at [`STARTED`].
fn judged(value: &str, wildcard: bool) -> Result<(), Reason> {
    let wanted = Wanted { issuer_domains: &own(), account_uri: ACCOUNT, wildcard, at: at(STARTED) };
    judge_value(&wanted, value.as_bytes())
}

fn check(rows: &[(&str, Result<(), Reason>)]) {
    for (value, expected) in rows {
        assert_eq!(judged(value, false), *expected, "{value}");
    }
}

// Rule by rule ------------------------------------------------------------------------------------------

#[test]
fn d9_ok_values() {
    check(
        &[
            RIGHT,
            "ca2.example; accounturi=https://ca.example/acct/7",
            "\t ca.example\t;  accounturi = https://ca.example/acct/7 ",
            "ca.example;accounturi=https://ca.example/acct/7;policy=wildcard;persistUntil=4102444800",
            "ca.example; policy=; accounturi=https://ca.example/acct/7",
            "ca.example; x=1; x-y=2; accounturi=https://ca.example/acct/7; x=3",
            "ca.example; ACCOUNTURI=https://ca.example/acct/7; PERSISTUNTIL=4102444800",
            "ca.example; accounturi=https://ca.example/acct/7; validationmethods=http-01",
        ]
        .map(|value| (value, Ok(()))),
    );
}

#[test]
fn d9_the_issuer_is_one_of_ours_in_lower_case() {
    check(&[
        ("other.example; accounturi=https://ca.example/acct/7", Err(Reason::OtherIssuer)),
        ("sub.ca.example; accounturi=https://ca.example/acct/7", Err(Reason::OtherIssuer)),
        ("example; accounturi=https://ca.example/acct/7", Err(Reason::OtherIssuer)),
        ("CA.example; accounturi=https://ca.example/acct/7", Err(Reason::IssuerCase)),
        ("; accounturi=https://ca.example/acct/7", Err(Reason::NoIssuer)),
        ("", Err(Reason::NoIssuer)),
    ]);
    let nobody = Wanted { issuer_domains: &[], account_uri: ACCOUNT, wildcard: false, at: at(STARTED) };
    assert_eq!(judge_value(&nobody, RIGHT.as_bytes()), Err(Reason::OtherIssuer), "a CA without names has no records");
}

#[test]
fn d9_a_list_in_capitals_still_names_this_ca() {
    let capitals = vec!["CA.Example".to_owned()];
    let wanted = Wanted { issuer_domains: &capitals, account_uri: ACCOUNT, wildcard: false, at: at(STARTED) };
    assert_eq!(judge_value(&wanted, RIGHT.as_bytes()), Ok(()));
    assert_eq!(judge_value(&wanted, RIGHT.replace("ca.", "CA.").as_bytes()), Err(Reason::IssuerCase));
}

#[test]
fn d9_accounturi_stands_once_and_is_the_account_to_the_octet() {
    check(&[
        ("ca.example", Err(Reason::AccountMissing)),
        ("ca.example;", Err(Reason::AccountMissing)),
        ("ca.example; policy=wildcard", Err(Reason::AccountMissing)),
        ("ca.example; accounturi=", Err(Reason::AccountMissing)),
        ("ca.example; accounturi=https://ca.example/acct/8", Err(Reason::AccountDiffers)),
        ("ca.example; accounturi=https://ca.example/acct/7/", Err(Reason::AccountDiffers)),
        ("ca.example; accounturi=https://ca.example/acct/%37", Err(Reason::AccountDiffers)),
        ("ca.example; accounturi=HTTPS://ca.example/acct/7", Err(Reason::AccountDiffers)),
        ("ca.example; accounturi=7", Err(Reason::AccountDiffers)),
    ]);
}

#[test]
fn d9_no_known_parameter_stands_twice_in_any_case_of_letters() {
    for (more, parameter) in [
        ("accounturi=https://ca.example/acct/7", Parameter::AccountUri),
        ("AccountURI=https://ca.example/acct/8", Parameter::AccountUri),
        ("policy=wildcard; policy=wildcard", Parameter::Policy),
        ("policy=a; Policy=b", Parameter::Policy),
        ("persistUntil=4102444800; persistuntil=4102444800", Parameter::PersistUntil),
    ] {
        assert_eq!(judged(&format!("{RIGHT}; {more}"), false), Err(Reason::Repeated(parameter)), "{more}");
    }
}

#[test]
fn d9_persist_until_is_usable_up_to_its_very_second() {
    for (at, until, usable) in [
        ("2026-12-20T00:00:00Z", STARTED + 1, true),
        ("2026-12-20T00:00:00Z", STARTED, true),
        ("2026-12-20T00:00:00Z", STARTED - 1, false),
        ("2026-12-20T00:00:00.000000001Z", STARTED, false),
        ("2026-12-20T00:00:00.999999Z", STARTED, false),
        ("2026-12-20T00:00:00.999999Z", STARTED + 1, true),
        ("2026-12-19T23:59:59.999999Z", STARTED, true),
        ("2026-12-20T00:00:00Z", i64::MAX, true),
        ("2026-12-20T00:00:00Z", 0, false),
        ("2026-12-20T00:00:00Z", -1, false),
        ("2026-12-20T00:00:00Z", i64::MIN, false),
    ] {
        let wanted = Wanted { issuer_domains: &own(), account_uri: ACCOUNT, wildcard: false, at: at.parse().unwrap() };
        let judged = judge_value(&wanted, format!("{RIGHT}; persistUntil={until}").as_bytes());
        assert_eq!(judged, if usable { Ok(()) } else { Err(Reason::Expired { until }) }, "{at} {until}");
    }
    for text in ["", "soon", "+4102444800", "4102444800.5", "0x7fffffff", "2100-01-01", "9223372036854775808"] {
        assert_eq!(judged(&format!("{RIGHT}; persistUntil={text}"), false), Err(Reason::UntilUnreadable), "{text}");
    }
}

#[test]
fn d9_a_wildcard_needs_its_policy_and_a_plain_name_needs_none() {
    for (policy, wildcard_too) in [
        ("", false),
        ("; policy=", false),
        ("; policy=wild", false),
        ("; policy=wildcard,other", false),
        ("; wildcard=policy", false),
        ("; policy=wildcard", true),
        ("; POLICY=WildCard", true),
    ] {
        let value = format!("{RIGHT}{policy}");
        assert_eq!(judged(&value, false), Ok(()), "{value}");
        let expected = if wildcard_too { Ok(()) } else { Err(Reason::WildcardNotAllowed) };
        assert_eq!(judged(&value, true), expected, "{value}");
    }
}

#[test]
fn d9_what_is_not_in_the_grammar_is_ours_only_if_it_begins_with_our_name() {
    for (value, offset, fault) in [
        ("ca.example.; accounturi=https://ca.example/acct/7", 10, IssueValueFault::TrailingDot),
        ("ca.example; accounturi=https://ca.example/acct/7;", 48, IssueValueFault::TrailingSemicolon),
        ("ca.example accounturi=https://ca.example/acct/7", 11, IssueValueFault::TextAfterIssuer),
        ("ca.example; accounturi", 22, IssueValueFault::ParameterWithoutEquals),
        ("ca.example; =x", 12, IssueValueFault::EmptyParameterTag),
        ("\"ca.example; accounturi=https://ca.example/acct/7\"", 0, IssueValueFault::QuoteMark),
        ("ca.example; policy=a b", 21, IssueValueFault::TextAfterParameter),
    ] {
        let Err(Reason::Malformed(error)) = judged(value, false) else { panic!("{value}: {:?}", judged(value, false)) };
        assert_eq!((error.offset, error.fault), (offset, fault), "{value}");
        let other = value.replacen("ca.example", "no.example", 1);
        assert!(matches!(judged(&other, false), Err(Reason::Unreadable(_))), "{other}");
    }
}

#[test]
fn d9_of_several_records_one_suffices_and_else_the_closest_is_named() {
    let other = "other.example; accounturi=https://other.example/acct/7";
    let foreign = "ca.example; accounturi=https://ca.example/acct/8";
    let expired = "ca.example; accounturi=https://ca.example/acct/7; persistUntil=1";
    let malformed = "ca.example; accounturi=https://ca.example/acct/7; accounturi=";
    let spf = "v=spf1 -all";
    let found = |values: &[&str]| {
        let played = World::new(raw("customer.example", "dns-persist-01")).txt(PERSIST, values).play();
        let Some(ControlObservation::Record(lookup)) = &played.observation(P).control else { panic!("a TXT lookup") };
        let wanted = Wanted { issuer_domains: &own(), account_uri: ACCOUNT, wildcard: false, at: at(STARTED) };
        match dns_persist01::judge(&wanted, lookup) {
            Finding::Confirmed => None,
            Finding::Contradicted(Contradiction::Persist(PersistFault { found, record, reason })) => {
                assert_eq!(found as usize, values.len());
                assert!(!played.passed());
                Some((record, reason))
            }
            finding => panic!("{finding:?}"),
        }
    };
    for values in [&[RIGHT][..], &[expired, RIGHT], &[other, foreign, malformed, spf, RIGHT], &[RIGHT, malformed]] {
        assert_eq!(found(values), None, "{values:?}");
    }
    let expired_reason = Reason::Expired { until: 1 };
    let repeated = Reason::Repeated(Parameter::AccountUri);
    for (values, record, reason) in [
        (&[other, foreign][..], 1, Reason::AccountDiffers),
        (&[other, foreign, expired], 2, expired_reason.clone()),
        (&[expired, foreign, other], 0, expired_reason),
        (&[foreign, foreign], 0, Reason::AccountDiffers),
        (&[expired, malformed], 1, repeated),
        (&[other, ";"], 1, Reason::NoIssuer),
        (&[other], 0, Reason::OtherIssuer),
    ] {
        assert_eq!(found(values), Some((record, reason)), "{values:?}");
    }
    assert!(matches!(found(&[other, spf]), Some((1, Reason::Unreadable(_)))));
}

// The grammar -------------------------------------------------------------------------------------------

/// What a value says by a second reading: split at semicolons, then at the first equals sign.
fn read_again(value: &str) -> Option<(String, Vec<(String, String)>)> {
    let mut parts = value.split(';').map(|part| part.trim_matches([' ', '\t']));
    let issuer = parts.next()?.to_owned();
    let parts: Vec<&str> = parts.collect();
    if parts == [""] {
        return Some((issuer, Vec::new()));
    }
    let parameters = parts.into_iter().map(|part| {
        let (tag, value) = part.split_once('=')?;
        let (tag, value) = (tag.trim_end_matches([' ', '\t']), value.trim_start_matches([' ', '\t']));
        let is_tag = !tag.is_empty() && !tag.starts_with('-') && !tag.ends_with('-');
        let is_tag = is_tag && tag.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
        let is_value = value.bytes().all(|octet| octet.is_ascii_graphic());
        (is_tag && is_value).then(|| (tag.to_ascii_lowercase(), value.to_owned()))
    });
    Some((issuer, parameters.collect::<Option<_>>()?))
}

/// Whether the value is usable, by the second reading.
fn usable(value: &str, wildcard: bool) -> bool {
    let Some((issuer, parameters)) = read_again(value) else { return false };
    let all = |tag: &str| -> Vec<&str> {
        parameters.iter().filter(|(t, _)| t == tag).map(|(_, value)| value.as_str()).collect()
    };
    let (accounts, policies, untils) = (all("accounturi"), all("policy"), all("persistuntil"));
    let in_time = match untils[..] {
        [] => true,
        [until] => until.parse::<u64>().is_ok_and(|until| until >= STARTED as u64) && !until.starts_with('+'),
        _ => false,
    };
    let policy = match policies[..] {
        [] => !wildcard,
        [policy] => !wildcard || policy.eq_ignore_ascii_case("wildcard"),
        _ => false,
    };
    own().contains(&issuer) && accounts == [ACCOUNT] && in_time && policy
}

fn values() -> impl Strategy<Value = String> {
    let issuers = ["ca.example", "ca2.example", "CA.example", "other.example", "", "ca.example."];
    let parameters = [
        "accounturi=https://ca.example/acct/7",
        "AccountUri = https://ca.example/acct/7",
        "accounturi=https://ca.example/acct/8",
        "accounturi=",
        "policy=wildcard",
        "policy=WILDCARD",
        "policy=other",
        "persistUntil=1797724800",
        "persistuntil=1797724799",
        "persistUntil=4102444800",
        "persistUntil=+4102444800",
        "persistUntil=x",
        "other=1",
        "",
        "none",
        "-a=b",
        "a=b c",
    ];
    let blanks = select(&["", " ", "\t", "  "][..]);
    let right = "accounturi=https://ca.example/acct/7";
    let part = prop_oneof![1 => Just(right), 2 => select(parameters.to_vec())];
    (select(issuers.to_vec()), vec((blanks, part), 0..5)).prop_map(|(issuer, parts)| {
        parts.into_iter().fold(issuer.to_owned(), |value, (blank, part)| format!("{value}{blank};{blank}{part}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn d9_values_are_usable_exactly_if_a_second_reading_says_so(value in values(), wildcard in any::<bool>()) {
        prop_assert_eq!(judged(&value, wildcard).is_ok(), usable(&value, wildcard), "{}", value);
    }

    #[test]
    fn d9_a_usable_value_stays_usable_with_an_unknown_parameter_and_not_without_its_account(
        value in values(), wildcard in any::<bool>(), tag in "x[a-z0-9]{0,8}", text in "[!-:<-~]{0,12}",
    ) {
        if judged(&value, wildcard).is_ok() {
            let more = format!("{value}; {tag}={text}");
            prop_assert_eq!(judged(&more, wildcard), Ok(()), "{}", more);
            let other = value.replace("/acct/7", "/acct/9");
            prop_assert_eq!(judged(&other, wildcard), Err(Reason::AccountDiffers));
        }
    }

    #[test]
    fn d9_any_octets_are_judged_and_only_what_the_grammar_has_is_usable(value in vec(any::<u8>(), 0..60)) {
        let wanted = Wanted { issuer_domains: &own(), account_uri: ACCOUNT, wildcard: false, at: at(STARTED) };
        let judged = judge_value(&wanted, &value);
        let readable = parse_issue_value(&value).is_ok();
        let unreadable = matches!(judged, Err(Reason::Malformed(_) | Reason::Unreadable(_)));
        prop_assert_eq!(readable, !unreadable);
    }
}

// From six perspectives ---------------------------------------------------------------------------------

fn persist(identifier: &str) -> World {
    World::new(raw(identifier, "dns-persist-01"))
}

fn refused(played: &Played, problem: ProblemKind, says: &[&str]) {
    let explanation = played.explanation();
    assert!(!played.passed(), "{}", played.message());
    assert_eq!(explanation.problem, Some(problem), "{}", played.message());
    for text in says {
        assert!(played.message().contains(text), "{text:?} is not in: {}", played.message());
    }
}

#[test]
fn d9_names_addresses_and_their_sections() {
    let reverse = "_ip-validation-persist.10.2.0.192.in-addr.arpa";
    let reverse6 = format!("_ip-validation-persist.7.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
    for (identifier, name, value, section) in [
        ("customer.example", PERSIST, RIGHT.to_owned(), "3.2.2.4.22"),
        ("*.customer.example", PERSIST, format!("{RIGHT}; policy=wildcard"), "3.2.2.4.22"),
        ("192.0.2.10", reverse, RIGHT.to_owned(), "3.2.2.5.8"),
        ("2001:db8::7", &reverse6, RIGHT.to_owned(), "3.2.2.5.8"),
    ] {
        let played = persist(identifier).txt(name, &[&value]).play();
        assert!(played.passed(), "{identifier}: {}", played.message());
        assert_eq!(played.record.method, section);
        let asked: BTreeSet<&str> = played
            .questions
            .iter()
            .filter(|(.., rtype)| *rtype == RecordType::Txt.number())
            .map(|(_, name, _)| name.as_str())
            .collect();
        assert_eq!(asked, BTreeSet::from([name]), "no hint is asked for a pass");
    }
}

#[test]
fn d9_a_remote_confirms_by_any_usable_record_for_the_account() {
    let beside = format!("{RIGHT}; policy=wildcard; x=y");
    let played = persist("customer.example").txt(PERSIST, &[RIGHT]).from(&[R1, R2, R3]).txt(PERSIST, &[&beside]).play();
    assert_eq!((played.passed(), played.joint().as_str()), (true, "5/5"));
    let foreign = "ca.example; accounturi=https://ca.example/acct/8";
    let played = persist("customer.example").txt(PERSIST, &[RIGHT]).from(&[R1, R2]).txt(PERSIST, &[foreign]).play();
    refused(&played, ProblemKind::Unauthorized, &["3 of 5"]);
    let played = persist("customer.example").txt(PERSIST, &[RIGHT]).from(&[R1]).txt(PERSIST, &[foreign]).play();
    assert_eq!((played.passed(), played.joint().as_str()), (true, "4/5"));
}

#[test]
fn d9_an_alias_at_the_record_s_name_is_followed_and_one_at_the_name_itself_is_not() {
    let target = "p.auth.example";
    let played = persist("customer.example").cname(PERSIST, target).txt(target, &[RIGHT]).play();
    assert!(played.passed(), "{}", played.message());
    let played = persist("www.customer.example")
        .cname("www.customer.example", "host.example")
        .a("host.example", &["192.0.2.10"])
        .txt("_validation-persist.host.example", &[RIGHT])
        .play();
    refused(&played, ProblemKind::Unauthorized, &["No TXT was found at _validation-persist.www.customer.example"]);
}

#[test]
fn d9_messages_name_the_reason_and_show_the_record() {
    const U: ProblemKind = ProblemKind::Unauthorized;
    const M: ProblemKind = ProblemKind::Malformed;
    for (identifier, values, problem, says) in [
        (
            "customer.example",
            vec!["other.example; accounturi=https://ca.example/acct/7"],
            U,
            vec!["names another CA", "It says: 'other.example; accounturi", "accounturi=https://ca.example/acct/7"],
        ),
        (
            "customer.example",
            vec!["ca.example; accounturi=https://ca.example/acct/8"],
            U,
            vec!["The one TXT record at _validation-persist.customer.example does not do", "but another account"],
        ),
        (
            "customer.example",
            vec!["v=spf1 -all", "ca.example; accounturi=https://ca.example/acct/7; persistUntil=1767225600"],
            U,
            vec!["None of the two TXT records", "has expired, by persistUntil=1767225600, 2026-01-01T00:00:00Z"],
        ),
        ("*.customer.example", vec![RIGHT], U, vec!["for want of policy=wildcard", "and policy=wildcard, with a"]),
        ("customer.example", vec!["ca.example"], M, vec!["has no accounturi"]),
        ("customer.example", vec!["ca.example; accounturi=a; accounturi=b"], M, vec!["has accounturi more than once"]),
        ("customer.example", vec!["CA.example; accounturi=a"], M, vec!["in lower case"]),
        (
            "customer.example",
            vec!["ca.example; accounturi=a\u{1b}[31m"],
            M,
            vec!["malformed at octet 24", "'ca.example; accounturi=a\\x1b[31m'"],
        ),
        (
            "customer.example",
            vec!["ca.example; accounturi=a; persistUntil=never"],
            M,
            vec!["no decimal number of seconds"],
        ),
    ] {
        let played = persist(identifier).txt(PERSIST, &values).play();
        refused(&played, problem, &says);
        let explanation = played.explanation();
        assert_eq!((explanation.blame, explanation.retry), (Some(Blame::Record), Some(Retry::Fix)));
        assert_eq!(played.joint(), "-", "the primary refused");
    }
}

#[test]
fn d19_d22_the_hints_of_dns_01_hold_for_records_of_an_account() {
    let doubled = "_validation-persist.customer.example.customer.example";
    let played = persist("customer.example").a("customer.example", &["192.0.2.10"]).txt(doubled, &[RIGHT]).play();
    refused(
        &played,
        ProblemKind::Unauthorized,
        &["One exists at _validation-persist.customer.example.customer.example"],
    );
    let wild = persist("customer.example").cname("*.customer.example", "lb.host.example");
    let played = wild.a("lb.host.example", &["192.0.2.80"]).play();
    refused(&played, ProblemKind::Unauthorized, &["is answered by the wildcard *.customer.example → lb.host.example"]);
    let played = persist("192.0.2.10").play();
    refused(
        &played,
        ProblemKind::Unauthorized,
        &["No TXT was found at _ip-validation-persist.10.2.0.192.in-addr.arpa"],
    );
}

#[test]
fn d8_the_label_is_the_account_s() {
    let name = format!("{}._acme-challenge.customer.example", label(ACCOUNT));
    let world = || World::new(raw("*.customer.example", "dns-account-01")).a("customer.example", &["192.0.2.10"]);
    let digest = world().digest();
    let played = world().txt(&name, &[&digest]).play();
    assert!(played.passed(), "{}", played.message());
    assert_eq!(played.record.method, "3.2.2.4.21");
    let elsewhere = format!("{}._acme-challenge.customer.example", label("https://ca.example/acct/8"));
    for other in [&elsewhere, "_acme-challenge.customer.example"] {
        let played = world().txt(other, &[&digest]).play();
        let says = [name.as_str(), "is made from the account URI https://ca.example/acct/7"];
        refused(&played, ProblemKind::Unauthorized, &says);
    }
    let doubled = format!("{name}.customer.example");
    refused(&world().txt(&doubled, &[&digest]).play(), ProblemKind::Unauthorized, &["One exists at", &doubled]);
    refused(&world().quirk(&name, None, Quirk::Rcode(2, "")).play(), ProblemKind::Dns, &["SERVFAIL"]);
}

#[test]
fn c15_caa_may_bind_to_either_method_by_both_labels() {
    for (method, labels) in [
        (Method::DnsAccount01, ["dns-account-01", "ca-tbr-21"]),
        (Method::DnsPersist01, ["dns-persist-01", "ca-tbr-22"]),
    ] {
        assert_eq!(method.caa_labels(), labels);
        for (label, permits) in [(labels[0], true), (labels[1], true), ("dns-01", false), ("ca-tbr-7", false)] {
            let caa = format!("ca.example; validationmethods={label}");
            let request = RawRequest { relied_on_method: Some(method.to_string()), ..raw("customer.example", "caa") };
            let world = World::new(request).a("customer.example", &["192.0.2.10"]);
            assert_eq!(world.caa("customer.example", &[(0, "issue", &caa)]).play().passed(), permits, "{caa}");
        }
    }
}

#[test]
fn f5_only_the_persistent_record_has_a_limit_of_its_own() {
    for method in Method::ALL {
        assert_eq!(method.reuse_days(), (method == Method::DnsPersist01).then_some(10), "{method}");
    }
}
