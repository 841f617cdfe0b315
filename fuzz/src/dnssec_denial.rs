//! Soundness of denials: whatever part of a small zone's genuine NSEC and NSEC3 records an attacker chooses,
//! nothing may be proven of the zone that is not true. And with a whole chain, all that is true is proven.
//!
//! The zone, its chains and what is true of every name come from [`crate::zone`]. Records really are signed, so
//! the attacker can also pass off a wildcard's record under the name it was expanded to. Every name to a depth
//! of two labels below the apex is asked, and a quarter of those with three and four labels.

use std::sync::Arc;

use domain::base::Rtype;
use jiff::Timestamp;
use parallax_validation::lookup::dnssec::{
    denial::{Denials, Denied, NoDs},
    set::{Owner, owner_of, read_sets},
    signature::{Ds, Work, ZoneKeys},
};

use crate::{
    feed::Feed,
    wire::{self, NOW, Record, rtype},
    zone::{Nsec3Style, Path, Truth, Types, Zone, text, wire_name},
};

const TYPES: [u16; 5] = [rtype::A, rtype::CAA, rtype::CNAME, rtype::NS, rtype::DS];

/// The clock of all targets.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::from_second(NOW.into()).expect("a time")
}

fn keys_of(apex: &[u8]) -> Arc<ZoneKeys> {
    let owner = wire_name(apex);
    let key = Record { owner: owner.clone(), rtype: rtype::DNSKEY, rdata: wire::dnskey() };
    let question = [&owner[..], &[0, 48, 0, 1]].concat();
    let packet = wire::message(0, 0, &question, &wire::signed(&owner, &[key]), &[]);
    let sets = read_sets(&packet).expect("a message");
    let ds = Ds::parse(&wire::ds(&owner)).expect("a DS");
    ZoneKeys::trust(&[ds], &sets[0], None, now(), &mut Work::default()).expect("the key signed itself")
}

/// Names to ask about; `part` says which of the deeper ones.
fn names(apex: &[u8], part: u8) -> Vec<Path> {
    let mut all = vec![apex.to_vec()];
    let mut from = 0;
    for _ in 0..3 {
        let until = all.len();
        for at in from..until {
            all.extend(b"ab*".map(|label| [&all[at][..], &[label]].concat()));
        }
        from = until;
    }
    let deeper = all.iter().filter(|path| path.len() == apex.len() + 3).map(|path| [&path[..], b"a"].concat());
    let deeper: Vec<Path> = deeper.collect();
    all.extend(deeper);
    let mut number = 0;
    all.retain(|path| {
        number += 1;
        path.len() < apex.len() + 3 || number & 3 == part & 3
    });
    all
}

/// What is presented, and whether it is a whole chain.
struct Presented {
    records: Vec<Vec<u8>>,
    whole: bool,
    opt_out: bool,
}

fn present(zone: &Zone, feed: &mut Feed<'_>) -> Presented {
    let apex = wire_name(&zone.apex);
    let mode = feed.octet();
    let opt_out = if mode & 8 == 0 && zone.unhashed.is_empty() { 0 } else { u32::from(feed.octet()) | 0x5500 };
    let plain = zone.nsec3(Nsec3Style { salt: &[], iterations: 0, opt_out });
    let has_opt_out = |records: &[Record]| records.iter().any(|record| record.rdata[1] == 1);
    let (chosen, whole): (Vec<Record>, bool) = match mode & 3 {
        0 => (zone.nsec(), true),
        1 => (plain, true),
        _ => {
            let salted = zone.nsec3(Nsec3Style { salt: &[0xab], iterations: 2, opt_out });
            let pool = match mode >> 4 & 3 {
                0 => zone.nsec(),
                1 => plain,
                2 => [plain, salted].concat(),
                _ => [zone.nsec(), plain, salted].concat(),
            };
            let mask = feed.eight();
            (pool.into_iter().enumerate().filter(|(at, _)| mask >> (at % 64) & 1 == 1).map(|(_, r)| r).collect(), false)
        }
    };
    let opt_out = has_opt_out(&chosen);
    let mut records = Vec::new();
    for record in chosen {
        let mut signature = wire::sign(&apex, std::slice::from_ref(&record));
        let mut record = record;
        // The record of a wildcard, as if it had been expanded to another name.
        if !whole && mode & 4 != 0 && record.owner.starts_with(b"\x01*") {
            let label = *feed.pick(b"ab*a");
            let deeper = if feed.octet() & 1 == 1 { &[1, b'b'][..] } else { &[] };
            let owner = [deeper, &[1, label], &record.owner[2..]].concat();
            signature.owner.clone_from(&owner);
            record.owner = owner;
        }
        records.extend([record.wire(), signature.wire()]);
    }
    Presented { records, whole, opt_out }
}

/// What each question may and must come to.
struct Judge<'a> {
    zone: &'a Zone,
    denials: &'a Denials,
    whole: bool,
    opt_out: bool,
}

impl Judge<'_> {
    /// Whether it may be said of a name that something unsigned may be there: it has no records of its own that
    /// are signed, and lies below nothing that is.
    fn may_be_unsigned(&self, path: &[u8]) -> bool {
        if !self.opt_out {
            return false;
        }
        match self.zone.truth(path) {
            Truth::Below(types) => types.has(rtype::NS) && !types.has(rtype::DS) && !types.has(rtype::DNAME),
            Truth::Delegation(_) | Truth::Exists(_) => !self.zone.is_hashed(path),
            Truth::Wildcard(_) | Truth::Nothing => true,
        }
    }

    fn lacks(&self, path: &[u8], asked: u16) -> bool {
        match self.zone.truth(path) {
            Truth::Below(_) => false,
            Truth::Delegation(types) => asked == rtype::DS && !types.has(rtype::DS),
            // DS at the apex is the parent's; the root has none.
            Truth::Exists(types) if types.has(rtype::SOA) && asked == rtype::DS => path.is_empty(),
            Truth::Exists(types) | Truth::Wildcard(types) => !types.has(asked) && !types.has(rtype::CNAME),
            Truth::Nothing => true,
        }
    }

    fn check<E: std::fmt::Debug>(&self, path: &[u8], what: &str, said: Result<Denied, E>, may: bool, must: bool) {
        let name = text(path);
        match said {
            Ok(Denied::Proven) => assert!(may, "proven and not true: {what} {name} {:?}", self.zone),
            Ok(Denied::OptOut(_)) => {
                assert!(self.may_be_unsigned(path), "signed and taken for unsigned: {what} {name} {:?}", self.zone);
            }
            Err(fault) => {
                assert!(!(self.whole && must), "true and not proven: {what} {name} {:?} {fault:?}", self.zone);
            }
        }
    }

    fn check_no_ds(&self, path: &[u8], owner: &Owner) {
        let (zone, name, truth) = (self.zone, text(path), self.zone.truth(path));
        match self.denials.no_ds(owner, &mut Work::default()) {
            Ok(NoDs::Unsigned(by)) => {
                let unsigned = matches!(truth, Truth::Delegation(types) if !types.has(rtype::DS));
                assert!(unsigned || self.may_be_unsigned(path), "no unsigned zone at {name} by {by:?}: {zone:?}");
            }
            Ok(NoDs::NoCut) => {
                let no_cut = match truth {
                    Truth::Below(types) => types.has(rtype::DNAME),
                    Truth::Delegation(_) => false,
                    Truth::Exists(types) => !types.has(rtype::SOA) || path.is_empty(),
                    Truth::Wildcard(_) | Truth::Nothing => true,
                };
                assert!(no_cut, "a zone may begin at {name}: {zone:?}");
            }
            Err(fault) => {
                let provable = match truth {
                    Truth::Below(_) => false,
                    Truth::Delegation(types) => !types.has(rtype::DS) && (zone.is_hashed(path) || self.opt_out),
                    Truth::Exists(types) => !types.has(rtype::SOA) && !types.has(rtype::CNAME),
                    Truth::Wildcard(types) => !types.has(rtype::CNAME),
                    Truth::Nothing => true,
                };
                assert!(!(self.whole && provable), "no DS at {name} is not proven: {fault:?} {zone:?}");
            }
        }
    }

    /// That nothing stands between a name and the wildcard that answers for it.
    fn check_nothing_closer(&self, path: &[u8], owner: &Owner) {
        let zone = self.zone;
        for end in zone.apex.len()..path.len() {
            let (encloser, next_closer) = (&path[..end], &path[..=end]);
            if zone.is_cut(encloser) || zone.cut_above(encloser).is_some() {
                continue;
            }
            let Some(above) = owner_of(&text(encloser)) else { continue };
            let (from, to) = (text(path), text(encloser));
            match self.denials.nothing_closer(owner, &above, &mut Work::default()) {
                Ok(Denied::Proven) => {
                    assert!(!zone.exists(next_closer), "something exists between {from} and *.{to}: {zone:?}");
                }
                Ok(Denied::OptOut(_)) => {
                    let unsigned = self.opt_out && !zone.is_hashed(next_closer);
                    assert!(unsigned, "something signed is between {from} and *.{to}: {zone:?}");
                }
                Err(fault) => {
                    let wildcard = [encloser, b"*"].concat();
                    let expanded = zone.nodes.contains_key(&wildcard) && !zone.exists(next_closer);
                    assert!(!(self.whole && expanded), "{from} is not proven of *.{to}: {fault:?} {zone:?}");
                }
            }
        }
    }
}

/// Presents records, and asks everything.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let zone = Zone::from_feed(&mut feed);
    let Presented { records, whole, opt_out } = present(&zone, &mut feed);
    let apex = wire_name(&zone.apex);
    let packet = wire::message(0, 0, &[&apex[..], &[0, 1, 0, 1]].concat(), &[], &records);
    let sets = read_sets(&packet).expect("a well-formed message");
    assert!(sets.len() < 64, "all records are looked at");
    thread_local! {
        static KEYS: [Arc<ZoneKeys>; 2] = [keys_of(b""), keys_of(b"a")];
    }
    let keys = KEYS.with(|keys| Arc::clone(&keys[zone.apex.len()]));
    let denials = Denials::collect(&sets, &keys, now(), &mut Work::default()).expect("little work");
    let judge = Judge { zone: &zone, denials: &denials, whole, opt_out };
    for path in names(&zone.apex, feed.octet()) {
        let owner = owner_of(&text(&path)).expect("a name");
        let truth = zone.truth(&path);
        let nothing = truth == Truth::Nothing;
        // With opt-out, a wildcard that only ends the names of unsigned delegations has no NSEC3: RFC 5155 §8.4
        // takes it for absent. Nothing can be there but delegations, so no data are denied that exist.
        let hidden = opt_out && truth == Truth::Wildcard(Types(0));
        let said = denials.no_name(&owner, &mut Work::default());
        judge.check(&path, "no name", said, nothing || hidden, nothing);
        for asked in TYPES {
            let said = denials.no_data(&owner, Rtype::from_int(asked), &mut Work::default());
            let lacks = judge.lacks(&path, asked);
            judge.check(&path, &Rtype::from_int(asked).to_string(), said, lacks, lacks);
        }
        judge.check_no_ds(&path, &owner);
        judge.check_nothing_closer(&path, &owner);
    }
}
