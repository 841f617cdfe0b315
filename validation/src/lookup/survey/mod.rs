//! Every name server of a zone, asked itself at all its addresses, so that somebody can compare what they say.
//!
//! The resolver is asked in which zone the name lies, for the zone's servers and for their addresses; the servers of the
//! zone above are asked for the delegation and its DS ([`names`]). Then every address gets the questions of [`target`], side
//! by side; what is kept of the answers is bounded in [`kept`].
//!
//! An attacker chooses these addresses: they pass the address filter, servers, addresses and queries are bounded, and so
//! is what is kept. No server of a public suffix is surveyed; it is only asked what it says of a zone below. Left out:
//! what an answer means, which is `crate::preflight`'s, and what the perspective's own resolver says of CAA and TXT,
//! which are lookups of the task's plan.
//!
//! Invariant: it ends by its deadline, with what came until then.

mod kept;
mod names;
mod target;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;

use self::{
    kept::Kept,
    target::{Target, What},
};
use super::nameserver::{PORT, Reading, addresses_in, allowed};
use crate::{
    base::{
        Micros,
        address::AddressFilter,
        limits::{
            SURVEY_QUERIES_IN_FLIGHT_MAX, SURVEY_QUERIES_MAX, SURVEYED_ADDRESSES_MAX, SURVEYED_ADDRESSES_PER_SERVER_MAX,
        },
        name::is_icann_suffix,
    },
    observation::{DnsLookup, DnsOutcome, ParentView, RecordType, ServerOutcome, Survey},
    plan::survey::SurveyPlan,
};

/// What a query of a survey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// SOA of the name, or of one above it, of the resolver.
    Cut,
    /// NS of the zone, of the resolver.
    Servers,
    /// NS of the zone above, of the resolver.
    Parents,
    /// Address of a server of the zone above, of the resolver.
    ParentAddress,
    /// NS of the zone, of a server of the zone above.
    Delegation,
    /// DS of the zone, of a server of the zone above.
    Signers,
    /// Address of a server, of the resolver.
    Address(u16),
    /// A question to an address of a server.
    Target(u16, What),
}

impl Aim {
    /// Whether it may go to TCP if UDP does not do.
    pub(super) fn may_use_tcp(self) -> bool {
        match self {
            Self::Target(_, what) => what.may_use_tcp(),
            _ => true,
        }
    }
}

/// How a question is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As questions are.
    Usual,
    /// With letters in mixed case.
    MixedCase,
    /// Without EDNS.
    WithoutEdns,
    /// Over TCP from the first.
    Stream,
}

/// A query to make.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) aim: Aim,
    pub(super) name: String,
    pub(super) rtype: RecordType,
    pub(super) form: Form,
    /// The name server; none for the resolver.
    pub(super) peer: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In which zone the name lies.
    Cut,
    /// Which servers it has.
    Names,
    Addresses,
    Asking,
    Ended,
}

/// How far the zone above is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParentStage {
    Names,
    Addresses,
    Asked,
}

/// A survey on its way.
#[derive(Debug)]
pub(super) struct Surveying {
    deadline: Micros,
    began: Timestamp,
    stage: Stage,
    wanted: VecDeque<Ask>,
    open: Vec<Aim>,
    asked: usize,
    /// The name whose zone is looked for, and how often one was.
    cut_at: String,
    cuts: usize,
    parent_stage: ParentStage,
    /// The zone above was corrected by a denial's SOA.
    parent_corrected: bool,
    parent: ParentView,
    targets: Vec<Target>,
    kept: Kept,
    survey: Survey,
}

impl Surveying {
    /// A survey of the zone of a name. `began` is the task's time.
    pub(super) fn new(plan: &SurveyPlan, began: Timestamp, deadline: Micros) -> Self {
        let survey = Survey { name: plan.name.clone(), challenge: plan.challenge.clone(), ..Survey::default() };
        let mut surveying = Self {
            deadline,
            began,
            stage: Stage::Cut,
            wanted: VecDeque::new(),
            open: Vec::new(),
            asked: 0,
            cut_at: plan.name.clone(),
            cuts: 0,
            parent_stage: ParentStage::Names,
            parent_corrected: false,
            parent: ParentView::default(),
            targets: Vec::new(),
            kept: Kept::default(),
            survey,
        };
        surveying.look_for_cut();
        surveying
    }

    /// When it ends at the latest.
    pub(super) fn deadline(&self) -> Micros {
        self.deadline
    }

    pub(super) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Queries made so far.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Nothing more is waited for.
    pub(super) fn end(&mut self) {
        self.survey.cut_off |= !self.open.is_empty() || !self.wanted.is_empty();
        self.stage = Stage::Ended;
        self.wanted.clear();
        self.open.clear();
    }

    fn want(&mut self, aim: Aim, name: String, rtype: RecordType, peer: Option<IpAddr>) {
        self.want_as(Form::Usual, aim, name, rtype, peer);
    }

    fn want_as(&mut self, form: Form, aim: Aim, name: String, rtype: RecordType, peer: Option<IpAddr>) {
        let peer = peer.map(|address| SocketAddr::new(address, PORT));
        self.wanted.push_back(Ask { aim, name, rtype, form, peer });
    }

    /// The queries to make now.
    pub(super) fn take_asks(&mut self, now: Micros) -> Vec<Ask> {
        if now >= self.deadline || self.asked >= SURVEY_QUERIES_MAX {
            self.survey.cut_off |= !self.wanted.is_empty();
            self.wanted.clear();
        }
        let room = SURVEY_QUERIES_IN_FLIGHT_MAX.saturating_sub(self.open.len()).min(SURVEY_QUERIES_MAX - self.asked);
        let asks: Vec<Ask> = self.wanted.drain(..room.min(self.wanted.len())).collect();
        self.asked += asks.len();
        self.open.extend(asks.iter().map(|ask| ask.aim));
        if self.open.is_empty() {
            self.end();
        }
        asks
    }

    /// A query has ended; its reply is empty if none came.
    pub(super) fn handle(&mut self, aim: Aim, lookup: &DnsLookup, packet: &[u8], filter: &AddressFilter) {
        let Some(at) = self.open.iter().position(|open| *open == aim) else { return };
        self.open.swap_remove(at);
        match aim {
            Aim::Cut => self.found_cut(lookup),
            Aim::Servers => self.found_servers(packet),
            Aim::Parents => self.found_parents(lookup, packet),
            Aim::ParentAddress => self.parent.asked.extend(allowed(lookup, filter)),
            Aim::Delegation => self.found_delegation(packet),
            Aim::Signers => self.found_signers(lookup),
            Aim::Address(server) => self.found_addresses(server, lookup),
            Aim::Target(target, what) => self.answered(target, what, lookup, packet),
        }
        self.advance(filter);
    }

    fn is_open(&self, like: impl Fn(Aim) -> bool) -> bool {
        self.open.iter().copied().any(&like) || self.wanted.iter().any(|ask| like(ask.aim))
    }

    /// Goes on to the next stage once this one is over.
    fn advance(&mut self, filter: &AddressFilter) {
        match self.stage {
            Stage::Cut if self.is_open(|aim| aim == Aim::Cut) => {}
            Stage::Cut => self.look_for_names(),
            Stage::Names => {
                self.go_on_with_parent();
                let about_names = |aim| {
                    use Aim::{Delegation, ParentAddress, Parents, Servers, Signers};
                    matches!(aim, Servers | Parents | ParentAddress | Delegation | Signers)
                };
                if !self.is_open(about_names) {
                    self.look_for_addresses();
                }
            }
            Stage::Addresses if self.is_open(|aim| matches!(aim, Aim::Address(_))) => {}
            Stage::Addresses => self.ask_targets(filter),
            Stage::Asking if self.is_open(|aim| matches!(aim, Aim::Target(..))) => {}
            Stage::Asking => self.end(),
            Stage::Ended => {}
        }
    }

    fn look_for_addresses(&mut self) {
        self.stage = Stage::Addresses;
        if !self.parent.asked.is_empty() {
            self.survey.parent = Some(std::mem::take(&mut self.parent));
        }
        let names: Vec<String> = self.survey.servers.iter().map(|server| server.name.clone()).collect();
        if names.is_empty() {
            return self.end();
        }
        for (at, name) in names.into_iter().enumerate() {
            for rtype in [RecordType::A, RecordType::Aaaa] {
                self.want(Aim::Address(at as u16), name.clone(), rtype, None);
            }
        }
    }

    fn found_addresses(&mut self, server: u16, lookup: &DnsLookup) {
        let Some(server) = self.survey.servers.get_mut(usize::from(server)) else { return };
        if matches!(lookup.outcome, DnsOutcome::Failed(_)) {
            return;
        }
        let addresses = server.looked_up.get_or_insert_default();
        let mut found = addresses_in(lookup);
        addresses.extend(found.by_ref().take(SURVEYED_ADDRESSES_PER_SERVER_MAX));
        server.types_whole = server.types_whole.saturating_add(u8::from(found.next().is_none()));
        addresses.sort_unstable();
        addresses.dedup();
    }

    fn ask_targets(&mut self, filter: &AddressFilter) {
        self.stage = Stage::Asking;
        // One machine under several names is asked once.
        let mut seen: Vec<IpAddr> = Vec::new();
        let mut omitted = 0;
        for (at, server) in self.survey.servers.iter_mut().enumerate() {
            let mut addresses = server.looked_up.clone().unwrap_or_default();
            addresses.extend(&server.glue);
            addresses.sort_unstable();
            addresses.dedup();
            let (allowed, forbidden): (Vec<_>, Vec<_>) =
                addresses.into_iter().partition(|address| filter.forbids(*address).is_none());
            server.forbidden = forbidden.into_iter().take(SURVEYED_ADDRESSES_PER_SERVER_MAX).collect();
            for (number, address) in allowed.into_iter().filter(|address| !seen.contains(address)).enumerate() {
                if number >= SURVEYED_ADDRESSES_PER_SERVER_MAX || self.targets.len() >= SURVEYED_ADDRESSES_MAX {
                    omitted += 1;
                } else {
                    self.targets.push(Target::new(at, address));
                }
            }
            seen.extend(self.targets.iter().filter(|target| target.server == at).map(Target::address));
        }
        self.omit(omitted);
        for at in 0..self.targets.len() {
            self.put(at, &target::FIRST);
        }
        if self.targets.is_empty() {
            self.end();
        }
    }

    /// Puts questions to a target.
    fn put(&mut self, at: usize, questions: &[What]) {
        let zone = self.zone();
        let Some((address, edns)) = self.targets.get(at).map(|target| (target.address(), target.speaks_edns)) else {
            return;
        };
        for what in questions {
            let name = match what {
                What::Caa => self.survey.name.clone(),
                What::Txt => self.survey.challenge.clone(),
                _ => zone.clone(),
            };
            let aim = Aim::Target(at as u16, *what);
            self.want_as(what.form(edns), aim, name, what.rtype(), Some(address));
        }
    }

    fn answered(&mut self, at: u16, what: What, lookup: &DnsLookup, packet: &[u8]) {
        let at = usize::from(at);
        let reading = Reading::of(packet, self.began);
        let is_signed =
            self.survey.parent.as_ref().and_then(|parent| parent.ds.as_ref()).is_some_and(|ds| !ds.is_empty());
        let Some(target) = self.targets.get_mut(at) else { return };
        let further = target.handle(what, lookup, reading, &mut self.kept);
        let further: Vec<What> = further.iter().copied().filter(|what| is_signed || *what != What::Keys).collect();
        self.put(at, &further);
    }

    /// The evidence.
    pub(super) fn finish(self) -> Survey {
        let Self { mut survey, targets, kept, .. } = self;
        for target in targets {
            if let Some(server) = survey.servers.get_mut(target.server) {
                server.addresses.push(target.seen);
            }
        }
        survey.sets = kept.into_sets();
        survey
    }
}

/// Whether the servers of a zone are surveyed: those of a public suffix are somebody else's.
fn is_surveyed(zone: &str) -> bool {
    zone.contains('.') && !is_icann_suffix(zone)
}

/// Whether an outcome is no more than that nothing came.
fn is_nothing(outcome: &ServerOutcome) -> bool {
    matches!(outcome, ServerOutcome::Silent | ServerOutcome::Network(_))
}
