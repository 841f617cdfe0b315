//! A plan as one page that needs nothing else: no scripts, no fonts, nothing fetched; light and dark.

use std::fmt::Write as _;

use super::{
    command::Answer,
    figures::{Weight, number, octets, remarks, table},
    reference::Reference,
    svg::{self, Caption, escape},
};

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fbfbf9;--ink:#1c1f24;--quiet:#5c6470;--rule:#d8dbe0;--mark:#1f6f8b}\
@media (prefers-color-scheme:dark){:root{--ground:#15181c;--ink:#e6e8eb;--quiet:#9aa3af;--rule:#343a42;--mark:#5ab4d0}}\
body{background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p,.quiet{color:var(--quiet)}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}\
th,td{padding:.15rem .8rem .15rem 0;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top}\
th:first-child,td:first-child{text-align:left}th{font-weight:600}th.part{padding-top:1rem;color:var(--mark)}\
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(22rem,1fr));gap:1rem}figure{margin:0}\
figcaption{color:var(--quiet);font-size:.85rem}svg{width:100%;height:auto;font:11px system-ui,sans-serif}\
svg text{fill:var(--ink)}.grid{stroke:var(--rule)}.line{fill:none;stroke:var(--mark);stroke-width:2}\
.dot,.bar{fill:var(--mark)}.warning{border-left:4px solid #c0392b;padding-left:.8rem;color:var(--ink)}\
.note{margin:.2rem 0}code{font:.85rem ui-monospace,monospace}";

/// The page.
pub(super) fn page(answer: &Answer) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" \
         content=\"width=device-width\"/><title>Capacity plan</title><style>{STYLE}</style></head><body>\n\
         {}<h1>Capacity plan for a primary and {} remotes</h1>\n<p>Service times measured {}</p>\n",
        answer.reference.as_ref().map_or_else(String::new, reference_html),
        answer.demand.perspectives.remotes,
        escape(&answer.times.origin)
    );
    page += &remarks_html(answer);
    page += &pictures(answer);
    page += &main_table(answer);
    page += &carries(answer);
    page += &formulae(answer);
    page += &what_if(answer);
    page += "<h2>Assumed</h2>\n<div class=\"wide\"><table><tr><th>source</th><th></th></tr>\n";
    for assumption in &answer.assumptions {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td style=\"text-align:left\">{}</td></tr>",
            assumption.source.word(),
            escape(&assumption.text)
        );
    }
    page + "</table></div>\n</body></html>\n"
}

fn reference_html(reference: &Reference) -> String {
    let mut text = format!("<div class=\"warning\"><b>Not your machine.</b> {}<br/>\n", escape(reference.notice));
    // Writing to a string cannot fail.
    for origin in &reference.measured {
        let _ = writeln!(text, "{}: <code>{}</code><br/>", escape(&origin.to_string()), escape(&origin.command));
    }
    text += "To measure your own, in the sources, and plan by it:<br/>\n";
    for line in reference.how_to_measure {
        let _ = writeln!(text, "<code>{}</code><br/>", escape(line));
    }
    text + "</div>\n"
}

fn remarks_html(answer: &Answer) -> String {
    let mut text = String::new();
    for (weight, remark) in remarks(&answer.steps) {
        let class = if weight == Weight::Warning { "warning" } else { "note" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "<p class=\"{class}\">{}</p>", escape(&remark));
    }
    text
}

/// The curves over the dates: a name for a file, what it shows, and the picture.
fn curves(answer: &Answer) -> [(&'static str, &'static str, String); 4] {
    let first = answer.rules.first().map(|rules| rules.date);
    let not_yours = answer.reference.as_ref().map(Reference::in_short);
    let line = |title: &str, unit: &str, figure: fn(&super::model::StepPlan) -> f64| {
        let points: Vec<_> = answer
            .rules
            .iter()
            .zip(&answer.steps)
            .map(|(rules, step)| {
                let days = first.map_or(0.0, |first| rules.date.duration_since(first).as_secs_f64() / 86_400.0);
                (days, step.date.clone(), figure(step))
            })
            .collect();
        svg::steps(&Caption { title, above: not_yours.as_deref() }, unit, &points)
    };
    let curve = |name, title, unit, figure| (name, title, line(title, unit, figure));
    [
        curve("rate", "Attempts a second in the peak hour", "/s", |step| step.peak.attempts_per_second),
        curve("in-flight", "Attempts in flight in the peak hour", "attempts", |step| step.peak.engine.in_flight),
        curve("cores", "Cores, resolvers' among them", "cores", |step| step.fleet.cores),
        curve("disk", "Disk of the journal in the end", "TiB", |step| step.journal.disk_octets / super::model::TIB),
    ]
}

/// The curves as files of their own: names and what they hold.
pub(super) fn files(answer: &Answer) -> Vec<(String, String)> {
    let file = |(name, _, svg): (&str, &str, String)| {
        let (opening, rest) = svg.split_once('>').unwrap_or((&svg, ""));
        (format!("plan-{name}.svg"), format!("{opening}><style>{STYLE}</style>{rest}\n"))
    };
    curves(answer).into_iter().map(file).collect()
}

fn pictures(answer: &Answer) -> String {
    let mut text = String::from("<h2>Growth over the dates</h2>\n<div class=\"pictures\">\n");
    for (_, title, svg) in curves(answer) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "<figure>{svg}<figcaption>{}</figcaption></figure>", escape(title));
    }
    text + "</div>\n"
}

fn main_table(answer: &Answer) -> String {
    let mut text = String::from("<h2>Step by step</h2>\n<div class=\"wide\"><table><tr><th></th>");
    // Writing to a string cannot fail.
    for step in &answer.steps {
        let _ = write!(text, "<th>{}</th>", escape(&step.date));
    }
    text += "</tr>\n";
    for section in table(&answer.steps) {
        let columns = answer.steps.len() + 1;
        let _ = writeln!(text, "<tr><th class=\"part\" colspan=\"{columns}\">{}</th></tr>", escape(section.title));
        for (label, cells) in &section.rows {
            let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            let _ = writeln!(text, "<tr><td>{}</td>{cells}</tr>", escape(label));
        }
    }
    text + "</table></div>\n"
}

fn carries(answer: &Answer) -> String {
    let Some(last) = answer.steps.last() else { return String::new() };
    let not_yours = answer.reference.as_ref().map(Reference::in_short);
    let rows: Vec<_> =
        last.carries.iter().map(|carries| (carries.resource.to_owned(), carries.attempts_per_second)).collect();
    format!(
        "<h2>What binds first</h2>\n<figure>{}<figcaption>Attempts a second that one engine process, one worker a node, one \
         core a resolver and one source address carry with the mix of {}</figcaption></figure>\n",
        svg::bars(&Caption { title: "Attempts a second by resource", above: not_yours.as_deref() }, &rows),
        escape(&last.date)
    )
}

fn formulae(answer: &Answer) -> String {
    let mut text = format!(
        "<h2>How it comes about{}</h2>\n<div class=\"wide\"><table>\n",
        answer.steps.last().map_or_else(String::new, |last| format!(", {}", escape(&last.date)))
    );
    for formula in &answer.formulae {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<tr><td>{}</td><td><code>{}</code></td><td><code>{}</code></td></tr>",
            escape(formula.what),
            escape(formula.formula),
            escape(&formula.numbers)
        );
    }
    text + "</table></div>\n"
}

fn what_if(answer: &Answer) -> String {
    let mut text = format!(
        "<h2>What if{}</h2>\n<div class=\"wide\"><table><tr><th></th><th></th><th>peak /s</th><th>in flight</th>\
         <th>cores</th><th>memory</th><th>disk</th><th>cost a month</th><th></th></tr>\n",
        answer.steps.last().map_or_else(String::new, |last| format!(", {}", escape(&last.date)))
    );
    for table in &answer.what_if {
        for (place, outcome) in table.outcomes.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                if place == 0 { escape(table.input) } else { String::new() },
                escape(&outcome.change),
                number(outcome.peak_attempts_per_second),
                number(outcome.in_flight),
                number(outcome.cores),
                octets(outcome.memory_octets),
                octets(outcome.disk_octets),
                outcome.cost_per_month.map_or_else(String::new, number),
                escape(outcome.note.as_deref().unwrap_or_default())
            );
        }
    }
    text + "</table></div>\n"
}
