//! The API of Open MPIC, as functions from bodies to bodies.
//!
//! [`corroborate`] is the coordinator's `POST /mpic`, [`check_caa`] and [`check_dcv`] are a node's `POST /caa` and
//! `POST /dcv`. Sockets, paths and authentication are left to whoever calls; so is the engine, which is asked through a
//! function. `docs/open-mpic.md` lists what is served, and where and why it differs.
//!
//! * [`request`]: bodies of requests, read leniently, and what is wrong with them;
//! * [`translate`]: what they mean in our own terms;
//! * [`response`]: what came of them;
//! * [`checker`]: the side of a node.
//!
//! Invariant: nothing here judges. A check passed if our own judgement says so, and `is_valid` is what the record
//! permits.

pub mod checker;
pub mod request;
pub mod response;
pub mod translate;

use jiff::Timestamp;
use parallax_validation::{
    record::Record,
    request::{CheckRequest, RequestRules},
};
use serde::Serialize;
use thiserror::Error;

pub use self::checker::{CheckerSettings, check_caa, check_dcv, checker_configz};
use self::{
    request::{Asked, Endpoint, Issue},
    response::{MpicResponse, PerspectiveElement},
    translate::{Context, Counting},
};

/// The version of the interface that is spoken.
pub const API_VERSION: &str = "3.9.0";

/// What an answer is made of: a status code, and a body in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body, `application/json`.
    pub body: String,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(body) => Self { status, body },
            // Only text, numbers and lists are written, which cannot fail.
            Err(_) => Self { status: 500, body: r#"{"error":"the answer could not be written"}"#.to_owned() },
        }
    }

    fn error(status: u16, text: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": text }))
    }

    fn refused(issues: &[Issue]) -> Self {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'static str,
            validation_issues: &'a [Issue],
        }
        Self::json(400, &Body { error: "request-validation-failed", validation_issues: issues })
    }
}

/// Why no attempt could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// Too much is being done already.
    #[error("overloaded; try again later")]
    Overloaded,
    /// The program is stopping, or has a fault of its own.
    #[error("not in service; try again later")]
    Stopped,
    /// The caller's own limit.
    #[error("too many requests of this caller; try again later")]
    Limit,
}

impl Unavailable {
    fn reply(self) -> Reply {
        let status = match self {
            Self::Overloaded | Self::Stopped => 503,
            Self::Limit => 429,
        };
        Reply::error(status, &self.to_string())
    }
}

/// What a call to the coordinator is answered with.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Remotes of an attempt.
    pub remotes: u8,
    /// How many of them may fail to corroborate under the rules in force.
    pub allowed: u8,
    /// The names that stand for the CA.
    pub issuer_domains: &'a [String],
    /// What requests are held against.
    pub rules: &'a RequestRules,
    /// Attempts of one call at most.
    pub attempts_max: u32,
    /// The time.
    pub now: Timestamp,
    /// Names the request, if its trace identifier cannot; unique, and a lawful request id.
    pub id: &'a str,
    /// Who calls, for fairness.
    pub account: Option<&'a str>,
}

/// Attempts of one call, unless settings say otherwise.
pub const ATTEMPTS_MAX: u32 = 3;

/// Answers `POST /mpic`. `ask` makes one attempt; it is called again until one permits, as often as the request and the
/// settings allow, and nothing is carried over (TLS BR 2.3.1 §3.2.2.9).
pub async fn corroborate<A, F>(body: &[u8], settings: &Settings<'_>, mut ask: A) -> Reply
where
    A: FnMut(CheckRequest) -> F,
    F: Future<Output = Result<Record, Unavailable>>,
{
    let (asked, counting, request) = match understand(body, settings) {
        Ok(understood) => understood,
        Err(issues) => return Reply::refused(&issues),
    };
    let mut previous: Vec<Vec<PerspectiveElement>> = Vec::new();
    let mut attempt = 1;
    loop {
        let record = match ask(request.clone()).await {
            Ok(record) => record,
            Err(unavailable) => return unavailable.reply(),
        };
        let perspectives = response::remotes(&asked, &record);
        if record.permits() || attempt >= counting.attempts {
            return Reply::json(200, &MpicResponse::new(&asked, &counting, attempt, &record, perspectives, previous));
        }
        previous.push(perspectives);
        attempt += 1;
    }
}

/// What a body asks for: everything that is wrong with it, or else what is to be carried out.
fn understand(body: &[u8], settings: &Settings<'_>) -> Result<(Asked, Counting, CheckRequest), Vec<Issue>> {
    let asked = request::read(body, Endpoint::Mpic)?;
    let Settings { issuer_domains, rules, now, id, account, .. } = *settings;
    let context = Context { issuer_domains, rules, now, id, account };
    let counting =
        translate::counting(asked.orchestration.as_ref(), settings.remotes, settings.allowed, settings.attempts_max);
    let translated = translate::translate(&asked, &context, counting.as_ref().ok());
    match (counting, translated) {
        (Ok(counting), Ok(request)) => Ok((asked, counting, request)),
        (counting, translated) => {
            let mut issues = counting.err().unwrap_or_default();
            issues.extend(translated.err().unwrap_or_default());
            issues.truncate(request::ISSUES_MAX);
            Err(issues)
        }
    }
}

/// Answers `GET /healthz`: it says that the program answers, and nothing more.
#[must_use]
pub fn healthz() -> Reply {
    Reply::json(200, &serde_json::json!({ "status": "healthy" }))
}

/// What `configz` says of every service. There are no uvicorn and no core of Open MPIC here, so their members are null.
#[derive(Clone, Copy, Debug, Serialize)]
struct About<'a> {
    open_mpic_api_spec_version: &'static str,
    app_version: &'a str,
    mpic_core_version: Option<&'static str>,
    log_level: Option<&'static str>,
    uvicorn_server_timeout_keep_alive: Option<u32>,
}

impl<'a> About<'a> {
    fn new(app_version: &'a str) -> Self {
        Self {
            open_mpic_api_spec_version: API_VERSION,
            app_version,
            mpic_core_version: None,
            log_level: None,
            uvicorn_server_timeout_keep_alive: None,
        }
    }
}

/// Answers `GET /configz` of the coordinator. `app_version` is the program's; `timeout_ms` is how long a perspective
/// may take.
#[must_use]
pub fn configz(app_version: &str, settings: &Settings<'_>, timeout_ms: u32) -> Reply {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(flatten)]
        about: About<'a>,
        absolute_max_attempts: u32,
        default_perspective_count: u8,
        http_client_timeout_seconds: f64,
        http_client_keepalive_timeout_seconds: Option<u32>,
    }
    let body = Body {
        about: About::new(app_version),
        absolute_max_attempts: settings.attempts_max.max(1),
        default_perspective_count: settings.remotes,
        http_client_timeout_seconds: f64::from(timeout_ms) / 1000.0,
        http_client_keepalive_timeout_seconds: None,
    };
    Reply::json(200, &body)
}
