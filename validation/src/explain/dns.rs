//! Lookups in words.

use super::{
    Blame, Cause, Kind, Retry, diagnosis, dnssec,
    text::{list, number, quoted, seconds},
};
use crate::{
    base::octets::Octets,
    check::dcv::dns01::{TxtFault, TxtHint, joined_strings},
    observation::{
        Alias, Denial, Diagnosis, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecFault, HintObservation,
        NetworkError, Observation, Soa,
    },
    plan::HintKind,
    problem::ProblemKind,
};

/// `www.a.example → b.example → c.example`.
pub(super) fn chain(aliases: &[Alias]) -> String {
    let mut names: Vec<&str> = aliases.iter().take(1).map(|alias| alias.owner.as_str()).collect();
    names.extend(aliases.iter().map(|alias| alias.target.as_str()));
    names.join(" → ")
}

/// The denial of a lookup, if that is what it ended with.
pub(super) fn denial(lookup: &DnsLookup) -> Option<&Denial> {
    match &lookup.outcome {
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => Some(denial),
        DnsOutcome::Answer(_) | DnsOutcome::Failed(_) => None,
    }
}

/// The failure of a lookup, if that is what it ended with.
pub(super) fn failure(lookup: &DnsLookup) -> Option<&DnsFailure> {
    match &lookup.outcome {
        DnsOutcome::Failed(failure) => Some(failure),
        DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => None,
    }
}

/// Every zone version that an observation names.
pub(super) fn versions(observation: &Observation) -> impl Iterator<Item = &Soa> {
    let own = observation.control.iter().flat_map(|control| control.records());
    own.chain(&observation.caa).filter_map(|lookup| denial(lookup)?.soa.as_ref())
}

/// The zone that holds, or lacks, the TXT that was looked up, as far as a denial names it.
pub(super) fn zone_of_txt(observation: &Observation) -> Option<String> {
    use crate::observation::ControlObservation;
    let Some(ControlObservation::Record(lookup)) = &observation.control else { return None };
    let owner = match &lookup.outcome {
        DnsOutcome::Answer(set) => set.owner.as_str(),
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => {
            denial.aliases.last().map_or(lookup.name.as_str(), |alias| alias.target.as_str())
        }
        DnsOutcome::Failed(_) => return None,
    };
    versions(observation)
        .find(|soa| owner.ends_with(&format!(".{}", soa.zone)) || owner == soa.zone)
        .map(|soa| soa.zone.clone())
}

/// `NOTIMP`, or `rcode 23`.
pub(crate) fn rcode_name(code: u16) -> String {
    let name = match code {
        1 => "FORMERR",
        2 => "SERVFAIL",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        _ => return format!("rcode {code}"),
    };
    name.to_owned()
}

fn rcode(code: u16) -> String {
    let name = rcode_name(code);
    if name.starts_with("rcode") { name } else { format!("{name} (rcode {code})") }
}

fn network(error: NetworkError) -> &'static str {
    match error {
        NetworkError::Timeout => "was not answered",
        NetworkError::Refused => "was refused",
        NetworkError::Reset => "was reset",
        NetworkError::ClosedEarly => "was closed before an answer",
        NetworkError::Unreachable => "found no route",
        NetworkError::Local => "could not be opened by us",
        NetworkError::Other => "failed",
    }
}

/// What a failed question met, as a clause.
pub(crate) fn met(failure: &DnsFailure) -> String {
    match failure {
        DnsFailure::Rcode(code) => format!("was answered {}", rcode(*code)),
        DnsFailure::Timeout => "was never answered".to_owned(),
        DnsFailure::ResolverUnreachable(error) => format!("did not reach our resolver: the packet {}", network(*error)),
        DnsFailure::Tcp(error) => format!("needs TCP, and the TCP connection to our resolver {}", network(*error)),
        DnsFailure::Malformed(problem) => format!("was answered with a message that cannot be read ({problem})"),
        DnsFailure::AliasLoop(aliases) => format!("runs in an alias loop: {}", chain(aliases)),
        DnsFailure::AliasChainTooLong => "leads through more than 16 aliases".to_owned(),
        DnsFailure::IncompleteChain(target) => {
            format!("ends at the alias target {target}, about which the reply says nothing")
        }
        DnsFailure::Dnssec(fault) => dnssec::met(fault),
        DnsFailure::DeadlineOfTask => "was still open when the time for the whole check ran out".to_owned(),
        DnsFailure::Local(reason) => format!("could not be sent by us ({reason})"),
    }
}

/// Who was asked, how, and what the resolver adds. `met_first` is what was told already.
fn asked(lookups: &[&DnsLookup], met_first: &str) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for lookup in lookups {
        let met = failure(lookup).map(met).filter(|met| met != met_first && lookups.len() > 1);
        let met = met.map(|met| format!("; the question for {} {met}", lookup.rtype)).unwrap_or_default();
        let added: Vec<String> =
            lookup.extended_errors.iter().map(|e| format!("EDE {} '{}'", e.code, e.text)).collect();
        let added = if added.is_empty() { String::new() } else { format!("; it adds {}", list(&added)) };
        let text = format!("Our resolver {} was asked {}{met}{added}.", lookup.resolver, transports(lookup));
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

fn transports(lookup: &DnsLookup) -> String {
    let within = seconds(lookup.elapsed_us);
    match (lookup.transmissions, lookup.transport) {
        (0, DnsTransport::Udp | DnsTransport::Tcp) => "in vain: nothing could be sent".to_owned(),
        (times, DnsTransport::Udp) => format!("over UDP, {}, within {within}", count_times(times)),
        (times, DnsTransport::Tcp) => format!("over UDP, {}, and over TCP, within {within}", count_times(times)),
    }
}

fn count_times(times: u8) -> String {
    if times == 1 { "once".to_owned() } else { format!("{} times", number(usize::from(times))) }
}

/// EDE codes by which a resolver says that signatures or keys are at fault (RFC 8914 §4).
fn is_bogus(lookup: &DnsLookup) -> bool {
    lookup.extended_errors.iter().any(|e| matches!(e.code, 1 | 2 | 5..=12))
}

/// Whose fault a failed lookup is, and when to try again.
fn fault(failure: &DnsFailure, lookup: &DnsLookup) -> (ProblemKind, Blame, Retry) {
    let is_top_level = !lookup.name.contains('.');
    match failure {
        DnsFailure::ResolverUnreachable(_) | DnsFailure::Local(_) | DnsFailure::Tcp(NetworkError::Local) => {
            (ProblemKind::ServerInternal, Blame::Perspective, Retry::Now)
        }
        DnsFailure::Dnssec(fault) => {
            let (blame, retry) = dnssec::fault(fault);
            let problem = if blame == Blame::Perspective { ProblemKind::ServerInternal } else { ProblemKind::Dns };
            (problem, blame, retry)
        }
        // The connection to our own resolver: a name server that refuses TCP shows as its SERVFAIL.
        DnsFailure::Tcp(_) => (ProblemKind::Dns, Blame::Perspective, Retry::Now),
        DnsFailure::Rcode(_) | DnsFailure::Timeout | DnsFailure::Malformed(_) if is_bogus(lookup) => {
            (ProblemKind::Dns, Blame::Record, Retry::Fix)
        }
        DnsFailure::Rcode(_) | DnsFailure::Timeout | DnsFailure::Malformed(_) if is_top_level => {
            (ProblemKind::Dns, Blame::Parent, Retry::Now)
        }
        DnsFailure::Rcode(2) | DnsFailure::Timeout | DnsFailure::DeadlineOfTask => {
            (ProblemKind::Dns, Blame::Dns, Retry::Later)
        }
        DnsFailure::Rcode(_) | DnsFailure::Malformed(_) => (ProblemKind::Dns, Blame::Dns, Retry::Fix),
        DnsFailure::AliasLoop(_) | DnsFailure::AliasChainTooLong | DnsFailure::IncompleteChain(_) => {
            (ProblemKind::Dns, Blame::Record, Retry::Fix)
        }
    }
}

/// Why these lookups, which belong to one step, came to nothing. The first failed one leads; what its zone's own
/// servers say comes first, if they were asked about it.
pub(super) fn cause(lookups: &[&DnsLookup], kind: Kind, diagnosis: Option<&Diagnosis>) -> Option<Cause> {
    let failed: Vec<&DnsLookup> = lookups.iter().copied().filter(|lookup| failure(lookup).is_some()).collect();
    let first = failed.first()?;
    let met_first = failure(first)?;
    let (mut problem, mut blame, mut retry) = fault(met_first, first);
    let types: Vec<String> = failed.iter().map(|lookup| lookup.rtype.to_string()).collect();
    let met_first_in_words = match met_first {
        // No alias led there.
        DnsFailure::IncompleteChain(target) if *target == first.name => {
            "was answered with neither records nor a denial that has its SOA".to_owned()
        }
        other => met(other),
    };
    let mut details = asked(&failed, &met_first_in_words);
    if blame == Blame::Parent {
        details.push("It failed at the top-level domain, above the delegation; nothing is wrong with the domain itself, and trying again is safe.".to_owned());
    }
    if let DnsFailure::Dnssec(fault) = met_first {
        details.splice(0..0, dnssec::advice(fault));
    } else if let Some(validation) = &first.validation {
        details.extend(dnssec::of_failed(validation));
    }
    let diagnosis = diagnosis.filter(|diagnosis| blame != Blame::Parent && diagnosis::is_about(diagnosis, first));
    if let Some(diagnosis) = diagnosis {
        let told = diagnosis::told(diagnosis);
        // A chain of trust that is known to be broken is not mended at the servers, unless they hold old signatures.
        let is_broken = match met_first {
            DnsFailure::Dnssec(fault) => !matches!(fault, DnssecFault::LinkFailed { .. }),
            _ => is_bogus(first),
        };
        if let Some(fault) = told.fault.filter(|_| !is_broken || told.is_expiry) {
            (problem, (blame, retry)) = (ProblemKind::Dns, fault);
        }
        if let (true, DnsFailure::Dnssec(fault @ DnssecFault::Expired { .. })) = (told.is_expiry, met_first) {
            // The same advice, to nobody in particular.
            let general = dnssec::advice(fault);
            details.retain(|detail| Some(detail) != general.as_ref());
        }
        if told.fault.is_none() && !is_bogus(first) && !matches!(met_first, DnsFailure::Dnssec(_)) {
            details.extend(diagnosis::sound(diagnosis));
        }
        details.splice(0..0, told.sentences);
    }
    if is_bogus(first) {
        details.push("The resolver finds the DNSSEC data of the zone or of its parent's DS at fault.".to_owned());
    }
    let did = format!("the lookup of {} {} {met_first_in_words}", first.name, types.join(" and "));
    Some(Cause { problem, blame, retry, kind, subject: None, did, details, is_network: false })
}

/// A TXT name without records.
pub(super) fn no_txt(lookup: &DnsLookup, hints: &[HintObservation]) -> Cause {
    let name = &lookup.name;
    let denial = denial(lookup).cloned().unwrap_or_default();
    let no_such = format!("the name has no {}", lookup.rtype);
    let exists =
        if matches!(lookup.outcome, DnsOutcome::Nxdomain(_)) { "the name does not exist" } else { no_such.as_str() };
    let version =
        denial.soa.as_ref().map(|soa| format!(", zone {} serial {}", soa.zone, soa.serial)).unwrap_or_default();
    let mut details = Vec::new();
    if let Some(alias) = denial.aliases.first() {
        details.push(hint_wildcard(alias, hints).unwrap_or_else(|| {
            format!(
                "The name is an alias: {}. The {} record must stand at its end.",
                chain(&denial.aliases),
                lookup.rtype
            )
        }));
    }
    details.extend(hints.iter().filter_map(|hint| hint_doubled(hint, name)));
    let did = format!("no {} was found at {name} ({exists}{version})", lookup.rtype);
    record_cause(did, details)
}

/// That an alias comes from a wildcard, if a name nobody created has the same.
pub(crate) fn hint_wildcard(alias: &Alias, hints: &[HintObservation]) -> Option<String> {
    let sibling = hints.iter().find(|hint| hint.kind == HintKind::WildcardSibling)?;
    let aliases = match &sibling.lookup.outcome {
        DnsOutcome::Answer(set) => &set.aliases,
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => &denial.aliases,
        DnsOutcome::Failed(_) => return None,
    };
    let same = aliases.first().filter(|other| other.target == alias.target)?;
    let (_, parent) = same.owner.split_once('.')?;
    Some(format!(
        "{} is answered by the wildcard *.{parent} → {}, which has no TXT: {}, a name nobody created, gets the same answer. \
         Create the TXT record explicitly; it takes precedence over the wildcard.",
        alias.owner, alias.target, sibling.lookup.name
    ))
}

fn hint_doubled(hint: &HintObservation, name: &str) -> Option<String> {
    let found = matches!(hint.lookup.outcome, DnsOutcome::Answer(_)) && hint.kind == HintKind::DoubledName;
    found.then(|| {
        format!(
            "One exists at {}: most panels add the domain themselves, so enter {name} without it.",
            hint.lookup.name
        )
    })
}

/// TXT records, none of them right.
pub(super) fn wrong_txt(lookup: &DnsLookup, fault: TxtFault) -> Cause {
    let found = if fault.found == 1 {
        "one TXT value was found".to_owned()
    } else {
        format!("{} TXT values were found", number(fault.found as usize))
    };
    let hint = match fault.hint {
        TxtHint::Quoted => "it is the right value within literal quotation marks; enter it without them",
        TxtHint::WhiteSpace => "it is the right value with white space around it; enter it without",
        TxtHint::Case => "it is the right value in another case; upper and lower case matter",
        TxtHint::Sibling => "it belongs to the other authorization in this order. Both values must be present together",
        TxtHint::NotHashed => "it is the key authorization itself; its SHA-256 in base64url is wanted",
        TxtHint::OtherDigest => {
            "it has the right form but belongs to no challenge we know: an old one, or another client's"
        }
        TxtHint::Other => "it does not look like a challenge value",
    };
    let joint = if fault.found == 1 { "and" } else { "none of them right; of one" };
    let did = format!("{found} at {}, {joint} {hint}", lookup.name);
    let details = shown_values(lookup).into_iter().collect();
    record_cause(did, details)
}

fn shown_values(lookup: &DnsLookup) -> Option<String> {
    const SHOWN: usize = 3;
    let DnsOutcome::Answer(set) = &lookup.outcome else { return None };
    let values: Vec<String> = set
        .rdata
        .iter()
        .take(SHOWN)
        .map(|rdata| quoted(&Octets(joined_strings(rdata.as_slice()).unwrap_or_default())))
        .collect();
    let more = if set.rdata.len() > SHOWN { format!(" and {} more", set.rdata.len() - SHOWN) } else { String::new() };
    let through = if set.aliases.is_empty() { String::new() } else { format!(" (through {})", chain(&set.aliases)) };
    Some(format!("Found{through}: {}{more}.", values.join(", ")))
}

/// A record was answered, and what was published is not what is wanted.
pub(super) fn record_cause(did: String, details: Vec<String>) -> Cause {
    Cause {
        problem: ProblemKind::Unauthorized,
        blame: Blame::Record,
        retry: Retry::Fix,
        kind: Kind::Txt,
        subject: None,
        did,
        details,
        is_network: false,
    }
}
