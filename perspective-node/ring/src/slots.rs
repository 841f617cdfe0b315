//! A table of sockets by index, guarded by a generation.
//!
//! Leaves out what is in it. What the kernel reports names the index alone,
//! because an entry stays as long as the kernel may report on it; the caller's
//! ids are checked.
//!
//! Invariant: a generation is given out once, so an old key never matches.

use slab::Slab;

/// Index and generation; the inside of the public ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u64,
}

pub(crate) struct Slots<T> {
    slab: Slab<(u64, T)>,
    next: u64,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots { slab: Slab::new(), next: 1 }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let generation = self.next;
        self.next += 1;
        let index = self.slab.insert((generation, value)) as u32;
        Key { index, generation }
    }

    /// The index the next entry will have.
    pub(crate) fn vacant(&self) -> u32 {
        self.slab.vacant_key() as u32
    }

    /// The entry, if the key is not stale.
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut T> {
        match self.slab.get_mut(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(crate) fn get_ref(&self, key: Key) -> Option<&T> {
        match self.slab.get(key.index as usize) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The entry the kernel reports on, with its key.
    pub(crate) fn at(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let (generation, value) = self.slab.get_mut(index as usize)?;
        let key = Key { index, generation: *generation };
        Some((key, value))
    }

    pub(crate) fn remove(&mut self, index: u32) {
        self.slab.try_remove(index as usize);
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.slab.iter().map(|(index, (generation, _))| Key { index: index as u32, generation: *generation }).collect()
    }

    /// Forgets every entry without dropping it.
    pub(crate) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.slab));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_does_not_match_the_old_key() {
        let mut slots = Slots::new();
        let old = slots.insert('a');
        slots.remove(old.index);
        let new = slots.insert('b');
        assert_eq!(old.index, new.index);
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.get(new), Some(&mut 'b'));
        slots.remove(new.index);
        assert_eq!(slots.len(), 0);
    }
}
