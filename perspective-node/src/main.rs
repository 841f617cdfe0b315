//! `parallax-node`: a perspective node as a program.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use parallax_node::{
    serve::{self, ServeError},
    settings::{SAMPLE, Settings},
    telemetry::LogForm,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UNUSABLE: u8 = 2;
const BROKEN: u8 = 3;

/// A perspective node: looks, and reports what it saw.
///
/// It resolves DNS and probes HTTP and TLS from one network perspective, for an engine (`parallax`) or for others that it
/// was told to serve. It never decides about issuance.
#[derive(Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "EXIT STATUS\n  0  done; of run: told to stop, and stopped in order\n  2  the command line or the settings cannot be used; nothing was sent\n  3  the system failed: an address, io_uring, a socket\n\nSIGNALS\n  SIGHUP            reads certificates, keys and revocation lists again; if they are bad the old ones stay in use\n  SIGTERM, SIGINT   stops: nothing new is taken, and running checks may end within serve.drain_ms\n\nEXAMPLES\n  parallax-node config sample > node.toml\n  parallax-node config check node.toml\n  parallax-node run --config node.toml"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until told to stop.
    Run {
        /// Settings file.
        #[arg(long, default_value = "node.toml")]
        config: PathBuf,
        /// How what happens is written to standard error.
        #[arg(long, value_enum, default_value_t)]
        log: LogForm,
    },
    /// Read settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check a settings file.
    Check {
        /// The file.
        file: PathBuf,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a commented sample.
    Sample,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, log } => run(&config, log),
        Command::Config(ConfigCommand::Check { file, json }) => check(&file, json),
        Command::Config(ConfigCommand::Sample) => {
            print_out(SAMPLE);
            ExitCode::SUCCESS
        }
    }
}

/// Prints; a reader that went away, as `head` does, is no error.
fn print_out(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fail(status: u8, error: impl std::fmt::Display) -> ExitCode {
    eprintln!("parallax-node: {error}");
    ExitCode::from(status)
}

fn run(config: &std::path::Path, log: LogForm) -> ExitCode {
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(error) => return fail(UNUSABLE, error),
    };
    for warning in &settings.warnings {
        eprintln!("warning: {warning}");
    }
    raise_descriptor_limit();
    // What it carries is messages; lookups have threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let served = runtime.map_err(ServeError::System).and_then(|runtime| runtime.block_on(serve::run(&settings, log)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (ServeError::Identity(_) | ServeError::Boulder(_))) => fail(UNUSABLE, error),
        Err(error) => fail(BROKEN, error),
    }
}

/// Every connection holds a descriptor: as many as the system allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The limit stays as it was; running out of descriptors is reported where it happens.
    let _ = setrlimit(Resource::Nofile, limit);
}

fn check(file: &std::path::Path, json: bool) -> ExitCode {
    let settings = match Settings::load(file) {
        Ok(settings) => settings,
        Err(error) => return fail(UNUSABLE, error),
    };
    if json {
        let found = serde_json::json!({
            "perspective": settings.node.perspective, "rir": settings.node.rir, "resolver": settings.node.resolver,
            "dnssec": settings.dnssec.to_string(), "trust_anchors": settings.trust_anchors, "listen": settings.listen,
            "warnings": settings.warnings,
        });
        print_out(&format!("{found}\n"));
    } else {
        let node = &settings.node;
        print_out(&format!(
            "{}: perspective {} in {}, resolver {}, DNSSEC by {}, serves on {}\n",
            file.display(),
            node.perspective,
            node.rir,
            node.resolver,
            settings.dnssec,
            settings.listen
        ));
        for warning in &settings.warnings {
            print_out(&format!("  warning: {warning}\n"));
        }
    }
    ExitCode::SUCCESS
}
