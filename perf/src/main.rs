//! `parallax-perf`: the loopback laboratory's command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use parallax_perf::lab::command::{LabCommand, run};

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
}

fn main() -> ExitCode {
    let Command::Lab(command) = Arguments::parse().command;
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("parallax-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
