//! A stub resolver's side of DNS.
//!
//! * [`message`]: composing queries, reading replies.
//! * [`names`]: names in record data.
//! * [`query`]: one question from first sending to outcome: retransmission, strict matching, TCP.
//! * `wire`: records and names where they lie in a message.

pub mod message;
pub mod names;
pub mod query;
mod wire;
