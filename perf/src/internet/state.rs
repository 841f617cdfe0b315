//! What is up: `state.json` in the laboratory's directory, from which every command begins.
//!
//! It names each namespace, wire and program, so that another command can put faults on a wire or a site: a device of
//! [`LinkState`] in its namespace, or a program of [`ProgramState`] by its number.
//!
//! Invariant: the file is replaced as a whole, so a killed command leaves the one before.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    attack::Routing,
    error::InternetError,
    owner,
    settings::{self, FanOut},
    topology::{AUTHORITY, links, site, site_id, systems},
};
use crate::lab::world::Perspective;

/// The file's name.
pub const FILE: &str = "state.json";

/// A laboratory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What its namespaces' names hold, so that two can be up at a time.
    pub name: String,
    /// Where its files are, in full.
    pub directory: PathBuf,
    /// Where our programs are.
    pub programs_from: PathBuf,
    /// Whether everything was started and answered.
    pub is_up: bool,
    /// Namespaces by the system that is in them.
    pub namespaces: BTreeMap<u32, String>,
    /// Wires.
    pub links: Vec<LinkState>,
    /// Sites of perspectives, the primary's first.
    pub sites: Vec<SiteState>,
    /// The engine that asks all perspectives at once.
    pub engine: EngineState,
    /// The engine that asks the primary first.
    pub engine_primary_first: EngineState,
    /// Everything that runs.
    pub programs: Vec<ProgramState>,
    /// What routing is, or is about to be.
    pub routing: Routing,
    /// Runs that were made, so that requests of each have names of their own.
    pub runs: u32,
}

/// One wire, with a device at each end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// One system; the customer, if one pays.
    pub a: u32,
    /// The other.
    pub b: u32,
    /// The device in the namespace of `a`.
    pub device_a: String,
    /// The device in that of `b`.
    pub device_b: String,
    /// Its address there.
    pub address_a: Ipv4Addr,
    /// Its address there.
    pub address_b: Ipv4Addr,
}

/// A perspective's site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteState {
    /// The perspective's id.
    pub id: String,
    /// Its system.
    pub system: u32,
    /// Where its node listens.
    pub node: SocketAddr,
    /// Its resolver.
    pub resolver: SocketAddr,
    /// The node's settings, beside which relative names in them are.
    pub settings: PathBuf,
}

/// An engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState {
    /// Its system.
    pub system: u32,
    /// Where callers come in.
    pub listen: SocketAddr,
    /// Its figures, within its namespace.
    pub metrics: SocketAddr,
    /// Its settings.
    pub settings: PathBuf,
    /// Its journal.
    pub journal: PathBuf,
    /// A caller's certificate, key, and the authorities to believe.
    pub caller: [PathBuf; 3],
}

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramState {
    /// What it is called, such as `node-ams1`.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// The system in whose namespace it runs.
    pub system: u32,
    /// What it says.
    pub log: PathBuf,
}

impl State {
    /// Reads that of a directory.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(directory: &Path) -> Result<Self, InternetError> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(InternetError::NotUp(directory.to_owned()));
            }
            Err(error) => return Err(InternetError::File { path, error }),
        };
        serde_json::from_slice(&text).map_err(|error| InternetError::Unreadable { path, error })
    }

    /// Whether it is that of this directory, and was not brought there from elsewhere.
    #[must_use]
    pub fn is_of(&self, directory: &Path) -> bool {
        self.directory == owner::full(directory)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self) -> Result<(), InternetError> {
        let (path, new) = (self.directory.join(FILE), self.directory.join("state.json.new"));
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| InternetError::Unreadable { path: path.clone(), error })?;
        fs::write(&new, text).map_err(InternetError::file(&new))?;
        fs::rename(&new, &path).map_err(InternetError::file(&path))
    }

    /// The program of this name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<&ProgramState> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The engine that asks in this way.
    #[must_use]
    pub fn engine_of(&self, fan_out: FanOut) -> &EngineState {
        match fan_out {
            FanOut::Parallel => &self.engine,
            FanOut::PrimaryFirst => &self.engine_primary_first,
        }
    }

    /// The name of a system's namespace; empty for a system that there is not.
    #[must_use]
    pub fn namespace(&self, system: u32) -> String {
        self.namespaces.get(&system).cloned().unwrap_or_default()
    }

    /// Files of one system.
    #[must_use]
    pub fn folder(&self, system: u32) -> PathBuf {
        self.directory.join(format!("as{system}"))
    }

    /// The control socket of a system's router.
    #[must_use]
    pub fn router(&self, system: u32) -> PathBuf {
        self.folder(system).join("bird.ctl")
    }

    /// The zones' folder.
    #[must_use]
    pub fn zones(&self) -> PathBuf {
        self.directory.join("zones")
    }
}

/// The state of a laboratory of which nothing runs yet.
#[must_use]
pub fn planned(name: &str, directory: &Path, programs_from: &Path) -> State {
    let namespaces = systems()
        .iter()
        .map(|system| (system.number, format!("{}{}", namespace_prefix(name), system.number)))
        .collect();
    let links = links().into_iter().map(|link| LinkState {
        a: link.a,
        b: link.b,
        device_a: link.device_of(link.a),
        device_b: link.device_of(link.b),
        address_a: link.address_of(link.a),
        address_b: link.address_of(link.b),
    });
    let sites = Perspective::ALL.map(|perspective| SiteState {
        id: site_id(perspective).to_owned(),
        system: site(perspective),
        node: (settings::node_address(perspective), settings::PORT).into(),
        resolver: (settings::node_address(perspective), 53).into(),
        settings: directory.join(format!("{}.toml", site_id(perspective))),
    });
    let caller = ["ra.pem", "ra.key", "ca.pem"].map(|file| directory.join("pki").join(file));
    let engine = |fan_out: FanOut, journal: &str| EngineState {
        system: AUTHORITY,
        listen: fan_out.listen(),
        metrics: fan_out.metrics(),
        settings: directory.join(format!("{}.toml", fan_out.name())),
        journal: directory.join(journal),
        caller: caller.clone(),
    };
    State {
        name: name.to_owned(),
        directory: directory.to_owned(),
        programs_from: programs_from.to_owned(),
        is_up: false,
        namespaces,
        links: links.collect(),
        sites: sites.into(),
        engine: engine(FanOut::Parallel, "journal"),
        engine_primary_first: engine(FanOut::PrimaryFirst, "journal-primary-first"),
        programs: Vec::new(),
        routing: Routing::default(),
        runs: 0,
    }
}

/// What the names of a laboratory's namespaces begin with; the system's number follows.
pub(super) fn namespace_prefix(name: &str) -> String {
    format!("internet-{name}-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = planned("test", directory.path(), Path::new("/bin"));
        state.programs.push(ProgramState { name: "x".into(), pid: 7, system: 64_501, log: "/x.log".into() });
        state.routing.filtering.insert(64_511);
        state.write().unwrap();
        assert_eq!(State::read(directory.path()).unwrap(), state);
        assert_eq!(state.program("x").map(|program| program.pid), Some(7));
    }

    #[test]
    fn err_no_file_and_a_bad_file_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(State::read(directory.path()), Err(InternetError::NotUp(_))));
        fs::write(directory.path().join(FILE), "{").unwrap();
        let error = State::read(directory.path()).unwrap_err();
        assert!(matches!(error, InternetError::Unreadable { .. }) && error.to_string().contains("state.json"));
    }
}
