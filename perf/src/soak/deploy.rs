//! The programs of a soak: laboratory, six nodes and an engine as processes of their own on loopback addresses.
//!
//! Invariant: dropping a [`Deployment`] leaves none of them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use parallax_protocol::{pki, transport::TlsFiles};
use toml::{Table, Value};

use super::SoakError;
use crate::{
    lab::{generate::generate, world::World},
    program::Program,
};

/// Certificates are made anew for every run.
const CERTIFICATE_DAYS: u32 = 30;
/// Ports of the laboratory behind the first one.
const LAB_PORTS: u16 = 30;
/// Ports that all programs use from the first one on, at most.
pub(super) const PORTS: u16 = 40;
/// What an engine takes of its one caller at a time.
pub(super) const IN_FLIGHT_MAX: usize = 10_000;
/// The longest cool-down. Requests for addresses share one of two, and some of them must fail, again and again: with the
/// minute that an engine has by default, those that wait for its end would still wait when the soak looks for answers.
const COOL_DOWN_MAX: Duration = Duration::from_secs(1);
/// The name of the caller in its certificate.
const CALLER: &str = "caller";

/// Where the programs are, and which ports they use.
pub(super) struct Site<'a> {
    /// Of their files.
    pub(super) directory: &'a Path,
    /// Of `parallax` and `parallax-node`.
    pub(super) binaries: &'a Path,
    /// The first of [`PORTS`].
    pub(super) port: u16,
    /// The longest that the laboratory may be needed.
    pub(super) seconds: u64,
}

/// All programs of one run. The engine goes first.
pub(super) struct Deployment {
    programs: Vec<Program>,
    /// Where the engine listens.
    pub(super) engine: SocketAddr,
}

impl Deployment {
    /// Writes settings and certificates, and starts everything.
    pub(super) fn start(site: &Site<'_>, world: &World) -> Result<Self, SoakError> {
        let directory = site.directory;
        let mut world = world.clone();
        world.dns_port = site.port + LAB_PORTS;
        (world.http_port, world.https_port) = (world.dns_port + 1, world.dns_port + 2);
        generate_without_requests(directory, &world)?;
        let nodes = write_settings(directory, site.port)?;
        let names: Vec<String> = nodes.iter().cloned().chain(["engine".to_owned(), CALLER.to_owned()]).collect();
        pki::init(&directory.join("pki"), &names, CERTIFICATE_DAYS)?;
        let itself = std::env::current_exe().map_err(|error| SoakError::Start { program: "lab".to_owned(), error })?;
        let mut lab = Command::new(itself);
        lab.args(["lab", "serve", "--seconds", &site.seconds.to_string(), "--dir"]).arg(directory);
        let start = |name: &str, command: &mut Command, ready| {
            // Ctrl-C at a terminal reaches the soak alone, which tells programs to stop in their order.
            command.process_group(0);
            Program::start(name, command, directory.join(format!("{name}.log")), None, ready)
        };
        let mut programs = vec![start("lab", &mut lab, "ready")?];
        for id in &nodes {
            let mut node = Command::new(site.binaries.join("parallax-node"));
            node.args(["run", "--config"]).arg(directory.join(format!("{id}.toml")));
            programs.insert(0, start(id, &mut node, "serving on")?);
        }
        let mut engine = Command::new(site.binaries.join("parallax"));
        engine.args(["serve", "--config"]).arg(directory.join("engine.toml"));
        engine.arg("--journal").arg(directory.join("journal"));
        programs.insert(0, start("engine", &mut engine, "serving on")?);
        programs[0].await_said("linked to", nodes.len())?;
        Ok(Self { programs, engine: engine_address(site.port) })
    }

    /// Every program.
    pub(super) fn programs(&mut self) -> &mut [Program] {
        &mut self.programs
    }

    /// What a caller shows, and whom it believes.
    pub(super) fn caller_files(directory: &Path) -> TlsFiles {
        TlsFiles {
            certificate: directory.join(format!("pki/{CALLER}.pem")),
            key: directory.join(format!("pki/{CALLER}.key")),
            authorities: directory.join("pki/ca.pem"),
            revoked: None,
        }
    }

    /// Stops them one after another; those that ended by themselves or not well, and how.
    pub(super) fn stop(mut self) -> Vec<String> {
        let fault = |program: &mut Program| program.stop().map(|how| format!("{} ended with {how}", program.name()));
        self.programs.iter_mut().filter_map(fault).collect()
    }
}

/// The files of a laboratory, but for its requests, which are asked as they are made up.
fn generate_without_requests(directory: &Path, world: &World) -> Result<(), SoakError> {
    generate(directory, &World { requests: 0, ..world.clone() })?;
    let path = directory.join("lab.json");
    // A structure of numbers is always serializable.
    let text = serde_json::to_vec_pretty(world).unwrap_or_default();
    fs::write(&path, text).map_err(|error| SoakError::File { path, error })
}

fn engine_address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Settings of the engine and of each node, out of the laboratory's. The nodes' names.
fn write_settings(directory: &Path, port: u16) -> Result<Vec<String>, SoakError> {
    let path = directory.join("parallax.toml");
    let text = fs::read_to_string(&path).map_err(|error| SoakError::File { path: path.clone(), error })?;
    let mut settings: Table = text.parse().map_err(|error| SoakError::Settings { path, error })?;
    let laboratory = settings.remove("laboratory").unwrap_or_else(|| Value::Table(Table::new()));
    let mut names = Vec::new();
    let perspectives = settings.get_mut("perspective").and_then(Value::as_array_mut);
    for (index, perspective) in (0_u8..).zip(perspectives.into_iter().flatten().filter_map(Value::as_table_mut)) {
        let name = perspective.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let listen = SocketAddr::from((Ipv4Addr::new(127, 1, 0, index + 1), port));
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, port + 1 + u16::from(index)));
        let mut node = Table::from_iter([("perspective".to_owned(), name.as_str().into())]);
        for key in ["rir", "resolver", "dnssec", "source_ipv4", "source_ipv6"] {
            node.extend(perspective.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        node.insert("serve".to_owned(), table([("listen", listen.to_string().into())]));
        node.insert("tls".to_owned(), tls_table(&name));
        node.insert("clients".to_owned(), table([("link", Value::Array(vec!["engine".into()]))]));
        node.insert("metrics".to_owned(), table([("listen", metrics.to_string().into())]));
        node.insert("laboratory".to_owned(), laboratory.clone());
        write(&directory.join(format!("{name}.toml")), &node)?;
        perspective.retain(|key, _| !key.starts_with("source_"));
        perspective.insert("node".to_owned(), listen.to_string().into());
        names.push(name);
    }
    settings.insert("tls".to_owned(), tls_table("engine"));
    settings.insert("laboratory".to_owned(), laboratory);
    // All requests are for a handful of the laboratory's servers.
    let limits = [
        ("in_flight_per_target_max", 1_000_000.into()),
        ("cool_down_max_ms", (COOL_DOWN_MAX.as_millis() as i64).into()),
    ];
    settings.insert("limits".to_owned(), table(limits));
    let caller = table([
        ("name", CALLER.into()),
        ("may", Value::Array(vec!["corroborate".into()])),
        ("in_flight_max", (IN_FLIGHT_MAX as i64).into()),
    ]);
    let serve = [("listen", engine_address(port).to_string().into()), ("caller", Value::Array(vec![caller]))];
    settings.insert("serve".to_owned(), table(serve));
    write(&directory.join("engine.toml"), &settings)?;
    Ok(names)
}

fn write(path: &Path, table: &Table) -> Result<(), SoakError> {
    fs::write(path, table.to_string()).map_err(|error| SoakError::File { path: path.to_owned(), error })
}

fn table<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Table(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn tls_table(name: &str) -> Value {
    table([
        ("certificate", format!("pki/{name}.pem").into()),
        ("key", format!("pki/{name}.key").into()),
        ("authorities", "pki/ca.pem".into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::{super::load::DRAIN_MAX, *};

    #[test]
    fn ok_an_engine_cools_down_for_less_time_than_answers_are_awaited() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path();
        generate_without_requests(directory, &World::new(1, 1_000)).expect("a laboratory");
        write_settings(directory, 27_000).expect("settings");
        let text = fs::read_to_string(directory.join("engine.toml")).expect("settings of the engine");
        let settings: Table = text.parse().expect("TOML");
        let longest_ms = settings["limits"]["cool_down_max_ms"].as_integer().expect("a number");
        // What remembers failures is among what must not grow, and a wait is varied by a quarter.
        let longest = Duration::from_millis(u64::try_from(longest_ms).expect("a time"));
        assert!(longest > Duration::ZERO && longest * 5 / 4 < DRAIN_MAX / 2, "{longest:?}");
    }
}
