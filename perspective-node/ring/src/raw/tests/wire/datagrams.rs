//! Datagrams to and from sockets of the kernel.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::{Owner, PATIENCE, Told, Way, on_each_wire, pattern};
use crate::{DatagramId, SendError};

on_each_wire!(
    five_thousand_echoes_reach_the_sockets_they_are_for,
    a_port_nobody_has_is_told_and_the_socket_works_later,
    a_neighbour_that_is_not_there_is_told,
);

/// After this a resolver asks again.
const RETRANSMIT: Duration = Duration::from_millis(400);

/// A kernel's socket that sends back what it gets, until the program ends.
fn echo_at(address: IpAddr) -> SocketAddr {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&bytes[..len], from);
        }
    });
    address
}

fn payload(number: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &pattern(number as usize % 700, number as u8)].concat()
}

fn five_thousand_echoes_reach_the_sockets_they_are_for(way: Way) {
    const COUNT: u32 = 5_000;
    let mut owner = Owner::new(way);
    let peer = echo_at(way.peer);
    let ids: Vec<DatagramId> =
        (0..16).map(|_| owner.ring.open_datagram(SocketAddr::new(way.ours, 0), peer).unwrap()).collect();
    let socket_of = |number: u32| ids[number as usize % ids.len()];
    let mut open: HashMap<u32, Instant> = HashMap::new();
    let (mut next, mut again) = (0, 0);
    let mut answered = vec![false; COUNT as usize];
    let begun = Instant::now();
    while next < COUNT || !open.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} are open; {:?}", open.len(), owner.ring.raw_stats());
        let late = open.iter().filter(|(_, sent)| sent.elapsed() > RETRANSMIT).map(|(number, _)| *number);
        let late: Vec<u32> = late.collect();
        again += late.len();
        let room = 128usize.saturating_sub(open.len()).min((COUNT - next) as usize) as u32;
        for number in late.into_iter().chain(next..next + room) {
            match owner.ring.send_datagram(socket_of(number), &payload(number)) {
                Ok(()) | Err(SendError::NoSlot) => {}
                Err(error) => panic!("{error}"),
            }
            open.insert(number, Instant::now());
        }
        next += room;
        owner.turn(Some(Duration::from_millis(50)));
        for told in owner.told.drain(..) {
            let Told::Datagram(id, bytes) = told else { panic!("{told:?}") };
            let number = u32::from_be_bytes(bytes[..4].try_into().unwrap());
            assert_eq!((id, bytes), (socket_of(number), payload(number)));
            answered[number as usize] = true;
            open.remove(&number);
        }
    }
    // What the peer's socket has no room for is sent again.
    println!("{again} sent again, {:?}", begun.elapsed());
    assert!(answered.iter().all(|answered| *answered));
    assert!(again < COUNT as usize / 10, "this wire loses little: {again}");
    let stats = owner.ring.stats();
    assert!(stats.datagrams_received >= u64::from(COUNT), "{stats:?}");
}

fn a_port_nobody_has_is_told_and_the_socket_works_later(way: Way) {
    let mut owner = Owner::new(way);
    let placeholder = UdpSocket::bind((way.peer, 0)).unwrap();
    let peer = placeholder.local_addr().unwrap();
    drop(placeholder);
    let id = owner.ring.open_datagram(SocketAddr::new(way.ours, 0), peer).unwrap();
    owner.ring.send_datagram(id, b"one").unwrap();
    assert_eq!(owner.next(), Told::DatagramFailed(id, Some(Errno::CONNREFUSED.raw_os_error())));
    let responder = UdpSocket::bind(peer).unwrap();
    responder.set_read_timeout(Some(PATIENCE)).unwrap();
    owner.ring.send_datagram(id, b"two").unwrap();
    owner.ring.submit();
    let mut buffer = [0; 16];
    let (len, from) = responder.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"two"[..], owner.ring.datagram_local(id)));
    responder.send_to(b"answer", from).unwrap();
    assert_eq!(owner.next(), Told::Datagram(id, b"answer".to_vec()));
    owner.ring.close_datagram(id);
    responder.send_to(b"late", from).unwrap();
    assert_eq!(owner.settle(Duration::from_millis(50)), []);
}

/// Nothing but the clock ends this wait.
fn a_neighbour_that_is_not_there_is_told(way: Way) {
    let mut owner = Owner::new(way);
    let absent: IpAddr =
        if way.peer.is_ipv4() { [10, 77, 0, 99].into() } else { [0xfd77, 0, 0, 0, 0, 0, 0, 0x99].into() };
    let id = owner.ring.open_datagram(SocketAddr::new(way.ours, 0), SocketAddr::new(absent, 53)).unwrap();
    owner.ring.send_datagram(id, b"anybody").unwrap();
    let begun = Instant::now();
    owner.turn(None);
    assert_eq!(owner.told, [Told::DatagramFailed(id, Some(Errno::HOSTUNREACH.raw_os_error()))]);
    let waited = begun.elapsed();
    assert!((Duration::from_millis(2900)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    assert!(owner.ring.stats().enters < 50, "it sleeps: {:?}", owner.ring.stats());
}
