//! What the engine answers, held against what the laboratory knows to be right.

use serde::Deserialize;
use thiserror::Error;

use crate::lab::kinds::{Kind, Problem, Verdict};

/// How much of a message is shown, characters.
const MESSAGE_SHOWN_MAX: usize = 200;

/// The fields of a line of results that are compared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    id: String,
    verdict: String,
    #[serde(default)]
    problem: Option<String>,
    decided_by: String,
    #[serde(default)]
    message: String,
}

/// Why an answer cannot be used.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// It is not a line of results.
    #[error("an answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// No request has such an id.
    #[error("an answer to {0:?}, which was not asked")]
    Id(String),
}

impl Answer {
    /// Out of the octets of an answer.
    ///
    /// # Errors
    /// They are not a line of results.
    pub fn read(octets: &[u8]) -> Result<Self, AnswerError> {
        Ok(serde_json::from_slice(octets)?)
    }

    /// The number of the request that it answers.
    ///
    /// # Errors
    /// Its id is none of the laboratory's.
    pub fn index(&self) -> Result<u64, AnswerError> {
        let number = self.id.strip_prefix('r').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        number.and_then(|digits| digits.parse().ok()).ok_or_else(|| AnswerError::Id(shown(&self.id)))
    }

    /// Whether a certificate may be issued.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.verdict == word(Verdict::Pass)
    }

    /// How it differs from the right answer to a request of a kind, in words.
    #[must_use]
    pub fn difference(&self, kind: Kind) -> Option<String> {
        let right = kind.outcome();
        let is_problem = |problem: Option<Problem>| self.problem == problem.map(word);
        let is_right = self.verdict == word(right.verdict)
            && self.decided_by == word(right.decided_by)
            && (is_problem(right.problem) || kind.also_problem().is_some_and(|also| is_problem(Some(also))));
        (!is_right).then(|| {
            let told = |verdict: &str, problem: Option<String>, by: &str| {
                format!("{verdict} ({}, by {by})", problem.as_deref().unwrap_or("no problem"))
            };
            format!(
                "{} {}: {} where {} is right: {}",
                shown(&self.id),
                kind.slug(),
                shown(&told(&self.verdict, self.problem.clone(), &self.decided_by)),
                told(&word(right.verdict), right.problem.map(word), &word(right.decided_by)),
                shown(&self.message)
            )
        })
    }
}

/// As the laboratory writes it into its file of right answers.
fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // Verdicts, problems and who decided are written as one word each; anything else would match no answer.
        _ => String::new(),
    }
}

/// Text of another program, short and without what moves a terminal's cursor.
fn shown(text: &str) -> String {
    text.chars().take(MESSAGE_SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(verdict: &str, problem: &str, decided_by: &str) -> Answer {
        let text = format!(
            r#"{{"id":"r000123","verdict":"{verdict}","problem":{problem},"decided_by":"{decided_by}","message":"a\u001b[31m","warnings":[]}}"#
        );
        Answer::read(text.as_bytes()).expect("an answer")
    }

    #[test]
    fn ok_the_right_answer_has_no_difference() {
        let passed = answer("pass", "null", "quorum");
        assert_eq!((passed.index().expect("an id"), passed.permits()), (123, true));
        assert_eq!(passed.difference(Kind::DnsOk), None);
        assert_eq!(answer("fail", "\"connection\"", "primary").difference(Kind::HttpBlackHole), None);
        // Either of two is as right.
        for problem in ["\"unauthorized\"", "\"caa\""] {
            assert_eq!(answer("fail", problem, "quorum").difference(Kind::MpMixed2), None);
        }
    }

    #[test]
    fn err_every_field_that_differs_is_a_difference() {
        let wrong =
            [answer("fail", "null", "quorum"), answer("pass", "\"dns\"", "quorum"), answer("pass", "null", "primary")];
        for one in wrong {
            let text = one.difference(Kind::DnsOk).expect("a difference");
            assert!(
                text.starts_with("r000123 dns-ok: ") && text.contains("pass (no problem, by quorum) is right"),
                "{text}"
            );
            assert!(!text.contains('\u{1b}'), "{text}");
        }
        assert!(answer("fail", "\"dns\"", "primary").difference(Kind::HttpBlackHole).is_some());
    }

    #[test]
    fn err_an_answer_to_nothing_that_was_asked() {
        for id in ["", "x000123", "r", "r12a", "api-00"] {
            let one = Answer { id: id.to_owned(), ..answer("pass", "null", "quorum") };
            assert!(matches!(one.index(), Err(AnswerError::Id(_))), "{id}");
        }
        assert!(Answer::read(b"{}").is_err());
    }
}
