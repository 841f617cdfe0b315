//! Receive buffers the kernel picks from by itself (a provided buffer ring).
//!
//! Leaves out who receives. One group for all sockets, so that an idle stream
//! or socket holds no memory.
//!
//! Invariant: a buffer is either in the kernel's ring or named by a completion
//! that has not been handled; [`ReceiveBuffers::bytes`] is called only for the
//! latter, [`ReceiveBuffers::recycle`] exactly once after it. Recycled buffers
//! become visible to the kernel with [`ReceiveBuffers::publish`].

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::memory::Pages;
use crate::error::{RingError, setup_error};

/// The only buffer group.
pub(crate) const GROUP: u16 = 0;

pub(crate) struct ReceiveBuffers {
    ring: Pages,
    data: Pages,
    count: u16,
    size: u32,
    tail: u16,
}

impl ReceiveBuffers {
    /// Allocates `count` buffers (a power of two) of `size` bytes, registers
    /// the ring and fills it.
    pub(crate) fn new(uring: &IoUring, count: u16, size: u32) -> Result<ReceiveBuffers, RingError> {
        let ring = Pages::new(usize::from(count) * size_of::<BufRingEntry>());
        let data = Pages::new(usize::from(count) * size as usize);
        let (Some(ring), Some(data)) = (ring, data) else {
            return Err(RingError::MemoryLimit);
        };
        // SAFETY: the memory is page-aligned and holds `count` entries. `Ring`
        // drops the io_uring before this memory, and only after all requests
        // that could select a buffer have completed.
        unsafe {
            uring
                .submitter()
                .register_buf_ring_with_flags(ring.start() as u64, count, GROUP, 0)
                .map_err(setup_error)?;
        }
        let mut buffers = ReceiveBuffers { ring, data, count, size, tail: 0 };
        for id in 0..count {
            buffers.recycle(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The first `len` bytes of a buffer the kernel has just handed over.
    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        let len = len.min(self.size as usize);
        let start = self.data.at(usize::from(id) * self.size as usize, self.size as usize);
        // SAFETY: `at` checked the range; the memory was zeroed, so it is
        // initialised. A completion named this buffer, so the kernel does not
        // write to it until it is recycled, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Puts a buffer back; the kernel sees it after `publish`.
    pub(crate) fn recycle(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let address = self.data.at(usize::from(id) * self.size as usize, self.size as usize);
        let entry = self.ring.at(slot * size_of::<BufRingEntry>(), size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: the range is inside the page-aligned ring, and the entry type
        // is plain integers. The kernel reads entries only below the published
        // tail, and this one is not: at most `count` buffers exist. The setters
        // leave the tail, which shares the first entry, untouched.
        unsafe {
            (*entry).set_addr(address as u64);
            (*entry).set_len(self.size);
            (*entry).set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows all recycled buffers to the kernel.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the ring's memory is valid, aligned, and lives as long as
        // self; the tail field is two-byte aligned and accessed by us only
        // through this atomic.
        let tail = unsafe {
            let tail = BufRingEntry::tail(self.ring.start().cast()).cast_mut();
            AtomicU16::from_ptr(tail)
        };
        // Release pairs with the kernel's acquire load of the tail when it
        // selects a buffer: it must see the entries written before.
        tail.store(self.tail, Ordering::Release);
    }

    pub(crate) fn leak(&mut self) {
        self.ring.leak();
        self.data.leak();
    }
}
