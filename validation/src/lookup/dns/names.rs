//! Names in record data. They are read whole, in lower case and without final dot.
//!
//! Invariant: labels of the text end at its dots. A name with octets that presentation form escapes, a dot within a
//! label above all, is none here.

use domain::base::Name;

use super::super::dnssec::set::text_of;

/// The name that CNAME or PTR data hold; none if they hold no name, or something after it.
#[must_use]
pub fn of_cname(rdata: &[u8]) -> Option<String> {
    Name::<&[u8]>::from_octets(rdata).ok().map(|name| text_of(&name)).filter(|text| !text.contains('\\'))
}

/// The preference and the host that MX data hold (RFC 1035 §3.3.9); `.` says that the domain has none (RFC 7505).
#[must_use]
pub fn of_mx(rdata: &[u8]) -> Option<(u16, String)> {
    let (preference, host) = rdata.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*preference), of_cname(host)?))
}
