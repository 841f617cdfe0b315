//! The generator: lets requests leave when they are due, and takes answers as they come.
//!
//! ```text
//! pacer ── what is due ──▶ generator ── one stream ──▶ engine
//!                              ▲────── answers ───────────┘
//! ```
//!
//! The pacer is a thread that does nothing else than sleep until something is due. The generator's thread stamps a request
//! when it puts it on the stream, so that a generator that lags behind is seen, whatever the reason. What happens beyond,
//! in HTTP/2 and the kernel, is a part of the latency.
//!
//! Both threads ask for real time: they have little to do, and on a machine that is busy by what is measured they would
//! have to wait for their turn, which is then no load that was meant. Without the right to it they go on without.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parallax_protocol::{
    api::API_BATCH_MAX,
    transport::{ConnectLimits, Identity, Peer, connect},
    wire::api::{Answers, Requests, corroboration_client::CorroborationClient},
};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::{
    OpenError,
    answer::{Answer, AnswerError},
    mix::Mix,
    prepare::Prepared,
    result::InFlight,
    tally::{EXAMPLES_MAX, Judged, Tally},
};
use crate::measure;

/// The longest message from the engine, octets.
const FROM_ENGINE_BYTES_MAX: usize = 32 << 20;
/// How long answers are waited for after the last request.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// The first request is due so long after all is ready.
const LEAD: Duration = Duration::from_millis(50);
/// The pacer does not wake up more often than this: what is due within it leaves together, this much late at most.
const PACE: Duration = Duration::from_micros(200);
/// How often it is seen whether all is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Among threads of real time, for generator and pacer: low, for nothing else is to be preferred to.
const PRIORITY: u8 = 10;

/// What whoever watches the engine is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The warm-up is over.
    Begin,
    /// Nothing more is sent.
    End,
}

/// What is to be done.
#[derive(Debug)]
pub struct Drive<'a> {
    /// The engine.
    pub peer: &'a Peer,
    /// Who calls.
    pub identity: Arc<Identity>,
    /// What is asked.
    pub mix: &'a Mix,
    /// In the order it is due.
    pub prepared: Vec<Prepared>,
    /// What is measured.
    pub window: Range<Duration>,
    /// Requests without an answer, at which the run ends.
    pub outstanding_max: u64,
    /// The CPU of the generator's threads, if they are bound to one.
    pub core: Option<usize>,
    /// Set when all is to end.
    pub interrupted: &'a AtomicBool,
}

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// The count.
    pub tally: Tally,
    /// Over the window.
    pub in_flight: InFlight,
    /// Whether the bound of outstanding requests was reached.
    pub overloaded: bool,
    /// How the stream ended, if not as it must.
    pub fault: Option<String>,
    /// Answers that could not be used, in words.
    pub error_examples: Vec<String>,
    /// CPU time of this process within the window.
    pub generator_cpu: Duration,
    /// Whether the generator's threads ran in real time.
    pub is_real_time: bool,
}

/// Drives one run to its end, on a thread of its own.
///
/// # Errors
/// The engine cannot be reached, or all is to end.
pub fn drive(drive: Drive<'_>, marks: &std_mpsc::Sender<Mark>) -> Result<Driven, OpenError> {
    let run = || {
        // The pacer inherits it.
        drive.core.map_or(Ok(()), measure::bind_to_core).map_err(OpenError::Core)?;
        let is_real_time = run_in_real_time();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(OpenError::System)?.block_on(Generator::run(drive, marks, is_real_time))
    };
    let driven = thread::scope(|scope| {
        let generator = thread::Builder::new().name("generator".to_owned()).spawn_scoped(scope, run);
        generator.map(|generator| generator.join())
    });
    driven.map_err(OpenError::System)?.unwrap_or(Err(OpenError::Panicked))
}

/// Only the thread that calls. Whether it could be had.
fn run_in_real_time() -> bool {
    let Ok(priority) = ThreadPriorityValue::try_from(PRIORITY) else { return false };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let priority = ThreadPriority::Crossplatform(priority);
    set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok()
}

struct Generator<'a> {
    mix: &'a Mix,
    prepared: Vec<Prepared>,
    /// Places of requests without an answer, by number.
    waiting: HashMap<u64, usize>,
    tally: Tally,
    begun: Instant,
    error_examples: Vec<String>,
}

impl<'a> Generator<'a> {
    async fn run(drive: Drive<'a>, marks: &std_mpsc::Sender<Mark>, is_real_time: bool) -> Result<Driven, OpenError> {
        let channel = connect(&drive.identity, drive.peer, &ConnectLimits::default()).await;
        let channel = channel.map_err(|error| OpenError::Engine(error.to_string()))?;
        let mut client = CorroborationClient::new(channel).max_decoding_message_size(FROM_ENGINE_BYTES_MAX);
        let (out, requests) = mpsc::unbounded_channel();
        let opened = client.corroborate_many(UnboundedReceiverStream::new(requests)).await;
        let mut answers = opened.map_err(|status| OpenError::Engine(told(&status)))?.into_inner();

        let begun = Instant::now() + LEAD;
        let stop = Arc::new(AtomicBool::new(false));
        let mut due = pacer(&drive.prepared, begun, Arc::clone(&stop))?;
        let kinds = drive.mix.kinds.iter().map(|(kind, _)| *kind);
        let mut generator = Self {
            mix: drive.mix,
            waiting: HashMap::with_capacity(1024),
            prepared: drive.prepared,
            tally: Tally::new(kinds, drive.window.clone()),
            begun,
            error_examples: Vec::new(),
        };
        let (mut out, mut overloaded, mut fault) = (Some(out), false, None);
        let mut window = WindowClock::new(begun, &drive.window);
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while !(window.is_over() && generator.waiting.is_empty()) {
            tokio::select! {
                biased;
                range = due.recv(), if out.is_some() => match range {
                    Some(range) if generator.tally.outstanding() + range.len() as u64 > drive.outstanding_max => {
                        overloaded = true;
                        stop.store(true, Ordering::Relaxed);
                        generator.tally.close(generator.now());
                        window.close(marks);
                        out = None;
                    }
                    Some(range) => generator.send(range, out.as_ref()),
                    // All has left: the engine ends the stream once all is answered.
                    None => out = None,
                },
                received = answers.message() => match received {
                    Ok(Some(received)) => generator.receive(received),
                    ended => {
                        fault = generator.ended(&ended, out.is_none());
                        break;
                    }
                },
                () = sleep_until(window.next()) => window.handle_time(marks),
                _ = looks.tick() => {
                    // Relaxed: nothing else is read because of it.
                    if drive.interrupted.load(Ordering::Relaxed) {
                        stop.store(true, Ordering::Relaxed);
                        return Err(OpenError::Interrupted);
                    }
                    if window.over_for().is_some_and(|time| time > DRAIN_MAX) {
                        break;
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        if !window.is_over() {
            // The engine was gone before its time, or had answered all.
            if fault.is_some() {
                generator.tally.close(generator.now());
            } else {
                sleep_until(window.end).await;
            }
            window.close(marks);
        }
        let now = generator.now();
        Ok(Driven {
            in_flight: generator.tally.in_flight(now),
            overloaded,
            fault,
            error_examples: generator.error_examples,
            generator_cpu: window.cpu(),
            is_real_time,
            tally: generator.tally,
        })
    }

    /// Since the first request was due at the earliest.
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Requests that are due leave.
    fn send(&mut self, range: Range<usize>, out: Option<&mpsc::UnboundedSender<Requests>>) {
        let now = self.now();
        let mut request = Vec::with_capacity(range.len());
        for place in range {
            let Some(prepared) = self.prepared.get_mut(place) else { continue };
            request.push(std::mem::take(&mut prepared.octets));
            self.waiting.insert(prepared.index, place);
            self.tally.handle_sent(now, prepared);
        }
        // That the stream has ended is told by its answers.
        let _ = out.map(|out| out.send(Requests { request }));
    }

    fn receive(&mut self, received: Answers) {
        let now = self.now();
        for answer in received.answer {
            if let Err(error) = self.receive_one(now, &answer.result) {
                self.tally.unexpected += 1;
                if self.error_examples.len() < EXAMPLES_MAX {
                    self.error_examples.push(error.to_string());
                }
            }
        }
    }

    fn receive_one(&mut self, now: Duration, octets: &[u8]) -> Result<(), AnswerError> {
        let answer = Answer::read(octets)?;
        let place = self.waiting.remove(&answer.index()?);
        let asked = place.and_then(|place| self.prepared.get(place));
        let asked = asked.ok_or_else(|| AnswerError::Id("a request that is not waited for".to_owned()))?;
        let kind = self.mix.kinds.get(asked.place).map(|(kind, _)| *kind);
        let difference = kind.and_then(|kind| answer.difference(kind));
        self.tally.handle_answer(now, asked, Judged { permits: answer.permits(), difference });
        Ok(())
    }

    /// How the stream ended, if not as it must.
    fn ended(&self, how: &Result<Option<Answers>, Status>, all_sent: bool) -> Option<String> {
        match how {
            Ok(_) if all_sent && self.waiting.is_empty() => None,
            Ok(_) => Some(format!("the engine ended the stream with {} unanswered", self.waiting.len())),
            Err(status) => Some(told(status)),
        }
    }
}

fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// When the window begins and ends, and what this process used within it.
struct WindowClock {
    begin: TokioInstant,
    end: TokioInstant,
    has_begun: bool,
    over_since: Option<Instant>,
    cpu_before: Duration,
    cpu_after: Duration,
}

impl WindowClock {
    fn new(begun: Instant, window: &Range<Duration>) -> Self {
        let (begin, end) = (TokioInstant::from_std(begun + window.start), TokioInstant::from_std(begun + window.end));
        let cpu = measure::cpu_of_process();
        Self { begin, end, has_begun: false, over_since: None, cpu_before: cpu, cpu_after: cpu }
    }

    /// When it is to be woken.
    fn next(&self) -> TokioInstant {
        match (self.has_begun, self.over_since) {
            (false, _) => self.begin,
            (true, None) => self.end,
            (true, Some(_)) => TokioInstant::now() + DRAIN_MAX,
        }
    }

    fn handle_time(&mut self, marks: &std_mpsc::Sender<Mark>) {
        if !self.has_begun {
            self.has_begun = true;
            self.cpu_before = measure::cpu_of_process();
            // Whoever watches may be gone; then there is nothing to tell.
            let _ = marks.send(Mark::Begin);
        } else if TokioInstant::now() >= self.end {
            self.close(marks);
        }
    }

    /// It is over, maybe before its time.
    fn close(&mut self, marks: &std_mpsc::Sender<Mark>) {
        if self.over_since.is_none() {
            if !self.has_begun {
                self.handle_time(marks);
            }
            self.over_since = Some(Instant::now());
            self.cpu_after = measure::cpu_of_process();
            let _ = marks.send(Mark::End);
        }
    }

    fn is_over(&self) -> bool {
        self.over_since.is_some()
    }

    fn over_for(&self) -> Option<Duration> {
        self.over_since.map(|since| since.elapsed())
    }

    fn cpu(&self) -> Duration {
        self.cpu_after.saturating_sub(self.cpu_before)
    }
}

/// A thread that says which requests are due. It ends when all are, or when it is told to.
fn pacer(
    prepared: &[Prepared],
    begun: Instant,
    stop: Arc<AtomicBool>,
) -> Result<mpsc::UnboundedReceiver<Range<usize>>, OpenError> {
    let due: Vec<Duration> = prepared.iter().map(|one| one.due).collect();
    let (out, receiver) = mpsc::unbounded_channel();
    let run = move || {
        // Whether it can be had was seen by the generator.
        let _ = run_in_real_time();
        let mut next = 0;
        // Relaxed: nothing else is read because of it.
        while let Some(first) = due.get(next).filter(|_| !stop.load(Ordering::Relaxed)) {
            let now = Instant::now().saturating_duration_since(begun);
            let until = if begun > Instant::now() { next } else { due_until(&due, next, now) };
            if until > next {
                if out.send(next..until).is_err() {
                    return;
                }
                next = until;
            } else {
                let wait = (begun + *first).saturating_duration_since(Instant::now());
                thread::sleep(wait.clamp(PACE, LOOK_EVERY));
            }
        }
    };
    thread::Builder::new().name("pacer".to_owned()).spawn(run).map_err(OpenError::System)?;
    Ok(receiver)
}

/// The first that is not due yet, or that a message has no room for.
fn due_until(due: &[Duration], next: usize, now: Duration) -> usize {
    let rest = &due[next..];
    next + rest[..rest.len().min(API_BATCH_MAX)].partition_point(|due| *due <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_answers_that_come_twice_or_were_not_waited_for_are_counted() {
        let mix = Mix::load("dns-01").expect("a mix");
        let window = Duration::ZERO..Duration::from_secs(1);
        let prepared = vec![Prepared { due: Duration::ZERO, place: 0, index: 7, octets: Vec::new() }];
        let mut generator = Generator {
            mix: &mix,
            waiting: HashMap::new(),
            prepared,
            tally: Tally::new(mix.kinds.iter().map(|(kind, _)| *kind), window),
            begun: Instant::now(),
            error_examples: Vec::new(),
        };
        generator.send(0..1, None);
        let answer = |id: &str| {
            let text = format!(r#"{{"id":"{id}","verdict":"pass","decided_by":"quorum"}}"#);
            parallax_protocol::wire::api::Answer { result: text.into_bytes(), ..Default::default() }
        };
        let mut unreadable = answer("r7");
        unreadable.result = b"{".to_vec();
        generator.receive(Answers { answer: vec![answer("r7"), answer("r7"), answer("r8"), unreadable] });
        assert_eq!((generator.tally.answered_in_all, generator.tally.unexpected), (1, 3));
        assert_eq!(generator.error_examples.len(), 3);
    }

    #[test]
    fn ok_what_is_due_leaves_and_no_more_than_a_message_holds() {
        let due: Vec<Duration> = (0..1000).map(Duration::from_millis).collect();
        assert_eq!(due_until(&due, 0, Duration::from_micros(2_500)), 3);
        assert_eq!(due_until(&due, 3, Duration::from_micros(2_999)), 3);
        assert_eq!(due_until(&due, 3, Duration::from_secs(9)), 3 + API_BATCH_MAX);
        assert_eq!(due_until(&due, 999, Duration::from_secs(9)), 1000);
    }

    #[test]
    fn ok_the_pacer_says_everything_once_in_order_and_not_too_early() {
        let prepared = |ms| Prepared { due: Duration::from_millis(ms), place: 0, index: ms, octets: Vec::new() };
        let prepared: Vec<Prepared> = (0..40).map(prepared).collect();
        let begun = Instant::now() + Duration::from_millis(5);
        let mut due = pacer(&prepared, begun, Arc::default()).expect("a thread");
        let mut next = 0;
        while let Some(range) = due.blocking_recv() {
            assert_eq!(range.start, next);
            assert!(begun.elapsed() >= prepared[range.end - 1].due, "{range:?} at {:?}", begun.elapsed());
            next = range.end;
        }
        assert_eq!(next, 40);
    }

    #[test]
    fn ok_the_pacer_ends_when_it_is_told_to() {
        let far = Prepared { due: Duration::from_secs(3_600), place: 0, index: 0, octets: Vec::new() };
        let stop = Arc::new(AtomicBool::new(false));
        let mut due = pacer(&[far], Instant::now(), Arc::clone(&stop)).expect("a thread");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(due.blocking_recv(), None);
    }
}
