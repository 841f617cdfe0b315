//! Moves frames between two interfaces of one network namespace, as a policy has it.
//!
//! Both interfaces are one end of a wire each, and whoever is at the far ends must leave no checksums or segments to
//! hardware: those would be forwarded unfinished (`ethtool -K … tx off`).
//!
//! Invariant: what waits is bounded by [`WAITING_OCTETS_MAX`]; beyond it frames are dropped and counted.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parallax_ring::FrameSocket;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use serde::Serialize;

use super::{
    FaultsError,
    policy::{Counts, End, Policy, Schedule},
    rules::Rules,
};
use crate::netns::Namespace;

/// The longest frame: what merged segments can be.
const FRAME_MAX: usize = 70_000;
/// How often it is looked whether the rules have changed, or it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Frames taken from one interface before the other has its turn, and frames made of them.
const FRAMES_A_TURN: usize = 64;
const OUTGOING_A_TURN: usize = 1000;
/// Octets of frames that wait.
pub const WAITING_OCTETS_MAX: usize = 256 << 20;

/// What has been done, by the policy and by the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forwarded {
    /// By the policy.
    #[serde(flatten)]
    pub policy: Counts,
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that the kernel would not take, or that were one too many.
    pub dropped: u64,
}

/// Both interfaces with all that waits between them.
pub(super) struct Wire {
    ends: [FrameSocket; 2],
    schedule: Schedule,
    policy: Policy,
    begun: Instant,
    /// Of policies before this one.
    before: Counts,
    sent: u64,
    dropped: u64,
}

fn place(end: End) -> usize {
    match end {
        End::A => 0,
        End::B => 1,
    }
}

impl Wire {
    pub(super) fn open(names: [&str; 2], rules: Rules) -> Result<Self, FaultsError> {
        let ends = [FrameSocket::open(names[0])?, FrameSocket::open(names[1])?];
        let (schedule, policy, begun) = (Schedule::default(), Policy::new(rules), Instant::now());
        Ok(Self { ends, schedule, policy, begun, before: Counts::default(), sent: 0, dropped: 0 })
    }

    /// Forwards on this thread until `stop` or for so long; what was done.
    pub(super) fn run(mut self, longest: Duration, stop: &AtomicBool) -> Result<Forwarded, FaultsError> {
        let mut buffer = vec![0; FRAME_MAX];
        while self.begun.elapsed() < longest && !stop.load(Ordering::Relaxed) {
            self.turn(&mut buffer).map_err(FaultsError::Moving)?;
        }
        Ok(self.forwarded())
    }

    /// Plays other rules from now on. What waits goes as it was to go.
    fn set(&mut self, rules: Rules) {
        self.before = add(self.before, self.policy.counts());
        self.policy = Policy::new(rules);
    }

    fn forwarded(&self) -> Forwarded {
        Forwarded { policy: add(self.before, self.policy.counts()), sent: self.sent, dropped: self.dropped }
    }

    /// Sleeps until something comes or is due, then does what there is to do.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let now = self.begun.elapsed();
        let until_due = self.schedule.next().map_or(LOOK_EVERY, |at| at.saturating_sub(now).min(LOOK_EVERY));
        let timeout = Timespec { tv_sec: 0, tv_nsec: until_due.subsec_nanos().into() };
        let mut both = [0, 1].map(|place| PollFd::new(&self.ends[place], PollFlags::IN));
        match poll(&mut both, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for end in [End::A, End::B] {
            self.receive(end, buffer)?;
            self.send_due();
        }
        Ok(())
    }

    fn receive(&mut self, end: End, buffer: &mut [u8]) -> io::Result<()> {
        let mut made = 0;
        for _ in 0..FRAMES_A_TURN {
            if made >= OUTGOING_A_TURN {
                break;
            }
            match self.ends[place(end)].receive(buffer) {
                Ok(Some(frame)) => {
                    let outgoing = self.policy.handle(self.begun.elapsed(), end, frame);
                    made += outgoing.len();
                    for outgoing in outgoing {
                        if self.schedule.octets() < WAITING_OCTETS_MAX {
                            self.schedule.add(outgoing);
                        } else {
                            self.dropped += 1;
                        }
                    }
                }
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.dropped += 1,
                // An interface that goes down takes its frames with it, and may come up again.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NETDOWN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_due(&mut self) {
        while let Some((by, frame)) = self.schedule.take_due(self.begun.elapsed()) {
            // A network drops what it cannot carry.
            match self.ends[place(by)].send(&frame) {
                Ok(true) => self.sent += 1,
                Ok(false) | Err(_) => self.dropped += 1,
            }
        }
    }
}

fn add(a: Counts, b: Counts) -> Counts {
    Counts {
        received: a.received + b.received,
        lost: a.lost + b.lost,
        vanished: a.vanished + b.vanished,
        overflowed: a.overflowed + b.overflowed,
        doubled: a.doubled + b.doubled,
        held_back: a.held_back + b.held_back,
        questions: a.questions + b.questions,
        forged_answers: a.forged_answers + b.forged_answers,
        forged_resets: a.forged_resets + b.forged_resets,
    }
}

#[derive(Debug, Default)]
struct Shared {
    next: Mutex<Option<Rules>>,
    forwarded: Mutex<Forwarded>,
    stop: AtomicBool,
}

/// The same on a thread of its own, with rules that can be changed; it ends when it is dropped.
#[derive(Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Begins to forward between two interfaces of a namespace, without any fault.
    ///
    /// # Errors
    /// The namespace cannot be entered, or an interface not be opened.
    pub fn start(namespace: &Namespace, names: [&str; 2]) -> Result<Self, FaultsError> {
        let mut wire = namespace.inside(|| Wire::open(names, Rules::default()))??;
        let shared = Arc::<Shared>::default();
        let for_thread = Arc::clone(&shared);
        let body = move || {
            let mut buffer = vec![0; FRAME_MAX];
            while !for_thread.stop.load(Ordering::Relaxed) {
                if let Some(rules) = for_thread.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    wire.set(rules);
                }
                if let Err(error) = wire.turn(&mut buffer) {
                    eprintln!("frames are not forwarded any more: {error}");
                    return;
                }
                *for_thread.forwarded.lock().unwrap_or_else(PoisonError::into_inner) = wire.forwarded();
            }
        };
        let thread = std::thread::Builder::new().name("forwarder".to_owned()).spawn(body);
        Ok(Self { shared, thread: Some(thread.map_err(FaultsError::Moving)?) })
    }

    /// Plays these rules, at the latest a few hundredths of a second from now.
    ///
    /// # Errors
    /// A value that means nothing.
    pub fn set(&self, rules: Rules) -> Result<(), FaultsError> {
        *self.shared.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules.checked()?);
        Ok(())
    }

    /// What was done so far.
    #[must_use]
    pub fn forwarded(&self) -> Forwarded {
        *self.shared.forwarded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so already.
            let _ = thread.join();
        }
    }
}
