//! Figures for Prometheus, and the small server that hands them out.
//!
//! Labels come from closed sets: the perspectives of the setups in the journal with their regions and networks, and this
//! program's own words. Invariant: no name, address, account or request is ever a label, whatever the journal holds.
//!
//! Counters count from the begin of the journal, which is read again at each start; so they do not fall back at one.

use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use parallax_validation::{
    base::perspective::Perspective,
    problem::ProblemKind,
    record::{LateEntry, PerspectiveRecord, Record},
    verdict::PerspectiveState,
};
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::alarm::Alarm;

/// Most of a request that is read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
/// One request's time, whole.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// Perspectives that are told apart.
const PERSPECTIVES_MAX: usize = 64;

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;

/// The figures.
pub(crate) struct Metrics {
    registry: Registry,
    entries: Counter,
    attempts: Counters,
    refusals: Counters,
    results: Counters,
    late: Counters,
    alarms: Counters,
    delivered: Counter,
    tries: Counters,
    unknown: Counter,
    patterns: Gauge,
    lag_entries: Gauge,
    lag_bytes: Gauge,
    lag_seconds: Gauge<f64, AtomicU64>,
    told_apart: std::sync::Mutex<std::collections::BTreeSet<String>>,
}

/// How far the follower is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Lag {
    /// Entries that were read and whose alarms are not delivered.
    pub(crate) entries: u64,
    /// Octets of the journal that were not read.
    pub(crate) bytes: u64,
    /// Since the oldest of either.
    pub(crate) seconds: f64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("parallax");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let entries = counter("journal_entries", "Entries of the journal that were read");
        let delivered = counter("alarms_delivered", "Alarms that were delivered by this process, digests among them");
        let unknown =
            counter("unknown_perspective_answers", "Answers of perspectives that no setup of the journal has");
        let mut family = |name: &str, help: &str| {
            let family = Counters::default();
            registry.register(name, help, family.clone());
            family
        };
        let attempts = family("attempts", "Attempts by method and verdict");
        let refusals = family("refusals", "Refused attempts by problem type");
        let results = family("perspective_answers", "Terminal states of perspectives");
        let late = family("late_answers", "Answers after the verdict by perspective and state");
        let alarms = family("alarms", "Events that are alarms, before the rate limit");
        let tries = family("webhook_tries", "Tries to deliver a batch of alarms by what came of them");
        let gauge = Gauge::default;
        let (patterns, lag_entries, lag_bytes): (Gauge, Gauge, Gauge) = (gauge(), gauge(), gauge());
        let lag_seconds = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "patterns",
            "Perspectives, regions and networks that differ from the others",
            patterns.clone(),
        );
        let help = "Entries that were read and whose alarms are not delivered";
        registry.register("lag_entries", help, lag_entries.clone());
        let help = "Part of the journal that is not read";
        registry.register_with_unit("lag", help, Unit::Bytes, lag_bytes.clone());
        let help = "Age of the oldest entry that is not read or whose alarms are not delivered";
        registry.register_with_unit("lag", help, Unit::Seconds, lag_seconds.clone());
        Self {
            registry,
            entries,
            attempts,
            refusals,
            results,
            late,
            alarms,
            delivered,
            tries,
            unknown,
            patterns,
            lag_entries,
            lag_bytes,
            lag_seconds,
            told_apart: std::sync::Mutex::default(),
        }
    }

    pub(crate) fn entry(&self) {
        self.entries.inc();
    }

    pub(crate) fn record(&self, record: &Record, cohort: &[Perspective]) {
        let verdict = match (record.restarted, record.permits()) {
            (true, _) => "restarted",
            (false, true) => "corroborated",
            (false, false) => "refused",
        };
        let method = record.request.method_label();
        let labels = vec![("method", method.to_owned()), ("verdict", verdict.to_owned())];
        self.attempts.get_or_create(&labels).inc();
        if verdict == "refused" {
            let problem = record.explanation.problem.map_or("none", ProblemKind::as_str);
            self.refusals.get_or_create(&vec![("problem", problem.to_owned())]).inc();
        }
        for part in &record.perspectives {
            self.answer(&self.results, part, cohort);
        }
    }

    pub(crate) fn late(&self, late: &LateEntry, cohort: &[Perspective]) {
        self.answer(&self.late, &late.perspective, cohort);
    }

    fn answer(&self, family: &Counters, part: &PerspectiveRecord, cohort: &[Perspective]) {
        let Some(perspective) = cohort.iter().find(|known| known.id == part.perspective && self.is_told_apart(known))
        else {
            self.unknown.inc();
            return;
        };
        let labels = vec![
            ("perspective", perspective.id.to_string()),
            ("rir", perspective.rir.to_string()),
            ("as_number", perspective.as_number.to_string()),
            ("state", state(part.state).to_owned()),
        ];
        family.get_or_create(&labels).inc();
    }

    /// Setups follow one another; the perspectives of all of them together are bounded.
    fn is_told_apart(&self, perspective: &Perspective) -> bool {
        let key = format!("{} {} {}", perspective.id, perspective.rir, perspective.as_number);
        let Ok(mut known) = self.told_apart.lock() else { return false };
        if known.contains(&key) {
            return true;
        }
        known.len() < PERSPECTIVES_MAX && known.insert(key)
    }

    pub(crate) fn alarm(&self, alarm: &Alarm) {
        let labels = vec![("kind", alarm.kind.as_str().to_owned()), ("severity", alarm.severity.as_str().to_owned())];
        self.alarms.get_or_create(&labels).inc();
    }

    pub(crate) fn delivered(&self, alarms: usize) {
        self.delivered.inc_by(alarms as u64);
    }

    pub(crate) fn tried(&self, result: &'static str) {
        self.tries.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    pub(crate) fn patterns(&self, raised: usize) {
        self.patterns.set(i64::try_from(raised).unwrap_or(i64::MAX));
    }

    pub(crate) fn lag(&self, lag: Lag) {
        self.lag_entries.set(i64::try_from(lag.entries).unwrap_or(i64::MAX));
        self.lag_bytes.set(i64::try_from(lag.bytes).unwrap_or(i64::MAX));
        self.lag_seconds.set(lag.seconds);
    }

    /// In Prometheus's text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// A state as labels have it.
pub(crate) fn state(state: PerspectiveState) -> &'static str {
    match state {
        PerspectiveState::Confirmed => "confirmed",
        PerspectiveState::Contradicted => "contradicted",
        PerspectiveState::Failed => "failed",
        PerspectiveState::TimedOut => "timed_out",
        PerspectiveState::Cancelled => "cancelled",
        PerspectiveState::RejectedReply => "rejected_reply",
        PerspectiveState::NotAwaited => "not_awaited",
        PerspectiveState::NotAsked => "not_asked",
    }
}

/// Serves the figures from one thread, one request at a time, until the process ends.
///
/// # Errors
/// The address cannot be listened at.
pub(crate) fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    std::thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for connection in listener.incoming() {
            match connection {
                // A reader that goes away or is too slow has no figures; that is all.
                Ok(mut connection) => drop(answer(&mut connection, &metrics)),
                // No descriptor left, or the like.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    })?;
    Ok(bound)
}

fn answer(connection: &mut TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    connection.set_write_timeout(Some(REQUEST_MAX))?;
    let begun = Instant::now();
    let wait = |connection: &TcpStream| {
        let left = REQUEST_MAX.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        connection.set_read_timeout(Some(left))
    };
    let (status, body) = read_request(connection, wait, metrics)?;
    let kind = if status.starts_with("200") { prometheus_text::CONTENT_TYPE } else { "text/plain; charset=utf-8" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes())?;
    connection.write_all(body.as_bytes())
}

fn read_request<R: Read>(
    connection: &mut R,
    wait: impl Fn(&R) -> std::io::Result<()>,
    metrics: &Metrics,
) -> std::io::Result<(&'static str, String)> {
    let mut request = vec![0; REQUEST_BYTES_MAX];
    let mut length = 0;
    loop {
        wait(connection)?;
        let read = connection.read(&mut request[length..])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        length += read;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&request[..length]) {
            Err(_) => return Ok(("400 Bad Request", "no HTTP request\n".to_owned())),
            Ok(httparse::Status::Partial) if length < REQUEST_BYTES_MAX => {}
            Ok(httparse::Status::Partial) => {
                return Ok(("431 Request Header Fields Too Large", "the request is too long\n".to_owned()));
            }
            Ok(httparse::Status::Complete(_)) => {
                let path = parsed.path.and_then(|path| path.split('?').next());
                return Ok(match (parsed.method, path) {
                    (Some("GET"), Some("/metrics")) => ("200 OK", metrics.text()),
                    (_, Some("/metrics")) => ("405 Method Not Allowed", "GET alone\n".to_owned()),
                    _ => ("404 Not Found", "see /metrics\n".to_owned()),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &[u8]) -> std::io::Result<(&'static str, String)> {
        read_request(&mut std::io::Cursor::new(request.to_vec()), |_| Ok(()), &Metrics::new())
    }

    #[test]
    fn h11_figures_are_handed_out_and_nothing_else() {
        let (status, text) = asked(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert_eq!(status, "200 OK");
        assert!(text.contains("# TYPE parallax_lag_seconds gauge") && text.contains("parallax_lag_bytes 0"), "{text}");
        assert_eq!(asked(b"POST /metrics HTTP/1.1\r\n\r\n").unwrap().0, "405 Method Not Allowed");
        assert_eq!(asked(b"GET /../etc/passwd HTTP/1.1\r\n\r\n").unwrap().0, "404 Not Found");
        assert_eq!(asked(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").unwrap().0, "400 Bad Request");
        let long = [b"GET /metrics HTTP/1.1\r\nx: ".as_slice(), &[b'a'; REQUEST_BYTES_MAX]].concat();
        assert_eq!(asked(&long).unwrap().0, "431 Request Header Fields Too Large");
        assert!(asked(b"GET /metrics HTTP/1.1\r\nhost: x\r\n").is_err(), "it never ended");
    }

    #[test]
    fn h11_every_figure_has_help_and_type() {
        let metrics = Metrics::new();
        metrics.tried("failed");
        metrics.lag(Lag { entries: 3, bytes: 4, seconds: 1.5 });
        let text = metrics.text();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(name.starts_with("parallax_"), "{line}");
            let described = |what: &str| text.lines().any(|other| other.starts_with(&format!("# {what} {name} ")));
            assert!(described("HELP") && described("TYPE"), "{line}");
        }
        for line in ["parallax_lag_entries 3", "parallax_lag_bytes 4", "parallax_lag_seconds 1.5"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(text.contains("parallax_webhook_tries_total{result=\"failed\"} 1"), "{text}");
    }
}
