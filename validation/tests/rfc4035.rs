//! RFC 4035 with NSEC: what a rightly signed zone answers is believed, and unsigned zones are found to be so.
//!
//! The first tests are the examples of RFC 4035 appendix B, with types that are asked for here.

mod signed;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use parallax_validation::{
    lookup::dnssec::{chain::Chain, chain::ZoneCache},
    observation::{DnsFailure, DnsOutcome, InsecureBy, RecordType},
};
use signed::{
    A, AAAA, BOGUS, CAA, CNAME, DNSKEY, DS, ED25519, INDETERMINATE, INSECURE, Key, MX, NOERROR, NOW, NS, NSEC,
    NXDOMAIN, NXNAME, RRSIG, Rec, SECURE, SOA, Signing, TXT, Table, World, a, base32hex, bitmap, caa, cname, dname,
    rec, reply, soa, tag_of, txt, wire,
};

/// The zone of RFC 4035 appendix A: `a.example` is signed, `b.example` is not.
fn appendix_a() -> World {
    let mut world = World::at(NOW);
    world.delegate("example");
    world.delegate("a.example");
    let zone = world.zone("example");
    let referral = [zone.soa(), zone.nsec("b.example", "ns1.example", &[NS, RRSIG, NSEC])].concat();
    world.link("b.example", DS, NOERROR, &[], &referral);
    world
}

fn apex(world: &World) -> Vec<Rec> {
    world.zone("example").nsec("example", "a.example", &[NS, SOA, MX, RRSIG, NSEC, DNSKEY])
}

#[test]
fn b1_answer() {
    let (world, mut table) = (appendix_a(), Table::default());
    let answer = world.zone("example").sign(&[a("xx.example")]);
    let ended = world.assess("xx.example", RecordType::A, reply("xx.example", A, NOERROR, &answer, &[]));
    table.case("answer", SECURE, &ended);
    assert_eq!(ended.validation.signers, ["example"]);
    assert_eq!(ended.validation.anchor, Some(world.zone(".").key.tag()));
    table.end();
}

#[test]
fn b2_name_error() {
    let (world, mut table) = (appendix_a(), Table::default());
    let zone = world.zone("example");
    let covers = zone.nsec("b.example", "ns1.example", &[NS, RRSIG, NSEC]);
    let authority = [zone.soa(), covers.clone(), apex(&world)].concat();
    let ended = world.assess("ml.example", RecordType::A, reply("ml.example", A, NXDOMAIN, &[], &authority));
    table.case("name and wildcard denied", SECURE, &ended);
    let authority = [zone.soa(), covers].concat();
    let ended = world.assess("ml.example", RecordType::A, reply("ml.example", A, NXDOMAIN, &[], &authority));
    table.case("wildcard not denied", BOGUS, &ended);
    let authority = [zone.soa(), apex(&world)].concat();
    let ended = world.assess("ml.example", RecordType::A, reply("ml.example", A, NXDOMAIN, &[], &authority));
    table.case("name not denied", BOGUS, &ended);
    table.end_with_twin();
}

#[test]
fn b3_no_data() {
    let (world, mut table) = (appendix_a(), Table::default());
    let zone = world.zone("example");
    let authority = [zone.soa(), zone.nsec("ns1.example", "ns2.example", &[A, RRSIG, NSEC])].concat();
    let packet = reply("ns1.example", CAA, NOERROR, &[], &authority);
    table.case("type denied", SECURE, &world.assess("ns1.example", RecordType::Caa, packet));
    let packet = reply("ns1.example", A, NOERROR, &[], &authority);
    table.case("type that is there", BOGUS, &world.assess("ns1.example", RecordType::A, packet));
    table.end_with_twin();
}

#[test]
fn b4_referral_to_a_signed_zone() {
    let (world, mut table) = (appendix_a(), Table::default());
    let answer = world.zone("a.example").sign(&[a("mc.a.example")]);
    let ended = world.assess("mc.a.example", RecordType::A, reply("mc.a.example", A, NOERROR, &answer, &[]));
    table.case("two levels of signed zones", SECURE, &ended);
    // With a signature the signer is walked to: nothing is asked about the name itself.
    assert!(!ended.has_asked("mc.a.example", RecordType::Ds));
    let links: Vec<(&str, RecordType)> = ended.links.iter().map(|(name, rtype)| (name.as_str(), *rtype)).collect();
    let (ds, dnskey) = (RecordType::Ds, RecordType::Dnskey);
    assert_eq!(links, [(".", dnskey), ("a.example", ds), ("a.example", dnskey), ("example", ds), ("example", dnskey)]);
    table.end();
}

#[test]
fn b5_referral_to_an_unsigned_zone() {
    let (world, mut table) = (appendix_a(), Table::default());
    let ended =
        world.assess("mc.b.example", RecordType::A, reply("mc.b.example", A, NOERROR, &[a("mc.b.example")], &[]));
    table.case("answer", INSECURE, &ended);
    assert!(!ended.has_asked("mc.b.example", RecordType::Ds), "what is below the cut need not be asked");
    let proof = ended.validation.insecure.expect("a proof");
    assert_eq!((proof.name.as_str(), proof.parent.as_str()), ("b.example", "example"));
    assert_eq!(proof.by, InsecureBy::Nsec { owner: "b.example".to_owned() });
    let packet = reply("b.example", A, NOERROR, &[], &[soa("b.example")]);
    table.case("no data", INSECURE, &world.assess("b.example", RecordType::A, packet));
    let packet = reply("mc.b.example", A, NXDOMAIN, &[], &[soa("b.example")]);
    table.case("no name", INSECURE, &world.assess("mc.b.example", RecordType::A, packet));
    let failed = DnsOutcome::Failed(DnsFailure::Timeout);
    let ended = world.assess_outcome("mc.b.example", RecordType::Caa, failed, Arc::default());
    table.case("no reply", INSECURE, &ended);
    table.end();
}

#[test]
fn b6_wildcard_expansion() {
    let (world, mut table) = (appendix_a(), Table::default());
    let zone = world.zone("example");
    let answer = zone.expand("*.w.example", a("a.z.w.example"));
    let nsec = zone.nsec("x.y.w.example", "xx.example", &[MX, RRSIG, NSEC]);
    let packet = reply("a.z.w.example", A, NOERROR, &answer, &nsec);
    table.case("closer name denied", SECURE, &world.assess("a.z.w.example", RecordType::A, packet));
    let packet = reply("a.z.w.example", A, NOERROR, &answer, &[]);
    table.case("closer name not denied", BOGUS, &world.assess("a.z.w.example", RecordType::A, packet));
    let packet = reply("*.w.example", A, NOERROR, &zone.sign(&[a("*.w.example")]), &[]);
    table.case("the wildcard itself", SECURE, &world.assess("*.w.example", RecordType::A, packet));
    table.end_with_twin();
}

#[test]
fn b7_wildcard_no_data() {
    let (world, mut table) = (appendix_a(), Table::default());
    let zone = world.zone("example");
    let covers = zone.nsec("x.y.w.example", "xx.example", &[MX, RRSIG, NSEC]);
    let wildcard = zone.nsec("*.w.example", "x.w.example", &[MX, RRSIG, NSEC]);
    let mut case = |what: &str, wants, rtype: RecordType, proof: &[&[Rec]]| {
        let authority = [&zone.soa(), proof.concat().as_slice()].concat();
        let packet = reply("a.z.w.example", rtype.number(), NOERROR, &[], &authority);
        table.case(what, wants, &world.assess("a.z.w.example", rtype, packet));
    };
    case("name and type denied", SECURE, RecordType::Aaaa, &[&covers, &wildcard]);
    case("type not denied", BOGUS, RecordType::Aaaa, &[&covers]);
    case("name not denied", BOGUS, RecordType::Aaaa, &[&wildcard]);
    let with_type = zone.nsec("*.w.example", "x.w.example", &[AAAA, RRSIG, NSEC]);
    case("the wildcard has the type", BOGUS, RecordType::Aaaa, &[&covers, &with_type]);
    let with_alias = zone.nsec("*.w.example", "x.w.example", &[CNAME, RRSIG, NSEC]);
    case("the wildcard is an alias", BOGUS, RecordType::Aaaa, &[&covers, &with_alias]);
    table.end_with_twin();
}

/// RFC 4035 B.8, as RFC 6840 §4.1 has it judged: the child's own NSEC says nothing about DS.
#[test]
fn b8_ds_no_data_by_the_child() {
    let (world, mut table) = (appendix_a(), Table::default());
    let zone = world.zone("example");
    let packet = reply("example", DS, NOERROR, &[], &[zone.soa(), apex(&world)].concat());
    table.case("by the child", BOGUS, &world.assess("example", RecordType::Ds, packet));
    let packet = reply("example", CAA, NOERROR, &[], &[zone.soa(), apex(&world)].concat());
    table.case("another type", SECURE, &world.assess("example", RecordType::Caa, packet));
    let parent = world.zone(".");
    let nsec = parent.nsec("example", "\\000.example", &[NS, RRSIG, NSEC]);
    let packet = reply("example", DS, NOERROR, &[], &[parent.soa(), nsec].concat());
    table.case("by the parent", SECURE, &world.assess("example", RecordType::Ds, packet));
    let nsec = parent.nsec(".", "example", &[NS, SOA, RRSIG, NSEC, DNSKEY]);
    let packet = reply(".", DS, NOERROR, &[], &[parent.soa(), nsec].concat());
    table.case("the root has no parent", SECURE, &world.assess(".", RecordType::Ds, packet));
    table.end_with_twin();
}

#[test]
fn empty_non_terminals_have_no_data_and_exist() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let authority = [zone.soa(), zone.nsec("b.example.com", "x.ent.example.com", &[A, RRSIG, NSEC])].concat();
    let mut case = |what: &str, wants, name: &str, rcode| {
        table.case(what, wants, &world.assess(name, RecordType::Caa, reply(name, CAA, rcode, &[], &authority)));
    };
    case("no data", SECURE, "ent.example.com", NOERROR);
    case("no name", BOGUS, "ent.example.com", NXDOMAIN);
    case("a name beside", BOGUS, "c.example.com", NXDOMAIN);
    table.end_with_twin();
}

/// Online signers make the smallest span: the name itself, without the type (RFC 4470, RFC 9824).
#[test]
fn black_lies() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let mut case = |what: &str, wants, name: &str, rcode, types: &[u16]| {
        let next = format!("\\000.{name}");
        let authority = [zone.soa(), zone.nsec(name, &next, types)].concat();
        table.case(what, wants, &world.assess(name, RecordType::Caa, reply(name, CAA, rcode, &[], &authority)));
    };
    case("no data", SECURE, "x.example.com", NOERROR, &[RRSIG, NSEC]);
    case("NXNAME with NOERROR", SECURE, "x.example.com", NOERROR, &[RRSIG, NSEC, NXNAME]);
    case("NXNAME with NXDOMAIN", SECURE, "x.example.com", NXDOMAIN, &[RRSIG, NSEC, NXNAME]);
    case("NXDOMAIN without NXNAME", BOGUS, "x.example.com", NXDOMAIN, &[RRSIG, NSEC]);
    case("the type is there", BOGUS, "x.example.com", NOERROR, &[CAA, RRSIG, NSEC]);
    case("an alias is there", BOGUS, "x.example.com", NOERROR, &[CNAME, RRSIG, NSEC]);
    let authority = [zone.soa(), zone.nsec("y.example.com", "\\000.y.example.com", &[RRSIG, NSEC, NXNAME])].concat();
    let packet = reply("x.example.com", CAA, NXDOMAIN, &[], &authority);
    table.case("NXNAME of another name", BOGUS, &world.assess("x.example.com", RecordType::Caa, packet));
    table.end_with_twin();
}

/// RFC 6840 §5.1: the name in NSEC is signed in the case it has; the owner is signed in lower case.
#[test]
fn the_next_name_of_nsec_keeps_its_case() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let types = [A, RRSIG, NSEC];
    let packet = |nsec: Vec<Rec>| reply("x.example.com", CAA, NOERROR, &[], &[zone.soa(), nsec].concat());
    let signed = zone.nsec("X.Example.com", "Y.eXample.com", &types);
    table.case("as signed", SECURE, &world.assess("x.example.com", RecordType::Caa, packet(signed)));
    let mut changed = zone.nsec("x.example.com", "y.example.com", &types);
    changed[0].rdata = [wire("Y.example.com"), bitmap(&types)].concat();
    table.case("changed", BOGUS, &world.assess("x.example.com", RecordType::Caa, packet(changed)));
    table.end_with_twin();
}

#[test]
fn names_come_back_in_any_case() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let mut answer =
        [zone.sign(&[rec("wWw.eXample.cOm", CNAME, wire("HosT.exaMple.com"))]), zone.sign(&[a("host.EXAMPLE.com")])]
            .concat();
    // What is signed are the names in lower case (RFC 4034 §6.2).
    answer[1] = zone.sign(&[cname("www.example.com", "host.example.com")])[1].clone();
    let packet = reply("Www.Example.Com", A, NOERROR, &answer, &[]);
    table.case("mixed case", SECURE, &world.assess("www.example.com", RecordType::A, packet));
    let upper = zone.signing();
    let answer = Signing { signer: "EXAMPLE.COM".to_owned(), ..upper }.sign(&[a("www.example.com")]);
    let packet = reply("www.example.com", A, NOERROR, &answer, &[]);
    table.case("signer in upper case", SECURE, &world.assess("www.example.com", RecordType::A, packet));
    table.end();
}

/// Caches count TTLs down; the signature is over the TTL as it was (RFC 4035 §5.3.3).
#[test]
fn ttls_counted_down_by_caches() {
    let (world, mut table) = (World::standard(), Table::default());
    let mut answer = world.zone("example.com").sign(&[txt("x.example.com", "one"), txt("x.example.com", "two")]);
    for (record, ttl) in answer.iter_mut().zip([17, 3, 0]) {
        record.ttl = ttl;
    }
    let packet = reply("x.example.com", TXT, NOERROR, &answer, &[]);
    table.case("counted down", SECURE, &world.assess("x.example.com", RecordType::Txt, packet));
    table.end();
}

#[test]
fn a_wildcard_at_the_apex() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let nsec = zone.nsec("*.example.com", "\\000.x.a.example.com", &[CAA, RRSIG, NSEC]);
    let mut case = |what: &str, wants, name: &str| {
        let answer = zone.expand("*.example.com", caa(name, "ca.example"));
        let packet = reply(name, CAA, NOERROR, &answer, &nsec);
        table.case(what, wants, &world.assess(name, RecordType::Caa, packet));
    };
    case("one label", SECURE, "0.example.com");
    case("two labels", SECURE, "x.0.example.com");
    case("below a name that exists", BOGUS, "b.a.example.com");
    table.end_with_twin();
}

/// Bounds on keys do not cost the one that counts: it is the last of 18 in canonical order.
#[test]
fn many_keys() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let mut keys = vec![zone.dnskey()];
    for number in 0..17_u8 {
        let public = [&[1, 0, 3, ED25519], &[number; 32][..]].concat();
        keys.push(rec("example.com", DNSKEY, public));
    }
    assert!(keys.iter().all(|key| key.rdata <= keys[0].rdata), "the key that has a DS is last");
    let (set, answer) = (zone.sign(&keys), zone.sign(&[txt("example.com", "x")]));
    world.link("example.com", DNSKEY, NOERROR, &set, &[]);
    let packet = reply("example.com", TXT, NOERROR, &answer, &[]);
    table.case("18 keys", SECURE, &world.assess("example.com", RecordType::Txt, packet));
    table.end();
}

/// A key that signs the zone and has no DS of its own, beside one that signs the keys.
#[test]
fn separate_keys_for_keys_and_for_the_zone() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let zsk = Key::new("zone signing key", 256, 3);
    let keys = zone.sign(&[zone.dnskey(), rec("example.com", DNSKEY, zsk.rdata.clone())]);
    let by_zsk = Signing { key: &zsk, ..zone.signing() };
    let answer = by_zsk.sign(&[txt("x.example.com", "x")]);
    let packet = reply("x.example.com", TXT, NOERROR, &answer, &[]);
    table.case("not in the set", BOGUS, &world.assess("x.example.com", RecordType::Txt, packet.clone()));
    world.link("example.com", DNSKEY, NOERROR, &keys, &[]);
    table.case("in the set", SECURE, &world.assess("x.example.com", RecordType::Txt, packet));
    table.end_with_twin();
}

/// An alias is no zone cut, whether DS is answered by the alias, or by NSEC with CNAME in its bitmap.
#[test]
fn no_zone_begins_at_an_alias() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let failed = || DnsOutcome::Failed(DnsFailure::Timeout);
    let zone = world.zone("example.com");
    let nsec = zone.nsec("www.example.com", "\\000.www.example.com", &[CNAME, RRSIG, NSEC]);
    let (nodata, alias) = ([zone.soa(), nsec].concat(), zone.sign(&[cname("www.example.com", "example.com")]));
    let wildcard = zone.expand("*.example.com", cname("www.example.com", "example.com"));
    let closer = zone.nsec("v.example.com", "x.example.com", &[A, RRSIG, NSEC]);
    let by_dname = zone.sign(&[dname("d.example.com", "example.com")]);
    world.link("www.example.com", DS, NOERROR, &[], &nodata);
    let ended = world.assess_outcome("www.example.com", RecordType::Caa, failed(), Arc::default());
    table.case("denied with CNAME in the bitmap", INDETERMINATE, &ended);
    assert_eq!(ended.validation.fault, None, "the chain holds: the zone is signed");
    world.link("www.example.com", DS, NOERROR, &alias, &[]);
    let ended = world.assess_outcome("www.example.com", RecordType::Caa, failed(), Arc::default());
    table.case("answered by the alias", INDETERMINATE, &ended);
    assert_eq!(ended.validation.fault, None);
    world.link("www.example.com", DS, NOERROR, &wildcard, &closer);
    let ended = world.assess_outcome("www.example.com", RecordType::Caa, failed(), Arc::default());
    table.case("answered by a wildcard alias", INDETERMINATE, &ended);
    assert_eq!(ended.validation.fault, None);
    world.link("x.d.example.com", DS, NOERROR, &by_dname, &[]);
    let ended = world.assess_outcome("x.d.example.com", RecordType::Caa, failed(), Arc::default());
    table.case("below a DNAME", INDETERMINATE, &ended);
    assert_eq!(ended.validation.fault, None);
    let synthesized = [by_dname, vec![cname("x.d.example.com", "x.example.com")]].concat();
    world.link("x.d.example.com", DS, NOERROR, &synthesized, &[]);
    let ended = world.assess_outcome("x.d.example.com", RecordType::Caa, failed(), Arc::default());
    table.case("below a DNAME, with the unsigned alias it makes", INDETERMINATE, &ended);
    assert_eq!(ended.validation.fault, None);
    table.end();
}

#[test]
fn a_dname_is_followed() {
    let (world, mut table) = (World::standard(), Table::default());
    let redirection = world.zone("example.com").sign(&[dname("d.example.com", "other.com")]);
    let target = world.zone("other.com").sign(&[a("x.other.com")]);
    let synthesized = vec![cname("x.d.example.com", "x.other.com")];
    let answer = [redirection.clone(), synthesized, target.clone()].concat();
    let ended = world.assess("x.d.example.com", RecordType::A, reply("x.d.example.com", A, NOERROR, &answer, &[]));
    table.case("with the synthesized alias", SECURE, &ended);
    assert_eq!(ended.validation.signers, ["example.com", "other.com"]);
    let answer = [redirection, target].concat();
    let ended = world.assess("x.d.example.com", RecordType::A, reply("x.d.example.com", A, NOERROR, &answer, &[]));
    table.case("without", SECURE, &ended);
    table.end();
}

/// The denial comes from the unsigned zone the alias leads to; the authority section also has the parent's NSEC,
/// since the alias is a wildcard's.
#[test]
fn a_wildcard_alias_into_an_unsigned_child() {
    let (world, mut table) = (World::standard(), Table::default());
    let zone = world.zone("example.com");
    let alias = zone.expand("*.example.com", cname("foo.example.com", "host.un.example.com"));
    let nsec = zone.nsec("*.example.com", "un.example.com", &[CNAME, RRSIG, NSEC]);
    let authority = [nsec.clone(), vec![soa("un.example.com")]].concat();
    let packet = reply("foo.example.com", CAA, NOERROR, &alias, &authority);
    table.case("no data", INSECURE, &world.assess("foo.example.com", RecordType::Caa, packet));
    let packet = reply("foo.example.com", CAA, NXDOMAIN, &alias, &authority);
    table.case("no name", INSECURE, &world.assess("foo.example.com", RecordType::Caa, packet));
    let answer = [alias, vec![caa("host.un.example.com", "ca.example")]].concat();
    let packet = reply("foo.example.com", CAA, NOERROR, &answer, &nsec);
    table.case("answer", INSECURE, &world.assess("foo.example.com", RecordType::Caa, packet));
    table.end();
}

/// The same into a signed child: the denial is by the deepest zone that signed something, here the child.
#[test]
fn a_wildcard_alias_into_a_signed_child() {
    let (world, mut table) = (World::standard(), Table::default());
    let (zone, child, target) = (world.zone("example.com"), world.zone("sub.example.com"), "host.sub.example.com");
    let alias = zone.expand("*.example.com", cname("foo.example.com", target));
    let closer = zone.nsec("*.example.com", "sub.example.com", &[CNAME, RRSIG, NSEC]);
    let denial = child.nsec(target, "i.sub.example.com", &[A, RRSIG, NSEC]);
    let authority = [closer.clone(), child.soa(), denial].concat();
    let packet = reply("foo.example.com", CAA, NOERROR, &alias, &authority);
    let ended = world.assess("foo.example.com", RecordType::Caa, packet);
    table.case("denied by the child", SECURE, &ended);
    assert_eq!(ended.validation.signers, ["example.com", "sub.example.com"]);
    assert!(!ended.has_asked(target, RecordType::Ds), "the signer is walked to");
    let packet = reply("foo.example.com", CAA, NOERROR, &alias, &[closer, child.soa()].concat());
    table.case("not denied", BOGUS, &world.assess("foo.example.com", RecordType::Caa, packet));
    table.end_with_twin();
}

/// What is wrong in an unsigned zone is none of our business here.
#[test]
fn disorder_in_an_unsigned_zone() {
    let (world, mut table) = (World::standard(), Table::default());
    let answer = [cname("un.com", "a.un.com"), cname("un.com", "b.un.com"), txt("a.un.com", "x")];
    let packet = reply("un.com", TXT, NOERROR, &answer, &[]);
    table.case("two aliases at a name", INSECURE, &world.assess("un.com", RecordType::Txt, packet));
    let malformed = [rec("un.com", MX, vec![]), rec("un.com", NS, vec![0xff])];
    let packet = reply("un.com", TXT, NOERROR, &[txt("un.com", "x"), malformed[0].clone()], &malformed);
    table.case("malformed records beside", INSECURE, &world.assess("un.com", RecordType::Txt, packet));
    let mut answer: Vec<Rec> = (0..70).map(|number| a(&format!("j{number}.un.com"))).collect();
    answer.push(txt("un.com", "x"));
    let packet = reply("un.com", TXT, NOERROR, &answer, &[]);
    table.case("more sets than are read", INSECURE, &world.assess("un.com", RecordType::Txt, packet));
    // A signature is ignored where nothing can be signed.
    let packet = reply("un.com", TXT, NOERROR, &world.zone("other.com").sign(&[txt("un.com", "x")]), &[]);
    table.case("a signature by somebody", INSECURE, &world.assess("un.com", RecordType::Txt, packet));
    table.end();
}

#[test]
fn zones_below_empty_non_terminals() {
    let (mut world, mut table) = (World::standard(), Table::default());
    world.delegate_unsigned("x.ent.example.com");
    world.delegate("s.ent.example.com");
    let zone = world.zone("example.com");
    let shows = [zone.soa(), zone.nsec("b.example.com", "s.ent.example.com", &[A, RRSIG, NSEC])].concat();
    world.link("ent.example.com", DS, NOERROR, &[], &shows);
    let packet = reply("x.ent.example.com", TXT, NOERROR, &[txt("x.ent.example.com", "x")], &[]);
    let ended = world.assess("x.ent.example.com", RecordType::Txt, packet);
    table.case("not signed", INSECURE, &ended);
    assert!(ended.links.contains(&("ent.example.com".to_owned(), RecordType::Ds)));
    let answer = world.zone("s.ent.example.com").sign(&[txt("y.s.ent.example.com", "x")]);
    let packet = reply("y.s.ent.example.com", TXT, NOERROR, &answer, &[]);
    table.case("signed", SECURE, &world.assess("y.s.ent.example.com", RecordType::Txt, packet));
    table.end();
}

/// A zone may be signed with keys not known here; it is unsigned then (RFC 4035 §5.2), and the proof says why.
#[test]
fn a_zone_with_unknown_algorithms_only() {
    let (mut world, mut table) = (World::standard(), Table::default());
    let digest = vec![7; 32];
    let unknown = [
        rec("example.com", DS, [&[0, 1, 200, 2], digest.as_slice()].concat()),
        rec("example.com", DS, [&[0, 1, ED25519, 9], digest.as_slice()].concat()),
    ];
    let ds = world.zone("com").sign(&unknown);
    world.link("example.com", DS, NOERROR, &ds, &[]);
    let packet = reply("example.com", TXT, NOERROR, &[txt("example.com", "x")], &[]);
    let ended = world.assess("example.com", RecordType::Txt, packet);
    table.case("unknown", INSECURE, &ended);
    let by = ended.validation.insecure.expect("a proof").by;
    let unsupported = InsecureBy::Unsupported { algorithms: vec![15, 200], digests: vec![2, 9] };
    assert_eq!(by, unsupported);
    // Of several proofs this one must be seen.
    for (name, target) in [("www.un.com", "example.com"), ("example.com", "www.un.com")] {
        let packet = reply(name, TXT, NOERROR, &[cname(name, target), txt(target, "x")], &[]);
        let ended = world.assess(name, RecordType::Txt, packet);
        table.case("unknown beside unsigned", INSECURE, &ended);
        assert_eq!(ended.validation.insecure.expect("a proof").by, unsupported, "{name}");
    }
    table.end();
}

/// RFC 4034 §3.1.5 with RFC 1982: times go round in 2038 (as signed numbers) and in 2106.
#[test]
fn times_that_go_round() {
    let mut table = Table::default();
    for (year, second) in [("2038", 1_i64 << 31), ("2106", 1_i64 << 32)] {
        for (what, seen, wants) in [
            ("day before", -86_401, BOGUS),
            ("first second", -86_400, SECURE),
            ("last second before", -1, SECURE),
            ("at", 0, SECURE),
            ("last second", 86_400, SECURE),
            ("second after", 86_401, BOGUS),
        ] {
            let mut world = World::at(second);
            world.delegate("com");
            let answer = world.zone("com").sign(&[txt("com", "x")]);
            let ended =
                world.seen_at(second + seen).assess("com", RecordType::Txt, reply("com", TXT, NOERROR, &answer, &[]));
            table.case(&format!("{year}, {what}"), wants, &ended);
        }
    }
    table.end_with_twin();
}

/// What a chain has shown is used by all lookups of a task.
#[test]
fn links_are_asked_once_in_a_task() {
    let (world, mut table) = (World::standard(), Table::default());
    let (mut chain, mut kept) = (Chain::default(), ZoneCache::default());
    let answer = world.zone("example.com").sign(&[caa("example.com", "ca.example")]);
    let packet = reply("example.com", CAA, NOERROR, &answer, &[]);
    let ended = world.assess_in("example.com", RecordType::Caa, packet.clone(), &mut chain, &mut kept);
    table.case("first", SECURE, &ended);
    assert_eq!(ended.asked.len(), 5);
    let again = world.assess_in("example.com", RecordType::Caa, packet, &mut chain, &mut kept);
    table.case("second", SECURE, &again);
    assert_eq!((again.asked.len(), again.links), (0, ended.links));
    table.end();
}

/// The helpers themselves, by published values.
#[test]
fn the_helpers_agree_with_published_values() {
    // RFC 4648 §10.
    assert_eq!(base32hex(b"foobar"), "cpnmuoj1e8");
    assert_eq!(base32hex(b"foob"), "cpnmuog");
    // RFC 8080 §6.1, the first example.
    let public = STANDARD.decode("l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=").expect("base64");
    assert_eq!(tag_of(&[&[1, 1, 3, ED25519], public.as_slice()].concat()), 3613);
    // RFC 4034 §4.3: A MX RRSIG NSEC TYPE1234.
    let bits = [&[0, 6, 0x40, 1, 0, 0, 0, 3, 4, 27][..], &[0; 26], &[0x20]].concat();
    assert_eq!(bitmap(&[A, MX, RRSIG, NSEC, 1234]), bits);
}
