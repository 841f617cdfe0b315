//! The servers of the laboratory, asked over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed step ends the test, which is what a test is for")]

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use parallax_perf::lab::{
    kinds::Kind,
    serve::Lab,
    wire::compose_query,
    world::{ATTACKER, BLACK_HOLE, CLOSED, Perspective, RESETTING, SECOND, Scenario, VICTIM, VICTIM_V6, World},
};
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
        let world = World { dns_port, http_port, ..World::new(11, 5_000) };
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

#[test]
fn err_an_occupied_port_is_named() {
    let _occupant = UdpSocket::bind("127.2.0.3:15303").unwrap();
    let world = World { dns_port: 15303, http_port: 18083, ..World::new(1, 1) };
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
