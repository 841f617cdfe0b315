//! The lookups of one task that wait until their replies are proven, and what they wait for.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    dnssec::{
        Assessment, Reading,
        anchor::TrustAnchors,
        chain::{Chain, ChainSite, LinkQuestion, Links, ZoneCache},
        set::owner_of,
    },
    task::Purpose,
};
use crate::observation::{
    DnsFailure, DnsLookup, DnsOutcome, DnssecFault, DnssecMode, Link, Message, RecordType, SecurityStatus, Validation,
};

/// Who validates at a perspective, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dnssec {
    /// The perspective itself.
    Local(Arc<TrustAnchors>),
    /// Its resolver.
    Resolver,
    /// Nobody.
    None,
}

impl Dnssec {
    /// As observations say it.
    #[must_use]
    pub fn mode(&self) -> DnssecMode {
        match self {
            Self::Local(_) => DnssecMode::Local,
            Self::Resolver => DnssecMode::Resolver,
            Self::None => DnssecMode::None,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    purpose: Purpose,
    lookup: DnsLookup,
    reading: Reading,
}

/// What came out of one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Questions to ask, with their numbers.
    pub(super) questions: Vec<(usize, LinkQuestion)>,
    /// Lookups to ask again with CD clear, as the first reply was bogus.
    pub(super) again: Vec<(Purpose, String, RecordType)>,
    /// Lookups that are proven, or failed for want of proof.
    pub(super) ended: Vec<(Purpose, DnsLookup)>,
}

#[derive(Debug)]
pub(super) struct Proving {
    chain: Chain,
    waiting: Vec<Waiting>,
    questions: Vec<LinkQuestion>,
    /// Links that kept validations rest on, by number.
    kept: Vec<(String, RecordType)>,
    /// Lookups asked again, with what came first and what was wrong with it.
    firsts: Vec<(Purpose, DnsLookup, DnssecFault)>,
    /// Whether proofs are kept whole.
    keep: bool,
    now: Timestamp,
    prefetch: Option<String>,
}

impl Proving {
    /// `prefetch` is a name whose zone will be wanted in any case.
    pub(super) fn new(keep: bool, now: Timestamp, prefetch: Option<String>) -> Self {
        Self {
            chain: Chain::default(),
            waiting: Vec::new(),
            questions: Vec::new(),
            kept: Vec::new(),
            firsts: Vec::new(),
            keep,
            now,
            prefetch,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the question for `purpose` is to be asked with CD clear.
    pub(super) fn is_again(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Link(number) => self.questions.get(number).is_some_and(|question| question.again),
            other => self.firsts.iter().any(|(asked, ..)| *asked == other),
        }
    }

    /// A lookup that has ended; its reply is empty if none came.
    pub(super) fn add(&mut self, purpose: Purpose, lookup: DnsLookup, packet: Arc<[u8]>) {
        let reading = Reading::new(lookup.name.clone(), lookup.rtype, lookup.outcome.clone(), packet);
        self.waiting.push(Waiting { purpose, lookup, reading });
    }

    /// A link question has ended.
    pub(super) fn answer(&mut self, number: usize, lookup: DnsLookup, packet: Arc<[u8]>) {
        let Some(question) = self.questions.get(number) else { return };
        let reply = match (packet.is_empty(), lookup.outcome) {
            (false, _) => Ok(packet),
            (true, DnsOutcome::Failed(failure)) => Err(failure),
            (true, _) => Err(DnsFailure::Malformed("no message".to_owned())),
        };
        self.chain.answer(question, reply);
    }

    /// Lookups that are wanted no more.
    pub(super) fn forget(&mut self, unwanted: impl Fn(Purpose) -> bool) {
        self.waiting.retain(|waiting| !unwanted(waiting.purpose));
    }

    /// The time is over: what is not proven failed.
    pub(super) fn cut_off(&mut self) -> Vec<(Purpose, DnsLookup)> {
        let ended = self.waiting.drain(..).map(|waiting| {
            let mut lookup = waiting.lookup;
            if !matches!(lookup.outcome, DnsOutcome::Failed(_)) {
                lookup.outcome = DnsOutcome::Failed(DnsFailure::DeadlineOfTask);
            }
            (waiting.purpose, lookup)
        });
        ended.collect()
    }

    /// Goes as far as the answers allow.
    pub(super) fn advance(&mut self, anchors: &TrustAnchors, zones: &mut ZoneCache) -> Round {
        let mut round = Round::default();
        let mut site = ChainSite { anchors, now: self.now, kept: zones };
        let mut needed = Vec::new();
        if let Some(name) = self.prefetch.as_deref().and_then(owner_of) {
            match self.chain.walk_to(&name, &mut site, &mut Links::new()) {
                super::dnssec::chain::Walk::Need(questions) => needed.extend(questions),
                _ => self.prefetch = None,
            }
        }
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting.reading.assess(&mut self.chain, &mut site) {
                Assessment::Need(questions) => {
                    needed.extend(questions);
                    self.waiting.push(waiting);
                }
                Assessment::Done(validation, links) => {
                    let Waiting { purpose, mut lookup, .. } = waiting;
                    let failed = matches!(lookup.outcome, DnsOutcome::Failed(_));
                    let again = if failed { None } else { self.to_ask_again(purpose, &validation) };
                    self.end(&mut lookup, *validation, &links);
                    match again {
                        Some(fault) => {
                            round.again.push((purpose, lookup.name.clone(), lookup.rtype));
                            self.firsts.push((purpose, lookup, fault));
                        }
                        None => {
                            self.settle_first(purpose, &mut lookup);
                            round.ended.push((purpose, lookup));
                        }
                    }
                }
            }
        }
        for question in needed {
            round.questions.push((self.questions.len(), question.clone()));
            self.questions.push(question);
        }
        round
    }

    /// A bogus reply is asked for once more: a validating resolver then tries other servers. That helps
    /// nothing if the fault lies in the chain, whose links were asked again already.
    fn to_ask_again(&self, purpose: Purpose, validation: &Validation) -> Option<DnssecFault> {
        let hopeless =
            |fault: &DnssecFault| matches!(fault, DnssecFault::TooMuchWork | DnssecFault::DsMatchesNoKey { .. });
        let fault = validation.fault.clone().filter(|fault| !hopeless(fault))?;
        (validation.status == SecurityStatus::Bogus && !self.is_again(purpose)).then_some(fault)
    }

    /// A second answer counts; if the resolver has none, the first stands as bogus.
    fn settle_first(&mut self, purpose: Purpose, lookup: &mut DnsLookup) {
        let Some(at) = self.firsts.iter().position(|(asked, ..)| *asked == purpose) else { return };
        let (_, mut first, fault) = self.firsts.swap_remove(at);
        let bogus = matches!(&lookup.outcome, DnsOutcome::Failed(DnsFailure::Dnssec(_)));
        if matches!(lookup.outcome, DnsOutcome::Failed(_)) && !bogus {
            first.extended_errors.append(&mut lookup.extended_errors);
            first.elapsed_us += lookup.elapsed_us;
            *lookup = first;
        } else if let Some(validation) = &mut lookup.validation {
            validation.first_fault = Some(fault);
        }
    }

    fn end(&mut self, lookup: &mut DnsLookup, mut validation: Validation, links: &Links) {
        validation.first_fault = self.chain.repaired().cloned();
        let failed = matches!(lookup.outcome, DnsOutcome::Failed(_));
        let unproven = matches!(validation.status, SecurityStatus::Bogus | SecurityStatus::Indeterminate);
        if !failed && unproven {
            let fault = validation.fault.clone().unwrap_or(DnssecFault::TooMuchWork);
            lookup.outcome = DnsOutcome::Failed(DnsFailure::Dnssec(fault));
        }
        if self.keep || failed || unproven {
            validation.links = links.iter().filter_map(|link| self.number_of(link)).collect();
        } else {
            validation.message = None;
        }
        lookup.validation = Some(Box::new(validation));
    }

    fn number_of(&mut self, link: &(String, RecordType)) -> Option<u16> {
        if let Some(at) = self.kept.iter().position(|kept| kept == link) {
            return u16::try_from(at).ok();
        }
        self.chain.message(&link.0, link.1)?;
        self.kept.push(link.clone());
        u16::try_from(self.kept.len() - 1).ok()
    }

    /// The links that kept validations rest on.
    pub(super) fn links(&self) -> Vec<Link> {
        let kept = self.kept.iter().map(|(name, rtype)| Link {
            name: name.clone(),
            rtype: *rtype,
            message: self.chain.message(name, *rtype).unwrap_or_else(|| Message(Arc::default())),
        });
        kept.collect()
    }
}
