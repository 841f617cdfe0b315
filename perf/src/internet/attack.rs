//! What the attacker announces, and which systems filter routes: a pure description of the state that routing is to be in.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::{
    predict::{Announcement, Authorization, leads_to_attacker, routes},
    topology::{self, ATTACKER, DNS, FAR, WEB, regional, site},
};
use crate::lab::world::Perspective;

/// What is attacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The web server's prefix.
    Web,
    /// The name servers' prefix.
    NameServers,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The same prefix, with the attacker as its origin.
    Equal,
    /// Both halves of it, which win wherever they are heard.
    SubPrefix,
    /// The same prefix, with the owner's number behind the attacker's: valid to who asks RPKI alone.
    ForgedOrigin,
}

/// One attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hijack {
    /// What.
    pub target: Target,
    /// How.
    pub form: Form,
    /// Sites whose transits it is announced to, by id. If none, it is announced to the attacker's far transit.
    pub near: Vec<String>,
}

/// The state that routing is to be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The attack, if there is one.
    pub hijack: Option<Hijack>,
    /// Systems that drop routes which RPKI says are invalid.
    pub filtering: BTreeSet<u32>,
}

impl Target {
    /// Whose prefix it is.
    #[must_use]
    pub fn owner(self) -> u32 {
        match self {
            Self::Web => WEB,
            Self::NameServers => DNS,
        }
    }

    /// Its prefix.
    #[must_use]
    pub fn prefix(self) -> Ipv4Net {
        topology::system(self.owner()).map_or_else(Ipv4Net::default, |system| system.prefix())
    }
}

impl Hijack {
    /// The transits that it is announced to.
    #[must_use]
    pub fn told(&self) -> BTreeSet<u32> {
        let near: BTreeSet<u32> = self.near.iter().filter_map(|id| topology::perspective(id)).map(regional).collect();
        if near.is_empty() { BTreeSet::from([FAR]) } else { near }
    }

    /// What the attacker announces.
    #[must_use]
    pub fn announcements(&self) -> Vec<Announcement> {
        let prefix = self.target.prefix();
        let prefixes = match self.form {
            // A /24 has halves.
            Form::SubPrefix => prefix.subnets(prefix.prefix_len() + 1).into_iter().flatten().collect(),
            Form::Equal | Form::ForgedOrigin => vec![prefix],
        };
        let behind = (self.form == Form::ForgedOrigin).then(|| self.target.owner());
        let one = |prefix| Announcement { by: ATTACKER, prefix, behind, to: self.told() };
        prefixes.into_iter().map(one).collect()
    }
}

impl Routing {
    /// Systems whose packets to the target end at the attacker, by the rules and not by looking; the attacker is among
    /// them. `None` if the rules give some system no way at all.
    #[must_use]
    pub fn led_astray(&self, target: Target) -> Option<BTreeSet<u32>> {
        let owner = Announcement { by: target.owner(), prefix: target.prefix(), behind: None, to: BTreeSet::new() };
        let mut told = vec![owner];
        if let Some(hijack) = self.hijack.as_ref().filter(|hijack| hijack.target == target) {
            told.extend(hijack.announcements());
        }
        let prefixes: BTreeSet<Ipv4Net> = told.iter().map(|announcement| announcement.prefix).collect();
        let (links, authorizations) = (topology::links(), authorizations());
        let table: Vec<_> = prefixes
            .into_iter()
            .map(|prefix| (prefix, routes(&links, &told, prefix, &self.filtering, &authorizations)))
            .collect();
        let mut astray = BTreeSet::new();
        for system in topology::systems() {
            if leads_to_attacker(&table, target.owner(), system.number)? {
                astray.insert(system.number);
            }
        }
        Some(astray)
    }

    /// The sites among them.
    #[must_use]
    pub fn fooled(&self, target: Target) -> Option<Vec<Perspective>> {
        let astray = self.led_astray(target)?;
        Some(Perspective::ALL.into_iter().filter(|perspective| astray.contains(&site(*perspective))).collect())
    }
}

/// The route origin authorizations of the victims: their /24 and nothing longer.
#[must_use]
pub fn authorizations() -> [Authorization; 2] {
    [Target::Web, Target::NameServers].map(|target| Authorization {
        origin: target.owner(),
        prefix: target.prefix(),
        longest: 24,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(form: Form, near: &[&str]) -> Routing {
        let near = near.iter().map(|id| (*id).to_owned()).collect();
        Routing { hijack: Some(Hijack { target: Target::Web, form, near }), filtering: BTreeSet::new() }
    }

    #[test]
    fn an_attack_on_one_prefix_leaves_the_other_alone() {
        let attack = routing(Form::SubPrefix, &[]);
        assert_eq!(attack.fooled(Target::Web), Some(Perspective::ALL.to_vec()));
        assert_eq!(attack.fooled(Target::NameServers), Some(Vec::new()));
        let astray = attack.led_astray(Target::Web).unwrap();
        assert!(!astray.contains(&WEB) && astray.contains(&DNS), "who has the address is not led away from itself");
    }

    #[test]
    fn every_set_of_sites_can_be_fooled_by_the_same_prefix() {
        for set in 1_u8..64 {
            let wanted: Vec<_> = Perspective::ALL.into_iter().filter(|p| set >> p.index() & 1 == 1).collect();
            let near: Vec<_> = wanted.iter().map(|p| topology::site_id(*p)).collect();
            assert_eq!(routing(Form::Equal, &near).fooled(Target::Web), Some(wanted.clone()));
            assert_eq!(routing(Form::ForgedOrigin, &near).fooled(Target::Web), Some(wanted));
        }
    }

    #[test]
    fn the_same_prefix_from_afar_fools_nobody() {
        let attack = routing(Form::Equal, &[]);
        assert_eq!(attack.fooled(Target::Web), Some(Vec::new()));
        assert_eq!(attack.led_astray(Target::Web), Some(BTreeSet::from([FAR, ATTACKER])), "but its own transit");
    }

    #[test]
    fn halves_cover_what_they_are_halves_of() {
        let told = routing(Form::SubPrefix, &[]).hijack.unwrap().announcements();
        let prefixes: Vec<_> = told.iter().map(|announcement| announcement.prefix.to_string()).collect();
        assert_eq!(prefixes, ["198.18.31.0/25", "198.18.31.128/25"]);
        assert!(told.iter().all(|announcement| announcement.behind.is_none()));
        let told = routing(Form::ForgedOrigin, &["iad1"]).hijack.unwrap().announcements();
        assert_eq!(told[0].behind, Some(WEB));
    }
}
