//! `parallax plan` as people use it: the sample, figures in its place, pages, JSON, and what is refused.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

use std::{fs, path::Path, process::Command};

use serde_json::Value;

const MEASURED: &str = include_str!("golden/plan-measured.json");

struct Run {
    status: i32,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        assert_eq!(self.status, 0, "{}", self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// A directory with the sample and a measurement of round figures.
fn bench() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("open.json"), MEASURED).unwrap();
    fs::write(directory.path().join("demand.toml"), plan(directory.path(), &["--sample"]).out).unwrap();
    directory
}

fn plan(directory: &Path, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_parallax"))
        .arg("plan")
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    Run { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn ok_the_sample_is_planned_as_text_json_and_page() {
    let bench = bench();
    let asked = ["demand.toml", "--measured", "open.json", "--html", "plan.html", "--pictures", "pictures"];
    let shown = plan(bench.path(), &asked);
    assert_eq!((shown.status, shown.err.as_str()), (0, ""));
    for part in ["λ × W = L", "Mass re-issue", "What if", "Assumed", "measured", "demand", "rule", "model"] {
        assert!(shown.out.contains(part), "{part}: {}", shown.out);
    }
    let page = fs::read_to_string(bench.path().join("plan.html")).unwrap();
    for name in ["rate", "in-flight", "cores", "disk"] {
        let picture = fs::read_to_string(bench.path().join(format!("pictures/plan-{name}.svg"))).unwrap();
        assert!(picture.starts_with("<svg ") && picture.contains("<style>:root{"), "{name}");
    }
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.contains("prefers-color-scheme"));
    let asked = ["demand.toml", "--measured", "open.json", "--json", "--at", "2029-03-15"];
    let json = plan(bench.path(), &asked).json();
    let step = &json["steps"][0];
    assert_eq!((&step["date"], &step["traffic"]["reuse_days"]), (&"2029-03-15".into(), &10.0.into()));
    assert!(json["what_if"].as_array().unwrap().len() > 5 && json["assumptions"].as_array().unwrap().len() > 10);
}

#[test]
fn ok_without_a_measurement_the_reference_is_used_and_every_form_says_so_first() {
    let bench = bench();
    let page = |further: &[&str]| {
        let asked = [&["demand.toml", "--html", "plan.html", "--pictures", "pictures"], further].concat();
        let shown = plan(bench.path(), &asked);
        assert_eq!((shown.status, shown.err.as_str()), (0, ""));
        let picture = fs::read_to_string(bench.path().join("pictures/plan-rate.svg")).unwrap();
        (shown.out, fs::read_to_string(bench.path().join("plan.html")).unwrap(), picture)
    };
    let (text, html, picture) = page(&[]);
    assert!(text.starts_with("NOT YOUR MACHINE. "), "{text}");
    let head = text.split_once("Capacity plan").unwrap().0;
    let first = html.split_once("<h1>").unwrap().0;
    for part in [
        "2 × AMD EPYC",
        "Linux 6.18.44-fc-v509",
        "commit f30a350246c2",
        "2026-11-27T10:06:29Z",
        "parallax-perf open --mix slow --rates 20,100 --seconds 15 --out planner-slow.json",
        "parallax-perf open --mix slow --rates 20,100 --seconds 15 --out slow.json",
        "--measured quick.json --measured slow.json",
    ] {
        assert!(head.contains(part) && first.contains(part), "{part}: {head}{first}");
    }
    let assumed = text.split_once("\nAssumed\n").unwrap().1;
    assert!(assumed.contains("  reference memory: ") && !assumed.contains("  measured "), "{assumed}");
    let line = "Not your machine: 2 × AMD EPYC, Linux 6.18.44-fc-v509, commit f30a350246c2, 2026-11-27</text>";
    assert!(picture.contains(line), "{picture}");
    assert_eq!(html.matches(line).count(), 5, "in each picture of the page");

    let asked = ["demand.toml", "--json", "--at", "2029-03-15"];
    let shown = plan(bench.path(), &asked);
    assert!(shown.out.starts_with("{\"reference\":{\"notice\":\""), "{}", shown.out);
    let json = shown.json();
    assert_eq!(json["reference"]["measured"][1]["cpu"], "AMD EPYC");
    assert_eq!(json["reference"]["how_to_measure"].as_array().unwrap().len(), 4);
    assert!(json["steps"][0]["fleet"]["cores"].as_f64().unwrap() > 1.0);

    // A measurement replaces it, and nothing of it is left.
    let (text, html, picture) = page(&["--measured", "open.json"]);
    for shown in [&text, &html, &picture] {
        assert!(!shown.to_lowercase().contains("not your machine") && !shown.contains("AMD EPYC"), "{shown}");
    }
    let json = plan(bench.path(), &[&asked[..], &["--measured", "open.json"]].concat()).json();
    assert_eq!(json["reference"], Value::Null);
}

#[test]
fn ok_the_reference_is_what_was_measured_to_the_octet() {
    for (built_in, result) in [
        (include_str!("../src/plan/reference/quick.json"), "2026-11-27-planner-quick.json"),
        (include_str!("../src/plan/reference/slow.json"), "2026-11-27-planner-slow.json"),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/results").join(result);
        assert!(fs::read_to_string(path).unwrap() == built_in, "{result} is not what is built in");
    }
}

#[test]
fn ok_one_date_and_figures_in_the_demands_place() {
    let bench = bench();
    let of = |further: &[&str]| {
        let asked =
            ["demand.toml", "--measured", "open.json", "--measured", "open.json", "--json", "--at", "2029-03-15"];
        plan(bench.path(), &[&asked, further].concat()).json()
    };
    let base = of(&["--growth", "0"]);
    assert_eq!(base["steps"].as_array().unwrap().len(), 1);
    let attempts = |json: &Value| json["steps"][0]["traffic"]["attempts_per_day"]["dns-01"].as_f64().unwrap();
    let twice = of(&["--growth", "0", "--active", "20000000"]);
    assert!((attempts(&twice) / attempts(&base) - 2.0).abs() < 1e-9);
    let other = of(&["--per-day", "1000", "--remotes", "6", "--parallel", "--keep-days", "1200", "--mass", "5"]);
    assert_eq!(other["demand"]["certificates"]["active"], Value::Null);
    assert_eq!(other["demand"]["perspectives"], serde_json::json!({ "remotes": 6, "primary_first": false }));
    assert_eq!(other["steps"][0]["journal"]["keep_days"], 1200);
    assert_eq!(other["demand"]["mass"]["certificates"], 5.0);
}

#[test]
fn ok_what_an_engine_should_show_is_told_for_a_mix_at_a_rate() {
    let bench = bench();
    fs::write(bench.path().join("mix.json"), r#"{"name":"mine","kinds":{"dns-ok":2}}"#).unwrap();
    let asked = ["--measured", "open.json", "--expect-mix", "mix.json", "--rate", "1000", "--json"];
    let found = plan(bench.path(), &asked).json();
    assert_eq!(found["reference"], Value::Null);
    let of_reference = plan(bench.path(), &asked[2..]).json();
    assert_eq!((&of_reference["mix"], &of_reference["reference"]["measured"][0]["cpus"]), (&"mine".into(), &2.into()));
    assert_eq!((&found["mix"], &found["offered_per_second"]), (&"mine".into(), &1000.0.into()));
    for (figure, expected) in [
        ("cpu_us_per_request", 150.0),
        ("validations_per_second_per_core", 1e6 / 150.0),
        ("in_flight", 4.0),
        ("rss_kib", 30_032.0),
    ] {
        let value = found[figure].as_f64().unwrap();
        assert!((value - expected).abs() < expected * 1e-6, "{figure}: {value}");
    }
}

#[test]
fn err_what_cannot_be_used_is_refused_by_name() {
    let bench = bench();
    let write = |name: &str, text: &str| fs::write(bench.path().join(name), text).unwrap();
    write("odd.json", "{\"form\":\"parallax-open-2\",\"runs\":[]}");
    write(
        "bad.toml",
        &fs::read_to_string(bench.path().join("demand.toml")).unwrap().replace("remotes = 5", "remotes = 99"),
    );
    write("less.json", &MEASURED.replace("\"mix\":\"caa\"", "\"mix\":\"other\""));
    write("mix.json", r#"{"name":"mine","kinds":{"dns-dname":1}}"#);
    let mut erred: Value = serde_json::from_str(MEASURED).unwrap();
    erred["runs"][7]["wrong"] = 2.into();
    write("erred.json", &erred.to_string());
    for (arguments, told) in [
        (&[][..], "DEMAND"),
        (&["--measured", "open.json"], "DEMAND"),
        (&["missing.toml", "--measured", "open.json"], "missing.toml: No such file"),
        (&["demand.toml", "--measured", "odd.json"], "odd.json: form: \"parallax-open-2\" is not \"parallax-open-1\""),
        (&["bad.toml", "--measured", "open.json"], "bad.toml: perspectives.remotes: 99 is not in 2..=15"),
        (
            &["demand.toml", "--measured", "open.json", "--measured", "erred.json"],
            "erred.json: runs[7] (caa at 1000/s): 2 wrong verdicts",
        ),
        (&["demand.toml", "--measured", "less.json"], "no usable run measured caa"),
        (&["demand.toml", "--measured", "open.json", "--keep-days", "100"], "journal.keep_days: 100 is not in 1130..="),
        (&["demand.toml", "--measured", "open.json", "--at", "2020-01-01"], "2020-01-01 lies before 2026-03-15"),
        (&["--measured", "open.json", "--expect-mix", "mix.json"], "--rate"),
        (
            &["--measured", "open.json", "--expect-mix", "mix.json", "--rate", "5"],
            "mix.json: no usable run measured dns-dname",
        ),
    ] {
        let found = plan(bench.path(), arguments);
        assert_eq!((found.status, found.out.as_str()), (2, ""), "{arguments:?}: {}", found.err);
        assert!(found.err.contains(told), "{told}: {}", found.err);
    }
    let found = plan(bench.path(), &["demand.toml", "--measured", "open.json", "--html", "no/such/place.html"]);
    assert_eq!(found.status, 3, "{}", found.err);
    assert!(found.err.contains("no/such/place.html: No such file"), "{}", found.err);
}
