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
    /// It surveyed another zone than most: its survey is told of and not compared.
    pub(super) strays: bool,
}

impl View<'_> {
    /// What its own lookups mean for CAA.
    pub(super) fn caa(&self) -> Option<&CaaFinding> {
        self.determination.as_ref()?.caa.as_ref()
    }

    /// Its survey, if that can be compared with the others.
    pub(super) fn survey(&self) -> Option<&Survey> {
        self.surveyed().filter(|_| !self.strays)
    }

    fn surveyed(&self) -> Option<&Survey> {
        self.observation?.survey.as_deref()
    }

    /// Whether it asked all name servers and none answered. One that is [shut](Self::is_shut) shows nothing of them.
    pub(super) fn is_dark(&self) -> bool {
        self.hears_nothing() && !self.is_shut()
    }

    /// Whether no server of the zone above answers it either: its own way to port 53 is closed but for its resolver.
    pub(super) fn is_shut(&self) -> bool {
        let parent = self.survey().and_then(|survey| survey.parent.as_ref());
        self.hears_nothing() && parent.is_some_and(|parent| !parent.asked.is_empty() && !parent.has_answered())
    }

    fn hears_nothing(&self) -> bool {
        // Of servers that were not asked, or not for long enough, nothing is known.
        let Some(survey) = self.survey().filter(|survey| survey.omitted == 0 && !survey.cut_off) else { return false };
        let mut reached = survey.asked().filter_map(|(_, at)| at.is_reached());
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
    /// None of those that count and got a word from there saw it otherwise.
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
    pub(super) fn new(request: &CheckRequest, mut views: Vec<View<'a>>) -> Self {
        let name = request.identifier.domain().map(ToString::to_string).unwrap_or_default();
        let mut surveys = views.iter().filter_map(View::surveyed);
        let challenge = surveys.next().map(|survey| survey.challenge.clone()).unwrap_or_default();
        let zone = most_surveyed(&views);
        for view in &mut views {
            view.strays = view.surveyed().is_some_and(|survey| survey.zone != zone);
        }
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

    /// The places of perspectives of which something is so.
    pub(super) fn places_where(&self, is: impl Fn(&View<'a>) -> bool) -> Vec<usize> {
        self.views.iter().enumerate().filter(|(_, view)| is(view)).map(|(place, _)| place).collect()
    }

    /// Whether the perspective at a place counts.
    pub(super) fn counts(&self, place: usize) -> bool {
        self.views.get(place).is_some_and(|view| view.counts)
    }

    /// Puts addresses together by what they show; `shows` is none for a look that shows nothing. Those on trial are named
    /// and make no difference, unless nobody else saw it.
    pub(super) fn grouped<K: Ord + Clone>(&self, shows: impl Fn(&Look<'_>) -> Option<K>) -> Vec<Group<K>> {
        let mut groups: BTreeMap<(K, Vec<usize>, bool), Group<K>> = BTreeMap::new();
        for Place { at, looks } in self.places() {
            let mut by_key: BTreeMap<K, Vec<usize>> = BTreeMap::new();
            for look in &looks {
                if let Some(key) = shows(look) {
                    by_key.entry(key).or_default().push(look.by);
                }
            }
            for (key, by) in by_key {
                let (counting, trials): (Vec<usize>, Vec<usize>) = by.into_iter().partition(|by| self.counts(*by));
                let agrees = |look: &Look<'_>| {
                    !self.counts(look.by) || counting.contains(&look.by) || look.seen.is_reached() != Some(true)
                };
                let everywhere = !counting.is_empty() && looks.iter().all(agrees);
                let decides = if counting.is_empty() { trials.clone() } else { counting };
                let group = groups.entry((key.clone(), decides.clone(), everywhere)).or_insert_with(|| Group {
                    shows: key,
                    servers: Vec::new(),
                    by: decides,
                    everywhere,
                });
                group.servers.push(at.clone());
                group.by.extend(trials);
            }
        }
        let mut groups: Vec<Group<K>> = groups.into_values().collect();
        for group in &mut groups {
            group.by.sort_unstable();
            group.by.dedup();
        }
        groups
    }

    /// Addresses that somebody who counts got a word from.
    pub(super) fn answering(&self) -> usize {
        let answers = |look: &Look<'_>| self.counts(look.by) && look.seen.is_reached() == Some(true);
        self.places().iter().filter(|place| place.looks.iter().any(answers)).count()
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

    /// A finding about perspectives or about the name. What only those on trial see is worth knowing, and no more.
    pub(super) fn finding(&self, code: Code, what: (Severity, Blame), by: &[usize], text: String) -> Finding {
        let perspectives = by.iter().filter_map(|place| Some(self.views.get(*place)?.perspective.id.clone())).collect();
        let of_trials = !by.is_empty() && !by.iter().any(|place| self.counts(*place));
        let severity = if of_trials { Severity::Note } else { what.0 };
        Finding { severity, code, blame: what.1, servers: Vec::new(), perspectives, text }
    }

    /// A finding about the servers of a group.
    pub(super) fn about<K>(&self, code: Code, what: (Severity, Blame), group: &Group<K>, text: String) -> Finding {
        Finding { servers: group.servers.clone(), ..self.finding(code, what, &group.by, text) }
    }
}

/// The zone that most of those surveyed that count; of several the one that came first.
fn most_surveyed(views: &[View<'_>]) -> Option<String> {
    let zones = |counts: bool| {
        let zone = move |view: &&View<'_>| view.counts == counts;
        views.iter().filter(zone).filter_map(|view| view.surveyed()?.zone.as_deref())
    };
    let most = |counts: bool| {
        let votes = |zone: &&str| zones(counts).filter(|other| other == zone).count();
        // Of several with as many votes the last is taken.
        zones(counts).collect::<Vec<_>>().into_iter().rev().max_by_key(votes).map(str::to_owned)
    };
    most(true).or_else(|| most(false))
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
