//! A worker: one thread, one ring, many tasks.
//!
//! The loop harvests completions first, feeds them to the tasks they belong to, and then does what the
//! touched tasks ask for. It knows sockets, ids and time; it cannot tell what a question is about.
//!
//! Invariant: every admitted task leaves as exactly one report, by its own deadline.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use crossbeam::queue::ArrayQueue;
use jiff::Timestamp;
use parallax_protocol::{BATCH_ITEMS_MAX, Header, Report, Task};
use parallax_ring::{Close, DatagramId, Event, Flow, FlowSpan, Ring, SendError, StreamId, Waker};
use parallax_validation::{
    base::{
        Entropy, Micros,
        limits::{PARTING_BYTES_MAX, PARTING_MAX, PARTING_MS, QUERY_BYTES_MAX},
        perspective::PerspectiveId,
    },
    lookup::{
        Dnssec,
        dnssec::chain::ZoneCache,
        task::{Command, Site, Stream, Task as Core, TaskSettings, TurnEvent},
        tls::{TlsSettings, rustls},
    },
    observation::{NetworkError, Observation},
};
use rand::{RngExt as _, rngs::StdRng};
use smallvec::SmallVec;
use thin_vec::ThinVec;

use crate::{
    captures::{Capture, FRAMES_OCTETS_MAX, pcap},
    config::NodeConfig,
    ended::{EndedTasks, Remains},
    memory::{Memory, TLS_SESSION_OCTETS, octets_at_begin, octets_of_answer, octets_of_answers},
    node::{Batch, NodeError, Out, Owner, Shared, Wanted},
    pacing::{Pacing, Turn},
    pool::{Origin, PortPool},
    talks::{Over, TALKS_OCTETS_MAX, Talks},
    tasks::{TaskKey, Tasks},
    timers::Timers,
};

/// How long the loop sleeps at most.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How often figures are taken over that the kernel has to be asked for.
const FIGURES_EVERY_MS: u64 = 1000;
/// Asks for packets that are answered in one turn of the loop: each may compose a capture.
const ASKS_A_TURN: usize = 8;

/// Tasks that are begun in one turn of the loop at most: what comes for others waits no longer than that takes.
const TASKS_A_TURN: u64 = 128;
/// Tasks or events for which a clock is read once, and datagrams that are handed to the kernel together. Of lookups so many
/// take a fraction of a millisecond, which is what an answer from memory and one that was fetched are told apart by.
const CLOCK_USES: u32 = 32;

/// Clocks that are read once for a few things that are done one right after another. It must not outlast a sleep.
struct Coarse<T> {
    read: Option<T>,
    uses: u32,
}

impl<T> Default for Coarse<T> {
    fn default() -> Self {
        Self { read: None, uses: 0 }
    }
}

impl<T: Copy> Coarse<T> {
    fn read(&mut self, clock: impl FnOnce() -> T) -> T {
        if self.uses == CLOCK_USES {
            *self = Self::default();
        }
        self.uses += 1;
        *self.read.get_or_insert_with(clock)
    }
}

/// Unpredictable bits from a generator seeded by the operating system.
struct Bits(StdRng);

impl Entropy for Bits {
    fn next_u64(&mut self) -> u64 {
        self.0.random()
    }
}

/// A task under way. There are many, so what few have is a pointer.
struct Running {
    /// What the task came with; its report takes it.
    came_with: Option<(Header, PerspectiveId)>,
    /// Who may ask for its packets.
    owner: Option<Owner>,
    core: Core,
    wakes: Micros,
    origins: SmallVec<[(u16, Origin); 1]>,
    streams: ThinVec<(Stream, StreamId)>,
    /// Of its queries to name servers.
    turns: ThinVec<(u16, Turn)>,
    touched: bool,
    /// Whom it has talked with, if frames are kept.
    talks: Talks,
    /// Octets it is reckoned to have held when it began, those it was given since, and all that was counted last.
    own: u32,
    given: u32,
    counted: u32,
}

/// Everything but the ring, so that events can be handled while the ring delivers them.
struct State {
    settings: TaskSettings,
    tasks: Tasks<Running>,
    touched: Vec<TaskKey>,
    pool: PortPool,
    pacing: Pacing,
    streams: Streams,
    /// Streams whose octets were taken and that want more.
    to_receive: Vec<StreamId>,
    /// Streams that were let go, and by when they are closed; the first to be so first.
    parting: VecDeque<(Micros, StreamId)>,
    /// Those of them that have ended.
    parted: Vec<StreamId>,
    timers: Timers,
    entropy: Bits,
    zones: ZoneCache,
    origin: Instant,
    stray: u64,
    /// If there is a budget.
    memory: Option<Memory>,
    /// If frames are kept.
    ended: Option<EndedTasks>,
}

pub(crate) struct Worker {
    config: NodeConfig,
    shared: Arc<Shared>,
    out: Out,
    ring: Ring,
    state: State,
    waiting: VecDeque<(Option<Owner>, Task)>,
    /// Transmissions that found no send slot.
    backlog: VecDeque<(TaskKey, u16)>,
    outgoing: Vec<Report>,
    /// Queries sent that the figures do not have yet.
    sent: u64,
    /// Of them, those that the kernel was not yet told of.
    queued: u32,
    /// The datagram that is being composed.
    packet: Vec<u8>,
    cpu: CpuClock,
    /// When figures of the ring are due, if it has any.
    figures_due: Option<Micros>,
}

impl Worker {
    pub(crate) fn open(config: NodeConfig, shared: Arc<Shared>, out: Out) -> Result<Self, NodeError> {
        let perspective = config.perspective.to_string();
        let mut ring =
            config.open_ring().map_err(|error| NodeError::Ring { perspective: perspective.clone(), error })?;
        let pool = PortPool::open(&config, &mut ring).map_err(|error| NodeError::Socket {
            perspective,
            from: config.source_for(config.resolver.ip()).map_or_else(|| "any address".to_owned(), |a| a.to_string()),
            resolver: config.resolver.to_string(),
            error,
        })?;
        // A configuration of its own for each worker: nothing is shared between their handshakes.
        let tls = TlsSettings::new(rustls::crypto::ring::default_provider())
            .map_err(|error| NodeError::Tls { perspective: config.perspective.to_string(), error })?;
        let state = State {
            settings: TaskSettings {
                resolver: config.resolver,
                filter: config.address_filter(),
                dnssec: config.dnssec.clone(),
                tls,
            },
            tasks: Tasks::new(),
            touched: Vec::new(),
            pool,
            pacing: Pacing::new(config.workers),
            streams: Streams::default(),
            to_receive: Vec::new(),
            parting: VecDeque::new(),
            parted: Vec::new(),
            timers: Timers::default(),
            entropy: Bits(rand::make_rng()),
            zones: ZoneCache::default(),
            origin: Instant::now(),
            stray: 0,
            memory: config.memory_max_of_worker().map(Memory::new),
            ended: ring.keeps_frames().then(|| EndedTasks::new(config.waiting_captures_octets_max())),
        };
        let figures_due = ring.raw_stats().map(|_| Micros(0));
        Ok(Self {
            config,
            shared,
            out,
            ring,
            state,
            waiting: VecDeque::new(),
            backlog: VecDeque::new(),
            outgoing: Vec::new(),
            sent: 0,
            queued: 0,
            packet: Vec::with_capacity(QUERY_BYTES_MAX),
            cpu: CpuClock::default(),
            figures_due,
        })
    }

    pub(crate) fn waker(&self) -> Waker {
        self.ring.waker()
    }

    pub(crate) fn run(&mut self) {
        // Pairs with the store in `Node::drop`.
        while !self.shared.stop.load(Ordering::Acquire) {
            self.send_backlog();
            self.expire();
            self.settle();
            self.admit();
            self.receive_more();
            self.close_parted();
            self.flush();
            self.give_packets();
            self.cpu.publish(&self.shared.stats.cpu_us);
            self.publish_figures();
            let wait = self.next_wait();
            self.queued = 0;
            let state = &mut self.state;
            let mut clock = Coarse::default();
            let handle = &mut |event: Event<'_>| {
                let now = clock.read(|| state.now());
                state.handle(now, event);
            };
            if let Err(error) = self.ring.wait(Some(wait), handle) {
                eprintln!("perspective {}: the ring failed: {error}", self.config.perspective);
                break;
            }
            let stray = std::mem::take(&mut self.state.stray);
            self.shared.stats.stray_datagrams.fetch_add(stray, Ordering::Relaxed);
            self.shared.stats.paced_queries.fetch_add(self.state.pacing.take_waited(), Ordering::Relaxed);
        }
        // Release: pairs with the load in `Node::submit`.
        self.shared.ended.store(true, Ordering::Release);
        self.cpu.publish_now(&self.shared.stats.cpu_us);
        self.shared.stats.ring_enters.fetch_add(self.ring.stats().enters, Ordering::Relaxed);
        self.figures_due = self.figures_due.map(|_| Micros(0));
        self.publish_figures();
    }

    /// Takes over what the raw transport has counted, if that is due.
    fn publish_figures(&mut self) {
        let Some(due) = self.figures_due else { return };
        let now = self.state.now();
        if now < due {
            return;
        }
        self.figures_due = Some(now.plus_ms(FIGURES_EVERY_MS));
        if let Some(counted) = self.ring.raw_stats() {
            self.shared.stats.frames.set(&counted);
        }
    }

    fn next_wait(&self) -> Duration {
        // Room that tasks left by ending is used at once, not when the next event happens to come.
        let room = self.has_room();
        let wanted = !self.waiting.is_empty() || !self.shared.queue.is_empty();
        let asked = self.state.ended.is_some() && !self.shared.wanted.is_empty();
        // What waits for a send slot is no reason: the ring ends the wait when one is free.
        if (room && wanted) || asked || !self.state.touched.is_empty() {
            return Duration::ZERO;
        }
        let now = self.state.now();
        let parting = self.state.parting.front().map(|(by, _)| *by);
        let next = self.state.timers.next().into_iter().chain(parting).min();
        next.map_or(IDLE_WAIT, |at| at.until(now).min(IDLE_WAIT))
    }

    /// Whether the next task may be begun; if none is at hand, whether any may be.
    fn has_room(&self) -> bool {
        let next = self.waiting.front().map_or(0, |(_, task)| self.state.octets_at_begin(task));
        self.state.tasks.len() < self.config.tasks_in_flight_max as usize
            && self.state.memory.as_ref().is_none_or(|memory| memory.has_room(next))
    }

    /// Takes tasks while there is room; the rest waits in the queue, where it holds the engine back. A few at a time are
    /// begun and then carried out, while they are still in the processor's cache; so the memory of tasks that have just
    /// ended is used first, too.
    fn admit(&mut self) {
        let mut begun = 0;
        while begun < TASKS_A_TURN {
            let some = self.begin_some();
            if some == 0 {
                break;
            }
            // Before a report says that it has ended.
            self.shared.stats.tasks.fetch_add(some, Ordering::Relaxed);
            self.settle();
            begun += some;
        }
        if let Some(memory) = &mut self.state.memory {
            // Wraps round where it shrinks.
            self.shared.stats.memory_octets.fetch_add(memory.take_change(), Ordering::Relaxed);
        }
    }

    /// Begins as many tasks as one reading of the clocks does for. Gives how many.
    fn begin_some(&mut self) -> u64 {
        let (mut begun, mut clocks) = (0, Coarse::default());
        while begun < u64::from(CLOCK_USES) && self.has_room() {
            let Some((owner, task)) = self.waiting.pop_front() else {
                match self.shared.queue.pop() {
                    Some(Batch { owner, tasks }) => self.waiting.extend(tasks.into_iter().map(|task| (owner, task))),
                    None => break,
                }
                continue;
            };
            let (now, utc) = clocks.read(|| (self.state.now(), Timestamp::now()));
            self.state.begin(owner, task, now, utc);
            begun += 1;
        }
        begun
    }

    fn expire(&mut self) {
        let (now, mut clock) = (self.state.now(), Coarse::default());
        while let Some(index) = self.state.timers.expired(now) {
            let now = clock.read(|| self.state.now());
            let Some(key) = self.state.tasks.key_at(index) else { continue };
            if let Some(running) = self.state.tasks.get(key) {
                running.wakes = Micros(u64::MAX);
            }
            self.state.with(key, |core, site| core.handle_timeout(site, now));
        }
    }

    /// Sends what found no send slot before.
    fn send_backlog(&mut self) {
        let mut clock = Coarse::default();
        for _ in 0..self.backlog.len() {
            let Some((key, slot)) = self.backlog.pop_front() else { break };
            let now = clock.read(|| self.state.now());
            self.transmit(key, slot, now);
        }
    }

    /// Does what touched tasks ask for, until none asks for anything.
    fn settle(&mut self) {
        loop {
            let mut clock = Coarse::default();
            while let Some(key) = self.state.touched.pop() {
                let now = clock.read(|| self.state.now());
                self.carry_out(key, now);
                // They would wait for what else is to be done, and the resolver would seem slow.
                if self.queued >= CLOCK_USES {
                    self.queued = 0;
                    self.ring.submit();
                }
            }
            if !self.state.give_turns() {
                break;
            }
        }
    }

    /// Goes on with streams whose octets have been taken.
    fn receive_more(&mut self) {
        for id in std::mem::take(&mut self.state.to_receive) {
            if self.state.streams.get(id).is_some() {
                self.ring.receive(id);
            }
        }
    }

    fn carry_out(&mut self, key: TaskKey, now: Micros) {
        let Some(running) = self.state.get(key) else { return };
        running.touched = false;
        let commands = running.core.take_commands();
        for command in commands {
            match command {
                Command::Transmit(slot) => self.transmit(key, slot, now),
                Command::Release(slot) => self.release(key, slot),
                Command::Connect(stream, peer) => self.connect(key, stream, *peer),
                Command::Send(stream, bytes) => self.send(key, stream, bytes),
                Command::Part(stream, bytes) => self.part(key, stream, bytes),
                Command::Close(stream) => self.close(key, stream),
                Command::Pace(slot, event) => self.state.pace(key, slot, event),
            }
        }
        self.reschedule(key, now);
    }

    /// Reports a task that has ended, or sets its timer.
    fn reschedule(&mut self, key: TaskKey, now: Micros) {
        let Some(running) = self.state.get(key) else { return };
        if running.touched {
            return;
        }
        if let Some(observation) = running.core.poll_observation(now) {
            return self.end(key, observation);
        }
        self.state.count(key);
        let Some(running) = self.state.get(key) else { return };
        let wakes = running.core.timeout();
        if wakes != running.wakes {
            running.wakes = wakes;
            self.state.timers.set(wakes, key.index());
        }
    }

    fn end(&mut self, key: TaskKey, observation: Box<Observation>) {
        self.keep_frames(key, &observation);
        let State { tasks, timers, memory, pacing, pool, streams, .. } = &mut self.state;
        let Some(running) = tasks.get(key) else { return };
        timers.clear(key.index());
        if let Some(memory) = memory {
            memory.change(running.counted as usize, 0);
        }
        let mismatched: u64 = observation.lookups().map(|lookup| u64::from(lookup.ignored_replies)).sum();
        if mismatched > 0 {
            self.shared.stats.mismatched_replies.fetch_add(mismatched, Ordering::Relaxed);
        }
        for (_, turn) in &running.turns {
            pacing.end(turn);
        }
        for (_, origin) in &running.origins {
            pool.release(*origin, &mut self.ring);
        }
        for (_, id) in &running.streams {
            streams.remove(*id);
            self.ring.close(*id, Close::Reset);
        }
        let came_with = running.came_with.take();
        tasks.remove(key);
        let Some((header, perspective)) = came_with else { return };
        // A report is in this perspective's name whomever the task was for. Usually that is the name it came with, which is
        // handed back without being counted anew.
        let own = &self.config.perspective;
        let perspective = if perspective == *own { perspective } else { own.clone() };
        self.outgoing.push(Report { header, perspective, rir: self.config.rir, observation });
        if self.outgoing.len() >= BATCH_ITEMS_MAX {
            self.flush();
        }
    }

    /// Remembers whom a task has talked with, before its connections are closed and forgotten. If it has failed, what it
    /// said is taken out of the ring, and written if that is wanted.
    fn keep_frames(&mut self, key: TaskKey, observation: &Observation) {
        let State { tasks, ended: Some(ended), origin, .. } = &mut self.state else { return };
        let Some(running) = tasks.get(key) else { return };
        let (Some((Header { attempt, .. }, _)), owner) = (&running.came_with, running.owner) else { return };
        let attempt = *attempt;
        if owner.is_none() && self.out.captures.is_none() {
            return;
        }
        let now = Instant::now();
        let flows = std::mem::take(&mut running.talks).into_spans(now);
        let file = if observation.has_failure() { capture(&self.ring, &flows) } else { None };
        if let (Some(out), Some(file)) = (&self.out.captures, &file)
            && !out.is_full()
        {
            out.send(Capture { attempt, ended: Timestamp::now(), file: file.clone() });
        }
        if let Some(owner) = owner {
            let now = Micros(now.duration_since(*origin).as_micros() as u64);
            ended.remember(now, (owner, attempt), Remains { flows, file });
        }
    }

    /// Gives the packets of attempts to those who ask for them.
    fn give_packets(&mut self) {
        let State { ended: Some(ended), origin, .. } = &mut self.state else { return };
        let ring = &self.ring;
        answer_some(&self.shared.wanted, |Wanted { owner, attempt, take }| {
            let now = Micros(origin.elapsed().as_micros() as u64);
            let Some(Remains { flows, file }) = ended.take(now, (owner, attempt)) else { return };
            if let Some(file) = file.or_else(|| capture(ring, &flows)) {
                take(attempt, file);
            }
        });
    }

    fn flush(&mut self) {
        // Before the reports go out that rest on them.
        self.shared.stats.queries.fetch_add(std::mem::take(&mut self.sent), Ordering::Relaxed);
        if !self.outgoing.is_empty() {
            // Nobody listens any more: the engine is stopping.
            let size = self.outgoing.len();
            let batch = std::mem::replace(&mut self.outgoing, Vec::with_capacity(size));
            let _ = self.out.reports.send(batch);
        }
    }

    fn transmit(&mut self, key: TaskKey, slot: u16, now: Micros) {
        let origin = match self.origin_of(key, slot) {
            Ok(origin) => origin,
            Err(Without::Turn) => return,
            Err(Without::Port) => return self.state.fail_query(key, slot, "no source port with a free id"),
        };
        if self.ring.datagram_slots_free() == 0 {
            self.ring.want_datagram_slot();
            return self.backlog.push_back((key, slot));
        }
        let socket = self.state.pool.socket(origin);
        let (tasks, entropy) = (&mut self.state.tasks, &mut self.state.entropy);
        self.packet.clear();
        let Some(running) = tasks.get(key) else { return };
        if !running.core.compose(now, slot, origin.id, entropy, &mut self.packet) {
            // It ended, or went to TCP, while it waited for a send slot.
            return self.release(key, slot);
        }
        match self.ring.send_datagram(socket, &self.packet) {
            Ok(()) => {
                self.sent += 1;
                self.queued += 1;
                if self.ring.keeps_frames() {
                    let flow = self.ring.datagram_flow(socket, &self.packet);
                    running.talk(Over::Query(slot), flow);
                }
            }
            Err(error @ (SendError::NoSlot | SendError::TooLong | SendError::Closed)) => {
                self.state.fail_query(key, slot, &error.to_string());
            }
        }
    }

    /// Port and id of a query: those it has, or fresh ones. One to a name server gets them when its turn comes.
    fn origin_of(&mut self, key: TaskKey, slot: u16) -> Result<Origin, Without> {
        let state = &mut self.state;
        let running = state.tasks.get(key).ok_or(Without::Port)?;
        if let Some((_, origin)) = running.origins.iter().find(|(s, _)| *s == slot) {
            return Ok(*origin);
        }
        let origin = match running.core.peer(slot) {
            None => state.pool.take(key, slot, &mut state.entropy),
            Some(peer) => {
                let source = self.config.source_for(peer.ip());
                // A family without a source would leave by whatever way the kernel likes, and not from here.
                if source.is_none() && self.config.has_source() {
                    return Err(Without::Port);
                }
                if !state.has_turn(key, slot, peer) {
                    return Err(Without::Turn);
                }
                state.pool.take_own((key, slot), (source, peer), &mut self.ring, &mut state.entropy)
            }
        };
        let origin = origin.ok_or(Without::Port)?;
        if let Some(running) = state.tasks.get(key) {
            running.origins.push((slot, origin));
        }
        Ok(origin)
    }

    fn release(&mut self, key: TaskKey, slot: u16) {
        let Some(running) = self.state.get(key) else { return };
        if let Some(at) = running.origins.iter().position(|(s, _)| *s == slot) {
            let (_, origin) = running.origins.swap_remove(at);
            if self.ring.keeps_frames() {
                running.talks.end(Over::Query(slot), Instant::now());
            }
            self.state.pool.release(origin, &mut self.ring);
        }
    }

    fn connect(&mut self, key: TaskKey, stream: Stream, peer: SocketAddr) {
        let dialled = if matches!(stream, Stream::Fetch(_)) { self.config.dialled(peer) } else { peer };
        let source = self.config.source_for(peer.ip());
        if source.is_none() && self.config.has_source() {
            // A family without a source would leave by whatever way the kernel likes, and not from here.
            let now = self.state.now();
            return self.state.with(key, |core, site| {
                core.handle_stream_failed(site, now, stream, NetworkError::Unreachable);
            });
        }
        if let Stream::Query(slot) = stream
            && let Some(peer) = self.state.get(key).and_then(|running| running.core.peer(slot))
            && !self.state.has_turn(key, slot, peer)
        {
            return;
        }
        match self.ring.connect(source, dialled) {
            Ok(id) => {
                self.shared.stats.connections.fetch_add(1, Ordering::Relaxed);
                self.state.streams.insert(id, Holder::Task(key, stream));
                if let Some(running) = self.state.get(key) {
                    if running.streams.is_empty() {
                        running.streams.reserve_exact(1);
                    }
                    running.streams.push((stream, id));
                    if self.ring.keeps_frames() {
                        running.talk(Over::Stream(stream), self.ring.stream_flow(id));
                    }
                }
            }
            Err(error) => {
                let now = self.state.now();
                let error = network_error(&error);
                self.state.with(key, |core, site| {
                    core.handle_stream_failed(site, now, stream, error);
                });
            }
        }
    }

    fn send(&mut self, key: TaskKey, stream: Stream, bytes: Vec<u8>) {
        if let Some(id) = self.state.stream_id(key, stream) {
            self.ring.send(id, bytes);
            self.ring.receive(id);
        }
    }

    /// Lets a connection go that has something left to deliver.
    fn part(&mut self, key: TaskKey, stream: Stream, bytes: Vec<u8>) {
        let Some(running) = self.state.get(key) else { return };
        let Some(at) = running.streams.iter().position(|(s, _)| *s == stream) else { return };
        let (_, id) = running.streams.swap_remove(at);
        if self.ring.keeps_frames() {
            running.talks.end(Over::Stream(stream), Instant::now());
        }
        let by = self.state.now().plus_ms(PARTING_MS);
        self.state.streams.insert(id, Holder::Nobody(0));
        self.state.parting.push_back((by, id));
        self.ring.send(id, bytes);
        self.ring.receive(id);
        if self.state.parting.len() > PARTING_MAX
            && let Some((_, oldest)) = self.state.parting.pop_front()
        {
            self.end_parting(oldest);
        }
    }

    /// Closes connections that were let go: those whose peer has closed, and those that had their time.
    fn close_parted(&mut self) {
        for id in std::mem::take(&mut self.state.parted) {
            self.end_parting(id);
        }
        let now = self.state.now();
        while let Some((_, id)) = self.state.parting.pop_front_if(|(by, _)| *by <= now) {
            self.end_parting(id);
        }
    }

    fn end_parting(&mut self, id: StreamId) {
        // One whose peer closed it first is still in line for its time.
        if let Some(Holder::Nobody(_)) = self.state.streams.get(id) {
            self.state.streams.remove(id);
            self.ring.close(id, Close::Reset);
        }
    }

    fn close(&mut self, key: TaskKey, stream: Stream) {
        let Some(running) = self.state.get(key) else { return };
        if let Some(at) = running.streams.iter().position(|(s, _)| *s == stream) {
            let (_, id) = running.streams.swap_remove(at);
            if self.ring.keeps_frames() {
                running.talks.end(Over::Stream(stream), Instant::now());
            }
            self.state.streams.remove(id);
            self.ring.close(id, Close::Reset);
        }
    }
}

impl Running {
    /// Something has been sent; it leaves with the next turn of the ring.
    fn talk(&mut self, over: Over, flow: Option<Flow>) {
        if let Some(flow) = flow {
            self.talks.begin(over, flow, Instant::now());
        }
    }
}

/// As many asks as one turn may answer; the rest waits for the next.
fn answer_some(wanted: &ArrayQueue<Wanted>, mut answer: impl FnMut(Wanted)) {
    for _ in 0..ASKS_A_TURN {
        let Some(one) = wanted.pop() else { return };
        answer(one);
    }
}

/// What is still kept of these flows, as a file; none if nothing is.
fn capture(ring: &Ring, flows: &[FlowSpan]) -> Option<Vec<u8>> {
    let frames = ring.kept(flows, FRAMES_OCTETS_MAX);
    (!frames.is_empty()).then(|| pcap::compose(&frames, Timestamp::now()))
}

impl State {
    /// What a task is reckoned to hold when it begins.
    fn octets_at_begin(&self, task: &Task) -> usize {
        let talks = if self.ended.is_some() { TALKS_OCTETS_MAX } else { 0 };
        size_of::<Running>() + talks + octets_at_begin(&task.plan, matches!(self.settings.dnssec, Dnssec::Local(_)))
    }

    /// Counts what a task holds now, if there is a budget.
    fn count(&mut self, key: TaskKey) {
        let Some(memory) = &mut self.memory else { return };
        let Some(running) = self.tasks.get(key) else { return };
        let session = if running.core.has_tls_session() { TLS_SESSION_OCTETS as u32 } else { 0 };
        let holds = running.own.saturating_add(running.given).saturating_add(session);
        memory.change(running.counted as usize, holds as usize);
        running.counted = holds;
    }

    fn now(&self) -> Micros {
        Micros(self.origin.elapsed().as_micros() as u64)
    }

    fn get(&mut self, key: TaskKey) -> Option<&mut Running> {
        self.tasks.get(key)
    }

    fn stream_id(&mut self, key: TaskKey, stream: Stream) -> Option<StreamId> {
        let running = self.get(key)?;
        running.streams.iter().find(|(s, _)| *s == stream).map(|(_, id)| *id)
    }

    fn begin(&mut self, owner: Option<Owner>, task: Task, now: Micros, utc: Timestamp) {
        let own = if self.memory.is_some() { self.octets_at_begin(&task) as u32 } else { 0 };
        let mut site = Site { settings: &self.settings, zones: &mut self.zones, entropy: &mut self.entropy };
        let core = Core::new(task.plan, &mut site, now, utc);
        let key = self.tasks.insert(Running {
            came_with: Some((task.header, task.perspective)),
            owner,
            core,
            wakes: Micros(u64::MAX),
            origins: SmallVec::new(),
            streams: ThinVec::new(),
            turns: ThinVec::new(),
            touched: true,
            talks: Talks::default(),
            own,
            given: 0,
            counted: 0,
        });
        self.count(key);
        self.touched.push(key);
    }

    /// Feeds a task and marks it as touched.
    fn with(&mut self, key: TaskKey, event: impl FnOnce(&mut Core, &mut Site<'_>)) {
        let Some(running) = self.tasks.get(key) else { return };
        let mut site = Site { settings: &self.settings, zones: &mut self.zones, entropy: &mut self.entropy };
        event(&mut running.core, &mut site);
        if !running.touched {
            running.touched = true;
            self.touched.push(key);
        }
    }

    /// A task is given what it may keep, in octets as it is kept.
    fn give(&mut self, key: TaskKey, octets: usize) {
        if self.memory.is_some()
            && let Some(running) = self.tasks.get(key)
        {
            running.given = running.given.saturating_add(octets as u32);
        }
    }

    /// Whether a query to a name server may ask now. If not, its turn will come.
    fn has_turn(&mut self, key: TaskKey, slot: u16, server: SocketAddr) -> bool {
        let now = self.now();
        let Some(running) = self.tasks.get(key) else { return false };
        if let Some((_, turn)) = running.turns.iter().find(|(s, _)| *s == slot) {
            return !turn.is_waited_for();
        }
        let turn = self.pacing.ask(now, server.ip(), (key, slot));
        let has_come = !turn.is_waited_for();
        if !has_come {
            running.core.wait_for_turn(slot);
        }
        running.turns.push((slot, turn));
        has_come
    }

    /// Lets those ask whose turn has come. Gives whether there were any.
    fn give_turns(&mut self) -> bool {
        let mut given = false;
        while let Some((key, slot)) = self.pacing.poll() {
            given = true;
            let now = self.now();
            // A task that has ended has given its turns back.
            if let Some(running) = self.tasks.get(key)
                && let Some((_, turn)) = running.turns.iter_mut().find(|(s, _)| *s == slot)
            {
                turn.begin_try(now);
            }
            self.with(key, |core, _| core.take_turn(slot, now));
        }
        given
    }

    /// Learns how it goes with a query to a name server.
    fn pace(&mut self, key: TaskKey, slot: u16, event: TurnEvent) {
        let now = self.now();
        let Some(running) = self.tasks.get(key) else { return };
        // One that ended before it could ask has none.
        let Some(at) = running.turns.iter().position(|(s, _)| *s == slot) else { return };
        match event {
            TurnEvent::Answered(kind) => self.pacing.answered(now, &running.turns[at].1, kind),
            TurnEvent::TimedOut(kind) => self.pacing.timed_out(now, &running.turns[at].1, kind),
            TurnEvent::Ended => return self.pacing.end(&running.turns.swap_remove(at).1),
        }
        running.turns[at].1.begin_try(now);
    }

    fn fail_query(&mut self, key: TaskKey, slot: u16, reason: &str) {
        let now = self.now();
        self.with(key, |core, site| core.handle_local_failure(site, now, slot, reason));
    }

    fn handle(&mut self, now: Micros, event: Event<'_>) {
        match event {
            Event::Datagram { id, bytes } => self.datagram(now, id, bytes),
            Event::DatagramFailed { id, error } => {
                let error = network_error(&error);
                for (key, slot) in self.pool.waiting(id) {
                    self.with(key, |core, site| {
                        core.handle_datagram_failed(site, now, slot, error);
                    });
                }
            }
            Event::Connected { id } => {
                if let Some(Holder::Task(key, stream)) = self.streams.get(id) {
                    self.with(key, |core, site| core.handle_connected(site, now, stream));
                }
            }
            Event::Received { id, bytes } => {
                match self.streams.get(id) {
                    Some(Holder::Task(key, stream)) => {
                        let holds = match stream {
                            Stream::Query(_) => octets_of_answers(bytes.len()),
                            Stream::Fetch(_) => bytes.len(),
                        };
                        self.give(key, holds);
                        self.with(key, |core, site| core.handle_stream(site, now, stream, bytes));
                    }
                    // Nobody reads it, so who goes on talking is cut off.
                    Some(Holder::Nobody(said)) if bytes.is_empty() || said >= PARTING_BYTES_MAX => {
                        return self.parted.push(id);
                    }
                    Some(Holder::Nobody(said)) => self.streams.insert(id, Holder::Nobody(said + bytes.len())),
                    None => return,
                }
                if !bytes.is_empty() {
                    self.to_receive.push(id);
                }
            }
            Event::Failed { id, error, .. } => match self.streams.get(id) {
                Some(Holder::Task(key, stream)) => {
                    let error = network_error(&error);
                    self.with(key, |core, site| {
                        core.handle_stream_failed(site, now, stream, error);
                    });
                }
                Some(Holder::Nobody(_)) => self.parted.push(id),
                None => {}
            },
            Event::Sent { .. } | Event::Woken => {}
        }
    }

    fn datagram(&mut self, now: Micros, socket: DatagramId, packet: &[u8]) {
        let owner = packet.first_chunk::<2>().and_then(|id| self.pool.find(socket, u16::from_be_bytes(*id)));
        match owner {
            Some((key, slot)) => {
                self.give(key, octets_of_answer(packet));
                self.with(key, |core, site| core.handle_datagram(site, now, slot, packet));
            }
            None => self.stray += 1,
        }
    }
}

/// Why a query has neither port nor id.
enum Without {
    /// It waits for its turn.
    Turn,
    /// There is none.
    Port,
}

/// Whose a connection is.
#[derive(Clone, Copy)]
enum Holder {
    Task(TaskKey, Stream),
    /// It was let go, and has said so many octets since.
    Nobody(usize),
}

/// Whose each open connection is, by its index in the ring.
#[derive(Default)]
struct Streams(Vec<Option<(StreamId, Holder)>>);

impl Streams {
    fn insert(&mut self, id: StreamId, holder: Holder) {
        if self.0.len() <= id.index() {
            self.0.resize(id.index() + 1, None);
        }
        self.0[id.index()] = Some((id, holder));
    }

    fn get(&self, id: StreamId) -> Option<Holder> {
        self.0.get(id.index())?.filter(|(own, _)| *own == id).map(|(_, holder)| holder)
    }

    fn remove(&mut self, id: StreamId) {
        if let Some(place) = self.0.get_mut(id.index()).filter(|place| place.is_some_and(|(own, ..)| own == id)) {
            *place = None;
        }
    }
}

/// What the kernel said, in the words of an observation.
fn network_error(error: &io::Error) -> NetworkError {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::CONNREFUSED) => NetworkError::Refused,
        Some(Errno::TIMEDOUT) => NetworkError::Timeout,
        Some(Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED) => NetworkError::Reset,
        Some(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN) => NetworkError::Unreachable,
        Some(
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::ACCESS
            | Errno::PERM,
        ) => NetworkError::Local,
        _ => NetworkError::Other,
    }
}

/// The thread's CPU time, published now and then.
#[derive(Default)]
struct CpuClock {
    published_us: u64,
    turns: u32,
}

impl CpuClock {
    fn publish(&mut self, total: &std::sync::atomic::AtomicU64) {
        self.turns += 1;
        if self.turns >= 256 {
            self.publish_now(total);
        }
    }

    fn publish_now(&mut self, total: &std::sync::atomic::AtomicU64) {
        self.turns = 0;
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let us = time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000;
        total.fetch_add(us - self.published_us, Ordering::Relaxed);
        self.published_us = us;
    }
}

#[cfg(test)]
mod tests {
    use parallax_protocol::AttemptId;

    use super::*;

    /// The allocator has places of 640 octets, and next of 768.
    #[test]
    fn a_task_fits_its_size_class() {
        assert!(size_of::<Option<Running>>() <= 640, "{}", size_of::<Option<Running>>());
    }

    #[test]
    fn a_clock_is_read_again_after_a_few_uses() {
        let (mut clock, mut reads) = (Coarse::default(), 0);
        let times: Vec<u32> = (0..100)
            .map(|_| {
                clock.read(|| {
                    reads += 1;
                    reads
                })
            })
            .collect();
        let expected: Vec<u32> = (0..100).map(|n| n / CLOCK_USES + 1).collect();
        assert_eq!(times, expected);
    }

    #[test]
    fn a_turn_answers_only_so_many_asks() {
        let wanted = ArrayQueue::new(3 * ASKS_A_TURN);
        for attempt in 0..2 * ASKS_A_TURN as u128 + 1 {
            let ask = Wanted { owner: Owner::HOLDER, attempt: AttemptId(attempt), take: Arc::new(|_, _| {}) };
            assert!(wanted.push(ask).is_ok());
        }
        let turn = || {
            let mut answered = 0;
            answer_some(&wanted, |_| answered += 1);
            answered
        };
        assert_eq!([turn(), turn(), turn(), turn()], [ASKS_A_TURN, ASKS_A_TURN, 1, 0]);
    }
}
