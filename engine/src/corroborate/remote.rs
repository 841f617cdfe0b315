//! The way to a perspective node elsewhere: a link that is made again whenever it breaks.
//!
//! Tasks that were under way when a link broke are lost with it: nobody answers them, so the attempts' own time ends the
//! wait. What waits to be handed over stays with the dispatcher and goes out over the next link, unless nobody waits for
//! it any more.
//!
//! Invariant: a node that is not whom the settings mean, or that works under other settings, is given nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam::channel::Sender;
use parallax_node::{Full, NodeConfig};
use parallax_protocol::{
    BATCH_ITEMS_MAX, LINK_FORM, Report, Task,
    transport::{ConnectLimits, Identity, Peer, connect},
    wire::link::{FromEngine, FromNode, Hello, Tasks, Welcome, from_engine, from_node, link_client::LinkClient},
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
/// How long a greeting may take.
const GREETING: Duration = Duration::from_secs(10);
/// Messages that wait for the stream.
const MESSAGES_QUEUED_MAX: usize = 4;
/// The longest message from a node, octets: reports are cut off at a mebibyte, and one may exceed it by itself.
const FROM_NODE_BYTES_MAX: usize = 32 << 20;

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

/// The dispatcher's side.
pub(super) struct Remote {
    tasks: mpsc::UnboundedSender<Vec<Task>>,
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
        reports: Sender<Vec<Report>>,
        log: Arc<dyn Log>,
    ) -> (Self, Arc<LinkStats>) {
        let stats = Arc::new(LinkStats { primary: expectation.primary, ..LinkStats::default() });
        let shared = Arc::new(Shared { room: AtomicUsize::new(0), stats: Arc::clone(&stats) });
        let (tasks_in, tasks_out) = mpsc::unbounded_channel();
        let (needed_in, needed) = watch::channel(());
        let line =
            Line { identity, peer, expectation, reports, log, shared: Arc::clone(&shared), tasks: tasks_out, needed };
        runtime.spawn(line.run());
        (Self { tasks: tasks_in, shared, _needed: needed_in }, stats)
    }
}

impl Way for Remote {
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        let count = batch.len();
        // If the link breaks just now, the batch is lost with it, or goes out over the next one without having taken room
        // there: a batch's room is kept free for that.
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
    /// Changes when the dispatcher is gone.
    needed: watch::Receiver<()>,
}

/// A link that stands.
struct Standing {
    out: mpsc::Sender<FromEngine>,
    incoming: Streaming<FromNode>,
}

/// Why a link ended.
enum End {
    /// Nobody needs it any more.
    Done,
    /// It broke.
    Broken(String),
}

impl Line {
    async fn run(mut self) {
        let mut failures = 0_u32;
        let mut needed = self.needed.clone();
        // What was last told, so that a node that stays away is not told about again and again.
        let mut told = None;
        loop {
            let made = tokio::select! {
                made = self.make() => made,
                _ = needed.changed() => return,
            };
            let why = match made {
                Ok((standing, welcome)) => {
                    (failures, told) = (0, None);
                    let perspective = &self.expectation.perspective;
                    self.log.tell(&Event::LinkUp { perspective, software: &welcome.software, driver: &welcome.driver });
                    match self.work(standing, welcome.tasks_in_flight_max as usize - BATCH_ITEMS_MAX).await {
                        End::Done => return,
                        End::Broken(why) => why,
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
        let greeting = async {
            let channel = connect(&self.identity, &self.peer, &ConnectLimits::default())
                .await
                .map_err(|error| error.to_string())?;
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
            let mut incoming = stream.map_err(|status| said(&status))?.into_inner();
            let welcome = match incoming.message().await.map_err(|status| said(&status))? {
                Some(FromNode { what: Some(from_node::What::Welcome(welcome)) }) => welcome,
                Some(_) | None => return Err("the node does not introduce itself".to_owned()),
            };
            self.expectation.check(&welcome)?;
            Ok((Standing { out, incoming }, welcome))
        };
        match tokio::time::timeout(GREETING, greeting).await {
            Ok(made) => made,
            Err(_) => Err("the node does not answer".to_owned()),
        }
    }

    /// Tasks out and reports back, until one of the ends has enough.
    async fn work(&mut self, standing: Standing, room: usize) -> End {
        let Standing { out, mut incoming } = standing;
        // Left over from a link that broke before they went out: lost with it.
        while self.tasks.try_recv().is_ok() {}
        self.shared.room.store(room, Ordering::Release);
        self.shared.stats.made.fetch_add(1, Ordering::Relaxed);
        self.shared.stats.up.store(true, Ordering::Relaxed);
        let mut next: Option<(usize, FromEngine)> = None;
        let mut under_way = 0_usize;
        let end = loop {
            // Never waits for the node to read without reading what it says: the two would wait for each other.
            tokio::select! {
                batch = self.tasks.recv(), if next.is_none() => match batch {
                    Some(batch) => match tasks_message(&batch) {
                        Some(message) => next = Some((batch.len(), message)),
                        None => break End::Broken("a task cannot be written".to_owned()),
                    },
                    // Whoever was asked has answered or had its time.
                    None => break End::Done,
                },
                place = out.reserve(), if next.is_some() => match (place, next.take()) {
                    (Ok(place), Some((count, message))) => {
                        under_way += count;
                        place.send(message);
                    }
                    _ => break End::Broken("the node takes nothing more".to_owned()),
                },
                received = incoming.message() => match received {
                    Ok(Some(FromNode { what: Some(from_node::What::Reports(reports)) })) => {
                        let count = reports.report.len();
                        let Some(left) = under_way.checked_sub(count) else {
                            break End::Broken("the node reports more than it was asked".to_owned());
                        };
                        under_way = left;
                        let read: Result<Vec<Report>, _> =
                            reports.report.iter().map(|json| serde_json::from_slice(json)).collect();
                        match read {
                            Ok(reports) => {
                                self.shared.stats.reports.fetch_add(count as u64, Ordering::Relaxed);
                                self.shared.room.fetch_add(count, Ordering::AcqRel);
                                if self.reports.send(reports).is_err() {
                                    break End::Done;
                                }
                            }
                            Err(error) => break End::Broken(format!("a report cannot be read: {error}")),
                        }
                    }
                    Ok(Some(_)) => break End::Broken("the node says what it should not".to_owned()),
                    Ok(None) => break End::Broken("the node ended the link".to_owned()),
                    Err(status) => break End::Broken(said(&status)),
                },
            }
        };
        self.shared.room.store(0, Ordering::Release);
        self.shared.stats.up.store(false, Ordering::Relaxed);
        end
    }
}

/// A status in words; it came from outside.
fn said(status: &tonic::Status) -> String {
    let message: String = status.message().chars().take(300).flat_map(char::escape_default).collect();
    format!("{message} ({:?})", status.code())
}

fn tasks_message(batch: &[Task]) -> Option<FromEngine> {
    let task = batch.iter().map(serde_json::to_vec).collect::<Result<Vec<_>, _>>().ok()?;
    Some(FromEngine { what: Some(from_engine::What::Tasks(Tasks { task })) })
}
