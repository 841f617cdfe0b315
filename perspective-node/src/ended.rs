//! Tasks that have ended, for as long as somebody may ask for their packets.
//!
//! Whether a check is worth a closer look only its engine can say, once all perspectives have answered. Until then the
//! frames stay where they are, in the ring, and here is whom the task has talked with. Those of a task that saw a failure
//! are taken out of the ring at its end already: by the time somebody asks, others may have pushed them out.
//!
//! Invariant: the packets of a task are given once, and only to who gave the task.
//! Invariant: there are never more than [`TASKS_MAX`] tasks here, nor more octets of captures than were given.

use std::collections::{HashMap, VecDeque};

use parallax_protocol::AttemptId;
use parallax_ring::FlowSpan;
use parallax_validation::base::Micros;
use rustc_hash::FxBuildHasher;

use crate::node::Owner;

/// Tasks that are remembered.
const TASKS_MAX: usize = 65_536;
/// How long one is, milliseconds.
const REMEMBERED_MS: u64 = 60_000;

/// Whose a task was, and its attempt: owners know nothing of each other, and may have attempts of one name.
pub(crate) type EndedName = (Owner, AttemptId);

/// The packets of a task that has ended.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Whom it has talked with, and when.
    pub(crate) flows: Vec<FlowSpan>,
    /// Its capture, if it was made when it ended.
    pub(crate) file: Option<Vec<u8>>,
}

struct EndedTask {
    name: EndedName,
    /// Until when it is remembered.
    until: Micros,
    remains: Remains,
}

impl EndedTask {
    fn octets(&self) -> usize {
        self.remains.file.as_ref().map_or(0, Vec::len)
    }
}

pub(crate) struct EndedTasks {
    /// The first to end first.
    tasks: VecDeque<EndedTask>,
    /// The number of each; of several by one name the last.
    numbers: HashMap<EndedName, u64, FxBuildHasher>,
    /// The number of the first.
    first: u64,
    octets: usize,
    octets_max: usize,
}

impl EndedTasks {
    /// Keeps so many octets of captures.
    pub(crate) fn new(octets_max: usize) -> Self {
        Self { tasks: VecDeque::new(), numbers: HashMap::default(), first: 0, octets: 0, octets_max }
    }

    /// Remembers a task that ends now.
    pub(crate) fn remember(&mut self, now: Micros, name: EndedName, Remains { flows, file }: Remains) {
        while self.tasks.front().is_some_and(|oldest| self.tasks.len() >= TASKS_MAX || oldest.until <= now) {
            self.forget_oldest();
        }
        let file = file.filter(|file| file.len() <= self.octets_max);
        self.octets += file.as_ref().map_or(0, Vec::len);
        let until = now.plus_ms(REMEMBERED_MS);
        self.numbers.insert(name, self.first + self.tasks.len() as u64);
        self.tasks.push_back(EndedTask { name, until, remains: Remains { flows, file } });
        while self.octets > self.octets_max {
            self.forget_oldest();
        }
    }

    /// Takes what is left of a task that ended not too long ago.
    pub(crate) fn take(&mut self, now: Micros, name: EndedName) -> Option<Remains> {
        let number = self.numbers.remove(&name)?.checked_sub(self.first)?;
        let task = self.tasks.get_mut(usize::try_from(number).ok()?)?;
        self.octets -= task.octets();
        let remains = std::mem::take(&mut task.remains);
        (task.until > now).then_some(remains)
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.tasks.pop_front() else { return };
        self.octets -= oldest.octets();
        if self.numbers.get(&oldest.name) == Some(&self.first) {
            self.numbers.remove(&oldest.name);
        }
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Owner = Owner::HOLDER;

    fn remember(ended: &mut EndedTasks, now: u64, name: (Owner, u128), octets: usize) {
        let file = (octets > 0).then(|| vec![0; octets]);
        ended.remember(Micros(now), (name.0, AttemptId(name.1)), Remains { flows: Vec::new(), file });
    }

    /// Octets of a capture that is taken.
    fn take(ended: &mut EndedTasks, now: u64, name: (Owner, u128)) -> Option<usize> {
        let remains = ended.take(Micros(now), (name.0, AttemptId(name.1)))?;
        Some(remains.file.map_or(0, |file| file.len()))
    }

    #[test]
    fn a_task_is_remembered_for_a_while_and_captures_up_to_a_bound() {
        let filled = || {
            let mut ended = EndedTasks::new(1000);
            for (attempt, octets) in [(1, 600), (2, 0), (3, 300)] {
                remember(&mut ended, attempt as u64 - 1, (ONE, attempt), octets);
            }
            ended
        };
        let all = |mut ended: EndedTasks, now| [1, 2, 3, 4].map(|attempt| take(&mut ended, now, (ONE, attempt)));
        assert_eq!(all(filled(), 3), [Some(600), Some(0), Some(300), None]);
        assert_eq!(all(filled(), REMEMBERED_MS * 1000), [None, Some(0), Some(300), None], "the first's time is over");
        let mut ended = filled();
        remember(&mut ended, 3, (ONE, 4), 200);
        assert_eq!(all(ended, 4), [None, Some(0), Some(300), Some(200)]);
        let mut ended = filled();
        remember(&mut ended, 4, (ONE, 5), 1001);
        assert_eq!(take(&mut ended, 5, (ONE, 5)), Some(0), "one that is too large pushes out nothing");
        remember(&mut ended, 5, (ONE, 3), 100);
        assert_eq!(take(&mut ended, 6, (ONE, 3)), Some(100), "the last by its name");
        remember(&mut ended, 5 + REMEMBERED_MS * 1000, (ONE, 6), 0);
        assert_eq!((ended.tasks.len(), ended.numbers.len(), ended.octets), (1, 1, 0));
        for attempt in 100..100 + 2 * TASKS_MAX as u128 {
            remember(&mut ended, u64::MAX / 2, (ONE, attempt), 1);
        }
        assert!(ended.tasks.len() <= 1000 && ended.numbers.len() == ended.tasks.len());
    }

    #[test]
    fn packets_are_given_once_and_leave_room_for_others() {
        let mut ended = EndedTasks::new(1000);
        remember(&mut ended, 0, (ONE, 1), 600);
        assert_eq!([take(&mut ended, 1, (ONE, 1)), take(&mut ended, 1, (ONE, 1))], [Some(600), None]);
        remember(&mut ended, 1, (ONE, 2), 600);
        remember(&mut ended, 1, (ONE, 3), 400);
        assert_eq!([take(&mut ended, 1, (ONE, 2)), take(&mut ended, 1, (ONE, 3))], [Some(600), Some(400)]);
        remember(&mut ended, 2 + REMEMBERED_MS * 1000, (ONE, 4), 0);
        assert_eq!((ended.tasks.len(), ended.numbers.len(), ended.octets), (1, 1, 0));
    }

    #[test]
    fn packets_are_for_who_gave_the_task_alone() {
        let mut ended = EndedTasks::new(1000);
        let other = Owner::session(1);
        remember(&mut ended, 0, (ONE, 1), 10);
        assert_eq!(take(&mut ended, 1, (other, 1)), None, "whoever knows an attempt");
        remember(&mut ended, 1, (other, 1), 20);
        assert_eq!(take(&mut ended, 2, (ONE, 1)), Some(10), "nobody is in another's way");
        assert_eq!(take(&mut ended, 2, (other, 1)), Some(20));
    }

    #[test]
    fn only_so_many_tasks_are_remembered() {
        let mut ended = EndedTasks::new(0);
        for attempt in 0..2 * TASKS_MAX as u128 {
            remember(&mut ended, 0, (ONE, attempt), 0);
        }
        assert_eq!((ended.tasks.len(), ended.numbers.len()), (TASKS_MAX, TASKS_MAX));
    }
}
