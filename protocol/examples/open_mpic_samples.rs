//! Writes requests and answers of the Open MPIC interface to a directory, a file each, for `scripts/open-mpic-models`.
//! What comes before the first dot of a file's name says what it is.

#[path = "../tests/made/mod.rs"]
mod made;

use std::{env, error::Error, fs, path::Path};

use made::*;
use parallax_validation::{
    observation::{DnsFailure, Observation, RecordType, TlsOutcome, TlsProbeFailure, TlsTryEnd},
    verdict::PerspectiveState,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args().nth(1).ok_or("give a directory")?;
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    let write = |kind: &str, name: &str, body: &str| fs::write(directory.join(format!("{kind}.{name}.json")), body);
    for (name, parameters, seen) in controls() {
        let body = dcv_request(parameters.clone());
        write("MpicRequest", name, &body.to_string())?;
        let called = call(&body, vec![all_but_one(seen.clone(), PerspectiveState::NotAwaited)]);
        write("MpicResponse", name, &called.reply.body)?;
        let body = json!({ "domain_or_ip_target": NAME, "dcv_check_parameters": parameters });
        write("DcvCheckRequest", name, &body.to_string())?;
        write("DcvCheckResponse", name, &check_reply("/dcv", &body, Ok(seen)).body)?;
    }
    let parameters = json!({ "certificate_type": "tls-server", "caa_domains": ["ca1.example"] });
    for (name, seen) in authorities() {
        let body = with(
            orchestrated(json!({ "perspective_count": 5, "quorum_count": 4, "max_attempts": 2 })),
            json!({ "trace_identifier": "t-1", "caa_check_parameters": parameters }),
        );
        write("MpicRequest", name, &body.to_string())?;
        write("MpicResponse", name, &call(&body, vec![all(seen.clone())]).reply.body)?;
        let body = json!({ "domain_or_ip_target": NAME, "caa_check_parameters": parameters });
        write("CaaCheckRequest", name, &body.to_string())?;
        write("CaaCheckResponse", name, &check_reply("/caa", &body, Ok(seen)).body)?;
    }
    write("MpicRequest", "caa_plain", &caa_request().to_string())?;
    write("MpicResponse", "caa_plain", &call(&caa_request(), vec![all(caa_seen(no_caa()))]).reply.body)?;
    Ok(())
}

fn controls() -> Vec<(&'static str, Value, Observation)> {
    let at = format!("_acme-challenge.{NAME}");
    let txt_of = |value: &str| dns_seen(answer(&at, RecordType::Txt, vec![txt(value)]));
    let moved = http_seen(
        vec![hop(&http01_url(), NAME, Some(302), Some("/x")), hop(&format!("http://{NAME}/x"), NAME, Some(200), None)],
        page(200, KEY),
    );
    let refused = TlsTryEnd::NotConnected(parallax_validation::observation::NetworkError::Refused);
    let file = format!("http://{NAME}/.well-known/pki-validation/a.txt");
    let contact_at = format!("_validation-contactemail.{NAME}");
    let persist_at = format!("_validation-persist.{NAME}");
    vec![
        ("http01", http01(), moved),
        ("http01_404", http01(), http01_page(404, "")),
        ("http01_wrong", http01(), http01_page(200, "x")),
        ("dns01", dns01(), txt_of(DIGEST)),
        ("dns01_nxdomain", dns01(), dns_seen(nxdomain(&at, RecordType::Txt))),
        ("tls_alpn01", tls_alpn01(), handshake(&[NAME], Some(&digest_octets()), true)),
        ("tls_alpn01_names", tls_alpn01(), handshake(&[NAME, "b.example"], Some(&digest_octets()), true)),
        ("tls_alpn01_refused", tls_alpn01(), tls_seen(TlsOutcome::Failed(TlsProbeFailure::NotAnswered), refused)),
        ("dns_change", dns_change("TXT", VALUE), dns_seen(answer(NAME, RecordType::Txt, vec![txt(VALUE)]))),
        ("website", website(), http_seen(vec![hop(&file, NAME, Some(200), None)], page(200, VALUE))),
        ("persist", persist(), dns_seen(nodata(&persist_at, RecordType::Txt))),
        (
            "contact",
            contact("contact-email-txt", "a@b.example"),
            dns_seen(answer(&contact_at, RecordType::Txt, vec![txt("a@b.example")])),
        ),
    ]
}

fn authorities() -> Vec<(&'static str, Observation)> {
    vec![
        ("caa", caa_seen(climb(&[(0, "issue", "ca1.example")]))),
        ("caa_other", caa_seen(climb(&[(0, "issue", "other.example")]))),
        ("caa_none", caa_seen(no_caa())),
        ("caa_failed", caa_seen(vec![failed(NAME, RecordType::Caa, DnsFailure::Rcode(2))])),
    ]
}
