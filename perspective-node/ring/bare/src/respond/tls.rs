//! The TLS responder: full TLS 1.3 handshakes with a certificate as tls-alpn-01 needs it (RFC 8737 §3).
//!
//! One certificate, made at the start. Leaves out names, resumption, tickets and all that could follow a handshake.

use std::convert::Infallible;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;

use clap::Args;
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustix::event::epoll::EventFlags;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use sha2::{Digest as _, Sha256};

use super::{DEFAULT_BODY, Place, accept, announce};
use crate::error::BareError;
use crate::poll::Poll;
use crate::tls::{ACME_TLS_1, DEFAULT_NAME, Pump};

const LISTENER: usize = usize::MAX;
const ACCEPTS: usize = 64;

/// Options of the TLS responder.
#[derive(Debug, Args)]
pub(crate) struct Tls {
    #[command(flatten)]
    place: Place,
    /// The certificate's only name.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
    /// What the certificate's acmeIdentifier is the digest of.
    #[arg(long, default_value = DEFAULT_BODY)]
    key_authorization: String,
}

impl Tls {
    pub(crate) fn run(&self) -> Result<Infallible, BareError> {
        let config = Arc::new(self.config()?);
        self.place.prepare()?;
        let listener = self.place.tcp_listener()?;
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, EventFlags::IN)?;
        announce(listener.local_addr())?;
        let mut server = Server { config, poll, connections: Vec::new() };
        server.serve(&listener)
    }

    fn config(&self) -> Result<ServerConfig, BareError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new([self.name.clone()])?;
        parameters.custom_extensions =
            vec![CustomExtension::new_acme_identifier(&Sha256::digest(&self.key_authorization))];
        let certificate = parameters.self_signed(&key)?;
        server_config(certificate.into(), &key)
    }
}

/// Settings that show `certificate`, and sign with `key`, whatever a client asks for.
pub(crate) fn server_config(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<ServerConfig, BareError> {
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let certified = CertifiedKey::new(vec![certificate], ring::sign::any_supported_type(&private)?);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(certified))));
    config.alpn_protocols = vec![ACME_TLS_1.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The builder's way for one certificate refuses this one, because of its critical extension.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

struct Server {
    config: Arc<ServerConfig>,
    poll: Poll,
    /// By descriptor.
    connections: Vec<Option<(TcpStream, ServerConnection)>>,
}

impl Server {
    fn serve(&mut self, listener: &TcpListener) -> Result<Infallible, BareError> {
        let (mut pump, mut ready) = (Pump::default(), Vec::new());
        loop {
            self.poll.wait(None, &mut ready)?;
            for &(number, _) in &ready {
                if number == LISTENER {
                    self.accept(listener, &mut pump)?;
                } else {
                    self.proceed(number, &mut pump);
                }
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener, pump: &mut Pump) -> Result<(), BareError> {
        for _ in 0..ACCEPTS {
            let Some(stream) = accept(listener) else { return Ok(()) };
            let number = stream.as_raw_fd() as usize;
            if self.poll.add(stream.as_fd(), number, EventFlags::IN).is_err() {
                continue;
            }
            if self.connections.len() <= number {
                self.connections.resize_with(number + 1, || None);
            }
            self.connections[number] = Some((stream, ServerConnection::new(Arc::clone(&self.config))?));
            self.proceed(number, pump);
        }
        Ok(())
    }

    /// Until the client closes.
    fn proceed(&mut self, number: usize, pump: &mut Pump) {
        let Some(place) = self.connections.get_mut(number) else { return };
        if let Some((stream, session)) = place
            && pump.turn(stream, session).is_err()
        {
            *place = None;
        }
    }
}
