//! The Public Suffix List, of which only the ICANN part says how far labels may be dropped (TLS BR 2.3.1 §1.6.1, Base
//! Domain Name; §3.2.2.6; req D1, B17).
//!
//! A list is built in; a newer one may be given as a file. Where both are asked, the stricter answer counts.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use publicsuffix::{List, Psl};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A label that no list has a rule for.
const ANY_LABEL: &str = "0-0";

/// The base domain of a name by the built-in list's ICANN part: one label below the public suffix. None if the name
/// is a suffix itself.
fn icann_base(name: &str) -> Option<&str> {
    base_in(&psl::List, name)
}

/// Labels of the longest ICANN suffix of a name.
fn icann_labels(list: &impl Psl, name: &str) -> usize {
    let Some(suffix) = list.suffix(name.as_bytes()) else { return 1 };
    let Ok(mut suffix_text) = std::str::from_utf8(suffix.as_bytes()) else { return name.split('.').count() };
    if suffix.typ() != Some(publicsuffix::Type::Private) {
        return suffix_text.split('.').count();
    }
    // A longer rule of the private part hides the ICANN rule; what that is, a name beside the private suffix shows.
    while let Some((_, parent)) = suffix_text.split_once('.') {
        let beside = format!("{ANY_LABEL}.{parent}");
        match list.suffix(beside.as_bytes()) {
            Some(found) if found.typ() != Some(publicsuffix::Type::Private) => {
                return found.as_bytes().split(|b| *b == b'.').count();
            }
            _ => suffix_text = parent,
        }
    }
    1
}

fn base_in<'a>(list: &impl Psl, name: &'a str) -> Option<&'a str> {
    let labels = name.split('.').count();
    let above = labels.checked_sub(icann_labels(list, name) + 1)?;
    let mut rest = name;
    for _ in 0..above {
        rest = rest.split_once('.').map_or(rest, |(_, parent)| parent);
    }
    Some(rest)
}

/// A list read from a file.
#[derive(Clone, Debug)]
pub struct SuffixList {
    list: List,
    rules: String,
    version: Option<String>,
    digest: String,
}

/// Why a text is no list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SuffixListError {
    /// It cannot be read.
    #[error("it is no public suffix list: {0}")]
    Unreadable(String),
    /// Its ICANN part lacks what every list has.
    #[error("its ICANN part has no rule for '{0}', so it is cut short or another file")]
    Incomplete(&'static str),
}

impl FromStr for SuffixList {
    type Err = SuffixListError;

    fn from_str(text: &str) -> Result<Self, SuffixListError> {
        let list: List = text.parse().map_err(|error| SuffixListError::Unreadable(format!("{error}")))?;
        for known in ["co.uk", "com.au", "co.jp"] {
            let name = format!("{ANY_LABEL}.{known}");
            if icann_labels(&list, &name) != 2 {
                return Err(SuffixListError::Incomplete(known));
            }
        }
        let version = text.lines().take(50).find_map(|line| line.strip_prefix("// VERSION: ")).map(str::to_owned);
        let digest = Sha256::digest(text.as_bytes()).iter().take(8).map(|octet| format!("{octet:02x}")).collect();
        let (begin, end) = ("// ===BEGIN ICANN DOMAINS===", "// ===END ICANN DOMAINS===");
        let icann = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(icann, _)| icann);
        let rules = icann.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        let rules = rules.fold(format!("{begin}\n"), |text, rule| text + rule + "\n") + end + "\n";
        Ok(Self { list, rules, version: version.map(|version| version.chars().take(40).collect()), digest })
    }
}

impl SuffixList {
    /// The base domain of a name by this list's ICANN part.
    #[must_use]
    pub fn icann_base<'a>(&self, name: &'a str) -> Option<&'a str> {
        base_in(&self.list, name)
    }

    /// Its ICANN rules alone, in the form of a list.
    #[must_use]
    pub fn rules(&self) -> &str {
        &self.rules
    }

    /// The version it names itself by, such as `2026-11-20_08-01-02_UTC`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Days since the date of its version; none if it has none.
    #[must_use]
    pub fn age_days(&self, now: Timestamp) -> Option<i64> {
        let made: Timestamp = format!("{}T00:00:00Z", self.version()?.get(..10)?).parse().ok()?;
        Some(now.duration_since(made).as_secs() / 86_400)
    }
}

impl fmt::Display for SuffixList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (sha256 {})", self.version.as_deref().unwrap_or("without version"), self.digest)
    }
}

/// The lists that names of requests are held against.
#[derive(Clone, Debug, Default)]
pub struct Suffixes {
    newer: Option<SuffixList>,
}

impl Suffixes {
    /// The built-in list and another.
    #[must_use]
    pub fn with(newer: SuffixList) -> Self {
        Self { newer: Some(newer) }
    }

    /// The list from a file, if there is one.
    #[must_use]
    pub fn newer(&self) -> Option<&SuffixList> {
        self.newer.as_ref()
    }

    /// The longer of the base domains by each list; none if one of them has the name as a suffix.
    #[must_use]
    pub fn icann_base<'a>(&self, name: &'a str) -> Option<&'a str> {
        let built_in = icann_base(name)?;
        let Some(newer) = &self.newer else { return Some(built_in) };
        let other = newer.icann_base(name)?;
        Some(if other.len() > built_in.len() { other } else { built_in })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shaped like the list, with rules that the built-in one does not have.
    const LIST: &str = "\
// VERSION: 2026-11-20_08-00-00_UTC
// ===BEGIN ICANN DOMAINS===
com
uk
co.uk
au
com.au
jp
co.jp
example
new.example
公司.example
*.wild.example
!city.wild.example
// ===END ICANN DOMAINS===
// ===BEGIN PRIVATE DOMAINS===
hosted.example
pages.new.example
// ===END PRIVATE DOMAINS===
";

    #[test]
    fn b17_the_base_domain_is_by_the_icann_part() {
        for (name, base) in [
            ("www.customer.example", Some("customer.example")),
            ("customer.example", Some("customer.example")),
            ("example", None),
            ("a.b.customer.co.uk", Some("customer.co.uk")),
            ("co.uk", None),
            ("user.github.io", Some("github.io")),
            ("a.user.github.io", Some("github.io")),
            ("a.b.kawasaki.jp", Some("a.b.kawasaki.jp")),
            ("x.a.b.kawasaki.jp", Some("a.b.kawasaki.jp")),
            ("city.kawasaki.jp", Some("city.kawasaki.jp")),
            ("bucket.s3.amazonaws.com", Some("amazonaws.com")),
            ("x.y.compute.amazonaws.com.cn", Some("amazonaws.com.cn")),
        ] {
            assert_eq!(icann_base(name), base, "{name}");
        }
    }

    #[test]
    fn b17_a_newer_list_only_narrows() {
        let list: SuffixList = LIST.parse().expect("a list");
        assert_eq!(list.version(), Some("2026-11-20_08-00-00_UTC"));
        for (name, base) in [
            ("a.customer.new.example", Some("customer.new.example")),
            ("new.example", None),
            ("xn--55qx5d.example", None),
            ("a.xn--55qx5d.example", Some("a.xn--55qx5d.example")),
            ("a.hosted.example", Some("hosted.example")),
            ("b.a.pages.new.example", Some("pages.new.example")),
            ("b.a.wild.example", Some("b.a.wild.example")),
            ("x.city.wild.example", Some("city.wild.example")),
        ] {
            assert_eq!(list.icann_base(name), base, "{name}");
        }
        let again: SuffixList = list.rules().parse().expect("the rules alone are a list");
        assert_eq!(again.icann_base("b.a.wild.example"), Some("b.a.wild.example"));
        assert_eq!(again.rules(), list.rules());
        assert!(!again.rules().contains("hosted.example"), "only the ICANN part is kept");
        let both = Suffixes::with(list);
        assert_eq!(both.icann_base("a.customer.new.example"), Some("customer.new.example"));
        assert_eq!(both.icann_base("a.b.kawasaki.jp"), Some("a.b.kawasaki.jp"), "only the built-in list knows");
        assert_eq!(both.icann_base("new.example"), None);
    }

    #[test]
    fn err_a_file_that_is_no_list_is_refused() {
        for text in ["", "com\nuk\n", "<html></html>"] {
            assert!(text.parse::<SuffixList>().is_err(), "{text:?}");
        }
    }
}
