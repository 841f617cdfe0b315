//! The tally under a model checker: every interleaving of its threads, and every value that weak memory lets them read.
//!
//! The source of the tally is compiled once more, with the model checker's atomics in place of the real ones.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "the tally's source, of which the models use a part")]

#[path = "../src/tally.rs"]
mod tally;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};

    /// Hands over observations. The models give evidence without one, which goes through [`AtomicU8`] with relaxed
    /// order, so that only the word can publish it; this stands in for what they do not use, and orders nothing that
    /// the model checker knows of.
    pub(crate) struct Hand<T>(std::sync::Mutex<T>);

    impl<T: Default> Hand<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        pub(crate) fn store(&self, value: T) {
            *self.0.lock().expect("one thread at a time") = value;
        }

        pub(crate) fn take(&self) -> T {
            std::mem::take(&mut *self.0.lock().expect("one thread at a time"))
        }
    }
}

use loom::{sync::Arc, thread};
use parallax_validation::{
    base::perspective::Rir,
    verdict::{PerspectiveState, policy::PolicyTable, quorum::Quorum},
};
use tally::{Arrival, Evidence, Readiness, Tally};

/// Two remotes of which one must confirm: the smallest quorum there was.
fn tally() -> Tally {
    let at = "2025-09-20T00:00:00Z".parse().expect("an instant");
    let row = PolicyTable::builtin().row_at(at).expect("a row");
    let quorum = Quorum::new(row, &[Rir::Arin, Rir::Apnic]).expect("two do");
    Tally::new(Readiness { quorum, await_all_on_refusal: true, await_all_on_permission: false, primary_first: false })
}

fn evidence() -> Evidence {
    Evidence::None(PerspectiveState::TimedOut)
}

fn ready(arrival: &Arrival) -> bool {
    matches!(arrival, Arrival::Counted { ready: true })
}

/// Whoever is told that the attempt is ready closes it and finds all that made it so.
#[test]
fn the_one_who_is_told_finds_all_evidence_that_was_counted() {
    loom::model(|| {
        let tally = Arc::new(tally());
        let arrive = |index: usize| {
            let tally = Arc::clone(&tally);
            thread::spawn(move || {
                let arrival = tally.arrive(index, evidence(), true);
                if !ready(&arrival) {
                    return 0;
                }
                let snapshot = tally.close();
                for place in 0..3 {
                    let arrived = snapshot.arrived() & (1 << place) != 0;
                    assert_eq!(tally.take(snapshot, place).is_some(), arrived, "what is in the snapshot is there");
                }
                assert!(snapshot.arrived() & 1 != 0 && snapshot.arrived().count_ones() >= 2, "primary and one remote");
                1
            })
        };
        let (one, other) = (arrive(0), arrive(1));
        let told = one.join().expect("no panic") + other.join().expect("no panic");
        assert_eq!(told, 1, "exactly one is told");
    });
}

/// An answer and the giving up of the same perspective: one counts, the other comes back.
#[test]
fn of_two_claims_to_one_place_exactly_one_counts() {
    loom::model(|| {
        let tally = Arc::new(tally());
        let other = {
            let tally = Arc::clone(&tally);
            thread::spawn(move || matches!(tally.arrive(1, evidence(), false), Arrival::Counted { .. }))
        };
        let here = matches!(tally.arrive(1, evidence(), true), Arrival::Counted { .. });
        assert!(here ^ other.join().expect("no panic"));
        let snapshot = tally.close();
        assert_eq!(snapshot.arrived(), 0b10);
        assert!(tally.take(snapshot, 1).is_some());
    });
}

/// An answer that meets the close is in the snapshot with its evidence, or comes back with it: never both, never
/// neither.
#[test]
fn an_answer_that_meets_the_close_is_counted_or_comes_back() {
    loom::model(|| {
        let tally = Arc::new(tally());
        let answer = {
            let tally = Arc::clone(&tally);
            thread::spawn(move || match tally.arrive(2, evidence(), true) {
                Arrival::Counted { .. } => false,
                Arrival::Late(Evidence::None(state)) => {
                    assert_eq!(state, PerspectiveState::TimedOut, "its own evidence comes back");
                    true
                }
                Arrival::Late(Evidence::Observed(_)) => panic!("evidence that nobody gave"),
            })
        };
        let snapshot = tally.close();
        let taken = tally.take(snapshot, 2).is_some();
        let late = answer.join().expect("no panic");
        assert!(taken ^ late);
    });
}
