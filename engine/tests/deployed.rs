//! An engine and six nodes as programs of their own: the laboratory's requests over links with certificates, and what
//! becomes of them when nodes are killed, paused or replaced.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod fleet;
mod support;

use std::fs;

use fleet::{Fleet, get, until};
use parallax_engine::bulk::ResultLine;
use parallax_perf::lab::{generate::request_line, kinds::Kind};
use rustix::process::Signal;
use support::Bench;

/// All that can be compared of two results of one request.
fn gist(line: &ResultLine) -> (Option<String>, Option<u64>, String, Option<String>, String) {
    let problem = line.problem.map(|problem| problem.to_string());
    (line.id.clone(), line.line, line.verdict.clone(), problem, line.decided_by.clone())
}

#[test]
fn ok_a_bulk_file_over_links_and_over_the_api_ends_as_expected() {
    let bench = Bench::new(70, 70, 400);
    let fleet = Fleet::make(&bench.path(""), 24_000);
    let mut nodes = fleet.start_nodes();

    // Links, from a bulk run that decides by itself.
    let run = bench.run(&[
        "bulk",
        "bulk.jsonl",
        "--config",
        "engine.toml",
        "--journal",
        "j1",
        "--out",
        "r1.jsonl",
        "--expect",
        "expected.jsonl",
        "--json",
    ]);
    run.expect(0, &[]);
    bench.assert_as_expected(&bench.results("r1.jsonl"));

    // The API, from a caller that knows no settings.
    let mut engine = fleet.start_engine("j2");
    until("the primary's link stands", || get(fleet.engine_metrics, "/readyz").0 == 200);
    let mut arguments = vec!["bulk", "bulk.jsonl", "--out", "r2.jsonl", "--expect", "expected.jsonl", "--json"];
    let of_engine = fleet.bulk_arguments("ra");
    arguments.extend(of_engine.iter().map(String::as_str));
    bench.run(&arguments).expect(0, &[]);
    let over_api = bench.results("r2.jsonl");
    bench.assert_as_expected(&over_api);
    let sorted = |results: &[ResultLine]| {
        let mut gists: Vec<_> = results.iter().map(gist).collect();
        gists.sort();
        gists
    };
    for (by_itself, over_api) in sorted(&bench.results("r1.jsonl")).iter().zip(&sorted(&over_api)) {
        assert_eq!(by_itself, over_api, "the same by both ways");
    }

    // A second run with --resume asks nothing again.
    let answered = || {
        let (_, figures) = get(fleet.engine_metrics, "/metrics");
        let line = figures.lines().find(|line| line.starts_with("parallax_engine_answers_total ")).unwrap().to_owned();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let before = answered();
    arguments.push("--resume");
    bench.run(&arguments).expect(0, &[]);
    assert_eq!(answered(), before);
    assert_eq!(bench.results("r2.jsonl").len(), over_api.len());

    // Results of other requests are not taken for those of these.
    let lines = fs::read_to_string(bench.path("bulk.jsonl")).unwrap();
    let other = lines.replacen("\"identifier\":\"", "\"identifier\":\"x.", 1);
    bench.write("bulk.jsonl", &other);
    bench.run(&arguments).expect(2, &["another request then"]);
    bench.write("bulk.jsonl", &lines);

    assert_eq!(engine.stop(), 0, "{}", engine.said());
    for node in &mut nodes {
        assert_eq!(node.stop(), 0, "{}", node.said());
    }
    for journal in ["j1", "j2"] {
        bench.run(&["journal", "verify", journal]).expect(0, &[]);
    }
}

#[test]
fn a12_a_node_that_is_killed_paused_or_started_again_costs_its_own_answers_only() {
    let bench = Bench::new(71, 71, 20_000);
    let fleet = Fleet::make(&bench.path(""), 24_100);
    let mut nodes = fleet.start_nodes();
    let mut engine = fleet.start_engine("journal");
    until("the primary's link stands", || get(fleet.engine_metrics, "/readyz").0 == 200);
    let right: String = bench
        .scenarios()
        .filter(|scenario| scenario.kind == Kind::HttpOk)
        .take(300)
        .map(|scenario| request_line(&scenario) + "\n")
        .collect();
    bench.write("right.jsonl", &right);
    let of_engine = fleet.bulk_arguments("ra");
    let run = |out: &'static str| {
        let mut arguments = vec!["bulk", "right.jsonl", "--json", "--out", out];
        arguments.extend(of_engine.iter().map(String::as_str));
        bench.run(&arguments).expect(0, &[]);
        let results = bench.results(out);
        assert_eq!(results.len(), 300);
        results
    };
    let all_pass = |results: &[ResultLine], quorum: &[&str]| {
        for line in results {
            assert_eq!(line.verdict, "pass", "{line:?}");
            assert!(quorum.contains(&line.quorum.as_deref().unwrap()), "{line:?}");
        }
    };
    let results = run("all.jsonl");
    all_pass(&results, &["4/5", "5/5"]);

    // A remote that hangs: it is never awaited for a permission.
    nodes[1].signal(Signal::STOP);
    let results = run("paused.jsonl");
    all_pass(&results, &["4/5"]);
    nodes[1].signal(Signal::CONT);

    // A remote that is killed while requests are under way, and one more: then nothing can pass.
    nodes[2].kill();
    engine.says(&format!("perspective {}: no link", fleet.places[2].id), 1);
    let results = run("killed.jsonl");
    all_pass(&results, &["4/5"]);
    nodes[3].kill();
    engine.says(&format!("perspective {}: no link", fleet.places[3].id), 1);
    bench.write("few.jsonl", right.lines().take(3).map(|line| line.to_owned() + "\n").collect::<String>());
    let mut few = vec!["bulk", "few.jsonl", "--json", "--out", "few-out.jsonl"];
    few.extend(of_engine.iter().map(String::as_str));
    bench.run(&few).expect(0, &[]);
    for line in bench.results("few-out.jsonl") {
        assert_eq!((line.verdict.as_str(), line.decided_by.as_str()), ("fail", "quorum"), "{line:?}");
    }

    // Both come back, and everything is as before.
    nodes[2] = fleet.start_node(2);
    nodes[3] = fleet.start_node(3);
    engine.says(&format!("perspective {}: linked", fleet.places[2].id), 2);
    engine.says(&format!("perspective {}: linked", fleet.places[3].id), 2);
    let results = run("again.jsonl");
    all_pass(&results, &["4/5", "5/5"]);

    assert_eq!(engine.stop(), 0, "{}", engine.said());
    bench.run(&["journal", "verify", "journal"]).expect(0, &[]);
    let (records, _) = support::journal(&bench.path("journal"));
    assert_eq!(records.len(), 300 * 4 + 3, "no record is lost and none is there twice");
    for record in records.iter().filter(|record| record.permits()) {
        // A perspective is awaited for twelve seconds, if it is.
        let took = record.decided.duration_since(record.started);
        assert!(took.as_secs() < 10, "{took:?} for a permission that a hung node had no part in");
    }
}

#[test]
fn a12_a_node_that_is_not_whom_the_settings_mean_is_given_nothing() {
    let bench = Bench::new(72, 72, 10);
    let fleet = Fleet::make(&bench.path(""), 24_200);
    let settings = fs::read_to_string(fleet.path("engine.toml")).unwrap();
    let node = |index: usize| fs::read_to_string(fleet.path(&format!("{}.toml", fleet.places[index].id))).unwrap();
    let write =
        |index: usize, text: String| fs::write(fleet.path(&format!("{}.toml", fleet.places[index].id)), text).unwrap();
    // iad1 says that it is elsewhere; waw1 asks another resolver; sin1 has the certificate of gru1.
    write(1, node(1).replace("\"ARIN\"", "\"LACNIC\""));
    write(2, node(2).replace("127.2.0.3:", "127.2.0.4:"));
    let (sin1, gru1) = (fleet.places[3].id.clone(), fleet.places[4].id.clone());
    write(3, node(3).replace(&format!("pki/{sin1}."), &format!("pki/{gru1}.")));
    assert!(!node(3).contains(&format!("pki/{sin1}.")));
    // The last has a key of its own, and the settings pin another.
    let last = fleet.places[5].id.clone();
    let pin = parallax_protocol::pki::issue(&fleet.path("pki"), "another", 30, false).unwrap().pin;
    let pinned = settings.replace(&format!("id = \"{last}\""), &format!("id = \"{last}\"\nnode_keys = [\"{pin}\"]"));
    assert_ne!(settings, pinned);
    fs::write(fleet.path("engine.toml"), pinned).unwrap();
    let nodes = fleet.start_nodes();
    let mut engine = fleet.start_engine("journal");
    for (id, why) in [
        ("iad1", "rir: the engine says ARIN, this node LACNIC"),
        ("waw1", "resolver: the settings say"),
        (sin1.as_str(), "no link: "),
        (last.as_str(), "no link: "),
    ] {
        engine.says(&format!("perspective {id}: no link"), 1);
        let said = engine.said();
        let line = said.lines().find(|line| line.contains(&format!("perspective {id}: no link"))).unwrap();
        assert!(line.contains(why), "{line}");
    }
    engine.says(&format!("perspective {gru1}: linked"), 1);
    assert!(!engine.said().contains("perspective iad1: linked"));
    let (_, figures) = get(fleet.engine_metrics, "/metrics");
    assert!(figures.contains(&format!("parallax_engine_link_up{{perspective=\"{gru1}\"}} 1")), "{figures}");
    for id in ["iad1", "waw1", &sin1, &last] {
        assert!(figures.contains(&format!("parallax_engine_link_up{{perspective=\"{id}\"}} 0")), "{figures}");
    }
    assert_eq!(engine.stop(), 0);
    drop(nodes);
}
