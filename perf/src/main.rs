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
    open::{self, Open},
    peers::{self, Peers},
    report::{self, Report},
    soak::{self, Soak},
    validate_plan::{self, ValidatePlan},
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
    /// every kind on a schedule. Samples memory, descriptors, threads and CPU time of each process, latencies and the
    /// journal, and times a fixed piece of work beside, which tells a slower engine from a busier machine. Leaves
    /// soak.jsonl and soak.html in its directory. The status is 1 if a curve grows beyond its bound, a verdict is wrong, or
    /// a request stays unanswered. Ctrl-C ends it with a summary of what there is.
    Soak(Soak),
    /// A bad network: forwards Ethernet frames between two interfaces and delays, loses, doubles, reorders or forges some.
    ///
    /// Runs in the network namespace that has both interfaces, and needs root. Prints `ready` once it forwards. Whoever is
    /// at the far ends must leave no checksums to hardware (`ethtool -K … tx off`). perf/src/faults/rules.rs has the file.
    Forward(Forward),
    /// Load that does not wait for answers, on a real engine: latency from when a request was due, and what it cost.
    ///
    /// Laboratory, certificates and engine are made anew for each run and end with it. Every answer is held against the
    /// right one. The status is 1 if any was wrong, or if a run is no figure because the generator did not keep up.
    Open(Open),
    /// Files that `open` wrote, as one HTML page with charts, tables and what they mean in words.
    Report(Report),
    /// Does the capacity planner say what an engine then shows?
    ///
    /// Asks `parallax plan` what one engine should show with a mix at a few rates, measures an engine at these rates as
    /// `open` does, and compares: CPU of a request, requests a second and core, memory, requests in flight. The status is 1
    /// if a prediction is more than 15 % off.
    ValidatePlan(ValidatePlan),
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
        Command::Report(report) => report::run(&report).map_err(|error| LabError::Load(error.to_string())),
        Command::ValidatePlan(plan) => validate_plan::run(&plan).map_err(|error| LabError::Load(error.to_string())),
        Command::Open(load) => open::run(&load).map_err(|error| LabError::Load(error.to_string())),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("parallax-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
