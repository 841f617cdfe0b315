//! The way to a perspective node elsewhere: a link that is made again whenever it breaks.
//!
//! Tasks that were under way when a link broke are lost with it: nobody answers them, so the attempts' own time ends the
//! wait. What was not sent yet goes out over the next link. When certificates are read again, here or there, a new link
//! is made, so that both show themselves by what is believed now; over the old one only reports come.
//!
//! Invariant: a node that is not whom the settings mean, or that works under other settings, is given nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam::channel::Sender;
use parallax_node::{Full, Laboratory, NodeConfig, TakePackets, link::KEEP_ATTEMPTS_MAX};
use parallax_protocol::{
    AttemptId, BATCH_ITEMS_MAX, LINK_FORM, Report, Task,
    transport::{ConnectLimits, Identity, Peer, connect},
    wire::link::{
        FromEngine, FromNode, Hello, Keep, Packets, Tasks, Welcome, from_engine, from_node, link_client::LinkClient,
    },
};
use parallax_validation::{
    base::perspective::{PerspectiveId, Rir},
    lookup::Dnssec,
};
use rand::RngExt as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::link::Way;
use crate::{
    config::Config,
    log::{Event, Log},
};

/// The first wait before a link is made again, milliseconds; twice as long each time.
const RETRY_MS: u64 = 100;
/// The longest wait.
const RETRY_MS_MAX: u64 = 5_000;
/// How often a node is asked whether it is still there, and how long it may take to say so, milliseconds: a network that
/// swallows everything is noticed within the two.
const PING_MS: u64 = 5_000;
/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(10);
/// Messages that wait for the stream.
const MESSAGES_QUEUED_MAX: usize = 4;
/// The longest message from a node, octets: reports are cut off at a mebibyte, and the last may be three.
const FROM_NODE_BYTES_MAX: usize = 8 << 20;
/// Batches of reports that wait for the collector.
const REPORTS_QUEUED_MAX: usize = 64;
/// Attempts whose packets are to be asked for, and those that were and have none yet; more are left out.
const ASKS_MAX: usize = 1024;
/// How long reports over a replaced link are waited for: longer than any task takes.
const WIND_UP: Duration = Duration::from_secs(150);

/// What a node must say of itself.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Which perspective it is.
    pub perspective: PerspectiveId,
    /// Whether it is the primary.
    pub primary: bool,
    /// In which region.
    pub rir: Rir,
    /// The one resolver it asks: its place was checked for distance (req A10).
    pub resolver: String,
    /// Who validates DNSSEC: `local`, `resolver` or `none`.
    pub dnssec: &'static str,
    /// SHA-256 of the trust anchors, if it validates itself; empty otherwise.
    pub trust_anchors: String,
    /// Digest of the engine's setup.
    pub setup: String,
    /// Whether the engine is a laboratory's too.
    pub laboratory: bool,
}

impl Expectation {
    /// What the settings say of a perspective's node.
    #[must_use]
    pub fn of(config: &Config, node: &NodeConfig) -> Self {
        let (dnssec, trust_anchors) = match &node.dnssec {
            Dnssec::Local(_) => ("local", config.trust_anchors.clone()),
            Dnssec::Resolver => ("resolver", String::new()),
            Dnssec::None => ("none", String::new()),
        };
        Self {
            primary: config.rules.primary().id == node.perspective,
            perspective: node.perspective.clone(),
            rir: node.rir,
            resolver: node.resolver.to_string(),
            dnssec,
            trust_anchors,
            setup: config.rules.digest().to_owned(),
            laboratory: node.laboratory != Laboratory::default(),
        }
    }

    /// Whether a node is whom it means.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, welcome: &Welcome) -> Result<(), String> {
        let (perspective, rir) = (self.perspective.to_string(), self.rir.to_string());
        let form = (LINK_FORM.to_string(), welcome.form.to_string());
        for (what, ours, theirs) in [
            ("form", &form.0, &form.1),
            ("perspective", &perspective, &welcome.perspective),
            ("rir", &rir, &welcome.rir),
            ("resolver", &self.resolver, &welcome.resolver),
            ("dnssec", &self.dnssec.to_owned(), &welcome.dnssec),
            ("trust anchors", &self.trust_anchors, &welcome.trust_anchors),
        ] {
            if ours != theirs {
                let theirs: String = theirs.chars().take(100).flat_map(char::escape_default).collect();
                return Err(format!("{what}: the settings say '{ours}', the node says '{theirs}'"));
            }
        }
        if welcome.laboratory && !self.laboratory {
            return Err("the node is set up as a laboratory's, and this engine is not".to_owned());
        }
        let least = 2 * BATCH_ITEMS_MAX;
        if (welcome.tasks_in_flight_max as usize) < least {
            return Err(format!("tasks_in_flight_max: {} is below {least}", welcome.tasks_in_flight_max));
        }
        Ok(())
    }
}

/// Counters of a link.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// Whether it is the primary's: nothing can be confirmed without it.
    pub primary: bool,
    /// Whether it stands.
    pub up: AtomicBool,
    /// Tasks handed over.
    pub tasks: AtomicU64,
    /// Reports that came back.
    pub reports: AtomicU64,
    /// Reports that could not be read.
    pub unreadable: AtomicU64,
    /// Times it was made.
    pub made: AtomicU64,
    /// Times it broke, or could not be made.
    pub broken: AtomicU64,
}

/// What link and dispatcher share.
struct Shared {
    /// Tasks that may still be handed over; 0 while there is no link.
    room: AtomicUsize,
    stats: Arc<LinkStats>,
}

/// Who takes what a node says.
pub(super) struct Takers {
    pub(super) reports: Sender<Vec<Report>>,
    /// If packets are wanted.
    pub(super) packets: Option<TakePackets>,
}

/// The dispatcher's side.
pub(super) struct Remote {
    tasks: mpsc::UnboundedSender<Vec<Task>>,
    /// If packets are wanted.
    asks: Option<mpsc::Sender<AttemptId>>,
    shared: Arc<Shared>,
    /// Dropped with it, which the link notices.
    _needed: watch::Sender<()>,
}

impl Remote {
    /// Begins to make the link on the given runtime.
    pub(super) fn open(
        runtime: &tokio::runtime::Handle,
        identity: Arc<Identity>,
        peer: Peer,
        expectation: Expectation,
        Takers { reports, packets }: Takers,
        log: Arc<dyn Log>,
    ) -> (Self, Arc<LinkStats>) {
        let stats = Arc::new(LinkStats { primary: expectation.primary, ..LinkStats::default() });
        let shared = Arc::new(Shared { room: AtomicUsize::new(0), stats: Arc::clone(&stats) });
        let (tasks_in, tasks_out) = mpsc::unbounded_channel();
        let (asks_in, asks) = mpsc::channel(ASKS_MAX);
        let asks_in = packets.is_some().then_some(asks_in);
        let (needed_in, needed) = watch::channel(());
        let line = Line {
            identity,
            peer,
            expectation,
            reports,
            log,
            shared: Arc::clone(&shared),
            tasks: tasks_out,
            unsent: VecDeque::new(),
            asking: Asking {
                take: packets,
                keeps: false,
                asks,
                to_ask: Vec::new(),
                asked: VecDeque::new(),
                forgotten: 0,
            },
            needed,
        };
        runtime.spawn(line.run());
        (Self { tasks: tasks_in, asks: asks_in, shared, _needed: needed_in }, stats)
    }
}

impl Way for Remote {
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        let count = batch.len();
        // If the link breaks just now, the batch goes out over the next one, perhaps without having taken room there: a
        // batch's room is kept free for that.
        let taken = self.shared.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| room.checked_sub(count));
        if taken.is_err() {
            return Err(Full(batch));
        }
        self.shared.stats.tasks.fetch_add(count as u64, Ordering::Relaxed);
        self.tasks.send(batch).map_err(|unsent| Full(unsent.0))
    }

    fn room(&self) -> usize {
        self.shared.room.load(Ordering::Acquire)
    }

    /// It is made again and again.
    fn has_ended(&self) -> bool {
        false
    }

    /// If too many wait to be asked for, this one is not.
    fn ask_for_packets(&mut self, attempt: AttemptId) -> bool {
        self.asks.as_ref().is_some_and(|asks| asks.try_send(attempt).is_ok())
    }
}

/// Packets that are to be asked for.
struct Asking {
    /// Who takes them; none if they are not wanted.
    take: Option<TakePackets>,
    /// Whether the node has any.
    keeps: bool,
    asks: mpsc::Receiver<AttemptId>,
    to_ask: Vec<AttemptId>,
    /// Those that were asked for, the first of them first.
    asked: VecDeque<AttemptId>,
    /// How many more were, which packets may still come of.
    forgotten: u64,
}

impl Asking {
    /// A link is made. What was asked for over another is for that one alone.
    fn begin(&mut self, keeps: bool) {
        self.keeps = keeps;
        self.to_ask.clear();
        self.asked.clear();
        self.forgotten = 0;
    }

    /// Takes in what is to be asked for.
    fn add(&mut self, attempt: AttemptId) {
        if self.keeps {
            self.to_ask.push(attempt);
        }
    }

    /// The message that asks for them.
    fn message(&mut self) -> FromEngine {
        let attempt = self.to_ask.iter().map(|attempt| attempt.0.to_be_bytes().into()).collect();
        self.asked.extend(self.to_ask.drain(..));
        let beyond = self.asked.len().saturating_sub(ASKS_MAX);
        self.asked.drain(..beyond);
        self.forgotten += beyond as u64;
        FromEngine { what: Some(from_engine::What::Keep(Keep { attempt })) }
    }

    /// Passes packets on, once, if they are of an attempt that they were asked of.
    ///
    /// # Errors
    /// They were not asked for.
    fn take(&mut self, packets: Packets) -> Result<(), String> {
        let attempt = packets.attempt.as_slice().try_into().map(u128::from_be_bytes).map(AttemptId);
        let at = attempt.ok().and_then(|attempt| self.asked.iter().position(|asked| *asked == attempt));
        match (at.and_then(|at| self.asked.remove(at)), &self.take) {
            (Some(attempt), Some(take)) => take(attempt, packets.capture),
            // Of one that is not known any more, or of none; as many as that they may be.
            _ if self.forgotten > 0 => self.forgotten -= 1,
            _ => return Err("the node gives packets that it was not asked for".to_owned()),
        }
        Ok(())
    }
}

/// The link's own side.
struct Line {
    identity: Arc<Identity>,
    peer: Peer,
    expectation: Expectation,
    reports: Sender<Vec<Report>>,
    log: Arc<dyn Log>,
    shared: Arc<Shared>,
    tasks: mpsc::UnboundedReceiver<Vec<Task>>,
    /// Batches that were handed over and not sent.
    unsent: VecDeque<Vec<Task>>,
    asking: Asking,
    /// Changes when the dispatcher is gone.
    needed: watch::Receiver<()>,
}

/// A link that stands.
struct Standing {
    out: mpsc::Sender<FromEngine>,
    incoming: Streaming<FromNode>,
    /// Tasks that were sent over it and not reported.
    under_way: usize,
}

/// Why a link ended.
enum End {
    /// Nobody needs it any more.
    Done,
    /// It broke.
    Broken(String),
    /// Another is to be made; over this one only reports come.
    Another(Standing),
}

impl Line {
    async fn run(mut self) {
        let mut failures = 0_u32;
        let mut needed = self.needed.clone();
        // What was last told, so that a node that stays away is not told about again and again.
        let mut told = None;
        loop {
            // Of changes from before it is made on.
            let readings = self.identity.readings();
            let made = tokio::select! {
                made = self.make() => made,
                _ = needed.changed() => return,
            };
            let why = match made {
                Ok((standing, welcome)) => {
                    (failures, told) = (0, None);
                    self.asking.begin(welcome.keeps_packets);
                    let perspective = &self.expectation.perspective;
                    self.log.tell(&Event::LinkUp { perspective, software: &welcome.software, driver: &welcome.driver });
                    match self.work(standing, welcome.tasks_in_flight_max as usize - BATCH_ITEMS_MAX, readings).await {
                        End::Done => return,
                        End::Broken(why) => why,
                        End::Another(old) => {
                            self.log.tell(&Event::LinkRenewed { perspective: &self.expectation.perspective });
                            tokio::spawn(wind_up(old, self.reports.clone(), Arc::clone(&self.shared.stats)));
                            continue;
                        }
                    }
                }
                Err(why) => why,
            };
            self.shared.stats.broken.fetch_add(1, Ordering::Relaxed);
            if told.as_ref() != Some(&why) {
                self.log.tell(&Event::LinkDown { perspective: &self.expectation.perspective, why: &why });
                told = Some(why);
            }
            let wait = (RETRY_MS << failures.min(10)).min(RETRY_MS_MAX);
            failures += 1;
            let wait = rand::rng().random_range(wait / 2..=wait);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                _ = needed.changed() => return,
            }
        }
    }

    async fn make(&self) -> Result<(Standing, Welcome), String> {
        let limits = ConnectLimits { ping_ms: PING_MS, ping_timeout_ms: PING_MS, ..ConnectLimits::default() };
        let greeting = async {
            let channel = connect(&self.identity, &self.peer, &limits).await.map_err(|error| error.to_string())?;
            let mut client = LinkClient::new(channel).max_decoding_message_size(FROM_NODE_BYTES_MAX);
            let (out, messages) = mpsc::channel(MESSAGES_QUEUED_MAX);
            let hello = Hello {
                form: LINK_FORM,
                software: concat!("parallax ", env!("CARGO_PKG_VERSION")).to_owned(),
                setup: self.expectation.setup.clone(),
                perspective: self.expectation.perspective.to_string(),
                rir: self.expectation.rir.to_string(),
            };
            let hello = FromEngine { what: Some(from_engine::What::Hello(hello)) };
            out.send(hello).await.map_err(|error| error.to_string())?;
            let stream = client.work(ReceiverStream::new(messages)).await;
            let mut incoming = stream.map_err(|status| unanswered(&status))?.into_inner();
            let welcome = match incoming.message().await.map_err(|status| said(&status))? {
                Some(FromNode { what: Some(from_node::What::Welcome(welcome)) }) => welcome,
                Some(_) | None => return Err("the node does not introduce itself".to_owned()),
            };
            self.expectation.check(&welcome)?;
            Ok((Standing { out, incoming, under_way: 0 }, welcome))
        };
        match tokio::time::timeout(GREETING, greeting).await {
            Ok(made) => made,
            Err(_) => Err("the node does not answer".to_owned()),
        }
    }

    /// Tasks out and reports back, until one of the ends has enough.
    async fn work(&mut self, mut standing: Standing, room: usize, mut readings: watch::Receiver<u64>) -> End {
        // What was handed over while there was no link goes out first.
        while let Ok(batch) = self.tasks.try_recv() {
            self.unsent.push_back(batch);
        }
        let taken: usize = self.unsent.iter().map(Vec::len).sum();
        self.shared.room.store(room.saturating_sub(taken), Ordering::Release);
        self.shared.stats.made.fetch_add(1, Ordering::Relaxed);
        self.shared.stats.up.store(true, Ordering::Relaxed);
        let mut needed = self.needed.clone();
        let end = loop {
            // Never waits for the node to read without reading what it says: the two would wait for each other.
            tokio::select! {
                batch = self.tasks.recv(), if self.unsent.is_empty() => match batch {
                    Some(batch) => self.unsent.push_back(batch),
                    // Whoever was asked has answered or had its time.
                    None => break Some(End::Done),
                },
                place = standing.out.reserve(), if !self.unsent.is_empty() => match (place, self.unsent.pop_front()) {
                    (Ok(place), Some(batch)) => match tasks_message(&batch) {
                        Some(message) => {
                            standing.under_way += batch.len();
                            place.send(message);
                        }
                        None => break Some(End::Broken("a task cannot be written".to_owned())),
                    },
                    (_, unsent) => {
                        self.unsent.extend(unsent);
                        break Some(End::Broken("the node takes nothing more".to_owned()));
                    }
                },
                // Nothing more is asked for, or ever was; what ends a link is seen elsewhere.
                Some(attempt) = self.asking.asks.recv(), if self.asking.to_ask.len() < KEEP_ATTEMPTS_MAX => {
                    self.asking.add(attempt);
                }
                place = standing.out.reserve(), if self.unsent.is_empty() && !self.asking.to_ask.is_empty() => match place {
                    Ok(place) => place.send(self.asking.message()),
                    Err(_) => break Some(End::Broken("the node takes nothing more".to_owned())),
                },
                received = standing.incoming.message() => match take(received, &mut standing.under_way, &self.shared.stats) {
                    Ok(Heard::Reports(reports, count)) => {
                        self.shared.room.fetch_add(count, Ordering::AcqRel);
                        if !pass_on(&self.reports, reports).await {
                            break Some(End::Done);
                        }
                    }
                    Ok(Heard::Packets(packets)) => if let Err(why) = self.asking.take(packets) {
                        break Some(End::Broken(why));
                    },
                    Ok(Heard::Goodbye) => break None,
                    Ok(Heard::End) => break Some(End::Broken("the node ended the link".to_owned())),
                    Err(why) => break Some(End::Broken(why)),
                },
                // What is believed has changed: the node is to show itself again.
                _ = readings.changed() => break None,
                _ = needed.changed() => break Some(End::Done),
            }
        };
        self.shared.room.store(0, Ordering::Release);
        self.shared.stats.up.store(false, Ordering::Relaxed);
        end.unwrap_or(End::Another(standing))
    }
}

/// What a node says over a link that stands.
enum Heard {
    /// Reports that can be read, and how many came in all.
    Reports(Vec<Report>, usize),
    /// Packets that it was asked for.
    Packets(Packets),
    /// It wants another link.
    Goodbye,
    /// Nothing more.
    End,
}

fn take(
    received: Result<Option<FromNode>, tonic::Status>,
    under_way: &mut usize,
    stats: &LinkStats,
) -> Result<Heard, String> {
    match received.map_err(|status| said(&status))?.map(|message| message.what) {
        None => Ok(Heard::End),
        Some(Some(from_node::What::Goodbye(_))) => Ok(Heard::Goodbye),
        Some(Some(from_node::What::Packets(packets))) => Ok(Heard::Packets(packets)),
        Some(Some(from_node::What::Reports(reports))) => {
            let count = reports.report.len();
            *under_way =
                under_way.checked_sub(count).ok_or_else(|| "the node reports more than it was asked".to_owned())?;
            // One that cannot be read is lost, and its attempt waits in vain; the others are not.
            let read: Vec<Report> =
                reports.report.iter().filter_map(|json| serde_json::from_slice(json).ok()).collect();
            stats.reports.fetch_add(read.len() as u64, Ordering::Relaxed);
            stats.unreadable.fetch_add((count - read.len()) as u64, Ordering::Relaxed);
            Ok(Heard::Reports(read, count))
        }
        Some(Some(from_node::What::Welcome(_)) | None) => Err("the node says what it should not".to_owned()),
    }
}

/// To the collector, once it has room: a node that says much is not read faster than it is understood. False if the
/// collector is gone.
async fn pass_on(reports: &Sender<Vec<Report>>, batch: Vec<Report>) -> bool {
    while reports.len() > REPORTS_QUEUED_MAX {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reports.send(batch).is_ok()
}

/// Takes what is still reported over a link that another has replaced.
async fn wind_up(standing: Standing, reports: Sender<Vec<Report>>, stats: Arc<LinkStats>) {
    let Standing { out, mut incoming, mut under_way } = standing;
    // The node sees that nothing follows.
    drop(out);
    let rest = async {
        while under_way > 0 {
            let received = incoming.message().await;
            match take(received, &mut under_way, &stats) {
                Ok(Heard::Reports(batch, _)) => {
                    if !pass_on(&reports, batch).await {
                        return;
                    }
                }
                // Asked for over a link that is no more.
                Ok(Heard::Packets(_)) => {}
                Ok(Heard::Goodbye | Heard::End) | Err(_) => return,
            }
        }
    };
    // Longer nobody waits for them.
    let _ = tokio::time::timeout(WIND_UP, rest).await;
}

/// A status in words; it came from outside.
fn said(status: &tonic::Status) -> String {
    let message: String = status.message().chars().take(300).flat_map(char::escape_default).collect();
    format!("{message} ({:?})", status.code())
}

/// Why the first call on a connection failed. With TLS 1.3 whoever refuses our certificate does so once the connection
/// stands for us (RFC 8446 §4.4.2.4), and what is left of that here is a connection that is closed.
fn unanswered(status: &tonic::Status) -> String {
    let said = said(status);
    // A status that the peer sent has no source.
    if std::error::Error::source(status).is_none() {
        return said;
    }
    format!(
        "the node closed the connection before it said anything; its log says why if it refused the certificate: {said}"
    )
}

fn tasks_message(batch: &[Task]) -> Option<FromEngine> {
    let task = batch.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>().ok()?;
    Some(FromEngine { what: Some(from_engine::What::Tasks(Tasks { task })) })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn packets_are_taken_once_and_only_those_that_were_asked_for() {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&taken);
        let take: TakePackets = Arc::new(move |attempt, capture| into.lock().expect("alone").push((attempt, capture)));
        let (_asks_in, asks) = mpsc::channel(1);
        let mut asking =
            Asking { take: Some(take), keeps: true, asks, to_ask: Vec::new(), asked: VecDeque::new(), forgotten: 0 };
        let packets = |attempt: u128| Packets { attempt: attempt.to_be_bytes().into(), capture: vec![attempt as u8] };
        asking.take(packets(1)).expect_err("nothing was asked for");
        asking.add(AttemptId(1));
        asking.take(packets(1)).expect_err("that is not yet asked for");
        let Some(from_engine::What::Keep(keep)) = asking.message().what else { panic!("no question") };
        assert_eq!(keep.attempt, [1_u128.to_be_bytes()]);
        for packets in [packets(2), Packets { attempt: vec![1], capture: vec![9] }] {
            asking.take(packets).expect_err("that was never asked for");
        }
        asking.take(packets(1)).expect("asked for");
        asking.take(packets(1)).expect_err("once");
        assert_eq!(*taken.lock().expect("alone"), [(AttemptId(1), vec![1])]);
        for attempt in 0..2 * ASKS_MAX as u128 {
            asking.add(AttemptId(attempt));
            asking.message();
        }
        assert_eq!(asking.asked.len(), ASKS_MAX, "who never answers costs no more");
        for attempt in 0..ASKS_MAX as u128 {
            asking.take(packets(attempt)).expect("it was asked for, if that is not known any more");
        }
        asking.take(packets(0)).expect_err("more than were asked for");
        assert_eq!(taken.lock().expect("alone").len(), 1, "those that are not known any more are not taken");
        asking.begin(false);
        asking.add(AttemptId(3));
        assert!(asking.to_ask.is_empty(), "a node that has none is not asked");
    }

    #[test]
    fn what_was_asked_over_a_link_is_for_that_link_alone() {
        let take: TakePackets = Arc::new(|_, _| {});
        let (_asks_in, asks) = mpsc::channel(1);
        let mut asking =
            Asking { take: Some(take), keeps: true, asks, to_ask: Vec::new(), asked: VecDeque::new(), forgotten: 0 };
        let packets = |attempt: u128| Packets { attempt: attempt.to_be_bytes().into(), capture: Vec::new() };
        for attempt in 0..ASKS_MAX as u128 + 1 {
            asking.add(AttemptId(attempt));
            asking.message();
        }
        asking.add(AttemptId(u128::MAX));
        asking.begin(true);
        assert!(asking.to_ask.is_empty(), "the new node has not carried it out");
        for attempt in [0, 1] {
            asking.take(packets(attempt)).expect_err("asked over another link");
        }
    }

    #[test]
    fn a12_a_node_that_differs_in_anything_is_not_the_one_that_is_meant() {
        let expectation = Expectation {
            perspective: "iad1".parse().expect("an id"),
            primary: false,
            rir: Rir::Arin,
            resolver: "127.0.0.1:53".to_owned(),
            dnssec: "local",
            trust_anchors: "ab".to_owned(),
            setup: "cd".to_owned(),
            laboratory: false,
        };
        let good = Welcome {
            form: LINK_FORM,
            software: "parallax-node 9".to_owned(),
            perspective: "iad1".to_owned(),
            rir: "ARIN".to_owned(),
            resolver: "127.0.0.1:53".to_owned(),
            dnssec: "local".to_owned(),
            trust_anchors: "ab".to_owned(),
            tasks_in_flight_max: 512,
            driver: "epoll".to_owned(),
            laboratory: false,
            keeps_packets: false,
        };
        assert_eq!(expectation.check(&good), Ok(()));
        type Change = fn(&mut Welcome);
        let differing: [(Change, &str); 8] = [
            (|welcome| welcome.form += 1, "form"),
            (|welcome| welcome.perspective = "iad2".to_owned(), "perspective"),
            (|welcome| welcome.rir = "RIPE NCC".to_owned(), "rir"),
            (|welcome| welcome.resolver = "8.8.8.8:53".to_owned(), "resolver"),
            (|welcome| welcome.dnssec = "none\u{1b}[2J".to_owned(), "dnssec"),
            (|welcome| welcome.trust_anchors.clear(), "trust anchors"),
            (|welcome| welcome.tasks_in_flight_max = 511, "tasks_in_flight_max"),
            (|welcome| welcome.laboratory = true, "a laboratory's"),
        ];
        for (change, wants) in differing {
            let mut welcome = good.clone();
            change(&mut welcome);
            let why = expectation.check(&welcome).expect_err(wants);
            assert!(why.contains(wants) && !why.contains('\u{1b}'), "{why}");
        }
        let of_laboratory = Expectation { laboratory: true, ..expectation };
        assert_eq!(of_laboratory.check(&Welcome { laboratory: true, ..good }), Ok(()));
    }
}
