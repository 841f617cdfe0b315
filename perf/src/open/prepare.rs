//! The requests of a run, made before it begins: which kind each is of, when it is due, and its octets.
//!
//! Invariant: no two requests of a run are about the same scenario of the laboratory.

use std::{collections::VecDeque, time::Duration};

use parallax_protocol::wire::api;
use parallax_validation::request::RawRequest;
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    OpenError,
    mix::Mix,
    schedule::{Schedule, Spacing},
};
use crate::lab::{generate::request_line, kinds::Kind, world::World};

/// Requests of one run, at most: they are kept in memory.
pub const REQUESTS_MAX: usize = 1_000_000;
/// Keeps the choice of kinds apart from the times, which come of the same seed.
const KINDS_SEED: u64 = 0x6b69_6e64;

/// One request, ready to leave.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// When it is due, from the beginning.
    pub due: Duration,
    /// Its kind's place in the mix.
    pub place: usize,
    /// Its number in the laboratory.
    pub index: u64,
    /// The message.
    pub octets: Vec<u8>,
}

/// How a run is to be.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// How requests follow one another.
    pub spacing: Spacing,
    /// Requests that are due each second.
    pub per_second: f64,
    /// For how long, warm-up included.
    pub lasts: Duration,
    /// What times and kinds follow from.
    pub seed: u64,
}

/// The requests of a run, in the order they are due.
///
/// # Errors
/// There are too many, or the laboratory has too few of a kind.
pub fn prepare(mix: &Mix, world: &World, offer: &Offer) -> Result<Vec<Prepared>, OpenError> {
    let expected = offer.per_second * offer.lasts.as_secs_f64();
    if expected > REQUESTS_MAX as f64 {
        return Err(OpenError::TooManyRequests(expected));
    }
    let mut random = StdRng::seed_from_u64(offer.seed ^ KINDS_SEED);
    let mut numbers = Numbers::new(world, mix);
    let due = Schedule::new(offer.spacing, offer.per_second, offer.seed).take_while(|due| *due < offer.lasts);
    due.map(|due| {
        let place = mix.pick(random.random());
        let index = numbers.next_of(place)?;
        Ok(Prepared { due, place, index, octets: octets(world, index)? })
    })
    .collect()
}

fn octets(world: &World, index: u64) -> Result<Vec<u8>, OpenError> {
    let raw: RawRequest = serde_json::from_str(&request_line(&world.scenario(index))).map_err(OpenError::Request)?;
    Ok(api::Request::from(raw).encode_to_vec())
}

/// Numbers of the laboratory's requests by kind. The laboratory's own order decides which number is of which kind.
struct Numbers<'a> {
    world: &'a World,
    kinds: Vec<Kind>,
    found: Vec<VecDeque<u64>>,
    next: u64,
}

impl<'a> Numbers<'a> {
    fn new(world: &'a World, mix: &Mix) -> Self {
        let kinds: Vec<Kind> = mix.kinds.iter().map(|(kind, _)| *kind).collect();
        Self { world, found: kinds.iter().map(|_| VecDeque::new()).collect(), kinds, next: 0 }
    }

    /// The next number of the kind at a place.
    fn next_of(&mut self, place: usize) -> Result<u64, OpenError> {
        loop {
            if let Some(index) = self.found.get_mut(place).and_then(VecDeque::pop_front) {
                return Ok(index);
            }
            if self.next >= self.world.requests {
                return Err(OpenError::TooFewOfKind(self.kinds.get(place).map_or("unknown", |kind| kind.slug())));
            }
            let kind = self.world.scenario(self.next).kind;
            if let Some(at) = self.kinds.iter().position(|one| *one == kind) {
                self.found[at].push_back(self.next);
            }
            self.next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn offer(per_second: f64) -> Offer {
        Offer { spacing: Spacing::Constant, per_second, lasts: Duration::from_secs(2), seed: 3 }
    }

    #[test]
    fn ok_requests_are_as_many_as_are_due_each_once_and_of_the_kinds_of_the_mix() {
        let mix = Mix::parse(r#"{"name": "m", "kinds": {"dns-ok": 0.8, "http-ok": 0.2}}"#, "x").expect("a mix");
        let world = World::new(3, 1_000_000);
        let prepared = prepare(&mix, &world, &offer(1000.0)).expect("requests");
        assert_eq!(prepared.len(), 2000);
        let numbers: HashSet<u64> = prepared.iter().map(|one| one.index).collect();
        assert_eq!(numbers.len(), 2000);
        assert!(prepared.iter().all(|one| world.scenario(one.index).kind == mix.kinds[one.place].0));
        let first = prepared.iter().filter(|one| one.place == 0).count();
        assert!((1500..1700).contains(&first), "{first}");
        let request = api::Request::decode(prepared[0].octets.as_slice()).expect("a request");
        assert_eq!(request.id, Some(format!("r{:06}", prepared[0].index)));
    }

    #[test]
    fn ok_a_run_is_its_seed_s() {
        let mix = Mix::load("ca").expect("a mix");
        let world = World::new(3, 10_000_000);
        let numbers = |seed| -> Vec<u64> {
            let prepared = prepare(&mix, &world, &Offer { seed, ..offer(50.0) }).expect("requests");
            prepared.iter().map(|one| one.index).collect()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }

    #[test]
    fn err_more_than_can_be_kept_or_than_there_are() {
        let mix = Mix::load("slow").expect("a mix");
        let many = prepare(&mix, &World::new(1, 10), &offer(1e6));
        assert!(matches!(many, Err(OpenError::TooManyRequests(_))), "{:?}", many.map(|_| ()));
        let few = prepare(&mix, &World::new(1, 10_000), &offer(1000.0));
        assert!(matches!(few, Err(OpenError::TooFewOfKind(_))), "{:?}", few.map(|_| ()));
    }
}
