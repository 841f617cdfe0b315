//! The queue between submission and the beginning of an attempt (req F8, H13).
//!
//! Accounts take turns; within an account its names take turns; within one (account, name) the first come is
//! the first served. A request may begin once its account and its name have fewer attempts in flight than
//! allowed, and once the cool-down that follows repeated failures of this (account, name) is over. New attempts
//! stay unlimited in number (req F1): they wait, and are refused only when too many wait already.
//!
//! There is no thread, clock or randomness here: the one owner passes them in.
//!
//! ```text
//!          ┌──────── due or cooled down ◀─ timer ◀┬───────────────────┐
//!          ▼                                 cools down          cools down
//! push ─▶ account's line ─ its turn ───────────────┼─▶ begins          │
//!          ▲                            no place ──▼                   │
//!          │                                 name's line ─▶ called ─ its turn ─▶ begins
//!          └─── the account is at its bound ───────┴───────────┘
//! ```
//!
//! Invariants:
//! * An (account, name) with requests that are due stands in exactly one of these places.
//! * A name's line is empty, or every place of the name is taken by an attempt or promised to one who is called.
//! * Only accounts below their own bound have names called; one that reaches it passes its calls on.
//! * An account is in the turns exactly if it is below its bound and has a name in its line or called.
//!
//! So whoever may begin is found by taking turns until none is left, and no call looks at what is blocked: each
//! move from one place to the next is paid for by one push, begin, end or timer. The exception is a name for
//! which several accounts wait that are at their own bound: an end then costs one move for each of these.
//! That is the price of leaving no place empty that someone could use. For the same reason a request whose
//! account and name are busy by turns, and never free together, waits until one of them is less busy.

use std::{
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Instant,
};

use serde::Deserialize;
use thiserror::Error;

use cool_down::CoolDowns;
pub use gate::{Arrival, Place, TargetGate};

mod cool_down;
mod gate;
#[cfg(test)]
mod tests;

const IN_FLIGHT_PER_NAME: NonZeroUsize = NonZeroUsize::new(4).expect("not zero");
const IN_FLIGHT_PER_TARGET: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
const FAILURES_BEFORE_COOL_DOWN: NonZeroU32 = NonZeroU32::new(3).expect("not zero");

/// Whose request it is, and about what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keys {
    /// The account; all requests without one share one.
    pub account: Option<Arc<str>>,
    /// The name, in the form in which equal names are equal.
    pub name: Arc<str>,
}

/// `[limits]`: what protects third parties and accounts from each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests that wait, in all.
    pub waiting_max: usize,
    /// Requests of one account that wait. Not a setting: who hands requests over one after the other, such as a bulk
    /// file, cannot be refused one of them.
    #[serde(skip)]
    pub waiting_per_account_max: usize,
    /// Attempts in flight of one account.
    pub in_flight_per_account_max: NonZeroUsize,
    /// Attempts in flight for one name, of all accounts together.
    pub in_flight_per_name_max: NonZeroUsize,
    /// Attempts whose remotes ask one address at a time.
    pub in_flight_per_target_max: NonZeroUsize,
    /// From this many failures in a row on, the next attempt of the same account and name waits.
    pub failures_before_cool_down: NonZeroU32,
    /// The first wait, milliseconds; it doubles with each further failure. 0: no cool-down.
    pub cool_down_ms: u64,
    /// The longest wait, before it is varied by a quarter up or down, milliseconds. As long after the last wait the
    /// failures are forgotten.
    pub cool_down_max_ms: u64,
    /// Pairs of account and name whose failures are remembered; beyond it the one is forgotten that would be
    /// forgotten first.
    pub cool_downs_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            waiting_max: 100_000,
            waiting_per_account_max: usize::MAX,
            in_flight_per_account_max: NonZeroUsize::MAX,
            in_flight_per_name_max: IN_FLIGHT_PER_NAME,
            in_flight_per_target_max: IN_FLIGHT_PER_TARGET,
            failures_before_cool_down: FAILURES_BEFORE_COOL_DOWN,
            cool_down_ms: 1_000,
            cool_down_max_ms: 60_000,
            cool_downs_max: 100_000,
        }
    }
}

/// A bound on waiting requests that is reached.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Bound {
    /// That of the account.
    #[error("too many requests of this account wait")]
    Account,
    /// That of all accounts together.
    #[error("too many requests wait")]
    Whole,
}

/// A request that was not taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused<T> {
    /// The request.
    pub item: T,
    /// Why.
    pub bound: Bound,
}

/// An attempt in flight; to be given back to [`Admission::ended`], once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the attempt counts as in flight until its ticket is given back"]
pub struct Ticket {
    keys: Keys,
}

impl Ticket {
    /// Whose attempt it is, and about what.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}

/// How an attempt ended, as far as the next one of the same account and name goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It passed.
    Passed,
    /// It did not, and the account or its servers can be asked to do better.
    Failed,
    /// It says nothing about them: it was our fault, or it starts afresh.
    Neither,
}

/// A request in line; the greatest is the one that came first.
#[derive(Debug)]
struct Waiting<T> {
    arrival: u64,
    item: T,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.arrival == other.arrival
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.arrival.cmp(&self.arrival)
    }
}

/// A time, and a number that keeps equal times apart.
type TimerKey = (Instant, u64);

#[derive(Debug)]
enum Timer<T> {
    /// The request is due.
    Due(Keys, Waiting<T>),
    /// The cool-down is over.
    CooledDown(Keys),
}

/// Where an (account, name) stands.
#[derive(Clone, Copy, Debug)]
enum Stand {
    AccountLine,
    NameLine,
    Called,
    Timer(TimerKey),
}

/// The due requests of one (account, name), at least one.
#[derive(Debug)]
struct Pair<T> {
    due: BinaryHeap<Waiting<T>>,
    stand: Stand,
}

#[derive(Debug, Default)]
struct Account {
    waiting: usize,
    in_flight: usize,
    in_turns: bool,
    /// Names whose turn within the account will come.
    line: VecDeque<Arc<str>>,
    /// Names that have a place promised.
    called: VecDeque<Arc<str>>,
}

impl Account {
    /// The next name. Those called come first, and hold up nobody for long: who begins goes to the end of the line,
    /// and only out of the line can it be called again.
    fn pick(&mut self) -> Option<Arc<str>> {
        self.called.pop_front().or_else(|| self.line.pop_front())
    }

    fn has_candidates(&self) -> bool {
        !self.line.is_empty() || !self.called.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }
}

#[derive(Debug, Default)]
struct Name {
    in_flight: usize,
    /// Places promised.
    called: usize,
    /// Accounts that wait for a place.
    line: VecDeque<Option<Arc<str>>>,
}

impl Name {
    fn taken(&self) -> usize {
        self.in_flight + self.called
    }

    fn is_idle(&self) -> bool {
        self.taken() == 0 && self.line.is_empty()
    }
}

/// Requests that wait to be begun.
#[derive(Debug)]
pub struct Admission<T> {
    limits: Limits,
    pairs: HashMap<Keys, Pair<T>>,
    accounts: HashMap<Option<Arc<str>>, Account>,
    names: HashMap<Arc<str>, Name>,
    turns: VecDeque<Option<Arc<str>>>,
    timers: BTreeMap<TimerKey, Timer<T>>,
    cool_downs: CoolDowns,
    waiting: usize,
    in_flight: usize,
    arrivals: u64,
    /// Names picked, timers fired and moves from one place to another: what calls cost.
    #[cfg(test)]
    moves: u64,
}

impl<T> Admission<T> {
    /// An empty one.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            cool_downs: CoolDowns::new(&limits),
            limits,
            pairs: HashMap::new(),
            accounts: HashMap::new(),
            names: HashMap::new(),
            turns: VecDeque::new(),
            timers: BTreeMap::new(),
            waiting: 0,
            in_flight: 0,
            arrivals: 0,
            #[cfg(test)]
            moves: 0,
        }
    }

    /// Puts a request in line. One with `not_before` waits until then and takes the place in line that it would
    /// have had without.
    ///
    /// # Errors
    /// Too many wait: the request comes back.
    pub fn push(&mut self, item: T, keys: Keys, not_before: Option<Instant>) -> Result<(), Refused<T>> {
        if self.waiting >= self.limits.waiting_max {
            return Err(Refused { item, bound: Bound::Whole });
        }
        let of_account = self.accounts.get(&keys.account).map_or(0, |account| account.waiting);
        if of_account >= self.limits.waiting_per_account_max {
            return Err(Refused { item, bound: Bound::Account });
        }
        self.waiting += 1;
        self.accounts.entry(keys.account.clone()).or_default().waiting += 1;
        let waiting = Waiting { arrival: self.stamp(), item };
        match not_before {
            Some(at) => _ = self.timers.insert((at, waiting.arrival), Timer::Due(keys, waiting)),
            None => self.line_up(keys, waiting),
        }
        Ok(())
    }

    /// The next request that may begin now.
    pub fn next(&mut self, now: Instant) -> Option<(T, Ticket)> {
        self.cool_downs.expire(now);
        self.fire_timers(now);
        while let Some(account) = self.turns.pop_front() {
            self.account(&account).in_turns = false;
            while let Some(name) = self.account(&account).pick() {
                self.count_move();
                let keys = Keys { account: account.clone(), name };
                if self.may_begin(&keys, now) {
                    return Some(self.begin(keys));
                }
            }
        }
        None
    }

    /// An attempt has ended. One that failed brings the cool-down nearer; one that passed ends it, and what waited for
    /// it may go at once. `random` varies the wait.
    pub fn ended(&mut self, ticket: Ticket, ending: Ending, now: Instant, random: u64) {
        let Ticket { keys } = ticket;
        self.in_flight -= 1;
        self.account(&keys.account).in_flight -= 1;
        self.name(&keys.name).in_flight -= 1;
        match ending {
            Ending::Failed => {
                if let Some(until) = self.cool_downs.failed(&keys, now, random) {
                    self.wait_longer(&keys, until);
                }
            }
            Ending::Passed => {
                self.cool_downs.clear(&keys);
                self.wait_no_more(&keys);
            }
            Ending::Neither => {}
        }
        self.join_turns(&keys.account);
        self.call(&keys.name);
        if self.account(&keys.account).is_idle() {
            self.accounts.remove(&keys.account);
        }
    }

    /// When [`Admission::next`], which has nothing now, may have something though nothing else happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Attempts that began and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Takes everything out that waits, in the order in which it came, as for an orderly stop.
    pub fn drain(&mut self) -> Vec<T> {
        let mut all: Vec<Waiting<T>> = self.pairs.drain().flat_map(|(_, pair)| pair.due).collect();
        all.extend(std::mem::take(&mut self.timers).into_values().filter_map(|timer| match timer {
            Timer::Due(_, waiting) => Some(waiting),
            Timer::CooledDown(_) => None,
        }));
        all.sort_unstable_by_key(|waiting| waiting.arrival);
        self.waiting = 0;
        self.turns.clear();
        self.accounts.retain(|_, account| account.in_flight > 0);
        for account in self.accounts.values_mut() {
            *account = Account { in_flight: account.in_flight, ..Account::default() };
        }
        self.names.retain(|_, name| name.in_flight > 0);
        for name in self.names.values_mut() {
            *name = Name { in_flight: name.in_flight, ..Name::default() };
        }
        all.into_iter().map(|waiting| waiting.item).collect()
    }

    fn stamp(&mut self) -> u64 {
        self.arrivals += 1;
        self.arrivals
    }

    fn account(&mut self, account: &Option<Arc<str>>) -> &mut Account {
        self.accounts.get_mut(account).expect("an account stays while it has requests waiting or in flight")
    }

    fn name(&mut self, name: &Arc<str>) -> &mut Name {
        self.names.get_mut(name).expect("a name stays while it has attempts in flight, a call or a line")
    }

    fn place(&mut self, keys: &Keys, stand: Stand) {
        self.count_move();
        self.pairs.get_mut(keys).expect("a pair stays while it has due requests").stand = stand;
    }

    fn count_move(&mut self) {
        #[cfg(test)]
        {
            self.moves += 1;
        }
    }

    /// A request is due.
    fn line_up(&mut self, keys: Keys, waiting: Waiting<T>) {
        if let Some(pair) = self.pairs.get_mut(&keys) {
            return pair.due.push(waiting);
        }
        let pair = Pair { due: BinaryHeap::from([waiting]), stand: Stand::AccountLine };
        self.pairs.insert(keys.clone(), pair);
        self.join_account_line(&keys);
    }

    fn wait_until(&mut self, keys: Keys, until: Instant) {
        let key = (until, self.stamp());
        self.place(&keys, Stand::Timer(key));
        self.timers.insert(key, Timer::CooledDown(keys));
    }

    /// Whoever is not at a timer yet finds the cool-down when its turn comes.
    fn wait_longer(&mut self, keys: &Keys, until: Instant) {
        if let Some(key) = self.timer_of(keys).filter(|(at, _)| *at < until) {
            self.timers.remove(&key);
            self.wait_until(keys.clone(), until);
        }
    }

    fn wait_no_more(&mut self, keys: &Keys) {
        if let Some(key) = self.timer_of(keys) {
            self.timers.remove(&key);
            self.join_account_line(keys);
        }
    }

    fn timer_of(&self, keys: &Keys) -> Option<TimerKey> {
        match self.pairs.get(keys)?.stand {
            Stand::Timer(key) => Some(key),
            Stand::AccountLine | Stand::NameLine | Stand::Called => None,
        }
    }

    fn join_account_line(&mut self, keys: &Keys) {
        self.place(keys, Stand::AccountLine);
        self.account(&keys.account).line.push_back(Arc::clone(&keys.name));
        self.join_turns(&keys.account);
    }

    fn join_turns(&mut self, key: &Option<Arc<str>>) {
        let most = self.limits.in_flight_per_account_max.get();
        let account = self.account(key);
        if !account.in_turns && account.in_flight < most && account.has_candidates() {
            account.in_turns = true;
            self.turns.push_back(key.clone());
        }
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            let timer = timer.remove();
            self.count_move();
            match timer {
                Timer::Due(keys, waiting) => self.line_up(keys, waiting),
                Timer::CooledDown(keys) => self.join_account_line(&keys),
            }
        }
    }

    /// Whether one just taken from its account's line, or from those called, may begin; else it is put where it
    /// has to wait.
    fn may_begin(&mut self, keys: &Keys, now: Instant) -> bool {
        let was_called = matches!(self.pairs.get(keys), Some(Pair { stand: Stand::Called, .. }));
        if was_called {
            self.name(&keys.name).called -= 1;
        }
        if let Some(until) = self.cool_downs.until(keys).filter(|until| *until > now) {
            self.wait_until(keys.clone(), until);
            if was_called {
                self.call(&keys.name);
            }
            return false;
        }
        let name = self.names.entry(Arc::clone(&keys.name)).or_default();
        if name.taken() < self.limits.in_flight_per_name_max.get() {
            return true;
        }
        name.line.push_back(keys.account.clone());
        self.place(keys, Stand::NameLine);
        false
    }

    fn begin(&mut self, keys: Keys) -> (T, Ticket) {
        let pair = self.pairs.get_mut(&keys).expect("a pair stays while it has due requests");
        let Waiting { item, .. } = pair.due.pop().expect("a pair has at least one due request");
        let more = !pair.due.is_empty();
        self.waiting -= 1;
        self.in_flight += 1;
        self.name(&keys.name).in_flight += 1;
        let account = self.account(&keys.account);
        account.waiting -= 1;
        account.in_flight += 1;
        let is_full = account.in_flight >= self.limits.in_flight_per_account_max.get();
        if more {
            self.join_account_line(&keys);
        } else {
            self.pairs.remove(&keys);
            self.join_turns(&keys.account);
        }
        if is_full {
            self.pass_calls_on(&keys.account);
        }
        (item, Ticket { keys })
    }

    /// An account that is at its bound would keep places empty that others can use.
    fn pass_calls_on(&mut self, account: &Option<Arc<str>>) {
        while let Some(name) = self.account(account).called.pop_front() {
            self.join_account_line(&Keys { account: account.clone(), name: Arc::clone(&name) });
            self.name(&name).called -= 1;
            self.call(&name);
        }
    }

    /// Promises the free places of a name to those first in its line.
    fn call(&mut self, key: &Arc<str>) {
        let places = self.limits.in_flight_per_name_max.get();
        while self.name(key).taken() < places
            && let Some(account) = self.name(key).line.pop_front()
        {
            let keys = Keys { account, name: Arc::clone(key) };
            if self.account(&keys.account).in_flight >= self.limits.in_flight_per_account_max.get() {
                self.join_account_line(&keys);
            } else {
                self.place(&keys, Stand::Called);
                self.name(key).called += 1;
                self.account(&keys.account).called.push_back(keys.name);
                self.join_turns(&keys.account);
            }
        }
        if self.name(key).is_idle() {
            self.names.remove(key);
        }
    }
}
