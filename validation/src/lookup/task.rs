//! One perspective's task: carries out a plan and ends with an observation.
//!
//! The driver calls `handle_*` with what happened and then does what [`Task::take_commands`] returns; it
//! wakes the task at [`Task::timeout`] and asks [`Task::poll_observation`] whether it has ended. The task
//! makes the CAA climb and the control lookups side by side, with a bounded number of queries in flight. If the
//! plan says so, a zone's own servers are asked about a lookup that failed for good, or all of them are surveyed.
//!
//! Invariants: a task ends by its deadline; ends once; its queries and its stream are ended by commands.

mod surveying;
mod turns;

use std::{net::SocketAddr, sync::Arc};

use jiff::Timestamp;
use smallvec::SmallVec;
use thin_vec::ThinVec;

pub use self::turns::TurnEvent;
use super::{
    Dnssec,
    asking::Asking,
    diagnosis::{Aim, Ask, Diagnosing},
    dns::{
        message::Question,
        query::{Query, QueryLimits, QueryStep},
    },
    dnssec::chain::{LinkQuestion, ZoneCache},
    http::{
        fetch::{Fetch, FetchStep},
        redirect::Target,
    },
    probe::Probe,
    proving::Proving,
    repeat::Repeats,
    survey::{self, Surveying},
    tls::{TlsSettings, alpn},
};
use crate::{
    base::{
        Entropy, Micros,
        address::AddressFilter,
        limits::{
            CHECK_QUERIES_IN_FLIGHT_MAX, CHECK_QUERIES_MAX, DIAGNOSIS_MS_MAX, DIAGNOSIS_REMARK_MS_MAX,
            DIAGNOSIS_TRY_MS, WEBSITE_BODY_BYTES_MAX,
        },
    },
    check::dcv::{dns_persist01, dns01},
    observation::{
        BudgetExhausted, ControlObservation, DnsFailure, DnsLookup, DnsOutcome, DnsTransport, DnssecMode,
        HintObservation, NetworkError, Observation, RecordType,
    },
    plan::{ControlPlan, Plan, inquiry::Inquiry},
};

/// A SHA-256 digest in base64url.
const DIGEST_BYTES: usize = 43;

/// Whether the strings of a TXT record are together as long as a digest.
fn is_digest_long(rdata: &[u8]) -> bool {
    dns01::joined_strings(rdata).is_some_and(|value| value.len() == DIGEST_BYTES)
}

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
    /// [`Task::compose`], send. A retransmission uses the port and id of the first. It goes to the perspective's
    /// resolver, or to [`Task::peer`] from a port of its own.
    Transmit(u16),
    /// The query needs its port and id no more.
    Release(u16),
    /// Connect to this address.
    Connect(Stream, Box<SocketAddr>),
    /// Send these octets, and hand over what comes back.
    Send(Stream, Vec<u8>),
    /// Send these last octets and let the connection go: what comes back is of no account. It is closed when the
    /// peer closes it, or after [`PARTING_MS`](crate::base::limits::PARTING_MS), so that the peer sees the octets and
    /// not a reset. No event about it is wanted.
    Part(Stream, Vec<u8>),
    /// Close it.
    Close(Stream),
    /// How it goes with a query to a name server, for a driver that keeps too many from asking one server at a time:
    /// see [`Task::wait_for_turn`].
    Pace(u16, TurnEvent),
}

/// What the driver is asked to do, in this order. A task of one lookup asks for one thing at a time.
pub type Commands = SmallVec<[Command; 1]>;

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Caa(usize),
    /// The next step of control's inquiry.
    Control,
    /// The next step of the derivation.
    Derivation,
    Address(RecordType),
    Hint(usize),
    /// A link of the chain of trust, by its number.
    Link(usize),
    /// CNAME of a level that failed.
    Alias(usize),
    /// No evidence for a judgement.
    Diagnosis(Aim),
    /// No evidence for a judgement either.
    Survey(survey::Aim),
}

impl Purpose {
    /// Whether it may go to TCP if UDP does not do.
    fn may_use_tcp(self) -> bool {
        match self {
            Self::Diagnosis(aim) => aim.may_use_tcp(),
            Self::Survey(aim) => aim.may_use_tcp(),
            _ => true,
        }
    }

    /// Whether it is asked beside the check, with bounds of its own.
    fn is_aside(self) -> bool {
        matches!(self, Self::Diagnosis(_) | Self::Survey(_))
    }
}

#[derive(Debug)]
enum Slot {
    Active(Query, Purpose, bool),
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
    /// How it speaks TLS.
    pub tls: TlsSettings,
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
///
/// Many wait at a time, and most for one reply, so what few of them have is a pointer here.
#[derive(Debug)]
pub struct Task {
    plan: Arc<Plan>,
    started: Micros,
    started_utc: Timestamp,
    deadline: Micros,
    /// One for most checks of control; kept in place, since it is what a reply is for.
    slots: SmallVec<[Slot; 1]>,
    /// The first goes first.
    waiting: ThinVec<(Purpose, Question)>,
    in_flight: u16,
    commands: Commands,
    caa: ThinVec<Option<DnsLookup>>,
    caa_settled: bool,
    control: Asking,
    derivation: Asking,
    addresses: ThinVec<DnsLookup>,
    addresses_wanted: u8,
    fetch: Option<Probe>,
    fetch_stream: u16,
    probed: Option<Box<ControlObservation>>,
    hints: ThinVec<HintObservation>,
    hints_asked: bool,
    answered: SmallVec<[u64; 2]>,
    planned: u32,
    budget: Option<Box<BudgetExhausted>>,
    /// Lookups that wait for their DNSSEC validation, if it is made here.
    proving: Option<Box<Proving>>,
    repeats: Repeats,
    diagnosing: Option<Box<Diagnosing>>,
    surveying: Option<Box<Surveying>>,
    dnssec: DnssecMode,
}

impl Task {
    /// Begins a plan. `started_utc` is the perspective's clock at `now`.
    pub fn new(plan: impl Into<Arc<Plan>>, site: &mut Site<'_>, now: Micros, started_utc: Timestamp) -> Self {
        let plan = plan.into();
        let deadline = now.plus_ms(u64::from(plan.limits.task_deadline_ms));
        let levels = plan.caa_levels.len();
        let mut task = Self {
            plan,
            started: now,
            started_utc,
            deadline,
            slots: SmallVec::with_capacity(if levels == 0 { 1 } else { levels + 2 }),
            waiting: ThinVec::new(),
            in_flight: 0,
            commands: Commands::new(),
            caa: (0..levels).map(|_| None).collect(),
            caa_settled: levels == 0,
            control: Asking::default(),
            derivation: Asking::default(),
            addresses: ThinVec::new(),
            addresses_wanted: 0,
            fetch: None,
            fetch_stream: 0,
            probed: None,
            hints: ThinVec::new(),
            hints_asked: false,
            answered: SmallVec::new(),
            planned: 0,
            budget: None,
            proving: None,
            repeats: Repeats::default(),
            diagnosing: None,
            surveying: None,
            dnssec: site.settings.dnssec.mode(),
        };
        if let Dnssec::Local(_) = site.settings.dnssec {
            let prefetch = task.plan.subject().and_then(|name| psl::domain_str(name)).map(str::to_owned);
            task.proving = Some(Box::new(Proving::new(task.plan.keep_proof, started_utc, prefetch)));
        }
        task.repeats = Repeats::after(task.plan.limits.caa_repeat_ms);
        task.begin(site, now);
        task.prove(site, now);
        task.survey(site, now);
        task
    }

    fn begin(&mut self, site: &mut Site<'_>, now: Micros) {
        self.go_on(site, now, Purpose::Derivation);
        self.go_on(site, now, Purpose::Control);
        match &self.plan.control {
            Some(ControlPlan::Http { host, path, https, body_bytes }) => {
                let tls = site.settings.tls.fetch.clone();
                let body_bytes_max = (*body_bytes as usize).min(WEBSITE_BODY_BYTES_MAX);
                let target = Target::first(host, path, *https);
                match target.map(|target| Fetch::new(target, body_bytes_max, tls, self.plan.limits, self.deadline)) {
                    Ok(fetch) => self.begin_probe(site, now, Probe::Fetch(Box::new(fetch))),
                    Err(problem) => self.probed = Some(Box::new(local_http_failure(problem))),
                }
            }
            Some(ControlPlan::TlsAlpn { host }) => {
                let tls = site.settings.tls.alpn.clone();
                let probe = alpn::Probe::new(host.clone(), tls, self.plan.limits, self.deadline);
                self.begin_probe(site, now, Probe::Alpn(Box::new(probe)));
            }
            Some(ControlPlan::Dns(_)) | None => {}
        }
        for level in 0..self.plan.caa_levels.len() {
            let asked = question(&self.plan.caa_levels[level], RecordType::Caa);
            self.ask(site, now, Purpose::Caa(level), asked);
        }
    }

    /// Asks what is due of an inquiry. A question that cannot be asked is answered at once.
    fn go_on(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose) {
        loop {
            let due = match purpose {
                Purpose::Control => self.control.take_due(inquiry_of(&self.plan)),
                Purpose::Derivation => self.derivation.take_due(self.plan.derivation.as_ref()),
                _ => None,
            };
            let Some((name, rtype)) = due else { return };
            let asked = question(&name, rtype);
            self.ask(site, now, purpose, asked);
        }
    }

    fn begin_probe(&mut self, site: &mut Site<'_>, now: Micros, probe: Probe) {
        let step = self.fetch.insert(probe).start(now, &site.settings.filter, site.entropy);
        self.apply_fetch(site, now, step);
    }

    /// What the driver is to do now.
    pub fn take_commands(&mut self) -> Commands {
        std::mem::take(&mut self.commands)
    }

    /// When it must be woken.
    #[must_use]
    pub fn timeout(&self) -> Micros {
        let queries = self.slots.iter().filter_map(|slot| match slot {
            Slot::Active(query, ..) => Some(query.timeout()),
            Slot::Ended => None,
        });
        let others = self.fetch.iter().map(Probe::timeout).chain(self.repeats.next());
        queries.chain(others).fold(self.deadline, Micros::min)
    }

    /// Composes the datagram of query `slot`, which is sent now; false if it has ended or gone to TCP.
    pub fn compose(
        &mut self,
        now: Micros,
        slot: u16,
        id: u16,
        entropy: &mut dyn Entropy,
        buffer: &mut Vec<u8>,
    ) -> bool {
        match self.slots.get_mut(usize::from(slot)) {
            Some(Slot::Active(query, _, false)) => {
                query.compose(now, id, entropy, buffer);
                true
            }
            _ => false,
        }
    }

    fn ask(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, asked: Result<Question, Unaskable>) {
        self.planned += 1;
        match asked {
            Ok(question) if self.has_room() => {
                self.begin_query(site, now, purpose, question);
            }
            Ok(question) => self.waiting.push((purpose, question)),
            Err(unaskable) => self.refuse(site, purpose, unaskable),
        }
    }

    fn begin_query(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, question: Question) {
        if self.slots.len() - self.queries_aside() >= CHECK_QUERIES_MAX {
            let (name, rtype) = (question.name_text(), question.rtype());
            return self.refuse(
                site,
                purpose,
                Unaskable { name, rtype, problem: "too many queries in one task".to_owned() },
            );
        }
        let limits = QueryLimits {
            try_ms: self.plan.limits.dns_try_ms,
            transmissions: self.plan.limits.dns_transmissions,
            deadline: self.deadline,
        };
        let again = self.proving.as_ref().is_none_or(|proving| proving.is_again(purpose));
        let question = if again { question } else { question.with_checking_disabled() };
        let slot = self.slots.len() as u16;
        let query = Query::new(question, site.settings.resolver, limits, now);
        let query = if self.proving.is_some() { query.keeping_packet() } else { query };
        self.slots.push(Slot::Active(query, purpose, false));
        self.in_flight += 1;
        self.commands.push(Command::Transmit(slot));
    }

    /// Whether another query may be in flight.
    fn has_room(&self) -> bool {
        usize::from(self.in_flight) < CHECK_QUERIES_IN_FLIGHT_MAX
    }

    fn queries_aside(&self) -> usize {
        let diagnosis = self.diagnosing.as_ref().map_or(0, |diagnosing| diagnosing.asked());
        diagnosis + self.surveying.as_ref().map_or(0, |surveying| surveying.asked())
    }

    /// The address a query goes to, if that is not the perspective's resolver.
    #[must_use]
    pub fn peer(&self, slot: u16) -> Option<SocketAddr> {
        match self.slots.get(usize::from(slot))? {
            Slot::Active(query, purpose, _) if turns::are_taken_by(query, *purpose) => Some(query.peer()),
            Slot::Active(..) | Slot::Ended => None,
        }
    }

    /// A question that cannot be asked.
    fn refuse(&mut self, site: &Site<'_>, purpose: Purpose, unaskable: Unaskable) {
        let Unaskable { name, rtype, problem } = unaskable;
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
            self.end_diagnosis(now);
            self.end_survey(now);
            if !self.is_complete() {
                self.cut_off(site, now);
            }
            return;
        }
        for slot in 0..self.slots.len() as u16 {
            self.with_query(site, now, slot, |query| query.handle_timeout(now));
        }
        for (level, name) in self.repeats.take_due(now) {
            self.ask(site, now, Purpose::Caa(level), question(&name, RecordType::Caa));
        }
        let step = self.fetch.as_mut().map_or(FetchStep::Wait, |fetch| fetch.handle_timeout(now));
        self.apply_fetch(site, now, step);
        if self.diagnosing.as_ref().is_some_and(|diagnosing| now >= diagnosing.deadline()) {
            self.end_diagnosis(now);
        }
    }

    fn with_query(&mut self, site: &mut Site<'_>, now: Micros, slot: u16, event: impl FnOnce(&mut Query) -> QueryStep) {
        let Some(Slot::Active(query, purpose, streaming)) = self.slots.get_mut(usize::from(slot)) else { return };
        let may_use_tcp = purpose.may_use_tcp();
        let step = event(query);
        if let Some(event) = turns::event(query, *purpose, *streaming, &step) {
            self.commands.push(Command::Pace(slot, event));
        }
        match step {
            QueryStep::Wait => {}
            QueryStep::Transmit => self.commands.push(Command::Transmit(slot)),
            QueryStep::OpenStream if may_use_tcp => {
                *streaming = true;
                let peer = query.peer();
                self.commands.push(Command::Release(slot));
                self.commands.push(Command::Connect(Stream::Query(slot), Box::new(peer)));
            }
            QueryStep::SendStream(bytes) => self.commands.push(Command::Send(Stream::Query(slot), bytes)),
            QueryStep::OpenStream | QueryStep::Done => self.end_query(site, now, slot),
        }
    }

    fn end_query(&mut self, site: &mut Site<'_>, now: Micros, slot: u16) {
        let Some((lookup, purpose, packet)) = self.close_query(now, slot) else { return };
        match purpose {
            Purpose::Diagnosis(aim) => return self.end_ask(site, now, (aim, &lookup, &packet)),
            Purpose::Survey(aim) => return self.end_survey_ask(site, now, (aim, &lookup, &packet)),
            _ => {}
        }
        if !matches!(lookup.outcome, DnsOutcome::Failed(_)) {
            self.answered.push(lookup.elapsed_us);
        }
        let failed = matches!(lookup.outcome, DnsOutcome::Failed(_));
        match (&mut self.proving, purpose) {
            (Some(proving), Purpose::Link(number)) => proving.answer(number, lookup, packet),
            // Of a lookup that failed it only matters for CAA whether its zone is signed (req C16).
            (Some(proving), Purpose::Caa(_)) => proving.add(purpose, lookup, packet),
            (Some(proving), Purpose::Control | Purpose::Derivation | Purpose::Address(_))
                if !failed || proving.is_again(purpose) =>
            {
                proving.add(purpose, lookup, packet);
            }
            _ => self.noted(site, now, purpose, lookup),
        }
        self.prove(site, now);
        while self.has_room() {
            if self.waiting.is_empty() {
                break;
            }
            let (purpose, question) = self.waiting.remove(0);
            self.begin_query(site, now, purpose, question);
        }
        self.diagnose(site, now);
    }

    /// Begins the one diagnosis of this task once a lookup has failed for good; or once everything else is there,
    /// if one succeeded at the second asking only.
    fn diagnose(&mut self, site: &mut Site<'_>, now: Micros) {
        if !self.plan.diagnose || self.diagnosing.is_some() || now >= self.deadline {
            return;
        }
        let caa = self.caa.iter().flatten().filter(|_| self.caa_settled);
        let derived = self.derivation.last(self.plan.derivation.as_ref());
        let own = derived.into_iter().chain(self.control.last(inquiry_of(&self.plan)));
        let lookups: Vec<&DnsLookup> = own.chain(caa).collect();
        let is_failed = |lookup: &DnsLookup| matches!(lookup.outcome, DnsOutcome::Failed(_));
        let some_failed = lookups.iter().any(|lookup| is_failed(lookup));
        if !some_failed && !self.is_decided() {
            return;
        }
        self.diagnosing = lookups.into_iter().filter(|lookup| is_failed(lookup) == some_failed).find_map(|lookup| {
            // What may be excused, or succeeded, may be a pass.
            let may_pass = !some_failed || lookup.repeat.is_some();
            let within = if may_pass { DIAGNOSIS_REMARK_MS_MAX } else { DIAGNOSIS_MS_MAX };
            let until = now.plus_ms(within.into()).min(self.deadline);
            Diagnosing::of(lookup, self.started_utc, until, lookup.repeat.is_some()).map(Box::new)
        });
        self.go_on_with_diagnosis(site, now);
    }

    fn end_ask(&mut self, site: &mut Site<'_>, now: Micros, ended: (Aim, &DnsLookup, &[u8])) {
        let (aim, lookup, packet) = ended;
        if let Some(diagnosing) = &mut self.diagnosing {
            diagnosing.handle(aim, lookup, packet, &site.settings.filter);
        }
        self.go_on_with_diagnosis(site, now);
    }

    fn go_on_with_diagnosis(&mut self, site: &mut Site<'_>, now: Micros) {
        loop {
            let Some(diagnosing) = &mut self.diagnosing else { return };
            let asks = diagnosing.take_asks(now);
            if diagnosing.is_ended() {
                return self.end_diagnosis(now);
            }
            if asks.is_empty() {
                return;
            }
            for ask in asks {
                self.begin_ask(site, now, ask);
            }
        }
    }

    fn begin_ask(&mut self, site: &mut Site<'_>, now: Micros, ask: Ask) {
        let Ask { aim, name, rtype, peer } = ask;
        let Some(diagnosing) = &mut self.diagnosing else { return };
        let question = match Question::new(&name, rtype) {
            Ok(question) if peer.is_some() => question.to_name_server(),
            Ok(question) => question.with_checking_disabled(),
            Err(problem) => {
                let lookup = local_dns_failure(site.settings, name, rtype, problem);
                self.slots.push(Slot::Ended);
                return diagnosing.handle(aim, &lookup, &[], &site.settings.filter);
            }
        };
        let limits = QueryLimits { try_ms: DIAGNOSIS_TRY_MS, transmissions: 1, deadline: diagnosing.deadline() };
        let peer = peer.unwrap_or(site.settings.resolver);
        let slot = self.slots.len() as u16;
        let over_tcp = matches!(aim, Aim::QuestionOverTcp(_));
        let query = if over_tcp { Query::over_stream } else { Query::new }(question, peer, limits, now);
        let query = query.keeping_packet();
        self.slots.push(Slot::Active(query, Purpose::Diagnosis(aim), over_tcp));
        self.commands.push(match over_tcp {
            true => Command::Connect(Stream::Query(slot), Box::new(peer)),
            false => Command::Transmit(slot),
        });
    }

    /// Ends the diagnosis with what has come, if there is one.
    fn end_diagnosis(&mut self, now: Micros) {
        let Some(diagnosing) = &mut self.diagnosing else { return };
        diagnosing.end();
        for slot in 0..self.slots.len() as u16 {
            if matches!(self.slots[usize::from(slot)], Slot::Active(_, Purpose::Diagnosis(_), _)) {
                self.close_query(now, slot);
            }
        }
    }

    /// Notes evidence and does what follows from it.
    fn noted(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, lookup: DnsLookup) {
        if let Purpose::Caa(level) = purpose {
            match self.repeats.ended(now, level, lookup) {
                Some(lookup) => self.note(purpose, lookup),
                None => {
                    let asked = question(self.repeats.name_of(level).unwrap_or_default(), RecordType::Cname);
                    return self.ask(site, now, Purpose::Alias(level), asked);
                }
            }
        } else {
            self.note(purpose, lookup);
        }
        if let Purpose::Address(_) = purpose {
            self.resolved(site, now);
        }
        self.go_on(site, now, purpose);
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
                self.ask_first(site, now, Purpose::Link(number), question(&name, rtype));
            }
            for (purpose, name, rtype) in round.again {
                self.ask_first(site, now, purpose, question(&name, rtype));
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
    fn ask_first(&mut self, site: &mut Site<'_>, now: Micros, purpose: Purpose, asked: Result<Question, Unaskable>) {
        match asked {
            Ok(question) if !self.has_room() => {
                self.planned += 1;
                self.waiting.insert(0, (purpose, question));
            }
            asked => self.ask(site, now, purpose, asked),
        }
    }

    /// Once everything is proven, links under way are wanted no more.
    fn drop_links(&mut self, now: Micros) {
        let is_link = |purpose: Purpose| matches!(purpose, Purpose::Link(_));
        let unwanted = |purpose: Purpose| is_link(purpose) || purpose.is_aside();
        let wanted = |slot: &Slot| matches!(slot, Slot::Active(_, purpose, _) if !unwanted(*purpose));
        let idle = self.proving.as_ref().is_some_and(|proving| proving.is_idle());
        if !idle || !self.is_decided() || self.slots.iter().any(wanted) {
            return;
        }
        if self.waiting.iter().any(|(purpose, ..)| !is_link(*purpose)) {
            return;
        }
        self.waiting.clear();
        for slot in 0..self.slots.len() as u16 {
            if matches!(self.slots[usize::from(slot)], Slot::Active(_, purpose, _) if is_link(purpose)) {
                self.close_query(now, slot);
            }
        }
    }

    /// Ends a query whatever its state and gives its evidence.
    fn close_query(&mut self, now: Micros, slot: u16) -> Option<(DnsLookup, Purpose, Arc<[u8]>)> {
        let at = self.slots.get_mut(usize::from(slot))?;
        let Slot::Active(query, purpose, streaming) = std::mem::replace(at, Slot::Ended) else { return None };
        if !purpose.is_aside() {
            self.in_flight -= 1;
        }
        self.commands.push(if streaming { Command::Close(Stream::Query(slot)) } else { Command::Release(slot) });
        if turns::are_taken_by(&query, purpose) {
            self.commands.push(Command::Pace(slot, TurnEvent::Ended));
        }
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
            Purpose::Control => self.control.note(lookup),
            Purpose::Derivation => self.derivation.note(lookup),
            Purpose::Address(_) => self.addresses.push(lookup),
            Purpose::Hint(index) => {
                let kind = self.plan.hints[index].kind;
                self.hints.push(HintObservation { kind, lookup });
            }
            Purpose::Alias(level) => self.repeats.note_alias(level, lookup),
            // A link is no evidence by itself.
            Purpose::Link(_) | Purpose::Diagnosis(_) | Purpose::Survey(_) => {}
        }
    }

    fn resolved(&mut self, site: &mut Site<'_>, now: Micros) {
        if self.addresses.len() < usize::from(self.addresses_wanted) {
            return;
        }
        self.addresses_wanted = 0;
        let mut lookups: Vec<DnsLookup> = std::mem::take(&mut self.addresses).into_iter().collect();
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
                    self.ask(site, now, Purpose::Address(rtype), question(&name, rtype));
                }
                // A name that cannot be asked for is answered at once.
                self.resolved(site, now);
            }
            FetchStep::Connect(address) => {
                self.drop_stream(current);
                self.fetch_stream += 1;
                self.commands.push(Command::Connect(Stream::Fetch(self.fetch_stream), Box::new(address)));
            }
            FetchStep::Send(bytes) => self.commands.push(Command::Send(current, bytes)),
            FetchStep::Part(bytes) => {
                self.commands.push(Command::Part(current, bytes));
                self.end_probe(site, now);
            }
            FetchStep::Done => {
                self.drop_stream(current);
                self.end_probe(site, now);
            }
        }
    }

    fn end_probe(&mut self, site: &mut Site<'_>, now: Micros) {
        self.probed = self.fetch.take().map(|fetch| Box::new(fetch.finish(now)));
        self.diagnose(site, now);
        self.drop_links(now);
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

    /// After a TXT lookup that found nothing, or nothing that has the form of a digest or of a record for an
    /// account, the plan's hints are asked once. The expected value is not known here.
    fn ask_hints(&mut self, site: &mut Site<'_>, now: Micros) {
        if self.hints_asked || self.plan.hints.is_empty() {
            return;
        }
        let Some(lookup) = self.control.last(inquiry_of(&self.plan)) else { return };
        let unhelpful = match &lookup.outcome {
            DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => true,
            DnsOutcome::Answer(set) => !set
                .rdata
                .iter()
                .any(|rdata| is_digest_long(rdata.as_slice()) || dns_persist01::resembles(rdata.as_slice())),
            DnsOutcome::Failed(_) => false,
        };
        if unhelpful {
            self.hints_asked = true;
            for index in 0..self.plan.hints.len() {
                let asked = question(&self.plan.hints[index].name, RecordType::Txt);
                self.ask(site, now, Purpose::Hint(index), asked);
            }
        }
    }

    fn is_complete(&self) -> bool {
        let diagnosed = self.diagnosing.as_ref().is_none_or(|diagnosing| diagnosing.is_ended());
        let surveyed = self.surveying.as_ref().is_none_or(|surveying| surveying.is_ended());
        self.is_decided() && self.in_flight == 0 && self.waiting.is_empty() && diagnosed && surveyed
    }

    /// Whether all evidence is there.
    fn is_decided(&self) -> bool {
        let control = match self.plan.control {
            None => true,
            Some(ControlPlan::Dns(ref inquiry)) => self.control.is_done(Some(inquiry)),
            Some(ControlPlan::Http { .. } | ControlPlan::TlsAlpn { .. }) => self.probed.is_some(),
        };
        control && self.derivation.is_done(self.plan.derivation.as_ref()) && self.caa_settled
    }

    /// The deadline came: everything open ends as it is.
    fn cut_off(&mut self, site: &Site<'_>, now: Micros) {
        self.answered.sort_unstable();
        self.budget = Some(Box::new(BudgetExhausted {
            budget_ms: self.plan.limits.task_deadline_ms,
            lookups_planned: self.planned,
            lookups_answered: self.answered.len() as u32,
            median_us: self.answered.get(self.answered.len() / 2).copied().unwrap_or(0),
        }));
        for slot in 0..self.slots.len() as u16 {
            if let Some((mut lookup, purpose, _)) = self.close_query(now, slot) {
                if self.proving.is_some() && !matches!(lookup.outcome, DnsOutcome::Failed(_)) {
                    lookup.outcome = DnsOutcome::Failed(DnsFailure::DeadlineOfTask);
                }
                self.note(purpose, lookup);
            }
        }
        for (purpose, lookup) in self.proving.as_mut().map(|proving| proving.cut_off()).unwrap_or_default() {
            self.note(purpose, lookup);
        }
        for (level, lookup) in self.repeats.cut_off() {
            self.note(Purpose::Caa(level), lookup);
        }
        for (purpose, question) in std::mem::take(&mut self.waiting) {
            let (name, rtype) = (question.name_text(), question.rtype());
            self.note(purpose, never_asked(site.settings, name, rtype, DnsFailure::DeadlineOfTask));
        }
        self.control.cut_off();
        self.derivation.cut_off();
        self.settle_caa(now);
        self.caa_settled = true;
        if self.fetch.is_some() {
            self.drop_stream(Stream::Fetch(self.fetch_stream));
            self.probed = self.fetch.take().map(|fetch| Box::new(fetch.finish(now)));
        }
    }

    /// Whether it has a TLS session, which is by far the largest thing that a task may hold.
    #[must_use]
    pub fn has_tls_session(&self) -> bool {
        self.fetch.as_ref().is_some_and(Probe::has_tls_session)
    }

    /// The observation, once everything has ended.
    pub fn poll_observation(&mut self, now: Micros) -> Option<Box<Observation>> {
        if !self.is_complete() {
            return None;
        }
        let control = match &self.plan.control {
            None => None,
            Some(ControlPlan::Dns(Inquiry::Climb { .. })) => {
                Some(ControlObservation::Climb(self.control.take().into_iter().collect()))
            }
            Some(ControlPlan::Dns(_)) => self.control.take().pop().map(ControlObservation::Record),
            Some(ControlPlan::Http { .. } | ControlPlan::TlsAlpn { .. }) => self.probed.take().map(|probed| *probed),
        };
        Some(Box::new(Observation {
            started: self.started_utc,
            elapsed_us: now.since(self.started),
            control,
            derivation: self.derivation.take().into_iter().collect(),
            caa: std::mem::take(&mut self.caa).into_iter().map_while(|level| level).collect(),
            hints: std::mem::take(&mut self.hints).into_iter().collect(),
            budget: self.budget.take().map(|budget| *budget),
            dnssec: self.dnssec,
            links: self.proving.as_ref().map(|proving| proving.links()).unwrap_or_default(),
            diagnosis: self.diagnosing.take().and_then(|diagnosing| diagnosing.finish()),
            survey: self.surveying.take().map(|surveying| Box::new(surveying.finish())),
        }))
    }
}

/// What the resolver is asked for control, if that is how control is shown.
fn inquiry_of(plan: &Plan) -> Option<&Inquiry> {
    plan.control.as_ref().and_then(ControlPlan::inquiry)
}

/// A question that is none, and why.
struct Unaskable {
    name: String,
    rtype: RecordType,
    problem: String,
}

fn question(name: &str, rtype: RecordType) -> Result<Question, Unaskable> {
    Question::new(name, rtype).map_err(|problem| Unaskable { name: name.to_owned(), rtype, problem })
}

fn never_asked(settings: &TaskSettings, name: String, rtype: RecordType, failure: DnsFailure) -> DnsLookup {
    DnsLookup {
        name,
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

fn local_dns_failure(settings: &TaskSettings, name: String, rtype: RecordType, problem: String) -> DnsLookup {
    never_asked(settings, name, rtype, DnsFailure::Local(problem))
}

fn local_http_failure(problem: String) -> ControlObservation {
    ControlObservation::Http(crate::observation::HttpObservation {
        hops: Vec::new(),
        outcome: crate::observation::HttpOutcome::Failed(crate::observation::HttpFailure::Local(problem)),
    })
}
