//! Rules by date for people, old evidence under other rules, and cohorts looked at.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use parallax_perf::lab::kinds::Kind;
use serde_json::Value;
use support::Bench;

const NONE_MAY_FAIL: &str = r#"
[[row]]
effective = "2025-03-15T00:00:00Z"
section = "3.2.2.9"
br_version = "2.3.1"
remotes_min = 5
quorum_enforced = true
rirs_min = 2
allowed = [{ remotes_from = 5, allowed = 0 }]
"#;

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn a2_f6_rows_and_methods_are_shown_for_any_day() {
    let bench = Bench::new(30, 30, 2_000);
    for (at, remotes, confirm) in [
        ("2026-12-14T23:59:59Z", 4, &[3, 4, 4][..]),
        ("2026-12-15T00:00:00Z", 5, &[4, 4][..]),
        ("2025-03-15T00:00:00Z", 2, &[1, 2, 3, 4, 4][..]),
    ] {
        let shown = bench.run(&["policy", "show", "--at", at, "--json"]).json();
        let row = shown["rows"].as_array().unwrap().iter().find(|row| row["revision"] == shown["in_force"]).unwrap();
        assert_eq!(row["remotes_min"], remotes, "{at}");
        let counts = row["confirmations"].as_array().unwrap().iter().map(|count| count["confirm"].as_u64().unwrap());
        assert!(counts.zip(confirm).all(|(found, expected)| found == *expected), "{at}: {row}");
        let text = bench.run(&["policy", "show", "--at", at]).out;
        assert!(
            text.contains("must confirm") && text.contains(&format!("> {}", &row["effective"].as_str().unwrap()[..10])),
            "{text}"
        );
    }
    let laxer = NONE_MAY_FAIL.replace("allowed = 0", "allowed = 3");
    bench.write("laxer.toml", laxer);
    bench.run(&["policy", "show", "--policy", "laxer.toml"]).expect(2, &["too lax"]);
    let standing = |at: &str, section: &str| {
        let methods = bench.run(&["methods", "--at", at, "--json"]).json();
        let row = methods["methods"].as_array().unwrap().iter().find(|row| row["section"] == section).unwrap();
        row["standing"].as_str().unwrap().to_owned()
    };
    assert_eq!(standing("2026-11-26T00:00:00Z", "3.2.2.4.16"), "discouraged");
    assert_eq!(standing("2027-03-15T00:00:00Z", "3.2.2.4.16"), "ended");
    assert_eq!(standing("2027-03-15T00:00:00Z", "3.2.2.4.7"), "good");
    assert_eq!(standing("2026-11-26T00:00:00Z", "3.2.2.4.4"), "not offered");
    let text = bench.run(&["methods", "--at", "2027-03-15T00:00:00Z"]).out;
    assert!(text.contains("ended 2027-03-15 (Phone Contact with DNS TXT Record Phone Contact)"), "{text}");
}

#[test]
fn a21_old_evidence_is_judged_again_under_other_rules() {
    let bench = Bench::new(31, 31, 3_000);
    let kinds = [Kind::HttpOk, Kind::DnsOk, Kind::CaaNone, Kind::MpHijack1, Kind::HttpNxdomain];
    bench.write("some.jsonl", bench.lines(&kinds));
    let ended = bench.run(&["bulk", "some.jsonl", "--json", "--journal", "j", "--out", "o"]);
    ended.expect(0, &[]);
    let same = bench.run(&["replay", "j", "--json"]);
    assert_eq!(same.status, Some(0), "{}", same.err);
    let same = same.json();
    let (records, passed) = (same["records"].as_u64().unwrap(), same["corroborated"].as_u64().unwrap());
    assert_eq!((records, passed), (5, 4), "{same}");
    assert!(texts(&same["differences"]).is_empty() && texts(&same["undetermined"]).is_empty());

    // Before the first row nothing could be corroborated.
    let before = bench.run(&["policy", "shadow", "j", "--at", "2025-01-01T00:00:00Z", "--json"]);
    assert_eq!(before.status, Some(1), "{}", before.err);
    let before = before.json();
    let differences = before["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 4, "{before}");
    for difference in differences {
        assert_eq!((&difference["recorded"], &difference["replayed"]), (&"corroborated".into(), &"refused".into()));
    }

    // Where none may fail, what was decided by four of five is open, or fails if the fifth saw otherwise.
    bench.write("none.toml", NONE_MAY_FAIL);
    let strict = bench.run(&["replay", "j", "--policy", "none.toml", "--json"]).json();
    let count = |key: &str| strict[key].as_array().unwrap().len();
    assert!(count("differences") + count("undetermined") >= 1, "one remote was led astray: {strict}");
    for difference in strict["differences"].as_array().unwrap() {
        assert_eq!(difference["replayed"], "refused");
        assert!(!difference["message"].as_str().unwrap().is_empty());
    }
    bench.run(&["replay", "nothing-there"]).expect(2, &["nothing-there"]);
    let text = bench.run(&["replay", "j"]).out;
    assert!(text.starts_with("5 records judged again, 4 of them recorded as corroborated; 0 would be"), "{text}");
}

#[test]
fn a5_a6_a_cohort_is_looked_at_before_it_is_used() {
    let bench = Bench::new(32, 32, 2_000);
    bench.write("sample.toml", bench.run(&["config", "sample"]).out);
    let report = bench.run(&["cohort", "check", "--config", "sample.toml", "--json"]).json();
    let matrix = report["distances_km"].as_array().unwrap();
    assert_eq!(matrix.len(), 6);
    assert!(matrix.iter().enumerate().all(|(at, row)| row[at] == 0.0 && row[(at + 1) % 6].as_f64().unwrap() > 501.0));
    assert!(texts(&report["violations"]).is_empty());
    let loss = |what: &str| {
        let found = report["losses"].as_array().unwrap().iter().find(|loss| loss["lost"] == what);
        let found = found.unwrap_or_else(|| panic!("{what} in {report}"));
        (found["passes"].as_bool().unwrap(), found["margin"].as_i64().unwrap())
    };
    assert_eq!(loss("nothing"), (true, 1));
    assert_eq!(loss("perspective iad1"), (true, 0));
    assert!(!loss("perspective ams1").0, "the primary");
    assert!(!loss("region RIPE NCC").0, "the primary's region");
    // Moved next to another, it is a broken rule, and the report says which.
    let text = bench.run(&["config", "sample"]).out;
    let moved =
        text.replacen("latitude = 52.2", "latitude = 52.4", 1).replacen("longitude = 21.0", "longitude = 5.2", 1);
    assert_ne!(moved, text, "waw1 stands at 52.2, 21.0 in the sample");
    bench.write("moved.toml", moved);
    let broken = bench.run(&["cohort", "check", "--config", "moved.toml"]);
    broken.expect(1, &[]);
    assert!(
        broken.out.contains("broken: the perspectives of ams1 and waw1 are") && broken.out.contains("22*"),
        "{}",
        broken.out
    );

    let plan =
        bench.run(&["cohort", "plan", "--config", "sample.toml", "--site", "fra1,RIPE NCC,50.1,8.7", "--json"]).json();
    let of = |what: &str| {
        let found =
            plan.as_array().unwrap().iter().find(|addition| addition["what"].as_str().unwrap().starts_with(what));
        found.unwrap_or_else(|| panic!("{what} in {plan}")).clone()
    };
    assert_eq!((&of("as it is")["confirm"], &of("as it is")["may_fail"]), (&4.into(), &1.into()));
    // A sixth remote needs no more confirmations than five (req A3).
    assert_eq!((&of("one more in APNIC")["confirm"], &of("one more in APNIC")["may_fail"]), (&4.into(), &2.into()));
    assert!(texts(&of("fra1")["violations"])[0].contains("ams1 and fra1"), "{plan}");
    bench.run(&["cohort", "plan", "--config", "sample.toml", "--site", "x,Mars,1,2"]).expect(2, &["--site x,Mars,1,2"]);
}

#[test]
fn b17_a_newer_suffix_list_is_read_and_its_age_told() {
    let bench = Bench::new(33, 33, 2_000);
    let sample = bench.run(&["config", "sample"]).out;
    bench.write("with.toml", format!("public_suffix_list = \"list.dat\"\n{sample}"));
    let list = |version: &str| {
        format!(
            "// VERSION: {version}\n// ===BEGIN ICANN DOMAINS===\ncom\nuk\nco.uk\nau\ncom.au\njp\nco.jp\n// ===END ICANN DOMAINS===\n"
        )
    };
    let checked = |text: String| {
        bench.write("list.dat", text);
        bench.run(&["config", "check", "with.toml", "--json"])
    };
    let new = checked(list("2099-01-01_00-00-00_UTC")).json();
    assert!(new["public_suffix_list"].as_str().unwrap().contains("2099-01-01"), "{new}");
    assert!(!texts(&new["warnings"]).iter().any(|warning| warning.contains("public_suffix_list")), "{new}");
    let old = checked(list("2020-01-01_00-00-00_UTC")).json();
    assert!(
        texts(&old["warnings"])
            .iter()
            .any(|warning| warning.starts_with("public_suffix_list: ") && warning.contains("days old")),
        "{old}"
    );
    checked("com\n".to_owned()).expect(2, &["public_suffix_list", "list.dat", "no public suffix list"]);
}
