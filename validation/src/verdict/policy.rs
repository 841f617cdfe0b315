//! The dated rows of the corroboration rule: which numbers bind at which instant.
//!
//! The rows are data (`policy.toml`, TLS BR 2.3.1 §3.2.2.9 phase list; req A2, A3, A20). This module
//! reads them, picks the row that governs an attempt and compares tables. It leaves out the counting
//! itself ([`super::quorum`]) and the clock: instants are arguments.
//!
//! Invariant: rows ascend strictly in time.
//! Invariant: no row is laxer than the one before it, so the later row of two is also the stricter.
//! Invariant: every row defines the allowed failures for each number of remotes from its minimum up.

use std::{fmt::Write as _, sync::LazyLock};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use thiserror::Error;
use toml::{Table, Value};

/// The most remotes one attempt may use: one bit each in a 16-bit summary, one bit spare.
pub const REMOTES_MAX: u8 = 15;

/// The fewest remotes for which the quorum table is defined (TLS BR 2.3.1 §3.2.2.9, req A3).
pub const REMOTES_DEFINED_MIN: u8 = 2;

/// The number of RIR service regions, and so the most a row can demand.
const RIRS_MAX: u8 = 5;

/// The most bytes a row's section or version may have.
const LABEL_BYTES_MAX: usize = 32;

/// The built-in rows as text, in the form [`PolicyTable::parse`] reads.
pub const BUILTIN_TEXT: &str = include_str!("policy.toml");

static BUILTIN: LazyLock<PolicyTable> =
    LazyLock::new(|| PolicyTable::parse(BUILTIN_TEXT).expect("the built-in policy.toml is checked by a test"));

/// One band of the quorum table: so many remotes used, so many may fail to corroborate
/// (TLS BR 2.3.1 §3.2.2.9, quorum table; req A3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllowedBand {
    /// The smallest number of remotes in this band.
    pub remotes_from: u8,
    /// The largest, or none for "and above".
    pub remotes_to: Option<u8>,
    /// Non-corroborations tolerated.
    pub allowed: u8,
}

impl AllowedBand {
    fn holds(&self, remotes: u8) -> bool {
        self.remotes_from <= remotes && self.remotes_to.is_none_or(|to| remotes <= to)
    }
}

/// The numbers in force from one instant on (TLS BR 2.3.1 §3.2.2.9; req A2, A3, A20).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRow {
    effective: Timestamp,
    section: String,
    br_version: String,
    remotes_min: u8,
    quorum_enforced: bool,
    rirs_min: u8,
    bands: Vec<AllowedBand>,
    revision: String,
}

impl PolicyRow {
    /// The first instant at which this row binds (TLS BR §1.6.4: midnight UTC in the built-in rows).
    #[must_use]
    pub fn effective(&self) -> Timestamp {
        self.effective
    }

    /// The section of the Baseline Requirements, for the record.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section
    }

    /// The edition of the Baseline Requirements the row was read in.
    #[must_use]
    pub fn br_version(&self) -> &str {
        &self.br_version
    }

    /// The fewest remotes an attempt may use; the primary never counts (req A2).
    #[must_use]
    pub fn remotes_min(&self) -> u8 {
        self.remotes_min
    }

    /// Whether a missing quorum bars issuance (since 2025-09-15; req A2).
    #[must_use]
    pub fn quorum_enforced(&self) -> bool {
        self.quorum_enforced
    }

    /// The fewest RIR regions among the remotes that confirmed; 0 = no rule (req A4).
    #[must_use]
    pub fn rirs_min(&self) -> u8 {
        self.rirs_min
    }

    /// The quorum table of this row, in ascending bands (req A3).
    #[must_use]
    pub fn bands(&self) -> &[AllowedBand] {
        &self.bands
    }

    /// How many of `remotes` may fail to corroborate; none where the table is undefined, which means
    /// refuse (TLS BR 2.3.1 §3.2.2.9, req A3).
    #[must_use]
    pub fn allowed(&self, remotes: u8) -> Option<u8> {
        self.bands.iter().find(|band| band.holds(remotes)).map(|band| band.allowed)
    }

    /// A stable name of exactly these numbers, stored with each result (req A21), such as
    /// `3.2.2.9@2026-06-15T00:00:00Z/0123456789abcdef`: a digest of [`PolicyRow::canonical`].
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Everything the row says as one line of text; what [`PolicyRow::revision`] is a digest of.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut bands = String::new();
        for band in &self.bands {
            let to = band.remotes_to.map_or_else(String::new, |to| to.to_string());
            // Writing to a String cannot fail.
            let _ = write!(bands, " {}-{to}:{}", band.remotes_from, band.allowed);
        }
        format!(
            "TLS BR {} §{} from {}: remotes_min={} quorum_enforced={} rirs_min={} allowed={}",
            self.br_version,
            self.section,
            self.effective,
            self.remotes_min,
            self.quorum_enforced,
            self.rirs_min,
            bands.trim_start()
        )
    }

    /// The first respect in which this row asks less than `floor`, if any.
    #[must_use]
    pub fn laxity(&self, floor: &Self) -> Option<Laxity> {
        if self.remotes_min < floor.remotes_min {
            return Some(Laxity::new("remotes_min", self.remotes_min, floor.remotes_min));
        }
        if floor.quorum_enforced && !self.quorum_enforced {
            return Some(Laxity::new("quorum_enforced", false, true));
        }
        // One region is where any confirmation lies, so 1 asks what 0 asks; a floor of 1 is met by 0.
        if self.rirs_min < floor.rirs_min && floor.rirs_min > 1 {
            return Some(Laxity::new("rirs_min", self.rirs_min, floor.rirs_min));
        }
        (self.remotes_min..=REMOTES_MAX).find_map(|remotes| self.laxity_allowed(floor, remotes))
    }

    fn laxity_allowed(&self, floor: &Self, remotes: u8) -> Option<Laxity> {
        let ours = self.allowed(remotes)?;
        match floor.allowed(remotes) {
            Some(theirs) if ours <= theirs => None,
            Some(theirs) => Some(Laxity::for_remotes(remotes, ours, theirs)),
            None => Some(Laxity::for_remotes(remotes, ours, "refusal")),
        }
    }

    fn with_revision(mut self) -> Self {
        let digest = Sha256::digest(self.canonical().as_bytes());
        let mut revision = format!("{}@{}/", self.section, self.effective);
        for byte in digest.iter().take(8) {
            // Writing to a String cannot fail.
            let _ = write!(revision, "{byte:02x}");
        }
        self.revision = revision;
        self
    }
}

/// The respect in which a row asks less than another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key} is {ours}, where {floor} is required")]
pub struct Laxity {
    /// The key of the row.
    pub key: String,
    /// What the row says.
    pub ours: String,
    /// What it would have to say at least.
    pub floor: String,
}

impl Laxity {
    fn new(key: impl Into<String>, ours: impl ToString, floor: impl ToString) -> Self {
        Self { key: key.into(), ours: ours.to_string(), floor: floor.to_string() }
    }

    fn for_remotes(remotes: u8, ours: impl ToString, floor: impl ToString) -> Self {
        Self::new(format!("allowed (with {remotes} remotes)"), ours, floor)
    }
}

/// What is wrong with one key of a row.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyProblem {
    /// It is required.
    #[error("is missing")]
    Missing,
    /// No such key.
    #[error("is not a key of a policy row")]
    Unknown,
    /// Another kind of value.
    #[error("must be {0}")]
    Kind(&'static str),
    /// A number out of range.
    #[error("is {value}, outside {min} to {max}")]
    Range {
        /// As given.
        value: i64,
        /// Smallest allowed.
        min: u8,
        /// Largest allowed.
        max: u8,
    },
    /// Not an instant in the one accepted form.
    #[error("is {0:?}, not an RFC 3339 instant in UTC such as \"2026-12-15T00:00:00Z\"")]
    Instant(String),
    /// The first band starts above the row's minimum number of remotes.
    #[error("leaves {0} remotes undefined, which the row permits")]
    BandsStartLate(u8),
    /// A band does not start where the one before ended.
    #[error("must be {expected}, where the band before ends")]
    BandGap {
        /// The only possible start.
        expected: u8,
    },
    /// Only the last band is open, and it must be.
    #[error("must be given for every band but the last")]
    BandOpen,
    /// A band would accept no confirmation at all.
    #[error("must leave at least one of {0} remotes to confirm")]
    NothingToConfirm(u8),
}

/// A policy table is not one, or asks less than it must.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Not TOML.
    #[error("the policy is not TOML: {0}")]
    Syntax(String),
    /// Nothing but `[[row]]` may stand at the top.
    #[error("{0:?} is not a key of a policy; it consists of [[row]] tables")]
    UnknownTopKey(String),
    /// No row at all.
    #[error("the policy has no [[row]]")]
    NoRows,
    /// A key of a row is wrong.
    #[error("policy row {row}: {key} {problem}")]
    Key {
        /// Counted from 1.
        row: usize,
        /// The key, with its band for the quorum table.
        key: String,
        /// What is wrong.
        problem: KeyProblem,
    },
    /// Rows must ascend strictly.
    #[error("policy row {row}: effective {effective} is not after {previous}, the row before")]
    NotAscending {
        /// Counted from 1.
        row: usize,
        /// Of this row.
        effective: Timestamp,
        /// Of the row before.
        previous: Timestamp,
    },
    /// A row asks less than the one before; then "the later rule" (req A20) would not be the stricter.
    #[error("policy row {row}: {laxity} by the row before")]
    LaxerThanBefore {
        /// Counted from 1.
        row: usize,
        /// In which respect.
        laxity: Laxity,
    },
    /// A table asks less than its floor at some instant.
    #[error("the policy is too lax from {at} on: {laxity} by {floor_revision}")]
    LaxerThanFloor {
        /// The first such instant among the changes of both tables.
        at: Timestamp,
        /// In which respect.
        laxity: Laxity,
        /// The floor's row.
        floor_revision: String,
    },
    /// A table has no row where its floor has one.
    #[error("the policy has no row at {at}, where {floor_revision} binds")]
    NoRowAtFloor {
        /// The first such instant.
        at: Timestamp,
        /// The floor's row.
        floor_revision: String,
    },
}

/// Dated rows in ascending order (req A20).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTable {
    rows: Vec<PolicyRow>,
}

impl PolicyTable {
    /// The phases of TLS BR 2.3.1 §3.2.2.9 (req A2).
    #[must_use]
    pub fn builtin() -> &'static Self {
        &BUILTIN
    }

    /// Reads a table in the form of `policy.toml`. Does not compare it with the built-in one:
    /// settings go through [`PolicyTable::parse_stricter`].
    ///
    /// # Errors
    /// The first row and key that is wrong, named.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let top: Table = text.parse().map_err(|e: toml::de::Error| PolicyError::Syntax(e.to_string()))?;
        if let Some(key) = top.keys().find(|key| *key != "row") {
            return Err(PolicyError::UnknownTopKey(key.clone()));
        }
        let tables = top.get("row").and_then(Value::as_array).filter(|rows| !rows.is_empty());
        let mut rows: Vec<PolicyRow> = Vec::new();
        for (index, value) in tables.ok_or(PolicyError::NoRows)?.iter().enumerate() {
            let row = parse_row(index + 1, value)?;
            if let Some(previous) = rows.last() {
                check_follows(index + 1, &row, previous)?;
            }
            rows.push(row);
        }
        Ok(Self { rows })
    }

    /// Reads a table and refuses it where it is laxer than the built-in one (req A2, A3).
    ///
    /// # Errors
    /// As [`PolicyTable::parse`] and [`PolicyTable::check_not_laxer`].
    pub fn parse_stricter(text: &str) -> Result<Self, PolicyError> {
        let table = Self::parse(text)?;
        table.check_not_laxer(Self::builtin())?;
        Ok(table)
    }

    /// Refuses this table if at any instant it asks less than `floor` does. Both are constant between
    /// their changes, so the changes of both are all there is to compare.
    ///
    /// # Errors
    /// The first instant and respect in which this table is laxer.
    pub fn check_not_laxer(&self, floor: &Self) -> Result<(), PolicyError> {
        let mut changes: Vec<Timestamp> = self.rows.iter().chain(&floor.rows).map(PolicyRow::effective).collect();
        changes.sort_unstable();
        changes.into_iter().try_for_each(|at| self.check_not_laxer_at(floor, at))
    }

    fn check_not_laxer_at(&self, floor: &Self, at: Timestamp) -> Result<(), PolicyError> {
        let Some(theirs) = floor.row_at(at) else { return Ok(()) };
        let floor_revision = theirs.revision.clone();
        match self.row_at(at).map(|ours| ours.laxity(theirs)) {
            None => Err(PolicyError::NoRowAtFloor { at, floor_revision }),
            Some(Some(laxity)) => Err(PolicyError::LaxerThanFloor { at, laxity, floor_revision }),
            Some(None) => Ok(()),
        }
    }

    /// All rows, oldest first.
    #[must_use]
    pub fn rows(&self) -> &[PolicyRow] {
        &self.rows
    }

    /// The row in force at an instant; none before the first, which means refuse.
    #[must_use]
    pub fn row_at(&self, at: Timestamp) -> Option<&PolicyRow> {
        let past = self.rows.partition_point(|row| row.effective <= at);
        self.rows.get(past.checked_sub(1)?)
    }

    /// The row an attempt obeys that ran from `start` to `end`, both included: the later one if it
    /// spans a change (req A20), which is the stricter one too. Two instants in the wrong order are
    /// taken as a span all the same, so that a clock set back gains nothing.
    #[must_use]
    pub fn governing(&self, start: Timestamp, end: Timestamp) -> Option<&PolicyRow> {
        self.row_at(start.max(end))
    }

    /// The next change after an instant, to check the fleet against before it binds (req A20).
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<&PolicyRow> {
        self.rows.get(self.rows.partition_point(|row| row.effective <= at))
    }

    /// The row a stored result was made under (req A21).
    #[must_use]
    pub fn row_by_revision(&self, revision: &str) -> Option<&PolicyRow> {
        self.rows.iter().find(|row| row.revision == revision)
    }
}

fn check_follows(number: usize, row: &PolicyRow, previous: &PolicyRow) -> Result<(), PolicyError> {
    if row.effective <= previous.effective {
        let (effective, previous) = (row.effective, previous.effective);
        return Err(PolicyError::NotAscending { row: number, effective, previous });
    }
    match row.laxity(previous) {
        Some(laxity) => Err(PolicyError::LaxerThanBefore { row: number, laxity }),
        None => Ok(()),
    }
}

fn parse_row(number: usize, value: &Value) -> Result<PolicyRow, PolicyError> {
    let at = Fields { row: number, prefix: String::new(), table: None };
    let fields =
        Fields { table: Some(value.as_table().ok_or_else(|| at.wrong("row", KeyProblem::Kind("a table")))?), ..at };
    fields.only(&["effective", "section", "br_version", "remotes_min", "quorum_enforced", "rirs_min", "allowed"])?;
    let remotes_min = fields.number("remotes_min", REMOTES_DEFINED_MIN, REMOTES_MAX)?;
    let row = PolicyRow {
        effective: fields.instant("effective")?,
        section: fields.label("section")?,
        br_version: fields.label("br_version")?,
        remotes_min,
        quorum_enforced: fields.flag("quorum_enforced")?,
        rirs_min: fields.number("rirs_min", 0, RIRS_MAX)?,
        bands: parse_bands(&fields, remotes_min)?,
        revision: String::new(),
    };
    Ok(row.with_revision())
}

fn parse_bands(row: &Fields<'_>, remotes_min: u8) -> Result<Vec<AllowedBand>, PolicyError> {
    let kind = || row.wrong("allowed", KeyProblem::Kind("a list of bands, not empty"));
    let values = row.value("allowed")?.as_array().filter(|bands| !bands.is_empty()).ok_or_else(kind)?;
    let mut bands: Vec<AllowedBand> = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let prefix = format!("allowed[{}].", index + 1);
        let table = value.as_table().ok_or_else(kind)?;
        let fields = Fields { row: row.row, prefix, table: Some(table) };
        let band = parse_band(&fields, index + 1 == values.len())?;
        match bands.last().and_then(|previous| previous.remotes_to) {
            Some(to) if band.remotes_from != to + 1 => {
                return Err(fields.wrong("remotes_from", KeyProblem::BandGap { expected: to + 1 }));
            }
            None if band.remotes_from > remotes_min => {
                return Err(fields.wrong("remotes_from", KeyProblem::BandsStartLate(remotes_min)));
            }
            _ => bands.push(band),
        }
    }
    Ok(bands)
}

fn parse_band(fields: &Fields<'_>, last: bool) -> Result<AllowedBand, PolicyError> {
    fields.only(&["remotes_from", "remotes_to", "allowed"])?;
    let remotes_from = fields.number("remotes_from", REMOTES_DEFINED_MIN, REMOTES_MAX)?;
    if last == fields.has("remotes_to") {
        return Err(fields.wrong("remotes_to", KeyProblem::BandOpen));
    }
    let remotes_to = if last { None } else { Some(fields.number("remotes_to", remotes_from, REMOTES_MAX)?) };
    let allowed = fields.number("allowed", 0, REMOTES_MAX)?;
    if allowed >= remotes_from {
        return Err(fields.wrong("allowed", KeyProblem::NothingToConfirm(remotes_from)));
    }
    Ok(AllowedBand { remotes_from, remotes_to, allowed })
}

/// One TOML table together with where it stands, so that every complaint names row and key.
struct Fields<'a> {
    row: usize,
    prefix: String,
    table: Option<&'a Table>,
}

impl<'a> Fields<'a> {
    fn wrong(&self, key: &str, problem: KeyProblem) -> PolicyError {
        PolicyError::Key { row: self.row, key: format!("{}{key}", self.prefix), problem }
    }

    fn only(&self, known: &[&str]) -> Result<(), PolicyError> {
        let mut keys = self.table.into_iter().flat_map(Table::keys);
        match keys.find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.wrong(key, KeyProblem::Unknown)),
            None => Ok(()),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    fn value(&self, key: &str) -> Result<&'a Value, PolicyError> {
        self.table.and_then(|table| table.get(key)).ok_or_else(|| self.wrong(key, KeyProblem::Missing))
    }

    fn number(&self, key: &str, min: u8, max: u8) -> Result<u8, PolicyError> {
        let kind = || self.wrong(key, KeyProblem::Kind("a whole number"));
        let value = self.value(key)?.as_integer().ok_or_else(kind)?;
        u8::try_from(value)
            .ok()
            .filter(|number| (min..=max).contains(number))
            .ok_or_else(|| self.wrong(key, KeyProblem::Range { value, min, max }))
    }

    fn flag(&self, key: &str) -> Result<bool, PolicyError> {
        self.value(key)?.as_bool().ok_or_else(|| self.wrong(key, KeyProblem::Kind("true or false")))
    }

    fn label(&self, key: &str) -> Result<String, PolicyError> {
        let fits = |text: &&str| {
            (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
        };
        let kind = || self.wrong(key, KeyProblem::Kind("a text of 1 to 32 letters, digits and dots"));
        self.value(key)?.as_str().filter(fits).map(str::to_owned).ok_or_else(kind)
    }

    /// Only the canonical form is accepted: an offset or a left-out second is a likely misunderstanding.
    fn instant(&self, key: &str) -> Result<Timestamp, PolicyError> {
        let kind = || self.wrong(key, KeyProblem::Kind("a text"));
        let text = self.value(key)?.as_str().ok_or_else(kind)?;
        text.parse()
            .ok()
            .filter(|instant: &Timestamp| instant.to_string() == text)
            .ok_or_else(|| self.wrong(key, KeyProblem::Instant(text.to_owned())))
    }
}
