//! Boulder's validation authority as a test plays it: a client that offers no ALPN, calls the primary first and then the
//! remotes, and counts as Boulder does.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use parallax_protocol::{
    transport::Identity,
    wire::{
        core,
        va::{AuthzMeta, IsCaaValidRequest, PerformValidationRequest, caa_client::CaaClient, va_client::VaClient},
    },
};
use parallax_validation::request::RawRequest;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::fleet::{Fleet, account_number};

/// Methods that Boulder has.
const METHODS: [&str; 5] = ["http-01", "dns-01", "tls-alpn-01", "dns-account-01", "dns-persist-01"];

/// Whether Boulder has words for a request. An account that persists for an address is one of our engine's own.
pub(crate) fn has_words_for(raw: &RawRequest) -> bool {
    let is_address = raw.identifier.parse::<std::net::IpAddr>().is_ok();
    METHODS.contains(&raw.method.as_str())
        && raw.authorization_domain.is_none()
        && raw.reverse_name.is_none()
        && raw.mail_host.is_none()
        && !raw.identifier.contains('@')
        && !(raw.method == "dns-persist-01" && is_address)
}

/// Control, and then CAA.
pub(crate) async fn validated(channels: &[Channel], raw: &RawRequest) -> Outcome {
    let is_address = raw.identifier.parse::<std::net::IpAddr>().is_ok();
    let outcome = corroborated(channels, raw, false).await;
    if outcome.is_none() && raw.caa.unwrap_or(!is_address) { corroborated(channels, raw, true).await } else { outcome }
}

/// As Boulder's Go client connects: TLS 1.3, a certificate, no ALPN, and HTTP/2 at once.
pub(crate) async fn channel(identity: &Identity, fleet: &Fleet, index: usize) -> Channel {
    let mut config = (*identity.client_config()).clone();
    config.alpn_protocols.clear();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let place = fleet.places[index].clone();
    let connect = tower::service_fn(move |_: Uri| {
        let (connector, place) = (connector.clone(), place.clone());
        async move {
            let stream = TcpStream::connect(place.listen).await?;
            let stream = connector.connect(ServerName::try_from(place.id).unwrap(), stream).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), None, "nothing was negotiated");
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::from_static("https://node").connect_with_connector(connect).await.unwrap()
}

fn identifier(raw: &RawRequest) -> core::Identifier {
    let is_address = raw.identifier.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_address { "ip" } else { "dns" };
    core::Identifier { r#type: kind.to_owned(), value: raw.identifier.clone() }
}

pub(crate) fn dcv(raw: &RawRequest) -> PerformValidationRequest {
    // dns-persist-01 uses neither, and Boulder sends them all the same.
    let token = raw.token.clone().unwrap_or_else(|| "a".repeat(43));
    PerformValidationRequest {
        challenge: Some(core::Challenge {
            r#type: raw.method.clone(),
            token: token.clone(),
            status: "pending".to_owned(),
            ..core::Challenge::default()
        }),
        authz: Some(AuthzMeta { reg_id: account_number(), id: 7 }),
        expected_key_authorization: raw.key_authorization.clone().unwrap_or_else(|| format!("{token}.x")),
        identifier: Some(identifier(raw)),
    }
}

pub(crate) fn caa(raw: &RawRequest) -> IsCaaValidRequest {
    IsCaaValidRequest {
        validation_method: raw.method.clone(),
        account_uriid: account_number(),
        identifier: Some(identifier(raw)),
        authz_id: 7,
    }
}

/// One perspective's problem, by type; none if it passed.
pub(crate) type Outcome = Option<String>;

async fn ask(channel: &Channel, raw: &RawRequest, wants_caa: bool) -> Outcome {
    let problem = if wants_caa {
        CaaClient::new(channel.clone()).do_caa(caa(raw)).await.unwrap().into_inner().problem
    } else {
        VaClient::new(channel.clone()).do_dcv(dcv(raw)).await.unwrap().into_inner().problem
    };
    problem.map(|problem| {
        assert!(!problem.problem_type.is_empty() && !problem.detail.is_empty());
        problem.problem_type
    })
}

/// Boulder's order and count: the primary, and then all remotes, of which one of five may fail.
async fn corroborated(channels: &[Channel], raw: &RawRequest, wants_caa: bool) -> Outcome {
    if let Some(problem) = ask(&channels[0], raw, wants_caa).await {
        return Some(problem);
    }
    let mut failed = Vec::new();
    for remote in &channels[1..] {
        failed.extend(ask(remote, raw, wants_caa).await);
    }
    if failed.len() <= 1 { None } else { failed.pop() }
}
