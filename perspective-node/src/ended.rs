//! Tasks that have ended, for as long as somebody may ask for their packets.
//!
//! Whether a check is worth a closer look only its engine can say, once all perspectives have answered. Until then the
//! frames stay where they are, in the ring, and here is whom the task has talked with. Those of a task that saw a failure
//! are taken out of the ring at its end already: by the time somebody asks, others may have pushed them out.
//!
//! Invariant: there are never more than [`TASKS_MAX`] tasks here, nor more octets of captures than were given.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use parallax_protocol::AttemptId;
use parallax_ring::Flow;
use parallax_validation::base::Micros;
use rustc_hash::FxBuildHasher;

/// Tasks that are remembered.
const TASKS_MAX: usize = 65_536;
/// How long one is, milliseconds.
const REMEMBERED_MS: u64 = 60_000;

/// A task that has ended.
pub(crate) struct EndedTask {
    pub(crate) attempt: AttemptId,
    /// Until when it is remembered.
    until: Micros,
    /// When it began.
    pub(crate) began: Instant,
    /// Whom it has talked with.
    pub(crate) flows: Vec<Flow>,
    /// Its capture, if it was made when it ended.
    pub(crate) file: Option<Vec<u8>>,
}

pub(crate) struct EndedTasks {
    /// The first to end first.
    tasks: VecDeque<EndedTask>,
    /// The number of each; of several by one name the last.
    numbers: HashMap<AttemptId, u64, FxBuildHasher>,
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
    pub(crate) fn remember(
        &mut self,
        now: Micros,
        attempt: AttemptId,
        (began, flows): (Instant, Vec<Flow>),
        file: Option<Vec<u8>>,
    ) {
        while self.tasks.front().is_some_and(|oldest| self.tasks.len() >= TASKS_MAX || oldest.until <= now) {
            self.forget_oldest();
        }
        let file = file.filter(|file| file.len() <= self.octets_max);
        self.octets += file.as_ref().map_or(0, Vec::len);
        let until = now.plus_ms(REMEMBERED_MS);
        self.numbers.insert(attempt, self.first + self.tasks.len() as u64);
        self.tasks.push_back(EndedTask { attempt, until, began, flows, file });
        while self.octets > self.octets_max {
            self.forget_oldest();
        }
    }

    /// A task that ended not too long ago.
    pub(crate) fn find(&self, now: Micros, attempt: AttemptId) -> Option<&EndedTask> {
        let number = self.numbers.get(&attempt)?.checked_sub(self.first)?;
        let task = self.tasks.get(usize::try_from(number).ok()?)?;
        (task.until > now).then_some(task)
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.tasks.pop_front() else { return };
        self.octets -= oldest.file.map_or(0, |file| file.len());
        if self.numbers.get(&oldest.attempt) == Some(&self.first) {
            self.numbers.remove(&oldest.attempt);
        }
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_remembered_for_a_while_and_captures_up_to_a_bound() {
        let mut ended = EndedTasks::new(1000);
        let remember = |ended: &mut EndedTasks, now, attempt: u128, octets: usize| {
            let file = (octets > 0).then(|| vec![0; octets]);
            ended.remember(Micros(now), AttemptId(attempt), (Instant::now(), Vec::new()), file);
        };
        let found = |ended: &EndedTasks, now, attempt: u128| {
            ended.find(Micros(now), AttemptId(attempt)).map(|task| task.file.as_ref().map_or(0, Vec::len))
        };
        remember(&mut ended, 0, 1, 600);
        remember(&mut ended, 1, 2, 0);
        remember(&mut ended, 2, 3, 300);
        assert_eq!([1, 2, 3, 4].map(|attempt| found(&ended, 3, attempt)), [Some(600), Some(0), Some(300), None]);
        assert_eq!(found(&ended, REMEMBERED_MS * 1000, 1), None, "its time is over");
        remember(&mut ended, 3, 4, 200);
        assert_eq!([1, 2, 3, 4].map(|attempt| found(&ended, 4, attempt)), [None, Some(0), Some(300), Some(200)]);
        remember(&mut ended, 4, 5, 1001);
        assert_eq!(found(&ended, 5, 5), Some(0), "one that is too large pushes out nothing");
        remember(&mut ended, 5, 3, 100);
        assert_eq!(found(&ended, 6, 3), Some(100), "the last by its name");
        remember(&mut ended, 5 + REMEMBERED_MS * 1000, 6, 0);
        assert_eq!((ended.tasks.len(), ended.numbers.len(), ended.octets), (1, 1, 0));
        for attempt in 100..100 + 2 * TASKS_MAX as u128 {
            remember(&mut ended, u64::MAX / 2, attempt, 1);
        }
        assert!(ended.tasks.len() <= 1000 && ended.numbers.len() == ended.tasks.len());
    }

    #[test]
    fn only_so_many_tasks_are_remembered() {
        let mut ended = EndedTasks::new(0);
        for attempt in 0..2 * TASKS_MAX as u128 {
            ended.remember(Micros(0), AttemptId(attempt), (Instant::now(), Vec::new()), None);
        }
        assert_eq!((ended.tasks.len(), ended.numbers.len()), (TASKS_MAX, TASKS_MAX));
    }
}
