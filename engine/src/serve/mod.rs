//! `parallax serve`: the engine as a service, for callers with certificates.
//!
//! ```text
//! gRPC ─┐
//! REST ─┼─▶ who may ─▶ request, parsed ─▶ front desk ─▶ engine ─▶ record, durable ─▶ answer
//! mpic ─┘                                            (protocol::open_mpic translates both ways)
//! ```

pub mod api;
pub mod callers;
pub mod desk;
pub mod open_mpic;
pub mod rest;
pub mod telemetry;

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    middleware::{Next, from_fn},
    response::IntoResponse as _,
};
use parallax_protocol::{
    open_mpic::ATTEMPTS_MAX,
    transport::{Identity, IdentityError, ServeLimits, routes, serve, serve_plain},
    wire::api::corroboration_server::CorroborationServer,
};
use serde::Deserialize;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
};
use tonic::Status;

use self::{
    api::{Api, Grpc},
    callers::{CallerSection, Callers},
    desk::FrontDesk,
    telemetry::{Telemetry, Watched},
};
use crate::{
    config::Config,
    corroborate::{Corroborator, EngineError},
    journal::JournalError,
    log::{Event, Log, LogForm},
    upkeep,
};

/// How often it is seen whether the engine goes on.
const TICK: Duration = Duration::from_millis(200);
/// The longest message from a caller, octets: a full batch of requests, which are rarely half as long.
const FROM_CALLER_BYTES_MAX: usize = 1 << 20;
/// The longest question about health.
const HEALTH_BYTES_MAX: usize = 4096;
/// Requests at a time on one connection: callers with many use a stream.
const STREAMS_MAX: u32 = 1024;

/// `[serve]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeSection {
    /// Where callers come in, over TLS 1.3 with certificates on both sides.
    pub listen: SocketAddr,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, without TLS: a loopback address.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// Requests of all callers that may wait or be under way at once.
    #[serde(default = "in_flight")]
    pub in_flight_max: usize,
    /// Connections at a time.
    #[serde(default = "connections")]
    pub connections_max: usize,
    /// How long requests under way may go on when the engine is told to stop, milliseconds.
    #[serde(default = "drain")]
    pub drain_ms: u64,
    /// How Open MPIC's API is served.
    #[serde(default)]
    pub open_mpic: OpenMpicSection,
    /// Who may ask for what.
    #[serde(default)]
    pub caller: Vec<CallerSection>,
}

fn in_flight() -> usize {
    20_000
}

fn connections() -> usize {
    1024
}

fn drain() -> u64 {
    40_000
}

/// `[serve.open_mpic]`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenMpicSection {
    /// Attempts that one call may ask for, at most.
    pub attempts_max: u32,
}

impl Default for OpenMpicSection {
    fn default() -> Self {
        Self { attempts_max: ATTEMPTS_MAX }
    }
}

impl ServeSection {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// The key at fault and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, problem: &str| Err((format!("serve.{key}"), problem.to_owned()));
        if self.metrics.is_some_and(|address| !address.ip().is_loopback()) {
            return wrong("metrics", "not a loopback address; figures are served without TLS and to anybody");
        }
        if !(1..=1_000_000).contains(&self.in_flight_max) {
            return wrong("in_flight_max", "not in 1..=1000000");
        }
        if !(1..=100_000).contains(&self.connections_max) {
            return wrong("connections_max", "not in 1..=100000");
        }
        if self.drain_ms > 600_000 {
            return wrong("drain_ms", "above ten minutes");
        }
        if !(1..=10).contains(&self.open_mpic.attempts_max) {
            return wrong("open_mpic.attempts_max", "not in 1..=10");
        }
        let mut names = std::collections::HashSet::new();
        for caller in &self.caller {
            let is_name = !caller.name.is_empty()
                && caller.name.len() <= 253
                && caller.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
            if !is_name {
                return wrong("caller.name", "not a DNS name; wildcards are not understood here");
            }
            if !names.insert(caller.name.to_ascii_lowercase()) {
                return wrong("caller.name", &format!("{} is there twice", caller.name));
            }
            if !(1..=self.in_flight_max).contains(&caller.in_flight_max) {
                return wrong("caller.in_flight_max", "not in 1..=serve.in_flight_max");
            }
        }
        Ok(())
    }
}

/// Why an engine does not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A setting that serving needs.
    #[error("{0}")]
    Setting(&'static str),
    /// Its certificate, key or authorities.
    #[error("tls: {0}")]
    Identity(#[from] IdentityError),
    /// An address cannot be listened on.
    #[error("{key}: {address}: {error}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The clock is behind the journal.
    #[error("{0}")]
    Clock(String),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Serves until told to stop by SIGTERM or SIGINT; SIGHUP reads certificates and keys again.
///
/// # Errors
/// It cannot start, or the engine stopped by itself.
pub async fn run(config: &Config, journal: &Path, form: LogForm) -> Result<(), ServeError> {
    // First of all: whoever starts it may tell it to stop at once.
    let (mut hang_up, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let settings =
        config.serve.as_ref().ok_or(ServeError::Setting("serve: missing, and there is nothing to serve on"))?;
    let files = config.tls.as_ref().ok_or(ServeError::Setting("tls: missing, and callers are served over TLS only"))?;
    let identity = Arc::new(Identity::load(files)?);
    let listener = listen("serve.listen", settings.listen).await?;
    let plain = match settings.metrics {
        Some(address) => Some(listen("serve.metrics", address).await?),
        None => None,
    };
    if let Some(ahead) = upkeep::written_ahead(journal, jiff::Timestamp::now()) {
        return Err(ServeError::Clock(format!(
            "{}: was written to at {ahead}, which is still to come: the system's clock is wrong now or was then, and \
             cannot be trusted to pick the policy row in force",
            journal.display()
        )));
    }
    let (writer, _) = upkeep::open(journal, &config.journal)?;
    let telemetry = Arc::new(Telemetry::new(form));
    let stop = Arc::new(AtomicBool::new(false));
    let log: Arc<dyn Log> = Arc::new(form);
    let (engine, released) = Corroborator::start(config, Some(&identity), writer, log, Arc::clone(&stop))?;
    let (stats, links) = (Arc::clone(engine.stats()), engine.links().to_vec());
    let desk = Arc::new(FrontDesk::open(engine, released, settings.in_flight_max)?);
    telemetry.watch(Watched { desk: Arc::clone(&desk), stats, links, identity: Arc::clone(&identity) });

    let (drain_in, drain) = watch::channel(false);
    let api = Arc::new(Api {
        desk: Arc::clone(&desk),
        callers: Callers::new(&settings.caller),
        rules: config.request_rules(),
        journal: journal.to_owned(),
        explains: Arc::new(Semaphore::new(1)),
        telemetry: Arc::clone(&telemetry),
        drain: drain.clone(),
    });
    let (health, health_service) = tonic_health::server::health_reporter();
    let grpc = CorroborationServer::new(Grpc(Arc::clone(&api))).max_decoding_message_size(FROM_CALLER_BYTES_MAX);
    let router = routes::grpc(health_service.max_decoding_message_size(HEALTH_BYTES_MAX))
        .merge(routes::grpc(grpc))
        .merge(open_mpic::router(Arc::clone(&api), settings.open_mpic, config))
        .merge(rest::router(Arc::clone(&api)))
        .fallback(routes::not_found)
        .layer(from_fn(move |request: Request<Body>, next: Next| {
            // Before anything of a body is read: who is not known is told so.
            let denied = api.stranger(request.extensions().get());
            async move {
                match denied {
                    None => next.run(request).await,
                    Some(denied) if routes::is_grpc(request.headers()) => Status::from(denied).into_http::<Body>(),
                    Some(denied) => denied.into_response(),
                }
            }
        }));
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let limits = ServeLimits {
        connections: settings.connections_max,
        streams: STREAMS_MAX,
        drain_ms: settings.drain_ms,
        ..ServeLimits::default()
    };
    let plain_server = plain.map(|listener| {
        // To the very end, so that the drain can be watched.
        let (kept, never) = watch::channel(false);
        (kept, tokio::spawn(serve_plain(listener, figures(&telemetry), ServeLimits::default(), never)))
    });
    let events: Arc<Telemetry> = Arc::clone(&telemetry);
    let mut server = tokio::spawn(serve(listener, Arc::clone(&identity), router, limits, events, drain));
    telemetry.set_ready(true);
    telemetry.tell(&Event::Ready { listen: settings.listen });

    let mut tick = tokio::time::interval(TICK);
    let mut fault = None;
    loop {
        tokio::select! {
            _ = hang_up.recv() => match identity.reload() {
                Ok(()) => telemetry.tell(&Event::Reloaded),
                Err(error) => telemetry.tell(&Event::NotReloaded { why: &error.to_string() }),
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut server => {
                fault = Some(ended.map_or_else(io::Error::other, |served| {
                    served.err().unwrap_or_else(|| io::Error::other("the listener ended"))
                }));
                break;
            },
            _ = tick.tick() => if desk.has_ended() {
                break;
            },
        }
    }
    telemetry.set_ready(false);
    telemetry.tell(&Event::Draining);
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    let _ = drain_in.send(true);
    if fault.is_none() {
        // It returns once all connections have ended or had their time. An error of the listener does not matter now.
        let _ = server.await;
    }
    // Nothing more is begun; what is in flight is finished and recorded.
    stop.store(true, Ordering::Relaxed);
    let for_close = Arc::clone(&desk);
    tokio::task::spawn_blocking(move || for_close.close()).await.map_err(io::Error::other)??;
    if let Some((_, plain)) = plain_server {
        plain.abort();
    }
    telemetry.tell(&Event::Stopped);
    fault.map_or(Ok(()), |fault| Err(fault.into()))
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen { key, address, error })
}

/// Figures and health.
fn figures(telemetry: &Arc<Telemetry>) -> Router {
    let (for_figures, for_ready) = (Arc::clone(telemetry), Arc::clone(telemetry));
    routes::figures(move || for_figures.figures(), move || for_ready.is_ready())
}
