//! The rate limit of alarms, and the digest of what lies above it.
//!
//! A pure function of (alarms, clock): the clock is that of the entries, and besides, where a journal is followed, that
//! of the host. Invariant: each alarm comes out once by itself or is counted in one digest.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::alarm::{Alarm, Kind, Severity, Source};

/// Names of alarms that a digest lists.
const IDS_MAX: usize = 10;
/// Different perspectives that a digest counts by name; the others share one count.
const PERSPECTIVES_MAX: usize = 64;
/// An instant earlier by more minutes than this begins a new minute too; what is closer is out of order.
const MINUTES_OUT_OF_ORDER_MAX: i64 = 5;

/// Alarms above the rate in one minute, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// How many.
    pub total: u64,
    /// By kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// By severity.
    pub severities: BTreeMap<&'static str, u64>,
    /// By kind and class, as `kind/class`.
    pub classes: BTreeMap<String, u64>,
    /// By perspective concerned; an alarm may concern several, or none.
    pub perspectives: BTreeMap<String, u64>,
    /// By method, as far as it is known.
    pub methods: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub first_ids: Vec<String>,
    /// The first entry that one of them is about.
    pub first_entry: u64,
}

struct Held {
    digest: Digest,
    severity: Severity,
    /// The id of the digest follows from the last one.
    last: Source,
    at: Timestamp,
}

/// The limiter.
pub struct Limiter {
    per_minute: u32,
    minute: Option<i64>,
    given: BTreeMap<(Kind, Severity), u32>,
    held: Option<Held>,
}

impl Limiter {
    /// At most `per_minute` of each kind and severity come out by themselves in a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, minute: None, given: BTreeMap::new(), held: None }
    }

    /// Takes an alarm; what is to be told goes to `out`.
    pub fn offer(&mut self, source: &Source, alarm: Alarm, out: &mut Vec<Alarm>) {
        self.tick(alarm.at, out);
        self.minute.get_or_insert(minute(alarm.at));
        let given = self.given.entry((alarm.kind, alarm.severity)).or_default();
        if *given < self.per_minute {
            *given += 1;
            out.push(alarm);
        } else {
            self.hold(source, &alarm);
        }
    }

    /// Ends the minute if it is over at `now`.
    pub fn tick(&mut self, now: Timestamp, out: &mut Vec<Alarm>) {
        let now = minute(now);
        let over = |open: i64| now > open || now < open - MINUTES_OUT_OF_ORDER_MAX;
        if self.minute.is_some_and(over) {
            self.end(out);
        }
    }

    /// Ends the minute.
    pub fn end(&mut self, out: &mut Vec<Alarm>) {
        self.minute = None;
        self.given.clear();
        out.extend(self.held.take().map(Held::alarm));
    }

    /// Forgets what is held back: it was told before.
    pub fn forget_held(&mut self) {
        self.held = None;
    }

    /// The first entry of what is held back.
    #[must_use]
    pub fn first_held(&self) -> Option<u64> {
        self.held.as_ref().map(|held| held.digest.first_entry)
    }

    fn hold(&mut self, source: &Source, alarm: &Alarm) {
        let held = self.held.get_or_insert_with(|| Held {
            digest: Digest { first_entry: alarm.first_entry, ..Digest::default() },
            severity: alarm.severity,
            last: source.clone(),
            at: alarm.at,
        });
        held.severity = held.severity.max(alarm.severity);
        held.last = source.clone();
        held.at = held.at.max(alarm.at);
        let digest = &mut held.digest;
        digest.total += 1;
        digest.first_entry = digest.first_entry.min(alarm.first_entry);
        *digest.kinds.entry(alarm.kind.as_str()).or_default() += 1;
        *digest.severities.entry(alarm.severity.as_str()).or_default() += 1;
        *digest.classes.entry(format!("{}/{}", alarm.kind.as_str(), alarm.class)).or_default() += 1;
        if let Some(method) = alarm.method {
            *digest.methods.entry(method).or_default() += 1;
        }
        for perspective in &alarm.perspectives {
            let known = digest.perspectives.contains_key(perspective) || digest.perspectives.len() < PERSPECTIVES_MAX;
            let name = if known { perspective.as_str() } else { "others" };
            *digest.perspectives.entry(name.to_owned()).or_default() += 1;
        }
        if digest.first_ids.len() < IDS_MAX {
            digest.first_ids.push(alarm.id.clone());
        }
    }
}

impl Held {
    fn alarm(self) -> Alarm {
        let counts: Vec<String> = self.digest.classes.iter().map(|(class, count)| format!("{count} {class}")).collect();
        let message =
            format!("{} more alarms in this minute, above the rate: {}.", self.digest.total, counts.join(", "));
        Alarm {
            first_entry: self.digest.first_entry,
            perspectives: self.digest.perspectives.keys().cloned().collect(),
            message,
            digest: Some(self.digest),
            ..Alarm::bare(&self.last, Kind::Digest, self.severity, "above_rate", self.at)
        }
    }
}

fn minute(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}
