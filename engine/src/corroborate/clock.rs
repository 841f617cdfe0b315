//! The two clocks an engine goes by.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where time comes from; a simulation has its own.
pub trait Clock: Send + Sync {
    /// UTC, for records and for picking policy rows.
    fn now(&self) -> Timestamp;
    /// Time that only ever goes forward, for deadlines.
    fn instant(&self) -> Instant;
}

/// Those of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// How far UTC may be moved against the clock that only goes forward before it is no longer trusted (req A20): well
/// above what a time service slews, well below what tells two policy rows apart by mistake.
const JUMP_MS_MAX: i64 = 5_000;

/// Notices when UTC is moved.
#[derive(Debug)]
pub(super) struct Watch {
    utc: Timestamp,
    instant: Instant,
}

impl Watch {
    pub(super) fn start(clock: &dyn Clock) -> Self {
        Self { utc: clock.now(), instant: clock.instant() }
    }

    /// By how much UTC was moved, milliseconds, if that is more than may be. Slow drift is forgiven: the comparison
    /// goes on from here.
    pub(super) fn jump_ms(&mut self, clock: &dyn Clock) -> Option<i64> {
        let before = clock.instant();
        let utc = clock.now();
        let after = clock.instant();
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let passed = ms(before.duration_since(self.instant));
        let moved = i64::try_from(utc.duration_since(self.utc).as_millis()).unwrap_or(i64::MAX).saturating_sub(passed);
        // This thread may have been kept from running between the two readings.
        let unsure = ms(after.duration_since(before));
        (self.utc, self.instant) = (utc, before);
        (moved.saturating_abs() > JUMP_MS_MAX.saturating_add(unsure)).then_some(moved)
    }
}
