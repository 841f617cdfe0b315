//! Seed, names and tokens: the arithmetic both the generator and the servers rest on.
//!
//! Invariant: nothing here depends on anything but the [`World`] and an index.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    error::LabError,
    kinds::{Kind, Pace, SLOW_SHARE, WEIGHTS_TOTAL},
};

/// As many requests as seven digits can number.
pub const REQUESTS_MAX: u64 = 10_000_000;
/// The zone all names are in.
pub const ZONE: &str = "lab.example";
/// Who we are in CAA records.
pub const ISSUER_DOMAIN: &str = "ca.example";
/// Our account, as `accounturi` names it.
pub const ACCOUNT_URI: &str = "https://ca.example/acct/7";
/// The label of [`ACCOUNT_URI`] in dns-account-01: base32 of the first ten octets of its SHA-256.
pub const ACCOUNT_LABEL: &str = "_xxgbwvh7heppirbk";
/// The web server most names point to.
pub const VICTIM: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);
/// A second good web server.
pub const SECOND: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 2);
/// SYNs to it go unanswered.
pub const BLACK_HOLE: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 9);
/// Nothing listens.
pub const CLOSED: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 10);
/// Resets after reading the request.
pub const RESETTING: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 66);
/// The attacker's web server.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 3, 6, 6);
/// The host that the address [`VICTIM`] has as its name.
pub const REVERSE_NAME: &str = "ptr.lab.example";
/// The contacts that were chosen.
pub const CONTACT_EMAIL: &str = "security@lab.example";
/// The telephone number that was chosen.
pub const CONTACT_PHONE: &str = "+1 555 0100";
/// The good web server over IPv6, where everything is on one host: that has one loopback address.
pub const VICTIM_V6: Ipv6Addr = Ipv6Addr::LOCALHOST;

/// What `lab.json` holds: enough to derive everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// The seed.
    pub seed: u64,
    /// How many requests there are.
    pub requests: u64,
    /// Where the resolvers listen.
    pub dns_port: u16,
    /// Where the web servers listen.
    pub http_port: u16,
    /// Where they listen for TLS.
    #[serde(default = "usual_https_port")]
    pub https_port: u16,
    /// The good web server over IPv6. A loopback address reaches no further than its own network namespace.
    #[serde(default = "usual_site_ipv6")]
    pub site_ipv6: Ipv6Addr,
    /// The share of requests that cost waiting time; at most what the kinds hold.
    pub slow_share: f64,
}

fn usual_site_ipv6() -> Ipv6Addr {
    VICTIM_V6
}

fn usual_https_port() -> u16 {
    8443
}

/// One of the six perspectives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perspective(u8);

impl Perspective {
    /// The primary first, then the remotes.
    pub const ALL: [Self; 6] = [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5)];
    /// The primary.
    pub const PRIMARY: Self = Self(0);

    /// Its number, 0 for the primary.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// The resolver it asks.
    #[must_use]
    pub fn resolver(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 2, 0, self.0 + 1)
    }

    /// The address its connections come from.
    #[must_use]
    pub fn source(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 1, 0, self.0 + 1)
    }

    /// Who connects from an address; over IPv6 nobody can tell.
    #[must_use]
    pub fn from_source(address: IpAddr) -> Option<Self> {
        Self::ALL.into_iter().find(|p| IpAddr::V4(p.source()) == address)
    }
}

/// One request's story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The request's number.
    pub index: u64,
    /// What kind of request it is.
    pub kind: Kind,
    /// The good web server over IPv6.
    pub site_ipv6: Ipv6Addr,
    seed: u64,
    /// Bit n stands for [`Perspective`] n.
    odd: u8,
}

impl World {
    /// A world with the usual ports and shares.
    #[must_use]
    pub fn new(seed: u64, requests: u64) -> Self {
        Self {
            seed,
            requests,
            dns_port: 5300,
            http_port: 8080,
            https_port: usual_https_port(),
            site_ipv6: VICTIM_V6,
            slow_share: SLOW_SHARE,
        }
    }

    /// Checks what was written in a file or on the command line.
    ///
    /// # Errors
    ///
    /// Too many requests, or a share of slow ones that is out of range.
    pub fn checked(self) -> Result<Self, LabError> {
        if self.requests > REQUESTS_MAX {
            return Err(LabError::TooMany(self.requests));
        }
        if !(0.0..=0.03).contains(&self.slow_share) {
            return Err(LabError::SlowShare(self.slow_share));
        }
        Ok(self)
    }

    /// The scenario of a request.
    #[must_use]
    pub fn scenario(&self, index: u64) -> Scenario {
        let mut kind = kind_at(self.seed, index);
        let chance = (mix(self.seed, index, 2) >> 11) as f64 / (1_u64 << 53) as f64;
        if kind.pace() == Pace::Slow && chance * SLOW_SHARE >= self.slow_share {
            kind = Kind::HttpOk;
        }
        if kind == Kind::BadDuplicate && earlier_good_line(self.seed, index).is_none() {
            kind = Kind::BadSyntax;
        }
        let odd = odd_remotes(kind, mix(self.seed, index, 3));
        Scenario { index, kind, site_ipv6: self.site_ipv6, seed: self.seed, odd }
    }

    /// Where a perspective's resolver listens.
    #[must_use]
    pub fn resolver(&self, perspective: Perspective) -> SocketAddr {
        (perspective.resolver(), self.dns_port).into()
    }

    /// Where a web server listens.
    #[must_use]
    pub fn web_server(&self, address: impl Into<IpAddr>) -> SocketAddr {
        (address, self.http_port).into()
    }

    /// Where a web server listens for TLS.
    #[must_use]
    pub fn tls_server(&self, address: impl Into<IpAddr>) -> SocketAddr {
        (address, self.https_port).into()
    }

    /// The scenario that a host name belongs to, by its label to the last letter.
    #[must_use]
    pub fn scenario_of_name(&self, name: &str) -> Option<Scenario> {
        let (index, start) = index_of_name(name).filter(|(index, _)| *index < self.requests)?;
        let scenario = self.scenario(index);
        (name[start..] == scenario.base()).then_some(scenario)
    }

    /// The key authorization of all requests for addresses by tls-alpn-01.
    #[must_use]
    pub fn address_key_authorization(&self) -> String {
        let kind = Kind::AlpnIp;
        Scenario { index: 0, kind, site_ipv6: self.site_ipv6, seed: self.seed, odd: 0 }.key_authorization()
    }
}

/// Each run of [`WEIGHTS_TOTAL`] requests holds every slot exactly once, in an order of its own.
fn kind_at(seed: u64, index: u64) -> Kind {
    let (block, place) = (index / WEIGHTS_TOTAL, index % WEIGHTS_TOTAL);
    let mut step = 1 + mix(seed, block, 0) % (WEIGHTS_TOTAL - 1);
    while gcd(step, WEIGHTS_TOTAL) != 1 {
        step += 1;
    }
    Kind::in_slot(step * place + mix(seed, block, 1) % WEIGHTS_TOTAL)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The nearest earlier request whose line has a readable id.
fn earlier_good_line(seed: u64, index: u64) -> Option<u64> {
    (0..index).rev().take(100).find(|&i| !kind_at(seed, i).is_bad_line())
}

/// The perspectives that see something else than the others.
fn odd_remotes(kind: Kind, random: u64) -> u8 {
    let count = match kind {
        Kind::MpHijackPrimary => return 1,
        Kind::MpHijack1
        | Kind::MpCaaDiffers1
        | Kind::Mp4031
        | Kind::MpServfail1
        | Kind::MpSilent1
        | Kind::MpLag1
        | Kind::MpPersist1
        | Kind::MpAlpn1
        | Kind::MpChange1
        | Kind::MpCaaBytes1 => 1,
        Kind::MpHijack2
        | Kind::MpMixed2
        | Kind::MpPersist2
        | Kind::MpCaaDiffers2
        | Kind::MpAlpn2
        | Kind::MpChange2
        | Kind::MpWeb2
        | Kind::MpContact2
        | Kind::MpAlias2 => 2,
        Kind::Mp4033 | Kind::MpLag3 => 3,
        _ => 0,
    };
    (0..count).map(|n| 1 << (1 + (random + n) % 5)).sum()
}

impl Scenario {
    /// Whether this perspective sees something else than the others.
    #[must_use]
    pub fn is_odd(&self, perspective: Perspective) -> bool {
        self.odd >> perspective.0 & 1 == 1
    }

    /// Whether this perspective is the first, by number, of those that see something else.
    #[must_use]
    pub fn is_first_odd(&self, perspective: Perspective) -> bool {
        self.odd.trailing_zeros() == u32::from(perspective.0)
    }

    /// The request's id; for a duplicate, that of an earlier request.
    #[must_use]
    pub fn id(&self) -> String {
        let index = match self.kind {
            Kind::BadDuplicate => earlier_good_line(self.seed, self.index).unwrap_or(self.index),
            _ => self.index,
        };
        format!("r{index:06}")
    }

    /// The label that carries index and kind, right below [`ZONE`].
    #[must_use]
    pub fn label(&self) -> String {
        format!("h{:06}-{}", self.index, self.kind.slug())
    }

    /// The name all of the scenario's names are below.
    #[must_use]
    pub fn base(&self) -> String {
        format!("{}.{ZONE}", self.label())
    }

    /// The host a certificate is wanted for.
    #[must_use]
    pub fn host(&self) -> String {
        format!("www.{}", self.base())
    }

    /// The challenge's token: the index, then 35 random characters. All that tls-alpn-01 tells a server about an
    /// address is the address, so the requests for it share the one of a number that no request has.
    #[must_use]
    pub fn token(&self) -> String {
        let index = if self.kind == Kind::AlpnIp { REQUESTS_MAX - 1 } else { self.index };
        let random = base64url(&secret(b"token   ", self.seed, index));
        format!("{index:07}-{}", &random[8..])
    }

    /// The Random Value of methods that have one: 160 bits in lower case.
    #[must_use]
    pub fn random_value(&self) -> String {
        secret(b"value   ", self.seed, self.index)[..20].iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Token, dot, thumbprint.
    #[must_use]
    pub fn key_authorization(&self) -> String {
        format!("{}.{THUMBPRINT}", self.token())
    }

    /// What the TXT record of dns-01 must hold.
    #[must_use]
    pub fn txt_value(&self) -> String {
        base64url(&Sha256::digest(self.key_authorization()))
    }
}

fn secret(purpose: &[u8; 8], seed: u64, index: u64) -> [u8; 32] {
    Sha256::digest([*purpose, seed.to_be_bytes(), index.to_be_bytes()].concat()).into()
}

/// The thumbprint of our one account: SHA-256 of `parallax laboratory account`.
const THUMBPRINT: &str = "emfcWytEnfWX-wD7nWgV4jBWGWL3QbmnOXGgFg9RK5s";

/// The index a host name carries, and where its label starts.
#[must_use]
pub fn index_of_name(name: &str) -> Option<(u64, usize)> {
    let prefix = name.strip_suffix(ZONE)?.strip_suffix('.')?;
    let start = prefix.rfind('.').map_or(0, |dot| dot + 1);
    let digits = prefix[start..].strip_prefix('h')?.split('-').next()?;
    let plausible = (6..=7).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    plausible.then(|| digits.parse().ok()).flatten().map(|index| (index, start))
}

/// The index a token carries.
#[must_use]
pub fn index_of_token(token: &str) -> Option<u64> {
    let digits = token.split_at_checked(7).filter(|(_, rest)| rest.starts_with('-'))?.0;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// A random number that belongs to (seed, number, purpose): SplitMix64's finalizer, twice.
fn mix(seed: u64, number: u64, purpose: u64) -> u64 {
    fn finalize(mut x: u64) -> u64 {
        x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ x >> 31
    }
    finalize(finalize(seed ^ purpose << 56).wrapping_add(number))
}

/// RFC 4648 §5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for place in 0..=group.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize].into());
        }
    }
    text
}

/// Text as a `Vec` that grows once: `format!` into bytes.
pub(crate) fn bytes(arguments: std::fmt::Arguments<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(arguments);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_of_every_remainder() {
        assert_eq!(base64url(b""), "");
        assert_eq!(base64url(b"f"), "Zg");
        assert_eq!(base64url(b"fo"), "Zm8");
        assert_eq!(base64url(b"foo"), "Zm9v");
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(base64url(&Sha256::digest(b"parallax laboratory account")), THUMBPRINT);
    }

    #[test]
    fn the_account_s_label_is_base32_of_its_digest() {
        let digits = ACCOUNT_LABEL.strip_prefix('_').unwrap().bytes().map(|b| match b {
            b'a'..=b'z' => b - b'a',
            _ => b - b'2' + 26,
        });
        let bits = digits.fold(0_u128, |bits, digit| bits << 5 | u128::from(digit));
        assert_eq!(bits.to_be_bytes()[6..], Sha256::digest(ACCOUNT_URI)[..10]);
    }

    #[test]
    fn names_and_tokens_carry_their_index() {
        let world = World::new(7, 2_000_000);
        for index in [0, 1, 999_999, 1_000_000, 1_999_999] {
            let scenario = world.scenario(index);
            assert_eq!(index_of_name(&scenario.host()), Some((index, 4)));
            assert_eq!(index_of_name(&scenario.base()), Some((index, 0)));
            assert!(scenario.kind == Kind::AlpnIp || index_of_token(&scenario.token()) == Some(index));
            assert_eq!(world.scenario_of_name(&scenario.host()), Some(scenario));
            assert_eq!(scenario.token().len(), 43);
            assert_eq!(scenario.key_authorization().len(), 87);
            assert_eq!(scenario.txt_value().len(), 43);
        }
        assert_eq!(index_of_name("h12.lab.example"), None);
        assert_eq!(index_of_name("lab.example"), None);
    }

    #[test]
    fn each_block_holds_each_kind_as_often_as_its_weight() {
        for seed in 0..5 {
            for block in 0..3 {
                let mut counts = std::collections::HashMap::new();
                for index in block * WEIGHTS_TOTAL..(block + 1) * WEIGHTS_TOTAL {
                    *counts.entry(kind_at(seed, index)).or_insert(0) += 1;
                }
                assert!(Kind::ALL.iter().all(|k| counts.get(k) == Some(&k.weight())));
            }
        }
    }

    #[test]
    fn no_slow_kind_when_none_is_wanted() {
        let world = World { slow_share: 0.0, ..World::new(3, 5_000) };
        assert!((0..5_000).all(|i| world.scenario(i).kind.pace() == Pace::Quick));
    }
}
