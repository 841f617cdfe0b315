//! How long records are kept (req E5), and the removal of segments that are older.
//!
//! Invariant: no record goes that was decided within the last [`KEEP_DAYS_MIN`] days, and none stays without its setup.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use thiserror::Error;

use crate::{
    audit::{AuditError, Item, read_item},
    captures,
    corroborate::{ENTRY_LATE, ENTRY_RECORD, ENTRY_SETUP, ENTRY_TRIAL},
    journal::{JournalError, KIND_REMOVED, Place, Reader, RemovalNote, Removed, Writer, segments},
};

/// The least that records are kept: used again for 200 days, for certificates of 200 days, and two years beyond their
/// end (TLS BR 2.3.1 §5.4.3 and §5.5.2; req E5).
pub const KEEP_DAYS_MIN: u32 = 1130;

/// Why nothing is removed.
#[derive(Debug, Error)]
pub enum RetentionError {
    /// The journal cannot be read, or an entry of it.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The journal cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The cut is too late.
    #[error(
        "records decided before {cut} cannot be removed yet: they are kept for {KEEP_DAYS_MIN} days, that is 200 days of \
         reuse, 200 days of validity and 2 years (TLS BR 2.3.1 §5.4.3, §5.5.2); before {latest} is the latest"
    )]
    TooRecent {
        /// What was asked for.
        cut: Timestamp,
        /// What may be asked for.
        latest: Timestamp,
    },
}

/// Reads a date, such as 2023-01-31, that begins in UTC, or an instant.
///
/// # Errors
/// It is neither.
pub fn parse_cut(text: &str) -> Result<Timestamp, jiff::Error> {
    match text.parse::<Timestamp>() {
        Ok(at) => Ok(at),
        Err(error) => match text.parse::<Date>() {
            Ok(date) if !text.contains(['T', 't', ' ']) => TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)),
            Ok(_) | Err(_) => Err(error),
        },
    }
}

/// The instant so many days before another.
#[must_use]
pub fn days_before(now: Timestamp, days: u32) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MIN)
}

/// Refuses a cut that reaches into what must be kept.
///
/// # Errors
/// [`RetentionError::TooRecent`].
pub fn check_cut(cut: Timestamp, now: Timestamp) -> Result<(), RetentionError> {
    let latest = days_before(now, KEEP_DAYS_MIN);
    if cut <= latest { Ok(()) } else { Err(RetentionError::TooRecent { cut, latest }) }
}

/// Segments that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first of them.
    pub from: u64,
    /// The segment that the journal will begin with.
    pub before: u64,
    /// How many records they hold.
    pub records: u64,
    /// When the earliest of them was decided.
    pub oldest: Option<Timestamp>,
    /// When the latest of them was decided.
    pub newest: Option<Timestamp>,
}

impl Plan {
    /// What is put on record about it.
    #[must_use]
    pub fn note(&self, at: Timestamp, why: String) -> RemovalNote {
        RemovalNote { records: self.records, oldest: self.oldest, newest: self.newest, at, why }
    }
}

/// Finds the segments whose records were all decided before `cut`; `None` if there are none. Nothing is changed. The
/// last segment stays, and so does one whose setup later segments rest on. `stop` ends the search with what was found.
///
/// # Errors
/// The journal cannot be read as far as it may go, or the cut is too late.
pub fn plan(
    directory: &Path,
    cut: Timestamp,
    now: Timestamp,
    stop: &AtomicBool,
) -> Result<Option<Plan>, RetentionError> {
    check_cut(cut, now)?;
    let mut reader = Reader::open(directory)?;
    let from = reader.begins().segment;
    let last = segments(directory)?.1;
    let mut plan = Plan { from, before: from, records: 0, oldest: None, newest: None };
    let mut sound = None;
    while let Some(entry) = reader.next_entry().map_err(AuditError::from)? {
        if entry.segment != plan.before {
            // All of the segment before was read, and is old.
            plan.before = entry.segment;
            if stands_alone(directory, plan.before)? {
                sound = Some(plan.clone());
            }
        }
        if plan.before >= last || stop.load(Ordering::Relaxed) {
            break;
        }
        let decided = match read_item(&entry)? {
            Item::Record(record) => {
                plan.records += 1;
                record.decided
            }
            Item::Late(late) | Item::Trial(late) => late.received,
            Item::Rejected(entry) => entry.received,
            Item::Setup(_) | Item::Removed(_) => continue,
        };
        if decided >= cut {
            break;
        }
        if entry.kind == ENTRY_RECORD {
            plan.oldest = Some(plan.oldest.map_or(decided, |oldest| oldest.min(decided)));
            plan.newest = Some(plan.newest.map_or(decided, |newest| newest.max(decided)));
        }
    }
    Ok(sound)
}

/// Whether a segment has a setup before anything that rests on one. Those written by early versions have not.
fn stands_alone(directory: &Path, segment: u64) -> Result<bool, RetentionError> {
    let mut reader = Reader::at(directory, Place::of_segment(directory, segment)?);
    while let Some(entry) = reader.next_entry()?.filter(|entry| entry.segment == segment) {
        match entry.kind {
            ENTRY_SETUP => return Ok(true),
            ENTRY_RECORD | ENTRY_LATE | ENTRY_TRIAL => return Ok(false),
            KIND_REMOVED => {}
            // Not known to this version: whoever reads it will say so.
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Removes what is older than `cut`, if anything is.
///
/// # Errors
/// The journal cannot be read or written, or the cut is too late.
pub fn prune(
    writer: &mut Writer,
    cut: Timestamp,
    now: Timestamp,
    why: impl Into<String>,
) -> Result<Option<Removed>, RetentionError> {
    let Some(plan) = plan(writer.directory(), cut, now, &AtomicBool::new(false))? else { return Ok(None) };
    remove_captures(writer.directory(), cut);
    Ok(Some(writer.remove_before(plan.before, plan.note(now, why.into()))?))
}

/// Removes packets as old as the records that are about to go: first, as without their record nobody would know whose they
/// are. Records go all the same if that fails.
pub(crate) fn remove_captures(journal: &Path, cut: Timestamp) {
    if let Err(error) = captures::remove_before(journal, cut) {
        eprintln!("parallax: {}: captures cannot be removed: {error}", journal.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e5_no_cut_reaches_into_what_must_be_kept() {
        let now: Timestamp = "2026-11-26T12:00:00Z".parse().expect("an instant");
        let latest: Timestamp = "2023-10-23T12:00:00Z".parse().expect("an instant");
        assert_eq!(days_before(now, KEEP_DAYS_MIN), latest);
        check_cut(latest, now).expect("just old enough");
        let error = check_cut(latest + SignedDuration::from_nanos(1), now).expect_err("too late").to_string();
        for part in ["1130 days", "200 days of reuse, 200 days of validity and 2 years", "§5.4.3", "2023-10-23T12"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(days_before(Timestamp::MIN, u32::MAX), Timestamp::MIN);
    }

    #[test]
    fn cuts_are_dates_or_instants() {
        let midnight = "2023-01-31T00:00:00Z".parse::<Timestamp>().ok();
        assert_eq!(parse_cut("2023-01-31").ok(), midnight);
        assert_eq!(parse_cut("2023-01-31T01:00:00+01:00").ok(), midnight);
        for none in ["", "2023", "2023-02-30", "2023-01-31T10:00:00", "yesterday"] {
            assert!(parse_cut(none).is_err(), "{none}");
        }
    }
}
