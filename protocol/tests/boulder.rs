//! Calls as Boulder's validation authority makes them, over a real connection: what is refused, what time there is,
//! how answers are encoded, and what is never said. What the rules make of evidence is in `boulder_rows.rs`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod boulder_lab;

#[allow(dead_code, reason = "the world has more than these tests need")]
#[path = "../../validation/tests/world/mod.rs"]
mod world;

use std::time::Duration;

use boulder_lab::{Lab, NOW, Script, TOKEN, caa, dcv, identifier, settings, within};
use jiff::Timestamp;
use parallax_protocol::{
    boulder::{Ending, LookError, Operation},
    wire::{
        core::{ProblemDetails, ValidationRecord},
        va::{IsCaaValidRequest, IsCaaValidResponse, PerformValidationRequest, ValidationResult},
    },
};
use parallax_validation::{observation::Observation, problem::ProblemKind};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use world::{P, THUMBPRINT, Web, World, raw};

const WWW: &str = "www.customer.example";

fn observed(world: &World) -> Observation {
    world.play().observation(P).clone()
}

/// `errortype` of an error.
fn error_type(status: &Status) -> String {
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    assert!(!status.message().is_empty());
    status.metadata().get("errortype").expect("a trailer").to_str().unwrap().to_owned()
}

fn problem(result: &ValidationResult) -> &ProblemDetails {
    result.problem.as_ref().expect("a problem")
}

// Messages ------------------------------------------------------------------------------------------------------

type Spoils<T> = fn(&mut T);

#[tokio::test]
async fn messages_that_no_working_caller_sends_are_errors_with_a_kind() {
    let mut lab = Lab::new().await;
    let rows: [(&str, &str, Spoils<PerformValidationRequest>); 23] = [
        ("0", "identifier: missing", |m| m.identifier = None),
        ("0", "identifier: missing", |m| m.identifier = identifier("", "")),
        ("0", "identifier: missing", |m| m.identifier = identifier("dns", "")),
        ("0", "challenge: missing", |m| m.challenge = None),
        ("0", "authz: missing", |m| m.authz = None),
        ("0", "authz.id: missing", |m| m.authz.as_mut().unwrap().id = 0),
        ("0", "authz.id: missing", |m| m.authz.as_mut().unwrap().id = -1),
        ("0", "authz.regID: missing", |m| m.authz.as_mut().unwrap().reg_id = 0),
        ("0", "expectedKeyAuthorization: missing", |m| m.expected_key_authorization.clear()),
        ("0", "challenge.type: missing", |m| m.challenge.as_mut().unwrap().r#type.clear()),
        ("0", "challenge.status: missing", |m| m.challenge.as_mut().unwrap().status.clear()),
        ("0", "challenge.token: missing", |m| m.challenge.as_mut().unwrap().token.clear()),
        ("0", "challenge.token: missing", |m| {
            let challenge = m.challenge.as_mut().unwrap();
            (challenge.r#type, challenge.token) = ("dns-persist-01".to_owned(), String::new());
        }),
        ("2", "unlike 'valid'", |m| m.challenge.as_mut().unwrap().status = "valid".to_owned()),
        ("2", "unlike 'Pending'", |m| m.challenge.as_mut().unwrap().status = "Pending".to_owned()),
        ("2", "unlike 'xxxxxx", |m| m.challenge.as_mut().unwrap().status = "x".repeat(100_000)),
        ("2", "43 characters", |m| m.challenge.as_mut().unwrap().token.push('x')),
        ("2", "43 characters", |m| m.challenge.as_mut().unwrap().token.truncate(42)),
        ("2", "43 characters", |m| m.challenge.as_mut().unwrap().token.replace_range(..1, "+")),
        ("2", "43 characters", |m| m.challenge.as_mut().unwrap().token.replace_range(..1, ".")),
        ("2", "43 characters", |m| m.challenge.as_mut().unwrap().token = "é".repeat(21) + "x"),
        ("2", "43 characters", |m| m.challenge.as_mut().unwrap().token = "x".repeat(100_000)),
        ("2", "43 characters", |m| {
            let challenge = m.challenge.as_mut().unwrap();
            (challenge.r#type, challenge.token) = ("other-01".to_owned(), "short".to_owned());
        }),
    ];
    for (kind, says, spoil) in &rows {
        let mut message = dcv(WWW, "http-01");
        spoil(&mut message);
        let status = lab.va.do_dcv(message).await.expect_err(says);
        assert_eq!((error_type(&status).as_str(), status.message().contains(says)), (*kind, true), "{status:?}");
        assert!(status.message().len() < 200, "{}", status.message());
    }
    assert_eq!(lab.server.counters().calls(Operation::Dcv, Ending::Refused), rows.len() as u64);
    let rows: [(&str, &str, Spoils<IsCaaValidRequest>); 11] = [
        ("0", "authzID: missing", |m| m.authz_id = 0),
        ("0", "identifier: missing", |m| m.identifier = None),
        ("0", "identifier: missing", |m| m.identifier = identifier("dns", "")),
        ("0", "validationMethod: missing", |m| m.validation_method.clear()),
        ("0", "accountURIID: missing", |m| m.account_uriid = 0),
        ("0", "accountURIID: missing", |m| m.account_uriid = -7),
        ("2", "unlike type 'ip'", |m| m.identifier = identifier("ip", "192.0.2.7")),
        ("2", "unlike type 'email'", |m| m.identifier = identifier("email", "a@customer.example")),
        ("0", "'tls-sni-01' is not known", |m| m.validation_method = "tls-sni-01".to_owned()),
        ("0", "'dns-change' is not known", |m| m.validation_method = "dns-change".to_owned()),
        ("0", "'HTTP-01' is not known", |m| m.validation_method = "HTTP-01".to_owned()),
    ];
    for (kind, says, spoil) in &rows {
        let mut message = caa(WWW);
        spoil(&mut message);
        let status = lab.caa.do_caa(message).await.expect_err(says);
        assert_eq!((error_type(&status).as_str(), status.message().contains(says)), (*kind, true), "{status:?}");
    }
    assert_eq!(lab.server.counters().calls(Operation::Caa, Ending::Refused), rows.len() as u64);
    assert!(lab.asked().is_empty() && lab.lines.0.lock().unwrap().is_empty(), "nothing was looked at");
}

#[tokio::test]
async fn what_is_asked_wrongly_is_a_problem_and_nothing_is_sent() {
    let mut lab = Lab::new().await;
    let typed = |kind: &str, value: &str, method: &str| PerformValidationRequest {
        identifier: identifier(kind, value),
        ..dcv(WWW, method)
    };
    let no_thumbprint = PerformValidationRequest { expected_key_authorization: TOKEN.to_owned(), ..dcv(WWW, "dns-01") };
    for (message, kind, says) in [
        (dcv(WWW, "tls-sni-01"), "malformed", "'tls-sni-01' is not offered"),
        (dcv(WWW, "dns-change"), "malformed", "'dns-change' is not offered"),
        (dcv(WWW, &"x".repeat(1000)), "malformed", "'xxx"),
        (typed("email", "a@customer.example", "dns-01"), "malformed", "of type 'email'"),
        (typed("dns", "a@customer.example", "dns-01"), "malformed", "of type 'dns'"),
        (typed("uri", WWW, "http-01"), "malformed", "of type 'uri'"),
        (typed("DNS", WWW, "http-01"), "malformed", "of type 'DNS'"),
        (typed("ip", WWW, "http-01"), "malformed", "of type 'ip'"),
        (typed("dns", "203.0.113.7", "http-01"), "malformed", "of type 'dns'"),
        (dcv("10.0.0.1", "http-01"), "rejectedIdentifier", "10.0.0.0/8"),
        (dcv("::1", "tls-alpn-01"), "rejectedIdentifier", "loopback"),
        (dcv("co.uk", "dns-01"), "rejectedIdentifier", "public suffix"),
        (dcv("*.co.uk", "dns-01"), "rejectedIdentifier", "public suffix"),
        (dcv("foo_bar.customer.example", "http-01"), "rejectedIdentifier", "not allowed"),
        (dcv("customer.example.", "http-01"), "rejectedIdentifier", "ends in a dot"),
        (dcv("bücher.example", "http-01"), "rejectedIdentifier", "A-label"),
        (dcv(&"é".repeat(2_000), "http-01"), "malformed", "longer than any"),
        (dcv("*.customer.example", "http-01"), "malformed", "wildcard"),
        (dcv("*.customer.example", "tls-alpn-01"), "malformed", "wildcard"),
        (dcv("203.0.113.7", "dns-01"), "malformed", "cannot validate the address"),
        (dcv("203.0.113.7", "dns-account-01"), "malformed", "cannot validate the address"),
        (dcv("203.0.113.7", "dns-persist-01"), "malformed", "cannot validate the address"),
        (no_thumbprint, "malformed", "key_authorization"),
    ] {
        let result = lab.va.do_dcv(message).await.expect(says).into_inner();
        let found = problem(&result);
        assert_eq!((found.problem_type.as_str(), found.http_status), (kind, 400), "{found:?}");
        assert!(found.detail.contains(says) && found.detail.len() < 1000, "{found:?}");
        assert!(result.records.is_empty());
        assert_eq!((result.perspective.as_str(), result.rir.as_str()), ("waw1", "RIPE"));
    }
    for (name, kind) in [("192.0.2.7", "malformed"), ("a@customer.example", "malformed"), ("com", "rejectedIdentifier")]
    {
        let answer = lab.caa.do_caa(caa(name)).await.expect(name).into_inner();
        assert_eq!(answer.problem.expect("a problem").problem_type, kind, "{name}");
        assert_eq!((answer.perspective.as_str(), answer.rir.as_str()), ("waw1", "RIPE"));
    }
    assert!(lab.asked().is_empty(), "nothing was looked at");
}

#[tokio::test]
async fn methods_that_are_off_are_a_problem_but_caa_knows_them() {
    let mut plain = settings();
    (plain.dns_account_01, plain.dns_persist_01) = (false, false);
    let mut lab = Lab::with(plain).await;
    for method in ["dns-account-01", "dns-persist-01"] {
        let result = lab.va.do_dcv(dcv(WWW, method)).await.unwrap().into_inner();
        assert_eq!(problem(&result).problem_type, "malformed", "{method}");
        lab.shows(&observed(&World::caa_of(WWW)));
        let message = IsCaaValidRequest { validation_method: method.to_owned(), ..caa(WWW) };
        assert_eq!(lab.caa.do_caa(message).await.unwrap().into_inner().problem, None, "{method}");
    }
    // dns-persist-01 has no use for a token, and takes any.
    let mut lab = Lab::new().await;
    let world = World::new(raw("customer.example", "dns-persist-01"));
    let record = "ca.example; accounturi=https://ca.example/acct/7";
    lab.shows(&observed(&world.txt("_validation-persist.customer.example", &[record])));
    let mut message = dcv("customer.example", "dns-persist-01");
    message.challenge.as_mut().unwrap().token = "none".to_owned();
    assert_eq!(lab.va.do_dcv(message).await.unwrap().into_inner().problem, None);
}

// Time ----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn with_too_little_time_nothing_is_begun() {
    let mut lab = Lab::new().await;
    lab.shows(&observed(&World::dns()));
    for ms in [1, 99, 101, 119] {
        let began = Instant::now();
        // The time is told, and the client waits longer than that.
        let mut request = Request::new(dcv("customer.example", "dns-01"));
        let value = format!("{ms}m").parse().unwrap();
        request.metadata_mut().insert("grpc-timeout", value);
        let status = lab.va.do_dcv(request).await.expect_err("no time");
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{ms}: {status:?}");
        if ms > 90 {
            assert_eq!(status.code(), Code::DeadlineExceeded, "{ms}: {status:?}");
        }
        assert!(began.elapsed() < Duration::from_millis(90), "at once");
        let status = lab.caa.do_caa(within(caa(WWW), ms)).await.expect_err("no time");
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{ms}: {status:?}");
    }
    assert!(lab.asked().is_empty());
    for ms in [120, 121, 150] {
        let mut request = Request::new(dcv("customer.example", "dns-01"));
        request.metadata_mut().insert("grpc-timeout", format!("{ms}m").parse().unwrap());
        lab.va.do_dcv(request).await.unwrap_or_else(|status| panic!("{ms}: {status:?}"));
    }
    assert_eq!(lab.asked().len(), 3);
}

#[tokio::test]
async fn a_look_ends_20_ms_before_its_caller_gives_up_and_a_fetch_200_ms_before_that() {
    let mut lab = Lab::new().await;
    lab.plays(Script::Fails(LookError::Overloaded));
    for ms in [500, 1_000, 15_000, 0] {
        // Without a deadline there are 100 s.
        let given = Duration::from_millis(if ms == 0 { 100_000 } else { ms });
        for (method, margin) in [("dns-01", 20), ("tls-alpn-01", 20), ("http-01", 220), ("caa", 20)] {
            let sent = Instant::now();
            if method == "caa" {
                let request = if ms == 0 { Request::new(caa(WWW)) } else { within(caa(WWW), ms) };
                lab.caa.do_caa(request).await.unwrap();
            } else {
                let message = dcv(WWW, method);
                let request = if ms == 0 { Request::new(message) } else { within(message, ms) };
                lab.va.do_dcv(request).await.unwrap();
            }
            let (plan, deadline, asked) = lab.asked().pop().expect("it was looked at");
            let work = given - Duration::from_millis(margin);
            // The call was received after it was sent, and before it was looked at.
            assert!(deadline >= sent + work && deadline <= asked + work, "{method} {ms}");
            let limits = plan.limits;
            limits.check().expect("limits that keep their relations");
            assert!(u128::from(limits.task_deadline_ms) <= work.as_millis(), "{method} {ms}");
            assert!(limits.task_deadline_ms <= settings().limits.task_deadline_ms);
            assert_eq!(limits.caa_repeat_ms, 0);
        }
    }
}

#[tokio::test]
async fn a_fetch_without_time_for_it_is_a_problem() {
    let mut lab = Lab::new().await;
    let result = lab.va.do_dcv(within(dcv(WWW, "http-01"), 200)).await.unwrap().into_inner();
    assert_eq!(problem(&result).problem_type, "connection");
    assert!(lab.asked().is_empty());
}

#[tokio::test]
async fn a_node_that_does_not_come_back_is_answered_for_in_time() {
    let mut lab = Lab::new().await;
    let found = Box::new(observed(&World::dns()));
    lab.plays(Script::Takes(Duration::from_secs(30), found));
    for (method, name) in [("dns-01", "customer.example"), ("http-01", WWW)] {
        let began = Instant::now();
        let result = lab.va.do_dcv(within(dcv(name, method), 1_000)).await.expect("a result").into_inner();
        assert!(began.elapsed() < Duration::from_secs(1));
        let found = problem(&result);
        assert_eq!((found.problem_type.as_str(), found.http_status), ("serverInternal", 500));
    }
    let lines = lab.lines.0.lock().unwrap().clone();
    assert!(lines.iter().all(|line| line.internal_error.as_deref().unwrap().contains("in time")));
}

#[tokio::test]
async fn a_node_that_does_not_look_is_a_problem_and_only_the_operator_is_told_why() {
    let mut lab = Lab::new().await;
    for error in [LookError::Overloaded, LookError::Stopped] {
        lab.plays(Script::Fails(error));
        let found = lab.va.do_dcv(dcv(WWW, "http-01")).await.unwrap().into_inner().problem.unwrap();
        let by_caa = lab.caa.do_caa(caa(WWW)).await.unwrap().into_inner().problem.unwrap();
        assert_eq!((found.problem_type.as_str(), found.http_status), ("serverInternal", 500));
        assert_eq!(found, by_caa);
        assert!(!found.detail.is_empty() && !found.detail.contains("tasks"));
        let line = lab.lines.0.lock().unwrap().last().cloned().unwrap();
        assert_eq!(line.internal_error, Some(error.to_string()));
    }
    let counters = lab.server.counters();
    for operation in Operation::ALL {
        assert_eq!(counters.calls(operation, Ending::Problem(ProblemKind::ServerInternal)), 2);
        assert_eq!(counters.calls(operation, Ending::Passed), 0);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_written_down() {
    let mut lab = Lab::new().await;
    lab.plays(Script::Takes(Duration::from_secs(30), Box::new(observed(&World::dns()))));
    let call = lab.va.do_dcv(dcv("customer.example", "dns-01"));
    tokio::time::timeout(Duration::from_millis(300), call).await.expect_err("given up");
    for _ in 0..100 {
        if lab.server.counters().calls(Operation::Dcv, Ending::Abandoned) == 1 {
            let line = lab.lines.0.lock().unwrap().last().cloned().unwrap();
            assert_eq!((line.authz, line.problem), (11, None));
            assert!(line.internal_error.unwrap().contains("went away"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody noticed");
}

#[tokio::test]
async fn callers_whose_clock_is_far_off_are_refused() {
    let mut lab = Lab::new().await;
    lab.shows(&observed(&World::caa_of(WWW)));
    let now = NOW.parse::<Timestamp>().unwrap().as_nanosecond();
    let minutes = |n: i128| (now + n * 60_000_000_000).to_string();
    for (sent, is_good) in [
        (minutes(0), true),
        (minutes(10), true),
        (minutes(-10), true),
        (minutes(11), false),
        (minutes(-11), false),
        ((now + 600_000_000_001).to_string(), false),
        ("0".to_owned(), false),
        (i64::MIN.to_string(), false),
        (i64::MAX.to_string(), false),
        ("noon".to_owned(), false),
        ("99999999999999999999".to_owned(), false),
        (String::new(), false),
    ] {
        let mut request = Request::new(caa(WWW));
        request.metadata_mut().insert("client-request-time", MetadataValue::try_from(sent.as_str()).unwrap());
        request.metadata_mut().insert("acme-client-user-agent", MetadataValue::from_static("client/1.0"));
        request.metadata_mut().insert_bin("acme-client-user-agent-bin", MetadataValue::from_bytes(b"\xff\x00"));
        match lab.caa.do_caa(request).await {
            Ok(_) => assert!(is_good, "{sent}"),
            Err(status) => assert_eq!((error_type(&status).as_str(), is_good), ("0", false), "{sent}"),
        }
    }
}

// What is said --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn perspective_and_region_are_told_as_they_are_set() {
    for (perspective, rir, expected) in [
        (None, None, ("waw1", "RIPE")),
        (Some("Remote VA_1"), Some("ARIN"), ("Remote VA_1", "ARIN")),
        (Some("dadaist"), None, ("dadaist", "RIPE")),
    ] {
        let perspective = perspective.map(|text: &str| text.replace(' ', "-"));
        let expected = (expected.0.replace(' ', "-"), expected.1.to_owned());
        let settings = parallax_protocol::boulder::Settings { perspective, rir: rir.map(str::to_owned), ..settings() };
        let mut lab = Lab::with(settings).await;
        lab.shows(&observed(&World::caa_of(WWW)));
        let answer = lab.caa.do_caa(caa(WWW)).await.unwrap().into_inner();
        assert_eq!((answer.perspective, answer.rir), expected);
        let result = lab.va.do_dcv(dcv(WWW, "http-01")).await.unwrap().into_inner();
        assert_eq!((result.perspective, result.rir), expected);
        let line = lab.lines.0.lock().unwrap().last().cloned().unwrap();
        assert_eq!((line.perspective, line.rir), expected);
    }
}

#[tokio::test]
async fn evidence_that_is_no_text_makes_a_text() {
    let mut lab = Lab::new().await;
    for body in [vec![0xff_u8; 700], b"\xc3\x28\x00\x1b[31m".to_vec()] {
        lab.shows(&observed(&World::http().web("192.0.2.10", Web::body(200, "", &body))));
        let result = lab.va.do_dcv(dcv(WWW, "http-01")).await.unwrap().into_inner();
        let detail = &problem(&result).detail;
        assert!(detail.contains("\\x") && detail.chars().all(|c| !c.is_control()), "{detail}");
        // What was encoded is read again, which wants valid UTF-8.
        assert_eq!(ValidationResult::decode(result.encode_to_vec().as_slice()), Ok(result.clone()));
    }
}

#[tokio::test]
async fn the_key_authorization_is_never_told() {
    let mut lab = Lab::new().await;
    let digest = World::dns().digest();
    let key = world::key_authorization();
    let txt = |values: &[&str]| World::dns().txt("_acme-challenge.customer.example", values);
    let redirect = format!("/{key}");
    for (world, name, method) in [
        (World::http().web("192.0.2.10", Web::body(200, "", format!("{key} and more"))), WWW, "http-01"),
        (World::http().web("192.0.2.10", Web::body(200, "", format!("x{key}"))), WWW, "http-01"),
        (World::http().web("192.0.2.10", Web::body(404, "", &key)), WWW, "http-01"),
        (World::http().web("192.0.2.10", Web::redirect(302, &redirect)), WWW, "http-01"),
        (txt(&[&key]), "customer.example", "dns-01"),
        (txt(&[&digest.to_uppercase()]), "customer.example", "dns-01"),
        (txt(&[&format!("\"{digest}\"")]), "customer.example", "dns-01"),
    ] {
        lab.shows(&observed(&world));
        let result = lab.va.do_dcv(dcv(name, method)).await.unwrap().into_inner();
        let line = serde_json::to_string(lab.lines.0.lock().unwrap().last().unwrap()).unwrap();
        for text in [&problem(&result).detail, &line] {
            let text = text.to_lowercase();
            for secret in [&digest, THUMBPRINT] {
                assert!(!text.contains(&secret.to_lowercase()[..16]), "{text}");
            }
        }
    }
}

#[tokio::test]
async fn an_audit_line_says_who_what_and_how_it_ended() {
    let mut lab = Lab::new().await;
    lab.shows(&observed(&World::http()));
    lab.va.do_dcv(dcv(WWW, "http-01")).await.unwrap();
    let mut line = lab.lines.0.lock().unwrap().pop().unwrap();
    line.latency_ms = 5;
    assert_eq!(
        serde_json::to_string(&line).unwrap(),
        r#"{"operation":"dcv","authz":11,"requester":7,"identifier":{"type":"dns","value":"www.customer.example"},"method":"http-01","latency_ms":5,"perspective":"waw1","rir":"RIPE","addresses_tried":["192.0.2.10"]}"#
    );
    lab.shows(&observed(&World::caa_of("*.customer.example").caa("customer.example", &[(0, "issue", ";")])));
    lab.caa.do_caa(caa("*.customer.example")).await.unwrap();
    let line = lab.lines.0.lock().unwrap().pop().unwrap();
    assert_eq!((line.operation, line.identifier.value.as_str()), (Operation::Caa, "*.customer.example"));
    assert_eq!(line.problem.unwrap().kind, ProblemKind::Caa);
    let counters = lab.server.counters();
    assert_eq!(counters.calls(Operation::Dcv, Ending::Passed), 1);
    assert_eq!(counters.calls(Operation::Caa, Ending::Problem(ProblemKind::Caa)), 1);
    let other = dcv(&"a\n".repeat(2_000), "http-01");
    lab.va.do_dcv(other).await.unwrap();
    let line = lab.lines.0.lock().unwrap().pop().unwrap();
    assert!(line.identifier.value.len() < 1_200 && !line.identifier.value.contains('\n'), "bounded and inert");
}

#[tokio::test]
async fn evidence_about_something_else_never_passes() {
    let mut lab = Lab::new().await;
    lab.shows(&observed(&World::http()));
    for (name, method) in [("other.example", "http-01"), ("customer.example", "dns-01"), (WWW, "tls-alpn-01")] {
        let result = lab.va.do_dcv(dcv(name, method)).await.unwrap().into_inner();
        assert_eq!(problem(&result).problem_type, "serverInternal", "{name} {method}");
    }
    // The evidence has CAA of this name's climb, and of no other's.
    let answer = lab.caa.do_caa(caa("www.other.example")).await.unwrap().into_inner();
    assert_eq!(answer.problem.unwrap().problem_type, "serverInternal");
}

// Encoding ------------------------------------------------------------------------------------------------------

/// Fields of a message: number and content. Only lengths and numbers occur.
#[derive(Debug, PartialEq, Eq)]
enum Field {
    Octets(u64, Vec<u8>),
    Number(u64, u64),
}

fn fields(mut bytes: &[u8]) -> Vec<Field> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().expect("an octet");
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        found.push(match key & 7 {
            0 => Field::Number(key >> 3, varint(&mut bytes)),
            2 => {
                let length = varint(&mut bytes) as usize;
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Octets(key >> 3, content.to_vec())
            }
            other => panic!("wire type {other}"),
        });
    }
    found
}

fn text(number: u64, text: &str) -> Field {
    Field::Octets(number, text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_result_is_encoded_as_the_caller_reads_it() {
    let mut lab = Lab::new().await;
    let world = World::http().aaaa(WWW, &["2001:db8::10"]).web("2001:db8::10", Web::Refuses);
    lab.shows(&observed(&world));
    let result = lab.va.do_dcv(dcv(WWW, "http-01")).await.unwrap().into_inner();
    let six = "2001:db8::10".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
    let four = vec![192, 0, 2, 10];
    let sent = fields(&result.encode_to_vec());
    let [Field::Octets(1, first), Field::Octets(1, second), perspective, rir] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    assert_eq!((perspective, rir), (&text(3, "waw1"), &text(4, "RIPE")));
    let url = format!("http://{WWW}/.well-known/acme-challenge/{TOKEN}");
    let (mut first, mut second) = (fields(first), fields(second));
    let resolver = "198.18.0.53:53";
    // The order of the families is the resolver's.
    let by_content = |field: &Field| match field {
        Field::Octets(number, content) => (*number, content.clone()),
        Field::Number(number, _) => (*number, Vec::new()),
    };
    first.sort_by_key(by_content);
    second.sort_by_key(by_content);
    let common = |used: &str| {
        vec![
            text(1, WWW),
            text(2, "80"),
            Field::Octets(3, six.clone()),
            Field::Octets(3, four.clone()),
            text(4, used),
            text(6, &url),
        ]
    };
    let mut expected = common("2001:db8::10");
    expected.extend([text(8, resolver), text(8, resolver)]);
    assert_eq!(first, expected);
    let mut expected = common("192.0.2.10");
    expected.extend([Field::Octets(7, six.clone()), text(8, resolver), text(8, resolver)]);
    assert_eq!(second, expected);
}

#[test]
fn messages_have_the_numbers_that_the_caller_has() {
    let problem = ProblemDetails { problem_type: "dns".to_owned(), detail: "d".to_owned(), http_status: 400 };
    let encoded = problem.encode_to_vec();
    assert_eq!(fields(&encoded), [text(1, "dns"), text(2, "d"), Field::Number(3, 400)]);
    let answer =
        IsCaaValidResponse { problem: Some(problem.clone()), perspective: "waw1".to_owned(), rir: "RIPE".to_owned() };
    let expected = [Field::Octets(1, encoded.clone()), text(3, "waw1"), text(4, "RIPE")];
    assert_eq!(fields(&answer.encode_to_vec()), expected);
    let result = ValidationResult {
        records: vec![ValidationRecord { hostname: "h".to_owned(), ..ValidationRecord::default() }],
        problem: Some(problem),
        perspective: "waw1".to_owned(),
        rir: "RIPE".to_owned(),
    };
    let record = vec![0x0a, 1, b'h'];
    let expected = [Field::Octets(1, record), Field::Octets(2, encoded), text(3, "waw1"), text(4, "RIPE")];
    assert_eq!(fields(&result.encode_to_vec()), expected);
    // What a caller sends, made by hand.
    let name = [&[0x0a, 3][..], b"dns", &[0x12, 3], b"a.b"].concat();
    let hand = [&[0x12, 7][..], b"http-01", &[0x18, 7, 0x2a, 10], &name, &[0x30, 11]].concat();
    let expected = IsCaaValidRequest { identifier: identifier("dns", "a.b"), ..caa("a.b") };
    assert_eq!(IsCaaValidRequest::decode(hand.as_slice()), Ok(expected));
    let challenge = [&[0x12, 7][..], b"http-01", &[0x1a, 1, b't', 0x32, 7], b"pending"].concat();
    let hand =
        [&[0x12, challenge.len() as u8][..], &challenge, &[0x1a, 4, 0x10, 7, 0x18, 11, 0x22, 1, b'k', 0x2a, 10], &name]
            .concat();
    let mut expected = dcv("a.b", "http-01");
    expected.challenge.as_mut().unwrap().token = "t".to_owned();
    expected.expected_key_authorization = "k".to_owned();
    assert_eq!(PerformValidationRequest::decode(hand.as_slice()), Ok(expected));
}
