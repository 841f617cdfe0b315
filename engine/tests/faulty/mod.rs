//! A deployment whose nodes see the world through a bad network, and what must hold whatever that network does.
//!
//! Each node's wire to the world leads through a forwarder of its own (`parallax_perf::faults`). The wires between
//! engine and nodes are left as they are: what becomes of links is `namespaces.rs`.
//!
//! Invariant: every batch of answers has been looked at for safety before a test sees it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs,
    time::{Duration, Instant},
};

use parallax_engine::bulk::ResultLine;
use parallax_perf::{
    faults::{Forwarded, Forwarder, rules::Rules},
    lab::{
        generate::request_line,
        kinds::{DecidedBy, Kind, Pace, Problem, Verdict},
        world::{Scenario, World},
    },
    netns::Namespace,
};
use parallax_validation::record::Record;
use toml::{Table, Value};

use crate::{
    fleet::{Program, get},
    netns::{Deployment, wait},
    support,
};

/// A question is sent so often, each time after a second.
pub(crate) const DNS_TRANSMISSIONS: i32 = 3;
/// No batch may take longer, whatever is done to it: tasks end after ten seconds, and wait for each other.
const BATCH_MAX: Duration = Duration::from_secs(60);

/// A deployment that runs, and the forwarders on its wires to the world.
pub(crate) struct Faulty {
    wires: Vec<Forwarder>,
    pub(crate) nodes: Vec<Program>,
    engine: Program,
    pub(crate) deployment: Deployment,
    _middle: Namespace,
    /// The first of the laboratory's requests that was not asked.
    next: u64,
    asked: usize,
    batches: usize,
}

impl Faulty {
    /// None, which is told, if this may not be done here and need not.
    pub(crate) fn make(seed: u64) -> Option<Self> {
        Self::make_with(seed, |_| {})
    }

    /// The same with nodes that look by frames, whose TCP is their own.
    pub(crate) fn make_raw(seed: u64) -> Option<Self> {
        let method = |index: usize| if index.is_multiple_of(2) { "xdp" } else { "packet" };
        Self::make_with(seed, |deployment| deployment.go_raw(method))
    }

    fn make_with(seed: u64, prepare: impl Fn(&Deployment)) -> Option<Self> {
        let deployment = Deployment::make(World { slow_share: 0.0, ..World::new(seed, 200_000) })?;
        let middle = Namespace::make(deployment.net.world.name().replace("-world", "-middle")).unwrap();
        let ends = deployment.net.put_between(&middle).unwrap();
        let wire = |ends: &[String; 2]| Forwarder::start(&middle, [&ends[0], &ends[1]]).unwrap();
        let wires = ends.iter().map(wire).collect();
        adjust(&deployment);
        prepare(&deployment);
        let nodes = deployment.start_nodes();
        let engine = deployment.start_engine("journal");
        let faulty = Self { wires, nodes, engine, deployment, _middle: middle, next: 0, asked: 0, batches: 0 };
        faulty.until_linked();
        Some(faulty)
    }

    pub(crate) fn until_linked(&self) {
        let all = 0..self.nodes.len();
        let linked = || all.clone().all(|index| self.deployment.is_linked(index));
        wait("every link stands", Duration::from_secs(60), linked);
    }

    pub(crate) fn engine_says(&mut self, text: &str, times: usize) {
        self.engine.says(text, times);
    }

    /// Plays rules on every wire, with a seed of its own each.
    pub(crate) fn play(&self, rules: &Rules) {
        (0..self.wires.len()).for_each(|index| self.play_at(index, rules));
    }

    /// Plays rules on one node's wire.
    pub(crate) fn play_at(&self, index: usize, rules: &Rules) {
        self.wires[index].set(Rules { seed: rules.seed + index as u64, ..rules.clone() }).unwrap();
        // Until they are in force.
        std::thread::sleep(Duration::from_millis(60));
    }

    /// Has every wire be good again.
    pub(crate) fn heal(&self) {
        self.play(&Rules::default());
    }

    /// Waits until one node's wire is quiet: what a flood left behind has passed.
    pub(crate) fn until_quiet(&self, index: usize) {
        let mut before = None;
        wait("the wire is quiet", BATCH_MAX, || {
            std::thread::sleep(Duration::from_millis(500));
            let now = self.wires[index].forwarded();
            before.replace(now) == Some(now)
        });
    }

    /// What was done on all wires so far.
    pub(crate) fn forwarded(&self) -> Vec<Forwarded> {
        std::thread::sleep(Duration::from_millis(60));
        self.wires.iter().map(Forwarder::forwarded).collect()
    }

    /// A figure of a node's own account.
    pub(crate) fn figure(&self, index: usize, name: &str) -> u64 {
        let metrics = self.deployment.fleet.places[index].metrics;
        let (_, figures) = self.deployment.net.nodes[index].inside(|| get(metrics, "/metrics")).unwrap();
        let of_it = |line: &&str| line.split(['{', ' ']).next().is_some_and(|of| of.ends_with(name));
        let line = figures.lines().find(of_it).unwrap_or_else(|| panic!("{name}: {figures}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    }

    /// So many requests of each of these kinds that were not asked before.
    pub(crate) fn some(&mut self, each: usize, of: impl Fn(Kind) -> bool) -> Vec<Scenario> {
        let wanted: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| is_asked(*kind) && of(*kind)).collect();
        let mut missing: HashMap<Kind, usize> = wanted.iter().map(|kind| (*kind, each)).collect();
        let mut taken = Vec::with_capacity(wanted.len() * each);
        while missing.values().any(|count| *count > 0) {
            assert!(self.next < self.deployment.bench.world.requests, "the laboratory has no more requests");
            let scenario = self.deployment.bench.world.scenario(self.next);
            self.next += 1;
            if let Some(count) = missing.get_mut(&scenario.kind).filter(|count| **count > 0) {
                *count -= 1;
                taken.push(scenario);
            }
        }
        taken
    }

    /// Asks the engine over its API. Every request is answered once; none that must be refused is permitted.
    pub(crate) fn ask(&mut self, what: &str, scenarios: Vec<Scenario>) -> Answers {
        self.batches += 1;
        let (file, out) = (format!("{}.jsonl", self.batches), format!("{}-results.jsonl", self.batches));
        let lines: String = scenarios.iter().map(|scenario| request_line(scenario) + "\n").collect();
        self.deployment.bench.write(&file, lines);
        let to_engine = self.deployment.fleet.bulk_arguments("ra");
        let mut arguments = vec!["bulk", file.as_str(), "--out", out.as_str(), "--json"];
        arguments.extend(to_engine.iter().map(String::as_str));
        let begun = Instant::now();
        self.deployment.run(&arguments).expect(0, &[]);
        let took = begun.elapsed();
        self.asked += scenarios.len();
        let answers = Answers::new(what, scenarios, self.deployment.bench.results(&out));
        eprintln!("{what}: {}, in {:.1} s", answers.told(), took.as_secs_f64());
        assert!(took < BATCH_MAX, "{what}: {took:?}");
        answers
    }

    /// After the fault everything is as it was: one request of each kind.
    pub(crate) fn assert_healed(&mut self, what: &str) {
        let scenarios = self.some(1, |_| true);
        self.ask(&format!("healed after {what}"), scenarios).assert_exact(|_| true);
    }

    /// Records of the requests of some answers, by id. The journal is read while the engine writes it.
    pub(crate) fn records(&self, answers: &Answers) -> Vec<Record> {
        let (records, _) = support::journal(&self.deployment.bench.path("journal"));
        let ids: HashSet<String> = answers.of.iter().map(|(scenario, _)| scenario.id()).collect();
        records.into_iter().filter(|record| ids.contains(record.request.id.as_str())).collect()
    }

    /// Stops everything; every request that was ever asked has one record, from which its verdict follows.
    pub(crate) fn end(mut self) {
        assert_eq!(self.engine.stop(), 0, "{}", self.engine.said());
        for node in &mut self.nodes {
            assert_eq!(node.stop(), 0, "{}", node.said());
        }
        self.deployment.run(&["journal", "verify", "journal"]).expect(0, &[]);
        let (records, _) = support::journal(&self.deployment.bench.path("journal"));
        let ids: BTreeSet<&str> = records.iter().map(|record| record.request.id.as_str()).collect();
        assert_eq!((records.len(), ids.len()), (self.asked, self.asked), "each request has one record");
    }
}

/// Kinds that are asked here: those that a network has a part in, and that cost no waiting without any fault.
fn is_asked(kind: Kind) -> bool {
    kind.pace() == Pace::Quick && kind.outcome().verdict != Verdict::Refused
}

/// Settings of the engine for what is played here.
fn adjust(deployment: &Deployment) {
    let path = deployment.bench.path("engine.toml");
    let mut settings: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let mut set = |table: &str, key: &str, value: i64| {
        let table = settings.entry(table).or_insert_with(|| Value::Table(Table::new())).as_table_mut().unwrap();
        table.insert(key.to_owned(), Value::Integer(value));
    };
    // Also what a connection for a large answer may take, on CPUs that are shared.
    set("lookup", "dns_try_ms", 2000);
    set("lookup", "dns_transmissions", DNS_TRANSMISSIONS.into());
    // Nearly all requests are for one server, and the CPUs are shared with everything else.
    set("limits", "in_flight_per_target_max", 1000);
    // The requests for addresses are all for one: that they fail again and again under a fault is no reason to wait.
    set("limits", "failures_before_cool_down", 1000);
    set("engine", "attempts_in_flight", 100);
    fs::write(&path, settings.to_string()).unwrap();
}

/// What came of a batch.
pub(crate) struct Answers {
    what: String,
    pub(crate) of: Vec<(Scenario, ResultLine)>,
}

fn must_pass(scenario: &Scenario) -> bool {
    scenario.kind.outcome().verdict == Verdict::Pass
}

impl Answers {
    fn new(what: &str, scenarios: Vec<Scenario>, results: Vec<ResultLine>) -> Self {
        assert_eq!(results.len(), scenarios.len(), "{what}: as many answers as requests");
        let mut by_id = HashMap::new();
        for result in results {
            let before = by_id.insert(result.id.clone().unwrap(), result);
            assert!(before.is_none(), "{what}: two answers: {before:?}");
        }
        let mut of = Vec::new();
        for scenario in scenarios {
            let result = by_id.remove(&scenario.id()).unwrap_or_else(|| panic!("{what}: {scenario:?} has no answer"));
            assert!(result.verdict == "pass" || result.verdict == "fail", "{what}: {scenario:?}: {result:?}");
            assert!(must_pass(&scenario) || result.verdict == "fail", "WRONG PASS, {what}: {scenario:?}: {result:?}");
            of.push((scenario, result));
        }
        Self { what: what.to_owned(), of }
    }

    /// Those that passed, and those that had to.
    pub(crate) fn passed(&self) -> (usize, usize) {
        let passed = self.of.iter().filter(|(_, result)| result.verdict == "pass").count();
        (passed, self.of.iter().filter(|(scenario, _)| must_pass(scenario)).count())
    }

    fn told(&self) -> String {
        let (passed, had_to) = self.passed();
        format!("{} requests, {passed} passed of {had_to} that may", self.of.len())
    }

    /// Those that had to pass and did not.
    pub(crate) fn missed(&self) -> impl Iterator<Item = &(Scenario, ResultLine)> {
        self.of.iter().filter(|(scenario, result)| must_pass(scenario) && result.verdict != "pass")
    }

    /// Those of some kinds end as they do without any fault: verdict, problem, and by whom.
    #[track_caller]
    pub(crate) fn assert_exact(&self, of: impl Fn(Kind) -> bool) {
        for (scenario, result) in self.of.iter().filter(|(scenario, _)| of(scenario.kind)) {
            let outcome = scenario.kind.outcome();
            let problem = result.problem.map(|problem| problem.as_str());
            let fits = |expected: Option<Problem>| problem == expected.map(problem_name);
            let verdict = if must_pass(scenario) { "pass" } else { "fail" };
            let by = match outcome.decided_by {
                DecidedBy::Primary => "primary",
                DecidedBy::Quorum => "quorum",
                DecidedBy::Request => "request",
            };
            assert!(
                result.verdict == verdict
                    && result.decided_by == by
                    && (fits(outcome.problem) || scenario.kind.also_problem().is_some_and(|also| fits(Some(also)))),
                "{}: {:?}: {result:?}",
                self.what,
                scenario.kind
            );
        }
    }
}

fn problem_name(problem: Problem) -> &'static str {
    match problem {
        Problem::Unauthorized => "unauthorized",
        Problem::Dns => "dns",
        Problem::Connection => "connection",
        Problem::Tls => "tls",
        Problem::Caa => "caa",
        Problem::Malformed => "malformed",
        Problem::RejectedIdentifier => "rejectedIdentifier",
    }
}
