//! RFC 5155: what zones with NSEC3 answer is believed, and opt-out leaves unsigned what it covers.
//!
//! The first tests are the examples of RFC 5155 appendix B, with types that are asked for here. The zone of
//! appendix A uses opt-out throughout; each example is also made without.

mod signed;

use std::{collections::BTreeMap, sync::Arc};

use parallax_validation::observation::{DnsFailure, DnsOutcome, DnssecFault, InsecureBy, RecordType};
use signed::{
    A, AAAA, BOGUS, CAA, CNAME, DNSKEY, DS, Hashing, INDETERMINATE, INSECURE, MX, NOERROR, NOW, NS, NXDOMAIN, Nsec3,
    RRSIG, Rec, SECURE, SOA, TXT, Table, World, a, base32hex, caa, cname, reply, soa, txt,
};

/// The names of a zone by their hashes, in a ring.
struct Ring {
    hashing: Hashing,
    flags: u8,
    names: BTreeMap<Vec<u8>, Vec<u16>>,
}

impl Ring {
    fn new(hashing: Hashing, flags: u8, names: &[(&str, &[u16])]) -> Self {
        let names = names.iter().map(|(name, types)| (hashing.hash(name), types.to_vec())).collect();
        Self { hashing, flags, names }
    }

    /// The record that begins at a hash.
    fn record(&self, hash: &[u8]) -> Nsec3 {
        let after = self.names.keys().find(|other| other.as_slice() > hash);
        let next = after.or(self.names.keys().next()).expect("a name").clone();
        let (hashing, flags) = (self.hashing.clone(), self.flags);
        Nsec3 { hash: hash.to_vec(), next, algorithm: 1, flags, hashing, types: self.names[hash].clone() }
    }

    fn at(&self, name: &str) -> Nsec3 {
        self.record(&self.hashing.hash(name))
    }

    fn over(&self, name: &str) -> Nsec3 {
        let hash = self.hashing.hash(name);
        assert!(!self.names.contains_key(&hash), "{name} exists");
        let before = self.names.keys().rfind(|other| **other < hash);
        self.record(&before.or(self.names.keys().next_back()).expect("a name").clone())
    }
}

fn appendix_a(flags: u8) -> Ring {
    let hashing = Hashing { iterations: 12, salt: vec![0xaa, 0xbb, 0xcc, 0xdd] };
    let names: [(&str, &[u16]); 11] = [
        ("example", &[NS, SOA, MX, RRSIG, DNSKEY, 51]),
        ("a.example", &[NS, DS, RRSIG]),
        ("ai.example", &[A, 13, AAAA, RRSIG]),
        ("ns1.example", &[A, RRSIG]),
        ("ns2.example", &[A, RRSIG]),
        ("w.example", &[]),
        ("*.w.example", &[MX, RRSIG]),
        ("x.w.example", &[MX, RRSIG]),
        ("y.w.example", &[]),
        ("x.y.w.example", &[MX, RRSIG]),
        ("xx.example", &[A, 13, AAAA, RRSIG]),
    ];
    Ring::new(hashing, flags, &names)
}

fn world() -> World {
    let mut world = World::at(NOW);
    world.delegate("example");
    world
}

/// A reply that denies, by records of the zone `example`.
fn denies(world: &World, name: &str, rtype: RecordType, rcode: u8, records: &[Nsec3]) -> Arc<[u8]> {
    let zone = world.zone("example");
    let records: Vec<Rec> = records.iter().flat_map(|record| zone.nsec3(record)).collect();
    reply(name, rtype.number(), rcode, &[], &[zone.soa(), records].concat())
}

#[test]
fn appendix_a_hashes() {
    let ring = appendix_a(1);
    for (name, hash) in [
        ("example", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
        ("a.example", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
        ("ai.example", "gjeqe526plbf1g8mklp59enfd789njgi"),
        ("ns1.example", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
        ("ns2.example", "q04jkcevqvmu85r014c7dkba38o0ji5r"),
        ("w.example", "k8udemvp1j2f7eg6jebps17vp3n8i58h"),
        ("*.w.example", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ("x.w.example", "b4um86eghhds6nea196smvmlo4ors995"),
        ("y.w.example", "ji6neoaepv8b5o6k4ev33abha8ht9fgc"),
        ("x.y.w.example", "2vptu5timamqttgl4luu9kg21e0aor3s"),
        ("xx.example", "t644ebqk9bibcna874givr6joj62mlhv"),
    ] {
        assert_eq!(base32hex(&ring.hashing.hash(name)), hash, "{name}");
    }
}

#[test]
fn b1_name_error() {
    let (world, mut table) = (world(), Table::default());
    let name = "a.c.x.w.example";
    for (what, flags, wants) in [("opt-out", 1, INSECURE), ("no opt-out", 0, SECURE)] {
        let ring = appendix_a(flags);
        let (encloser, closer, wildcard) =
            (ring.at("x.w.example"), ring.over("c.x.w.example"), ring.over("*.x.w.example"));
        let mut case = |what: &str, wants, records: &[Nsec3]| {
            let packet = denies(&world, name, RecordType::Caa, NXDOMAIN, records);
            table.case(what, wants, &world.assess(name, RecordType::Caa, packet));
        };
        case(what, wants, &[encloser.clone(), closer.clone(), wildcard.clone()]);
        case("no closest encloser", BOGUS, &[closer.clone(), wildcard.clone()]);
        case("next closer not covered", BOGUS, &[encloser.clone(), wildcard]);
        if flags == 0 {
            case("wildcard not covered", BOGUS, &[encloser, closer]);
        }
    }
    table.end_with_twin();
}

#[test]
fn b2_no_data() {
    let (world, mut table) = (world(), Table::default());
    let ring = appendix_a(1);
    let mut case = |what: &str, wants, name: &str, rtype, records: &[Nsec3]| {
        let packet = denies(&world, name, rtype, NOERROR, records);
        table.case(what, wants, &world.assess(name, rtype, packet));
    };
    case("no data", SECURE, "ns1.example", RecordType::Caa, &[ring.at("ns1.example")]);
    case("B.2.1, empty non-terminal", SECURE, "y.w.example", RecordType::A, &[ring.at("y.w.example")]);
    case("the type is there", BOGUS, "ns1.example", RecordType::A, &[ring.at("ns1.example")]);
    case("another name", BOGUS, "ns1.example", RecordType::Caa, &[ring.at("ns2.example")]);
    table.end_with_twin();
}

#[test]
fn b3_referral_to_an_unsigned_zone_by_opt_out() {
    let (mut world, mut table) = (world(), Table::default());
    let ring = appendix_a(1);
    let zone = world.zone("example");
    let cover = ring.over("c.example");
    let by = InsecureBy::OptOut {
        owner: "35mthgpgcu1qg68fab165klnsnk3dpvl.example".to_owned(),
        next: "b4um86eghhds6nea196smvmlo4ors995".to_owned(),
    };
    let proof = [zone.soa(), zone.nsec3(&ring.at("example")), zone.nsec3(&cover)].concat();
    world.link("c.example", DS, NOERROR, &[], &proof);
    let packet = || reply("mc.c.example", A, NOERROR, &[a("mc.c.example")], &[]);
    let ended = world.assess("mc.c.example", RecordType::A, packet());
    table.case("opt-out", INSECURE, &ended);
    assert_eq!(ended.validation.insecure.map(|proof| proof.by), Some(by));
    let zone = world.zone("example");
    let proof = [zone.soa(), zone.nsec3(&ring.at("example")), zone.nsec3(&cover.with_flags(0))].concat();
    world.link("c.example", DS, NOERROR, &[], &proof);
    table.case("no opt-out", BOGUS, &world.assess("mc.c.example", RecordType::A, packet()));
    table.end_with_twin();
}

#[test]
fn referrals_by_a_matching_record() {
    let (mut world, mut table) = (world(), Table::default());
    let plain = Hashing::default();
    let packet = || reply("x.d.example", TXT, NOERROR, &[txt("x.d.example", "x")], &[]);
    for (what, wants, types) in [
        ("not signed", INSECURE, &[NS][..]),
        ("signed", BOGUS, &[NS, DS, RRSIG]),
        ("the child's own", BOGUS, &[NS, SOA, RRSIG]),
        ("no cut", BOGUS, &[A, RRSIG]),
    ] {
        let zone = world.zone("example");
        let proof = [zone.soa(), zone.nsec3(&plain.at("d.example", types))].concat();
        world.link("d.example", DS, NOERROR, &[], &proof);
        table.case(what, wants, &world.assess("x.d.example", RecordType::Txt, packet()));
    }
    table.end_with_twin();
}

#[test]
fn b4_wildcard_expansion() {
    let (world, mut table) = (world(), Table::default());
    let zone = world.zone("example");
    let name = "a.z.w.example";
    let answer = zone.expand("*.w.example", a(name));
    for (what, flags, wants) in [("opt-out", 1, INSECURE), ("no opt-out", 0, SECURE)] {
        let ring = appendix_a(flags);
        let cover = zone.nsec3(&ring.over("z.w.example"));
        table.case(what, wants, &world.assess(name, RecordType::A, reply(name, A, NOERROR, &answer, &cover)));
        let other = zone.nsec3(&ring.hashing.over("y.z.w.example"));
        let ended = world.assess(name, RecordType::A, reply(name, A, NOERROR, &answer, &other));
        table.case("cover of another name", BOGUS, &ended);
        let ended = world.assess(name, RecordType::A, reply(name, A, NOERROR, &answer, &[]));
        table.case("no cover", BOGUS, &ended);
    }
    table.end_with_twin();
}

#[test]
fn b5_wildcard_no_data() {
    let (world, mut table) = (world(), Table::default());
    let name = "a.z.w.example";
    for (what, flags, wants) in [("opt-out", 1, INSECURE), ("no opt-out", 0, SECURE)] {
        let ring = appendix_a(flags);
        let (encloser, closer, wildcard) = (ring.at("w.example"), ring.over("z.w.example"), ring.at("*.w.example"));
        let mut case = |what: &str, wants, records: &[Nsec3]| {
            let packet = denies(&world, name, RecordType::Aaaa, NOERROR, records);
            table.case(what, wants, &world.assess(name, RecordType::Aaaa, packet));
        };
        case(what, wants, &[encloser.clone(), closer.clone(), wildcard.clone()]);
        case("next closer not covered", BOGUS, &[encloser.clone(), wildcard.clone()]);
        case("no closest encloser", BOGUS, &[closer.clone(), wildcard.clone()]);
        if flags == 0 {
            case("no wildcard", BOGUS, &[encloser.clone(), closer.clone()]);
            let with = |types: &[u16]| Nsec3 { types: types.to_vec(), ..wildcard.clone() };
            case("the type is there", BOGUS, &[encloser.clone(), closer.clone(), with(&[AAAA, RRSIG])]);
            case("an alias is there", BOGUS, &[encloser, closer, with(&[CNAME, RRSIG])]);
        }
    }
    table.end_with_twin();
}

/// B.6, as RFC 6840 §4.1 has it judged: the child's own NSEC3 says nothing about DS.
#[test]
fn b6_ds_no_data_by_the_child() {
    let (world, mut table) = (world(), Table::default());
    let ring = appendix_a(1);
    let packet = |rtype| denies(&world, "example", rtype, NOERROR, &[ring.at("example")]);
    table.case("DS", BOGUS, &world.assess("example", RecordType::Ds, packet(RecordType::Ds)));
    table.case("another type", SECURE, &world.assess("example", RecordType::Caa, packet(RecordType::Caa)));
    table.end_with_twin();
}

/// The last record of a zone covers what lies after it and before the first. If it is the only one, it covers
/// everything but its own hash.
#[test]
fn the_ring_closes() {
    let (world, mut table) = (world(), Table::default());
    let hashing = Hashing::default();
    let mut case = |what: &str, wants, name: &str, records: &[Nsec3]| {
        let packet = denies(&world, name, RecordType::Caa, NXDOMAIN, records);
        table.case(what, wants, &world.assess(name, RecordType::Caa, packet));
    };
    let apex = hashing.at("example", &[NS, SOA, RRSIG]);
    let alone = Nsec3 { next: apex.hash.clone(), ..apex.clone() };
    case("one name", SECURE, "foo.example", std::slice::from_ref(&alone));
    case("one name does not deny itself", BOGUS, "example", &[alone]);
    let name = "foo.example";
    let span = |from: Vec<u8>, to: Vec<u8>| Nsec3 { hash: from, next: to, ..hashing.over(name) };
    let (just_before, just_after) = (hashing.over(name).hash, hashing.over(name).next);
    let wildcard = hashing.over("*.example");
    let (low, high) = (vec![0; 20], vec![0xff; 20]);
    for (what, wants, from, to) in [
        ("after the last", SECURE, just_before.clone(), low.clone()),
        ("before the first", SECURE, high.clone(), just_after.clone()),
        ("within", SECURE, low.clone(), high.clone()),
        ("before the last", BOGUS, just_after.clone(), low),
        ("after the first", BOGUS, high, just_before.clone()),
        ("everything else", BOGUS, just_after, just_before.clone()),
        ("up to the name", BOGUS, just_before, hashing.hash(name)),
    ] {
        case(what, wants, name, &[apex.clone(), span(from, to), wildcard.clone()]);
    }
    table.end_with_twin();
}

/// RFC 5155 §9.2: opt-out never shows that a name does not exist, only that it is not signed.
#[test]
fn opt_out_leaves_a_name_unsigned() {
    let (mut world, mut table) = (world(), Table::default());
    let hashing = Hashing::default();
    let name = "foo.example";
    let proof = |closer: u8, wildcard: u8| {
        [
            hashing.at("example", &[NS, SOA, RRSIG]),
            hashing.over(name).with_flags(closer),
            hashing.over("*.example").with_flags(wildcard),
        ]
    };
    for (what, wants, closer, wildcard) in [
        ("nowhere", SECURE, 0, 0),
        ("next closer", INSECURE, 1, 0),
        ("wildcard", SECURE, 0, 1),
        ("both", INSECURE, 1, 1),
    ] {
        for rcode in [NXDOMAIN, NOERROR] {
            let packet = denies(&world, name, RecordType::Caa, rcode, &proof(closer, wildcard));
            table.case(what, wants, &world.assess(name, RecordType::Caa, packet));
        }
    }
    // The same for the chain: what is below an opted-out name need not be signed.
    let zone = world.zone("example");
    let link: Vec<Rec> = proof(1, 1).iter().flat_map(|record| zone.nsec3(record)).collect();
    let authority = [zone.soa(), link].concat();
    world.link(name, DS, NXDOMAIN, &[], &authority);
    let packet = reply("x.foo.example", TXT, NOERROR, &[txt("x.foo.example", "x")], &[]);
    table.case("chain", INSECURE, &world.assess("x.foo.example", RecordType::Txt, packet));
    let failed = DnsOutcome::Failed(DnsFailure::Timeout);
    table.case("no reply", INSECURE, &world.assess_outcome(name, RecordType::Caa, failed, Arc::default()));
    let failed = DnsOutcome::Failed(DnsFailure::Timeout);
    let ended = world.assess_outcome("example", RecordType::Caa, failed, Arc::default());
    table.case("no reply in the signed zone", INDETERMINATE, &ended);
    table.end();
}

#[test]
fn zones_below_empty_non_terminals() {
    let (mut world, mut table) = (world(), Table::default());
    let hashing = Hashing::default();
    let zone = world.zone("example");
    let shows = [zone.soa(), zone.nsec3(&hashing.at("ent.example", &[]))].concat();
    let cut = [zone.soa(), zone.nsec3(&hashing.at("x.ent.example", &[NS]))].concat();
    world.link("ent.example", DS, NOERROR, &[], &shows);
    world.link("x.ent.example", DS, NOERROR, &[], &cut);
    let packet = reply("x.ent.example", TXT, NOERROR, &[txt("x.ent.example", "x")], &[]);
    let ended = world.assess("x.ent.example", RecordType::Txt, packet);
    table.case("not signed", INSECURE, &ended);
    let owner = format!("{}.example", base32hex(&hashing.hash("x.ent.example")));
    let by = InsecureBy::Nsec3 { owner, name: "x.ent.example".to_owned() };
    assert_eq!(ended.validation.insecure.map(|proof| proof.by), Some(by));
    table.end();
}

/// RFC 9276 §3.2: more than 150 rounds are bogus here, and the fault says so.
#[test]
fn rounds_of_hashing_are_bounded() {
    let (world, mut table) = (world(), Table::default());
    for (iterations, wants) in [(0, SECURE), (150, SECURE), (151, BOGUS), (u16::MAX, BOGUS)] {
        let hashing = Hashing { iterations: iterations.min(151), salt: vec![1] };
        let mut record = hashing.at("x.example", &[A, RRSIG]);
        record.hashing.iterations = iterations;
        let ended = world.assess(
            "x.example",
            RecordType::Caa,
            denies(&world, "x.example", RecordType::Caa, NOERROR, &[record]),
        );
        table.case(&format!("{iterations} rounds"), wants, &ended);
        let too_many = DnssecFault::Nsec3Iterations { zone: "example".to_owned(), iterations };
        assert_eq!(ended.validation.fault, (wants == BOGUS).then_some(too_many));
    }
    table.end_with_twin();
}

/// RFC 5155 §8.1 and §8.2: records with an unknown hash or unknown flags are ignored, and so are those whose
/// parameters are not those of the others.
#[test]
fn records_that_are_ignored() {
    let (world, mut table) = (world(), Table::default());
    let hashing = Hashing::default();
    let name = "x.example";
    let matching = hashing.at(name, &[A, RRSIG]);
    let mut case = |what: &str, wants, records: &[Nsec3]| {
        table.case(
            what,
            wants,
            &world.assess(name, RecordType::Caa, denies(&world, name, RecordType::Caa, NOERROR, records)),
        );
    };
    case("known", SECURE, std::slice::from_ref(&matching));
    case("opt-out says nothing about a name that matches", SECURE, &[matching.clone().with_flags(1)]);
    for flags in [2, 3, 0x80, 0xff] {
        case("unknown flags", BOGUS, &[matching.clone().with_flags(flags)]);
    }
    for algorithm in [0, 2, 255] {
        case("unknown hash", BOGUS, &[Nsec3 { algorithm, ..matching.clone() }]);
    }
    let salted = Hashing { salt: vec![1, 2], ..Hashing::default() };
    case("one salt", SECURE, &[salted.at(name, &[A, RRSIG])]);
    let mixed = Nsec3 { hashing: salted.clone(), ..matching };
    case("the salt does not fit the hash", BOGUS, &[mixed]);
    let apex = hashing.at("example", &[NS, SOA, RRSIG]);
    let closer = salted.over(name).with_flags(1);
    case("a proof of two chains", BOGUS, &[apex.clone(), closer]);
    let closer = Nsec3 { hashing: salted, ..hashing.over(name).with_flags(1) };
    case("a hash of one chain with the salt of another", BOGUS, &[apex.clone(), closer]);
    let closer = hashing.over(name).with_flags(1);
    case("a proof of one", INSECURE, &[apex, closer]);
    table.end_with_twin();
}

/// An NSEC3 stands right below the apex of its zone.
#[test]
fn owners_of_nsec3() {
    let (world, mut table) = (world(), Table::default());
    let zone = world.zone("example");
    let record = Hashing::default().at("x.example", &[A, RRSIG]);
    let hash = base32hex(&record.hash);
    for (what, wants, owner) in [
        ("below the apex", SECURE, format!("{hash}.example")),
        ("deeper", BOGUS, format!("{hash}.x.example")),
        ("no hash", BOGUS, "x.example".to_owned()),
        ("upper case", SECURE, format!("{}.EXAMPLE", hash.to_uppercase())),
    ] {
        let authority = [zone.soa(), zone.nsec3_at(&owner, &record)].concat();
        let packet = reply("x.example", CAA, NOERROR, &[], &authority);
        table.case(what, wants, &world.assess("x.example", RecordType::Caa, packet));
    }
    table.end_with_twin();
}

/// The wildcard alias of a zone with NSEC3 into an unsigned zone, with the denial of that zone.
#[test]
fn a_wildcard_alias_into_an_unsigned_child() {
    let (mut world, mut table) = (world(), Table::default());
    let hashing = Hashing::default();
    let zone = world.zone("example");
    let cut = [zone.soa(), zone.nsec3(&hashing.at("un.example", &[NS]))].concat();
    let alias = zone.expand("*.example", cname("foo.example", "host.un.example"));
    let authority = [zone.nsec3(&hashing.over("foo.example")), vec![soa("un.example")]].concat();
    world.link("un.example", DS, NOERROR, &[], &cut);
    let packet = reply("foo.example", CAA, NOERROR, &alias, &authority);
    table.case("no data", INSECURE, &world.assess("foo.example", RecordType::Caa, packet));
    let answer = [alias, vec![caa("host.un.example", "ca.example")]].concat();
    let packet = reply("foo.example", CAA, NOERROR, &answer, &authority);
    table.case("answer", INSECURE, &world.assess("foo.example", RecordType::Caa, packet));
    table.end();
}
