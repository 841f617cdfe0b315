//! Network namespaces: hosts of a laboratory, each with a network of its own and nothing that leads out.
//!
//! Needs root, and `ip` of iproute2. A namespace goes with its owner, or with whoever takes it down if it was made to
//! last. Names begin with a prefix and the process that made them, so that the next start can clear up what a killed run
//! left over.
//!
//! Left out: wires and addresses, which are each laboratory's own.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// In force for devices that are made afterwards: nothing is passed on unless somebody says so, packets may come from
/// anywhere, loopback addresses may go over wires, and IPv6 addresses can be used at once.
const SETTINGS: [(&str, &str); 8] = [
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/route_localnet", "1"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
];
/// Where `ip` keeps them.
const NAMES: &str = "/run/netns";
/// How often what runs in a namespace is listed and killed, and how long that is waited for each time.
const KILL_ROUNDS_MAX: u32 = 100;
const KILL_POLL: Duration = Duration::from_millis(5);

/// Why something could not be done to a namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A program said no.
    #[error("{command}: {why}")]
    Command {
        /// With its arguments.
        command: String,
        /// What it said.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A thread could not enter it.
    #[error("the network namespace {name} cannot be entered: {error}")]
    Enter {
        /// Which.
        name: String,
        /// Why.
        error: io::Error,
    },
}

/// One network namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    /// Whether it stays when this is dropped.
    lasts: bool,
}

impl Namespace {
    /// Makes one that goes when it is dropped: only its name goes then, it ends with the last of what is in it.
    ///
    /// # Errors
    /// `ip` says no, as it does without root or when the name is taken.
    pub fn make(name: impl Into<String>) -> Result<Self, NetnsError> {
        let name = name.into();
        run("ip", &format!("netns add {name}"))?;
        let mut namespace = Self::open(name.clone()).inspect_err(|_| {
            let _ = run("ip", &format!("netns del {name}"));
        })?;
        namespace.lasts = false;
        namespace.set(&SETTINGS)?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// One that is there already, and stays.
    ///
    /// # Errors
    /// There is none by this name.
    pub fn open(name: impl Into<String>) -> Result<Self, NetnsError> {
        let name = name.into();
        let path = Path::new(NAMES).join(&name);
        let file = File::open(&path).map_err(|error| NetnsError::File { path, error })?;
        Ok(Self { name, file, lasts: true })
    }

    /// Has it stay when it is dropped.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.lasts = true;
        self
    }

    /// Its name, as `ip netns` has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a thread enters it by.
    #[must_use]
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Does something on a thread in it. Sockets that are made there are its own, and so are programs that are started.
    ///
    /// # Errors
    /// It cannot be entered.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let moved = || {
            enter(self.handle()).map_err(|error| NetnsError::Enter { name: self.name.clone(), error })?;
            Ok(act())
        };
        let ended = thread::scope(|scope| scope.spawn(moved).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `ip` on it.
    ///
    /// # Errors
    /// `ip` says no.
    pub fn ip(&self, arguments: &str) -> Result<String, NetnsError> {
        run("ip", &format!("-n {} {arguments}", self.name))
    }

    /// Runs a program in it.
    ///
    /// # Errors
    /// It cannot be run, or does not end well.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String, NetnsError> {
        self.inside(|| run(program, arguments))?
    }

    /// Writes settings below `/proc/sys/net`.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn set(&self, values: &[(&str, &str)]) -> Result<(), NetnsError> {
        self.inside(|| {
            values.iter().try_for_each(|(key, value)| {
                let path = Path::new("/proc/sys/net").join(key);
                fs::write(&path, value).map_err(|error| NetnsError::File { path, error })
            })
        })?
    }

    /// Leaves it only these of 127.0.0.0/8: the rest may be elsewhere.
    ///
    /// # Errors
    /// `ip` says no.
    pub fn keep_loopback(&self, ranges: &[&str]) -> Result<(), NetnsError> {
        self.ip("route del local 127.0.0.0/8 dev lo table local")?;
        ranges.iter().try_for_each(|range| self.ip(&format!("route add local {range} dev lo table local")).map(drop))
    }

    /// Ends what runs in it, and takes its name away.
    ///
    /// # Errors
    /// `ip` says no.
    pub fn take_down(mut self) -> Result<(), NetnsError> {
        kill_all(&self.name);
        self.lasts = true;
        run("ip", &format!("netns del {}", self.name)).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.lasts {
            return;
        }
        if let Err(error) = run("ip", &format!("netns del {}", self.name)) {
            eprintln!("{error}");
        }
    }
}

/// Moves this thread into a namespace, and with it whatever it starts.
///
/// # Errors
/// The kernel says no.
pub fn enter(namespace: BorrowedFd<'_>) -> Result<(), io::Error> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Runs a program with arguments parted by blanks; what it printed.
///
/// # Errors
/// It cannot be run, or does not end well.
pub fn run(program: &str, arguments: &str) -> Result<String, NetnsError> {
    let failed = |why: String| NetnsError::Command { command: format!("{program} {arguments}"), why };
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(failed(text(&output.stderr))) }
}

/// Clears up namespaces named `PREFIX-PID-…` whose process is no more, with what still runs in them.
pub fn clear_left_over(prefix: &str) {
    for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        let Some(maker) = maker.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if Path::new("/proc").join(maker.to_string()).exists() {
            continue;
        }
        kill_all(&name);
        // Another run may clear up at the same time.
        let _ = run("ip", &format!("netns del {name}"));
    }
}

/// Ends what runs in a namespace.
fn kill_all(name: &str) {
    let pids = || {
        let listed = run("ip", &format!("netns pids {name}")).unwrap_or_default();
        listed.lines().filter_map(|pid| Pid::from_raw(pid.trim().parse().ok()?)).collect()
    };
    kill_until_none(pids, |pid| {
        // It may have ended this moment.
        let _ = kill_process(pid, Signal::KILL);
    });
}

/// Kills what is listed until nothing is: what is killed may have started something after it was listed. At most
/// [`KILL_ROUNDS_MAX`] times, for a process that the kernel holds does not end.
fn kill_until_none(mut pids: impl FnMut() -> Vec<Pid>, mut kill: impl FnMut(Pid)) {
    for _ in 0..KILL_ROUNDS_MAX {
        let listed = pids();
        if listed.is_empty() {
            return;
        }
        listed.into_iter().for_each(&mut kill);
        thread::sleep(KILL_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: usize) -> Pid {
        Pid::from_raw(i32::try_from(number).expect("small")).expect("not 0")
    }

    #[test]
    fn ok_what_starts_while_others_are_killed_is_killed_too() {
        let mut lists = vec![vec![], vec![pid(4)], vec![pid(3)], vec![pid(1), pid(2)]];
        let mut killed = Vec::new();
        kill_until_none(|| lists.pop().unwrap_or_default(), |pid| killed.push(pid));
        assert_eq!(killed, [pid(1), pid(2), pid(3), pid(4)]);
        assert!(lists.is_empty());
    }

    #[test]
    fn ok_what_cannot_be_killed_is_given_up_some_time() {
        let mut times = 0;
        kill_until_none(|| vec![pid(1)], |_| times += 1);
        assert_eq!(times, KILL_ROUNDS_MAX);
    }
}
