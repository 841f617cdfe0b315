//! `CheckRequest`: what must be checked, fully parsed. A bad one cannot exist.
//!
//! [`RawRequest`] is what was written; [`CheckRequest::parse`] says what it means, or names the field at
//! fault. Everything that can be refused without a look-up is refused here, before any packet is sent.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    base::{
        address::AddressFilter,
        limits::{ACCOUNT_URI_CHARS_MAX, REQUEST_ID_CHARS_MAX, THUMBPRINT_CHARS, TOKEN_CHARS_MAX, TOKEN_CHARS_MIN},
        name::{DomainName, NameError},
        octets::escape,
    },
    check::dcv::Method,
    problem::ProblemKind,
};

/// A request as written in a bulk file or an API call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRequest {
    /// The caller's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A domain name, a wildcard name, or an IP address.
    pub identifier: String,
    /// A label of [`Method`], or `caa`.
    pub method: String,
    /// The challenge's token (RFC 8555 §8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// `token.thumbprint` (RFC 8555 §8.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_authorization: Option<String>,
    /// The ACME account (RFC 8657 §3); dns-account-01 and dns-persist-01 need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_uri: Option<String>,
    /// Whether CAA is checked with it; true if absent, except for IP addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<bool>,
    /// For `caa` alone: the method whose evidence will be relied on (req C15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relied_on_method: Option<String>,
    /// SHA-256 values in base64url that other authorizations of the same order expect at the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sibling_digests: Vec<String>,
}

/// The caller's name for a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

impl RequestId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RequestId {
    type Error = RequestError;

    fn try_from(text: String) -> Result<Self, RequestError> {
        let fits = (1..=REQUEST_ID_CHARS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(&b));
        if fits { Ok(Self(text)) } else { Err(RequestError::Id(shown(&text))) }
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a certificate would name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Identifier {
    /// Exactly this name.
    Name(DomainName),
    /// `*.` and this name.
    Wildcard(DomainName),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

impl Identifier {
    /// The name without `*.`; none for an address.
    #[must_use]
    pub fn domain(&self) -> Option<&DomainName> {
        match self {
            Self::Name(name) | Self::Wildcard(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// Whether it stands for all names one label below.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard(_))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Wildcard(name) => write!(f, "*.{name}"),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

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
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(self.value.as_bytes()))
    }
}

impl Challenge {
    /// What shows control by `method`, out of the fields of a request. Fields that it does not need are left.
    ///
    /// # Errors
    /// The name of a field that is missing.
    fn of(
        method: Method,
        token: Option<String>,
        key_authorization: Option<String>,
        account_uri: Option<String>,
    ) -> Result<Self, &'static str> {
        let key = || {
            let (token, value) = (token.ok_or("token")?, key_authorization.ok_or("key_authorization")?);
            Ok::<_, &'static str>(KeyAuthorization { token, value })
        };
        let account = || account_uri.ok_or("account_uri");
        let proof = match method {
            Method::DnsAccount01 => Proof::AccountName { key_authorization: key()?, account_uri: account()? },
            Method::DnsPersist01 => Proof::Persistent { account_uri: account()? },
            Method::Http01 | Method::Dns01 | Method::TlsAlpn01 => Proof::KeyAuthorization(key()?),
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
            Proof::Persistent { .. } => None,
        }
    }

    /// The account, if the method needs one.
    #[must_use]
    pub fn account_uri(&self) -> Option<&str> {
        match &self.proof {
            Proof::AccountName { account_uri, .. } | Proof::Persistent { account_uri } => Some(account_uri),
            Proof::KeyAuthorization(_) => None,
        }
    }
}

/// A challenge as it stands in JSON.
#[derive(Serialize, Deserialize)]
struct ChallengeFields {
    method: Method,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_authorization: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_uri: Option<String>,
}

impl TryFrom<ChallengeFields> for Challenge {
    type Error = String;

    fn try_from(fields: ChallengeFields) -> Result<Self, String> {
        Self::of(fields.method, fields.token, fields.key_authorization, fields.account_uri)
            .map_err(|field| format!("{field}: missing, and {} needs it", fields.method))
    }
}

impl From<Challenge> for ChallengeFields {
    fn from(challenge: Challenge) -> Self {
        let account_uri = challenge.account_uri().map(str::to_owned);
        let (token, key_authorization) = match challenge.proof {
            Proof::KeyAuthorization(key) | Proof::AccountName { key_authorization: key, .. } => {
                (Some(key.token), Some(key.value))
            }
            Proof::Persistent { .. } => (None, None),
        };
        Self { method: challenge.method, token, key_authorization, account_uri }
    }
}

/// A CAA check (RFC 8659), and what binds it (RFC 8657).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaaCheck {
    /// The requesting account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_uri: Option<String>,
    /// The method relied on for this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
}

/// A request that may be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// The caller's name for it.
    pub id: RequestId,
    /// What a certificate would name.
    pub identifier: Identifier,
    /// Control, if it is to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Challenge>,
    /// Authority under CAA, if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<CaaCheck>,
    /// Digests that belong to other authorizations of the same order (`cases.md` D18).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sibling_digests: Vec<String>,
}

/// Why a request cannot be carried out. Blame: request; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The id.
    #[error("id: 1 to {REQUEST_ID_CHARS_MAX} characters out of A-Z a-z 0-9 . _ : / - are allowed, unlike '{0}'")]
    Id(String),
    /// The name.
    #[error("identifier: {0}")]
    Name(#[from] NameError),
    /// A reserved address.
    #[error(
        "identifier: {address} lies in {prefix} ({purpose}); reserved addresses are never certified (TLS BR 2.3.1 §4.2.2)"
    )]
    ReservedAddress {
        /// The address.
        address: IpAddr,
        /// Its block.
        prefix: &'static str,
        /// What the block is for.
        purpose: &'static str,
    },
    /// A method this program does not have.
    #[error("{field}: '{given}' is not a method offered here; {} and caa are", Method::ALL.map(Method::label).join(", "))]
    Method {
        /// `method` or `relied_on_method`.
        field: &'static str,
        /// As given, escaped.
        given: String,
    },
    /// A method that proves one name only.
    #[error(
        "method: {method} proves exactly one name and cannot validate the wildcard {identifier} (TLS BR 2.3.1 §3.2.2.4, req D18); use dns-01"
    )]
    WildcardMethod {
        /// The method.
        method: Method,
        /// The identifier.
        identifier: String,
    },
    /// A method that needs a name.
    #[error("method: {method} cannot validate the address {address} (RFC 8738 §7)")]
    AddressMethod {
        /// Its label, or `caa`.
        method: &'static str,
        /// The address.
        address: IpAddr,
    },
    /// A field that the method needs.
    #[error("{field}: missing, and {method} needs it")]
    Missing {
        /// The field.
        field: &'static str,
        /// The method.
        method: String,
    },
    /// A field that the method does not have.
    #[error("{field}: given, but {method} has no such field")]
    Unexpected {
        /// The field.
        field: &'static str,
        /// The method.
        method: String,
    },
    /// The token.
    #[error("token: {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} characters of base64url are allowed (RFC 8555 §8.3); {0}")]
    Token(String),
    /// The key authorization.
    #[error(
        "key_authorization: the token, a dot and a thumbprint of {THUMBPRINT_CHARS} characters of base64url are wanted (RFC 8555 §8.1); {0}"
    )]
    KeyAuthorization(&'static str),
    /// The account URI.
    #[error("account_uri: {0}")]
    AccountUri(&'static str),
    /// CAA for an address.
    #[error("caa: IP addresses have no CAA records to check; leave it out or give false")]
    CaaForAddress,
    /// A digest that is none.
    #[error("sibling_digests: '{0}' is not SHA-256 in base64url without padding")]
    SiblingDigest(String),
}

impl RequestError {
    /// The problem type of RFC 8555 §6.7.
    #[must_use]
    pub fn problem(&self) -> ProblemKind {
        match self {
            Self::Name(_) | Self::ReservedAddress { .. } => ProblemKind::RejectedIdentifier,
            Self::Id(_)
            | Self::Method { .. }
            | Self::WildcardMethod { .. }
            | Self::AddressMethod { .. }
            | Self::Missing { .. }
            | Self::Unexpected { .. }
            | Self::Token(_)
            | Self::KeyAuthorization(_)
            | Self::AccountUri(_)
            | Self::CaaForAddress
            | Self::SiblingDigest(_) => ProblemKind::Malformed,
        }
    }
}

fn shown(text: &str) -> String {
    escape(&text.as_bytes()[..text.len().min(100)])
}

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl CheckRequest {
    /// Says what a request means. `default_id` names it if it has no name; `filter` tells which
    /// addresses are reserved.
    ///
    /// # Errors
    /// The first field at fault, by name.
    pub fn parse(raw: RawRequest, default_id: &str, filter: &AddressFilter) -> Result<Self, RequestError> {
        let id = RequestId::try_from(raw.id.clone().unwrap_or_else(|| default_id.to_owned()))?;
        let identifier = parse_identifier(&raw.identifier, filter)?;
        if let Some(uri) = &raw.account_uri {
            check_account_uri(uri)?;
        }
        if let Some(bad) = raw.sibling_digests.iter().find(|d| d.len() != THUMBPRINT_CHARS || !is_base64url(d)) {
            return Err(RequestError::SiblingDigest(shown(bad)));
        }
        let (control, caa) = if raw.method == "caa" {
            (None, Some(caa_alone(&raw, &identifier)?))
        } else {
            let challenge = parse_challenge(&raw, &identifier)?;
            let caa = caa_with(&raw, &identifier, challenge.method)?;
            (Some(challenge), caa)
        };
        Ok(Self { id, identifier, control, caa, sibling_digests: raw.sibling_digests })
    }

    /// The label of the method, or `caa`.
    #[must_use]
    pub fn method_label(&self) -> &'static str {
        self.control.as_ref().map_or("caa", |challenge| challenge.method.label())
    }
}

fn parse_identifier(text: &str, filter: &AddressFilter) -> Result<Identifier, RequestError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return match filter.forbids(address) {
            None => Ok(Identifier::Ip(address)),
            Some(block) => Err(RequestError::ReservedAddress { address, prefix: block.prefix, purpose: block.purpose }),
        };
    }
    Ok(match text.strip_prefix("*.") {
        Some(rest) => Identifier::Wildcard(rest.parse()?),
        None => Identifier::Name(text.parse()?),
    })
}

fn check_account_uri(uri: &str) -> Result<(), RequestError> {
    if uri.is_empty() || uri.len() > ACCOUNT_URI_CHARS_MAX {
        return Err(RequestError::AccountUri("empty or too long"));
    }
    if !uri.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
        return Err(RequestError::AccountUri("only visible ASCII may stand in a URI"));
    }
    match uri.split_once(':') {
        Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(()),
        _ => Err(RequestError::AccountUri("no scheme, so it is not a URI")),
    }
}

fn parse_method(field: &'static str, text: &str) -> Result<Method, RequestError> {
    Method::from_label(text).ok_or_else(|| RequestError::Method { field, given: shown(text) })
}

fn caa_alone(raw: &RawRequest, identifier: &Identifier) -> Result<CaaCheck, RequestError> {
    if let Identifier::Ip(address) = identifier {
        return Err(RequestError::AddressMethod { method: "caa", address: *address });
    }
    for (field, given) in [("token", raw.token.is_some()), ("key_authorization", raw.key_authorization.is_some())] {
        if given {
            return Err(RequestError::Unexpected { field, method: "caa".to_owned() });
        }
    }
    let method = raw.relied_on_method.as_deref().map(|m| parse_method("relied_on_method", m)).transpose()?;
    Ok(CaaCheck { account_uri: raw.account_uri.clone(), method })
}

fn caa_with(raw: &RawRequest, identifier: &Identifier, method: Method) -> Result<Option<CaaCheck>, RequestError> {
    let is_address = identifier.domain().is_none();
    match raw.caa {
        Some(true) if is_address => Err(RequestError::CaaForAddress),
        Some(false) => Ok(None),
        None if is_address => Ok(None),
        Some(true) | None => Ok(Some(CaaCheck { account_uri: raw.account_uri.clone(), method: Some(method) })),
    }
}

fn parse_challenge(raw: &RawRequest, identifier: &Identifier) -> Result<Challenge, RequestError> {
    let method = parse_method("method", &raw.method)?;
    if raw.relied_on_method.is_some() {
        return Err(RequestError::Unexpected { field: "relied_on_method", method: raw.method.clone() });
    }
    if identifier.is_wildcard() && !method.allows_wildcard() {
        return Err(RequestError::WildcardMethod { method, identifier: identifier.to_string() });
    }
    if let (Identifier::Ip(address), false) = (identifier, method.allows_ip()) {
        return Err(RequestError::AddressMethod { method: method.label(), address: *address });
    }
    let (token, key_authorization) = (raw.token.clone(), raw.key_authorization.clone());
    let given = [("token", token.is_some()), ("key_authorization", key_authorization.is_some())];
    let challenge = Challenge::of(method, token, key_authorization, raw.account_uri.clone())
        .map_err(|field| RequestError::Missing { field, method: method.to_string() })?;
    match (challenge.key_authorization(), challenge.account_uri()) {
        (Some(key), _) => {
            check_token(&key.token)?;
            check_key_authorization(&key.token, &key.value)?;
        }
        (None, account_uri) => {
            if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(RequestError::Unexpected { field, method: method.to_string() });
            }
            if account_uri.is_some_and(|uri| uri.contains(';')) {
                return Err(RequestError::AccountUri("a semicolon cannot stand in a record (RFC 8659 §4.2)"));
            }
        }
    }
    Ok(challenge)
}

fn check_token(token: &str) -> Result<(), RequestError> {
    if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) {
        return Err(RequestError::Token(format!("{} characters were given", token.len())));
    }
    match token.bytes().find(|b| !is_base64url(std::str::from_utf8(&[*b]).unwrap_or(" "))) {
        Some(byte) => Err(RequestError::Token(format!("'{}' is not one", escape(&[byte])))),
        None => Ok(()),
    }
}

fn check_key_authorization(token: &str, key_authorization: &str) -> Result<(), RequestError> {
    let Some(thumbprint) = key_authorization.strip_prefix(token).and_then(|rest| rest.strip_prefix('.')) else {
        return Err(RequestError::KeyAuthorization("it does not start with the token and a dot"));
    };
    if thumbprint.len() != THUMBPRINT_CHARS || !is_base64url(thumbprint) {
        return Err(RequestError::KeyAuthorization("what follows the token is no thumbprint"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const ACCOUNT: &str = "https://ca.example/acct/7";

    fn raw(identifier: &str, method: &str) -> RawRequest {
        RawRequest {
            identifier: identifier.to_owned(),
            method: method.to_owned(),
            token: Some(TOKEN.to_owned()),
            key_authorization: Some(format!("{TOKEN}.{}", "A".repeat(43))),
            ..RawRequest::default()
        }
    }

    fn with_account(method: &str) -> RawRequest {
        let mut request = raw("customer.example", method);
        request.account_uri = Some(ACCOUNT.to_owned());
        if method == "dns-persist-01" {
            (request.token, request.key_authorization) = (None, None);
        }
        request
    }

    fn parse(raw: RawRequest) -> Result<CheckRequest, RequestError> {
        CheckRequest::parse(raw, "line-1", &AddressFilter::default())
    }

    #[test]
    fn ok_a_name_gets_control_and_caa_an_address_control_only() {
        let name = parse(raw("www.customer.example", "http-01")).expect("good");
        assert!(name.control.is_some() && name.caa.is_some());
        let address = parse(raw("8.8.4.4", "http-01")).expect("good");
        assert!(address.control.is_some() && address.caa.is_none());
    }

    #[test]
    fn d39_err_refusals_name_the_field_before_any_packet() {
        let without = |field: &str| {
            let mut request = raw("www.customer.example", "dns-01");
            if field == "token" {
                request.token = None
            } else {
                request.key_authorization = None
            }
            request
        };
        let mut bad_token = raw("www.customer.example", "dns-01");
        bad_token.token = Some(format!("{}!", &TOKEN[..42]));
        let mut short = raw("www.customer.example", "dns-01");
        short.token = Some("abc".to_owned());
        let mut caa_ip = raw("8.8.4.4", "http-01");
        caa_ip.caa = Some(true);
        for (request, wants, problem) in [
            (raw("*.customer.example", "http-01"), "cannot validate the wildcard", ProblemKind::Malformed),
            (
                raw("foo_bar.customer.example", "http-01"),
                "not allowed in a certificate",
                ProblemKind::RejectedIdentifier,
            ),
            (raw("192.0.2.7", "http-01"), "documentation", ProblemKind::RejectedIdentifier),
            (raw("8.8.4.4", "dns-01"), "cannot validate the address", ProblemKind::Malformed),
            (raw("www.customer.example", "tls-sni-01"), "method: 'tls-sni-01'", ProblemKind::Malformed),
            (without("token"), "token: missing", ProblemKind::Malformed),
            (without("key_authorization"), "key_authorization: missing", ProblemKind::Malformed),
            (bad_token, "'!' is not one", ProblemKind::Malformed),
            (short, "3 characters", ProblemKind::Malformed),
            (raw("www.customer.example", "caa"), "token: given, but caa", ProblemKind::Malformed),
            (caa_ip, "no CAA records", ProblemKind::Malformed),
        ] {
            let error = parse(request.clone()).expect_err(&request.identifier);
            assert!(error.to_string().contains(wants), "{error}");
            assert_eq!(error.problem(), problem, "{error}");
        }
    }

    #[test]
    fn a_challenge_reads_back_and_what_was_written_before_proofs_had_kinds_still_does() {
        let value = format!("{TOKEN}.{}", "A".repeat(43));
        let old = format!(r#"{{"method":"dns-01","token":"{TOKEN}","key_authorization":"{value}"}}"#);
        let challenge: Challenge = serde_json::from_str(&old).expect("the old form");
        let key = KeyAuthorization { token: TOKEN.to_owned(), value };
        assert_eq!(challenge, Challenge { method: Method::Dns01, proof: Proof::KeyAuthorization(key) });
        assert_eq!(serde_json::to_string(&challenge).expect("JSON"), old, "and it is written as before");
        for (method, form) in [
            ("dns-account-01", format!(r#"{},"account_uri":"{ACCOUNT}"}}"#, old.trim_end_matches('}'))),
            ("dns-persist-01", format!(r#"{{"method":"dns-persist-01","account_uri":"{ACCOUNT}"}}"#)),
        ] {
            let control = parse(with_account(method)).expect("good").control.expect("control");
            let json = serde_json::to_string(&control).expect("JSON");
            assert_eq!(json, form.replace("\"dns-01\"", &format!("\"{method}\"")));
            assert_eq!(serde_json::from_str::<Challenge>(&json).expect("read back"), control);
        }
        let forged = format!(r#"{{"method":"http-01","account_uri":"{ACCOUNT}"}}"#);
        let error = serde_json::from_str::<Challenge>(&forged).expect_err("a proof of another kind");
        assert!(error.to_string().contains("token: missing, and http-01 needs it"), "{error}");
    }

    #[test]
    fn d8_d9_methods_of_an_account() {
        let persist = parse(with_account("dns-persist-01")).expect("good");
        let caa = persist.caa.as_ref().expect("CAA");
        assert_eq!((caa.method, caa.account_uri.as_deref()), (Some(Method::DnsPersist01), Some(ACCOUNT)));
        for identifier in ["*.customer.example", "8.8.4.4"] {
            let request = RawRequest { identifier: identifier.to_owned(), ..with_account("dns-persist-01") };
            assert!(parse(request).is_ok(), "{identifier}");
        }
        let without = |method, field| {
            let mut request = with_account(method);
            match field {
                "account_uri" => request.account_uri = None,
                "token" => request.token = None,
                _ => request.key_authorization = None,
            }
            request
        };
        let given = |token: Option<&str>, key: Option<&str>| RawRequest {
            token: token.map(str::to_owned),
            key_authorization: key.map(str::to_owned),
            ..with_account("dns-persist-01")
        };
        let mut with_semicolon = with_account("dns-persist-01");
        with_semicolon.account_uri = Some("https://ca.example/acct;7".to_owned());
        let mut address = with_account("dns-account-01");
        address.identifier = "8.8.4.4".to_owned();
        for (request, wants) in [
            (without("dns-account-01", "account_uri"), "account_uri: missing, and dns-account-01 needs it"),
            (without("dns-account-01", "token"), "token: missing, and dns-account-01"),
            (without("dns-account-01", "key_authorization"), "key_authorization: missing, and dns-account-01"),
            (without("dns-persist-01", "account_uri"), "account_uri: missing, and dns-persist-01 needs it"),
            (given(Some(TOKEN), None), "token: given, but dns-persist-01"),
            (given(None, Some(TOKEN)), "key_authorization: given, but dns-persist-01"),
            (with_semicolon, "a semicolon"),
            (address, "dns-account-01 cannot validate the address"),
        ] {
            let error = parse(request).expect_err(wants);
            assert!(error.to_string().contains(wants), "{error}");
            assert_eq!(error.problem(), ProblemKind::Malformed, "{error}");
        }
    }

    #[test]
    fn a_challenge_does_not_print_its_secret() {
        let request = parse(raw("www.customer.example", "http-01")).expect("good");
        assert!(!format!("{request:?}").contains("AAAA"));
    }
}
