//! Page-aligned memory shared with the kernel.
//!
//! Leaves out what the bytes mean. It hands out raw pointers, never
//! references, because the kernel reads and writes behind the compiler's back.
//!
//! Invariant: the address does not change for the life of the value, and the
//! memory is freed only by `Drop`, never after [`Pages::leak`].

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// The largest page size of a common kernel (arm64); a multiple of all others.
const PAGE: usize = 64 << 10;

pub(crate) struct Pages {
    start: NonNull<u8>,
    layout: Layout,
    leaked: bool,
}

impl Pages {
    /// Zeroed memory of at least `bytes` bytes; `None` if it cannot be had.
    pub(crate) fn new(bytes: usize) -> Option<Pages> {
        let layout = Layout::from_size_align(bytes.max(1), PAGE).ok()?.pad_to_align();
        // SAFETY: the layout's size is at least one page, so not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Pages { start, layout, leaked: false })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Address of the byte at `offset`, with `len` bytes behind it.
    ///
    /// Panics if the range leaves the memory.
    pub(crate) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.layout.size()));
        // SAFETY: offset is inside the allocation, checked above.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Never free this memory: the kernel may still use it.
    pub(crate) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if !self.leaked {
            // SAFETY: allocated in `new` with this layout, freed only here. The
            // owner (`Ring`) drops it after all operations have completed and
            // the ring is closed, or calls `leak`.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}
