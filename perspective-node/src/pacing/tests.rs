//! Servers of many kinds on a clock of their own.

use super::*;

/// How long a try waits.
const TRY_MS: u64 = 1_000;

const A: QuestionKind = QuestionKind { rtype: 1, over_tcp: false, mixed_case: false, edns: true };
const CAA: QuestionKind = QuestionKind { rtype: 257, ..A };

fn server(number: u16) -> IpAddr {
    Ipv4Addr::from(0xc633_0000 + u32::from(number)).into()
}

fn asker(number: usize) -> Asker {
    (TaskKey { index: number as u32, generation: 1 }, 0)
}

fn ms(ms: u64) -> Micros {
    Micros(ms * 1_000)
}

/// A generator as good as any, for tests.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// What a server does with a question: how many it works on, when it is, which question it is.
type Answers = fn(at_work: usize, now_ms: u64, number: usize) -> Option<u64>;

/// What came of many questions to one server.
#[derive(Debug, Default)]
struct Run {
    silent: usize,
    /// The most that it worked on at a time, what it drops left out.
    at_work_max: usize,
    /// The most that were under way.
    under_way_max: usize,
    took_ms: u64,
    /// Lowest and last.
    limit: (usize, usize),
}

/// Asks a server so many questions, all wanted at once; odd ones are of type CAA.
fn run(pacing: &mut Pacing, began_ms: u64, questions: usize, answers: Answers) -> Run {
    let at = server(1);
    let mut turns: Vec<Turn> = (0..questions).map(|n| pacing.ask(ms(began_ms), at, asker(n))).collect();
    let mut run = Run { limit: (usize::MAX, 0), ..Run::default() };
    let mut events: BTreeMap<(u64, usize), bool> = BTreeMap::new();
    let (mut now, mut at_work) = (began_ms, 0);
    let mut begin: Vec<usize> = (0..questions).filter(|n| !turns[*n].is_waited_for()).collect();
    loop {
        for number in begin.drain(..) {
            turns[number].begin_try(ms(now));
            let after = answers(at_work, now, number).filter(|after| *after < TRY_MS);
            at_work += usize::from(after.is_some());
            events.insert((now + after.unwrap_or(TRY_MS), number), after.is_some());
        }
        run.at_work_max = run.at_work_max.max(at_work);
        run.under_way_max = run.under_way_max.max(events.len());
        let Some(((then, number), answered)) = events.pop_first() else { break };
        now = then;
        let kind = if number % 2 == 1 { CAA } else { A };
        if answered {
            at_work -= 1;
            pacing.answered(ms(now), &turns[number], kind);
        } else {
            run.silent += 1;
            pacing.timed_out(ms(now), &turns[number], kind);
        }
        pacing.end(&turns[number]);
        begin.extend(std::iter::from_fn(|| pacing.poll()).map(|(key, _)| key.index()));
        let limit = pacing.servers[&at].limit;
        run.limit = (run.limit.0.min(limit), limit);
    }
    run.took_ms = now - began_ms;
    assert_is_idle(pacing);
    run
}

#[track_caller]
fn assert_is_idle(pacing: &mut Pacing) {
    assert_eq!(pacing.poll(), None);
    assert_eq!((pacing.under_way, pacing.ready.len()), (0, 0));
    assert!(pacing.servers.values().all(Server::is_idle));
}

/// Drops what exceeds 25.
const CAPPED: Answers = |at_work, _, _| (at_work < 25).then_some(50);

#[test]
fn ok_a_server_that_drops_what_exceeds_25_hardly_ever_has_to() {
    let all = run(&mut Pacing::new(1), 0, 20_000, CAPPED);
    assert!(all.silent > 0, "the limit was found by going beyond it: {all:?}");
    assert!(all.silent * 200 < 20_000 && all.under_way_max < 40, "{all:?}");
    // What is asked of it at first is less than that.
    let few = run(&mut Pacing::new(1), 0, 600, CAPPED);
    assert!(few.silent == 0 && few.at_work_max < 25 && few.took_ms < 2_500, "{few:?}");
}

#[test]
fn ok_a_dead_server_is_not_spared_for_long() {
    let all = run(&mut Pacing::new(1), 0, 400, |_, _, _| None);
    // Sixteen, sixteen, and the rest.
    assert_eq!((all.silent, all.took_ms, all.under_way_max, all.limit), (400, 3_000, 368, (16, 16)));
}

#[test]
fn ok_a_slow_server_gets_more_since_it_loses_nothing() {
    let all = run(&mut Pacing::new(1), 0, 2_000, |_, _, _| Some(900));
    assert_eq!((all.silent, all.limit.0), (0, 16));
    assert!(all.limit.1 > 30, "{all:?}");
    // No further than the bound, and that is shared by the workers.
    let quick: Answers = |_, _, _| Some(100);
    assert_eq!(run(&mut Pacing::new(1), 0, 100_000, quick).limit, (16, 128));
    assert_eq!(run(&mut Pacing::new(8), 0, 3_000, quick).limit, (2, 16));
    assert_eq!(run(&mut Pacing::new(1_000), 0, 1_000, quick).limit, (2, 2));
}

#[test]
fn ok_a_server_that_recovers_is_paced_again() {
    // It loses everything from the third second to the eighth, and is asked all the time.
    let pacing = &mut Pacing::new(1);
    let outage: Answers = |at_work, now, _| if (3_000..8_000).contains(&now) { None } else { CAPPED(at_work, now, 0) };
    let all = run(pacing, 0, 8_000, outage);
    // What was sent without pacing when it answered again is no loss, and is sent without pacing once.
    assert!(all.under_way_max == UNDER_WAY_MAX && all.limit.0 >= 8, "{all:?}");
    assert!(all.silent < 512 * 6 && all.took_ms > 15_000, "{all:?}");
    let later = run(pacing, 100_000, 4_000, CAPPED);
    assert!(later.silent * 100 < 4_000 && later.under_way_max < 40, "{later:?}");
    // It was silent when it was last asked.
    let pacing = &mut Pacing::new(1);
    assert_eq!(run(pacing, 0, 100, |_, _, _| None).silent, 100);
    let soon = run(pacing, 5_000, 100, |_, _, _| None);
    assert_eq!((soon.under_way_max, soon.took_ms), (100, 1_000), "nobody waits for it");
    let later = run(pacing, 20_000, 400, CAPPED);
    assert_eq!((later.silent, later.under_way_max), (0, 18));
}

#[test]
fn ok_what_is_lost_whatever_the_load_takes_nothing_from_the_limit() {
    // A firewall drops CAA.
    let all = run(&mut Pacing::new(1), 0, 2_000, |_, _, number| (number % 2 == 0).then_some(20));
    assert_eq!((all.silent, all.limit.0), (1_000, 16), "{all:?}");
    // The way there loses one in 250.
    let all = run(&mut Pacing::new(1), 0, 20_000, |_, _, number| (!number.is_multiple_of(251)).then_some(20));
    assert_eq!((all.silent, all.limit.0), (80, 16), "{all:?}");
}

#[test]
fn err_a_server_that_can_do_one_thing_at_a_time_is_asked_two() {
    let all = run(&mut Pacing::new(1), 0, 1_000, |at_work, _, _| (at_work < 1).then_some(50));
    assert_eq!(all.limit.0, LIMIT_MIN, "{all:?}");
    assert!(all.silent * 10 < 1_000, "{all:?}");
}

#[test]
fn tries_sent_before_a_halving_do_not_count_again() {
    let pacing = &mut Pacing::new(1);
    let turns: Vec<Turn> = (0..16).map(|n| pacing.ask(ms(0), server(1), asker(n))).collect();
    pacing.answered(ms(50), &turns[0], A);
    for turn in &turns[1..] {
        pacing.timed_out(ms(1_000), turn, A);
    }
    assert_eq!(pacing.servers[&server(1)].limit, 8);
    let mut again = turns;
    for turn in &mut again {
        turn.begin_try(ms(1_000));
    }
    // Of another kind nothing was answered; and then something was.
    pacing.timed_out(ms(2_000), &again[1], CAA);
    assert_eq!(pacing.servers[&server(1)].limit, 8);
    pacing.answered(ms(1_100), &again[0], A);
    pacing.timed_out(ms(2_000), &again[2], A);
    assert_eq!(pacing.servers[&server(1)].limit, 4);
}

#[test]
fn a_server_that_is_not_in_use_loses_nothing_of_its_limit() {
    let pacing = &mut Pacing::new(1);
    let one = pacing.ask(ms(0), server(1), asker(0));
    let two = pacing.ask(ms(0), server(1), asker(1));
    pacing.answered(ms(50), &one, A);
    pacing.timed_out(ms(1_000), &two, A);
    assert_eq!(pacing.servers[&server(1)].limit, 16);
}

#[test]
fn all_servers_together_are_asked_512_at_a_time_and_take_turns() {
    let pacing = &mut Pacing::new(1);
    let turns: Vec<Turn> = (0..640).map(|n| pacing.ask(ms(0), server(n % 40), asker(n.into()))).collect();
    assert_eq!(turns.iter().filter(|turn| !turn.is_waited_for()).count(), UNDER_WAY_MAX);
    assert_eq!((pacing.poll(), pacing.take_waited(), pacing.take_waited()), (None, 128, 0));
    for turn in &turns[..40] {
        pacing.end(turn);
    }
    // One of each server that somebody waits for, in the order in which they came.
    let next: Vec<usize> = std::iter::from_fn(|| pacing.poll()).map(|(key, _)| key.index()).collect();
    assert_eq!(next, (512..552).collect::<Vec<_>>());
    for turn in &turns[40..] {
        pacing.end(turn);
    }
    assert_is_idle(pacing);
}

#[test]
fn a_newcomer_does_not_go_before_those_in_line() {
    let pacing = &mut Pacing::new(1);
    let turns: Vec<Turn> = (0..600).map(|n| pacing.ask(ms(0), server(n % 40), asker(n.into()))).collect();
    let (first, rest) = turns.split_first().expect("turns");
    pacing.end(first);
    let fresh = pacing.ask(ms(1), server(1_000), asker(1_000));
    assert!(fresh.is_waited_for(), "others wait for the place that became free");
    assert_eq!(pacing.poll().map(|(key, _)| key.index()), Some(512));
    for turn in rest.iter().chain([&fresh]) {
        pacing.end(turn);
    }
    assert_is_idle(pacing);
}

#[test]
fn the_table_is_bounded_and_forgets() {
    let pacing = &mut Pacing::new(1);
    for number in 0..5_000 {
        let turn = pacing.ask(ms(number.into()), server(number), asker(0));
        pacing.end(&turn);
    }
    assert_eq!(pacing.servers.len(), SERVERS_MAX);
    assert!(!pacing.servers.contains_key(&server(903)) && pacing.servers.contains_key(&server(904)));
    // When all of them are wanted, further ones share a place without a limit.
    let mut turns: Vec<Turn> = (904..5_000).map(|n| pacing.ask(ms(6_000), server(n), asker(n.into()))).collect();
    let (of_table, further) = (turns.len(), 100);
    turns.extend((0..further).map(|n| pacing.ask(ms(6_000), server(n), asker(n.into()))));
    assert_eq!(pacing.servers.len(), SERVERS_MAX + 1);
    for turn in &turns[..of_table] {
        pacing.end(turn);
    }
    let polled = std::iter::from_fn(|| pacing.poll()).count();
    assert_eq!(polled, usize::from(further));
    for turn in &turns[of_table..] {
        pacing.timed_out(ms(7_000), turn, A);
        pacing.end(turn);
    }
    assert_is_idle(pacing);
    assert_eq!((pacing.servers[&OTHERS].limit, pacing.servers[&OTHERS].silent), (usize::MAX, 0));
    // What was learnt goes stale.
    let all = run(pacing, 10_000, 1_000, |at_work, _, _| (at_work < 1).then_some(50));
    assert!(all.limit.1 < 16, "{all:?}");
    let turn = pacing.ask(ms(2_000_000), server(1), asker(0));
    assert_eq!(pacing.servers[&server(1)].limit, 16);
    pacing.end(&turn);
}

#[test]
fn no_turn_is_lost_whatever_happens_in_whatever_order() {
    for seed in 0..60 {
        let state = &mut (seed + 1);
        let pacing = &mut Pacing::new(1 + seed as u16 % 3);
        let mut turns: Vec<(usize, Turn)> = Vec::new();
        let mut now = 0;
        for number in 0..6_000 {
            now += draw(state) % 40;
            let at = (draw(state) as usize).checked_rem(turns.len());
            match (draw(state) % 6, at) {
                (0 | 1, _) | (_, None) => {
                    let turn = pacing.ask(ms(now), server(draw(state) as u16 % 50), asker(number));
                    turns.push((number, turn));
                }
                (2, Some(at)) if !turns[at].1.is_waited_for() => pacing.answered(ms(now), &turns[at].1, A),
                (3, Some(at)) if !turns[at].1.is_waited_for() => pacing.timed_out(ms(now), &turns[at].1, A),
                // Its query ended, or its task while it waited.
                (4, Some(at)) => pacing.end(&turns.swap_remove(at).1),
                _ => {
                    while let Some((key, _)) = pacing.poll() {
                        let turn = turns.iter_mut().find(|(number, _)| *number == key.index());
                        turn.expect("who is named waits").1.begin_try(ms(now));
                    }
                    let full = pacing.under_way == UNDER_WAY_MAX;
                    let held = |server: &Server| server.waiting.is_empty() || !server.has_room();
                    assert!(full || pacing.servers.values().all(held), "seed {seed}: somebody waits for nothing");
                }
            }
            let under_way = turns.iter().filter(|(_, turn)| !turn.is_waited_for()).count();
            assert!(pacing.under_way <= UNDER_WAY_MAX && pacing.under_way == under_way, "seed {seed}");
        }
        for (_, turn) in turns {
            pacing.end(&turn);
        }
        assert_is_idle(pacing);
    }
}
