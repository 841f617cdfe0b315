//! A steady, open-loop load over one gRPC stream: a request is due every so often, whether or not earlier ones have
//! been answered, and its latency counts from when it was due.
//!
//! Invariant: a request is taken off the list of those that wait by its first answer; an answer to what does not wait
//! is an error.
//!
//! Left out: several callers, and pacing that follows anything but the clock.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parallax_protocol::{
    transport::{ConnectLimits, Identity, Peer, connect},
    wire::api::{Answers, Request, Requests, corroboration_client::CorroborationClient},
};
use parallax_validation::request::RawRequest;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{SoakError, deploy::IN_FLIGHT_MAX};
use crate::{
    lab::{
        generate::request_line,
        kinds::{Pace, Verdict},
        world::{Scenario, World},
    },
    measure::Latencies,
};

/// How long answers are awaited once nothing more is asked: several times what the slowest kind takes.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether to stop while nothing is due.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// Of wrong verdicts, and of requests without an answer, so many are told in full.
const TOLD_MAX: usize = 10;
/// The longest message from the engine, octets.
const FROM_ENGINE_BYTES_MAX: usize = 32 << 20;

/// What has come of the load so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Requests that were due and have been sent.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
    /// Requests that had to be refused, or fail, and passed.
    pub wrong_passes: u64,
    /// All other verdicts that are not the right ones.
    pub wrong_others: u64,
    /// The first few of both.
    pub wrong_told: Vec<String>,
}

impl Counts {
    fn note(&mut self, scenario: &Scenario, told: &Told) {
        self.answered += 1;
        let right = match scenario.kind.outcome().verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "fail",
            Verdict::Refused => "refused",
        };
        if told.verdict == right {
            return;
        }
        *(if told.verdict == "pass" { &mut self.wrong_passes } else { &mut self.wrong_others }) += 1;
        if self.wrong_told.len() < TOLD_MAX {
            let (id, kind) = (scenario.id(), scenario.kind.slug());
            let problem = told.problem.as_deref().unwrap_or("none");
            self.wrong_told.push(format!("{id} {kind}: {} instead of {right}, problem {problem}", told.verdict));
        }
    }
}

/// Requests that were never answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unanswered {
    /// How many.
    pub count: u64,
    /// The first few, oldest first.
    pub told: Vec<String>,
}

impl Unanswered {
    fn of(waiting: HashMap<String, (Scenario, Instant)>) -> Self {
        let mut waiting: Vec<(Scenario, Instant)> = waiting.into_values().collect();
        waiting.sort_unstable_by_key(|(scenario, due)| (*due, scenario.index));
        let told = waiting.iter().take(TOLD_MAX).map(|(scenario, due)| {
            let (kind, ago) = (scenario.kind.slug(), due.elapsed().as_secs_f64());
            format!("{kind}, due {ago:.1} s ago: {}", request_line(scenario))
        });
        Self { told: told.collect(), count: waiting.len() as u64 }
    }
}

/// Latencies of quick kinds within one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Window {
    /// Answers of quick kinds within it.
    pub quick: u64,
    /// None if there were none.
    pub p50_ms: Option<f64>,
    /// None if there were none.
    pub p99_ms: Option<f64>,
}

#[derive(Default)]
struct Shared {
    counts: Counts,
    window: Latencies,
}

/// What is needed of a line of results.
#[derive(Deserialize)]
struct Told {
    id: Option<String>,
    verdict: String,
    problem: Option<String>,
}

/// Whom to ask what, and how often.
pub(super) struct Asking {
    pub(super) world: World,
    pub(super) identity: Arc<Identity>,
    pub(super) peer: Peer,
    /// Requests a second.
    pub(super) rate: f64,
}

/// A load that runs on a thread of its own.
pub(super) struct Load {
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Unanswered, SoakError>>,
}

impl Load {
    pub(super) fn start(asking: Asking) -> Result<Self, SoakError> {
        let (shared, stop) = (Arc::<Mutex<Shared>>::default(), Arc::<AtomicBool>::default());
        let (for_thread, for_stop) = (Arc::clone(&shared), Arc::clone(&stop));
        let failed = |error| SoakError::Start { program: "load".to_owned(), error };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let drive = move || runtime.block_on(drive(&asking, &for_thread, &for_stop));
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(drive).map_err(failed)?;
        Ok(Self { shared, stop, thread })
    }

    /// Whether it ended before it was told to.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.shared).counts.clone()
    }

    /// Latencies since this was last asked.
    pub(super) fn take_window(&self) -> Window {
        let window = std::mem::take(&mut lock(&self.shared).window);
        let at = |quantile| window.at(quantile).map(|us| us as f64 / 1000.0);
        Window { quick: window.count(), p50_ms: at(0.5), p99_ms: at(0.99) }
    }

    /// Asks no more and waits for answers; which never came.
    pub(super) fn end(self) -> (Counts, Result<Unanswered, SoakError>) {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.join().unwrap_or(Err(SoakError::LoadBroke));
        (lock(&self.shared).counts.clone(), ended)
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that can be sent: lines that cannot be read are for bulk files.
fn requests(world: &World) -> impl Iterator<Item = (Scenario, RawRequest)> {
    let readable = |scenario: Scenario| {
        let raw = serde_json::from_str(&request_line(&scenario)).ok()?;
        // An id that another one has means nothing outside of a file.
        (scenario.id() == format!("r{:06}", scenario.index)).then_some((scenario, raw))
    };
    (0..world.requests).map(|index| world.scenario(index)).filter_map(readable)
}

async fn drive(asking: &Asking, shared: &Mutex<Shared>, stop: &AtomicBool) -> Result<Unanswered, SoakError> {
    let channel = connect(&asking.identity, &asking.peer, &ConnectLimits::default()).await?;
    let mut client = CorroborationClient::new(channel).max_decoding_message_size(FROM_ENGINE_BYTES_MAX);
    let (out, queue) = mpsc::unbounded_channel();
    let mut answers = client.corroborate_many(UnboundedReceiverStream::new(queue)).await?.into_inner();
    let mut waiting: HashMap<String, (Scenario, Instant)> = HashMap::new();
    let mut due_ones = requests(&asking.world);
    let (begun, mut number) = (Instant::now(), 0_u32);
    let due_at = |number: u32| begun + Duration::from_secs_f64(f64::from(number) / asking.rate);
    while !stop.load(Ordering::Acquire) {
        let due = due_at(number);
        if due <= Instant::now() {
            let Some((scenario, raw)) = due_ones.next() else { return Err(SoakError::NoMoreRequests) };
            if waiting.len() >= IN_FLIGHT_MAX {
                return Err(SoakError::TooFarBehind(waiting.len()));
            }
            waiting.insert(scenario.id(), (scenario, due));
            let batch = Requests { request: vec![Request::from(raw).encode_to_vec()] };
            out.send(batch).map_err(|_| SoakError::StreamEnded(waiting.len()))?;
            lock(shared).counts.asked += 1;
            number += 1;
            continue;
        }
        let wake = due.min(Instant::now() + STOP_CHECK);
        tokio::select! {
            () = tokio::time::sleep_until(wake.into()) => {}
            received = answers.message() => match received? {
                Some(received) => note(&received, &mut waiting, shared)?,
                None => return Err(SoakError::StreamEnded(waiting.len())),
            },
        }
    }
    drop(out);
    let drain = async {
        while let Some(received) = answers.message().await? {
            note(&received, &mut waiting, shared)?;
        }
        Ok::<(), SoakError>(())
    };
    // Without an answer for so long none will come; those that are missing are counted.
    if let Ok(ended) = tokio::time::timeout(DRAIN_MAX, drain).await {
        ended?;
    }
    Ok(Unanswered::of(waiting))
}

fn note(
    received: &Answers,
    waiting: &mut HashMap<String, (Scenario, Instant)>,
    shared: &Mutex<Shared>,
) -> Result<(), SoakError> {
    for answer in &received.answer {
        let told: Told = serde_json::from_slice(&answer.result)?;
        let id = told.id.clone().unwrap_or_default();
        let Some((scenario, due)) = waiting.remove(&id) else { return Err(SoakError::NotAsked(id)) };
        let mut shared = lock(shared);
        shared.counts.note(&scenario, &told);
        if scenario.kind.pace() == Pace::Quick {
            shared.window.add(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::kinds::Kind;

    fn told(verdict: &str) -> Told {
        Told { id: None, verdict: verdict.to_owned(), problem: None }
    }

    #[test]
    fn ok_verdicts_are_counted_by_what_was_wrong() {
        let world = World::new(3, 5_000);
        let of = |kind| (0..5_000).map(|i| world.scenario(i)).find(|s| s.kind == kind).expect("one of each kind");
        let mut counts = Counts::default();
        for (kind, verdict) in [
            (Kind::HttpOk, "pass"),
            (Kind::CaaOther, "fail"),
            (Kind::BadMethod, "refused"),
            (Kind::HttpOk, "fail"),
            (Kind::CaaOther, "pass"),
            (Kind::BadMethod, "pass"),
            (Kind::BadMethod, "fail"),
        ] {
            counts.note(&of(kind), &told(verdict));
        }
        assert_eq!((counts.answered, counts.wrong_passes, counts.wrong_others), (7, 2, 2));
        assert!(counts.wrong_told[0].contains("http-ok: fail instead of pass"), "{:?}", counts.wrong_told);
    }

    #[test]
    fn ok_the_oldest_of_those_unanswered_are_told_with_what_was_asked() {
        let (world, now) = (World::new(3, 5_000), Instant::now());
        let waiting = |index: u64, ago: u64| {
            let scenario = world.scenario(index);
            (scenario.id(), (scenario, now - Duration::from_secs(ago)))
        };
        let unanswered = Unanswered::of((0..25).map(|index| waiting(index, 100 + index)).collect());
        assert_eq!((unanswered.count, unanswered.told.len()), (25, 10));
        let oldest = world.scenario(24);
        let told = format!("{}, due 124.", oldest.kind.slug());
        assert!(unanswered.told[0].starts_with(&told), "{:?}", unanswered.told);
        assert!(unanswered.told[0].ends_with(&request_line(&oldest)), "{:?}", unanswered.told);
        assert_eq!(Unanswered::of(HashMap::new()), Unanswered::default());
    }

    #[test]
    fn ok_every_kind_that_a_caller_can_ask_for_is_asked_and_no_id_twice() {
        let world = World::new(4, 5_000);
        let mut ids = std::collections::HashSet::new();
        let mut kinds = std::collections::HashSet::new();
        for (scenario, raw) in requests(&world) {
            assert!(ids.insert(raw.id.expect("an id")), "{scenario:?}");
            kinds.insert(scenario.kind);
        }
        let missing: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| !kinds.contains(kind)).collect();
        assert_eq!(missing, [Kind::BadSyntax, Kind::BadDuplicate], "lines of a file, which no caller could send");
    }
}
