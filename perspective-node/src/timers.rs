//! When each task must be woken: a heap of deadlines. An entry that no longer holds is dropped when its
//! time comes, so that moving a deadline costs nothing.

use std::{cmp::Reverse, collections::BinaryHeap};

use parallax_validation::base::Micros;

/// A task's place in the worker's table, with the number that tells it from an earlier one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) index: usize,
    pub(crate) generation: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Micros, TaskKey)>>,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Micros, key: TaskKey) {
        self.heap.push(Reverse((at, key)));
    }

    pub(crate) fn next(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next task whose time has come.
    pub(crate) fn expired(&mut self, now: Micros) -> Option<TaskKey> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, key))| key)
    }
}
