//! The side of a node: `POST /caa` and `POST /dcv`.
//!
//! A node looks once and judges what it saw by the same rules as the engine does. Corroboration is its caller's.

use jiff::Timestamp;
use parallax_validation::{
    base::{
        perspective::{Perspective, Role},
        suffix::Suffixes,
    },
    check::{caa::authorize::CaaPolicy, judge_with},
    explain::{Seen, explain},
    observation::Observation,
    plan::{Plan, PlanLimits},
    record::{Reply as Answered, perspective_record},
    request::{CheckRequest, RequestRules},
    verdict::{Answer, Refusal, Verdict},
};
use serde::Serialize;

use super::{
    About, Reply, Unavailable,
    request::{Asked, Endpoint, ISSUES_MAX, Issue},
    response::{CheckResponse, check_response},
    translate::{Context, translate},
};

/// What a call to a node is answered with.
#[derive(Clone, Copy, Debug)]
pub struct CheckerSettings<'a> {
    /// The node's own perspective.
    pub perspective: &'a Perspective,
    /// How CAA is judged, and the names that stand for the CA.
    pub caa: &'a CaaPolicy,
    /// Suffix lists that judgements rest on.
    pub suffixes: &'a Suffixes,
    /// What requests are held against.
    pub rules: &'a RequestRules,
    /// How long each part of a check may take.
    pub limits: PlanLimits,
    /// The time.
    pub now: Timestamp,
    /// Names the request, if its trace identifier cannot; a lawful request id.
    pub id: &'a str,
}

/// Answers `POST /caa`. `look` carries out a plan.
pub async fn check_caa<A, F>(body: &[u8], settings: &CheckerSettings<'_>, look: A) -> Reply
where
    A: FnOnce(Plan) -> F,
    F: Future<Output = Result<Observation, Unavailable>>,
{
    match check(body, Endpoint::Caa, settings, look).await {
        Ok(response) => Reply::json(200, &response),
        Err(reply) => reply,
    }
}

/// Answers `POST /dcv`. `look` carries out a plan. As in Open MPIC, the status is 500 if there are errors, and the
/// body the same.
pub async fn check_dcv<A, F>(body: &[u8], settings: &CheckerSettings<'_>, look: A) -> Reply
where
    A: FnOnce(Plan) -> F,
    F: Future<Output = Result<Observation, Unavailable>>,
{
    match check(body, Endpoint::Dcv, settings, look).await {
        Ok(response) => {
            let has_errors = response.errors.as_ref().is_some_and(|errors| !errors.is_empty());
            Reply::json(if has_errors { 500 } else { 200 }, &response)
        }
        Err(reply) => reply,
    }
}

async fn check<A, F>(
    body: &[u8],
    endpoint: Endpoint,
    settings: &CheckerSettings<'_>,
    look: A,
) -> Result<CheckResponse, Reply>
where
    A: FnOnce(Plan) -> F,
    F: Future<Output = Result<Observation, Unavailable>>,
{
    let (asked, request) = understand(body, endpoint, settings).map_err(|issues| unprocessable(&issues))?;
    let plan = Plan::new(&request, settings.limits, None);
    let observation = look(plan).await.map_err(Unavailable::reply)?;
    Ok(judged(&asked, &request, settings, observation))
}

fn understand(
    body: &[u8],
    endpoint: Endpoint,
    settings: &CheckerSettings<'_>,
) -> Result<(Asked, CheckRequest), Vec<Issue>> {
    let asked = super::request::read(body, endpoint)?;
    let issuer_domains = &settings.caa.issuer_domains;
    let context = Context { issuer_domains, rules: settings.rules, now: settings.now, id: settings.id, account: None };
    let request = translate(&asked, &context, None)?;
    Ok((asked, request))
}

fn unprocessable(issues: &[Issue]) -> Reply {
    #[derive(Serialize)]
    struct Body<'a> {
        detail: &'a [Issue],
    }
    Reply::json(422, &Body { detail: issues.get(..ISSUES_MAX).unwrap_or(issues) })
}

/// Judges what was seen, as a remote's.
fn judged(
    asked: &Asked,
    request: &CheckRequest,
    settings: &CheckerSettings<'_>,
    observation: Observation,
) -> CheckResponse {
    let determination = judge_with(request, &observation, settings.caa, settings.suffixes, Role::Remote);
    let answer = Answer::Determined(determination);
    // Nothing is counted here; what is wanted is what one perspective met.
    let verdict = Verdict::Refused { refusal: Refusal::Primary(answer.state()), figures: None };
    let seen = Seen { perspective: settings.perspective, observation: Some(&observation), answer: &answer };
    let told = explain(request, &verdict, &[seen]).parts.into_iter().next().map(|part| part.detail);
    let part = perspective_record(&settings.perspective.id, &answer, Some(Answered::Observed(observation)));
    check_response(asked, request, &part, told.as_deref(), settings.now)
}

/// Answers `GET /configz` of a node, which is checker of CAA and of control in one. `app_version` is the program's.
#[must_use]
pub fn checker_configz(app_version: &str, settings: &CheckerSettings<'_>) -> Reply {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(flatten)]
        about: About<'a>,
        default_caa_domains: &'a [String],
        dns_timeout_seconds: f64,
        dns_resolution_lifetime_seconds: f64,
        verify_ssl: bool,
        http_client_timeout_seconds: f64,
    }
    let limits = settings.limits;
    let seconds = |ms: u32| f64::from(ms) / 1000.0;
    let body = Body {
        about: About::new(app_version),
        default_caa_domains: &settings.caa.issuer_domains,
        dns_timeout_seconds: seconds(limits.dns_try_ms),
        dns_resolution_lifetime_seconds: seconds(limits.dns_try_ms) * f64::from(limits.dns_transmissions),
        // A certificate is what is being obtained; those of redirects are written down, and not judged.
        verify_ssl: false,
        http_client_timeout_seconds: seconds(limits.http_response_ms),
    };
    Reply::json(200, &body)
}
