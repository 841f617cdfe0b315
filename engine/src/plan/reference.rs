//! The reference: service times that were measured once, built in for those who plan before they have measured.
//!
//! They are of the machine that the files name, and say little of another one. So whatever is made of them says that
//! first, with how to measure one's own.
//!
//! The files are those of `perf/results` to the octet, which a test compares.

use serde::Serialize;

use super::measured::{Measured, Origin};

/// What `parallax-perf open` wrote: what waits for nothing, and silent targets.
const FILES: [&str; 2] = [include_str!("reference/quick.json"), include_str!("reference/slow.json")];

/// Said before everything else.
const NOTICE: &str = "These service times are not yours: without --measured the reference is used that is built into this \
                      program, measured on the machine named next. Another machine may need much more, or much less.";

/// Makes the files that replace the reference, by the commands that made it. No package has `parallax-perf`.
const HOW_TO_MEASURE: [&str; 4] = [
    "cargo build --release --workspace",
    "parallax-perf open --mix dns-01,http-01,tls-alpn-01,caa,refused-at-primary --rates 100,600 --seconds 8 --out quick.json",
    "parallax-perf open --mix slow --rates 20,100 --seconds 15 --out slow.json",
    "parallax plan DEMAND --measured quick.json --measured slow.json",
];

/// That a plan rests on the reference, for all its forms.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Reference {
    /// That it is not the reader's machine.
    pub(super) notice: &'static str,
    /// What was measured: machine, date, command.
    pub(super) measured: Vec<Origin>,
    /// How to replace it.
    pub(super) how_to_measure: [&'static str; 4],
}

impl Reference {
    /// The reference, and what was measured.
    pub(super) fn built_in() -> (Self, Measured) {
        let files = FILES.map(|text| Measured::parse(text).expect("the built-in files are checked by a test"));
        let measured = files.iter().map(|file| file.origin.clone()).collect();
        let together = Measured::together(files.into()).expect("they are of one engine, which a test checks");
        (Self { notice: NOTICE, measured, how_to_measure: HOW_TO_MEASURE }, together)
    }

    /// For a picture, which has room for a line.
    pub(super) fn in_short(&self) -> String {
        let machine = self.measured.first().map_or_else(String::new, |origin| {
            let day = origin.date.get(..10).unwrap_or(&origin.date);
            format!(": {} × {}, Linux {}, commit {}, {day}", origin.cpus, origin.cpu, origin.kernel, origin.commit)
        });
        format!("Not your machine{machine}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::times::{Kind, ServiceTimes};

    #[test]
    fn ok_the_built_in_files_measured_every_kind_and_no_run_of_them_is_set_aside() {
        let (reference, measured) = Reference::built_in();
        assert_eq!((reference.measured.len(), measured.runs.len(), measured.set_aside.len()), (2, 12, 0));
        let times = ServiceTimes::derive(&measured).expect("times");
        for kind in Kind::ALL {
            assert!(times.of(kind).is_ok(), "{}", kind.name());
        }
    }

    #[test]
    fn ok_one_measures_by_the_commands_that_made_the_reference() {
        let (reference, _) = Reference::built_in();
        for (origin, how) in reference.measured.iter().zip(&reference.how_to_measure[1..]) {
            assert_eq!(origin.command.replace("planner-", ""), *how);
        }
    }

    #[test]
    fn ok_a_line_names_the_machine() {
        let (reference, _) = Reference::built_in();
        let expected =
            "Not your machine: 2 × AMD EPYC, Linux 6.18.44-fc-v509, commit f30a350246c2, 2026-11-27".to_owned();
        assert_eq!(reference.in_short(), expected);
    }
}
