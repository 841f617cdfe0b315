//! Begins attempts, asks perspectives, and gives silent ones up.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, Sender, never};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Header, Task};
use parallax_validation::{
    plan::Plan,
    record::{Restart, Rules},
    verdict::{PerspectiveState, draw::CohortSeed},
};
use rand::{RngExt as _, rngs::StdRng};

use super::{
    EngineStats, Failure,
    attempt::{Attempt, Confirmed, Expected, Settled, Submission, ToDecider},
    clock::{Clock, Watch},
    link::Link,
    pass_rate::PassRates,
};
use crate::{
    admission::{self, Admission, Keys, Limits, Place, TargetGate, Ticket},
    config::{EngineSection, FanOut},
    log::{Event, Log},
    tally::{Arrival, Evidence, Readiness, Tally},
};

/// How often the dispatcher looks at deadlines.
const TICK: Duration = Duration::from_millis(20);
/// How soon it offers tasks again that a full way refused.
const FULL_RETRY: Duration = Duration::from_millis(1);
/// How long packets that were asked for are waited for at the end, when every verdict is released.
const PACKETS_WAIT: Duration = Duration::from_millis(500);

/// What came of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There was something to do.
    Worked,
    /// There was nothing.
    Idle,
    /// Nothing will come any more, or the engine failed.
    Ended,
}

/// What the dispatcher hears from others, and tells them.
pub(super) struct Channels {
    pub(super) requests: Receiver<Submission>,
    pub(super) fan_out: Receiver<Confirmed>,
    pub(super) settled: Receiver<Vec<Settled>>,
    pub(super) decider: Sender<ToDecider>,
}

/// What all threads of an engine share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) rules: Arc<Rules>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) log: Arc<dyn Log>,
    pub(super) stats: Arc<EngineStats>,
    pub(super) failure: Arc<OnceLock<Failure>>,
    /// Set to begin nothing more.
    pub(super) stop: Arc<AtomicBool>,
}

/// What an attempt in flight keeps others from.
struct Held {
    ticket: Ticket,
    place: Option<Place>,
}

pub(super) struct Dispatcher {
    shared: Shared,
    settings: EngineSection,
    limits: Limits,
    /// The perspectives of the setup in its order, then those on trial.
    links: Vec<Link>,
    channels: Channels,
    /// The digest that every task carries.
    setup: Arc<str>,
    /// Whether more requests may come.
    more: bool,
    /// Requests that wait to be begun.
    queue: Admission<Submission>,
    /// Those that the queue had no room for; while there are any, no others are taken.
    unplaced: VecDeque<(Submission, Option<Instant>)>,
    /// Places that attempts in flight hold.
    held: HashMap<AttemptId, Held>,
    /// Attempts whose remotes are to ask an address that many ask already.
    gate: TargetGate<Arc<Attempt>>,
    /// Until when they are held up, oldest first.
    gated: VecDeque<(Instant, admission::Arrival)>,
    pass_rates: PassRates,
    patience: Duration,
    /// Asked places of attempts, oldest first: every one has the same time.
    deadlines: VecDeque<(Instant, Arc<Attempt>, Range<usize>)>,
    /// Attempts whose perspectives on trial were asked, oldest first.
    trials: VecDeque<(Instant, Arc<Attempt>)>,
    /// Until when packets may come that were asked for.
    packets_until: Option<Instant>,
    random: StdRng,
    watch: Watch,
}

impl Dispatcher {
    pub(super) fn new(
        shared: Shared,
        (settings, limits): (EngineSection, Limits),
        links: Vec<Link>,
        channels: Channels,
        random: StdRng,
    ) -> Self {
        let task_ms = u64::from(shared.rules.setup().limits.task_deadline_ms);
        Self {
            setup: shared.rules.digest().into(),
            patience: Duration::from_millis(task_ms + u64::from(settings.reply_grace_ms)),
            watch: Watch::start(shared.clock.as_ref()),
            shared,
            settings,
            links,
            channels,
            more: true,
            queue: Admission::new(limits.clone()),
            unplaced: VecDeque::new(),
            held: HashMap::new(),
            gate: TargetGate::new(limits.in_flight_per_target_max),
            gated: VecDeque::new(),
            pass_rates: PassRates::default(),
            limits,
            deadlines: VecDeque::new(),
            trials: VecDeque::new(),
            packets_until: None,
            random,
        }
    }

    pub(super) fn run(mut self) {
        while self.turn(true) != Turn::Ended {}
    }

    /// Does what there is to do; waits a little for something if there is nothing and `wait` is set.
    pub(super) fn turn(&mut self, wait: bool) -> Turn {
        if self.links[0].way.has_ended() {
            // Without its primary nothing can be confirmed.
            let _ = self.shared.failure.set(Failure::Primary);
        }
        let failed = match self.shared.failure.get() {
            None => false,
            // Nothing can be recorded, or nothing be confirmed, any more.
            Some(Failure::Journal(_) | Failure::Primary) => return Turn::Ended,
            // What is in flight is still finished and recorded.
            Some(Failure::NoQuorum | Failure::Clock { .. }) => true,
        };
        if failed || self.shared.stop.load(Ordering::Relaxed) {
            self.more = false;
            self.unplaced.clear();
            self.queue.drain();
        }
        let waits = self.queue.waiting() + self.unplaced.len();
        self.shared.stats.waiting.store(waits as u64, Ordering::Relaxed);
        if !self.more && self.held.is_empty() && waits == 0 && self.stragglers_done() && !self.awaits_packets() {
            return Turn::Ended;
        }
        let takes = self.more && self.unplaced.is_empty() && self.queue.waiting() < self.limits.waiting_max;
        let requests = if takes { self.channels.requests.clone() } else { never() };
        let pause = if wait { self.pause() } else { Duration::ZERO };
        let mut turn = Turn::Worked;
        crossbeam::channel::select! {
            recv(requests) -> request => match request {
                Ok(request) => self.take_many(request),
                Err(_) => self.more = false,
            },
            recv(self.channels.fan_out) -> confirmed => if let Ok(confirmed) = confirmed {
                self.take_confirmed(confirmed);
            },
            recv(self.channels.settled) -> settled => match settled {
                Ok(settled) => self.settle(settled),
                // The decider ended: the journal failed.
                Err(_) => return Turn::Ended,
            },
            default(pause) => turn = Turn::Idle,
        }
        let begun = self.begin_many();
        let passed = self.pass_gate();
        for link in &mut self.links {
            link.flush();
        }
        if self.give_up_silent() || begun || passed {
            turn = Turn::Worked;
        }
        turn
    }

    /// A link that holds as many tasks as there may be attempts first drops the stale ones.
    fn links_have_room(&mut self) -> bool {
        let most = self.settings.attempts_in_flight;
        let counted = self.shared.rules.setup().perspectives.len();
        self.links[..counted].iter_mut().all(|link| {
            if link.pending.len() >= most {
                link.drop_stale();
            }
            link.pending.len() < most
        })
    }

    fn pause(&self) -> Duration {
        if self.links.iter().any(|link| !link.pending.is_empty()) {
            return FULL_RETRY;
        }
        let now = self.shared.clock.instant();
        self.queue.wake_at().map_or(TICK, |at| at.saturating_duration_since(now).clamp(FULL_RETRY, TICK))
    }

    /// Every perspective that was asked has answered or had its time.
    fn stragglers_done(&mut self) -> bool {
        self.deadlines.retain(|(_, attempt, asked)| asked.clone().any(|place| !attempt.tally.is_claimed(place)));
        self.deadlines.is_empty() && self.trials.is_empty()
    }

    fn awaits_packets(&self) -> bool {
        self.packets_until.is_some_and(|until| self.shared.clock.instant() < until)
    }

    /// Asks for the packets of perspectives, by their places in the attempt's cohort.
    fn ask_for_packets(&mut self, attempt: &Attempt, places: u64, now: Instant) {
        for (place, member) in attempt.members.iter().enumerate().take(u64::BITS as usize) {
            let link = self.links.get_mut(usize::from(*member)).filter(|_| places & 1 << place != 0);
            if link.is_some_and(|link| link.way.ask_for_packets(attempt.id)) {
                self.packets_until = Some(now + PACKETS_WAIT);
            }
        }
    }

    fn settle(&mut self, settled: Vec<Settled>) {
        let now = self.shared.clock.instant();
        for Settled { attempt, ending, restarts, packets_of } in settled {
            self.ask_for_packets(&attempt, packets_of, now);
            if self.settings.fan_out == FanOut::Adaptive {
                self.pass_rates.note(attempt.request.turn().as_deref(), attempt.tally.primary_confirmed());
            }
            if let Some(Held { ticket, place }) = self.held.remove(&attempt.id) {
                self.queue.ended(ticket, ending, now, self.random.random());
                let going = place.map(|place| self.gate.leave(place)).unwrap_or_default();
                self.go_on(going);
            }
            if restarts {
                let number = attempt.restart.map_or(0, |restart| restart.number) + 1;
                let submission = Submission {
                    request: attempt.request.clone(),
                    restart: Some(Restart { predecessor: attempt.id, number }),
                    tag: attempt.tag,
                    submitted: attempt.submitted,
                };
                let cool_down = self.cool_down(number);
                self.place(submission, Some(now + cool_down));
            }
        }
        // There may be room now.
        for _ in 0..self.unplaced.len() {
            let Some((submission, not_before)) = self.unplaced.pop_front() else { break };
            self.place(submission, not_before);
        }
    }

    /// How long a restart waits: twice as long each time, give or take a quarter (req H13).
    fn cool_down(&mut self, number: u8) -> Duration {
        let base = u64::from(self.settings.restart_cool_down_ms) << number.saturating_sub(1);
        let jitter = self.random.random_range(0..=base / 2);
        Duration::from_millis(base - base / 4 + jitter)
    }

    fn take_many(&mut self, first: Submission) {
        self.place(first, None);
        for _ in 1..BATCH_ITEMS_MAX {
            if !self.unplaced.is_empty() || self.queue.waiting() >= self.limits.waiting_max {
                break;
            }
            let Ok(submission) = self.channels.requests.try_recv() else { break };
            self.place(submission, None);
        }
    }

    /// Puts a request in line, or aside until there is room.
    fn place(&mut self, submission: Submission, not_before: Option<Instant>) {
        let name = match submission.request.identifier.domain() {
            Some(domain) => domain.as_str().into(),
            None => submission.request.identifier.to_string().into(),
        };
        let keys = Keys { account: submission.request.turn().map(Into::into), name };
        if let Err(refused) = self.queue.push(submission, keys, not_before) {
            self.unplaced.push_back((refused.item, not_before));
        }
    }

    /// Begins what may be begun.
    fn begin_many(&mut self) -> bool {
        let mut begun = false;
        for _ in 0..BATCH_ITEMS_MAX {
            if self.held.len() >= self.settings.attempts_in_flight || !self.links_have_room() {
                break;
            }
            let Some((submission, ticket)) = self.queue.next(self.shared.clock.instant()) else { break };
            begun = true;
            if !self.begin(submission, ticket) {
                break;
            }
        }
        if begun && let Some((submission, not_before)) = self.unplaced.pop_front() {
            self.place(submission, not_before);
        }
        begun
    }

    /// False if the engine stops.
    fn begin(&mut self, submission: Submission, ticket: Ticket) -> bool {
        if let Some(moved) = self.watch.jump_ms(self.shared.clock.as_ref()) {
            // Which row is in force can no longer be told (req A20).
            self.shared.log.tell(&Event::ClockMoved { moved_ms: moved });
            let _ = self.shared.failure.set(Failure::Clock { moved_ms: moved });
            return false;
        }
        let rules = Arc::clone(&self.shared.rules);
        let started = self.shared.clock.now();
        let seed = rules.setup().conduct.draw.map(|_| CohortSeed(self.random.random()));
        // Checked at start and for 24 hours on: only a clock that is wrong gets here without a quorum.
        let members = rules.members(started, seed);
        let quorum =
            members.as_deref().and_then(|members| rules.quorum(&submission.request, members, started, started));
        let (Some(members), Some((quorum, _))) = (members, quorum) else {
            // Set once unless the journal failed first; either stops the engine.
            let _ = self.shared.failure.set(Failure::NoQuorum);
            return false;
        };
        let primary_first = match self.settings.fan_out {
            FanOut::PrimaryFirst => true,
            FanOut::Parallel => false,
            FanOut::Adaptive => !self.pass_rates.mostly_passes(submission.request.turn().as_deref()),
        };
        let readiness = Readiness {
            quorum,
            await_all_on_refusal: self.settings.await_all_on_refusal,
            await_all_on_permission: self.settings.await_all_on_permission,
            primary_first,
        };
        let attempt = Arc::new(Attempt {
            id: AttemptId(self.random.random()),
            request: submission.request,
            started,
            tag: submission.tag,
            submitted: submission.submitted,
            members,
            seed,
            restart: submission.restart,
            tally: Tally::new(readiness),
            primary_first,
            asked_remotes: OnceLock::new(),
            tried: AtomicU16::new(0),
            permitted: AtomicBool::new(false),
        });
        self.held.insert(attempt.id, Held { ticket, place: None });
        if primary_first {
            let plan = self.plan_of_primary(&attempt);
            self.ask(&attempt, 0..1, &plan);
        } else {
            self.ask_from(&attempt, 0);
        }
        true
    }

    /// Asks from a place on, so the remotes too, and those on trial with them.
    fn ask_from(&mut self, attempt: &Arc<Attempt>, place: usize) {
        // Set once, here, by the only dispatcher.
        let _ = attempt.asked_remotes.set(());
        if place == 0 {
            let plan = self.plan_of_primary(attempt);
            self.ask(attempt, 0..1, &plan);
        }
        // One for all. It is let go here: an attempt is remembered long after its remotes were asked.
        let plan = self.plan_of_remotes(attempt);
        self.ask(attempt, 1..attempt.members.len(), &plan);
        self.try_out(attempt, &plan);
    }

    /// Asks those on trial. One that is far behind is left out, so that it holds up nobody.
    fn try_out(&mut self, attempt: &Arc<Attempt>, plan: &Arc<Plan>) {
        let counted = self.shared.rules.setup().perspectives.len();
        if self.links.len() == counted {
            return;
        }
        for index in counted..self.links.len() {
            if self.links[index].pending.len() >= self.settings.attempts_in_flight {
                self.links[index].drop_stale();
            }
            if self.links[index].pending.len() < self.settings.attempts_in_flight {
                self.send(attempt, index, plan);
            } else {
                self.give_up_trial(attempt, index, PerspectiveState::Cancelled);
            }
        }
        self.trials.push_back((self.shared.clock.instant() + self.patience, Arc::clone(attempt)));
    }

    fn give_up_trial(&self, attempt: &Arc<Attempt>, index: usize, state: PerspectiveState) {
        if attempt.tries_first(index - self.shared.rules.setup().perspectives.len()) {
            let _ = self.channels.decider.send(ToDecider::Trial(Arc::clone(attempt), index, Evidence::None(state)));
        }
    }

    /// The primary has confirmed: the remotes are asked, if not too many ask the same addresses already (req F8).
    fn take_confirmed(&mut self, first: Confirmed) {
        let more = self.channels.fan_out.clone();
        for Confirmed { attempt, targets } in std::iter::once(first).chain(more.try_iter().take(BATCH_ITEMS_MAX - 1)) {
            match self.gate.enter(attempt, targets) {
                Ok(going) => self.go_on(vec![going]),
                Err(arrival) => self.gated.push_back((self.shared.clock.instant() + self.patience, arrival)),
            }
        }
    }

    fn go_on(&mut self, going: Vec<(Arc<Attempt>, Place)>) {
        for (attempt, place) in going {
            if let Some(held) = self.held.get_mut(&attempt.id) {
                held.place = Some(place);
                self.ask_from(&attempt, 1);
            }
        }
    }

    /// Nobody is held up longer than a perspective has time: the limit spares a third party, and fails nobody.
    fn pass_gate(&mut self) -> bool {
        let now = self.shared.clock.instant();
        let mut any = false;
        while let Some((_, arrival)) = self.gated.pop_front_if(|(until, _)| *until <= now) {
            if let Some((attempt, going)) = self.gate.withdraw(arrival) {
                self.ask_from(&attempt, 1);
                self.go_on(going);
                any = true;
            }
        }
        any
    }

    fn ask(&mut self, attempt: &Arc<Attempt>, places: Range<usize>, plan: &Arc<Plan>) {
        for place in places.clone() {
            self.send(attempt, usize::from(attempt.members[place]), plan);
        }
        self.deadlines.push_back((self.shared.clock.instant() + self.patience, Arc::clone(attempt), places));
    }

    fn plan_of_primary(&mut self, attempt: &Attempt) -> Arc<Plan> {
        let sibling = format!("parallax-{:016x}", self.random.random::<u64>());
        let plan = Plan::new(&attempt.request, self.shared.rules.setup().limits, Some(&sibling));
        Arc::new(Plan { keep_proof: true, diagnose: true, ..plan })
    }

    fn plan_of_remotes(&self, attempt: &Attempt) -> Arc<Plan> {
        let setup = self.shared.rules.setup();
        // Where a failed CAA lookup may be excused, each perspective must show that its own way out works.
        let diagnose = setup.caa.lookup_failure_permits;
        Arc::new(Plan { diagnose, ..Plan::new(&attempt.request, setup.limits, None) })
    }

    /// Puts a task in line for the perspective with a number.
    fn send(&mut self, attempt: &Arc<Attempt>, index: usize, plan: &Arc<Plan>) {
        let nonce: u64 = self.random.random();
        let link = &mut self.links[index];
        let expected = Expected { nonce, asked: self.shared.clock.instant(), attempt: Arc::clone(attempt) };
        if link.expect.send((attempt.id, expected)).is_err() {
            // Its node and collector are gone. Without a primary nothing can be confirmed; a remote has its time and is
            // then given up, and so is one on trial.
            if attempt.place_of(index) == Some(0) {
                let _ = self.shared.failure.set(Failure::Primary);
            }
            return;
        }
        let header = Header { attempt: attempt.id, nonce, setup: Arc::clone(&self.setup) };
        let task = Task { header, perspective: link.perspective.clone(), plan: Arc::clone(plan) };
        link.pending.push_back((Arc::clone(attempt), index, task));
    }

    /// Gives up perspectives that had their time: one terminal state for each (req E7).
    fn give_up_silent(&mut self) -> bool {
        let now = self.shared.clock.instant();
        let answered = |(_, attempt, asked): &(Instant, Arc<Attempt>, Range<usize>)| {
            asked.clone().all(|place| attempt.tally.is_claimed(place))
        };
        while self.deadlines.front().is_some_and(answered) {
            self.deadlines.pop_front();
        }
        let mut any = false;
        let counted = self.shared.rules.setup().perspectives.len();
        let trials = (self.links.len() - counted) as u32;
        let done = |(at, attempt): &mut (Instant, Arc<Attempt>)| {
            *at <= now || attempt.tried.load(Ordering::Relaxed).count_ones() == trials
        };
        while let Some((_, attempt)) = self.trials.pop_front_if(done) {
            for index in counted..self.links.len() {
                self.give_up_trial(&attempt, index, PerspectiveState::TimedOut);
            }
        }
        while self.deadlines.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, attempt, asked)) = self.deadlines.pop_front() else { break };
            any = true;
            for place in asked.filter(|&place| !attempt.tally.is_claimed(place)) {
                let silence = Evidence::None(PerspectiveState::TimedOut);
                if let Arrival::Counted { ready } = attempt.tally.arrive(place, silence, false) {
                    EngineStats::add(&self.shared.stats.timed_out, 1);
                    if ready && self.channels.decider.send(ToDecider::Ready(Arc::clone(&attempt))).is_err() {
                        return any;
                    }
                }
            }
        }
        any
    }
}
