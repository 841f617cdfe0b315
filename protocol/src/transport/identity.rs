//! Who a program is and whom it believes: certificate, key, authorities and revocation lists, from files.
//!
//! Files are read when an identity is loaded and when it is loaded again, not in between; watching them is the caller's
//! business. What a certificate permits is decided elsewhere (`caller`).
//!
//! With a revocation file, a peer's own certificate is checked as strictly as can be: its authority's list must be in
//! the file and must not have expired. A file with an expired list is refused when it is loaded, as an expired
//! certificate is; a list that expires while a program runs ends new connections, as an expired certificate does. So
//! a restart never changes what is believed, and [`Identity::revocations_until`] tells in time. Certificates of
//! intermediate authorities are not looked up; where one may have to be distrusted, the intermediates themselves are
//! what `authorities` holds. Without a revocation file nothing is looked up.
//!
//! Invariant: only TLS 1.3 is offered or accepted, and each side shows a certificate.
//! Invariant: an identity that loads is usable now: its key fits its certificate, which is within its validity.
//! Invariant: loading again replaces everything or nothing.
//! Invariant: key material is never printed.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    ClientConfig, InconsistentKeys, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier},
    crypto::{CryptoProvider, ring::default_provider},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::WebPkiClientVerifier,
    version::TLS13,
};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::watch;
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList, time::ASN1Time,
};

use super::caller::Caller;

/// What the server understands, the better first. A client that offers nothing may start with either.
const SERVER_ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where an identity is kept. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The program's certificate, then those that lead to its authority, if any.
    pub certificate: PathBuf,
    /// The certificate's key; nobody but its owner may read the file.
    pub key: PathBuf,
    /// Certificates of the authorities whose certificates are believed.
    pub authorities: PathBuf,
    /// Their revocation lists. None: nothing is checked for revocation.
    pub revoked: Option<PathBuf>,
}

/// A program's identity, which can be loaded again while in use.
pub struct Identity {
    files: TlsFiles,
    loaded: ArcSwap<Loaded>,
    /// How often the files were read.
    readings: watch::Sender<u64>,
}

struct Loaded {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    own: Caller,
    not_after: Timestamp,
    revocations_until: Option<Timestamp>,
}

/// Why an identity cannot be used. Every case names the file.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else, or nothing.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Others than its owner can read it.
    #[error("{}: others can read the key (mode {mode:03o}); `chmod 600` it", file.display())]
    KeyExposed {
        /// The key file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its certificate is of the future, or the clock is wrong.
    #[error("{}: not valid before {from}", file.display())]
    NotYetValid {
        /// The certificate's file.
        file: PathBuf,
        /// When it becomes valid.
        from: Timestamp,
    },
    /// Its certificate or a revocation list in it is too old.
    #[error("{}: expired at {at}", file.display())]
    Expired {
        /// The file of the certificate or revocation list.
        file: PathBuf,
        /// When it expired.
        at: Timestamp,
    },
    /// The key is not the certificate's.
    #[error("{}: not the key of the certificate in {}", key.display(), certificate.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's.
        certificate: PathBuf,
    },
}

impl Identity {
    /// Reads and checks the files.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used; see [`IdentityError`].
    pub fn load(files: &TlsFiles) -> Result<Self, IdentityError> {
        let loaded = ArcSwap::from_pointee(load(files)?);
        Ok(Self { files: files.clone(), loaded, readings: watch::Sender::new(1) })
    }

    /// Reads and checks the files again. New connections use what they hold now, old ones go on as they are.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used; what was loaded before then stays in use.
    pub fn reload(&self) -> Result<(), IdentityError> {
        self.loaded.store(Arc::new(load(&self.files)?));
        self.readings.send_modify(|readings| *readings += 1);
        Ok(())
    }

    /// Changes whenever the files were read again: whoever is connected since before is to be verified anew.
    #[must_use]
    pub fn readings(&self) -> watch::Receiver<u64> {
        self.readings.subscribe()
    }

    /// How to accept the next connection.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.loaded.load().server.clone()
    }

    /// How to make the next connection.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.loaded.load().client.clone()
    }

    /// The program as others see it: its own names and key.
    pub fn own(&self) -> Caller {
        self.loaded.load().own.clone()
    }

    /// When the own certificate expires.
    pub fn not_after(&self) -> Timestamp {
        self.loaded.load().not_after
    }

    /// When the first of the revocation lists expires, after which no certificate of its authority is believed. None
    /// without lists.
    pub fn revocations_until(&self) -> Option<Timestamp> {
        self.loaded.load().revocations_until
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

fn load(files: &TlsFiles) -> Result<Loaded, IdentityError> {
    let now = Timestamp::now();
    let chain: Vec<CertificateDer<'static>> = read_all(&files.certificate, "certificate")?;
    let (own, not_after) = check_certificate(&files.certificate, &chain[0], now)?;
    let key = read_key(&files.key)?;

    let mut roots = RootCertStore::empty();
    for authority in read_all(&files.authorities, "certificate")? {
        roots.add(authority).map_err(|error| malformed(&files.authorities, error))?;
    }
    let roots = Arc::new(roots);
    let (lists, revocations_until) = match &files.revoked {
        Some(file) => {
            let lists: Vec<CertificateRevocationListDer<'static>> = read_all(file, "revocation list")?;
            let until = check_lists(file, &lists, now)?;
            (lists, Some(until))
        }
        None => (Vec::new(), None),
    };

    // Only roots and lists are judged by what is built here, and the roots were read above.
    let lists_file = files.revoked.as_ref().unwrap_or(&files.authorities);
    let provider: Arc<CryptoProvider> = Arc::new(default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
        .with_crls(lists.clone())
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| malformed(lists_file, error))?;
    let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| malformed(lists_file, error))?;

    let unfit = |error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            IdentityError::OtherKey { key: files.key.clone(), certificate: files.certificate.clone() }
        }
        // Not the error's own text: what it found in a key file is nobody's business.
        _ => malformed(&files.key, "not a key that can be used"),
    };
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_client_cert_verifier(clients)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(unfit)?;
    server.alpn_protocols = SERVER_ALPN.map(<[u8]>::to_vec).to_vec();
    // A resumed session would carry over what was verified under other files or before a revocation.
    server.send_tls13_tickets = 0;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_webpki_verifier(servers)
        .with_client_auth_cert(chain, key)
        .map_err(unfit)?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = Resumption::disabled();

    Ok(Loaded { server: Arc::new(server), client: Arc::new(client), own, not_after, revocations_until })
}

fn malformed(file: &Path, reason: impl fmt::Display) -> IdentityError {
    IdentityError::Malformed { file: file.to_owned(), reason: reason.to_string() }
}

fn read(file: &Path) -> Result<(Vec<u8>, u32), IdentityError> {
    let attempt = || {
        let mut opened = File::open(file)?;
        let mode = opened.metadata()?.permissions().mode();
        let mut text = Vec::new();
        opened.read_to_end(&mut text)?;
        Ok((text, mode & 0o777))
    };
    attempt().map_err(|source| IdentityError::Read { file: file.to_owned(), source })
}

/// At least one item of the kind.
fn read_all<T: PemObject>(file: &Path, what: &str) -> Result<Vec<T>, IdentityError> {
    let (text, _) = read(file)?;
    let items: Vec<T> = T::pem_slice_iter(&text)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| malformed(file, format_args!("not PEM: {error}")))?;
    if items.is_empty() { Err(malformed(file, format_args!("has no {what}"))) } else { Ok(items) }
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let (text, mode) = read(file)?;
    if mode & 0o077 != 0 {
        return Err(IdentityError::KeyExposed { file: file.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| malformed(file, "has no private key in PEM"))
}

fn check_certificate(
    file: &Path,
    certificate: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<(Caller, Timestamp), IdentityError> {
    let own = Caller::of(certificate).map_err(|error| malformed(file, error))?;
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| malformed(file, error))?;
    let from = timestamp(file, parsed.validity().not_before)?;
    let until = timestamp(file, parsed.validity().not_after)?;
    if now < from {
        return Err(IdentityError::NotYetValid { file: file.to_owned(), from });
    }
    if until <= now {
        return Err(IdentityError::Expired { file: file.to_owned(), at: until });
    }
    Ok((own, until))
}

/// When the first of them expires.
fn check_lists(
    file: &Path,
    lists: &[CertificateRevocationListDer<'_>],
    now: Timestamp,
) -> Result<Timestamp, IdentityError> {
    let mut first = Timestamp::MAX;
    for list in lists {
        let (_, parsed) = CertificateRevocationList::from_der(list).map_err(|error| malformed(file, error))?;
        let until = parsed.next_update().ok_or_else(|| malformed(file, "a revocation list without next update"))?;
        first = first.min(timestamp(file, until)?);
    }
    if first <= now { Err(IdentityError::Expired { file: file.to_owned(), at: first }) } else { Ok(first) }
}

fn timestamp(file: &Path, time: ASN1Time) -> Result<Timestamp, IdentityError> {
    Timestamp::from_second(time.timestamp()).map_err(|error| malformed(file, error))
}
