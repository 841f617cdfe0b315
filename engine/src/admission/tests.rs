use std::{collections::HashMap, time::Duration};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// Of an attempt that failed or passed.
fn ending(failed: bool) -> Ending {
    if failed { Ending::Failed } else { Ending::Passed }
}

fn settings() -> ProptestConfig {
    // 256 cases, or as many as PROPTEST_CASES says.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn nz(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}

fn keys(account: &str, name: &str) -> Keys {
    Keys { account: Some(account.into()), name: name.into() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Limits that bind nobody.
fn wide() -> Limits {
    Limits {
        waiting_max: usize::MAX,
        waiting_per_account_max: usize::MAX,
        in_flight_per_name_max: NonZeroUsize::MAX,
        cool_down_ms: 0,
        ..Limits::default()
    }
}

/// A cool-down of 1 s after each failure, doubling up to 8 s.
fn cooling() -> Limits {
    Limits {
        failures_before_cool_down: NonZeroU32::MIN,
        cool_down_ms: 1000,
        cool_down_max_ms: 8000,
        in_flight_per_name_max: nz(4),
        ..wide()
    }
}

/// What makes a wait exactly as long as written: a quarter less than that plus a quarter.
fn plain(wait_ms: u64) -> u64 {
    wait_ms / 4
}

struct Bench {
    line: Admission<String>,
    now: Instant,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self { line: Admission::new(limits), now: Instant::now() }
    }

    /// Pushes items written `account:name`, named so too, or with a number at the end.
    fn push(&mut self, items: &[&str]) {
        for item in items {
            let mut parts = item.split(':');
            let keys = keys(parts.next().unwrap(), parts.next().unwrap());
            self.line.push((*item).to_owned(), keys, None).unwrap();
        }
    }

    fn next(&mut self) -> Option<(String, Ticket)> {
        self.line.next(self.now)
    }

    fn take(&mut self) -> Ticket {
        self.next().expect("something may begin").1
    }

    /// Everything that may begin now.
    fn all(&mut self) -> (Vec<String>, Vec<Ticket>) {
        std::iter::from_fn(|| self.line.next(self.now)).unzip()
    }

    fn ok(&mut self, ticket: Ticket) {
        self.line.ended(ticket, Ending::Passed, self.now, 0);
    }

    fn fail(&mut self, ticket: Ticket, random: u64) {
        self.line.ended(ticket, Ending::Failed, self.now, random);
    }

    /// Carries one attempt for this pair out, which fails.
    fn fail_once(&mut self, item: &str, random: u64) {
        self.push(&[item]);
        let ticket = self.take();
        self.fail(ticket, random);
    }
}

#[test]
fn accounts_take_turns() {
    let mut bench = Bench::new(wide());
    bench.push(&["a:1", "a:2", "a:3", "b:1", "b:2", "c:1"]);
    assert_eq!(bench.all().0, ["a:1", "b:1", "c:1", "a:2", "b:2", "a:3"]);
}

#[test]
fn requests_without_account_share_one() {
    let mut bench = Bench::new(wide());
    for (item, name) in [("x", "1"), ("y", "2")] {
        bench.line.push(item.to_owned(), Keys { account: None, name: name.into() }, None).unwrap();
    }
    bench.push(&["a:1"]);
    assert_eq!(bench.all().0, ["x", "a:1", "y"]);
}

#[test]
fn names_of_one_account_take_turns() {
    let mut bench = Bench::new(wide());
    bench.push(&["a:1:1", "a:1:2", "a:1:3", "a:2:1"]);
    assert_eq!(bench.all().0, ["a:1:1", "a:2:1", "a:1:2", "a:1:3"]);
}

#[test]
fn what_would_wait_beyond_the_bounds_comes_back() {
    let limits = Limits { waiting_max: 3, waiting_per_account_max: 2, ..wide() };
    let mut bench = Bench::new(limits);
    let later = bench.now + ms(1);
    bench.push(&["a:1"]);
    bench.line.push("a:2".to_owned(), keys("a", "2"), Some(later)).unwrap();
    let refused = bench.line.push("a:3".to_owned(), keys("a", "3"), None).unwrap_err();
    assert_eq!(refused, Refused { item: "a:3".to_owned(), bound: Bound::Account });
    bench.push(&["b:1"]);
    let refused = bench.line.push("b:2".to_owned(), keys("b", "2"), None).unwrap_err();
    assert_eq!(refused, Refused { item: "b:2".to_owned(), bound: Bound::Whole });
    assert_eq!((bench.line.waiting(), bench.line.in_flight()), (3, 0));
    let _ticket = bench.take();
    assert_eq!((bench.line.waiting(), bench.line.in_flight()), (2, 1));
    bench.push(&["a:3"]);
}

#[test]
fn the_bound_of_a_name_counts_all_accounts() {
    let mut bench = Bench::new(Limits { in_flight_per_name_max: nz(2), ..wide() });
    bench.push(&["a:x:1", "a:x:2", "a:x:3", "b:x:1", "a:y:1"]);
    let (begun, mut tickets) = bench.all();
    assert_eq!(begun, ["a:x:1", "b:x:1", "a:y:1"]);
    bench.ok(tickets.remove(0));
    assert_eq!(bench.all().0, ["a:x:2"]);
}

#[test]
fn a_free_place_of_a_name_goes_to_the_account_that_waits_for_it_longest() {
    let mut bench = Bench::new(Limits { in_flight_per_name_max: nz(1), ..wide() });
    bench.push(&["a:x:1", "a:x:2", "b:x:1"]);
    let mut ticket = bench.take();
    assert!(bench.next().is_none());
    // The turn of a newcomer comes before that of the one to whom the place is promised.
    bench.push(&["c:x:1"]);
    for expected in ["b:x:1", "a:x:2", "c:x:1"] {
        bench.ok(ticket);
        let begun;
        (begun, ticket) = bench.next().unwrap();
        assert_eq!(begun, expected);
        assert!(bench.next().is_none());
    }
}

#[test]
fn a_name_in_demand_does_not_keep_the_other_names_of_its_account_waiting() {
    let mut bench = Bench::new(Limits { in_flight_per_name_max: nz(1), ..wide() });
    for number in 0..50 {
        bench.push(&[&format!("a:x:{number}"), &format!("a:y:{number}")]);
    }
    let (_, mut tickets) = bench.all();
    bench.push(&["a:z"]);
    // As in an engine that is full: one begins when one has ended.
    let begun: Vec<String> = (0..4)
        .map(|_| {
            let ticket = tickets.remove(0);
            bench.ok(ticket);
            let (begun, ticket) = bench.next().unwrap();
            tickets.push(ticket);
            begun
        })
        .collect();
    assert!(begun.contains(&"a:z".to_owned()), "{begun:?}");
}

#[test]
fn an_account_at_its_bound_goes_on_when_one_of_its_attempts_ends() {
    let mut bench = Bench::new(Limits { in_flight_per_account_max: nz(2), ..wide() });
    bench.push(&["a:1", "a:2", "a:3", "b:1"]);
    let (begun, mut tickets) = bench.all();
    assert_eq!(begun, ["a:1", "b:1", "a:2"]);
    bench.ok(tickets.remove(0));
    assert_eq!(bench.all().0, ["a:3"]);
}

#[test]
fn a_promised_place_is_not_kept_empty_while_other_names_of_the_account_begin() {
    let mut bench = Bench::new(Limits { in_flight_per_name_max: nz(1), ..wide() });
    bench.push(&["b:x:1"]);
    let first = bench.take();
    bench.push(&["a:x:1"]);
    assert!(bench.next().is_none());
    bench.push(&["a:y", "a:z"]);
    bench.ok(first);
    assert_eq!(bench.all().0, ["a:x:1", "a:y", "a:z"]);
}

#[test]
fn an_account_at_its_bound_keeps_no_place_from_others() {
    let limits = Limits { in_flight_per_account_max: nz(1), in_flight_per_name_max: nz(1), ..wide() };
    let mut bench = Bench::new(limits);
    bench.push(&["b:x", "c:y"]);
    let (_, tickets) = bench.all();
    bench.push(&["a:x", "a:y", "d:y"]);
    assert!(bench.next().is_none());
    for ticket in tickets {
        bench.ok(ticket);
    }
    // Both places are promised to a, which can use but one.
    assert_eq!(bench.all().0, ["a:x", "d:y"]);
}

#[test]
fn a_place_promised_to_one_that_must_cool_down_goes_to_the_next() {
    let mut bench = Bench::new(Limits { in_flight_per_name_max: nz(2), ..cooling() });
    bench.push(&["a:x:1", "a:x:2"]);
    let (_, mut tickets) = bench.all();
    bench.push(&["a:x:3", "b:x", "c:x"]);
    assert!(bench.next().is_none());
    bench.ok(tickets.remove(0));
    bench.fail(tickets.remove(0), 0);
    assert_eq!(bench.all().0, ["b:x", "c:x"]);
}

#[test]
fn a_place_is_not_promised_to_an_account_at_its_bound() {
    let limits = Limits { in_flight_per_account_max: nz(1), in_flight_per_name_max: nz(1), ..wide() };
    let mut bench = Bench::new(limits);
    bench.push(&["b:x:1"]);
    let first = bench.take();
    bench.push(&["a:x:1", "c:x:1"]);
    assert!(bench.next().is_none());
    bench.push(&["a:y:1"]);
    let (begun, _ticket) = bench.next().unwrap();
    assert_eq!(begun, "a:y:1");
    bench.ok(first);
    assert_eq!(bench.all().0, ["c:x:1"]);
}

#[test]
fn a_request_that_waits_for_its_time_then_takes_its_place() {
    let mut bench = Bench::new(wide());
    let due = bench.now + ms(10);
    bench.line.push("early".to_owned(), keys("a", "1"), Some(due)).unwrap();
    bench.push(&["a:1:1", "a:1:2"]);
    assert_eq!(bench.next().unwrap().0, "a:1:1");
    assert_eq!(bench.line.wake_at(), Some(due));
    bench.now = due;
    assert_eq!(bench.all().0, ["early", "a:1:2"]);
    assert_eq!(bench.line.wake_at(), None);
}

#[test]
fn attempts_wait_from_the_third_failure_on_and_twice_as_long_after_each() {
    let limits = Limits { failures_before_cool_down: NonZeroU32::new(3).unwrap(), ..cooling() };
    let mut bench = Bench::new(limits);
    for _ in 0..2 {
        bench.fail_once("a:x", 0);
    }
    for wait_ms in [1000, 2000, 4000, 8000, 8000] {
        bench.fail_once("a:x", plain(wait_ms));
        bench.push(&["a:x"]);
        assert!(bench.next().is_none());
        assert_eq!(bench.line.wake_at(), Some(bench.now + ms(wait_ms)));
        bench.now += ms(wait_ms - 1);
        assert!(bench.next().is_none());
        bench.now += ms(1);
        // It is the one that the next round fails.
        assert_eq!(bench.line.drain(), ["a:x"]);
    }
}

#[test]
fn a_cool_down_binds_neither_other_names_nor_other_accounts() {
    let mut bench = Bench::new(cooling());
    bench.fail_once("a:x", 0);
    bench.push(&["a:x", "a:y", "b:x"]);
    assert_eq!(bench.all().0, ["a:y", "b:x"]);
}

#[test]
fn no_cool_down_if_it_is_0_ms_long() {
    let mut bench = Bench::new(Limits { cool_down_ms: 0, ..cooling() });
    for random in 0..10 {
        bench.fail_once("a:x", random);
    }
}

#[test]
fn a_success_ends_the_cool_down_at_once_and_the_count() {
    let limits = Limits { failures_before_cool_down: NonZeroU32::new(2).unwrap(), ..cooling() };
    let mut bench = Bench::new(limits);
    bench.push(&["a:x:1", "a:x:2", "a:x:3"]);
    let (_, mut tickets) = bench.all();
    bench.fail(tickets.remove(0), 0);
    bench.fail(tickets.remove(0), 0);
    bench.push(&["a:x:4", "a:x:5"]);
    assert!(bench.next().is_none());
    bench.ok(tickets.remove(0));
    assert_eq!(bench.line.cool_downs.len(), 0);
    let (begun, mut tickets) = bench.all();
    assert_eq!(begun, ["a:x:4", "a:x:5"]);
    assert_eq!(bench.line.wake_at(), None);
    bench.fail(tickets.remove(0), 0);
    bench.push(&["a:x:6"]);
    assert_eq!(bench.all().0, ["a:x:6"]);
}

#[test]
fn a_further_failure_makes_those_wait_longer_that_wait_already() {
    let mut bench = Bench::new(cooling());
    bench.push(&["a:x:1", "a:x:2"]);
    let (_, mut tickets) = bench.all();
    bench.push(&["a:x:3"]);
    bench.fail(tickets.remove(0), plain(1000));
    assert!(bench.next().is_none());
    assert_eq!(bench.line.wake_at(), Some(bench.now + ms(1000)));
    bench.fail(tickets.remove(0), plain(2000));
    assert_eq!(bench.line.wake_at(), Some(bench.now + ms(2000)));
    bench.now += ms(2000);
    assert_eq!(bench.all().0, ["a:x:3"]);
}

#[test]
fn a_further_failure_never_shortens_the_wait() {
    let mut bench = Bench::new(Limits { cool_down_ms: 8000, ..cooling() });
    bench.push(&["a:x:1", "a:x:2"]);
    let (_, mut tickets) = bench.all();
    bench.fail(tickets.remove(0), 4000);
    bench.fail(tickets.remove(0), 0);
    bench.push(&["a:x:3"]);
    assert!(bench.next().is_none());
    assert_eq!(bench.line.wake_at(), Some(bench.now + ms(10_000)));
}

#[test]
fn a_failure_after_the_earlier_ones_were_forgotten_does_not_shorten_the_wait_either() {
    let mut bench = Bench::new(Limits { cool_down_ms: 8000, cool_downs_max: 1, ..cooling() });
    bench.push(&["a:x:1", "a:x:2"]);
    let (_, mut tickets) = bench.all();
    bench.fail(tickets.remove(0), 4000);
    bench.push(&["a:x:3"]);
    assert!(bench.next().is_none());
    let until = bench.now + ms(10_000);
    bench.now += ms(1);
    bench.fail_once("a:y", 4000);
    bench.fail(tickets.remove(0), 0);
    assert!(bench.next().is_none());
    assert_eq!(bench.line.wake_at(), Some(until));
}

#[test]
fn one_in_cool_down_holds_no_place_of_its_name() {
    let mut bench = Bench::new(Limits { in_flight_per_name_max: nz(1), ..cooling() });
    bench.push(&["a:x:1", "a:x:2", "b:x:1"]);
    let first = bench.take();
    assert!(bench.next().is_none());
    bench.fail(first, 0);
    assert_eq!(bench.all().0, ["b:x:1"]);
}

#[test]
fn failures_are_forgotten_long_after_the_last_wait() {
    let mut bench = Bench::new(cooling());
    bench.fail_once("a:x", plain(1000));
    bench.now += ms(8999);
    bench.fail_once("a:x", plain(2000));
    bench.now += ms(9999);
    assert!(bench.next().is_none());
    assert_eq!(bench.line.cool_downs.len(), 1);
    bench.now += ms(1);
    assert!(bench.next().is_none());
    assert_eq!(bench.line.cool_downs.len(), 0);
    bench.fail_once("a:x", plain(1000));
    bench.push(&["a:x"]);
    assert!(bench.next().is_none());
    assert_eq!(bench.line.wake_at(), Some(bench.now + ms(1000)));
}

#[test]
fn beyond_the_cap_the_one_is_forgotten_that_would_be_first() {
    let mut bench = Bench::new(Limits { cool_downs_max: 2, ..cooling() });
    bench.fail_once("a:long", 500);
    bench.fail_once("a:short", 0);
    bench.fail_once("a:middle", 250);
    bench.push(&["a:long", "a:short", "a:middle"]);
    assert_eq!(bench.all().0, ["a:short"]);
}

#[test]
fn a_hundred_thousand_failing_names_take_no_more_memory_than_the_cap() {
    let mut line = Admission::new(Limits { cool_downs_max: 1000, ..cooling() });
    let mut now = Instant::now();
    let account: Arc<str> = "a".into();
    for number in 0..100_000_u64 {
        let keys = Keys { account: Some(Arc::clone(&account)), name: number.to_string().into() };
        line.push(number, keys, None).unwrap();
        let (_, ticket) = line.next(now).unwrap();
        line.ended(ticket, Ending::Failed, now, number);
        now += Duration::from_micros(1);
    }
    assert_eq!(line.cool_downs.len(), 1000);
    assert_eq!((line.pairs.len(), line.names.len(), line.accounts.len()), (0, 0, 0));
    assert!(line.pairs.capacity() + line.names.capacity() + line.timers.len() < 100);
}

#[test]
fn an_orderly_stop_gives_everything_back_that_waits() {
    let limits = Limits { in_flight_per_account_max: nz(3), in_flight_per_name_max: nz(1), ..cooling() };
    let mut bench = Bench::new(limits);
    bench.fail_once("a:cool", 0);
    let later = bench.now + ms(5);
    bench.push(&["a:x:1", "b:x:1", "c:y:1"]);
    bench.line.push("later".to_owned(), keys("a", "z"), Some(later)).unwrap();
    bench.push(&["a:cool:1", "c:y:2"]);
    let (begun, tickets) = bench.all();
    assert_eq!(begun, ["a:x:1", "c:y:1"]);
    bench.push(&["a:x:2", "d:w:1"]);
    assert_eq!(bench.line.drain(), ["b:x:1", "later", "a:cool:1", "c:y:2", "a:x:2", "d:w:1"]);
    assert_eq!((bench.line.waiting(), bench.line.in_flight()), (0, 2));
    assert_eq!(bench.line.wake_at(), None);
    assert!(bench.next().is_none());
    // It goes on as before.
    bench.push(&["b:x:2", "d:w:2"]);
    assert_eq!(bench.all().0, ["d:w:2"]);
    for ticket in tickets {
        bench.ok(ticket);
    }
    assert_eq!(bench.all().0, ["b:x:2"]);
}

#[test]
fn limits_are_read_with_defaults_and_without_mistakes() {
    let limits: Limits = toml::from_str("in_flight_per_name_max = 7").unwrap();
    assert_eq!((limits.in_flight_per_name_max.get(), limits.in_flight_per_target_max.get()), (7, 64));
    assert_eq!(
        (limits.failures_before_cool_down.get(), limits.cool_down_ms, limits.cool_down_max_ms),
        (3, 1000, 60_000)
    );
    assert_eq!(limits.in_flight_per_account_max, NonZeroUsize::MAX);
    for bad in ["in_flight_per_name_max = 0", "in_flight_per_target_max = 0", "waiting = 1"] {
        assert!(toml::from_str::<Limits>(bad).is_err(), "{bad}");
    }
}

/// Pushes many items of account `a`, `each` for every name.
fn crowd(line: &mut Admission<u64>, names: u64, each: u64) {
    let account: Arc<str> = "a".into();
    for name in 0..names {
        let name: Arc<str> = name.to_string().into();
        for number in 0..each {
            line.push(number, Keys { account: Some(Arc::clone(&account)), name: Arc::clone(&name) }, None).unwrap();
        }
    }
}

#[test]
fn a_hundred_thousand_blocked_by_their_names_are_not_looked_at() {
    let now = Instant::now();
    let mut line = Admission::new(Limits { in_flight_per_name_max: nz(4), ..wide() });
    crowd(&mut line, 5000, 20);
    let mut tickets: VecDeque<Ticket> = std::iter::from_fn(|| line.next(now)).map(|(_, ticket)| ticket).collect();
    assert_eq!((tickets.len(), line.waiting()), (20_000, 80_000));
    // Each name joined its line 5 times, was picked 5 times, and the 5th time moved to the name's line.
    assert!(line.moves <= 5000 * 11, "{}", line.moves);
    let before = line.moves;
    for _ in 0..1000 {
        assert!(line.next(now).is_none());
    }
    assert_eq!(line.moves, before);
    for _ in 0..10_000 {
        let before = line.moves;
        line.ended(tickets.pop_front().unwrap(), Ending::Passed, now, 0);
        tickets.push_back(line.next(now).unwrap().1);
        assert!(line.next(now).is_none());
        assert!(line.moves - before <= 5, "{}", line.moves - before);
    }
}

#[test]
fn a_hundred_thousand_in_cool_down_are_not_looked_at() {
    let mut now = Instant::now();
    let mut line = Admission::new(Limits { in_flight_per_name_max: nz(1), cool_downs_max: 100_000, ..cooling() });
    crowd(&mut line, 50_000, 2);
    while let Some((_, ticket)) = line.next(now) {
        line.ended(ticket, Ending::Failed, now, 0);
    }
    assert_eq!(line.waiting(), 50_000);
    let before = line.moves;
    for number in 0..1000 {
        assert!(line.next(now).is_none());
        line.push(number, keys("b", "x"), None).unwrap();
        let (_, ticket) = line.next(now).unwrap();
        line.ended(ticket, Ending::Passed, now, 0);
    }
    assert!(line.moves - before <= 1000 * 3, "{}", line.moves - before);
    now = line.wake_at().unwrap();
    let before = line.moves;
    assert_eq!(std::iter::from_fn(|| line.next(now)).count(), 50_000);
    assert!(line.moves - before <= 50_000 * 4, "{}", line.moves - before);
}

#[test]
fn many_accounts_that_wait_for_one_name_are_not_looked_at() {
    let now = Instant::now();
    let mut line = Admission::new(Limits { in_flight_per_name_max: nz(4), ..wide() });
    for number in 0..10_000_u64 {
        line.push(number, keys(&number.to_string(), "x"), None).unwrap();
    }
    let mut tickets: VecDeque<Ticket> = std::iter::from_fn(|| line.next(now)).map(|(_, ticket)| ticket).collect();
    for expected in 4..10_000 {
        let before = line.moves;
        line.ended(tickets.pop_front().unwrap(), Ending::Passed, now, 0);
        let (item, ticket) = line.next(now).unwrap();
        assert_eq!(item, expected);
        tickets.push_back(ticket);
        assert!(line.next(now).is_none());
        assert!(line.moves - before <= 3, "{}", line.moves - before);
    }
}

#[test]
fn beside_a_hundred_thousand_failing_names_another_account_is_next_or_next_but_one() {
    let mut now = Instant::now();
    let mut line = Admission::new(Limits { cool_downs_max: 1000, ..cooling() });
    crowd(&mut line, 100_000, 1);
    for round in 0..3000_u64 {
        // The attacker's attempts fail and are made again.
        for _ in 0..round % 4 {
            let (item, ticket) = line.next(now).unwrap();
            let again = ticket.keys().clone();
            line.ended(ticket, Ending::Failed, now, round);
            line.push(item, again, (round % 3 == 0).then_some(now + ms(round % 50))).unwrap();
        }
        line.push(u64::MAX, keys("b", &round.to_string()), None).unwrap();
        let turn = (0..2).find(|_| {
            let (item, ticket) = line.next(now).unwrap();
            line.ended(ticket, ending(item != u64::MAX), now, round);
            item == u64::MAX
        });
        assert!(turn.is_some(), "round {round}");
        now += ms(round % 7);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push { account: u8, name: u8, delay_ms: Option<u64> },
    Next,
    Ended { which: Index, failed: bool, random: u64 },
    Pass { time_ms: u64 },
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u8, 0..3_u8, proptest::option::weighted(0.2, 0..60_u64))
            .prop_map(|(account, name, delay_ms)| Op::Push { account, name, delay_ms }),
        6 => Just(Op::Next),
        5 => (any::<Index>(), any::<bool>(), any::<u64>())
            .prop_map(|(which, failed, random)| Op::Ended { which, failed, random }),
        2 => (0..40_u64).prop_map(|time_ms| Op::Pass { time_ms }),
        1 => (0..12_u8).prop_map(|n| if n == 0 { Op::Drain } else { Op::Next }),
    ]
}

fn few() -> impl Strategy<Value = Limits> {
    let account = prop_oneof![1..4_usize, Just(usize::MAX)];
    (account, 1..4_usize, 1..3_u32, 4..14_usize, 3..9_usize).prop_map(|(account, name, failures, whole, waiting)| {
        Limits {
            waiting_max: whole,
            waiting_per_account_max: waiting,
            in_flight_per_account_max: nz(account),
            in_flight_per_name_max: nz(name),
            failures_before_cool_down: NonZeroU32::new(failures).unwrap(),
            cool_down_ms: 8,
            cool_down_max_ms: 64,
            ..wide()
        }
    })
}

#[derive(Clone, Debug)]
struct Item {
    id: usize,
    pair: (u8, u8),
    not_before: u64,
}

#[derive(Clone, Copy, Default)]
struct Failures {
    count: u32,
    until: u64,
    forget: u64,
}

/// The same rules, without any thought for cost. Times are milliseconds.
struct Naive {
    limits: Limits,
    now: u64,
    waiting: Vec<Item>,
    in_flight: Vec<(u8, u8)>,
    failures: HashMap<(u8, u8), Failures>,
}

impl Naive {
    fn free_from(&self, item: &Item) -> u64 {
        item.not_before.max(self.failures.get(&item.pair).map_or(0, |failures| failures.until))
    }

    fn has_places(&self, item: &Item) -> bool {
        let of_account = self.in_flight.iter().filter(|pair| pair.0 == item.pair.0).count();
        let of_name = self.in_flight.iter().filter(|pair| pair.1 == item.pair.1).count();
        of_account < self.limits.in_flight_per_account_max.get() && of_name < self.limits.in_flight_per_name_max.get()
    }

    fn may_begin(&self, item: &Item) -> bool {
        self.free_from(item) <= self.now && self.has_places(item)
    }

    fn bound(&self, account: u8) -> Option<Bound> {
        let of_account = self.waiting.iter().filter(|item| item.pair.0 == account).count();
        if self.waiting.len() >= self.limits.waiting_max {
            Some(Bound::Whole)
        } else {
            (of_account >= self.limits.waiting_per_account_max).then_some(Bound::Account)
        }
    }

    /// Checks what was given, and takes it out.
    fn given(&mut self, given: Option<usize>) {
        let Some(id) = given else {
            let blocked = self.waiting.iter().all(|item| !self.may_begin(item));
            assert!(blocked, "something may begin and is not given");
            return;
        };
        let position = self.waiting.iter().position(|item| item.id == id).expect("it waited");
        let item = self.waiting[position].clone();
        assert!(self.may_begin(&item), "{item:?} is blocked");
        let passed =
            self.waiting[..position].iter().any(|other| other.pair == item.pair && other.not_before <= self.now);
        assert!(!passed, "{item:?} passed another of its line");
        self.waiting.remove(position);
        self.in_flight.push(item.pair);
    }

    fn ended(&mut self, position: usize, failed: bool, random: u64) {
        let pair = self.in_flight.remove(position);
        if !failed {
            self.failures.remove(&pair);
            return;
        }
        let mut failures = self.failures.get(&pair).copied().filter(|f| f.forget > self.now).unwrap_or_default();
        failures.count += 1;
        let threshold = self.limits.failures_before_cool_down.get();
        if failures.count >= threshold {
            let wait = (8 << (failures.count - threshold).min(10)).min(64);
            failures.until = failures.until.max(self.now + wait * 3 / 4 + random % (wait / 2 + 1));
        }
        failures.forget = failures.until.max(self.now) + 64;
        self.failures.insert(pair, failures);
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn nothing_is_lost_given_twice_passed_or_held_up(limits in few(), ops in vec(op(), 0..250)) {
        let start = Instant::now();
        let mut line = Admission::new(limits.clone());
        let mut naive =
            Naive { limits, now: 0, waiting: Vec::new(), in_flight: Vec::new(), failures: HashMap::new() };
        let mut tickets: Vec<Ticket> = Vec::new();
        for (id, op) in ops.into_iter().enumerate() {
            let now = start + ms(naive.now);
            match op {
                Op::Push { account, name, delay_ms } => {
                    let not_before = delay_ms.map(|delay| naive.now + delay);
                    let pair = keys(&account.to_string(), &name.to_string());
                    let refused = line.push(id, pair, not_before.map(|at| start + ms(at))).err();
                    prop_assert_eq!(refused.map(|refused| refused.bound), naive.bound(account));
                    if naive.bound(account).is_none() {
                        naive.waiting.push(Item { id, pair: (account, name), not_before: not_before.unwrap_or(0) });
                    }
                }
                Op::Next => {
                    let given = line.next(now);
                    naive.given(given.as_ref().map(|(id, _)| *id));
                    if given.is_none() {
                        let could = naive.waiting.iter().filter(|item| naive.has_places(item));
                        if let Some(at) = could.map(|item| naive.free_from(item)).min() {
                            let wake = line.wake_at();
                            prop_assert!(wake.is_some_and(|wake| now < wake && wake <= start + ms(at)));
                        }
                    }
                    tickets.extend(given.map(|(_, ticket)| ticket));
                }
                Op::Ended { which, failed, random } if !tickets.is_empty() => {
                    let position = which.index(tickets.len());
                    line.ended(tickets.remove(position), ending(failed), now, random);
                    naive.ended(position, failed, random);
                }
                Op::Ended { .. } => {}
                Op::Pass { time_ms } => naive.now += time_ms,
                Op::Drain => {
                    let ids: Vec<usize> = std::mem::take(&mut naive.waiting).into_iter().map(|item| item.id).collect();
                    prop_assert_eq!(line.drain(), ids);
                }
            }
            prop_assert_eq!((line.waiting(), line.in_flight()), (naive.waiting.len(), tickets.len()));
        }
        // Everything ends, and nothing is left behind.
        // Each round carries one out at least, or 50 ms of the longest wait pass.
        for _ in 0..100 {
            for ticket in tickets.drain(..) {
                line.ended(ticket, Ending::Passed, start + ms(naive.now), 0);
                naive.ended(0, false, 0);
            }
            while let Some((id, ticket)) = line.next(start + ms(naive.now)) {
                naive.given(Some(id));
                tickets.push(ticket);
            }
            naive.now += 50;
        }
        for ticket in tickets {
            line.ended(ticket, Ending::Passed, start + ms(naive.now), 0);
        }
        line.cool_downs.expire(start + ms(naive.now + 1000));
        prop_assert!(naive.waiting.is_empty());
        prop_assert_eq!((line.pairs.len(), line.accounts.len(), line.names.len()), (0, 0, 0));
        prop_assert_eq!((line.turns.len(), line.timers.len(), line.cool_downs.len()), (0, 0, 0));
    }

    #[test]
    fn accounts_that_always_have_something_get_equal_shares(
        accounts in 1..7_usize,
        names in 1..4_usize,
        steps in vec((any::<bool>(), any::<Index>(), any::<bool>()), 1..300),
    ) {
        let now = Instant::now();
        let mut line = Admission::new(wide());
        let mut begun = vec![0_usize; accounts];
        let mut tickets: Vec<Ticket> = Vec::new();
        let push = |line: &mut Admission<usize>, account: usize, name: usize| {
            line.push(account, keys(&account.to_string(), &format!("{account}.{}", name % names)), None).unwrap();
        };
        for account in 0..accounts {
            push(&mut line, account, 0);
        }
        for (number, (end, which, failed)) in steps.into_iter().enumerate() {
            if end && !tickets.is_empty() {
                line.ended(tickets.remove(which.index(tickets.len())), ending(failed), now, 0);
                // Some push more than others.
                push(&mut line, which.index(accounts), number);
                continue;
            }
            let (account, ticket) = line.next(now).unwrap();
            begun[account] += 1;
            tickets.push(ticket);
            push(&mut line, account, number);
            // It left the turns with its only request, or stayed: either way it comes after all others.
            prop_assert!(begun.iter().max().unwrap() - begun.iter().min().unwrap() <= 1, "{begun:?}");
        }
    }
}

#[test]
fn h13_an_ending_that_says_nothing_changes_no_cool_down() {
    let limits = Limits { failures_before_cool_down: NonZeroU32::MIN, cool_down_ms: 1_000, ..wide() };
    let keys = || Keys { account: None, name: "a.example".into() };
    let start = Instant::now();
    for (ending, waits) in [(Ending::Neither, true), (Ending::Passed, false), (Ending::Failed, true)] {
        let mut line = Admission::new(limits.clone());
        for item in 0..3 {
            line.push(item, keys(), None).unwrap();
        }
        let (_, first) = line.next(start).unwrap();
        let (_, second) = line.next(start).unwrap();
        line.ended(first, Ending::Failed, start, 0);
        line.ended(second, ending, start, 0);
        assert_eq!(line.next(start).is_none(), waits, "{ending:?}");
    }
}
