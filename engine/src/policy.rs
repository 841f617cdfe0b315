//! The dated rows for people and programs, and old evidence judged under other rows.

use std::{collections::HashMap, fmt::Write as _, path::Path};

use jiff::Timestamp;
use parallax_validation::{
    record::{Record, Reply, Rules, Setup, Terms, evaluate},
    verdict::{
        PerspectiveState, Refusal, Verdict,
        policy::{PolicyRow, PolicyTable},
        quorum::Settlement,
    },
};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::audit::{AuditError, Item, Items};

/// Remotes that the table of needed confirmations shows.
const REMOTES_SHOWN: std::ops::RangeInclusive<u8> = 2..=10;

/// The rows as JSON, with the one in force at `at`.
#[must_use]
pub fn as_json(table: &PolicyTable, at: Timestamp) -> Value {
    let row = |row: &PolicyRow| {
        let needs: Vec<Value> = REMOTES_SHOWN
            .filter(|remotes| *remotes >= row.remotes_min())
            .filter_map(|remotes| Some(json!({ "remotes": remotes, "confirm": remotes - row.allowed(remotes)? })))
            .collect();
        json!({
            "revision": row.revision(), "effective": row.effective(), "section": row.section(),
            "br_version": row.br_version(), "remotes_min": row.remotes_min(), "rirs_min": row.rirs_min(),
            "quorum_enforced": row.quorum_enforced(), "confirmations": needs,
        })
    };
    json!({
        "at": at,
        "in_force": table.row_at(at).map(PolicyRow::revision),
        "next": table.next_after(at).map(PolicyRow::revision),
        "rows": table.rows().iter().map(row).collect::<Vec<_>>(),
    })
}

/// The rows as a table, with the one in force at `at`.
#[must_use]
pub fn as_text(table: &PolicyTable, at: Timestamp) -> String {
    let in_force = table.row_at(at);
    let mut text = format!("Corroboration rule at {at}\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  {:<12} {:<9} {:<13} {:<12} {:<9} revision",
        "from", "section", "remotes, min", "RIRs, min", "enforced"
    );
    for row in table.rows() {
        let mark = if in_force.is_some_and(|now| now.revision() == row.revision()) { '>' } else { ' ' };
        let enforced = if row.quorum_enforced() { "yes" } else { "no" };
        let rirs = if row.rirs_min() == 0 { "no rule".to_owned() } else { row.rirs_min().to_string() };
        let _ = writeln!(
            text,
            "{mark} {:<12} {:<9} {:<13} {rirs:<12} {enforced:<9} {}",
            row.effective().strftime("%Y-%m-%d").to_string(),
            row.section(),
            row.remotes_min(),
            row.revision()
        );
    }
    let Some(row) = in_force else {
        text += "\nNo row is in force then.\n";
        return text;
    };
    let shown = REMOTES_SHOWN.filter(|remotes| *remotes >= row.remotes_min());
    let counts: Vec<(u8, u8)> = shown.filter_map(|remotes| Some((remotes, row.allowed(remotes)?))).collect();
    let line = |label: &str, values: Vec<u8>| {
        let cells: String = values.iter().map(|value| format!("{value:>4}")).collect();
        format!("  {label:<16}{cells}\n")
    };
    text += "\n";
    text += &line("remotes used", counts.iter().map(|(remotes, _)| *remotes).collect());
    text += &line("may fail", counts.iter().map(|(_, allowed)| *allowed).collect());
    text += &line("must confirm", counts.iter().map(|(remotes, allowed)| remotes - allowed).collect());
    if let Some(next) = table.next_after(at) {
        let _ = writeln!(
            text,
            "\nFrom {} on: at least {} remotes.",
            next.effective().strftime("%Y-%m-%d"),
            next.remotes_min()
        );
    }
    text
}

/// Under what recorded evidence is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay<'a> {
    /// As if every attempt had begun and ended then; by the clock of its own if none.
    pub at: Option<Timestamp>,
    /// Policy rows in place of the recorded ones.
    pub policy: Option<&'a str>,
}

/// A verdict that would be another one.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Number of its entry.
    pub entry: u64,
    /// The attempt.
    pub attempt: String,
    /// The request.
    pub request: String,
    /// What it was.
    pub recorded: &'static str,
    /// What it would be.
    pub replayed: &'static str,
    /// Why, in the words of the new verdict.
    pub message: String,
}

/// What came of judging old evidence again.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replayed {
    /// Attempts judged.
    pub records: u64,
    /// Of these, permissions as recorded.
    pub corroborated: u64,
    /// Those that would be another verdict.
    pub differences: Vec<Difference>,
    /// Those that cannot be told, since remotes that might have decided were not waited for.
    pub undetermined: Vec<Difference>,
}

/// A replay that cannot be made.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The journal.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A record whose evidence is missing.
    #[error("entry {entry}, {problem}")]
    Record {
        /// The entry.
        entry: u64,
        /// What is wrong.
        problem: String,
    },
    /// A setup in it, or the rows given.
    #[error("entry {entry}: {problem}")]
    Setup {
        /// The entry.
        entry: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Judges every attempt of a journal again.
///
/// # Errors
/// The journal cannot be read, or the rows are none.
pub fn replay(directory: &Path, under: Replay<'_>) -> Result<Replayed, ReplayError> {
    let mut items = Items::open(directory)?;
    // As recorded, and as replayed.
    let mut rules: HashMap<String, (Rules, Rules)> = HashMap::new();
    let mut latest = None;
    let mut found = Replayed::default();
    while let Some((entry, item)) = items.next_item()? {
        match item {
            // Every segment begins with its setup again.
            Item::Setup(setup) if latest.as_ref() == Some(&setup) => {}
            Item::Setup(setup) => {
                latest = Some(setup.clone());
                let problem = |error: &dyn std::fmt::Display| ReplayError::Setup { entry, problem: error.to_string() };
                let recorded = setup.clone().rules().map_err(|error| problem(&error))?;
                let policy = under.policy.map_or_else(|| setup.policy.clone(), str::to_owned);
                let other = Setup { policy, ..*setup }.rules().map_err(|error| problem(&error))?;
                rules.insert(recorded.digest().to_owned(), (recorded, other));
            }
            Item::Record(record) => {
                let Some((recorded, other)) = rules.get(&record.setup) else {
                    let problem = "its setup is not in the journal before it".to_owned();
                    return Err(ReplayError::Setup { entry, problem });
                };
                let replies = record.replies().map_err(|mismatch| {
                    let problem = format!("{}: {mismatch}", record.request.id);
                    ReplayError::Record { entry, problem }
                })?;
                // Who was asked stands, whatever would be drawn today.
                let Some(members) = recorded.members(record.started, record.seed) else {
                    let problem = format!("{}: its seed draws no cohort", record.request.id);
                    return Err(ReplayError::Record { entry, problem });
                };
                found.note(entry, &record, (other, &members), under, &replies);
            }
            Item::Late(_) | Item::Trial(_) | Item::Rejected(_) | Item::Removed(_) => {}
        }
    }
    Ok(found)
}

impl Replayed {
    fn note(
        &mut self,
        entry: u64,
        record: &Record,
        (rules, members): (&Rules, &[u8]),
        under: Replay<'_>,
        replies: &[Reply],
    ) {
        self.records += 1;
        self.corroborated += u64::from(record.permits());
        if record.restarted {
            // Nobody was told its outcome.
            return;
        }
        let (started, decided) = under.at.map_or((record.started, record.decided), |at| (at, at));
        let terms = Terms { started, ..record.terms(members) };
        let evaluation = evaluate(rules, &terms, decided, replies);
        if word(&record.verdict) == word(&evaluation.verdict) {
            return;
        }
        let difference = Difference {
            entry,
            attempt: record.attempt.to_string(),
            request: record.request.id.to_string(),
            recorded: word(&record.verdict),
            replayed: word(&evaluation.verdict),
            message: evaluation.explanation.message,
        };
        let states: Vec<PerspectiveState> = evaluation.answers.iter().skip(1).map(|answer| answer.state()).collect();
        if is_open(rules, terms, decided, &evaluation.verdict, &states) {
            self.undetermined.push(difference);
        } else {
            self.differences.push(difference);
        }
    }
}

/// Whether remotes that were not waited for, or not asked, could still have made it a permission.
fn is_open(
    rules: &Rules,
    terms: Terms<'_>,
    decided: Timestamp,
    verdict: &Verdict,
    states: &[PerspectiveState],
) -> bool {
    let Verdict::Refused { refusal: Refusal::Quorum(_), .. } = verdict else { return false };
    let Some((quorum, _)) = rules.quorum(terms.request, terms.members, terms.started, decided) else { return false };
    let mask = |fits: fn(PerspectiveState) -> bool| {
        states.iter().enumerate().filter(|(_, state)| fits(**state)).fold(0_u16, |mask, (bit, _)| mask | 1 << bit)
    };
    let confirmed = mask(|state| state == PerspectiveState::Confirmed);
    let open = mask(|state| matches!(state, PerspectiveState::NotAwaited | PerspectiveState::NotAsked));
    quorum.settle(confirmed, quorum.all() & !confirmed & !open) == Settlement::Open
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Corroborated(_) => "corroborated",
        Verdict::Refused { .. } => "refused",
    }
}

/// A replay for people.
#[must_use]
pub fn replayed_text(found: &Replayed) -> String {
    let mut text = format!(
        "{} records judged again, {} of them recorded as corroborated; {} would be another verdict, {} cannot be told\n",
        found.records,
        found.corroborated,
        found.differences.len(),
        found.undetermined.len()
    );
    for (difference, note) in found
        .differences
        .iter()
        .map(|difference| (difference, ""))
        .chain(found.undetermined.iter().map(|difference| (difference, " (remotes were not waited for)")))
    {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "  entry {}, {}: {} → {}{note}: {}",
            difference.entry, difference.request, difference.recorded, difference.replayed, difference.message
        );
    }
    text
}
