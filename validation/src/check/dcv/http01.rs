//! http-01: TLS BR 2.3.1 §3.2.2.4.19, RFC 8555 §8.3 (req D15–D19).
//!
//! Status 200 is demanded, as the large CAs do (req D19). The body is the key authorization, with white
//! space allowed after it and nowhere else.

use serde::{Deserialize, Serialize};

use crate::{
    check::{Contradiction, Finding, LookupFailure},
    observation::{HttpObservation, HttpOutcome},
    request::KeyAuthorization,
};

/// Octets by which UTF-16 is recognised.
const UTF16_START_BYTES: usize = 16;

/// How a body differs from the key authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyFault {
    /// Nothing there.
    Empty,
    /// It begins with a byte-order mark.
    ByteOrderMark,
    /// It is UTF-16 without a byte-order mark.
    Utf16,
    /// It is compressed although that was not asked for.
    Compressed,
    /// It is right, but a URL of the chain holds the whole key authorization, so that any page which prints
    /// its URL would be right (req D16).
    ValueInUrl,
    /// It holds the token, as a page does that prints our URL, but not the key authorization.
    EchoesToken,
    /// It begins with the key authorization, and more follows.
    TrailingText,
    /// It has the token of the challenge with another account's thumbprint.
    OtherThumbprint,
    /// It is longer than what is read.
    TooLong,
    /// A page of HTML.
    Html,
    /// Anything else.
    Other,
}

/// Judges a fetch.
#[must_use]
pub fn judge(key: &KeyAuthorization, seen: &HttpObservation) -> Finding {
    match &seen.outcome {
        HttpOutcome::Failed(failure) => Finding::Failed(LookupFailure::Http(failure.clone())),
        HttpOutcome::Response { status, .. } if *status != 200 => Finding::Contradicted(Contradiction::Status(*status)),
        HttpOutcome::Response { body, truncated, .. } => {
            let body = body.as_slice();
            let encoded = is_encoded(seen);
            let right = !*truncated && is_key_authorization(body, &key.value);
            if right && seen.hops.iter().any(|hop| tells(&hop.url, &key.value)) {
                Finding::Contradicted(Contradiction::Body(BodyFault::ValueInUrl))
            } else if right {
                Finding::Confirmed
            } else {
                Finding::Contradicted(Contradiction::Body(fault(body, *truncated, encoded, key)))
            }
        }
    }
}

/// Whether a URL holds the value, percent-encoded or not.
pub(super) fn tells(url: &str, value: &str) -> bool {
    let mut decoded = Vec::with_capacity(url.len());
    let mut rest = url.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let digits =
            tail.get(..2).and_then(|d| std::str::from_utf8(d).ok()).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (byte, digits) {
            (b'%', Some(octet)) => {
                decoded.push(octet);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    !value.is_empty() && decoded.windows(value.len()).any(|window| window == value.as_bytes())
}

/// Exactly the key authorization, white space at the end ignored. Compared without stopping at the first
/// difference, so that timing tells nothing about it.
fn is_key_authorization(body: &[u8], key_authorization: &str) -> bool {
    let end =
        body.iter().rposition(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)).map_or(0, |at| at + 1);
    equal_in_constant_time(&body[..end], key_authorization.as_bytes())
}

/// Compares without stopping at the first difference; lengths are no secret.
pub(crate) fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && std::hint::black_box(left.iter().zip(right).fold(0, |acc, (l, r)| acc | (l ^ r))) == 0
}

/// Whether the last response says that its body is encoded.
pub(super) fn is_encoded(seen: &HttpObservation) -> bool {
    let head = seen.hops.last().and_then(|hop| hop.response.as_ref());
    head.is_some_and(|head| head.content_encoding.is_some())
}

fn fault(body: &[u8], truncated: bool, encoded: bool, key: &KeyAuthorization) -> BodyFault {
    let holds = |needle: &[u8]| !needle.is_empty() && body.windows(needle.len()).any(|window| window == needle);
    match shape(body, truncated, encoded) {
        BodyFault::TooLong | BodyFault::Html | BodyFault::Other if body.starts_with(key.value.as_bytes()) => {
            BodyFault::TrailingText
        }
        BodyFault::TooLong | BodyFault::Html | BodyFault::Other
            if body.starts_with(format!("{}.", key.token).as_bytes()) =>
        {
            BodyFault::OtherThumbprint
        }
        BodyFault::TooLong | BodyFault::Html | BodyFault::Other if holds(key.token.as_bytes()) => {
            BodyFault::EchoesToken
        }
        other => other,
    }
}

/// What a body looks like that does not hold what it should, whatever that was.
pub(super) fn shape(body: &[u8], truncated: bool, encoded: bool) -> BodyFault {
    if body.is_empty() {
        BodyFault::Empty
    } else if body.starts_with(&[0xef, 0xbb, 0xbf])
        || body.starts_with(&[0xff, 0xfe])
        || body.starts_with(&[0xfe, 0xff])
    {
        BodyFault::ByteOrderMark
    } else if is_utf16(body) {
        BodyFault::Utf16
    } else if encoded || body.starts_with(&[0x1f, 0x8b]) {
        BodyFault::Compressed
    } else if looks_like_html(body) {
        BodyFault::Html
    } else if truncated {
        BodyFault::TooLong
    } else {
        BodyFault::Other
    }
}

/// Whether it begins as ASCII does in UTF-16: every other octet is zero.
fn is_utf16(body: &[u8]) -> bool {
    let start = body.get(..UTF16_START_BYTES).unwrap_or_default();
    let wide = |letter: usize| start.chunks(2).all(|pair| pair[letter].is_ascii_graphic() && pair[1 - letter] == 0);
    !start.is_empty() && (wide(0) || wide(1))
}

fn looks_like_html(body: &[u8]) -> bool {
    let start = body.trim_ascii_start();
    let start = &start[..start.len().min(15)];
    start.get(..5).is_some_and(|s| s.eq_ignore_ascii_case(b"<html"))
        || start.get(..9).is_some_and(|s| s.eq_ignore_ascii_case(b"<!doctype"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::octets::Octets, observation::HttpHop};

    fn key() -> KeyAuthorization {
        let token = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA".to_owned();
        let value = format!("{token}.{}", "T".repeat(43));
        KeyAuthorization { token, value }
    }

    fn judged(status: u16, body: &[u8], truncated: bool) -> Finding {
        let outcome = HttpOutcome::Response { status, body: Octets(body.to_vec()), truncated };
        judge(&key(), &HttpObservation { hops: Vec::new(), outcome })
    }

    #[test]
    fn d13_ok_white_space_after_the_text_is_ignored() {
        let right = key().value;
        for tail in ["", "\r\n", "\n", "   \n", "\t \r\n\r\n"] {
            assert_eq!(judged(200, format!("{right}{tail}").as_bytes(), false), Finding::Confirmed, "{tail:?}");
        }
    }

    #[test]
    fn d12_d13_err_bodies_have_their_fault_named() {
        let right = key().value;
        let token = key().token;
        let utf16: Vec<u8> = [0xff, 0xfe].into_iter().chain(right.bytes().flat_map(|b| [b, 0])).collect();
        for (body, fault) in [
            (Vec::new(), BodyFault::Empty),
            ([&[0xef, 0xbb, 0xbf], right.as_bytes()].concat(), BodyFault::ByteOrderMark),
            (utf16[2..].to_vec(), BodyFault::Utf16),
            ([&[0], &utf16[2..]].concat(), BodyFault::Utf16),
            (utf16[2..16].to_vec(), BodyFault::Other),
            (utf16, BodyFault::ByteOrderMark),
            (format!("{right} extra").into_bytes(), BodyFault::TrailingText),
            (format!("{right}x").into_bytes(), BodyFault::TrailingText),
            (format!(" {right}").into_bytes(), BodyFault::EchoesToken),
            (format!("<html>/.well-known/acme-challenge/{token}").into_bytes(), BodyFault::EchoesToken),
            (token.clone().into_bytes(), BodyFault::EchoesToken),
            (format!("{token}.{}", "U".repeat(43)).into_bytes(), BodyFault::OtherThumbprint),
            (vec![0x1f, 0x8b, 8, 0], BodyFault::Compressed),
            (b"<!DOCTYPE html><p>".to_vec(), BodyFault::Html),
            (right.to_ascii_lowercase().into_bytes(), BodyFault::Other),
        ] {
            let expected = Finding::Contradicted(Contradiction::Body(fault));
            assert_eq!(judged(200, &body, false), expected, "{}", Octets(body.clone()));
        }
    }

    #[test]
    fn d16_err_a_chain_that_carries_the_value_in_a_url_proves_nothing() {
        let right = key().value;
        for url in
            [format!("http://echo.example/?{right}"), format!("http://echo.example/{}", right.replace('.', "%2e"))]
        {
            let hop = HttpHop {
                url,
                resolution: Vec::new(),
                unused: Vec::new(),
                tries: Vec::new(),
                tls: None,
                response: None,
            };
            let outcome =
                HttpOutcome::Response { status: 200, body: Octets(right.clone().into_bytes()), truncated: false };
            let seen = HttpObservation { hops: vec![hop], outcome };
            let expected = Finding::Contradicted(Contradiction::Body(BodyFault::ValueInUrl));
            assert_eq!(judge(&key(), &seen), expected);
        }
    }

    #[test]
    fn d12_err_other_statuses_are_not_looked_into() {
        let right = key().value;
        for status in [201, 204, 206, 302, 303, 403, 404, 500] {
            let expected = Finding::Contradicted(Contradiction::Status(status));
            assert_eq!(judged(status, right.as_bytes(), false), expected);
        }
    }

    #[test]
    fn err_a_body_cut_at_the_bound_is_never_right() {
        let right = key().value;
        assert_ne!(judged(200, format!("{right}   ").as_bytes(), true), Finding::Confirmed);
    }
}
