//! Ten thousand hostile web servers at once against one node: bounded memory, every task reported in time, and good
//! checks beside them succeed.
//!
//! The servers are this program once more, in a process of its own, so that a connection costs each process one
//! descriptor. They keep still until all connections stand, and then do their worst together.

mod common;

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::*;
use parallax_node::Driver;
use parallax_protocol::{BATCH_ITEMS_MAX, Task};
use parallax_validation::{
    base::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX},
    observation::{HttpFailure, HttpObservation, HttpOutcome, NetworkError, Observation, TryEnd},
    plan::PlanLimits,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

with_both_drivers! {
    ten_thousand_hostile_servers_at_once_cost_little_and_harm_no_other_check,
}

const HOSTILE: usize = 10_000;
/// Good checks, in rounds of a second.
const GOOD_ROUNDS: u64 = 4;
const GOOD_IN_ROUND: u64 = 50;
/// Memory one check may take on average, kilobytes. A head that never ends is what costs most: 64 KiB, in a buffer
/// that doubles. A fetch in flight itself is a few kilobytes.
const MEMORY_PER_CHECK_KB_MAX: u64 = 48;
/// Descriptors for everything but the hostile connections.
const DESCRIPTORS_SPARE: usize = 1_500;

const LIMITS: PlanLimits = PlanLimits {
    task_deadline_ms: 30_000,
    dns_try_ms: 1_000,
    dns_transmissions: 1,
    caa_repeat_ms: 0,
    http_connect_ms: 12_000,
    http_response_ms: 20_000,
};

/// What a server does once told to begin; each kind has an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Answers rightly, at any time.
    Good,
    /// Resets every connection at once, also before it is told to begin.
    ResetsOnAccept,
    /// Never says anything.
    Silent,
    /// An octet now and then.
    Drips,
    /// Octets fast enough for the pace, of a head that never ends.
    KeepsPace,
    /// A kilobyte of header fields now and then.
    EndlessHead,
    /// Chunks of one octet, without end.
    EndlessBody,
    /// More header fields than may be, as fast as it can.
    FloodsHead,
    /// A body without end, as fast as it can.
    FloodsBody,
    ResetsAfterRequest,
    ResetsInHead,
    ResetsInBody,
}

const KINDS: [Kind; 12] = [
    Kind::Good,
    Kind::ResetsOnAccept,
    Kind::Silent,
    Kind::Drips,
    Kind::KeepsPace,
    Kind::EndlessHead,
    Kind::EndlessBody,
    Kind::FloodsHead,
    Kind::FloodsBody,
    Kind::ResetsAfterRequest,
    Kind::ResetsInHead,
    Kind::ResetsInBody,
];
/// The first of them, whose connections do not stand until they are told to begin.
const NOT_WAITING: usize = 2;

impl Kind {
    fn address(self) -> Ipv4Addr {
        let place = KINDS.iter().position(|kind| *kind == self).expect("all kinds are listed");
        Ipv4Addr::new(127, 0, 1, place as u8 + 1)
    }

    /// Whether a fetch may end so. A reset takes with it what was not read yet; a machine that is busy elsewhere may
    /// make a server slower than it means to be.
    fn may_end(self, seen: &HttpObservation) -> bool {
        let tried = &seen.hops[0].tries[0];
        let cut = |received_bytes: u64| received_bytes <= 2 * HTTP_HEAD_BYTES_MAX as u64;
        let not_answered = seen.outcome == HttpOutcome::Failed(HttpFailure::NotAnswered);
        let reset = not_answered && matches!(tried.end, TryEnd::NoResponse(NetworkError::Reset));
        let reset_early = not_answered && matches!(tried.end, TryEnd::NotConnected(NetworkError::Reset));
        let broken_off = |error| seen.outcome == HttpOutcome::Failed(HttpFailure::BrokenOff(error));
        let too_slow = seen.outcome == HttpOutcome::Failed(HttpFailure::TooSlow);
        let too_large = matches!(&seen.outcome,
            HttpOutcome::Failed(HttpFailure::BadResponse { problem, .. }) if problem.contains("64 KiB"));
        let truncated = matches!(&seen.outcome,
            HttpOutcome::Response { status: 200, body, truncated: true } if body.0.len() == HTTP_BODY_BYTES_MAX);
        cut(tried.received_bytes)
            && match self {
                Self::Good => false,
                Self::ResetsOnAccept => reset || reset_early,
                Self::ResetsAfterRequest => reset,
                Self::Silent => tried.end == TryEnd::NoResponse(NetworkError::Timeout),
                Self::Drips => too_slow,
                Self::KeepsPace => too_slow || broken_off(NetworkError::Timeout),
                Self::EndlessHead => too_slow || too_large || broken_off(NetworkError::Timeout),
                Self::EndlessBody => too_slow || truncated || broken_off(NetworkError::Timeout),
                Self::FloodsHead => too_large,
                Self::FloodsBody => truncated,
                Self::ResetsInHead | Self::ResetsInBody => reset || broken_off(NetworkError::Reset),
            }
    }
}

// The servers -------------------------------------------------------------------------------------------

/// Set for the process that is the servers.
const SERVERS_VARIABLE: &str = "PARALLAX_TEST_HOSTILE_SERVERS";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
/// How often servers say something more.
const TICK: Duration = Duration::from_millis(200);

/// One connection to a server.
struct Held {
    stream: TcpStream,
    kind: Kind,
    /// Parts said.
    said: usize,
}

impl Held {
    /// Says its next part; whether the connection is kept.
    fn say(&mut self) -> bool {
        if self.said == 0
            && matches!(self.stream.read(&mut [0; 2048]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
            // The request is not there yet.
            return true;
        }
        let first = self.said == 0;
        self.said += 1;
        let head = if first { OK } else { b"" };
        let part = match self.kind {
            Kind::Good | Kind::ResetsOnAccept | Kind::Silent => return true,
            Kind::Drips => vec![*OK.get(self.said - 1).unwrap_or(&b'a')],
            Kind::KeepsPace => [head, b"A: 0123456789012345678901234567890123\r\n"].concat(),
            Kind::EndlessHead => [head, b"A: ", &[b'a'; 1019], b"\r\n"].concat(),
            Kind::EndlessBody if first => [OK, b"Transfer-Encoding: chunked\r\n\r\n"].concat(),
            Kind::EndlessBody => b"1;extension\r\nx\r\n".repeat(8),
            Kind::FloodsHead => [head, &b"A: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(1024)].concat(),
            Kind::FloodsBody => [head, if first { b"\r\n" } else { b"" }, &[b'x'; 32 * 1024]].concat(),
            Kind::ResetsAfterRequest => Vec::new(),
            Kind::ResetsInHead => [OK, b"Server: h"].concat(),
            Kind::ResetsInBody => [OK, b"Content-Length: 100\r\n\r\nabc"].concat(),
        };
        let written = self.stream.write(&part);
        match self.kind {
            Kind::ResetsAfterRequest | Kind::ResetsInHead | Kind::ResetsInBody => {
                reset(&self.stream);
                false
            }
            _ => !matches!(written, Err(error) if error.kind() != io::ErrorKind::WouldBlock),
        }
    }

    /// Answers a request rightly if it has come; whether the connection is kept.
    fn answer(&mut self) -> bool {
        match self.stream.read(&mut [0; 2048]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
            Ok(1..) => {
                let body = format!("{TOKEN}.{THUMBPRINT}");
                // A node that has gone away is none of the server's business.
                let _ = write!(self.stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                false
            }
            Ok(0) | Err(_) => false,
        }
    }
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
}

/// A listener for each kind, all on one port.
fn listeners() -> Vec<(Kind, TcpListener)> {
    let listen = |kind: Kind, port: u16| -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((kind.address(), port)).into())?;
        socket.listen(4096)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    let all = || -> io::Result<Vec<(Kind, TcpListener)>> {
        let first = listen(KINDS[0], 0)?;
        let port = first.local_addr()?.port();
        let others = KINDS[1..].iter().map(|kind| Ok((*kind, listen(*kind, port)?)));
        std::iter::once(Ok((KINDS[0], first))).chain(others).collect()
    };
    (0..50).find_map(|_| all().ok()).expect("a port that is free at all addresses")
}

/// As many descriptors as may be had.
fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the limit may be raised to its maximum");
    limit.maximum.map_or(usize::MAX, |maximum| maximum as usize)
}

/// Not a test but the servers, in the process that the test below starts. They end with their standard input.
#[test]
fn servers() {
    let Some(waiting_max) = std::env::var(SERVERS_VARIABLE).ok().and_then(|count| count.parse::<usize>().ok()) else {
        return;
    };
    raise_descriptors();
    let listeners = listeners();
    println!("port {}", listeners[0].1.local_addr().expect("bound").port());
    let begin = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&begin);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            told.store(line == "begin", Ordering::Relaxed);
        }
        std::process::exit(0);
    });
    let (mut held, mut good): (Vec<Held>, Vec<Held>) = (Vec::new(), Vec::new());
    let (mut waiting, mut next_tick) = (0, Instant::now());
    loop {
        for (kind, listener) in &listeners {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(true).expect("a socket option");
                let connection = Held { stream, kind: *kind, said: 0 };
                match kind {
                    Kind::Good => good.push(connection),
                    Kind::ResetsOnAccept => reset(&connection.stream),
                    _ => {
                        held.push(connection);
                        waiting += 1;
                        if waiting == waiting_max {
                            println!("all {waiting}");
                        }
                    }
                }
            }
        }
        good.retain_mut(Held::answer);
        if begin.load(Ordering::Relaxed) && Instant::now() >= next_tick {
            held.retain_mut(Held::say);
            next_tick = Instant::now() + TICK;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The process of the servers. Dropping it ends it.
struct Servers {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Servers {
    fn start(waiting: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "servers", "--nocapture"])
            .env(SERVERS_VARIABLE, waiting.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let said = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, said }
    }

    /// Waits for a line that begins so, and gives the number after it.
    fn hear(&mut self, word: &str) -> u64 {
        let mut line = String::new();
        while self.said.read_line(&mut line).expect("the servers' output") > 0 {
            // The test harness may have begun the line.
            if let Some((_, number)) = line.rsplit_once(&format!("{word} ")) {
                return number.trim().parse().expect("a number");
            }
            line.clear();
        }
        panic!("the servers have ended");
    }

    fn begin(&mut self) {
        let input = self.child.stdin.as_mut().expect("a pipe");
        writeln!(input, "begin").expect("the servers listen");
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// The test ----------------------------------------------------------------------------------------------

/// Numbers of tasks and the kind of server each asks.
fn hostile_kinds(waiting: usize) -> Vec<Kind> {
    let at_once = std::iter::repeat_n(Kind::ResetsOnAccept, waiting / 20);
    KINDS[NOT_WAITING..].iter().copied().cycle().take(waiting).chain(at_once).collect()
}

fn submit(bench: &mut Bench, mut tasks: Vec<Task>) {
    while !tasks.is_empty() {
        let rest = tasks.split_off(tasks.len().min(BATCH_ITEMS_MAX.min(250)));
        let mut batch = tasks;
        while let Err(parallax_node::Full(back)) = bench.node.submit(batch) {
            batch = back;
            thread::sleep(Duration::from_millis(5));
        }
        tasks = rest;
    }
}

fn ten_thousand_hostile_servers_at_once_cost_little_and_harm_no_other_check(driver: Driver) {
    // Memory and descriptors are the whole process's, so the drivers take turns.
    static TURN: Mutex<()> = Mutex::new(());
    if std::env::var_os(SERVERS_VARIABLE).is_some() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let waiting = HOSTILE.min(raise_descriptors().saturating_sub(DESCRIPTORS_SPARE) * 20 / 21);
    println!("{waiting} hostile connections at once, over {driver}");
    let mut servers = Servers::start(waiting);
    let port = servers.hear("port") as u16;
    let (_keep, resolver) = silent_resolver();
    let mut settings = config_over(driver, resolver);
    settings.laboratory.http_port = Some(port);
    let mut bench = Bench::start(&settings);
    let kinds = hostile_kinds(waiting);
    let plans: HashMap<u8, _> = KINDS
        .iter()
        .map(|kind| (kind.address().octets()[3], plan(&kind.address().to_string(), "http-01", false, LIMITS)))
        .collect();
    let task = |bench: &Bench, number: usize, kind: Kind| {
        bench.task(number as u64, plans[&kind.address().octets()[3]].clone())
    };
    let before = resident_bytes();
    let began = Instant::now();
    let tasks = kinds.iter().enumerate().map(|(number, kind)| task(&bench, number, *kind)).collect();
    submit(&mut bench, tasks);
    assert_eq!(servers.hear("all") as usize, waiting);
    println!("all connections stand after {:?}", began.elapsed());
    servers.begin();
    let attack = Instant::now();

    let (mut seen, mut good_since) = (HashMap::<usize, Observation>::new(), Vec::<Instant>::new());
    let (mut peak, mut slowest) = (resident_bytes(), Duration::ZERO);
    let total = kinds.len() + (GOOD_ROUNDS * GOOD_IN_ROUND) as usize;
    let due = began + Duration::from_millis(LIMITS.task_deadline_ms.into()) + 4 * SLACK;
    while seen.len() < total {
        assert!(Instant::now() < due, "{} of {total} tasks were reported by their deadlines", seen.len());
        let round = good_since.len() as u64;
        if round < GOOD_ROUNDS && attack.elapsed() >= Duration::from_secs(round) {
            let first = kinds.len() + (round * GOOD_IN_ROUND) as usize;
            let tasks = (first..first + GOOD_IN_ROUND as usize).map(|n| task(&bench, n, Kind::Good)).collect();
            good_since.push(Instant::now());
            submit(&mut bench, tasks);
        }
        for report in bench.reports.recv_timeout(Duration::from_millis(20)).unwrap_or_default() {
            let number = (report.header.attempt.0 >> 64) as usize;
            if let Some(round) = number.checked_sub(kinds.len()) {
                slowest = slowest.max(good_since[round / GOOD_IN_ROUND as usize].elapsed());
            }
            assert!(seen.insert(number, *report.observation).is_none(), "task {number} was reported twice");
        }
        peak = peak.max(resident_bytes());
    }
    let took = began.elapsed();
    let per_check_kb = peak.saturating_sub(before) / kinds.len() as u64 / 1024;
    println!(
        "all reported after {took:?}; memory at the most: {per_check_kb} kB a check; slowest good check: {slowest:?}"
    );
    assert!(per_check_kb <= MEMORY_PER_CHECK_KB_MAX, "{per_check_kb} kB of memory per check");
    for (number, observation) in seen {
        assert!(observation.elapsed_us <= u64::from(LIMITS.task_deadline_ms) * 1_000);
        let fetch = http(observation);
        match kinds.get(number) {
            Some(kind) => {
                assert!(kind.may_end(&fetch), "{kind:?}: {:?} {:?}", fetch.outcome, fetch.hops[0].tries);
            }
            None => {
                let right = format!("{TOKEN}.{THUMBPRINT}").into_bytes();
                let is_right = matches!(&fetch.outcome,
                    HttpOutcome::Response { status: 200, body, truncated: false } if body.0 == right);
                assert!(is_right, "a good check beside them: {:?}", fetch.outcome);
            }
        }
    }
}
