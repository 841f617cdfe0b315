//! A stub resolver's side of DNS.
//!
//! * [`message`]: composing queries, reading replies.
//! * [`names`]: names in record data.
//! * [`query`]: one question from first sending to outcome: retransmission, strict matching, TCP.

pub mod message;
pub mod names;
pub mod query;
