//! A node against lighttpd and nginx as people set them up: compression switched on, bodies of unknown length,
//! redirects to http and https, and redirect rules that went wrong.
//!
//! Needs the Debian packages `lighttpd`, `lighttpd-mod-deflate`, `lighttpd-mod-openssl`, `nginx-light`, `openssl` and
//! `unbound`.

mod common;
mod responder;

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use common::{Bench, PATH, THUMBPRINT, TOKEN, config_over};
use parallax_node::Driver;
use parallax_validation::{
    check::{Contradiction, Finding, LookupFailure, dcv::http01::BodyFault},
    observation::{
        ControlObservation, DnsOutcome, HttpFailure, HttpObservation, Observation, RedirectReason, TlsFailure,
    },
};
use responder::{Process, by_hand, free_port, judged, observe, openssl_certificate, request, write};
use tempfile::TempDir;

with_both_drivers! {
    lighttpd_with_compression_and_chunks_is_read_as_it_is,
    redirects_of_lighttpd_to_http_and_https_are_followed,
    redirects_of_lighttpd_that_may_not_be_followed_are_not,
    nginx_with_compression_is_read_as_it_is_and_a_stored_compressed_file_is_not,
    a_redirect_of_nginx_to_https_is_followed_whoever_signed_the_certificate,
}

/// Tokens of challenges whose files are there.
const CHUNKED: &str = "chunkedchunkedchunkedchunked";
const ECHOED: &str = "echoedechoedechoedechoedecho";

/// A server for http and https, its resolver, and a node that looks at them.
struct Web {
    bench: Bench,
    port: u16,
    https_port: u16,
    _server: Process,
    _resolver: Process,
    directory: TempDir,
}

impl Web {
    fn start(driver: Driver, server: impl FnOnce(&Path, u16, u16) -> Process) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let at = directory.path();
        write(at, &format!("web{PATH}"), &format!("{TOKEN}.{THUMBPRINT}\n"));
        openssl_certificate(at, "server", &["subjectAltName=DNS:somebody.else.example"]);
        let (resolver, address) = responder::unbound_of_one_address(at);
        let (port, https_port) = (free_port(), free_port());
        let server = server(at, port, https_port)
            .listening_on((Ipv4Addr::LOCALHOST, port))
            .listening_on((Ipv4Addr::LOCALHOST, https_port));
        let mut settings = config_over(driver, address);
        (settings.laboratory.http_port, settings.laboratory.https_port) = (Some(port), Some(https_port));
        let bench = Bench::start(&settings);
        Self { bench, port, https_port, _server: server, _resolver: resolver, directory }
    }

    /// What http-01 finds at a name below `customer.example`, and what was seen.
    fn find(&mut self, label: &str, token: &str) -> (Finding, Observation) {
        let name = format!("{label}.customer.example");
        let request = request(&name, "http-01", token, &format!("{token}.{THUMBPRINT}"));
        let observation = observe(&mut self.bench, &request);
        let of_another = responder::request(&name, "http-01", token, &format!("{token}.{}", "A".repeat(43)));
        assert_ne!(judged(&of_another, &observation), Finding::Confirmed, "another account: {observation:?}");
        (judged(&request, &observation), observation)
    }

    /// The answer to a request written by hand that says which compression it takes.
    fn compressed(&self, label: &str, path: &str) -> String {
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: {label}.customer.example\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        );
        by_hand(self.port, &text).to_lowercase()
    }
}

fn fetch(observation: &Observation) -> &HttpObservation {
    match &observation.control {
        Some(ControlObservation::Http(fetch)) => fetch,
        other => panic!("no fetch: {other:?}"),
    }
}

fn statuses(observation: &Observation) -> Vec<u16> {
    fetch(observation).hops.iter().map(|hop| hop.response.as_ref().map_or(0, |head| head.status)).collect()
}

fn body(fault: BodyFault) -> Finding {
    Finding::Contradicted(Contradiction::Body(fault))
}

fn failed(failure: HttpFailure) -> Finding {
    Finding::Failed(LookupFailure::Http(failure))
}

#[track_caller]
fn assert_refused(finding: &Finding, reason: &RedirectReason) {
    let Finding::Failed(LookupFailure::Http(HttpFailure::RedirectRefused(refusal))) = finding else {
        panic!("{finding:?}")
    };
    assert_eq!(refusal.reason, *reason);
}

/// lighttpd with a host for each way to answer. Hosts without one serve files.
fn lighttpd(at: &Path, port: u16, https_port: u16) -> Process {
    let shown = at.display();
    let redirect = |label: &str, code: u16, rule: &str| {
        format!(
            "$HTTP[\"host\"] == \"{label}.customer.example\" {{\n url.redirect = ( {rule} )\n \
             url.redirect-code = {code}\n}}\n"
        )
    };
    let redirects = [
        redirect("moved", 301, r#""^/(.*)" => "http://www.customer.example/$1""#),
        redirect("found", 302, r#""" => "http://www.customer.example${url.path}""#),
        redirect("kept", 308, r#""" => "http://www.customer.example${url.path}""#),
        redirect(
            "chunkedly",
            302,
            &format!(r#""" => "http://cgi.customer.example/.well-known/acme-challenge/{CHUNKED}""#),
        ),
        redirect("other", 303, r#""" => "http://www.customer.example${url.path}""#),
        redirect("port", 302, r#""" => "https://www.customer.example:9443${url.path}""#),
        redirect("slash", 301, r#""^/(.*)" => "http://www.customer.example$1""#),
        redirect("loop", 301, r#""" => "http://loop.customer.example${url.path}""#),
        redirect("longer", 301, r#""" => "http://longer.customer.example${url.path}x""#),
    ]
    .concat();
    let text = format!(
        "server.stream-response-body = 1\n\
         deflate.mimetypes = ( \"\" )\ndeflate.allowed-encodings = ( \"gzip\", \"deflate\" )\n\
         deflate.min-compress-size = 1\n\
         $SERVER[\"socket\"] == \"127.0.0.1:{https_port}\" {{\n ssl.engine = \"enable\"\n \
         ssl.pemfile = \"{shown}/server.crt\"\n ssl.privkey = \"{shown}/server.key\"\n}}\n\
         $HTTP[\"host\"] == \"cgi.customer.example\" {{ cgi.assign = ( \"\" => \"/bin/sh\" ) }}\n\
         $HTTP[\"host\"] == \"soft.customer.example\" {{\n server.error-handler-404 = \"/soft.cgi\"\n \
         cgi.assign = ( \".cgi\" => \"/bin/sh\" )\n}}\n\
         $HTTP[\"scheme\"] == \"http\" {{ $HTTP[\"host\"] == \"secure.customer.example\" {{\n \
         url.redirect = ( \"\" => \"https://${{url.authority}}${{url.path}}${{qsa}}\" )\n url.redirect-code = 301\n}} }}\n\
         {redirects}"
    );
    let challenges = "web/.well-known/acme-challenge";
    // A program's output has no length of which the server could speak.
    let script = format!("printf 'Content-Type: text/plain\\n\\n'\nprintf {CHUNKED}.\nsleep 0.2\necho {THUMBPRINT}\n");
    write(at, &format!("{challenges}/{CHUNKED}"), &script);
    let soft = "printf 'Status: 200\\nContent-Type: text/html\\n\\n'\necho \"<p>No $REQUEST_URI here</p>\"\n";
    write(at, "web/soft.cgi", soft);
    responder::lighttpd(at, port, &["mod_redirect", "mod_deflate", "mod_cgi", "mod_openssl"], &text)
}

fn lighttpd_with_compression_and_chunks_is_read_as_it_is(driver: Driver) {
    let mut web = Web::start(driver, lighttpd);
    let (finding, seen) = web.find("www", TOKEN);
    assert_eq!(finding, Finding::Confirmed, "{seen:?}");
    let head = fetch(&seen).hops[0].response.as_ref().expect("a head");
    assert!(head.server.as_ref().expect("a name").as_slice().starts_with(b"lighttpd/"), "{head:?}");
    assert_eq!(head.content_encoding, None, "compression was not asked for");
    // It is on all the same, for whoever asks.
    let compressed = web.compressed("www", PATH);
    assert!(compressed.contains("content-encoding: gzip"), "{compressed}");

    let (finding, seen) = web.find("cgi", CHUNKED);
    assert_eq!(finding, Finding::Confirmed, "{seen:?}");
    let chunked = web.compressed("cgi", &format!("/.well-known/acme-challenge/{CHUNKED}"));
    assert!(chunked.contains("transfer-encoding: chunked"), "{chunked}");

    let (finding, seen) = web.find("www", ECHOED);
    assert_eq!(finding, Finding::Contradicted(Contradiction::Status(404)), "{seen:?}");
    // `cases.md` D12: a page that is not there, says 200 and prints the URL.
    let (finding, seen) = web.find("soft", ECHOED);
    assert_eq!(finding, body(BodyFault::EchoesToken), "{seen:?}");
    // The program's text in place of what it prints: with the right token, but not the right body.
    let (finding, seen) = web.find("www", CHUNKED);
    assert_eq!(finding, body(BodyFault::EchoesToken), "{seen:?}");
}

fn redirects_of_lighttpd_to_http_and_https_are_followed(driver: Driver) {
    let mut web = Web::start(driver, lighttpd);
    for (label, token, status) in
        [("moved", TOKEN, 301), ("found", TOKEN, 302), ("kept", TOKEN, 308), ("chunkedly", CHUNKED, 302)]
    {
        let (finding, seen) = web.find(label, token);
        assert_eq!((finding, statuses(&seen)), (Finding::Confirmed, vec![status, 200]), "{label}: {seen:?}");
    }
    // `cases.md` D09: the certificate is somebody else's and its own signer.
    let (finding, seen) = web.find("secure", TOKEN);
    assert_eq!((finding, statuses(&seen)), (Finding::Confirmed, vec![301, 200]), "{seen:?}");
    let last = &fetch(&seen).hops[1];
    assert_eq!(last.url, format!("https://secure.customer.example{PATH}"));
    let content = last.tls.as_ref().expect("TLS").certificate.content.as_ref().expect("readable");
    assert_eq!((content.self_signed, content.name_matches), (true, false));
    // A redirect shows nothing by itself.
    for label in ["moved", "secure"] {
        let (finding, seen) = web.find(label, ECHOED);
        assert_eq!(finding, Finding::Contradicted(Contradiction::Status(404)), "{seen:?}");
    }
}

fn redirects_of_lighttpd_that_may_not_be_followed_are_not(driver: Driver) {
    let mut web = Web::start(driver, lighttpd);
    // `cases.md` D10 a, b and f.
    assert_refused(&web.find("port", TOKEN).0, &RedirectReason::Port(9443));
    assert_eq!(web.find("other", TOKEN).0, Finding::Contradicted(Contradiction::Status(303)));
    assert_refused(&web.find("loop", TOKEN).0, &RedirectReason::Loop);
    let (finding, seen) = web.find("longer", TOKEN);
    assert_eq!((finding, statuses(&seen)), (failed(HttpFailure::TooManyRedirects), vec![301; 11]), "{seen:?}");
    // `cases.md` D11: a rule without the slash makes another host of it.
    let (finding, seen) = web.find("slash", TOKEN);
    assert_eq!(finding, failed(HttpFailure::NoAddress), "{seen:?}");
    let last = &fetch(&seen).hops[1];
    assert!(last.url.starts_with("http://www.customer.example.well-known/"), "{}", last.url);
    assert!(matches!(last.resolution[0].outcome, DnsOutcome::Nxdomain(_)), "{last:?}");
}

/// nginx with compression on, a redirect to https, and files that are stored compressed.
fn nginx(at: &Path, port: u16, https_port: u16) -> Process {
    let shown = at.display();
    let server = |name: &str, more: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port}; server_name {name}.customer.example; root {shown}/web;\n{more} }}\n"
        )
    };
    let servers = [
        server("www", ""),
        server("secure", "return 301 https://$host$request_uri;"),
        server("stored", "gzip_static always;"),
        // What a redirect leaves over when it forgets that it is the one redirected to.
        server("loop", "return 301 http://$host$request_uri;"),
        server("plain", &format!("return 301 https://plain.customer.example:443{PATH};")),
        format!(
            "server {{ listen 127.0.0.1:{https_port} ssl http2; root {shown}/web; server_name secure.customer.example;\n\
             ssl_certificate {shown}/server.crt; ssl_certificate_key {shown}/server.key; }}\n"
        ),
        format!(
            "server {{ listen 127.0.0.1:{https_port} ssl; server_name plain.customer.example; ssl_reject_handshake on; }}\n"
        ),
    ]
    .concat();
    responder::nginx(at, "gzip on; gzip_types *; gzip_min_length 1; gzip_http_version 1.0;", &servers)
}

fn nginx_with_compression_is_read_as_it_is_and_a_stored_compressed_file_is_not(driver: Driver) {
    let mut web = Web::start(driver, nginx);
    let (finding, seen) = web.find("www", TOKEN);
    assert_eq!(finding, Finding::Confirmed, "{seen:?}");
    assert_eq!(fetch(&seen).hops[0].response.as_ref().expect("a head").content_encoding, None);
    let compressed = web.compressed("www", PATH);
    assert!(compressed.contains("content-encoding: gzip"), "{compressed}");
    // `cases.md` D13: sent compressed to one who does not take it.
    let file = web.directory.path().join(format!("web{PATH}"));
    responder::run(Command::new("gzip").arg("--keep").arg(&file));
    let (finding, seen) = web.find("stored", TOKEN);
    assert_eq!(finding, body(BodyFault::Compressed), "{seen:?}");
    fs::remove_file(file.with_extension("gz")).expect("the compressed file");
    let (finding, seen) = web.find("stored", TOKEN);
    assert_eq!(finding, Finding::Confirmed, "now only the plain file is there: {seen:?}");
}

fn a_redirect_of_nginx_to_https_is_followed_whoever_signed_the_certificate(driver: Driver) {
    let mut web = Web::start(driver, nginx);
    let (finding, seen) = web.find("secure", TOKEN);
    assert_eq!((finding, statuses(&seen)), (Finding::Confirmed, vec![301, 200]), "{seen:?}");
    let content = fetch(&seen).hops[1].tls.as_ref().expect("TLS").certificate.content.as_ref().expect("readable");
    assert_eq!((content.self_signed, content.name_matches), (true, false));
    let (finding, _) = web.find("secure", ECHOED);
    assert_eq!(finding, Finding::Contradicted(Contradiction::Status(404)));
    assert_refused(&web.find("loop", TOKEN).0, &RedirectReason::Loop);
    // No certificate for this name: nginx ends the handshake with unrecognized_name.
    let (finding, seen) = web.find("plain", TOKEN);
    assert_eq!(finding, failed(HttpFailure::Tls(TlsFailure::Alert(112))), "{seen:?}");
    assert_ne!(web.https_port, web.port);
}
