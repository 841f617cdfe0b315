//! How attempts are carried out, by the program itself: restarts, report-only, perspectives on trial, cohorts out of a
//! pool, accounts that take turns, and clocks that went back.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::collections::{HashMap, HashSet};

use parallax_engine::{
    audit::{Item, Items},
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    journal::{JournalOptions, Reader, Writer},
};
use parallax_perf::lab::{generate::request_line, kinds::Kind};
use parallax_validation::{
    record::{LateEntry, Record},
    verdict::PerspectiveState,
};
use serde_json::{Value, json};
use support::{Bench, journal};

/// Kinds with one remote that contradicts, and some without.
const KINDS: [Kind; 6] =
    [Kind::MpHijack1, Kind::MpCaaDiffers1, Kind::MpLag1, Kind::MpHijack2, Kind::MpGeodns, Kind::CaaOther];

fn bulk(bench: &Bench, config: &str, journal: &str, status: i32) -> Value {
    let out = format!("{journal}.jsonl");
    let arguments = ["bulk", "some.jsonl", "--json", "--config", config, "--journal", journal, "--out", &out];
    bench.run(&arguments).expect(status, &[]).json()
}

fn verified(bench: &Bench, journal: &str) -> Value {
    bench.run(&["journal", "verify", journal, "--json"]).expect(0, &[]).json()
}

fn trials(bench: &Bench, journal: &str) -> Vec<LateEntry> {
    let mut items = Items::open(&bench.path(journal)).unwrap();
    let mut found = Vec::new();
    while let Some((_, item)) = items.next_item().unwrap() {
        if let Item::Trial(entry) = item {
            found.push(*entry);
        }
    }
    found
}

/// Another perspective, whose resolver nobody has started: all it asks fails.
fn deaf(bench: &Bench, role: &str, name: &str) {
    let resolver = format!("127.2.0.99:{}", bench.world.dns_port);
    let text = std::fs::read_to_string(bench.path("parallax.toml")).unwrap();
    let section = format!(
        "\n[[perspective]]\nid = \"hnl1\"\nrole = \"{role}\"\nrir = \"ARIN\"\nlatitude = 21.3\nlongitude = -157.9\n\
         as_number = 64999\nprovider = \"lab-z\"\nsource_ipv4 = \"127.1.0.99\"\nresolver = \"{resolver}\"\n\
         dnssec = \"none\"\n"
    );
    bench.write(name, text + &section);
}

#[test]
fn h8_perspectives_that_disagree_are_asked_again_after_a_cool_down() {
    let bench = Bench::new(60, 60, 6_000);
    bench.write("some.jsonl", bench.lines(&KINDS));
    let restarting = "restarts_max = 1\nrestart_cool_down_ms = 200\nawait_all_on_permission = true";
    bench.settings_with("restarting.toml", "restarts_max = 0", restarting);
    bench.settings_with("once.toml", "restarts_max = 0", "restarts_max = 0\nawait_all_on_permission = true");
    let without = bulk(&bench, "once.toml", "once", 0);
    assert_eq!(without["restarts"], 0);
    let with = bulk(&bench, "restarting.toml", "again", 0);
    assert_eq!(with["restarts"], 4, "{with}");
    let told = |name: &str| -> HashMap<Option<String>, (String, Option<String>)> {
        bench.results(name).into_iter().map(|line| (line.id, (line.verdict, line.quorum))).collect()
    };
    assert_eq!(told("once.jsonl").len(), KINDS.len());
    assert_eq!(told("once.jsonl"), told("again.jsonl"), "the servers did not change their minds");

    let (records, _) = journal(&bench.path("again"));
    assert_eq!(records.len(), KINDS.len() + 4);
    let first: HashMap<_, &Record> = records.iter().filter(|r| r.restarted).map(|r| (r.attempt, r)).collect();
    assert_eq!(first.len(), 4);
    for second in records.iter().filter(|record| record.restart.is_some()) {
        let restart = second.restart.unwrap();
        let before = first[&restart.predecessor];
        assert_eq!((&before.request, restart.number), (&second.request, 1));
        let waited = second.started.duration_since(before.decided).as_millis();
        assert!(waited >= 150, "{waited} ms");
        // Everybody was asked afresh (req F2).
        assert!(second.perspectives.iter().all(|part| part.state != PerspectiveState::NotAsked));
        let mut seen = second.perspectives.iter().zip(&before.perspectives);
        assert!(seen.all(|(now, then)| now.observation.as_ref().unwrap() != then.observation.as_ref().unwrap()));
    }
    let found = verified(&bench, "again");
    assert_eq!((&found["records"], &found["restarted"], &found["repeated"]), (&json!(10), &json!(4), &json!([])));
    // Permissions are those that were released.
    let found = bench.run(&["journal", "find", "again", "--corroborated", "--json"]).expect(0, &[]).out.clone();
    assert_eq!(found.lines().count(), 4, "{found}");
    let shown =
        bench.run(&["explain", records[0].request.id.as_str(), "--journal", "again"]).expect(0, &[]).out.clone();
    assert!(!records[0].restarted || shown.contains("the process started afresh"), "{shown}");
}

#[test]
fn h8_a_run_that_ended_in_the_cool_down_goes_on_there() {
    let bench = Bench::new(61, 61, 6_000);
    bench.write("some.jsonl", bench.lines(&[Kind::MpHijack1]));
    let settings = |name: &str, ms: u32| {
        let text = format!("restarts_max = 2\nrestart_cool_down_ms = {ms}\nawait_all_on_permission = true");
        bench.settings_with(name, "restarts_max = 0", &text);
    };
    settings("long.toml", 600_000);
    settings("short.toml", 1);
    let arguments = |config: &'static str| {
        ["bulk", "some.jsonl", "--json", "--resume", "--config", config, "--journal", "j", "--out", "o"]
    };
    let mut running = bench.start(&arguments("long.toml"));
    running.wait_until("a first attempt", || journal(&bench.path("j")).0.len() == 1);
    running.signal(rustix::process::Signal::INT);
    let summary = running.end().expect(4, &[]).json();
    assert_eq!((&summary["released"], &summary["restarts"]), (&json!(0), &json!(1)));
    assert_eq!(bench.results("o").len(), 0, "nothing was released");
    bench.run(&arguments("short.toml")).expect(0, &[]);
    assert_eq!(bench.results("o").len(), 1);
    let (records, _) = journal(&bench.path("j"));
    let numbers: Vec<u8> = records.iter().map(|record| record.restart.map_or(0, |restart| restart.number)).collect();
    assert_eq!(numbers, [0, 1, 2], "the restarts are counted on");
    assert_eq!(verified(&bench, "j")["restarted"], 2);
}

#[test]
fn h8_a_chain_that_was_tampered_with_does_not_verify() {
    let bench = Bench::new(62, 62, 6_000);
    bench.write("some.jsonl", bench.lines(&[Kind::MpHijack1, Kind::MpHijack2]));
    let restarting = "restarts_max = 1\nrestart_cool_down_ms = 1\nawait_all_on_permission = true";
    bench.settings_with("restarting.toml", "restarts_max = 0", restarting);
    bulk(&bench, "restarting.toml", "j", 0);
    let forge = |name: &str, change: &dyn Fn(&mut Vec<Record>)| {
        let mut reader = Reader::open(&bench.path("j")).unwrap();
        let (mut setup, mut records) = (Vec::new(), Vec::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            match entry.kind {
                ENTRY_SETUP => setup = entry.payload,
                ENTRY_RECORD => records.push(serde_json::from_slice::<Record>(&entry.payload).unwrap()),
                _ => {}
            }
        }
        assert_eq!(records.len(), 4);
        change(&mut records);
        let (mut writer, _) = Writer::open(&bench.path(name), JournalOptions::default()).unwrap();
        writer.append(ENTRY_SETUP, &setup).unwrap();
        for record in records {
            writer.append(ENTRY_RECORD, &serde_json::to_vec(&record).unwrap()).unwrap();
        }
        writer.commit().unwrap();
        bench.run(&["journal", "verify", name])
    };
    forge("same", &|_| {}).expect(0, &[]);
    type Change = &'static dyn Fn(&mut Vec<Record>);
    let changes: [(&str, &str, Change); 3] = [
        ("turned", "does not follow", &|records: &mut Vec<Record>| records.reverse()),
        ("other", "does not follow", &|records: &mut Vec<Record>| {
            let ids: Vec<_> = records.iter().filter(|record| record.restarted).map(|record| record.attempt).collect();
            for record in records.iter_mut() {
                if let Some(restart) = &mut record.restart {
                    restart.predecessor = if restart.predecessor == ids[0] { ids[1] } else { ids[0] };
                }
            }
        }),
        ("twice", "has a record already", &|records: &mut Vec<Record>| {
            let first = records.iter().find(|record| record.restarted).unwrap().clone();
            records.push(first);
        }),
    ];
    for (name, wants, change) in changes {
        let ended = forge(name, change);
        assert_eq!(ended.status, Some(1), "{name}: {}", ended.out);
        assert!(ended.out.contains(wants), "{name}: {}", ended.out);
    }
}

#[test]
fn h15_a_report_only_run_permits_nothing_and_cannot_be_resumed_as_another() {
    let bench = Bench::new(63, 63, 6_000);
    bench.write("some.jsonl", bench.lines(&KINDS));
    bench.settings_with("reporting.toml", "restarts_max = 0", "restarts_max = 0\nmode = \"report-only\"");
    let enforced = bulk(&bench, "parallax.toml", "enforced", 0);
    let summary = bulk(&bench, "reporting.toml", "reported", 0);
    assert!(summary["results"].get("pass").is_none(), "{summary}");
    let passes = enforced["results"]["pass"].as_u64().unwrap();
    let results = bench.results("reported.jsonl");
    let would = results.iter().filter(|line| line.decided_by == "mode");
    assert!(would.clone().all(|line| line.verdict == "fail" && line.message.contains("only reports")));
    assert_eq!(would.count() as u64, passes);
    assert_eq!(verified(&bench, "reported")["corroborated"], 0);
    let found = bench.run(&["journal", "find", "reported", "--corroborated", "--json"]).expect(0, &[]).out.clone();
    assert_eq!(found, "");
    let resumed = ["bulk", "some.jsonl", "--resume", "--journal", "reported", "--out", "reported.jsonl"];
    bench.run(&resumed).expect(2, &["report-only"]);
    let checked = bench.run(&["config", "check", "reporting.toml"]).expect(0, &[]).out.clone();
    assert!(checked.contains("nothing is permitted"), "{checked}");
}

#[test]
fn h15_a_perspective_on_trial_is_recorded_and_never_counts() {
    let bench = Bench::new(64, 64, 6_000);
    bench.write("some.jsonl", bench.lines(&KINDS));
    bench.settings_with("parallax.toml", "restarts_max = 0", "restarts_max = 0\nawait_all_on_permission = true");
    deaf(&bench, "trial", "trying.toml");
    bulk(&bench, "parallax.toml", "without", 0);
    bulk(&bench, "trying.toml", "with", 0);
    let told = |name: &str| -> HashMap<Option<String>, (String, Option<String>, String)> {
        bench.results(name).into_iter().map(|line| (line.id, (line.verdict, line.quorum, line.message))).collect()
    };
    assert_eq!(told("without.jsonl"), told("with.jsonl"), "neither verdict nor figures nor words");
    let (records, _) = journal(&bench.path("with"));
    assert!(records.iter().flat_map(|record| &record.perspectives).all(|part| part.perspective.as_str() != "hnl1"));
    let asked: HashSet<_> = records
        .iter()
        .filter(|record| record.perspectives[1].state != PerspectiveState::NotAsked)
        .map(|record| record.attempt)
        .collect();
    let tried = trials(&bench, "with");
    assert_eq!(tried.iter().map(|entry| entry.attempt).collect::<HashSet<_>>(), asked);
    assert_eq!(tried.len(), asked.len());
    for entry in &tried {
        assert_eq!((entry.perspective.perspective.as_str(), entry.contradicts_verdict), ("hnl1", false));
        assert_eq!(entry.perspective.state, PerspectiveState::Failed, "nobody answers it");
        assert!(entry.perspective.observation.is_some());
    }
    assert_eq!(verified(&bench, "with")["trials"], tried.len());
}

#[test]
fn a15_cohorts_are_drawn_out_of_a_pool_and_each_can_be_drawn_again() {
    let bench = Bench::new(65, 65, 6_000);
    deaf(&bench, "remote", "pool.toml");
    let text = std::fs::read_to_string(bench.path("pool.toml")).unwrap();
    bench.write("pool.toml", format!("{text}\n[cohort]\nremotes = 5\n"));
    let good = bench.scenarios().filter(|s| s.kind == Kind::MpGeodns).take(40);
    bench.write("some.jsonl", good.map(|s| request_line(&s) + "\n").collect::<String>());
    bulk(&bench, "pool.toml", "j", 0);
    let results = bench.results("j.jsonl");
    assert!(results.len() > 10 && results.iter().all(|line| line.verdict == "pass"), "{results:?}");
    let (records, _) = journal(&bench.path("j"));
    let mut cohorts = HashSet::new();
    let mut seeds = HashSet::new();
    for record in &records {
        let remotes: Vec<&str> = record.perspectives[1..].iter().map(|part| part.perspective.as_str()).collect();
        assert_eq!((record.perspectives[0].perspective.as_str(), remotes.len()), ("ams1", 5));
        assert!(seeds.insert(record.seed.unwrap().0), "a seed is never used twice");
        cohorts.insert(remotes.join(" "));
    }
    assert!(cohorts.len() >= 3, "{cohorts:?}");
    assert!(cohorts.iter().any(|cohort| !cohort.contains("hnl1")), "{cohorts:?}");
    assert_eq!(verified(&bench, "j")["records"], records.len());
    let checked = bench.run(&["cohort", "check", "--config", "pool.toml"]).expect(0, &[]).out.clone();
    assert!(checked.contains("5 of 6 remotes are drawn for each attempt: 6 lawful cohorts"), "{checked}");
    // Without hnl1, no five of the others could be drawn if one were too few.
    let text = text + "\n[cohort]\nremotes = 7\n";
    bench.write("many.toml", text);
    bench.run(&["config", "check", "many.toml"]).expect(2, &["cohort.remotes: 7 remotes of 6 cannot be drawn"]);
}

#[test]
fn f8_an_account_with_many_requests_does_not_hold_up_another() {
    let bench = Bench::new(66, 66, 6_000);
    bench.settings_with("few.toml", "attempts_in_flight = 400", "attempts_in_flight = 4");
    let passing = bench.scenarios().filter(|s| s.kind == Kind::HttpOk).take(200);
    let mut lines: Vec<Value> = passing.map(|s| serde_json::from_str(&request_line(&s)).unwrap()).collect();
    assert!(lines.len() > 100);
    for (number, line) in lines.iter_mut().enumerate() {
        line["id"] = json!(format!("many-{number}"));
        line["account"] = json!("many");
    }
    let last = lines.last_mut().unwrap();
    (last["id"], last["account"]) = (json!("one"), json!("one"));
    bench.write("some.jsonl", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    bulk(&bench, "few.toml", "j", 0);
    let results = bench.results("j.jsonl");
    assert_eq!(results.len(), lines.len());
    let place = results.iter().position(|line| line.id.as_deref() == Some("one")).unwrap();
    assert!(place < 60, "the last line of the file came out as number {place}");
    // Without accounts the file's order stands.
    for line in &mut lines {
        line.as_object_mut().unwrap().remove("account");
    }
    bench.write("some.jsonl", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    bulk(&bench, "few.toml", "k", 0);
    let results = bench.results("k.jsonl");
    let place = results.iter().position(|line| line.id.as_deref() == Some("one")).unwrap();
    assert!(place >= results.len() - 8, "{place} of {}", results.len());
}

#[test]
fn a20_a_clock_behind_the_journal_is_not_trusted() {
    let bench = Bench::new(67, 67, 6_000);
    bench.write("some.jsonl", bench.lines(&KINDS));
    bulk(&bench, "parallax.toml", "j", 0);
    let mut reader = Reader::open(&bench.path("j")).unwrap();
    let (mut writer, _) = Writer::open(&bench.path("ahead"), JournalOptions::default()).unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut payload: Value = serde_json::from_slice(&entry.payload).unwrap();
        if entry.kind == ENTRY_RECORD {
            payload["decided"] = json!("2099-01-01T00:00:00Z");
        }
        writer.append(entry.kind, payload.to_string().as_bytes()).unwrap();
    }
    writer.commit().unwrap();
    drop(writer);
    let resumed = ["bulk", "some.jsonl", "--resume", "--journal", "ahead", "--out", "ahead.jsonl"];
    bench.run(&resumed).expect(2, &["2099-01-01T00:00:00Z", "the system's clock is wrong"]);
}

#[test]
fn whoever_opens_a_journal_says_that_a_torn_tail_was_cut() {
    let bench = Bench::new(69, 69, 3_000);
    bench.write("some.jsonl", bench.lines(&[Kind::CaaOther]));
    bulk(&bench, "parallax.toml", "j", 0);
    let tear = || {
        use std::io::Write as _;
        let path = bench.path("j/0000000001.journal");
        std::fs::File::options().append(true).open(path).unwrap().write_all(b"xyz").unwrap();
    };
    let said = "the last 3 octets were not written to their end and are cut off";
    tear();
    bench.run(&["bulk", "some.jsonl", "--resume", "--journal", "j", "--out", "j.jsonl"]).expect(0, &[said]);
    tear();
    let name = bench.scenario(Kind::CaaOther).host();
    let checked = bench.run(&["check", &name, "--method", "caa", "--journal", "j"]);
    assert!(checked.err.contains(said), "{}{}", checked.out, checked.err);
}
