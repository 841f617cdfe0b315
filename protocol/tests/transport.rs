//! Mutual TLS from both ends: what is accepted, what is refused, and what is said about it.
#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Extension, Router, body::Body, routing::get};
use http::{Request, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parallax_protocol::{
    transport::{
        AllowList, Caller, ConnectError, ConnectLimits, Events, Identity, IdentityError, KeyPin, Peer, Refused,
        ServeLimits, TlsFiles, connect, serve, serve_plain,
    },
    wire::va::{
        IsCaaValidRequest, PerformValidationRequest, ValidationResult,
        va_client::VaClient,
        va_server::{Va, VaServer},
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Barrier, Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tonic::{Response, Status, service::Routes, transport::Channel};

const NODE: &str = "node.test.internal";
const ENGINE: &str = "engine.test.internal";
const DAY_S: u64 = 86_400;

/// Longer than anything here takes unless it hangs.
const LONG: Duration = Duration::from_secs(30);

fn now_s() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

struct Ca(CertifiedIssuer<'static, KeyPair>);

struct Leaf {
    certificate: String,
    key: String,
    pin: KeyPin,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, 1, now_s() - DAY_S, now_s() + DAY_S)
    }

    fn leaf_with(&self, name: &str, serial: u64, from_s: u64, until_s: u64) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(from_s);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(until_s);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Leaf { certificate, key: key.serialize_pem(), pin: KeyPin::of(&key.subject_public_key_info()) }
    }

    /// A revocation list.
    fn list(&self, serials: &[u64], until_s: u64) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(1970, 1, 1) + Duration::from_secs(until_s),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&self.0)
        .unwrap()
        .pem()
        .unwrap()
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Puts an identity into files of a directory.
fn files(directory: &Path, name: &str, leaf: &Leaf, ca: &Ca, list: Option<String>) -> TlsFiles {
    let files = TlsFiles {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
        authorities: directory.join("ca.pem"),
        revoked: list.is_some().then(|| directory.join("crl.pem")),
    };
    write(&files.certificate, &leaf.certificate, 0o644);
    write(&files.key, &leaf.key, 0o600);
    write(&files.authorities, &ca.0.pem(), 0o644);
    if let Some(list) = list {
        write(&directory.join("crl.pem"), &list, 0o644);
    }
    files
}

fn identity(directory: &TempDir, name: &str, leaf: &Leaf, ca: &Ca, list: Option<String>) -> Arc<Identity> {
    Arc::new(Identity::load(&files(directory.path(), name, leaf, ca, list)).unwrap())
}

#[derive(Default)]
struct Seen(Mutex<Vec<&'static str>>);

impl Events for Seen {
    fn refused(&self, _: SocketAddr, why: &Refused) {
        self.0.lock().unwrap().push(why.label());
    }
}

impl Seen {
    /// What was seen, as soon as there is something and a while later.
    async fn labels(&self) -> Vec<&'static str> {
        let until = Instant::now() + LONG;
        while self.0.lock().unwrap().is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(50)).await;
        self.0.lock().unwrap().clone()
    }
}

/// Answers with its caller's name; with authorisation 2 only when all are there, with 1 only when let go.
struct Authority {
    all: Arc<Barrier>,
    go: Arc<Notify>,
}

#[tonic::async_trait]
impl Va for Authority {
    async fn do_dcv(
        &self,
        request: tonic::Request<PerformValidationRequest>,
    ) -> Result<Response<ValidationResult>, Status> {
        let caller = request.extensions().get::<Caller>().unwrap().clone();
        let peer = *request.extensions().get::<SocketAddr>().unwrap();
        match request.into_inner().authz.map(|authz| authz.id) {
            Some(1) => self.go.notified().await,
            Some(2) => {
                self.all.wait().await;
            }
            _ => {}
        }
        Ok(Response::new(ValidationResult {
            perspective: caller.names[0].clone(),
            rir: peer.to_string(),
            ..Default::default()
        }))
    }
}

struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    drain: watch::Sender<bool>,
    ended: JoinHandle<std::io::Result<()>>,
    go: Arc<Notify>,
}

const ALL: usize = 10_000;

async fn start(identity: Arc<Identity>, limits: ServeLimits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, drained) = watch::channel(false);
    let (seen, go) = (Arc::new(Seen::default()), Arc::new(Notify::new()));
    let authority = Authority { all: Arc::new(Barrier::new(ALL)), go: go.clone() };
    let router = Routes::new(VaServer::new(authority)).into_axum_router().route(
        "/who",
        get(|Extension(caller): Extension<Caller>, Extension(peer): Extension<SocketAddr>| async move {
            assert!(peer.ip().is_loopback());
            caller.names.join(",")
        }),
    );
    let ended = tokio::spawn(serve(listener, identity, router, limits, seen.clone(), drained));
    Server { address, seen, drain, ended, go }
}

fn peer(address: SocketAddr) -> Peer {
    Peer { address: address.to_string(), name: NODE.into(), keys: Vec::new() }
}

fn request(id: i64) -> PerformValidationRequest {
    let authz = parallax_protocol::wire::va::AuthzMeta { id, ..Default::default() };
    PerformValidationRequest { authz: Some(authz), ..Default::default() }
}

async fn call(channel: &Channel) -> Result<ValidationResult, Status> {
    Ok(timeout(LONG, VaClient::new(channel.clone()).do_dcv(request(0))).await.expect("an answer")?.into_inner())
}

/// A client's configuration by hand: what ours would never be.
fn by_hand(
    ca: &Ca,
    leaf: Option<&Leaf>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.0.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match leaf {
        Some(leaf) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
            )
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

async fn dial(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from(NODE).unwrap(), stream).await
}

/// A server's socket by hand that does nothing but handshakes.
async fn handshakes_by_hand(leaf: &Leaf, versions: &[&'static SupportedProtocolVersion]) -> SocketAddr {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0]).await;
            }
        }
    });
    address
}

async fn get_who(mut sender: hyper::client::conn::http1::SendRequest<Body>) -> (StatusCode, Version, String) {
    let request = Request::get("/who").header("host", NODE).body(Body::empty()).unwrap();
    let answer = timeout(LONG, sender.send_request(request)).await.expect("an answer").unwrap();
    let (status, version) = (answer.status(), answer.version());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, version, String::from_utf8(body.to_vec()).unwrap())
}

/// A directory, an authority, a node that serves and an engine that calls.
struct Pair {
    directory: TempDir,
    ca: Ca,
    engine: Leaf,
    node: Leaf,
}

impl Pair {
    fn new() -> Self {
        let ca = Ca::new("one");
        Self {
            directory: TempDir::new().unwrap(),
            engine: ca.leaf_with(ENGINE, 2, now_s() - DAY_S, now_s() + DAY_S),
            node: ca.leaf_with(NODE, 3, now_s() - DAY_S, now_s() + DAY_S),
            ca,
        }
    }

    fn engine(&self) -> Arc<Identity> {
        identity(&self.directory, ENGINE, &self.engine, &self.ca, None)
    }

    fn node(&self) -> Arc<Identity> {
        identity(&self.directory, NODE, &self.node, &self.ca, None)
    }

    async fn server(&self) -> Server {
        start(self.node(), ServeLimits::default()).await
    }
}

#[tokio::test]
async fn a_pair_that_knows_each_other_talks() {
    let pair = Pair::new();
    let server = pair.server().await;
    let pinned = Peer { keys: vec![KeyPin::of(b"former"), pair.node.pin], ..peer(server.address) };
    for peer in [peer(server.address), pinned] {
        let channel = connect(&pair.engine(), &peer, &ConnectLimits::default()).await.unwrap();
        assert_eq!(call(&channel).await.unwrap().perspective, ENGINE);
    }
    assert_eq!(pair.node().own(), Caller { names: [NODE.to_owned()].into(), key: pair.node.pin });
    let engines = AllowList::new([ENGINE.to_owned()]).unwrap();
    assert!(engines.permits(&pair.engine().own()) && !engines.permits(&pair.node().own()));
    assert!(server.seen.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_alpn_either_protocol_is_spoken() {
    let pair = Pair::new();
    let server = pair.server().await;
    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[]);

    let (address, http2) = (server.address, config.clone());
    let connector = tower::service_fn(move |_: Uri| {
        let config = http2.clone();
        async move {
            let stream = dial(address, config).await?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), None);
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let channel = tonic::transport::Endpoint::from_static("https://node.test.internal")
        .connect_with_connector(connector)
        .await
        .unwrap();
    assert_eq!(call(&channel).await.unwrap().perspective, ENGINE);

    let stream = dial(server.address, config).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(get_who(sender).await, (StatusCode::OK, Version::HTTP_11, ENGINE.into()));
}

#[tokio::test]
async fn alpn_chooses_and_rest_is_served_over_both() {
    let pair = Pair::new();
    let server = pair.server().await;

    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[b"http/1.1"]);
    let stream = dial(server.address, config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(get_who(sender).await, (StatusCode::OK, Version::HTTP_11, ENGINE.into()));

    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[b"http/1.1", b"h2"]);
    let stream = dial(server.address, config).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("https://{NODE}/who")).body(Body::empty()).unwrap();
    let answer = timeout(LONG, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
}

/// What a client that must be refused does; the rest is the same for all.
async fn is_refused<F: Future<Output = ()>>(
    pair: &Pair,
    list: Option<String>,
    label: &str,
    client: impl FnOnce(SocketAddr) -> F,
) {
    let node = identity(&pair.directory, NODE, &pair.node, &pair.ca, list);
    let server = start(node, ServeLimits { handshake_ms: 500, ..Default::default() }).await;
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    call(&channel).await.unwrap();
    timeout(LONG, client(server.address)).await.expect("the client is let go");
    assert_eq!(server.seen.labels().await, [label]);
    call(&channel).await.unwrap();
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    call(&channel).await.unwrap();
    assert_eq!(server.seen.labels().await, [label], "nothing more");
}

/// Connects, asks, and gets nothing.
async fn gets_nothing(address: SocketAddr, config: Arc<ClientConfig>) {
    let attempt = async {
        let mut stream = dial(address, config).await?;
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match attempt.await {
        Ok(answer) => assert_eq!(answer, b""),
        Err(error) => drop(error),
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let pair = Pair::new();
    let config = by_hand(&pair.ca, None, &[&TLS13], &[]);
    is_refused(&pair, None, "no_certificate", |address| gets_nothing(address, config)).await;
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let pair = Pair::new();
    let stranger = Ca::new("two").leaf(ENGINE);
    let config = by_hand(&pair.ca, Some(&stranger), &[&TLS13], &[]);
    is_refused(&pair, None, "unknown_authority", |address| gets_nothing(address, config)).await;
}

#[tokio::test]
async fn a_client_whose_certificate_has_expired_is_refused() {
    let pair = Pair::new();
    let old = pair.ca.leaf_with(ENGINE, 9, now_s() - 2 * DAY_S, now_s() - DAY_S);
    let config = by_hand(&pair.ca, Some(&old), &[&TLS13], &[]);
    is_refused(&pair, None, "expired", |address| gets_nothing(address, config)).await;
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_valid_yet_is_refused() {
    let pair = Pair::new();
    let early = pair.ca.leaf_with(ENGINE, 9, now_s() + DAY_S, now_s() + 2 * DAY_S);
    let config = by_hand(&pair.ca, Some(&early), &[&TLS13], &[]);
    is_refused(&pair, None, "not_yet_valid", |address| gets_nothing(address, config)).await;
}

#[tokio::test]
async fn a_client_whose_certificate_is_revoked_is_refused() {
    let pair = Pair::new();
    let revoked = pair.ca.leaf_with(ENGINE, 9, now_s() - DAY_S, now_s() + DAY_S);
    let config = by_hand(&pair.ca, Some(&revoked), &[&TLS13], &[]);
    let list = pair.ca.list(&[8, 9], now_s() + DAY_S);
    is_refused(&pair, Some(list), "revoked", |address| gets_nothing(address, config)).await;
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let pair = Pair::new();
    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS12], &[]);
    is_refused(&pair, None, "version", |address| gets_nothing(address, config)).await;
}

#[tokio::test]
async fn a_client_of_plain_http_is_refused() {
    let pair = Pair::new();
    let client = |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    };
    is_refused(&pair, None, "not_tls", client).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let pair = Pair::new();
    let client = |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    };
    is_refused(&pair, None, "timed_out", client).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_after_the_handshake_is_let_go() {
    let pair = Pair::new();
    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[]);
    let client = |address| async move {
        let mut stream = dial(address, config).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    };
    is_refused(&pair, None, "timed_out", client).await;
}

#[tokio::test]
async fn where_there_are_lists_an_authority_without_one_is_not_believed() {
    let pair = Pair::new();
    let other = Ca::new("two");
    let node = identity(&pair.directory, NODE, &pair.node, &pair.ca, Some(other.list(&[], now_s() + DAY_S)));
    assert_eq!(node.revocations_until().unwrap().as_second(), i64::try_from(now_s() + DAY_S).unwrap());
    let server = start(node, ServeLimits::default()).await;
    gets_nothing(server.address, by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[])).await;
    assert_eq!(server.seen.labels().await, ["other"]);
}

#[tokio::test]
async fn a_list_that_expires_ends_belief() {
    let pair = Pair::new();
    let list = pair.ca.list(&[], now_s() + 2);
    let node = identity(&pair.directory, NODE, &pair.node, &pair.ca, Some(list));
    let server = start(node, ServeLimits::default()).await;
    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[]);
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    call(&channel).await.unwrap();
    sleep(Duration::from_secs(4)).await;
    gets_nothing(server.address, config).await;
    assert_eq!(server.seen.labels().await, ["other"]);
    call(&channel).await.unwrap();
}

async fn refuses(engine: &Arc<Identity>, peer: &Peer) -> ConnectError {
    timeout(LONG, connect(engine, peer, &ConnectLimits::default())).await.expect("an answer").unwrap_err()
}

#[tokio::test]
async fn a_server_that_was_not_meant_is_refused() {
    let pair = Pair::new();
    let server = pair.server().await;
    let engine = pair.engine();

    let other_name = Peer { name: "other.test.internal".into(), ..peer(server.address) };
    match refuses(&engine, &other_name).await {
        ConnectError::WrongName { wanted, presented } => {
            assert_eq!(wanted, "other.test.internal");
            assert!(format!("{presented:?}").contains(NODE), "{presented:?}");
        }
        error => panic!("{error:?}"),
    }
    let other_key = Peer { keys: vec![pair.engine.pin], ..peer(server.address) };
    let wrong_key = ConnectError::WrongKey { name: NODE.into(), presented: pair.node.pin };
    assert_eq!(refuses(&engine, &other_key).await, wrong_key);
    let no_name = Peer { name: "127.0.0.1".into(), ..peer(server.address) };
    assert_eq!(refuses(&engine, &no_name).await, ConnectError::BadName("127.0.0.1".into()));
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_valid_is_refused() {
    let pair = Pair::new();
    let list = pair.ca.list(&[7], now_s() + DAY_S);
    let engine = identity(&pair.directory, ENGINE, &pair.engine, &pair.ca, Some(list));
    let (day_ago, in_a_day) = (now_s() - DAY_S, now_s() + DAY_S);
    let cases = [
        (Ca::new("two").leaf(NODE), Refused::UnknownAuthority),
        (pair.ca.leaf_with(NODE, 5, day_ago - DAY_S, day_ago), Refused::Expired),
        (pair.ca.leaf_with(NODE, 6, in_a_day, in_a_day + DAY_S), Refused::NotYetValid),
        (pair.ca.leaf_with(NODE, 7, day_ago, in_a_day), Refused::Revoked),
    ];
    for (leaf, why) in cases {
        let address = handshakes_by_hand(&leaf, &[&TLS13]).await;
        assert_eq!(refuses(&engine, &peer(address)).await, ConnectError::Certificate(why));
    }
    let address = handshakes_by_hand(&pair.node, &[&TLS12]).await;
    assert_eq!(refuses(&engine, &peer(address)).await, ConnectError::Version);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_from_one_that_hangs() {
    let pair = Pair::new();
    let engine = pair.engine();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ConnectLimits { handshake_ms: 100, ..Default::default() };
    let hangs = connect(&engine, &peer(address), &limits).await.unwrap_err();
    assert_eq!(hangs, ConnectError::TimedOut { address: address.to_string() });
    drop(listener);
    assert!(matches!(refuses(&engine, &peer(address)).await, ConnectError::Unreachable { .. }));
    let nowhere = Peer { address: "no port".into(), ..peer(address) };
    assert!(matches!(refuses(&engine, &nowhere).await, ConnectError::Resolve { .. }));
}

#[tokio::test]
async fn a_channel_checks_again_when_it_connects_again() {
    let pair = Pair::new();
    let server = start(pair.node(), ServeLimits { drain_ms: 100, ..Default::default() }).await;
    let pinned = Peer { keys: vec![pair.node.pin], ..peer(server.address) };
    let channel = connect(&pair.engine(), &pinned, &ConnectLimits::default()).await.unwrap();
    call(&channel).await.unwrap();
    server.drain.send_replace(true);
    server.ended.await.unwrap().unwrap();

    let swapped = pair.ca.leaf(NODE);
    let listener = TcpListener::bind(server.address).await.unwrap();
    let node = identity(&pair.directory, NODE, &swapped, &pair.ca, None);
    let (_drain, drained) = watch::channel(false);
    tokio::spawn(serve(listener, node, Router::new(), ServeLimits::default(), server.seen, drained));
    let wrong_key = ConnectError::WrongKey { name: NODE.into(), presented: swapped.pin };
    let mut found = None;
    for _ in 0..10 {
        let status = call(&channel).await.unwrap_err();
        found = ConnectError::within(&status).cloned();
        if found.is_some() {
            break;
        }
    }
    assert_eq!(found, Some(wrong_key));
}

#[tokio::test]
async fn loading_again_has_everybody_show_themselves_again() {
    let pair = Pair::new();
    let (node, engine) = (pair.node(), pair.engine());
    let server = start(node.clone(), ServeLimits::default()).await;
    let first = Peer { keys: vec![pair.node.pin], ..peer(server.address) };
    let old = connect(&engine, &first, &ConnectLimits::default()).await.unwrap();
    call(&old).await.unwrap();

    let next = pair.ca.leaf_with(NODE, 4, now_s() - DAY_S, now_s() + 2 * DAY_S);
    let files = files(pair.directory.path(), NODE, &next, &pair.ca, None);
    let not_after = node.not_after();
    node.reload().unwrap();
    assert!(node.not_after() > not_after);
    let second = Peer { keys: vec![next.pin], ..peer(server.address) };
    let new = connect(&engine, &second, &ConnectLimits::default()).await.unwrap();
    call(&new).await.unwrap();
    assert!(matches!(refuses(&engine, &first).await, ConnectError::WrongKey { .. }));
    // A connection from before ends, and who makes it again meets the other key. What is on its way may still end well.
    let mut found = None;
    for _ in 0..10 {
        if let Err(status) = call(&old).await {
            found = ConnectError::within(&status).cloned().or(found);
        }
        if found.is_some() {
            break;
        }
    }
    assert!(matches!(found, Some(ConnectError::WrongKey { .. })), "{found:?}");

    // A file that cannot be used leaves everything as it is.
    let strange = pair.ca.leaf(NODE);
    for (file, text) in [(&files.certificate, "junk"), (&files.authorities, ""), (&files.key, &strange.key)] {
        let good = fs::read_to_string(file).unwrap();
        write(file, text, 0o600);
        let error = node.reload().unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
        let channel = connect(&engine, &second, &ConnectLimits::default()).await.unwrap();
        call(&channel).await.unwrap();
        write(file, &good, 0o600);
    }
    node.reload().unwrap();
}

#[tokio::test]
async fn a_revocation_counts_from_loading_again() {
    let pair = Pair::new();
    let node = identity(&pair.directory, NODE, &pair.node, &pair.ca, Some(pair.ca.list(&[], now_s() + DAY_S)));
    let server = start(node.clone(), ServeLimits::default()).await;
    let config = by_hand(&pair.ca, Some(&pair.engine), &[&TLS13], &[]);
    // Twice with one configuration: a session, if there was one, would be resumed.
    for _ in 0..2 {
        let stream = dial(server.address, config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        get_who(sender).await;
    }
    write(&pair.directory.path().join("crl.pem"), &pair.ca.list(&[2], now_s() + DAY_S), 0o644);
    node.reload().unwrap();
    gets_nothing(server.address, config).await;
    assert_eq!(server.seen.labels().await, ["revoked"]);
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let pair = Pair::new();
    let directory = pair.directory.path();
    let (day_ago, in_a_day) = (now_s() - DAY_S, now_s() + DAY_S);
    let expect = |leaf: &Leaf, list: Option<String>, spoil: &dyn Fn(&TlsFiles), name: &str, text: &str| {
        let files = files(directory, NODE, leaf, &pair.ca, list);
        spoil(&files);
        let error = Identity::load(&files).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(name) && said.contains(text), "{said}");
        assert!(!said.contains("PRIVATE") && !said.contains("MIG"), "{said}");
        error
    };
    let nothing: &dyn Fn(&TlsFiles) = &|_| {};
    let node = &pair.node;

    let error = expect(node, None, &|files| write(&files.key, &node.key, 0o640), "node.test.internal.key", "chmod 600");
    assert!(matches!(error, IdentityError::KeyExposed { mode: 0o640, .. }));
    expect(node, None, &|files| write(&files.key, "", 0o600), ".key", "no private key");
    expect(node, None, &|files| write(&files.key, &pair.engine.key, 0o600), ".key", "not the key of the certificate");
    expect(node, None, &|files| write(&files.certificate, "", 0o600), ".internal.pem", "no certificate");
    expect(node, None, &|files| fs::remove_file(&files.authorities).unwrap(), "ca.pem", "No such file");
    expect(node, Some(String::new()), nothing, "crl.pem", "no revocation list");
    let expired = pair.ca.list(&[], day_ago);
    let error = expect(node, Some(expired), nothing, "crl.pem", "expired");
    assert!(matches!(error, IdentityError::Expired { .. }));

    let old = pair.ca.leaf_with(NODE, 1, day_ago - DAY_S, day_ago);
    assert!(matches!(expect(&old, None, nothing, ".internal.pem", "expired"), IdentityError::Expired { .. }));
    let early = pair.ca.leaf_with(NODE, 1, in_a_day, in_a_day + DAY_S);
    assert!(matches!(expect(&early, None, nothing, ".pem", "not valid before"), IdentityError::NotYetValid { .. }));
    let printed = format!("{:?}", pair.node());
    assert!(printed.contains("ca.pem") && !printed.contains("PRIVATE"), "{printed}");
}

#[tokio::test]
async fn told_to_stop_it_lets_running_requests_end() {
    let pair = Pair::new();
    let server = pair.server().await;
    let engine = pair.engine();
    let channel = connect(&engine, &peer(server.address), &ConnectLimits::default()).await.unwrap();
    call(&channel).await.unwrap();
    let mut client = VaClient::new(channel);
    let running = tokio::spawn(async move { client.do_dcv(request(1)).await });
    sleep(Duration::from_millis(100)).await;
    server.drain.send_replace(true);
    sleep(Duration::from_millis(100)).await;
    assert!(!server.ended.is_finished() && !running.is_finished());
    assert!(matches!(refuses(&engine, &peer(server.address)).await, ConnectError::Unreachable { .. }));
    server.go.notify_waiters();
    let answer = timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_inner().perspective, ENGINE);
    timeout(LONG, server.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn told_to_stop_it_waits_no_longer_than_it_should() {
    let pair = Pair::new();
    let server = start(pair.node(), ServeLimits { drain_ms: 200, ..Default::default() }).await;
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    let mut client = VaClient::new(channel);
    let running = tokio::spawn(async move { client.do_dcv(request(1)).await });
    sleep(Duration::from_millis(100)).await;
    server.drain.send_replace(true);
    timeout(LONG, server.ended).await.unwrap().unwrap().unwrap();
    assert!(timeout(LONG, running).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let pair = Pair::new();
    let server = start(pair.node(), ServeLimits { connections: 1, ..Default::default() }).await;
    let engine = pair.engine();
    let first = connect(&engine, &peer(server.address), &ConnectLimits::default()).await.unwrap();
    call(&first).await.unwrap();
    let address = server.address;
    let second = tokio::spawn(async move {
        let channel = connect(&engine, &peer(address), &ConnectLimits::default()).await.unwrap();
        call(&channel).await
    });
    sleep(Duration::from_millis(300)).await;
    assert!(!second.is_finished());
    call(&first).await.unwrap();
    drop(first);
    timeout(LONG, second).await.unwrap().unwrap().unwrap();
    assert!(server.seen.0.lock().unwrap().is_empty());
}

/// A listener whose connections go on to an address until told to swallow everything.
async fn relay(to: SocketAddr, swallow: Arc<Notify>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut from, _) = listener.accept().await.unwrap();
        let mut to = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
            () = swallow.notified() => std::future::pending().await,
        }
    });
    address
}

#[tokio::test]
async fn both_ends_notice_that_nothing_comes_through() {
    let pair = Pair::new();
    let limits = ServeLimits { connections: 1, ping_ms: 100, ping_timeout_ms: 200, ..Default::default() };
    let server = start(pair.node(), limits).await;
    let swallow = Arc::new(Notify::new());
    let address = relay(server.address, swallow.clone()).await;
    let limits = ConnectLimits { ping_ms: 100, ping_timeout_ms: 200, ..Default::default() };
    let channel = connect(&pair.engine(), &peer(address), &limits).await.unwrap();
    call(&channel).await.unwrap();
    // Pings alone keep it.
    sleep(Duration::from_millis(700)).await;
    call(&channel).await.unwrap();
    let mut client = VaClient::new(channel);
    let running = tokio::spawn(async move { client.do_dcv(request(1)).await });
    sleep(Duration::from_millis(100)).await;
    swallow.notify_one();
    // The client: its call ends. The server: the only place there is becomes free.
    timeout(LONG, running).await.expect("an end").unwrap().unwrap_err();
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    call(&channel).await.unwrap();
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_its_calls_may_end() {
    let pair = Pair::new();
    let server = start(pair.node(), ServeLimits { connection_age_ms: Some(200), ..Default::default() }).await;
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    let before = call(&channel).await.unwrap().rir;
    let mut client = VaClient::new(channel.clone());
    let running = tokio::spawn(async move { client.do_dcv(request(1)).await });
    sleep(Duration::from_millis(500)).await;
    // A channel of ours notices by one call that it did not send.
    let after = match call(&channel).await {
        Ok(answer) => answer.rir,
        Err(_) => call(&channel).await.unwrap().rir,
    };
    assert_ne!(before, after, "another connection");
    server.go.notify_waiters();
    assert_eq!(timeout(LONG, running).await.unwrap().unwrap().unwrap().into_inner().rir, before);
}

#[tokio::test]
async fn one_connection_carries_ten_thousand_calls_at_once() {
    let pair = Pair::new();
    let server = pair.server().await;
    let channel = connect(&pair.engine(), &peer(server.address), &ConnectLimits::default()).await.unwrap();
    let calls: Vec<_> = (0..ALL)
        .map(|_| {
            let mut client = VaClient::new(channel.clone());
            tokio::spawn(async move { client.do_dcv(request(2)).await.unwrap() })
        })
        .collect();
    for call in calls {
        timeout(2 * LONG, call).await.expect("all are served at once").unwrap();
    }
}

#[tokio::test]
async fn a_plain_listener_speaks_http_1_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, drained) = watch::channel(false);
    let router = Router::new().route(
        "/who",
        get(|caller: Option<Extension<Caller>>, Extension(peer): Extension<SocketAddr>| async move {
            assert!(caller.is_none());
            peer.ip().to_string()
        }),
    );
    let ended = tokio::spawn(serve_plain(listener, router, ServeLimits::default(), drained));
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(get_who(sender).await, (StatusCode::OK, Version::HTTP_11, "127.0.0.1".into()));

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    drop(drain);
    timeout(LONG, ended).await.unwrap().unwrap().unwrap();
}

#[test]
fn limits_and_files_are_read_strictly() {
    assert_eq!(serde_json::from_str::<ServeLimits>("{}").unwrap(), ServeLimits::default());
    assert!(serde_json::from_str::<ServeLimits>(r#"{"handshake": 1}"#).is_err());
    assert!(serde_json::from_str::<ConnectLimits>(r#"{"ping_ms": 1, "pong": 2}"#).is_err());
    let peer = r#"{"address": "a:1", "name": "a", "keys": ["sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]}"#;
    assert_eq!(serde_json::from_str::<Peer>(peer).unwrap().keys, [KeyPin::of(b"")]);
    let files = r#"{"certificate": "a", "key": "b", "authorities": "c"}"#;
    assert_eq!(serde_json::from_str::<TlsFiles>(files).unwrap().revoked, None);
    // The other service of Boulder is made as well.
    assert_eq!(IsCaaValidRequest::default().authz_id, 0);
}
