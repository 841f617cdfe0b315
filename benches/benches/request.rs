//! The first stage: from a line of a bulk file to a request that may be carried out.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{NAME, bulk_line, checksum, request};
use parallax_engine::input::{Format, Input};
use parallax_validation::{base::address::AddressFilter, check::dcv::Method, request::CheckRequest};

const LINES: u64 = 1000;

fn benches(criterion: &mut Criterion) {
    let line = bulk_line("order-4711/0", Method::Http01);
    let requests = parse(&line);
    assert_eq!(requests, [request(Method::Http01)]);
    checksum("request/json_line", &requests);

    let file: String =
        (0..LINES).map(|number| bulk_line(&format!("order-{number}/0"), Method::Http01) + "\n").collect();
    let requests = parse(&file);
    assert_eq!(requests.len() as u64, LINES);
    for (number, request) in requests.iter().enumerate() {
        let control = request.control.as_ref().map(|challenge| challenge.method);
        let got = (request.id.as_str(), request.identifier.to_string(), control, request.caa.is_some());
        assert_eq!(got, (format!("order-{number}/0").as_str(), NAME.to_owned(), Some(Method::Http01), true));
    }
    checksum("request/json_1000_lines", &requests);

    let mut group = criterion.benchmark_group("request");
    group.throughput(Throughput::Bytes(line.len() as u64));
    group.bench_function("json_line", |bencher| bencher.iter(|| parse(black_box(&line))));
    group.throughput(Throughput::Elements(LINES));
    group.bench_function("json_1000_lines", |bencher| bencher.iter(|| parse(black_box(&file))));
    group.finish();
}

/// All requests of a bulk file; the samples have no bad line.
fn parse(text: &str) -> Vec<CheckRequest> {
    let mut input = Input::new(text.as_bytes(), Format::JsonLines, AddressFilter::default().into());
    let mut requests = Vec::new();
    while let Some((_, parsed)) = input.next_line().expect("memory can be read") {
        requests.push(parsed.expect("a good line"));
    }
    requests
}

criterion_group!(group, benches);
criterion_main!(group);
