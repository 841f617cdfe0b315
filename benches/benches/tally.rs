//! Stage `verdict`, counting: an observation arrives in an attempt of six perspectives.

use std::{
    thread,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use parallax_benches::{StartLine, checksum, decided, observation, request, rules, started};
use parallax_engine::tally::{Arrival, Evidence, Readiness, Tally};
use parallax_validation::{check::dcv::Method, observation::Observation, verdict::PerspectiveState};

/// Attempts prepared at a time: enough to time them, few enough to stay in the cache.
const BATCH: u64 = 256;

fn benches(criterion: &mut Criterion) {
    let rules = rules();
    let (quorum, _) =
        rules.quorum(&request(Method::Http01), &[0, 1, 2, 3, 4, 5], started(), decided()).expect("five remotes do");
    let readiness =
        Readiness { quorum, await_all_on_refusal: true, await_all_on_permission: false, primary_first: true };
    let seen = observation(Method::Http01);
    check(readiness, &seen);

    let mut group = criterion.benchmark_group("tally");
    for (name, before) in [("arrive_open", 1), ("arrive_ready", 4)] {
        group.bench_function(name, |bencher| {
            let setup = || (tally(readiness, before), observed(&seen));
            bencher.iter_batched(
                setup,
                |(tally, evidence)| (tally.arrive(before, evidence, true), tally),
                BatchSize::NumIterations(BATCH),
            );
        });
    }
    // One iteration is one attempt with two arrivals, one from each thread.
    group.bench_function("arrive_two_threads", |bencher| {
        bencher.iter_custom(|attempts| {
            let batches = (0..attempts).step_by(BATCH as usize).map(|from| BATCH.min(attempts - from));
            batches.map(|batch| contend(readiness, &seen, batch)).sum()
        });
    });
    group.finish();
}

/// An attempt in which perspectives 0 up to `confirmed` have confirmed already.
fn tally(readiness: Readiness, confirmed: usize) -> Tally {
    let tally = Tally::new(readiness);
    for index in 0..confirmed {
        tally.arrive(index, Evidence::None(PerspectiveState::TimedOut), true);
    }
    tally
}

fn observed(seen: &Observation) -> Evidence {
    Evidence::Observed(Box::new(seen.clone()))
}

/// Perspectives 3 and 4 of each attempt answer from two threads at once. The time is that from the later
/// start to the later end.
fn contend(readiness: Readiness, seen: &Observation, attempts: u64) -> Duration {
    let tallies: Vec<Tally> = (0..attempts).map(|_| tally(readiness, 3)).collect();
    let line = StartLine::default();
    let run = |index: usize| {
        let evidence: Vec<Evidence> = tallies.iter().map(|_| observed(seen)).collect();
        let mut ready = 0;
        line.wait(2);
        let start = Instant::now();
        for (tally, evidence) in tallies.iter().zip(evidence) {
            ready += u64::from(matches!(tally.arrive(index, evidence, true), Arrival::Counted { ready: true }));
        }
        (start, Instant::now(), ready)
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| run(4));
        (run(3), other.join().expect("the other thread does not panic"))
    });
    assert_eq!(one.2 + other.2, attempts, "each attempt becomes ready by exactly one of the two");
    one.1.max(other.1).duration_since(one.0.max(other.0))
}

fn check(readiness: Readiness, seen: &Observation) {
    let tally = Tally::new(readiness);
    let ready: Vec<bool> = (0..6)
        .map(|index| match tally.arrive(index, observed(seen), true) {
            Arrival::Counted { ready } => ready,
            Arrival::Late(_) => panic!("{index} is late"),
        })
        .collect();
    assert_eq!(ready, [false, false, false, false, true, false], "the fourth remote of five makes it ready");
    let snapshot = tally.close();
    assert_eq!(snapshot.arrived(), 0b11_1111);
    let kept: Vec<Option<Evidence>> = (0..6).map(|index| tally.take(snapshot, index)).collect();
    let whole = |evidence: &Option<Evidence>| matches!(evidence, Some(Evidence::Observed(kept)) if **kept == *seen);
    assert!(kept.iter().all(whole), "the evidence is handed on whole");
    checksum("tally", &(ready, kept));
}

criterion_group!(group, benches);
criterion_main!(group);
