//! The line a client prints.

use serde::Serialize;

use crate::error::BareError;

/// What was measured; only what lay between the end of the warm-up and the last item.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) client: String,
    pub(crate) items: u64,
    /// Of the items; all others had the right answer.
    pub(crate) failed: u64,
    pub(crate) in_flight: u32,
    /// Queries sent once more because no reply came; zero where TCP does that.
    pub(crate) retransmitted: u64,
    pub(crate) seconds: f64,
    /// User and system time of the process, which has one thread; the kernel's workers for it are included, and so is
    /// softirq work done on the thread's account.
    pub(crate) cpu_us: f64,
    pub(crate) cpu_us_per_item: f64,
    pub(crate) per_second: f64,
    pub(crate) peak_rss_kib: u64,
}

impl Report {
    pub(crate) fn to_json(&self) -> Result<String, BareError> {
        Ok(serde_json::to_string(self)?)
    }
}
