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

/// How far UTC may be moved against the clock that only goes forward before it is no longer trusted (req A20).
const JUMP_MS_MAX: i64 = 5_000;
/// A time service may besides speed it up or slow it down by this part at most; twice what Linux slews.
const SLEW_PART: i64 = 1_000;

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

    /// By how much UTC was moved since the start, milliseconds, if that is more than may be.
    pub(super) fn jump_ms(&self, clock: &dyn Clock) -> Option<i64> {
        let before = clock.instant();
        let utc = clock.now();
        let after = clock.instant();
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let passed = ms(before.duration_since(self.instant));
        let moved = i64::try_from(utc.duration_since(self.utc).as_millis()).unwrap_or(i64::MAX).saturating_sub(passed);
        // This thread may have been kept from running between the two readings.
        let unsure = ms(after.duration_since(before));
        let allowed = JUMP_MS_MAX.saturating_add(passed / SLEW_PART).saturating_add(unsure);
        (moved.saturating_abs() > allowed).then_some(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Told(Mutex<(Timestamp, Instant)>);

    impl Told {
        fn pass(&self, utc_ms: i64, ms: u64) {
            let mut told = self.0.lock().expect("one thread");
            told.0 += jiff::SignedDuration::from_millis(utc_ms);
            told.1 += Duration::from_millis(ms);
        }
    }

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            self.0.lock().expect("one thread").0
        }

        fn instant(&self) -> Instant {
            self.0.lock().expect("one thread").1
        }
    }

    #[test]
    fn a20_many_small_steps_are_noticed_as_one_large_one_is_and_a_slew_is_not() {
        let watch_over = |steps: &[(i64, u64)]| {
            let clock = Told(Mutex::new((Timestamp::UNIX_EPOCH, Instant::now())));
            let watch = Watch::start(&clock);
            steps.iter().for_each(|(utc, ms)| clock.pass(*utc, *ms));
            watch.jump_ms(&clock)
        };
        assert_eq!(watch_over(&[(1_000, 1_000); 100]), None);
        assert_eq!(watch_over(&[(-4_000, 1_000)]), None, "a small step");
        assert_eq!(watch_over(&[(-5_000, 1_000)]), Some(-6_000));
        assert_eq!(watch_over(&[(9_000, 1_000)]), Some(8_000));
        assert_eq!(watch_over(&[(2_000, 1_000); 7]), Some(7_000), "one second each time");
        // 500 parts in a million for a day.
        assert_eq!(watch_over(&[(86_443_200, 86_400_000)]), None);
    }
}
