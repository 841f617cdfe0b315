//! The TLS client: full TLS 1.3 handshakes over epoll, many at a time, and nothing after them.
//!
//! The certificate is taken as it is, once its key has signed the handshake: what it says is the work that this is
//! the floor of. Both ends move octets with [`Pump`].

use std::net::{SocketAddr, TcpStream};
use std::ops::DerefMut;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, Error, SideData,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::BareError;
use crate::http::{Close, connect};
use crate::poll::Poll;
use crate::report::Report;
use crate::run::{Load, Run};

pub(crate) const ACME_TLS_1: &[u8] = b"acme-tls/1";
pub(crate) const DEFAULT_NAME: &str = "bare.test";

const TICK: Duration = Duration::from_millis(100);

/// Options of the TLS client.
#[derive(Debug, Args)]
pub(crate) struct Tls {
    /// The responder.
    #[arg(long)]
    peer: SocketAddr,
    /// The server name that is sent.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    #[command(flatten)]
    load: Load,
}

impl Tls {
    pub(crate) fn run(&self) -> Result<Report, BareError> {
        let name = ServerName::try_from(self.name.clone()).map_err(|_| BareError::Setting("--name: no DNS name"))?;
        let config = Arc::new(config()?);
        let mut run = Run::start(&self.load)?;
        let mut client = Client { peer: self.peer, name, config, poll: Poll::new()?, pump: Pump::default() };
        let mut connections = Vec::new();
        for number in 0..self.load.in_flight as usize {
            connections.push(client.open(number, &mut run)?);
        }
        let mut ready = Vec::new();
        while run.wants_more()? {
            client.poll.wait(Some(TICK), &mut ready)?;
            for &(number, _) in &ready {
                if let Some(answered) = connections[number].turn(&mut client.pump) {
                    run.finish_item(answered);
                    connections[number] = client.open(number, &mut run)?;
                }
            }
        }
        Ok(run.report("tls"))
    }
}

fn config() -> Result<ClientConfig, BareError> {
    // X25519 is the first of the provider's groups, so its share is the one that is sent.
    let provider = ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SignatureAlone(algorithms)))
        .with_no_client_auth();
    config.alpn_protocols = vec![ACME_TLS_1.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

struct Client {
    peer: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    poll: Poll,
    pump: Pump,
}

impl Client {
    /// Begins an item; one that cannot connect fails, and the next takes its place.
    fn open(&mut self, number: usize, run: &mut Run<'_>) -> Result<Connection, BareError> {
        while run.wants_more()? {
            let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
            let Some(stream) = connect(self.peer, Close::Rst)? else {
                run.finish_item(false);
                continue;
            };
            self.poll.add(&stream, number, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET)?;
            return Ok(Connection { open: Some((stream, session)) });
        }
        Ok(Connection { open: None })
    }
}

struct Connection {
    /// Nothing when the run is over.
    open: Option<(TcpStream, ClientConnection)>,
}

impl Connection {
    /// Proceeds as far as it goes; at the end says whether the handshake is complete.
    fn turn(&mut self, pump: &mut Pump) -> Option<bool> {
        let (stream, session) = self.open.as_mut()?;
        if pump.turn(stream, session).is_err() {
            return Some(false);
        }
        // The last flight has left, so the peer will have it before the reset.
        let is_over = !session.is_handshaking() && !session.wants_write();
        is_over.then(|| session.alpn_protocol() == Some(ACME_TLS_1))
    }
}

/// Moves octets between a socket and a session.
#[derive(Default)]
pub(crate) struct Pump {
    outgoing: Vec<u8>,
}

/// A full flight of either side.
const CHUNK: usize = 4_096;

impl Pump {
    /// Reads and writes until the socket would block or the handshake is over; an error also for the peer's end.
    pub(crate) fn turn<C, S>(&mut self, stream: &TcpStream, session: &mut C) -> Result<(), ()>
    where
        C: DerefMut<Target = ConnectionCommon<S>>,
        S: SideData,
    {
        loop {
            self.flush(stream, session)?;
            let mut chunk = [0; CHUNK];
            let length = match recv(stream, &mut chunk[..], RecvFlags::empty()) {
                Ok((_, 0)) => return Err(()),
                Ok((_, length)) => length.min(chunk.len()),
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return Err(()),
            };
            let mut octets = &chunk[..length];
            while !octets.is_empty() {
                session.read_tls(&mut octets).map_err(drop)?;
                session.process_new_packets().map_err(drop)?;
            }
            if !session.is_handshaking() {
                return self.flush(stream, session);
            }
        }
    }

    /// A flight is far smaller than a socket's buffer, so that the socket does not take it at once is an error.
    fn flush<C, S>(&mut self, stream: &TcpStream, session: &mut C) -> Result<(), ()>
    where
        C: DerefMut<Target = ConnectionCommon<S>>,
        S: SideData,
    {
        self.outgoing.clear();
        while session.wants_write() {
            session.write_tls(&mut self.outgoing).map_err(drop)?;
        }
        if self.outgoing.is_empty() || send(stream, &self.outgoing, SendFlags::NOSIGNAL) == Ok(self.outgoing.len()) {
            Ok(())
        } else {
            Err(())
        }
    }
}

/// Accepts every certificate whose key signed the handshake.
#[derive(Debug)]
struct SignatureAlone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for SignatureAlone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".into()))
    }

    /// By the bare key: the library's way by certificate refuses the critical acmeIdentifier.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};
    use rustls::ServerConnection;

    use super::*;
    use crate::respond::tls::server_config;

    /// In memory; false if the client refuses.
    fn handshake(certified: &KeyPair, signing: &KeyPair) -> bool {
        let mut parameters = CertificateParams::new([DEFAULT_NAME.to_owned()]).unwrap();
        parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
        let certificate = parameters.self_signed(certified).unwrap();
        let server = server_config(certificate.into(), signing).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let name = ServerName::try_from(DEFAULT_NAME).unwrap();
        let mut client = ClientConnection::new(Arc::new(config().unwrap()), name).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut octets = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut octets).unwrap();
            }
            server.read_tls(&mut &octets[..]).unwrap();
            server.process_new_packets().unwrap();
            octets.clear();
            while server.wants_write() {
                server.write_tls(&mut octets).unwrap();
            }
            client.read_tls(&mut &octets[..]).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        client.alpn_protocol() == Some(ACME_TLS_1)
    }

    #[test]
    fn only_a_handshake_that_the_certificates_key_signed_is_complete() {
        let [key, other] = [(); 2].map(|()| KeyPair::generate().unwrap());
        assert!(handshake(&key, &key));
        assert!(!handshake(&key, &other));
    }
}
