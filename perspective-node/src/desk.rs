//! Tasks of many callers, in batches, to one node; and each report back to who asked.
//!
//! ```text
//! callers ─▶ line ─▶ pump ─ batches ─▶ node ─ batches ─▶ delivery ─▶ callers
//! ```
//!
//! Callers know nothing of each other: their tasks travel under nonces of the desk, and each gets its own back.
//!
//! Invariant: every task that was taken is answered once, or its caller learns that the node has ended.
//! Invariant: what a caller that went away had asked is dropped if it still waits, and carried out if it does not; its
//! place is free again only then.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Header, Report, Task};
use parallax_validation::{base::perspective::PerspectiveId, observation::Observation, plan::Plan};
use rand::RngExt as _;
use slab::Slab;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::node::{Batch, Full, Node, NodeStats, Owner, PacketKeeper, TakePackets};

/// How soon tasks are offered again that a full node refused.
const FULL_RETRY: Duration = Duration::from_millis(1);
/// How often the pump looks whether it is to end.
const TICK: Duration = Duration::from_millis(100);

/// Why nothing was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LookError {
    /// As many lookups are under way as may be.
    #[error("too many checks are under way at this perspective")]
    Overloaded,
    /// The node has ended or is about to.
    #[error("this perspective is going down")]
    Stopped,
}

/// Who asked.
enum Asker {
    /// One that waits for one observation. Its place is free when that comes, whether it is still waited for or not.
    One(oneshot::Sender<Box<Observation>>, OwnedSemaphorePermit),
    /// One that asks for many, and its own header.
    Many(Header, mpsc::UnboundedSender<Report>),
}

impl Asker {
    /// Whether nobody wants the answer any more.
    fn is_gone(&self) -> bool {
        match self {
            Self::One(waits, _) => waits.is_closed(),
            Self::Many(_, reports) => reports.is_closed(),
        }
    }
}

/// A task that was taken: its number, which no other has, and who asked.
struct Taken {
    number: u32,
    asker: Asker,
}

/// What the desk's threads share with its callers.
struct Shared {
    /// By nonce.
    askers: Mutex<Slab<Taken>>,
    numbers: AtomicU64,
    sessions: AtomicU64,
    stop: AtomicBool,
    /// The node has ended, so nothing that is asked will be answered.
    ended: AtomicBool,
    refused: AtomicU64,
}

impl Shared {
    /// No code that holds the lock can panic half-way through a change.
    fn askers(&self) -> MutexGuard<'_, Slab<Taken>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A header of the desk's own for a task: the asker's attempt, which captures are named after, and a nonce of its
    /// place in the table and its number, so that an answer which comes twice meets nobody else.
    fn take(&self, askers: &mut Slab<Taken>, asker: Asker, setup: Arc<str>) -> Header {
        // They begin again after 2^32: by then an answer is long overdue.
        let number = self.numbers.fetch_add(1, Ordering::Relaxed) as u32;
        let attempt = match &asker {
            // Captures are named after it.
            Asker::One(..) => AttemptId(rand::rng().random()),
            Asker::Many(header, _) => header.attempt,
        };
        let key = askers.insert(Taken { number, asker });
        Header { attempt, nonce: u64::from(number) << 32 | key as u64, setup }
    }
}

/// The place in the table that a nonce names; there are never 2^32 of them.
fn key_of(nonce: u64) -> usize {
    nonce as u32 as usize
}

/// The way to a node for callers in the same process.
pub struct Desk {
    perspective: PerspectiveId,
    line: Sender<Batch>,
    shared: Arc<Shared>,
    /// Places of those who ask one thing at a time.
    places: Arc<Semaphore>,
    stats: Arc<NodeStats>,
    /// If packets are kept.
    packets: Option<PacketKeeper>,
    threads: Vec<JoinHandle<()>>,
}

impl Desk {
    /// Opens it before a node that reports on `reports`. Of callers that ask one thing at a time `in_flight_max` are
    /// served at once.
    ///
    /// # Errors
    /// No thread.
    pub fn open(
        node: Node,
        perspective: PerspectiveId,
        reports: Receiver<Vec<Report>>,
        in_flight_max: usize,
    ) -> std::io::Result<Self> {
        let (line, tasks) = crossbeam::channel::unbounded();
        let stats = Arc::clone(node.stats());
        let packets = node.packet_keeper();
        let shared = Arc::new(Shared {
            askers: Mutex::default(),
            numbers: AtomicU64::new(1),
            sessions: AtomicU64::new(1),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            refused: AtomicU64::new(0),
        });
        let (for_pump, for_delivery) = (Arc::clone(&shared), Arc::clone(&shared));
        let pump = Pump { node, tasks, shared: for_pump, waiting: VecDeque::new() };
        let threads = vec![
            std::thread::Builder::new().name("pump".to_owned()).spawn(move || pump.run())?,
            std::thread::Builder::new().name("delivery".to_owned()).spawn(move || deliver(&reports, &for_delivery))?,
        ];
        let places = Arc::new(Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS)));
        Ok(Self { perspective, line, shared, places, stats, packets, threads })
    }

    /// Looks up what a plan says.
    ///
    /// # Errors
    /// Too much is under way, or the node ends.
    pub async fn look(&self, plan: Plan) -> Result<Observation, LookError> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(LookError::Overloaded);
        };
        let (sender, receiver) = oneshot::channel();
        let header = self.shared.take(&mut self.shared.askers(), Asker::One(sender, place), "".into());
        self.hand_over(None, vec![Task { header, perspective: self.perspective.clone(), plan: plan.into() }])?;
        receiver.await.map(|observation| *observation).map_err(|_| LookError::Stopped)
    }

    /// A number for one that carries out tasks here: it alone may ask for their packets.
    #[must_use]
    pub fn open_session(&self) -> Owner {
        Owner::session(self.shared.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// Carries tasks out; their reports go to `reports`, with their own headers. The caller bounds how many it has
    /// under way.
    ///
    /// # Errors
    /// The node ends.
    pub fn carry_out(
        &self,
        owner: Owner,
        mut tasks: Vec<Task>,
        reports: &mpsc::UnboundedSender<Report>,
    ) -> Result<(), LookError> {
        {
            let mut askers = self.shared.askers();
            for task in &mut tasks {
                let setup = Arc::clone(&task.header.setup);
                let asker = Asker::Many(task.header.clone(), reports.clone());
                task.header = self.shared.take(&mut askers, asker, setup);
            }
        }
        self.hand_over(Some(owner), tasks)
    }

    fn hand_over(&self, owner: Option<Owner>, tasks: Vec<Task>) -> Result<(), LookError> {
        let nonces: Vec<u64> = tasks.iter().map(|task| task.header.nonce).collect();
        // The pump may end in between: then it, or this, clears what was inserted.
        if self.line.send(Batch { owner, tasks }).is_ok() && !self.has_ended() {
            return Ok(());
        }
        let mut askers = self.shared.askers();
        for nonce in nonces {
            askers.try_remove(key_of(nonce));
        }
        Err(LookError::Stopped)
    }

    /// Asks for the packets of a task of [`Desk::carry_out`] by its owner and attempt, as [`PacketKeeper::ask`] does;
    /// nothing comes if packets are not kept.
    pub fn ask_for_packets(&self, owner: Owner, attempt: AttemptId, take: &TakePackets) {
        if let Some(packets) = &self.packets {
            packets.ask_as(owner, attempt, take);
        }
    }

    /// Whether the node has ended by itself: its ring failed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // Acquire: pairs with the store in `end`.
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Tasks that wait or are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.askers().len()
    }

    /// Callers refused because too much was under way.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The node's counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<NodeStats> {
        &self.stats
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // Pairs with the load in the pump's loop.
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // One that panicked has already said so on standard error.
            let _ = thread.join();
        }
    }
}

/// Owns the node.
struct Pump {
    node: Node,
    tasks: Receiver<Batch>,
    shared: Arc<Shared>,
    waiting: VecDeque<(Option<Owner>, Task)>,
}

impl Pump {
    fn run(mut self) {
        // Acquire: pairs with the store in the desk's drop.
        while !self.shared.stop.load(Ordering::Acquire) && !self.node.has_ended() {
            let pause = if self.waiting.is_empty() { TICK } else { FULL_RETRY };
            match self.tasks.recv_timeout(pause) {
                Ok(batch) => self.wait_in_line(batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.waiting.len() < BATCH_ITEMS_MAX
                && let Ok(batch) = self.tasks.try_recv()
            {
                self.wait_in_line(batch);
            }
            self.offer();
        }
        // Release: pairs with the load in `Desk::has_ended`. Whoever hands something over later sees it, and who did
        // before is in the table that is cleared here.
        self.shared.ended.store(true, Ordering::Release);
        drop(self.node);
        self.shared.askers().clear();
    }

    fn wait_in_line(&mut self, Batch { owner, tasks }: Batch) {
        self.waiting.extend(tasks.into_iter().map(|task| (owner, task)));
    }

    /// In batches of one owner each, until the node is full. What nobody wants any more is left out.
    fn offer(&mut self) {
        {
            let mut askers = self.shared.askers();
            self.waiting.retain(|(_, task)| {
                let key = key_of(task.header.nonce);
                let gone = askers.get(key).is_none_or(|taken| taken.asker.is_gone());
                if gone {
                    askers.try_remove(key);
                }
                !gone
            });
        }
        while let Some((owner, _)) = self.waiting.front() {
            let owner = *owner;
            let take = self.waiting.iter().take(BATCH_ITEMS_MAX).take_while(|(of, _)| *of == owner).count();
            let batch: Vec<Task> = self.waiting.drain(..take).map(|(_, task)| task).collect();
            if let Err(Full(back)) = self.node.submit_as(owner, batch) {
                for task in back.into_iter().rev() {
                    self.waiting.push_front((owner, task));
                }
                return;
            }
        }
    }
}

/// Ends when the node is gone.
fn deliver(reports: &Receiver<Vec<Report>>, shared: &Shared) {
    for batch in reports {
        let mut found = Vec::with_capacity(batch.len());
        {
            let mut askers = shared.askers();
            for report in batch {
                let key = key_of(report.header.nonce);
                let is_its_own = |taken: &Taken| u64::from(taken.number) == report.header.nonce >> 32;
                if askers.get(key).is_some_and(is_its_own)
                    && let Some(taken) = askers.try_remove(key)
                {
                    found.push((taken.asker, report));
                }
            }
        }
        for (asker, mut report) in found {
            // Who went away does not want it.
            match asker {
                Asker::One(waits, _place) => _ = waits.send(report.observation),
                Asker::Many(header, reports) => {
                    report.header = header;
                    let _ = reports.send(report);
                }
            }
        }
    }
}
