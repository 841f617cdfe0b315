//! `parallax watch`: alarms and patterns out of a journal (req H10–H12).
//!
//! Everything an operator must be told is durable in the journal before a verdict is released. So a process of its own
//! reads it there, beside the engine's or later, and shares nothing with the engine but the files.
//!
//! * [`alarm`]: what an entry says that must be told.
//! * [`limit`]: the rate of alarms, and the digest of the rest.
//! * [`patterns`]: counters, and by [`detector`] which perspective, region or network differs.
//! * [`webhook`]: delivery over HTTP.
//! * [`watcher`]: all of it as a function of the entries.
//!
//! The journal is read from its begin at each start, since counters and tests follow from all of it; only what lies
//! behind the cursor is told. Invariant: the cursor passes an entry only after all its alarms are delivered; so each is
//! delivered at least once, under the same id.

pub mod alarm;
mod cursor;
pub mod detector;
pub mod limit;
mod log;
mod metrics;
pub mod patterns;
#[cfg(test)]
mod tests;
pub mod watcher;
pub mod webhook;

use std::{
    collections::VecDeque,
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;
use thiserror::Error;

use self::{
    alarm::{Alarm, Source, hex},
    cursor::{Cursor, beside},
    log::Log,
    metrics::Lag,
    watcher::{Report, Watcher},
    webhook::{BATCH_ALARMS_MAX, BATCH_BYTES_MAX, Batch, TRIES_MAX, Tried, Webhook, back_off},
};
pub use self::{
    cursor::CursorError,
    webhook::{WebhookError, WebhookOptions},
};
use crate::{
    audit::{AuditError, read_item},
    journal::{Entry, JournalError, Reader},
};

/// A refusal waits as long as after so many failures in a row.
const REFUSED_AS_FAILURES: u32 = 3;
/// How often the end of a followed journal is looked at.
const POLL: Duration = Duration::from_millis(200);
/// How often a wait looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);
/// How often the figures of the lag are made anew.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// How often a webhook that keeps failing is told of.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// How often the cursor is written while no alarms are delivered: a sync can slow down the engine's own.
const CURSOR_EVERY: Duration = Duration::from_secs(5);
/// Alarms that wait for their delivery; no more is read before.
const WAITING_MAX: usize = 4 * BATCH_ALARMS_MAX;
/// Entries between two looks at the clock while much is read.
const ENTRIES_PER_LOOK: u64 = 256;
/// Octets of a frame besides its payload.
const FRAME_BYTES: u64 = 52;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Journal directory.
    pub journal: PathBuf,
    /// Whether to stay at its end.
    pub follow: bool,
    /// The cursor file; beside the journal if not given, and only if alarms are delivered or the journal is followed.
    pub cursor: Option<PathBuf>,
    /// Alarms of a kind and severity in a minute.
    pub per_minute: u32,
    /// Where they go besides standard output.
    pub webhook: Option<WebhookOptions>,
    /// Where figures are served.
    pub metrics: Option<SocketAddr>,
    /// Alarms as JSON Lines.
    pub json: bool,
    /// What goes to standard error as JSON Lines.
    pub log_json: bool,
}

/// Why it ended early.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The journal.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The cursor.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The webhook's settings.
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The receiver does not want the alarms, or did not take them.
    #[error("{url} did not take the alarms from entry {entry} on: {problem}; the cursor stays before them")]
    NotDelivered {
        /// The receiver.
        url: String,
        /// The first entry concerned.
        entry: u64,
        /// Why.
        problem: String,
    },
    /// Standard output.
    #[error("standard output: {0}; the cursor stays before what was not written")]
    Output(io::Error),
    /// The figures' address.
    #[error("--metrics {address}: {error}")]
    Metrics {
        /// As given.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

impl From<JournalError> for WatchError {
    fn from(error: JournalError) -> Self {
        Self::Audit(AuditError::Journal(error))
    }
}

impl WatchError {
    /// Whether what was given cannot be used; otherwise the system failed.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        match self {
            Self::Audit(AuditError::Journal(error)) => {
                error.io_error().is_none_or(|error| error.kind() == io::ErrorKind::NotFound)
            }
            Self::Audit(AuditError::Entry { .. }) | Self::Webhook(_) => true,
            Self::Cursor(error) => !matches!(error, CursorError::Io { .. }),
            Self::NotDelivered { .. } | Self::Output(_) | Self::Metrics { .. } => false,
        }
    }
}

/// How it ended.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Whether it was stopped.
    pub interrupted: bool,
    /// What the journal held.
    pub report: Report,
}

/// Watches a journal. Alarms go to `out` as they are delivered; the report is left to the caller.
///
/// # Errors
/// See [`WatchError`]; what was not delivered is told again by the next run.
pub fn watch(options: &WatchOptions, stop: &AtomicBool, out: &mut dyn Write) -> Result<Watched, WatchError> {
    let reader = Reader::open(&options.journal)?;
    let webhook = options.webhook.as_ref().map(Webhook::new).transpose()?;
    let kept = options.follow || webhook.is_some();
    let path = options.cursor.clone().or_else(|| kept.then(|| default_cursor(&options.journal)));
    let cursor = path.as_deref().map(Cursor::open).transpose()?;
    let watcher = Watcher::new(options.per_minute);
    let log = Log::new(options.log_json);
    if let Some(address) = options.metrics {
        let bound =
            metrics::serve(address, watcher.metrics.clone()).map_err(|error| WatchError::Metrics { address, error })?;
        log.say("info", "metrics", &format!("figures at http://{bound}/metrics"), json!({ "address": bound }));
    }
    let begin = cursor.as_ref().map_or(0, Cursor::sequence);
    let mut follower = Follower {
        options,
        stop,
        out,
        reader,
        watcher,
        webhook,
        cursor,
        log,
        begin,
        read: Place::default(),
        places: VecDeque::new(),
        waiting: VecDeque::new(),
        cursor_moved: None,
        lag_told: None,
        failure_told: None,
    };
    let interrupted = follower.run()?;
    Ok(Watched { interrupted, report: follower.watcher.report() })
}

/// Beside the journal, whose directory is the engine's.
fn default_cursor(journal: &Path) -> PathBuf {
    let trimmed: PathBuf = journal.components().collect();
    beside(&trimmed, ".watch")
}

/// An entry that was read.
#[derive(Clone, Debug, Default)]
struct Place {
    sequence: u64,
    chain: [u8; 32],
    at: Option<Timestamp>,
    segment: u64,
    /// Its end in the segment.
    end: u64,
}

struct Follower<'a> {
    options: &'a WatchOptions,
    stop: &'a AtomicBool,
    out: &'a mut dyn Write,
    reader: Reader,
    watcher: Watcher,
    webhook: Option<Webhook>,
    cursor: Option<Cursor>,
    log: Log,
    /// Where the cursor stood at the start: nothing up to there is told.
    begin: u64,
    read: Place,
    /// The chain hashes that the cursor may yet need: of the entries before alarms that wait or are held back.
    places: VecDeque<(u64, [u8; 32])>,
    waiting: VecDeque<Alarm>,
    cursor_moved: Option<Instant>,
    lag_told: Option<Instant>,
    failure_told: Option<Instant>,
}

impl Follower<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Until the end of the journal, or until it is stopped; gives whether it was.
    fn run(&mut self) -> Result<bool, WatchError> {
        loop {
            if self.stopped() {
                return self.last_words();
            }
            match self.reader.next_entry()? {
                Some(entry) => {
                    self.take(&entry)?;
                    if self.waiting.len() >= WAITING_MAX {
                        self.deliver(false)?;
                    } else if entry.sequence.is_multiple_of(ENTRIES_PER_LOOK) {
                        self.show_lag();
                    }
                }
                None => {
                    self.at_end()?;
                    if !self.options.follow {
                        return Ok(self.stopped());
                    }
                    self.wait(POLL);
                }
            }
        }
    }

    fn take(&mut self, entry: &Entry) -> Result<(), WatchError> {
        let item = read_item(entry)?;
        let at = match &item {
            crate::audit::Item::Setup(_) | crate::audit::Item::Removed(_) => None,
            crate::audit::Item::Record(record) => Some(record.decided),
            crate::audit::Item::Late(late) | crate::audit::Item::Trial(late) => Some(late.received),
            crate::audit::Item::Rejected(entry) => Some(entry.received),
        };
        let before = (self.read.sequence, self.read.chain);
        let mut alarms = Vec::new();
        if let Some(problem) = self.watcher.take(&Source::of(entry), item, &mut alarms) {
            let text = format!(
                "entry {}: its setup cannot be used, so its perspectives are not known: {problem}",
                entry.sequence
            );
            self.log.say("warning", "setup", &text, json!({ "entry": entry.sequence, "problem": problem }));
        }
        self.read = Place {
            sequence: entry.sequence,
            chain: entry.chain,
            at: at.or(self.read.at),
            segment: entry.segment,
            end: entry.offset + FRAME_BYTES + entry.payload.len() as u64,
        };
        alarms.retain(|alarm| alarm.entry > self.begin);
        if let Some(cursor) = self.cursor.as_ref().filter(|_| entry.sequence == self.begin) {
            cursor.check(&hex(&entry.chain))?;
            self.watcher.forget_held();
        }
        let holds = !alarms.is_empty() || self.watcher.first_held() == Some(entry.sequence);
        if holds && entry.sequence > self.begin {
            self.places.push_back(before);
        }
        self.waiting.extend(alarms);
        Ok(())
    }

    fn at_end(&mut self) -> Result<(), WatchError> {
        if let Some(cursor) = self.cursor.as_ref().filter(|_| self.read.sequence < self.begin) {
            return Err(cursor.beyond(self.read.sequence).into());
        }
        let mut alarms = Vec::new();
        if self.options.follow {
            self.watcher.tick(Timestamp::now(), &mut alarms);
        } else {
            self.watcher.end(&mut alarms);
        }
        self.waiting.extend(alarms);
        self.deliver(false)?;
        self.show_lag();
        if let Some(cut) = self.reader.torn_tail().filter(|_| !self.options.follow) {
            let text = format!("the last {} octets are no whole entry, or are being written", cut.bytes);
            self.log.say("info", "torn_tail", &text, json!({ "segment": cut.segment, "octets": cut.bytes }));
        }
        Ok(())
    }

    /// It was stopped: what waits is tried once more. What is not taken comes again at the next start.
    fn last_words(&mut self) -> Result<bool, WatchError> {
        if self.read.sequence >= self.begin {
            let mut alarms = Vec::new();
            self.watcher.end(&mut alarms);
            self.waiting.extend(alarms);
            self.deliver(true)?;
        }
        Ok(true)
    }

    /// Delivers what waits, batch by batch, and moves the cursor. `once` gives up at the first failure.
    fn deliver(&mut self, once: bool) -> Result<(), WatchError> {
        while !self.waiting.is_empty() {
            let count = batch_length(&self.waiting);
            let batch: Vec<Alarm> = self.waiting.iter().take(count).cloned().collect();
            self.write_out(&batch).map_err(WatchError::Output)?;
            if !self.post(&batch, once)? {
                return Ok(());
            }
            self.waiting.drain(..count);
            self.watcher.delivered(&batch);
            self.advance()?;
        }
        let due = self.cursor_moved.is_none_or(|moved| moved.elapsed() >= CURSOR_EVERY);
        if due || once || !self.options.follow { self.advance() } else { Ok(()) }
    }

    fn write_out(&mut self, batch: &[Alarm]) -> io::Result<()> {
        for alarm in batch {
            if self.options.json {
                let line = serde_json::to_string(alarm).map_err(io::Error::other)?;
                self.out.write_all(line.as_bytes())?;
                self.out.write_all(b"\n")?;
            } else {
                self.out.write_all(alarm.as_text().as_bytes())?;
            }
            self.log.alarm(alarm);
        }
        self.out.flush()
    }

    /// Sends a batch until it is taken; gives whether it was.
    fn post(&mut self, alarms: &[Alarm], once: bool) -> Result<bool, WatchError> {
        if self.webhook.is_none() {
            return Ok(true);
        }
        let batch = Batch::of(alarms);
        let entry = alarms.iter().map(|alarm| alarm.first_entry).min().unwrap_or_default();
        let mut failures = 0;
        loop {
            let Some(webhook) = &self.webhook else { return Ok(true) };
            let url = webhook.shown.clone();
            match webhook.send(&batch, Timestamp::now()) {
                Tried::Delivered => {
                    self.watcher.metrics.tried("delivered");
                    if failures > 0 {
                        let text = format!("{url} takes alarms again");
                        self.log.say("info", "webhook_delivered", &text, json!({ "url": url, "failures": failures }));
                    }
                    return Ok(true);
                }
                Tried::Refused(problem) => {
                    self.watcher.metrics.tried("refused");
                    return Err(WatchError::NotDelivered { url, entry, problem });
                }
                Tried::Doubted(problem) if !self.options.follow => {
                    self.watcher.metrics.tried("refused");
                    return Err(WatchError::NotDelivered { url, entry, problem });
                }
                // Whoever follows goes on trying, slowly, and says so: it may be a mistake that is being mended, and
                // the alarms behind this batch matter as much.
                Tried::Doubted(problem) => {
                    self.watcher.metrics.tried("refused");
                    failures = failures.max(REFUSED_AS_FAILURES);
                    failures += 1;
                    self.tell_failure(&url, &problem, failures);
                    if once || self.wait(back_off(failures, None)) {
                        return Ok(false);
                    }
                }
                Tried::Later(problem, wanted) => {
                    self.watcher.metrics.tried("failed");
                    failures += 1;
                    self.tell_failure(&url, &problem, failures);
                    if !self.options.follow && failures >= TRIES_MAX {
                        let problem = format!("{failures} tries, the last: {problem}");
                        return Err(WatchError::NotDelivered { url, entry, problem });
                    }
                    if once || self.wait(back_off(failures, wanted)) {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn tell_failure(&mut self, url: &str, problem: &str, failures: u32) {
        if self.failure_told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.failure_told = Some(Instant::now());
        let cursor = self.cursor.as_ref().map(Cursor::sequence);
        let text = format!(
            "warning: {url} does not take alarms ({problem}); they are kept and tried again, and the cursor stays at \
             entry {}",
            cursor.unwrap_or_default()
        );
        let fields = json!({ "url": url, "problem": problem, "failures": failures, "cursor": cursor });
        self.log.say("warning", "webhook_failed", &text, fields);
    }

    /// Moves the cursor to just before the first entry that something is still to be told of.
    fn advance(&mut self) -> Result<(), WatchError> {
        let waiting = self.waiting.iter().map(|alarm| alarm.first_entry);
        let first = waiting.chain(self.watcher.first_held()).min();
        let (sequence, chain) = match first {
            None => {
                self.places.clear();
                (self.read.sequence, self.read.chain)
            }
            Some(first) => {
                while self.places.get(1).is_some_and(|(sequence, _)| *sequence < first) {
                    self.places.pop_front();
                }
                match self.places.front() {
                    Some((sequence, chain)) if *sequence < first => (*sequence, *chain),
                    _ => return Ok(()),
                }
            }
        };
        self.cursor_moved = Some(Instant::now());
        match &mut self.cursor {
            Some(cursor) if sequence > 0 => Ok(cursor.advance(sequence, hex(&chain))?),
            _ => Ok(()),
        }
    }

    /// Waits; gives whether it was stopped.
    fn wait(&mut self, whole: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < whole && !self.stopped() {
            std::thread::sleep(LOOK.min(whole));
            self.show_lag();
        }
        self.stopped()
    }

    fn show_lag(&mut self) {
        if self.options.metrics.is_none() || self.lag_told.is_some_and(|told| told.elapsed() < LAG_EVERY) {
            return;
        }
        self.lag_told = Some(Instant::now());
        let delivered = self.cursor.as_ref().map_or(self.read.sequence, Cursor::sequence);
        let bytes = unread(&self.options.journal, &self.read);
        let oldest = self.waiting.front().map(|alarm| alarm.at).or(self.read.at.filter(|_| bytes > 0));
        let seconds = oldest.map_or(0.0, |at| Timestamp::now().duration_since(at).as_secs_f64().max(0.0));
        self.watcher.metrics.lag(Lag { entries: self.read.sequence.saturating_sub(delivered), bytes, seconds });
    }
}

/// How many of the first alarms make a batch: at least one.
fn batch_length(alarms: &VecDeque<Alarm>) -> usize {
    let mut bytes = 0;
    let fits = |alarm: &&Alarm| {
        bytes += serde_json::to_string(alarm).map_or(0, |text| text.len());
        bytes <= BATCH_BYTES_MAX
    };
    alarms.iter().take(BATCH_ALARMS_MAX).take_while(fits).count().max(1)
}

/// Octets of the journal after a place. What cannot be looked at counts nothing; reading it will tell.
fn unread(journal: &Path, place: &Place) -> u64 {
    let Ok(files) = fs::read_dir(journal) else { return 0 };
    let number = |name: &str| name.strip_suffix(".journal")?.parse::<u64>().ok();
    files
        .filter_map(Result::ok)
        .filter_map(|file| Some((number(file.file_name().to_str()?)?, file.metadata().ok()?.len())))
        .map(|(segment, length)| match segment.cmp(&place.segment) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => length.saturating_sub(place.end),
            std::cmp::Ordering::Greater => length,
        })
        .sum()
}
