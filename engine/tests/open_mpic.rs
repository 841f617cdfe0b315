//! Open MPIC's API over a whole deployment: the laboratory's requests, asked in its words, end as they must.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod fleet;
mod https;
mod open_mpic_calls;
mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use fleet::{Fleet, get, until};
use https::rest;
use open_mpic_calls::calls;
use parallax_validation::request::RawRequest;
use serde_json::{Value, json};
use support::Bench;

#[test]
fn ok_every_request_that_open_mpic_has_words_for_ends_as_it_must() {
    let bench = Bench::new(76, 76, 600);
    let fleet = Fleet::make(&bench.path(""), 24_600);
    let nodes = fleet.start_nodes();
    let mut engine = fleet.start_engine("journal");
    until("the primary's link stands", || get(fleet.engine_metrics, "/readyz").0 == 200);
    let expected: BTreeMap<String, Value> = fs::read_to_string(bench.path("expected.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| Some((line["id"].as_str()?.to_owned(), line)))
        .collect();
    let lines = fs::read_to_string(bench.path("bulk.jsonl")).unwrap();
    let asked: Vec<(Value, Vec<Value>)> = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<RawRequest>(line).ok())
        // Account bindings in CAA records are a matter of the native API: there is no account here.
        .filter_map(|raw| Some((expected.get(raw.id.as_ref()?)?.clone(), calls(&raw)?)))
        .filter(|(expected, _)| {
            let kind = expected["kind"].as_str().unwrap();
            // Nor does it count control and CAA together: two calls are two counts (req A14).
            !["account", "validation", "mp-mixed"].iter().any(|word| kind.contains(word))
        })
        .collect();
    assert!(asked.len() > 300, "{} of the laboratory's requests can be asked", asked.len());
    let ra = fleet.identity("ra");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((expected, calls)) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answers: Vec<(u16, Value)> = calls
                        .iter()
                        .map(|call| {
                            let (status, body) = rest(fleet.engine, &ra, "POST", "/mpic", &call.to_string());
                            (status, serde_json::from_str(&body).unwrap())
                        })
                        .collect();
                    let permits = answers.iter().all(|(status, body)| *status == 200 && body["is_valid"] == true);
                    let refused = answers.iter().any(|(status, _)| *status == 400);
                    let right = match expected["verdict"].as_str().unwrap() {
                        "pass" => permits,
                        "refused" => refused && !permits,
                        _ => !permits && !refused,
                    };
                    if !right {
                        wrong.lock().unwrap().push(format!("{expected}: {answers:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} differ, such as {}", wrong.len(), asked.len(), wrong[0]);

    // One in full: who is listed, what was seen, and what stands in the journal.
    let good = asked.iter().find(|(expected, _)| expected["kind"] == "http-ok").unwrap();
    let mut call = good.1[0].clone();
    call["trace_identifier"] = "t-1".into();
    call["orchestration_parameters"] = json!({ "perspective_count": 5, "quorum_count": "5", "max_attempts": 2 });
    // Some clients double the slash.
    let (status, body) = rest(fleet.engine, &ra, "POST", "//mpic", &call.to_string());
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["is_valid"], &answer["mpic_completed"]), (200, &true.into(), &true.into()), "{answer}");
    assert_eq!(
        answer["actual_orchestration_parameters"],
        json!({ "perspective_count": 5, "quorum_count": 5, "attempt_count": 1 })
    );
    let codes: Vec<&str> = answer["perspectives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["perspective_code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, fleet.places[1..].iter().map(|place| place.id.as_str()).collect::<Vec<_>>());
    assert_eq!(answer["primary_perspective"]["perspective_code"], fleet.places[0].id.as_str());
    let (status, body) = rest(fleet.engine, &ra, "GET", "/v1/explain/t-1", "");
    let found: Value = serde_json::from_str(&body).unwrap();
    let restrictions = &found[0]["request"]["restrictions"];
    assert_eq!((status, &restrictions["non_corroborations_max"]), (200, &0.into()), "all five or nothing was recorded");

    // A failure is tried again as often as was asked, and nothing is carried over.
    let bad = asked.iter().find(|(expected, _)| expected["kind"] == "dns-nxdomain").unwrap();
    let mut call = bad.1[0].clone();
    call["orchestration_parameters"] = json!({ "max_attempts": 99 });
    let answer: Value = serde_json::from_str(&rest(fleet.engine, &ra, "POST", "/mpic", &call.to_string()).1).unwrap();
    assert_eq!(
        (&answer["is_valid"], &answer["actual_orchestration_parameters"]["attempt_count"]),
        (&false.into(), &3.into())
    );
    assert_eq!(answer["previous_attempt_results"].as_array().unwrap().len(), 2);

    for (call, status, issue) in [
        (
            json!({ "domain_or_ip_target": "a.example", "orchestration_parameters": { "quorum_count": 1 } }),
            400,
            "invalid-quorum-count",
        ),
        (
            json!({ "domain_or_ip_target": "a.example", "orchestration_parameters": { "perspective_count": 6 } }),
            400,
            "invalid-perspective-count",
        ),
        (json!({ "check_type": "caa" }), 400, "missing"),
    ] {
        let (got, body) = rest(fleet.engine, &ra, "POST", "/mpic", &call.to_string());
        assert!(
            got == status && body.contains(issue) && body.contains("request-validation-failed"),
            "{call}: {got} {body}"
        );
    }
    assert_eq!(rest(fleet.engine, &fleet.identity("support"), "POST", "/mpic", "{}").0, 403);
    assert_eq!(rest(fleet.engine, &ra, "GET", "/healthz", "").1, r#"{"status":"healthy"}"#);
    let configz: Value = serde_json::from_str(&rest(fleet.engine, &ra, "GET", "/configz", "").1).unwrap();
    assert_eq!(configz["default_perspective_count"], 5);
    assert_eq!(engine.stop(), 0, "{}", engine.said());
    drop(nodes);
    bench.run(&["journal", "verify", "journal"]).expect(0, &[]);
}
