//! Binds everything, runs the servers on three threads, counts, stops.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    dns::{self, ResolverSockets},
    error::LabError,
    http, tls,
    web::Server,
    world::{ATTACKER, BLACK_HOLE, CLOSED, Perspective, RESETTING, SECOND, VICTIM, World},
};

const BACKLOG: i32 = 4096;
const UDP_RECEIVE_BYTES: usize = 8 << 20;
const RING_ENTRIES: u32 = 4096;
const STOP_CHECK: Duration = Duration::from_millis(20);
/// How long a connection within this host takes at the very most.
const CONNECT_WAIT: Duration = Duration::from_millis(150);
const BLACK_HOLE_FILL_MAX: usize = 8;

/// What the servers have seen. Plain statistics: no access is ordered with another.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) dns_udp: [AtomicU64; 6],
    pub(super) dns_tcp: [AtomicU64; 6],
    pub(super) dns_tcp_connections: AtomicU64,
    pub(super) dns_truncated: AtomicU64,
    pub(super) dns_silent: AtomicU64,
    pub(super) dns_malformed: AtomicU64,
    pub(super) http_connections: AtomicU64,
    pub(super) http_requests: [AtomicU64; 6],
    pub(super) http_requests_of_others: AtomicU64,
    pub(super) http_unanswered: AtomicU64,
    pub(super) http_resets: AtomicU64,
    pub(super) tls_connections: AtomicU64,
    pub(super) tls_handshakes: AtomicU64,
    pub(super) tls_unanswered: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    /// All counts; lists are by perspective, the primary first.
    #[must_use]
    pub fn summary(&self) -> serde_json::Value {
        let one = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let each = |counters: &[AtomicU64; 6]| counters.each_ref().map(one);
        let sum = |counters: &[AtomicU64; 6]| each(counters).iter().sum::<u64>();
        json!({
            "dns_udp_queries": sum(&self.dns_udp),
            "dns_tcp_queries": sum(&self.dns_tcp),
            "dns_udp_by_perspective": each(&self.dns_udp),
            "dns_tcp_by_perspective": each(&self.dns_tcp),
            "dns_tcp_connections": one(&self.dns_tcp_connections),
            "dns_truncated": one(&self.dns_truncated),
            "dns_silent": one(&self.dns_silent),
            "dns_malformed": one(&self.dns_malformed),
            "http_connections": one(&self.http_connections),
            "http_requests": sum(&self.http_requests) + one(&self.http_requests_of_others),
            "http_by_perspective": each(&self.http_requests),
            "http_of_others": one(&self.http_requests_of_others),
            "http_unanswered": one(&self.http_unanswered),
            "http_resets": one(&self.http_resets),
            "tls_connections": one(&self.tls_connections),
            "tls_handshakes": one(&self.tls_handshakes),
            "tls_unanswered": one(&self.tls_unanswered),
        })
    }
}

/// A running laboratory; it stops when dropped.
pub struct Lab {
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
    /// The black hole: a listener nobody accepts from, and the connections that fill its queue.
    _black_hole: (TcpListener, Vec<TcpStream>),
}

impl Lab {
    /// Binds all sockets and starts the servers. When this returns, everything answers.
    ///
    /// # Errors
    ///
    /// An address that cannot be had, or an io_uring or thread that cannot be made.
    pub fn start(world: &World) -> Result<Self, LabError> {
        raise_descriptor_limit();
        let mut resolvers = Vec::new();
        for perspective in Perspective::ALL {
            let address = world.resolver(perspective);
            let (udp, tcp) = (bind_udp(address)?, listen(address, BACKLOG, Closing::Orderly)?);
            resolvers.push(ResolverSockets { perspective, udp, tcp });
        }
        let mut sites = Vec::new();
        for (address, server, closing) in [
            (IpAddr::V4(VICTIM), Server::Site, Closing::Orderly),
            (IpAddr::V4(SECOND), Server::Site, Closing::Orderly),
            (IpAddr::V6(world.site_ipv6), Server::Site, Closing::Orderly),
            (IpAddr::V4(ATTACKER), Server::Attacker, Closing::Orderly),
            (IpAddr::V4(RESETTING), Server::Resetting, Closing::Reset),
        ] {
            sites.push((server, listen(world.web_server(address), BACKLOG, closing)?));
        }
        let mut secure_sites = Vec::new();
        for (address, server) in [
            (IpAddr::V4(VICTIM), Server::SecureSite),
            (IpAddr::V4(SECOND), Server::SecureSite),
            (IpAddr::V6(world.site_ipv6), Server::SecureSite),
            (IpAddr::V4(ATTACKER), Server::Attacker),
        ] {
            let settings = tls::Settings::new(world, server)?;
            secure_sites.push((settings, listen(world.tls_server(address), BACKLOG, Closing::Orderly)?));
        }
        let black_hole = open_black_hole(world.web_server(BLACK_HOLE))?;
        for closed in [world.web_server(CLOSED), world.tls_server(CLOSED)] {
            if TcpStream::connect_timeout(&closed, CONNECT_WAIT).is_ok() {
                return Err(LabError::NotClosed(closed));
            }
        }
        let mut lab =
            Self { stop: Arc::default(), counters: Arc::default(), threads: Vec::new(), _black_hole: black_hole };
        lab.spawn("dns", world, move |world, counters| dns::spawn(world, counters, resolvers))?;
        lab.spawn("http", world, move |world, counters| http::spawn(world, counters, sites))?;
        lab.spawn("tls", world, move |world, counters| tls::spawn(world, counters, secure_sites))?;
        Ok(lab)
    }

    /// What has been seen so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether a server thread has ended by itself, which only a fault can make it do.
    #[must_use]
    pub fn has_broken_down(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    fn spawn(
        &mut self,
        name: &'static str,
        world: &World,
        start: impl FnOnce(&Rc<World>, &Arc<Counters>) + Send + 'static,
    ) -> Result<(), LabError> {
        let failed = |source| LabError::Start { thread: name, source };
        let (world, counters, stop) = (world.clone(), Arc::clone(&self.counters), Arc::clone(&self.stop));
        let (report, started) = mpsc::sync_channel(1);
        let body = move || {
            let mut ring = tokio_uring::uring_builder();
            // One thread submits and reaps: no need for the kernel to interrupt it.
            ring.setup_coop_taskrun();
            let runtime =
                match tokio_uring::Runtime::new(tokio_uring::builder().uring_builder(&ring).entries(RING_ENTRIES)) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = report.send(Err(error));
                        return;
                    }
                };
            runtime.block_on(async {
                start(&Rc::new(world), &counters);
                let _ = report.send(Ok(()));
                while !stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(STOP_CHECK).await;
                }
            });
        };
        let thread = std::thread::Builder::new().name(format!("lab-{name}")).spawn(body).map_err(failed)?;
        self.threads.push(thread);
        match started.recv() {
            Ok(outcome) => outcome.map_err(failed),
            Err(mpsc::RecvError) => Err(failed(std::io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    Orderly,
    /// Accepted connections inherit a linger time of zero: closing them resets.
    Reset,
}

fn listen(address: SocketAddr, backlog: i32, closing: Closing) -> Result<TcpListener, LabError> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        // Accepted connections inherit it on Linux.
        socket.set_tcp_nodelay(true)?;
        if closing == Closing::Reset {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    };
    bound().map_err(|source| LabError::Bind { transport: "TCP", address, source })
}

fn bind_udp(address: SocketAddr) -> Result<UdpSocket, LabError> {
    let socket = UdpSocket::bind(address).map_err(|source| LabError::Bind { transport: "UDP", address, source })?;
    // Bursts of thousands of queries must fit; beyond the system's limit only with privilege, so each may fail.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, UDP_RECEIVE_BYTES).is_err() {
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, UDP_RECEIVE_BYTES);
    }
    Ok(socket)
}

/// With its accept queue full, Linux drops SYNs to a listener.
fn open_black_hole(address: SocketAddr) -> Result<(TcpListener, Vec<TcpStream>), LabError> {
    let listener = listen(address, 0, Closing::Orderly)?;
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, CONNECT_WAIT) {
        filling.push(stream);
        if filling.len() > BLACK_HOLE_FILL_MAX {
            return Err(LabError::NotBlack(address));
        }
    }
    Ok((listener, filling))
}

/// Thousands of connections may be open at a time.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without more descriptors the laboratory still works, for fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
