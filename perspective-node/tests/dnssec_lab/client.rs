//! A small blocking DNS client: UDP, then TCP if the reply was cut.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use parallax_validation::observation::RecordType;

/// A record of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Lower case, without final dot.
    pub(crate) owner: String,
    pub(crate) rtype: u16,
    /// As sent; names within may be compressed.
    pub(crate) rdata: Vec<u8>,
}

/// A reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) rcode: u8,
    /// The AD bit.
    pub(crate) authenticated: bool,
    pub(crate) answers: Vec<Record>,
    pub(crate) authority: Vec<Record>,
    /// Codes of extended errors (RFC 8914).
    pub(crate) extended_errors: Vec<u16>,
}

impl Reply {
    /// RDATA of the answers of a type.
    pub(crate) fn rdata(&self, rtype: u16) -> Vec<&[u8]> {
        self.answers.iter().filter(|record| record.rtype == rtype).map(|record| record.rdata.as_slice()).collect()
    }
}

/// Asks with DO set and waits for the reply for 15 s.
pub(crate) fn ask(server: SocketAddr, name: &str, rtype: RecordType) -> Option<Reply> {
    ask_within(server, name, rtype, Duration::from_secs(15))
}

/// Asks with DO set; `None` if no reply came in time.
pub(crate) fn ask_within(server: SocketAddr, name: &str, rtype: RecordType, patience: Duration) -> Option<Reply> {
    let query = query(name, rtype);
    let socket = UdpSocket::bind(("127.0.0.1", 0)).ok()?;
    socket.connect(server).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    socket.send(&query).ok()?;
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    if buffer[2] & 0x02 == 0 {
        return Some(parse(&buffer[..length]));
    }
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], &query].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let message = &mut buffer[..usize::from(u16::from_be_bytes(length))];
    stream.read_exact(message).ok()?;
    Some(parse(message))
}

/// RD and AD set, and an OPT record with DO (RFC 3225 §3).
fn query(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut query = vec![0x4c, 0x61, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&rtype.number().to_be_bytes());
    query.extend_from_slice(&[0, 1, 0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    query
}

fn parse(message: &[u8]) -> Reply {
    let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
    let mut at = 12;
    for _ in 0..word(4) {
        name(message, &mut at);
        at += 4;
    }
    let mut sections = [6, 8, 10].map(|count| {
        let records = (0..word(count)).map(|_| {
            let owner = name(message, &mut at);
            let rdata_at = at + 10;
            let record = Record { owner, rtype: word(at), rdata: Vec::new() };
            at = rdata_at + usize::from(word(at + 8));
            Record { rdata: message[rdata_at..at].to_vec(), ..record }
        });
        records.collect::<Vec<_>>()
    });
    let extended_errors = sections[2].iter().filter(|record| record.rtype == 41).flat_map(|opt| errors(&opt.rdata));
    Reply {
        rcode: message[3] & 0x0f,
        authenticated: message[3] & 0x20 != 0,
        extended_errors: extended_errors.collect(),
        answers: std::mem::take(&mut sections[0]),
        authority: std::mem::take(&mut sections[1]),
    }
}

/// Reads a name and moves past it.
fn name(message: &[u8], at: &mut usize) -> String {
    let mut labels: Vec<String> = Vec::new();
    let (mut here, mut jumped) = (*at, false);
    loop {
        let length = usize::from(message[here]);
        if length >= 0xc0 {
            if !jumped {
                *at = here + 2;
            }
            jumped = true;
            here = (length & 0x3f) << 8 | usize::from(message[here + 1]);
            continue;
        }
        here += 1 + length;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(&message[here - length..here]).to_ascii_lowercase());
    }
    if !jumped {
        *at = here;
    }
    labels.join(".")
}

/// The codes of the extended errors among EDNS options.
fn errors(mut options: &[u8]) -> Vec<u16> {
    let mut codes = Vec::new();
    while let [code_high, code_low, high, low, rest @ ..] = options {
        let (option, next) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if [*code_high, *code_low] == [0, 15] {
            codes.push(u16::from_be_bytes([option[0], option[1]]));
        }
        options = next;
    }
    codes
}
