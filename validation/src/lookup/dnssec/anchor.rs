//! Trust anchors: where the chain begins.
//!
//! The keys of the root that IANA publishes are built in. Others come from a file: DS or DNSKEY records in
//! presentation form, one a line. A file kept by a validating resolver under RFC 5011 is such a file, with
//! the state of each key in a comment; only keys in state VALID are taken from it.

use base64::Engine as _;
use domain::{base::iana::SecurityAlgorithm, rdata::Dnskey};
use sha2::{Digest as _, Sha256};

use super::{
    set::{Owner, owner_of, text_of},
    signature::Ds,
};

/// The DS records of KSK-2017 (tag 20326) and KSK-2024 (tag 38696), as IANA's root-anchors.xml has them.
pub const IANA: &str = "\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// Longest file of trust anchors, octets.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

/// The trust anchors of the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustAnchors(Vec<Ds>);

impl TrustAnchors {
    /// SHA-256 of them in hexadecimal, whatever their order: for programs to compare.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = self.to_string();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let digest = Sha256::digest(lines.join("\n").as_bytes());
        digest.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// The built-in ones.
    #[must_use]
    pub fn iana() -> Self {
        Self::parse(IANA).expect("the built-in trust anchors are well-formed")
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// A text that names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > FILE_BYTES_MAX {
            return Err(format!("longer than {FILE_BYTES_MAX} octets"));
        }
        let mut anchors = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let (record, comment) = line.split_once(';').unwrap_or((line, ""));
            let fields: Vec<&str> = record.split_whitespace().collect();
            if fields.is_empty() {
                continue;
            }
            if let Some(state) = comment.split("state=").nth(1)
                && !state.starts_with('2')
            {
                continue;
            }
            let ds = parse_record(&fields).map_err(|problem| format!("line {}: {problem}", number + 1))?;
            if !ds.is_supported() {
                return Err(format!("line {}: algorithm {} or its digest is not supported", number + 1, ds.algorithm));
            }
            anchors.push(ds);
        }
        if anchors.is_empty() {
            return Err("no trust anchor in it".to_owned());
        }
        Ok(Self(anchors))
    }

    /// As delegation signers of the root.
    #[must_use]
    pub fn delegation(&self) -> &[Ds] {
        &self.0
    }

    /// Their key tags.
    #[must_use]
    pub fn tags(&self) -> Vec<u16> {
        self.0.iter().map(|ds| ds.key_tag).collect()
    }
}

fn parse_record(fields: &[&str]) -> Result<Ds, String> {
    let (owner, rest) = fields.split_first().ok_or("empty")?;
    if *owner != "." {
        return Err(format!("'{}' is not the root", owner.escape_debug()));
    }
    let rest = match rest.split_first() {
        Some((ttl, rest)) if ttl.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => rest,
    };
    let rest = rest.strip_prefix(&["IN"]).unwrap_or(rest);
    let (kind, data) = rest.split_first().ok_or("no record type")?;
    let number = |at: usize| -> Result<u16, String> {
        let field = data.get(at).ok_or_else(|| format!("{kind}: too few fields"))?;
        field.parse().map_err(|_| format!("{kind}: '{}' is not a number", field.escape_debug()))
    };
    let octet = |at: usize| number(at).and_then(|n| u8::try_from(n).map_err(|_| format!("{kind}: {n} is above 255")));
    let rest = data.get(3..).unwrap_or_default().concat();
    match *kind {
        "DS" => {
            let (key_tag, algorithm, digest_type) = (number(0)?, octet(1)?, octet(2)?);
            let digest = unhex(&rest).ok_or("DS: the digest is not hexadecimal")?;
            Ok(Ds { key_tag, algorithm, digest_type, digest })
        }
        "DNSKEY" => {
            let public = base64::engine::general_purpose::STANDARD
                .decode(&rest)
                .map_err(|e| format!("DNSKEY: the key is not base64: {e}"))?;
            ds_of(number(0)?, octet(1)?, octet(2)?, &public)
        }
        other => Err(format!("'{}' is neither DS nor DNSKEY", other.escape_debug())),
    }
}

fn ds_of(flags: u16, protocol: u8, algorithm: u8, public: &[u8]) -> Result<Ds, String> {
    let mut rdata = flags.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[protocol, algorithm]);
    rdata.extend_from_slice(public);
    let key = Dnskey::new(flags, protocol, SecurityAlgorithm::from_int(algorithm), public)
        .map_err(|_| "DNSKEY: too long".to_owned())?;
    let root: Owner = owner_of(".").ok_or("no root")?;
    let digest = Sha256::new().chain_update(root.as_slice()).chain_update(&rdata).finalize().to_vec();
    Ok(Ds { key_tag: key.key_tag(), algorithm, digest_type: 2, digest })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl std::fmt::Display for TrustAnchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let root = owner_of(".").map(|root| text_of(&root)).unwrap_or_default();
        for ds in &self.0 {
            write!(f, "{root} IN DS {} {} {} ", ds.key_tag, ds.algorithm, ds.digest_type)?;
            for octet in &ds.digest {
                write!(f, "{octet:02X}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNSKEY_2017: &str = ". 172800 IN DNSKEY 257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=";

    #[test]
    fn b11_both_root_keys_are_built_in() {
        assert_eq!(TrustAnchors::iana().tags(), [20326, 38696]);
    }

    #[test]
    fn a_dnskey_gives_the_ds_that_iana_publishes() {
        let from_key = TrustAnchors::parse(DNSKEY_2017).expect("a trust anchor");
        assert_eq!(from_key.delegation(), &TrustAnchors::iana().delegation()[..1]);
        assert_eq!(TrustAnchors::parse(&from_key.to_string()), Ok(from_key));
    }

    #[test]
    fn only_valid_keys_of_a_file_kept_under_rfc_5011_are_taken() {
        let file = format!(
            "; autotrust trust anchor file\n;;id: . 1\n{DNSKEY_2017} ;;state=2 [  VALID  ] ;;count=0\n\
             {} ;;state=1 [ ADDPEND ] ;;count=3\n",
            DNSKEY_2017.replace("AwEAAaz", "AwEAAbz")
        );
        assert_eq!(TrustAnchors::parse(&file).expect("trust anchors").tags(), [20326]);
    }

    #[test]
    fn err_faulty_files_are_refused_with_the_line() {
        for (text, wants) in [
            ("", "no trust anchor"),
            ("\nexample. IN DS 1 8 2 00", "line 2: 'example.' is not the root"),
            (". IN A 192.0.2.1", "line 1: 'A' is neither"),
            (". IN DS 1 8 2 0G", "hexadecimal"),
            (". IN DS 1 8", "too few"),
            (". IN DS 70000 8 2 00", "not a number"),
            (". IN DS 1 300 2 00", "above 255"),
            (". IN DS 1 200 2 00", "not supported"),
            (". IN DNSKEY 257 3 8 !!", "base64"),
        ] {
            let problem = TrustAnchors::parse(text).expect_err(text);
            assert!(problem.contains(wants), "{text}: {problem}");
        }
    }
}
