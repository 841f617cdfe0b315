//! What a rate of attempts needs: cores, memory, attempts in flight, connections, ports, questions, octets.
//!
//! Decided here: every formula from rates and service times to resources. Left out: where the rates come from
//! (`traffic`) and what the resources cost (`model`).
//!
//! Invariant: every figure is a sum of rates times what is not negative, so that more attempts never need less.

use parallax_validation::plan::PlanLimits;
use serde::Serialize;

use super::{
    demand::Demand,
    times::{Kind, KindTimes, ServiceTimes, TimesError, tasks},
    traffic::ByKind,
};

/// Ephemeral ports of one source address by Linux's default (`net.ipv4.ip_local_port_range`, 32768 to 60999).
pub const PORTS_OF_ADDRESS: f64 = 28_232.0;

/// What the kernel holds for a connection to a silent target, both ends together (docs/performance.md): more than one
/// end alone.
pub const KERNEL_OCTETS_OF_CONNECTION: f64 = 8.9 * 1024.0;

/// Questions about a signed name beyond those about another: the keys of its zone, and its delegation.
const QUESTIONS_OF_SIGNED: f64 = 2.0;

/// By how many standard deviations a bound on attempts in flight lies above their mean in the peak hour: attempts that
/// come independently are in flight by Poisson's law, whose variance is its mean.
const BOUND_DEVIATIONS: f64 = 4.0;

/// All that a rate of attempts needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Needs {
    /// Attempts a second.
    pub attempts_per_second: f64,
    /// The same by kind.
    pub by_kind_per_second: ByKind,
    /// The engine.
    pub engine: EngineNeeds,
    /// The primary's node.
    pub primary: NodeNeeds,
    /// Each remote's node.
    pub remote: NodeNeeds,
    /// Remotes.
    pub remotes: u8,
}

/// What the engine needs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EngineNeeds {
    /// CPU for an attempt, mean of all.
    pub cpu_us_per_attempt: f64,
    /// Cores' worth of work.
    pub busy_cores: f64,
    /// Cores at the utilisation that is wanted.
    pub cores: f64,
    /// Work of the one dispatcher of a process, in cores.
    pub dispatcher_busy: f64,
    /// Work of the busiest collector of a process, in cores.
    pub collector_busy: f64,
    /// Work of the one decider of a process, in cores.
    pub decider_busy: f64,
    /// Processes, so that none of these threads is busier than is wanted.
    pub processes: f64,
    /// How long an attempt takes, mean.
    pub latency_s: f64,
    /// Attempts in flight, by Little's law.
    pub in_flight: f64,
    /// The least `engine.attempts_in_flight` that does not hold requests back.
    pub in_flight_bound: f64,
    /// Memory of all processes.
    pub memory_octets: f64,
    /// Octets a second to and from the nodes.
    pub octets_out_per_second: f64,
    /// In.
    pub octets_in_per_second: f64,
    /// Octets a second that the journal grows by.
    pub journal_octets_per_second: f64,
}

/// What one perspective's node and its resolver need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct NodeNeeds {
    /// Tasks a second.
    pub tasks_per_second: f64,
    /// Cores' worth of work.
    pub busy_cores: f64,
    /// Cores, and so workers, at the utilisation that is wanted.
    pub cores: f64,
    /// Tasks in flight, by Little's law.
    pub in_flight: f64,
    /// The least `tasks_in_flight_max` of all workers together that turns nothing away.
    pub in_flight_bound: f64,
    /// Memory of the process, and of the kernel for its connections.
    pub memory_octets: f64,
    /// Connections a second.
    pub connections_per_second: f64,
    /// Connections, and so sockets and descriptors, in flight.
    pub connections: f64,
    /// Source ports if all connections went to one target.
    pub ports: f64,
    /// Source addresses for these.
    pub source_addresses: f64,
    /// Questions a second to the resolver.
    pub questions_per_second: f64,
    /// The resolver's cores' worth of work.
    pub resolver_busy_cores: f64,
    /// The resolver's cores at the utilisation that is wanted.
    pub resolver_cores: f64,
    /// Octets a second to resolver, targets and engine.
    pub octets_out_per_second: f64,
    /// In.
    pub octets_in_per_second: f64,
}

/// What one attempt of a kind takes of each part, under a demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Attempt {
    /// Perspectives asked.
    pub tasks: f64,
    /// CPU of the dispatcher.
    pub dispatcher_us: f64,
    /// CPU of each collector.
    pub collector_us: f64,
    /// CPU of the decider.
    pub decider_us: f64,
    /// CPU of the engine, all its threads.
    pub engine_us: f64,
    /// CPU of a node that is asked.
    pub node_us: f64,
    /// From request to verdict.
    pub latency_us: f64,
    /// At a node that is asked; at most.
    pub task_latency_us: f64,
    /// Questions of a node.
    pub questions: f64,
    /// Connections of a node.
    pub connections: f64,
    /// Octets of a node to resolver and target.
    pub octets_out: f64,
    /// In.
    pub octets_in: f64,
    /// Octets of a report, taken as the journal's for it.
    pub report_octets: f64,
    /// Octets of the journal.
    pub journal_octets: f64,
}

impl Attempt {
    /// What an attempt of `kind` takes.
    ///
    /// # Errors
    /// Nothing measured it, or CAA alone, by which further questions are priced.
    pub fn of(kind: Kind, demand: &Demand, times: &ServiceTimes) -> Result<Self, TimesError> {
        let measured = times.of(kind)?;
        let tasks = tasks(kind, demand.perspectives.remotes, demand.perspectives.primary_first);
        let network = &demand.network;
        let added = added_questions(demand);
        let questions = measured.questions_per_task.unwrap_or_else(|| stated_questions(kind, demand)) + added;
        let connections = measured.connections_per_task.unwrap_or_else(|| stated_connections(kind));
        let (probe_out, probe_in) = probe_octets(kind, demand);
        let signed = demand.attempts.signed_share;
        let reply = (1.0 - signed) * demand.octets.reply + signed * demand.octets.signed_reply;
        let dispatcher_us = measured.dispatcher_us_per_task * tasks;
        let decider_us = measured.decider_us_per_task * tasks;
        let of_collectors_us = measured.collector_us_per_task * tasks;
        let (latency_us, task_latency_us) = latencies(kind, demand, measured);
        Ok(Self {
            tasks,
            dispatcher_us,
            collector_us: measured.collector_us_per_task,
            decider_us,
            engine_us: dispatcher_us
                + of_collectors_us
                + decider_us
                + measured.shared_us_per_request
                + network.link_us_per_task * tasks,
            node_us: measured.node_us_per_task
                + added * question_us(demand, times)?
                + signed * network.signed_us_per_task
                + network.link_us_per_task,
            latency_us,
            task_latency_us,
            questions,
            connections,
            octets_out: questions * demand.octets.question + connections * probe_out,
            octets_in: questions * reply + connections * probe_in,
            report_octets: measured.journal_octets_per_task,
            journal_octets: measured.journal_octets_per_task * tasks,
        })
    }
}

/// Questions that the laboratory's names did not need: delegations and aliases of signed and aliased ones.
fn added_questions(demand: &Demand) -> f64 {
    let of = &demand.attempts;
    of.alias_hops_mean + of.signed_share * QUESTIONS_OF_SIGNED
}

/// CPU of a node for one question more: that of CAA alone, which is nothing but questions.
fn question_us(demand: &Demand, times: &ServiceTimes) -> Result<f64, TimesError> {
    let caa = times.of(Kind::Caa)?;
    let questions = caa.questions_per_task.unwrap_or_else(|| stated_questions(Kind::Caa, demand));
    Ok(if questions == 0.0 { 0.0 } else { caa.node_us_per_task / questions })
}

/// Questions of a task where they were not counted: those of the control method, and of the climb for CAA.
fn stated_questions(kind: Kind, demand: &Demand) -> f64 {
    let climb = demand.attempts.labels_mean;
    match kind {
        Kind::Caa => climb,
        Kind::Dns01 => 1.0 + climb,
        // A and AAAA.
        Kind::Http01 | Kind::TlsAlpn01 | Kind::RefusedAtPrimary => 2.0 + climb,
        // Each is sent again if nothing answers.
        Kind::Slow => f64::from(PlanLimits::default().dns_transmissions) * (2.0 + climb),
    }
}

/// Connections of a task where they were not counted.
fn stated_connections(kind: Kind) -> f64 {
    match kind {
        Kind::Dns01 | Kind::Caa => 0.0,
        Kind::Http01 | Kind::TlsAlpn01 | Kind::RefusedAtPrimary | Kind::Slow => 1.0,
    }
}

fn probe_octets(kind: Kind, demand: &Demand) -> (f64, f64) {
    match kind {
        Kind::TlsAlpn01 => (demand.octets.tls_out, demand.octets.tls_in),
        _ => (demand.octets.http_out, demand.octets.http_in),
    }
}

/// Of an attempt, and of its task at a node.
fn latencies(kind: Kind, demand: &Demand, measured: &KindTimes) -> (f64, f64) {
    if kind == Kind::Slow {
        let held_us = demand.attempts.slow_held_ms * 1000.0;
        return (held_us, held_us);
    }
    let added_us = demand.network.added_ms * 1000.0;
    // What is permitted has two rounds if the primary is asked first.
    let rounds = if kind.is_permitted() && demand.perspectives.primary_first { 2.0 } else { 1.0 };
    (measured.latency_us + rounds * added_us, measured.latency_us + added_us)
}

impl Needs {
    /// What `rates`, attempts a second by kind, need.
    ///
    /// # Errors
    /// Nothing measured a kind that occurs.
    pub fn of(rates: &ByKind, demand: &Demand, times: &ServiceTimes) -> Result<Self, TimesError> {
        let mut attempts = Vec::with_capacity(Kind::ALL.len());
        for (kind, per_second) in rates.iter().filter(|(_, per_second)| *per_second > 0.0) {
            attempts.push((kind, per_second, Attempt::of(kind, demand, times)?));
        }
        let reaches_remotes = |kind: Kind| kind.is_permitted() || !demand.perspectives.primary_first;
        Ok(Self {
            attempts_per_second: rates.sum(),
            by_kind_per_second: *rates,
            engine: EngineNeeds::of(&attempts, demand, times),
            primary: NodeNeeds::of(&attempts, |_| true, demand, times),
            remote: NodeNeeds::of(&attempts, reaches_remotes, demand, times),
            remotes: demand.perspectives.remotes,
        })
    }

    /// All nodes of a kind of figure: the primary's and each remote's.
    #[must_use]
    pub fn of_nodes(&self, figure: impl Fn(&NodeNeeds) -> f64) -> f64 {
        figure(&self.primary) + f64::from(self.remotes) * figure(&self.remote)
    }
}

impl EngineNeeds {
    fn of(attempts: &[(Kind, f64, Attempt)], demand: &Demand, times: &ServiceTimes) -> Self {
        let sum = |figure: fn(&Attempt) -> f64| attempts.iter().map(|(_, rate, of)| rate * figure(of)).sum::<f64>();
        let rate: f64 = attempts.iter().map(|(_, rate, _)| rate).sum();
        let utilisation = demand.load.utilisation;
        let busy = |figure: fn(&Attempt) -> f64| sum(figure) / 1e6;
        let (dispatcher_busy, collector_busy, decider_busy) =
            (busy(|of| of.dispatcher_us), busy(|of| of.collector_us), busy(|of| of.decider_us));
        let processes = (dispatcher_busy.max(collector_busy).max(decider_busy) / utilisation).ceil().max(1.0);
        let busy_cores = busy(|of| of.engine_us);
        let in_flight = busy(|of| of.latency_us);
        Self {
            cpu_us_per_attempt: ratio(busy_cores * 1e6, rate),
            busy_cores,
            cores: busy_cores / utilisation,
            dispatcher_busy,
            collector_busy,
            decider_busy,
            processes,
            latency_s: ratio(in_flight, rate),
            in_flight,
            in_flight_bound: bound(in_flight),
            memory_octets: processes * times.base_rss_octets + in_flight * times.octets_per_in_flight,
            octets_out_per_second: sum(|of| of.tasks) * demand.octets.link_task,
            octets_in_per_second: sum(|of| of.tasks * of.report_octets),
            journal_octets_per_second: sum(|of| of.journal_octets),
        }
    }
}

impl NodeNeeds {
    fn of(
        attempts: &[(Kind, f64, Attempt)],
        is_asked: impl Fn(Kind) -> bool,
        demand: &Demand,
        times: &ServiceTimes,
    ) -> Self {
        let asked: Vec<(f64, Attempt)> =
            attempts.iter().filter(|(kind, ..)| is_asked(*kind)).map(|(_, rate, of)| (*rate, *of)).collect();
        let sum = |figure: fn(&Attempt) -> f64| asked.iter().map(|(rate, of)| rate * figure(of)).sum::<f64>();
        let utilisation = demand.load.utilisation;
        let tasks_per_second = sum(|_| 1.0);
        let busy_cores = sum(|of| of.node_us) / 1e6;
        let in_flight = sum(|of| of.task_latency_us) / 1e6;
        let connections_per_second = sum(|of| of.connections);
        let connections = sum(|of| of.connections * of.task_latency_us) / 1e6;
        let ports = connections + connections_per_second * demand.network.time_wait_seconds;
        let resolver_busy_cores = tasks_per_second * demand.network.resolver_us_per_task / 1e6;
        Self {
            tasks_per_second,
            busy_cores,
            cores: busy_cores / utilisation,
            in_flight,
            in_flight_bound: bound(in_flight),
            memory_octets: times.base_rss_octets
                + in_flight * times.octets_per_in_flight
                + connections * KERNEL_OCTETS_OF_CONNECTION,
            connections_per_second,
            connections,
            ports,
            source_addresses: (ports / PORTS_OF_ADDRESS).ceil().max(1.0),
            questions_per_second: sum(|of| of.questions),
            resolver_busy_cores,
            resolver_cores: resolver_busy_cores / utilisation,
            octets_out_per_second: sum(|of| of.octets_out + of.report_octets),
            octets_in_per_second: sum(|of| of.octets_in) + tasks_per_second * demand.octets.link_task,
        }
    }
}

/// A bound that so many in flight on average stay below but for rare instants.
#[must_use]
pub fn bound(in_flight: f64) -> f64 {
    (in_flight + BOUND_DEVIATIONS * in_flight.sqrt()).ceil()
}

fn ratio(sum: f64, count: f64) -> f64 {
    if count == 0.0 { 0.0 } else { sum / count }
}
