//! A server that a probe has parted with and that goes on talking is cut off early, over each transport.
//!
//! A probe parts after a whole handshake, so that the server sees its end and not a reset. What comes then is read and
//! thrown away, up to a bound; without it a server could talk for as long as connections part.

mod common;
mod wire;

use std::{
    io::{ErrorKind, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use common::{Bench, QUICK, Record, asked, config_over, plan, reply, tls_server_settings};
use parallax_node::{Driver, NodeConfig};
use parallax_validation::{
    base::limits::PARTING_BYTES_MAX,
    lookup::tls::rustls::{ServerConfig, ServerConnection},
    observation::{ControlObservation, TlsOutcome},
};
use socket2::SockRef;

/// Octets that lie in buffers of the system and on the wire when the server is cut off. Many times as much passes in
/// the time that a connection may take to part.
const ON_THE_WAY_MAX: usize = 512 * 1024;
/// What the server asks the system to hold for it; the least is more than that.
const SEND_BUFFER: usize = 8 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// Knows one address for every name and fails on everything else.
fn resolver(at: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((at, 0)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            let name_end = 12 + query[12..].iter().position(|&b| b == 0).expect("a query's name ends");
            let answer = match query[name_end + 2] {
                1 => reply(query, 0, &[Record(asked(), 1, at.octets().to_vec())]),
                _ => reply(query, 2, &[]),
            };
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// How many octets the server got rid of after the handshake, and what ended that.
struct Talked {
    octets: usize,
    end: ErrorKind,
}

fn talk_without_end(mut stream: TcpStream, settings: Arc<ServerConfig>) -> Talked {
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER).expect("a socket");
    let mut tls = ServerConnection::new(settings).expect("settings");
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).expect("a handshake");
    }
    let mut octets = 0;
    loop {
        match stream.write(&[0x17; 4096]) {
            Ok(written) => octets += written,
            Err(error) => return Talked { octets, end: error.kind() },
        }
    }
}

/// Has a node of these settings probe a server at this address that goes on talking.
fn is_cut_off(settings: impl FnOnce(SocketAddr) -> NodeConfig, at: Ipv4Addr) {
    let listener = TcpListener::bind((at, 0)).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (say, said) = mpsc::channel();
    let tls = tls_server_settings();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the probe");
        let _ = say.send(talk_without_end(stream, tls));
    });
    let mut config = settings(resolver(at));
    config.laboratory.https_port = Some(address.port());
    let mut bench = Bench::start(&config);
    let seen = bench.run(plan("www.customer.example", "tls-alpn-01", false, QUICK));
    let Some(ControlObservation::Tls(probe)) = seen.control else { panic!("{seen:?}") };
    assert!(matches!(probe.outcome, TlsOutcome::Handshake(_)), "{probe:?}");
    assert_eq!(probe.tries[0].address.ip(), IpAddr::V4(at));
    let talked = said.recv_timeout(PATIENCE).expect("the server is cut off");
    assert!(matches!(talked.end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{:?}", talked.end);
    assert!(talked.octets > PARTING_BYTES_MAX, "{} octets: it was cut off too early", talked.octets);
    assert!(talked.octets < PARTING_BYTES_MAX + ON_THE_WAY_MAX, "{} octets", talked.octets);
}

#[test]
fn over_io_uring() {
    is_cut_off(|resolver| config_over(Driver::IoUring, resolver), Ipv4Addr::LOCALHOST);
}

#[test]
fn over_epoll() {
    is_cut_off(|resolver| config_over(Driver::Epoll, resolver), Ipv4Addr::LOCALHOST);
}

#[test]
fn over_frames() {
    wire::run(|| is_cut_off(wire::config, wire::SERVERS));
}
