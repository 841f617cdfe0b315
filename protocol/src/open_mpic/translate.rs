//! What a request of Open MPIC means in our own terms.
//!
//! Invariant: nothing that is translated is laxer than what was asked. What cannot be carried out at least as strictly
//! is refused, and nothing is sent. Invariant: a caller may allow fewer failures than the rules do, and never more.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use parallax_validation::request::{CheckRequest, RawRequest, RequestId, RequestRules, Restrictions};

use super::request::{Asked, CaaParameters, Check, DcvParameters, Issue, Orchestration};

/// How many remotes are asked, and how many of them may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// Remotes of an attempt.
    pub remotes: u8,
    /// How many of them may fail to corroborate.
    pub allowed: u8,
    /// Whether the request says so, beyond the rules.
    pub by_request: bool,
    /// Attempts at most.
    pub attempts: u32,
}

impl Counting {
    /// How many remotes must confirm.
    #[must_use]
    pub fn quorum(&self) -> u8 {
        self.remotes.saturating_sub(self.allowed)
    }
}

/// Failures that Open MPIC's table allows for so many remotes.
fn table(remotes: i64) -> i64 {
    if remotes <= 5 { 1 } else { 2 }
}

/// How an attempt is counted, by the rules and by what a request demands beyond them. A demand that is no lawful one
/// is refused, whether or not the other count was sent.
///
/// # Errors
/// What is wrong with `orchestration_parameters`.
pub fn counting(
    asked: Option<&Orchestration>,
    remotes: u8,
    allowed: u8,
    attempts_max: u32,
) -> Result<Counting, Vec<Issue>> {
    let mut issues = Vec::new();
    let asked = asked.copied().unwrap_or_default();
    let ours = i64::from(remotes);
    let count = asked.perspective_count.unwrap_or(ours);
    if asked.perspective_count.is_some() && !(2..=ours).contains(&count) {
        issues.push(Issue::meaning("invalid-perspective-count", format!("Invalid perspective count: {count}")));
    }
    if let Some(quorum) = asked.quorum_count
        && (quorum < 1 || quorum > count || count.saturating_sub(quorum) > table(count))
    {
        issues.push(Issue::meaning("invalid-quorum-count", format!("Invalid quorum count: {quorum}")));
    }
    if let Some(cohort) = asked.cohort_for_single_attempt.filter(|cohort| *cohort < 1) {
        issues.push(Issue::meaning("parallax-invalid-cohort", format!("Invalid cohort number: {cohort}")));
    }
    if !issues.is_empty() {
        return Err(issues);
    }
    let by_request = asked.perspective_count.is_some() || asked.quorum_count.is_some();
    let demanded = asked.quorum_count.map_or_else(|| table(count), |quorum| count.saturating_sub(quorum));
    let demanded = u8::try_from(demanded).unwrap_or(0);
    let attempts = match asked.cohort_for_single_attempt {
        Some(_) => 1,
        None => u32::try_from(asked.max_attempts.unwrap_or(1).max(1)).unwrap_or(u32::MAX).min(attempts_max.max(1)),
    };
    let allowed = if by_request { allowed.min(demanded) } else { allowed };
    Ok(Counting { remotes, allowed, by_request, attempts })
}

/// What a request is translated with.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The names that stand for the CA.
    pub issuer_domains: &'a [String],
    /// What requests are held against.
    pub rules: &'a RequestRules,
    /// When it begins.
    pub now: Timestamp,
    /// Names it, if its trace identifier cannot.
    pub id: &'a str,
    /// Whose request it is.
    pub account: Option<&'a str>,
}

/// Says what a request means.
///
/// # Errors
/// Why it is refused.
pub fn translate(
    asked: &Asked,
    context: &Context<'_>,
    counting: Option<&Counting>,
) -> Result<CheckRequest, Vec<Issue>> {
    let mut issues = Vec::new();
    let target = &asked.domain_or_ip_target;
    if target.contains('@') {
        issues.push(refused("domain_or_ip_target: a domain name or an address is wanted, not a mailbox"));
    }
    let restrictions = Restrictions {
        non_corroborations_max: counting.filter(|counting| counting.by_request).map(|counting| counting.allowed),
        ..Restrictions::default()
    };
    let trace = asked.trace_identifier.clone();
    let raw = RawRequest {
        id: trace.filter(|trace| RequestId::try_from(trace.clone()).is_ok()),
        identifier: plain_target(target).to_owned(),
        account: context.account.map(str::to_owned),
        restrictions,
        ..RawRequest::default()
    };
    let raw = match &asked.check {
        Check::Caa(parameters) => caa(raw, parameters.as_ref(), context, &mut issues),
        Check::Dcv(parameters) => dcv(raw, parameters, context, &mut issues),
    };
    if !issues.is_empty() {
        return Err(issues);
    }
    CheckRequest::parse(raw, context.id, context.rules, context.now).map_err(|error| vec![refused(error.to_string())])
}

fn refused(message: impl Into<String>) -> Issue {
    Issue::meaning("parallax-refused-request", message)
}

fn unsupported(message: &str) -> Issue {
    Issue::meaning("parallax-unsupported-parameter", message)
}

/// Without the brackets of an IPv6 address.
fn plain_target(target: &str) -> &str {
    let inner = target.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()).unwrap_or(target)
}

fn caa(
    raw: RawRequest,
    parameters: Option<&CaaParameters>,
    context: &Context<'_>,
    issues: &mut Vec<Issue>,
) -> RawRequest {
    let domains = parameters.and_then(|parameters| parameters.caa_domains.clone()).unwrap_or_default();
    check_domains(&domains, "caa_domains", context, issues);
    RawRequest {
        method: "caa".to_owned(),
        certificate_type: Some(parameters.map_or("tls-server", |parameters| parameters.certificate_type).to_owned()),
        restrictions: Restrictions {
            issuer_domains: domains,
            lookup_failure_forbids: !parameters.is_some_and(|parameters| parameters.allow_lookup_failure),
            ..raw.restrictions
        },
        ..raw
    }
}

/// A caller may name fewer of the CA's names, and no other.
fn check_domains(domains: &[String], field: &str, context: &Context<'_>, issues: &mut Vec<Issue>) {
    let is_own = |domain: &String| context.issuer_domains.iter().any(|own| own.eq_ignore_ascii_case(domain));
    for domain in domains.iter().filter(|domain| !is_own(domain)) {
        let shown: String = domain.chars().take(100).collect();
        let message = format!("{field}: '{shown}' is none of the names that stand for this CA");
        issues.push(Issue::meaning("parallax-unknown-issuer-domain", message));
    }
}

fn dcv(raw: RawRequest, parameters: &DcvParameters, context: &Context<'_>, issues: &mut Vec<Issue>) -> RawRequest {
    // One check a call: CAA is asked for by another.
    let raw = RawRequest { caa: Some(false), ..raw };
    match parameters {
        DcvParameters::WebsiteChange { challenge_value, http_token_path, https, http_headers, match_regex, .. } => {
            check_value(challenge_value, issues);
            check_headers(http_headers.as_ref().is_some_and(|headers| !headers.is_empty()), issues);
            if match_regex.is_some() {
                issues.push(unsupported("match_regex: a pattern could match what is not the value; give none"));
            }
            RawRequest {
                method: "website-change".to_owned(),
                random_value: Some(challenge_value.clone()),
                file: Some(http_token_path.clone()),
                scheme: Some(if *https { "https" } else { "http" }.to_owned()),
                ..raw
            }
        }
        DcvParameters::DnsChange { challenge_value, dns_name_prefix, dns_record_type, require_exact_match, .. } => {
            check_value(challenge_value, issues);
            let is_txt = *dns_record_type == "TXT";
            if *require_exact_match && !is_txt {
                issues.push(unsupported(
                    "require_exact_match: with CNAME and CAA the value is whole labels or a whole parameter value, \
                     which need not be the whole record; give false",
                ));
            }
            let value = match *dns_record_type {
                "CNAME" => challenge_value.strip_suffix('.').unwrap_or(challenge_value),
                _ => challenge_value,
            };
            RawRequest {
                method: "dns-change".to_owned(),
                random_value: Some(value.to_owned()),
                record_type: Some((*dns_record_type).to_owned()),
                prefix_label: dns_name_prefix.clone().filter(|prefix| !prefix.is_empty()),
                within: (is_txt && !*require_exact_match).then_some(true),
                ..raw
            }
        }
        DcvParameters::DnsPersistent { issuer_domain_names, expected_account_uri } => {
            check_domains(issuer_domain_names, "issuer_domain_names", context, issues);
            let issuer_domains = issuer_domain_names.clone();
            RawRequest {
                method: "dns-persist-01".to_owned(),
                account_uri: Some(expected_account_uri.clone()),
                restrictions: Restrictions { issuer_domains, ..raw.restrictions },
                ..raw
            }
        }
        DcvParameters::AcmeHttp01 { token, key_authorization, http_headers } => {
            check_headers(http_headers.as_ref().is_some_and(|headers| !headers.is_empty()), issues);
            RawRequest {
                method: "http-01".to_owned(),
                token: Some(token.clone()),
                key_authorization: Some(key_authorization.clone()),
                ..raw
            }
        }
        DcvParameters::AcmeDns01 { key_authorization_hash } => {
            let key_authorization_digest = Some(digest(key_authorization_hash));
            RawRequest { method: "dns-01".to_owned(), key_authorization_digest, ..raw }
        }
        DcvParameters::AcmeTlsAlpn01 { key_authorization_hash } => {
            let key_authorization_digest = Some(digest(key_authorization_hash));
            RawRequest { method: "tls-alpn-01".to_owned(), key_authorization_digest, ..raw }
        }
        DcvParameters::Contact { method, challenge_value, dns_name_prefix } => {
            if dns_name_prefix.as_ref().is_some_and(|prefix| !prefix.is_empty()) {
                issues.push(unsupported(
                    "dns_name_prefix: a contact is looked up at the name itself (TLS BR 2.3.1 App. A.1); give none",
                ));
            }
            let contact = Some(challenge_value.clone());
            RawRequest { method: method.label().to_owned(), contact, ..raw }
        }
        DcvParameters::NotOffered { validation_method } => {
            let why = match *validation_method {
                "ip-address" => "ended on 2026-03-15 (TLS BR 2.3.1 §3.2.2.4.8)",
                "reverse-address-lookup" => {
                    "shows no control by itself: it is a step before another method (TLS BR 2.3.1 §3.2.2.5.3)"
                }
                _ => "cannot be asked for by this interface, which has no parameters for it",
            };
            issues.push(Issue::meaning("parallax-unsupported-method", format!("{validation_method} {why}")));
            raw
        }
    }
}

/// An empty value is found in every record and every file.
fn check_value(value: &str, issues: &mut Vec<Issue>) {
    if value.is_empty() {
        let message = "challenge_value: it is empty, and so would be found everywhere";
        issues.push(Issue::meaning("empty-challenge-value", message));
    }
}

fn check_headers(given: bool, issues: &mut Vec<Issue>) {
    if given {
        issues.push(unsupported("http_headers: a field such as Host could lead to another site; give none"));
    }
}

/// SHA-256 in hexadecimal as base64url; anything else as it is.
fn digest(text: &str) -> String {
    let octets: Option<Vec<u8>> = (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| (0..32).filter_map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect());
    octets.map_or_else(|| text.to_owned(), |octets| BASE64_URL_SAFE_NO_PAD.encode(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_lose_the_brackets_of_an_ipv6_address_and_nothing_else() {
        for (target, wanted) in [
            ("[2600::1]", "2600::1"),
            ("2600::1", "2600::1"),
            ("[8.8.4.4]", "[8.8.4.4]"),
            ("[a.example]", "[a.example]"),
            ("[[2600::1]]", "[[2600::1]]"),
            ("[]", "[]"),
            ("*.a.example", "*.a.example"),
        ] {
            assert_eq!(plain_target(target), wanted);
        }
    }

    #[test]
    fn digests_in_hexadecimal_become_base64url() {
        assert_eq!(digest(&"00".repeat(32)), "A".repeat(43));
        assert_eq!(digest(&"fF".repeat(32)), format!("{}8", "_".repeat(42)));
        for other in ["", "xyz", &"A".repeat(43), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(digest(other), other);
        }
    }

    #[test]
    fn counts_by_the_table() {
        let counted = |remotes, perspective_count, quorum_count| {
            let asked = Orchestration { perspective_count, quorum_count, ..Orchestration::default() };
            counting(Some(&asked), remotes, if remotes < 6 { 1 } else { 2 }, 3).ok().map(|counting| counting.quorum())
        };
        for (remotes, count, quorum, needed) in [
            (5, None, None, Some(4)),
            (6, None, None, Some(4)),
            (5, None, Some(4), Some(4)),
            (5, None, Some(5), Some(5)),
            (5, None, Some(3), None),
            (5, None, Some(6), None),
            (6, None, Some(4), Some(4)),
            (6, None, Some(3), None),
            (6, Some(6), Some(5), Some(5)),
            (6, Some(5), Some(3), None),
            (6, Some(5), Some(4), Some(5)),
            (6, Some(5), None, Some(5)),
            (6, Some(3), Some(3), Some(6)),
            (6, Some(7), None, None),
            (2, Some(2), Some(1), Some(1)),
            (1, None, Some(0), None),
            (0, None, Some(0), None),
        ] {
            assert_eq!(counted(remotes, count, quorum), needed, "{remotes} {count:?} {quorum:?}");
        }
    }
}
