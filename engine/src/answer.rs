//! What a caller is told of one request: a line of results, and the problem if there is one.

use parallax_validation::{problem::ProblemDocument, record::Record, request::RequestError};

use crate::bulk::ResultLine;

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// As a bulk run writes it.
    pub line: ResultLine,
    /// Unless it passed.
    pub problem: Option<ProblemDocument>,
}

impl Answer {
    /// To a request that was carried out.
    #[must_use]
    pub fn of_record(record: &Record) -> Self {
        let problem = ProblemDocument::of(&record.request, &record.explanation);
        Self { line: ResultLine::of_record(record), problem }
    }

    /// To a request that was refused before anything was sent.
    #[must_use]
    pub fn of_refusal(raw_id: Option<&str>, identifier: &str, error: &RequestError) -> Self {
        let line = ResultLine::of_refusal(raw_id, error);
        Self { problem: Some(ProblemDocument::of_refusal(identifier, error)), line }
    }
}

/// The id of a request that has none, or none that may be used: unique, and never one that a caller chose.
#[must_use]
pub fn made_up_id() -> String {
    format!("api-{:032x}", rand::random::<u128>())
}
