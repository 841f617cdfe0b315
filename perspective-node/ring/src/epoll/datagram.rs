//! Connected UDP sockets: watched for reading always, for writing only while
//! the kernel refuses a datagram for lack of room.
//!
//! Leaves out matching replies to queries and retransmission.
//!
//! Invariants: there are never more datagrams queued than send slots; a socket
//! is watched for writing exactly while it is `blocked`. Level-triggered: what
//! a turn leaves in a socket is reported again.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::Socket;

use super::{DATAGRAM, Due, Ring, data};
use crate::datagram::{DatagramId, SEND_ATTEMPTS, SEND_BYTES_MAX, SendError, Verdict, open_socket};
use crate::slots::Key;
use crate::{Event, Sink};

/// Datagrams taken from one socket in a turn, so that one that is flooded does
/// not keep the others waiting.
const DATAGRAMS_A_TURN: usize = 32;

pub(super) struct Datagram {
    socket: Socket,
    local: SocketAddr,
    queue: VecDeque<Vec<u8>>,
    /// The kernel has no room for what is first in the queue.
    blocked: bool,
}

/// How many more datagrams may be queued, and whether somebody waits for that.
pub(super) struct SendSlots {
    free: usize,
    /// `send_datagram` found no slot and the caller waits for one.
    wanted: bool,
    freed: bool,
}

impl SendSlots {
    pub(super) fn new(count: u32) -> SendSlots {
        SendSlots { free: count as usize, wanted: false, freed: false }
    }

    fn take(&mut self) -> bool {
        self.wanted |= self.free == 0;
        let Some(free) = self.free.checked_sub(1) else { return false };
        self.free = free;
        true
    }

    fn release(&mut self) {
        self.free += 1;
        self.freed |= self.wanted;
    }

    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn ends_wait(&self) -> bool {
        self.freed
    }

    pub(super) fn wait_ended(&mut self) {
        (self.wanted, self.freed) = (false, false);
    }
}

impl Ring {
    pub(crate) fn open_datagram(&mut self, local: SocketAddr, peer: SocketAddr) -> io::Result<DatagramId> {
        let (socket, local) = open_socket(local, peer)?;
        epoll::add(&self.epoll, &socket, data(DATAGRAM, self.datagrams.vacant()), EventFlags::IN)?;
        let key = self.datagrams.insert(Datagram { socket, local, queue: VecDeque::new(), blocked: false });
        Ok(DatagramId(key))
    }

    pub(crate) fn close_datagram(&mut self, id: DatagramId) {
        let Some(datagram) = self.datagrams.get(id.0) else { return };
        for bytes in datagram.queue.drain(..) {
            // It was to leave with the next wait. There is nobody any more to
            // be told if it does not.
            let _ = send(&datagram.socket, &bytes);
            self.slots.release();
        }
        // Fails only for a descriptor that is not watched.
        let _ = epoll::delete(&self.epoll, &datagram.socket);
        self.datagrams.remove(id.0.index);
    }

    pub(crate) fn datagram_local(&self, id: DatagramId) -> Option<SocketAddr> {
        self.datagrams.get_ref(id.0).map(|datagram| datagram.local)
    }

    pub(crate) fn datagram_slots_free(&self) -> usize {
        self.slots.free
    }

    pub(crate) fn want_datagram_slot(&mut self) {
        self.slots.want();
    }

    pub(crate) fn send_datagram(&mut self, id: DatagramId, bytes: &[u8]) -> Result<(), SendError> {
        if bytes.len() > SEND_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        let datagram = self.datagrams.get(id.0).ok_or(SendError::Closed)?;
        if !self.slots.take() {
            return Err(SendError::NoSlot);
        }
        datagram.queue.push_back(bytes.to_vec());
        self.due.push_back(Due::DatagramSend(id.0));
        Ok(())
    }

    pub(super) fn datagram_ready(&mut self, index: u32, flags: EventFlags) {
        let Some((key, datagram)) = self.datagrams.at(index) else { return };
        if flags.contains(EventFlags::OUT) {
            datagram.watch_for_room(&self.epoll, index, false);
            self.due.extend(datagram.queue.iter().map(|_| Due::DatagramSend(key)));
        }
        // An error is read as a datagram is.
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            self.due.push_back(Due::DatagramReceive(key));
        }
    }

    /// Sends the first datagram of a socket's queue, unless there is no room.
    pub(super) fn send_queued(&mut self, key: Key, sink: Sink<'_>) -> bool {
        let Some(datagram) = self.datagrams.get(key).filter(|datagram| !datagram.blocked) else { return false };
        let Some(bytes) = datagram.queue.pop_front() else { return false };
        let (mut attempts, mut error) = (0, None);
        loop {
            let result = send(&datagram.socket, &bytes);
            if result == Err(Errno::AGAIN) {
                datagram.queue.push_front(bytes);
                datagram.watch_for_room(&self.epoll, key.index, true);
                break;
            }
            attempts += 1;
            let verdict = Verdict::of(result, bytes.len());
            let retry = attempts < SEND_ATTEMPTS && verdict.may_retry();
            error = error.or(verdict.report(retry));
            if !retry {
                self.slots.release();
                self.stats.datagrams_sent += u64::from(result.is_ok());
                break;
            }
        }
        let Some(error) = error else { return false };
        sink(Event::DatagramFailed { id: DatagramId(key), error });
        true
    }

    /// Receives what has come, up to a bound.
    pub(super) fn receive_datagrams(&mut self, key: Key, sink: Sink<'_>) -> bool {
        let Some(datagram) = self.datagrams.get(key) else { return false };
        let id = DatagramId(key);
        let mut visible = false;
        for _ in 0..DATAGRAMS_A_TURN {
            match rustix::net::recv(&datagram.socket, &mut *self.buffer, RecvFlags::DONTWAIT) {
                Ok((len, _)) => {
                    self.stats.datagrams_received += 1;
                    let bytes = self.buffer.get(..len).unwrap_or_default();
                    sink(Event::Datagram { id, bytes });
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(errno) => sink(Event::DatagramFailed { id, error: errno.into() }),
            }
            visible = true;
        }
        visible
    }
}

impl Datagram {
    fn watch_for_room(&mut self, epoll: &OwnedFd, index: u32, blocked: bool) {
        let flags = if blocked { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        // Fails only for a descriptor that is not watched.
        let _ = epoll::modify(epoll, &self.socket, data(DATAGRAM, index), flags);
        self.blocked = blocked;
    }
}

fn send(socket: &Socket, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Driver, RingConfig};

    /// A loopback interface always has room, so this is not to be had from
    /// outside.
    #[test]
    fn what_found_no_room_leaves_in_order_when_there_is_some() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut ring =
            Ring::new(RingConfig { driver: Driver::Epoll, datagram_send_slots: 3, ..RingConfig::default() }).unwrap();
        let id = ring.open_datagram("127.0.0.1:0".parse().unwrap(), peer.local_addr().unwrap()).unwrap();
        ring.datagrams.get(id.0).unwrap().watch_for_room(&ring.epoll, id.0.index, true);
        for number in 0..3 {
            ring.send_datagram(id, &[number]).unwrap();
        }
        assert_eq!(ring.send_datagram(id, &[3]), Err(SendError::NoSlot));
        assert!(!ring.turn(&mut |event| panic!("{event:?}")), "it is blocked");
        assert_eq!(ring.datagram_slots_free(), 0);
        let began = Instant::now();
        ring.wait(Some(Duration::from_secs(10)), &mut |event| panic!("{event:?}")).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "a slot that was wanted ends the wait");
        while ring.datagram_slots_free() < 3 {
            ring.wait(Some(Duration::ZERO), &mut |event| panic!("{event:?}")).unwrap();
        }
        for number in 0..3 {
            let mut buffer = [0; 8];
            assert_eq!(peer.recv(&mut buffer).unwrap(), 1);
            assert_eq!(buffer[0], number);
        }
        // Nobody is told again and again that there is room.
        let enters = ring.stats().enters;
        ring.wait(Some(Duration::from_millis(20)), &mut |event| panic!("{event:?}")).unwrap();
        assert!(ring.stats().enters <= enters + 2);
    }
}
