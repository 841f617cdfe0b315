//! `CheckRequest`: what must be checked, fully parsed. A bad one cannot exist.
//!
//! [`RawRequest`] is what was written; [`CheckRequest::parse`] says what it means, or names the field at
//! fault. Everything that can be refused without a look-up is refused here, before any packet is sent.

mod challenge;
mod parse;
mod restrictions;

use std::{borrow::Cow, fmt, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::challenge::ChallengeFields;
pub use self::{
    challenge::{Challenge, ChangeRecord, KeyAuthorization, KeyDigest, Proof, RandomValue},
    parse::RequestRules,
    restrictions::Restrictions,
};
use crate::{
    base::{
        limits::{
            ACCOUNT_URI_CHARS_MAX, FILE_CHARS_MAX, NAME_OCTETS_MAX, RANDOM_VALUE_BITS_MIN, RANDOM_VALUE_CHARS_MAX,
            REQUEST_ID_CHARS_MAX, THUMBPRINT_CHARS, TOKEN_CHARS_MAX, TOKEN_CHARS_MIN,
        },
        name::{DomainName, NameError},
        octets::escape,
    },
    check::dcv::{
        Method,
        dns_persist01::reverse_name,
        registry::{self, Row},
    },
    observation::RecordType,
    plan::inquiry::Inquiry,
    problem::ProblemKind,
};

/// A request as written in a bulk file or an API call. It prints no secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRequest {
    /// The caller's name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A domain name, a wildcard name, an IP address, or a mailbox address.
    pub identifier: String,
    /// A label of [`Method`], or `caa`.
    pub method: String,
    /// The challenge's token (RFC 8555 §8.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// `token.thumbprint` (RFC 8555 §8.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_authorization: Option<String>,
    /// SHA-256 of the key authorization in base64url, in place of token and key authorization: dns-01 and tls-alpn-01
    /// need no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_authorization_digest: Option<String>,
    /// The ACME account (RFC 8657 §3); dns-account-01 and dns-persist-01 need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_uri: Option<String>,
    /// Whose request it is, for fairness and limits; `account_uri` if absent. Nothing is judged by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The Random Value or Request Token of dns-change and website-change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_value: Option<String>,
    /// For dns-change: `TXT`, `CNAME` or `CAA`; `TXT` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_type: Option<String>,
    /// For dns-change: the label before the authorization domain name, which begins with an underscore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_label: Option<String>,
    /// For dns-change with TXT: whether the value may stand, whole, within a longer text; false if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<bool>,
    /// For website-change: the file below `/.well-known/pki-validation/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// For website-change: `http` or `https`; `http` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// For the contact methods: the contact that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// The authorization domain name, if it is not the identifier's own: a domain above it, or one that its aliases
    /// lead to or below (req D1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_domain: Option<String>,
    /// For an address: its name by reverse lookup, which control is shown for (TLS BR 2.3.1 §3.2.2.5.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_name: Option<String>,
    /// For a mailbox: the mail host that control is shown for (S/MIME BR §3.2.2.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_host: Option<String>,
    /// Whether CAA is checked with it; true if absent, except for IP addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<bool>,
    /// For `caa` alone: the method whose evidence will be relied on (req C15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relied_on_method: Option<String>,
    /// For `caa` alone: `tls-server`, or `s-mime` for the records that mailboxes are governed by (RFC 9495);
    /// `tls-server` if absent, except for mailboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_type: Option<String>,
    /// SHA-256 values in base64url that other authorizations of the same order expect at the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sibling_digests: Vec<String>,
    /// What is demanded beyond the CA's rules.
    #[serde(default, skip_serializing_if = "Restrictions::is_empty")]
    pub restrictions: Restrictions,
}

impl fmt::Debug for RawRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RawRequest");
        shown.field("id", &self.id).field("identifier", &self.identifier).field("method", &self.method);
        shown.finish_non_exhaustive()
    }
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
    /// A mailbox, for S/MIME.
    Mailbox(Mailbox),
}

/// A mailbox address (RFC 5321 §4.1.2). Its domain is in A-label form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mailbox {
    /// What stands before the `@`.
    pub local: String,
    /// What stands after it.
    pub domain: DomainName,
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

/// How the name that control is shown for follows from the identifier (req D1, D-e, D23).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Derivation {
    /// Labels were dropped from the identifier's domain.
    Pruned(DomainName),
    /// Aliases of the identifier lead to it, or to a name below it.
    Alias(DomainName),
    /// The address's name by reverse lookup (TLS BR 2.3.1 §3.2.2.5.3).
    Reverse(DomainName),
    /// A host that takes mail for the identifier's domain (S/MIME BR §3.2.2.3).
    MailHost(DomainName),
}

impl Derivation {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &DomainName {
        match self {
            Self::Pruned(name) | Self::Alias(name) | Self::Reverse(name) | Self::MailHost(name) => name,
        }
    }
}

impl Identifier {
    /// The name without `*.` or what stands before `@`; none for an address.
    #[must_use]
    pub fn domain(&self) -> Option<&DomainName> {
        match self {
            Self::Name(name) | Self::Wildcard(name) => Some(name),
            Self::Mailbox(mailbox) => Some(&mailbox.domain),
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
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// A CAA check (RFC 8659), and what binds it (RFC 8657).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaaCheck {
    /// The requesting account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_uri: Option<String>,
    /// The method relied on for this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The section of the method relied on, if it is one that is made elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section: Option<String>,
    /// Whether a name is checked as the domain of mailboxes (RFC 9495 §4); mailboxes always are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub s_mime: bool,
}

impl CaaCheck {
    /// What the rules say about the method relied on.
    #[must_use]
    pub fn row(&self) -> Option<&'static Row> {
        let elsewhere = || registry::section(self.section.as_deref()?);
        self.method.and_then(|method| method.row(false)).or_else(elsewhere)
    }

    /// All labels by which a `validationmethods` parameter may name it (req C15).
    #[must_use]
    pub fn labels(&self) -> Cow<'static, [&'static str]> {
        match self.method {
            Some(method) => Cow::Borrowed(method.caa_labels()),
            None => self.row().and_then(Row::caa_label).into_iter().collect(),
        }
    }
}

/// A request that may be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRequest {
    /// The caller's name for it.
    pub id: RequestId,
    /// What a certificate would name.
    pub identifier: Identifier,
    /// How the name that control is shown for follows from it; none if it is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derivation: Option<Derivation>,
    /// Control, if it is to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Challenge>,
    /// Authority under CAA, if it is to be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<CaaCheck>,
    /// Whose request it is, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Digests that belong to other authorizations of the same order (`cases.md` D18).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sibling_digests: Vec<String>,
    /// What is demanded beyond the CA's rules.
    #[serde(default, skip_serializing_if = "Restrictions::is_empty")]
    pub restrictions: Restrictions,
    /// The name of the program that asked, if it asked over an interface: by its certificate, never by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
}

/// Why a request cannot be carried out. Blame: request; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// The id.
    #[error("id: 1 to {REQUEST_ID_CHARS_MAX} characters out of A-Z a-z 0-9 . _ : / - are allowed, unlike '{0}'")]
    Id(String),
    /// A name.
    #[error("{field}: {fault}")]
    NameIn {
        /// The field it stands in.
        field: &'static str,
        /// What is wrong with it.
        fault: NameError,
    },
    /// A mailbox.
    #[error("identifier: '{0}' is no local part that is understood here; a dot-atom is (RFC 5322 §3.2.3)")]
    Mailbox(String),
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
    /// A method that may not be used any more.
    #[error("{field}: {method} {}", since.map_or("is retired".to_owned(), |since| format!("ended on {}; neither it nor earlier results by it may be used", registry::day(since))))]
    MethodEnded {
        /// Where it was named.
        field: &'static str,
        /// The method with its section.
        method: String,
        /// Since when.
        since: Option<Timestamp>,
    },
    /// A method of the rules that is not asked for by this name.
    #[error("{field}: {method} {why}")]
    OtherMethod {
        /// Where it was named.
        field: &'static str,
        /// The method with its section.
        method: String,
        /// Why not.
        why: String,
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
    /// Whose request it is.
    #[error("account: 1 to {ACCOUNT_URI_CHARS_MAX} visible characters of ASCII are allowed")]
    Account,
    /// The name that control was to be shown for.
    #[error("{field}: {problem}")]
    Derivation {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The Random Value or Request Token.
    #[error(
        "random_value: at least {RANDOM_VALUE_BITS_MIN} bits in at most {RANDOM_VALUE_CHARS_MAX} characters are wanted (TLS BR 2.3.1 §1.6.1); {0}"
    )]
    RandomValue(String),
    /// The value occurs in what is asked.
    #[error(
        "random_value: it occurs in {field}, so whoever repeats the question would confirm it (TLS BR 2.3.1 §3.2.2.4.18)"
    )]
    ValueInRequest {
        /// Where.
        field: &'static str,
    },
    /// The label before the authorization domain name.
    #[error("prefix_label: one label that begins with an underscore is wanted (TLS BR 2.3.1 §3.2.2.4.7), unlike '{0}'")]
    Prefix(String),
    /// The file.
    #[error(
        "file: a path of at most {FILE_CHARS_MAX} characters below /.well-known/pki-validation/ is wanted, unlike '{0}'"
    )]
    File(String),
    /// The contact.
    #[error("contact: '{given}' is not what {method} looks up (TLS BR 2.3.1 App. A)")]
    Contact {
        /// The method.
        method: Method,
        /// As given, escaped.
        given: String,
    },
    /// One of few words.
    #[error("{field}: '{given}' is not one of {choices}")]
    Choice {
        /// The field.
        field: &'static str,
        /// As given, escaped.
        given: String,
        /// What may be given.
        choices: &'static str,
    },
    /// CAA for an address.
    #[error("caa: IP addresses have no CAA records to check; leave it out or give false")]
    CaaForAddress,
    /// A name that a method makes too long.
    #[error(
        "identifier: with what {method} puts before it the name has {octets} octets; {NAME_OCTETS_MAX} are the limit (RFC 1035 §2.3.4)"
    )]
    LongName {
        /// The method.
        method: &'static str,
        /// Octets of the name that would be asked.
        octets: usize,
    },
    /// A digest that is none, of the key authorization.
    #[error("key_authorization_digest: SHA-256 in base64url without padding is wanted")]
    KeyDigest,
    /// What is demanded beyond the rules.
    #[error("{field}: {problem}")]
    Restriction {
        /// The field.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A digest that is none.
    #[error("sibling_digests: '{0}' is not SHA-256 in base64url without padding")]
    SiblingDigest(String),
}

impl RequestError {
    /// The problem type of RFC 8555 §6.7.
    #[must_use]
    pub fn problem(&self) -> ProblemKind {
        match self {
            Self::NameIn { .. } | Self::ReservedAddress { .. } | Self::LongName { .. } => {
                ProblemKind::RejectedIdentifier
            }
            Self::Id(_)
            | Self::Method { .. }
            | Self::WildcardMethod { .. }
            | Self::AddressMethod { .. }
            | Self::Missing { .. }
            | Self::Unexpected { .. }
            | Self::Token(_)
            | Self::KeyAuthorization(_)
            | Self::AccountUri(_)
            | Self::Account
            | Self::Mailbox(_)
            | Self::MethodEnded { .. }
            | Self::OtherMethod { .. }
            | Self::Derivation { .. }
            | Self::RandomValue(_)
            | Self::ValueInRequest { .. }
            | Self::Prefix(_)
            | Self::File(_)
            | Self::Contact { .. }
            | Self::Choice { .. }
            | Self::CaaForAddress
            | Self::KeyDigest
            | Self::Restriction { .. }
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
    /// The label of the method, or `caa`.
    #[must_use]
    pub fn method_label(&self) -> &'static str {
        self.control.as_ref().map_or("caa", |challenge| challenge.method.label())
    }

    /// Whose request it is: as given, or else the account it is bound to.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        let bound = || self.control.as_ref().and_then(Challenge::account_uri);
        let in_caa = || self.caa.as_ref().and_then(|check| check.account_uri.as_deref());
        self.account.as_deref().or_else(bound).or_else(in_caa)
    }

    /// Whose turn it takes and whose failures it counts among: the account, apart for each caller, so that none can take
    /// another's turns or spoil its account.
    #[must_use]
    pub fn turn(&self) -> Option<Cow<'_, str>> {
        match (&self.caller, self.account()) {
            (None, account) => account.map(Cow::Borrowed),
            (Some(caller), account) => Some(Cow::Owned(format!("{caller} {}", account.unwrap_or_default()))),
        }
    }

    /// What control is shown for: the identifier, or what stands for it. A wildcard stays one, since some methods
    /// must permit it.
    #[must_use]
    pub fn subject(&self) -> Cow<'_, Identifier> {
        match (&self.identifier, &self.derivation) {
            (Identifier::Wildcard(_), Some(derivation)) => Cow::Owned(Identifier::Wildcard(derivation.name().clone())),
            (_, Some(derivation)) => Cow::Owned(Identifier::Name(derivation.name().clone())),
            (Identifier::Mailbox(mailbox), None) => Cow::Owned(Identifier::Name(mailbox.domain.clone())),
            (identifier, None) => Cow::Borrowed(identifier),
        }
    }

    /// Whether the subject is another name than the identifier's own, by dropping labels (req D9).
    #[must_use]
    pub fn is_pruned(&self) -> bool {
        matches!(self.derivation, Some(Derivation::Pruned(_)))
    }

    /// The lookups that lead from the identifier to the subject, if it takes any.
    #[must_use]
    pub fn derivation_inquiry(&self) -> Option<Inquiry> {
        match (&self.identifier, self.derivation.as_ref()?) {
            (_, Derivation::Pruned(_)) => None,
            (identifier, Derivation::Alias(name)) => {
                Some(Inquiry::Aliases { from: identifier.domain()?.to_string(), to: name.to_string() })
            }
            (Identifier::Ip(address), Derivation::Reverse(_)) => {
                Some(Inquiry::Records { name: reverse_name(*address), rtype: RecordType::Ptr })
            }
            (identifier, Derivation::MailHost(host)) => {
                Some(Inquiry::Mail { domain: identifier.domain()?.to_string(), host: host.to_string() })
            }
            (_, Derivation::Reverse(_)) => None,
        }
    }

    /// What the rules say about the methods it relies on: that of control and what leads to its subject, and the one
    /// that a CAA check alone is about.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        let is_ip = matches!(self.subject().as_ref(), Identifier::Ip(_));
        let control = self.control.as_ref().and_then(|challenge| challenge.method.row(is_ip));
        let reverse = matches!(self.derivation, Some(Derivation::Reverse(_)));
        let way = reverse.then(|| registry::section(registry::REVERSE_LOOKUP)).flatten();
        let relied_on = self.caa.as_ref().and_then(CaaCheck::row);
        control.into_iter().chain(way).chain(relied_on)
    }

    /// The section, or sections, under which control is shown, for the record (req E3).
    #[must_use]
    pub fn sections(&self) -> Option<String> {
        let challenge = self.control.as_ref()?;
        let is_ip = matches!(self.subject().as_ref(), Identifier::Ip(_));
        let section = challenge.method.row(is_ip).map(|row| row.section.as_str())?;
        Some(match (&self.identifier, &self.derivation) {
            (Identifier::Ip(_), Some(_)) => format!("{} with {section}", registry::REVERSE_LOOKUP),
            (Identifier::Mailbox(_), Some(Derivation::MailHost(_))) => format!("S/MIME 3.2.2.3 with {section}"),
            (Identifier::Mailbox(_), _) => format!("S/MIME 3.2.2.1 with {section}"),
            _ => section.to_owned(),
        })
    }
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

    fn at() -> Timestamp {
        "2026-11-25T12:00:00Z".parse().expect("an instant")
    }

    fn parse(raw: RawRequest) -> Result<CheckRequest, RequestError> {
        CheckRequest::parse(raw, "line-1", &RequestRules::default(), at())
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
