//! What the tasks of a worker are reckoned to hold, and whether another one may be begun.
//!
//! A reckoning, not an account of the allocator: what a task takes when it begins, as it was measured, what it has been
//! given since, and its TLS sessions. It is above what is held rather than below. Left out is what does not follow from
//! tasks: rings, buffers of the kernel, the program itself.
//!
//! Invariant: no task is begun beyond the budget, but for one that runs alone. What tasks take in later may go beyond,
//! and then nothing is begun until it is below again.

use parallax_validation::plan::{ControlPlan, Plan};

// `tests/memory.rs` measures that these are no less than what is held, and not much more.

/// What a task allocates beside its own size and what follows, octets.
const TASK_OCTETS: usize = 512;
/// A question: its name, the query, what waits for it, and the evidence.
const QUESTION_OCTETS: usize = 1024;
/// A fetch or a handshake, with the questions for addresses that lead to it.
const PROBE_OCTETS: usize = 4096;
/// What follows from DNSSEC: the chain of trust and its questions.
const PROVING_OCTETS: usize = 3072;
/// A TLS session, beside the records that the task was given.
pub const TLS_SESSION_OCTETS: usize = 16 * 1024;

/// What a task is reckoned to hold when it begins.
#[must_use]
pub fn octets_at_begin(plan: &Plan, proves: bool) -> usize {
    let questions = plan.caa_levels.len() + plan.hints.len() + 1;
    let probe = match plan.control {
        Some(ControlPlan::Http { .. } | ControlPlan::TlsAlpn { .. }) => PROBE_OCTETS,
        Some(ControlPlan::Dns(_)) | None => 0,
    };
    TASK_OCTETS + questions * QUESTION_OCTETS + probe + if proves { PROVING_OCTETS } else { 0 }
}

/// The tasks of one worker.
#[derive(Debug)]
pub(crate) struct Memory {
    octets_max: usize,
    held: usize,
    /// As it was last told to others.
    told: usize,
}

impl Memory {
    pub(crate) fn new(octets_max: usize) -> Self {
        Self { octets_max, held: 0, told: 0 }
    }

    /// Whether so much more may be taken; the first of all tasks always may.
    pub(crate) fn has_room(&self, octets: usize) -> bool {
        self.held == 0 || self.held + octets <= self.octets_max
    }

    /// What a task holds has changed.
    pub(crate) fn change(&mut self, before: usize, after: usize) {
        self.held = (self.held + after).saturating_sub(before);
    }

    /// By how much the whole has grown since this was last asked, or shrunk; as a number to be added with wrapping.
    pub(crate) fn take_change(&mut self) -> u64 {
        let change = (self.held as u64).wrapping_sub(self.told as u64);
        self.told = self.held;
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_begun_beyond_the_budget_but_the_first() {
        let mut memory = Memory::new(100);
        assert!(memory.has_room(1000), "or it would wait for ever");
        memory.change(0, 60);
        assert!(memory.has_room(40) && !memory.has_room(41));
        memory.change(60, 90);
        assert!(!memory.has_room(11));
        assert_eq!(memory.take_change(), 90);
        memory.change(90, 0);
        assert_eq!(memory.take_change(), 90_u64.wrapping_neg());
        assert_eq!(memory.take_change(), 0);
        assert!(memory.has_room(1000));
    }
}
