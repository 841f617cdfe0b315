//! A CAA decision as a tree for people: the climb level by level, record by record, with the rule behind each
//! step. Decides nothing; what the records mean was judged in `parallax_validation::check::caa`.
//!
//! Invariant: the output is bounded, one line is one line, and text from the network cannot move a terminal's
//! cursor or leave its line. Invariant: the last line begins with PERMITTED or FORBIDDEN.

use std::fmt::{Display, Write as _};

use parallax_validation::{
    check::{
        LookupFailure,
        caa::{
            CaaFinding,
            authorize::{CaaDecision, CaaRule, GoverningProperty, RecordFinding},
            property::{escape, parse_rdata},
        },
    },
    observation::{Alias, DnsFailure, DnsLookup, DnsOutcome, RecordSet},
};

use crate::show;

/// Records of the relevant set that are shown, besides the one that decides.
const RECORDS_SHOWN_MAX: usize = 20;
/// How much of the text of an extended error is shown.
const EDE_SHOWN_BYTES: usize = 160;

const CLIMB: &str = "RFC 8659 §3";
const ISSUE: &str = "RFC 8659 §4.2";
const ISSUEWILD: &str = "RFC 8659 §4.3";
const ISSUEMAIL: &str = "RFC 9495 §4";
const CRITICAL: &str = "RFC 8659 §4.5, TLS BR 2.3.1 §4.2.2.1";
const ACCOUNT: &str = "RFC 8657 §3";
const METHODS: &str = "RFC 8657 §4, TLS BR 2.3.1 §4.2.2.1.2";
const FAILURE: &str = "TLS BR 2.3.1 §4.2.2.1";
const INTERNAL_NAME: &str = "TLS BR 2.3.1 §4.2.2";

/// A line, and what hangs from it.
struct Branch {
    text: String,
    below: Vec<Branch>,
}

impl Branch {
    fn new(text: impl Display) -> Self {
        Self { text: one_line(&text.to_string()), below: Vec::new() }
    }

    fn with(self, below: impl IntoIterator<Item = Self>) -> Self {
        Self { below: below.into_iter().collect(), ..self }
    }

    /// Writes `branches`, each line after `indent`.
    fn write_all(branches: &[Self], indent: &str, out: &mut String) {
        for (at, branch) in branches.iter().enumerate() {
            let (knot, bar) = if at + 1 == branches.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{indent}{knot}{}", branch.text);
            Self::write_all(&branch.below, &format!("{indent}{bar}"), out);
        }
    }
}

/// Text from the network is escaped where it was kept. This is for what a forged record may hold.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' | '§' | '→' | '←' | '…' => line.push(c),
            _ => line.extend(c.escape_unicode()),
        }
    }
    line
}

/// The decision about `subject`, the name to be certified with its `*.`, as a tree: a branch for each of the
/// levels planned, leaf to top-level domain, then the decision with its rule.
#[must_use]
pub(super) fn caa(subject: &str, planned: &[String], levels: &[DnsLookup], finding: &CaaFinding) -> String {
    let decider = deciding_level(levels, finding);
    let excused = match finding {
        CaaFinding::Excused { levels, .. } => levels.as_slice(),
        CaaFinding::NoSet | CaaFinding::Decided { .. } | CaaFinding::Failed(_) => &[],
    };
    let looked_up = levels.iter().enumerate().map(|(at, lookup)| {
        let bearing = match decider {
            _ if excused.contains(&lookup.name) => Bearing::Excused,
            Some(decider) if at > decider => Bearing::Above,
            Some(decider) if at == decider => Bearing::Decides,
            _ if at + 1 >= planned.len() => Bearing::Top,
            _ => Bearing::Below,
        };
        level(lookup, bearing, finding)
    });
    let not_looked_up =
        planned.iter().skip(levels.len()).map(|name| Branch::new(format_args!("{name}: {}", not_needed(finding))));
    let branches: Vec<Branch> = looked_up.chain(not_looked_up).collect();
    let mut text = one_line(subject);
    if let Some(start) = subject.strip_prefix("*.") {
        text.push_str(&one_line(&format!(" (a wildcard: the climb begins at {start}, {CLIMB})")));
    }
    text.push('\n');
    Branch::write_all(&branches, "", &mut text);
    text.push_str(&one_line(&conclusion(finding)));
    text.push('\n');
    text
}

/// How a level bears on the decision.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bearing {
    /// It was passed on the way up.
    Below,
    /// It was passed, and nothing is above it.
    Top,
    /// It failed, and the failure counts as permission.
    Excused,
    /// The climb ended here, with a set or a failure.
    Decides,
    /// The climb ended below it.
    Above,
}

fn deciding_level(levels: &[DnsLookup], finding: &CaaFinding) -> Option<usize> {
    let name = match finding {
        CaaFinding::Decided { level, .. } => level,
        CaaFinding::Failed(LookupFailure::Dns { name, .. }) => name,
        CaaFinding::Excused { others, .. } => return deciding_level(levels, others),
        CaaFinding::NoSet
        | CaaFinding::Failed(
            LookupFailure::Http(_) | LookupFailure::Tls(_) | LookupFailure::NotObserved | LookupFailure::NotValidated,
        ) => {
            return None;
        }
    };
    levels.iter().position(|lookup| lookup.name == *name)
}

fn not_needed(finding: &CaaFinding) -> String {
    match finding {
        CaaFinding::Decided { .. } => format!("not needed, a level below decides ({CLIMB})"),
        CaaFinding::Failed(LookupFailure::Dns { .. }) => {
            format!("not needed, a level below failed and nothing above it can permit ({FAILURE})")
        }
        CaaFinding::Excused { others, .. } => not_needed(others),
        CaaFinding::NoSet | CaaFinding::Failed(_) => format!("was not looked up, and is needed ({CLIMB})"),
    }
}

// ---- One level ---------------------------------------------------------------------------------------

fn level(lookup: &DnsLookup, bearing: Bearing, finding: &CaaFinding) -> Branch {
    let found = match &lookup.outcome {
        DnsOutcome::Answer(set) => {
            let plural = if set.rdata.len() == 1 { "" } else { "s" };
            format!("{} CAA record{plural}, TTL {}", set.rdata.len(), set.ttl)
        }
        DnsOutcome::Nodata(_) => "no CAA record".to_owned(),
        DnsOutcome::Nxdomain(_) => "no such name".to_owned(),
        DnsOutcome::Failed(_) => "FAILED".to_owned(),
    };
    let consequence = match (bearing, &lookup.outcome) {
        (Bearing::Below, DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_)) => format!("; the climb goes on ({CLIMB})"),
        (Bearing::Top, DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_)) => format!("; the climb ends ({CLIMB})"),
        (Bearing::Decides, DnsOutcome::Answer(_)) => format!("; this set decides ({CLIMB})"),
        (Bearing::Decides, DnsOutcome::Failed(_)) => format!("; a failure ends the climb ({FAILURE})"),
        (Bearing::Decides, DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_)) => {
            format!("; without its top-level domain this is an internal name ({INTERNAL_NAME})")
        }
        (Bearing::Excused, _) => {
            format!("; the failure counts as permission at this level, and the climb goes on ({FAILURE})")
        }
        (Bearing::Above, _) => format!("; does not count, the climb ended below ({CLIMB})"),
        // Nobody could judge what was seen.
        (Bearing::Below | Bearing::Top, DnsOutcome::Answer(_) | DnsOutcome::Failed(_)) => String::new(),
    };
    let mut below = vec![Branch::new(show::lookup_means(lookup))];
    below.extend(failure(lookup));
    below.extend(lookup.repeat.as_ref().map(|repeat| {
        let first = match &repeat.first.outcome {
            DnsOutcome::Failed(failure) => show::question_met(failure),
            DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => "it was answered".to_owned(),
        };
        let waited_s = repeat.waited_us as f64 / 1_000_000.0;
        Branch::new(format_args!("asked again after {waited_s:.1} s; at first: {first}"))
    }));
    below.push(security(lookup));
    below.extend(lookup.extended_errors.iter().map(|ede| {
        Branch::new(format_args!("the resolver says: error {} {}", ede.code, ede.text.shown(EDE_SHOWN_BYTES)))
    }));
    below.extend(aliases(&lookup.outcome));
    if let (Bearing::Decides, DnsOutcome::Answer(set), Some(decision)) = (bearing, &lookup.outcome, decision(finding)) {
        below.extend(records(set, decision));
    }
    Branch::new(format_args!("{}: {found}{consequence}", lookup.name)).with(below)
}

fn decision(finding: &CaaFinding) -> Option<&CaaDecision> {
    match finding {
        CaaFinding::Decided { decision, .. } => Some(decision),
        CaaFinding::Excused { others, .. } => decision(others),
        CaaFinding::NoSet | CaaFinding::Failed(_) => None,
    }
}

/// What failed, unless the line about DNSSEC says so.
fn failure(lookup: &DnsLookup) -> Option<Branch> {
    let DnsOutcome::Failed(failure) = &lookup.outcome else { return None };
    let fault = lookup.validation.as_ref().and_then(|validation| validation.fault.as_ref());
    let told = matches!(failure, DnsFailure::Dnssec(same) if fault == Some(same));
    (!told).then(|| Branch::new(show::question_met(failure)))
}

fn security(lookup: &DnsLookup) -> Branch {
    match &lookup.validation {
        Some(validation) => {
            let (status, reasons) = show::validation_texts(validation);
            Branch::new(format_args!("DNSSEC: {status}")).with(reasons.iter().map(Branch::new))
        }
        None if lookup.authenticated => Branch::new("DNSSEC: the resolver says it is authenticated (AD)"),
        None => Branch::new("DNSSEC: not validated here"),
    }
}

fn aliases(outcome: &DnsOutcome) -> Vec<Branch> {
    let (aliases, meaning) = match outcome {
        DnsOutcome::Answer(set) => (&set.aliases, "what stands at the end of the aliases counts for this level"),
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => {
            (&denial.aliases, "the end of the aliases has no CAA, and nobody climbs from there")
        }
        DnsOutcome::Failed(_) => return Vec::new(),
    };
    let told = |alias: &Alias| {
        let by = if alias.dname { ", by a DNAME" } else { "" };
        Branch::new(format_args!("{} is an alias of {}{by}", alias.owner, alias.target))
    };
    let mut branches: Vec<Branch> = aliases.iter().map(told).collect();
    if let Some(last) = branches.last_mut() {
        last.below.push(Branch::new(format_args!("{meaning} ({CLIMB})")));
    }
    branches
}

// ---- The records of the relevant set -----------------------------------------------------------------

fn records(set: &RecordSet, decision: &CaaDecision) -> Vec<Branch> {
    let decider = match &decision.rule {
        CaaRule::CriticalUnknown { record, .. }
        | CaaRule::UnparsableRecord { record, .. }
        | CaaRule::Authorized { record, .. } => Some(*record),
        CaaRule::EmptySet | CaaRule::NoRestrictingProperty { .. } | CaaRule::NotAuthorized { .. } => None,
    };
    let mut branches: Vec<Branch> = set
        .rdata
        .iter()
        .zip(&decision.records)
        .enumerate()
        .filter(|(at, _)| *at < RECORDS_SHOWN_MAX || Some(*at) == decider)
        .map(|(at, (rdata, finding))| {
            let mark = if Some(at) == decider { "  ← decides" } else { "" };
            Branch::new(format_args!("{}{mark}", published(rdata.as_slice()))).with([contribution(finding, decision)])
        })
        .collect();
    let left_off = set.rdata.len() - branches.len();
    if left_off > 0 {
        let none_of_them = match &decision.rule {
            CaaRule::NotAuthorized { .. } => "none of which authorizes this CA",
            CaaRule::NoRestrictingProperty { .. } => "none of which restricts",
            CaaRule::EmptySet
            | CaaRule::CriticalUnknown { .. }
            | CaaRule::UnparsableRecord { .. }
            | CaaRule::Authorized { .. } => "which no longer matter",
        };
        branches.push(Branch::new(format_args!("and {left_off} more, {none_of_them}")));
    }
    branches
}

/// The record in presentation form (RFC 8659 §4.1.1), escaped.
fn published(rdata: &[u8]) -> String {
    match parse_rdata(rdata) {
        Ok(property) => format!("{} {} \"{}\"", property.flags, property.tag, escape(&property.value)),
        Err(_) => format!("unreadable: \"{}\"", escape(rdata)),
    }
}

/// What a record does to the decision, by which rule, and why.
fn contribution(finding: &RecordFinding, decision: &CaaDecision) -> Branch {
    let effect = match finding {
        RecordFinding::Authorizes { .. } if decision.permitted => "authorizes",
        RecordFinding::Authorizes { .. } => "would authorize, but another record forbids",
        RecordFinding::CriticalUnknown { .. } | RecordFinding::Unparsable { .. } => "forbids",
        RecordFinding::OtherIssuer { .. }
        | RecordFinding::NoIssuer { .. }
        | RecordFinding::MalformedValue { .. }
        | RecordFinding::AccountUriMismatch { .. }
        | RecordFinding::AccountUriMalformed { .. }
        | RecordFinding::AccountUriRepeated
        | RecordFinding::MethodMismatch { .. }
        | RecordFinding::MethodsMalformed { .. }
        | RecordFinding::MethodsRepeated
        | RecordFinding::ParameterUnsatisfiable { .. } => "does not authorize",
        RecordFinding::Irrelevant { .. }
        | RecordFinding::IssueIgnored { .. }
        | RecordFinding::IssuewildIgnored { .. }
        | RecordFinding::NoncriticalUnknown { .. } => "no effect",
    };
    Branch::new(format_args!("{effect} ({}): {finding}", section(finding, decision)))
}

/// The rule behind a finding.
fn section(finding: &RecordFinding, decision: &CaaDecision) -> &'static str {
    match finding {
        RecordFinding::Irrelevant { tag } => match tag.to_ascii_lowercase().as_str() {
            "iodef" => "RFC 8659 §4.4",
            "issuemail" => "RFC 9495 §4",
            "contactemail" | "contactphone" => "TLS BR 2.3.1 App. A.1",
            _ => ISSUE,
        },
        RecordFinding::IssueIgnored { .. } | RecordFinding::IssuewildIgnored { .. } => ISSUEWILD,
        RecordFinding::Authorizes { .. }
        | RecordFinding::OtherIssuer { .. }
        | RecordFinding::NoIssuer { .. }
        | RecordFinding::MalformedValue { .. }
        | RecordFinding::ParameterUnsatisfiable { .. } => governing_section(decision),
        RecordFinding::AccountUriMismatch { .. }
        | RecordFinding::AccountUriMalformed { .. }
        | RecordFinding::AccountUriRepeated => ACCOUNT,
        RecordFinding::MethodMismatch { .. }
        | RecordFinding::MethodsMalformed { .. }
        | RecordFinding::MethodsRepeated => METHODS,
        RecordFinding::CriticalUnknown { .. } | RecordFinding::NoncriticalUnknown { .. } => CRITICAL,
        RecordFinding::Unparsable { .. } => "RFC 8659 §4.1",
    }
}

// ---- The decision ------------------------------------------------------------------------------------

fn conclusion(finding: &CaaFinding) -> String {
    match finding {
        CaaFinding::NoSet => format!("PERMITTED: no level has a CAA record ({CLIMB})"),
        CaaFinding::Failed(failure) => format!("FORBIDDEN: {}", failed(failure)),
        CaaFinding::Decided { level, alias_target, decision } => {
            let word = if decision.permitted { "PERMITTED" } else { "FORBIDDEN" };
            let rule = decision.rule.to_string();
            let rule = rule.split_once(": ").map_or(rule.as_str(), |(_, rest)| rest);
            let at = match alias_target {
                Some(target) => format!("{target}, the alias target of {level}"),
                None => level.clone(),
            };
            let rule = rule.strip_suffix('.').unwrap_or(rule);
            format!("{word}: at {at}, {rule} ({})", rule_section(decision))
        }
        CaaFinding::Excused { levels, others } => {
            let (shown, more) = levels.split_at(levels.len().min(RECORDS_SHOWN_MAX));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            let failed = format!("the failed lookups of {}{more} count as permission ({FAILURE})", shown.join(", "));
            let others = conclusion(others);
            // "PERMITTED: the failed lookups … count as permission, and no level has …".
            let (word, rest) = others.split_once(": ").unwrap_or((&others, ""));
            format!("{word}: {failed}, and {rest}")
        }
    }
}

fn failed(failure: &LookupFailure) -> String {
    let never = "a level could not be looked up, and that is never permission";
    match failure {
        LookupFailure::Dns { name, failure: DnsFailure::Rcode(3), .. } if !name.contains('.') => {
            format!("the top-level domain {name} does not exist, so the name is an internal one ({INTERNAL_NAME})")
        }
        LookupFailure::Dns { name, rtype, failure } => {
            format!("{never}: {name} {rtype}: {} ({FAILURE})", show::question_met(failure))
        }
        LookupFailure::NotValidated => {
            "nobody validated DNSSEC, and a primary perspective must (TLS BR 2.3.1 §4.2.2.2)".to_owned()
        }
        LookupFailure::Http(_) | LookupFailure::Tls(_) | LookupFailure::NotObserved => {
            format!("not every level was looked up, and what was not seen is never permission ({CLIMB})")
        }
    }
}

/// The rule of the property that governs the name, as far as the decision tells.
fn governing_section(decision: &CaaDecision) -> &'static str {
    match &decision.rule {
        CaaRule::NoRestrictingProperty { property }
        | CaaRule::Authorized { property, .. }
        | CaaRule::NotAuthorized { property, .. } => match property {
            GoverningProperty::Issue => ISSUE,
            GoverningProperty::Issuewild => ISSUEWILD,
            GoverningProperty::Issuemail => ISSUEMAIL,
        },
        CaaRule::EmptySet | CaaRule::CriticalUnknown { .. } | CaaRule::UnparsableRecord { .. } => ISSUE,
    }
}

fn rule_section(decision: &CaaDecision) -> &'static str {
    match &decision.rule {
        CaaRule::EmptySet => CLIMB,
        CaaRule::CriticalUnknown { .. } => CRITICAL,
        CaaRule::UnparsableRecord { .. } => "RFC 8659 §4.1",
        CaaRule::NotAuthorized { names_this_ca: true, .. } => {
            let mut sections = decision.records.iter().map(|finding| section(finding, decision));
            sections.find(|by| [ACCOUNT, METHODS].contains(by)).unwrap_or_else(|| governing_section(decision))
        }
        CaaRule::NoRestrictingProperty { .. } | CaaRule::Authorized { .. } | CaaRule::NotAuthorized { .. } => {
            governing_section(decision)
        }
    }
}

#[cfg(test)]
mod tests {
    use parallax_validation::{
        base::octets::Octets,
        check::caa::{authorize::CaaPolicy, judge},
        observation::{
            Denial, DnsTransport, DnssecFault, ExtendedError, InsecureBy, InsecureProof, RecordType, Repeat,
            SecurityStatus, TcpReason, Validation,
        },
        request::{CaaCheck, Identifier},
    };

    use super::*;

    const NONE: Denial = Denial { aliases: Vec::new(), soa: None };

    fn lookup(name: &str, outcome: DnsOutcome) -> DnsLookup {
        DnsLookup {
            name: name.to_owned(),
            rtype: RecordType::Caa,
            resolver: "192.0.2.53:53".parse().expect("an address"),
            transport: DnsTransport::Udp,
            transmissions: 1,
            tcp_because: None,
            ignored_replies: 0,
            elapsed_us: 1_500,
            authenticated: false,
            extended_errors: Vec::new(),
            validation: None,
            repeat: None,
            outcome,
        }
    }

    fn record(flags: u8, tag: &str, value: &str) -> Vec<u8> {
        [&[flags, tag.len() as u8], tag.as_bytes(), value.as_bytes()].concat()
    }

    fn answer(name: &str, records: Vec<Vec<u8>>) -> DnsLookup {
        let rdata = records.into_iter().map(Octets).collect();
        lookup(name, DnsOutcome::Answer(RecordSet { owner: name.to_owned(), ttl: 300, aliases: Vec::new(), rdata }))
    }

    fn validated(lookup: DnsLookup, status: SecurityStatus, signers: &[&str]) -> DnsLookup {
        let validation = Validation {
            status,
            anchor: Some(20_326),
            signers: signers.iter().map(|zone| (*zone).to_owned()).collect(),
            insecure: None,
            fault: None,
            first_fault: None,
            links: Vec::new(),
            message: None,
        };
        DnsLookup { validation: Some(Box::new(validation)), ..lookup }
    }

    fn secure(lookup: DnsLookup) -> DnsLookup {
        validated(lookup, SecurityStatus::Secure, &[".", "example"])
    }

    /// The tree for `subject`, asked for by the CA `ca.example`.
    fn tree(subject: &str, levels: &[DnsLookup]) -> String {
        let base = subject.strip_prefix("*.").unwrap_or(subject);
        let name = base.parse().expect("a name");
        let identifier = if base == subject { Identifier::Name(name) } else { Identifier::Wildcard(name) };
        let planned: Vec<String> = std::iter::successors(Some(base), |name| name.split_once('.').map(|(_, up)| up))
            .map(str::to_owned)
            .collect();
        let policy = CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() };
        let finding = judge(&identifier, &CaaCheck::default(), levels, false, &policy);
        let text = caa(subject, &planned, levels, &finding);
        let last = text.lines().last().expect("a last line");
        assert!(last.starts_with(if finding.permits() { "PERMITTED: " } else { "FORBIDDEN: " }), "{text}");
        assert!(text.chars().all(|c| matches!(c, '\n' | ' '..='~') || "├└│─§→←…".contains(c)), "{text:?}");
        text
    }

    /// Compares with `engine/tests/golden/caa/<name>.txt`.
    fn assert_golden(name: &str, text: &str) {
        let path = format!("{}/tests/golden/caa/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}; now:\n{text}"));
        assert!(text == expected, "{path} differs; now:\n{text}");
    }

    #[test]
    fn no_caa_anywhere() {
        let levels = [
            secure(lookup("www.a.example", DnsOutcome::Nxdomain(NONE))),
            secure(lookup("a.example", DnsOutcome::Nodata(NONE))),
            DnsLookup { authenticated: true, ..lookup("example", DnsOutcome::Nodata(NONE)) },
        ];
        assert_golden("no_caa_anywhere", &tree("www.a.example", &levels));
    }

    #[test]
    fn inherited_other_issuer() {
        let set = vec![record(0, "issue", "other.example; a=b"), record(0, "iodef", "mailto:x@a.example")];
        let levels = [secure(lookup("www.a.example", DnsOutcome::Nodata(NONE))), secure(answer("a.example", set))];
        assert_golden("inherited_other_issuer", &tree("www.a.example", &levels));
    }

    #[test]
    fn critical_unknown_tag() {
        let set = vec![record(0, "issue", "ca.example"), record(128, "tbs", "x"), record(0, "later", "x")];
        assert_golden("critical_unknown_tag", &tree("a.example", &[secure(answer("a.example", set))]));
    }

    #[test]
    fn wildcard_with_issue_and_issuewild() {
        let set = vec![record(0, "issue", ";"), record(0, "issuewild", "ca.example")];
        assert_golden("wildcard_with_issue_and_issuewild", &tree("*.a.example", &[secure(answer("a.example", set))]));
    }

    #[test]
    fn alias_target() {
        let alias =
            |owner: &str, target: &str, dname| Alias { owner: owner.to_owned(), target: target.to_owned(), dname };
        let empty = Denial { aliases: vec![alias("www.a.example", "x.b.example", true)], soa: None };
        let set = RecordSet {
            owner: "c.example".to_owned(),
            ttl: 60,
            aliases: vec![alias("a.example", "b.example", false), alias("b.example", "c.example", false)],
            rdata: vec![Octets(record(0, "issue", ";"))],
        };
        let levels = [
            secure(lookup("www.a.example", DnsOutcome::Nodata(empty))),
            secure(lookup("a.example", DnsOutcome::Answer(set))),
        ];
        assert_golden("alias_target", &tree("www.a.example", &levels));
    }

    #[test]
    fn a_failed_level() {
        let timeout = DnsFailure::Timeout;
        let failed = DnsLookup {
            extended_errors: vec![ExtendedError { code: 22, text: Octets(b"no reply\x1b[2J\n".to_vec()) }],
            ..lookup("a.example", DnsOutcome::Failed(timeout))
        };
        let levels = [
            secure(lookup("www.a.example", DnsOutcome::Nodata(NONE))),
            failed,
            answer("example", vec![record(0, "issue", "ca.example")]),
        ];
        assert_golden("a_failed_level", &tree("www.a.example", &levels));
    }

    #[test]
    fn a_bogus_level() {
        let fault = DnssecFault::NoSignature {
            owner: "a.example".to_owned(),
            rtype: "CAA".to_owned(),
            zone: "a.example".to_owned(),
        };
        let failed = lookup("a.example", DnsOutcome::Failed(DnsFailure::Dnssec(fault.clone())));
        let mut failed = validated(failed, SecurityStatus::Bogus, &[".", "example"]);
        let validation = failed.validation.as_mut().expect("validated");
        (validation.first_fault, validation.fault) = (Some(fault.clone()), Some(fault));
        assert_golden("a_bogus_level", &tree("a.example", &[failed]));
    }

    #[test]
    fn failures_that_count_as_permission() {
        let failed = lookup("a.example", DnsOutcome::Failed(DnsFailure::Rcode(2)));
        let first = lookup("a.example", DnsOutcome::Failed(DnsFailure::Timeout));
        let levels = [
            DnsLookup { repeat: Some(Box::new(Repeat { first, waited_us: 6_000_000, alias: None })), ..failed },
            answer("example", vec![record(0, "issue", "ca.example")]),
        ];
        let names = ["a.example".to_owned(), "example".to_owned()];
        let identifier = Identifier::Name("a.example".parse().expect("a name"));
        let policy = CaaPolicy { issuer_domains: vec!["ca.example".to_owned()], ..CaaPolicy::default() };
        let check = CaaCheck::default();
        // What the set above says is judged as if it were found alone.
        let mut above = levels.clone();
        above[0].outcome = DnsOutcome::Nodata(NONE);
        let others = Box::new(judge(&identifier, &check, &above, false, &policy));
        let finding = CaaFinding::Excused { levels: vec!["a.example".to_owned()], others };
        assert_golden("failures_that_count_as_permission", &caa("a.example", &names, &levels, &finding));
    }

    #[test]
    fn an_internal_name() {
        let levels = ["a.lan", "lan"].map(|name| secure(lookup(name, DnsOutcome::Nxdomain(NONE))));
        assert_golden("an_internal_name", &tree("a.lan", &levels));
    }

    #[test]
    fn an_insecure_level() {
        let level = lookup("a.example", DnsOutcome::Nodata(NONE));
        let mut level = validated(level, SecurityStatus::Insecure, &[".", "example"]);
        level.tcp_because = Some(TcpReason::Truncated);
        level.validation.as_mut().expect("validated").insecure = Some(InsecureProof {
            name: "a.example".to_owned(),
            parent: "example".to_owned(),
            by: InsecureBy::Nsec3 { owner: "0p9mhaveqvm6t7vb.example".to_owned(), name: "a.example".to_owned() },
        });
        assert_golden(
            "an_insecure_level",
            &tree("a.example", &[level, secure(lookup("example", DnsOutcome::Nodata(NONE)))]),
        );
    }

    #[test]
    fn markup_in_the_value_is_inert() {
        let set = vec![
            record(0, "issue", "<script>alert(1)</script>"),
            record(0, "issue", "ca.example\"\n└─ PERMITTED\x1b[2J\u{202e}"),
            b"\x00\x05is<b>x".to_vec(),
        ];
        assert_golden("markup_in_the_value_is_inert", &tree("a.example", &[secure(answer("a.example", set))]));
    }

    #[test]
    fn of_25_records_20_are_shown_and_the_one_that_decides() {
        let set = |own: Option<usize>| {
            let issuer = |n| if Some(n) == own { "ca.example".to_owned() } else { format!("n{n}.example") };
            vec![secure(answer("a.example", (0..25).map(|n| record(0, "issue", &issuer(n))).collect()))]
        };
        assert_golden("of_25_records_none_decides", &tree("a.example", &set(None)));
        assert_golden("of_25_records_the_24th_decides", &tree("a.example", &set(Some(23))));
        let long = vec![record(0, "issue", &"\u{1}".repeat(1_000)); 1001];
        assert!(tree("a.example", &[answer("a.example", long)]).len() < 64 * 1024);
    }

    #[test]
    fn evidence_that_is_missing_is_named() {
        assert_golden("evidence_that_is_missing_is_named", &tree("a.example", &[]));
    }
}
