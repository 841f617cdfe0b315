//! `lab generate`, `lab serve`, `lab run`.

use std::{
    ffi::OsString,
    io::Write as _,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{
    error::LabError,
    generate::{generate, read_world},
    kinds::SLOW_SHARE,
    serve::Lab,
    world::World,
};

/// Tells a command run by `lab run` where the files are.
pub const DIRECTORY_VARIABLE: &str = "PARALLAX_LAB_DIR";

const STOP_CHECK: Duration = Duration::from_millis(50);

/// What to do with a laboratory.
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Write bulk.jsonl, expected.jsonl, parallax.toml and lab.json.
    Generate(Description),
    /// Serve what lab.json describes; prints `ready` when everything is bound.
    Serve {
        /// The directory `generate` wrote to.
        #[arg(long)]
        dir: PathBuf,
        /// Stop after so many seconds.
        #[arg(long, default_value_t = 3600, value_name = "MAX")]
        seconds: u64,
    },
    /// Generate, serve, run a command, stop, and exit as the command did.
    Run {
        /// What to generate and serve.
        #[command(flatten)]
        description: Description,
        /// The command and its arguments; PARALLAX_LAB_DIR names the directory.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// What a laboratory is to be like.
#[derive(Debug, Args)]
pub struct Description {
    /// Where the files go.
    #[arg(long)]
    dir: PathBuf,
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many requests.
    #[arg(long, default_value_t = 5_000)]
    requests: u64,
    /// The share of requests that cost a client seconds, 0 to 0.03. Those left out become plain `http-ok`.
    #[arg(long, default_value_t = SLOW_SHARE)]
    slow_share: f64,
    /// The resolvers' port.
    #[arg(long, default_value_t = 5300)]
    dns_port: u16,
    /// The web servers' port.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// The web servers' port for TLS.
    #[arg(long, default_value_t = 8443)]
    https_port: u16,
}

impl Description {
    fn generate(&self) -> Result<World, LabError> {
        let world = World {
            dns_port: self.dns_port,
            http_port: self.http_port,
            https_port: self.https_port,
            slow_share: self.slow_share,
            ..World::new(self.seed, self.requests)
        };
        let world = world.checked()?;
        generate(&self.dir, &world)?;
        Ok(world)
    }
}

/// Does it.
///
/// # Errors
///
/// See [`LabError`].
pub fn run(command: LabCommand) -> Result<ExitCode, LabError> {
    match command {
        LabCommand::Generate(description) => description.generate().map(|_| ExitCode::SUCCESS),
        LabCommand::Serve { dir, seconds } => serve(&read_world(&dir)?, Duration::from_secs(seconds)),
        LabCommand::Run { description, command } => run_command(&description, &command),
    }
}

fn serve(world: &World, longest: Duration) -> Result<ExitCode, LabError> {
    let stop = stop_flag()?;
    let started = Instant::now();
    let lab = Lab::start(world)?;
    // If nobody reads our output, nobody waits for it either.
    let _ = writeln!(std::io::stdout(), "ready").and_then(|()| std::io::stdout().flush());
    while !stop.load(Ordering::Relaxed) && started.elapsed() < longest && !lab.has_broken_down() {
        std::thread::sleep(STOP_CHECK);
    }
    eprintln!("{}", lab.counters().summary());
    Ok(if lab.has_broken_down() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_command(description: &Description, command: &[OsString]) -> Result<ExitCode, LabError> {
    let world = description.generate()?;
    // The command gets signals of the terminal too; we stay until it has ended.
    let _stop = stop_flag()?;
    let lab = Lab::start(&world)?;
    let (program, arguments) = command.split_first().map_or_else(Default::default, |(p, a)| (p.clone(), a));
    let status = Command::new(&program)
        .args(arguments)
        .env(DIRECTORY_VARIABLE, &description.dir)
        .status()
        .map_err(|source| LabError::Command { command: program.to_string_lossy().into_owned(), source })?;
    eprintln!("{}", lab.counters().summary());
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn stop_flag() -> Result<Arc<AtomicBool>, LabError> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|source| LabError::Start { thread: "signal", source })?;
    }
    Ok(flag)
}
