//! The ways an attempt can take to its verdict.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parallax_engine::bulk::ResultLine;
use parallax_perf::lab::{
    generate::request_line,
    kinds::{Kind, Verdict},
    world::{Perspective, Scenario},
};
use parallax_validation::verdict::PerspectiveState;
use serde_json::Value;
use support::{Bench, journal};

#[test]
fn parallel_fan_out_decides_as_primary_first_does() {
    let bench = Bench::new(3, 3, 600);
    bench.settings_with("parallel.toml", "\"primary-first\"", "\"parallel\"");
    let run = |config: &str, name: &str| {
        let out = format!("{name}.jsonl");
        let arguments = ["bulk", "bulk.jsonl", "--json", "--config", config, "--journal", name, "--out", &out];
        bench.run(&arguments).expect(0, &[]);
        let results = bench.results(&out);
        bench.assert_as_expected(&results);
        let told = |line: ResultLine| ((line.id, line.line), (line.verdict, line.problem, line.decided_by));
        results.into_iter().map(told).collect::<HashMap<_, _>>()
    };
    let (one, other) = (run("parallax.toml", "first"), run("parallel.toml", "parallel"));
    assert_eq!(one.len(), 600);
    for (name, told) in &one {
        assert_eq!(Some(told), other.get(name), "{name:?}");
    }
    // Otherwise both ways would have been the same.
    let unasked = |name: &str| {
        let (records, _) = journal(&bench.path(name));
        let remotes = records.into_iter().flat_map(|record| record.perspectives.into_iter().skip(1));
        remotes.filter(|p| p.state == PerspectiveState::NotAsked).count()
    };
    assert!(unasked("first") > 0);
    assert_eq!(unasked("parallel"), 0);
}

/// A resolver's address behind which all answers of another one come late.
struct Delay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delay {
    fn start(at: SocketAddr, resolver: SocketAddr, by: Duration) -> Self {
        let socket = Arc::new(UdpSocket::bind(at).unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut query = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                let (query, socket) = (query[..length].to_vec(), Arc::clone(&socket));
                std::thread::spawn(move || {
                    std::thread::sleep(by);
                    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                    upstream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                    upstream.send_to(&query, resolver).unwrap();
                    let mut answer = [0; 4096];
                    if let Ok(length) = upstream.recv(&mut answer) {
                        // Who asked may have gone.
                        let _ = socket.send_to(&answer[..length], from);
                    }
                });
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn late_answers_are_recorded_and_change_nothing() {
    const WHOLE: [Kind; 4] = [Kind::CaaNone, Kind::DnsOk, Kind::HttpOk, Kind::CaaIssue];
    let bench = Bench::new(4, 4, 5_000);
    let last = Perspective::ALL[5];
    let resolver = bench.world.resolver(last);
    let slow = SocketAddr::from((Ipv4Addr::new(127, 2, 0, 100), resolver.port()));
    let _delay = Delay::start(slow, resolver, Duration::from_millis(600));
    bench.settings_with("slow.toml", &format!("\"{resolver}\""), &format!("\"{slow}\""));
    // Contradicted only by the one that is late: the alarm of a late contradiction.
    let hijacked: Vec<Scenario> = bench.scenarios().filter(|s| s.kind == Kind::MpHijack1 && s.is_odd(last)).collect();
    let plain = bench.scenarios().filter(|s| WHOLE.contains(&s.kind)).take(12);
    let scenarios: Vec<Scenario> = plain.chain(hijacked.iter().take(2).copied()).collect();
    assert_eq!(scenarios.len(), 14);
    bench.write("late.jsonl", scenarios.iter().map(|s| request_line(s) + "\n").collect::<String>());
    let arguments = ["bulk", "late.jsonl", "--json", "--config", "slow.toml", "--journal", "late", "--out", "late.out"];
    let summary = bench.run(&arguments).expect(0, &[]).json();

    let (records, late) = journal(&bench.path("late"));
    assert_eq!(records.len(), 14);
    let mut awaited = HashSet::new();
    for record in &records {
        let scenario = scenarios.iter().find(|s| s.id() == record.request.id.as_str()).unwrap();
        assert_eq!(scenario.kind.outcome().verdict, Verdict::Pass);
        assert!(record.verdict.permits(), "{}", record.explanation.message);
        let slow = &record.perspectives[5];
        assert_eq!(slow.state, PerspectiveState::NotAwaited, "{}", record.request.id);
        assert_eq!(slow.observation, None);
        let entries: Vec<_> = late.iter().filter(|entry| entry.attempt == record.attempt).collect();
        let entry = entries.iter().find(|e| e.perspective.perspective == slow.perspective).unwrap();
        assert_eq!(entry.request, record.request.id);
        assert!(entry.received >= record.decided);
        assert!(entry.perspective.observation.is_some());
        let contradicts = scenario.kind == Kind::MpHijack1;
        assert_eq!(entry.contradicts_verdict, contradicts, "{entry:?}");
        let state = if contradicts { PerspectiveState::Contradicted } else { PerspectiveState::Confirmed };
        assert_eq!(entry.perspective.state, state, "{entry:?}");
        awaited.insert(record.attempt);
    }
    assert!(late.iter().all(|entry| awaited.contains(&entry.attempt)));
    assert_eq!(summary["late_answers"], late.len());
    assert_eq!(summary["late_contradictions"], 2);
    bench.run(&["journal", "verify", "late"]).expect(0, &[]);
}

#[test]
fn a_retry_uses_nothing_of_what_went_before() {
    let bench = Bench::new(5, 5, 500);
    let scenario = bench.scenario(Kind::HttpOk);
    let (host, token, authorization) = (scenario.host(), scenario.token(), scenario.key_authorization());
    let mut check = vec!["check", &host, "--method", "http-01", "--token", &token, "--journal", "retry"];
    check.extend(["--key-authorization", &authorization, "--account-uri", "https://ca.example/acct/7", "--json"]);
    let asked = |summary: &Value, key: &str| {
        summary[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>()
    };
    let mut before = bench.lab.counters().summary();
    for round in 1..=2 {
        let record = bench.run(&check).expect(0, &[]).json();
        let after = bench.lab.counters().summary();
        for key in ["dns_udp_by_perspective", "http_by_perspective"] {
            for (index, (now, then)) in asked(&after, key).iter().zip(asked(&before, key)).enumerate() {
                assert!(*now > then, "round {round}: perspective {index} was not asked anew: {key}");
            }
        }
        assert_eq!(record["perspectives"].as_array().unwrap().len(), 6);
        before = after;
    }
    let (records, late) = journal(&bench.path("retry"));
    assert_eq!(records.len(), 2);
    assert_ne!(records[0].attempt, records[1].attempt);
    assert_ne!(records[0].request.id, records[1].request.id);
    for record in &records {
        for perspective in &record.perspectives {
            let later = late
                .iter()
                .find(|e| e.attempt == record.attempt && e.perspective.perspective == perspective.perspective);
            let observation =
                perspective.observation.as_ref().or(later.and_then(|e| e.perspective.observation.as_ref()));
            assert!(observation.is_some(), "{}", perspective.perspective);
        }
    }
    bench.run(&["journal", "verify", "retry"]).expect(0, &[]);
}

#[test]
fn a_remote_that_is_too_slow_holds_nobody_back() {
    const PLAIN: [Kind; 2] = [Kind::CaaNone, Kind::CaaIssue];
    let bench = Bench::new(6, 6, 40_000);
    // Nobody reads what comes here.
    let silent = UdpSocket::bind((Ipv4Addr::new(127, 2, 0, 101), 0)).unwrap();
    let resolver = bench.world.resolver(Perspective::ALL[5]);
    let one_at_a_time = format!("\"{}\"\ntasks_in_flight_max = 1", silent.local_addr().unwrap());
    let text = std::fs::read_to_string(bench.path("parallax.toml")).unwrap();
    let text = text
        .replace(&format!("\"{resolver}\""), &one_at_a_time)
        .replace("attempts_in_flight = 400", "attempts_in_flight = 8\nreply_grace_ms = 500")
        .replace("task_deadline_ms = 10000", "task_deadline_ms = 5000");
    bench.write("slow.toml", text);
    let plain = bench.scenarios().filter(|s| PLAIN.contains(&s.kind)).take(400);
    let lines: Vec<String> = plain.map(|s| request_line(&s) + "\n").collect();
    assert_eq!(lines.len(), 400);
    bench.write("many.jsonl", lines.concat());
    let arguments = ["bulk", "many.jsonl", "--json", "--config", "slow.toml", "--journal", "many", "--out", "many.out"];
    let summary = bench.run(&arguments).expect(0, &[]).json();
    assert_eq!((&summary["released"], &summary["results"]["pass"]), (&Value::from(400), &Value::from(400)));
    let slow = summary["perspectives"][5]["tasks"].as_u64().unwrap();
    assert!(slow < 100, "the slow remote was still sent {slow} tasks that nobody waited for");
    let (records, _) = journal(&bench.path("many"));
    assert!(records.iter().all(|record| record.perspectives[5].state == PerspectiveState::NotAwaited));
    bench.run(&["journal", "verify", "many"]).expect(0, &[]);
}
