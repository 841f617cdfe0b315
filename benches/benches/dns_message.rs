//! Stage `lookup`, DNS: composing a query, matching and reading its reply.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parallax_benches::{FixedBits, NAME, caa_rdata, caa_reply, checksum};
use parallax_validation::{
    base::octets::Octets,
    lookup::dns::message::{Match, Question, Reply, compose, match_reply, read_reply},
    observation::{Alias, DnsOutcome, RecordSet, RecordType},
};

const ID: u16 = 0x5eed;

fn benches(criterion: &mut Criterion) {
    let mut question = Question::new(NAME, RecordType::Caa).expect("a good name");
    let mut buffer = Vec::new();
    question.mix_case(&mut FixedBits(1));
    compose(&question, ID, &mut buffer);
    let section = question.section().to_vec();
    assert_eq!((section.len(), buffer.len()), (26, 49), "header, question and OPT");
    assert_ne!(section, section.to_ascii_lowercase(), "the case is mixed");
    checksum("dns_message/compose_caa_0x20", &buffer);

    let packet = caa_reply(ID, &section);
    assert_eq!(packet.len(), 368);
    assert_eq!(match_reply(&packet, ID, &section), Match::Reply);
    assert_eq!(match_reply(&packet, ID, &section.to_ascii_lowercase()), Match::CaseDiffers);
    let reply = read_reply(&packet, &question);
    assert_eq!(reply, Ok(expected_reply()));
    checksum("dns_message/match_and_read", &reply);

    let mut group = criterion.benchmark_group("dns_message");
    let mut bits = FixedBits(1);
    let mut drawn = question.clone();
    group.bench_function("compose_caa_0x20", |bencher| {
        bencher.iter(|| {
            drawn.mix_case(&mut bits);
            compose(black_box(&drawn), ID, &mut buffer);
        });
    });
    group.throughput(Throughput::Bytes(packet.len() as u64));
    group.bench_function("match_and_read", |bencher| {
        bencher.iter(|| {
            let packet = black_box(packet.as_slice());
            (match_reply(packet, ID, black_box(&section)), read_reply(packet, black_box(&question)))
        });
    });
    group.finish();
}

fn expected_reply() -> Reply {
    let alias = |owner: &str, target: &str| Alias { owner: owner.to_owned(), target: target.to_owned(), dname: false };
    let (edge, node) = ("customer.edge.cdn.example", "e1.node.edge.cdn.example");
    let set = RecordSet {
        owner: node.to_owned(),
        ttl: 60,
        aliases: vec![alias(NAME, edge), alias(edge, node)],
        rdata: caa_rdata().into_iter().map(Octets).collect(),
    };
    Reply { outcome: DnsOutcome::Answer(set), authenticated: true, extended_errors: Vec::new() }
}

criterion_group!(group, benches);
criterion_main!(group);
