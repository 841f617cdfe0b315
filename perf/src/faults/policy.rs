//! What becomes of a frame, and when: a pure function of the rules, the seed and the frames before.
//!
//! Invariant: each frame takes as many numbers from its direction's source of chance, whatever the rules, so that the
//! same frame is lost whether or not others are doubled; and the same seed does the same.
//!
//! Left out: what moves frames ([`super::forward`]).

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::Serialize;

use super::{
    forge,
    rules::{Impairment, Rules},
};

/// Of the Ethernet header (IEEE 802.3), which the size of a packet does not count.
pub const ETHERNET_HEADER: usize = 14;

/// One of both interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The first.
    A,
    /// The second.
    B,
}

impl End {
    /// Where what comes in here leaves.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A frame to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// When, since the start.
    pub at: Duration,
    /// By which interface.
    pub by: End,
    /// From the Ethernet header on.
    pub frame: Vec<u8>,
}

/// What was done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Frames that came in.
    pub received: u64,
    /// Of them, those that vanished by chance.
    pub lost: u64,
    /// Those that were too large.
    pub vanished: u64,
    /// Those that found the queue full.
    pub overflowed: u64,
    /// Those that come twice.
    pub doubled: u64,
    /// Those that are held back.
    pub held_back: u64,
    /// DNS questions that forged answers were sent to.
    pub questions: u64,
    /// Forged DNS answers.
    pub forged_answers: u64,
    /// Forged TCP resets.
    pub forged_resets: u64,
}

/// One direction.
#[derive(Debug)]
struct Direction {
    rules: Impairment,
    chance: StdRng,
    /// When the wire is free.
    free: Duration,
    /// When the last frame that keeps the order arrives.
    last: Duration,
}

/// The rules, with what must be remembered of frames before.
#[derive(Debug)]
pub struct Policy {
    rules: Rules,
    from_a: Direction,
    from_b: Direction,
    guesses: StdRng,
    counts: Counts,
}

fn ms(value: f64) -> Duration {
    Duration::from_secs_f64(value / 1000.0)
}

impl Policy {
    /// A policy that has seen nothing yet. The rules are those of [`Rules::checked`].
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let chance = |stream: u64| StdRng::seed_from_u64(rules.seed.wrapping_mul(4).wrapping_add(stream));
        let direction = |own: &Option<Impairment>, stream| Direction {
            rules: own.clone().unwrap_or_else(|| rules.both.clone()),
            chance: chance(stream),
            free: Duration::ZERO,
            last: Duration::ZERO,
        };
        let (from_a, from_b) = (direction(&rules.from_a, 0), direction(&rules.from_b, 1));
        Self { from_a, from_b, guesses: chance(2), rules, counts: Counts::default() }
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A frame has come in: what is to be sent of it and because of it. `now` never goes back.
    pub fn handle(&mut self, now: Duration, at: End, frame: &[u8]) -> Vec<Outgoing> {
        self.counts.received += 1;
        let mut outgoing = self.forged(now, at, frame);
        let direction = match at {
            End::A => &mut self.from_a,
            End::B => &mut self.from_b,
        };
        let arrivals = direction.pass(now, frame.len(), &mut self.counts);
        let whole = |at_time| Outgoing { at: at_time, by: at.other(), frame: frame.to_vec() };
        outgoing.extend(arrivals.into_iter().map(whole));
        outgoing
    }

    /// Frames back to who sent this one.
    fn forged(&mut self, now: Duration, at: End, frame: &[u8]) -> Vec<Outgoing> {
        let rules = &self.rules.forge;
        let mut frames = Vec::new();
        if !rules.answers.is_empty()
            && let Some(question) = forge::Question::read(frame, &rules.dns_ports)
        {
            self.counts.questions += 1;
            for forgery in &rules.answers {
                frames.extend(question.answers(*forgery, rules, &mut self.guesses));
            }
            self.counts.forged_answers += frames.len() as u64;
        }
        if rules.resets {
            let resets = forge::resets(frame);
            self.counts.forged_resets += resets.len() as u64;
            frames.extend(resets);
        }
        frames.into_iter().map(|frame| Outgoing { at: now, by: at, frame }).collect()
    }
}

impl Direction {
    /// When a frame arrives: not at all, once or twice.
    fn pass(&mut self, now: Duration, octets: usize, counts: &mut Counts) -> Vec<Duration> {
        let [lost, doubled, held_back, jitter]: [f64; 4] = std::array::from_fn(|_| self.chance.random());
        let rules = &self.rules;
        if rules.vanish_above_octets.is_some_and(|most| octets > most + ETHERNET_HEADER) {
            counts.vanished += 1;
            return Vec::new();
        }
        if lost < rules.loss {
            counts.lost += 1;
            return Vec::new();
        }
        let mut leaves = now;
        if let Some(rate) = rules.octets_per_second {
            let begins = self.free.max(now);
            if begins - now > ms(rules.queue_ms) {
                counts.overflowed += 1;
                return Vec::new();
            }
            leaves = begins + Duration::from_secs_f64(octets as f64 / rate as f64);
            self.free = leaves;
        }
        let arrives = leaves + ms(rules.delay_ms) + ms(rules.jitter_ms * jitter);
        let first = if held_back < rules.reorder {
            counts.held_back += 1;
            arrives + ms(rules.reorder_ms)
        } else {
            self.last = self.last.max(arrives);
            self.last
        };
        if doubled < rules.duplicate {
            counts.doubled += 1;
            return vec![first, first];
        }
        vec![first]
    }
}

/// Frames that wait for their time, in its order; of one time, in the order they came.
#[derive(Debug, Default)]
pub struct Schedule {
    waiting: BinaryHeap<Reverse<Waiting>>,
    added: u64,
    octets: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    at: Duration,
    number: u64,
    by: End,
    frame: Vec<u8>,
}

impl Schedule {
    /// Adds a frame.
    pub fn add(&mut self, outgoing: Outgoing) {
        self.octets += outgoing.frame.len();
        let Outgoing { at, by, frame } = outgoing;
        self.waiting.push(Reverse(Waiting { at, number: self.added, by, frame }));
        self.added += 1;
    }

    /// The next frame whose time has come.
    pub fn take_due(&mut self, now: Duration) -> Option<(End, Vec<u8>)> {
        self.next().filter(|at| *at <= now)?;
        let Reverse(waiting) = self.waiting.pop()?;
        self.octets -= waiting.frame.len();
        Some((waiting.by, waiting.frame))
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.at)
    }

    /// Octets of all that wait.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn policy(both: Impairment) -> Policy {
        Policy::new(Rules { seed: 5, both, ..Rules::default() }.checked().expect("good rules"))
    }

    /// Sends frames numbered from 0, one every millisecond, and tells when which arrives, in the order of arrival.
    fn played(policy: &mut Policy, frames: u32, octets: usize) -> Vec<(Duration, u32)> {
        let mut schedule = Schedule::default();
        for number in 0..frames {
            let mut frame = vec![0; octets];
            frame[..4].copy_from_slice(&number.to_be_bytes());
            policy.handle(MS * number, End::A, &frame).into_iter().for_each(|outgoing| schedule.add(outgoing));
        }
        let mut arrivals = Vec::new();
        while let Some(now) = schedule.next() {
            let (by, frame) = schedule.take_due(now).expect("it is due");
            assert_eq!(by, End::B);
            arrivals.push((now, u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]])));
        }
        assert_eq!(schedule.octets(), 0);
        arrivals
    }

    #[test]
    fn ok_without_rules_everything_passes_at_once_and_in_order() {
        let arrivals = played(&mut policy(Impairment::default()), 100, 60);
        assert_eq!(arrivals, (0..100).map(|number| (MS * number, number)).collect::<Vec<_>>());
    }

    #[test]
    fn ok_the_same_seed_does_the_same_and_another_one_does_not() {
        let rules = Impairment { loss: 0.3, duplicate: 0.2, reorder: 0.1, reorder_ms: 9.0, ..Impairment::default() };
        let of_seed = |seed| {
            let mut policy = Policy::new(Rules { seed, both: rules.clone(), ..Rules::default() });
            played(&mut policy, 500, 60)
        };
        assert_eq!(of_seed(1), of_seed(1));
        assert_ne!(of_seed(1), of_seed(2));
    }

    #[test]
    fn ok_as_many_are_lost_as_the_share_says_and_the_same_ones_whatever_else_is_done() {
        let loss = Impairment { loss: 0.05, ..Impairment::default() };
        let mut alone = policy(loss.clone());
        let arrivals = played(&mut alone, 10_000, 60);
        let lost = alone.counts().lost;
        // 500 with a standard deviation of 22.
        assert!((400..600).contains(&lost) && arrivals.len() as u64 == 10_000 - lost, "{lost}");
        let mut with_delay = policy(Impairment { delay_ms: 3.0, jitter_ms: 2.0, ..loss });
        let numbers = |arrivals: Vec<(Duration, u32)>| arrivals.into_iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(numbers(played(&mut with_delay, 10_000, 60)), numbers(arrivals));
    }

    #[test]
    fn ok_delay_and_jitter_stay_in_their_bounds_and_keep_the_order() {
        let mut policy = policy(Impairment { delay_ms: 20.0, jitter_ms: 10.0, ..Impairment::default() });
        let arrivals = played(&mut policy, 1000, 60);
        assert!(arrivals.is_sorted_by_key(|(_, number)| *number));
        for (at, number) in &arrivals {
            assert!((MS * (number + 20)..=MS * (number + 30)).contains(at), "{number} at {at:?}");
        }
        assert!(arrivals.windows(2).any(|two| two[1].0 - two[0].0 != MS), "the jitter is not the same for all");
    }

    #[test]
    fn ok_what_is_held_back_is_overtaken_and_what_is_doubled_comes_twice() {
        let mut reorder = policy(Impairment { reorder: 0.2, reorder_ms: 5.5, ..Impairment::default() });
        let arrivals = played(&mut reorder, 1000, 60);
        let overtaken = arrivals.windows(2).filter(|two| two[0].1 > two[1].1).count();
        assert!((100..250).contains(&overtaken), "{overtaken}");
        assert_eq!(arrivals.len(), 1000);
        let mut double = policy(Impairment { duplicate: 0.1, ..Impairment::default() });
        let arrivals = played(&mut double, 1000, 60);
        let doubled = arrivals.windows(2).filter(|two| two[0].1 == two[1].1).count();
        assert_eq!(doubled as u64, double.counts().doubled);
        assert!((60..140).contains(&doubled), "{doubled}");
    }

    #[test]
    fn ok_a_slow_wire_spaces_frames_out_and_drops_what_its_queue_does_not_hold() {
        // A frame of 1000 octets takes 4 ms, and one comes each millisecond.
        let slow = Impairment { octets_per_second: Some(250_000), queue_ms: 40.0, ..Impairment::default() };
        let mut policy = policy(slow);
        let arrivals = played(&mut policy, 200, 1000);
        assert!(arrivals.windows(2).all(|two| two[1].0 - two[0].0 >= MS * 4));
        assert!(arrivals.iter().all(|(at, number)| *at - MS * *number <= MS * 44), "{arrivals:?}");
        assert_eq!(policy.counts().overflowed, 200 - arrivals.len() as u64);
        // What 200 ms carry, and what the queue holds at their end.
        assert!((55..=62).contains(&arrivals.len()), "{}", arrivals.len());
    }

    #[test]
    fn ok_packets_above_a_size_vanish_and_only_those() {
        let rules = Impairment { vanish_above_octets: Some(600), ..Impairment::default() };
        let mut policy = policy(rules);
        assert_eq!(policy.handle(Duration::ZERO, End::B, &[0; 614]).len(), 1);
        assert_eq!(policy.handle(Duration::ZERO, End::B, &[0; 615]).len(), 0);
        assert_eq!(policy.counts().vanished, 1);
    }

    #[test]
    fn ok_a_direction_has_rules_of_its_own() {
        let all = Impairment { loss: 1.0, ..Impairment::default() };
        let mut policy = Policy::new(Rules { from_b: Some(all), ..Rules::default() });
        assert_eq!(policy.handle(Duration::ZERO, End::A, &[0; 60]).len(), 1);
        assert_eq!(policy.handle(Duration::ZERO, End::B, &[0; 60]).len(), 0);
    }
}
