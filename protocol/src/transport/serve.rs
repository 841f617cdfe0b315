//! Accepts connections and hands their requests to a router: HTTP/1.1, HTTP/2 and with it gRPC on one port.
//!
//! Which protocol a client speaks is seen from its first bytes, so that one that offers no ALPN and starts with HTTP/2
//! is served as well. Bodies, paths and who may do what are the router's business; so are counters of requests.
//!
//! Invariant: only a client whose certificate was verified and that has begun to speak holds a place for longer than the
//! handshake's time limit.
//! Invariant: every request over TLS has the [`Caller`] and the peer's [`SocketAddr`] in its extensions, and no client
//! can set them.
//! Invariant: a client that is turned away is reported once, and no other notices.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::Service;

use super::{
    caller::Caller,
    identity::Identity,
    limit::PerAddress,
    refused::{Refused, tls_error},
};

/// How long to wait when the system has no descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many streams a client may cancel before they were looked at. A whole load of calls whose time is up is cancelled
/// at once, and callers are known, so that this is wider than what guards against strangers.
const EARLY_RESETS_MAX: usize = 1024;

/// What a listener puts up with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeLimits {
    /// Connections at a time, at least 1; the next ones wait in the system's queue until one ends.
    pub connections: usize,
    /// Requests at a time on one HTTP/2 connection.
    pub streams: u32,
    /// What a connection may send before it is read, octets. The library also counts many small messages against half of
    /// it, and ends a connection that has too many waiting: ten thousand calls of 200 octets at once need megabytes.
    pub connection_window_bytes: u32,
    /// Size of a request's headers, at least 8192.
    pub header_bytes: u32,
    /// From the connection to its first byte after the TLS handshake.
    pub handshake_ms: u64,
    /// For the headers of an HTTP/1.1 request; an idle connection ends after that.
    pub header_read_ms: u64,
    /// How often HTTP/2 asks a client whether it is still there.
    pub ping_ms: u64,
    /// How long it may take to answer that.
    pub ping_timeout_ms: u64,
    /// When a client is asked to connect anew; its running requests may end first. None: never. A channel of tonic
    /// notices only by a call that it fails with `Cancelled`, unsent; clients in Go just connect anew.
    pub connection_age_ms: Option<u64>,
    /// How long running requests may go on when the listener is told to stop.
    pub drain_ms: u64,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 16_384,
            connection_window_bytes: 16 << 20,
            header_bytes: 16 * 1024,
            handshake_ms: 10_000,
            header_read_ms: 10_000,
            ping_ms: 20_000,
            ping_timeout_ms: 20_000,
            connection_age_ms: None,
            drain_ms: 30_000,
        }
    }
}

/// Unfinished handshakes of one address at a time: silent ones then cannot take the places of all others.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;

/// Who wants to know what happens before requests.
pub trait Events: Send + Sync {
    /// A connection ended before its first request because the handshake failed. Called once for each.
    fn refused(&self, peer: SocketAddr, why: &Refused);

    /// No connection could be accepted, probably for want of descriptors. It is tried again after a short while.
    fn accept_failed(&self, why: &io::Error) {
        let _ = why;
    }
}

/// Serves a router over mutual TLS until `drain` holds true or its sender is gone, then lets running requests end.
///
/// The first bytes of a connection decide between HTTP/1.1 and HTTP/2. The router finds [`Caller`] and [`SocketAddr`]
/// in the extensions of every request. The identity is asked anew at each connection.
///
/// # Errors
///
/// When the listener itself is broken; running requests are still let end.
pub async fn serve(
    listener: TcpListener,
    identity: Arc<Identity>,
    router: Router,
    limits: ServeLimits,
    events: Arc<dyn Events>,
    drain: watch::Receiver<bool>,
) -> io::Result<()> {
    let http = http(&limits);
    let limits = Arc::new(limits);
    let failed = |error: &io::Error| events.accept_failed(error);
    let handshakes = PerAddress::new(HANDSHAKES_PER_ADDRESS_MAX);
    accept(listener, &limits, drain.clone(), failed, |stream, peer| {
        let (identity, router, http, handshakes) = (identity.clone(), router.clone(), http.clone(), handshakes.clone());
        let (limits, events, mut drain) = (limits.clone(), events.clone(), drain.clone());
        async move {
            let Some(turn) = handshakes.take(peer.ip()) else { return events.refused(peer, &Refused::TooMany) };
            let mut readings = identity.readings();
            let greeted = tokio::select! {
                greeted = timeout(Duration::from_millis(limits.handshake_ms), greet(stream, &identity)) => greeted,
                () = told_to_stop(&mut drain) => return,
            };
            drop(turn);
            let renewed = async move {
                // Its sender lives as long as the identity, which this connection's verification rests on.
                let _ = readings.changed().await;
            };
            match greeted {
                Ok(Ok(Some((stream, caller)))) => {
                    converse(stream, Some(caller), peer, router, &http, &limits, (drain, renewed)).await;
                }
                // It left by itself.
                Ok(Ok(None)) => {}
                Ok(Err(why)) => events.refused(peer, &why),
                Err(_) => events.refused(peer, &Refused::TimedOut),
            }
        }
    })
    .await
}

/// Serves a router over plain HTTP/1.1, for metrics and health on a loopback address: nobody's identity is verified.
///
/// Stops as [`serve`] does. The router finds the peer's [`SocketAddr`] in the extensions of every request.
///
/// # Errors
///
/// When the listener itself is broken; running requests are still let end.
pub async fn serve_plain(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    drain: watch::Receiver<bool>,
) -> io::Result<()> {
    let http = http(&limits).http1_only();
    let limits = Arc::new(limits);
    accept(
        listener,
        &limits,
        drain.clone(),
        |_| {},
        |stream, peer| {
            let (router, http, limits, drain) = (router.clone(), http.clone(), limits.clone(), drain.clone());
            async move { converse(stream, None, peer, router, &http, &limits, (drain, pending())).await }
        },
    )
    .await
}

/// Accepts connections and has each handled by a task of its own, until told to stop.
async fn accept<H, F>(
    listener: TcpListener,
    limits: &ServeLimits,
    mut drain: watch::Receiver<bool>,
    failed: impl Fn(&io::Error),
    handle: H,
) -> io::Result<()>
where
    H: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections.max(1)));
    let mut tasks = JoinSet::new();
    let outcome = loop {
        while tasks.try_join_next().is_some() {}
        // First the place, then the connection: those without wait where the system holds them.
        let place = tokio::select! {
            biased;
            () = told_to_stop(&mut drain) => break Ok(()),
            place = places.clone().acquire_owned() => place.expect("nobody closes it"),
        };
        let accepted = tokio::select! {
            biased;
            () = told_to_stop(&mut drain) => break Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let handled = handle(stream, peer);
                tasks.spawn(async move {
                    handled.await;
                    drop(place);
                });
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput) || is_not_a_socket(&error) => {
                break Err(error);
            }
            // The connection's own end before it was accepted, or something that passes.
            Err(error) => {
                failed(&error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    };
    // Whoever comes now is refused by the system instead of being left to wait.
    drop(listener);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(limits.drain_ms), ended).await.is_err() {
        tasks.shutdown().await;
    }
    outcome
}

/// EBADF and ENOTSOCK, which no waiting mends.
fn is_not_a_socket(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(9 | 88))
}

/// Returns when `drain` holds true or nobody can set it any more.
async fn told_to_stop(drain: &mut watch::Receiver<bool>) {
    let _ = drain.wait_for(|drain| *drain).await;
}

/// The TLS handshake, and the client's first byte after it. None if it left instead of sending one.
async fn greet(stream: TcpStream, identity: &Identity) -> Result<Option<(TlsStream<TcpStream>, Caller)>, Refused> {
    // Only makes answers slower if it fails.
    let _ = stream.set_nodelay(true);
    let mut stream =
        TlsAcceptor::from(identity.server_config()).accept(stream).await.map_err(|error| Refused::from(&error))?;
    let caller = match stream.get_ref().1.peer_certificates() {
        Some([certificate, ..]) => Caller::of(certificate).map_err(|error| Refused::Other(error.to_string()))?,
        _ => return Err(Refused::NoCertificate),
    };
    // HTTP has no time limit of its own before it knows which protocol it is.
    match poll_fn(|cx| Pin::new(&mut stream).poll_fill_buf(cx).map_ok(<[u8]>::is_empty)).await {
        Ok(false) => Ok(Some((stream, caller))),
        Ok(true) => Ok(None),
        Err(error) if tls_error(&error).is_some() => Err(Refused::from(&error)),
        Err(_) => Ok(None),
    }
}

/// All requests of one connection.
async fn converse<S>(
    stream: S,
    caller: Option<Caller>,
    peer: SocketAddr,
    router: Router,
    http: &auto::Builder<TokioExecutor>,
    limits: &ServeLimits,
    (mut drain, renewed): (watch::Receiver<bool>, impl Future<Output = ()>),
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        request.extensions_mut().insert(peer);
        let answer = router.clone().call(request);
        async move { Ok::<Response<axum::body::Body>, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let old = async {
        match limits.connection_age_ms {
            Some(age_ms) => sleep(Duration::from_millis(age_ms)).await,
            None => pending().await,
        }
    };
    // What a caller's connection dies of is seen in its requests, or by the caller.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = told_to_stop(&mut drain) => {}
        () = old => {}
        // The caller is verified anew, by what is believed now.
        () = renewed => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

fn http(limits: &ServeLimits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_read_ms))
        .max_buf_size((limits.header_bytes as usize).max(8192));
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_header_list_size(limits.header_bytes)
        .max_pending_accept_reset_streams(EARLY_RESETS_MAX)
        .keep_alive_interval(Duration::from_millis(limits.ping_ms))
        .keep_alive_timeout(Duration::from_millis(limits.ping_timeout_ms));
    http
}
