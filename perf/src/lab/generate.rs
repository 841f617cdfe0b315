//! Writes a laboratory's files: requests, what they must lead to, the programs' settings, and the world itself.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    error::LabError,
    kinds::{DecidedBy, Kind, Method, Problem, Verdict},
    world::{
        ACCOUNT_URI, CONTACT_EMAIL, CONTACT_PHONE, ISSUER_DOMAIN, Perspective, REVERSE_NAME, SECOND, Scenario, VICTIM,
        World,
    },
};

/// One line of `bulk.jsonl`.
#[derive(Debug, Serialize)]
struct RequestLine {
    id: String,
    identifier: String,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_authorization: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relied_on_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    random_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_label: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorization_domain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reverse_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mail_host: Option<String>,
    account_uri: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    caa: Option<bool>,
}

/// One line of `expected.jsonl`. Bad lines are found by `line` (from 1): their id may be unreadable or taken.
#[derive(Debug, Serialize)]
struct ExpectedLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    kind: &'static str,
    verdict: Verdict,
    problem: Option<Problem>,
    /// A problem type that is as right as `problem`.
    #[serde(skip_serializing_if = "Option::is_none")]
    also_problem: Option<Problem>,
    decided_by: DecidedBy,
}

/// The request line of a scenario.
#[must_use]
pub fn request_line(scenario: &Scenario) -> String {
    let kind = scenario.kind;
    let (base, host) = (scenario.base(), scenario.host());
    let mut line = RequestLine {
        id: scenario.id(),
        identifier: match kind {
            Kind::HttpIp | Kind::AlpnIp | Kind::ReverseOk | Kind::ReverseOther => VICTIM.to_string(),
            Kind::ReverseNone => SECOND.to_string(),
            Kind::MailPermit
            | Kind::MailIssue
            | Kind::MailForbid
            | Kind::MailHost
            | Kind::MailHostOther
            | Kind::MailHostAlias => format!("user@{host}"),
            Kind::DnsWildcard
            | Kind::AccountWildcard
            | Kind::PersistWildcard
            | Kind::PersistNoPolicy
            | Kind::CaaWildForbidden
            | Kind::BadAlias
            | Kind::BadWildcard => format!("*.{host}"),
            Kind::BadULabel => format!("bücher.{base}"),
            Kind::BadLongLabel => format!("{}.{base}", "a".repeat(64)),
            Kind::BadUnderscore => format!("foo_bar.{base}"),
            Kind::BadTrailingDot => format!("{host}."),
            _ => host.clone(),
        },
        method: match kind {
            Kind::BadMethod => "http-02",
            Kind::BadRetired => "ca-tbr-6",
            kind => kind.method().name(),
        },
        token: None,
        key_authorization: None,
        relied_on_method: None,
        random_value: None,
        record_type: None,
        prefix_label: None,
        file: None,
        scheme: None,
        contact: None,
        authorization_domain: None,
        reverse_name: None,
        mail_host: None,
        account_uri: ACCOUNT_URI,
        caa: None,
    };
    match kind.method() {
        Method::Http01 | Method::Dns01 | Method::DnsAccount01 | Method::TlsAlpn01 => {
            line.token = Some(scenario.token());
            line.key_authorization = Some(scenario.key_authorization());
            line.caa = Some(line.identifier.parse::<std::net::IpAddr>().is_err());
        }
        Method::DnsChange => {
            line.random_value = Some(scenario.random_value());
            (line.record_type, line.prefix_label) = match kind {
                Kind::ChangePrefix => (Some("TXT"), Some("_verify")),
                Kind::ChangeCname | Kind::ChangeCnameWrong => (Some("CNAME"), Some("_verify")),
                Kind::ChangeCaa | Kind::ChangeCaaWrong => (Some("CAA"), None),
                _ => (None, None),
            };
        }
        Method::WebsiteChange => {
            line.random_value = Some(scenario.random_value());
            line.file = Some(scenario.token());
            line.scheme = (kind == Kind::WebHttps).then_some("https");
        }
        Method::ContactEmailCaa | Method::ContactEmailTxt => line.contact = Some(CONTACT_EMAIL),
        Method::ContactPhoneCaa | Method::ContactPhoneTxt => line.contact = Some(CONTACT_PHONE),
        Method::DnsPersist01 => line.caa = Some(true),
        Method::Caa => {
            let by_file = matches!(kind, Kind::CaaValidationRight | Kind::CaaValidationWrong);
            line.relied_on_method = Some(if by_file { "http-01" } else { "dns-01" });
        }
    }
    match kind {
        Kind::AdnPruned | Kind::BadPruned => line.authorization_domain = Some(base),
        Kind::AdnAlias
        | Kind::AdnAliasChange
        | Kind::AdnAliasBelow
        | Kind::AdnElsewhere
        | Kind::AdnNoAlias
        | Kind::MpAlias2
        | Kind::BadAlias => line.authorization_domain = Some(format!("t.cdn.{base}")),
        Kind::ReverseOk | Kind::ReverseNone => line.reverse_name = Some(REVERSE_NAME.to_owned()),
        Kind::ReverseOther => line.reverse_name = Some(host),
        Kind::MailHost | Kind::MailHostOther | Kind::MailHostAlias => line.mail_host = Some(format!("mx.{base}")),
        Kind::BadFile => line.file = Some(format!("{}.txt", scenario.random_value())),
        Kind::BadMissing => line.key_authorization = None,
        Kind::BadToken => {
            let bad = |text: String| text.replacen('-', "!", 1);
            line.token = line.token.map(bad);
            line.key_authorization = line.key_authorization.map(bad);
        }
        _ => {}
    }
    // Strings, booleans and nothing else: always serializable.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    if kind == Kind::BadSyntax {
        text.truncate(text.len() / 2);
    }
    text
}

/// The expected line of a scenario.
#[must_use]
pub fn expected_line(scenario: &Scenario) -> String {
    let kind = scenario.kind;
    let outcome = kind.outcome();
    let line_number = matches!(kind, Kind::BadSyntax | Kind::BadDuplicate).then_some(scenario.index + 1);
    let line = ExpectedLine {
        id: (kind != Kind::BadSyntax).then(|| scenario.id()),
        line: line_number,
        kind: kind.slug(),
        verdict: outcome.verdict,
        problem: outcome.problem,
        also_problem: kind.also_problem(),
        decided_by: outcome.decided_by,
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// The programs' settings for this world.
#[must_use]
pub fn settings(world: &World) -> String {
    const PERSPECTIVES: [(&str, &str, &str, &str, &str); 6] = [
        ("ams1", "RIPE NCC", "52.37", "4.90", "a"),
        ("iad1", "ARIN", "39.04", "-77.49", "b"),
        ("waw1", "RIPE NCC", "52.23", "21.01", "c"),
        ("syd1", "APNIC", "-33.87", "151.21", "d"),
        ("gru1", "LACNIC", "-23.55", "-46.63", "e"),
        ("jnb1", "AFRINIC", "-26.20", "28.05", "f"),
    ];
    let mut text = format!(
        r#"issuer_domains = ["{ISSUER_DOMAIN}"]

[engine]
attempts_in_flight = 400
fan_out = "primary-first"
# The right answers are those of one attempt.
restarts_max = 0

[lookup]
task_deadline_ms = 10000
dns_try_ms = 2000
dns_transmissions = 2
http_connect_ms = 2500
http_response_ms = 4000

[laboratory]
allow_addresses = ["127.0.0.0/8", "{}/128"]
http_port = {}
https_port = {}
"#,
        world.site_ipv6, world.http_port, world.https_port
    );
    for (perspective, (id, rir, latitude, longitude, provider)) in Perspective::ALL.into_iter().zip(PERSPECTIVES) {
        let role = if perspective == Perspective::PRIMARY { "primary" } else { "remote" };
        text += &format!(
            r#"
[[perspective]]
id = "{id}"
role = "{role}"
rir = "{rir}"
latitude = {latitude}
longitude = {longitude}
as_number = {}
provider = "lab-{provider}"
source_ipv4 = "{}"
source_ipv6 = "::1"
resolver = "{}"
# A loopback resolver that says it validates; the laboratory's zones are not signed.
dnssec = "resolver"
"#,
            64_500 + perspective.index(),
            perspective.source(),
            world.resolver(perspective),
        );
    }
    text
}

/// Writes `lab.json`, `parallax.toml`, `bulk.jsonl` and `expected.jsonl`.
///
/// # Errors
///
/// A file or the directory cannot be written.
pub fn generate(directory: &Path, world: &World) -> Result<(), LabError> {
    fs::create_dir_all(directory).map_err(|source| LabError::File { path: directory.to_owned(), source })?;
    write(directory.join("lab.json"), |file| {
        serde_json::to_writer_pretty(&mut *file, world)?;
        file.write_all(b"\n")
    })?;
    write(directory.join("parallax.toml"), |file| file.write_all(settings(world).as_bytes()))?;
    let lines = |line: fn(&Scenario) -> String| {
        move |file: &mut BufWriter<File>| {
            (0..world.requests).try_for_each(|index| writeln!(file, "{}", line(&world.scenario(index))))
        }
    };
    write(directory.join("bulk.jsonl"), lines(request_line))?;
    write(directory.join("expected.jsonl"), lines(expected_line))
}

/// Reads `lab.json`.
///
/// # Errors
///
/// The file is missing, or not what [`generate`] writes.
pub fn read_world(directory: &Path) -> Result<World, LabError> {
    let path = directory.join("lab.json");
    let text = fs::read(&path).map_err(|source| LabError::File { path: path.clone(), source })?;
    let world: World = serde_json::from_slice(&text).map_err(|source| LabError::Description { path, source })?;
    world.checked()
}

fn write(path: PathBuf, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> Result<(), LabError> {
    let written = || {
        let mut file = BufWriter::new(File::create(&path)?);
        content(&mut file)?;
        file.flush()
    };
    written().map_err(|source| LabError::File { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value;

    use super::*;

    #[test]
    fn files_depend_on_the_seed_alone() {
        let read = |seed| {
            let directory = tempfile::tempdir().unwrap();
            generate(directory.path(), &World::new(seed, 3_000)).unwrap();
            assert_eq!(read_world(directory.path()).unwrap(), World::new(seed, 3_000));
            ["bulk.jsonl", "expected.jsonl", "parallax.toml", "lab.json"]
                .map(|name| fs::read_to_string(directory.path().join(name)).unwrap())
        };
        assert_eq!(read(1), read(1));
        assert_ne!(read(1)[0], read(2)[0]);
    }

    #[test]
    fn every_kind_occurs_in_5000_requests_and_half_of_them_pass() {
        for seed in 0..4 {
            let world = World::new(seed, 5_000);
            let scenarios = || (0..5_000).map(|i| world.scenario(i));
            let kinds: HashSet<Kind> = scenarios().map(|s| s.kind).collect();
            assert_eq!(kinds.len(), Kind::ALL.len());
            let passing = scenarios().filter(|s| s.kind.outcome().verdict == Verdict::Pass).count();
            assert!((2_250..3_250).contains(&passing), "{passing}");
        }
    }

    #[test]
    fn requests_and_expectations_fit_together() {
        let world = World::new(9, 5_000);
        let mut lines_by_id: HashMap<String, u64> = HashMap::new();
        for scenario in (0..5_000).map(|i| world.scenario(i)) {
            let expected: Value = serde_json::from_str(&expected_line(&scenario)).unwrap();
            let Ok(request) = serde_json::from_str::<Value>(&request_line(&scenario)) else {
                assert_eq!(expected["line"], scenario.index + 1);
                assert!(expected.get("id").is_none());
                continue;
            };
            assert_eq!(request["id"], expected["id"]);
            let id = request["id"].as_str().unwrap().to_owned();
            let taken = lines_by_id.insert(id, scenario.index).is_some();
            assert_eq!(taken, scenario.kind == Kind::BadDuplicate);
            assert_eq!(expected["problem"].is_null(), expected["verdict"] == "pass");
            use Method::{Dns01, DnsAccount01, Http01, TlsAlpn01};
            let has_token = matches!(scenario.kind.method(), Http01 | Dns01 | DnsAccount01 | TlsAlpn01);
            assert_eq!(request.get("token").is_some(), has_token);
        }
    }

    #[test]
    fn ok_lines() {
        let world = World::new(1, 5_000);
        let of = |kind| (0..5_000).map(|i| world.scenario(i)).find(|s| s.kind == kind).unwrap();
        let line = expected_line(&of(Kind::MpHijack2));
        assert!(line.ends_with(r#""verdict":"fail","problem":"unauthorized","decided_by":"quorum"}"#), "{line}");
        let line = expected_line(&of(Kind::BadULabel));
        assert!(line.contains(r#""verdict":"refused","problem":"rejectedIdentifier","decided_by":"request""#));
        assert!(request_line(&of(Kind::HttpIp)).contains(r#""identifier":"127.3.0.1","method":"http-01""#));
        let line = request_line(&of(Kind::CaaNone));
        assert!(line.contains(r#""method":"caa","relied_on_method":"dns-01""#), "{line}");
    }
}
