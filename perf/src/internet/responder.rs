//! A web server's other side: answers tls-alpn-01 (RFC 8737 §3) at port 443 for one actor, in a process of its own.
//!
//! Debian's nginx-light selects none but HTTP's own application protocols, so this server is the laboratory's. Each of the
//! actor's domains has a certificate with the actor's key authorization in it. Left out: websites over TLS; whoever offers
//! no `acme-tls/1`, or asks for another name, has no handshake.
//!
//! Invariant: so many connections are answered at a time, and each read and write has its time; others wait in the kernel.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    error::InternetError,
    zones::{Actor, Domain},
};

const ACME_TLS_1: &[u8] = b"acme-tls/1";
/// Connections that are answered at a time at each address: those of all perspectives for all domains and both actors.
const CONNECTIONS_MAX: usize = 48;
const PATIENCE: Duration = Duration::from_secs(5);
/// After a connection could not be taken, and between two looks whether it is to stop.
const POLL: Duration = Duration::from_millis(20);

/// Answers at these addresses until it is to stop. Its threads end with the process.
///
/// # Errors
/// An address cannot be had, or no certificate be made.
pub fn serve(by: Actor, at: &[SocketAddr], stop: &AtomicBool) -> Result<(), InternetError> {
    let config = Arc::new(config(by)?);
    for address in at {
        let listener = TcpListener::bind(address).map_err(InternetError::file(address.to_string()))?;
        let shared = Arc::new((listener, Arc::clone(&config)));
        for _ in 0..CONNECTIONS_MAX {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&shared.0, &shared.1));
        }
    }
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(POLL);
    }
    Ok(())
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) {
    for stream in listener.incoming() {
        match stream {
            // A connection that breaks off is the client's own affair, and told in its evidence.
            Ok(stream) => drop(answer(stream, config)),
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// One handshake.
fn answer(mut stream: TcpStream, config: &Arc<ServerConfig>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut stream)?;
    }
    Ok(())
}

fn config(by: Actor) -> Result<ServerConfig, InternetError> {
    let failed = |error: &dyn std::fmt::Display| InternetError::Pki(error.to_string());
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| failed(&error))?;
    let signing = ring::sign::any_supported_type(&private).map_err(|error| failed(&error))?;
    let mut certificates = BTreeMap::new();
    for domain in Domain::ALL {
        let made = challenge(by, domain).and_then(|parameters| parameters.self_signed(&key));
        let certificate = CertificateDer::from(made.map_err(|error| failed(&error))?);
        certificates.insert(domain.host(), Arc::new(CertifiedKey::new(vec![certificate], Arc::clone(&signing))));
    }
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates(certificates)));
    config.alpn_protocols = vec![ACME_TLS_1.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The certificate that answers for a domain: RFC 8737 §3.
fn challenge(by: Actor, domain: Domain) -> Result<CertificateParams, rcgen::Error> {
    let mut parameters = CertificateParams::new([domain.host()])?;
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(&by.challenge_digest(domain))];
    Ok(parameters)
}

/// By server name.
#[derive(Debug)]
struct Certificates(BTreeMap<String, Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let challenged = hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS_1));
        self.0.get(hello.server_name().filter(|_| challenged)?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types::ServerName};

    use super::*;

    /// Server and client at two ends of a loopback connection; the certificate, if the handshake ends well.
    ///
    /// The client verifies no chain: it stops where the server's certificate is shown.
    fn shown(by: Actor, name: &str, protocol: &[u8]) -> Result<Vec<u8>, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let config = Arc::new(config(by).unwrap());
        let serving = thread::spawn(move || answer(listener.accept().unwrap().0, &config));
        let verifier = Arc::new(Keeps::default());
        let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        client.dangerous().set_certificate_verifier(verifier.clone());
        client.alpn_protocols = vec![protocol.to_vec()];
        let mut session =
            ClientConnection::new(Arc::new(client), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        let mut shake = || -> io::Result<()> {
            while session.is_handshaking() {
                session.complete_io(&mut stream)?;
            }
            Ok(())
        };
        let ended = shake().map_err(|error| error.to_string());
        drop(stream);
        let _ = serving.join().unwrap();
        ended?;
        assert_eq!(session.alpn_protocol(), Some(ACME_TLS_1));
        Ok(verifier.0.lock().unwrap().clone())
    }

    /// Keeps the certificate and believes everything.
    #[derive(Debug, Default)]
    struct Keeps(std::sync::Mutex<Vec<u8>>);

    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::UnixTime,
    };

    impl ServerCertVerifier for Keeps {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            *self.0.lock().unwrap() = end_entity.to_vec();
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }

    #[test]
    fn each_actor_s_certificate_has_its_own_answer_for_the_name_that_is_asked_for() {
        let has = |certificate: &[u8], mark: &[u8]| certificate.windows(mark.len()).any(|window| window == mark);
        for by in Actor::ALL {
            for domain in Domain::ALL {
                let certificate = shown(by, &domain.host(), ACME_TLS_1).unwrap();
                assert!(has(&certificate, domain.host().as_bytes()));
                for (actor, other) in Actor::ALL.iter().flat_map(|actor| Domain::ALL.map(|other| (*actor, other))) {
                    let is_right = (actor, other) == (by, domain);
                    assert_eq!(has(&certificate, &actor.challenge_digest(other)), is_right, "{by:?} {domain}");
                }
            }
        }
    }

    #[test]
    fn err_another_name_and_another_protocol_have_no_handshake() {
        let name = Domain::Plain.host();
        assert!(shown(Actor::Owner, &name, ACME_TLS_1).is_ok());
        assert!(shown(Actor::Owner, &name, b"http/1.1").is_err());
        assert!(shown(Actor::Owner, "www.other.example", ACME_TLS_1).is_err());
    }
}
