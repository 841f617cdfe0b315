//! What the tests of the program share: a laboratory of their own, and processes that cannot outlast them.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use parallax_engine::{
    audit::{Item, Items},
    bulk::ResultLine,
};
use parallax_perf::lab::{
    generate::{generate, request_line},
    kinds::Kind,
    serve::Lab,
    world::{Scenario, World},
};
use parallax_validation::record::{LateEntry, Record};
use serde_json::Value;

/// No single run of the program may last longer.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);

/// A laboratory with ports of its own, and a directory that goes away with it.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) lab: Lab,
    directory: tempfile::TempDir,
}

impl Bench {
    /// `number` must be another one in every test: the ports follow from it.
    pub(crate) fn new(number: u16, seed: u64, requests: u64) -> Self {
        Self::with_slow(number, seed, requests, 0.0)
    }

    /// With a share of requests that cost seconds.
    pub(crate) fn with_slow(number: u16, seed: u64, requests: u64, slow_share: f64) -> Self {
        Self::of(World {
            dns_port: 15_400 + number,
            http_port: 18_400 + number,
            https_port: 21_400 + number,
            slow_share,
            ..World::new(seed, requests)
        })
    }

    /// A laboratory as described, whose addresses are the calling thread's network's.
    pub(crate) fn of(world: World) -> Self {
        let directory = tempfile::tempdir().unwrap();
        generate(directory.path(), &world).unwrap();
        let lab = Lab::start(&world).unwrap();
        Self { world, lab, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The settings, with a text in them replaced.
    pub(crate) fn settings_with(&self, name: &str, old: &str, new: &str) -> PathBuf {
        let text = fs::read_to_string(self.path("parallax.toml")).unwrap();
        assert!(text.contains(old), "{old}");
        self.write(name, text.replacen(old, new, 1))
    }

    pub(crate) fn scenarios(&self) -> impl Iterator<Item = Scenario> {
        (0..self.world.requests).map(|index| self.world.scenario(index))
    }

    pub(crate) fn scenario(&self, kind: Kind) -> Scenario {
        self.scenarios().find(|s| s.kind == kind).unwrap()
    }

    /// The bulk lines of the first scenario of each kind.
    pub(crate) fn lines(&self, kinds: &[Kind]) -> String {
        kinds.iter().map(|&kind| request_line(&self.scenario(kind)) + "\n").collect()
    }

    /// The program, to be run in the bench's directory.
    pub(crate) fn parallax(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallax"));
        command.args(arguments).current_dir(self.directory.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Running::start(&mut self.parallax(arguments), self.directory.path()).end()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.parallax(arguments), self.directory.path())
    }

    /// Complete result lines of a file; none if there is no file.
    pub(crate) fn results(&self, name: &str) -> Vec<ResultLine> {
        results(&self.path(name))
    }

    /// Compares with `expected.jsonl`: each expected answer is there once, and nothing else is.
    pub(crate) fn assert_as_expected(&self, results: &[ResultLine]) {
        let text = fs::read_to_string(self.path("expected.jsonl")).unwrap();
        let expected: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let named_by_line: HashSet<u64> = expected.iter().filter_map(|e| e["line"].as_u64()).collect();
        assert_eq!(results.len(), expected.len());
        let mut by_name: HashMap<String, &ResultLine> = HashMap::new();
        for result in results {
            let name = match result.line.filter(|line| named_by_line.contains(line)) {
                Some(line) => format!("line {line}"),
                None => result.id.clone().unwrap(),
            };
            assert!(by_name.insert(name.clone(), result).is_none(), "{name} has two results");
        }
        for e in &expected {
            let name =
                e["line"].as_u64().map_or_else(|| e["id"].as_str().unwrap().to_owned(), |line| format!("line {line}"));
            let Some(result) = by_name.get(&name) else { panic!("{e}: no result") };
            let problem = result.problem.map(|p| p.as_str());
            assert_eq!(result.verdict, e["verdict"], "{e}: {result:?}");
            assert_eq!(result.decided_by, e["decided_by"], "{e}: {result:?}");
            assert!(
                problem == e["problem"].as_str() || problem.is_some() && problem == e["also_problem"].as_str(),
                "{e}: {result:?}"
            );
        }
    }
}

/// Complete result lines of a file; none if there is no file.
pub(crate) fn results(path: &Path) -> Vec<ResultLine> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Records and late answers of a journal; none if it was never begun.
pub(crate) fn journal(directory: &Path) -> (Vec<Record>, Vec<LateEntry>) {
    let (mut records, mut late) = (Vec::new(), Vec::new());
    if !directory.join("0000000001.journal").exists() {
        return (records, late);
    }
    let mut items = Items::open(directory).unwrap();
    while let Some((_, item)) = items.next_item().unwrap() {
        match item {
            Item::Setup(_) | Item::Trial(_) | Item::Rejected(_) | Item::Removed(_) => {}
            Item::Record(record) => records.push(*record),
            Item::Late(entry) => late.push(*entry),
        }
    }
    (records, late)
}

/// How a process ended.
pub(crate) struct Ended {
    /// None after a signal.
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Checks the status and that standard error holds all of these.
    #[track_caller]
    pub(crate) fn expect(&self, status: i32, errors: &[&str]) -> &Self {
        assert_eq!(self.status, Some(status), "{}{}", self.out, self.err);
        for error in errors {
            assert!(self.err.contains(error), "'{error}' is not in: {}", self.err);
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// A process; it is killed if it is dropped before its end.
pub(crate) struct Running {
    pub(crate) child: Child,
    begun: Instant,
    out: tempfile::NamedTempFile,
    err: tempfile::NamedTempFile,
}

impl Running {
    pub(crate) fn start(command: &mut Command, directory: &Path) -> Self {
        let file = || tempfile::NamedTempFile::new_in(directory).unwrap();
        let (out, err) = (file(), file());
        let child =
            command.stdin(Stdio::piped()).stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).spawn().unwrap();
        Self { child, begun: Instant::now(), out, err }
    }

    /// Whether it ended by itself before `until`.
    pub(crate) fn ends_within(&mut self, until: Duration) -> bool {
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            if self.begun.elapsed() >= until {
                return false;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until something is so.
    pub(crate) fn wait_until(&mut self, what: &str, mut so: impl FnMut() -> bool) {
        while !so() {
            assert!(self.child.try_wait().unwrap().is_none(), "ended before: {what}: {}", self.said());
            assert!(self.begun.elapsed() < RUN_MAX, "never: {what}");
            std::thread::sleep(POLL);
        }
    }

    /// What it has written to standard error so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.err.path()).unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its standard input and waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        let within = self.begun.elapsed() + RUN_MAX;
        assert!(self.ends_within(within), "does not end: {}", self.said());
        let status = self.child.wait().unwrap().code();
        Ended { status, out: fs::read_to_string(self.out.path()).unwrap(), err: self.said() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
