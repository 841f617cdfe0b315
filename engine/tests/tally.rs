//! The count of one attempt: ready exactly once, nothing counted twice, late answers given back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parallax_engine::tally::{Arrival, Evidence, Readiness, Tally};
use parallax_validation::{
    base::perspective::Rir,
    verdict::{PerspectiveState, policy::PolicyTable, quorum::Quorum},
};

fn readiness(await_all_on_refusal: bool, primary_first: bool) -> Readiness {
    let at = "2026-11-25T00:00:00Z".parse().expect("a timestamp");
    let row = PolicyTable::builtin().row_at(at).expect("a row");
    let rirs = [Rir::Arin, Rir::RipeNcc, Rir::Apnic, Rir::Lacnic, Rir::Afrinic];
    Readiness {
        quorum: Quorum::new(row, &rirs).expect("five do"),
        await_all_on_refusal,
        await_all_on_permission: false,
        primary_first,
    }
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
