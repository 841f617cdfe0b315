//! A node as a program: its services over mutual TLS, figures and health beside them, and an orderly end.
//!
//! Invariant: no service answers a caller whose certificate has none of the names that the settings give for it.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use parallax_protocol::{
    boulder::{self, SettingsError, SystemClock},
    transport::{AllowList, Caller, Identity, IdentityError, ServeLimits, routes, serve, serve_plain},
    wire::{
        link::{Welcome, link_server::LinkServer as LinkService},
        va::{caa_server::CaaServer, va_server::VaServer},
    },
};
use parallax_validation::{
    observation::{ControlObservation, DnsOutcome},
    plan::Plan,
};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tonic::Status;

use crate::{
    config::Laboratory,
    desk::Desk,
    link::{Ends, FROM_ENGINE_BYTES_MAX, LinkServer},
    node::{Node, NodeError},
    services::{self, AuditOut, BoulderServer, DeskLooks},
    settings::Settings,
    telemetry::{Event, LogForm, Telemetry},
};

/// Unary calls that are served at once, at most.
const CALLS_MAX: usize = 65_536;
/// How often the resolver is tried, if the settings ask for that.
const RESOLVER_TRIED_EVERY: Duration = Duration::from_secs(10);
/// How often it is seen whether the node's own threads go on.
const TICK: Duration = Duration::from_millis(200);

/// Why a node does not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Its certificate, key or authorities.
    #[error("tls: {0}")]
    Identity(#[from] IdentityError),
    /// A setting of Boulder's services.
    #[error("boulder: {0}")]
    Boulder(SettingsError),
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
    /// The system.
    #[error("{0}")]
    System(#[from] io::Error),
    /// A worker ended by itself; what it said stands on standard error.
    #[error("the node's workers ended by themselves")]
    Ended,
}

/// Runs a node until it is told to stop by SIGTERM or SIGINT; SIGHUP reads certificates and keys again.
///
/// # Errors
/// It cannot start, or its workers ended.
pub async fn run(settings: &Settings, form: LogForm) -> Result<(), ServeError> {
    // First of all: whoever starts it may tell it to stop at once.
    let (mut hang_up, mut terminate, mut interrupt) =
        (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let identity = Arc::new(Identity::load(&settings.tls)?);
    let listener = listen("serve.listen", settings.listen).await?;
    let plain = match &settings.metrics {
        Some(metrics) => Some(listen("metrics.listen", metrics.listen).await?),
        None => None,
    };
    let (reports_in, reports) = crossbeam::channel::unbounded();
    let node = Node::start(&settings.node, &reports_in)?;
    drop(reports_in);
    let desk = Arc::new(Desk::open(node, settings.node.perspective.clone(), reports, CALLS_MAX)?);
    let driver = settings.node.carrier();
    let telemetry = Arc::new(Telemetry::new(form, &desk, &identity, driver));

    let (drain_in, drain) = watch::channel(false);
    let (health, health_service) = tonic_health::server::health_reporter();
    let welcome = welcome(settings, driver);
    let ends = Ends { drain: drain.clone(), readings: identity.readings() };
    let link = LinkService::new(LinkServer::new(Arc::clone(&desk), settings.node.rir, welcome, ends))
        .max_decoding_message_size(FROM_ENGINE_BYTES_MAX);
    let link = guarded(routes::grpc(link), settings.clients.link.clone(), "link", &telemetry);
    let mut router = routes::grpc(health_service).merge(link);
    let mut names = vec![""];
    if let Some(section) = &settings.boulder {
        let audit = AuditOut::start()?;
        let server = Arc::new(boulder_server(settings, section, &desk, audit.clone())?);
        telemetry.watch_boulder(Arc::clone(&server), audit);
        let va = routes::grpc(VaServer::from_arc(Arc::clone(&server)));
        let caa = routes::grpc(CaaServer::from_arc(server));
        router = router
            .merge(guarded(va, settings.clients.boulder_va.clone(), "boulder_va", &telemetry))
            .merge(guarded(caa, settings.clients.boulder_caa.clone(), "boulder_caa", &telemetry));
        names.extend(["va.VA", "va.CAA"]);
    }
    if let Some(section) = &settings.open_mpic {
        let checker = services::checker(Arc::clone(&desk), &settings.node, section);
        router = router.merge(guarded(checker, settings.clients.open_mpic.clone(), "open_mpic", &telemetry));
    }
    let router = router.fallback(routes::not_found);
    for name in &names {
        health.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
    }

    let mut plain_server = None;
    if let Some(listener) = plain {
        let router = figures(&telemetry);
        // To the very end, so that the drain can be watched.
        let (kept, never) = watch::channel(false);
        plain_server = Some((kept, tokio::spawn(serve_plain(listener, router, ServeLimits::default(), never))));
    }
    let events: Arc<Telemetry> = Arc::clone(&telemetry);
    let mut server =
        tokio::spawn(serve(listener, Arc::clone(&identity), router, settings.limits.clone(), events, drain));
    let resolver = settings.metrics.as_ref().and_then(|metrics| metrics.ready_name.clone());
    if let Some(name) = resolver {
        tokio::spawn(watch_resolver(name, Arc::clone(&desk), Arc::clone(&telemetry)));
    } else {
        telemetry.ready.store(true, Ordering::Relaxed);
    }
    telemetry.tell(&Event::Ready { listen: settings.listen, driver });

    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = hang_up.recv() => match identity.reload() {
                Ok(()) => telemetry.tell(&Event::Reloaded),
                Err(error) => telemetry.tell(&Event::NotReloaded { why: &error.to_string() }),
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut server => return Err(ended.map_or_else(io::Error::other, |served| {
                served.err().unwrap_or_else(|| io::Error::other("the listener ended"))
            }).into()),
            _ = tick.tick() => if desk.has_ended() {
                return Err(ServeError::Ended);
            },
        }
    }
    telemetry.tell(&Event::Draining);
    telemetry.ready.store(false, Ordering::Relaxed);
    for name in &names {
        health.set_service_status(*name, tonic_health::ServingStatus::NotServing).await;
    }
    let _ = drain_in.send(true);
    // It returns once all connections have ended or had their time. An error of the listener does not matter any more.
    let _ = server.await;
    if let Some((_, plain)) = plain_server {
        plain.abort();
    }
    telemetry.tell(&Event::Stopped);
    Ok(())
}

async fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen { key, address, error })
}

fn boulder_server(
    settings: &Settings,
    section: &boulder::Settings,
    desk: &Arc<Desk>,
    audit: AuditOut,
) -> Result<BoulderServer, ServeError> {
    let node = boulder::Node {
        perspective: settings.node.perspective.clone(),
        rir: settings.node.rir,
        rules: settings.node.address_filter().into(),
        looks: DeskLooks(Arc::clone(desk)),
        clock: SystemClock,
        audit,
    };
    boulder::Server::new(section.clone(), node).map_err(ServeError::Boulder)
}

/// What the node says of itself to an engine.
fn welcome(settings: &Settings, driver: &str) -> Welcome {
    Welcome {
        form: 0,
        software: concat!("parallax-node ", env!("CARGO_PKG_VERSION")).to_owned(),
        perspective: settings.node.perspective.to_string(),
        rir: String::new(),
        resolver: settings.node.resolver.to_string(),
        dnssec: settings.dnssec.to_string(),
        trust_anchors: settings.trust_anchors.clone(),
        tasks_in_flight_max: settings.node.tasks_in_flight_max,
        driver: driver.to_owned(),
        laboratory: settings.node.laboratory != Laboratory::default(),
        keeps_packets: settings.node.keeps_packets(),
    }
}

/// A service for those whose certificates have one of these names. Others are told so in the form that they expect.
pub(crate) fn guarded(router: Router, list: AllowList, service: &'static str, telemetry: &Arc<Telemetry>) -> Router {
    let (list, telemetry) = (Arc::new(list), Arc::clone(telemetry));
    router.layer(from_fn(move |request: Request<Body>, next: Next| {
        let (list, telemetry) = (Arc::clone(&list), Arc::clone(&telemetry));
        async move {
            let caller = request.extensions().get::<Caller>();
            if caller.is_some_and(|caller| list.permits(caller)) {
                return Ok::<Response, Infallible>(next.run(request).await);
            }
            telemetry.forbidden(caller.map_or(&[], |caller| &caller.names), service);
            let is_grpc = routes::is_grpc(request.headers());
            let text = format!("the certificate has no name that may use {service}");
            Ok(if is_grpc {
                Status::permission_denied(text).into_http::<Body>()
            } else {
                (StatusCode::FORBIDDEN, text + "\n").into_response()
            })
        }
    }))
}

/// Figures and health.
fn figures(telemetry: &Arc<Telemetry>) -> Router {
    let (for_figures, for_ready) = (Arc::clone(telemetry), Arc::clone(telemetry));
    routes::figures(move || for_figures.figures(), move || for_ready.ready.load(Ordering::Relaxed))
}

/// Asks the resolver now and then; the node is ready while it answers.
async fn watch_resolver(name: String, desk: Arc<Desk>, telemetry: Arc<Telemetry>) {
    let plan = Plan::of_resolver(&name);
    let mut known = None;
    loop {
        let seen = desk.look(plan.clone()).await;
        let answers = seen.is_ok_and(|seen| {
            let records = seen.control.as_ref().map(ControlObservation::records).unwrap_or_default();
            records.first().is_some_and(|lookup| !matches!(lookup.outcome, DnsOutcome::Failed(_)))
        });
        if known != Some(answers) {
            telemetry.tell(&Event::Resolver { answers });
            known = Some(answers);
        }
        telemetry.ready.store(answers, Ordering::Relaxed);
        tokio::time::sleep(RESOLVER_TRIED_EVERY).await;
    }
}
