//! The page: one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::{charts, words::Words, words::words};
use crate::{
    open::{
        failure::Failure,
        knee::{beyond, knee},
        result::{OpenResult, Run},
    },
    plot::{STYLE, Unit, escaped, standing_alone, written},
};

const CSS: &str = "\
*{box-sizing:border-box}\
body{margin:0;background:var(--page);color:var(--plot-ink);font:15px/1.5 system-ui,sans-serif}\
:root{color-scheme:light dark;--page:#f4f6f8;--edge:#dde3ea;--good:#1f7a45}\
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--edge:#2b333d;--good:#5fd394}}\
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}\
h1{font-size:26px;margin:0 0 4px;letter-spacing:-.01em}\
h2{font-size:20px;margin:44px 0 10px}\
h3{font-size:14px;margin:0 0 8px;font-weight:600}\
p{margin:6px 0;max-width:85ch}\
.soft{color:var(--plot-soft)}\
.card{background:var(--plot-back);border:1px solid var(--edge);border-radius:10px;padding:14px 16px}\
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr));gap:16px;margin:16px 0}\
svg{display:block;width:100%;height:auto}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:12px 0 0}\
dt{color:var(--plot-soft)}dd{margin:0;overflow-wrap:anywhere}\
code{font:13px ui-monospace,monospace}\
.scroll{overflow-x:auto}\
table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}\
th,td{padding:5px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--edge)}\
th:first-child,td:first-child{text-align:left}\
th{color:var(--plot-soft);font-weight:600}\
.alarm{color:var(--plot-alarm);font-weight:600}.good{color:var(--good)}\
details{margin:12px 0}summary{cursor:pointer;color:var(--plot-soft)}";

/// The page of some files of results, each with its name.
#[must_use]
pub fn page(results: &[(String, OpenResult)]) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"/><title>Parallax under load</title>\
         <style>{STYLE}{CSS}</style></head>\n<body><main>\n<h1>Parallax under load</h1>\n\
         <p class=\"soft\">Requests were due on a schedule and left when they were, whether those before had ended or not. \
         Latency counts from when a request was due. Engine, laboratory and generator shared one machine; CPU time and \
         memory are those of the engine's process alone, with one primary and its remotes in it.</p>\n"
    );
    html += &overview(results);
    for (name, result) in results {
        html += &header(name, result);
        for (mix, runs) in by_mix(result) {
            html += &section(result, mix, &runs);
        }
    }
    html + "</main></body></html>\n"
}

/// The charts that tell most, each as a file of its own: its name and what it holds.
#[must_use]
pub fn pictures(results: &[(String, OpenResult)]) -> Vec<(String, String)> {
    let mut pictures = Vec::new();
    for (mix, runs) in results.iter().flat_map(|(_, result)| by_mix(result)) {
        // A mix may be called as somebody likes; a file may not.
        let stem: String = mix.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        for (chart, svg) in [
            ("latency", charts::latency_by_rate(&runs).to_svg()),
            ("cpu", charts::cpu_by_role(&runs).to_svg()),
            ("memory", charts::memory_by_in_flight(&runs).to_svg()),
        ] {
            pictures.push((format!("{stem}-{chart}.svg"), standing_alone(&svg)));
        }
    }
    pictures
}

/// Runs of each mix by rate; mixes in the order in which they come.
fn by_mix(result: &OpenResult) -> Vec<(&str, Vec<&Run>)> {
    let mut mixes: Vec<(&str, Vec<&Run>)> = Vec::new();
    for run in &result.runs {
        match mixes.iter_mut().find(|(mix, _)| *mix == run.mix) {
            Some((_, runs)) => runs.push(run),
            None => mixes.push((&run.mix, vec![run])),
        }
    }
    for (_, runs) in &mut mixes {
        runs.sort_by(|a, b| a.offered_per_second.total_cmp(&b.offered_per_second));
    }
    mixes
}

/// One line for each mix.
fn overview(results: &[(String, OpenResult)]) -> String {
    let mut rows = Vec::new();
    for (_, result) in results {
        for (mix, runs) in by_mix(result) {
            let knee = knee(&runs);
            let carried = knee.and_then(|knee| knee.carried);
            let told = |value: &dyn Fn(&Run) -> String| carried.map_or_else(|| "–".to_owned(), value);
            let is_reached = knee.is_some_and(|knee| knee.beyond.is_some());
            let wrong: u64 = runs.iter().map(|run| run.wrong + run.wrong_in_warm_up).sum();
            let answers: u64 = runs.iter().map(|run| run.completed).sum();
            let rate =
                told(&|run| format!("{}{}", if is_reached { "" } else { "above " }, number(run.offered_per_second)));
            rows.push(vec![
                (escaped(mix), ""),
                (rate, "good"),
                (told(&|run| micros(run.latency_us.p50 as f64)), ""),
                (told(&|run| micros(run.latency_us.p99 as f64)), ""),
                (told(&|run| micros(run.cpu_us_per_request.process)), ""),
                (told(&|run| kib(run.rss_kib.max)), ""),
                (answers.to_string(), ""),
                (wrong.to_string(), if wrong > 0 { "alarm" } else { "" }),
            ]);
        }
    }
    let heads = ["mix", "carried, /s", "p50", "p99", "CPU a request", "memory", "answers in all", "wrong"];
    format!("<div class=\"card scroll\">{}</div>\n", table(&heads, &rows))
}

fn header(name: &str, result: &OpenResult) -> String {
    let engine = &result.engine;
    let bound =
        |core: Option<usize>| core.map_or_else(|| "not bound to a CPU".to_owned(), |core| format!("on CPU {core}"));
    let mut setup = format!(
        "one primary and {} remotes with {} worker{} each, {}",
        engine.remotes,
        engine.workers,
        if engine.workers == 1 { "" } else { "s" },
        if engine.primary_first { "the primary first" } else { "all at once" },
    );
    if let Some(most) = engine.attempts_in_flight {
        let _ = write!(setup, ", at most {most} attempts in flight");
    }
    let _ = write!(setup, "; {}, the rest {}", bound(engine.core), bound(engine.other_core));
    let pairs = [
        ("file", format!("<code>{}</code>", escaped(name))),
        ("command", format!("<code>{}</code>", escaped(&result.command))),
        ("date", escaped(&result.date)),
        ("commit", format!("<code>{}</code>", escaped(&result.commit))),
        ("machine", format!("{} × {}, Linux {}", result.cpus, escaped(&result.cpu), escaped(&result.kernel))),
        ("engine", setup),
    ];
    let pairs: String = pairs.iter().map(|(key, value)| format!("<dt>{key}</dt><dd>{value}</dd>")).collect();
    format!("<dl>{pairs}</dl>\n")
}

fn section(result: &OpenResult, mix: &str, runs: &[&Run]) -> String {
    let Words { knee, limit, cpu, memory, doubts } = words(&result.engine, result.cpus, runs);
    let mut html = format!("<section><h2>{}</h2>\n", escaped(mix));
    html += &shares(runs);
    let _ = writeln!(
        html,
        "<p><b>{}</b> {}</p><p>{} {}</p>",
        escaped(&knee),
        escaped(&limit),
        escaped(&cpu),
        escaped(&memory)
    );
    for doubt in doubts {
        let _ = writeln!(html, "<p class=\"alarm\">{}</p>", escaped(&doubt));
    }
    html += "<div class=\"grid\">\n";
    for (title, svg) in [
        ("Latency by rate", charts::latency_by_rate(runs).to_svg()),
        ("Carried of what was offered", charts::carried_by_rate(runs).to_svg()),
        ("CPU time for a request, by what it is used for", charts::cpu_by_role(runs).to_svg()),
        ("CPU time for a request, by rate", charts::cpu_by_rate(runs).to_svg()),
        ("Memory by requests in flight", charts::memory_by_in_flight(runs).to_svg()),
        ("Latency by percentile", charts::percentiles(runs).to_svg()),
    ] {
        let _ = writeln!(html, "<div class=\"card\"><h3>{title}</h3>{svg}</div>");
    }
    html + "</div>\n" + &figures(runs) + &kinds(runs) + "</section>\n"
}

fn shares(runs: &[&Run]) -> String {
    let Some(run) = runs.first() else { return String::new() };
    let mut shares: Vec<(&String, &f64)> = run.shares.iter().collect();
    shares.sort_by(|a, b| b.1.total_cmp(a.1));
    let told = shares.iter().map(|(kind, share)| format!("{} {}", escaped(kind), written(Unit::Share, **share)));
    format!("<p class=\"soft\">{}</p>\n", told.collect::<Vec<_>>().join(" · "))
}

/// All figures, a line for each run.
fn figures(runs: &[&Run]) -> String {
    let heads = [
        "offered, /s",
        "answered, /s",
        "requests",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "longest",
        "in flight",
        "at most",
        "CPU a request",
        "CPUs",
        "memory",
        "at most",
        "descriptors",
        "journal a request",
        "UDP",
        "TCP",
        "late",
        "errors",
        "wrong",
        "",
    ];
    let lowest = runs.first();
    let rows = runs.iter().map(|run| {
        let wrong = run.wrong + run.wrong_in_warm_up;
        let note = match (&run.failed, run.overloaded) {
            (Some(_), _) => "no figure",
            (None, true) => "overloaded",
            (None, false) if lowest.is_some_and(|lowest| beyond(run, lowest).is_some()) => "beyond the knee",
            (None, false) => "",
        };
        let each = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), number);
        vec![
            (number(run.offered_per_second), ""),
            (number(run.carried_per_second()), ""),
            (run.requests.to_string(), ""),
            (micros(run.latency_us.p50 as f64), ""),
            (micros(run.latency_us.p90 as f64), ""),
            (micros(run.latency_us.p99 as f64), ""),
            (micros(run.latency_us.p999 as f64), ""),
            (micros(run.latency_us.max as f64), ""),
            (number(run.in_flight.mean), ""),
            (run.in_flight.max.to_string(), ""),
            (micros(run.cpu_us_per_request.process), ""),
            (format!("{:.2}", run.cpu_seconds / run.seconds.max(1e-9)), ""),
            (kib(run.rss_kib.mean), ""),
            (kib(run.rss_kib.max), ""),
            (run.descriptors.max.to_string(), ""),
            (format!("{} B", number(run.journal_octets_per_request)), ""),
            (each(run.loopback.udp_out), ""),
            (each(run.loopback.tcp_opened), ""),
            (run.late_sends.to_string(), if run.failed.as_ref().is_some_and(Failure::is_late) { "alarm" } else { "" }),
            (run.errors.to_string(), if run.errors > 0 { "alarm" } else { "" }),
            (wrong.to_string(), if wrong > 0 { "alarm" } else { "" }),
            (note.to_owned(), "alarm"),
        ]
    });
    format!("<div class=\"card scroll\">{}</div>\n", table(&heads, &rows.collect::<Vec<_>>()))
}

/// Each kind, at the knee or else in the last run.
fn kinds(runs: &[&Run]) -> String {
    let Some(run) = knee(runs).and_then(|knee| knee.carried).or(runs.last().copied()) else { return String::new() };
    let heads = ["kind", "requests", "answered", "permitted", "wrong", "mean", "p99"];
    let rows = run.by_kind.iter().map(|(kind, of)| {
        vec![
            (escaped(kind), ""),
            (of.requests.to_string(), ""),
            (of.completed.to_string(), ""),
            (of.permitted.to_string(), ""),
            (of.wrong.to_string(), if of.wrong > 0 { "alarm" } else { "" }),
            (micros(of.latency_us_mean), ""),
            (micros(of.latency_us_p99 as f64), ""),
        ]
    });
    format!(
        "<details><summary>By kind, at {}/s</summary><div class=\"card scroll\">{}</div></details>\n",
        number(run.offered_per_second),
        table(&heads, &rows.collect::<Vec<_>>())
    )
}

/// A table of cells that are escaped already, each with its class.
fn table(heads: &[&str], rows: &[Vec<(String, &str)>]) -> String {
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    let mut html = format!("<table><thead><tr>{heads}</tr></thead><tbody>");
    for row in rows {
        html += "<tr>";
        for (cell, class) in row {
            let _ = match *class {
                "" => write!(html, "<td>{cell}</td>"),
                class => write!(html, "<td class=\"{class}\">{cell}</td>"),
            };
        }
        html += "</tr>";
    }
    html + "</tbody></table>"
}

fn number(value: f64) -> String {
    written(Unit::Number, value)
}

fn micros(us: f64) -> String {
    written(Unit::Micros, us)
}

fn kib(kib: u64) -> String {
    written(Unit::Kibibytes, kib as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        open::result::{
            CpuPerRequest, InFlight, Level,
            tests::{result, run},
        },
        plot::tests::is_well_formed,
    };

    fn at(rate: f64) -> Run {
        Run {
            mix: "<script>alert(1)</script>".to_owned(),
            offered_per_second: rate,
            completed_per_second: Some(rate),
            cpu_us_per_request: CpuPerRequest {
                process: 100.0,
                by_role: BTreeMap::from([("node".to_owned(), 70.0), ("a \"new\" role".to_owned(), 30.0)]),
            },
            in_flight: InFlight { mean: 3.0, max: 9 },
            rss_kib: Level { idle: 10_240, mean: 20_480, max: 30_720 },
            ..run()
        }
    }

    fn fixture() -> String {
        let wrong = Run { wrong: 1, wrong_examples: vec!["r1 & <x>".to_owned()], ..at(200.0) };
        let mut first = result(vec![at(100.0), Run { overloaded: true, ..at(400.0) }, wrong]);
        first.command = "parallax-perf open --mix '<a>' & more".to_owned();
        page(&[("a<b>.json".to_owned(), first), ("second.json".to_owned(), result(vec![run()]))])
    }

    #[test]
    fn ok_the_page_is_well_formed_and_nothing_is_unescaped() {
        let html = fixture();
        is_well_formed(&html).expect("XML");
        for hostile in ["<script", "<a>", "<x>", "a<b>", "\"new\""] {
            assert!(!html.contains(hostile), "{hostile}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(html.contains("parallax-perf open --mix &#39;&lt;a&gt;&#39; &amp; more"));
    }

    #[test]
    fn ok_the_page_needs_nothing_else() {
        let html = fixture();
        for outside in ["src=", "href=", "url(", "@import", "<link"] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn ok_every_series_and_figure_is_there() {
        let html = fixture();
        assert_eq!(html.matches("<svg").count(), 12, "six for each mix");
        let series = [
            "p50",
            "p99",
            "overloaded",
            "answered",
            "node",
            "a &quot;new&quot; role",
            "engine&#39;s process",
            "highest",
            "at rest",
            "100/s",
            "400/s",
            "knee",
        ];
        for name in series {
            assert!(html.contains(&format!(">{name}</text>")), "{name}");
        }
        for text in [
            "0123456789ab+",
            "a CPU",
            "2026-11-27T08:00:00Z",
            "second.json",
            "Wrong answers at 200/s: 1, such as r1 &amp;",
        ] {
            assert!(html.contains(text), "{text}");
        }
        assert!(html.contains("The engine carried 200/s"), "the knee in words");
    }
}
