//! Protocol cores without I/O: bytes and time in, bytes and deadlines out.
//!
//! [`task::Task`] carries out one plan for one perspective. A driver feeds it events (`handle_*`), does
//! what it asks for ([`task::Command`]) and wakes it when its deadline comes. The driver knows
//! transports; it cannot tell CAA from TXT.

mod addresses;
mod asking;
mod diagnosis;
pub mod dns;
pub mod dnssec;
pub mod http;
mod nameserver;
mod pace;
mod probe;
mod proving;
mod repeat;
mod survey;
pub mod task;
pub mod tls;

pub use proving::Dnssec;
