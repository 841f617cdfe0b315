//! The layering of the workspace and the truth of its conformance table, checked by reading the sources.
//!
//! `validation ← protocol ← perspective-node ← engine`; `benches` and `perf` use public interfaces and
//! nothing but tests depends on them. `validation` is pure. `unsafe` lives in `perspective-node/ring`
//! alone.

#![allow(clippy::disallowed_methods, reason = "this test reads the sources it judges")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).expect("source text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{} has sources", folder.display());
    found
}

/// Our own crates a manifest names under `section`.
fn own_dependencies(manifest: &Path, section: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(manifest).expect("a manifest");
    let table: toml::Table = text.parse().expect("TOML");
    let dependencies = table.get(section).and_then(toml::Value::as_table);
    dependencies
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .filter(|name| name.starts_with("parallax-"))
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("validation", &[][..]),
        ("protocol", &["parallax-validation"]),
        ("perspective-node/ring", &[]),
        ("perspective-node/ring/bare", &[]),
        ("perspective-node", &["parallax-protocol", "parallax-ring", "parallax-validation"]),
        ("engine", &["parallax-node", "parallax-protocol", "parallax-validation"]),
        ("benches", &["parallax-engine", "parallax-node", "parallax-protocol", "parallax-validation"]),
        ("perf", &["parallax-engine", "parallax-node", "parallax-protocol", "parallax-ring", "parallax-validation"]),
    ]);
    for (member, allowed) in allowed {
        let found = own_dependencies(&root().join(member).join("Cargo.toml"), "dependencies");
        let unlawful: Vec<_> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
        assert!(unlawful.is_empty(), "{member} depends on {unlawful:?}");
    }
}

#[test]
fn validation_does_no_io_and_reads_no_clock() {
    let forbidden = [
        "std::net::Tcp",
        "std::net::Udp",
        "std::fs",
        "std::thread",
        "std::process",
        "std::env::",
        "std::time::Instant",
        "std::time::SystemTime",
        "Timestamp::now",
        "Instant::now",
        "rand::",
        "tokio",
        "io_uring",
        "println!",
        "eprintln!",
        "unsafe ",
        "static mut",
    ];
    for (path, text) in sources(&root().join("validation/src")) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn drivers_do_not_know_rules() {
    for (path, text) in sources(&root().join("perspective-node/src")) {
        // Beside the drivers: what is served to those who want one perspective's judgement.
        if path.ends_with("services.rs") {
            continue;
        }
        for word in ["validation::check", "validation::verdict", "validation::explain", "RecordType::", "CaaPolicy"] {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn unsafe_code_is_in_the_ring_alone() {
    for member in
        ["validation", "protocol", "perspective-node/src", "perspective-node/tests", "engine", "benches", "perf"]
    {
        let folder = root().join(member);
        if !folder.exists() {
            continue;
        }
        for (path, text) in sources(&folder) {
            if path.ends_with("layering.rs") {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                assert!(
                    !code.contains("unsafe {") && !code.contains("unsafe fn") && !code.contains("unsafe impl"),
                    "{}:{}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// Every test the table cites, written `` `name` ``, is a function with `#[test]` somewhere, or one of those that
/// `with_both_drivers!` makes tests of.
#[test]
fn every_test_the_conformance_table_cites_exists() {
    let table = fs::read_to_string(root().join("docs/conformance.md")).expect("docs/conformance.md");
    let mut tests = BTreeSet::new();
    for member in ["validation", "protocol", "perspective-node", "engine", "perf"] {
        for (_, text) in sources(&root().join(member)) {
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                if line.trim() == "with_both_drivers! {" {
                    let listed = lines.by_ref().map(str::trim).take_while(|line| *line != "}");
                    tests.extend(listed.map(|line| line.trim_end_matches(',').to_owned()));
                    continue;
                }
                if line.trim() != "#[test]" {
                    continue;
                }
                let signature = lines.clone().map(str::trim).find(|l| l.starts_with("fn "));
                if let Some(name) = signature.and_then(|l| l.strip_prefix("fn ")).and_then(|l| l.split('(').next()) {
                    tests.insert(name.to_owned());
                }
            }
        }
    }
    let mut cited = 0;
    for row in table.lines().filter(|row| row.starts_with('|')).skip(2) {
        let Some(column) = row.trim_matches('|').split('|').nth(2) else { continue };
        for name in column.split('`').skip(1).step_by(2) {
            cited += 1;
            assert!(tests.contains(name), "docs/conformance.md cites the test {name}, which is not there");
        }
    }
    assert!(cited > 50, "only {cited} tests are cited");
}

/// The licences of deny.toml, without the tool: every dependency offers one of them.
#[test]
fn every_dependency_has_an_allowed_licence() {
    let deny: toml::Table = fs::read_to_string(root().join("deny.toml")).expect("deny.toml").parse().expect("TOML");
    let allowed: BTreeSet<&str> =
        deny["licenses"]["allow"].as_array().expect("a list").iter().filter_map(toml::Value::as_str).collect();
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "only {} packages", packages.len());
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let expression = package["license"].as_str().unwrap_or_default().replace('/', " OR ").replace(['(', ')'], " ");
        let offered = |part: &str| part.split(" OR ").any(|licence| allowed.contains(licence.trim()));
        assert!(expression.split(" AND ").all(offered), "{name}: {expression:?}");
    }
}
