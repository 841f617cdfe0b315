//! Stage `check`, CAA: deciding about a small set and about one of 1001 records.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{ACCOUNT_URI, caa_rdata, checksum, large_caa_rdata, rules};
use parallax_validation::check::caa::authorize::{CaaContext, CaaRule, CaaSubject, authorize};

fn benches(criterion: &mut Criterion) {
    let policy = rules().setup().caa.clone();
    let context = CaaContext {
        subject: CaaSubject::Name,
        account_uri: Some(ACCOUNT_URI),
        method_labels: parallax_validation::check::dcv::Method::Http01.caa_labels(),
    };
    let mut group = criterion.benchmark_group("caa_authorize");
    for (name, set, authorizing) in [("4_records", caa_rdata(), 0), ("1001_records", large_caa_rdata(1001), 1000)] {
        let set: Vec<&[u8]> = set.iter().map(Vec::as_slice).collect();
        let decision = authorize(&set, &policy, &context);
        assert!(decision.permitted);
        assert!(
            matches!(decision.rule, CaaRule::Authorized { record, .. } if record == authorizing),
            "{}",
            decision.rule
        );
        assert_eq!(decision.records.len(), set.len(), "each record has its finding");
        checksum(&format!("caa_authorize/{name}"), &decision);
        group.throughput(Throughput::Elements(set.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| authorize(black_box(&set), &policy, black_box(&context))));
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
