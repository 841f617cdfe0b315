//! Who may ask for what, and how much at a time.
//!
//! A caller is known by a name in its certificate. Invariant: who is not listed may do nothing.

use std::{collections::HashMap, sync::Arc};

use parallax_protocol::transport::Caller;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// What a caller may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Verdicts that may be issued on.
    Corroborate,
    /// Dry runs.
    Check,
    /// What the journal says of the caller's own attempts.
    Explain,
    /// What it says of all attempts. Records hold what callers sent, secrets among it.
    ExplainAll,
    /// Open MPIC's API, whose answers may be issued on.
    OpenMpic,
}

impl Right {
    /// As in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corroborate => "corroborate",
            Self::Check => "check",
            Self::Explain => "explain",
            Self::ExplainAll => "explain-all",
            Self::OpenMpic => "open-mpic",
        }
    }
}

/// `[[serve.caller]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerSection {
    /// A name in its certificate.
    pub name: String,
    /// What it may ask for.
    pub may: Vec<Right>,
    /// Requests of it that may wait or be under way at once.
    #[serde(default = "thousand")]
    pub in_flight_max: usize,
}

fn thousand() -> usize {
    1000
}

/// One caller that is known.
#[derive(Debug)]
pub struct Known {
    /// Its name.
    pub name: String,
    may: Vec<Right>,
    /// Places for its requests.
    pub places: Arc<Semaphore>,
}

impl Known {
    /// Whether it may.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.may.contains(&right)
    }
}

/// All callers that are known.
#[derive(Debug, Default)]
pub struct Callers(HashMap<String, Arc<Known>>);

impl Callers {
    /// As in the settings, where names were checked to differ.
    #[must_use]
    pub fn new(sections: &[CallerSection]) -> Self {
        let known = |section: &CallerSection| {
            let name = section.name.to_ascii_lowercase();
            let places = Arc::new(Semaphore::new(section.in_flight_max.min(Semaphore::MAX_PERMITS)));
            (name.clone(), Arc::new(Known { name, may: section.may.clone(), places }))
        };
        Self(sections.iter().map(known).collect())
    }

    /// Who calls: of those that the names of its certificate mean, one that may, or any. None if none is known.
    #[must_use]
    pub fn known(&self, caller: &Caller, right: Option<Right>) -> Option<&Arc<Known>> {
        let mut known = caller.names.iter().filter_map(|name| self.0.get(name));
        let first = known.clone().next();
        known.find(|known| right.is_some_and(|right| known.may(right))).or(first)
    }
}
