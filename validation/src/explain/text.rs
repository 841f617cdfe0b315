//! Words: places, lists, times, and the one guard over everything that is said.

use std::net::IpAddr;

use super::Seen;
use crate::{
    base::octets::Octets,
    request::{Challenge, CheckRequest},
};

/// Octets of network text that a message shows.
pub(crate) const SHOWN_BYTES: usize = 60;
/// Octets of the expected value that may appear by chance, or cut, without being taken out.
const TELLING_BYTES: usize = 12;

/// `a, b and c`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// `sin1 (APNIC) and gru1 (LACNIC)`.
pub(super) fn places<'a>(seen: impl IntoIterator<Item = &'a Seen<'a>>) -> String {
    let names: Vec<String> =
        seen.into_iter().map(|s| format!("{} ({})", s.perspective.id, s.perspective.rir)).collect();
    list(&names)
}

/// `RIPE NCC, APNIC and LACNIC`, each once.
pub(super) fn regions<'a>(seen: impl IntoIterator<Item = &'a Seen<'a>>) -> String {
    let mut names: Vec<String> = Vec::new();
    for s in seen {
        let name = s.perspective.rir.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    list(&names)
}

/// A small number in words.
pub(crate) fn number(count: usize) -> String {
    const WORDS: [&str; 11] = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    WORDS.get(count).map_or_else(|| count.to_string(), |word| (*word).to_owned())
}

/// Seconds with one decimal, without `.0`; less than one in milliseconds.
pub(super) fn seconds(us: u64) -> String {
    if us < 950_000 {
        return format!("{} ms", us / 1000);
    }
    let tenths = (us + 50_000) / 100_000;
    if tenths.is_multiple_of(10) { format!("{} s", tenths / 10) } else { format!("{}.{} s", tenths / 10, tenths % 10) }
}

/// Network text within quotation marks, escaped and cut.
pub(super) fn quoted(octets: &Octets) -> String {
    format!("'{}'", octets.shown(SHOWN_BYTES))
}

/// `AAAA` for an IPv6 address, else `A`.
pub(super) fn address_type(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "AAAA" } else { "A" }
}

/// Makes a clause a sentence.
pub(crate) fn sentence(clause: &str) -> String {
    let mut chars = clause.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    let text: String = first.into_iter().chain(chars).collect();
    if text.ends_with('.') { text } else { format!("{text}.") }
}

/// Takes the expected value out of a text, whatever its case and wherever it was cut. Others may read
/// messages (`cases.md` D18).
#[must_use]
pub fn without_secret(request: &CheckRequest, text: &str) -> String {
    // Persistent records and contacts have nothing that others may not read.
    let challenge = request.control.as_ref();
    let mut secrets = Vec::new();
    if let Some(key) = challenge.and_then(Challenge::key_authorization) {
        let thumbprint = key.value.rsplit('.').next().unwrap_or_default().to_owned();
        secrets.extend([(key.digest(), TELLING_BYTES), (thumbprint, TELLING_BYTES)]);
    }
    secrets.extend(challenge.and_then(Challenge::random_value).map(|v| (v.expose().to_owned(), TELLING_BYTES)));
    if secrets.is_empty() {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = secrets.iter().map(|(secret, telling)| common(rest, secret, *telling)).max().unwrap_or(0);
        if length > 0 {
            kept.push_str("[expected value]");
            rest = &rest[length..];
        } else {
            kept.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    kept
}

/// Octets that `text` begins with and share with the beginning of `secret`; 0 if too few to tell.
fn common(text: &str, secret: &str, telling: usize) -> usize {
    let length = text.bytes().zip(secret.bytes()).take_while(|(t, s)| t.eq_ignore_ascii_case(s)).count();
    if length >= telling { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::address::AddressFilter, request::RawRequest};

    const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
    const THUMBPRINT: &str = "nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";

    fn request() -> CheckRequest {
        let raw = RawRequest {
            identifier: "customer.example".to_owned(),
            method: "dns-01".to_owned(),
            token: Some(TOKEN.to_owned()),
            key_authorization: Some(format!("{TOKEN}.{THUMBPRINT}")),
            ..RawRequest::default()
        };
        CheckRequest::parse(
            raw,
            "test",
            &AddressFilter::default().into(),
            "2026-11-25T12:00:00Z".parse().expect("an instant"),
        )
        .expect("good")
    }

    #[test]
    fn the_expected_value_is_taken_out_whole_cut_or_in_another_case() {
        let request = request();
        let key = request.control.as_ref().and_then(Challenge::key_authorization);
        let digest = key.expect("a key authorization").digest();
        for value in [
            digest.clone(),
            digest[..20].to_owned(),
            digest.to_uppercase(),
            THUMBPRINT.to_owned(),
            THUMBPRINT[..15].to_owned(),
        ] {
            let said = without_secret(&request, &format!("Found: '{value}…'."));
            assert_eq!(said, "Found: '[expected value]…'.");
        }
    }

    #[test]
    fn other_text_is_left_alone() {
        for text in ["", "→ 'n' nP1q", TOKEN, "Found: '\\xe2'."] {
            assert_eq!(without_secret(&request(), text), text);
        }
    }

    #[test]
    fn lists_and_times() {
        let items: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(
            (list(&items), list(&items[..1]), list(&[])),
            ("a, b and c".to_owned(), "a".to_owned(), "none".to_owned())
        );
        let times = [20_000, 949_999, 950_000, 1_500_000, 10_000_000].map(seconds);
        assert_eq!(times, ["20 ms", "949 ms", "1 s", "1.5 s", "10 s"]);
    }
}
