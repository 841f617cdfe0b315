//! What the right answer to a request is, given which sites are led to the attacker: a function of its own, which shares
//! nothing with the rules it checks.
//!
//! Each perspective sees one of three things: the owner's servers, the attacker's, or what it may not believe, which is so
//! for a signed domain whose name servers are the attacker's. The primary must agree, at most one of five remotes may
//! not, and those that agree must be of two RIR regions (TLS BR 2.3.1 §3.2.2.9).

use parallax_validation::verdict::PerspectiveState;
use serde::{Deserialize, Serialize};

use super::{
    settings::{FanOut, rir},
    zones::{Actor, Domain, Method},
};
use crate::lab::world::Perspective;

/// Remotes that may fail to agree, of five.
pub(super) const NOT_AGREEING_MAX: usize = 1;
/// RIR regions that agreeing remotes must be of.
const REGIONS_MIN: usize = 2;

/// One request: who, by what, for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asks {
    /// Who.
    pub actor: Actor,
    /// By what.
    pub method: Method,
    /// For what.
    pub domain: Domain,
}

/// Which sites are led to the attacker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fooled {
    /// When they ask for the web server's address.
    pub web: Vec<Perspective>,
    /// When they ask for the name servers'.
    pub dns: Vec<Perspective>,
}

/// What a perspective meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// The owner's server, or its records.
    Owner,
    /// The attacker's.
    Attacker,
    /// Records that its signatures show to be forged.
    Bogus,
    /// Nothing that could be had, which is never right: nobody is silent here.
    Nothing,
}

impl Asks {
    /// All 24.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let of = |actor| {
            Method::ALL.into_iter().flat_map(move |method| Domain::ALL.map(|domain| Self { actor, method, domain }))
        };
        Actor::ALL.into_iter().flat_map(of).collect()
    }

    /// A name for it that can stand in an identifier.
    #[must_use]
    pub fn slug(&self) -> String {
        format!("{}-{}-{}", self.actor.name(), self.method.name(), self.domain.label())
    }
}

/// What one perspective meets.
#[must_use]
pub fn sees(perspective: Perspective, asks: Asks, fooled: &Fooled) -> Seen {
    match (fooled.dns.contains(&perspective), asks.domain.is_signed(), asks.method) {
        (true, true, _) => Seen::Bogus,
        (true, false, _) => Seen::Attacker,
        (false, _, Method::Http01 | Method::TlsAlpn01) if fooled.web.contains(&perspective) => Seen::Attacker,
        (false, ..) => Seen::Owner,
    }
}

/// Whether one perspective agrees: it sees the challenge of who asks, and CAA, as it sees it, lets that account have one.
#[must_use]
pub fn agrees(perspective: Perspective, asks: Asks, fooled: &Fooled) -> bool {
    let expected = match asks.actor {
        Actor::Owner => Seen::Owner,
        Actor::Attacker => Seen::Attacker,
    };
    let sees_binding = asks.domain.is_bound() && !fooled.dns.contains(&perspective);
    sees(perspective, asks, fooled) == expected && !(sees_binding && asks.actor == Actor::Attacker)
}

/// Whether one perspective says the contrary: it sees a challenge that is not of who asks, or a CAA record that forbids.
/// What cannot be believed is no contradiction.
#[must_use]
pub fn contradicts(perspective: Perspective, asks: Asks, fooled: &Fooled) -> bool {
    !agrees(perspective, asks, fooled) && matches!(sees(perspective, asks, fooled), Seen::Owner | Seen::Attacker)
}

/// What the programs must make of what one perspective sees.
#[must_use]
pub fn concludes(perspective: Perspective, asks: Asks, fooled: &Fooled) -> PerspectiveState {
    if agrees(perspective, asks, fooled) {
        PerspectiveState::Confirmed
    } else if contradicts(perspective, asks, fooled) {
        PerspectiveState::Contradicted
    } else {
        PerspectiveState::Failed
    }
}

/// What one perspective's part in an attempt must be; where there are several, any of them may be. An engine that asks the
/// primary first asks no remote if that one refuses, and does not await all of them if a quorum confirms.
#[must_use]
pub fn parts(perspective: Perspective, asks: Asks, fooled: &Fooled, fan_out: FanOut) -> Vec<(Seen, PerspectiveState)> {
    let whole = (sees(perspective, asks, fooled), concludes(perspective, asks, fooled));
    let is_remote_of_first = fan_out == FanOut::PrimaryFirst && perspective != Perspective::PRIMARY;
    if is_remote_of_first && !agrees(Perspective::PRIMARY, asks, fooled) {
        vec![(Seen::Nothing, PerspectiveState::NotAsked)]
    } else if is_remote_of_first && permits(asks, fooled) {
        vec![whole, (Seen::Nothing, PerspectiveState::NotAwaited)]
    } else {
        vec![whole]
    }
}

/// Whether some that are asked agree and others say the contrary. The process must then start afresh before anything is
/// released (req H8), unless the contrary comes after a permission.
#[must_use]
pub fn disagrees(asks: Asks, fooled: &Fooled, fan_out: FanOut) -> bool {
    some_agree_and(contradicts, asks, fooled, fan_out)
}

/// Whether one perspective is shown forged records of a signed domain, which another sees as they are.
#[must_use]
pub fn is_shown_forged(perspective: Perspective, asks: Asks, fooled: &Fooled) -> bool {
    let is_bogus = |perspective| sees(perspective, asks, fooled) == Seen::Bogus;
    is_bogus(perspective) && Perspective::ALL.into_iter().any(|other| !is_bogus(other))
}

/// Whether some that are asked agree and others are shown what is forged. That is told, and starts nothing afresh.
#[must_use]
pub fn is_forged_for_some(asks: Asks, fooled: &Fooled, fan_out: FanOut) -> bool {
    some_agree_and(is_shown_forged, asks, fooled, fan_out)
}

/// Whether, of those that are asked, some agree and something is so for others.
fn some_agree_and(is_so: fn(Perspective, Asks, &Fooled) -> bool, asks: Asks, fooled: &Fooled, fan_out: FanOut) -> bool {
    let any = |of: fn(Perspective, Asks, &Fooled) -> bool| Perspective::ALL.into_iter().any(|p| of(p, asks, fooled));
    let all_are_asked = fan_out == FanOut::Parallel || agrees(Perspective::PRIMARY, asks, fooled);
    all_are_asked && any(agrees) && any(is_so)
}

/// Whether the request must be permitted.
#[must_use]
pub fn permits(asks: Asks, fooled: &Fooled) -> bool {
    let [primary, remotes @ ..] = Perspective::ALL;
    let agreeing: Vec<Perspective> = remotes.into_iter().filter(|remote| agrees(*remote, asks, fooled)).collect();
    let mut regions: Vec<&str> = agreeing.iter().map(|remote| rir(*remote)).collect();
    regions.sort_unstable();
    regions.dedup();
    agrees(primary, asks, fooled) && agreeing.len() + NOT_AGREEING_MAX >= remotes.len() && regions.len() >= REGIONS_MIN
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use parallax_validation::{
        base::perspective::Rir,
        verdict::{
            policy::PolicyTable,
            quorum::{Quorum, Settlement},
        },
    };

    use super::*;

    fn set(bits: u8) -> Vec<Perspective> {
        Perspective::ALL.into_iter().filter(|perspective| bits >> perspective.index() & 1 == 1).collect()
    }

    /// The programs' own count for these remotes.
    fn corroborated(confirmed: u16) -> bool {
        let when: Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
        let rirs = [Rir::Arin, Rir::RipeNcc, Rir::Apnic, Rir::Lacnic, Rir::Afrinic];
        let policy = PolicyTable::builtin();
        let quorum = Quorum::new(policy.row_at(when).unwrap(), &rirs).unwrap();
        quorum.settle(confirmed, quorum.all() & !confirmed) == Settlement::Corroborated
    }

    #[test]
    fn agrees_with_the_programs_count_for_every_set_of_fooled_sites() {
        for (web, dns) in (0..64).flat_map(|web| (0..64).map(move |dns| (web, dns))) {
            let fooled = Fooled { web: set(web), dns: set(dns) };
            for asks in Asks::all() {
                let bits = Perspective::ALL.map(|perspective| u16::from(agrees(perspective, asks, &fooled)));
                let remotes = bits[1..].iter().enumerate().map(|(place, bit)| bit << place).sum();
                let expected = bits[0] == 1 && corroborated(remotes);
                assert_eq!(permits(asks, &fooled), expected, "{asks:?} web {web:06b} dns {dns:06b}");
            }
        }
    }

    #[test]
    fn who_is_asked_when_the_primary_is_first() {
        let [primary, remote, ..] = Perspective::ALL;
        let asks = |actor| Asks { actor, method: Method::TlsAlpn01, domain: Domain::Plain };
        let first = |perspective, actor, fooled: &Fooled| parts(perspective, asks(actor), fooled, FanOut::PrimaryFirst);
        let at_primary = Fooled { web: vec![primary], dns: Vec::new() };
        let not_asked = (Seen::Nothing, PerspectiveState::NotAsked);
        assert_eq!(first(remote, Actor::Owner, &at_primary), [not_asked], "the primary refuses");
        assert_eq!(first(primary, Actor::Owner, &at_primary), [(Seen::Attacker, PerspectiveState::Contradicted)]);
        let contrary = (Seen::Owner, PerspectiveState::Contradicted);
        assert_eq!(first(remote, Actor::Attacker, &at_primary), [contrary], "all are awaited where it is refused");
        let at_remote = Fooled { web: vec![remote], dns: Vec::new() };
        let late = (Seen::Nothing, PerspectiveState::NotAwaited);
        let contrary = (Seen::Attacker, PerspectiveState::Contradicted);
        assert_eq!(first(remote, Actor::Owner, &at_remote), [contrary, late]);
        assert_eq!(parts(remote, asks(Actor::Owner), &at_remote, FanOut::Parallel), [contrary]);
        for (actor, fooled, disagree) in [
            (Actor::Owner, &at_primary, [true, false]),
            (Actor::Attacker, &at_primary, [true, true]),
            (Actor::Owner, &at_remote, [true, true]),
            (Actor::Attacker, &at_remote, [true, false]),
        ] {
            let found = FanOut::ALL.map(|fan_out| disagrees(asks(actor), fooled, fan_out));
            assert_eq!(found, disagree, "{actor:?} {fooled:?}");
        }
    }

    #[test]
    fn nobody_is_fooled_in_peace_and_owner_and_attacker_are_never_both_permitted() {
        for asks in Asks::all() {
            assert_eq!(permits(asks, &Fooled::default()), asks.actor == Actor::Owner);
        }
        for (web, dns) in (0..64).flat_map(|web| (0..64).map(move |dns| (web, dns))) {
            let fooled = Fooled { web: set(web), dns: set(dns) };
            for asks in Asks::all().into_iter().filter(|asks| asks.actor == Actor::Owner) {
                let other = Asks { actor: Actor::Attacker, ..asks };
                assert!(!(permits(asks, &fooled) && permits(other, &fooled)), "{asks:?}");
            }
        }
    }

    #[test]
    fn what_dnssec_and_account_binding_each_save() {
        let everywhere = set(63);
        let asks = |method, domain| Asks { actor: Actor::Attacker, method, domain };
        let web = Fooled { web: everywhere.clone(), dns: Vec::new() };
        assert!(permits(asks(Method::Http01, Domain::Plain), &web));
        assert!(permits(asks(Method::Http01, Domain::Signed), &web), "signatures do not cover the web server");
        assert!(permits(asks(Method::TlsAlpn01, Domain::Signed), &web), "nor a certificate that it shows");
        assert!(!permits(asks(Method::Http01, Domain::Bound), &web));
        assert!(!permits(asks(Method::TlsAlpn01, Domain::Bound), &web));
        let dns = Fooled { web: Vec::new(), dns: everywhere };
        assert!(permits(asks(Method::Dns01, Domain::Plain), &dns));
        assert!(permits(asks(Method::Dns01, Domain::Bound), &dns), "an unsigned CAA record can be forged");
        assert!(!permits(asks(Method::Dns01, Domain::Signed), &dns));
    }
}
