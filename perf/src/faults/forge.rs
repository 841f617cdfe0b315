//! Frames that nobody sent: answers to DNS questions seen passing, and TCP resets.
//!
//! A forged answer for A leads elsewhere, one for TXT holds another text, and one for all else says that there is
//! nothing, which for CAA permits. Whoever believes any of them comes to another verdict than the right one.
//!
//! Left out: IPv6, and questions with options in the IP header, or with more than one question.
//!
//! Invariant: a forged reset never has the sequence number that its receiver expects next.

use rand::{Rng, RngExt as _};
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr,
        TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};

use super::{
    policy::ETHERNET_HEADER,
    rules::{Forge, Forgery},
};

const TTL: u8 = 64;
/// Of the packets made here, which have no options.
const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const DNS_HEADER: usize = 12;
/// RFC 1035 §3.1.
const NAME_MAX: usize = 255;
const A: u16 = 1;
const SOA: u16 = 6;
const TXT: u16 = 16;
/// Two names that are the root, and five numbers (RFC 1035 §3.3.13).
const SOA_DATA: [u8; 22] = [0; 22];
/// Seconds that a forged answer may be kept.
const ANSWER_TTL_S: u32 = 3600;
/// How far from the expected number forged resets are: the first within the window, the others outside of any. No
/// segment is as long, so that none moves the expected number there meanwhile.
const RESET_OFFSETS: [u32; 3] = [30_011, 0_u32.wrapping_sub(70_001), 1 << 30];

/// Who sent a packet to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    from_hardware: EthernetAddress,
    to_hardware: EthernetAddress,
    from: Ipv4Address,
    to: Ipv4Address,
}

/// An IPv4 packet of this protocol that is no fragment: its way and its payload.
fn ipv4(frame: &[u8], protocol: IpProtocol) -> Option<(Way, &[u8])> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    if ethernet.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let packet = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
    if packet.next_header() != protocol || packet.more_frags() || packet.frag_offset() != 0 {
        return None;
    }
    let way = Way {
        from_hardware: ethernet.src_addr(),
        to_hardware: ethernet.dst_addr(),
        from: packet.src_addr(),
        to: packet.dst_addr(),
    };
    Some((way, packet.payload()))
}

/// An IPv4 packet the other way, whose payload is yet to be written.
fn back(
    way: Way,
    protocol: IpProtocol,
    payload: usize,
    write: impl FnOnce(&mut [u8], &IpAddress, &IpAddress),
) -> Vec<u8> {
    let repr =
        Ipv4Repr { src_addr: way.to, dst_addr: way.from, next_header: protocol, payload_len: payload, hop_limit: TTL };
    let mut frame = vec![0; ETHERNET_HEADER + repr.buffer_len() + payload];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    ethernet.set_src_addr(way.to_hardware);
    ethernet.set_dst_addr(way.from_hardware);
    ethernet.set_ethertype(EthernetProtocol::Ipv4);
    let mut packet = Ipv4Packet::new_unchecked(ethernet.payload_mut());
    repr.emit(&mut packet, &ChecksumCapabilities::default());
    write(packet.payload_mut(), &way.to.into(), &way.from.into());
    frame
}

/// A DNS question seen passing over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    way: Way,
    from_port: u16,
    to_port: u16,
    id: u16,
    /// Name, type and class as asked.
    question: Vec<u8>,
    qtype: u16,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

impl Question {
    /// The question in a frame, if it is one to such a port.
    pub(super) fn read(frame: &[u8], ports: &[u16]) -> Option<Self> {
        let (way, datagram) = ipv4(frame, IpProtocol::Udp)?;
        let udp = UdpPacket::new_checked(datagram).ok()?;
        let (message, is_response) = (udp.payload(), 0x80);
        if !ports.contains(&udp.dst_port()) || message.get(2)? & is_response != 0 || u16_at(message, 4)? != 1 {
            return None;
        }
        let mut end = DNS_HEADER;
        while *message.get(end)? != 0 {
            // A pointer is longer than any label, and ends this.
            end += 1 + usize::from(*message.get(end)?);
            if end > DNS_HEADER + NAME_MAX {
                return None;
            }
        }
        let (id, qtype) = (u16_at(message, 0)?, u16_at(message, end + 1)?);
        let question = message.get(DNS_HEADER..end + 5)?.to_vec();
        Some(Self { way, from_port: udp.src_port(), to_port: udp.dst_port(), id, question, qtype })
    }

    /// Frames that answer it in this way.
    pub(super) fn answers(&self, forgery: Forgery, rules: &Forge, chance: &mut impl Rng) -> Vec<Vec<u8>> {
        let answer = |id, port, question: &[u8]| self.answer(id, port, question, rules);
        match forgery {
            Forgery::Perfect => vec![answer(self.id, self.to_port, &self.question)],
            Forgery::WrongId => vec![answer(self.id ^ 1, self.to_port, &self.question)],
            Forgery::WrongPort => vec![answer(self.id, self.to_port ^ 1, &self.question)],
            Forgery::WrongCase => {
                let Some(letter) = self.question.iter().position(u8::is_ascii_alphabetic) else { return Vec::new() };
                let mut question = self.question.clone();
                question[letter] ^= 0x20;
                vec![answer(self.id, self.to_port, &question)]
            }
            Forgery::Guesses => {
                // Made once and changed in two places, since there are so many; without a checksum, as IPv4 allows.
                let mut model = answer(self.id, self.to_port, &self.question);
                let message = ETHERNET_HEADER + IPV4_HEADER + UDP_HEADER;
                model[message - 2..message].fill(0);
                let name = message + DNS_HEADER..message + DNS_HEADER + self.question.len() - 4;
                let first: u16 = chance.random();
                let guess = |number: u32| {
                    let mut frame = model.clone();
                    frame[message..message + 2].copy_from_slice(&first.wrapping_add(number as u16).to_be_bytes());
                    turn_case_by_chance(&mut frame[name.clone()], chance);
                    frame
                };
                (0..rules.guesses).map(guess).collect()
            }
        }
    }

    fn answer(&self, id: u16, port: u16, question: &[u8], rules: &Forge) -> Vec<u8> {
        let data = match self.qtype {
            A => Some(rules.address.octets().to_vec()),
            TXT => Some([&[rules.text.len() as u8], rules.text.as_bytes()].concat()),
            _ => None,
        };
        // A denial is believed with the SOA of its zone alone (RFC 2308 §2.2): here that of the name's parent.
        let (rtype, owner, data, sections) = match data {
            Some(data) => (self.qtype, 0, data, [0, 1, 0, 0]),
            None => (SOA, 1 + question.first().copied().unwrap_or(0), SOA_DATA.to_vec(), [0, 0, 0, 1]),
        };
        let mut message = id.to_be_bytes().to_vec();
        // A response, recursion desired and available, no error; one question; answers and authorities; nothing else.
        message.extend([0x81, 0x80, 0, 1]);
        message.extend(sections);
        message.extend([0, 0]);
        message.extend(question);
        // A name within the question's, by a pointer to it; its type; class IN.
        message.extend([0xc0, DNS_HEADER as u8 + owner]);
        message.extend(rtype.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ANSWER_TTL_S.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
        let repr = UdpRepr { src_port: port, dst_port: self.from_port };
        back(self.way, IpProtocol::Udp, repr.header_len() + message.len(), |payload, from, to| {
            let fill = |payload: &mut [u8]| payload.copy_from_slice(&message);
            let mut packet = UdpPacket::new_unchecked(payload);
            repr.emit(&mut packet, from, to, message.len(), fill, &ChecksumCapabilities::default());
        })
    }
}

/// Puts each letter of a name in a case by chance.
fn turn_case_by_chance(name: &mut [u8], chance: &mut impl Rng) {
    let mut bits: u64 = 0;
    for (place, octet) in name.iter_mut().enumerate() {
        if place % 64 == 0 {
            bits = chance.random();
        }
        if octet.is_ascii_alphabetic() && bits >> (place % 64) & 1 == 1 {
            *octet ^= 0x20;
        }
    }
}

/// Resets to the sender of a TCP segment, as if its peer had sent them.
pub(super) fn resets(frame: &[u8]) -> Vec<Vec<u8>> {
    let Some((way, segment)) = ipv4(frame, IpProtocol::Tcp) else { return Vec::new() };
    let Ok(tcp) = TcpPacket::new_checked(segment) else { return Vec::new() };
    if tcp.rst() {
        return Vec::new();
    }
    let reset = |seq_number, ack_number| {
        let repr = TcpRepr {
            src_port: tcp.dst_port(),
            dst_port: tcp.src_port(),
            control: TcpControl::Rst,
            seq_number,
            ack_number,
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        back(way, IpProtocol::Tcp, repr.buffer_len(), |payload, from, to| {
            repr.emit(&mut TcpPacket::new_unchecked(payload), from, to, &ChecksumCapabilities::default());
        })
    };
    let moved = |number: TcpSeqNumber, offset: u32| TcpSeqNumber(number.0.wrapping_add(offset.cast_signed()));
    if tcp.ack() {
        // It expects next what it acknowledges. Who has just answered a SYN is ended by any reset within its window:
        // Linux has RFC 5961 for connections that stand.
        let offsets = if tcp.syn() { &RESET_OFFSETS[1..] } else { &RESET_OFFSETS };
        offsets.iter().map(|offset| reset(moved(tcp.ack_number(), *offset), None)).collect()
    } else {
        // Before a connection stands, a reset counts if it acknowledges the SYN (RFC 9293 §3.10.7.3).
        RESET_OFFSETS.iter().map(|offset| reset(TcpSeqNumber(0), Some(moved(tcp.seq_number(), *offset)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    const WAY: Way = Way {
        from_hardware: EthernetAddress([2, 0, 0, 0, 0, 1]),
        to_hardware: EthernetAddress([2, 0, 0, 0, 0, 2]),
        from: Ipv4Address::new(192, 0, 2, 1),
        to: Ipv4Address::new(192, 0, 2, 53),
    };
    const NAME: &[u8] = b"\x03wWw\x07eXample\x00";

    /// A packet from the asker, who is where `back` goes.
    fn there(protocol: IpProtocol, payload: usize, write: impl FnOnce(&mut [u8], &IpAddress, &IpAddress)) -> Vec<u8> {
        let Way { from_hardware, to_hardware, from, to } = WAY;
        let turned = Way { from_hardware: to_hardware, to_hardware: from_hardware, from: to, to: from };
        back(turned, protocol, payload, write)
    }

    fn datagram(ports: (u16, u16), message: &[u8]) -> Vec<u8> {
        let repr = UdpRepr { src_port: ports.0, dst_port: ports.1 };
        there(IpProtocol::Udp, 8 + message.len(), |payload, from, to| {
            let fill = |payload: &mut [u8]| payload.copy_from_slice(message);
            let capabilities = ChecksumCapabilities::default();
            repr.emit(&mut UdpPacket::new_unchecked(payload), from, to, message.len(), fill, &capabilities);
        })
    }

    fn question(qtype: u16) -> Vec<u8> {
        let head = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [&head[..], NAME, &qtype.to_be_bytes(), &[0, 1]].concat()
    }

    /// Source and destination port, and message, of a frame whose checksums hold.
    fn read_back(frame: &[u8]) -> (u16, u16, Vec<u8>) {
        let (way, datagram) = ipv4(frame, IpProtocol::Udp).expect("a UDP packet");
        assert_eq!((way.from, way.to, way.from_hardware), (WAY.to, WAY.from, WAY.to_hardware));
        let udp = UdpPacket::new_checked(datagram).expect("whole");
        assert!(udp.verify_checksum(&way.from.into(), &way.to.into()));
        assert!(Ipv4Packet::new_checked(&frame[ETHERNET_HEADER..]).expect("whole").verify_checksum());
        (udp.src_port(), udp.dst_port(), udp.payload().to_vec())
    }

    fn forged(forgery: Forgery, qtype: u16) -> Vec<(u16, u16, Vec<u8>)> {
        let rules = Forge { guesses: 300, ..Forge::default() };
        let asked = Question::read(&datagram((40_000, 53), &question(qtype)), &[53]).expect("a question");
        let frames = asked.answers(forgery, &rules, &mut StdRng::seed_from_u64(1));
        frames.iter().map(|frame| read_back(frame)).collect()
    }

    #[test]
    fn ok_each_forgery_is_wrong_in_one_thing() {
        let (from, to, perfect) = forged(Forgery::Perfect, A).remove(0);
        assert_eq!((from, to, &perfect[..4]), (53, 40_000, &[0xab, 0xcd, 0x81, 0x80][..]));
        let asked = question(A);
        assert_eq!(perfect[DNS_HEADER..asked.len()], asked[DNS_HEADER..]);
        assert!(perfect.ends_with(&[0, 4, 192, 0, 2, 66]));

        let (from, to, message) = forged(Forgery::WrongId, A).remove(0);
        assert_eq!((from, to, &message[..2], &message[2..]), (53, 40_000, &[0xab, 0xcc][..], &perfect[2..]));
        let (from, to, message) = forged(Forgery::WrongPort, A).remove(0);
        assert_eq!((from, to, message), (52, 40_000, perfect.clone()));
        let (from, to, message) = forged(Forgery::WrongCase, A).remove(0);
        assert!((from, to) == (53, 40_000) && message != perfect && message.eq_ignore_ascii_case(&perfect));
    }

    #[test]
    fn ok_guesses_have_ids_of_their_own_and_names_in_other_cases() {
        let guesses = forged(Forgery::Guesses, TXT);
        let ids: HashSet<_> = guesses.iter().map(|(_, _, message)| [message[0], message[1]]).collect();
        let names: HashSet<_> = guesses.iter().map(|(_, _, message)| message[12..12 + NAME.len()].to_vec()).collect();
        assert_eq!((guesses.len(), ids.len()), (300, 300));
        assert!(names.len() > 200 && names.iter().all(|name| name.eq_ignore_ascii_case(NAME)), "{}", names.len());
        assert!(
            guesses.iter().all(|(from, to, message)| (*from, *to) == (53, 40_000) && message.ends_with(b"\x06forged"))
        );
    }

    #[test]
    fn ok_there_is_nothing_at_other_types_and_the_parents_soa_says_so() {
        let (_, _, message) = forged(Forgery::Perfect, 257).remove(0);
        assert_eq!(message[4..12], [0, 1, 0, 0, 0, 1, 0, 0]);
        // A pointer to the second label of the name, behind "www".
        let authority = &message[question(257).len()..];
        assert_eq!((&authority[..4], authority.len()), (&[0xc0, 12 + 4, 0, 6][..], 12 + SOA_DATA.len()));
    }

    #[test]
    fn err_what_is_no_question_is_left_alone() {
        let mut answer = question(A);
        answer[2] |= 0x80;
        let mut two = question(A);
        two[5] = 2;
        let mut long = question(A);
        long[DNS_HEADER] = 200;
        for (what, frame) in [
            ("another port", datagram((40_000, 54), &question(A))),
            ("an answer", datagram((40_000, 53), &answer)),
            ("two questions", datagram((40_000, 53), &two)),
            ("a label that ends behind the message", datagram((40_000, 53), &long)),
            ("too short", datagram((40_000, 53), &question(A)[..14])),
            ("nothing", datagram((40_000, 53), &[])),
            ("no frame", vec![0; 5]),
        ] {
            assert_eq!(Question::read(&frame, &[53]), None, "{what}");
        }
        // Cut anywhere, it is read or not, and nothing more.
        let whole = datagram((40_000, 53), &question(A));
        for end in 0..whole.len() {
            assert_eq!(Question::read(&whole[..end], &[53]), None);
            assert_eq!(resets(&whole[..end]), Vec::<Vec<u8>>::new());
        }
    }

    #[test]
    fn ok_resets_go_to_the_sender_and_never_have_the_number_that_counts() {
        let segment = |control, ack_number| {
            let repr = TcpRepr {
                src_port: 40_000,
                dst_port: 80,
                control,
                seq_number: TcpSeqNumber(1000),
                ack_number,
                window_len: 5000,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: &[],
            };
            there(IpProtocol::Tcp, repr.buffer_len(), |payload, from, to| {
                repr.emit(&mut TcpPacket::new_unchecked(payload), from, to, &ChecksumCapabilities::default());
            })
        };
        for (control, ack) in [(TcpControl::Syn, None), (TcpControl::None, Some(TcpSeqNumber(i32::MAX)))] {
            let forged = resets(&segment(control, ack));
            assert_eq!(forged.len(), RESET_OFFSETS.len());
            for frame in forged {
                let (way, segment) = ipv4(&frame, IpProtocol::Tcp).expect("a TCP packet");
                let tcp = TcpPacket::new_checked(segment).expect("whole");
                assert!(tcp.rst() && tcp.verify_checksum(&way.from.into(), &way.to.into()));
                assert_eq!((tcp.src_port(), tcp.dst_port(), way.to), (80, 40_000, WAY.from));
                match ack {
                    Some(expected) => assert!(!tcp.ack() && tcp.seq_number() != expected),
                    None => assert!(tcp.ack() && tcp.ack_number() != TcpSeqNumber(1001)),
                }
            }
        }
        assert_eq!(resets(&segment(TcpControl::Rst, None)), Vec::<Vec<u8>>::new(), "a reset is not answered");
    }
}
