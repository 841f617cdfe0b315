//! Open MPIC's coordinator API over our rules: bodies are translated in `parallax_protocol::open_mpic`.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Extension, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use parallax_protocol::{
    open_mpic::{self, Reply, Settings, Unavailable},
    transport::Caller,
};
use parallax_validation::{record::Rules, request::CheckRequest};

use super::{
    OpenMpicSection,
    api::Api,
    callers::Right,
    desk::{self, FrontDesk},
};
use crate::{answer::made_up_id, config::Config};

/// The longest body, octets.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the routes share.
struct Coordinator {
    api: Arc<Api>,
    rules: Rules,
    section: OpenMpicSection,
    timeout_ms: u32,
}

/// `POST /mpic`, also with the double slash that some clients send, `GET /healthz` and `GET /configz`.
pub fn router(api: Arc<Api>, section: OpenMpicSection, config: &Config) -> Router {
    let limits = config.rules.setup().limits;
    let timeout_ms = limits.task_deadline_ms + config.engine.reply_grace_ms;
    let coordinator = Arc::new(Coordinator { api, rules: config.rules.clone(), section, timeout_ms });
    Router::new()
        .route("/mpic", post(mpic))
        .route("//mpic", post(mpic))
        .route("/healthz", get(|| async { response(open_mpic::healthz()) }))
        .route("/configz", get(configz))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(coordinator)
}

fn response(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "application/json")], reply.body).into_response()
}

impl Coordinator {
    /// Settings of a call at this instant; none if no quorum is possible now.
    fn settings<'a>(&'a self, id: &'a str, account: Option<&'a str>, now: Timestamp) -> Option<Settings<'a>> {
        let setup = self.rules.setup();
        let remotes = setup.conduct.draw.map_or(self.rules.remotes().len(), |draw| usize::from(draw.remotes));
        let remotes = u8::try_from(remotes).ok()?;
        let allowed = self.rules.table().row_at(now)?.allowed(remotes)?;
        Some(Settings {
            remotes,
            allowed,
            issuer_domains: &setup.caa.issuer_domains,
            rules: &self.api.rules,
            attempts_max: self.section.attempts_max,
            now,
            id,
            account,
        })
    }
}

async fn mpic(State(coordinator): State<Arc<Coordinator>>, caller: Option<Extension<Caller>>, body: Bytes) -> Response {
    let api = &coordinator.api;
    let known = match api.permit(caller.as_deref(), Right::OpenMpic) {
        Ok(known) => known,
        Err(denied) => return denied.into_response(),
    };
    let id = made_up_id();
    let Some(settings) = coordinator.settings(&id, None, Timestamp::now()) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "{\"error\":\"no quorum is possible now\"}").into_response();
    };
    let desk: &FrontDesk = &api.desk;
    let (places, caller) = (&known.places, known.name.as_str());
    let ask = |request: CheckRequest| async move {
        let place = desk.admit_now(places).map_err(unavailable)?;
        let request = CheckRequest { caller: Some(caller.to_owned()), ..request };
        desk.corroborate(request, place).await.map(|(record, _)| *record).map_err(unavailable)
    };
    response(open_mpic::corroborate(&body, &settings, ask).await)
}

fn unavailable(why: desk::Unavailable) -> Unavailable {
    match why {
        desk::Unavailable::CallerBusy => Unavailable::Limit,
        desk::Unavailable::Busy => Unavailable::Overloaded,
        desk::Unavailable::Stopped => Unavailable::Stopped,
    }
}

async fn configz(State(coordinator): State<Arc<Coordinator>>) -> Response {
    match coordinator.settings("configz", None, Timestamp::now()) {
        Some(settings) => response(open_mpic::configz(env!("CARGO_PKG_VERSION"), &settings, coordinator.timeout_ms)),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
