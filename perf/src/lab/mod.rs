//! The loopback laboratory: a deterministic Internet of one seed.
//!
//! Six perspectives (`ams1` is the primary, five are remotes) have source addresses 127.1.0.1 to 127.1.0.6 and a
//! recursive resolver each, 127.2.0.1 to 127.2.0.6. The laboratory plays those resolvers and the web servers behind
//! the names. Who asks is known from the resolver asked (DNS) or from the source address (HTTP, TLS).
//!
//! Everything is a function of (seed, index). A name carries its index and kind (`www.h000123-http-ok.lab.example`), a
//! token starts with its index; so neither server holds a table, and a million requests cost no memory.
//!
//! ```text
//! kinds     what kinds of request there are, how often, and how each must end
//! world     seed, names, tokens: the arithmetic everything else rests on
//! scenario  (scenario, perspective, qname, qtype) → answer        pure
//! web       (scenario, server, perspective, request) → response   pure
//! wire      DNS messages as bytes                                  pure
//! dns http tls  sockets
//! generate  bulk.jsonl, expected.jsonl, parallax.toml, lab.json
//! serve     bind everything, run, count, stop
//! command   the command line
//! ```
//!
//! Left out: DNSSEC, packet loss, and authoritative servers (the resolvers here know all answers themselves).

pub mod command;
mod dns;
pub mod error;
pub mod generate;
mod http;
pub mod kinds;
pub mod scenario;
pub mod serve;
mod tls;
pub mod web;
pub mod wire;
pub mod world;
