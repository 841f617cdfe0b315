//! The node's end of the link to an engine.
//!
//! One stream is one engine's work while it lasts: a greeting each way, then batches of tasks in and batches of reports
//! out. How many tasks may be under way is said in the greeting; every report makes room for one.
//!
//! Invariant: no task is carried out that was made under another setup than the greeting's, or for another perspective,
//! or that goes beyond the bounds of a plan.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parallax_protocol::{
    AttemptId, BATCH_ITEMS_MAX, LINK_FORM, Report, Task,
    wire::link::{
        self, FromEngine, FromNode, Goodbye, Hello, Keep, Packets, Reports, Tasks, Welcome, from_engine, from_node,
    },
};
use parallax_validation::{
    base::perspective::Rir,
    observation::{DnssecMode, Observation},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    desk::{Desk, LookError},
    node::{Owner, TakePackets},
};

/// How often a stream looks whether the node has ended.
const TICK: Duration = Duration::from_secs(1);
/// Reports in one message are cut off here, octets.
const MESSAGE_BYTES: usize = 1 << 20;
/// Captures that wait for the stream; what is more is dropped.
const CAPTURES_QUEUED_MAX: usize = 64;
/// Attempts whose packets are asked for in one message.
pub const KEEP_ATTEMPTS_MAX: usize = 256;
/// The longest report, octets: no more than an entry of a journal holds.
pub const REPORT_BYTES_MAX: usize = 3 << 20;
/// Messages that wait for the stream.
const MESSAGES_QUEUED_MAX: usize = 4;
/// The longest message from an engine, octets: a full batch of the longest plans.
pub const FROM_ENGINE_BYTES_MAX: usize = 16 << 20;

/// Serves the link.
pub struct LinkServer {
    desk: Arc<Desk>,
    welcome: Welcome,
    rir: Rir,
    ends: Ends,
}

/// What ends links: each says goodbye, and ends when what is under way is reported.
#[derive(Clone)]
pub struct Ends {
    /// Holds true once the node is to stop.
    pub drain: watch::Receiver<bool>,
    /// Changes when engines are to be verified anew.
    pub readings: watch::Receiver<u64>,
}

impl Ends {
    async fn wait(&mut self) {
        // An error says that the sender is gone, and with it the program's reason to serve.
        tokio::select! {
            _ = self.drain.wait_for(|drain| *drain) => {}
            _ = self.readings.changed() => {}
        }
    }
}

impl LinkServer {
    /// For one node, which introduces itself so.
    #[must_use]
    pub fn new(desk: Arc<Desk>, rir: Rir, welcome: Welcome, ends: Ends) -> Self {
        let welcome = Welcome { form: LINK_FORM, rir: rir.to_string(), ..welcome };
        Self { desk, welcome, rir, ends }
    }

    fn check(&self, hello: &Hello) -> Result<(), Status> {
        let differs = |what: &str, theirs: &str, ours: &str| {
            let theirs: String = theirs.chars().take(100).flat_map(char::escape_default).collect();
            Err(Status::failed_precondition(format!("{what}: the engine says {theirs}, this node {ours}")))
        };
        if hello.form != LINK_FORM {
            return differs("form", &hello.form.to_string(), &LINK_FORM.to_string());
        }
        if hello.perspective != self.welcome.perspective {
            return differs("perspective", &hello.perspective, &self.welcome.perspective);
        }
        if hello.rir != self.welcome.rir {
            return differs("rir", &hello.rir, &self.welcome.rir);
        }
        let is_digest = hello.setup.len() == 64 && hello.setup.bytes().all(|b| b.is_ascii_hexdigit());
        if is_digest { Ok(()) } else { Err(Status::invalid_argument("setup: 64 hexadecimal digits are wanted")) }
    }
}

#[tonic::async_trait]
impl link::link_server::Link for LinkServer {
    type WorkStream = ReceiverStream<Result<FromNode, Status>>;

    async fn work(&self, request: Request<Streaming<FromEngine>>) -> Result<Response<Self::WorkStream>, Status> {
        // Of changes from now on: who comes later is verified by what is believed then.
        let mut ends = self.ends.clone();
        ends.readings.mark_unchanged();
        let mut incoming = request.into_inner();
        let hello = match incoming.message().await? {
            Some(FromEngine { what: Some(from_engine::What::Hello(hello)) }) => hello,
            Some(_) | None => return Err(Status::invalid_argument("the first message is the greeting")),
        };
        self.check(&hello)?;
        let (out, messages) = mpsc::channel(MESSAGES_QUEUED_MAX);
        let welcome = self.welcome.clone();
        let session = Session {
            owner: self.desk.open_session(),
            desk: Arc::clone(&self.desk),
            setup: hello.setup.as_str().into(),
            perspective: hello.perspective,
            rir: self.rir,
            in_flight_max: welcome.tasks_in_flight_max as usize,
            out,
            ends,
        };
        let _ = session.out.send(Ok(message(from_node::What::Welcome(welcome)))).await;
        tokio::spawn(session.run(incoming));
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

fn message(what: from_node::What) -> FromNode {
    FromNode { what: Some(what) }
}

/// A place in a channel once nothing else waits there; none if nobody reads it any more.
async fn place_behind_nothing<T>(out: &mpsc::Sender<T>) -> Option<mpsc::Permit<'_, T>> {
    out.reserve_many(out.max_capacity()).await.ok()?.next()
}

/// What is reported where nothing was looked up: it confirms nothing.
fn nothing_seen() -> Observation {
    Observation {
        started: Timestamp::now(),
        elapsed_us: 0,
        control: None,
        derivation: Vec::new(),
        caa: Vec::new(),
        hints: Vec::new(),
        budget: None,
        dnssec: DnssecMode::None,
        links: Vec::new(),
        diagnosis: None,
        survey: None,
    }
}

struct Session {
    desk: Arc<Desk>,
    /// Whose its tasks are: their packets are for this stream alone.
    owner: Owner,
    setup: Arc<str>,
    perspective: String,
    rir: Rir,
    in_flight_max: usize,
    out: mpsc::Sender<Result<FromNode, Status>>,
    ends: Ends,
}

impl Session {
    /// Until the engine goes away, breaks the rules, or the node ends. What is under way then is carried out and
    /// dropped.
    async fn run(self, mut incoming: Streaming<FromEngine>) {
        let (reports_in, mut reports) = mpsc::unbounded_channel();
        let (captures_in, mut captures) = mpsc::channel(CAPTURES_QUEUED_MAX);
        let take: TakePackets = Arc::new(move |attempt, capture| {
            // Nobody waits for them; an engine that reads too slowly gets fewer.
            let _ = captures_in.try_send((attempt, capture));
        });
        // One that waits until it keeps no report waiting.
        let mut capture: Option<(AttemptId, Vec<u8>)> = None;
        let mut in_flight = 0_usize;
        let (mut open, mut goodbye) = (true, false);
        let mut ends = self.ends.clone();
        let mut batch = Vec::with_capacity(BATCH_ITEMS_MAX);
        let mut tick = tokio::time::interval(TICK);
        while open || in_flight > 0 {
            let ended = tokio::select! {
                // Reports first: they make room.
                biased;
                count = reports.recv_many(&mut batch, BATCH_ITEMS_MAX) => {
                    in_flight -= count;
                    self.report(batch.drain(..)).await
                }
                received = incoming.message(), if open => match received {
                    Ok(Some(FromEngine { what: Some(from_engine::What::Tasks(tasks)) })) => {
                        self.take(tasks, &mut in_flight, &reports_in)
                    }
                    Ok(Some(FromEngine { what: Some(from_engine::What::Keep(keep)) })) => self.keep(&keep, &take),
                    Ok(Some(_)) => Err(Some(Status::invalid_argument("only tasks follow the greeting"))),
                    // It says that nothing more comes; what is under way is still reported.
                    Ok(None) => { open = false; Ok(()) }
                    Err(_) => Err(None),
                },
                // Its sender is held here.
                Some(next) = captures.recv(), if capture.is_none() => { capture = Some(next); Ok(()) }
                place = place_behind_nothing(&self.out), if capture.is_some() => match (place, capture.take()) {
                    (Some(place), Some((attempt, capture))) => {
                        let packets = Packets { attempt: attempt.0.to_be_bytes().into(), capture };
                        place.send(Ok(message(from_node::What::Packets(packets))));
                        Ok(())
                    }
                    _ => Err(None),
                },
                () = self.out.closed() => Err(None),
                // Its sender lives as long as the program serves.
                // The engine closes its half in turn; what it sent before is still carried out.
                () = ends.wait(), if !goodbye => {
                    goodbye = true;
                    self.out.send(Ok(message(from_node::What::Goodbye(Goodbye {})))).await.map_err(|_| None)
                }
                _ = tick.tick() => match self.desk.has_ended() {
                    true => Err(Some(Status::unavailable(LookError::Stopped.to_string()))),
                    false => Ok(()),
                },
            };
            if let Err(status) = ended {
                if let Some(status) = status {
                    let _ = self.out.send(Err(status)).await;
                }
                return;
            }
        }
    }

    fn take(
        &self,
        tasks: Tasks,
        in_flight: &mut usize,
        reports: &mpsc::UnboundedSender<Report>,
    ) -> Result<(), Option<Status>> {
        if *in_flight + tasks.task.len() > self.in_flight_max {
            let text = format!("more than {} tasks under way", self.in_flight_max);
            return Err(Some(Status::resource_exhausted(text)));
        }
        let tasks: Result<Vec<Task>, Status> = tasks.task.iter().map(|json| self.read(json)).collect();
        let tasks = tasks.map_err(Some)?;
        *in_flight += tasks.len();
        // One that goes beyond the bounds costs itself alone: whoever made it may have been led to by a stranger.
        let (tasks, beyond): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(|task| task.plan.check().is_ok());
        for Task { header, perspective, .. } in beyond {
            let _ = reports.send(Report { header, perspective, rir: self.rir, observation: Box::new(nothing_seen()) });
        }
        let gone = |error: LookError| Some(Status::unavailable(error.to_string()));
        self.desk.carry_out(self.owner, tasks, reports).map_err(gone)
    }

    fn keep(&self, keep: &Keep, take: &TakePackets) -> Result<(), Option<Status>> {
        if keep.attempt.len() > KEEP_ATTEMPTS_MAX {
            return Err(Some(Status::invalid_argument("packets of too many attempts are asked for")));
        }
        for octets in &keep.attempt {
            let octets = octets.as_slice().try_into();
            let octets = octets.map_err(|_| Some(Status::invalid_argument("an attempt has sixteen octets")))?;
            self.desk.ask_for_packets(self.owner, AttemptId(u128::from_be_bytes(octets)), take);
        }
        Ok(())
    }

    fn read(&self, json: &[u8]) -> Result<Task, Status> {
        let mut task: Task =
            serde_json::from_slice(json).map_err(|error| Status::invalid_argument(format!("a task: {error}")))?;
        if task.header.setup != self.setup || task.perspective.as_str() != self.perspective {
            return Err(Status::invalid_argument("a task of another setup or for another perspective"));
        }
        // One text for all of a stream.
        task.header.setup = Arc::clone(&self.setup);
        Ok(task)
    }

    /// In messages of bounded length.
    async fn report(&self, reports: impl Iterator<Item = Report>) -> Result<(), Option<Status>> {
        let mut report = Vec::new();
        let mut bytes = 0;
        for one in reports {
            let mut json = serde_json::to_vec(&one).map_err(|error| Some(Status::internal(error.to_string())))?;
            if json.len() > REPORT_BYTES_MAX {
                // No journal could keep it. That it saw nothing is a failure, which is the safe side.
                let header = one.header.clone();
                let observation = Box::new(nothing_seen());
                let small = Report { header, perspective: one.perspective.clone(), rir: one.rir, observation };
                json = serde_json::to_vec(&small).map_err(|error| Some(Status::internal(error.to_string())))?;
            }
            bytes += json.len();
            report.push(json);
            if bytes >= MESSAGE_BYTES {
                bytes = 0;
                self.send(std::mem::take(&mut report)).await?;
            }
        }
        if report.is_empty() { Ok(()) } else { self.send(report).await }
    }

    async fn send(&self, report: Vec<Vec<u8>>) -> Result<(), Option<Status>> {
        let reports = message(from_node::What::Reports(Reports { report }));
        self.out.send(Ok(reports)).await.map_err(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_capture_waits_until_nothing_else_does() {
        let (out, mut messages) = mpsc::channel(MESSAGES_QUEUED_MAX);
        out.send(1).await.expect("room");
        out.send(2).await.expect("room");
        let soon = Duration::from_millis(20);
        for _ in 0..2 {
            assert!(tokio::time::timeout(soon, place_behind_nothing(&out)).await.is_err(), "a report is before it");
            // Who waited in vain is in nobody's way.
            out.try_send(3).expect("room");
            messages.recv().await.expect("the first");
        }
        while !messages.is_empty() {
            messages.recv().await.expect("the rest");
        }
        place_behind_nothing(&out).await.expect("a place").send(4);
        assert_eq!(messages.recv().await, Some(4));
        drop(messages);
        assert!(place_behind_nothing(&out).await.is_none());
    }
}
