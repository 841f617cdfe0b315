//! The methods of the Baseline Requirements as a list for people and programs.

use std::fmt::Write as _;

use jiff::Timestamp;
use parallax_validation::check::dcv::registry::{self, Row, Standing};
use serde_json::{Value, json};

/// As JSON: one object a section.
#[must_use]
pub fn as_json(at: Timestamp) -> Value {
    let row = |row: &Row| {
        json!({
            "section": row.section, "title": row.title, "methods": row.methods, "wildcard": row.wildcard,
            "prune": row.prune, "cname": row.cname, "onion": row.onion, "mpic": row.mpic,
            "caa_label": row.caa_label(), "reuse_days": row.reuse_days, "standing": standing_word(row, at),
            "discouraged": row.discouraged, "ends": row.ends, "outside": row.outside,
        })
    };
    json!({ "at": at, "methods": registry::rows().iter().map(row).collect::<Vec<_>>() })
}

/// As a table.
#[must_use]
pub fn as_text(at: Timestamp) -> String {
    let mut text = format!("Methods of the TLS Baseline Requirements 2.3.1 at {at}\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<11} {:<30} {:<9} {:<6} {:<6} {:<5} standing",
        "section", "method", "wildcard", "prune", "cname", "mpic"
    );
    for row in registry::rows() {
        let method = if row.methods.is_empty() { "-".to_owned() } else { row.methods.join(", ") };
        let word = |flag: bool| if flag { "yes" } else { "no" };
        let flags = [row.wildcard, row.prune, row.cname, row.mpic].map(word);
        let _ = writeln!(
            text,
            "{:<11} {method:<30} {:<9} {:<6} {:<6} {:<5} {}",
            row.section,
            flags[0],
            flags[1],
            flags[2],
            flags[3],
            standing(row, at)
        );
    }
    text
}

fn standing_word(row: &Row, at: Timestamp) -> &'static str {
    match row.standing(at) {
        Standing::Ended { .. } => "ended",
        _ if row.methods.is_empty() => "not offered",
        Standing::Good => "good",
        Standing::Discouraged { .. } => "discouraged",
    }
}

fn standing(row: &Row, at: Timestamp) -> String {
    let ends = row.ends.map(|ends| format!(", ends {}", registry::day(ends))).unwrap_or_default();
    match (row.standing(at), &row.outside) {
        (Standing::Ended { since: Some(since) }, _) => format!("ended {} ({})", registry::day(since), row.title),
        (Standing::Ended { since: None }, _) => format!("retired ({})", row.title),
        (_, Some(why)) => format!("{}: {why}{ends}", row.title),
        (Standing::Discouraged { since, .. }, None) => format!("discouraged since {}{ends}", registry::day(since)),
        (Standing::Good, None) => format!("good{ends}"),
    }
}
