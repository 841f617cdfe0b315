//! One ring of an AF_XDP socket: entries, and two indices that only grow, the
//! producer's and the consumer's, one of them ours.
//!
//! Leaves out what the entries mean.
//!
//! Invariant: an entry is written only while it is free and read only while it
//! is filled, by indices compared before; if the kernel's index cannot be
//! true, the ring counts as full or empty.

use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use rustix::io::Errno;
use rustix::net::xdp::{XdpRingFlags, XdpRingOffset};

use crate::raw::memory::Mapping;

/// What both kinds of ring share. `T` is plain integers: any bytes are one.
#[derive(Debug)]
struct Shared<T> {
    mapping: Mapping,
    offsets: [usize; 4],
    size: u32,
    entries: PhantomData<T>,
}

const PRODUCER: usize = 0;
const CONSUMER: usize = 1;
const FLAGS: usize = 2;
const ENTRIES: usize = 3;

impl<T: Copy> Shared<T> {
    /// Maps a ring of `size` entries, a power of two, that was set up before.
    fn map(socket: BorrowedFd<'_>, page: u64, at: &XdpRingOffset, size: u32) -> Result<Shared<T>, Errno> {
        let [Some(producer), Some(consumer), Some(flags), Some(entries)] =
            [Some(at.producer), Some(at.consumer), at.flags, Some(at.desc)].map(|offset| usize::try_from(offset?).ok())
        else {
            // Without the flags the kernel is older than 5.4.
            return Err(Errno::OPNOTSUPP);
        };
        let bytes = (size as usize).checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(entries));
        let mapping = Mapping::of(socket, bytes.ok_or(Errno::OVERFLOW)?, page)?;
        Shared::over(mapping, [producer, consumer, flags, entries], size)
    }

    /// The offsets are of what the constants name, in that order.
    fn over(mapping: Mapping, offsets: [usize; 4], size: u32) -> Result<Shared<T>, Errno> {
        let [producer, consumer, flags, entries] = offsets;
        let inside = [producer, consumer, flags].iter().all(|offset| mapping.word(*offset).is_some())
            && mapping.at::<T>(entries, size as usize).is_some();
        if !inside || !size.is_power_of_two() {
            return Err(Errno::INVAL);
        }
        Ok(Shared { mapping, offsets, size, entries: PhantomData })
    }

    fn word(&self, which: usize) -> &AtomicU32 {
        self.mapping.word(self.offsets[which]).expect("checked when mapped")
    }

    fn entry(&self, index: u32) -> *mut T {
        let at = (index & (self.size - 1)) as usize * size_of::<T>();
        self.mapping.at::<T>(self.offsets[ENTRIES] + at, 1).expect("checked when mapped").as_ptr()
    }
}

/// A ring that we fill: free frames, and frames to send.
#[derive(Debug)]
pub(super) struct Filled<T> {
    shared: Shared<T>,
    /// Behind the last entry written.
    head: u32,
    /// Behind the last entry the kernel may read.
    published: u32,
}

impl<T: Copy> Filled<T> {
    pub(super) fn map(socket: BorrowedFd<'_>, page: u64, at: &XdpRingOffset, size: u32) -> Result<Self, Errno> {
        let shared = Shared::map(socket, page, at, size)?;
        Ok(Filled { shared, head: 0, published: 0 })
    }

    /// Entries written that the kernel has not taken.
    fn used(&self) -> u32 {
        // Acquire pairs with the kernel's release of the index when it has
        // read an entry: only then may it be written again.
        self.head.wrapping_sub(self.shared.word(CONSUMER).load(Ordering::Acquire))
    }

    pub(super) fn has_room(&self) -> bool {
        self.used() < self.shared.size
    }

    /// Writes an entry the kernel sees after `publish`; false if it is full.
    pub(super) fn push(&mut self, value: T) -> bool {
        if !self.has_room() {
            return false;
        }
        // SAFETY: inside the ring and aligned. The kernel has consumed what was
        // there, and reads it again only after `publish`.
        unsafe { self.shared.entry(self.head).write(value) };
        self.head = self.head.wrapping_add(1);
        true
    }

    pub(super) fn publish(&mut self) {
        if self.published != self.head {
            // Release pairs with the kernel's acquire of the index: it must see
            // the entries, and what was written to the frames they name.
            self.shared.word(PRODUCER).store(self.head, Ordering::Release);
            self.published = self.head;
        }
    }

    /// Entries published that the kernel has yet to take.
    pub(super) fn pending(&self) -> u32 {
        self.published.wrapping_sub(self.shared.word(CONSUMER).load(Ordering::Relaxed))
    }

    /// Whether the kernel sleeps until a system call tells it of new entries.
    pub(super) fn needs_wakeup(&self) -> bool {
        // The kernel sets the flag and then looks at the index once more, we
        // write the index and then look at the flag: with a full fence between
        // them on both sides at least one sees the other.
        fence(Ordering::SeqCst);
        let flags = self.shared.word(FLAGS).load(Ordering::Relaxed);
        flags & XdpRingFlags::XDP_RING_NEED_WAKEUP.bits() != 0
    }
}

/// A ring that the kernel fills: frames received, and frames sent.
#[derive(Debug)]
pub(super) struct Drained<T> {
    shared: Shared<T>,
    /// The next entry to read.
    tail: u32,
    /// Behind the last entry known to be filled.
    filled: u32,
}

impl<T: Copy> Drained<T> {
    pub(super) fn map(socket: BorrowedFd<'_>, page: u64, at: &XdpRingOffset, size: u32) -> Result<Self, Errno> {
        let shared = Shared::map(socket, page, at, size)?;
        Ok(Drained { shared, tail: 0, filled: 0 })
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        if self.tail == self.filled {
            // Acquire pairs with the kernel's release of the index: the entries
            // and the frames they name were written before.
            let filled = self.shared.word(PRODUCER).load(Ordering::Acquire);
            if !(1..=self.shared.size).contains(&filled.wrapping_sub(self.tail)) {
                return None;
            }
            self.filled = filled;
        }
        // SAFETY: inside the ring and aligned; the kernel has filled it and
        // does not write there again before `release`. Any bytes are a `T`.
        let value = unsafe { self.shared.entry(self.tail).read() };
        self.tail = self.tail.wrapping_add(1);
        Some(value)
    }

    /// Lets the kernel write again to the entries that were read.
    pub(super) fn release(&mut self) {
        // Release pairs with the kernel's acquire of the index: our reads of
        // the entries come before its writes.
        self.shared.word(CONSUMER).store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl<T: Copy> Shared<T> {
        /// A ring without a kernel.
        fn alone(size: u32) -> Shared<T> {
            Shared::over(Mapping::anonymous(1 << 16).unwrap(), [0, 4, 8, 64], size).unwrap()
        }
    }

    impl<T: Copy> Filled<T> {
        pub(in super::super) fn alone(size: u32) -> Filled<T> {
            Filled { shared: Shared::alone(size), head: 0, published: 0 }
        }
    }

    impl<T: Copy> Drained<T> {
        pub(in super::super) fn alone(size: u32) -> Drained<T> {
            Drained { shared: Shared::alone(size), tail: 0, filled: 0 }
        }

        /// What the kernel does, or claims.
        pub(in super::super) fn say(&mut self, values: &[T], producer: u32) {
            for (index, value) in (0..).zip(values) {
                // SAFETY: inside the ring and aligned, and there is no kernel.
                unsafe { self.shared.entry(self.tail.wrapping_add(index)).write(*value) };
            }
            self.shared.word(PRODUCER).store(producer, Ordering::Release);
        }
    }

    #[test]
    fn indices_wrap() {
        let mut filled = Filled::<u64>::alone(4);
        let mut drained = Drained::<u64>::alone(4);
        let start = u32::MAX - 5;
        (filled.head, filled.published) = (start, start);
        (drained.tail, drained.filled) = (start, start);
        for ring in [&filled.shared, &drained.shared] {
            ring.word(PRODUCER).store(start, Ordering::Relaxed);
            ring.word(CONSUMER).store(start, Ordering::Relaxed);
        }
        for round in 0..5u32 {
            assert!((0..4).all(|value| filled.push(value)) && !filled.push(4));
            assert_eq!(filled.pending(), 0, "not published yet");
            filled.publish();
            assert_eq!(filled.pending(), 4);
            let index = start.wrapping_add(4 * (round + 1));
            filled.shared.word(CONSUMER).store(index, Ordering::Relaxed);
            drained.say(&[5, 6, 7, 8], index);
            assert_eq!(std::iter::from_fn(|| drained.pop()).collect::<Vec<_>>(), [5, 6, 7, 8]);
            drained.release();
            assert_eq!(drained.shared.word(CONSUMER).load(Ordering::Relaxed), index);
        }
    }

    #[test]
    fn an_index_that_cannot_be_true_is_not_followed() {
        for index in [5, 1 << 31, u32::MAX] {
            let mut drained = Drained::<u64>::alone(4);
            drained.say(&[], index);
            assert_eq!(drained.pop(), None, "{index}");
        }
        for index in [1, 5, 1 << 31] {
            let mut filled = Filled::<u64>::alone(4);
            filled.shared.word(CONSUMER).store(index, Ordering::Relaxed);
            assert!(!filled.push(1), "{index}");
        }
    }

    #[test]
    fn a_ring_that_is_not_inside_its_memory_is_refused() {
        for offsets in [[1 << 16, 4, 8, 64], [0, (1 << 16) - 2, 8, 64], [0, 4, 9, 64], [0, 4, 8, (1 << 16) - 24]] {
            let mapping = Mapping::anonymous(1 << 16).unwrap();
            assert_eq!(Shared::<u64>::over(mapping, offsets, 4).err(), Some(Errno::INVAL), "{offsets:?}");
        }
        assert!(Shared::<u64>::over(Mapping::anonymous(1 << 16).unwrap(), [0, 4, 8, 64], 3).is_err());
    }
}
