//! Faults of the network and of the machine below the nodes: no request that must be refused is ever permitted, every
//! request is answered once and recorded once, and once the fault is over everything is as it was.
//!
//! Needs root, for network namespaces; `netns` says what becomes of it without.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod faulty;
mod fleet;
mod netns;
mod support;

use std::{
    io::Write as _,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use faulty::{DNS_TRANSMISSIONS, Faulty};
use fleet::{Program, node_program};
use parallax_perf::{
    faults::rules::{Forge, Forgery, Impairment, Rules},
    lab::{
        kinds::{Kind, Method},
        world::{ATTACKER, Scenario},
    },
};
use parallax_validation::{explain::Blame, problem::ProblemKind, verdict::PerspectiveState};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// One deployment at a time: two of them would make each other late.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn both(both: Impairment) -> Rules {
    Rules { seed: 11, both, ..Rules::default() }
}

fn forging(answers: Vec<Forgery>) -> Rules {
    let forge = Forge { answers, dns_ports: vec![5300], address: ATTACKER, ..Forge::default() };
    // The true answer is late, so that a forged one is always there before it.
    let late = Impairment { delay_ms: 3.0, ..Impairment::default() };
    Rules { seed: 12, both: late, forge, ..Rules::default() }
}

/// How many of these requests may fail although they must pass, at a loss of `p` of all frames.
///
/// A datagram and its answer come through with `(1 - p)²`, so that a question of n transmissions fails with
/// `f = (1 - (1 - p)²)ⁿ`. A connection's SYN is sent again after 1 s, within 2.5 s, so that it fails with at most
/// `c = (1 - (1 - p)²)²`; what comes after it is sent again after some tenths of a second, up to 4 s, and fails so
/// seldom that it is left out. A request of q questions and k connections, one after another, is refused if the primary
/// fails, `r = q·f + k·c`, or two of five remotes do, at most `10·r²`. Expected is the sum of that; the number is
/// nearly a Poisson variable, and beyond its mean by four standard deviations and one less often than once in ten
/// thousand runs.
fn failures_at_loss(p: f64, scenarios: &[Scenario]) -> f64 {
    let round_trip = 1.0 - (1.0 - p).powi(2);
    let (question, connection) = (round_trip.powi(DNS_TRANSMISSIONS), round_trip.powi(2));
    let expected: f64 = scenarios
        .iter()
        .map(|scenario| {
            let hops = match scenario.kind {
                Kind::HttpRedirect10 => 11.0,
                Kind::HttpRedirectPath | Kind::HttpRedirectName | Kind::HttpRedirectHttps => 2.0,
                _ => 1.0,
            };
            let connects = is_of_tcp(scenario.kind);
            // Six levels of CAA, or of an address and its aliases, and two addresses a hop.
            let questions = 12.0 + 2.0 * hops;
            let fails = questions * question + if connects { hops * connection } else { 0.0 };
            (fails + 10.0 * fails * fails).min(1.0)
        })
        .sum();
    expected + 4.0 * expected.sqrt() + 1.0
}

#[track_caller]
fn assert_few_missed(answers: &faulty::Answers, loss: f64) {
    let all = answers.of.iter().map(|(scenario, _)| *scenario);
    let must: Vec<Scenario> = all.filter(|scenario| scenario.kind.outcome().problem.is_none()).collect();
    let (missed, bound) = (answers.missed().count(), failures_at_loss(loss, &must));
    eprintln!("  {missed} of {} missed, at most {bound:.1} may be", must.len());
    assert!(missed as f64 <= bound, "{missed} of {} missed: {:?}", must.len(), answers.missed().collect::<Vec<_>>());
}

/// Kinds that need connections.
fn is_of_tcp(kind: Kind) -> bool {
    matches!(kind.method(), Method::Http01 | Method::TlsAlpn01 | Method::WebsiteChange) || kind == Kind::DnsTcp60
}

#[test]
fn a12_a_bad_network_never_makes_a_wrong_pass_and_what_it_loses_is_sent_again() {
    let _alone = alone();
    let Some(mut faulty) = Faulty::make(90) else { return };
    faulty.assert_healed("nothing");

    // Loss alone: nearly all pass, since what is lost is sent again.
    let loss = 0.05;
    faulty.play(&both(Impairment { loss, ..Impairment::default() }));
    let scenarios = faulty.some(2, |_| true);
    let answers = faulty.ask("5 % loss", scenarios);
    let lost: u64 = faulty.forwarded().iter().map(|wire| wire.policy.lost).sum();
    assert!(lost > 100, "{lost} frames were lost");
    assert_few_missed(&answers, loss);
    faulty.heal();
    faulty.assert_healed("loss");

    // Late, doubled and out of order: nothing that anybody could notice in a verdict.
    let mixed = Impairment {
        delay_ms: 10.0,
        jitter_ms: 10.0,
        duplicate: 0.1,
        reorder: 0.1,
        reorder_ms: 25.0,
        ..Impairment::default()
    };
    faulty.play(&both(mixed));
    let scenarios = faulty.some(2, |_| true);
    faulty.ask("late, doubled and out of order", scenarios).assert_exact(|_| true);
    let done = faulty.forwarded();
    assert!(done.iter().all(|wire| wire.policy.doubled > 10 && wire.policy.held_back > 10), "{done:?}");
    faulty.heal();

    // A wire that carries little, and drops what its queue does not hold.
    faulty.play(&both(Impairment { octets_per_second: Some(150_000), queue_ms: 100.0, ..Impairment::default() }));
    let scenarios = faulty.some(1, |_| true);
    let answers = faulty.ask("150 kB/s", scenarios);
    let overflowed: u64 = faulty.forwarded().iter().map(|wire| wire.policy.overflowed).sum();
    assert!(overflowed > 0, "no queue was ever full");
    let (passed, had_to) = answers.passed();
    assert!(passed * 2 > had_to, "{passed} of {had_to}");
    faulty.heal();
    faulty.assert_healed("a narrow wire");

    // Packets beyond a size vanish, and nobody is told: what is small is as ever, and what is large is never taken for
    // nothing.
    faulty.play(&both(Impairment { vanish_above_octets: Some(1000), ..Impairment::default() }));
    let scenarios = faulty.some(2, |_| true);
    let answers = faulty.ask("a black hole above 1000 octets", scenarios);
    let vanished: u64 = faulty.forwarded().iter().map(|wire| wire.policy.vanished).sum();
    assert!(vanished > 0);
    for (scenario, result) in answers.of.iter().filter(|(s, _)| [Kind::Caa1001, Kind::DnsTcp60].contains(&s.kind)) {
        assert_eq!(
            (result.verdict.as_str(), result.problem),
            ("fail", Some(ProblemKind::Dns)),
            "{scenario:?} {result:?}"
        );
    }
    let is_small = |kind: Kind| !is_of_tcp(kind) && kind != Kind::Caa1001;
    answers.assert_exact(is_small);
    faulty.heal();
    faulty.assert_healed("a black hole");
    faulty.end();
}

#[test]
fn a12_what_nobody_sent_is_never_believed() {
    let _alone = alone();
    let Some(mut faulty) = Faulty::make(91) else { return };

    // First what forging can do where nothing is wrong with it: an attacker on the path of one perspective fools that
    // one, and gains nothing by it. It shows that forged answers arrive, and before the true ones.
    faulty.play_at(3, &forging(vec![Forgery::Perfect]));
    let scenarios = faulty.some(20, |kind| kind == Kind::HttpOk);
    let answers = faulty.ask("an attacker on the path of a remote", scenarios);
    answers.assert_exact(|_| true);
    let fooled = faulty.deployment.fleet.places[3].id.clone();
    for record in faulty.records(&answers) {
        let of_it = record.perspectives.iter().find(|part| part.perspective.as_str() == fooled).unwrap();
        assert_ne!(of_it.state, PerspectiveState::Confirmed, "{fooled} was led elsewhere: {of_it:?}");
    }
    faulty.heal();
    faulty.play_at(0, &forging(vec![Forgery::Perfect]));
    let scenarios = faulty.some(10, |kind| kind == Kind::CaaOther);
    let answers = faulty.ask("an attacker on the path of the primary", scenarios);
    for (scenario, result) in &answers.of {
        let by_quorum = (result.decided_by.as_str(), result.problem) == ("quorum", Some(ProblemKind::Caa));
        assert!(by_quorum, "the primary was told that there is no CAA, the remotes were not: {scenario:?} {result:?}");
    }
    faulty.heal();

    // With one thing wrong, on every wire and for every question: as if it had not been sent.
    for (what, forgery) in [
        ("forged answers with a wrong id", Forgery::WrongId),
        ("forged answers in a wrong case", Forgery::WrongCase),
        ("forged answers from a wrong port", Forgery::WrongPort),
    ] {
        faulty.play(&forging(vec![forgery]));
        let scenarios = faulty.some(2, |_| true);
        faulty.ask(what, scenarios).assert_exact(|_| true);
        let done = faulty.forwarded();
        assert!(done.iter().all(|wire| wire.policy.questions > 100), "{what}: {done:?}");
        faulty.heal();
    }

    // Ten thousand guesses at each question of one perspective. They fill its sockets, so that it may miss true
    // answers; at a remote nobody notices, and at the primary nothing passes for them.
    let of_dns = [Kind::DnsOk, Kind::CaaIssue, Kind::CaaOther, Kind::MpLag3];
    for (index, who) in [(2, "a remote"), (0, "the primary")] {
        faulty.play_at(index, &forging(vec![Forgery::Guesses]));
        let scenarios = faulty.some(4, |kind| of_dns.contains(&kind));
        let answers = faulty.ask(&format!("ten thousand guesses at each question of {who}"), scenarios);
        if index != 0 {
            answers.assert_exact(|_| true);
        }
        // A remote that is not awaited still has its guesses to come.
        let guessed = || faulty.figure(index, "stray_datagrams_total");
        netns::wait("guesses arrive", Duration::from_secs(30), || guessed() > 20_000);
        eprintln!("  {} guesses belonged to no question", guessed());
        faulty.heal();
        faulty.until_quiet(index);
    }

    // Resets to both ends of every connection, at numbers that do not count.
    faulty.play(&Rules { forge: Forge { resets: true, ..Forge::default() }, ..Rules::default() });
    let scenarios = faulty.some(3, is_of_tcp);
    faulty.ask("resets at wrong numbers", scenarios).assert_exact(|_| true);
    let done = faulty.forwarded();
    assert!(done.iter().all(|wire| wire.policy.forged_resets > 100), "{done:?}");
    faulty.heal();
    faulty.assert_healed("forging");
    faulty.end();
}

/// The same where nodes have addresses and a TCP of their own.
#[test]
fn a12_nodes_over_frames_believe_nothing_that_nobody_sent_and_send_again_what_is_lost() {
    let _alone = alone();
    let Some(mut faulty) = Faulty::make_raw(94) else { return };
    faulty.assert_healed("nothing");
    let mixed = Impairment {
        delay_ms: 10.0,
        jitter_ms: 10.0,
        duplicate: 0.1,
        reorder: 0.1,
        reorder_ms: 25.0,
        ..Impairment::default()
    };
    faulty.play(&both(mixed));
    let scenarios = faulty.some(1, |_| true);
    faulty.ask("over frames: late, doubled and out of order", scenarios).assert_exact(|_| true);
    faulty.heal();
    for forgery in [Forgery::WrongId, Forgery::WrongCase, Forgery::WrongPort] {
        faulty.play(&forging(vec![forgery]));
        let scenarios = faulty.some(1, |_| true);
        faulty.ask(&format!("over frames: forged answers, {forgery:?}"), scenarios).assert_exact(|_| true);
        faulty.heal();
    }
    faulty.play(&Rules { forge: Forge { resets: true, ..Forge::default() }, ..Rules::default() });
    let scenarios = faulty.some(2, is_of_tcp);
    faulty.ask("over frames: resets at wrong numbers", scenarios).assert_exact(|_| true);
    let done = faulty.forwarded();
    assert!(done.iter().all(|wire| wire.policy.forged_resets > 100), "{done:?}");
    faulty.heal();
    let loss = 0.05;
    faulty.play(&both(Impairment { loss, ..Impairment::default() }));
    let scenarios = faulty.some(1, |_| true);
    let answers = faulty.ask("over frames: 5 % loss", scenarios);
    assert_few_missed(&answers, loss);
    faulty.heal();
    faulty.assert_healed("faults over frames");
    faulty.end();
}

/// What nftables does while resolvers are away: as a host does on whose port nobody listens.
const RESOLVERS_AWAY: &str = "table inet away {
  chain in {
    type filter hook input priority 0;
    udp dport 5300 counter reject with icmpx port-unreachable
    tcp dport 5300 reject with tcp reset
  }
}
";
/// For how long.
const AWAY: Duration = Duration::from_secs(2);

/// Has all resolvers go away soon and come back; the number of datagrams that found nobody.
fn restart_resolvers(faulty: &Faulty) -> std::thread::JoinHandle<u64> {
    let rules = faulty.deployment.bench.write("away.nft", RESOLVERS_AWAY);
    let world = faulty.deployment.net.world.name().to_owned();
    std::thread::spawn(move || {
        let nft = |arguments: &[&str]| {
            let output = Command::new("ip").args(["netns", "exec", &world, "nft"]).args(arguments).output();
            let output = output.expect("iproute2 is installed");
            assert!(output.status.success(), "nft {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        std::thread::sleep(Duration::from_millis(300));
        nft(&["-f", rules.to_str().unwrap()]);
        std::thread::sleep(AWAY);
        let listed = nft(&["list", "table", "inet", "away"]);
        nft(&["delete", "table", "inet", "away"]);
        let mut words = listed.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{listed}"))
    })
}

#[test]
fn a12_what_a_machine_runs_out_of_is_our_fault_and_never_a_wrong_pass() {
    let _alone = alone();
    let Some(mut faulty) = Faulty::make(92) else { return };
    faulty.assert_healed("nothing");

    // All resolvers go away in the midst of it and come back after two seconds.
    let scenarios = faulty.some(3, |_| true);
    // A host without a resolver says so, but not more often than this; the rest would look like silence. Kernels before
    // 6.13 have the last two for the whole machine only.
    let unlimited =
        [("ipv4/icmp_ratelimit", "0"), ("ipv4/icmp_msgs_per_sec", "1000000"), ("ipv4/icmp_msgs_burst", "1000000")];
    let is_told_of_all = faulty.deployment.net.world.set(&unlimited).is_ok();
    let away = restart_resolvers(&faulty);
    let answers = faulty.ask("resolvers restarted", scenarios);
    let refused = away.join().unwrap();
    eprintln!("  {refused} datagrams found nobody; {} requests were missed", answers.missed().count());
    assert!(refused > 0, "nobody noticed that the resolvers were away");
    for (scenario, result) in answers.missed() {
        let is_ours = result.blame == Some(Blame::Perspective);
        // Where one remote sees something else at any time, that is told too.
        let is_told_apart = scenario.kind.slug().starts_with("mp-");
        assert!(is_ours || is_told_apart || !is_told_of_all, "{scenario:?}: {result:?}");
    }
    faulty.assert_healed("resolvers that were away");

    // No descriptors, at a remote and then at the primary: their own fault.
    let limit = |faulty: &Faulty, index: usize, most: Option<u64>| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let pid = Pid::from_raw(faulty.nodes[index].pid());
        prlimit(pid, Resource::Nofile, Rlimit { current: most.or(maximum), maximum }).unwrap();
    };
    for (index, who) in [(4, "a remote"), (0, "the primary")] {
        limit(&faulty, index, Some(8));
        let scenarios = faulty.some(2, |_| true);
        let answers = faulty.ask(&format!("{who} without descriptors"), scenarios);
        assert_ours(&faulty, &answers, index);
        limit(&faulty, index, None);
        faulty.assert_healed(&format!("{who} without descriptors"));
    }

    // Two source ports for connections, the same way.
    let ports = |faulty: &Faulty, index: usize, range: &str| {
        faulty.deployment.net.nodes[index].set(&[("ipv4/ip_local_port_range", range)]).unwrap();
    };
    for (index, who) in [(5, "a remote"), (0, "the primary")] {
        ports(&faulty, index, "61000 61001");
        let scenarios = faulty.some(2, |_| true);
        let answers = faulty.ask(&format!("{who} without source ports"), scenarios);
        assert_ours(&faulty, &answers, index);
        ports(&faulty, index, "32768 60999");
        faulty.assert_healed(&format!("{who} without source ports"));
    }
    faulty.end();
}

/// Where one perspective lacks what it needs: if it is a remote nobody else notices, and whatever it could not do is
/// told as our fault.
fn assert_ours(faulty: &Faulty, answers: &faulty::Answers, index: usize) {
    let id = &faulty.deployment.fleet.places[index].id;
    let mut parts = 0;
    for record in faulty.records(answers) {
        let (scenario, _) = answers.of.iter().find(|(s, _)| s.id() == record.request.id.as_str()).unwrap();
        // What confirms everywhere else and not here is due to what is missing here.
        let is_right_there = scenario.kind.outcome().problem.is_none() && !scenario.kind.slug().starts_with("mp-");
        for part in record.explanation.parts.iter().filter(|part| part.perspective.as_str() == id && is_right_there) {
            parts += 1;
            assert_eq!(part.blame, Blame::Perspective, "{:?}: {part:?}", scenario.kind);
            assert_eq!(part.problem, ProblemKind::ServerInternal, "{:?}: {part:?}", scenario.kind);
        }
    }
    eprintln!("  {id} could not do its part in {parts} of them");
    assert!(parts > 0, "{id} lacked nothing");
}

#[test]
fn a12_a_node_with_a_wrong_clock_harms_its_own_answers_only_and_says_so() {
    let _alone = alone();
    let Some(library) = faketime() else { return };
    let Some(mut faulty) = Faulty::make(93) else { return };
    let id = faulty.deployment.fleet.places[1].id.clone();
    let clock = faulty.deployment.bench.write("clock", "+0");
    let start = |faulty: &Faulty| {
        let mut command = Command::new(node_program());
        command.arg("run").arg("--config").arg(faulty.deployment.bench.path(&format!("{id}.toml")));
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
        // What is between two moments is told by another clock, and stays as it is.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        faulty.deployment.net.nodes[1].inside(|| Program::start(&id, &mut command)).unwrap()
    };
    let set_clock = |offset: &str| std::fs::write(&clock, offset).unwrap();

    // Two hours ahead from the start, then two behind while it runs: certificates were looked at when the link was
    // made, and nothing else hangs on the clock here.
    faulty.nodes[1].stop();
    set_clock("+2h");
    faulty.nodes[1] = start(&faulty);
    faulty.until_linked();
    for offset in ["+2h", "-2h"] {
        set_clock(offset);
        let scenarios = faulty.some(1, |_| true);
        faulty.ask(&format!("a remote at {offset}"), scenarios).assert_exact(|_| true);
    }

    // A clock at which its own certificate does not hold: it does not start, and says why.
    for (offset, why) in [("-2h", "not valid before"), ("+40d", "expired")] {
        faulty.nodes[1].stop();
        set_clock(offset);
        faulty.nodes[1] = start(&faulty);
        let node = &mut faulty.nodes[1];
        assert_eq!(node.ends(), 2, "{}", node.said());
        assert!(node.said().contains(&format!("{id}.pem: {why}")), "{}", node.said());
        // A refusal awaits who is away; kinds of which one remote does not confirm have two now.
        let scenarios = faulty.some(1, |kind| !kind.slug().starts_with("mp-"));
        faulty.ask(&format!("a remote that did not start at {offset}"), scenarios).assert_exact(|_| true);
    }

    // A clock that goes wrong before the link is made: the engine's certificate is not believed, and both sides say so.
    faulty.deployment.net.plug(1, false);
    set_clock("+0");
    faulty.nodes[1] = start(&faulty);
    faulty.nodes[1].says("serving on", 1);
    set_clock("-2h");
    faulty.deployment.net.plug(1, true);
    faulty.nodes[1].says("not valid yet", 1);
    let refused = format!("perspective {id}: no link: the node closed the connection before it said anything; its log");
    faulty.engine_says(&refused, 1);
    let scenarios = faulty.some(1, |kind| !kind.slug().starts_with("mp-"));
    faulty.ask("a remote whose clock went wrong", scenarios).assert_exact(|_| true);

    set_clock("+0");
    faulty.until_linked();
    faulty.assert_healed("a wrong clock");
    faulty.end();
}

/// The library that plays another clock, of the Debian package `faketime`. None, which is told, if it is not installed.
fn faketime() -> Option<PathBuf> {
    let directories = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library = |directory: std::fs::DirEntry| directory.path().join("faketime/libfaketime.so.1");
    let found = directories.map(library).find(|library| library.exists());
    tested(found, netns::required())
}

/// What was found, or none, which is told; where the tests must run it is an error.
fn tested(found: Option<PathBuf>, required: bool) -> Option<PathBuf> {
    if found.is_none() {
        assert!(!required, "these tests must run here, but the package faketime is not installed");
        // Not through the test's captured output: who reads the run's must see it.
        let _ = std::io::stderr().write_all(b"\nNOT TESTED, the package faketime is not installed\n\n");
    }
    found
}

#[test]
#[should_panic(expected = "faketime is not installed")]
fn err_the_clock_test_is_not_left_out_where_it_must_run() {
    assert_eq!(tested(None, false), None);
    tested(None, true);
}
