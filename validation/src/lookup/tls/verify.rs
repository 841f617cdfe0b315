//! A verifier that accepts every chain and demands that the handshake is signed by the leaf's key.
//!
//! A redirect may lead to the very server that waits for its first certificate, so what it shows until then
//! is not judged (req D17, `cases.md` D09); the certificate of tls-alpn-01 is judged from the evidence
//! afterwards. The library's own helper for handshake signatures reads the whole certificate first and
//! refuses critical extensions it does not know, among them acmeIdentifier; so the key is taken out here.

use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::certificate::{handshake_schemes, key_of, signed_handshake};

/// See the module.
#[derive(Debug)]
pub(super) struct AcceptsEveryChain;

impl ServerCertVerifier for AcceptsEveryChain {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check(message, leaf, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446 §4.4.3 forbids these, although they are offered for TLS 1.2.
        let of_tls12 =
            [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PKCS1_SHA384, SignatureScheme::RSA_PKCS1_SHA512];
        if of_tls12.contains(&signed.scheme) {
            return Err(CertificateError::BadSignature.into());
        }
        check(message, leaf, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        handshake_schemes()
    }
}

fn check(
    message: &[u8],
    leaf: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    is_tls13: bool,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(leaf).map_err(|_| CertificateError::BadEncoding)?;
    if signed_handshake(key, (signed.scheme, is_tls13), message, signed.signature()) {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(CertificateError::BadSignature.into())
    }
}
