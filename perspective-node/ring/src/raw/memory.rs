//! Memory that is mapped and unmapped as a whole: shared with the kernel, or
//! there for when it is needed.
//!
//! Leaves out what the bytes mean. What is shared is not taken from the
//! allocator: the kernel may write to frames a little longer than the socket
//! lives, and a page that was unmapped stays its own until then, where a freed
//! one would be reused.
//!
//! Invariant: the address does not change for the life of the value, and
//! nothing outside the mapping is ever pointed to.

use std::io;
use std::os::fd::AsFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

#[derive(Debug)]
pub(in crate::raw) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Zeroed memory of our own.
    pub(in crate::raw) fn anonymous(bytes: usize) -> Result<Mapping, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the address, so nothing else is replaced.
        let start = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, bytes })
    }

    /// The same, of which a page costs nothing until it is written to.
    pub(in crate::raw) fn unwritten(bytes: usize) -> Result<Mapping, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses the address, so nothing else is replaced.
        let start = unsafe { mmap_anonymous(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        let mapping = Mapping { start, bytes };
        // A large page would be there as a whole after the first octet. A kernel without such pages refuses.
        // SAFETY: the advice changes no contents, and the range is the mapping's.
        let _ = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxNoHugepage) };
        Ok(mapping)
    }

    /// Memory of a socket's ring.
    pub(in crate::raw) fn of(socket: impl AsFd, bytes: usize, offset: u64) -> Result<Mapping, Errno> {
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the address, so nothing else is replaced.
        let start = unsafe { mmap(null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags, socket, offset) }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, bytes })
    }

    pub(in crate::raw) fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    pub(in crate::raw) fn len(&self) -> usize {
        self.bytes
    }

    /// Address of `count` values at `offset`; `None` if they are not all
    /// inside, or not aligned.
    pub(in crate::raw) fn at<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
        let bytes = size_of::<T>().checked_mul(count)?;
        let end = offset.checked_add(bytes)?;
        if end > self.bytes {
            return None;
        }
        // SAFETY: offset is inside the mapping, checked above.
        let at = unsafe { self.start.add(offset) }.cast::<T>();
        at.is_aligned().then_some(at)
    }

    /// A word that both sides access.
    pub(in crate::raw) fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at::<u32>(offset, 1)?;
        // SAFETY: inside the mapping, aligned, initialised (mappings are
        // zeroed), and as long-lived as self. The kernel accesses such words
        // atomically too, and we touch them only by this function.
        Some(unsafe { AtomicU32::from_ptr(at.as_ptr()) })
    }

    /// A copy of a plain value; `None` if it is not inside.
    ///
    /// # Safety
    ///
    /// Any bytes must make a valid `T`, and the kernel must not write to it
    /// during the call.
    pub(in crate::raw) unsafe fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        let at = self.at::<T>(offset, 1)?;
        // SAFETY: inside the mapping, aligned and initialised; the rest is
        // what the caller promised.
        Some(unsafe { at.read() })
    }

    /// `len` bytes at `offset`; `None` if they are not inside.
    ///
    /// # Safety
    ///
    /// The kernel must not write to them during the borrow.
    pub(in crate::raw) unsafe fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let at = self.at::<u8>(offset, len)?;
        // SAFETY: inside the mapping and initialised (mappings are zeroed). We
        // write only through `&mut self`; the kernel is the caller's promise.
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), len) })
    }

    /// The same to write.
    ///
    /// # Safety
    ///
    /// The kernel must not access them during the borrow.
    pub(in crate::raw) unsafe fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        let at = self.at::<u8>(offset, len)?;
        // SAFETY: as in `slice`; `&mut self` makes it the only borrow.
        Some(unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, unmapped only here; borrows
        // of it end before. What the kernel still uses it has pinned.
        let unmapped: io::Result<()> = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) }.map_err(Into::into);
        debug_assert!(unmapped.is_ok());
    }
}
