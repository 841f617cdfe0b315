//! The decision about one relevant CAA set (RFC 8659 §4.1–§4.5, RFC 8657 §3 and §4, as TLS BR 2.3.1
//! §4.2.2.1 and §4.2.2.1.2 require them; req C10, C12, C14, C15).
//!
//! Decides whether a set permits issuance, and writes down what each record of it contributed. Finding the
//! set, and failures to find it, are the parent module's.
//!
//! Invariant: the order of the records never changes the decision. Invariant: a record that cannot be read
//! forbids, and a value that cannot be read permits nobody; neither is skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::property::{
    IssueValue, IssueValueError, Property, RdataError, TagKind, escape, parse_issue_value, parse_rdata,
};

/// How many issuers of other CAs a decision names.
pub const ISSUERS_NAMED_MAX: usize = 8;

/// What the CP/CPS says about CAA; the same at the primary and every remote (req C19).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaaPolicy {
    /// The issuer domain names that stand for this CA (TLS BR 2.3.1 §4.2.2.1), in lower case; also in the records of
    /// dns-persist-01 (§3.2.2.4.22).
    pub issuer_domains: Vec<String>,
    /// Whether contactemail is processed: only if method 3.2.2.4.13 is offered (TLS BR 2.3.1 App. A.1).
    pub processes_contactemail: bool,
    /// Whether contactphone is processed: only if method 3.2.2.4.17 is offered (TLS BR 2.3.1 App. A.1).
    pub processes_contactphone: bool,
    /// Whether flag bit 1, which is widely set by those who mean 128, is critical too (req C10).
    pub flags_one_is_critical: bool,
    /// Parameters, besides accounturi and validationmethods, that the CP/CPS gives a meaning which is not
    /// implemented: a record with one is never satisfied (req C15). Other unknown parameters are ignored.
    pub unsatisfiable_parameters: Vec<String>,
    /// Whether a lookup that failed may count as permission, under all the conditions of
    /// [`super::failure`] (TLS BR 2.3.1 §4.2.2.1).
    pub lookup_failure_permits: bool,
}

impl Default for CaaPolicy {
    fn default() -> Self {
        Self {
            issuer_domains: Vec::new(),
            processes_contactemail: false,
            processes_contactphone: false,
            flags_one_is_critical: true,
            unsatisfiable_parameters: Vec::new(),
            lookup_failure_permits: false,
        }
    }
}

impl CaaPolicy {
    /// Whether `issuer` is this CA: a whole name, without regard to ASCII case (req C14).
    fn is_own_issuer(&self, issuer: &str) -> bool {
        self.issuer_domains.iter().any(|own| own.eq_ignore_ascii_case(issuer))
    }

    /// Whether the critical flag of such a property is harmless (req C14, step 2).
    fn processes(&self, kind: &TagKind) -> bool {
        match kind {
            TagKind::Issue | TagKind::Issuewild | TagKind::Iodef | TagKind::Issuemail | TagKind::Issuevmc => true,
            TagKind::Contactemail => self.processes_contactemail,
            TagKind::Contactphone => self.processes_contactphone,
            TagKind::Other(_) => false,
        }
    }

    fn holds_critical(&self, property: &Property) -> bool {
        property.is_critical() || (self.flags_one_is_critical && property.flags & 1 != 0)
    }
}

/// What a certificate would name, as far as it matters for which property governs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaaSubject {
    /// A name (RFC 8659 §4.2).
    Name,
    /// A wildcard (RFC 8659 §4.3).
    Wildcard,
    /// A mailbox (RFC 9495 §4, S/MIME BR §4.2.2.1; req C20).
    Mailbox,
}

/// What is asked of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaaContext<'a> {
    /// What the certificate would name.
    pub subject: CaaSubject,
    /// The URI of the requesting account, if one is known (RFC 8657 §3).
    pub account_uri: Option<&'a str>,
    /// All labels of the method relied on, such as `http-01` and `ca-tbr-19` (RFC 8657 §4, TLS BR 2.3.1
    /// §4.2.2.1.2); empty if no method is known, which satisfies no `validationmethods`.
    pub method_labels: &'a [&'a str],
}

/// What a relevant set means for a request, with its derivation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaaDecision {
    /// Whether issuance is permitted.
    pub permitted: bool,
    /// The rule that decided.
    pub rule: CaaRule,
    /// What each record contributed, in the order given.
    pub records: Vec<RecordFinding>,
}

/// The property that governs a name (RFC 8659 §4.2 and §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoverningProperty {
    /// For plain names, and for wildcards if the set has no issuewild.
    Issue,
    /// For wildcards if the set has an issuewild, valid or not.
    Issuewild,
    /// For mailboxes (RFC 9495 §4).
    Issuemail,
}

impl fmt::Display for GoverningProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issue => "issue",
            Self::Issuewild => "issuewild",
            Self::Issuemail => "issuemail",
        })
    }
}

/// The rule that decided about a set: the steps of req C14 in their order. A record is named by its index,
/// and the first that fits is named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaaRule {
    /// No record was given. A relevant set has at least one, so this is a fault of ours; it forbids.
    EmptySet,
    /// A critical property is not processed here (RFC 8659 §4.5): forbidden.
    CriticalUnknown {
        /// The record.
        record: usize,
        /// Its flags.
        flags: u8,
        /// Its tag as published.
        tag: String,
    },
    /// A record cannot be split (req C10): forbidden.
    UnparsableRecord {
        /// The record.
        record: usize,
        /// Why not.
        error: RdataError,
    },
    /// No record has the governing property (RFC 8659 §4.2): permitted.
    NoRestrictingProperty {
        /// The property.
        property: GoverningProperty,
    },
    /// A record authorizes this CA for this account and method: permitted.
    Authorized {
        /// The record.
        record: usize,
        /// The property.
        property: GoverningProperty,
        /// The issuer as published.
        issuer: String,
    },
    /// Records have the governing property and none authorizes this CA: forbidden.
    NotAuthorized {
        /// The property.
        property: GoverningProperty,
        /// Up to [`ISSUERS_NAMED_MAX`] of the other issuers named, sorted, in lower case.
        other_issuers: Vec<String>,
        /// How many more there are.
        #[serde(default, skip_serializing_if = "is_zero")]
        more_issuers: usize,
        /// Whether a record names this CA and only its parameters are not satisfied.
        names_this_ca: bool,
    },
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl CaaRule {
    /// Whether the rule permits.
    #[must_use]
    pub fn permits(&self) -> bool {
        match self {
            Self::NoRestrictingProperty { .. } | Self::Authorized { .. } => true,
            Self::EmptySet
            | Self::CriticalUnknown { .. }
            | Self::UnparsableRecord { .. }
            | Self::NotAuthorized { .. } => false,
        }
    }
}

impl fmt::Display for CaaRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySet => {
                f.write_str("Forbidden: no CAA record was given to judge, which is a fault of the engine.")
            }
            Self::CriticalUnknown { flags, tag, .. } => {
                write!(
                    f,
                    "Forbidden: the property {tag} has flags {flags}, is critical and is not processed by this CA."
                )
            }
            Self::UnparsableRecord { error, .. } => write!(f, "Forbidden: a CAA record cannot be read: {error}."),
            Self::NoRestrictingProperty { property } => {
                write!(f, "Permitted: no record of the set has the property {property}, which governs this name.")
            }
            Self::Authorized { property, issuer, .. } => write!(f, "Permitted: {property} names {issuer}."),
            Self::NotAuthorized { property, other_issuers, more_issuers, names_this_ca } => {
                write!(f, "Forbidden: {property} governs this name and ")?;
                match (names_this_ca, other_issuers.as_slice()) {
                    (true, _) => f.write_str("names this CA, but with parameters that this request does not satisfy."),
                    (false, []) => f.write_str("names no CA."),
                    (false, others) if *more_issuers > 0 => {
                        write!(f, "names only others: {} and {more_issuers} more.", others.join(", "))
                    }
                    (false, others) => write!(f, "names only {}.", others.join(", ")),
                }
            }
        }
    }
}

/// What one record contributed. Texts from the network are escaped and bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFinding {
    /// The property is known and has no bearing on the name (iodef, issuemail for a name, …).
    Irrelevant {
        /// Its tag as published.
        tag: String,
    },
    /// An issue record beside an issuewild, for a wildcard (RFC 8659 §4.3).
    IssueIgnored {
        /// Its value.
        value: String,
    },
    /// An issuewild record, for a plain name (RFC 8659 §4.3).
    IssuewildIgnored {
        /// Its value.
        value: String,
    },
    /// It authorizes this CA.
    Authorizes {
        /// The issuer as published.
        issuer: String,
    },
    /// It names another CA.
    OtherIssuer {
        /// The issuer as published.
        issuer: String,
    },
    /// It names no CA (RFC 8659 §4.2).
    NoIssuer {
        /// Its value.
        value: String,
    },
    /// Its value is not well-formed and names no CA (req C12).
    MalformedValue {
        /// Its value.
        value: String,
        /// What is wrong.
        error: IssueValueError,
    },
    /// It names this CA for another account (RFC 8657 §3).
    AccountUriMismatch {
        /// The account it names.
        published: String,
        /// The requesting account, if known.
        account: Option<String>,
    },
    /// It names this CA, and its accounturi is no URI (RFC 8657 §3).
    AccountUriMalformed {
        /// What it has instead.
        published: String,
    },
    /// It names this CA, with more than one accounturi (RFC 8657 §3).
    AccountUriRepeated,
    /// It names this CA for other methods (RFC 8657 §4).
    MethodMismatch {
        /// The methods it names.
        published: String,
        /// The labels of the method relied on.
        used: Vec<String>,
    },
    /// It names this CA, and its validationmethods is not a list of labels (RFC 8657 §4).
    MethodsMalformed {
        /// What it has instead.
        published: String,
    },
    /// It names this CA, and repeats validationmethods or a label in it (req C15).
    MethodsRepeated,
    /// It names this CA, with a parameter that the CP/CPS documents and nothing here satisfies (req C15).
    ParameterUnsatisfiable {
        /// The parameter's tag.
        parameter: String,
    },
    /// The property is not processed here and is critical (RFC 8659 §4.5).
    CriticalUnknown {
        /// The flags.
        flags: u8,
        /// The tag as published.
        tag: String,
    },
    /// The property is not processed here and is not critical.
    NoncriticalUnknown {
        /// The flags.
        flags: u8,
        /// The tag as published.
        tag: String,
    },
    /// It cannot be split into flags, tag and value (req C10).
    Unparsable {
        /// The octets.
        rdata: String,
        /// Why not.
        error: RdataError,
    },
}

impl fmt::Display for RecordFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Irrelevant { tag } => write!(f, "The property {tag} has no bearing on this name."),
            Self::IssueIgnored { value } => {
                write!(f, "issue \"{value}\" is ignored: issuewild is present and governs wildcards.")
            }
            Self::IssuewildIgnored { value } => {
                write!(f, "issuewild \"{value}\" is ignored: it governs wildcards only.")
            }
            Self::Authorizes { issuer } => write!(f, "{issuer} authorizes this CA."),
            Self::OtherIssuer { issuer } => write!(f, "{issuer} is not this CA."),
            Self::NoIssuer { value } => write!(f, "The value \"{value}\" names no CA."),
            Self::MalformedValue { value, error } => {
                write!(f, "The value \"{value}\" is malformed and authorizes nobody: {error}.")
            }
            Self::AccountUriMismatch { published, account: Some(account) } => {
                write!(f, "The record names the account \"{published}\", and \"{account}\" is asking.")
            }
            Self::AccountUriMismatch { published, account: None } => {
                write!(f, "The record names the account \"{published}\", and it is not known which is asking.")
            }
            Self::AccountUriMalformed { published } => {
                write!(f, "The accounturi \"{published}\" is not a URI and no account satisfies it.")
            }
            Self::AccountUriRepeated => f.write_str("accounturi is given more than once and no account satisfies it."),
            Self::MethodMismatch { published, used } if used.is_empty() => {
                write!(f, "The record names the methods \"{published}\", and it is not known which is relied on.")
            }
            Self::MethodMismatch { published, used } => {
                write!(f, "The record names the methods \"{published}\", and {} is relied on.", used.join(" or "))
            }
            Self::MethodsMalformed { published } => {
                write!(f, "The validationmethods \"{published}\" is not a list of labels and no method satisfies it.")
            }
            Self::MethodsRepeated => {
                f.write_str("validationmethods, or a label in it, is given more than once and no method satisfies it.")
            }
            Self::ParameterUnsatisfiable { parameter } => {
                write!(f, "The parameter {parameter} cannot be satisfied by this CA.")
            }
            Self::CriticalUnknown { flags, tag } => {
                write!(f, "The property {tag} has flags {flags}, is critical and is not processed by this CA.")
            }
            Self::NoncriticalUnknown { flags, tag } => {
                write!(f, "The property {tag} has flags {flags}, is not critical and has no effect.")
            }
            Self::Unparsable { rdata, error } => write!(f, "The record \"{rdata}\" cannot be read: {error}."),
        }
    }
}

/// Decides about a relevant set, given as the RDATA of all its records (req C14).
///
/// Records are alternatives; the parameters of one record are joint.
#[must_use]
pub fn authorize(rdatas: &[&[u8]], policy: &CaaPolicy, context: &CaaContext<'_>) -> CaaDecision {
    let parsed: Vec<_> = rdatas.iter().map(|rdata| parse_rdata(rdata)).collect();
    let has_issuewild = parsed.iter().flatten().any(|property| *property.tag.kind() == TagKind::Issuewild);
    let governing = match context.subject {
        CaaSubject::Mailbox => GoverningProperty::Issuemail,
        CaaSubject::Wildcard if has_issuewild => GoverningProperty::Issuewild,
        CaaSubject::Wildcard | CaaSubject::Name => GoverningProperty::Issue,
    };
    let records: Vec<RecordFinding> = parsed
        .iter()
        .zip(rdatas)
        .map(|(parsed, rdata)| match parsed {
            Ok(property) => judge_property(property, governing, policy, context),
            Err(error) => RecordFinding::Unparsable { rdata: escape(rdata), error: error.clone() },
        })
        .collect();
    let rule = decide(&records, governing);
    CaaDecision { permitted: rule.permits(), rule, records }
}

/// What the findings amount to (req C14, steps 2 to 6).
fn decide(records: &[RecordFinding], property: GoverningProperty) -> CaaRule {
    if records.is_empty() {
        return CaaRule::EmptySet;
    }
    let first = |rule: fn(usize, &RecordFinding) -> Option<CaaRule>| {
        records.iter().enumerate().find_map(|(record, finding)| rule(record, finding))
    };
    let critical = first(|record, finding| match finding {
        RecordFinding::CriticalUnknown { flags, tag } => {
            Some(CaaRule::CriticalUnknown { record, flags: *flags, tag: tag.clone() })
        }
        _ => None,
    });
    let unparsable = || {
        first(|record, finding| match finding {
            RecordFinding::Unparsable { error, .. } => Some(CaaRule::UnparsableRecord { record, error: error.clone() }),
            _ => None,
        })
    };
    critical.or_else(unparsable).unwrap_or_else(|| decide_by_issuers(records, property))
}

/// Steps 4 to 6: every record of the set is readable and processed, or harmless.
fn decide_by_issuers(records: &[RecordFinding], property: GoverningProperty) -> CaaRule {
    let mut restricted = false;
    let mut names_this_ca = false;
    let mut others = BTreeSet::new();
    for (record, finding) in records.iter().enumerate() {
        match finding {
            RecordFinding::Authorizes { issuer } => {
                return CaaRule::Authorized { record, property, issuer: issuer.clone() };
            }
            RecordFinding::Irrelevant { .. }
            | RecordFinding::IssueIgnored { .. }
            | RecordFinding::IssuewildIgnored { .. }
            | RecordFinding::NoncriticalUnknown { .. } => continue,
            RecordFinding::OtherIssuer { issuer } => {
                others.insert(issuer.to_ascii_lowercase());
            }
            RecordFinding::AccountUriMismatch { .. }
            | RecordFinding::AccountUriMalformed { .. }
            | RecordFinding::AccountUriRepeated
            | RecordFinding::MethodMismatch { .. }
            | RecordFinding::MethodsMalformed { .. }
            | RecordFinding::MethodsRepeated
            | RecordFinding::ParameterUnsatisfiable { .. } => names_this_ca = true,
            RecordFinding::NoIssuer { .. } | RecordFinding::MalformedValue { .. } => {}
            // Step 2 has decided already.
            RecordFinding::CriticalUnknown { .. } | RecordFinding::Unparsable { .. } => {}
        }
        restricted = true;
    }
    if restricted {
        let more_issuers = others.len().saturating_sub(ISSUERS_NAMED_MAX);
        let other_issuers = others.into_iter().take(ISSUERS_NAMED_MAX).collect();
        CaaRule::NotAuthorized { property, other_issuers, more_issuers, names_this_ca }
    } else {
        CaaRule::NoRestrictingProperty { property }
    }
}

fn judge_property(
    property: &Property,
    governing: GoverningProperty,
    policy: &CaaPolicy,
    context: &CaaContext<'_>,
) -> RecordFinding {
    let kind = property.tag.kind();
    let tag = || escape(property.tag.published().as_bytes());
    if !policy.processes(kind) {
        let flags = property.flags;
        return match policy.holds_critical(property) {
            true => RecordFinding::CriticalUnknown { flags, tag: tag() },
            false => RecordFinding::NoncriticalUnknown { flags, tag: tag() },
        };
    }
    match (kind, governing) {
        (TagKind::Issue, GoverningProperty::Issue)
        | (TagKind::Issuewild, GoverningProperty::Issuewild)
        | (TagKind::Issuemail, GoverningProperty::Issuemail) => judge_value(&property.value, policy, context),
        (TagKind::Issue, GoverningProperty::Issuewild) => {
            RecordFinding::IssueIgnored { value: escape(&property.value) }
        }
        (TagKind::Issuewild, GoverningProperty::Issue) => {
            RecordFinding::IssuewildIgnored { value: escape(&property.value) }
        }
        _ => RecordFinding::Irrelevant { tag: tag() },
    }
}

/// Whether a value of the governing property authorizes (req C14, step 5).
fn judge_value(value: &[u8], policy: &CaaPolicy, context: &CaaContext<'_>) -> RecordFinding {
    let parsed = match parse_issue_value(value) {
        Ok(parsed) => parsed,
        Err(error) => return RecordFinding::MalformedValue { value: escape(value), error },
    };
    let Some(issuer) = &parsed.issuer else { return RecordFinding::NoIssuer { value: escape(value) } };
    let shown = escape(issuer.as_bytes());
    if !policy.is_own_issuer(issuer) {
        return RecordFinding::OtherIssuer { issuer: shown };
    }
    unsatisfied_parameter(&parsed, policy, context).unwrap_or(RecordFinding::Authorizes { issuer: shown })
}

/// The first parameter that is not satisfied (req C15). Names of parameters are compared without regard to
/// case, so that `AccountURI` binds too.
fn unsatisfied_parameter(value: &IssueValue, policy: &CaaPolicy, context: &CaaContext<'_>) -> Option<RecordFinding> {
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in &value.parameters {
        by_name.entry(name.to_ascii_lowercase()).or_default().push(value);
    }
    let values = |name: &str| by_name.get(name).map(Vec::as_slice).unwrap_or_default();
    let documented = policy.unsatisfiable_parameters.iter().find(|name| !values(&name.to_ascii_lowercase()).is_empty());
    unsatisfied_account(values("accounturi"), context.account_uri)
        .or_else(|| unsatisfied_methods(values("validationmethods"), context.method_labels))
        .or_else(|| documented.map(|name| RecordFinding::ParameterUnsatisfiable { parameter: escape(name.as_bytes()) }))
}

/// RFC 8657 §3: absent, any account; once, plain equality; otherwise nobody.
fn unsatisfied_account(values: &[&str], account: Option<&str>) -> Option<RecordFinding> {
    let published = match values {
        [] => return None,
        [published] => *published,
        [_, _, ..] => return Some(RecordFinding::AccountUriRepeated),
    };
    if !is_uri(published) {
        return Some(RecordFinding::AccountUriMalformed { published: escape(published.as_bytes()) });
    }
    (account != Some(published)).then(|| RecordFinding::AccountUriMismatch {
        published: escape(published.as_bytes()),
        account: account.map(|account| escape(account.as_bytes())),
    })
}

/// RFC 8657 §4: absent, any method; otherwise the method relied on must be in the list. The whole list is
/// read before any match counts, so that a malformed tail is noticed.
fn unsatisfied_methods(values: &[&str], used: &[&str]) -> Option<RecordFinding> {
    let published = match values {
        [] => return None,
        [published] => *published,
        [_, _, ..] => return Some(RecordFinding::MethodsRepeated),
    };
    let mut labels = BTreeSet::new();
    for label in published.split(',') {
        let well_formed = !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        // The empty list is in the grammar and names no method.
        if !well_formed && !published.is_empty() {
            return Some(RecordFinding::MethodsMalformed { published: escape(published.as_bytes()) });
        }
        if !labels.insert(label) {
            return Some(RecordFinding::MethodsRepeated);
        }
    }
    let named = used.iter().any(|label| !label.is_empty() && labels.contains(label));
    (!named).then(|| RecordFinding::MethodMismatch {
        published: escape(published.as_bytes()),
        used: used.iter().map(|label| escape(label.as_bytes())).collect(),
    })
}

/// Whether `text` has the shape of a URI (RFC 3986 §3): a scheme, a colon, and something after it made of the
/// characters of RFC 3986 §2 with whole percent-encodings.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let characters_ok = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b));
    let percent_ok =
        rest.split('%').skip(1).all(|after| after.len() >= 2 && after.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    scheme_ok && !rest.is_empty() && characters_ok && percent_ok
}
