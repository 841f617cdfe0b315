//! The servers of the laboratory, asked over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use parallax_perf::lab::{
    kinds::Kind,
    serve::Lab,
    wire::compose_query,
    world::{ATTACKER, BLACK_HOLE, CLOSED, Perspective, RESETTING, SECOND, Scenario, VICTIM, VICTIM_V6, World},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256};
use socket2::{Domain, Socket, Type};

const A: u16 = 1;
const TXT: u16 = 16;
const CAA: u16 = 257;

struct Bench {
    world: World,
    lab: Lab,
}

impl Bench {
    fn new(dns_port: u16, http_port: u16) -> Self {
        let world = World { dns_port, http_port, https_port: http_port + 400, ..World::new(11, 5_000) };
        let lab = Lab::start(&world).unwrap();
        Self { world, lab }
    }

    fn scenario(&self, kind: Kind) -> Scenario {
        (0..5_000).map(|i| self.world.scenario(i)).find(|s| s.kind == kind).unwrap()
    }

    fn client(&self, perspective: Perspective) -> UdpSocket {
        let socket = UdpSocket::bind((perspective.source(), 0)).unwrap();
        socket.connect(self.world.resolver(perspective)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }

    fn udp_all(&self, perspective: Perspective, name: &str, qtype: u16) -> Vec<Vec<u8>> {
        let socket = self.client(perspective);
        socket.send(&compose_query(77, name, qtype)).unwrap();
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            all.push(buffer[..length].to_vec());
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        }
        all
    }

    fn udp(&self, perspective: Perspective, name: &str, qtype: u16) -> Vec<u8> {
        let mut all = self.udp_all(perspective, name, qtype);
        assert_eq!(all.len(), 1, "{name}");
        all.remove(0)
    }

    fn tcp(&self, names: &[&str], qtype: u16) -> Vec<Vec<u8>> {
        let mut stream = TcpStream::connect(self.world.resolver(Perspective::PRIMARY)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        for name in names {
            let query = compose_query(78, name, qtype);
            stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&query).unwrap();
        }
        let mut all = Vec::new();
        let mut length = [0; 2];
        while all.len() < names.len() && stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut message).unwrap();
            all.push(message);
        }
        all
    }

    fn get(&self, from: Ipv4Addr, to: Ipv4Addr, host: &str, path: &str) -> std::io::Result<String> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect_timeout(&self.world.web_server(to).into(), Duration::from_millis(400))?;
        fetch(socket.into(), host, path)
    }

    fn challenge(&self, perspective: Perspective, to: Ipv4Addr, kind: Kind) -> std::io::Result<String> {
        let scenario = self.scenario(kind);
        self.get(perspective.source(), to, &scenario.host(), &challenge_path(&scenario))
    }
}

fn challenge_path(scenario: &Scenario) -> String {
    format!("/.well-known/acme-challenge/{}", scenario.token())
}

fn fetch(mut stream: TcpStream, host: &str, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_millis(600)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn rcode(message: &[u8]) -> u8 {
    message[3] & 15
}

fn answers(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[6], message[7]])
}

fn contains(message: &[u8], part: &[u8]) -> bool {
    message.windows(part.len()).any(|window| window == part)
}

#[test]
fn dns_kinds() {
    let bench = Bench::new(15301, 18081);
    let primary = Perspective::PRIMARY;

    let host = bench.scenario(Kind::HttpOk).host();
    let mixed_case = host.to_uppercase();
    let message = bench.udp(primary, &mixed_case, A);
    assert_eq!((rcode(&message), answers(&message)), (0, 1));
    assert!(contains(&message, b"LAB\x07EXAMPLE"), "the question comes back as it was asked");
    assert!(contains(&message, &VICTIM.octets()));
    assert_eq!((message[2], message[3] & 0xF0), (0x81, 0xA0), "RD and RA, and AD as of a resolver that validates");
    let message = bench.udp(primary, &host, CAA);
    assert_eq!((rcode(&message), answers(&message), message[9]), (0, 0, 1), "NODATA with SOA");

    assert_eq!(rcode(&bench.udp(primary, &bench.scenario(Kind::HttpNxdomain).host(), A)), 3);
    assert_eq!(rcode(&bench.udp(primary, &bench.scenario(Kind::HttpServfail).host(), A)), 2);
    assert_eq!(answers(&bench.udp(primary, &bench.scenario(Kind::HttpCname5).host(), A)), 6);

    let hijacked = bench.scenario(Kind::MpHijack1);
    let astray =
        Perspective::ALL.into_iter().filter(|&p| contains(&bench.udp(p, &hijacked.host(), A), &ATTACKER.octets()));
    assert_eq!(astray.count(), 1);

    let challenge = |kind| {
        let scenario = bench.scenario(kind);
        (format!("_acme-challenge.{}", scenario.host()), scenario.txt_value())
    };
    let (name, value) = challenge(Kind::DnsOk);
    assert!(contains(&bench.udp(primary, &name, TXT), value.as_bytes()));

    let (name, value) = challenge(Kind::DnsTcp60);
    let message = bench.udp(primary, &name, TXT);
    assert_eq!((message[2] & 2, answers(&message)), (2, 0), "truncated");
    let messages = bench.tcp(&[&name, &name], TXT);
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|m| answers(m) == 61 && contains(m, value.as_bytes())));

    let (name, _) = challenge(Kind::DnsTcClosed);
    assert_eq!(bench.udp(primary, &name, TXT)[2] & 2, 2);
    assert!(bench.tcp(&[&name], TXT).is_empty());

    let (name, value) = challenge(Kind::Dns0x20);
    assert!(!contains(&bench.udp(primary, &name.to_uppercase(), TXT), b"EXAMPLE"));
    assert!(contains(&bench.tcp(&[&name.to_uppercase()], TXT)[0], b"EXAMPLE"));
    assert!(contains(&bench.udp(primary, &name, TXT), value.as_bytes()));

    let (name, value) = challenge(Kind::DnsSpoof);
    let messages = bench.udp_all(primary, &name, TXT);
    assert_eq!(messages.len(), 4);
    assert!(contains(&messages[3], value.as_bytes()));
    assert_ne!(messages[0][..2], messages[3][..2]);

    let (name, value) = challenge(Kind::DnsCut);
    let message = bench.udp(primary, &name, TXT);
    assert!(answers(&message) == 1 && message[2] & 2 == 0 && !contains(&message, value.as_bytes()));
    assert!(contains(&bench.tcp(&[&name], TXT)[0], value.as_bytes()));

    let (name, _) = challenge(Kind::DnsSilent);
    assert!(bench.udp_all(primary, &name, TXT).is_empty());

    let name = bench.scenario(Kind::Caa1001).host();
    assert_eq!(answers(&bench.tcp(&[&name], CAA)[0]), 1001);
    assert!(bench.lab.counters().summary()["dns_tcp_queries"].as_u64() >= Some(6));
}

#[test]
fn http_kinds() {
    let bench = Bench::new(15302, 18082);
    let primary = Perspective::PRIMARY;
    let victim = |kind| bench.challenge(primary, VICTIM, kind);

    let right = bench.scenario(Kind::HttpOk).key_authorization();
    assert!(victim(Kind::HttpOk).unwrap().ends_with(&format!("\r\n\r\n{right}")));
    assert!(bench.challenge(primary, SECOND, Kind::HttpOk).unwrap().ends_with(&right));
    assert!(victim(Kind::HttpWhitespace).unwrap().ends_with("  \r\n"));
    assert!(victim(Kind::HttpChunked).unwrap().ends_with("0\r\n\r\n"));
    let right = bench.scenario(Kind::HttpDrip).key_authorization();
    assert!(victim(Kind::HttpDrip).unwrap().ends_with(&right));
    assert!(victim(Kind::HttpWrongBody).unwrap().starts_with("HTTP/1.1 200"));
    assert!(victim(Kind::Http404Echo).unwrap().starts_with("HTTP/1.1 404"));
    assert!(victim(Kind::HttpRedirectPort).unwrap().contains(":9443/"));
    assert!(victim(Kind::HttpHuge).unwrap().len() > 1 << 20);
    assert!(victim(Kind::HttpHeadLarge).unwrap().len() > 200_000);
    assert!(victim(Kind::HttpGarbage).unwrap().starts_with("SSH"));
    assert_eq!(victim(Kind::HttpSlowHead).unwrap_err().kind(), ErrorKind::WouldBlock);

    let scenario = bench.scenario(Kind::HttpRedirect10);
    let mut path = challenge_path(&scenario);
    for hop in 0..=10 {
        let text = bench.get(primary.source(), VICTIM, &scenario.host(), &path).unwrap();
        let location = text.lines().find_map(|line| line.strip_prefix("Location: "));
        assert_eq!(location.is_some(), hop < 10);
        path = location.unwrap_or_default().to_owned();
    }

    let refused = bench.challenge(primary, CLOSED, Kind::HttpRefused).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let reset = bench.challenge(primary, RESETTING, Kind::HttpReset).unwrap_err();
    assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
    let silent = bench.challenge(primary, BLACK_HOLE, Kind::HttpBlackHole).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::TimedOut);

    let scenario = bench.scenario(Kind::MpHijack1);
    let text = bench.challenge(primary, ATTACKER, Kind::MpHijack1).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && !text.contains(&scenario.key_authorization()));
    let forbidden = Perspective::ALL
        .into_iter()
        .filter(|&p| bench.challenge(p, VICTIM, Kind::Mp4033).unwrap().starts_with("HTTP/1.1 403"));
    assert_eq!(forbidden.count(), 3);

    let scenario = bench.scenario(Kind::HttpIp);
    let text = bench.get(primary.source(), VICTIM, "127.3.0.1:18082", &challenge_path(&scenario)).unwrap();
    assert!(text.ends_with(&scenario.key_authorization()));
    let scenario = bench.scenario(Kind::HttpDual);
    let stream = TcpStream::connect(bench.world.web_server(VICTIM_V6)).unwrap();
    let text = fetch(stream, &scenario.host(), &challenge_path(&scenario)).unwrap();
    assert!(text.ends_with(&scenario.key_authorization()));
}

/// What a client sees of a server on the port for TLS, with one application protocol offered.
struct Shown {
    protocol: Option<Vec<u8>>,
    certificate: Vec<u8>,
}

#[derive(Debug)]
struct TakesAny;

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn session(name: &str, protocol: &[u8]) -> ClientConnection {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TakesAny))
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.check_selected_alpn = false;
    ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

impl Bench {
    fn shake(&self, to: Ipv4Addr, name: &str) -> std::io::Result<Shown> {
        let mut stream = TcpStream::connect_timeout(&self.world.tls_server(to), Duration::from_millis(400))?;
        stream.set_read_timeout(Some(Duration::from_millis(600)))?;
        let mut session = session(name, b"acme-tls/1");
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Shown {
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
            certificate: session.peer_certificates().unwrap()[0].to_vec(),
        })
    }

    fn get_securely(&self, scenario: &Scenario, path: &str) -> String {
        let mut stream = TcpStream::connect(self.world.tls_server(VICTIM)).unwrap();
        let mut session = session(&scenario.host(), b"http/1.1");
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        write!(tls, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", scenario.host()).unwrap();
        let mut text = String::new();
        tls.read_to_string(&mut text).unwrap();
        text
    }
}

#[test]
fn tls_kinds() {
    const EXTENSION: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31];
    const CRITICAL: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 1, 1, 0xff];
    let bench = Bench::new(15305, 18085);
    let digest = |scenario: &Scenario| Sha256::digest(scenario.key_authorization()).to_vec();
    let victim = |kind| {
        let scenario = bench.scenario(kind);
        bench.shake(VICTIM, &scenario.host()).map(|shown| (shown, scenario))
    };
    for (kind, is_right, is_critical, names) in [
        (Kind::AlpnOk, true, true, 1),
        (Kind::AlpnWrong, false, true, 1),
        (Kind::AlpnNotCritical, true, false, 1),
        (Kind::AlpnTwoNames, true, true, 2),
    ] {
        let (shown, scenario) = victim(kind).unwrap();
        assert_eq!(shown.protocol.as_deref(), Some(&b"acme-tls/1"[..]));
        assert_eq!(contains(&shown.certificate, &digest(&scenario)), is_right, "{kind:?}");
        assert!(contains(&shown.certificate, EXTENSION), "{kind:?}");
        assert_eq!(contains(&shown.certificate, CRITICAL), is_critical, "{kind:?}");
        let host = scenario.host();
        let found = shown.certificate.windows(host.len()).filter(|window| *window == host.as_bytes()).count();
        assert_eq!(found, names, "{kind:?}");
    }
    let (shown, scenario) = victim(Kind::AlpnOtherName).unwrap();
    assert!(contains(&shown.certificate, format!("other.{}", scenario.host()).as_bytes()));

    let shown = bench.shake(VICTIM, "1.0.3.127.in-addr.arpa").unwrap();
    let scenario = bench.scenario(Kind::AlpnIp);
    assert!(contains(&shown.certificate, &digest(&scenario)));
    assert!(contains(&shown.certificate, &[&[0x87, 4][..], &VICTIM.octets()].concat()));

    assert_eq!(victim(Kind::AlpnNone).unwrap().0.protocol, None);
    let failed = |kind| victim(kind).err().unwrap();
    assert!(failed(Kind::AlpnAlert).to_string().contains("NoApplicationProtocol"));
    assert!(failed(Kind::AlpnPlain).to_string().contains("corrupt message"));
    assert_eq!(failed(Kind::AlpnNever).kind(), ErrorKind::WouldBlock);
    let host = bench.scenario(Kind::AlpnRefused).host();
    assert_eq!(bench.shake(CLOSED, &host).err().unwrap().kind(), ErrorKind::ConnectionRefused);
    let scenario = bench.scenario(Kind::MpAlpn2);
    let shown = bench.shake(ATTACKER, &scenario.host()).unwrap();
    assert!(contains(&shown.certificate, CRITICAL) && !contains(&shown.certificate, &digest(&scenario)));

    let scenario = bench.scenario(Kind::WebHttps);
    let path = format!("/.well-known/pki-validation/{}", scenario.token());
    let text = bench.get_securely(&scenario, &path);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with(&scenario.random_value()));
    let text = bench.get(Perspective::PRIMARY.source(), VICTIM, &scenario.host(), &path).unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "over https alone");
    assert!(bench.lab.counters().summary()["tls_handshakes"].as_u64() >= Some(9));
}

#[test]
fn records_of_other_methods() {
    const CNAME: u16 = 5;
    const PTR: u16 = 12;
    const MX: u16 = 15;
    let bench = Bench::new(15306, 18086);
    let primary = Perspective::PRIMARY;
    let holds = |name: &str, qtype, part: &[u8]| contains(&bench.udp(primary, name, qtype), part);

    let scenario = bench.scenario(Kind::ChangeCname);
    let name = format!("_verify.{}", scenario.host());
    assert!(holds(&name, CNAME, &[&[40], scenario.random_value().as_bytes(), &[6], b"verify"].concat()));
    let scenario = bench.scenario(Kind::ChangeCaa);
    assert!(holds(&scenario.host(), CAA, format!("ca.example; random={}", scenario.random_value()).as_bytes()));
    let scenario = bench.scenario(Kind::ChangeParent);
    assert_eq!(answers(&bench.udp(primary, &scenario.host(), TXT)), 0);
    assert!(holds(&scenario.base(), TXT, scenario.random_value().as_bytes()));

    let scenario = bench.scenario(Kind::AdnAliasChange);
    assert_eq!(answers(&bench.udp(primary, &scenario.host(), CNAME)), 1, "of a CNAME question no alias is followed");
    assert_eq!(answers(&bench.udp(primary, &scenario.host(), TXT)), 3);
    assert!(holds("1.0.3.127.in-addr.arpa", PTR, b"\x03ptr\x03lab\x07example"));
    assert_eq!(rcode(&bench.udp(primary, "2.0.3.127.in-addr.arpa", PTR)), 3);
    let scenario = bench.scenario(Kind::MailHost);
    assert!(holds(&scenario.host(), MX, b"\x00\x0a\x02mx"));

    for (kind, name, qtype, right) in [
        (Kind::MpContact2, "_validation-contactemail.", TXT, b"security@lab.example".to_vec()),
        (Kind::MpChange2, "", TXT, bench.scenario(Kind::MpChange2).random_value().into_bytes()),
        (Kind::MpAlias2, "", CNAME, b"\x01t\x03cdn".to_vec()),
    ] {
        let name = format!("{name}{}", bench.scenario(kind).host());
        let agree = Perspective::ALL.map(|perspective| contains(&bench.udp(perspective, &name, qtype), &right));
        assert!(agree[0] && agree.iter().filter(|agrees| **agrees).count() == 4, "{kind:?} {agree:?}");
    }
}

#[test]
fn err_an_occupied_port_is_named() {
    let _occupant = UdpSocket::bind("127.2.0.3:15303").unwrap();
    let world = World { dns_port: 15303, http_port: 18083, https_port: 18483, ..World::new(1, 1) };
    let error = Lab::start(&world).err().unwrap().to_string();
    assert!(error.starts_with("cannot listen on UDP 127.2.0.3:15303: "), "{error}");
}

/// Run by hand, in release mode: prints queries per second of the DNS thread's processor time and of wall time.
#[test]
#[ignore = "a measurement"]
fn dns_throughput() {
    const WINDOW: usize = 64;
    const QUERIES: usize = 400_000;
    let bench = Bench::new(15304, 18084);
    let messages: Vec<Vec<u8>> = (0..5_000)
        .map(|i| bench.world.scenario(i))
        .filter(|s| s.kind.slug().starts_with("http"))
        .map(|s| compose_query(1, &s.host(), A))
        .collect();
    let socket = bench.client(Perspective::PRIMARY);
    let started = std::time::Instant::now();
    let mut answered = 0;
    let mut buffer = [0; 2048];
    for burst in 0..QUERIES / WINDOW {
        for n in 0..WINDOW {
            socket.send(&messages[(burst * WINDOW + n) % messages.len()]).unwrap();
        }
        answered += (0..WINDOW).take_while(|_| socket.recv(&mut buffer).is_ok()).count();
    }
    let elapsed = started.elapsed();
    let ticks = std::fs::read_dir("/proc/self/task").unwrap().filter_map(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        name.ends_with("(lab-dns").then(|| fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap())
    });
    let processor_s = ticks.sum::<f64>() / 100.0;
    let rate = answered as f64;
    println!(
        "{answered} answers: {:.0}/s wall, {:.0}/s of processor time",
        rate / elapsed.as_secs_f64(),
        rate / processor_s
    );
    assert_eq!(answered, QUERIES / WINDOW * WINDOW);
}
