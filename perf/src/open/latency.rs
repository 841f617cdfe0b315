//! Latencies of a run: a histogram, what is told of it, and its octets.
//!
//! The octets are HdrHistogram's own: V2, deflated, then base64. Any reader of that form reads them, and so does
//! [`decode`].

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Latencies above this count as this, microseconds.
pub const LATENCY_MAX_US: u64 = 600_000_000;
/// Decimal digits that count.
const DIGITS: u8 = 3;
/// The longest histogram that is read, characters. A full one of ours has less than a tenth.
const BASE64_MAX: usize = 1 << 20;

/// Latencies in a few figures, microseconds. All are 0 if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// Why a histogram cannot be read.
#[derive(Debug, Error)]
pub enum HistogramError {
    /// It is longer than any histogram of ours.
    #[error("{0} characters; at most {BASE64_MAX}")]
    Long(usize),
    /// It is not base64.
    #[error("not base64: {0}")]
    Base64(base64::DecodeError),
    /// The octets are no histogram.
    #[error("not a histogram in HdrHistogram's V2 form: {0}")]
    Form(String),
    /// The histogram could not be written.
    #[error("the histogram cannot be written: {0}")]
    Write(String),
}

/// An empty histogram.
#[must_use]
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).expect("the bounds are constant and in order")
}

/// Adds one latency.
pub fn add(histogram: &mut Histogram<u64>, latency_us: u64) {
    histogram.saturating_record(latency_us.clamp(1, LATENCY_MAX_US));
}

/// A histogram in a few figures.
#[must_use]
pub fn summary(histogram: &Histogram<u64>) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    Latency { mean: histogram.mean(), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
}

/// A histogram as text.
///
/// # Errors
/// It could not be written.
pub fn encode(histogram: &Histogram<u64>) -> Result<String, HistogramError> {
    let mut octets = Vec::new();
    let written = V2DeflateSerializer::new().serialize(histogram, &mut octets);
    written.map_err(|error| HistogramError::Write(error.to_string()))?;
    Ok(BASE64_STANDARD.encode(octets))
}

/// The histogram that a text holds: V2, deflated or not.
///
/// # Errors
/// The text holds none.
pub fn decode(text: &str) -> Result<Histogram<u64>, HistogramError> {
    if text.len() > BASE64_MAX {
        return Err(HistogramError::Long(text.len()));
    }
    let octets = BASE64_STANDARD.decode(text).map_err(HistogramError::Base64)?;
    let read = Deserializer::new().deserialize(&mut octets.as_slice());
    read.map_err(|error| HistogramError::Form(error.to_string()))
}

/// Points of a curve of percentiles: 1/(1-quantile), and the latency that so many do not exceed. From the median on, each
/// point halves what is left, as far as the histogram has values to tell.
#[must_use]
pub fn tail(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    const STEPS_MAX: i32 = 24;
    let count = histogram.len() as f64;
    // In quarters of a halving, for a smooth curve.
    let steps = (0..STEPS_MAX * 4).map(|step| 2_f64.powf(f64::from(step) / 4.0));
    let told = steps.take_while(|one_of| *one_of <= count);
    told.map(|one_of| (one_of, histogram.value_at_quantile(1.0 - 1.0 / one_of) as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hundred() -> Histogram<u64> {
        let mut histogram = empty();
        (1..=100).for_each(|n| add(&mut histogram, n * 100));
        histogram
    }

    #[test]
    fn ok_a_histogram_is_what_it_was_after_base64() {
        let (was, is) = (hundred(), decode(&encode(&hundred()).expect("written")).expect("read"));
        assert_eq!(was, is);
        assert_eq!(summary(&was), summary(&is));
    }

    #[test]
    fn ok_figures_are_those_of_the_values() {
        let told = summary(&hundred());
        let near = |value: u64, right: u64| value.abs_diff(right) <= right / 500;
        assert!(near(told.p50, 5_000) && near(told.p90, 9_000) && near(told.p99, 9_900), "{told:?}");
        assert!((told.mean - 5_050.0).abs() < 10.0 && near(told.max, 10_000), "{told:?}");
        assert_eq!(summary(&empty()), Latency::default());
    }

    #[test]
    fn ok_what_is_too_long_counts_as_the_longest() {
        let mut histogram = empty();
        add(&mut histogram, u64::MAX);
        add(&mut histogram, 0);
        assert_eq!(histogram.len(), 2);
        assert!(summary(&histogram).max.abs_diff(LATENCY_MAX_US) < LATENCY_MAX_US / 500);
    }

    #[test]
    fn ok_the_tail_ends_where_values_end_and_never_falls() {
        let points = tail(&hundred());
        assert_eq!(points.first().map(|(one_of, _)| *one_of), Some(1.0));
        assert!(points.last().is_some_and(|(one_of, _)| *one_of <= 100.0));
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!(tail(&empty()).is_empty());
    }

    #[test]
    fn err_a_text_without_a_histogram() {
        let table = [("%", "not base64"), ("aGVsbG8=", "V2 form"), ("", "V2 form")];
        for (text, why) in table {
            let error = decode(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(matches!(decode(&"A".repeat(BASE64_MAX + 1)), Err(HistogramError::Long(_))));
    }
}
