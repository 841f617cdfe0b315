//! A cohort looked at: distances, broken rules, what each loss would do, and what a further site would change.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;
use parallax_validation::{
    base::perspective::{Perspective, Rir},
    record::Rules,
    verdict::{
        cohort::{Cohort, DISTANCE_MARGIN_KM, DISTANCE_MIN_KM, Site, distance_matrix, provider_key, robust},
        draw::Members,
        policy::PolicyRow,
        quorum::{Quorum, Settlement},
    },
};
use serde::Serialize;

use crate::config::never_drawn;

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
    /// The draw, if cohorts are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn: Option<Drawn>,
}

/// What can be drawn out of a pool.
#[derive(Clone, Debug, Serialize)]
pub struct Drawn {
    /// Remotes of each attempt.
    pub remotes: u8,
    /// Lawful cohorts.
    pub cohorts: usize,
    /// Remotes that are in none of them.
    pub never: Vec<String>,
}

/// What a loss does to all attempts that would pass.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// What is lost.
    pub lost: String,
    /// The remotes concerned, or the primary.
    pub perspectives: Vec<String>,
    /// Whether attempts can still pass, by every cohort if they are drawn.
    pub passes: bool,
    /// How many further remotes may fail then, by the cohort that it hits most.
    pub margin: i8,
    /// By how many of the cohorts attempts fail then.
    pub failing: usize,
}

/// Looks at the cohort of a setup under a row, or at all that can be drawn at that instant.
#[must_use]
pub fn report(rules: &Rules, row: &PolicyRow, at: Timestamp) -> Report {
    let (primary, remotes) = (rules.primary(), rules.remotes());
    let all: Vec<&Perspective> = std::iter::once(primary).chain(remotes).collect();
    let matrix = |site: Site| {
        let places: Vec<_> = all.iter().map(|perspective| site.of(perspective)).collect();
        distance_matrix(&places)
    };
    let drawn = rules.setup().conduct.draw.map(|draw| Drawn {
        remotes: draw.remotes,
        cohorts: rules.cohorts(at).len(),
        never: never_drawn(rules, at).iter().map(ToString::to_string).collect(),
    });
    let (mut violations, mut warnings) = (Vec::new(), Vec::new());
    match &drawn {
        Some(drawn) if drawn.cohorts == 0 => {
            violations.push(format!("no {} of the {} remotes are a lawful cohort", drawn.remotes, remotes.len()));
        }
        Some(drawn) => warnings.extend(drawn.never.iter().map(|id| format!("{id} is in no lawful cohort"))),
        None => match Cohort::check(primary, remotes, row) {
            Ok(cohort) => warnings.extend(cohort.warnings().iter().map(ToString::to_string)),
            Err(broken) => violations.extend(broken.iter().map(ToString::to_string)),
        },
    }
    let whole: Vec<Members> = rules.members(at, None).into_iter().collect();
    let lawful = if drawn.is_some() { rules.cohorts(at) } else { &whole };
    let cohorts: Vec<(&[u8], Quorum)> = lawful
        .iter()
        .filter_map(|members| {
            let rirs: Vec<Rir> = members.iter().skip(1).map(|place| all[usize::from(*place)].rir).collect();
            Some((&members[..], Quorum::new(row, &rirs).ok()?))
        })
        .collect();
    let quorum = cohorts.first().map(|(_, quorum)| *quorum);
    Report {
        revision: row.revision().to_owned(),
        perspectives: all.iter().map(|perspective| perspective.id.to_string()).collect(),
        distances_km: matrix(Site::Perspective),
        resolver_distances_km: matrix(Site::Resolver),
        confirm: quorum.map(|quorum| quorum.needed()),
        may_fail: quorum.map(|quorum| quorum.allowed()),
        violations,
        warnings,
        losses: if cohorts.is_empty() { Vec::new() } else { losses(&all, &cohorts) },
        drawn,
    }
}

fn losses(all: &[&Perspective], cohorts: &[(&[u8], Quorum)]) -> Vec<Loss> {
    let without = |lost: String, gone: &dyn Fn(&Perspective) -> bool| {
        let gone: Vec<bool> = all.iter().map(|perspective| gone(perspective)).collect();
        let (mut failing, mut margin) = (0, i8::MAX);
        for (members, quorum) in cohorts {
            let remotes = members.iter().skip(1).enumerate();
            let refused = remotes.filter(|(_, m)| gone[usize::from(**m)]).fold(0_u16, |mask, (bit, _)| mask | 1 << bit);
            let confirmed = quorum.all() & !refused;
            let passes = !gone[0] && quorum.settle(confirmed, refused) == Settlement::Corroborated;
            failing += usize::from(!passes);
            margin = margin.min(quorum.result(confirmed, refused).margin);
        }
        let perspectives = all.iter().zip(&gone).filter(|(_, gone)| **gone).map(|(p, _)| p.id.to_string()).collect();
        Loss { lost, perspectives, passes: failing == 0, margin, failing }
    };
    let all = || all.iter().copied();
    let mut found = vec![without("nothing".to_owned(), &|_| false)];
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
        let pool = report.perspectives.len() - 1;
        let remotes = report.drawn.as_ref().map_or(pool, |drawn| usize::from(drawn.remotes));
        if let Some(drawn) = &report.drawn {
            let cohorts = drawn.cohorts;
            let _ = writeln!(text, "{remotes} of {pool} remotes are drawn for each attempt: {cohorts} lawful cohorts.");
        }
        let _ = writeln!(text, "{confirm} of {remotes} remotes must confirm, {may_fail} may fail.");
    }
    matrix(&mut text, "Distances between perspectives, km", &report.perspectives, &report.distances_km);
    matrix(&mut text, "Distances between resolvers, km", &report.perspectives, &report.resolver_distances_km);
    let _ = writeln!(text, "\nRequired: {DISTANCE_MIN_KM} km and a margin of {DISTANCE_MARGIN_KM} km; * is too close.");
    if !report.losses.is_empty() {
        let _ = writeln!(text, "\n{:<28} {:<28} {:<12} further failures", "lost", "who", "attempts");
        for loss in &report.losses {
            let cohorts = report.drawn.as_ref().map_or(1, |drawn| drawn.cohorts);
            let attempts = match loss.failing {
                0 => "pass".to_owned(),
                all if all == cohorts => "all fail".to_owned(),
                some => format!("{:.0} % fail", (100.0 * some as f64 / cohorts as f64).ceil()),
            };
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
