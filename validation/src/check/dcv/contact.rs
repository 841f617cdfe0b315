//! Contacts published in DNS: TLS BR 2.3.1 §3.2.2.4.13, .14, .16, .17 and Appendix A (req D10–D12).
//!
//! What is corroborated is the contact that the CA has chosen: a perspective confirms if the records it sees hold
//! that very contact. The mail or the call itself is the CA's, as is the value it carries. The name validated is the
//! one that publishes the record, not the domain of the mail address.

use serde::{Deserialize, Serialize};

use super::dns01::joined_strings;
use crate::{
    base::name::DomainName,
    check::{
        Contradiction, Finding, LookupFailure,
        caa::{
            RelevantSet,
            property::{TagKind, parse_rdata},
            relevant_set,
        },
    },
    observation::{DnsLookup, DnsOutcome},
};

/// Octets of a contact (RFC 5321 §4.5.3.1.3, without the brackets).
pub const CONTACT_BYTES_MAX: usize = 254;

/// A way to reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactKind {
    /// A mail address (RFC 6532).
    Email,
    /// A global telephone number (RFC 3966 §5.1.4).
    Phone,
}

impl ContactKind {
    /// The CAA property that holds it (TLS BR 2.3.1 App. A.1).
    #[must_use]
    pub fn property(self) -> &'static str {
        match self {
            Self::Email => "contactemail",
            Self::Phone => "contactphone",
        }
    }

    /// The name whose TXT holds it (TLS BR 2.3.1 App. A.2).
    #[must_use]
    pub fn record_name(self, domain: &DomainName) -> String {
        format!("_validation-{}.{domain}", self.property())
    }

    /// Whether a text is one of those.
    #[must_use]
    pub fn fits(self, text: &str) -> bool {
        let is_one = match self {
            Self::Email => is_address(text),
            Self::Phone => is_global_number(text),
        };
        is_one && text.len() <= CONTACT_BYTES_MAX
    }
}

/// One `@` outside quotation marks is not looked for: local parts are dot-atoms here (RFC 6532 §3.2).
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let is_label = |label: &str| {
        let ends = !label.starts_with('-') && !label.ends_with('-');
        !label.is_empty() && ends && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    is_dot_atom(local) && domain.contains('.') && domain.split('.').all(is_label)
}

/// Letters, digits and a few signs in groups with dots between them (RFC 5322 §3.2.3, RFC 6532 §3.2). Of what is no
/// ASCII only letters and digits: marks that change the direction of text, or look like nothing, are for nobody's eyes.
pub(crate) fn is_dot_atom(text: &str) -> bool {
    let is_atom = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atom))
}

/// `+`, and digits with visual separators between them; spaces may stand between (TLS BR 2.3.1 App. A).
fn is_global_number(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('+') else { return false };
    let digits = rest.bytes().filter(u8::is_ascii_digit).count();
    (4..=15).contains(&digits)
        && rest.starts_with(|c: char| c.is_ascii_digit())
        && rest.ends_with(|c: char| c.is_ascii_digit())
        && rest.bytes().all(|b| b.is_ascii_digit() || b" -.()".contains(&b))
}

/// How what was found differs from the contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactFault {
    /// Records, or properties, that should hold a contact.
    pub found: u32,
    /// How many of them hold something that is none.
    pub unfit: u32,
}

/// Judges a TXT lookup: the whole record is the contact.
#[must_use]
pub fn judge_txt(kind: ContactKind, contact: &str, seen: &DnsLookup) -> Finding {
    match &seen.outcome {
        DnsOutcome::Answer(set) => {
            let values = set.rdata.iter().map(|rdata| joined_strings(rdata.as_slice()).unwrap_or_default());
            judge_values(kind, contact, values.collect())
        }
        DnsOutcome::Nodata(_) => Finding::Contradicted(Contradiction::NoRecord { nxdomain: false }),
        DnsOutcome::Nxdomain(_) => Finding::Contradicted(Contradiction::NoRecord { nxdomain: true }),
        DnsOutcome::Failed(failure) => Finding::Failed(LookupFailure::dns(seen, failure)),
    }
}

/// Judges a CAA climb from `domain`: a property of the relevant set is the contact (RFC 8659 §3).
#[must_use]
pub fn judge_caa(kind: ContactKind, contact: &str, domain: &DomainName, levels: &[DnsLookup]) -> Finding {
    let (set, _) = relevant_set(domain, levels, |_| false);
    let wanted = match kind {
        ContactKind::Email => TagKind::Contactemail,
        ContactKind::Phone => TagKind::Contactphone,
    };
    match set {
        RelevantSet::Found(_, set) => {
            let properties = set.rdata.iter().filter_map(|rdata| parse_rdata(rdata.as_slice()).ok());
            let values = properties.filter(|property| *property.tag.kind() == wanted).map(|property| property.value);
            judge_values(kind, contact, values.collect())
        }
        RelevantSet::None => Finding::Contradicted(Contradiction::NoRecord { nxdomain: false }),
        RelevantSet::Incomplete => Finding::Failed(LookupFailure::NotObserved),
        RelevantSet::Failed(lookup) => match &lookup.outcome {
            DnsOutcome::Failed(failure) => Finding::Failed(LookupFailure::dns(lookup, failure)),
            _ => Finding::Contradicted(Contradiction::NoRecord { nxdomain: true }),
        },
    }
}

fn judge_values(kind: ContactKind, contact: &str, values: Vec<Vec<u8>>) -> Finding {
    // A request holds a contact of its kind; one read back from a forged journal may not.
    if kind.fits(contact) && values.iter().any(|value| value == contact.as_bytes()) {
        return Finding::Confirmed;
    }
    let fits = |value: &&Vec<u8>| std::str::from_utf8(value).is_ok_and(|text| kind.fits(text));
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let unfit = count(values.len() - values.iter().filter(fits).count());
    Finding::Contradicted(Contradiction::Contact(ContactFault { found: count(values.len()), unfit }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_what_a_contact_is() {
        for (kind, text, fits) in [
            (ContactKind::Email, "security@customer.example", true),
            (ContactKind::Email, "se.cu+rity@mail.customer.example", true),
            (ContactKind::Email, "sécurité@customer.example", true),
            (ContactKind::Email, "mailto:security@customer.example", false),
            (ContactKind::Email, "Security <security@customer.example>", false),
            (ContactKind::Email, "security@customer.example ", false),
            (ContactKind::Email, "security@", false),
            (ContactKind::Email, "@customer.example", false),
            (ContactKind::Email, "a@b@customer.example", false),
            (ContactKind::Email, "security@localhost", false),
            (ContactKind::Email, "a..b@customer.example", false),
            (ContactKind::Phone, "+1 555 0100", true),
            (ContactKind::Phone, "+15550100", true),
            (ContactKind::Phone, "+1-(555)-0100", true),
            (ContactKind::Phone, "15550100", false),
            (ContactKind::Phone, "+", false),
            (ContactKind::Phone, "+1 555 0100 ", false),
            (ContactKind::Phone, "+ 1555 0100", false),
            (ContactKind::Phone, "+1 555 0100;ext=1", false),
            (ContactKind::Phone, "tel:+15550100", false),
        ] {
            assert_eq!(kind.fits(text), fits, "{text}");
        }
        let of_length = |length: usize| format!("{}@customer.example", "a".repeat(length - 17));
        assert!(ContactKind::Email.fits(&of_length(CONTACT_BYTES_MAX)));
        assert!(!ContactKind::Email.fits(&of_length(CONTACT_BYTES_MAX + 1)));
    }
}
