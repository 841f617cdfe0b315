//! What a survey of name servers asks about.

use serde::{Deserialize, Serialize};

use crate::base::name::DomainName;

/// A survey: every name server of a name's zone is asked itself, at all its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyPlan {
    /// The name; its CAA is asked.
    pub name: String,
    /// The name whose TXT is asked.
    pub challenge: String,
}

impl SurveyPlan {
    /// Of a name and of the challenge name below it.
    #[must_use]
    pub fn new(name: &DomainName, challenge_label: &str) -> Self {
        Self { name: name.to_string(), challenge: format!("{challenge_label}.{name}") }
    }
}
