//! The dashboard asks only for figures that exist: their names are read from where the programs register them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::BTreeSet;

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../packaging/grafana/parallax.json");

/// Where each program registers its figures.
const SOURCES: [&str; 3] = [
    include_str!("../src/watch/metrics.rs"),
    include_str!("../src/serve/telemetry.rs"),
    include_str!("../../perspective-node/src/telemetry.rs"),
];

/// The program of a source, without its tests and on one line.
fn program(source: &str) -> String {
    source.split("#[cfg(test)]").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(")
}

/// The literal that a text begins with, and what follows it.
fn literal(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('"')?.split_once('"')
}

/// What stands between the parentheses of a call whose first argument is a literal: that, and the others.
fn calls<'a>(program: &'a str, function: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let opening = format!("{function}(");
    let starts: Vec<usize> = program.match_indices(&opening).map(|(at, _)| at + opening.len()).collect();
    starts.into_iter().filter_map(|at| {
        let (name, rest) = literal(&program[at..])?;
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        })?;
        Some((name, &rest[..end]))
    })
}

/// Rows of a table of figures: `("name", "What it is", …)`. Which kind they are is said where the table is used.
fn rows(program: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in program.match_indices(" (\"").chain(program.match_indices("[(\"")) {
        let Some((name, rest)) = literal(&program[at + 2..]) else { continue };
        let is_name = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_help = rest.strip_prefix(", \"").is_some_and(|help| help.starts_with(char::is_uppercase));
        if is_name && is_help {
            let next = |word: &str| rest.find(word).unwrap_or(usize::MAX);
            let counter = next("ConstCounter").min(next("MetricType::Counter"));
            let gauge = next("ConstGauge").min(next("MetricType::Gauge"));
            found.push(if counter < gauge { format!("{name}_total") } else { name.to_owned() });
        }
    }
    found
}

/// The names that Prometheus sees: prefix, name, unit, and `_total` of counters or `_info`.
fn registered(source: &str) -> BTreeSet<String> {
    let program = program(source);
    let (prefix, _) = calls(&program, "Registry::with_prefix").next().unwrap();
    let mut names = rows(&program);
    for function in [" counter", " family"] {
        names.extend(calls(&program, function).map(|(name, _)| format!("{name}_total")));
    }
    for (name, rest) in calls(&program, "registry.register") {
        names.push(match (rest.contains("Info::new"), rest.contains("Family::clone")) {
            (true, _) => format!("{name}_info"),
            (_, true) => format!("{name}_total"),
            _ => name.to_owned(),
        });
    }
    for (name, rest) in calls(&program, "registry.register_with_unit") {
        let unit = rest.split("Unit::").nth(1).unwrap().split(',').next().unwrap();
        names.push(format!("{name}_{}", unit.to_lowercase()));
    }
    for (name, rest) in calls(&program, "encode_descriptor") {
        names.push(match (rest.contains("MetricType::Gauge"), rest.contains("Some(&unit)")) {
            (true, _) => name.to_owned(),
            // The only unit there is.
            (_, true) => format!("{name}_seconds_total"),
            _ => format!("{name}_total"),
        });
    }
    names.into_iter().map(|name| format!("{prefix}_{name}")).collect()
}

fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get("expr").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| queries(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| queries(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn asked() -> Vec<String> {
    let mut found = Vec::new();
    queries(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
}

fn words(query: &str) -> impl Iterator<Item = &str> {
    query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

#[test]
fn ok_names_are_read_from_the_sources() {
    let [watch, engine, node] = SOURCES.map(registered);
    for (found, least, some) in [
        (&watch, 13, ["parallax_attempts_total", "parallax_lag_seconds", "parallax_patterns"]),
        (
            &engine,
            20,
            ["parallax_engine_link_up", "parallax_engine_answers_total", "parallax_engine_link_broken_total"],
        ),
        (&node, 16, ["parallax_node_worker_cpu_seconds_total", "parallax_node_ready", "parallax_node_build_info"]),
    ] {
        assert!(found.len() >= least, "{found:#?}");
        assert!(some.iter().all(|name| found.contains(*name)), "{found:#?}");
    }
}

#[test]
fn ok_every_figure_of_the_dashboard_exists() {
    let exist: BTreeSet<String> = SOURCES.into_iter().flat_map(registered).collect();
    let queries = asked();
    assert!(queries.len() > 30, "only {} queries", queries.len());
    for query in &queries {
        let names: Vec<&str> = words(query).filter(|word| word.starts_with("parallax")).collect();
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(exist.contains(name), "no program has {name}: {query}");
        }
    }
}

#[test]
fn ok_every_label_of_the_dashboard_exists() {
    for query in &asked() {
        let grouped = query.split("by (").skip(1).flat_map(|rest| words(rest.split(')').next().unwrap()));
        let selected = query.split('{').skip(1).flat_map(|rest| words(rest).take(1));
        for label in grouped.chain(selected).filter(|label| !label.is_empty() && *label != "instance") {
            let is_ours = SOURCES.iter().any(|source| source.contains(&format!("(\"{label}\", ")));
            assert!(is_ours, "no program has the label {label}: {query}");
        }
    }
}
