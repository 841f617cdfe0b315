//! Services of gRPC and plain HTTP on one router.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::get,
};
use tonic::{Status, server::NamedService};
use tower::Service;

/// The routes of one gRPC service.
pub fn grpc<S, R>(service: S) -> Router
where
    S: Service<Request<Body>, Response = R, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    R: IntoResponse,
{
    Router::new().route_service(&format!("/{}/{{method}}", S::NAME), service)
}

/// `/metrics`, `/healthz` and `/readyz`, for a loopback address: figures in Prometheus's text form, and whether the
/// program may be given work.
pub fn figures<F, R>(figures: F, is_ready: R) -> Router
where
    F: Fn() -> String + Clone + Send + Sync + 'static,
    R: Fn() -> bool + Clone + Send + Sync + 'static,
{
    let ready = move || {
        let told =
            if is_ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready\n") };
        async move { told }
    };
    let metrics = move || {
        let text = figures();
        async move { ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Whether a request is one of gRPC.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// That there is no such thing, in the form that the caller understands.
pub async fn not_found(request: Request<Body>) -> Response {
    if is_grpc(request.headers()) {
        return Status::unimplemented("no such service or method here").into_http::<Body>();
    }
    (StatusCode::NOT_FOUND, "there is nothing here\n").into_response()
}
