//! A node against certbot, in the ways in which it meets challenges: with its own web server, alone and behind a
//! proxy, with files that a web server shows, and with hooks that change a zone; and against dehydrated.
//!
//! Needs the Debian packages `certbot`, `dehydrated`, `knot`, `lighttpd`, `lighttpd-mod-openssl`, `nginx-light`,
//! `openssl` and `unbound`.

mod acme_server;
mod common;
mod responder;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use acme_server::{AcmeServer, Met};
use common::{Bench, config};
use parallax_validation::{
    check::{
        Contradiction, Finding, LookupFailure,
        dcv::{
            dns01::{TxtFault, TxtHint},
            http01::BodyFault,
            tls_alpn01::CertificateFault,
        },
    },
    observation::{
        ControlObservation, HttpFailure, HttpObservation, NetworkError, Observation, TlsProbeFailure, TryEnd,
    },
    request::CheckRequest,
};
use responder::{
    Process, free_port, judged, lighttpd, observe, openssl_certificate, program, request, unbound_of_one_address, write,
};
use tempfile::TempDir;

/// How long certbot may take for anything.
const PATIENCE: Duration = Duration::from_secs(40);
const WWW: &str = "www.customer.example";
const SHOP: &str = "shop.customer.example";
const APEX: &str = "customer.example";
/// Of nobody's key.
const OTHER_THUMBPRINT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";

fn certbot(directory: &Path, acme: &AcmeServer, names: &[&str], how: &[&str]) -> Process {
    // Settings of this machine's certbot are not ours.
    let settings = write(directory, "certbot.ini", "");
    let mut command = Command::new(program("certbot", "certbot"));
    command.args(["certonly", "--non-interactive", "--agree-tos", "--register-unsafely-without-email"]);
    command.args(["--config", &settings, "--server", &acme.directory()]);
    for (option, name) in [("--config-dir", "etc"), ("--work-dir", "lib"), ("--logs-dir", "log")] {
        command.args([option, &directory.join(name).display().to_string()]);
    }
    command.args(names.iter().flat_map(|name| ["-d", name])).args(how);
    command.env("HOME", directory).env("NO_PROXY", "*").env("no_proxy", "*");
    Process::start("certbot", &mut command, directory)
}

/// What certbot says it did, as our request.
fn asked(met: &Met) -> CheckRequest {
    request(&met.identifier, &met.kind, &met.token, &met.key_authorization)
}

/// The same challenge, met by another account.
fn asked_of_another(met: &Met) -> CheckRequest {
    request(&met.identifier, &met.kind, &met.token, &format!("{}.{OTHER_THUMBPRINT}", met.token))
}

fn body(fault: BodyFault) -> Finding {
    Finding::Contradicted(Contradiction::Body(fault))
}

fn fetch(observation: &Observation) -> &HttpObservation {
    match &observation.control {
        Some(ControlObservation::Http(fetch)) => fetch,
        other => panic!("no fetch: {other:?}"),
    }
}

/// A node whose requests for port 80 go to `port`.
fn bench(resolver: SocketAddr, port: u16) -> Bench {
    let mut settings = config(resolver);
    settings.laboratory.http_port = Some(port);
    Bench::start(&settings)
}

/// Certbot's answers are right for its own account and wrong for another.
#[track_caller]
fn assert_right_for_its_account_alone(bench: &mut Bench, met: &Met, wrong: &Finding) {
    let seen = observe(bench, &asked(met));
    assert_eq!(judged(&asked(met), &seen), Finding::Confirmed, "{met:?}: {seen:?}");
    assert_eq!(judged(&asked_of_another(met), &seen), *wrong, "{met:?}: {seen:?}");
}

/// nginx that hands what is below `/.well-known/acme-challenge/` on to `port`, as guides to certbot have it.
fn proxy_to(port: u16, directory: &Path) -> (Process, u16) {
    let own = free_port();
    let proxied = format!("location /.well-known/acme-challenge/ {{ proxy_pass http://127.0.0.1:{port}; }}");
    let nginx = responder::nginx(directory, "", &format!("server {{ listen 127.0.0.1:{own}; {proxied} }}"));
    (nginx.listening_on((Ipv4Addr::LOCALHOST, own)), own)
}

#[test]
fn certbots_own_web_server_is_confirmed_alone_and_behind_a_proxy() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (_unbound, resolver) = unbound_of_one_address(at);
    let (acme, port) = (AcmeServer::start(&["http-01"]), free_port());
    let by = ["--standalone", "--http-01-address", "127.0.0.1", "--http-01-port", &port.to_string()];
    let mut client = certbot(at, &acme, &[WWW, SHOP], &by);
    let all = acme.wait_for(2, &mut client, PATIENCE);
    let mut names: Vec<&str> = all.iter().map(|met| met.identifier.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [SHOP, WWW]);

    let (_nginx, proxy_port) = proxy_to(port, at);
    for port in [port, proxy_port] {
        let mut bench = bench(resolver, port);
        for met in &all {
            assert_right_for_its_account_alone(&mut bench, met, &body(BodyFault::OtherThumbprint));
        }
    }
    // Who speaks is seen: Python's server alone, nginx in front of it.
    for (port, software) in [(port, "BaseHTTP/"), (proxy_port, "nginx/")] {
        let seen = observe(&mut bench(resolver, port), &asked(&all[0]));
        let head = fetch(&seen).hops[0].response.as_ref().expect("a head");
        let server = head.server.as_ref().expect("a name");
        assert!(server.as_slice().starts_with(software.as_bytes()), "{head:?}");
    }
    // Asked for a token that it does not have, certbot says nothing at all; the proxy makes an error of that.
    let unknown = "unknownunknownunknownunknown";
    let unknown = request(WWW, "http-01", unknown, &format!("{unknown}.{OTHER_THUMBPRINT}"));
    let seen = observe(&mut bench(resolver, port), &unknown);
    assert_eq!(judged(&unknown, &seen), Finding::Failed(LookupFailure::Http(HttpFailure::NotAnswered)));
    assert_eq!(fetch(&seen).hops[0].tries[0].end, TryEnd::NoResponse(NetworkError::ClosedEarly), "{seen:?}");
    let seen = observe(&mut bench(resolver, proxy_port), &unknown);
    assert_eq!(judged(&unknown, &seen), Finding::Contradicted(Contradiction::Status(502)), "{seen:?}");

    // Certbot takes the verdict, asks for its certificate, and then takes its answers away.
    all.iter().for_each(|met| acme.decide(met, true));
    assert!(!client.ended_within(PATIENCE).success(), "no certificate is to be had");
    assert_eq!(acme.finalized(), 1, "{}", client.said());
    let seen = observe(&mut bench(resolver, port), &asked(&all[0]));
    assert_eq!(judged(&asked(&all[0]), &seen), Finding::Failed(LookupFailure::Http(HttpFailure::NotAnswered)));
    assert_eq!(fetch(&seen).hops[0].tries[0].end, TryEnd::NotConnected(NetworkError::Refused), "{seen:?}");
}

#[test]
fn a_file_of_certbots_webroot_is_confirmed_while_it_is_there() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (_unbound, resolver) = unbound_of_one_address(at);
    let (root, port) = (at.join("web"), free_port());
    fs::create_dir(&root).expect("a directory");
    let _lighttpd = lighttpd(at, port, &["mod_redirect"], "");

    let acme = AcmeServer::start(&["dns-01", "http-01"]);
    let mut client = certbot(at, &acme, &[WWW], &["--webroot", "--webroot-path", &root.display().to_string()]);
    let all = acme.wait_for(1, &mut client, PATIENCE);
    let mut bench = bench(resolver, port);
    assert_right_for_its_account_alone(&mut bench, &all[0], &body(BodyFault::OtherThumbprint));

    // A verdict against it: certbot gives up, and its file is gone.
    acme.decide(&all[0], false);
    assert!(!client.ended_within(PATIENCE).success());
    assert_eq!(acme.finalized(), 0);
    assert!(client.said().contains("Some challenges have failed"), "{}", client.said());
    let seen = observe(&mut bench, &asked(&all[0]));
    assert_eq!(judged(&asked(&all[0]), &seen), Finding::Contradicted(Contradiction::Status(404)), "{seen:?}");
}

/// A hook as people write them: `echo` ends the file with a line feed.
#[test]
fn a_file_that_certbots_hook_writes_is_confirmed_although_it_ends_with_a_line_feed() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (_unbound, resolver) = unbound_of_one_address(at);
    let (root, port) = (at.join("web"), free_port());
    let challenges = root.join(".well-known/acme-challenge");
    fs::create_dir_all(&challenges).expect("a directory");
    let shown = challenges.display();
    let hook = write(at, "hook.sh", &format!("echo $CERTBOT_VALIDATION > {shown}/$CERTBOT_TOKEN\n"));
    let server = format!("server {{ listen 127.0.0.1:{port}; root {}; }}", root.display());
    let _nginx = responder::nginx(at, "", &server).listening_on((Ipv4Addr::LOCALHOST, port));

    let acme = AcmeServer::start(&["http-01"]);
    let hook = format!("sh {hook}");
    let how = ["--manual", "--preferred-challenges", "http", "--manual-auth-hook", &hook];
    let mut client = certbot(at, &acme, &[WWW], &how);
    let met = acme.wait_for(1, &mut client, PATIENCE).remove(0);
    let file = challenges.join(&met.token);
    let written = fs::read_to_string(&file).expect("the hook's file");
    assert_eq!(written, format!("{}\n", met.key_authorization), "certbot and the test come to the same value");
    let mut bench = bench(resolver, port);
    assert_right_for_its_account_alone(&mut bench, &met, &body(BodyFault::OtherThumbprint));
    fs::write(&file, format!("{} of certbot\n", met.key_authorization)).expect("a file");
    let seen = observe(&mut bench, &asked(&met));
    assert_eq!(judged(&asked(&met), &seen), body(BodyFault::TrailingText), "{seen:?}");
}

/// A zone with nothing in it.
const EMPTY_ZONE: &str =
    "$ORIGIN customer.example.\n$TTL 0\n@ SOA ns hostmaster 1 600 60 600 0\n@ NS ns\nns A 127.0.0.1\n";

/// `cases.md` D18: a name and its wildcard have one challenge name, and both values stand there.
#[test]
fn txt_records_that_certbots_hooks_set_in_knot_are_confirmed_for_a_name_and_its_wildcard() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (_knot, knot_port) = responder::knot(at, &[(APEX, EMPTY_ZONE)]);
    let (_unbound, resolver) = responder::unbound_before(at, knot_port, &[APEX]);
    let knotc = program("knotc", "knot");
    let hook = |name: &str, verb: &str| {
        let knotc = format!("{} --blocking --socket {}/knot.sock", knotc.display(), at.display());
        let script = format!(
            "set -e\n{knotc} zone-begin customer.example\n\
             {knotc} {verb} customer.example _acme-challenge {ttl} TXT '\"'\"$CERTBOT_VALIDATION\"'\"'\n\
             {knotc} zone-commit customer.example\n",
            ttl = if verb == "zone-set" { "0" } else { "" },
        );
        format!("sh {}", write(at, name, &script))
    };
    let (set, unset) = (hook("set.sh", "zone-set"), hook("unset.sh", "zone-unset"));

    let acme = AcmeServer::start(&["http-01", "dns-01"]);
    let wildcard = format!("*.{APEX}");
    let how =
        ["--manual", "--preferred-challenges", "dns", "--manual-auth-hook", &set, "--manual-cleanup-hook", &unset];
    let mut client = certbot(at, &acme, &[APEX, &wildcard], &how);
    let all = acme.wait_for(2, &mut client, PATIENCE);
    let mut names: Vec<&str> = all.iter().map(|met| met.identifier.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [&wildcard, APEX]);
    let mut bench = Bench::start(&config(resolver));
    let txt = |found, hint| Finding::Contradicted(Contradiction::Txt(TxtFault { found, hint }));
    for met in &all {
        assert_eq!(met.kind, "dns-01");
        assert_right_for_its_account_alone(&mut bench, met, &txt(2, TxtHint::OtherDigest));
    }

    // One value taken away is missed, and what is left is known to be the other one's.
    let run_by_hand = |script: &str, met: &Met| {
        let digest = asked(met).control.expect("a challenge").key_authorization().expect("a key").digest();
        let mut words = script.split(' ');
        let mut command = Command::new(words.next().expect("a word"));
        responder::run(command.args(words).env("CERTBOT_VALIDATION", digest));
    };
    run_by_hand(&unset, &all[0]);
    let mut of_the_first = asked(&all[0]);
    of_the_first.sibling_digests =
        vec![asked(&all[1]).control.expect("a challenge").key_authorization().expect("a key").digest()];
    let seen = observe(&mut bench, &of_the_first);
    assert_eq!(judged(&of_the_first, &seen), txt(1, TxtHint::Sibling), "{seen:?}");
    let seen = observe(&mut bench, &asked(&all[1]));
    assert_eq!(judged(&asked(&all[1]), &seen), Finding::Confirmed, "{seen:?}");
    run_by_hand(&set, &all[0]);

    all.iter().for_each(|met| acme.decide(met, true));
    assert!(!client.ended_within(PATIENCE).success(), "no certificate is to be had");
    assert_eq!(acme.finalized(), 1, "{}", client.said());
    let seen = observe(&mut bench, &asked(&all[0]));
    let gone = Finding::Contradicted(Contradiction::NoRecord { nxdomain: true });
    assert_eq!(judged(&asked(&all[0]), &seen), gone, "its cleaning hook took the records away: {seen:?}");
}

/// dehydrated makes a certificate for tls-alpn-01, and lighttpd takes it out of dehydrated's directory.
#[test]
fn a_certificate_that_dehydrated_made_and_lighttpd_shows_is_confirmed_while_it_is_there() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (_unbound, resolver) = unbound_of_one_address(at);
    let (shown, port) = (at.display(), free_port());
    openssl_certificate(at, "server", &["subjectAltName=DNS:customer.example"]);
    fs::create_dir(at.join("alpn")).expect("a directory");
    let _lighttpd = lighttpd(
        at,
        port,
        &["mod_openssl"],
        &format!(
            "ssl.engine = \"enable\"\nssl.pemfile = \"{shown}/server.crt\"\n\
             ssl.privkey = \"{shown}/server.key\"\nssl.acme-tls-1 = \"{shown}/alpn\"\n"
        ),
    );

    let acme = AcmeServer::start(&["http-01", "tls-alpn-01"]);
    let settings = write(
        at,
        "dehydrated.conf",
        &format!(
            "CA=\"{}\"\nBASEDIR=\"{shown}\"\nALPNCERTDIR=\"{shown}/alpn\"\nCHALLENGETYPE=tls-alpn-01\n\
             KEYSIZE=2048\nKEY_ALGO=prime256v1\nCURL_OPTS=\"-q --noproxy 127.0.0.1\"\n",
            acme.directory()
        ),
    );
    let dehydrated = |what: &[&str]| {
        let mut command = Command::new(program("dehydrated", "dehydrated"));
        Process::start("dehydrated", command.args(what).args(["--config", &settings]), at)
    };
    let mut registering = dehydrated(&["--register", "--accept-terms"]);
    assert!(registering.ended_within(PATIENCE).success(), "{}", registering.said());
    let mut client = dehydrated(&["--cron", "--domain", WWW]);
    let met = acme.wait_for(1, &mut client, PATIENCE).remove(0);
    assert_eq!(met.kind, "tls-alpn-01");

    let mut settings = config(resolver);
    settings.laboratory.https_port = Some(port);
    let mut bench = Bench::start(&settings);
    let certificate = |fault| Finding::Contradicted(Contradiction::Certificate(fault));
    assert_right_for_its_account_alone(&mut bench, &met, &certificate(CertificateFault::OtherDigest));

    acme.decide(&met, true);
    assert!(!client.ended_within(PATIENCE).success(), "no certificate is to be had");
    assert_eq!(acme.finalized(), 1, "{}", client.said());
    let seen = observe(&mut bench, &asked(&met));
    let not_answered = Finding::Failed(LookupFailure::Tls(TlsProbeFailure::NotAnswered));
    assert_eq!(judged(&asked(&met), &seen), not_answered, "dehydrated took it away: {seen:?}");
}

/// A client that is given nothing it can do ends by itself, and a guard ends one that waits.
#[test]
fn certbot_ends_with_its_owner() {
    let directory = TempDir::new().expect("a temporary directory");
    let at = directory.path();
    let (acme, port) = (AcmeServer::start(&["http-01"]), free_port());
    let by = ["--standalone", "--http-01-address", "127.0.0.1", "--http-01-port", &port.to_string()];
    let mut client = certbot(at, &acme, &[WWW], &by);
    acme.wait_for(1, &mut client, PATIENCE);
    let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
    assert!(listens());
    drop(client);
    assert!(!listens(), "certbot still runs");

    let no_way = AcmeServer::start(&["tls-alpn-01"]);
    let mut client = certbot(at, &no_way, &[WWW], &by);
    assert!(!client.ended_within(PATIENCE).success());
    assert!(client.said().contains("does not support any combination of challenges"), "{}", client.said());
}
