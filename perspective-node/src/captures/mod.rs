//! Packets of checks that failed, as files for people: a directory of captures with bounds on its size and age.
//!
//! Writing is a thread's own work. A worker never waits for it: what comes while too much waits is counted and dropped.
//! Left out is which checks are kept, which the worker says, and what of their frames, which the ring says.
//!
//! A capture holds what was on the wire, tokens and names among it: only the owner may read one.
//!
//! Invariant: files that are not captures by their name are never touched.
//! Invariant: with a capture that is written, all captures together take no more octets than the settings say, each
//! rounded up to whole blocks and with what a file costs.

mod directory;
pub(crate) mod pcap;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use jiff::Timestamp;
use parallax_protocol::AttemptId;
use parallax_validation::base::perspective::PerspectiveId;

pub use self::{
    directory::{CaptureError, Directory},
    pcap::is_capture_file,
};
use crate::node::NodeStats;

/// Captures that wait to be written.
const WAITING_MAX: usize = 64;
/// How often captures are looked through for those that are too old.
const LOOKED_THROUGH_EVERY: Duration = Duration::from_secs(60);
/// Octets of frames in one capture; later frames are left out.
pub(crate) const FRAMES_OCTETS_MAX: usize = 256 * 1024;
/// Octets of the longest capture: every frame is an Ethernet frame at least.
pub const CAPTURE_OCTETS_MAX: usize = 2 * FRAMES_OCTETS_MAX;
/// How names of captures end.
pub const CAPTURE_SUFFIX: &str = ".pcap";
/// Digits and letters of a name before the attempt: `20261215T000000.250Z`.
const STAMP: &str = "%Y%m%dT%H%M%S.%3fZ";
const STAMP_LENGTH: usize = 20;

/// Where captures go, and how many of them stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSettings {
    /// The directory. It is made if it is missing and what it lies in is not.
    pub directory: PathBuf,
    /// Octets that all captures together take; the oldest go first.
    pub octets_max: u64,
    /// How long one stays.
    pub age_max: Duration,
}

/// The packets of one check.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The attempt, as the report has it.
    pub(crate) attempt: AttemptId,
    /// When the check ended.
    pub(crate) ended: Timestamp,
    /// A capture file.
    pub(crate) file: Vec<u8>,
}

impl Capture {
    /// A name that begins with when the check ended, so that names sort by age; then come attempt and perspective.
    fn name(&self, of: &PerspectiveId) -> String {
        format!("{}-{}-{of}{CAPTURE_SUFFIX}", self.ended.strftime(STAMP), self.attempt)
    }
}

/// Whether a file has a name that a capture has.
fn is_capture(name: &str) -> bool {
    let Some((stamp, rest)) = name.split_at_checked(STAMP_LENGTH) else { return false };
    let is_stamp = stamp.char_indices().all(|(at, character)| match at {
        8 => character == 'T',
        15 => character == '.',
        19 => character == 'Z',
        _ => character.is_ascii_digit(),
    });
    is_stamp && rest.starts_with('-') && rest.ends_with(CAPTURE_SUFFIX)
}

/// The worker's end.
#[derive(Clone)]
pub(crate) struct CaptureOut {
    captures: Sender<Capture>,
    stats: Arc<NodeStats>,
}

impl CaptureOut {
    /// Whether so many wait that another one would be dropped, which is counted. Asked before one is composed.
    pub(crate) fn is_full(&self) -> bool {
        let full = self.captures.is_full();
        if full {
            self.stats.captures_lost.fetch_add(1, Ordering::Relaxed);
        }
        full
    }

    /// Hands one over to be written.
    pub(crate) fn send(&self, capture: Capture) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.captures.try_send(capture) {
            self.stats.captures_lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes. It ends when the last [`CaptureOut`] is gone.
pub(crate) struct Writing(Option<JoinHandle<()>>);

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // One that panicked has already said so on standard error.
            let _ = thread.join();
        }
    }
}

/// Opens the directory and starts to write.
///
/// # Errors
/// The directory cannot be used, or there is no thread.
pub(crate) fn start(
    settings: &CaptureSettings,
    perspective: &PerspectiveId,
    stats: &Arc<NodeStats>,
) -> Result<(CaptureOut, Writing), CaptureError> {
    let directory = Directory::open(settings, is_capture, SystemTime::now())?;
    let (captures, to_write) = bounded(WAITING_MAX);
    let (for_thread, perspective) = (Arc::clone(stats), perspective.clone());
    let thread = std::thread::Builder::new()
        .name(format!("{perspective}/captures"))
        .spawn(move || write_all(directory, &to_write, &perspective, &for_thread))
        .map_err(CaptureError::Thread)?;
    Ok((CaptureOut { captures, stats: Arc::clone(stats) }, Writing(Some(thread))))
}

fn write_all(mut directory: Directory, captures: &Receiver<Capture>, perspective: &PerspectiveId, stats: &NodeStats) {
    let mut told = false;
    loop {
        match captures.recv_timeout(LOOKED_THROUGH_EVERY) {
            Ok(capture) => match directory.write(capture.name(perspective), &capture.file, SystemTime::now()) {
                Ok(()) => {
                    told = false;
                    stats.captures_written.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    stats.captures_lost.fetch_add(1, Ordering::Relaxed);
                    // One line, not one for each check.
                    if !std::mem::replace(&mut told, true) {
                        eprintln!("perspective {perspective}: no capture can be written: {error}");
                    }
                }
            },
            Err(RecvTimeoutError::Timeout) => directory.remove_old(SystemTime::now()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
