//! The classic BPF program that picks our frames for AF_PACKET. It means the
//! same as `program.rs`, which says what is taken and why.
//!
//! A load behind the end of a frame ends the program with 0, so lengths need
//! no comparison. Each section ends with a return, and offsets of jumps, which
//! have eight bits, never leave a section; only the unconditional ones between
//! sections, which have 32, do.

use std::net::IpAddr;

use libc::sock_filter;

/// Take it whole.
const TAKE: u32 = u32::MAX;
const DROP: u32 = 0;

// BPF_LD with BPF_ABS, by size; BPF_JMP with BPF_K; BPF_RET with BPF_K.
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_OCTET: u16 = 0x30;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;
/// Not zero if the kernel took a VLAN tag off the frame.
const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn statement(code: u16, k: u32) -> sock_filter {
    jump(code, k, 0, 0)
}

/// Drops the frame unless what is loaded is `value`.
fn require(load: u16, offset: u32, value: u32) -> [sock_filter; 3] {
    [statement(load, offset), jump(JUMP_EQUAL, value, 1, 0), statement(RETURN, DROP)]
}

/// Goes through `section`, which returns, if the ethertype is this one. It was
/// loaded before, and stays loaded if the section is skipped.
fn section(ethertype: u32, section: &[sock_filter]) -> Vec<sock_filter> {
    let mut all = vec![jump(JUMP_EQUAL, ethertype, 1, 0), statement(JUMP, section.len() as u32)];
    all.extend(section);
    all
}

fn match_ipv4(offset: u32, addresses: &[IpAddr]) -> Vec<sock_filter> {
    let mut all = vec![statement(LOAD_WORD, offset)];
    for address in addresses {
        if let IpAddr::V4(address) = address {
            all.extend([jump(JUMP_EQUAL, u32::from(*address), 0, 1), statement(RETURN, TAKE)]);
        }
    }
    all
}

fn match_ipv6(offset: u32, addresses: &[IpAddr]) -> Vec<sock_filter> {
    let mut all = Vec::new();
    for address in addresses {
        let IpAddr::V6(address) = address else { continue };
        let octets = address.octets();
        let (words, _) = octets.as_chunks::<4>();
        for (i, word) in (0u8..).zip(words) {
            // To the next address: behind the other words and the return.
            let next = 7 - 2 * i;
            all.push(statement(LOAD_WORD, offset + 4 * u32::from(i)));
            all.push(jump(JUMP_EQUAL, u32::from_be_bytes(*word), 0, next));
        }
        all.push(statement(RETURN, TAKE));
    }
    all
}

/// The program for these addresses.
pub(super) fn assemble(addresses: &[IpAddr], hardware_address: [u8; 6]) -> Vec<sock_filter> {
    let end = [statement(RETURN, DROP)];
    let [a, b, c, d, e, f] = hardware_address;
    let to_us = [
        require(LOAD_WORD, 0, u32::from_be_bytes([a, b, c, d])),
        require(LOAD_HALF, 4, u32::from_be_bytes([0, 0, e, f])),
    ];
    let to_us = to_us.as_flattened();
    let ipv4 = [match_ipv4(14 + 16, addresses), end.to_vec()].concat();
    let arp = [
        require(LOAD_WORD, 14, 0x0001_0800).to_vec(),
        require(LOAD_HALF, 18, 0x0604).to_vec(),
        match_ipv4(14 + 24, addresses),
        end.to_vec(),
    ]
    .concat();
    let ipv6 = [
        match_ipv6(14 + 24, addresses),
        require(LOAD_OCTET, 14 + 6, 58).to_vec(),
        require(LOAD_OCTET, 14 + 40, 135).to_vec(),
        match_ipv6(14 + 40 + 8, addresses),
        end.to_vec(),
    ]
    .concat();
    [
        require(LOAD_WORD, VLAN_TAG_PRESENT, 0).to_vec(),
        vec![statement(LOAD_OCTET, 0), jump(JUMP_SET, 1, to_us.len() as u8, 0)],
        to_us.to_vec(),
        vec![statement(LOAD_HALF, 12)],
        section(0x0800, &ipv4),
        section(0x86dd, &ipv6),
        section(0x0806, &arp),
        end.to_vec(),
    ]
    .concat()
}
