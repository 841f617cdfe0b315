//! Arbitrary octets as the reply to a query.
//!
//! Invariants: whatever is kept is bounded and stood in the packet; the two readers, for evidence and for
//! DNSSEC, see the same records at the same owner.

use parallax_validation::{
    base::limits::{
        ALIAS_HOPS_MAX, EDE_MAX, EDE_TEXT_BYTES_MAX, NAME_OCTETS_MAX, SIGNATURES_PER_SET_MAX, SIGNED_SETS_MAX,
    },
    lookup::{
        dns::message::{Match, Question, match_reply, read_reply},
        dnssec::set::{Rrset, Section, owner_of, read_sets},
    },
    observation::{Alias, DnsFailure, DnsOutcome, RecordSet, RecordType},
};

use crate::feed::Feed;

/// The types that are asked for.
pub const TYPES: [RecordType; 6] =
    [RecordType::A, RecordType::Aaaa, RecordType::Txt, RecordType::Caa, RecordType::Ds, RecordType::Dnskey];
/// The name that is asked for.
pub const NAME: &str = "www.customer.example";
/// The id that is asked with.
pub const ID: u16 = 0x1234;
/// In the first octet: header and question come right, and what follows is flags, counts and records.
pub const FRAMED: u8 = 0x80;
/// Text of a name can quadruple when it is escaped.
const NAME_TEXT_MAX: usize = 4 * NAME_OCTETS_MAX + 8;

/// The packet that an input stands for, and the question.
fn packet_of(data: &[u8]) -> (Vec<u8>, RecordType, Question, Vec<u8>) {
    let mut feed = Feed(data);
    let choices = feed.octet();
    let rtype = TYPES[usize::from(choices & 0x7f) % TYPES.len()];
    let question = Question::new(NAME, rtype).expect("a good name");
    let sent = question.section().to_vec();
    let packet = if choices & FRAMED != 0 {
        let flags = 0x8000 | feed.pair();
        let counts = [0, 1, 0, feed.octet() & 31, 0, feed.octet() & 31, 0, feed.octet() & 7];
        [&ID.to_be_bytes()[..], &flags.to_be_bytes(), &counts, &sent, feed.0].concat()
    } else {
        feed.0.to_vec()
    };
    (packet, rtype, question, sent)
}

fn stands_in(packet: &[u8], octets: &[u8]) -> bool {
    octets.is_empty() || packet.windows(octets.len()).any(|window| window == octets)
}

fn check_aliases(aliases: &[Alias]) {
    assert!(aliases.len() <= ALIAS_HOPS_MAX + 1);
    assert!(aliases.iter().all(|alias| alias.owner.len() <= NAME_TEXT_MAX && alias.target.len() <= NAME_TEXT_MAX));
    let links = aliases.windows(2).all(|pair| pair[0].target == pair[1].owner);
    assert!(links && aliases.first().is_none_or(|first| first.owner == NAME), "a chain with gaps: {aliases:?}");
}

fn check_answer(packet: &[u8], rtype: RecordType, answer: &RecordSet, sets: &Result<Vec<Rrset>, String>) {
    assert!(!answer.rdata.is_empty() && answer.owner.len() <= NAME_TEXT_MAX);
    let octets: usize = answer.rdata.iter().map(|rdata| rdata.0.len()).sum();
    assert!(octets <= packet.len(), "{octets} octets of {}", packet.len());
    assert!(answer.rdata.iter().all(|rdata| stands_in(packet, &rdata.0)), "made up: {answer:?}");
    let last = answer.aliases.last().map_or(NAME, |alias| alias.target.as_str());
    assert_eq!(answer.owner, last);
    // A set beyond the bound is not read for DNSSEC.
    let Ok(sets) = sets else { return };
    if sets.len() == SIGNED_SETS_MAX {
        return;
    }
    let owner = owner_of(&answer.owner).expect("a name");
    let same =
        |set: &&Rrset| set.section == Section::Answer && set.rtype.to_int() == rtype.number() && set.owner == owner;
    let set = sets.iter().find(same).expect("the other reader has it too");
    let mut rdata: Vec<&[u8]> = answer.rdata.iter().map(|rdata| rdata.as_slice()).collect();
    rdata.sort_unstable();
    rdata.dedup();
    assert!(rdata.iter().copied().eq(set.rdata.iter().map(Vec::as_slice)), "{rdata:?} and {:?}", set.rdata);
}

fn check_sets(packet: &[u8], sets: &[Rrset]) {
    assert!(sets.len() <= SIGNED_SETS_MAX);
    for (at, set) in sets.iter().enumerate() {
        assert!(!set.rdata.is_empty() && set.rdata.windows(2).all(|pair| pair[0] < pair[1]), "no canonical order");
        assert!(set.signatures.len() <= SIGNATURES_PER_SET_MAX);
        let twice = sets[..at].iter().any(|s| s.section == set.section && s.rtype == set.rtype && s.owner == set.owner);
        assert!(!twice, "a set in two parts");
        // Other types have names in their data, which may be compressed.
        if TYPES.iter().any(|rtype| rtype.number() == set.rtype.to_int()) {
            assert!(set.rdata.iter().all(|rdata| stands_in(packet, rdata)), "made up: {set:?}");
        }
        assert!(set.signatures.iter().all(|signature| stands_in(packet, &signature.signature)));
    }
}

/// Reads a packet in every way.
pub fn run(data: &[u8]) {
    let (packet, rtype, question, sent) = packet_of(data);
    let matched = match_reply(&packet, ID, &sent);
    if packet.len() < 12 + sent.len() || packet[..2] != ID.to_be_bytes() {
        assert_eq!(matched, Match::Stray);
    }
    let sets = read_sets(&packet);
    match &sets {
        Ok(sets) => check_sets(&packet, sets),
        Err(problem) => assert!(problem.len() < 200, "{problem}"),
    }
    let reply = match read_reply(&packet, &question) {
        Ok(reply) => reply,
        Err(problem) => return assert!(problem.len() < 200, "{problem}"),
    };
    assert!(reply.extended_errors.len() <= EDE_MAX);
    for error in &reply.extended_errors {
        assert!(error.text.0.len() <= EDE_TEXT_BYTES_MAX && stands_in(&packet, &error.text.0));
    }
    match &reply.outcome {
        DnsOutcome::Answer(answer) => {
            check_aliases(&answer.aliases);
            check_answer(&packet, rtype, answer, &sets);
        }
        DnsOutcome::Nodata(denial) | DnsOutcome::Nxdomain(denial) => {
            check_aliases(&denial.aliases);
            let nxdomain = matches!(reply.outcome, DnsOutcome::Nxdomain(_));
            assert!(nxdomain || denial.soa.is_some(), "silence is taken for a denial");
        }
        DnsOutcome::Failed(DnsFailure::AliasLoop(aliases)) => check_aliases(aliases),
        DnsOutcome::Failed(_) => {}
    }
}
