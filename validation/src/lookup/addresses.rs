//! Which addresses of a host are connected to: one of each family, IPv6 first, none that is forbidden.

use std::net::{IpAddr, SocketAddr};

use crate::{
    base::{Entropy, address::AddressFilter, limits::ADDRESSES_KEPT_MAX},
    observation::{DnsFailure, DnsLookup, DnsOutcome, UnusedAddress, UnusedReason},
};

/// The addresses that will be tried, and those that will not.
pub(super) struct Drawn {
    /// One IPv4 and one IPv6 address at most, the next one last.
    pub(super) candidates: Vec<SocketAddr>,
    /// The others, and why.
    pub(super) unused: Vec<UnusedAddress>,
}

/// Picks one address of each family, IPv6 first.
pub(super) fn draw(addresses: Vec<IpAddr>, port: u16, filter: &AddressFilter, entropy: &mut dyn Entropy) -> Drawn {
    let mut unused = Vec::new();
    let mut allowed = Vec::with_capacity(addresses.len());
    for address in addresses {
        match filter.forbids(address) {
            None => allowed.push(address),
            Some(block) => {
                let reason = UnusedReason::Special(format!("{} ({})", block.prefix, block.purpose));
                unused.push(UnusedAddress { address, reason });
            }
        }
    }
    let mut candidates = Vec::new();
    for family_is_v4 in [true, false] {
        let family: Vec<IpAddr> = allowed.iter().copied().filter(|a| a.is_ipv4() == family_is_v4).collect();
        if family.is_empty() {
            continue;
        }
        let drawn = (entropy.next_u64() % family.len() as u64) as usize;
        candidates.push(SocketAddr::new(family[drawn], port));
        let others = family.iter().enumerate().filter(|(index, _)| *index != drawn);
        unused.extend(others.map(|(_, &address)| UnusedAddress { address, reason: UnusedReason::OtherDrawn }));
    }
    Drawn { candidates, unused }
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
