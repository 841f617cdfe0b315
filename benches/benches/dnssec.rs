//! Stage `lookup`, DNSSEC: validating a fresh reply with the zone's keys at hand, and a whole chain from the
//! trust anchor.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use parallax_benches::checksum;
use parallax_validation::{
    lookup::{
        dns::message::{Question, read_reply},
        dnssec::{
            Assessment, Reading,
            anchor::TrustAnchors,
            chain::{Chain, ChainSite, ZoneCache},
            prove::{Proof, prove},
            signature::Work,
        },
    },
    observation::{DnsLookup, Observation, SecurityStatus},
};

const SIGNED: &str = include_str!("../../validation/tests/data/signed.jsonl");

/// The trust anchor, and observations by their notes.
fn observations() -> (TrustAnchors, Vec<(String, Observation)>) {
    let mut lines = SIGNED.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let anchor = lines.next().expect("the anchor")["anchor"].as_str().expect("text").to_owned();
    let rest = lines.map(|line| {
        let note = line["note"].as_str().expect("text").to_owned();
        (note, serde_json::from_value(line["observation"].clone()).expect("an observation"))
    });
    (TrustAnchors::parse(&anchor).expect("a trust anchor"), rest.collect())
}

fn reading(lookup: &DnsLookup) -> Reading {
    let message = lookup.validation.as_ref().and_then(|v| v.message.as_ref()).expect("the reply is kept");
    let question = Question::new(&lookup.name, lookup.rtype).expect("a good name");
    let outcome = read_reply(&message.0, &question).expect("a good reply").outcome;
    Reading::new(lookup.name.clone(), lookup.rtype, outcome, Arc::clone(&message.0))
}

fn benches(criterion: &mut Criterion) {
    let (anchors, observations) = observations();
    let mut group = criterion.benchmark_group("dnssec");
    for (note, observation) in &observations {
        let lookup = observation.lookups().next().expect("a lookup");
        let status = lookup.validation.as_ref().map(|v| v.status);
        if !matches!(status, Some(SecurityStatus::Secure | SecurityStatus::Insecure)) {
            continue;
        }
        assert_eq!(prove(lookup, &observation.links, &anchors, observation.started), Proof::Holds, "{note}");
        checksum(&format!("dnssec/{note}"), &status);
        group.bench_function(format!("whole chain/{note}"), |bencher| {
            bencher.iter(|| prove(black_box(lookup), &observation.links, &anchors, observation.started));
        });

        // A chain whose links have all been judged: what is left is the reply itself.
        let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
        let mut site = ChainSite { anchors: &anchors, now: observation.started, kept: &mut kept };
        let warm = reading(lookup);
        while let Assessment::Need(questions) = warm.assess(&mut chain, &mut site) {
            assert!(!questions.is_empty(), "{note}");
            for question in questions {
                let link = observation.links.iter().find(|l| l.name == question.name && l.rtype == question.rtype);
                chain.answer(&question, Ok(Arc::clone(&link.expect("a link").message.0)));
            }
        }
        group.bench_function(format!("fresh reply, warm keys/{note}"), |bencher| {
            bencher.iter(|| {
                chain.work = Work::default();
                let fresh = reading(black_box(lookup));
                match fresh.assess(&mut chain, &mut site) {
                    Assessment::Done(validation, _) => validation.status,
                    Assessment::Need(_) => unreachable!("everything is there"),
                }
            });
        });
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
