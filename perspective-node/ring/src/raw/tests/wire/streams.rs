//! Streams to listeners of the kernel: how they begin, what they carry, how
//! each side ends them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{
    Close, Owner, PATIENCE, StreamPhase, Told, Way, command, counter, failed, kernel_connections, listen, on_each_wire,
    patient, pattern, raw_config,
};
use crate::raw::namespace::Wire;

on_each_wire!(
    a_request_its_answer_and_fin,
    many_bytes_both_ways,
    a_closed_port_refuses,
    a_reset_by_the_peer_is_told,
    a_reset_of_ours_is_seen_and_leaves_nothing,
    a_stream_closed_before_it_stands_leaves_nothing,
    a_graceful_close_delivers_all,
    the_kernel_never_answers_for_our_addresses,
    what_is_far_is_reached_by_a_gateway,
);

/// Waits until the kernel has no connection left; `what` has been done.
#[track_caller]
fn assert_nothing_left(what: &str) {
    let begun = Instant::now();
    while !kernel_connections().is_empty() {
        assert!(begun.elapsed() < Duration::from_millis(500), "{what}: {}", kernel_connections());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn round_trip(owner: &mut Owner, peer: SocketAddr, listener: std::net::TcpListener) {
    let ours = owner.way.ours;
    let thread = std::thread::spawn(move || {
        let (socket, from) = listener.accept().unwrap();
        let mut socket = patient(socket);
        let mut request = [0; 9];
        socket.read_exact(&mut request).unwrap();
        assert_eq!((&request, from.ip()), (b"abcdefghi", ours));
        socket.write_all(b"answer").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut request).unwrap(), 0);
    });
    let id = owner.ring.connect(None, peer).unwrap();
    for part in [b"abc", b"def", b"ghi"] {
        owner.ring.send(id, part.to_vec());
    }
    owner.ring.receive(id);
    assert_eq!(owner.next(), Told::Connected(id));
    for _ in 0..3 {
        assert_eq!(owner.next(), Told::Sent(id));
    }
    assert_eq!(owner.next(), Told::Received(id, b"answer".to_vec()));
    owner.ring.receive(id);
    assert_eq!(owner.next(), Told::Received(id, Vec::new()));
    owner.ring.close(id, Close::Graceful);
    owner.until("the stream is gone", |ring| ring.streams_open() == 0);
    thread.join().unwrap();
    assert!(owner.told.is_empty(), "{:?}", owner.told);
}

fn a_request_its_answer_and_fin(way: Way) {
    let mut owner = Owner::new(way);
    let (listener, peer) = listen(way.peer);
    round_trip(&mut owner, peer, listener);
}

fn many_bytes_both_ways(way: Way) {
    const BYTES: usize = 300 * 1024;
    let mut owner = Owner::new(way);
    let (listener, peer) = listen(way.peer);
    let thread = std::thread::spawn(move || {
        let mut socket = patient(listener.accept().unwrap().0);
        let mut writer = socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            writer.write_all(&pattern(BYTES, 1)).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        writing.join().unwrap();
        all
    });
    let id = owner.connected(peer);
    let ours = pattern(BYTES, 2);
    let all = owner.converse(id, &ours, BYTES, |_| {});
    owner.ring.close(id, Close::Graceful);
    owner.until("the stream is gone", |ring| ring.streams_open() == 0);
    assert!(all == pattern(BYTES, 1), "{} bytes", all.len());
    let peers = thread.join().unwrap();
    assert!(peers == ours, "{} bytes", peers.len());
}

fn a_closed_port_refuses(way: Way) {
    let mut owner = Owner::new(way);
    let (listener, peer) = listen(way.peer);
    drop(listener);
    let id = owner.ring.connect(None, peer).unwrap();
    assert_eq!(owner.next(), failed(id, StreamPhase::Connect, Errno::CONNREFUSED));
    owner.ring.send(id, vec![1]);
    owner.ring.receive(id);
    assert_eq!(owner.settle(Duration::from_millis(30)), []);
    owner.ring.close(id, Close::Graceful);
    assert_eq!(owner.ring.streams_open(), 0);
}

fn a_reset_by_the_peer_is_told(way: Way) {
    let mut owner = Owner::new(way);
    let (listener, _) = listen(way.peer);
    let (id, accepted) = owner.accepted(&listener);
    owner.ring.receive(id);
    owner.ring.send(id, vec![1]);
    assert_eq!(owner.next(), Told::Sent(id));
    let mut octet = [0];
    assert_eq!(accepted.peek(&mut octet).unwrap(), 1);
    // Unread bytes turn the close into a reset.
    drop(accepted);
    assert_eq!(owner.next(), failed(id, StreamPhase::Receive, Errno::CONNRESET));
    owner.ring.close(id, Close::Graceful);
    assert_eq!(owner.ring.streams_open(), 0);
}

fn a_reset_of_ours_is_seen_and_leaves_nothing(way: Way) {
    let mut owner = Owner::new(way);
    let (listener, _) = listen(way.peer);
    for sending in [false, true] {
        let (id, mut accepted) = owner.accepted(&listener);
        owner.ring.receive(id);
        if sending {
            // More than the peer's window: the reset comes in the middle.
            owner.ring.send(id, vec![7; 8 << 20]);
            owner.settle(Duration::from_millis(50));
        }
        owner.ring.close(id, Close::Reset);
        assert_eq!(owner.settle(Duration::from_millis(50)), []);
        assert_eq!(owner.ring.streams_open(), 0);
        let error = accepted.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        drop(accepted);
        assert_nothing_left("a reset");
    }
}

fn a_stream_closed_before_it_stands_leaves_nothing(way: Way) {
    let mut owner = Owner::new(way);
    let (_listener, peer) = listen(way.peer);
    let first = owner.connected(peer);
    owner.ring.close(first, Close::Reset);
    owner.settle(Duration::from_millis(20));
    for how in [Close::Graceful, Close::Reset] {
        let id = owner.ring.connect(None, peer).unwrap();
        // Its SYN leaves at the end of this turn.
        owner.turn(Some(Duration::ZERO));
        owner.ring.close(id, how);
        assert_eq!(owner.ring.streams_open(), 0);
        assert!(kernel_connections().contains("SYN-RECV"), "{}", kernel_connections());
        assert_eq!(owner.settle(Duration::from_millis(50)), []);
        assert_nothing_left("a close before the handshake has ended");
    }
}

fn a_graceful_close_delivers_all(way: Way) {
    const BYTES: usize = 100_000;
    let mut owner = Owner::new(way);
    let (listener, peer) = listen(way.peer);
    let thread = std::thread::spawn(move || {
        let mut socket = patient(listener.accept().unwrap().0);
        let mut all = Vec::new();
        socket.read_to_end(&mut all).unwrap();
        all
    });
    let id = owner.connected(peer);
    owner.ring.send(id, pattern(BYTES, 3));
    owner.ring.close(id, Close::Graceful);
    owner.until("the stream is gone", |ring| ring.streams_open() == 0);
    assert!(owner.told.is_empty(), "{:?}", owner.told);
    assert!(thread.join().unwrap() == pattern(BYTES, 3));
    // We closed first, so the time to wait is ours, and the peer has nothing.
    assert_nothing_left("a graceful close");
}

/// Both ends of the wire are one kernel's, whose counters hold whatever it
/// sends at either; ours passes them by. The peer has no reason for one of
/// these messages here, so all that is counted would be of our end.
fn the_kernel_never_answers_for_our_addresses(way: Way) {
    let told = || [counter("Tcp", "OutRsts"), counter("Icmp", "OutDestUnreachs")];
    let mut owner = Owner::new(way);
    let before = told();
    let (listener, peer) = listen(way.peer);
    round_trip(&mut owner, peer, listener);
    let (listener, _) = listen(way.peer);
    let (id, accepted) = owner.accepted(&listener);
    owner.ring.close(id, Close::Reset);
    owner.settle(Duration::from_millis(30));
    drop(accepted);
    // To ports that nothing here has.
    let target = SocketAddr::new(way.ours, 4433);
    let stranger = std::net::UdpSocket::bind((way.peer, 0)).unwrap();
    stranger.connect(target).unwrap();
    stranger.send(b"anybody").unwrap();
    let connecting = std::thread::spawn(move || TcpStream::connect_timeout(&target, PATIENCE));
    owner.settle(Duration::from_millis(300));
    assert_eq!(told(), before);
    // The ring turned it away; the kernel did not.
    assert_eq!(connecting.join().unwrap().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let (stats, _) = owner.ring.raw_stats().unwrap();
    assert!(stats.strangers >= 2, "{stats:?}");
    // These counters would have shown it.
    let refused = TcpStream::connect(SocketAddr::new(way.peer, 4433));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(told()[0], before[0] + 1);
}

fn what_is_far_is_reached_by_a_gateway(way: Way) {
    let far: [(std::net::IpAddr, &str); 2] = [
        ([198, 51, 100, 7].into(), "198.51.100.7/32"),
        ([0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 7].into(), "2001:db8:99::7/128 nodad"),
    ];
    let config = raw_config(way.method);
    let gateways = vec![Wire::PEER_V4.into(), Wire::PEER_V6.into()];
    let mut owner = Owner::with(way, crate::RawConfig { gateways, ..config });
    command("ip link add far0 type veth peer name far1");
    command("ip link set far0 up");
    command("ip link set far1 up");
    for (_, address) in far {
        command(&format!("ip address add {address} dev far0"));
    }
    let (far, _) = far.into_iter().find(|(far, _)| far.is_ipv4() == way.peer.is_ipv4()).unwrap();
    let (listener, peer) = listen(far);
    round_trip(&mut owner, peer, listener);
    let socket = std::net::UdpSocket::bind((far, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let id = owner.ring.open_datagram(SocketAddr::new(way.ours, 0), socket.local_addr().unwrap()).unwrap();
    owner.ring.send_datagram(id, b"far").unwrap();
    owner.turn(Some(Duration::ZERO));
    let mut buffer = [0; 8];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    socket.send_to(&buffer[..len], from).unwrap();
    assert_eq!(owner.next(), Told::Datagram(id, b"far".to_vec()));
}
