//! Brings the laboratory up, takes it down, and changes its routing.
//!
//! Everything runs on after the command that started it: programs are in process groups of their own, and what they say
//! goes to files. Taking down ends whatever runs in namespaces of the laboratory's name, whether or not `state.json` is
//! there, and may be repeated.
//!
//! Invariant: what is not known to be this laboratory's is left alone, be it namespaces or files.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    attack::Routing,
    bird,
    error::InternetError,
    owner::{self, Claim, OWNERS},
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
    let mut claim = Claim::take(Path::new(OWNERS), name)?;
    if !left_over(name).is_empty() {
        return Err(match claim.owner()? {
            Some(other) if other != owner::full(directory) => {
                InternetError::Anothers { name: name.to_owned(), owner: Some(other) }
            }
            _ => InternetError::IsUp,
        });
    }
    let directory = fresh_directory(directory)?;
    claim.give_to(&directory)?;
    let state = planned(name, &directory, programs_from);
    state.write()?;
    let mut rising = Rising::of(state, stop);
    match rising.rise(tell) {
        Ok(()) => Ok(rising.state),
        Err(error) => {
            // Only what was made here: another's may have come up meanwhile. The error is what has to be told.
            let gone = take_down(rising.made());
            if gone.is_ok() && left_over(name).is_empty() {
                let _ = claim.release();
            }
            Err(error)
        }
    }
}

/// Ends everything of a laboratory, by its name and where its files are. They stay.
///
/// # Errors
/// The namespaces are not known to be that laboratory's, or one cannot be taken away.
pub fn down(name: &str, directory: &Path) -> Result<usize, InternetError> {
    require_root()?;
    let mut claim = Claim::take(Path::new(OWNERS), name)?;
    let names = left_over(name);
    if !names.is_empty() {
        check_owner(name, directory, claim.owner()?)?;
    }
    take_down(&names)?;
    claim.release()?;
    Ok(names.len())
}

/// An error unless the laboratory of a name is that of a directory: by what was written down of the name or, where
/// nothing was, by what is in the directory.
fn check_owner(name: &str, directory: &Path, owner: Option<PathBuf>) -> Result<(), InternetError> {
    let is_owner = match &owner {
        Some(owner) => *owner == owner::full(directory),
        None => State::read(directory).is_ok_and(|state| state.name == name && state.is_of(directory)),
    };
    if is_owner { Ok(()) } else { Err(InternetError::Anothers { name: name.to_owned(), owner }) }
}

fn take_down(namespaces: &[String]) -> Result<(), InternetError> {
    namespaces.iter().try_for_each(|name| Ok(Namespace::open(name.clone())?.take_down()?))
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

/// An empty directory in the place of an earlier laboratory's. One that holds something else is left alone: this runs as
/// root, and a file of the name `state.json` is nothing that only a laboratory has.
fn fresh_directory(directory: &Path) -> Result<PathBuf, InternetError> {
    if directory.join(FILE).exists() {
        let not_ours = || InternetError::NotOurs(directory.to_owned());
        let state = State::read(directory).map_err(|_| not_ours())?;
        if !state.is_of(directory) {
            return Err(not_ours());
        }
        if !left_over(&state.name).is_empty() {
            return Err(InternetError::IsUp);
        }
        fs::remove_dir_all(&state.directory).map_err(InternetError::file(directory))?;
    }
    fs::create_dir_all(directory).map_err(InternetError::file(directory))?;
    // What is put into a directory of another's would be taken for a laboratory's the next time.
    if fs::read_dir(directory).map_err(InternetError::file(directory))?.next().is_some() {
        return Err(InternetError::NotOurs(directory.to_owned()));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of(directory: &Path) -> State {
        planned("nobodyhasthis", directory, Path::new("/bin"))
    }

    #[test]
    fn only_what_a_laboratory_left_makes_room_for_another() {
        let directory = tempfile::tempdir().unwrap();
        let lab = directory.path().canonicalize().unwrap().join("lab");
        assert_eq!(fresh_directory(&lab).unwrap(), lab);
        state_of(&lab).write().unwrap();
        fs::write(lab.join("more"), "x").unwrap();
        assert_eq!(fresh_directory(&lab).unwrap(), lab);
        assert_eq!(fs::read_dir(&lab).unwrap().count(), 0);
    }

    #[test]
    fn err_a_directory_of_another_s_is_named_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let other = directory.path().join("other");
        fs::create_dir(&other).unwrap();
        let whole = serde_json::to_string(&state_of(Path::new("/somewhere/else"))).unwrap();
        for text in ["{\"version\":4}", "", whole.as_str()] {
            fs::write(other.join(FILE), text).unwrap();
            let error = fresh_directory(&other).unwrap_err();
            assert!(matches!(&error, InternetError::NotOurs(named) if *named == other), "{text}: {error}");
            assert!(error.to_string().contains(other.to_str().unwrap()), "{error}");
            assert!(other.join(FILE).exists(), "{text}");
        }
        fs::rename(other.join(FILE), other.join("letters")).unwrap();
        assert!(matches!(fresh_directory(&other), Err(InternetError::NotOurs(_))), "nor is anything put into it");
    }

    #[test]
    fn err_an_up_that_fails_takes_down_what_it_made_and_nothing_else() {
        const REQUIRED: &str = "PARALLAX_REQUIRE_NETNS";
        let name = format!("f{}", std::process::id());
        let other = match Namespace::make(format!("{}64999", namespace_prefix(&name))) {
            Ok(namespace) => namespace,
            Err(error) => {
                let required = std::env::var_os(REQUIRED).is_some_and(|value| !value.is_empty());
                assert!(!required, "{REQUIRED} is set, but: {error}");
                let text = format!("\nNOT TESTED, no network namespaces can be made here: {error}\n\n");
                let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
                return;
            }
        };
        let directory = tempfile::tempdir().unwrap();
        let state = planned(&name, &directory.path().canonicalize().unwrap(), Path::new("/bin"));
        // It is stopped as soon as one is made.
        let stop = AtomicBool::new(true);
        let mut rising = Rising::of(state, &stop);
        assert!(matches!(rising.rise(&|_| {}), Err(InternetError::Stopped)));
        assert_eq!((rising.made().len(), left_over(&name).len()), (1, 2));
        take_down(rising.made()).unwrap();
        assert_eq!(left_over(&name), [other.name()]);
    }

    #[test]
    fn err_namespaces_that_are_another_s_are_not_taken_down() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, other) = (directory.path().canonicalize().unwrap(), PathBuf::from("/somewhere/else"));
        let name = "nobodyhasthis";
        assert!(check_owner(name, &ours, Some(ours.clone())).is_ok());
        let error = check_owner(name, &ours, Some(other)).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("/somewhere/else"), "{error}");
        // Where nothing was written down, the directory's own file says it.
        assert!(check_owner(name, &ours, None).is_err());
        state_of(&ours).write().unwrap();
        assert!(check_owner(name, &ours, None).is_ok());
        assert!(check_owner("another", &ours, None).is_err());
    }
}
