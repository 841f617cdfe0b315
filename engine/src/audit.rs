//! Reading a journal back, and recomputing every verdict from it alone.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, RwLock},
};

use parallax_validation::{
    base::{attempt::AttemptId, octets::escape},
    record::{LateEntry, Record, RejectedEntry, Rules, Setup},
    verdict::cohort::Cohort,
};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::{
    corroborate::{ENTRY_LATE, ENTRY_RECORD, ENTRY_REJECTED, ENTRY_SETUP, ENTRY_TRIAL},
    journal::{Cut, Entry, JournalError, KIND_REMOVED, Reader, Removed},
};

/// One entry, read.
#[derive(Debug)]
pub enum Item {
    /// Rules and cohort of the records that name it.
    Setup(Box<Setup>),
    /// An attempt.
    Record(Box<Record>),
    /// An answer that came after its verdict.
    Late(Box<LateEntry>),
    /// An answer of a perspective on trial.
    Trial(Box<LateEntry>),
    /// A report that did not count.
    Rejected(Box<RejectedEntry>),
    /// Segments that were removed.
    Removed(Box<Removed>),
}

/// A journal that cannot be read, or does not hold what it should.
#[derive(Debug, Error)]
pub enum AuditError {
    /// Its form.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An entry.
    #[error("entry {sequence} (segment {segment}, offset {offset}): {problem}")]
    Entry {
        /// Its number.
        sequence: u64,
        /// Its segment.
        segment: u64,
        /// Its place there, octets.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
}

/// Entries of a journal, one after the other.
pub struct Items {
    reader: Reader,
}

impl Items {
    /// Opens a journal for reading; a writer may be at work.
    ///
    /// # Errors
    /// It is none, or damaged.
    pub fn open(directory: &Path) -> Result<Self, AuditError> {
        Ok(Self { reader: Reader::open(directory)? })
    }

    /// The next entry with its number.
    ///
    /// # Errors
    /// Damage, or an entry that cannot be read.
    pub fn next_item(&mut self) -> Result<Option<(u64, Item)>, AuditError> {
        let Some(entry) = self.reader.next_entry()? else { return Ok(None) };
        Ok(Some((entry.sequence, read_item(&entry)?)))
    }

    /// A tail that was not written to its end, if there is one.
    #[must_use]
    pub fn torn_tail(&self) -> Option<Cut> {
        self.reader.torn_tail()
    }

    /// What was removed from the front, if anything was.
    #[must_use]
    pub fn removed(&self) -> Option<&Removed> {
        self.reader.removed()
    }
}

/// Reads what an entry holds.
pub(crate) fn read_item(entry: &Entry) -> Result<Item, AuditError> {
    let problem = |problem: String| AuditError::Entry {
        sequence: entry.sequence,
        segment: entry.segment,
        offset: entry.offset,
        problem,
    };
    let json = |error: serde_json::Error| problem(escape(error.to_string().as_bytes()));
    match entry.kind {
        ENTRY_SETUP => serde_json::from_slice(&entry.payload).map(Item::Setup).map_err(json),
        ENTRY_RECORD => serde_json::from_slice(&entry.payload).map(Item::Record).map_err(json),
        ENTRY_LATE => serde_json::from_slice(&entry.payload).map(Item::Late).map_err(json),
        ENTRY_TRIAL => serde_json::from_slice(&entry.payload).map(Item::Trial).map_err(json),
        ENTRY_REJECTED => serde_json::from_slice(&entry.payload).map(Item::Rejected).map_err(json),
        KIND_REMOVED => serde_json::from_slice(&entry.payload).map(Item::Removed).map_err(json),
        other => Err(problem(format!("kind {other} is not known to this version"))),
    }
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verification {
    /// Attempts recomputed.
    pub records: u64,
    /// Of these, permissions.
    pub corroborated: u64,
    /// Late answers.
    pub late: u64,
    /// Answers of perspectives on trial.
    pub trials: u64,
    /// Reports that did not count.
    pub rejected_reports: u64,
    /// Attempts whose outcome was not released, since the process started afresh.
    pub restarted: u64,
    /// Different setups.
    pub setups: u64,
    /// What was removed from the front, if anything was.
    pub removed: Option<Removed>,
    /// Entries whose recomputation differs, with the reason.
    pub mismatches: Vec<String>,
    /// Request ids with more than one record that was released. A bulk run never has any; who calls the API may use an id
    /// again.
    pub repeated: Vec<String>,
    /// A tail that was not written to its end; nothing of it was released.
    pub torn_tail: Option<Cut>,
}

impl Verification {
    /// Whether everything holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.mismatches.is_empty()
    }
}

/// Entries handed to a thread at a time.
const ENTRIES_PER_BATCH: usize = 128;
/// Batches that wait for a thread.
const BATCHES_WAITING_MAX: usize = 64;

/// What came of a scan.
pub(crate) struct Scanned<T> {
    /// What each thread made of its entries.
    pub(crate) parts: Vec<T>,
    /// Setups that cannot be used, by the number of the entry.
    pub(crate) unusable: Vec<(u64, String)>,
    /// Setups that were made ready.
    pub(crate) setups: u64,
}

/// Lets `feed` read a journal, or parts of it, and gives the entries to `each` on `threads` others, in no order that is
/// known. Setups are kept and not given.
///
/// # Errors
/// Those of `feed`, and a setup that cannot be read.
pub(crate) fn spread<T: Default + Send>(
    threads: NonZeroUsize,
    each: impl Fn(&mut T, &Entry, &Setups) + Sync,
    feed: impl FnOnce(&mut Feed<'_>) -> Result<(), AuditError>,
) -> Result<Scanned<T>, AuditError> {
    let setups = Setups::default();
    let (batches, work) = crossbeam::channel::bounded::<Vec<Entry>>(BATCHES_WAITING_MAX);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.get())
            .map(|_| {
                let (work, setups, each) = (work.clone(), &setups, &each);
                scope.spawn(move || {
                    let mut part = T::default();
                    work.iter().flatten().for_each(|entry| each(&mut part, &entry, setups));
                    part
                })
            })
            .collect();
        drop(work);
        let mut feeding =
            Feed { setups: &setups, seen: HashSet::new(), read: 0, unusable: Vec::new(), batch: Vec::new(), batches };
        let fed = feed(&mut feeding);
        feeding.flush();
        let Feed { read, unusable, batches, .. } = feeding;
        drop(batches);
        // A thread that panicked has judged nothing that may count.
        let parts = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        fed.map(|()| Scanned { parts, unusable, setups: read })
    })
}

/// Hands entries out. Setups are kept before the entries after them are handed out, so that these find them.
pub(crate) struct Feed<'a> {
    setups: &'a Setups,
    /// Setups that were read, by the digest of their text: to make one ready may be dear.
    seen: HashSet<[u8; 32]>,
    read: u64,
    unusable: Vec<(u64, String)>,
    batch: Vec<Entry>,
    batches: crossbeam::channel::Sender<Vec<Entry>>,
}

impl Feed<'_> {
    /// Hands out an entry, or keeps the setup in it.
    ///
    /// # Errors
    /// A setup that cannot be read.
    pub(crate) fn give(&mut self, entry: Entry) -> Result<(), AuditError> {
        if entry.kind == ENTRY_SETUP {
            return self.keep(&entry);
        }
        self.batch.push(entry);
        if self.batch.len() == ENTRIES_PER_BATCH {
            self.flush();
        }
        Ok(())
    }

    fn keep(&mut self, entry: &Entry) -> Result<(), AuditError> {
        if !self.seen.insert(Sha256::digest(&entry.payload).into()) {
            return Ok(());
        }
        self.read += 1;
        let Item::Setup(setup) = read_item(entry)? else { return Ok(()) };
        match setup.rules() {
            Ok(rules) => self.setups.keep(entry.sequence, rules),
            Err(error) => {
                self.unusable.push((entry.sequence, format!("entry {}: {error}", entry.sequence)));
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        let full = std::mem::replace(&mut self.batch, Vec::with_capacity(ENTRIES_PER_BATCH));
        // The threads take all there is; they end after this one.
        let _ = self.batches.send(full);
    }
}

/// Setups by digest with the numbers of their entries, as far as the journal has been read.
#[derive(Default)]
pub(crate) struct Setups(RwLock<HashMap<String, (u64, Arc<Rules>)>>);

impl Setups {
    fn keep(&self, sequence: u64, rules: Rules) {
        let mut known = self.0.write().expect("no holder panics");
        known.entry(rules.digest().to_owned()).or_insert((sequence, Arc::new(rules)));
    }

    /// The setup of a record, if it stands before the record; what is read may be far ahead.
    pub(crate) fn of(&self, record: &Record, sequence: u64) -> Option<Arc<Rules>> {
        let known = self.0.read().expect("no holder panics").get(&record.setup).cloned();
        known.filter(|(at, _)| *at < sequence).map(|(_, rules)| rules)
    }
}

/// What one thread of a verification found.
#[derive(Default)]
struct Part {
    found: Verification,
    /// Differences, by the number of the entry.
    mismatches: Vec<(u64, String)>,
    /// The first entry that cannot be read.
    failure: Option<(u64, AuditError)>,
    seen: HashMap<String, u32>,
    /// All attempts, with their entries.
    attempts: Vec<(AttemptId, u64)>,
    /// What is wrong with the cohort of a setup under a row, if anything is.
    cohorts: HashMap<(String, String), Option<String>>,
    /// Attempts after which the process started afresh, with their entries.
    restarted: HashMap<AttemptId, (u64, Link)>,
    /// Attempts that follow another, with their own entries and what they follow.
    followers: Vec<(u64, AttemptId, Link)>,
}

/// What ties an attempt to the one it follows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    request: String,
    /// The number of the restart; 0 for a first attempt.
    number: u8,
}

/// Recomputes every verdict of a journal from the journal alone, on `threads` threads.
///
/// # Errors
/// Damage, or an entry that cannot be read: the first in the journal.
pub fn verify(directory: &Path, threads: NonZeroUsize) -> Result<Verification, AuditError> {
    let mut reader = Reader::open(directory)?;
    let scanned = spread(threads, Part::judge, |feed| {
        while let Some(entry) = reader.next_entry()? {
            feed.give(entry)?;
        }
        Ok(())
    })?;
    let mut mismatches = scanned.unusable;
    let mut found = Verification {
        torn_tail: reader.torn_tail(),
        removed: reader.removed().cloned(),
        setups: scanned.setups,
        ..Verification::default()
    };
    let mut seen: HashMap<String, u32> = HashMap::new();
    let (mut restarted, mut followers, mut attempts) = (HashMap::new(), Vec::new(), Vec::new());
    let mut failure: Option<(u64, AuditError)> = None;
    for part in scanned.parts {
        found.records += part.found.records;
        found.corroborated += part.found.corroborated;
        found.late += part.found.late;
        found.trials += part.found.trials;
        found.rejected_reports = found.rejected_reports.saturating_add(part.found.rejected_reports);
        attempts.extend(part.attempts);
        restarted.extend(part.restarted);
        followers.extend(part.followers);
        mismatches.extend(part.mismatches);
        part.seen.into_iter().for_each(|(id, count)| *seen.entry(id).or_default() += count);
        failure = [failure, part.failure].into_iter().flatten().min_by_key(|(sequence, _)| *sequence);
    }
    if let Some((_, error)) = failure {
        return Err(error);
    }
    found.restarted = restarted.len() as u64;
    mismatches.extend(broken_links(restarted, followers, &seen, found.removed.is_some()));
    mismatches.extend(doubled(attempts));
    mismatches.sort_by_key(|(sequence, _)| *sequence);
    found.mismatches = mismatches.into_iter().map(|(_, text)| text).collect();
    found.repeated = seen.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id).collect();
    found.repeated.sort();
    Ok(found)
}

/// Attempts that claim to follow one that is not there before them, or that another follows already, and outcomes that
/// hide what they follow (req F2, H8, E8). One that is not there may have been `removed` with the front of the journal.
fn broken_links(
    mut restarted: HashMap<AttemptId, (u64, Link)>,
    mut followers: Vec<(u64, AttemptId, Link)>,
    answered: &HashMap<String, u32>,
    removed: bool,
) -> Vec<(u64, String)> {
    followers.sort_by_key(|(sequence, ..)| *sequence);
    let mut followed = HashSet::new();
    let mut broken = Vec::new();
    for (sequence, predecessor, link) in followers {
        let known = match restarted.remove(&predecessor) {
            Some((at, before)) => {
                at < sequence && before.request == link.request && before.number.checked_add(1) == Some(link.number)
            }
            None => removed && !followed.contains(&predecessor),
        };
        followed.insert(predecessor);
        if !known {
            let request = &link.request;
            let problem = format!("it does not follow attempt {predecessor}, which it names as the one before it");
            broken.push((sequence, format!("entry {sequence}, {request}: {problem}")));
        }
    }
    // A run that was cut short may leave one without an outcome; with one, something must lead there.
    for (attempt, (sequence, link)) in restarted {
        if answered.contains_key(&link.request) {
            let problem = "the process started afresh, and the request's outcome does not follow";
            broken.push((sequence, format!("entry {sequence}, {}: {problem} attempt {attempt}", link.request)));
        }
    }
    broken
}

/// Attempts with more than one record: each is another one, drawn at random.
fn doubled(mut attempts: Vec<(AttemptId, u64)>) -> Vec<(u64, String)> {
    attempts.sort_unstable();
    let pairs = attempts.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    pairs.map(|pair| (pair[1].1, format!("entry {}: attempt {} has a record already", pair[1].1, pair[1].0))).collect()
}

impl Part {
    /// What is wrong with the perspectives of a record whose cohort was not drawn; those that were drawn are lawful.
    fn unlawful(&mut self, record: &Record, rules: &Rules) -> Option<String> {
        if rules.setup().conduct.draw.is_some() {
            return None;
        }
        let row = rules.table().row_at(record.started)?;
        let key = (record.setup.clone(), row.revision().to_owned());
        let checked = self.cohorts.entry(key).or_insert_with(|| {
            let violations = Cohort::check(rules.primary(), rules.remotes(), row).err()?;
            let broken: Vec<String> = violations.iter().map(ToString::to_string).collect();
            Some(format!("its perspectives are no lawful cohort: {}", broken.join("; ")))
        });
        checked.clone()
    }

    fn note_restarts(&mut self, sequence: u64, record: &Record) {
        self.attempts.push((record.attempt, sequence));
        let number = record.restart.map_or(0, |restart| restart.number);
        let link = || Link { request: record.request.id.to_string(), number };
        if record.restarted {
            self.restarted.insert(record.attempt, (sequence, link()));
        }
        if let Some(restart) = record.restart {
            self.followers.push((sequence, restart.predecessor, link()));
        }
    }

    fn judge(&mut self, entry: &Entry, setups: &Setups) {
        let sequence = entry.sequence;
        match read_item(entry) {
            Err(error) => {
                let earlier = self.failure.as_ref().is_none_or(|(first, _)| sequence < *first);
                if earlier {
                    self.failure = Some((sequence, error));
                }
            }
            Ok(Item::Setup(_) | Item::Removed(_)) => {}
            Ok(Item::Late(_)) => self.found.late += 1,
            Ok(Item::Trial(_)) => self.found.trials += 1,
            Ok(Item::Rejected(entry)) => {
                self.found.rejected_reports =
                    self.found.rejected_reports.saturating_add(1).saturating_add(entry.suppressed)
            }
            Ok(Item::Record(record)) => {
                self.found.records += 1;
                self.found.corroborated += u64::from(record.permits());
                self.note_restarts(sequence, &record);
                if !record.restarted {
                    *self.seen.entry(record.request.id.to_string()).or_default() += 1;
                }
                let outcome = match setups.of(&record, sequence) {
                    Some(rules) => match record.recompute(&rules) {
                        Ok(()) => self.unlawful(&record, &rules).filter(|_| record.permits()).map_or(Ok(()), Err),
                        Err(mismatch) => Err(mismatch.to_string()),
                    },
                    None => Err("its setup is not in the journal before it".to_owned()),
                };
                if let Err(problem) = outcome {
                    self.mismatches.push((sequence, format!("entry {sequence}, {}: {problem}", record.request.id)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(request: &str, number: u8) -> Link {
        Link { request: request.to_owned(), number }
    }

    /// Attempt 1 was started afresh at entry 10.
    fn broken(followers: Vec<(u64, u128, Link)>, answered: &[&str], removed: bool) -> Vec<u64> {
        let restarted = HashMap::from([(AttemptId(1), (10, link("a", 0)))]);
        let followers = followers.into_iter().map(|(at, before, link)| (at, AttemptId(before), link)).collect();
        let answered = answered.iter().map(|id| ((*id).to_owned(), 1)).collect();
        broken_links(restarted, followers, &answered, removed).into_iter().map(|(sequence, _)| sequence).collect()
    }

    #[test]
    fn e8_a_chain_of_restarts_is_whole_or_was_cut_short() {
        assert_eq!(broken(vec![(11, 1, link("a", 1))], &["a"], false), Vec::<u64>::new());
        assert_eq!(broken(vec![], &[], false), Vec::<u64>::new(), "a run that was cut short");
        assert_eq!(broken(vec![], &["a"], false), [10], "an outcome that hides what it follows");
        for (follower, why) in [
            ((9, 1, link("a", 1)), "it stands before it"),
            ((11, 1, link("b", 1)), "another request"),
            ((11, 1, link("a", 2)), "a number too many"),
            ((11, 7, link("a", 1)), "an attempt that is not there"),
        ] {
            assert!(broken(vec![follower.clone()], &[], false).contains(&follower.0), "{why}");
        }
        let twice = vec![(11, 1, link("a", 1)), (12, 1, link("a", 1))];
        assert_eq!(broken(twice.clone(), &["a"], false), [12]);
        assert_eq!(broken(twice, &["a"], true), [12]);
        // What it follows may have been removed with the front of the journal.
        assert_eq!(broken(vec![(11, 7, link("c", 1))], &["c"], true), Vec::<u64>::new());
    }

    #[test]
    fn an_attempt_has_one_record() {
        assert!(doubled(vec![(AttemptId(1), 5), (AttemptId(2), 6)]).is_empty());
        assert_eq!(doubled(vec![(AttemptId(1), 9), (AttemptId(2), 6), (AttemptId(1), 5)])[0].0, 9);
    }
}
