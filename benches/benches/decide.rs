//! Stage `verdict` and `record`: settling, deciding, making the record and recomputing it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{checksum, decided, record, replies, request, rules, started, terms};
use parallax_validation::{
    check::dcv::Method,
    record::{Record, Reply, Rules, evaluate},
    verdict::{
        PerspectiveState, Verdict, decide,
        quorum::{Quorum, Settlement},
    },
};

fn benches(criterion: &mut Criterion) {
    let rules = rules();
    let (quorum, _) =
        rules.quorum(&request(Method::Http01), &[0, 1, 2, 3, 4, 5], started(), decided()).expect("five remotes do");
    bench_settle(criterion, quorum);
    bench_decide(criterion, &rules, quorum);
    bench_record(criterion, &rules);
}

/// All 243 states of five remotes: each has confirmed, refused, or is pending.
fn bench_settle(criterion: &mut Criterion, quorum: Quorum) {
    let all = 0..=quorum.all();
    let states: Vec<(u16, u16)> = all
        .clone()
        .flat_map(|confirmed| all.clone().map(move |refused| (confirmed, refused)))
        .filter(|(confirmed, refused)| confirmed & refused == 0)
        .collect();
    let settled: Vec<Settlement> =
        states.iter().map(|(confirmed, refused)| quorum.settle(*confirmed, *refused)).collect();
    let count = |wanted: fn(&Settlement) -> bool| settled.iter().filter(|settlement| wanted(settlement)).count();
    // Four or five confirm: 1 + 5 · 2 states. Two or more refuse: all 243 but 32 with none and 5 · 16 with one.
    assert_eq!(count(|s| *s == Settlement::Corroborated), 11);
    assert_eq!(count(|s| matches!(s, Settlement::NotCorroborated(_))), 131);
    assert_eq!(count(|s| *s == Settlement::Open), 101);
    checksum("decide/settle_243_states", &settled);

    let mut group = criterion.benchmark_group("decide");
    group.throughput(Throughput::Elements(states.len() as u64));
    group.bench_function("settle_243_states", |bencher| {
        bencher.iter(|| {
            for (confirmed, refused) in &states {
                black_box(black_box(&quorum).settle(*confirmed, *refused));
            }
        });
    });
    group.finish();
}

/// Six determined answers, of which one remote's is missing.
fn bench_decide(criterion: &mut Criterion, rules: &Rules, quorum: Quorum) {
    let mut replies = replies(Method::Http01);
    replies[5] = Reply::None(PerspectiveState::TimedOut);
    let request = request(Method::Http01);
    let answers = evaluate(rules, &terms(&request), decided(), &replies).answers;
    let verdict = decide(&quorum, &answers[0], &answers[1..]);
    let Verdict::Corroborated(figures) = &verdict else { panic!("four of five suffice: {verdict:?}") };
    for figure in [figures.control.as_ref(), figures.caa.as_ref(), Some(&figures.joint)] {
        let figure = figure.expect("control and CAA were asked");
        assert_eq!((figure.confirmed, figure.attempted, figure.rirs.len()), (4, 5, 4));
    }
    checksum("decide/decide", &verdict);
    criterion.bench_function("decide/decide", |bencher| {
        bencher.iter(|| decide(black_box(&quorum), black_box(&answers[0]), black_box(&answers[1..])));
    });
}

fn bench_record(criterion: &mut Criterion, rules: &Rules) {
    let (request, replies) = (request(Method::Http01), replies(Method::Http01));
    let record = record(rules);
    assert!(record.verdict.permits());
    assert_eq!(record.perspectives.len(), 6);
    for (entry, reply) in record.perspectives.iter().zip(&replies) {
        let Reply::Observed(observation) = reply else { panic!("all have answered") };
        assert_eq!((entry.control, entry.caa, entry.observation.as_ref()), (Some(true), Some(true), Some(observation)));
    }
    assert_eq!(record.recompute(rules), Ok(()));
    let mut forged = record.clone();
    forged.perspectives[3].observation = Some(parallax_benches::observation(Method::Dns01));
    assert!(forged.recompute(rules).is_err(), "evidence is judged again");
    checksum("decide/record", &record);

    let (terms, decided) = (terms(&request), decided());
    criterion.bench_function("decide/record_new", |bencher| {
        bencher.iter_batched(
            || replies.clone(),
            |replies| Record::new(rules, black_box(&terms), decided, replies),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("decide/record_recompute", |bencher| {
        bencher.iter(|| black_box(&record).recompute(black_box(rules)));
    });
}

criterion_group!(group, benches);
criterion_main!(group);
