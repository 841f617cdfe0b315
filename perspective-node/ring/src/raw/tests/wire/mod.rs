//! The whole ring on a wire in a network namespace: [`Ring::raw`] at one end,
//! as its owner sees it, and the kernel's own sockets at the other. By each
//! method, over each family.
//!
//! Leaves out bad wires and hostile peers, which need no kernel.

mod datagrams;
mod keeping;
mod opening;
mod streams;
mod turnover;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::world::{Told, failed, pattern};
use crate::raw::namespace::{Wire, command};
use crate::{Close, FrameMethod, RawConfig, Ring, RingConfig, StreamId, StreamPhase};

/// No step of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections that the kernel keeps for one who does not accept yet.
const BACKLOG: i32 = 1024;

/// How frames are moved, and between which addresses.
#[derive(Clone, Copy, Debug)]
struct Way {
    method: FrameMethod,
    peer: IpAddr,
    ours: IpAddr,
}

impl Way {
    const fn v4(method: FrameMethod) -> Way {
        Way { method, peer: IpAddr::V4(Wire::PEER_V4), ours: IpAddr::V4(Wire::OURS_V4) }
    }

    const fn v6(method: FrameMethod) -> Way {
        Way { method, peer: IpAddr::V6(Wire::PEER_V6), ours: IpAddr::V6(Wire::OURS_V6) }
    }
}

/// One test for each way, in namespaces of their own.
macro_rules! on_each_wire {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use super::super::Way;
            use crate::FrameMethod::{Packet, Xdp};
            use crate::raw::namespace::run;
            #[test]
            fn xdp_ipv4() {
                run(|| super::$test(Way::v4(Xdp)));
            }
            #[test]
            fn xdp_ipv6() {
                run(|| super::$test(Way::v6(Xdp)));
            }
            #[test]
            fn packet_ipv4() {
                run(|| super::$test(Way::v4(Packet)));
            }
            #[test]
            fn packet_ipv6() {
                run(|| super::$test(Way::v6(Packet)));
            }
        }
    )+};
}
use on_each_wire;

fn ring_config() -> RingConfig {
    RingConfig { datagram_send_slots: 512, ..RingConfig::default() }
}

fn raw_config(method: FrameMethod) -> RawConfig {
    RawConfig {
        interface: Wire::RAW.to_owned(),
        method,
        addresses: vec![Wire::OURS_V4.into(), Wire::OURS_V6.into()],
        networks: vec![([10, 77, 0, 0].into(), 24), ([0xfd77, 0, 0, 0, 0, 0, 0, 0].into(), 64)],
        gateways: Vec::new(),
        frames: 2048,
        kept_octets: 0,
    }
}

/// A ring at our end of a wire of its own, and what it has told.
struct Owner {
    ring: Ring,
    told: VecDeque<Told>,
    way: Way,
}

impl Owner {
    fn new(way: Way) -> Owner {
        Owner::with(way, raw_config(way.method))
    }

    fn with(way: Way, config: RawConfig) -> Owner {
        Wire::make();
        let ring = Ring::raw(ring_config(), &config).unwrap();
        assert!(ring.describe().contains(way.method.name()), "{}", ring.describe());
        Owner { ring, told: VecDeque::new(), way }
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        let told = &mut self.told;
        self.ring.wait(timeout, &mut |event| told.push_back(event.into())).unwrap();
    }

    /// What is told next, or a panic.
    #[track_caller]
    fn next(&mut self) -> Told {
        let begun = Instant::now();
        while self.told.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "nothing told; {:?}", self.ring.raw_stats());
            self.turn(Some(Duration::from_millis(200)));
        }
        self.told.pop_front().unwrap()
    }

    /// What is told in this time.
    fn settle(&mut self, time: Duration) -> Vec<Told> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.turn(Some(Duration::from_millis(10)));
        }
        self.told.drain(..).collect()
    }

    /// Lets the ring work until something is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Ring) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.ring) {
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}; {:?}", self.ring.raw_stats());
            self.turn(Some(Duration::from_millis(10)));
        }
    }

    #[track_caller]
    fn connected(&mut self, peer: SocketAddr) -> StreamId {
        let id = self.ring.connect(None, peer).unwrap();
        assert_eq!(self.next(), Told::Connected(id));
        id
    }

    /// A stream that stands, and the kernel's end of it. Our last word of the
    /// handshake leaves in the turn after `Connected`.
    #[track_caller]
    fn accepted(&mut self, listener: &TcpListener) -> (StreamId, TcpStream) {
        let id = self.connected(listener.local_addr().unwrap());
        self.turn(Some(Duration::ZERO));
        listener.set_nonblocking(true).unwrap();
        let (socket, from) = listener.accept().expect("the handshake has ended");
        assert_eq!(from.ip(), self.way.ours);
        socket.set_nonblocking(false).unwrap();
        (id, patient(socket))
    }

    /// Sends `ours` and receives until the peer's FIN, whichever is later; what
    /// it received. `middle` is done once, when half of `expected` is here.
    fn converse(&mut self, id: StreamId, ours: &[u8], expected: usize, middle: impl FnOnce(&mut Owner)) -> Vec<u8> {
        let mut middle = Some(middle);
        let (mut sends, mut ended, mut all) = (0, false, Vec::new());
        for part in ours.chunks(40_000) {
            self.ring.send(id, part.to_vec());
            sends += 1;
        }
        self.ring.receive(id);
        while sends > 0 || !ended {
            match self.next() {
                Told::Sent(sent) if sent == id => sends -= 1,
                Told::Received(from, bytes) if from == id && bytes.is_empty() => ended = true,
                Told::Received(from, bytes) if from == id => {
                    all.extend(bytes);
                    if all.len() >= expected / 2
                        && let Some(middle) = middle.take()
                    {
                        middle(self);
                    }
                    self.ring.receive(id);
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(middle.is_none(), "{} bytes of {expected}", all.len());
        all
    }
}

fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A kernel's socket that waits for connections.
fn listen(address: IpAddr) -> (TcpListener, SocketAddr) {
    let address = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(BACKLOG).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// TCP connections of the kernel, in whatever state; listening ones are none.
fn kernel_connections() -> String {
    command("ss -Htan").lines().filter(|line| !line.starts_with("LISTEN")).collect()
}

/// A counter of the kernel in this namespace, over both families if it has one
/// for each.
fn counter(protocol: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|found| found == name).unwrap();
    let v4: u64 = values.split(' ').nth(at).unwrap().parse().unwrap();
    let text = std::fs::read_to_string("/proc/net/snmp6").unwrap();
    let v6 =
        text.lines().filter_map(|line| line.strip_prefix(&format!("{protocol}6{name}"))?.trim().parse::<u64>().ok());
    v4 + v6.sum::<u64>()
}
