//! Whether a curve is flat: a pure function of its points.
//!
//! The first half of a run is left out: programs fill their pools and caches then. Of the second half the Theil–Sen
//! slope is taken, the median of the slopes of all pairs of points, which up to 29 % of points that are far off do not
//! move. What the slope makes of the time looked at is the growth, and a growth beyond a stated bound is too much.
//!
//! Left out: what is the machine's as much as the program's ([`super::levels`]), and a leak smaller than the bound of
//! that measure over the time looked at. Twice the time finds half the leak.

use serde::Serialize;

/// A shorter time says nothing: growth and warming up look alike.
pub const LOOKED_AT_SECONDS_MIN: f64 = 300.0;
/// Fewer points than this say nothing either.
pub const POINTS_MIN: usize = 8;
/// More points are thinned out evenly: the number of pairs grows with the square.
const POINTS_MAX: usize = 600;

/// One sample of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Since the start.
    pub seconds: f64,
    /// In the measure's unit.
    pub value: f64,
}

/// How much a measure may grow in the time looked at: the larger of the two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bound {
    /// As a share of its median.
    pub share: f64,
    /// In the measure's unit.
    pub least: f64,
}

/// What can be said of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Too few points, or over too short a time.
    TooShort,
    /// It grows by no more than the bound.
    Flat,
    /// It grows by more.
    Grows,
    /// The machine was too busy to tell ([`super::levels`]).
    Busy,
}

/// A curve, judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trend {
    /// What can be said.
    pub verdict: Verdict,
    /// The median of the second half, or of the last third, in the measure's unit.
    pub median: f64,
    /// The slope, in units an hour.
    pub per_hour: f64,
    /// The slope times the time looked at, or from the first third to the last.
    pub growth: f64,
    /// The most that the growth may be.
    pub allowed: f64,
}

/// Judges a curve, whose points are in the order of time.
#[must_use]
pub fn judge(points: &[Point], bound: Bound) -> Trend {
    let half = second_half(points);
    let span = half.first().zip(half.last()).map_or(0.0, |(first, last)| last.seconds - first.seconds);
    let median = median(half.iter().map(|point| point.value).collect()).unwrap_or(0.0);
    let slope = theil_sen(half).unwrap_or(0.0);
    let (growth, allowed) = (slope * span, (bound.share * median).max(bound.least));
    let verdict = if half.len() < POINTS_MIN || span < LOOKED_AT_SECONDS_MIN {
        Verdict::TooShort
    } else if growth > allowed {
        Verdict::Grows
    } else {
        Verdict::Flat
    };
    Trend { verdict, median, per_hour: slope * 3600.0, growth, allowed }
}

/// The points from the middle of the time on.
fn second_half(points: &[Point]) -> &[Point] {
    let Some((first, last)) = points.first().zip(points.last()) else { return points };
    let middle = f64::midpoint(first.seconds, last.seconds);
    &points[points.partition_point(|point| point.seconds < middle)..]
}

/// The median of the slopes of all pairs of points, in units a second; none if no two points differ in time.
#[must_use]
pub fn theil_sen(points: &[Point]) -> Option<f64> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let thinned: Vec<Point> = points.iter().copied().step_by(step).collect();
    let mut slopes = Vec::with_capacity(thinned.len() * thinned.len().saturating_sub(1) / 2);
    for (place, from) in thinned.iter().enumerate() {
        for to in &thinned[place + 1..] {
            let time = to.seconds - from.seconds;
            if time > 0.0 {
                slopes.push((to.value - from.value) / time);
            }
        }
    }
    median(slopes)
}

/// The middle value, or the mean of both.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { share: 0.05, least: 2.0 };

    /// A curve of half an hour with a point every 15 seconds.
    fn curve(value: impl Fn(f64) -> f64) -> Vec<Point> {
        (0..=120)
            .map(|number| f64::from(number) * 15.0)
            .map(|seconds| Point { seconds, value: value(seconds) })
            .collect()
    }

    #[test]
    fn ok_flat_curves() {
        for (what, points) in [
            ("a constant", curve(|_| 100.0)),
            ("noise", curve(|seconds| 100.0 + (seconds * 0.7).sin() * 20.0)),
            ("what falls", curve(|seconds| 500.0 - seconds * 0.2)),
            ("warming up in the first half", curve(|seconds| 100.0 + seconds.min(600.0))),
            ("a saw whose teeth are level", curve(|seconds| 100.0 + seconds % 120.0)),
            ("a few samples that are far off", curve(|s| if s > 1600.0 { 900.0 } else { 100.0 })),
            ("growth within the share", curve(|seconds| 100.0 + seconds * 0.005)),
        ] {
            assert_eq!(judge(&points, BOUND).verdict, Verdict::Flat, "{what}: {:?}", judge(&points, BOUND));
        }
    }

    #[test]
    fn err_curves_that_grow() {
        for (what, points) in [
            ("a steady leak", curve(|seconds| 100.0 + seconds * 0.01)),
            ("a leak under noise", curve(|seconds| 100.0 + seconds * 0.02 + (seconds * 0.7).sin() * 5.0)),
            ("a leak under a saw", curve(|seconds| 100.0 + seconds * 0.02 + seconds % 60.0)),
            ("a leak with samples that are far off", curve(|s| if s % 150.0 == 0.0 { 0.0 } else { 100.0 + s * 0.02 })),
        ] {
            assert_eq!(judge(&points, BOUND).verdict, Verdict::Grows, "{what}: {:?}", judge(&points, BOUND));
        }
    }

    #[test]
    fn ok_growth_is_the_slope_over_the_second_half_and_the_bound_is_the_larger_one() {
        let trend = judge(&curve(|seconds| 10.0 + seconds * 0.01), BOUND);
        // 900 seconds at 0.01; 5 % of about 23.5 is less than 2.
        assert!((trend.growth - 9.0).abs() < 1e-9 && (trend.per_hour - 36.0).abs() < 1e-9, "{trend:?}");
        assert!((trend.allowed - 2.0).abs() < 1e-9, "{trend:?}");
    }

    #[test]
    fn ok_nothing_is_said_of_too_little() {
        let leak = |points: usize, every: f64| -> Vec<Point> {
            (0..points).map(|n| n as f64 * every).map(|seconds| Point { seconds, value: seconds * 100.0 }).collect()
        };
        for (what, points) in [
            ("nothing", leak(0, 1.0)),
            ("one point", leak(1, 1.0)),
            ("too short", leak(40, 1.0)),
            ("too few points", leak(6, 1000.0)),
            ("all at one time", leak(40, 0.0)),
        ] {
            assert_eq!(judge(&points, BOUND).verdict, Verdict::TooShort, "{what}");
        }
        assert_eq!(judge(&leak(40, 60.0), BOUND).verdict, Verdict::Grows);
    }

    #[test]
    fn ok_many_points_are_thinned_and_give_the_same_slope() {
        let points: Vec<Point> =
            (0..5000).map(|n| Point { seconds: f64::from(n), value: f64::from(n) * 3.0 + f64::from(n % 7) }).collect();
        assert!(theil_sen(&points).is_some_and(|slope| (slope - 3.0).abs() < 1e-3));
    }
}
