//! Services of gRPC and plain HTTP on one router.

use std::convert::Infallible;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse, Response},
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
