//! One attempt on its way, and what the threads tell each other about it.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Instant,
};

use jiff::Timestamp;
use parallax_protocol::AttemptId;
use parallax_validation::{
    record::{RejectedEntry, Restart, TRIALS_MAX, Terms},
    request::CheckRequest,
    verdict::draw::{CohortSeed, Members},
};

use crate::{
    admission::Ending,
    tally::{Evidence, Tally},
};

/// A request with what went before it.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) request: CheckRequest,
    /// The attempt that it follows, if perspectives disagreed in one.
    pub(super) restart: Option<Restart>,
    /// Who submitted it knows it by this; a restart keeps that of the first attempt.
    pub(super) tag: u64,
    /// When it was submitted; a restart keeps the time of the first attempt.
    pub(super) submitted: Instant,
}

/// One attempt.
pub(super) struct Attempt {
    pub(super) id: AttemptId,
    pub(super) request: CheckRequest,
    pub(super) started: Timestamp,
    pub(super) tag: u64,
    pub(super) submitted: Instant,
    pub(super) members: Members,
    pub(super) seed: Option<CohortSeed>,
    pub(super) restart: Option<Restart>,
    pub(super) tally: Tally,
    pub(super) primary_first: bool,
    pub(super) asked_remotes: OnceLock<()>,
    /// Perspectives on trial that have their one entry, or are about to: a bit for each.
    pub(super) tried: AtomicU16,
    /// It was released as a permission.
    pub(super) permitted: AtomicBool,
}

impl Attempt {
    pub(super) fn terms(&self) -> Terms<'_> {
        Terms {
            attempt: self.id,
            request: &self.request,
            started: self.started,
            members: &self.members,
            seed: self.seed,
            restart: self.restart,
        }
    }

    /// Whether this is the first that is heard of a perspective on trial, by its number among them.
    pub(super) fn tries_first(&self, trial: usize) -> bool {
        // Relaxed: only the bit itself is read, and only by who set it.
        self.tried.fetch_or(1 << trial, Ordering::Relaxed) & 1 << trial == 0
    }

    /// The place in the tally of a perspective, by its number; none if it does not count here.
    pub(super) fn place_of(&self, perspective: usize) -> Option<usize> {
        self.members.iter().position(|member| usize::from(*member) == perspective)
    }
}

/// What a collector expects of its perspective.
pub(super) struct Expected {
    pub(super) nonce: u64,
    pub(super) asked: Instant,
    pub(super) attempt: Arc<Attempt>,
}

pub(super) enum ToDecider {
    /// It has what it needs.
    Ready(Arc<Attempt>),
    /// An answer of the perspective with this number came after the verdict.
    Late(Arc<Attempt>, usize, Evidence),
    /// A perspective on trial has answered.
    Trial(Arc<Attempt>, usize, Evidence),
    /// A report that does not count.
    Rejected(RejectedEntry),
}

/// The primary has confirmed; these are the addresses that it connected to.
pub(super) struct Confirmed {
    pub(super) attempt: Arc<Attempt>,
    pub(super) targets: Vec<IpAddr>,
}

/// An attempt that was decided and recorded.
pub(super) struct Settled {
    pub(super) attempt: Arc<Attempt>,
    pub(super) ending: Ending,
    /// Its outcome is not released; the whole process starts afresh.
    pub(super) restarts: bool,
    /// Places of perspectives whose packets deserve a look, a bit for each.
    pub(super) packets_of: u64,
}

const _: () = assert!(TRIALS_MAX <= u16::BITS as usize, "a mask has a bit for every perspective on trial");
