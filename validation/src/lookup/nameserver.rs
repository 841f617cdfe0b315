//! What replies of name servers say by themselves, whatever they were asked for.
//!
//! Shared by a diagnosis and a survey: whom a reply names, at which addresses, and what came of one question. What it
//! means is judged elsewhere.

use std::net::IpAddr;

use domain::{
    base::{Message, Rtype, iana::Class},
    rdata::{A, Aaaa},
};
use jiff::Timestamp;

use super::dnssec::set::{Rrset, Section, owner_of, read_sets, target_of, text_of};
use crate::{
    base::{
        address::AddressFilter,
        limits::{GLUE_PER_SERVER_MAX, NSID_BYTES_MAX},
        octets::Octets,
    },
    observation::{DnsFailure, DnsLookup, DnsOutcome, NetworkError, ServerAnswer, ServerOutcome, TcpReason},
};

/// Port of name servers.
pub(super) const PORT: u16 = 53;
const RCODE_NOERROR: u16 = 0;
const RCODE_NXDOMAIN: u16 = 3;
/// Octets of the five numbers at the end of SOA data, and of one (RFC 1035 §3.3.13).
const SOA_NUMBERS_BYTES: usize = 20;

/// Whether a name is a zone's, or lies below it.
pub(super) fn lies_in(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Addresses that a lookup found.
pub(super) fn addresses_in(lookup: &DnsLookup) -> impl Iterator<Item = IpAddr> {
    lookup.addresses().filter_map(|rdata| match rdata.len() {
        4 => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        _ => None,
    })
}

/// The first address of an answer that may be connected to.
pub(super) fn allowed(lookup: &DnsLookup, filter: &AddressFilter) -> Option<IpAddr> {
    addresses_in(lookup).find(|address| filter.forbids(*address).is_none())
}

/// The names of the name servers of `zone` in a section, at most `max`, and how many there are.
pub(super) fn servers_in(packet: &[u8], zone: &str, section: Section, max: usize) -> (Vec<String>, usize) {
    let (Ok(sets), Some(zone)) = (read_sets(packet), owner_of(zone)) else { return (Vec::new(), 0) };
    let set = sets.iter().find(|set| set.section == section && set.rtype == Rtype::NS && set.owner == zone);
    let names: Vec<String> =
        set.iter().flat_map(|set| &set.rdata).filter_map(|rdata| target_of(rdata)).map(|name| text_of(&name)).collect();
    let count = names.len();
    (names.into_iter().take(max).collect(), count)
}

/// Addresses of the additional section, for so many servers.
pub(super) fn glue(packet: &[u8], servers_max: usize) -> Vec<(String, IpAddr)> {
    let Some(Ok(additional)) = Message::from_slice(packet).ok().map(|message| message.additional()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let records = additional.flatten().filter(|record| record.class() == Class::IN);
    for record in records.take(GLUE_PER_SERVER_MAX * servers_max) {
        let owner = text_of(&record.owner());
        if let Ok(Some(a)) = record.to_record::<A>() {
            found.push((owner, IpAddr::V4(a.data().addr())));
        } else if let Ok(Some(aaaa)) = record.to_record::<Aaaa>() {
            found.push((owner, IpAddr::V6(aaaa.data().addr())));
        }
    }
    found
}

/// What a name server's reply says by itself.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// None if nothing came that can be read.
    pub(super) outcome: Option<ServerOutcome>,
    pub(super) authoritative: bool,
    /// RA.
    pub(super) recursion: bool,
    /// It has an OPT record.
    pub(super) edns: bool,
    pub(super) soa: bool,
    pub(super) serial: Option<u32>,
    /// RFC 2308 §5.
    pub(super) negative_ttl: Option<u32>,
    pub(super) nsid: Option<Octets>,
    pub(super) signatures_expired: Option<Timestamp>,
    /// Of answer and authority section.
    pub(super) sets: Vec<Rrset>,
}

impl Reading {
    pub(super) fn of(packet: &[u8], now: Timestamp) -> Self {
        let Ok(message) = Message::from_slice(packet) else { return Self::default() };
        let opt = message.opt();
        let nsid = opt.as_ref().and_then(|opt| opt.opt().nsid().map(|id| Octets::first(id.as_slice(), NSID_BYTES_MAX)));
        let base = Self {
            authoritative: message.header().aa(),
            recursion: message.header().ra(),
            edns: opt.is_some(),
            nsid: nsid.filter(|id| !id.is_empty()),
            ..Self::default()
        };
        let Ok(sets) = read_sets(packet) else { return Self { outcome: Some(ServerOutcome::Unreadable), ..base } };
        let soa = sets.iter().find(|set| set.rtype == Rtype::SOA);
        let answers: Vec<&Rrset> = sets.iter().filter(|set| set.section == Section::Answer).collect();
        let names = sets.iter().find(|set| set.section == Section::Authority && set.rtype == Rtype::NS);
        let outcome = match (message.opt_rcode().to_int(), answers.is_empty(), names) {
            (RCODE_NOERROR, false, _) => ServerOutcome::Records,
            (RCODE_NOERROR, true, Some(names)) if soa.is_none() => ServerOutcome::Referral(text_of(&names.owner)),
            (RCODE_NOERROR, true, _) => ServerOutcome::Nodata,
            (RCODE_NXDOMAIN, ..) => ServerOutcome::Nxdomain,
            (other, ..) => ServerOutcome::Rcode(other),
        };
        let said = if answers.is_empty() { sets.iter().collect() } else { answers };
        Self {
            outcome: Some(outcome),
            soa: soa.is_some(),
            serial: soa.filter(|set| set.section == Section::Answer).and_then(|set| soa_number(set, 0)),
            negative_ttl: soa.and_then(|set| Some(soa_number(set, 4)?.min(set.ttl))),
            signatures_expired: expired(&said, now),
            sets,
            ..base
        }
    }
}

/// One of the five numbers at the end of SOA data: the first is the serial, the last the minimum.
fn soa_number(set: &Rrset, index: usize) -> Option<u32> {
    let rdata = set.rdata.first()?;
    let numbers = rdata.get(rdata.len().checked_sub(SOA_NUMBERS_BYTES)?..)?;
    numbers.get(4 * index..)?.first_chunk::<4>().map(|octets| u32::from_be_bytes(*octets))
}

/// When the last signature over these sets expired, if all have.
fn expired(sets: &[&Rrset], now: Timestamp) -> Option<Timestamp> {
    // Seconds in serial arithmetic (RFC 4034 §3.1.5).
    let behind = |expiration: u32| i64::from((now.as_second() as u32).wrapping_sub(expiration) as i32);
    let signatures = sets.iter().flat_map(|set| &set.signatures);
    let nearest = signatures.map(|signature| behind(signature.expiration)).min()?;
    (nearest > 0).then(|| Timestamp::from_second(now.as_second() - nearest).ok()).flatten()
}

/// What came of a question in the end; none if it was not asked or not waited for.
pub(super) fn outcome(lookup: &DnsLookup, reading: &Reading) -> Option<ServerOutcome> {
    let failure = match &lookup.outcome {
        DnsOutcome::Failed(failure) => Some(failure),
        DnsOutcome::Answer(_) | DnsOutcome::Nodata(_) | DnsOutcome::Nxdomain(_) => None,
    };
    match (&reading.outcome, failure) {
        (Some(outcome), _) => Some(outcome.clone()),
        (None, Some(DnsFailure::Timeout | DnsFailure::Tcp(NetworkError::Timeout))) => Some(ServerOutcome::Silent),
        (None, Some(DnsFailure::Tcp(NetworkError::Local) | DnsFailure::ResolverUnreachable(NetworkError::Local))) => {
            None
        }
        (None, Some(DnsFailure::Tcp(error) | DnsFailure::ResolverUnreachable(error))) => {
            Some(ServerOutcome::Network(*error))
        }
        (None, Some(DnsFailure::Malformed(_))) => Some(ServerOutcome::Unreadable),
        (None, _) => None,
    }
}

/// What came of a question over UDP and, if it was needed, over TCP.
pub(super) fn answer(lookup: &DnsLookup, reading: &Reading) -> Option<ServerAnswer> {
    let last = outcome(lookup, reading);
    let (outcome, over_tcp) = match lookup.tcp_because {
        None => (last?, None),
        Some(TcpReason::Truncated) => (ServerOutcome::Truncated, last),
        Some(TcpReason::CaseNotCopied | TcpReason::Malformed | TcpReason::TooManyStrayReplies) => {
            (ServerOutcome::Unreadable, last)
        }
    };
    let (authoritative, soa) = (reading.authoritative, reading.soa);
    Some(ServerAnswer { outcome, over_tcp, authoritative, soa, elapsed_us: lookup.elapsed_us })
}
