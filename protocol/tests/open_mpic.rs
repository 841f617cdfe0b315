//! The Open MPIC interface: requests as they are understood, and answers to the octet.

mod made;

use made::*;
use parallax_protocol::open_mpic::{self, Unavailable, translate::counting};
use parallax_validation::{
    base::octets::Octets,
    check::dcv::Method,
    observation::{
        ControlObservation, DnsFailure, HttpFailure, HttpOutcome, NetworkError, Observation, RecordType,
        RedirectReason, RedirectRefusal, TlsOutcome, TlsProbeFailure, TlsTryEnd,
    },
    record::{PerspectiveRecord, Reply as Answered},
    request::{ChangeRecord, CheckRequest, Identifier, KeyAuthorization, KeyDigest, Proof, RandomValue, RequestRules},
    verdict::PerspectiveState,
};
use serde_json::{Value, json};

/// The one request that the engine is asked for this body.
fn understood(body: &Value) -> CheckRequest {
    let called = call(body, vec![all(caa_seen(no_caa()))]);
    assert_eq!(called.reply.status, 200, "{}", called.reply.body);
    called.requests.into_iter().next().expect("it was asked")
}

/// The issues of a body for which nothing is asked.
fn refused(body: &Value) -> Vec<Value> {
    let called = call(body, vec![all(caa_seen(no_caa()))]);
    assert_eq!((called.reply.status, called.requests.len()), (400, 0), "{body}: {}", called.reply.body);
    let answer = called.body();
    assert_eq!(answer["error"], "request-validation-failed");
    answer["validation_issues"].as_array().expect("issues").clone()
}

fn first_type(body: &Value) -> String {
    let issues = refused(body);
    let kind = issues[0].get("type").or(issues[0].get("issue_type")).expect("a type");
    kind.as_str().expect("text").to_owned()
}

/// The response of the remotes, of whom all see the same.
fn response(parameters: Value, seen: Observation) -> Value {
    let called = call(&dcv_request(parameters), vec![all(seen)]);
    called.body()["perspectives"][0]["check_response"].clone()
}

fn error_type(response: &Value) -> &str {
    response["errors"][0]["error_type"].as_str().unwrap_or("none")
}

fn message(response: &Value) -> &str {
    response["errors"][0]["error_message"].as_str().unwrap_or("none")
}

#[test]
fn ok_every_method_is_understood() {
    let key = || KeyAuthorization { token: TOKEN.to_owned(), value: KEY.to_owned() };
    let digest = || Proof::KeyDigest(KeyDigest::new(DIGEST.to_owned()));
    let value = |text: &str| RandomValue::new(text.to_owned());
    let change = |record, prefix: Option<&str>, within, text: &str| Proof::DnsChange {
        value: value(text),
        record,
        prefix: prefix.map(str::to_owned),
        within,
    };
    let contact_of = |text: &str| Proof::Contact { contact: text.to_owned() };
    let more = |base: Value, add: Value| with(base, add);
    let hexadecimal = json!({ "key_authorization_hash": hex(&digest_octets()).to_uppercase() });
    let cases: Vec<(Value, Method, Proof)> = vec![
        (http01(), Method::Http01, Proof::KeyAuthorization(key())),
        (more(http01(), json!({ "http_headers": {} })), Method::Http01, Proof::KeyAuthorization(key())),
        (dns01(), Method::Dns01, digest()),
        (more(dns01(), hexadecimal), Method::Dns01, digest()),
        (tls_alpn01(), Method::TlsAlpn01, digest()),
        (more(tls_alpn01(), json!({ "key_authorization_hash": DIGEST })), Method::TlsAlpn01, digest()),
        (dns_change("TXT", VALUE), Method::DnsChange, change(ChangeRecord::Txt, None, true, VALUE)),
        (
            more(dns_change("TXT", VALUE), json!({ "require_exact_match": true, "dns_name_prefix": "" })),
            Method::DnsChange,
            change(ChangeRecord::Txt, None, false, VALUE),
        ),
        (
            more(dns_change("CNAME", &format!("{VALUE}.")), json!({ "dns_name_prefix": "_x" })),
            Method::DnsChange,
            change(ChangeRecord::Cname, Some("_x"), false, VALUE),
        ),
        (
            more(dns_change("CAA", VALUE), json!({ "dns_name_prefix": null, "require_exact_case": false })),
            Method::DnsChange,
            change(ChangeRecord::Caa, None, false, VALUE),
        ),
        (
            website(),
            Method::WebsiteChange,
            Proof::Website { value: value(VALUE), file: "a.txt".to_owned(), https: false },
        ),
        (
            more(website(), json!({ "url_scheme": "https", "require_exact_case": "no", "match_regex": null })),
            Method::WebsiteChange,
            Proof::Website { value: value(VALUE), file: "a.txt".to_owned(), https: true },
        ),
        (
            more(website(), json!({ "url_scheme": null, "http_headers": null })),
            Method::WebsiteChange,
            Proof::Website { value: value(VALUE), file: "a.txt".to_owned(), https: false },
        ),
        (persist(), Method::DnsPersist01, Proof::Persistent { account_uri: ACCOUNT.to_owned() }),
        (contact("contact-email-txt", "a@b.example"), Method::ContactEmailTxt, contact_of("a@b.example")),
        (contact("contact-email-caa", "a@b.example"), Method::ContactEmailCaa, contact_of("a@b.example")),
        (contact("contact-phone-txt", "+1 555 0100"), Method::ContactPhoneTxt, contact_of("+1 555 0100")),
        (contact("contact-phone-caa", "+1 555 0100"), Method::ContactPhoneCaa, contact_of("+1 555 0100")),
    ];
    for (parameters, method, proof) in cases {
        let request = understood(&dcv_request(parameters.clone()));
        let control = request.control.expect("control");
        assert_eq!((control.method, &control.proof), (method, &proof), "{parameters}");
        if let (Proof::DnsChange { value, .. }, Proof::DnsChange { value: wanted, .. }) = (&control.proof, &proof) {
            assert_eq!(value.expose(), wanted.expose(), "{parameters}");
        }
        assert_eq!(request.caa, None, "one check a call: {parameters}");
        assert_eq!((request.id.as_str(), request.account.as_deref()), ("mpic-1", Some("caller-1")));
        assert_eq!(request.identifier.to_string(), NAME);
        assert_eq!(request.restrictions.non_corroborations_max, None);
        let domains = if method == Method::DnsPersist01 { vec!["ca1.example".to_owned()] } else { Vec::new() };
        assert_eq!(request.restrictions.issuer_domains, domains);
    }
}

#[test]
fn ok_caa_is_understood() {
    let of = |parameters: Value| with(caa_request(), json!({ "caa_check_parameters": parameters }));
    for (body, s_mime, domains, forbids) in [
        (caa_request(), false, vec![], true),
        (json!({ "domain_or_ip_target": NAME }), false, vec![], true),
        (of(Value::Null), false, vec![], true),
        (of(json!({})), false, vec![], true),
        (of(json!({ "caa_domains": null })), false, vec![], true),
        (of(json!({ "caa_domains": [], "allow_lookup_failure": false })), false, vec![], true),
        (
            of(json!({ "caa_domains": ["CA2.Example"], "allow_lookup_failure": true })),
            false,
            vec!["ca2.example"],
            false,
        ),
        (of(json!({ "certificate_type": "s-mime", "allow_lookup_failure": "1" })), true, vec![], false),
    ] {
        let request = understood(&body);
        let check = request.caa.expect("CAA");
        assert_eq!((request.control, check.s_mime, check.account_uri), (None, s_mime, None), "{body}");
        assert_eq!(request.restrictions.issuer_domains, domains, "{body}");
        assert_eq!(request.restrictions.lookup_failure_forbids, forbids, "{body}");
    }
}

#[test]
fn ok_targets_and_ids() {
    let of = |target: &str, parameters: Value| with(dcv_request(parameters), json!({ "domain_or_ip_target": target }));
    let request = understood(&of("[2600::1]", http01()));
    assert_eq!(request.identifier, Identifier::Ip("2600::1".parse().expect("an address")));
    assert!(matches!(understood(&of("8.8.4.4", http01())).identifier, Identifier::Ip(_)));
    assert!(matches!(understood(&of("*.example.net", dns01())).identifier, Identifier::Wildcard(_)));
    let traced = |trace: Value| understood(&with(caa_request(), json!({ "trace_identifier": trace }))).id.to_string();
    assert_eq!(traced(json!("order-7/2")), "order-7/2");
    assert_eq!(traced(json!("not an id, but a fine trace")), "mpic-1");
    assert_eq!(traced(Value::Null), "mpic-1");
}

#[test]
fn ok_unknown_members_and_text_for_numbers() {
    let body = json!({
        "check_type": "caa", "domain_or_ip_target": NAME, "x": 1,
        "orchestration_parameters": { "perspective_count": "5", "quorum_count": " 5 ", "max_attempts": 2.0, "y": [] },
        "caa_check_parameters": { "z": {} },
    });
    let called = call(&body, vec![all(caa_seen(no_caa()))]);
    assert_eq!(called.requests[0].restrictions.non_corroborations_max, Some(0));
    let answer = called.body();
    assert_eq!(
        answer["request_orchestration_parameters"],
        json!({ "perspective_count": 5, "quorum_count": 5, "max_attempts": 2, "cohort_for_single_attempt": null })
    );
    assert_eq!(
        answer["actual_orchestration_parameters"],
        json!({ "perspective_count": 5, "quorum_count": 5, "attempt_count": 1 })
    );
}

#[test]
fn err_shapes_are_told_in_pydantics_terms() {
    for (body, kind, loc) in [
        (json!({ "check_type": "zzz", "domain_or_ip_target": NAME }), "literal_error", json!(["check_type"])),
        (json!({ "check_type": null, "domain_or_ip_target": NAME }), "literal_error", json!(["check_type"])),
        (json!({ "check_type": "CAA", "domain_or_ip_target": NAME }), "literal_error", json!(["check_type"])),
        (json!({ "check_type": "caa" }), "missing", json!(["domain_or_ip_target"])),
        (json!({ "check_type": "caa", "domain_or_ip_target": 5 }), "string_type", json!(["domain_or_ip_target"])),
        (json!({ "check_type": "caa", "domain_or_ip_target": null }), "string_type", json!(["domain_or_ip_target"])),
        (json!([]), "model_type", json!([])),
        (json!({ "check_type": "dcv", "domain_or_ip_target": NAME }), "missing", json!(["dcv_check_parameters"])),
        (dcv_request(Value::Null), "model_attributes_type", json!(["dcv_check_parameters"])),
        (dcv_request(json!({})), "union_tag_not_found", json!(["dcv_check_parameters"])),
        (dcv_request(json!({ "validation_method": "x" })), "union_tag_invalid", json!(["dcv_check_parameters"])),
        (dcv_request(json!({ "validation_method": 5 })), "union_tag_invalid", json!(["dcv_check_parameters"])),
        (
            dcv_request(json!({ "validation_method": "acme-http-01", "token": TOKEN })),
            "missing",
            json!(["dcv_check_parameters", "acme-http-01", "key_authorization"]),
        ),
        (
            dcv_request(with(http01(), json!({ "require_exact_case": false }))),
            "literal_error",
            json!(["dcv_check_parameters", "acme-http-01", "require_exact_case"]),
        ),
        (
            dcv_request(with(dns01(), json!({ "dns_name_prefix": "" }))),
            "literal_error",
            json!(["dcv_check_parameters", "acme-dns-01", "dns_name_prefix"]),
        ),
        (
            dcv_request(dns_change("txt", VALUE)),
            "enum",
            json!(["dcv_check_parameters", "dns-change", "dns_record_type"]),
        ),
        (
            dcv_request(json!({ "validation_method": "dns-change", "challenge_value": VALUE })),
            "missing",
            json!(["dcv_check_parameters", "dns-change", "dns_record_type"]),
        ),
        (
            dcv_request(with(website(), json!({ "url_scheme": "HTTP" }))),
            "enum",
            json!(["dcv_check_parameters", "website-change", "url_scheme"]),
        ),
        (
            dcv_request(with(website(), json!({ "http_headers": [] }))),
            "model_type",
            json!(["dcv_check_parameters", "website-change", "http_headers"]),
        ),
        (
            dcv_request(with(website(), json!({ "require_exact_case": 2 }))),
            "bool_type",
            json!(["dcv_check_parameters", "website-change", "require_exact_case"]),
        ),
        (
            dcv_request(with(persist(), json!({ "issuer_domain_names": [] }))),
            "value_error",
            json!(["dcv_check_parameters", "dns-persistent", "issuer_domain_names"]),
        ),
        (
            dcv_request(with(persist(), json!({ "issuer_domain_names": [1] }))),
            "string_type",
            json!(["dcv_check_parameters", "dns-persistent", "issuer_domain_names", 0]),
        ),
        (
            with(caa_request(), json!({ "caa_check_parameters": { "certificate_type": null } })),
            "enum",
            json!(["caa_check_parameters", "certificate_type"]),
        ),
        (
            with(caa_request(), json!({ "caa_check_parameters": { "caa_domains": "ca1.example" } })),
            "list_type",
            json!(["caa_check_parameters", "caa_domains"]),
        ),
        (orchestrated(json!([])), "model_type", json!(["orchestration_parameters"])),
        (
            orchestrated(json!({ "perspective_count": "abc" })),
            "int_parsing",
            json!(["orchestration_parameters", "perspective_count"]),
        ),
        (
            orchestrated(json!({ "quorum_count": "abc" })),
            "int_parsing",
            json!(["orchestration_parameters", "quorum_count"]),
        ),
        (
            orchestrated(json!({ "quorum_count": 3.5 })),
            "int_from_float",
            json!(["orchestration_parameters", "quorum_count"]),
        ),
        (orchestrated(json!({ "max_attempts": {} })), "int_type", json!(["orchestration_parameters", "max_attempts"])),
    ] {
        let issues = refused(&body);
        assert_eq!((&issues[0]["type"], &issues[0]["loc"]), (&json!(kind), &loc), "{body}");
        assert!(issues[0]["msg"].is_string() && issues[0].get("input").is_some(), "{body}");
    }
    let one = &refused(&orchestrated(json!({ "perspective_count": "abc" })))[0];
    assert_eq!(
        *one,
        json!({
            "type": "int_parsing", "loc": ["orchestration_parameters", "perspective_count"],
            "msg": "Input should be a valid integer, unable to parse string as an integer", "input": "abc",
        })
    );
    assert_eq!(refused(&json!({ "check_type": 1, "orchestration_parameters": 1 })).len(), 3, "all are listed");
}

#[test]
fn a_type_that_is_absent_is_guessed_and_never_weakened() {
    let body = |parameters: Value| json!({ "domain_or_ip_target": NAME, "dcv_check_parameters": parameters });
    assert!(understood(&body(dns01())).control.is_some());
    assert!(understood(&body(Value::Null)).control.is_none());
    // A call that was meant for control is not answered with CAA.
    assert_eq!(first_type(&body(json!({}))), "union_tag_not_found");
    assert_eq!(first_type(&body(json!({ "validation_method": "acme-dns-01" }))), "missing");
    assert_eq!(first_type(&body(json!("x"))), "model_attributes_type");
}

#[test]
fn err_issues_are_bounded() {
    let names: Vec<Value> = (0..60).map(Value::from).collect();
    let parameters = json!({ "caa_domains": names });
    assert_eq!(refused(&with(caa_request(), json!({ "caa_check_parameters": parameters }))).len(), 50);
    let names: Vec<Value> = (0..60).map(|n| format!("ca{n}.invalid").into()).collect();
    let parameters = json!({ "caa_domains": names });
    assert_eq!(refused(&with(caa_request(), json!({ "caa_check_parameters": parameters }))).len(), 50);
    let long = json!({ "domain_or_ip_target": NAME, "check_type": "x".repeat(5_000) });
    assert_eq!(refused(&long)[0].get("input"), None, "what is long is not repeated");
    assert_eq!(first_type(&json!({ "domain_or_ip_target": "x".repeat(70_000) })), "json_invalid");
    let (rules, domains) = (RequestRules::default(), policy().issuer_domains);
    for broken in [&b"["[..], b"", b"\xff", b"{\"a\":", &[b'['; 60_000][..]] {
        let called = call_with(broken, &settings(&rules, &domains), vec![]);
        assert_eq!(called.reply.status, 400);
        assert_eq!(called.body()["validation_issues"][0]["type"], "json_invalid");
    }
}

#[test]
fn err_counts() {
    let huge: Value = serde_json::from_str("99999999999999999999999999").expect("a number");
    for count in [json!(1), json!(0), json!(-1), json!(6), huge.clone(), json!("99999999999999999999999999")] {
        let issues = refused(&orchestrated(json!({ "perspective_count": count })));
        assert_eq!(issues[0]["issue_type"], "invalid-perspective-count", "{count}");
    }
    let beyond = [json!(1), json!(-1), json!(0), json!(10), json!(3), huge, json!(i64::MIN)];
    for quorum in &beyond {
        // W2: whether or not the other count was sent.
        for parameters in [json!({ "quorum_count": quorum }), json!({ "quorum_count": quorum, "perspective_count": 5 })]
        {
            let issues = refused(&orchestrated(parameters));
            assert_eq!((issues.len(), &issues[0]["issue_type"]), (1, &json!("invalid-quorum-count")), "{quorum}");
        }
    }
    for cohort in [0, -1] {
        assert_eq!(
            first_type(&orchestrated(json!({ "cohort_for_single_attempt": cohort }))),
            "parallax-invalid-cohort"
        );
    }
    let both = refused(&orchestrated(json!({ "perspective_count": 9, "quorum_count": 0 })));
    assert_eq!(both.len(), 2);
}

#[test]
fn w2_no_counts_are_laxer_than_the_rules() {
    use open_mpic::request::Orchestration;
    let choices: Vec<Option<i64>> =
        std::iter::once(None).chain((-2..=20).map(Some)).chain([Some(i64::MIN), Some(i64::MAX)]).collect();
    let mut lawful = 0;
    for remotes in 0..=15 {
        for allowed in 0..=2 {
            for perspective_count in &choices {
                for quorum_count in &choices {
                    let asked = Orchestration {
                        perspective_count: *perspective_count,
                        quorum_count: *quorum_count,
                        ..Orchestration::default()
                    };
                    let Ok(counting) = counting(Some(&asked), remotes, allowed, 3) else { continue };
                    lawful += 1;
                    assert_eq!(counting.remotes, remotes);
                    assert!(counting.allowed <= allowed);
                    if let Some(quorum) = quorum_count {
                        let count = perspective_count.unwrap_or(i64::from(remotes));
                        assert!(*quorum >= 1 && i64::from(counting.allowed) <= count - quorum);
                    }
                }
            }
        }
    }
    assert!(lawful > 1_000);
}

#[test]
fn ok_attempts_are_bounded() {
    let attempts = |parameters: Value| {
        let missing = all(caa_seen(climb(&[(0, "issue", "other.example")])));
        call(&orchestrated(parameters), vec![missing]).requests.len()
    };
    assert_eq!(attempts(json!({})), 1);
    assert_eq!(attempts(json!({ "max_attempts": 0 })), 1);
    assert_eq!(attempts(json!({ "max_attempts": -5 })), 1);
    assert_eq!(attempts(json!({ "max_attempts": 2 })), 2);
    assert_eq!(attempts(json!({ "max_attempts": 500 })), 3);
    assert_eq!(attempts(json!({ "max_attempts": 3, "cohort_for_single_attempt": 2 })), 1);
}

#[test]
fn err_what_is_asked_for_is_refused_before_anything_is_sent() {
    let of = |target: &str, parameters: Value| with(dcv_request(parameters), json!({ "domain_or_ip_target": target }));
    let caa_of = |target: &str| json!({ "check_type": "caa", "domain_or_ip_target": target });
    let domains = |names: Value| with(caa_request(), json!({ "caa_check_parameters": { "caa_domains": names } }));
    for (body, kind, wants) in [
        // W3.
        (dcv_request(with(website(), json!({ "challenge_value": "" }))), "empty-challenge-value", "empty"),
        (dcv_request(dns_change("TXT", "")), "empty-challenge-value", "empty"),
        (dcv_request(dns_change("CAA", "")), "empty-challenge-value", "empty"),
        (dcv_request(with(website(), json!({ "match_regex": "." }))), "parallax-unsupported-parameter", "match_regex"),
        (dcv_request(with(website(), json!({ "match_regex": "" }))), "parallax-unsupported-parameter", "match_regex"),
        (
            dcv_request(with(website(), json!({ "http_headers": { "Host": "a" } }))),
            "parallax-unsupported-parameter",
            "http_headers",
        ),
        (
            dcv_request(with(http01(), json!({ "http_headers": { "Host": "a" } }))),
            "parallax-unsupported-parameter",
            "http_headers",
        ),
        (
            dcv_request(with(dns_change("CNAME", VALUE), json!({ "require_exact_match": true }))),
            "parallax-unsupported-parameter",
            "require_exact_match",
        ),
        (
            dcv_request(with(dns_change("CAA", VALUE), json!({ "require_exact_match": true }))),
            "parallax-unsupported-parameter",
            "require_exact_match",
        ),
        (
            dcv_request(with(contact("contact-email-caa", "a@b.example"), json!({ "dns_name_prefix": "x" }))),
            "parallax-unsupported-parameter",
            "dns_name_prefix",
        ),
        (dcv_request(json!({ "validation_method": "ip-address" })), "parallax-unsupported-method", "3.2.2.4.8"),
        (
            dcv_request(json!({ "validation_method": "reverse-address-lookup" })),
            "parallax-unsupported-method",
            "3.2.2.5.3",
        ),
        (dcv_request(json!({ "validation_method": "dns-account-01" })), "parallax-unsupported-method", "cannot be"),
        (domains(json!(["other.example"])), "parallax-unknown-issuer-domain", "other.example"),
        (
            dcv_request(with(persist(), json!({ "issuer_domain_names": ["ca1.example", "other.example"] }))),
            "parallax-unknown-issuer-domain",
            "other.example",
        ),
        (caa_of(""), "parallax-refused-request", "empty"),
        (caa_of("8.8.4.4"), "parallax-refused-request", "caa cannot validate"),
        (caa_of("example.net."), "parallax-refused-request", "ends in a dot"),
        (caa_of("bücher.example.net"), "parallax-refused-request", "xn--bcher-kva.example.net"),
        (caa_of("a_b.example.net"), "parallax-refused-request", "not allowed"),
        (caa_of("user@example.net"), "parallax-refused-request", "mailbox"),
        (of("127.0.0.1", http01()), "parallax-refused-request", "reserved"),
        (of("[::1]", http01()), "parallax-refused-request", "reserved"),
        (of("[example.net]", http01()), "parallax-refused-request", "not allowed"),
        (of("*.example.net", http01()), "parallax-refused-request", "wildcard"),
        (of("8.8.4.4", dns01()), "parallax-refused-request", "address"),
        (dcv_request(dns_change("TXT", "abc")), "parallax-refused-request", "112 bits"),
        (
            dcv_request(with(dns01(), json!({ "key_authorization_hash": "HASH" }))),
            "parallax-refused-request",
            "SHA-256",
        ),
        (dcv_request(with(website(), json!({ "http_token_path": "../x" }))), "parallax-refused-request", "file"),
        (
            dcv_request(with(dns_change("TXT", VALUE), json!({ "dns_name_prefix": "www" }))),
            "parallax-refused-request",
            "underscore",
        ),
        (
            dcv_request(with(http01(), json!({ "key_authorization": "x" }))),
            "parallax-refused-request",
            "key_authorization",
        ),
        (dcv_request(with(persist(), json!({ "expected_account_uri": "x" }))), "parallax-refused-request", "scheme"),
    ] {
        let issues = refused(&body);
        assert_eq!(issues[0]["issue_type"], kind, "{body}: {}", issues[0]);
        assert!(issues[0]["message"].as_str().expect("text").contains(wants), "{}", issues[0]);
    }
}

#[test]
fn a_caa_answer_to_the_octet() {
    let body = with(
        orchestrated(json!({ "max_attempts": 2 })),
        json!({ "trace_identifier": "t-1", "caa_check_parameters": { "caa_domains": ["ca1.example"] } }),
    );
    let seen = caa_seen(climb(&[(0, "issue", "ca1.example"), (128, "iodef", "a\"\\\u{7f}")]));
    let called = call(&body, vec![all_but_one(seen, PerspectiveState::NotAwaited)]);
    let one = |code: &str| {
        format!(
            r#"{{"perspective_code":"{code}","check_response":{{"check_completed":true,"check_passed":true,"errors":null,"timestamp_ns":1795608000262345000,"check_type":"caa","details":{{"caa_record_present":true,"found_at":"example.net","records_seen":["0 issue \"ca1.example\"","128 iodef \"a\\\"\\\\\\127\""]}}}}}}"#
        )
    };
    let last = r#"{"perspective_code":"p5","check_response":{"check_completed":false,"check_passed":false,"errors":[{"error_type":"parallax:not_awaited","error_message":"The result was settled before this perspective answered."}],"timestamp_ns":1795608000700000000,"check_type":"caa","details":{"caa_record_present":null,"found_at":null,"records_seen":null}}}"#;
    let remotes: Vec<String> = ["p1", "p2", "p3", "p4"].map(one).to_vec();
    let wanted = format!(
        r#"{{"mpic_completed":true,"request_orchestration_parameters":{{"perspective_count":null,"quorum_count":null,"max_attempts":2,"cohort_for_single_attempt":null}},"actual_orchestration_parameters":{{"perspective_count":5,"quorum_count":4,"attempt_count":1}},"check_type":"caa","domain_or_ip_target":"shop.example.net","is_valid":true,"trace_identifier":"t-1","perspectives":[{},{last}],"caa_check_parameters":{{"certificate_type":"tls-server","caa_domains":["ca1.example"],"allow_lookup_failure":false}},"previous_attempt_results":null,"primary_perspective":{},"explanation":{{"message":"#,
        remotes.join(","),
        one("p0")
    );
    let (front, rest) = called.reply.body.split_at(wanted.len().min(called.reply.body.len()));
    assert_eq!(front, wanted);
    assert!(rest.ends_with(r#""blame":null,"retry":null}}"#), "{rest}");
}

#[test]
fn parameters_are_repeated_with_every_default_in_order() {
    let seen = || all(caa_seen(no_caa()));
    for (parameters, wanted) in [
        (
            with(http01(), json!({ "http_headers": {} })),
            format!(
                r#"{{"validation_method":"acme-http-01","require_exact_case":true,"token":"{TOKEN}","key_authorization":"{KEY}","http_headers":{{}}}}"#
            ),
        ),
        (
            dns01(),
            format!(
                r#"{{"validation_method":"acme-dns-01","require_exact_case":true,"key_authorization_hash":"{DIGEST}","dns_record_type":"TXT","dns_name_prefix":"_acme-challenge"}}"#
            ),
        ),
        (
            tls_alpn01(),
            format!(
                r#"{{"validation_method":"acme-tls-alpn-01","require_exact_case":false,"key_authorization_hash":"{}"}}"#,
                hex(&digest_octets())
            ),
        ),
        (
            website(),
            format!(
                r#"{{"validation_method":"website-change","require_exact_case":true,"challenge_value":"{VALUE}","http_token_path":"a.txt","url_scheme":"http","http_headers":null,"match_regex":null}}"#
            ),
        ),
        (
            dns_change("TXT", VALUE),
            format!(
                r#"{{"validation_method":"dns-change","require_exact_case":true,"challenge_value":"{VALUE}","dns_name_prefix":null,"dns_record_type":"TXT","require_exact_match":false}}"#
            ),
        ),
        (
            dns_change("CNAME", VALUE),
            format!(
                r#"{{"validation_method":"dns-change","require_exact_case":false,"challenge_value":"{VALUE}","dns_name_prefix":null,"dns_record_type":"CNAME","require_exact_match":false}}"#
            ),
        ),
        (
            persist(),
            format!(
                r#"{{"validation_method":"dns-persistent","require_exact_case":false,"dns_record_type":"TXT","dns_name_prefix":"_validation-persist","issuer_domain_names":["CA1.example"],"expected_account_uri":"{ACCOUNT}"}}"#
            ),
        ),
        (
            contact("contact-phone-txt", "+1 555 0100"),
            r#"{"validation_method":"contact-phone-txt","require_exact_case":false,"challenge_value":"+1 555 0100","dns_name_prefix":"_validation-contactphone","dns_record_type":"TXT"}"#.to_owned(),
        ),
        (
            contact("contact-email-caa", "a@b.example"),
            r#"{"validation_method":"contact-email-caa","require_exact_case":false,"challenge_value":"a@b.example","dns_name_prefix":null,"dns_record_type":"CAA"}"#.to_owned(),
        ),
    ] {
        let body = call(&dcv_request(parameters), vec![seen()]).reply.body;
        let wanted = format!(r#""dcv_check_parameters":{wanted},"previous_attempt_results""#);
        assert!(body.contains(&wanted), "{body}\n{wanted}");
        assert!(body.contains(r#""trace_identifier":null,"#) && body.contains(r#""request_orchestration_parameters":null"#));
        assert!(!body.contains("caa_check_parameters"));
    }
    let body = call(&caa_request(), vec![seen()]).reply.body;
    assert!(body.contains(r#""caa_check_parameters":null"#) && !body.contains("dcv_check_parameters"));
}

#[test]
fn caa_responses() {
    let of =
        |seen: Observation| call(&caa_request(), vec![all(seen)]).body()["perspectives"][0]["check_response"].clone();
    let none = of(caa_seen(no_caa()));
    assert_eq!((&none["check_passed"], &none["errors"]), (&json!(true), &Value::Null));
    assert_eq!(none["details"], json!({ "caa_record_present": false, "found_at": null, "records_seen": null }));
    let forbids = caa_seen(climb(&[(0, "issue", "other.example")]));
    let called = call(
        &caa_request(),
        vec![vec![
            Answered::Observed(caa_seen(no_caa())),
            Answered::Observed(forbids.clone()),
            Answered::Observed(forbids),
            Answered::Observed(caa_seen(no_caa())),
            Answered::Observed(caa_seen(no_caa())),
            Answered::Observed(caa_seen(no_caa())),
        ]],
    );
    let told = called.body();
    let other = &told["perspectives"][0]["check_response"];
    assert_eq!((&told["is_valid"], &told["mpic_completed"]), (&json!(false), &json!(true)));
    assert_eq!((&other["check_completed"], &other["check_passed"]), (&json!(true), &json!(false)));
    assert_eq!(other["errors"], Value::Null, "what forbids is no error");
    assert_eq!((&told["explanation"]["blame"], &told["explanation"]["retry"]), (&json!("dns"), &json!("later")));

    for (failure, class) in [
        (DnsFailure::Rcode(2), "NoNameservers"),
        (DnsFailure::Rcode(5), "NoNameservers"),
        (DnsFailure::Timeout, "LifetimeTimeout"),
    ] {
        let called = call(&caa_request(), vec![all(caa_seen(vec![failed(NAME, RecordType::Caa, failure)]))]);
        let primary = called.body()["primary_perspective"]["check_response"].clone();
        assert_eq!((&primary["check_completed"], &primary["check_passed"]), (&json!(false), &json!(false)));
        assert_eq!(error_type(&primary), "mpic_error:caa_checker:lookup");
        assert!(message(&primary).starts_with(&format!("{class} ({NAME} CAA): ")), "{}", message(&primary));
        assert_eq!(primary["details"]["caa_record_present"], Value::Null);
    }
    let unreadable =
        caa_seen(vec![nodata(NAME, RecordType::Caa), answer("example.net", RecordType::Caa, vec![vec![0, 9]])]);
    let called = call(&caa_request(), vec![all(unreadable)]);
    assert_eq!(called.body()["is_valid"], false);
    assert_eq!(
        called.body()["primary_perspective"]["check_response"]["details"]["records_seen"],
        json!(["\\# 2 0009"])
    );
}

#[test]
fn a_check_passes_only_by_our_judgement() {
    use open_mpic::{
        request::{Endpoint, read},
        response::check_response,
    };
    let body = serde_json::to_vec(&caa_request()).expect("JSON");
    let asked = read(&body, Endpoint::Mpic).expect("a good body");
    let request = understood(&caa_request());
    let mut levels = no_caa();
    levels[0] = failed(NAME, RecordType::Caa, DnsFailure::Rcode(2));
    for (state, caa, passed) in [
        // A failure that was excused is still told.
        (PerspectiveState::Confirmed, Some(true), true),
        (PerspectiveState::Confirmed, Some(false), false),
        (PerspectiveState::Confirmed, None, false),
        (PerspectiveState::Failed, Some(true), false),
        (PerspectiveState::NotAwaited, Some(true), false),
    ] {
        let part = PerspectiveRecord {
            perspective: "p1".parse().expect("a name"),
            state,
            control: Some(true),
            caa,
            observation: Some(caa_seen(levels.clone())),
        };
        let response = check_response(&asked, &request, &part, None, now());
        assert_eq!(response.check_passed, passed, "{state:?} {caa:?}");
        assert_eq!(response.errors.map(|errors| errors.len()), Some(1), "{state:?}");
    }
}

#[test]
fn http_responses() {
    let good = http_seen(
        vec![
            hop(&http01_url(), NAME, Some(302), Some("/moved")),
            hop(&format!("http://{NAME}/moved"), NAME, Some(200), None),
        ],
        page(200, KEY),
    );
    let passed = response(http01(), good);
    assert_eq!((&passed["check_passed"], &passed["errors"]), (&json!(true), &Value::Null));
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    assert_eq!(
        passed["details"],
        json!({
            "validation_method": "acme-http-01",
            "response_history": [{ "status_code": 302, "url": "/moved" }],
            "response_url": http01_url(), "response_status_code": 200,
            "response_page": BASE64_STANDARD.encode(KEY), "resolved_ip": "8.8.4.4",
        })
    );
    let body = call(&dcv_request(http01()), vec![all(http01_page(200, KEY))]).reply.body;
    let order = r#""details":{"validation_method":"acme-http-01","response_history":null,"response_url":""#;
    assert!(body.contains(order), "{body}");
    let without = |body: Value, mut of: Observation| {
        of.elapsed_us = 5;
        let called = call(&dcv_request(body), vec![all(of)]);
        called.body()["primary_perspective"]["check_response"].clone()
    };
    let wrong = without(http01(), http01_page(200, "something else"));
    assert_eq!((&wrong["check_completed"], &wrong["check_passed"]), (&json!(true), &json!(false)));
    assert_eq!((&wrong["errors"], &wrong["details"]["response_history"]), (&Value::Null, &Value::Null));
    assert_eq!(wrong["timestamp_ns"], 1_795_608_000_250_005_000_i64);

    let fails =
        |failure| http_seen(vec![hop(&http01_url(), NAME, Some(302), Some("ftp://x/"))], HttpOutcome::Failed(failure));
    let refusal = RedirectRefusal {
        redirect: 1,
        target: Octets(b"ftp://x/".to_vec()),
        reason: RedirectReason::Scheme("ftp".to_owned()),
    };
    for (seen, completed, kind, class) in [
        (http01_page(404, ""), true, "mpic_error:http", "404: "),
        (fails(HttpFailure::RedirectRefused(refusal)), true, "mpic_error:redirect:invalid", "302 ftp://x/: "),
        (fails(HttpFailure::TooManyRedirects), false, "mpic_error:dcv_checker:lookup", "TooManyRedirects: "),
        (fails(HttpFailure::NoAddress), false, "mpic_error:dcv_checker:lookup", "ClientConnectorDNSError: "),
        (fails(HttpFailure::NotAnswered), false, "mpic_error:dcv_checker:lookup", "ClientConnectorError: "),
        (fails(HttpFailure::DeadlineOfTask), false, "mpic_error:dcv_checker:lookup", "TimeoutError: "),
        (fails(HttpFailure::OnlySpecialAddresses), false, "mpic_error:dcv_checker:lookup", "ClientConnectorError: "),
        (
            fails(HttpFailure::BrokenOff(NetworkError::Reset)),
            false,
            "mpic_error:dcv_checker:lookup",
            "ClientPayloadError: ",
        ),
    ] {
        let response = without(http01(), seen);
        assert_eq!(error_type(&response), kind);
        assert_eq!(
            (&response["check_completed"], &response["check_passed"]),
            (&json!(completed), &json!(false)),
            "{class}"
        );
        assert!(message(&response).starts_with(class), "{}", message(&response));
        for member in ["response_history", "response_url", "response_status_code", "response_page"] {
            assert_eq!(response["details"][member], Value::Null, "{class}");
        }
    }
    let odd = http_seen(vec![hop(&http01_url(), NAME, Some(200), Some("/x"))], page(200, KEY));
    assert_eq!(response(http01(), odd)["details"]["response_history"], Value::Null, "that is no redirect");
    let url = format!("http://{NAME}/.well-known/pki-validation/a.txt");
    let seen = http_seen(vec![hop(&url, NAME, Some(200), None)], page(200, VALUE));
    let passed = response(website(), seen);
    assert_eq!(
        (&passed["check_passed"], &passed["details"]["validation_method"]),
        (&json!(true), &json!("website-change"))
    );
}

#[test]
fn dns_responses() {
    let at = format!("_acme-challenge.{NAME}");
    let found = over_alias(answer(&at, RecordType::Txt, vec![txt("old"), txt(DIGEST), vec![1, 0xff]]), "dcv.b.example");
    let passed = response(dns01(), dns_seen(found));
    assert_eq!((&passed["check_passed"], &passed["errors"]), (&json!(true), &Value::Null));
    assert_eq!(
        passed["details"],
        json!({
            "validation_method": "acme-dns-01", "records_seen": ["old", DIGEST, "\\xff"], "response_code": 0,
            "ad_flag": false, "found_at": at, "cname_chain": ["dcv.b.example."],
        })
    );
    let told = call(&dcv_request(dns01()), vec![all(dns_seen(nxdomain(&at, RecordType::Txt)))]).reply.body;
    let order = r#""details":{"validation_method":"acme-dns-01","records_seen":null,"response_code":null,"ad_flag":null,"found_at":null,"cname_chain":null}"#;
    assert!(told.contains(order), "{told}");
    let primary = |parameters: Value, seen: Observation| {
        call(&dcv_request(parameters), vec![all(seen)]).body()["primary_perspective"]["check_response"].clone()
    };
    for (seen, completed, class) in [
        (nxdomain(&at, RecordType::Txt), true, Some("NXDOMAIN")),
        (nodata(&at, RecordType::Txt), true, Some("NoAnswer")),
        (failed(&at, RecordType::Txt, DnsFailure::Rcode(2)), false, Some("NoNameservers")),
        (failed(&at, RecordType::Txt, DnsFailure::Timeout), false, Some("LifetimeTimeout")),
        (failed(&at, RecordType::Txt, DnsFailure::AliasChainTooLong), false, Some("ChainTooLong")),
        (answer(&at, RecordType::Txt, vec![txt("old")]), true, None),
    ] {
        let response = primary(dns01(), dns_seen(seen));
        assert_eq!((&response["check_completed"], &response["check_passed"]), (&json!(completed), &json!(false)));
        match class {
            Some(class) => {
                assert_eq!(error_type(&response), "mpic_error:dcv_checker:lookup");
                assert!(message(&response).starts_with(&format!("{class} ({at} TXT): ")), "{}", message(&response));
                assert_eq!(
                    response["details"],
                    json!({
                        "validation_method": "acme-dns-01", "records_seen": null, "response_code": null,
                        "ad_flag": null, "found_at": null, "cname_chain": null,
                    })
                );
            }
            None => {
                assert_eq!((&response["errors"], &response["details"]["records_seen"]), (&Value::Null, &json!(["old"])))
            }
        }
    }
    let cname = answer(&format!("_x.{NAME}"), RecordType::Cname, vec![wire_name(&format!("{VALUE}.b.example"))]);
    let passed = response(with(dns_change("CNAME", VALUE), json!({ "dns_name_prefix": "_x" })), dns_seen(cname));
    assert_eq!(
        (&passed["check_passed"], &passed["details"]["records_seen"]),
        (&json!(true), &json!([format!("{VALUE}.b.example.")]))
    );
    let mut signed = answer(NAME, RecordType::Caa, vec![caa(0, "issue", &format!("ca.example; x={VALUE}"))]);
    signed.authenticated = true;
    let passed = response(dns_change("CAA", VALUE), dns_seen(signed));
    assert_eq!((&passed["check_passed"], &passed["details"]["ad_flag"]), (&json!(true), &json!(true)));
    assert_eq!(passed["details"]["records_seen"], json!([format!("ca.example; x={VALUE}")]));
    let levels = vec![
        nodata(NAME, RecordType::Caa),
        answer("example.net", RecordType::Caa, vec![caa(0, "issue", ";"), caa(0, "ContactEmail", "a@b.example")]),
    ];
    let climbed = |levels| observed(Some(ControlObservation::Climb(levels)), Vec::new());
    let passed = response(contact("contact-email-caa", "a@b.example"), climbed(levels));
    assert_eq!((&passed["check_passed"], &passed["details"]["found_at"]), (&json!(true), &json!("example.net")));
    assert_eq!(passed["details"]["records_seen"], json!(["a@b.example"]));
    let missing = primary(contact("contact-email-caa", "a@b.example"), climbed(no_caa()));
    assert_eq!((&missing["check_completed"], &missing["errors"]), (&json!(true), &Value::Null));
    let record = format!("ca1.example; accounturi={ACCOUNT}");
    let seen = answer(&format!("_validation-persist.{NAME}"), RecordType::Txt, vec![txt(&record)]);
    assert_eq!(response(persist(), dns_seen(seen))["check_passed"], true);
}

#[test]
fn tls_alpn_responses() {
    let digest = digest_octets();
    let primary = |seen: Observation| {
        call(&dcv_request(tls_alpn01()), vec![all(seen)]).body()["primary_perspective"]["check_response"].clone()
    };
    let passed = primary(handshake(&[NAME], Some(&digest), true));
    assert_eq!((&passed["check_passed"], &passed["errors"]), (&json!(true), &json!([])), "{passed}");
    assert_eq!(passed["details"], json!({ "validation_method": "acme-tls-alpn-01", "common_name": NAME }));
    let other = primary(handshake(&[NAME], Some(&[7; 32]), true));
    assert_eq!((&other["check_completed"], &other["check_passed"]), (&json!(true), &json!(false)));
    assert_eq!(other["errors"], Value::Null, "a failed match is no error");
    let kind = "mpic_error:dcv_checker:tls_alpn:certificate";
    for (seen, wanted) in [
        (handshake(&[NAME], None, true), format!("{kind}:extension_missing")),
        (handshake(&[NAME], Some(&digest), false), format!("{kind}:noncritical_alpn_extension")),
        (handshake(&[NAME, "b.example"], Some(&digest), true), format!("{kind}:no_single_san")),
        (handshake(&["8.8.4.4"], Some(&digest), true), format!("{kind}:san_not_dnsname")),
        (handshake(&["b.example"], Some(&digest), true), format!("{kind}:san_not_hostname")),
    ] {
        let response = primary(seen);
        assert_eq!((error_type(&response), &response["check_completed"]), (wanted.as_str(), &json!(true)));
    }
    let refused = TlsTryEnd::NotConnected(NetworkError::Refused);
    let response = primary(tls_seen(TlsOutcome::Failed(TlsProbeFailure::NotAnswered), refused));
    assert_eq!((error_type(&response), &response["check_completed"]), ("mpic_error:dcv_checker:lookup", &json!(false)));
    assert!(message(&response).starts_with("ConnectionRefusedError: "), "{}", message(&response));
}

#[test]
fn perspectives_that_did_not_answer() {
    let seen = || http01_page(200, KEY);
    for (state, kind) in [
        (PerspectiveState::NotAwaited, "parallax:not_awaited"),
        (PerspectiveState::TimedOut, "parallax:timed_out"),
        (PerspectiveState::Cancelled, "parallax:cancelled"),
        (PerspectiveState::RejectedReply, "parallax:rejected_reply"),
        (PerspectiveState::NotAsked, "parallax:not_asked"),
    ] {
        let called = call(&dcv_request(http01()), vec![all_but_one(seen(), state)]);
        let answer = called.body();
        assert_eq!((&answer["is_valid"], &answer["mpic_completed"]), (&json!(true), &json!(true)));
        let last = &answer["perspectives"][4]["check_response"];
        assert_eq!(
            (error_type(last), &last["check_completed"], &last["check_passed"]),
            (kind, &json!(false), &json!(false))
        );
        assert_eq!(last["details"]["validation_method"], "acme-http-01");
        assert_eq!(last["details"]["response_page"], Value::Null);
    }
    let mut replies = all(seen());
    replies[4] = Answered::None(PerspectiveState::TimedOut);
    replies[5] = Answered::None(PerspectiveState::TimedOut);
    let answer = call(&dcv_request(http01()), vec![replies]).body();
    assert_eq!((&answer["is_valid"], &answer["mpic_completed"]), (&json!(false), &json!(false)));

    // The primary refuses, and nobody else was asked.
    let mut replies = vec![Answered::None(PerspectiveState::NotAsked); 6];
    replies[0] = Answered::Observed(http01_page(404, ""));
    let answer = call(&dcv_request(http01()), vec![replies]).body();
    assert_eq!((&answer["is_valid"], &answer["mpic_completed"]), (&json!(false), &json!(false)));
    assert_eq!(answer["primary_perspective"]["perspective_code"], "p0");
    assert_eq!(error_type(&answer["primary_perspective"]["check_response"]), "mpic_error:http");
    // All remotes confirm, and the primary does not.
    let mut replies = all(seen());
    replies[0] = Answered::Observed(http01_page(404, ""));
    let answer = call(&dcv_request(http01()), vec![replies]).body();
    assert_eq!((&answer["is_valid"], &answer["mpic_completed"]), (&json!(false), &json!(true)));
}

#[test]
fn earlier_attempts_come_first() {
    let wrong = |text: &str| all(http01_page(200, text));
    let body = with(dcv_request(http01()), json!({ "orchestration_parameters": { "max_attempts": 3 } }));
    let called = call(&body, vec![wrong("one"), wrong("two"), wrong(KEY)]);
    assert_eq!(called.requests.len(), 3);
    assert!(called.requests.iter().all(|request| *request == called.requests[0]));
    let answer = called.body();
    assert_eq!(
        (&answer["is_valid"], &answer["actual_orchestration_parameters"]["attempt_count"]),
        (&json!(true), &json!(3))
    );
    let page = |attempt: usize| {
        answer["previous_attempt_results"][attempt][0]["check_response"]["details"]["response_page"].clone()
    };
    assert_eq!((page(0), page(1)), (json!("b25l"), json!("dHdv")));
    assert_eq!(answer["previous_attempt_results"][0].as_array().map(Vec::len), Some(5), "remotes only");
    assert_eq!(answer["previous_attempt_results"].as_array().map(Vec::len), Some(2));
    let called = call(&body, vec![wrong(KEY)]);
    assert_eq!((called.requests.len(), &called.body()["previous_attempt_results"]), (1, &Value::Null));
}

#[test]
fn a_stricter_caller_is_obeyed() {
    let body = with(dcv_request(http01()), json!({ "orchestration_parameters": { "quorum_count": 5 } }));
    let answer = call(&body, vec![all_but_one(http01_page(200, KEY), PerspectiveState::TimedOut)]).body();
    assert_eq!((&answer["is_valid"], &answer["mpic_completed"]), (&json!(false), &json!(false)));
    assert_eq!(answer["actual_orchestration_parameters"]["quorum_count"], 5);
    let body = with(
        dcv_request(http01()),
        json!({ "orchestration_parameters": { "quorum_count": 2, "perspective_count": 3 } }),
    );
    let answer = call(&body, vec![all(http01_page(200, KEY))]).body();
    assert_eq!(
        answer["actual_orchestration_parameters"],
        json!({ "perspective_count": 5, "quorum_count": 4, "attempt_count": 1 })
    );
}

#[test]
fn err_no_attempt_can_be_made() {
    let (rules, domains) = (RequestRules::default(), policy().issuer_domains);
    let body = serde_json::to_vec(&caa_request()).expect("JSON");
    for (why, status) in [(Unavailable::Overloaded, 503), (Unavailable::Stopped, 503), (Unavailable::Limit, 429)] {
        let called = call_with(&body, &settings(&rules, &domains), vec![Err(why)]);
        assert_eq!((called.reply.status, called.body()), (status, json!({ "error": why.to_string() })));
        assert_eq!(
            check("/dcv", &json!({ "domain_or_ip_target": NAME, "dcv_check_parameters": dns01() }), Err(why)).0,
            status
        );
    }
}

#[test]
fn nodes_answer_for_themselves() {
    let caa_of = |parameters: Value| json!({ "domain_or_ip_target": NAME, "caa_check_parameters": parameters });
    let seen = || caa_seen(climb(&[(0, "issue", "ca2.example")]));
    let (status, passed) = check("/caa", &caa_of(Value::Null), Ok(seen()));
    assert_eq!((status, &passed["check_passed"], &passed["check_type"]), (200, &json!(true), &json!("caa")));
    let (status, narrowed) = check("/caa", &caa_of(json!({ "caa_domains": ["ca1.example"] })), Ok(seen()));
    assert_eq!((status, &narrowed["check_passed"], &narrowed["errors"]), (200, &json!(false), &Value::Null));
    let failing = caa_seen(vec![failed(NAME, RecordType::Caa, DnsFailure::Rcode(2))]);
    let (status, failed_caa) = check("/caa", &caa_of(json!({ "allow_lookup_failure": true })), Ok(failing));
    assert_eq!((status, error_type(&failed_caa)), (200, "mpic_error:caa_checker:lookup"));
    assert_eq!((&failed_caa["check_completed"], &failed_caa["check_passed"]), (&json!(false), &json!(false)));

    let dcv_of = |parameters: Value| json!({ "domain_or_ip_target": NAME, "dcv_check_parameters": parameters });
    let (status, passed) = check("/dcv", &dcv_of(http01()), Ok(http01_page(200, KEY)));
    assert_eq!((status, &passed["check_passed"], &passed["check_type"]), (200, &json!(true), &json!("dcv")));
    let (status, wrong) = check("/dcv", &dcv_of(http01()), Ok(http01_page(200, "x")));
    assert_eq!((status, &wrong["check_passed"], &wrong["errors"]), (200, &json!(false), &Value::Null));
    let (status, missing) = check("/dcv", &dcv_of(http01()), Ok(http01_page(404, "")));
    assert_eq!((status, error_type(&missing)), (500, "mpic_error:http"));
    let (status, passed) = check("/dcv", &dcv_of(tls_alpn01()), Ok(handshake(&[NAME], Some(&digest_octets()), true)));
    assert_eq!((status, &passed["errors"]), (200, &json!([])));
    // Evidence about another question is none.
    let (status, other) = check("/dcv", &dcv_of(dns01()), Ok(http01_page(200, KEY)));
    assert_eq!((status, &other["check_passed"], &other["check_completed"]), (500, &json!(false), &json!(false)));

    let (status, shape) = check("/dcv", &json!({ "domain_or_ip_target": NAME }), Ok(http01_page(200, KEY)));
    assert_eq!((status, &shape["detail"][0]["type"]), (422, &json!("missing")));
    let (status, refused) = check("/caa", &caa_of(json!({ "caa_domains": ["other.example"] })), Ok(seen()));
    assert_eq!((status, &refused["detail"][0]["issue_type"]), (422, &json!("parallax-unknown-issuer-domain")));
}

#[test]
fn health_and_configuration() {
    assert_eq!(open_mpic::healthz().body, r#"{"status":"healthy"}"#);
    let (rules, domains) = (RequestRules::default(), policy().issuer_domains);
    assert_eq!(
        open_mpic::configz("9.9.9", &settings(&rules, &domains), 15_000).body,
        r#"{"open_mpic_api_spec_version":"3.9.0","app_version":"9.9.9","mpic_core_version":null,"log_level":null,"uvicorn_server_timeout_keep_alive":null,"absolute_max_attempts":3,"default_perspective_count":5,"http_client_timeout_seconds":15.0,"http_client_keepalive_timeout_seconds":null}"#
    );
    let (node, policy, suffixes) = (node(), policy(), parallax_validation::base::suffix::Suffixes::default());
    let settings = open_mpic::CheckerSettings {
        perspective: &node,
        caa: &policy,
        suffixes: &suffixes,
        rules: &rules,
        limits: parallax_validation::plan::PlanLimits::default(),
        now: now(),
        id: "node-1",
    };
    let body: Value = serde_json::from_str(&open_mpic::checker_configz("9.9.9", &settings).body).expect("JSON");
    assert_eq!(body["default_caa_domains"], json!(["ca1.example", "ca2.example"]));
    assert_eq!(body["dns_resolution_lifetime_seconds"], 8.0);
}

/// The futures may be carried from thread to thread, as servers do.
#[test]
fn calls_may_be_sent_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (rules, domains) = (RequestRules::default(), policy().issuer_domains);
    let settings = settings(&rules, &domains);
    let ask = |_: CheckRequest| async { Err(Unavailable::Stopped) };
    is_send(&open_mpic::corroborate(b"{}", &settings, ask));
}

/// Whatever is sent: it is answered, and with JSON.
#[test]
fn no_body_makes_it_panic() {
    let (rules, domains) = (RequestRules::default(), policy().issuer_domains);
    let settings = settings(&rules, &domains);
    let mut bodies: Vec<Vec<u8>> = [
        http01(),
        dns01(),
        tls_alpn01(),
        website(),
        persist(),
        dns_change("CNAME", VALUE),
        contact("contact-phone-caa", "+1 555 0100"),
    ]
    .into_iter()
    .map(|parameters| serde_json::to_vec(&dcv_request(parameters)).expect("JSON"))
    .collect();
    let full =
        json!({ "perspective_count": 5, "quorum_count": "4", "max_attempts": 2, "cohort_for_single_attempt": 1 });
    let parameters =
        json!({ "certificate_type": "s-mime", "caa_domains": ["ca1.example"], "allow_lookup_failure": true });
    bodies.push(
        serde_json::to_vec(&with(orchestrated(full), json!({ "caa_check_parameters": parameters }))).expect("JSON"),
    );
    let pieces: [&[u8]; 12] = [
        b"null",
        b"-1",
        b"\"\"",
        b"[]",
        b"{}",
        b"1e400",
        b"\\u0000",
        b"true",
        b"9999999999999999999",
        b"\"",
        b"\xc3\xa9",
        b".",
    ];
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut statuses = std::collections::BTreeSet::new();
    for round in 0..6_000 {
        let mut body = bodies[round % bodies.len()].clone();
        for _ in 0..=next(3) {
            let at = next(body.len());
            match next(4) {
                0 => body[at] = next(256) as u8,
                1 => drop(body.remove(at)),
                2 => {
                    let piece = pieces[next(pieces.len())];
                    let end = (at + next(12)).min(body.len());
                    body.splice(at..end, piece.iter().copied());
                }
                _ => body.truncate(at.max(1)),
            }
            if body.is_empty() {
                body.push(b'{');
            }
        }
        let called = call_with(&body, &settings, vec![Err(Unavailable::Overloaded)]);
        serde_json::from_str::<Value>(&called.reply.body).expect("JSON");
        statuses.insert(called.reply.status);
        if let Ok(text) = serde_json::from_slice::<Value>(&body) {
            check(if round % 2 == 0 { "/caa" } else { "/dcv" }, &text, Ok(http01_page(200, KEY)));
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), [400, 503]);
}

/// Evidence comes from nodes; whatever it holds, an answer can be made of it.
#[test]
fn no_evidence_makes_it_panic() {
    let at = format!("_acme-challenge.{NAME}");
    let moved =
        vec![hop(&http01_url(), NAME, Some(302), Some("/x")), hop("http://x.example/x", "x.example", None, None)];
    let samples = [
        (http01(), http_seen(moved, page(200, KEY))),
        (dns01(), dns_seen(over_alias(answer(&at, RecordType::Txt, vec![txt(DIGEST)]), "a.b.example"))),
        (dns_change("CNAME", VALUE), dns_seen(answer(NAME, RecordType::Cname, vec![wire_name("a.b.example")]))),
        (contact("contact-email-caa", "a@b.example"), observed(Some(ControlObservation::Climb(no_caa())), Vec::new())),
        (tls_alpn01(), handshake(&[NAME], Some(&digest_octets()), true)),
        (Value::Null, caa_seen(climb(&[(0, "issue", "ca1.example")]))),
    ];
    let mut state = 11_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut judged = 0;
    for round in 0..10_000 {
        let (parameters, seen) = &samples[round % samples.len()];
        let mut text = serde_json::to_string(seen).expect("JSON");
        let numbers = ["0", "1", "255", "18446744073709551615", "-1"];
        let octets =
            ["\\\\x00", "\\\\xff", "\\\\x3f", "", "~", "\\\\\\\\", "2262-04-11T23:47:16Z", "-009999-01-02T01:59:59Z"];
        for _ in 0..=next(2) {
            let places: Vec<usize> = text.match_indices([':', '[', '"']).map(|(place, _)| place + 1).collect();
            let place = places[next(places.len())];
            if !text.is_char_boundary(place) {
                continue;
            }
            let rest = &text[place..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let with = if digits > 0 { numbers[next(numbers.len())] } else { octets[next(octets.len())] };
            let end = if digits > 0 { digits } else { rest.find('"').unwrap_or(0) };
            text = format!("{}{with}{}", &text[..place], &rest[end..]);
        }
        let Ok(seen) = serde_json::from_str::<Observation>(&text) else { continue };
        judged += 1;
        if parameters.is_null() {
            call(&caa_request(), vec![all(seen.clone())]);
            check("/caa", &json!({ "domain_or_ip_target": NAME }), Ok(seen));
        } else {
            call(&dcv_request(parameters.clone()), vec![all(seen.clone())]);
            check("/dcv", &json!({ "domain_or_ip_target": NAME, "dcv_check_parameters": parameters }), Ok(seen));
        }
    }
    assert!(judged > 300, "{judged}");
}
