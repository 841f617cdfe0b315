//! Bounds on what strangers can make a program say or hold.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one kind in a second, at most; the rest is counted.
const LINES_MAX: u32 = 10;

/// Lets through a few lines a second, and says how many were left out since.
#[derive(Debug, Default)]
pub struct LineLimit(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// Whether a line may be written now, and then how many before it were not.
    #[must_use]
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (window.since, window.lines) = (Some(now), 0);
        }
        if window.lines >= LINES_MAX {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

/// Counts what each address has under way, so that no single one can take all places.
#[derive(Clone, Debug)]
pub(super) struct PerAddress {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One place of an address.
#[derive(Debug)]
pub(super) struct Turn {
    address: IpAddr,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl PerAddress {
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// A place, if the address has not all of its own.
    pub(super) fn take(&self, address: IpAddr) -> Option<Turn> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Turn { address, held: Arc::clone(&self.held) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_counted_and_told_later() {
        let (limit, begun) = (LineLimit::default(), Instant::now());
        let passed = (0..1000).filter(|_| limit.pass(begun).is_some()).count();
        assert_eq!(passed, LINES_MAX as usize);
        assert_eq!(limit.pass(begun + Duration::from_secs(1)), Some(990));
        assert_eq!(limit.pass(begun + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn an_address_has_its_places_and_no_more() {
        let (places, one, other) = (PerAddress::new(2), IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = places.take(one).expect("a place");
        let _second = places.take(one).expect("a place");
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(first);
        assert!(places.take(one).is_some());
        assert_eq!(places.held.lock().expect("sound").len(), 1, "who holds nothing is forgotten");
    }
}
