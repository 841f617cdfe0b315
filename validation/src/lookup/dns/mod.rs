//! A stub resolver's side of DNS.
//!
//! * [`message`]: composing queries, reading replies.
//! * [`query`]: one question from first sending to outcome: retransmission, strict matching, TCP.

pub mod message;
pub mod query;
