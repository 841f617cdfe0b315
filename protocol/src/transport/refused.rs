//! Why a handshake came to nothing, in few words that a metric can count.
//!
//! Both sides use it: a server to report whom it turned away, a client to say what is wrong with a server's certificate.
//!
//! Invariant: a label never changes its meaning and carries nothing that the peer chose.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use thiserror::Error as ThisError;

/// Why a peer was refused before any request.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Refused {
    /// Its address has as many unfinished handshakes as one may have.
    #[error("too many unfinished handshakes from its address")]
    TooMany,
    /// It showed none.
    #[error("no certificate was presented")]
    NoCertificate,
    /// Its certificate was not issued by one of our authorities.
    #[error("the certificate is not of a known authority")]
    UnknownAuthority,
    /// Its certificate is too old.
    #[error("the certificate has expired")]
    Expired,
    /// Its certificate is on a revocation list.
    #[error("the certificate is revoked")]
    Revoked,
    /// Its certificate is of the future, or a clock is wrong.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// It cannot or will not speak TLS 1.3.
    #[error("TLS 1.3 is not spoken")]
    Version,
    /// What it sent is not TLS.
    #[error("TLS is not spoken")]
    NotTls,
    /// It did not get on with the handshake or, after it, with its first request.
    #[error("nothing came within the time limit")]
    TimedOut,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Refused {
    /// The name of the case in metrics: lower case, stable.
    pub fn label(&self) -> &'static str {
        match self {
            Refused::TooMany => "too_many",
            Refused::NoCertificate => "no_certificate",
            Refused::UnknownAuthority => "unknown_authority",
            Refused::Expired => "expired",
            Refused::Revoked => "revoked",
            Refused::NotYetValid => "not_yet_valid",
            Refused::Version => "version",
            Refused::NotTls => "not_tls",
            Refused::TimedOut => "timed_out",
            Refused::Other(_) => "other",
        }
    }
}

impl From<&Error> for Refused {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Refused::NoCertificate,
            Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::UnknownIssuer => Refused::UnknownAuthority,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refused::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Refused::NotYetValid,
                CertificateError::Revoked => Refused::Revoked,
                CertificateError::UnknownRevocationStatus => {
                    Refused::Other("there is no revocation list of the certificate's authority".into())
                }
                CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                    Refused::Other("the revocation list of the certificate's authority has expired".into())
                }
                other => Refused::Other(format!("the certificate is not acceptable: {other}")),
            },
            Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            )
            | Error::AlertReceived(AlertDescription::ProtocolVersion) => Refused::Version,
            Error::AlertReceived(alert) => Refused::Other(format!("the other side refused: {alert:?}")),
            Error::InvalidMessage(_) => Refused::NotTls,
            other => Refused::Other(other.to_string()),
        }
    }
}

impl From<&io::Error> for Refused {
    fn from(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(error) => Refused::from(error),
            None => Refused::Other(format!("the connection ended: {error}")),
        }
    }
}

/// The TLS error that an error of a TLS stream stands for; none if the network failed.
pub(super) fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
