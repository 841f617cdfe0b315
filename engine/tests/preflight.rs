//! `parallax preflight` against real servers: a signed tree, and one with faults of every kind.

#[path = "../../perspective-node/tests/dnssec_lab/mod.rs"]
mod dnssec_lab;
#[allow(clippy::unwrap_used, reason = "helpers of tests; a panic is a failed test")]
mod fleet;
mod preflight_lab;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use parallax_node::{settings::Settings, telemetry::LogForm};
use parallax_validation::preflight::{Code, Finding, Preflight, Severity};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Set where these tests must run: then it is an error if they cannot.
const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
/// No run of the program may last longer.
const RUN_MAX: Duration = Duration::from_secs(400);

/// The laboratory with the signed tree, within the namespace; none outside, where the test has then run inside, or could
/// not, which is told.
fn inside(name: &str) -> Option<&'static dnssec_lab::Lab> {
    let can = Command::new("unshare").args(["-n", "true"]).output().is_ok_and(|output| output.status.success());
    if !can {
        let required = std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty());
        assert!(!required, "{REQUIRED} is set, but no network namespace can be made");
        // Not through the test's captured output: who reads the run's must see it.
        let _ = std::io::stderr().write_all(b"\nNOT TESTED, no network namespaces can be made here\n\n");
        return None;
    }
    dnssec_lab::inside(name)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Results by name.
fn results(lines: &str) -> BTreeMap<String, Preflight> {
    let read = |line: &str| serde_json::from_str::<Preflight>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    lines.lines().map(read).map(|preflight| (preflight.name.clone(), preflight)).collect()
}

/// Codes that block or may block.
fn grave(preflight: &Preflight) -> BTreeSet<(Severity, Code)> {
    let grave = preflight.findings.iter().filter(|finding| finding.severity != Severity::Note);
    grave.map(|finding| (finding.severity, finding.code)).collect()
}

#[track_caller]
fn finding(preflight: &Preflight, code: Code) -> &Finding {
    let found = preflight.findings.iter().find(|finding| finding.code == code);
    found.unwrap_or_else(|| panic!("no {code}: {:#?}", preflight.findings))
}

// ---- the signed tree ----------------------------------------------------------------------------------

/// Id, role, region, latitude, longitude.
const PERSPECTIVES: [(&str, &str, &str, f64, f64); 6] = [
    ("ams1", "primary", "RIPE NCC", 52.37, 4.90),
    ("iad1", "remote", "ARIN", 39.04, -77.49),
    ("waw1", "remote", "RIPE NCC", 52.23, 21.01),
    ("syd1", "remote", "APNIC", -33.87, 151.21),
    ("gru1", "remote", "LACNIC", -23.55, -46.63),
    ("jnb1", "remote", "AFRINIC", -26.20, 28.05),
];

fn signed_settings(lab: &dnssec_lab::Lab) -> String {
    let mut text = "issuer_domains = [\"ca.example\"]\ntrust_anchor_file = \"root.ds\"\n\
                    [laboratory]\nallow_addresses = [\"127.0.0.0/8\", \"fd00:53::/32\"]\n"
        .to_owned();
    for (number, (id, role, rir, latitude, longitude)) in PERSPECTIVES.iter().enumerate() {
        text += &format!(
            "[[perspective]]\nid = \"{id}\"\nrole = \"{role}\"\nrir = \"{rir}\"\nlatitude = {latitude}\n\
             longitude = {longitude}\nas_number = {}\nprovider = \"lab\"\nresolver = \"{}\"\n\
             source_ipv4 = \"127.0.9.{}\"\n",
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

#[test]
fn d34_d35_a_signed_tree_and_what_is_wrong_with_it() {
    use Code::{
        DsMatchesNoKey, LameServer, NoServerAnswers, ResolverFails, SerialsDiffer, SignaturesExpired,
        SignaturesMissing, ZoneNotFound,
    };
    use Severity::{Blocks, MayBlock};
    let Some(lab) = inside("d34_d35_a_signed_tree_and_what_is_wrong_with_it") else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let at = directory.path();
    fs::write(at.join("root.ds"), lab.root_anchor()).expect("written");
    fs::write(at.join("parallax.toml"), signed_settings(lab)).expect("written");
    let table: [(&str, &[(Severity, Code)]); 13] = [
        ("good.example", &[]),
        ("*.good.example", &[]),
        ("sub.good.example", &[]),
        ("unsigned.example", &[]),
        ("big.example", &[]),
        ("dsleft.example", &[(Blocks, DsMatchesNoKey), (Blocks, ResolverFails)]),
        ("wrongkey.example", &[(Blocks, DsMatchesNoKey), (Blocks, ResolverFails)]),
        ("expired.example", &[(Blocks, SignaturesExpired), (Blocks, ResolverFails)]),
        ("nosig.example", &[(Blocks, SignaturesMissing), (Blocks, ResolverFails)]),
        ("refused.example", &[(Blocks, LameServer), (Blocks, ResolverFails)]),
        ("servfail.example", &[(Blocks, LameServer), (Blocks, ResolverFails)]),
        ("silent.example", &[(Blocks, NoServerAnswers)]),
        ("nothing-there.example", &[(Blocks, ZoneNotFound)]),
    ];
    let names: String = table.iter().map(|(name, _)| format!("{name}\n")).collect();
    fs::write(at.join("names"), names + "stale.example # third server is behind\n").expect("written");
    let output = parallax(at, &["preflight", "--file", "names"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let found = results(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(found.len(), table.len() + 1);
    for (name, wants) in table {
        let preflight = &found[name];
        assert_eq!(grave(preflight), wants.iter().copied().collect(), "{name}: {:#?}", preflight.findings);
        assert_eq!(
            preflight.outlook.permits,
            wants.is_empty() || name == "nothing-there.example",
            "{name}: {preflight:#?}"
        );
    }
    assert_eq!(found["good.example"].outlook.to_string(), "5/5, margin 1");
    assert_eq!(found["sub.good.example"].zone.as_deref(), Some("sub.good.example"));
    finding(&found["*.good.example"], Code::CaaPermits);
    assert!(
        finding(&found["dsleft.example"], DsMatchesNoKey).text.contains("no DNSKEY. Remove the DS at the registrar")
    );
    // 1001 CAA records come over TCP, and all of them are judged.
    finding(&found["big.example"], Code::CaaPermits);
    let stale = &found["stale.example"];
    let text_of = |code| finding(stale, code).text.as_str();
    assert!(text_of(SerialsDiffer).contains("serial 2026010101 at ns3.stale.example (127.0.53.5);"), "{stale:#?}");
    assert!(
        text_of(SignaturesExpired).starts_with("Signatures from ns3.stale.example (127.0.53.5) over"),
        "{stale:#?}"
    );
    assert_eq!(finding(stale, SignaturesExpired).severity, MayBlock);
    // Nothing was written to a journal.
    let left: BTreeSet<String> = fs::read_dir(at)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left, ["names", "parallax.toml", "root.ds"].map(str::to_owned).into());
}

// ---- faults of every kind -----------------------------------------------------------------------------

#[test]
fn d02_d17_d22_d33_real_servers_with_real_faults() {
    use Code::{
        CaaDiffers, CaaForbids, ChallengeMissingAtSome, GlueDiffers, LameServer, PerspectiveReachesNoServer,
        SerialsDiffer, ServerUnreachable, TcpNotAnswered,
    };
    use Severity::{Blocks, MayBlock};
    if inside("d02_d17_d22_d33_real_servers_with_real_faults").is_none() {
        return;
    }
    let lab = preflight_lab::Lab::of_this_test();
    let one = |name: &str, wants: &[(Severity, Code)], outlook: &str| {
        let output = lab.parallax(&["preflight", name, "--json"]).output().expect("it runs");
        let found = results(&String::from_utf8_lossy(&output.stdout))
            .remove(name)
            .unwrap_or_else(|| panic!("{}", text(&output)));
        // Which copy of a zone whose servers differ a resolver was given is chance.
        let certain: BTreeSet<(Severity, Code)> = match name {
            "lag.test" => grave(&found).into_iter().filter(|(_, code)| *code != CaaForbids).collect(),
            _ => grave(&found),
        };
        assert_eq!(certain, wants.iter().copied().collect(), "{name}: {:#?}", found.findings);
        if !outlook.is_empty() {
            assert_eq!(found.outlook.to_string(), outlook, "{name}: {:#?}", found.findings);
        }
        assert_eq!(output.status.code(), Some(i32::from(found.blocks())), "{}", text(&output));
        found
    };
    let good = one("good.test", &[], "5/5, margin 1");
    assert_eq!(good.zone.as_deref(), Some("good.test"));
    // D17: an NSD and a Knot that hold different copies.
    let lag =
        one("lag.test", &[(MayBlock, CaaDiffers), (MayBlock, ChallengeMissingAtSome), (MayBlock, SerialsDiffer)], "");
    let text_of = |code| finding(&lag, code).text.as_str();
    assert!(text_of(SerialsDiffer).contains("serial 2026122001 at k.lag.test (127.0.70.12)"), "{lag:#?}");
    assert!(text_of(SerialsDiffer).contains("serial 2026122002 at a.lag.test (127.0.70.11) (NSID nsd)"), "{lag:#?}");
    assert!(
        text_of(ChallengeMissingAtSome).contains("1 record at a.lag.test (127.0.70.11); nothing at k.lag.test"),
        "{lag:#?}"
    );
    // Knot does not serve it.
    let lame = one("lame.test", &[(MayBlock, LameServer)], "5/5, margin 1");
    assert!(finding(&lame, LameServer).text.starts_with("k.lame.test (127.0.70.12) answers REFUSED"), "{lame:#?}");
    let forbids = one("forbids.test", &[(Blocks, CaaForbids)], "0/5, margin -4, and the primary would not confirm");
    assert!(finding(&forbids, CaaForbids).text.contains("names only other.test"), "{forbids:#?}");
    // D33: only worth knowing while answers are small.
    let no_tcp = one("notcp.test", &[], "5/5, margin 1");
    assert!(
        finding(&no_tcp, TcpNotAnswered).text.starts_with("t.notcp.test (127.0.70.13) refuses TCP port 53."),
        "{no_tcp:#?}"
    );
    // D02: two perspectives cannot reach the only server.
    let geo = one("geo.test", &[(Blocks, PerspectiveReachesNoServer)], "3/5, margin -1");
    let dark = finding(&geo, PerspectiveReachesNoServer);
    assert!(
        dark.text.starts_with("From APNIC and LACNIC no nameserver of geo.test answered: f.geo.test (127.0.70.14)"),
        "{geo:#?}"
    );
    assert_eq!(dark.perspectives.iter().map(ToString::to_string).collect::<Vec<_>>(), ["syd1", "gru1"]);
    // Glue, delegation, wildcard and times.
    let glue = one("glue.test", &[(MayBlock, GlueDiffers), (MayBlock, ServerUnreachable)], "5/5, margin 1");
    assert!(
        finding(&glue, GlueDiffers)
            .text
            .contains("gives 127.0.70.15 as g.glue.test's, and its own records give 127.0.70.11")
    );
    assert!(finding(&glue, Code::ServerOnlyAtParent).text.contains("old.glue.test"), "{glue:#?}");
    finding(&glue, Code::NegativeTtlLong);
    let slow = one("slow.glue.test", &[(MayBlock, GlueDiffers), (MayBlock, ServerUnreachable)], "5/5, margin 1");
    finding(&slow, Code::ChallengeTtlLong);
    let wild = one(
        "x.w.glue.test",
        &[(MayBlock, GlueDiffers), (MayBlock, ServerUnreachable), (MayBlock, Code::WildcardAnswersChallenge)],
        "5/5, margin 1",
    );
    assert!(
        finding(&wild, Code::WildcardAnswersChallenge).text.contains("Create the TXT record explicitly"),
        "{wild:#?}"
    );
}

#[test]
fn text_statuses_and_what_is_refused_before_anything_is_sent() {
    if inside("text_statuses_and_what_is_refused_before_anything_is_sent").is_none() {
        return;
    }
    let lab = preflight_lab::Lab::of_this_test();
    let run = |arguments: &[&str]| lab.parallax(arguments).output().expect("it runs");
    let output = run(&["preflight", "lame.test"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("lame.test, zone lame.test\n  5/5, margin 1 (policy "), "{said}");
    assert!(
        said.contains("\n  may block  lame-server\n             k.lame.test (127.0.70.12) answers REFUSED"),
        "{said}"
    );
    // Several names, some of which block, and a summary.
    let output = run(&["preflight", "good.test", "forbids.test", "--out", "found.jsonl"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(results(&fs::read_to_string(lab.path("found.jsonl")).expect("results")).len(), 2);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("2 of 2 names: 1 blocked, 0 at risk, 1 clear\n"), "{said}");
    assert!(said.contains("        1  caa-forbids\n"), "{said}");
    // The instant picks the row.
    let early = run(&["preflight", "good.test", "--json", "--at", "2025-01-01T00:00:00Z"]);
    let early = results(&String::from_utf8_lossy(&early.stdout));
    assert!(!early["good.test"].outlook.permits, "{early:#?}");
    // Another label before the name.
    let other = run(&["preflight", "good.test", "--json", "--challenge-label", "_other"]);
    let other = results(&String::from_utf8_lossy(&other.stdout));
    assert!(finding(&other["good.test"], Code::ChallengeMissing).text.contains("_other.good.test"), "{other:#?}");
    lab.write("bad", "good.test\nnot a name\n192.0.2.1\n");
    for (arguments, status, wants) in [
        (&["preflight", "--file", "bad"][..], 2, "line 2: not a name: "),
        (&["preflight", "--file", "bad"], 2, "2 names cannot be checked, and nothing was sent"),
        (&["preflight", "user@good.test"], 2, "user@good.test"),
        (&["preflight", "com"], 2, "public suffix"),
        (&["preflight", "--file", "absent"], 2, "absent: "),
        (&["preflight", "good.test", "--file", "bad"], 2, "cannot be used with"),
        (&["preflight"], 2, "NAME"),
        (&["preflight", "good.test", "--out", "found.jsonl"], 2, "found.jsonl: "),
        (&["preflight", "good.test", "--challenge-label", "a b"], 2, "--challenge-label 'a b'"),
        (&["preflight", "good.test", "--config", "absent.toml"], 2, "absent.toml"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(wants), "{arguments:?}: {}", text(&output));
    }
    // Names come over standard input too.
    let mut command = lab.parallax(&["preflight", "--file", "-", "--json"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(b"good.test\n# no more\n").expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // Warnings about the settings come before it.
    let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    let summary: Value = serde_json::from_str(&last).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert_eq!((&summary["names"], &summary["done"], &summary["blocked"]), (&1.into(), &1.into(), &0.into()));
}

#[test]
fn nodes_elsewhere_are_asked_over_links_and_one_that_is_away_is_told_of() {
    if inside("nodes_elsewhere_are_asked_over_links_and_one_that_is_away_is_told_of").is_none() {
        return;
    }
    let lab = preflight_lab::Lab::of_this_test();
    let fleet = fleet::Fleet::make(&lab.path(""), 25_000);
    // The last one, jnb1, is not there. The others serve in this process until it ends.
    for place in &fleet.places[..5] {
        let settings = Settings::load(&fleet.path(&format!("{}.toml", place.id))).expect("its settings");
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("threads").block_on(parallax_node::serve::run(&settings, LogForm::Text)).expect("it serves");
        });
    }
    fleet::until("all nodes listen", || {
        fleet.places[..5].iter().all(|place| std::net::TcpStream::connect(place.listen).is_ok())
    });
    let output =
        lab.parallax(&["preflight", "lame.test", "--config", "engine.toml", "--json"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let found = results(&String::from_utf8_lossy(&output.stdout)).remove("lame.test").expect("its result");
    assert_eq!(
        grave(&found),
        [(Severity::MayBlock, Code::LameServer), (Severity::MayBlock, Code::PerspectiveSilent)].into(),
        "{:#?}",
        found.findings
    );
    assert_eq!(found.outlook.to_string(), "4/5, margin 0");
    let away = finding(&found, Code::PerspectiveSilent);
    assert_eq!(away.perspectives.iter().map(ToString::to_string).collect::<Vec<_>>(), ["jnb1"]);
    let lame = finding(&found, Code::LameServer);
    assert_eq!(lame.perspectives.len(), 5, "{lame:?}");
    assert!(!lab.path("journal").exists());
}

#[test]
fn a_batch_of_two_thousand_names_and_one_that_is_stopped() {
    if inside("a_batch_of_two_thousand_names_and_one_that_is_stopped").is_none() {
        return;
    }
    const NAMES: usize = 2_000;
    let lab = preflight_lab::Lab::of_this_test();
    let names: String = (0..NAMES).map(|n| format!("n{n}.many.test\n")).collect();
    lab.write("names", &names);
    let begun = Instant::now();
    let mut command = lab.parallax(&["preflight", "--file", "names", "--out", "all.jsonl", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    while child.try_wait().expect("a child").is_none() {
        if begun.elapsed() > RUN_MAX {
            let _ = child.kill();
            panic!("not done within {RUN_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{NAMES} names took {:?}", begun.elapsed());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let found = results(&fs::read_to_string(lab.path("all.jsonl")).expect("results"));
    assert_eq!(found.len(), NAMES);
    for (name, preflight) in &found {
        assert_eq!(grave(preflight), BTreeSet::new(), "{name}: {:#?}", preflight.findings);
        assert_eq!(preflight.outlook.to_string(), "5/5, margin 1", "{name}");
        assert!(finding(preflight, Code::CaaPermits).text.contains("(inherited by n"), "{name}");
    }
    let summary: Value = serde_json::from_slice(&output.stdout).expect("a summary");
    assert_eq!((&summary["done"], &summary["outlooks"]["5/5, margin 1"]), (&NAMES.into(), &NAMES.into()), "{summary}");
    // Stopped in the middle: what had ended is there, each line whole.
    let mut command = lab.parallax(&["preflight", "--file", "names", "--out", "some.jsonl"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let lines = || fs::read_to_string(lab.path("some.jsonl")).unwrap_or_default().lines().count();
    let begun = Instant::now();
    while lines() < 20 {
        assert!(begun.elapsed() < RUN_MAX, "nothing comes");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let some = results(&fs::read_to_string(lab.path("some.jsonl")).expect("results"));
    assert!((20..NAMES).contains(&some.len()), "{}", some.len());
    assert!(text(&output).contains("stopped before the end"), "{}", text(&output));
}
