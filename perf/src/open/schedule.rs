//! When each request is due, and whether requests leave when they are.
//!
//! Invariant: when a request is due depends on rate, spacing and seed alone, never on what became of those before it.

use std::time::Duration;

use clap::ValueEnum;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A request that leaves so much after it was due is late.
pub const LATE_AFTER: Duration = Duration::from_millis(5);
/// One in so many may be late.
pub const LATE_ONE_IN: u64 = 1000;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spacing {
    /// The same time between any two.
    Constant,
    /// Each independent of all others, as those of many callers are.
    Poisson,
}

/// When requests are due, counted from the beginning; it has no end.
#[derive(Debug)]
pub struct Schedule {
    spacing: Spacing,
    per_second: f64,
    random: StdRng,
    number: u64,
    seconds: f64,
}

impl Schedule {
    /// A schedule. The rate must be above 0.
    #[must_use]
    pub fn new(spacing: Spacing, per_second: f64, seed: u64) -> Self {
        Self { spacing, per_second, random: StdRng::seed_from_u64(seed), number: 0, seconds: 0.0 }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        match self.spacing {
            // Of the number, so that no error of rounding grows.
            Spacing::Constant => self.seconds = self.number as f64 / self.per_second,
            Spacing::Poisson => {
                let random: f64 = self.random.random();
                self.seconds += -(1.0 - random).ln() / self.per_second;
            }
        }
        self.number += 1;
        Duration::try_from_secs_f64(self.seconds).ok()
    }
}

/// How many requests left late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// Requests that left.
    pub sent: u64,
    /// Of them, those that were late.
    pub late: u64,
}

impl Lateness {
    /// A request left so long after it was due.
    pub fn handle_sent(&mut self, after: Duration) {
        self.sent += 1;
        self.late += u64::from(after > LATE_AFTER);
    }

    /// Whether what was sent is the load that was meant.
    #[must_use]
    pub fn keeps_up(self) -> bool {
        self.late * LATE_ONE_IN <= self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_constant_spacing_is_exact_however_long_it_lasts() {
        let mut schedule = Schedule::new(Spacing::Constant, 3.0, 1);
        assert_eq!(schedule.next(), Some(Duration::ZERO));
        let last = schedule.nth(2_999_998).expect("it has no end");
        assert!(last.abs_diff(Duration::from_nanos(999_999_666_666_667)) < Duration::from_nanos(200), "{last:?}");
    }

    #[test]
    fn ok_poisson_has_the_rate_and_the_spread_that_it_must_have() {
        let due: Vec<f64> =
            Schedule::new(Spacing::Poisson, 1000.0, 7).take(100_000).map(|due| due.as_secs_f64()).collect();
        assert!(due.windows(2).all(|pair| pair[0] <= pair[1]));
        let gaps: Vec<f64> = due.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 1000.0 - 1.0).abs() < 0.02, "{mean}");
        // An exponential distribution's deviation is its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{variance}");
    }

    #[test]
    fn ok_a_schedule_is_its_seed_s() {
        let due = |seed| Schedule::new(Spacing::Poisson, 100.0, seed).take(50).collect::<Vec<_>>();
        assert_eq!(due(1), due(1));
        assert_ne!(due(1), due(2));
    }

    #[test]
    fn ok_one_in_a_thousand_may_be_late_and_no_more() {
        let mut lateness = Lateness::default();
        assert!(lateness.keeps_up());
        (0..999).for_each(|_| lateness.handle_sent(LATE_AFTER));
        lateness.handle_sent(LATE_AFTER + Duration::from_nanos(1));
        assert_eq!(lateness, Lateness { sent: 1000, late: 1 });
        assert!(lateness.keeps_up());
        lateness.handle_sent(Duration::from_secs(1));
        assert!(!lateness.keeps_up());
    }
}
