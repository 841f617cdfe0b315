//! What a request of each kind takes of an engine and its nodes, out of measured runs.
//!
//! Decided here: which run measured which kind, and how CPU time is shared out among perspectives. Left out: demand; and
//! what one engine shows at a load, which is `curves`'s.
//!
//! Assumption: the work of dispatcher, collectors, decider and nodes grows with the perspectives an attempt asks; that
//! of the API does not. It holds exactly for as many remotes as were measured.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;

use super::{
    curves::{self, Curve},
    measured::{Measured, Run},
};

/// Of a good mix, so many requests are permitted at least; of a refused one, at most the rest.
const PURE_SHARE_MIN: f64 = 0.99;

/// Kinds of attempt that a plan is made of. Each is measured by a mix of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Control by DNS, and CAA; permitted.
    #[serde(rename = "dns-01")]
    Dns01,
    /// Control by HTTP, and CAA; permitted.
    #[serde(rename = "http-01")]
    Http01,
    /// Control by TLS, and CAA; permitted.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// CAA alone; permitted.
    Caa,
    /// Refused by what the primary saw.
    RefusedAtPrimary,
    /// Refused since nothing came.
    Slow,
}

impl Kind {
    /// All, in the order of tables.
    pub const ALL: [Self; 6] =
        [Self::Dns01, Self::Http01, Self::TlsAlpn01, Self::Caa, Self::RefusedAtPrimary, Self::Slow];

    /// The name of the mix that measures it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns01 => "dns-01",
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Caa => "caa",
            Self::RefusedAtPrimary => "refused-at-primary",
            Self::Slow => "slow",
        }
    }

    /// Whether it ends as a permission, so that every perspective was asked.
    #[must_use]
    pub fn is_permitted(self) -> bool {
        !matches!(self, Self::RefusedAtPrimary | Self::Slow)
    }
}

/// What a request of one kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct KindTimes {
    /// CPU of the dispatcher for each perspective asked.
    pub dispatcher_us_per_task: f64,
    /// CPU of collectors for each perspective asked.
    pub collector_us_per_task: f64,
    /// CPU of the decider for each perspective asked.
    pub decider_us_per_task: f64,
    /// CPU of a node for its task.
    pub node_us_per_task: f64,
    /// CPU of the API and all else for each request.
    pub shared_us_per_request: f64,
    /// Mean latency of a request.
    pub latency_us: f64,
    /// Octets of the journal for each perspective asked.
    pub journal_octets_per_task: f64,
    /// Questions of a task, where they were counted.
    pub questions_per_task: Option<f64>,
    /// Connections of a task, where they were counted.
    pub connections_per_task: Option<f64>,
    /// Requests a second in the run that all this is of: the busiest.
    pub measured_per_second: f64,
}

/// What is known of an engine by measurement.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceTimes {
    kinds: BTreeMap<Kind, KindTimes>,
    /// Mixes, and the laboratory's kinds that pure mixes measured, by name; each with its points in order of load.
    #[serde(skip)]
    curves: BTreeMap<String, Curve>,
    /// Resident memory with nothing in flight, after requests of whichever kind leaves most.
    pub base_rss_octets: f64,
    /// Resident memory that an attempt in flight adds.
    pub octets_per_in_flight: f64,
    /// Where the measurement was made.
    pub origin: String,
    /// Runs that were no figures.
    pub set_aside: Vec<String>,
}

/// What was measured does not do.
#[derive(Debug, Error, PartialEq)]
pub enum TimesError {
    /// Nothing measured a kind.
    #[error("no usable run measured {kind}{}", told(set_aside))]
    NotMeasured {
        /// The kind of attempt or of the laboratory.
        kind: String,
        /// Runs that were no figures.
        set_aside: Vec<String>,
    },
    /// A mix with a kind's name that is not pure.
    #[error(
        "{mix} at {offered_per_second}/s: {permitted} of {completed} requests were permitted, which does not fit the mix of that name"
    )]
    NotPure {
        /// The mix.
        mix: String,
        /// The run's rate.
        offered_per_second: f64,
        /// Requests permitted.
        permitted: u64,
        /// Requests answered.
        completed: u64,
    },
    /// Memory cannot be told.
    #[error(
        "rss_kib: no mix has two runs whose attempts in flight differ by 1 or more ({most:.1} at most), so that memory for \
         each cannot be told; slow at two rates would do{}",
        told(set_aside)
    )]
    NoSlope {
        /// How far runs of a mix differ, at most.
        most: f64,
        /// Runs that were no figures.
        set_aside: Vec<String>,
    },
}

/// Runs that were set aside, for the end of a sentence.
fn told(set_aside: &[String]) -> String {
    if set_aside.is_empty() { String::new() } else { format!(" (set aside: {})", set_aside.join("; ")) }
}

impl ServiceTimes {
    /// Derives them.
    ///
    /// # Errors
    /// A mix is not what its name says, or memory cannot be told. Kinds that nobody measured are an error only once
    /// they are asked for.
    pub fn derive(measured: &Measured) -> Result<Self, TimesError> {
        let (curves, octets_per_in_flight) = curves::of_runs(&measured.runs, &measured.set_aside)?;
        let base_rss_octets = curves.values().map(|curve| curve.base_rss_octets).fold(0.0, f64::max);
        let mut times = Self {
            kinds: BTreeMap::new(),
            curves,
            base_rss_octets,
            octets_per_in_flight,
            origin: measured.origin.to_string(),
            set_aside: measured.set_aside.clone(),
        };
        for kind in Kind::ALL {
            let runs = measured.runs.iter().filter(|run| run.mix == kind.name());
            if let Some(busiest) = runs.max_by(|one, other| one.busy_cores().total_cmp(&other.busy_cores())) {
                times.kinds.insert(kind, KindTimes::of(kind, busiest, measured)?);
            }
        }
        Ok(times)
    }

    /// What a kind takes.
    ///
    /// # Errors
    /// Nothing measured it.
    pub fn of(&self, kind: Kind) -> Result<&KindTimes, TimesError> {
        self.kinds.get(&kind).ok_or_else(|| self.not_measured(kind.name()))
    }

    /// The curve of a mix, or of a kind of the laboratory. Where a kind was measured along with others of a pure mix, CPU
    /// time is the mix's and latency its own.
    ///
    /// # Errors
    /// Nothing measured it.
    pub fn curve(&self, mix_or_kind: &str) -> Result<&Curve, TimesError> {
        self.curves.get(mix_or_kind).ok_or_else(|| self.not_measured(mix_or_kind))
    }

    /// All kinds that were measured.
    pub fn kinds(&self) -> impl Iterator<Item = (Kind, &KindTimes)> {
        self.kinds.iter().map(|(kind, times)| (*kind, times))
    }

    /// The same engine, if all its CPU times were `factor` of what was measured.
    #[must_use]
    pub fn with_cpu_times(&self, factor: f64) -> Self {
        let mut other = self.clone();
        for times in other.kinds.values_mut() {
            times.dispatcher_us_per_task *= factor;
            times.collector_us_per_task *= factor;
            times.decider_us_per_task *= factor;
            times.node_us_per_task *= factor;
            times.shared_us_per_request *= factor;
        }
        other
    }

    fn not_measured(&self, kind: &str) -> TimesError {
        TimesError::NotMeasured { kind: kind.escape_debug().to_string(), set_aside: self.set_aside.clone() }
    }
}

impl KindTimes {
    fn of(kind: Kind, run: &Run, measured: &Measured) -> Result<Self, TimesError> {
        let permitted = run.permitted as f64 / run.completed as f64;
        let fits = if kind.is_permitted() { permitted >= PURE_SHARE_MIN } else { permitted <= 1.0 - PURE_SHARE_MIN };
        if !fits {
            return Err(TimesError::NotPure {
                mix: run.mix.clone(),
                offered_per_second: run.offered_per_second,
                permitted: run.permitted,
                completed: run.completed,
            });
        }
        let tasks = tasks(kind, measured.engine.remotes, measured.engine.primary_first);
        let (roles, process) = (run.cpu_us_per_request.by_role, run.cpu_us_per_request.process);
        let threads = roles.dispatcher + roles.collector + roles.decider + roles.node;
        let loopback = run.loopback.unwrap_or_default();
        Ok(Self {
            dispatcher_us_per_task: roles.dispatcher / tasks,
            collector_us_per_task: roles.collector / tasks,
            decider_us_per_task: roles.decider / tasks,
            node_us_per_task: roles.node / tasks,
            // Clocks of threads and of the process are read one after another and may differ a little.
            shared_us_per_request: (process - threads).max(0.0),
            latency_us: run.latency_us.mean,
            journal_octets_per_task: run.journal_octets_per_request / tasks,
            questions_per_task: loopback.udp_out.map(|questions| questions / tasks),
            connections_per_task: loopback.tcp_opened.map(|connections| connections / tasks),
            measured_per_second: run.carried_per_second(),
        })
    }
}

/// Perspectives that an attempt of a kind asks: what is refused at the primary goes no further if that is asked first.
#[must_use]
pub fn tasks(kind: Kind, remotes: u8, primary_first: bool) -> f64 {
    if primary_first && !kind.is_permitted() { 1.0 } else { 1.0 + f64::from(remotes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= expected.abs() * 1e-9, "{found} instead of {expected}");
    }

    #[test]
    fn ok_times_are_those_of_the_busiest_run_shared_out_among_perspectives() {
        let times = fixture::times();
        let dns = times.of(Kind::Dns01).expect("measured");
        // 12, 30, 18 and 60 us over six perspectives, and 20 + 10 us for each request.
        near(dns.dispatcher_us_per_task, 2.0);
        near(dns.collector_us_per_task, 5.0);
        near(dns.decider_us_per_task, 3.0);
        near(dns.node_us_per_task, 10.0);
        near(dns.shared_us_per_request, 30.0);
        near(dns.latency_us, 4000.0);
        near(dns.journal_octets_per_task, 1000.0);
        assert_eq!((dns.questions_per_task, dns.connections_per_task), (Some(4.0), Some(0.0)));
        near(dns.measured_per_second, 1000.0);
        // Refused at the primary: one perspective.
        let refused = times.of(Kind::RefusedAtPrimary).expect("measured");
        near(refused.node_us_per_task, 12.0);
        assert_eq!((refused.questions_per_task, refused.connections_per_task), (None, None));
    }

    #[test]
    fn ok_memory_is_the_line_through_all_runs() {
        let times = fixture::times();
        // Every run of the fixture has 30 000 KiB and 8 for each attempt in flight.
        near(times.base_rss_octets, 30_000.0 * 1024.0);
        near(times.octets_per_in_flight, 8.0 * 1024.0);
    }

    #[test]
    fn ok_cpu_that_no_role_has_is_the_requests() {
        let mut value = fixture::measured();
        value["runs"][1]["cpu_us_per_request"]["process"] = 170.0.into();
        let measured = Measured::parse(&value.to_string()).expect("a measurement");
        // 170 for the process, of which 120 are the four roles'.
        near(
            ServiceTimes::derive(&measured).expect("times").of(Kind::Dns01).expect("measured").shared_us_per_request,
            50.0,
        );
    }

    #[test]
    fn err_a_mix_that_is_not_what_its_name_says_is_refused() {
        let mut value = fixture::measured();
        value["runs"][1]["permitted"] = 9_000.into();
        let measured = Measured::parse(&value.to_string()).expect("a measurement");
        let error = ServiceTimes::derive(&measured).expect_err("a tenth was refused");
        assert!(error.to_string().contains("dns-01 at 1000/s: 9000 of 10000"), "{error}");
    }

    #[test]
    fn err_a_kind_without_a_usable_run_is_named_when_asked_for() {
        let mut value = fixture::measured();
        value["runs"].as_array_mut().expect("runs").retain(|run| run["mix"] != "caa");
        value["runs"][0]["overloaded"] = true.into();
        let times = ServiceTimes::derive(&Measured::parse(&value.to_string()).expect("a measurement")).expect("times");
        let error = times.of(Kind::Caa).expect_err("not measured").to_string();
        assert_eq!(error, "no usable run measured caa (set aside: dns-01 at 100/s: overloaded)");
        assert!(times.curve("caa-none").is_err());
    }

    #[test]
    fn ok_a_kind_of_the_laboratory_is_found_by_the_pure_mix_that_measured_it() {
        let times = fixture::times();
        assert_eq!(times.curve("dns-ok").expect("a curve"), times.curve("dns-01").expect("a curve"));
        assert!(matches!(times.curve("dns-silent"), Err(TimesError::NotMeasured { kind, .. }) if kind == "dns-silent"));
        let busy: Vec<f64> =
            times.curve("dns-01").expect("a curve").points().iter().map(|point| point.busy_cores).collect();
        assert!(busy.is_sorted(), "{busy:?}");
    }

    #[test]
    fn ok_a_kind_among_others_has_the_cpu_of_the_mix_and_a_latency_of_its_own() {
        let mut value = fixture::measured();
        value["runs"][11]["shares"] = serde_json::json!({ "http-black-hole": 0.5, "dns-silent": 0.5 });
        value["runs"][11]["by_kind"]["dns-silent"] = serde_json::json!({ "latency_us_mean": 9e6 });
        let times = ServiceTimes::derive(&Measured::parse(&value.to_string()).expect("a measurement")).expect("times");
        let [point] = times.curve("dns-silent").expect("a curve").points() else { panic!("one point is wanted") };
        near(point.busy_cores, 500.0 * 68e-6);
        near(point.latency_us, 9e6);
        // The other run had this kind alone.
        assert_eq!(times.curve("http-black-hole").expect("a curve").points().len(), 1);
        assert_eq!(times.curve("slow").expect("a curve").points().len(), 2);
    }
}
