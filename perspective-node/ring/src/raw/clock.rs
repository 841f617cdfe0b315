//! Time since the ring was made, and what is due when.
//!
//! Leaves out reading the clock.

use std::collections::BTreeSet;

/// Microseconds since the ring was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Micros(pub(super) u64);

impl Micros {
    pub(super) const fn from_secs(seconds: u64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    pub(super) const fn plus(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }

    /// How long after `earlier`; zero if it is not.
    pub(super) const fn since(self, earlier: Micros) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl From<Micros> for smoltcp::time::Instant {
    fn from(time: Micros) -> smoltcp::time::Instant {
        // i64::MAX microseconds are 292 000 years.
        smoltcp::time::Instant::from_micros(i64::try_from(time.0).unwrap_or(i64::MAX))
    }
}

/// A queue by time. Entries are hints: whoever takes one looks whether it still
/// has something to do. One that came to nothing can be taken out, so that the
/// queue is as long as what is waited for and not as what happened meanwhile.
pub(super) struct Agenda<T>(BTreeSet<(Micros, T)>);

impl<T: Ord> Agenda<T> {
    pub(super) fn new() -> Agenda<T> {
        Agenda(BTreeSet::new())
    }

    pub(super) fn add(&mut self, at: Micros, what: T) {
        self.0.insert((at, what));
    }

    pub(super) fn remove(&mut self, at: Micros, what: T) {
        self.0.remove(&(at, what));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When the first entry is due.
    pub(super) fn next(&self) -> Option<Micros> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the first entry that is due.
    pub(super) fn due(&mut self, now: Micros) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, what)| what)
    }
}
