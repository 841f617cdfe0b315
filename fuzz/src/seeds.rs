//! Inputs to begin with: real messages, and one of each kind of thing a target can do.

use crate::{
    certificate::{self, der},
    dns_reply::{self, ID, NAME},
    http_response,
    wire::{self, Record, rtype},
    zone::{Nsec3Style, Types, Zone},
};

/// A target, a name, and the octets.
pub type Seed = (&'static str, &'static str, Vec<u8>);

fn record(owner: &str, rtype: u16, rdata: &[u8]) -> Record {
    Record { owner: wire::name(owner), rtype, rdata: rdata.to_vec() }
}

fn signed(zone: &str, record: Record) -> Vec<Vec<u8>> {
    wire::signed(&wire::name(zone), &[record])
}

/// Flags, sections: a message about [`NAME`] in the zone `customer.example`.
fn message(rtype: u16, flags: u16, answer: &[Vec<u8>], authority: &[Vec<u8>]) -> Vec<u8> {
    let question = [&wire::name(NAME)[..], &rtype.to_be_bytes(), &[0, 1]].concat();
    wire::message(ID, flags, &question, answer, authority)
}

fn dns_replies() -> Vec<(&'static str, u8, Vec<u8>)> {
    const ZONE: &str = "customer.example";
    let soa = || signed(ZONE, record(ZONE, rtype::SOA, &wire::soa()));
    let caa = b"\x00\x05issueca.example; accounturi=https://ca.example/a/1";
    let zone = Zone::new(b"a".to_vec(), &[(b"aa".to_vec(), Types::of(&[rtype::A]))], false);
    let chain = zone.nsec3(Nsec3Style { salt: &[], iterations: 0, opt_out: 0 });
    // The hashes are another zone's; to a reader that is all the same.
    let moved = chain.into_iter().map(|mut record| {
        record.owner = [&record.owner[..33], &wire::name(ZONE)].concat();
        signed(ZONE, record)
    });
    let nsec3: Vec<Vec<u8>> = moved.flatten().chain(soa()).collect();
    let nsec = [&wire::name(ZONE)[..], &wire::bitmap(&[rtype::A, rtype::NSEC, rtype::RRSIG])].concat();
    let nodata: Vec<Vec<u8>> = signed(ZONE, record(NAME, rtype::NSEC, &nsec)).into_iter().chain(soa()).collect();
    let chain = [
        record(NAME, rtype::CNAME, &wire::name("x.customer.example")),
        record("customer.example", rtype::DNAME, &wire::name("other.example")),
        record("x.other.example", rtype::TXT, b"\x03abc\x01d"),
    ];
    let aliases: Vec<Vec<u8>> = chain.into_iter().flat_map(|record| signed(ZONE, record)).collect();
    vec![
        ("answer", 3, message(rtype::CAA, 0, &signed(ZONE, record(NAME, rtype::CAA, caa)), &[])),
        ("addresses", 0, message(rtype::A, 0, &[record(NAME, rtype::A, &[8, 8, 4, 4]).wire()], &[])),
        ("nodata_nsec", 3, message(rtype::CAA, 0, &[], &nodata)),
        ("nxdomain_nsec3", 3, message(rtype::CAA, 3, &[], &nsec3)),
        ("cname_dname_chain", 2, message(rtype::TXT, 0, &aliases, &[])),
        ("ds", 4, message(rtype::DS, 0, &signed(ZONE, record(NAME, rtype::DS, &wire::ds(&wire::name(NAME)))), &[])),
        ("dnskey", 5, message(rtype::DNSKEY, 0, &signed(NAME, record(NAME, rtype::DNSKEY, &wire::dnskey())), &[])),
        ("truncated", 2, message(rtype::TXT, 0x0200, &[], &[])),
        ("servfail_with_ede", 0, {
            let mut packet = message(rtype::A, 2, &[], &[]);
            packet[11] = 1;
            packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 11, 0, 15, 0, 7, 0, 6]);
            packet.extend_from_slice(b"bogus");
            packet
        }),
    ]
}

fn caa_set(choices: u8, records: &[&[u8]]) -> Vec<u8> {
    let records = records.iter().flat_map(|record| [&[record.len() as u8], *record].concat());
    [choices].into_iter().chain(records).collect()
}

/// What a text in base64 stands for (RFC 4648 §4).
fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextets: Vec<u32> = text.chars().filter_map(|c| ALPHABET.find(c)).map(|sextet| sextet as u32).collect();
    let octets = sextets.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, sextet| bits << 6 | sextet) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    });
    octets.collect()
}

/// All seeds.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, choice, packet) in dns_replies() {
        seeds.push(("dns_reply", name, [&[choice], packet.as_slice()].concat()));
        let length = (packet.len() as u16).to_be_bytes();
        seeds.push(("tcp_framing", name, [&[choice, 0, 7, 1, 30], &length[..], &packet].concat()));
    }
    let body = record(NAME, rtype::TXT, b"\x01a").wire();
    let head = [dns_reply::FRAMED | 2, 0x81, 0x80, 1, 0, 0];
    seeds.push(("dns_reply", "framed", [&head[..], &body].concat()));
    let head = [dns_reply::FRAMED | 2, 3, 0, 9, 200, 0x81, 0x80, 1, 0, 0, 0];
    seeds.push(("tcp_framing", "framed", [&head[..], &body].concat()));

    // Choices, shapes and types of names; mode, opt-out bits, mask: see `Zone::from_feed` and `present`.
    let zones: [(&str, &[u8]); 5] = [
        ("plain", &[3 << 3, 0, 1, 0x10, 2, 0x09, 4]),
        ("wildcard", &[3 << 3, 0x08, 3, 0x09, 1, 0x24, 2]),
        ("delegations", &[4 << 3, 0, 0x20, 4, 0x60, 1, 0x20, 0x05, 0x60]),
        ("empty_non_terminals", &[3 << 3, 2, 1, 0x22, 1, 0x25, 2]),
        ("root_opt_out", &[4 << 3 | 5, 0, 0x20, 4, 0x60, 1, 0x20, 0x09, 1]),
    ];
    let modes: [(&str, &[u8]); 4] = [
        ("nsec", &[0]),
        ("nsec3", &[1, 0]),
        ("part_nsec", &[6, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5b, 1]),
        ("part_all", &[0x36, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x33, 0xd5, 0]),
    ];
    let named =
        |zone: &'static str, mode: &str| -> &'static str { Box::leak(format!("{zone}_{mode}").into_boxed_str()) };
    for (zone, zone_octets) in zones {
        for (mode, mode_octets) in modes {
            seeds.push(("dnssec_denial", named(zone, mode), [zone_octets, mode_octets].concat()));
        }
    }

    let own = b"\x00\x05issueca.example; accounturi=https://ca.example/a/1; validationmethods=http-01,ca-tbr-19";
    let sets: [(&str, u8, &[&[u8]]); 6] = [
        ("own", 0x60, &[own]),
        ("wildcard", 0x10, &[b"\x00\x09issuewildca.example", b"\x00\x05issue;"]),
        ("critical", 0, &[b"\x80\x03tbsx", b"\x00\x05issueca.example"]),
        ("contacts", 3, &[b"\x80\x0ccontactemaila@b.example", b"\x80\x0ccontactphone+1 2", b"\x00\x05iodefmailto:a@b"]),
        ("other", 8, &[b"\x00\x05ISSUEother.example", b"\x00\x05issueca.example; x=1", b"\x00\x09issuemailca.example"]),
        ("unreadable", 4, &[b"\x00\x09issue", b"\x00", b"", b"\x01\x03a-b"]),
    ];
    seeds.extend(sets.map(|(name, choices, records)| ("caa_rdata", name, caa_set(choices, records))));
    let values: [(&str, &str); 9] = [
        ("empty", ""),
        ("none", " ; "),
        ("issuer", "\tca-1.example "),
        ("parameters", "ca.example; accounturi=https://ca.example/a/1; validationmethods=http-01,dns-01"),
        ("blanks", " a ; b = c ;\td=\t"),
        ("trailing_semicolon", "ca.example; a=b;"),
        ("trailing_dot", "ca.example."),
        ("no_equals", "ca.example; a"),
        ("hyphens", "a--b.c-; -d=e"),
    ];
    seeds.extend(values.map(|(name, value)| ("issue_value", name, value.as_bytes().to_vec())));

    let right = "ca.example; accounturi=https://ca.example/a/1";
    let persist: [(&str, u8, &[&str]); 7] = [
        ("right", 2, &[right]),
        ("two", 2, &["ca-2.example;accounturi=https://ca.example/a/1;persistUntil=1", right]),
        ("wildcard", 3, &["ca.example; accounturi=https://ca.example/a/1; Policy=WILDCARD"]),
        ("last_second", 2, &["ca.example; accounturi=https://ca.example/a/1; persistUntil=1800000000"]),
        ("expired", 4, &["ca.example; accounturi=https://ca.example/a/1; persistUntil=1800000000"]),
        ("others", 2, &["other.example; a=b", "ca.example; accounturi=x", "v=spf1 -all", ""]),
        (
            "malformed",
            2,
            &["CA.example; accounturi=", "ca.example.; a", "ca.example; policy=a; policy=b; persistUntil=-x"],
        ),
    ];
    for (name, choices, values) in persist {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        seeds.push(("persist", name, caa_set(choices, &values)));
    }
    let strings: [&[u8]; 2] = [b"\x0cca.example; \x21accounturi=https://ca.example/a/1", b"\x09cut"];
    seeds.push(("persist", "strings", caa_set(10, &strings)));

    let responses: [(&str, u8, &str); 10] = [
        ("length", 0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: a\r\nContent-Type: text/plain\r\n\r\nright"),
        ("until_close", 0, "HTTP/1.0 200\n\nright"),
        ("redirect", 0, "HTTP/1.1 302 Found\r\nLocation: http://b.example/a?b#c\r\nContent-Length: 0\r\n\r\n"),
        (
            "interim",
            0,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 No\r\n\r\n",
        ),
        ("no_http", 0, "SSH-2.0-OpenSSH_9.2\r\n"),
        ("two_lengths", http_response::FRAMED, "Content-Length: 5\r\nContent-Length: 6\r\n\r\nright"),
        ("gzip", http_response::FRAMED, "Content-Encoding: gzip\r\nTransfer-Encoding: gzip\r\n\r\n\x1f"),
        ("chunks", 0xc0, "3;x=y\r\nrig\r\n2\r\nht\r\n0\r\nT: v\r\n\r\n"),
        ("long_chunk", 0xe0, "2\r\nright\r\n"),
        ("moved_chunks", http_response::CHUNKED, "fffffffffffffff\r\nx"),
    ];
    for (name, choices, text) in responses {
        seeds.push(("http_response", name, [&[choices, 0, 7, 1, 30], text.as_bytes()].concat()));
    }
    let targets: [(&str, u8, &str); 12] = [
        ("absolute", 0, "http://b.example/a?b=c#d"),
        ("relative", 1, "../x/./y?z"),
        ("no_scheme", 2, "//b.example:443/"),
        ("query", 3, "?a=b"),
        ("user_info", 0, "http://user:pass@b.example/"),
        ("empty_user_info", 1, "https://:@b.example"),
        ("port", 0, "HTTPS://B.example:8443/"),
        ("scheme", 0, "javascript:alert(1)"),
        ("no_host", 1, "http:///x"),
        ("backslash", 0, "http:\\\\b.example\\@c.example"),
        ("address", 0, "http://0x7f.1/%0d%0a"),
        ("address_v6", 0, "http://[::ffff:7f00:1]:80/x"),
    ];
    for (name, base, location) in targets {
        seeds.push(("redirect", name, [&[base, 1], location.as_bytes()].concat()));
    }
    for line in include_str!("../../validation/tests/vectors/tls_alpn01.txt").lines().filter(|l| !l.starts_with('#')) {
        let (kind, text) = line.split_once(' ').expect("a kind and a certificate");
        let certificate = base64(text);
        if certificate.len() < 1024 {
            let name: &'static str = Box::leak(kind.to_lowercase().into_boxed_str());
            seeds.push(("certificate", name, [&[0], certificate.as_slice()].concat()));
        }
    }
    let extension = |oid: &[u8], value: &[u8]| der(0x30, &[der(6, oid), der(1, &[0xff]), der(4, value)].concat());
    let names = |names: &[Vec<u8>]| extension(&[0x55, 0x1d, 0x11], &der(0x30, &names.concat()));
    let dns = |name: &str| der(0x82, name.as_bytes());
    let extensions = [
        ("one_name", names(&[dns("www.customer.example")])),
        ("names", names(&[dns("*.CUSTOMER.example"), der(0x87, &[192, 0, 2, 1]), der(0x81, b"a@b.example")])),
        ("acme", extension(&[0x2b, 6, 1, 5, 5, 7, 1, 0x1f], &der(4, &[7; 32]))),
        ("twice", [names(&[]), names(&[dns("www.customer.example")])].concat()),
    ];
    for (name, extensions) in extensions {
        seeds.push(("certificate", name, [&[certificate::FRAMED], extensions.as_slice()].concat()));
    }

    // Plan, try, transmissions, entropy; then events: see `Driver::feed`.
    let right = [0_u8; 12];
    let tasks: [(&str, u8, &[u8]); 8] = [
        ("signed", 0o200, &right),
        ("signed_nsec3", 0o11, &[16; 12]),
        ("unsigned", 0o22, &right),
        ("http", 0o3, &[0, 0, 0, 0, 0, 0, 10, 13, 0, 0]),
        ("http_redirected", 0o74, b"\0\0\0\0\0\0\x0a\x0c\x26HTTP/1.1 302 Found\r\nLocation: http://b.a/\r\n\r\n\0\0\0"),
        ("damaged", 0o131, &[0, 0, 2, 0, 0, 0, 60, 1, 2, 1, 0, 0, 40, 255, 0, 0, 15, 200, 15, 200]),
        ("mixed_up", 0o45, &[0, 3, 0, 1, 3, 1, 0, 0, 5, 0, 1, 1, 4, 9, 9, 9, 9, 0, 0]),
        ("streams", 0o10, &[4, 0, 10, 6, 0, 4, 0, 10, 14, 8, 0, 9, 1, 7, 2, 0, 0]),
    ];
    for (name, plan, events) in tasks {
        seeds.push(("task", name, [&[plan, 100, 1, 3], events].concat()));
    }
    seeds
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_seed_runs_and_is_small() {
        for (target, name, octets) in super::all() {
            assert!(octets.len() <= 1024, "{target}/{name} has {} octets", octets.len());
            match target {
                "dns_reply" => crate::dns_reply::run(&octets),
                "tcp_framing" => crate::tcp_framing::run(&octets),
                "dnssec_denial" => crate::dnssec_denial::run(&octets),
                "caa_rdata" => crate::caa_rdata::run(&octets),
                "issue_value" => crate::issue_value::run(&octets),
                "persist" => crate::persist::run(&octets),
                "http_response" => crate::http_response::run(&octets),
                "redirect" => crate::redirect::run(&octets),
                "certificate" => crate::certificate::run(&octets),
                "task" => crate::task::run(&octets),
                other => panic!("no target {other}"),
            }
        }
    }
}
