//! What the tasks of a worker are reckoned to hold, and whether another one may be begun.
//!
//! A reckoning, not an account of the allocator: what a task takes when it begins, as it was measured, what it has been
//! given since and what becomes of it, and its TLS sessions. It is above what is held rather than below. Left out is what does not follow from
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
/// A survey: its questions under way, the servers that were found, and what each said.
const SURVEY_OCTETS: usize = 64 * 1024;
/// A record as it is kept, beside its octets in the message.
const RECORD_OCTETS: usize = 64;
/// The shortest record in a message: the root as its owner, type, class, TTL and length (RFC 1035 §4.1.3).
const RECORD_ON_WIRE_MIN: usize = 11;
/// Where a message counts its answers, and the records after them (RFC 1035 §4.1.1).
const COUNTS: std::ops::Range<usize> = 6..12;
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
    let survey = if plan.survey.is_some() { SURVEY_OCTETS } else { 0 };
    TASK_OCTETS + questions * QUESTION_OCTETS + probe + survey + if proves { PROVING_OCTETS } else { 0 }
}

/// What a message is reckoned to hold when it is kept: many short records take more than their octets.
#[must_use]
pub fn octets_of_answer(message: &[u8]) -> usize {
    let counts = message.get(COUNTS).unwrap_or_default();
    let said: usize = counts.chunks_exact(2).map(|count| usize::from(count[0]) << 8 | usize::from(count[1])).sum();
    // What it says of itself is bounded by what it has room for.
    message.len() + said.min(message.len() / RECORD_ON_WIRE_MIN) * RECORD_OCTETS
}

/// The same for so many octets of messages that come in pieces: as if all of their records were short.
#[must_use]
pub fn octets_of_answers(octets: usize) -> usize {
    octets + octets * RECORD_OCTETS / RECORD_ON_WIRE_MIN
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
    fn many_short_records_are_reckoned_to_hold_more_than_their_octets() {
        let message = |counts: [u8; 6], octets: usize| [&[0; 6][..], &counts, &vec![0; octets - 12]].concat();
        assert_eq!(octets_of_answer(&message([0; 6], 512)), 512);
        assert_eq!(octets_of_answer(&message([0, 3, 0, 1, 0, 1], 512)), 512 + 5 * RECORD_OCTETS);
        assert_eq!(octets_of_answer(&message([255; 6], 110)), 110 + 10 * RECORD_OCTETS, "more than it has room for");
        assert_eq!((octets_of_answer(&[]), octets_of_answer(&[255; 11])), (0, 11));
        assert_eq!(octets_of_answers(110), 110 + 10 * RECORD_OCTETS);
        assert!((0..11).all(|_| octets_of_answers(1) > 1), "in whatever pieces they come");
    }

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
