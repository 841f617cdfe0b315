//! What is counted of a run: requests that left, answers that came, how long they took, how many were under way.
//!
//! Times are counted from the beginning of the run. A request belongs to the run if it was due within the window, which
//! begins after the warm-up; an answer is counted for its request whenever it comes.
//!
//! Invariant: latency counts from when a request was due, not from when it left.

use std::{ops::Range, time::Duration};

use hdrhistogram::Histogram;

use super::{
    latency::{add, empty},
    prepare::Prepared,
    result::InFlight,
    schedule::Lateness,
};
use crate::lab::kinds::{Kind, Pace};

/// Wrong answers and errors that are told in words.
pub const EXAMPLES_MAX: usize = 5;

/// What came of the requests of one kind.
#[derive(Clone, Debug)]
pub struct OfKind {
    /// The kind.
    pub kind: Kind,
    /// Requests that left.
    pub requests: u64,
    /// Answers that permit.
    pub permitted: u64,
    /// Answers that are wrong.
    pub wrong: u64,
    /// Latency of all that were answered.
    pub latency: Histogram<u64>,
}

/// What an answer said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Whether it permits.
    pub permits: bool,
    /// How it is wrong, if it is.
    pub difference: Option<String>,
}

/// The count of one run.
#[derive(Debug)]
pub struct Tally {
    window: Range<Duration>,
    /// By the place in the mix.
    pub kinds: Vec<OfKind>,
    /// Requests of the window that left late.
    pub lateness: Lateness,
    /// All requests that left, those of the warm-up too.
    pub sent_in_all: u64,
    /// All answers.
    pub answered_in_all: u64,
    /// Answers that came within the window, to whichever request.
    pub answered_in_window: u64,
    /// Answers of the warm-up's requests that are wrong.
    pub wrong_in_warm_up: u64,
    /// Answers that nothing waited for, or that cannot be read.
    pub unexpected: u64,
    /// The first few wrong answers, in words.
    pub wrong_examples: Vec<String>,
    outstanding: u64,
    outstanding_max: u64,
    /// Requests without an answer, times seconds.
    waited: f64,
    changed: Duration,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new(kinds: impl Iterator<Item = Kind>, window: Range<Duration>) -> Self {
        let of_kind = |kind| OfKind { kind, requests: 0, permitted: 0, wrong: 0, latency: empty() };
        Self {
            window,
            kinds: kinds.map(of_kind).collect(),
            lateness: Lateness::default(),
            sent_in_all: 0,
            answered_in_all: 0,
            answered_in_window: 0,
            wrong_in_warm_up: 0,
            unexpected: 0,
            wrong_examples: Vec::new(),
            outstanding: 0,
            outstanding_max: 0,
            waited: 0.0,
            changed: Duration::ZERO,
        }
    }

    /// A request has left.
    pub fn handle_sent(&mut self, now: Duration, request: &Prepared) {
        self.handle_change(now);
        self.outstanding += 1;
        if self.window.contains(&now) {
            self.outstanding_max = self.outstanding_max.max(self.outstanding);
        }
        self.sent_in_all += 1;
        if self.window.contains(&request.due) {
            self.lateness.handle_sent(now.saturating_sub(request.due));
            if let Some(kind) = self.kinds.get_mut(request.place) {
                kind.requests += 1;
            }
        }
    }

    /// It was answered.
    pub fn handle_answer(&mut self, now: Duration, request: &Prepared, judged: Judged) {
        self.handle_change(now);
        self.outstanding = self.outstanding.saturating_sub(1);
        self.answered_in_all += 1;
        self.answered_in_window += u64::from(self.window.contains(&now));
        let is_wrong = judged.difference.is_some();
        if let Some(difference) = judged.difference
            && self.wrong_examples.len() < EXAMPLES_MAX
        {
            self.wrong_examples.push(difference);
        }
        if !self.window.contains(&request.due) {
            self.wrong_in_warm_up += u64::from(is_wrong);
            return;
        }
        if let Some(kind) = self.kinds.get_mut(request.place) {
            let latency = now.saturating_sub(request.due);
            add(&mut kind.latency, u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            kind.permitted += u64::from(judged.permits);
            kind.wrong += u64::from(is_wrong);
        }
    }

    /// The window ends now, before its time: nothing is sent any more.
    pub fn close(&mut self, now: Duration) {
        self.handle_change(now);
        self.window.end = self.window.end.min(now.max(self.window.start));
    }

    /// Requests without an answer just now.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// How long the window is.
    #[must_use]
    pub fn window_seconds(&self) -> f64 {
        (self.window.end - self.window.start).as_secs_f64()
    }

    /// Requests without an answer, over the window up to `now`.
    #[must_use]
    pub fn in_flight(&mut self, now: Duration) -> InFlight {
        self.handle_change(now);
        InFlight { mean: self.waited / self.window_seconds().max(1e-9), max: self.outstanding_max }
    }

    /// The latencies of all kinds, and of those that wait for nothing.
    #[must_use]
    pub fn latencies(&self) -> (Histogram<u64>, Histogram<u64>) {
        let (mut all, mut quick) = (empty(), empty());
        for kind in &self.kinds {
            // All have the same bounds, so that none is out of another's.
            let added = all.add(&kind.latency);
            let of_quick = if kind.kind.pace() == Pace::Quick { quick.add(&kind.latency) } else { Ok(()) };
            debug_assert!(added.is_ok() && of_quick.is_ok(), "histograms have the same bounds");
        }
        (all, quick)
    }

    /// As many were under way until now.
    fn handle_change(&mut self, now: Duration) {
        let (from, until) = (self.changed.max(self.window.start), now.min(self.window.end));
        if until > from {
            self.waited += (until - from).as_secs_f64() * self.outstanding as f64;
            self.outstanding_max = self.outstanding_max.max(self.outstanding);
        }
        self.changed = self.changed.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn request(due_ms: u64) -> Prepared {
        Prepared { due: ms(due_ms), place: 0, index: 0, octets: Vec::new() }
    }

    fn tally() -> Tally {
        Tally::new([Kind::DnsOk, Kind::HttpBlackHole].into_iter(), ms(1000)..ms(2000))
    }

    fn passed() -> Judged {
        Judged { permits: true, difference: None }
    }

    #[test]
    fn ok_latency_counts_from_when_a_request_was_due() {
        let mut tally = tally();
        tally.handle_sent(ms(1300), &request(1100));
        tally.handle_answer(ms(1400), &request(1100), passed());
        let (all, _) = tally.latencies();
        assert_eq!((all.len(), all.max() / 1000), (1, 300), "300 ms, of which it had left for 100");
        assert_eq!(tally.lateness, Lateness { sent: 1, late: 1 });
    }

    #[test]
    fn ok_in_flight_is_the_integral_over_the_window() {
        let mut tally = tally();
        // One waits for all of the window and longer, another for a half of it, and one ended before.
        tally.handle_sent(ms(100), &request(100));
        tally.handle_sent(ms(200), &request(200));
        tally.handle_answer(ms(300), &request(200), passed());
        tally.handle_sent(ms(1500), &request(1500));
        tally.handle_answer(ms(2500), &request(100), passed());
        tally.handle_answer(ms(2600), &request(1500), passed());
        let in_flight = tally.in_flight(ms(3000));
        assert!((in_flight.mean - 1.5).abs() < 1e-9, "{in_flight:?}");
        assert_eq!((in_flight.max, tally.outstanding()), (2, 0));
    }

    #[test]
    fn ok_the_warm_up_s_requests_are_no_part_of_the_run_but_of_what_is_carried() {
        let mut tally = tally();
        tally.handle_sent(ms(900), &request(900));
        tally.handle_sent(ms(1100), &request(1100));
        tally.handle_answer(ms(1200), &request(900), Judged { permits: false, difference: Some("wrong".to_owned()) });
        tally.handle_answer(ms(2200), &request(1100), passed());
        assert_eq!((tally.kinds[0].requests, tally.kinds[0].permitted, tally.kinds[0].latency.len()), (1, 1, 1));
        assert_eq!((tally.sent_in_all, tally.answered_in_all, tally.answered_in_window), (2, 2, 1));
        assert_eq!((tally.wrong_in_warm_up, tally.kinds[0].wrong), (1, 0));
        assert_eq!(tally.wrong_examples, ["wrong"]);
    }

    #[test]
    fn ok_a_window_that_is_closed_early_is_as_long_as_it_was() {
        let mut tally = tally();
        tally.handle_sent(ms(1000), &request(1000));
        tally.close(ms(1250));
        tally.handle_answer(ms(1750), &request(1000), passed());
        assert_eq!((tally.window_seconds(), tally.answered_in_window), (0.25, 0));
        assert!((tally.in_flight(ms(9000)).mean - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ok_what_waits_by_its_nature_is_apart() {
        let mut tally = tally();
        let slow = Prepared { place: 1, ..request(1200) };
        tally.handle_sent(ms(1200), &slow);
        tally.handle_answer(ms(3200), &slow, Judged::default());
        tally.handle_sent(ms(1300), &request(1300));
        tally.handle_answer(ms(1310), &request(1300), passed());
        let (all, quick) = tally.latencies();
        assert_eq!((all.len(), quick.len(), quick.max() / 1000), (2, 1, 10));
        assert_eq!(tally.kinds[1].permitted, 0);
    }

    #[test]
    fn ok_only_a_few_wrong_answers_are_told() {
        let mut tally = tally();
        for _ in 0..20 {
            let wrong = Judged { permits: true, difference: Some("wrong".to_owned()) };
            tally.handle_answer(ms(1500), &request(1200), wrong);
        }
        assert_eq!((tally.kinds[0].wrong, tally.wrong_examples.len()), (20, EXAMPLES_MAX));
    }
}
