//! The methods as dated data: what each section of the TLS BR 2.3.1 allows, and until when (req D1, D-e, F5, F6).
//!
//! The rows are `methods.toml`. This module reads them and says how a method stands at an instant; it reads no clock.

use std::{fmt, sync::LazyLock};

use jiff::Timestamp;
use serde::Deserialize;

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let table: Table = toml::from_str(include_str!("methods.toml")).expect("methods.toml is checked by a test");
    let mut rows = table.row;
    for row in &mut rows {
        row.caa_label = row.section.strip_prefix("3.2.2.4.").map(|number| format!("ca-tbr-{number}"));
    }
    rows
});

/// The section about reverse lookups, which is a step before another method (TLS BR 2.3.1 §3.2.2.5.3).
pub const REVERSE_LOOKUP: &str = "3.2.2.5.3";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    row: Vec<Row>,
}

/// What one section says about its method.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The sub-section of the TLS BR (req E3).
    pub section: String,
    /// The method's name there.
    pub title: String,
    /// Labels under which it is offered here.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Whether it may show control of a wildcard's domain.
    #[serde(default)]
    pub wildcard: bool,
    /// Whether labels may be dropped to reach the authorization domain name.
    #[serde(default)]
    pub prune: bool,
    /// Whether the target of a CNAME may be the authorization domain name.
    #[serde(default)]
    pub cname: bool,
    /// Whether it may show control of an onion name.
    #[serde(default)]
    pub onion: bool,
    /// Whether it must be corroborated.
    #[serde(default)]
    pub mpic: bool,
    /// From when on it should not be used.
    #[serde(default, deserialize_with = "instant")]
    pub discouraged: Option<Timestamp>,
    /// From when on neither it nor earlier results by it may be used (req F6).
    #[serde(default, deserialize_with = "instant")]
    pub ends: Option<Timestamp>,
    /// Whether it ended at a time the section does not name.
    #[serde(default)]
    pub retired: bool,
    /// For how many days a result may be used again, if that is less than for others (req F5).
    pub reuse_days: Option<u16>,
    /// Why a method that is in force is not offered here.
    pub outside: Option<String>,
    #[serde(skip)]
    caa_label: Option<String>,
}

fn instant<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let datetime = toml::value::Datetime::deserialize(deserializer)?;
    datetime.to_string().parse().map(Some).map_err(serde::de::Error::custom)
}

/// How a method stands at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may be used.
    Good,
    /// It may be used and should not be, until it ends.
    Discouraged {
        /// Since when.
        since: Timestamp,
        /// When it ends.
        ends: Option<Timestamp>,
    },
    /// It may not be used, nor may earlier results.
    Ended {
        /// Since when; none if the section does not say.
        since: Option<Timestamp>,
    },
}

impl Row {
    /// How it stands at `at`.
    #[must_use]
    pub fn standing(&self, at: Timestamp) -> Standing {
        match (self.ends, self.discouraged) {
            _ if self.retired => Standing::Ended { since: None },
            (Some(ends), _) if ends <= at => Standing::Ended { since: Some(ends) },
            (ends, Some(since)) if since <= at => Standing::Discouraged { since, ends },
            _ => Standing::Good,
        }
    }

    /// The label for `validationmethods` made from the number of its sub-section (TLS BR 2.3.1 §4.2.2.1.2, req C15);
    /// none for addresses, which have no CAA.
    #[must_use]
    pub fn caa_label(&self) -> Option<&str> {
        self.caa_label.as_deref()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (TLS BR 2.3.1 §{})", self.title, self.section)
    }
}

/// All rows, names first.
#[must_use]
pub fn rows() -> &'static [Row] {
    &ROWS
}

/// The row of a method for a name, or for an address; none if it has none.
#[must_use]
pub fn row(label: &str, is_ip: bool) -> Option<&'static Row> {
    let family = if is_ip { "3.2.2.5." } else { "3.2.2.4." };
    ROWS.iter().find(|row| row.section.starts_with(family) && row.methods.iter().any(|method| method == label))
}

/// The row of a section.
#[must_use]
pub fn section(section: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.section == section)
}

/// The row somebody means who writes its section or its `ca-tbr-` label where a method is wanted.
#[must_use]
pub fn meant(text: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.section == text || row.caa_label() == Some(text))
}

/// A day, as the rules write it.
#[must_use]
pub fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::dcv::Method;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("an instant")
    }

    #[test]
    fn d1_the_rows_are_the_table_of_the_requirements() {
        let flags = |number: u8| {
            let row = section(&format!("3.2.2.4.{number}")).expect("a row");
            let yes = |flag: bool| if flag { 'y' } else { 'n' };
            [row.wildcard, row.prune, row.cname, row.onion, row.mpic].map(yes).iter().collect::<String>()
        };
        for (number, expected) in [
            (4, "yyynn"),
            (7, "yyyny"),
            (12, "yynnn"),
            (13, "yyyny"),
            (14, "yyyny"),
            (16, "yyyny"),
            (17, "yyyny"),
            (18, "nnnyy"),
            (19, "nnnyy"),
            (20, "nnnyy"),
            (21, "yynny"),
            (22, "yynny"),
        ] {
            assert_eq!(flags(number), expected, "3.2.2.4.{number}");
        }
        let ended = |section: &str| {
            let row = super::section(section).expect("a row");
            matches!(row.standing(at("2026-11-26T00:00:00Z")), Standing::Ended { .. })
        };
        let retired: Vec<u8> = (1..=22).filter(|number| ended(&format!("3.2.2.4.{number}"))).collect();
        assert_eq!(retired, [1, 2, 3, 5, 6, 8, 9, 10, 11, 15]);
        let retired: Vec<u8> = (1..=8).filter(|number| ended(&format!("3.2.2.5.{number}"))).collect();
        assert_eq!(retired, [4]);
    }

    #[test]
    fn every_method_has_its_row_and_every_label_its_method() {
        for method in Method::ALL {
            assert!(row(method.label(), false).is_some(), "{method}");
        }
        for label in rows().iter().flat_map(|row| &row.methods) {
            assert!(Method::from_label(label).is_some(), "{label}");
        }
        for row in rows() {
            let outside = row.outside.is_some() || row.ends.is_some() || row.retired;
            assert!(outside || !row.methods.is_empty(), "{row} is neither offered nor explained");
        }
    }

    #[test]
    fn f6_a_method_ends_at_midnight() {
        let row = section("3.2.2.4.17").expect("a row");
        let discouraged =
            Standing::Discouraged { since: at("2026-03-15T00:00:00Z"), ends: Some(at("2027-03-15T00:00:00Z")) };
        assert_eq!(row.standing(at("2026-03-14T23:59:59Z")), Standing::Good);
        assert_eq!(row.standing(at("2027-03-14T23:59:59Z")), discouraged);
        assert_eq!(
            row.standing(at("2027-03-15T00:00:00Z")),
            Standing::Ended { since: Some(at("2027-03-15T00:00:00Z")) }
        );
    }
}
