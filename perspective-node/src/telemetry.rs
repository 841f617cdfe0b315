//! What an operator sees of a node: lines on standard error, and figures for Prometheus.
//!
//! Invariant: no line and no label holds a name that is checked, an address of a target, or a secret.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use jiff::Timestamp;
use parallax_protocol::{
    boulder::{Ending, Operation},
    transport::{Events, Identity, LineLimit, Refused},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, counter::Counter, family::Family, gauge::ConstGauge, info::Info},
    registry::Registry,
};
use serde::Serialize;

use crate::{
    desk::Desk,
    node::{FrameDrop, NodeStats},
    services::{AuditOut, BoulderServer},
};

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The node serves.
    Ready {
        /// Where.
        listen: SocketAddr,
        /// How it does its input and output.
        driver: &'a str,
    },
    /// The node was told to stop and lets running checks end.
    Draining,
    /// It has ended.
    Stopped,
    /// Certificates and keys were read again.
    Reloaded,
    /// They could not be; the old ones stay in use.
    NotReloaded {
        /// Why.
        why: &'a str,
    },
    /// A connection was refused.
    Refused {
        /// From where.
        peer: SocketAddr,
        /// Why.
        why: &'a str,
        /// Refusals before it that have no line.
        left_out: u64,
    },
    /// A caller asked for a service that it may not use.
    Forbidden {
        /// Names in its certificate.
        names: &'a [String],
        /// Which.
        service: &'a str,
    },
    /// No connection could be accepted.
    NotAccepted {
        /// What the system said.
        why: &'a str,
    },
    /// The resolver began or ceased to answer.
    Resolver {
        /// Whether it does.
        answers: bool,
    },
}

impl Event<'_> {
    fn level(&self) -> &'static str {
        match self {
            Self::Ready { .. } | Self::Draining | Self::Stopped | Self::Reloaded | Self::Resolver { answers: true } => {
                "info"
            }
            Self::NotReloaded { .. } | Self::Forbidden { .. } => "alarm",
            Self::Refused { .. } | Self::NotAccepted { .. } | Self::Resolver { answers: false } => "warning",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Ready { listen, driver } => format!("serving on {listen}, driver {driver}"),
            Self::Draining => "told to stop; running checks may end".to_owned(),
            Self::Stopped => "stopped".to_owned(),
            Self::Reloaded => "certificates and keys were read again".to_owned(),
            Self::NotReloaded { why } => format!("the old certificates and keys stay in use: {why}"),
            Self::Refused { peer, why, left_out } => {
                let more = if *left_out > 0 { format!(" ({left_out} more before it)") } else { String::new() };
                format!("connection from {peer} refused: {why}{more}")
            }
            Self::Forbidden { names, service } => {
                format!("a caller with the names {} may not use {service}", names.join(", "))
            }
            Self::NotAccepted { why } => format!("no connection could be accepted: {why}"),
            Self::Resolver { answers: true } => "the resolver answers".to_owned(),
            Self::Resolver { answers: false } => "the resolver does not answer; the node is not ready".to_owned(),
        }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogForm {
    /// In words.
    #[default]
    Text,
    /// As JSON, one object a line.
    Json,
}

impl LogForm {
    fn line(self, event: &Event<'_>, at: Timestamp) -> String {
        match self {
            Self::Text => format!("{}: {}", event.level(), event.words()),
            Self::Json => {
                let mut object = serde_json::to_value(event).expect("events hold text and numbers");
                object["ts"] = at.to_string().into();
                object["level"] = event.level().into();
                object["message"] = event.words().into();
                object.to_string()
            }
        }
    }
}

type Labels = [(&'static str, &'static str); 1];

/// Lines and figures of one node.
pub struct Telemetry {
    form: LogForm,
    registry: Registry,
    refused: Family<Labels, Counter>,
    forbidden: Family<Labels, Counter>,
    reloads: Family<Labels, Counter>,
    /// Whether it may be given work.
    pub ready: Arc<AtomicBool>,
    boulder: Arc<OnceLock<(Arc<BoulderServer>, AuditOut)>>,
    /// Of what strangers can cause.
    lines: LineLimit,
}

impl Telemetry {
    /// For a node with this identity.
    #[must_use]
    pub fn new(form: LogForm, desk: &Arc<Desk>, identity: &Arc<Identity>, driver: &str) -> Self {
        let mut registry = Registry::with_prefix("parallax_node");
        let (refused, forbidden, reloads) = (Family::default(), Family::default(), Family::default());
        registry.register("connections_refused", "Connections refused, by reason", Family::clone(&refused));
        registry.register("calls_forbidden", "Calls by callers that may not make them", Family::clone(&forbidden));
        registry.register("reloads", "Times certificates and keys were read again", Family::clone(&reloads));
        let about = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("driver", driver.to_owned())];
        registry.register("build", "This program", Info::new(about));
        let (ready, boulder) = (Arc::new(AtomicBool::new(false)), Arc::default());
        registry.register_collector(Box::new(Figures {
            desk: Arc::clone(desk),
            has_frames: driver.starts_with("raw-"),
            identity: Arc::clone(identity),
            ready: Arc::clone(&ready),
            boulder: Arc::clone(&boulder),
        }));
        Self { form, registry, refused, forbidden, reloads, ready, boulder, lines: LineLimit::default() }
    }

    /// Boulder's services have figures too.
    pub(crate) fn watch_boulder(&self, server: Arc<BoulderServer>, audit: AuditOut) {
        // Once, at start.
        let _ = self.boulder.set((server, audit));
    }

    /// Writes a line.
    pub fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Reloaded => _ = self.reloads.get_or_create(&[("result", "done")]).inc(),
            Event::NotReloaded { .. } => _ = self.reloads.get_or_create(&[("result", "failed")]).inc(),
            _ => {}
        }
        eprintln!("{}", self.form.line(event, Timestamp::now()));
    }

    /// A caller asked for what it may not use.
    pub fn forbidden(&self, names: &[String], service: &'static str) {
        self.forbidden.get_or_create(&[("service", service)]).inc();
        if self.lines.pass(Instant::now()).is_some() {
            self.tell(&Event::Forbidden { names, service });
        }
    }

    /// The figures in Prometheus's text form.
    #[must_use]
    pub fn figures(&self) -> String {
        let mut text = String::new();
        // Writing to a string fails only if a figure of ours cannot be written.
        match prometheus_text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

impl Events for Telemetry {
    fn refused(&self, peer: SocketAddr, why: &Refused) {
        self.refused.get_or_create(&[("reason", why.label())]).inc();
        if let Some(left_out) = self.lines.pass(Instant::now()) {
            self.tell(&Event::Refused { peer, why: &why.to_string(), left_out });
        }
    }

    fn accept_failed(&self, why: &std::io::Error) {
        self.tell(&Event::NotAccepted { why: &why.to_string() });
    }
}

/// Figures that are read where they are.
struct Figures {
    desk: Arc<Desk>,
    /// The transport is raw.
    has_frames: bool,
    identity: Arc<Identity>,
    ready: Arc<AtomicBool>,
    boulder: Arc<OnceLock<(Arc<BoulderServer>, AuditOut)>>,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let stats = self.desk.stats();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("tasks", "Tasks begun", read(&stats.tasks)),
            ("queries", "Datagrams sent to the resolver and to name servers", read(&stats.queries)),
            ("connections", "Connections made", read(&stats.connections)),
            ("stray_datagrams", "Datagrams that belong to no query", read(&stats.stray_datagrams)),
            (
                "mismatched_replies",
                "Datagrams with a query's id that are not its reply",
                read(&stats.mismatched_replies),
            ),
            (
                "paced_queries",
                "Queries to name servers that waited while others asked the same one, or too many in all",
                read(&stats.paced_queries),
            ),
            ("ring_enters", "System calls that entered the ring", read(&stats.ring_enters)),
            ("calls_overloaded", "Calls refused because too much was under way", self.desk.refused()),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        if self.has_frames {
            encode_frames(stats, &mut encoder)?;
        }
        let memory_max = read(&stats.memory_octets_max);
        if memory_max > 0 {
            for (name, help, value) in [
                ("memory_octets", "Octets that tasks are reckoned to hold", read(&stats.memory_octets)),
                ("memory_max_octets", "Octets beyond which no task is begun", memory_max),
            ] {
                let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
            }
        }
        if let Some(until) = self.identity.revocations_until() {
            let gauge = ConstGauge::new(until.as_second());
            let name = "revocation_list_expires_timestamp_seconds";
            let help = "When the first revocation list expires, after which nobody of its authority is believed";
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some((server, audit)) = self.boulder.get() {
            let lost = ConstCounter::new(audit.lost());
            let help = "Audit lines lost because standard output was not read";
            lost.encode(encoder.encode_descriptor("audit_lines_lost", help, None, lost.metric_type())?)?;
            let help = "Calls of Boulder's validation authority by operation and ending";
            let mut calls = encoder.encode_descriptor("boulder_calls", help, None, MetricType::Counter)?;
            for operation in Operation::ALL {
                for ending in Ending::ALL {
                    let labels = [("operation", operation.as_str()), ("ending", ending.as_str())];
                    let count = ConstCounter::new(server.counters().calls(operation, ending));
                    count.encode(calls.encode_family(&labels)?)?;
                }
            }
        }
        let cpu = ConstCounter::new(read(&stats.cpu_us) as f64 / 1e6);
        let unit = prometheus_client::registry::Unit::Seconds;
        cpu.encode(encoder.encode_descriptor(
            "worker_cpu",
            "CPU time of the workers",
            Some(&unit),
            cpu.metric_type(),
        )?)?;
        let ready = i64::from(self.ready.load(Ordering::Relaxed));
        for (name, help, value) in [
            ("tasks_in_flight", "Tasks that wait or are under way", self.desk.in_flight() as i64),
            ("ready", "Whether it may be given work", ready),
            (
                "certificate_expires_timestamp_seconds",
                "When the node's certificate expires",
                self.identity.not_after().as_second(),
            ),
            ("resident_memory_bytes", "Memory of the process", resident_bytes().unwrap_or(0)),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// What the raw transport moved and dropped, and what was kept of it.
fn encode_frames(stats: &NodeStats, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let frames = &stats.frames;
    for (name, help, value) in [
        ("frames_received", "Frames taken from the interface", &frames.received),
        ("frames_transmitted", "Frames handed to the interface", &frames.transmitted),
        ("captures_written", "Captures of failed checks written", &stats.captures_written),
        ("captures_lost", "Captures that were not, since the system did not keep up", &stats.captures_lost),
    ] {
        let counter = ConstCounter::new(value.load(Ordering::Relaxed));
        counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
    }
    let help = "Frames dropped, by reason";
    let mut dropped = encoder.encode_descriptor("frames_dropped", help, None, MetricType::Counter)?;
    for reason in FrameDrop::ALL {
        let count = ConstCounter::new(frames.dropped(reason));
        count.encode(dropped.encode_family(&[("reason", reason.as_str())])?)?;
    }
    Ok(())
}

/// Of this process, from the system's own account.
fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as i64)
}

#[cfg(test)]
mod tests {
    use parallax_ring::{FramesStats, RawStats};

    use super::*;

    #[derive(Debug)]
    struct FramesAlone(NodeStats);

    impl Collector for FramesAlone {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            encode_frames(&self.0, &mut encoder)
        }
    }

    #[test]
    fn what_the_raw_transport_dropped_is_told_by_reason() {
        let stats = NodeStats::default();
        let stack = RawStats { malformed: 1, checksums: 2, fragments: 3, strangers: 4, unknown: 5, no_room: 6 };
        let frames = FramesStats { received: 10, transmitted: 20, kernel_drops: 7, malformed: 30, kicks: 40 };
        stats.frames.set(&(stack, frames));
        stats.captures_written.store(8, Ordering::Relaxed);
        let mut registry = Registry::with_prefix("parallax_node");
        registry.register_collector(Box::new(FramesAlone(stats)));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("figures");
        for line in [
            "parallax_node_frames_received_total 10",
            "parallax_node_frames_transmitted_total 20",
            "parallax_node_captures_written_total 8",
            "parallax_node_captures_lost_total 0",
            "parallax_node_frames_dropped_total{reason=\"malformed\"} 31",
            "parallax_node_frames_dropped_total{reason=\"checksum\"} 2",
            "parallax_node_frames_dropped_total{reason=\"fragment\"} 3",
            "parallax_node_frames_dropped_total{reason=\"stranger\"} 4",
            "parallax_node_frames_dropped_total{reason=\"unknown\"} 5",
            "parallax_node_frames_dropped_total{reason=\"no_room\"} 6",
            "parallax_node_frames_dropped_total{reason=\"kernel\"} 7",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn an_event_reads_as_a_sentence_and_as_json() {
        let names = ["a.example".to_owned()];
        let event = Event::Forbidden { names: &names, service: "link" };
        let at = "2026-12-15T00:00:00Z".parse().expect("an instant");
        assert_eq!(LogForm::Text.line(&event, at), "alarm: a caller with the names a.example may not use link");
        let json: serde_json::Value = serde_json::from_str(&LogForm::Json.line(&event, at)).expect("JSON");
        assert_eq!((&json["event"], &json["level"]), (&"forbidden".into(), &"alarm".into()));
        assert_eq!(json["ts"], "2026-12-15T00:00:00Z");
    }
}
