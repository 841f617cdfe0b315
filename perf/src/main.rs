//! `parallax-perf`: the command line of the loopback laboratory, load on what is called, and measurements of a node.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use parallax_perf::{
    faults::{self, Forward},
    internet::command::{InternetCommand, execute},
    lab::{
        command::{LabCommand, run},
        error::LabError,
    },
    load::{self, LoadCommand},
    node::{self, NodeCommand},
    peers::{self, Peers},
    soak::{self, Soak},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The loopback laboratory: requests, what they must lead to, and the servers they are about.
    #[command(subcommand)]
    Lab(LabCommand),
    /// The laboratory of BGP: a small Internet of network namespaces, with an attacker that hijacks routes in it.
    #[command(subcommand)]
    Internet(InternetCommand),
    /// Many calls at a time on a node or an engine, and what they cost it.
    #[command(subcommand)]
    Load(LoadCommand),
    /// One node in this process, without a link: what its own work costs.
    ///
    /// The servers are other programs, on loopback, and must answer what `node values` prints. Each command prints one
    /// line of JSON on standard output and the same in words on standard error. The status is 1 if any task did not end
    /// as it must, and the first few are told in words.
    #[command(subcommand)]
    Node(NodeCommand),
    /// What an item of work costs a node, clients that do nothing else, and programs of others: one table.
    ///
    /// Each client is run against the same responder, one after another, round by round, client and responder on a CPU
    /// each. Printed are medians with the lowest and highest round, as a Markdown table; --out keeps every round as JSON.
    /// A program that is not installed has a row that says so. The status is 1 if a client broke off, if any item of ours
    /// or of a bare client failed, or if most items of another program did.
    ///
    /// Give the machine nothing else to do meanwhile.
    Peers(Peers),
    /// The same for the clients that do nothing else: the least that an item of work can cost here.
    Ceiling(Peers),
    /// A long run at a steady rate: does anything grow, is any verdict wrong, is anything left unanswered?
    ///
    /// Starts the laboratory, six nodes and an engine as processes of their own on loopback addresses and asks requests of
    /// every kind on a schedule. Samples memory, descriptors and threads of each process, latencies and the journal.
    /// Leaves soak.jsonl and soak.html in its directory. The status is 1 if a curve grows beyond its bound, a verdict is
    /// wrong, or a request stays unanswered. Ctrl-C ends it with a summary of what there is.
    Soak(Soak),
    /// A bad network: forwards Ethernet frames between two interfaces and delays, loses, doubles, reorders or forges some.
    ///
    /// Runs in the network namespace that has both interfaces, and needs root. Prints `ready` once it forwards. Whoever is
    /// at the far ends must leave no checksums to hardware (`ethtool -K … tx off`). perf/src/faults/rules.rs has the file.
    Forward(Forward),
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Lab(command) => run(command),
        Command::Internet(command) => execute(command).map_err(|error| LabError::Load(error.to_string())),
        Command::Load(command) => load::run(command),
        Command::Node(command) => node::run(command).map_err(LabError::Load),
        Command::Peers(peers) => peers::run(&peers, true).map_err(|error| LabError::Load(error.to_string())),
        Command::Soak(soak) => soak::run(&soak).map_err(|error| LabError::Load(error.to_string())),
        Command::Forward(forward) => faults::run(&forward).map_err(|error| LabError::Load(error.to_string())),
        Command::Ceiling(peers) => peers::run(&peers, false).map_err(|error| LabError::Load(error.to_string())),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("parallax-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
