//! Domains, accounts and zones: what the owner publishes, what the attacker publishes in its place, and the signed tree
//! above.
//!
//! Owner and attacker each have an account of their own, with the token the CA gave it, and each publishes its own
//! challenge wherever it has control. The attacker signs nothing: it has no key that the parent zone names.
//!
//! Left out: aliases, and zones with more than one name server.

use std::{fmt, fs, net::Ipv4Addr, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    error::InternetError,
    programs::{Needed, output},
    topology::{ATTACKER, address, dns_address, root_address, tld_address, web_address},
};
use crate::lab::world::ISSUER_DOMAIN;

const TTL_SECONDS: u32 = 60;
/// How long signatures are good for. They begin an hour before, in case clocks are apart.
const SIGNED_DAYS: i64 = 7;
const TLD: &str = "example";

/// A domain under attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Domain {
    /// Neither signed nor bound to an account.
    Plain,
    /// CAA names the owner's account (RFC 8657).
    Bound,
    /// Signed.
    Signed,
    /// Both.
    SignedBound,
}

/// How control is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// By a file on the web server (RFC 8555 §8.3).
    Http01,
    /// By a TXT record (RFC 8555 §8.4).
    Dns01,
    /// By a certificate that the web server shows (RFC 8737).
    TlsAlpn01,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// Whose name it is.
    Owner,
    /// Who wants a certificate for it.
    Attacker,
}

impl Domain {
    /// All.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Bound, Self::Signed, Self::SignedBound];

    /// Its label below the top-level domain.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Bound => "bound",
            Self::Signed => "signed",
            Self::SignedBound => "signedbound",
        }
    }

    /// The name of its zone.
    #[must_use]
    pub fn name(self) -> String {
        format!("{}.{TLD}", self.label())
    }

    /// The name that a certificate is wanted for.
    #[must_use]
    pub fn host(self) -> String {
        format!("www.{}", self.name())
    }

    /// Whether its zone is signed, with a DS record above.
    #[must_use]
    pub fn is_signed(self) -> bool {
        matches!(self, Self::Signed | Self::SignedBound)
    }

    /// Whether its CAA record names the owner's account.
    #[must_use]
    pub fn is_bound(self) -> bool {
        matches!(self, Self::Bound | Self::SignedBound)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Method {
    /// All.
    pub const ALL: [Self; 3] = [Self::Http01, Self::Dns01, Self::TlsAlpn01];

    /// As requests name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

impl Actor {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Owner, Self::Attacker];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Attacker => "attacker",
        }
    }

    /// The account it has with the CA.
    #[must_use]
    pub fn account_uri(self) -> String {
        let number = match self {
            Self::Owner => 7,
            Self::Attacker => 666,
        };
        format!("https://{ISSUER_DOMAIN}/acct/{number}")
    }

    /// The token that the CA gave it for a domain.
    #[must_use]
    pub fn token(self, domain: Domain) -> String {
        digest(&format!("token of the {} for {domain}", self.name()))
    }

    /// Token, dot, thumbprint of its account key.
    #[must_use]
    pub fn key_authorization(self, domain: Domain) -> String {
        format!("{}.{}", self.token(domain), self.thumbprint())
    }

    /// What its TXT record holds.
    #[must_use]
    pub fn txt_value(self, domain: Domain) -> String {
        digest(&self.key_authorization(domain))
    }

    /// The same as octets: what its certificate for tls-alpn-01 holds.
    #[must_use]
    pub fn challenge_digest(self, domain: Domain) -> [u8; 32] {
        Sha256::digest(self.key_authorization(domain)).into()
    }

    /// What names the account in a key authorization.
    #[must_use]
    pub fn thumbprint(self) -> String {
        digest(&format!("account key of the {}", self.name()))
    }

    /// Where its web server is: the attacker's at an address of its own as well as at the stolen one.
    fn web(self) -> Ipv4Addr {
        match self {
            Self::Owner => web_address(),
            Self::Attacker => address(ATTACKER, 1),
        }
    }
}

/// What a web server's answer to an unknown path begins with, by whose server it is.
#[must_use]
pub fn refusal_of(actor: Actor) -> String {
    format!("{}'s server: no such file\n", actor.name())
}

fn digest(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

/// A domain's zone as this actor serves it, unsigned. Names below it that nobody wrote down lead to the web server.
#[must_use]
pub fn zone(domain: Domain, by: Actor) -> String {
    let mut text = head(&domain.name(), &format!("ns1.{domain}"), dns_address());
    text += &format!("www.{domain}. A {}\n*.{domain}. A {}\n", by.web(), by.web());
    text += &format!("_acme-challenge.www.{domain}. TXT \"{}\"\n", by.txt_value(domain));
    if by == Actor::Owner && domain.is_bound() {
        let account = Actor::Owner.account_uri();
        let methods = Method::ALL.map(Method::name).join(",");
        text +=
            &format!("{domain}. CAA 0 issue \"{ISSUER_DOMAIN}; accounturi={account}; validationmethods={methods}\"\n");
    }
    text
}

/// The top-level domain, with delegations and these DS records.
fn tld(ds: &str) -> String {
    let mut text = head(TLD, &format!("ns.nic.{TLD}"), tld_address());
    for domain in Domain::ALL {
        text += &format!("{domain}. NS ns1.{domain}.\nns1.{domain}. A {}\n", dns_address());
    }
    text + ds
}

/// The root, with the delegation and this DS record.
fn root(ds: &str) -> String {
    head("", "a.root", root_address()) + &format!("{TLD}. NS ns.nic.{TLD}.\nns.nic.{TLD}. A {}\n{ds}", tld_address())
}

/// Where a resolver begins.
#[must_use]
pub fn root_hints() -> String {
    format!(". 3600 NS a.root.\na.root. 3600 A {}\n", root_address())
}

fn head(zone: &str, server: &str, at: Ipv4Addr) -> String {
    format!(
        "$ORIGIN .\n$TTL {TTL_SECONDS}\n{zone}. SOA {server}. hostmaster.nic.{TLD}. 1 3600 600 86400 {TTL_SECONDS}\n\
         {zone}. NS {server}.\n{server}. A {at}\n"
    )
}

/// Writes all zone files to a directory, signed where they are to be; returns the root's DS record.
///
/// # Errors
/// The signer is missing or says no, or a file cannot be written.
pub fn write(directory: &Path) -> Result<String, InternetError> {
    let file = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(InternetError::file(path))
    };
    let mut ds = String::new();
    for domain in Domain::ALL {
        file(&format!("attacker.{}", domain.label()), zone(domain, Actor::Attacker))?;
        let (name, text) = (format!("owner.{}", domain.label()), zone(domain, Actor::Owner));
        if domain.is_signed() {
            ds += &sign(directory, &name, &domain.name(), text)?;
        } else {
            file(&name, text)?;
        }
    }
    let ds = sign(directory, "tld", TLD, tld(&ds))?;
    let anchor = sign(directory, "root", "", root(&ds))?;
    file("root.hints", root_hints())?;
    file("root.ds", anchor.clone())?;
    Ok(anchor)
}

/// Signs a zone with a new key into the file `name`; returns its DS record, one line.
fn sign(directory: &Path, name: &str, zone: &str, text: String) -> Result<String, InternetError> {
    let keys = directory.join(format!("{name}.keys"));
    fs::create_dir_all(&keys).map_err(InternetError::file(&keys))?;
    let input = directory.join(format!("{name}.unsigned"));
    fs::write(&input, text).map_err(InternetError::file(&input))?;
    let (zone, shown) = (format!("{zone}."), |path: &Path| path.display().to_string());
    let (folder, input, signed) = (shown(&keys), shown(&input), shown(&directory.join(name)));
    let ttl = TTL_SECONDS.to_string();
    let made =
        output(&Needed::KEYGEN, &["-q", "-K", &folder, "-L", &ttl, "-a", "ECDSAP256SHA256", "-f", "KSK", &zone])?;
    let time = |from_now: SignedDuration| (Timestamp::now() + from_now).strftime("%Y%m%d%H%M%S").to_string();
    let (from, to) = (time(SignedDuration::from_hours(-1)), time(SignedDuration::from_hours(24 * SIGNED_DAYS)));
    // One key for everything: -z.
    let mut arguments = vec!["-q", "-P", "-z", "-S", "-n", "1", "-K", &folder, "-d", &folder];
    arguments.extend(["-s", &from, "-e", &to, "-o", &zone, "-f", &signed, &input]);
    output(&Needed::SIGNZONE, &arguments)?;
    let key = keys.join(made.trim());
    let ds = output(&Needed::DSFROMKEY, &["-2", &shown(&key)])?;
    Ok(ds.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_and_attacker_publish_different_things_at_the_same_names() {
        for domain in Domain::ALL {
            let (owner, attacker) = (zone(domain, Actor::Owner), zone(domain, Actor::Attacker));
            assert!(owner.contains(&Actor::Owner.txt_value(domain)) && !owner.contains("198.18.66."));
            assert!(attacker.contains(&Actor::Attacker.txt_value(domain)) && !attacker.contains("198.18.31."));
            assert_eq!(owner.contains(" CAA "), domain.is_bound());
            assert!(!attacker.contains(" CAA "), "the attacker leaves out what would forbid");
        }
    }

    #[test]
    fn ok_account_binding() {
        let line = "bound.example. CAA 0 issue \"ca.example; accounturi=https://ca.example/acct/7; \
                    validationmethods=http-01,dns-01,tls-alpn-01\"\n";
        assert!(zone(Domain::Bound, Actor::Owner).ends_with(line));
    }

    #[test]
    fn tokens_are_of_their_account_and_domain() {
        let mut all: Vec<_> =
            Actor::ALL.iter().flat_map(|actor| Domain::ALL.map(|domain| actor.token(domain))).collect();
        assert!(all.iter().all(|token| token.len() == 43));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 8);
        assert_ne!(Actor::Owner.thumbprint(), Actor::Attacker.thumbprint());
        assert!(Actor::Owner.key_authorization(Domain::Plain).ends_with(&Actor::Owner.thumbprint()));
    }

    #[test]
    fn the_tree_delegates_every_domain() {
        let tld = tld("");
        for domain in Domain::ALL {
            assert!(tld.contains(&format!("{domain}. NS ns1.{domain}.\nns1.{domain}. A 198.18.32.53\n")));
        }
        assert!(root("").contains("example. NS ns.nic.example.\nns.nic.example. A 198.18.33.54\n"));
        assert!(root_hints().contains("198.18.33.53"));
    }
}
