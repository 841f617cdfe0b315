//! Whether the figures of a run can be those of one: numbers that are numbers, and counts that add up.

use thiserror::Error;

use super::{
    latency::{self, HistogramError},
    result::Run,
};

/// How far shares of a mix may be from 1 in sum.
const SHARES_ROUNDING: f64 = 1e-6;

/// What is wrong with a run.
#[derive(Debug, Error)]
pub enum RunFault {
    /// A number that cannot be.
    #[error("{field} is {value}, which is not a number from 0 on")]
    Number {
        /// The field.
        field: String,
        /// What it holds.
        value: f64,
    },
    /// More answers than requests, or verdicts that do not add up.
    #[error("{what}: {is} where {of} is the most")]
    Count {
        /// What was counted.
        what: &'static str,
        /// How many there are.
        is: u64,
        /// How many there can be.
        of: u64,
    },
    /// The mix is not whole.
    #[error("the shares add up to {0}, not 1")]
    Shares(f64),
    /// The histogram.
    #[error("histogram: {0}")]
    Histogram(#[from] HistogramError),
    /// It is about other requests.
    #[error("the histogram holds {holds} latencies of {completed} answers")]
    HistogramCount {
        /// How many it holds.
        holds: u64,
        /// How many there should be.
        completed: u64,
    },
}

impl Run {
    /// Whether its numbers can be.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), RunFault> {
        for (field, value) in self.numbers() {
            if !(value.is_finite() && value >= 0.0) {
                return Err(RunFault::Number { field, value });
            }
        }
        let sum: f64 = self.shares.values().sum();
        if (sum - 1.0).abs() > SHARES_ROUNDING {
            return Err(RunFault::Shares(sum));
        }
        let verdicts = self.permitted.saturating_add(self.refused);
        for (what, is, of) in [
            ("completed", self.completed, self.requests),
            ("permitted and refused", verdicts, self.completed),
            ("wrong", self.wrong, self.completed),
            ("errors", self.errors, self.requests - self.completed.min(self.requests)),
            ("late_sends", self.late_sends, self.requests),
        ] {
            if is > of {
                return Err(RunFault::Count { what, is, of });
            }
        }
        let holds = latency::decode(&self.histogram)?.len();
        if holds != self.completed {
            return Err(RunFault::HistogramCount { holds, completed: self.completed });
        }
        Ok(())
    }

    /// Every number that is not a count, with its field's name.
    fn numbers(&self) -> Vec<(String, f64)> {
        let mut numbers = vec![
            ("offered_per_second".to_owned(), self.offered_per_second),
            ("seconds".to_owned(), self.seconds),
            ("latency_us.mean".to_owned(), self.latency_us.mean),
            ("in_flight.mean".to_owned(), self.in_flight.mean),
            ("cpu_us_per_request.process".to_owned(), self.cpu_us_per_request.process),
            ("cpu_seconds".to_owned(), self.cpu_seconds),
            ("journal_octets_per_request".to_owned(), self.journal_octets_per_request),
            ("warm_up_seconds".to_owned(), self.warm_up_seconds),
        ];
        numbers.extend(self.shares.iter().map(|(kind, share)| (format!("shares.{kind}"), *share)));
        let roles = self.cpu_us_per_request.by_role.iter();
        numbers.extend(roles.map(|(role, us)| (format!("cpu_us_per_request.by_role.{role}"), *us)));
        let kinds = self.by_kind.iter();
        numbers.extend(kinds.map(|(kind, of)| (format!("by_kind.{kind}.latency_us_mean"), of.latency_us_mean)));
        for (field, value) in [
            ("loopback.udp_out", self.loopback.udp_out),
            ("loopback.udp_in", self.loopback.udp_in),
            ("loopback.tcp_opened", self.loopback.tcp_opened),
            ("completed_per_second", self.completed_per_second),
        ] {
            numbers.extend(value.map(|value| (field.to_owned(), value)));
        }
        numbers
    }
}
