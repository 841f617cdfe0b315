//! `parallax-bare`: clients that do nothing but move octets, and responders that answer as fast as one thread can.
//!
//! What a node's lookup or probe costs is compared with these: they compose a fixed query, check that the answer is
//! the responder's, and count. They leave out parsing, name matching, policy, deadlines per item and everything else
//! a resolver or a prober is for, and they do not use `parallax-ring`: they are the floor below it.
//!
//! Each client prints one line of JSON at its end. Invariant: whatever the peer does, a client ends by `--limit`.

mod error;
mod http;
mod memory;
mod messages;
mod poll;
mod report;
mod respond;
mod run;
mod tls;
mod udp;
mod uring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::BareError;
use crate::report::Report;

/// Bare clients and fast responders, for comparison with a perspective node.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers until standard input closes, a signal comes, or the limit passes.
    #[command(subcommand)]
    Respond(respond::Respond),
    /// Queries over connected UDP sockets.
    Udp(udp::Udp),
    /// Connect, GET, read to the end, close.
    Http(http::Http),
    /// Connect, full TLS 1.3 handshake, close.
    Tls(tls::Tls),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("parallax-bare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), BareError> {
    let report: Report = match command {
        Command::Respond(respond) => match respond.run()? {},
        Command::Udp(udp) => udp.run()?,
        Command::Http(http) => http.run()?,
        Command::Tls(tls) => tls.run()?,
    };
    println!("{}", report.to_json()?);
    Ok(())
}
