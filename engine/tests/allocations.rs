//! The path of an observation through the tally allocates nothing.

use parallax_engine::tally::{Arrival, Evidence, Readiness, Tally};
use parallax_validation::{
    base::perspective::Rir,
    observation::{DnssecMode, Observation},
    verdict::{policy::PolicyTable, quorum::Quorum},
};

fn readiness() -> Readiness {
    let at = "2026-12-20T00:00:00Z".parse().expect("an instant");
    let row = PolicyTable::builtin().row_at(at).expect("a row");
    let rirs = [Rir::Arin, Rir::RipeNcc, Rir::Apnic, Rir::Lacnic, Rir::Afrinic];
    Readiness {
        quorum: Quorum::new(row, &rirs).expect("five do"),
        await_all_on_refusal: true,
        await_all_on_permission: false,
        primary_first: true,
    }
}

fn observation() -> Box<Observation> {
    Box::new(Observation {
        started: "2026-12-20T00:00:00Z".parse().expect("an instant"),
        elapsed_us: 1,
        control: None,
        derivation: Vec::new(),
        caa: Vec::new(),
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::Resolver,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    })
}

#[test]
fn an_observation_is_counted_and_handed_over_without_an_allocation() {
    const ATTEMPTS: usize = 100;
    let made = allocation_counter::measure(|| drop(observation()));
    assert!(made.count_total > 0, "the counter counts");
    let tallies: Vec<Tally> = (0..ATTEMPTS).map(|_| Tally::new(readiness())).collect();
    let mut seen: Vec<Box<Observation>> = (0..ATTEMPTS * 6).map(|_| observation()).collect();
    let mut back: Vec<Evidence> = Vec::with_capacity(ATTEMPTS * 6);
    let mut ready = 0;
    let counted = allocation_counter::measure(|| {
        for tally in &tallies {
            for index in 0..6 {
                let evidence = Evidence::Observed(seen.pop().expect("one for each"));
                ready += usize::from(matches!(tally.arrive(index, evidence, true), Arrival::Counted { ready: true }));
            }
            let snapshot = tally.close();
            back.extend((0..6).filter_map(|index| tally.take(snapshot, index)));
        }
    });
    assert_eq!((ready, back.len()), (ATTEMPTS, ATTEMPTS * 6));
    assert_eq!(counted.count_total, 0, "{} allocations for {} observations", counted.count_total, ATTEMPTS * 6);
}
