//! Nodes behind Boulder's validation authority, which this test plays: a client that offers no ALPN, calls the primary
//! first and then the remotes, and counts as Boulder does. The laboratory's requests end as they must.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod fleet;
mod support;

use std::{collections::BTreeMap, fs, sync::Arc};

use fleet::{Fleet, account_number, get};
use hyper_util::rt::TokioIo;
use parallax_protocol::{
    transport::Identity,
    wire::{
        core,
        va::{AuthzMeta, IsCaaValidRequest, PerformValidationRequest, caa_client::CaaClient, va_client::VaClient},
    },
};
use parallax_validation::request::RawRequest;
use rustls::pki_types::ServerName;
use serde_json::Value;
use support::Bench;
use tokio::{net::TcpStream, sync::Semaphore};
use tonic::{
    Code,
    transport::{Channel, Endpoint, Uri},
};

/// As Boulder's Go client connects: TLS 1.3, a certificate, no ALPN, and HTTP/2 at once.
async fn channel(identity: &Identity, fleet: &Fleet, index: usize) -> Channel {
    let mut config = (*identity.client_config()).clone();
    config.alpn_protocols.clear();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let place = fleet.places[index].clone();
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, place) = (connector.clone(), place.clone());
        async move {
            let stream = TcpStream::connect(place.listen).await?;
            let stream = connector.connect(ServerName::try_from(place.id).unwrap(), stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), None, "nothing was negotiated");
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("https://node").connect_with_connector(connect).await.unwrap()
}

fn identifier(raw: &RawRequest) -> core::Identifier {
    let is_address = raw.identifier.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_address { "ip" } else { "dns" };
    core::Identifier { r#type: kind.to_owned(), value: raw.identifier.clone() }
}

fn dcv(raw: &RawRequest) -> PerformValidationRequest {
    // dns-persist-01 uses neither, and Boulder sends them all the same.
    let token = raw.token.clone().unwrap_or_else(|| "a".repeat(43));
    PerformValidationRequest {
        challenge: Some(core::Challenge {
            r#type: raw.method.clone(),
            token: token.clone(),
            status: "pending".to_owned(),
            ..core::Challenge::default()
        }),
        authz: Some(AuthzMeta { reg_id: account_number(), id: 7 }),
        expected_key_authorization: raw.key_authorization.clone().unwrap_or_else(|| format!("{token}.x")),
        identifier: Some(identifier(raw)),
    }
}

fn caa(raw: &RawRequest) -> IsCaaValidRequest {
    IsCaaValidRequest {
        validation_method: raw.method.clone(),
        account_uriid: account_number(),
        identifier: Some(identifier(raw)),
        authz_id: 7,
    }
}

/// One perspective's problem, by type; none if it passed.
type Outcome = Option<String>;

async fn ask(channel: &Channel, raw: &RawRequest, wants_caa: bool) -> Outcome {
    let problem = if wants_caa {
        CaaClient::new(channel.clone()).do_caa(caa(raw)).await.unwrap().into_inner().problem
    } else {
        VaClient::new(channel.clone()).do_dcv(dcv(raw)).await.unwrap().into_inner().problem
    };
    problem.map(|problem| {
        assert!(!problem.problem_type.is_empty() && !problem.detail.is_empty());
        problem.problem_type
    })
}

/// Boulder's order and count: the primary, and then all remotes, of which one of five may fail.
async fn corroborated(channels: &[Channel], raw: &RawRequest, wants_caa: bool) -> Outcome {
    if let Some(problem) = ask(&channels[0], raw, wants_caa).await {
        return Some(problem);
    }
    let mut failed = Vec::new();
    for remote in &channels[1..] {
        failed.extend(ask(remote, raw, wants_caa).await);
    }
    if failed.len() <= 1 { None } else { failed.pop() }
}

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
    let methods = ["http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01"];
    let asked: Vec<(Value, RawRequest)> = fs::read_to_string(bench.path("bulk.jsonl"))
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<RawRequest>(line).ok())
        .filter(|raw| methods.contains(&raw.method.as_str()) && raw.authorization_domain.is_none())
        .filter(|raw| raw.reverse_name.is_none() && raw.mail_host.is_none() && !raw.identifier.contains('@'))
        .filter_map(|raw| Some((expected.get(raw.id.as_ref()?)?.clone(), raw)))
        // Lines that are refused for their token or their form are errors of the call, which other tests have; an
        // account that persists for an address is one of our engine's own; and Boulder counts control and CAA apart.
        .filter(|(expected, raw)| {
            let kind = expected["kind"].as_str().unwrap();
            expected["verdict"] != "refused"
                && !kind.contains("mp-mixed")
                && !(raw.method == "dns-persist-01" && raw.identifier.parse::<std::net::IpAddr>().is_ok())
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
                    let is_address = raw.identifier.parse::<std::net::IpAddr>().is_ok();
                    let mut outcome = corroborated(&channels, &raw, false).await;
                    if outcome.is_none() && raw.caa.unwrap_or(!is_address) {
                        outcome = corroborated(&channels, &raw, true).await;
                    }
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
