//! The dated rows of how long certificates live and validations may be used again, and the steps of a plan.
//!
//! The rows are data (`lifetimes.toml`; TLS BR 2.3.1 §6.3.2, §4.2.1; req F5). How many remotes an attempt must use at a
//! date is [`PolicyTable`]'s (req A2), whose changes are steps too. Left out: dns-persist-01, whose validations may be used
//! for 10 days at any date.
//!
//! Invariant: rows ascend strictly in time, and no row permits more days than the one before it.

use std::{collections::BTreeSet, sync::LazyLock};

use jiff::{civil::Date, tz::TimeZone};
use parallax_validation::verdict::policy::{PolicyRow, PolicyTable};
use serde::Deserialize;
use thiserror::Error;

/// Days of a year, for growth.
pub const DAYS_OF_YEAR: f64 = 365.25;

/// No plan is made for a day further from that of the demand.
pub const YEARS_MAX: f64 = 100.0;

static BUILTIN: LazyLock<Vec<Lifetime>> =
    LazyLock::new(|| parse(include_str!("lifetimes.toml")).expect("the built-in lifetimes.toml is checked by a test"));

/// What holds for certificates issued from a date on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    /// The first day.
    pub effective: Date,
    /// Validity of a certificate at most (TLS BR 2.3.1 §6.3.2).
    pub lifetime_days: u32,
    /// How long a completed validation may be used (TLS BR 2.3.1 §4.2.1).
    pub reuse_days: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    row: Vec<Lifetime>,
}

/// A table or a date that cannot be used.
#[derive(Debug, Error)]
pub enum LifetimeError {
    /// Not TOML, or other keys.
    #[error("lifetimes: {0}")]
    Toml(#[from] Box<toml::de::Error>),
    /// Rows out of order, or a later one that permits more.
    #[error("lifetimes: the row of {0} does not come after the one before it, or permits more days")]
    Order(Date),
    /// A date before the first row.
    #[error("{at} lies before {first}, from when on the schedule is known")]
    TooEarly {
        /// The date asked for.
        at: Date,
        /// The first row's.
        first: Date,
    },
    /// A date that nothing can be said of.
    #[error("{at} lies more than {YEARS_MAX} years from {of}, the day that the demand is of")]
    TooFar {
        /// The date asked for.
        at: Date,
        /// The demand's.
        of: Date,
    },
}

fn parse(text: &str) -> Result<Vec<Lifetime>, LifetimeError> {
    let table: Table = toml::from_str(text).map_err(Box::new)?;
    for pair in table.row.windows(2) {
        let laxer = pair[1].lifetime_days > pair[0].lifetime_days || pair[1].reuse_days > pair[0].reuse_days;
        if pair[1].effective <= pair[0].effective || laxer {
            return Err(LifetimeError::Order(pair[1].effective));
        }
    }
    Ok(table.row)
}

/// The built-in rows.
#[must_use]
pub fn rows() -> &'static [Lifetime] {
    &BUILTIN
}

/// What a plan is made for: the rules of one date.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The date.
    pub date: Date,
    /// Validity of a certificate at most, days.
    pub lifetime_days: u32,
    /// Reuse of a validation at most, days.
    pub reuse_days: u32,
    /// Remotes an attempt must use at least (TLS BR 2.3.1 §3.2.2.9).
    pub remotes_min: u8,
    /// Since when so many are wanted; none if no row says so.
    pub remotes_since: Option<Date>,
    /// Years since the day that the demand is of.
    pub years: f64,
}

impl Step {
    /// The rules of a date, for a demand of another.
    ///
    /// # Errors
    /// The date lies before the first row, or more than [`YEARS_MAX`] from the other.
    pub fn at(date: Date, demand_of: Date) -> Result<Self, LifetimeError> {
        let first = rows().first().map_or(date, |row| row.effective);
        let in_force = rows().iter().rev().find(|row| row.effective <= date);
        let row = in_force.ok_or(LifetimeError::TooEarly { at: date, first })?;
        // A date without an instant in UTC is beyond any row.
        let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok();
        let remotes_min = midnight.and_then(|at| PolicyTable::builtin().row_at(at)).map_or(0, PolicyRow::remotes_min);
        let years = date.duration_since(demand_of).as_secs_f64() / 86_400.0 / DAYS_OF_YEAR;
        if years.abs() > YEARS_MAX {
            return Err(LifetimeError::TooFar { at: date, of: demand_of });
        }
        Ok(Self {
            date,
            lifetime_days: row.lifetime_days,
            reuse_days: row.reuse_days,
            remotes_min,
            remotes_since: remotes_since(date, remotes_min),
            years,
        })
    }
}

/// Remotes that each row of the rules wants, with its first day in UTC.
fn remotes() -> impl DoubleEndedIterator<Item = (Date, u8)> {
    let first_day = |row: &PolicyRow| TimeZone::UTC.to_datetime(row.effective()).date();
    PolicyTable::builtin().rows().iter().map(move |row| (first_day(row), row.remotes_min()))
}

/// The first day from which on, up to `date`, no fewer remotes were wanted than then.
fn remotes_since(date: Date, remotes_min: u8) -> Option<Date> {
    let in_force = remotes().rev().skip_while(|(effective, _)| *effective > date);
    in_force.take_while(|(_, wanted)| *wanted >= remotes_min).last().map(|(effective, _)| effective)
}

/// The rules of `date`, and of the first day of each later row: of lifetimes, and of remotes.
///
/// # Errors
/// The date lies before the first row.
pub fn steps_from(date: Date) -> Result<Vec<Step>, LifetimeError> {
    let lifetimes = rows().iter().map(|row| row.effective);
    let later = lifetimes.chain(remotes().map(|(effective, _)| effective)).filter(|effective| *effective > date);
    let days: BTreeSet<Date> = std::iter::once(date).chain(later).collect();
    days.into_iter().map(|day| Step::at(day, date)).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn f5_the_schedule_is_that_of_the_baseline_requirements() {
        let found: Vec<_> = rows().iter().map(|row| (row.effective, row.lifetime_days, row.reuse_days)).collect();
        assert_eq!(found, [(date(2026, 3, 15), 200, 200), (date(2027, 3, 15), 100, 100), (date(2029, 3, 15), 47, 10)]);
    }

    #[test]
    fn ok_a_row_holds_from_its_day_on() {
        let of = date(2026, 11, 27);
        let at = |day| Step::at(day, of).expect("a step");
        assert_eq!((at(date(2027, 3, 14)).lifetime_days, at(date(2027, 3, 15)).lifetime_days), (200, 100));
        assert_eq!((at(date(2026, 12, 14)).remotes_min, at(date(2026, 12, 15)).remotes_min), (4, 5));
        assert!((at(date(2027, 11, 27)).years - 365.0 / 365.25).abs() < 1e-12);
        assert!(matches!(Step::at(date(2026, 3, 14), of), Err(LifetimeError::TooEarly { .. })));
        let since = |day| at(day).remotes_since;
        assert_eq!(since(date(2026, 12, 14)), Some(date(2026, 6, 15)));
        assert_eq!(since(date(2026, 12, 15)), Some(date(2026, 12, 15)));
        assert_eq!(since(date(2029, 3, 15)), Some(date(2026, 12, 15)));
    }

    #[test]
    fn ok_steps_are_the_day_itself_and_each_later_change() {
        let days = |from| steps_from(from).expect("steps").iter().map(|step| step.date).collect::<Vec<_>>();
        let (remotes, first, second) = (date(2026, 12, 15), date(2027, 3, 15), date(2029, 3, 15));
        assert_eq!(days(date(2026, 11, 27)), [date(2026, 11, 27), remotes, first, second]);
        assert_eq!(days(date(2026, 12, 15)), [remotes, first, second]);
        assert_eq!(days(date(2027, 3, 15)), [date(2027, 3, 15), date(2029, 3, 15)]);
        assert_eq!(days(date(2030, 1, 1)), [date(2030, 1, 1)]);
    }

    #[test]
    fn err_a_day_too_far_off_is_named() {
        let of = date(2026, 11, 27);
        assert!(Step::at(date(2126, 11, 1), of).is_ok());
        let error = Step::at(date(9999, 12, 31), of).expect_err("too far").to_string();
        assert_eq!(error, "9999-12-31 lies more than 100 years from 2026-11-27, the day that the demand is of");
    }

    #[test]
    fn err_rows_out_of_order_or_laxer_than_before_are_refused() {
        let row =
            |day: &str, days: u32| format!("[[row]]\neffective = \"{day}\"\nlifetime_days = {days}\nreuse_days = 10\n");
        let text = row("2027-01-01", 100) + &row("2027-01-01", 90);
        assert!(matches!(parse(&text), Err(LifetimeError::Order(day)) if day == date(2027, 1, 1)));
        let text = row("2027-01-01", 100) + &row("2028-01-01", 101);
        assert!(matches!(parse(&text), Err(LifetimeError::Order(day)) if day == date(2028, 1, 1)));
        assert!(matches!(parse("[[row]]\neffective = \"x\""), Err(LifetimeError::Toml(_))));
    }
}
