//! A whole deployment, each program on a network of its own: the same answers by every interface, faults that cost only
//! their own answers, and perspectives that look from where they say.
//!
//! Needs root, for network namespaces; `netns` says what becomes of it without.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod boulder_calls;
mod fleet;
mod https;
mod netns;
mod open_mpic_calls;
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::{SocketAddr, TcpStream, UdpSocket},
    ops::Range,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use netns::{Deployment, wait};
use parallax_engine::bulk::ResultLine;
use parallax_perf::lab::{
    generate::request_line,
    kinds::{Kind, Pace, Verdict},
    world::{Perspective, Scenario, VICTIM, World},
};
use parallax_protocol::{
    transport::{ConnectLimits, Identity, Peer, connect},
    wire::api::{Request, Requests, corroboration_client::CorroborationClient},
};
use parallax_validation::{request::RawRequest, verdict::PerspectiveState};
use prost::Message as _;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How long a perspective that was asked is awaited: `lookup.task_deadline_ms` and `engine.reply_grace_ms`.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long anything that heals may take: a link notices after 10 s that its peer is silent, and then tries again.
const HEALING: Duration = Duration::from_secs(60);

fn is_right(scenario: &Scenario) -> bool {
    scenario.kind.outcome().verdict == Verdict::Pass
}

// ---------------------------------------------------------------- the same by every interface

/// What an interface tells about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    verdict: String,
    problem: Option<String>,
    /// None if the interface does not tell.
    decided_by: Option<String>,
}

impl From<&ResultLine> for Told {
    fn from(line: &ResultLine) -> Self {
        Self {
            verdict: line.verdict.clone(),
            problem: line.problem.map(|problem| problem.to_string()),
            decided_by: Some(line.decided_by.clone()),
        }
    }
}

/// Requests that every interface is given, and what came of them by each.
struct Comparison {
    scenarios: Vec<Scenario>,
    /// Lines of `expected.jsonl`, by request number.
    expected: Vec<Value>,
    told: Vec<(&'static str, BTreeMap<u64, Told>)>,
}

impl Comparison {
    /// Some requests of each kind.
    fn new(deployment: &Deployment) -> Self {
        let mut taken: HashMap<Kind, usize> = HashMap::new();
        let mut scenarios: Vec<Scenario> = Vec::new();
        for scenario in deployment.bench.scenarios() {
            let count = taken.entry(scenario.kind).or_default();
            // The slow ones run beside each other, and each costs seconds all the same.
            let most = if scenario.kind.pace() == Pace::Slow { 1 } else { 3 };
            if *count == most {
                continue;
            }
            *count += 1;
            if scenario.kind == Kind::BadDuplicate && !scenarios.iter().any(|s| s.id() == scenario.id()) {
                // The line that it is a duplicate of.
                scenarios.extend(deployment.bench.scenarios().find(|s| s.id() == scenario.id()));
            }
            scenarios.push(scenario);
        }
        assert_eq!(taken.len(), Kind::ALL.len());
        let text = fs::read_to_string(deployment.bench.path("expected.jsonl")).unwrap();
        let expected = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { scenarios, expected, told: Vec::new() }
    }

    /// Asks by one more interface. `takes` are the kinds of request that it can express, and `ask` carries requests out
    /// and returns what was told, by request number.
    fn by(
        &mut self,
        interface: &'static str,
        takes: impl Fn(Kind) -> bool,
        ask: impl FnOnce(&[Scenario]) -> BTreeMap<u64, Told>,
    ) {
        let scenarios: Vec<Scenario> = self.scenarios.iter().filter(|scenario| takes(scenario.kind)).copied().collect();
        let begun = Instant::now();
        let told = ask(&scenarios);
        eprintln!("{interface}: {} requests in {:.1} s", scenarios.len(), begun.elapsed().as_secs_f64());
        assert_eq!(told.len(), scenarios.len(), "{interface}: as many answers as requests");
        for scenario in &scenarios {
            let e = &self.expected[usize::try_from(scenario.index).unwrap()];
            let t = told.get(&scenario.index).unwrap_or_else(|| panic!("{interface}: {e}: no answer"));
            assert_eq!(t.verdict, e["verdict"], "{interface}: {e}: {t:?}");
            let problem = t.problem.as_deref();
            // Who does not tell by whom it was decided does not tell the problem either.
            assert!(
                t.decided_by.is_none()
                    || problem == e["problem"].as_str()
                    || problem.is_some() && problem == e["also_problem"].as_str(),
                "{interface}: {e}: {t:?}"
            );
            assert!(t.decided_by.as_ref().is_none_or(|by| *by == e["decided_by"]), "{interface}: {e}: {t:?}");
        }
        self.told.push((interface, told));
    }

    /// All interfaces told the same about what they were asked.
    fn agree(&self) {
        let ((first, of_first), others) = self.told.split_first().unwrap();
        for (other, of_other) in others {
            for (index, told) in of_other {
                let theirs = &of_first[index];
                let kind = self.scenarios.iter().find(|s| s.index == *index).unwrap().kind;
                assert_eq!(told.verdict, theirs.verdict, "{kind:?} by {other} and by {first}");
                if kind.also_problem().is_none() && told.decided_by.is_some() {
                    assert_eq!(told.problem, theirs.problem, "{kind:?} by {other} and by {first}");
                }
                if told.decided_by.is_some() {
                    assert_eq!(told.decided_by, theirs.decided_by, "{kind:?} by {other} and by {first}");
                }
            }
        }
    }
}

/// Lines of requests.
fn lines(scenarios: &[Scenario]) -> String {
    scenarios.iter().map(|scenario| request_line(scenario) + "\n").collect()
}

/// Which request each line of results is about.
fn by_number(scenarios: &[Scenario], results: &[ResultLine]) -> BTreeMap<u64, Told> {
    let by_line = |kind| matches!(kind, Kind::BadSyntax | Kind::BadDuplicate);
    let by_id: HashMap<String, u64> =
        scenarios.iter().filter(|s| !by_line(s.kind)).map(|s| (s.id(), s.index)).collect();
    let mut told = BTreeMap::new();
    for result in results {
        let of_line = result.line.and_then(|line| scenarios.get(usize::try_from(line).unwrap() - 1));
        let index = match of_line.filter(|scenario| by_line(scenario.kind)) {
            Some(scenario) => scenario.index,
            None => by_id[result.id.as_ref().unwrap_or_else(|| panic!("{result:?}"))],
        };
        assert!(told.insert(index, Told::from(result)).is_none(), "two results: {result:?}");
    }
    told
}

/// `parallax bulk`, with further arguments.
fn by_bulk(deployment: &Deployment, name: &str, scenarios: &[Scenario], further: &[&str]) -> BTreeMap<u64, Told> {
    let (file, out) = (format!("{name}.jsonl"), format!("{name}-results.jsonl"));
    deployment.bench.write(&file, lines(scenarios));
    let arguments = [&["bulk", file.as_str(), "--out", out.as_str(), "--json"], further].concat();
    deployment.run(&arguments).expect(0, &[]);
    by_number(scenarios, &deployment.bench.results(&out))
}

/// JSON lines over HTTPS, by a client that is not ours.
fn by_rest(deployment: &Deployment, scenarios: &[Scenario]) -> BTreeMap<u64, Told> {
    let body = deployment.bench.write("rest.jsonl", lines(scenarios));
    let files = deployment.fleet.files("ra");
    let engine = deployment.fleet.engine;
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail-with-body", "--max-time", "120", "--noproxy", "*"]);
    command.args(["--header", "content-type: application/jsonl", "--header", "expect:", "--data-binary"]);
    command.arg(format!("@{}", body.display()));
    command.arg("--cacert").arg(files.authorities).arg("--cert").arg(files.certificate).arg("--key").arg(files.key);
    command.args(["--resolve", &format!("engine:{}:{}", engine.port(), engine.ip())]);
    command.arg(format!("https://engine:{}/v1/corroborate-many", engine.port()));
    let output = deployment.net.engine.inside(|| command.output()).unwrap().expect("curl is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{} {text}", String::from_utf8_lossy(&output.stderr));
    let results: Vec<ResultLine> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    by_number(scenarios, &results)
}

/// The first request of a kind, if it can be read.
fn raw_of(scenarios: &[Scenario], kind: Kind) -> Option<RawRequest> {
    let scenario = scenarios.iter().find(|scenario| scenario.kind == kind)?;
    serde_json::from_str(&request_line(scenario)).ok()
}

/// As Open MPIC's callers do: a call for control and one for CAA.
fn by_open_mpic(deployment: &Deployment, scenarios: &[Scenario]) -> BTreeMap<u64, Told> {
    let (ra, next, told) = (deployment.fleet.identity("ra"), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let ask = || {
        while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
            let raw: RawRequest = serde_json::from_str(&request_line(scenario)).unwrap();
            let answers: Vec<(u16, Value)> = open_mpic_calls::calls(&raw)
                .unwrap()
                .iter()
                .map(|call| {
                    let (status, body) = https::rest(deployment.fleet.engine, &ra, "POST", "/mpic", &call.to_string());
                    (status, serde_json::from_str(&body).unwrap())
                })
                .collect();
            let verdict = if answers.iter().any(|(status, _)| *status == 400) {
                "refused"
            } else if answers.iter().all(|(status, body)| *status == 200 && body["is_valid"] == true) {
                "pass"
            } else {
                "fail"
            };
            let one = Told { verdict: verdict.to_owned(), problem: None, decided_by: None };
            told.lock().unwrap().insert(scenario.index, one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| deployment.net.engine.inside(ask).unwrap());
        }
    });
    told.into_inner().unwrap()
}

/// As Boulder's validation authority does, at the nodes themselves.
fn by_boulder(deployment: &Deployment, scenarios: &[Scenario]) -> BTreeMap<u64, Told> {
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let va = deployment.fleet.identity("va");
            let mut channels = Vec::new();
            for index in 0..deployment.fleet.places.len() {
                channels.push(boulder_calls::channel(&va, &deployment.fleet, index).await);
            }
            let (channels, places) = (Arc::new(channels), Arc::new(tokio::sync::Semaphore::new(64)));
            let calls: Vec<_> = scenarios
                .iter()
                .map(|scenario| {
                    let (channels, places, scenario) = (Arc::clone(&channels), Arc::clone(&places), *scenario);
                    tokio::spawn(async move {
                        let _place = places.acquire().await.unwrap();
                        let raw: RawRequest = serde_json::from_str(&request_line(&scenario)).unwrap();
                        let outcome = boulder_calls::validated(&channels, &raw).await;
                        let verdict = if outcome.is_none() { "pass" } else { "fail" };
                        // Of remotes Boulder tells the problem that came first.
                        (scenario.index, Told { verdict: verdict.to_owned(), problem: None, decided_by: None })
                    })
                })
                .collect();
            let mut told = BTreeMap::new();
            for call in calls {
                let (index, one) = call.await.unwrap();
                told.insert(index, one);
            }
            told
        })
    };
    deployment.net.engine.inside(ask).unwrap()
}

/// The whole laboratory again, through frames: nothing above the ring can tell.
#[test]
fn ok_nodes_with_addresses_of_their_own_see_what_nodes_over_the_kernel_see() {
    let Some(deployment) = Deployment::make(World::new(83, 5_000)) else { return };
    let method = |index: usize| if index.is_multiple_of(2) { "xdp" } else { "packet" };
    deployment.go_raw(method);
    let mut nodes = deployment.start_nodes();
    let mut comparison = Comparison::new(&deployment);
    comparison.by(
        "raw",
        |_| true,
        |scenarios| by_bulk(&deployment, "raw", scenarios, &["--config", "engine.toml", "--journal", "by-raw"]),
    );
    for (index, node) in nodes.iter_mut().enumerate() {
        node.says(&format!("raw-{}", method(index)), 1);
        node.stop();
    }
}

/// What failed leaves packets beside its record, of every perspective that answered; what passed leaves none.
#[test]
fn ok_packets_of_what_failed_lie_beside_its_record() {
    let Some(deployment) = Deployment::make(World::new(84, 2_000)) else { return };
    deployment.go_raw(|_| "xdp");
    let bench = &deployment.bench;
    for place in &deployment.fleet.places {
        let path = bench.path(&format!("{}.toml", place.id));
        let mut settings: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        let transport = settings["transport"].as_table_mut().unwrap();
        transport.insert("kept_octets".to_owned(), (8 << 20).into());
        fs::write(&path, settings.to_string()).unwrap();
    }
    let mut settings: toml::Table = fs::read_to_string(bench.path("engine.toml")).unwrap().parse().unwrap();
    let journal = settings.entry("journal").or_insert_with(|| toml::Table::new().into());
    journal.as_table_mut().unwrap().insert("captures_mib".to_owned(), 16.into());
    fs::write(bench.path("engine.toml"), settings.to_string()).unwrap();

    let _nodes = deployment.start_nodes();
    let good = |kind: Kind| kind == Kind::HttpOk;
    let bad = |kind: Kind| kind.outcome().verdict == Verdict::Fail && kind.pace() != Pace::Slow;
    let one = |so: &dyn Fn(Kind) -> bool| bench.scenarios().find(|scenario| so(scenario.kind)).unwrap();
    let scenarios = [one(&good), one(&bad)];
    by_bulk(&deployment, "kept", &scenarios, &["--config", "engine.toml", "--journal", "kept"]);
    let (records, _) = support::journal(&bench.path("kept"));
    for record in records {
        let answered = record.perspectives.iter().filter(|one| one.observation.is_some());
        let mut expected: Vec<String> = match record.permits() {
            true => Vec::new(),
            false => answered.map(|one| format!("{}-{}.pcap", record.attempt, one.perspective)).collect(),
        };
        expected.sort();
        let found = parallax_engine::captures::of(&bench.path("kept"), record.attempt);
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, expected, "{record:?}");
        assert_eq!(expected.is_empty(), record.permits());
        let shown = deployment.run(&["explain", record.request.id.as_str(), "--journal", "kept"]);
        let shown = shown.expect(0, &[]);
        for path in &found {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(shown.out.contains(&format!("packets  kept/captures/{name}")), "{}", shown.out);
            let file = fs::File::open(path).unwrap();
            let output = Command::new("tcpdump").args(["-nn", "-r", "-"]).stdin(file).output().expect("tcpdump");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stdout).lines().count() >= 2, "a question and more");
        }
    }
    deployment.run(&["journal", "verify", "kept"]).expect(0, &[]);
}

#[test]
fn ok_a_whole_deployment_answers_a_bulk_file_the_same_way_by_each_interface() {
    let Some(deployment) = Deployment::make(World::new(80, 5_000)) else { return };
    let mut nodes = deployment.start_nodes();
    let mut comparison = Comparison::new(&deployment);
    let comparison_scenarios = comparison.scenarios.clone();

    // Links, from a run that decides by itself.
    comparison.by(
        "links",
        |_| true,
        |scenarios| by_bulk(&deployment, "links", scenarios, &["--config", "engine.toml", "--journal", "by-links"]),
    );

    let mut engine = deployment.start_engine("by-api");
    let to_engine = deployment.fleet.bulk_arguments("ra");
    let to_engine: Vec<&str> = to_engine.iter().map(String::as_str).collect();
    comparison.by("grpc", |_| true, |scenarios| by_bulk(&deployment, "grpc", scenarios, &to_engine));
    // A file's lines are requests of their own here: that one has an id which another had is no fault.
    comparison.by("rest", |kind| kind != Kind::BadDuplicate, |scenarios| by_rest(&deployment, scenarios));
    // Neither knows accounts in CAA of Open MPIC's callers, and both count control and CAA apart (req A14).
    let apart = |kind: Kind| kind.slug().contains("mp-mixed");
    let of_account = |kind: Kind| kind.slug().contains("account") || kind.slug().contains("validation");
    let raw = |kind: Kind| raw_of(&comparison_scenarios, kind);
    comparison.by(
        "mpic",
        |kind| {
            kind != Kind::BadDuplicate
                && !apart(kind)
                && !of_account(kind)
                && raw(kind).is_some_and(|raw| open_mpic_calls::calls(&raw).is_some())
        },
        |scenarios| by_open_mpic(&deployment, scenarios),
    );
    comparison.by(
        "boulder",
        |kind| {
            kind.outcome().verdict != Verdict::Refused
                && !apart(kind)
                && raw(kind).is_some_and(|raw| boulder_calls::has_words_for(&raw))
        },
        |scenarios| by_boulder(&deployment, scenarios),
    );
    comparison.agree();

    let counted = deployment.bench.lab.counters().summary();
    assert!(counted["http_of_others"].as_u64().unwrap() > 0, "IPv6 was used: {counted}");
    assert_eq!(engine.stop(), 0, "{}", engine.said());
    for node in &mut nodes {
        assert_eq!(node.stop(), 0, "{}", node.said());
    }
    for journal in ["by-links", "by-api"] {
        deployment.run(&["journal", "verify", journal]).expect(0, &[]);
    }
}

// ---------------------------------------------------------------- faults

/// Requests at an even pace over the engine's API, on one connection, until they are to end.
struct Stream {
    shared: Arc<StreamShared>,
    thread: Option<JoinHandle<()>>,
}

struct StreamShared {
    scenarios: Vec<Scenario>,
    asked: AtomicUsize,
    stop: AtomicBool,
    /// Set to have the next right request demand that every remote confirms.
    demands_all: AtomicBool,
    /// Those that did.
    demanding: Mutex<Vec<usize>>,
    answers: Mutex<HashMap<String, ResultLine>>,
}

impl Stream {
    const PACE: Duration = Duration::from_millis(40);

    fn start(deployment: &Deployment) -> Self {
        let right = |scenario: &Scenario| matches!(scenario.kind, Kind::HttpOk | Kind::DnsOk);
        let wrong = |scenario: &Scenario| {
            use Kind::{DnsWrong, Http404Echo, Mp4033, MpCaaDiffers2, MpHijack2, MpHijackPrimary, MpLag3, MpMixed2};
            matches!(
                scenario.kind,
                DnsWrong | Http404Echo | Mp4033 | MpCaaDiffers2 | MpHijack2 | MpHijackPrimary | MpLag3 | MpMixed2
            )
        };
        let mut rights = deployment.bench.scenarios().filter(right);
        let mut wrongs = deployment.bench.scenarios().filter(wrong);
        let mut scenarios = Vec::new();
        while let (Some(a), Some(b), Some(wrong)) = (rights.next(), rights.next(), wrongs.next()) {
            scenarios.extend([a, wrong, b]);
        }
        let shared = Arc::new(StreamShared {
            scenarios,
            asked: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            demands_all: AtomicBool::new(false),
            demanding: Mutex::default(),
            answers: Mutex::default(),
        });
        let (identity, peer) = (deployment.fleet.identity("ra"), deployment.fleet.engine_peer());
        let for_thread = Arc::clone(&shared);
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(for_thread.drive(&identity, &peer));
        };
        let thread = deployment.net.engine.inside(|| std::thread::spawn(body)).unwrap();
        Self { shared, thread: Some(thread) }
    }

    fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Acquire)
    }

    fn answer(&self, index: usize) -> Option<ResultLine> {
        self.shared.answers.lock().unwrap().get(&self.shared.scenarios[index].id()).cloned()
    }

    fn wait(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
        wait(what, limit, || {
            assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "the stream has ended: {what}");
            holds()
        });
    }

    /// So many requests from now on.
    fn next(&self, count: usize) -> Range<usize> {
        let range = self.asked()..self.asked() + count;
        self.wait("requests are asked", Duration::from_secs(60), || self.asked() >= range.end);
        range
    }

    /// Waits for these.
    fn answered(&self, indexes: impl IntoIterator<Item = usize>) {
        for index in indexes.into_iter().filter(|index| self.answer(*index).is_none()) {
            self.wait("requests are answered", PATIENCE * 3, || self.answer(index).is_some());
        }
    }

    /// What is right passes, whoever is away. A refusal waits for who is away; it is looked at in the end.
    #[track_caller]
    fn assert_right_ones_pass(&self, range: Range<usize>, when: &str) {
        let demanding = self.shared.demanding.lock().unwrap().clone();
        let right = |index: &usize| is_right(&self.shared.scenarios[*index]) && !demanding.contains(index);
        let right: Vec<usize> = range.filter(right).collect();
        self.answered(right.iter().copied());
        for index in right {
            let answer = self.answer(index).unwrap();
            assert_eq!(answer.verdict, "pass", "{when}: {answer:?}");
            assert!(["4/5", "5/5"].contains(&answer.quorum.as_deref().unwrap()), "{when}: {answer:?}");
        }
    }

    /// Every link stands, and a request for which all have to confirm passes.
    fn until_healed(&self, deployment: &Deployment, what: &str) {
        let all = 0..deployment.fleet.places.len();
        self.wait(&format!("links stand after: {what}"), HEALING, || {
            all.clone().all(|index| deployment.is_linked(index))
        });
        let demanding = || self.shared.demanding.lock().unwrap().clone();
        let mut known = demanding().len();
        self.shared.demands_all.store(true, Ordering::Release);
        self.wait(&format!("five of five after: {what}"), HEALING, || {
            let Some(answer) = demanding().get(known).and_then(|index| self.answer(*index)) else { return false };
            if answer.verdict == "pass" {
                assert_eq!(answer.quorum.as_deref(), Some("5/5"), "{answer:?}");
                return true;
            }
            // It came too early.
            known += 1;
            self.shared.demands_all.store(true, Ordering::Release);
            false
        });
    }

    /// Asks no more; all that was asked is answered. How much that was.
    fn end(&mut self) -> usize {
        self.answered(0..self.asked());
        self.shared.stop.store(true, Ordering::Release);
        let thread = self.thread.take().unwrap();
        wait("the stream ends", PATIENCE * 3, || thread.is_finished());
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
        self.asked()
    }
}

impl StreamShared {
    async fn drive(&self, identity: &Arc<Identity>, peer: &Peer) {
        let channel = connect(identity, peer, &ConnectLimits::default()).await.unwrap();
        let (out, requests) = mpsc::channel(16);
        let stream = CorroborationClient::new(channel).corroborate_many(ReceiverStream::new(requests)).await;
        let mut answers = stream.unwrap().into_inner();
        let mut out = Some(out);
        let mut tick = tokio::time::interval(Stream::PACE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick(), if out.is_some() => {
                    if self.stop.load(Ordering::Acquire) {
                        out = None;
                        continue;
                    }
                    let asked = self.asked.load(Ordering::Relaxed);
                    let scenario = self.scenarios.get(asked).expect("the laboratory has more requests");
                    let mut raw: RawRequest = serde_json::from_str(&request_line(scenario)).unwrap();
                    if is_right(scenario) && self.demands_all.swap(false, Ordering::AcqRel) {
                        raw.restrictions.non_corroborations_max = Some(0);
                        self.demanding.lock().unwrap().push(asked);
                    }
                    let requests = Requests { request: vec![Request::from(raw).encode_to_vec()] };
                    out.as_ref().unwrap().try_send(requests).expect("the engine takes requests");
                    self.asked.store(asked + 1, Ordering::Release);
                }
                received = answers.message() => match received.unwrap() {
                    Some(received) => for answer in received.answer {
                        let line: ResultLine = serde_json::from_slice(&answer.result).unwrap();
                        let id = line.id.clone().unwrap();
                        let before = self.answers.lock().unwrap().insert(id, line);
                        assert!(before.is_none(), "two answers: {before:?}");
                    },
                    None => {
                        assert!(out.is_none(), "the engine ended the stream");
                        return;
                    }
                },
            }
        }
    }
}

#[test]
fn a12_kills_pauses_and_partitions_cost_only_their_own_answers() {
    let Some(deployment) = Deployment::make(World { slow_share: 0.0, ..World::new(81, 40_000) }) else { return };
    let mut nodes = deployment.start_nodes();
    let mut engine = deployment.start_engine("journal");
    let mut stream = Stream::start(&deployment);
    stream.until_healed(&deployment, "the start");
    let begun = Instant::now();
    let told = |what: &str| eprintln!("{:6.1} s: {what}", begun.elapsed().as_secs_f64());

    // A remote is killed and started again.
    nodes[1].kill();
    stream.wait("the engine notices a kill", HEALING, || !deployment.is_linked(1));
    let range = stream.next(45);
    stream.assert_right_ones_pass(range, "a remote is killed");
    nodes[1] = deployment.start_node(1);
    stream.until_healed(&deployment, "a kill");
    told("healed after a kill");

    // One hangs for a while.
    nodes[2].signal(Signal::STOP);
    let range = stream.next(75);
    stream.assert_right_ones_pass(range, "a remote hangs");
    nodes[2].signal(Signal::CONT);
    stream.until_healed(&deployment, "a pause");
    told("healed after a pause");

    // The wire of one is pulled out for a while.
    deployment.net.plug(3, false);
    let range = stream.next(75);
    stream.assert_right_ones_pass(range, "a remote's wire is out");
    deployment.net.plug(3, true);
    stream.until_healed(&deployment, "a wire that was out");
    told("healed after a wire that was out");

    // What goes between one and the engine is lost, and nobody says so: the link finds out by itself.
    deployment.net.drop_silently(4, true);
    let range = stream.next(45);
    stream.assert_right_ones_pass(range, "a remote is cut off and nobody says so");
    stream.wait("the link finds out that its peer is silent", HEALING, || !deployment.is_linked(4));
    told("a silent partition was noticed");
    let range = stream.next(45);
    stream.assert_right_ones_pass(range, "a remote was found to be cut off");
    deployment.net.drop_silently(4, false);
    stream.until_healed(&deployment, "a silent partition");
    told("healed after a silent partition");

    // While the primary hangs nothing passes; what was asked then may pass once it goes on. When it is killed, what was
    // asked shortly before may be lost with it.
    let before = stream.asked();
    stream.answered(0..before);
    nodes[0].signal(Signal::STOP);
    stream.next(75);
    nodes[0].signal(Signal::CONT);
    stream.until_healed(&deployment, "the primary's pause");
    told("healed after the primary's pause");
    nodes[0].kill();
    stream.wait("the engine notices that the primary is gone", HEALING, || !deployment.is_ready());
    let range = stream.next(45);
    stream.answered(range.clone());
    for index in range {
        let answer = stream.answer(index).unwrap();
        assert_eq!((answer.verdict.as_str(), answer.decided_by.as_str()), ("fail", "primary"), "{answer:?}");
    }
    nodes[0] = deployment.start_node(0);
    stream.wait("the engine is ready again", HEALING, || deployment.is_ready());
    let after = stream.asked();
    stream.until_healed(&deployment, "the primary's kill");
    let range = stream.next(45);
    stream.assert_right_ones_pass(range, "everything is as before");
    told("healed after the primary's kill");

    let asked = stream.end();
    let of_primary = before..after;
    // Those asked while something broke or healed too.
    stream.assert_right_ones_pass(0..of_primary.start, "before the primary's kill");
    stream.assert_right_ones_pass(of_primary.end..asked, "after the primary's kill");
    let wrong_passes: Vec<ResultLine> = (0..asked)
        .filter(|&index| !is_right(&stream.shared.scenarios[index]))
        .map(|index| stream.answer(index).unwrap())
        .filter(|answer| answer.verdict != "fail")
        .collect();
    assert!(wrong_passes.is_empty(), "{wrong_passes:?}");
    assert_eq!(stream.shared.answers.lock().unwrap().len(), asked, "one answer to each, and no others");

    assert_eq!(engine.stop(), 0, "{}", engine.said());
    deployment.run(&["journal", "verify", "journal"]).expect(0, &[]);
    let (records, _) = support::journal(&deployment.bench.path("journal"));
    assert_eq!(records.len(), asked, "every answer has one record");
    let records: HashMap<String, _> = records.iter().map(|record| (record.request.id.to_string(), record)).collect();
    let mut longest = Duration::ZERO;
    for index in 0..asked {
        let (answer, id) = (stream.answer(index).unwrap(), stream.shared.scenarios[index].id());
        let record = records.get(&id).unwrap_or_else(|| panic!("{id} has no record"));
        assert_eq!(record.permits(), answer.verdict == "pass", "{id}");
        if record.permits() && !of_primary.contains(&index) {
            longest = longest.max(record.decided.duration_since(record.started).try_into().unwrap());
        }
    }
    told(&format!("{asked} requests; the longest way to a permission was {longest:?}"));
    assert!(longest < PATIENCE / 2, "{longest:?} for a permission: somebody who was away was awaited");
}

// ---------------------------------------------------------------- where perspectives look from

#[test]
fn a6_a_perspective_looks_from_its_own_network_and_from_nowhere_else() {
    let Some(deployment) = Deployment::make(World { slow_share: 0.0, ..World::new(82, 5_000) }) else { return };
    let (net, bench) = (&deployment.net, &deployment.bench);
    let frames = || -> Vec<u64> { (0..6).map(|index| net.received(index)).collect() };
    let counts = |name: &str| -> Vec<u64> {
        let summary = bench.lab.counters().summary();
        summary[name].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect()
    };

    // There is no way out of any of the namespaces.
    for (index, node) in net.nodes.iter().enumerate() {
        let others_source = Perspective::ALL[(index + 1) % 6].source();
        let other_node = deployment.fleet.places[(index + 1) % 6].listen;
        node.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let outside = socket.connect("192.0.2.1:53").unwrap_err();
            assert_eq!(outside.kind(), io::ErrorKind::NetworkUnreachable);
            let taken = UdpSocket::bind((others_source, 0)).unwrap_err();
            assert_eq!(taken.kind(), io::ErrorKind::AddrNotAvailable, "another perspective's address");
            let reached = TcpStream::connect_timeout(&other_node, Duration::from_millis(200));
            assert_eq!(reached.unwrap_err().kind(), io::ErrorKind::TimedOut, "another node");
        })
        .unwrap();
    }
    net.engine
        .inside(|| {
            let address = SocketAddr::from((VICTIM, bench.world.http_port));
            let seen = TcpStream::connect_timeout(&address, Duration::from_millis(200)).unwrap_err();
            assert_eq!(seen.kind(), io::ErrorKind::ConnectionRefused, "the engine sees its own loopback device");
        })
        .unwrap();
    assert!(counts("dns_udp_by_perspective").iter().all(|count| *count == 0));

    // Each sees what is shown to it.
    let mut nodes = deployment.start_nodes();
    let kinds = [Kind::MpHijack2, Kind::Mp4033, Kind::MpLag3, Kind::MpAlpn2, Kind::MpWeb2, Kind::MpCaaDiffers2];
    let told_apart: Vec<Scenario> = bench.scenarios().filter(|scenario| kinds.contains(&scenario.kind)).collect();
    bench.write("apart.jsonl", lines(&told_apart));
    let frames_before = frames();
    let bulk = |file: &str, journal: &str, out: &str| {
        let arguments = ["bulk", file, "--config", "engine.toml", "--journal", journal, "--out", out, "--json"];
        deployment.run(&arguments).expect(0, &[]);
    };
    bulk("apart.jsonl", "apart", "apart-results.jsonl");
    let by_id: HashMap<String, &Scenario> = told_apart.iter().map(|scenario| (scenario.id(), scenario)).collect();
    let (records, _) = support::journal(&bench.path("apart"));
    assert_eq!(records.len(), told_apart.len());
    let mut odd_ones = [0; 6];
    for record in &records {
        let scenario = by_id[record.request.id.as_str()];
        for part in &record.perspectives {
            let place = deployment.fleet.places.iter().position(|place| place.id == part.perspective.as_str()).unwrap();
            let is_odd = scenario.is_odd(Perspective::ALL[place]);
            odd_ones[place] += usize::from(is_odd);
            assert_eq!(part.state == PerspectiveState::Confirmed, !is_odd, "{:?}: {part:?}", scenario.kind);
        }
    }
    assert!(odd_ones[1..].iter().all(|count| *count > 0), "every remote was told apart: {odd_ones:?}");

    // All of it came by its own wire, which is the only way to its resolver, and from its own address.
    let (dns, http) = (counts("dns_udp_by_perspective"), counts("http_by_perspective"));
    for (index, (before, after)) in frames_before.iter().zip(frames()).enumerate() {
        assert!(dns[index] > 0 && http[index] > 0, "{dns:?} {http:?}");
        // A datagram is a frame, and a connection for a request is four at the least.
        assert!(after - before >= dns[index] + 4 * http[index], "{before} {after} {} {}", dns[index], http[index]);
    }
    assert_eq!(bench.lab.counters().summary()["http_of_others"], 0, "nobody else asked");

    // With its wire cut a perspective sees nothing, though its link stands, and nothing of it comes another way.
    let right: Vec<Scenario> = bench.scenarios().filter(|scenario| scenario.kind == Kind::HttpOk).take(60).collect();
    bench.write("right.jsonl", lines(&right));
    net.cut_off_from_world(3);
    bulk("right.jsonl", "cut", "right-results.jsonl");
    let (dns_after, http_after) = (counts("dns_udp_by_perspective"), counts("http_by_perspective"));
    for index in 0..6 {
        assert_eq!(dns_after[index] > dns[index], index != 3, "{dns:?} {dns_after:?}");
        assert_eq!(http_after[index] > http[index], index != 3, "{http:?} {http_after:?}");
    }
    for line in bench.results("right-results.jsonl") {
        assert_eq!((line.verdict.as_str(), line.quorum.as_deref()), ("pass", Some("4/5")), "{line:?}");
    }
    assert_eq!(bench.lab.counters().summary()["http_of_others"], 0);
    for node in &mut nodes {
        assert_eq!(node.stop(), 0, "{}", node.said());
    }
    for journal in ["apart", "cut"] {
        deployment.run(&["journal", "verify", journal]).expect(0, &[]);
    }
}
