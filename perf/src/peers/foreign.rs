//! What programs of others print at their end, read as counts.
//!
//! None of them tells its own CPU time, which is the system's account of the child. A text that does not have what it
//! must is an error, never a count of 0.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PeerError;

/// What one run of a program came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counts {
    /// Items that ended, well or not.
    pub(super) items: u64,
    /// Of them, those that did not end well.
    pub(super) failed: u64,
    /// The program's own time.
    pub(super) seconds: f64,
}

/// A program of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    Dnsperf,
    Massdns,
    Wrk,
    Ab,
    Oha,
    OpensslTime,
}

impl Foreign {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Dnsperf => "dnsperf",
            Self::Massdns => "massdns",
            Self::Wrk => "wrk",
            Self::Ab => "ab",
            Self::Oha => "oha",
            Self::OpensslTime => "openssl",
        }
    }

    /// Reads its standard output, after it ran so long to answer so much.
    pub(super) fn read(self, text: &str, wanted: u64, seconds: f64) -> Result<Counts, PeerError> {
        let counts = match self {
            Self::Dnsperf => dnsperf(text),
            // It prints a line for each answer, and nothing for what was not answered.
            Self::Massdns => {
                let answered = text.lines().filter(|line| line.contains(" TXT ")).count() as u64;
                Some(Counts { items: wanted, failed: wanted.saturating_sub(answered), seconds })
            }
            Self::Wrk => wrk(text),
            Self::Ab => ab(text),
            Self::Oha => oha(text),
            Self::OpensslTime => openssl_time(text, seconds),
        };
        counts.ok_or_else(|| PeerError::Unreadable { program: self.program().to_owned(), text: text.to_owned() })
    }
}

/// The first number after a label, on the line that begins with it.
fn after<T: std::str::FromStr>(text: &str, label: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(label))?;
    line.split_whitespace().next()?.trim_end_matches(',').parse().ok()
}

/// Only NOERROR is an answer that was asked for.
fn dnsperf(text: &str) -> Option<Counts> {
    let sent: u64 = after(text, "Queries sent:")?;
    let codes = text.lines().find_map(|line| line.trim_start().strip_prefix("Response codes:")).unwrap_or("");
    let good = after::<u64>(&codes.replace(", ", "\n"), "NOERROR").unwrap_or(0);
    Some(Counts { items: sent, failed: sent.saturating_sub(good), seconds: after(text, "Run time (s):")? })
}

/// `11530 requests in 2.00s, 1.59MB read`, and lines on errors if there were any.
fn wrk(text: &str) -> Option<Counts> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    let (items, rest) = line.trim().split_once(" requests in ")?;
    let seconds = wrk_seconds(rest.split(',').next()?)?;
    let socket = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).unwrap_or("");
    let socket: u64 = socket.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum();
    let bad_status: u64 = after(text, "Non-2xx or 3xx responses:").unwrap_or(0);
    Some(Counts { items: items.parse().ok()?, failed: socket + bad_status, seconds })
}

fn wrk_seconds(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
    match unit {
        "us" => Some(number / 1e6),
        "ms" => Some(number / 1e3),
        "s" => Some(number),
        "m" => Some(number * 60.0),
        _ => None,
    }
}

fn ab(text: &str) -> Option<Counts> {
    let failed: u64 = after(text, "Failed requests:")?;
    let bad_status: u64 = after(text, "Non-2xx responses:").unwrap_or(0);
    Some(Counts {
        items: after(text, "Complete requests:")?,
        failed: failed + bad_status,
        seconds: after(text, "Time taken for tests:")?,
    })
}

/// What is read of oha's JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Oha {
    summary: OhaSummary,
    status_code_distribution: BTreeMap<String, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct OhaSummary {
    /// Seconds.
    total: f64,
}

fn oha(text: &str) -> Option<Counts> {
    let told: Oha = serde_json::from_str(text).ok()?;
    let good = told.status_code_distribution.get("200").copied().unwrap_or(0);
    let items: u64 = told.status_code_distribution.values().chain(told.error_distribution.values()).sum();
    (items > 0).then_some(Counts { items, failed: items - good, seconds: told.summary.total })
}

/// `1410 connections in 3 real seconds, 0 bytes read per connection`. It stops at the first failure without this line.
/// Its own seconds are whole ones and one too many.
fn openssl_time(text: &str, seconds: f64) -> Option<Counts> {
    let line = text.lines().find(|line| line.contains(" real seconds"))?;
    let (items, _) = line.trim().split_once(" connections in ")?;
    let items = items.parse().ok()?;
    (items > 0).then_some(Counts { items, failed: 0, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dnsperf 2.10.0 of Debian 12.
    const DNSPERF: &str = "DNS Performance Testing Tool\nVersion 2.10.0\n\n\
        [Status] Sending queries (to 127.0.0.1:5300)\n[Status] Testing complete (end of file)\n\nStatistics:\n\n\
        \x20 Queries sent:         10000\n  Queries completed:    10000 (100.00%)\n  Queries lost:         0 (0.00%)\n\n\
        \x20 Response codes:       NOERROR 10000 (100.00%)\n  Average packet size:  request 54, response 110\n\
        \x20 Run time (s):         0.061439\n  Queries per second:   162763.065805\n\n\
        \x20 Average Latency (s):  0.000454 (min 0.000011, max 0.004115)\n  Latency StdDev (s):   0.000332\n";
    /// wrk 4.1.0 of Debian 12.
    const WRK: &str = "Running 2s test @ http://127.0.0.1:5380/.well-known/acme-challenge/x\n\
        \x20 1 threads and 16 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n\
        \x20   Latency     3.17ms    2.90ms  30.24ms   89.77%\n    Req/Sec     5.79k     1.23k    7.04k    80.00%\n\
        \x20 11530 requests in 2.00s, 1.59MB read\nRequests/sec:   5760.67\nTransfer/sec:    815.72KB\n";
    /// ab 2.3 of Debian 12, without its histogram.
    const AB: &str = "This is ApacheBench, Version 2.3 <$Revision$>\n\nBenchmarking 127.0.0.1 (be patient).....done\n\n\n\
        Server Software:        \nServer Hostname:        127.0.0.1\nServer Port:            5999\n\n\
        Document Path:          /x\nDocument Length:        3 bytes\n\nConcurrency Level:      32\n\
        Time taken for tests:   0.055 seconds\nComplete requests:      2000\nFailed requests:        0\n\
        Total transferred:      172000 bytes\nHTML transferred:       6000 bytes\n\
        Requests per second:    36546.37 [#/sec] (mean)\n";
    /// oha 1.16.0, without its histograms.
    const OHA: &str = r#"{"summary": {"successRate": 1.0, "total": 0.054881219, "slowest": 0.016830652},
        "statusCodeDistribution": {"200": 20}, "errorDistribution": {}}"#;
    /// openssl 3.0.19 of Debian 12; a line of one letter for each connection left out.
    const S_TIME: &str = "Collecting connection statistics for 2 seconds\n\n\n\
        1410 connections in 0.73s; 1931.51 connections/user sec, bytes read 0\n\
        1410 connections in 3 real seconds, 0 bytes read per connection\n";

    fn read(program: Foreign, text: &str) -> Option<Counts> {
        program.read(text, 0, 2.25).ok()
    }

    #[test]
    fn ok_what_each_program_printed_is_read() {
        let counts = |items, failed, seconds| Some(Counts { items, failed, seconds });
        assert_eq!(read(Foreign::Dnsperf, DNSPERF), counts(10_000, 0, 0.061_439));
        assert_eq!(read(Foreign::Wrk, WRK), counts(11_530, 0, 2.0));
        assert_eq!(read(Foreign::Ab, AB), counts(2_000, 0, 0.055));
        assert_eq!(read(Foreign::Oha, OHA), counts(20, 0, 0.054_881_219));
        assert_eq!(read(Foreign::OpensslTime, S_TIME), counts(1_410, 0, 2.25));
    }

    #[test]
    fn ok_what_did_not_end_well_is_counted() {
        let codes = "NOERROR 9000 (90.00%), SERVFAIL 600 (6.00%)";
        let text = DNSPERF.replace("NOERROR 10000 (100.00%)", codes);
        assert_eq!(read(Foreign::Dnsperf, &text).map(|counts| counts.failed), Some(1_000));
        let none = DNSPERF.replace("NOERROR 10000 (100.00%)", "REFUSED 10000 (100.00%)");
        assert_eq!(read(Foreign::Dnsperf, &none).map(|counts| counts.failed), Some(10_000));
        let errors = "  Socket errors: connect 1, read 20, write 0, timeout 300\n  Non-2xx or 3xx responses: 4000\n";
        assert_eq!(read(Foreign::Wrk, &format!("{WRK}{errors}")).map(|counts| counts.failed), Some(4_321));
        let text = AB
            .replace("requests:        0", "requests:        7\n   (Connect: 0, Receive: 0, Length: 7, Exceptions: 0)");
        let text = text.replace("Total tr", "Non-2xx responses:      30\nTotal tr");
        assert_eq!(read(Foreign::Ab, &text).map(|counts| counts.failed), Some(37));
        let text = OHA.replace("\"200\": 20", "\"200\": 12, \"404\": 5").replace("{}", "{\"connection refused\": 3}");
        assert_eq!(read(Foreign::Oha, &text).map(|counts| (counts.items, counts.failed)), Some((20, 8)));
    }

    #[test]
    fn ok_answers_of_massdns_are_lines() {
        let text = "a.example. TXT \"x\"\nb.example. TXT \"x\"\n";
        let counts = Foreign::Massdns.read(text, 3, 1.5).expect("counts");
        assert_eq!(counts, Counts { items: 3, failed: 1, seconds: 1.5 });
    }

    #[test]
    fn err_a_program_that_broke_off_has_no_counts() {
        let nothing = OHA.replace("\"200\": 20", "");
        for (program, text) in [
            (Foreign::Dnsperf, "Error: unable to bind socket\n"),
            (Foreign::Wrk, "unable to connect to 127.0.0.1:5380 Connection refused\n"),
            (Foreign::Ab, "apr_pollset_poll: The timeout specified has expired (70007)\n"),
            (Foreign::Oha, "Error: No such file or directory\n"),
            (Foreign::Oha, nothing.as_str()),
            (Foreign::OpensslTime, "Collecting connection statistics for 2 seconds\nERROR\n"),
            (Foreign::OpensslTime, "0 connections in 3 real seconds, 0 bytes read per connection\n"),
            (Foreign::Wrk, "  1 requests in 2.00x, 1.59MB read\n"),
        ] {
            assert_eq!(read(program, text), None, "{text}");
        }
    }
}
