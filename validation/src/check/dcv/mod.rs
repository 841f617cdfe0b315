//! Domain control methods, a file for each.

pub mod dns01;
pub mod dns_account01;
pub mod dns_persist01;
pub mod http01;
pub mod tls_alpn01;

use std::fmt;

use serde::{Deserialize, Serialize};

/// A method to show control of a domain name or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// TLS BR 2.3.1 §3.2.2.4.19 (names) and §3.2.2.5.6 (addresses), RFC 8555 §8.3.
    #[serde(rename = "http-01")]
    Http01,
    /// TLS BR 2.3.1 §3.2.2.4.7, RFC 8555 §8.4.
    #[serde(rename = "dns-01")]
    Dns01,
    /// TLS BR 2.3.1 §3.2.2.4.21, draft-ietf-acme-dns-account-label-00.
    #[serde(rename = "dns-account-01")]
    DnsAccount01,
    /// TLS BR 2.3.1 §3.2.2.4.22 (names) and §3.2.2.5.8 (addresses), draft-ietf-acme-dns-persist.
    #[serde(rename = "dns-persist-01")]
    DnsPersist01,
    /// TLS BR 2.3.1 §3.2.2.4.20 (names) and §3.2.2.5.7 (addresses), RFC 8737 §3, RFC 8738 §6.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Http01, Self::Dns01, Self::DnsAccount01, Self::DnsPersist01, Self::TlsAlpn01];

    /// The ACME label (RFC 8555 §9.7.8).
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::DnsAccount01 => "dns-account-01",
            Self::DnsPersist01 => "dns-persist-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The method with this ACME label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.label() == label)
    }

    /// All labels by which a `validationmethods` parameter may name it (RFC 8657 §4, req C15).
    #[must_use]
    pub fn caa_labels(self) -> &'static [&'static str] {
        match self {
            Self::Http01 => &["http-01", "ca-tbr-19"],
            Self::Dns01 => &["dns-01", "ca-tbr-7"],
            Self::DnsAccount01 => &["dns-account-01", "ca-tbr-21"],
            Self::DnsPersist01 => &["dns-persist-01", "ca-tbr-22"],
            Self::TlsAlpn01 => &["tls-alpn-01", "ca-tbr-20"],
        }
    }

    /// The sub-section of the TLS BR (req E3).
    #[must_use]
    pub fn section(self, identifier_is_ip: bool) -> &'static str {
        match (self, identifier_is_ip) {
            (Self::Http01, false) => "3.2.2.4.19",
            (Self::Http01, true) => "3.2.2.5.6",
            (Self::Dns01, _) => "3.2.2.4.7",
            (Self::DnsAccount01, _) => "3.2.2.4.21",
            (Self::DnsPersist01, false) => "3.2.2.4.22",
            (Self::DnsPersist01, true) => "3.2.2.5.8",
            (Self::TlsAlpn01, false) => "3.2.2.4.20",
            (Self::TlsAlpn01, true) => "3.2.2.5.7",
        }
    }

    /// Whether it may validate a wildcard (req D1, D18).
    #[must_use]
    pub fn allows_wildcard(self) -> bool {
        match self {
            Self::Http01 | Self::TlsAlpn01 => false,
            Self::Dns01 | Self::DnsAccount01 | Self::DnsPersist01 => true,
        }
    }

    /// For how many days at most a result may be used again, if the method has a limit of its own below the
    /// general ones (TLS BR 2.3.1 §3.2.2.4.22; req F5). Results are not kept here: it is for the CA.
    #[must_use]
    pub fn reuse_days(self) -> Option<u16> {
        match self {
            Self::DnsPersist01 => Some(10),
            Self::Http01 | Self::Dns01 | Self::DnsAccount01 | Self::TlsAlpn01 => None,
        }
    }

    /// Whether it may validate an IP address (RFC 8738, TLS BR 2.3.1 §3.2.2.5.8).
    #[must_use]
    pub fn allows_ip(self) -> bool {
        match self {
            Self::Http01 | Self::DnsPersist01 | Self::TlsAlpn01 => true,
            Self::Dns01 | Self::DnsAccount01 => false,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
