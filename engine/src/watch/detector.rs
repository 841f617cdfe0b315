//! Whether a perspective, or a group of them, differs from the others: a sequential test that may be looked at any time.
//!
//! # The test
//!
//! Of one attempt with `m` awaited remotes, `d` of which did not confirm, only this is asked: were the members of the
//! group among the `d` more often than the others? If all remotes are alike, the number of members among the `d` is
//! hypergeometric; if the odds of a member are `θ` times those of the others, it is Fisher's noncentral hypergeometric
//! with `θ`. Nothing has to be known, or estimated, about how often attempts fail: targets that fail everywhere
//! (`d = m`) and targets that never fail (`d = 0`) weigh nothing.
//!
//! The factor by which one attempt speaks for `θ = θ₁` against `θ ≤` [`ODDS_ALIKE`] has an expected value of at most 1
//! as long as the odds are alike, since the likelihood ratio grows with `θ`. A running product of such factors that
//! begins anew at 1 whenever it falls below is an e-detector of the CUSUM kind, and so is the mean of several (Shin,
//! Ramdas, Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New England Journal of
//! Statistics in Data Science, 2024): whenever one looks, the mean number of attempts until it passes a threshold `1/α`
//! without cause is at least `1/α`. With `α = 10⁻⁶` and the odds well below [`ODDS_ALIKE`] it is far more. There is no
//! rate of misses to be chosen: a difference that stays is found, in about `ln(1/α)` divided by what one attempt says.
//!
//! [`ODDS_ALIKE`] is above 1 since remotes are not quite alike: the verdict does not wait for the slowest.
//!
//! It finds a difference, not its cause. A pure function of the counts.

use jiff::Timestamp;

/// Odds up to which a group counts as like the others.
pub const ODDS_ALIKE: f64 = 2.0;
/// Odds that are looked for.
pub const ODDS_WANTED: [f64; 3] = [4.0, 16.0, 64.0];
/// `ln 10⁶`: the threshold for an error rate of 10⁻⁶.
const LN_THRESHOLD: f64 = 13.815_510_557_964_274;
/// `ln 10⁹`: no product grows above it, so that what is over is seen to be over.
const LN_MAX: f64 = 20.723_265_836_946_41;
/// A smaller share of attempts than this is not worth an alarm.
pub const SHARE_MIN: f64 = 0.01;
/// Remotes in one attempt, at most.
const REMOTES_MAX: u32 = 64;

/// One attempt, as it concerns a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Awaited members of the group.
    pub members: u32,
    /// Of these, those that did not confirm.
    pub members_refusing: u32,
    /// Awaited remotes.
    pub all: u32,
    /// Of these, those that did not confirm.
    pub all_refusing: u32,
}

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The group differs now.
    Differs,
    /// It does no longer.
    Cleared,
}

/// The numbers behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers of members.
    pub members: u64,
    /// Of these, no confirmations.
    pub members_refusing: u64,
    /// Answers of others in the same attempts.
    pub others: u64,
    /// Of these, no confirmations.
    pub others_refusing: u64,
}

/// The test for one group.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    /// Natural logarithms of the products, one for each of [`ODDS_WANTED`].
    products: [f64; ODDS_WANTED.len()],
    counts: Counts,
    since: Option<Timestamp>,
    raised: bool,
}

impl Detector {
    /// Takes an attempt.
    pub fn take(&mut self, at: Timestamp, compared: Compared) -> Option<Change> {
        let Compared { members, members_refusing, all, all_refusing } = compared;
        let fits = members >= 1 && members < all && all <= REMOTES_MAX && all_refusing <= all;
        let fits = fits && members_refusing <= members.min(all_refusing);
        // Members that confirm among the refusing ones would be a contradiction in the counts.
        if !fits || all_refusing - members_refusing > all - members {
            return None;
        }
        if !self.raised && self.products.iter().all(|product| *product <= 0.0) {
            self.counts = Counts::default();
            self.since = Some(at);
        }
        self.counts.members += u64::from(members);
        self.counts.members_refusing += u64::from(members_refusing);
        self.counts.others += u64::from(all - members);
        self.counts.others_refusing += u64::from(all_refusing - members_refusing);
        if all_refusing == 0 || all_refusing == all {
            // They are alike whatever the odds.
            self.products.iter_mut().for_each(|product| *product = product.max(0.0));
            return self.change();
        }
        let alike = ln_weight(compared, ODDS_ALIKE);
        for (product, odds) in self.products.iter_mut().zip(ODDS_WANTED) {
            *product = (product.max(0.0) + ln_weight(compared, odds) - alike).min(LN_MAX);
        }
        self.change()
    }

    fn change(&mut self) -> Option<Change> {
        if self.raised {
            let over = self.products.iter().all(|product| *product <= 0.0);
            self.raised = !over;
            return over.then_some(Change::Cleared);
        }
        let share = self.counts.members_refusing as f64 / self.counts.members.max(1) as f64;
        self.raised = self.ln_mean() >= LN_THRESHOLD && share >= SHARE_MIN;
        self.raised.then_some(Change::Differs)
    }

    fn ln_mean(&self) -> f64 {
        let most = self.products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.products.iter().map(|product| (product - most).exp()).sum();
        most + (sum / ODDS_WANTED.len() as f64).ln()
    }

    /// Whether the group is held to differ.
    #[must_use]
    pub fn raised(&self) -> bool {
        self.raised
    }

    /// The counts, and since when: since the products last stood at 1.
    #[must_use]
    pub fn counts(&self) -> (Counts, Option<Timestamp>) {
        (self.counts, self.since)
    }
}

/// The logarithm of the probability of a count under these odds, without the binomials that any odds share.
fn ln_weight(compared: Compared, odds: f64) -> f64 {
    let Compared { members, members_refusing, all, all_refusing } = compared;
    let others = all - members;
    let lowest = all_refusing.saturating_sub(others);
    let highest = members.min(all_refusing);
    let sum: f64 = (lowest..=highest)
        .map(|count| binomial(members, count) * binomial(others, all_refusing - count) * odds.powi(count.cast_signed()))
        .sum();
    f64::from(members_refusing) * odds.ln() - sum.ln()
}

/// Of numbers up to [`REMOTES_MAX`]; as exact as a float, which is enough for a weight.
fn binomial(of: u32, choose: u32) -> f64 {
    (0..choose.min(of - choose)).fold(1.0, |product, step| product * f64::from(of - step) / f64::from(step + 1))
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    const REMOTES: usize = 5;

    fn at() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// Attempts in which remote `i` does not confirm with the probability that `rates` gives; after how many of them
    /// each detector was raised first.
    fn simulate(
        seed: u64,
        attempts: u64,
        rates: impl Fn(&mut StdRng, u64) -> [f64; REMOTES],
    ) -> [Option<u64>; REMOTES] {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut detectors: [Detector; REMOTES] = Default::default();
        let mut raised = [None; REMOTES];
        for attempt in 0..attempts {
            let rates = rates(&mut rng, attempt);
            let refusing = draw(&mut rng, rates);
            let all_refusing = refusing.iter().filter(|refuses| **refuses).count() as u32;
            for (index, detector) in detectors.iter_mut().enumerate() {
                let members_refusing = u32::from(refusing[index]);
                let compared = Compared { members: 1, members_refusing, all: REMOTES as u32, all_refusing };
                if detector.take(at(), compared) == Some(Change::Differs) {
                    raised[index].get_or_insert(attempt + 1);
                }
            }
        }
        raised
    }

    /// Which of them refuse, each for itself. One random number says which is the first, or that none is.
    fn draw(rng: &mut StdRng, rates: [f64; REMOTES]) -> [bool; REMOTES] {
        let mut refusing = [false; REMOTES];
        let (number, mut none_before) = (rng.random::<f64>(), 1.0);
        for first in 0..REMOTES {
            none_before *= 1.0 - rates[first];
            if number >= none_before {
                refusing[first] = true;
                for later in first + 1..REMOTES {
                    refusing[later] = rng.random::<f64>() < rates[later];
                }
                break;
            }
        }
        refusing
    }

    #[test]
    fn h11_perspectives_that_fail_alike_raise_no_alarm_in_a_million_attempts() {
        for seed in 0..20 {
            // Rates from one in five thousand to one in ten.
            let rate = 0.000_2 * 1.38_f64.powi(i32::try_from(seed).expect("small"));
            assert_eq!(simulate(seed, 1_000_000, |_, _| [rate; REMOTES]), [None; REMOTES], "seed {seed}");
        }
    }

    #[test]
    fn h11_a_perspective_that_fails_one_in_ten_is_found_within_a_thousand_attempts() {
        for seed in 0..50 {
            let found = simulate(seed, 1_000, |_, _| [0.005, 0.005, 0.1, 0.005, 0.005]);
            assert!(found[2].is_some(), "seed {seed}");
            assert_eq!([found[0], found[1], found[3], found[4]], [None; 4], "seed {seed}");
        }
    }

    #[test]
    fn h11_one_that_goes_bad_after_a_long_time_is_found_as_soon() {
        const GOOD: u64 = 200_000;
        for seed in 0..10 {
            let found = simulate(seed, GOOD + 1_000, |_, attempt| {
                let second = if attempt < GOOD { 0.01 } else { 0.1 };
                [0.01, second, 0.01, 0.01, 0.01]
            });
            assert!(found[1].is_some_and(|at| at > GOOD), "seed {seed}: {found:?}");
        }
    }

    #[test]
    fn h11_targets_that_fail_everywhere_or_at_some_places_raise_no_perspective_alarm() {
        for seed in 0..20 {
            let found = simulate(seed, 200_000, |rng, _| match rng.random_range(0..10) {
                0 => [1.0; REMOTES],
                1 => [0.5; REMOTES],
                _ => [0.002; REMOTES],
            });
            assert_eq!(found, [None; REMOTES], "seed {seed}");
        }
    }

    #[test]
    fn h11_two_of_one_network_that_fail_together_are_found_as_a_group() {
        let mut group = Detector::default();
        let outage = Compared { members: 2, members_refusing: 2, all: 6, all_refusing: 2 };
        let raised = (1..=20).find(|_| group.take(at(), outage) == Some(Change::Differs));
        assert!(raised.is_some_and(|attempts| attempts <= 10), "{raised:?}");
    }

    #[test]
    fn h11_an_alarm_is_raised_once_and_clears() {
        let mut detector = Detector::default();
        let by =
            |own: u32, others: u32| Compared { members: 1, members_refusing: own, all: 5, all_refusing: own + others };
        let changes: Vec<Change> = (0..1_000).filter_map(|_| detector.take(at(), by(1, 0))).collect();
        assert_eq!(changes, [Change::Differs]);
        assert!(detector.raised());
        let (counts, _) = detector.counts();
        assert_eq!(
            (counts.members, counts.members_refusing, counts.others, counts.others_refusing),
            (1_000, 1_000, 4_000, 0)
        );
        let changes: Vec<Change> = (0..100).filter_map(|_| detector.take(at(), by(0, 1))).collect();
        assert_eq!(changes, [Change::Cleared]);
        assert!(!detector.raised());
    }

    #[test]
    fn h11_a_long_time_of_being_better_than_the_others_is_no_credit() {
        let mut detector = Detector::default();
        for _ in 0..10_000 {
            let compared = Compared { members: 1, members_refusing: 0, all: 5, all_refusing: 1 };
            assert_eq!(detector.take(at(), compared), None);
        }
        let bad = Compared { members: 1, members_refusing: 1, all: 5, all_refusing: 1 };
        let raised = (1..=100).find(|_| detector.take(at(), bad) == Some(Change::Differs));
        assert!(raised.is_some_and(|attempts| attempts <= 20), "{raised:?}");
    }

    #[test]
    fn h11_a_difference_below_one_in_a_hundred_is_no_alarm() {
        let mut detector = Detector::default();
        let mut changes = Vec::new();
        for attempt in 0..100_000_u32 {
            let own = u32::from(attempt % 200 == 199);
            changes
                .extend(detector.take(at(), Compared { members: 1, members_refusing: own, all: 5, all_refusing: own }));
        }
        assert_eq!(changes, []);
        assert!(detector.ln_mean() >= LN_THRESHOLD, "by the test alone it would be one");
    }

    #[test]
    fn the_weights_are_those_of_a_distribution() {
        for odds in [1.0, ODDS_ALIKE, 16.0] {
            for (members, all, all_refusing) in [(1_u32, 5_u32, 1_u32), (1, 5, 4), (2, 6, 3), (3, 5, 4), (2, 3, 3)] {
                let others = all - members;
                let counts = all_refusing.saturating_sub(others)..=members.min(all_refusing);
                let whole: f64 = counts
                    .map(|count| {
                        let compared = Compared { members, members_refusing: count, all, all_refusing };
                        let ways = binomial(members, count) * binomial(others, all_refusing - count);
                        ways * ln_weight(compared, odds).exp()
                    })
                    .sum();
                assert!((whole - 1.0).abs() < 1e-9, "{odds} {members} {all} {all_refusing}: {whole}");
            }
        }
        assert_eq!([binomial(5, 2), binomial(6, 0), binomial(6, 6), binomial(16, 8)], [10.0, 1.0, 1.0, 12_870.0]);
    }

    #[test]
    fn h11_one_attempt_is_expected_to_say_nothing_as_long_as_they_are_alike() {
        for (members, all) in [(1_u32, 3_u32), (1, 5), (1, 16), (2, 5), (3, 6), (4, 6)] {
            for (all_refusing, alike) in
                (0..=all).flat_map(|count| [0.1, 0.5, 1.0, 1.5, ODDS_ALIKE].map(|o| (count, o)))
            {
                for wanted in ODDS_WANTED {
                    let counts = all_refusing.saturating_sub(all - members)..=members.min(all_refusing);
                    let expected: f64 = counts
                        .map(|count| {
                            let compared = Compared { members, members_refusing: count, all, all_refusing };
                            let ways = binomial(members, count) * binomial(all - members, all_refusing - count);
                            let probability = ways * ln_weight(compared, alike).exp();
                            probability * (ln_weight(compared, wanted) - ln_weight(compared, ODDS_ALIKE)).exp()
                        })
                        .sum();
                    assert!(expected <= 1.0 + 1e-9, "{members} of {all}, {all_refusing}, {alike}: {expected}");
                }
            }
        }
    }

    #[test]
    fn counts_that_cannot_be_are_left_out() {
        let mut detector = Detector::default();
        for (members, members_refusing, all, all_refusing) in
            [(0, 0, 5, 1), (5, 1, 5, 1), (1, 1, 5, 0), (2, 3, 5, 3), (1, 0, 5, 5), (1, 1, 65, 1), (1, 0, 5, 6)]
        {
            let compared = Compared { members, members_refusing, all, all_refusing };
            assert_eq!(detector.take(at(), compared), None);
            assert_eq!(detector.counts(), (Counts::default(), None), "{compared:?}");
        }
    }
}
