//! Counters over a sliding window, and the test of each perspective, region and network against the others (req H11).
//!
//! Only answers that were asked and awaited count. A perspective that is not in the setup of its record counts nowhere
//! but in one number. Everything is bounded: of servers, prefixes and targets the least recently seen are forgotten, and
//! how many were is counted.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::Timestamp;
use parallax_validation::{
    base::perspective::{Perspective, PerspectiveId, Rir},
    base::suffix::Suffixes,
    observation::Observation,
    record::Record,
    request::Identifier,
    verdict::PerspectiveState,
};
use serde::Serialize;

use super::{
    alarm::{Alarm, Kind, Severity, Source, addresses_used, is_refusal},
    detector::{Change, Compared, Detector},
};

/// Perspectives, networks and methods that are told apart, each.
const CLOSED_MAX: usize = 128;
/// Servers, prefixes and targets that are kept, each.
const OPEN_MAX: usize = 4_096;
/// Parts of the window.
const BUCKETS: usize = 12;
/// Length of one part, seconds: the window is an hour.
const BUCKET_SECONDS: i64 = 300;
/// One target speaks in the test once in so many seconds, so that no single subscriber can make an alarm.
const TARGET_SECONDS: i64 = 3_600;
/// Remotes that must have been awaited for a comparison.
const REMOTES_MIN: u32 = 3;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// One perspective.
    Perspective(PerspectiveId),
    /// The perspectives of a region.
    Region(Rir),
    /// The perspectives connected to an autonomous system.
    Network(u32),
    /// A method by its label.
    Method(&'static str),
    /// A resolver, or a name server that was asked directly.
    Server(IpAddr),
    /// Addresses of targets: a /24 or /48.
    Prefix(IpAddr),
}

impl Group {
    /// The name of the sort.
    #[must_use]
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Perspective(_) => "perspective",
            Self::Region(_) => "region",
            Self::Network(_) => "network",
            Self::Method(_) => "method",
            Self::Server(_) => "server",
            Self::Prefix(_) => "prefix",
        }
    }

    /// Which one.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Perspective(id) => id.to_string(),
            Self::Region(rir) => rir.to_string(),
            Self::Network(number) => format!("AS{number}"),
            Self::Method(label) => (*label).to_owned(),
            Self::Server(address) => address.to_string(),
            Self::Prefix(address) => format!("{address}/{}", if address.is_ipv4() { 24 } else { 48 }),
        }
    }
}

/// Answers that were asked and awaited, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tallied {
    /// All of them.
    pub attempts: u64,
    /// Confirmed.
    pub confirmed: u64,
    /// Contradicted.
    pub contradicted: u64,
    /// Failed.
    pub failed: u64,
    /// Timed out.
    pub timed_out: u64,
    /// Rejected replies.
    pub rejected: u64,
}

impl Tallied {
    fn count(&mut self, state: PerspectiveState) {
        let part = match state {
            PerspectiveState::Confirmed => &mut self.confirmed,
            PerspectiveState::Contradicted => &mut self.contradicted,
            PerspectiveState::Failed => &mut self.failed,
            PerspectiveState::TimedOut => &mut self.timed_out,
            PerspectiveState::RejectedReply => &mut self.rejected,
            PerspectiveState::Cancelled | PerspectiveState::NotAwaited | PerspectiveState::NotAsked => return,
        };
        *part += 1;
        self.attempts += 1;
    }

    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.confirmed += other.confirmed;
        self.contradicted += other.contradicted;
        self.failed += other.failed;
        self.timed_out += other.timed_out;
        self.rejected += other.rejected;
    }

    /// Those that did not confirm.
    #[must_use]
    pub fn refusing(&self) -> u64 {
        self.attempts - self.confirmed
    }
}

/// All, and those of the last hour before the latest entry.
#[derive(Clone, Debug, Default)]
struct Window {
    all: Tallied,
    parts: [Tallied; BUCKETS],
    newest: i64,
}

impl Window {
    fn count(&mut self, at: Timestamp, state: PerspectiveState) {
        self.all.count(state);
        let part = at.as_second().div_euclid(BUCKET_SECONDS);
        self.forward(part);
        let age = self.newest.saturating_sub(part);
        // An instant far from the latest one belongs to no window.
        if (0..BUCKETS as i64).contains(&age) {
            self.parts[slot(part)].count(state);
        }
    }

    fn forward(&mut self, to: i64) {
        if to <= self.newest {
            return;
        }
        for part in self.newest.max(to - BUCKETS as i64)..to {
            self.parts[slot(part + 1)] = Tallied::default();
        }
        self.newest = to;
    }

    fn last_hour(&self, now: Timestamp) -> Tallied {
        let mut current = self.clone();
        current.forward(now.as_second().div_euclid(BUCKET_SECONDS));
        let mut sum = Tallied::default();
        current.parts.iter().for_each(|part| sum.add(part));
        sum
    }
}

fn slot(part: i64) -> usize {
    part.rem_euclid(BUCKETS as i64) as usize
}

/// A bounded table that forgets the least recently used.
struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    max: usize,
    forgotten: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn new(max: usize) -> Self {
        Self { entries: HashMap::new(), by_use: BTreeMap::new(), uses: 0, max, forgotten: 0 }
    }

    /// The value of a key, made if it is not there.
    fn touch(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        if let Some((used, _)) = self.entries.get(&key) {
            self.by_use.remove(used);
        } else if self.entries.len() >= self.max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
            self.forgotten += 1;
        }
        self.by_use.insert(self.uses, key.clone());
        let uses = self.uses;
        let (used, value) = self.entries.entry(key).or_insert_with(|| (uses, make()));
        *used = uses;
        value
    }
}

/// The numbers of a pattern.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// perspective, region or network.
    pub sort: &'static str,
    /// Which one.
    pub key: String,
    /// Since when they are counted.
    pub since: Option<Timestamp>,
    /// Its answers.
    pub answers: u64,
    /// Of these, those that did not confirm.
    pub refusing: u64,
    /// Answers of the other remotes in the same attempts.
    pub others_answers: u64,
    /// Of these, those that did not confirm.
    pub others_refusing: u64,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The sort of group.
    pub sort: &'static str,
    /// Which one.
    pub key: String,
    /// Whether a pattern is raised about it.
    pub differs: bool,
    /// Since the journal began.
    pub all: Tallied,
    /// In the hour before the latest entry.
    pub last_hour: Tallied,
}

/// What was forgotten, since tables are bounded, or left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Servers.
    pub servers: u64,
    /// Prefixes of targets.
    pub prefixes: u64,
    /// Targets.
    pub targets: u64,
    /// Answers of perspectives that are not in the setup of their record, or beyond the number that is told apart.
    pub unknown: u64,
}

/// Counters and tests.
pub struct Patterns {
    closed: BTreeMap<Group, Window>,
    servers: Recent<Group, Window>,
    prefixes: Recent<Group, Window>,
    detectors: BTreeMap<Group, Detector>,
    targets: Recent<String, Timestamp>,
    suffixes: Suffixes,
    unknown: u64,
    latest: Option<Timestamp>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            closed: BTreeMap::new(),
            servers: Recent::new(OPEN_MAX),
            prefixes: Recent::new(OPEN_MAX),
            detectors: BTreeMap::new(),
            targets: Recent::new(OPEN_MAX),
            suffixes: Suffixes::default(),
            unknown: 0,
            latest: None,
        }
    }
}

/// A remote's part in a comparison.
struct Remote<'a> {
    perspective: &'a Perspective,
    refuses: bool,
}

impl Patterns {
    /// Takes a record with the perspectives of its setup; gives the patterns that it makes or ends.
    pub fn take(&mut self, source: &Source, record: &Record, cohort: &[Perspective]) -> Vec<Alarm> {
        let at = record.decided;
        self.latest = self.latest.max(Some(at));
        let method = Group::Method(record.request.method_label());
        let mut remotes = Vec::new();
        for (index, part) in record.perspectives.iter().enumerate() {
            if !is_refusal(part.state) && part.state != PerspectiveState::Confirmed {
                continue;
            }
            let Some(perspective) = cohort.iter().find(|known| known.id == part.perspective) else {
                self.unknown += 1;
                continue;
            };
            let own = [
                Group::Perspective(perspective.id.clone()),
                Group::Region(perspective.rir),
                Group::Network(perspective.as_number),
                method.clone(),
            ];
            for group in own {
                self.count(group, at, part.state);
            }
            if let Some(seen) = &part.observation {
                self.count_addresses(seen, at, part.state);
            }
            if index > 0 {
                remotes.push(Remote { perspective, refuses: is_refusal(part.state) });
            }
        }
        let primary = record.perspectives.first().map(|part| part.state);
        if primary != Some(PerspectiveState::Confirmed) || !self.may_speak(record, &remotes) {
            return Vec::new();
        }
        self.compare(source, at, &remotes, cohort)
    }

    fn count(&mut self, group: Group, at: Timestamp, state: PerspectiveState) {
        let room = self.closed.len() < CLOSED_MAX * 4;
        match self.closed.get_mut(&group) {
            Some(window) => window.count(at, state),
            None if room => self.closed.entry(group).or_default().count(at, state),
            None => self.unknown += 1,
        }
    }

    fn count_addresses(&mut self, seen: &Observation, at: Timestamp, state: PerspectiveState) {
        let diagnosed = seen.diagnosis.iter().flat_map(|diagnosis| &diagnosis.servers).filter_map(|s| s.address);
        let mut servers: Vec<IpAddr> = seen.lookups().map(|lookup| lookup.resolver.ip()).chain(diagnosed).collect();
        let mut prefixes: Vec<IpAddr> = addresses_used(seen).map(prefix).collect();
        for addresses in [&mut servers, &mut prefixes] {
            addresses.sort_unstable();
            addresses.dedup();
        }
        for address in servers {
            self.servers.touch(Group::Server(address), Window::default).count(at, state);
        }
        for address in prefixes {
            self.prefixes.touch(Group::Prefix(address), Window::default).count(at, state);
        }
    }

    /// Whether a comparison can be made, and its target has not spoken of late.
    fn may_speak(&mut self, record: &Record, remotes: &[Remote<'_>]) -> bool {
        let (all, refusing) = (remotes.len(), remotes.iter().filter(|remote| remote.refuses).count());
        if all < REMOTES_MIN as usize || 2 * refusing >= all {
            return false;
        }
        if refusing == 0 {
            return true;
        }
        let target = self.target(&record.request.identifier);
        let at = record.decided;
        let mut first = false;
        let last = self.targets.touch(target, || {
            first = true;
            at
        });
        let apart = at.duration_since(*last).abs().as_secs() >= TARGET_SECONDS;
        if apart {
            *last = at;
        }
        first || apart
    }

    /// The base domain, or the prefix of an address.
    fn target(&self, identifier: &Identifier) -> String {
        match identifier {
            Identifier::Ip(address) => prefix(*address).to_string(),
            Identifier::Name(_) | Identifier::Wildcard(_) | Identifier::Mailbox(_) => {
                let name = identifier.domain().map(|name| name.as_str()).unwrap_or_default();
                self.suffixes.icann_base(name).unwrap_or(name).to_owned()
            }
        }
    }

    fn compare(
        &mut self,
        source: &Source,
        at: Timestamp,
        remotes: &[Remote<'_>],
        cohort: &[Perspective],
    ) -> Vec<Alarm> {
        let count = |fits: &dyn Fn(&Remote<'_>) -> bool| remotes.iter().filter(|remote| fits(remote)).count() as u32;
        let (all, all_refusing) = (count(&|_| true), count(&|remote| remote.refuses));
        let shared = |fits: &dyn Fn(&Perspective) -> bool| cohort.iter().skip(1).filter(|p| fits(p)).count() > 1;
        let mut groups: Vec<Group> = Vec::new();
        for Remote { perspective, .. } in remotes {
            groups.push(Group::Perspective(perspective.id.clone()));
            // A group of one is the perspective itself.
            if shared(&|other| other.rir == perspective.rir) {
                groups.push(Group::Region(perspective.rir));
            }
            if shared(&|other| other.as_number == perspective.as_number) {
                groups.push(Group::Network(perspective.as_number));
            }
        }
        groups.sort_unstable();
        groups.dedup();
        let mut alarms = Vec::new();
        for group in groups {
            let members = count(&|remote| belongs(remote.perspective, &group));
            let members_refusing = count(&|remote| remote.refuses && belongs(remote.perspective, &group));
            if all - members < 2 || (!self.detectors.contains_key(&group) && self.detectors.len() >= CLOSED_MAX * 3) {
                continue;
            }
            let compared = Compared { members, members_refusing, all, all_refusing };
            let detector = self.detectors.entry(group.clone()).or_default();
            if let Some(change) = detector.take(at, compared) {
                let concerned = cohort.iter().skip(1).filter(|p| belongs(p, &group));
                let perspectives = concerned.map(|p| p.id.to_string()).collect();
                alarms.push(raise(source, at, change, &finding(&group, detector), perspectives));
            }
        }
        alarms
    }

    /// One row for each perspective, region, network and method, and those of the servers and prefixes with the most
    /// answers that did not confirm.
    #[must_use]
    pub fn rows(&self, most: usize) -> Vec<Row> {
        let now = self.latest.unwrap_or(Timestamp::UNIX_EPOCH);
        let row = |group: &Group, window: &Window| Row {
            sort: group.sort(),
            key: group.key(),
            differs: self.detectors.get(group).is_some_and(Detector::raised),
            all: window.all,
            last_hour: window.last_hour(now),
        };
        let mut rows: Vec<Row> = self.closed.iter().map(|(group, window)| row(group, window)).collect();
        for table in [&self.servers, &self.prefixes] {
            let mut found: Vec<(&Group, &Window)> =
                table.entries.iter().map(|(key, (_, window))| (key, window)).collect();
            found.retain(|(_, window)| window.all.refusing() > 0);
            found.sort_unstable_by_key(|(group, window)| (std::cmp::Reverse(window.all.refusing()), (*group).clone()));
            rows.extend(found.into_iter().take(most).map(|(group, window)| row(group, window)));
        }
        rows
    }

    /// How many patterns are raised.
    #[must_use]
    pub fn raised(&self) -> usize {
        self.detectors.values().filter(|detector| detector.raised()).count()
    }

    /// What was forgotten or left out.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        LeftOut {
            servers: self.servers.forgotten,
            prefixes: self.prefixes.forgotten,
            targets: self.targets.forgotten,
            unknown: self.unknown,
        }
    }
}

fn belongs(perspective: &Perspective, group: &Group) -> bool {
    match group {
        Group::Perspective(id) => perspective.id == *id,
        Group::Region(rir) => perspective.rir == *rir,
        Group::Network(number) => perspective.as_number == *number,
        Group::Method(_) | Group::Server(_) | Group::Prefix(_) => false,
    }
}

fn finding(group: &Group, detector: &Detector) -> Finding {
    let (counts, since) = detector.counts();
    Finding {
        sort: group.sort(),
        key: group.key(),
        since,
        answers: counts.members,
        refusing: counts.members_refusing,
        others_answers: counts.others,
        others_refusing: counts.others_refusing,
    }
}

fn raise(source: &Source, at: Timestamp, change: Change, finding: &Finding, perspectives: Vec<String>) -> Alarm {
    let Finding { sort, key, answers, refusing, others_answers, others_refusing, .. } = finding;
    let since = finding.since.map_or_else(|| "the beginning".to_owned(), |since| since.to_string());
    let numbers = format!(
        "{refusing} of {answers} answers of {sort} {key} were no confirmation, against {others_refusing} of \
         {others_answers} of the other remotes, in attempts since {since} that the primary and most remotes confirmed"
    );
    let (severity, class, message) = match change {
        Change::Differs => (
            Severity::High,
            "differs",
            format!(
                "{numbers}. That is more than chance makes. Look at its site, its resolver and its network. If the \
                 fault is there, take it out of the configuration and start the engine again (parallax cohort check \
                 says whether the others are enough); nothing is done by itself."
            ),
        ),
        Change::Cleared => (Severity::Low, "cleared", format!("{numbers}. It is like the others again.")),
    };
    // An entry may raise several patterns.
    let id = source.id(&format!("pattern-{sort}-{}", key.replace(' ', "-").to_ascii_lowercase()));
    let bare = Alarm::bare(source, Kind::Pattern, severity, class, at);
    Alarm { id, perspectives, message, pattern: Some(finding.clone()), ..bare }
}

/// The /24 or /48 of an address.
fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 80 << 80).into(),
    }
}
