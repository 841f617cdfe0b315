//! A cohort looked at: distances, broken rules, what each loss would do, and what a further site would change.

use std::{collections::BTreeSet, fmt::Write as _};

use parallax_validation::{
    base::perspective::{Perspective, Rir},
    verdict::{
        cohort::{Cohort, DISTANCE_MARGIN_KM, DISTANCE_MIN_KM, Site, distance_matrix, provider_key, robust},
        policy::PolicyRow,
        quorum::{Quorum, Settlement},
    },
};
use serde::Serialize;

/// What is known of a cohort under one row.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The row.
    pub revision: String,
    /// Its perspectives, the primary first.
    pub perspectives: Vec<String>,
    /// Chords between them, km.
    pub distances_km: Vec<Vec<f64>>,
    /// Chords between their resolvers, km.
    pub resolver_distances_km: Vec<Vec<f64>>,
    /// Remotes that must confirm, and that may fail; none if the row lets so many form no quorum.
    pub confirm: Option<u8>,
    /// Remotes that may fail.
    pub may_fail: Option<u8>,
    /// Broken rules.
    pub violations: Vec<String>,
    /// What is lawful and worth knowing.
    pub warnings: Vec<String>,
    /// What losing each remote, and each autonomous system, provider and region, does.
    pub losses: Vec<Loss>,
}

/// What a loss does to all attempts that would pass.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// What is lost.
    pub lost: String,
    /// The remotes concerned, or the primary.
    pub perspectives: Vec<String>,
    /// Whether attempts can still pass.
    pub passes: bool,
    /// How many further remotes may fail then.
    pub margin: i8,
}

/// Looks at a cohort under a row.
#[must_use]
pub fn report(primary: &Perspective, remotes: &[Perspective], row: &PolicyRow) -> Report {
    let all: Vec<&Perspective> = std::iter::once(primary).chain(remotes).collect();
    let matrix = |site: Site| {
        let places: Vec<_> = all.iter().map(|perspective| site.of(perspective)).collect();
        distance_matrix(&places)
    };
    let (violations, warnings) = match Cohort::check(primary, remotes, row) {
        Ok(cohort) => (Vec::new(), cohort.warnings().iter().map(ToString::to_string).collect()),
        Err(violations) => (violations.iter().map(ToString::to_string).collect(), Vec::new()),
    };
    let rirs: Vec<Rir> = remotes.iter().map(|remote| remote.rir).collect();
    let quorum = Quorum::new(row, &rirs).ok();
    Report {
        revision: row.revision().to_owned(),
        perspectives: all.iter().map(|perspective| perspective.id.to_string()).collect(),
        distances_km: matrix(Site::Perspective),
        resolver_distances_km: matrix(Site::Resolver),
        confirm: quorum.map(|quorum| quorum.needed()),
        may_fail: quorum.map(|quorum| quorum.allowed()),
        violations,
        warnings,
        losses: quorum.map(|quorum| losses(primary, remotes, quorum)).unwrap_or_default(),
    }
}

fn losses(primary: &Perspective, remotes: &[Perspective], quorum: Quorum) -> Vec<Loss> {
    let without = |lost: String, gone: &dyn Fn(&Perspective) -> bool| {
        let ids: Vec<String> =
            std::iter::once(primary).chain(remotes).filter(|p| gone(p)).map(|p| p.id.to_string()).collect();
        let refused = remotes.iter().enumerate().filter(|(_, p)| gone(p)).fold(0_u16, |mask, (bit, _)| mask | 1 << bit);
        let confirmed = quorum.all() & !refused;
        let passes = !gone(primary) && quorum.settle(confirmed, refused) == Settlement::Corroborated;
        Loss { lost, perspectives: ids, passes, margin: quorum.result(confirmed, refused).margin }
    };
    let mut found = vec![without("nothing".to_owned(), &|_| false)];
    let all = || std::iter::once(primary).chain(remotes);
    for perspective in all() {
        found.push(without(format!("perspective {}", perspective.id), &|p| p.id == perspective.id));
    }
    for rir in all().map(|p| p.rir).collect::<BTreeSet<_>>() {
        found.push(without(format!("region {rir}"), &|p| p.rir == rir));
    }
    let shared = |count: usize| count > 1;
    for as_number in all().map(|p| p.as_number).collect::<BTreeSet<_>>() {
        if shared(all().filter(|p| p.as_number == as_number).count()) {
            found.push(without(format!("AS{as_number}"), &|p| p.as_number == as_number));
        }
    }
    for provider in all().map(provider_key).collect::<BTreeSet<_>>() {
        if shared(all().filter(|p| provider_key(p) == provider).count()) {
            found.push(without(format!("provider {provider}"), &|p| provider_key(p) == provider));
        }
    }
    found
}

/// A report for people.
#[must_use]
pub fn as_text(report: &Report) -> String {
    let mut text = format!("Cohort under {}\n", report.revision);
    // Writing to a string cannot fail.
    if let (Some(confirm), Some(may_fail)) = (report.confirm, report.may_fail) {
        let remotes = report.perspectives.len() - 1;
        let _ = writeln!(text, "{confirm} of {remotes} remotes must confirm, {may_fail} may fail.");
    }
    matrix(&mut text, "Distances between perspectives, km", &report.perspectives, &report.distances_km);
    matrix(&mut text, "Distances between resolvers, km", &report.perspectives, &report.resolver_distances_km);
    let _ = writeln!(text, "\nRequired: {DISTANCE_MIN_KM} km and a margin of {DISTANCE_MARGIN_KM} km; * is too close.");
    if !report.losses.is_empty() {
        let _ = writeln!(text, "\n{:<28} {:<28} {:<12} further failures", "lost", "who", "attempts");
        for loss in &report.losses {
            let attempts = if loss.passes { "pass" } else { "all fail" };
            let margin = if loss.passes { loss.margin.to_string() } else { "-".to_owned() };
            let _ = writeln!(text, "{:<28} {:<28} {attempts:<12} {margin}", loss.lost, loss.perspectives.join(", "));
        }
    }
    let listed = |text: &mut String, title: &str, items: &[String]| {
        for item in items {
            let _ = writeln!(text, "{title}: {item}");
        }
    };
    text += "\n";
    listed(&mut text, "broken", &report.violations);
    listed(&mut text, "warning", &report.warnings);
    if report.violations.is_empty() {
        text += "No rule is broken.\n";
    }
    text
}

fn matrix(text: &mut String, title: &str, names: &[String], distances: &[Vec<f64>]) {
    let width = names.iter().map(String::len).max().unwrap_or(0).max(7) + 1;
    let cell = |content: &str| format!("{content:>width$}");
    let _ = write!(text, "\n{title}\n{}", cell(""));
    text.extend(names.iter().map(|name| cell(name)));
    text.push('\n');
    for (row, (name, line)) in names.iter().zip(distances).enumerate() {
        *text += &cell(name);
        for (column, distance) in line.iter().enumerate() {
            let mark = if row != column && *distance < DISTANCE_MIN_KM + DISTANCE_MARGIN_KM { "*" } else { "" };
            let shown = if row == column { "-".to_owned() } else { format!("{:.0}{mark}", distance.floor()) };
            *text += &cell(&shown);
        }
        text.push('\n');
    }
}

/// What one more remote in a region would change.
#[derive(Clone, Debug, Serialize)]
pub struct Addition {
    /// Where, or who.
    pub what: String,
    /// Remotes then.
    pub remotes: u8,
    /// That must confirm then; none if the row has no rule for so many.
    pub confirm: Option<u8>,
    /// That may fail then.
    pub may_fail: Option<u8>,
    /// Whether the allowed losses can never break the rule about regions (req A5).
    pub robust: bool,
    /// Rules that would be broken; of a region alone the distance is not known.
    pub violations: Vec<String>,
}

/// What one more remote would change: in each region, and at each site that is given.
#[must_use]
pub fn plan(primary: &Perspective, remotes: &[Perspective], row: &PolicyRow, sites: &[Perspective]) -> Vec<Addition> {
    let addition = |what: String, added: Option<Rir>, violations: Vec<String>| {
        let rirs: Vec<Rir> = remotes.iter().map(|remote| remote.rir).chain(added).collect();
        let quorum = Quorum::new(row, &rirs).ok();
        let robust = quorum.is_some_and(|quorum| robust(quorum).is_ok());
        Addition {
            what,
            remotes: u8::try_from(rirs.len()).unwrap_or(u8::MAX),
            confirm: quorum.map(|quorum| quorum.needed()),
            may_fail: quorum.map(|quorum| quorum.allowed()),
            robust,
            violations,
        }
    };
    let broken = |remotes: &[Perspective]| {
        Cohort::check(primary, remotes, row).err().unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    let mut found = vec![addition("as it is".to_owned(), None, broken(remotes))];
    for rir in Rir::ALL {
        found.push(addition(format!("one more in {rir}"), Some(rir), Vec::new()));
    }
    for site in sites {
        let with: Vec<Perspective> = remotes.iter().chain([site]).cloned().collect();
        found.push(addition(format!("{} ({})", site.id, site.rir), Some(site.rir), broken(&with)));
    }
    found
}

/// A plan for people.
#[must_use]
pub fn plan_text(additions: &[Addition]) -> String {
    let mut text = format!("{:<28} {:<8} {:<13} {:<9} robust\n", "remotes", "number", "must confirm", "may fail");
    for addition in additions {
        let number = |count: Option<u8>| count.map_or("-".to_owned(), |count| count.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<28} {:<8} {:<13} {:<9} {}",
            addition.what,
            addition.remotes,
            number(addition.confirm),
            number(addition.may_fail),
            if addition.robust { "yes" } else { "no" }
        );
        for violation in &addition.violations {
            let _ = writeln!(text, "    broken: {violation}");
        }
    }
    text += "\nRobust: losing as many as may fail never leaves too few RIR regions.\n";
    text
}
