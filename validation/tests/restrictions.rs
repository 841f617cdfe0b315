//! What a caller demands beyond the rules can only make a verdict stricter; and proofs by digest alone.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

#[allow(dead_code, reason = "each test program uses its part")]
mod world;

use std::collections::BTreeSet;

use parallax_validation::{
    check::dcv::Method,
    request::{CheckRequest, Proof, RawRequest, RequestError, RequestRules, Restrictions},
    verdict::{Refusal, Verdict},
};
use world::{R1, R2, R3, World, raw};

const TXT: &str = "_acme-challenge.customer.example";

fn with(restrictions: Restrictions) -> World {
    let world = World::new(RawRequest { restrictions, ..raw("customer.example", "dns-01") });
    let digest = world.digest();
    world.a("customer.example", &["192.0.2.10"]).txt(TXT, &[&digest])
}

#[test]
fn a3_fewer_failures_may_be_demanded_and_never_more() {
    for (demanded, failing, passes) in [
        (None, 1, true),
        (None, 2, false),
        (Some(0), 0, true),
        (Some(0), 1, false),
        (Some(1), 1, true),
        // Laxer than the row: it has no effect.
        (Some(2), 2, false),
        (Some(9), 2, false),
    ] {
        let world = with(Restrictions { non_corroborations_max: demanded, ..Restrictions::default() });
        let world = world.from(&[R1, R2, R3][..failing]).txt(TXT, &["wrong"]);
        let played = world.play();
        assert_eq!(played.passed(), passes, "{demanded:?} with {failing} failing: {:?}", played.record.verdict);
    }
}

#[test]
fn h15_a_dry_run_permits_nothing_and_says_so() {
    let record = with(Restrictions { dry_run: true, ..Restrictions::default() }).play().record;
    assert!(!record.permits());
    assert!(matches!(record.verdict, Verdict::Refused { refusal: Refusal::ReportOnly, figures: Some(_) }));
    assert!(record.explanation.message.contains("dry run"), "{}", record.explanation.message);
}

#[test]
fn c14_only_the_names_that_are_demanded_count() {
    let to = |domains: &[&str]| Restrictions {
        issuer_domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        ..Restrictions::default()
    };
    for (domains, passes) in
        [(&[][..], true), (&["ca.example"], true), (&["CA.example"], true), (&["other.example"], false)]
    {
        let played = with(to(domains)).caa("customer.example", &[(0, "issue", "ca.example")]).play();
        assert_eq!(played.passed(), passes, "{domains:?}");
        // A name that the CA does not have gains nothing.
        let played = with(to(domains)).caa("customer.example", &[(0, "issue", "other.example")]).play();
        assert!(!played.passed(), "{domains:?}");
    }
}

fn parse(json: &str) -> Result<CheckRequest, RequestError> {
    let raw: RawRequest = serde_json::from_str(json).expect("the form");
    CheckRequest::parse(raw, "one", &RequestRules::default(), "2026-11-25T12:00:00Z".parse().unwrap())
}

#[test]
fn d8_a_digest_stands_for_a_key_authorization_where_no_more_is_published() {
    let digest = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let with = |method: &str, more: &str| {
        parse(&format!(
            r#"{{"identifier":"customer.example","method":"{method}","key_authorization_digest":"{digest}"{more}}}"#
        ))
    };
    for method in ["dns-01", "tls-alpn-01"] {
        let control = with(method, "").expect("good").control.unwrap();
        assert!(matches!(&control.proof, Proof::KeyDigest(given) if given.as_str() == digest));
        let json = serde_json::to_string(&control).unwrap();
        assert_eq!(serde_json::from_str::<parallax_validation::request::Challenge>(&json).unwrap(), control);
    }
    for (published, passes) in [(digest, true), ("another", false)] {
        let raw = RawRequest {
            identifier: "customer.example".to_owned(),
            method: "dns-01".to_owned(),
            key_authorization_digest: Some(digest.to_owned()),
            ..RawRequest::default()
        };
        let played = World::new(raw).a("customer.example", &["192.0.2.10"]).txt(TXT, &[published]).play();
        assert_eq!(played.passed(), passes, "{published}");
    }
    for (method, more, wants) in [
        ("http-01", "", "key_authorization_digest: given, but http-01"),
        ("dns-01", r#","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA""#, "not beside it"),
        ("caa", "", "key_authorization_digest: given, but caa"),
    ] {
        let error = with(method, more).expect_err(wants);
        assert!(error.to_string().contains(wants), "{error}");
    }
    let short = r#"{"identifier":"customer.example","method":"dns-01","key_authorization_digest":"abc"}"#;
    assert_eq!(parse(short), Err(RequestError::KeyDigest));
}

#[test]
fn c20_a_name_may_be_checked_as_the_domain_of_mailboxes() {
    let caa = |kind: &str| {
        parse(&format!(r#"{{"identifier":"customer.example","method":"caa","certificate_type":"{kind}"}}"#))
    };
    assert!(caa("s-mime").unwrap().caa.unwrap().s_mime);
    assert!(!caa("tls-server").unwrap().caa.unwrap().s_mime);
    assert!(matches!(caa("code"), Err(RequestError::Choice { field: "certificate_type", .. })));
    let mailbox = |kind: &str| {
        parse(&format!(r#"{{"identifier":"a@customer.example","method":"caa","certificate_type":"{kind}"}}"#))
    };
    assert!(mailbox("s-mime").is_ok());
    assert!(mailbox("tls-server").is_err());
    let asked = |kind: &str| {
        let raw = RawRequest { certificate_type: Some(kind.to_owned()), ..raw("customer.example", "caa") };
        World::new(raw).caa("customer.example", &[(0, "issue", "ca.example"), (0, "issuemail", "other.example")]).play()
    };
    assert!(asked("tls-server").passed());
    assert!(!asked("s-mime").passed(), "issuemail governs");
}

#[test]
fn d6_a_value_within_a_longer_text_counts_only_if_that_was_asked_for() {
    let value = "0123456789abcdef0123456789abcdef";
    for (text, whole, within) in [
        (value.to_owned(), true, true),
        (format!("ca-check={value}"), false, true),
        (format!("ca {value} more"), false, true),
        (format!("{value}0"), false, false),
        (format!("a{value}"), false, false),
    ] {
        for (asked, expected) in [(false, whole), (true, within)] {
            let raw = RawRequest {
                random_value: Some(value.to_owned()),
                prefix_label: Some("_ca".to_owned()),
                within: Some(asked),
                ..raw("customer.example", "dns-change")
            };
            let played = World::new(raw).txt("_ca.customer.example", &[&text]).play();
            assert_eq!(played.passed(), expected, "{text}, within: {asked}");
        }
    }
    let cname = format!(
        r#"{{"identifier":"customer.example","method":"dns-change","record_type":"CNAME","within":true,"random_value":"{value}","prefix_label":"_x"}}"#
    );
    assert!(matches!(parse(&cname), Err(RequestError::Unexpected { field: "within", .. })));
}

#[test]
fn f8_every_plan_that_is_made_is_within_its_bounds_and_one_beyond_them_is_not() {
    use parallax_validation::plan::{ControlPlan, Host, Plan, PlanLimits, inquiry::Inquiry};
    // Every length a name may have, by every method: a plan within bounds, or a request that is refused.
    let label = "a".repeat(63);
    let value = "0123456789abcdef0123456789abcdef";
    let mut refused = BTreeSet::new();
    for last in 1..=53 {
        let name = format!("{label}.{label}.{label}.{}.example", "b".repeat(last));
        assert!(name.len() <= 253);
        for method in Method::ALL.map(Method::label).into_iter().chain(["caa"]) {
            let has_key = ["http-01", "dns-01", "dns-account-01", "tls-alpn-01"].contains(&method);
            let contact = match method {
                "contact-email-caa" | "contact-email-txt" => Some("a@b.example".to_owned()),
                "contact-phone-caa" | "contact-phone-txt" => Some("+1 555 0100".to_owned()),
                _ => None,
            };
            let request = RawRequest {
                random_value: ["dns-change", "website-change"].contains(&method).then(|| value.to_owned()),
                prefix_label: (method == "dns-change").then(|| "_verify".to_owned()),
                file: (method == "website-change").then(|| "f".repeat(128)),
                contact,
                account_uri: Some("https://ca.example/acct/7".to_owned()),
                token: has_key.then(|| world::TOKEN.to_owned()),
                key_authorization: has_key.then(world::key_authorization),
                identifier: name.clone(),
                method: method.to_owned(),
                ..RawRequest::default()
            };
            let at = "2026-11-25T12:00:00Z".parse().unwrap();
            match CheckRequest::parse(request, "one", &RequestRules::default(), at) {
                Ok(request) => {
                    let plan = Plan::new(&request, PlanLimits::default(), Some("sibling"));
                    assert_eq!(plan.check(), Ok(()), "{method} with {} octets", name.len());
                }
                Err(RequestError::LongName { octets, .. }) => {
                    assert!(octets > 253);
                    refused.insert(method);
                }
                Err(RequestError::Prefix(_)) if method == "dns-change" => {}
                Err(error) => panic!("{method}: {error}"),
            }
        }
    }
    let with_label = ["contact-email-txt", "contact-phone-txt", "dns-01", "dns-account-01", "dns-persist-01"];
    assert_eq!(refused, BTreeSet::from(with_label));
    let good = Plan::new(&World::http().request, PlanLimits::default(), None);
    let http = |host: Host, path: &str, body_bytes: u32| {
        Some(ControlPlan::Http { host, path: path.to_owned(), https: false, body_bytes })
    };
    let name = || Host::Name("a.example".to_owned());
    for (plan, wants) in [
        (Plan { control: http(name(), "no path", 10), ..good.clone() }, "control.path"),
        (Plan { control: http(name(), "/a b", 10), ..good.clone() }, "control.path"),
        (Plan { control: http(name(), "/a\r\nHost: b", 10), ..good.clone() }, "control.path"),
        (Plan { control: http(name(), &format!("/{}", "a".repeat(4000)), 10), ..good.clone() }, "control.path"),
        (Plan { control: http(name(), "/a", u32::MAX), ..good.clone() }, "control.body_bytes"),
        (Plan { control: http(Host::Name(String::new()), "/a", 1), ..good.clone() }, "control.host"),
        (Plan { control: Some(ControlPlan::Dns(Inquiry::txt("a".repeat(300)))), ..good.clone() }, "control: "),
        (Plan { caa_levels: vec!["a".to_owned(); 1000], ..good.clone() }, "caa_levels"),
        (Plan { caa_levels: vec!["é".to_owned()], ..good.clone() }, "caa_levels"),
        (Plan { limits: PlanLimits { task_deadline_ms: u32::MAX, ..PlanLimits::default() }, ..good.clone() }, "limits"),
    ] {
        let problem = plan.check().expect_err(wants);
        assert!(problem.starts_with(wants), "{problem}");
    }
}
