//! Which addresses may be connected to: everything outside the special-purpose registries of IANA, as
//! read on 2026-11-25, and what a laboratory was given by configuration (req D17).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A block of a special-purpose registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialBlock {
    /// In CIDR form.
    pub prefix: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and what updates it), with the
/// multicast blocks. Transition blocks that carry an IPv4 address are listed whole: nothing certified
/// lives in them.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private use"),
    ("100.64.0.0/10", "shared address space"),
    ("127.0.0.0/8", "loopback"),
    ("168.63.129.16/32", "metadata of a cloud, though a public number"),
    ("169.254.0.0/16", "link local, where clouds serve metadata"),
    ("172.16.0.0/12", "private use"),
    ("192.0.0.0/24", "IETF protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relay anycast, deprecated"),
    ("192.168.0.0/16", "private use"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::/96", "IPv4-compatible, deprecated"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("64:ff9b::/96", "IPv4-IPv6 translation"),
    ("64:ff9b:1::/48", "IPv4-IPv6 translation"),
    ("100::/64", "discard only"),
    ("100:0:0:1::/64", "dummy prefix"),
    ("2001::/23", "IETF protocol assignments, Teredo among them"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "AS112"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing identifiers"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link local"),
    ("fec0::/10", "site local, deprecated"),
    ("ff00::/8", "multicast"),
];

/// Decides whether an address may be connected to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct AddressFilter {
    allowed: Vec<IpNet>,
}

impl AddressFilter {
    /// A filter that lets `allowed` through although it is special; for laboratories only.
    #[must_use]
    pub fn allowing(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// The block that forbids `address`, or nothing if it may be connected to.
    #[must_use]
    pub fn forbids(&self, address: IpAddr) -> Option<SpecialBlock> {
        if self.allowed.iter().any(|net| net.contains(&address)) {
            return None;
        }
        blocks().find(|(net, _)| net.contains(&address)).map(|(_, block)| block)
    }
}

fn blocks() -> impl Iterator<Item = (IpNet, SpecialBlock)> {
    static TABLE: std::sync::LazyLock<Vec<(IpNet, SpecialBlock)>> = std::sync::LazyLock::new(|| {
        SPECIAL
            .iter()
            .map(|&(prefix, purpose)| {
                let net = prefix.parse().expect("the table holds CIDR prefixes; a test reads it all");
                (net, SpecialBlock { prefix, purpose })
            })
            .collect()
    });
    TABLE.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_special_addresses_are_forbidden() {
        let filter = AddressFilter::default();
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.2.1",
            "192.168.1.1",
            "198.19.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2001:db8::1",
            "2002:808:808::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "::8.8.8.8",
            "2001::1",
        ] {
            let address = text.parse().expect("an address");
            assert!(filter.forbids(address).is_some(), "{text}");
        }
    }

    #[test]
    fn ok_public_addresses_pass() {
        let filter = AddressFilter::default();
        for text in ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2a00::1", "2606:4700::1111", "2001:200::1"] {
            assert_eq!(filter.forbids(text.parse().expect("an address")), None, "{text}");
        }
    }

    #[test]
    fn a_laboratory_gets_only_what_it_was_given() {
        let filter = AddressFilter::allowing(vec!["127.3.0.0/16".parse().expect("a prefix")]);
        assert_eq!(filter.forbids("127.3.0.1".parse().expect("an address")), None);
        assert!(filter.forbids("127.4.0.1".parse().expect("an address")).is_some());
    }
}
