//! One table: what an item of work costs a node, clients that do nothing else, and programs of others.
//!
//! All clients are given the same work against the same responder, one after another, round by round, so that what
//! changes on the machine meanwhile changes for all. Client and responder have a CPU each. A program that is not
//! installed has a row that says so.
//!
//! A node and the bare clients tell their own CPU time after a warm-up. That of other programs is the system's account
//! of the whole process, its start included; runs are long enough for that to be little.

mod child;
mod clients;
mod foreign;
mod table;
mod wire;

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::{Args, ValueEnum};
use thiserror::Error;

use self::{
    child::{Responder, Seat, Until, find},
    clients::{Contestant, Place, Reading},
    table::{Client, Comparison, Outcome, Row},
    wire::Wire,
};
use crate::{
    measure::Line,
    netns::{Namespace, NetnsError},
    node::work::Values,
};

/// Why a comparison, or one round of it, could not be made.
#[derive(Debug, Error)]
pub enum PeerError {
    /// A process did not start.
    #[error("cannot start {program}: {why}")]
    Start {
        /// Which.
        program: String,
        /// What the system said.
        why: String,
    },
    /// A responder did not say that it listens.
    #[error("never ready: {command} said {said:?}")]
    NotReady {
        /// How it was started.
        command: String,
        /// Its first line.
        said: String,
    },
    /// A client did not end in time.
    #[error("had not ended after {limit:?}: {command}")]
    TooLong {
        /// How it was started.
        command: String,
        /// The time it had.
        limit: Duration,
    },
    /// A client ended with a failure.
    #[error("ended with {status}: {said}")]
    Ended {
        /// Its status.
        status: String,
        /// The last it said.
        said: String,
    },
    /// What a program printed is not what it prints when all went well.
    #[error("what {program} printed cannot be read: {text}")]
    Unreadable {
        /// Which.
        program: String,
        /// All of it.
        text: String,
    },
    /// The system tells no CPU time.
    #[error("/proc/self/stat tells no CPU time of children")]
    NoAccount,
    /// The bare clients and responders are missing.
    #[error("{0} is missing: build it with `cargo build --release -p parallax-bare`, or name it with --bare")]
    NoBare(String),
    /// Only root may make network namespaces.
    #[error("--wire makes network namespaces, which only root may")]
    NotRoot,
    /// The namespaces or the wire between them could not be made, or not be changed.
    #[error("the wire: {0}")]
    Wire(#[from] NetnsError),
    /// Signals cannot be caught.
    #[error("signals cannot be caught: {0}")]
    Signals(io::Error),
    /// It was told to end.
    #[error("interrupted")]
    Interrupted,
    /// A file could not be written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Work of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// One question over UDP and its answer.
    Dns,
    /// One CAA check of three labels: three questions over UDP and their answers.
    Caa,
    /// One connection, one GET, a small body.
    Http,
    /// One connection and a full TLS 1.3 handshake.
    Tls,
}

/// One comparison.
#[derive(Clone, Debug, Args)]
pub struct Peers {
    /// Rounds; medians are told.
    #[arg(long, value_name = "ROUNDS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// A few thousand items and one round: shows that everything runs, and its figures are worth nothing.
    #[arg(long)]
    quick: bool,
    /// Has clients and responders in network namespaces of their own with a wire between them, and compares the ways that
    /// a node can reach a wire. Only root may, and `ip` and `ethtool` are needed.
    #[arg(long)]
    wire: bool,
    /// The kinds of work; all, if not given.
    #[arg(long, value_name = "WORK", value_enum, value_delimiter = ',')]
    work: Vec<Work>,
    /// Only rows with so many in flight.
    #[arg(long, value_name = "ITEMS", value_delimiter = ',')]
    in_flight: Vec<u64>,
    /// Only clients whose names contain this.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    clients: Vec<String>,
    /// CPU of the clients.
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    client_core: usize,
    /// CPU of the responders.
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    responder_core: usize,
    /// The program with the bare clients and the responders: a path, or a name to be found beside this program or in
    /// PATH.
    #[arg(long, value_name = "PROGRAM", default_value = "parallax-bare")]
    bare: String,
    /// Where peer-hickory and peer-hyper are, if neither beside this program nor in PATH. They are built by `cargo build
    /// --release --manifest-path perf/peers/Cargo.toml`.
    #[arg(long, value_name = "DIRECTORY", default_value = "perf/peers/target/release")]
    peers: PathBuf,
    /// The file that keeps every round, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seconds that one client may take in one round.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    limit: u64,
}

/// How much of a work, and how much of it at a time.
#[derive(Clone, Copy, Debug)]
struct Load {
    work: Work,
    in_flight: u64,
    items: u64,
    warm_up: u64,
    /// For programs that run for a time and not for a number of items.
    seconds: u64,
}

const fn load(work: Work, in_flight: u64, items: u64, warm_up: u64, seconds: u64) -> Load {
    Load { work, in_flight, items, warm_up, seconds }
}

const LOADS: [Load; 7] = [
    load(Work::Dns, 1_000, 500_000, 50_000, 3),
    load(Work::Caa, 1_000, 200_000, 20_000, 3),
    load(Work::Dns, 10_000, 500_000, 50_000, 3),
    load(Work::Dns, 100_000, 600_000, 200_000, 3),
    load(Work::Http, 256, 60_000, 5_000, 3),
    load(Work::Http, 10_000, 60_000, 20_000, 3),
    load(Work::Tls, 64, 4_000, 500, 3),
];
const WIRE_LOADS: [Load; 7] = [
    load(Work::Dns, 1_000, 500_000, 50_000, 3),
    load(Work::Caa, 1_000, 200_000, 20_000, 3),
    load(Work::Dns, 10_000, 500_000, 50_000, 3),
    load(Work::Http, 256, 60_000, 5_000, 3),
    load(Work::Http, 2_000, 60_000, 10_000, 3),
    load(Work::Http, 10_000, 60_000, 20_000, 3),
    load(Work::Tls, 64, 4_000, 500, 3),
];
const QUICK_LOADS: [Load; 4] = [
    load(Work::Dns, 100, 4_000, 500, 1),
    load(Work::Caa, 100, 2_000, 200, 1),
    load(Work::Http, 32, 2_000, 200, 1),
    load(Work::Tls, 8, 300, 50, 1),
];

/// What one comparison is made with.
struct Runner<'a> {
    peers: &'a Peers,
    /// What separates clients and responders, if anything does.
    wire: Option<&'a Wire>,
    interrupted: &'a AtomicBool,
    rounds: usize,
}

/// Compares and prints. Without `has_ours`, the bare clients alone. The status is a failure if any client failed.
///
/// # Errors
/// There are no responders, or the table could not be kept.
pub fn run(peers: &Peers, has_ours: bool) -> Result<ExitCode, PeerError> {
    let comparison = compare(peers, has_ours)?;
    print!("{}", comparison.to_markdown());
    if let Some(path) = &peers.out {
        let file = |error: io::Error| PeerError::File { path: path.clone(), error };
        let text = serde_json::to_string_pretty(&comparison).map_err(|error| file(error.into()))?;
        fs::write(path, text + "\n").map_err(file)?;
    }
    Ok(if comparison.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn compare(peers: &Peers, has_ours: bool) -> Result<Comparison, PeerError> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
    let directories: Vec<PathBuf> = beside.into_iter().chain([peers.peers.clone()]).collect();
    let bare = find(&peers.bare, &directories).ok_or_else(|| PeerError::NoBare(peers.bare.clone()))?;
    let scratch = tempfile::tempdir().map_err(|error| PeerError::File { path: std::env::temp_dir(), error })?;
    let loads: &[Load] = match (peers.quick, peers.wire) {
        (true, _) => &QUICK_LOADS,
        (false, true) => &WIRE_LOADS,
        (false, false) => &LOADS,
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    if peers.wire {
        // Namespaces outlive a process that ends by a signal.
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(PeerError::Signals)?;
        }
    }
    let wire = peers.wire.then(Wire::make).transpose()?;
    let rounds = if peers.quick { 1 } else { usize::from(peers.rounds) };
    let is_wanted = |load: &&Load| {
        (peers.work.is_empty() || peers.work.contains(&load.work))
            && (peers.in_flight.is_empty() || peers.in_flight.contains(&load.in_flight))
    };
    let runner = Runner { peers, wire: wire.as_ref(), interrupted: &interrupted, rounds };
    let mut rows = Vec::new();
    for load in loads.iter().filter(is_wanted) {
        let responders = runner.responders(*load, &bare)?;
        let place = Place {
            load: *load,
            is_wired: peers.wire,
            responders: &responders,
            directories: &directories,
            bare: &bare,
            scratch: scratch.path(),
        };
        let mut contestants = place.contestants(has_ours)?;
        contestants.retain(|one| peers.clients.is_empty() || peers.clients.iter().any(|text| one.name.contains(text)));
        if !contestants.is_empty() {
            rows.push(runner.row(*load, &responders, contestants)?);
        }
    }
    Ok(Comparison {
        date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%MZ").to_string(),
        command: crate::measure::command_line(std::env::args()),
        commit: commit(),
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        cpu: cpu_model(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        client_core: peers.client_core,
        responder_core: peers.responder_core,
        wire: peers.wire,
        rounds,
        rows,
    })
}

impl Runner<'_> {
    fn seat(&self, core: usize, of: impl Fn(&Wire) -> &Namespace) -> Seat<'_> {
        Seat { core, namespace: self.wire.map(|wire| of(wire).handle()) }
    }

    /// The servers of a work. A handshake needs a resolver too, for a node looks the name up.
    fn responders(&self, load: Load, bare: &Path) -> Result<Vec<Responder>, PeerError> {
        let values = Values::new();
        let host = if self.wire.is_some() { wire::SERVER } else { Ipv4Addr::LOCALHOST };
        let (listen, host) = (format!("{host}:0"), host.to_string());
        let start = |kind: &str, more: &[&str]| {
            let arguments = ["respond", kind, "--listen", &listen, "--limit", "86400"];
            let arguments: Vec<String> = arguments.iter().chain(more).map(|word| (*word).to_owned()).collect();
            Responder::start(self.seat(self.peers.responder_core, |wire| &wire.world), bare, &arguments)
        };
        let dns = || start("dns", &["--text", &values.text]);
        Ok(match load.work {
            Work::Dns | Work::Caa => vec![dns()?],
            Work::Http => vec![start("http", &["--body", &values.key_authorization])?],
            Work::Tls => {
                let name = if self.wire.is_some() { &host } else { values.name };
                vec![start("tls", &["--name", name, "--key-authorization", &values.key_authorization])?, dns()?]
            }
        })
    }

    /// Round by round, and in each round client by client, beginning with another one each time.
    fn row(&self, load: Load, responders: &[Responder], contestants: Vec<Contestant>) -> Result<Row, PeerError> {
        let mut outcomes: Vec<Result<Vec<Line>, String>> = contestants.iter().map(|_| Ok(Vec::new())).collect();
        for round in 0..self.rounds {
            for turn in 0..contestants.len() {
                let index = (turn + round) % contestants.len();
                let (Some(contestant), Some(outcome)) = (contestants.get(index), outcomes.get_mut(index)) else {
                    continue;
                };
                let (Some(program), Ok(lines)) = (&contestant.program, &mut *outcome) else { continue };
                if contestant.left_out.is_some() {
                    continue;
                }
                let told = format!("{:?} {} round {round}: {}", load.work, load.in_flight, contestant.name);
                match self.run(load, contestant, program) {
                    Ok(line) => {
                        eprintln!("{told} {:.2} µs, {} failed", line.node_cpu_us_per_item(), line.failed);
                        lines.push(line);
                    }
                    Err(PeerError::Interrupted) => return Err(PeerError::Interrupted),
                    Err(error) => {
                        eprintln!("{told}: {error}");
                        *outcome = Err(error.to_string());
                    }
                }
            }
        }
        let clients = contestants.into_iter().zip(outcomes).map(|(contestant, outcome)| client(contestant, outcome));
        Ok(Row {
            work: load.work.title().to_owned(),
            in_flight: load.in_flight,
            responders: responders.iter().map(|one| one.command.clone()).collect(),
            clients: clients.collect(),
        })
    }

    /// One client in one round.
    fn run(&self, load: Load, contestant: &Contestant, program: &Path) -> Result<Line, PeerError> {
        if let Some(wire) = self.wire {
            wire.give_address(contestant.holder)?;
        }
        let seat = self.seat(self.peers.client_core, |wire| &wire.client);
        let until = Until { limit: Duration::from_secs(self.peers.limit), interrupted: self.interrupted };
        let ended = child::run(seat, program, &contestant.arguments, until)?;
        contestant.reading.read(&contestant.name, load, &ended)
    }
}

/// A client with what came of it.
fn client(contestant: Contestant, outcome: Result<Vec<Line>, String>) -> Client {
    Client {
        command: contestant
            .program
            .as_deref()
            .map_or_else(String::new, |path| child::typed(path, &contestant.arguments)),
        outcome: match (contestant.program, contestant.left_out, outcome) {
            (None, _, _) => Outcome::NotInstalled(contestant.install.to_owned()),
            (Some(_), Some(why), _) => Outcome::LeftOut(why.to_owned()),
            (Some(_), None, Ok(lines)) => Outcome::Rounds(lines),
            (Some(_), None, Err(why)) => Outcome::Failed(why),
        },
        name: contestant.name,
        side: contestant.side,
        note: contestant.note.to_owned(),
    }
}

impl Work {
    fn title(self) -> &'static str {
        match self {
            Self::Dns => table::LOOKUP,
            Self::Caa => table::CAA,
            Self::Http => "HTTP connection and GET",
            Self::Tls => "TLS handshake",
        }
    }
}

/// The commit of the tree, with a `+` if it differs; none outside of a tree.
pub(crate) fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).stderr(std::process::Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let differs = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    Some(head + if differs { "+" } else { "" })
}

/// As `/proc/cpuinfo` has it.
pub(crate) fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown CPU".to_owned(), |(_, model)| model.trim().to_owned())
}

impl Reading {
    /// The line of a client that has ended.
    fn read(self, name: &str, load: Load, ended: &child::Ended) -> Result<Line, PeerError> {
        let last = |text: &str| text.trim().lines().next_back().unwrap_or_default().to_owned();
        match self {
            Self::Line => {
                // A status that tells failed items comes with a line that counts them.
                let line: Option<Line> = serde_json::from_str(&last(&ended.stdout)).ok();
                match line {
                    Some(line) if ended.status.success() || line.failed > 0 => Ok(line),
                    _ => Err(PeerError::Ended { status: ended.status.to_string(), said: last(&ended.stderr) }),
                }
            }
            Self::Foreign(program) => {
                if !ended.status.success() {
                    return Err(PeerError::Ended { status: ended.status.to_string(), said: last(&ended.stderr) });
                }
                let counts = program.read(&ended.stdout, load.items, ended.seconds)?;
                let items = counts.items.max(1) as f64;
                let cpu_us = crate::measure::micros(ended.cpu);
                Ok(Line {
                    client: name.to_owned(),
                    items: counts.items,
                    failed: counts.failed,
                    in_flight: load.in_flight,
                    seconds: counts.seconds,
                    cpu_us,
                    cpu_us_per_item: cpu_us / items,
                    per_second: items / counts.seconds.max(1e-9),
                    peak_rss_kib: 0,
                    worker_cpu_us_per_item: None,
                    p50_us: None,
                    p99_us: None,
                    retransmitted: None,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    fn ended(code: i32, stdout: &str) -> child::Ended {
        child::Ended {
            status: ExitStatus::from_raw(code << 8),
            stdout: stdout.to_owned(),
            stderr: "first\nlast word\n".to_owned(),
            seconds: 2.0,
            cpu: Duration::from_millis(1_500),
        }
    }

    const LINE: &str = r#"{"client":"x","items":10,"failed":FAILED,"in_flight":5,"seconds":1.0,"cpu_us":30.0,
        "cpu_us_per_item":3.0,"per_second":10.0,"peak_rss_kib":9}"#;

    fn read_line(code: i32, failed: &str) -> Result<Line, PeerError> {
        let text = LINE.replace("FAILED", failed).replace('\n', "");
        Reading::Line.read("x", QUICK_LOADS[0], &ended(code, &format!("noise\n{text}\n")))
    }

    #[test]
    fn ok_the_last_line_of_a_client_counts() {
        assert_eq!(read_line(0, "0").map(|line| line.cpu_us_per_item).ok(), Some(3.0));
        assert_eq!(read_line(1, "4").map(|line| line.failed).ok(), Some(4));
    }

    #[test]
    fn err_a_client_that_broke_off_without_a_count_of_failures_has_no_line() {
        for outcome in [read_line(1, "0"), Reading::Line.read("x", QUICK_LOADS[0], &ended(0, ""))] {
            let error = outcome.expect_err("no line").to_string();
            assert!(error.ends_with("last word"), "{error}");
        }
    }

    #[test]
    fn ok_a_program_of_others_is_charged_the_systems_account() {
        let text = "  500 requests in 1.00s, 1.59MB read\n";
        let line =
            Reading::Foreign(foreign::Foreign::Wrk).read("wrk", QUICK_LOADS[2], &ended(0, text)).expect("a line");
        assert_eq!((line.items, line.cpu_us_per_item, line.per_second), (500, 3_000.0, 500.0));
        assert!(Reading::Foreign(foreign::Foreign::Wrk).read("wrk", QUICK_LOADS[2], &ended(1, text)).is_err());
    }

    #[test]
    fn ok_this_machine_has_a_name() {
        assert!(!cpu_model().is_empty());
    }
}
