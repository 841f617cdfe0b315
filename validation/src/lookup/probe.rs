//! What a task has on the way for control besides questions: a fetch, or a handshake.

use super::{
    http::fetch::{Fetch, FetchStep},
    tls::alpn,
};
use crate::{
    base::{Entropy, Micros, address::AddressFilter},
    observation::{ControlObservation, DnsLookup, NetworkError},
};

/// A probe with one connection at a time.
#[derive(Debug)]
pub(super) enum Probe {
    /// http-01.
    Fetch(Box<Fetch>),
    /// tls-alpn-01.
    Alpn(Box<alpn::Probe>),
}

impl Probe {
    pub(super) fn start(&mut self, now: Micros, filter: &AddressFilter, entropy: &mut dyn Entropy) -> FetchStep {
        match self {
            Self::Fetch(fetch) => fetch.start(now, filter, entropy),
            Self::Alpn(probe) => probe.start(now, filter, entropy),
        }
    }

    pub(super) fn timeout(&self) -> Micros {
        match self {
            Self::Fetch(fetch) => fetch.timeout(),
            Self::Alpn(probe) => probe.timeout(),
        }
    }

    pub(super) fn has_tls_session(&self) -> bool {
        match self {
            Self::Fetch(fetch) => fetch.has_tls_session(),
            Self::Alpn(probe) => probe.has_tls_session(),
        }
    }

    pub(super) fn handle_resolution(
        &mut self,
        now: Micros,
        lookups: Vec<DnsLookup>,
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        match self {
            Self::Fetch(fetch) => fetch.handle_resolution(now, lookups, filter, entropy),
            Self::Alpn(probe) => probe.handle_resolution(now, lookups, filter, entropy),
        }
    }

    pub(super) fn handle_connected(&mut self, now: Micros) -> FetchStep {
        match self {
            Self::Fetch(fetch) => fetch.handle_connected(now),
            Self::Alpn(probe) => probe.handle_connected(now),
        }
    }

    pub(super) fn handle_stream(
        &mut self,
        now: Micros,
        bytes: &[u8],
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> FetchStep {
        match self {
            Self::Fetch(fetch) => fetch.handle_stream(now, bytes, filter, entropy),
            Self::Alpn(probe) => probe.handle_stream(now, bytes),
        }
    }

    pub(super) fn handle_stream_failed(&mut self, now: Micros, error: NetworkError) -> FetchStep {
        match self {
            Self::Fetch(fetch) => fetch.handle_stream_failed(now, error),
            Self::Alpn(probe) => probe.handle_stream_failed(now, error),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Micros) -> FetchStep {
        match self {
            Self::Fetch(fetch) => fetch.handle_timeout(now),
            Self::Alpn(probe) => probe.handle_timeout(now),
        }
    }

    pub(super) fn finish(self, now: Micros) -> ControlObservation {
        match self {
            Self::Fetch(fetch) => ControlObservation::Http(fetch.finish(now)),
            Self::Alpn(probe) => ControlObservation::Tls(probe.finish(now)),
        }
    }
}
