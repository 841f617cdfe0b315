//! The lock-free count of one attempt: one word, three bits for each perspective.
//!
//! A writer first *claims* its perspective, which only one ever can, so a duplicate never counts twice;
//! then it puts the evidence in place; then it sets the answer's bit, which publishes the evidence. The
//! decider *closes* the word and reads what was published by then; an answer whose bit is set after the
//! close is late. The thread whose bit makes the attempt ready is told so, and it is the only one.
//!
//! An attempt is owned by reference counting and not kept in an arena that is used again: no slot can be
//! mistaken for another, so the word needs no generation (see docs/decisions/0003).
//!
//! Bit layout: perspective `i` of the cohort, the primary being 0, has bit `i` of each 16-bit lane:
//! claimed, confirmed, refused. Bit 48 is the close.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::atomic::AtomicCell;
use parallax_validation::{
    observation::Observation,
    verdict::{
        PerspectiveState,
        quorum::{Quorum, Settlement},
    },
};

const LANE: u32 = 16;
const CLOSED: u64 = 1 << 48;

/// What a perspective contributed.
#[derive(Debug)]
pub enum Evidence {
    /// What it saw.
    Observed(Box<Observation>),
    /// Nothing, and why.
    None(PerspectiveState),
}

/// Whether an attempt's answers suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The counting rule.
    pub quorum: Quorum,
    /// Whether a refusal waits for every remote that was asked.
    pub await_all_on_refusal: bool,
    /// Whether remotes are asked only once the primary has confirmed.
    pub primary_first: bool,
}

/// What became of an answer.
#[derive(Debug)]
pub enum Arrival {
    /// It counts.
    Counted {
        /// This answer made the attempt ready: hand it to the decider.
        ready: bool,
    },
    /// It came after the close, or its perspective had been given up.
    Late(Evidence),
}

/// What stood in the word at the close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot(u64);

impl Snapshot {
    /// Perspectives whose answer was published, as a mask with the primary at bit 0.
    #[must_use]
    pub fn arrived(self) -> u16 {
        lane(self.0, 1) | lane(self.0, 2)
    }
}

/// The count of one attempt.
pub struct Tally {
    word: AtomicU64,
    readiness: Readiness,
    evidence: Box<[AtomicCell<Option<Box<Evidence>>>]>,
}

impl Tally {
    /// A count of nothing yet.
    #[must_use]
    pub fn new(readiness: Readiness) -> Self {
        let perspectives = usize::from(readiness.quorum.remotes()) + 1;
        let evidence = (0..perspectives).map(|_| AtomicCell::new(None)).collect();
        Self { word: AtomicU64::new(0), readiness, evidence }
    }

    /// Counts an answer of perspective `index`. `confirms` is its joint result.
    pub fn arrive(&self, index: usize, evidence: Evidence, confirms: bool) -> Arrival {
        let bit = |lane: u32| 1u64 << (lane * LANE + index as u32);
        // AcqRel: pairs with itself; whoever sees the bit set knows another writer owns the cell.
        if self.word.fetch_or(bit(0), Ordering::AcqRel) & (bit(0) | CLOSED) != 0 {
            return Arrival::Late(evidence);
        }
        self.evidence[index].store(Some(Box::new(evidence)));
        // AcqRel: the release publishes the evidence to the acquiring close in `close`.
        let before = self.word.fetch_or(bit(if confirms { 1 } else { 2 }), Ordering::AcqRel);
        if before & CLOSED != 0 {
            let evidence = self.evidence[index].take().map(|evidence| *evidence);
            return Arrival::Late(evidence.unwrap_or(Evidence::None(PerspectiveState::Cancelled)));
        }
        let after = before | bit(if confirms { 1 } else { 2 });
        Arrival::Counted { ready: !self.readiness.holds(before) && self.readiness.holds(after) }
    }

    /// Whether perspective `index` has answered or been given up.
    #[must_use]
    pub fn is_claimed(&self, index: usize) -> bool {
        // Acquire: pairs with the claim in `arrive`; only the bit itself is read.
        self.word.load(Ordering::Acquire) & (1 << index) != 0
    }

    /// Whether the count is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // Acquire: pairs with the close; only the bit itself is read.
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Whether the primary has confirmed.
    #[must_use]
    pub fn primary_confirmed(&self) -> bool {
        // Acquire: pairs with the publication in `arrive`.
        lane(self.word.load(Ordering::Acquire), 1) & 1 != 0
    }

    /// Closes the count; what is not in the snapshot is late.
    pub fn close(&self) -> Snapshot {
        // AcqRel: acquires every published answer's evidence; answers that follow see the close.
        Snapshot(self.word.fetch_or(CLOSED, Ordering::AcqRel))
    }

    /// Takes the evidence of a perspective that is in the snapshot.
    #[must_use]
    pub fn take(&self, snapshot: Snapshot, index: usize) -> Option<Evidence> {
        if snapshot.arrived() & (1 << index) == 0 {
            return None;
        }
        self.evidence[index].take().map(|evidence| *evidence)
    }
}

fn lane(word: u64, lane: u32) -> u16 {
    (word >> (lane * LANE)) as u16
}

impl Readiness {
    /// Monotone in the word: once it holds it holds for every later one.
    fn holds(&self, word: u64) -> bool {
        let (confirmed, refused) = (lane(word, 1), lane(word, 2));
        let remotes_done = (confirmed | refused) >> 1 == self.quorum.all();
        if refused & 1 != 0 {
            return self.primary_first || !self.await_all_on_refusal || remotes_done;
        }
        if confirmed & 1 == 0 {
            return false;
        }
        match self.quorum.settle(confirmed >> 1, refused >> 1) {
            Settlement::Corroborated => true,
            Settlement::NotCorroborated(_) => remotes_done || !self.await_all_on_refusal,
            Settlement::Open => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use parallax_validation::{base::perspective::Rir, verdict::policy::PolicyTable};

    use super::*;

    fn readiness(await_all_on_refusal: bool, primary_first: bool) -> Readiness {
        let at = "2026-11-25T00:00:00Z".parse().expect("a timestamp");
        let row = PolicyTable::builtin().row_at(at).expect("a row");
        let rirs = [Rir::Arin, Rir::RipeNcc, Rir::Apnic, Rir::Lacnic, Rir::Afrinic];
        Readiness { quorum: Quorum::new(row, &rirs).expect("five do"), await_all_on_refusal, primary_first }
    }

    fn evidence() -> Evidence {
        Evidence::None(PerspectiveState::TimedOut)
    }

    fn ready(tally: &Tally, index: usize, confirms: bool) -> bool {
        match tally.arrive(index, evidence(), confirms) {
            Arrival::Counted { ready } => ready,
            Arrival::Late(_) => panic!("{index} is late"),
        }
    }

    #[test]
    fn a_permission_is_ready_as_soon_as_it_cannot_change() {
        let tally = Tally::new(readiness(true, true));
        assert!(!ready(&tally, 0, true));
        for index in 1..4 {
            assert!(!ready(&tally, index, true));
        }
        assert!(ready(&tally, 4, true));
        assert!(!ready(&tally, 5, true), "ready only once");
    }

    #[test]
    fn a_refusal_waits_for_the_rest_only_if_told_so() {
        for (await_all, at) in [(true, 5), (false, 2)] {
            let tally = Tally::new(readiness(await_all, true));
            assert!(!ready(&tally, 0, true));
            let became: Vec<usize> = (1..=5).filter(|&index| ready(&tally, index, index > 2)).collect();
            assert_eq!(became, [at]);
        }
    }

    #[test]
    fn a_refusing_primary_ends_the_attempt() {
        assert!(ready(&Tally::new(readiness(true, true)), 0, false));
        assert!(!ready(&Tally::new(readiness(true, false)), 0, false), "in parallel the remotes are asked too");
    }

    #[test]
    fn a_duplicate_never_counts_twice_and_a_late_answer_comes_back() {
        let tally = Tally::new(readiness(true, true));
        assert!(!ready(&tally, 1, true));
        assert!(matches!(tally.arrive(1, evidence(), false), Arrival::Late(_)));
        let snapshot = tally.close();
        assert_eq!(snapshot.arrived(), 0b10);
        assert!(tally.take(snapshot, 1).is_some() && tally.take(snapshot, 2).is_none());
        assert!(matches!(tally.arrive(2, evidence(), true), Arrival::Late(_)));
    }

    #[test]
    fn in_every_order_and_from_many_threads_exactly_one_answer_makes_it_ready() {
        for round in 0..300_u64 {
            let tally = Arc::new(Tally::new(readiness(round % 2 == 0, false)));
            let times_ready = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for index in 0..6 {
                    let (tally, times_ready) = (Arc::clone(&tally), &times_ready);
                    scope.spawn(move || {
                        let confirms = round >> index & 1 == 0;
                        if matches!(tally.arrive(index, evidence(), confirms), Arrival::Counted { ready: true }) {
                            times_ready.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(times_ready.load(Ordering::Relaxed), 1, "round {round}");
        }
    }
}
