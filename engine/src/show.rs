//! Accounts for people: what each perspective saw, how a climb went, what a run did. Text from the
//! network is escaped where it was kept, so nothing here can move a terminal's cursor.

use std::fmt::Write as _;

use parallax_validation::{
    check::caa::CaaFinding,
    explain,
    lookup::tls::certificate::Certificate,
    observation::{
        ControlObservation, DnsFailure, DnsLookup, DnsOutcome, HttpObservation, HttpOutcome, NetworkError, Observation,
        TcpReason, TlsFacts, TlsObservation, TlsOutcome, TlsTryEnd, Validation,
    },
    record::{PerspectiveRecord, Record},
    verdict::Verdict,
};

use crate::bulk::{Summary, state_name};

#[path = "tree.rs"]
mod tree;

const BODY_SHOWN_BYTES: usize = 60;
const RECORDS_SHOWN_MAX: usize = 20;

/// One attempt, perspective by perspective.
#[must_use]
pub fn record(record: &Record) -> String {
    let mut text = String::new();
    let verdict = match (record.restarted, record.permits()) {
        (true, _) => "not released",
        (false, true) => "PASS",
        (false, false) => "FAIL",
    };
    line(
        &mut text,
        format_args!(
            "{verdict}  {} by {} (request {})",
            record.request.identifier,
            record.request.method_label(),
            record.request.id
        ),
    );
    line(&mut text, format_args!("      {}", record.explanation.message));
    for warning in &record.explanation.warnings {
        line(&mut text, format_args!("      Note: {warning}"));
    }
    line(&mut text, format_args!("{}", figures(&record.verdict)));
    if let Some(problem) = record.explanation.problem {
        let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        let blame = record.explanation.blame.map_or_else(|| "nobody".to_owned(), |b| word(&b));
        let retry = record.explanation.retry.map_or_else(|| "never".to_owned(), |r| word(&r));
        line(&mut text, format_args!("      problem {problem}, blame {blame}, retry {retry}"));
    }
    line(
        &mut text,
        format_args!(
            "      attempt {} from {} to {}, policy {}",
            record.attempt,
            record.started,
            record.decided,
            record.policy.as_deref().unwrap_or("none")
        ),
    );
    if let Some(seed) = record.seed {
        line(&mut text, format_args!("      perspectives drawn by seed {seed}"));
    }
    if let Some(restart) = record.restart {
        let (number, before) = (restart.number, restart.predecessor);
        line(&mut text, format_args!("      restart {number}, after attempt {before}"));
    }
    if record.restarted {
        line(&mut text, format_args!("      perspectives disagreed: nothing was released, the process started afresh"));
    }
    for perspective in &record.perspectives {
        text.push('\n');
        perspective_account(&mut text, perspective);
    }
    text
}

fn line(text: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{args}");
}

fn figures(verdict: &Verdict) -> String {
    let Some(figures) = verdict.figures() else { return "      remotes were not asked".to_owned() };
    let part = |name: &str, figure: &Option<_>| {
        figure
            .as_ref()
            .map_or_else(String::new, |f: &parallax_validation::verdict::quorum::QuorumResult| format!(", {name} {f}"))
    };
    let rirs: Vec<String> = figures.joint.rirs.iter().map(ToString::to_string).collect();
    format!(
        "      corroborated by {} remotes{}{}; regions: {}",
        figures.joint,
        part("control", &figures.control),
        part("CAA", &figures.caa),
        if rirs.is_empty() { "none".to_owned() } else { rirs.join(", ") }
    )
}

fn perspective_account(text: &mut String, perspective: &PerspectiveRecord) {
    line(text, format_args!("{:<8} {}", perspective.perspective, state_name(perspective.state)));
    if let Some(observation) = &perspective.observation {
        observation_account(text, observation);
    }
}

/// What one perspective saw.
pub fn observation_account(text: &mut String, observation: &Observation) {
    for lookup in &observation.derivation {
        lookup_account(text, lookup);
    }
    match &observation.control {
        Some(ControlObservation::Http(http)) => http_account(text, http),
        Some(ControlObservation::Tls(probe)) => tls_account(text, probe),
        Some(control) => control.records().iter().for_each(|lookup| lookup_account(text, lookup)),
        None => {}
    }
    for lookup in &observation.caa {
        lookup_account(text, lookup);
    }
    for hint in &observation.hints {
        line(text, format_args!("  to explain ({:?}):", hint.kind));
        lookup_account(text, &hint.lookup);
    }
    if let Some(budget) = &observation.budget {
        line(
            text,
            format_args!(
                "  the budget of {} ms ran out after {} of {} lookups",
                budget.budget_ms, budget.lookups_answered, budget.lookups_planned
            ),
        );
    }
}

fn http_account(text: &mut String, http: &HttpObservation) {
    for hop in &http.hops {
        line(text, format_args!("  GET {}", hop.url));
        for lookup in &hop.resolution {
            lookup_account(text, lookup);
        }
        for unused in &hop.unused {
            line(text, format_args!("    {} not used: {:?}", unused.address, unused.reason));
        }
        for attempt in &hop.tries {
            line(
                text,
                format_args!(
                    "    {} {:?} after {:.1} ms, {} octets",
                    attempt.address,
                    attempt.end,
                    ms(attempt.elapsed_us),
                    attempt.received_bytes
                ),
            );
        }
        if let Some(tls) = &hop.tls {
            tls_facts(text, tls);
        }
        if let Some(head) = &hop.response {
            let location = head.location.as_ref().map_or_else(String::new, |l| format!(" to {}", l.shown(200)));
            line(text, format_args!("    status {}{location}", head.status));
        }
    }
    match &http.outcome {
        HttpOutcome::Response { status, body, truncated } => {
            let more = if *truncated { " and more" } else { "" };
            line(text, format_args!("  {status}, body \"{}\"{more}", body.shown(BODY_SHOWN_BYTES)));
        }
        HttpOutcome::Failed(failure) => line(text, format_args!("  failed: {failure:?}")),
    }
}

/// TLS as it was spoken on a hop. Nothing of it is judged.
fn tls_facts(text: &mut String, tls: &TlsFacts) {
    let protocol = tls.protocol.as_ref().map_or_else(String::new, |protocol| format!(", {}", protocol.shown(40)));
    line(text, format_args!("    {} {}{protocol}", tls.version, tls.cipher_suite));
    let certificate = &tls.certificate;
    let Some(content) = &certificate.content else {
        return line(text, format_args!("    certificate that cannot be read, SHA-256 {}", certificate.sha256));
    };
    let time = |time: &Option<jiff::Timestamp>| time.map_or_else(|| "?".to_owned(), |time| time.to_string());
    line(
        text,
        format_args!(
            "    certificate {}{}, {} names{}, from {} to {}, SHA-256 {} (not judged)",
            content.subject.shown(100),
            if content.self_signed { ", self-signed" } else { "" },
            content.names,
            if content.name_matches { "" } else { ", none for this host" },
            time(&content.not_before),
            time(&content.not_after),
            certificate.sha256
        ),
    );
}

/// One tls-alpn-01 probe.
fn tls_account(text: &mut String, probe: &TlsObservation) {
    line(text, format_args!("  TLS with {} for 'acme-tls/1'", probe.server_name));
    for lookup in &probe.resolution {
        lookup_account(text, lookup);
    }
    for unused in &probe.unused {
        line(text, format_args!("    {} not used: {:?}", unused.address, unused.reason));
    }
    for attempt in &probe.tries {
        let end = match &attempt.end {
            TlsTryEnd::Handshake => "completed the handshake".to_owned(),
            TlsTryEnd::NotConnected(error) => format!("not connected: {}", network_text(*error)),
            TlsTryEnd::Failed(failure) => {
                let waited_us = attempt.elapsed_us.saturating_sub(attempt.connected_us.unwrap_or(0));
                explain::tls::failure_in_words(failure, attempt.address.port(), waited_us)
            }
        };
        let (took, octets) = (ms(attempt.elapsed_us), attempt.received_bytes);
        line(text, format_args!("    {} {end} after {took:.1} ms, {octets} octets", attempt.address));
    }
    match &probe.outcome {
        TlsOutcome::Handshake(handshake) => {
            let protocol = handshake.protocol.as_ref().map_or_else(|| "none".to_owned(), |p| p.shown(40));
            let (version, suite, octets) = (handshake.version, &handshake.cipher_suite, handshake.certificate.0.len());
            line(text, format_args!("  {version} {suite}, protocol {protocol}, certificate of {octets} octets"));
            if let Ok(certificate) = Certificate::read(&handshake.certificate.0) {
                line(text, format_args!("  certificate subject {}", certificate.subject().shown(100)));
            }
        }
        TlsOutcome::Failed(failure) => line(text, format_args!("  failed: {failure:?}")),
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// How a question was carried, and how long it took.
fn lookup_means(lookup: &DnsLookup) -> String {
    let because = lookup.tcp_because.map_or("", |reason| match reason {
        TcpReason::Truncated => " (the reply over UDP was truncated)",
        TcpReason::CaseNotCopied => " (the reply over UDP did not copy the case of the name)",
        TcpReason::Malformed => " (the reply over UDP could not be read)",
        TcpReason::TooManyStrayReplies => " (too many stray replies came over UDP)",
    });
    let transport = if lookup.tcp_because.is_some() { "TCP" } else { "UDP" };
    format!("{transport} in {:.1} ms{because}", ms(lookup.elapsed_us))
}

/// One lookup in a line or a few.
pub fn lookup_account(text: &mut String, lookup: &DnsLookup) {
    let how = format!("{}{}", lookup_means(lookup), if lookup.authenticated { ", authenticated" } else { "" });
    line(text, format_args!("  {} {}: {} [{how}]", lookup.name, lookup.rtype, outcome_text(&lookup.outcome)));
    if let Some(validation) = &lookup.validation {
        validation_account(text, validation);
    }
    for ede in &lookup.extended_errors {
        line(text, format_args!("    resolver says: error {} {}", ede.code, ede.text.shown(160)));
    }
    if let DnsOutcome::Answer(set) = &lookup.outcome {
        for alias in &set.aliases {
            line(text, format_args!("    {} is an alias of {}", alias.owner, alias.target));
        }
        for rdata in set.rdata.iter().take(RECORDS_SHOWN_MAX) {
            line(text, format_args!("    {}", rdata_text(lookup, rdata)));
        }
        if set.rdata.len() > RECORDS_SHOWN_MAX {
            line(text, format_args!("    and {} more", set.rdata.len() - RECORDS_SHOWN_MAX));
        }
    }
}

/// The security status, and what it rests on.
fn validation_account(text: &mut String, validation: &Validation) {
    let (status, reasons) = validation_texts(validation);
    line(text, format_args!("    {status}"));
    for reason in reasons {
        line(text, format_args!("      {reason}"));
    }
}

/// The security status with its chain, and the reasons for it.
fn validation_texts(validation: &Validation) -> (String, Vec<String>) {
    let anchor = validation.anchor.map_or_else(String::new, |tag| format!(", from trust anchor {tag}"));
    let signers = match validation.signers.as_slice() {
        [] => String::new(),
        zones => format!(", signed by {}", zones.join(", ")),
    };
    let first = validation.first_fault.as_ref().map(|first| match validation.fault.as_ref() == Some(first) {
        true => "at first: the same".to_owned(),
        false => format!("at first: it {}", explain::dnssec::met(first)),
    });
    let reasons = validation.insecure.as_ref().map(explain::dnssec::insecure);
    let fault = validation.fault.as_ref().map(|fault| format!("it {}", explain::dnssec::met(fault)));
    (format!("{}{signers}{anchor}", validation.status), reasons.into_iter().chain(fault).chain(first).collect())
}

fn outcome_text(outcome: &DnsOutcome) -> String {
    match outcome {
        DnsOutcome::Answer(set) => format!("{} records, TTL {}", set.rdata.len(), set.ttl),
        DnsOutcome::Nodata(_) => "no such records".to_owned(),
        DnsOutcome::Nxdomain(_) => "no such name".to_owned(),
        DnsOutcome::Failed(failure) => failure_text(failure),
    }
}

fn failure_text(failure: &DnsFailure) -> String {
    format!("failed: {}", question_met(failure))
}

/// What a failed question met.
fn question_met(failure: &DnsFailure) -> String {
    match failure {
        DnsFailure::Rcode(code) => format!("the question was answered {}", rcode_text(*code)),
        DnsFailure::Timeout => "the question was never answered".to_owned(),
        DnsFailure::ResolverUnreachable(error) => {
            format!("the resolver could not be reached ({})", network_text(*error))
        }
        DnsFailure::Tcp(error) => {
            format!("TCP was needed, and the connection to the resolver failed ({})", network_text(*error))
        }
        DnsFailure::Malformed(problem) => format!("the answer cannot be read ({problem})"),
        DnsFailure::AliasLoop(aliases) => {
            let mut names: Vec<&str> = aliases.iter().take(1).map(|alias| alias.owner.as_str()).collect();
            names.extend(aliases.iter().map(|alias| alias.target.as_str()));
            format!("the aliases run in a loop: {}", names.join(" → "))
        }
        DnsFailure::AliasChainTooLong => {
            format!("there are more than {} aliases", parallax_validation::base::limits::ALIAS_HOPS_MAX)
        }
        DnsFailure::IncompleteChain(target) => {
            format!("the answer ends at the alias target {target} and says nothing about it")
        }
        DnsFailure::Dnssec(fault) => format!("the answer {}", explain::dnssec::met(fault)),
        DnsFailure::DeadlineOfTask => "the time for the whole check ran out before the answer".to_owned(),
        DnsFailure::Local(reason) => format!("the question could not be sent by us ({reason})"),
    }
}

fn rcode_text(code: u16) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        9 => "NOTAUTH".to_owned(),
        _ => format!("with rcode {code}"),
    }
}

fn network_text(error: NetworkError) -> &'static str {
    match error {
        NetworkError::Timeout => "no answer",
        NetworkError::Refused => "refused",
        NetworkError::Reset => "reset",
        NetworkError::ClosedEarly => "closed before an answer",
        NetworkError::Unreachable => "no route",
        NetworkError::Local => "our own side could not open it",
        NetworkError::Other => "network error",
    }
}

fn rdata_text(lookup: &DnsLookup, rdata: &parallax_validation::base::octets::Octets) -> String {
    use parallax_validation::{lookup::dns::names, observation::RecordType};
    let octets = rdata.as_slice();
    match lookup.rtype {
        RecordType::A => {
            <[u8; 4]>::try_from(octets).map_or_else(|_| rdata.shown(80), |o| std::net::IpAddr::from(o).to_string())
        }
        RecordType::Aaaa => {
            <[u8; 16]>::try_from(octets).map_or_else(|_| rdata.shown(80), |o| std::net::IpAddr::from(o).to_string())
        }
        RecordType::Txt => match parallax_validation::check::dcv::dns01::joined_strings(octets) {
            Some(joined) => format!("\"{}\"", parallax_validation::base::octets::Octets(joined).shown(80)),
            None => rdata.shown(80),
        },
        RecordType::Caa => match parallax_validation::check::caa::property::parse_rdata(octets) {
            Ok(property) => format!(
                "{} {} \"{}\"",
                property.flags,
                property.tag,
                parallax_validation::base::octets::Octets(property.value).shown(200)
            ),
            Err(error) => format!("{} (cannot be read: {error})", rdata.shown(80)),
        },
        RecordType::Cname | RecordType::Ptr => names::of_cname(octets).unwrap_or_else(|| rdata.shown(80)),
        RecordType::Mx => match names::of_mx(octets) {
            Some((preference, host)) => format!("{preference} {host}"),
            None => rdata.shown(80),
        },
        RecordType::Ns | RecordType::Soa | RecordType::Ds | RecordType::Dnskey => rdata.shown(80),
    }
}

/// A climb as a tree, level by level, and the decision with the rule behind it.
#[must_use]
pub fn climb(subject: &str, levels_planned: &[String], levels: &[DnsLookup], finding: &CaaFinding) -> String {
    tree::caa(subject, levels_planned, levels, finding)
}

/// A run in figures.
#[must_use]
pub fn summary(summary: &Summary) -> String {
    let mut text = String::new();
    line(
        &mut text,
        format_args!(
            "Verdicts: {} released in {:.1} s ({:.0} validations/s), {} taken over from the journal, {} lines refused",
            summary.released, summary.seconds, summary.validations_per_second, summary.resumed, summary.refused_lines
        ),
    );
    for (kind, count) in &summary.results {
        line(&mut text, format_args!("  {count:>8}  {kind}"));
    }
    line(
        &mut text,
        format_args!(
            "CPU: {:.0} µs per validation for this whole process; journal commits: {}",
            summary.cpu_us_per_validation, summary.commits
        ),
    );
    line(&mut text, format_args!("Latency (ms)      count       p50       p90       p99       max"));
    for (method, l) in &summary.latency {
        line(
            &mut text,
            format_args!(
                "  {method:<12} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
                l.count, l.p50_ms, l.p90_ms, l.p99_ms, l.max_ms
            ),
        );
    }
    line(&mut text, format_args!("Perspective     tasks  CPU µs/task   queries  connections  not corroborated"));
    for p in &summary.perspectives {
        let against: Vec<String> = p
            .states
            .iter()
            .filter(|(state, _)| *state != "confirmed")
            .map(|(state, count)| format!("{count} {state}"))
            .collect();
        // What is slower by nature must not be taken for the usual.
        let driver = if p.driver == "io-uring" { String::new() } else { format!(" ({})", p.driver) };
        line(
            &mut text,
            format_args!(
                "  {:<10} {:>8} {:>12.1} {:>9} {:>12}  {}{driver}",
                p.perspective,
                p.tasks,
                p.cpu_us_per_task,
                p.queries,
                p.connections,
                against.join(", ")
            ),
        );
    }
    let forged: Vec<String> = summary
        .perspectives
        .iter()
        .filter(|p| p.mismatched_replies > 0)
        .map(|p| format!("{} at {}", p.mismatched_replies, p.perspective))
        .collect();
    if !forged.is_empty() {
        line(&mut text, format_args!("Replies that fitted no question (mangled or forged): {}", forged.join(", ")));
    }
    if summary.restarts > 0 {
        let count = summary.restarts;
        line(&mut text, format_args!("Perspectives disagreed in {count} attempts, which were started afresh."));
    }
    if summary.rejected_reports > 0 {
        let count = summary.rejected_reports;
        line(&mut text, format_args!("ALARM: {count} reports answered nothing that was asked."));
    }
    if summary.late_answers > 0 {
        line(
            &mut text,
            format_args!(
                "Late answers: {}, of which {} go against a permission",
                summary.late_answers, summary.late_contradictions
            ),
        );
    }
    if let Some(compared) = summary.compared {
        let kinds = summary.kinds.unwrap_or(0);
        line(
            &mut text,
            format_args!(
                "Compared with the expected answers: {compared} results of {kinds} kinds, {} differ",
                summary.difference_count
            ),
        );
        for difference in &summary.differences {
            line(&mut text, format_args!("  {difference}"));
        }
    }
    if summary.interrupted {
        line(&mut text, format_args!("Stopped before the end of the file; --resume goes on from here"));
    }
    text
}
