//! Slots that hold an outgoing datagram until the kernel has taken it.
//!
//! Allocated once; leaves out sockets and submission.
//!
//! Invariant: a slot is written only while it is free, and becomes free only
//! when the send that named it has completed.

use super::memory::Pages;
use crate::datagram::SEND_BYTES_MAX;

/// Size of a slot.
const SLOT_BYTES: usize = SEND_BYTES_MAX;

/// What a slot in use is for.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing {
    /// Slab index of the socket.
    pub(crate) socket: u32,
    pub(crate) len: u16,
    pub(crate) attempts: u8,
    /// The caller was told that this send met an error.
    pub(crate) reported: bool,
}

pub(crate) struct SendArena {
    memory: Pages,
    slots: Vec<Outgoing>,
    free: Vec<u32>,
}

impl SendArena {
    pub(crate) fn new(count: u32) -> Option<SendArena> {
        let empty = Outgoing { socket: 0, len: 0, attempts: 0, reported: false };
        Some(SendArena {
            memory: Pages::new((count as usize).checked_mul(SLOT_BYTES)?)?,
            slots: vec![empty; count as usize],
            free: (0..count).rev().collect(),
        })
    }

    pub(crate) fn free_slots(&self) -> usize {
        self.free.len()
    }

    /// Copies `bytes` (at most a slot) into a free slot, if there is one.
    pub(crate) fn take(&mut self, socket: u32, bytes: &[u8]) -> Option<u32> {
        debug_assert!(bytes.len() <= SLOT_BYTES);
        let slot = self.free.pop()?;
        let target = self.memory.at(slot as usize * SLOT_BYTES, bytes.len());
        // SAFETY: `at` checked the range; the source is a slice of that length
        // and cannot overlap memory only we point into. The slot was free, so
        // no operation of the kernel reads it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        self.slots[slot as usize] = Outgoing { socket, len: bytes.len() as u16, attempts: 0, reported: false };
        Some(slot)
    }

    pub(crate) fn outgoing(&mut self, slot: u32) -> &mut Outgoing {
        &mut self.slots[slot as usize]
    }

    /// Where the slot's bytes are; stable while the arena lives.
    pub(crate) fn address(&self, slot: u32) -> *const u8 {
        self.memory.at(slot as usize * SLOT_BYTES, SLOT_BYTES)
    }

    /// The send has completed for good.
    pub(crate) fn release(&mut self, slot: u32) {
        self.free.push(slot);
    }

    pub(crate) fn leak(&mut self) {
        self.memory.leak();
    }
}
