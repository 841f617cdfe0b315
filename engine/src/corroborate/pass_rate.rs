//! How often the primary confirms what an account asks for, of late.

use std::collections::HashMap;

/// Accounts that are remembered; when there are more, all are learnt anew.
const ACCOUNTS_MAX: usize = 10_000;
/// Attempts before anything is concluded.
const ATTEMPTS_MIN: u32 = 8;
/// The weight of the latest attempt.
const WEIGHT: f32 = 1.0 / 16.0;
/// From here on, asking remotes before the primary has answered wastes little.
const MOSTLY: f32 = 0.9;

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    attempts: u32,
    passed: f32,
}

/// Pass rates by account.
#[derive(Debug, Default)]
pub(super) struct PassRates(HashMap<Option<Box<str>>, Rate>);

impl PassRates {
    pub(super) fn note(&mut self, account: Option<&str>, passed: bool) {
        let key = account.map(Into::into);
        if self.0.len() >= ACCOUNTS_MAX && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let rate = self.0.entry(key).or_default();
        rate.attempts = rate.attempts.saturating_add(1);
        // The plain mean until it has enough behind it.
        let weight = WEIGHT.max(1.0 / rate.attempts as f32);
        rate.passed += weight * (f32::from(u8::from(passed)) - rate.passed);
    }

    /// Whether remotes may as well be asked at once.
    pub(super) fn mostly_passes(&self, account: Option<&str>) -> bool {
        let rate = self.0.get(&account.map(Into::into)).copied().unwrap_or_default();
        rate.attempts >= ATTEMPTS_MIN && rate.passed >= MOSTLY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_trusted_after_a_while_and_loses_it_at_once() {
        let mut rates = PassRates::default();
        let (good, bad) = (Some("good"), Some("bad"));
        for attempt in 0..ATTEMPTS_MIN {
            assert!(!rates.mostly_passes(good), "after {attempt}");
            rates.note(good, true);
            rates.note(bad, attempt % 2 == 0);
        }
        assert!(rates.mostly_passes(good) && !rates.mostly_passes(bad) && !rates.mostly_passes(None));
        rates.note(good, false);
        rates.note(good, false);
        assert!(!rates.mostly_passes(good));
    }

    #[test]
    fn the_accounts_remembered_are_bounded() {
        let mut rates = PassRates::default();
        for account in 0..ACCOUNTS_MAX * 2 {
            rates.note(Some(&account.to_string()), true);
        }
        assert!(rates.0.len() <= ACCOUNTS_MAX);
    }
}
