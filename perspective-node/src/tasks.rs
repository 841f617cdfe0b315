//! The tasks a worker has begun, by index, guarded by a generation.
//!
//! Leaves out what a task is. Each has a box of its own, so that the table is small and grows without moving them.
//! Boxes of tasks that have ended are used again, the last first: their memory is still near, where the allocator
//! would hand out what was freed long ago.
//!
//! Invariant: a generation is given out once, so the key of a task that has ended finds nothing.

use slab::Slab;

/// A task's place in the table, with the number that tells it from an earlier one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) index: usize,
    pub(crate) generation: u64,
}

/// Empty boxes that are kept; more go back to the allocator.
const SPARE_MAX: usize = 4096;

pub(crate) struct Tasks<T> {
    table: Slab<(u64, Box<Option<T>>)>,
    spare: Vec<Box<Option<T>>>,
    generation: u64,
}

impl<T> Tasks<T> {
    pub(crate) fn new() -> Self {
        Self { table: Slab::new(), spare: Vec::new(), generation: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn insert(&mut self, task: T) -> TaskKey {
        self.generation += 1;
        let mut place = self.spare.pop().unwrap_or_default();
        *place = Some(task);
        let index = self.table.insert((self.generation, place));
        TaskKey { index, generation: self.generation }
    }

    pub(crate) fn get(&mut self, key: TaskKey) -> Option<&mut T> {
        let (generation, place) = self.table.get_mut(key.index)?;
        if *generation == key.generation { place.as_mut().as_mut() } else { None }
    }

    /// The key of the task that has an index now.
    pub(crate) fn key_at(&self, index: usize) -> Option<TaskKey> {
        self.table.get(index).map(|(generation, _)| TaskKey { index, generation: *generation })
    }

    /// Drops a task where it is. Gives whether there was one.
    pub(crate) fn remove(&mut self, key: TaskKey) -> bool {
        if self.table.get(key.index).is_none_or(|(generation, _)| *generation != key.generation) {
            return false;
        }
        let (_, mut place) = self.table.remove(key.index);
        *place = None;
        if self.spare.len() < SPARE_MAX {
            self.spare.push(place);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_task_that_has_ended_finds_nothing() {
        let mut tasks = Tasks::new();
        let first = tasks.insert("first");
        assert_eq!(tasks.get(first), Some(&mut "first"));
        assert!(tasks.remove(first));
        assert!(!tasks.remove(first));
        assert_eq!(tasks.get(first), None);
        assert_eq!(tasks.len(), 0);
        let second = tasks.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!(tasks.get(first), None);
        assert_eq!(tasks.key_at(first.index), Some(second));
        assert_eq!(tasks.get(second), Some(&mut "second"));
    }

    #[test]
    fn boxes_are_used_again_and_only_so_many_kept() {
        let mut tasks = Tasks::new();
        let keys: Vec<TaskKey> = (0..SPARE_MAX + 10).map(|n| tasks.insert(n)).collect();
        for key in keys {
            assert!(tasks.remove(key));
        }
        assert_eq!(tasks.spare.len(), SPARE_MAX);
        tasks.insert(1);
        assert_eq!(tasks.spare.len(), SPARE_MAX - 1);
    }
}
