//! `parallax-perf report`: files of results as one HTML page that needs nothing else.
//!
//! ```text
//! words    what the figures mean          pure
//! charts   which figures are drawn how    pure
//! page     the page                       pure
//! ```
//!
//! The page holds no script and asks nothing of any network. Names out of the files are escaped.

mod charts;
mod page;
mod words;

use std::{fs, io, path::PathBuf, process::ExitCode};

use clap::Args;
use thiserror::Error;

pub use self::{
    page::{page, pictures},
    words::{Words, slope, words},
};
use crate::open::result::{self, ResultError};

/// Files of results at a time.
const FILES_MAX: usize = 32;

/// What to show.
#[derive(Debug, Args)]
pub struct Report {
    /// Files that `open --out` wrote.
    #[arg(required = true, value_name = "RESULT.json")]
    results: Vec<PathBuf>,
    /// The page.
    #[arg(long, value_name = "FILE.html")]
    out: PathBuf,
    /// A directory for the charts as files of their own, MIX-CHART.svg; those of a later file take the place of others of
    /// the same mix.
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file of results.
    #[error(transparent)]
    Result(#[from] ResultError),
    /// A file without runs.
    #[error("{0}: it has no runs")]
    Empty(PathBuf),
    /// Too many files.
    #[error("{0} files; at most {FILES_MAX} make a page that can be read")]
    TooMany(usize),
    /// The page cannot be written.
    #[error("{path}: {error}")]
    Write {
        /// The page.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Reads, makes the page and writes it.
///
/// # Errors
/// A file cannot be read or written, or holds nothing to show.
pub fn run(report: &Report) -> Result<ExitCode, ReportError> {
    if report.results.len() > FILES_MAX {
        return Err(ReportError::TooMany(report.results.len()));
    }
    let mut results = Vec::new();
    for path in &report.results {
        let read = result::read(path)?;
        if read.runs.is_empty() {
            return Err(ReportError::Empty(path.clone()));
        }
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        results.push((name.into_owned(), read));
    }
    let write = |path: PathBuf, text: String| match fs::write(&path, text) {
        Ok(()) => Ok(()),
        Err(error) => Err(ReportError::Write { path, error }),
    };
    write(report.out.clone(), page(&results))?;
    if let Some(directory) = &report.pictures {
        fs::create_dir_all(directory).map_err(|error| ReportError::Write { path: directory.clone(), error })?;
        for (name, svg) in pictures(&results) {
            write(directory.join(name), svg)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open::result::tests::{result, run as one_run};

    #[test]
    fn ok_a_page_is_written_of_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, out) = (directory.path().join("a.json"), directory.path().join("a.html"));
        result::write(&file, &result(vec![one_run()])).expect("written");
        let pictures = directory.path().join("pictures");
        run(&Report { results: vec![file], out: out.clone(), pictures: Some(pictures.clone()) }).expect("a page");
        assert!(fs::read_to_string(out).expect("the page").contains("<h2>dns-01</h2>"));
        let picture = fs::read_to_string(pictures.join("dns-01-latency.svg")).expect("a chart");
        assert!(picture.starts_with("<svg ") && picture.contains("prefers-color-scheme"), "{picture}");
    }

    #[test]
    fn err_each_file_that_has_nothing_to_show_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, out) = (directory.path().join("a.json"), directory.path().join("a.html"));
        let run = |results: Vec<PathBuf>| {
            run(&Report { results, out: out.clone(), pictures: None }).map(|_| ()).expect_err("no page")
        };
        assert!(run(vec![file.clone()]).to_string().contains("a.json: "));
        result::write(&file, &result(Vec::new())).expect("written");
        assert!(run(vec![file.clone()]).to_string().ends_with("a.json: it has no runs"));
        assert!(matches!(run(vec![file; FILES_MAX + 1]), ReportError::TooMany(33)));
        assert!(!out.exists());
    }
}
