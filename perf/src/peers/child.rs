//! Responders and clients as processes of their own, bound to a CPU, bounded in time, with the CPU time that they took.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::PeerError;
use crate::{measure, netns};

/// How often it is looked whether a client has ended; while it runs, the runner does nothing else.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A responder that has not said that it is ready by then never will.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long a responder may take to end after its input has been closed.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// The full path of a program: as given if it has a slash, otherwise out of these directories, then PATH.
pub(super) fn find(name: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = directories.iter().cloned().chain(std::env::split_paths(&path));
    all.chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/bin")])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// A command as one would type it, without where files are on this machine.
pub(super) fn typed(program: &Path, arguments: &[String]) -> String {
    let quoted = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{word}'") }
    };
    let words = std::iter::once(program.to_string_lossy().into_owned()).chain(arguments.iter().cloned());
    words.map(|word| quoted(&measure::without_directory(word))).collect::<Vec<_>>().join(" ")
}

/// Where a process runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat<'a> {
    /// The CPU.
    pub(super) core: usize,
    /// The network namespace; the runner's own, if none.
    pub(super) namespace: Option<BorrowedFd<'a>>,
}

/// Starts a process in its seat. It is bound before it begins, so that nothing it does runs anywhere else, and programs
/// without such an option are bound as well.
fn spawn_on(seat: Seat<'_>, mut command: Command) -> Result<Child, PeerError> {
    let program = command.get_program().to_string_lossy().into_owned();
    // A thread of its own, which a child inherits its CPU and namespace from: the runner itself stays free.
    let start = || {
        measure::bind_to_core(seat.core)?;
        seat.namespace
            .map_or(Ok(()), netns::enter)
            .map_err(|error| format!("the network namespace cannot be entered: {error}"))?;
        command.spawn().map_err(|error| error.to_string())
    };
    let started = thread::scope(|scope| scope.spawn(start).join());
    let child = started.unwrap_or_else(|_| Err("the thread that was to start it panicked".to_owned()));
    child.map_err(|why| PeerError::Start { program, why })
}

/// A responder that ends with its owner.
pub(super) struct Responder {
    child: Child,
    /// Where it listens.
    pub(super) address: String,
    /// How it was started.
    pub(super) command: String,
}

impl Responder {
    /// Starts it and waits until it says `ready ADDRESS`.
    pub(super) fn start(seat: Seat<'_>, program: &Path, arguments: &[String]) -> Result<Self, PeerError> {
        let typed = typed(program, arguments);
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn_on(seat, command)?;
        let (said, line) = std::sync::mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut line = String::new();
                // Nobody waits for it any more if this fails.
                let _ = BufReader::new(stdout).read_line(&mut line);
                let _ = said.send(line);
            });
        }
        let line = line.recv_timeout(READY_WITHIN).unwrap_or_default();
        let mut responder = Self { child, address: String::new(), command: typed };
        match line.trim().strip_prefix("ready ") {
            Some(address) => {
                address.clone_into(&mut responder.address);
                Ok(responder)
            }
            None => Err(PeerError::NotReady { command: responder.command.clone(), said: line }),
        }
    }

    /// Its address without the port.
    pub(super) fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or("", |(host, _)| host)
    }

    /// Its port.
    pub(super) fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + ENDS_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client left behind.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) seconds: f64,
    /// User and system time, from its start to its end.
    pub(super) cpu: Duration,
}

/// Bounds of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until<'a> {
    /// How long it may take.
    pub(super) limit: Duration,
    /// Set when all is to end.
    pub(super) interrupted: &'a AtomicBool,
}

/// Runs a client to its end.
pub(super) fn run(seat: Seat<'_>, program: &Path, arguments: &[String], until: Until<'_>) -> Result<Ended, PeerError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let cpu_before = cpu_of_children()?;
    let begun = Instant::now();
    let mut child = spawn_on(seat, command)?;
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let wait =
        |error: std::io::Error| PeerError::Start { program: program.display().to_string(), why: error.to_string() };
    let status = loop {
        if let Some(status) = child.try_wait().map_err(wait)? {
            break status;
        }
        // Relaxed: nothing else is read because of it.
        let is_interrupted = until.interrupted.load(Ordering::Relaxed);
        if is_interrupted || begun.elapsed() > until.limit {
            let _ = child.kill();
            let _ = child.wait();
            let too_long = PeerError::TooLong { command: typed(program, arguments), limit: until.limit };
            return Err(if is_interrupted { PeerError::Interrupted } else { too_long });
        }
        thread::sleep(LOOK_EVERY);
    };
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = cpu_of_children()?.saturating_sub(cpu_before);
    let text = |reader: Option<JoinHandle<String>>| reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr), seconds, cpu })
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut octets = Vec::new();
        // What was read until then is all there is.
        let _ = from.read_to_end(&mut octets);
        String::from_utf8_lossy(&octets).into_owned()
    })
}

/// User and system time of all children that have been waited for. It counts in ticks of 10 ms, mostly.
fn cpu_of_children() -> Result<Duration, PeerError> {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = ticks_of_children(&text).ok_or(PeerError::NoAccount)?;
    Ok(Duration::from_micros(ticks * 1_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// cutime and cstime are fields 16 and 17 of all; the name in parentheses, the second, may hold anything.
fn ticks_of_children(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(ticks()? + ticks()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAT: Seat<'static> = Seat { core: 0, namespace: None };

    fn shell(script: &str, limit: Duration) -> Result<Ended, PeerError> {
        shell_until(script, Until { limit, interrupted: &AtomicBool::new(false) })
    }

    fn shell_until(script: &str, until: Until<'_>) -> Result<Ended, PeerError> {
        run(SEAT, Path::new("/bin/sh"), &["-c".to_owned(), script.to_owned()], until)
    }

    #[test]
    fn ok_a_child_is_bound_and_its_output_and_status_are_kept() {
        let script = "grep Cpus_allowed_list /proc/self/status; echo wrong >&2; exit 3";
        let ended = shell(script, Duration::from_secs(10)).expect("it ends");
        assert_eq!(ended.stdout.split_whitespace().last(), Some("0"));
        assert_eq!((ended.stderr.trim(), ended.status.code()), ("wrong", Some(3)));
    }

    #[test]
    fn ok_the_time_of_a_child_is_what_it_used() {
        let busy =
            shell("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done", Duration::from_secs(60)).expect("it ends");
        assert!(busy.cpu >= Duration::from_millis(20), "{busy:?}");
        assert!(busy.cpu.as_secs_f64() <= busy.seconds + 0.1, "one thread on one CPU: {busy:?}");
    }

    #[test]
    fn err_a_child_that_does_not_end_is_ended() {
        let begun = Instant::now();
        let ended = shell("exec sleep 100", Duration::from_millis(100));
        assert!(matches!(ended, Err(PeerError::TooLong { .. })), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn err_nothing_runs_on_once_all_is_to_end() {
        let until = Until { limit: Duration::from_secs(100), interrupted: &AtomicBool::new(true) };
        let begun = Instant::now();
        let ended = shell_until("exec sleep 100", until);
        assert!(matches!(ended, Err(PeerError::Interrupted)), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn ok_a_responder_says_where_it_listens_and_ends_with_its_input() {
        let script = |text: &str| ["-c".to_owned(), text.to_owned()];
        let responder = Responder::start(SEAT, Path::new("/bin/sh"), &script("echo ready 127.0.0.1:77; cat"));
        assert_eq!(responder.map(|one| one.port().to_owned()).ok().as_deref(), Some("77"));
        let silent = Responder::start(SEAT, Path::new("/bin/sh"), &script("echo no")).map(|_| ());
        assert!(matches!(silent, Err(PeerError::NotReady { .. })), "{silent:?}");
    }

    #[test]
    fn ok_a_name_with_spaces_and_brackets_does_not_shift_the_account() {
        let numbers: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        assert_eq!(ticks_of_children(&format!("9 (a b) c) {}", numbers.join(" "))), Some(16 + 17));
        assert_eq!(ticks_of_children("9 (a) S 1"), None);
    }

    #[test]
    fn ok_a_command_is_shown_as_it_would_be_typed() {
        let words = ["-H", "Connection: close", "http://127.0.0.1:80/a"].map(str::to_owned);
        assert_eq!(typed(Path::new("wrk"), &words), "wrk -H 'Connection: close' http://127.0.0.1:80/a");
        let words = ["-d", "/home/a/names"].map(str::to_owned);
        assert_eq!(typed(Path::new("/usr/bin/dnsperf"), &words), "dnsperf -d names");
    }
}
