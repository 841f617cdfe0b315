//! The small Internet as data: which autonomous systems there are, who pays whom, and which addresses they have.
//!
//! Everything else is derived from this: namespaces and wires, routers' settings, zones, what the picture shows, and what
//! the routes ought to be. IPv4 only.
//!
//! Left out: how large real networks are inside. An autonomous system here is one router, and what it serves runs on it.
//!
//! Invariant: customers and providers have no cycles, and every autonomous system has a way up to every tier 1.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::lab::world::Perspective;

/// What an autonomous system is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has no provider; peers with the other one.
    Tier1,
    /// Sells to a perspective's site, or to whoever pays.
    Transit,
    /// Where a perspective looks from.
    Site(Perspective),
    /// The web server under attack.
    Web,
    /// The name servers of the domains under attack.
    Dns,
    /// Root and top-level domain.
    Registry,
    /// The certification authority: engine and callers.
    Authority,
    /// Who wants certificates for names that are not its own.
    Attacker,
}

/// One autonomous system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System {
    /// Its number.
    pub number: u32,
    /// What people call it.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// The third octet of its /24 out of 198.18.0.0/16.
    octet: u8,
}

/// Who pays whom on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// `a` is a customer of `b`.
    Customer,
    /// Neither pays.
    Peer,
}

/// One wire between two systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, which its addresses follow from.
    pub number: u8,
    /// The customer, or one of two peers.
    pub a: u32,
    /// The provider, or the other peer.
    pub b: u32,
    /// Who pays.
    pub terms: Terms,
}

/// A neighbor as one end of a link sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// It pays us.
    Customer,
    /// Nobody pays.
    Peer,
    /// We pay it.
    Provider,
}

/// The attacker.
pub const ATTACKER: u32 = 64_666;
/// The victim's web server.
pub const WEB: u32 = 64_531;
/// The victim's name servers.
pub const DNS: u32 = 64_532;
/// Root and top-level domain.
pub const REGISTRY: u32 = 64_533;
/// Engine and callers.
pub const AUTHORITY: u32 = 64_540;
/// The transit that sells to the attacker and to no perspective's site.
pub const FAR: u32 = 64_517;

const TIER1: [u32; 2] = [64_501, 64_502];
const REGIONAL_FIRST: u32 = 64_511;
const SITE_FIRST: u32 = 64_521;
const REGIONALS: [&str; 6] = ["transit-eu", "transit-na", "transit-pl", "transit-au", "transit-br", "transit-za"];
/// Ids of the perspectives, the primary's first; the loopback laboratory has the same.
pub const SITES: [&str; 6] = ["ams1", "iad1", "waw1", "syd1", "gru1", "jnb1"];

/// All systems, from the top down.
#[must_use]
pub fn systems() -> Vec<System> {
    let one = |number, name, role, octet| System { number, name, role, octet };
    let mut all = vec![one(TIER1[0], "tier1-a", Role::Tier1, 1), one(TIER1[1], "tier1-b", Role::Tier1, 2)];
    for (number, (name, octet)) in (REGIONAL_FIRST..).zip(REGIONALS.into_iter().zip(11..)) {
        all.push(one(number, name, Role::Transit, octet));
    }
    all.push(one(FAR, "transit-far", Role::Transit, 17));
    for (perspective, (number, octet)) in Perspective::ALL.into_iter().zip((SITE_FIRST..).zip(21..)) {
        all.push(one(number, SITES[perspective.index()], Role::Site(perspective), octet));
    }
    all.extend([
        one(WEB, "web", Role::Web, 31),
        one(DNS, "dns", Role::Dns, 32),
        one(REGISTRY, "registry", Role::Registry, 33),
        one(AUTHORITY, "ca", Role::Authority, 40),
        one(ATTACKER, "attacker", Role::Attacker, 66),
    ]);
    all
}

/// All wires. The attacker's to the regional transits are there from the beginning; sessions over them are not.
#[must_use]
pub fn links() -> Vec<Link> {
    let mut ends = vec![(TIER1[0], TIER1[1], Terms::Peer)];
    let customer = |of: u32| TIER1.map(|tier1| (of, tier1, Terms::Customer));
    for regional in (REGIONAL_FIRST..).take(REGIONALS.len()).chain([FAR]) {
        ends.extend(customer(regional));
    }
    for perspective in Perspective::ALL {
        ends.push((site(perspective), regional(perspective), Terms::Customer));
    }
    for multihomed in [WEB, DNS, REGISTRY, AUTHORITY] {
        ends.extend(customer(multihomed));
    }
    ends.push((ATTACKER, FAR, Terms::Customer));
    ends.extend(Perspective::ALL.map(|perspective| (ATTACKER, regional(perspective), Terms::Customer)));
    (0..).zip(ends).map(|(number, (a, b, terms))| Link { number, a, b, terms }).collect()
}

/// The system a perspective looks from.
#[must_use]
pub fn site(perspective: Perspective) -> u32 {
    (SITE_FIRST..).nth(perspective.index()).unwrap_or(SITE_FIRST)
}

/// The transit of that site.
#[must_use]
pub fn regional(perspective: Perspective) -> u32 {
    (REGIONAL_FIRST..).nth(perspective.index()).unwrap_or(REGIONAL_FIRST)
}

/// A perspective's id.
#[must_use]
pub fn site_id(perspective: Perspective) -> &'static str {
    SITES[perspective.index()]
}

/// The perspective of an id.
#[must_use]
pub fn perspective(id: &str) -> Option<Perspective> {
    Perspective::ALL.into_iter().find(|perspective| site_id(*perspective) == id)
}

/// One system; `None` if there is none of this number.
#[must_use]
pub fn system(number: u32) -> Option<System> {
    systems().into_iter().find(|system| system.number == number)
}

/// An address within the /24 of a system that is known to exist.
#[must_use]
pub fn address(number: u32, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, system(number).map_or(0, |system| system.octet), host)
}

/// The victim's web server.
#[must_use]
pub fn web_address() -> Ipv4Addr {
    address(WEB, 10)
}

/// The victim's name server.
#[must_use]
pub fn dns_address() -> Ipv4Addr {
    address(DNS, 53)
}

/// The root's name server.
#[must_use]
pub fn root_address() -> Ipv4Addr {
    address(REGISTRY, 53)
}

/// The top-level domain's name server.
#[must_use]
pub fn tld_address() -> Ipv4Addr {
    address(REGISTRY, 54)
}

impl System {
    /// What it announces.
    #[must_use]
    pub fn prefix(&self) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::new(198, 18, self.octet, 0), 24)
    }

    /// The router's own address, which its traffic comes from unless a program says otherwise.
    #[must_use]
    pub fn main_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.octet, 1)
    }

    /// All addresses on its loopback device. The attacker has the victims' too: who is led to it finds them there.
    #[must_use]
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let mut all = vec![self.main_address()];
        all.extend(match self.role {
            Role::Web => vec![web_address()],
            Role::Dns => vec![dns_address()],
            Role::Registry => vec![root_address(), tld_address()],
            Role::Attacker => vec![web_address(), dns_address()],
            Role::Tier1 | Role::Transit | Role::Site(_) | Role::Authority => Vec::new(),
        });
        all
    }

    /// What it is to who looks at a picture or a table.
    #[must_use]
    pub fn title(&self) -> String {
        match self.role {
            Role::Tier1 | Role::Transit | Role::Site(_) => self.name.to_owned(),
            Role::Web => "web server".to_owned(),
            Role::Dns => "name servers".to_owned(),
            Role::Registry => "root and TLD".to_owned(),
            Role::Authority => "CA: engine".to_owned(),
            Role::Attacker => "attacker".to_owned(),
        }
    }
}

impl Link {
    /// The address of one end: the /31 is numbered after the link.
    #[must_use]
    pub fn address_of(&self, number: u32) -> Ipv4Addr {
        let low = u16::from(self.number) * 2 + u16::from(number == self.b);
        let [high, low] = low.to_be_bytes();
        Ipv4Addr::new(10, 64, high, low)
    }

    /// The other end.
    #[must_use]
    pub fn other(&self, number: u32) -> u32 {
        if number == self.a { self.b } else { self.a }
    }

    /// Whether this system is at one of its ends.
    #[must_use]
    pub fn touches(&self, number: u32) -> bool {
        number == self.a || number == self.b
    }

    /// What the other end is to this one.
    #[must_use]
    pub fn neighbor_is(&self, number: u32) -> Relation {
        match self.terms {
            Terms::Peer => Relation::Peer,
            Terms::Customer if number == self.a => Relation::Provider,
            Terms::Customer => Relation::Customer,
        }
    }

    /// The device of one end, named after where it leads.
    #[must_use]
    pub fn device_of(&self, number: u32) -> String {
        format!("as{}", self.other(number))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn providers(number: u32) -> Vec<u32> {
        let of = links().into_iter().filter(|link| link.terms == Terms::Customer && link.a == number);
        of.map(|link| link.b).collect()
    }

    /// Every way up, with how many steps it may still take.
    fn climbs(number: u32, steps: usize) -> HashSet<u32> {
        assert!(steps > 0, "customers of each other at AS {number}");
        let above = providers(number).into_iter().flat_map(|provider| climbs(provider, steps - 1));
        above.chain([number]).collect()
    }

    #[test]
    fn every_system_has_a_way_up_to_both_tier_1s_and_only_those_have_no_provider() {
        for system in systems() {
            let reached = climbs(system.number, 5);
            match system.role {
                Role::Tier1 => assert!(providers(system.number).is_empty()),
                _ => assert!(TIER1.iter().all(|tier1| reached.contains(tier1)), "{system:?}"),
            }
        }
    }

    #[test]
    fn numbers_prefixes_and_wires_are_unique() {
        let all = systems();
        let unique = |of: fn(&System) -> String| all.iter().map(of).collect::<HashSet<_>>().len() == all.len();
        assert!(unique(|system| system.number.to_string()));
        assert!(unique(|system| system.prefix().to_string()));
        assert!(unique(|system| system.name.to_owned()));
        let mut ends = HashSet::new();
        for link in links() {
            assert!(ends.insert((link.a.min(link.b), link.a.max(link.b))), "{link:?}");
            assert_ne!(link.address_of(link.a), link.address_of(link.b));
            assert!(system(link.a).is_some() && system(link.b).is_some());
            assert!(link.device_of(link.a).len() < 16, "the kernel takes no longer names");
        }
        let addresses: HashSet<_> = links().iter().flat_map(|l| [l.address_of(l.a), l.address_of(l.b)]).collect();
        assert_eq!(addresses.len(), links().len() * 2);
    }

    #[test]
    fn what_is_attacked_lies_within_its_owner_s_prefix() {
        let prefix = |number| system(number).unwrap().prefix();
        assert!(prefix(WEB).contains(&web_address()));
        assert!(prefix(DNS).contains(&dns_address()));
        assert!(prefix(REGISTRY).contains(&root_address()) && prefix(REGISTRY).contains(&tld_address()));
        assert_ne!(root_address(), tld_address());
        assert!(!prefix(ATTACKER).contains(&web_address()));
    }

    #[test]
    fn sites_are_customers_of_their_regional_alone_and_known_by_their_ids() {
        for one in Perspective::ALL {
            assert_eq!(providers(site(one)), [regional(one)]);
            assert_eq!(perspective(site_id(one)), Some(one));
            assert_eq!(system(site(one)).unwrap().role, Role::Site(one));
        }
        assert_eq!(perspective("nowhere"), None);
    }

    #[test]
    fn the_loopback_laboratory_s_settings_name_the_same_perspectives() {
        let settings = crate::lab::generate::settings(&crate::lab::world::World::new(1, 1));
        for id in SITES {
            assert!(settings.contains(&format!("id = \"{id}\"")), "{id}");
        }
    }
}
