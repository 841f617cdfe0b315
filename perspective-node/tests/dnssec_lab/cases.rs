//! What comes of questions about the zones.

use parallax_validation::observation::RecordType::{self, A, Aaaa, Caa, Cname, Mx, Ptr, Txt};

use super::{
    CaaCase, Case,
    Expect::{self, Bogus, Failed, Insecure, Secure, Unsupported},
    Kind::{self, Answer, Nodata, Nothing, Nxdomain},
    zones,
};

fn case(name: &str, rtype: RecordType, kind: Kind, expect: Expect, note: &'static str) -> Case {
    let unbound = if expect == Unsupported { Insecure } else { expect };
    Case { name: name.to_owned(), rtype, kind, expect, unbound, insecure_zone: false, note }
}

/// The records each customer's zone has, and denials in it.
fn usual(zone: &str, answers: Expect, denials: Expect, note: &'static str) -> Vec<Case> {
    let zones = zones::all();
    let has_caa = zones.iter().find(|other| other.name == zone).expect("a zone of the laboratory").caa;
    let (kind, caa) = if has_caa { (Answer, answers) } else { (Nodata, denials) };
    vec![
        case(zone, A, Answer, answers, note),
        case(zone, Caa, kind, caa, note),
        case(&format!("www.{zone}"), A, Answer, answers, note),
        case(&format!("_acme-challenge.{zone}"), Txt, Answer, answers, note),
        case(&format!("www.{zone}"), Caa, Nodata, denials, note),
        case(&format!("www.{zone}"), Txt, Nodata, denials, note),
        case(&format!("www.{zone}"), Aaaa, Nodata, denials, note),
        case(&format!("_acme-challenge.{zone}"), Caa, Nodata, denials, note),
        case(&format!("_acme-challenge.gone.{zone}"), Txt, Nxdomain, denials, note),
        case(&format!("a.b.gone.{zone}"), Caa, Nxdomain, denials, note),
    ]
}

pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, status) in [
        ("example", Secure),
        ("nsec", Secure),
        ("optout", Secure),
        ("rsa", Secure),
        ("caatest", Secure),
        ("plain", Insecure),
    ] {
        cases.push(case(name, Caa, Nodata, status, "apex of a top-level domain"));
    }
    cases.extend([
        case("gone.example", Caa, Nxdomain, Secure, "NSEC3, no such name"),
        case("gone.nsec", Caa, Nxdomain, Secure, "NSEC, no such name"),
        case("gone.plain", Caa, Nxdomain, Insecure, "no such name in an unsigned zone"),
        case("gone.optout", Caa, Nxdomain, Insecure, "the gap may hide insecure delegations (RFC 5155 §9.2)"),
        case("late.optout", Caa, Nodata, Insecure, "empty non-terminal within an opt-out span"),
        case("gone", Caa, Nxdomain, Secure, "no such top-level domain"),
        case("a.b.gone", Caa, Nxdomain, Secure, "no such top-level domain"),
    ]);
    for (zone, note) in [
        ("good.example", "ECDSA P-256, key-signing and zone-signing key"),
        ("rsa2048.rsa", "RSA/SHA-256"),
        ("rsa512.example", "RSA/SHA-512"),
        ("p384.example", "ECDSA P-384"),
        ("ed25519.example", "Ed25519"),
        ("cust.nsec", "NSEC in parent and child"),
        ("nsec3.example", "NSEC3 in parent and child"),
        ("csk.example", "one key"),
        ("ent.example", "has an empty non-terminal"),
        ("deep.example", "names far below the apex"),
        ("sub.good.example", "two signed zones above"),
        ("signed.optout", "signed below opt-out"),
        ("v6only.example", "name server with an IPv6 address only"),
        ("stale.example", "one of three servers has expired signatures (D34)"),
    ] {
        cases.extend(usual(zone, Secure, Secure, note));
    }
    cases.push(case("ns.v6only.example", Aaaa, Answer, Secure, "IPv6 address"));
    cases.push(case("big.example", Caa, Answer, Secure, "1001 records"));
    cases.extend(iterated());
    cases.extend(inner_names());
    for (zone, note) in [
        ("unsigned.example", "no DS, by NSEC3"),
        ("unsigned.nsec", "no DS, by NSEC"),
        ("unsigned.optout", "no DS, by opt-out"),
        ("cust.plain", "unsigned parent"),
        ("island.plain", "signed, but the parent is not"),
        ("unsigned.good.example", "no DS, by a zone that is not a top-level domain"),
    ] {
        cases.extend(usual(zone, Insecure, Insecure, note));
    }
    cases.extend(usual("unkalg.example", Unsupported, Unsupported, "only DS has algorithm 200"));
    cases.extend(usual("unkdigest.example", Unsupported, Unsupported, "only DS has digest type 200"));
    for (zone, note) in [
        ("expired.example", "all signatures expired"),
        ("future.example", "no signature is good yet"),
        ("wrongkey.example", "DS of another key (D35)"),
        ("dsleft.example", "DS, but not signed (D35)"),
    ] {
        cases.extend(usual(zone, Bogus, Bogus, note));
    }
    cases.extend(usual("nosig.example", Bogus, Secure, "no signatures over A, TXT and CAA"));
    for (zone, note) in [
        ("badsig.example", "signatures over TXT and CAA altered"),
        ("altered.example", "TXT and CAA altered after signing"),
    ] {
        for mut case in usual(zone, Bogus, Secure, note) {
            if case.rtype == A {
                (case.expect, case.unbound) = (Secure, Secure);
            }
            cases.push(case);
        }
    }
    cases.extend(usual("nonsec.example", Secure, Bogus, "no NSEC"));
    cases.extend(usual("nonsec3.example", Secure, Bogus, "no NSEC3"));
    cases.push(case("x.wild.nonsec.example", Txt, Answer, Bogus, "wildcard expansion without proof"));
    cases.extend(aliases());
    for (zone, note) in [
        ("silent", "no reply"),
        ("closed", "port unreachable"),
        ("servfail", "SERVFAIL from the name server"),
        ("refused", "REFUSED from the name server"),
    ] {
        for (suffix, insecure_zone) in [("", false), ("plain", true)] {
            for (host, rtype) in [("", Caa), ("_acme-challenge.", Txt), ("www.", A)] {
                let name = format!("{host}{zone}{suffix}.example");
                cases.push(Case { insecure_zone, ..case(&name, rtype, Nothing, Failed, note) });
            }
        }
    }
    cases
}

/// Denials with too many iterations: Unbound takes them as insecure.
fn iterated() -> Vec<Case> {
    let mut cases = usual("nsec3iter.example", Secure, Bogus, "NSEC3 with 500 iterations");
    for case in &mut cases {
        if case.expect == Bogus {
            case.unbound = Insecure;
        }
    }
    cases
}

/// Wildcards and empty non-terminals.
fn inner_names() -> Vec<Case> {
    let mut cases = Vec::new();
    for zone in ["wild.example", "wild3.example"] {
        let of = |host: &str| format!("{host}.{zone}");
        cases.extend([
            case(&of("_acme-challenge"), Txt, Answer, Secure, "beside a wildcard"),
            case(&of("_acme-challenge.x"), Txt, Answer, Secure, "wildcard expansion"),
            case(&of("x"), Caa, Answer, Secure, "wildcard expansion"),
            case(&of("x.y.z"), Caa, Answer, Secure, "wildcard expansion over several labels"),
            case(&of("*"), Txt, Answer, Secure, "the wildcard itself"),
            case(&of("x"), A, Nodata, Secure, "the wildcard lacks the type"),
            case(&of("www"), Txt, Nodata, Secure, "the wildcard does not cover a name that exists"),
            case(&of("x.www"), Txt, Nxdomain, Secure, "the wildcard does not cover names below one that exists"),
        ]);
    }
    for zone in ["ent.example", "nsec3.example"] {
        let of = |host: &str| format!("{host}.{zone}");
        cases.extend([
            case(&of("a.b"), A, Answer, Secure, "below an empty non-terminal"),
            case(&of("a.b"), Caa, Nodata, Secure, "below an empty non-terminal"),
            case(&of("b"), Caa, Nodata, Secure, "empty non-terminal"),
            case(&of("c.b"), Caa, Nxdomain, Secure, "beside a name below an empty non-terminal"),
        ]);
    }
    let deep = "several labels below the apex";
    cases.extend([
        case("w.x.y.z.deep.example", A, Answer, Secure, deep),
        case("_acme-challenge.w.x.y.z.deep.example", Txt, Answer, Secure, deep),
        case("w.x.y.z.deep.example", Caa, Nodata, Secure, deep),
        case("x.y.z.deep.example", Caa, Nodata, Secure, deep),
        case("z.deep.example", Caa, Nodata, Secure, deep),
    ]);
    cases
}

/// Aliases within and between zones; the worst zone of a chain decides.
fn aliases() -> Vec<Case> {
    let of = |host: &str| format!("{host}.aliases.example");
    let mut cases = vec![
        case(&of("www"), A, Answer, Secure, "secure to secure"),
        case(&of("www"), Caa, Nodata, Secure, "secure to secure, no such type there"),
        case(&of("_acme-challenge.www"), Txt, Answer, Secure, "secure to secure"),
        case(&of("apex"), Caa, Answer, Secure, "secure to secure"),
        case(&of("gone"), Txt, Nxdomain, Secure, "secure to secure, no such name there"),
        case(&of("two"), A, Answer, Secure, "two aliases"),
        case(&of("sub"), A, Answer, Secure, "to a zone further down"),
        case(&of("www"), Cname, Answer, Secure, "the alias itself"),
        case(&of("mail"), Cname, Nodata, Secure, "no alias"),
        case(&of("nothing"), Cname, Nxdomain, Secure, "no alias"),
        // Unbound looks for a delegation at the alias's own name, which the DNAME denies.
        Case { unbound: Bogus, ..case(&of("www.dn"), Cname, Answer, Secure, "the alias that a DNAME makes") },
        Case { unbound: Bogus, ..case(&of("www.dnp"), Cname, Answer, Secure, "the same, into an unsigned zone") },
        case(&of("mail"), Mx, Answer, Secure, "names in the data, capital letters among them"),
        case(&of("host"), Ptr, Answer, Secure, "a name in the data, capital letters among them"),
        case(&of("toplain"), A, Answer, Insecure, "secure to insecure"),
        case(&of("toplain"), Caa, Nodata, Insecure, "secure to insecure"),
        case(&of("_acme-challenge.toplain"), Txt, Answer, Insecure, "secure to insecure"),
        case(&of("goneplain"), Txt, Nxdomain, Insecure, "secure to insecure"),
        case(&of("tooptout"), A, Answer, Insecure, "secure to insecure by opt-out"),
        case(&of("tounsupported"), A, Answer, Unsupported, "secure to unsupported"),
        case(&of("tobogus"), A, Answer, Bogus, "secure to bogus"),
        case(&of("tononsec"), A, Nxdomain, Bogus, "secure to a denial that is not proven"),
        case(&of("tosilent"), A, Nothing, Failed, "secure to a server that is silent"),
        case("alias.unsigned.example", A, Answer, Insecure, "insecure to secure"),
        case("alias.unsigned.example", Caa, Nodata, Insecure, "insecure to secure"),
        case(&of("backandforth"), A, Answer, Insecure, "secure to insecure to secure"),
        case(&of("dn"), Caa, Nodata, Secure, "owner of a DNAME"),
        case(&of("www.dn"), A, Answer, Secure, "DNAME, secure to secure"),
        case(&of("_acme-challenge.dn"), Txt, Answer, Secure, "DNAME, secure to secure"),
        case(&of("gone.dn"), Txt, Nxdomain, Secure, "DNAME, secure to secure"),
        case(&of("www.dnp"), A, Answer, Insecure, "DNAME, secure to insecure"),
        case(&of("_acme-challenge.dnp"), Txt, Answer, Insecure, "DNAME, secure to insecure"),
        case(&of("gone.dnp"), Txt, Nxdomain, Insecure, "DNAME, secure to insecure"),
        case(&of("www.dnb"), A, Answer, Bogus, "DNAME, secure to bogus"),
        case(&of("x.wc"), A, Answer, Secure, "wildcard CNAME"),
        case(&of("x.y.wc"), Caa, Nodata, Secure, "wildcard CNAME, no such type there"),
        case(&of("loop1"), A, Nothing, Failed, "loop"),
        case(&of("loop2"), Caa, Nothing, Failed, "loop"),
    ];
    cases.extend(usual("aliases.example", Secure, Secure, "has aliases"));
    cases
}

pub(crate) fn caa() -> Vec<CaaCase> {
    let forbidden = [
        ("deny", "issue with no issuer"),
        ("*.deny", "issue with no issuer, wildcard"),
        ("empty", "empty value"),
        ("sub.deny", "set one level up"),
        ("sub.sub.deny", "set two levels up"),
        ("gone.gone.deny", "set two levels up, names do not exist"),
        ("upper", "foreign issuer, tag in upper case"),
        ("mixed", "foreign issuer, tag in mixed case"),
        ("big", "1001 records of other issuers"),
        ("critical128", "critical unknown tag"),
        ("critical130", "critical unknown tag, other bits set too"),
        ("critical1", "flags 1 is taken as critical (C10)"),
        ("*.wildissue", "wildcard, issue only"),
        ("*.sub.wildissue", "wildcard, issue only, one level up"),
        ("*.wildonly", "wildcard, issuewild only"),
        ("*.wildshut", "issue permits, issuewild forbids"),
        ("wildopen", "issue forbids, issuewild permits"),
        ("alias", "alias"),
        ("alias2", "alias of an alias"),
        ("sub.alias", "parent is an alias to a forbidding name"),
        ("sub.alias2", "parent is an alias of an alias to a forbidding name"),
        ("below.deny", "alias to a name below a permitting one, own parent forbids"),
        ("dname.deny", "owner of a DNAME below a forbidding parent"),
        ("sub.dname.deny", "below a DNAME to a permitting name, whose set is not at the target"),
        ("deny.permit", "below a permitting name"),
        ("loop1", "alias loop"),
        ("toexpired", "alias into a zone with expired signatures"),
        ("quoted", "quotation marks within the value (D30)"),
        ("dotted", "issuer with a final dot (D30)"),
        ("trailing", "semicolon after the last parameter (C12)"),
        ("markup", "markup as issuer"),
        ("markup2", "markup after the issuer"),
        ("v6", "name server with an IPv6 address only"),
        ("sub.v6", "name server with an IPv6 address only, one level up"),
        ("expired", "expired signatures over a permitting set"),
        ("www.expired", "expired signatures below a permitting set"),
        ("nosig", "no signatures over a permitting set"),
        ("www.nosig", "no signatures over a permitting set one level up"),
        ("silent", "signed delegation, no reply"),
        ("www.silent", "signed delegation, no reply"),
        ("servfail", "signed delegation, SERVFAIL"),
        ("refused", "signed delegation, REFUSED"),
    ];
    let permitted = [
        ("none", "no set anywhere"),
        ("gone.gone", "no set anywhere, names do not exist"),
        ("*.none", "no set anywhere, wildcard"),
        ("permit", "the issuer's name"),
        ("*.permit", "the issuer's name, wildcard"),
        ("sub.permit", "the issuer's name one level up"),
        ("two", "one of two issuers"),
        ("upperissuer", "the issuer's name in mixed case"),
        ("uncritical", "unknown tag that is not critical"),
        ("criticaliodef", "critical known tag"),
        ("iodef", "no issue"),
        ("wildonly", "issuewild only, no wildcard"),
        ("*.wildopen", "issue forbids, issuewild permits"),
        ("wildshut", "issue permits, issuewild forbids"),
        ("freealias", "alias to a name below a forbidding one (D29)"),
        ("sub.todeny", "below a DNAME to a forbidding name, whose set is not at the target"),
        ("todeny", "owner of a DNAME to a forbidding name"),
    ];
    let mut cases = Vec::new();
    for (list, permitted) in [(&forbidden[..], false), (&permitted, true)] {
        cases.extend(list.iter().map(|&(name, note)| CaaCase { name: format!("{name}.caatest"), permitted, note }));
    }
    for (name, permitted, note) in [
        ("www.good.example", true, "set one level up"),
        ("good.example", true, "the issuer's name"),
        ("sub.good.example", true, "zone below a signed zone"),
        ("big.example", true, "one of 1001 issuers"),
        ("x.wild.example", false, "set of a wildcard name"),
        ("x.wild3.example", false, "set of a wildcard name, NSEC3"),
        ("wild.example", true, "beside a wildcard"),
        ("w.x.y.z.deep.example", true, "set four levels up"),
        ("unsigned.example", true, "unsigned, no set anywhere"),
        ("altered.example", false, "altered after signing"),
        ("nonsec.example", true, "set at the name itself, denials are not needed"),
        ("www.nonsec.example", false, "no proof that there is no set at the name itself"),
    ] {
        cases.push(CaaCase { name: name.to_owned(), permitted, note });
    }
    cases
}
