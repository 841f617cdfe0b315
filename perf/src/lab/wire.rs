//! DNS messages as bytes: RFC 1035 §4, RFC 6891, as little of them as the laboratory needs.
//!
//! Names in records are compressed in one way only: an owner equal to the question's name points to it. So the owner
//! comes back in the letter case it was asked in.

use super::scenario::{Answer, Qtype, Rcode, Rdata, Record};

/// The largest UDP answer, whatever the client says it can take.
const UDP_BYTES_MAX: usize = 1232;
const HEADER: usize = 12;
const TTL_S: u32 = 60;

/// What went wrong with a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// No answer can be made: too short, or itself an answer.
    Unanswerable,
    /// To be answered with this code.
    Answerable(Rcode),
}

/// A parsed query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name asked about, in lower case, no final dot.
    pub name: String,
    /// The type asked about.
    pub qtype: Qtype,
    /// Where the question ends in the message.
    question_end: usize,
    /// The largest UDP answer the client takes.
    udp_bytes_max: usize,
    edns: Option<Edns>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edns {
    dnssec_ok: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Query {
    /// Parses a query.
    ///
    /// # Errors
    ///
    /// Anything that is not one plain question of class IN.
    pub fn parse(message: &[u8]) -> Result<Self, QueryError> {
        if message.len() < HEADER || message[2] & 0x80 != 0 {
            return Err(QueryError::Unanswerable);
        }
        if message[2] & 0x78 != 0 {
            return Err(QueryError::Answerable(Rcode::NotImp));
        }
        Self::parse_body(message).ok_or(QueryError::Answerable(Rcode::FormErr))
    }

    fn parse_body(message: &[u8]) -> Option<Self> {
        if u16_at(message, 4)? != 1 || u16_at(message, 6)? != 0 || u16_at(message, 8)? != 0 {
            return None;
        }
        let mut name = String::with_capacity(80);
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            if length > 63 || at - HEADER + length > 254 {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            for &byte in message.get(at..at + length)? {
                // Bytes no laboratory name has become one that no laboratory name has either.
                let plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
                name.push(if plain { byte.to_ascii_lowercase().into() } else { '?' });
            }
            at += length;
        }
        let (qtype, class) = (u16_at(message, at)?, u16_at(message, at + 2)?);
        let question_end = at + 4;
        if class != 1 {
            return None;
        }
        let mut query = Self { name, qtype: qtype.into(), question_end, udp_bytes_max: 512, edns: None };
        if u16_at(message, 10)? > 0 && *message.get(question_end)? == 0 && u16_at(message, question_end + 1)? == 41 {
            query.udp_bytes_max = usize::from(u16_at(message, question_end + 3)?).clamp(512, UDP_BYTES_MAX);
            query.edns = Some(Edns { dnssec_ok: message.get(question_end + 7)? & 0x80 != 0 });
        }
        Some(query)
    }

    /// Composes an answer into `out`, whole.
    pub fn compose(&self, message: &[u8], answer: &Answer, out: &mut Vec<u8>) {
        out.clear();
        self.compose_head(message, answer.rcode, out);
        for record in &answer.records {
            self.compose_record(record, out);
        }
        let mut authority = 0;
        if let Some(zone) = answer.soa {
            self.compose_record(&Record { owner: zone.to_owned(), data: Rdata::Soa }, out);
            authority = 1;
        }
        self.compose_opt(out);
        put_count(out, 6, answer.records.len());
        put_count(out, 8, authority);
        put_count(out, 10, usize::from(self.edns.is_some()));
    }

    /// Composes an empty answer with TC set.
    pub fn compose_truncated(&self, message: &[u8], out: &mut Vec<u8>) {
        out.clear();
        self.compose_head(message, Rcode::NoError, out);
        self.compose_opt(out);
        out[2] |= 0x02;
        put_count(out, 10, usize::from(self.edns.is_some()));
    }

    /// Composes an answer for UDP: truncated if it is too long.
    pub fn compose_for_udp(&self, message: &[u8], answer: &Answer, out: &mut Vec<u8>) {
        self.compose(message, answer, out);
        if out.len() > self.udp_bytes_max {
            self.compose_truncated(message, out);
        }
    }

    /// Makes the question of a composed answer lower case.
    pub fn lower_question(&self, out: &mut [u8]) {
        if let Some(question) = out.get_mut(HEADER..self.question_end - 4) {
            question.make_ascii_lowercase();
        }
    }

    /// Cuts a composed answer in the midst of its records.
    pub fn cut(&self, out: &mut Vec<u8>) {
        out.truncate(self.question_end + (out.len() - self.question_end) / 2);
    }

    fn compose_head(&self, message: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
        compose_header(message, rcode, out);
        out[5] = 1;
        out.extend(&message[HEADER..self.question_end]);
    }

    fn compose_record(&self, record: &Record, out: &mut Vec<u8>) {
        if record.owner == self.name {
            out.extend([0xC0, HEADER as u8]);
        } else {
            put_name(out, &record.owner);
        }
        let code: u16 = match record.data {
            Rdata::A(_) => 1,
            Rdata::Aaaa(_) => 28,
            Rdata::Cname(_) => 5,
            Rdata::Dname(_) => 39,
            Rdata::Txt(_) => 16,
            Rdata::Caa { .. } => 257,
            Rdata::Ptr(_) => 12,
            Rdata::Mx(_) => 15,
            Rdata::Soa => 6,
        };
        out.extend(code.to_be_bytes());
        out.extend([0, 1]);
        out.extend(TTL_S.to_be_bytes());
        let length_at = out.len();
        out.extend([0, 0]);
        match &record.data {
            Rdata::A(address) => out.extend(address.octets()),
            Rdata::Aaaa(address) => out.extend(address.octets()),
            Rdata::Cname(name) | Rdata::Dname(name) | Rdata::Ptr(name) => put_name(out, name),
            Rdata::Mx(name) => {
                out.extend([0, 10]);
                put_name(out, name);
            }
            Rdata::Txt(strings) => {
                for string in strings {
                    out.push(string.len().min(255) as u8);
                    out.extend(string.bytes().take(255));
                }
            }
            Rdata::Caa { flags, tag, value } => {
                out.extend([*flags, tag.len() as u8]);
                out.extend(tag.as_bytes());
                out.extend(value.as_bytes());
            }
            Rdata::Soa => {
                put_name(out, "ns.lab.example");
                put_name(out, "hostmaster.lab.example");
                for number in [2_026_122_001_u32, 3600, 600, 86_400, TTL_S] {
                    out.extend(number.to_be_bytes());
                }
            }
        }
        let length = out.len() - length_at - 2;
        put_count(out, length_at, length);
    }

    fn compose_opt(&self, out: &mut Vec<u8>) {
        if let Some(edns) = self.edns {
            out.extend([0, 0, 41]);
            out.extend((UDP_BYTES_MAX as u16).to_be_bytes());
            out.extend([0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
        }
    }
}

/// Composes an answer that is a header and no more, for queries that cannot be parsed.
pub fn compose_error(message: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
    out.clear();
    compose_header(message, rcode, out);
}

/// Id and opcode as asked, QR and RA set, RD and CD as asked, AD clear, no records yet.
fn compose_header(message: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
    // AD says that the resolver validates; this one plays one that does.
    let validated = if matches!(rcode, Rcode::NoError | Rcode::NxDomain) { 0x20 } else { 0 };
    let flags = [0x80 | message[2] & 0x79, 0x80 | message[3] & 0x10 | validated | rcode as u8];
    out.extend([message[0], message[1], flags[0], flags[1]]);
    out.extend([0; 8]);
}

fn put_count(out: &mut [u8], at: usize, count: usize) {
    out[at..at + 2].copy_from_slice(&(count as u16).to_be_bytes());
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
}

/// Composes a query with EDNS; for tests and smoke runs.
#[must_use]
pub fn compose_query(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    put_name(&mut out, name);
    out.extend(qtype.to_be_bytes());
    out.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_queries() {
        let mut answer = compose_query(1, "a.example", 1);
        answer[2] |= 0x80;
        assert_eq!(Query::parse(&answer), Err(QueryError::Unanswerable));
        assert_eq!(Query::parse(&[0; 11]), Err(QueryError::Unanswerable));
        let query = compose_query(1, "a.example", 1);
        for length in HEADER..query.len() - 11 {
            assert_eq!(Query::parse(&query[..length]), Err(QueryError::Answerable(Rcode::FormErr)), "{length}");
        }
        let mut query = query;
        query[2] = 0x10;
        assert_eq!(Query::parse(&query), Err(QueryError::Answerable(Rcode::NotImp)));
    }

    #[test]
    fn ok_query() {
        let query = Query::parse(&compose_query(1, "A.eXample", 257)).unwrap();
        assert_eq!((query.name.as_str(), query.qtype, query.udp_bytes_max), ("a.example", Qtype::Caa, 1232));
        assert_eq!(query.edns, Some(Edns { dnssec_ok: true }));
    }
}
