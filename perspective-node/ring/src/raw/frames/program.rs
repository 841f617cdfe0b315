//! The XDP program that picks our frames, as instruction words.
//!
//! Redirected to the socket of their receive queue: IPv4 and IPv6 to our
//! addresses, ARP with ours as its target, neighbour solicitations for ours
//! (RFC 4861 §4.3; they go to a group that is not an address of ours). All
//! else, and all if a queue has no socket, goes on to the kernel. `filter.rs`
//! says the same to AF_PACKET.
//!
//! Leaves out any look into what is taken: options, fragments and checksums
//! are for the stack above. A VLAN tag that the device takes off (ethtool's
//! rx-vlan-offload) is not seen, where the other program sees it.
//!
//! Invariant: nothing is read from a frame before its length was compared with
//! the last octet read; the kernel's verifier insists.

use std::net::IpAddr;
use std::os::fd::RawFd;

/// One instruction in the kernel's layout (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[derive(Clone, Copy)]
enum Register {
    /// What a call or the program returns.
    R0 = 0,
    /// The first argument, of a call and of the program.
    R1 = 1,
    R2 = 2,
    R3 = 3,
    /// The context, kept.
    R6 = 6,
    /// The first octet of the frame.
    R7 = 7,
    /// Behind its last octet.
    R8 = 8,
}
use Register::{R0, R1, R2, R3, R6, R7, R8};

/// Sizes of a load: BPF_B, BPF_H and BPF_W with BPF_MEM and BPF_LDX.
#[derive(Clone, Copy)]
enum Load {
    Octet = 0x71,
    Half = 0x69,
    Word = 0x61,
}

const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const ADD: u8 = 0x07;
const LOAD_64: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
const JUMP_GREATER_REGISTER: u8 = 0x2d;
/// The next three compare 32 bits (BPF_JMP32), as the immediate is sign
/// extended for 64.
const JUMP_EQUAL: u8 = 0x16;
const JUMP_NOT_EQUAL: u8 = 0x56;
const JUMP_SET: u8 = 0x46;
/// The immediate of `LOAD_64` is the descriptor of a map.
const PSEUDO_MAP: u8 = 1;
const REDIRECT_MAP: i32 = 51;
const XDP_PASS: i32 = 2;

// Of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const RX_QUEUE_INDEX: i16 = 16;

/// A place that is jumped to before it is known; jumps only lead forward.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

#[derive(Default)]
struct Assembler {
    instructions: Vec<Instruction>,
    jumps: Vec<(usize, Label)>,
    /// By label, where it is.
    places: Vec<Option<usize>>,
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.instructions.len());
    }

    fn emit(&mut self, code: u8, to: Register, from: u8, offset: i16, immediate: i32) {
        let (to, from) = (to as u8, from);
        // Two fields of four bits; C puts the first of them where the target's
        // byte order begins.
        let registers = if cfg!(target_endian = "little") { to | from << 4 } else { to << 4 | from };
        self.instructions.push(Instruction { code, registers, offset, immediate });
    }

    fn copy(&mut self, to: Register, from: Register) {
        self.emit(MOVE_REGISTER, to, from as u8, 0, 0);
    }

    fn set(&mut self, to: Register, immediate: i32) {
        self.emit(MOVE, to, 0, 0, immediate);
    }

    fn load(&mut self, size: Load, to: Register, from: Register, offset: i16) {
        self.emit(size as u8, to, from as u8, offset, 0);
    }

    fn jump(&mut self, code: u8, register: Register, other: u8, immediate: i32, label: Label) {
        self.jumps.push((self.instructions.len(), label));
        self.emit(code, register, other, 0, immediate);
    }

    /// Goes to `label` unless the frame has `len` octets.
    fn require_len(&mut self, len: i32, label: Label) {
        self.copy(R2, R7);
        self.emit(ADD, R2, 0, 0, len);
        self.jump(JUMP_GREATER_REGISTER, R2, R8 as u8, 0, label);
    }

    /// Goes to `label` unless the octets at `offset` are these. Memory is
    /// compared with memory, whatever the byte order.
    fn require_word(&mut self, offset: i16, octets: [u8; 4], label: Label) {
        self.load(Load::Word, R2, R7, offset);
        self.jump(JUMP_NOT_EQUAL, R2, 0, i32::from_ne_bytes(octets), label);
    }

    fn require_half(&mut self, offset: i16, octets: [u8; 2], label: Label) {
        self.load(Load::Half, R2, R7, offset);
        self.jump(JUMP_NOT_EQUAL, R2, 0, i32::from(u16::from_ne_bytes(octets)), label);
    }

    fn require_octet(&mut self, offset: i16, octet: u8, label: Label) {
        self.load(Load::Octet, R2, R7, offset);
        self.jump(JUMP_NOT_EQUAL, R2, 0, i32::from(octet), label);
    }

    /// Goes to `take` if one of the addresses is at `offset`.
    fn match_ipv4(&mut self, offset: i16, addresses: &[IpAddr], take: Label) {
        self.load(Load::Word, R2, R7, offset);
        for address in addresses {
            if let IpAddr::V4(address) = address {
                self.jump(JUMP_EQUAL, R2, 0, i32::from_ne_bytes(address.octets()), take);
            }
        }
    }

    fn match_ipv6(&mut self, offset: i16, addresses: &[IpAddr], take: Label) {
        for address in addresses {
            let IpAddr::V6(address) = address else { continue };
            let next = self.label();
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<4>();
            for (word, at) in words.iter().zip((offset..).step_by(4)) {
                self.require_word(at, *word, next);
            }
            self.jump(JUMP, R0, 0, 0, take);
            self.place(next);
        }
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let place = self.places[label.0].expect("every label is placed by `assemble`");
            self.instructions[at].offset =
                i16::try_from(place - at - 1).expect("the number of addresses bounds the length");
        }
        self.instructions
    }
}

/// The program for these addresses; `map` is the descriptor of the map from
/// queue to socket.
pub(super) fn assemble(addresses: &[IpAddr], hardware_address: [u8; 6], map: RawFd) -> Vec<Instruction> {
    let mut program = Assembler::default();
    let [take, pass] = [program.label(), program.label()];
    let [to_us, arp, ipv4, ipv6] = std::array::from_fn(|_| program.label());

    program.copy(R6, R1);
    program.load(Load::Word, R7, R6, DATA);
    program.load(Load::Word, R8, R6, DATA_END);
    program.require_len(14, pass);
    let [a, b, c, d, e, f] = hardware_address;
    program.load(Load::Octet, R2, R7, 0);
    // The group bit of the destination.
    program.jump(JUMP_SET, R2, 0, 1, to_us);
    program.require_word(0, [a, b, c, d], pass);
    program.require_half(4, [e, f], pass);
    program.place(to_us);
    program.load(Load::Half, R2, R7, 12);
    for (ethertype, label) in [([0x08, 0x00], ipv4), ([0x86, 0xdd], ipv6), ([0x08, 0x06], arp)] {
        program.jump(JUMP_EQUAL, R2, 0, i32::from(u16::from_ne_bytes(ethertype)), label);
    }
    program.jump(JUMP, R0, 0, 0, pass);

    program.place(ipv4);
    program.require_len(14 + 20, pass);
    program.match_ipv4(14 + 16, addresses, take);
    program.jump(JUMP, R0, 0, 0, pass);

    // Ethernet and IPv4, with addresses of 6 and 4 octets (RFC 826).
    program.place(arp);
    program.require_len(14 + 28, pass);
    program.require_word(14, [0x00, 0x01, 0x08, 0x00], pass);
    program.require_half(18, [6, 4], pass);
    program.match_ipv4(14 + 24, addresses, take);
    program.jump(JUMP, R0, 0, 0, pass);

    program.place(ipv6);
    program.require_len(14 + 40, pass);
    program.match_ipv6(14 + 24, addresses, take);
    // ICMPv6, type 135: a neighbour solicitation and its target. One behind an
    // extension header, which no common host sends, stays with the kernel.
    program.require_len(14 + 40 + 24, pass);
    program.require_octet(14 + 6, 58, pass);
    program.require_octet(14 + 40, 135, pass);
    program.match_ipv6(14 + 40 + 8, addresses, take);

    program.place(pass);
    program.set(R0, XDP_PASS);
    program.emit(EXIT, R0, 0, 0, 0);

    program.place(take);
    program.load(Load::Word, R2, R6, RX_QUEUE_INDEX);
    program.emit(LOAD_64, R1, PSEUDO_MAP, 0, map);
    program.emit(0, R0, 0, 0, 0);
    // What to do if the map has no socket for the queue.
    program.set(R3, XDP_PASS);
    program.emit(CALL, R0, 0, 0, REDIRECT_MAP);
    program.emit(EXIT, R0, 0, 0, 0);
    program.finish()
}
