//! Showing that DNSSEC validation took place (TLS BR 2.3.1 §4.2.2.2; req B7): what a record keeps is validated
//! again, offline, by the clock of the attempt.

use std::fmt::Write as _;

use parallax_validation::{
    explain::dnssec::insecure,
    lookup::dnssec::{
        anchor::TrustAnchors,
        prove::{Proof, prove},
    },
    observation::DnssecMode,
    record::Record,
};
use serde::Serialize;

/// One lookup, validated again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProvenLookup {
    /// Who looked.
    pub perspective: String,
    /// The name asked.
    pub name: String,
    /// Its type.
    pub rtype: String,
    /// The status recorded; none if nobody validated here.
    pub status: Option<String>,
    /// Key tag of the trust anchor.
    pub anchor: Option<u16>,
    /// Zones that signed.
    pub signers: Vec<String>,
    /// Where signing ends, in words.
    pub insecure: Option<String>,
    /// `holds`, `no answer`, `summary only`, `by the resolver`, `not validated` or `differs`.
    pub proof: &'static str,
    /// What differs.
    pub difference: Option<String>,
}

/// All lookups of one record, validated again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    /// The attempt.
    pub attempt: String,
    /// The request.
    pub request: String,
    /// Lookup by lookup, the primary's first.
    pub lookups: Vec<ProvenLookup>,
    /// Whether every lookup of the primary is proven, and none differs anywhere.
    pub holds: bool,
}

/// Validates every lookup of a record again.
#[must_use]
pub fn record(record: &Record, anchors: &TrustAnchors) -> Proven {
    let mut lookups = Vec::new();
    let mut holds = true;
    for (index, perspective) in record.perspectives.iter().enumerate() {
        let Some(observation) = &perspective.observation else { continue };
        for lookup in observation.lookups() {
            let found = prove(lookup, &observation.links, anchors, observation.started);
            let (proof, difference) = match (found, observation.dnssec) {
                (Proof::Holds, _) => ("holds", None),
                (Proof::NotKept, _) => ("summary only", None),
                (Proof::NoAnswer, _) => ("no answer", None),
                (Proof::Differs(problem), _) => ("differs", Some(problem)),
                (Proof::NotMade, DnssecMode::Resolver) => ("by the resolver", None),
                (Proof::NotMade, DnssecMode::Local | DnssecMode::None) => ("not validated", None),
            };
            holds &= matches!(proof, "holds" | "no answer") || (index > 0 && proof != "differs");
            let validation = lookup.validation.as_deref();
            lookups.push(ProvenLookup {
                perspective: perspective.perspective.to_string(),
                name: lookup.name.clone(),
                rtype: lookup.rtype.to_string(),
                status: validation.map(|v| v.status.to_string()),
                anchor: validation.and_then(|v| v.anchor),
                signers: validation.map(|v| v.signers.clone()).unwrap_or_default(),
                insecure: validation.and_then(|v| v.insecure.as_ref()).map(insecure),
                proof,
                difference,
            });
        }
    }
    Proven { attempt: record.attempt.to_string(), request: record.request.id.to_string(), lookups, holds }
}

/// For people.
#[must_use]
pub fn text(proven: &Proven) -> String {
    let mut text = format!("attempt {} (request {})\n", proven.attempt, proven.request);
    let mut shown = "";
    for lookup in &proven.lookups {
        // Writing to a string cannot fail.
        if shown != lookup.perspective {
            let _ = writeln!(text, "{}", lookup.perspective);
            shown = &lookup.perspective;
        }
        let _ = writeln!(text, "  {} {}: {}", lookup.name, lookup.rtype, account(lookup));
        for line in lookup.insecure.iter().chain(&lookup.difference) {
            let _ = writeln!(text, "    {line}");
        }
    }
    let end = if proven.holds { "every lookup of the primary is proven" } else { "NOT PROVEN" };
    let _ = writeln!(text, "{end}");
    text
}

fn account(lookup: &ProvenLookup) -> String {
    let status = lookup.status.as_deref().unwrap_or("no status");
    let signers = match lookup.signers.as_slice() {
        [] => String::new(),
        zones => format!(", signed by {}", zones.join(", ")),
    };
    let anchor = lookup.anchor.map_or_else(String::new, |tag| format!(", from trust anchor {tag}"));
    format!("{status}{signers}{anchor}: {}", lookup.proof)
}
