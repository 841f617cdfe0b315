//! Whom a task has talked with, and when, so that its frames can be found among those that are kept.
//!
//! Ports and ids are used again by other tasks, so each is a task's from when it first sends until it gives the port and id
//! back or closes the connection. What comes after that is nobody's: it is left out rather than shown to another.
//!
//! Invariant: there are never more than [`TALKS_MAX`] of a task; later ones are left out.

use std::time::Instant;

use parallax_ring::{Flow, FlowSpan};
use parallax_validation::lookup::task::Stream;
use thin_vec::ThinVec;

/// Flows of a task whose frames are kept.
const TALKS_MAX: usize = 64;
/// What they take at most, octets.
pub(crate) const TALKS_OCTETS_MAX: usize = TALKS_MAX * size_of::<Talk>();

/// What a task talks over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Datagrams of a query, by its slot.
    Query(u16),
    /// A connection.
    Stream(Stream),
}

#[derive(Debug)]
struct Talk {
    over: Over,
    flow: Flow,
    from: Instant,
    /// None while it goes on.
    until: Option<Instant>,
}

/// The flows of a task.
#[derive(Debug, Default)]
pub(crate) struct Talks(ThinVec<Talk>);

impl Talks {
    /// Something is sent. One that goes on already goes on.
    pub(crate) fn begin(&mut self, over: Over, flow: Flow, now: Instant) {
        let goes_on = |talk: &Talk| talk.until.is_none() && talk.over == over && talk.flow == flow;
        if self.0.len() < TALKS_MAX && !self.0.iter().any(goes_on) {
            self.0.push(Talk { over, flow, from: now, until: None });
        }
    }

    /// Port and id are given back, or the connection is let go.
    pub(crate) fn end(&mut self, over: Over, now: Instant) {
        for talk in self.0.iter_mut().filter(|talk| talk.over == over) {
            talk.until.get_or_insert(now);
        }
    }

    /// All of them; what still goes on ends now.
    pub(crate) fn into_spans(self, now: Instant) -> Vec<FlowSpan> {
        let span = |Talk { flow, from, until, .. }| FlowSpan { flow, from, until: until.unwrap_or(now) };
        self.0.into_iter().map(span).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parallax_ring::FlowProtocol;

    use super::*;

    fn flow(tag: u16) -> Flow {
        Flow { protocol: FlowProtocol::Udp, port: 3000, peer: ([192, 0, 2, 53], 53).into(), tag }
    }

    #[test]
    fn a_flow_is_a_tasks_from_its_first_packet_until_it_is_given_back() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut talks = Talks::default();
        talks.begin(Over::Query(1), flow(7), at(0));
        talks.begin(Over::Query(1), flow(7), at(1));
        talks.begin(Over::Stream(Stream::Query(1)), flow(8), at(2));
        talks.end(Over::Query(1), at(3));
        talks.end(Over::Query(1), at(4));
        talks.begin(Over::Query(2), flow(7), at(5));
        let span = |tag, from, until| FlowSpan { flow: flow(tag), from: at(from), until: at(until) };
        // The second id is the first again, by chance; between them it was another's.
        assert_eq!(talks.into_spans(at(9)), [span(7, 0, 3), span(8, 2, 9), span(7, 5, 9)]);
    }

    #[test]
    fn there_are_only_so_many() {
        let mut talks = Talks::default();
        for tag in 0..1000 {
            talks.begin(Over::Query(tag), flow(tag), Instant::now());
        }
        assert_eq!(talks.into_spans(Instant::now()).len(), TALKS_MAX);
    }
}
