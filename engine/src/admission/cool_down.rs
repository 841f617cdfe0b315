//! Failures in a row of each (account, name), and how long the next attempt waits (req H13).
//!
//! Invariant: every history has one entry among those to be forgotten, and the other way round.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{Keys, Limits, TimerKey};

#[derive(Debug)]
struct History {
    failures: u32,
    until: Option<Instant>,
    forget: TimerKey,
}

#[derive(Debug)]
pub(super) struct CoolDowns {
    failures_before: u32,
    first_ms: u64,
    longest_ms: u64,
    most: usize,
    histories: HashMap<Keys, History>,
    forget: BTreeMap<TimerKey, Keys>,
    stamps: u64,
}

impl CoolDowns {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            failures_before: limits.failures_before_cool_down.get(),
            first_ms: limits.cool_down_ms,
            longest_ms: limits.cool_down_max_ms,
            most: limits.cool_downs_max,
            histories: HashMap::new(),
            forget: BTreeMap::new(),
            stamps: 0,
        }
    }

    /// The end of the cool-down, which may have passed.
    pub(super) fn until(&self, keys: &Keys) -> Option<Instant> {
        self.histories.get(keys)?.until
    }

    /// Counts a failure. Returns the end of the cool-down, if there is one now.
    pub(super) fn failed(&mut self, keys: &Keys, now: Instant, random: u64) -> Option<Instant> {
        self.expire(now);
        let (before, was_until) = self.remove(keys).map_or((0, None), |history| (history.failures, history.until));
        let failures = before.saturating_add(1);
        // An attempt that began earlier may end later: the wait never becomes shorter.
        let until = self.wait(failures, random).map(|wait| now + wait).max(was_until);
        self.stamps += 1;
        let forget = (until.unwrap_or(now).max(now) + Duration::from_millis(self.longest_ms), self.stamps);
        self.forget.insert(forget, keys.clone());
        self.histories.insert(keys.clone(), History { failures, until, forget });
        while self.histories.len() > self.most
            && let Some((_, evicted)) = self.forget.pop_first()
        {
            self.histories.remove(&evicted);
        }
        until
    }

    /// A success: all is forgotten, and no cool-down is left.
    pub(super) fn clear(&mut self, keys: &Keys) {
        self.remove(keys);
    }

    /// Forgets what is old.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.forget.first_entry().filter(|oldest| oldest.key().0 <= now) {
            self.histories.remove(&oldest.remove());
        }
    }

    fn remove(&mut self, keys: &Keys) -> Option<History> {
        let history = self.histories.remove(keys)?;
        self.forget.remove(&history.forget);
        Some(history)
    }

    /// Between 75 and 125 % of the wait, so that what failed together is not tried again together.
    fn wait(&self, failures: u32, random: u64) -> Option<Duration> {
        let doublings = failures.checked_sub(self.failures_before)?;
        let wait_ms = self.first_ms.saturating_mul(2_u64.saturating_pow(doublings)).min(self.longest_ms);
        let spread = random % (wait_ms / 2 + 1);
        Some(Duration::from_millis((wait_ms - wait_ms / 4).saturating_add(spread)))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.histories.len(), self.forget.len());
        self.histories.len()
    }
}
