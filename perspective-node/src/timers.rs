//! When each task must be woken: a wheel of milliseconds, with a list of tasks in each.
//!
//! A task has one time. Setting, moving and forgetting it cost the same however many there are, and what has
//! ended leaves nothing behind; nearly every task ends long before its time.
//!
//! Invariants: nobody is woken early, or more than one tick late; a task is in at most one list.

use parallax_validation::base::Micros;

/// How late a task may be woken.
const TICK_US: u64 = 1000;
/// Sixteen seconds in all; what is further away is looked at again when they have passed.
const SLOTS: usize = 1 << 14;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    at: Micros,
    /// The list it is in; `NONE` if it is in none.
    slot: u32,
    previous: u32,
    next: u32,
}

const IDLE: Node = Node { at: Micros(0), slot: NONE, previous: NONE, next: NONE };

#[derive(Debug)]
pub(crate) struct Timers {
    /// First task of each list.
    heads: Box<[u32]>,
    /// A bit for each list that is not empty.
    used: Box<[u64]>,
    /// By the task's index.
    nodes: Vec<Node>,
    /// The first tick that is not over.
    tick: u64,
    waiting: usize,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heads: vec![NONE; SLOTS].into(),
            used: vec![0; SLOTS / 64].into(),
            nodes: Vec::new(),
            tick: 0,
            waiting: 0,
        }
    }
}

impl Timers {
    /// Sets or moves the time of the task at `index`.
    pub(crate) fn set(&mut self, at: Micros, index: usize) {
        self.clear(index);
        if self.nodes.len() <= index {
            self.nodes.resize(index + 1, IDLE);
        }
        let tick = (at.0 / TICK_US).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        let slot = tick as usize % SLOTS;
        let next = std::mem::replace(&mut self.heads[slot], index as u32);
        if next != NONE {
            self.nodes[next as usize].previous = index as u32;
        }
        self.nodes[index] = Node { at, slot: slot as u32, previous: NONE, next };
        self.used[slot / 64] |= 1 << (slot % 64);
        self.waiting += 1;
    }

    /// Forgets the task at `index`.
    pub(crate) fn clear(&mut self, index: usize) {
        let Some(node) = self.nodes.get_mut(index).filter(|node| node.slot != NONE) else { return };
        let Node { slot, previous, next, .. } = std::mem::replace(node, IDLE);
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
        } else {
            let slot = slot as usize;
            self.heads[slot] = next;
            if next == NONE {
                self.used[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.waiting -= 1;
    }

    /// When to look for expired tasks next: the end of the first tick that has any.
    pub(crate) fn next(&self) -> Option<Micros> {
        self.first_used().map(|tick| Micros((tick + 1) * TICK_US))
    }

    /// The first tick, not before the current one, whose list is not empty.
    fn first_used(&self) -> Option<u64> {
        if self.waiting == 0 {
            return None;
        }
        let start = self.tick as usize % SLOTS;
        let (word, bit) = (start / 64, start % 64);
        let words = self.used.len();
        // The first word once from the current slot on, the others, and the rest of the first.
        (0..=words).find_map(|step| {
            let at = (word + step) % words;
            let mask = match step {
                0 => u64::MAX << bit,
                _ if step == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let bits = self.used[at] & mask;
            let slot = at * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| self.tick + ((slot + SLOTS - start) % SLOTS) as u64)
        })
    }

    /// The next task whose time has come; its time is forgotten.
    pub(crate) fn expired(&mut self, now: Micros) -> Option<usize> {
        let current = now.0 / TICK_US;
        while let Some(tick) = self.first_used().filter(|tick| *tick < current) {
            self.tick = tick;
            let index = self.heads[tick as usize % SLOTS] as usize;
            let at = self.nodes[index].at;
            self.clear(index);
            if at.0 / TICK_US < current {
                return Some(index);
            }
            self.set(at, index);
        }
        self.tick = self.tick.max(current);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn ms(ms: u64) -> Micros {
        Micros(ms * 1000)
    }

    /// A generator as good as any, for tests.
    fn draw(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn nobody_is_woken_early_or_more_than_a_tick_late_whatever_is_set_moved_and_forgotten() {
        for seed in 0..40 {
            let mut state = seed;
            let mut timers = Timers::default();
            // When, and from when on it is late: what is set for the past is due at once.
            let mut expected: HashMap<usize, (u64, u64)> = HashMap::new();
            let mut now = 0;
            for _ in 0..4000 {
                let index = draw(&mut state) as usize % 50;
                match draw(&mut state) % 4 {
                    0 => {
                        expected.remove(&index);
                        timers.clear(index);
                    }
                    1 | 2 => {
                        // Within a tick, within the wheel, and beyond it; or past already.
                        let spans = [2_000, 3_000_000, 40_000_000];
                        let at = now + draw(&mut state) % spans[draw(&mut state) as usize % 3];
                        let at = at.saturating_sub(500);
                        expected.insert(index, (at, at.max(now)));
                        timers.set(Micros(at), index);
                    }
                    _ => now += draw(&mut state) % [500, 20_000, 20_000_000][draw(&mut state) as usize % 3],
                }
                while let Some(index) = timers.expired(Micros(now)) {
                    let (at, _) = expected.remove(&index).expect("set");
                    assert!(at <= now, "seed {seed}: {at} at {now}");
                }
                for (index, (at, due)) in &expected {
                    assert!(due / TICK_US + 1 > now / TICK_US, "seed {seed}: task {index} of {at} sleeps at {now}");
                }
                let first = expected.values().map(|(at, _)| at / TICK_US).min();
                let next = timers.next().map(|next| next.0 / TICK_US - 1);
                assert_eq!(next.is_some(), first.is_some(), "seed {seed}");
                // Not later than the first; earlier only to look again at what was beyond the wheel.
                assert!(next <= first.map(|tick| tick.max(now / TICK_US)), "seed {seed}: {next:?}, {first:?}");
            }
        }
    }

    #[test]
    fn the_wait_ends_when_the_tick_has_passed() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        timers.set(Micros(5_300), 3);
        assert_eq!(timers.next(), Some(ms(6)));
        assert_eq!(timers.expired(Micros(5_999)), None);
        assert_eq!(timers.expired(ms(6)), Some(3));
        assert_eq!(timers.expired(ms(6)), None);
        assert_eq!(timers.next(), None);
    }
}
