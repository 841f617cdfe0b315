//! Domain control methods, a file for each; what the rules say about them is [`registry`].

pub mod contact;
pub mod derivation;
pub mod dns01;
pub mod dns_account01;
pub mod dns_change;
pub mod dns_persist01;
pub mod http01;
pub mod registry;
pub mod tls_alpn01;
pub mod website;

use std::{fmt, sync::LazyLock};

use serde::{Deserialize, Serialize};

use self::registry::Row;

/// A method to show control of a domain name or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// TLS BR 2.3.1 §3.2.2.4.7 with a Random Value or Request Token.
    #[serde(rename = "dns-change")]
    DnsChange,
    /// TLS BR 2.3.1 §3.2.2.4.18 (names) and §3.2.2.5.1 (addresses).
    #[serde(rename = "website-change")]
    WebsiteChange,
    /// TLS BR 2.3.1 §3.2.2.4.13.
    #[serde(rename = "contact-email-caa")]
    ContactEmailCaa,
    /// TLS BR 2.3.1 §3.2.2.4.14.
    #[serde(rename = "contact-email-txt")]
    ContactEmailTxt,
    /// TLS BR 2.3.1 §3.2.2.4.17.
    #[serde(rename = "contact-phone-caa")]
    ContactPhoneCaa,
    /// TLS BR 2.3.1 §3.2.2.4.16.
    #[serde(rename = "contact-phone-txt")]
    ContactPhoneTxt,
}

/// What the registry says about a method, looked up once.
struct Known {
    for_names: Option<&'static Row>,
    for_addresses: Option<&'static Row>,
    caa_labels: Vec<&'static str>,
}

/// By the order of [`Method::ALL`].
static KNOWN: LazyLock<[Known; Method::ALL.len()]> = LazyLock::new(|| {
    Method::ALL.map(|method| {
        let for_names = registry::row(method.label(), false);
        let registered = method.is_acme().then_some(method.label());
        let by_number = for_names.and_then(Row::caa_label);
        let caa_labels = registered.into_iter().chain(by_number).collect();
        Known { for_names, for_addresses: registry::row(method.label(), true), caa_labels }
    })
});

impl Method {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Http01,
        Self::Dns01,
        Self::DnsAccount01,
        Self::DnsPersist01,
        Self::TlsAlpn01,
        Self::DnsChange,
        Self::WebsiteChange,
        Self::ContactEmailCaa,
        Self::ContactEmailTxt,
        Self::ContactPhoneCaa,
        Self::ContactPhoneTxt,
    ];

    /// The ACME label (RFC 8555 §9.7.8), or our own for a method that has none.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::DnsAccount01 => "dns-account-01",
            Self::DnsPersist01 => "dns-persist-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::DnsChange => "dns-change",
            Self::WebsiteChange => "website-change",
            Self::ContactEmailCaa => "contact-email-caa",
            Self::ContactEmailTxt => "contact-email-txt",
            Self::ContactPhoneCaa => "contact-phone-caa",
            Self::ContactPhoneTxt => "contact-phone-txt",
        }
    }

    /// The method with this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.label() == label)
    }

    /// Whether its label is one of ACME's.
    #[must_use]
    pub fn is_acme(self) -> bool {
        match self {
            Self::Http01 | Self::Dns01 | Self::DnsAccount01 | Self::DnsPersist01 | Self::TlsAlpn01 => true,
            Self::DnsChange
            | Self::WebsiteChange
            | Self::ContactEmailCaa
            | Self::ContactEmailTxt
            | Self::ContactPhoneCaa
            | Self::ContactPhoneTxt => false,
        }
    }

    /// All labels by which a `validationmethods` parameter may name it (RFC 8657 §4, TLS BR 2.3.1 §4.2.2.1.2,
    /// req C15).
    #[must_use]
    pub fn caa_labels(self) -> &'static [&'static str] {
        self.known().map_or(&[], |known| &known.caa_labels)
    }

    /// What the rules say about it for a name, or for an address; none if it is not for those.
    #[must_use]
    pub fn row(self, identifier_is_ip: bool) -> Option<&'static Row> {
        let known = self.known()?;
        if identifier_is_ip { known.for_addresses } else { known.for_names }
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.get(Self::ALL.iter().position(|method| *method == self)?)
    }

    /// Whether it may validate a wildcard (req D1, D18).
    #[must_use]
    pub fn allows_wildcard(self) -> bool {
        self.row(false).is_some_and(|row| row.wildcard)
    }

    /// For how many days at most a result may be used again, if the method has a limit of its own below the
    /// general ones (TLS BR 2.3.1 §3.2.2.4.22; req F5). Results are not kept here: it is for the CA.
    #[must_use]
    pub fn reuse_days(self) -> Option<u16> {
        self.row(false).and_then(|row| row.reuse_days)
    }

    /// Whether it may validate an IP address (RFC 8738, TLS BR 2.3.1 §3.2.2.5).
    #[must_use]
    pub fn allows_ip(self) -> bool {
        self.row(true).is_some()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
