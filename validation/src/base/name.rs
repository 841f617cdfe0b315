//! Domain names that may stand in a certificate: A-labels only, within the limits of RFC 1035.
//!
//! Nothing is converted silently (req B16). A refusal names the fault and, where there is one, the
//! spelling that would do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    limits::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX},
    octets::escape,
};

/// A fully qualified domain name: lower case, LDH labels and valid A-labels, no final dot, at least two
/// labels, below a public suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// Why a text is no name that a certificate may hold. Blame: request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Over 253 octets.
    #[error("the name has {octets} octets; {NAME_OCTETS_MAX} are the limit (RFC 1035 §2.3.4)")]
    TooLong {
        /// Octets found.
        octets: usize,
    },
    /// Two dots in a row, or a dot at the start.
    #[error("label {position} of '{name}' is empty")]
    EmptyLabel {
        /// The name, escaped.
        name: String,
        /// Counted from the left, from 1.
        position: usize,
    },
    /// Over 63 octets.
    #[error("label {position} has {octets} octets; {LABEL_OCTETS_MAX} are the limit (RFC 1035 §2.3.4)")]
    LabelTooLong {
        /// Counted from the left, from 1.
        position: usize,
        /// Octets found.
        octets: usize,
    },
    /// A dot at the end.
    #[error("'{name}' ends in a dot; give it without")]
    TrailingDot {
        /// The name, escaped.
        name: String,
    },
    /// Not ASCII.
    #[error("'{name}' is not in A-label form{}", a_label.as_ref().map(|a| format!("; write {a}")).unwrap_or_default())]
    NotAscii {
        /// The name, escaped.
        name: String,
        /// Its A-label form, if it has one.
        a_label: Option<String>,
    },
    /// A character other than letters, digits and hyphen.
    #[error(
        "'{character}' in label '{label}' is not allowed in a certificate's name; only letters, digits and hyphens are (TLS BR 2.3.1 §7.1.2.7.12)"
    )]
    Character {
        /// The character, escaped.
        character: String,
        /// The label, escaped.
        label: String,
    },
    /// A hyphen at an end of a label.
    #[error("label '{label}' starts or ends with a hyphen")]
    Hyphen {
        /// The label.
        label: String,
    },
    /// Hyphens in positions 3 and 4 without a valid A-label.
    #[error(
        "label '{label}' is not a valid A-label: it does not survive conversion to Unicode and back (RFC 5891 §5.4)"
    )]
    InvalidALabel {
        /// The label.
        label: String,
    },
    /// One label only.
    #[error("'{name}' is a single label; an internal name cannot be certified")]
    SingleLabel {
        /// The name.
        name: String,
    },
    /// Digits where a top-level domain would be.
    #[error("'{name}' ends in a number and would be read as an address")]
    NumericTop {
        /// The name.
        name: String,
    },
    /// Listed in the ICANN part of the Public Suffix List.
    #[error("'{name}' is a public suffix; nobody can show control of all names below it (TLS BR 2.3.1 §3.2.2.6)")]
    PublicSuffix {
        /// The name.
        name: String,
    },
    /// Below a reverse zone.
    #[error("'{name}' lies in a reverse zone; such names are barred since 2026-03-15 (TLS BR 2.3.1 §4.2.2)")]
    ReverseZone {
        /// The name.
        name: String,
    },
    /// An onion name.
    #[error(
        "'{name}' is an onion name; onion names are out of scope and never looked up in DNS (TLS BR 2.3.1 Appendix B)"
    )]
    Onion {
        /// The name.
        name: String,
    },
}

impl DomainName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This name and each of its parents up to the top-level domain, leaf first: the levels of a CAA
    /// climb (RFC 8659 §3, req C6).
    pub fn tree_climb(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.as_str()), |name| name.split_once('.').map(|(_, parent)| parent))
    }

    /// The registrable part: one label below the public suffix. The list plays no part in any decision
    /// about CAA.
    #[must_use]
    pub fn base_domain(&self) -> &str {
        psl::domain_str(&self.0).unwrap_or(&self.0)
    }
}

impl FromStr for DomainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if !text.is_ascii() {
            return Err(NameError::NotAscii { name: shown(text), a_label: a_label_of(text) });
        }
        if text.strip_suffix('.').is_some_and(|rest| !rest.is_empty() && !rest.ends_with('.')) {
            return Err(NameError::TrailingDot { name: shown(text) });
        }
        if text.len() > NAME_OCTETS_MAX {
            return Err(NameError::TooLong { octets: text.len() });
        }
        let name = text.to_ascii_lowercase();
        for (index, label) in name.split('.').enumerate() {
            check_label(&name, index + 1, label)?;
        }
        check_whole(&name)?;
        Ok(Self(name))
    }
}

fn shown(text: &str) -> String {
    escape(&text.as_bytes()[..text.len().min(300)])
}

fn a_label_of(text: &str) -> Option<String> {
    idna::domain_to_ascii_strict(text).ok()
}

fn check_label(name: &str, position: usize, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel { name: shown(name), position });
    }
    if label.len() > LABEL_OCTETS_MAX {
        return Err(NameError::LabelTooLong { position, octets: label.len() });
    }
    if let Some(byte) = label.bytes().find(|b| !b.is_ascii_alphanumeric() && *b != b'-') {
        return Err(NameError::Character { character: escape(&[byte]), label: shown(label) });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::Hyphen { label: label.to_owned() });
    }
    if label.as_bytes().get(2..4) == Some(b"--") && !is_a_label(label) {
        return Err(NameError::InvalidALabel { label: label.to_owned() });
    }
    Ok(())
}

/// A label that decodes, and whose Unicode form encodes to the same label again.
fn is_a_label(label: &str) -> bool {
    if !label.starts_with("xn--") {
        return false;
    }
    let (unicode, result) = idna::domain_to_unicode(label);
    result.is_ok() && !unicode.is_ascii() && idna::domain_to_ascii_strict(&unicode).is_ok_and(|again| again == label)
}

fn check_whole(name: &str) -> Result<(), NameError> {
    let named = || name.to_owned();
    let Some((_, top)) = name.rsplit_once('.') else {
        return Err(match psl::suffix_str(name) {
            Some(_) if is_icann_suffix(name) => NameError::PublicSuffix { name: named() },
            _ => NameError::SingleLabel { name: named() },
        });
    };
    // The URL standard reads hexadecimal as well as decimal last labels as parts of an address.
    let hexadecimal = top.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hexadecimal || top.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::NumericTop { name: named() });
    }
    if top == "onion" {
        return Err(NameError::Onion { name: named() });
    }
    for zone in ["in-addr.arpa", "ip6.arpa"] {
        if name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
            return Err(NameError::ReverseZone { name: named() });
        }
    }
    if is_icann_suffix(name) {
        return Err(NameError::PublicSuffix { name: named() });
    }
    Ok(())
}

/// Whether a name is a public suffix of the list's ICANN part (req B17).
pub(crate) fn is_icann_suffix(name: &str) -> bool {
    psl::suffix(name.as_bytes())
        .is_some_and(|suffix| suffix.as_bytes().len() == name.len() && suffix.typ() == Some(psl::Type::Icann))
}

impl TryFrom<String> for DomainName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DomainName, NameError> {
        text.parse()
    }

    #[test]
    fn ok_names_are_kept_in_lower_case() {
        for (given, kept) in [
            ("Customer.Example", "customer.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a-b.c3.example.com", "a-b.c3.example.com"),
            ("1.example", "1.example"),
        ] {
            assert_eq!(parse(given).map(String::from), Ok(kept.to_owned()), "{given}");
        }
    }

    #[test]
    fn d39_err_names_are_refused_and_the_text_names_the_fault() {
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = format!("{}.example", ["abcdefg"; 31].join("."));
        assert_eq!(long_name.len(), 255);
        for (given, wants) in [
            ("", "empty"),
            ("bücher.example", "write xn--bcher-kva.example"),
            ("xn--a.example", "not a valid A-label"),
            ("xn--abc-.example", "hyphen"),
            ("ab--c.example", "not a valid A-label"),
            ("foo_bar.customer.example", "'_' in label 'foo_bar' is not allowed in a certificate"),
            ("customer.example.", "ends in a dot"),
            ("a..example", "label 2 of 'a..example' is empty"),
            ("com", "public suffix"),
            ("co.uk", "public suffix"),
            ("localhost", "single label"),
            (long_label.as_str(), "label 1 has 64 octets"),
            (long_name.as_str(), "255 octets"),
            ("-a.example", "hyphen"),
            ("4.3.2.in-addr.arpa", "reverse zone"),
            ("expyuzz4wqqyqhjn.onion", "onion"),
            ("10.1.2.3", "number"),
            ("8.8.0x808", "number"),
            ("a.0x", "number"),
            ("a\u{0}b.example", "\\x00"),
        ] {
            let error = parse(given).expect_err(given).to_string();
            assert!(error.contains(wants), "{given:?}: {error}");
        }
    }

    #[test]
    fn the_climb_goes_from_the_leaf_to_the_top_level_domain() {
        let name = parse("a.b.customer.example").expect("a good name");
        let levels: Vec<_> = name.tree_climb().collect();
        assert_eq!(levels, ["a.b.customer.example", "b.customer.example", "customer.example", "example"]);
    }
}
