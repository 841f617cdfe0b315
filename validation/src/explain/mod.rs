//! What the results of an attempt mean: which variable splits them, whose turn it is, what to say.
//!
//! A pure function of what was asked, decided and seen. It changes no verdict. The problem type comes
//! from the primary if it refused, else from most of the remotes that did not confirm.
//!
//! Invariant: no text holds the expected value; text from the network is escaped and cut.

mod account;
mod caa;
pub mod diagnosis;
pub(crate) mod dns;
pub mod dnssec;
mod http;
mod record;
mod split;
pub(crate) mod text;
pub mod tls;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub use self::split::{bogus_questions, signed_questions};
pub(crate) use self::split::{contested, may_be_forged, sees_secure};
pub use self::text::without_secret;
use self::{
    split::{Failing, Split, in_groups, split},
    text::{number, places, regions, seconds, sentence},
};
use crate::{
    base::perspective::{Perspective, PerspectiveId, Role},
    check::{Contradiction, Determination, Finding, LookupFailure, caa::CaaFinding, dcv::registry::Row},
    observation::{
        BudgetExhausted, ControlObservation, Diagnosis, DnsFailure, DnsLookup, DnsOutcome, DnssecFault, HttpFailure,
        Observation, TcpReason, TlsProbeFailure,
    },
    problem::ProblemKind,
    request::CheckRequest,
    verdict::{
        Answer, Figures, PerspectiveState, Refusal, Verdict,
        quorum::{QuorumResult, QuorumShortfall},
    },
};

/// Whose turn it is (`cases.md`, Fields).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The web server.
    Web,
    /// The subscriber's name servers.
    Dns,
    /// Registry, registrar or root.
    Parent,
    /// A firewall, CDN or geographic rule.
    Filter,
    /// The data published.
    Record,
    /// The domain's own CAA.
    Policy,
    /// What was asked of us.
    Request,
    /// Our own perspectives.
    Perspective,
}

/// Whether and when trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The engine may try again at once.
    Now,
    /// The client should wait.
    Later,
    /// Pointless before a change.
    Fix,
}

/// What to say about an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The problem type of RFC 8555 §6.7; none if it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemKind>,
    /// Whose turn it is; none if it passed without remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// When trying again can help; none if it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// For the subscriber: sentences, without the expected value.
    pub message: String,
    /// What should be known although it changes nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What each perspective met that did not confirm, in the order of the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// What one perspective met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Who.
    pub perspective: PerspectiveId,
    /// The problem type of RFC 8555 §6.7.
    pub problem: ProblemKind,
    /// Whose turn it is.
    pub blame: Blame,
    /// When trying again can help.
    pub retry: Retry,
    /// Sentences, without the expected value.
    pub detail: String,
}

/// One perspective's part, as the explanation sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Who.
    pub perspective: &'a Perspective,
    /// What it saw, if it answered.
    pub observation: Option<&'a Observation>,
    /// What that means.
    pub answer: &'a Answer,
}

/// What a cause is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A fetch that reached, or tried to reach, a server.
    Http,
    /// A TXT lookup that was answered.
    Txt,
    /// A lookup for control that came to nothing.
    Dns,
    /// CAA, looked up or not.
    Caa,
    /// Our own side.
    Ours,
}

/// Why one perspective did not confirm.
#[derive(Clone, Debug)]
struct Cause {
    problem: ProblemKind,
    blame: Blame,
    retry: Retry,
    kind: Kind,
    /// The address that did it, if one did.
    subject: Option<SocketAddr>,
    /// What it did, or else a whole clause. Network evidence stands in brackets.
    did: String,
    /// Sentences.
    details: Vec<String>,
    /// Nothing of a response came.
    is_network: bool,
}

impl Cause {
    fn ours(did: String) -> Self {
        Self {
            problem: ProblemKind::ServerInternal,
            blame: Blame::Perspective,
            retry: Retry::Now,
            kind: Kind::Ours,
            subject: None,
            did,
            details: Vec::new(),
            is_network: false,
        }
    }

    fn not_validated() -> Self {
        Self::ours("nobody validated DNSSEC at our primary perspective (TLS BR 2.3.1 §4.2.2.2)".to_owned())
    }

    /// A clause with a subject.
    fn clause(&self) -> String {
        match self.subject {
            Some(address) => format!("{address} {}", self.did),
            None => self.did.clone(),
        }
    }

    /// Whether another met the same, evidence in brackets aside.
    fn same_as(&self, other: &Self) -> bool {
        let plain = |cause: &Self| cause.did.split(" (").next().map(str::to_owned);
        self.subject == other.subject && plain(self) == plain(other)
    }
}

/// Explains a verdict. `seen` is the cohort in its order, the primary first.
#[must_use]
pub fn explain(request: &CheckRequest, verdict: &Verdict, seen: &[Seen<'_>]) -> Explanation {
    let mut explanation = match verdict {
        Verdict::Corroborated(figures) => passed(request, figures, seen),
        Verdict::Refused { refusal: Refusal::Primary(_), .. } => primary_refused(request, seen),
        Verdict::Refused { refusal: Refusal::MethodEnded, .. } => method_ended(&[], seen),
        Verdict::Refused { refusal: Refusal::ReportOnly, figures } => report_only(request, figures.as_ref(), seen),
        Verdict::Refused { refusal: Refusal::Quorum(shortfall), figures } => {
            not_corroborated(request, *shortfall, figures.as_ref(), seen)
        }
    };
    explanation.parts = seen.iter().filter_map(|one| part(request, one, seen)).collect();
    explanation.message = without_secret(request, &explanation.message);
    explanation.warnings.iter_mut().for_each(|warning| *warning = without_secret(request, warning));
    explanation
}

/// What this perspective met; none if it confirmed, was not asked, or was not waited for.
fn part(request: &CheckRequest, seen: &Seen<'_>, all: &[Seen<'_>]) -> Option<Part> {
    let cause = cause(request, seen, all).filter(|_| seen.answer.state() != PerspectiveState::NotAsked)?;
    Some(part_of(request, &seen.perspective.id, &cause))
}

fn part_of(request: &CheckRequest, perspective: &PerspectiveId, cause: &Cause) -> Part {
    let sentences: Vec<String> = std::iter::once(sentence(&cause.clause())).chain(cause.details.clone()).collect();
    Part {
        perspective: perspective.clone(),
        problem: cause.problem,
        blame: cause.blame,
        retry: cause.retry,
        detail: without_secret(request, &sentences.join(" ")),
    }
}

/// What one perspective met by itself, for a caller that counts elsewhere; none if everything it was asked is
/// confirmed.
#[must_use]
pub fn explain_one(
    request: &CheckRequest,
    perspective: &PerspectiveId,
    determination: &Determination,
    observation: &Observation,
) -> Option<Part> {
    determined(request, determination, Some(observation)).map(|cause| part_of(request, perspective, &cause))
}

/// Why this perspective did not confirm, among all; none if it did, or was not waited for.
fn cause(request: &CheckRequest, seen: &Seen<'_>, all: &[Seen<'_>]) -> Option<Cause> {
    let mut cause = match seen.answer {
        Answer::Determined(determination) => determined(request, determination, seen.observation),
        Answer::None(state) => unanswered(*state),
    }?;
    split::contest(&mut cause, seen, all);
    Some(cause)
}

fn unanswered(state: PerspectiveState) -> Option<Cause> {
    let did = match state {
        PerspectiveState::Confirmed | PerspectiveState::NotAwaited => return None,
        PerspectiveState::Contradicted | PerspectiveState::Failed => "our perspective's evidence is missing",
        PerspectiveState::TimedOut => "our perspective did not answer in time",
        PerspectiveState::Cancelled => "our call to the perspective was given up",
        PerspectiveState::RejectedReply => "our perspective's reply was not the reply to this attempt",
        PerspectiveState::NotAsked => "our perspective was not asked",
    };
    Some(Cause::ours(did.to_owned()))
}

/// If both control and CAA fail, control leads and CAA is mentioned.
fn determined(
    request: &CheckRequest,
    determination: &Determination,
    observation: Option<&Observation>,
) -> Option<Cause> {
    let control = determination.control.as_ref().and_then(|finding| control_cause(request, finding, observation));
    let caa = determination.caa.as_ref().and_then(|finding| caa::cause(request, finding, observation));
    let budget = observation.and_then(|o| Some((o, o.budget?)));
    if let Some((observation, budget)) =
        budget.filter(|(o, _)| is_out_of_time(determination) && !http::is_being_fetched(o))
    {
        return Some(out_of_budget(observation, budget));
    }
    match (control, caa) {
        (Some(mut control), Some(caa)) => {
            control.details.push(sentence(&format!("besides, {}", caa.did)));
            let told = observation.iter().flat_map(|o| caa_told(o)).filter(|text| !control.details.contains(text));
            let told: Vec<String> = told.collect();
            control.details.extend(told);
            Some(control)
        }
        (control, caa) => control.or(caa),
    }
}

/// What the servers said about a CAA lookup that failed, if that is what they were asked about.
fn caa_told(observation: &Observation) -> Vec<String> {
    let diagnosis = observation.diagnosis.as_ref();
    let about = |diagnosis: &&Diagnosis| {
        let mut failed = observation.caa.iter().filter(|lookup| dns::failure(lookup).is_some());
        failed.any(|lookup| diagnosis::is_about(diagnosis, lookup))
    };
    diagnosis.filter(about).map(diagnosis::sentences).unwrap_or_default()
}

fn control_cause(request: &CheckRequest, finding: &Finding, observation: Option<&Observation>) -> Option<Cause> {
    let missing = || Some(Cause::ours("the observation holds nothing about what was asked".to_owned()));
    if let (Finding::Contradicted(Contradiction::Derivation(fault)), Some(observation)) = (finding, observation) {
        return Some(record::astray(request, observation, *fault));
    }
    if let (Finding::Failed(LookupFailure::Dns { .. }), Some(observation)) = (finding, observation)
        && let Some(lookup) = record::failed_on_the_way(request, observation)
    {
        return dns::cause(&[lookup], Kind::Dns, observation.diagnosis.as_ref()).or_else(missing);
    }
    let Some(control) = observation.and_then(|o| o.control.as_ref()) else {
        return if *finding == Finding::Confirmed { None } else { missing() };
    };
    let hints = observation.map_or(&[][..], |o| o.hints.as_slice());
    Some(match (finding, control) {
        (Finding::Confirmed, _) => return None,
        (Finding::Failed(LookupFailure::NotValidated), _) => Cause::not_validated(),
        (Finding::Contradicted(Contradiction::Status(status)), ControlObservation::Http(fetch)) => {
            http::wrong_status(fetch, *status, http::wanted(request))
        }
        (Finding::Contradicted(Contradiction::Body(fault)), ControlObservation::Http(fetch)) => {
            http::wrong_body(fetch, *fault, http::wanted(request))
        }
        (Finding::Contradicted(Contradiction::Value(fault)), ControlObservation::Record(lookup)) => {
            record::wrong_value(lookup, *fault)
        }
        (Finding::Contradicted(Contradiction::Contact(fault)), control) => {
            record::wrong_contact(request, control.records(), *fault)
        }
        (Finding::Contradicted(Contradiction::NoRecord { .. }), ControlObservation::Climb(levels)) => {
            record::no_property(request, levels)
        }
        (Finding::Failed(LookupFailure::Dns { .. }), ControlObservation::Climb(levels)) => {
            let failed = levels.last().filter(|lookup| dns::failure(lookup).is_some());
            let diagnosis = observation.and_then(|o| o.diagnosis.as_ref());
            return failed.and_then(|lookup| dns::cause(&[lookup], Kind::Dns, diagnosis)).or_else(missing);
        }
        (Finding::Contradicted(Contradiction::NoRecord { .. }), ControlObservation::Record(lookup)) => {
            account::no_txt(request, lookup, hints)
        }
        (Finding::Contradicted(Contradiction::Txt(fault)), ControlObservation::Record(lookup)) => {
            dns::wrong_txt(lookup, *fault)
        }
        (Finding::Contradicted(Contradiction::Persist(fault)), ControlObservation::Record(lookup)) => {
            account::wrong_record(request, lookup, fault)
        }
        (Finding::Contradicted(Contradiction::Certificate(fault)), ControlObservation::Tls(probe)) => {
            tls::wrong_certificate(probe, *fault)
        }
        (Finding::Failed(LookupFailure::Tls(failure)), ControlObservation::Tls(probe)) => tls::failed(probe, failure),
        (Finding::Failed(LookupFailure::Http(failure)), ControlObservation::Http(fetch)) => {
            http::failed(fetch, failure)
        }
        (Finding::Failed(LookupFailure::Dns { .. }), ControlObservation::Record(lookup)) => {
            let diagnosis = observation.and_then(|o| o.diagnosis.as_ref());
            return dns::cause(&[lookup], Kind::Dns, diagnosis).or_else(missing);
        }
        (
            Finding::Contradicted(_) | Finding::Failed(_),
            ControlObservation::Http(_)
            | ControlObservation::Record(_)
            | ControlObservation::Climb(_)
            | ControlObservation::Tls(_),
        ) => return missing(),
    })
}

/// Whether the time of the whole task is what stopped it.
fn is_out_of_time(determination: &Determination) -> bool {
    let by_deadline = |failure: &LookupFailure| match failure {
        LookupFailure::Dns { failure, .. } => *failure == DnsFailure::DeadlineOfTask,
        LookupFailure::Http(failure) => *failure == HttpFailure::DeadlineOfTask,
        LookupFailure::Tls(failure) => *failure == TlsProbeFailure::DeadlineOfTask,
        LookupFailure::NotObserved => true,
        LookupFailure::NotValidated => false,
    };
    let control = match &determination.control {
        None | Some(Finding::Confirmed) => None,
        Some(Finding::Contradicted(_)) => Some(false),
        Some(Finding::Failed(failure)) => Some(by_deadline(failure)),
    };
    let caa = matches!(&determination.caa, Some(CaaFinding::Failed(failure)) if by_deadline(failure));
    control.unwrap_or(caa)
}

/// The budget ran out; no question in flight is to blame for that (`cases.md` D14).
fn out_of_budget(observation: &Observation, budget: BudgetExhausted) -> Cause {
    let mut failed = observation.lookups().filter(
        |lookup| matches!(&lookup.outcome, DnsOutcome::Failed(failure) if *failure != DnsFailure::DeadlineOfTask),
    );
    let mut details = vec![format!("The name servers took {} for each answer (median).", seconds(budget.median_us))];
    details.push(match failed.next() {
        None => "No single lookup failed.".to_owned(),
        Some(lookup) => format!("One lookup failed by itself: {} {}.", lookup.name, lookup.rtype),
    });
    let did = format!(
        "the {} budget for this check ran out after {} of {} lookups",
        seconds(u64::from(budget.budget_ms) * 1000),
        budget.lookups_answered,
        budget.lookups_planned
    );
    Cause {
        problem: ProblemKind::Dns,
        blame: Blame::Dns,
        retry: Retry::Later,
        kind: Kind::Dns,
        subject: None,
        did,
        details,
        is_network: false,
    }
}

fn refused(cause: &Cause, message: String, warnings: Vec<String>) -> Explanation {
    Explanation {
        problem: Some(cause.problem),
        blame: Some(cause.blame),
        retry: Some(cause.retry),
        message,
        warnings,
        parts: Vec::new(),
    }
}

fn primary_refused(request: &CheckRequest, seen: &[Seen<'_>]) -> Explanation {
    let primary = seen.iter().find(|s| s.perspective.role == Role::Primary);
    let cause = primary
        .and_then(|s| cause(request, s, seen))
        .unwrap_or_else(|| Cause::ours("the primary perspective gave no answer".to_owned()));
    let mut sentences = vec![sentence(&cause.clause())];
    sentences.extend(cause.details.iter().cloned());
    refused(&cause, sentences.join(" "), resolver_warnings(seen))
}

/// Whatever was found: the methods may not be used any more.
#[must_use]
pub fn method_ended(ended: &[&Row], seen: &[Seen<'_>]) -> Explanation {
    let methods: Vec<String> = ended.iter().map(ToString::to_string).collect();
    let methods = if methods.is_empty() { vec!["the method".to_owned()] } else { methods };
    Explanation {
        problem: Some(ProblemKind::Malformed),
        blame: Some(Blame::Request),
        retry: Some(Retry::Fix),
        message: format!(
            "{} may not be used any more, nor may earlier results by it (TLS BR 2.3.1 §1.6.4). Use another method.",
            text::list(&methods)
        ),
        warnings: resolver_warnings(seen),
        parts: Vec::new(),
    }
}

fn failing<'a>(request: &CheckRequest, seen: &'a [Seen<'a>]) -> Vec<Failing<'a>> {
    let remotes = seen.iter().filter(|s| s.perspective.role == Role::Remote);
    remotes.filter_map(|s| cause(request, s, seen).map(|cause| Failing { seen: s, cause })).collect()
}

/// The problem most of them have; of equally many, the one that comes first in the cohort.
fn commonest(failing: &[Failing<'_>]) -> Option<ProblemKind> {
    let count = |problem: ProblemKind| failing.iter().filter(|f| f.cause.problem == problem).count();
    // max_by_key gives the last of equals, so the cohort is read backwards.
    failing.iter().rev().map(|f| f.cause.problem).max_by_key(|problem| count(*problem))
}

fn not_corroborated(
    request: &CheckRequest,
    shortfall: QuorumShortfall,
    figures: Option<&Figures>,
    seen: &[Seen<'_>],
) -> Explanation {
    let failing = failing(request, seen);
    let Some(figures) = figures else {
        let cause =
            Cause::ours("no policy row lets this set of perspectives form a quorum, or no remote was asked".to_owned());
        return refused(&cause, sentence(&cause.did), resolver_warnings(seen));
    };
    let (mut text, problem, split) = told(&failing, seen);
    let (blame, retry) = match (shortfall, &split) {
        (QuorumShortfall::TooFewConfirmations, Some(split)) => (split.blame, split.retry),
        (QuorumShortfall::TooFewConfirmations, None) | (QuorumShortfall::TooFewRegions, _) => {
            (Blame::Perspective, Retry::Now)
        }
    };
    let counted = match shortfall {
        QuorumShortfall::TooFewConfirmations => confirmed_in_words(&figures.joint, seen),
        QuorumShortfall::TooFewRegions => regions_in_words(&figures.joint),
    };
    match shortfall {
        QuorumShortfall::TooFewConfirmations => text.push(counted),
        QuorumShortfall::TooFewRegions => text.insert(0, counted),
    }
    Explanation {
        problem: Some(problem.unwrap_or(ProblemKind::ServerInternal)),
        blame: Some(blame),
        retry: Some(retry),
        message: text.join(" "),
        warnings: resolver_warnings(seen),
        parts: Vec::new(),
    }
}

/// What the failing remotes met: the commonest first with what splits it off, then the others.
fn told(failing: &[Failing<'_>], seen: &[Seen<'_>]) -> (Vec<String>, Option<ProblemKind>, Option<Split>) {
    let Some(problem) = commonest(failing) else { return (Vec::new(), None, None) };
    let kind = failing.iter().find(|f| f.cause.problem == problem).map(|f| f.cause.kind);
    // A server that answers wrongly and one that does not answer may still be told apart by address.
    let (lead, others): (Vec<&Failing<'_>>, Vec<&Failing<'_>>) = failing
        .iter()
        .partition(|f| Some(f.cause.kind) == kind && (f.cause.problem == problem || kind == Some(Kind::Http)));
    let split = split(&lead, seen);
    let mut text: Vec<String> = split.iter().map(|split| split.text.clone()).collect();
    if !others.is_empty() {
        text.push(in_groups(&others));
    }
    (text, Some(problem), split)
}

fn confirmed_in_words(joint: &QuorumResult, seen: &[Seen<'_>]) -> String {
    let confirmed =
        seen.iter().filter(|s| s.perspective.role == Role::Remote && s.answer.state() == PerspectiveState::Confirmed);
    let confirmed: Vec<&Seen<'_>> = confirmed.collect();
    let who = if confirmed.is_empty() { String::new() } else { format!(": {}", places(confirmed)) };
    format!("{} of {} remote perspectives confirmed the primary's result{who}.", joint.confirmed, joint.attempted)
}

fn regions_in_words(joint: &QuorumResult) -> String {
    let names: Vec<String> = joint.rirs.iter().map(ToString::to_string).collect();
    format!(
        "{} of {} remotes agree, but all {} are in the {} region; {} regions are required (TLS BR 2.3.1 §3.2.2.9).",
        joint.confirmed,
        joint.attempted,
        joint.confirmed,
        text::list(&names),
        number(names.len() + 1),
    )
}

fn passed(request: &CheckRequest, figures: &Figures, seen: &[Seen<'_>]) -> Explanation {
    let failing = failing(request, seen);
    let mut warnings = Vec::new();
    let mut blame = None;
    if !failing.is_empty() {
        let (text, _, split) = told(&failing, seen);
        blame = split.map(|split| split.blame);
        warnings.push(format!(
            "{} {} {}",
            margin_in_words(&failing, figures),
            text.join(" "),
            second_failure(&figures.joint)
        ));
    }
    for warning in caa::excused_warnings(seen) {
        blame = blame.or(Some(Blame::Dns));
        warnings.push(warning);
    }
    for warning in fallback_warnings(seen) {
        blame = blame.or(Some(Blame::Record));
        warnings.push(warning);
    }
    for warning in dnssec_warnings(seen) {
        blame = blame.or(Some(Blame::Dns));
        warnings.push(warning);
    }
    for warning in oddities(seen) {
        blame = blame.or(Some(Blame::Perspective));
        warnings.push(warning);
    }
    let way = record::by_way_of(request);
    let said = std::iter::once("Validated.").chain(way.as_deref()).chain(warnings.iter().map(String::as_str));
    let message = said.collect::<Vec<_>>().join(" ");
    Explanation { problem: None, blame, retry: None, message, warnings, parts: Vec::new() }
}

/// What would have been a permission, if permissions were given.
fn report_only(request: &CheckRequest, figures: Option<&Figures>, seen: &[Seen<'_>]) -> Explanation {
    let found = figures.map(|figures| passed(request, figures, seen));
    let warnings = found.map(|found| found.warnings).unwrap_or_default();
    let (said, blame) = if request.restrictions.dry_run {
        ("All checks were passed. This was a dry run: nothing may be issued on it.", Blame::Request)
    } else {
        ("All checks were passed, but this engine only reports: nothing may be issued on it.", Blame::Perspective)
    };
    let said = std::iter::once(said);
    let message = said.chain(warnings.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    Explanation {
        problem: Some(ProblemKind::ServerInternal),
        blame: Some(blame),
        retry: Some(Retry::Fix),
        message,
        warnings,
        parts: Vec::new(),
    }
}

fn margin_in_words(failing: &[Failing<'_>], figures: &Figures) -> String {
    let who = regions(failing.iter().map(|f| f.seen));
    let count = sentence(&number(failing.len()));
    let remotes = number(usize::from(figures.joint.attempted));
    format!("{} of {remotes} remote regions ({who}) did not confirm.", count.trim_end_matches('.'))
}

fn second_failure(joint: &QuorumResult) -> String {
    match joint.margin {
        ..=0 => "A second failure would block issuance.".to_owned(),
        margin => format!("More than {margin} further failures would block issuance."),
    }
}

fn fallback_warnings(seen: &[Seen<'_>]) -> Vec<String> {
    let fetches = seen.iter().filter_map(|s| match s.observation?.control.as_ref()? {
        ControlObservation::Http(fetch) => Some((s, http::fallback(fetch)?)),
        ControlObservation::Tls(probe) => Some((s, tls::fallback(probe)?)),
        ControlObservation::Record(_) | ControlObservation::Climb(_) => None,
    });
    let all: Vec<(&Seen<'_>, String)> = fetches.collect();
    let Some((_, first)) = all.first() else { return Vec::new() };
    vec![format!("{first} This was so from {}.", places(all.iter().map(|(s, _)| *s)))]
}

/// What the resolvers and the zones' servers did that they should not, although it was got round.
fn resolver_warnings(seen: &[Seen<'_>]) -> Vec<String> {
    [oddities(seen), dnssec_warnings(seen)].concat()
}

/// What the resolvers did that they should not; one sentence for each reason.
fn oddities(seen: &[Seen<'_>]) -> Vec<String> {
    let met: Vec<(&Seen<'_>, &DnsLookup, &str)> =
        seen.iter().filter_map(|s| resolver_oddity(s.observation?).map(|(lookup, why)| (s, lookup, why))).collect();
    let mut reasons: Vec<&str> = met.iter().map(|(.., why)| *why).collect();
    reasons.sort_unstable();
    reasons.dedup();
    let texts = reasons.into_iter().filter_map(|reason| {
        let group: Vec<_> = met.iter().filter(|(.., why)| *why == reason).collect();
        let (_, first, _) = group.first()?;
        let resolvers: Vec<String> = group.iter().map(|(_, lookup, _)| lookup.resolver.to_string()).collect();
        Some(format!(
            "From {}: our resolver {}, or something before it, {reason} ({} {}); we had to repeat the query over TCP.",
            places(group.iter().map(|(s, ..)| *s)),
            text::list(&resolvers),
            first.name,
            first.rtype
        ))
    });
    texts.collect()
}

/// Zones whose servers did not agree, each once (`cases.md` D34).
fn dnssec_warnings(seen: &[Seen<'_>]) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    for observation in seen.iter().filter_map(|s| s.observation) {
        let diagnosis = observation.diagnosis.as_ref().filter(|diagnosis| remarks_on(observation, diagnosis));
        let told = diagnosis.map(|diagnosis| (diagnosis.zone.as_str(), diagnosis::sentences(diagnosis)));
        let told = told.filter(|(_, sentences)| !sentences.is_empty());
        for validation in observation.lookups().filter_map(|lookup| lookup.validation.as_ref()) {
            let Some(general) = dnssec::warning(validation) else { continue };
            let zone = validation.first_fault.as_ref().and_then(DnssecFault::zone);
            // What the servers said themselves names them.
            let warning = match &told {
                Some((of, sentences)) if zone == Some(*of) => {
                    format!("A first answer was bogus; another one is good. {}", sentences.join(" "))
                }
                Some(_) | None => general,
            };
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    warnings
}

/// Whether a diagnosis is about a lookup that succeeded at the second asking.
fn remarks_on(observation: &Observation, diagnosis: &Diagnosis) -> bool {
    let mut answered = observation.lookups().filter(|lookup| dns::failure(lookup).is_none());
    answered.any(|lookup| diagnosis::is_about(diagnosis, lookup))
}

fn resolver_oddity(observation: &Observation) -> Option<(&DnsLookup, &'static str)> {
    observation.lookups().find_map(|lookup| {
        let why = match lookup.tcp_because? {
            TcpReason::Truncated => return None,
            TcpReason::CaseNotCopied => "did not copy the case of the query name",
            TcpReason::Malformed => "sent a UDP reply that could not be read to its end",
            TcpReason::TooManyStrayReplies => "let more stray packets through than a query tolerates",
        };
        Some((lookup, why))
    })
}
