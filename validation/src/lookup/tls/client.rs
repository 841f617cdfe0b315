//! One TLS connection on byte slices.
//!
//! What it takes is bounded: octets of the handshake, and octets in all. What it fails with is told apart:
//! an alert, something that is no TLS, a version that is too old, a signature that is not the leaf's.
//!
//! Invariant: after a failure nothing more is taken.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error, PeerIncompatible, ProtocolVersion, pki_types::ServerName,
};

use crate::{
    base::{
        limits::{TLS_BYTES_MAX, TLS_FIRST_KEPT_BYTES_MAX, TLS_HANDSHAKE_BYTES_MAX, TLS_PROBLEM_BYTES_MAX},
        octets::Octets,
    },
    observation::{NetworkError, TlsFailure, TlsVersion},
};

/// Record types 20 to 23 (RFC 8446 §5.1): what else comes first is no TLS.
const RECORD_TYPES: std::ops::RangeInclusive<u8> = 20..=23;

/// What came of octets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Octets to send.
    pub send: Vec<u8>,
    /// What the server said within TLS.
    pub plaintext: Vec<u8>,
    /// The handshake has ended just now.
    pub established: bool,
    /// The server will say no more.
    pub closed: bool,
    /// What went wrong, after all that is above.
    pub failure: Option<TlsFailure>,
}

/// What a whole handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session<'a> {
    /// The version.
    pub version: TlsVersion,
    /// The cipher suite.
    pub cipher_suite: String,
    /// The application protocol selected.
    pub protocol: Option<Octets>,
    /// The server's own certificate.
    pub leaf: &'a [u8],
}

/// A client's side of a connection.
#[derive(Debug)]
pub struct Client {
    connection: ClientConnection,
    received: usize,
    first: Vec<u8>,
    established: bool,
    /// Nothing more is taken: it failed, or the server said that it ended.
    ended: bool,
}

impl Client {
    /// Begins a handshake: the client, and octets to send.
    ///
    /// # Errors
    /// Our own side failed, as when it could get no random octets.
    pub fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<(Self, Vec<u8>), TlsFailure> {
        let connection = ClientConnection::new(config, name).map_err(|e| TlsFailure::Local(shown(&e)))?;
        let mut client = Self { connection, received: 0, first: Vec::new(), established: false, ended: false };
        let hello = client.outgoing();
        Ok((client, hello))
    }

    /// Octets received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received as u64
    }

    /// Whether the handshake has ended well.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Takes octets from the server.
    pub fn handle(&mut self, bytes: &[u8]) -> Moved {
        let mut moved = Moved::default();
        if self.ended || bytes.is_empty() {
            return moved;
        }
        let was_established = self.established;
        moved.failure = self.take(bytes, &mut moved).err();
        self.ended = moved.closed || moved.failure.is_some();
        moved.established = self.established && !was_established;
        moved.send = self.outgoing();
        moved
    }

    fn take(&mut self, mut bytes: &[u8], moved: &mut Moved) -> Result<(), TlsFailure> {
        let room = TLS_FIRST_KEPT_BYTES_MAX - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.first.first().is_some_and(|octet| !RECORD_TYPES.contains(octet)) {
            self.received += bytes.len();
            return Err(TlsFailure::NotTls { first: Octets(self.first.clone()) });
        }
        // What follows the end of the server's side is not looked at.
        while !bytes.is_empty() && !moved.closed {
            let before = bytes.len();
            self.connection.read_tls(&mut bytes).map_err(|_| TlsFailure::TooLarge)?;
            let taken = before - bytes.len();
            if taken == 0 {
                return Err(TlsFailure::TooLarge);
            }
            self.received += taken;
            self.process(moved)?;
            let bound = if self.established { TLS_BYTES_MAX } else { TLS_HANDSHAKE_BYTES_MAX };
            if self.received > bound {
                return Err(TlsFailure::TooLarge);
            }
        }
        Ok(())
    }

    fn process(&mut self, moved: &mut Moved) -> Result<(), TlsFailure> {
        let processed = self.connection.process_new_packets();
        // What was said before something went wrong was said.
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.connection.reader().read(&mut buffer) {
            moved.plaintext.extend_from_slice(&buffer[..length]);
        }
        self.established |= !self.connection.is_handshaking();
        moved.closed |= processed.map_err(failure)?.peer_has_closed();
        Ok(())
    }

    /// Encrypts `plaintext`: octets to send.
    pub fn encrypt(&mut self, plaintext: &[u8]) -> Vec<u8> {
        // Writing into the connection's own buffer does not fail; it is bounded, and far larger than a request.
        let _ = self.connection.writer().write_all(plaintext);
        self.outgoing()
    }

    /// Says that we have no more to say: octets to send.
    pub fn close(&mut self) -> Vec<u8> {
        self.connection.send_close_notify();
        self.outgoing()
    }

    /// What was agreed on; none before the handshake has ended.
    #[must_use]
    pub fn session(&self) -> Option<Session<'_>> {
        if !self.established {
            return None;
        }
        let version = match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_3 => TlsVersion::V13,
            _ => TlsVersion::V12,
        };
        let suite = self.connection.negotiated_cipher_suite()?.suite();
        Some(Session {
            version,
            cipher_suite: suite.as_str().map_or_else(|| format!("{suite:?}"), str::to_owned),
            protocol: self.connection.alpn_protocol().map(|protocol| Octets(protocol.to_vec())),
            leaf: self.connection.peer_certificates()?.first()?,
        })
    }

    fn outgoing(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        while self.connection.wants_write() && matches!(self.connection.write_tls(&mut octets), Ok(1..)) {}
        octets
    }
}

/// How a connection that ended within the handshake failed.
#[must_use]
pub fn broken_off(error: NetworkError) -> TlsFailure {
    match error {
        NetworkError::Local => TlsFailure::Local("the connection was given up by our side".to_owned()),
        _ => TlsFailure::Network(error),
    }
}

fn shown(error: &impl std::fmt::Debug) -> String {
    // The library's texts name types of its own and hold at most a few octets of the peer's.
    let text = format!("{error:?}");
    Octets::first(text.as_bytes(), TLS_PROBLEM_BYTES_MAX).shown(TLS_PROBLEM_BYTES_MAX)
}

fn failure(error: Error) -> TlsFailure {
    match error {
        Error::AlertReceived(alert) => TlsFailure::Alert(alert.into()),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => TlsFailure::OldVersion,
        Error::PeerIncompatible(problem) => TlsFailure::Incompatible(shown(&problem)),
        Error::NoCertificatesPresented => TlsFailure::NoCertificate,
        Error::InvalidCertificate(CertificateError::BadEncoding) => TlsFailure::UnreadableCertificate,
        Error::InvalidCertificate(_) => TlsFailure::BadSignature,
        Error::FailedToGetRandomBytes | Error::FailedToGetCurrentTime => TlsFailure::Local(shown(&error)),
        Error::InvalidMessage(problem) => TlsFailure::Malformed(shown(&problem)),
        Error::PeerMisbehaved(problem) => TlsFailure::Malformed(shown(&problem)),
        other => TlsFailure::Malformed(shown(&other)),
    }
}
