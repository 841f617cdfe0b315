//! Messages and services as they go over the wire, made from `proto/`.

/// Between engine and nodes.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod link {
    tonic::include_proto!("parallax.link.v1");
}

/// The engine's own API.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod api {
    tonic::include_proto!("parallax.v1");
}

/// Boulder's package `core`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod core {
    tonic::include_proto!("core");
}

/// Boulder's package `va`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod va {
    tonic::include_proto!("va");
}
