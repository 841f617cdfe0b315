//! Many tasks at a time: all in flight together, all ended in time, nothing lost, doubled or left open.

mod common;

use std::{
    collections::{HashMap, VecDeque},
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::*;
use parallax_node::{Driver, Full, Node};
use parallax_protocol::Task;
use parallax_validation::{
    lookup::tls::rustls::ServerConnection,
    observation::{
        ControlObservation, DnsFailure, DnsLookup, DnsOutcome, HttpFailure, HttpOutcome, NetworkError, TlsFailure,
        TlsTryEnd, TryEnd,
    },
    plan::PlanLimits,
};

with_both_drivers! {
    ten_thousand_tasks_wait_for_a_silent_resolver,
    four_thousand_fetches_wait_for_silent_servers,
    handshakes_leave_no_descriptor_open,
    a_full_node_says_so_and_loses_nothing,
    tasks_that_end_at_once_do_not_wait_for_the_next_event,
    a_node_that_cannot_start_leaves_nothing_behind,
}

/// These tests measure memory, descriptors and time of the whole process, so they take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits until the node has begun `tasks` and made `packets` queries or connections. No task may have been
/// reported by then.
fn await_all_in_flight(bench: &Bench, tasks: u64, packets: u64, began: Instant, limit: Duration) {
    let stats = bench.node.stats();
    let made = || stats.queries.load(Ordering::Relaxed) + stats.connections.load(Ordering::Relaxed);
    while stats.tasks.load(Ordering::Relaxed) < tasks || made() < packets {
        assert!(began.elapsed() < limit, "{} of {packets} were made after {:?}", made(), began.elapsed());
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(made(), packets);
    assert!(bench.reports.is_empty(), "tasks have ended before all had begun");
}

fn submit_all(bench: &mut Bench, tasks: u64, method: &str, identifier: &str, limits: PlanLimits) {
    let plan = plan(identifier, method, method != "http-01", limits);
    for first in (0..tasks).step_by(250) {
        let batch: Vec<Task> = (first..tasks.min(first + 250)).map(|n| bench.task(n, plan.clone())).collect();
        assert!(bench.node.submit(batch).is_ok(), "the queue holds 64 batches");
    }
}

fn assert_timed_out(lookup: &DnsLookup) {
    assert_eq!(lookup.outcome, DnsOutcome::Failed(DnsFailure::Timeout), "{}", lookup.name);
    assert_eq!(lookup.transmissions, 2, "{}", lookup.name);
}

fn ten_thousand_tasks_wait_for_a_silent_resolver(driver: Driver) {
    const TASKS: u64 = 10_000;
    let _turn = alone();
    let (_keep, resolver) = silent_resolver();
    let limits = PlanLimits { task_deadline_ms: 11_000, dns_try_ms: 5_000, ..PlanLimits::default() };
    let mut bench = Bench::start(&config_over(driver, resolver));
    let before = resident_bytes();
    let began = Instant::now();
    submit_all(&mut bench, TASKS, "dns-01", "www.customer.example", limits);
    // TXT and three levels of CAA each, all on their way before the first is sent again.
    await_all_in_flight(&bench, TASKS, 4 * TASKS, began, Duration::from_millis(4_800));
    println!("10 000 tasks, 40 000 queries on their way after {:?}", began.elapsed());
    let per_check = resident_bytes().saturating_sub(before) / TASKS;
    // To be believed only if this test runs alone: after another one, freed memory is used again.
    println!("memory per check in flight (4 queries each): {per_check} bytes");
    assert!(per_check < 32 * 1024, "{per_check} bytes of memory per check in flight");
    let deadlines = vec![Duration::from_millis(limits.task_deadline_ms.into()) + SLACK; TASKS as usize];
    let mut seen = HashMap::new();
    collect(&bench.reports, &deadlines, began, &mut seen);
    for observation in seen.values() {
        assert!(observation.elapsed_us <= u64::from(limits.task_deadline_ms) * 1000);
        let Some(ControlObservation::Record(lookup)) = &observation.control else { panic!("no TXT lookup") };
        assert_timed_out(lookup);
        // The leaf's failure decides the climb; levels above it are of no account.
        assert_eq!(observation.caa.len(), 1);
        assert_timed_out(&observation.caa[0]);
    }
}

/// Accepts and holds connections until told to stop.
fn holder(stop: &Arc<AtomicBool>) -> (SocketAddr, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    // The backlog of the standard library is too short for so many at once.
    rustix::net::listen(&listener, 4096).expect("a listener");
    listener.set_nonblocking(true).expect("a socket option");
    let address = listener.local_addr().expect("bound");
    let stop = Arc::clone(stop);
    let thread = thread::spawn(move || {
        let mut held: Vec<TcpStream> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => held.push(stream),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
        }
        held.len()
    });
    (address, thread)
}

fn four_thousand_fetches_wait_for_silent_servers(driver: Driver) {
    const TASKS: u64 = 4_000;
    let _turn = alone();
    let descriptors = open_descriptors();
    let stop = Arc::new(AtomicBool::new(false));
    let (server, thread) = holder(&stop);
    let limits = PlanLimits {
        task_deadline_ms: 9_000,
        http_connect_ms: 4_000,
        http_response_ms: 5_000,
        ..PlanLimits::default()
    };
    let (keep, resolver) = silent_resolver();
    let mut settings = config_over(driver, resolver);
    settings.laboratory.http_port = Some(server.port());
    let mut bench = Bench::start(&settings);
    let before = resident_bytes();
    let began = Instant::now();
    submit_all(&mut bench, TASKS, "http-01", "127.0.0.1", limits);
    await_all_in_flight(&bench, TASKS, TASKS, began, Duration::from_secs(3));
    println!("4 000 connections on their way after {:?}", began.elapsed());
    thread::sleep(Duration::from_millis(500));
    let open = open_descriptors() - descriptors;
    assert!(open as u64 > 2 * TASKS, "both ends of every connection are open, not {open} descriptors");
    let per_check = resident_bytes().saturating_sub(before) / TASKS;
    println!("memory per fetch in flight (without the kernel's): {per_check} bytes");
    let deadlines = vec![Duration::from_millis(limits.task_deadline_ms.into()) + SLACK; TASKS as usize];
    let mut seen = HashMap::new();
    collect(&bench.reports, &deadlines, began, &mut seen);
    for (_, observation) in seen {
        let fetch = http(observation);
        assert_eq!(fetch.outcome, HttpOutcome::Failed(HttpFailure::NotAnswered));
        assert_eq!(fetch.hops[0].tries[0].end, TryEnd::NoResponse(NetworkError::Timeout));
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(thread.join().expect("no panic") as u64, TASKS);
    // Left are the node's own (ring, ports) and the resolver's.
    let idle = settled_descriptors(descriptors + 63);
    assert!(idle < descriptors + 64, "{idle} descriptors are open after all tasks have ended, {descriptors} before");
    drop((bench, keep));
    assert!(settled_descriptors(descriptors) <= descriptors, "descriptors after the node has gone");
}

/// Those that succeed and those that their deadline cuts off in the middle.
fn handshakes_leave_no_descriptor_open(driver: Driver) {
    let _turn = alone();
    let (settings, stop) = (tls_server_settings(), Arc::new(AtomicBool::new(false)));
    let server = tcp_server(move |mut stream, _| {
        let mut tls = ServerConnection::new(Arc::clone(&settings)).expect("settings");
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        let _ = stream.read(&mut [0]);
    });
    let before_silent = open_descriptors();
    let (silent, thread) = holder(&stop);
    let probe = |server: SocketAddr, tasks: usize| {
        let (_keep, resolver) = silent_resolver();
        let mut settings = config_over(driver, resolver);
        settings.laboratory.https_port = Some(server.port());
        let mut bench = Bench::start(&settings);
        bench.run_all(vec![plan("127.0.0.1", "tls-alpn-01", false, QUICK); tasks])
    };
    let before = open_descriptors();
    for (server, answers) in [(server, true), (silent, false)] {
        for observation in probe(server, 40) {
            let Some(ControlObservation::Tls(seen)) = observation.control else { panic!("no handshake") };
            let end = &seen.tries[0].end;
            let cut_off = TlsTryEnd::Failed(TlsFailure::Network(NetworkError::Timeout));
            assert!(if answers { *end == TlsTryEnd::Handshake } else { *end == cut_off }, "{seen:?}");
        }
        if answers {
            assert!(settled_descriptors(before) <= before, "descriptors after 40 handshakes");
        }
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(thread.join().expect("no panic"), 40);
    assert!(settled_descriptors(before_silent) <= before_silent, "descriptors after 40 silent servers");
}

/// Descriptors that are open once no more than `wanted` are, or after a while: a ring closes a socket when
/// the last operation on it has come back.
fn settled_descriptors(wanted: usize) -> usize {
    let until = Instant::now() + Duration::from_secs(3);
    while open_descriptors() > wanted && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    open_descriptors()
}

fn a_full_node_says_so_and_loses_nothing(driver: Driver) {
    const BATCHES: u64 = 200;
    const ITEMS: u64 = 5;
    let _turn = alone();
    let (_keep, resolver) = silent_resolver();
    let mut settings = config_over(driver, resolver);
    settings.tasks_in_flight_max = 10;
    let limits = PlanLimits { task_deadline_ms: 100, dns_try_ms: 50, dns_transmissions: 1, ..PlanLimits::default() };
    let mut bench = Bench::start(&settings);
    let plan = plan("customer.example", "dns-01", false, limits);
    let mut left: VecDeque<Vec<Task>> = (0..BATCHES)
        .map(|batch| (0..ITEMS).map(|item| bench.task(batch * ITEMS + item, plan.clone())).collect())
        .collect();
    let (mut refused, began) = (0, Instant::now());
    while let Some(batch) = left.pop_front() {
        let given = batch.clone();
        if let Err(Full(back)) = bench.node.submit(batch) {
            assert_eq!(back, given, "a refused batch comes back whole");
            refused += 1;
            left.push_front(back);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the node takes nothing any more");
    }
    assert!(refused > 0, "200 batches never filled a queue of 64");
    // 1000 tasks of 50 ms, 10 at a time, take 5 s; a node that lets freed room lie idle takes far longer.
    let deadlines = vec![Duration::from_secs(12); (BATCHES * ITEMS) as usize];
    let mut seen = HashMap::new();
    collect(&bench.reports, &deadlines, began, &mut seen);
    assert!(
        seen.into_values().all(|observation| { txt(observation).outcome == DnsOutcome::Failed(DnsFailure::Timeout) })
    );
}

fn tasks_that_end_at_once_do_not_wait_for_the_next_event(driver: Driver) {
    let _turn = alone();
    let (_keep, resolver) = silent_resolver();
    let mut settings = config_over(driver, resolver);
    settings.tasks_in_flight_max = 1;
    settings.laboratory.allow_addresses.clear();
    let mut bench = Bench::start(&settings);
    let forbidden = plan("127.0.0.1", "http-01", false, QUICK);
    let seen = bench.run_all(vec![forbidden; 200]);
    assert!(
        seen.into_iter()
            .all(|observation| { http(observation).outcome == HttpOutcome::Failed(HttpFailure::OnlySpecialAddresses) })
    );
}

fn a_node_that_cannot_start_leaves_nothing_behind(driver: Driver) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let _turn = alone();
    let (_keep, resolver) = silent_resolver();
    let descriptors = open_descriptors();
    let mut settings = config_over(driver, resolver);
    (settings.workers, settings.source_ports) = (4, 400);
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(descriptors as u64 + 1_000), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).expect("a lower limit");
    let outcome = Node::start(&settings, &crossbeam::channel::unbounded().0);
    setrlimit(Resource::Nofile, before).expect("the limit as it was");
    let error = outcome.map(|_| ()).expect_err("the third worker finds no descriptors").to_string();
    assert!(error.contains("perspective test") && error.contains("open files"), "{error}");
    assert!(settled_descriptors(descriptors) <= descriptors, "the workers that had started run on");
}

#[test]
fn a_node_that_keeps_captures_and_cannot_start_says_so() {
    let _turn = alone();
    let place = tempfile::TempDir::new().expect("a directory");
    let mut settings = config("10.78.0.1:53".parse().expect("an address"));
    settings.source_ipv4 = Some(Ipv4Addr::new(10, 78, 0, 2));
    settings.transport = parallax_node::Transport::Raw(parallax_node::RawTransport {
        interface: "plx-missing".to_owned(),
        networks: vec!["10.78.0.0/24".parse().expect("a network")],
        kept_octets: 1 << 20,
        captures: Some(place.path().join("captures")),
        ..parallax_node::RawTransport::default()
    });
    let (tell, told) = std::sync::mpsc::channel();
    // On a thread of its own, so that a start without an end fails the test.
    thread::spawn(move || {
        let outcome = Node::start(&settings, &crossbeam::channel::unbounded().0);
        tell.send(outcome.map(drop).map_err(|error| error.to_string())).expect("somebody waits");
    });
    let outcome = told.recv_timeout(Duration::from_secs(20)).expect("it does not come back");
    let error = outcome.expect_err("there is no such interface");
    assert!(error.contains("perspective test") && error.contains("plx-missing"), "{error}");
}

/// The processors a thread of this process may run on.
fn processors_of(name: &str) -> Option<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    tasks.flatten().find_map(|task| {
        let text = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let found = text("comm").trim() == name;
        let status = text("status");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        found.then(|| allowed.unwrap_or_default().trim().to_owned())
    })
}

#[test]
fn workers_stay_on_their_processors() {
    let _turn = alone();
    let (_keep, resolver) = silent_resolver();
    let perspective: parallax_validation::base::perspective::PerspectiveId = "bound".parse().expect("an id");
    let node = |cores: Vec<usize>| {
        let config = parallax_node::NodeConfig { perspective: perspective.clone(), cores, ..config(resolver) };
        let (sender, _reports) = crossbeam::channel::unbounded();
        Node::start(&config, &sender)
    };
    let bound = node(vec![0]).expect("a node");
    assert_eq!(processors_of("bound/0").as_deref(), Some("0"));
    drop(bound);
    let error = |cores| node(cores).err().expect("no node").to_string();
    assert!(error(vec![0, 1]).contains("cores: 2 of them for 1 workers"));
    assert!(error(vec![1000]).contains("processor 1000"));
    assert!(error(vec![1_000_000]).contains("processor 1000000"));
}
