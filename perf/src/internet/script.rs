//! One run as it is made: what is done, and what must come of it. A script is made of a [`Scenario`], whose outcome was
//! written down by hand, or of a set of sites that are to be fooled, whose outcome the function of [`super::verdict`] says.

use std::collections::BTreeSet;

use super::{
    attack::{Form, Hijack, Routing, Target},
    scenario::Scenario,
    settings::FanOut,
    topology::site_id,
    verdict::{self, Asks, Fooled},
    zones::{Actor, Domain, Method},
};
use crate::lab::world::Perspective;

/// One run.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// What happens, in one sentence.
    pub about: String,
    /// What is to be learned from it.
    pub lesson: String,
    /// What routing is to be.
    pub routing: Routing,
    /// What is attacked; what the picture is about.
    pub target: Target,
    /// The sites that must be fooled.
    pub fooled: Fooled,
    /// The requests that must be permitted; all others must be refused.
    pub permitted: BTreeSet<Asks>,
    /// The request whose explanation is shown.
    pub shown: Asks,
    /// Whether routing heals while requests of the attacker are under way.
    pub heals: bool,
    /// How the engine asks.
    pub fan_out: FanOut,
}

impl Script {
    /// Of what was written down.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            name: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            lesson: scenario.lesson.to_owned(),
            routing: scenario.routing(),
            target: scenario.target(),
            fooled: scenario.fooled(),
            permitted: Asks::all().into_iter().filter(|asks| scenario.permits(*asks)).collect(),
            shown: scenario.shown,
            heals: scenario.heals,
            fan_out: scenario.fan_out,
        }
    }

    /// All 64 sets of sites, each fooled by the web server's prefix announced near those sites.
    #[must_use]
    pub fn sweep() -> Vec<Self> {
        (0..1_u8 << Perspective::ALL.len()).map(Self::of_set).collect()
    }

    /// Bit n stands for [`Perspective`] n.
    fn of_set(bits: u8) -> Self {
        let web: Vec<_> = Perspective::ALL.into_iter().filter(|one| bits >> one.index() & 1 == 1).collect();
        let near: Vec<String> = web.iter().map(|one| site_id(*one).to_owned()).collect();
        let about = if near.is_empty() { "nobody".to_owned() } else { near.join(", ") };
        let hijack = Hijack { target: Target::Web, form: Form::Equal, near };
        let routing = Routing { hijack: Some(hijack).filter(|_| !web.is_empty()), filtering: BTreeSet::new() };
        let fooled = Fooled { web, dns: Vec::new() };
        Self {
            name: format!("sweep-{bits:02}"),
            about: format!("fooled: {about}"),
            lesson: String::new(),
            routing,
            target: Target::Web,
            permitted: Asks::all().into_iter().filter(|asks| verdict::permits(*asks, &fooled)).collect(),
            fooled,
            shown: Asks { actor: Actor::Attacker, method: Method::Http01, domain: Domain::Plain },
            heals: false,
            fan_out: FanOut::Parallel,
        }
    }

    /// Whether corroboration can stop all of it.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.permitted.iter().all(|asks| asks.actor == Actor::Owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internet::{routes::predicted, scenario};

    #[test]
    fn scripts_of_scenarios_say_what_those_say() {
        for scenario in scenario::ALL {
            let script = Script::of(scenario);
            assert_eq!(script.is_within(), scenario.is_within(), "{}", scenario.name);
            assert!(Asks::all().into_iter().all(|asks| script.permitted.contains(&asks) == scenario.permits(asks)));
        }
    }

    #[test]
    fn the_sweep_has_every_set_and_six_of_them_are_outside() {
        let all = Script::sweep();
        assert_eq!(all.len(), 64);
        for script in &all {
            assert_eq!(predicted(&script.routing), Some(script.fooled.clone()), "{}", script.name);
            let fooled = &script.fooled.web;
            let is_quorum = fooled.contains(&Perspective::PRIMARY) && fooled.len() >= 5;
            assert_eq!(script.is_within(), !is_quorum, "{}", script.about);
        }
        assert_eq!(all.iter().filter(|script| !script.is_within()).count(), 6);
    }
}
