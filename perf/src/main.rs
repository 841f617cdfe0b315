//! `parallax-perf`: the command line of the loopback laboratory, and load on what is called.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use parallax_perf::{
    lab::command::{LabCommand, run},
    load::{self, LoadCommand},
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
    /// Many calls at a time on a node or an engine, and what they cost it.
    #[command(subcommand)]
    Load(LoadCommand),
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Lab(command) => run(command),
        Command::Load(command) => load::run(command),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("parallax-perf: {error}");
            ExitCode::FAILURE
        }
    }
}
