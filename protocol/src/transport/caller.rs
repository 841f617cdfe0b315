//! Who calls, as the certificate of the connection says, and lists of who may.
//!
//! Nothing here verifies a certificate; a [`Caller`] is made of one that was verified during the handshake.
//!
//! Invariant: names are compared in lower case and whole; a wildcard stands for nothing but itself, and no list has one.
//! Invariant: an empty list permits nobody.

use std::{
    fmt::{self, Display},
    str::FromStr,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, DnsName};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use webpki::EndEntityCert;

/// Who is at the other end of a connection. Cheap to clone: it goes into the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The dNSNames of the certificate, lower case.
    pub names: Arc<[String]>,
    /// The key of the certificate.
    pub key: KeyPin,
}

impl Caller {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// When it is not a well-formed X.509 certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, webpki::Error> {
        let certificate = EndEntityCert::try_from(certificate)?;
        Ok(Self {
            names: certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
            key: KeyPin::of(&certificate.subject_public_key_info()),
        })
    }
}

/// SHA-256 of a public key as certificates have it (SubjectPublicKeyInfo, DER). Written `sha256/` and Base64.
///
/// It outlives a certificate that is renewed with the same key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPin([u8; 32]);

/// What was given is not `sha256/` and the Base64 of 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not `sha256/` and the Base64 of a SHA-256 digest")]
pub struct BadPin(String);

impl KeyPin {
    /// Of a SubjectPublicKeyInfo, DER.
    pub fn of(key: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest(&SHA256, key).as_ref());
        Self(pin)
    }
}

impl Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl FromStr for KeyPin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        text.strip_prefix("sha256/")
            .and_then(|digest| BASE64_STANDARD.decode(digest).ok())
            .and_then(|digest| digest.try_into().ok())
            .map(Self)
            .ok_or_else(|| BadPin(text.to_owned()))
    }
}

impl TryFrom<String> for KeyPin {
    type Error = BadPin;

    fn try_from(text: String) -> Result<Self, BadPin> {
        text.parse()
    }
}

impl From<KeyPin> for String {
    fn from(pin: KeyPin) -> Self {
        pin.to_string()
    }
}

/// Who may call: names, one of which the caller's certificate must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct AllowList(Vec<String>);

/// An entry of a list that no certificate could match, which is surely not what was meant.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a DNS name; wildcards are not understood here")]
pub struct BadName(String);

impl AllowList {
    /// A list of DNS names; case does not matter.
    ///
    /// # Errors
    ///
    /// When an entry is not a DNS name or has a wildcard.
    pub fn new(names: impl IntoIterator<Item = String>) -> Result<Self, BadName> {
        let checked = |name: String| match DnsName::try_from(name.as_str()) {
            Ok(_) => Ok(name.to_ascii_lowercase()),
            Err(_) => Err(BadName(name)),
        };
        names.into_iter().map(checked).collect::<Result<_, _>>().map(Self)
    }

    /// Is one of the caller's names on the list?
    pub fn permits(&self, caller: &Caller) -> bool {
        caller.names.iter().any(|name| self.0.contains(name))
    }
}

impl TryFrom<Vec<String>> for AllowList {
    type Error = BadName;

    fn try_from(names: Vec<String>) -> Result<Self, BadName> {
        Self::new(names)
    }
}

impl From<AllowList> for Vec<String> {
    fn from(list: AllowList) -> Self {
        list.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(names: &[&str]) -> Caller {
        Caller { names: names.iter().map(|name| (*name).to_owned()).collect(), key: KeyPin::of(b"") }
    }

    fn list(names: &[&str]) -> Result<AllowList, BadName> {
        AllowList::new(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn a_list_permits_whole_names_only() {
        let engines = list(&["Engine.parallax.internal"]).unwrap();
        assert!(engines.permits(&caller(&["other.internal", "engine.parallax.internal"])));
        for name in ["parallax.internal", "a.engine.parallax.internal", "*.parallax.internal", "engine"] {
            assert!(!engines.permits(&caller(&[name])), "{name}");
        }
        assert!(!engines.permits(&caller(&[])));
        assert!(!AllowList::default().permits(&caller(&["engine.parallax.internal"])));
    }

    #[test]
    fn a_list_refuses_what_can_match_nothing() {
        for name in ["", "*.parallax.internal", "*", "a b", "ä.internal"] {
            assert_eq!(list(&[name]), Err(BadName(name.into())), "{name}");
        }
        assert!(serde_json::from_str::<AllowList>(r#"["a.internal"]"#).unwrap().permits(&caller(&["a.internal"])));
        assert!(serde_json::from_str::<AllowList>(r#"["*.internal"]"#).is_err());
    }

    #[test]
    fn a_pin_is_read_as_it_is_written() {
        let pin = KeyPin::of(b"key");
        assert_eq!(pin.to_string().parse(), Ok(pin));
        assert_eq!(KeyPin::of(b"").to_string(), "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        for bad in ["", "sha256/", "sha256/AAAA", "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="] {
            assert_eq!(bad.parse::<KeyPin>(), Err(BadPin(bad.into())), "{bad}");
        }
    }
}
