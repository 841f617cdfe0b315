//! Arbitrary octets as an HTTP response, cut arbitrarily.
//!
//! Invariants: it ends at the latest when the server closes; what it ends with depends on the octets alone, not on
//! how they were cut, but for how many of them are shown with what is bad; a head and a body hold nothing that was
//! not sent, and keep their bounds.

use parallax_validation::{
    base::{
        limits::{HEADER_VALUE_KEPT_BYTES_MAX, HTTP_BODY_BYTES_MAX, URL_BYTES_MAX, WEBSITE_BODY_BYTES_MAX},
        octets::Octets,
    },
    lookup::http::response::{Progress, Response},
    observation::ResponseHead,
};

use crate::feed::Feed;

/// In the first octet: a status line stands before the octets.
pub const FRAMED: u8 = 0x80;
/// In the first octet: the body is chunked.
pub const CHUNKED: u8 = 0x40;
/// In the first octet: as much of the body is kept as of a website's file.
pub const LARGE: u8 = 0x20;

/// What there is to see of a response once it has ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    /// What is bad, if anything is; none with [`Self::empty`] too.
    problem: Option<&'static str>,
    /// Nothing came.
    empty: bool,
    head: Option<ResponseHead>,
    body: Octets,
    truncated: bool,
}

/// Feeds the octets in parts, closes, and gives the octets shown beside the rest.
fn ended(octets: &[u8], cuts: &[u8], body_bytes_max: usize) -> (Ended, Octets) {
    let mut response = Response::with_body_of(body_bytes_max);
    let (mut rest, mut last) = (octets, Progress::More);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() && matches!(last, Progress::More | Progress::Head) {
        let size = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
        let (part, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        last = response.push(part);
        assert_eq!(last == Progress::Head, last == Progress::Head && response.head().is_some());
    }
    if matches!(last, Progress::More | Progress::Head) {
        last = response.close();
    }
    assert!(response.received() <= octets.len() as u64);
    let (problem, first) = match last {
        Progress::Complete => (None, Octets::default()),
        Progress::Bad { problem, first } => (Some(problem), first),
        Progress::More | Progress::Head => {
            assert!(octets.is_empty(), "it does not end");
            (None, Octets::default())
        }
    };
    let head = response.head().cloned();
    let (body, truncated) = response.into_body();
    (Ended { problem, empty: octets.is_empty(), head, body, truncated }, first)
}

fn holds(octets: &[u8], part: &[u8]) -> bool {
    part.is_empty() || octets.windows(part.len()).any(|window| window == part)
}

/// Compares one piece, single octets, and arbitrary pieces.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let choices = feed.octet();
    let cuts: Vec<u8> = (0..4).map(|_| feed.octet()).collect();
    let before: &[u8] = match choices & (FRAMED | CHUNKED) {
        0 => b"",
        FRAMED => b"HTTP/1.1 200 OK\r\n",
        CHUNKED => b"HTTP/1.1 301 Moved\r\nTransfer-Encoding: chunked\r\nLocation: /a\r\n\r\n",
        _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    let octets = [before, feed.0].concat();
    let body_bytes_max = if choices & LARGE == 0 { HTTP_BODY_BYTES_MAX } else { WEBSITE_BODY_BYTES_MAX };
    let (whole, first) = ended(&octets, &[], body_bytes_max);
    for cuts in [&[0][..], &cuts] {
        let (parts, fewer) = ended(&octets, cuts, body_bytes_max);
        assert_eq!(parts, whole, "cut by {cuts:?}");
        assert!(first.0.starts_with(&fewer.0), "cut by {cuts:?}: {first} and {fewer}");
    }
    assert!(holds(&octets, &first.0));
    assert!(whole.body.0.len() <= body_bytes_max && (!whole.truncated || whole.body.0.len() == body_bytes_max));
    assert!(whole.problem.is_some() || whole.empty || whole.head.is_some(), "complete without a head");
    // In order and complete, perhaps with sizes of chunks between.
    let mut sent = octets.iter();
    assert!(whole.body.0.iter().all(|octet| sent.any(|other| other == octet)), "a body that was not sent");
    let Some(head) = whole.head else { return };
    assert!((100..=999).contains(&head.status));
    assert!(head.location.as_ref().is_none_or(|location| !location.is_empty()));
    for (value, bytes_max) in [
        (head.location, URL_BYTES_MAX + 1),
        (head.server, HEADER_VALUE_KEPT_BYTES_MAX),
        (head.content_type, HEADER_VALUE_KEPT_BYTES_MAX),
        (head.content_encoding, HEADER_VALUE_KEPT_BYTES_MAX),
    ] {
        let value = value.unwrap_or_default();
        assert!(value.0.len() <= bytes_max && holds(&octets, &value.0), "a field that was not sent: {value}");
    }
}
