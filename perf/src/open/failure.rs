//! Why a run is no figure. A file of results holds it as text, which is read again as what it was.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the text of each cause begins or ends with.
const LATE: &str = " requests left more than 5 ms late: the generator did not keep up";
const ENGINE_ENDED: &str = "the engine ended with ";
const STREAM: &str = "the stream ended: ";

/// Why a run is no figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Failure {
    /// The generator did not keep up, which says nothing of the engine.
    Late {
        /// Requests that left more than 5 ms late.
        late: u64,
        /// Of so many.
        sent: u64,
    },
    /// The engine ended by itself, or not well: its status and its last words.
    EngineEnded(String),
    /// The engine ended the stream of answers before all were there: with what.
    Stream(String),
    /// What a file says that is written otherwise than here.
    Unknown(String),
}

impl Failure {
    /// Whether it is the generator's alone.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late { late, sent } => write!(f, "{late} of {sent}{LATE}"),
            Self::EngineEnded(how) => write!(f, "{ENGINE_ENDED}{how}"),
            Self::Stream(how) => write!(f, "{STREAM}{how}"),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        failure.to_string()
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        if let Some((late, sent)) = text.strip_suffix(LATE).and_then(|counts| counts.split_once(" of "))
            && let (Ok(late), Ok(sent)) = (late.parse(), sent.parse())
        {
            return Self::Late { late, sent };
        }
        if let Some(how) = text.strip_prefix(ENGINE_ENDED) {
            return Self::EngineEnded(how.to_owned());
        }
        match text.strip_prefix(STREAM) {
            Some(how) => Self::Stream(how.to_owned()),
            None => Self::Unknown(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_each_cause_is_text_in_a_file_and_read_again_as_itself() {
        let table = [
            (
                Failure::Late { late: 9, sent: 40 },
                "9 of 40 requests left more than 5 ms late: the generator did not keep up",
            ),
            (Failure::EngineEnded("signal: 9 and said: ".to_owned()), "the engine ended with signal: 9 and said: "),
            (Failure::Stream("Unavailable: gone".to_owned()), "the stream ended: Unavailable: gone"),
            (Failure::Unknown("it rained".to_owned()), "it rained"),
            (Failure::Unknown(format!("x of 3{LATE}")), &format!("x of 3{LATE}")),
        ];
        for (failure, text) in table {
            let json = serde_json::to_value(&failure).expect("JSON");
            assert_eq!(json, text);
            assert_eq!(serde_json::from_value::<Failure>(json).expect("read"), failure);
            assert_eq!(failure.is_late(), text.starts_with("9 of 40"), "{text}");
        }
    }
}
