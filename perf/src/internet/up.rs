//! Brings the laboratory up, takes it down, and changes its routing.
//!
//! Everything runs on after the command that started it: programs are in process groups of their own, and what they say
//! goes to files. Taking down ends whatever runs in namespaces of the laboratory's name, whether or not `state.json` is
//! there, and may be repeated.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    attack::Routing,
    bird,
    error::InternetError,
    programs::{Needed, output},
    rise::Rising,
    routes,
    state::{FILE, State, namespace_prefix, planned},
    topology::{system, systems},
    verdict::Fooled,
};
use crate::netns::Namespace;

/// The kernel takes 107 octets of a socket's name; the rest is `/as64501/unbound.ctl`.
const DIRECTORY_BYTES_MAX: usize = 80;
/// Where `ip` keeps namespaces.
const NAMESPACES: &str = "/run/netns";

/// What is told meanwhile: one line for each step.
pub type Tell<'a> = &'a dyn Fn(&str);

/// Brings everything up, and waits until it answers.
///
/// # Errors
/// Whatever fails; what was started until then is taken down.
pub fn up(
    name: &str,
    directory: &Path,
    programs_from: &Path,
    stop: &AtomicBool,
    tell: Tell<'_>,
) -> Result<State, InternetError> {
    require_root()?;
    Needed::ALL.iter().try_for_each(|needed| needed.path().map(drop))?;
    for program in ["parallax", "parallax-node"] {
        let path = programs_from.join(program);
        if !path.is_file() {
            return Err(InternetError::NotBuilt { path });
        }
    }
    if !left_over(name).is_empty() {
        return Err(InternetError::IsUp);
    }
    let directory = fresh_directory(directory)?;
    let state = planned(name, &directory, programs_from);
    state.write()?;
    let mut rising = Rising::of(state, stop);
    match rising.rise(tell) {
        Ok(()) => Ok(rising.state),
        Err(error) => {
            // The error is what has to be told.
            let _ = down(name);
            Err(error)
        }
    }
}

/// Ends everything of a laboratory's name. Its files stay.
///
/// # Errors
/// A namespace cannot be taken away.
pub fn down(name: &str) -> Result<usize, InternetError> {
    require_root()?;
    let names = left_over(name);
    for namespace in &names {
        Namespace::open(namespace.clone())?.take_down()?;
    }
    Ok(names.len())
}

/// Has the routers take a new routing, and waits until the routes are what they then ought to be.
///
/// # Errors
/// A router says no, or the routes do not become so.
pub fn route(state: &mut State, routing: &Routing, stop: &AtomicBool) -> Result<Fooled, InternetError> {
    let before = std::mem::replace(&mut state.routing, routing.clone());
    state.write()?;
    for system in systems() {
        let (old, new) = (bird::settings(&system, &before), bird::settings(&system, routing));
        if old != new {
            write_router(state, system.number)?;
            bird::ask(system.number, &state.router(system.number), "configure")?;
        }
    }
    routes::wait_until_converged(state, || stop.load(Ordering::Relaxed))
}

/// Has every resolver forget all it knows.
///
/// # Errors
/// A resolver does not answer.
pub fn flush_resolvers(state: &State) -> Result<(), InternetError> {
    for site in &state.sites {
        let configuration = state.folder(site.system).join("unbound.conf").display().to_string();
        for command in [&["flush_zone", "."][..], &["flush_bogus"], &["flush_negative"], &["flush_infra", "all"]] {
            output(&Needed::UNBOUND_CONTROL, &[&["-c", &configuration], command].concat())?;
        }
    }
    Ok(())
}

/// An error unless this process is root's.
///
/// # Errors
/// It is not.
pub fn require_root() -> Result<(), InternetError> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err(InternetError::NotRoot) }
}

/// Namespaces of this name that are there.
fn left_over(name: &str) -> Vec<String> {
    let prefix = namespace_prefix(name);
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ours = |name: &String| name.strip_prefix(&prefix).is_some_and(|rest| rest.parse::<u32>().is_ok());
    names.filter(ours).collect()
}

/// An empty directory in the place of an earlier laboratory's. One that holds something else is left alone.
fn fresh_directory(directory: &Path) -> Result<PathBuf, InternetError> {
    if State::read(directory).is_ok_and(|state| !left_over(&state.name).is_empty()) {
        return Err(InternetError::IsUp);
    }
    if directory.join(FILE).exists() {
        fs::remove_dir_all(directory).map_err(InternetError::file(directory))?;
    }
    fs::create_dir_all(directory).map_err(InternetError::file(directory))?;
    let full = directory.canonicalize().map_err(InternetError::file(directory))?;
    if full.as_os_str().len() > DIRECTORY_BYTES_MAX {
        return Err(InternetError::LongPath(full));
    }
    Ok(full)
}

/// Writes the settings of one router; where.
pub(super) fn write_router(state: &State, number: u32) -> Result<PathBuf, InternetError> {
    let path = state.folder(number).join("bird.conf");
    if let Some(system) = system(number) {
        fs::write(&path, bird::settings(&system, &state.routing)).map_err(InternetError::file(&path))?;
    }
    Ok(path)
}
