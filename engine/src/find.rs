//! Attempts whose evidence touched something: what an incident asks of a journal (req E11).

use std::{net::IpAddr, num::NonZeroUsize, path::Path};

use jiff::Timestamp;
use parallax_validation::{
    base::perspective::PerspectiveId,
    observation::{ControlObservation, Observation},
    record::{Record, Rules},
};
use serde::Serialize;

use crate::{
    audit::{AuditError, Feed, Item, Setups, read_item, spread},
    corroborate::{ENTRY_RECORD, ENTRY_SETUP},
    index::Index,
    journal::{Entry, Frames, Place, Reader, Removed},
};

/// What is looked for; everything that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// An address that was connected to, asked as a resolver or name server, or found for a host.
    pub address: Option<IpAddr>,
    /// A perspective that gave evidence; with the others, its evidence alone counts.
    pub perspective: Option<PerspectiveId>,
    /// The autonomous system of a perspective that gave evidence.
    pub as_number: Option<u32>,
    /// The section of the method, or `caa`, as the record has it.
    pub method: Option<String>,
    /// The program and its version.
    pub software: Option<String>,
    /// The identifier's domain, or one above it.
    pub domain: Option<String>,
    /// Decided then or later.
    pub from: Option<Timestamp>,
    /// Decided before then.
    pub until: Option<Timestamp>,
    /// Permissions only: those that a certificate may rely on.
    pub corroborated: bool,
}

/// An attempt that fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Number of its entry.
    pub entry: u64,
    /// The request.
    pub request: String,
    /// The attempt.
    pub attempt: String,
    /// What a certificate would name.
    pub identifier: String,
    /// The section of the method, or `caa`.
    pub method: String,
    /// When it was decided.
    pub decided: Timestamp,
    /// Whether it was a permission.
    pub corroborated: bool,
    /// The perspectives whose evidence fits.
    pub perspectives: Vec<String>,
}

/// What a search came to.
#[derive(Debug, Default)]
pub struct Search {
    /// Attempts that were looked at, or told apart by an index.
    pub searched: u64,
    /// Those that fit, in their order.
    pub found: Vec<Found>,
    /// Segments whose index was used.
    pub indexed: u64,
    /// Indexes that were of no use, with the reason; their segments were read instead.
    pub notes: Vec<String>,
    /// What was removed from the front, if anything was.
    pub removed: Option<Removed>,
}

#[derive(Default)]
struct Part {
    searched: u64,
    found: Vec<Found>,
    failure: Option<(u64, AuditError)>,
}

/// Searches a journal on `threads` threads. Segments that have an index are read at the candidates only, all others from
/// end to end.
///
/// # Errors
/// Damage in what is read, or an entry that cannot be read.
pub fn find(directory: &Path, wanted: &Wanted, threads: NonZeroUsize) -> Result<Search, AuditError> {
    let mut walk = Walk { directory, wanted, search: Search::default(), skipped: 0, given: 0 };
    let scanned = spread(
        threads,
        |part: &mut Part, entry: &Entry, setups: &Setups| match read_item(entry) {
            Ok(Item::Record(record)) => {
                part.searched += 1;
                let rules = setups.of(&record, entry.sequence);
                part.found.extend(fitting(entry.sequence, &record, rules.as_deref(), wanted));
            }
            Ok(Item::Setup(_) | Item::Late(_) | Item::Trial(_) | Item::Rejected(_) | Item::Removed(_)) => {}
            Err(error) => {
                part.failure.get_or_insert((entry.sequence, error));
            }
        },
        |feed| walk.all(feed),
    )?;
    let Walk { mut search, skipped, given, .. } = walk;
    search.searched = skipped;
    if wanted.as_number.is_some() || wanted.software.is_some() {
        search.notes.extend(scanned.unusable.iter().map(|(_, problem)| {
            format!("{problem}; whatever rests on it is listed, since its software and networks are not known")
        }));
    }
    for part in scanned.parts {
        if let Some((_, error)) = part.failure {
            return Err(error);
        }
        search.searched += part.searched;
        search.found.extend(part.found);
    }
    search.searched = search.searched.saturating_sub(given);
    search.found.sort_by_key(|found| found.entry);
    // Of a segment whose index broke off, some candidates may have been given before all of it was.
    search.found.dedup_by_key(|found| found.entry);
    Ok(search)
}

/// Goes through the segments in order and hands out what may fit.
struct Walk<'a> {
    directory: &'a Path,
    wanted: &'a Wanted,
    search: Search,
    /// Records in segments that were searched by their index.
    skipped: u64,
    /// Of these, and of segments whose index broke off, those that were handed out.
    given: u64,
}

impl Walk<'_> {
    fn all(&mut self, feed: &mut Feed<'_>) -> Result<(), AuditError> {
        let reader = Reader::open(self.directory)?;
        self.search.removed = reader.removed().cloned();
        let mut next = Some(reader.begins());
        while let Some(place) = next {
            next = match self.by_index(place, feed)? {
                Some(after) => Some(after),
                None => self.by_reading(place, feed)?,
            };
        }
        Ok(())
    }

    /// Searches a segment by its index, if it has one that can be used; gives where the next one begins.
    fn by_index(&mut self, place: Place, feed: &mut Feed<'_>) -> Result<Option<Place>, AuditError> {
        let index = match Index::open(self.directory, place) {
            Ok(Some(index)) => index,
            // Reading it will say what is wrong with the segment itself.
            Ok(None) | Err(_) => return Ok(None),
        };
        let chosen = index.and_then(|mut index| {
            let (setups, candidates) = (index.setups()?, index.candidates(self.wanted)?);
            Ok((index, setups, candidates))
        });
        let (index, setups, candidates) = match chosen {
            Ok(chosen) => chosen,
            Err(flaw) => return Ok(self.note(place.segment, &flaw)),
        };
        let mut frames = Frames::open(self.directory, place.segment)?;
        for (kind, offset) in setups
            .into_iter()
            .map(|offset| (ENTRY_SETUP, offset))
            .chain(candidates.into_iter().map(|offset| (ENTRY_RECORD, offset)))
        {
            let Some(entry) = frames.entry_at(offset)?.filter(|entry| entry.kind == kind) else {
                return Ok(self.note(place.segment, &format!("there is no such entry at offset {offset}")));
            };
            self.given += u64::from(kind == ENTRY_RECORD);
            feed.give(entry)?;
        }
        self.skipped += index.rows();
        self.search.indexed += 1;
        Ok(Some(index.after()))
    }

    fn note<T>(&mut self, segment: u64, problem: &dyn std::fmt::Display) -> Option<T> {
        self.search.notes.push(format!("segment {segment}: its index is not used: {problem}"));
        None
    }

    /// Reads a segment from end to end; gives where the next one begins, or `None` at the end of the journal.
    fn by_reading(&mut self, place: Place, feed: &mut Feed<'_>) -> Result<Option<Place>, AuditError> {
        let mut reader = Reader::at(self.directory, place);
        let mut after = Place { segment: place.segment + 1, ..place };
        while let Some(entry) = reader.next_entry()? {
            if entry.segment != place.segment {
                return Ok(Some(after));
            }
            (after.sequence, after.chain) = (entry.sequence + 1, entry.chain);
            feed.give(entry)?;
        }
        Ok(None)
    }
}

/// The sections of a record's method, or `caa`.
pub(crate) fn sections(record: &Record) -> impl Iterator<Item = &str> {
    record.method.split(" with ")
}

/// Whether a record fits. Where its setup cannot be read, what only that could tell counts as fitting: an incident is
/// better told too much.
fn fitting(entry: u64, record: &Record, rules: Option<&Rules>, wanted: &Wanted) -> Option<Found> {
    let domain = record.request.identifier.domain().map(|name| name.as_str());
    let in_domain = |above: &String| {
        domain
            .and_then(|name| name.strip_suffix(above.as_str()))
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let fits = wanted.from.is_none_or(|from| record.decided >= from)
        && wanted.until.is_none_or(|until| record.decided < until)
        && wanted.method.as_ref().is_none_or(|method| sections(record).any(|section| section == method))
        && wanted.domain.as_ref().is_none_or(in_domain)
        && wanted
            .software
            .as_ref()
            .is_none_or(|software| rules.is_none_or(|rules| rules.setup().software == *software))
        && (!wanted.corroborated || record.permits());
    if !fits {
        return None;
    }
    let of_as = |id: &PerspectiveId, as_number: u32| {
        rules.is_none_or(|rules| rules.setup().perspectives.iter().any(|p| p.id == *id && p.as_number == as_number))
    };
    let by_evidence = wanted.address.is_some() || wanted.perspective.is_some() || wanted.as_number.is_some();
    let perspectives: Vec<String> = record
        .perspectives
        .iter()
        .filter(|part| wanted.perspective.as_ref().is_none_or(|id| part.perspective == *id))
        .filter(|part| wanted.as_number.is_none_or(|as_number| of_as(&part.perspective, as_number)))
        .filter(|part| {
            let seen = part.observation.as_ref();
            seen.is_some_and(|seen| wanted.address.is_none_or(|address| touches(seen, address)))
        })
        .map(|part| part.perspective.to_string())
        .collect();
    if by_evidence && perspectives.is_empty() {
        return None;
    }
    Some(Found {
        entry,
        request: record.request.id.to_string(),
        attempt: record.attempt.to_string(),
        identifier: record.request.identifier.to_string(),
        method: record.method.clone(),
        decided: record.decided,
        corroborated: record.permits(),
        perspectives,
    })
}

/// Whether an address was connected to, asked, or found for a host.
fn touches(seen: &Observation, address: IpAddr) -> bool {
    let mut touched = false;
    each_address(seen, |octets| {
        touched |= match address {
            IpAddr::V4(address) => octets == address.octets(),
            IpAddr::V6(address) => octets == address.octets(),
        }
    });
    touched
}

/// Every address that was connected to, asked, or found for a host, some perhaps twice.
pub(crate) fn each_address(seen: &Observation, mut each: impl FnMut(&[u8])) {
    let mut whole = |address: IpAddr| match address {
        IpAddr::V4(address) => each(&address.octets()),
        IpAddr::V6(address) => each(&address.octets()),
    };
    seen.control.iter().flat_map(ControlObservation::connected).for_each(&mut whole);
    let servers = seen.diagnosis.iter().flat_map(|diagnosis| &diagnosis.servers);
    servers.filter_map(|server| server.address).for_each(&mut whole);
    for lookup in seen.lookups() {
        whole(lookup.resolver.ip());
    }
    seen.lookups().flat_map(|lookup| lookup.addresses()).for_each(each);
}
