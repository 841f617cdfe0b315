//! RFC 8657 §3 and §4 with TLS BR 2.3.1 §4.2.2.1.2: binding to an account and a method (req C15).

use parallax_validation::check::{
    caa::authorize::{CaaContext, CaaDecision, CaaPolicy, CaaRule, CaaSubject, RecordFinding, authorize},
    dcv::Method,
};

const ACCOUNT: &str = "https://ca.example/acct/7";

/// All labels of the method that `label` names.
fn method_labels(label: &str) -> &'static [&'static str] {
    let methods = [Method::Http01, Method::Dns01].map(Method::caa_labels);
    methods.into_iter().find(|labels| labels.contains(&label)).unwrap_or_default()
}

fn policy() -> CaaPolicy {
    CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() }
}

fn decide_with(values: &[&str], policy: &CaaPolicy, context: &CaaContext<'_>) -> CaaDecision {
    let records: Vec<Vec<u8>> = values.iter().map(|value| [b"\x00\x05issue", value.as_bytes()].concat()).collect();
    let set: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    authorize(&set, policy, context)
}

fn context(method: &str) -> CaaContext<'static> {
    CaaContext { subject: CaaSubject::Name, account_uri: Some(ACCOUNT), method_labels: method_labels(method) }
}

/// One record of this CA with `parameters`, for the usual account and http-01.
fn decide(parameters: &str) -> CaaDecision {
    decide_with(&[&format!("ca.example; {parameters}")], &policy(), &context("http-01"))
}

// ---------------------------------------------------------------------------------------------------
// §3: accounturi
// ---------------------------------------------------------------------------------------------------

#[test]
fn s3_ok_accounturi_of_the_requesting_account() {
    for parameters in [
        "accounturi=https://ca.example/acct/7",
        "accounturi = https://ca.example/acct/7",
        "AccountURI=https://ca.example/acct/7",
        "policy=ev; accounturi=https://ca.example/acct/7",
    ] {
        let decision = decide(parameters);
        assert!(decision.permitted, "{parameters}: {}", decision.records[0]);
    }
}

#[test]
fn s3_err_accounturi_of_another_account() {
    for published in [
        "https://ca.example/acct/8",
        "https://ca.example/acct/77",
        "https://ca.example/acct/",
        "https://ca.example/acct/7/",
        "https://ca.example/acct/07",
        "https://ca.example/acct/%37",
        "HTTPS://ca.example/acct/7",
        "https://CA.example/acct/7",
        "https://ca.example:443/acct/7",
        "http://ca.example/acct/7",
        "acct:7@ca.example",
    ] {
        let decision = decide(&format!("accounturi={published}"));
        let account = Some(ACCOUNT.to_owned());
        let expected = RecordFinding::AccountUriMismatch { published: published.to_owned(), account };
        assert_eq!(decision.records, [expected]);
        assert!(!decision.permitted);
    }
    assert_eq!(
        decide("accounturi=u:8").records[0].to_string(),
        "The record names the account \"u:8\", and \"https://ca.example/acct/7\" is asking."
    );
}

#[test]
fn s3_err_a_parameter_name_in_capitals_binds_too() {
    assert!(!decide("AccountURI=https://ca.example/acct/8").permitted);
    assert!(!decide("ACCOUNTURI=https://ca.example/acct/8").permitted);
    assert!(!decide("ValidationMethods=dns-01").permitted);
}

#[test]
fn s3_err_accounturi_that_is_no_uri_is_never_satisfied() {
    for published in [
        "",
        "7",
        "/acct/7",
        "//ca.example/acct/7",
        "https:",
        ":x",
        "1a:b",
        "a_b:c",
        "u:%zz",
        "u:%1",
        "u:<7>",
        "\"u:7\"",
    ] {
        let value = format!("ca.example; accounturi={published}");
        for account in [Some(published), Some(ACCOUNT), None] {
            let context = CaaContext { account_uri: account, ..context("http-01") };
            let decision = decide_with(&[&value], &policy(), &context);
            assert!(!decision.permitted, "{published}");
            assert!(matches!(decision.records[0], RecordFinding::AccountUriMalformed { .. }), "{published}");
        }
    }
}

#[test]
fn s3_ok_accounts_of_other_channels_are_uris() {
    for account in ["acct:7@ca.example", "urn:uuid:0e2f", "https://ca.example/a?b=c&d=%2F"] {
        let value = format!("ca.example; accounturi={account}");
        let context = CaaContext { account_uri: Some(account), ..context("http-01") };
        assert!(decide_with(&[&value], &policy(), &context).permitted, "{account}");
    }
}

#[test]
fn s3_err_accounturi_repeated_is_never_satisfied() {
    for parameters in [
        "accounturi=https://ca.example/acct/7; accounturi=https://ca.example/acct/7",
        "accounturi=https://ca.example/acct/7; accounturi=https://ca.example/acct/8",
        "accounturi=https://ca.example/acct/7; AccountUri=https://ca.example/acct/7",
        "accounturi=; accounturi=https://ca.example/acct/7",
        "accounturi=https://ca.example/acct/7; a=b; accounturi=",
    ] {
        let decision = decide(parameters);
        assert_eq!(decision.records, [RecordFinding::AccountUriRepeated], "{parameters}");
        assert!(!decision.permitted);
    }
}

#[test]
fn s3_err_an_unknown_account_satisfies_no_accounturi() {
    let context = CaaContext { account_uri: None, ..context("http-01") };
    let decision = decide_with(&["ca.example; accounturi=https://ca.example/acct/7"], &policy(), &context);
    assert!(!decision.permitted);
    assert_eq!(
        decision.records[0].to_string(),
        "The record names the account \"https://ca.example/acct/7\", and it is not known which is asking."
    );
    assert!(decide_with(&["ca.example"], &policy(), &context).permitted, "absent = any account");
}

// ---------------------------------------------------------------------------------------------------
// §4: validationmethods
// ---------------------------------------------------------------------------------------------------

#[test]
fn s4_ok_validationmethods() {
    #[rustfmt::skip]
    let table = [
        ("http-01", "http-01"),
        ("http-01", "ca-tbr-19"),
        ("http-01", "dns-01,http-01"),
        ("http-01", "ca-foo,http-01"),
        ("http-01", "ca-tbr-7,ca-tbr-19"),
        ("http-01", "http-01,ca-tbr-19"),
        ("dns-01", "dns-01"),
        ("dns-01", "ca-tbr-7"),
        ("dns-01", "http-01,dns-01"),
    ];
    for (method, list) in table {
        for name in ["validationmethods", "ValidationMethods"] {
            let value = format!("ca.example; {name}={list}");
            assert!(decide_with(&[&value], &policy(), &context(method)).permitted, "{method} {value}");
        }
    }
}

#[test]
fn s4_err_validationmethods_without_the_method_relied_on() {
    #[rustfmt::skip]
    let table = [
        ("http-01", "dns-01"),
        ("http-01", "ca-tbr-7"),
        ("http-01", "ca-tbr-1"),
        ("http-01", "ca-tbr-190"),
        ("http-01", "xhttp-01"),
        ("http-01", "HTTP-01"),
        ("http-01", "CA-TBR-19"),
        ("http-01", "unknown-01"),
        ("http-01", ""),
        ("http-01", "-"),
        ("dns-01", "http-01,ca-tbr-19"),
        ("dns-01", "dns-account-01"),
    ];
    for (method, list) in table {
        let value = format!("ca.example; validationmethods={list}");
        let decision = decide_with(&[&value], &policy(), &context(method));
        assert!(!decision.permitted, "{method} {list}");
        assert!(matches!(decision.records[0], RecordFinding::MethodMismatch { .. }), "{method} {list}");
    }
    assert_eq!(
        decide("validationmethods=dns-01").records[0].to_string(),
        "The record names the methods \"dns-01\", and http-01 or ca-tbr-19 is relied on."
    );
}

#[test]
fn s4_err_validationmethods_malformed_is_never_satisfied() {
    for list in [
        ",",
        "http-01,",
        ",http-01",
        "http-01,,dns-01",
        "http-01,a_b",
        "a_b,http-01",
        "http-01!",
        "'http-01'",
        "http-01,*",
    ] {
        let decision = decide(&format!("validationmethods={list}"));
        assert!(!decision.permitted, "{list}");
        assert_eq!(decision.records, [RecordFinding::MethodsMalformed { published: list.to_owned() }]);
    }
    let blank = decide("validationmethods=dns-01, http-01");
    assert!(matches!(blank.records[0], RecordFinding::MalformedValue { .. }), "a blank leaves the value grammar");
}

#[test]
fn s4_err_validationmethods_repeated_is_never_satisfied() {
    for parameters in [
        "validationmethods=http-01; validationmethods=http-01",
        "validationmethods=http-01; validationmethods=dns-01",
        "validationmethods=http-01; VALIDATIONMETHODS=http-01",
        "validationmethods=; validationmethods=http-01",
        "validationmethods=http-01,http-01",
        "validationmethods=dns-01,http-01,dns-01",
    ] {
        let decision = decide(parameters);
        assert_eq!(decision.records, [RecordFinding::MethodsRepeated], "{parameters}");
        assert!(!decision.permitted);
    }
}

#[test]
fn s4_err_an_unknown_method_satisfies_no_validationmethods() {
    for labels in [&[][..], &[""]] {
        let context = CaaContext { method_labels: labels, ..context("http-01") };
        for list in ["http-01", ""] {
            let value = format!("ca.example; validationmethods={list}");
            assert!(!decide_with(&[&value], &policy(), &context).permitted, "{list}");
        }
        assert!(decide_with(&["ca.example"], &policy(), &context).permitted, "absent = any method");
    }
}

#[test]
fn s4_labels_are_equivalent_both_ways() {
    let table: [(&str, &[&str]); 6] = [
        ("http-01", &["http-01", "ca-tbr-19"]),
        ("ca-tbr-19", &["http-01", "ca-tbr-19"]),
        ("dns-01", &["dns-01", "ca-tbr-7"]),
        ("ca-tbr-7", &["dns-01", "ca-tbr-7"]),
        ("HTTP-01", &[]),
        ("ca-tbr-8", &[]),
    ];
    for (label, labels) in table {
        assert_eq!(method_labels(label), labels, "{label}");
    }
}

#[test]
fn s4_a_long_list_is_read_in_reasonable_time() {
    let list: Vec<String> = (0..12_000).map(|i| format!("m{i}")).collect();
    assert!(!decide(&format!("validationmethods={}", list.join(","))).permitted);
    assert!(decide(&format!("validationmethods={},http-01", list.join(","))).permitted);
}

// ---------------------------------------------------------------------------------------------------
// Both together
// ---------------------------------------------------------------------------------------------------

#[test]
fn parameters_of_one_record_are_joint() {
    let table = [
        ("accounturi=https://ca.example/acct/7; validationmethods=http-01", true),
        ("validationmethods=http-01; accounturi=https://ca.example/acct/7", true),
        ("accounturi=https://ca.example/acct/7; validationmethods=dns-01", false),
        ("accounturi=https://ca.example/acct/8; validationmethods=http-01", false),
    ];
    for (parameters, permitted) in table {
        assert_eq!(decide(parameters).permitted, permitted, "{parameters}");
    }
}

#[test]
fn records_are_alternatives() {
    let right = "ca.example; accounturi=https://ca.example/acct/7";
    let wrong = "ca.example; accounturi=https://ca.example/acct/8";
    let decision = decide_with(&[wrong, right], &policy(), &context("http-01"));
    assert!(matches!(decision.rule, CaaRule::Authorized { record: 1, .. }));
    let split = [
        "ca.example; accounturi=https://ca.example/acct/7; validationmethods=dns-01",
        "other.example; validationmethods=http-01",
    ];
    let decision = decide_with(&split, &policy(), &context("http-01"));
    assert!(!decision.permitted, "halves of two records make no whole");
    assert_eq!(
        decision.rule.to_string(),
        "Forbidden: issue governs this name and names this CA, but with parameters that this request does not satisfy."
    );
}

#[test]
fn parameters_of_other_issuers_are_not_judged() {
    let decision = decide_with(&["other.example; accounturi=x; accounturi=y"], &policy(), &context("http-01"));
    assert_eq!(decision.records, [RecordFinding::OtherIssuer { issuer: "other.example".to_owned() }]);
}

#[test]
fn unknown_parameters_are_ignored_and_documented_ones_are_not() {
    assert!(decide("policy=ev; cansignhttpexchanges=yes").permitted);
    let policy = CaaPolicy { unsatisfiable_parameters: vec!["policy".to_owned()], ..policy() };
    for (value, permitted) in [
        ("ca.example; policy=ev", false),
        ("ca.example; Policy=", false),
        ("ca.example; policies=ev", true),
        ("ca.example", true),
    ] {
        assert_eq!(decide_with(&[value], &policy, &context("http-01")).permitted, permitted, "{value}");
    }
}
