//! What a caller demands beyond the CA's rules.
//!
//! Invariant: every restriction can only turn a permission into a refusal, never the other way round.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{RequestError, shown};
use crate::{
    base::{limits::ISSUER_DOMAINS_MAX, name::DomainName},
    check::caa::authorize::CaaPolicy,
};

/// What a caller demands beyond the CA's rules. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restrictions {
    /// Of the CA's names only these count, in CAA records and in those of dns-persist-01; all of them if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuer_domains: Vec<String>,
    /// So many remotes may fail to corroborate at most, if the rules allow more (req A3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub non_corroborations_max: Option<u8>,
    /// A CAA lookup that failed is never permission, even if the CA's settings allow it (req C16).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lookup_failure_forbids: bool,
    /// Everything is looked up and recorded, and nothing is permitted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Restrictions {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Names in lower case, or the first field at fault.
    pub(super) fn parse(mut self) -> Result<Self, RequestError> {
        let fault = |problem: String| RequestError::Restriction { field: "restrictions.issuer_domains", problem };
        if self.issuer_domains.len() > ISSUER_DOMAINS_MAX {
            return Err(fault(format!("more than {ISSUER_DOMAINS_MAX}")));
        }
        for domain in &mut self.issuer_domains {
            let name: DomainName = domain.parse().map_err(|error| fault(format!("'{}': {error}", shown(domain))))?;
            *domain = name.to_string();
        }
        Ok(self)
    }

    /// The policy as far as these restrictions leave it.
    #[must_use]
    pub fn applied_to<'a>(&self, policy: &'a CaaPolicy) -> Cow<'a, CaaPolicy> {
        if self.issuer_domains.is_empty() && !self.lookup_failure_forbids {
            return Cow::Borrowed(policy);
        }
        let mut policy = policy.clone();
        if !self.issuer_domains.is_empty() {
            policy.issuer_domains.retain(|own| self.issuer_domains.iter().any(|kept| kept.eq_ignore_ascii_case(own)));
        }
        policy.lookup_failure_permits &= !self.lookup_failure_forbids;
        Cow::Owned(policy)
    }
}
