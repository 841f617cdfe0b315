//! Who is next on the way: hardware addresses of neighbours, asked for by ARP
//! (RFC 826) and neighbour discovery (RFC 4861).
//!
//! Leaves out composing and reading those packets, and what waits for an
//! answer.
//!
//! - Invariant: only an answer to a question that is open changes an address.
//! - Invariant: an entry that nobody uses goes at the next sweep, so the table
//!   is no longer than what was used in the last minutes, and never longer
//!   than `HOPS_MAX`.

use std::collections::HashMap;
use std::net::IpAddr;

use smoltcp::wire::EthernetAddress;

use super::clock::Micros;

/// Entries at a time.
const HOPS_MAX: usize = 65_536;
/// How long an answer is believed without asking again.
const FRESH: Micros = Micros::from_secs(30);
/// Between two questions, and after the last (RFC 4861 §10: RETRANS_TIMER).
const ASK_EVERY: Micros = Micros::from_secs(1);
/// Questions before a neighbour counts as gone (MAX_UNICAST_SOLICIT).
const ASKS_MAX: u8 = 3;

struct Hop {
    hardware: Option<EthernetAddress>,
    confirmed: Micros,
    used: Micros,
    /// Questions sent since the last answer; 0 if none is open.
    asked: u8,
    ask_again: Micros,
}

/// What is known of a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its address; and whether the caller should ask again meanwhile.
    Yes(EthernetAddress, Ask),
    /// Not yet; and whether the caller should ask now.
    NotYet(Ask),
    /// There are too many.
    Never,
}

/// Whether to send a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Now,
    No,
}

/// What came of the time an answer had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Nothing to be done.
    Nothing,
    /// Ask again.
    Ask,
    /// Nobody is there: what waits has failed.
    Gone,
}

pub(super) struct Hops {
    table: HashMap<IpAddr, Hop>,
    swept: Micros,
}

impl Hops {
    pub(super) fn new() -> Hops {
        Hops { table: HashMap::new(), swept: Micros(0) }
    }

    /// Looks a hop up for use.
    pub(super) fn find(&mut self, address: IpAddr, now: Micros) -> Known {
        if let Some(hop) = self.table.get_mut(&address) {
            hop.used = now;
            let due = hop.asked == 0 && now.since(hop.confirmed) >= FRESH;
            if due {
                hop.ask(now);
            }
            let ask = if due { Ask::Now } else { Ask::No };
            return hop.hardware.map_or(Known::NotYet(ask), |hardware| Known::Yes(hardware, ask));
        }
        self.sweep(now);
        if self.table.len() >= HOPS_MAX {
            return Known::Never;
        }
        let mut hop = Hop { hardware: None, confirmed: Micros(0), used: now, asked: 0, ask_again: now };
        hop.ask(now);
        self.table.insert(address, hop);
        Known::NotYet(Ask::Now)
    }

    /// An answer. True if it was asked for.
    pub(super) fn confirm(&mut self, address: IpAddr, hardware: EthernetAddress, now: Micros) -> bool {
        let Some(hop) = self.table.get_mut(&address).filter(|hop| hop.asked > 0) else { return false };
        if !hardware.is_unicast() {
            return false;
        }
        hop.hardware = Some(hardware);
        hop.confirmed = now;
        hop.asked = 0;
        true
    }

    /// When to call [`Hops::expire`] for a hop that was asked.
    pub(super) fn deadline(&self, address: IpAddr) -> Option<Micros> {
        self.table.get(&address).filter(|hop| hop.asked > 0).map(|hop| hop.ask_again)
    }

    pub(super) fn expire(&mut self, address: IpAddr, now: Micros) -> Expired {
        let Some(hop) = self.table.get_mut(&address) else { return Expired::Nothing };
        if hop.asked == 0 || now < hop.ask_again {
            return Expired::Nothing;
        }
        if hop.asked < ASKS_MAX {
            hop.ask(now);
            return Expired::Ask;
        }
        self.table.remove(&address);
        Expired::Gone
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Forgets what was not used for long.
    fn sweep(&mut self, now: Micros) {
        if now.since(self.swept) >= FRESH {
            self.swept = now;
            self.table.retain(|_, hop| hop.asked > 0 || now.since(hop.used) < FRESH);
        }
    }
}

impl Hop {
    fn ask(&mut self, now: Micros) {
        self.asked += 1;
        self.ask_again = now.plus(ASK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const FIRST: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const SECOND: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    fn at(seconds: u64) -> Micros {
        Micros::from_secs(seconds)
    }

    #[test]
    fn an_answer_counts_only_while_a_question_is_open() {
        let mut hops = Hops::new();
        assert!(!hops.confirm(PEER, FIRST, at(0)), "nobody asked");
        assert_eq!(hops.find(PEER, at(1)), Known::NotYet(Ask::Now));
        assert_eq!(hops.find(PEER, at(1)), Known::NotYet(Ask::No));
        assert!(!hops.confirm(PEER, EthernetAddress::BROADCAST, at(1)), "no host has that address");
        assert!(hops.confirm(PEER, FIRST, at(1)));
        assert!(!hops.confirm(PEER, SECOND, at(1)), "a second answer");
        assert_eq!(hops.find(PEER, at(30)), Known::Yes(FIRST, Ask::No));
        assert_eq!(hops.find(PEER, at(31)), Known::Yes(FIRST, Ask::Now), "used while it is asked again");
        assert!(hops.confirm(PEER, SECOND, at(31)));
        assert_eq!(hops.find(PEER, at(32)), Known::Yes(SECOND, Ask::No));
    }

    #[test]
    fn three_questions_without_an_answer_end_it() {
        let mut hops = Hops::new();
        assert_eq!(hops.find(PEER, at(0)), Known::NotYet(Ask::Now));
        assert_eq!(hops.deadline(PEER), Some(at(1)));
        assert_eq!(hops.expire(PEER, Micros(999_999)), Expired::Nothing);
        assert_eq!(hops.expire(PEER, at(1)), Expired::Ask);
        assert_eq!(hops.expire(PEER, at(2)), Expired::Ask);
        assert_eq!(hops.expire(PEER, at(3)), Expired::Gone);
        assert_eq!(hops.deadline(PEER), None);
        assert_eq!(hops.find(PEER, at(3)), Known::NotYet(Ask::Now), "the next use asks again");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_is_not_used() {
        let mut hops = Hops::new();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..HOPS_MAX as u32 {
            assert_eq!(hops.find(address(n), at(100)), Known::NotYet(Ask::Now));
            assert!(hops.confirm(address(n), FIRST, at(100)));
        }
        assert_eq!(hops.find(address(u32::MAX), at(101)), Known::Never);
        assert_eq!(hops.find(address(7), at(129)), Known::Yes(FIRST, Ask::No));
        assert_eq!(hops.find(address(u32::MAX), at(131)), Known::NotYet(Ask::Now));
        assert_eq!(hops.table.len(), 2, "the one used lately and the new one");
    }
}
