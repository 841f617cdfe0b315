//! The second queue: attempts whose primary has confirmed and whose remotes are about to ask (req F8).
//!
//! An attempt needs a place at every address that it will ask, and takes all of them or none. At each address
//! the first in line has a claim: nobody takes the last free place before it. Those behind it may be passed by
//! others while they are held up at another address; attempts with the same addresses never pass each other.
//!
//! No deadlock: who waits has taken nothing, so every taken place belongs to an attempt that will leave.
//!
//! No starvation: who came first of all that wait is first in each of its lines. A place that becomes free at
//! one of its addresses then stays free for it, so it goes on after at most one leave at each. Then the next is
//! the first of all, and those before it never become more.
//!
//! Invariant: between calls nobody waits who may go on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    num::NonZeroUsize,
};

/// An attempt's places at its addresses; to be given back to [`TargetGate::leave`], once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the places are taken until they are given back"]
pub struct Place {
    addresses: Vec<IpAddr>,
}

/// One that waits in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival(u64);

#[derive(Debug)]
struct Waiter<T> {
    item: T,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
struct Target {
    inside: usize,
    line: BTreeSet<u64>,
}

impl Target {
    /// Whether this arrival may take a place here.
    fn admits(&self, arrival: u64, places: usize) -> bool {
        let claimed = usize::from(self.line.first().is_some_and(|first| *first < arrival));
        self.inside + claimed < places
    }

    /// The first in line, from this arrival on, that may take a place here.
    fn first_admitted(&self, from: u64, places: usize) -> Option<u64> {
        self.line.range(from..).next().copied().filter(|arrival| self.admits(*arrival, places))
    }
}

/// Lets attempts go on to the remotes while there are places at their target addresses.
///
/// Whoever owns it has a bound on the attempts in flight; no more than these wait here.
#[derive(Debug)]
pub struct TargetGate<T> {
    places: usize,
    targets: HashMap<IpAddr, Target>,
    waiting: BTreeMap<u64, Waiter<T>>,
    arrivals: u64,
}

impl<T> TargetGate<T> {
    /// One with so many places at each address.
    #[must_use]
    pub fn new(places: NonZeroUsize) -> Self {
        Self { places: places.get(), targets: HashMap::new(), waiting: BTreeMap::new(), arrivals: 0 }
    }

    /// Gives the attempt back if it may go on at once. Without addresses it may.
    ///
    /// # Errors
    /// It is kept in line; the number takes it out again.
    pub fn enter(&mut self, item: T, mut addresses: Vec<IpAddr>) -> Result<(T, Place), Arrival> {
        for address in &mut addresses {
            *address = address.to_canonical();
        }
        addresses.sort_unstable();
        addresses.dedup();
        self.arrivals += 1;
        if self.may_go(self.arrivals, &addresses) {
            return Ok(self.go(item, addresses));
        }
        for address in &addresses {
            self.targets.entry(*address).or_default().line.insert(self.arrivals);
        }
        self.waiting.insert(self.arrivals, Waiter { item, addresses });
        Err(Arrival(self.arrivals))
    }

    /// Takes one out of the line that shall wait no longer, if it still waits; with it come those that its claim held
    /// up.
    pub fn withdraw(&mut self, arrival: Arrival) -> Option<(T, Vec<(T, Place)>)> {
        self.waiting.contains_key(&arrival.0).then(|| {
            let Waiter { item, addresses } = self.remove(arrival.0);
            let going = self.admit(&addresses);
            for address in &addresses {
                if self.targets.get(address).is_some_and(|target| target.inside == 0 && target.line.is_empty()) {
                    self.targets.remove(address);
                }
            }
            (item, going)
        })
    }

    /// Gives places back. Returns the attempts that may now go on, those that came first before the others.
    pub fn leave(&mut self, place: Place) -> Vec<(T, Place)> {
        let freed = self.free(place);
        self.admit(&freed)
    }

    fn admit(&mut self, freed: &[IpAddr]) -> Vec<(T, Place)> {
        let mut going = Vec::new();
        let mut from = 0;
        while let Some(arrival) = self.first_admitted(freed, from) {
            from = arrival + 1;
            if self.may_go(arrival, &self.waiter(arrival).addresses) {
                let Waiter { item, addresses } = self.remove(arrival);
                going.push(self.go(item, addresses));
            }
        }
        going
    }

    /// Attempts that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the addresses at which someone may be admitted who was not before. Where two or more places were
    /// free, nobody was held up.
    fn free(&mut self, place: Place) -> Vec<IpAddr> {
        let mut freed = place.addresses;
        freed.retain(|address| {
            let target = self.targets.get_mut(address).expect("a target stays while someone is inside");
            target.inside -= 1;
            let had_two_free = target.inside + 2 < self.places;
            if target.inside == 0 && target.line.is_empty() {
                self.targets.remove(address);
                return false;
            }
            !had_two_free
        });
        freed
    }

    fn first_admitted(&self, freed: &[IpAddr], from: u64) -> Option<u64> {
        let targets = freed.iter().filter_map(|address| self.targets.get(address));
        targets.filter_map(|target| target.first_admitted(from, self.places)).min()
    }

    fn may_go(&self, arrival: u64, addresses: &[IpAddr]) -> bool {
        let mut targets = addresses.iter().filter_map(|address| self.targets.get(address));
        targets.all(|target| target.admits(arrival, self.places))
    }

    fn go(&mut self, item: T, addresses: Vec<IpAddr>) -> (T, Place) {
        for address in &addresses {
            self.targets.entry(*address).or_default().inside += 1;
        }
        (item, Place { addresses })
    }

    fn waiter(&self, arrival: u64) -> &Waiter<T> {
        self.waiting.get(&arrival).expect("who is in a line waits")
    }

    fn remove(&mut self, arrival: u64) -> Waiter<T> {
        let waiter = self.waiting.remove(&arrival).expect("who is in a line waits");
        for address in &waiter.addresses {
            let target = self.targets.get_mut(address).expect("a target stays while it has a line");
            target.line.remove(&arrival);
        }
        waiter
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn gate<T>(places: usize) -> TargetGate<T> {
        TargetGate::new(NonZeroUsize::new(places).unwrap())
    }

    fn at(hosts: &[u8]) -> Vec<IpAddr> {
        hosts.iter().map(|host| IpAddr::from([192, 0, 2, *host])).collect()
    }

    fn items<T>(going: Vec<(T, Place)>) -> (Vec<T>, Vec<Place>) {
        going.into_iter().unzip()
    }

    #[test]
    fn those_beyond_the_places_of_an_address_wait_and_go_in_order() {
        let mut gate = gate(2);
        let (_, first) = gate.enter("a", at(&[1])).unwrap();
        let (_, second) = gate.enter("b", at(&[1])).unwrap();
        assert!(gate.enter("c", at(&[1])).is_err());
        assert!(gate.enter("d", at(&[1])).is_err());
        assert!(gate.enter("other", at(&[2])).is_ok(), "another address");
        assert!(gate.enter("none", at(&[])).is_ok(), "no address");
        assert_eq!(gate.waiting(), 2);
        let (going, third) = items(gate.leave(second));
        assert_eq!(going, ["c"]);
        assert_eq!(items(gate.leave(first)).0, ["d"]);
        for place in third {
            assert_eq!(gate.leave(place), []);
        }
    }

    #[test]
    fn one_that_waits_no_longer_leaves_no_claim() {
        let mut gate = gate(1);
        let (_, place) = gate.enter("inside", at(&[1])).unwrap();
        let held = gate.enter("held", at(&[1, 2])).unwrap_err();
        let behind = gate.enter("behind", at(&[2])).unwrap_err();
        let (item, going) = gate.withdraw(held).unwrap();
        assert_eq!((item, items(going).0), ("held", vec!["behind"]));
        assert!(gate.withdraw(held).is_none() && gate.withdraw(behind).is_none());
        assert_eq!((gate.waiting(), gate.leave(place)), (0, Vec::new()));
        assert!(!gate.targets.contains_key(&at(&[1])[0]), "nothing is kept about an address that nobody asks");
    }

    #[test]
    fn one_address_in_two_spellings_takes_one_place() {
        let mut gate = gate(2);
        let spelled = |spelling: &str| spelling.parse::<IpAddr>().unwrap();
        let (_, place) = gate.enter("a", vec![spelled("192.0.2.1"), spelled("::ffff:192.0.2.1")]).unwrap();
        assert!(gate.enter("b", vec![spelled("::ffff:192.0.2.1")]).is_ok());
        assert!(gate.enter("c", at(&[1])).is_err());
        assert_eq!(items(gate.leave(place)).0, ["c"]);
    }

    #[test]
    fn who_waits_takes_nothing_and_leaves_all_but_one_place_to_others() {
        let mut gate = gate(2);
        let (_, busy) = gate.enter("busy", at(&[1])).unwrap();
        let (_, busy_too) = gate.enter("busy too", at(&[1])).unwrap();
        for held_up in ["first", "second", "third"] {
            assert!(gate.enter(held_up, at(&[1, 2])).is_err());
        }
        let (_, passing) = gate.enter("passes", at(&[2])).expect("one of two places");
        assert!(gate.enter("waits", at(&[2])).is_err(), "the other place is claimed");
        assert_eq!(items(gate.leave(passing)).0, ["waits"]);
        assert_eq!(items(gate.leave(busy)).0, ["first"]);
        assert_eq!(items(gate.leave(busy_too)).0, [""; 0], "no place is left at the second address");
        assert_eq!(gate.waiting(), 2);
    }

    #[test]
    fn two_addresses_that_are_never_free_together_do_not_keep_one_from_both() {
        let mut gate = gate(1);
        let (_, mut one) = gate.enter(0, at(&[1])).unwrap();
        let (_, two) = gate.enter(0, at(&[2])).unwrap();
        assert!(gate.enter(1, at(&[1, 2])).is_err());
        for _ in 0..10 {
            assert!(gate.enter(2, at(&[1])).is_err());
            assert!(gate.enter(3, at(&[2])).is_err());
        }
        assert_eq!(gate.leave(one), [], "the place stays free for the one that came first");
        (_, one) = gate.leave(two).pop().unwrap();
        assert_eq!(one.addresses, at(&[1, 2]));
        assert_eq!(items(gate.leave(one)).0, [2, 3]);
    }

    #[test]
    fn addresses_that_nobody_uses_are_forgotten() {
        let mut gate = gate(1);
        for _ in 0..3 {
            let (_, place) = gate.enter((), at(&[1, 2, 3])).unwrap();
            assert!(gate.enter((), at(&[3, 4])).is_err());
            let (_, mut places) = items(gate.leave(place));
            assert_eq!(gate.leave(places.remove(0)), []);
            assert!(gate.targets.is_empty());
        }
    }

    /// The same rules, without any thought for cost.
    struct Naive {
        places: usize,
        inside: Vec<Vec<IpAddr>>,
        waiting: VecDeque<(usize, Vec<IpAddr>)>,
    }

    impl Naive {
        fn may_go(&self, position: usize) -> bool {
            let (_, addresses) = &self.waiting[position];
            addresses.iter().all(|address| {
                let inside = self.inside.iter().filter(|place| place.contains(address)).count();
                let claimed = self.waiting.iter().take(position).any(|(_, earlier)| earlier.contains(address));
                inside + usize::from(claimed) < self.places
            })
        }

        fn go(&mut self) -> Vec<usize> {
            let mut going = Vec::new();
            while let Some(position) = (0..self.waiting.len()).find(|position| self.may_go(*position)) {
                let (id, addresses) = self.waiting.remove(position).unwrap();
                self.inside.push(addresses);
                going.push(id);
            }
            going
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_lets_the_same_go_as_one_that_looks_at_all_each_time(
            places in 1..4_usize,
            ops in vec((any::<bool>(), proptest::collection::btree_set(0..4_u8, 0..4), any::<usize>()), 0..120),
        ) {
            let mut gate = gate(places);
            let mut naive = Naive { places, inside: Vec::new(), waiting: VecDeque::new() };
            let mut inside: Vec<Place> = Vec::new();
            let count = ops.len();
            // At last all leave: then nobody waits any more.
            let leave = std::iter::repeat_n((false, Default::default(), 0), count);
            for (id, (enter, hosts, which)) in ops.into_iter().chain(leave).enumerate() {
                let going: Vec<(usize, Place)> = if enter {
                    let addresses = at(&hosts.into_iter().collect::<Vec<u8>>());
                    naive.waiting.push_back((id, addresses.clone()));
                    gate.enter(id, addresses).into_iter().collect()
                } else if inside.is_empty() {
                    continue;
                } else {
                    let position = which % inside.len();
                    naive.inside.remove(position);
                    gate.leave(inside.remove(position))
                };
                let (ids, went) = items(going);
                prop_assert_eq!(ids, naive.go());
                prop_assert_eq!(gate.waiting(), naive.waiting.len());
                inside.extend(went);
            }
            prop_assert!(inside.is_empty() && gate.waiting() == 0 && gate.targets.is_empty());
        }
    }
}
