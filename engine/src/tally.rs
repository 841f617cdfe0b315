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

use parallax_validation::{
    observation::Observation,
    verdict::{
        PerspectiveState,
        policy::REMOTES_MAX,
        quorum::{Quorum, Settlement},
    },
};

use crate::sync::{AtomicU8, AtomicU64, Hand, Ordering};

const LANE: u32 = 16;
const CLOSED: u64 = 1 << 48;
/// A primary and its remotes.
const PLACES: usize = REMOTES_MAX as usize + 1;
const _: () = assert!(PLACES as u32 <= LANE, "a lane has a bit for every place");

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
    /// Whether a permission does.
    pub await_all_on_permission: bool,
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

/// What one perspective contributed, handed over by the bit of its answer.
struct Place {
    /// Zero if it was an observation, else which of [`STATES`] it was, counted from one. Relaxed suffices: the word's
    /// bit publishes it.
    state: AtomicU8,
    observation: Hand<Option<Box<Observation>>>,
}

/// States without an observation.
const STATES: [PerspectiveState; 3] =
    [PerspectiveState::TimedOut, PerspectiveState::RejectedReply, PerspectiveState::Cancelled];

impl Place {
    fn put(&self, evidence: Evidence) {
        match evidence {
            Evidence::Observed(observation) => self.observation.store(Some(observation)),
            Evidence::None(state) => {
                let number = STATES.iter().position(|known| *known == state).unwrap_or(STATES.len() - 1);
                self.state.store(number as u8 + 1, Ordering::Relaxed);
            }
        }
    }

    fn take(&self) -> Option<Evidence> {
        match self.state.load(Ordering::Relaxed) {
            0 => self.observation.take().map(Evidence::Observed),
            number => STATES.get(usize::from(number) - 1).copied().map(Evidence::None),
        }
    }
}

/// The count of one attempt.
pub struct Tally {
    word: AtomicU64,
    readiness: Readiness,
    places: [Place; PLACES],
}

impl Tally {
    /// A count of nothing yet.
    #[must_use]
    pub fn new(readiness: Readiness) -> Self {
        let place = |_| Place { state: AtomicU8::new(0), observation: Hand::new(None) };
        Self { word: AtomicU64::new(0), readiness, places: std::array::from_fn(place) }
    }

    /// Counts an answer of perspective `index`. `confirms` is its joint result. Allocates nothing.
    pub fn arrive(&self, index: usize, evidence: Evidence, confirms: bool) -> Arrival {
        let bit = |lane: u32| 1u64 << (lane * LANE + index as u32);
        // AcqRel: pairs with itself; whoever sees the bit set knows another writer owns the place.
        if self.word.fetch_or(bit(0), Ordering::AcqRel) & (bit(0) | CLOSED) != 0 {
            return Arrival::Late(evidence);
        }
        self.places[index].put(evidence);
        // AcqRel: the release publishes the evidence to the acquiring close in `close`.
        let before = self.word.fetch_or(bit(if confirms { 1 } else { 2 }), Ordering::AcqRel);
        if before & CLOSED != 0 {
            // Nobody else takes from this place: it is not in the snapshot.
            let evidence = self.places[index].take();
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
        self.places[index].take()
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
            Settlement::Corroborated => remotes_done || !self.await_all_on_permission,
            Settlement::NotCorroborated(_) => remotes_done || !self.await_all_on_refusal,
            Settlement::Open => false,
        }
    }
}
