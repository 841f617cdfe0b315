//! What another process uses, by the kernel's account: CPU time by what its threads are for, memory, descriptors.
//!
//! A thread that has ended is missing from the list of threads and not from the account of the process: what it used is
//! among `other`. Processor time of threads is the scheduler's, exact to a tick for those that run just now.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::PathBuf,
    time::Duration,
};

use super::result::CpuPerRequest;

/// What the engine's threads are for. Every result has each of them.
pub const ROLES: [&str; 7] = ["dispatcher", "collector", "decider", "node", "desk", "runtime", "other"];

/// What a thread of the engine is for, by its name.
#[must_use]
pub fn role_of(name: &str) -> &'static str {
    match name {
        "dispatch" => "dispatcher",
        "decide" => "decider",
        // Requests in, verdicts out, between the interfaces and the dispatcher.
        "requests" | "answers" => "desk",
        // The first thread waits for the runtime.
        "parallax" | "links" => "runtime",
        _ if name.starts_with("collect ") => "collector",
        _ if name.starts_with("tokio") => "runtime",
        // A worker is called by its perspective and number. The kernel's helpers of its ring work for it.
        _ if name.contains('/') || name.starts_with("iou-") => "node",
        _ => "other",
    }
}

/// A process that is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    directory: PathBuf,
}

/// What a process had used at a time.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// User and system time of the whole process.
    cpu: Duration,
    /// Of each thread: its name, and its time.
    threads: HashMap<u32, (String, Duration)>,
}

/// What a process used between two accounts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    /// User and system time.
    pub cpu: Duration,
    /// The time of each thread with its name.
    pub threads: Vec<(String, Duration)>,
}

impl Watched {
    /// The process of this number.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { directory: PathBuf::from(format!("/proc/{pid}")) }
    }

    /// What it has used; none once it has ended.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        let cpu = self.cpu()?;
        let mut threads = HashMap::new();
        for thread in fs::read_dir(self.directory.join("task")).ok()?.flatten() {
            let read = |file: &str| fs::read_to_string(thread.path().join(file)).ok();
            let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end while it is looked at.
            let (Some(number), Some(name), Some(time)) = (number, read("comm"), read("schedstat")) else { continue };
            let on_cpu = time.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
            threads.extend(on_cpu.map(|nanos| (number, (name.trim().to_owned(), Duration::from_nanos(nanos)))));
        }
        Some(Account { cpu, threads })
    }

    /// User and system time of the whole process, exact to a tick; none once it has ended.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        cpu_of_stat(&fs::read_to_string(self.directory.join("stat")).ok()?)
    }

    /// Resident memory, KiB.
    #[must_use]
    pub fn rss_kib(&self) -> Option<u64> {
        let text = fs::read_to_string(self.directory.join("statm")).ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64 / 1024)
    }

    /// Open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> Option<u64> {
        Some(fs::read_dir(self.directory.join("fd")).ok()?.count() as u64)
    }
}

impl Account {
    /// What was used since an earlier account.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Used {
        let mut threads: Vec<(String, Duration)> = self
            .threads
            .iter()
            .map(|(number, (name, time))| {
                // A thread that was not there began with nothing.
                let before = earlier.threads.get(number).map_or(Duration::ZERO, |(_, time)| *time);
                (name.clone(), time.saturating_sub(before))
            })
            .collect();
        threads.sort();
        Used { cpu: self.cpu.saturating_sub(earlier.cpu), threads }
    }
}

impl Used {
    /// The same for each of so many requests. What belongs to no thread that was seen is among `other`, and the roles
    /// add up to the process.
    #[must_use]
    pub fn per_request(&self, requests: u64) -> CpuPerRequest {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1) as f64;
        let mut by_role: BTreeMap<String, f64> = ROLES.iter().map(|role| ((*role).to_owned(), 0.0)).collect();
        for (name, time) in &self.threads {
            *by_role.entry(role_of(name).to_owned()).or_default() += each(*time);
        }
        let told: f64 = by_role.values().sum();
        // Threads are counted to the nanosecond and the process to a tick: it cannot have used less.
        let process = each(self.cpu).max(told);
        *by_role.entry("other".to_owned()).or_default() += process - told;
        CpuPerRequest { process, by_role }
    }

    /// The busiest thread of each role: its share of one CPU over a time.
    #[must_use]
    pub fn busiest(&self, seconds: f64) -> BTreeMap<String, f64> {
        let mut busiest = BTreeMap::new();
        for (name, time) in &self.threads {
            let share = time.as_secs_f64() / seconds.max(1e-9);
            let most: &mut f64 = busiest.entry(role_of(name).to_owned()).or_default();
            *most = most.max(share);
        }
        busiest
    }

    /// The share of one CPU that the busiest of all its threads used; none without threads.
    #[must_use]
    pub fn busiest_thread(&self, seconds: f64) -> Option<f64> {
        let most = self.threads.iter().map(|(_, time)| *time).max()?;
        Some(most.as_secs_f64() / seconds.max(1e-9))
    }
}

/// utime and stime are fields 14 and 15 of all; the name in parentheses, the second, may hold anything.
fn cpu_of_stat(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let sum = ticks()? + ticks()?;
    Some(Duration::from_micros(sum * 1_000_000 / rustix::param::clock_ticks_per_second().max(1)))
}

/// Time of all CPUs of the machine, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    idle: u64,
    all: u64,
}

impl Machine {
    /// As it is now.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn of(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; what follows is counted in user and nice already.
        let (idle, iowait) = (ticks.get(3)?, ticks.get(4)?);
        Some(Self { idle: idle + iowait, all: ticks.iter().take(8).sum() })
    }

    /// The share of all CPUs that was in use since; none if no tick has passed.
    #[must_use]
    pub fn busy_since(self, earlier: Self) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|all| *all > 0)?;
        Some(1.0 - self.idle.saturating_sub(earlier.idle) as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn ok_threads_of_an_engine_have_their_roles() {
        let table = [
            ("dispatch", "dispatcher"),
            ("collect ams1", "collector"),
            ("decide", "decider"),
            ("ams1/0", "node"),
            ("iou-wrk-77", "node"),
            ("tokio-rt-worker", "runtime"),
            ("parallax", "runtime"),
            ("requests", "desk"),
            ("answers", "desk"),
            ("upkeep", "other"),
            ("", "other"),
        ];
        for (name, role) in table {
            assert_eq!(role_of(name), role, "{name}");
            assert!(ROLES.contains(&role));
        }
    }

    #[test]
    fn ok_roles_add_up_to_the_process_whatever_a_thread_hides() {
        let ms = Duration::from_millis;
        let threads =
            vec![("dispatch".to_owned(), ms(20)), ("ams1/0".to_owned(), ms(40)), ("iad1/0".to_owned(), ms(10))];
        let used = Used { cpu: ms(100), threads: threads.clone() };
        let told = used.per_request(1000);
        assert_eq!((told.process, told.by_role["node"], told.by_role["dispatcher"]), (100.0, 50.0, 20.0));
        assert!((told.by_role["other"] - 30.0).abs() < 1e-9);
        assert_eq!(told.by_role.len(), ROLES.len());
        // A tick that is not yet over.
        let early = Used { cpu: ms(60), threads }.per_request(1000);
        assert!((early.process - 70.0).abs() < 1e-9 && early.by_role["other"].abs() < 1e-9);
        assert_eq!(used.busiest(0.08)["node"], 0.5);
        assert_eq!(used.busiest_thread(0.08), Some(0.5));
    }

    #[test]
    fn ok_a_thread_that_is_new_began_with_nothing() {
        let account = |cpu, threads: &[(u32, u64)]| Account {
            cpu: Duration::from_millis(cpu),
            threads: threads.iter().map(|(n, ms)| (*n, (format!("t{n}"), Duration::from_millis(*ms)))).collect(),
        };
        let used = account(30, &[(1, 15), (2, 5)]).since(&account(10, &[(1, 5), (3, 9)]));
        assert_eq!(used.cpu, Duration::from_millis(20));
        let right = [("t1".to_owned(), Duration::from_millis(10)), ("t2".to_owned(), Duration::from_millis(5))];
        assert_eq!(used.threads, right);
    }

    #[test]
    fn ok_this_process_is_accounted_for_by_name_of_its_threads() {
        let watched = Watched::new(std::process::id());
        let before = watched.account().expect("an account");
        let busy = std::thread::Builder::new().name("collect here".to_owned()).spawn(|| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(60) {}
            let watched = Watched::new(std::process::id());
            watched.account().expect("an account")
        });
        let used = busy.expect("a thread").join().expect("an account").since(&before);
        let told = used.per_request(1);
        assert!(told.by_role["collector"] > 5_000.0, "{told:?}");
        assert!(watched.rss_kib().is_some_and(|kib| kib > 100) && watched.descriptors().is_some_and(|open| open > 2));
        assert!(Watched::new(u32::MAX).account().is_none());
    }

    #[test]
    fn ok_the_machine_is_busy_by_what_is_not_idle() {
        let of = |text| Machine::of(text).expect("a line");
        let (before, after) = (of("cpu  10 0 10 70 10 0 0 0 5 0\n"), of("cpu  40 0 20 125 15 0 0 0 9 0\ncpu0 1\n"));
        assert_eq!(after.busy_since(before), Some(0.4));
        assert_eq!(after.busy_since(after), None);
        assert_eq!(Machine::of("intr 1"), None);
    }
}
