//! What a soak came to, and whether that is good: a pure function of what was counted and sampled.

use serde::Serialize;

use super::{
    load::{Counts, Unanswered},
    sample::{Curves, Finding, Rule},
    trend::Verdict,
};

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How long requests were asked.
    pub seconds: f64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// Requests and answers.
    pub counts: Counts,
    /// Requests that were never answered.
    pub unanswered: Unanswered,
    /// Octets of the journal at the end.
    pub journal_octets: u64,
    /// Programs that ended before they were told to, or not well, and what broke the load.
    pub broke: Vec<String>,
    /// Every curve.
    pub findings: Vec<Finding>,
}

impl Summary {
    /// Everything that must not be, in words; empty if all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let counts = &self.counts;
        let mut faults = self.broke.clone();
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                faults.push(format!("{number} {what}"));
            }
        };
        count(counts.wrong_passes, "requests passed that must not");
        count(counts.wrong_others, "other verdicts are wrong");
        count(self.unanswered.count, "requests were never answered");
        if counts.asked == 0 {
            faults.push("nothing was asked".to_owned());
        }
        let told = counts.wrong_told.iter().chain(&self.unanswered.told);
        faults.extend(told.map(|told| format!("  such as {told}")));
        let grows = self.findings.iter().filter(|finding| finding.trend.verdict == Verdict::Grows);
        faults.extend(grows.map(|f| {
            let (what, t) = (f.measure.title(), &f.trend);
            let when = match f.measure.rule() {
                Rule::Levels(..) => "from the first third to the last",
                Rule::Slope(_) | Rule::Beside => "in the second half",
            };
            format!("{}: {what} grows: {:+.1} {when}, of {:.1} allowed", f.process, t.growth, t.allowed)
        }));
        faults
    }

    /// As told at the end.
    #[must_use]
    pub fn text(&self) -> String {
        let counts = &self.counts;
        let mut text = format!(
            "{:.0} s{}: {} asked, {} answered, {} wrong passes, {} other wrong verdicts, {} unanswered, journal {} KiB\n",
            self.seconds,
            if self.interrupted { " (interrupted)" } else { "" },
            counts.asked,
            counts.answered,
            counts.wrong_passes,
            counts.wrong_others,
            self.unanswered.count,
            self.journal_octets / 1024,
        );
        for finding in &self.findings {
            let trend = &finding.trend;
            let said = match trend.verdict {
                Verdict::TooShort => "too short to say",
                Verdict::Flat => "flat",
                Verdict::Grows => "GROWS",
                Verdict::Busy => "the machine was too busy to say",
            };
            text += &format!(
                "{:<8} {:<28} median {:>10.1} {:>+10.1} an hour {:>+9.1} of {:>8.1} allowed  {said}\n",
                finding.process,
                finding.measure.title(),
                trend.median,
                trend.per_hour,
                trend.growth,
                trend.allowed
            );
        }
        let faults = self.faults();
        let is_told = self.findings.iter().all(|finding| finding.trend.verdict != Verdict::Busy);
        text += match (faults.is_empty(), is_told) {
            (true, true) => "all is well\n",
            (true, false) => "all that could be told is well: repeat the run when the machine is quiet\n",
            (false, _) => "NOT WELL:\n",
        };
        text + &faults.iter().map(|fault| format!("  {fault}\n")).collect::<String>()
    }
}

impl Summary {
    /// Of curves, with everything else to be filled in.
    #[must_use]
    pub fn of(curves: &Curves) -> Self {
        Self {
            seconds: 0.0,
            interrupted: false,
            counts: Counts::default(),
            unanswered: Unanswered::default(),
            journal_octets: 0,
            broke: Vec::new(),
            findings: curves.findings(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::sample::Measure;

    fn good() -> Summary {
        let mut curves = Curves::default();
        for minute in 0..40 {
            curves.add("engine", Measure::ResidentKib, f64::from(minute) * 60.0, 50_000.0);
        }
        Summary { counts: Counts { asked: 10, answered: 10, ..Counts::default() }, ..Summary::of(&curves) }
    }

    #[test]
    fn ok_a_run_without_faults_has_none() {
        assert_eq!(good().faults(), [""; 0]);
        assert!(good().text().contains("flat") && good().text().ends_with("all is well\n"), "{}", good().text());
    }

    #[test]
    fn ok_what_could_not_be_told_is_neither_a_fault_nor_well() {
        let mut curves = Curves::default();
        for minute in 1..=30 {
            let (seconds, busy) = (f64::from(minute) * 60.0, if minute > 15 { 3.0 } else { 1.0 });
            curves.add("load", Measure::P50Ms, seconds, 2.0 * busy);
            curves.add("canary", Measure::CanaryP50Ms, seconds, busy);
        }
        let summary = Summary { counts: good().counts, ..Summary::of(&curves) };
        assert_eq!(summary.faults(), [""; 0]);
        let text = summary.text();
        assert!(
            text.contains("the machine was too busy to say\n") && text.contains("all that could be told"),
            "{text}"
        );
        assert!(!text.contains("all is well"), "{text}");
    }

    #[test]
    fn err_what_was_wrong_and_what_was_not_answered_is_told() {
        let told = |what: &str| vec![what.to_owned()];
        let counts = Counts { wrong_others: 1, wrong_told: told("r000001 http-ok"), ..good().counts };
        let summary = Summary { counts, unanswered: Unanswered { count: 1, told: told("r000002") }, ..good() };
        let faults = summary.faults();
        assert_eq!(faults[2..], ["  such as r000001 http-ok", "  such as r000002"]);
    }

    #[test]
    fn err_each_fault_is_told() {
        let with = |counts: Counts| Summary { counts: Counts { asked: 10, ..counts }, ..good() };
        let mut curves = Curves::default();
        for minute in 0..40 {
            curves.add("ams1", Measure::Descriptors, f64::from(minute) * 60.0, f64::from(minute));
        }
        let mut slower = Curves::default();
        for minute in 1..=30 {
            let seconds = f64::from(minute) * 60.0;
            slower.add("engine", Measure::CpuUsPerAnswer, seconds, if minute > 15 { 2000.0 } else { 1000.0 });
        }
        for (summary, fault) in [
            (with(Counts { wrong_passes: 1, ..Counts::default() }), "1 requests passed that must not"),
            (with(Counts { wrong_others: 2, ..Counts::default() }), "2 other verdicts are wrong"),
            (
                Summary { unanswered: Unanswered { count: 3, told: Vec::new() }, ..good() },
                "3 requests were never answered",
            ),
            (Summary { counts: Counts::default(), ..good() }, "nothing was asked"),
            (Summary { broke: vec!["jnb1 ended".to_owned()], ..good() }, "jnb1 ended"),
            (
                Summary { counts: good().counts, ..Summary::of(&curves) },
                "ams1: descriptors grows: +19.0 in the second half, of 4.0 allowed",
            ),
            (
                Summary { counts: good().counts, ..Summary::of(&slower) },
                "engine: CPU per answer, us grows: +1000.0 from the first third to the last, of 500.0 allowed",
            ),
        ] {
            assert_eq!(summary.faults(), [fault]);
            assert!(summary.text().contains("NOT WELL"));
        }
    }
}
