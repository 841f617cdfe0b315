//! The engine's side of one perspective.

use std::{collections::VecDeque, sync::Arc};

use crossbeam::channel::Sender;
use parallax_node::{Full, Node, PacketKeeper, TakePackets};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Task};
use parallax_validation::{base::perspective::PerspectiveId, verdict::PerspectiveState};

use super::attempt::{Attempt, Expected};
use crate::tally::Evidence;

/// The way to a perspective: a node in this process, a link to one elsewhere, or one that is played.
pub trait Way: Send {
    /// Hands over a batch.
    ///
    /// # Errors
    /// It takes no more for now; the batch comes back whole.
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full>;

    /// Tasks that it may take now; [`Way::submit`] may still refuse.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// Whether it has ended for good.
    fn has_ended(&self) -> bool;

    /// Asks for the packets of an attempt that it has answered, for whoever takes them. False if it keeps none; true says
    /// nothing about whether any come.
    fn ask_for_packets(&mut self, _attempt: AttemptId) -> bool {
        false
    }
}

/// A node in this process that keeps packets, and who takes them.
pub(super) struct KeepingNode {
    pub(super) node: Node,
    pub(super) packets: PacketKeeper,
    pub(super) take: TakePackets,
}

impl Way for KeepingNode {
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        self.node.submit(batch)
    }

    fn has_ended(&self) -> bool {
        self.node.has_ended()
    }

    fn ask_for_packets(&mut self, attempt: AttemptId) -> bool {
        self.packets.ask(attempt, &self.take);
        true
    }
}

impl Way for Node {
    fn submit(&mut self, batch: Vec<Task>) -> Result<(), Full> {
        Self::submit(self, batch)
    }

    fn has_ended(&self) -> bool {
        Self::has_ended(self)
    }
}

pub(super) struct Link {
    pub(super) way: Box<dyn Way>,
    pub(super) expect: Sender<(AttemptId, Expected)>,
    pub(super) pending: VecDeque<(Arc<Attempt>, usize, Task)>,
    pub(super) perspective: PerspectiveId,
}

impl Link {
    /// Hands pending tasks over in batches until the way is full.
    pub(super) fn flush(&mut self) {
        loop {
            let take = self.pending.len().min(BATCH_ITEMS_MAX).min(self.way.room());
            if take == 0 {
                return;
            }
            let (attempts, batch): (Vec<_>, Vec<Task>) =
                self.pending.drain(..take).map(|(attempt, index, task)| ((attempt, index), task)).unzip();
            if let Err(Full(back)) = self.way.submit(batch) {
                for ((attempt, index), task) in attempts.into_iter().zip(back).rev() {
                    self.pending.push_front((attempt, index, task));
                }
                return;
            }
        }
    }

    /// Drops tasks that nobody waits for any more: their attempt is closed, or this perspective was given
    /// up. A node that is slower than the rest then neither holds memory nor is kept busy for nothing.
    pub(super) fn drop_stale(&mut self) {
        self.pending.retain(|(attempt, index, _)| {
            let Some(place) = attempt.place_of(*index) else {
                // On trial: its own time ends the wait.
                return !attempt.tally.is_closed();
            };
            if attempt.tally.is_claimed(place) {
                return false;
            }
            if attempt.tally.is_closed() {
                // The record says "not awaited"; this ends the wait for a straggler that will not come.
                let _ = attempt.tally.arrive(place, Evidence::None(PerspectiveState::Cancelled), false);
                return false;
            }
            true
        });
    }
}
