//! Memory shared with the kernel.
//!
//! Invariant: it is zeroed, and never freed. A client runs once and exits, so no operation still in the kernel can
//! meet memory that has become something else, and no completion has to be awaited for that.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr::NonNull;

/// What a registered buffer ring must be aligned to, at most.
const PAGE: usize = 64 << 10;

/// Equal parts of one block, numbered from zero.
pub(crate) struct Slots {
    start: NonNull<u8>,
    count: usize,
    size: usize,
}

impl Slots {
    /// `count` parts of `size` octets each.
    pub(crate) fn new(count: usize, size: usize) -> Slots {
        let octets = count.saturating_mul(size).max(1);
        let Ok(layout) = Layout::from_size_align(octets, PAGE) else {
            handle_alloc_error(Layout::new::<u8>());
        };
        // SAFETY: the size is at least one.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Slots { start, count, size }
    }

    /// Where a part begins. Panics if there is no such part.
    pub(crate) fn address(&self, index: usize) -> *mut u8 {
        assert!(index < self.count, "no such slot");
        // SAFETY: inside the block, because the index was checked and the product did not overflow in `new`.
        unsafe { self.start.as_ptr().add(index * self.size) }
    }

    /// The first octets of a part, at most all of it.
    ///
    /// # Safety
    ///
    /// The kernel must not write to the part while the slice lives.
    pub(crate) unsafe fn bytes(&self, index: usize, len: usize) -> &[u8] {
        // SAFETY: `address` checked the index; the memory was zeroed, so it is initialised; that nobody writes is the
        // caller's promise.
        unsafe { std::slice::from_raw_parts(self.address(index), len.min(self.size)) }
    }

    /// Writes to the start of a part; what does not fit is left out.
    pub(crate) fn write(&mut self, index: usize, bytes: &[u8]) {
        let len = bytes.len().min(self.size);
        // SAFETY: `address` checked the index, `len` is at most a part, and `bytes` cannot overlap memory that only
        // raw pointers of this value lead to. The kernel may read meanwhile: it then sends octets of both versions,
        // and no Rust reference sees them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(index), len) };
    }
}
