//! What the node's integration tests share: a node with its reports, plans, and small servers.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    collections::HashMap,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, unbounded};
use ipnet::IpNet;
use parallax_node::{Driver, Full, Laboratory, Node, NodeConfig};
use parallax_protocol::{AttemptId, BATCH_ITEMS_MAX, Header, Report, Task};
use parallax_validation::{
    base::{address::AddressFilter, perspective::Rir},
    lookup::tls::rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, pem::PemObject as _},
    },
    observation::{ControlObservation, DnsLookup, HttpObservation, Observation},
    plan::{Plan, PlanLimits},
    request::{CheckRequest, RawRequest},
};

/// How much later than its deadline a report may come.
pub(crate) const SLACK: Duration = Duration::from_millis(500);
pub(crate) const TOKEN: &str = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
pub(crate) const THUMBPRINT: &str = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
pub(crate) const PATH: &str = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";

/// Short limits, so that a server that says nothing costs a test little.
pub(crate) const QUICK: PlanLimits = PlanLimits {
    task_deadline_ms: 2_500,
    dns_try_ms: 300,
    dns_transmissions: 2,
    caa_repeat_ms: 0,
    http_connect_ms: 500,
    http_response_ms: 800,
};

fn loopback() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().expect("a prefix")]
}

/// Makes a test of each function for each driver: `io_uring::name`, `epoll::name`. A function that is forgotten is
/// dead code, which is warned about.
#[macro_export]
macro_rules! with_both_drivers {
    ($($name:ident),+ $(,)?) => {
        mod io_uring {
            $(#[test] fn $name() { super::$name(parallax_node::Driver::IoUring); })+
        }
        mod epoll {
            $(#[test] fn $name() { super::$name(parallax_node::Driver::Epoll); })+
        }
    };
}

/// A node that asks `resolver` and may connect to IPv4 loopback addresses only. It uses io_uring.
pub(crate) fn config(resolver: SocketAddr) -> NodeConfig {
    NodeConfig {
        perspective: "test".parse().expect("an id"),
        rir: Rir::RipeNcc,
        source_ipv4: None,
        source_ipv6: None,
        resolver,
        driver: Driver::IoUring,
        transport: parallax_node::Transport::Kernel,
        workers: 1,
        cores: Vec::new(),
        source_ports: 8,
        tasks_in_flight_max: 20_000,
        memory_max: None,
        dnssec: parallax_validation::lookup::Dnssec::None,
        laboratory: Laboratory { allow_addresses: loopback(), http_port: None, https_port: None },
    }
}

/// The same over a driver.
pub(crate) fn config_over(driver: Driver, resolver: SocketAddr) -> NodeConfig {
    NodeConfig { driver, ..config(resolver) }
}

/// The plan of a request; for `http-01` and `dns-01` without CAA unless `caa`.
pub(crate) fn plan(identifier: &str, method: &str, caa: bool, limits: PlanLimits) -> Plan {
    let control = method != "caa";
    let raw = RawRequest {
        identifier: identifier.to_owned(),
        method: method.to_owned(),
        token: control.then(|| TOKEN.to_owned()),
        key_authorization: control.then(|| format!("{TOKEN}.{THUMBPRINT}")),
        caa: control.then_some(caa),
        ..RawRequest::default()
    };
    let request = CheckRequest::parse(
        raw,
        "test",
        &AddressFilter::allowing(loopback()).into(),
        "2026-11-25T12:00:00Z".parse().expect("an instant"),
    )
    .expect("a good request");
    limits.check().expect("limits that can be");
    Plan::new(&request, limits, None)
}

/// A node and its reports.
pub(crate) struct Bench {
    pub(crate) node: Node,
    pub(crate) reports: Receiver<Vec<Report>>,
    config: NodeConfig,
}

impl Bench {
    pub(crate) fn start(config: &NodeConfig) -> Self {
        let (sender, reports) = unbounded();
        let node = Node::start(config, &sender).expect("the node starts");
        Self { node, reports, config: config.clone() }
    }

    pub(crate) fn task(&self, number: u64, plan: Plan) -> Task {
        let attempt = AttemptId(u128::from(number) << 64 | 7);
        let header = Header { attempt, nonce: nonce(number), setup: "test".into() };
        Task { header, perspective: self.config.perspective.clone(), plan: plan.into() }
    }

    /// Carries out one plan.
    pub(crate) fn run(&mut self, plan: Plan) -> Observation {
        self.run_all(vec![plan]).pop().expect("one plan, one observation")
    }

    /// Carries out plans side by side; observations come in the order of the plans. Checks that each task
    /// is reported once and in time.
    pub(crate) fn run_all(&mut self, plans: Vec<Plan>) -> Vec<Observation> {
        let deadlines: Vec<_> =
            plans.iter().map(|plan| Duration::from_millis(plan.limits.task_deadline_ms.into()) + SLACK).collect();
        let mut tasks: Vec<_> = plans.into_iter().enumerate().map(|(n, plan)| self.task(n as u64, plan)).collect();
        let began = Instant::now();
        while !tasks.is_empty() {
            let batch: Vec<_> = tasks.drain(..tasks.len().min(BATCH_ITEMS_MAX)).collect();
            if let Err(Full(batch)) = self.node.submit(batch) {
                panic!("the node takes no batch of {}", batch.len());
            }
        }
        let mut seen = HashMap::new();
        collect(&self.reports, &deadlines, began, &mut seen);
        (0..deadlines.len() as u64).map(|n| seen.remove(&n).expect("collected")).collect()
    }
}

pub(crate) fn nonce(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Takes reports until each number below `deadlines.len()` has one, then checks that no more come.
pub(crate) fn collect(
    reports: &Receiver<Vec<Report>>,
    deadlines: &[Duration],
    began: Instant,
    seen: &mut HashMap<u64, Observation>,
) {
    let last = deadlines.iter().max().copied().unwrap_or_default();
    while seen.len() < deadlines.len() {
        let left = (last + SLACK).saturating_sub(began.elapsed());
        let batch = match reports.recv_timeout(left) {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} of {} tasks reported after {:?}", seen.len(), deadlines.len(), began.elapsed())
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the workers have ended"),
        };
        let took = began.elapsed();
        for report in batch {
            let number = (report.header.attempt.0 >> 64) as u64;
            assert_eq!((report.header.nonce, &*report.header.setup), (nonce(number), "test"), "the header comes back");
            assert_eq!(report.perspective.as_str(), "test");
            let due = deadlines[number as usize];
            assert!(took <= due, "task {number} was reported after {took:?}, due {due:?}");
            assert!(seen.insert(number, *report.observation).is_none(), "task {number} was reported twice");
        }
    }
    match reports.recv_timeout(Duration::from_millis(100)) {
        Ok(more) => panic!("{} more reports than tasks", more.len()),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
    }
}

pub(crate) fn txt(observation: Observation) -> DnsLookup {
    match observation.control {
        Some(ControlObservation::Record(lookup)) => lookup,
        other => panic!("no TXT lookup: {other:?}"),
    }
}

pub(crate) fn http(observation: Observation) -> HttpObservation {
    match observation.control {
        Some(ControlObservation::Http(http)) => http,
        other => panic!("no fetch: {other:?}"),
    }
}

/// A DNS server that does as it is told. Its threads last as long as the test program.
///
/// Both sockets have the same port; without `on_stream` nobody listens on TCP.
pub(crate) fn dns_server(
    on_datagram: impl Fn(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
    on_stream: Option<fn(TcpStream)>,
) -> SocketAddr {
    let (udp, tcp) = (0..50)
        .find_map(|_| {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
            Some((udp, tcp))
        })
        .expect("a port that is free for UDP and TCP");
    let address = udp.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            on_datagram(&udp, from, &buffer[..length]);
        }
    });
    if let Some(on_stream) = on_stream {
        thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                thread::spawn(move || on_stream(stream));
            }
        });
    }
    address
}

/// A TCP server; each connection gets a thread and its number, from 0.
pub(crate) fn tcp_server(on_stream: impl Fn(TcpStream, usize) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let on_stream = on_stream.clone();
            thread::spawn(move || on_stream(stream, number));
        }
    });
    address
}

/// A socket that takes queries and never answers. Keep it.
pub(crate) fn silent_resolver() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

/// Reads one framed query from a connection.
pub(crate) fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    let mut query = Vec::new();
    if stream.read_exact(&mut length).is_ok() {
        query.resize(usize::from(u16::from_be_bytes(length)), 0);
        // A node that has gone away is none of the server's business.
        let _ = stream.read_exact(&mut query);
    }
    query
}

/// Reads an HTTP request's head and gives its path.
pub(crate) fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    head.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A record for [`reply`]: owner in wire form, type, RDATA.
pub(crate) struct Record(pub(crate) Vec<u8>, pub(crate) u16, pub(crate) Vec<u8>);

/// The name asked, as a pointer to it.
pub(crate) fn asked() -> Vec<u8> {
    vec![0xc0, 12]
}

/// A name in wire form.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut wire: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    wire.push(0);
    wire
}

pub(crate) fn txt_record(text: &str) -> Record {
    Record(asked(), 16, [&[text.len() as u8], text.as_bytes()].concat())
}

/// A reply to `query` with an answer section.
pub(crate) fn reply(query: &[u8], rcode: u8, answers: &[Record]) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|&b| b == 0).expect("a query's name ends");
    let mut packet = query[..name_end + 5].to_vec();
    packet[2] = 0x81;
    packet[3] = 0x80 | rcode;
    packet[4..12].copy_from_slice(&[0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
    for Record(owner, rtype, rdata) in answers {
        packet.extend_from_slice(owner);
        packet.extend_from_slice(&rtype.to_be_bytes());
        packet.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        packet.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        packet.extend_from_slice(rdata);
    }
    packet
}

/// A truncated reply without records.
pub(crate) fn truncated(query: &[u8]) -> Vec<u8> {
    let mut packet = reply(query, 0, &[]);
    packet[2] |= 0x02;
    packet
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// A server of `www.customer.example` that speaks TLS with everybody who asks for tls-alpn-01.
pub(crate) fn tls_server_settings() -> Arc<ServerConfig> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["www.customer.example".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("a key");
    let mut settings = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .expect("a pair");
    settings.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    Arc::new(settings)
}

/// Resident memory and open descriptors of this process.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a proc file system");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

pub(crate) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a proc file system").count()
}
