//! A server and its caller over a real connection, with a node that shows what a test says.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests; a panic is a failed test")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use parallax_protocol::{
    boulder::{Audit, AuditLine, Clock, LookError, Looks, Node, Server, Settings},
    wire::{
        core::{Challenge, Identifier},
        va::{
            AuthzMeta, IsCaaValidRequest, PerformValidationRequest, caa_client::CaaClient, caa_server::CaaServer,
            va_client::VaClient, va_server::VaServer,
        },
    },
};
use parallax_validation::{base::address::AddressFilter, observation::Observation, plan::Plan};
use tokio::time::Instant;
use tonic::{
    Request,
    transport::{Channel, Endpoint, server::TcpIncoming},
};

pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
pub(crate) const THUMBPRINT: &str = "nP1qzpXGymHBrUEepNY9HCsQk7K8KhOypzEt62jcerQ";
pub(crate) const NOW: &str = "2026-11-25T12:00:00Z";

/// What the node does.
#[derive(Clone)]
pub(crate) enum Script {
    Shows(Box<Observation>),
    Fails(LookError),
    /// For so long, and then shows.
    Takes(Duration, Box<Observation>),
}

#[derive(Clone)]
pub(crate) struct Looker {
    pub(crate) script: Arc<Mutex<Script>>,
    /// Plan, deadline, and when it was asked.
    pub(crate) asked: Arc<Mutex<Vec<(Plan, Instant, Instant)>>>,
}

impl Looks for Looker {
    async fn look(&self, plan: Plan, deadline: Instant) -> Result<Observation, LookError> {
        self.asked.lock().unwrap().push((plan, deadline, Instant::now()));
        let script = self.script.lock().unwrap().clone();
        match script {
            Script::Shows(observation) => Ok(*observation),
            Script::Fails(error) => Err(error),
            Script::Takes(time, observation) => {
                tokio::time::sleep(time).await;
                Ok(*observation)
            }
        }
    }
}

pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW.parse().unwrap()
    }
}

#[derive(Clone, Default)]
pub(crate) struct Lines(pub(crate) Arc<Mutex<Vec<AuditLine>>>);

impl Audit for Lines {
    fn write(&self, line: &AuditLine) {
        self.0.lock().unwrap().push(line.clone());
    }
}

pub(crate) struct Lab {
    pub(crate) va: VaClient<Channel>,
    pub(crate) caa: CaaClient<Channel>,
    pub(crate) looker: Looker,
    pub(crate) lines: Lines,
    pub(crate) server: Arc<Server<Looker, Fixed, Lines>>,
}

pub(crate) fn filter() -> AddressFilter {
    let nets = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"];
    AddressFilter::allowing(nets.iter().map(|net| net.parse().unwrap()).collect())
}

/// Everything is offered, and accounts have two URIs.
pub(crate) fn settings() -> Settings {
    serde_json::from_str(
        r#"{"issuer_domains":["ca.example"],"dns_account_01":true,"dns_persist_01":true,
            "account_uri_prefixes":["https://ca.example/acct/","https://old.ca.example/acct/"]}"#,
    )
    .unwrap()
}

pub(crate) fn node(looker: Looker, lines: Lines) -> Node<Looker, Fixed, Lines> {
    Node {
        perspective: "waw1".parse().unwrap(),
        rir: parallax_validation::base::perspective::Rir::RipeNcc,
        rules: filter().into(),
        looks: looker,
        clock: Fixed,
        audit: lines,
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let script = Arc::new(Mutex::new(Script::Fails(LookError::Stopped)));
        let looker = Looker { script, asked: Arc::default() };
        let lines = Lines::default();
        let server = Arc::new(Server::new(settings, node(looker.clone(), lines.clone())).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tonic::transport::Server::builder()
            .add_service(VaServer::from_arc(server.clone()))
            .add_service(CaaServer::from_arc(server.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(served);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { va: VaClient::new(channel.clone()), caa: CaaClient::new(channel), looker, lines, server }
    }

    pub(crate) fn plays(&self, script: Script) {
        *self.looker.script.lock().unwrap() = script;
    }

    pub(crate) fn shows(&self, observation: &Observation) {
        self.plays(Script::Shows(Box::new(observation.clone())));
    }

    pub(crate) fn asked(&self) -> Vec<(Plan, Instant, Instant)> {
        std::mem::take(&mut self.looker.asked.lock().unwrap())
    }
}

pub(crate) fn identifier(kind: &str, value: &str) -> Option<Identifier> {
    Some(Identifier { r#type: kind.to_owned(), value: value.to_owned() })
}

pub(crate) fn kind_of(value: &str) -> &'static str {
    if value.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" }
}

pub(crate) fn dcv(value: &str, method: &str) -> PerformValidationRequest {
    PerformValidationRequest {
        challenge: Some(Challenge {
            r#type: method.to_owned(),
            token: TOKEN.to_owned(),
            status: "pending".to_owned(),
            ..Challenge::default()
        }),
        authz: Some(AuthzMeta { reg_id: 7, id: 11 }),
        expected_key_authorization: format!("{TOKEN}.{THUMBPRINT}"),
        identifier: identifier(kind_of(value), value),
    }
}

pub(crate) fn caa(value: &str) -> IsCaaValidRequest {
    IsCaaValidRequest {
        validation_method: "http-01".to_owned(),
        account_uriid: 7,
        identifier: identifier("dns", value),
        authz_id: 11,
    }
}

/// A call with so much time.
pub(crate) fn within<T>(message: T, ms: u64) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(ms));
    request
}
