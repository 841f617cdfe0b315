//! Stage `lookup`, whole: a perspective's task from its plan to its observation, every packet answered at once.
//! http-01, dns-01 and the contact climb, each with its CAA climb; no I/O.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use parallax_benches::{
    NAME, checksum,
    task::{contact_climb, plan, run, settings},
};
use parallax_validation::{
    check::dcv::Method,
    lookup::dnssec::chain::ZoneCache,
    observation::{ControlObservation, HttpOutcome},
};

fn benches(criterion: &mut Criterion) {
    let settings = settings();
    let mut zones = ZoneCache::default();
    let mut group = criterion.benchmark_group("task");
    for (label, plan) in
        [("http-01", plan(Method::Http01)), ("dns-01", plan(Method::Dns01)), ("contact-caa", contact_climb())]
    {
        let seen = run(&plan, &settings, &mut zones);
        assert_eq!(seen.caa.len(), 3, "the whole climb of {NAME}");
        match (label, &seen.control) {
            ("http-01", Some(ControlObservation::Http(fetch))) => {
                assert!(matches!(fetch.outcome, HttpOutcome::Response { status: 200, .. }), "{fetch:?}");
            }
            ("dns-01", Some(ControlObservation::Record(_))) | ("contact-caa", Some(ControlObservation::Climb(_))) => {}
            (label, other) => panic!("{label}: {other:?}"),
        }
        checksum(&format!("task/{label}"), &seen);
        group.bench_function(label, |bencher| bencher.iter(|| run(black_box(&plan), &settings, &mut zones)));
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
