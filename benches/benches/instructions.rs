//! Instructions of each stage, counted by valgrind: what a change costs, to the instruction, on a machine that is busy.
//!
//! The program runs itself under callgrind, once with one round of a stage and once with many; the difference over the
//! rounds is what one costs, without its start. Counts are of user space: what the kernel does is `perf`'s to measure.
//! They are the same from run to run but for hashes and addresses that are drawn anew, within a few in a thousand.
//!
//! ```text
//! cargo bench -p parallax-benches --bench instructions                       # all stages
//! cargo bench -p parallax-benches --bench instructions -- task               # those with this in their name
//! cargo bench -p parallax-benches --bench instructions -- --against FILE     # beside what an earlier run printed
//! ```
//!
//! Without `--bench`, as `cargo test` calls it, each stage runs once and nothing is counted.

use std::{
    collections::BTreeMap,
    fs,
    hint::black_box,
    process::{Command, ExitCode},
};

use parallax_benches::{
    FixedBits, HTTP_RESPONSE, NAME, bulk_line, caa_rdata, caa_reply, challenge_certificate, decided, observation,
    record, replies, request, rules, task, terms,
};
use parallax_engine::input::{Format, Input};
use parallax_validation::{
    base::{address::AddressFilter, perspective::Role},
    check::{
        caa::authorize::{CaaContext, CaaSubject, authorize},
        dcv::Method,
        judge,
    },
    lookup::{
        dns::message::{Question, compose, match_reply, read_reply},
        dnssec::chain::ZoneCache,
        http::response::Response,
        tls::certificate::facts,
    },
    observation::RecordType,
    plan::{Host, Plan},
    record::Record,
};

/// Rounds whose cost is spread; one more is what the start is taken to cost.
const ROUNDS: u64 = 200;
/// Tells the program that it is counted: the stage and its rounds follow.
const COUNTED: &str = "--counted";

/// A stage: so many rounds of it.
type Stage = fn(u64);

/// That of the programs: what allocation costs is part of most stages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STAGES: [(&str, Stage); 14] = [
    ("request/json_line", request_line),
    ("dns/compose", dns_compose),
    ("dns/match_and_read", dns_read),
    ("http/response", http_response),
    ("tls/certificate_facts", certificate_facts),
    ("task/dns-01", |rounds| whole_task(&without_caa(task::plan(Method::Dns01)), rounds)),
    ("task/dns-01_and_caa", |rounds| whole_task(&task::plan(Method::Dns01), rounds)),
    ("task/http-01_and_caa", |rounds| whole_task(&task::plan(Method::Http01), rounds)),
    ("check/dns-01", |rounds| judged(Method::Dns01, rounds)),
    ("check/http-01", |rounds| judged(Method::Http01, rounds)),
    ("check/tls-alpn-01", |rounds| judged(Method::TlsAlpn01, rounds)),
    ("check/caa_4_records", caa),
    ("record/new", record_new),
    ("record/recompute", record_recompute),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, stage, rounds] = arguments.as_slice()
        && flag == COUNTED
    {
        let rounds = rounds.parse().expect("a number of rounds");
        stage_of(stage).expect("a stage")(rounds);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        for (name, stage) in STAGES {
            stage(1);
            println!("{name}: runs");
        }
        return ExitCode::SUCCESS;
    }
    match count_all(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("instructions: {why}");
            ExitCode::FAILURE
        }
    }
}

fn stage_of(name: &str) -> Option<Stage> {
    STAGES.iter().find(|(stage, _)| *stage == name).map(|(_, stage)| *stage)
}

fn count_all(arguments: &[String]) -> Result<(), String> {
    let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
    let (mut filter, mut earlier) = (None, BTreeMap::new());
    while let Some(argument) = rest.next() {
        if argument == "--against" {
            let file = rest.next().ok_or("--against needs a file")?;
            earlier = read_counts(&fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?);
        } else {
            filter = Some(argument.as_str());
        }
    }
    println!("{:<24} {:>12}", "stage", "instructions");
    for (name, _) in STAGES.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter))) {
        let each = (count(name, ROUNDS + 1)?.saturating_sub(count(name, 1)?)) / ROUNDS;
        let beside = earlier.get(*name).map_or_else(String::new, |before: &u64| {
            format!("  {:+.1} % of {before}", (each as f64 / (*before).max(1) as f64 - 1.0) * 100.0)
        });
        println!("{name:<24} {each:>12}{beside}");
    }
    Ok(())
}

/// What an earlier run printed.
fn read_counts(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    });
    lines.collect()
}

/// Instructions of a whole run of this program.
fn count(stage: &str, rounds: u64) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| format!("the path of this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([COUNTED, stage, &rounds.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error} (Debian's package `valgrind` has it)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{stage}: {}: {said}", output.status));
    }
    // "==PID== Collected : 123456"
    let collected = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    collected.and_then(|count| count.parse().ok()).ok_or_else(|| format!("{stage}: no count in: {said}"))
}

fn request_line(rounds: u64) {
    let line = bulk_line("order-4711/0", Method::Http01);
    for _ in 0..rounds {
        let mut input = Input::new(black_box(line.as_bytes()), Format::JsonLines, AddressFilter::default().into());
        let parsed = input.next_line().expect("memory can be read").expect("a line").1;
        assert!(black_box(parsed).is_ok());
    }
}

fn dns_compose(rounds: u64) {
    let mut question = Question::new(NAME, RecordType::Caa).expect("a good name");
    let (mut bits, mut buffer) = (FixedBits(1), Vec::new());
    for _ in 0..rounds {
        question.mix_case(&mut bits);
        compose(black_box(&question), 0x5eed, &mut buffer);
        black_box(&buffer);
    }
}

fn dns_read(rounds: u64) {
    let mut question = Question::new(NAME, RecordType::Caa).expect("a good name");
    question.mix_case(&mut FixedBits(1));
    let packet = caa_reply(0x5eed, question.section());
    for _ in 0..rounds {
        black_box(match_reply(black_box(&packet), 0x5eed, question.section()));
        assert!(black_box(read_reply(black_box(&packet), &question)).is_ok());
    }
}

fn http_response(rounds: u64) {
    for _ in 0..rounds {
        let mut response = Response::default();
        black_box(response.push(black_box(HTTP_RESPONSE.as_bytes())));
        assert!(black_box(response).head().is_some());
    }
}

fn certificate_facts(rounds: u64) {
    let (der, host) = (challenge_certificate(), Host::Name(NAME.to_owned()));
    for _ in 0..rounds {
        assert!(black_box(facts(black_box(&der), &host)).content.is_some());
    }
}

fn whole_task(plan: &Plan, rounds: u64) {
    let (settings, mut zones) = (task::settings(), ZoneCache::default());
    for _ in 0..rounds {
        let seen = task::run(black_box(plan), &settings, &mut zones);
        assert_eq!((seen.control.is_some(), seen.caa.len()), (true, plan.caa_levels.len()));
    }
}

fn without_caa(plan: Plan) -> Plan {
    Plan { caa_levels: Vec::new(), ..plan }
}

fn judged(method: Method, rounds: u64) {
    let (request, seen, policy) = (request(method), observation(method), rules().setup().caa.clone());
    for _ in 0..rounds {
        assert!(judge(black_box(&request), black_box(&seen), &policy, Role::Remote).confirms());
    }
}

fn caa(rounds: u64) {
    let (policy, set) = (rules().setup().caa.clone(), caa_rdata());
    let set: Vec<&[u8]> = set.iter().map(Vec::as_slice).collect();
    let method_labels = Method::Http01.caa_labels();
    let context = CaaContext { subject: CaaSubject::Name, account_uri: None, method_labels };
    for _ in 0..rounds {
        assert!(authorize(black_box(&set), &policy, &context).permitted);
    }
}

fn record_new(rounds: u64) {
    let (rules, request) = (rules(), request(Method::Http01));
    let terms = terms(&request);
    for _ in 0..rounds {
        let record = Record::new(&rules, black_box(&terms), decided(), replies(Method::Http01));
        assert!(black_box(record).verdict.permits());
    }
}

fn record_recompute(rounds: u64) {
    let rules = rules();
    let record = record(&rules);
    for _ in 0..rounds {
        assert_eq!(black_box(&record).recompute(&rules), Ok(()));
    }
}
