//! Whether a server that has begun to send goes on fast enough.
//!
//! A server that sends an octet every few seconds would otherwise hold a connection for as long as a whole
//! response may take. What comes before its first octet is silence, and bounded by the limits of its phase.

use crate::base::{
    Micros,
    limits::{PACE_GRACE_MS, PACE_OCTETS_PER_SECOND_MIN},
};

/// The pace of one phase on one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    first: Option<Micros>,
    octets: u64,
}

impl Pace {
    /// So many octets came.
    pub(super) fn count(&mut self, now: Micros, octets: usize) {
        self.first.get_or_insert(now);
        self.octets += octets as u64;
    }

    /// When it will have been too slow, if nothing more comes; `ends` if that is sooner. Each octet buys a part
    /// of a second, counted from the first one.
    pub(super) fn ends(&self, ends: Micros) -> Micros {
        let Some(first) = self.first else { return ends };
        let bought_ms = self.octets.saturating_mul(1_000) / PACE_OCTETS_PER_SECOND_MIN;
        first.plus_ms(bought_ms.max(PACE_GRACE_MS)).min(ends)
    }

    /// Whether it is this, and not the end of the phase, that a wait until now has come to.
    pub(super) fn is_too_slow(&self, now: Micros, ends: Micros) -> bool {
        now < ends && now >= self.ends(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_silence_is_not_slow_and_each_octet_buys_time() {
        let (ends, start) = (Micros(0).plus_ms(60_000), Micros(0).plus_ms(7_000));
        let mut pace = Pace::default();
        assert_eq!(pace.ends(ends), ends);
        assert!(!pace.is_too_slow(start, ends));
        pace.count(start, 1);
        assert_eq!(pace.ends(ends), start.plus_ms(PACE_GRACE_MS));
        pace.count(start, 10 * PACE_OCTETS_PER_SECOND_MIN as usize - 1);
        assert_eq!(pace.ends(ends), start.plus_ms(10_000));
        assert!(!pace.is_too_slow(start.plus_ms(9_999), ends));
        assert!(pace.is_too_slow(start.plus_ms(10_000), ends));
        assert!(!pace.is_too_slow(ends, ends), "the end of the phase is silence");
    }
}
