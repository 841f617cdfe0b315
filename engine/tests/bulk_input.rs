//! What people get wrong, and what the program says then: files, settings, journals, exit statuses.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::{fs, io::Write as _, path::Path};

use parallax_engine::{
    bulk::ResultLine,
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    journal::{JournalOptions, Reader, Writer},
};
use parallax_perf::lab::{generate::request_line, kinds::Kind};
use parallax_validation::problem::ProblemKind;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Bench, journal};

const GOOD: [Kind; 4] = [Kind::CaaNone, Kind::HttpOk, Kind::DnsNxdomain, Kind::MpHijack2];

/// The results of lines that are no requests: line, id, problem, message.
fn refused(results: &[ResultLine]) -> Vec<(u64, Option<&str>, ProblemKind, &str)> {
    let mut refused: Vec<_> = results
        .iter()
        .filter(|r| r.verdict == "refused")
        .map(|r| {
            assert_eq!((r.decided_by.as_str(), &r.attempt), ("request", &None));
            (r.line.unwrap(), r.id.as_deref(), r.problem.unwrap(), r.message.as_str())
        })
        .collect();
    refused.sort_by_key(|r| r.0);
    refused
}

#[test]
fn malformed_json_lines_are_reported_and_the_rest_goes_on() {
    let bench = Bench::new(10, 10, 2_100);
    let good = bench.lines(&GOOD);
    let good: Vec<&str> = good.lines().collect();
    let mut file = Vec::new();
    let mut line = |text: &[u8]| {
        file.extend_from_slice(text);
        file.push(b'\n');
    };
    line(good[0].as_bytes());
    line(b"{\"id\":\"torn\",\"identifier\":");
    line(good[1].as_bytes());
    line(b"");
    line(br#"{"id":"extra","identifier":"a.lab.example","method":"caa","colour":"red"}"#);
    line(b"\xff\xfe{}");
    line(good[0].as_bytes());
    line(br#"{"id":"ulabel","identifier":"b\u00fccher.lab.example","method":"caa"}"#);
    line(format!("{{\"identifier\":\"{}\"}}", "a".repeat(70_000)).as_bytes());
    line(good[2].as_bytes());
    line(b"\x1b[2J[]");
    file.extend_from_slice(good[3].as_bytes());
    bench.write("bad.jsonl", &file);

    let arguments = ["bulk", "bad.jsonl", "--json", "--journal", "j", "--out", "o"];
    let summary = bench.run(&arguments).expect(0, &[]).json();
    assert_eq!((&summary["released"], &summary["refused_lines"]), (&json!(4), &json!(7)), "{summary}");
    assert_eq!(summary["results"]["refused malformed, decided by request"], 6);
    assert_eq!(summary["results"]["refused rejectedIdentifier, decided by request"], 1);
    assert_eq!(summary["perspectives"].as_array().unwrap().len(), 6);
    let results = bench.results("o");
    assert_eq!(results.len(), 11);
    let first: Value = serde_json::from_str(good[0]).unwrap();
    let wanted = [
        (2, None, ProblemKind::Malformed, "EOF"),
        (5, Some("extra"), ProblemKind::Malformed, "unknown field `colour`"),
        (6, None, ProblemKind::Malformed, "not UTF-8"),
        (7, first["id"].as_str(), ProblemKind::Malformed, "was used on an earlier line"),
        (8, Some("ulabel"), ProblemKind::RejectedIdentifier, "identifier: "),
        (9, None, ProblemKind::Malformed, "longer than 65536 octets"),
        (11, None, ProblemKind::Malformed, "expected value"),
    ];
    let got = refused(&results);
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.into_iter().zip(wanted) {
        assert_eq!((got.0, got.1, got.2), (wanted.0, wanted.1, wanted.2), "{}", got.3);
        assert!(got.3.starts_with(&format!("line {}: ", got.0)) && got.3.contains(wanted.3), "{}", got.3);
        assert!(!got.3.contains('\u{1b}'), "{}", got.3);
    }
    assert_eq!(journal(&bench.path("j")).0.len(), 4);
}

#[test]
fn malformed_csv_lines_are_reported_and_the_rest_goes_on() {
    let bench = Bench::new(11, 11, 2_100);
    let (none, other) = (bench.scenario(Kind::CaaNone).host(), bench.scenario(Kind::CaaOther).host());
    let text = format!(
        "name,method,caa,id\n{none},caa,,one\n{other},caa,maybe,two\n{none},caa\n\"{other}\",caa,,three\n*.{none},http-01,,four\n"
    );
    bench.write("bad.csv", &text);
    let summary = bench.run(&["bulk", "bad.csv", "--json", "--journal", "j", "--out", "o"]).expect(0, &[]).json();
    assert_eq!((&summary["released"], &summary["refused_lines"]), (&json!(2), &json!(3)), "{summary}");
    let results = bench.results("o");
    let messages: Vec<_> = refused(&results).into_iter().map(|r| (r.0, r.3)).collect();
    for ((line, message), (number, reason)) in
        messages.iter().zip([(3, "neither true nor false"), (4, "2 fields"), (6, "http-01")])
    {
        assert_eq!(*line, number);
        assert!(message.contains(reason), "{message}");
    }
    assert_eq!(messages.len(), 3);
    let verdict = |id: &str| results.iter().find(|r| r.id.as_deref() == Some(id)).unwrap().verdict.as_str();
    assert_eq!((verdict("one"), verdict("three")), ("pass", "fail"));
    // --format goes before the file's ending.
    bench.run(&["bulk", "bad.csv", "--format", "jsonl", "--journal", "k", "--out", "p"]).expect(0, &[]);
    assert!(bench.results("p").iter().all(|r| r.verdict == "refused"));
}

#[test]
fn unusable_files_and_settings_are_named_before_anything_is_sent() {
    let bench = Bench::new(12, 12, 2_100);
    bench.write("one.jsonl", bench.lines(&[Kind::CaaNone]));
    let with_config =
        |config: &str| bench.run(&["bulk", "one.jsonl", "--config", config, "--journal", "j", "--out", "o"]);
    with_config("absent.toml").expect(2, &["absent.toml", "No such file"]);
    bench.write("broken.toml", "issuer_domains = [");
    with_config("broken.toml").expect(2, &["broken.toml", "line 1"]);
    bench.settings_with("key.toml", "fan_out", "fanout");
    with_config("key.toml").expect(2, &["key.toml", "fanout"]);
    bench.settings_with("value.toml", "fan_out = \"primary-first\"", "attempts_in_flight = 0");
    with_config("value.toml").expect(2, &["value.toml", "attempts_in_flight"]);
    bench.settings_with("resolver.toml", "127.2.0.2:", "127.2.0.1:");
    with_config("resolver.toml").expect(2, &["resolver.toml", "perspective.iad1.resolver", "ams1"]);
    bench.settings_with("cohort.toml", "role = \"primary\"", "role = \"remote\"");
    with_config("cohort.toml").expect(2, &["cohort.toml", "perspective", "exactly one must"]);
    bench.run(&["config", "check", "value.toml"]).expect(2, &["attempts_in_flight"]);
    let checked = bench.run(&["config", "check", "parallax.toml", "--json"]).expect(0, &[]).json();
    assert_eq!((&checked["primary"], &checked["remotes"]), (&json!("ams1"), &json!(5)));

    let bulk = |file: &str, more: &[&str]| bench.run(&[&["bulk", file, "--journal", "j", "--out", "o"], more].concat());
    bulk("absent.jsonl", &[]).expect(2, &["absent.jsonl", "No such file"]);
    bulk("one.jsonl", &["--expect", "none.jsonl"]).expect(2, &["none.jsonl", "No such file"]);
    bench.write("expect.jsonl", "{\"id\":\"x\"}\n");
    bulk("one.jsonl", &["--expect", "expect.jsonl"]).expect(2, &["expect.jsonl", "line 1", "verdict"]);
    bench.run(&["bulk"]).expect(2, &["<FILE>"]);
    bench.write("taken", "precious\n");
    bench.run(&["bulk", "one.jsonl", "--journal", "t", "--out", "taken"]).expect(2, &["taken", "--resume"]);
    assert_eq!(fs::read_to_string(bench.path("taken")).unwrap(), "precious\n");
    bench.run(&["check", "a.lab.example", "--method", "http-02", "--journal", "t"]).expect(2, &["method", "http-02"]);
    bench.run(&["check", "a_b.lab.example", "--method", "caa", "--journal", "t"]).expect(2, &["identifier"]);
    assert_eq!(bench.lab.counters().summary()["dns_udp_queries"], 0);
}

#[test]
fn a_journal_is_gone_on_with_only_if_that_is_meant() {
    let bench = Bench::new(13, 13, 2_100);
    let lines = bench.lines(&GOOD);
    bench.write("bulk.jsonl", &lines);
    let arguments = ["bulk", "bulk.jsonl", "--json", "--journal", "j", "--out", "o"];
    bench.run(&arguments).expect(0, &[]);
    let before = bench.results("o");
    assert_eq!(before.len(), 4);
    let queries = || bench.lab.counters().summary()["dns_udp_queries"].clone();
    let sent = queries();

    bench.run(&["bulk", "bulk.jsonl", "--journal", "j", "--out", "new"]).expect(2, &["j: ", "--resume"]);
    let again = bench.run(&[&arguments[..], &["--resume"]].concat()).expect(0, &[]).json();
    assert_eq!((&again["released"], &again["resumed"]), (&json!(0), &json!(4)));
    assert_eq!(bench.results("o").len(), 4);
    assert!(before.iter().all(|line| bench.results("o").contains(line)));

    // A mistyped journal does not cost the results.
    bench.run(&["bulk", "bulk.jsonl", "--journal", "jj", "--out", "o", "--resume"]).expect(2, &["o: ", "--journal"]);
    assert_eq!(bench.results("o").len(), 4);

    // Nor does naming the requests as the place for results cost the requests.
    let itself = ["bulk", "bulk.jsonl", "--journal", "j", "--out", "./bulk.jsonl", "--resume"];
    bench.run(&itself).expect(2, &["is the file of requests"]);
    assert_eq!(fs::read_to_string(bench.path("bulk.jsonl")).unwrap(), lines);

    // The same id with another name.
    let id = before[0].id.as_deref().unwrap();
    bench.write("other.jsonl", format!("{{\"id\":\"{id}\",\"identifier\":\"z.lab.example\",\"method\":\"caa\"}}\n"));
    bench
        .run(&["bulk", "other.jsonl", "--journal", "j", "--out", "o2", "--resume"])
        .expect(2, &[&format!("'{id}'"), "another bulk file"]);
    assert_eq!(queries(), sent, "something was asked again");

    // Someone else is writing.
    let mut first = bench.start(&["bulk", "-", "--json", "--journal", "shared", "--out", "first"]);
    let line = request_line(&bench.scenario(Kind::CaaNone)) + "\n";
    first.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    let out = bench.path("first");
    first.wait_until("a result", || !support::results(&out).is_empty());
    for resume in [&[][..], &["--resume"]] {
        let arguments = ["bulk", "bulk.jsonl", "--journal", "shared", "--out", "second"];
        let ended = bench.run(&[&arguments[..], resume].concat());
        ended.expect(3, &["shared is in use: another process has it open"]);
    }
    assert!(!bench.path("second").exists());
    // Reading goes on all the same.
    bench.run(&["journal", "verify", "shared"]).expect(0, &[]);
    assert_eq!(first.end().expect(0, &[]).json()["released"], 1);
}

#[test]
fn a_source_address_that_is_not_ours_is_named() {
    let bench = Bench::new(14, 14, 2_100);
    bench.write("one.jsonl", bench.lines(&[Kind::CaaNone]));
    bench.settings_with("away.toml", "source_ipv4 = \"127.1.0.3\"", "source_ipv4 = \"192.0.2.1\"");
    let arguments = ["bulk", "one.jsonl", "--config", "away.toml", "--journal", "j", "--out", "o"];
    bench.run(&arguments).expect(3, &["perspective waw1", "192.0.2.1", "127.2.0.3", "Cannot assign requested address"]);
    assert!(bench.results("o").is_empty());
    assert!(journal(&bench.path("j")).0.is_empty());
}

#[test]
fn one_check_is_told_recorded_shown_and_explained() {
    let bench = Bench::new(15, 15, 2_100);
    let (good, bad) = (bench.scenario(Kind::CaaNone).host(), bench.scenario(Kind::CaaOther).host());
    let text = bench.run(&["check", &good, "--method", "caa", "--journal", "j"]);
    text.expect(0, &[]);
    for part in ["PASS", &good, "ams1", "jnb1", "corroborated by"] {
        assert!(text.out.contains(part), "'{part}' is not in: {}", text.out);
    }
    let record = bench.run(&["check", &bad, "--method", "caa", "--journal", "j", "--json"]).expect(1, &[]).json();
    assert_eq!(record["explanation"]["problem"], "caa");
    let attempt = record["attempt"].as_str().unwrap();
    let id = record["request"]["id"].as_str().unwrap();

    let list = bench.run(&["journal", "show", "j"]);
    assert_eq!(list.expect(0, &[]).out.lines().count(), 2, "{}", list.out);
    for name in [id, attempt] {
        let shown = bench.run(&["journal", "show", "j", "--id", name, "--json"]);
        assert_eq!(shown.expect(0, &[]).json(), record);
        let told = bench.run(&["explain", name, "--journal", "j", "--json"]).expect(0, &[]).json();
        assert_eq!(told, record["explanation"]);
        let text = bench.run(&["explain", name, "--journal", "j"]);
        text.expect(0, &[]);
        assert!(text.out.contains("FAIL") && text.out.contains(record["explanation"]["message"].as_str().unwrap()));
    }
    bench.run(&["journal", "show", "j", "--id", "nobody"]).expect(1, &["no record of 'nobody'"]);
    bench.run(&["explain", "nobody", "--journal", "j"]).expect(1, &["no record of 'nobody'"]);
    bench.run(&["explain", "nobody", "--journal", "absent"]).expect(2, &["absent"]);
    let verified = bench.run(&["journal", "verify", "j", "--json"]).expect(0, &[]).json();
    assert_eq!((&verified["records"], &verified["corroborated"]), (&json!(2), &json!(1)));
    assert_eq!((&verified["mismatches"], &verified["torn_tail_bytes"]), (&json!([]), &Value::Null));
}

#[test]
fn the_caa_climb_of_one_resolver() {
    let bench = Bench::new(16, 16, 2_100);
    let resolver = format!("127.2.0.1:{}", bench.world.dns_port);
    let caa = |kind: Kind, more: &[&str]| {
        let host = bench.scenario(kind).host();
        let asked = ["caa", &host, "--issuer", "ca.example", "--resolver", &resolver, "--dnssec", "resolver"];
        bench.run(&[&asked[..], more].concat())
    };
    // The laboratory is not signed: without a chain from the root nothing is believed.
    let host = bench.scenario(Kind::CaaNone).host();
    let unproven = bench.run(&["caa", &host, "--issuer", "ca.example", "--resolver", &resolver]);
    unproven.expect(1, &[]);
    assert!(unproven.out.contains("none fits our trust anchors 20326 and 38696"), "{}", unproven.out);
    for (kind, status, word) in [
        (Kind::CaaIssue, 0, "PERMITTED"),
        (Kind::CaaNone, 0, "PERMITTED: no level"),
        (Kind::CaaOther, 1, "FORBIDDEN"),
        (Kind::CaaInherited, 1, "FORBIDDEN"),
        (Kind::CaaServfail, 1, "FORBIDDEN: a level could not be looked up"),
    ] {
        let ended = caa(kind, &[]);
        ended.expect(status, &[]);
        assert!(ended.out.contains(word) && ended.out.contains(&resolver), "{kind:?}: {}", ended.out);
    }
    // Which of several names is ours decides.
    caa(Kind::CaaOther, &["--issuer", "other.example"]).expect(0, &[]);
    caa(Kind::CaaAccountRight, &[]).expect(1, &[]);
    caa(Kind::CaaAccountRight, &["--account-uri", "https://ca.example/acct/7"]).expect(0, &[]);
    let found = caa(Kind::CaaOther, &["--json"]).expect(1, &[]).json();
    assert_eq!(found["resolver"], json!(resolver));
    assert!(found["finding"]["decided"]["level"].as_str().unwrap().contains("caa-other"), "{found}");
    assert!(!found["levels"].as_array().unwrap().is_empty());

    let name = ["caa", "a.lab.example", "--issuer", "ca.example", "--resolver"];
    bench.run(&[&name[..], &["nowhere"]].concat()).expect(2, &["--resolver", "'nowhere'"]);
    bench.run(&["caa", "a..example", "--issuer", "ca.example", "--resolver", &resolver]).expect(2, &["identifier"]);
    bench.run(&["caa", "a.lab.example"]).expect(2, &["--issuer"]);
}

#[test]
fn results_that_cannot_be_written_are_in_the_journal() {
    let bench = Bench::new(19, 19, 2_100);
    bench.write("bulk.jsonl", bench.lines(&GOOD));
    let arguments = |out| ["bulk", "bulk.jsonl", "--json", "--resume", "--journal", "j", "--out", out];
    bench.run(&arguments("/dev/full")).expect(3, &["/dev/full", "No space left on device", "--resume"]);
    bench.run(&arguments("o")).expect(0, &[]);
    assert_eq!(bench.results("o").len(), 4);
}

#[test]
fn interrupted_and_resumed() {
    let bench = Bench::new(17, 17, 1_000);
    bench.settings_with("few.toml", "attempts_in_flight = ", "attempts_in_flight = 8 #");
    let arguments = ["bulk", "bulk.jsonl", "--json", "--config", "few.toml", "--journal", "j", "--out", "o"];
    let mut running = bench.start(&arguments);
    let out = bench.path("o");
    running.wait_until("a verdict", || support::results(&out).iter().any(|line| line.attempt.is_some()));
    running.signal(Signal::INT);
    let summary = running.end().expect(4, &[]).json();
    assert_eq!(summary["interrupted"], true);
    let told = bench.results("o");
    let (records, _) = journal(&bench.path("j"));
    assert_eq!(summary["released"], records.len());
    assert_eq!(told.iter().filter(|line| line.attempt.is_some()).count(), records.len());
    // What is in flight is finished; what waits, which is all the rest of the file, is left.
    assert!(records.len() < 200, "the signal came too late to be noticed: {}", records.len());

    let mut arguments = arguments.to_vec();
    arguments.retain(|argument| !["--config", "few.toml"].contains(argument));
    arguments.extend(["--resume", "--expect", "expected.jsonl"]);
    let summary = bench.run(&arguments).expect(0, &[]).json();
    assert_eq!((&summary["resumed"], &summary["interrupted"]), (&json!(records.len()), &json!(false)));
    assert_eq!((&summary["compared"], &summary["difference_count"]), (&json!(1_000), &json!(0)));
    let complete = bench.results("o");
    bench.assert_as_expected(&complete);
    assert!(told.iter().all(|line| complete.contains(line)), "a verdict changed");
}

/// Copies a journal, changing records on the way; the copy is as well-formed as the original.
fn forge(from: &Path, to: &Path, mut change: impl FnMut(&mut Value)) {
    let mut reader = Reader::open(from).unwrap();
    let (mut writer, _) = Writer::open(to, JournalOptions::default()).unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut payload = entry.payload;
        if entry.kind == ENTRY_RECORD {
            let mut record: Value = serde_json::from_slice(&payload).unwrap();
            change(&mut record);
            payload = serde_json::to_vec(&record).unwrap();
        }
        writer.append(entry.kind, &payload).unwrap();
    }
    writer.commit().unwrap();
}

#[test]
fn a_changed_journal_does_not_verify() {
    let bench = Bench::new(18, 18, 2_100);
    bench.write("bulk.jsonl", bench.lines(&GOOD));
    bench.run(&["bulk", "bulk.jsonl", "--journal", "j", "--out", "o"]).expect(0, &[]);
    bench.run(&["journal", "verify", "j"]).expect(0, &[]);

    // One octet, anywhere but in the last entry, is damage with a place.
    let original = fs::read(bench.path("j/0000000001.journal")).unwrap();
    for place in [20, 200, original.len() / 2] {
        let mut bytes = original.clone();
        bytes[place] ^= 1;
        fs::create_dir_all(bench.path("flipped")).unwrap();
        bench.write("flipped/0000000001.journal", bytes);
        bench.run(&["journal", "verify", "flipped"]).expect(1, &["0000000001.journal is damaged at byte"]);
    }

    // Well-formed lies are found by recomputing.
    forge(&bench.path("j"), &bench.path("same"), |_| {});
    bench.run(&["journal", "verify", "same"]).expect(0, &[]);
    let id = |kind| bench.scenario(kind).id();
    let (passed, failed) = (id(Kind::CaaNone), id(Kind::DnsNxdomain));
    let mut permission = Value::Null;
    forge(&bench.path("j"), &bench.path("scratch"), |record| {
        if record["request"]["id"] == passed {
            permission = record["verdict"].clone();
        }
    });
    assert!(!permission.is_null());
    forge(&bench.path("j"), &bench.path("verdict"), |record| {
        if record["request"]["id"] == failed {
            record["verdict"] = permission.clone();
        }
    });
    forge(&bench.path("j"), &bench.path("evidence"), |record| {
        if record["request"]["id"] == passed {
            // One that was waited for; which those are is a matter of time.
            let mut remotes = record["perspectives"].as_array_mut().unwrap().iter_mut().skip(1);
            let confirmed = remotes.find(|remote| remote["state"] == "confirmed").unwrap();
            confirmed["observation"]["caa"] = json!([]);
        }
    });
    forge(&bench.path("j"), &bench.path("perspective"), |record| {
        if record["request"]["id"] == failed {
            record["perspectives"][0]["control"] = json!(true);
        }
    });
    for (name, id) in [("verdict", &failed), ("evidence", &passed), ("perspective", &failed)] {
        let ended = bench.run(&["journal", "verify", name]);
        ended.expect(1, &[]);
        assert!(ended.out.contains("1 differ") && ended.out.contains(&format!("{id}: ")), "{name}: {}", ended.out);
        let found = bench.run(&["journal", "verify", name, "--json"]).expect(1, &[]).json();
        assert_eq!(found["mismatches"].as_array().unwrap().len(), 1, "{found}");
    }

    // A setup that stands behind its records was not known to whoever decided, however far ahead one reads.
    let mut reader = Reader::open(&bench.path("j")).unwrap();
    let (mut writer, _) = Writer::open(&bench.path("behind"), JournalOptions::default()).unwrap();
    let entries: Vec<_> = std::iter::from_fn(|| reader.next_entry().unwrap()).collect();
    let (setups, others): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.kind == ENTRY_SETUP);
    for entry in others.iter().chain(&setups) {
        writer.append(entry.kind, &entry.payload).unwrap();
    }
    writer.commit().unwrap();
    let found = bench.run(&["journal", "verify", "behind", "--json"]).expect(1, &[]).json();
    let mismatches = found["mismatches"].as_array().unwrap();
    assert_eq!(mismatches.len() as u64, found["records"].as_u64().unwrap());
    assert!(mismatches.iter().all(|text| text.as_str().unwrap().ends_with("not in the journal before it")), "{found}");
}
