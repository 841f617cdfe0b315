//! The watcher itself: entries in, alarms out. It does no I/O and reads no clock.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use parallax_validation::{
    base::{attempt::AttemptId, perspective::Perspective},
    record::{LateEntry, Record, Setup},
};
use serde::Serialize;

use super::{
    alarm::{Alarm, Known, Severity, Source, of_late, of_record, of_rejected},
    limit::Limiter,
    metrics::Metrics,
    patterns::{LeftOut, Patterns, Row},
};
use crate::audit::Item;

/// Attempts that are kept for their late answers.
const KNOWN_MAX: usize = 65_536;
/// Setups that are kept.
const SETUPS_MAX: usize = 256;
/// Servers, and prefixes, that a report lists.
const ROWS_OPEN_MAX: usize = 10;

/// A table that forgets what came first.
struct Queue<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
    max: usize,
}

impl<K: Clone + Eq + std::hash::Hash, V> Queue<K, V> {
    fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), max }
    }

    fn keep(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.max
            && let Some(first) = self.order.pop_front()
        {
            self.entries.remove(&first);
        }
    }
}

/// What a journal held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Attempts.
    pub records: u64,
    /// Of these, permissions.
    pub corroborated: u64,
    /// Late answers.
    pub late: u64,
    /// Decided first.
    pub first: Option<Timestamp>,
    /// Decided last.
    pub last: Option<Timestamp>,
    /// Events that are alarms, in the whole journal, by kind and severity, as `kind/severity`.
    pub events: BTreeMap<String, u64>,
    /// Alarms delivered by this run, digests among them.
    pub delivered: u64,
    /// Of these, critical ones.
    pub critical: u64,
    /// Counters.
    pub rows: Vec<Row>,
    /// What was forgotten or left out.
    pub left_out: LeftOut,
}

/// Takes the entries of a journal from its begin.
pub struct Watcher {
    setups: Queue<String, Arc<[Perspective]>>,
    known: Queue<AttemptId, (Known, String)>,
    patterns: Patterns,
    limiter: Limiter,
    pub(crate) metrics: Arc<Metrics>,
    report: Report,
}

impl Watcher {
    /// At most `per_minute` alarms of each kind and severity come out by themselves in a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self {
            setups: Queue::new(SETUPS_MAX),
            known: Queue::new(KNOWN_MAX),
            patterns: Patterns::default(),
            limiter: Limiter::new(per_minute),
            metrics: Arc::new(Metrics::new()),
            report: Report::default(),
        }
    }

    /// Takes an entry; what is to be told goes to `out`. Gives what is wrong with a setup that cannot be used.
    pub fn take(&mut self, source: &Source, item: Item, out: &mut Vec<Alarm>) -> Option<String> {
        self.report.entries += 1;
        self.metrics.entry();
        let alarms = match item {
            Item::Setup(setup) => return self.take_setup(*setup),
            Item::Record(record) => self.take_record(source, &record),
            Item::Late(late) => self.take_late(source, &late),
            Item::Rejected(entry) => vec![of_rejected(source, &entry)],
            // What a perspective on trial sees is for whoever tries it; nothing hangs on it.
            Item::Trial(_) | Item::Removed(_) => Vec::new(),
        };
        for alarm in alarms {
            self.metrics.alarm(&alarm);
            let name = format!("{}/{}", alarm.kind.as_str(), alarm.severity.as_str());
            *self.report.events.entry(name).or_default() += 1;
            self.limiter.offer(source, alarm, out);
        }
        None
    }

    fn take_setup(&mut self, setup: Setup) -> Option<String> {
        match setup.rules() {
            Ok(rules) => {
                let perspectives = rules.setup().perspectives.clone();
                self.setups.keep(rules.digest().to_owned(), perspectives.into());
                None
            }
            Err(error) => Some(error.to_string()),
        }
    }

    fn cohort(&self, setup: &str) -> Arc<[Perspective]> {
        self.setups.entries.get(setup).cloned().unwrap_or_default()
    }

    fn take_record(&mut self, source: &Source, record: &Record) -> Vec<Alarm> {
        self.report.records += 1;
        self.report.corroborated += u64::from(record.permits());
        self.report.first = Some(self.report.first.map_or(record.decided, |first| first.min(record.decided)));
        self.report.last = self.report.last.max(Some(record.decided));
        let cohort = self.cohort(&record.setup);
        self.metrics.record(record, &cohort);
        self.known.keep(record.attempt, (Known::of(record), record.setup.clone()));
        let mut alarms = of_record(source, record);
        alarms.extend(self.patterns.take(source, record, &cohort));
        self.metrics.patterns(self.patterns.raised());
        alarms
    }

    fn take_late(&mut self, source: &Source, late: &LateEntry) -> Vec<Alarm> {
        self.report.late += 1;
        let known = self.known.entries.get(&late.attempt);
        let cohort = known.map(|(_, setup)| self.cohort(setup)).unwrap_or_default();
        self.metrics.late(late, &cohort);
        of_late(source, late, known.map(|(known, _)| known))
    }

    /// Ends the minute of the limit if it is over by the host's clock.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Alarm>) {
        self.limiter.tick(now, out);
    }

    /// Ends the minute of the limit: nothing more comes.
    pub fn end(&mut self, out: &mut Vec<Alarm>) {
        self.limiter.end(out);
    }

    /// Everything up to here was told by an earlier run.
    pub(crate) fn forget_held(&mut self) {
        self.limiter.forget_held();
    }

    /// The first entry that something held back is about.
    #[must_use]
    pub fn first_held(&self) -> Option<u64> {
        self.limiter.first_held()
    }

    pub(crate) fn delivered(&mut self, alarms: &[Alarm]) {
        self.report.delivered += alarms.len() as u64;
        self.report.critical += alarms.iter().filter(|alarm| alarm.severity == Severity::Critical).count() as u64;
        self.metrics.delivered(alarms.len());
    }

    /// What the journal held so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let rows = self.patterns.rows(ROWS_OPEN_MAX);
        Report { rows, left_out: self.patterns.left_out(), ..self.report.clone() }
    }
}

/// A report for people.
#[must_use]
pub fn as_text(report: &Report) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "\n{} attempts, {} of them corroborated, {} late answers; {} alarms told now, {} of them critical\n",
        report.records, report.corroborated, report.late, report.delivered, report.critical
    );
    // Writing to a string cannot fail.
    if let (Some(first), Some(last)) = (report.first, report.last) {
        let _ = writeln!(text, "decided from {first} to {last}");
    }
    for (name, count) in &report.events {
        let _ = writeln!(text, "  {count:>10}  {name}");
    }
    if !report.rows.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<12} {:<28} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}   last hour: not confirmed",
            "", "", "answers", "confirmed", "contrary", "failed", "late", "rejected"
        );
    }
    for row in &report.rows {
        let all = row.all;
        let _ = writeln!(
            text,
            "{:<12} {:<28} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8}   {} of {}{}",
            row.sort,
            row.key,
            all.attempts,
            all.confirmed,
            all.contradicted,
            all.failed,
            all.timed_out,
            all.rejected,
            row.last_hour.refusing(),
            row.last_hour.attempts,
            if row.differs { ", differs from the others" } else { "" }
        );
    }
    let LeftOut { servers, prefixes, targets, unknown } = report.left_out;
    if servers + prefixes + targets + unknown > 0 {
        let _ = writeln!(
            text,
            "\nForgotten, as least recently seen: {servers} servers, {prefixes} prefixes, {targets} targets. Answers of \
             perspectives that no setup has: {unknown}."
        );
    }
    text
}
