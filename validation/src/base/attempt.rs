//! The name of an attempt.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Names one attempt; never used twice. 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub u128);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for AttemptId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AttemptId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 32 {
            return Err(D::Error::custom("an attempt id has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(AttemptId).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempt_ids_survive_their_text_form() {
        let id = AttemptId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        let text = serde_json::to_string(&id).expect("text");
        assert_eq!(text, "\"0123456789abcdef0011223344556677\"");
        assert_eq!(serde_json::from_str::<AttemptId>(&text).expect("own text"), id);
        assert!(serde_json::from_str::<AttemptId>("\"123\"").is_err());
    }
}
