//! A line of a bulk file as calls of Open MPIC's API: one for control and one for CAA.

#![allow(dead_code, reason = "each test file uses its part")]

use parallax_validation::request::RawRequest;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The calls; none if their API has no words for it.
pub(crate) fn calls(raw: &RawRequest) -> Option<Vec<Value>> {
    // Nothing there is bound to an account, derived from another name, or for a mailbox.
    let has_more = raw.authorization_domain.is_some()
        || raw.reverse_name.is_some()
        || raw.mail_host.is_some()
        || raw.identifier.contains('@')
        || raw.method == "dns-account-01";
    if has_more {
        return None;
    }
    let call = |kind: &str, parameters: Option<Value>| {
        let mut body = Map::new();
        body.insert("check_type".into(), kind.into());
        body.insert("domain_or_ip_target".into(), raw.identifier.as_str().into());
        body.insert("orchestration_parameters".into(), json!({ "max_attempts": 1 }));
        if let Some(parameters) = parameters {
            body.insert(format!("{kind}_check_parameters"), parameters);
        }
        Value::Object(body)
    };
    let digest = || Sha256::digest(raw.key_authorization.as_deref().unwrap_or_default());
    let value = || raw.random_value.clone().unwrap_or_default();
    let dcv = match raw.method.as_str() {
        "caa" => None,
        "http-01" => Some(json!({
            "validation_method": "acme-http-01", "token": raw.token, "key_authorization": raw.key_authorization,
        })),
        "dns-01" => {
            use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
            let hash = BASE64_URL_SAFE_NO_PAD.encode(digest());
            Some(json!({ "validation_method": "acme-dns-01", "key_authorization_hash": hash }))
        }
        "tls-alpn-01" => {
            let hash: String = digest().iter().map(|octet| format!("{octet:02x}")).collect();
            Some(json!({ "validation_method": "acme-tls-alpn-01", "key_authorization_hash": hash }))
        }
        "dns-change" => {
            let record_type = raw.record_type.as_deref().unwrap_or("TXT");
            let mut parameters = json!({
                "validation_method": "dns-change", "challenge_value": value(), "dns_record_type": record_type,
                "dns_name_prefix": raw.prefix_label,
            });
            if record_type == "TXT" {
                parameters["require_exact_match"] = true.into();
            }
            Some(parameters)
        }
        "website-change" => Some(json!({
            "validation_method": "website-change", "challenge_value": value(), "http_token_path": raw.file,
            "url_scheme": raw.scheme.as_deref().unwrap_or("http"),
        })),
        "dns-persist-01" => Some(json!({
            "validation_method": "dns-persistent", "issuer_domain_names": ["ca.example"],
            "expected_account_uri": raw.account_uri,
        })),
        method @ ("contact-email-txt" | "contact-phone-txt" | "contact-email-caa" | "contact-phone-caa") => {
            Some(json!({ "validation_method": method, "challenge_value": raw.contact }))
        }
        _ => return None,
    };
    let is_address = raw.identifier.parse::<std::net::IpAddr>().is_ok();
    let with_caa = raw.caa.unwrap_or(!is_address);
    let control = dcv.map(|parameters| call("dcv", Some(parameters)));
    Some(control.into_iter().chain(with_caa.then(|| call("caa", None))).collect())
}
