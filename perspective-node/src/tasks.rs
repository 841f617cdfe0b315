//! The tasks a worker has begun, by index, guarded by a generation.
//!
//! Leaves out what a task is. Each has a box of its own, so that the table is small and grows without moving them.
//! Boxes of tasks that have ended are used again, the last first: their memory is still near, where the allocator
//! would hand out what was freed long ago.
//!
//! Invariant: the key of a task that has ended finds nothing. A generation comes again after 2^32 tasks, when no key of
//! the first is left: one is held by what a task has under way, which ends with it, or for one turn of the loop.

use slab::Slab;

/// A task's place in the table, with the number that tells it from an earlier one there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TaskKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl TaskKey {
    /// Its place, in tables of what belongs to tasks.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

/// Empty boxes that are kept; more go back to the allocator.
const SPARE_MAX: usize = 4096;

pub(crate) struct Tasks<T> {
    table: Slab<(u32, Box<Option<T>>)>,
    spare: Vec<Box<Option<T>>>,
    generation: u32,
}

impl<T> Tasks<T> {
    pub(crate) fn new() -> Self {
        Self { table: Slab::new(), spare: Vec::new(), generation: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn insert(&mut self, task: T) -> TaskKey {
        self.generation = self.generation.wrapping_add(1);
        let mut place = self.spare.pop().unwrap_or_default();
        *place = Some(task);
        // So many tasks would not find room in memory.
        let index = self.table.insert((self.generation, place)) as u32;
        TaskKey { index, generation: self.generation }
    }

    pub(crate) fn get(&mut self, key: TaskKey) -> Option<&mut T> {
        let (generation, place) = self.table.get_mut(key.index())?;
        if *generation == key.generation { place.as_mut().as_mut() } else { None }
    }

    /// The key of the task that has an index now.
    pub(crate) fn key_at(&self, index: usize) -> Option<TaskKey> {
        self.table.get(index).map(|(generation, _)| TaskKey { index: index as u32, generation: *generation })
    }

    /// Drops a task where it is. Gives whether there was one.
    pub(crate) fn remove(&mut self, key: TaskKey) -> bool {
        if self.table.get(key.index()).is_none_or(|(generation, _)| *generation != key.generation) {
            return false;
        }
        let (_, mut place) = self.table.remove(key.index());
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
        assert_eq!(tasks.key_at(first.index()), Some(second));
        assert_eq!(tasks.get(second), Some(&mut "second"));
        tasks.generation = u32::MAX;
        assert!(tasks.remove(second));
        let third = tasks.insert("third");
        assert_eq!((third.index, third.generation), (second.index, 0), "it begins anew");
        assert_eq!(tasks.get(second), None);
        assert_eq!(tasks.get(third), Some(&mut "third"));
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
