//! dns-account-01: TLS BR 2.3.1 §3.2.2.4.21, draft-ietf-acme-dns-account-label-00, which the section pins (req D8).
//!
//! The value is that of dns-01, at a name that belongs to one account, so that several accounts can show control
//! of one name side by side. Later drafts may change the label; this is that of draft 00.

use sha2::{Digest, Sha256};

use super::dns01;
use crate::{base::name::DomainName, check::Finding, observation::DnsLookup, request::KeyAuthorization};

/// `_` and sixteen characters: the first ten octets of SHA-256 of the account's URI, in base32 (RFC 4648 §6) and
/// lower case.
#[must_use]
pub fn label(account_uri: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digest = Sha256::digest(account_uri.as_bytes());
    // Ten octets are sixteen groups of five bits, so there is no padding.
    let bits = digest.iter().take(10).fold(0_u128, |bits, octet| bits << 8 | u128::from(*octet));
    let letters = (0..16).rev().map(|group| char::from(ALPHABET[(bits >> (5 * group) & 31) as usize]));
    std::iter::once('_').chain(letters).collect()
}

/// The name whose TXT is asked.
#[must_use]
pub fn record_name(account_uri: &str, name: &DomainName) -> String {
    format!("{}._acme-challenge.{name}", label(account_uri))
}

/// Judges a TXT lookup as dns-01 does.
#[must_use]
pub fn judge(key: &KeyAuthorization, sibling_digests: &[String], seen: &DnsLookup) -> Finding {
    dns01::judge(&key.digest(), Some(key), sibling_digests, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d8_the_label_of_the_draft_s_example() {
        assert_eq!(label("https://example.com/acme/acct/ExampleAccount"), "_ujmmovf2vn55tgye");
        let name = "www.customer.example".parse().expect("a name");
        let wanted = "_ujmmovf2vn55tgye._acme-challenge.www.customer.example";
        assert_eq!(record_name("https://example.com/acme/acct/ExampleAccount", &name), wanted);
    }

    #[test]
    fn d8_another_spelling_is_another_account() {
        let labels = ["https://ca.example/acct/7", "https://ca.example/acct/8", "https://CA.example/acct/7"].map(label);
        assert!(labels.iter().all(|label| label.len() == 17));
        assert!(labels[0] != labels[1] && labels[0] != labels[2] && labels[1] != labels[2]);
    }
}
