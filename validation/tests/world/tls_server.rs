//! TLS servers in memory, and certificates with any part of them wrong.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    io::{Read as _, Write as _},
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use parallax_validation::lookup::tls::rustls::{
    ServerConfig, ServerConnection, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
pub(crate) const ONLY_12: &[&SupportedProtocolVersion] = &[&TLS12];
pub(crate) const ONLY_13: &[&SupportedProtocolVersion] = &[&TLS13];

/// 1.3.6.1.5.5.7.1.31.
pub(crate) const ACME: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 31];
/// 1.3.6.1.5.5.7.1.30.1.
pub(crate) const ACME_DRAFT: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 30, 1];
/// subjectAltName.
pub(crate) const SAN: &[u8] = &[0x55, 0x1d, 17];

/// One key for all tests that do not care.
pub(crate) fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate().unwrap())
}

/// DER: tag, length, content.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ ..0x80 => out.push(length as u8),
        length @ ..0x100 => out.extend([0x81, length as u8]),
        length => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// A Name with one common name.
pub(crate) fn common_name(text: &str) -> Vec<u8> {
    let attribute = der(0x30, &[der(6, &[0x55, 4, 3]), der(12, text.as_bytes())].concat());
    der(0x30, &der(0x31, &attribute))
}

pub(crate) fn dns(name: &str) -> Vec<u8> {
    der(0x82, name.as_bytes())
}

pub(crate) fn ip(address: &str) -> Vec<u8> {
    match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => der(0x87, &address.octets()),
        IpAddr::V6(address) => der(0x87, &address.octets()),
    }
}

/// An extension.
pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der(1, &[0xff]) } else { Vec::new() };
    der(0x30, &[der(6, oid), critical, der(4, value)].concat())
}

pub(crate) fn san(names: &[Vec<u8>]) -> Vec<u8> {
    extension(SAN, false, &der(0x30, &names.concat()))
}

pub(crate) fn acme(digest: &[u8]) -> Vec<u8> {
    extension(ACME, true, &der(4, digest))
}

/// What a certificate is made of. Everything can be wrong.
#[derive(Clone)]
pub(crate) struct Recipe {
    /// `[0]` with the version, or nothing.
    pub(crate) version: Vec<u8>,
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) validity: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    /// Without the list around them.
    pub(crate) extensions: Vec<Vec<u8>>,
    /// A bit of the signature is turned.
    pub(crate) bad_signature: bool,
}

impl Recipe {
    /// A certificate that answers a challenge, as it should be.
    pub(crate) fn challenge(name: Vec<u8>, digest: &[u8]) -> Self {
        Self::plain().extensions([san(&[name]), acme(digest)])
    }

    /// A self-signed certificate without extensions.
    pub(crate) fn plain() -> Self {
        Self {
            version: der(0xa0, &der(2, &[2])),
            serial: der(2, &[7]),
            issuer: common_name("challenge"),
            validity: der(0x30, &[der(0x17, b"260101000000Z"), der(0x18, b"20560101000000Z")].concat()),
            subject: common_name("challenge"),
            extensions: Vec::new(),
            bad_signature: false,
        }
    }

    pub(crate) fn extensions(mut self, extensions: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.extensions = extensions.into_iter().collect();
        self
    }

    pub(crate) fn make(&self) -> Vec<u8> {
        self.make_with(key(), key())
    }

    /// With the public part of `own`, signed by `signer`; both are P-256.
    pub(crate) fn make_with(&self, own: &KeyPair, signer: &KeyPair) -> Vec<u8> {
        let ecdsa_with_sha256 = der(0x30, &der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => der(0xa3, &der(0x30, &self.extensions.concat())),
        };
        let key = own.subject_public_key_info();
        let parts: [&[u8]; 8] = [
            &self.version,
            &self.serial,
            &ecdsa_with_sha256,
            &self.issuer,
            &self.validity,
            &self.subject,
            &key,
            &extensions,
        ];
        let tbs = der(0x30, &parts.concat());
        let mut signature = signer.sign(&tbs).unwrap();
        if self.bad_signature {
            *signature.last_mut().unwrap() ^= 1;
        }
        der(0x30, &[tbs, ecdsa_with_sha256, der(3, &[&[0], signature.as_slice()].concat())].concat())
    }
}

#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A server with this certificate, whatever it is, for [`key`].
pub(crate) fn server(
    certificate: Vec<u8>,
    protocols: &[&[u8]],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    server_with(key(), certificate, protocols, versions)
}

pub(crate) fn server_with(
    key: &KeyPair,
    certificate: Vec<u8>,
    protocols: &[&[u8]],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let private = ring::sign::any_supported_type(&private).unwrap();
    let certified = CertifiedKey::new(vec![CertificateDer::from(certificate)], private);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(certified))));
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A server's side of one connection.
pub(crate) struct Session {
    connection: ServerConnection,
    closes: bool,
}

impl Session {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self { connection: ServerConnection::new(config).unwrap(), closes: false }
    }

    pub(crate) fn server_name(&self) -> Option<&str> {
        self.connection.server_name()
    }

    /// Takes octets; gives what they say.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plaintext = Vec::new();
        while !bytes.is_empty() && self.connection.read_tls(&mut bytes).is_ok_and(|length| length > 0) {
            match self.connection.process_new_packets() {
                Ok(state) => self.closes |= state.peer_has_closed(),
                Err(_) => {
                    self.closes = true;
                    break;
                }
            }
            // An empty connection says that it would block.
            let _ = self.connection.reader().read_to_end(&mut plaintext);
        }
        plaintext
    }

    /// Says something and goes on.
    pub(crate) fn whisper(&mut self, plaintext: &[u8]) {
        self.connection.writer().write_all(plaintext).unwrap();
    }

    pub(crate) fn say(&mut self, plaintext: &[u8]) {
        self.connection.writer().write_all(plaintext).unwrap();
        self.connection.send_close_notify();
        self.closes = true;
    }

    /// What it sends, and whether it closes then.
    pub(crate) fn outgoing(&mut self) -> (Vec<u8>, bool) {
        let mut octets = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut octets).unwrap();
        }
        (octets, self.closes)
    }
}
