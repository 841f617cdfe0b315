//! Attacks on DNSSEC validation: none may end as Secure, and none as Insecure, which would be believed too.
//!
//! Each kind stands beside an honest twin that is believed, so that an attack does not fail for another reason.

mod signed;

use std::{collections::BTreeSet, sync::Arc};

use jiff::ToSpan as _;
use parallax_validation::{
    lookup::{
        dns::message::{Question, read_reply},
        dnssec::{
            Assessment, Reading,
            anchor::TrustAnchors,
            chain::{Chain, LinkQuestion, ZoneCache},
            prove::{Proof, prove},
        },
    },
    observation::{
        Alias, DnsFailure, DnsLookup, DnsOutcome, DnssecFault, InsecureBy, Message, Observation, RecordType,
        SecurityStatus,
    },
};
use signed::{
    A, BOGUS, CAA, DNAME, DNSKEY, DS, ED25519, Hashing, INDETERMINATE, INSECURE, Key, NOERROR, NOW, NS, NSEC, NXDOMAIN,
    Nsec3, RRSIG, Rec, SECURE, SOA, Signing, TXT, Table, World, Zone, a, bitmap, caa, cname, dname, rec, reply, soa,
    tag_of, txt, wire,
};

const WWW: &str = "www.example.com";

/// Validates an answer of CAA at `name`.
fn answered(world: &World, name: &str, answer: &[Rec], authority: &[Rec]) -> signed::Ended {
    world.assess(name, RecordType::Caa, reply(name, CAA, NOERROR, answer, authority))
}

/// Validates a denial of CAA at `name`. The SOA comes with it.
fn denied(world: &World, name: &str, rcode: u8, zone: &str, proof: &[&[Rec]]) -> signed::Ended {
    let authority = [world.zone(zone).soa(), proof.concat()].concat();
    world.assess(name, RecordType::Caa, reply(name, CAA, rcode, &[], &authority))
}

fn evil() -> Rec {
    caa(WWW, "evil.example")
}

// ---- Who signs ---------------------------------------------------------------------------------------

#[test]
fn signers_that_are_not_the_zone() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let (zone, other) = (world.zone("example.com"), world.zone("other.com"));
    let by = |key, signer: &str, set: &[Rec]| Signing { key, signer: signer.to_owned(), ..zone.signing() }.sign(set);
    table.case("the zone", SECURE, &answered(&world, WWW, &zone.sign(&[evil()]), &[]));
    table.case("a signed sibling", BOGUS, &answered(&world, WWW, &other.sign(&[evil()]), &[]));
    table.case("its key in our name", BOGUS, &answered(&world, WWW, &by(&other.key, "example.com", &[evil()]), &[]));
    table.case("our key in its name", BOGUS, &answered(&world, WWW, &by(&zone.key, "other.com", &[evil()]), &[]));
    let sub = world.zone("sub.example.com");
    table.case("a child", BOGUS, &answered(&world, WWW, &sub.sign(&[evil()]), &[]));
    let apex = [caa("example.com", "evil.example")];
    table.case("deeper than the owner", BOGUS, &answered(&world, "example.com", &sub.sign(&apex), &[]));
    table.case("the apex by the zone", SECURE, &answered(&world, "example.com", &zone.sign(&apex), &[]));
    for signer in ["un.com", "un.example.com", "xample.com", "ww.example.com"] {
        let forged = by(&other.key, signer, &[evil()]);
        table.case(&format!("{signer}, not signed"), BOGUS, &answered(&world, WWW, &forged, &[]));
    }
    // A zone that the attacker made at a name without a cut.
    let made = Zone::new(WWW, NOW);
    let (keys, forged) = (made.sign(&[made.dnskey()]), made.sign(&[evil()]));
    world.link(WWW, DNSKEY, NOERROR, &keys, &[]);
    let ended = answered(&world, WWW, &forged, &[]);
    table.case("a zone without delegation", BOGUS, &ended);
    let no_zone = DnssecFault::SignerIsNoZone { owner: WWW.to_owned(), signer: WWW.to_owned() };
    assert_eq!(ended.validation.fault, Some(no_zone));
    let ds = made.sign(&[made.ds()]);
    world.link(WWW, DS, NOERROR, &ds, &[]);
    table.case("a delegation by itself", BOGUS, &answered(&world, WWW, &forged, &[]));
    let ds = world.zone("com").sign(&[made.ds()]);
    world.link(WWW, DS, NOERROR, &ds, &[]);
    table.case("a delegation by another ancestor", BOGUS, &answered(&world, WWW, &forged, &[]));
    let ds = world.zone("example.com").sign(&[made.ds()]);
    world.link(WWW, DS, NOERROR, &ds, &[]);
    table.case("a delegation by the zone", SECURE, &answered(&world, WWW, &forged, &[]));
    table.end_with_twin();
}

/// Unsigned zones are not believed about names beside them.
#[test]
fn downgrade_by_an_unsigned_zone() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let honest = zone.nsec(WWW, "\\000.www.example.com", &[A, RRSIG, NSEC]);
    table.case("denial by the zone", SECURE, &denied(&world, WWW, NOERROR, "example.com", &[&honest]));
    let beside = [soa("example.com"), soa("x.un.com")];
    let ended = denied(&world, WWW, NOERROR, "example.com", &[&honest, &beside]);
    table.case("beside the SOA of another zone", SECURE, &ended);
    assert!(!ended.has_asked(WWW, RecordType::Ds), "an SOA of another branch changes nothing");
    let mut nodata = |what: &str, wants, name: &str, authority: &[Rec]| {
        for rcode in [NOERROR, NXDOMAIN] {
            let ended = world.assess(name, RecordType::Caa, reply(name, CAA, rcode, &[], authority));
            table.case(what, wants, &ended);
        }
    };
    nodata("an unsigned child", INSECURE, "host.un.example.com", &[soa("un.example.com")]);
    nodata("an SOA made up at the name", BOGUS, WWW, &[soa(WWW)]);
    nodata("an SOA made up at the apex", BOGUS, WWW, &[soa("example.com")]);
    nodata("an SOA made up above", BOGUS, WWW, &[soa("com")]);
    nodata("an SOA made up below a signed proof", BOGUS, WWW, &[vec![soa(WWW)], zone.soa()].concat());
    let other = world.zone("other.com");
    let foreign = other.nsec("a.other.com", "zz.other.com", &[A, RRSIG, NSEC]);
    nodata("a denial of a sibling", BOGUS, WWW, &[vec![soa("example.com")], foreign].concat());
    // The answer to another question is not about this name at all.
    let ended = world.assess(WWW, RecordType::Caa, reply(WWW, CAA, NOERROR, &[], &[soa("un.com")]));
    table.case("the SOA of a sibling", INDETERMINATE, &ended);
    table.end_with_twin();
}

// ---- What a signature says ---------------------------------------------------------------------------

#[test]
fn labels_of_a_signature() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let proof = zone.nsec("*.example.com", "z.example.com", &[CAA, RRSIG, NSEC]);
    let expanded = zone.expand("*.example.com", evil());
    let with = |labels| Signing { labels: Some(labels), ..zone.signing() }.sign(&[evil()]);
    table.case("as many as there are", SECURE, &answered(&world, WWW, &with(3), &[]));
    for labels in [0, 1, 2, 4, 5, 255] {
        table.case(&format!("{labels} labels"), BOGUS, &answered(&world, WWW, &with(labels), &proof));
    }
    table.case("a wildcard with proof", SECURE, &answered(&world, WWW, &expanded, &proof));
    table.case("a wildcard without proof", BOGUS, &answered(&world, WWW, &expanded, &[]));
    for (what, proof) in [
        ("of another name", zone.nsec("a.example.com", "b.example.com", &[A, RRSIG, NSEC])),
        ("that the name exists", zone.nsec(WWW, "z.example.com", &[A, RRSIG, NSEC])),
        ("that ends at the name", zone.nsec("a.example.com", WWW, &[A, RRSIG, NSEC])),
        ("that a name below exists", zone.nsec("a.example.com", "x.www.example.com", &[A, RRSIG, NSEC])),
        ("by a sibling", world.zone("other.com").nsec("a.other.com", "z.other.com", &[A, RRSIG, NSEC])),
        ("without signature", proof[..1].to_vec()),
        ("by the parent's side of a delegation", zone.nsec("www.example.com", "z.example.com", &[NS, RRSIG, NSEC])),
    ] {
        table.case(&format!("a wildcard with a proof {what}"), BOGUS, &answered(&world, WWW, &expanded, &proof));
    }
    // A name that is itself a wildcard is no exception, unless it is the very one.
    let name = "*.www.example.com";
    let deeper = zone.expand("*.example.com", caa(name, "evil.example"));
    table.case("a wildcard at a wildcard without proof", BOGUS, &answered(&world, name, &deeper, &[]));
    table.case("a wildcard at a wildcard with proof", SECURE, &answered(&world, name, &deeper, &proof));
    let plain = Hashing::default();
    let cover = zone.nsec3(&plain.over(WWW));
    table.case("a wildcard with NSEC3", SECURE, &answered(&world, WWW, &expanded, &cover));
    let other = zone.nsec3(&plain.over("other.example.com"));
    table.case("a wildcard with NSEC3 of another name", BOGUS, &answered(&world, WWW, &expanded, &other));
    // The next closer name counts, not the name itself.
    let deep = zone.expand("*.example.com", caa("x.ent.example.com", "evil.example"));
    let ended = answered(&world, "x.ent.example.com", &deep, &zone.nsec3(&plain.over("x.ent.example.com")));
    table.case("a wildcard over an empty non-terminal with NSEC3", BOGUS, &ended);
    let ended = answered(&world, "x.ent.example.com", &deep, &zone.nsec3(&plain.over("ent.example.com")));
    table.case("the next closer denied", SECURE, &ended);
    let shows = zone.nsec("b.example.com", "y.ent.example.com", &[A, RRSIG, NSEC]);
    let ended = answered(&world, "x.ent.example.com", &deep, &shows);
    table.case("a wildcard over an empty non-terminal with NSEC", BOGUS, &ended);
    table.end_with_twin();
}

#[test]
fn signatures_over_something_else() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let signed = zone.sign(&[evil()]);
    let mut case = |what: &str, wants, answer: &[Rec]| table.case(what, wants, &answered(&world, WWW, answer, &[]));
    case("as signed", SECURE, &signed);
    case("unsigned", BOGUS, &signed[..1]);
    case("another type", BOGUS, &Signing { rtype: Some(TXT), ..zone.signing() }.sign(&[evil()]));
    case("of another set", BOGUS, &[evil(), zone.sign(&[a(WWW)])[1].clone()]);
    case("another key tag", BOGUS, &Signing { tag: Some(1), ..zone.signing() }.sign(&[evil()]));
    let moved = Signing { owner: Some("mail.example.com".to_owned()), ..zone.signing() };
    case("another owner", BOGUS, &moved.sign(&[evil()]));
    case("one record more", BOGUS, &[signed.clone(), vec![caa(WWW, "more.example")]].concat());
    let two = zone.sign(&[caa(WWW, "ca.example"), evil()]);
    case("two records", SECURE, &two);
    case("one record less", BOGUS, &two[1..]);
    case("one record twice", SECURE, &[two.clone(), vec![two[0].clone()]].concat());
    // Every part of the signature's data is signed: type, algorithm, labels, TTL, times, tag, signer.
    for at in 0..signed[1].rdata.len() {
        let mut changed = signed.clone();
        changed[1].rdata[at] ^= 1;
        // The octet that is the length of the signer's first label makes the record unreadable.
        case(&format!("octet {at} of the signature"), BOGUS, &changed);
    }
    for at in 0..signed[0].rdata.len() {
        let mut changed = signed.clone();
        changed[0].rdata[at] ^= 1;
        case(&format!("octet {at} of the record"), BOGUS, &changed);
    }
    let mut lasting = signed;
    lasting[0].ttl = u32::MAX >> 1;
    case("a longer TTL, which is not used", SECURE, &lasting);
    table.end_with_twin();
}

#[test]
fn signatures_at_another_time() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let half = 1_i64 << 31;
    for (what, wants, begin, end) in [
        ("valid", SECURE, -10, 10),
        ("ends now", SECURE, -10, 0),
        ("begins now", SECURE, 0, 10),
        ("ended", BOGUS, -10, -1),
        ("begins in a second", BOGUS, 1, 10),
        ("ends before it begins", BOGUS, 10, -10),
        ("ended nearly 68 years ago", BOGUS, -half + 1, -half + 2),
        ("begins in nearly 68 years", BOGUS, half - 2, half - 1),
        ("ended before now and begins after it", BOGUS, 1, -1),
        ("for 68 years", SECURE, 0, half - 1),
    ] {
        let signing = Signing { begin: NOW + begin, end: NOW + end, ..zone.signing() };
        table.case(what, wants, &answered(&world, WWW, &signing.sign(&[evil()]), &[]));
        // A proof is no better than its signature.
        let proof = signing.sign(&[rec(WWW, NSEC, [wire("\\000.www.example.com"), bitmap(&[A])].concat())]);
        table.case(what, wants, &denied(&world, WWW, NOERROR, "example.com", &[&proof]));
    }
    let past = Signing { begin: NOW - 10, end: NOW - 1, ..zone.signing() }.sign(&[evil()]);
    let fault = answered(&world, WWW, &past, &[]).validation.fault;
    assert!(matches!(fault, Some(DnssecFault::Expired { .. })), "{fault:?}");
    let future = Signing { begin: NOW + 1, end: NOW + 10, ..zone.signing() }.sign(&[evil()]);
    let fault = answered(&world, WWW, &future, &[]).validation.fault;
    assert!(matches!(fault, Some(DnssecFault::NotYetValid { .. })), "{fault:?}");
    table.end_with_twin();
}

/// A link that is expired is as bad as an answer that is.
#[test]
fn links_at_another_time() {
    let mut table = Table::default();
    for link in [("com", DS), ("com", DNSKEY), ("example.com", DS), ("example.com", DNSKEY)] {
        for (what, wants, begin, end) in [("now", SECURE, -10, 10), ("ended", BOGUS, -10, -1), ("later", BOGUS, 1, 10)]
        {
            let mut world = World::standard();
            let zone = world.zone(link.0);
            let (set, signer) = if link.1 == DS { (zone.ds(), world.parent(link.0)) } else { (zone.dnskey(), zone) };
            let answer = Signing { begin: NOW + begin, end: NOW + end, ..signer.signing() }.sign(&[set]);
            world.link(link.0, link.1, NOERROR, &answer, &[]);
            let ended = answered(&world, WWW, &world.zone("example.com").sign(&[evil()]), &[]);
            table.case(&format!("{link:?} {what}"), wants, &ended);
            let ended = answered(&world, "www.un.com", &[caa("www.un.com", "ca.example")], &[]);
            let wants = if link.0 == "com" && wants == BOGUS { BOGUS } else { INSECURE };
            table.case(&format!("{link:?} {what}, unsigned"), wants, &ended);
        }
    }
    table.end_with_twin();
}

// ---- Denials -----------------------------------------------------------------------------------------

/// RFC 6840 §4.1: the parent's record at a delegation, or a record with DNAME, denies nothing below.
#[test]
fn denials_from_the_parents_side() {
    let (world, mut table) = (World::standard(), Table::default());
    let (zone, plain) = (world.zone("example.com"), Hashing::default());
    let apex = zone.nsec("example.com", "a.example.com", &[NS, SOA, RRSIG, NSEC]);
    let (cut, below) = ("sub.example.com", "host.sub.example.com");
    let nsec = |types: &[u16]| zone.nsec(cut, "t.example.com", types);
    let nsec3 = |types: &[u16]| zone.nsec3(&plain.at(cut, types));
    for (what, wants_at, wants_below, types) in [
        ("a name", SECURE, SECURE, &[A, RRSIG, NSEC][..]),
        ("a signed delegation", BOGUS, BOGUS, &[NS, DS, RRSIG, NSEC]),
        ("an unsigned delegation", BOGUS, BOGUS, &[NS, RRSIG, NSEC]),
        ("a redirection", SECURE, BOGUS, &[DNAME, RRSIG, NSEC]),
    ] {
        let ended = denied(&world, cut, NOERROR, "example.com", &[&nsec(types)]);
        table.case(&format!("{what}, at it by NSEC"), wants_at, &ended);
        let ended = denied(&world, cut, NOERROR, "example.com", &[&nsec3(types)]);
        table.case(&format!("{what}, at it by NSEC3"), wants_at, &ended);
        for rcode in [NOERROR, NXDOMAIN] {
            let ended = denied(&world, below, rcode, "example.com", &[&nsec(types), &apex]);
            table.case(&format!("{what}, below it by NSEC"), wants_below, &ended);
            let wildcard = zone.nsec3(&plain.over("*.sub.example.com"));
            let proof = [&nsec3(types)[..], &zone.nsec3(&plain.over(below)), &wildcard];
            let ended = denied(&world, below, rcode, "example.com", &proof);
            table.case(&format!("{what}, below it by NSEC3"), wants_below, &ended);
            let opt_out = [&nsec3(types)[..], &zone.nsec3(&plain.over(below).with_flags(1)), &wildcard];
            let wants = if wants_below == BOGUS { BOGUS } else { INSECURE };
            let ended = denied(&world, below, rcode, "example.com", &opt_out);
            table.case(&format!("{what}, below it by opt-out"), wants, &ended);
        }
    }
    let child = world.zone(cut).nsec(cut, "z.sub.example.com", &[NS, SOA, RRSIG, NSEC]);
    table.case("by the child", SECURE, &denied(&world, cut, NOERROR, cut, &[&child]));
    table.end_with_twin();
}

/// The child's own record at the apex says nothing about DS, which is the parent's.
#[test]
fn denials_of_ds_by_the_child() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let name = "sub.example.com";
    let forged = caa("host.sub.example.com", "evil.example");
    let plain = Hashing::default();
    let failed = || DnsOutcome::Failed(DnsFailure::Timeout);
    // Whether the zone is signed also counts when nothing came; it is known only where no zone begins.
    for (what, wants, wants_failed, signer, types) in [
        ("the parent", INSECURE, INSECURE, "example.com", &[NS, RRSIG, NSEC][..]),
        ("the child", BOGUS, BOGUS, name, &[NS, SOA, RRSIG, NSEC]),
        ("the child without SOA", BOGUS, BOGUS, name, &[NS, RRSIG, NSEC]),
        ("the parent, with the bits of the child", BOGUS, BOGUS, "example.com", &[NS, SOA, RRSIG, NSEC]),
        ("the parent, with DS", BOGUS, BOGUS, "example.com", &[NS, DS, RRSIG, NSEC]),
        ("a sibling", BOGUS, BOGUS, "other.com", &[NS, RRSIG, NSEC]),
        ("the grandparent", BOGUS, BOGUS, "com", &[NS, RRSIG, NSEC]),
        ("nobody's cut", BOGUS, INDETERMINATE, "example.com", &[A, RRSIG, NSEC]),
    ] {
        let zone = world.zone(signer);
        let proofs = [zone.nsec(name, "t.example.com", types), zone.nsec3(&plain.at(name, types))];
        for proof in proofs {
            let authority = [world.zone(signer).soa(), proof].concat();
            world.link(name, DS, NOERROR, &[], &authority);
            let ended = answered(&world, "host.sub.example.com", std::slice::from_ref(&forged), &[]);
            table.case(what, wants, &ended);
            let ended = world.assess_outcome(name, RecordType::Caa, failed(), Arc::default());
            table.case(&format!("{what}, no reply"), wants_failed, &ended);
        }
    }
    table.end_with_twin();
}

#[test]
fn denials_of_names_that_exist() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let apex = zone.nsec("example.com", "*.example.com", &[NS, SOA, RRSIG, NSEC]);
    let no_star = zone.nsec("example.com", "a.example.com", &[NS, SOA, RRSIG, NSEC]);
    let mut case = |what: &str, wants, name: &str, rcode, proof: &[&[Rec]]| {
        table.case(what, wants, &denied(&world, name, rcode, "example.com", proof));
    };
    let nsec = |owner: &str, next: &str| zone.nsec(owner, next, &[A, RRSIG, NSEC]);
    case("a name that is not", SECURE, WWW, NXDOMAIN, &[&nsec("a.example.com", "z.example.com"), &no_star]);
    case("an empty non-terminal", BOGUS, WWW, NXDOMAIN, &[&nsec("a.example.com", "x.www.example.com"), &no_star]);
    case("its no data", SECURE, WWW, NOERROR, &[&nsec("a.example.com", "x.www.example.com")]);
    case("the name itself", BOGUS, WWW, NXDOMAIN, &[&nsec(WWW, "z.example.com"), &no_star]);
    case("the end of the span", BOGUS, WWW, NXDOMAIN, &[&nsec("a.example.com", WWW), &no_star]);
    case("no data at the end of the span", BOGUS, WWW, NOERROR, &[&nsec("a.example.com", WWW)]);
    let (beside, below) = (nsec("b.example.com", "x.example.com"), nsec("a.www.example.com", "x.www.example.com"));
    case("no data at the apex by a name below", BOGUS, "example.com", NOERROR, &[&beside]);
    case("no data by names below", BOGUS, WWW, NOERROR, &[&below]);
    case("before the span", BOGUS, WWW, NXDOMAIN, &[&nsec("x.example.com", "z.example.com"), &no_star]);
    case("after the span", BOGUS, WWW, NXDOMAIN, &[&nsec("a.example.com", "b.example.com"), &no_star]);
    case("the last span", SECURE, WWW, NXDOMAIN, &[&nsec("a.example.com", "example.com"), &no_star]);
    case("before the last span", BOGUS, WWW, NXDOMAIN, &[&nsec("x.example.com", "example.com"), &no_star]);
    case("the wildcard exists", BOGUS, WWW, NXDOMAIN, &[&nsec("a.example.com", "z.example.com"), &apex]);
    case("the wildcard exists", BOGUS, WWW, NXDOMAIN, &[&nsec("*.example.com", "z.example.com"), &apex]);
    // `*` itself may be an empty non-terminal: it exists then, and has no data.
    let star_is_empty = zone.nsec("example.com", "x.*.example.com", &[NS, SOA, RRSIG, NSEC]);
    case("the wildcard is empty", BOGUS, WWW, NXDOMAIN, &[&nsec("a.example.com", "z.example.com"), &star_is_empty]);
    case("the wildcard is empty", SECURE, WWW, NOERROR, &[&nsec("a.example.com", "z.example.com"), &star_is_empty]);
    case("all but the apex", SECURE, WWW, NXDOMAIN, &[&nsec("example.com", "example.com")]);
    case("the apex", BOGUS, "example.com", NXDOMAIN, &[&nsec("example.com", "example.com")]);
    let unsigned = &nsec("a.example.com", "z.example.com")[..1];
    case("stripped", BOGUS, WWW, NXDOMAIN, &[unsigned, &no_star]);
    case("only the SOA", BOGUS, WWW, NXDOMAIN, &[]);
    case("only the SOA", BOGUS, WWW, NOERROR, &[]);
    case("spans turned round", BOGUS, WWW, NXDOMAIN, &[&nsec("z.example.com", "a.example.com"), &no_star]);
    // An expanded wildcard has no NSEC of its own.
    let span = rec("a.example.com", NSEC, [wire("z.example.com"), bitmap(&[A])].concat());
    case("an expanded NSEC", BOGUS, WWW, NXDOMAIN, &[&zone.expand("*.example.com", span), &no_star]);
    table.end_with_twin();
}

#[test]
fn denials_by_another_wildcard() {
    let (world, mut table) = (World::standard(), Table::default());
    let (zone, plain) = (world.zone("example.com"), Hashing::default());
    let types = &[A, RRSIG, NSEC][..];
    let covers = zone.nsec("b.example.com", "z.example.com", types);
    let mut case = |what: &str, wants, proof: &[&[Rec]]| {
        table.case(what, wants, &denied(&world, WWW, NOERROR, "example.com", proof));
    };
    case("the wildcard", SECURE, &[&covers, &zone.nsec("*.example.com", "a.example.com", types)]);
    case("both in one record", SECURE, &[&zone.nsec("*.example.com", "z.example.com", types)]);
    case("a wildcard below", BOGUS, &[&covers, &zone.nsec("*.w.example.com", "a.w.example.com", types)]);
    case("a name", BOGUS, &[&covers, &zone.nsec("a.example.com", "b.example.com", types)]);
    let apex = zone.nsec3(&plain.at("example.com", &[NS, SOA, RRSIG]));
    let closer = zone.nsec3(&plain.over(WWW));
    let at = |name: &str| zone.nsec3(&plain.at(name, &[A, RRSIG]));
    case("the wildcard by NSEC3", SECURE, &[&apex, &closer, &at("*.example.com")]);
    case("a wildcard below by NSEC3", BOGUS, &[&apex, &closer, &at("*.w.example.com")]);
    case("a wildcard above by NSEC3", BOGUS, &[&apex, &closer, &at("*.com")]);
    table.end_with_twin();
}

/// NSEC3 and NSEC of another zone, or of a zone below, are not part of a proof.
#[test]
fn denials_by_several_zones() {
    let (world, mut table) = (World::standard(), Table::default());
    let (zone, plain) = (world.zone("example.com"), Hashing::default());
    let (apex, closer, star) =
        (plain.at("example.com", &[NS, SOA, RRSIG]), plain.over(WWW), plain.over("*.example.com"));
    let com = world.zone("com");
    let mut case = |what: &str, wants, proof: &[&[Rec]]| {
        table.case(what, wants, &denied(&world, WWW, NXDOMAIN, "example.com", proof));
    };
    case("all by the zone", SECURE, &[&zone.nsec3(&apex), &zone.nsec3(&closer), &zone.nsec3(&star)]);
    case("the encloser by the parent", BOGUS, &[&com.nsec3(&apex), &zone.nsec3(&closer), &zone.nsec3(&star)]);
    case("the closer by the parent", BOGUS, &[&zone.nsec3(&apex), &com.nsec3(&closer), &zone.nsec3(&star)]);
    case("the wildcard by the parent", BOGUS, &[&zone.nsec3(&apex), &zone.nsec3(&closer), &com.nsec3(&star)]);
    let above = plain.at("com", &[NS, SOA, RRSIG]);
    let (over_zone, over_star) = (plain.over("example.com").with_flags(1), plain.over("*.com"));
    let records = [above, over_zone, over_star].map(|record| com.nsec3(&record));
    let proof: Vec<&[Rec]> = records.iter().map(Vec::as_slice).collect();
    // The parent's opt-out span covers our zone, which the chain knows to be signed; the zone's SOA is signed.
    case("opt-out of the parent", BOGUS, &proof);
    // What a zone says beyond its own names.
    let above = plain.at("com", &[NS, SOA, RRSIG]);
    let records = [above, plain.over("example.com"), plain.over("*.com")].map(|record| zone.nsec3(&record));
    case("an encloser above the zone", BOGUS, &[&records[0], &records[1], &records[2]]);
    let no_star = zone.nsec("example.com", "a.example.com", &[NS, SOA, RRSIG, NSEC]);
    let within = zone.nsec("b.example.com", "z.example.com", &[A, RRSIG, NSEC]);
    let beyond = zone.nsec("a.com", "z.example.com", &[A, RRSIG, NSEC]);
    case("a span within the zone", SECURE, &[&within, &no_star]);
    case("a span that begins above the zone", BOGUS, &[&beyond, &no_star]);
    // Records of two versions of the zone: the name was not there, and then it was.
    let deeper = zone.nsec3(&plain.over("*.www.example.com"));
    let matching = zone.nsec3(&plain.at(WWW, &[CAA, RRSIG]));
    case("a match beside a cover", BOGUS, &[&matching, &zone.nsec3(&closer), &deeper]);
    table.end_with_twin();
}

/// Found in review: opt-out on the record that covers the wildcard is about no name. A zone's own NXDOMAIN must
/// not be a way to have one of its names taken for an unsigned zone.
#[test]
fn opt_out_on_the_wildcard_opens_nothing() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let (name, plain) = ("_acme-challenge.example.com", Hashing::default());
    for (what, wants, closer, wildcard) in [
        ("neither", BOGUS, 0, 0),
        ("the wildcard", BOGUS, 0, 1),
        ("the next closer name", INSECURE, 1, 0),
        ("both", INSECURE, 1, 1),
    ] {
        let zone = world.zone("example.com");
        let records = [
            plain.at("example.com", &[NS, SOA, RRSIG, DNSKEY]),
            plain.over(name).with_flags(closer),
            plain.over("*.example.com").with_flags(wildcard),
        ];
        let proof: Vec<Rec> = records.iter().flat_map(|record| zone.nsec3(record)).collect();
        let authority = [zone.soa(), proof].concat();
        for rcode in [NXDOMAIN, NOERROR] {
            world.link(name, DS, rcode, &[], &authority);
            let forged = reply(name, TXT, NOERROR, &[txt(name, "forged")], &[]);
            table.case(what, wants, &world.assess(name, RecordType::Txt, forged));
        }
    }
    table.end_with_twin();
}

/// The order of records in a reply is the attacker's: opt-out elsewhere does not rub off.
#[test]
fn opt_out_elsewhere() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let (name, plain) = ("x.example.com", Hashing::default());
    let zone = world.zone("example.com");
    let other = plain.over("y.example.com").with_flags(1);
    let apex = plain.at("example.com", &[NS, SOA, RRSIG]);
    let sets = [
        ("covers another name", BOGUS, vec![apex.clone(), other.clone()]),
        ("at the apex", BOGUS, vec![apex.clone().with_flags(1), plain.over(name)]),
        ("at the name", BOGUS, vec![plain.at(name, &[A, RRSIG]).with_flags(1), other.clone()]),
        ("without the encloser", BOGUS, vec![plain.over(name).with_flags(1)]),
        ("unknown flags beside", BOGUS, vec![apex.clone(), plain.over(name).with_flags(3)]),
        ("covers the name", INSECURE, vec![other, apex, plain.over(name).with_flags(1)]),
    ];
    let links: Vec<_> = sets
        .into_iter()
        .map(|(what, wants, records)| {
            let proof: Vec<Rec> = records.iter().flat_map(|record: &Nsec3| zone.nsec3(record)).collect();
            (what, wants, [zone.soa(), proof].concat())
        })
        .collect();
    for (what, wants, authority) in links {
        world.link(name, DS, NXDOMAIN, &[], &authority);
        table.case(what, wants, &answered(&world, name, &[caa(name, "evil.example")], &[]));
    }
    table.end_with_twin();
}

// ---- The chain ---------------------------------------------------------------------------------------

#[test]
fn unsigned_answers_in_a_signed_zone() {
    let (world, mut table) = (World::standard(), Table::default());
    table.case("unsigned zone", INSECURE, &answered(&world, "www.un.com", &[caa("www.un.com", "x")], &[]));
    table.case("signed zone", BOGUS, &answered(&world, WWW, &[evil()], &[]));
    let name = "host.sub.example.com";
    table.case("signed child", BOGUS, &answered(&world, name, &[caa(name, "x")], &[]));
    table.case(
        "a name below",
        BOGUS,
        &answered(&world, "a.b.www.example.com", &[caa("a.b.www.example.com", "x")], &[]),
    );
    table.case("a name of the root zone", BOGUS, &answered(&world, "nowhere", &[caa("nowhere", "x")], &[]));
    table.end_with_twin();
}

#[test]
fn delegations_that_are_stripped() {
    let mut table = Table::default();
    let name = "sub.example.com";
    let forged = caa("host.sub.example.com", "evil.example");
    let empty: &[Rec] = &[];
    let honest = World::standard().zone("example.com").nsec(name, "t.example.com", &[NS, RRSIG, NSEC]);
    for (what, wants, rcode, answer, authority) in [
        ("denied by a signature", INSECURE, NOERROR, empty, [vec![soa("example.com")], honest.clone()].concat()),
        ("denied without", BOGUS, NOERROR, empty, vec![soa("example.com")]),
        ("no name", BOGUS, NXDOMAIN, empty, vec![soa("example.com")]),
        ("nothing at all", BOGUS, NOERROR, empty, vec![]),
        ("NSEC without signature", BOGUS, NOERROR, empty, [vec![soa("example.com")], honest[..1].to_vec()].concat()),
        ("a referral", BOGUS, NOERROR, empty, vec![rec(name, NS, wire("ns.un.com"))]),
        ("server failure", BOGUS, 2, empty, vec![]),
        ("unsigned alias", BOGUS, NOERROR, &[cname(name, "un.com")], vec![]),
        ("unsigned redirection", BOGUS, NOERROR, &[dname("example.com", "un.com")], vec![]),
        ("unsigned unknown DS", BOGUS, NOERROR, &[rec(name, DS, vec![0, 1, 200, 2, 7])], vec![]),
    ] {
        let mut world = World::standard();
        world.link(name, DS, rcode, answer, &authority);
        let ended = answered(&world, "host.sub.example.com", std::slice::from_ref(&forged), &[]);
        table.case(what, wants, &ended);
        if wants == BOGUS {
            let again: Vec<bool> = ended.asked.iter().filter(|q| q.name == name).map(|q| q.again).collect();
            assert_eq!(again, [false, true], "{what}: asked once more with CD clear");
        }
    }
    let mut world = World::standard();
    world.fail(name, DS, DnsFailure::Timeout);
    let ended = answered(&world, "host.sub.example.com", &[forged], &[]);
    table.case("no reply", INDETERMINATE, &ended);
    assert!(matches!(ended.validation.fault, Some(DnssecFault::LinkFailed { .. })));
    table.end_with_twin();
}

/// A link that is answered rightly when asked again is believed; one that fails then stays bogus.
#[test]
fn links_asked_again() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let name = "example.com";
    let answer = reply(WWW, CAA, NOERROR, &world.zone(name).sign(&[evil()]), &[]);
    let right = world.answer(&LinkQuestion { name: name.to_owned(), rtype: RecordType::Ds, again: false });
    world.link(name, DS, NOERROR, &[], &[soa("com")]);
    for (what, wants, second) in [
        ("right", SECURE, right),
        ("fails", BOGUS, Err(DnsFailure::Rcode(2))),
        ("late", BOGUS, Err(DnsFailure::Timeout)),
    ] {
        let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
        let reading = signed::reading(WWW, RecordType::Caa, Arc::clone(&answer));
        let validation = loop {
            match world.step(&reading, &mut chain, &mut kept) {
                Assessment::Done(validation, links) => {
                    break signed::Ended { validation: *validation, asked: vec![], links };
                }
                Assessment::Need(questions) => {
                    assert!(!questions.is_empty(), "{what}: it waits for nothing");
                    for question in questions {
                        let reply = if question.again { second.clone() } else { world.answer(&question) };
                        chain.answer(&question, reply);
                    }
                }
            }
        };
        table.case(what, wants, &validation);
        assert!(chain.repaired().is_some(), "{what}: what was wrong at first is told");
    }
    table.end_with_twin();
}

#[test]
fn delegations_that_are_weakened() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let (zone, evil_key) = (Zone::new("example.com", NOW), Key::new("evil", 257, 3));
    let name = "example.com";
    let ds = |key: &Key, algorithm, kind| rec(name, DS, key.ds(name, algorithm, kind));
    let by_evil = Signing { key: &evil_key, ..zone.signing() };
    let dnskey = |key: &Key| rec(name, DNSKEY, key.rdata.clone());
    let honest = (zone.sign(&[zone.dnskey()]), zone.sign(&[evil()]));
    let unsigned = (honest.0.clone(), vec![evil()]);
    let forged = (by_evil.sign(&[dnskey(&evil_key)]), by_evil.sign(&[evil()]));
    let both_keys = [zone.dnskey(), dnskey(&evil_key)];
    let mixed = (by_evil.sign(&both_keys), by_evil.sign(&[evil()]));
    let only = [ds(&zone.key, ED25519, 2)];
    let known = &only[0];
    let unknown = [ds(&zone.key, 200, 2), ds(&zone.key, ED25519, 9)];
    let beside = [&unknown[..], &only].concat();
    let sha1_of_evil = [known.clone(), ds(&evil_key, ED25519, 1)];
    let sha1_of_evil_with_384 = [ds(&zone.key, ED25519, 4), ds(&evil_key, ED25519, 1)];
    let unknown_256 = [ds(&zone.key, 200, 2), ds(&evil_key, ED25519, 1)];
    for (what, wants, set, (keys, answer)) in [
        ("known", SECURE, &only[..], &honest),
        ("known, unsigned answer", BOGUS, &only, &unsigned),
        ("unknown alone", INSECURE, &unknown, &unsigned),
        ("unknown beside", SECURE, &beside, &honest),
        ("unknown beside, unsigned answer", BOGUS, &beside, &unsigned),
        ("another key", BOGUS, &only, &forged),
        ("another key beside", BOGUS, &only, &mixed),
        ("SHA-384", SECURE, &[ds(&zone.key, ED25519, 4)], &honest),
        ("SHA-1 alone", SECURE, &[ds(&zone.key, ED25519, 1)], &honest),
        ("SHA-1 of another key beside SHA-256", BOGUS, &sha1_of_evil, &forged),
        ("SHA-1 of another key beside SHA-256, both keys", BOGUS, &sha1_of_evil, &mixed),
        ("SHA-1 of another key beside SHA-384", BOGUS, &sha1_of_evil_with_384, &forged),
        ("SHA-1 beside an unknown SHA-256", SECURE, &unknown_256, &forged),
        ("wrong digest", BOGUS, &[rec(name, DS, [&known.rdata[..35], &[0]].concat())], &honest),
        ("short digest", BOGUS, &[rec(name, DS, known.rdata[..20].to_vec())], &honest),
        ("wrong tag", BOGUS, &[rec(name, DS, [&[0, 0], &known.rdata[2..]].concat())], &honest),
        ("wrong algorithm", BOGUS, &[rec(name, DS, [&known.rdata[..2], &[13], &known.rdata[3..]].concat())], &honest),
    ] {
        let answer_to_ds = world.zone("com").sign(set);
        world.link(name, DS, NOERROR, &answer_to_ds, &[]);
        world.link(name, DNSKEY, NOERROR, keys, &[]);
        table.case(what, wants, &answered(&world, WWW, answer, &[]));
    }
    table.end_with_twin();
}

/// Keys that may not sign a zone: without the ZONE flag, revoked, or of another protocol.
#[test]
fn keys_that_may_not_sign() {
    let mut table = Table::default();
    let name = "example.com";
    for (what, wants, flags, protocol) in [
        ("zone key", SECURE, 256, 3),
        ("with SEP", SECURE, 257, 3),
        ("other flags", SECURE, 0x4101, 3),
        ("revoked", BOGUS, 0x0181, 3),
        ("revoked without SEP", BOGUS, 0x0180, 3),
        ("no zone key", BOGUS, 0x0001, 3),
        ("no flags", BOGUS, 0, 3),
        ("protocol 2", BOGUS, 257, 2),
        ("protocol 0", BOGUS, 257, 0),
    ] {
        let mut world = World::standard();
        let key = Key::new("the key", flags, protocol);
        let zone = Zone::new(name, NOW);
        let by = Signing { key: &key, ..zone.signing() };
        let answer = by.sign(&[evil()]);
        let dnskey = rec(name, DNSKEY, key.rdata.clone());
        // As a key that signs the zone.
        world.link(name, DNSKEY, NOERROR, &zone.sign(&[zone.dnskey(), dnskey.clone()]), &[]);
        table.case(&format!("{what}, signs the answer"), wants, &answered(&world, WWW, &answer, &[]));
        // As the one that has the DS.
        let ds = world.zone("com").sign(&[rec(name, DS, key.ds(name, ED25519, 2))]);
        world.link(name, DS, NOERROR, &ds, &[]);
        world.link(name, DNSKEY, NOERROR, &by.sign(std::slice::from_ref(&dnskey)), &[]);
        table.case(&format!("{what}, has the DS"), wants, &answered(&world, WWW, &answer, &[]));
    }
    table.end_with_twin();
}

#[test]
fn key_sets_that_no_delegation_vouches_for() {
    let mut table = Table::default();
    let (name, zone, evil_key) = ("example.com", Zone::new("example.com", NOW), Key::new("evil", 257, 3));
    let by_evil = Signing { key: &evil_key, ..zone.signing() };
    let set = [zone.dnskey(), rec(name, DNSKEY, evil_key.rdata.clone())];
    let unsigned: Vec<Rec> = set.to_vec();
    for (what, wants, keys, authority) in [
        ("signed by the key with DS", SECURE, zone.sign(&set), vec![]),
        ("signed by both", SECURE, [zone.sign(&set), vec![by_evil.rrsig(&set)]].concat(), vec![]),
        ("signed by the other only", BOGUS, by_evil.sign(&set), vec![]),
        ("not signed", BOGUS, unsigned, vec![]),
        ("without the other key", BOGUS, zone.sign(&set[..1]), vec![]),
        ("only the other key", BOGUS, by_evil.sign(&set[1..]), vec![]),
        ("of the authority section", BOGUS, vec![], zone.sign(&set)),
        ("none", BOGUS, vec![], vec![]),
        ("expanded from a wildcard", BOGUS, zone.expand("*.com", set[1].clone()), vec![]),
    ] {
        let mut world = World::standard();
        world.link(name, DNSKEY, NOERROR, &keys, &authority);
        table.case(what, wants, &answered(&world, WWW, &by_evil.sign(&[evil()]), &[]));
    }
    table.end_with_twin();
}

/// DS is not made by a wildcard, and one in the authority section is no answer.
#[test]
fn delegations_by_a_wildcard() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let name = "made.example.com";
    let made = Zone::new(name, NOW);
    let (keys, answer) = (made.sign(&[made.dnskey()]), made.sign(&[caa(name, "evil.example")]));
    world.link(name, DNSKEY, NOERROR, &keys, &[]);
    let zone = world.zone("example.com");
    let closer = zone.nsec("a.example.com", "z.example.com", &[A, RRSIG, NSEC]);
    let alias = cname(name, "un.com");
    for (what, wants, ds, authority) in [
        ("at the name", SECURE, zone.sign(&[made.ds()]), vec![]),
        ("by a wildcard", BOGUS, zone.expand("*.example.com", made.ds()), closer.clone()),
        ("in the authority section", BOGUS, vec![], zone.sign(&[made.ds()])),
        ("an alias", BOGUS, zone.sign(std::slice::from_ref(&alias)), vec![]),
        ("an alias by a wildcard", BOGUS, zone.expand("*.example.com", alias.clone()), closer),
        ("an alias by a wildcard without proof", BOGUS, zone.expand("*.example.com", alias), vec![]),
    ] {
        let mut world = World::standard();
        world.link(name, DNSKEY, NOERROR, &keys, &[]);
        world.link(name, DS, NOERROR, &ds, &authority);
        table.case(what, wants, &answered(&world, name, &answer, &[]));
    }
    table.end_with_twin();
}

/// A signed wildcard alias, or DNAME, in the reply to DS ends no chain where there is a delegation.
#[test]
fn aliases_in_the_chain() {
    let mut table = Table::default();
    let name = "sub.example.com";
    let honest = World::standard().zone(name).sign(&[caa(name, "ca.example")]);
    let standard = World::standard();
    let zone = standard.zone("example.com");
    let wildcard = zone.expand("*.example.com", cname(name, "un.com"));
    let redirection = zone.expand("*.example.com", dname("a.example.com", "un.com"));
    let failed = || DnsOutcome::Failed(DnsFailure::Timeout);
    let (at_name, elsewhere) = (zone.sign(&[dname(name, "un.com")]), zone.sign(&[dname("d.example.com", "un.com")]));
    let (below, proof) = ("x.a.example.com", zone.nsec("a.example.com", "z.example.com", &[A, RRSIG, NSEC]));
    for (what, faulty, asked, answer, authority) in [
        ("wildcard alias with proof", false, name, &wildcard, proof),
        ("wildcard alias without", true, name, &wildcard, vec![]),
        ("wildcard DNAME", true, below, &redirection, zone.nsec("*.example.com", "z.example.com", &[DNAME])),
        ("DNAME above", false, "x.d.example.com", &elsewhere, vec![]),
        ("DNAME at the name", true, name, &at_name, vec![]),
        ("DNAME of another name", true, name, &elsewhere, vec![]),
    ] {
        let mut world = World::standard();
        world.link(asked, DS, NOERROR, answer, &authority);
        let ended = world.assess_outcome(asked, RecordType::Caa, failed(), Arc::default());
        let wants = if faulty { BOGUS } else { INDETERMINATE };
        table.case(what, wants, &ended);
    }
    table.case("the delegation", SECURE, &answered(&standard, name, &honest, &[]));
    table.end_with_twin();
}

// ---- Aliases and sections ----------------------------------------------------------------------------

#[test]
fn records_of_the_authority_section() {
    let (world, mut table) = (World::standard(), Table::default());
    let set = world.zone("example.com").sign(&[evil()]);
    table.case("answer", SECURE, &answered(&world, WWW, &set, &[]));
    table.case("authority", INDETERMINATE, &answered(&world, WWW, &[], &set));
    // Also if somebody else reads it as an answer.
    let outcome =
        read_reply(&reply(WWW, CAA, NOERROR, &set, &[]), &Question::new(WWW, RecordType::Caa).expect("a name"))
            .expect("a reply")
            .outcome;
    let packet = reply(WWW, CAA, NOERROR, &[], &set);
    let ended = world.assess_outcome(WWW, RecordType::Caa, outcome.clone(), packet);
    table.case("authority, read as an answer", BOGUS, &ended);
    let other = world.zone("example.com").sign(&[caa(WWW, "ca.example")]);
    let ended = world.assess_outcome(WWW, RecordType::Caa, outcome.clone(), reply(WWW, CAA, NOERROR, &other, &[]));
    table.case("other records than were read", BOGUS, &ended);
    let split = [&set[..1], &world.zone("example.com").sign(&[a(WWW)])].concat();
    let ended = world.assess_outcome(WWW, RecordType::Caa, outcome, reply(WWW, CAA, NOERROR, &split, &set[1..]));
    table.case("signature in the authority section", BOGUS, &ended);
    let denial = world.zone("example.com").nsec(WWW, "\\000.www.example.com", &[A, RRSIG, NSEC]);
    let ended = answered(&world, WWW, &[evil()], &denial);
    table.case("unsigned answer beside a signed denial", BOGUS, &ended);
    let alias_only = world.zone("example.com").sign(&[cname(WWW, "host.example.com")]);
    let target = world.zone("example.com").sign(&[caa("host.example.com", "ca.example")]);
    let ended = answered(&world, WWW, &target, &alias_only);
    table.case("an alias of the authority section", INDETERMINATE, &ended);
    let both = reply(WWW, CAA, NOERROR, &[&alias_only[..], &target].concat(), &[]);
    let question = Question::new(WWW, RecordType::Caa).expect("a name");
    let outcome = read_reply(&both, &question).expect("a reply").outcome;
    let ended = world.assess_outcome(WWW, RecordType::Caa, outcome.clone(), both);
    table.case("an alias and its target", SECURE, &ended);
    let apart = reply(WWW, CAA, NOERROR, &target, &alias_only);
    let ended = world.assess_outcome(WWW, RecordType::Caa, outcome, apart);
    table.case("an alias of the authority section, read as an answer", BOGUS, &ended);
    table.end_with_twin();
}

/// What cannot be read to its end proves nothing, and the fault says so.
#[test]
fn messages_cut_short() {
    let (world, mut table) = (World::standard(), Table::default());
    let packet = reply(WWW, CAA, NOERROR, &world.zone("example.com").sign(&[evil()]), &[]);
    let question = Question::new(WWW, RecordType::Caa).expect("a name");
    let outcome = read_reply(&packet, &question).expect("a reply").outcome;
    table.case("whole", SECURE, &world.assess_outcome(WWW, RecordType::Caa, outcome.clone(), Arc::clone(&packet)));
    for length in 1..packet.len() {
        let ended = world.assess_outcome(WWW, RecordType::Caa, outcome.clone(), packet[..length].into());
        table.case(&format!("{length} octets"), BOGUS, &ended);
        assert!(matches!(ended.validation.fault, Some(DnssecFault::Unreadable { .. })), "{length} octets");
    }
    table.end_with_twin();
}

/// Every alias is a claim of its own.
#[test]
fn alias_chains_with_one_bogus_link() {
    let (world, mut table) = (World::standard(), Table::default());
    let (zone, other) = (world.zone("example.com"), world.zone("other.com"));
    let chain = [
        zone.sign(&[cname(WWW, "one.example.com")]),
        zone.sign(&[cname("one.example.com", "two.other.com")]),
        other.sign(&[caa("two.other.com", "ca.example")]),
    ];
    table.case("all signed", SECURE, &answered(&world, WWW, &chain.concat(), &[]));
    for broken in 0..3 {
        let mut stripped = chain.clone();
        stripped[broken].pop();
        table.case(&format!("{broken} stripped"), BOGUS, &answered(&world, WWW, &stripped.concat(), &[]));
        let mut swapped = chain.clone();
        swapped[broken][0].rdata = if broken == 2 { evil().rdata } else { wire("evil.un.com") };
        swapped[broken].push(caa("evil.un.com", "evil.example"));
        table.case(&format!("{broken} swapped"), BOGUS, &answered(&world, WWW, &swapped.concat(), &[]));
    }
    let two = [zone.sign(&[cname(WWW, "one.example.com")]), zone.sign(&[cname(WWW, "host.un.com")])].concat();
    let answer = [two, vec![caa("host.un.com", "evil.example"), caa("one.example.com", "evil.example")]].concat();
    table.case("two aliases at a name", BOGUS, &answered(&world, WWW, &answer, &[]));
    // Signed as they are, two aliases lead nowhere: which one is followed would be the attacker's choice.
    let together = zone.sign(&[cname(WWW, "one.example.com"), cname(WWW, "two.other.com")]);
    for first in 0..2 {
        let mut answer = together.clone();
        answer.swap(0, first);
        answer.extend(zone.sign(&[caa("one.example.com", "ca.example")]));
        answer.extend(chain[2].clone());
        table.case("two aliases signed together", BOGUS, &answered(&world, WWW, &answer, &[]));
    }
    let both = [zone.sign(&[cname(WWW, "host.un.com")]), vec![caa(WWW, "evil.example")]].concat();
    table.case("an alias and unsigned records", BOGUS, &answered(&world, WWW, &both, &[]));
    // The denial at the end of the chain.
    let aliases = chain[..2].concat();
    let proof = [other.soa(), other.nsec("two.other.com", "\\000.two.other.com", &[A, RRSIG, NSEC])].concat();
    table.case("denial at the end", SECURE, &answered(&world, WWW, &aliases, &proof));
    table.case("unsigned denial at the end", BOGUS, &answered(&world, WWW, &aliases, &[soa("other.com")]));
    let of_owner = [vec![soa("other.com")], zone.nsec(WWW, "\\000.www.example.com", &[A, RRSIG, NSEC])].concat();
    table.case("denial of the first name", BOGUS, &answered(&world, WWW, &aliases, &of_owner));
    table.end_with_twin();
}

/// An alias into an unsigned zone leaves the signed part to be proven.
#[test]
fn aliases_into_an_unsigned_zone() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let alias = zone.sign(&[cname(WWW, "host.un.com")]);
    let target = vec![caa("host.un.com", "anything.example")];
    table.case("signed alias", INSECURE, &answered(&world, WWW, &[alias.clone(), target.clone()].concat(), &[]));
    table.case("unsigned alias", BOGUS, &answered(&world, WWW, &[alias[..1].to_vec(), target.clone()].concat(), &[]));
    let (mut other_target, mut far) = (alias.clone(), target);
    other_target[0].rdata = wire("evil.un.com");
    far[0].owner = "evil.un.com".to_owned();
    table.case("changed alias", BOGUS, &answered(&world, WWW, &[other_target, far].concat(), &[]));
    table.case("denial, signed alias", INSECURE, &answered(&world, WWW, &alias, &[soa("un.com")]));
    table.case("denial, unsigned alias", BOGUS, &answered(&world, WWW, &alias[..1], &[soa("un.com")]));
    // Also if somebody else reads another alias than the one that is signed.
    let elsewhere = [cname(WWW, "evil.un.com"), caa("evil.un.com", "evil.example")];
    let question = Question::new(WWW, RecordType::Caa).expect("a name");
    let read = read_reply(&reply(WWW, CAA, NOERROR, &elsewhere, &[]), &question).expect("a reply").outcome;
    let packet = reply(WWW, CAA, NOERROR, &[&alias[..], &elsewhere[1..]].concat(), &[]);
    let ended = world.assess_outcome(WWW, RecordType::Caa, read, packet);
    table.case("another alias than was read", BOGUS, &ended);
    // And back into a signed zone: what is there must be proven again.
    let back = [alias, vec![cname("host.un.com", "x.other.com"), caa("x.other.com", "evil.example")]].concat();
    table.case("back into a signed zone", BOGUS, &answered(&world, WWW, &back, &[]));
    table.end_with_twin();
}

#[test]
fn redirections_that_lead_elsewhere() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let name = "x.d.example.com";
    let redirection = zone.sign(&[dname("d.example.com", "other.com")]);
    let (right, wrong) = (cname(name, "x.other.com"), cname(name, "evil.un.com"));
    let target = world.zone("other.com").sign(&[caa("x.other.com", "ca.example")]);
    let evil_target = vec![caa("evil.un.com", "evil.example")];
    let mut case = |what: &str, wants, name: &str, parts: &[&[Rec]]| {
        table.case(what, wants, &answered(&world, name, &parts.concat(), &[]));
    };
    case("as redirected", SECURE, name, &[&redirection, std::slice::from_ref(&right), &target]);
    case("elsewhere", BOGUS, name, &[&redirection, std::slice::from_ref(&wrong), &evil_target]);
    case("elsewhere, in the other order", BOGUS, name, &[&[wrong], &redirection, &evil_target]);
    case("unsigned", BOGUS, name, &[&redirection[..1], std::slice::from_ref(&right), &target]);
    case("unsigned, alone", BOGUS, name, &[&redirection[..1], &target]);
    let expanded = zone.expand("*.example.com", dname("d.example.com", "other.com"));
    let proof = zone.nsec("a.example.com", "z.example.com", &[A, RRSIG, NSEC]);
    let answer = [expanded, vec![right], target].concat();
    table.case("by a wildcard", BOGUS, &answered(&world, name, &answer, &proof));
    let at_owner = [redirection, vec![cname("d.example.com", "x.other.com")]].concat();
    let target = world.zone("other.com").sign(&[caa("x.other.com", "ca.example")]);
    let ended = answered(&world, "d.example.com", &[at_owner, target].concat(), &[]);
    table.case("at its own owner", BOGUS, &ended);
    table.end_with_twin();
}

#[test]
fn alias_loops() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let loop_of_two =
        [zone.sign(&[cname(WWW, "one.example.com")]), zone.sign(&[cname("one.example.com", WWW)])].concat();
    table.case("signed", INDETERMINATE, &answered(&world, WWW, &loop_of_two, &[]));
    table.case("of one", INDETERMINATE, &answered(&world, WWW, &zone.sign(&[cname(WWW, WWW)]), &[]));
    table.case(
        "alias",
        BOGUS,
        &answered(&world, WWW, &zone.sign(&[cname(WWW, "a.example.com")]), &[soa("example.com")]),
    );
    let long: Vec<Rec> = (0..20)
        .flat_map(|hop| zone.sign(&[cname(&format!("h{hop}.example.com"), &format!("h{}.example.com", hop + 1))]))
        .collect();
    table.case("too long", INDETERMINATE, &answered(&world, "h0.example.com", &long, &[]));
    let target = zone.sign(&[caa("h20.example.com", "ca.example")]);
    let ended = answered(&world, "h10.example.com", &[long, target].concat(), &[]);
    table.case("not too long", SECURE, &ended);
    table.end_with_twin();
}

// ---- Bounds ------------------------------------------------------------------------------------------

/// What is dropped proves nothing.
#[test]
fn more_than_is_read() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let signed = zone.sign(&[evil()]);
    for (sets, wants) in [(63, SECURE), (64, BOGUS), (200, BOGUS)] {
        let junk: Vec<Rec> = (0..sets).map(|number| a(&format!("j{number}.example.com"))).collect();
        let ended = answered(&world, WWW, &[junk, signed.clone()].concat(), &[]);
        table.case(&format!("{sets} sets before"), wants, &ended);
    }
    let stranger = Key::new("stranger", 256, 3);
    let junk = Signing { key: &stranger, ..zone.signing() }.rrsig(&[evil()]);
    for (signatures, wants) in [(7, SECURE), (8, BOGUS), (100, BOGUS)] {
        let mut answer = vec![evil()];
        answer.extend(std::iter::repeat_n(junk.clone(), signatures));
        answer.push(signed[1].clone());
        let ended = answered(&world, WWW, &answer, &[]);
        table.case(&format!("{signatures} signatures before"), wants, &ended);
    }
    table.end_with_twin();
}

/// Keys with the same tag: the 16-bit words of a key can change places without changing the sum.
fn colliding(key: &Key, count: u8) -> Vec<Rec> {
    let mut keys = vec![rec("example.com", DNSKEY, key.rdata.clone())];
    for number in 1..=usize::from(count) {
        let mut rdata = key.rdata.clone();
        let (at, other) = (4 + 2 * (number % 16), 4 + 2 * ((number * 7 + 3) % 16));
        for shift in 0..2 {
            rdata.swap(at + shift, other + shift);
        }
        assert_eq!(tag_of(&rdata), key.tag());
        if keys.iter().all(|known| known.rdata != rdata) {
            keys.push(rec("example.com", DNSKEY, rdata));
        }
    }
    keys
}

#[test]
fn keys_that_share_a_tag() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let keys = colliding(&zone.key, 15);
    assert!(keys.len() > 9, "{} keys", keys.len());
    let set = zone.sign(&keys);
    let signed = zone.sign(&[evil()]);
    let mut bad = signed.clone();
    *bad[1].rdata.last_mut().expect("a signature") ^= 1;
    let fault_without = answered(&world, WWW, &bad, &[]).validation.fault;
    assert!(matches!(fault_without, Some(DnssecFault::BadSignature { .. })), "{fault_without:?}");
    world.link("example.com", DNSKEY, NOERROR, &set, &[]);
    table.case("a good signature", SECURE, &answered(&world, WWW, &signed, &[]));
    let ended = answered(&world, WWW, &bad, &[]);
    table.case("a bad signature", BOGUS, &ended);
    assert_eq!(ended.validation.fault, Some(DnssecFault::TooMuchWork));
    // A good signature behind too many attempts is not looked for.
    let hidden = [bad, vec![signed[1].clone()]].concat();
    let ended = answered(&world, WWW, &hidden, &[]);
    table.case("a good signature behind a bad one", BOGUS, &ended);
    assert_eq!(ended.validation.fault, Some(DnssecFault::TooMuchWork));
    table.end_with_twin();
}

#[test]
fn many_bad_signatures() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let honest = zone.nsec(WWW, "\\000.www.example.com", &[A, RRSIG, NSEC]);
    // Signatures with the right tag and key that fit nothing.
    let junk = |count: usize| {
        let bad = |number: usize| {
            let mut set = zone.nsec(&format!("j{number}.example.com"), "z.example.com", &[A]);
            *set[1].rdata.last_mut().expect("a signature") ^= 1;
            set
        };
        (0..count).flat_map(bad).collect::<Vec<Rec>>()
    };
    table.case("31", SECURE, &denied(&world, WWW, NOERROR, "example.com", &[&junk(31), &honest]));
    let ended = denied(&world, WWW, NOERROR, "example.com", &[&junk(32), &honest]);
    table.case("32", BOGUS, &ended);
    assert_eq!(ended.validation.fault, Some(DnssecFault::TooMuchWork));
    // They count for the whole task.
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let authority = |count| [zone.soa(), junk(count), honest.clone()].concat();
    let packet = |count| reply(WWW, CAA, NOERROR, &[], &authority(count));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let ended = world.assess_in(WWW, RecordType::Caa, packet(10), &mut chain, &mut kept);
        statuses.push(ended.validation.status);
    }
    assert_eq!(statuses, [SECURE, SECURE, SECURE, BOGUS]);
    table.end_with_twin();
}

/// A task checks so many signatures and no more, however good they are.
#[test]
fn many_good_signatures() {
    let world = World::standard();
    let packet = reply(WWW, CAA, NOERROR, &world.zone("example.com").sign(&[evil()]), &[]);
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let mut believed = 0;
    let fault = loop {
        let ended = world.assess_in(WWW, RecordType::Caa, Arc::clone(&packet), &mut chain, &mut kept);
        if ended.validation.status != SECURE {
            break ended.validation.fault;
        }
        believed += 1;
        assert!(believed <= 256, "no end");
    };
    assert_eq!(fault, Some(DnssecFault::TooMuchWork));
    assert_eq!(believed, 256 - 5, "the chain took three keys and two delegations");
}

/// Deep names and many rounds make hashing dear; it is bounded for the task.
#[test]
fn much_hashing() {
    let world = World::standard();
    let zone = world.zone("example.com");
    let hashing = Hashing { iterations: 150, salt: vec![1; 255] };
    let proof = zone.nsec3(&hashing.over("nothing.example.com"));
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let mut faults = Vec::new();
    for number in 0..4 {
        let name = format!("{}x{number}.example.com", "a.".repeat(110));
        let packet = reply(&name, CAA, NXDOMAIN, &[], &[zone.soa(), proof.clone()].concat());
        let ended = world.assess_in(&name, RecordType::Caa, packet, &mut chain, &mut kept);
        assert_eq!(ended.validation.status, BOGUS);
        faults.push(ended.validation.fault == Some(DnssecFault::TooMuchWork));
    }
    assert_eq!(faults, [false, false, true, true]);
}

/// One task asks so many questions about the chain and no more.
#[test]
fn many_links() {
    let world = World::standard();
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let name = format!("{}example.com", "a.".repeat(110));
    let packet = reply(&name, CAA, NOERROR, &[caa(&name, "x")], &[]);
    let ended = world.assess_in(&name, RecordType::Caa, packet, &mut chain, &mut kept);
    assert_eq!(ended.validation.status, BOGUS);
    assert_eq!(ended.validation.fault, Some(DnssecFault::TooMuchWork));
    assert_eq!(ended.asked.len(), 96);
}

/// Signatures are checked when everything is there, so that waiting costs no work.
#[test]
fn waiting_is_not_work() {
    let world = World::standard();
    let zone = world.zone("example.com");
    let chain_of_aliases = |number: usize| {
        let name = |hop: usize| format!("h{hop}-{number}.example.com");
        let mut answer: Vec<Rec> = (0..4).flat_map(|hop| zone.sign(&[cname(&name(hop), &name(hop + 1))])).collect();
        answer.extend(zone.sign(&[caa(&name(4), "ca.example")]));
        signed::reading(&name(0), RecordType::Caa, reply(&name(0), CAA, NOERROR, &answer, &[]))
    };
    let plain = reply(WWW, CAA, NOERROR, &zone.sign(&[evil()]), &[]);
    let readings: Vec<Reading> = (0..20)
        .map(chain_of_aliases)
        .chain((0..30).map(|_| signed::reading(WWW, RecordType::Caa, Arc::clone(&plain))))
        .collect();
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let (mut open, mut late) = (Vec::new(), Vec::new());
    let mut round = |chain: &mut Chain, open: &mut Vec<LinkQuestion>| {
        let mut ended = Vec::new();
        for reading in &readings {
            match world.step(reading, chain, &mut kept) {
                Assessment::Need(questions) => open.extend(questions),
                Assessment::Done(validation, _) => ended.push((validation.status, validation.fault)),
            }
        }
        ended
    };
    assert!(round(&mut chain, &mut open).is_empty());
    while let Some(question) = open.pop() {
        if question.name == "example.com" && question.rtype == RecordType::Dnskey {
            late.push(question);
            continue;
        }
        chain.answer(&question, world.answer(&question));
        // Each answer has all that wait look again, many times over.
        for _ in 0..10 {
            assert!(round(&mut chain, &mut open).is_empty());
        }
    }
    assert_eq!(late.len(), 1, "it was asked once");
    chain.answer(&late[0], world.answer(&late[0]));
    let ended = round(&mut chain, &mut open);
    assert_eq!(ended.len(), 50);
    assert!(ended.iter().all(|(status, _)| *status == SECURE), "{ended:?}");
}

// ---- What is kept ------------------------------------------------------------------------------------

/// A world with a public suffix of two labels and a private one.
fn with_suffixes() -> World {
    let mut world = World::standard();
    for name in ["uk", "co.uk", "example.co.uk", "io", "github.io"] {
        world.delegate(name);
    }
    world
}

fn signed_txt(world: &World, name: &str) -> Arc<[u8]> {
    reply(name, TXT, NOERROR, &world.zone(name).sign(&[txt(name, "x")]), &[])
}

fn in_another_task(world: &World, name: &str, kept: &mut ZoneCache) -> signed::Ended {
    let packet = signed_txt(world, name);
    world.assess_in(name, RecordType::Txt, packet, &mut Chain::default(), kept)
}

#[test]
fn zones_above_registered_domains_are_kept() {
    let (world, mut kept, mut table) = (with_suffixes(), ZoneCache::default(), Table::default());
    let first = in_another_task(&world, "example.co.uk", &mut kept);
    table.case("first task", SECURE, &first);
    assert_eq!(first.asked.len(), 7);
    assert_eq!(kept.len(), 3, "the root, uk and co.uk");
    let second = in_another_task(&world, "example.co.uk", &mut kept);
    table.case("second task", SECURE, &second);
    let asked: BTreeSet<&str> = second.asked.iter().map(|question| question.name.as_str()).collect();
    assert_eq!(asked, BTreeSet::from(["example.co.uk"]));
    assert_eq!(first.links, second.links, "it rests on the same links");
    table.end();
}

#[test]
fn links_that_are_kept_can_be_recorded() {
    let (world, mut kept) = (World::standard(), ZoneCache::default());
    in_another_task(&world, "example.com", &mut kept);
    let mut chain = Chain::default();
    let packet = signed_txt(&world, "example.com");
    let ended = world.assess_in("example.com", RecordType::Txt, packet, &mut chain, &mut kept);
    for (name, rtype) in &ended.links {
        let question = LinkQuestion { name: name.clone(), rtype: *rtype, again: false };
        let wants = Message(world.answer(&question).expect("a reply"));
        assert!(chain.message(name, *rtype) == Some(wants), "{name} {rtype}");
    }
}

#[test]
fn nothing_is_kept_of_registered_domains() {
    let (world, mut kept) = (with_suffixes(), ZoneCache::default());
    in_another_task(&world, "github.io", &mut kept);
    assert_eq!(kept.len(), 2, "the root and io");
    let second = in_another_task(&world, "github.io", &mut kept);
    assert!(second.has_asked("github.io", RecordType::Ds) && second.has_asked("github.io", RecordType::Dnskey));
    assert!(!second.has_asked("io", RecordType::Ds) && !second.has_asked(".", RecordType::Dnskey));
    let failed = DnsOutcome::Failed(DnsFailure::Timeout);
    for name in ["www.un.com", "a.b.example.com"] {
        let reading = Reading::new(name.to_owned(), RecordType::Txt, failed.clone(), Arc::default());
        world.run(&reading, &mut Chain::default(), &mut kept);
    }
    assert_eq!(kept.len(), 3, "and com");
}

#[test]
fn what_is_kept_ends() {
    let (world, mut kept) = (World::standard(), ZoneCache::default());
    in_another_task(&world, "example.com", &mut kept);
    let world = world.seen_at(NOW + 3599);
    assert!(!in_another_task(&world, "example.com", &mut kept).has_asked("com", RecordType::Ds), "within the TTL");
    let world = world.seen_at(NOW + 3600);
    let ended = in_another_task(&world, "example.com", &mut kept);
    assert!(ended.has_asked("com", RecordType::Ds) && ended.has_asked(".", RecordType::Dnskey), "after it");
    // TTLs of the reply, the signed TTL, and the signature's end count, whichever is first.
    for (what, ttl, original, end, until) in [
        ("TTL", 60, 3600, 86_400, 60),
        ("signed TTL", 3600, 50, 86_400, 50),
        ("signature", 3600, 3600, 40, 40),
        ("bound", 200_000, 200_000, 200_000, 3600),
    ] {
        for counts in [DS, DNSKEY] {
            let mut world = World::standard();
            let (com, root) = (Zone::new("com", NOW), Zone::new(".", NOW));
            let of_com = [("com", DS, com.ds(), &root), ("com", DNSKEY, com.dnskey(), &com)];
            for (name, rtype, set, signer) in of_com.into_iter().chain([(".", DNSKEY, root.dnskey(), &root)]) {
                // The other links would be kept for longer, so that this one counts.
                let long = (200_000, 200_000, 200_000);
                let (ttl, original, end) = if name == "com" && rtype == counts { (ttl, original, end) } else { long };
                let mut set = Signing { ttl: original, end: NOW + end, ..signer.signing() }.sign(&[set]);
                for record in &mut set {
                    record.ttl = ttl;
                }
                world.link(name, rtype, NOERROR, &set, &[]);
            }
            let mut kept = ZoneCache::default();
            in_another_task(&world, "example.com", &mut kept);
            let world = world.seen_at(NOW + until - 1);
            assert!(
                !in_another_task(&world, "example.com", &mut kept).has_asked("com", RecordType::Ds),
                "{what}: kept"
            );
            let world = world.seen_at(NOW + until);
            assert!(in_another_task(&world, "example.com", &mut kept).has_asked("com", RecordType::Ds), "{what}: over");
        }
    }
}

#[test]
fn large_zones_are_not_kept() {
    for (keys, wants) in [(1_u8, 2), (200, 1)] {
        let (mut world, mut kept) = (World::standard(), ZoneCache::default());
        let com = world.zone("com");
        let mut set = vec![com.dnskey()];
        set.extend((0..keys).map(|number| rec("com", DNSKEY, [&[1, 0, 3, ED25519], &[number; 32][..]].concat())));
        let answer = com.sign(&set);
        world.link("com", DNSKEY, NOERROR, &answer, &[]);
        assert_eq!(in_another_task(&world, "example.com", &mut kept).validation.status, SECURE);
        assert_eq!(kept.len(), wants, "{keys} keys more");
    }
}

#[test]
fn bogus_and_failed_links_are_not_kept() {
    let mut table = Table::default();
    for (what, wants, rtype, bad) in [
        ("bogus DS", BOGUS, DS, true),
        ("bogus DNSKEY", BOGUS, DNSKEY, true),
        ("failed DS", INDETERMINATE, DS, false),
        ("failed DNSKEY", INDETERMINATE, DNSKEY, false),
    ] {
        let (mut broken, mut kept) = (World::standard(), ZoneCache::default());
        match bad {
            true => broken.link("com", rtype, NOERROR, &[], &[]),
            false => broken.fail("com", rtype, DnsFailure::Timeout),
        }
        table.case(what, wants, &in_another_task(&broken, "example.com", &mut kept));
        assert_eq!(kept.len(), 1, "{what}: the root alone");
        table.case("later", SECURE, &in_another_task(&World::standard(), "example.com", &mut kept));
    }
    let mut broken = World::standard();
    broken.link(".", DNSKEY, NOERROR, &[], &[]);
    let mut kept = ZoneCache::default();
    table.case("bogus root", BOGUS, &in_another_task(&broken, "example.com", &mut kept));
    assert!(kept.is_empty());
    table.end_with_twin();
}

/// Found in review: while a question was under way, another task may have found the zone. What came late must not
/// stand in the record as what the proof rests on.
#[test]
fn a_late_answer_does_not_replace_what_is_proven() {
    let (world, mut kept, mut table) = (World::standard(), ZoneCache::default(), Table::default());
    let packet = signed_txt(&world, "com");
    let reading = signed::reading("com", RecordType::Txt, packet);
    let mut chain = Chain::default();
    let Assessment::Need(open) = world.step(&reading, &mut chain, &mut kept) else { panic!("nothing is known yet") };
    assert_eq!(open.len(), 3);
    in_another_task(&world, "com", &mut kept);
    let Assessment::Done(validation, links) = world.step(&reading, &mut chain, &mut kept) else {
        panic!("all is known now");
    };
    table.case("by the other task", SECURE, &signed::Ended { validation: *validation, asked: vec![], links });
    let junk = reply("com", DNSKEY, NOERROR, &[rec("com", DNSKEY, vec![1, 1, 3, ED25519, 9])], &[]);
    for question in &open {
        chain.answer(question, Ok(Arc::clone(&junk)));
        let proven = Message(world.answer(question).expect("a reply"));
        assert!(chain.message(&question.name, question.rtype) == Some(proven), "{question:?}");
        chain.answer(question, Err(DnsFailure::Timeout));
        assert!(chain.message(&question.name, question.rtype).is_some(), "{question:?}");
    }
    let ended = world.assess_in("com", RecordType::Txt, signed_txt(&world, "com"), &mut chain, &mut kept);
    table.case("after junk", SECURE, &ended);
    table.end();
}

// ---- Recorded proofs ---------------------------------------------------------------------------------

/// Observations that perspectives in the lab made of real name servers and resolvers.
const SIGNED: &str = include_str!("data/signed.jsonl");

#[derive(serde::Deserialize)]
struct Made {
    note: String,
    observation: Observation,
}

fn recorded() -> (TrustAnchors, Vec<Made>) {
    #[derive(serde::Deserialize)]
    struct Head {
        anchor: String,
    }
    let mut lines = SIGNED.lines();
    let head: Head = serde_json::from_str(lines.next().expect("a first line")).expect("the trust anchor");
    let made: Vec<Made> = lines.map(|line| serde_json::from_str(line).expect("an observation")).collect();
    assert!(made.len() >= 14);
    (TrustAnchors::parse(&head.anchor).expect("a trust anchor"), made)
}

impl Made {
    fn lookup(&self) -> &DnsLookup {
        let found: Vec<&DnsLookup> = self.observation.lookups().collect();
        assert_eq!(found.len(), 1, "{}", self.note);
        found[0]
    }

    fn status(&self) -> SecurityStatus {
        self.lookup().validation.as_ref().expect("a validation").status
    }

    fn proof(&self, anchors: &TrustAnchors) -> Proof {
        prove(self.lookup(), &self.observation.links, anchors, self.observation.started)
    }
}

#[test]
fn recorded_proofs_hold() {
    let (anchors, all) = recorded();
    for made in &all {
        assert_eq!(made.proof(&anchors), Proof::Holds, "{}", made.note);
    }
    let statuses: Vec<SecurityStatus> = all.iter().map(Made::status).collect();
    for status in [SECURE, INSECURE, BOGUS] {
        assert!(statuses.contains(&status), "{status}");
    }
}

#[test]
fn recorded_proofs_need_every_link() {
    let (anchors, all) = recorded();
    for made in &all {
        for gone in 0..made.observation.links.len() {
            let mut links = made.observation.links.clone();
            let link = links.remove(gone);
            let proof = prove(made.lookup(), &links, &anchors, made.observation.started);
            assert!(
                matches!(proof, Proof::Differs(_)),
                "{} without {} {}: {proof:?}",
                made.note,
                link.name,
                link.rtype
            );
        }
    }
}

#[test]
fn recorded_proofs_hold_at_their_time_only() {
    let (anchors, all) = recorded();
    for made in all.iter().filter(|made| made.status() != BOGUS) {
        for years in [-10, 10, 60] {
            let then = made.observation.started.as_second() + years * 31_557_600;
            let then = jiff::Timestamp::from_second(then).expect("a time");
            let proof = prove(made.lookup(), &made.observation.links, &anchors, then);
            assert!(matches!(proof, Proof::Differs(_)), "{} {years} years on: {proof:?}", made.note);
        }
        let soon = made.observation.started.checked_add(1.minute()).expect("a time");
        let proof = prove(made.lookup(), &made.observation.links, &anchors, soon);
        assert_eq!(proof, Proof::Holds, "{} a minute on", made.note);
    }
}

#[test]
fn recorded_proofs_hold_from_their_anchor_only() {
    let (_, all) = recorded();
    for made in all.iter().filter(|made| made.status() != BOGUS) {
        assert!(matches!(made.proof(&TrustAnchors::iana()), Proof::Differs(_)), "{}", made.note);
    }
}

/// What a status was found for. TTLs and the SOA of a denial are shown to people and decide nothing, so they are
/// not proven.
#[derive(PartialEq, Eq, Debug)]
enum Said {
    Records(String, Vec<Alias>, BTreeSet<Vec<u8>>),
    NoData(Vec<Alias>),
    NoName(Vec<Alias>),
    Failed,
}

fn said(outcome: &DnsOutcome) -> Said {
    match outcome {
        DnsOutcome::Answer(set) => {
            let rdata = set.rdata.iter().map(|rdata| rdata.as_slice().to_vec()).collect();
            Said::Records(set.owner.clone(), set.aliases.clone(), rdata)
        }
        DnsOutcome::Nodata(denial) => Said::NoData(denial.aliases.clone()),
        DnsOutcome::Nxdomain(denial) => Said::NoName(denial.aliases.clone()),
        DnsOutcome::Failed(_) => Said::Failed,
    }
}

/// Every octet of every message, changed in one bit and in all.
#[test]
fn recorded_proofs_do_not_survive_changes() {
    let (anchors, all) = recorded();
    for note in ["answer, ECDSA P-256", "no data, NSEC3", "no name, NSEC3", "answer, wildcard, NSEC"] {
        let made = all.iter().find(|made| made.note == note).expect("an observation");
        let (lookup, links, started) = (made.lookup(), &made.observation.links, made.observation.started);
        assert_eq!(made.status(), SECURE);
        let message = lookup.validation.as_ref().and_then(|validation| validation.message.clone()).expect("a reply");
        let question = Question::new(&lookup.name, lookup.rtype).expect("a question");
        let mut changed = 0;
        for at in 0..message.0.len() {
            for bits in [0x01, 0x20, 0xff] {
                let mut octets = message.0.to_vec();
                octets[at] ^= bits;
                // The record is made to fit, so that only the proof can refuse it.
                let outcome = read_reply(&octets, &question).map(|reply| reply.outcome);
                let mut forged = lookup.clone();
                forged.validation.as_mut().expect("a validation").message = Some(Message(octets.into()));
                if prove(&forged, links, &anchors, started) == Proof::Holds {
                    assert_eq!(outcome.as_ref(), Ok(&lookup.outcome), "{note}: octet {at} by {bits:#x}");
                }
                let Ok(outcome) = outcome else { continue };
                // A name that does not exist has no data either; the other way round nothing is proven.
                match (said(&outcome), said(&lookup.outcome)) {
                    (now, recorded) if now == recorded => continue,
                    (Said::NoData(now), Said::NoName(recorded)) if now == recorded => continue,
                    _ => changed += 1,
                }
                forged.outcome = outcome;
                let proof = prove(&forged, links, &anchors, started);
                assert_ne!(proof, Proof::Holds, "{note}: octet {at} by {bits:#x} says {:?}", forged.outcome);
            }
        }
        assert!(changed > 0, "{note}: no change of what is said");
        changed_links(made, &anchors);
    }
}

/// Links: no change lets another reply be proven, and a change of what is signed proves nothing.
fn changed_links(made: &Made, anchors: &TrustAnchors) {
    let (lookup, links, started) = (made.lookup(), &made.observation.links, made.observation.started);
    for number in 0..links.len() {
        let (mut held, octets) = (0, links[number].message.0.len());
        for at in 0..octets {
            let mut changed = links.clone();
            let mut message = changed[number].message.0.to_vec();
            message[at] ^= 0xff;
            changed[number].message = Message(message.into());
            // `prove` compares status, signers and anchor with what was recorded.
            held += usize::from(prove(lookup, &changed, anchors, started) == Proof::Holds);
        }
        // Header, question, TTLs, signatures by other keys and the OPT record may change; the set and one
        // signature may not.
        assert!(held + 100 < octets, "{}: {held} of {octets} octets of link {number} may change", made.note);
    }
}

/// The same for what proves that a zone is not signed: a change never makes it signed, nor unsigned by another
/// proof.
#[test]
fn recorded_proofs_of_unsigned_zones_do_not_survive_changes() {
    let (anchors, all) = recorded();
    for note in ["unsigned, NSEC", "unsigned, opt-out"] {
        let made = all.iter().find(|made| made.note == note).expect("an observation");
        let insecure = made.lookup().validation.as_ref().and_then(|validation| validation.insecure.clone());
        let by = insecure.expect("a proof").by;
        assert!(matches!(by, InsecureBy::Nsec { .. } | InsecureBy::OptOut { .. }));
        changed_links(made, &anchors);
    }
}

/// What was bogus is not proven by a change of one octet.
#[test]
fn recorded_faults_are_not_mended_by_changes() {
    let (anchors, all) = recorded();
    for made in all.iter().filter(|made| made.status() == BOGUS) {
        let (lookup, links, started) = (made.lookup(), &made.observation.links, made.observation.started);
        for number in 0..links.len() {
            for at in 0..links[number].message.0.len() {
                let mut changed = links.clone();
                let mut message = changed[number].message.0.to_vec();
                message[at] ^= 0xff;
                changed[number].message = Message(message.into());
                for status in [SECURE, INSECURE] {
                    let mut forged = lookup.clone();
                    forged.validation.as_mut().expect("a validation").status = status;
                    let proof = prove(&forged, &changed, &anchors, started);
                    assert!(
                        !matches!(&proof, Proof::Holds)
                            && !says_instead(&proof, SECURE)
                            && !says_instead(&proof, INSECURE),
                        "{}: octet {at} of link {number}: {proof:?}",
                        made.note
                    );
                }
            }
        }
    }
}

/// Whether validating again came to `status`.
fn says_instead(proof: &Proof, status: SecurityStatus) -> bool {
    matches!(proof, Proof::Differs(text) if text.contains(&format!("makes it {status}")))
}
