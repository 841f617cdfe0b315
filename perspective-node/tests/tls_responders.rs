//! A node against certificates that `openssl req` made, shown by `openssl s_server` and by lighttpd, which knows
//! tls-alpn-01 itself. What the certificate has little to do with is in `tls_servers.rs`.
//!
//! Needs the Debian packages `lighttpd`, `lighttpd-mod-openssl`, `openssl` and `unbound`.

mod common;
mod responder;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::Command,
};

use common::{Bench, THUMBPRINT, TOKEN, config};
use parallax_validation::{
    check::{Contradiction, Finding, LookupFailure, dcv::tls_alpn01::CertificateFault},
    observation::{ControlObservation, Observation, TlsFailure, TlsObservation, TlsProbeFailure, TlsTryEnd},
};
use responder::{
    Process, free_port, judged, observe, openssl_certificate, program, request, run, unbound_of_one_address,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const NAME: &str = "www.customer.example";
const UNRECOGNIZED_NAME: u8 = 112;
const NO_APPLICATION_PROTOCOL: u8 = 120;
const ACME: [&str; 2] = ["-alpn", "acme-tls/1"];

fn key_authorization() -> String {
    format!("{TOKEN}.{THUMBPRINT}")
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// acmeIdentifier as a setting of `openssl req`.
fn identifier(content: &str) -> String {
    format!("1.3.6.1.5.5.7.1.31=critical,DER:{content}")
}

fn right_identifier() -> String {
    identifier(&format!("0420{}", hex(&Sha256::digest(key_authorization()))))
}

fn s_server(directory: &Path, address: IpAddr, port: u16, options: &[&str]) -> Process {
    let accept = match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    };
    let mut command = Command::new(program("openssl", "openssl"));
    command.args(["s_server", "-quiet", "-accept", &accept, "-cert", "server.crt", "-key", "server.key"]);
    Process::start("openssl", command.args(options), directory).listening_on((address, port))
}

/// A node whose requests for port 443 go to `port`, with its resolver.
struct Prober {
    bench: Bench,
    _resolver: Process,
    _directory: TempDir,
}

impl Prober {
    fn start(port: u16) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let (resolver, address) = unbound_of_one_address(directory.path());
        let mut settings = config(address);
        settings.laboratory.https_port = Some(port);
        settings.laboratory.allow_addresses.push("::1/128".parse().expect("a prefix"));
        Self { bench: Bench::start(&settings), _resolver: resolver, _directory: directory }
    }

    fn find(&mut self, identifier: &str) -> (Finding, Observation) {
        let asked = request(identifier, "tls-alpn-01", TOKEN, &key_authorization());
        let observation = observe(&mut self.bench, &asked);
        let of_another = request(identifier, "tls-alpn-01", TOKEN, &format!("{TOKEN}.{}", "A".repeat(43)));
        assert_ne!(judged(&of_another, &observation), Finding::Confirmed, "another account: {observation:?}");
        (judged(&asked, &observation), observation)
    }
}

fn probe(observation: &Observation) -> &TlsObservation {
    match &observation.control {
        Some(ControlObservation::Tls(probe)) => probe,
        other => panic!("no probe: {other:?}"),
    }
}

fn wrong(fault: CertificateFault) -> Finding {
    Finding::Contradicted(Contradiction::Certificate(fault))
}

#[track_caller]
fn assert_alert(found: &(Finding, Observation), alert: u8) {
    assert_eq!(found.0, Finding::Failed(LookupFailure::Tls(TlsProbeFailure::NotAnswered)), "{found:?}");
    let end = probe(&found.1).tries.last().map(|connection| connection.end.clone());
    assert_eq!(end, Some(TlsTryEnd::Failed(TlsFailure::Alert(alert))));
}

/// `cases.md` D38, and more. The first is right, and each of the others differs from it in one thing.
#[test]
fn d38_each_thing_wrong_in_a_certificate_of_openssl_is_named() {
    let digest = hex(&Sha256::digest(key_authorization()));
    let (san, right) = (format!("subjectAltName=DNS:{NAME}"), right_identifier());
    let of_san = |entries: &str| vec![format!("subjectAltName={entries}"), right.clone()];
    let of_content = |content: &str| vec![san.clone(), identifier(content)];
    let cases: Vec<(&str, Vec<String>, Finding)> = vec![
        (NAME, vec![san.clone(), right.clone()], Finding::Confirmed),
        (NAME, of_san("DNS:WWW.Customer.EXAMPLE"), Finding::Confirmed),
        ("127.0.0.1", of_san("IP:127.0.0.1"), Finding::Confirmed),
        (NAME, vec![san.clone()], wrong(CertificateFault::ExtensionMissing)),
        (NAME, vec![san.clone(), right.replace("critical,", "")], wrong(CertificateFault::NotCritical)),
        (NAME, of_content(&format!("0420{}", "07".repeat(32))), wrong(CertificateFault::OtherDigest)),
        // The digest too short, without its OCTET STRING, as text, and with more after it.
        (NAME, of_content(&format!("041f{}", &digest[..62])), wrong(CertificateFault::MalformedExtension)),
        (NAME, of_content(&digest), wrong(CertificateFault::MalformedExtension)),
        (NAME, of_content(&format!("0440{}", hex(digest.as_bytes()))), wrong(CertificateFault::MalformedExtension)),
        (NAME, of_content(&format!("0420{digest}00")), wrong(CertificateFault::MalformedExtension)),
        (NAME, vec![right.clone()], wrong(CertificateFault::NoNames)),
        (NAME, of_san(&format!("DNS:{NAME},DNS:other.example")), wrong(CertificateFault::NameCount(2))),
        (NAME, of_san(&format!("DNS:{NAME},DNS:{NAME}")), wrong(CertificateFault::NameCount(2))),
        (NAME, of_san("DNS:other.example"), wrong(CertificateFault::OtherName)),
        (NAME, of_san("DNS:*.customer.example"), wrong(CertificateFault::OtherName)),
        (NAME, of_san(&format!("DNS:{NAME}.")), wrong(CertificateFault::OtherName)),
        (NAME, of_san("IP:127.0.0.1"), wrong(CertificateFault::NameKind)),
        (NAME, of_san(&format!("email:admin@{NAME}")), wrong(CertificateFault::NameKind)),
        (NAME, of_san(&format!("URI:https://{NAME}/")), wrong(CertificateFault::NameKind)),
        ("127.0.0.1", of_san("IP:127.0.0.2"), wrong(CertificateFault::OtherName)),
        ("127.0.0.1", of_san("DNS:127.0.0.1"), wrong(CertificateFault::NameKind)),
        ("127.0.0.1", of_san("DNS:1.0.0.127.in-addr.arpa"), wrong(CertificateFault::NameKind)),
        ("127.0.0.1", of_san("IP:::ffff:127.0.0.1"), wrong(CertificateFault::OtherName)),
        ("127.0.0.1", of_san("IP:127.0.0.1,IP:127.0.0.2"), wrong(CertificateFault::NameCount(2))),
    ];
    let port = free_port();
    let mut prober = Prober::start(port);
    for (asked, extensions, expected) in cases {
        let directory = TempDir::new().expect("a temporary directory");
        let texts: Vec<&str> = extensions.iter().map(String::as_str).collect();
        openssl_certificate(directory.path(), "server", &texts);
        let _server = s_server(directory.path(), Ipv4Addr::LOCALHOST.into(), port, &ACME);
        let (finding, seen) = prober.find(asked);
        assert_eq!(finding, expected, "{asked} {extensions:?}: {seen:?}");
    }
}

/// Signed by another key: of an authority with another name, and of one with the same name.
#[test]
fn a_certificate_that_openssl_signed_with_another_key_is_not_taken_for_self_signed() {
    let port = free_port();
    let mut prober = Prober::start(port);
    for (authority, fault) in
        [("an authority", CertificateFault::OtherIssuer), ("a test", CertificateFault::NotSelfSigned)]
    {
        let directory = TempDir::new().expect("a temporary directory");
        let at = directory.path();
        openssl_certificate(at, "server", &[&format!("subjectAltName=DNS:{NAME}"), &right_identifier()]);
        let openssl = || {
            let mut command = Command::new(program("openssl", "openssl"));
            command.current_dir(at);
            command
        };
        run(openssl()
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                "ca.key",
                "-out",
                "ca.crt",
                "-subj",
            ])
            .arg(format!("/CN={authority}")));
        run(openssl()
            .args(["req", "-x509", "-CA", "ca.crt", "-CAkey", "ca.key", "-key", "server.key", "-out", "server.crt"])
            .args(["-subj", "/CN=a test", "-addext", &format!("subjectAltName=DNS:{NAME}")])
            .args(["-addext", &right_identifier()]));
        let _server = s_server(at, Ipv4Addr::LOCALHOST.into(), port, &ACME);
        let (finding, seen) = prober.find(NAME);
        assert_eq!(finding, wrong(fault), "{seen:?}");
    }
}

/// A server with a second certificate for one server name, which for an address is its reverse name (RFC 8738 §6).
/// OpenSSL's shows that one without any protocol, and refuses every other name.
#[test]
fn openssl_that_knows_one_server_name_shows_which_was_sent() {
    let reverse_v6 = format!("1.{}ip6.arpa", "0.".repeat(31));
    for (address, asked, server_name) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), NAME, NAME),
        (Ipv4Addr::LOCALHOST.into(), "127.0.0.1", "1.0.0.127.in-addr.arpa"),
        (Ipv6Addr::LOCALHOST.into(), "::1", &reverse_v6),
    ] {
        let (directory, port) = (TempDir::new().expect("a temporary directory"), free_port());
        let at = directory.path();
        for name in ["server", "server2"] {
            openssl_certificate(at, name, &[&format!("subjectAltName=DNS:{NAME}"), &right_identifier()]);
        }
        let mut prober = Prober::start(port);
        for (known, is_sent) in [(server_name, true), ("other.example", false)] {
            let of_it = ["-servername", known, "-servername_fatal", "-cert2", "server2.crt", "-key2", "server2.key"];
            let _server = s_server(at, address, port, &[&ACME[..], &of_it].concat());
            let found = prober.find(asked);
            assert_eq!(probe(&found.1).server_name, server_name);
            if is_sent {
                assert_eq!(found.0, wrong(CertificateFault::NoProtocol), "{found:?}");
            } else {
                assert_alert(&found, UNRECOGNIZED_NAME);
            }
        }
    }
}

/// lighttpd takes a challenge's certificate from a directory, by the server name that a client asks for.
#[test]
fn lighttpd_with_challenges_in_a_directory_is_confirmed_for_those_alone() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    openssl_certificate(at, "server", &["subjectAltName=DNS:customer.example"]);
    let challenges = at.join("challenges");
    fs::create_dir(&challenges).expect("a directory");
    let place = |name: &str, san: &str| {
        openssl_certificate(at, "challenge", &[san, &right_identifier()]);
        for kind in ["crt", "key"] {
            let file = challenges.join(format!("{name}.{kind}.pem"));
            fs::rename(at.join(format!("challenge.{kind}")), file).expect("a file");
        }
    };
    place(NAME, &format!("subjectAltName=DNS:{NAME}"));
    place("1.0.0.127.in-addr.arpa", "subjectAltName=IP:127.0.0.1");
    place(&format!("1.{}ip6.arpa", "0.".repeat(31)), "subjectAltName=IP:::1");
    place("swapped.customer.example", &format!("subjectAltName=DNS:{NAME}"));
    let port = free_port();
    let shown = at.display();
    let start = |more: &str| {
        let text = format!(
            "ssl.engine = \"enable\"\nssl.pemfile = \"{shown}/server.crt\"\nssl.privkey = \"{shown}/server.key\"\n\
             $SERVER[\"socket\"] == \"[::1]:{port}\" {{ ssl.engine = \"enable\" }}\n{more}"
        );
        responder::lighttpd(at, port, &["mod_openssl"], &text)
    };
    let lighttpd = start(&format!("ssl.acme-tls-1 = \"{}\"\n", challenges.display()));
    let mut prober = Prober::start(port);
    for asked in [NAME, "127.0.0.1", "::1"] {
        let (finding, seen) = prober.find(asked);
        assert_eq!(finding, Finding::Confirmed, "{asked}: {seen:?}");
    }
    let (finding, seen) = prober.find("swapped.customer.example");
    assert_eq!(finding, wrong(CertificateFault::OtherName), "{seen:?}");
    assert_alert(&prober.find("absent.customer.example"), NO_APPLICATION_PROTOCOL);
    // The same server that was not told of challenges.
    drop(lighttpd);
    let _lighttpd = start("");
    assert_alert(&prober.find(NAME), NO_APPLICATION_PROTOCOL);
}
