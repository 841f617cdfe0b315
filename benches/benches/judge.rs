//! Stage `check`: judging one perspective's observation, control and CAA.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use parallax_benches::{checksum, observation, request, rules};
use parallax_validation::{
    base::perspective::Role,
    check::{Finding, caa::CaaFinding, dcv::Method, judge},
    observation::Observation,
};

fn benches(criterion: &mut Criterion) {
    let policy = rules().setup().caa.clone();
    let mut group = criterion.benchmark_group("judge");
    for method in [Method::Http01, Method::Dns01, Method::DnsPersist01, Method::TlsAlpn01] {
        let (request, observation) = (request(method), observation(method));
        let determination = judge(&request, &observation, &policy, Role::Remote);
        assert_eq!(determination.control, Some(Finding::Confirmed));
        let Some(CaaFinding::Decided { level, decision, .. }) = &determination.caa else {
            panic!("the parent's set decides, not {:?}", determination.caa);
        };
        assert_eq!((level.as_str(), decision.permitted, decision.records.len()), ("customer.example", true, 4));
        let nothing = Observation { control: None, caa: Vec::new(), ..observation.clone() };
        assert!(!judge(&request, &nothing, &policy, Role::Remote).confirms(), "without evidence nothing is confirmed");
        checksum(&format!("judge/{method}"), &determination);
        group.bench_function(method.label(), |bencher| {
            bencher.iter(|| judge(black_box(&request), black_box(&observation), &policy, Role::Remote));
        });
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
