//! Arbitrary octets as the value of an issue property. The parser and [`crate::abnf`], which was written from
//! the RFC alone, accept the same values and read the same from them.

use parallax_validation::check::caa::property::parse_issue_value;

use crate::abnf::recognise;

/// Values that reach every place of the grammar.
pub const DICTIONARY: [&str; 9] = [";", "=", "-", ".", " ", "\t", "ca.example", "accounturi=", "validationmethods="];

/// Compares the two readings.
pub fn run(data: &[u8]) {
    match (parse_issue_value(data), recognise(data)) {
        (Ok(parsed), Some((issuer, parameters))) => {
            assert_eq!(parsed.issuer, issuer);
            assert_eq!(parsed.parameters, parameters);
        }
        (Err(error), None) => {
            assert!(error.offset <= data.len());
            assert!(error.to_string().len() < 300);
        }
        (parsed, recognised) => panic!("parsed {parsed:?}, recognised {recognised:?}: {data:?}"),
    }
}
