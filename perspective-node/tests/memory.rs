//! A budget of memory holds tasks back, and what they are reckoned to hold is no less than what they hold.

mod common;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use common::{Bench, QUICK, SLACK, collect, config, plan, silent_resolver, tls_server_settings};
use jiff::Timestamp;
use parallax_node::{
    Full, NodeConfig,
    memory::{TLS_SESSION_OCTETS, octets_at_begin},
};
use parallax_validation::{
    base::{Entropy, Micros, address::AddressFilter, limits::SURVEY_KEPT_BYTES_MAX},
    lookup::{
        Dnssec,
        dnssec::{anchor::TrustAnchors, chain::ZoneCache},
        task::{Command, Site, Task, TaskSettings},
        tls::{TlsSettings, client::Client, rustls},
    },
    plan::{Plan, survey::SurveyPlan},
};

const BUDGET: u64 = 256 * 1024;
const TASKS: u64 = 200;

#[test]
fn silent_tasks_beyond_the_budget_wait_and_all_end() {
    let (_silence, resolver) = silent_resolver();
    let mut bench = Bench::start(&NodeConfig { memory_max: Some(BUDGET), ..config(resolver) });
    let stats = Arc::clone(bench.node.stats());
    let (highest, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watching = thread::spawn({
        let (stats, highest, done) = (Arc::clone(&stats), Arc::clone(&highest), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(stats.memory_octets.load(Ordering::Relaxed), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let began = Instant::now();
    let mut refused = 0;
    for number in 0..TASKS {
        let mut batch = vec![bench.task(number, plan("www.customer.example", "dns-01", false, QUICK))];
        while let Err(Full(back)) = bench.node.submit(batch) {
            refused += 1;
            assert!(began.elapsed() < Duration::from_secs(60), "the node takes nothing any more");
            thread::sleep(Duration::from_millis(5));
            batch = back;
        }
    }
    assert!(refused > 0, "callers are held back");
    // In turns, each as long as a silent lookup takes.
    let mut seen = HashMap::new();
    let due = vec![Duration::from_secs(60); TASKS as usize];
    collect(&bench.reports, &due, began, &mut seen);
    done.store(true, Ordering::Relaxed);
    watching.join().expect("it only looks");
    let highest = highest.load(Ordering::Relaxed);
    assert!((BUDGET / 2..=BUDGET).contains(&highest), "{highest} of {BUDGET} octets");
    let until = Instant::now() + SLACK + Duration::from_secs(5);
    while stats.memory_octets.load(Ordering::Relaxed) > 0 {
        assert!(Instant::now() < until, "nothing is held in the end: {stats:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

struct Counting(u64);

impl Entropy for Counting {
    fn next_u64(&mut self) -> u64 {
        self.0 += 1;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Octets that a task has allocated when it has sent all that it sends at once.
fn measured(plan: &Plan, settings: &TaskSettings) -> i64 {
    let (mut entropy, mut zones) = (Counting(0), ZoneCache::default());
    // The plan is given to it, so it counts.
    let given = measure(|| drop(std::hint::black_box(Box::new(plan.clone()))));
    let mut task = None;
    let taken = measure(|| {
        let mut site = Site { settings, zones: &mut zones, entropy: &mut entropy };
        let mut begun = Task::new(plan.clone(), &mut site, Micros(0), Timestamp::UNIX_EPOCH);
        let mut packet = Vec::with_capacity(512);
        for command in begun.take_commands() {
            if let Command::Transmit(slot) = command {
                packet.clear();
                begun.compose(Micros(0), slot, 7, &mut entropy, &mut packet);
            }
        }
        drop(packet);
        task = Some(begun);
    });
    assert!(given.bytes_total > 0 && task.is_some());
    taken.bytes_current
}

#[test]
fn a_task_is_reckoned_to_hold_no_less_than_it_does() {
    let tls = || TlsSettings::new(rustls::crypto::ring::default_provider()).expect("TLS");
    let name = "a.name.of.some.length.below.customer.example";
    for dnssec in [Dnssec::None, Dnssec::Local(Arc::new(TrustAnchors::iana()))] {
        let proves = matches!(dnssec, Dnssec::Local(_));
        let resolver = "127.0.0.1:53".parse().expect("an address");
        let filter = AddressFilter::allowing(Vec::new());
        let settings = TaskSettings { resolver, filter, dnssec, tls: tls() };
        for (method, caa) in
            [("dns-01", false), ("dns-01", true), ("http-01", true), ("tls-alpn-01", true), ("caa", true)]
        {
            let plan = plan(name, method, caa, QUICK);
            let (held, reckoned) = (measured(&plan, &settings), octets_at_begin(&plan, proves) as i64);
            println!("{method}, CAA {caa}, DNSSEC {proves}: {held} octets of {reckoned}");
            assert!(held > 0 && held <= reckoned, "{method}, CAA {caa}, DNSSEC {proves}: {held} of {reckoned}");
            assert!(reckoned <= 8 * held, "so much more that the budget is of no use: {held} of {reckoned}");
        }
        let (name, challenge) = (name.to_owned(), format!("_acme-challenge.{name}"));
        let without = plan(&name, "dns-01", true, QUICK);
        let with = Plan { survey: Some(Box::new(SurveyPlan { name, challenge })), ..without.clone() };
        let [before, after] = [&without, &with].map(|plan| octets_at_begin(plan, proves) as i64);
        let held = measured(&with, &settings);
        println!("a survey too, DNSSEC {proves}: {held} octets of {after}");
        assert!(held > 0 && held <= after);
        // What is kept of answers alone may be so much.
        assert!(after - before >= SURVEY_KEPT_BYTES_MAX as i64, "{before}, {after}");
    }
}

#[test]
fn a_tls_session_is_reckoned_to_hold_no_less_than_it_does() {
    let settings = TlsSettings::new(rustls::crypto::ring::default_provider()).expect("TLS");
    let name = rustls::pki_types::ServerName::try_from("www.customer.example").expect("a name");
    let mut server = rustls::ServerConnection::new(tls_server_settings()).expect("a server");
    let mut begun = None;
    let taken = measure(|| begun = Client::new(Arc::clone(&settings.alpn), name).ok());
    let (mut client, mut to_server) = begun.expect("a handshake begins");
    let (mut held, mut given) = (size_of::<Client>() as i64 + taken.bytes_current, 0);
    while !client.is_established() {
        assert!(held - given <= TLS_SESSION_OCTETS as i64, "{held}, {given} given");
        server.read_tls(&mut to_server.as_slice()).expect("octets");
        server.process_new_packets().expect("a handshake");
        let mut to_client = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut to_client).expect("octets");
        }
        given += to_client.len() as i64;
        let mut moved = None;
        held += measure(|| moved = Some(client.handle(&to_client))).bytes_current;
        to_server = moved.expect("done").send;
    }
    println!("{held} octets, of which {given} were given, of {TLS_SESSION_OCTETS}");
    assert!(held - given <= TLS_SESSION_OCTETS as i64, "{held}, {given} given");
}
