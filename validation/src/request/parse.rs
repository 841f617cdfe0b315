//! What a raw request means, or the first field of it that is at fault.

use std::net::IpAddr;

use jiff::Timestamp;

use super::{
    CaaCheck, Challenge, ChallengeFields, ChangeRecord, CheckRequest, Derivation, Identifier, KeyDigest, Mailbox,
    Proof, RandomValue, RawRequest, RequestError, RequestId, is_base64url, shown,
};
use crate::{
    base::{
        address::AddressFilter,
        limits::{
            ACCOUNT_URI_CHARS_MAX, FILE_CHARS_MAX, LABEL_OCTETS_MAX, NAME_OCTETS_MAX, RANDOM_VALUE_BITS_MIN,
            RANDOM_VALUE_CHARS_MAX, THUMBPRINT_CHARS, TOKEN_CHARS_MAX, TOKEN_CHARS_MIN,
        },
        name::{DomainName, NameError},
        octets::escape,
        suffix::Suffixes,
    },
    check::dcv::{
        Method,
        contact::is_dot_atom,
        derivation,
        registry::{self, Row, Standing},
    },
    plan::{ControlPlan, inquiry::is_at_or_below},
};

/// What requests are held against besides the rules themselves.
#[derive(Clone, Debug, Default)]
pub struct RequestRules {
    /// Which addresses are reserved.
    pub filter: AddressFilter,
    /// Which names are public suffixes.
    pub suffixes: Suffixes,
}

impl From<AddressFilter> for RequestRules {
    fn from(filter: AddressFilter) -> Self {
        Self { filter, suffixes: Suffixes::default() }
    }
}

impl CheckRequest {
    /// Says what a request means at `at`, when its attempt begins. `default_id` names it if it has no name.
    ///
    /// # Errors
    /// The first field at fault, by name.
    pub fn parse(raw: RawRequest, default_id: &str, rules: &RequestRules, at: Timestamp) -> Result<Self, RequestError> {
        let id = RequestId::try_from(raw.id.clone().unwrap_or_else(|| default_id.to_owned()))?;
        let identifier = parse_identifier(&raw.identifier, rules)?;
        if let Some(uri) = &raw.account_uri {
            check_account_uri(uri)?;
        }
        let restrictions = raw.restrictions.clone().parse()?;
        let account = raw.account.clone();
        let fits = |account: &String| {
            (1..=ACCOUNT_URI_CHARS_MAX).contains(&account.len()) && account.bytes().all(|b| b.is_ascii_graphic())
        };
        if !account.as_ref().is_none_or(fits) {
            return Err(RequestError::Account);
        }
        if let Some(bad) = raw.sibling_digests.iter().find(|d| d.len() != THUMBPRINT_CHARS || !is_base64url(d)) {
            return Err(RequestError::SiblingDigest(shown(bad)));
        }
        if raw.method == "caa" {
            let caa = Some(caa_alone(&raw, &identifier, at)?);
            return Ok(Self {
                id,
                identifier,
                derivation: None,
                control: None,
                caa,
                account,
                sibling_digests: raw.sibling_digests,
                restrictions,
                caller: None,
            });
        }
        let method = parse_method("method", &raw.method, at)?;
        for (field, given) in
            [("relied_on_method", raw.relied_on_method.is_some()), ("certificate_type", raw.certificate_type.is_some())]
        {
            if given {
                return Err(RequestError::Unexpected { field, method: raw.method });
            }
        }
        let derivation = parse_derivation(&raw, &identifier, method, rules, at)?;
        check_reach(&identifier, derivation.as_ref(), method)?;
        let caa = caa_with(&raw, &identifier, method)?;
        let challenge = parse_challenge(&raw, method)?;
        let request = Self {
            id,
            identifier,
            derivation,
            control: Some(challenge),
            caa,
            account,
            sibling_digests: raw.sibling_digests,
            restrictions,
            caller: None,
        };
        check_value_is_not_in_request(&request)?;
        check_length(&request)?;
        if let Some(challenge) = &request.control {
            challenge.check()?;
        }
        Ok(request)
    }
}

fn parse_identifier(text: &str, rules: &RequestRules) -> Result<Identifier, RequestError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return match rules.filter.forbids(address) {
            None => Ok(Identifier::Ip(address)),
            Some(block) => Err(RequestError::ReservedAddress { address, prefix: block.prefix, purpose: block.purpose }),
        };
    }
    if let Some((local, domain)) = text.rsplit_once('@') {
        return Ok(Identifier::Mailbox(Mailbox {
            local: parse_local(local)?,
            domain: domain_below_suffix("identifier", domain, rules)?,
        }));
    }
    Ok(match text.strip_prefix("*.") {
        Some(rest) => {
            let domain = domain_below_suffix("identifier", rest, rules)?;
            // All that the wildcard stands for would be public suffixes, by a rule such as *.kawasaki.jp (req B17).
            if rules.suffixes.icann_base(&format!("0-0.{domain}")).is_none() {
                let fault = NameError::PublicSuffix { name: format!("*.{domain}") };
                return Err(RequestError::NameIn { field: "identifier", fault });
            }
            Identifier::Wildcard(domain)
        }
        None => Identifier::Name(domain_below_suffix("identifier", text, rules)?),
    })
}

/// What stands before `@`: a dot-atom (RFC 5322 §3.2.3) of at most 64 octets (RFC 5321 §4.5.3.1.1).
fn parse_local(local: &str) -> Result<String, RequestError> {
    let fits = local.len() <= 64 && is_dot_atom(local);
    if fits { Ok(local.to_owned()) } else { Err(RequestError::Mailbox(shown(local))) }
}

fn domain_below_suffix(field: &'static str, text: &str, rules: &RequestRules) -> Result<DomainName, RequestError> {
    let fault = |fault| RequestError::NameIn { field, fault };
    let name: DomainName = text.parse().map_err(fault)?;
    match rules.suffixes.icann_base(name.as_str()) {
        Some(_) => Ok(name),
        None => Err(fault(NameError::PublicSuffix { name: name.to_string() })),
    }
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

/// The method of a label. A section, or its `ca-tbr-` label, is understood well enough to say why not.
fn parse_method(field: &'static str, text: &str, at: Timestamp) -> Result<Method, RequestError> {
    let Some(method) = Method::from_label(text) else {
        return Err(match registry::meant(text) {
            Some(row) => not_offered(field, row, at),
            None => RequestError::Method { field, given: shown(text) },
        });
    };
    for row in [method.row(false), method.row(true)].into_iter().flatten() {
        check_standing(field, row, at)?;
    }
    Ok(method)
}

fn not_offered(field: &'static str, row: &Row, at: Timestamp) -> RequestError {
    if let Err(ended) = check_standing(field, row, at) {
        return ended;
    }
    let why = match &row.outside {
        Some(why) => format!("is not offered here: {why}"),
        None => format!("is asked for as {}", row.methods.join(" or ")),
    };
    RequestError::OtherMethod { field, method: row.to_string(), why }
}

fn check_standing(field: &'static str, row: &Row, at: Timestamp) -> Result<(), RequestError> {
    match row.standing(at) {
        Standing::Ended { since } => Err(RequestError::MethodEnded { field, method: row.to_string(), since }),
        Standing::Good | Standing::Discouraged { .. } => Ok(()),
    }
}

fn caa_alone(raw: &RawRequest, identifier: &Identifier, at: Timestamp) -> Result<CaaCheck, RequestError> {
    if let Identifier::Ip(address) = identifier {
        return Err(RequestError::AddressMethod { method: "caa", address: *address });
    }
    for (field, given) in [
        ("token", raw.token.is_some()),
        ("key_authorization", raw.key_authorization.is_some()),
        ("key_authorization_digest", raw.key_authorization_digest.is_some()),
        ("random_value", raw.random_value.is_some()),
        ("record_type", raw.record_type.is_some()),
        ("prefix_label", raw.prefix_label.is_some()),
        ("within", raw.within.is_some()),
        ("file", raw.file.is_some()),
        ("scheme", raw.scheme.is_some()),
        ("contact", raw.contact.is_some()),
        ("authorization_domain", raw.authorization_domain.is_some()),
        ("reverse_name", raw.reverse_name.is_some()),
        ("mail_host", raw.mail_host.is_some()),
    ] {
        if given {
            return Err(RequestError::Unexpected { field, method: "caa".to_owned() });
        }
    }
    let (method, section) = match raw.relied_on_method.as_deref() {
        None => (None, None),
        Some(text) => relied_on(text, at)?,
    };
    let s_mime = match (raw.certificate_type.as_deref(), identifier) {
        (Some("s-mime"), Identifier::Wildcard(_)) => {
            let choices = "tls-server: no mailbox has a wildcard for a domain";
            return Err(RequestError::Choice { field: "certificate_type", given: "s-mime".to_owned(), choices });
        }
        (Some("s-mime"), _) | (None, Identifier::Mailbox(_)) => true,
        (Some("tls-server"), Identifier::Name(_) | Identifier::Wildcard(_)) | (None, _) => false,
        (Some(given), identifier) => {
            let choices = if matches!(identifier, Identifier::Mailbox(_)) { "s-mime" } else { "tls-server, s-mime" };
            return Err(RequestError::Choice { field: "certificate_type", given: shown(given), choices });
        }
    };
    // That of a mailbox goes without saying, and is not written.
    let s_mime = s_mime && !matches!(identifier, Identifier::Mailbox(_));
    Ok(CaaCheck { account_uri: raw.account_uri.clone(), method, section, s_mime })
}

/// The method whose evidence will be relied on. It may be one that is made elsewhere, named by its section or its
/// `ca-tbr-` label.
fn relied_on(text: &str, at: Timestamp) -> Result<(Option<Method>, Option<String>), RequestError> {
    let field = "relied_on_method";
    match registry::meant(text).filter(|row| row.methods.is_empty() && row.caa_label().is_some()) {
        Some(row) if Method::from_label(text).is_none() => {
            check_standing(field, row, at)?;
            Ok((None, Some(row.section.clone())))
        }
        _ => parse_method(field, text, at).map(|method| (Some(method), None)),
    }
}

fn caa_with(raw: &RawRequest, identifier: &Identifier, method: Method) -> Result<Option<CaaCheck>, RequestError> {
    let is_address = identifier.domain().is_none();
    match raw.caa {
        Some(true) if is_address => Err(RequestError::CaaForAddress),
        Some(false) => Ok(None),
        None if is_address => Ok(None),
        Some(true) | None => {
            Ok(Some(CaaCheck { account_uri: raw.account_uri.clone(), method: Some(method), ..CaaCheck::default() }))
        }
    }
}

/// How the name that control is shown for follows from the identifier (req D1).
fn parse_derivation(
    raw: &RawRequest,
    identifier: &Identifier,
    method: Method,
    rules: &RequestRules,
    at: Timestamp,
) -> Result<Option<Derivation>, RequestError> {
    let given = [
        ("authorization_domain", &raw.authorization_domain),
        ("reverse_name", &raw.reverse_name),
        ("mail_host", &raw.mail_host),
    ];
    let mut given = given.into_iter().filter_map(|(field, text)| Some((field, text.as_deref()?)));
    let Some((field, text)) = given.next() else { return Ok(None) };
    if let Some((other, _)) = given.next() {
        return Err(RequestError::Derivation { field: other, problem: format!("given beside {field}") });
    }
    let refuse = |problem: String| RequestError::Derivation { field, problem };
    let name = domain_below_suffix(field, text, rules)?;
    match (field, identifier) {
        ("reverse_name", Identifier::Ip(_)) => {
            if let Some(row) = registry::section(registry::REVERSE_LOOKUP) {
                check_standing(field, row, at)?;
            }
            Ok(Some(Derivation::Reverse(name)))
        }
        ("mail_host", Identifier::Mailbox(_)) => Ok(Some(Derivation::MailHost(name))),
        ("authorization_domain", Identifier::Name(domain) | Identifier::Wildcard(domain)) => {
            authorization_domain(name, identifier, domain, method, rules).map_err(refuse)
        }
        ("authorization_domain", Identifier::Mailbox(mailbox)) => {
            authorization_domain(name, identifier, &mailbox.domain, method, rules).map_err(refuse)
        }
        ("reverse_name", _) => Err(refuse("only an IP address has a name by reverse lookup".to_owned())),
        ("mail_host", _) => Err(refuse("only a mailbox has a mail host".to_owned())),
        _ => Err(refuse("an IP address has none; give reverse_name for its name by reverse lookup".to_owned())),
    }
}

fn authorization_domain(
    name: DomainName,
    identifier: &Identifier,
    domain: &DomainName,
    method: Method,
    rules: &RequestRules,
) -> Result<Option<Derivation>, String> {
    const RULE: &str = "(TLS BR 2.3.1 §3.2.2.4, req D1)";
    if name == *domain {
        return Ok(None);
    }
    let row = method.row(false).ok_or_else(|| format!("{method} has no authorization domain name"))?;
    if is_at_or_below(domain.as_str(), name.as_str()) {
        if !row.prune {
            return Err(format!("{method} proves exactly the name {domain}; no label may be dropped {RULE}"));
        }
        let base = rules.suffixes.icann_base(domain.as_str());
        return match base {
            Some(base) if is_at_or_below(name.as_str(), base) => Ok(Some(Derivation::Pruned(name))),
            Some(base) => Err(format!("{name} lies above {base}, the base domain of {domain} {RULE}")),
            None => Err(format!("{domain} has no base domain {RULE}")),
        };
    }
    if identifier.is_wildcard() {
        return Err(format!("{name} is not a domain above {domain}, and no alias is followed for a wildcard {RULE}"));
    }
    if !row.cname {
        return Err(format!("{name} is not a domain above {domain}, and {method} follows no alias {RULE}"));
    }
    Ok(Some(Derivation::Alias(name)))
}

fn check_reach(identifier: &Identifier, by: Option<&Derivation>, method: Method) -> Result<(), RequestError> {
    if identifier.is_wildcard() && !method.allows_wildcard() {
        return Err(RequestError::WildcardMethod { method, identifier: identifier.to_string() });
    }
    if let (Identifier::Ip(address), None, false) = (identifier, by, method.allows_ip()) {
        return Err(RequestError::AddressMethod { method: method.label(), address: *address });
    }
    if derivation::is_lawful(identifier, by, method) {
        return Ok(());
    }
    let problem = format!("{method} cannot show control of {identifier} by way of another name");
    Err(RequestError::Derivation { field: "authorization_domain", problem })
}

fn parse_challenge(raw: &RawRequest, method: Method) -> Result<Challenge, RequestError> {
    let fields = ChallengeFields {
        token: raw.token.clone(),
        key_authorization: raw.key_authorization.clone(),
        key_authorization_digest: raw.key_authorization_digest.clone().map(KeyDigest::new),
        account_uri: raw.account_uri.clone(),
        random_value: raw.random_value.clone().map(RandomValue::new),
        record_type: raw.record_type.as_deref().map(parse_record_type).transpose()?,
        prefix_label: raw.prefix_label.as_ref().map(|label| label.to_ascii_lowercase()),
        within: raw.within.unwrap_or(false),
        file: raw.file.clone(),
        https: raw.scheme.as_deref().map(is_https).transpose()?.unwrap_or(false),
        contact: raw.contact.clone(),
        ..ChallengeFields::default()
    };
    if fields.key_authorization_digest.is_some() && (fields.token.is_some() || fields.key_authorization.is_some()) {
        return Err(RequestError::KeyAuthorization("key_authorization_digest stands in its place, not beside it"));
    }
    let unexpected = fields.unexpected(method);
    let scheme = (raw.scheme.is_some() && method != Method::WebsiteChange).then_some("scheme");
    if let Some(field) = unexpected.map(|field| if field == "https" { "scheme" } else { field }).or(scheme) {
        return Err(RequestError::Unexpected { field, method: method.to_string() });
    }
    Challenge::of(method, fields).map_err(|field| RequestError::Missing { field, method: method.to_string() })
}

impl Challenge {
    /// Whether its values are such as may be asked for: of one that is parsed, and of one that is read back.
    pub(super) fn check(&self) -> Result<(), RequestError> {
        check_proof(self)
    }
}

impl CheckRequest {
    /// Whether what is asked holds the value that would confirm it, as in no request that was parsed.
    #[must_use]
    pub fn holds_its_value(&self) -> bool {
        check_value_is_not_in_request(self).is_err()
    }
}

fn check_proof(challenge: &Challenge) -> Result<(), RequestError> {
    match &challenge.proof {
        Proof::KeyAuthorization(key) | Proof::AccountName { key_authorization: key, .. } => {
            check_token(&key.token)?;
            check_key_authorization(&key.token, &key.value)?;
        }
        Proof::KeyDigest(digest) => {
            digest.octets().ok_or(RequestError::KeyDigest)?;
        }
        Proof::Persistent { account_uri } => {
            if account_uri.contains(';') {
                return Err(RequestError::AccountUri("a semicolon cannot stand in a record (RFC 8659 §4.2)"));
            }
        }
        Proof::DnsChange { value, record, prefix, within } => {
            check_random_value(value)?;
            if *within && *record != ChangeRecord::Txt {
                let method = format!("dns-change with {}", record.rtype());
                return Err(RequestError::Unexpected { field: "within", method });
            }
            check_value_fits(value, *record)?;
            if let Some(label) = prefix {
                check_prefix(label)?;
            }
        }
        Proof::Website { value, file, .. } => {
            check_random_value(value)?;
            check_file(file)?;
        }
        Proof::Contact { contact } => {
            if !challenge.contact_kind().is_some_and(|kind| kind.fits(contact)) {
                return Err(RequestError::Contact { method: challenge.method, given: shown(contact) });
            }
        }
    }
    Ok(())
}

fn parse_record_type(text: &str) -> Result<ChangeRecord, RequestError> {
    match text.to_ascii_uppercase().as_str() {
        "TXT" => Ok(ChangeRecord::Txt),
        "CNAME" => Ok(ChangeRecord::Cname),
        "CAA" => Ok(ChangeRecord::Caa),
        _ => Err(RequestError::Choice { field: "record_type", given: shown(text), choices: "TXT, CNAME or CAA" }),
    }
}

fn is_https(text: &str) -> Result<bool, RequestError> {
    match text {
        "http" => Ok(false),
        "https" => Ok(true),
        _ => Err(RequestError::Choice { field: "scheme", given: shown(text), choices: "http or https" }),
    }
}

/// At least 112 bits (TLS BR 2.3.1 §1.6.1, Random Value). What cannot hold so many is refused; that a value is random
/// nobody can see.
fn check_random_value(value: &RandomValue) -> Result<(), RequestError> {
    let text = value.expose();
    if text.len() > RANDOM_VALUE_CHARS_MAX {
        return Err(RequestError::RandomValue(format!("more than {RANDOM_VALUE_CHARS_MAX} characters were given")));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.+/=".contains(&b);
    if let Some(byte) = text.bytes().find(|b| !allowed(*b)) {
        return Err(RequestError::RandomValue(format!("'{}' is no letter, digit, or one of -_.+/=", escape(&[byte]))));
    }
    match value.bits_at_most() {
        bits if bits < RANDOM_VALUE_BITS_MIN => {
            Err(RequestError::RandomValue(format!("{} characters of this kind hold at most {bits} bits", text.len())))
        }
        _ => Ok(()),
    }
}

/// Labels of a CNAME's target keep no case and have their own limits.
fn check_value_fits(value: &RandomValue, record: ChangeRecord) -> Result<(), RequestError> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let is_label = |label: &str| (1..=LABEL_OCTETS_MAX).contains(&label.len()) && label.bytes().all(is_plain);
    if record == ChangeRecord::Cname && !value.expose().split('.').all(is_label) {
        let problem = "for a CNAME it must be labels in lower case, of at most 63 characters each".to_owned();
        return Err(RequestError::RandomValue(problem));
    }
    Ok(())
}

/// One label that begins with an underscore (TLS BR 2.3.1 §3.2.2.4.7).
fn check_prefix(label: &str) -> Result<(), RequestError> {
    let fits = label.len() <= LABEL_OCTETS_MAX
        && label.len() > 1
        && label.starts_with('_')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if fits { Ok(()) } else { Err(RequestError::Prefix(shown(label))) }
}

/// What a method puts before a name must leave it one (RFC 1035 §3.1).
fn check_length(request: &CheckRequest) -> Result<(), RequestError> {
    let octets = match ControlPlan::of(request) {
        Some(ControlPlan::Dns(inquiry)) => inquiry.subject().len(),
        Some(ControlPlan::Http { .. } | ControlPlan::TlsAlpn { .. }) | None => 0,
    };
    let method = request.method_label();
    if octets > NAME_OCTETS_MAX { Err(RequestError::LongName { method, octets }) } else { Ok(()) }
}

/// A plain relative path.
fn check_file(file: &str) -> Result<(), RequestError> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    let parts_fit = file.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    let fits = file.len() <= FILE_CHARS_MAX && parts_fit && file.bytes().all(is_plain);
    if fits { Ok(()) } else { Err(RequestError::File(shown(file))) }
}

/// A value that is asked for by itself would be confirmed by whoever repeats questions (`cases.md` D12, req D14).
fn check_value_is_not_in_request(request: &CheckRequest) -> Result<(), RequestError> {
    let Some(challenge) = &request.control else { return Ok(()) };
    // An empty one is refused for being too small.
    let Some(value) = challenge.random_value().filter(|value| !value.expose().is_empty()) else { return Ok(()) };
    let subject = request.subject().to_string();
    let (places, length) = match &challenge.proof {
        Proof::DnsChange { prefix: Some(label), .. } => {
            (vec![("prefix_label", label.clone())], subject.len() + label.len() + 1)
        }
        Proof::Website { file, .. } => (vec![("file", file.clone())], 0),
        _ => (Vec::new(), 0),
    };
    if length > NAME_OCTETS_MAX {
        return Err(RequestError::Prefix("with the domain it is longer than a name may be".to_owned()));
    }
    let lower = value.expose().to_ascii_lowercase();
    let mut places = places.into_iter().chain([("identifier", subject)]);
    match places.find(|(_, text)| text.to_ascii_lowercase().contains(&lower)) {
        Some((field, _)) => Err(RequestError::ValueInRequest { field }),
        None => Ok(()),
    }
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
