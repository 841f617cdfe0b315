//! `Inquiry`: questions to the resolver, each of which may depend on the answers before it.
//!
//! A perspective asks what [`Inquiry::next`] says until it says nothing more; whoever judges the answers asks it
//! again and so knows that they are about what was asked (req A13).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    base::limits::ALIAS_HOPS_MAX,
    lookup::dns::names,
    observation::{DnsLookup, DnsOutcome, RecordType},
};

/// Questions that are asked one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inquiry {
    /// One question.
    Records {
        /// The name.
        name: String,
        /// The type.
        rtype: RecordType,
    },
    /// CAA of each level until one has a set (RFC 8659 §3).
    Climb {
        /// Leaf first, up to the top-level domain.
        levels: Vec<String>,
    },
    /// CNAME of a name, of its target, and so on until a target is `to` or lies below it (TLS BR 2.3.1 §3.2.2.4,
    /// req D1).
    Aliases {
        /// Where the chain begins.
        from: String,
        /// Where it is to lead.
        to: String,
    },
    /// MX of a mail domain, and CNAME of the host, which must have none (RFC 5321 §5.1, req D23).
    Mail {
        /// The mail domain.
        domain: String,
        /// One of its hosts.
        host: String,
    },
}

impl Inquiry {
    /// TXT of a name.
    #[must_use]
    pub fn txt(name: impl Into<String>) -> Self {
        Self::Records { name: name.into(), rtype: RecordType::Txt }
    }

    /// The question that follows from what was answered so far; none if there is nothing more to ask.
    #[must_use]
    pub fn next(&self, seen: &[DnsLookup]) -> Option<(Cow<'_, str>, RecordType)> {
        match self {
            Self::Records { name, rtype } => seen.is_empty().then(|| (name.into(), *rtype)),
            Self::Climb { levels } => {
                let goes_on = seen.last().is_none_or(|lookup| is_denial(&lookup.outcome));
                levels.get(seen.len()).filter(|_| goes_on).map(|level| (level.into(), RecordType::Caa))
            }
            Self::Aliases { from, to } => {
                let Some(last) = seen.last() else { return Some((from.into(), RecordType::Cname)) };
                let target = alias_target(last)?;
                let again = seen.iter().any(|lookup| lookup.name == target);
                let arrived = is_at_or_below(&target, to);
                (!arrived && !again && seen.len() < ALIAS_HOPS_MAX).then_some((target.into(), RecordType::Cname))
            }
            Self::Mail { domain, host } => match seen {
                [] => Some((domain.into(), RecordType::Mx)),
                [mx] if matches!(mx.outcome, DnsOutcome::Answer(_)) => Some((host.into(), RecordType::Cname)),
                _ => None,
            },
        }
    }

    /// Whether `seen` are exactly the lookups that were to be made, in their order, and all of them.
    #[must_use]
    pub fn is_answered_by(&self, seen: &[DnsLookup]) -> bool {
        let asked = |(index, lookup): (usize, &DnsLookup)| {
            self.next(&seen[..index]).is_some_and(|(name, rtype)| lookup.name == name && lookup.rtype == rtype)
        };
        seen.iter().enumerate().all(asked) && self.next(seen).is_none()
    }

    /// The name that is asked first.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::Records { name, .. } => name,
            Self::Climb { levels } => levels.first().map_or("", String::as_str),
            Self::Aliases { from, .. } => from,
            Self::Mail { domain, .. } => domain,
        }
    }
}

fn is_denial(outcome: &DnsOutcome) -> bool {
    matches!(outcome, DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_))
}

/// Whether a name is another one or lies below it. Both are in lower case.
#[must_use]
pub fn is_at_or_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The target of the one CNAME, perhaps repeated, that a CNAME lookup found at the very name asked.
#[must_use]
pub fn alias_target(lookup: &DnsLookup) -> Option<String> {
    match &lookup.outcome {
        DnsOutcome::Answer(set) if set.aliases.is_empty() && lookup.rtype == RecordType::Cname => {
            match set.rdata.as_slice() {
                [one, again @ ..] if again.iter().all(|other| other == one) => names::of_cname(one.as_slice()),
                _ => None,
            }
        }
        _ => None,
    }
}
