//! What an incident asks of a journal (req E11).

#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

mod support;

use std::collections::BTreeSet;

use parallax_engine::{
    corroborate::ENTRY_SETUP,
    journal::{JournalOptions, Reader, Writer},
};
use parallax_perf::lab::kinds::Kind;
use parallax_validation::{observation::ControlObservation, record::Record};
use serde_json::Value;
use support::{Bench, journal};

fn requests(bench: &Bench, arguments: &[&str]) -> BTreeSet<String> {
    let ended = bench.run(&[&["journal", "find", "j", "--json"], arguments].concat());
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let lines = ended.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|found| found["request"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn e11_attempts_are_found_by_what_their_evidence_touched() {
    let bench = Bench::new(34, 34, 3_000);
    let kinds = [Kind::HttpOk, Kind::HttpWrongBody, Kind::DnsOk, Kind::DnsNxdomain, Kind::CaaNone, Kind::HttpIp];
    bench.write("some.jsonl", bench.lines(&kinds));
    bench.run(&["bulk", "some.jsonl", "--journal", "j", "--out", "o"]).expect(0, &[]);
    let (records, _) = journal(&bench.path("j"));
    assert_eq!(records.len(), kinds.len());
    let expected = |fits: &dyn Fn(&Record) -> bool| -> BTreeSet<String> {
        records.iter().filter(|record| fits(record)).map(|record| record.request.id.to_string()).collect()
    };
    let all = expected(&|_| true);
    assert_eq!(requests(&bench, &[]), all);

    // By an address that the primary connected to.
    let connected = |record: &Record| match &record.perspectives[0].observation.as_ref().unwrap().control {
        Some(ControlObservation::Http(fetch)) => fetch.hops[0].tries.first().map(|t| t.address.ip()),
        _ => None,
    };
    let address = records.iter().find_map(|record| connected(record).filter(|_| record.verdict.permits())).unwrap();
    let by_address = requests(&bench, &["--address", &address.to_string()]);
    assert!(
        expected(&|record| connected(record) == Some(address)).is_subset(&by_address) && by_address.len() < all.len()
    );
    // By the resolver of one perspective: all that it gave evidence for.
    let second = &records[0].perspectives[1].perspective;
    let gave =
        |record: &Record| record.perspectives.iter().any(|p| p.perspective == *second && p.observation.is_some());
    assert_eq!(requests(&bench, &["--perspective", second.as_str()]), expected(&gave));
    let resolver = bench.world.resolver(parallax_perf::lab::world::Perspective::ALL[1]).ip().to_string();
    let asked = |record: &Record| {
        let parts = record.perspectives.iter().filter(|part| part.perspective == *second);
        parts.flat_map(|part| &part.observation).any(|seen| seen.lookups().next().is_some())
    };
    assert_eq!(requests(&bench, &["--address", &resolver]), expected(&asked));
    assert!(
        requests(&bench, &["--address", &resolver, "--perspective", records[0].perspectives[0].perspective.as_str()])
            .is_empty()
    );
    assert!(requests(&bench, &["--address", "203.0.113.1"]).is_empty());

    // By what the record says.
    assert_eq!(requests(&bench, &["--method", "3.2.2.4.7"]), expected(&|record| record.method == "3.2.2.4.7"));
    assert_eq!(requests(&bench, &["--corroborated"]), expected(&|record| record.verdict.permits()));
    let name = records.iter().find_map(|record| record.request.identifier.domain()).unwrap().as_str();
    let top = name.rsplit('.').next().unwrap();
    let named =
        |record: &Record| record.request.identifier.domain().is_some_and(|d| d.as_str().ends_with(&format!(".{top}")));
    assert_eq!(requests(&bench, &["--domain", top]), expected(&named));
    assert!(requests(&bench, &["--domain", &name[1..]]).is_empty(), "a part of a label is no domain");
    // However it is spelled: what is not found in an incident is thought not to be affected.
    let base = name.split_once('.').unwrap().1;
    let spelled = requests(&bench, &["--domain", base]);
    assert!(!spelled.is_empty());
    for other in [format!("{base}."), format!("*.{base}"), base.to_uppercase()] {
        assert_eq!(requests(&bench, &["--domain", &other]), spelled, "{other}");
    }
    for bad in ["a b.example", "", "a..example"] {
        bench.run(&["journal", "find", "j", "--domain", bad]).expect(2, &["--domain"]);
    }
    let middle = records[records.len() / 2].decided.to_string();
    let (before, after) = (requests(&bench, &["--until", &middle]), requests(&bench, &["--from", &middle]));
    assert!(before.is_disjoint(&after) && before.len() + after.len() == all.len());
    assert!(requests(&bench, &["--software", "parallax 0"]).is_empty());
    let software = concat!("parallax ", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        requests(&bench, &["--software", software, "--as-number", "64500"]).len()
            + requests(&bench, &["--as-number", "1"]).len(),
        requests(&bench, &["--as-number", "64500"]).len()
    );

    let text = bench.run(&["journal", "find", "j", "--corroborated"]).out;
    assert!(text.ends_with(&format!("of {} attempts fit\n", all.len())), "{text}");
    bench.run(&["journal", "find", "nothing-there"]).expect(2, &["nothing-there"]);
}

#[test]
fn e11_what_rests_on_a_setup_that_cannot_be_read_is_told_and_not_left_out() {
    let bench = Bench::new(68, 34, 3_000);
    bench.write("some.jsonl", bench.lines(&[Kind::HttpOk, Kind::DnsOk]));
    bench.run(&["bulk", "some.jsonl", "--journal", "k", "--out", "o"]).expect(0, &[]);
    let mut reader = Reader::open(&bench.path("k")).unwrap();
    let (mut writer, _) = Writer::open(&bench.path("j"), JournalOptions::default()).unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut payload: Value = serde_json::from_slice(&entry.payload).unwrap();
        if entry.kind == ENTRY_SETUP {
            payload["form"] = 99.into();
        }
        writer.append(entry.kind, payload.to_string().as_bytes()).unwrap();
    }
    writer.commit().unwrap();
    drop(writer);
    for arguments in [["--as-number", "1"], ["--software", "parallax 0"]] {
        assert_eq!(requests(&bench, &arguments).len(), 2, "{arguments:?}");
        let ended = bench.run(&[&["journal", "find", "j"], &arguments[..]].concat());
        ended.expect(0, &["form 99 is not known", "whatever rests on it is listed"]);
    }
    let verified = bench.run(&["journal", "verify", "j"]);
    assert_eq!(verified.status, Some(1), "{}", verified.out);
}
