//! What the node serves besides the link: Boulder's remote validation authority, and Open MPIC's checkers. Both look
//! through the desk and are judged by `validation`; their words are `parallax_protocol::boulder`'s and `::open_mpic`'s.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use crossbeam::channel::{Sender, TrySendError, bounded};
use jiff::Timestamp;
use parallax_protocol::{
    boulder::{self, Audit, AuditLine, Looks, SystemClock},
    open_mpic::{self, CheckerSettings, Reply, Unavailable},
};
use parallax_validation::{
    base::{
        perspective::{Coordinates, Perspective, ResolverSite, Role},
        suffix::Suffixes,
    },
    check::caa::authorize::CaaPolicy,
    observation::Observation,
    plan::{Plan, PlanLimits},
    request::RequestRules,
};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    config::NodeConfig,
    desk::{Desk, LookError},
};

/// The longest body of Open MPIC's calls, octets.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Audit lines that wait to be written.
const AUDIT_LINES_MAX: usize = 65_536;

/// The desk, as Boulder's services look through it.
#[derive(Clone)]
pub struct DeskLooks(pub Arc<Desk>);

impl Looks for DeskLooks {
    async fn look(&self, plan: Plan, _deadline: Instant) -> Result<Observation, boulder::LookError> {
        // The plan's own limits end before the deadline.
        self.0.look(plan).await.map_err(|error| match error {
            LookError::Overloaded => boulder::LookError::Overloaded,
            LookError::Stopped => boulder::LookError::Stopped,
        })
    }
}

/// Boulder's services of this program.
pub type BoulderServer = boulder::Server<DeskLooks, SystemClock, AuditOut>;

/// Audit lines on standard output, one JSON object a line, written by a thread of their own.
#[derive(Clone)]
pub struct AuditOut {
    lines: Sender<String>,
    lost: Arc<AtomicU64>,
}

impl AuditOut {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread.
    pub fn start() -> std::io::Result<Self> {
        let (lines, waiting) = bounded::<String>(AUDIT_LINES_MAX);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let mut out = std::io::BufWriter::new(std::io::stdout());
            for line in &waiting {
                // Who reads them may be gone; then there is nowhere to write to.
                let _ = out.write_all(line.as_bytes());
                if waiting.is_empty() {
                    let _ = out.flush();
                }
            }
        })?;
        Ok(Self { lines, lost: Arc::default() })
    }

    /// Lines that were lost because whoever reads standard output was too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Audit for AuditOut {
    fn write(&self, line: &AuditLine) {
        let mut object = serde_json::json!({ "ts": Timestamp::now().to_string(), "event": "boulder_call" });
        if let (Ok(serde_json::Value::Object(fields)), Some(object)) =
            (serde_json::to_value(line), object.as_object_mut())
        {
            object.extend(fields);
        }
        match self.lines.try_send(format!("{object}\n")) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => _ = self.lost.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// `[open_mpic]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenMpicSection {
    /// The CA's names in CAA records; a call may name some of them.
    pub issuer_domains: Vec<String>,
    /// Whether bit 1 of a CAA record's flags is critical as 128 is.
    #[serde(default = "yes")]
    pub flags_one_is_critical: bool,
    /// How long each part of a check may take.
    #[serde(default)]
    pub limits: PlanLimits,
}

fn yes() -> bool {
    true
}

/// What Open MPIC's calls share.
struct Checker {
    desk: Arc<Desk>,
    perspective: Perspective,
    caa: CaaPolicy,
    suffixes: Suffixes,
    rules: RequestRules,
    limits: PlanLimits,
    next: AtomicU64,
}

/// `POST /caa`, `POST /dcv`, `GET /healthz` and `GET /configz`.
pub fn checker(desk: Arc<Desk>, node: &NodeConfig, section: &OpenMpicSection) -> Router {
    // No distance is measured here, so where it is does not matter.
    let coordinates = Coordinates { latitude: 0.0, longitude: 0.0 };
    let perspective = Perspective {
        id: node.perspective.clone(),
        role: Role::Remote,
        rir: node.rir,
        coordinates,
        as_number: 0,
        provider: String::new(),
        resolver: ResolverSite { name: node.resolver.to_string(), rir: node.rir, coordinates },
    };
    let caa = CaaPolicy {
        issuer_domains: section.issuer_domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        flags_one_is_critical: section.flags_one_is_critical,
        ..CaaPolicy::default()
    };
    let checker = Arc::new(Checker {
        desk,
        perspective,
        caa,
        suffixes: Suffixes::default(),
        rules: node.address_filter().into(),
        limits: section.limits,
        next: AtomicU64::new(1),
    });
    Router::new()
        .route("/caa", post(caa_check))
        .route("/dcv", post(dcv_check))
        .route("/healthz", get(|| async { response(open_mpic::healthz()) }))
        .route("/configz", get(configz))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(checker)
}

fn response(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "application/json")], reply.body).into_response()
}

impl Checker {
    fn id(&self) -> String {
        format!("call-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn settings<'a>(&'a self, id: &'a str) -> CheckerSettings<'a> {
        CheckerSettings {
            perspective: &self.perspective,
            caa: &self.caa,
            suffixes: &self.suffixes,
            rules: &self.rules,
            limits: self.limits,
            now: Timestamp::now(),
            id,
        }
    }

    async fn look(&self, plan: Plan) -> Result<Observation, Unavailable> {
        self.desk.look(plan).await.map_err(|error| match error {
            LookError::Overloaded => Unavailable::Overloaded,
            LookError::Stopped => Unavailable::Stopped,
        })
    }
}

async fn caa_check(State(checker): State<Arc<Checker>>, body: Bytes) -> Response {
    let id = checker.id();
    response(open_mpic::check_caa(&body, &checker.settings(&id), |plan| checker.look(plan)).await)
}

async fn dcv_check(State(checker): State<Arc<Checker>>, body: Bytes) -> Response {
    let id = checker.id();
    response(open_mpic::check_dcv(&body, &checker.settings(&id), |plan| checker.look(plan)).await)
}

async fn configz(State(checker): State<Arc<Checker>>) -> Response {
    response(open_mpic::checker_configz(env!("CARGO_PKG_VERSION"), &checker.settings("configz")))
}
