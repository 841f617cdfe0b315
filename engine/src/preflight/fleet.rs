//! Every configured perspective, asked about names, and their reports brought together by name.
//!
//! Perspectives are reached as an engine reaches them, and reports are matched as its collectors do it: attempt, nonce,
//! setup, name and region must be those that were asked. Nothing is judged here, and nothing is written to a journal.
//!
//! Invariant: a name ends once, with a report or none of each perspective, and by its time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, unbounded};
use parallax_node::{Full, NodeConfig};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Header, Report, Task};
use parallax_validation::{
    base::perspective::PerspectiveId,
    observation::{Observation, Survey},
    plan::{Plan, survey::SurveyPlan},
    request::CheckRequest,
};
use rand::{RngExt as _, rngs::StdRng};

use super::{PreflightError, fits::fits};
use crate::{
    config::Config,
    corroborate::{Opener, Way},
    log::Log,
};

/// Names that are asked about at a time. A survey has up to 16 sockets of its own, and a worker up to 512.
pub const NAMES_IN_FLIGHT_MAX: usize = 24;
/// How long the fleet waits for reports before it looks at the clock.
const TICK: Duration = Duration::from_millis(20);

/// One perspective.
struct Member {
    perspective: PerspectiveId,
    settings: NodeConfig,
    way: Box<dyn Way>,
    /// Tasks that are not handed over yet.
    pending: VecDeque<Task>,
}

/// A name that is being asked about.
struct Asked {
    request: CheckRequest,
    /// What is surveyed.
    survey: Option<Box<SurveyPlan>>,
    until: Instant,
    nonces: Vec<u64>,
    seen: Vec<Option<Box<Observation>>>,
    left: usize,
}

/// What was seen of a name: an observation, or none, of each perspective in the order of the settings.
pub(super) struct Seen {
    /// What was asked.
    pub(super) request: CheckRequest,
    /// By perspective.
    pub(super) observations: Vec<Option<Box<Observation>>>,
}

/// All perspectives of a configuration.
pub(super) struct Fleet<'a> {
    members: Vec<Member>,
    reports: Receiver<Vec<Report>>,
    asked: HashMap<AttemptId, Asked>,
    config: &'a Config,
    challenge_label: &'a str,
    setup: Arc<str>,
    random: StdRng,
    /// Reports that answered nothing that was asked.
    rejected: u64,
    /// Carries the links; it goes last.
    _opener: Opener<'a>,
}

impl<'a> Fleet<'a> {
    /// Opens the ways: nodes in this process start, and links to others begin to be made.
    ///
    /// # Errors
    /// A node that does not start, or a certificate that cannot be read.
    pub(super) fn open(
        config: &'a Config,
        challenge_label: &'a str,
        log: Arc<dyn Log>,
    ) -> Result<Self, PreflightError> {
        let mut opener = Opener::new(config, None, log)?;
        let (reports_in, reports) = unbounded();
        let mut members = Vec::new();
        for settings in &config.nodes {
            let way = opener.open(settings, &reports_in)?;
            let (perspective, settings) = (settings.perspective.clone(), settings.clone());
            members.push(Member { perspective, settings, way, pending: VecDeque::new() });
        }
        Ok(Self {
            members,
            reports,
            asked: HashMap::new(),
            config,
            challenge_label,
            setup: config.rules.digest().into(),
            random: rand::make_rng(),
            rejected: 0,
            _opener: opener,
        })
    }

    /// Whether another name may be begun.
    pub(super) fn has_room(&self) -> bool {
        self.asked.len() < NAMES_IN_FLIGHT_MAX
    }

    /// Whether a name is being asked about.
    pub(super) fn is_busy(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Reports that answered nothing that was asked.
    pub(super) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Begins to ask about a name.
    pub(super) fn begin(&mut self, request: CheckRequest) {
        let setup = self.config.rules.setup();
        let attempt = AttemptId(self.random.random());
        let patience = setup.limits.task_deadline_ms + self.config.engine.reply_grace_ms;
        let mut nonces = Vec::with_capacity(self.members.len());
        let mut survey = None;
        for (index, member) in self.members.iter_mut().enumerate() {
            let nonce: u64 = self.random.random();
            nonces.push(nonce);
            // One asks for what explains, as an attempt's primary does.
            let sibling = (index == 0).then(|| format!("parallax-{:016x}", self.random.random::<u64>()));
            let label = (self.challenge_label, sibling.as_deref());
            let Some(mut plan) = Plan::of_survey(&request, label, setup.limits) else { continue };
            survey.clone_from(&plan.survey);
            // Where a failed CAA lookup may be excused, each perspective must show that its own way out works.
            plan.diagnose = setup.caa.lookup_failure_permits;
            let header = Header { attempt, nonce, setup: Arc::clone(&self.setup) };
            member.pending.push_back(Task { header, perspective: member.perspective.clone(), plan: plan.into() });
        }
        let asked = Asked {
            survey,
            request,
            until: Instant::now() + Duration::from_millis(patience.into()),
            seen: vec![None; nonces.len()],
            left: nonces.len(),
            nonces,
        };
        self.asked.insert(attempt, asked);
    }

    /// Hands tasks over, waits a little for reports, and gives the names that have ended.
    ///
    /// # Errors
    /// A node of this process has ended.
    pub(super) fn turn(&mut self) -> Result<Vec<Seen>, PreflightError> {
        for member in &mut self.members {
            member.flush();
            if member.way.has_ended() {
                return Err(PreflightError::NodeEnded(member.perspective.clone()));
            }
        }
        let mut ended = Vec::new();
        if let Ok(batch) = self.reports.recv_timeout(TICK) {
            let more: Vec<Vec<Report>> = self.reports.try_iter().collect();
            for report in std::iter::once(batch).chain(more).flatten() {
                self.take(report, &mut ended);
            }
        }
        self.give_up(&mut ended);
        Ok(ended)
    }

    fn take(&mut self, report: Report, ended: &mut Vec<Seen>) {
        let Report { header, perspective, rir, mut observation } = report;
        let index = self.members.iter().position(|member| member.perspective == perspective);
        let place = index.and_then(|index| {
            let asked = self.asked.get(&header.attempt)?;
            let fits = asked.nonces.get(index) == Some(&header.nonce)
                && asked.seen.get(index).is_some_and(Option::is_none)
                && header.setup == self.setup
                && self.members.get(index).is_some_and(|member| member.settings.rir == rir);
            fits.then_some(index)
        });
        let (Some(index), Some(asked)) = (place, self.asked.get_mut(&header.attempt)) else {
            // Late, or not an answer at all: it counts for nothing either way.
            self.rejected += 1;
            return;
        };
        let fits = |survey: &Survey| asked.survey.as_ref().is_some_and(|plan| fits(survey, plan));
        if observation.survey.as_deref().is_some_and(|survey| !fits(survey)) {
            observation.survey = None;
        }
        asked.seen[index] = Some(observation);
        asked.left -= 1;
        if asked.left == 0 {
            ended.extend(self.asked.remove(&header.attempt).map(Asked::seen));
        }
    }

    /// Ends names that had their time, and drops what was not handed over of them.
    fn give_up(&mut self, ended: &mut Vec<Seen>) {
        let now = Instant::now();
        let over: Vec<AttemptId> =
            self.asked.iter().filter(|(_, asked)| asked.until <= now).map(|(attempt, _)| *attempt).collect();
        for attempt in over {
            ended.extend(self.asked.remove(&attempt).map(Asked::seen));
            for member in &mut self.members {
                member.pending.retain(|task| task.header.attempt != attempt);
            }
        }
    }
}

impl Asked {
    fn seen(self) -> Seen {
        Seen { request: self.request, observations: self.seen }
    }
}

impl Member {
    /// Hands over what waits until the way is full.
    fn flush(&mut self) {
        loop {
            let count = self.pending.len().min(BATCH_ITEMS_MAX).min(self.way.room());
            if count == 0 {
                return;
            }
            let batch = self.pending.drain(..count).collect();
            if let Err(Full(back)) = self.way.submit(batch) {
                for task in back.into_iter().rev() {
                    self.pending.push_front(task);
                }
                return;
            }
        }
    }
}
