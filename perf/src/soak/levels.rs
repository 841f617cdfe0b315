//! Whether a level rose: a pure function of the values of windows, for measures that a busy machine moves as well.
//!
//! The first tenth of a run is left out, and of the rest the median of the first third's windows is compared with that of
//! the last third's. A rise is too much beyond the largest of: a share of the first level, a least, and three standard
//! errors of the difference, reckoned from how far the windows lie from their medians. So noise makes it careful, and a
//! longer run with more windows sharp again.
//!
//! A canary (`canary`) tells a slower engine from a busier machine. Its quiet level is the lower quartile of its
//! windows. A window in which it is slower is scaled down by as much; one in which it takes more than half as long again
//! is left out. If that leaves too few windows of a third, those left out count as they are, provided that they are no
//! slower than the others of their third: then the canary alone suffered, as its slowest rounds do from a slow disk. Else
//! nothing can be said: [`Verdict::Busy`].
//!
//! With a share of 20 % and windows that vary little, it finds a steady rise of 37 % or more over the whole run (a line
//! stands at 25 % and at 85 % of the run in the middle of its thirds), and a step of more than 20 % between these two
//! times. If ten windows a third vary by a standard deviation of 10 %, three standard errors are 17 %, and the share still
//! counts; at 30 % they are 50 %.
//!
//! Left out: a rise that is over before a quarter of the run, a step in its last seventh, and a rise no larger than the
//! canary's own, half at most. An engine that itself makes the machine busy, and so the canary slow, is found by its CPU
//! time of an answer, which is judged without a canary.

use super::trend::{Bound, LOOKED_AT_SECONDS_MIN, Point, Trend, Verdict, median};

/// The beginning that is left out, as a share of the time.
const WARM_UP_SHARE: f64 = 0.1;
/// Windows of a third that a median is taken of, at least.
const WINDOWS_OF_THIRD_MIN: usize = 4;
/// A window in which the canary takes longer than this many times its quiet level says nothing.
const CANARY_SLOWER_MAX: f64 = 1.5;
/// Windows with a quiet canary that others are held against, at least.
const QUIET_WINDOWS_MIN: usize = 2;
/// Windows with a slow canary are no slower than the others if their median is within this share of the others'.
const NO_SLOWER_SHARE: f64 = 0.1;
/// Standard errors that are noise.
const STANDARD_ERRORS: f64 = 3.0;
/// Of a normal distribution: its standard deviation over the median deviation, and the standard error of a median over
/// that of a mean.
const DEVIATION_OF_MEDIAN_DEVIATION: f64 = 1.4826;
const ERROR_OF_MEDIAN: f64 = 1.2533;

/// Judges windows, in the order of time, beside those of a canary, if there is one.
#[must_use]
pub fn judge(windows: &[Point], bound: Bound, canary: Option<&[Point]>) -> Trend {
    let (begun, ended) = windows.first().zip(windows.last()).map_or((0.0, 0.0), |(a, b)| (a.seconds, b.seconds));
    let from = begun + WARM_UP_SHARE * (ended - begun);
    let third = (ended - from) / 3.0;
    let in_first = |at: &Point| at.seconds >= from && at.seconds <= from + third;
    let in_last = |at: &Point| at.seconds >= ended - third && at.seconds <= ended;
    let too_few = |thirds: &[Vec<f64>; 2]| thirds.iter().any(|values| values.len() < WINDOWS_OF_THIRD_MIN);
    let beside = Beside::of(windows, canary, from);
    let thirds = [beside.comparable(&in_first), beside.comparable(&in_last)];
    let all = [&in_first as &dyn Fn(&Point) -> bool, &in_last].map(|is_in| values_of(windows, is_in));
    let [first, last] = thirds;
    let level = |values: &[f64]| median(values.to_vec()).unwrap_or(0.0);
    let (before, after) = (level(&first), level(&last));
    let growth = after - before;
    let allowed = (bound.share * before).max(bound.least).max(STANDARD_ERRORS * standard_error(&first, &last));
    let verdict = if ended - from < LOOKED_AT_SECONDS_MIN || too_few(&all) {
        Verdict::TooShort
    } else if too_few(&[first, last]) {
        Verdict::Busy
    } else if growth > allowed {
        Verdict::Grows
    } else {
        Verdict::Flat
    };
    // From the middle of the first third to that of the last one.
    let per_hour = if third > 0.0 { growth / (2.0 * third) * 3600.0 } else { 0.0 };
    Trend { verdict, median: after, per_hour, growth, allowed }
}

fn values_of(windows: &[Point], is_in: &dyn Fn(&Point) -> bool) -> Vec<f64> {
    windows.iter().filter(|at| is_in(at)).map(|at| at.value).collect()
}

/// Windows by how the canary fared in them.
struct Beside {
    /// As they had been with a quiet canary.
    scaled: Vec<Point>,
    /// As they were, in so far as the canary was too slow.
    slow: Vec<Point>,
}

impl Beside {
    fn of(windows: &[Point], canary: Option<&[Point]>, from: f64) -> Self {
        let mut beside = Self { scaled: Vec::new(), slow: Vec::new() };
        let Some(canary) = canary else {
            beside.scaled = windows.to_vec();
            return beside;
        };
        let mut times: Vec<f64> = canary.iter().filter(|at| at.seconds >= from).map(|at| at.value).collect();
        times.sort_by(f64::total_cmp);
        let Some(quiet) = times.get(times.len() / 4).filter(|quiet| **quiet > 0.0) else { return beside };
        for window in windows {
            // Both are taken at once, window by window; a window without a round of the canary says nothing.
            let Ok(place) = canary.binary_search_by(|at| at.seconds.total_cmp(&window.seconds)) else { continue };
            let slower = canary[place].value / quiet;
            if slower <= CANARY_SLOWER_MAX {
                beside.scaled.push(Point { seconds: window.seconds, value: window.value / slower.max(1.0) });
            } else {
                beside.slow.push(*window);
            }
        }
        beside
    }

    /// The values of a third that can be compared.
    fn comparable(&self, is_in: &dyn Fn(&Point) -> bool) -> Vec<f64> {
        let (mut scaled, slow) = (values_of(&self.scaled, is_in), values_of(&self.slow, is_in));
        if scaled.len() < WINDOWS_OF_THIRD_MIN
            && scaled.len() >= QUIET_WINDOWS_MIN
            && median(slow.clone()) <= median(scaled.clone()).map(|level| level * (1.0 + NO_SLOWER_SHARE))
        {
            scaled.extend(slow);
        }
        scaled
    }
}

/// The standard error of the difference of two medians.
fn standard_error(first: &[f64], last: &[f64]) -> f64 {
    let from_median = |values: &[f64]| {
        let middle = median(values.to_vec()).unwrap_or(0.0);
        values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>()
    };
    let deviation = median([from_median(first), from_median(last)].concat()).unwrap_or(0.0);
    let of_one = |values: &[f64]| 1.0 / values.len().max(1) as f64;
    ERROR_OF_MEDIAN * DEVIATION_OF_MEDIAN_DEVIATION * deviation * (of_one(first) + of_one(last)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { share: 0.2, least: 1.0 };
    /// Windows of a minute in half an hour.
    const WINDOWS: u32 = 30;

    /// A run by what a window has at a share of the way.
    fn run(value: impl Fn(f64) -> f64) -> Vec<Point> {
        let at = |number: u32| (f64::from(number) * 60.0, f64::from(number) / f64::from(WINDOWS));
        (1..=WINDOWS).map(at).map(|(seconds, way)| Point { seconds, value: value(way) }).collect()
    }

    /// Between -1 and 1, without a pattern, and the same in every run.
    fn noise(way: f64, seed: u64) -> f64 {
        let mut state = (way.to_bits() ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn busy_from(begin: f64, end: f64, much: f64) -> impl Fn(f64) -> f64 {
        move |way| if (begin..=end).contains(&way) { much } else { 1.0 }
    }

    #[test]
    fn ok_what_did_not_become_slower_does_not_fail() {
        let still = |_: f64| 1.0;
        let third_slower = || run(|way| 50.0 * busy_from(0.5, 1.0, 1.3)(way));
        let cases: [(&str, Vec<Point>, Vec<Point>); 9] = [
            ("a constant", run(|_| 50.0), run(still)),
            ("noise", run(|way| 50.0 * (1.0 + 0.3 * noise(way, 1))), run(|way| 1.0 + 0.1 * noise(way, 2))),
            ("a stall", run(|way| if (0.85..0.95).contains(&way) { 9000.0 } else { 50.0 }), run(still)),
            ("warming up", run(|way| if way < 0.1 { 400.0 * way } else { 50.0 }), run(still)),
            ("what falls", run(|way| 50.0 * (1.5 - way)), run(still)),
            ("a rise of a fifth over the run", run(|way| 50.0 * (1.0 + 0.2 * way)), run(still)),
            ("less than the least", run(|way| 0.5 + 0.5 * way), run(still)),
            ("a machine a third busier in the second half", third_slower(), run(busy_from(0.5, 1.0, 1.3))),
            ("busier and busier by as much", run(|way| 50.0 * (1.0 + 0.4 * way)), run(|way| 1.0 + 0.4 * way)),
        ];
        for (what, windows, canary) in cases {
            let trend = judge(&windows, BOUND, Some(&canary));
            assert_eq!(trend.verdict, Verdict::Flat, "{what}: {trend:?}");
        }
        // It is the canary that saves what the machine made slow.
        for canary in [None, Some(run(still))] {
            assert_eq!(judge(&third_slower(), BOUND, canary.as_deref()).verdict, Verdict::Grows);
        }
    }

    #[test]
    fn err_what_became_slower_fails() {
        let still = |_: f64| 1.0;
        let half_more = |way: f64| 1.0 + 0.5 * way;
        let cases: [(&str, Vec<Point>, Vec<Point>); 8] = [
            ("a half more over the run", run(|way| 50.0 * half_more(way)), run(still)),
            ("37 in a hundred more over the run", run(|way| 50.0 * (1.0 + 0.37 * way)), run(still)),
            (
                "a half more, under noise",
                run(|way| 50.0 * half_more(way) * (1.0 + 0.1 * noise(way, 3))),
                run(|way| 1.0 + 0.1 * noise(way, 4)),
            ),
            ("a half more of 9 ms", run(|way| 9.0 * half_more(way)), run(still)),
            ("an early step", run(|way| if way < 0.28 { 50.0 } else { 61.0 }), run(still)),
            ("a late step", run(|way| if way < 0.8 { 50.0 } else { 61.0 }), run(still)),
            (
                "a step, and a stall before it",
                run(|way| if way < 0.2 { 9000.0 } else { 50.0 * (1.0 + way.round()) }),
                run(still),
            ),
            ("a half more, and a machine a tenth busier at times", run(|way| 50.0 * half_more(way)), {
                run(|way| 1.05 + 0.05 * noise(way, 5))
            }),
        ];
        for (what, windows, canary) in cases {
            let trend = judge(&windows, BOUND, Some(&canary));
            assert_eq!(trend.verdict, Verdict::Grows, "{what}: {trend:?}");
        }
    }

    #[test]
    fn ok_the_machine_that_is_too_busy_is_named_whatever_the_engine_did() {
        let doubled = |begin, end| run(busy_from(begin, end, 2.0));
        for (what, windows, canary) in [
            ("in the second half", doubled(0.5, 1.0), doubled(0.5, 1.0)),
            ("in the second half, and the engine slower than that", run(busy_from(0.5, 1.0, 9.0)), doubled(0.5, 1.0)),
            ("at first, so that the engine seems to become quicker", doubled(0.0, 0.5), doubled(0.0, 0.5)),
            ("no canary was seen", run(|_| 50.0), Vec::new()),
        ] {
            let trend = judge(&windows, BOUND, Some(&canary));
            assert_eq!(trend.verdict, Verdict::Busy, "{what}: {trend:?}");
        }
        // Some busy windows are left out, and the others tell.
        let (slower, busy) = (run(|way| if way < 0.5 { 50.0 } else { 75.0 }), run(busy_from(0.7, 0.85, 3.0)));
        assert_eq!(judge(&slower, BOUND, Some(&busy)).verdict, Verdict::Grows);
    }

    /// In two windows of three the canary is slow, and what is measured is not.
    #[test]
    fn ok_a_canary_that_suffers_alone_excuses_nothing_and_hides_nothing() {
        let alone = |way: f64| {
            if ((way * f64::from(WINDOWS)).round() as u32).is_multiple_of(3) { 1.0 } else { 4.0 + 3.0 * way }
        };
        let (canary, noisy) = (run(alone), |way: f64| 1.0 + 0.02 * noise(way, 7));
        for (value, verdict) in [(0.0, Verdict::Flat), (0.1, Verdict::Flat), (0.5, Verdict::Grows)] {
            let trend = judge(&run(|way| 30.0 * (1.0 + value * way) * noisy(way)), BOUND, Some(&canary));
            assert_eq!(trend.verdict, verdict, "{value}: {trend:?}");
        }
        // Where what is measured suffers as well, nothing is said.
        let both = judge(&run(|way| 30.0 * if alone(way) > 1.0 { 1.3 } else { 1.0 }), BOUND, Some(&canary));
        assert_eq!(both.verdict, Verdict::Busy, "{both:?}");
        // And without a quiet window there is nothing to hold against.
        let never = run(|way| if way < 0.4 { 1.0 } else { 4.0 });
        assert_eq!(judge(&run(|_| 30.0), BOUND, Some(&never)).verdict, Verdict::Busy);
    }

    #[test]
    fn ok_levels_growth_and_bound_are_what_they_are_said_to_be() {
        let trend = judge(&run(|way| 100.0 + 100.0 * way), BOUND, None);
        // Windows of minutes 4 to 12, in the middle 8, and 22 to 30, in the middle 26; deviations of 6.67 in the middle.
        assert!((trend.median - (100.0 + 2600.0 / 30.0)).abs() < 1e-9, "{trend:?}");
        assert!((trend.growth - 60.0).abs() < 1e-9 && (trend.allowed - 0.2 * (100.0 + 800.0 / 30.0)).abs() < 1e-9);
        // 1 740 seconds from the first window to the last, and 0.3 of that a third.
        assert!((trend.per_hour - 60.0 / 1044.0 * 3600.0).abs() < 1e-6, "{trend:?}");
        // Windows that lie 25 from their median, in the middle: three standard errors are the bound.
        let noisy = judge(&run(|way| 100.0 + 50.0 * noise(way, 6)), BOUND, None);
        assert!(noisy.allowed > 40.0, "{noisy:?}");
    }

    #[test]
    fn ok_nothing_is_said_of_too_little() {
        let leak = |windows: u32, every: f64| -> Vec<Point> {
            (0..windows).map(f64::from).map(|n| Point { seconds: n * every, value: 100.0 + 100.0 * n }).collect()
        };
        for (what, windows) in [
            ("nothing", leak(0, 1.0)),
            ("one window", leak(1, 1.0)),
            ("too short a time", leak(30, 10.0)),
            ("too few windows", leak(10, 60.0)),
            ("all at one time", leak(30, 0.0)),
        ] {
            assert_eq!(judge(&windows, BOUND, None).verdict, Verdict::TooShort, "{what}");
        }
        assert_eq!(judge(&leak(30, 12.0), BOUND, None).verdict, Verdict::Grows);
    }
}
