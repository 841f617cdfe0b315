//! Values every stage shares: names, addresses, perspectives, octets, limits and time as an argument.

pub mod address;
pub mod attempt;
pub mod limits;
pub mod name;
pub mod octets;
pub mod perspective;
pub mod suffix;

use std::time::Duration;

/// A source of unpredictable bits, given as an argument so that this crate draws none itself.
pub trait Entropy {
    /// The next 64 unpredictable bits.
    fn next_u64(&mut self) -> u64;
}

/// A point on a monotonic clock, in microseconds since an origin the caller chose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// The point `millis` milliseconds later.
    #[must_use]
    pub fn plus_ms(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1000)))
    }

    /// Microseconds since `earlier`, zero if it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The time left until this point, zero if it has passed.
    #[must_use]
    pub fn until(self, now: Self) -> Duration {
        Duration::from_micros(self.since(now))
    }
}
