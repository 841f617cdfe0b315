//! Reaches a peer over mutual TLS and makes sure that it is the one that was meant.
//!
//! Whether to try again, and when, is the caller's business; a channel that has lost its connection makes another at
//! its next call, through the same checks. A server verifies our certificate only after our side of the handshake is
//! done, so that one that does not want us is noticed at the first call, not here.
//!
//! Invariant: a channel never carries a call to a server whose certificate is not valid for the peer's name now, or
//! whose key is none of the peer's keys, if it has any.

use std::{error, io, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError,
    pki_types::{DnsName, ServerName},
};
use serde::Deserialize;
use thiserror::Error;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{
    caller::{Caller, KeyPin},
    identity::Identity,
    refused::{Refused, tls_error},
};

/// Whom to reach.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Where it listens: `host:port`.
    pub address: String,
    /// A dNSName that its certificate must have.
    pub name: String,
    /// If there are any, its key must be one of them.
    #[serde(default)]
    pub keys: Vec<KeyPin>,
}

/// How long to wait for a peer and how much it may send unread.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectLimits {
    /// For the TCP connection, with the look-up of the address.
    pub connect_ms: u64,
    /// For the TLS handshake.
    pub handshake_ms: u64,
    /// How often the peer is asked whether it is still there, with or without calls.
    pub ping_ms: u64,
    /// How long it may take to answer that before the connection is given up.
    pub ping_timeout_ms: u64,
    /// Unread bytes of one stream.
    pub stream_window_bytes: u32,
    /// Unread bytes of all streams.
    pub connection_window_bytes: u32,
}

impl Default for ConnectLimits {
    fn default() -> Self {
        Self {
            connect_ms: 10_000,
            handshake_ms: 10_000,
            ping_ms: 10_000,
            ping_timeout_ms: 20_000,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
        }
    }
}

/// Why a peer was not reached, or not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The peer's name is not one that a certificate could have.
    #[error("{0:?} is not a DNS name")]
    BadName(String),
    /// Its address was not found.
    #[error("{address} was not found: {reason}")]
    Resolve {
        /// Where it should listen.
        address: String,
        /// Why.
        reason: String,
    },
    /// Nobody there, or no way to it.
    #[error("{address} was not reached: {reason}")]
    Unreachable {
        /// Where it should listen.
        address: String,
        /// Why.
        reason: String,
    },
    /// It was not reached, or did not get on with the handshake, within the time limit.
    #[error("{address} did not answer in time")]
    TimedOut {
        /// Where it should listen.
        address: String,
    },
    /// Its certificate is not valid, whatever its name.
    #[error("server not believed: {0}")]
    Certificate(Refused),
    /// Its certificate is valid, for others.
    #[error("the server is not {wanted} but {presented:?}")]
    WrongName {
        /// The name that was meant.
        wanted: String,
        /// What its certificate says.
        presented: Vec<String>,
    },
    /// Its certificate is valid but its key is not one that was agreed on.
    #[error("the key of {name} is {presented}, which is not one of its keys")]
    WrongKey {
        /// The peer's name.
        name: String,
        /// The key of its certificate.
        presented: KeyPin,
    },
    /// It does not speak TLS 1.3.
    #[error("the server does not speak TLS 1.3")]
    Version,
    /// Anything else between TCP and the first call.
    #[error("{0}")]
    Other(String),
}

impl ConnectError {
    /// Looks for one among the causes of an error: of a call's status, say, when a channel could not connect again.
    pub fn within<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a ConnectError> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }

    fn of_handshake(error: &io::Error, peer: &Peer) -> Self {
        let Some(tls) = tls_error(error) else {
            return ConnectError::Other(format!("{} ended the handshake: {error}", peer.address));
        };
        match tls {
            rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
                ConnectError::WrongName { wanted: peer.name.clone(), presented: presented.clone() }
            }
            rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
                ConnectError::WrongName { wanted: peer.name.clone(), presented: Vec::new() }
            }
            rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidCertRevocationList(_) => {
                ConnectError::Certificate(Refused::from(tls))
            }
            _ => match Refused::from(tls) {
                Refused::Version => ConnectError::Version,
                other => ConnectError::Other(other.to_string()),
            },
        }
    }
}

/// Connects to a peer. The identity is asked anew at each connection that the channel makes.
///
/// # Errors
///
/// When the peer is not reached or not the one that was meant. What goes wrong later is told by the calls;
/// [`ConnectError::within`] finds it there.
pub async fn connect(identity: &Arc<Identity>, peer: &Peer, limits: &ConnectLimits) -> Result<Channel, ConnectError> {
    let name = DnsName::try_from(peer.name.clone()).map_err(|_| ConnectError::BadName(peer.name.clone()))?;
    let name = ServerName::DnsName(name);
    let endpoint = Endpoint::from_shared(format!("https://{}", peer.name))
        .map_err(|_| ConnectError::BadName(peer.name.clone()))?
        .http2_keep_alive_interval(Duration::from_millis(limits.ping_ms))
        .keep_alive_timeout(Duration::from_millis(limits.ping_timeout_ms))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes);
    let shared = Arc::new((identity.clone(), peer.clone(), limits.clone(), name));
    let connector = service_fn(move |_: Uri| {
        let shared = shared.clone();
        async move {
            let (identity, peer, limits, name) = &*shared;
            open(identity, peer, limits, name).await.map(TokioIo::new)
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        ConnectError::within(&error).cloned().unwrap_or_else(|| ConnectError::Other(error.to_string()))
    })
}

async fn open(
    identity: &Identity,
    peer: &Peer,
    limits: &ConnectLimits,
    name: &ServerName<'static>,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let late = |_| ConnectError::TimedOut { address: peer.address.clone() };
    let stream = timeout(Duration::from_millis(limits.connect_ms), reach(&peer.address)).await.map_err(late)??;
    // Only makes calls slower if it fails.
    let _ = stream.set_nodelay(true);
    let handshake = TlsConnector::from(identity.client_config()).connect(name.clone(), stream);
    let stream = timeout(Duration::from_millis(limits.handshake_ms), handshake)
        .await
        .map_err(late)?
        .map_err(|error| ConnectError::of_handshake(&error, peer))?;
    if !peer.keys.is_empty() {
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or(ConnectError::Certificate(Refused::NoCertificate))?;
        let presented =
            Caller::of(certificate).map_err(|error| ConnectError::Certificate(Refused::Other(error.to_string())))?.key;
        if !peer.keys.contains(&presented) {
            return Err(ConnectError::WrongKey { name: peer.name.clone(), presented });
        }
    }
    Ok(stream)
}

async fn reach(address: &str) -> Result<TcpStream, ConnectError> {
    let not_found = |reason: String| ConnectError::Resolve { address: address.to_owned(), reason };
    let found: Vec<_> = lookup_host(address).await.map_err(|error| not_found(error.to_string()))?.collect();
    if found.is_empty() {
        return Err(not_found("no addresses".into()));
    }
    TcpStream::connect(&found[..])
        .await
        .map_err(|error| ConnectError::Unreachable { address: address.to_owned(), reason: error.to_string() })
}
