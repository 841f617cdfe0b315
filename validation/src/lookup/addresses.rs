//! Which addresses of a host are connected to: two of each family at most, none that is forbidden.
//!
//! An IPv6 and an IPv4 address come first, IPv6 before IPv4; if neither answered, a further one of each family
//! has its turn, in the same order. The first two share the time as though there were no others, so that a host
//! with many addresses gives none of them less; the further ones get what is left of it.

use std::net::{IpAddr, SocketAddr};

use crate::{
    base::{
        Entropy, Micros,
        address::AddressFilter,
        limits::{ADDRESSES_KEPT_MAX, ADDRESSES_PER_FAMILY_MAX},
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, UnusedAddress, UnusedReason},
};

/// The addresses still to be tried.
#[derive(Debug)]
pub(super) struct Candidates {
    /// The next one last.
    waiting: Vec<SocketAddr>,
    /// How many of them are not the first of their family.
    further: usize,
    /// How many share the time left, the one that was taken last among them.
    sharers: u64,
}

impl Candidates {
    /// None, as before a host is resolved.
    pub(super) fn none() -> Self {
        Self { waiting: Vec::new(), further: 0, sharers: 1 }
    }

    /// Draws the addresses to try; and gives those that will not be, with the reason.
    pub(super) fn draw(
        addresses: Vec<IpAddr>,
        port: u16,
        filter: &AddressFilter,
        entropy: &mut dyn Entropy,
    ) -> (Self, Vec<UnusedAddress>) {
        let mut unused = Vec::new();
        let mut families: [Vec<IpAddr>; 2] = Default::default();
        for address in addresses {
            match filter.forbids(address) {
                None if families.iter().flatten().any(|kept| *kept == address) => {}
                None => families[usize::from(address.is_ipv4())].push(address),
                Some(block) => {
                    let reason = UnusedReason::Special(format!("{} ({})", block.prefix, block.purpose));
                    unused.push(UnusedAddress { address, reason });
                }
            }
        }
        let mut rounds: [Vec<SocketAddr>; ADDRESSES_PER_FAMILY_MAX] = Default::default();
        for mut family in families {
            for round in &mut rounds {
                if !family.is_empty() {
                    let drawn = (entropy.next_u64() % family.len() as u64) as usize;
                    round.push(SocketAddr::new(family.remove(drawn), port));
                }
            }
            let reason = UnusedReason::OtherDrawn;
            unused.extend(family.into_iter().map(|address| UnusedAddress { address, reason: reason.clone() }));
        }
        let further = rounds[1..].iter().map(Vec::len).sum();
        let waiting = rounds.into_iter().flatten().rev().collect();
        (Self { waiting, further, sharers: 1 }, unused)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next address to try.
    pub(super) fn take_next(&mut self) -> Option<SocketAddr> {
        let next = self.waiting.pop()?;
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        let firsts = self.waiting.len() + 1 - self.further;
        self.sharers = if firsts > 0 { firsts } else { self.further } as u64;
        self.further = self.further.min(self.waiting.len());
        Some(next)
    }

    /// Until when the address that was taken last may use the time that is left.
    pub(super) fn share(&self, now: Micros, deadline: Micros) -> Micros {
        Micros(now.0 + deadline.since(now) / self.sharers)
    }

    /// No more of this address's family will be tried: our own side cannot reach it.
    pub(super) fn pass_over_family(&mut self, of: SocketAddr) -> Vec<UnusedAddress> {
        let keeps = |at: &SocketAddr| at.is_ipv4() != of.is_ipv4();
        self.further = self.waiting[..self.further].iter().filter(|at| keeps(at)).count();
        let (kept, passed_over) = std::mem::take(&mut self.waiting).into_iter().partition(keeps);
        self.waiting = kept;
        unused(passed_over, &UnusedReason::NoTurn)
    }

    /// None of them will be tried any more.
    pub(super) fn pass_over(&mut self, reason: &UnusedReason) -> Vec<UnusedAddress> {
        self.further = 0;
        unused(std::mem::take(&mut self.waiting), reason)
    }
}

/// Addresses whose turn will not come, in the order of their turns.
fn unused(waiting: Vec<SocketAddr>, reason: &UnusedReason) -> Vec<UnusedAddress> {
    waiting.iter().rev().map(|at| UnusedAddress { address: at.ip(), reason: reason.clone() }).collect()
}

/// Why a host has no address to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// A lookup failed.
    Failed,
    /// It has none.
    None,
}

/// What A and AAAA lookups gave; each is bounded first. What is bogus fails the host, whatever the other family
/// says (req B12, B13).
pub(super) fn resolved(lookups: &mut [DnsLookup], entropy: &mut dyn Entropy) -> Result<Vec<IpAddr>, Unresolved> {
    for lookup in lookups.iter_mut() {
        bound(lookup, entropy);
    }
    let found: Vec<IpAddr> = lookups.iter().flat_map(of).collect();
    let failed = lookups.iter().any(|lookup| matches!(lookup.outcome, DnsOutcome::Failed(_)));
    let bogus = |lookup: &DnsLookup| matches!(lookup.outcome, DnsOutcome::Failed(DnsFailure::Dnssec(_)));
    match (found.is_empty() || lookups.iter().any(bogus), failed) {
        (false, _) => Ok(found),
        (true, true) => Err(Unresolved::Failed),
        (true, false) => Err(Unresolved::None),
    }
}

/// Keeps a bounded, randomly begun run of a huge address set.
fn bound(lookup: &mut DnsLookup, entropy: &mut dyn Entropy) {
    let DnsOutcome::Answer(set) = &mut lookup.outcome else { return };
    if set.rdata.len() > ADDRESSES_KEPT_MAX {
        let first = (entropy.next_u64() % set.rdata.len() as u64) as usize;
        set.rdata.rotate_left(first);
        set.rdata.truncate(ADDRESSES_KEPT_MAX);
    }
}

/// Addresses in an A or AAAA answer. RDATA of another length is no address.
fn of(lookup: &DnsLookup) -> Vec<IpAddr> {
    let DnsOutcome::Answer(set) = &lookup.outcome else { return Vec::new() };
    set.rdata
        .iter()
        .filter_map(|rdata| match rdata.0.len() {
            4 => <[u8; 4]>::try_from(rdata.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(rdata.as_slice()).ok().map(IpAddr::from),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zero;

    impl Entropy for Zero {
        fn next_u64(&mut self) -> u64 {
            0
        }
    }

    fn drawn(addresses: &[&str]) -> (Vec<String>, Vec<String>) {
        let addresses = addresses.iter().map(|a| a.parse().expect("an address")).collect();
        let (mut candidates, unused) = Candidates::draw(addresses, 80, &AddressFilter::allowing(Vec::new()), &mut Zero);
        let order = std::iter::from_fn(|| candidates.take_next().map(|at| at.ip().to_string())).collect();
        (order, unused.into_iter().map(|u| format!("{} {:?}", u.address, u.reason)).collect())
    }

    #[test]
    fn ok_two_of_each_family_take_turns_and_ipv6_is_first() {
        for (found, order) in [
            (&["8.8.8.8"][..], &["8.8.8.8"][..]),
            (&["8.8.8.8", "8.8.8.9"], &["8.8.8.8", "8.8.8.9"]),
            (&["8.8.8.8", "2600::1"], &["2600::1", "8.8.8.8"]),
            (&["8.8.8.8", "8.8.8.9", "2600::1"], &["2600::1", "8.8.8.8", "8.8.8.9"]),
            (&["8.8.8.8", "2600::1", "8.8.8.9", "2600::2"], &["2600::1", "8.8.8.8", "2600::2", "8.8.8.9"]),
            (&["8.8.8.8", "8.8.8.8"], &["8.8.8.8"]),
        ] {
            assert_eq!(drawn(found), (order.iter().map(|a| (*a).to_owned()).collect(), Vec::new()), "{found:?}");
        }
    }

    #[test]
    fn ok_the_others_are_left_out_with_the_reason() {
        let (order, unused) = drawn(&["8.8.8.8", "10.0.0.1", "8.8.8.9", "8.8.8.10"]);
        assert_eq!(order, ["8.8.8.8", "8.8.8.9"]);
        assert_eq!(unused.len(), 2);
        assert!(unused[0].starts_with("10.0.0.1 Special") && unused[1] == "8.8.8.10 OtherDrawn", "{unused:?}");
    }

    #[test]
    fn ok_a_family_that_cannot_be_reached_has_no_second_turn() {
        let found = ["8.8.8.8", "8.8.8.9", "2600::1", "2600::2"].map(|a| a.parse().expect("an address"));
        let filter = AddressFilter::allowing(Vec::new());
        let (mut candidates, _) = Candidates::draw(found.to_vec(), 80, &filter, &mut Zero);
        let first = candidates.take_next().expect("four");
        let passed_over = candidates.pass_over_family(first);
        assert_eq!((passed_over.len(), passed_over[0].address), (1, found[3]));
        let order: Vec<IpAddr> = std::iter::from_fn(|| candidates.take_next().map(|at| at.ip())).collect();
        assert_eq!(order, found[..2]);
    }

    #[test]
    fn ok_further_addresses_take_nothing_from_the_first() {
        let found = ["8.8.8.8", "8.8.8.9", "2600::1", "2600::2"].map(|a| a.parse().expect("an address"));
        let filter = AddressFilter::allowing(Vec::new());
        let (mut candidates, _) = Candidates::draw(found.to_vec(), 80, &filter, &mut Zero);
        let (now, deadline) = (Micros(100), Micros(1_100));
        let shares: Vec<u64> = (0..4)
            .map(|_| {
                candidates.take_next().expect("four");
                candidates.share(now, deadline).0 - now.0
            })
            .collect();
        assert_eq!(shares, [500, 1_000, 500, 1_000]);
    }
}
