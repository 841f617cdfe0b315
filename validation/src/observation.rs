//! `Observation`: what one perspective saw in one attempt. Evidence, never opinion.
//!
//! Text from the network is kept as [`Octets`], bounded, and escaped when shown. Times are microseconds
//! since the perspective began the task.

mod survey;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::survey::{MixedCase, ParentView, Survey, SurveyAnswer, SurveyedAddress, SurveyedServer, SurveyedSet};
pub use self::tls::{
    CertificateContent, CertificateDer, CertificateFacts, TlsFacts, TlsFailure, TlsHandshake, TlsObservation,
    TlsOutcome, TlsProbeFailure, TlsTry, TlsTryEnd, TlsVersion,
};
use crate::{base::octets::Octets, plan::HintKind};

/// What one perspective saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When it began, by the perspective's own clock.
    pub started: Timestamp,
    /// How long it took.
    pub elapsed_us: u64,
    /// For control, if the plan asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<ControlObservation>,
    /// The lookups that lead from the identifier to the name that control is shown for, if it takes any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub derivation: Vec<DnsLookup>,
    /// The levels of the CAA climb that were looked at, leaf first. Shorter than the plan's if a set was
    /// found with everything below it answered (req C9), or if the time ran out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caa: Vec<DnsLookup>,
    /// Lookups that explain a failure of control; never part of a judgement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<HintObservation>,
    /// The budget of the whole task, if it ran out (`cases.md` D14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetExhausted>,
    /// Who validated DNSSEC.
    #[serde(default)]
    pub dnssec: DnssecMode,
    /// Keys and delegations that the lookups' validations rest on (req B7).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// What the name servers of a zone say themselves, after a lookup failed; never part of a judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// What every name server of the zone says itself, if the plan asked for it; never part of a judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survey: Option<Box<Survey>>,
}

impl Observation {
    /// Every lookup that a judgement may rest on: all but the hints.
    pub fn lookups(&self) -> impl Iterator<Item = &DnsLookup> {
        let (hops, own) = match &self.control {
            Some(ControlObservation::Http(fetch)) => (fetch.hops.as_slice(), &[][..]),
            Some(ControlObservation::Tls(probe)) => (&[][..], probe.resolution.as_slice()),
            Some(control) => (&[][..], control.records()),
            None => (&[][..], &[][..]),
        };
        hops.iter().flat_map(|hop| &hop.resolution).chain(own).chain(&self.derivation).chain(&self.caa)
    }

    /// Whether something that a judgement may rest on could not be seen: a lookup without an answer that could be used,
    /// no connection, no TLS, no whole response, or no time left. An answer that shows nothing is none of these.
    #[must_use]
    pub fn has_failure(&self) -> bool {
        let probe = match &self.control {
            Some(ControlObservation::Http(fetch)) => matches!(fetch.outcome, HttpOutcome::Failed(_)),
            Some(ControlObservation::Tls(probe)) => matches!(probe.outcome, TlsOutcome::Failed(_)),
            Some(ControlObservation::Record(_) | ControlObservation::Climb(_)) | None => false,
        };
        probe || self.budget.is_some() || self.lookups().any(|lookup| matches!(lookup.outcome, DnsOutcome::Failed(_)))
    }
}

/// What the name servers of a zone say themselves about a question that our resolver could not answer, or not at
/// first. It explains; of it, only [`Diagnosis::reached`] is part of a judgement, that of a CAA lookup which failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The zone.
    pub zone: String,
    /// The name asked about.
    pub name: String,
    /// The type asked about.
    pub rtype: RecordType,
    /// Whether a name server of the zone, or of the zone above, replied to the perspective itself after the lookup
    /// had failed: then its own way out works (req C16).
    #[serde(default)]
    pub reached: bool,
    /// Its name servers, at most [`crate::base::limits::DIAGNOSED_SERVERS_MAX`].
    pub servers: Vec<ServerView>,
}

/// What one name server says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name.
    pub name: String,
    /// The address it was asked at; none if none was found, or none that may be connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What came of the question; none if it was not asked, or not waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ServerAnswer>,
    /// The same for A of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<ServerAnswer>,
    /// Serial of the zone's SOA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u32>,
    /// Which of several machines it is, by its own word (RFC 5001).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<Octets>,
    /// When the last signature over its answer expired, if all had when the task began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signatures_expired: Option<Timestamp>,
}

/// What came of one question to a name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAnswer {
    /// Over UDP.
    pub outcome: ServerOutcome,
    /// Over TCP, if that was tried because UDP gave nothing whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_tcp: Option<ServerOutcome>,
    /// Whether the last reply had AA set.
    #[serde(default)]
    pub authoritative: bool,
    /// Whether the last reply had a SOA record.
    #[serde(default)]
    pub soa: bool,
    /// From sending over UDP to the reply or to giving up.
    pub elapsed_us: u64,
}

impl ServerAnswer {
    /// What it came to in the end.
    #[must_use]
    pub fn last(&self) -> &ServerOutcome {
        self.over_tcp.as_ref().unwrap_or(&self.outcome)
    }

    /// Whether a reply of any kind came.
    #[must_use]
    pub fn is_reply(&self) -> bool {
        let reply = |outcome: &ServerOutcome| !matches!(outcome, ServerOutcome::Silent | ServerOutcome::Network(_));
        reply(&self.outcome) || self.over_tcp.as_ref().is_some_and(reply)
    }
}

/// How a name server answered over one transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerOutcome {
    /// Records, an alias among them.
    Records,
    /// No error and no records.
    Nodata,
    /// The name does not exist.
    Nxdomain,
    /// Name servers of this zone in place of an answer.
    Referral(String),
    /// Another code, as the name server sent it.
    Rcode(u16),
    /// TC was set.
    Truncated,
    /// It cannot be read.
    Unreadable,
    /// Nothing came.
    Silent,
    /// The packet or the connection was refused, or worse.
    Network(NetworkError),
}

/// Who validates DNSSEC at a perspective (req B1, B6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnssecMode {
    /// The perspective itself, from its trust anchors; every lookup has a [`Validation`].
    Local,
    /// Its resolver, which sits on the same host: a bogus answer comes as SERVFAIL.
    Resolver,
    /// Nobody. Not for a primary.
    #[default]
    None,
}

/// One link of the chain of trust: what was answered about a zone's keys or its delegation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The zone, or the name that might be one.
    pub name: String,
    /// DS or DNSKEY.
    pub rtype: RecordType,
    /// The reply as it came.
    pub message: Message,
}

/// A DNS message as it came; written in base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Message(pub Arc<[u8]>);

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} octets)", self.0.len())
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(|octets| Self(octets.into())).map_err(D::Error::custom)
    }
}

/// What a perspective's own DNSSEC validation of one lookup came to, and what it rests on (req B7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// The worst status of everything the reply claims: of each alias, and of the records or their denial.
    pub status: SecurityStatus,
    /// Key tag of the trust anchor the chain begins at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<u16>,
    /// Zones whose signatures were good, or that end the chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signers: Vec<String>,
    /// Where signing ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure: Option<InsecureProof>,
    /// What is wrong, if the status is bogus or indeterminate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<DnssecFault>,
    /// The first answer was bogus and the resolver was asked again with CD clear, so that it tries other
    /// servers (`cases.md` D34): what was wrong with the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_fault: Option<DnssecFault>,
    /// Links of [`Observation::links`] it rests on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<u16>,
    /// The reply itself, if one came and the proof is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
}

/// RFC 4035 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityStatus {
    /// Signed, with a chain from a trust anchor.
    Secure,
    /// The chain ends at a delegation for which the absence of DS is proven (req B8).
    Insecure,
    /// Could not be found out: a part of the chain was not answered.
    Indeterminate,
    /// Should be signed and is not, or not rightly.
    Bogus,
}

impl std::fmt::Display for SecurityStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Indeterminate => "indeterminate",
            Self::Bogus => "bogus",
        })
    }
}

/// Where the chain of trust ends, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsecureProof {
    /// The name without DS.
    pub name: String,
    /// The signed zone above it.
    pub parent: String,
    /// What proves it.
    pub by: InsecureBy,
}

/// What proves that a zone is not signed, or that it cannot be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InsecureBy {
    /// An NSEC at the delegation without DS.
    Nsec {
        /// Its owner.
        owner: String,
    },
    /// An NSEC3 that matches the delegation and has no DS.
    Nsec3 {
        /// Its owner.
        owner: String,
        /// The name whose hash it is.
        name: String,
    },
    /// An NSEC3 with opt-out that covers the name (RFC 5155 §6).
    OptOut {
        /// Begin of the span.
        owner: String,
        /// End of the span, the hash alone.
        next: String,
    },
    /// All DS are of algorithms or digests not known here (RFC 4035 §5.2). Never counts as Insecure for the
    /// lookup-failure clause (req B10).
    Unsupported {
        /// Algorithms of the DS records.
        algorithms: Vec<u8>,
        /// Kinds of digest.
        digests: Vec<u8>,
    },
}

/// What is wrong with an answer that should be signed. Types are in presentation form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnssecFault {
    /// The zone is signed and this set is not.
    NoSignature {
        /// Owner of the set.
        owner: String,
        /// Its type.
        rtype: String,
        /// The signed zone.
        zone: String,
    },
    /// The zone has no key with the tag and algorithm of the signature.
    NoSuchKey {
        /// Owner of the set.
        owner: String,
        /// Its type.
        rtype: String,
        /// The zone.
        zone: String,
        /// The tag.
        key_tag: u16,
    },
    /// The signature is over.
    Expired {
        /// Owner of the set.
        owner: String,
        /// Its type.
        rtype: String,
        /// The zone.
        zone: String,
        /// End of validity.
        at: Timestamp,
    },
    /// The signature has not begun.
    NotYetValid {
        /// Owner of the set.
        owner: String,
        /// Its type.
        rtype: String,
        /// The zone.
        zone: String,
        /// Begin of validity.
        at: Timestamp,
    },
    /// The signature does not fit the records, or its key cannot be used.
    BadSignature {
        /// Owner of the set.
        owner: String,
        /// Its type.
        rtype: String,
        /// The zone.
        zone: String,
        /// The key.
        key_tag: u16,
    },
    /// The parent has DS for a zone, none of whose keys fit (`cases.md` D35).
    DsMatchesNoKey {
        /// The zone.
        zone: String,
        /// Key tags of the DS records.
        ds: Vec<u16>,
        /// Key tags of the zone; none if it has no keys.
        keys: Vec<u16>,
    },
    /// Nothing signed shows that the name, or the type there, does not exist.
    DenialUnproven {
        /// The name.
        name: String,
        /// The type; none if the name itself was denied.
        rtype: Option<String>,
        /// The zone.
        zone: String,
    },
    /// The zone asks for more rounds of hashing than are done here (req B14).
    Nsec3Iterations {
        /// The zone.
        zone: String,
        /// Rounds.
        iterations: u16,
    },
    /// The signature is by a name that is no zone of the chain.
    SignerIsNoZone {
        /// Owner of the set.
        owner: String,
        /// Who signed.
        signer: String,
    },
    /// The reply does not hold what was read from it.
    NotInReply {
        /// Owner of the set.
        owner: String,
        /// Its type.
        rtype: String,
    },
    /// The reply, or a link of the chain, cannot be read.
    Unreadable {
        /// What was asked.
        name: String,
        /// Its type.
        rtype: String,
        /// Where it cannot be read.
        problem: String,
    },
    /// More signatures or hashes than a task is allowed (req B14).
    TooMuchWork,
    /// A link of the chain was not answered: the status stays unknown.
    LinkFailed {
        /// The zone, or the name that might be one.
        name: String,
        /// DS or DNSKEY.
        rtype: String,
        /// What became of the question.
        failure: Box<DnsFailure>,
    },
}

impl DnssecFault {
    /// The zone it lies in, if it names one.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        match self {
            Self::NoSignature { zone, .. }
            | Self::NoSuchKey { zone, .. }
            | Self::Expired { zone, .. }
            | Self::NotYetValid { zone, .. }
            | Self::BadSignature { zone, .. }
            | Self::DsMatchesNoKey { zone, .. }
            | Self::DenialUnproven { zone, .. }
            | Self::Nsec3Iterations { zone, .. } => Some(zone),
            Self::LinkFailed { name, .. } => Some(name),
            Self::SignerIsNoZone { .. } | Self::NotInReply { .. } | Self::Unreadable { .. } | Self::TooMuchWork => None,
        }
    }

    /// The owner of the set that is at fault, if it names one.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::NoSignature { owner, .. }
            | Self::NoSuchKey { owner, .. }
            | Self::Expired { owner, .. }
            | Self::NotYetValid { owner, .. }
            | Self::BadSignature { owner, .. } => Some(owner),
            Self::DenialUnproven { name, .. } => Some(name),
            Self::DsMatchesNoKey { .. }
            | Self::Nsec3Iterations { .. }
            | Self::SignerIsNoZone { .. }
            | Self::NotInReply { .. }
            | Self::Unreadable { .. }
            | Self::TooMuchWork
            | Self::LinkFailed { .. } => None,
        }
    }
}

/// The task's deadline came before everything was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetExhausted {
    /// The budget, milliseconds.
    pub budget_ms: u32,
    /// Lookups planned so far.
    pub lookups_planned: u32,
    /// Lookups answered within the budget.
    pub lookups_answered: u32,
    /// Median time of those that were answered.
    pub median_us: u64,
}

/// Evidence for control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlObservation {
    /// A fetch with its redirects.
    Http(HttpObservation),
    /// The lookup of a record.
    Record(DnsLookup),
    /// The levels of a CAA climb of its own, leaf first.
    Climb(Vec<DnsLookup>),
    /// A TLS handshake.
    Tls(TlsObservation),
}

impl ControlObservation {
    /// The lookups that are evidence themselves.
    #[must_use]
    pub fn records(&self) -> &[DnsLookup] {
        match self {
            Self::Record(lookup) => std::slice::from_ref(lookup),
            Self::Climb(levels) => levels,
            Self::Http(_) | Self::Tls(_) => &[],
        }
    }

    /// The addresses of servers that were connected to, in order; some perhaps twice.
    pub fn connected(&self) -> impl Iterator<Item = IpAddr> {
        let (hops, tries) = match self {
            Self::Http(fetch) => (fetch.hops.as_slice(), &[][..]),
            Self::Tls(probe) => (&[][..], probe.tries.as_slice()),
            Self::Record(_) | Self::Climb(_) => (&[][..], &[][..]),
        };
        let by_http = hops.iter().flat_map(|hop| &hop.tries).map(|connection| connection.address.ip());
        by_http.chain(tries.iter().map(|connection| connection.address.ip()))
    }
}

/// A hint lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintObservation {
    /// What it would show.
    pub kind: HintKind,
    /// The lookup.
    pub lookup: DnsLookup,
}

/// One question to the perspective's resolver, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsLookup {
    /// The name asked, without final dot.
    pub name: String,
    /// The type asked.
    pub rtype: RecordType,
    /// The resolver asked.
    pub resolver: SocketAddr,
    /// Over what the reply came, or the last try was made.
    pub transport: DnsTransport,
    /// Times it was sent over UDP.
    pub transmissions: u8,
    /// Why TCP was used, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_because: Option<TcpReason>,
    /// Packets on our socket that were not the reply: spoofed, stray or mangled (req B14).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ignored_replies: u16,
    /// From first sending to the end.
    pub elapsed_us: u64,
    /// Whether the resolver set AD: it validated every record of the reply (RFC 4035 §3.2.3).
    pub authenticated: bool,
    /// Extended errors (RFC 8914).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_errors: Vec<ExtendedError>,
    /// The perspective's own DNSSEC validation, if it makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Box<Validation>>,
    /// The lookup that failed before, if this one repeats it (req C16).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Box<Repeat>>,
    /// What became of it. A reply that was found bogus or indeterminate is a failure: none of its records
    /// are here.
    pub outcome: DnsOutcome,
}

impl DnsLookup {
    /// The octets of the addresses it found, if it asked for any.
    pub fn addresses(&self) -> impl Iterator<Item = &[u8]> {
        let set = match &self.outcome {
            DnsOutcome::Answer(set) if matches!(self.rtype, RecordType::A | RecordType::Aaaa) => Some(set),
            _ => None,
        };
        set.into_iter().flat_map(|set| &set.rdata).map(Octets::as_slice)
    }
}

/// That a lookup was repeated because it had failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// The failure before.
    pub first: DnsLookup,
    /// How long the repeat waited: longer than the resolver keeps failures.
    pub waited_us: u64,
    /// CNAME of the same name, which tells whether an alias leads elsewhere; none if it was not answered by the
    /// time of the repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<DnsLookup>,
}

fn is_zero(count: &u16) -> bool {
    *count == 0
}

/// An extended DNS error (RFC 8914 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedError {
    /// Its code.
    pub code: u16,
    /// Its text.
    #[serde(default, skip_serializing_if = "Octets::is_empty")]
    pub text: Octets,
}

/// A record type that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Text.
    Txt,
    /// Certification Authority Authorization.
    Caa,
    /// Name servers, asked for a diagnosis.
    Ns,
    /// Alias.
    Cname,
    /// Name of an address.
    Ptr,
    /// Mail hosts of a domain.
    Mx,
    /// Version of a zone, asked for a diagnosis.
    Soa,
    /// Delegation signer, a link of the chain of trust.
    Ds,
    /// Keys of a zone, a link of the chain of trust.
    Dnskey,
}

impl RecordType {
    /// Its number (RFC 1035 §3.2.2, RFC 3596 §2.1, RFC 8659 §4.1, RFC 4034 §2 and §5).
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Mx => 15,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Caa => 257,
            Self::Ds => 43,
            Self::Dnskey => 48,
        }
    }
}

impl std::fmt::Display for RecordType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Txt => "TXT",
            Self::Caa => "CAA",
            Self::Ns => "NS",
            Self::Cname => "CNAME",
            Self::Soa => "SOA",
            Self::Ptr => "PTR",
            Self::Mx => "MX",
            Self::Ds => "DS",
            Self::Dnskey => "DNSKEY",
        })
    }
}

/// What carried a DNS message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DnsTransport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

/// Why a query went to TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpReason {
    /// The reply had TC set.
    Truncated,
    /// The reply did not copy the case of the name (`cases.md` D23).
    CaseNotCopied,
    /// The reply could not be read to its end (`cases.md` D33c).
    Malformed,
    /// More stray packets came than a query tolerates.
    TooManyStrayReplies,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsOutcome {
    /// Records of the type asked.
    Answer(RecordSet),
    /// The name exists, the type does not (RFC 2308 §2.2).
    Nodata(Denial),
    /// The name does not exist (RFC 2308 §2.1).
    Nxdomain(Denial),
    /// No answer that could be used.
    Failed(DnsFailure),
}

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    /// The owner, which is the last alias target if there were aliases.
    pub owner: String,
    /// Lowest TTL of the chain and the set, seconds.
    pub ttl: u32,
    /// Aliases from the name asked to the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// RDATA of each record.
    pub rdata: Vec<Octets>,
}

/// An answer that says "nothing here".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Aliases that were followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Alias>,
    /// The SOA of the authority section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soa: Option<Soa>,
}

/// The SOA of a denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soa {
    /// The zone.
    pub zone: String,
    /// Its version.
    pub serial: u32,
}

/// One alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    /// Where it stands.
    pub owner: String,
    /// Where it points.
    pub target: String,
    /// Whether a DNAME made it (RFC 6672).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dname: bool,
}

/// Why a question got no answer that could be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsFailure {
    /// The resolver answered with this code: 2 is SERVFAIL, 5 REFUSED.
    Rcode(u16),
    /// Nothing came.
    Timeout,
    /// The resolver's host said that nobody listens there.
    ResolverUnreachable(NetworkError),
    /// TCP was needed and failed.
    Tcp(NetworkError),
    /// The reply could not be read.
    Malformed(String),
    /// Aliases come back to a name already visited; the chain so far.
    AliasLoop(Vec<Alias>),
    /// More than [`crate::base::limits::ALIAS_HOPS_MAX`] aliases.
    AliasChainTooLong,
    /// The reply says nothing about this name: neither records nor a denial with its SOA.
    IncompleteChain(String),
    /// The perspective's own validation found the reply bogus or indeterminate (req B5).
    Dnssec(DnssecFault),
    /// The task's deadline came first.
    DeadlineOfTask,
    /// Our own side could not ask: no descriptor, no port, no memory.
    Local(String),
}

/// What went wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkError {
    /// No reply to our SYN, or silence later.
    Timeout,
    /// RST in reply to our SYN, or an ICMP port unreachable.
    Refused,
    /// RST later.
    Reset,
    /// FIN before anything was said.
    ClosedEarly,
    /// No route, or an ICMP unreachable.
    Unreachable,
    /// Our own side: no descriptor, no port, no memory.
    Local,
    /// Anything else.
    Other,
}

/// A fetch with its redirects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpObservation {
    /// One for each URL visited.
    pub hops: Vec<HttpHop>,
    /// How it ended.
    pub outcome: HttpOutcome,
}

/// One URL visited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpHop {
    /// The URL.
    pub url: String,
    /// A and AAAA of its host; none if the host is an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolution: Vec<DnsLookup>,
    /// Addresses not connected to, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<UnusedAddress>,
    /// Addresses connected to, in order.
    pub tries: Vec<HttpTry>,
    /// TLS as it was spoken, if the URL is https and the handshake ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
    /// The head of the response, if one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseHead>,
}

/// An address not connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedAddress {
    /// The address.
    pub address: IpAddr,
    /// Why not.
    pub reason: UnusedReason,
}

/// Why an address was not connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnusedReason {
    /// It lies in this special-purpose block (req D17).
    Special(String),
    /// Another address answered first, or over https was connected to; that is final (`cases.md` D06).
    OtherAnswered,
    /// Two addresses of each family are tried at most; others were drawn.
    OtherDrawn,
    /// The fetch or probe ended before its turn, without an answer: the time ran out, or our own side failed.
    NoTurn,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpTry {
    /// The address and port of the URL.
    pub address: SocketAddr,
    /// From SYN to established; none if it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_us: Option<u64>,
    /// From SYN to the end.
    pub elapsed_us: u64,
    /// Octets received.
    pub received_bytes: u64,
    /// How it ended.
    pub end: TryEnd,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TryEnd {
    /// A response head came.
    Answered,
    /// It was never established.
    NotConnected(NetworkError),
    /// It was established, the request went out, and then this.
    NoResponse(NetworkError),
    /// It was established, and TLS failed; the fetch's outcome tells how, unless the time ran out.
    NoTls,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    /// Status code.
    pub status: u16,
    /// `Location`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Octets>,
    /// `Server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Octets>,
    /// `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Octets>,
    /// `Content-Encoding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<Octets>,
}

/// How a fetch ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpOutcome {
    /// A response that is no redirect to follow.
    Response {
        /// Status code.
        status: u16,
        /// The body, up to a bound.
        body: Octets,
        /// Whether there was more.
        truncated: bool,
    },
    /// No such response.
    Failed(HttpFailure),
}

/// Why a fetch got no response that could be judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpFailure {
    /// The host has no address; the hop's lookups tell.
    NoAddress,
    /// The host's addresses could not be looked up; the hop's lookups tell.
    LookupFailed,
    /// All addresses are forbidden.
    OnlySpecialAddresses,
    /// No address answered; the last try tells.
    NotAnswered,
    /// TLS failed.
    Tls(TlsFailure),
    /// A response began and broke off.
    BrokenOff(NetworkError),
    /// A response began and went on more slowly than
    /// [`PACE_OCTETS_PER_SECOND_MIN`](crate::base::limits::PACE_OCTETS_PER_SECOND_MIN) allows.
    TooSlow,
    /// What came is not HTTP, or too large.
    BadResponse {
        /// What is wrong.
        problem: String,
        /// First octets.
        first: Octets,
    },
    /// A redirect that may not be followed.
    RedirectRefused(RedirectRefusal),
    /// The eleventh redirect.
    TooManyRedirects,
    /// The task's deadline came first.
    DeadlineOfTask,
    /// Our own side failed: no descriptor, no port, no memory.
    Local(String),
}

/// A redirect that may not be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedirectRefusal {
    /// Which redirect, from 1.
    pub redirect: u8,
    /// Where it points.
    pub target: Octets,
    /// Why not.
    pub reason: RedirectReason,
}

/// Why a redirect may not be followed (req D16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedirectReason {
    /// Neither http nor https.
    Scheme(String),
    /// Neither 80 nor 443.
    Port(u16),
    /// User name or password in it.
    UserInfo,
    /// No URL, or too long.
    NotAUrl(String),
    /// The same URL over the same address twice in one chain.
    Loop,
}
