//! The program against a signed tree of real servers: verdicts, and proofs that hold without the network.

#[path = "../../perspective-node/tests/dnssec_lab/mod.rs"]
mod dnssec_lab;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use dnssec_lab::Lab;
use parallax_engine::{
    audit::{Item, Items},
    prove,
};
use parallax_validation::{
    lookup::dnssec::anchor::TrustAnchors,
    observation::{ControlObservation, DnsLookup, DnsOutcome, Message},
    record::Record,
};
use serde_json::Value;

const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

/// Id, role, region, latitude, longitude.
const PERSPECTIVES: [(&str, &str, &str, f64, f64); 6] = [
    ("ams1", "primary", "RIPE NCC", 52.37, 4.90),
    ("iad1", "remote", "ARIN", 39.04, -77.49),
    ("waw1", "remote", "RIPE NCC", 52.23, 21.01),
    ("syd1", "remote", "APNIC", -33.87, 151.21),
    ("gru1", "remote", "LACNIC", -23.55, -46.63),
    ("jnb1", "remote", "AFRINIC", -26.20, 28.05),
];

fn settings(lab: &Lab, primary_mode: &str) -> String {
    let mut text = "issuer_domains = [\"ca.example\"]\ntrust_anchor_file = \"root.ds\"\n\
                    [laboratory]\nallow_addresses = [\"127.0.0.0/8\"]\n"
        .to_owned();
    for (number, (id, role, rir, latitude, longitude)) in PERSPECTIVES.iter().enumerate() {
        let dnssec = if *role == "primary" { primary_mode } else { "local" };
        text += &format!(
            "[[perspective]]\nid = \"{id}\"\nrole = \"{role}\"\nrir = \"{rir}\"\nlatitude = {latitude}\n\
             longitude = {longitude}\nas_number = {}\nprovider = \"lab\"\nresolver = \"{}\"\n\
             source_ipv4 = \"127.0.9.{}\"\ndnssec = \"{dnssec}\"\n",
            64_500 + number,
            lab.validating_at(number as u8),
            number + 1
        );
    }
    text
}

fn parallax(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parallax")).args(arguments).current_dir(directory).output().expect("it runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn prepare(lab: &Lab) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("root.ds"), lab.root_anchor()).expect("written");
    fs::write(directory.path().join("parallax.toml"), settings(lab, "local")).expect("written");
    directory
}

fn check(directory: &Path, name: &str) -> Output {
    let challenge = ["--method", "dns-01", "--token", TOKEN, "--key-authorization", KEY_AUTHORIZATION];
    parallax(directory, &[&["check", name, "--journal", "j"][..], &challenge].concat())
}

fn last_record(directory: &Path) -> Record {
    let mut items = Items::open(&directory.join("j")).expect("a journal");
    let mut last = None;
    while let Some((_, item)) = items.next_item().expect("an entry") {
        if let Item::Record(record) = item {
            last = Some(*record);
        }
    }
    last.expect("a record")
}

#[test]
fn b1_verdicts_and_their_proofs_over_a_signed_tree() {
    let Some(lab) = dnssec_lab::inside("b1_verdicts_and_their_proofs_over_a_signed_tree") else { return };
    let directory = prepare(lab);
    let directory = directory.path();
    for (name, passes, says) in [
        ("good.example", true, ""),
        ("*.good.example", true, ""),
        ("unsigned.example", true, ""),
        ("unsigned.optout", true, ""),
        ("cust.plain", true, ""),
        ("wrongkey.example", false, "no DNSKEY matches"),
        ("dsleft.example", false, "no DNSKEY. Remove the DS at the registrar"),
        ("expired.example", false, "expired 20"),
        ("nosig.example", false, "has no signature by it"),
        ("nonsec.example", true, ""),
    ] {
        let output = check(directory, name);
        assert_eq!(output.status.code(), Some(i32::from(!passes)), "{name}: {}", text(&output));
        assert!(text(&output).contains(says), "{name}: {}", text(&output));
        let id = last_record(directory).attempt.to_string();
        let proof = parallax(directory, &["journal", "prove", "j", &id, "--trust-anchor", "root.ds"]);
        assert_eq!(proof.status.code(), Some(0), "{name}: {}", text(&proof));
        assert!(text(&proof).contains("every lookup of the primary is proven"), "{}", text(&proof));
    }
    let verified = parallax(directory, &["journal", "verify", "j"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
}

#[test]
fn b7_a_proof_that_was_tampered_with_does_not_hold() {
    let Some(lab) = dnssec_lab::inside("b7_a_proof_that_was_tampered_with_does_not_hold") else { return };
    let directory = prepare(lab);
    let directory = directory.path();
    let anchors = TrustAnchors::parse(&lab.root_anchor()).expect("a trust anchor");
    for name in ["good.example", "unsigned.example", "unsigned.optout"] {
        check(directory, name);
        let good = last_record(directory);
        assert!(prove::record(&good, &anchors).holds, "{name}");
        assert!(!prove::record(&good, &TrustAnchors::iana()).holds, "{name}: other trust anchors");

        let mut later = good.clone();
        let observation = later.perspectives[0].observation.as_mut().expect("seen");
        observation.started = "2031-01-01T00:00:00Z".parse().expect("a time");
        assert!(!prove::record(&later, &anchors).holds, "{name}: another time");

        let links = good.perspectives[0].observation.as_ref().expect("seen").links.len();
        assert!(links >= 3, "{name}: {links} links");
        for number in 0..links {
            let mut without = good.clone();
            without.perspectives[0].observation.as_mut().expect("seen").links.remove(number);
            assert!(!prove::record(&without, &anchors).holds, "{name}: link {number} is missing");

            // Of a second signature, or of a TTL, nothing depends.
            let octets = good.perspectives[0].observation.as_ref().expect("seen").links[number].message.0.to_vec();
            let places: Vec<usize> = (20..octets.len() - 11).step_by(7).collect();
            let holds = |at: &&usize| {
                let mut altered = good.clone();
                let link = &mut altered.perspectives[0].observation.as_mut().expect("seen").links[number];
                let mut octets = octets.clone();
                octets[**at] ^= 1;
                link.message = Message(octets.into());
                prove::record(&altered, &anchors).holds
            };
            let unnoticed = places.iter().filter(holds).count();
            assert!(unnoticed * 2 < places.len(), "{name}: link {number}: {unnoticed} of {} unnoticed", places.len());
        }

        let mut forged = good.clone();
        let seen = forged.perspectives[0].observation.as_mut().expect("seen");
        let Some(ControlObservation::Record(DnsLookup { outcome: DnsOutcome::Answer(set), .. })) = &mut seen.control
        else {
            panic!("{name}: no TXT");
        };
        set.rdata[0].0[1] ^= 1;
        assert!(!prove::record(&forged, &anchors).holds, "{name}: the record says something else than the reply");
    }
}

#[test]
fn b1_a_primary_that_nobody_validates_for_is_refused_at_start() {
    let Some(lab) = dnssec_lab::inside("b1_a_primary_that_nobody_validates_for_is_refused_at_start") else { return };
    let directory = prepare(lab);
    let directory = directory.path();
    fs::write(directory.join("none.toml"), settings(lab, "none")).expect("written");
    let output = parallax(directory, &["config", "check", "none.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("perspective.ams1.dnssec"), "{}", text(&output));
    let remote = settings(lab, "resolver").replace(&lab.validating_at(0).to_string(), "192.0.2.53:53");
    fs::write(directory.join("remote.toml"), remote).expect("written");
    let output = parallax(directory, &["config", "check", "remote.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("nothing protects its word on DNSSEC"), "{}", text(&output));
    fs::write(directory.join("root.ds"), "nonsense").expect("written");
    let output = parallax(directory, &["config", "check", "parallax.toml"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("trust_anchor_file") && text(&output).contains("line 1"), "{}", text(&output));
}

#[test]
fn b7_the_proof_as_json_names_anchor_signers_and_denials() {
    let Some(lab) = dnssec_lab::inside("b7_the_proof_as_json_names_anchor_signers_and_denials") else { return };
    let directory = prepare(lab);
    let directory = directory.path();
    check(directory, "unsigned.nsec");
    let id = last_record(directory).attempt.to_string();
    let proof = parallax(directory, &["journal", "prove", "j", &id, "--trust-anchor", "root.ds", "--json"]);
    let proof: Value = serde_json::from_slice(&proof.stdout).expect("JSON");
    let lookups = proof["lookups"].as_array().expect("lookups");
    let of = |name: &str, rtype: &str| {
        let found = lookups.iter().find(|l| l["perspective"] == "ams1" && l["name"] == name && l["rtype"] == rtype);
        found.unwrap_or_else(|| panic!("{name} {rtype}: {proof}"))
    };
    let txt = of("_acme-challenge.unsigned.nsec", "TXT");
    assert_eq!((&txt["status"], &txt["proof"]), (&"insecure".into(), &"holds".into()));
    assert!(txt["insecure"].as_str().is_some_and(|text| text.contains("NSEC of unsigned.nsec")), "{txt}");
    let anchor: u16 = lab.root_anchor().split_whitespace().nth(3).and_then(|tag| tag.parse().ok()).expect("a tag");
    assert_eq!((&txt["signers"], &txt["anchor"]), (&serde_json::json!(["nsec"]), &anchor.into()));
    // Remotes keep a summary.
    assert!(lookups.iter().any(|l| l["perspective"] != "ams1" && l["proof"] == "summary only"), "{proof}");
}
