//! Turns: a driver may keep a query to a name server waiting while others ask that server.
//!
//! It decides when [`Command::Transmit`] or the first [`Command::Connect`] of a query with a [`Task::peer`] comes. What is
//! put off by [`Task::wait_for_turn`] has not been asked: it keeps its deadline and nothing else runs. A turn lasts until
//! [`TurnEvent::Ended`], over TCP too if the query goes there. Queries to the resolver take no turns.

use super::{Command, Purpose, Slot, Stream, Task};
use crate::{
    base::Micros,
    lookup::dns::query::{Query, QueryStep, QuestionKind},
};

/// How it goes with a query to a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEvent {
    /// Something came that answers it, or that is to be had over TCP.
    Answered(QuestionKind),
    /// A try of it had no answer in time; another may follow.
    TimedOut(QuestionKind),
    /// It asks no more, or never will.
    Ended,
}

impl Task {
    /// Puts off what query `slot` asked for first. If its deadline comes before its turn it ends as one that was not asked.
    pub fn wait_for_turn(&mut self, slot: u16) {
        if let Some(Slot::Active(query, ..)) = self.slots.get_mut(usize::from(slot)) {
            query.wait_for_turn();
        }
    }

    /// The turn of query `slot` has come: what was put off is asked for again, and its time begins. Nothing if it has ended.
    pub fn take_turn(&mut self, slot: u16, now: Micros) {
        let Some(Slot::Active(query, _, streaming)) = self.slots.get_mut(usize::from(slot)) else { return };
        if query.take_turn(now) {
            self.commands.push(match streaming {
                true => Command::Connect(Stream::Query(slot), Box::new(query.peer())),
                false => Command::Transmit(slot),
            });
        }
    }
}

/// Whether a query waits for its turn if the driver says so.
pub(super) fn are_taken_by(query: &Query, purpose: Purpose) -> bool {
    purpose.is_aside() && query.is_to_name_server()
}

/// What a query's next step tells of its server; `over_tcp` is how it was asked until now.
pub(super) fn event(query: &Query, purpose: Purpose, over_tcp: bool, step: &QueryStep) -> Option<TurnEvent> {
    if !are_taken_by(query, purpose) {
        return None;
    }
    let timed_out = match step {
        QueryStep::Wait | QueryStep::SendStream(_) => return None,
        // One that was not sent for lack of room on our side has lost nothing.
        QueryStep::Transmit if !query.was_sent() => return None,
        QueryStep::Transmit => true,
        QueryStep::OpenStream => false,
        QueryStep::Done => query.is_timed_out()?,
    };
    let kind = query.kind(over_tcp);
    Some(if timed_out { TurnEvent::TimedOut(kind) } else { TurnEvent::Answered(kind) })
}
