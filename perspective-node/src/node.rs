//! A node from outside: batches in, batches out, back-pressure, an orderly stop.

use std::{
    io,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam::{channel::Sender, queue::ArrayQueue};
use parallax_protocol::{AttemptId, Report, Task};
use parallax_ring::{FramesStats, RawStats, RingError, Waker};
use parallax_validation::lookup::tls::rustls;
use rustix::thread::CpuSet;
use thiserror::Error;

use crate::{
    captures::{self, CaptureError, CaptureOut, Writing},
    config::{ConfigError, NodeConfig},
    worker::Worker,
};

/// Batches waiting for a worker.
const QUEUED_BATCHES_MAX: usize = 64;
/// Attempts whose packets are asked for, waiting for a worker; what is more is not answered.
const WANTED_MAX: usize = 1024;

/// The node takes no more for now; the batch comes back.
#[derive(Debug)]
pub struct Full(pub Vec<Task>);

/// A node that could not be started.
#[derive(Debug, Error)]
pub enum NodeError {
    /// A setting.
    #[error("perspective {perspective}: {error}")]
    Config {
        /// Which node.
        perspective: String,
        /// What is wrong.
        error: ConfigError,
    },
    /// The driver cannot be had, mostly because io_uring is missing or shut off; the text says how to enable it and
    /// names the other driver.
    #[error("perspective {perspective}: {error}")]
    Ring {
        /// Which node.
        perspective: String,
        /// What is wrong.
        error: RingError,
    },
    /// A socket could not be opened.
    #[error("perspective {perspective}: no socket from {from} to the resolver {resolver}: {error}")]
    Socket {
        /// Which node.
        perspective: String,
        /// The source address setting.
        from: String,
        /// The resolver.
        resolver: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// TLS cannot be spoken with what the program was built with.
    #[error("perspective {perspective}: TLS cannot be set up: {error}")]
    Tls {
        /// Which node.
        perspective: String,
        /// What is wrong.
        error: rustls::Error,
    },
    /// A worker could not be bound to its processor.
    #[error("perspective {perspective}: worker {worker} cannot be bound to processor {core}: {error}")]
    Core {
        /// Which node.
        perspective: String,
        /// Which worker, from 0.
        worker: u16,
        /// The processor.
        core: usize,
        /// What the kernel said.
        error: io::Error,
    },
    /// Captures cannot be kept.
    #[error("perspective {perspective}: {error}")]
    Captures {
        /// Which node.
        perspective: String,
        /// What is wrong.
        error: CaptureError,
    },
    /// No thread.
    #[error("perspective {perspective}: no thread could be started: {error}")]
    Thread {
        /// Which node.
        perspective: String,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Counters of a node, read at any time.
#[derive(Debug, Default)]
pub struct NodeStats {
    /// Tasks begun.
    pub tasks: AtomicU64,
    /// Datagrams sent.
    pub queries: AtomicU64,
    /// Datagrams that belong to no query: late, stray or forged (req B14).
    pub stray_datagrams: AtomicU64,
    /// Datagrams on a query's port with its id that were not its reply: mangled or forged (req B14).
    pub mismatched_replies: AtomicU64,
    /// Queries to name servers that had to wait, since others asked the same server, or too many asked any.
    pub paced_queries: AtomicU64,
    /// Connections made.
    pub connections: AtomicU64,
    /// CPU time of the workers, microseconds; kept up to date about once a second and at the end.
    pub cpu_us: AtomicU64,
    /// System calls that entered the ring.
    pub ring_enters: AtomicU64,
    /// Of the raw transport.
    pub frames: FrameCounters,
    /// Captures of checks that failed, written.
    pub captures_written: AtomicU64,
    /// Those that were dropped, since too many waited or the system did not take them.
    pub captures_lost: AtomicU64,
    /// Octets that tasks under way are reckoned to hold; 0 if there is no bound to it.
    pub memory_octets: AtomicU64,
    /// The bound; 0 if there is none.
    pub memory_octets_max: AtomicU64,
}

/// What the raw transport moved and dropped; kept up to date about once a second and at the end. All zero over the
/// kernel's sockets.
#[derive(Debug, Default)]
pub struct FrameCounters {
    /// Frames that were taken in.
    pub received: AtomicU64,
    /// Frames that were handed to the interface.
    pub transmitted: AtomicU64,
    dropped: [AtomicU64; FrameDrop::ALL.len()],
}

impl FrameCounters {
    /// Frames that were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: FrameDrop) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    /// Takes over what a ring has counted since it was made. There is one ring with frames in a node.
    pub(crate) fn set(&self, (stack, frames): &(RawStats, FramesStats)) {
        self.received.store(frames.received, Ordering::Relaxed);
        self.transmitted.store(frames.transmitted, Ordering::Relaxed);
        for reason in FrameDrop::ALL {
            let count = match reason {
                FrameDrop::Malformed => stack.malformed + frames.malformed,
                FrameDrop::Checksum => stack.checksums,
                FrameDrop::Fragment => stack.fragments,
                FrameDrop::Stranger => stack.strangers,
                FrameDrop::Unknown => stack.unknown,
                FrameDrop::NoRoom => stack.no_room,
                FrameDrop::Kernel => frames.kernel_drops,
            };
            self.dropped[reason as usize].store(count, Ordering::Relaxed);
        }
    }
}

/// Why the raw transport dropped a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameDrop {
    /// It was cut short, or contradicted itself.
    Malformed,
    /// A checksum was wrong. Many of them on a virtual wire mean that its other end leaves checksums to hardware that
    /// is not there.
    Checksum,
    /// It was a fragment.
    Fragment,
    /// It was for no query and no connection of the node's: late, stray or forged.
    Stranger,
    /// It was of a protocol that the node does not speak.
    Unknown,
    /// It was to leave, and found no room.
    NoRoom,
    /// The kernel had no room for it on its way in.
    Kernel,
}

impl FrameDrop {
    /// Every reason.
    pub const ALL: [Self; 7] =
        [Self::Malformed, Self::Checksum, Self::Fragment, Self::Stranger, Self::Unknown, Self::NoRoom, Self::Kernel];

    /// In a word, for figures.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Fragment => "fragment",
            Self::Stranger => "stranger",
            Self::Unknown => "unknown",
            Self::NoRoom => "no_room",
            Self::Kernel => "kernel",
        }
    }
}

/// Who gave a node its tasks, and alone may ask for their packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(NonZeroU64);

impl Owner {
    /// Whoever holds the node itself.
    pub const HOLDER: Self = Self(NonZeroU64::MIN);

    /// One of many that share a node, by a number above 0.
    pub(crate) fn session(number: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(number))
    }
}

/// Tasks of one owner; nobody can ask for the packets of those that have none.
pub(crate) struct Batch {
    pub(crate) owner: Option<Owner>,
    pub(crate) tasks: Vec<Task>,
}

/// Packets that are asked for.
pub(crate) struct Wanted {
    pub(crate) owner: Owner,
    pub(crate) attempt: AttemptId,
    pub(crate) take: TakePackets,
}

/// What a worker shares with the outside.
pub(crate) struct Shared {
    pub(crate) queue: ArrayQueue<Batch>,
    pub(crate) wanted: ArrayQueue<Wanted>,
    pub(crate) stop: AtomicBool,
    /// The worker has left its loop and takes nothing any more.
    pub(crate) ended: AtomicBool,
    pub(crate) stats: Arc<NodeStats>,
}

/// Who takes the packets of an attempt, as a capture file. It is called on a worker, so it does not wait for anything.
pub type TakePackets = Arc<dyn Fn(AttemptId, Vec<u8>) + Send + Sync>;

/// By which the packets of a node's tasks are asked for, from any thread.
#[derive(Clone)]
pub struct PacketKeeper {
    workers: Vec<(Arc<Shared>, Waker)>,
}

impl PacketKeeper {
    /// Asks for the packets of an attempt that this node has answered to who holds it ([`Node::submit`]). They come soon,
    /// once, if the node still has them; otherwise nothing does.
    pub fn ask(&self, attempt: AttemptId, take: &TakePackets) {
        self.ask_as(Owner::HOLDER, attempt, take);
    }

    /// The same for any owner.
    pub(crate) fn ask_as(&self, owner: Owner, attempt: AttemptId, take: &TakePackets) {
        for (shared, waker) in &self.workers {
            if shared.wanted.push(Wanted { owner, attempt, take: Arc::clone(take) }).is_ok() {
                waker.wake();
            }
        }
    }
}

/// Where what a worker has done goes.
#[derive(Clone)]
pub(crate) struct Out {
    pub(crate) reports: Sender<Vec<Report>>,
    /// If captures are kept.
    pub(crate) captures: Option<CaptureOut>,
}

struct Handle {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// A running node. Dropping it stops the workers; unfinished tasks are not reported.
pub struct Node {
    workers: Vec<Handle>,
    /// After the workers, which hold it up.
    _writing: Option<Writing>,
    next: usize,
    stats: Arc<NodeStats>,
    keeps_packets: bool,
}

impl Node {
    /// Starts the workers. Every admitted task ends in exactly one report on `reports`.
    ///
    /// # Errors
    /// A setting that cannot be, or a kernel that will not.
    pub fn start(config: &NodeConfig, reports: &Sender<Vec<Report>>) -> Result<Self, NodeError> {
        let perspective = config.perspective.to_string();
        config.check().map_err(|error| NodeError::Config { perspective: perspective.clone(), error })?;
        let stats = Arc::new(NodeStats::default());
        stats.memory_octets_max.store(config.memory_max.unwrap_or(0), Ordering::Relaxed);
        let captures = config.captures().map(|settings| captures::start(&settings, &config.perspective, &stats));
        let captures = captures.transpose().map_err(|error| NodeError::Captures { perspective, error })?;
        let (out, writing) = captures.unzip();
        // On an error its drop stops the workers that have started.
        let mut node = Self {
            workers: Vec::new(),
            _writing: writing,
            next: 0,
            stats: Arc::clone(&stats),
            keeps_packets: config.keeps_packets(),
        };
        node.start_workers(config, Out { reports: reports.clone(), captures: out })?;
        Ok(node)
    }

    /// Takes `out`, so that it is gone before the node is, whose drop waits until nobody can hand over captures any more.
    fn start_workers(&mut self, config: &NodeConfig, out: Out) -> Result<(), NodeError> {
        for index in 0..config.workers {
            let queue = ArrayQueue::new(QUEUED_BATCHES_MAX);
            let shared = Arc::new(Shared {
                queue,
                wanted: ArrayQueue::new(WANTED_MAX),
                stop: AtomicBool::new(false),
                ended: AtomicBool::new(false),
                stats: Arc::clone(&self.stats),
            });
            self.workers.push(start_worker(config, index, shared, out.clone())?);
        }
        Ok(())
    }

    /// Hands a batch to the next worker that takes it. Who holds the node may ask for the packets.
    ///
    /// # Errors
    /// All are full; the batch comes back whole.
    pub fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        self.submit_as(Some(Owner::HOLDER), batch)
    }

    /// The same for any owner, or for one that cannot ask for packets.
    pub(crate) fn submit_as(&mut self, owner: Option<Owner>, tasks: Vec<Task>) -> Result<(), Full> {
        let mut batch = Batch { owner, tasks };
        for _ in 0..self.workers.len() {
            self.next = (self.next + 1) % self.workers.len();
            let worker = &self.workers[self.next];
            // Acquire: pairs with the store at the end of the worker's loop.
            if worker.shared.ended.load(Ordering::Acquire) {
                continue;
            }
            match worker.shared.queue.push(batch) {
                Ok(()) => {
                    worker.waker.wake();
                    return Ok(());
                }
                Err(back) => batch = back,
            }
        }
        Err(Full(batch.tasks))
    }

    /// By which packets can be asked for, if they are kept.
    #[must_use]
    pub fn packet_keeper(&self) -> Option<PacketKeeper> {
        let workers = || self.workers.iter().map(|worker| (Arc::clone(&worker.shared), worker.waker.clone())).collect();
        self.keeps_packets.then(|| PacketKeeper { workers: workers() })
    }

    /// Whether a worker has left its loop, because its ring failed or it panicked.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let gone = |worker: &Handle| worker.thread.as_ref().is_none_or(JoinHandle::is_finished);
        // Acquire: pairs with the store at the end of the worker's loop.
        self.workers.iter().any(|worker| gone(worker) || worker.shared.ended.load(Ordering::Acquire))
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<NodeStats> {
        &self.stats
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for worker in &self.workers {
            // Pairs with the load in the worker's loop.
            worker.shared.stop.store(true, Ordering::Release);
            worker.waker.wake();
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // A worker that panicked has already said so on standard error.
                let _ = thread.join();
            }
        }
    }
}

/// Binds the calling thread to the processor of its worker, if there is one.
fn bind(config: &NodeConfig, worker: u16) -> Result<(), NodeError> {
    let Some(&core) = config.cores.get(usize::from(worker)) else { return Ok(()) };
    let failed =
        |error: io::Error| NodeError::Core { perspective: config.perspective.to_string(), worker, core, error };
    if core >= CpuSet::MAX_CPU {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))
}

/// The ring belongs to the thread that made it, so the thread makes it and tells how that went.
fn start_worker(config: &NodeConfig, index: u16, shared: Arc<Shared>, out: Out) -> Result<Handle, NodeError> {
    let (started, outcome) = crossbeam::channel::bounded(1);
    let for_thread = (config.clone(), Arc::clone(&shared));
    let perspective = config.perspective.to_string();
    let thread = std::thread::Builder::new()
        .name(format!("{perspective}/{index}"))
        .spawn(move || {
            let (config, shared) = for_thread;
            match bind(&config, index).and_then(|()| Worker::open(config, shared, out)) {
                Ok(mut worker) => {
                    if started.send(Ok(worker.waker())).is_ok() {
                        worker.run();
                    }
                }
                Err(error) => {
                    // The starter waits for this; if it is gone nobody wants to know.
                    let _ = started.send(Err(error));
                }
            }
        })
        .map_err(|error| NodeError::Thread { perspective: perspective.clone(), error })?;
    match outcome.recv() {
        Ok(Ok(waker)) => Ok(Handle { shared, waker, thread: Some(thread) }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(NodeError::Thread { perspective, error: io::Error::other("the worker ended at once") }),
    }
}
