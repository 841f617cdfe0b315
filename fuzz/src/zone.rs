//! A model of small zones: what they hold, what is true of a name, and their genuine NSEC and NSEC3 chains.
//!
//! Written from RFC 1034 §4.3.2, RFC 4592, RFC 6672, RFC 4035 §2.3 and RFC 5155 §7.1, with nothing of the code
//! under test. A name is the string of its one-letter labels, the top one first: then ancestors are prefixes,
//! and canonical order is the order of strings.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    feed::Feed,
    wire::{self, Record, rtype},
};

/// Labels, the top one first.
pub type Path = Vec<u8>;

/// Which types a name has, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Types(pub u8);

const BITS: [u16; 8] = [rtype::A, rtype::TXT, rtype::CAA, rtype::CNAME, rtype::DNAME, rtype::NS, rtype::DS, rtype::SOA];

impl Types {
    /// A set of types.
    #[must_use]
    pub fn of(types: &[u16]) -> Self {
        Self(BITS.iter().enumerate().filter(|(_, bit)| types.contains(bit)).fold(0, |set, (at, _)| set | 1 << at))
    }

    /// Whether a type is there.
    #[must_use]
    pub fn has(self, rtype: u16) -> bool {
        BITS.iter().position(|bit| *bit == rtype).is_some_and(|at| self.0 >> at & 1 == 1)
    }

    fn without(self, types: &[u16]) -> Self {
        Self(self.0 & !Self::of(types).0)
    }

    fn list(self) -> Vec<u16> {
        BITS.into_iter().filter(|rtype| self.has(*rtype)).collect()
    }
}

/// A name in wire form.
#[must_use]
pub fn wire_name(path: &[u8]) -> Vec<u8> {
    path.iter().rev().flat_map(|label| [1, *label]).chain([0]).collect()
}

/// A name as text, without final dot except for the root.
#[must_use]
pub fn text(path: &[u8]) -> String {
    let labels: Vec<String> = path.iter().rev().map(|label| char::from(*label).to_string()).collect();
    if labels.is_empty() { ".".to_owned() } else { labels.join(".") }
}

/// What is true of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It lies below a name that another zone, or a DNAME, answers for.
    Below(Types),
    /// A zone is delegated here.
    Delegation(Types),
    /// It exists with these types; an empty non-terminal has none.
    Exists(Types),
    /// A wildcard with these types answers for it.
    Wildcard(Types),
    /// Neither it nor a wildcard for it exists.
    Nothing,
}

/// How an NSEC3 chain is made.
#[derive(Clone, Copy, Debug)]
pub struct Nsec3Style {
    /// Salt.
    pub salt: &'static [u8],
    /// Additional rounds.
    pub iterations: u16,
    /// Which records have the opt-out flag, one bit each from the first; those that must have it do.
    pub opt_out: u32,
}

/// A zone with one-letter labels.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its apex.
    pub apex: Path,
    /// Names with records.
    pub nodes: BTreeMap<Path, Types>,
    /// Names that are left out of NSEC3 chains by opt-out.
    pub unhashed: BTreeSet<Path>,
}

impl Zone {
    /// A zone from what it should hold, made valid: an alias has nothing else, a delegation only NS and DS, and
    /// nothing lies below a delegation or a DNAME.
    #[must_use]
    pub fn new(apex: Path, wanted: &[(Path, Types)], leave_out: bool) -> Self {
        let mut nodes = BTreeMap::from([(apex.clone(), Types::of(&[rtype::SOA, rtype::NS]))]);
        for (path, types) in wanted {
            let at = nodes.entry(path.clone()).or_default();
            at.0 |= types.0;
        }
        for (path, types) in &mut nodes {
            *types = if *path == apex {
                types.without(&[rtype::CNAME, rtype::DS])
            } else if path.last() == Some(&b'*') {
                // RFC 4592 §4.2 and §4.4: such wildcards have no agreed meaning.
                types.without(&[rtype::SOA, rtype::NS, rtype::DS, rtype::DNAME])
            } else if types.has(rtype::NS) {
                Types(types.0 & Types::of(&[rtype::NS, rtype::DS]).0)
            } else {
                types.without(&[rtype::SOA, rtype::DS])
            };
            if types.has(rtype::CNAME) {
                *types = Types::of(&[rtype::CNAME]);
            }
        }
        nodes.retain(|_, types| types.0 != 0);
        let mut zone = Self { apex, nodes, unhashed: BTreeSet::new() };
        let hidden: Vec<Path> = zone.nodes.keys().filter(|path| zone.cut_above(path).is_some()).cloned().collect();
        hidden.iter().for_each(|path| {
            zone.nodes.remove(path);
        });
        if leave_out {
            let insecure = |types: Types| types.has(rtype::NS) && !types.has(rtype::DS) && !types.has(rtype::SOA);
            let kept: Vec<&Path> = zone.nodes.iter().filter(|(_, t)| !insecure(**t)).map(|(path, _)| path).collect();
            let all = zone.nodes.keys().flat_map(|path| (zone.apex.len()..=path.len()).map(|end| path[..end].to_vec()));
            let unhashed = all.filter(|path| !kept.iter().any(|kept| kept.starts_with(path))).collect();
            zone.unhashed = unhashed;
        }
        zone
    }

    /// A zone of at most six names below its apex.
    pub fn from_feed(feed: &mut Feed<'_>) -> Self {
        let choices = feed.octet();
        let apex: Path = if choices & 1 == 0 { b"a".to_vec() } else { Vec::new() };
        let apex_types = if choices & 2 == 0 { Types::default() } else { Types(feed.octet()) };
        let mut wanted = vec![(apex.clone(), apex_types)];
        for _ in 0..choices >> 3 & 7 {
            let shape = feed.octet();
            let labels = (0..1 + usize::from(shape & 3) % 3).map(|at| b"ab*a"[usize::from(shape >> (2 + 2 * at) & 3)]);
            let path = apex.iter().copied().chain(labels).collect();
            wanted.push((path, Types(feed.octet())));
        }
        wanted.truncate(7);
        Self::new(apex, &wanted, choices & 4 != 0)
    }

    fn is_delegation(&self, path: &[u8]) -> bool {
        path != self.apex && self.nodes.get(path).is_some_and(|types| types.has(rtype::NS))
    }

    /// The delegation or DNAME that `path` lies below.
    #[must_use]
    pub fn cut_above<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        (self.apex.len()..path.len()).map(|end| &path[..end]).find(|above| self.is_cut(above))
    }

    /// Whether a delegation or a DNAME is here.
    #[must_use]
    pub fn is_cut(&self, path: &[u8]) -> bool {
        self.is_delegation(path) || self.nodes.get(path).is_some_and(|types| types.has(rtype::DNAME))
    }

    /// Whether the name, or one below it, has records.
    #[must_use]
    pub fn exists(&self, path: &[u8]) -> bool {
        self.nodes.keys().any(|node| node.starts_with(path))
    }

    /// Whether the NSEC3 chains have a record for it.
    #[must_use]
    pub fn is_hashed(&self, path: &[u8]) -> bool {
        self.exists(path) && !self.unhashed.contains(path)
    }

    /// The longest name above `path` that exists.
    #[must_use]
    pub fn closest_encloser<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let above = (0..path.len()).rev().map(|end| &path[..end]);
        above.into_iter().find(|above| self.exists(above)).unwrap_or(&[])
    }

    /// What is true of a name in or below the zone.
    #[must_use]
    pub fn truth(&self, path: &[u8]) -> Truth {
        if let Some(cut) = self.cut_above(path) {
            return Truth::Below(self.nodes[cut]);
        }
        let types = |path: &[u8]| self.nodes.get(path).copied().unwrap_or_default();
        if self.is_delegation(path) {
            return Truth::Delegation(types(path));
        }
        if self.exists(path) {
            return Truth::Exists(types(path));
        }
        let wildcard = [self.closest_encloser(path), b"*"].concat();
        if self.exists(&wildcard) { Truth::Wildcard(types(&wildcard)) } else { Truth::Nothing }
    }

    /// Its NSEC records (RFC 4034 §4).
    #[must_use]
    pub fn nsec(&self) -> Vec<Record> {
        let next = self.nodes.keys().skip(1).chain([&self.apex]);
        let records = self.nodes.iter().zip(next).map(|((path, types), next)| {
            let types = [types.list(), vec![rtype::RRSIG, rtype::NSEC]].concat();
            let rdata = [wire_name(next), wire::bitmap(&types)].concat();
            Record { owner: wire_name(path), rtype: rtype::NSEC, rdata }
        });
        records.collect()
    }

    /// Its NSEC3 records (RFC 5155 §7.1).
    #[must_use]
    pub fn nsec3(&self, style: Nsec3Style) -> Vec<Record> {
        let hash = |path: &[u8]| wire::nsec3_hash(&wire_name(path), style.salt, style.iterations);
        let mut hashed: BTreeMap<Vec<u8>, Types> = BTreeMap::new();
        for node in self.nodes.keys() {
            for end in self.apex.len()..=node.len() {
                let path = &node[..end];
                if self.is_hashed(path) {
                    hashed.insert(hash(path), self.nodes.get(path).copied().unwrap_or_default());
                }
            }
        }
        let left_out: Vec<Vec<u8>> = self.unhashed.iter().map(|path| hash(path)).collect();
        let owners: Vec<&Vec<u8>> = hashed.keys().collect();
        let records = hashed.iter().enumerate().map(|(at, (owner, types))| {
            let next = owners[(at + 1) % owners.len()];
            let inside =
                |hash: &Vec<u8>| if owner < next { owner < hash && hash < next } else { owner < hash || hash < next };
            let opt_out = style.opt_out >> at & 1 == 1 || left_out.iter().any(inside);
            let signed = types.0 != 0 && (!types.has(rtype::NS) || types.has(rtype::DS) || types.has(rtype::SOA));
            let types = [types.list(), if signed { vec![rtype::RRSIG] } else { Vec::new() }].concat();
            let parameters = [&[1, u8::from(opt_out)], &style.iterations.to_be_bytes()[..], &[style.salt.len() as u8]];
            let rdata = [&parameters.concat(), style.salt, &[20], next, &wire::bitmap(&types)].concat();
            let label = wire::base32hex(owner);
            let owner = [&[label.len() as u8], label.as_slice(), &wire_name(&self.apex)].concat();
            Record { owner, rtype: rtype::NSEC3, rdata }
        });
        records.collect()
    }

    /// RDATA of what stands at a name, one record a type.
    #[must_use]
    pub fn set(&self, path: &[u8], owner: &[u8], rtype: u16) -> Vec<Record> {
        let rdata = match rtype {
            rtype::A => vec![8, 8, 4, 4],
            rtype::TXT => [&[43], &[b'x'; 43][..]].concat(),
            rtype::CAA => b"\x00\x05issueca.example".to_vec(),
            rtype::SOA => wire::soa(),
            rtype::DS => wire::ds(&wire_name(path)),
            rtype::DNSKEY => wire::dnskey(),
            // An alias or a name server.
            _ => wire_name(b"ab"),
        };
        vec![Record { owner: owner.to_vec(), rtype, rdata }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truths_by_hand() {
        let wanted = [
            (b"aab".to_vec(), Types::of(&[rtype::A])),
            (b"ab*".to_vec(), Types::of(&[rtype::TXT])),
            (b"aba".to_vec(), Types::of(&[rtype::NS])),
            (b"abaa".to_vec(), Types::of(&[rtype::A])),
        ];
        let zone = Zone::new(b"a".to_vec(), &wanted, true);
        assert_eq!(zone.truth(b"aa"), Truth::Exists(Types::default()));
        assert_eq!(zone.truth(b"aabb"), Truth::Nothing);
        assert_eq!(zone.truth(b"abbb"), Truth::Wildcard(Types::of(&[rtype::TXT])));
        assert_eq!(zone.truth(b"abaa"), Truth::Below(Types::of(&[rtype::NS])));
        assert_eq!(zone.truth(b"a*"), Truth::Nothing);
        assert!(!zone.is_hashed(b"aba") && zone.is_hashed(b"ab") && zone.is_hashed(b"aa"));
        assert_eq!((zone.nsec().len(), zone.nodes.len()), (4, 4));
    }

    #[test]
    fn the_hash_of_rfc_5155_appendix_a() {
        let hash = wire::nsec3_hash(&wire::name("example"), &[0xaa, 0xbb, 0xcc, 0xdd], 12);
        assert_eq!(wire::base32hex(&hash), b"0p9mhaveqvm6t7vbl5lop2u3t2rp3tom");
    }
}
