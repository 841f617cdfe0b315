//! From the identifier to the name that control is shown for: TLS BR 2.3.1 §3.2.2.4 and §3.2.2.5.3, S/MIME BR
//! §3.2.2.3 (req D1, D-e, D23).
//!
//! First the method, then the target of a CNAME if the method allows it, then labels are dropped if it allows that;
//! never a CNAME for a wildcard, never a CNAME after dropping, never beyond the base domain. Each perspective makes
//! the lookups itself (req A11, D5).

use serde::{Deserialize, Serialize};

use super::{Method, registry};
use crate::{
    base::{octets::Octets, suffix::Suffixes},
    check::{Contradiction, Finding, LookupFailure},
    lookup::dns::names,
    observation::{DnsLookup, DnsOutcome},
    plan::inquiry::{Inquiry, alias_target, is_at_or_below},
    request::{CheckRequest, Derivation, Identifier},
};

/// Why the lookups do not lead where they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DerivationFault {
    /// No alias leads to the authorization domain name.
    NoAlias,
    /// An alias leads to a name below it, but dropping labels down to it goes beyond the base domain.
    BeyondBase,
    /// The address has no name.
    NoName,
    /// The address has names, and the one given is not among them.
    OtherNames,
    /// The mail domain does not exist.
    NoMailDomain,
    /// The mail domain takes no mail (RFC 7505).
    NoMail,
    /// The mail domain has hosts, and the one given is not among them.
    OtherHosts,
    /// The one given is a host of the mail domain, and others come before it.
    LaterHost,
    /// The mail host is an alias (RFC 2181 §10.3).
    HostIsAlias,
}

/// Whether the rules let a method show control of the identifier by way of this derivation. The suffix list is not
/// asked here.
#[must_use]
pub fn is_lawful(identifier: &Identifier, derivation: Option<&Derivation>, method: Method) -> bool {
    let Some(row) = method.row(false) else { return false };
    match (identifier, derivation) {
        (Identifier::Ip(_), None) => method.allows_ip(),
        (Identifier::Name(_) | Identifier::Mailbox(_), None) => true,
        (Identifier::Wildcard(_), None) => row.wildcard,
        (Identifier::Wildcard(domain), Some(Derivation::Pruned(name))) => {
            row.wildcard && row.prune && is_above(name.as_str(), domain.as_str())
        }
        (Identifier::Name(domain), Some(Derivation::Pruned(name))) => {
            row.prune && is_above(name.as_str(), domain.as_str())
        }
        (Identifier::Mailbox(mailbox), Some(Derivation::Pruned(name))) => {
            row.prune && is_above(name.as_str(), mailbox.domain.as_str())
        }
        (Identifier::Name(_) | Identifier::Mailbox(_), Some(Derivation::Alias(_))) => row.cname,
        (Identifier::Mailbox(_), Some(Derivation::MailHost(_))) => true,
        (Identifier::Ip(_), Some(Derivation::Reverse(_))) => registry::section(registry::REVERSE_LOOKUP).is_some(),
        _ => false,
    }
}

fn is_above(name: &str, domain: &str) -> bool {
    name != domain && is_at_or_below(domain, name)
}

/// Judges the lookups that lead to the name. Confirmed if none are needed. `suffixes` say how far labels may be dropped.
#[must_use]
pub fn judge(request: &CheckRequest, seen: &[DnsLookup], suffixes: &Suffixes) -> Finding {
    if let Some(Derivation::Pruned(name)) = &request.derivation {
        let base = request.identifier.domain().and_then(|domain| suffixes.icann_base(domain.as_str()));
        if !base.is_some_and(|base| is_at_or_below(name.as_str(), base)) {
            return Finding::Contradicted(Contradiction::Derivation(DerivationFault::BeyondBase));
        }
    }
    let Some(inquiry) = request.derivation_inquiry() else {
        return if seen.is_empty() { Finding::Confirmed } else { Finding::Failed(LookupFailure::NotObserved) };
    };
    if !inquiry.is_answered_by(seen) {
        return Finding::Failed(LookupFailure::NotObserved);
    }
    let Some(last) = seen.last() else { return Finding::Failed(LookupFailure::NotObserved) };
    if let DnsOutcome::Failed(failure) = &last.outcome {
        return Finding::Failed(LookupFailure::dns(last, failure));
    }
    let fault = match (&request.derivation, &inquiry) {
        (Some(Derivation::Alias(name)), Inquiry::Aliases { .. }) => {
            let prunes = request.control.as_ref().and_then(|c| c.method.row(false)).is_some_and(|row| row.prune);
            alias_fault(last, name.as_str(), prunes, suffixes)
        }
        (Some(Derivation::Reverse(name)), Inquiry::Records { .. }) => names_fault(last, name.as_str()),
        (Some(Derivation::MailHost(host)), Inquiry::Mail { .. }) => mail_fault(seen, host.as_str()),
        _ => return Finding::Failed(LookupFailure::NotObserved),
    };
    fault.map_or(Finding::Confirmed, |fault| Finding::Contradicted(Contradiction::Derivation(fault)))
}

fn alias_fault(last: &DnsLookup, name: &str, prunes: bool, suffixes: &Suffixes) -> Option<DerivationFault> {
    match alias_target(last) {
        Some(target) if target == name => None,
        Some(target) if prunes && is_at_or_below(&target, name) => {
            let base = suffixes.icann_base(&target);
            let within = base.is_some_and(|base| is_at_or_below(name, base));
            (!within).then_some(DerivationFault::BeyondBase)
        }
        _ => Some(DerivationFault::NoAlias),
    }
}

fn names_fault(lookup: &DnsLookup, name: &str) -> Option<DerivationFault> {
    let DnsOutcome::Answer(set) = &lookup.outcome else { return Some(DerivationFault::NoName) };
    let found = set.rdata.iter().any(|rdata| names::of_cname(rdata.as_slice()).is_some_and(|found| found == name));
    (!found).then_some(DerivationFault::OtherNames)
}

/// RFC 5321 §5.1: of the hosts that MX names those of the lowest preference, or the domain itself if it has none. A
/// spare host, or a trap for spam, is not where mail is directed to (S/MIME BR §3.2.2.3).
fn mail_fault(seen: &[DnsLookup], host: &str) -> Option<DerivationFault> {
    match seen {
        [mx] => match &mx.outcome {
            DnsOutcome::Nodata(denial) => {
                let domain = denial.aliases.last().map_or(mx.name.as_str(), |alias| alias.target.as_str());
                (host != domain).then_some(DerivationFault::OtherHosts)
            }
            _ => Some(DerivationFault::NoMailDomain),
        },
        [mx, alias] => {
            let DnsOutcome::Answer(set) = &mx.outcome else { return Some(DerivationFault::NoMailDomain) };
            let preference =
                |rdata: &Octets| rdata.as_slice().first_chunk::<2>().map(|first| u16::from_be_bytes(*first));
            let hosts: Vec<_> = set.rdata.iter().filter_map(|rdata| names::of_mx(rdata.as_slice())).collect();
            if let ([(_, only)], 1) = (hosts.as_slice(), set.rdata.len())
                && only == "."
            {
                return Some(DerivationFault::NoMail);
            }
            // One whose host cannot be read may be the first all the same.
            let first = set.rdata.iter().filter_map(preference).min();
            match hosts.iter().filter(|(_, found)| found == host).map(|(preference, _)| *preference).min() {
                None => return Some(DerivationFault::OtherHosts),
                lowest if lowest != first => return Some(DerivationFault::LaterHost),
                Some(_) => {}
            }
            let is_plain = match &alias.outcome {
                DnsOutcome::Nodata(denial) => denial.aliases.is_empty(),
                _ => false,
            };
            (!is_plain).then_some(DerivationFault::HostIsAlias)
        }
        _ => Some(DerivationFault::NoMailDomain),
    }
}
