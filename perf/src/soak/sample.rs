//! What is sampled of a run: of each process out of the kernel's account, of the load, and of the journal.
//!
//! Invariant: memory grows by samples alone, never by requests.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use super::trend::{Bound, Point, Trend, judge};

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
    /// Octets that the journal grew by for each answer within a window.
    JournalOctetsPerAnswer,
}

impl Measure {
    /// How much it may grow in the second half of a run.
    #[must_use]
    pub fn bound(self) -> Bound {
        match self {
            Self::ResidentKib => Bound { share: 0.05, least: 2048.0 },
            Self::Descriptors => Bound { share: 0.05, least: 4.0 },
            Self::Threads => Bound { share: 0.0, least: 0.5 },
            // Latencies are the machine's as much as ours, and the 99th percentile of a window hangs on a few answers.
            Self::P50Ms => Bound { share: 0.5, least: 10.0 },
            Self::P99Ms => Bound { share: 3.0, least: 1000.0 },
            Self::JournalOctetsPerAnswer => Bound { share: 0.1, least: 200.0 },
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
            Self::JournalOctetsPerAnswer => "journal, octets per answer",
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

    /// Each curve, judged.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let judged = |(process, measure, points): (&str, Measure, &[Point])| Finding {
            process: process.to_owned(),
            measure,
            trend: judge(points, measure.bound()),
        };
        self.iter().map(judged).collect()
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
