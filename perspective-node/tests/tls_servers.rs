//! A node against TLS as it is spoken outside: nginx and `openssl s_server`, and servers that do not speak it.
//!
//! Needs the Debian packages `nginx-light` and `openssl`.

mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::*;
use parallax_validation::{
    check::{
        Contradiction, Finding,
        dcv::tls_alpn01::{CertificateFault, judge},
    },
    explain::tls::failure_in_words,
    observation::{
        ControlObservation, HttpFailure, HttpObservation, HttpOutcome, NetworkError, TlsFacts, TlsFailure,
        TlsObservation, TlsOutcome, TlsProbeFailure, TlsTryEnd, TlsVersion,
    },
    plan::PlanLimits,
    request::{Identifier, KeyAuthorization},
};
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, PKCS_ECDSA_P384_SHA384, SanType, date_time_ymd};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const NAME: &str = "www.customer.example";

fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("the program {name} is missing; install the Debian package {package}"))
}

/// A server that ends with its owner.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts it and waits until it listens on `port`.
    fn start(program: PathBuf, arguments: &[&str], directory: &Path, port: u16) -> Self {
        let log = fs::File::create(directory.join("server.log")).expect("a log file");
        let child = Command::new(&program)
            .args(arguments)
            .current_dir(directory)
            // s_server ends when its input does.
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display()));
        let mut server = Self { child, port };
        let until = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = server.child.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > until {
                let said = fs::read_to_string(directory.join("server.log")).unwrap_or_default();
                panic!("{} does not listen ({ended:?}); it said:\n{said}", program.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A resolver that knows 127.0.0.1 for every name and fails on everything else.
fn resolver() -> SocketAddr {
    dns_server(
        |socket, from, query| {
            let name_end = 12 + query[12..].iter().position(|&b| b == 0).expect("a query's name ends");
            let answer = match query[name_end + 2] {
                1 => reply(query, 0, &[Record(asked(), 1, vec![127, 0, 0, 1])]),
                _ => reply(query, 2, &[]),
            };
            let _ = socket.send_to(&answer, from);
        },
        None,
    )
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, "a test");
    params
}

fn challenge(names: &[&str], digest: &[u8]) -> CertificateParams {
    let mut params = params(names);
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    params
}

fn key_authorization() -> String {
    format!("{TOKEN}.{THUMBPRINT}")
}

fn digest() -> Vec<u8> {
    Sha256::digest(key_authorization()).to_vec()
}

/// Writes `name.crt` and `name.key`.
fn write_pair(directory: &Path, name: &str, params: &CertificateParams, key: &KeyPair) {
    let certificate = params.self_signed(key).expect("a certificate");
    fs::write(directory.join(format!("{name}.crt")), certificate.pem()).expect("a file");
    fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
}

// ---- https redirects -----------------------------------------------------------------------------------

/// nginx that redirects each name to itself over https, where each name has another certificate.
struct Web {
    https_port: u16,
    server: Server,
    _directory: TempDir,
}

fn start_web(protocols: &str) -> Web {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let challenges = at.join("web/.well-known/acme-challenge");
    fs::create_dir_all(&challenges).expect("a directory");
    fs::write(challenges.join(TOKEN), format!("{}\n", key_authorization())).expect("a file");
    let key = KeyPair::generate().expect("a key");
    write_pair(at, "good", &params(&["good.customer.example"]), &key);
    let mut expired = params(&["expired.customer.example"]);
    (expired.not_before, expired.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    write_pair(at, "expired", &expired, &key);
    write_pair(at, "wrong", &params(&["somebody.else.example"]), &key);
    let (port, https_port) = (free_port(), free_port());
    let shown = at.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"))
        .collect();
    let servers: String = ["good", "expired", "wrong"]
        .iter()
        .map(|name| {
            format!(
                "server {{ listen 127.0.0.1:{https_port} ssl http2; server_name {name}.customer.example;\n\
                 ssl_certificate {shown}/{name}.crt; ssl_certificate_key {shown}/{name}.key;\n\
                 ssl_protocols {protocols}; root {shown}/web; }}\n"
            )
        })
        .collect();
    let text = format!(
        "daemon off; master_process off; pid {shown}/nginx.pid; error_log stderr;\n\
         events {{ worker_connections 128; }}\n\
         http {{\n{temporary} access_log off; server_tokens off; default_type text/plain;\n\
         server {{ listen 127.0.0.1:{port}; return 301 https://$host$request_uri; }}\n{servers}}}\n"
    );
    let file = at.join("nginx.conf");
    fs::write(&file, text).expect("a file");
    let (file, prefix, log) = (file.display().to_string(), shown.to_string(), format!("{shown}/error.log"));
    let nginx = program("nginx", "nginx-light");
    let server = Server::start(nginx, &["-e", &log, "-p", &prefix, "-c", &file], at, port);
    Web { https_port, server, _directory: directory }
}

fn fetch_with(http_port: u16, https_port: u16, name: &str, limits: PlanLimits) -> HttpObservation {
    let mut settings = config(resolver());
    settings.laboratory.http_port = Some(http_port);
    settings.laboratory.https_port = Some(https_port);
    http(Bench::start(&settings).run(plan(name, "http-01", false, limits)))
}

fn facts(seen: &HttpObservation) -> &TlsFacts {
    let HttpOutcome::Response { status: 200, body, truncated: false } = &seen.outcome else { panic!("{seen:?}") };
    assert_eq!(body.as_slice(), format!("{}\n", key_authorization()).as_bytes());
    assert_eq!(seen.hops.len(), 2);
    assert!(seen.hops[1].url.starts_with("https://"), "{seen:?}");
    assert_eq!(seen.hops[1].tries[0].address.port(), 443, "the port of the URL, whatever was dialled");
    seen.hops[1].tls.as_ref().expect("TLS was spoken")
}

#[test]
fn nginx_with_any_certificate_is_fetched_from_over_https() {
    for (protocols, version) in [("TLSv1.2", TlsVersion::V12), ("TLSv1.2 TLSv1.3", TlsVersion::V13)] {
        let web = start_web(protocols);
        for (name, ends, matches) in [("good", "4096", true), ("expired", "2020", true), ("wrong", "4096", false)] {
            let name = format!("{name}.customer.example");
            let seen = fetch_with(web.server.port, web.https_port, &name, PlanLimits::default());
            let tls = facts(&seen);
            assert_eq!((tls.version, tls.protocol.as_ref().map(|p| p.as_slice())), (version, Some(&b"http/1.1"[..])));
            let content = tls.certificate.content.as_ref().expect("readable");
            assert_eq!((content.self_signed, content.name_matches, content.names), (true, matches, 1), "{name}");
            assert_eq!(content.subject.as_slice(), b"CN=a test");
            assert_eq!(&content.not_after.expect("a date").to_string()[..4], ends, "{name}");
        }
    }
}

#[test]
fn h122_openssl_with_tls_1_1_alone_is_said_to_be_too_old() {
    let web = start_web("TLSv1.2");
    let old =
        s_server(&params(&[NAME]), &KeyPair::generate().expect("a key"), &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    let seen = fetch_with(web.server.port, old.server.port, NAME, PlanLimits::default());
    let HttpOutcome::Failed(HttpFailure::Tls(failure)) = &seen.outcome else { panic!("{seen:?}") };
    assert!(failure_in_words(failure, 443, 0).contains("no TLS newer than 1.1"), "{failure:?}");
    let seen = probe(old.server.port, NAME, PlanLimits::default());
    assert!(failure_in_words(&failed_with(&seen), 443, 0).contains("no TLS newer than 1.1"), "{seen:?}");
}

#[test]
fn plain_http_on_the_https_port_is_told_apart() {
    let web = start_web("TLSv1.2");
    let seen = fetch_with(web.server.port, web.server.port, NAME, PlanLimits::default());
    let HttpOutcome::Failed(HttpFailure::Tls(failure)) = &seen.outcome else { panic!("{seen:?}") };
    let words = failure_in_words(failure, 443, 0);
    assert!(words.starts_with("speaks plain HTTP on port 443, not TLS"), "{words}");
    let seen = probe(web.server.port, NAME, PlanLimits::default());
    assert!(failure_in_words(&failed_with(&seen), 443, 0).starts_with("speaks plain HTTP"), "{seen:?}");
}

// ---- tls-alpn-01 ---------------------------------------------------------------------------------------

struct OpenSsl {
    server: Server,
    _directory: TempDir,
}

fn s_server(params: &CertificateParams, key: &KeyPair, options: &[&str]) -> OpenSsl {
    let directory = TempDir::new().expect("a temporary directory");
    write_pair(directory.path(), "server", params, key);
    start_s_server(directory, options)
}

/// `server.crt` and `server.key` are there.
fn start_s_server(directory: TempDir, options: &[&str]) -> OpenSsl {
    let port = free_port();
    let accept = port.to_string();
    let arguments = [&["s_server", "-quiet", "-accept", &accept, "-cert", "server.crt", "-key", "server.key"], options];
    let server = Server::start(program("openssl", "openssl"), &arguments.concat(), directory.path(), port);
    OpenSsl { server, _directory: directory }
}

fn probe(https_port: u16, identifier: &str, limits: PlanLimits) -> TlsObservation {
    let mut settings = config(resolver());
    settings.laboratory.https_port = Some(https_port);
    let mut bench = Bench::start(&settings);
    match bench.run(plan(identifier, "tls-alpn-01", false, limits)).control {
        Some(ControlObservation::Tls(seen)) => seen,
        other => panic!("no handshake: {other:?}"),
    }
}

fn judged(identifier: &str, seen: &TlsObservation) -> Finding {
    let asked =
        identifier.parse().map_or_else(|_| Identifier::Name(identifier.parse().expect("a name")), Identifier::Ip);
    judge(&KeyAuthorization { token: TOKEN.to_owned(), value: key_authorization() }.octets(), &asked, seen)
}

fn wrong(fault: CertificateFault) -> Finding {
    Finding::Contradicted(Contradiction::Certificate(fault))
}

fn failed_with(seen: &TlsObservation) -> TlsFailure {
    assert_eq!(seen.outcome, TlsOutcome::Failed(TlsProbeFailure::NotAnswered));
    match seen.tries.last().map(|t| &t.end) {
        Some(TlsTryEnd::Failed(failure)) => failure.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a1_a3_a34_openssl_with_the_right_certificate_is_confirmed() {
    for (algorithm, options) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &["-alpn", "acme-tls/1"][..]),
        (&rcgen::PKCS_ECDSA_P256_SHA256, &["-alpn", "h2,acme-tls/1", "-tls1_2"]),
        (&PKCS_ECDSA_P384_SHA384, &["-alpn", "acme-tls/1", "-tls1_3"]),
    ] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let server = s_server(&challenge(&[NAME], &digest()), &key, options);
        let seen = probe(server.server.port, NAME, PlanLimits::default());
        assert_eq!(judged(NAME, &seen), Finding::Confirmed, "{options:?}: {seen:?}");
        assert_eq!(seen.tries[0].address, "127.0.0.1:443".parse().expect("an address"));
    }
    let mut by_address = challenge(&[], &digest());
    by_address.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    let server = s_server(&by_address, &KeyPair::generate().expect("a key"), &["-alpn", "acme-tls/1"]);
    let seen = probe(server.server.port, "127.0.0.1", PlanLimits::default());
    assert_eq!((judged("127.0.0.1", &seen), seen.server_name.as_str()), (Finding::Confirmed, "1.0.0.127.in-addr.arpa"));
}

/// Kinds of keys, with certificates that OpenSSL made too. A P-521 key has no signature that we could check, so the
/// server finds none to offer.
#[test]
fn a34_openssl_with_other_kinds_of_keys() {
    let hex: String = digest().iter().map(|octet| format!("{octet:02x}")).collect();
    for (tls, kind, is_known) in [
        ("-tls1_2", "rsa:2048", true),
        ("-tls1_3", "rsa:4096", true),
        ("-tls1_3", "ed25519", true),
        ("-tls1_2", "ed25519", true),
        ("-tls1_3", "P-521", false),
    ] {
        let key: &[&str] = match kind {
            "P-521" => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
            _ => &["-newkey", kind],
        };
        let directory = TempDir::new().expect("a temporary directory");
        let made = Command::new(program("openssl", "openssl"))
            .args(["req", "-x509"])
            .args(key)
            .args(["-nodes", "-keyout", "server.key", "-out", "server.crt"])
            .args(["-subj", "/CN=x", "-addext", &format!("subjectAltName=DNS:{NAME}"), "-addext"])
            .arg(format!("1.3.6.1.5.5.7.1.31=critical,DER:0420{hex}"))
            .current_dir(directory.path())
            .output()
            .expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = start_s_server(directory, &["-alpn", "acme-tls/1", tls]);
        let seen = probe(server.server.port, NAME, PlanLimits::default());
        if is_known {
            assert_eq!(judged(NAME, &seen), Finding::Confirmed, "{tls} {kind}: {seen:?}");
        } else {
            assert_eq!(failed_with(&seen), TlsFailure::Alert(40), "{kind}");
        }
    }
}

#[test]
fn d37_d38_openssl_with_a_wrong_certificate_or_without_the_protocol_is_not() {
    let mut not_critical = challenge(&[NAME], &digest());
    not_critical.custom_extensions[0].set_criticality(false);
    let mut of_drafts = params(&[NAME]);
    let mut old = CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 30, 1], [&[4, 32], &*digest()].concat());
    old.set_criticality(true);
    of_drafts.custom_extensions = vec![old];
    let acme = &["-alpn", "acme-tls/1"][..];
    for (params, options, fault) in [
        (params(&[NAME]), acme, CertificateFault::ExtensionMissing),
        (not_critical, acme, CertificateFault::NotCritical),
        (of_drafts, acme, CertificateFault::DraftExtension),
        (challenge(&[NAME, "other.example"], &digest()), acme, CertificateFault::NameCount(2)),
        (challenge(&["other.example"], &digest()), acme, CertificateFault::OtherName),
        (challenge(&[NAME], &[7; 32]), acme, CertificateFault::OtherDigest),
        (challenge(&[NAME], &digest()), &[], CertificateFault::NoProtocol),
    ] {
        let server = s_server(&params, &KeyPair::generate().expect("a key"), options);
        let seen = probe(server.server.port, NAME, PlanLimits::default());
        assert_eq!(judged(NAME, &seen), wrong(fault), "{seen:?}");
    }
    let h2 = s_server(&challenge(&[NAME], &digest()), &KeyPair::generate().expect("a key"), &["-alpn", "h2"]);
    assert_eq!(failed_with(&probe(h2.server.port, NAME, PlanLimits::default())), TlsFailure::Alert(120));
    let web = start_web("TLSv1.2");
    let seen = fetch_with(web.server.port, h2.server.port, NAME, PlanLimits::default());
    assert_eq!(seen.outcome, HttpOutcome::Failed(HttpFailure::Tls(TlsFailure::Alert(120))));
}

/// The end of a handshake is waited for, not cut: the server sees a close and not a reset.
#[test]
fn the_server_sees_a_whole_handshake() {
    let server = s_server(
        &challenge(&[NAME], &digest()),
        &KeyPair::generate().expect("a key"),
        &["-alpn", "acme-tls/1", "-tls1_3"],
    );
    for _ in 0..5 {
        assert_eq!(judged(NAME, &probe(server.server.port, NAME, PlanLimits::default())), Finding::Confirmed);
    }
    thread::sleep(Duration::from_millis(200));
    let said = fs::read_to_string(server._directory.path().join("server.log")).expect("a log");
    // The one that is allowed is the test's own connection, which only looked whether somebody listens.
    assert!(!said.to_lowercase().contains("reset") && said.matches("error:").count() <= 1, "{said}");
}

#[test]
fn a7_to_a11_servers_that_end_stall_or_babble_are_bounded() {
    fn read_some(stream: &mut TcpStream) {
        let _ = stream.read(&mut [0; 4096]);
    }
    fn stall(mut stream: TcpStream) {
        read_some(&mut stream);
        thread::sleep(Duration::from_secs(5));
    }
    fn close(mut stream: TcpStream) {
        read_some(&mut stream);
    }
    fn alert(mut stream: TcpStream) {
        read_some(&mut stream);
        let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 80]);
    }
    fn garbage(mut stream: TcpStream) {
        read_some(&mut stream);
        let _ = stream.write_all(&[0xa5; 50_000]);
        thread::sleep(Duration::from_millis(100));
    }
    fn half_a_record(mut stream: TcpStream) {
        read_some(&mut stream);
        let _ = stream.write_all(&[22, 3, 3, 0x20, 0, 2, 0, 0, 70]);
        thread::sleep(Duration::from_secs(5));
    }
    fn endless(mut stream: TcpStream) {
        read_some(&mut stream);
        let record = [&[22, 3, 3, 0x3e, 0x80, 2, 0xff, 0xff, 0xff][..], &[0; 15_996]].concat();
        while stream.write_all(&record).is_ok() {}
    }
    type Check = fn(&TlsFailure) -> bool;
    let silence = |failure: &TlsFailure| *failure == TlsFailure::Network(NetworkError::Timeout);
    let cases: [(fn(TcpStream), Check); 6] = [
        (stall, silence),
        (close, |failure| matches!(failure, TlsFailure::Network(NetworkError::ClosedEarly | NetworkError::Reset))),
        (alert, |failure| *failure == TlsFailure::Alert(80)),
        (garbage, |failure| matches!(failure, TlsFailure::NotTls { first } if first.0.len() <= 64)),
        (half_a_record, silence),
        (endless, |failure| matches!(failure, TlsFailure::TooLarge | TlsFailure::Malformed(_))),
    ];
    for (number, (behave, check)) in cases.into_iter().enumerate() {
        let server = tcp_server(move |stream, _| behave(stream));
        let began = Instant::now();
        let failure = failed_with(&probe(server.port(), NAME, QUICK));
        assert!(check(&failure), "{number}: {failure:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{number}: {:?}", began.elapsed());
        let web = start_redirect();
        let seen = fetch_with(web.port(), server.port(), NAME, QUICK);
        assert!(
            matches!(&seen.outcome, HttpOutcome::Failed(HttpFailure::Tls(failure)) if check(failure)),
            "{number}: {seen:?}"
        );
    }
    let nobody = probe(free_port(), NAME, QUICK);
    assert_eq!(nobody.tries[0].end, TlsTryEnd::NotConnected(NetworkError::Refused));
}

/// A server that redirects to https.
fn start_redirect() -> SocketAddr {
    tcp_server(|mut stream, _| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: https://www.customer.example/\r\n\r\n");
    })
}

#[test]
fn many_handshakes_side_by_side() {
    let server =
        s_server(&challenge(&[NAME], &digest()), &KeyPair::generate().expect("a key"), &["-alpn", "acme-tls/1"]);
    let mut settings = config(resolver());
    settings.laboratory.https_port = Some(server.server.port);
    let mut bench = Bench::start(&settings);
    // s_server takes one connection after another.
    let plans = (0..40).map(|_| plan(NAME, "tls-alpn-01", false, PlanLimits::default())).collect();
    for observation in bench.run_all(plans) {
        let Some(ControlObservation::Tls(seen)) = observation.control else { panic!("no handshake") };
        assert_eq!(judged(NAME, &seen), Finding::Confirmed, "{seen:?}");
    }
}
