//! A plan as text for a terminal.

use std::fmt::Write as _;

use super::{
    command::Answer,
    figures::{Weight, number, octets, remarks, table},
    model::StepPlan,
    reference::Reference,
    what_if::WhatIf,
};

/// The plan.
pub(super) fn plan(answer: &Answer) -> String {
    let mut text = answer.reference.as_ref().map_or_else(String::new, reference_text);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "Capacity plan for a primary and {} remotes, {}",
        answer.demand.perspectives.remotes,
        if answer.demand.perspectives.primary_first { "the primary first" } else { "all at once" }
    );
    text += &table_text(&answer.steps);
    text.push('\n');
    for (weight, remark) in remarks(&answer.steps) {
        text += if weight == Weight::Warning { "warning: " } else { "" };
        text += &remark;
        text.push('\n');
    }
    if let Some(last) = answer.steps.last() {
        let _ = writeln!(text, "\nOne process, one worker a node, one core a resolver carry, {}", last.date);
        for carries in &last.carries {
            let _ = writeln!(text, "  {:<52}{:>14}/s", carries.resource, number(carries.attempts_per_second));
        }
        let _ = writeln!(text, "\nHow it comes about, {}", last.date);
    }
    for formula in &answer.formulae {
        let _ = writeln!(text, "  {}\n    {}\n    {}", formula.what, formula.formula, formula.numbers);
    }
    text += &what_if_text(answer);
    text += "\nAssumed\n";
    for assumption in &answer.assumptions {
        let _ = writeln!(text, "  {:<9} {}", assumption.source.word(), assumption.text);
    }
    text
}

fn reference_text(reference: &Reference) -> String {
    let mut text = format!("NOT YOUR MACHINE. {}\n", reference.notice);
    // Writing to a string cannot fail.
    for origin in &reference.measured {
        let _ = writeln!(text, "  {origin}\n    {}", origin.command);
    }
    text += "To measure your own, in the sources, and plan by it:\n";
    for line in reference.how_to_measure {
        let _ = writeln!(text, "  {line}");
    }
    text + "\n"
}

fn table_text(steps: &[StepPlan]) -> String {
    let sections = table(steps);
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let label_width = rows().map(|(label, _)| label.chars().count()).max().unwrap_or(0) + 2;
    let widest = rows().flat_map(|(_, cells)| cells).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let width = widest.max("2000-01-01".len()) + 2;
    let line = |label: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>width$}")).collect();
        format!("  {label:<label_width$}{cells}\n")
    };
    let mut text = String::from("\n");
    text += &line("", &steps.iter().map(|step| step.date.clone()).collect::<Vec<_>>());
    for section in &sections {
        text += section.title;
        text.push('\n');
        for (label, cells) in &section.rows {
            text += &line(label, cells);
        }
    }
    text
}

fn what_if_text(answer: &Answer) -> String {
    let Some(last) = answer.steps.last() else { return String::new() };
    let mut text = format!("\nWhat if, {}\n", last.date);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  {:<32}{:>7}{:>12}{:>12}{:>8}{:>12}{:>12}{:>14}",
        "", "", "peak /s", "in flight", "cores", "memory", "disk", "cost/month"
    );
    for WhatIf { input, outcomes } in &answer.what_if {
        for (place, outcome) in outcomes.iter().enumerate() {
            let _ = writeln!(
                text,
                "  {:<32}{:>7}{:>12}{:>12}{:>8}{:>12}{:>12}{:>14}{}",
                if place == 0 { input } else { "" },
                outcome.change,
                number(outcome.peak_attempts_per_second),
                number(outcome.in_flight),
                number(outcome.cores),
                octets(outcome.memory_octets),
                octets(outcome.disk_octets),
                outcome.cost_per_month.map_or_else(String::new, number),
                outcome.note.as_ref().map_or_else(String::new, |note| format!("  {note}"))
            );
        }
    }
    text
}
