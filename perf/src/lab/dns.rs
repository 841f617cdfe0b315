//! The resolvers' sockets: UDP and TCP on six addresses, one thread, tokio-uring.
//!
//! Several receive loops share each UDP socket; each owns its buffers and reuses them. A read that times out leaves an
//! operation in the kernel that holds the descriptor, so the connection is shut down first: that ends the operation.

use std::{net::Shutdown, rc::Rc, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_uring::net::{TcpListener, TcpStream, UdpSocket};

use super::{
    scenario::{Answer, Delivery, resolve},
    serve::{Counters, add},
    wire::{Query, QueryError, compose_error},
    world::{Perspective, World},
};

const LOOPS_PER_SOCKET: usize = 4;
const DATAGRAM_BYTES_MAX: usize = 4096;
const TCP_IDLE: Duration = Duration::from_secs(5);
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// One resolver's bound sockets.
pub(super) struct ResolverSockets {
    pub(super) perspective: Perspective,
    pub(super) udp: std::net::UdpSocket,
    pub(super) tcp: std::net::TcpListener,
}

/// Starts the tasks of all resolvers on the current runtime.
pub(super) fn spawn(world: &Rc<World>, counters: &Arc<Counters>, sockets: Vec<ResolverSockets>) {
    for ResolverSockets { perspective, udp, tcp } in sockets {
        let resolver = Rc::new(Resolver { perspective, world: Rc::clone(world), counters: Arc::clone(counters) });
        let udp = Rc::new(UdpSocket::from_std(udp));
        for _ in 0..LOOPS_PER_SOCKET {
            tokio_uring::spawn(Rc::clone(&resolver).receive(Rc::clone(&udp)));
        }
        tokio_uring::spawn(resolver.accept(TcpListener::from_std(tcp)));
    }
}

struct Resolver {
    perspective: Perspective,
    world: Rc<World>,
    counters: Arc<Counters>,
}

impl Resolver {
    async fn receive(self: Rc<Self>, socket: Rc<UdpSocket>) {
        let mut message = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        let mut out = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        loop {
            message.clear();
            let (received, buffer) = socket.recv_from(message).await;
            message = buffer;
            let Ok((length, peer)) = received else {
                sleep(AFTER_ERROR).await;
                continue;
            };
            let message = &message[..length];
            add(&self.counters.dns_udp[self.perspective.index()]);
            let (query, answer) = match self.look_up(message) {
                Ok(found) => found,
                Err(QueryError::Unanswerable) => continue,
                Err(QueryError::Answerable(rcode)) => {
                    add(&self.counters.dns_malformed);
                    compose_error(message, rcode, &mut out);
                    (_, out) = socket.send_to(out, peer).await;
                    continue;
                }
            };
            match answer.delivery {
                Delivery::Silent => {
                    add(&self.counters.dns_silent);
                    continue;
                }
                Delivery::TcpClosed => query.compose_truncated(message, &mut out),
                Delivery::Plain => query.compose_for_udp(message, &answer, &mut out),
                Delivery::LowerCase => {
                    query.compose_for_udp(message, &answer, &mut out);
                    query.lower_question(&mut out);
                }
                Delivery::Cut => {
                    query.compose_for_udp(message, &answer, &mut out);
                    query.cut(&mut out);
                }
                Delivery::Spoofed => {
                    for wrong in wrong_datagrams(&query, message, &answer) {
                        let _ = socket.send_to(wrong, peer).await;
                    }
                    query.compose_for_udp(message, &answer, &mut out);
                }
            }
            if out.get(2).is_some_and(|flags| flags & 0x02 != 0) {
                add(&self.counters.dns_truncated);
            }
            // A client that has gone is no concern of ours.
            (_, out) = socket.send_to(out, peer).await;
        }
    }

    fn look_up(&self, message: &[u8]) -> Result<(Query, Answer), QueryError> {
        let query = Query::parse(message)?;
        let answer = resolve(&self.world, self.perspective, &query.name, query.qtype);
        Ok((query, answer))
    }

    async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    add(&self.counters.dns_tcp_connections);
                    tokio_uring::spawn(Rc::clone(&self).serve_connection(stream));
                }
                Err(_) => sleep(AFTER_ERROR).await,
            }
        }
    }

    /// Answers the queries of one connection until either side ends it.
    async fn serve_connection(self: Rc<Self>, stream: TcpStream) {
        let mut received: Vec<u8> = Vec::new();
        let mut chunk = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        loop {
            while let Some((message, rest)) = split_frame(&received) {
                add(&self.counters.dns_tcp[self.perspective.index()]);
                let mut out = Vec::new();
                match self.look_up(message) {
                    Ok((_, Answer { delivery: Delivery::TcpClosed, .. })) | Err(QueryError::Unanswerable) => return,
                    Ok((_, Answer { delivery: Delivery::Silent, .. })) => add(&self.counters.dns_silent),
                    Ok((query, answer)) => query.compose(message, &answer, &mut out),
                    Err(QueryError::Answerable(rcode)) => {
                        add(&self.counters.dns_malformed);
                        compose_error(message, rcode, &mut out);
                    }
                }
                let consumed = received.len() - rest.len();
                received.drain(..consumed);
                if out.is_empty() {
                    continue;
                }
                let Ok(length) = u16::try_from(out.len()) else {
                    return;
                };
                out.splice(0..0, length.to_be_bytes());
                if stream.write_all(out).await.0.is_err() {
                    return;
                }
            }
            chunk.clear();
            let Ok((read, buffer)) = timeout(TCP_IDLE, stream.read(chunk)).await else {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            };
            chunk = buffer;
            match read {
                Ok(length) if length > 0 => received.extend(&chunk[..length]),
                _ => return,
            }
        }
    }
}

/// Takes one length-prefixed message off the front.
fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

/// The right answer under a wrong id, the right one to a wrong question, and garbage.
fn wrong_datagrams(query: &Query, message: &[u8], answer: &Answer) -> [Vec<u8>; 3] {
    let mut wrong_id = Vec::new();
    query.compose_for_udp(message, answer, &mut wrong_id);
    let mut wrong_question = wrong_id.clone();
    wrong_id[0] ^= 0x55;
    // The first letter of the name, past header and label length.
    if let Some(letter) = wrong_question.get_mut(13) {
        *letter = b'x';
    }
    let garbage = message[..2].iter().copied().chain([0xFF; 30]).collect();
    [wrong_id, wrong_question, garbage]
}
