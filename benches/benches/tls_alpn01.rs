//! Stage `check`: a certificate of tls-alpn-01 read, and judged. The signature check takes most of the time.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use parallax_benches::{challenge_certificate, checksum, observation, request};
use parallax_validation::{
    check::{
        Contradiction, Finding,
        dcv::{
            Method,
            tls_alpn01::{CertificateFault, judge},
        },
    },
    lookup::tls::certificate::{Certificate, facts, key_of},
    observation::{ControlObservation, TlsOutcome},
    plan::Host,
};

fn benches(criterion: &mut Criterion) {
    let der = challenge_certificate();
    let certificate = Certificate::read(&der).expect("a certificate");
    assert_eq!((certificate.extensions.len(), certificate.self_signed()), (5, Ok(())));
    checksum("tls_alpn01/read", &certificate);
    let host = Host::Name(parallax_benches::NAME.to_owned());
    let said = facts(&der, &host);
    assert!(said.content.as_ref().is_some_and(|content| content.name_matches && content.self_signed));
    checksum("tls_alpn01/facts", &said);
    assert!(key_of(&der).is_ok());

    let mut group = criterion.benchmark_group("tls_alpn01");
    group.bench_function("read", |bencher| bencher.iter(|| Certificate::read(black_box(&der))));
    group.bench_function("key_of", |bencher| bencher.iter(|| key_of(black_box(&der))));
    group.bench_function("facts", |bencher| bencher.iter(|| facts(black_box(&der), &host)));
    group.finish();
    bench_judge(criterion);
}

fn bench_judge(criterion: &mut Criterion) {
    let request = request(Method::TlsAlpn01);
    let Some(ControlObservation::Tls(mut seen)) = observation(Method::TlsAlpn01).control else { panic!("TLS") };
    let key = request.control.as_ref().and_then(|challenge| challenge.key_authorization()).expect("a key");
    let finding = judge(&key.octets(), &request.identifier, &seen);
    assert_eq!(finding, Finding::Confirmed);
    checksum("tls_alpn01/judge", &finding);
    criterion.bench_function("tls_alpn01/judge", |bencher| {
        bencher.iter(|| judge(&black_box(key).octets(), black_box(&request.identifier), black_box(&seen)));
    });
    // A server that does not know of the challenge costs no signature check.
    let TlsOutcome::Handshake(handshake) = &mut seen.outcome else { panic!("a handshake") };
    handshake.protocol = None;
    let wrong = Finding::Contradicted(Contradiction::Certificate(CertificateFault::NoProtocol));
    assert_eq!(judge(&key.octets(), &request.identifier, &seen), wrong);
}

criterion_group!(group, benches);
criterion_main!(group);
