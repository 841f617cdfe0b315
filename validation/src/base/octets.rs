//! Octets that came from the network: kept as they are, shown escaped.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Octets from the network. Written and shown as text in which everything but printable ASCII is
/// escaped (`\xNN`, and `\\` for the backslash), which keeps every octet and is inert in a log.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Octets(pub Vec<u8>);

impl Octets {
    /// The first `max` octets of `bytes`.
    #[must_use]
    pub fn first(bytes: &[u8], max: usize) -> Self {
        Self(bytes[..bytes.len().min(max)].to_vec())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The escaped text of the first `max` octets, with an ellipsis if there are more.
    #[must_use]
    pub fn shown(&self, max: usize) -> String {
        let mut text = escape(&self.0[..self.0.len().min(max)]);
        if self.0.len() > max {
            text.push('…');
        }
        text
    }
}

/// Escapes everything but printable ASCII.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(char::from(byte)),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                text.push_str("\\x");
                text.push(char::from(HEX[usize::from(byte >> 4)]));
                text.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    text
}

fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'\\') => bytes.push(b'\\'),
            Some(b'x') => {
                let digit = |d: Option<u8>| d.and_then(|d| char::from(d).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err("\\x wants two hexadecimal digits");
                };
                bytes.push((high * 16 + low) as u8);
            }
            _ => return Err("a backslash must be followed by x or a backslash"),
        }
    }
    Ok(bytes)
}

impl fmt::Display for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&escape(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        unescape(&text).map(Octets).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_survives_the_text_form() {
        let all = Octets((0..=255).collect());
        let text = serde_json::to_string(&all).expect("strings serialise");
        assert!(text.is_ascii());
        assert_eq!(serde_json::from_str::<Octets>(&text).expect("own text"), all);
    }

    #[test]
    fn err_bad_escapes_are_refused() {
        for text in [r#""\\q""#, r#""\\x1""#, r#""\\""#] {
            assert!(serde_json::from_str::<Octets>(text).is_err(), "{text}");
        }
    }
}
