//! The outstanding queries: composing, checking, noticing loss.
//!
//! Each of the slots has one query outstanding, on a socket that is always the same; the id is the slot's number on
//! that socket. A number in the query's name tells a late reply from the one that is awaited.
//!
//! Invariant: a query counts once, as answered by the responder's text or as failed.

use std::time::{Duration, Instant};

use crate::error::BareError;
use crate::run::Run;

/// Octets of a query.
pub(super) const QUERY_BYTES: usize = 47;
const NAME: usize = 13;
const QUESTION_END: usize = 36;
/// Pointer to the name, type, class, TTL and length: what stands before the answer's text.
const ANSWER_HEAD: usize = 12;

/// Id zero; RD; one question, `aaaaaaaa.bare.test` TXT IN; OPT with 1 232 octets.
const TEMPLATE: &[u8; QUERY_BYTES] = b"\0\0\x01\0\0\x01\0\0\0\0\0\x01\
    \x08aaaaaaaa\x04bare\x04test\0\0\x10\0\x01\
    \0\0\x29\x04\xd0\0\0\0\0\0\0";

const REPLY_WAIT: Duration = Duration::from_secs(1);
const SENDS_MAX: u8 = 3;

#[derive(Clone, Copy)]
struct Slot {
    sequence: u32,
    sent_at: Instant,
    sends: u8,
}

/// What a datagram was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// To no outstanding query: a duplicate, or not a reply at all.
    Stray,
    /// To the query of this slot, which is free now.
    To { slot: u32, right: bool },
}

pub(super) struct Window {
    sockets: u32,
    slots: Vec<Slot>,
    sequence: u32,
    now: Instant,
    looked_at: Instant,
    /// The answer's data: one length octet and the text.
    data: Vec<u8>,
}

impl Window {
    pub(super) fn new(sockets: u32, in_flight: u32, text: &str) -> Result<Window, BareError> {
        if in_flight.div_ceil(sockets) > 1 << 16 {
            return Err(BareError::Setting("--in-flight: more than the ids of so many --sockets"));
        }
        let length = u8::try_from(text.len()).map_err(|_| BareError::Setting("--text: more than 255 octets"))?;
        let mut data = vec![length];
        data.extend_from_slice(text.as_bytes());
        let now = Instant::now();
        let slots = vec![Slot { sequence: 0, sent_at: now, sends: 0 }; in_flight as usize];
        Ok(Window { sockets, slots, sequence: 0, now, looked_at: now, data })
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn socket_of(&self, slot: u32) -> usize {
        (slot % self.sockets) as usize
    }

    /// Looks at the clock; all that is composed until the next look counts as sent then.
    pub(super) fn look_at_clock(&mut self) {
        self.now = Instant::now();
    }

    /// A new query in a slot.
    pub(super) fn compose(&mut self, slot: u32) -> [u8; QUERY_BYTES] {
        self.sequence = self.sequence.wrapping_add(1);
        let entry = &mut self.slots[slot as usize];
        *entry = Slot { sequence: self.sequence, sent_at: self.now, sends: 1 };
        self.query(slot)
    }

    /// The query outstanding in a slot.
    fn query(&self, slot: u32) -> [u8; QUERY_BYTES] {
        let mut query = *TEMPLATE;
        query[..2].copy_from_slice(&((slot / self.sockets) as u16).to_be_bytes());
        query[NAME..NAME + 8].copy_from_slice(&letters(self.slots[slot as usize].sequence));
        query
    }

    /// What came on a socket; `run` hears of a query that is done with.
    pub(super) fn accept(&self, socket: usize, reply: &[u8], run: &mut Run<'_>) -> Reply {
        let reply = self.examine(socket, reply);
        if let Reply::To { right, .. } = reply {
            run.finish_item(right);
        }
        reply
    }

    fn examine(&self, socket: usize, reply: &[u8]) -> Reply {
        let Some((head, rest)) = reply.split_at_checked(QUESTION_END) else { return Reply::Stray };
        let slot = u32::from(u16::from_be_bytes([head[0], head[1]])) * self.sockets + socket as u32;
        let Some(entry) = self.slots.get(slot as usize) else { return Reply::Stray };
        if head[NAME..NAME + 8] != letters(entry.sequence) {
            return Reply::Stray;
        }
        let is_answer = head[2] & 0x80 != 0 && head[3] & 0x0f == 0 && head[4..8] == [0, 1, 0, 1];
        let same_question = head[NAME + 8..] == TEMPLATE[NAME + 8..QUESTION_END];
        let right = is_answer && same_question && rest.get(ANSWER_HEAD..).is_some_and(|it| it.starts_with(&self.data));
        Reply::To { slot, right }
    }

    /// From time to time, looks for queries without a reply; gives what to send once more, or anew in place of one
    /// that failed.
    pub(super) fn overdue(&mut self, run: &mut Run<'_>, mut send: impl FnMut(u32, [u8; QUERY_BYTES])) {
        if self.now.duration_since(self.looked_at) < super::TICK {
            return;
        }
        self.looked_at = self.now;
        for slot in 0..self.slots() {
            let now = self.now;
            let entry = &mut self.slots[slot as usize];
            if now.duration_since(entry.sent_at) < REPLY_WAIT {
                continue;
            }
            if entry.sends < SENDS_MAX {
                entry.sends += 1;
                entry.sent_at = now;
                run.count_retransmission();
                send(slot, self.query(slot));
            } else {
                run.finish_item(false);
                send(slot, self.compose(slot));
            }
        }
    }
}

/// Eight letters for a number: names of letters alone pass through any resolver unchanged.
fn letters(number: u32) -> [u8; 8] {
    let mut letters = [0; 8];
    for (index, letter) in letters.iter_mut().enumerate() {
        *letter = b'a' + (number >> (4 * index) & 0x0f) as u8;
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Bounds, Load};

    fn window() -> Window {
        Window::new(2, 5, "hello").unwrap()
    }

    fn reply_to(query: &[u8], text: &[u8]) -> Vec<u8> {
        let mut reply = query[..QUESTION_END].to_vec();
        reply[2] |= 0x80;
        reply[6..8].copy_from_slice(&[0, 1]);
        reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, 6, text.len() as u8]);
        reply.extend(text);
        reply
    }

    #[test]
    fn only_the_text_asked_for_is_right() {
        let mut window = window();
        let query = window.compose(3);
        let good = reply_to(&query, b"hello");
        assert_eq!(window.examine(1, &good), Reply::To { slot: 3, right: true });
        for (what, offset) in [("flags", 3), ("counts", 7), ("question", 25), ("text", good.len() - 1)] {
            let mut bad = good.clone();
            bad[offset] ^= 1;
            assert_eq!(window.examine(1, &bad), Reply::To { slot: 3, right: false }, "{what}");
        }
        assert_eq!(window.examine(1, &good[..good.len() - 1]), Reply::To { slot: 3, right: false });
        assert_eq!(window.examine(1, &query), Reply::To { slot: 3, right: false }, "an echo");
    }

    #[test]
    fn a_reply_to_another_query_is_a_stray() {
        let mut window = window();
        let before = reply_to(&window.compose(3), b"hello");
        let good = reply_to(&window.compose(3), b"hello");
        assert_eq!(window.examine(1, &before), Reply::Stray, "the slot's last one");
        assert_eq!(window.examine(0, &good), Reply::Stray, "another socket");
        assert_eq!(window.examine(1, &good[..QUESTION_END - 1]), Reply::Stray, "cut");
        let mut beyond = good.clone();
        beyond[0] = 0xff;
        assert_eq!(window.examine(1, &beyond), Reply::Stray, "no such slot");
    }

    #[test]
    fn a_query_is_sent_three_times_and_then_failed() {
        let bounds = Bounds { core: None, limit: 9 };
        let load = Load { bounds, items: 9, in_flight: 1, warm_up: 0 };
        let mut run = Run::start(&load).unwrap();
        let mut window = Window::new(1, 1, "").unwrap();
        let first = window.compose(0);
        let mut sent = Vec::new();
        for _ in 0..3 {
            window.overdue(&mut run, |_, query| sent.push(query));
            window.now += REPLY_WAIT;
            window.overdue(&mut run, |_, query| sent.push(query));
        }
        assert_eq!(sent[..2], [first, first]);
        assert_ne!(sent[2], first);
        let report = run.report("test");
        assert_eq!((report.items, report.failed, report.retransmitted), (1, 1, 2));
    }
}
