//! A TLS client's side of one connection, without I/O.
//!
//! * [`client`]: octets in, octets to send and plaintext out.
//! * [`certificate`]: what a server's certificate says.
//! * [`alpn`]: one tls-alpn-01 probe: addresses, fallback, handshake, evidence.
//!
//! TLS 1.2 and 1.3 only (req D17, D20). Randomness comes with the provider that the caller hands to
//! [`TlsSettings::new`]; no clock is read, since nothing here depends on one.

pub mod alpn;
pub mod certificate;
pub mod client;
mod verify;

use std::{sync::Arc, time::Duration};

pub use rustls;
use rustls::{
    ClientConfig, NamedGroup,
    client::Resumption,
    crypto::CryptoProvider,
    pki_types::{DnsName, ServerName, UnixTime},
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};

use self::verify::AcceptsEveryChain;
use crate::plan::Host;

/// The application protocol of tls-alpn-01 (RFC 8737 §6.2).
pub const ACME_TLS_1: &[u8] = b"acme-tls/1";

/// How a worker speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// On https redirects.
    pub fetch: Arc<ClientConfig>,
    /// For tls-alpn-01.
    pub alpn: Arc<ClientConfig>,
}

impl TlsSettings {
    /// Settings that draw their randomness from `provider`.
    ///
    /// # Errors
    /// The provider can neither TLS 1.2 nor 1.3.
    pub fn new(mut provider: CryptoProvider) -> Result<Self, rustls::Error> {
        // No hybrid post-quantum group, whatever the provider has: its share makes the ClientHello longer than
        // one segment, which some servers and middleboxes under validation cannot take, and what is fetched
        // here is public and secret from nobody.
        let groups = [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
        provider.kx_groups.retain(|group| groups.contains(&group.name()));
        let provider = Arc::new(provider);
        let mut alpn = settings(&provider, ACME_TLS_1)?;
        // What a server selects is evidence, also if it was not offered (`cases.md` D37).
        alpn.check_selected_alpn = false;
        Ok(Self { fetch: Arc::new(settings(&provider, b"http/1.1")?), alpn: Arc::new(alpn) })
    }
}

fn settings(provider: &Arc<CryptoProvider>, protocol: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let mut settings = ClientConfig::builder_with_details(provider.clone(), Arc::new(NoClock))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptsEveryChain))
        .with_no_client_auth();
    settings.alpn_protocols = vec![protocol.to_vec()];
    // Nothing of one attempt is ever used in another (req A11).
    settings.resumption = Resumption::disabled();
    Ok(settings)
}

/// Time matters only to certificates and tickets: the ones are not judged, the others not kept.
#[derive(Debug)]
struct NoClock;

impl TimeProvider for NoClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::ZERO))
    }
}

/// The server name for a fetch: that of an address is not sent (RFC 6066 §3). None if TLS cannot name the host.
#[must_use]
pub fn server_name(host: &Host) -> Option<ServerName<'static>> {
    match host {
        Host::Name(name) => DnsName::try_from(name.clone()).ok().map(ServerName::DnsName),
        Host::Ip(address) => Some(ServerName::IpAddress((*address).into())),
    }
}
