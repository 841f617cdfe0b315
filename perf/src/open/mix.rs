//! Mixes: which kinds of the laboratory's requests are asked, and how often each.
//!
//! A mix is one of those built in, or a file: `{"name": "mine", "kinds": {"dns-ok": 0.4, "http-ok": 0.6}}`. Shares need
//! not add up to 1; they are divided by their sum, and whoever reads the mix is told.
//!
//! What is known of a real CA, and went into the mix `ca`: about 80 % of Let's Encrypt's validations fail (Boulder's issue
//! 7058, of 2023). What is assumed, because nobody has published it: that one request in five is about a target that
//! never answers, that a quarter of those that pass are aliases, and how methods and the other failures are shared out.
//! No zone of the laboratory is signed, so the mix has no share of signed ones.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use thiserror::Error;

use crate::lab::kinds::{Kind, Pace};

/// The longest file with a mix that is read, octets.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest name of a mix, characters.
const NAME_CHARS_MAX: usize = 64;
/// How far a sum may be from 1 without a word.
const ROUNDING: f64 = 1e-9;

/// The mixes that need no file, with their kinds.
const BUILT_IN: [(&str, &[(&str, f64)]); 7] = [
    ("dns-01", &[("dns-ok", 1.0)]),
    ("http-01", &[("http-ok", 1.0)]),
    ("tls-alpn-01", &[("alpn-ok", 1.0)]),
    ("caa", &[("caa-issue", 1.0)]),
    (
        "refused-at-primary",
        &[
            ("http-wrong-body", 0.2),
            ("http-404-echo", 0.2),
            ("http-nxdomain", 0.2),
            ("dns-wrong", 0.2),
            ("dns-nxdomain", 0.1),
            ("caa-other", 0.1),
        ],
    ),
    (
        "slow",
        &[
            ("http-black-hole", 0.3),
            ("http-slow-head", 0.3),
            ("dns-silent", 0.2),
            ("caa-silent", 0.1),
            ("alpn-never", 0.1),
        ],
    ),
    (
        "ca",
        &[
            // One in five passes.
            ("http-ok", 0.06),
            ("http-cname", 0.02),
            ("http-cname-5", 0.01),
            ("http-redirect-https", 0.01),
            ("dns-ok", 0.06),
            ("dns-cname", 0.02),
            ("alpn-ok", 0.02),
            // One in five is waited for in vain.
            ("http-black-hole", 0.10),
            ("http-slow-head", 0.05),
            ("dns-silent", 0.03),
            ("alpn-never", 0.02),
            // The others fail at once.
            ("http-nxdomain", 0.12),
            ("http-404-echo", 0.12),
            ("http-wrong-body", 0.08),
            ("http-refused", 0.08),
            ("http-servfail", 0.03),
            ("dns-nxdomain", 0.11),
            ("dns-wrong", 0.03),
            ("joint-caa-other", 0.02),
            ("alpn-refused", 0.01),
        ],
    ),
];

/// Names of the mixes that need no file.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// Kinds with their shares.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Its name.
    pub name: String,
    /// Kinds with shares above 0, whose sum is 1.
    pub kinds: Vec<(Kind, f64)>,
    /// What the shares added up to as they were written, if not to 1.
    pub written_sum: Option<f64>,
}

/// Why there is no such mix.
#[derive(Debug, Error)]
pub enum MixError {
    /// Neither a name that is known nor a file.
    #[error("{0:?} is neither a mix ({known}) nor a file", known = built_in_names().collect::<Vec<_>>().join(", "))]
    Unknown(String),
    /// The file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is too long for a mix.
    #[error("{path}: {octets} octets; a mix has at most {FILE_BYTES_MAX}")]
    Long {
        /// The file.
        path: String,
        /// How long it is.
        octets: u64,
    },
    /// It is not the form of a mix.
    #[error("{path}: {error}")]
    Json {
        /// The file.
        path: String,
        /// Where and why.
        error: serde_json::Error,
    },
    /// The name is empty, too long or has odd characters.
    #[error("name {0:?}: one to {NAME_CHARS_MAX} letters, digits, dots, hyphens or underscores are wanted")]
    Name(String),
    /// The laboratory has no such kind.
    #[error("kinds.{0}: the laboratory has no such kind; perf/src/lab/kinds.rs lists them")]
    Kind(String),
    /// A kind that only a file of requests can hold.
    #[error("kinds.{0}: is about the lines of a file, and cannot be asked over the API")]
    NotForApi(&'static str),
    /// A share that is none.
    #[error("kinds.{kind}: {share} is not a share")]
    Share {
        /// Of which kind.
        kind: String,
        /// What is written.
        share: f64,
    },
    /// No kind has a share.
    #[error("kinds: none has a share above 0")]
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    kinds: BTreeMap<String, f64>,
}

impl Mix {
    /// The mix of a name, or out of a file.
    ///
    /// # Errors
    /// There is none, or it is faulty.
    pub fn load(name_or_file: &str) -> Result<Self, MixError> {
        if let Some((name, kinds)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_file) {
            return Self::of(name, kinds.iter().copied());
        }
        let path = Path::new(name_or_file);
        if !path.is_file() {
            return Err(MixError::Unknown(name_or_file.to_owned()));
        }
        let file = |error| MixError::File { path: name_or_file.to_owned(), error };
        let octets = fs::metadata(path).map_err(file)?.len();
        if octets > FILE_BYTES_MAX {
            return Err(MixError::Long { path: name_or_file.to_owned(), octets });
        }
        Self::parse(&fs::read_to_string(path).map_err(file)?, name_or_file)
    }

    /// The mix of a file's text; `path` is for messages.
    ///
    /// # Errors
    /// It is faulty.
    pub fn parse(text: &str, path: &str) -> Result<Self, MixError> {
        let file: File = serde_json::from_str(text).map_err(|error| MixError::Json { path: path.to_owned(), error })?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if file.name.is_empty() || file.name.len() > NAME_CHARS_MAX || !file.name.chars().all(is_plain) {
            return Err(MixError::Name(file.name));
        }
        Self::of(&file.name, file.kinds.iter().map(|(kind, share)| (kind.as_str(), *share)))
    }

    fn of<'a>(name: &str, shares: impl Iterator<Item = (&'a str, f64)>) -> Result<Self, MixError> {
        let mut kinds = Vec::new();
        for (slug, share) in shares {
            let kind = Kind::ALL.iter().copied().find(|kind| kind.slug() == slug);
            let kind = kind.ok_or_else(|| MixError::Kind(slug.to_owned()))?;
            if matches!(kind, Kind::BadSyntax | Kind::BadDuplicate) {
                return Err(MixError::NotForApi(kind.slug()));
            }
            if !(share.is_finite() && share >= 0.0) {
                return Err(MixError::Share { kind: slug.to_owned(), share });
            }
            if share > 0.0 {
                kinds.push((kind, share));
            }
        }
        let sum: f64 = kinds.iter().map(|(_, share)| share).sum();
        if kinds.is_empty() || !sum.is_finite() {
            return Err(MixError::Empty);
        }
        kinds.iter_mut().for_each(|(_, share)| *share /= sum);
        Ok(Self { name: name.to_owned(), kinds, written_sum: ((sum - 1.0).abs() > ROUNDING).then_some(sum) })
    }

    /// The shares by name.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<String, f64> {
        self.kinds.iter().map(|(kind, share)| (kind.slug().to_owned(), *share)).collect()
    }

    /// Whether any of it is waited for.
    #[must_use]
    pub fn has_slow(&self) -> bool {
        self.kinds.iter().any(|(kind, _)| kind.pace() == Pace::Slow)
    }

    /// The place among the kinds that a random number from 0 to 1 falls on.
    #[must_use]
    pub fn pick(&self, random: f64) -> usize {
        let mut below = 0.0;
        for (place, (_, share)) in self.kinds.iter().enumerate() {
            below += share;
            if random < below {
                return place;
            }
        }
        // Sums of shares may end a little below 1.
        self.kinds.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::kinds::Verdict;

    fn share_of(mix: &Mix, holds: impl Fn(Kind) -> bool) -> f64 {
        mix.kinds.iter().filter(|(kind, _)| holds(*kind)).map(|(_, share)| share).sum()
    }

    #[test]
    fn ok_every_mix_that_is_built_in_is_whole() {
        for name in built_in_names() {
            let mix = Mix::load(name).expect(name);
            assert_eq!(mix.written_sum, None, "{name}");
            assert_eq!(mix.name, name);
        }
    }

    #[test]
    fn ok_the_mix_of_a_ca_fails_and_waits_as_often_as_is_said() {
        let mix = Mix::load("ca").expect("a mix");
        let near = |share: f64, right: f64| (share - right).abs() < 1e-9;
        assert!(near(share_of(&mix, |kind| kind.outcome().verdict == Verdict::Fail), 0.8));
        assert!(near(share_of(&mix, |kind| kind.pace() == Pace::Slow), 0.2));
        assert!(mix.has_slow());
    }

    #[test]
    fn ok_what_a_mix_is_called_for_holds_for_all_of_it() {
        use crate::lab::kinds::DecidedBy;
        let all = |name: &str, holds: &dyn Fn(Kind) -> bool| {
            Mix::load(name).expect(name).kinds.iter().all(|(kind, _)| holds(*kind))
        };
        assert!(all("refused-at-primary", &|kind| kind.outcome().decided_by == DecidedBy::Primary
            && kind.pace() == Pace::Quick));
        assert!(all("slow", &|kind| kind.pace() == Pace::Slow));
        for name in ["dns-01", "http-01", "tls-alpn-01", "caa"] {
            assert!(all(name, &|kind| kind.method().name() == name && kind.outcome().verdict == Verdict::Pass));
        }
    }

    #[test]
    fn ok_shares_are_divided_by_their_sum_and_that_is_told() {
        let text = r#"{"name": "mine", "kinds": {"dns-ok": 3, "http-ok": 1, "caa-none": 0}}"#;
        let mix = Mix::parse(text, "x").expect("a mix");
        assert_eq!(mix.shares(), BTreeMap::from([("dns-ok".to_owned(), 0.75), ("http-ok".to_owned(), 0.25)]));
        assert_eq!(mix.written_sum, Some(4.0));
        assert!(!mix.has_slow());
    }

    #[test]
    fn ok_each_kind_is_picked_by_its_share() {
        let mix = Mix::parse(r#"{"name": "m", "kinds": {"dns-ok": 0.25, "http-ok": 0.75}}"#, "x").expect("a mix");
        let picked = [0.0, 0.249, 0.251, 0.999, 1.0].map(|random| mix.kinds[mix.pick(random)].0);
        assert_eq!(picked, [Kind::DnsOk, Kind::DnsOk, Kind::HttpOk, Kind::HttpOk, Kind::HttpOk]);
    }

    #[test]
    fn err_each_fault_is_named() {
        let table = [
            (r#"{"name": "m"}"#, "x: missing field `kinds`"),
            (r#"{"name": "m", "kinds": {}, "more": 1}"#, "unknown field `more`"),
            (r#"{"name": "m", "kinds": {"no-such": 1}}"#, "kinds.no-such: the laboratory has no such kind"),
            (r#"{"name": "m", "kinds": {"bad-syntax": 1}}"#, "kinds.bad-syntax: is about the lines of a file"),
            (r#"{"name": "m", "kinds": {"dns-ok": -1}}"#, "kinds.dns-ok: -1 is not a share"),
            (r#"{"name": "m", "kinds": {"dns-ok": 0}}"#, "kinds: none has a share above 0"),
            (r#"{"name": "<m>", "kinds": {"dns-ok": 1}}"#, "name \"<m>\""),
            (r#"{"name": "m", "kinds": {"dns-ok": 1e308, "http-ok": 1e308}}"#, "kinds: none has a share"),
        ];
        for (text, why) in table {
            let error = Mix::parse(text, "x").expect_err(text).to_string();
            assert!(error.contains(why), "{error} where {why}");
        }
        let unknown = Mix::load("dns-1").expect_err("no such mix").to_string();
        assert!(unknown.contains("\"dns-1\" is neither a mix (dns-01,"), "{unknown}");
    }
}
