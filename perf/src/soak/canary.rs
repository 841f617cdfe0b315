//! The canary: a fixed piece of local work beside the load, which says how the machine fares, whatever the engine does.
//!
//! Twenty times a second it wakes on a schedule, exchanges ten datagrams with a thread of its own over loopback, computes
//! a little after each, and syncs half a KiB to the disk of the journal. That is the shape of an attempt, which is handed
//! from thread to thread and waits at each for a processor: a busy machine slows both down alike, which it does not do to
//! work of one piece. As with requests, a round counts from when it was due.
//!
//! Invariant: the work of a round is always the same.

use std::{
    fs::File,
    hint::black_box,
    io,
    net::{Ipv4Addr, UdpSocket},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::measure::Latencies;

/// From round to round.
const EVERY: Duration = Duration::from_millis(50);
/// Exchanges of a round.
const EXCHANGES: u64 = 10;
/// Steps of the computation after each: under a millisecond for all in a release build.
const STEPS: u32 = 30_000;
/// What is synced, octets.
const SYNCED: usize = 512;
/// Loopback loses nothing; if it does all the same, the round counts with this wait.
const ECHO_MAX: Duration = Duration::from_secs(1);
/// How often the other thread looks whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(200);

/// A canary that runs on two threads of its own.
pub(super) struct Canary {
    window: Arc<Mutex<Latencies>>,
    rounds: Part,
    echo: Part,
}

/// A thread that can be ended.
struct Part {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

/// Times of a round within a window; none if there were no rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rounds {
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

impl Canary {
    /// Its file goes to a directory, which is to be on the disk of the journal.
    pub(super) fn start(directory: &Path) -> io::Result<Self> {
        let (bench, other) = Bench::new(directory)?;
        let window = Arc::<Mutex<Latencies>>::default();
        let for_rounds = Arc::clone(&window);
        let echo = Part::start(move |stop| echo(&other, stop))?;
        let rounds = Part::start(move |stop| bench.rounds(&for_rounds, stop))?;
        Ok(Self { window, rounds, echo })
    }

    /// Rounds since this was last asked.
    pub(super) fn take_window(&self) -> Rounds {
        let window = std::mem::take(&mut *self.window.lock().unwrap_or_else(PoisonError::into_inner));
        let at = |quantile| window.at(quantile).map(|us| us as f64 / 1000.0);
        Rounds { p50_ms: at(0.5), p99_ms: at(0.99) }
    }

    /// Ends it; what went wrong, if anything did.
    pub(super) fn end(self) -> io::Result<()> {
        // In this order: a round under way waits for the echo.
        let rounds = self.rounds.end();
        rounds.and(self.echo.end())
    }
}

impl Part {
    fn start(work: impl FnOnce(&AtomicBool) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        let for_work = Arc::clone(&stop);
        let thread = thread::Builder::new().name("canary".to_owned()).spawn(move || work(&for_work))?;
        Ok(Self { stop, thread })
    }

    fn end(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("it broke down")))
    }
}

/// What a round works with.
struct Bench {
    /// Connected to that of the other thread.
    socket: UdpSocket,
    file: File,
}

impl Bench {
    /// With the socket of the other thread.
    fn new(directory: &Path) -> io::Result<(Self, UdpSocket)> {
        let bound = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let (socket, other) = (bound()?, bound()?);
        socket.connect(other.local_addr()?)?;
        other.connect(socket.local_addr()?)?;
        socket.set_read_timeout(Some(ECHO_MAX))?;
        other.set_read_timeout(Some(STOP_CHECK))?;
        Ok((Self { socket, file: File::create(directory.join("canary"))? }, other))
    }

    fn rounds(&self, window: &Mutex<Latencies>, stop: &AtomicBool) -> io::Result<()> {
        let mut due = Instant::now();
        let mut number = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            due += EVERY;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            for _ in 0..EXCHANGES {
                number += 1;
                self.exchange(number)?;
                black_box(computed(black_box(number)));
            }
            // In place, so that the file system has no sizes to write down.
            self.file.write_all_at(&[0x5a; SYNCED], 0)?;
            self.file.sync_data()?;
            let us = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
            window.lock().unwrap_or_else(PoisonError::into_inner).add(us);
        }
        Ok(())
    }

    fn exchange(&self, number: u64) -> io::Result<()> {
        self.socket.send(&number.to_be_bytes())?;
        let mut octets = [0; 8];
        // Before it there can be only what earlier ones did not wait for.
        while u64::from_be_bytes(octets) != number {
            match self.socket.recv(&mut octets) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Sends back what comes.
fn echo(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    let mut octets = [0; 8];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut octets) {
            Ok(length) => socket.send(&octets[..length]).map(drop)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Steps that each need the one before (xorshift).
fn computed(seed: u64) -> u64 {
    (0..STEPS).fold(seed | 1, |mut state, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^ (state << 17)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_rounds_are_made_and_told_window_by_window() {
        let directory = tempfile::tempdir().expect("a directory");
        let canary = Canary::start(directory.path()).expect("a canary");
        let begun = Instant::now();
        let rounds = loop {
            let rounds = canary.take_window();
            if rounds.p50_ms.is_some() {
                break rounds;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no round is made");
            thread::sleep(EVERY);
        };
        assert!(rounds.p50_ms.is_some_and(|ms| ms > 0.0) && rounds.p50_ms <= rounds.p99_ms, "{rounds:?}");
        assert_eq!(std::fs::read(directory.path().join("canary")).expect("a file").len(), SYNCED);
        canary.end().expect("it ends well");
    }

    #[test]
    fn err_without_a_place_for_its_file_there_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(Canary::start(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn ok_an_exchange_waits_for_its_own_datagram() {
        let directory = tempfile::tempdir().expect("a directory");
        let (bench, other) = Bench::new(directory.path()).expect("a bench");
        for number in [7_u64, 8] {
            other.send(&number.to_be_bytes()).expect("sent");
        }
        bench.exchange(8).expect("an exchange");
        bench.socket.set_nonblocking(true).expect("set");
        assert!(bench.socket.recv(&mut [0; 8]).is_err(), "nothing is left for the next one");
    }
}
