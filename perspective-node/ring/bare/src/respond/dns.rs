//! The DNS responder: recvmmsg, patch, sendmmsg.
//!
//! It copies the question, letter case included, and leaves out names: every name has the same text and address.
//! Datagrams that are no query with one question are dropped.

use std::convert::Infallible;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use clap::Args;
use rustix::event::epoll::EventFlags;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_send_buffer_size,
    set_socket_send_buffer_size_force,
};

use super::{DEFAULT_TEXT, Place, announce};
use crate::error::{BareError, During as _};
use crate::messages::Messages;
use crate::poll::Poll;

const BATCH: usize = 256;
const MESSAGE_BYTES_MAX: usize = 1_232;

const HEADER_BYTES: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const TTL: [u8; 4] = [0, 0, 0, 60];
const CLASS_IN: [u8; 2] = [0, 1];
/// Points to the question's name.
const NAME_POINTER: [u8; 2] = [0xc0, HEADER_BYTES as u8];

/// Options of the DNS responder.
#[derive(Debug, Args)]
pub(crate) struct Dns {
    #[command(flatten)]
    place: Place,
    /// The answer to TXT queries.
    #[arg(long, default_value = DEFAULT_TEXT)]
    text: String,
    /// The answer to A queries.
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    address: Ipv4Addr,
    /// Socket buffers in MiB. A client that has more outstanding than fits loses queries here.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    buffer_mib: u32,
    /// Receives and answers nothing.
    #[arg(long)]
    silent: bool,
}

impl Dns {
    pub(crate) fn run(&self) -> Result<Infallible, BareError> {
        let zone = Zone::new(&self.text, self.address)?;
        self.place.prepare()?;
        let socket = UdpSocket::bind(self.place.listen).during("--listen")?;
        let octets = (self.buffer_mib as usize) << 20;
        // Beyond the system's maximum with the privilege for it.
        set_socket_recv_buffer_size_force(&socket, octets)
            .or_else(|_| set_socket_recv_buffer_size(&socket, octets))
            .during("receive buffer")?;
        set_socket_send_buffer_size_force(&socket, octets)
            .or_else(|_| set_socket_send_buffer_size(&socket, octets))
            .during("send buffer")?;
        let mut poll = Poll::new()?;
        poll.add(&socket, 0, EventFlags::IN)?;
        announce(socket.local_addr())?;
        let mut queries = Messages::addressed(BATCH, MESSAGE_BYTES_MAX);
        let mut replies = Messages::addressed(BATCH, MESSAGE_BYTES_MAX);
        let mut ready = Vec::new();
        loop {
            let Ok(received) = queries.receive(&socket) else {
                poll.wait(Some(Duration::from_secs(1)), &mut ready)?;
                continue;
            };
            if !self.silent {
                let count = zone.answer_all(&queries, received, &mut replies);
                send_all(&mut replies, count, &socket);
            }
        }
    }
}

/// What the kernel does not take is lost.
fn send_all(replies: &mut Messages, count: usize, socket: &UdpSocket) {
    if count > 0 {
        let _ = replies.send(socket, count);
    }
}

/// The records every name has, from the type on.
struct Zone {
    address: Vec<u8>,
    text: Vec<u8>,
    authority: Vec<u8>,
}

impl Zone {
    fn new(text: &str, address: Ipv4Addr) -> Result<Zone, BareError> {
        let length = u8::try_from(text.len()).map_err(|_| BareError::Setting("--text: more than 255 octets"))?;
        let mut soa = [NAME_POINTER, NAME_POINTER].concat();
        // Serial, refresh, retry, expire, minimum.
        soa.extend([1u32, 3_600, 600, 86_400, 60].map(u32::to_be_bytes).as_flattened());
        Ok(Zone {
            address: record(TYPE_A, &address.octets()),
            text: record(TYPE_TXT, &[&[length], text.as_bytes()].concat()),
            authority: record(6, &soa),
        })
    }

    fn answer_all(&self, queries: &Messages, received: usize, replies: &mut Messages) -> usize {
        let mut count = 0;
        for index in 0..received.min(queries.capacity()) {
            if let Some(length) = self.answer(queries.bytes(index), replies.room(count)) {
                replies.set_length(count, length);
                replies.address_like(count, queries, index);
                count += 1;
            }
        }
        count
    }

    /// Writes the reply to a query; gives its length, or nothing for what is no query or has no room.
    fn answer(&self, query: &[u8], reply: &mut [u8]) -> Option<usize> {
        let header = query.get(..HEADER_BYTES)?;
        let is_query = header[2] & 0xf8 == 0 && header[4..6] == [0, 1];
        let question_end = question_end(query).filter(|_| is_query)?;
        let qtype = u16::from_be_bytes([*query.get(question_end - 4)?, *query.get(question_end - 3)?]);
        // A query has nothing in answer and authority, so an OPT record is the next if there is one.
        let opt = query.get(question_end..question_end + 11).filter(|record| record[..3] == [0, 0, 41]);
        let (section, record) = match qtype {
            TYPE_A => (7, &self.address),
            TYPE_TXT => (7, &self.text),
            _ => (9, &self.authority),
        };
        let mut end = 0;
        for part in [query.get(..question_end)?, record, opt.unwrap_or_default()] {
            reply.get_mut(end..end + part.len())?.copy_from_slice(part);
            end += part.len();
        }
        reply[2] |= 0x80;
        // RA; CD as it was.
        reply[3] = 0x80 | header[3] & 0x10;
        reply[6..HEADER_BYTES].fill(0);
        reply[section] = 1;
        reply[11] = u8::from(opt.is_some());
        if opt.is_some() {
            // The client's size and DO flag are echoed; its version and options are not.
            reply[end - 6..end - 4].fill(0);
            reply[end - 2..end].fill(0);
        }
        Some(end)
    }
}

fn record(rtype: u16, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u16;
    [&NAME_POINTER, &rtype.to_be_bytes(), &CLASS_IN, &TTL[..], &length.to_be_bytes(), data].concat()
}

/// Where the first question ends, its type and class included; nothing if its name is compressed or cut.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1 + length;
        match length {
            0 => return Some(at + 4).filter(|&end| end <= query.len()),
            1..=63 => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(qtype: u16, with_opt: bool) -> Vec<u8> {
        let mut query = vec![7, 9, 1, 0x10, 0, 1, 0, 0, 0, 0, 0, u8::from(with_opt)];
        query.extend(b"\x04BaRe\x04test\0");
        query.extend(qtype.to_be_bytes());
        query.extend(CLASS_IN);
        if with_opt {
            query.extend([0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        }
        query
    }

    fn answer(query: &[u8]) -> Option<Vec<u8>> {
        let mut reply = [0; 512];
        let zone = Zone::new("hi", Ipv4Addr::LOCALHOST).unwrap();
        zone.answer(query, &mut reply).map(|length| reply[..length].to_vec())
    }

    #[test]
    fn the_question_comes_back_as_it_was_with_what_its_type_asks_for() {
        let cases: [(u16, [u8; 2], &[u8]); 4] = [
            (1, [1, 0], b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01"),
            (16, [1, 0], b"\xc0\x0c\0\x10\0\x01\0\0\0\x3c\0\x03\x02hi"),
            (28, [0, 1], b"\xc0\x0c\0\x06\0\x01\0\0\0\x3c\0\x18\xc0\x0c\xc0\x0c\0\0\0\x01"),
            (257, [0, 1], b"\xc0\x0c\0\x06\0\x01\0\0\0\x3c\0\x18\xc0\x0c\xc0\x0c\0\0\0\x01"),
        ];
        for (qtype, [answers, authorities], start) in cases {
            for with_opt in [false, true] {
                let query = query(qtype, with_opt);
                let reply = answer(&query).unwrap();
                assert_eq!(reply[..2], query[..2]);
                assert_eq!(reply[2..6], [0x81, 0x90, 0, 1]);
                assert_eq!(reply[6..12], [0, answers, 0, authorities, 0, u8::from(with_opt)]);
                assert_eq!(reply[12..27], query[12..27]);
                assert!(reply[27..].starts_with(start), "{qtype}: {reply:02x?}");
                assert_eq!(reply.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]), with_opt);
            }
        }
    }

    #[test]
    fn what_is_no_query_gets_no_answer() {
        let good = query(16, true);
        for length in 0..27 {
            assert_eq!(answer(&good[..length]), None, "cut to {length}");
        }
        for (what, offset, value) in [("response", 2, 0x81), ("two questions", 5, 2), ("compressed", 12, 0xc0)] {
            let mut bad = good.clone();
            bad[offset] = value;
            assert_eq!(answer(&bad), None, "{what}");
        }
    }
}
