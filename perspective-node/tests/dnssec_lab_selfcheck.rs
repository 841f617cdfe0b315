//! Checks the laboratory of signed zones against Unbound.

mod dnssec_lab;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use dnssec_lab::{Case, Expect, Kind, Lab, Reply, ask};
use parallax_validation::observation::RecordType;

const CNAME: u16 = 5;
const SOA: u16 = 6;
const DNAME: u16 = 39;
const RRSIG: u16 = 46;
const NSEC: u16 = 47;
const NSEC3: u16 = 50;

/// What a validating resolver's reply means. Unbound tells bogus from unreachable by its extended errors.
fn status(reply: &Reply) -> Expect {
    // RFC 8914 §4: what has to do with DNSSEC, without 3 to 5 (stale, forged, indeterminate).
    let dnssec = reply.extended_errors.iter().any(|code| [1, 2, 6, 7, 8, 9, 10, 11, 12].contains(code));
    match (reply.rcode, reply.authenticated) {
        (0 | 3, true) => Expect::Secure,
        (0 | 3, false) => Expect::Insecure,
        (2, _) if dnssec => Expect::Bogus,
        _ => Expect::Failed,
    }
}

fn kind(reply: &Reply, rtype: RecordType) -> Kind {
    match reply.rcode {
        0 if !reply.rdata(rtype.number()).is_empty() => Kind::Answer,
        0 if reply.authority.iter().any(|record| record.rtype == SOA) => Kind::Nodata,
        3 => Kind::Nxdomain,
        _ => Kind::Nothing,
    }
}

/// Does `check` for each item in many threads, as some replies take seconds, and joins what it finds wrong.
fn check_all<T: Sync>(items: &[T], check: impl Fn(&T) -> Option<String> + Sync) -> String {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            let mut found = String::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                found.extend(check(item));
            }
            found
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that ends")).collect()
    })
}

/// A line of the table of what is wrong.
fn line(case: &Case, wrong: &str, reply: &Reply) -> Option<String> {
    let Reply { rcode, authenticated, extended_errors, .. } = reply;
    Some(format!("{case}: {wrong}; rcode {rcode}, AD {authenticated}, extended errors {extended_errors:?}\n"))
}

fn no_reply(case: &Case) -> Option<String> {
    Some(format!("{case}: no reply\n"))
}

#[test]
fn unbound_judges_each_case_as_it_says() {
    let began = Instant::now();
    let Some(lab) = dnssec_lab::inside("unbound_judges_each_case_as_it_says") else { return };
    println!("started after {:?}", began.elapsed());
    let cases = lab.cases();
    let wrong = check_all(&cases, |case| {
        let Some(reply) = ask(lab.validating(), &case.name, case.rtype) else { return no_reply(case) };
        let seen = status(&reply);
        if seen == case.unbound {
            return None;
        }
        let log = lab.log("validating");
        let why = log.lines().find(|line| line.contains(&format!("<{}. ", case.name))).unwrap_or_default();
        line(case, &format!("{:?} expected, {seen:?} seen; {why}", case.unbound), &reply)
    });
    println!("{} cases after {:?}", cases.len(), began.elapsed());
    assert!(wrong.is_empty(), "Unbound differs:\n{wrong}");
}

#[test]
fn the_plain_resolver_passes_on_answers_signatures_and_denials() {
    let Some(lab) = dnssec_lab::inside("the_plain_resolver_passes_on_answers_signatures_and_denials") else { return };
    let wrong = check_all(&lab.cases(), |case| {
        let Some(reply) = ask(lab.plain(), &case.name, case.rtype) else { return no_reply(case) };
        let seen = kind(&reply, case.rtype);
        if seen != case.kind || reply.authenticated {
            return line(case, &format!("{:?} expected, {seen:?} seen", case.kind), &reply);
        }
        if case.expect != Expect::Secure {
            return None;
        }
        // A CNAME that a DNAME makes is not signed (RFC 6672 §5.3.1).
        let dname = reply.answers.iter().any(|record| record.rtype == DNAME);
        let unsigned = reply.answers.iter().find(|record| {
            let signed = |other: &dnssec_lab::Record| {
                other.rtype == RRSIG
                    && other.owner == record.owner
                    && other.rdata.starts_with(&record.rtype.to_be_bytes())
            };
            record.rtype != RRSIG && !(dname && record.rtype == CNAME) && !reply.answers.iter().any(signed)
        });
        let proof = case.kind == Kind::Answer || reply.authority.iter().any(|r| [NSEC, NSEC3].contains(&r.rtype));
        if unsigned.is_none() && proof {
            return None;
        }
        line(case, &format!("not signed: {unsigned:?}, proof of denial: {proof}"), &reply)
    });
    assert!(wrong.is_empty(), "the plain resolver differs:\n{wrong}");
}

#[test]
fn the_caa_cases_are_as_they_say() {
    let Some(lab) = dnssec_lab::inside("the_caa_cases_are_as_they_say") else { return };
    let wrong = check_all(&lab.caa_cases(), |case| {
        let wildcard = case.name.starts_with("*.");
        let (permitted, why) = climb(lab, case.name.trim_start_matches("*."), wildcard);
        let line = || format!("{} ({}): {} expected; {why}\n", case.name, case.note, case.permitted);
        (permitted != case.permitted).then(line)
    });
    assert!(wrong.is_empty(), "CAA differs:\n{wrong}");
}

/// RFC 8659 §3 and §4 in brief, for the issuer `ca.example`; strict about failures.
fn climb(lab: &Lab, name: &str, wildcard: bool) -> (bool, String) {
    let mut here = Some(name);
    while let Some(name) = here {
        let Some(reply) = ask(lab.validating(), name, RecordType::Caa) else {
            return (false, format!("no reply at {name}"));
        };
        if ![0, 3].contains(&reply.rcode) {
            return (false, format!("rcode {} at {name}", reply.rcode));
        }
        let set = reply.rdata(RecordType::Caa.number());
        if !set.is_empty() {
            return (permits(&set, wildcard), format!("{} records at {name}", set.len()));
        }
        here = name.split_once('.').map(|(_, parent)| parent);
    }
    (true, "no set".to_owned())
}

fn permits(set: &[&[u8]], wildcard: bool) -> bool {
    let records: Vec<_> = set
        .iter()
        .map(|rdata| {
            let (tag, value) = rdata[2..].split_at(rdata[1].into());
            (rdata[0], tag.to_ascii_lowercase(), value)
        })
        .collect();
    if records
        .iter()
        .any(|(flags, tag, _)| flags & 0x81 != 0 && ![&b"issue"[..], b"issuewild", b"iodef"].contains(&&**tag))
    {
        return false;
    }
    let has = |wanted: &[u8]| records.iter().any(|(_, tag, _)| tag == wanted);
    let property: &[u8] = if wildcard && has(b"issuewild") { b"issuewild" } else { b"issue" };
    let ours = |value: &[u8]| value.eq_ignore_ascii_case(b"ca.example");
    !has(property) || records.iter().any(|(_, tag, value)| tag == property && ours(value))
}

#[test]
fn the_servers_that_are_dead_or_late_are_so() {
    let Some(lab) = dnssec_lab::inside("the_servers_that_are_dead_or_late_are_so") else { return };
    let direct =
        |server: std::net::IpAddr, name: &str| ask((server, 53).into(), name, RecordType::Txt).expect("a reply");
    assert_eq!(direct(dnssec_lab::CUSTOMER, "_acme-challenge.servfail.example").rcode, 2);
    assert_eq!(direct(dnssec_lab::CUSTOMER, "_acme-challenge.refused.example").rcode, 5);
    let name = "_acme-challenge.stale.example";
    let expiry = |server| {
        let reply = direct(server, name);
        let rdata = reply.rdata(RRSIG)[0].to_vec();
        u32::from_be_bytes(rdata[8..12].try_into().expect("four octets"))
    };
    let now = jiff::Timestamp::now().as_second() as u32;
    assert!(expiry(dnssec_lab::STALE) < now && expiry(dnssec_lab::CUSTOMER) > now);
    assert_eq!(expiry(dnssec_lab::CUSTOMER), expiry(dnssec_lab::CUSTOMER_TWO));
    assert!(lab.root_anchor().starts_with(". IN DS "), "{}", lab.root_anchor());
}
