//! Results of a preflight: one JSON object a line, or text for people, and a summary by finding.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use parallax_validation::preflight::{Code, Preflight, Severity};
use serde::Serialize;

use super::PreflightError;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One object a line.
    JsonLines,
}

/// What a preflight of several names came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Names that were given.
    pub names: u64,
    /// Names that were carried out.
    pub done: u64,
    /// Names with a finding that blocks.
    pub blocked: u64,
    /// Names without one, and with one that may block.
    pub at_risk: u64,
    /// Names by outlook, such as `5/5, margin 1`.
    pub outlooks: BTreeMap<String, u64>,
    /// Names by finding.
    pub findings: BTreeMap<&'static str, u64>,
    /// Reports that answered nothing that was asked.
    pub rejected_reports: u64,
    /// Whether it was stopped before all names were carried out.
    pub interrupted: bool,
}

/// Where results go, and what is counted on the way.
pub(super) struct Results {
    path: PathBuf,
    out: BufWriter<Box<dyn Write>>,
    form: Form,
    summary: Summary,
}

impl Results {
    /// A file must not hold anything yet.
    pub(super) fn open(path: Option<&Path>, form: Form) -> Result<Self, PreflightError> {
        let (path, out): (PathBuf, Box<dyn Write>) = match path {
            None => (PathBuf::from("standard output"), Box::new(std::io::stdout())),
            Some(path) => {
                let file = OpenOptions::new().write(true).create_new(true).open(path);
                (path.to_owned(), Box::new(file.map_err(|error| PreflightError::Out { path: path.to_owned(), error })?))
            }
        };
        Ok(Self { path, out: BufWriter::new(out), form, summary: Summary::default() })
    }

    pub(super) fn write(&mut self, preflight: &Preflight) -> Result<(), PreflightError> {
        self.count(preflight);
        let text = match self.form {
            Form::Text => as_text(preflight),
            Form::JsonLines => serde_json::to_string(preflight)
                .map(|line| line + "\n")
                .map_err(|error| PreflightError::Results { path: self.path.clone(), error: error.into() })?,
        };
        self.out.write_all(text.as_bytes()).map_err(|error| self.failed(error))
    }

    pub(super) fn flush(&mut self) -> Result<(), PreflightError> {
        self.out.flush().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> PreflightError {
        PreflightError::Results { path: self.path.clone(), error }
    }

    fn count(&mut self, preflight: &Preflight) {
        let summary = &mut self.summary;
        summary.done += 1;
        *summary.outlooks.entry(preflight.outlook.to_string()).or_default() += 1;
        let gravest = preflight.findings.iter().map(|finding| finding.severity).min();
        summary.blocked += u64::from(gravest == Some(Severity::Blocks));
        summary.at_risk += u64::from(gravest == Some(Severity::MayBlock));
        let mut codes: Vec<Code> = preflight.findings.iter().map(|finding| finding.code).collect();
        codes.sort_unstable();
        codes.dedup();
        for code in codes {
            *summary.findings.entry(code.as_str()).or_default() += 1;
        }
    }

    pub(super) fn summary(self, names: u64, rejected_reports: u64, interrupted: bool) -> Summary {
        Summary { names, rejected_reports, interrupted, ..self.summary }
    }
}

/// One name for people: the outlook, and each finding with its servers and what to do.
#[must_use]
pub fn as_text(preflight: &Preflight) -> String {
    let Preflight { name, zone, outlook, .. } = preflight;
    let zone = zone.as_ref().map_or("no zone found".to_owned(), |zone| format!("zone {zone}"));
    let row = outlook.policy.as_ref().map(|row| format!(" (policy {row})")).unwrap_or_default();
    let would = match (outlook.permits, outlook.quorum.as_ref().map(|quorum| quorum.margin)) {
        (false, _) if !outlook.would_fail() => "a check of CAA would pass or fail by the cohort that is drawn for it",
        (true, Some(0)) => "a check of CAA would pass, and one perspective less would block it",
        (true, _) => "a check of CAA would pass",
        (false, _) => "a check of CAA would fail",
    };
    let mut text = format!("{name}, {}\n  {outlook}{row}: {would}\n", one_line(&zone));
    for finding in &preflight.findings {
        text += &format!(
            "  {:<9}  {}\n             {}\n",
            finding.severity.to_string(),
            finding.code,
            one_line(&finding.text)
        );
    }
    printable(&text)
}

/// A text without line ends of its own.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

/// A text with nothing that a terminal obeys, or that changes the order of what is read; lines stay.
fn printable(text: &str) -> String {
    let is_safe = |c: char| {
        let turns =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        c == '\n' || !(c.is_control() || turns)
    };
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_safe(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
        shown
    })
}

/// The summary for people.
#[must_use]
pub fn summary_text(summary: &Summary) -> String {
    let Summary { names, done, blocked, at_risk, .. } = summary;
    let clear = done - blocked - at_risk;
    let mut text = format!("{done} of {names} names: {blocked} blocked, {at_risk} at risk, {clear} clear\n");
    for (outlook, count) in &summary.outlooks {
        text += &format!("  {count:>7}  {outlook}\n");
    }
    for (code, count) in &summary.findings {
        text += &format!("  {count:>7}  {code}\n");
    }
    if summary.rejected_reports > 0 {
        text += &format!("  {} reports came late or answered nothing that was asked\n", summary.rejected_reports);
    }
    if summary.interrupted {
        text += "  stopped before the end\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("\u{1b}[2Ja \u{2192} b\u{202e}\n"), "\\u{1b}[2Ja \u{2192} b\\u{202e}\n");
        assert_eq!(one_line("a\nblocks"), "a\\nblocks");
    }
}
