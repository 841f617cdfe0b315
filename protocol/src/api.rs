//! Requests of the engine's own API, as messages and as what they mean.

use parallax_validation::request::{RawRequest, Restrictions};
use thiserror::Error;

use crate::wire::api;

/// Requests or answers in one message, at most.
pub const API_BATCH_MAX: usize = 256;

/// A request with restrictions that this program does not know.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("restrictions.set: {told} restrictions are said to be set, and {known} are known here")]
pub struct UnknownRestriction {
    told: u32,
    known: u32,
}

impl api::Restrictions {
    fn count(&self) -> u32 {
        u32::from(!self.issuer_domains.is_empty())
            + u32::from(self.non_corroborations_max.is_some())
            + u32::from(self.lookup_failure_forbids)
            + u32::from(self.dry_run)
    }
}

impl TryFrom<api::Request> for RawRequest {
    type Error = UnknownRestriction;

    fn try_from(request: api::Request) -> Result<Self, UnknownRestriction> {
        let restrictions = request.restrictions.unwrap_or_default();
        let (told, known) = (restrictions.set, restrictions.count());
        if told != known {
            return Err(UnknownRestriction { told, known });
        }
        Ok(Self {
            id: request.id,
            identifier: request.identifier,
            method: request.method,
            token: request.token,
            key_authorization: request.key_authorization,
            key_authorization_digest: request.key_authorization_digest,
            account_uri: request.account_uri,
            account: request.account,
            random_value: request.random_value,
            record_type: request.record_type,
            prefix_label: request.prefix_label,
            within: request.within,
            file: request.file,
            scheme: request.scheme,
            contact: request.contact,
            authorization_domain: request.authorization_domain,
            reverse_name: request.reverse_name,
            mail_host: request.mail_host,
            caa: request.caa,
            relied_on_method: request.relied_on_method,
            certificate_type: request.certificate_type,
            sibling_digests: request.sibling_digests,
            restrictions: Restrictions {
                issuer_domains: restrictions.issuer_domains,
                // More than fits restricts nothing either way.
                non_corroborations_max: restrictions
                    .non_corroborations_max
                    .map(|most| u8::try_from(most).unwrap_or(u8::MAX)),
                lookup_failure_forbids: restrictions.lookup_failure_forbids,
                dry_run: restrictions.dry_run,
            },
        })
    }
}

impl From<RawRequest> for api::Request {
    fn from(raw: RawRequest) -> Self {
        let restrictions = raw.restrictions;
        Self {
            id: raw.id,
            identifier: raw.identifier,
            method: raw.method,
            token: raw.token,
            key_authorization: raw.key_authorization,
            key_authorization_digest: raw.key_authorization_digest,
            account_uri: raw.account_uri,
            account: raw.account,
            random_value: raw.random_value,
            record_type: raw.record_type,
            prefix_label: raw.prefix_label,
            within: raw.within,
            file: raw.file,
            scheme: raw.scheme,
            contact: raw.contact,
            authorization_domain: raw.authorization_domain,
            reverse_name: raw.reverse_name,
            mail_host: raw.mail_host,
            caa: raw.caa,
            relied_on_method: raw.relied_on_method,
            certificate_type: raw.certificate_type,
            sibling_digests: raw.sibling_digests,
            restrictions: (!restrictions.is_empty()).then(|| {
                let restrictions = api::Restrictions {
                    issuer_domains: restrictions.issuer_domains,
                    non_corroborations_max: restrictions.non_corroborations_max.map(u32::from),
                    lookup_failure_forbids: restrictions.lookup_failure_forbids,
                    dry_run: restrictions.dry_run,
                    set: 0,
                };
                api::Restrictions { set: restrictions.count(), ..restrictions }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// A request with every field set, each to something of its own.
    fn full() -> RawRequest {
        let text = |name: &str| Some(format!("the {name}"));
        RawRequest {
            id: text("id"),
            identifier: "the identifier".to_owned(),
            method: "the method".to_owned(),
            token: text("token"),
            key_authorization: text("key_authorization"),
            key_authorization_digest: text("key_authorization_digest"),
            account_uri: text("account_uri"),
            account: text("account"),
            random_value: text("random_value"),
            record_type: text("record_type"),
            prefix_label: text("prefix_label"),
            within: Some(true),
            file: text("file"),
            scheme: text("scheme"),
            contact: text("contact"),
            authorization_domain: text("authorization_domain"),
            reverse_name: text("reverse_name"),
            mail_host: text("mail_host"),
            caa: Some(false),
            relied_on_method: text("relied_on_method"),
            certificate_type: text("certificate_type"),
            sibling_digests: vec!["one".to_owned(), "two".to_owned()],
            restrictions: Restrictions {
                issuer_domains: vec!["ca.example".to_owned()],
                non_corroborations_max: Some(0),
                lookup_failure_forbids: true,
                dry_run: true,
            },
        }
    }

    #[test]
    fn ok_every_field_goes_over_the_wire_and_comes_back() {
        for raw in [full(), RawRequest::default()] {
            let octets = api::Request::from(raw.clone()).encode_to_vec();
            let decoded = api::Request::decode(octets.as_slice()).expect("a message");
            assert!(RawRequest::try_from(decoded) == Ok(raw));
        }
    }

    #[test]
    fn err_a_restriction_that_is_not_known_is_not_forgotten() {
        let mut request = api::Request::from(full());
        request.restrictions.as_mut().expect("some").set += 1;
        let error = RawRequest::try_from(request).expect_err("one too many");
        assert!(error.to_string().contains("5 restrictions are said to be set, and 4 are known"), "{error}");
    }
}
