//! Figures as people read them, and the table of a plan: one column a step. Text and page show the same rows.

use super::model::{GIB, MassPlan, StepPlan, TIB};

/// One part of the table.
pub(super) struct Section {
    /// What it is about.
    pub(super) title: &'static str,
    /// Its rows: a label, and one cell for each step.
    pub(super) rows: Vec<(String, Vec<String>)>,
}

/// The most places after the point.
const PLACES_MAX: i32 = 9;

/// A number with three figures that count, or all of those before the point, in groups of three.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "no end".to_owned();
    }
    let places = if value == 0.0 || value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        // As many as let three figures be seen.
        (2 - value.abs().log10().floor() as i32).clamp(3, PLACES_MAX) as usize
    };
    let text = format!("{value:.places$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// Octets with a unit.
pub(super) fn octets(value: f64) -> String {
    let (unit, name) = match value {
        _ if value >= TIB => (TIB, "TiB"),
        _ if value >= GIB => (GIB, "GiB"),
        _ if value >= 1_048_576.0 => (1_048_576.0, "MiB"),
        _ if value >= 1024.0 => (1024.0, "KiB"),
        _ => (1.0, "B"),
    };
    format!("{} {name}", number(value / unit))
}

/// Octets a second as bits a second.
pub(super) fn bits(octets_per_second: f64) -> String {
    format!("{} Mbit/s", number(octets_per_second * 8.0 / 1e6))
}

/// The table.
pub(super) fn table(steps: &[StepPlan]) -> Vec<Section> {
    let section = |title, rows: Vec<(&str, Cell)>| Section {
        title,
        rows: rows.into_iter().map(|(label, cell)| (label.to_owned(), steps.iter().map(cell).collect())).collect(),
    };
    let mut sections = vec![
        section("What a day brings", traffic_rows()),
        section("Engine, peak hour", engine_rows()),
        section("Primary's node, peak hour", node_rows(true)),
        section("Each remote's node, peak hour", node_rows(false)),
        section("Journal", journal_rows()),
        section("Fleet", fleet_rows()),
    ];
    if let Some(cost) = steps.first().and_then(|step| step.cost.as_ref()) {
        let mut money = section("Money", money_rows());
        money.rows.iter_mut().for_each(|(label, _)| *label = format!("{label}, {}", cost.currency));
        sections.push(money);
    }
    if steps.iter().any(|step| step.mass.is_some()) {
        sections.push(section("Mass re-issue within 24 hours", mass_rows()));
    }
    sections
}

/// What is to be said of steps in words: first what must not be overlooked.
pub(super) fn remarks(steps: &[StepPlan]) -> Vec<(Weight, String)> {
    let mut remarks = Vec::new();
    for step in steps.iter().filter(|step| step.too_few_remotes) {
        let since = step.remotes_since.as_ref().map_or_else(String::new, |date| format!(" since {date}"));
        let text = format!(
            "{}: {} remotes are fewer than the {} that the rules want{since} (TLS BR 3.2.2.9)",
            step.date, step.peak.remotes, step.remotes_min
        );
        remarks.push((Weight::Warning, text));
    }
    for step in steps {
        for missing in step.mass.iter().flat_map(|mass| &mass.missing) {
            let (need, have) = (number(missing.need), number(missing.have));
            let text =
                format!("{}: mass re-issue: {}: {need} are needed, there are {have}", step.date, missing.resource);
            remarks.push((Weight::Warning, text));
        }
    }
    for step in steps {
        if let Some(first) = step.carries.first() {
            let (name, rate) = (first.resource, number(first.attempts_per_second));
            remarks.push((Weight::Note, format!("{}: binds first: {name}, at {rate} attempts/s", step.date)));
        }
    }
    for step in steps {
        if let Some(mass) = &step.mass {
            remarks.push((Weight::Note, format!("{}: mass re-issue: {} set the hours", step.date, mass.binds)));
        }
    }
    remarks
}

/// How much a remark matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// The plan is not lawful, or does not hold.
    Warning,
    /// Worth knowing.
    Note,
}

/// What a row has for a step.
type Cell = fn(&StepPlan) -> String;

fn traffic_rows() -> Vec<(&'static str, Cell)> {
    vec![
        ("lifetime; reuse, days", |s| format!("{}; {}", number(s.traffic.lifetime_days), number(s.traffic.reuse_days))),
        ("active certificates", |s| number(s.traffic.active)),
        ("certificates issued", |s| number(s.traffic.certificates_per_day)),
        ("of their names validated afresh", |s| format!("{} %", number(s.traffic.fresh_share * 100.0))),
        ("attempts", |s| number(s.traffic.attempts_per_day.sum())),
        ("of them permitted", |s| number(s.traffic.attempts_per_day.permitted())),
        ("attempts a second, mean", |s| number(s.mean.attempts_per_second)),
        ("attempts a second, peak hour", |s| number(s.peak.attempts_per_second)),
    ]
}

fn engine_rows() -> Vec<(&'static str, Cell)> {
    vec![
        ("CPU of an attempt", |s| format!("{} us", number(s.peak.engine.cpu_us_per_attempt))),
        ("busy cores; cores", |s| format!("{}; {}", number(s.peak.engine.busy_cores), number(s.fleet.engine_cores))),
        ("processes", |s| number(s.fleet.engine_processes)),
        ("in flight, mean", |s| number(s.peak.engine.in_flight)),
        ("attempts_in_flight at least", |s| number(s.peak.engine.in_flight_bound)),
        ("memory", |s| octets(s.peak.engine.memory_octets)),
        ("to the nodes", |s| bits(s.peak.engine.octets_out_per_second)),
        ("from the nodes", |s| bits(s.peak.engine.octets_in_per_second)),
    ]
}

fn node_rows(primary: bool) -> Vec<(&'static str, Cell)> {
    macro_rules! rows {
        ($node:ident, $workers:ident, $resolver:ident) => {
            vec![
                ("tasks a second", |s| number(s.peak.$node.tasks_per_second)),
                ("busy cores; workers", |s| {
                    format!("{}; {}", number(s.peak.$node.busy_cores), number(s.fleet.$workers))
                }),
                ("in flight, mean", |s| number(s.peak.$node.in_flight)),
                ("tasks_in_flight_max, all workers", |s| number(s.peak.$node.in_flight_bound)),
                ("memory, with the kernel's", |s| octets(s.peak.$node.memory_octets)),
                ("connections a second", |s| number(s.peak.$node.connections_per_second)),
                ("sockets of connections", |s| number(s.peak.$node.connections)),
                ("source ports, one target", |s| number(s.peak.$node.ports)),
                ("source addresses for them", |s| number(s.peak.$node.source_addresses)),
                ("questions to the resolver a second", |s| number(s.peak.$node.questions_per_second)),
                ("resolver's cores", |s| number(s.fleet.$resolver)),
                ("out", |s| bits(s.peak.$node.octets_out_per_second)),
                ("in", |s| bits(s.peak.$node.octets_in_per_second)),
            ]
        };
    }
    if primary {
        rows!(primary, primary_workers, primary_resolver_cores)
    } else {
        rows!(remote, remote_workers, remote_resolver_cores)
    }
}

fn journal_rows() -> Vec<(&'static str, Cell)> {
    vec![
        ("written in a day", |s| octets(s.journal.octets_per_day)),
        ("kept, days", |s| s.journal.keep_days.to_string()),
        ("disk in the end", |s| octets(s.journal.disk_octets)),
    ]
}

fn fleet_rows() -> Vec<(&'static str, Cell)> {
    vec![
        ("cores, resolvers' among them", |s| number(s.fleet.cores)),
        ("memory, resolvers' not among it", |s| octets(s.fleet.memory_octets)),
    ]
}

fn money_rows() -> Vec<(&'static str, Cell)> {
    macro_rules! cost {
        ($field:ident) => {
            |s| s.cost.as_ref().map_or_else(String::new, |cost| number(cost.$field))
        };
    }
    vec![
        ("cores, a month", cost!(cores_per_month)),
        ("memory, a month", cost!(memory_per_month)),
        ("egress, a month", cost!(egress_per_month)),
        ("disk, a month", cost!(disk_per_month)),
        ("all, a month", cost!(per_month)),
        ("a million corroborations", cost!(per_million_corroborations)),
        ("a million attempts", cost!(per_million_attempts)),
        ("a certificate", cost!(per_certificate)),
    ]
}

fn mass_rows() -> Vec<(&'static str, Cell)> {
    fn of(step: &StepPlan, cell: fn(&MassPlan) -> String) -> String {
        step.mass.as_ref().map_or_else(String::new, cell)
    }
    vec![
        ("certificates", |s| of(s, |mass| number(mass.certificates))),
        ("attempts for them", |s| of(s, |mass| number(mass.attempts))),
        ("attempts a second, with other days'", |s| of(s, |mass| number(mass.attempts_per_second))),
        ("fits on the fleet", |s| of(s, |mass| if mass.fits { "yes" } else { "no" }.to_owned())),
        ("hours it takes", |s| of(s, |mass| mass.hours.map_or_else(|| "no end".to_owned(), number))),
        ("added to the journal", |s| of(s, |mass| octets(mass.journal_octets))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_numbers_keep_what_counts_of_them() {
        for (value, text) in [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (0.000_012_34, "0.0000123"),
            (1.5, "1.5"),
            (12.34, "12.3"),
            (999.6, "1 000"),
            (1_234_567.0, "1 234 567"),
            (-1_234.0, "-1 234"),
            (100.0, "100"),
            (f64::INFINITY, "no end"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!(
            (octets(1024.0), octets(1.5 * TIB), octets(12.0)),
            ("1 KiB".into(), "1.5 TiB".into(), "12 B".into())
        );
        assert_eq!(bits(125_000.0), "1 Mbit/s");
    }
}
