//! What the caller's messages mean.
//!
//! Two kinds of refusal are told apart, as the caller tells them apart: a message that a working caller never sends is
//! an error of the call; what the subscriber chose wrongly is a problem, and the call is good.

use parallax_validation::{
    check::dcv::Method,
    problem::ProblemKind,
    request::{CheckRequest, Identifier, RawRequest, RequestError, RequestRules},
};
use tonic::Status;

use super::{
    call::{ErrorType, refusal, shown},
    reply::Problem,
    settings::Settings,
};
use crate::wire::{
    core,
    va::{IsCaaValidRequest, PerformValidationRequest},
};

/// Characters of a token, which is 32 octets in base64url.
const TOKEN_CHARS: usize = 43;
/// Octets of an identifier; a name has 253 at most.
const IDENTIFIER_BYTES_MAX: usize = 512;

/// Methods that Boulder has.
const METHODS: [Method; 5] =
    [Method::Http01, Method::Dns01, Method::TlsAlpn01, Method::DnsAccount01, Method::DnsPersist01];

/// A `DoDCV` that makes sense as a message.
#[derive(Debug)]
pub(super) struct Dcv {
    pub(super) authz: i64,
    pub(super) account: i64,
    pub(super) identifier: core::Identifier,
    pub(super) method: String,
    token: String,
    key_authorization: String,
}

/// A `DoCAA` that makes sense as a message.
#[derive(Debug)]
pub(super) struct Caa {
    pub(super) authz: i64,
    pub(super) account: i64,
    pub(super) identifier: core::Identifier,
    pub(super) method: Method,
}

impl Dcv {
    /// # Errors
    /// A field that every caller fills in is not, or has a form that no challenge has.
    pub(super) fn read(message: PerformValidationRequest) -> Result<Self, Status> {
        let PerformValidationRequest { challenge, authz, expected_key_authorization, identifier } = message;
        let identifier = set(identifier, "identifier")?;
        let (challenge, authz) = (challenge.ok_or_else(|| unset("challenge"))?, authz.ok_or_else(|| unset("authz"))?);
        number(authz.id, "authz.id")?;
        number(authz.reg_id, "authz.regID")?;
        filled(&expected_key_authorization, "expectedKeyAuthorization")?;
        filled(&challenge.r#type, "challenge.type")?;
        filled(&challenge.status, "challenge.status")?;
        filled(&challenge.token, "challenge.token")?;
        if challenge.status != "pending" {
            let message = format!("challenge.status: 'pending' is wanted, unlike '{}'", shown(&challenge.status));
            return Err(refusal(ErrorType::Malformed, message));
        }
        if challenge.r#type != Method::DnsPersist01.label() && !is_token(&challenge.token) {
            let message = format!("challenge.token: {TOKEN_CHARS} characters of base64url are wanted");
            return Err(refusal(ErrorType::Malformed, message));
        }
        Ok(Self {
            authz: authz.id,
            account: authz.reg_id,
            identifier,
            method: challenge.r#type,
            token: challenge.token,
            key_authorization: expected_key_authorization,
        })
    }

    /// What it asks for, or why that is not offered.
    pub(super) fn parse(
        self,
        settings: &Settings,
        rules: &RequestRules,
        at: jiff::Timestamp,
    ) -> Result<CheckRequest, Problem> {
        let method = method_of(&self.method).filter(|method| match method {
            Method::DnsAccount01 => settings.dns_account_01,
            Method::DnsPersist01 => settings.dns_persist_01,
            _ => true,
        });
        let Some(method) = method else {
            let detail = format!("The challenge type '{}' is not offered here.", shown(&self.method));
            return Err(Problem::new(ProblemKind::Malformed, detail));
        };
        let of_account = matches!(method, Method::DnsAccount01 | Method::DnsPersist01);
        let has_key = method != Method::DnsPersist01;
        let prefix = settings.account_uri_prefixes.first().map(String::as_str).unwrap_or_default();
        let raw = RawRequest {
            identifier: self.identifier.value.clone(),
            method: method.label().to_owned(),
            token: has_key.then_some(self.token),
            key_authorization: has_key.then_some(self.key_authorization),
            account_uri: of_account.then(|| format!("{prefix}{}", self.account)),
            caa: Some(false),
            ..RawRequest::default()
        };
        let request = parse(raw, &self.identifier, self.authz, rules, at)?;
        if let (Method::DnsPersist01, Identifier::Ip(address)) = (method, &request.identifier) {
            let error = RequestError::AddressMethod { method: method.label(), address: *address };
            return Err(Problem::from(&error));
        }
        Ok(request)
    }
}

impl Caa {
    /// # Errors
    /// A field that every caller fills in is not, or is of no use here.
    pub(super) fn read(message: IsCaaValidRequest) -> Result<Self, Status> {
        let IsCaaValidRequest { validation_method, account_uriid, identifier, authz_id } = message;
        number(authz_id, "authzID")?;
        let identifier = set(identifier, "identifier")?;
        filled(&validation_method, "validationMethod")?;
        number(account_uriid, "accountURIID")?;
        if identifier.r#type != "dns" {
            let message = format!("identifier: only names have CAA, unlike type '{}'", shown(&identifier.r#type));
            return Err(refusal(ErrorType::Malformed, message));
        }
        let method = method_of(&validation_method).ok_or_else(|| {
            let message = format!("validationMethod: '{}' is not known", shown(&validation_method));
            refusal(ErrorType::InternalServer, message)
        })?;
        Ok(Self { authz: authz_id, account: account_uriid, identifier, method })
    }

    /// What it asks for: the same check for each URI that the account may have, of which one suffices. There is at
    /// least one.
    pub(super) fn parse(
        &self,
        settings: &Settings,
        rules: &RequestRules,
        at: jiff::Timestamp,
    ) -> Result<Vec<CheckRequest>, Problem> {
        let of_prefix = |prefix: &String| {
            let raw = RawRequest {
                identifier: self.identifier.value.clone(),
                method: "caa".to_owned(),
                relied_on_method: Some(self.method.label().to_owned()),
                account_uri: Some(format!("{prefix}{}", self.account)),
                ..RawRequest::default()
            };
            parse(raw, &self.identifier, self.authz, rules, at)
        };
        settings.account_uri_prefixes.iter().map(of_prefix).collect()
    }
}

fn parse(
    raw: RawRequest,
    identifier: &core::Identifier,
    authz: i64,
    rules: &RequestRules,
    at: jiff::Timestamp,
) -> Result<CheckRequest, Problem> {
    let malformed = |detail| Problem::new(ProblemKind::Malformed, detail);
    if identifier.value.len() > IDENTIFIER_BYTES_MAX {
        return Err(malformed(format!("The identifier '{}' is longer than any.", shown(&identifier.value))));
    }
    let request =
        CheckRequest::parse(raw, &format!("authz-{authz}"), rules, at).map_err(|error| Problem::from(&error))?;
    let fits = match &request.identifier {
        Identifier::Name(_) | Identifier::Wildcard(_) => identifier.r#type == "dns",
        Identifier::Ip(_) => identifier.r#type == "ip",
        Identifier::Mailbox(_) => false,
    };
    if fits {
        return Ok(request);
    }
    let (value, kind) = (shown(&identifier.value), shown(&identifier.r#type));
    Err(malformed(format!("'{value}' is no identifier of type '{kind}', or that type is not validated here.")))
}

fn method_of(label: &str) -> Option<Method> {
    METHODS.into_iter().find(|method| method.label() == label)
}

fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn unset(field: &str) -> Status {
    refusal(ErrorType::InternalServer, format!("{field}: missing"))
}

fn filled(text: &str, field: &str) -> Result<(), Status> {
    if text.is_empty() { Err(unset(field)) } else { Ok(()) }
}

/// Numbers of authorizations and accounts begin at 1.
fn number(value: i64, field: &str) -> Result<(), Status> {
    if value > 0 { Ok(()) } else { Err(unset(field)) }
}

fn set(identifier: Option<core::Identifier>, field: &str) -> Result<core::Identifier, Status> {
    let is_set = |identifier: &core::Identifier| !identifier.r#type.is_empty() && !identifier.value.is_empty();
    identifier.filter(is_set).ok_or_else(|| unset(field))
}
