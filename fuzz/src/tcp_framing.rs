//! Arbitrary octets over a query's connection, cut arbitrarily.
//!
//! Invariants: it ends, at the latest when the peer closes; what it ends with depends on the octets alone, not
//! on how they were cut.

use std::sync::Arc;

use parallax_validation::{
    base::Micros,
    lookup::dns::{
        message::Question,
        query::{Query, QueryLimits, QueryStep},
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, DnsTransport, NetworkError},
};

use crate::{
    dns_reply::{ID, NAME, TYPES},
    feed::{Bits, Feed},
};

/// In the first octet: the message's length, header and question come right.
pub const FRAMED: u8 = 0x80;
const START: Micros = Micros(1_000);

/// A query whose datagram was answered with TC, so that it is on a connection; and its question section.
fn on_stream(choices: u8) -> (Query, Vec<u8>) {
    let question = Question::new(NAME, TYPES[usize::from(choices & 0x7f) % TYPES.len()]).expect("a good name");
    let limits = QueryLimits { try_ms: 100, transmissions: 2, deadline: START.plus_ms(1_000) };
    let mut query = Query::new(question, ([127, 0, 0, 53], 53).into(), limits, START);
    let mut packet = Vec::new();
    query.compose(START, ID ^ 0xffff, &mut Bits(1), &mut packet);
    packet[2] |= 0x82;
    assert_eq!(query.handle_datagram(START, &packet), QueryStep::OpenStream);
    let QueryStep::SendStream(sent) = query.handle_connected(ID) else { panic!("nothing is sent") };
    let section = sent.len() - 2 - 12 - 11;
    (query, sent[14..14 + section].to_vec())
}

/// Feeds the octets in parts and closes.
fn outcome(choices: u8, octets: &[u8], cuts: &[u8]) -> (DnsLookup, Arc<[u8]>) {
    let (mut query, _) = on_stream(choices);
    let (mut rest, mut ended) = (octets, false);
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let size = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1);
        let (part, after) = rest.split_at(size.min(rest.len()));
        rest = after;
        match query.handle_stream(part) {
            QueryStep::Done => assert!(!std::mem::replace(&mut ended, true), "it ends twice"),
            QueryStep::Wait => {}
            step => panic!("on a connection it wants {step:?}"),
        }
    }
    let closed = query.handle_stream(&[]);
    assert_eq!(closed, if ended { QueryStep::Wait } else { QueryStep::Done });
    assert_eq!(query.handle_timeout(START.plus_ms(5_000)), QueryStep::Wait);
    query.finish(START)
}

/// Compares one piece, single octets, and arbitrary pieces.
pub fn run(data: &[u8]) {
    let mut feed = Feed(data);
    let choices = feed.octet();
    let cuts: Vec<u8> = (0..4).map(|_| feed.octet()).collect();
    let octets = if choices & FRAMED != 0 {
        let flags = 0x8000 | feed.pair();
        let counts = [0, 1, 0, feed.octet() & 15, 0, feed.octet() & 15, 0, feed.octet() & 3];
        let surplus = usize::from(feed.octet() & 3);
        let section = on_stream(choices).1;
        let message = [&ID.to_be_bytes()[..], &flags.to_be_bytes(), &counts, &section, feed.0].concat();
        let length = (message.len().min(60_000) - surplus.min(message.len())) as u16;
        [&length.to_be_bytes()[..], &message].concat()
    } else {
        feed.0.to_vec()
    };
    let whole = outcome(choices, &octets, &[]);
    assert_eq!(outcome(choices, &octets, &[0]), whole, "octet by octet");
    assert_eq!(outcome(choices, &octets, &cuts), whole, "cut by {cuts:?}");
    let (lookup, packet) = whole;
    assert_eq!(lookup.transport, DnsTransport::Tcp);
    // By the length in front of it, a message is complete or not.
    let complete = octets.len() >= 2 && octets.len() - 2 >= usize::from(u16::from_be_bytes([octets[0], octets[1]]));
    let closed = [NetworkError::ClosedEarly, NetworkError::Reset];
    let cut_off = matches!(&lookup.outcome, DnsOutcome::Failed(DnsFailure::Tcp(error)) if closed.contains(error));
    assert_eq!(complete, !cut_off, "{:?}", lookup.outcome);
    assert!(octets.get(2..).unwrap_or_default().starts_with(&packet));
}
