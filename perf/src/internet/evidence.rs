//! What each perspective saw, read out of the engine's journal: whose server answered it, or whose record it was given.
//!
//! This looks at the evidence alone, and not at what the programs made of it.

use std::{collections::BTreeMap, path::Path};

use parallax_validation::{
    observation::{ControlObservation, DnsLookup, DnsOutcome, HttpOutcome, Observation, SecurityStatus, TlsOutcome},
    record::Record,
    verdict::PerspectiveState,
};
use serde::{Deserialize, Serialize};

use super::{
    error::InternetError,
    programs::{output_ending, output_of},
    verdict::Seen,
    zones::{Actor, Domain, refusal_of},
};

/// More than all runs bring, so that each alarm is told by itself and not counted in a digest.
const ALARMS_PER_MINUTE: &str = "100000";

/// The class of a contradiction that came after a permission.
pub const RELEASED: &str = "permission_released";

/// The class of what was bogus for some and validly signed for others, before a verdict or after it.
pub const FORGED: &str = "dnssec";

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Whether its outcome was kept back, and the process started afresh.
    pub restarted: bool,
    /// What each perspective saw and how the programs took it, the primary's first.
    pub perspectives: Vec<View>,
}

/// One perspective's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub perspective: String,
    /// Whose answer it had.
    pub seen: Seen,
    /// What the programs made of it.
    pub state: PerspectiveState,
}

/// All attempts of a journal, by their requests' ids, in the order they were decided.
///
/// # Errors
/// The journal cannot be read.
pub fn attempts(parallax: &Path, journal: &Path) -> Result<BTreeMap<String, Vec<Attempt>>, InternetError> {
    let text = output_of(parallax, &["journal", "show", &journal.display().to_string(), "--json"])?;
    let mut all: BTreeMap<String, Vec<Attempt>> = BTreeMap::new();
    for line in text.lines() {
        let record: Record = serde_json::from_str(line)
            .map_err(|error| InternetError::Unreadable { path: journal.to_owned(), error })?;
        all.entry(record.request.id.to_string()).or_default().push(read(&record));
    }
    Ok(all)
}

/// What of a journal's late answers is told by `parallax journal verify`.
#[derive(Debug, Deserialize)]
struct Verified {
    late: u64,
}

/// Answers in a journal that came after their verdicts.
///
/// # Errors
/// The journal cannot be read, or does not hold.
pub fn late(parallax: &Path, journal: &Path) -> Result<u64, InternetError> {
    let text = output_of(parallax, &["journal", "verify", &journal.display().to_string(), "--json"])?;
    let Verified { late } =
        serde_json::from_str(&text).map_err(|error| InternetError::Unreadable { path: journal.to_owned(), error })?;
    Ok(late)
}

/// Answers that a run's attempts did not await and that have not come to the journal yet. The run is told by how its
/// requests' ids begin, and by how many late answers there were before it. Where one that had timed out answers after
/// all, or one of an earlier run, there is one more than this says.
///
/// # Errors
/// The journal cannot be read, or does not hold.
pub fn outstanding(parallax: &Path, journal: &Path, run: &str, late_before: u64) -> Result<u64, InternetError> {
    let not_awaited = not_awaited(&attempts(parallax, journal)?, run);
    Ok((not_awaited + late_before).saturating_sub(late(parallax, journal)?))
}

fn not_awaited(attempts: &BTreeMap<String, Vec<Attempt>>, run: &str) -> u64 {
    let of_run = attempts.iter().filter(|(request, _)| request.starts_with(run)).flat_map(|(_, attempts)| attempts);
    let views = of_run.flat_map(|attempt| &attempt.perspectives);
    views.filter(|view| view.state == PerspectiveState::NotAwaited).count() as u64
}

/// One alarm of `parallax watch` that perspectives contradicted each other, before the verdict or after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The request's id.
    pub request: String,
    /// What lies behind it, as `watch` has it: `routing`, `split_view`, …; [`RELEASED`] if a remote that was not awaited
    /// went against a permission.
    pub class: String,
}

/// What is read of a line of `parallax watch`.
#[derive(Debug, Deserialize)]
struct Alarm {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    request: String,
    #[serde(default)]
    class: String,
}

/// All contradictions that `parallax watch` tells of a journal.
///
/// # Errors
/// The journal cannot be read.
pub fn contradictions(parallax: &Path, journal: &Path) -> Result<Vec<Contradiction>, InternetError> {
    let journal_name = journal.display().to_string();
    // 1 says that there were critical alarms.
    let text =
        output_ending(parallax, &["watch", &journal_name, "--json", "--per-minute", ALARMS_PER_MINUTE], &[0, 1])?;
    let read = |line: &str| -> Result<Alarm, InternetError> {
        serde_json::from_str(line).map_err(|error| InternetError::Unreadable { path: journal.to_owned(), error })
    };
    let alarms: Vec<Alarm> = text.lines().map(read).collect::<Result<_, _>>()?;
    let wanted =
        alarms.into_iter().filter(|alarm| matches!(alarm.kind.as_str(), "contradiction" | "late_contradiction"));
    Ok(wanted.map(|Alarm { request, class, .. }| Contradiction { request, class }).collect())
}

fn read(record: &Record) -> Attempt {
    let perspectives = record.perspectives.iter().map(|part| View {
        perspective: part.perspective.to_string(),
        seen: part.observation.as_ref().map_or(Seen::Nothing, seen_or_bogus),
        state: part.state,
    });
    Attempt { restarted: record.restarted, perspectives: perspectives.collect() }
}

/// Whose answer it is; where it is nobody's, whether that is since an answer was forged.
fn seen_or_bogus(observation: &Observation) -> Seen {
    match seen(observation) {
        Seen::Nothing if observation.lookups().any(is_bogus) => Seen::Bogus,
        seen => seen,
    }
}

/// Whether signatures show the answer to be forged: the last one, or the first if no other came when the resolver was
/// asked again.
fn is_bogus(lookup: &DnsLookup) -> bool {
    let has_failed = matches!(lookup.outcome, DnsOutcome::Failed(_));
    let validation = lookup.validation.as_ref();
    validation.is_some_and(|of| of.status == SecurityStatus::Bogus || (has_failed && of.first_fault.is_some()))
}

/// Whose answer it is.
fn seen(observation: &Observation) -> Seen {
    match &observation.control {
        Some(ControlObservation::Http(fetch)) => match &fetch.outcome {
            HttpOutcome::Response { body, .. } => {
                whose(body.as_slice(), |actor| vec![actor.thumbprint().into_bytes(), refusal_of(actor).into_bytes()])
            }
            _ => Seen::Nothing,
        },
        Some(ControlObservation::Record(lookup)) => record(lookup),
        Some(ControlObservation::Tls(probe)) => match &probe.outcome {
            TlsOutcome::Handshake(handshake) => whose(&handshake.certificate.0, |actor| {
                Domain::ALL.map(|domain| actor.challenge_digest(domain).to_vec()).into()
            }),
            TlsOutcome::Failed(_) => Seen::Nothing,
        },
        Some(ControlObservation::Climb(_)) | None => Seen::Nothing,
    }
}

fn record(lookup: &DnsLookup) -> Seen {
    let DnsOutcome::Answer(set) = &lookup.outcome else { return Seen::Nothing };
    if is_bogus(lookup) {
        return Seen::Nothing;
    }
    let rdata = set.rdata.iter().flat_map(|rdata| rdata.as_slice()).copied().collect::<Vec<u8>>();
    whose(&rdata, |actor| Domain::ALL.map(|domain| actor.txt_value(domain).into_bytes()).into())
}

/// Whose marks are in these octets; nobody's if both actors' are.
fn whose(octets: &[u8], marks: impl Fn(Actor) -> Vec<Vec<u8>>) -> Seen {
    let has = |actor| marks(actor).iter().any(|mark| octets.windows(mark.len()).any(|window| window == mark));
    match (has(Actor::Owner), has(Actor::Attacker)) {
        (true, false) => Seen::Owner,
        (false, true) => Seen::Attacker,
        (true, true) | (false, false) => Seen::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use parallax_validation::observation::{DnsFailure, DnsTransport, DnssecFault, RecordType, Validation};

    use super::*;

    /// A TXT lookup with this end.
    fn lookup(status: SecurityStatus, first_fault: bool, failure: DnsFailure) -> DnsLookup {
        let fault = || DnssecFault::NoSignature { owner: "a".into(), rtype: "TXT".into(), zone: "a".into() };
        let validation = Validation {
            status,
            anchor: None,
            signers: Vec::new(),
            insecure: None,
            fault: (status == SecurityStatus::Bogus).then(fault),
            first_fault: first_fault.then(fault),
            links: Vec::new(),
            message: None,
        };
        DnsLookup {
            name: "a".to_owned(),
            rtype: RecordType::Txt,
            resolver: "192.0.2.1:53".parse().unwrap(),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: Some(Box::new(validation)),
            repeat: None,
            outcome: DnsOutcome::Failed(failure),
        }
    }

    #[test]
    fn answers_that_were_not_awaited_are_counted_over_all_attempts() {
        let attempt = |states: &[PerspectiveState]| {
            let view = |state: &PerspectiveState| View { perspective: String::new(), seen: Seen::Owner, state: *state };
            Attempt { restarted: false, perspectives: states.iter().map(view).collect() }
        };
        let (yes, late) = (PerspectiveState::Confirmed, PerspectiveState::NotAwaited);
        let all = BTreeMap::from([
            ("r1-a".to_owned(), vec![attempt(&[yes, late, late]), attempt(&[yes, yes, late])]),
            ("r2-a".to_owned(), vec![attempt(&[yes, yes, yes])]),
            ("r11-a".to_owned(), vec![attempt(&[yes, yes, late])]),
        ]);
        assert_eq!((not_awaited(&all, "r1-"), not_awaited(&all, "r2-"), not_awaited(&all, "r3-")), (3, 0, 0));
    }

    #[test]
    fn forged_answers_and_silence_are_told_apart() {
        let seen_of = |lookup: DnsLookup| {
            let text = r#"{"started":"2026-11-27T00:00:00Z","elapsed_us":1}"#;
            let observation: Observation = serde_json::from_str(text).unwrap();
            let control = Some(ControlObservation::Record(lookup.clone()));
            // Whether it is the record of the challenge or one of the lookups beside it.
            let beside = Observation { caa: vec![lookup], ..observation.clone() };
            [seen_or_bogus(&Observation { control, ..observation }), seen_or_bogus(&beside)]
        };
        let (bogus, unknown) = (SecurityStatus::Bogus, SecurityStatus::Indeterminate);
        assert_eq!(seen_of(lookup(bogus, false, DnsFailure::Malformed(String::new()))), [Seen::Bogus; 2]);
        assert_eq!(seen_of(lookup(unknown, true, DnsFailure::Timeout)), [Seen::Bogus; 2]);
        assert_eq!(seen_of(lookup(unknown, false, DnsFailure::Timeout)), [Seen::Nothing; 2]);
    }

    #[test]
    fn marks_of_each_actor_are_told_apart() {
        let marks = |actor: Actor| vec![actor.thumbprint().into_bytes(), refusal_of(actor).into_bytes()];
        assert_eq!(whose(Actor::Owner.key_authorization(Domain::Plain).as_bytes(), marks), Seen::Owner);
        assert_eq!(whose(b"attacker's server: no such file\n", marks), Seen::Attacker);
        assert_eq!(whose(b"", marks), Seen::Nothing);
        let both = [Actor::Owner.thumbprint(), Actor::Attacker.thumbprint()].concat();
        assert_eq!(whose(both.as_bytes(), marks), Seen::Nothing);
    }
}
