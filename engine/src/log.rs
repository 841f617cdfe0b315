//! What happens in an engine that somebody may have to look at, on standard error: in words, or as JSON, one object a
//! line. What matters for audit is in the journal as well.

use jiff::Timestamp;
use parallax_protocol::AttemptId;
use parallax_validation::{base::perspective::PerspectiveId, record::Rejection, request::RequestId};
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A report did not count.
    ReportRejected {
        /// By whose link it came.
        perspective: &'a PerspectiveId,
        /// The attempt that it names.
        attempt: AttemptId,
        /// Why.
        why: Rejection,
        /// Others by this link since the last that was told.
        suppressed: u64,
    },
    /// An answer came after its verdict and goes against it.
    LateContradiction {
        /// Whose.
        perspective: &'a PerspectiveId,
        /// The attempt.
        attempt: AttemptId,
        /// What was asked, by id.
        request: &'a RequestId,
    },
    /// An answer that does not count was too large to be kept.
    AnswerNotKept {
        /// What was asked, by id.
        request: &'a RequestId,
    },
    /// The system's clock was moved; the engine stops.
    ClockMoved {
        /// Forward if positive, milliseconds.
        moved_ms: i64,
    },
}

impl Event<'_> {
    /// Whether somebody should be woken.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        match self {
            Self::ReportRejected { .. } | Self::LateContradiction { .. } | Self::ClockMoved { .. } => true,
            Self::AnswerNotKept { .. } => false,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::ReportRejected { perspective, attempt, why, suppressed } => {
                let more = if *suppressed > 0 { format!(" ({suppressed} more before it)") } else { String::new() };
                format!("perspective {perspective}: a report about attempt {attempt} does not count: {why}{more}")
            }
            Self::LateContradiction { perspective, attempt, request } => format!(
                "perspective {perspective}: its answer to attempt {attempt} ({request}) came after the verdict and \
                 contradicts it"
            ),
            Self::AnswerNotKept { request } => {
                format!("an answer about {request} that does not count is too large to be kept")
            }
            Self::ClockMoved { moved_ms } => format!("the system's clock was moved by {moved_ms} ms"),
        }
    }
}

/// Where events go.
pub trait Log: Send + Sync {
    /// Takes one.
    fn tell(&self, event: &Event<'_>);
}

/// How events are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogForm {
    /// In words.
    #[default]
    Text,
    /// As JSON, one object a line.
    Json,
}

impl Log for LogForm {
    fn tell(&self, event: &Event<'_>) {
        eprintln!("{}", line(*self, event, Timestamp::now()));
    }
}

fn line(form: LogForm, event: &Event<'_>, at: Timestamp) -> String {
    let level = if event.is_alarm() { "alarm" } else { "warning" };
    match form {
        LogForm::Text => format!("{level}: {}", event.words()),
        LogForm::Json => {
            let mut object = serde_json::to_value(event).expect("events hold text and numbers");
            object["ts"] = at.to_string().into();
            object["level"] = level.into();
            object["message"] = event.words().into();
            object.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h10_an_event_reads_as_a_sentence_and_as_json() {
        let perspective = "iad1".parse().expect("an id");
        let (attempt, why) = (AttemptId(7), Rejection::Region);
        let event = Event::ReportRejected { perspective: &perspective, attempt, why, suppressed: 3 };
        let at = "2026-12-15T00:00:00Z".parse().expect("an instant");
        let text = line(LogForm::Text, &event, at);
        assert!(text.starts_with("alarm: perspective iad1: ") && text.contains("another region"), "{text}");
        assert!(text.ends_with("(3 more before it)"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&line(LogForm::Json, &event, at)).expect("JSON");
        assert_eq!(json["event"], "report_rejected");
        assert_eq!((&json["level"], &json["why"]), (&"alarm".into(), &"region".into()));
        assert_eq!(json["ts"], "2026-12-15T00:00:00Z");
    }
}
