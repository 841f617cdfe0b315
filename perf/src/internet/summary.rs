//! What came of all runs: as text, as `summary.json`, and as `summary.html` with a picture of each run.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use parallax_validation::verdict::PerspectiveState;
use serde::{Deserialize, Serialize};

use super::{
    attack::Target,
    error::InternetError,
    evidence::View,
    picture::{Scene, draw, escape},
    requests::RequestOutcome,
    run::Outcome,
    state::State,
    verdict::{Asks, Seen},
    zones::Actor,
};

/// All runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Runs in the order they were made.
    pub runs: Vec<Outcome>,
    /// What `parallax journal verify` said of the two journals of all of them.
    pub journal: String,
    /// Whether all hold.
    pub journal_holds: bool,
}

impl Summary {
    /// Whether everything was as it must be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.journal_holds && self.runs.iter().all(|run| run.differences.is_empty())
    }
}

/// Requests of the attacker that were permitted.
fn issued(run: &Outcome) -> impl Iterator<Item = &RequestOutcome> {
    run.requests.iter().filter(|request| request.asks.actor == Actor::Attacker && request.permitted)
}

/// One run in a line, as it is told when it has been made.
#[must_use]
pub fn line(run: &Outcome) -> String {
    let owner =
        |permitted| run.requests.iter().filter(|r| r.asks.actor == Actor::Owner && r.permitted == permitted).count();
    let (wrongly, refused) = (issued(run).count(), owner(false));
    let within = if run.within { "within" } else { "OUTSIDE" };
    let right = if run.differences.is_empty() { "as it must be" } else { "DIFFERS" };
    format!(
        "{:<20}{within:<9}{wrongly:>8}{:>11}{refused:>9}   {right} ({:.1} s)",
        run.name,
        owner(true),
        run.took_ms as f64 / 1000.0
    )
}

/// The heading of [`line()`]'s columns.
#[must_use]
pub fn heading() -> String {
    format!("{:<20}{:<9}{:>8}{:>11}{:>9}", "RUN", "MPIC", "ATTACKER", "OWNER", "OWNER")
        + &format!("\n{:<20}{:<9}{:>8}{:>11}{:>9}", "", "CAN STOP", "ISSUED", "PERMITTED", "REFUSED")
}

/// What is told at the end.
#[must_use]
pub fn text(summary: &Summary) -> String {
    let mut text = String::new();
    for run in &summary.runs {
        let _ = writeln!(text, "\n{}: {}", run.name, run.about);
        if !run.lesson.is_empty() {
            let _ = writeln!(text, "  {}", run.lesson);
        }
        let wrongly: Vec<String> = issued(run).map(|request| what(request.asks)).collect();
        if !wrongly.is_empty() {
            let _ = writeln!(text, "  issued to the attacker, which corroboration cannot stop: {}", wrongly.join(", "));
        }
        if let Some(request) = run.requests.iter().find(|request| request.asks.slug() == run.explained.0) {
            let (who, verdict) = (request.asks.actor.name(), if request.permitted { "permitted" } else { "refused" });
            let quorum = request.quorum.as_deref().unwrap_or("none");
            let _ = writeln!(text, "  {who}, {}: {verdict}, remotes {quorum}; {}", what(request.asks), saw(request));
            let _ = writeln!(text, "  explain: {}", run.explained.1);
            for warning in &request.warnings {
                let _ = writeln!(text, "  warning: {warning}");
            }
        }
        if !run.alarms.is_empty() {
            let _ = writeln!(text, "  contradictions that watch told: {}", alarms(run));
        }
        if let Some(midway) = &run.midway {
            let _ = writeln!(
                text,
                "  {} requests of the attacker midway, {} permitted; the primary was led to the attacker in {} attempts \
                 and to the owner in {}",
                midway.requests, midway.permitted, midway.primary_fooled, midway.primary_right
            );
        }
        for difference in &run.differences {
            let _ = writeln!(text, "  DIFFERS: {difference}");
        }
    }
    let _ = writeln!(text, "\njournals: {}", summary.journal.replace('\n', "\n  "));
    let within = summary.runs.iter().filter(|run| run.within);
    let wrongly: usize = within.clone().map(|run| issued(run).count()).sum();
    let outside: usize = summary.runs.iter().filter(|run| !run.within).map(|run| issued(run).count()).sum();
    let _ = writeln!(
        text,
        "issued wrongly where corroboration can stop it: {wrongly} in {} runs; where it cannot: {outside} in {}",
        within.count(),
        summary.runs.iter().filter(|run| !run.within).count()
    );
    text
}

/// By what lies behind them.
fn alarms(run: &Outcome) -> String {
    run.alarms.iter().map(|(class, count)| format!("{class} {count}")).collect::<Vec<_>>().join(", ")
}

fn what(asks: Asks) -> String {
    format!("{} by {}", asks.domain, asks.method.name())
}

/// What each perspective saw in the last attempt.
fn saw(request: &RequestOutcome) -> String {
    let Some(last) = request.attempts.last() else { return "no attempt".to_owned() };
    let said = |view: &View| match (view.seen, view.state) {
        (Seen::Owner, _) => "owner's seen by",
        (Seen::Attacker, _) => "attacker's seen by",
        (Seen::Bogus, _) => "forged seen by",
        (Seen::Nothing, PerspectiveState::NotAsked) => "not asked:",
        (Seen::Nothing, PerspectiveState::NotAwaited) => "not awaited:",
        (Seen::Nothing, _) => "nothing seen by",
    };
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for view in &last.perspectives {
        match parts.iter_mut().find(|(words, _)| *words == said(view)) {
            Some((_, ids)) => ids.push(&view.perspective),
            None => parts.push((said(view), vec![&view.perspective])),
        }
    }
    parts.iter().map(|(words, ids)| format!("{words} {}", ids.join(", "))).collect::<Vec<_>>().join("; ")
}

/// Writes `summary.json` and `summary.html` beside `state.json`, and a picture of each run.
///
/// # Errors
/// A file cannot be written.
pub fn write(state: &State, summary: &Summary) -> Result<(), InternetError> {
    let path = state.directory.join("summary.json");
    let text =
        serde_json::to_vec_pretty(summary).map_err(|error| InternetError::Unreadable { path: path.clone(), error })?;
    fs::write(&path, text).map_err(InternetError::file(&path))?;
    let path = state.directory.join("summary.html");
    fs::write(&path, html(summary)).map_err(InternetError::file(&path))?;
    for run in &summary.runs {
        let path = state.directory.join(format!("{}.svg", run.name));
        fs::write(&path, picture(run)).map_err(InternetError::file(&path))?;
    }
    Ok(())
}

/// One run drawn.
#[must_use]
pub fn picture(run: &Outcome) -> String {
    let target = run.routing.hijack.as_ref().map_or(Target::Web, |hijack| hijack.target);
    let subtitle = format!("{}: {}", run.name, run.about);
    let wrongly = issued(run).count();
    let title = match (wrongly, run.routing.hijack.is_some()) {
        (0, false) => "Nobody attacks".to_owned(),
        (0, true) => "A hijacked route, and no certificate for the attacker".to_owned(),
        (many, _) => format!("A hijacked route that fools a quorum: {many} requests permitted wrongly"),
    };
    let notes = BTreeMap::new();
    draw(&Scene { title: &title, subtitle: &subtitle, routing: &run.routing, target, ways: &run.ways, notes: &notes })
}

const PAGE: &str = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Runs</title><style>\
:root{color-scheme:light dark}body{font-family:system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #8888;padding:.2rem .6rem;text-align:left;\
font-size:.85rem}.bad{color:#d93025;font-weight:600}.good{color:#1e8e3e}svg{max-width:100%;height:auto}</style></head>\
<body>\n";

/// All runs as one page.
#[must_use]
pub fn html(summary: &Summary) -> String {
    let right = if summary.is_right() { "everything as it must be" } else { "SOMETHING DIFFERS" };
    let mut text = PAGE.to_owned();
    let _ = writeln!(text, "<h1>{} runs: {right}</h1>", summary.runs.len());
    for run in &summary.runs {
        let stops = if run.within { "can stop" } else { "cannot stop" };
        let _ = writeln!(
            text,
            "<h2 id=\"{name}\">{name}</h2><p>{}. Corroboration {stops} it. {}</p>",
            escape(&run.about),
            escape(&run.lesson),
            name = escape(&run.name),
        );
        text += &picture(run);
        text +=
            "<table><tr><th>who</th><th>what</th><th>verdict</th><th>remotes</th><th>attempts</th><th>seen</th></tr>\n";
        for request in &run.requests {
            let (class, verdict) = match (request.permitted == request.right, request.permitted) {
                (false, true) => ("bad", "permitted, and must not be"),
                (false, false) => ("bad", "refused, and must not be"),
                (true, true) if request.asks.actor == Actor::Attacker => {
                    ("bad", "permitted wrongly, cannot be stopped")
                }
                (true, true) => ("good", "permitted"),
                (true, false) => ("", "refused"),
            };
            let _ = writeln!(
                text,
                "<tr><td>{}</td><td>{}</td><td class=\"{class}\">{verdict}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                request.asks.actor.name(),
                what(request.asks),
                escape(request.quorum.as_deref().unwrap_or_default()),
                request.attempts.len(),
                escape(&saw(request)),
            );
        }
        text += "</table>\n";
        let _ = writeln!(text, "<p>{}: {}</p>", escape(&run.explained.0), escape(&run.explained.1));
        let _ = writeln!(text, "<p>Contradictions that <code>watch</code> told: {}</p>", escape(&alarms(run)));
        for difference in &run.differences {
            let _ = writeln!(text, "<p class=\"bad\">{}</p>", escape(difference));
        }
    }
    let _ = writeln!(text, "<h2>Journal</h2><pre>{}</pre></body></html>", escape(&summary.journal));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internet::{evidence::Attempt, routes::Way, scenario, topology::site};
    use crate::lab::world::Perspective;

    fn example(differences: &[&str]) -> Outcome {
        let scenario = scenario::named("primary-four").unwrap();
        let requests = Asks::all().into_iter().map(|asks| RequestOutcome {
            id: asks.slug(),
            asks,
            right: scenario.permits(asks),
            permitted: scenario.permits(asks),
            quorum: Some("4/5".to_owned()),
            decided_by: "quorum".to_owned(),
            message: "<b>".to_owned(),
            warnings: Vec::new(),
            attempts: Vec::new(),
        });
        Outcome {
            name: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            lesson: scenario.lesson.to_owned(),
            within: scenario.is_within(),
            fan_out: scenario.fan_out,
            routing: scenario.routing(),
            ways: Perspective::ALL.map(|p| Way { systems: vec![site(p)], arrives: false }).into(),
            requests: requests.collect(),
            midway: None,
            explained: (scenario.shown.slug(), "a <headline>".to_owned()),
            alarms: BTreeMap::from([("routing".to_owned(), 12)]),
            differences: differences.iter().map(|text| (*text).to_owned()).collect(),
            took_ms: 1500,
        }
    }

    #[test]
    fn what_was_issued_wrongly_is_said_to_be_outside() {
        let run = example(&[]);
        assert!(
            line(&run).starts_with("primary-four        OUTSIDE         4          4        8   as it must be (1.5 s)")
        );
        let summary = Summary { runs: vec![run], journal: "holds".to_owned(), journal_holds: true };
        assert!(summary.is_right());
        let text = text(&summary);
        assert!(text.contains("by http-01, signed.example by http-01, plain.example by tls-alpn-01"), "{text}");
        assert!(text.contains("contradictions that watch told: routing 12\n"), "{text}");
        let last = "issued wrongly where corroboration can stop it: 0 in 0 runs; where it cannot: 4 in 1\n";
        assert!(text.ends_with(last), "{text}");
        let page = html(&summary);
        assert!(page.contains("a &lt;headline&gt;") && !page.contains("<headline>"));
        assert!(page.contains("permitted wrongly, cannot be stopped"));
    }

    #[test]
    fn who_was_not_asked_or_not_awaited_is_not_said_to_have_seen_nothing() {
        let view = |perspective: &str, seen, state| View { perspective: perspective.to_owned(), seen, state };
        let mut request = example(&[]).requests.remove(0);
        request.attempts = vec![Attempt {
            restarted: false,
            perspectives: vec![
                view("a", Seen::Owner, PerspectiveState::Confirmed),
                view("b", Seen::Nothing, PerspectiveState::NotAwaited),
                view("c", Seen::Owner, PerspectiveState::Contradicted),
                view("d", Seen::Nothing, PerspectiveState::NotAsked),
                view("e", Seen::Nothing, PerspectiveState::TimedOut),
            ],
        }];
        assert_eq!(saw(&request), "owner's seen by a, c; not awaited: b; not asked: d; nothing seen by e");
    }

    #[test]
    fn what_differs_is_told_and_is_not_right() {
        let summary = Summary { runs: vec![example(&["who <x> saw"])], journal: String::new(), journal_holds: true };
        assert!(!summary.is_right());
        assert!(line(&summary.runs[0]).contains("DIFFERS"));
        assert!(text(&summary).contains("DIFFERS: who <x> saw"));
        assert!(html(&summary).contains("<p class=\"bad\">who &lt;x&gt; saw</p>"));
        let broken = Summary { runs: vec![example(&[])], journal: String::new(), journal_holds: false };
        assert!(!broken.is_right());
    }
}
