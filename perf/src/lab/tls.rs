//! The servers' sockets for TLS: certificates for tls-alpn-01, web pages over https; one thread, tokio-uring.
//!
//! A certificate is made when a client asks for it, of the server name it sends; all have one key. What else a server
//! does with a connection follows from that name too.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{Accepted, AcceptedAlert, Acceptor, ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SigningKey},
};
use sha2::{Digest as _, Sha256};
use tokio::time::{sleep, timeout};
use tokio_uring::net::{TcpListener, TcpStream};

use super::{
    error::LabError,
    http::{AFTER_ERROR, HEAD_WAIT, NEVER},
    kinds::Kind,
    serve::{Counters, add},
    web::{HEAD_BYTES_MAX, Response, Server, respond},
    world::{Perspective, VICTIM, World},
};

const ACME_TLS_1: &[u8] = b"acme-tls/1";
const HTTP_1_1: &[u8] = b"http/1.1";
const READ_BYTES: usize = 4096;
/// From the end of a handshake to a request, or to the end of the connection.
const SESSION_WAIT: Duration = Duration::from_secs(5);

/// How a server speaks TLS.
pub(super) struct Settings {
    server: Server,
    /// `acme-tls/1` and `http/1.1`.
    both: Arc<ServerConfig>,
    /// `http/1.1` alone.
    web: Arc<ServerConfig>,
    /// No application protocol, whatever is offered.
    bare: Arc<ServerConfig>,
}

impl Settings {
    /// The settings of one server; with a key of its own.
    pub(super) fn new(world: &World, server: Server) -> Result<Self, LabError> {
        let failed = |error: &dyn std::fmt::Display| LabError::Tls(error.to_string());
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(&error))?;
        let signing = ring::sign::any_supported_type(&private).map_err(|error| failed(&error))?;
        let certificates = Arc::new(Certificates { world: world.clone(), server, key, signing });
        let with = |protocols: &[&[u8]]| {
            let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| failed(&error))?
                .with_no_client_auth()
                .with_cert_resolver(certificates.clone());
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            Ok(Arc::new(config))
        };
        Ok(Self { server, both: with(&[ACME_TLS_1, HTTP_1_1])?, web: with(&[HTTP_1_1])?, bare: with(&[])? })
    }
}

#[derive(Debug)]
struct Certificates {
    world: World,
    server: Server,
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let challenged = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS_1));
        let parameters = if challenged { self.challenge(name) } else { everyday(name) };
        let certificate = parameters?.self_signed(&self.key).ok()?;
        Some(Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], Arc::clone(&self.signing))))
    }
}

impl Certificates {
    /// The certificate that answers a challenge, or one that has what its kind is about.
    fn challenge(&self, name: &str) -> Option<CertificateParams> {
        let scenario = self.world.scenario_of_name(name);
        let kind = scenario.map_or(Kind::AlpnIp, |scenario| scenario.kind);
        let (subject, right) = match scenario {
            Some(scenario) => (name.to_owned(), scenario.key_authorization()),
            None if name == REVERSED => (VICTIM.to_string(), self.world.address_key_authorization()),
            None => return None,
        };
        let names = match kind {
            Kind::AlpnTwoNames => vec![subject.clone(), format!("other.{subject}")],
            Kind::AlpnOtherName => vec![format!("other.{subject}")],
            _ => vec![subject],
        };
        let is_wrong = kind == Kind::AlpnWrong || self.server == Server::Attacker;
        let answer = if is_wrong { "another key authorization" } else { &right };
        let mut extension = CustomExtension::new_acme_identifier(&Sha256::digest(answer));
        extension.set_criticality(kind != Kind::AlpnNotCritical);
        let mut parameters = CertificateParams::new(names).ok()?;
        parameters.custom_extensions = vec![extension];
        Some(parameters)
    }
}

/// The server name for [`VICTIM`] (RFC 8738 §6).
const REVERSED: &str = "1.0.3.127.in-addr.arpa";

fn everyday(name: &str) -> Option<CertificateParams> {
    CertificateParams::new([name.to_owned()]).ok()
}

/// Starts the tasks of all servers on the current runtime.
pub(super) fn spawn(world: &Rc<World>, counters: &Arc<Counters>, sockets: Vec<(Settings, std::net::TcpListener)>) {
    for (settings, listener) in sockets {
        let server = Rc::new(TlsServer { settings, world: Rc::clone(world), counters: Arc::clone(counters) });
        tokio_uring::spawn(server.accept(TcpListener::from_std(listener)));
    }
}

struct TlsServer {
    settings: Settings,
    world: Rc<World>,
    counters: Arc<Counters>,
}

impl TlsServer {
    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    add(&self.counters.tls_connections);
                    tokio_uring::spawn(Rc::clone(&self).serve_connection(stream, peer));
                }
                Err(_) => sleep(AFTER_ERROR).await,
            }
        }
    }

    async fn serve_connection(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        let Ok(hello) = timeout(HEAD_WAIT, read_hello(&stream)).await else {
            // Ends the read still under way, which holds the descriptor.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        };
        let accepted = match hello {
            Ok(accepted) => accepted,
            Err(alert) => return send_alert(&stream, alert).await,
        };
        let kind = accepted.client_hello().server_name().and_then(|name| self.world.scenario_of_name(name));
        let settings = match kind.map(|scenario| scenario.kind) {
            Some(Kind::AlpnNever) => {
                add(&self.counters.tls_unanswered);
                if timeout(NEVER, stream.read(Vec::with_capacity(64))).await.is_err() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                return;
            }
            Some(Kind::AlpnPlain) => {
                let page = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(page.to_vec()).await;
                return;
            }
            Some(Kind::AlpnAlert) => &self.settings.web,
            Some(Kind::AlpnNone) => &self.settings.bare,
            _ => &self.settings.both,
        };
        let session = match accepted.into_connection(Arc::clone(settings)) {
            Ok(session) => session,
            Err((_, alert)) => return send_alert(&stream, Some(alert)).await,
        };
        if timeout(SESSION_WAIT, self.converse(session, &stream, peer)).await.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From the ClientHello to the end, with one HTTP request at most.
    async fn converse(&self, mut session: ServerConnection, stream: &TcpStream, peer: SocketAddr) {
        let (mut head, mut counted) = (Vec::new(), false);
        let mut chunk = Vec::with_capacity(READ_BYTES);
        loop {
            if send(&mut session, stream).await.is_err() {
                return;
            }
            if !counted && !session.is_handshaking() {
                counted = true;
                add(&self.counters.tls_handshakes);
            }
            chunk.clear();
            let (read, buffer) = stream.read(chunk).await;
            chunk = buffer;
            let Some(length) = read.ok().filter(|&length| length > 0) else { return };
            let Some(plaintext) = take(&mut session, &chunk[..length]) else {
                // What is wrong is said in an alert.
                let _ = send(&mut session, stream).await;
                return;
            };
            head.extend(plaintext);
            if head.len() > HEAD_BYTES_MAX {
                return;
            }
            if head.ends_with(b"\r\n\r\n") {
                self.reply(&mut session, peer, &head);
                let _ = send(&mut session, stream).await;
                return;
            }
        }
    }

    fn reply(&self, session: &mut ServerConnection, peer: SocketAddr, head: &[u8]) {
        let perspective = Perspective::from_source(peer.ip());
        match perspective {
            Some(perspective) => add(&self.counters.http_requests[perspective.index()]),
            None => add(&self.counters.http_requests_of_others),
        }
        let bytes = match respond(&self.world, self.settings.server, perspective, head) {
            Response::Whole(bytes) => bytes,
            Response::Parts(parts, _) => parts.concat(),
            Response::Never | Response::Reset => return,
        };
        session.set_buffer_limit(None);
        // The buffer has no limit.
        let _ = session.writer().write_all(&bytes);
        session.send_close_notify();
    }
}

/// Reads to the end of a ClientHello.
async fn read_hello(stream: &TcpStream) -> Result<Accepted, Option<AcceptedAlert>> {
    let mut acceptor = Acceptor::default();
    let mut chunk = Vec::with_capacity(READ_BYTES);
    loop {
        chunk.clear();
        let (read, buffer) = stream.read(chunk).await;
        chunk = buffer;
        let length = read.ok().filter(|&length| length > 0).ok_or(None)?;
        let mut octets = &chunk[..length];
        while !octets.is_empty() {
            acceptor.read_tls(&mut octets).map_err(|_| None)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => {}
            Err((_, alert)) => return Err(Some(alert)),
        }
    }
}

async fn send_alert(stream: &TcpStream, alert: Option<AcceptedAlert>) {
    let mut octets = Vec::new();
    if alert.is_some_and(|mut alert| alert.write_all(&mut octets).is_ok()) {
        let _ = stream.write_all(octets).await;
    }
}

/// Takes octets; gives what they say, or nothing if they are no TLS.
fn take(session: &mut ServerConnection, mut octets: &[u8]) -> Option<Vec<u8>> {
    let mut plaintext = Vec::new();
    while !octets.is_empty() {
        session.read_tls(&mut octets).ok()?;
        session.process_new_packets().ok()?;
        // When nothing more is there, it says that it would block.
        let _ = session.reader().read_to_end(&mut plaintext);
    }
    Some(plaintext)
}

async fn send(session: &mut ServerConnection, stream: &TcpStream) -> io::Result<()> {
    let mut octets = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut octets)?;
    }
    if octets.is_empty() { Ok(()) } else { stream.write_all(octets).await.0 }
}
