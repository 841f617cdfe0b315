//! tls-alpn-01: TLS BR 2.3.1 §3.2.2.4.20 (names) and §3.2.2.5.7 (addresses), RFC 8737 §3, RFC 8738 §6 (req D20).
//!
//! The server must have selected `acme-tls/1` and shown a self-signed certificate with exactly one name,
//! that which is asked about, and a critical acmeIdentifier extension that holds the digest of the key
//! authorization. Nothing else in the certificate matters: neither its dates nor its common name.
//!
//! The first property that is wrong is named. What tells most about a server that does not know of the
//! challenge comes first, so that its everyday certificate is not called one that is not self-signed.

use serde::{Deserialize, Serialize};

use super::http01::equal_in_constant_time;
use crate::{
    check::{Contradiction, Finding, LookupFailure},
    lookup::tls::{
        ACME_TLS_1,
        certificate::{
            ACME_IDENTIFIER, ACME_IDENTIFIER_OF_DRAFTS, AlternativeName, Certificate, NotSelfSigned, SUBJECT_ALT_NAME,
            alternative_names, is_address,
        },
    },
    observation::{TlsHandshake, TlsObservation, TlsOutcome},
    request::Identifier,
};

/// The property of a handshake that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateFault {
    /// No application protocol was selected.
    NoProtocol,
    /// Another application protocol was selected.
    OtherProtocol,
    /// The certificate cannot be read.
    Unreadable,
    /// It has no acmeIdentifier extension.
    ExtensionMissing,
    /// It has only that of early drafts.
    DraftExtension,
    /// It has two.
    ExtensionTwice,
    /// The extension is not critical.
    NotCritical,
    /// The extension's value is not an OCTET STRING of 32 octets and nothing else.
    MalformedExtension,
    /// It has no subjectAltName.
    NoNames,
    /// It has two subjectAltName extensions.
    NamesTwice,
    /// Its subjectAltName cannot be read.
    UnreadableNames,
    /// Its subjectAltName has not one entry, but so many.
    NameCount(u16),
    /// The one entry is of another kind than what is asked about.
    NameKind,
    /// The one entry is something else.
    OtherName,
    /// Its issuer is not its subject.
    OtherIssuer,
    /// It is signed by a key or an algorithm that is not known here.
    UnknownAlgorithm,
    /// It is not signed by its own key.
    NotSelfSigned,
    /// The digest is not that of the key authorization.
    OtherDigest,
}

/// Judges a handshake.
#[must_use]
pub fn judge(expected: &[u8], identifier: &Identifier, seen: &TlsObservation) -> Finding {
    match &seen.outcome {
        TlsOutcome::Failed(failure) => Finding::Failed(LookupFailure::Tls(failure.clone())),
        TlsOutcome::Handshake(handshake) => match check(expected, identifier, handshake) {
            Ok(()) => Finding::Confirmed,
            Err(fault) => Finding::Contradicted(Contradiction::Certificate(fault)),
        },
    }
}

fn check(expected: &[u8], identifier: &Identifier, handshake: &TlsHandshake) -> Result<(), CertificateFault> {
    match &handshake.protocol {
        None => return Err(CertificateFault::NoProtocol),
        Some(protocol) if protocol.as_slice() != ACME_TLS_1 => return Err(CertificateFault::OtherProtocol),
        Some(_) => {}
    }
    let certificate = Certificate::read(&handshake.certificate.0).map_err(|_| CertificateFault::Unreadable)?;
    let digest = acme_identifier(&certificate)?;
    check_name(&certificate, identifier)?;
    certificate.self_signed().map_err(|problem| match problem {
        NotSelfSigned::OtherIssuer => CertificateFault::OtherIssuer,
        NotSelfSigned::Algorithm => CertificateFault::UnknownAlgorithm,
        NotSelfSigned::Signature => CertificateFault::NotSelfSigned,
    })?;
    if equal_in_constant_time(digest, expected) { Ok(()) } else { Err(CertificateFault::OtherDigest) }
}

/// The digest that the certificate holds: `04 20` and 32 octets, in the one form that DER allows.
fn acme_identifier<'a>(certificate: &Certificate<'a>) -> Result<&'a [u8], CertificateFault> {
    let mut found = certificate.extensions_of(ACME_IDENTIFIER);
    let Some(extension) = found.next() else {
        let of_drafts = certificate.extensions_of(ACME_IDENTIFIER_OF_DRAFTS).next().is_some();
        return Err(if of_drafts { CertificateFault::DraftExtension } else { CertificateFault::ExtensionMissing });
    };
    if found.next().is_some() {
        return Err(CertificateFault::ExtensionTwice);
    }
    if !extension.critical {
        return Err(CertificateFault::NotCritical);
    }
    let digest = extension.value.strip_prefix(&[0x04, 0x20]).filter(|digest| digest.len() == 32);
    digest.ok_or(CertificateFault::MalformedExtension)
}

/// Exactly one subjectAltName with exactly one entry, which is what is asked about.
fn check_name(certificate: &Certificate<'_>, identifier: &Identifier) -> Result<(), CertificateFault> {
    let mut found = certificate.extensions_of(SUBJECT_ALT_NAME);
    let extension = found.next().ok_or(CertificateFault::NoNames)?;
    if found.next().is_some() {
        return Err(CertificateFault::NamesTwice);
    }
    let names = alternative_names(extension.value).map_err(|_| CertificateFault::UnreadableNames)?;
    let [name] = names.as_slice() else {
        return Err(CertificateFault::NameCount(u16::try_from(names.len()).unwrap_or(u16::MAX)));
    };
    let right = match (identifier, name) {
        (Identifier::Name(wanted), AlternativeName::Dns(name)) => {
            wanted.to_string().as_bytes().eq_ignore_ascii_case(name)
        }
        (Identifier::Ip(wanted), AlternativeName::Ip(octets)) => is_address(octets, *wanted),
        // A wildcard is never asked about (req D18), nor a mailbox.
        (Identifier::Name(_) | Identifier::Ip(_) | Identifier::Wildcard(_) | Identifier::Mailbox(_), _) => {
            return Err(CertificateFault::NameKind);
        }
    };
    if right { Ok(()) } else { Err(CertificateFault::OtherName) }
}
