//! CAA: RFC 8659 and RFC 8657 as the TLS BR 2.3.1 §4.2.2.1 require them (req C).
//!
//! * [`property`]: the grammar, from raw octets.
//! * [`mod@authorize`]: the decision about one relevant set.
//! * [`failure`]: when a lookup that failed may count as permission.
//! * here: finding the relevant set among the levels that were looked at.
//!
//! Invariant: a failure at a level stops the climb; it is never "empty here, try the parent" (req C9), unless
//! the policy allows it and everything the lookup-failure clause wants is in the evidence (req C16).

pub mod authorize;
pub mod failure;
pub mod property;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use self::authorize::{CaaContext, CaaDecision, CaaPolicy, CaaSubject, authorize};
use super::{LookupFailure, dcv::Method};
use crate::{
    base::name::DomainName,
    observation::{DnsFailure, DnsLookup, DnsOutcome, RecordSet, RecordType},
    request::{CaaCheck, Identifier},
};

/// What one perspective's observation means for CAA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaaFinding {
    /// No level up to the top has a set (RFC 8659 §3): permitted.
    NoSet,
    /// The relevant set decided.
    Decided {
        /// The level it was found at.
        level: String,
        /// Where it stands, if an alias led there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        alias_target: Option<String>,
        /// The decision with its derivation.
        decision: CaaDecision,
    },
    /// A level could not be looked up: forbidden (req B12).
    Failed(LookupFailure),
    /// Lookups failed that may count as permission (req C16), and all the rest permits.
    Excused {
        /// The levels that failed.
        levels: Vec<String>,
        /// What the others say.
        others: Box<Self>,
    },
}

impl CaaFinding {
    /// Whether issuance is permitted.
    #[must_use]
    pub fn permits(&self) -> bool {
        match self {
            Self::NoSet => true,
            Self::Decided { decision, .. } => decision.permitted,
            Self::Failed(_) => false,
            Self::Excused { others, .. } => others.permits(),
        }
    }
}

/// RFC 1035 §4.1.1.
const NXDOMAIN: u16 = 3;

/// Where the climb ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelevantSet<'a> {
    /// Nowhere: every level was answered and none has a set.
    None,
    /// At this level.
    Found(&'a DnsLookup, &'a RecordSet),
    /// At a level that failed, or at a top-level domain that does not exist.
    Failed(&'a DnsLookup),
    /// Levels are missing from the observation.
    Incomplete,
}

/// Finds the relevant set (RFC 8659 §3): the first level with a set, from leaf to top-level domain.
/// `levels` are those of `domain`'s climb, in order; any other name is no evidence. Levels whose failure
/// `excuses` are passed over and named.
#[must_use]
pub fn relevant_set<'a>(
    domain: &DomainName,
    levels: &'a [DnsLookup],
    excuses: impl Fn(&DnsLookup) -> bool,
) -> (RelevantSet<'a>, Vec<String>) {
    let mut excused = Vec::new();
    let mut seen = levels.iter();
    for name in domain.tree_climb() {
        let Some(lookup) = seen.next().filter(|lookup| lookup.name == name && lookup.rtype == RecordType::Caa) else {
            return (RelevantSet::Incomplete, excused);
        };
        match &lookup.outcome {
            DnsOutcome::Answer(set) => return (RelevantSet::Found(lookup, set), excused),
            // A top-level domain that does not exist makes an internal name, never to be certified (req B16).
            DnsOutcome::Nxdomain(_) if !name.contains('.') => return (RelevantSet::Failed(lookup), excused),
            DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => {}
            DnsOutcome::Failed(_) if excuses(lookup) => excused.push(name.to_owned()),
            DnsOutcome::Failed(_) => return (RelevantSet::Failed(lookup), excused),
        }
    }
    (RelevantSet::None, excused)
}

/// Judges a climb. `reached` is whether a name server outside replied to the perspective itself after a lookup had
/// failed ([`crate::observation::Diagnosis::reached`]).
#[must_use]
pub fn judge(
    identifier: &Identifier,
    check: &CaaCheck,
    levels: &[DnsLookup],
    reached: bool,
    policy: &CaaPolicy,
) -> CaaFinding {
    let excuses = |lookup: &DnsLookup| policy.lookup_failure_permits && failure::excuse(lookup, reached).is_ok();
    let Some(domain) = identifier.domain() else { return CaaFinding::Failed(LookupFailure::NotObserved) };
    let (set, excused) = relevant_set(domain, levels, excuses);
    let finding = judge_set(identifier, check, &set, policy);
    if excused.is_empty() || !finding.permits() {
        return finding;
    }
    CaaFinding::Excused { levels: excused, others: Box::new(finding) }
}

fn judge_set(identifier: &Identifier, check: &CaaCheck, set: &RelevantSet<'_>, policy: &CaaPolicy) -> CaaFinding {
    match set {
        RelevantSet::None => CaaFinding::NoSet,
        RelevantSet::Incomplete => CaaFinding::Failed(LookupFailure::NotObserved),
        RelevantSet::Failed(lookup) => CaaFinding::Failed(LookupFailure::Dns {
            name: lookup.name.clone(),
            rtype: lookup.rtype,
            failure: match &lookup.outcome {
                DnsOutcome::Failed(failure) => failure.clone(),
                DnsOutcome::Nxdomain(_) => DnsFailure::Rcode(NXDOMAIN),
                DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) => {
                    return CaaFinding::Failed(LookupFailure::NotObserved);
                }
            },
        }),
        RelevantSet::Found(lookup, set) => {
            let labels = check.labels();
            // A method that is used is offered, and so its property is processed (TLS BR 2.3.1 App. A.1).
            let policy = match check.method {
                Some(Method::ContactEmailCaa) => {
                    Cow::Owned(CaaPolicy { processes_contactemail: true, ..policy.clone() })
                }
                Some(Method::ContactPhoneCaa) => {
                    Cow::Owned(CaaPolicy { processes_contactphone: true, ..policy.clone() })
                }
                _ => Cow::Borrowed(policy),
            };
            let context = CaaContext {
                subject: match identifier {
                    _ if check.s_mime => CaaSubject::Mailbox,
                    Identifier::Wildcard(_) => CaaSubject::Wildcard,
                    Identifier::Mailbox(_) => CaaSubject::Mailbox,
                    Identifier::Name(_) | Identifier::Ip(_) => CaaSubject::Name,
                },
                account_uri: check.account_uri.as_deref(),
                method_labels: &labels,
            };
            let rdata: Vec<&[u8]> = set.rdata.iter().map(crate::base::octets::Octets::as_slice).collect();
            let alias_target = (set.owner != lookup.name).then(|| set.owner.clone());
            CaaFinding::Decided {
                level: lookup.name.clone(),
                alias_target,
                decision: authorize(&rdata, &policy, &context),
            }
        }
    }
}
