//! What every system's route to a prefix ought to be, by the rules of Gao and Rexford: a route learned from a customer
//! goes to everybody, one learned from a peer or a provider to customers only; customers' routes are preferred to peers',
//! those to providers', and then the shorter path counts.
//!
//! The laboratory waits until the real routes are these. It says nothing about how long that takes.
//!
//! Invariant: the result depends on nothing but its arguments.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::topology::{self, ATTACKER, Link, Relation};

/// One announcement as its origin makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Who.
    pub by: u32,
    /// What.
    pub prefix: Ipv4Net,
    /// Whom it names behind itself: the owner, if the origin is forged.
    pub behind: Option<u32>,
    /// To which neighbors; all, if empty.
    pub to: BTreeSet<u32>,
}

/// Route origin authorizations: nothing longer than this is valid, and of the prefix only its owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The owner.
    pub origin: u32,
    /// Of this.
    pub prefix: Ipv4Net,
    /// No longer than so many bits.
    pub longest: u8,
}

/// RFC 6811 §2: whether an announcement is invalid. What no authorization covers is not.
#[must_use]
pub fn is_invalid(authorizations: &[Authorization], prefix: Ipv4Net, origin: u32) -> bool {
    let covering = || authorizations.iter().filter(|a| a.prefix.contains(&prefix));
    covering().next().is_some() && !covering().any(|a| a.origin == origin && prefix.prefix_len() <= a.longest)
}

/// The path of every system that has a route to exactly this prefix: its neighbor first, the origin last as it was
/// announced. The announcing system has the path it announces.
#[must_use]
pub fn routes(
    links: &[Link],
    announcements: &[Announcement],
    prefix: Ipv4Net,
    filtering: &BTreeSet<u32>,
    authorizations: &[Authorization],
) -> BTreeMap<u32, Vec<u32>> {
    let ours: Vec<_> = announcements.iter().filter(|announcement| announcement.prefix == prefix).collect();
    let own: BTreeMap<u32, Route> = ours
        .iter()
        .map(|told| (told.by, Route { rank: Rank::OWN, from: told.by, path: told.behind.into_iter().collect() }))
        .collect();
    let mut best = own.clone();
    // Each round everybody chooses afresh from what the neighbors held in the round before. With these preferences that
    // comes to rest, and no path is longer than there are systems.
    for _ in 0..=topology::systems().len() {
        let mut next = own.clone();
        for (link, sender, receiver) in links.iter().flat_map(|link| [(link, link.a, link.b), (link, link.b, link.a)]) {
            let withheld = |told: &&&Announcement| !told.to.is_empty() && !told.to.contains(&receiver);
            if ours.iter().find(|told| told.by == sender).filter(withheld).is_some() {
                continue;
            }
            let Some(offer) = best.get(&sender).and_then(|route| offered(link, route, sender, receiver)) else {
                continue;
            };
            let origin = offer.path.last().copied().unwrap_or(sender);
            let is_dropped = filtering.contains(&receiver) && is_invalid(authorizations, prefix, origin);
            if !is_dropped && next.get(&receiver).is_none_or(|held| offer.is_better_than(held)) {
                next.insert(receiver, offer);
            }
        }
        if next == best {
            break;
        }
        best = next;
    }
    best.into_iter().map(|(number, route)| (number, route.path)).collect()
}

/// Whether a packet of this system to an address within the prefixes ends at the attacker and not at the owner, both of
/// which have the address: the longest prefix with a route counts at each hop. `None` if it ends nowhere.
#[must_use]
pub fn leads_to_attacker(table: &[(Ipv4Net, BTreeMap<u32, Vec<u32>>)], owner: u32, from: u32) -> Option<bool> {
    let mut at = from;
    for _ in 0..=topology::systems().len() {
        if at == ATTACKER || at == owner {
            return Some(at == ATTACKER);
        }
        let path = table.iter().filter_map(|(prefix, routes)| Some((prefix.prefix_len(), routes.get(&at)?)));
        at = *path.max_by_key(|(length, _)| *length)?.1.first()?;
    }
    None
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u8);

impl Rank {
    const OWN: Self = Self(3);

    fn of(relation: Relation) -> Self {
        Self(match relation {
            Relation::Customer => 2,
            Relation::Peer => 1,
            Relation::Provider => 0,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    rank: Rank,
    from: u32,
    path: Vec<u32>,
}

impl Route {
    /// Ties go to the neighbor with the lower number, as the routers' identifiers are chosen.
    fn is_better_than(&self, other: &Self) -> bool {
        let order = |route: &Self| (route.rank, std::cmp::Reverse((route.path.len(), route.from)));
        order(self) > order(other)
    }
}

/// The sender's route as the receiver would hold it, if the sender may tell it and the receiver is not on it.
fn offered(link: &Link, route: &Route, sender: u32, receiver: u32) -> Option<Route> {
    let may = route.rank >= Rank::of(Relation::Customer) || link.neighbor_is(sender) == Relation::Customer;
    if !may || route.path.contains(&receiver) {
        return None;
    }
    let path = [&[sender], route.path.as_slice()].concat();
    Some(Route { rank: Rank::of(link.neighbor_is(receiver)), from: sender, path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        internet::topology::{FAR, WEB, links, regional, site, system},
        lab::world::Perspective,
    };

    fn plain(by: u32) -> Announcement {
        let prefix = system(by).unwrap().prefix();
        Announcement { by, prefix, behind: None, to: BTreeSet::new() }
    }

    fn web_prefix() -> Ipv4Net {
        system(WEB).unwrap().prefix()
    }

    fn attack(prefix: Ipv4Net, behind: Option<u32>, to: &[u32]) -> Announcement {
        Announcement { by: ATTACKER, prefix, behind, to: to.iter().copied().collect() }
    }

    #[test]
    fn in_peace_everybody_has_a_route_to_everybody() {
        for origin in topology::systems() {
            let routes = routes(&links(), &[plain(origin.number)], origin.prefix(), &BTreeSet::new(), &[]);
            assert_eq!(routes.len(), topology::systems().len(), "{origin:?}");
        }
    }

    #[test]
    fn no_route_goes_down_and_up_again() {
        let relation = |of: u32, to: u32| {
            links().into_iter().find(|l| l.touches(of) && l.touches(to)).map(|l| l.neighbor_is(of)).unwrap()
        };
        for origin in topology::systems() {
            let routes = routes(&links(), &[plain(origin.number)], origin.prefix(), &BTreeSet::new(), &[]);
            for (number, path) in routes {
                let hops: Vec<u32> = std::iter::once(number).chain(path).collect();
                let steps: Vec<Relation> = hops.windows(2).map(|pair| relation(pair[0], pair[1])).collect();
                // Up, then at most once across, then down.
                let is_valley_free = steps.is_sorted_by(|a, b| a > b || (a == b && *a != Relation::Peer));
                assert!(is_valley_free, "{hops:?} {steps:?}");
            }
        }
    }

    #[test]
    fn the_same_prefix_near_a_site_reaches_that_site_alone() {
        for near in Perspective::ALL {
            let told = [plain(WEB), attack(web_prefix(), None, &[regional(near)])];
            let table = [(web_prefix(), routes(&links(), &told, web_prefix(), &BTreeSet::new(), &[]))];
            for perspective in Perspective::ALL {
                assert_eq!(leads_to_attacker(&table, WEB, site(perspective)), Some(perspective == near));
            }
        }
    }

    #[test]
    fn a_more_specific_prefix_from_afar_reaches_everybody() {
        let half: Ipv4Net = "198.18.31.0/25".parse().unwrap();
        let told = [plain(WEB), attack(half, None, &[FAR])];
        let table = [web_prefix(), half].map(|p| (p, routes(&links(), &told, p, &BTreeSet::new(), &[])));
        for perspective in Perspective::ALL {
            assert_eq!(leads_to_attacker(&table, WEB, site(perspective)), Some(true));
        }
    }

    #[test]
    fn who_filters_invalid_routes_is_not_led_astray_by_them() {
        let roas = [Authorization { origin: WEB, prefix: web_prefix(), longest: 24 }];
        let near = Perspective::ALL[1];
        let filtering = BTreeSet::from([regional(near)]);
        for (behind, fooled) in [(None, false), (Some(WEB), true)] {
            let told = [plain(WEB), attack(web_prefix(), behind, &[regional(near)])];
            let table = [(web_prefix(), routes(&links(), &told, web_prefix(), &filtering, &roas))];
            assert_eq!(leads_to_attacker(&table, WEB, site(near)), Some(fooled), "behind {behind:?}");
        }
    }

    #[test]
    fn rfc_6811_s2_validity() {
        let roas = [Authorization { origin: WEB, prefix: web_prefix(), longest: 24 }];
        let half: Ipv4Net = "198.18.31.128/25".parse().unwrap();
        assert!(!is_invalid(&roas, web_prefix(), WEB));
        assert!(is_invalid(&roas, web_prefix(), ATTACKER));
        assert!(is_invalid(&roas, half, WEB), "longer than the authorization has it");
        assert!(!is_invalid(&roas, "198.18.99.0/24".parse().unwrap(), ATTACKER), "not covered");
    }
}
