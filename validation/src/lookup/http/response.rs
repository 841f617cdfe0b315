//! Reads one HTTP/1.1 response: bytes in, in any number of segments; head and bounded body out.
//!
//! Implements RFC 9112 §2.2, §4, §6 and §7.1 as far as a client needs that closes after one response.
//! Bounds: head, header fields, interim responses, chunk lines, body. Nothing is read past a bound.
//!
//! Invariant: what comes of a response depends on its octets alone, not on how the segments fell. Only of the
//! octets shown with what is bad there may be more or fewer.

use crate::{
    base::{
        limits::{
            HEADER_VALUE_KEPT_BYTES_MAX, HTTP_BODY_BYTES_MAX, HTTP_CHUNK_LINE_BYTES_MAX, HTTP_HEAD_BYTES_MAX,
            HTTP_HEADERS_MAX, HTTP_INTERIM_MAX, URL_BYTES_MAX,
        },
        octets::Octets,
    },
    lookup::http::fetch::is_followed,
    observation::ResponseHead,
};

const FIRST_KEPT_BYTES: usize = 64;
const STATUS_LINE_START: &[u8] = b"HTTP/";

/// What is known after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is needed.
    More,
    /// The head is complete and the body is still coming.
    Head,
    /// The response is complete, or its body reached its bound.
    Complete,
    /// It is not HTTP, or too large.
    Bad {
        /// What is wrong.
        problem: &'static str,
        /// First octets of the head, or of the body as it came.
        first: Octets,
    },
}

#[derive(Debug)]
enum Framing {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

#[derive(Debug)]
enum Chunk {
    Size(Vec<u8>),
    Data(u64),
    DataEnd,
    Trailer(Vec<u8>, usize),
}

#[derive(Debug)]
enum State {
    Head,
    Body(Framing),
    Complete,
    Bad,
}

/// A response being read.
#[derive(Debug)]
pub struct Response {
    state: State,
    buffer: Vec<u8>,
    /// Up to where the buffer was searched for the head's end.
    searched: usize,
    interim: usize,
    head: Option<ResponseHead>,
    /// First octets of the body as it came.
    opening: Vec<u8>,
    body: Body,
    received: u64,
}

/// The part of a body that is kept.
#[derive(Debug)]
struct Body {
    octets: Vec<u8>,
    bytes_max: usize,
    truncated: bool,
}

impl Body {
    fn keep(&mut self, bytes: &[u8]) {
        let room = self.bytes_max - self.octets.len();
        self.octets.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.truncated |= bytes.len() > room;
    }
}

impl Default for Response {
    fn default() -> Self {
        Self::with_body_of(HTTP_BODY_BYTES_MAX)
    }
}

impl Response {
    /// One of whose body so many octets are kept at most.
    #[must_use]
    pub fn with_body_of(bytes_max: usize) -> Self {
        Self {
            state: State::Head,
            buffer: Vec::new(),
            searched: 0,
            interim: 0,
            head: None,
            opening: Vec::new(),
            body: Body { octets: Vec::new(), bytes_max, truncated: false },
            received: 0,
        }
    }

    /// Octets received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The head, once it is complete.
    #[must_use]
    pub fn head(&self) -> Option<&ResponseHead> {
        self.head.as_ref()
    }

    /// The body as far as it is kept, and whether there was more.
    #[must_use]
    pub fn into_body(self) -> (Octets, bool) {
        (Octets(self.body.octets), self.body.truncated)
    }

    /// Some octets came.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        self.received += bytes.len() as u64;
        match self.state {
            State::Head => {
                self.buffer.extend_from_slice(bytes);
                self.read_heads()
            }
            State::Body(_) => self.read_body(bytes),
            State::Complete => Progress::Complete,
            State::Bad => Progress::More,
        }
    }

    /// The server closed its side. Complete if the body lasts until then.
    pub fn close(&mut self) -> Progress {
        match self.state {
            State::Body(Framing::UntilClose) | State::Complete => {
                self.state = State::Complete;
                Progress::Complete
            }
            State::Head if self.received > 0 => {
                let not_http = if self.buffer.is_empty() { None } else { self.not_http(1) };
                self.bad(not_http.unwrap_or("the connection ended within the response head"))
            }
            State::Head | State::Bad => Progress::More,
            State::Body(_) => self.bad("the connection ended before the body was complete"),
        }
    }

    fn bad(&mut self, problem: &'static str) -> Progress {
        let first = if self.head.is_some() { &self.opening } else { &self.buffer };
        let first = Octets::first(first, FIRST_KEPT_BYTES);
        self.state = State::Bad;
        Progress::Bad { problem, first }
    }

    fn read_heads(&mut self) -> Progress {
        loop {
            if let Some(bad) = self.not_http(STATUS_LINE_START.len()) {
                return self.bad(bad);
            }
            if self.buffer.len() < STATUS_LINE_START.len() {
                break;
            }
            let Some(end) = self.head_end() else { break };
            let rest = self.buffer.split_off(end);
            match parse_head(&self.buffer) {
                Err(problem) => return self.bad(problem),
                Ok((head, _)) if (100..200).contains(&head.status) && head.status != 101 => {
                    self.interim += 1;
                    if self.interim > HTTP_INTERIM_MAX {
                        return self.bad("too many interim responses");
                    }
                    self.buffer = rest;
                    self.searched = 0;
                }
                Ok((head, framing)) => {
                    self.head = Some(head);
                    self.buffer = Vec::new();
                    self.state = State::Body(framing);
                    return match self.read_body(&rest) {
                        Progress::More => Progress::Head,
                        other => other,
                    };
                }
            }
        }
        if self.buffer.len() > HTTP_HEAD_BYTES_MAX {
            return self.bad("the response head is larger than 64 KiB");
        }
        Progress::More
    }

    /// Tells early when the first octets cannot be a status line, once there are so many.
    fn not_http(&self, octets_min: usize) -> Option<&'static str> {
        let start = &self.buffer[..self.buffer.len().min(STATUS_LINE_START.len())];
        let is_other = start.len() >= octets_min && !STATUS_LINE_START.starts_with(start);
        is_other.then_some("the response does not start with an HTTP status line")
    }

    /// The end of the head: an empty line. Searches only what is new.
    fn head_end(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(3);
        let found = self.buffer[from..].iter().enumerate().find_map(|(offset, &byte)| {
            let at = from + offset;
            let before = &self.buffer[..at];
            (byte == b'\n' && (before.ends_with(b"\n") || before.ends_with(b"\n\r"))).then_some(at + 1)
        });
        self.searched = self.buffer.len();
        found.filter(|end| *end <= HTTP_HEAD_BYTES_MAX)
    }

    fn read_body(&mut self, bytes: &[u8]) -> Progress {
        let State::Body(framing) = &mut self.state else { return Progress::More };
        let room = FIRST_KEPT_BYTES - self.opening.len();
        self.opening.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let step = match framing {
            Framing::UntilClose => {
                self.body.keep(bytes);
                Ok(false)
            }
            Framing::Length(left) => {
                let take = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.body.keep(&bytes[..take]);
                *left -= take as u64;
                Ok(*left == 0)
            }
            Framing::Chunked(chunk) => read_chunks(chunk, &mut self.body, bytes),
        };
        match step {
            Err(problem) => self.bad(problem),
            Ok(complete) if complete || self.body.truncated => {
                self.state = State::Complete;
                Progress::Complete
            }
            Ok(_) => Progress::More,
        }
    }
}

/// Reads chunked coding (RFC 9112 §7.1); true at the end of the trailer.
fn read_chunks(chunk: &mut Chunk, body: &mut Body, mut bytes: &[u8]) -> Result<bool, &'static str> {
    while !bytes.is_empty() && !body.truncated {
        match chunk {
            Chunk::Size(line) => {
                if take_line(line, &mut bytes)? {
                    *chunk = match chunk_size(line)? {
                        0 => Chunk::Trailer(Vec::new(), 0),
                        size => Chunk::Data(size),
                    };
                }
            }
            Chunk::Data(left) => {
                let take = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                body.keep(&bytes[..take]);
                bytes = &bytes[take..];
                *left -= take as u64;
                if *left == 0 {
                    *chunk = Chunk::DataEnd;
                }
            }
            Chunk::DataEnd => {
                match bytes[0] {
                    b'\r' => {}
                    b'\n' => *chunk = Chunk::Size(Vec::new()),
                    _ => return Err("a chunk is longer than it says"),
                }
                bytes = &bytes[1..];
            }
            Chunk::Trailer(line, seen) => {
                if take_line(line, &mut bytes)? {
                    if line.is_empty() {
                        return Ok(true);
                    }
                    *seen += line.len();
                    if *seen > HTTP_HEAD_BYTES_MAX {
                        return Err("the trailer is too large");
                    }
                    line.clear();
                }
            }
        }
    }
    Ok(false)
}

/// Moves octets into `line` up to the end of the line; true if it ended, without its CR LF.
fn take_line(line: &mut Vec<u8>, bytes: &mut &[u8]) -> Result<bool, &'static str> {
    let end = bytes.iter().position(|&b| b == b'\n');
    let take = end.unwrap_or(bytes.len());
    line.extend_from_slice(&bytes[..take]);
    *bytes = &bytes[(take + usize::from(end.is_some()))..];
    if line.len() > HTTP_CHUNK_LINE_BYTES_MAX {
        return Err("a chunk-size line is too long");
    }
    if end.is_some() && line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(end.is_some())
}

fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    const WRONG: &str = "a chunk size is not hexadecimal";
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).map_err(|_| WRONG)?.trim_matches([' ', '\t']);
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(WRONG);
    }
    u64::from_str_radix(digits, 16).map_err(|_| WRONG)
}

fn parse_head(bytes: &[u8]) -> Result<(ResponseHead, Framing), &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err("the response head is incomplete"),
        Err(httparse::Error::TooManyHeaders) => return Err("the response head has more than 128 fields"),
        Err(httparse::Error::Version) => return Err("the response is not HTTP/1.0 or HTTP/1.1"),
        Err(httparse::Error::Status) => return Err("the status code is none"),
        Err(_) => return Err("the response head is malformed"),
    }
    let status = response.code.filter(|code| *code >= 100).ok_or("the status code is none")?;
    let field = |name: &str| response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let kept = |name: &str, max: usize| field(name).map(|value| Octets::first(value, max));
    let mut locations = response.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("location"));
    let one_location = locations.next().is_none_or(|first| locations.all(|other| other.value == first.value));
    if is_followed(status) && !one_location {
        return Err("two different Location fields");
    }
    let head = ResponseHead {
        status,
        location: kept("location", URL_BYTES_MAX + 1).filter(|location| !location.is_empty()),
        server: kept("server", HEADER_VALUE_KEPT_BYTES_MAX),
        content_type: kept("content-type", HEADER_VALUE_KEPT_BYTES_MAX),
        content_encoding: kept("content-encoding", HEADER_VALUE_KEPT_BYTES_MAX),
    };
    let framing = framing(status, response.headers)?;
    Ok((head, framing))
}

/// RFC 9112 §6.3.
fn framing(status: u16, headers: &[httparse::Header<'_>]) -> Result<Framing, &'static str> {
    if matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let all = |name: &'static str| headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let mut codings = all("transfer-encoding").peekable();
    if codings.peek().is_some() {
        let last = codings.last().unwrap_or_default();
        return if last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            Ok(Framing::Chunked(Chunk::Size(Vec::new())))
        } else {
            Err("a transfer coding other than chunked")
        };
    }
    let mut length = None;
    for value in all("content-length") {
        let text = std::str::from_utf8(value).map_err(|_| "Content-Length is no number")?.trim();
        if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err("Content-Length is no number");
        }
        let number: u64 = text.parse().map_err(|_| "Content-Length is no number")?;
        if length.is_some_and(|before| before != number) {
            return Err("two different Content-Length fields");
        }
        length = Some(number);
    }
    Ok(length.map_or(Framing::UntilClose, Framing::Length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(whole: &[u8], segment: usize, close: bool) -> Result<(u16, Vec<u8>, bool), &'static str> {
        let mut response = Response::default();
        let mut last = Progress::More;
        for part in whole.chunks(segment) {
            last = response.push(part);
            match last {
                Progress::Bad { problem, .. } => return Err(problem),
                Progress::Complete => break,
                Progress::More | Progress::Head => {}
            }
        }
        if last != Progress::Complete && close {
            last = response.close();
        }
        match last {
            Progress::Complete => {
                let status = response.head().expect("complete").status;
                let (body, truncated) = response.into_body();
                Ok((status, body.0, truncated))
            }
            Progress::Bad { problem, .. } => Err(problem),
            Progress::More | Progress::Head => Err("incomplete"),
        }
    }

    #[test]
    fn ok_every_segmentation_gives_the_same_response() {
        let large = [b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n".as_slice(), &[b'x'; 2000]].concat();
        for (whole, close, status, body, truncated) in [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice(), false, 200, b"hello".to_vec(), false),
            (b"HTTP/1.0 200 OK\r\n\r\nhello", true, 200, b"hello".to_vec(), false),
            (b"HTTP/1.1 200\nContent-Length: 2\n\nok", false, 200, b"ok".to_vec(), false),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nT: v\r\n\r\n",
                false,
                200,
                b"hello".to_vec(),
                false,
            ),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
                false,
                404,
                Vec::new(),
                false,
            ),
            (&large, false, 200, vec![b'x'; HTTP_BODY_BYTES_MAX], true),
            // Chunks win over a length, whatever it says (RFC 9112 §6.3).
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                false,
                200,
                b"hello".to_vec(),
                false,
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nokay", false, 200, b"ok".to_vec(), false),
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nmore", false, 101, Vec::new(), false),
            (b"HTTP/1.1 302 Found\r\nLocation: /a\r\nlocation: /a\r\nContent-Length: 0\r\n\r\n", false, 302, Vec::new(), false),
        ] {
            for segment in [1, 2, 3, 7, whole.len()] {
                let got = read(whole, segment, close);
                assert_eq!(got, Ok((status, body.clone(), truncated)), "segments of {segment}");
            }
        }
    }

    #[test]
    fn err_what_is_no_http_is_named() {
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(200));
        let huge = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "b".repeat(70_000));
        for (whole, wants) in [
            (b"SSH-2.0-OpenSSH\r\n".as_slice(), "status line"),
            // HTTP/0.9, TLS and HTTP/2.
            (b"evaGxfADs6pSRb2L.right", "status line"),
            (b"ok", "status line"),
            (b"\n\nright", "status line"),
            (b"\r\n", "status line"),
            (b"\x15\x03\x01\x00\x02\x02\x46", "status line"),
            (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "status line"),
            (b"HTTP/1.1 100 Continue\r\n\r\nmore than five octets", "status line"),
            (b"HTTP/1.1 100 Continue\r\n\r\n", "ended within the response head"),
            (b"HTT", "ended within the response head"),
            (b"HTTP/1.1 302 Found\r\nLocation: /a\r\nLocation: /b\r\n\r\n", "two different Location"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "no number"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "no number"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", "no number"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", "other than chunked"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "before the body was complete"),
            (b"HTTP/2.0 200 OK\r\n\r\n", "not HTTP/1.0"),
            (b"HTTP/1.1 abc OK\r\n\r\n", "status code"),
            (b"HTTP/1.1 050 OK\r\n\r\n", "status code"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "two different"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "no number"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "other than chunked"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "hexadecimal"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", "longer than it says"),
            (many.as_bytes(), "128 fields"),
            (huge.as_bytes(), "64 KiB"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "before the body was complete"),
        ] {
            let problem = read(whole, whole.len(), true).expect_err(wants);
            assert!(problem.contains(wants), "{problem}, wanted {wants}");
            for segment in [1, 2, 9] {
                assert_eq!(read(whole, segment, true), Err(problem), "segments of {segment}");
            }
        }
    }

    #[test]
    fn err_a_head_of_a_megabyte_is_not_kept() {
        let mut response = Response::default();
        let line = format!("A: {}\r\n", "b".repeat(1021));
        response.push(b"HTTP/1.1 200 OK\r\n");
        let read = (0..1024).take_while(|_| response.push(line.as_bytes()) == Progress::More).count();
        assert!((60..=64).contains(&read), "{read} KiB");
        assert!(response.buffer.capacity() <= 2 * HTTP_HEAD_BYTES_MAX + line.len());
    }

    #[test]
    fn err_the_octets_shown_are_the_first_of_what_is_bad() {
        for (whole, shown) in [
            (b"SSH-2.0-OpenSSH\r\n".as_slice(), b"SSH-2.0-OpenSSH\r\n".as_slice()),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", b"2\r\nhello\r\n"),
        ] {
            for segment in [1, 3, whole.len()] {
                let mut response = Response::default();
                let bad =
                    whole.chunks(segment).map(|part| response.push(part)).find(|p| matches!(p, Progress::Bad { .. }));
                let Some(Progress::Bad { first, .. }) = bad else { panic!("{bad:?}") };
                assert!(first.0.len() >= STATUS_LINE_START.len() && shown.starts_with(&first.0), "{first}");
            }
        }
    }
}
