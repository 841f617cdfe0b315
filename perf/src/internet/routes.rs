//! Where packets really go: the kernels' routes, hop by hop from namespace to namespace, and what the routers claim.
//!
//! Left out: how long a change takes. Whoever waits for one asks again and again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    attack::{Routing, Target},
    bird,
    error::InternetError,
    state::State,
    topology::{self, ATTACKER, dns_address, links, site, site_id, web_address},
    verdict::Fooled,
};
use crate::{
    lab::world::Perspective,
    netns::{Namespace, NetnsError},
};

/// How long routes may take to become what they ought to be.
pub const CONVERGENCE_MAX: Duration = Duration::from_secs(40);
const TARGETS: [Target; 2] = [Target::Web, Target::NameServers];
const POLL: Duration = Duration::from_millis(100);

/// Where packets of one system to one address go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The systems they pass, the first one included.
    pub systems: Vec<u32>,
    /// Whether the last of them has the address.
    pub arrives: bool,
}

impl Way {
    /// Whether the attacker has them.
    #[must_use]
    pub fn ends_at_attacker(&self) -> bool {
        self.arrives && self.systems.last() == Some(&ATTACKER)
    }
}

/// The address that stands for a target.
#[must_use]
pub fn address_of(target: Target) -> Ipv4Addr {
    match target {
        Target::Web => web_address(),
        Target::NameServers => dns_address(),
    }
}

/// Follows packets to an address; each namespace is asked once, however many ways pass it.
pub struct Walker<'a> {
    state: &'a State,
    to: Ipv4Addr,
    known: BTreeMap<u32, Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Here,
    To(u32),
    Nowhere,
}

impl<'a> Walker<'a> {
    /// To this address.
    #[must_use]
    pub fn to(state: &'a State, to: Ipv4Addr) -> Self {
        Self { state, to, known: BTreeMap::new() }
    }

    /// From this system.
    ///
    /// # Errors
    /// A namespace is not there.
    pub fn from(&mut self, system: u32) -> Result<Way, InternetError> {
        let mut systems = vec![system];
        // A loop of routes ends when every system has been passed.
        while systems.len() <= self.state.namespaces.len() {
            match self.step(systems[systems.len() - 1])? {
                Step::Here => return Ok(Way { systems, arrives: true }),
                Step::Nowhere => break,
                Step::To(next) => systems.push(next),
            }
        }
        Ok(Way { systems, arrives: false })
    }

    fn step(&mut self, at: u32) -> Result<Step, InternetError> {
        if let Some(step) = self.known.get(&at) {
            return Ok(*step);
        }
        let Some(name) = self.state.namespaces.get(&at) else { return Ok(Step::Nowhere) };
        let step = match Namespace::open(name.clone())?.ip(&format!("route get {}", self.to)) {
            Ok(text) => read_step(at, &text),
            // The kernel says so of an unreachable route.
            Err(NetnsError::Command { .. }) => Step::Nowhere,
            Err(error) => return Err(error.into()),
        };
        self.known.insert(at, step);
        Ok(step)
    }
}

/// What `ip route get` says: `local …`, or `ADDRESS via GATEWAY dev DEVICE …`.
fn read_step(at: u32, text: &str) -> Step {
    let mut words = text.split_whitespace();
    if words.next() == Some("local") {
        return Step::Here;
    }
    let device = words.skip_while(|word| *word != "dev").nth(1).unwrap_or_default();
    let link = links().into_iter().find(|link| link.touches(at) && link.device_of(at) == device);
    link.map_or(Step::Nowhere, |link| Step::To(link.other(at)))
}

/// Systems whose packets end at the attacker: those to the web server, and those to the name servers.
type Astray = [BTreeSet<u32>; 2];

/// By the kernels' routes; `None` while some way does not arrive.
fn found(state: &State) -> Result<Option<Astray>, InternetError> {
    let mut both = Astray::default();
    for (target, astray) in TARGETS.into_iter().zip(&mut both) {
        let mut walker = Walker::to(state, address_of(target));
        for system in state.namespaces.keys() {
            let way = walker.from(*system)?;
            if !way.arrives {
                return Ok(None);
            }
            if way.ends_at_attacker() {
                astray.insert(*system);
            }
        }
    }
    Ok(Some(both))
}

fn sites_of([web, dns]: &Astray) -> Fooled {
    let of = |astray: &BTreeSet<u32>| Perspective::ALL.into_iter().filter(|p| astray.contains(&site(*p))).collect();
    Fooled { web: of(web), dns: of(dns) }
}

/// What the rules say of the same.
#[must_use]
pub fn predicted(routing: &Routing) -> Option<Fooled> {
    Some(Fooled { web: routing.fooled(Target::Web)?, dns: routing.fooled(Target::NameServers)? })
}

/// Waits until the routes of every system are what the rules say, and every session of the attacker's stands.
///
/// # Errors
/// They do not become so in time; the error says how they stood. `is_stopped` ends the wait.
pub fn wait_until_converged(state: &State, is_stopped: impl Fn() -> bool) -> Result<Fooled, InternetError> {
    let begun = Instant::now();
    let expected = state.routing.led_astray(Target::Web).zip(state.routing.led_astray(Target::NameServers));
    let expected = expected.map(|(web, dns)| [web, dns]);
    let mut met_before = false;
    loop {
        let found = found(state)?;
        let met = found.is_some() && found == expected && sessions_stand(state)?;
        // What the attacker does not touch has to come together once.
        let met = met && (state.is_up || everybody_is_reached(state)?);
        // Twice in a row, so that routes which only pass through the right state are not taken for it.
        if let Some(found) = found.as_ref().filter(|_| met && met_before) {
            return Ok(sites_of(found));
        }
        met_before = met;
        if is_stopped() {
            return Err(InternetError::Stopped);
        }
        if begun.elapsed() > CONVERGENCE_MAX {
            let [expected, found] = [expected, found].map(|astray| systems_shown(astray.as_ref()));
            let what = format!("routes of these lead to the attacker: {expected} (now: {found})");
            return Err(InternetError::Late { what, limit: CONVERGENCE_MAX });
        }
        std::thread::sleep(POLL);
    }
}

fn systems_shown(astray: Option<&Astray>) -> String {
    let Some([web, dns]) = astray else { return "not all ways arrive".to_owned() };
    format!("for the web server {web:?}, for the name servers {dns:?}")
}

/// Sets of fooled sites in words.
#[must_use]
pub fn shown(fooled: &Fooled) -> String {
    let ids = |of: &[Perspective]| {
        if of.is_empty() { "nobody".to_owned() } else { of.iter().map(|p| site_id(*p)).collect::<Vec<_>>().join(", ") }
    };
    format!("lead to the attacker: web {}; name servers {}", ids(&fooled.web), ids(&fooled.dns))
}

/// The sessions that the attacker's router has, all of them up: an announcement that was not sent yet changes nothing.
fn sessions_stand(state: &State) -> Result<bool, InternetError> {
    let text = bird::ask(ATTACKER, &state.router(ATTACKER), "show protocols")?;
    let told = state.routing.hijack.as_ref().map(|hijack| hijack.told()).unwrap_or_default();
    let expected = told.iter().filter(|system| **system != topology::FAR).count() + 1;
    let sessions = text.lines().filter(|line| line.split_whitespace().nth(1) == Some("BGP"));
    Ok(sessions.filter(|line| line.contains("Established")).count() == expected)
}

/// Whether the engine's system has ways to all sites, and all sites to root and engine.
fn everybody_is_reached(state: &State) -> Result<bool, InternetError> {
    let sites = Perspective::ALL.map(site);
    let arrive = |to: Ipv4Addr, from: &[u32]| {
        let mut walker = Walker::to(state, to);
        from.iter().try_fold(true, |all, system| Ok::<_, InternetError>(all && walker.from(*system)?.arrives))
    };
    let mut answer = arrive(topology::root_address(), &sites)?;
    answer &= arrive(topology::address(topology::AUTHORITY, 1), &sites)?;
    for number in sites {
        let to = topology::address(number, 1);
        answer &= arrive(to, &[topology::AUTHORITY, topology::WEB, topology::DNS, ATTACKER])?;
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_route_is_read() {
        let text = "198.18.31.10 via 10.64.0.3 dev as64501 src 198.18.11.1 uid 0 \n    cache";
        assert_eq!(read_step(64_511, text), Step::To(64_501));
        assert_eq!(read_step(64_511, "local 198.18.31.10 dev lo src 198.18.31.10 uid 0"), Step::Here);
        assert_eq!(read_step(64_511, "198.18.31.10 dev eth0"), Step::Nowhere);
        assert_eq!(read_step(64_511, ""), Step::Nowhere);
    }

    #[test]
    fn sets_are_told_in_words() {
        let fooled = Fooled { web: vec![Perspective::ALL[0], Perspective::ALL[2]], dns: Vec::new() };
        assert_eq!(shown(&fooled), "lead to the attacker: web ams1, waw1; name servers nobody");
    }
}
