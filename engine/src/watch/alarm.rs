//! What an operator must be told, read out of the entries of a journal (req H10, H12).
//!
//! A pure function of the entry. An entry makes at most one alarm of each kind, so that the number of the entry, the
//! kind and the journal's chain name an alarm for good: a receiver drops what it has seen.
//!
//! Invariant: no text of an alarm holds a control character, whatever the journal holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use parallax_validation::{
    base::{attempt::AttemptId, octets::Octets},
    explain::{Blame, Retry, bogus_questions, signed_questions},
    observation::{ControlObservation, DnsFailure, DnsLookup, DnsOutcome, Observation, RecordType, SecurityStatus},
    problem::ProblemKind,
    record::{LateEntry, PerspectiveRecord, Record, RejectedEntry},
    verdict::PerspectiveState,
};
use serde::Serialize;

use super::{limit::Digest, patterns::Finding};
use crate::journal::Entry;

/// Longest message, octets.
const MESSAGE_BYTES_MAX: usize = 1_500;
/// Perspectives named in one alarm.
const PERSPECTIVES_MAX: usize = 32;

/// Questions with a signed answer that are kept of an attempt, those for CAA first: hosts that redirects lead to may be many.
const SIGNED_KEPT_MAX: usize = 64;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For analysis.
    Low,
    /// To be looked at.
    High,
    /// A permission may be wrong, or a reply forged: to be looked at now.
    Critical,
}

impl Severity {
    /// As alarms and metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Perspectives of one attempt saw things that cannot both be so.
    Contradiction,
    /// An attempt was refused.
    FailedValidation,
    /// An answer came after the verdict and goes against it.
    LateContradiction,
    /// What came was not the reply to what was asked: wrong, replayed, or from another perspective.
    RejectedReply,
    /// A perspective, region or network differs from the others more often than chance allows.
    Pattern,
    /// Alarms above the rate, counted.
    Digest,
}

impl Kind {
    /// As alarms and metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::FailedValidation => "failed_validation",
            Self::LateContradiction => "late_contradiction",
            Self::RejectedReply => "rejected_reply",
            Self::Pattern => "pattern",
            Self::Digest => "digest",
        }
    }
}

/// One alarm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alarm {
    /// Names it for good.
    pub id: String,
    /// What happened.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// Of which sort, out of a closed set for each kind.
    pub class: &'static str,
    /// When: the verdict, or the late answer.
    pub at: Timestamp,
    /// The journal's entry; of a digest, the last one.
    pub entry: u64,
    /// The first entry it is about: until it is delivered, the cursor stays before that.
    #[serde(skip)]
    pub first_entry: u64,
    /// The attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// The request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What a certificate would name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// Label of the method, or `caa`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'static str>,
    /// Whether the attempt was permitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permitted: Option<bool>,
    /// The perspectives concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub perspectives: Vec<String>,
    /// The problem type, of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemKind>,
    /// Whose turn it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// Whether trying again can help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// In words.
    pub message: String,
    /// The numbers of a pattern.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Finding>,
    /// The counts of a digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// Where an alarm comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Number of the entry.
    pub sequence: u64,
    /// Begin of the chain hash there, which no other journal has.
    pub chain: String,
}

impl Source {
    /// Of an entry.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        Self { sequence: entry.sequence, chain: hex(&entry.chain[..6]) }
    }

    /// The name of the alarm of a kind.
    #[must_use]
    pub fn id(&self, kind: &str) -> String {
        format!("{}-{kind}-{}", self.sequence, self.chain)
    }
}

/// Hexadecimal digits.
#[must_use]
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Alarm {
    /// An alarm about no attempt.
    pub(crate) fn bare(source: &Source, kind: Kind, severity: Severity, class: &'static str, at: Timestamp) -> Self {
        Self {
            id: source.id(kind.as_str()),
            kind,
            severity,
            class,
            at,
            entry: source.sequence,
            first_entry: source.sequence,
            attempt: None,
            request: None,
            identifier: None,
            method: None,
            permitted: None,
            perspectives: Vec::new(),
            problem: None,
            blame: None,
            retry: None,
            message: String::new(),
            pattern: None,
            digest: None,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn as_text(&self) -> String {
        let mut text = format!("{} {} {} ({})", self.at, self.severity.as_str(), self.kind.as_str(), self.class);
        let words = [self.request.as_deref(), self.identifier.as_deref(), self.method];
        for word in words.into_iter().flatten() {
            text.push(' ');
            text += word;
        }
        if !self.perspectives.is_empty() {
            text += &format!(" [{}]", self.perspectives.join(", "));
        }
        format!("{text}: {} <{}>\n", self.message, self.id)
    }
}

/// What is kept of an attempt for answers that come after its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What a certificate would name.
    pub identifier: String,
    /// Label of the method.
    pub method: &'static str,
    /// Whether it was permitted.
    pub permitted: bool,
    /// Questions to which there was a validly signed answer.
    signed: Vec<Key>,
}

impl Known {
    /// Of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            identifier: printable(&record.request.identifier.to_string()),
            method: record.request.method_label(),
            permitted: record.permits(),
            signed: signed_kept(&record.perspectives),
        }
    }
}

/// The alarms of an attempt, in the order of [`Kind`].
#[must_use]
pub fn of_record(source: &Source, record: &Record) -> Vec<Alarm> {
    let known = Known::of(record);
    let alarm = |kind, severity, class| {
        let bare = Alarm::bare(source, kind, severity, class, record.decided);
        Alarm {
            attempt: Some(record.attempt),
            request: Some(printable(record.request.id.as_str())),
            identifier: Some(known.identifier.clone()),
            method: Some(known.method),
            permitted: Some(known.permitted),
            problem: record.explanation.problem,
            blame: record.explanation.blame,
            retry: record.explanation.retry,
            ..bare
        }
    };
    let said = &record.explanation.message;
    let mut alarms = Vec::new();
    if let Some(sides) = Sides::of(&record.perspectives) {
        let names = names(&sides.against);
        let afresh = if record.restarted { "Nothing was released: the process starts afresh. " } else { "" };
        let message = format!("{} {afresh}{said}", sides.told());
        let class = sides.class().as_str();
        alarms.push(Alarm {
            perspectives: names,
            message: printable(&message),
            ..alarm(Kind::Contradiction, Severity::High, class)
        });
    }
    if !known.permitted && !record.restarted {
        let class = record.explanation.problem.map_or("none", ProblemKind::as_str);
        let refusing: Vec<&PerspectiveRecord> =
            record.perspectives.iter().filter(|part| is_refusal(part.state)).collect();
        alarms.push(Alarm {
            perspectives: names(&refusing),
            message: printable(said),
            ..alarm(Kind::FailedValidation, Severity::Low, class)
        });
    }
    let rejected: Vec<&PerspectiveRecord> =
        record.perspectives.iter().filter(|part| part.state == PerspectiveState::RejectedReply).collect();
    if !rejected.is_empty() {
        let names = names(&rejected);
        let message = format!(
            "What came from {} was not the reply to what was asked: it was wrong, replayed, from elsewhere, or too \
             large to be kept. It counted as no confirmation.",
            names.join(", ")
        );
        alarms.push(Alarm {
            perspectives: names,
            message,
            ..alarm(Kind::RejectedReply, Severity::Critical, "before_verdict")
        });
    }
    alarms
}

/// The alarms of an answer that came after the verdict; `known` is its attempt, if it is still known.
#[must_use]
pub fn of_late(source: &Source, late: &LateEntry, known: Option<&Known>) -> Vec<Alarm> {
    let who = late.perspective.perspective.to_string();
    let alarm = |kind, severity, class, message: String| Alarm {
        attempt: Some(late.attempt),
        request: Some(printable(late.request.as_str())),
        identifier: known.map(|known| known.identifier.clone()),
        method: known.map(|known| known.method),
        permitted: known.map(|known| known.permitted),
        perspectives: vec![who.clone()],
        message,
        ..Alarm::bare(source, kind, severity, class, late.received)
    };
    let mut alarms = Vec::new();
    let is_signed = |(name, rtype): &(&str, RecordType)| {
        known.is_some_and(|known| known.signed.iter().any(|(n, r)| (n.as_str(), r) == (*name, rtype)))
    };
    if late.contradicts_verdict {
        let (severity, class, then) = match known.map(|known| known.permitted) {
            Some(true) => (Severity::Critical, "permission_released", "The permission had been released."),
            Some(false) => (Severity::High, "verdict_refused", "The attempt had been refused by then."),
            None => (Severity::Critical, "verdict_unknown", "The record lies too far back to say what was released."),
        };
        let message = format!(
            "{who} answered after the verdict and saw the contrary of what the primary confirmed. {then} Read the \
             evidence in the journal before a certificate relies on it."
        );
        alarms.push(alarm(Kind::LateContradiction, severity, class, message));
    } else if let Some((name, rtype)) = late.perspective.observation.iter().flat_map(bogus_questions).find(is_signed) {
        let message = format!(
            "{who} answered after the verdict, and what it was told about {} {rtype} is bogus, while others had a \
             validly signed answer. It counted as no confirmation.",
            printable(name)
        );
        alarms.push(alarm(Kind::LateContradiction, Severity::High, "dnssec", message));
    }
    if late.perspective.state == PerspectiveState::RejectedReply {
        let message = format!("What came late from {who} was not the reply to what was asked.");
        alarms.push(alarm(Kind::RejectedReply, Severity::Critical, "after_verdict", message));
    }
    alarms
}

/// The alarm of a report that did not count.
#[must_use]
pub fn of_rejected(source: &Source, entry: &RejectedEntry) -> Alarm {
    let who = entry.perspective.to_string();
    let more = match entry.suppressed {
        0 => String::new(),
        count => format!(" {count} others by this link went before it."),
    };
    Alarm {
        attempt: Some(entry.attempt),
        message: format!("A report by the link of {who} did not count: {}.{more}", entry.why),
        perspectives: vec![who],
        ..Alarm::bare(source, Kind::RejectedReply, Severity::Critical, "report", entry.received)
    }
}

/// Whether a state stands in the way of a permission; one that was not asked or not waited for does not.
pub(crate) fn is_refusal(state: PerspectiveState) -> bool {
    match state {
        PerspectiveState::Contradicted
        | PerspectiveState::Failed
        | PerspectiveState::TimedOut
        | PerspectiveState::RejectedReply => true,
        PerspectiveState::Confirmed
        | PerspectiveState::Cancelled
        | PerspectiveState::NotAwaited
        | PerspectiveState::NotAsked => false,
    }
}

fn names(parts: &[&PerspectiveRecord]) -> Vec<String> {
    parts.iter().take(PERSPECTIVES_MAX).map(|part| part.perspective.to_string()).collect()
}

/// Text without control characters, cut.
#[must_use]
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(MESSAGE_BYTES_MAX));
    for character in text.chars() {
        if shown.len() >= MESSAGE_BYTES_MAX {
            shown.push('…');
            break;
        }
        // Formatting characters can turn the direction of what follows.
        let turns = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// What tells those that saw the contrary from the others (req H10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// DNSSEC came to different ends.
    Dnssec,
    /// Different versions of a zone were answered from.
    StaleSecondary,
    /// DNS gave different answers.
    SplitView,
    /// DNS gave the same addresses, and the hosts at them differ.
    HostsDiffer,
    /// The same address answered differently: by where it was asked from, or on another route.
    Routing,
    /// The evidence does not tell.
    Unexplained,
}

impl Split {
    /// As alarms have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dnssec => "dnssec",
            Self::StaleSecondary => "stale_secondary",
            Self::SplitView => "split_view",
            Self::HostsDiffer => "hosts_differ",
            Self::Routing => "routing",
            Self::Unexplained => "unexplained",
        }
    }
}

/// The questions to which somebody had a validly signed answer.
fn signed(parts: &[PerspectiveRecord]) -> impl Iterator<Item = (&str, RecordType)> {
    parts.iter().filter_map(|part| part.observation.as_ref()).flat_map(|seen| signed_questions(seen.lookups()))
}

/// Those of them that are kept, each once.
fn signed_kept(parts: &[PerspectiveRecord]) -> Vec<Key> {
    let observations = || parts.iter().filter_map(|part| part.observation.as_ref());
    let mut kept: Vec<(&str, RecordType)> = Vec::new();
    for question in observations().flat_map(|seen| signed_questions(&seen.caa)).chain(signed(parts)) {
        if kept.len() < SIGNED_KEPT_MAX && !kept.contains(&question) {
            kept.push(question);
        }
    }
    kept.into_iter().map(|(name, rtype)| (name.to_owned(), rtype)).collect()
}

/// Those that confirmed, and those that saw the contrary.
struct Sides<'a> {
    confirming: Vec<&'a PerspectiveRecord>,
    /// The ones that go against the others: the remotes that contradict the primary, or the primary; and those that
    /// were told something bogus that is validly signed elsewhere.
    against: Vec<&'a PerspectiveRecord>,
}

impl<'a> Sides<'a> {
    fn of(parts: &'a [PerspectiveRecord]) -> Option<Self> {
        let goes_against = |part: &PerspectiveRecord| match part.state {
            PerspectiveState::Contradicted => true,
            // It counts as a failed lookup, and is the trace of an attack that DNSSEC has stopped.
            PerspectiveState::Failed => {
                let mut bogus = part.observation.iter().flat_map(bogus_questions);
                bogus.any(|question| signed(parts).any(|other| other == question))
            }
            _ => false,
        };
        let confirms = |part: &PerspectiveRecord| part.state == PerspectiveState::Confirmed;
        let primary = parts.first()?;
        let (confirming, against): (Vec<_>, Vec<_>) =
            (parts.iter().filter(|part| confirms(part)).collect(), parts.iter().filter(|p| goes_against(p)).collect());
        let about_primary = confirms(primary) || goes_against(primary);
        let both = about_primary && !confirming.is_empty() && !against.is_empty();
        both.then_some(Self { confirming, against })
    }

    /// Who saw what.
    fn told(&self) -> String {
        let of = |is_contrary: bool| {
            let are = |part: &&&PerspectiveRecord| (part.state == PerspectiveState::Contradicted) == is_contrary;
            names(&self.against.iter().filter(are).copied().collect::<Vec<_>>()).join(", ")
        };
        let (contrary, bogus) = (of(true), of(false));
        match (contrary.is_empty(), bogus.is_empty()) {
            (false, true) => format!("From {contrary} the contrary was seen."),
            (true, _) => format!("What {bogus} was told is bogus, and validly signed as seen from others."),
            (false, false) => format!(
                "From {contrary} the contrary was seen; what {bogus} was told is bogus, and validly signed as seen \
                 from others."
            ),
        }
    }

    fn class(&self) -> Split {
        let evidence = |parts: &[&'a PerspectiveRecord]| -> Vec<&'a Observation> {
            parts.iter().filter_map(|part| part.observation.as_ref()).collect()
        };
        let by_control = self.against.iter().any(|part| part.control == Some(false));
        let (with, against) = (evidence(&self.confirming), evidence(&self.against));
        if with.is_empty() || against.is_empty() {
            return Split::Unexplained;
        }
        let (with, against) = (Side::of(&with, by_control), Side::of(&against, by_control));
        if with.dnssec.iter().any(|(key, status)| against.dnssec.get(key).is_some_and(|other| other != status)) {
            return Split::Dnssec;
        }
        let common = |key: &&Key| with.answers.contains_key(*key);
        let mut shared = against.answers.keys().filter(common);
        if shared.any(|key| with.answers[key] != against.answers[key]) {
            let serial = |(zone, serials): (&String, &BTreeSet<u32>)| {
                with.serials.get(zone).is_some_and(|other| other != serials)
            };
            return if against.serials.iter().any(serial) { Split::StaleSecondary } else { Split::SplitView };
        }
        match (with.used.is_empty() || against.used.is_empty(), with.used.is_disjoint(&against.used)) {
            (true, _) => Split::Unexplained,
            (false, true) => Split::HostsDiffer,
            (false, false) => Split::Routing,
        }
    }
}

/// Name and type of a question.
type Key = (String, RecordType);

/// What one side was told, all its perspectives together.
#[derive(Default)]
struct Side {
    answers: BTreeMap<Key, BTreeSet<Vec<Octets>>>,
    dnssec: BTreeMap<Key, SecurityStatus>,
    serials: BTreeMap<String, BTreeSet<u32>>,
    used: BTreeSet<IpAddr>,
}

impl Side {
    /// From the lookups for control, or from those for CAA.
    fn of(observations: &[&Observation], by_control: bool) -> Self {
        let mut side = Self::default();
        for observation in observations {
            if by_control {
                side.used.extend(addresses_used(observation).last());
                observation.lookups().filter(|lookup| !is_of_caa(observation, lookup)).for_each(|l| side.take(l));
            } else {
                observation.caa.iter().for_each(|lookup| side.take(lookup));
            }
        }
        side
    }

    fn take(&mut self, lookup: &DnsLookup) {
        let key = || (lookup.name.clone(), lookup.rtype);
        let bogus = matches!(&lookup.outcome, DnsOutcome::Failed(DnsFailure::Dnssec(_)));
        let status = lookup.validation.as_ref().map(|validation| validation.status);
        if let Some(status) = status.or(bogus.then_some(SecurityStatus::Bogus)) {
            let worst = self.dnssec.entry(key()).or_insert(status);
            *worst = (*worst).max(status);
        }
        let (records, denial) = match &lookup.outcome {
            DnsOutcome::Answer(set) => (set.rdata.clone(), None),
            DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => (Vec::new(), Some(denial)),
            DnsOutcome::Failed(_) => return,
        };
        let mut records = records;
        records.sort_unstable();
        self.answers.entry(key()).or_default().insert(records);
        if let Some(soa) = denial.and_then(|denial| denial.soa.as_ref()) {
            self.serials.entry(soa.zone.clone()).or_default().insert(soa.serial);
        }
    }
}

fn is_of_caa(observation: &Observation, lookup: &DnsLookup) -> bool {
    observation.caa.iter().any(|of_caa| std::ptr::eq(of_caa, lookup))
}

/// Addresses of the target that were connected to, in order.
pub(crate) fn addresses_used(observation: &Observation) -> impl Iterator<Item = IpAddr> {
    observation.control.iter().flat_map(ControlObservation::connected)
}
