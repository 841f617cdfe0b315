//! Challenges: what shows control by each method, and the secrets in them.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    check::dcv::{Method, contact::ContactKind},
    observation::RecordType,
};

/// The challenge of a control method. In JSON the fields of its proof stand beside its method.
///
/// Invariant of those that are parsed or read back: the proof is of the method's kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ChallengeFields", into = "ChallengeFields")]
pub struct Challenge {
    /// The method.
    pub method: Method,
    /// What shows control.
    pub proof: Proof,
}

/// What the subject must publish to show control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A key authorization, or its digest.
    KeyAuthorization(KeyAuthorization),
    /// The digest of a key authorization that was not told.
    KeyDigest(KeyDigest),
    /// The digest of a key authorization, at a name made from the account.
    AccountName {
        /// What is published.
        key_authorization: KeyAuthorization,
        /// What the name is made from.
        account_uri: String,
    },
    /// A record that names the account. It is public and holds nothing secret.
    Persistent {
        /// The account.
        account_uri: String,
    },
    /// A value in a record (req D6).
    DnsChange {
        /// The value.
        value: RandomValue,
        /// The type of the record.
        record: ChangeRecord,
        /// The label before the authorization domain name, if there is one; it begins with an underscore.
        prefix: Option<String>,
        /// Whether it may stand, whole, within a longer text.
        within: bool,
    },
    /// A value in a file (req D14).
    Website {
        /// The value.
        value: RandomValue,
        /// The file's path below [`crate::check::dcv::website::FOLDER`].
        file: String,
        /// Whether the first request goes to port 443.
        https: bool,
    },
    /// A contact that the CA has chosen (req D10–D12). It is public.
    Contact {
        /// The mail address or telephone number, as published.
        contact: String,
    },
}

/// The types of record that may hold a value (TLS BR 2.3.1 §3.2.2.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeRecord {
    /// The whole text.
    Txt,
    /// A label of the target.
    Cname,
    /// The value of a parameter.
    Caa,
}

impl ChangeRecord {
    /// As a type that is asked for.
    #[must_use]
    pub fn rtype(self) -> RecordType {
        match self {
            Self::Txt => RecordType::Txt,
            Self::Cname => RecordType::Cname,
            Self::Caa => RecordType::Caa,
        }
    }
}

/// A key authorization and its token (RFC 8555 §8.1).
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAuthorization {
    /// At least 128 bits in base64url (RFC 8555 §8.3).
    pub token: String,
    /// Token, dot and thumbprint. Not for eyes of other tenants; no message prints it.
    pub value: String,
}

impl fmt::Debug for KeyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAuthorization").field("token", &self.token).finish_non_exhaustive()
    }
}

impl KeyAuthorization {
    /// base64url without padding of SHA-256 of it (RFC 8555 §8.4).
    #[must_use]
    pub fn digest(&self) -> String {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        BASE64_URL_SAFE_NO_PAD.encode(self.octets())
    }

    /// SHA-256 of it.
    #[must_use]
    pub fn octets(&self) -> [u8; 32] {
        Sha256::digest(self.value.as_bytes()).into()
    }
}

/// SHA-256 of a key authorization, in base64url without padding (RFC 8555 §8.4). It is published, so no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyDigest(String);

impl KeyDigest {
    /// A digest as given.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// As published in DNS.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its octets; none if it is no digest.
    #[must_use]
    pub fn octets(&self) -> Option<[u8; 32]> {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        BASE64_URL_SAFE_NO_PAD.decode(&self.0).ok()?.try_into().ok()
    }
}

/// A Random Value or Request Token (TLS BR 2.3.1 §1.6.1, req D2). Not for eyes of other tenants; no message prints
/// it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RandomValue(String);

impl fmt::Debug for RandomValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomValue")
    }
}

impl RandomValue {
    /// A value as given.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, to compare with.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Bits of randomness it has at most, by its length and the smallest usual alphabet that its characters come
    /// from; none if it hardly varies.
    #[must_use]
    pub fn bits_at_most(&self) -> u32 {
        const DISTINCT_MIN: usize = 6;
        let has = |class: fn(&u8) -> bool| self.0.bytes().any(|b| class(&b));
        let distinct = self.0.bytes().collect::<std::collections::BTreeSet<_>>().len();
        if distinct < DISTINCT_MIN {
            return 0;
        }
        let (upper, lower, digit) = (has(u8::is_ascii_uppercase), has(u8::is_ascii_lowercase), has(u8::is_ascii_digit));
        let hexadecimal = self.0.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && !(upper && lower);
        let symbols = match (upper, lower, digit) {
            (false, false, _) => 10.0,
            _ if hexadecimal => 16.0,
            (true, true, true) => 62.0,
            (true, true, false) => 52.0,
            (_, _, true) => 36.0,
            (_, _, false) => 26.0_f64,
        };
        // What separates groups of characters is not random.
        let counted = self.0.bytes().filter(u8::is_ascii_alphanumeric).count();
        (counted as f64 * symbols.log2()) as u32
    }
}

/// A challenge as it stands in JSON and in requests.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct ChallengeFields {
    pub(super) method: Option<Method>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_authorization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_authorization_digest: Option<KeyDigest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) account_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) random_value: Option<RandomValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) record_type: Option<ChangeRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prefix_label: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) within: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) https: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) contact: Option<String>,
}

impl ChallengeFields {
    /// Fields that were given and that `method` does not have. An account may come with every method (RFC 8657).
    pub(super) fn unexpected(&self, method: Method) -> Option<&'static str> {
        let key = self.token.is_some() || self.key_authorization.is_some();
        let of = |field: &'static str, given: bool, methods: &[Method]| {
            (given && !methods.contains(&method)).then_some(field)
        };
        let with_key = [Method::Http01, Method::Dns01, Method::DnsAccount01, Method::TlsAlpn01];
        let key_field = if self.token.is_some() { "token" } else { "key_authorization" };
        let contacts =
            [Method::ContactEmailCaa, Method::ContactEmailTxt, Method::ContactPhoneCaa, Method::ContactPhoneTxt];
        of(key_field, key, &with_key)
            .or_else(|| {
                let given = self.key_authorization_digest.is_some();
                of("key_authorization_digest", given, &[Method::Dns01, Method::TlsAlpn01])
            })
            .or_else(|| of("random_value", self.random_value.is_some(), &[Method::DnsChange, Method::WebsiteChange]))
            .or_else(|| of("record_type", self.record_type.is_some(), &[Method::DnsChange]))
            .or_else(|| of("prefix_label", self.prefix_label.is_some(), &[Method::DnsChange]))
            .or_else(|| of("within", self.within, &[Method::DnsChange]))
            .or_else(|| of("file", self.file.is_some(), &[Method::WebsiteChange]))
            .or_else(|| of("https", self.https, &[Method::WebsiteChange]))
            .or_else(|| of("contact", self.contact.is_some(), &contacts))
    }
}

impl Challenge {
    /// What shows control by `method`. Fields that it does not need are left.
    ///
    /// # Errors
    /// The name of a field that is missing.
    pub(super) fn of(method: Method, fields: ChallengeFields) -> Result<Self, &'static str> {
        let proof = match method {
            Method::DnsAccount01 => Proof::AccountName {
                key_authorization: key_of(fields.token, fields.key_authorization)?,
                account_uri: fields.account_uri.ok_or("account_uri")?,
            },
            Method::DnsPersist01 => Proof::Persistent { account_uri: fields.account_uri.ok_or("account_uri")? },
            Method::Dns01 | Method::TlsAlpn01 if fields.key_authorization.is_none() => {
                match fields.key_authorization_digest {
                    Some(digest) => Proof::KeyDigest(digest),
                    None => Proof::KeyAuthorization(key_of(fields.token, None)?),
                }
            }
            Method::Http01 | Method::Dns01 | Method::TlsAlpn01 => {
                Proof::KeyAuthorization(key_of(fields.token, fields.key_authorization)?)
            }
            Method::DnsChange => Proof::DnsChange {
                value: fields.random_value.ok_or("random_value")?,
                record: fields.record_type.unwrap_or(ChangeRecord::Txt),
                prefix: fields.prefix_label,
                within: fields.within,
            },
            Method::WebsiteChange => Proof::Website {
                value: fields.random_value.ok_or("random_value")?,
                file: fields.file.ok_or("file")?,
                https: fields.https,
            },
            Method::ContactEmailCaa | Method::ContactEmailTxt | Method::ContactPhoneCaa | Method::ContactPhoneTxt => {
                Proof::Contact { contact: fields.contact.ok_or("contact")? }
            }
        };
        Ok(Self { method, proof })
    }

    /// The key authorization, if the method has one.
    #[must_use]
    pub fn key_authorization(&self) -> Option<&KeyAuthorization> {
        match &self.proof {
            Proof::KeyAuthorization(key_authorization) | Proof::AccountName { key_authorization, .. } => {
                Some(key_authorization)
            }
            Proof::KeyDigest(_)
            | Proof::Persistent { .. }
            | Proof::DnsChange { .. }
            | Proof::Website { .. }
            | Proof::Contact { .. } => None,
        }
    }

    /// The account, if the method needs one.
    #[must_use]
    pub fn account_uri(&self) -> Option<&str> {
        match &self.proof {
            Proof::AccountName { account_uri, .. } | Proof::Persistent { account_uri } => Some(account_uri),
            Proof::KeyAuthorization(_)
            | Proof::KeyDigest(_)
            | Proof::DnsChange { .. }
            | Proof::Website { .. }
            | Proof::Contact { .. } => None,
        }
    }

    /// The Random Value or Request Token, if the method has one.
    #[must_use]
    pub fn random_value(&self) -> Option<&RandomValue> {
        match &self.proof {
            Proof::DnsChange { value, .. } | Proof::Website { value, .. } => Some(value),
            Proof::KeyAuthorization(_)
            | Proof::KeyDigest(_)
            | Proof::AccountName { .. }
            | Proof::Persistent { .. }
            | Proof::Contact { .. } => None,
        }
    }

    /// The kind of contact that the method looks up, if it does.
    #[must_use]
    pub fn contact_kind(&self) -> Option<ContactKind> {
        match self.method {
            Method::ContactEmailCaa | Method::ContactEmailTxt => Some(ContactKind::Email),
            Method::ContactPhoneCaa | Method::ContactPhoneTxt => Some(ContactKind::Phone),
            Method::Http01
            | Method::Dns01
            | Method::DnsAccount01
            | Method::DnsPersist01
            | Method::TlsAlpn01
            | Method::DnsChange
            | Method::WebsiteChange => None,
        }
    }
}

fn key_of(token: Option<String>, key_authorization: Option<String>) -> Result<KeyAuthorization, &'static str> {
    let (token, value) = (token.ok_or("token")?, key_authorization.ok_or("key_authorization")?);
    Ok(KeyAuthorization { token, value })
}

impl TryFrom<ChallengeFields> for Challenge {
    type Error = String;

    fn try_from(fields: ChallengeFields) -> Result<Self, String> {
        let method = fields.method.ok_or_else(|| "method: missing".to_owned())?;
        let challenge = Self::of(method, fields).map_err(|field| format!("{field}: missing, and {method} needs it"))?;
        challenge.check().map_err(|error| error.to_string())?;
        Ok(challenge)
    }
}

impl From<Challenge> for ChallengeFields {
    fn from(challenge: Challenge) -> Self {
        let mut fields = Self { method: Some(challenge.method), ..Self::default() };
        match challenge.proof {
            Proof::KeyAuthorization(key) => {
                (fields.token, fields.key_authorization) = (Some(key.token), Some(key.value));
            }
            Proof::AccountName { key_authorization: key, account_uri } => {
                (fields.token, fields.key_authorization) = (Some(key.token), Some(key.value));
                fields.account_uri = Some(account_uri);
            }
            Proof::Persistent { account_uri } => fields.account_uri = Some(account_uri),
            Proof::KeyDigest(digest) => fields.key_authorization_digest = Some(digest),
            Proof::DnsChange { value, record, prefix, within } => {
                fields.within = within;
                fields.random_value = Some(value);
                fields.record_type = Some(record);
                fields.prefix_label = prefix;
            }
            Proof::Website { value, file, https } => {
                fields.random_value = Some(value);
                fields.file = Some(file);
                fields.https = https;
            }
            Proof::Contact { contact } => fields.contact = Some(contact),
        }
        fields
    }
}
