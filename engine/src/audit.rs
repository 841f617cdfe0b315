//! Reading a journal back, and recomputing every verdict from it alone.

use std::{collections::HashMap, path::Path};

use parallax_validation::{
    base::octets::escape,
    record::{LateEntry, Record, Rules, Setup, SetupError},
};
use thiserror::Error;

use crate::{
    corroborate::{ENTRY_LATE, ENTRY_RECORD, ENTRY_SETUP},
    journal::{Cut, JournalError, Reader},
};

/// One entry, read.
#[derive(Debug)]
pub enum Item {
    /// Rules and cohort of the records that name it.
    Setup(Box<Setup>),
    /// An attempt.
    Record(Box<Record>),
    /// An answer that came after its verdict.
    Late(Box<LateEntry>),
}

/// A journal that cannot be read, or does not hold what it should.
#[derive(Debug, Error)]
pub enum AuditError {
    /// Its form.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry.
    #[error("entry {sequence} (segment {segment}, offset {offset}): {problem}")]
    Entry {
        /// Its number.
        sequence: u64,
        /// Its segment.
        segment: u64,
        /// Its place there, octets.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Entries of a journal, one after the other.
pub struct Items {
    reader: Reader,
}

impl Items {
    /// Opens a journal for reading; a writer may be at work.
    ///
    /// # Errors
    /// It is none, or damaged.
    pub fn open(directory: &Path) -> Result<Self, AuditError> {
        Ok(Self { reader: Reader::open(directory)? })
    }

    /// The next entry with its number.
    ///
    /// # Errors
    /// Damage, or an entry that cannot be read.
    pub fn next_item(&mut self) -> Result<Option<(u64, Item)>, AuditError> {
        let Some(entry) = self.reader.next_entry()? else { return Ok(None) };
        let problem = |problem: String| AuditError::Entry {
            sequence: entry.sequence,
            segment: entry.segment,
            offset: entry.offset,
            problem,
        };
        let json = |error: serde_json::Error| problem(escape(error.to_string().as_bytes()));
        let item = match entry.kind {
            ENTRY_SETUP => Item::Setup(serde_json::from_slice(&entry.payload).map_err(json)?),
            ENTRY_RECORD => Item::Record(serde_json::from_slice(&entry.payload).map_err(json)?),
            ENTRY_LATE => Item::Late(serde_json::from_slice(&entry.payload).map_err(json)?),
            other => return Err(problem(format!("kind {other} is not known to this version"))),
        };
        Ok(Some((entry.sequence, item)))
    }

    /// A tail that was not written to its end, if there is one.
    #[must_use]
    pub fn torn_tail(&self) -> Option<Cut> {
        self.reader.torn_tail()
    }
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Attempts recomputed.
    pub records: u64,
    /// Of these, permissions.
    pub corroborated: u64,
    /// Late answers.
    pub late: u64,
    /// Entries whose recomputation differs, with the reason.
    pub mismatches: Vec<String>,
    /// Request ids with more than one record.
    pub repeated: Vec<String>,
    /// A tail that was not written to its end; nothing of it was released.
    pub torn_tail: Option<Cut>,
}

impl Verification {
    /// Whether everything holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.mismatches.is_empty() && self.repeated.is_empty()
    }
}

/// Recomputes every verdict of a journal from the journal alone.
///
/// # Errors
/// Damage, or an entry that cannot be read.
pub fn verify(directory: &Path) -> Result<Verification, AuditError> {
    let mut items = Items::open(directory)?;
    let mut rules: HashMap<String, Rules> = HashMap::new();
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut found = Verification::default();
    while let Some((sequence, item)) = items.next_item()? {
        match item {
            Item::Setup(setup) => match setup.rules() {
                Ok(ready) => {
                    rules.insert(ready.digest().to_owned(), ready);
                }
                Err(error @ (SetupError::Policy(_) | SetupError::Perspectives)) => {
                    found.mismatches.push(format!("entry {sequence}: {error}"));
                }
            },
            Item::Record(record) => {
                found.records += 1;
                found.corroborated += u64::from(record.verdict.permits());
                *seen.entry(record.request.id.to_string()).or_default() += 1;
                let outcome = match rules.get(&record.setup) {
                    Some(rules) => record.recompute(rules).map_err(|mismatch| mismatch.to_string()),
                    None => Err("its setup is not in the journal before it".to_owned()),
                };
                if let Err(problem) = outcome {
                    found.mismatches.push(format!("entry {sequence}, {}: {problem}", record.request.id));
                }
            }
            Item::Late(_) => found.late += 1,
        }
    }
    found.torn_tail = items.torn_tail();
    found.repeated = seen.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id).collect();
    found.repeated.sort();
    Ok(found)
}
