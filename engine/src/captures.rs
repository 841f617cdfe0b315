//! Packets of attempts that deserve a closer look, beside their records: which they are, where they go, and for how long
//! they stay. The nodes keep them; what is asked for here is written by a thread of its own, and no verdict waits for it.
//!
//! A capture is no evidence: no record names it and no recomputation reads it. It holds what was on the wire, tokens and
//! names among it, so only its owner may read it.
//!
//! Invariant: a capture is named after an attempt of this engine and a perspective of its settings, whatever a node says.
//! Invariant: with `journal.keep_days` a capture goes no later than its record may.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::Timestamp;
use parallax_node::{
    TakePackets,
    captures::{CAPTURE_OCTETS_MAX, CAPTURE_SUFFIX, CaptureError, CaptureSettings, Directory, is_capture_file},
};
use parallax_protocol::AttemptId;
use parallax_validation::{base::perspective::PerspectiveId, verdict::PerspectiveState};

use crate::config::JournalSection;

/// The directory of captures in that of a journal.
const DIRECTORY: &str = "captures";
/// Captures that wait to be written; what is more is dropped.
const WAITING_MAX: usize = 256;
/// How often captures are looked through for those that are too old.
const LOOKED_THROUGH_EVERY: Duration = Duration::from_secs(60);
/// For ever.
const ALWAYS: Duration = Duration::MAX;
const DAY_S: u64 = 86_400;
/// Digits of an attempt.
const ATTEMPT_DIGITS: usize = 32;

/// Of which perspectives the packets are asked for, as a bit for each place: if it was permitted, of those that failed or
/// contradicted; if not, of all that answered, since what differs between them is what is looked for.
#[must_use]
pub fn worth_a_look(permitted: bool, states: impl Iterator<Item = PerspectiveState>) -> u64 {
    let worth = |state| match state {
        PerspectiveState::Contradicted | PerspectiveState::Failed => true,
        PerspectiveState::Confirmed => !permitted,
        PerspectiveState::TimedOut
        | PerspectiveState::Cancelled
        | PerspectiveState::RejectedReply
        | PerspectiveState::NotAwaited
        | PerspectiveState::NotAsked => false,
    };
    // A cohort is far smaller than that.
    states
        .take(u64::BITS as usize)
        .enumerate()
        .filter(|(_, state)| worth(*state))
        .fold(0, |bits, (at, _)| bits | 1 << at)
}

/// The captures of an attempt, by name.
#[must_use]
pub fn of(journal: &Path, attempt: AttemptId) -> Vec<PathBuf> {
    let directory = journal.join(DIRECTORY);
    // Without the directory there are none.
    let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
    let begins = format!("{attempt}-");
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut paths: Vec<_> =
        names.filter(|name| name.starts_with(&begins) && is_capture(name)).map(|name| directory.join(name)).collect();
    paths.sort();
    paths
}

/// Removes captures that were written before an instant, as their records were.
///
/// # Errors
/// The directory cannot be read, or a file not be removed.
pub fn remove_before(journal: &Path, cut: Timestamp) -> io::Result<()> {
    let entries = match fs::read_dir(journal.join(DIRECTORY)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let about = entry.metadata()?;
        let is_ours = entry.file_name().to_str().is_some_and(is_capture) && about.is_file();
        // A time that cannot be told is not before any other.
        if is_ours && Timestamp::try_from(about.modified()?).is_ok_and(|written| written < cut) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_capture(name: &str) -> bool {
    let (attempt, rest) = name.split_at_checked(ATTEMPT_DIGITS).unwrap_or_default();
    let is_digit = |octet: u8| octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet);
    let of = rest.strip_prefix('-').and_then(|rest| rest.strip_suffix(CAPTURE_SUFFIX));
    attempt.bytes().all(is_digit) && of.is_some_and(|of| of.parse::<PerspectiveId>().is_ok())
}

/// What waits to be written.
type Waiting = (String, Vec<u8>);

/// The thread that writes captures.
pub(crate) struct Captures {
    out: Option<Sender<Waiting>>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Captures {
    /// Starts to take captures into a journal's directory; none if the settings want none.
    ///
    /// # Errors
    /// The directory cannot be used, or there is no thread.
    pub(crate) fn start(journal: &Path, settings: &JournalSection) -> Result<Option<Self>, CaptureError> {
        if settings.captures_mib == 0 {
            return Ok(None);
        }
        let age_max = match settings.keep_days {
            0 => ALWAYS,
            days => Duration::from_secs(u64::from(days) * DAY_S),
        };
        let (directory, octets_max) = (journal.join(DIRECTORY), settings.captures_mib << 20);
        let settings = CaptureSettings { directory, octets_max, age_max };
        let directory = Directory::open(&settings, is_capture, SystemTime::now())?;
        let (out, waiting) = bounded(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let for_thread = Arc::clone(&dropped);
        let thread = std::thread::Builder::new()
            .name("captures".to_owned())
            .spawn(move || write_all(directory, &waiting, &for_thread))
            .map_err(CaptureError::Thread)?;
        Ok(Some(Self { out: Some(out), dropped, thread: Some(thread) }))
    }

    /// Who takes the packets that a perspective's node gives.
    pub(crate) fn taker(&self, perspective: &PerspectiveId) -> TakePackets {
        let (out, dropped, perspective) = (self.out.clone(), Arc::clone(&self.dropped), perspective.clone());
        Arc::new(move |attempt, capture| {
            let fits = capture.len() <= CAPTURE_OCTETS_MAX && is_capture_file(&capture);
            let waiting = (format!("{attempt}-{perspective}{CAPTURE_SUFFIX}"), capture);
            if !fits || out.as_ref().is_none_or(|out| out.try_send(waiting).is_err()) {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}

impl Drop for Captures {
    /// Ends when the takers are gone too.
    fn drop(&mut self) {
        self.out = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed; records are sound all the same.
            let _ = thread.join();
        }
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            eprintln!("parallax: {dropped} captures were not kept, since more came than could be written");
        }
    }
}

fn write_all(mut directory: Directory, waiting: &Receiver<Waiting>, dropped: &AtomicU64) {
    let mut told = false;
    loop {
        match waiting.recv_timeout(LOOKED_THROUGH_EVERY) {
            Ok((name, capture)) => match directory.write(name, &capture, SystemTime::now()) {
                Ok(()) => told = false,
                Err(error) => {
                    dropped.fetch_add(1, Ordering::Relaxed);
                    // One line, not one for each.
                    if !std::mem::replace(&mut told, true) {
                        eprintln!("parallax: no capture can be written: {error}");
                    }
                }
            },
            Err(RecvTimeoutError::Timeout) => directory.remove_old(SystemTime::now()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: &str = "0000000000000000000000000000002a";

    fn journal() -> tempfile::TempDir {
        tempfile::TempDir::new().expect("a directory")
    }

    /// A file of so many octets that begins as a capture does.
    fn capture(octets: usize) -> Vec<u8> {
        let mut file = vec![0; octets];
        file[..4].copy_from_slice(&[0x4d, 0x3c, 0xb2, 0xa1]);
        file
    }

    #[test]
    fn what_is_worth_a_look_follows_from_the_verdict() {
        use PerspectiveState::{
            Cancelled, Confirmed, Contradicted, Failed, NotAsked, NotAwaited, RejectedReply, TimedOut,
        };
        let all = [Confirmed, Contradicted, Failed, TimedOut, Cancelled, RejectedReply, NotAwaited, NotAsked];
        assert_eq!(worth_a_look(true, all.into_iter()), 0b110);
        assert_eq!(worth_a_look(false, all.into_iter()), 0b111);
        assert_eq!(worth_a_look(true, [Confirmed; 6].into_iter()), 0);
        assert_eq!(worth_a_look(false, [Failed; 100].into_iter()), u64::MAX);
    }

    #[test]
    fn captures_are_found_by_their_attempt() {
        let journal = journal();
        assert_eq!(of(journal.path(), AttemptId(42)), Vec::<PathBuf>::new());
        let settings = JournalSection { captures_mib: 1, ..JournalSection::default() };
        let captures = Captures::start(journal.path(), &settings).expect("a directory").expect("wanted");
        for id in ["waw1", "ams1"] {
            let take = captures.taker(&id.parse().expect("an id"));
            take(AttemptId(42), capture(27));
            take(AttemptId(43), capture(24));
            take(AttemptId(44), capture(CAPTURE_OCTETS_MAX + 1));
            for none in [Vec::new(), vec![1; 100], capture(23)] {
                take(AttemptId(45), none);
            }
        }
        drop(captures);
        let names = |attempt| {
            let paths = of(journal.path(), AttemptId(attempt));
            paths
                .iter()
                .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(42), [format!("{MADE}-ams1.pcap"), format!("{MADE}-waw1.pcap")]);
        assert_eq!((names(43).len(), names(44).len(), names(45).len()), (2, 0, 0));
        assert_eq!(fs::read(&of(journal.path(), AttemptId(42))[0]).expect("the file"), capture(27));
    }

    #[test]
    fn none_are_taken_unless_they_are_wanted() {
        let journal = journal();
        assert!(Captures::start(journal.path(), &JournalSection::default()).expect("no error").is_none());
        assert_eq!(fs::read_dir(journal.path()).expect("there").count(), 0);
    }

    #[test]
    fn those_of_removed_records_go_and_nothing_else() {
        let journal = journal();
        remove_before(journal.path(), Timestamp::MAX).expect("nothing is there");
        let directory = journal.path().join(DIRECTORY);
        fs::create_dir(&directory).expect("made");
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let (old, new, other) = (format!("{MADE}-ams1.pcap"), format!("{MADE}-waw1.pcap"), "notes.pcap");
        for name in [&old, &new, other] {
            let file = fs::File::create(directory.join(name)).expect("made");
            if *name != new {
                file.set_modified(long_ago).expect("set");
            }
        }
        remove_before(journal.path(), Timestamp::from_second(1000).expect("an instant")).expect("removed");
        assert!(directory.join(&old).exists(), "not before then");
        remove_before(journal.path(), Timestamp::from_second(1001).expect("an instant")).expect("removed");
        assert!(!directory.join(&old).exists() && directory.join(&new).exists() && directory.join(other).exists());
    }

    #[test]
    fn names_of_captures_are_an_attempt_and_a_perspective() {
        assert!(is_capture(&format!("{MADE}-ams1.pcap")));
        for name in ["", "a", MADE, &format!("{MADE}-.pcap"), &format!("{MADE}-A.pcap"), &format!("{MADE}-ams1.txt")] {
            assert!(!is_capture(name), "{name}");
        }
        assert!(!is_capture(&format!("{}-ams1.pcap", MADE.replace('a', "A"))));
        assert!(!is_capture(&"ü".repeat(40)));
    }
}
