//! Values and contacts in records, and the names that lead to them, in words.

use super::{
    Cause,
    dns::record_cause,
    text::{list, number},
};
use crate::{
    base::octets::Octets,
    check::dcv::{
        contact::ContactFault,
        derivation::DerivationFault,
        dns_change::{ValueFault, ValueHint},
    },
    lookup::dns::names,
    observation::{DnsLookup, DnsOutcome, Observation, RecordType},
    plan::inquiry::alias_target,
    request::{CheckRequest, Derivation, Proof},
};

/// Names that a message lists.
const NAMES_SHOWN: usize = 4;

/// Records of dns-change, none of which holds the value.
pub(super) fn wrong_value(lookup: &DnsLookup, fault: ValueFault) -> Cause {
    let records = match fault.found {
        1 => format!("one {} record was found", lookup.rtype),
        found => format!("{} {} records were found", number(found as usize), lookup.rtype),
    };
    let joint = if fault.found == 1 { "and" } else { "none of them right; of one" };
    let hint = match fault.hint {
        ValueHint::Quoted => "it is the right value within literal quotation marks; enter it without them",
        ValueHint::WhiteSpace => "it is the right value with white space around it; enter it without",
        ValueHint::Case => "it is the right value in another case; upper and lower case matter",
        ValueHint::Within => "it holds the right value with more text around it; it must stand alone",
        ValueHint::Other => "it does not hold the value",
    };
    let wanted = match lookup.rtype {
        RecordType::Cname => "The value must be a whole label of the alias's target.",
        RecordType::Caa => "The value must be a whole parameter value of an issue, issuewild or issuemail property.",
        _ => "The value must be the whole text of a record.",
    };
    record_cause(format!("{records} at {}, {joint} {hint}", lookup.name), vec![wanted.to_owned()])
}

/// Records for contacts, none of which is the one that was chosen.
pub(super) fn wrong_contact(request: &CheckRequest, lookups: &[DnsLookup], fault: ContactFault) -> Cause {
    let at = lookups.last().map_or("the name", |lookup| lookup.name.as_str());
    let kind = request.control.as_ref().and_then(|challenge| challenge.contact_kind());
    let property = kind.map_or("contact", |kind| kind.property());
    let contact = match request.control.as_ref().map(|challenge| &challenge.proof) {
        Some(Proof::Contact { contact }) => Octets(contact.as_bytes().to_vec()).shown(254),
        _ => String::new(),
    };
    let found = match fault.found {
        0 => format!("the CAA records of {at} have no {property}"),
        1 => format!("the one contact at {at} is not {contact}"),
        more => format!("none of the {} contacts at {at} is {contact}", number(more as usize)),
    };
    let mut details = Vec::new();
    if fault.unfit > 0 {
        details.push(format!(
            "{} not understood: the whole value must be {}, with nothing around it.",
            if fault.unfit == 1 { "One value is".to_owned() } else { format!("{} values are", fault.unfit) },
            if property == "contactphone" { "a number such as +1 555 0100" } else { "a mail address" }
        ));
    }
    record_cause(found, details)
}

/// No record at all where a contact or a value should be found by climbing.
pub(super) fn no_property(request: &CheckRequest, lookups: &[DnsLookup]) -> Cause {
    let from = lookups.first().map_or("the name", |lookup| lookup.name.as_str());
    let kind = request.control.as_ref().and_then(|challenge| challenge.contact_kind());
    let property = kind.map_or("contact", |kind| kind.property());
    let did = format!("no CAA record was found at {from} or above, so there is no {property}");
    record_cause(did, Vec::new())
}

/// The lookups do not lead to the name that control was to be shown for.
pub(super) fn astray(request: &CheckRequest, observation: &Observation, fault: DerivationFault) -> Cause {
    let lookups = observation.derivation.as_slice();
    let first = lookups.first().map_or("the identifier", |lookup| lookup.name.as_str());
    let name = request.derivation.as_ref().map_or("", |derivation| derivation.name().as_str());
    let found = lookups.first().map(names_found).unwrap_or_default();
    let listed = |what: &str| {
        if found.is_empty() { Vec::new() } else { vec![format!("{what}: {}.", list(&found))] }
    };
    match fault {
        DerivationFault::NoAlias => {
            let chain: Vec<String> = lookups.iter().filter_map(alias_target).take(NAMES_SHOWN).collect();
            let details = match chain.as_slice() {
                [] => vec![format!("{first} is no alias.")],
                chain => vec![format!("The aliases found lead from {first} to {}.", chain.join(", then to "))],
            };
            record_cause(format!("no alias of {first} leads to {name}"), details)
        }
        DerivationFault::BeyondBase => record_cause(
            format!("the name {name} lies above the base domain of {first}, or of the name that it is an alias of"),
            vec!["Labels may be dropped down to the base domain only.".to_owned()],
        ),
        DerivationFault::NoName => record_cause(format!("no PTR was found at {first}"), Vec::new()),
        DerivationFault::OtherNames => {
            record_cause(format!("the reverse name {first} does not lead to {name}"), listed("Found"))
        }
        DerivationFault::NoMailDomain => record_cause(format!("no mail host was found for {first}"), Vec::new()),
        DerivationFault::NoMail => {
            record_cause(format!("the domain {first} takes no mail, by its MX record"), Vec::new())
        }
        DerivationFault::OtherHosts => {
            let details = if found.is_empty() {
                vec![format!("Without MX records, {first} itself is the mail host.")]
            } else {
                listed("Its mail hosts are")
            };
            record_cause(format!("the host {name} is not a mail host of {first}"), details)
        }
        DerivationFault::LaterHost => record_cause(
            format!("the host {name} is a mail host of {first}, and others come before it"),
            listed("Its mail hosts are, with their preference"),
        ),
        DerivationFault::HostIsAlias => record_cause(
            format!("the mail host {name} is an alias, or that could not be told"),
            vec!["A name in an MX record must not be an alias (RFC 2181 §10.3).".to_owned()],
        ),
    }
}

/// The lookup that stopped the way to the name.
pub(super) fn failed_on_the_way<'a>(request: &CheckRequest, observation: &'a Observation) -> Option<&'a DnsLookup> {
    request.derivation_inquiry()?;
    observation.derivation.last().filter(|lookup| matches!(lookup.outcome, DnsOutcome::Failed(_)))
}

fn names_found(lookup: &DnsLookup) -> Vec<String> {
    let DnsOutcome::Answer(set) = &lookup.outcome else { return Vec::new() };
    let name = |rdata: &Octets| match lookup.rtype {
        RecordType::Mx => names::of_mx(rdata.as_slice()).map(|(preference, host)| format!("{host} ({preference})")),
        _ => names::of_cname(rdata.as_slice()),
    };
    set.rdata.iter().filter_map(name).take(NAMES_SHOWN).collect()
}

/// What a verdict rests on that the certificate will not say, or a method that should not be used any more.
pub(super) fn by_way_of(request: &CheckRequest) -> Option<String> {
    let derivation = request.derivation.as_ref()?;
    let name = derivation.name();
    Some(match derivation {
        Derivation::Pruned(_) => format!("Control was shown for {name}, of which {} is part.", request.identifier),
        Derivation::Alias(_) => format!("Control was shown for {name}, where aliases of {} lead.", request.identifier),
        Derivation::Reverse(_) => format!("Control was shown for {name}, the name of {}.", request.identifier),
        Derivation::MailHost(_) => format!("Control was shown for {name}, a mail host of {}.", request.identifier),
    })
}
