//! Whose turn it is to ask a name server: how many questions one server may have at a time, learnt from its answers.
//!
//! Diagnoses and surveys ask name servers themselves, and many tasks may want the same one. A server that drops what
//! exceeds some number at once would look silent, and its owner would be told a falsehood of our own making. So each
//! server has a limit, by its address; who comes when it is used up waits in line, holds no socket and has not asked.
//! Lookups through the resolver are not paced here: whom they reach is the resolver's business.
//!
//! The rules, for each server:
//!
//! 1. The limit begins at [`START`], divided among the workers, for they do not know of each other; each has [`LIMIT_MIN`].
//! 2. While it is in use, a limit's worth of answers raises it by one; at most once in [`STEP_MS`], after which it is known
//!    whether what was sent last was lost, and up to [`LIMIT_MAX`], divided too.
//! 3. A try that timed out is a loss if the server has answered a question of the same kind since that try was sent. So
//!    one that is dead loses nothing, nor does one behind a firewall that drops TCP or CAA whatever the load.
//! 4. While the limit is in use, losses of more than one in [`LOSSES_TOLERATED`] halve it, not below [`LIMIT_MIN`]. Tries
//!    sent before the last halving do not count again. Fewer are what the Internet loses, and sparing the server would not
//!    help.
//! 5. When [`SILENT_TRIES`] tries in a row timed out without any answer since they were sent, the server is not paced until
//!    it answers, or was left alone for [`SILENCE_MS`]: nothing is gained by sparing it, and whoever waited in vain would say
//!    "not asked" where "silent" is true. What was sent until it answered is no loss.
//!
//! All servers together have at most [`UNDER_WAY_MAX`] questions at a time. Servers with room take turns; within one, the
//! first in line is the first to ask. A server that nobody asked for [`FORGOTTEN_MS`] begins anew. The table has
//! [`SERVERS_MAX`] places; the one that nobody has asked for longest makes room. If all have questions, further servers
//! share one more place that has no limit of its own.
//!
//! Left out: what is asked, what it means, and who is told. A server that drops some names whatever the load cannot be told
//! from one that has too much to do; its limit falls.
//!
//! Invariant: every [`Turn`] is given back once by [`Pacing::end`], and then all counts are as if it had never been.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
};

use parallax_validation::{base::Micros, lookup::dns::query::QuestionKind};
use rustc_hash::FxBuildHasher;

use crate::tasks::TaskKey;

/// Questions to one server at first, of all workers.
const START: usize = 16;
/// No limit grows beyond this, of all workers.
const LIMIT_MAX: usize = 128;
/// No limit falls below this, of one worker.
const LIMIT_MIN: usize = 2;
/// Time between two raises: that of the longest try.
const STEP_MS: u64 = 1_000;
/// One loss in so many is tolerated.
const LOSSES_TOLERATED: u32 = 100;
/// Answers and losses that are counted; then both counts are halved, so that what is long past fades.
const COUNTED_MAX: u32 = 512;
/// Tries in a row without an answer after which a server is not paced.
const SILENT_TRIES: u32 = 32;
/// A server that was silent may have recovered when nobody asked it for so long.
const SILENCE_MS: u64 = 10_000;
/// Kinds of question whose answers are remembered of a server; losses of further ones are not told from silence.
const KINDS_MAX: usize = 32;
/// Questions under way to all servers. Each may hold a socket of its own.
pub(crate) const UNDER_WAY_MAX: usize = 512;
/// Servers that are remembered.
const SERVERS_MAX: usize = 4_096;
/// What was learnt of a server is stale after so long.
const FORGOTTEN_MS: u64 = 600_000;
/// The place of servers that found none. No question goes to this address.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A question, by its task and its slot there.
pub(crate) type Asker = (TaskKey, u16);

/// The right to ask a server, or a place in line for it.
#[derive(Debug)]
pub(crate) struct Turn {
    server: IpAddr,
    number: u64,
    /// When the try under way began; none while it waits.
    sent: Option<Micros>,
}

impl Turn {
    /// Whether it has not come.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.sent.is_none()
    }

    /// It has come, or the next try begins.
    pub(crate) fn begin_try(&mut self, now: Micros) {
        self.sent = Some(now);
    }
}

#[derive(Debug)]
struct Server {
    limit: usize,
    under_way: usize,
    /// By the number of the turn, which rises.
    waiting: BTreeMap<u64, Asker>,
    /// It is in [`Pacing::ready`].
    is_ready: bool,
    /// Answers since the limit was last changed.
    answers_since_change: usize,
    /// Of late, and since the limit was last halved.
    answers: u32,
    losses: u32,
    /// Tries in a row that timed out, with no answer since they were sent.
    silent: u32,
    answered_at: Option<Micros>,
    /// When the limit was last changed.
    changed: Micros,
    /// Tries sent before this are no losses.
    counts_from: Micros,
    /// When a question of a kind was last answered.
    kinds: Vec<(QuestionKind, Micros)>,
    /// When it was last asked or heard of.
    touched: Micros,
}

impl Server {
    fn new(limit: usize, now: Micros) -> Self {
        Self {
            limit,
            under_way: 0,
            waiting: BTreeMap::new(),
            is_ready: false,
            answers_since_change: 0,
            answers: 0,
            losses: 0,
            silent: 0,
            answered_at: None,
            changed: now,
            counts_from: now,
            kinds: Vec::new(),
            touched: now,
        }
    }

    fn has_room(&self) -> bool {
        self.under_way < self.limit || self.silent >= SILENT_TRIES
    }

    fn is_idle(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty() && !self.is_ready
    }

    /// Whether it would be asked more if it might be.
    fn is_in_use(&self) -> bool {
        self.under_way >= self.limit
    }

    fn count(&mut self, answers: u32, losses: u32) {
        self.answers += answers;
        self.losses += losses;
        if self.answers + self.losses >= COUNTED_MAX {
            self.answers /= 2;
            self.losses /= 2;
        }
    }

    fn answered(&mut self, now: Micros, kind: QuestionKind, limit_max: usize) {
        if std::mem::take(&mut self.silent) >= SILENT_TRIES {
            // What was sent without pacing may have been too much.
            self.counts_from = now;
        }
        self.answered_at = Some(now);
        self.count(1, 0);
        if let Some((_, last)) = self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            *last = now;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.push((kind, now));
        }
        if !self.is_in_use() {
            return;
        }
        self.answers_since_change += 1;
        if self.answers_since_change >= self.limit && self.changed.plus_ms(STEP_MS) <= now && self.limit < limit_max {
            self.limit += 1;
            self.changed = now;
            self.answers_since_change = 0;
        }
    }

    fn timed_out(&mut self, now: Micros, kind: QuestionKind, sent: Micros) {
        if self.answered_at.is_none_or(|answered| answered < sent) {
            self.silent = self.silent.saturating_add(1);
        }
        let is_loss = self.kinds.iter().any(|(known, last)| *known == kind && *last >= sent);
        if !is_loss || sent < self.counts_from {
            return;
        }
        self.count(0, 1);
        let too_many = self.losses * LOSSES_TOLERATED > self.answers + self.losses;
        if too_many && self.is_in_use() && self.limit > LIMIT_MIN {
            self.limit = (self.limit / 2).max(LIMIT_MIN);
            (self.changed, self.counts_from) = (now, now);
            (self.answers, self.losses, self.answers_since_change) = (0, 0, 0);
        }
    }
}

/// Who asks which server, and who waits.
#[derive(Debug)]
pub(crate) struct Pacing {
    servers: HashMap<IpAddr, Server, FxBuildHasher>,
    /// Servers with room that somebody waits for, the next first.
    ready: VecDeque<IpAddr>,
    under_way: usize,
    next: u64,
    waited: u64,
    start: usize,
    limit_max: usize,
}

impl Pacing {
    /// For one of so many workers.
    pub(crate) fn new(workers: u16) -> Self {
        let share = |of_all: usize| (of_all / usize::from(workers.max(1))).max(LIMIT_MIN);
        Self {
            servers: HashMap::default(),
            ready: VecDeque::new(),
            under_way: 0,
            next: 0,
            waited: 0,
            start: share(START),
            limit_max: share(LIMIT_MAX),
        }
    }

    /// How many had to wait since this was last asked.
    pub(crate) fn take_waited(&mut self) -> u64 {
        std::mem::take(&mut self.waited)
    }

    /// Somebody wants to ask a server: at once, or when [`Self::poll`] names it.
    pub(crate) fn ask(&mut self, now: Micros, server: IpAddr, asker: Asker) -> Turn {
        let (place, limit) = self.place(now, server);
        let number = self.next;
        self.next += 1;
        // Whoever waits for room among all servers comes first.
        let may_go = self.under_way < UNDER_WAY_MAX && self.ready.is_empty();
        let entry = self.servers.entry(place).or_insert_with(|| Server::new(limit, now));
        entry.touched = now;
        let sent = if may_go && entry.waiting.is_empty() && entry.has_room() {
            entry.under_way += 1;
            self.under_way += 1;
            Some(now)
        } else {
            entry.waiting.insert(number, asker);
            self.waited += 1;
            None
        };
        self.note_ready(place);
        Turn { server: place, number, sent }
    }

    /// Who may ask now; its turn counts as taken.
    pub(crate) fn poll(&mut self) -> Option<Asker> {
        while self.under_way < UNDER_WAY_MAX {
            let place = self.ready.pop_front()?;
            let Some(server) = self.servers.get_mut(&place) else { continue };
            server.is_ready = false;
            if !server.has_room() {
                continue;
            }
            let Some((_, asker)) = server.waiting.pop_first() else { continue };
            server.under_way += 1;
            self.under_way += 1;
            self.note_ready(place);
            return Some(asker);
        }
        None
    }

    /// A question of this turn was answered, or goes on over TCP.
    pub(crate) fn answered(&mut self, now: Micros, turn: &Turn, kind: QuestionKind) {
        let limit_max = self.limit_max;
        if let Some(server) = self.heard(now, turn) {
            server.answered(now, kind, limit_max);
        }
        self.note_ready(turn.server);
    }

    /// A try of this turn had no answer in time.
    pub(crate) fn timed_out(&mut self, now: Micros, turn: &Turn, kind: QuestionKind) {
        if let (Some(server), Some(sent)) = (self.heard(now, turn), turn.sent) {
            server.timed_out(now, kind, sent);
        }
        self.note_ready(turn.server);
    }

    /// A turn is over, or is not waited for any more.
    pub(crate) fn end(&mut self, turn: &Turn) {
        let Some(server) = self.servers.get_mut(&turn.server) else { return };
        if server.waiting.remove(&turn.number).is_none() {
            server.under_way -= 1;
            self.under_way -= 1;
        }
        self.note_ready(turn.server);
    }

    /// The server that a turn tells something of; of those that share a place nothing is learnt.
    fn heard(&mut self, now: Micros, turn: &Turn) -> Option<&mut Server> {
        let server = self.servers.get_mut(&turn.server).filter(|_| turn.server != OTHERS)?;
        server.touched = now;
        Some(server)
    }

    fn note_ready(&mut self, place: IpAddr) {
        let Some(server) = self.servers.get_mut(&place) else { return };
        if !server.is_ready && !server.waiting.is_empty() && server.has_room() {
            server.is_ready = true;
            self.ready.push_back(place);
        }
    }

    /// Under which address a server is counted, and its limit if it is not known.
    fn place(&mut self, now: Micros, server: IpAddr) -> (IpAddr, usize) {
        if let Some(known) = self.servers.get_mut(&server) {
            if known.is_idle() && known.touched.plus_ms(SILENCE_MS) <= now {
                known.silent = 0;
            }
            if known.is_idle() && known.touched.plus_ms(FORGOTTEN_MS) <= now {
                *known = Server::new(self.start, now);
            }
        } else if self.servers.len() >= SERVERS_MAX {
            let idle = self.servers.iter().filter(|(_, server)| server.is_idle());
            match idle.min_by_key(|(_, server)| server.touched).map(|(place, _)| *place) {
                Some(oldest) => _ = self.servers.remove(&oldest),
                None => return (OTHERS, usize::MAX),
            }
        }
        (server, self.start)
    }
}

#[cfg(test)]
mod tests;
