//! Stage `lookup`, HTTP: reading a typical response from one segment and from three.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{HTTP_RESPONSE, KEY_AUTHORIZATION, checksum};
use parallax_validation::lookup::http::response::{Progress, Response};

fn benches(criterion: &mut Criterion) {
    let whole = HTTP_RESPONSE.as_bytes();
    // Within the head, and within the body.
    let (first, rest) = whole.split_at(100);
    let (second, third) = rest.split_at(rest.len() - 40);
    let mut group = criterion.benchmark_group("http_response");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    for (name, segments) in [("one_segment", vec![whole]), ("three_segments", vec![first, second, third])] {
        check(name, &segments);
        group.bench_function(name, |bencher| bencher.iter(|| read(black_box(&segments))));
    }
    group.finish();
}

fn read(segments: &[&[u8]]) -> (Progress, Response) {
    let mut response = Response::default();
    let mut progress = Progress::More;
    for segment in segments {
        progress = response.push(segment);
    }
    (progress, response)
}

fn check(name: &str, segments: &[&[u8]]) {
    let (progress, response) = read(segments);
    assert_eq!(progress, Progress::Complete);
    assert_eq!(response.received(), HTTP_RESPONSE.len() as u64);
    let head = response.head().expect("a complete response has a head").clone();
    assert_eq!(head.status, 200);
    assert_eq!(head.server.as_ref().map(|server| server.as_slice()), Some(&b"nginx/1.26.2"[..]));
    let (body, truncated) = response.into_body();
    assert_eq!((body.as_slice(), body.0.len(), truncated), (KEY_AUTHORIZATION.as_bytes(), 87, false));
    checksum(&format!("http_response/{name}"), &(head, body));
}

criterion_group!(group, benches);
criterion_main!(group);
