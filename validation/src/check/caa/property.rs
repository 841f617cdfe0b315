//! The grammar of CAA properties, from raw octets (RFC 8659 §4.1 and §4.2; req C10–C13).
//!
//! Decides whether RDATA and issue values are well-formed, and splits them. What they permit is decided in
//! [`mod@super::authorize`]. DNS libraries are laxer than this grammar (extra `;`, issuers that are no host
//! names, untrimmed blanks), so none is used.
//!
//! Invariant: nothing is repaired. A value is either in the grammar or refused with the octet that is wrong.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How many octets of a text from the network are shown.
pub const SHOWN_OCTETS_MAX: usize = 200;

/// One CAA property (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The flags octet.
    pub flags: u8,
    /// The tag.
    pub tag: Tag,
    /// All octets after the tag.
    pub value: Vec<u8>,
}

impl Property {
    /// Whether bit 128, Issuer Critical, is set, whatever the other bits (RFC 8659 §4.1).
    #[must_use]
    pub fn is_critical(&self) -> bool {
        self.flags & 0x80 != 0
    }
}

/// A property tag: ASCII letters and digits, at least one, compared without regard to case (RFC 8659 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    published: String,
    kind: TagKind,
}

impl Tag {
    /// The spelling published.
    #[must_use]
    pub fn published(&self) -> &str {
        &self.published
    }

    /// What it stands for.
    #[must_use]
    pub fn kind(&self) -> &TagKind {
        &self.kind
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.published)
    }
}

/// What a tag stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// RFC 8659 §4.2.
    Issue,
    /// RFC 8659 §4.3.
    Issuewild,
    /// RFC 9495 §3; for mailbox addresses only.
    Issuemail,
    /// RFC 8659 §4.4.
    Iodef,
    /// TLS BR 2.3.1 App. A.1.
    Contactemail,
    /// TLS BR 2.3.1 App. A.1.
    Contactphone,
    /// For mark certificates only.
    Issuevmc,
    /// Any other tag, in lower case.
    Other(String),
}

impl TagKind {
    fn of(published: &str) -> Self {
        let lower = published.to_ascii_lowercase();
        match lower.as_str() {
            "issue" => Self::Issue,
            "issuewild" => Self::Issuewild,
            "issuemail" => Self::Issuemail,
            "iodef" => Self::Iodef,
            "contactemail" => Self::Contactemail,
            "contactphone" => Self::Contactphone,
            "issuevmc" => Self::Issuevmc,
            _ => Self::Other(lower),
        }
    }
}

/// Why RDATA cannot be split into flags, tag and value. Such a record forbids (req C10).
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RdataError {
    /// No octet at all.
    #[error("the record has no data, not even a flags octet")]
    NoFlags,
    /// Only the flags octet.
    #[error("the record ends after its flags octet")]
    NoTagLength,
    /// The tag length is zero.
    #[error("the tag length is 0; a tag has at least one letter or digit")]
    EmptyTag,
    /// The record ends within its tag.
    #[error("the tag length is {length} but only {present} octets follow")]
    TagCut {
        /// The length given.
        length: u8,
        /// How many octets there are.
        present: usize,
    },
    /// An octet of the tag is neither a letter nor a digit.
    #[error("octet {offset} of the tag is {}; tags are ASCII letters and digits", shown_octet(*.octet))]
    TagOctet {
        /// Where in the tag, from 0.
        offset: usize,
        /// The octet.
        octet: u8,
    },
}

/// Splits RDATA into a property (RFC 8659 §4.1, req C10).
///
/// # Errors
///
/// If it cannot be split, or the tag is not made of letters and digits. The caller must let such a record
/// forbid; it may restrict issuance in a way that cannot be read.
pub fn parse_rdata(rdata: &[u8]) -> Result<Property, RdataError> {
    let (&flags, rest) = rdata.split_first().ok_or(RdataError::NoFlags)?;
    let (&length, rest) = rest.split_first().ok_or(RdataError::NoTagLength)?;
    if length == 0 {
        return Err(RdataError::EmptyTag);
    }
    let (tag, value) =
        rest.split_at_checked(usize::from(length)).ok_or(RdataError::TagCut { length, present: rest.len() })?;
    if let Some(offset) = tag.iter().position(|octet| !octet.is_ascii_alphanumeric()) {
        return Err(RdataError::TagOctet { offset, octet: tag[offset] });
    }
    let published = ascii(tag);
    Ok(Property { flags, tag: Tag { kind: TagKind::of(&published), published }, value: value.to_vec() })
}

/// The value of an issue, issuewild or issuemail property (RFC 8659 §4.2, RFC 9495 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueValue {
    /// The issuer domain name as published; none permits nobody.
    pub issuer: Option<String>,
    /// The parameters in the order published: tag and value.
    pub parameters: Vec<(String, String)>,
}

/// Why a value is not in the grammar of RFC 8659 §4.2. Such a record permits nobody (req C12).
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("octet {offset}: {fault}")]
pub struct IssueValueError {
    /// The octet at which the value leaves the grammar, from 0.
    pub offset: usize,
    /// What is wrong there.
    pub fault: IssueValueFault,
}

/// What is wrong in a value.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueValueFault {
    /// `'`, `"` or a backtick outside a parameter value.
    #[error("a quotation mark is part of the value; enter the value without it")]
    QuoteMark,
    /// A typographic quotation mark.
    #[error("a typographic quotation mark is part of the value; enter the value without it")]
    TypographicQuoteMark,
    /// Another octet above 127, such as those of a U-label.
    #[error("{} is not ASCII; internationalised names are written as A-labels (xn--)", shown_octet(*.octet))]
    NotAscii {
        /// The octet.
        octet: u8,
    },
    /// The issuer domain name ends with a dot.
    #[error("the issuer domain name must not end with a dot")]
    TrailingDot,
    /// The issuer domain name begins with a dot or has two in a row.
    #[error("a label of the issuer domain name is empty")]
    EmptyLabel,
    /// A label or parameter tag begins or ends with a hyphen.
    #[error("a hyphen must stand between letters or digits")]
    HyphenAtEdge,
    /// Another octet that an issuer domain name must not have.
    #[error("{} is not allowed in an issuer domain name", shown_octet(*.octet))]
    IssuerOctet {
        /// The octet.
        octet: u8,
    },
    /// Something other than `;` follows the issuer domain name and blanks.
    #[error("text follows the issuer domain name; parameters come after a semicolon, and only one issuer is named")]
    TextAfterIssuer,
    /// A `;` that nothing follows after a parameter.
    #[error("a semicolon follows the last parameter")]
    TrailingSemicolon,
    /// Two `;` with nothing but blanks between them.
    #[error("a parameter is empty: two semicolons in a row")]
    EmptyParameter,
    /// An `=` without a tag before it.
    #[error("a parameter has no tag before its equals sign")]
    EmptyParameterTag,
    /// A parameter without `=`.
    #[error("a parameter has no equals sign; parameters are written tag=value")]
    ParameterWithoutEquals,
    /// An octet that a parameter tag must not have.
    #[error("{} is not allowed in a parameter tag", shown_octet(*.octet))]
    ParameterTagOctet {
        /// The octet.
        octet: u8,
    },
    /// An octet that a parameter value must not have.
    #[error("{} is not allowed in a parameter value", shown_octet(*.octet))]
    ParameterValueOctet {
        /// The octet.
        octet: u8,
    },
    /// Something other than `;` follows a parameter and blanks.
    #[error("text follows a parameter value; a value has no blanks, and parameters are separated by semicolons")]
    TextAfterParameter,
}

/// Parses the value of an issue, issuewild or issuemail property, exactly by the grammar of RFC 8659 §4.2
/// (req C11).
///
/// A parameter tag may have hyphens between letters and digits, as in the RFC.
///
/// # Errors
///
/// If the value is not in the grammar. The caller must treat it as one that names no issuer (req C12).
pub fn parse_issue_value(value: &[u8]) -> Result<IssueValue, IssueValueError> {
    let mut cursor = Cursor { octets: value, at: 0 };
    cursor.skip_blanks();
    let issuer = match cursor.peek() {
        None | Some(b';') => None,
        Some(_) => Some(cursor.issuer()?),
    };
    cursor.skip_blanks();
    let parameters = match cursor.peek() {
        None => Vec::new(),
        Some(b';') => cursor.parameters()?,
        Some(octet) => return Err(cursor.error(cursor.at, octet, IssueValueFault::TextAfterIssuer)),
    };
    Ok(IssueValue { issuer, parameters })
}

/// A place in a value. Each step takes at least one octet, so the length of the value bounds the work.
struct Cursor<'a> {
    octets: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.octets.get(self.at).copied()
    }

    /// Takes the octets up to the first that `stop` accepts.
    fn take_until(&mut self, stop: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.octets.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&octet| stop(octet)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip_blanks(&mut self) {
        self.take_until(|octet| !is_blank(octet));
    }

    /// `label *("." label)`.
    fn issuer(&mut self) -> Result<String, IssueValueError> {
        let start = self.at;
        let name = self.take_until(|octet| is_blank(octet) || octet == b';');
        let mut label_start = start;
        for label in name.split(|&octet| octet == b'.') {
            let label_end = label_start + label.len();
            if label.is_empty() {
                let last = label_end == start + name.len() && name.len() > 1;
                let fault = if last { IssueValueFault::TrailingDot } else { IssueValueFault::EmptyLabel };
                return Err(IssueValueError { offset: label_end - usize::from(last), fault });
            }
            self.check_ldh(label_start, label, |octet| IssueValueFault::IssuerOctet { octet })?;
            label_start = label_end + 1;
        }
        Ok(ascii(name))
    }

    /// From the `;` on: `";" *WSP [parameters *WSP]`.
    fn parameters(&mut self) -> Result<Vec<(String, String)>, IssueValueError> {
        let mut parameters = Vec::new();
        loop {
            let semicolon = self.at;
            self.at += 1;
            self.skip_blanks();
            if self.peek().is_none() {
                return if parameters.is_empty() {
                    Ok(parameters)
                } else {
                    Err(IssueValueError { offset: semicolon, fault: IssueValueFault::TrailingSemicolon })
                };
            }
            parameters.push(self.parameter()?);
            self.skip_blanks();
            match self.peek() {
                None => return Ok(parameters),
                Some(b';') => {}
                Some(octet) => return Err(self.error(self.at, octet, IssueValueFault::TextAfterParameter)),
            }
        }
    }

    /// `tag *WSP "=" *WSP value`.
    fn parameter(&mut self) -> Result<(String, String), IssueValueError> {
        let start = self.at;
        let tag = self.take_until(|octet| is_blank(octet) || matches!(octet, b';' | b'='));
        if tag.is_empty() {
            let empty = self.peek() == Some(b';');
            let fault = if empty { IssueValueFault::EmptyParameter } else { IssueValueFault::EmptyParameterTag };
            return Err(IssueValueError { offset: start, fault });
        }
        self.check_ldh(start, tag, |octet| IssueValueFault::ParameterTagOctet { octet })?;
        self.skip_blanks();
        if self.peek() != Some(b'=') {
            return Err(IssueValueError { offset: self.at, fault: IssueValueFault::ParameterWithoutEquals });
        }
        self.at += 1;
        self.skip_blanks();
        let value_start = self.at;
        let value = self.take_until(|octet| is_blank(octet) || octet == b';');
        if let Some(at) = value.iter().position(|octet| !octet.is_ascii_graphic()) {
            let octet = value[at];
            return Err(self.error(value_start + at, octet, IssueValueFault::ParameterValueOctet { octet }));
        }
        Ok((ascii(tag), ascii(value)))
    }

    /// `(ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))`, for `text`, which is not empty and stands at `start`.
    fn check_ldh(
        &self,
        start: usize,
        text: &[u8],
        fault: impl Fn(u8) -> IssueValueFault,
    ) -> Result<(), IssueValueError> {
        if let Some(at) = text.iter().position(|&octet| !octet.is_ascii_alphanumeric() && octet != b'-') {
            return Err(self.error(start + at, text[at], fault(text[at])));
        }
        let edge =
            if text.starts_with(b"-") { Some(start) } else { text.ends_with(b"-").then(|| start + text.len() - 1) };
        match edge {
            Some(offset) => Err(IssueValueError { offset, fault: IssueValueFault::HyphenAtEdge }),
            None => Ok(()),
        }
    }

    /// The error at `offset`: quotation marks and foreign scripts are named as such, all else as `fault`.
    fn error(&self, offset: usize, octet: u8, fault: IssueValueFault) -> IssueValueError {
        let rest = self.octets.get(offset..).unwrap_or_default();
        let fault = match octet {
            b'\'' | b'"' | b'`' => IssueValueFault::QuoteMark,
            0x80.. if starts_with_typographic_quote(rest) => IssueValueFault::TypographicQuoteMark,
            0x80.. => IssueValueFault::NotAscii { octet },
            _ => fault,
        };
        IssueValueError { offset, fault }
    }
}

/// Blanks are space and tab (RFC 5234 App. B.1, WSP).
fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

/// U+2018 to U+201F and the guillemets in UTF-8, and the quotation marks of Windows-1252.
fn starts_with_typographic_quote(octets: &[u8]) -> bool {
    matches!(octets, [0xe2, 0x80, 0x98..=0x9f, ..] | [0xc2, 0xab | 0xbb, ..] | [0x91..=0x94, ..])
}

/// `octets`, which the caller has checked to be ASCII.
fn ascii(octets: &[u8]) -> String {
    octets.iter().map(|&octet| char::from(octet)).collect()
}

/// One octet for an error text.
fn shown_octet(octet: u8) -> String {
    format!("'{}'", escape(&[octet]))
}

/// Text from the network, fit for logs and pages: printable ASCII stays, but `\`, `"`, `<`, `>`, `&` and all
/// else become `\xNN`; after [`SHOWN_OCTETS_MAX`] octets comes an ellipsis (req C-h, last row).
#[must_use]
pub fn escape(octets: &[u8]) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let shown = &octets[..octets.len().min(SHOWN_OCTETS_MAX)];
    let mut text = String::with_capacity(shown.len());
    for &octet in shown {
        match octet {
            b'\\' | b'"' | b'<' | b'>' | b'&' | 0..=0x1f | 0x7f.. => {
                text.extend(['\\', 'x', HEX[usize::from(octet >> 4)], HEX[usize::from(octet & 15)]]);
            }
            _ => text.push(char::from(octet)),
        }
    }
    if octets.len() > shown.len() {
        text.push('…');
    }
    text
}
