//! The engine's own API over HTTP/1.1 and JSON; `engine/openapi.json` describes it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Extension, Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::BodyExt as _;
use parallax_protocol::transport::Caller;
use parallax_validation::{problem::ProblemDocument, request::RawRequest};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    api::{Api, Denied, drained},
    callers::{Known, Right},
    desk::Unavailable,
};
use crate::{
    answer::Answer,
    bulk::ResultLine,
    input::{LINE_BYTES_MAX, json_reason},
};

/// The description of this API.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// A body of one request.
const BODY_BYTES_MAX: usize = LINE_BYTES_MAX;
/// Answers that wait for their caller to read.
const ANSWERS_QUEUED_MAX: usize = 1024;

/// Its routes.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/corroborate", post(corroborate))
        .route("/v1/check", post(check))
        .route("/v1/explain/{id}", get(explain))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        // A stream: what is bounded is each of its lines.
        .route("/v1/corroborate-many", post(corroborate_many).layer(DefaultBodyLimit::disable()))
        .route("/v1/openapi.json", get(|| async { ([(CONTENT_TYPE, "application/json")], OPENAPI) }))
        .with_state(api)
}

/// An answer in JSON: the line of results, and the problem document beside it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    line: &'a ResultLine,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem_document: Option<&'a ProblemDocument>,
}

impl<'a> From<&'a Answer> for Told<'a> {
    fn from(answer: &'a Answer) -> Self {
        Self { line: &answer.line, problem_document: answer.problem.as_ref() }
    }
}

/// A problem that is not about a request's subject (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({ "type": "about:blank", "status": status.as_u16(), "detail": detail });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        problem(StatusCode::FORBIDDEN, &self.to_string())
    }
}

impl IntoResponse for Unavailable {
    fn into_response(self) -> Response {
        let status = match self {
            Self::CallerBusy => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy | Self::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = problem(status, &self.to_string());
        response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("1"));
        response
    }
}

async fn corroborate(State(api): State<Arc<Api>>, caller: Option<Extension<Caller>>, body: Bytes) -> Response {
    one(&api, caller, Right::Corroborate, &body, false).await
}

async fn check(State(api): State<Arc<Api>>, caller: Option<Extension<Caller>>, body: Bytes) -> Response {
    one(&api, caller, Right::Check, &body, true).await
}

async fn one(api: &Api, caller: Option<Extension<Caller>>, right: Right, body: &[u8], dry_run: bool) -> Response {
    let known = match api.permit(caller.as_deref(), right) {
        Ok(known) => known,
        Err(denied) => return denied.into_response(),
    };
    let raw: RawRequest = match serde_json::from_slice(body) {
        Ok(raw) => raw,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("not a request: {}", json_reason(&error))),
    };
    match api.answer(raw, &known, dry_run).await {
        Ok(answer) => {
            let status = if answer.line.verdict == "refused" { StatusCode::BAD_REQUEST } else { StatusCode::OK };
            (status, Json(Told::from(&answer))).into_response()
        }
        Err(why) => why.into_response(),
    }
}

async fn explain(State(api): State<Arc<Api>>, caller: Option<Extension<Caller>>, Path(id): Path<String>) -> Response {
    let caller = match api.permit_explain(caller.as_deref()) {
        Ok(caller) => caller,
        Err(denied) => return denied.into_response(),
    };
    match api.explain(id, &caller).await {
        Ok(found) if found.is_empty() => problem(StatusCode::NOT_FOUND, "no record of that id"),
        Ok(found) => Json(found).into_response(),
        Err(status) if status.code() == tonic::Code::ResourceExhausted => {
            problem(StatusCode::TOO_MANY_REQUESTS, status.message())
        }
        Err(status) => problem(StatusCode::INTERNAL_SERVER_ERROR, status.message()),
    }
}

/// JSON Lines in, JSON Lines out, as they are ready. While there is no place for the next line nothing more is read.
async fn corroborate_many(State(api): State<Arc<Api>>, caller: Option<Extension<Caller>>, body: Body) -> Response {
    let known = match api.permit(caller.as_deref(), Right::Corroborate) {
        Ok(known) => known,
        Err(denied) => return denied.into_response(),
    };
    let (out, lines) = mpsc::channel::<Result<String, Infallible>>(ANSWERS_QUEUED_MAX);
    tokio::spawn(many(api, known, body, out));
    ([(CONTENT_TYPE, "application/jsonl")], Body::from_stream(ReceiverStream::new(lines))).into_response()
}

async fn many(api: Arc<Api>, caller: Arc<Known>, mut body: Body, out: mpsc::Sender<Result<String, Infallible>>) {
    let mut lines = Lines::default();
    let mut drain = api.drain.clone();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            // What was read is still answered.
            () = drained(&mut drain) => return,
        };
        let data = match frame {
            None => break,
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            // The caller went away: what it asked is carried out all the same.
            Some(Err(_)) => return,
        };
        for line in lines.push(&data) {
            if !take(&api, &caller, line, &out).await {
                return;
            }
        }
    }
    if let Some(line) = lines.rest() {
        take(&api, &caller, line, &out).await;
    }
}

/// False if nothing more is taken.
async fn take(api: &Arc<Api>, caller: &Arc<Known>, line: Line, out: &mpsc::Sender<Result<String, Infallible>>) -> bool {
    let refused = |reason: String| {
        serde_json::json!({ "line": line.number, "verdict": "refused", "problem": "malformed",
            "decided_by": "request", "message": reason })
        .to_string()
            + "\n"
    };
    let raw: Result<RawRequest, String> = line.text.and_then(|text| {
        serde_json::from_slice(&text).map_err(|error| format!("not a request: {}", json_reason(&error)))
    });
    let raw = match raw {
        Ok(raw) => raw,
        Err(reason) => return out.send(Ok(refused(reason))).await.is_ok(),
    };
    let place = match api.desk.admit(&caller.places).await {
        Ok(place) => place,
        Err(_) => return false,
    };
    let (api, caller, out, number) = (Arc::clone(api), Arc::clone(caller), out.clone(), line.number);
    tokio::spawn(async move {
        let (text, _kept) = match api.answer_in(raw, &caller, place).await {
            Ok((mut answer, kept)) => {
                if answer.line.verdict == "refused" {
                    answer.line.line = Some(number);
                }
                (serde_json::to_string(&Told::from(&answer)).unwrap_or_default() + "\n", Some(kept))
            }
            // Nothing was released for it: the caller asks again.
            Err(why) => {
                let told = serde_json::json!({ "line": number, "verdict": "unanswered", "message": why.to_string() });
                (format!("{told}\n"), None)
            }
        };
        // Its place is free once its answer is on its way: who does not read is held back too.
        let _ = out.send(Ok(text)).await;
    });
    true
}

/// One line, or why it is none.
struct Line {
    number: u64,
    text: Result<Vec<u8>, String>,
}

/// Cuts a stream into lines of bounded length.
#[derive(Default)]
struct Lines {
    held: Vec<u8>,
    too_long: bool,
    number: u64,
}

impl Lines {
    fn push(&mut self, data: &[u8]) -> Vec<Line> {
        let mut found = Vec::new();
        let mut parts = data.split(|octet| *octet == b'\n').peekable();
        while let Some(part) = parts.next() {
            if self.held.len() + part.len() > LINE_BYTES_MAX {
                self.too_long = true;
                self.held.clear();
            } else if !self.too_long {
                self.held.extend_from_slice(part);
            }
            if parts.peek().is_some() {
                found.extend(self.end());
            }
        }
        found
    }

    /// What stands after the last line's end.
    fn rest(&mut self) -> Option<Line> {
        self.end()
    }

    /// The line that ends here; none if it is empty.
    fn end(&mut self) -> Option<Line> {
        self.number += 1;
        let text = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.too_long) {
            let text = Err(format!("longer than {LINE_BYTES_MAX} octets"));
            return Some(Line { number: self.number, text });
        }
        let is_empty = text.iter().all(u8::is_ascii_whitespace);
        (!is_empty).then_some(Line { number: self.number, text: Ok(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(parts: &[&[u8]]) -> Vec<(u64, Option<String>)> {
        let mut cut = Lines::default();
        let mut found: Vec<Line> = parts.iter().flat_map(|part| cut.push(part)).collect();
        found.extend(cut.rest());
        let shown = |line: Line| (line.number, line.text.ok().map(|text| String::from_utf8_lossy(&text).into_owned()));
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn ok_lines_are_the_same_however_the_stream_is_cut() {
        let whole = b"{\"a\":1}\n\n  \r\n{\"b\":2}\r\n{\"c\":3}";
        let expected = lines(&[whole]);
        assert_eq!(expected.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 4, 5]);
        for at in 0..whole.len() {
            assert_eq!(lines(&[&whole[..at], &whole[at..]]), expected, "cut at {at}");
        }
        let octets: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(lines(&octets), expected);
    }

    #[test]
    fn err_a_line_that_is_too_long_is_one_bad_line_and_no_more() {
        let long = vec![b'a'; LINE_BYTES_MAX];
        let found = lines(&[&long, &long, b"a\n{}\n", &long, b"\n"]);
        assert_eq!(found[0], (1, None));
        assert_eq!(found[1], (2, Some("{}".to_owned())));
        assert!(found[2].1.as_ref().is_some_and(|line| line.len() == LINE_BYTES_MAX), "just as long as may be");
    }
}
