//! A program that is started, watched while it is measured, told to end, and asked how it did.
//!
//! It says in a file of its own when it is ready, and why it ended.
//!
//! Invariant: what was started ends with its owner, however that ends, unless the owner is killed.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

use crate::measure;

/// How long a program may take to come up, or to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same for one whose owner has given up.
const PATIENCE_OF_DROP: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program did not become ready.
#[derive(Debug, Error)]
#[error("{program} cannot be started: {why}")]
pub struct StartError {
    /// Which one.
    pub program: String,
    /// What it or the system said.
    pub why: String,
}

/// A program that ends with its owner.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it, bound to a CPU if one is named, and waits until it has said `ready`.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not say that in time.
    pub fn start(
        name: &str,
        command: &mut Command,
        log: PathBuf,
        core: Option<usize>,
        ready: &str,
    ) -> Result<Self, StartError> {
        let failed = |why: String| StartError { program: name.to_owned(), why };
        let said = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, error) = said.map_err(|error| failed(format!("{}: {error}", log.display())))?;
        command.stdin(Stdio::null()).stdout(out).stderr(error);
        // A thread of its own, which a child inherits its CPU from: the owner stays free.
        let start = || {
            core.map_or(Ok(()), measure::bind_to_core)?;
            command.spawn().map_err(|error| error.to_string())
        };
        let started = thread::scope(|scope| scope.spawn(start).join());
        let child = started.unwrap_or_else(|_| Err("the thread that was to start it panicked".to_owned()));
        let mut program = Self { name: name.to_owned(), child: child.map_err(failed)?, log };
        program.await_said(ready, 1)?;
        Ok(program)
    }

    /// Waits until it has said something so many times.
    ///
    /// # Errors
    /// It ends, or does not say that in time.
    pub fn await_said(&mut self, what: &str, times: usize) -> Result<(), StartError> {
        let begun = Instant::now();
        loop {
            // Before what it has said: then that is all it ever says.
            let ended = self.ended().map(|status| format!("it ended ({status})"));
            if self.said().matches(what).count() >= times {
                return Ok(());
            }
            let late = || (begun.elapsed() > PATIENCE).then(|| format!("it never said {what:?} {times} times"));
            if let Some(why) = ended.or_else(late) {
                let why = format!("{why}; it said last: {}", self.last_words());
                return Err(StartError { program: self.name.clone(), why });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// As shown.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its status, if it has ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.ended().is_some()
    }

    /// All that it has said.
    fn said(&self) -> String {
        fs::read(&self.log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
    }

    /// The last line that it has said; that is where it says why it ended.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.said().trim().lines().next_back().unwrap_or("nothing").to_owned()
    }

    /// Tells it to end, waits, and ends it if it does not. If it ended by itself, or not well: with what status,
    /// and its last words.
    ///
    /// The connections of a process that dies end before it can be waited for, and whoever saw that comes here at
    /// once. So the status counts, and not only whether it was there to be told.
    pub fn stop(&mut self) -> Option<String> {
        self.stop_within(PATIENCE)
    }

    fn stop_within(&mut self, patience: Duration) -> Option<String> {
        let was_gone = self.has_ended();
        if !was_gone && let Some(pid) = Pid::from_raw(self.pid().cast_signed()) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < patience {
            thread::sleep(LOOK_EVERY);
        }
        let how = match self.ended() {
            Some(status) if status.success() && !was_gone => return None,
            Some(status) => status.to_string(),
            None => {
                let _ = self.child.kill();
                let _ = self.child.wait();
                "being killed, since it did not when it was told to".to_owned()
            }
        };
        Some(format!("{how}, and said last: {}", self.last_words()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.stop_within(PATIENCE_OF_DROP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell that says `ready`, which the script must make it say.
    fn shell(script: &str) -> (tempfile::TempDir, Result<Program, StartError>) {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let started = Program::start("sh", Command::new("/bin/sh").args(["-c", script]), log, Some(0), "ready");
        (directory, started)
    }

    #[test]
    fn ok_a_program_that_ends_when_it_is_told_to_ends_well() {
        let (_log, program) = shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        assert_eq!(program.expect("a shell").stop(), None);
    }

    #[test]
    fn ok_a_program_ends_with_its_owner() {
        let (_log, program) = shell("echo ready; exec sleep 100");
        let program = program.expect("a shell");
        let process = PathBuf::from(format!("/proc/{}", program.pid()));
        assert!(process.exists());
        drop(program);
        assert!(!process.exists());
    }

    #[test]
    fn err_a_program_that_ends_before_it_is_ready_is_named_with_its_last_words() {
        let (_log, started) = shell("echo first; echo no room >&2; exit 3");
        let told = started.expect_err("it ends").to_string();
        assert_eq!(told, "sh cannot be started: it ended (exit status: 3); it said last: no room");
    }

    #[test]
    fn err_how_a_program_ended_is_told_whether_or_not_it_was_seen_before() {
        for is_seen in [false, true] {
            let (_log, program) = shell("printf 'ready\\nso far\\n'; exec sleep 100");
            let mut killed = program.expect("a shell");
            killed.child.kill().expect("a signal");
            while is_seen && !killed.has_ended() {
                thread::sleep(LOOK_EVERY);
            }
            let told = killed.stop().expect("it was killed");
            assert_eq!(told, "signal: 9 (SIGKILL), and said last: so far");
        }
        let (_log, program) = shell("echo ready");
        let mut gone = program.expect("a shell");
        while !gone.has_ended() {
            thread::sleep(LOOK_EVERY);
        }
        let told = gone.stop().expect("nobody told it to");
        assert_eq!(told, "exit status: 0, and said last: ready");
        let (_log, program) = shell("trap 'echo no; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
        let told = program.expect("a shell").stop().expect("it ended with an error");
        assert_eq!(told, "exit status: 3, and said last: no");
    }
}
