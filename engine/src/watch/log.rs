//! What the follower says about itself, on standard error: for people, or one JSON object a line.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::alarm::{Alarm, printable};

/// Standard error.
pub(crate) struct Log {
    json: bool,
}

impl Log {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// An event of the follower.
    pub(crate) fn say(&self, level: &str, event: &str, text: &str, fields: Value) {
        if self.json {
            eprintln!("{}", line(Timestamp::now(), level, event, fields));
        } else {
            eprintln!("parallax: {}", printable(text));
        }
    }

    /// An alarm, which goes to standard error as JSON alone: for people it stands on standard output.
    pub(crate) fn alarm(&self, alarm: &Alarm) {
        if self.json {
            eprintln!("{}", line(Timestamp::now(), "alarm", alarm.kind.as_str(), json!(alarm)));
        }
    }
}

fn line(now: Timestamp, level: &str, event: &str, fields: Value) -> Value {
    json!({ "ts": now, "level": level, "event": event, "fields": fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let text = line(Timestamp::UNIX_EPOCH, "warning", "webhook_failed", json!({ "problem": "a\nb\u{1b}[2J" }));
        let text = text.to_string();
        assert!(!text.contains(['\n', '\u{1b}']), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["ts"], "1970-01-01T00:00:00Z");
        assert_eq!((&read["level"], &read["event"]), (&json!("warning"), &json!("webhook_failed")));
        assert_eq!(read["fields"]["problem"], "a\nb\u{1b}[2J");
    }
}
