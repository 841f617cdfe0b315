//! One perspective's answer, made from its observation by pure functions.
//!
//! Three things are kept apart: an *outcome* (CAA forbids, the token differs) is a [`Contradiction`]; a
//! *lookup failure* is a [`LookupFailure`] with its evidence; an *error* of our own code or settings
//! never gets here. Only [`Finding::Confirmed`] counts for anything: silence, a default or a missing
//! field is never a confirmation (req A13).

pub mod caa;
pub mod dcv;

use serde::{Deserialize, Serialize};

use self::{
    caa::{CaaFinding, authorize::CaaPolicy},
    dcv::{Method, dns01::TxtFault, http01::BodyFault},
};
use crate::{
    lookup::http::redirect::Target,
    observation::{
        ControlObservation, DnsFailure, DnsLookup, HttpFailure, HttpObservation, HttpOutcome, Observation, RecordType,
    },
    plan::{ControlPlan, Plan, PlanLimits},
    request::CheckRequest,
};

/// What one perspective's observation means for control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The expected value was found.
    Confirmed,
    /// Something else was found.
    Contradicted(Contradiction),
    /// Nothing that could be judged was found.
    Failed(LookupFailure),
}

/// What was found instead of the expected value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// The response's status is not 200 (req D15, D19); its body was not looked at.
    Status(u16),
    /// The body is not the key authorization.
    Body(BodyFault),
    /// No TXT record.
    NoTxt {
        /// The name does not exist at all.
        nxdomain: bool,
    },
    /// TXT records, none of them right.
    Txt(TxtFault),
}

/// Why nothing that could be judged was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupFailure {
    /// A question got no answer.
    Dns {
        /// The name asked.
        name: String,
        /// The type asked.
        rtype: RecordType,
        /// What went wrong.
        failure: DnsFailure,
    },
    /// A fetch got no response.
    Http(HttpFailure),
    /// The observation holds nothing about what was asked. Never a confirmation.
    NotObserved,
}

/// One perspective's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Determination {
    /// For control, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Finding>,
    /// For CAA, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<CaaFinding>,
}

impl Determination {
    /// Whether control was confirmed; none if it was not asked.
    #[must_use]
    pub fn control_confirmed(&self) -> Option<bool> {
        self.control.as_ref().map(|finding| *finding == Finding::Confirmed)
    }

    /// Whether CAA permits; none if it was not asked.
    #[must_use]
    pub fn caa_permits(&self) -> Option<bool> {
        self.caa.as_ref().map(CaaFinding::permits)
    }

    /// Whether everything asked was confirmed: the joint count of req A14. Nothing asked is nothing
    /// confirmed.
    #[must_use]
    pub fn confirms(&self) -> bool {
        let asked = self.control.is_some() || self.caa.is_some();
        asked && self.control_confirmed() != Some(false) && self.caa_permits() != Some(false)
    }
}

/// Judges what one perspective saw. The same function for the primary and every remote.
#[must_use]
pub fn judge(request: &CheckRequest, observation: &Observation, policy: &CaaPolicy) -> Determination {
    let control = request.control.as_ref().map(|challenge| match (challenge.method, &observation.control) {
        (Method::Http01, Some(ControlObservation::Http(seen))) if is_first_url(request, seen) => {
            dcv::http01::judge(challenge, seen)
        }
        (Method::Dns01, Some(ControlObservation::Txt(seen))) if is_challenge_name(request, seen) => {
            dcv::dns01::judge(challenge, &request.sibling_digests, seen)
        }
        (Method::Http01 | Method::Dns01, _) => Finding::Failed(LookupFailure::NotObserved),
    });
    let caa = request.caa.as_ref().map(|check| caa::judge(&request.identifier, check, &observation.caa, policy));
    Determination { control, caa }
}

/// Evidence counts only if it is about what was asked (req A13): the first URL is the challenge's.
fn is_first_url(request: &CheckRequest, seen: &HttpObservation) -> bool {
    let Some(ControlPlan::Http { host, path }) = Plan::new(request, PlanLimits::default(), None).control else {
        return false;
    };
    let wanted = Target::first(&host, &path).map(|target| target.as_str().to_owned());
    match seen.hops.first() {
        Some(hop) => wanted.is_ok_and(|url| url == hop.url),
        // A fetch that never began confirms nothing either way.
        None => matches!(seen.outcome, HttpOutcome::Failed(_)),
    }
}

/// Evidence counts only if it is about what was asked: TXT of the challenge's name.
fn is_challenge_name(request: &CheckRequest, seen: &DnsLookup) -> bool {
    match Plan::new(request, PlanLimits::default(), None).control {
        Some(ControlPlan::Txt { name }) => seen.rtype == RecordType::Txt && seen.name == name,
        Some(ControlPlan::Http { .. }) | None => false,
    }
}
