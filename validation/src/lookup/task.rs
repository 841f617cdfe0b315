//! One perspective's task: carries out a plan and ends with an observation.
//!
//! The driver calls `handle_*` with what happened and then does what [`Task::take_commands`] returns; it
//! wakes the task at [`Task::timeout`] and asks [`Task::poll_observation`] whether it has ended. The task
//! makes the CAA climb and the control lookups side by side, with a bounded number of queries in flight.
//!
//! Invariants: a task ends by its deadline; ends once; its queries and its stream are ended by commands.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use jiff::Timestamp;

use super::{
    Dnssec,
    dns::{
        message::Question,
        query::{Query, QueryLimits, QueryStep},
    },
    dnssec::chain::{LinkQuestion, ZoneCache},
    http::fetch::{Fetch, FetchStep},
    proving::Proving,
    repeat::Repeats,
};
use crate::{
    base::{
        Entropy, Micros,
        address::AddressFilter,
        limits::{CHECK_QUERIES_IN_FLIGHT_MAX, CHECK_QUERIES_MAX},
    },
    observation::{
        BudgetExhausted, ControlObservation, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecMode,
        HintObservation, NetworkError, Observation, RecordType,
    },
    plan::{ControlPlan, Plan},
};

/// RDATA of a TXT record with one string of a SHA-256 digest's length in base64url.
const DIGEST_RDATA_BYTES: usize = 44;

/// Which connection of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// That of a query which went to TCP.
    Query(u16),
    /// A connection of the fetch; each has its own number.
    Fetch(u16),
}

/// What the driver is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send the query's datagram: draw a port and an id that no other query there uses, call
    /// [`Task::compose`], send. A retransmission uses the port and id of the first.
    Transmit(u16),
    /// The query needs its port and id no more.
    Release(u16),
    /// Connect to this address.
    Connect(Stream, SocketAddr),
    /// Send these octets, and hand over what comes back.
    Send(Stream, Vec<u8>),
    /// Close it.
    Close(Stream),
}

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Caa(usize),
    Txt,
    Address(RecordType),
    Hint(usize),
    /// A link of the chain of trust, by its number.
    Link(usize),
    /// CNAME of a level that failed.
    Alias(usize),
}

#[derive(Debug)]
enum Slot {
    Active(Box<Query>, Purpose, bool),
    Ended,
}

/// A perspective's settings that a task needs.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// The one resolver it asks.
    pub resolver: SocketAddr,
    /// Which addresses it may connect to.
    pub filter: AddressFilter,
    /// Who validates.
    pub dnssec: Dnssec,
}

/// Where a task is carried out: what is the same for all tasks of a worker.
pub struct Site<'a> {
    /// The perspective's settings.
    pub settings: &'a TaskSettings,
    /// Zones above registered domains that the worker knows.
    pub zones: &'a mut ZoneCache,
    /// Unpredictable bits.
    pub entropy: &'a mut dyn Entropy,
}

/// One perspective's task on its way.
#[derive(Debug)]
pub struct Task {
    plan: Plan,
    started: Micros,
    started_utc: Timestamp,
    deadline: Micros,
    slots: Vec<Slot>,
    waiting: VecDeque<(Purpose, String, RecordType)>,
    in_flight: usize,
    commands: Vec<Command>,
    caa: Vec<Option<DnsLookup>>,
    caa_settled: bool,
    txt: Option<DnsLookup>,
    addresses: Vec<DnsLookup>,
    addresses_wanted: usize,
    fetch: Option<Fetch>,
    fetch_stream: u16,
    http: Option<crate::observation::HttpObservation>,
    hints: Vec<HintObservation>,
    hints_asked: bool,
    answered: Vec<u64>,
    planned: u32,
    budget: Option<BudgetExhausted>,
    /// Lookups that wait for their DNSSEC validation, if it is made here.
    proving: Option<Proving>,
    repeats: Repeats,
    dnssec: DnssecMode,
}

impl Task {
    /// Begins a plan. `started_utc` is the perspective's clock at `now`.
    pub fn new(plan: Plan, site: &mut Site<'_>, now: Micros, started_utc: Timestamp) -> Self {
        let deadline = now.plus_ms(u64::from(plan.limits.task_deadline_ms));
        let levels = plan.caa_levels.len();
        let mut task = Self {
            plan,
            started: now,
            started_utc,
            deadline,
            slots: Vec::with_capacity(levels + 2),
            waiting: VecDeque::new(),
            in_flight: 0,
            commands: Vec::new(),
            caa: vec![None; levels],
            caa_settled: levels == 0,
            txt: None,
            addresses: Vec::new(),
            addresses_wanted: 0,
            fetch: None,
            fetch_stream: 0,
            http: None,
            hints: Vec::new(),
            hints_asked: false,
            answered: Vec::new(),
            planned: 0,
            budget: None,
            proving: None,
            repeats: Repeats::default(),
            dnssec: site.settings.dnssec.mode(),
        };
        if let Dnssec::Local(_) = site.settings.dnssec {
            let prefetch = task.plan.subject().and_then(|name| psl::domain_str(name)).map(str::to_owned);
            task.proving = Some(Proving::new(task.plan.keep_proof, started_utc, prefetch));
        }
        task.repeats = Repeats::after(task.plan.limits.caa_repeat_ms);
        task.begin(site, now);
        task.prove(site, now);
        task
    }

    fn begin(&mut self, site: &mut Site<'_>, now: Micros) {
        match self.plan.control.clone() {
            Some(ControlPlan::Txt { name }) => self.ask(site, now, Purpose::Txt, name, RecordType::Txt),
            Some(ControlPlan::Http { host, path }) => match Fetch::new(&host, &path, self.plan.limits, self.deadline) {
                Ok(fetch) => {
                    let fetch = self.fetch.insert(fetch);
                    let step = fetch.start(now, &site.settings.filter, site.entropy);
                    self.apply_fetch(site, now, step);
                }
                Err(problem) => self.http = Some(local_http_failure(problem)),
            },
            None => {}
        }
        for (level, name) in self.plan.caa_levels.clone().into_iter().enumerate() {
            self.ask(site, now, Purpose::Caa(level), name, RecordType::Caa);
        }
    }

    /// What the driver is to do now.
    pub fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// When it must be woken.
    #[must_use]
    pub fn timeout(&self) -> Micros {
        let queries = self.slots.iter().filter_map(|slot| match slot {
            Slot::Active(query, ..) => Some(query.timeout()),
            Slot::Ended => None,
        });
        let others = self.fetch.iter().map(Fetch::timeout).chain(self.repeats.next());
        queries.chain(others).fold(self.deadline, Micros::min)
    }

    /// Composes the datagram of query `slot`; false if it has ended or gone to TCP.
    pub fn compose(&mut self, slot: u16, id: u16, entropy: &mut dyn Entropy, buffer: &mut Vec<u8>) -> bool {
        match self.slots.get_mut(usize::from(slot)) {
            Some(Slot::Active(query, _, false)) => {
                query.compose(id, entropy, buffer);
                true
            }
            _ => false,
        }
    }

    fn ask(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, name: String, rtype: RecordType) {
        self.planned += 1;
        if self.in_flight < CHECK_QUERIES_IN_FLIGHT_MAX {
            self.begin_query(site, now, purpose, &name, rtype);
        } else {
            self.waiting.push_back((purpose, name, rtype));
        }
    }

    fn begin_query(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, name: &str, rtype: RecordType) {
        let question = match Question::new(name, rtype) {
            Ok(question) if self.slots.len() < CHECK_QUERIES_MAX => question,
            Ok(_) => {
                return self.refuse(site, purpose, name, rtype, "too many queries in one task");
            }
            Err(problem) => return self.refuse(site, purpose, name, rtype, &problem),
        };
        let limits = QueryLimits {
            try_ms: self.plan.limits.dns_try_ms,
            transmissions: self.plan.limits.dns_transmissions,
            deadline: self.deadline,
        };
        let again = self.proving.as_ref().is_none_or(|proving| proving.is_again(purpose));
        let question = if again { question } else { question.with_checking_disabled() };
        let slot = self.slots.len() as u16;
        let query = Query::new(question, site.settings.resolver, limits, now);
        self.slots.push(Slot::Active(Box::new(query), purpose, false));
        self.in_flight += 1;
        self.commands.push(Command::Transmit(slot));
    }

    /// A question that cannot be asked.
    fn refuse(&mut self, site: &Site<'_>, purpose: Purpose, name: &str, rtype: RecordType, problem: &str) {
        let lookup = local_dns_failure(site.settings, name, rtype, problem);
        match (purpose, &mut self.proving) {
            (Purpose::Link(number), Some(proving)) => proving.answer(number, lookup, Arc::default()),
            _ => self.note(purpose, lookup),
        }
    }

    /// A datagram with the port and id of query `slot`.
    pub fn handle_datagram(&mut self, site: &mut Site<'_>, now: Micros, slot: u16, packet: &[u8]) {
        self.with_query(site, now, slot, |query| query.handle_datagram(now, packet));
    }

    /// The port of query `slot` reported an error.
    pub fn handle_datagram_failed(&mut self, site: &mut Site<'_>, now: Micros, slot: u16, error: NetworkError) {
        self.with_query(site, now, slot, |query| query.handle_datagram_failed(error));
    }

    /// Our own side could not send query `slot`.
    pub fn handle_local_failure(&mut self, site: &mut Site<'_>, now: Micros, slot: u16, reason: &str) {
        self.with_query(site, now, slot, |query| query.handle_local_failure(reason));
    }

    /// A connection stands.
    pub fn handle_connected(&mut self, site: &mut Site<'_>, now: Micros, stream: Stream) {
        match stream {
            Stream::Query(slot) => {
                let id = site.entropy.next_u64() as u16;
                self.with_query(site, now, slot, |query| query.handle_connected(id));
            }
            Stream::Fetch(number) if number == self.fetch_stream => {
                let step = self.fetch.as_mut().map_or(FetchStep::Wait, |fetch| fetch.handle_connected(now));
                self.apply_fetch(site, now, step);
            }
            Stream::Fetch(_) => {}
        }
    }

    /// Octets on a connection; none means the peer closed it.
    pub fn handle_stream(&mut self, site: &mut Site<'_>, now: Micros, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Query(slot) => self.with_query(site, now, slot, |query| query.handle_stream(bytes)),
            Stream::Fetch(number) if number == self.fetch_stream => {
                let step = self.fetch.as_mut().map_or(FetchStep::Wait, |fetch| {
                    fetch.handle_stream(now, bytes, &site.settings.filter, site.entropy)
                });
                self.apply_fetch(site, now, step);
            }
            Stream::Fetch(_) => {}
        }
    }

    /// A connection failed, or could not be made.
    pub fn handle_stream_failed(&mut self, site: &mut Site<'_>, now: Micros, stream: Stream, error: NetworkError) {
        match stream {
            Stream::Query(slot) => self.with_query(site, now, slot, |query| query.handle_stream_failed(error)),
            Stream::Fetch(number) if number == self.fetch_stream => {
                let step = self.fetch.as_mut().map_or(FetchStep::Wait, |fetch| fetch.handle_stream_failed(now, error));
                self.apply_fetch(site, now, step);
            }
            Stream::Fetch(_) => {}
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, site: &mut Site<'_>, now: Micros) {
        // The deadline goes first: a query or a connection that it cuts off did not fail by itself.
        if now >= self.deadline {
            if !self.is_complete() {
                self.cut_off(site, now);
            }
            return;
        }
        for slot in 0..self.slots.len() as u16 {
            self.with_query(site, now, slot, |query| query.handle_timeout(now));
        }
        for (level, name) in self.repeats.take_due(now) {
            self.ask(site, now, Purpose::Caa(level), name, RecordType::Caa);
        }
        let step = self.fetch.as_mut().map_or(FetchStep::Wait, |fetch| fetch.handle_timeout(now));
        self.apply_fetch(site, now, step);
    }

    fn with_query(&mut self, site: &mut Site<'_>, now: Micros, slot: u16, event: impl FnOnce(&mut Query) -> QueryStep) {
        let Some(Slot::Active(query, _, streaming)) = self.slots.get_mut(usize::from(slot)) else { return };
        match event(query) {
            QueryStep::Wait => {}
            QueryStep::Transmit => self.commands.push(Command::Transmit(slot)),
            QueryStep::OpenStream => {
                *streaming = true;
                self.commands.push(Command::Release(slot));
                self.commands.push(Command::Connect(Stream::Query(slot), site.settings.resolver));
            }
            QueryStep::SendStream(bytes) => self.commands.push(Command::Send(Stream::Query(slot), bytes)),
            QueryStep::Done => self.end_query(site, now, slot),
        }
    }

    fn end_query(&mut self, site: &mut Site<'_>, now: Micros, slot: u16) {
        let Some((lookup, purpose, packet)) = self.close_query(now, slot) else { return };
        if !matches!(lookup.outcome, DnsOutcome::Failed(_)) {
            self.answered.push(lookup.elapsed_us);
        }
        let failed = matches!(lookup.outcome, DnsOutcome::Failed(_));
        match (&mut self.proving, purpose) {
            (Some(proving), Purpose::Link(number)) => proving.answer(number, lookup, packet),
            // Of a lookup that failed it only matters for CAA whether its zone is signed (req C16).
            (Some(proving), Purpose::Caa(_)) => proving.add(purpose, lookup, packet),
            (Some(proving), Purpose::Txt | Purpose::Address(_)) if !failed || proving.is_again(purpose) => {
                proving.add(purpose, lookup, packet);
            }
            _ => self.noted(site, now, purpose, lookup),
        }
        self.prove(site, now);
        while self.in_flight < CHECK_QUERIES_IN_FLIGHT_MAX {
            let Some((purpose, name, rtype)) = self.waiting.pop_front() else { break };
            self.begin_query(site, now, purpose, &name, rtype);
        }
    }

    /// Notes evidence and does what follows from it.
    fn noted(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, lookup: DnsLookup) {
        let lookup = match purpose {
            Purpose::Caa(level) => match self.repeats.ended(now, level, lookup) {
                Some(lookup) => lookup,
                None => {
                    let name = self.repeats.name_of(level).map(str::to_owned).unwrap_or_default();
                    return self.ask(site, now, Purpose::Alias(level), name, RecordType::Cname);
                }
            },
            _ => lookup,
        };
        self.note(purpose, lookup);
        if let Purpose::Address(_) = purpose {
            self.resolved(site, now);
        }
        self.settle_caa(now);
        self.ask_hints(site, now);
    }

    /// Goes on with validation until nothing moves any more.
    fn prove(&mut self, site: &mut Site<'_>, now: Micros) {
        loop {
            let Dnssec::Local(anchors) = &site.settings.dnssec else { return };
            let Some(proving) = &mut self.proving else { return };
            let round = proving.advance(anchors, site.zones);
            for (number, LinkQuestion { name, rtype, .. }) in round.questions {
                self.ask_first(site, now, Purpose::Link(number), name, rtype);
            }
            for (purpose, name, rtype) in round.again {
                self.ask_first(site, now, purpose, name, rtype);
            }
            if round.ended.is_empty() {
                return self.drop_links(now);
            }
            for (purpose, lookup) in round.ended {
                self.noted(site, now, purpose, lookup);
            }
        }
    }

    /// What others wait for goes before what waits already.
    fn ask_first(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, name: String, rtype: RecordType) {
        self.planned += 1;
        if self.in_flight < CHECK_QUERIES_IN_FLIGHT_MAX {
            self.begin_query(site, now, purpose, &name, rtype);
        } else {
            self.waiting.push_front((purpose, name, rtype));
        }
    }

    /// Once everything is proven, links under way are wanted no more.
    fn drop_links(&mut self, now: Micros) {
        let is_link = |purpose: Purpose| matches!(purpose, Purpose::Link(_));
        let wanted = |slot: &Slot| matches!(slot, Slot::Active(_, purpose, _) if !is_link(*purpose));
        let idle = self.proving.as_ref().is_some_and(Proving::is_idle);
        if !idle || !self.is_decided() || self.slots.iter().any(wanted) {
            return;
        }
        if self.waiting.iter().any(|(purpose, ..)| !is_link(*purpose)) {
            return;
        }
        self.waiting.clear();
        for slot in 0..self.slots.len() as u16 {
            self.close_query(now, slot);
        }
    }

    /// Ends a query whatever its state and gives its evidence.
    fn close_query(&mut self, now: Micros, slot: u16) -> Option<(DnsLookup, Purpose, Arc<[u8]>)> {
        let ended = std::mem::replace(self.slots.get_mut(usize::from(slot))?, Slot::Ended);
        let Slot::Active(query, purpose, streaming) = ended else { return None };
        self.in_flight -= 1;
        self.commands.push(if streaming { Command::Close(Stream::Query(slot)) } else { Command::Release(slot) });
        let (lookup, packet) = query.finish(now);
        Some((lookup, purpose, packet))
    }

    fn note(&mut self, purpose: Purpose, lookup: DnsLookup) {
        match purpose {
            // A level above the one that decided is of no account.
            Purpose::Caa(level) => {
                if let Some(at) = self.caa.get_mut(level) {
                    *at = Some(lookup);
                }
            }
            Purpose::Txt => self.txt = Some(lookup),
            Purpose::Address(_) => self.addresses.push(lookup),
            Purpose::Hint(index) => {
                let kind = self.plan.hints[index].kind;
                self.hints.push(HintObservation { kind, lookup });
            }
            Purpose::Alias(level) => self.repeats.note_alias(level, lookup),
            // A link is no evidence by itself.
            Purpose::Link(_) => {}
        }
    }

    fn resolved(&mut self, site: &mut Site<'_>, now: Micros) {
        if self.addresses.len() < self.addresses_wanted {
            return;
        }
        self.addresses_wanted = 0;
        let mut lookups = std::mem::take(&mut self.addresses);
        lookups.sort_by_key(|lookup| lookup.rtype.number());
        let step = self.fetch.as_mut().map_or(FetchStep::Wait, |fetch| {
            fetch.handle_resolution(now, lookups, &site.settings.filter, site.entropy)
        });
        self.apply_fetch(site, now, step);
    }

    fn apply_fetch(&mut self, site: &mut Site<'_>, now: Micros, step: FetchStep) {
        let current = Stream::Fetch(self.fetch_stream);
        match step {
            FetchStep::Wait => {}
            FetchStep::Resolve(name) => {
                self.drop_stream(current);
                self.addresses_wanted = 2;
                for rtype in [RecordType::A, RecordType::Aaaa] {
                    self.ask(site, now, Purpose::Address(rtype), name.clone(), rtype);
                }
                // A name that cannot be asked for is answered at once.
                self.resolved(site, now);
            }
            FetchStep::Connect(address) => {
                self.drop_stream(current);
                self.fetch_stream += 1;
                self.commands.push(Command::Connect(Stream::Fetch(self.fetch_stream), address));
            }
            FetchStep::Send(bytes) => self.commands.push(Command::Send(current, bytes)),
            FetchStep::Done => {
                self.drop_stream(current);
                self.http = self.fetch.take().map(|fetch| fetch.finish(now));
            }
        }
    }

    fn drop_stream(&mut self, stream: Stream) {
        if stream != Stream::Fetch(0) {
            self.commands.push(Command::Close(stream));
        }
    }

    /// The climb is over once a set, or a failure, has only denials below it (req C9); what lies above
    /// is of no account and is cut off.
    fn settle_caa(&mut self, now: Micros) {
        if self.caa_settled {
            return;
        }
        // A failure that may count as permission does not end the climb (req C16).
        let goes_on = self.repeats.are_made();
        let decided = self.caa.iter().position(|level| match level {
            Some(DnsLookup { outcome: DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_), .. }) => false,
            Some(DnsLookup { outcome: DnsOutcome::Failed(_), .. }) => !goes_on,
            Some(DnsLookup { outcome: DnsOutcome::Answer(_), .. }) | None => true,
        });
        match decided {
            None => self.caa_settled = true,
            Some(level) if self.caa[level].is_some() => {
                self.caa_settled = true;
                self.caa.truncate(level + 1);
                self.repeats.forget_from(level);
                self.waiting.retain(|(purpose, ..)| !matches!(purpose, Purpose::Caa(_)));
                if let Some(proving) = &mut self.proving {
                    proving.forget(|purpose| matches!(purpose, Purpose::Caa(_)));
                }
                for slot in 0..self.slots.len() as u16 {
                    if matches!(self.slots[usize::from(slot)], Slot::Active(_, Purpose::Caa(_), _)) {
                        self.close_query(now, slot);
                    }
                }
            }
            Some(_) => {}
        }
    }

    /// After a TXT lookup that found nothing, or nothing that has the form of a digest, the plan's hints
    /// are asked once. The expected value is not known here.
    fn ask_hints(&mut self, site: &mut Site<'_>, now: Micros) {
        if self.hints_asked || self.plan.hints.is_empty() {
            return;
        }
        let Some(lookup) = &self.txt else { return };
        let unhelpful = match &lookup.outcome {
            DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => true,
            DnsOutcome::Answer(set) => !set.rdata.iter().any(|rdata| rdata.0.len() == DIGEST_RDATA_BYTES),
            DnsOutcome::Failed(_) => false,
        };
        if unhelpful {
            self.hints_asked = true;
            for (index, hint) in self.plan.hints.clone().into_iter().enumerate() {
                self.ask(site, now, Purpose::Hint(index), hint.name, RecordType::Txt);
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.is_decided() && self.in_flight == 0 && self.waiting.is_empty()
    }

    /// Whether all evidence is there.
    fn is_decided(&self) -> bool {
        let control = match self.plan.control {
            None => true,
            Some(ControlPlan::Txt { .. }) => self.txt.is_some(),
            Some(ControlPlan::Http { .. }) => self.http.is_some(),
        };
        control && self.caa_settled
    }

    /// The deadline came: everything open ends as it is.
    fn cut_off(&mut self, site: &Site<'_>, now: Micros) {
        self.answered.sort_unstable();
        self.budget = Some(BudgetExhausted {
            budget_ms: self.plan.limits.task_deadline_ms,
            lookups_planned: self.planned,
            lookups_answered: self.answered.len() as u32,
            median_us: self.answered.get(self.answered.len() / 2).copied().unwrap_or(0),
        });
        for slot in 0..self.slots.len() as u16 {
            if let Some((mut lookup, purpose, _)) = self.close_query(now, slot) {
                if self.proving.is_some() && !matches!(lookup.outcome, DnsOutcome::Failed(_)) {
                    lookup.outcome = DnsOutcome::Failed(DnsFailure::DeadlineOfTask);
                }
                self.note(purpose, lookup);
            }
        }
        for (purpose, lookup) in self.proving.as_mut().map(Proving::cut_off).unwrap_or_default() {
            self.note(purpose, lookup);
        }
        for (level, lookup) in self.repeats.cut_off() {
            self.note(Purpose::Caa(level), lookup);
        }
        for (purpose, name, rtype) in std::mem::take(&mut self.waiting) {
            let lookup = never_asked(site.settings, &name, rtype, DnsFailure::DeadlineOfTask);
            self.note(purpose, lookup);
        }
        self.settle_caa(now);
        self.caa_settled = true;
        if self.fetch.is_some() {
            self.drop_stream(Stream::Fetch(self.fetch_stream));
            self.http = self.fetch.take().map(|fetch| fetch.finish(now));
        }
    }

    /// The observation, once everything has ended.
    pub fn poll_observation(&mut self, now: Micros) -> Option<Observation> {
        if !self.is_complete() {
            return None;
        }
        let control = match self.plan.control {
            None => None,
            Some(ControlPlan::Txt { .. }) => self.txt.take().map(ControlObservation::Txt),
            Some(ControlPlan::Http { .. }) => self.http.take().map(ControlObservation::Http),
        };
        Some(Observation {
            started: self.started_utc,
            elapsed_us: now.since(self.started),
            control,
            caa: std::mem::take(&mut self.caa).into_iter().map_while(|level| level).collect(),
            hints: std::mem::take(&mut self.hints),
            budget: self.budget,
            dnssec: self.dnssec,
            links: self.proving.as_ref().map(Proving::links).unwrap_or_default(),
        })
    }
}

fn never_asked(settings: &TaskSettings, name: &str, rtype: RecordType, failure: DnsFailure) -> DnsLookup {
    DnsLookup {
        name: name.to_owned(),
        rtype,
        resolver: settings.resolver,
        transport: DnsTransport::Udp,
        transmissions: 0,
        tcp_because: None,
        ignored_replies: 0,
        elapsed_us: 0,
        authenticated: false,
        extended_errors: Vec::new(),
        validation: None,
        repeat: None,
        outcome: DnsOutcome::Failed(failure),
    }
}

fn local_dns_failure(settings: &TaskSettings, name: &str, rtype: RecordType, problem: &str) -> DnsLookup {
    never_asked(settings, name, rtype, DnsFailure::Local(problem.to_owned()))
}

fn local_http_failure(problem: String) -> crate::observation::HttpObservation {
    crate::observation::HttpObservation {
        hops: Vec::new(),
        outcome: crate::observation::HttpOutcome::Failed(crate::observation::HttpFailure::Local(problem)),
    }
}
