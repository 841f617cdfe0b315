//! Buffers of streams, lent while a stream stands.
//!
//! Leaves out what is in them. A page of a buffer costs nothing until something
//! is written to it, so a peer that is silent costs next to nothing, however
//! much it may send before we look. What was lent last is lent first again:
//! memory in use follows the streams that have data, not those that had.
//!
//! - Invariant: a buffer is lent to one at a time.
//! - Invariant: a block lives as long as anything lent out of it.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use rustix::io::Errno;

use super::memory::Mapping;

/// Buffers mapped at a time.
const BLOCK: usize = 256;

/// Buffers of one size. Cloned handles share them.
#[derive(Clone)]
pub(super) struct Buffers {
    shared: Rc<RefCell<Shared>>,
    bytes: usize,
}

struct Shared {
    blocks: Vec<Mapping>,
    free: Vec<NonNull<u8>>,
}

/// A buffer, until it is dropped.
pub(super) struct Lent {
    at: NonNull<u8>,
    home: Buffers,
}

impl Buffers {
    /// Of `bytes` octets each; nothing is mapped yet.
    pub(super) fn new(bytes: usize) -> Buffers {
        Buffers { shared: Rc::new(RefCell::new(Shared { blocks: Vec::new(), free: Vec::new() })), bytes }
    }

    /// Lends one, with anything in it.
    pub(super) fn lend(&self) -> Result<Lent, Errno> {
        let mut shared = self.shared.borrow_mut();
        if shared.free.is_empty() {
            let block = Mapping::unwritten(self.bytes * BLOCK)?;
            // The first of the block is lent first.
            shared.free.extend((0..BLOCK).rev().filter_map(|nth| block.at::<u8>(nth * self.bytes, self.bytes)));
            shared.blocks.push(block);
        }
        let at = shared.free.pop().ok_or(Errno::NOMEM)?;
        drop(shared);
        Ok(Lent { at, home: self.clone() })
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.shared.borrow().free.len()
    }
}

impl Lent {
    /// The buffer.
    ///
    /// # Safety
    ///
    /// Call this once, and let nothing use the slice after the value has been
    /// dropped.
    pub(super) unsafe fn bytes(&mut self) -> &'static mut [u8] {
        // SAFETY: so many octets of a mapping, zeroed when it was made, that
        // `home` keeps; lent to nobody else, and not again before the drop,
        // which the caller lets nothing outlive.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.home.bytes) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.shared.borrow_mut().free.push(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kib() -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
        let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn buffers_are_lent_to_one_at_a_time_and_come_back() {
        let buffers = Buffers::new(4096);
        let mut lent: Vec<Lent> = (0..BLOCK + 1).map(|_| buffers.lend().unwrap()).collect();
        let addresses: std::collections::BTreeSet<_> = lent.iter().map(|lent| lent.at).collect();
        assert_eq!(addresses.len(), BLOCK + 1);
        for (nth, lent) in lent.iter_mut().enumerate() {
            // SAFETY: once for each, and not used after this statement.
            let bytes = unsafe { lent.bytes() };
            assert_eq!(bytes.len(), 4096);
            bytes.fill(nth as u8);
            assert!(bytes.iter().all(|octet| *octet == nth as u8));
        }
        let last = lent.pop().unwrap();
        let at = last.at;
        drop(last);
        assert_eq!(buffers.lend().unwrap().at, at, "what came back last is lent first");
        drop(lent);
        assert_eq!(buffers.free(), 2 * BLOCK);
    }

    #[test]
    fn a_buffer_costs_nothing_until_something_is_written_to_it() {
        let before = resident_kib();
        let buffers = Buffers::new(64 * 1024);
        let lent: Vec<Lent> = (0..16 * BLOCK).map(|_| buffers.lend().unwrap()).collect();
        // 256 MiB of them; tests beside this one use some memory too.
        assert!(resident_kib() < before + 64 * 1024);
        drop(lent);
    }

    #[test]
    fn what_is_lent_outlives_the_handle() {
        let buffers = Buffers::new(1024);
        let mut lent = buffers.lend().unwrap();
        drop(buffers);
        // SAFETY: once, and not used after this statement.
        unsafe { lent.bytes() }.fill(7);
    }
}
