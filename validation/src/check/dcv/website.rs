//! Agreed-upon change to website: TLS BR 2.3.1 §3.2.2.4.18 (names) and §3.2.2.5.1 (addresses), req D14, D16–D19.
//!
//! A file below `/.well-known/pki-validation/` holds the whole Random Value or Request Token. Other text may stand
//! around it, but no letter, digit, `-` or `_` may touch it: a longer value that happens to hold it is another value.
//! Status 200 is demanded, as for http-01. No URL of the chain may hold the value (`cases.md` D12).

use super::http01::{self, BodyFault};
use crate::{
    check::{Contradiction, Finding, LookupFailure},
    observation::{HttpObservation, HttpOutcome},
    request::RandomValue,
};

/// Where the file lies.
pub const FOLDER: &str = "/.well-known/pki-validation/";

/// Judges a fetch.
#[must_use]
pub fn judge(value: &RandomValue, seen: &HttpObservation) -> Finding {
    match &seen.outcome {
        HttpOutcome::Failed(failure) => Finding::Failed(LookupFailure::Http(failure.clone())),
        HttpOutcome::Response { status, .. } if *status != 200 => Finding::Contradicted(Contradiction::Status(*status)),
        HttpOutcome::Response { body, truncated, .. } => {
            let (body, expected) = (body.as_slice(), value.expose());
            let right = holds_whole(body, expected.as_bytes(), *truncated);
            let in_url = seen.hops.iter().any(|hop| http01::tells(&hop.url, expected));
            match (right, in_url) {
                (true, true) => Finding::Contradicted(Contradiction::Body(BodyFault::ValueInUrl)),
                (true, false) => Finding::Confirmed,
                (false, _) => {
                    let encoded = http01::is_encoded(seen);
                    Finding::Contradicted(Contradiction::Body(http01::shape(body, *truncated, encoded)))
                }
            }
        }
    }
}

/// Whether the value stands in the text with no letter, digit, `-` or `_` next to it. Of a text that was cut, the end is
/// not known.
pub(super) fn holds_whole(text: &[u8], value: &[u8], is_cut: bool) -> bool {
    if value.is_empty() {
        return false;
    }
    let is_edge = |octet: Option<&u8>| octet.is_none_or(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'-' | b'_'));
    let at = |start: usize, window: &[u8]| {
        let end = start + window.len();
        let before = start.checked_sub(1).and_then(|index| text.get(index));
        let known = end < text.len() || !is_cut;
        http01::equal_in_constant_time(window, value) && is_edge(before) && is_edge(text.get(end)) && known
    };
    // Every place is looked at, whether one before it was right or not.
    text.windows(value.len()).enumerate().fold(false, |found, (start, window)| at(start, window) | found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d14_the_value_is_whole() {
        let value = b"0123456789abcdef0123456789abcdef";
        let with = |before: &str, after: &str| [before.as_bytes(), value, after.as_bytes()].concat();
        for (before, after, right) in [
            ("", "", true),
            ("", "\r\n", true),
            ("<meta name=\"v\" content=\"", "\">", true),
            ("value\n", "\nca.example\n", true),
            ("a", "", false),
            ("", "0", false),
            ("-", "", false),
            ("", "_", false),
        ] {
            assert_eq!(holds_whole(&with(before, after), value, false), right, "{before:?} {after:?}");
        }
        assert!(!holds_whole(&value[1..], value, false), "cut");
        assert!(!holds_whole(b"", value, false), "empty");
        assert!(!holds_whole(value, value, true), "a text that was cut may go on");
        assert!(holds_whole(&with("", " and more"), value, true));
        assert!(holds_whole(&[&with("a", "")[..], b" ", value].concat(), value, false), "the second is whole");
    }
}
