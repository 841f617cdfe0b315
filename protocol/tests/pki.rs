//! A private authority as it is used: what it makes works over a network, and what it revokes does not.
#![allow(clippy::unwrap_used, reason = "a failed step ends the test")]

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use axum::{Extension, Router, routing::get};
use http::Request;
use parallax_protocol::{
    pki::{self, PkiError},
    transport::{
        Caller, ConnectError, ConnectLimits, Events, Identity, Peer, Refused, ServeLimits, TlsFiles, connect, serve,
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};
use tonic::{body::Body, transport::Channel};
use tower::Service;

const ENGINE: &str = "engine.test.internal";
const NODE: &str = "node.test.internal";

struct Told(mpsc::Sender<&'static str>);

impl Events for Told {
    fn refused(&self, _: SocketAddr, why: &Refused) {
        let _ = self.0.send(why.label());
    }
}

fn private() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
    directory
}

fn load(directory: &Path, name: &str) -> Arc<Identity> {
    let files = TlsFiles {
        certificate: directory.join(format!("{name}.pem")),
        key: directory.join(format!("{name}.key")),
        authorities: directory.join("ca.pem"),
        revoked: Some(directory.join("crl.pem")),
    };
    Arc::new(Identity::load(&files).unwrap())
}

fn names() -> Vec<String> {
    vec![ENGINE.into(), NODE.into()]
}

async fn ask(channel: &mut Channel) -> Result<u16, tonic::transport::Error> {
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
    Ok(channel.call(Request::get("/").body(Body::empty()).unwrap()).await?.status().as_u16())
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_is_made_works_until_it_is_revoked() {
    let temporary = private();
    let directory = &temporary.path().join("pki");
    let made = pki::init(directory, &names(), pki::CERTIFICATE_DAYS).unwrap();
    let pins: Vec<_> = made.certificates.iter().map(|issued| issued.pin).collect();
    let (engine, node) = (load(directory, ENGINE), load(directory, NODE));
    assert_eq!(node.own(), Caller { names: [NODE.to_owned()].into(), key: pins[1] });
    assert_eq!(engine.not_after(), made.certificates[0].not_after);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap().to_string(), name: NODE.into(), keys: vec![pins[1]] };
    let (told, tells) = mpsc::channel();
    let (_drain, drained) = watch::channel(false);
    let router = Router::new().route(
        "/",
        get(|Extension(caller): Extension<Caller>| async move {
            assert_eq!(&*caller.names, [ENGINE]);
        }),
    );
    tokio::spawn(serve(listener, node.clone(), router, ServeLimits::default(), Arc::new(Told(told)), drained));
    let limits = ConnectLimits::default();
    let mut channel = connect(&engine, &peer, &limits).await.unwrap();
    assert_eq!(ask(&mut channel).await.unwrap(), 200);

    // Renewed under the same key: the pin still holds.
    let renewed = pki::issue(directory, NODE, 30, true).unwrap();
    assert_eq!(renewed.pin, pins[1]);
    assert_ne!(renewed.serial, made.certificates[1].serial);
    node.reload().unwrap();
    assert_eq!(node.not_after(), renewed.not_after);
    let mut channel = connect(&engine, &peer, &limits).await.unwrap();
    assert_eq!(ask(&mut channel).await.unwrap(), 200);

    let revoked = pki::revoke(directory, ENGINE).unwrap();
    assert_eq!(revoked[0].serial, made.certificates[0].serial);
    node.reload().unwrap();
    if let Ok(mut channel) = connect(&engine, &peer, &limits).await {
        ask(&mut channel).await.unwrap_err();
    }
    assert_eq!(tells.recv_timeout(Duration::from_secs(30)).unwrap(), "revoked");

    // A serial number revokes one certificate only, here the one that is in use.
    assert_eq!(pki::revoke(directory, &renewed.serial).unwrap().len(), 1);
    engine.reload().unwrap();
    let error = connect(&engine, &peer, &limits).await.unwrap_err();
    assert_eq!(error, ConnectError::Certificate(Refused::Revoked));
    let listed = pki::list(directory).unwrap();
    let seen: Vec<_> = listed.iter().map(|listed| (&*listed.name, listed.revoked.is_some())).collect();
    assert_eq!(seen, [(ENGINE, true), (NODE, false), (NODE, true)]);
    assert_eq!(listed[2].not_after, renewed.not_after);
}

#[test]
fn keys_are_for_their_owner() {
    let temporary = private();
    let directory = &temporary.path().join("pki");
    pki::init(directory, &names(), 1).unwrap();
    assert_eq!(mode(directory), 0o700);
    for name in ["ca", ENGINE, NODE] {
        assert_eq!(mode(&directory.join(format!("{name}.key"))), 0o600);
    }
    let open = temporary.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    let error = pki::init(&open, &names(), 1).unwrap_err();
    assert!(matches!(error, PkiError::Exposed { mode: 0o755, .. }) && error.to_string().contains("chmod 700"));
    assert!(contents(&open).is_empty());
}

#[test]
fn nothing_is_overwritten() {
    let temporary = private();
    let directory = temporary.path();
    pki::init(directory, &names(), 1).unwrap();
    let before = contents(directory);
    assert!(matches!(pki::init(directory, &names(), 1), Err(PkiError::Exists(_))));
    assert!(matches!(pki::init(directory, &["third.internal".into()], 1), Err(PkiError::Exists(_))));
    assert!(matches!(pki::issue(directory, NODE, 1, false), Err(PkiError::Exists(_))));
    assert_eq!(contents(directory), before);

    // One file of a name is enough to be in the way.
    let other = private();
    let in_the_way = other.path().join(format!("{NODE}.key"));
    fs::write(&in_the_way, "mine").unwrap();
    match pki::init(other.path(), &names(), 1) {
        Err(PkiError::Exists(file)) => assert_eq!(file, in_the_way),
        other => panic!("{other:?}"),
    }
    assert_eq!(contents(other.path()).len(), 1);
}

#[test]
fn names_are_added_and_renewed_on_request_only() {
    let temporary = private();
    let directory = temporary.path();
    pki::init(directory, &[], 1).unwrap();
    assert!(matches!(pki::issue(directory, NODE, 1, true), Err(PkiError::File { .. })));
    let first = pki::issue(directory, "Node.test.INTERNAL", 1, false).unwrap();
    assert_eq!((&*first.name, first.serial.len()), (NODE, 32));
    let second = pki::issue(directory, NODE, 2, true).unwrap();
    assert!(second.not_after > first.not_after && second.pin == first.pin);
    let text = fs::read_to_string(&second.certificate).unwrap();
    assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!contents(directory).keys().any(|name| name.ends_with(".new")));
    load(directory, NODE);

    // A key that is not trusted any more is not certified again.
    assert_eq!(pki::revoke(directory, NODE).unwrap().len(), 2);
    assert_eq!(pki::revoke(directory, NODE).unwrap(), [], "they are already");
    assert!(matches!(pki::issue(directory, NODE, 1, true), Err(PkiError::KeyRevoked(_))));
    fs::remove_file(&first.key).unwrap();
    fs::remove_file(&first.certificate).unwrap();
    let third = pki::issue(directory, NODE, 1, false).unwrap();
    assert_ne!(third.pin, first.pin);
    assert_eq!(serde_json::to_value(&third).unwrap()["pin"], third.pin.to_string());
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_written() {
    let temporary = private();
    let directory = temporary.path();
    for name in ["", "ca", "CRL", "index", "../x", "a/b", "*.internal", "a b", "a.internal.", "127.0.0.1:1"] {
        assert!(matches!(pki::init(directory, &[name.into()], 1), Err(PkiError::BadName(_))), "{name}");
    }
    assert!(matches!(pki::init(directory, &["a".into(), "A".into()], 1), Err(PkiError::BadName(_))));
    for days in [0, 4000, u32::MAX] {
        assert!(matches!(pki::init(directory, &names(), days), Err(PkiError::BadDays { .. })), "{days}");
    }
    assert!(contents(directory).is_empty());
    pki::init(directory, &names(), 1).unwrap();
    let before = contents(directory);
    assert!(matches!(pki::issue(directory, "third.internal", 4000, false), Err(PkiError::BadDays { .. })));
    assert!(matches!(pki::revoke(directory, "third.internal"), Err(PkiError::Unknown(_))));
    assert_eq!(contents(directory), before);
}

#[test]
fn lists_are_numbered_and_renewed() {
    let temporary = private();
    let directory = temporary.path();
    pki::init(directory, &names(), 1).unwrap();
    let until = pki::renew_list(directory).unwrap();
    assert_eq!(load(directory, NODE).revocations_until(), Some(until));
    pki::revoke(directory, NODE).unwrap();
    let index = fs::read_to_string(directory.join("index.txt")).unwrap();
    let numbers: Vec<_> = index.lines().filter_map(|line| line.strip_prefix("list ")).map(|line| &line[..1]).collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    let (_, pem) = x509_parser::pem::parse_x509_pem(&fs::read(directory.join("crl.pem")).unwrap()).unwrap();
    let (_, list) = x509_parser::parse_x509_crl(&pem.contents).unwrap();
    assert_eq!(list.crl_number().unwrap().to_string(), "3");
    assert_eq!(list.iter_revoked_certificates().count(), 1);
}

#[test]
fn what_does_not_fit_is_named() {
    let temporary = private();
    let directory = temporary.path();
    assert!(pki::list(directory).unwrap_err().to_string().contains("index.txt"));
    pki::init(directory, &names(), 1).unwrap();
    fs::copy(directory.join(format!("{NODE}.key")), directory.join("ca.key")).unwrap();
    let error = pki::renew_list(directory).unwrap_err().to_string();
    assert!(error.contains("ca.key: not the key of ca.pem"), "{error}");
    fs::write(directory.join("index.txt"), "list 1 2024-01-01T00:00:00Z\nnonsense\n").unwrap();
    let error = pki::list(directory).unwrap_err().to_string();
    assert!(error.contains("index.txt: line 2"), "{error}");
}
