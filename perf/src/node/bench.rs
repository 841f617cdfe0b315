//! A node with what is needed to give it tasks and take its reports.
//!
//! Invariant: a report is taken once. One that was not asked for, or that comes twice, ends the run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, unbounded};
use parallax_node::{Full, Laboratory, Node, NodeConfig};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Header, Report, Task};
use parallax_validation::{
    base::perspective::{PerspectiveId, Rir},
    lookup::Dnssec,
    plan::Plan,
};

use super::{Common, loopback};
use crate::measure;

/// How long it is waited, at most, before a refused batch is offered again.
const REFUSED_WAIT: Duration = Duration::from_millis(1);
/// The perspective, which the worker threads are named after.
const PERSPECTIVE: &str = "load";

pub(super) struct Bench {
    node: Node,
    reports: Receiver<Vec<Report>>,
    perspective: PerspectiveId,
    setup: Arc<str>,
    begun: Instant,
    limit: Duration,
    /// A batch that the node had no room for.
    refused: Option<Vec<Task>>,
    next: Vec<Task>,
    /// One bit for each number: reported.
    seen: Vec<u64>,
    submitted: u64,
    reported: u64,
}

/// A report with what its task was.
pub(super) struct Ended {
    pub(super) number: u64,
    /// From when the task was due.
    pub(super) latency_us: u64,
    pub(super) report: Report,
}

impl Bench {
    /// Binds this process to a CPU if it is to be, and starts the node.
    pub(super) fn start(common: &Common, tasks_in_flight: u64) -> Result<Self, String> {
        if let Some(core) = common.core {
            measure::bind_to_core(core)?;
        }
        // What is still too little is met when the first socket fails, and told there.
        let _ = measure::raise_descriptor_limit();
        let perspective: PerspectiveId = PERSPECTIVE.parse().map_err(|_| "no perspective".to_owned())?;
        let config = NodeConfig {
            perspective: perspective.clone(),
            rir: Rir::RipeNcc,
            source_ipv4: common.source,
            source_ipv6: None,
            resolver: common.resolver,
            driver: common.driver,
            transport: common.transport(),
            workers: 1,
            cores: Vec::new(),
            source_ports: common.source_ports,
            tasks_in_flight_max: u32::try_from(tasks_in_flight).unwrap_or(u32::MAX),
            memory_max: common.memory_max_mib.map(|mebibytes| mebibytes << 20),
            dnssec: Dnssec::None,
            laboratory: Laboratory {
                allow_addresses: loopback(),
                http_port: Some(common.http_port),
                https_port: Some(common.tls_port),
            },
        };
        let (sender, reports) = unbounded();
        let node = Node::start(&config, &sender).map_err(|error| error.to_string())?;
        Ok(Self {
            node,
            reports,
            perspective,
            setup: PERSPECTIVE.into(),
            begun: Instant::now(),
            limit: Duration::from_secs(common.limit),
            refused: None,
            next: Vec::new(),
            seen: Vec::new(),
            submitted: 0,
            reported: 0,
        })
    }

    /// Time since the start, microseconds: what tasks are stamped with.
    pub(super) fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Tasks given that have not been reported.
    pub(super) fn outstanding(&self) -> u64 {
        self.submitted - self.reported
    }

    pub(super) fn submitted(&self) -> u64 {
        self.submitted
    }

    pub(super) fn stats(&self) -> &parallax_node::NodeStats {
        self.node.stats()
    }

    /// CPU time of the node's worker.
    pub(super) fn worker_cpu() -> Option<Duration> {
        measure::cpu_of_threads(&format!("{PERSPECTIVE}/"))
    }

    /// Adds a task to the next batch, which was due then. Its number is how many were added before.
    pub(super) fn add(&mut self, plan: Arc<Plan>, due_us: u64) {
        let number = self.submitted;
        let attempt = AttemptId(u128::from(number) << 64 | u128::from(due_us));
        let header = Header { attempt, nonce: number, setup: Arc::clone(&self.setup) };
        self.next.push(Task { header, perspective: self.perspective.clone(), plan });
        self.submitted += 1;
        if self.next.len() >= BATCH_ITEMS_MAX {
            self.submit();
        }
    }

    /// Whether the node refuses what it was given last; then nothing more should be added.
    pub(super) fn is_refusing(&self) -> bool {
        self.refused.is_some()
    }

    /// Hands over what was added.
    pub(super) fn submit(&mut self) {
        let batch = match self.refused.take() {
            Some(batch) => batch,
            None if self.next.is_empty() => return,
            None => std::mem::take(&mut self.next),
        };
        if let Err(Full(batch)) = self.node.submit(batch) {
            self.refused = Some(batch);
        }
    }

    /// Hands over what was added, waits for reports, at most so long, and takes those that there are.
    ///
    /// # Errors
    /// The node has ended, the run took too long, or a report is not one that was asked for.
    pub(super) fn take(&mut self, wait: Duration, mut on: impl FnMut(Ended)) -> Result<(), String> {
        self.submit();
        if self.refused.is_none() {
            self.submit();
        }
        let left = self.limit.saturating_sub(self.begun.elapsed());
        if left.is_zero() {
            return Err(format!("{} tasks had not ended after {:?}", self.outstanding(), self.limit));
        }
        let wait = if self.refused.is_some() { wait.min(REFUSED_WAIT) } else { wait };
        match self.reports.recv_timeout(wait.min(left)) {
            Ok(batch) => self.read(batch, &mut on)?,
            Err(RecvTimeoutError::Timeout) if self.node.has_ended() => return Err("the node has ended".to_owned()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err("the node has ended".to_owned()),
        }
        while let Ok(batch) = self.reports.try_recv() {
            self.read(batch, &mut on)?;
        }
        Ok(())
    }

    fn read(&mut self, batch: Vec<Report>, on: &mut impl FnMut(Ended)) -> Result<(), String> {
        let now_us = self.now_us();
        for report in batch {
            let attempt = report.header.attempt.0;
            let (number, due_us) = ((attempt >> 64) as u64, attempt as u64);
            let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
            if number >= self.submitted || report.header.nonce != number {
                return Err(format!("a report on task {number}, which was never given"));
            }
            if self.seen.len() <= word {
                self.seen.resize(word + 1, 0);
            }
            if self.seen[word] & bit != 0 {
                return Err(format!("two reports on task {number}"));
            }
            self.seen[word] |= bit;
            self.reported += 1;
            on(Ended { number, latency_us: now_us.saturating_sub(due_us), report });
        }
        Ok(())
    }
}
