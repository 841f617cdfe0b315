//! What records are looked up by.
//!
//! Invariant: a record that [`fitting`](crate::find) finds has every key of [`wanted_keys`]. The reverse need not
//! hold: hashes collide, and several keys of a record may come from different perspectives.

use std::net::IpAddr;

use parallax_validation::record::{Record, Rules};
use sha2::{Digest, Sha256};

use crate::find::{Wanted, each_address, sections};

/// The hash of something looked up by. The same in every version of the format.
pub(super) type Key = u64;

const ADDRESS: u8 = b'a';
const PERSPECTIVE: u8 = b'p';
const AS_NUMBER: u8 = b'n';
const METHOD: u8 = b'm';
const SOFTWARE: u8 = b's';
const DOMAIN: u8 = b'd';
const NO_RULES: u8 = b'?';

/// A hash that nobody can aim at; a collision would only cost time.
fn key(kind: u8, what: &[u8]) -> Key {
    let digest = Sha256::new().chain_update([kind]).chain_update(what).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// The key of records whose setup is not in their segment: what follows from the setup is not known.
pub(super) fn without_rules() -> Key {
    key(NO_RULES, &[])
}

/// Puts all keys of a record into `keys`, some perhaps twice.
pub(super) fn record_keys(record: &Record, rules: Option<&Rules>, keys: &mut Vec<Key>) {
    keys.extend(sections(record).map(|section| key(METHOD, section.as_bytes())));
    let mut domain = record.request.identifier.domain().map(|name| name.as_str());
    while let Some(name) = domain {
        keys.push(key(DOMAIN, name.as_bytes()));
        domain = name.split_once('.').map(|(_, above)| above);
    }
    match rules {
        Some(rules) => keys.push(key(SOFTWARE, rules.setup().software.as_bytes())),
        None => keys.push(without_rules()),
    }
    for part in &record.perspectives {
        let Some(seen) = &part.observation else { continue };
        keys.push(key(PERSPECTIVE, part.perspective.as_str().as_bytes()));
        each_address(seen, |octets| keys.push(key(ADDRESS, octets)));
        let places = rules.into_iter().flat_map(|rules| &rules.setup().perspectives);
        let as_numbers = places.filter(|place| place.id == part.perspective).map(|place| place.as_number);
        keys.extend(as_numbers.map(|number| key(AS_NUMBER, &number.to_le_bytes())));
    }
}

/// A key that records must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedKey {
    pub(super) key: Key,
    /// It follows from the setup: records without theirs may fit too.
    pub(super) of_rules: bool,
}

/// The keys that every record has that fits.
pub(super) fn wanted_keys(wanted: &Wanted) -> Vec<WantedKey> {
    let own = |key| WantedKey { key, of_rules: false };
    let of_rules = |key| WantedKey { key, of_rules: true };
    let octets = |address: &IpAddr| match address {
        IpAddr::V4(address) => key(ADDRESS, &address.octets()),
        IpAddr::V6(address) => key(ADDRESS, &address.octets()),
    };
    let keys = [
        wanted.address.as_ref().map(|address| own(octets(address))),
        wanted.perspective.as_ref().map(|id| own(key(PERSPECTIVE, id.as_str().as_bytes()))),
        wanted.as_number.map(|number| of_rules(key(AS_NUMBER, &number.to_le_bytes()))),
        wanted.method.as_ref().map(|section| own(key(METHOD, section.as_bytes()))),
        wanted.software.as_ref().map(|software| of_rules(key(SOFTWARE, software.as_bytes()))),
        wanted.domain.as_ref().map(|domain| own(key(DOMAIN, domain.as_bytes()))),
    ];
    keys.into_iter().flatten().collect()
}
