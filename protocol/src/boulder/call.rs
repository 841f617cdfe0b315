//! What comes with a call besides its message: how long it may take, and when it was sent; and how a call is refused.

use std::time::Duration;

use jiff::Timestamp;
use parallax_validation::base::{limits::NAME_OCTETS_MAX, octets::Octets};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

/// Taken off the caller's deadline, so that an answer is there before it.
const RETURN_OVERHEAD: Duration = Duration::from_millis(20);
/// With less left nothing is begun.
const WORTHWHILE_MIN: Duration = Duration::from_millis(100);
/// How long a call without a deadline may take, [`RETURN_OVERHEAD`] among it.
const NO_DEADLINE: Duration = Duration::from_secs(100);
/// A deadline further away is taken to be this far.
const DEADLINE_MAX: Duration = Duration::from_secs(3600);
/// How far the clocks of caller and node may be apart, seconds.
const SKEW_SECONDS_MAX: u128 = 600;
/// Octets of a caller's text that are shown to it again.
const SHOWN_BYTES: usize = 60;

/// Kinds of errors that Boulder tells apart, by their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorType {
    InternalServer = 0,
    Malformed = 2,
}

/// An error as Boulder's servers send it: the code says Unknown, and the trailer `errortype` has the kind as a number.
/// Boulder's client reads the kind from the trailer alone and takes the message; a code with a meaning of its own would
/// only be one more thing that it does not expect.
pub(super) fn refusal(kind: ErrorType, message: impl Into<String>) -> Status {
    let mut trailers = MetadataMap::new();
    trailers.insert("errortype", MetadataValue::from(kind as i32));
    Status::with_metadata(Code::Unknown, message, trailers)
}

/// A caller's text, escaped and cut.
pub(super) fn shown(text: &str) -> String {
    Octets::first(text.as_bytes(), SHOWN_BYTES + 1).shown(SHOWN_BYTES)
}

/// A caller's identifier, escaped and cut where no name goes on.
pub(super) fn shown_name(text: &str) -> String {
    Octets::first(text.as_bytes(), NAME_OCTETS_MAX + 3).shown(NAME_OCTETS_MAX + 2)
}

/// Until when work may go on: the caller's deadline less what the way back takes. A call that says nothing about itself
/// is good; `acme-client-user-agent` and whatever else comes along is not looked at.
///
/// # Errors
/// A caller whose clock is far off, metadata that cannot be read, or too little time.
pub(super) fn work_until(metadata: &MetadataMap, received: Instant, now: Timestamp) -> Result<Instant, Status> {
    check_time_of_request(metadata, now)?;
    let given = match metadata.get("grpc-timeout") {
        None => NO_DEADLINE,
        Some(value) => value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
            let text = Octets::first(value.as_encoded_bytes(), SHOWN_BYTES).to_string();
            refusal(ErrorType::Malformed, format!("grpc-timeout: '{text}' is no time"))
        })?,
    };
    // The network's part of the time that has passed is not known here; the overhead is for that too.
    let left = given.min(DEADLINE_MAX).saturating_sub(RETURN_OVERHEAD);
    if left < WORTHWHILE_MIN {
        let message = format!("only {} ms are left, which is too little to begin with", left.as_millis());
        return Err(Status::deadline_exceeded(message));
    }
    Ok(received + left)
}

fn check_time_of_request(metadata: &MetadataMap, now: Timestamp) -> Result<(), Status> {
    let Some(value) = metadata.get("client-request-time") else { return Ok(()) };
    let sent: Option<i64> = value.to_str().ok().and_then(|text| text.parse().ok());
    let Some(sent) = sent else {
        let text = Octets::first(value.as_encoded_bytes(), SHOWN_BYTES).to_string();
        let message = format!("client-request-time: '{text}' is no time in nanoseconds");
        return Err(refusal(ErrorType::InternalServer, message));
    };
    let apart = now.as_nanosecond().abs_diff(i128::from(sent));
    if apart > SKEW_SECONDS_MAX * 1_000_000_000 {
        let seconds = apart / 1_000_000_000;
        let message = format!("the clocks of caller and node are {seconds} s apart; {SKEW_SECONDS_MAX} s are allowed");
        return Err(refusal(ErrorType::InternalServer, message));
    }
    Ok(())
}

/// At most eight digits and a unit, as gRPC writes times.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_every_unit_of_a_timeout() {
        let times = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("15S", Duration::from_secs(15)),
            ("14999m", Duration::from_millis(14_999)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("1n", Duration::from_nanos(1)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ];
        for (text, time) in times {
            assert_eq!(parse_timeout(text), Some(time), "{text}");
        }
    }

    #[test]
    fn err_what_is_no_timeout() {
        for text in ["", "S", "5", "5s", "-5S", "+5S", "5 S", "123456789S", "5SS", "é", "5é"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_left_is_20_ms_less_and_100_ms_at_least() {
        let received = Instant::now();
        let until = |timeout: &'static str| {
            let mut metadata = MetadataMap::new();
            if !timeout.is_empty() {
                metadata.insert("grpc-timeout", MetadataValue::from_static(timeout));
            }
            work_until(&metadata, received, Timestamp::UNIX_EPOCH)
        };
        for (timeout, left_ms) in [("120m", 100), ("121m", 101), ("15S", 14_980), ("", 99_980), ("9H", 3_599_980)] {
            assert_eq!(until(timeout).expect(timeout), received + Duration::from_millis(left_ms), "{timeout}");
        }
        for timeout in ["0m", "1n", "99m", "101m", "119m", "119999u"] {
            assert_eq!(until(timeout).expect_err(timeout).code(), Code::DeadlineExceeded, "{timeout}");
        }
        assert_eq!(until("soon").expect_err("no time").metadata().get("errortype").expect("a trailer"), "2");
    }
}
