//! The table of a comparison: medians and spreads, ratios, Markdown, and the file that keeps every round.

use serde::Serialize;

use crate::measure::Line;

pub(super) const LOOKUP: &str = "DNS lookup";
pub(super) const CAA: &str = "CAA, three labels";

/// What the columns mean.
const LEGEND: &str = "Ratios are by the worker's time of ours, which is what a node is, and by the process's of all others. \
    The process of ours also has whoever gives the node its tasks, takes its reports and judges them.\n";
/// What the figures of a wire hold besides.
const WIRE_LEGEND: &str = "What the kernel does for a frame at the far end of this wire, it does on the CPU and on account \
    of whoever sends it: the client's time has the responder's input in it, and the responder's the client's. On a card \
    of its own each side would pay for what it receives.\n";

/// A comparison with all that is needed to make it again.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) date: String,
    pub(super) command: String,
    /// `git rev-parse HEAD`, with `+` if files differ from it; none outside a repository.
    pub(super) commit: Option<String>,
    pub(super) kernel: String,
    pub(super) cpu: String,
    pub(super) cpus: usize,
    pub(super) client_core: usize,
    pub(super) responder_core: usize,
    /// Whether there was a wire between clients and responders.
    pub(super) wire: bool,
    pub(super) rounds: usize,
    pub(super) rows: Vec<Row>,
}

/// One work at one number in flight.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) work: String,
    pub(super) in_flight: u64,
    /// The exact command of the responder.
    pub(super) responders: Vec<String>,
    pub(super) clients: Vec<Client>,
}

/// Who a client is compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Side {
    Ours,
    Bare,
    Other,
}

/// One client in a row.
#[derive(Debug, Serialize)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) side: Side,
    /// What it does more or less than the others.
    pub(super) note: String,
    /// The exact command.
    pub(super) command: String,
    pub(super) outcome: Outcome,
}

/// What came of a client.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// Each round.
    Rounds(Vec<Line>),
    /// It is not on this machine; what to install.
    NotInstalled(String),
    /// It is not run; why.
    LeftOut(String),
    /// A round could not be finished; why.
    Failed(String),
}

/// Median, lowest and highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// None of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min, max })
    }
}

impl Client {
    fn rounds(&self) -> &[Line] {
        match &self.outcome {
            Outcome::Rounds(lines) => lines,
            Outcome::NotInstalled(_) | Outcome::LeftOut(_) | Outcome::Failed(_) => &[],
        }
    }

    /// What is compared.
    fn cpu(&self) -> Option<Spread> {
        Spread::of(self.rounds().iter().map(Line::node_cpu_us_per_item))
    }

    /// Whether it broke off, or items of it failed: any of ours or of a bare client, and most of another's. Load
    /// generators do not repeat a question that was lost, so a few that failed say nothing about the comparison; they are
    /// in the table.
    pub(super) fn has_failed(&self) -> bool {
        let too_many = |line: &Line| match self.side {
            Side::Ours | Side::Bare => line.failed > 0,
            Side::Other => line.failed * 2 > line.items,
        };
        matches!(self.outcome, Outcome::Failed(_)) || self.rounds().iter().any(too_many)
    }
}

impl Row {
    fn cpu_of(&self, side: Side) -> Option<f64> {
        let of = self.clients.iter().filter(|client| client.side == side && !client.has_failed());
        of.filter_map(|client| Some(client.cpu()?.median)).min_by(f64::total_cmp)
    }

    /// What the first client of ours costs, which the others are compared with.
    fn ours(&self) -> Option<f64> {
        let first = self.clients.iter().find(|client| client.side == Side::Ours)?;
        Some(first.cpu()?.median)
    }
}

impl Comparison {
    pub(super) fn has_failed(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.clients).any(Client::has_failed)
    }

    /// For a reader.
    pub(super) fn to_markdown(&self) -> String {
        let commit = self.commit.as_deref().unwrap_or("no commit");
        let mut text = format!(
            "{}, commit {commit}, Linux {}, {} × {}\n`{}`\nClient on CPU {}, responder on CPU {}; medians of {} alternating \
             rounds, lowest and highest in brackets.\n{LEGEND}",
            self.date,
            self.kernel,
            self.cpus,
            self.cpu,
            self.command,
            self.client_core,
            self.responder_core,
            self.rounds
        );
        if self.wire {
            text.push_str(WIRE_LEGEND);
        }
        let has_ours = self.rows.iter().flat_map(|row| &row.clients).any(|client| client.side == Side::Ours);
        for row in &self.rows {
            let (ours, bare) = (row.ours(), row.cpu_of(Side::Bare));
            text.push_str(&format!("\n### {}, {} in flight\n\n", row.work, row.in_flight));
            let ratio = if has_ours { " of ours |" } else { "" };
            let line = if has_ours { "---|" } else { "" };
            text.push_str(&format!(
                "| Client | µs (worker) | µs (process) |{ratio} of the best bare | per second | failed | peak MiB | |\n"
            ));
            text.push_str(&format!("|---|---|---|{line}---|---|---|---|---|\n"));
            for client in &row.clients {
                text.push_str(&markdown(client, ours, bare, has_ours));
            }
        }
        text.push_str(&self.climbs());
        text
    }

    /// What a CAA check costs in lookups, where both were measured with as many in flight.
    fn climbs(&self) -> String {
        let mut text = String::new();
        for caa in self.rows.iter().filter(|row| row.work == CAA) {
            let Some(lookup) = self.rows.iter().find(|row| row.work == LOOKUP && row.in_flight == caa.in_flight) else {
                continue;
            };
            for client in &caa.clients {
                let same = lookup.clients.iter().find(|other| other.name == client.name);
                if let Some((caa_cpu, lookup_cpu)) = client.cpu().zip(same.and_then(Client::cpu)) {
                    let ratio = caa_cpu.median / lookup_cpu.median;
                    text.push_str(&format!(
                        "- {CAA} / {LOOKUP}, {} in flight, {}: {ratio:.2}\n",
                        caa.in_flight, client.name
                    ));
                }
            }
        }
        if text.is_empty() { text } else { format!("\n{text}") }
    }
}

fn markdown(client: &Client, ours: Option<f64>, bare: Option<f64>, has_ours: bool) -> String {
    let empty = if has_ours { "| | | | | | |" } else { "| | | | | |" };
    let lines = match &client.outcome {
        Outcome::Rounds(lines) => lines,
        Outcome::NotInstalled(what) => return format!("| {} | not installed {empty} {what} |\n", client.name),
        Outcome::LeftOut(why) => return format!("| {} | not run {empty} {why} |\n", client.name),
        Outcome::Failed(why) => {
            let why = why.lines().next().unwrap_or_default().replace('|', "/");
            return format!("| {} | failed {empty} {why} |\n", client.name);
        }
    };
    let (Some(cpu), Some(rate)) = (client.cpu(), Spread::of(lines.iter().map(|line| line.per_second))) else {
        return format!("| {} | no rounds {empty} |\n", client.name);
    };
    let ratio = |other: Option<f64>| other.map_or_else(|| "–".to_owned(), |other| format!("{:.2}", cpu.median / other));
    let failed: u64 = lines.iter().map(|line| line.failed).sum();
    let peak = Spread::of(lines.iter().map(|line| line.peak_rss_kib as f64 / 1024.0)).map_or(0.0, |peak| peak.median);
    // What a program does not tell is not 0.
    let peak = if peak > 0.0 { format!("{peak:.0}") } else { "–".to_owned() };
    let of_ours = if has_ours { format!(" {} |", ratio(ours)) } else { String::new() };
    let spread = |cpu: Spread| format!("{} ({}–{})", number(cpu.median), number(cpu.min), number(cpu.max));
    let optional = |cpu: Option<Spread>| cpu.map_or_else(|| "–".to_owned(), spread);
    format!(
        "| {} | {} | {} |{of_ours} {} | {} | {failed} | {peak} | {} |\n",
        client.name,
        optional(Spread::of(lines.iter().filter_map(|line| line.worker_cpu_us_per_item))),
        optional(Spread::of(lines.iter().map(|line| line.cpu_us_per_item))),
        ratio(bare),
        thousands(rate.median),
        client.note
    )
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

fn thousands(value: f64) -> String {
    if value < 1_000.0 { format!("{value:.0}") } else { format!("{} k", number(value / 1_000.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cpu_us_per_item: f64, failed: u64) -> Line {
        Line {
            client: "x".to_owned(),
            items: 1_000,
            failed,
            in_flight: 10,
            seconds: 1.0,
            cpu_us: cpu_us_per_item * 1_000.0,
            cpu_us_per_item,
            per_second: 123_456.0,
            peak_rss_kib: 20_480,
            worker_cpu_us_per_item: None,
            p50_us: None,
            p99_us: None,
            retransmitted: None,
        }
    }

    fn client(name: &str, side: Side, outcome: Outcome) -> Client {
        Client { name: name.to_owned(), side, note: String::new(), command: name.to_owned(), outcome }
    }

    fn row(work: &str, clients: Vec<Client>) -> Row {
        Row { work: work.to_owned(), in_flight: 10, responders: Vec::new(), clients }
    }

    /// A line of a node: its worker took so much of what the process took.
    fn node_line(worker_cpu: f64, cpu: f64) -> Line {
        Line { worker_cpu_us_per_item: Some(worker_cpu), ..line(cpu, 0) }
    }

    fn comparison(clients: Vec<Client>) -> Comparison {
        Comparison {
            date: "2026-11-26".to_owned(),
            command: "parallax-perf peers".to_owned(),
            commit: None,
            kernel: "6.18".to_owned(),
            cpu: "a CPU".to_owned(),
            cpus: 2,
            client_core: 0,
            responder_core: 1,
            rounds: 3,
            wire: false,
            rows: vec![row(LOOKUP, clients)],
        }
    }

    #[test]
    fn ok_the_median_is_the_middle_or_between_the_two_middles() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(spread(&[7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ok_each_client_has_a_row_with_its_ratios() {
        let rounds = |of: [f64; 3]| Outcome::Rounds(of.map(|cpu| line(cpu, 0)).to_vec());
        let comparison = comparison(vec![
            client("ours", Side::Ours, Outcome::Rounds([6.0, 4.0, 5.0].map(|cpu| node_line(cpu, cpu + 3.0)).to_vec())),
            client("bare uring", Side::Bare, rounds([2.5, 2.4, 2.6])),
            client("bare epoll", Side::Bare, rounds([4.0, 4.0, 4.0])),
            client("dnsperf", Side::Other, rounds([10.0, 11.0, 12.0])),
            client("massdns", Side::Other, Outcome::NotInstalled("build it".to_owned())),
            client("hickory", Side::Other, Outcome::LeftOut("too much".to_owned())),
        ]);
        let text = comparison.to_markdown();
        for row in [
            "| ours | 5.00 (4.00–6.00) | 8.00 (7.00–9.00) | 1.00 | 2.00 | 123 k | 0 | 20 |  |",
            "| bare uring | – | 2.50 (2.40–2.60) | 0.50 | 1.00 | 123 k | 0 | 20 |  |",
            "| dnsperf | – | 11.0 (10.0–12.0) | 2.20 | 4.40 | 123 k | 0 | 20 |  |",
            "| massdns | not installed | | | | | | | build it |",
            "| hickory | not run | | | | | | | too much |",
        ] {
            assert!(text.lines().any(|line| line == row), "{row} is not in\n{text}");
        }
        assert!(!comparison.has_failed());
        assert_eq!(columns(&text), vec![9; 8], "every row has every column\n{text}");
    }

    fn columns(text: &str) -> Vec<usize> {
        text.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count() - 1).collect()
    }

    #[test]
    fn ok_a_table_of_bare_clients_alone_has_no_ratio_to_ours() {
        let text = comparison(vec![client("bare", Side::Bare, Outcome::Rounds(vec![line(2.0, 0)]))]).to_markdown();
        assert!(text.contains("| bare | – | 2.00 (2.00–2.00) | 1.00 | 123 k | 0 | 20 |  |"), "{text}");
        assert_eq!(columns(&text), vec![8; 3], "{text}");
    }

    #[test]
    fn ok_a_caa_check_is_told_in_lookups_by_the_workers_time() {
        let ours = |cpu| client("ours", Side::Ours, Outcome::Rounds(vec![node_line(cpu, 100.0)]));
        let mut comparison = comparison(vec![ours(2.0)]);
        assert!(!comparison.to_markdown().contains("CAA, three labels /"), "there is nothing to compare");
        comparison.rows.push(row(CAA, vec![ours(5.0)]));
        let told = "\n- CAA, three labels / DNS lookup, 10 in flight, ours: 2.50\n";
        assert!(comparison.to_markdown().ends_with(told), "{}", comparison.to_markdown());
    }

    #[test]
    fn err_one_failed_item_or_a_round_that_broke_off_fails_the_whole() {
        let failing = |outcome| comparison(vec![client("bare", Side::Bare, outcome)]);
        assert!(failing(Outcome::Rounds(vec![line(2.0, 0), line(2.0, 1)])).has_failed());
        let broken = failing(Outcome::Failed("it ended | at once\nand more".to_owned()));
        assert!(broken.has_failed());
        assert!(broken.to_markdown().contains("| bare | failed | | | | | | it ended / at once |"));
        assert_eq!(columns(&broken.to_markdown()), vec![8; 3]);
    }

    #[test]
    fn err_another_program_fails_the_whole_only_if_most_of_its_items_failed() {
        for (failed, expected) in [(0, false), (500, false), (501, true), (1_000, true)] {
            let comparison = comparison(vec![client("wrk", Side::Other, Outcome::Rounds(vec![line(2.0, failed)]))]);
            assert_eq!(comparison.has_failed(), expected, "{failed} of 1000");
        }
    }

    #[test]
    fn err_a_bare_client_that_answered_wrongly_is_no_measure() {
        let comparison = comparison(vec![
            client("bare cheat", Side::Bare, Outcome::Rounds(vec![line(1.0, 900)])),
            client("bare", Side::Bare, Outcome::Rounds(vec![line(2.0, 0)])),
        ]);
        assert_eq!(comparison.rows[0].cpu_of(Side::Bare), Some(2.0));
    }
}
