//! What a perspective's resolver answers: a pure function of scenario, perspective and question.
//!
//! [`answer`] follows aliases the way a recursive resolver does and leaves the whole chain in the answer section. How
//! the answer travels ([`Delivery`]) is part of it, since some kinds are about nothing else.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    kinds::{Kind, Method},
    world::{
        ACCOUNT_URI, ATTACKER, BLACK_HOLE, CLOSED, CONTACT_EMAIL, CONTACT_PHONE, ISSUER_DOMAIN, Perspective, RESETTING,
        REVERSE_NAME, SECOND, Scenario, VICTIM, World, ZONE,
    },
};

/// Aliases followed before a resolver gives up.
const ALIASES_MAX: usize = 12;

/// A query type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qtype {
    /// 1
    A,
    /// 28
    Aaaa,
    /// 16
    Txt,
    /// 257
    Caa,
    /// 5
    Cname,
    /// 12
    Ptr,
    /// 15
    Mx,
    /// Anything else: the laboratory has no such records.
    Other(u16),
}

impl From<u16> for Qtype {
    fn from(code: u16) -> Self {
        match code {
            1 => Self::A,
            28 => Self::Aaaa,
            16 => Self::Txt,
            257 => Self::Caa,
            5 => Self::Cname,
            12 => Self::Ptr,
            15 => Self::Mx,
            other => Self::Other(other),
        }
    }
}

/// A response code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    /// 0
    NoError,
    /// 1
    FormErr,
    /// 2
    ServFail,
    /// 3
    NxDomain,
    /// 4
    NotImp,
    /// 5
    Refused,
}

/// Record data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rdata {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// An alias.
    Cname(String),
    /// An alias of everything below.
    Dname(String),
    /// Character-strings.
    Txt(Vec<String>),
    /// A CAA property.
    Caa {
        /// The flags octet.
        flags: u8,
        /// The property's tag.
        tag: &'static str,
        /// The property's value.
        value: String,
    },
    /// The name of an address.
    Ptr(String),
    /// A host that takes mail.
    Mx(String),
    /// The start of authority of a negative answer.
    Soa,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub owner: String,
    /// What it says.
    pub data: Rdata,
}

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it should; truncated over UDP when it is too long.
    Plain,
    /// Not at all.
    Silent,
    /// Truncated over UDP; over TCP the connection is closed.
    TcpClosed,
    /// With the question in lower case over UDP; right over TCP.
    LowerCase,
    /// After three wrong datagrams.
    Spoofed,
    /// Cut within a record over UDP, TC clear; right over TCP.
    Cut,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub rcode: Rcode,
    /// The answer section.
    pub records: Vec<Record>,
    /// The zone whose SOA a negative answer shows.
    pub soa: Option<&'static str>,
    /// How it travels.
    pub delivery: Delivery,
}

impl Answer {
    fn negative(rcode: Rcode, soa: Option<&'static str>) -> Self {
        Self { rcode, records: Vec::new(), soa, delivery: Delivery::Plain }
    }
}

/// What a name has for one type.
enum Node {
    Records(Vec<Rdata>),
    /// The name exists, without that type.
    Nodata,
    Nxdomain,
    Fails(Rcode),
    Silent,
    /// An alias to a name relative to the base.
    Alias(&'static str),
    /// An alias by a DNAME: its owner and target, and the name the alias leads to.
    Below(&'static str, &'static str, &'static str),
}

/// What this world's resolvers answer, for a name in lower case without a final dot.
#[must_use]
pub fn resolve(world: &World, perspective: Perspective, qname: &str, qtype: Qtype) -> Answer {
    if let Some(scenario) = world.scenario_of_name(qname) {
        return answer(&scenario, perspective, qname, qtype);
    }
    let holds = |data| {
        let record = Record { owner: qname.to_owned(), data };
        Answer { rcode: Rcode::NoError, records: vec![record], soa: None, delivery: Delivery::Plain }
    };
    match (qname, qtype) {
        (VICTIM_REVERSED, Qtype::Ptr) => holds(Rdata::Ptr(REVERSE_NAME.to_owned())),
        (VICTIM_REVERSED, _) => Answer::negative(Rcode::NoError, Some("")),
        (REVERSE_NAME, Qtype::A) => holds(Rdata::A(VICTIM)),
        (REVERSE_NAME, _) => Answer::negative(Rcode::NoError, Some(ZONE)),
        _ => match qname {
            "" => Answer::negative(Rcode::NoError, Some("")),
            "example" => Answer::negative(Rcode::NoError, Some("example")),
            ZONE => Answer::negative(Rcode::NoError, Some(ZONE)),
            name if name.ends_with(".lab.example") => Answer::negative(Rcode::NxDomain, Some(ZONE)),
            name if name.ends_with(".example") => Answer::negative(Rcode::NxDomain, Some("example")),
            _ => Answer::negative(Rcode::NxDomain, Some("")),
        },
    }
}

/// What a perspective's resolver answers about one of the scenario's names (lower case, no final dot).
#[must_use]
pub fn answer(scenario: &Scenario, perspective: Perspective, qname: &str, qtype: Qtype) -> Answer {
    let base = scenario.base();
    let absolute = |relative: &str| match relative {
        "" => base.clone(),
        relative => format!("{relative}.{base}"),
    };
    let Some(relative) = qname.strip_suffix(base.as_str()) else {
        return Answer::negative(Rcode::NxDomain, Some(ZONE));
    };
    let mut name = relative.strip_suffix('.').unwrap_or(relative);
    let delivery = delivery(scenario.kind, name, qtype);
    let mut records = Vec::new();
    let mut owner = qname.to_owned();
    for _ in 0..ALIASES_MAX {
        let (rcode, soa) = match node(scenario, perspective, name, qtype) {
            Node::Alias(target) if qtype == Qtype::Cname => {
                records.push(Record { owner, data: Rdata::Cname(absolute(target)) });
                (Rcode::NoError, None)
            }
            Node::Alias(target) => {
                let to = absolute(target);
                let looped = records.iter().any(|r: &Record| r.owner == to) || to == owner;
                records.push(Record { owner, data: Rdata::Cname(to.clone()) });
                if looped {
                    return Answer { rcode: Rcode::NoError, records, soa: None, delivery };
                }
                (owner, name) = (to, target);
                continue;
            }
            Node::Below(from, to, target) => {
                records.push(Record { owner: absolute(from), data: Rdata::Dname(absolute(to)) });
                records.push(Record { owner, data: Rdata::Cname(absolute(target)) });
                (owner, name) = (absolute(target), target);
                continue;
            }
            Node::Records(data) => {
                records.extend(data.into_iter().map(|data| Record { owner: owner.clone(), data }));
                (Rcode::NoError, None)
            }
            Node::Nodata => (Rcode::NoError, Some(ZONE)),
            Node::Nxdomain => (Rcode::NxDomain, Some(ZONE)),
            Node::Fails(rcode) => return Answer::negative(rcode, None),
            Node::Silent => {
                return Answer { delivery: Delivery::Silent, ..Answer::negative(Rcode::ServFail, None) };
            }
        };
        return Answer { rcode, records, soa, delivery };
    }
    Answer::negative(Rcode::ServFail, None)
}

fn delivery(kind: Kind, name: &str, qtype: Qtype) -> Delivery {
    match (kind, name, qtype) {
        (Kind::DnsTcClosed, CHALLENGE, Qtype::Txt) => Delivery::TcpClosed,
        (Kind::Dns0x20, CHALLENGE, Qtype::Txt) => Delivery::LowerCase,
        (Kind::DnsSpoof, CHALLENGE, Qtype::Txt) => Delivery::Spoofed,
        (Kind::DnsCut, CHALLENGE, Qtype::Txt) => Delivery::Cut,
        _ => Delivery::Plain,
    }
}

const CHALLENGE: &str = "_acme-challenge.www";
/// The name of dns-account-01, below [`ACCOUNT_LABEL`].
const ACCOUNT_CHALLENGE: &str = "_xxgbwvh7heppirbk._acme-challenge.www";
/// That of account 8.
const OTHER_ACCOUNT_CHALLENGE: &str = "_qr5jdr3quaeysrtg._acme-challenge.www";
/// The prefix label of dns-change, and the name of [`VICTIM`] in the reverse namespace.
const PREFIXED: &str = "_verify.www";
const VICTIM_REVERSED: &str = "1.0.3.127.in-addr.arpa";
const PERSIST: &str = "_validation-persist.www";
/// The first day of 2026, and of 2100.
const PAST_AND_FUTURE: [u64; 2] = [1_767_225_600, 4_102_444_800];

fn node(scenario: &Scenario, perspective: Perspective, name: &str, qtype: Qtype) -> Node {
    let kind = scenario.kind;
    if kind == Kind::MpServfail1 && scenario.is_odd(perspective) {
        return Node::Fails(Rcode::ServFail);
    }
    if kind == Kind::MpSilent1 && scenario.is_odd(perspective) {
        return Node::Silent;
    }
    match (name, kind) {
        ("www", Kind::HttpCname) => Node::Alias("origin"),
        ("www", Kind::HttpCname5) => Node::Alias("a1"),
        ("a1", Kind::HttpCname5) => Node::Alias("a2"),
        ("a2", Kind::HttpCname5) => Node::Alias("a3"),
        ("a3", Kind::HttpCname5) => Node::Alias("a4"),
        ("a4", Kind::HttpCname5) => Node::Alias("origin"),
        ("www", Kind::HttpCnameLoop | Kind::CaaCnameLoop) => Node::Alias("loop"),
        ("loop", Kind::HttpCnameLoop | Kind::CaaCnameLoop) => Node::Alias("www"),
        ("www", Kind::CaaAliasTarget | Kind::CaaAliasParent) => Node::Alias("t.cdn"),
        (CHALLENGE, Kind::DnsCname) => Node::Alias("u1.auth"),
        (CHALLENGE, Kind::DnsDname) => Node::Alias("u1.old"),
        ("u1.old", Kind::DnsDname) => Node::Below("old", "auth", "u1.auth"),
        ("www", Kind::MpAlias2) if scenario.is_odd(perspective) => Node::Alias("other"),
        ("www", Kind::AdnAlias | Kind::MpAlias2) => Node::Alias("t.cdn"),
        ("www", Kind::AdnAliasChange) => Node::Alias("a1"),
        ("a1", Kind::AdnAliasChange) => Node::Alias("t.cdn"),
        ("www", Kind::AdnAliasBelow) => Node::Alias("x.t.cdn"),
        ("www", Kind::AdnElsewhere) => Node::Alias("other"),
        ("mx", Kind::MailHostAlias) => Node::Alias("other"),
        ("_acme-challenge", Kind::AdnPruned)
        | (
            "_acme-challenge.t.cdn",
            Kind::AdnAlias | Kind::AdnAliasBelow | Kind::AdnElsewhere | Kind::AdnNoAlias | Kind::MpAlias2,
        )
        | ("_acme-challenge.mx", Kind::MailHost | Kind::MailHostOther | Kind::MailHostAlias) => match qtype {
            Qtype::Txt => Node::Records(vec![Rdata::Txt(vec![scenario.txt_value()])]),
            _ => Node::Nodata,
        },
        // What is asked about another name must not be found at the identifier's own.
        (CHALLENGE, Kind::AdnPruned | Kind::AdnAlias | Kind::AdnAliasBelow) => Node::Nxdomain,
        (CHALLENGE, Kind::AdnElsewhere | Kind::AdnNoAlias | Kind::MpAlias2) => Node::Nxdomain,
        (CHALLENGE, Kind::MailHost | Kind::MailHostOther | Kind::MailHostAlias) => Node::Nxdomain,
        (PREFIXED, Kind::ChangePrefix) => change(scenario, perspective, qtype),
        (PREFIXED, Kind::ChangeCname | Kind::ChangeCnameWrong) => match qtype {
            Qtype::Cname => {
                let extra = if kind == Kind::ChangeCnameWrong { "x" } else { "" };
                Node::Records(vec![Rdata::Cname(format!("{extra}{}.verify.example", scenario.random_value()))])
            }
            _ => Node::Nodata,
        },
        ("www", _) if qtype == Qtype::Txt && kind.method() == Method::DnsChange && kind != Kind::ChangeParent => {
            change(scenario, perspective, qtype)
        }
        ("", Kind::ChangeParent) | ("t.cdn", Kind::AdnAliasChange) if qtype == Qtype::Txt => {
            change(scenario, perspective, qtype)
        }
        ("www", Kind::MailHost | Kind::MailHostOther | Kind::MailHostAlias) if qtype == Qtype::Mx => {
            let host = if kind == Kind::MailHostOther { "other" } else { "mx" };
            Node::Records(vec![Rdata::Mx(format!("{host}.{}", scenario.base()))])
        }
        ("mx" | "x.t.cdn", _) => Node::Nodata,
        ("_validation-contactemail.www" | "_validation-contactphone.www", _) => match qtype {
            Qtype::Txt => contact(scenario, perspective),
            _ => Node::Nodata,
        },
        ("www", Kind::HttpNxdomain) => Node::Nxdomain,
        (CHALLENGE, Kind::DnsNxdomain) => Node::Nxdomain,
        ("" | "www" | "origin" | "other" | "cdn" | "t.cdn", _) => match qtype {
            Qtype::A => ipv4(scenario, perspective, name),
            Qtype::Aaaa => ipv6(scenario, name),
            Qtype::Caa => caa(scenario, perspective, name),
            Qtype::Txt | Qtype::Cname | Qtype::Ptr | Qtype::Mx | Qtype::Other(_) => Node::Nodata,
        },
        (CHALLENGE, _) | ("u1.auth", Kind::DnsCname | Kind::DnsDname) => match qtype {
            Qtype::Txt => txt(scenario, perspective),
            _ => Node::Nodata,
        },
        (ACCOUNT_CHALLENGE, Kind::AccountOk | Kind::AccountWildcard)
        | (OTHER_ACCOUNT_CHALLENGE, Kind::AccountOther) => match qtype {
            Qtype::Txt => Node::Records(vec![Rdata::Txt(vec![scenario.txt_value()])]),
            _ => Node::Nodata,
        },
        (PERSIST, kind) if kind.method() == Method::DnsPersist01 => match qtype {
            Qtype::Txt => persist(scenario, perspective),
            _ => Node::Nodata,
        },
        ("auth" | "old", Kind::DnsCname | Kind::DnsDname) => Node::Nodata,
        _ => Node::Nxdomain,
    }
}

fn ipv4(scenario: &Scenario, perspective: Perspective, name: &str) -> Node {
    let odd = scenario.is_odd(perspective);
    let address = match (name, scenario.kind) {
        ("other", _) => SECOND,
        ("www", Kind::HttpNodata) => return Node::Nodata,
        ("www", Kind::HttpServfail) => return Node::Fails(Rcode::ServFail),
        ("www", Kind::HttpRefused | Kind::AlpnRefused) => CLOSED,
        ("www", Kind::HttpReset) => RESETTING,
        ("www", Kind::HttpBlackHole) => BLACK_HOLE,
        ("www", Kind::HttpPrivate) => Ipv4Addr::new(10, 1, 2, 3),
        ("www", Kind::MpGeodns) if perspective.index() % 2 == 1 => SECOND,
        ("www", Kind::MpHijack1 | Kind::MpHijack2 | Kind::MpHijackPrimary) if odd => ATTACKER,
        ("www", Kind::MpAlpn1 | Kind::MpAlpn2 | Kind::MpWeb2) if odd => ATTACKER,
        ("www", Kind::MpMixed2) if scenario.is_first_odd(perspective) => ATTACKER,
        _ => VICTIM,
    };
    Node::Records(vec![Rdata::A(address)])
}

fn ipv6(scenario: &Scenario, name: &str) -> Node {
    match (name, scenario.kind) {
        ("www", Kind::HttpDual | Kind::AlpnDual) => Node::Records(vec![Rdata::Aaaa(scenario.site_ipv6)]),
        ("www", Kind::HttpUlaSkipped) => Node::Records(vec![Rdata::Aaaa(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1))]),
        ("www", Kind::HttpAaaaServfail | Kind::HttpServfail) => Node::Fails(Rcode::ServFail),
        _ => Node::Nodata,
    }
}

fn txt(scenario: &Scenario, perspective: Perspective) -> Node {
    let right = scenario.txt_value();
    let old = || "oldoldoldoldoldoldoldoldoldoldoldoldoldoldo".to_owned();
    let one = |text: String| vec![Rdata::Txt(vec![text])];
    let lags = scenario.is_odd(perspective) && matches!(scenario.kind, Kind::MpLag1 | Kind::MpLag3);
    Node::Records(match scenario.kind {
        _ if lags => one(old()),
        Kind::DnsTwo => vec![Rdata::Txt(vec![old()]), Rdata::Txt(vec![right])],
        Kind::DnsStrings => {
            let (left, rest) = right.split_at(20);
            vec![Rdata::Txt(vec![left.to_owned(), rest.to_owned()])]
        }
        Kind::DnsTcp60 => {
            let old = (0..60).map(|n| Rdata::Txt(vec![format!("old-value-{n:033}")]));
            old.chain(one(right)).collect()
        }
        Kind::DnsWrong => one(old()),
        Kind::DnsQuotes => one(format!("\"{right}\"")),
        Kind::DnsSpace => one(format!("{right} ")),
        Kind::DnsCase => one(swap_case(&right)),
        Kind::DnsNodata => return Node::Nodata,
        Kind::DnsServfail => return Node::Fails(Rcode::ServFail),
        Kind::DnsRefused => return Node::Fails(Rcode::Refused),
        Kind::DnsSilent => return Node::Silent,
        kind if kind.method() == Method::Dns01 => one(right),
        _ => return Node::Nodata,
    })
}

/// The TXT records of dns-change.
fn change(scenario: &Scenario, perspective: Perspective, qtype: Qtype) -> Node {
    let right = scenario.random_value();
    let other = "0123456789abcdef0123456789abcdef01234567".to_owned();
    let text = match scenario.kind {
        _ if qtype != Qtype::Txt => return Node::Nodata,
        Kind::MpChange1 | Kind::MpChange2 if scenario.is_odd(perspective) => other,
        Kind::ChangeWrong => other,
        Kind::ChangeQuotes => format!("\"{right}\""),
        Kind::ChangeCaa | Kind::ChangeCaaWrong | Kind::ChangeCname | Kind::ChangeCnameWrong => return Node::Nodata,
        _ => right,
    };
    Node::Records(vec![Rdata::Txt(vec![text])])
}

/// The TXT records of the contact methods.
fn contact(scenario: &Scenario, perspective: Perspective) -> Node {
    let text = match scenario.kind {
        Kind::MpContact2 if scenario.is_odd(perspective) => "mallory@lab.example",
        Kind::MpContact2 | Kind::ContactEmailTxt => CONTACT_EMAIL,
        Kind::ContactPhoneTxt => CONTACT_PHONE,
        Kind::ContactOtherTxt => "+1 555 0199",
        _ => return Node::Nxdomain,
    };
    Node::Records(vec![Rdata::Txt(vec![text.to_owned()])])
}

/// The records of dns-persist-01.
fn persist(scenario: &Scenario, perspective: Perspective) -> Node {
    let right = format!("{ISSUER_DOMAIN}; accounturi={ACCOUNT_URI}");
    let [past, future] = PAST_AND_FUTURE.map(|until| format!("{right}; persistUntil={until}"));
    let wildcard = format!("{right}; policy=wildcard");
    let values = match scenario.kind {
        Kind::MpPersist1 | Kind::MpPersist2 if scenario.is_odd(perspective) => vec![past],
        Kind::MpPersist1 | Kind::MpPersist2 if perspective.index() % 2 == 1 => vec![wildcard],
        Kind::PersistTwo => vec![past, future],
        Kind::PersistWildcard => vec![wildcard],
        Kind::PersistExpired => vec![past],
        Kind::PersistOther => vec![format!("other.example; accounturi={ACCOUNT_URI}")],
        Kind::PersistAccount => vec![format!("{ISSUER_DOMAIN}; accounturi=https://ca.example/acct/8")],
        Kind::PersistMalformed => vec![format!("{right}; accounturi={ACCOUNT_URI}")],
        _ => vec![right],
    };
    Node::Records(values.into_iter().map(|value| Rdata::Txt(vec![value])).collect())
}

fn swap_case(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect()
}

fn caa(scenario: &Scenario, perspective: Perspective, name: &str) -> Node {
    let odd = scenario.is_odd(perspective);
    let property = |flags, tag, value: &str| Rdata::Caa { flags, tag, value: value.to_owned() };
    let issue = |value: &str| vec![property(0, "issue", value)];
    let ours = || issue(ISSUER_DOMAIN);
    let others = || issue("other.example");
    Node::Records(match (name, scenario.kind) {
        ("www", Kind::CaaIssue | Kind::CaaLeafOverParent | Kind::CaaParentServfail | Kind::JointCaaIssue) => ours(),
        ("www", Kind::CaaOther | Kind::JointCaaOther) => others(),
        ("", Kind::CaaLeafOverParent | Kind::CaaInherited) => others(),
        ("", Kind::CaaParentServfail) => return Node::Fails(Rcode::ServFail),
        ("www", Kind::CaaWildPlain | Kind::CaaWildForbidden) => {
            vec![property(0, "issue", ISSUER_DOMAIN), property(0, "issuewild", ";")]
        }
        ("www", Kind::CaaNobody) => issue(";"),
        ("www", Kind::CaaNoncritical) => vec![property(0, "tbs", "unknown")],
        ("www", Kind::CaaCritical128) => vec![property(0, "issue", ISSUER_DOMAIN), property(128, "tbs", "unknown")],
        ("www", Kind::CaaCritical130) => vec![property(0, "issue", ISSUER_DOMAIN), property(130, "tbs", "unknown")],
        ("www", Kind::CaaUpperTag) => vec![property(0, "ISSUE", "other.example")],
        ("www", Kind::CaaQuotes) => issue("'ca.example'"),
        ("www", Kind::CaaTrailingDot) => issue("ca.example."),
        ("www", Kind::CaaAccountRight) => issue(&format!("{ISSUER_DOMAIN}; accounturi={ACCOUNT_URI}")),
        ("www", Kind::CaaAccountWrong) => issue("ca.example; accounturi=https://ca.example/acct/8"),
        ("www", Kind::CaaValidationRight) => issue("ca.example; validationmethods=tls-alpn-01,http-01"),
        ("www", Kind::CaaValidationWrong) => issue("ca.example; validationmethods=dns-01"),
        ("www", Kind::CaaIodef) => vec![property(0, "iodef", "mailto:security@lab.example")],
        ("www", Kind::ChangeCaa) => {
            vec![
                property(0, "issue", ISSUER_DOMAIN),
                property(0, "issue", &format!("{ISSUER_DOMAIN}; random={}", scenario.random_value())),
            ]
        }
        ("www", Kind::ChangeCaaWrong) => {
            vec![
                property(0, "issue", ISSUER_DOMAIN),
                property(0, "issue", &format!("{ISSUER_DOMAIN}; {}=random", scenario.random_value())),
            ]
        }
        ("www", Kind::ContactEmailCaa) | ("", Kind::ContactEmailClimb | Kind::ContactHidden) => {
            vec![property(0, "contactemail", CONTACT_EMAIL)]
        }
        ("www", Kind::ContactHidden) => vec![property(0, "iodef", "mailto:security@lab.example")],
        ("www", Kind::ContactPhoneCaa) => vec![property(0, "contactphone", CONTACT_PHONE)],
        ("www", Kind::ContactOtherCaa) => vec![property(0, "contactemail", "mallory@lab.example")],
        ("www", Kind::MailPermit) => {
            vec![property(0, "issuemail", ISSUER_DOMAIN), property(0, "issue", "other.example")]
        }
        ("www", Kind::MailIssue) => issue(";"),
        ("www", Kind::MailForbid) => {
            vec![property(0, "issuemail", "other.example"), property(0, "issue", ISSUER_DOMAIN)]
        }
        ("t.cdn", Kind::CaaAliasTarget) | ("cdn", Kind::CaaAliasParent) => others(),
        ("www", Kind::CaaServfail) => return Node::Fails(Rcode::ServFail),
        ("www", Kind::CaaSilent) => return Node::Silent,
        ("www", Kind::Caa1001) => (0..1001).map(|n| property(0, "issue", &format!("o{n:04}.example"))).collect(),
        ("www", Kind::MpCaaDiffers1 | Kind::MpCaaDiffers2) if odd => others(),
        ("www", Kind::MpCaaDiffers1 | Kind::MpCaaDiffers2) => ours(),
        ("www", Kind::MpMixed2) if odd && !scenario.is_first_odd(perspective) => others(),
        ("www", Kind::MpCaaBytes1) if odd => {
            vec![property(0, "issue", "other.example"), property(0, "issue", ISSUER_DOMAIN)]
        }
        ("www", Kind::MpCaaBytes1) => ours(),
        _ => return Node::Nodata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(world: &World, kind: Kind) -> Scenario {
        (0..world.requests).map(|i| world.scenario(i)).find(|s| s.kind == kind).unwrap()
    }

    #[test]
    fn alias_chains_are_complete() {
        let world = World::new(1, 5_000);
        let scenario = first(&world, Kind::HttpCname5);
        let answer = resolve(&world, Perspective::PRIMARY, &scenario.host(), Qtype::A);
        assert_eq!(answer.records.len(), 6);
        assert_eq!(answer.records[5].data, Rdata::A(VICTIM));
        let answer = resolve(&world, Perspective::PRIMARY, &scenario.host(), Qtype::Aaaa);
        assert_eq!((answer.records.len(), answer.soa), (5, Some(ZONE)));

        let scenario = first(&world, Kind::HttpCnameLoop);
        let answer = resolve(&world, Perspective::PRIMARY, &scenario.host(), Qtype::A);
        assert_eq!((answer.records.len(), answer.soa), (2, None));

        let scenario = first(&world, Kind::DnsDname);
        let qname = format!("_acme-challenge.{}", scenario.host());
        let answer = resolve(&world, Perspective::PRIMARY, &qname, Qtype::Txt);
        assert_eq!(answer.records.len(), 4);
    }

    #[test]
    fn only_the_odd_perspectives_see_something_else() {
        let world = World::new(1, 5_000);
        for (kind, count) in [(Kind::MpHijack1, 1), (Kind::MpHijack2, 2), (Kind::MpMixed2, 1)] {
            let scenario = first(&world, kind);
            let led_astray = Perspective::ALL
                .into_iter()
                .filter(|&p| resolve(&world, p, &scenario.host(), Qtype::A).records[0].data == Rdata::A(ATTACKER));
            assert_eq!(led_astray.count(), count, "{kind:?}");
        }
        let scenario = first(&world, Kind::MpMixed2);
        let forbidden =
            Perspective::ALL.into_iter().filter(|&p| answer(&scenario, p, &scenario.host(), Qtype::Caa).soa.is_none());
        assert_eq!(forbidden.count(), 1);
    }

    #[test]
    fn records_of_an_account_stand_at_its_names() {
        use super::super::world::ACCOUNT_LABEL;
        let world = World::new(1, 5_000);
        assert!(ACCOUNT_CHALLENGE.starts_with(ACCOUNT_LABEL));
        for (kind, name, count) in [
            (Kind::AccountOk, ACCOUNT_CHALLENGE, 1),
            (Kind::AccountOther, ACCOUNT_CHALLENGE, 0),
            (Kind::AccountOther, OTHER_ACCOUNT_CHALLENGE, 1),
            (Kind::AccountOk, CHALLENGE, 0),
            (Kind::PersistOk, PERSIST, 1),
            (Kind::PersistTwo, PERSIST, 2),
            (Kind::DnsOk, PERSIST, 0),
        ] {
            let scenario = first(&world, kind);
            let qname = format!("{name}.{}", scenario.base());
            let answer = resolve(&world, Perspective::PRIMARY, &qname, Qtype::Txt);
            assert_eq!(answer.records.len(), count, "{kind:?} {name}");
        }
    }

    #[test]
    fn names_of_no_scenario_do_not_exist() {
        let world = World::new(1, 10);
        for name in ["h000010-http-ok.lab.example", "h000001-nonsense.lab.example", "x.example", "com"] {
            assert_eq!(resolve(&world, Perspective::PRIMARY, name, Qtype::A).rcode, Rcode::NxDomain, "{name}");
        }
        for name in ["example", "lab.example"] {
            let answer = resolve(&world, Perspective::PRIMARY, name, Qtype::Caa);
            assert_eq!((answer.rcode, answer.soa), (Rcode::NoError, Some(name)));
        }
    }
}
