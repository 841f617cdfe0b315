//! Axes: where a value lies between two ends, which values get a tick, and how they are written.

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps have equal lengths; it begins at 0 unless a value lies below.
    Linear,
    /// Equal factors have equal lengths; values that are not above 0 have no place on it.
    Log,
}

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Plain numbers, shortened by k, M, G.
    Number,
    /// Microseconds, written as µs, ms or s.
    Micros,
    /// Kibibytes, written as KiB, MiB or GiB.
    Kibibytes,
    /// A share of 1, written in percent.
    Share,
    /// A quantile as 1/(1-q): 10 is the 90th percentile, 1000 the 99.9th.
    Quantile,
}

/// One axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// How.
    pub scale: Scale,
    /// In what.
    pub unit: Unit,
}

impl Axis {
    /// An axis with equal steps.
    #[must_use]
    pub fn linear(label: impl Into<String>, unit: Unit) -> Self {
        Self { label: label.into(), scale: Scale::Linear, unit }
    }

    /// An axis with equal factors.
    #[must_use]
    pub fn log(label: impl Into<String>, unit: Unit) -> Self {
        Self { label: label.into(), scale: Scale::Log, unit }
    }
}

/// About how many ticks an axis has.
const TICKS: f64 = 6.0;
/// Above so many decades only the powers of ten get a tick.
const DECADES_WITH_STEPS_MAX: f64 = 2.5;
/// Ticks of one axis, at most.
const TICKS_MAX: usize = 40;

/// What kibibytes are written in.
const KIBIBYTES: [(f64, &str); 2] = [(1_048_576.0, "GiB"), (1_024.0, "MiB")];

/// An axis with ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) low: f64,
    pub(super) high: f64,
    scale: Scale,
    unit: Unit,
}

impl Span {
    /// Around all values that have a place, with ends at ticks. Without any it is 0 to 1, or 1 to 10.
    pub(super) fn around(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let Axis { scale, unit, .. } = *axis;
        let placed = values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let ends = placed.fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        match scale {
            Scale::Linear => {
                let (low, high) = ends.map_or((0.0, 1.0), |(low, high)| (low.min(0.0), high));
                let high = if high > low { high } else { low + 1.0 };
                let step = nice_step(unit, high - low);
                Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, scale, unit }
            }
            Scale::Log => {
                let (low, high) = ends.unwrap_or((1.0, 10.0));
                let (low, high) = (step_below(low), step_above(high));
                Self { low, high: if high > low { high } else { low * 10.0 }, scale, unit }
            }
        }
    }

    /// Where a value lies, 0 at the low end and 1 at the high one; none if it has no place or lies outside.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        (-1e-9..=1.0 + 1e-9).contains(&place).then(|| place.clamp(0.0, 1.0))
    }

    /// Values with a tick, in order.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = nice_step(self.unit, self.high - self.low);
                let count = ((self.high - self.low) / step).round() as usize;
                (0..=count.min(TICKS_MAX)).map(|n| self.low + n as f64 * step).collect()
            }
            Scale::Log => {
                let decades = (self.high / self.low).log10();
                let steps: &[f64] = if decades > DECADES_WITH_STEPS_MAX { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
                let all = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
                let is_inside = |tick: &f64| (self.low * 0.999..=self.high * 1.001).contains(tick);
                all.filter(is_inside).take(TICKS_MAX).collect()
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten of what a unit is written in, so that a length has about [`TICKS`] of them.
fn nice_step(unit: Unit, length: f64) -> f64 {
    let written_in = match unit {
        Unit::Kibibytes => size_of(length, &KIBIBYTES).0,
        Unit::Number | Unit::Micros | Unit::Share | Unit::Quantile => 1.0,
    };
    let rough = length / TICKS / written_in;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power * written_in
}

fn step_below(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0].into_iter().find(|step| step * power <= value * 1.000_001).unwrap_or(1.0) * power
}

fn step_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= value * 0.999_999).unwrap_or(10.0) * power
}

/// A value as an axis, a table or a sentence shows it: three digits that count, and the unit.
#[must_use]
pub fn written(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Number => {
            let (factor, letter) = size_of(value, &[(1e9, "G"), (1e6, "M"), (1e4, "k")]);
            // From 10 000 on in thousands; below, digits are clearer.
            let (factor, letter) = if letter == "k" { (1e3, "k") } else { (factor, letter) };
            format!("{}{letter}", digits(value / factor))
        }
        Unit::Micros => {
            let (factor, name) = size_of(value, &[(1e6, "s"), (1e3, "ms")]);
            format!("{} {}", digits(value / factor), if name.is_empty() { "µs" } else { name })
        }
        Unit::Kibibytes => {
            let (factor, name) = size_of(value, &KIBIBYTES);
            format!("{} {}", digits(value / factor), if name.is_empty() { "KiB" } else { name })
        }
        Unit::Share => format!("{} %", digits(value * 100.0)),
        Unit::Quantile => format!("{} %", trimmed(format!("{:.4}", 100.0 * (1.0 - 1.0 / value.max(1.0))))),
    }
}

/// The first size that a value reaches; 1 if it reaches none.
fn size_of(value: f64, sizes: &[(f64, &'static str)]) -> (f64, &'static str) {
    sizes.iter().copied().find(|(size, _)| value.abs() >= size * 0.999_5).unwrap_or((1.0, ""))
}

fn digits(value: f64) -> String {
    let places = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    trimmed(format!("{value:.places$}"))
}

/// Without zeros that say nothing.
fn trimmed(text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(scale: Scale, values: &[f64]) -> Span {
        Span::around(&Axis { label: String::new(), scale, unit: Unit::Number }, values.iter().copied())
    }

    #[test]
    fn ok_ticks_are_round_in_what_they_are_written_in() {
        let span = Span::around(&Axis::linear("", Unit::Kibibytes), [120.0 * 1024.0].into_iter());
        let told: Vec<String> = span.ticks().into_iter().map(|tick| written(Unit::Kibibytes, tick)).collect();
        assert_eq!(told, ["0 KiB", "20 MiB", "40 MiB", "60 MiB", "80 MiB", "100 MiB", "120 MiB"]);
    }

    #[test]
    fn ok_ends_lie_at_ticks_around_all_values() {
        let linear = span(Scale::Linear, &[30.0, 970.0]);
        assert_eq!((linear.low, linear.high), (0.0, 1000.0));
        assert_eq!(linear.ticks(), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        let log = span(Scale::Log, &[3.0, 45.0]);
        assert_eq!((log.low, log.high), (2.0, 50.0));
        assert_eq!(log.ticks(), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(span(Scale::Log, &[1.0, 90_000.0]).ticks().len(), 6, "one tick a decade");
    }

    #[test]
    fn ok_values_lie_where_the_scale_puts_them() {
        let log = span(Scale::Log, &[1.0, 100.0]);
        assert!(log.place(10.0).is_some_and(|place| (place - 0.5).abs() < 1e-9));
        let linear = span(Scale::Linear, &[100.0]);
        assert_eq!(linear.place(25.0), Some(0.25));
        assert_eq!((linear.place(101.0), log.place(0.0), log.place(-1.0)), (None, None, None));
        assert_eq!(linear.place(f64::NAN), None);
    }

    #[test]
    fn ok_an_axis_without_values_or_with_one_has_a_length() {
        for scale in [Scale::Linear, Scale::Log] {
            for values in [&[][..], &[0.0], &[5.0], &[f64::NAN, f64::INFINITY], &[-3.0]] {
                let span = span(scale, values);
                assert!(span.high > span.low, "{scale:?} {values:?} {span:?}");
                assert!((2..=TICKS_MAX).contains(&span.ticks().len()), "{span:?}");
            }
        }
    }

    #[test]
    fn ok_numbers_are_short_and_have_their_unit() {
        let table = [
            (Unit::Number, 950.0, "950"),
            (Unit::Number, 2_500.0, "2500"),
            (Unit::Number, 12_500.0, "12.5k"),
            (Unit::Number, 3e6, "3M"),
            (Unit::Micros, 250.0, "250 µs"),
            (Unit::Micros, 1_000.0, "1 ms"),
            (Unit::Micros, 2_345_678.0, "2.35 s"),
            (Unit::Kibibytes, 10_240.0, "10 MiB"),
            (Unit::Share, 0.125, "12.5 %"),
            (Unit::Quantile, 1_000.0, "99.9 %"),
            (Unit::Quantile, 1.0, "0 %"),
            (Unit::Number, 0.0, "0"),
        ];
        for (unit, value, text) in table {
            assert_eq!(written(unit, value), text);
        }
    }
}
