//! What is sampled of a run: of each process out of the kernel's account, of the load, and of the journal.
//!
//! Invariant: memory grows by samples alone, never by requests.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use super::{
    levels,
    trend::{self, Bound, Point, Trend},
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Resident memory of a process, KiB.
    ResidentKib,
    /// Descriptors that it has open.
    Descriptors,
    /// Its threads.
    Threads,
    /// Median of the latency of quick kinds within a window, milliseconds from when a request was due.
    P50Ms,
    /// The 99th percentile of the same.
    P99Ms,
    /// CPU time of a process for each answer of the engine within a window, microseconds.
    CpuUsPerAnswer,
    /// Octets that the journal grew by for each answer within a window.
    JournalOctetsPerAnswer,
    /// Median of the canary's rounds within a window, milliseconds from when a round was due.
    CanaryP50Ms,
    /// The 99th percentile of the same.
    CanaryP99Ms,
}

/// Whose curves the canary's are.
pub(super) const CANARY: &str = "canary";

/// How a measure is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// By its slope in the second half.
    Slope(Bound),
    /// By its level in the first and the last third, beside a measure of the canary, if one tells.
    Levels(Bound, Option<Measure>),
    /// Not at all: others are judged beside it.
    Beside,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ResidentKib,
        Self::Descriptors,
        Self::Threads,
        Self::P50Ms,
        Self::P99Ms,
        Self::CpuUsPerAnswer,
        Self::JournalOctetsPerAnswer,
        Self::CanaryP50Ms,
        Self::CanaryP99Ms,
    ];

    /// How much it may grow, and from when to when.
    #[must_use]
    pub fn rule(self) -> Rule {
        match self {
            Self::ResidentKib => Rule::Slope(Bound { share: 0.05, least: 2048.0 }),
            Self::Descriptors => Rule::Slope(Bound { share: 0.05, least: 4.0 }),
            Self::Threads => Rule::Slope(Bound { share: 0.0, least: 0.5 }),
            Self::P50Ms => Rule::Levels(Bound { share: 0.2, least: 0.25 }, Some(Self::CanaryP50Ms)),
            Self::P99Ms => Rule::Levels(Bound { share: 0.2, least: 1.0 }, Some(Self::CanaryP99Ms)),
            // On a busy machine it rises too, though less than latency: caches are shared.
            Self::CpuUsPerAnswer => Rule::Levels(Bound { share: 0.5, least: 100.0 }, None),
            Self::JournalOctetsPerAnswer => Rule::Slope(Bound { share: 0.1, least: 200.0 }),
            Self::CanaryP50Ms | Self::CanaryP99Ms => Rule::Beside,
        }
    }

    /// Its name with the unit, as shown.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::ResidentKib => "resident memory, KiB",
            Self::Descriptors => "descriptors",
            Self::Threads => "threads",
            Self::P50Ms => "latency p50, ms",
            Self::P99Ms => "latency p99, ms",
            Self::CpuUsPerAnswer => "CPU per answer, us",
            Self::JournalOctetsPerAnswer => "journal, octets per answer",
            Self::CanaryP50Ms => "canary p50, ms",
            Self::CanaryP99Ms => "canary p99, ms",
        }
    }
}

/// One process at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessSample {
    /// Resident memory.
    pub resident_kib: u64,
    /// Descriptors that it has open.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
}

impl ProcessSample {
    /// As it is now; none if there is no such process or it may not be looked at.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let count = |of: &str| fs::read_dir(process.join(of)).ok().map(|entries| entries.count() as u64);
        let memory = fs::read_to_string(process.join("statm")).ok()?;
        let pages: u64 = memory.split_whitespace().nth(1)?.parse().ok()?;
        let resident_kib = pages * rustix::param::page_size() as u64 / 1024;
        Some(Self { resident_kib, descriptors: count("fd")?, threads: count("task")? })
    }

    fn values(self) -> [(Measure, f64); 3] {
        [
            (Measure::ResidentKib, self.resident_kib as f64),
            (Measure::Descriptors, self.descriptors as f64),
            (Measure::Threads, self.threads as f64),
        ]
    }
}

/// Octets of all files of a directory.
#[must_use]
pub fn directory_octets(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// All curves of a run, by process and measure.
#[derive(Debug, Default)]
pub struct Curves(BTreeMap<(String, Measure), Vec<Point>>);

/// A curve, judged.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Of what.
    pub process: String,
    /// In which respect.
    pub measure: Measure,
    /// What came of it.
    #[serde(flatten)]
    pub trend: Trend,
}

impl Curves {
    /// Adds a point.
    pub fn add(&mut self, process: &str, measure: Measure, seconds: f64, value: f64) {
        self.0.entry((process.to_owned(), measure)).or_default().push(Point { seconds, value });
    }

    /// Adds what was sampled of a process.
    pub fn add_process(&mut self, process: &str, seconds: f64, sample: ProcessSample) {
        for (measure, value) in sample.values() {
            self.add(process, measure, seconds, value);
        }
    }

    /// Each curve with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Measure, &[Point])> {
        self.0.iter().map(|((process, measure), points)| (process.as_str(), *measure, points.as_slice()))
    }

    /// Each curve that is judged.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let beside = |canary: Measure| self.0.get(&(CANARY.to_owned(), canary)).map_or(&[][..], Vec::as_slice);
        let judged = |(process, measure, points): (&str, Measure, &[Point])| {
            let trend = match measure.rule() {
                Rule::Slope(bound) => trend::judge(points, bound),
                Rule::Levels(bound, canary) => levels::judge(points, bound, canary.map(beside)),
                Rule::Beside => return None,
            };
            Some(Finding { process: process.to_owned(), measure, trend })
        };
        self.iter().filter_map(judged).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::trend::Verdict;

    #[test]
    fn ok_this_process_is_seen_as_it_is() {
        let before = ProcessSample::of(std::process::id()).expect("our own process");
        let held: Vec<fs::File> = (0..40).map(|_| fs::File::open("/dev/null").expect("it is there")).collect();
        let after = ProcessSample::of(std::process::id()).expect("our own process");
        // Other tests of this process open and close some too.
        assert!(after.descriptors >= before.descriptors + 20, "{before:?} {after:?}");
        assert!(after.resident_kib > 1000 && after.threads >= 1, "{after:?}");
        drop(held);
        assert_eq!(ProcessSample::of(u32::MAX), None);
    }

    /// Half an hour of windows, in which latency and canary become so many times what they were, and each answer's CPU time.
    fn half_an_hour(latency: f64, canary: f64, cpu: f64) -> Vec<(Measure, Verdict)> {
        let mut curves = Curves::default();
        for minute in 1..=30 {
            let (seconds, way) = (f64::from(minute) * 60.0, f64::from(minute) / 30.0);
            let at = |begin: f64, times: f64| begin * (1.0 + (times - 1.0) * way);
            for (process, measure, value) in [
                ("load", Measure::P50Ms, at(2.0, latency)),
                ("load", Measure::P99Ms, at(9.0, latency)),
                ("engine", Measure::CpuUsPerAnswer, at(1200.0, cpu)),
                (CANARY, Measure::CanaryP50Ms, at(1.0, canary)),
                (CANARY, Measure::CanaryP99Ms, at(4.0, canary)),
            ] {
                curves.add(process, measure, seconds, value);
            }
        }
        curves.findings().into_iter().map(|finding| (finding.measure, finding.trend.verdict)).collect()
    }

    #[test]
    fn err_latency_that_grows_by_half_fails_unless_the_machine_became_slower() {
        use Verdict::{Busy, Flat, Grows};
        for (what, found, [cpu, p50, p99]) in [
            ("nothing changes", half_an_hour(1.0, 1.0, 1.0), [Flat, Flat, Flat]),
            ("the engine is slower", half_an_hour(1.5, 1.0, 1.0), [Flat, Grows, Grows]),
            ("so is the machine", half_an_hour(1.5, 1.5, 1.0), [Flat, Flat, Flat]),
            ("the machine is much slower", half_an_hour(3.0, 4.0, 1.0), [Flat, Busy, Busy]),
            ("the engine made it slower", half_an_hour(1.5, 1.5, 2.5), [Grows, Flat, Flat]),
        ] {
            let right = [(Measure::CpuUsPerAnswer, cpu), (Measure::P50Ms, p50), (Measure::P99Ms, p99)];
            assert_eq!(found, right, "{what}");
        }
    }

    #[test]
    fn ok_a_thread_too_many_is_growth_and_an_equal_number_is_not() {
        let mut curves = Curves::default();
        for minute in 0..60 {
            let seconds = f64::from(minute) * 60.0;
            curves.add("leaks", Measure::Threads, seconds, 5.0 + f64::from(minute / 10));
            curves.add("holds", Measure::Threads, seconds, 5.0);
        }
        let findings: Vec<_> = curves.findings().into_iter().map(|f| (f.process, f.trend.verdict)).collect();
        assert_eq!(findings, [("holds".to_owned(), Verdict::Flat), ("leaks".to_owned(), Verdict::Grows)]);
    }
}
