//! What is set, each beside the key of Boulder's configuration that it stands for.

use parallax_validation::{
    base::{limits::ACCOUNT_URI_CHARS_MAX, name::DomainName, perspective::Rir},
    check::caa::authorize::CaaPolicy,
    plan::PlanLimits,
};
use serde::Deserialize;
use thiserror::Error;

/// Prefixes and issuer names, at most.
const LISTED_MAX: usize = 16;
/// Octets of a perspective's name.
const PERSPECTIVE_BYTES_MAX: usize = 64;
/// Characters of the longest account number.
const ACCOUNT_DIGITS_MAX: usize = 19;
/// The shortest time that [`PlanLimits::check`] takes.
pub(super) const PART_MS_MIN: u32 = 50;

/// How the node answers as a remote validation authority.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `perspective`: what the caller expects to be told, to the octet; the node's own name if absent.
    #[serde(default)]
    pub perspective: Option<String>,
    /// `rir`: what the caller expects to be told, to the octet; by default the node's own, one of ARIN, RIPE, APNIC,
    /// LACNIC, AFRINIC.
    #[serde(default)]
    pub rir: Option<String>,
    /// `issuerDomain`: the CA's names in CAA records and those of dns-persist-01.
    pub issuer_domains: Vec<String>,
    /// `accountURIPrefixes`: what makes URIs of account numbers. The first is used for control, all for CAA.
    pub account_uri_prefixes: Vec<String>,
    /// `features.DNSAccount01Enabled`: whether dns-account-01 is offered.
    #[serde(default)]
    pub dns_account_01: bool,
    /// `features.DNSPersist01Enabled`: whether dns-persist-01 is offered.
    #[serde(default)]
    pub dns_persist_01: bool,
    /// `dnsTimeout`, `dnsTries` and the times that Boulder has compiled in; never more than the caller leaves.
    #[serde(default)]
    pub limits: PlanLimits,
    /// No key of Boulder's, which always does so: whether bit 1 of a CAA record's flags is critical as 128 is.
    #[serde(default = "yes")]
    pub flags_one_is_critical: bool,
}

fn yes() -> bool {
    true
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{key}: {problem}")]
pub struct SettingsError {
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub problem: String,
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// The first that cannot be, by key.
    pub fn check(&self) -> Result<(), SettingsError> {
        let fault = |key, problem: &str| Err(SettingsError { key, problem: problem.to_owned() });
        let named = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| (1..=PERSPECTIVE_BYTES_MAX).contains(&text.len()) && is_visible(text))
        };
        if !named(&self.perspective) {
            return fault("perspective", "1 to 64 visible characters of ASCII are allowed");
        }
        if !self.rir.as_ref().is_none_or(|rir| Rir::ALL.iter().any(|known| rir_in_boulder(*known) == rir)) {
            return fault("rir", "it is none of ARIN, RIPE, APNIC, LACNIC, AFRINIC");
        }
        if !(1..=LISTED_MAX).contains(&self.issuer_domains.len()) {
            return fault("issuer_domains", "1 to 16 are allowed");
        }
        if let Some(bad) = self.issuer_domains.iter().find(|name| !is_normalised(name)) {
            let problem = format!("'{}' is no domain name in lower case", bad.escape_default());
            return Err(SettingsError { key: "issuer_domains", problem });
        }
        if !(1..=LISTED_MAX).contains(&self.account_uri_prefixes.len()) {
            return fault("account_uri_prefixes", "1 to 16 are allowed");
        }
        if let Some(bad) = self.account_uri_prefixes.iter().find(|prefix| !is_prefix(prefix)) {
            let problem = format!("'{}' does not make a URI that may stand in a record", bad.escape_default());
            return Err(SettingsError { key: "account_uri_prefixes", problem });
        }
        self.limits.check().map_err(|problem| SettingsError { key: "limits", problem })
    }

    /// What is said about CAA. A lookup that failed never permits, as in Boulder.
    pub(super) fn policy(&self) -> CaaPolicy {
        CaaPolicy {
            issuer_domains: self.issuer_domains.clone(),
            flags_one_is_critical: self.flags_one_is_critical,
            lookup_failure_permits: false,
            ..CaaPolicy::default()
        }
    }

    /// The limits as far as `left_ms` leaves them; none if that is too little for anything.
    pub(super) fn limits_within(&self, left_ms: u32) -> Option<PlanLimits> {
        let set = self.limits;
        let task_deadline_ms = set.task_deadline_ms.min(left_ms);
        if task_deadline_ms < PART_MS_MIN {
            return None;
        }
        let fitting = u8::try_from(task_deadline_ms / PART_MS_MIN).unwrap_or(u8::MAX);
        let dns_transmissions = set.dns_transmissions.min(fitting);
        Some(PlanLimits {
            task_deadline_ms,
            dns_try_ms: set.dns_try_ms.min(task_deadline_ms / u32::from(dns_transmissions)),
            dns_transmissions,
            // Nothing is gained by a repeat if no failure permits.
            caa_repeat_ms: 0,
            http_connect_ms: set.http_connect_ms.min(task_deadline_ms),
            http_response_ms: set.http_response_ms.min(task_deadline_ms),
        })
    }
}

/// A region in Boulder's spelling.
#[must_use]
pub fn rir_in_boulder(rir: Rir) -> &'static str {
    match rir {
        Rir::Afrinic => "AFRINIC",
        Rir::Apnic => "APNIC",
        Rir::Arin => "ARIN",
        Rir::Lacnic => "LACNIC",
        Rir::RipeNcc => "RIPE",
    }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn is_normalised(name: &str) -> bool {
    name.parse::<DomainName>().is_ok_and(|parsed| parsed.as_str() == name)
}

/// With any account number it must be an account URI, also for dns-persist-01.
fn is_prefix(prefix: &str) -> bool {
    let has_scheme = prefix.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
    let fits = prefix.len() + ACCOUNT_DIGITS_MAX <= ACCOUNT_URI_CHARS_MAX;
    has_scheme && fits && is_visible(prefix) && !prefix.contains(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            perspective: None,
            rir: None,
            issuer_domains: vec!["ca.example".to_owned()],
            account_uri_prefixes: vec!["https://ca.example/acct/".to_owned()],
            dns_account_01: false,
            dns_persist_01: false,
            limits: PlanLimits::default(),
            flags_one_is_critical: true,
        }
    }

    #[test]
    fn ok_what_is_not_written_is_as_in_boulder() {
        let text = r#"{"issuer_domains":["ca.example"],"account_uri_prefixes":["https://ca.example/acct/"]}"#;
        let read: Settings = serde_json::from_str(text).expect("settings");
        assert_eq!(read, settings());
        assert_eq!(read.check(), Ok(()));
    }

    #[test]
    fn err_settings_that_cannot_be_are_named() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings
        };
        for (settings, key) in [
            (with(|s| s.perspective = Some(String::new())), "perspective"),
            (with(|s| s.perspective = Some("x".repeat(65))), "perspective"),
            (with(|s| s.perspective = Some("two words".to_owned())), "perspective"),
            (with(|s| s.rir = Some("RIPE NCC".to_owned())), "rir"),
            (with(|s| s.issuer_domains.clear()), "issuer_domains"),
            (with(|s| s.issuer_domains = vec!["CA.example".to_owned()]), "issuer_domains"),
            (with(|s| s.account_uri_prefixes.clear()), "account_uri_prefixes"),
            (with(|s| s.account_uri_prefixes = vec!["acct/".to_owned()]), "account_uri_prefixes"),
            (with(|s| s.account_uri_prefixes = vec!["u:a;b".to_owned()]), "account_uri_prefixes"),
            (with(|s| s.account_uri_prefixes = vec![format!("u:{}", "a".repeat(512))]), "account_uri_prefixes"),
            (with(|s| s.limits.dns_transmissions = 0), "limits"),
        ] {
            assert_eq!(settings.check().expect_err(key).key, key);
        }
        for text in ["{}", r#"{"issuer_domains":[],"account_uri_prefixes":[],"userAgent":"x"}"#] {
            assert!(serde_json::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_keep_their_relations_however_little_is_left() {
        for transmissions in 1..=3 {
            let mut settings = settings();
            settings.limits.dns_transmissions = transmissions;
            for left in (0..400).chain([5_000, 14_980, 15_000, 100_000, u32::MAX]) {
                match settings.limits_within(left) {
                    None => assert!(left < PART_MS_MIN, "{left}"),
                    Some(limits) => {
                        assert_eq!(limits.check(), Ok(()), "{left}");
                        assert!(limits.task_deadline_ms <= left, "{left}");
                    }
                }
            }
        }
    }
}
