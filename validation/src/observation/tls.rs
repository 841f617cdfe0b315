//! What was seen of TLS: handshakes, certificates, and how a handshake failed.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{DnsLookup, NetworkError, UnusedAddress};
use crate::base::octets::Octets;

/// A TLS version that is spoken here (req D17, D20).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

impl std::fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V12 => "TLS 1.2",
            Self::V13 => "TLS 1.3",
        })
    }
}

/// Why a TLS handshake did not end well, or what broke the connection after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsFailure {
    /// The server ended it with this alert (RFC 8446 §6).
    Alert(u8),
    /// What came is not TLS.
    NotTls {
        /// First octets.
        first: Octets,
    },
    /// The server chose a version below TLS 1.2.
    OldVersion,
    /// The server cannot agree with us on something else.
    Incompatible(String),
    /// What came cannot be read, or is against the protocol.
    Malformed(String),
    /// The server showed no certificate.
    NoCertificate,
    /// The server's certificate holds no key that can be read.
    UnreadableCertificate,
    /// The server did not sign the handshake with the key of its certificate, or in a way not known here.
    BadSignature,
    /// More octets than a handshake may have.
    TooLarge,
    /// It went on more slowly than
    /// [`PACE_OCTETS_PER_SECOND_MIN`](crate::base::limits::PACE_OCTETS_PER_SECOND_MIN) allows.
    TooSlow,
    /// Silence, or the connection ended.
    Network(NetworkError),
    /// Our own side failed.
    Local(String),
}

/// TLS as it was spoken on one hop. For information: nothing is judged by it (`cases.md` D09).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// The version agreed on.
    pub version: TlsVersion,
    /// The cipher suite, by its IANA name as far as it is known.
    pub cipher_suite: String,
    /// The application protocol selected (RFC 7301).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Octets>,
    /// The server's own certificate.
    pub certificate: CertificateFacts,
}

/// What a server's certificate says. It is not what is being proven, so it is only written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// SHA-256 of it, hexadecimal.
    pub sha256: String,
    /// Its octets.
    pub octets: u32,
    /// What it says; none if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<CertificateContent>,
}

/// What a certificate that can be read says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateContent {
    /// Its subject.
    pub subject: Octets,
    /// Entries of its subjectAltName.
    pub names: u16,
    /// Begin of validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// End of validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Whether it is signed by its own key.
    pub self_signed: bool,
    /// Whether an entry of its subjectAltName is the host, or a wildcard that covers it.
    pub name_matches: bool,
}

/// Evidence for tls-alpn-01: one handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsObservation {
    /// The server name that was sent: the name, or the reverse name of the address (RFC 8738 §6).
    pub server_name: String,
    /// A and AAAA of the name; none if an address is asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolution: Vec<DnsLookup>,
    /// Addresses not connected to, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<UnusedAddress>,
    /// Addresses connected to, in order.
    pub tries: Vec<TlsTry>,
    /// How it ended.
    pub outcome: TlsOutcome,
}

/// One connection of a tls-alpn-01 probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsTry {
    /// The address, and port 443.
    pub address: SocketAddr,
    /// From SYN to established; none if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_us: Option<u64>,
    /// From SYN to the end.
    pub elapsed_us: u64,
    /// Octets received.
    pub received_bytes: u64,
    /// How it ended.
    pub end: TlsTryEnd,
}

/// How a connection of a tls-alpn-01 probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsTryEnd {
    /// With a whole handshake.
    Handshake,
    /// It was never established.
    NotConnected(NetworkError),
    /// It was established, and then this.
    Failed(TlsFailure),
}

/// How a tls-alpn-01 probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsOutcome {
    /// A whole handshake.
    Handshake(TlsHandshake),
    /// None.
    Failed(TlsProbeFailure),
}

/// What a whole handshake showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsHandshake {
    /// The version agreed on.
    pub version: TlsVersion,
    /// The cipher suite.
    pub cipher_suite: String,
    /// The application protocol selected, if any was (RFC 7301).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Octets>,
    /// The server's own certificate, up to a bound.
    pub certificate: CertificateDer,
}

/// A certificate as it came; written in base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CertificateDer(pub Vec<u8>);

impl std::fmt::Debug for CertificateDer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CertificateDer({} octets)", self.0.len())
    }
}

impl Serialize for CertificateDer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for CertificateDer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// Why a tls-alpn-01 probe saw no whole handshake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsProbeFailure {
    /// The name has no address; the lookups tell.
    NoAddress,
    /// The name's addresses could not be looked up; the lookups tell.
    LookupFailed,
    /// All addresses are forbidden.
    OnlySpecialAddresses,
    /// No address gave a whole handshake; the last try tells.
    NotAnswered,
    /// The task's deadline came first.
    DeadlineOfTask,
    /// Our own side failed: no descriptor, no port, no memory.
    Local(String),
}
