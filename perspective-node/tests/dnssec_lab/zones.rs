//! The zones of the laboratory.

use std::{fmt::Write as _, net::IpAddr};

use super::{BELOW, CHALLENGE, CLOSED, CUSTOMER, CUSTOMER_IPV6, CUSTOMER_TWO, ROOT, SILENT, STALE, TLD};

/// Where a zone is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Root,
    Tld,
    Customer,
    /// Like `Customer`, over IPv6 only.
    Ipv6,
    /// Three name servers, of which the third has an old copy.
    Three,
    /// The third of `Three`.
    Stale,
    Below,
    /// Delegated to a server that says nothing.
    Silent,
    /// Delegated to an address where nothing listens.
    Closed,
    /// Configured at its server, which could not load it.
    ServFail,
    /// Unknown to its server.
    Refused,
}

impl Place {
    /// The server that has the zone's file.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Tld => "tld",
            Self::Customer | Self::Ipv6 | Self::Three | Self::ServFail => "customer",
            Self::Below => "below",
            Self::Stale => "stale",
            Self::Silent | Self::Closed | Self::Refused => "",
        }
    }

    /// Names of the name servers within the zone, and their addresses.
    pub(crate) fn name_servers(self) -> &'static [(&'static str, IpAddr)] {
        match self {
            Self::Root => &[("ns", ROOT)],
            Self::Tld => &[("ns", TLD)],
            Self::Customer | Self::ServFail | Self::Refused => &[("ns", CUSTOMER)],
            Self::Ipv6 => &[("ns", CUSTOMER_IPV6)],
            Self::Three | Self::Stale => &[("ns1", CUSTOMER), ("ns2", CUSTOMER_TWO), ("ns3", STALE)],
            Self::Below => &[("ns", BELOW)],
            Self::Silent => &[("ns", SILENT)],
            Self::Closed => &[("ns", CLOSED)],
        }
    }

    fn is_served(self) -> bool {
        !matches!(self, Self::Silent | Self::Closed | Self::ServFail | Self::Refused)
    }
}

/// The keys of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// The zone is not signed.
    None,
    /// A key-signing key and a zone-signing key.
    Pair(&'static [&'static str]),
    /// One key for both.
    Single(&'static [&'static str]),
}

pub(crate) const P256: &[&str] = &["-a", "ECDSAP256SHA256"];
const P384: &[&str] = &["-a", "ECDSAP384SHA384"];
const ED25519: &[&str] = &["-a", "ED25519"];
const RSA256: &[&str] = &["-a", "RSASHA256", "-b", "2048"];
const RSA512: &[&str] = &["-a", "RSASHA512", "-b", "2048"];

/// How the zone denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    Nsec,
    Nsec3,
    OptOut,
    /// NSEC3 with 500 iterations.
    Iterated,
}

/// When the signatures are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Now,
    /// Until ten days ago.
    Past,
    /// In ten days.
    Future,
}

/// The DS set at the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ds {
    None,
    Own,
    /// Of a key the zone does not have.
    OtherKey,
    /// Only one with algorithm 200.
    UnknownAlgorithm,
    /// Only one with digest type 200.
    UnknownDigest,
}

/// What is done to the zone once it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    None,
    /// No signatures over A, TXT and CAA.
    Unsigned,
    /// An octet of the signatures over TXT and CAA is another one.
    Signature,
    /// TXT and CAA have other values.
    Data,
    /// No NSEC, no NSEC3.
    Denials,
}

/// A zone.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// Without final dot; the root is empty.
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    pub(crate) keys: Keys,
    pub(crate) chain: Chain,
    pub(crate) validity: Validity,
    pub(crate) ds: Ds,
    pub(crate) damage: Damage,
    /// Whether the apex has a CAA set that names `ca.example`.
    pub(crate) caa: bool,
    pub(crate) ttl: u32,
    /// Records beside those that each zone has.
    pub(crate) more: String,
}

impl Zone {
    /// The name with final dot.
    pub(crate) fn fqdn(&self) -> String {
        format!("{}.", self.name)
    }

    /// How many labels it has.
    pub(crate) fn depth(&self) -> usize {
        self.name.split('.').filter(|label| !label.is_empty()).count()
    }

    pub(crate) fn is_served(&self) -> bool {
        self.place.is_served()
    }

    /// Whether `other` lies below `self`.
    pub(crate) fn is_above(&self, other: &Self) -> bool {
        self.depth() < other.depth()
            && (self.name.is_empty() || other.name.strip_suffix(self.name).is_some_and(|rest| rest.ends_with('.')))
    }

    /// NS records and addresses, as they stand in the zone and in its parent.
    pub(crate) fn delegation(&self) -> String {
        let mut text = String::new();
        let below = if self.name.is_empty() { String::new() } else { self.fqdn() };
        for (host, address) in self.place.name_servers() {
            let kind = if address.is_ipv4() { "A" } else { "AAAA" };
            let _ = writeln!(text, "{zone} NS {host}.{below}\n{host}.{below} {kind} {address}", zone = self.fqdn());
        }
        text
    }

    /// The zone's own records, without those of delegations.
    pub(crate) fn records(&self) -> String {
        let (zone, ttl) = (self.fqdn(), self.ttl);
        let serial = if self.place == Place::Stale { 2_026_010_101 } else { 2_026_010_102 };
        let mut text = format!("$ORIGIN {zone}\n$TTL {ttl}\n");
        let host = self.place.name_servers()[0].0;
        let _ = writeln!(text, "@ SOA {host} hostmaster {serial} 3600 600 86400 1");
        text.push_str(&self.delegation());
        if !matches!(self.place, Place::Root | Place::Tld) {
            let _ = writeln!(text, "@ A 127.0.0.1\n_acme-challenge TXT \"{CHALLENGE}\"");
            if !self.more.starts_with("www ") {
                text.push_str("www A 127.0.0.1\n");
            }
        }
        if self.caa {
            text.push_str("@ CAA 0 issue \"ca.example\"\n");
        }
        text.push_str(&self.more);
        text
    }
}

fn secure(name: &'static str) -> Zone {
    Zone {
        name,
        place: Place::Customer,
        keys: Keys::Pair(P256),
        chain: Chain::Nsec,
        validity: Validity::Now,
        ds: Ds::Own,
        damage: Damage::None,
        caa: true,
        ttl: 300,
        more: String::new(),
    }
}

fn tld(name: &'static str, chain: Chain) -> Zone {
    Zone { place: Place::Tld, keys: Keys::Single(P256), chain, caa: false, ..secure(name) }
}

fn unsigned(name: &'static str) -> Zone {
    Zone { keys: Keys::None, ds: Ds::None, ..secure(name) }
}

fn dead(name: &'static str, place: Place, ds: Ds) -> Zone {
    Zone { place, ds, ..unsigned(name) }
}

fn damaged(name: &'static str, damage: Damage) -> Zone {
    Zone { damage, ..secure(name) }
}

/// All zones; the stale copy comes after the good one.
pub(crate) fn all() -> Vec<Zone> {
    // Nobody keeps what the third server says, so a second question may have a better answer.
    let stale = Zone { place: Place::Three, ttl: 0, ..secure("stale.example") };
    let old = Zone { place: Place::Stale, validity: Validity::Past, ds: Ds::None, ..stale.clone() };
    vec![
        Zone { place: Place::Root, keys: Keys::Pair(P256), ..tld("", Chain::Nsec) },
        tld("example", Chain::Nsec3),
        Zone { more: "no-ds.late NS ns.unsigned.optout.\n".to_owned(), ..tld("optout", Chain::OptOut) },
        tld("nsec", Chain::Nsec),
        Zone { place: Place::Tld, caa: false, ..unsigned("plain") },
        Zone { keys: Keys::Single(RSA256), ..tld("rsa", Chain::Nsec) },
        Zone { more: caatest(), ..tld("caatest", Chain::Nsec) },
        // Secure.
        secure("good.example"),
        Zone { keys: Keys::Pair(RSA256), ..secure("rsa2048.rsa") },
        Zone { keys: Keys::Single(RSA512), ..secure("rsa512.example") },
        Zone { keys: Keys::Pair(P384), ..secure("p384.example") },
        Zone { keys: Keys::Pair(ED25519), ..secure("ed25519.example") },
        secure("cust.nsec"),
        Zone { chain: Chain::Nsec3, caa: false, more: "a.b A 127.0.0.1\n".to_owned(), ..secure("nsec3.example") },
        Zone { chain: Chain::Iterated, ..secure("nsec3iter.example") },
        Zone { keys: Keys::Single(P256), ..secure("csk.example") },
        Zone { more: WILD.to_owned(), ..secure("wild.example") },
        Zone { more: WILD.to_owned(), chain: Chain::Nsec3, ..secure("wild3.example") },
        Zone { more: "a.b A 127.0.0.1\n".to_owned(), caa: false, ..secure("ent.example") },
        Zone { more: DEEP.to_owned(), ..secure("deep.example") },
        Zone { place: Place::Below, ..secure("sub.good.example") },
        secure("signed.optout"),
        Zone { place: Place::Ipv6, ..secure("v6only.example") },
        Zone { more: big("@"), caa: false, ..secure("big.example") },
        stale,
        old,
        // Insecure.
        Zone {
            caa: false,
            more: "alias CNAME www.good.example.\ntosilent CNAME www.silent.example.\n".to_owned(),
            ..unsigned("unsigned.example")
        },
        unsigned("unsigned.nsec"),
        Zone { caa: false, ..unsigned("unsigned.optout") },
        Zone { caa: false, ..unsigned("cust.plain") },
        Zone { keys: Keys::Pair(P256), ..unsigned("island.plain") },
        Zone { place: Place::Below, ..unsigned("unsigned.good.example") },
        Zone { ds: Ds::UnknownAlgorithm, ..secure("unkalg.example") },
        Zone { ds: Ds::UnknownDigest, ..secure("unkdigest.example") },
        // Bogus.
        Zone { validity: Validity::Past, ..secure("expired.example") },
        Zone { validity: Validity::Future, ..secure("future.example") },
        Zone { ds: Ds::OtherKey, ..secure("wrongkey.example") },
        Zone { ds: Ds::OtherKey, ..unsigned("dsleft.example") },
        damaged("nosig.example", Damage::Unsigned),
        damaged("badsig.example", Damage::Signature),
        damaged("altered.example", Damage::Data),
        Zone { more: "*.wild TXT \"star\"\n".to_owned(), ..damaged("nonsec.example", Damage::Denials) },
        Zone { chain: Chain::Nsec3, ..damaged("nonsec3.example", Damage::Denials) },
        // Aliases.
        Zone { more: ALIASES.to_owned(), caa: false, ..secure("aliases.example") },
        // Dead.
        dead("silent.example", Place::Silent, Ds::OtherKey),
        dead("silentplain.example", Place::Silent, Ds::None),
        dead("closed.example", Place::Closed, Ds::OtherKey),
        dead("closedplain.example", Place::Closed, Ds::None),
        dead("servfail.example", Place::ServFail, Ds::OtherKey),
        dead("servfailplain.example", Place::ServFail, Ds::None),
        dead("refused.example", Place::Refused, Ds::OtherKey),
        dead("refusedplain.example", Place::Refused, Ds::None),
        // Below the top-level domain of the CAA cases.
        Zone { place: Place::Ipv6, caa: false, more: "@ CAA 0 issue \";\"\n".to_owned(), ..secure("v6.caatest") },
        Zone { validity: Validity::Past, ..secure("expired.caatest") },
        damaged("nosig.caatest", Damage::Unsigned),
        dead("silent.caatest", Place::Silent, Ds::OtherKey),
        dead("servfail.caatest", Place::ServFail, Ds::OtherKey),
        dead("refused.caatest", Place::Refused, Ds::OtherKey),
    ]
}

const WILD: &str = "\
* TXT \"star\"
* CAA 0 issue \"star.example\"
";

const DEEP: &str = "\
w.x.y.z A 127.0.0.1
_acme-challenge.w.x.y.z TXT \"value\"
";

const ALIASES: &str = "\
www CNAME www.good.example.
_acme-challenge.www CNAME _acme-challenge.good.example.
apex CNAME good.example.
gone CNAME gone.good.example.
two CNAME www
sub CNAME www.sub.good.example.
toplain CNAME www.cust.plain.
_acme-challenge.toplain CNAME _acme-challenge.cust.plain.
goneplain CNAME gone.cust.plain.
tooptout CNAME www.unsigned.optout.
tounsupported CNAME www.unkalg.example.
tobogus CNAME www.expired.example.
tononsec CNAME gone.nonsec.example.
tosilent CNAME www.silent.example.
backandforth CNAME alias.unsigned.example.
dn DNAME good.example.
dnp DNAME cust.plain.
dnb DNAME expired.example.
*.wc CNAME www.good.example.
mail MX 10 Mail.Good.example.
mail MX 20 mail
host PTR WWW.good.example.
loop1 CNAME loop2
loop2 CNAME loop1
";

/// 1001 CAA records of other issuers, but for one of `ca.example` if `owner` is the apex.
fn big(owner: &str) -> String {
    (0..1001).fold(String::new(), |mut text, n| {
        let issuer = if owner == "@" && n == 500 { "ca.example".to_owned() } else { format!("n{n}.other.example") };
        let _ = writeln!(text, "{owner} CAA 0 issue \"{issuer}\"");
        text
    })
}

/// The cases of the public CAA test suite that need no zone of their own, and some of ours.
fn caatest() -> String {
    let records = r#"
@ A 127.0.0.1
none A 127.0.0.1
deny CAA 0 issue ";"
sub.deny A 127.0.0.1
sub.sub.deny A 127.0.0.1
empty CAA 0 issue ""
upper CAA 0 ISSUE "other.example"
mixed CAA 0 IsSuE "other.example"
critical128 CAA 128 caatestunknown "x"
critical128 CAA 0 issue "ca.example"
critical130 CAA 130 caatestunknown "x"
critical130 CAA 0 issue "ca.example"
critical1 CAA 1 caatestunknown "x"
uncritical CAA 0 caatestunknown "x"
criticaliodef CAA 128 iodef "mailto:security@caatest"
iodef CAA 0 iodef "mailto:security@caatest"
wildissue CAA 0 issue ";"
wildonly CAA 0 issuewild ";"
wildopen CAA 0 issue ";"
wildopen CAA 0 issuewild "ca.example"
wildshut CAA 0 issue "ca.example"
wildshut CAA 0 issuewild ";"
permit CAA 0 issue "ca.example"
sub.permit A 127.0.0.1
deny.permit CAA 0 issue ";"
two CAA 0 issue "other.example"
two CAA 0 issue "ca.example"
upperissuer CAA 0 issue "CA.Example"
alias CNAME deny
alias2 CNAME alias
sub.alias A 127.0.0.1
below.deny CNAME sub.permit
freealias CNAME sub.deny
dname.deny DNAME permit
dname.deny A 127.0.0.1
todeny DNAME deny
loop1 CNAME loop2
loop2 CNAME loop1
toexpired CNAME www.expired.caatest.
quoted CAA 0 issue "'ca.example'"
dotted CAA 0 issue "ca.example."
trailing CAA 0 issue "ca.example; a=b;"
markup CAA 0 issue "<script>alert(1)</script>"
markup2 CAA 0 issue "ca.example\"><img src=x onerror=alert(1)>"
"#;
    format!("{records}{}", big("big"))
}
