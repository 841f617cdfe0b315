//! CAA in words. Records are shown as they came; what they mean was judged elsewhere.

use super::{
    Blame, Cause, Kind, Retry, Seen, diagnosis, dns, dnssec,
    text::{list, places, seconds},
};
use crate::{
    base::octets::{Octets, escape},
    check::{
        Determination, LookupFailure,
        caa::{
            CaaFinding,
            authorize::{CaaDecision, CaaRule, GoverningProperty, RecordFinding},
            failure::excuse,
        },
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, Observation, RecordSet},
    problem::ProblemKind,
    request::CheckRequest,
    verdict::Answer,
};

const RECORDS_SHOWN: usize = 5;
const VALUE_SHOWN_BYTES: usize = 120;
const CRITICAL: u8 = 0x80;

/// A CAA record taken apart for showing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    flags: u8,
    tag: String,
    value: Octets,
}

impl Shown {
    fn read(rdata: &[u8]) -> Option<Self> {
        let (&[flags, length], rest) = rdata.split_first_chunk::<2>()?;
        let (tag, value) = rest.split_at_checked(usize::from(length))?;
        Some(Self { flags, tag: escape(tag).to_ascii_lowercase(), value: Octets(value.to_vec()) })
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} \"{}\"", self.flags, self.tag, self.value.shown(VALUE_SHOWN_BYTES))
    }
}

/// The set found at a level.
fn set_at<'a>(observation: Option<&'a Observation>, level: &str) -> Option<(&'a DnsLookup, &'a RecordSet)> {
    let lookup = observation?.caa.iter().find(|lookup| lookup.name == level)?;
    match &lookup.outcome {
        DnsOutcome::Answer(set) => Some((lookup, set)),
        DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) | DnsOutcome::Failed(_) => None,
    }
}

/// Why CAA does not permit; none if it does.
pub(super) fn cause(request: &CheckRequest, finding: &CaaFinding, observation: Option<&Observation>) -> Option<Cause> {
    match finding {
        // Only what permits is excused.
        CaaFinding::NoSet | CaaFinding::Excused { .. } => None,
        CaaFinding::Decided { decision, .. } if decision.permitted => None,
        CaaFinding::Decided { level, alias_target, decision } => {
            Some(forbidden(request, (level, alias_target.as_deref()), decision, observation))
        }
        CaaFinding::Failed(failure) => Some(failed(failure, observation)),
    }
}

fn failed(failure: &LookupFailure, observation: Option<&Observation>) -> Cause {
    match failure {
        LookupFailure::Dns { name, .. } => {
            if let Some(cause) = internal_name(name, observation) {
                return cause;
            }
            let lookups: Vec<&DnsLookup> =
                observation.iter().flat_map(|o| &o.caa).filter(|lookup| lookup.name == *name).collect();
            let mut cause = dns::cause(&lookups, Kind::Caa, observation.and_then(|o| o.diagnosis.as_ref()))
                .unwrap_or_else(|| Cause::ours("the observation lacks the CAA lookup that failed".to_owned()));
            let repeated = lookups.iter().filter(|lookup| lookup.repeat.is_some());
            let reached = observation.and_then(|o| o.diagnosis.as_ref()).is_some_and(|diagnosis| diagnosis.reached);
            let missing = repeated.filter_map(|lookup| excuse(lookup, reached).err()).next();
            cause.details.push(match missing {
                Some(missing) => {
                    format!("The lookup-failure clause (TLS BR 2.3.1 §4.2.2.1) does not apply: {missing}.")
                }
                None => "A CAA lookup that fails never permits (TLS BR 2.3.1 §4.2.2.1).".to_owned(),
            });
            cause
        }
        LookupFailure::NotValidated => Cause::not_validated(),
        LookupFailure::Http(_) | LookupFailure::Tls(_) | LookupFailure::NotObserved => {
            Cause::ours("CAA was not looked up at every level".to_owned())
        }
    }
}

/// A top-level domain that does not exist: no name below it may be certified (TLS BR 2.3.1 §4.2.2; req B16).
fn internal_name(level: &str, observation: Option<&Observation>) -> Option<Cause> {
    let lookup = observation?.caa.iter().find(|lookup| lookup.name == level)?;
    let DnsOutcome::Nxdomain(_) = lookup.outcome else { return None };
    Some(Cause {
        problem: ProblemKind::Dns,
        blame: Blame::Request,
        retry: Retry::Fix,
        kind: Kind::Caa,
        subject: None,
        did: format!("the top-level domain {level} does not exist, and no internal name is ever certified"),
        details: Vec::new(),
        is_network: false,
    })
}

fn forbidden(
    request: &CheckRequest,
    (level, alias_target): (&str, Option<&str>),
    decision: &CaaDecision,
    observation: Option<&Observation>,
) -> Cause {
    if decision.rule == CaaRule::EmptySet {
        return Cause::ours("an empty CAA set was judged".to_owned());
    }
    let did = format!("{} {}", place(request, level, alias_target), rule_in_words(decision));
    let mut details = Vec::new();
    if let Some((_, set)) = set_at(observation, level) {
        details.push(format!("Found: {}.", shown_set(set)));
        if !set.aliases.is_empty() {
            details.push(format!("The alias is {}.", dns::chain(&set.aliases)));
        }
    }
    let (blame, advice) = advice(request, decision);
    details.extend(advice);
    Cause {
        problem: ProblemKind::Caa,
        blame,
        retry: Retry::Fix,
        kind: Kind::Caa,
        subject: None,
        did,
        details,
        is_network: false,
    }
}

fn place(request: &CheckRequest, level: &str, alias_target: Option<&str>) -> String {
    let identifier = request.identifier.to_string();
    let inherited = request.identifier.domain().is_some_and(|name| name.as_str() != level);
    match (alias_target, inherited) {
        (Some(target), false) => format!("CAA at {target} (alias target of {level})"),
        (Some(target), true) => format!("CAA at {target} (alias target of {level}, inherited by {identifier})"),
        (None, true) => format!("CAA at {level} (inherited by {identifier})"),
        (None, false) => format!("CAA at {level}"),
    }
}

fn rule_in_words(decision: &CaaDecision) -> String {
    match &decision.rule {
        CaaRule::CriticalUnknown { flags, tag, .. } if flags & CRITICAL != 0 => {
            format!(
                "holds the tag '{tag}' with flag value {flags}, which marks it critical, and the tag is not processed here"
            )
        }
        CaaRule::CriticalUnknown { flags, tag, .. } => {
            format!(
                "holds the tag '{tag}' with flag value {flags}, which is widely meant as critical and is taken so by policy, and the tag is not processed here"
            )
        }
        CaaRule::UnparsableRecord { error, .. } => {
            format!("holds a record that cannot be read ({error}), which restricts")
        }
        CaaRule::NotAuthorized { names_this_ca: true, .. } => {
            "names this CA, but with parameters that this request does not satisfy".to_owned()
        }
        CaaRule::NotAuthorized { property, other_issuers, names_this_ca: false, .. } if other_issuers.is_empty() => {
            names_nobody(*property, &decision.records)
        }
        CaaRule::NotAuthorized { other_issuers, more_issuers, names_this_ca: false, .. } => {
            let more = (*more_issuers > 0).then(|| format!("{more_issuers} more"));
            let named: Vec<String> = other_issuers.iter().cloned().chain(more).collect();
            format!("allows only {}", list(&named))
        }
        CaaRule::EmptySet | CaaRule::NoRestrictingProperty { .. } | CaaRule::Authorized { .. } => {
            "was judged".to_owned()
        }
    }
}

fn names_nobody(property: GoverningProperty, records: &[RecordFinding]) -> String {
    if let Some(value) = malformed_value(records) {
        return format!(
            "has the {property} value '{value}', which is not a well-formed issuer name, so it allows nobody"
        );
    }
    let value = records
        .iter()
        .find_map(|record| if let RecordFinding::NoIssuer { value } = record { Some(value.as_str()) } else { None });
    format!("is {property} '{}' (no CA)", value.unwrap_or(";"))
}

fn malformed_value(records: &[RecordFinding]) -> Option<&str> {
    records.iter().find_map(|record| {
        if let RecordFinding::MalformedValue { value, .. } = record { Some(value.as_str()) } else { None }
    })
}

fn shown_set(set: &RecordSet) -> String {
    let mut records: Vec<Shown> = set.rdata.iter().filter_map(|rdata| Shown::read(rdata.as_slice())).collect();
    let unread = set.rdata.len() - records.len();
    let more = records.len().saturating_sub(RECORDS_SHOWN);
    records.sort();
    let mut texts: Vec<String> = records.iter().take(RECORDS_SHOWN).map(Shown::to_string).collect();
    if more > 0 {
        texts.push(format!("{more} more"));
    }
    if unread > 0 {
        texts.push(format!("{unread} that cannot be read"));
    }
    list(&texts)
}

/// Whose turn it is, and what to do.
fn advice(request: &CheckRequest, decision: &CaaDecision) -> (Blame, Vec<String>) {
    let add = "Add this CA's name there, or publish a CAA record lower down.".to_owned();
    match &decision.rule {
        CaaRule::CriticalUnknown { .. } => (Blame::Policy, vec!["Remove the record, or clear its flags.".to_owned()]),
        CaaRule::UnparsableRecord { .. } => (Blame::Record, vec!["Publish the record anew.".to_owned()]),
        CaaRule::NotAuthorized { names_this_ca: true, .. } => (Blame::Policy, mismatches(&decision.records)),
        CaaRule::NotAuthorized { property, .. } => {
            let mut texts = Vec::new();
            if let Some(value) = malformed_value(&decision.records) {
                return (Blame::Record, vec![malformed(value)]);
            }
            if request.identifier.is_wildcard() {
                texts.push(format!("{} is governed by {property}.", request.identifier));
            }
            texts.push(add);
            (Blame::Policy, texts)
        }
        CaaRule::EmptySet | CaaRule::NoRestrictingProperty { .. } | CaaRule::Authorized { .. } => {
            (Blame::Policy, vec![add])
        }
    }
}

/// Why records that name this CA do not let it issue here.
fn mismatches(records: &[RecordFinding]) -> Vec<String> {
    let bears = |record: &&RecordFinding| match record {
        RecordFinding::AccountUriMismatch { .. }
        | RecordFinding::AccountUriMalformed { .. }
        | RecordFinding::AccountUriRepeated
        | RecordFinding::MethodMismatch { .. }
        | RecordFinding::MethodsMalformed { .. }
        | RecordFinding::MethodsRepeated
        | RecordFinding::ParameterUnsatisfiable { .. } => true,
        RecordFinding::Irrelevant { .. }
        | RecordFinding::IssueIgnored { .. }
        | RecordFinding::IssuewildIgnored { .. }
        | RecordFinding::Authorizes { .. }
        | RecordFinding::OtherIssuer { .. }
        | RecordFinding::NoIssuer { .. }
        | RecordFinding::MalformedValue { .. }
        | RecordFinding::CriticalUnknown { .. }
        | RecordFinding::NoncriticalUnknown { .. }
        | RecordFinding::Unparsable { .. } => false,
    };
    records.iter().filter(bears).take(RECORDS_SHOWN).map(ToString::to_string).collect()
}

/// What is probably wrong with a value. It is text already escaped, so a typographic quotation mark shows
/// as `\xe2\x80`.
fn malformed(value: &str) -> String {
    let name = value.split(';').next().unwrap_or(value).trim();
    if name.ends_with('.') {
        format!("The CAA value is '{value}' including the final dot. Enter it without.")
    } else if name.contains(['\'', '"', '`']) || name.contains("\\x22") || name.contains("\\xe2\\x80") {
        format!("The CAA value is '{value}' including the quote marks. Enter it without them.")
    } else {
        format!("The CAA value is '{value}'; a domain name of letters, digits, hyphens and dots is wanted.")
    }
}

/// Where a permission rests on the lookup-failure clause, for the operator (`cases.md` D36).
pub(super) fn excused_warnings(seen: &[Seen<'_>]) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    for s in seen {
        let Answer::Determined(Determination { caa: Some(CaaFinding::Excused { levels, .. }), .. }) = s.answer else {
            continue;
        };
        let failed = s.observation.iter().flat_map(|o| &o.caa).filter(|lookup| levels.contains(&lookup.name));
        for lookup in failed {
            let Some(repeat) = &lookup.repeat else { continue };
            let Some(DnsFailure::Rcode(_) | DnsFailure::Timeout) = dns::failure(lookup) else { continue };
            let proof = lookup.validation.as_ref().and_then(|v| v.insecure.as_ref()).map(dnssec::insecure);
            let mut warning = format!(
                "From {}: permitted under the lookup-failure clause (TLS BR 2.3.1 §4.2.2.1): {}; two lookups of {} CAA, \
                 {} apart, came to nothing beyond our resolver {}.",
                places(std::iter::once(s)),
                proof.unwrap_or_default(),
                lookup.name,
                seconds(repeat.waited_us),
                lookup.resolver
            );
            let diagnosis = s.observation.and_then(|o| o.diagnosis.as_ref());
            for text in
                diagnosis.filter(|d| diagnosis::is_about(d, lookup)).map(diagnosis::sentences).into_iter().flatten()
            {
                warning.push(' ');
                warning.push_str(&text);
            }
            warnings.push(warning);
        }
    }
    warnings
}

/// The CAA set that an observation ended at, as one line for comparison; none if there is none.
pub(super) fn set_in_words(observation: &Observation) -> Option<String> {
    let lookup = observation.caa.last()?;
    let DnsOutcome::Answer(set) = &lookup.outcome else { return None };
    Some(shown_set(set))
}
