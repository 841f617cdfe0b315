//! CAA lookups that failed in a zone that is not signed, and are repeated (req C16).
//!
//! The repeat waits longer than the resolver keeps failures, so that it is a real one (`cases.md` D36).

use thin_vec::ThinVec;

use crate::{
    base::Micros,
    observation::{DnsLookup, DnsOutcome, Repeat, SecurityStatus},
};

#[derive(Debug)]
struct Waiting {
    level: usize,
    first: DnsLookup,
    failed_at: Micros,
    /// None once it was asked again.
    due: Option<Micros>,
    asked_again_at: Micros,
    alias: Option<DnsLookup>,
}

/// The repeats of one task.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    after_ms: u32,
    waiting: ThinVec<Waiting>,
}

impl Repeats {
    /// Repeats failed lookups after a time; none if it is zero.
    pub(super) fn after(after_ms: u32) -> Self {
        Self { after_ms, waiting: ThinVec::new() }
    }

    /// Whether lookups that fail do not end the climb.
    pub(super) fn are_made(&self) -> bool {
        self.after_ms > 0
    }

    /// A CAA lookup has ended. Gives it back if that is final, with the failure before if it is a repeat; else
    /// it will be due again.
    pub(super) fn ended(&mut self, now: Micros, level: usize, lookup: DnsLookup) -> Option<DnsLookup> {
        if let Some(at) = self.waiting.iter().position(|waiting| waiting.level == level) {
            let Waiting { first, failed_at, asked_again_at, alias, .. } = self.waiting.swap_remove(at);
            let waited_us = asked_again_at.since(failed_at);
            return Some(DnsLookup { repeat: Some(Box::new(Repeat { first, waited_us, alias })), ..lookup });
        }
        let insecure = lookup.validation.as_ref().is_some_and(|v| v.status == SecurityStatus::Insecure);
        if !self.are_made() || !insecure || !matches!(lookup.outcome, DnsOutcome::Failed(_)) {
            return Some(lookup);
        }
        let due = Some(now.plus_ms(self.after_ms.into()));
        self.waiting.push(Waiting { level, first: lookup, failed_at: now, due, asked_again_at: now, alias: None });
        None
    }

    /// Whether an alias is still wanted to be known for a level.
    pub(super) fn name_of(&self, level: usize) -> Option<&str> {
        self.waiting.iter().find(|waiting| waiting.level == level).map(|waiting| waiting.first.name.as_str())
    }

    /// CNAME of a level's name.
    pub(super) fn note_alias(&mut self, level: usize, lookup: DnsLookup) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.level == level) {
            waiting.alias = Some(lookup);
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Micros> {
        self.waiting.iter().filter_map(|waiting| waiting.due).min()
    }

    /// Those that are due, with their names.
    pub(super) fn take_due(&mut self, now: Micros) -> Vec<(usize, String)> {
        let due = self.waiting.iter_mut().filter(|waiting| waiting.due.is_some_and(|due| due <= now));
        due.map(|waiting| {
            waiting.due = None;
            waiting.asked_again_at = now;
            (waiting.level, waiting.first.name.clone())
        })
        .collect()
    }

    /// The time is over: the failures stand as they are.
    pub(super) fn cut_off(&mut self) -> Vec<(usize, DnsLookup)> {
        self.waiting.drain(..).map(|waiting| (waiting.level, waiting.first)).collect()
    }

    /// Levels from this one on are of no account.
    pub(super) fn forget_from(&mut self, level: usize) {
        self.waiting.retain(|waiting| waiting.level < level);
    }
}
