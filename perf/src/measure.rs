//! What is measured of a process, and how it is told: CPU time, memory, descriptors, latencies, one line of JSON.
//!
//! Everything comes from the kernel's own account. What a kernel does not tell is none, never 0.

use std::{fs, path::Path, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What one client did, in the form that all clients of a comparison print: one line of JSON on standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Which client, with the options that make it another.
    pub client: String,
    /// Items after the warm-up.
    pub items: u64,
    /// Of them, those that did not end as they must.
    pub failed: u64,
    /// Items that were under way at a time.
    pub in_flight: u64,
    /// From the end of the warm-up to the last item.
    pub seconds: f64,
    /// User and system time of the measured process or thread in that time.
    pub cpu_us: f64,
    /// The same for each item.
    pub cpu_us_per_item: f64,
    /// Items per second.
    pub per_second: f64,
    /// Peak resident memory.
    pub peak_rss_kib: u64,
    /// CPU time of the node's worker threads alone, without whoever makes tasks and reads reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_cpu_us_per_item: Option<f64>,
    /// Median latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99th percentile of latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
    /// Queries that were sent again because no reply had come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retransmitted: Option<u64>,
}

impl Line {
    /// CPU time of what is compared: the worker's of a node, the process's of a client that has none.
    #[must_use]
    pub fn node_cpu_us_per_item(&self) -> f64 {
        self.worker_cpu_us_per_item.unwrap_or(self.cpu_us_per_item)
    }
}

/// A duration as microseconds.
#[must_use]
pub fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

/// User and system time of this process.
#[must_use]
pub fn cpu_of_process() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// CPU time of this process's threads whose names begin with `prefix`; none on a kernel without scheduler statistics.
///
/// It is exact while all threads are bound to one CPU: a thread that does not run has been charged all it used, and none
/// runs beside the one that asks. The account of a thread that runs on another CPU is brought up to date at its next
/// tick, which is a matter of milliseconds.
#[must_use]
pub fn cpu_of_threads(prefix: &str) -> Option<Duration> {
    let mut sum = None;
    for thread in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).ok();
        if read("comm").is_some_and(|name| name.starts_with(prefix)) {
            let on_cpu: u64 = read("schedstat")?.split_whitespace().next()?.parse().ok()?;
            *sum.get_or_insert(Duration::ZERO) += Duration::from_nanos(on_cpu);
        }
    }
    sum
}

/// A line of `/proc/self/status` that ends in kB, such as `VmRSS` and `VmHWM`.
#[must_use]
pub fn status_kib(key: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Descriptors that this process has open; one more is open while they are counted.
#[must_use]
pub fn open_descriptors() -> Option<u64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// What the kernel holds for sockets and all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMemory {
    /// Buffers of all TCP and UDP sockets of this network namespace, by `/proc/net/sockstat`.
    pub socket_buffer_bytes: u64,
    /// All slab objects of the machine, by `/proc/meminfo`.
    pub slab_bytes: u64,
}

impl KernelMemory {
    /// As it is now; none if there is no such account.
    #[must_use]
    pub fn now() -> Option<Self> {
        let sockets = fs::read_to_string("/proc/net/sockstat").ok()?;
        let memory = fs::read_to_string("/proc/meminfo").ok()?;
        Some(Self {
            socket_buffer_bytes: sockstat_pages(&sockets) * rustix::param::page_size() as u64,
            slab_bytes: meminfo_kib(&memory, "Slab")? * 1024,
        })
    }
}

/// The sum of `mem` of TCP and UDP, in pages.
fn sockstat_pages(text: &str) -> u64 {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
        words.nth(1)?.parse::<u64>().ok()
    };
    text.lines().filter(|line| line.starts_with("TCP:") || line.starts_with("UDP:")).filter_map(of_line).sum()
}

fn meminfo_kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Latencies in microseconds, in a fixed amount of memory.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are constant and in order"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency_us: u64) {
        self.0.saturating_record(latency_us.clamp(1, LATENCY_MAX_US));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `quantile` of all do not exceed; none if there are none.
    #[must_use]
    pub fn at(&self, quantile: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(quantile))
    }
}

/// Binds this process, and every thread and process that it starts from now on, to one CPU.
///
/// # Errors
/// There is no such CPU, or it is not this process's to use.
pub fn bind_to_core(core: usize) -> Result<(), String> {
    let mut set = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(format!("there is no CPU {core}"));
    }
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("cannot be bound to CPU {core}: {error}"))
}

/// Raises the limit of open descriptors as far as it goes, and gives it.
///
/// Root may go beyond the hard limit up to what the kernel sets for every process.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let wanted = [most.map(|most| Rlimit { current: Some(most), maximum: Some(most) })]
        .into_iter()
        .flatten()
        .chain([Rlimit { current: now.maximum, maximum: now.maximum }]);
    for limit in wanted {
        if setrlimit(Resource::Nofile, limit).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A word of a command for a file of results: of a whole path the last part alone, for how somebody's machine is laid out is
/// nobody else's business.
#[must_use]
pub fn without_directory(word: String) -> String {
    let last = |path: &str| {
        let path = Path::new(path);
        path.file_name().filter(|_| path.is_absolute()).map(|name| name.to_string_lossy().into_owned())
    };
    match word.split_once('=') {
        Some((option, value)) => last(value).map_or_else(|| word.clone(), |value| format!("{option}={value}")),
        None => last(&word).unwrap_or(word),
    }
}

/// What was typed, for a file of results: our own name first, whatever it was called by.
#[must_use]
pub fn command_line(words: impl Iterator<Item = String>) -> String {
    let words = words.skip(1).map(without_directory);
    std::iter::once("parallax-perf".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_a_line_of_another_client_is_read_without_what_only_a_node_tells() {
        let text = r#"{"client":"udp uring","items":10,"failed":0,"in_flight":5,"seconds":1.5,"cpu_us":30,
            "cpu_us_per_item":3.0,"per_second":6.67,"peak_rss_kib":900}"#;
        let line: Line = serde_json::from_str(text).expect("a line");
        assert_eq!((line.cpu_us_per_item, line.p50_us, line.worker_cpu_us_per_item), (3.0, None, None));
        assert!(!serde_json::to_string(&line).expect("JSON").contains("p50_us"), "what is not known is left out");
    }

    #[test]
    fn ok_the_kernels_account_of_sockets_is_summed_over_tcp_and_udp_alone() {
        let text = "sockets: used 213\nTCP: inuse 12 orphan 0 tw 3 alloc 14 mem 7\nUDP: inuse 5 mem 11\n\
                    UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 9\n";
        assert_eq!(sockstat_pages(text), 18);
        assert_eq!(sockstat_pages(""), 0);
    }

    #[test]
    fn ok_a_command_line_has_our_name_and_no_paths_of_the_machine() {
        let words = ["/home/a/target/release/parallax-perf", "open", "--rates", "1,2", "--out", "/home/a/out.json"];
        let more = ["--bin-dir=/home/a/bin", "--mix", "mixes/mine.json", "/", "--x="];
        let line = command_line(words.iter().chain(&more).map(|word| (*word).to_owned()));
        assert_eq!(line, "parallax-perf open --rates 1,2 --out out.json --bin-dir=bin --mix mixes/mine.json / --x=");
        assert_eq!(command_line(std::iter::empty()), "parallax-perf");
    }

    #[test]
    fn ok_only_the_line_that_is_asked_for_is_read() {
        let text = "SReclaimable:  5 kB\nSlab:             208940 kB\nSUnreclaim: 7 kB\n";
        assert_eq!(meminfo_kib(text, "Slab"), Some(208_940));
        assert_eq!(meminfo_kib(text, "Nothing"), None);
    }

    #[test]
    fn ok_latencies_are_told_by_quantile_and_bounded() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.at(0.5), None);
        for us in 1..=100 {
            latencies.add(us);
        }
        latencies.add(u64::MAX);
        assert_eq!((latencies.at(0.5), latencies.count()), (Some(51), 101));
        assert!(latencies.at(1.0).is_some_and(|most| most >= LATENCY_MAX_US));
    }

    #[test]
    fn ok_this_process_has_cpu_time_memory_descriptors_and_threads() {
        assert!(cpu_of_process() > Duration::ZERO);
        assert!(status_kib("VmHWM").is_some_and(|kib| kib > 100));
        assert!(open_descriptors().is_some_and(|open| open > 2));
        let name = fs::read_to_string("/proc/thread-self/comm").expect("a name");
        assert!(cpu_of_threads(name.trim()).is_some());
        assert_eq!(cpu_of_threads("no thread has this name"), None);
    }
}
