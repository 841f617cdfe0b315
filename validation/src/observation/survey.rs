//! What the name servers of a zone say when each is asked itself, address by address.
//!
//! It is evidence for `crate::preflight` and never part of a judgement: no verdict rests on it. Record sets that several
//! servers hold alike are kept once. What may be kept of them is bounded, so that a survey is far shorter than the
//! longest report.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ServerAnswer, ServerOutcome};
use crate::base::octets::Octets;

/// What the name servers of the zone of a name say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The name whose CAA was asked.
    pub name: String,
    /// The name whose TXT was asked.
    pub challenge: String,
    /// The zone whose servers were asked; none if no zone was found, or none that is not a public suffix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What the servers of the zone above say of it; none if none of them could be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentView>,
    /// The name servers that the zone above or the resolver names, at most
    /// [`SURVEYED_SERVERS_MAX`](crate::base::limits::SURVEYED_SERVERS_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<SurveyedServer>,
    /// Record sets that answers name by their place here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SurveyedSet>,
    /// Servers and addresses that were left out, since there were more than are asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u16,
    /// The task's deadline came before every question was answered or given up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
}

fn is_zero(count: &u16) -> bool {
    *count == 0
}

fn is_none_whole(count: &u8) -> bool {
    *count == 0
}

impl Survey {
    /// Every address that was asked, with its server.
    pub fn asked(&self) -> impl Iterator<Item = (&SurveyedServer, &SurveyedAddress)> {
        self.servers.iter().flat_map(|server| server.addresses.iter().map(move |address| (server, address)))
    }

    /// The set of an answer.
    #[must_use]
    pub fn set_of(&self, answer: &SurveyAnswer) -> Option<&SurveyedSet> {
        self.sets.get(usize::from(answer.set?))
    }
}

/// A delegation as the servers of the zone above have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentView {
    /// The zone above.
    pub zone: String,
    /// The addresses of its servers that were asked.
    pub asked: Vec<IpAddr>,
    /// Whether one of them named servers of the zone.
    pub delegates: bool,
    /// The servers it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// RDATA of the DS records, at most [`KEYS_PER_ZONE_MAX`](crate::base::limits::KEYS_PER_ZONE_MAX); empty if there are
    /// none, and none if the question was not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ds: Option<Vec<Octets>>,
}

impl ParentView {
    /// Whether one of its servers answered.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.delegates || self.ds.is_some()
    }
}

/// One name server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyedServer {
    /// Its name.
    pub name: String,
    /// The zone above names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_parent: bool,
    /// The resolver's answer to NS of the zone names it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_resolver: bool,
    /// Addresses that the zone above gives with the delegation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub glue: Vec<IpAddr>,
    /// Addresses that the resolver gives; none if it gave neither addresses nor a denial for one of the two types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_up: Option<Vec<IpAddr>>,
    /// How many of the two types, A and AAAA, are whole in [`Self::looked_up`]: neither failed nor cut short.
    #[serde(default, skip_serializing_if = "is_none_whole")]
    pub types_whole: u8,
    /// Addresses that may not be connected to (req D17).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<IpAddr>,
    /// The others, at most [`SURVEYED_ADDRESSES_PER_SERVER_MAX`](crate::base::limits::SURVEYED_ADDRESSES_PER_SERVER_MAX),
    /// and what came of asking them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SurveyedAddress>,
}

/// What came of asking one address of a name server. A part is none if the question was not asked, or not waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyedAddress {
    /// The address.
    pub address: IpAddr,
    /// Which of several machines answered, by its own word (RFC 5001).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<Octets>,
    /// SOA of the zone over UDP with EDNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SurveyAnswer>,
    /// The same without EDNS, if with it nothing came that can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_edns: Option<SurveyAnswer>,
    /// The same over TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_tcp: Option<ServerOutcome>,
    /// The same over UDP with the letters of the name in mixed case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixed_case: Option<MixedCase>,
    /// NS of the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<SurveyAnswer>,
    /// CAA of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caa: Option<SurveyAnswer>,
    /// TXT of the challenge name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txt: Option<SurveyAnswer>,
    /// DNSKEY of the zone, if the zone above has DS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<SurveyAnswer>,
}

impl SurveyedAddress {
    /// An address of which nothing is known yet.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self {
            address,
            nsid: None,
            version: None,
            without_edns: None,
            over_tcp: None,
            mixed_case: None,
            servers: None,
            caa: None,
            txt: None,
            keys: None,
        }
    }

    /// The answer to SOA that counts: with EDNS, or without if only that gave one.
    #[must_use]
    pub fn soa(&self) -> Option<&SurveyAnswer> {
        let usable = |answer: &&SurveyAnswer| answer.answer.is_reply();
        self.without_edns.as_ref().filter(usable).or(self.version.as_ref())
    }

    /// Whether anything came back over UDP; none if it was not asked or not waited for.
    #[must_use]
    pub fn answers_udp(&self) -> Option<bool> {
        let parts = [&self.version, &self.without_edns, &self.caa, &self.txt, &self.servers];
        let mut asked = parts.into_iter().flatten().peekable();
        asked.peek()?;
        Some(asked.any(|part| !matches!(part.answer.outcome, ServerOutcome::Silent | ServerOutcome::Network(_))))
    }

    /// Whether anything came back over TCP; none if it was not asked or not waited for.
    #[must_use]
    pub fn answers_tcp(&self) -> Option<bool> {
        Some(!matches!(self.over_tcp.as_ref()?, ServerOutcome::Silent | ServerOutcome::Network(_)))
    }

    /// Whether it can be reached at all; none if that was not found out.
    #[must_use]
    pub fn is_reached(&self) -> Option<bool> {
        match (self.answers_udp(), self.answers_tcp()) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            // What was not asked could have been answered.
            _ => None,
        }
    }
}

/// One answer of a name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyAnswer {
    /// What came of the question.
    pub answer: ServerAnswer,
    /// It offers recursion (RA).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recursion: bool,
    /// It answered EDNS with EDNS (RFC 6891 §6.1.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edns: bool,
    /// The records of the type asked, or of an alias in their place, by their place in [`Survey::sets`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<u16>,
    /// Their TTL, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Serial of the SOA record, if that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// How long it may be remembered that something does not exist, seconds (RFC 2308 §5), if a SOA record came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_ttl: Option<u32>,
    /// Whether signatures came with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed: bool,
    /// When the last of them expired, if all had when the task began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signatures_expired: Option<Timestamp>,
}

/// What comes of a question whose name has letters in mixed case (`cases.md` D23).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixedCase {
    /// An answer with the name as it was sent.
    Copied,
    /// An answer with other case.
    NotCopied,
    /// No such answer, though the name in plain case has one.
    Unlike(ServerOutcome),
}

/// Records of one owner and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyedSet {
    /// Their owner.
    pub owner: String,
    /// Their type, by number.
    pub rtype: u16,
    /// How many there are.
    pub count: u32,
    /// Hexadecimal digest of them all in canonical form and order: sets that differ differ in it.
    pub digest: String,
    /// RDATA in canonical form; of a large set the first ones.
    pub records: Vec<Octets>,
}

impl SurveyedSet {
    /// Whether every record is here in full.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.records.len() == self.count as usize
    }
}
