//! Who saw what, and putting servers together that show the same to the same perspectives.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Code, Finding, ServerAt, Severity};
use crate::{
    base::perspective::Perspective,
    check::{Determination, caa::CaaFinding},
    explain::{Blame, text::list},
    observation::{Observation, Survey, SurveyedAddress},
    request::CheckRequest,
};

/// Servers that one sentence names; of more the number is said.
const NAMED_MAX: usize = 6;

/// One perspective, and what it saw.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// Who.
    pub(super) perspective: &'a Perspective,
    /// What it saw; none if it told nothing.
    pub(super) observation: Option<&'a Observation>,
    /// What its own lookups mean.
    pub(super) determination: Option<Determination>,
    /// Whether it counts: one on trial does not.
    pub(super) counts: bool,
}

impl View<'_> {
    /// What its own lookups mean for CAA.
    pub(super) fn caa(&self) -> Option<&CaaFinding> {
        self.determination.as_ref()?.caa.as_ref()
    }

    /// Its survey.
    pub(super) fn survey(&self) -> Option<&Survey> {
        self.observation?.survey.as_deref()
    }

    /// Whether it asked name servers and none answered.
    pub(super) fn is_dark(&self) -> bool {
        let mut reached = self.survey().into_iter().flat_map(Survey::asked).filter_map(|(_, at)| at.is_reached());
        let first = reached.next();
        first == Some(false) && !reached.any(|reached| reached)
    }
}

/// One look at an address by one perspective.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    /// The place of the perspective.
    pub(super) by: usize,
    pub(super) survey: &'a Survey,
    pub(super) seen: &'a SurveyedAddress,
}

/// An address of a server, and everybody's look at it.
pub(super) struct Place<'a> {
    pub(super) at: ServerAt,
    pub(super) looks: Vec<Look<'a>>,
}

/// Addresses that show the same to the same perspectives.
pub(super) struct Group<K> {
    pub(super) shows: K,
    pub(super) servers: Vec<ServerAt>,
    /// Places of perspectives.
    pub(super) by: Vec<usize>,
    /// Nobody who got a word from there saw it otherwise.
    pub(super) everywhere: bool,
}

/// Everything there is to judge.
pub(super) struct Case<'a> {
    pub(super) views: Vec<View<'a>>,
    pub(super) name: String,
    pub(super) challenge: String,
    pub(super) zone: Option<String>,
}

impl<'a> Case<'a> {
    pub(super) fn new(request: &CheckRequest, views: Vec<View<'a>>) -> Self {
        let surveys = || views.iter().filter_map(View::survey);
        let name = request.identifier.domain().map(ToString::to_string).unwrap_or_default();
        let challenge = surveys().next().map(|survey| survey.challenge.clone()).unwrap_or_default();
        let zone = surveys().find_map(|survey| survey.zone.clone());
        Self { name, challenge, zone, views }
    }

    /// The zone, for a sentence about its servers.
    pub(super) fn zone(&self) -> &str {
        self.zone.as_deref().unwrap_or(&self.name)
    }

    /// Surveys with the places of their perspectives.
    pub(super) fn surveys(&self) -> impl Iterator<Item = (usize, &Survey)> {
        self.views.iter().enumerate().filter_map(|(place, view)| Some((place, view.survey()?)))
    }

    /// Every address that somebody asked.
    pub(super) fn places(&self) -> Vec<Place<'_>> {
        let mut places: BTreeMap<IpAddr, Place<'_>> = BTreeMap::new();
        for (by, survey) in self.surveys() {
            for (server, seen) in survey.asked() {
                let at = ServerAt { server: server.name.clone(), address: Some(seen.address) };
                let place = places.entry(seen.address).or_insert_with(|| Place { at, looks: Vec::new() });
                place.looks.push(Look { by, survey, seen });
            }
        }
        let mut places: Vec<Place<'_>> = places.into_values().collect();
        places.sort_by(|a, b| a.at.cmp(&b.at));
        places
    }

    /// Puts addresses together by what they show; `shows` is none for a look that shows nothing.
    pub(super) fn grouped<K: Ord + Clone>(&self, shows: impl Fn(&Look<'_>) -> Option<K>) -> Vec<Group<K>> {
        let mut groups: BTreeMap<(K, Vec<usize>, bool), Vec<ServerAt>> = BTreeMap::new();
        for Place { at, looks } in self.places() {
            let mut by_key: BTreeMap<K, Vec<usize>> = BTreeMap::new();
            for look in &looks {
                if let Some(key) = shows(look) {
                    by_key.entry(key).or_default().push(look.by);
                }
            }
            for (key, by) in by_key {
                let everywhere = looks.iter().all(|look| by.contains(&look.by) || look.seen.is_reached() != Some(true));
                groups.entry((key, by, everywhere)).or_default().push(at.clone());
            }
        }
        groups.into_iter().map(|((shows, by, everywhere), servers)| Group { shows, servers, by, everywhere }).collect()
    }

    /// Addresses that somebody got a word from.
    pub(super) fn answering(&self) -> usize {
        self.places().iter().filter(|place| place.looks.iter().any(|look| look.seen.is_reached() == Some(true))).count()
    }

    /// `sin1 (APNIC) and gru1 (LACNIC)`.
    pub(super) fn perspectives(&self, by: &[usize]) -> String {
        let of = |place: &usize| {
            let perspective = self.views.get(*place)?.perspective;
            Some(format!("{} ({})", perspective.id, perspective.rir))
        };
        list(&by.iter().filter_map(of).collect::<Vec<_>>())
    }

    /// `APNIC and LACNIC`, each once.
    pub(super) fn regions(&self, by: &[usize]) -> String {
        let mut regions: Vec<String> = Vec::new();
        for perspective in by.iter().filter_map(|place| Some(self.views.get(*place)?.perspective)) {
            let region = perspective.rir.to_string();
            if !regions.contains(&region) {
                regions.push(region);
            }
        }
        list(&regions)
    }

    /// `, as seen from …`, unless everybody saw it so.
    pub(super) fn seen_from<K>(&self, group: &Group<K>) -> String {
        if group.everywhere { String::new() } else { format!(", as seen from {}", self.perspectives(&group.by)) }
    }

    /// A finding about perspectives or about the name.
    pub(super) fn finding(&self, code: Code, what: (Severity, Blame), by: &[usize], text: String) -> Finding {
        let perspectives = by.iter().filter_map(|place| Some(self.views.get(*place)?.perspective.id.clone())).collect();
        Finding { severity: what.0, code, blame: what.1, servers: Vec::new(), perspectives, text }
    }

    /// A finding about the servers of a group.
    pub(super) fn about<K>(&self, code: Code, what: (Severity, Blame), group: &Group<K>, text: String) -> Finding {
        Finding { servers: group.servers.clone(), ..self.finding(code, what, &group.by, text) }
    }
}

impl<K> Group<K> {
    /// `ns1.customer.example (198.51.100.1) and …`.
    pub(super) fn names(&self) -> String {
        names(&self.servers)
    }

    /// `singular` if one server does it.
    pub(super) fn verb(&self, singular: &'static str, plural: &'static str) -> &'static str {
        if self.servers.len() == 1 { singular } else { plural }
    }

    /// What it amounts to if every server that answers does it to everybody, or if not.
    pub(super) fn severity(&self, case: &Case<'_>, if_all: Severity, else_: Severity) -> Severity {
        if self.everywhere && self.servers.len() >= case.answering() { if_all } else { else_ }
    }
}

/// `ns1.customer.example (198.51.100.1), … and 3 more`.
pub(super) fn names(servers: &[ServerAt]) -> String {
    let label = |at: &ServerAt| match at.address {
        Some(address) => format!("{} ({address})", at.server),
        None => at.server.clone(),
    };
    let mut texts: Vec<String> = servers.iter().take(NAMED_MAX).map(label).collect();
    if servers.len() > NAMED_MAX {
        texts.push(format!("{} more", servers.len() - NAMED_MAX));
    }
    list(&texts)
}
