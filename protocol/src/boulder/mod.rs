//! A perspective node as a remote validation authority of Boulder's: the services `va.VA` and `va.CAA`.
//!
//! What a call asks for becomes a [`CheckRequest`] and a [`Plan`], the node looks, and the same rules as everywhere
//! judge what it saw. A validation that fails, for whatever reason, is a good call with a problem; only a message that a
//! working caller never sends, or one that comes too late, is an error of the call.
//!
//! Left to whoever runs it: connections and who may call ([`VaServer`] and [`CaaServer`] take interceptors), and health.
//! The caller watches the empty service name, and may ask for `va.VA` and `va.CAA`: all three must be SERVING.
//!
//! Invariant: an answer goes out before the caller's deadline, however long the node looks. Invariant: no text and no
//! audit line holds the key authorization.
//!
//! [`VaServer`]: crate::wire::va::va_server::VaServer
//! [`CaaServer`]: crate::wire::va::caa_server::CaaServer

mod audit;
mod call;
mod reply;
mod request;
mod settings;

use std::time::Duration;

use jiff::Timestamp;
use parallax_validation::{
    base::perspective::{PerspectiveId, Rir, Role},
    check::{Determination, caa::authorize::CaaPolicy, judge_with},
    explain::explain_one,
    observation::{ControlObservation, Observation},
    plan::{ControlPlan, Plan},
    problem::ProblemKind,
    request::{CheckRequest, RequestRules},
};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

use self::{
    audit::Call,
    call::{shown, work_until},
    reply::Problem,
    request::{Caa, Dcv},
};
pub use self::{
    audit::{Audit, AuditIdentifier, AuditLine, AuditProblem, Counters, Ending, Operation},
    settings::{Settings, SettingsError, rir_in_boulder},
};
use crate::wire::va::{
    IsCaaValidRequest, IsCaaValidResponse, PerformValidationRequest, ValidationResult, caa_server, va_server,
};

/// What a fetch is given less than other work, so that there is something to tell of one that hangs.
const FETCH_MARGIN: Duration = Duration::from_millis(200);
/// How long after its deadline a look is waited for; less than what is left of the caller's.
const LOOK_GRACE: Duration = Duration::from_millis(10);

/// Why a node did not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LookError {
    /// It has as many tasks as it can carry out.
    #[error("the node has as many tasks as it can carry out")]
    Overloaded,
    /// It is being stopped.
    #[error("the node is being stopped")]
    Stopped,
}

/// Carries out plans.
pub trait Looks: Send + Sync + 'static {
    /// Carries out a plan. What is not done by `deadline` is not waited for much longer; the plan's own limits end
    /// before.
    fn look(&self, plan: Plan, deadline: Instant) -> impl Future<Output = Result<Observation, LookError>> + Send;
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What a server needs of its node.
#[derive(Clone, Debug)]
pub struct Node<L, C, A> {
    /// Its name.
    pub perspective: PerspectiveId,
    /// Its region.
    pub rir: Rir,
    /// What requests are held against.
    pub rules: RequestRules,
    /// What looks.
    pub looks: L,
    /// The clock.
    pub clock: C,
    /// Where audit lines go.
    pub audit: A,
}

/// Both services. One value serves both, within an `Arc`.
#[derive(Debug)]
pub struct Server<L, C, A> {
    settings: Settings,
    policy: CaaPolicy,
    perspective: String,
    rir: String,
    node: Node<L, C, A>,
    counters: Counters,
}

impl<L: Looks, C: Clock, A: Audit> Server<L, C, A> {
    /// A server with these settings.
    ///
    /// # Errors
    /// A setting that cannot be.
    pub fn new(settings: Settings, node: Node<L, C, A>) -> Result<Self, SettingsError> {
        settings.check()?;
        Ok(Self {
            policy: settings.policy(),
            perspective: settings.perspective.clone().unwrap_or_else(|| node.perspective.to_string()),
            rir: settings.rir.clone().unwrap_or_else(|| rir_in_boulder(node.rir).to_owned()),
            settings,
            node,
            counters: Counters::default(),
        })
    }

    /// Calls so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    async fn dcv(&self, request: Request<PerformValidationRequest>) -> Result<ValidationResult, Status> {
        let (received, now) = (Instant::now(), self.node.clock.now());
        let until = work_until(request.metadata(), received, now)?;
        let asked = Dcv::read(request.into_inner())?;
        let line = self.line(Operation::Dcv, (asked.authz, asked.account), &asked.identifier, &asked.method);
        let mut call = Call::new(&self.node.audit, &self.counters, received, line);
        let (records, problem) = match asked.parse(&self.settings, &self.node.rules, now) {
            Err(problem) => (Vec::new(), Some(problem)),
            Ok(request) => match self.look(&request, until).await {
                Err(problem) => (Vec::new(), Some(problem)),
                Ok(observation) => {
                    let connected = observation.control.iter().flat_map(ControlObservation::connected);
                    call.line.addresses_tried = connected.collect();
                    (reply::records(&request, &observation), self.control_problem(&request, &observation))
                }
            },
        };
        call.end(problem.as_ref());
        Ok(ValidationResult {
            records,
            problem: problem.as_ref().map(Problem::to_wire),
            perspective: self.perspective.clone(),
            rir: self.rir.clone(),
        })
    }

    async fn caa(&self, request: Request<IsCaaValidRequest>) -> Result<IsCaaValidResponse, Status> {
        let (received, now) = (Instant::now(), self.node.clock.now());
        let until = work_until(request.metadata(), received, now)?;
        let asked = Caa::read(request.into_inner())?;
        let line = self.line(Operation::Caa, (asked.authz, asked.account), &asked.identifier, asked.method.label());
        let call = Call::new(&self.node.audit, &self.counters, received, line);
        let problem = match asked.parse(&self.settings, &self.node.rules, now) {
            Err(problem) => Some(problem),
            Ok(requests) => self.caa_problem(&requests, until).await,
        };
        call.end(problem.as_ref());
        Ok(IsCaaValidResponse {
            problem: problem.as_ref().map(Problem::to_wire),
            perspective: self.perspective.clone(),
            rir: self.rir.clone(),
        })
    }

    /// Why control was not shown; none if it was.
    fn control_problem(&self, request: &CheckRequest, observation: &Observation) -> Option<Problem> {
        let determination = self.judge(request, observation);
        if determination.confirms() {
            return None;
        }
        let part = explain_one(request, &self.node.perspective, &determination, observation);
        Some(part.map_or_else(unexplained, |part| Problem::of_control(request, part, observation)))
    }

    /// Why none of these may be; none if one may. They differ in the account's URI alone, so one look is enough.
    async fn caa_problem(&self, requests: &[CheckRequest], until: Instant) -> Option<Problem> {
        let Some(first) = requests.first() else { return Some(Problem::ours("no account URI to check CAA for")) };
        let observation = match self.look(first, until).await {
            Ok(observation) => observation,
            Err(problem) => return Some(problem),
        };
        if requests.iter().any(|request| self.judge(request, &observation).confirms()) {
            return None;
        }
        let part = explain_one(first, &self.node.perspective, &self.judge(first, &observation), &observation);
        Some(part.map_or_else(unexplained, |part| Problem::of_caa(first, part)))
    }

    fn judge(&self, request: &CheckRequest, observation: &Observation) -> Determination {
        judge_with(request, observation, &self.policy, &self.node.rules.suffixes, Role::Remote)
    }

    /// What the node sees of what a request needs, with work going on until then and no longer.
    async fn look(&self, request: &CheckRequest, until: Instant) -> Result<Observation, Problem> {
        let mut plan = Plan::new(request, self.settings.limits, None);
        let is_fetch = matches!(plan.control, Some(ControlPlan::Http { .. }));
        let margin = if is_fetch { FETCH_MARGIN } else { Duration::ZERO };
        let left = until.saturating_duration_since(Instant::now()).saturating_sub(margin);
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let too_late = || {
            let detail = "The time left for the check is too short to connect to anything; nothing was sent.";
            Problem::new(ProblemKind::Connection, detail)
        };
        plan.limits = self.settings.limits_within(left_ms).ok_or_else(too_late)?;
        let deadline = until.checked_sub(margin).ok_or_else(too_late)?;
        match timeout_at(until + LOOK_GRACE, self.node.looks.look(plan, deadline)).await {
            Ok(Ok(observation)) => Ok(observation),
            Ok(Err(error)) => Err(Problem::ours(error.to_string())),
            Err(_) => Err(Problem::ours("the node did not end its look in time")),
        }
    }

    fn line(
        &self,
        operation: Operation,
        (authz, requester): (i64, i64),
        identifier: &crate::wire::core::Identifier,
        method: &str,
    ) -> AuditLine {
        AuditLine {
            operation,
            authz,
            requester,
            identifier: AuditIdentifier { kind: shown(&identifier.r#type), value: call::shown_name(&identifier.value) },
            method: shown(method),
            problem: None,
            internal_error: None,
            latency_ms: 0,
            perspective: self.perspective.clone(),
            rir: self.rir.clone(),
            addresses_tried: Vec::new(),
        }
    }

    fn answer<T>(&self, operation: Operation, result: Result<T, Status>) -> Result<Response<T>, Status> {
        if result.is_err() {
            self.counters.count(operation, Ending::Refused);
        }
        result.map(Response::new)
    }
}

/// What does not confirm has a reason; should it have none, it still does not confirm.
fn unexplained() -> Problem {
    Problem::ours("it was not confirmed, and no reason was found")
}

#[tonic::async_trait]
impl<L: Looks, C: Clock, A: Audit> va_server::Va for Server<L, C, A> {
    async fn do_dcv(&self, request: Request<PerformValidationRequest>) -> Result<Response<ValidationResult>, Status> {
        let result = self.dcv(request).await;
        self.answer(Operation::Dcv, result)
    }
}

#[tonic::async_trait]
impl<L: Looks, C: Clock, A: Audit> caa_server::Caa for Server<L, C, A> {
    async fn do_caa(&self, request: Request<IsCaaValidRequest>) -> Result<Response<IsCaaValidResponse>, Status> {
        let result = self.caa(request).await;
        self.answer(Operation::Caa, result)
    }
}
