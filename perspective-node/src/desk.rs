//! Tasks of many callers, in batches, to one node; and each report back to who asked.
//!
//! ```text
//! callers ─▶ line ─▶ pump ─ batches ─▶ node ─ batches ─▶ delivery ─▶ callers
//! ```
//!
//! Callers know nothing of each other: their tasks travel under nonces of the desk, and each gets its own back.
//!
//! Invariant: every task that was taken is answered once, or its caller learns that the node has ended.
//! Invariant: what a caller that went away had asked is carried out and dropped; its place is free again after that.

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
use slab::Slab;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::node::{Full, Node, NodeStats};

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
    /// One that waits for one observation.
    One(oneshot::Sender<Box<Observation>>),
    /// One that asks for many, and its own nonce.
    Many(u64, mpsc::UnboundedSender<Report>),
}

/// What the desk's threads share with its callers.
struct Shared {
    /// By nonce.
    askers: Mutex<Slab<Asker>>,
    stop: AtomicBool,
    /// The node has ended, so nothing that is asked will be answered.
    ended: AtomicBool,
    refused: AtomicU64,
}

impl Shared {
    /// No code that holds the lock can panic half-way through a change.
    fn askers(&self) -> MutexGuard<'_, Slab<Asker>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to a node for callers in the same process.
pub struct Desk {
    perspective: PerspectiveId,
    line: Sender<Vec<Task>>,
    shared: Arc<Shared>,
    /// Places of those who ask one thing at a time.
    places: Arc<Semaphore>,
    stats: Arc<NodeStats>,
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
        let shared = Arc::new(Shared {
            askers: Mutex::default(),
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
        Ok(Self { perspective, line, shared, places, stats, threads })
    }

    /// Looks up what a plan says.
    ///
    /// # Errors
    /// Too much is under way, or the node ends.
    pub async fn look(&self, plan: Plan) -> Result<Observation, LookError> {
        let Ok(_place) = self.places.try_acquire() else {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(LookError::Overloaded);
        };
        let (sender, receiver) = oneshot::channel();
        let nonce = self.shared.askers().insert(Asker::One(sender)) as u64;
        let header = Header { attempt: AttemptId(0), nonce, setup: "".into() };
        self.hand_over(vec![Task { header, perspective: self.perspective.clone(), plan }])?;
        receiver.await.map(|observation| *observation).map_err(|_| LookError::Stopped)
    }

    /// Carries tasks out; their reports go to `reports`, with their own headers. The caller bounds how many it has
    /// under way.
    ///
    /// # Errors
    /// The node ends.
    pub fn carry_out(&self, mut tasks: Vec<Task>, reports: &mpsc::UnboundedSender<Report>) -> Result<(), LookError> {
        {
            let mut askers = self.shared.askers();
            for task in &mut tasks {
                task.header.nonce = askers.insert(Asker::Many(task.header.nonce, reports.clone())) as u64;
            }
        }
        self.hand_over(tasks)
    }

    fn hand_over(&self, tasks: Vec<Task>) -> Result<(), LookError> {
        let nonces: Vec<u64> = tasks.iter().map(|task| task.header.nonce).collect();
        // The pump may end in between: then it, or this, clears what was inserted.
        if self.line.send(tasks).is_ok() && !self.has_ended() {
            return Ok(());
        }
        let mut askers = self.shared.askers();
        for nonce in nonces {
            askers.try_remove(nonce as usize);
        }
        Err(LookError::Stopped)
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
    tasks: Receiver<Vec<Task>>,
    shared: Arc<Shared>,
    waiting: VecDeque<Task>,
}

impl Pump {
    fn run(mut self) {
        // Acquire: pairs with the store in the desk's drop.
        while !self.shared.stop.load(Ordering::Acquire) && !self.node.has_ended() {
            let pause = if self.waiting.is_empty() { TICK } else { FULL_RETRY };
            match self.tasks.recv_timeout(pause) {
                Ok(tasks) => self.waiting.extend(tasks),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.waiting.len() < BATCH_ITEMS_MAX
                && let Ok(tasks) = self.tasks.try_recv()
            {
                self.waiting.extend(tasks);
            }
            self.offer();
        }
        // Release: pairs with the load in `Desk::has_ended`. Whoever hands something over later sees it, and who did
        // before is in the table that is cleared here.
        self.shared.ended.store(true, Ordering::Release);
        drop(self.node);
        self.shared.askers().clear();
    }

    /// In batches, until the node is full.
    fn offer(&mut self) {
        while !self.waiting.is_empty() {
            let take = self.waiting.len().min(BATCH_ITEMS_MAX);
            let batch: Vec<Task> = self.waiting.drain(..take).collect();
            if let Err(Full(back)) = self.node.submit(batch) {
                for task in back.into_iter().rev() {
                    self.waiting.push_front(task);
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
                if let Some(asker) = askers.try_remove(report.header.nonce as usize) {
                    found.push((asker, report));
                }
            }
        }
        for (asker, mut report) in found {
            // Who went away does not want it.
            match asker {
                Asker::One(waits) => _ = waits.send(report.observation),
                Asker::Many(nonce, reports) => {
                    report.header.nonce = nonce;
                    let _ = reports.send(report);
                }
            }
        }
    }
}
