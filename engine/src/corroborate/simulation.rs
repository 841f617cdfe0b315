//! Whole runs of the engine on a virtual clock, each from one seed: the dispatcher, the collectors and the decider that
//! ship, one step at a time in an order that the seed draws, with perspectives that lie, are silent or slow, answer
//! twice, replay, mix up their wires, or lose what they were doing; with crashes, full disks and clocks that jump.
//!
//! What must hold is checked against the traffic itself, by a count of its own that shares nothing with the engine's.
//!
//! `SIMULATION_SEED=n` plays one seed, `SIMULATION_SEEDS=n` that many from it on; see `scripts/simulate`.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, unbounded};
use jiff::{SignedDuration, Timestamp};
use parallax_node::Full;
use parallax_protocol::{AttemptId, Report, Task};
use parallax_validation::{
    base::{
        octets::Octets,
        perspective::{Coordinates, Perspective, PerspectiveId, ResolverSite, Rir, Role},
    },
    check::caa::authorize::CaaPolicy,
    observation::{DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecMode, Observation, RecordSet, RecordType},
    plan::PlanLimits,
    record::{Conduct, FORM_VERSION, LateEntry, Mode, Record, RejectedEntry, Restart, Rules, Setup},
    request::{CheckRequest, RawRequest, RequestRules},
    verdict::{PerspectiveState, Refusal, Verdict, draw::Draw},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    Clock, ENTRY_LATE, ENTRY_RECORD, ENTRY_REJECTED, ENTRY_TRIAL, Failure, Ledger, Released, Way,
    attempt::{Confirmed, Submission, ToDecider},
    collector::{Collector, RejectedLimit},
    decider::Decider,
    dispatcher::{Channels, Dispatcher, Shared, Turn},
    link::Link,
};
use crate::{
    admission::Limits,
    config::{EngineSection, FanOut, POLICY},
    journal::JournalError,
    log::{Event, Log},
};

/// Seeds that a plain test run plays.
const SEEDS: u64 = 300;
/// Steps after which a run hangs.
const STEPS_MAX: u64 = 200_000;

struct VirtualClock {
    base: Instant,
    utc: Timestamp,
    passed_us: AtomicU64,
    /// By how much UTC was moved.
    moved_ms: AtomicI64,
}

impl VirtualClock {
    fn forward(&self, us: u64) {
        self.passed_us.fetch_add(us, Ordering::Relaxed);
    }

    fn us(&self) -> u64 {
        self.passed_us.load(Ordering::Relaxed)
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::from_micros(self.us() as i64);
        self.utc + passed + SignedDuration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.us())
    }
}

#[derive(Default)]
struct Memory {
    committed: Vec<(u8, Vec<u8>)>,
    waiting: Vec<(u8, Vec<u8>)>,
    /// Commits that still succeed.
    commits_left: Option<u64>,
    broken: bool,
}

#[derive(Clone, Default)]
struct MemoryLedger(Arc<Mutex<Memory>>);

impl MemoryLedger {
    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().expect("one thread")
    }
}

impl Ledger for MemoryLedger {
    fn append(&mut self, kind: u8, payload: &[u8]) -> Result<(), JournalError> {
        let mut memory = self.memory();
        assert!(!memory.broken, "nothing is written after a failed commit");
        memory.waiting.push((kind, payload.to_vec()));
        Ok(())
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let mut memory = self.memory();
        if memory.commits_left == Some(0) {
            memory.broken = true;
            return Err(JournalError::Locked { directory: "full".into() });
        }
        memory.commits_left = memory.commits_left.map(|left| left - 1);
        let waiting = std::mem::take(&mut memory.waiting);
        memory.committed.extend(waiting);
        Ok(())
    }

    fn buffered(&self) -> usize {
        self.memory().waiting.len()
    }
}

/// A way that puts tasks where the simulation finds them.
struct Played {
    inbox: Arc<Mutex<VecDeque<Task>>>,
    full: Arc<AtomicBool>,
}

impl Way for Played {
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Full(batch));
        }
        self.inbox.lock().expect("one thread").extend(batch);
        Ok(())
    }

    fn has_ended(&self) -> bool {
        false
    }
}

/// False reports that were told about, those that were suppressed before each included.
#[derive(Default)]
struct Heard(AtomicU64);

impl Log for Heard {
    fn tell(&self, event: &Event<'_>) {
        if let Event::ReportRejected { suppressed, .. } = event {
            self.0.fetch_add(1 + suppressed, Ordering::Relaxed);
        }
    }
}

/// What a perspective sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Permits,
    Forbids,
    Fails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Character {
    Honest,
    Slow,
    Silent,
    Liar,
    Twice,
    Replays,
    WrongNonce,
    WrongName,
    WrongRegion,
    WrongSetup,
    WrongWire,
    Forgets,
}

impl Character {
    fn draw(random: &mut StdRng) -> Self {
        match random.random_range(0..40) {
            0 | 1 => Self::Slow,
            2 | 3 => Self::Silent,
            4 | 5 => Self::Liar,
            6 | 7 => Self::Twice,
            8 => Self::Replays,
            9 => Self::WrongNonce,
            10 => Self::WrongName,
            11 => Self::WrongRegion,
            12 => Self::WrongSetup,
            13 => Self::WrongWire,
            14 => Self::Forgets,
            _ => Self::Honest,
        }
    }
}

/// One question, as a perspective got it.
struct Said {
    header: parallax_protocol::Header,
}

const SITES: [(&str, Rir, f64, f64); 9] = [
    ("p", Rir::RipeNcc, 50.1, 8.7),
    ("iad", Rir::Arin, 39.0, -77.5),
    ("sin", Rir::Apnic, 1.35, 103.8),
    ("gru", Rir::Lacnic, -23.5, -46.6),
    ("jnb", Rir::Afrinic, -26.2, 28.0),
    ("waw", Rir::RipeNcc, 52.2, 21.0),
    ("syd", Rir::Apnic, -33.9, 151.2),
    ("sjc", Rir::Arin, 37.4, -121.9),
    // Too near to sjc to be asked with it.
    ("sba", Rir::Arin, 34.4, -119.7),
];

fn perspective(place: usize, role: Role) -> Perspective {
    let (id, rir, latitude, longitude) = SITES[place];
    let coordinates = Coordinates::new(latitude, longitude).expect("on Earth");
    let id = if role == Role::Trial { format!("{id}-trial") } else { id.to_owned() };
    Perspective {
        id: id.parse().expect("an id"),
        role,
        rir,
        coordinates,
        as_number: 64_500 + place as u32,
        provider: "example".to_owned(),
        resolver: ResolverSite { name: format!("192.0.2.{place}"), rir, coordinates },
    }
}

fn observation(name: &str, sight: Sight, mark: u64) -> Observation {
    let issue = |value: &str| {
        let mut rdata = vec![0, 5];
        rdata.extend_from_slice(b"issue");
        rdata.extend_from_slice(value.as_bytes());
        let set = RecordSet { owner: name.to_owned(), ttl: 60, aliases: Vec::new(), rdata: vec![Octets(rdata)] };
        DnsOutcome::Answer(set)
    };
    let outcome = match sight {
        Sight::Permits => issue("ca.example"),
        Sight::Forbids => issue(";"),
        Sight::Fails => DnsOutcome::Failed(DnsFailure::Timeout),
    };
    Observation {
        started: Timestamp::UNIX_EPOCH,
        elapsed_us: mark,
        control: None,
        derivation: Vec::new(),
        caa: vec![DnsLookup {
            name: name.to_owned(),
            rtype: RecordType::Caa,
            resolver: "192.0.2.53:53".parse().expect("an address"),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome,
        }],
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis: None,
        // Nobody asked for one.
        survey: Some(Box::default()),
    }
}

/// The engine's parts, and the ends of their channels that the simulation holds.
struct Parts {
    dispatcher: Dispatcher,
    collectors: Vec<Collector>,
    decider: Decider,
    requests: Option<Sender<Submission>>,
    ready: Receiver<ToDecider>,
    /// What the collectors say to the dispatcher goes through here, to be given target addresses.
    confirmed: (Receiver<Confirmed>, Sender<Confirmed>),
    released: Receiver<Vec<Released>>,
    shared: Shared,
}

struct World {
    seed: u64,
    random: StdRng,
    clock: Arc<VirtualClock>,
    ledger: MemoryLedger,
    heard: Arc<Heard>,
    rules: Arc<Rules>,
    settings: EngineSection,
    limits: Limits,
    inboxes: Vec<Arc<Mutex<VecDeque<Task>>>>,
    full: Vec<Arc<AtomicBool>>,
    characters: Vec<Character>,
    requests: Vec<CheckRequest>,
    truths: HashMap<String, Sight>,
    hijacked: HashMap<usize, Sight>,
    /// Reports on their way: when they arrive, by whose wire.
    coming: BTreeMap<(u64, u64), (usize, Report)>,
    sent: Vec<Report>,
    said: HashMap<(AttemptId, usize), Said>,
    /// The first report about each question by its wire: none if it was not the answer, else its mark and what it says.
    first: HashMap<(AttemptId, usize), Option<(u64, Sight)>>,
    /// Attempts of this life that somebody was asked in, with their names.
    begun: HashMap<AttemptId, String>,
    mark: u64,
    /// Reports handed to a collector that are not answers.
    false_reports: u64,
    released: HashMap<String, Record>,
    jumped: bool,
    /// The engine ended because the row in force demands more remotes than there are.
    unmet: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let r = &mut random;
        let pool = r.random_bool(0.3);
        let remotes = if pool { 8 } else { r.random_range(4..=7) };
        let trials = if r.random_bool(0.2) { vec![perspective(8, Role::Trial)] } else { Vec::new() };
        let conduct = Conduct {
            mode: if r.random_bool(0.1) { Mode::ReportOnly } else { Mode::Enforcing },
            draw: pool.then(|| Draw { remotes: r.random_range(4..=6), diversity: Default::default() }),
            restarts_max: r.random_range(0..=2),
            trials,
        };
        let perspectives = (0..=remotes).map(|i| perspective(i, if i == 0 { Role::Primary } else { Role::Remote }));
        let setup = Setup {
            form: FORM_VERSION,
            software: "simulation".to_owned(),
            policy: POLICY.to_owned(),
            caa: CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() },
            perspectives: perspectives.collect(),
            limits: PlanLimits { task_deadline_ms: 10_000, ..PlanLimits::default() },
            public_suffixes: None,
            conduct,
        };
        let rules = Arc::new(setup.rules().expect("good rules"));
        let utc = match r.random_range(0..4) {
            // Some attempts span the day from which five remotes are demanded.
            0 => "2026-12-14T23:59:58Z",
            1 => "2026-12-15T00:00:00Z",
            _ => "2026-11-25T12:00:00Z",
        };
        let settings = EngineSection {
            attempts_in_flight: r.random_range(1..=12),
            fan_out: [FanOut::Parallel, FanOut::PrimaryFirst, FanOut::Adaptive][r.random_range(0..3)],
            await_all_on_refusal: r.random_bool(0.7),
            await_all_on_permission: r.random_bool(0.3),
            reply_grace_ms: 2_000,
            restart_cool_down_ms: r.random_range(0..20_000),
            ..EngineSection::default()
        };
        let limits = Limits {
            waiting_max: r.random_range(1..=16),
            waiting_per_account_max: r.random_range(1..=16),
            in_flight_per_name_max: NonZeroUsize::MIN,
            in_flight_per_target_max: NonZeroUsize::new(r.random_range(1..=3)).expect("not zero"),
            failures_before_cool_down: NonZeroU32::MIN,
            cool_down_ms: r.random_range(0..10_000),
            ..Limits::default()
        };
        let count = rules.setup().perspectives.len() + rules.setup().conduct.trials.len();
        let characters = (0..count).map(|_| Character::draw(r)).collect();
        let requests: Vec<CheckRequest> = (0..r.random_range(1..=8)).map(|n| request(n, utc)).collect();
        let truths = requests.iter().map(|request| (request.identifier.to_string(), sight(r))).collect();
        let mut hijacked = HashMap::new();
        for place in 0..count {
            if r.random_bool(0.08) {
                hijacked.insert(place, sight(r));
            }
        }
        let ledger = MemoryLedger::default();
        if r.random_bool(0.05) {
            ledger.memory().commits_left = Some(r.random_range(0..6));
        }
        Self {
            seed,
            clock: Arc::new(VirtualClock {
                base: Instant::now(),
                utc: utc.parse().expect("an instant"),
                passed_us: AtomicU64::new(0),
                moved_ms: AtomicI64::new(0),
            }),
            ledger,
            heard: Arc::default(),
            rules,
            settings,
            limits,
            inboxes: (0..count).map(|_| Arc::default()).collect(),
            full: (0..count).map(|_| Arc::default()).collect(),
            characters,
            requests,
            truths,
            hijacked,
            coming: BTreeMap::new(),
            sent: Vec::new(),
            said: HashMap::new(),
            first: HashMap::new(),
            begun: HashMap::new(),
            mark: 0,
            false_reports: 0,
            released: HashMap::new(),
            jumped: false,
            unmet: false,
            random,
        }
    }

    /// The engine, begun, with what the ledger says has no verdict yet.
    fn begin(&mut self) -> Parts {
        let shared = Shared {
            rules: Arc::clone(&self.rules),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            log: Arc::clone(&self.heard) as Arc<dyn Log>,
            stats: Arc::default(),
            failure: Arc::default(),
            stop: Arc::default(),
        };
        let (ready_in, ready) = unbounded();
        let (fan_in, confirmed_out) = unbounded();
        let (confirmed_in, fan_out) = unbounded();
        let (settled_in, settled) = unbounded();
        let (released_in, released) = unbounded();
        let (requests_in, requests_out) = unbounded();
        let setup = self.rules.setup();
        let (mut links, mut collectors) = (Vec::new(), Vec::new());
        for (index, perspective) in setup.perspectives.iter().chain(&setup.conduct.trials).enumerate() {
            let (expect_in, expect) = unbounded();
            let way = Played { inbox: Arc::clone(&self.inboxes[index]), full: Arc::clone(&self.full[index]) };
            links.push(Link {
                way: Box::new(way),
                expect: expect_in,
                pending: VecDeque::new(),
                perspective: perspective.id.clone(),
            });
            collectors.push(Collector {
                index,
                perspective: perspective.id.clone(),
                rir: perspective.rir,
                rules: Arc::clone(&self.rules),
                expect,
                expected: HashMap::new(),
                decider: ready_in.clone(),
                fan_out: fan_in.clone(),
                stats: Arc::clone(&shared.stats),
                clock: Arc::clone(&shared.clock),
                log: Arc::clone(&shared.log),
                rejected: RejectedLimit::default(),
                forget_after: Duration::from_secs(60),
                forget_at: Collector::FORGET_AT,
            });
        }
        let decider = Decider {
            rules: Arc::clone(&self.rules),
            ledger: Box::new(self.ledger.clone()),
            clock: Arc::clone(&shared.clock),
            log: Arc::clone(&shared.log),
            released: released_in,
            settled: settled_in,
            failure: Arc::clone(&shared.failure),
            stats: Arc::clone(&shared.stats),
        };
        let channels = Channels { requests: requests_out, fan_out, settled, decider: ready_in };
        let random = StdRng::seed_from_u64(self.random.random());
        let dispatcher =
            Dispatcher::new(shared.clone(), (self.settings.clone(), self.limits.clone()), links, channels, random);
        let submitted = self.clock.instant();
        for (request, restart) in self.unanswered() {
            requests_in.send(Submission { request, restart, tag: 0, submitted }).expect("there is room");
        }
        let requests = self.random.random_bool(0.5).then_some(requests_in);
        Parts {
            dispatcher,
            collectors,
            decider,
            requests,
            ready,
            confirmed: (confirmed_out, confirmed_in),
            released,
            shared,
        }
    }

    /// What is still to be asked, by the ledger alone.
    fn unanswered(&self) -> Vec<(CheckRequest, Option<Restart>)> {
        let mut standing: HashMap<String, Option<Restart>> = HashMap::new();
        for record in self.records() {
            let number = record.restart.map_or(0, |restart| restart.number) + 1;
            let restart = record.restarted.then_some(Restart { predecessor: record.attempt, number });
            standing.insert(record.request.id.to_string(), restart);
        }
        let open = |request: &CheckRequest| match standing.get(request.id.as_str()) {
            None => Some((request.clone(), None)),
            Some(None) => None,
            Some(restart) => Some((request.clone(), *restart)),
        };
        self.requests.iter().filter_map(open).collect()
    }

    fn entries<T: serde::de::DeserializeOwned>(&self, kind: u8) -> Vec<T> {
        let memory = self.ledger.memory();
        let of_kind = memory.committed.iter().filter(|(found, _)| *found == kind);
        of_kind.map(|(_, payload)| serde_json::from_slice(payload).expect("an entry")).collect()
    }

    fn records(&self) -> Vec<Record> {
        self.entries(ENTRY_RECORD)
    }

    /// Perspectives take what they were asked, and answer after their fashion.
    fn answer_all(&mut self) {
        for index in 0..self.inboxes.len() {
            let tasks: Vec<Task> = self.inboxes[index].lock().expect("one thread").drain(..).collect();
            for task in tasks {
                self.answer(index, task);
            }
        }
    }

    fn answer(&mut self, index: usize, task: Task) {
        let key = (task.header.attempt, index);
        let said = Said { header: task.header.clone() };
        assert!(self.said.insert(key, said).is_none(), "seed {}: a perspective is asked once an attempt", self.seed);
        let usual = self.characters[index];
        let character = if self.random.random_bool(0.05) { Character::draw(&mut self.random) } else { usual };
        let name = task.plan.caa_levels[0].clone();
        self.begun.insert(task.header.attempt, name.clone());
        let truth = self.hijacked.get(&index).or_else(|| self.truths.get(&name)).copied().unwrap_or(Sight::Fails);
        let seen = match (character, truth) {
            (Character::Liar, Sight::Permits) => Sight::Forbids,
            (Character::Liar, _) => Sight::Permits,
            (_, truth) => truth,
        };
        self.mark += 1;
        let setup = self.rules.setup();
        let me = setup.perspectives.iter().chain(&setup.conduct.trials).nth(index).expect("a perspective");
        let report = Report {
            header: task.header,
            perspective: task.perspective,
            rir: me.rir,
            observation: Box::new(observation(&name, seen, self.mark)),
        };
        let random = &mut self.random;
        let us = match character {
            Character::Slow => random.random_range(8_000_000..30_000_000),
            _ => random.random_range(1_000..3_000_000),
        };
        let mut reports = Vec::new();
        let mut wire = index;
        match character {
            Character::Silent => {}
            Character::Forgets => {
                // It was started anew, and what was on its way is lost.
                self.coming.retain(|_, (by, _)| *by != index);
            }
            Character::Honest | Character::Slow | Character::Liar => reports.push(report),
            Character::Twice => reports.extend([report.clone(), report]),
            Character::Replays => {
                let old = self.sent.iter().rfind(|old| old.perspective == report.perspective).cloned();
                // Sometimes under the header of the new question's attempt, with the old nonce.
                let forged = old.clone().map(|mut old| {
                    old.header.attempt = report.header.attempt;
                    old
                });
                reports.extend(if random.random_bool(0.5) { old } else { forged });
                reports.push(report);
            }
            Character::WrongNonce => {
                let mut wrong = report;
                wrong.header.nonce ^= 1 << random.random_range(0..64);
                reports.push(wrong);
            }
            Character::WrongName => {
                let other = &setup.perspectives[(index + 1) % setup.perspectives.len()];
                reports.push(Report { perspective: other.id.clone(), ..report });
            }
            Character::WrongRegion => {
                let rir = if report.rir == Rir::Arin { Rir::Apnic } else { Rir::Arin };
                reports.push(Report { rir, ..report });
            }
            Character::WrongSetup => {
                let mut wrong = report;
                wrong.header.setup = "0".repeat(64).into();
                reports.push(wrong);
            }
            Character::WrongWire => {
                wire = (index + 1) % setup.perspectives.len();
                reports.push(report);
            }
        }
        for (n, report) in reports.into_iter().enumerate() {
            self.sent.push(report.clone());
            self.mark += 1;
            self.coming.insert((self.clock.us() + us + n as u64 * 700, self.mark), (wire, report));
        }
    }

    /// Everybody answers at once and truly.
    fn crowd_answers(&mut self, parts: &mut Parts) {
        for (index, inbox) in self.inboxes.iter().enumerate() {
            let tasks: Vec<Task> = inbox.lock().expect("one thread").drain(..).collect();
            let rir = parts.collectors[index].rir;
            let report = |task: Task| Report {
                observation: Box::new(observation(&task.plan.caa_levels[0], Sight::Permits, 1)),
                header: task.header,
                perspective: task.perspective,
                rir,
            };
            parts.collectors[index].take_batch(tasks.into_iter().map(report).collect());
        }
    }

    /// Hands a collector what has arrived for it, now and then several at a time.
    fn deliver(&mut self, parts: &mut Parts) -> bool {
        let now = self.clock.us();
        let Some((&(at, _), _)) = self.coming.first_key_value() else { return false };
        if at > now {
            return false;
        }
        let (_, (wire, report)) = self.coming.pop_first().expect("just seen");
        let collector = &mut parts.collectors[wire];
        collector.take_batch(Vec::new());
        // A task may still wait in line when a report by the wrong wire is already here.
        let announced = collector.expected.contains_key(&report.header.attempt);
        self.note(wire, &report, announced);
        collector.take_batch(vec![report]);
        true
    }

    fn note(&mut self, wire: usize, report: &Report, announced: bool) {
        let setup = self.rules.setup();
        let me = setup.perspectives.iter().chain(&setup.conduct.trials).nth(wire).expect("a perspective");
        let key = (report.header.attempt, wire);
        let asked = self.said.get(&key).is_some_and(|said| said.header == report.header);
        let right = asked && report.perspective == me.id && report.rir == me.rir;
        let first = announced && !self.first.contains_key(&key);
        if first {
            let what = match &report.observation.caa[0].outcome {
                DnsOutcome::Answer(set) if set.rdata[0].0.ends_with(b";") => Sight::Forbids,
                DnsOutcome::Answer(_) => Sight::Permits,
                _ => Sight::Fails,
            };
            self.first.insert(key, right.then_some((report.observation.elapsed_us, what)));
        }
        self.false_reports += u64::from(!(first && right));
    }

    fn take_released(&mut self, parts: &Parts) {
        for released in parts.released.try_iter().flatten() {
            let id = released.record.request.id.to_string();
            let before = self.released.insert(id.clone(), released.record);
            assert!(before.is_none(), "seed {}: {id} is released twice", self.seed);
        }
    }

    /// One life of the engine. True if it ended by itself.
    fn live(&mut self) -> bool {
        self.begun.clear();
        let mut parts = self.begin();
        // What was on its way to the life before is lost; what it asked may still be answered.
        let crash_at = self.random.random_bool(0.15).then(|| self.random.random_range(1..400_u64));
        for step in 0..STEPS_MAX {
            if crash_at == Some(step) {
                return false;
            }
            let mut worked = false;
            match self.random.random_range(0..8) {
                0..=2 => match parts.dispatcher.turn(false) {
                    Turn::Worked => worked = true,
                    Turn::Idle => {}
                    Turn::Ended => return self.end(parts),
                },
                3 | 4 => worked = self.deliver(&mut parts),
                5 => {
                    if let Ok(first) = parts.ready.try_recv() {
                        worked = true;
                        if parts.decider.settle_with(first, &parts.ready).is_err() {
                            assert!(self.ledger.memory().broken);
                            self.take_released(&parts);
                            // The disk has room again.
                            let mut memory = self.ledger.memory();
                            (memory.broken, memory.commits_left) = (false, None);
                            memory.waiting.clear();
                            return false;
                        }
                    }
                }
                6 => {
                    self.answer_all();
                    if self.random.random_bool(0.1) {
                        self.check_limits();
                    }
                    if self.random.random_bool(0.0005) {
                        parts.shared.stop.store(true, Ordering::Relaxed);
                    }
                    self.take_released(&parts);
                    for mut confirmed in parts.confirmed.0.try_iter() {
                        let place = self.random.random_range(0..6_u8);
                        confirmed.targets = (0..place / 2).map(|n| IpAddr::from([192, 0, 2, n])).collect();
                        parts.confirmed.1.send(confirmed).expect("the dispatcher is there");
                    }
                    if self.random.random_bool(0.3) {
                        parts.requests = None;
                    }
                }
                _ => worked = self.trouble(),
            }
            if !worked && self.random.random_bool(0.5) {
                // Time goes on: to the next thing that arrives, or a little.
                let next = self.coming.first_key_value().map(|((at, _), _)| at.saturating_sub(self.clock.us()));
                let us = self.random.random_range(1..500_000).min(next.unwrap_or(u64::MAX).max(1));
                self.clock.forward(us);
            }
        }
        panic!("seed {}: it hangs", self.seed);
    }

    fn trouble(&mut self) -> bool {
        if self.random.random_bool(0.02) {
            let index = self.random.random_range(0..self.full.len());
            self.full[index].fetch_xor(true, Ordering::Relaxed);
        }
        if self.random.random_bool(0.001) && !self.jumped {
            self.jumped = true;
            let ms = self.random.random_range(6_000..100_000_000_i64);
            let moved = if self.random.random_bool(0.5) { ms } else { -ms };
            self.clock.moved_ms.fetch_add(moved, Ordering::Relaxed);
        }
        false
    }

    /// The dispatcher has ended: what is still on its way is delivered, and what is still to be written is written.
    fn end(&mut self, mut parts: Parts) -> bool {
        let by_itself = parts.shared.failure.get().is_none();
        if let Some(Failure::Clock { .. }) = parts.shared.failure.get() {
            assert!(self.jumped, "seed {}: the clock was not moved", self.seed);
            // Whoever runs it has set the clock right.
            self.clock.moved_ms.store(0, Ordering::Relaxed);
        }
        if by_itself {
            while !self.coming.is_empty() {
                self.clock.forward(1_000_000);
                while self.deliver(&mut parts) {}
            }
            parts.collectors.iter_mut().for_each(Collector::end);
            while let Ok(first) = parts.ready.try_recv() {
                if parts.decider.settle_with(first, &parts.ready).is_err() {
                    let mut memory = self.ledger.memory();
                    (memory.broken, memory.commits_left) = (false, None);
                    memory.waiting.clear();
                    drop(memory);
                    self.take_released(&parts);
                    return false;
                }
            }
        }
        self.take_released(&parts);
        // Only a row that demands more remotes than there are stops an engine otherwise.
        match parts.shared.failure.get() {
            None | Some(Failure::Clock { .. }) => {}
            Some(Failure::NoQuorum) => {
                self.unmet = true;
                return true;
            }
            Some(other) => panic!("seed {}: {other:?}", self.seed),
        }
        by_itself && !parts.shared.stop.load(Ordering::Relaxed)
    }
}

fn sight(random: &mut StdRng) -> Sight {
    match random.random_range(0..10) {
        0 | 1 => Sight::Forbids,
        2 => Sight::Fails,
        _ => Sight::Permits,
    }
}

fn request(number: u64, at: &str) -> CheckRequest {
    let raw = RawRequest {
        id: Some(format!("r{number}")),
        identifier: format!("r{}.example", number % 5),
        account: Some(format!("account-{}", number % 3)),
        method: "caa".to_owned(),
        ..RawRequest::default()
    };
    CheckRequest::parse(raw, "r", &RequestRules::default(), at.parse().expect("an instant")).expect("a good request")
}

/// Remotes that must confirm, by the table of the TLS BR §3.2.2.9, written down once more.
fn needed(remotes: usize) -> usize {
    [0, 0, 1, 2, 3, 4, 4, 5, 6][remotes]
}

impl World {
    fn check(&self, complete: bool) {
        let seed = self.seed;
        let records = self.records();
        let mut attempts = HashSet::new();
        let mut by_request: HashMap<String, Vec<&Record>> = HashMap::new();
        for record in &records {
            assert!(attempts.insert(record.attempt), "seed {seed}: two records of one attempt");
            assert_eq!(record.recompute(&self.rules), Ok(()), "seed {seed}: {}", record.attempt);
            self.check_record(record);
            by_request.entry(record.request.id.to_string()).or_default().push(record);
        }
        for (id, records) in &by_request {
            let outcomes = records.iter().filter(|record| !record.restarted).count();
            assert!(outcomes <= 1, "seed {seed}: {id} has {outcomes} outcomes");
            assert!(records.len() <= usize::from(self.rules.setup().conduct.restarts_max) + 1, "seed {seed}: {id}");
            for pair in records.windows(2) {
                let restart = pair[1].restart.expect("it follows one");
                assert_eq!(restart.predecessor, pair[0].attempt, "seed {seed}: {id}");
                assert!(pair[0].restarted && usize::from(restart.number) <= records.len(), "seed {seed}: {id}");
                let least = (u64::from(self.settings.restart_cool_down_ms) * 3 / 4) << (restart.number - 1);
                let waited = pair[1].started.duration_since(pair[0].decided);
                let kept = waited >= SignedDuration::from_millis(least as i64 - 1);
                assert!(kept || !complete, "seed {seed}: {id} waits {waited:?} of {least} ms");
            }
        }
        for (id, record) in &self.released {
            let kept = by_request.get(id).and_then(|records| records.last()).expect("a record");
            assert_eq!(*kept, record, "seed {seed}: {id} is released as it was recorded");
            assert!(!record.restarted, "seed {seed}: {id}");
        }
        let heard = self.heard.0.load(Ordering::Relaxed);
        assert_eq!(heard, self.false_reports, "seed {seed}: every false report is an alarm, and nothing else is");
        let rejected: Vec<RejectedEntry> = self.entries(ENTRY_REJECTED);
        assert!(rejected.len() as u64 <= heard, "seed {seed}");
        if complete {
            self.check_complete(&by_request);
        }
    }

    /// Nothing is lost in a run that was never cut short.
    fn check_complete(&self, by_request: &HashMap<String, Vec<&Record>>) {
        let seed = self.seed;
        for request in &self.requests {
            let id = request.id.as_str();
            let answered = by_request.get(id).is_some_and(|records| records.iter().any(|record| !record.restarted));
            assert!(answered, "seed {seed}: {id} has no verdict");
        }
        for record in by_request.values().flatten().filter(|record| !record.restarted) {
            assert!(self.released.contains_key(record.request.id.as_str()), "seed {seed}: {}", record.attempt);
        }
        let late: Vec<LateEntry> = self.entries(ENTRY_LATE);
        let trials: Vec<LateEntry> = self.entries(ENTRY_TRIAL);
        let asked = |record: &&&Record| record.perspectives[1..].iter().any(|p| p.state != PerspectiveState::NotAsked);
        let tried = by_request.values().flatten().filter(asked).count() * self.rules.setup().conduct.trials.len();
        assert_eq!(trials.len(), tried, "seed {seed}: each perspective on trial has one entry");
        let by_attempt: HashMap<AttemptId, &&Record> =
            by_request.values().flatten().map(|record| (record.attempt, record)).collect();
        for entry in late.iter().filter(|entry| entry.received > by_attempt[&entry.attempt].decided) {
            let against =
                entry.perspective.state == PerspectiveState::Contradicted && by_attempt[&entry.attempt].permits();
            assert_eq!(entry.contradicts_verdict, against, "seed {seed}: {}", entry.attempt);
        }
        let mut marks: HashSet<u64> =
            late.iter().chain(&trials).filter_map(|e| Some(e.perspective.observation.as_ref()?.elapsed_us)).collect();
        for record in by_request.values().flatten() {
            marks.extend(record.perspectives.iter().filter_map(|part| Some(part.observation.as_ref()?.elapsed_us)));
        }
        // A perspective on trial that had its time has its entry already.
        let counted = self.rules.setup().perspectives.len();
        let given_up: HashSet<AttemptId> =
            trials.iter().filter(|entry| entry.perspective.observation.is_none()).map(|entry| entry.attempt).collect();
        let too_late = |(attempt, index): &(AttemptId, usize)| *index >= counted && given_up.contains(attempt);
        let answers = self.first.iter().filter(|(key, _)| !too_late(key));
        let answers: Vec<u64> = answers.filter_map(|(_, answer)| Some((*answer)?.0)).collect();
        for mark in &answers {
            assert!(marks.contains(mark), "seed {seed}: answer {mark} is in no record");
        }
        assert_eq!(marks.len(), answers.len(), "seed {seed}: evidence that nobody gave");
        let entries: Vec<RejectedEntry> = self.entries(ENTRY_REJECTED);
        let told: u64 = entries.iter().map(|entry| 1 + entry.suppressed).sum();
        assert_eq!(told, self.false_reports, "seed {seed}: every false report is in the ledger");
    }

    fn check_record(&self, record: &Record) {
        let seed = self.seed;
        let setup = self.rules.setup();
        let place = |id| setup.perspectives.iter().position(|p| p.id == id).expect("of the setup");
        let mut confirmed = Vec::new();
        for part in &record.perspectives {
            let index = place(part.perspective.clone());
            let said = self.said.get(&(record.attempt, index));
            let answer = self.first.get(&(record.attempt, index)).copied();
            let at = format!("seed {seed}: {} of {}", part.perspective, record.attempt);
            if let Some(observation) = &part.observation {
                let (mark, what) = answer.flatten().unwrap_or_else(|| panic!("{at}: evidence from nowhere"));
                assert_eq!(observation.elapsed_us, mark, "{at}: it is the answer to this question");
                assert_eq!(observation.survey, None, "{at}: a survey is not kept");
                let state = match what {
                    Sight::Permits => PerspectiveState::Confirmed,
                    Sight::Forbids => PerspectiveState::Contradicted,
                    Sight::Fails => PerspectiveState::Failed,
                };
                assert_eq!(part.state, state, "{at}");
                if what == Sight::Permits {
                    confirmed.push(index);
                }
                continue;
            }
            match part.state {
                PerspectiveState::RejectedReply => assert_eq!(answer, Some(None), "{at}"),
                PerspectiveState::TimedOut => {
                    let passed = record.decided.duration_since(record.started);
                    let waited = self.jumped || passed >= SignedDuration::from_secs(12);
                    assert!(waited, "{at}: it had its time");
                }
                PerspectiveState::NotAsked => assert!(said.is_none() && index > 0, "{at}"),
                PerspectiveState::NotAwaited | PerspectiveState::Cancelled => {}
                state => panic!("{at}: {state:?} without evidence"),
            }
        }
        // The count, once more and by itself.
        let remotes: Vec<usize> = confirmed.iter().copied().filter(|index| *index > 0).collect();
        let regions: HashSet<Rir> = remotes.iter().map(|index| setup.perspectives[*index].rir).collect();
        let asked = record.perspectives.len() - 1;
        let five = "2026-12-15T00:00:00Z".parse::<Timestamp>().expect("an instant");
        let enough = asked >= if record.started.max(record.decided) >= five { 5 } else { 4 };
        let holds = confirmed.contains(&0) && enough && remotes.len() >= needed(asked) && regions.len() >= 2;
        let expected = holds && setup.conduct.mode == Mode::Enforcing;
        assert_eq!(record.verdict.permits(), expected, "seed {seed}: {record:?}");
        let contradicted = record.perspectives.iter().any(|part| part.state == PerspectiveState::Contradicted);
        let number = record.restart.map_or(0, |restart| restart.number);
        let anew = !confirmed.is_empty() && contradicted && number < setup.conduct.restarts_max;
        assert_eq!(record.restarted, anew, "seed {seed}: {}", record.attempt);
        self.check_waiting(record, &confirmed, enough);
        let apart = |a: &usize, b: &usize| !([7, 8].contains(a) && [7, 8].contains(b)) || a == b;
        let members: Vec<usize> = record.perspectives.iter().map(|part| place(part.perspective.clone())).collect();
        assert!(members.iter().all(|a| members.iter().all(|b| apart(a, b))), "seed {seed}: too near");
        let remotes = setup.conduct.draw.map_or(setup.perspectives.len() - 1, |draw| draw.remotes.into());
        assert_eq!((members[0], members.len()), (0, remotes + 1), "seed {seed}: the primary and its remotes");
        assert_eq!(members.iter().collect::<HashSet<_>>().len(), members.len(), "seed {seed}: each once");
    }

    /// Nothing is refused that those who were not waited for could have made a permission, and all are waited for where
    /// that is wanted.
    fn check_waiting(&self, record: &Record, confirmed: &[usize], enough: bool) {
        let seed = self.seed;
        let setup = self.rules.setup();
        let row = |at| self.rules.table().row_at(at).map(|row| row.revision().to_owned());
        if row(record.started) != row(record.decided) {
            // What sufficed when the last answer came is too little under the row that came after.
            return;
        }
        let place = |id: &PerspectiveId| setup.perspectives.iter().position(|p| p.id == *id).expect("of the setup");
        let open: Vec<usize> = record
            .perspectives
            .iter()
            .filter(|part| part.state == PerspectiveState::NotAwaited)
            .map(|part| place(&part.perspective))
            .collect();
        let passed =
            matches!(record.verdict, Verdict::Corroborated(_) | Verdict::Refused { refusal: Refusal::ReportOnly, .. });
        let await_all = match passed {
            true => self.settings.await_all_on_permission,
            // A primary that refuses, asked first, ends it at once, and nobody else was asked.
            false => self.settings.await_all_on_refusal,
        };
        assert!(!await_all || open.is_empty(), "seed {seed}: {} waits for all", record.attempt);
        if !passed && confirmed.contains(&0) {
            let best: Vec<usize> = confirmed.iter().chain(&open).copied().filter(|index| *index > 0).collect();
            let regions: HashSet<Rir> = best.iter().map(|index| setup.perspectives[*index].rir).collect();
            let could = enough && best.len() >= needed(record.perspectives.len() - 1) && regions.len() >= 2;
            assert!(!could, "seed {seed}: {} was refused too early", record.attempt);
        }
    }

    /// What is asked and not settled keeps to the limits.
    fn check_limits(&self) {
        let settled: HashSet<AttemptId> = self.records().iter().map(|record| record.attempt).collect();
        let open = self.begun.iter().filter(|(attempt, _)| !settled.contains(attempt));
        let mut names: Vec<&String> = open.map(|(_, name)| name).collect();
        assert!(names.len() <= self.settings.attempts_in_flight, "seed {}: {} in flight", self.seed, names.len());
        names.sort();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "seed {}: two of one name", self.seed);
    }
}

/// What a run had in it.
#[derive(Clone, Copy, Debug, Default)]
struct Had {
    permits: u64,
    refusals: u64,
    restarts: u64,
    reported_only: u64,
    late: u64,
    late_contradictions: u64,
    trials: u64,
    false_reports: u64,
    drawn: u64,
    timed_out: u64,
    rejected: u64,
    not_awaited: u64,
    lives_cut_short: u64,
    clocks_moved: u64,
    row_changes: u64,
}

impl Had {
    fn all(&self) -> [u64; 15] {
        let Self {
            permits, refusals, restarts, reported_only, late, late_contradictions, trials, false_reports, ..
        } = *self;
        let Self { drawn, timed_out, rejected, not_awaited, lives_cut_short, clocks_moved, row_changes, .. } = *self;
        [
            permits,
            refusals,
            restarts,
            reported_only,
            late,
            late_contradictions,
            trials,
            false_reports,
            drawn,
            timed_out,
            rejected,
            not_awaited,
            lives_cut_short,
            clocks_moved,
            row_changes,
        ]
    }
}

impl World {
    fn had(&self, lives: u64) -> Had {
        let records = self.records();
        let count = |fits: &dyn Fn(&Record) -> bool| records.iter().filter(|record| fits(record)).count() as u64;
        let state = |wanted: PerspectiveState| {
            count(&|record: &Record| record.perspectives.iter().any(|part| part.state == wanted))
        };
        let late: Vec<LateEntry> = self.entries(ENTRY_LATE);
        Had {
            permits: count(&|record| record.permits()),
            refusals: count(&|record| !record.verdict.permits()),
            restarts: count(&|record| record.restarted),
            reported_only: count(&|record| {
                matches!(record.verdict, Verdict::Refused { refusal: Refusal::ReportOnly, .. })
            }),
            late: late.len() as u64,
            late_contradictions: late.iter().filter(|entry| entry.contradicts_verdict).count() as u64,
            trials: self.entries::<LateEntry>(ENTRY_TRIAL).len() as u64,
            false_reports: self.false_reports,
            drawn: count(&|record| record.seed.is_some()),
            timed_out: state(PerspectiveState::TimedOut),
            rejected: state(PerspectiveState::RejectedReply),
            not_awaited: state(PerspectiveState::NotAwaited),
            lives_cut_short: lives,
            clocks_moved: u64::from(self.jumped),
            row_changes: count(&|record| {
                let row = |at| self.rules.table().row_at(at).map(|row| row.revision().to_owned());
                row(record.started) != row(record.decided)
            }),
        }
    }
}

fn play(seed: u64) -> Had {
    let mut world = World::new(seed);
    let mut lives = 0;
    let mut complete = true;
    while !world.live() {
        complete = false;
        lives += 1;
        if lives > 20 {
            break;
        }
        world.check(false);
        // The wires are the old ones; what they bring now belongs to nobody.
        for inbox in &world.inboxes {
            inbox.lock().expect("one thread").clear();
        }
    }
    world.check(complete && !world.unmet);
    world.had(lives)
}

/// Its collector and node are gone: one that is not the primary is given up in time, and stops nobody.
#[test]
fn a_perspective_that_is_gone_is_given_up_and_only_the_primary_is_missed() {
    for gone in [1, 0] {
        let mut world = World::new(1);
        world.truths.values_mut().for_each(|sight| *sight = Sight::Permits);
        let mut parts = world.begin();
        parts.requests = None;
        parts.collectors[gone].expect = unbounded().1;
        let mut turns = 0;
        while parts.dispatcher.turn(false) != Turn::Ended {
            turns += 1;
            assert!(turns < 10_000, "it hangs");
            world.clock.forward(50_000);
            world.crowd_answers(&mut parts);
            for confirmed in parts.confirmed.0.try_iter() {
                parts.confirmed.1.send(confirmed).expect("the dispatcher is there");
            }
            while let Ok(first) = parts.ready.try_recv() {
                parts.decider.settle_with(first, &parts.ready).expect("the ledger goes on");
            }
        }
        let records = world.records();
        if gone == 0 {
            assert!(matches!(parts.shared.failure.get(), Some(Failure::Primary)));
            assert!(records.iter().all(|record| !record.permits()));
            continue;
        }
        assert!(parts.shared.failure.get().is_none());
        assert_eq!(records.len(), world.requests.len());
        for record in &records {
            let state = record.perspectives[1].state;
            let given_up = [PerspectiveState::TimedOut, PerspectiveState::NotAwaited].contains(&state);
            assert!(given_up && record.perspectives[0].state == PerspectiveState::Confirmed, "{state:?}");
        }
    }
}

/// More than one batch of everything waits at once.
#[test]
fn a_crowd_in_flight_loses_nobody() {
    const CROWD: u64 = 1_500;
    for fan_out in [FanOut::PrimaryFirst, FanOut::Parallel] {
        let mut world = World::new(1);
        let at = "2026-11-25T12:00:00Z";
        let raw = |n: u64| RawRequest {
            id: Some(format!("r{n}")),
            identifier: format!("r{n}.example"),
            method: "caa".to_owned(),
            ..RawRequest::default()
        };
        let parse = |n| CheckRequest::parse(raw(n), "r", &RequestRules::default(), at.parse().expect("an instant"));
        world.requests = (0..CROWD).map(|n| parse(n).expect("a good request")).collect();
        world.truths = world.requests.iter().map(|r| (r.identifier.to_string(), Sight::Permits)).collect();
        world.settings.attempts_in_flight = CROWD as usize;
        world.settings.fan_out = fan_out;
        world.limits = Limits::default();
        let mut parts = world.begin();
        parts.requests = None;
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 10_000, "it hangs");
            // All that each has to do piles up before the next has its turn.
            while parts.dispatcher.turn(false) == Turn::Worked {}
            world.crowd_answers(&mut parts);
            for confirmed in parts.confirmed.0.try_iter() {
                parts.confirmed.1.send(confirmed).expect("the dispatcher is there");
            }
            while let Ok(first) = parts.ready.try_recv() {
                parts.decider.settle_with(first, &parts.ready).expect("the ledger goes on");
                world.take_released(&parts);
            }
            if parts.dispatcher.turn(false) == Turn::Ended {
                break;
            }
        }
        assert_eq!(world.released.len() as u64, CROWD);
    }
}

#[test]
fn whole_runs_from_a_seed_hold_what_must_hold() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SIMULATION_SEED").unwrap_or(1);
    let seeds = number("SIMULATION_SEEDS").unwrap_or(if number("SIMULATION_SEED").is_some() { 1 } else { SEEDS });
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let had = Mutex::new([0; 15]);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let had = &had;
            scope.spawn(move || {
                for seed in (first..first + seeds).filter(|seed| seed % threads == thread) {
                    match std::panic::catch_unwind(|| play(seed)) {
                        Ok(played) => {
                            let mut had = had.lock().expect("no holder panics");
                            had.iter_mut().zip(played.all()).for_each(|(sum, count)| *sum += count);
                        }
                        Err(panic) => {
                            eprintln!("SIMULATION_SEED={seed} plays this run again");
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    let had = had.into_inner().expect("no holder panics");
    println!("{seeds} runs from seed {first} on: {had:?}");
    // A simulation in which something never happens shows nothing about it.
    assert!(seeds < SEEDS || had.iter().all(|count| *count > 0), "{had:?}");
}
