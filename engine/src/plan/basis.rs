//! What a plan rests on: each assumption with its source, and the formulae with the numbers of one step.

use serde::Serialize;

use super::{
    demand::Demand,
    figures::{number, octets},
    lifetimes::Step,
    model::{DAYS_OF_MONTH, StepPlan},
    needs::{KERNEL_OCTETS_OF_CONNECTION, PORTS_OF_ADDRESS},
    times::ServiceTimes,
};

/// Where an assumption is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The runs that were given.
    Measured,
    /// Those that are built in, of another machine.
    Reference,
    /// The demand.
    Demand,
    /// A rule, or a limit of this program.
    Rule,
    /// The planner's own.
    Model,
}

impl Source {
    /// As a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Reference => "reference",
            Self::Demand => "demand",
            Self::Rule => "rule",
            Self::Model => "model",
        }
    }
}

/// One assumption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// Where it is from.
    pub source: Source,
    /// What is assumed.
    pub text: String,
}

/// A formula with its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Formula {
    /// What it gives.
    pub what: &'static str,
    /// In symbols.
    pub formula: &'static str,
    /// In numbers.
    pub numbers: String,
}

/// All that a plan assumes; `times_from` is where the service times are from.
#[must_use]
pub fn assumptions(demand: &Demand, times: &ServiceTimes, times_from: Source) -> Vec<Assumption> {
    let mut all = Vec::new();
    let mut say = |source, text: String| all.push(Assumption { source, text });
    say(times_from, times.origin.clone());
    for (kind, of) in times.kinds() {
        let engine = of.dispatcher_us_per_task + of.collector_us_per_task + of.decider_us_per_task;
        let text = format!(
            "{}: a node {} us a task, the engine {} us a perspective asked and {} us a request; latency {} ms; journal {} a \
             perspective asked; at {} requests/s",
            kind.name(),
            number(of.node_us_per_task),
            number(engine),
            number(of.shared_us_per_request),
            number(of.latency_us / 1000.0),
            octets(of.journal_octets_per_task),
            number(of.measured_per_second)
        );
        say(times_from, text);
        if of.questions_per_task.is_none() || of.connections_per_task.is_none() {
            let text =
                format!("{}: questions and connections were not counted and follow from the method", kind.name());
            say(Source::Model, text);
        }
    }
    let (base, each) = (octets(times.base_rss_octets), octets(times.octets_per_in_flight));
    say(times_from, format!("memory: {base} of a process, and {each} for each attempt in flight"));
    for run in &times.set_aside {
        say(times_from, format!("set aside: {run}"));
    }
    demand_assumptions(demand, &mut say);
    rule_assumptions(demand, &mut say);
    model_assumptions(&mut say);
    all
}

fn demand_assumptions(demand: &Demand, say: &mut impl FnMut(Source, String)) {
    let (attempts, network, load) = (&demand.attempts, &demand.network, &demand.load);
    let percent = |share: f64| number(share * 100.0);
    for text in [
        format!(
            "{} names a certificate; renewed at {} % of the lifetime; growth {} % a year",
            number(demand.names_mean()),
            percent(demand.certificates.renew_at_share),
            percent(demand.certificates.growth_per_year)
        ),
        format!(
            "{} % of the attempts fail, {} % of all are slow and held for {} s",
            percent(attempts.failing_share),
            percent(attempts.slow_share),
            number(attempts.slow_held_ms / 1000.0)
        ),
        format!(
            "dns-01 {} %, http-01 {} %, tls-alpn-01 {} %; {} % of the names signed; {} aliases a name",
            percent(attempts.methods.dns_01),
            percent(attempts.methods.http_01),
            percent(attempts.methods.tls_alpn_01),
            percent(attempts.signed_share),
            number(attempts.alias_hops_mean)
        ),
        format!(
            "peak hour {} times the mean; cores at most {} % busy",
            number(load.peak_factor),
            percent(load.utilisation)
        ),
        format!(
            "{} ms added to a perspective's latency in the laboratory; a resolver takes {} us of CPU a task",
            number(network.added_ms),
            number(network.resolver_us_per_task)
        ),
        "octets on the wire are those of the demand's section octets".to_owned(),
    ] {
        say(Source::Demand, text);
    }
    for (value, what) in [
        (network.signed_us_per_task, "checking signatures"),
        (network.link_us_per_task, "sealing tasks and reports on the link"),
    ] {
        let text = if value == 0.0 {
            format!("the CPU of {what} is left out: the demand has 0 for it")
        } else {
            format!("{what} takes {} us a task", number(value))
        };
        say(Source::Demand, text);
    }
}

fn rule_assumptions(demand: &Demand, say: &mut impl FnMut(Source, String)) {
    for text in [
        "lifetime and reuse by date: TLS BR 6.3.2 and 4.2.1; a shorter one of the demand's own goes first".to_owned(),
        "remotes at least: TLS BR 3.2.2.9".to_owned(),
        "CAA is looked up for every issuance, by all perspectives; once more after 8 hours: TLS BR 4.2.2.1".to_owned(),
        format!("the journal is kept for {} days; at least 1130: TLS BR 5.4.3 and 5.5.2", demand.journal.keep_days),
        format!("{} ephemeral ports a source address: Linux's default", number(PORTS_OF_ADDRESS)),
    ] {
        say(Source::Rule, text);
    }
}

fn model_assumptions(say: &mut impl FnMut(Source, String)) {
    for text in [
        "certificates are renewed evenly over time".to_owned(),
        "failing attempts fail at the primary; CAA alone does not fail; nothing is restarted".to_owned(),
        "work of dispatcher, collectors, decider, nodes and journal grows with the perspectives asked".to_owned(),
        "an attempt in flight takes as much memory of the engine, and of each node asked, as of the one process measured: an \
         upper bound"
            .to_owned(),
        "a task is at a node for as long as its attempt in the laboratory: an upper bound".to_owned(),
        format!("the kernel holds {} for a connection (docs/performance.md)", octets(KERNEL_OCTETS_OF_CONNECTION)),
        "a report has as many octets as the journal's entry for it".to_owned(),
        "what is in flight has Poisson's spread: bounds lie four standard deviations above the mean".to_owned(),
    ] {
        say(Source::Model, text);
    }
}

/// The formulae with the numbers of `plan`.
#[must_use]
pub fn formulae(demand: &Demand, times: &ServiceTimes, step: &Step, plan: &StepPlan) -> Vec<Formula> {
    let mut all = traffic_formulae(demand, step, plan);
    all.extend(load_formulae(demand, plan));
    all.extend(store_formulae(times, plan));
    all
}

fn traffic_formulae(demand: &Demand, step: &Step, plan: &StepPlan) -> Vec<Formula> {
    let traffic = &plan.traffic;
    let fresh = traffic.names_per_day * traffic.fresh_share;
    vec![
        Formula {
            what: "active certificates",
            formula: "active × (1 + growth)^years",
            numbers: format!(
                "× {}^{} = {}",
                number(1.0 + demand.certificates.growth_per_year),
                number(step.years),
                number(traffic.active)
            ),
        },
        Formula {
            what: "certificates a day",
            formula: "active ÷ (lifetime × renewed at)",
            numbers: format!(
                "{} ÷ ({} × {}) = {}",
                number(traffic.active),
                number(traffic.lifetime_days),
                number(demand.certificates.renew_at_share),
                number(traffic.certificates_per_day)
            ),
        },
        Formula {
            what: "share validated afresh",
            formula: "1 ÷ (⌊reuse ÷ days between renewals⌋ + 1)",
            numbers: format!(
                "1 ÷ (⌊{} ÷ {}⌋ + 1) = {}",
                number(traffic.reuse_days),
                number(traffic.renewal_days),
                number(traffic.fresh_share)
            ),
        },
        Formula {
            what: "attempts to show control a day",
            formula: "names × share afresh ÷ (1 − failing)",
            numbers: format!(
                "{} × {} ÷ (1 − {}) = {}",
                number(traffic.names_per_day),
                number(traffic.fresh_share),
                number(demand.attempts.failing_share),
                number(fresh / (1.0 - demand.attempts.failing_share))
            ),
        },
        Formula {
            what: "attempts of CAA alone a day",
            formula: "names × (1 − share afresh + share afresh × CAA again)",
            numbers: format!(
                "{} × (1 − {} + {} × {}) = {}",
                number(traffic.names_per_day),
                number(traffic.fresh_share),
                number(traffic.fresh_share),
                number(demand.certificates.caa_again_share),
                number(traffic.attempts_per_day[super::times::Kind::Caa])
            ),
        },
    ]
}

fn load_formulae(demand: &Demand, plan: &StepPlan) -> Vec<Formula> {
    let (peak, engine, primary) = (&plan.peak, &plan.peak.engine, &plan.peak.primary);
    let rate = number(peak.attempts_per_second);
    let utilisation = number(demand.load.utilisation);
    vec![
        Formula {
            what: "attempts a second, peak hour",
            formula: "attempts a day ÷ 86 400 × peak factor",
            numbers: format!(
                "{} ÷ 86 400 × {} = {rate}",
                number(plan.traffic.attempts_per_day.sum()),
                number(demand.load.peak_factor)
            ),
        },
        Formula {
            what: "attempts in flight",
            formula: "λ × W = L (Little)",
            numbers: format!("{rate}/s × {} s = {}", number(engine.latency_s), number(engine.in_flight)),
        },
        Formula {
            what: "engine's cores",
            formula: "λ × CPU ÷ utilisation",
            numbers: format!(
                "{rate}/s × {} us ÷ {utilisation} = {}",
                number(engine.cpu_us_per_attempt),
                number(engine.cores)
            ),
        },
        Formula {
            what: "engine's processes",
            formula: "⌈busiest of dispatcher, collector, decider ÷ utilisation⌉",
            numbers: format!(
                "⌈max({}, {}, {}) ÷ {utilisation}⌉ = {}",
                number(engine.dispatcher_busy),
                number(engine.collector_busy),
                number(engine.decider_busy),
                number(engine.processes)
            ),
        },
        Formula {
            what: "workers of the primary's node",
            formula: "Σ tasks a second × CPU ÷ utilisation",
            numbers: format!("{} busy ÷ {utilisation} = {}", number(primary.busy_cores), number(primary.cores)),
        },
        Formula {
            what: "source ports of the primary",
            formula: "Σ connections a second × (time open + TIME_WAIT)",
            numbers: format!(
                "{} open + {}/s × {} s = {}; one address has {}",
                number(primary.connections),
                number(primary.connections_per_second),
                number(demand.network.time_wait_seconds),
                number(primary.ports),
                number(PORTS_OF_ADDRESS)
            ),
        },
    ]
}

fn store_formulae(times: &ServiceTimes, plan: &StepPlan) -> Vec<Formula> {
    let engine = &plan.peak.engine;
    let mut all = vec![
        Formula {
            what: "engine's memory",
            formula: "processes × base + L × memory for each in flight",
            numbers: format!(
                "{} × {} + {} × {} = {}",
                number(engine.processes),
                octets(times.base_rss_octets),
                number(engine.in_flight),
                octets(times.octets_per_in_flight),
                octets(engine.memory_octets)
            ),
        },
        Formula {
            what: "disk of the journal",
            formula: "octets a day × days kept",
            numbers: format!(
                "{} × {} = {}",
                octets(plan.journal.octets_per_day),
                plan.journal.keep_days,
                octets(plan.journal.disk_octets)
            ),
        },
    ];
    if let Some(cost) = &plan.cost {
        all.push(Formula {
            what: "cost of a million corroborations",
            formula: "cost of a month ÷ (permitted attempts a day × days of a month) × 1 000 000",
            numbers: format!(
                "{} ÷ ({} × {}) × 1 000 000 = {} {}",
                number(cost.per_month),
                number(plan.traffic.attempts_per_day.permitted()),
                number(DAYS_OF_MONTH),
                number(cost.per_million_corroborations),
                cost.currency
            ),
        });
    }
    all
}
