//! The runs: what is attacked, and what must come of it, written down by hand.
//!
//! [`super::verdict`] computes the same from which sites are fooled, [`super::attack`] computes these from the topology,
//! and the tests here hold the three against each other. A run then holds real routes and real verdicts against them.

use std::collections::BTreeSet;

use super::{
    attack::{Form, Hijack, Routing, Target},
    settings::FanOut,
    topology::{self, perspective, regional},
    verdict::{Asks, Fooled},
    zones::{Actor, Domain, Method},
};
use crate::lab::world::Perspective;

/// A request without who asks.
type What = (Method, Domain);

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens, in one sentence.
    pub about: &'static str,
    /// The attack.
    attack: Option<(Target, Form, &'static [&'static str])>,
    /// Who drops invalid routes.
    filtering: Filtering,
    /// Sites that are led to the attacker for the web server.
    web: &'static [&'static str],
    /// For the name servers.
    dns: &'static [&'static str],
    /// What the attacker is issued wrongly: what corroboration cannot stop.
    issued: &'static [What],
    /// What the owner is refused.
    refused: &'static [What],
    /// What is to be learned from it.
    pub lesson: &'static str,
    /// The request whose explanation is shown.
    pub shown: Asks,
    /// Whether routing heals while requests of the attacker are under way.
    pub heals: bool,
    /// How the engine asks.
    pub fan_out: FanOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filtering {
    Nobody,
    /// The transits of these sites.
    TransitsOf(&'static [&'static str]),
    /// Every tier 1 and transit but those of these sites.
    AllBut(&'static [&'static str]),
}

use Domain::{Bound, Plain, Signed, SignedBound};
use Filtering::{AllBut, Nobody, TransitsOf};
use Form::{Equal, ForgedOrigin, SubPrefix};
use Method::{Dns01, Http01, TlsAlpn01};
use Target::{NameServers, Web};

const EVERY_SITE: &[&str] = &topology::SITES;
const BY_WEB_SERVER: &[What] = &[
    (Http01, Plain),
    (Http01, Bound),
    (Http01, Signed),
    (Http01, SignedBound),
    (TlsAlpn01, Plain),
    (TlsAlpn01, Bound),
    (TlsAlpn01, Signed),
    (TlsAlpn01, SignedBound),
];
const EVERYTHING: &[What] = &[
    (Http01, Plain),
    (Http01, Bound),
    (Http01, Signed),
    (Http01, SignedBound),
    (Dns01, Plain),
    (Dns01, Bound),
    (Dns01, Signed),
    (Dns01, SignedBound),
    (TlsAlpn01, Plain),
    (TlsAlpn01, Bound),
    (TlsAlpn01, Signed),
    (TlsAlpn01, SignedBound),
];
/// A stolen web server passes for the owner's, unless CAA, which is the owner's, names the account.
const UNBOUND_BY_WEB_SERVER: &[What] = &[(Http01, Plain), (Http01, Signed), (TlsAlpn01, Plain), (TlsAlpn01, Signed)];
/// Stolen name servers pass for the owner's, unless the zone is signed.
const UNSIGNED: &[What] =
    &[(Http01, Plain), (Http01, Bound), (Dns01, Plain), (Dns01, Bound), (TlsAlpn01, Plain), (TlsAlpn01, Bound)];

const BASE: Scenario = Scenario {
    name: "peace",
    about: "nobody attacks",
    attack: None,
    filtering: Nobody,
    web: &[],
    dns: &[],
    issued: &[],
    refused: &[],
    lesson: "The owner is permitted by all methods for all domains; the attacker, who controls nothing, for none.",
    shown: Asks { actor: Actor::Attacker, method: Http01, domain: Plain },
    heals: false,
    fan_out: FanOut::Parallel,
};

/// The same of an engine with the default way of asking.
const FIRST: Scenario = Scenario { fan_out: FanOut::PrimaryFirst, ..BASE };

const fn shows(actor: Actor, method: Method, domain: Domain) -> Asks {
    Asks { actor, method, domain }
}

/// All runs, in the order they are made. Runs with the same attack follow each other, since routes then need not settle anew.
pub const ALL: &[Scenario] = &[
    BASE,
    Scenario {
        name: "first-peace",
        about: "nobody attacks, and the engine asks the primary first",
        lesson: "The primary refuses the attacker, and no remote is asked.",
        ..FIRST
    },
    Scenario {
        name: "equal-afar",
        about: "the web server's prefix is announced far from all sites",
        attack: Some((Web, Equal, &[])),
        lesson: "No site is fooled: everybody's way to the owner is shorter.",
        ..BASE
    },
    Scenario {
        name: "equal-one",
        about: "the web server's prefix is announced near one remote",
        attack: Some((Web, Equal, &["iad1"])),
        web: &["iad1"],
        lesson: "One of five remotes may be fooled: the owner is still permitted, with 4/5.",
        shown: shows(Actor::Owner, Http01, Plain),
        ..BASE
    },
    Scenario {
        name: "first-one",
        about: "the web server's prefix is announced near one remote, and the engine asks the primary first",
        attack: Some((Web, Equal, &["iad1"])),
        web: &["iad1"],
        lesson: "A permission awaits no more remotes than it needs. If the fooled one answers before it, the process \
                 starts afresh once; if after it, `watch` tells a critical alarm. The owner is permitted either way.",
        shown: shows(Actor::Owner, Http01, Plain),
        ..FIRST
    },
    Scenario {
        name: "equal-two",
        about: "the web server's prefix is announced near two remotes",
        attack: Some((Web, Equal, &["iad1", "syd1"])),
        web: &["iad1", "syd1"],
        refused: BY_WEB_SERVER,
        lesson: "Two fooled remotes deny the owner a certificate and give the attacker none.",
        shown: shows(Actor::Owner, Http01, Plain),
        ..BASE
    },
    Scenario {
        name: "first-two",
        about: "the web server's prefix is announced near two remotes, and the engine asks the primary first",
        attack: Some((Web, Equal, &["iad1", "syd1"])),
        web: &["iad1", "syd1"],
        refused: BY_WEB_SERVER,
        lesson: "As when all are asked at once: no order of answers gives the owner 4 of 5, or the attacker anything.",
        shown: shows(Actor::Owner, TlsAlpn01, Plain),
        ..FIRST
    },
    Scenario {
        name: "equal-three",
        about: "the web server's prefix is announced near three remotes",
        attack: Some((Web, Equal, &["iad1", "syd1", "gru1"])),
        web: &["iad1", "syd1", "gru1"],
        refused: BY_WEB_SERVER,
        lesson: "As with two: as long as the primary sees the owner, the attacker gets nothing.",
        ..BASE
    },
    Scenario {
        name: "first-three",
        about: "the web server's prefix is announced near three remotes, and the engine asks the primary first",
        attack: Some((Web, Equal, &["iad1", "syd1", "gru1"])),
        web: &["iad1", "syd1", "gru1"],
        refused: BY_WEB_SERVER,
        lesson: "The primary refuses the attacker, and the fooled remotes are never asked.",
        shown: shows(Actor::Attacker, TlsAlpn01, Plain),
        ..FIRST
    },
    Scenario {
        name: "primary",
        about: "the web server's prefix is announced near the primary alone",
        attack: Some((Web, Equal, &["ams1"])),
        web: &["ams1"],
        refused: BY_WEB_SERVER,
        lesson: "The primary confirms for the attacker and every remote contradicts: nothing is released, the process \
                 starts afresh, and is refused again. Without remotes this would have been a certificate.",
        ..BASE
    },
    Scenario {
        name: "first-primary",
        about: "the web server's prefix is announced near the primary alone, and the engine asks it first",
        attack: Some((Web, Equal, &["ams1"])),
        web: &["ams1"],
        refused: BY_WEB_SERVER,
        lesson: "For the owner the primary refuses, no remote is asked and nothing shows that there is an attack. For the \
                 attacker it confirms, the remotes are asked, and all contradict: the process starts afresh, and is \
                 refused again.",
        shown: shows(Actor::Attacker, TlsAlpn01, Plain),
        ..FIRST
    },
    Scenario {
        name: "primary-one",
        about: "the web server's prefix is announced near the primary and one remote",
        attack: Some((Web, Equal, &["ams1", "iad1"])),
        web: &["ams1", "iad1"],
        refused: BY_WEB_SERVER,
        lesson: "1 of 5 remotes agrees with a fooled primary; 4 would have to.",
        ..BASE
    },
    Scenario {
        name: "primary-three",
        about: "the web server's prefix is announced near the primary and three remotes",
        attack: Some((Web, Equal, &["ams1", "iad1", "syd1", "gru1"])),
        web: &["ams1", "iad1", "syd1", "gru1"],
        refused: BY_WEB_SERVER,
        lesson: "The most that may be fooled: 3 of 5 remotes are one too few for the attacker.",
        ..BASE
    },
    Scenario {
        name: "primary-four",
        about: "the web server's prefix is announced near the primary and four remotes of four RIR regions",
        attack: Some((Web, Equal, &["ams1", "iad1", "waw1", "syd1", "gru1"])),
        web: &["ams1", "iad1", "waw1", "syd1", "gru1"],
        issued: UNBOUND_BY_WEB_SERVER,
        refused: BY_WEB_SERVER,
        lesson: "Outside what corroboration can stop: a quorum is fooled. CAA with accounturi still is the owner's, and \
                 refuses the attacker's account.",
        ..BASE
    },
    Scenario {
        name: "dns-one",
        about: "the name servers' prefix is announced near one remote",
        attack: Some((NameServers, Equal, &["iad1"])),
        dns: &["iad1"],
        lesson: "One remote with forged DNS, or with answers it cannot believe, does not keep the owner from a \
                 certificate.",
        shown: shows(Actor::Owner, Dns01, Signed),
        ..BASE
    },
    Scenario {
        name: "dns-primary",
        about: "the name servers' prefix is announced near the primary alone",
        attack: Some((NameServers, Equal, &["ams1"])),
        dns: &["ams1"],
        refused: EVERYTHING,
        lesson: "The primary sees forged records, or bogus ones where the zone is signed; the remotes see the owner's.",
        shown: shows(Actor::Attacker, Dns01, Signed),
        ..BASE
    },
    Scenario {
        name: "web-subprefix",
        about: "both halves of the web server's prefix are announced, far away",
        attack: Some((Web, SubPrefix, &[])),
        web: EVERY_SITE,
        issued: UNBOUND_BY_WEB_SERVER,
        refused: BY_WEB_SERVER,
        lesson: "Outside what corroboration can stop: everybody is led astray alike. CAA with accounturi refuses the \
                 attacker; DNSSEC alone does not, since only the web server is stolen.",
        ..BASE
    },
    Scenario {
        name: "dns-subprefix",
        about: "both halves of the name servers' prefix are announced, far away",
        attack: Some((NameServers, SubPrefix, &[])),
        dns: EVERY_SITE,
        issued: UNSIGNED,
        refused: EVERYTHING,
        lesson: "Outside what corroboration can stop for unsigned zones, whose CAA is forged with the rest. DNSSEC makes \
                 it a denial of service: bogus everywhere, nobody is issued anything.",
        shown: shows(Actor::Attacker, Dns01, SignedBound),
        ..BASE
    },
    Scenario {
        name: "rpki-one-filters",
        about: "the web server's prefix is announced near two remotes, and the transit of one drops invalid routes",
        attack: Some((Web, Equal, &["iad1", "syd1"])),
        filtering: TransitsOf(&["iad1"]),
        web: &["syd1"],
        lesson: "Route origin validation at one transit leaves one fooled remote of two: the owner is permitted again.",
        shown: shows(Actor::Owner, Http01, Plain),
        ..BASE
    },
    Scenario {
        name: "rpki-forged-origin",
        about: "the same with the owner's number behind the attacker's",
        attack: Some((Web, ForgedOrigin, &["iad1", "syd1"])),
        filtering: TransitsOf(&["iad1"]),
        web: &["iad1", "syd1"],
        refused: BY_WEB_SERVER,
        lesson: "Origin validation looks at the origin alone, and that is right: both remotes are fooled.",
        shown: shows(Actor::Owner, Http01, Plain),
        ..BASE
    },
    Scenario {
        name: "rpki-subprefix",
        about: "both halves of the web server's prefix are announced near one remote, and all but its transit drop \
                invalid routes",
        attack: Some((Web, SubPrefix, &["iad1"])),
        filtering: AllBut(&["iad1"]),
        web: &["iad1"],
        lesson: "Where nearly all filter, the strongest hijack shrinks to one remote, which corroboration stops.",
        ..BASE
    },
    Scenario {
        name: "healed-midway",
        about: "the web server's prefix is announced near the primary, and withdrawn while the attacker's requests are \
                under way",
        attack: Some((Web, Equal, &["ams1"])),
        lesson: "Nothing that was seen during the attack counts after it: no request of the attacker is permitted, and \
                 the owner is once the routes are healed.",
        web: &["ams1"],
        heals: true,
        ..BASE
    },
    Scenario {
        name: "first-healed",
        about: "as healed-midway, and the engine asks the primary first",
        attack: Some((Web, Equal, &["ams1"])),
        lesson: "Between the primary's answer and the remotes' there may be the healing; no request of the attacker is \
                 permitted.",
        web: &["ams1"],
        heals: true,
        ..FIRST
    },
];

/// The run of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// What routing is to be.
    #[must_use]
    pub fn routing(&self) -> Routing {
        let hijack = self.attack.map(|(target, form, near)| Hijack {
            target,
            form,
            near: near.iter().map(|id| (*id).to_owned()).collect(),
        });
        let transits = |ids: &[&str]| ids.iter().filter_map(|id| perspective(id)).map(regional).collect();
        let filtering: BTreeSet<u32> = match self.filtering {
            Nobody => BTreeSet::new(),
            TransitsOf(ids) => transits(ids),
            AllBut(ids) => {
                let but: BTreeSet<u32> = transits(ids);
                let carriers = topology::systems()
                    .into_iter()
                    .filter(|system| matches!(system.role, topology::Role::Tier1 | topology::Role::Transit));
                carriers.map(|system| system.number).filter(|number| !but.contains(number)).collect()
            }
        };
        Routing { hijack, filtering }
    }

    /// Which of the two prefixes the picture is about.
    #[must_use]
    pub fn target(&self) -> Target {
        self.attack.map_or(Web, |(target, ..)| target)
    }

    /// The sites that must be fooled, as written down.
    #[must_use]
    pub fn fooled(&self) -> Fooled {
        let of = |ids: &[&str]| -> Vec<Perspective> { ids.iter().filter_map(|id| perspective(id)).collect() };
        Fooled { web: of(self.web), dns: of(self.dns) }
    }

    /// Whether a request must be permitted, as written down.
    #[must_use]
    pub fn permits(&self, asks: Asks) -> bool {
        let what = (asks.method, asks.domain);
        match asks.actor {
            Actor::Owner => !self.refused.contains(&what),
            Actor::Attacker => self.issued.contains(&what),
        }
    }

    /// Whether corroboration can stop all of it.
    #[must_use]
    pub fn is_within(&self) -> bool {
        self.issued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::internet::{routes::predicted, verdict};

    #[test]
    fn who_is_fooled_is_what_the_rules_of_routing_say() {
        for scenario in ALL {
            assert_eq!(predicted(&scenario.routing()), Some(scenario.fooled()), "{}", scenario.name);
        }
    }

    #[test]
    fn who_is_permitted_is_what_the_function_says() {
        for scenario in ALL {
            // What a healed run's requests end with is that of peace.
            let fooled = if scenario.heals { Fooled::default() } else { scenario.fooled() };
            for asks in Asks::all() {
                let (stated, computed) = (scenario.permits(asks), verdict::permits(asks, &fooled));
                assert_eq!(stated, computed, "{} {asks:?}", scenario.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_there_are_attacks_of_both_kinds() {
        let names: HashSet<_> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().any(Scenario::is_within) && !ALL.iter().all(Scenario::is_within));
        assert!(named("primary").is_some() && named("nothing").is_none());
    }

    #[test]
    fn the_most_that_may_be_fooled_without_a_wrong_certificate_is_the_primary_and_three() {
        let mut most = 0;
        for set in 0_u8..64 {
            let web: Vec<_> = Perspective::ALL.into_iter().filter(|p| set >> p.index() & 1 == 1).collect();
            let count = web.len();
            let asks = shows(Actor::Attacker, Http01, Plain);
            if web.contains(&Perspective::PRIMARY) && !verdict::permits(asks, &Fooled { web, dns: Vec::new() }) {
                most = most.max(count);
            }
        }
        assert_eq!(most, 4);
    }
}
