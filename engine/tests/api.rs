//! The engine's own API, over gRPC and over REST: answers, rights, limits, and who is not let in.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod fleet;
mod https;
mod support;

use fleet::{Fleet, get, until};
use parallax_perf::lab::{generate::request_line, kinds::Kind};
use parallax_protocol::{
    pki,
    transport::{ConnectLimits, Identity, connect},
    wire::api::{self, ExplainRequest, corroboration_client::CorroborationClient},
};
use parallax_validation::request::RawRequest;
use prost::Message as _;
use rustix::process::Signal;
use serde_json::Value;
use support::Bench;
use tonic::{Code, transport::Channel};

async fn client(fleet: &Fleet, name: &str) -> CorroborationClient<Channel> {
    let channel = connect(&fleet.identity(name), &fleet.engine_peer(), &ConnectLimits::default()).await.unwrap();
    CorroborationClient::new(channel)
}

fn request(line: &str) -> api::Request {
    let raw: RawRequest = serde_json::from_str(line).unwrap();
    raw.into()
}

fn line(answer: &api::Answer) -> Value {
    serde_json::from_slice(&answer.result).unwrap()
}

fn rest(fleet: &Fleet, identity: &Identity, method: &str, path: &str, body: &str) -> (u16, String) {
    https::rest(fleet.engine, identity, method, path, body)
}

fn try_rest(fleet: &Fleet, identity: &Identity, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    https::try_rest(fleet.engine, "engine", identity, method, path, body)
}

fn figure(fleet: &Fleet, name: &str) -> String {
    let (_, figures) = get(fleet.engine_metrics, "/metrics");
    figures.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned()
}

#[test]
fn ok_requests_are_answered_over_both_forms_and_a_dry_run_permits_nothing() {
    let bench = Bench::new(73, 73, 20_000);
    let fleet = Fleet::make(&bench.path(""), 24_300);
    let nodes = fleet.start_nodes();
    let mut engine = fleet.start_engine("journal");
    until("the primary's link stands", || get(fleet.engine_metrics, "/readyz").0 == 200);
    let (good, bad) = (request_line(&bench.scenario(Kind::HttpOk)), request_line(&bench.scenario(Kind::CaaOther)));
    let ra = fleet.identity("ra");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = client(&fleet, "ra").await;
        let answer = client.corroborate(request(&good)).await.unwrap().into_inner();
        assert_eq!((line(&answer)["verdict"].as_str(), answer.problem.len()), (Some("pass"), 0), "{:?}", line(&answer));
        let answer = client.corroborate(request(&bad)).await.unwrap().into_inner();
        let problem: Value = serde_json::from_slice(&answer.problem).unwrap();
        assert_eq!(
            (&line(&answer)["verdict"], &problem["type"]),
            (&"fail".into(), &"urn:ietf:params:acme:error:caa".into())
        );
        // A dry run finds the same, and permits nothing.
        let answer = client.check(request(&good)).await.unwrap().into_inner();
        let told = line(&answer);
        assert_eq!((&told["verdict"], &told["decided_by"]), (&"fail".into(), &"dry-run".into()), "{told}");
        let attempt = told["attempt"].as_str().unwrap().to_owned();
        let found = client.explain(ExplainRequest { id: attempt.clone() }).await.unwrap().into_inner();
        let record: Value = serde_json::from_slice(&found.record[0]).unwrap();
        assert_eq!(
            (&record["attempt"], &record["request"]["restrictions"]["dry_run"]),
            (&attempt.into(), &true.into())
        );
        let none = client.explain(ExplainRequest { id: "nothing".to_owned() }).await.unwrap_err();
        assert_eq!(none.code(), Code::NotFound);
        // What cannot be asked is an answer too, and nothing was sent for it.
        let refused = client.corroborate(api::Request {
            identifier: "foo_bar.example".to_owned(),
            method: "caa".to_owned(),
            ..api::Request::default()
        });
        let refused = line(&refused.await.unwrap().into_inner());
        assert_eq!((&refused["verdict"], &refused["decided_by"]), (&"refused".into(), &"request".into()), "{refused}");
        // A restriction that this engine does not know is not forgotten.
        let newer = api::Restrictions { dry_run: true, set: 2, ..api::Restrictions::default() };
        let newer = api::Request { restrictions: Some(newer), ..request(&good) };
        assert_eq!(client.corroborate(newer).await.unwrap_err().code(), Code::InvalidArgument);
        // All remotes or nothing, if the caller wants that.
        let strict = api::Request {
            restrictions: Some(api::Restrictions {
                non_corroborations_max: Some(0),
                set: 1,
                ..api::Restrictions::default()
            }),
            ..request(&good)
        };
        let told = line(&client.corroborate(strict).await.unwrap().into_inner());
        assert_eq!((&told["verdict"], &told["quorum"]), (&"pass".into(), &"5/5".into()), "{told}");
    });

    let (status, body) = rest(&fleet, &ra, "POST", "/v1/corroborate", &good);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["verdict"], told.get("problem_document")), (200, &"pass".into(), None), "{told}");
    let (status, body) = rest(&fleet, &ra, "POST", "/v1/corroborate", &bad);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["verdict"]), (200, &"fail".into()));
    assert!(
        told["problem_document"]["subproblems"].is_array() || told["problem_document"]["detail"].is_string(),
        "{told}"
    );
    let (status, body) = rest(&fleet, &ra, "POST", "/v1/check", &good);
    let told: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &told["verdict"], &told["decided_by"]), (200, &"fail".into(), &"dry-run".into()), "{told}");
    let attempt = told["attempt"].as_str().unwrap();
    let (status, body) = rest(&fleet, &ra, "GET", &format!("/v1/explain/{attempt}"), "");
    let found: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &found[0]["attempt"]), (200, &attempt.into()));

    let mixed = format!("{good}\n\nno json\n{bad}\n{{\"identifier\":\"a_b.example\",\"method\":\"caa\",\"id\":\"x\"}}");
    let (status, body) = rest(&fleet, &ra, "POST", "/v1/corroborate-many", &mixed);
    let mut told: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    told.sort_by_key(|line| line["verdict"].as_str().unwrap().to_owned());
    let gist: Vec<(&Value, &Value)> = told.iter().map(|line| (&line["verdict"], &line["line"])).collect();
    assert_eq!(status, 200);
    assert_eq!(gist[..2], [(&"fail".into(), &Value::Null), (&"pass".into(), &Value::Null)]);
    let mut refused: Vec<&Value> = gist[2..].iter().map(|(_, line)| *line).collect();
    refused.sort_by_key(|line| line.as_u64());
    assert_eq!(refused, [&Value::from(3), &Value::from(5)], "{told:?}");

    for (method, path, body, wanted) in [
        ("POST", "/v1/corroborate", "no json", 400),
        ("POST", "/v1/corroborate", "{\"identifier\":\"a_b.example\",\"method\":\"caa\"}", 400),
        ("POST", "/v1/corroborate", "{\"identifier\":\"a.example\",\"method\":\"caa\",\"colour\":\"blue\"}", 400),
        ("POST", "/v1/corroborate", &" ".repeat(70_000), 413),
        ("GET", "/v1/corroborate", "", 405),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/v1/explain/nothing", "", 404),
    ] {
        let (status, told) = rest(&fleet, &ra, method, path, body);
        assert_eq!(status, wanted, "{method} {path}: {told}");
    }
    assert_eq!(engine.stop(), 0, "{}", engine.said());
    drop(nodes);
    bench.run(&["journal", "verify", "journal"]).expect(0, &[]);
}

#[test]
fn who_is_not_listed_may_do_nothing_and_who_is_may_do_what_is_listed() {
    let bench = Bench::with_slow(74, 74, 20_000, 0.02);
    let fleet = Fleet::make(&bench.path(""), 24_400);
    let nodes = fleet.start_nodes();
    let mut engine = fleet.start_engine("journal");
    until("the primary's link stands", || get(fleet.engine_metrics, "/readyz").0 == 200);
    let good = request_line(&bench.scenario(Kind::HttpOk));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stranger = client(&fleet, "stranger").await;
        for refused in
            [stranger.corroborate(request(&good)).await.unwrap_err(), stranger.check(request(&good)).await.unwrap_err()]
        {
            assert_eq!(refused.code(), Code::PermissionDenied);
        }
        let mut support = client(&fleet, "support").await;
        assert_eq!(support.corroborate(request(&good)).await.unwrap_err().code(), Code::PermissionDenied);
        let many = tokio_stream::iter([api::Requests { request: vec![request(&good).encode_to_vec()] }]);
        assert_eq!(support.corroborate_many(many).await.unwrap_err().code(), Code::PermissionDenied);
        // Records hold what callers sent: each sees its own, and who may see all sees all.
        let of_ra = client(&fleet, "ra").await.check(request(&good)).await.unwrap().into_inner();
        let of_support = support.check(request(&good)).await.unwrap().into_inner();
        let id = |answer: &api::Answer| ExplainRequest { id: line(answer)["attempt"].as_str().unwrap().to_owned() };
        assert_eq!(support.explain(id(&of_ra)).await.unwrap_err().code(), Code::NotFound);
        let own = support.explain(id(&of_support)).await.unwrap().into_inner();
        let own: Value = serde_json::from_slice(&own.record[0]).unwrap();
        assert_eq!(own["request"]["caller"], "support");
        let mut auditor = client(&fleet, "auditor").await;
        assert!(auditor.explain(id(&of_ra)).await.is_ok() && auditor.explain(id(&of_support)).await.is_ok());
        assert_eq!(auditor.check(request(&good)).await.unwrap_err().code(), Code::PermissionDenied);
        // A node has a certificate of the same authority, and is no caller.
        let mut node = client(&fleet, &fleet.places[1].id).await;
        assert_eq!(node.corroborate(request(&good)).await.unwrap_err().code(), Code::PermissionDenied);

        // Two at a time for this caller: silent servers keep them.
        let slow = request_line(&bench.scenario(Kind::DnsSilent));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let (mut support, slow) = (support.clone(), request(&slow));
                tokio::spawn(async move { support.check(slow).await })
            })
            .collect();
        let mut third = Code::Ok;
        for _ in 0..100 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            if let Err(status) = support.check(request(&good)).await {
                third = status.code();
                break;
            }
        }
        assert_eq!(third, Code::ResourceExhausted);
        let (status, _) =
            tokio::task::block_in_place(|| rest(&fleet, &fleet.identity("support"), "POST", "/v1/check", &good));
        assert_eq!(status, 429);
        // Who goes away does not free what it has under way.
        let mut impatient = request(&slow);
        impatient.id = Some("impatient".to_owned());
        let gone = tokio::time::timeout(std::time::Duration::from_millis(50), support.check(impatient)).await;
        assert!(gone.is_err() || gone.unwrap().is_err());
        // Others are not held up by that.
        assert!(client(&fleet, "ra").await.check(request(&good)).await.is_ok());
        for waits in waiting {
            assert!(waits.await.unwrap().is_ok());
        }
        assert!(support.check(request(&good)).await.is_ok(), "its places are free again");
    });
    for path in ["/v1/corroborate", "/v1/corroborate-many", "/v1/check"] {
        assert_eq!(rest(&fleet, &fleet.identity("stranger"), "POST", path, &good).0, 403, "{path}");
    }
    assert_eq!(rest(&fleet, &fleet.identity("stranger"), "GET", "/v1/explain/r000001", "").0, 403);
    assert!(engine.said().contains("a caller with the names stranger may not call"), "{}", engine.said());
    assert!(engine.said().contains("a caller with the names support may not corroborate"), "{}", engine.said());
    for (right, count) in [("call", 7), ("corroborate", 2), ("check", 1)] {
        let denied = figure(&fleet, &format!("parallax_engine_calls_forbidden_total{{right=\"{right}\"}}"));
        assert!(denied.ends_with(&format!(" {count}")), "{right}: {denied}");
    }
    // The nodes let in the engine, and nobody else.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        use parallax_protocol::wire::link::{FromEngine, link_client::LinkClient};
        let channel = connect(&fleet.identity("ra"), &fleet.node_peer(0), &ConnectLimits::default()).await.unwrap();
        let refused = LinkClient::new(channel).work(tokio_stream::iter([FromEngine::default()])).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    });
    assert!(nodes[0].said().contains("a caller with the names ra may not use link"), "{}", nodes[0].said());
    assert!(
        get(fleet.places[0].metrics, "/metrics").1.contains("parallax_node_calls_forbidden_total{service=\"link\"} 1")
    );
    assert_eq!(engine.stop(), 0);
}

#[test]
fn a12_certificates_are_read_again_and_one_that_was_revoked_lets_nobody_in() {
    let bench = Bench::new(75, 75, 20_000);
    let fleet = Fleet::make(&bench.path(""), 24_500);
    for file in ["engine.toml", &format!("{}.toml", fleet.places[0].id)] {
        let text = std::fs::read_to_string(fleet.path(file)).unwrap();
        let with =
            text.replace("authorities = \"pki/ca.pem\"", "authorities = \"pki/ca.pem\"\nrevoked = \"pki/crl.pem\"");
        assert_ne!(text, with);
        std::fs::write(fleet.path(file), with).unwrap();
    }
    let mut nodes = fleet.start_nodes();
    let mut engine = fleet.start_engine("journal");
    until("the primary's link stands", || get(fleet.engine_metrics, "/readyz").0 == 200);
    let good = request_line(&bench.scenario(Kind::HttpOk));
    let ra = fleet.identity("ra");
    assert_eq!(rest(&fleet, &ra, "POST", "/v1/corroborate", &good).0, 200);

    // A broken file leaves the old in use.
    let key = std::fs::read(fleet.path("pki/crl.pem")).unwrap();
    std::fs::write(fleet.path("pki/crl.pem"), "nothing").unwrap();
    engine.signal(Signal::HUP);
    engine.says("the old certificates and keys stay in use", 1);
    assert!(engine.said().contains("crl.pem"), "{}", engine.said());
    assert_eq!(rest(&fleet, &ra, "POST", "/v1/corroborate", &good).0, 200);
    std::fs::write(fleet.path("pki/crl.pem"), key).unwrap();

    pki::revoke(&fleet.path("pki"), "ra").unwrap();
    engine.signal(Signal::HUP);
    engine.says("certificates and keys were read again", 1);
    assert_eq!(try_rest(&fleet, &ra, "POST", "/v1/corroborate", &good), None, "a revoked caller was answered");
    engine.says("revoked", 1);
    let counted = figure(&fleet, "parallax_engine_connections_refused_total{reason=\"revoked\"}");
    assert!(counted.ends_with(" 1"), "{counted}");
    assert_eq!(rest(&fleet, &fleet.identity("support"), "POST", "/v1/check", &good).0, 200, "others are let in");

    // A connection from before is ended too: who is on it shows itself again, or cannot.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut support = client(&fleet, "support").await;
        assert!(support.check(request(&good)).await.is_ok());
        pki::revoke(&fleet.path("pki"), "support").unwrap();
        engine.signal(Signal::HUP);
        tokio::task::block_in_place(|| engine.says("certificates and keys were read again", 2));
        let mut answers = 0;
        while support.check(request(&good)).await.is_ok() {
            // What was on its way when the connection was told to end may still be answered.
            answers += 1;
            assert!(answers < 10, "a revoked caller goes on");
        }
    });

    // The engine's own certificate is revoked: its primary's node wants another link, and lets it in no more.
    pki::revoke(&fleet.path("pki"), "engine").unwrap();
    nodes[0].signal(Signal::HUP);
    nodes[0].says("certificates and keys were read again", 1);
    nodes[0].says("revoked", 1);
    engine.says(&format!("perspective {}: another link is made", fleet.places[0].id), 2);
    engine.says(&format!("perspective {}: no link", fleet.places[0].id), 1);
    assert!(
        get(fleet.places[0].metrics, "/metrics")
            .1
            .contains("parallax_node_connections_refused_total{reason=\"revoked\"}")
    );
    assert_eq!(get(fleet.engine_metrics, "/readyz").0, 503, "an engine that cannot reach its primary is not ready");
    assert_eq!(engine.stop(), 0);
}
