//! What is done for a journal beside writing it: indexes of complete segments, and the removal of old ones.
//!
//! Both are looked into by one thread of low priority, at opening and after each rotation, and neither can stop the
//! writer: a failure is a line on standard error. Only the writer removes anything, at opening and between two commits.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam::channel::{Receiver, Sender, bounded};
use jiff::Timestamp;

use crate::{
    config::JournalSection,
    index::build_missing,
    journal::{JournalError, JournalOptions, Recovery, Removed, Writer},
    retention::{self, Plan, RetentionError},
};

/// Opens a journal as the settings want it, and looks after it until the writer is dropped.
///
/// # Errors
/// As of [`Writer::open`]. That old segments could not be removed is none, unless the journal cannot be written since.
pub fn open(directory: &Path, settings: &JournalSection) -> Result<(Writer, Recovery), JournalError> {
    let options = JournalOptions { segment_bytes_max: settings.segment_mib << 20 };
    let idle = idle_days(directory, Timestamp::now());
    let (mut writer, recovery) = Writer::open(directory, options)?;
    if let Some(cut) = recovery.cut {
        said(
            directory,
            &format!(
                "the last {} octets were not written to their end and are cut off; nothing of them was released",
                cut.bytes
            ),
        );
    }
    let mut keep = Keep::of(settings);
    if let (Some(_), Some(days)) = (keep, idle.filter(|days| *days > IDLE_DAYS_MAX)) {
        said(
            directory,
            &format!(
                "by the system's clock nothing was written for {days} days; if it is right, remove old segments with \
                 `parallax journal prune`: nothing is removed in this run"
            ),
        );
        keep = None;
    }
    if let Some(keep) = keep {
        let now = Timestamp::now();
        match retention::prune(&mut writer, keep.cut(now), now, keep.why()) {
            Ok(None) => {}
            Ok(Some(removed)) => eprintln!("parallax: {}: {removed}", directory.display()),
            Err(error) => said(directory, &error),
        }
    }
    attend(&mut writer, keep);
    Ok((writer, recovery))
}

/// Days after which the clock is suspected, rather than believed that nobody wrote: what is removed is gone.
const IDLE_DAYS_MAX: i64 = 200;

/// How far a journal's files may lie ahead of the clock before it is not trusted (req A20).
const AHEAD_MAX: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// When a journal was last written to, if that is still to come by the system's clock.
#[must_use]
pub fn written_ahead(directory: &Path, now: Timestamp) -> Option<Timestamp> {
    last_written(directory).filter(|written| *written > now + AHEAD_MAX)
}

/// When a journal was last written to, by its files. None if there is none.
fn last_written(directory: &Path) -> Option<Timestamp> {
    let files = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let segments = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "journal"));
    segments.filter_map(|file| Timestamp::try_from(file.metadata().ok()?.modified().ok()?).ok()).max()
}

/// Days since a journal was last written to, by its files. None if there is none.
fn idle_days(directory: &Path, now: Timestamp) -> Option<i64> {
    let written = last_written(directory)?;
    Some(now.duration_since(written).as_hours() / 24)
}

fn said(directory: &Path, error: &dyn std::fmt::Display) {
    eprintln!("parallax: {}: {error}", directory.display());
}

/// `journal.keep_days`, if it is set.
#[derive(Clone, Copy, Debug)]
struct Keep(u32);

impl Keep {
    fn of(settings: &JournalSection) -> Option<Self> {
        (settings.keep_days > 0).then_some(Self(settings.keep_days))
    }

    fn cut(self, now: Timestamp) -> Timestamp {
        retention::days_before(now, self.0)
    }

    fn why(self) -> String {
        format!("journal.keep_days = {}", self.0)
    }
}

/// The thread and what is said between it and the writer.
struct Upkeep {
    /// Something is to be looked after. One is enough, however many segments are complete.
    wake: Option<Sender<()>>,
    plans: Receiver<Plan>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        // Read by the thread alone; nothing else hangs on its order.
        self.stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed; the journal is sound all the same.
            let _ = thread.join();
        }
    }
}

fn attend(writer: &mut Writer, keep: Option<Keep>) {
    let (wake, woken) = bounded(1);
    let (plans_in, plans) = bounded(1);
    let stop = Arc::new(AtomicBool::new(false));
    let worker =
        Worker { directory: writer.directory().to_path_buf(), keep, woken, plans: plans_in, stop: Arc::clone(&stop) };
    let thread = match std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || worker.run()) {
        Ok(thread) => thread,
        Err(error) => return said(writer.directory(), &format!("no thread for the journal's upkeep: {error}")),
    };
    // What an earlier run left undone.
    let _ = wake.try_send(());
    let upkeep = Upkeep { wake: Some(wake), plans, stop, thread: Some(thread) };
    writer.after_rotation(move |writer| {
        if let (Some(keep), Ok(plan)) = (keep, upkeep.plans.try_recv()) {
            remove(writer, &plan, keep);
        }
        // One that waits already will see this segment too.
        let _ = upkeep.wake.as_ref().map(|wake| wake.try_send(()));
    });
}

fn remove(writer: &mut Writer, plan: &Plan, keep: Keep) {
    let removed = writer.finish_removal().and_then(|()| {
        // What was planned from another beginning has been done since.
        let due = plan.from == writer.segments().0;
        due.then(|| remove_due(writer, plan, keep)).transpose()
    });
    match removed {
        Ok(None) => {}
        Ok(Some(removed)) => eprintln!("parallax: {}: {removed}", writer.directory().display()),
        Err(error) => said(writer.directory(), &error),
    }
}

fn remove_due(writer: &mut Writer, plan: &Plan, keep: Keep) -> Result<Removed, JournalError> {
    let now = Timestamp::now();
    retention::remove_captures(writer.directory(), keep.cut(now));
    writer.remove_before(plan.before, plan.note(now, keep.why()))
}

struct Worker {
    directory: PathBuf,
    keep: Option<Keep>,
    woken: Receiver<()>,
    plans: Sender<Plan>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(self) {
        // Of this thread alone, as Linux has it. Without it the work is done at normal priority.
        let _ = rustix::process::setpriority_process(None, 19);
        while self.woken.recv().is_ok() && !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = build_missing(&self.directory, NonZeroUsize::MIN, &self.stop) {
                said(&self.directory, &format!("no index: {error}"));
            }
            if let Err(error) = self.plan() {
                said(&self.directory, &format!("old segments are not looked for: {error}"));
            }
        }
    }

    fn plan(&self) -> Result<(), RetentionError> {
        // A plan that waits already is as good.
        let Some(keep) = self.keep.filter(|_| !self.plans.is_full()) else { return Ok(()) };
        let now = Timestamp::now();
        if let Some(plan) = retention::plan(&self.directory, keep.cut(now), now, &self.stop)? {
            // Its only sender is here, and there was room.
            let _ = self.plans.try_send(plan);
        }
        Ok(())
    }
}
