//! Laboratory and engine as programs of their own, for one run.
//!
//! The engine is `parallax serve` with one primary and five remotes in its process, as `lab generate` sets it up, and one
//! caller. Bounds that would hold the caller back are lifted: laboratory names are few, and requests are many.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

use parallax_protocol::{
    pki,
    transport::{Peer, TlsFiles},
};
use toml::{Table, Value};

use super::OpenError;
use crate::{
    lab::{
        generate::settings,
        world::{REQUESTS_MAX, VICTIM, World},
    },
    program::Program,
};

/// How long the engine may go on with requests that nobody waits for.
const DRAIN_MS: i64 = 2_000;
/// How often other ports are tried.
const PORTS_TRIED_MAX: u16 = 20;
/// Where ports begin: below those that the system gives out, above those of services.
const PORTS_FROM: u16 = 22_000;
/// How many ports lie between.
const PORTS_RANGE: u16 = 8_000;
/// What the caller's certificate says.
const CALLER: &str = "caller";
const ENGINE: &str = "engine";
const JOURNAL: &str = "journal";
/// The certificates of a measurement last so many days.
const CERTIFICATE_DAYS: u32 = 2;

/// How the engine is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Attempts in flight.
    pub attempts_in_flight: usize,
    /// Requests of the caller that the engine takes before it holds it back.
    pub outstanding_max: usize,
    /// Worker threads of each perspective.
    pub workers: u16,
    /// The CPU of the engine, if it is bound to one.
    pub engine_core: Option<usize>,
    /// The CPU of the laboratory, if it is bound to one.
    pub other_core: Option<usize>,
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// `parallax`.
    pub engine: PathBuf,
    /// `parallax-perf`.
    pub laboratory: PathBuf,
}

impl Binaries {
    /// In a directory.
    ///
    /// # Errors
    /// One of them is missing.
    pub fn find(directory: &Path) -> Result<Self, OpenError> {
        let file = |name: &str| {
            let path = directory.join(name);
            if path.is_file() { Ok(path) } else { Err(OpenError::NoProgram(path)) }
        };
        Ok(Self { engine: file("parallax")?, laboratory: file("parallax-perf")? })
    }
}

/// Certificates of engine and caller.
///
/// # Errors
/// They cannot be made or written.
pub fn make_pki(directory: &Path) -> Result<(), OpenError> {
    let made = pki::init(&directory.join("pki"), &[ENGINE.to_owned(), CALLER.to_owned()], CERTIFICATE_DAYS);
    made.map(|_| ()).map_err(|error| OpenError::Pki(error.to_string()))
}

/// Who calls.
#[must_use]
pub fn caller_files(directory: &Path) -> TlsFiles {
    let file = |name: String| directory.join("pki").join(name);
    TlsFiles {
        certificate: file(format!("{CALLER}.pem")),
        key: file(format!("{CALLER}.key")),
        authorities: file("ca.pem".to_owned()),
        revoked: None,
    }
}

/// Laboratory and engine, while they run. The engine ends first.
#[derive(Debug)]
pub struct Programs {
    /// `parallax serve`.
    pub engine: Program,
    /// `parallax-perf lab serve`.
    pub laboratory: Program,
    /// How the engine is reached.
    pub peer: Peer,
    /// What is asked about.
    pub world: World,
    /// What they write.
    directory: PathBuf,
}

/// What is known once both have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// How the engine ended, if it did so by itself or not well.
    pub engine_ended: Option<String>,
    /// Octets of the engine's journal.
    pub journal_octets: u64,
    /// The last line of the laboratory, which holds its counts.
    pub laboratory: String,
}

impl Programs {
    /// Starts both with a directory of their own below `directory`, which has certificates. Names follow from the seed.
    ///
    /// # Errors
    /// A port cannot be had, or a program does not become ready.
    pub fn start(binaries: &Binaries, setup: &Setup, directory: &Path, seed: u64) -> Result<Self, OpenError> {
        let mut last = OpenError::NoPorts;
        let base = std::process::id().wrapping_mul(37).wrapping_add(u32::try_from(seed & 0xffff).unwrap_or(0));
        for turn in 0..PORTS_TRIED_MAX {
            let base = u16::try_from(base % u32::from(PORTS_RANGE)).unwrap_or(0);
            let first = PORTS_FROM + (base + turn * 401) % PORTS_RANGE;
            let world = World {
                dns_port: first,
                http_port: first + 1,
                https_port: first + 2,
                ..World::new(seed, REQUESTS_MAX)
            };
            let engine = SocketAddr::from((Ipv4Addr::LOCALHOST, first + 3));
            if !are_free(&world, engine) {
                continue;
            }
            match Self::start_at(binaries, setup, directory, world, engine) {
                // Somebody else was faster.
                Err(error @ OpenError::Start(_)) if error.to_string().contains("in use") => last = error,
                outcome => return outcome,
            }
        }
        Err(last)
    }

    fn start_at(
        binaries: &Binaries,
        setup: &Setup,
        directory: &Path,
        world: World,
        engine: SocketAddr,
    ) -> Result<Self, OpenError> {
        let file = |error| OpenError::File { path: directory.to_owned(), error };
        let own = directory.join(format!("run-{}-{}", world.seed, world.dns_port));
        fs::create_dir_all(&own).map_err(file)?;
        let description = serde_json::to_vec(&world).map_err(|error| file(error.into()))?;
        fs::write(own.join("lab.json"), description).map_err(file)?;
        fs::write(own.join("engine.toml"), engine_settings(&world, setup, engine)?).map_err(file)?;
        let mut command = Command::new(&binaries.laboratory);
        command.args(["lab", "serve", "--dir"]).arg(&own);
        let laboratory =
            Program::start("the laboratory", &mut command, own.join("lab.log"), setup.other_core, "ready")?;
        let mut command = Command::new(&binaries.engine);
        command.arg("serve").arg("--config").arg(own.join("engine.toml")).arg("--journal").arg(own.join(JOURNAL));
        let engine_program =
            Program::start("the engine", &mut command, own.join("engine.log"), setup.engine_core, "serving on")?;
        let peer = Peer { address: engine.to_string(), name: ENGINE.to_owned(), keys: Vec::new() };
        Ok(Self { engine: engine_program, laboratory, peer, world, directory: own })
    }

    /// Octets of the journal.
    #[must_use]
    pub fn journal_octets(&self) -> u64 {
        let files = fs::read_dir(self.directory.join(JOURNAL)).into_iter().flatten().flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }

    /// Ends both, and removes what they wrote.
    #[must_use]
    pub fn finish(mut self) -> Remains {
        let engine_ended = self.engine.stop();
        if let Some(how) = self.laboratory.stop() {
            eprintln!("parallax-perf: the laboratory ended with {how}");
        }
        let (journal_octets, laboratory) = (self.journal_octets(), self.laboratory.last_words());
        // It lies within a directory that is removed in the end; this only keeps that small.
        let _ = fs::remove_dir_all(&self.directory);
        Remains { engine_ended, journal_octets, laboratory }
    }
}

/// Whether nobody listens where the programs are to.
fn are_free(world: &World, engine: SocketAddr) -> bool {
    let resolver = world.resolver(crate::lab::world::Perspective::PRIMARY);
    let tcp = [resolver, world.web_server(VICTIM), world.tls_server(VICTIM), engine];
    UdpSocket::bind(resolver).is_ok() && tcp.into_iter().all(|address| TcpListener::bind(address).is_ok())
}

/// The laboratory's settings with what a service needs.
fn engine_settings(world: &World, setup: &Setup, listen: SocketAddr) -> Result<String, OpenError> {
    let fault = |error: toml::de::Error| OpenError::Settings(error.to_string());
    let mut settings: Table = settings(world).parse().map_err(fault)?;
    let number = |value: usize| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let table = |pairs: Vec<(&str, Value)>| -> Table {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    };
    if let Some(engine) = settings.get_mut("engine").and_then(Value::as_table_mut) {
        engine.insert("attempts_in_flight".to_owned(), number(setup.attempts_in_flight));
    }
    for perspective in settings.get_mut("perspective").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(perspective) = perspective.as_table_mut() {
            perspective.insert("workers".to_owned(), number(usize::from(setup.workers)));
        }
    }
    // Requests share addresses, and failing is what many of them are for.
    let limits = [("waiting_max", setup.outstanding_max.max(1)), ("cool_down_ms", 0)]
        .into_iter()
        .chain(["in_flight_per_name_max", "in_flight_per_target_max"].map(|key| (key, 1_000_000)));
    settings.insert("limits".to_owned(), Value::Table(table(limits.map(|(key, n)| (key, number(n))).collect())));
    let text = |value: &str| Value::String(value.to_owned());
    let tls = [("certificate", "../pki/engine.pem"), ("key", "../pki/engine.key"), ("authorities", "../pki/ca.pem")];
    settings.insert("tls".to_owned(), Value::Table(table(tls.map(|(key, file)| (key, text(file))).to_vec())));
    let caller = table(vec![
        ("name", text(CALLER)),
        ("may", Value::Array(vec![text("corroborate")])),
        ("in_flight_max", number(setup.outstanding_max)),
    ]);
    let serve = table(vec![
        ("listen", text(&listen.to_string())),
        ("in_flight_max", number(setup.outstanding_max)),
        ("drain_ms", Value::Integer(DRAIN_MS)),
        ("caller", Value::Array(vec![Value::Table(caller)])),
    ]);
    settings.insert("serve".to_owned(), Value::Table(serve));
    Ok(settings.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup { attempts_in_flight: 2000, outstanding_max: 20_000, workers: 2, engine_core: None, other_core: None }
    }

    #[test]
    fn ok_the_engine_s_settings_are_the_laboratory_s_with_a_service() {
        let world = World::new(1, 10);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 22_003));
        let text = engine_settings(&world, &setup(), listen).expect("settings");
        let read: Table = text.parse().expect("TOML");
        assert_eq!(read["engine"]["attempts_in_flight"].as_integer(), Some(2000));
        assert_eq!(read["engine"]["fan_out"].as_str(), Some("primary-first"));
        assert_eq!(read["serve"]["caller"][0]["in_flight_max"].as_integer(), Some(20_000));
        let perspectives = read["perspective"].as_array().expect("perspectives");
        assert_eq!(perspectives.len(), 6);
        assert!(perspectives.iter().all(|one| one["workers"].as_integer() == Some(2)));
        assert_eq!(read["limits"]["cool_down_ms"].as_integer(), Some(0));
    }

    #[test]
    fn err_a_directory_without_the_programs() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = Binaries::find(directory.path()).expect_err("nothing is there").to_string();
        assert!(error.contains("parallax"), "{error}");
    }
}
