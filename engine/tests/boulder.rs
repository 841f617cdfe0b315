//! Nodes behind Boulder's validation authority, which this test plays: a client that offers no ALPN, calls the primary
//! first and then the remotes, and counts as Boulder does. The laboratory's requests end as they must.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod boulder_calls;
mod fleet;
mod support;

use std::{collections::BTreeMap, fs, sync::Arc};

use boulder_calls::{caa, channel, dcv, has_words_for, validated};
use fleet::{Fleet, get};
use parallax_protocol::wire::va::{caa_client::CaaClient, va_client::VaClient};
use parallax_validation::request::RawRequest;
use serde_json::Value;
use support::Bench;
use tokio::sync::Semaphore;
use tonic::Code;

#[test]
fn ok_the_laboratory_ends_as_it_must_behind_boulders_validation_authority() {
    let bench = Bench::new(77, 77, 600);
    let fleet = Fleet::make(&bench.path(""), 24_700);
    let nodes = fleet.start_nodes();
    let expected: BTreeMap<String, Value> = fs::read_to_string(bench.path("expected.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| Some((line["id"].as_str()?.to_owned(), line)))
        .collect();
    let asked: Vec<(Value, RawRequest)> = fs::read_to_string(bench.path("bulk.jsonl"))
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<RawRequest>(line).ok())
        .filter(has_words_for)
        .filter_map(|raw| Some((expected.get(raw.id.as_ref()?)?.clone(), raw)))
        // Lines that are refused for their token or their form are errors of the call, which other tests have; and
        // Boulder counts control and CAA apart.
        .filter(|(expected, _)| {
            expected["verdict"] != "refused" && !expected["kind"].as_str().unwrap().contains("mp-mixed")
        })
        .collect();
    assert!(asked.len() > 250, "{} of the laboratory's requests can be asked", asked.len());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let va = fleet.identity("va");
        let mut channels = Vec::new();
        for index in 0..fleet.places.len() {
            channels.push(channel(&va, &fleet, index).await);
        }
        let (channels, places) = (Arc::new(channels), Arc::new(Semaphore::new(32)));
        let calls: Vec<_> = asked
            .into_iter()
            .map(|(expected, raw)| {
                let (channels, places) = (Arc::clone(&channels), Arc::clone(&places));
                tokio::spawn(async move {
                    let _place = places.acquire().await.unwrap();
                    let outcome = validated(&channels, &raw).await;
                    (expected, outcome)
                })
            })
            .collect();
        let mut wrong = Vec::new();
        for call in calls {
            let (expected, outcome) = call.await.unwrap();
            let problems = [expected["problem"].as_str(), expected["also_problem"].as_str()];
            let right = match (expected["verdict"].as_str().unwrap(), &outcome) {
                ("pass", outcome) => outcome.is_none(),
                (_, None) => false,
                // Of remotes the first to fail is told, and several may fail differently.
                (_, Some(problem)) => expected["decided_by"] == "quorum" || problems.contains(&Some(problem.as_str())),
            };
            if !right {
                wrong.push(format!("{expected}: {outcome:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} differ, such as {}", wrong.len(), wrong[0]);

        // Nobody else may call, not even who has a certificate.
        let engine = channel(&fleet.identity("engine"), &fleet, 0).await;
        let raw =
            RawRequest { identifier: "a.example".to_owned(), method: "http-01".to_owned(), ..RawRequest::default() };
        let refused = VaClient::new(engine.clone()).do_dcv(dcv(&raw)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert_eq!(CaaClient::new(engine).do_caa(caa(&raw)).await.unwrap_err().code(), Code::PermissionDenied);
        // Whose health is asked is told.
        use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
        let mut health = HealthClient::new(channels[0].clone());
        for service in ["", "va.VA", "va.CAA"] {
            let asked = HealthCheckRequest { service: service.to_owned() };
            assert_eq!(health.check(asked).await.unwrap().into_inner().status, 1, "{service}");
        }
    });
    let (_, figures) = get(fleet.places[0].metrics, "/metrics");
    for line in
        ["boulder_calls_total{operation=\"dcv\",ending=\"passed\"}", "calls_forbidden_total{service=\"boulder_va\"} 1"]
    {
        assert!(figures.contains(&format!("parallax_node_{line}")), "{line}: {figures}");
    }
    drop(nodes);
}
