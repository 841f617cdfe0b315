//! Alarms of a journal, from the program that follows it to the receiver (req H10–H12).

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use parallax_engine::{
    audit::{Item, Items},
    config::{Config, SAMPLE},
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    journal::{JournalOptions, Writer},
};
use parallax_perf::lab::{generate::request_line, kinds::Kind, world::Scenario};
use parallax_validation::{
    base::attempt::AttemptId,
    record::{Record, Reply, Rules, Terms},
    request::{CheckRequest, RawRequest},
    verdict::PerspectiveState,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use support::{Bench, Ended, Running, journal};

const SECRET: &[u8] = b"a secret of thirty-two octets, 1";

/// A directory with a journal that grows by hand, and a secret.
struct Place {
    directory: tempfile::TempDir,
    rules: Rules,
    writer: Writer,
    records: u64,
    /// When the records begin, seconds: 20 seconds before a minute ends.
    begin: i64,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = "2026-11-25T12:00:00Z".parse().unwrap();
        let rules = Config::parse(SAMPLE, Path::new("sample"), at).unwrap().rules;
        let (mut writer, _) = Writer::open(&directory.path().join("j"), JournalOptions::default()).unwrap();
        writer.append(ENTRY_SETUP, &serde_json::to_vec(rules.setup()).unwrap()).unwrap();
        writer.commit().unwrap();
        fs::write(directory.path().join("secret"), SECRET).unwrap();
        fs::set_permissions(directory.path().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { directory, rules, writer, records: 0, begin: 1_795_000_000 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Refusals, each its own alarm; one a second.
    fn refuse(&mut self, count: u64, state: PerspectiveState) {
        for _ in 0..count {
            self.records += 1;
            let id = format!("r{}", self.records);
            let raw =
                RawRequest { identifier: format!("{id}.example"), method: "caa".to_owned(), ..RawRequest::default() };
            let at = jiff::Timestamp::from_second(self.begin + i64::try_from(self.records).unwrap()).unwrap();
            let request = CheckRequest::parse(raw, &id, &Default::default(), at).unwrap();
            let replies = vec![Reply::None(state)];
            let members = self.rules.members(at, None).unwrap();
            let attempt = AttemptId(self.records.into());
            let terms = Terms { attempt, request: &request, started: at, members: &members, seed: None, restart: None };
            let record = Record::new(&self.rules, &terms, at, replies);
            self.writer.append(ENTRY_RECORD, &serde_json::to_vec(&record).unwrap()).unwrap();
        }
        self.writer.commit().unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parallax"));
        command.args(["watch", "j", "--json"]).args(arguments).current_dir(self.directory.path());
        // What goes to this host goes through no proxy.
        command.env("ALL_PROXY", "http://127.0.0.1:9");
        command
    }

    fn start(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(arguments), self.directory.path())
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }

    fn cursor(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path("j.watch")).ok()?;
        serde_json::from_str::<Value>(&text).unwrap()["sequence"].as_u64()
    }
}

/// One POST as it came.
#[derive(Clone, Debug)]
struct Post {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Post {
    fn read(connection: impl Read) -> Option<Self> {
        let mut reader = BufReader::new(connection);
        let mut line = String::new();
        // A connection that carries no request, such as one whose handshake failed.
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        assert_eq!(line.trim_end(), "POST /hook HTTP/1.1");
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        Some(Self { headers, body })
    }

    fn alarms(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(body["type"], "parallax.alarms");
        body["data"]["alarms"].as_array().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        ids(&self.alarms())
    }

    /// HMAC-SHA256 (RFC 2104) once more, from the hash alone.
    fn assert_signed(&self, secrets: &[&[u8]]) {
        let (id, timestamp) = (&self.headers["webhook-id"], &self.headers["webhook-timestamp"]);
        let now = jiff::Timestamp::now().as_second();
        assert!((timestamp.parse::<i64>().unwrap() - now).abs() < 300, "{timestamp}");
        let content = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &self.body].concat();
        let signatures: Vec<String> = secrets
            .iter()
            .map(|secret| {
                let mut key = [0_u8; 64];
                key[..secret.len()].copy_from_slice(secret);
                let inner = Sha256::digest([key.map(|octet| octet ^ 0x36).as_slice(), &content].concat());
                let outer = Sha256::digest([key.map(|octet| octet ^ 0x5c).as_slice(), inner.as_slice()].concat());
                format!("v1,{}", BASE64.encode(outer))
            })
            .collect();
        assert_eq!(self.headers["webhook-signature"], signatures.join(" "));
        assert_eq!(self.headers["content-type"], "application/json");
    }
}

fn ids(alarms: &[Value]) -> Vec<String> {
    alarms.iter().map(|alarm| alarm["id"].as_str().unwrap().to_owned()).collect()
}

/// A receiver: each POST is answered with the next status, and the last one from then on; 0 is no answer at all.
struct Receiver {
    url: String,
    posts: mpsc::Receiver<Post>,
    got: Arc<Mutex<Vec<Post>>>,
}

impl Receiver {
    fn start(statuses: &'static [u16]) -> Self {
        Self::start_with(statuses, "http", |connection, status| {
            let post = Post::read(&connection)?;
            Some((post, Box::new(move || answer(&connection, status))))
        })
    }

    fn start_with(
        statuses: &'static [u16],
        scheme: &str,
        serve: impl Fn(TcpStream, u16) -> Option<(Post, Box<dyn FnOnce()>)> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}/hook", listener.local_addr().unwrap());
        let (posts_in, posts) = mpsc::channel();
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            let mut answered = 0;
            for connection in listener.incoming() {
                let connection = connection.unwrap();
                let status = *statuses.get(answered).unwrap_or(statuses.last().unwrap());
                open.push(connection.try_clone().unwrap());
                let Some((post, respond)) = serve(connection, status) else { continue };
                answered += 1;
                kept.lock().unwrap().push(post.clone());
                if status != 0 {
                    open.pop();
                    respond();
                }
                if posts_in.send(post).is_err() {
                    return;
                }
            }
        });
        Self { url, posts, got }
    }

    fn next(&self) -> Post {
        self.posts.recv_timeout(support::RUN_MAX).unwrap()
    }

    fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

fn answer(mut connection: impl Write, status: u16) {
    // Who asked may have gone.
    let _ = write!(connection, "HTTP/1.1 {status} -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = connection.flush();
}

fn pem(certificate: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(certificate))
}

/// Waits until it says something.
fn wait_for(running: &mut Running, text: &str) {
    let begun = Instant::now();
    while !running.said().contains(text) {
        assert!(!running.ends_within(Duration::ZERO), "ended: {}", running.said());
        assert!(begun.elapsed() < support::RUN_MAX, "never: {text}: {}", running.said());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The alarms on standard output, and the report.
fn output(out: &str) -> (Vec<Value>, Value) {
    let mut lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let report = lines.pop().unwrap_or_default()["report"].clone();
    (lines, report)
}

#[test]
fn h10_h12_the_alarms_of_a_run_are_those_of_its_records() {
    const KINDS: [Kind; 8] = [
        Kind::HttpOk,
        Kind::DnsOk,
        Kind::CaaNone,
        Kind::HttpWrongBody,
        Kind::MpHijack2,
        Kind::MpHijackPrimary,
        Kind::MpLag3,
        Kind::MpCaaDiffers2,
    ];
    let bench = Bench::new(50, 50, 5_000);
    let scenarios: Vec<Scenario> =
        KINDS.iter().flat_map(|kind| bench.scenarios().filter(move |s| s.kind == *kind).take(2)).collect();
    bench.write("some.jsonl", scenarios.iter().map(|s| request_line(s) + "\n").collect::<String>());
    bench.run(&["bulk", "some.jsonl", "--journal", "j", "--out", "o"]).expect(0, &[]);
    let shown = bench.run(&["journal", "show", "j", "--json"]).out;
    let records: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), scenarios.len());

    // What follows from the records, in plain JSON.
    let with = |record: &Value, state: &str| -> Vec<String> {
        let parts = record["perspectives"].as_array().unwrap().iter().filter(|part| part["state"] == state);
        parts.map(|part| part["perspective"].as_str().unwrap().to_owned()).collect()
    };
    let mut wanted = BTreeSet::new();
    for record in &records {
        let attempt = record["attempt"].as_str().unwrap().to_owned();
        let against = with(record, "contradicted");
        if !with(record, "confirmed").is_empty() && !against.is_empty() {
            wanted.insert(("contradiction", attempt.clone(), against));
        }
        if record["verdict"].get("refused").is_some() {
            let part = record["perspectives"].as_array().unwrap().iter();
            let not = ["confirmed", "not_asked", "not_awaited", "cancelled"].map(Value::from);
            let refusing = part.filter(|part| !not.contains(&part["state"]));
            let refusing = refusing.map(|part| part["perspective"].as_str().unwrap().to_owned()).collect();
            wanted.insert(("failed_validation", attempt, refusing));
        }
    }
    let (_, late) = journal(&bench.path("j"));
    let contradicting = late.iter().filter(|entry| entry.contradicts_verdict).count();

    let ended = bench.run(&["watch", "j", "--json"]);
    assert_eq!(ended.status, Some(if contradicting > 0 { 1 } else { 0 }), "{}", ended.err);
    let (alarms, report) = output(&ended.out);
    let mut found = BTreeSet::new();
    for alarm in &alarms {
        let kind = match alarm["kind"].as_str().unwrap() {
            "contradiction" => "contradiction",
            "failed_validation" => "failed_validation",
            "late_contradiction" => continue,
            other => panic!("{other}: {alarm}"),
        };
        let names = alarm["perspectives"].as_array().unwrap();
        let names = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        found.insert((kind, alarm["attempt"].as_str().unwrap().to_owned(), names));
        let record = records.iter().find(|record| record["attempt"] == alarm["attempt"]).unwrap();
        assert_eq!(alarm["request"], record["request"]["id"]);
        assert_eq!(alarm["at"], record["decided"]);
        assert_eq!(alarm["problem"], record["explanation"]["problem"]);
        assert_eq!(alarm["blame"], record["explanation"]["blame"]);
        let said = record["explanation"]["message"].as_str().unwrap();
        assert!(alarm["message"].as_str().unwrap().ends_with(said), "{alarm}");
    }
    assert_eq!(found, wanted);
    assert_eq!(alarms.len(), wanted.len() + contradicting);
    let kinds = |kind: Kind| -> BTreeSet<String> {
        let ids = scenarios.iter().filter(|s| s.kind == kind).map(Scenario::id).collect::<Vec<_>>();
        let of_kind = alarms.iter().filter(|alarm| alarm["kind"] == "contradiction");
        let of_kind = of_kind.filter(|alarm| ids.iter().any(|id| alarm["request"] == id.as_str()));
        of_kind.map(|alarm| alarm["class"].as_str().unwrap().to_owned()).collect()
    };
    // Led to the attacker by DNS; TXT that some see, in zones with one serial; another set of CAA records.
    for kind in [Kind::MpHijack2, Kind::MpLag3, Kind::MpCaaDiffers2] {
        assert_eq!(kinds(kind), BTreeSet::from(["split_view".to_owned()]), "{kind:?}");
    }
    assert_eq!(kinds(Kind::HttpWrongBody), BTreeSet::new(), "all see the same");

    // The table: what each perspective answered, and nothing else.
    assert_eq!((&report["records"], &report["late"]), (&records.len().into(), &late.len().into()));
    for row in report["rows"].as_array().unwrap().iter().filter(|row| row["sort"] == "perspective") {
        let name = row["key"].as_str().unwrap().to_owned();
        for state in ["confirmed", "contradicted", "failed"] {
            let count = records.iter().filter(|record| with(record, state).contains(&name)).count();
            assert_eq!(row["all"][state], count, "{name}: {state}");
        }
    }
    let text = bench.run(&["watch", "j"]).out;
    assert!(text.contains("contradiction (split_view)") && text.contains("perspective"), "{text}");
    assert!(!bench.path("j.watch").exists(), "a look leaves nothing behind");
    bench.run(&["watch", "nothing-there"]).expect(2, &["nothing-there"]);
}

#[test]
fn h12_batches_are_signed_and_sent_again_until_they_are_taken() {
    let mut place = Place::new();
    place.refuse(120, PerspectiveState::TimedOut);
    let other = b"another secret, with whsec_ before";
    let encoded = format!("whsec_{}\n", BASE64.encode(other));
    fs::write(place.path("other"), encoded).unwrap();
    fs::set_permissions(place.path("other"), fs::Permissions::from_mode(0o600)).unwrap();
    let receiver = Receiver::start(&[503, 200]);
    let hook =
        ["--per-minute", "1000", "--webhook", &receiver.url, "--webhook-secret", "secret", "--webhook-secret", "other"];
    let ended = place.run(&hook);
    ended.expect(0, &["does not take alarms (HTTP status 503)", "the cursor stays at entry 0", "takes alarms again"]);
    let posts = receiver.got.lock().unwrap().clone();
    posts.iter().for_each(|post| post.assert_signed(&[SECRET, other]));
    // The first came twice, as the same message.
    assert_eq!((&posts[0].headers["webhook-id"], &posts[0].body), (&posts[1].headers["webhook-id"], &posts[1].body));
    let names: BTreeSet<&String> = posts.iter().map(|post| &post.headers["webhook-id"]).collect();
    assert_eq!(names.len(), posts.len() - 1);
    assert!(posts.len() > 3 && posts.iter().all(|post| post.body.len() < 20_000 && post.alarms().len() <= 50));
    let told: Vec<String> = posts[1..].iter().flat_map(Post::ids).collect();
    assert_eq!(told.len(), 120);
    assert_eq!(told, ids(&output(&ended.out).0));
    assert_eq!(place.cursor(), Some(121));

    // Nothing is told twice, and what is new is told.
    let before = receiver.count();
    let again = place.run(&hook);
    assert_eq!((again.status, output(&again.out).0.len(), receiver.count()), (Some(0), 0, before), "{}", again.err);
    place.refuse(1, PerspectiveState::RejectedReply);
    let new = place.run(&hook);
    assert_eq!(new.status, Some(1), "a rejected reply is critical: {}", new.err);
    let (alarms, report) = output(&new.out);
    assert_eq!(ids(&alarms), receiver.got.lock().unwrap().last().unwrap().ids());
    let kinds: Vec<&str> = alarms.iter().map(|alarm| alarm["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["failed_validation", "rejected_reply"]);
    assert_eq!((&report["delivered"], &report["records"]), (&2.into(), &121.into()));
}

#[test]
fn h12_a_receiver_that_refuses_stops_it_and_the_cursor_stays() {
    let mut place = Place::new();
    place.refuse(3, PerspectiveState::TimedOut);
    let receiver = Receiver::start(&[410]);
    let hook = ["--follow", "--webhook", &receiver.url, "--webhook-secret", "secret"];
    place.run(&hook).expect(3, &["410", "from entry 2 on", "the cursor stays"]);
    assert_eq!((receiver.count(), place.cursor()), (1, None));
    // Once it takes them, they come.
    let receiver = Receiver::start(&[200]);
    let hook = ["--webhook", &receiver.url, "--webhook-secret", "secret"];
    place.run(&hook).expect(0, &[]);
    assert_eq!((receiver.next().ids().len(), place.cursor()), (3, Some(4)));
}

#[test]
fn h12_killed_before_the_receiver_answered_everything_comes_again() {
    let mut place = Place::new();
    place.refuse(90, PerspectiveState::TimedOut);
    // Above the rate: some come by themselves, the others in digests.
    let silent = Receiver::start(&[200, 0]);
    let hook = |url: &str, follow: bool| -> Vec<String> {
        let words = ["--per-minute", "25", "--webhook", url, "--webhook-secret", "secret"];
        words.into_iter().chain(follow.then_some("--follow")).map(str::to_owned).collect()
    };
    let arguments = hook(&silent.url, true);
    let mut running = place.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let first = silent.next();
    let second = silent.next();
    running.kill();
    drop(running);
    let about = |alarm: &Value| alarm["digest"]["first_entry"].as_u64().or(alarm["entry"].as_u64()).unwrap();
    let unanswered = second.alarms();
    assert_eq!(place.cursor(), unanswered.iter().map(about).min().map(|entry| entry - 1));

    place.refuse(5, PerspectiveState::RejectedReply);
    let taking = Receiver::start(&[200]);
    let arguments = hook(&taking.url, false);
    let ended = place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    ended.expect(1, &[]);
    let told: Vec<Value> = [&first].into_iter().chain(&*taking.got.lock().unwrap()).flat_map(Post::alarms).collect();
    let names: BTreeSet<String> = ids(&told).into_iter().collect();
    assert_eq!(names.len(), told.len(), "nothing that was answered for comes again");
    let single = unanswered.iter().filter(|alarm| alarm["digest"].is_null()).cloned().collect::<Vec<_>>();
    assert!(!single.is_empty());
    assert!(ids(&single).iter().all(|id| names.contains(id)), "what was not answered for comes again, by the same id");
    let single = told.iter().filter(|alarm| alarm["digest"].is_null()).count() as u64;
    let counted: u64 = told.iter().filter_map(|alarm| alarm["digest"]["total"].as_u64()).sum();
    assert_eq!(single + counted, 90 + 2 * 5);
    assert_eq!(place.cursor(), Some(96));
}

#[test]
fn h12_what_is_held_back_for_a_digest_holds_the_cursor_back() {
    let mut place = Place::new();
    // A minute that does not end during the test.
    place.begin = (jiff::Timestamp::now().as_second() / 60 + 4) * 60;
    place.refuse(10, PerspectiveState::TimedOut);
    let receiver = Receiver::start(&[200]);
    let hook = ["--per-minute", "2", "--webhook", &receiver.url, "--webhook-secret", "secret"];
    let mut running = place.start(&[&hook[..], &["--follow"]].concat());
    assert_eq!(receiver.next().ids().len(), 2);
    while place.cursor().is_none() {
        assert!(!running.ends_within(Duration::ZERO), "{}", running.said());
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill();
    assert_eq!(place.cursor(), Some(3), "entries 2 and 3 are told, the others are not");
    let ended = place.run(&hook);
    let (alarms, _) = output(&ended.expect(0, &[]).out);
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!((&alarms[0]["digest"]["total"], &alarms[0]["digest"]["first_entry"]), (&8.into(), &4.into()));
    assert_eq!((receiver.next().ids(), place.cursor()), (ids(&alarms), Some(11)));
}

#[test]
fn h12_a_digest_that_was_told_is_not_counted_again_after_a_restart() {
    let mut place = Place::new();
    place.refuse(5, PerspectiveState::TimedOut);
    let receiver = Receiver::start(&[200]);
    let hook = ["--per-minute", "2", "--webhook", &receiver.url, "--webhook-secret", "secret"];
    let running = place.start(&[&hook[..], &["--follow"]].concat());
    // Two by themselves, and by this host's clock the minute is over.
    let mut came = Vec::new();
    while came.len() < 3 {
        came.extend(receiver.next().alarms());
    }
    assert_eq!(came[2]["digest"]["total"], 3);
    running.signal(rustix::process::Signal::TERM);
    running.end().expect(4, &[]);
    assert_eq!(place.cursor(), Some(6));
    // Of the same minute.
    place.refuse(1, PerspectiveState::TimedOut);
    let (alarms, _) = output(&place.run(&hook).expect(0, &[]).out);
    assert_eq!((alarms.len(), &alarms[0]["digest"]["total"]), (1, &1.into()));
}

#[test]
fn h12_a_follower_goes_on_after_a_refusal_that_may_be_a_mistake() {
    let mut place = Place::new();
    place.refuse(1, PerspectiveState::TimedOut);
    let receiver = Receiver::start(&[403, 200]);
    let running = place.start(&["--follow", "--webhook", &receiver.url, "--webhook-secret", "secret", "--log", "json"]);
    let (first, second) = (receiver.next(), receiver.next());
    assert_eq!((first.ids().len(), first.ids()), (1, second.ids()));
    running.signal(rustix::process::Signal::TERM);
    running.end().expect(4, &["403"]);
    assert_eq!(place.cursor(), Some(2));
    // Without --follow nobody waits for it to be mended.
    place.refuse(1, PerspectiveState::TimedOut);
    let receiver = Receiver::start(&[403]);
    place.run(&["--webhook", &receiver.url, "--webhook-secret", "secret"]).expect(3, &["403"]);
}

#[test]
fn h12_a_follower_tells_what_is_written_later_and_stops_at_a_signal() {
    let mut place = Place::new();
    place.refuse(1, PerspectiveState::TimedOut);
    let receiver = Receiver::start(&[200]);
    let running = place.start(&[
        "--follow",
        "--webhook",
        &receiver.url,
        "--webhook-secret",
        "secret",
        "--metrics",
        "127.0.0.1:0",
        "--log",
        "json",
    ]);
    assert_eq!(receiver.next().ids().len(), 1);
    place.refuse(2, PerspectiveState::RejectedReply);
    let mut came = 0;
    while came < 4 {
        came += receiver.next().ids().len();
    }
    let log = running.said();
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&first["event"], &first["level"]), (&"metrics".into(), &"info".into()));
    assert!(first["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let address = first["fields"]["address"].as_str().unwrap();
    let mut text = String::new();
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    connection.read_to_string(&mut text).unwrap();
    for line in [
        "HTTP/1.1 200 OK",
        "parallax_journal_entries_total 4",
        "parallax_attempts_total{method=\"caa\",verdict=\"refused\"} 3",
        "parallax_alarms_total{kind=\"rejected_reply\",severity=\"critical\"} 2",
        "# TYPE parallax_lag_seconds gauge",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(!text.contains("r1.example") && !text.contains("r2"), "{text}");

    running.signal(rustix::process::Signal::TERM);
    let ended = running.end();
    ended.expect(4, &["\"event\":\"rejected_reply\""]);
    let (alarms, report) = output(&ended.out);
    assert_eq!((alarms.len(), &report["records"]), (5, &3.into()));
    assert_eq!(place.cursor(), Some(4));
    assert!(ended.err.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", ended.err);
}

#[test]
fn h12_https_goes_to_the_receiver_that_is_trusted_and_to_no_other() {
    let mut place = Place::new();
    place.refuse(1, PerspectiveState::TimedOut);
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(place.path("roots.pem"), pem(identity.cert.der())).unwrap();
    fs::write(place.path("stranger.pem"), pem(stranger.cert.der())).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let server = server.with_no_client_auth().with_single_cert(vec![identity.cert.der().clone()], key).unwrap();
    let server = Arc::new(server);
    let receiver = Receiver::start_with(&[204], "https", move |connection, status| {
        let session = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, connection);
        let post = Post::read(&mut stream)?;
        let respond = move || {
            answer(&mut stream, status);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        };
        Some((post, Box::new(respond)))
    });
    let hook = |roots: &str| {
        ["--webhook", &receiver.url, "--webhook-secret", "secret", "--webhook-ca", roots].map(str::to_owned)
    };
    let hook = |roots: &str| hook(roots).to_vec();
    let arguments = hook("roots.pem");
    place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).expect(0, &[]);
    receiver.next().assert_signed(&[SECRET]);
    assert_eq!(place.cursor(), Some(2));

    place.refuse(1, PerspectiveState::TimedOut);
    let arguments: Vec<String> = hook("stranger.pem").into_iter().chain(["--follow".to_owned()]).collect();
    let mut running = place.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for(&mut running, "does not take alarms");
    running.signal(rustix::process::Signal::INT);
    let ended = running.end();
    ended.expect(4, &["invalid peer certificate"]);
    assert_eq!((receiver.count(), place.cursor()), (1, Some(2)), "nothing was said to it");
}

#[test]
fn err_a_cursor_of_another_journal_and_unfit_settings_are_refused() {
    let mut place = Place::new();
    place.refuse(3, PerspectiveState::TimedOut);
    place.run(&["--cursor", "c"]).expect(0, &[]);
    let kept = fs::read_to_string(place.path("c")).unwrap();
    let mut other = Place::new();
    other.refuse(2, PerspectiveState::TimedOut);
    fs::write(other.path("c"), &kept).unwrap();
    other.run(&["--cursor", "c"]).expect(2, &["names entry 4, and the journal ends at 3", "move the file away"]);
    other.refuse(2, PerspectiveState::RejectedReply);
    other.run(&["--cursor", "c"]).expect(2, &["entry 4 of the journal is not the one it names"]);
    assert_eq!(fs::read_to_string(other.path("c")).unwrap(), kept);

    for (arguments, wants) in [
        (vec!["--webhook", "https://alarms.example/"], "--webhook-secret"),
        (vec!["--webhook", "http://alarms.example/", "--webhook-secret", "secret"], "use https"),
        (vec!["--metrics", "9464"], "--follow"),
        (vec!["--follow", "--metrics", "here"], "a port"),
        (vec!["--per-minute", "0"], "per-minute"),
    ] {
        place.run(&arguments).expect(2, &[wants]);
    }
    fs::set_permissions(place.path("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    place.run(&["--webhook", "http://127.0.0.1:9/", "--webhook-secret", "secret"]).expect(2, &["chmod 600"]);

    // An entry that is no record ends it with its place; nothing after it is passed over.
    place.writer.append(ENTRY_RECORD, b"{}").unwrap();
    place.writer.commit().unwrap();
    place.run(&["--cursor", "c"]).expect(2, &["entry 5 (segment 1"]);
    let mut items = Items::open(&place.path("j")).unwrap();
    assert!(matches!(items.next_item().unwrap(), Some((1, Item::Setup(_)))));
}
