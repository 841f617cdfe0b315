//! What is seen of the engine's process while a run goes on: samples of memory and descriptors, and accounts of CPU time at
//! both ends of the window.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use super::{
    drive::Mark,
    process::{Account, Machine, Used, Watched},
    result::{Descriptors, Level},
};

/// How often memory and descriptors are looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What the engine used within the window; none if it ended meanwhile.
    pub engine: Option<Used>,
    /// What the laboratory used.
    pub laboratory: Option<Used>,
    /// The share of all CPUs in use.
    pub machine_busy: Option<f64>,
    /// How long the window was by these accounts.
    pub seconds: f64,
    /// Memory.
    pub rss_kib: Level,
    /// Descriptors.
    pub descriptors: Descriptors,
}

/// The engine and what is beside it, at one time.
struct Ends {
    engine: Option<Account>,
    laboratory: Option<Account>,
    machine: Option<Machine>,
    at: Instant,
}

/// Levels within the window, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Levels {
    count: u64,
    rss_sum: u64,
    rss_max: u64,
    descriptors_max: u64,
}

impl Levels {
    fn add(&mut self, rss_kib: Option<u64>, descriptors: Option<u64>) {
        let (Some(rss_kib), Some(descriptors)) = (rss_kib, descriptors) else { return };
        self.count += 1;
        self.rss_sum += rss_kib;
        self.rss_max = self.rss_max.max(rss_kib);
        self.descriptors_max = self.descriptors_max.max(descriptors);
    }
}

/// Watches until it is told that the window is over, or nobody is left who could tell. Called before the first request:
/// what it sees first is the engine at rest.
#[must_use]
pub fn watch(engine: &Watched, laboratory: &Watched, marks: &Receiver<Mark>) -> Seen {
    let idle = (engine.rss_kib().unwrap_or(0), engine.descriptors().unwrap_or(0));
    let ends = || Ends {
        engine: engine.account(),
        laboratory: laboratory.account(),
        machine: Machine::now(),
        at: Instant::now(),
    };
    let (mut begin, mut levels) = (None, Levels::default());
    loop {
        match marks.recv_timeout(SAMPLE_EVERY) {
            Ok(Mark::Begin) => begin = Some(ends()),
            Err(RecvTimeoutError::Timeout) if begin.is_none() => {}
            Err(RecvTimeoutError::Timeout) => levels.add(engine.rss_kib(), engine.descriptors()),
            Ok(Mark::End) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    levels.add(engine.rss_kib(), engine.descriptors());
    let end = ends();
    seen(begin.as_ref().unwrap_or(&end), &end, idle, levels)
}

fn seen(begin: &Ends, end: &Ends, idle: (u64, u64), levels: Levels) -> Seen {
    let used = |end: &Option<Account>, begin: &Option<Account>| Some(end.as_ref()?.since(begin.as_ref()?));
    Seen {
        engine: used(&end.engine, &begin.engine),
        laboratory: used(&end.laboratory, &begin.laboratory),
        machine_busy: end.machine.zip(begin.machine).and_then(|(end, begin)| end.busy_since(begin)),
        seconds: end.at.duration_since(begin.at).as_secs_f64(),
        rss_kib: Level { idle: idle.0, mean: levels.rss_sum / levels.count.max(1), max: levels.rss_max },
        descriptors: Descriptors { idle: idle.1, max: levels.descriptors_max },
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    #[test]
    fn ok_only_the_window_is_accounted_for() {
        let (marks, receiver) = mpsc::channel();
        let own = Watched::new(std::process::id());
        let busy = |ms| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(ms) {}
        };
        let begun = Instant::now();
        let seen = thread::scope(|scope| {
            let own = &own;
            let watcher = scope.spawn(move || watch(own, own, &receiver));
            busy(300);
            marks.send(Mark::Begin).expect("it watches");
            busy(500);
            marks.send(Mark::End).expect("it watches");
            watcher.join().expect("it ends")
        });
        let used = seen.engine.expect("this process");
        assert!(used.cpu > Duration::ZERO, "{used:?}");
        // A mark may be read late on a busy machine, but not before it was sent.
        assert!(seen.seconds > 0.0 && seen.seconds < begun.elapsed().as_secs_f64() - 0.3, "{}", seen.seconds);
        assert!(seen.machine_busy.is_some_and(|busy| busy > 0.0));
        assert!(seen.rss_kib.idle > 100 && seen.rss_kib.mean > 100 && seen.rss_kib.max >= seen.rss_kib.mean);
        assert!(seen.descriptors.max > 2);
    }

    #[test]
    fn ok_a_process_that_has_ended_has_no_account() {
        let (marks, receiver) = mpsc::channel();
        drop(marks);
        let nobody = Watched::new(u32::MAX);
        let seen = watch(&nobody, &nobody, &receiver);
        assert!(seen.engine.is_none() && seen.laboratory.is_none());
    }

    #[test]
    fn ok_levels_are_of_samples_that_could_be_taken() {
        let mut levels = Levels::default();
        levels.add(Some(100), Some(7));
        levels.add(None, Some(99));
        levels.add(Some(300), Some(5));
        assert_eq!(levels, Levels { count: 2, rss_sum: 400, rss_max: 300, descriptors_max: 7 });
    }
}
