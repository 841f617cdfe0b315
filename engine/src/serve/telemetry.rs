//! What an operator sees of a serving engine besides its journal: lines on standard error, and figures for Prometheus.
//!
//! Figures of what was decided come out of the journal (`parallax watch`); these are of the process itself. Invariant: no
//! label and no line holds a name that is checked, or a secret.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use parallax_protocol::transport::{Events, Identity, LineLimit, Refused};
use parallax_validation::base::perspective::PerspectiveId;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{MetricType, counter::ConstCounter, counter::Counter, family::Family, gauge::ConstGauge, info::Info},
    registry::Registry,
};

use super::desk::FrontDesk;
use crate::{
    corroborate::{EngineStats, LinkStats},
    log::{Event, Log, LogForm},
};

type Labels = [(&'static str, &'static str); 1];

/// Lines and figures of one engine.
pub struct Telemetry {
    log: LogForm,
    registry: Registry,
    refused: Family<Labels, Counter>,
    forbidden: Family<Labels, Counter>,
    reloads: Family<Labels, Counter>,
    failed: Family<Labels, Counter>,
    ready: AtomicBool,
    figures: Arc<OnceLock<Watched>>,
    /// Of what strangers can cause.
    lines: LineLimit,
}

/// What figures are read from.
pub(super) struct Watched {
    pub(super) desk: Arc<FrontDesk>,
    pub(super) stats: Arc<EngineStats>,
    pub(super) links: Vec<(PerspectiveId, Arc<LinkStats>)>,
    pub(super) identity: Arc<Identity>,
}

impl Telemetry {
    /// Without anything to watch yet.
    #[must_use]
    pub fn new(log: LogForm) -> Self {
        let mut registry = Registry::with_prefix("parallax_engine");
        let mut family = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let refused = family("connections_refused", "Connections refused, by reason");
        let forbidden = family("calls_forbidden", "Calls by callers that may not make them");
        let reloads = family("reloads", "Times certificates and keys were read again");
        let failed = family("calls_failed", "Calls that failed for reasons of our own");
        registry.register("build", "This program", Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned())]));
        let figures = Arc::<OnceLock<Watched>>::default();
        registry.register_collector(Box::new(Figures(Arc::clone(&figures))));
        Self {
            log,
            registry,
            refused,
            forbidden,
            reloads,
            failed,
            ready: AtomicBool::new(false),
            figures,
            lines: LineLimit::default(),
        }
    }

    /// From now on there is something to watch.
    pub(super) fn watch(&self, watched: Watched) {
        // Once, at start.
        let _ = self.figures.set(watched);
    }

    /// Writes a line.
    pub fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Reloaded => _ = self.reloads.get_or_create(&[("result", "done")]).inc(),
            Event::NotReloaded { .. } => _ = self.reloads.get_or_create(&[("result", "failed")]).inc(),
            _ => {}
        }
        self.log.tell(event);
    }

    /// A caller asked for what it may not.
    pub fn forbidden(&self, names: &[String], right: &'static str) {
        self.forbidden.get_or_create(&[("right", right)]).inc();
        if self.lines.pass(Instant::now()).is_some() {
            self.tell(&Event::Forbidden { names, right });
        }
    }

    /// A call failed for reasons of our own.
    pub fn failed(&self, call: &'static str, why: &dyn std::fmt::Display) {
        self.failed.get_or_create(&[("call", call)]).inc();
        self.tell(&Event::CallFailed { call, why: &why.to_string() });
    }

    /// Whether it may be given work.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Whether it may be given work: it serves, and the primary can be reached.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let primary_is_up = || {
            let links = self.figures.get().map(|watched| watched.links.as_slice()).unwrap_or_default();
            links.iter().all(|(_, link)| !link.primary || link.up.load(Ordering::Relaxed))
        };
        self.ready.load(Ordering::Relaxed) && primary_is_up()
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
            self.tell(&Event::ConnectionRefused { peer, why: &why.to_string(), left_out });
        }
    }

    fn accept_failed(&self, why: &std::io::Error) {
        self.failed("accept", why);
    }
}

struct Figures(Arc<OnceLock<Watched>>);

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(Watched { desk, stats, links, identity }) = self.0.get() else { return Ok(()) };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("answers", "Requests answered with a verdict", desk.answered()),
            ("requests_refused", "Requests refused because too much was under way", desk.refused()),
            ("late_answers", "Answers that came after the verdict", read(&stats.late)),
            ("late_contradictions", "Late answers that go against a permission", read(&stats.late_contradictions)),
            ("rejected_reports", "Reports that answer nothing that was asked", read(&stats.rejected_reports)),
            ("timed_out", "Perspectives given up because they were silent", read(&stats.timed_out)),
            ("restarts", "Attempts whose whole process started afresh", read(&stats.restarts)),
            ("commits", "Commits of the journal", read(&stats.commits)),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in [
            ("in_flight", "Requests that wait or are under way", desk.in_flight() as i64),
            ("waiting", "Requests that wait to be begun", read(&stats.waiting) as i64),
            (
                "certificate_expires_timestamp_seconds",
                "When the engine's certificate expires",
                identity.not_after().as_second(),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        if let Some(until) = identity.revocations_until() {
            let gauge = ConstGauge::new(until.as_second());
            let name = "revocation_list_expires_timestamp_seconds";
            let help = "When the first revocation list expires, after which nobody of its authority is believed";
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let mut up =
            encoder.encode_descriptor("link_up", "Whether the link to a node stands", None, MetricType::Gauge)?;
        for (id, link) in links {
            let labels = [("perspective", id.as_str())];
            ConstGauge::new(i64::from(link.up.load(Ordering::Relaxed))).encode(up.encode_family(&labels)?)?;
        }
        type Of = fn(&LinkStats) -> &AtomicU64;
        let counters: [(&str, &str, Of); 4] = [
            ("link_unreadable", "Reports of a node that could not be read", |link| &link.unreadable),
            ("link_tasks", "Tasks handed over to a node", |link| &link.tasks),
            ("link_reports", "Reports that came back from a node", |link| &link.reports),
            ("link_broken", "Times a link broke or could not be made", |link| &link.broken),
        ];
        for (name, help, counter) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (id, link) in links {
                let labels = [("perspective", id.as_str())];
                ConstCounter::new(read(counter(link))).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
