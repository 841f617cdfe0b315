//! What happens in an engine that somebody may have to look at, on standard error: in words, or as JSON, one object a
//! line. What matters for audit is in the journal as well.

use std::net::SocketAddr;

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
    /// The link to a perspective stands.
    LinkUp {
        /// Whose.
        perspective: &'a PerspectiveId,
        /// The program there.
        software: &'a str,
        /// How it does its input and output.
        driver: &'a str,
    },
    /// Another link to a perspective is made, so that both ends show themselves again.
    LinkRenewed {
        /// Whose.
        perspective: &'a PerspectiveId,
    },
    /// The link to a perspective broke, or cannot be made; it is tried again.
    LinkDown {
        /// Whose.
        perspective: &'a PerspectiveId,
        /// Why.
        why: &'a str,
    },
    /// A connection to this engine was refused.
    ConnectionRefused {
        /// From where.
        peer: SocketAddr,
        /// Why.
        why: &'a str,
        /// Refusals before it that have no line.
        left_out: u64,
    },
    /// A caller asked for what it may not.
    Forbidden {
        /// Names in its certificate.
        names: &'a [String],
        /// What it wanted.
        right: &'a str,
    },
    /// A call failed for reasons of our own.
    CallFailed {
        /// What was called.
        call: &'a str,
        /// Why.
        why: &'a str,
    },
    /// The engine serves.
    Ready {
        /// Where.
        listen: SocketAddr,
    },
    /// It was told to stop and finishes what is under way.
    Draining,
    /// It has stopped in order.
    Stopped,
    /// Certificates and keys were read again.
    Reloaded,
    /// They could not be; the old ones stay in use.
    NotReloaded {
        /// Why.
        why: &'a str,
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
            Self::ReportRejected { .. }
            | Self::LateContradiction { .. }
            | Self::ClockMoved { .. }
            | Self::Forbidden { .. }
            | Self::NotReloaded { .. } => true,
            Self::AnswerNotKept { .. }
            | Self::LinkUp { .. }
            | Self::LinkDown { .. }
            | Self::LinkRenewed { .. }
            | Self::ConnectionRefused { .. }
            | Self::CallFailed { .. }
            | Self::Ready { .. }
            | Self::Draining
            | Self::Stopped
            | Self::Reloaded => false,
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
            Self::LinkUp { perspective, software, driver } => {
                format!("perspective {perspective}: linked to {} over {}", shown(software), shown(driver))
            }
            Self::LinkRenewed { perspective } => format!("perspective {perspective}: another link is made"),
            Self::LinkDown { perspective, why } => format!("perspective {perspective}: no link: {why}"),
            Self::ConnectionRefused { peer, why, left_out } => {
                let more = if *left_out > 0 { format!(" ({left_out} more before it)") } else { String::new() };
                format!("connection from {peer} refused: {why}{more}")
            }
            Self::Forbidden { names, right } => {
                format!("a caller with the names {} may not {right}", names.join(", "))
            }
            Self::CallFailed { call, why } => format!("{call} failed: {why}"),
            Self::Ready { listen } => format!("serving on {listen}"),
            Self::Draining => "told to stop; what is under way is finished".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Reloaded => "certificates and keys were read again".to_owned(),
            Self::NotReloaded { why } => format!("the old certificates and keys stay in use: {why}"),
            Self::ClockMoved { moved_ms } => format!("the system's clock was moved by {moved_ms} ms"),
        }
    }
}

/// What a node says of itself, bounded and escaped.
fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
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
    let level = match event {
        _ if event.is_alarm() => "alarm",
        Event::LinkUp { .. }
        | Event::LinkRenewed { .. }
        | Event::Ready { .. }
        | Event::Draining
        | Event::Stopped
        | Event::Reloaded => "info",
        _ => "warning",
    };
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
