//! One address of a name server, and the questions it gets.
//!
//! First SOA of the zone, over UDP and over TCP. Only who answers it with records is asked the rest: NS of the zone, CAA
//! of the name, TXT of the challenge name, DNSKEY, and SOA once more with letters in mixed case. Who does not answer over
//! UDP with EDNS is asked without it. So a server that is dead, or that refuses, gets two or three questions.

use std::net::IpAddr;

use super::{Form, is_nothing, kept::Kept};
use crate::{
    lookup::nameserver::{Reading, answer, outcome},
    observation::{DnsLookup, MixedCase, RecordType, ServerOutcome, SurveyedAddress, TcpReason},
};

/// RFC 1035 §4.1.1 and RFC 6891 §9: what servers that do not know EDNS answer.
const RCODE_FORMERR: u16 = 1;
const RCODE_NOTIMP: u16 = 4;
const RCODE_BADVERS: u16 = 16;

/// A question to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lookup) enum What {
    /// SOA of the zone.
    Version,
    /// The same over TCP.
    Stream,
    /// The same without EDNS.
    WithoutEdns,
    /// The same in mixed case.
    MixedCase,
    /// NS of the zone.
    Servers,
    /// CAA of the name.
    Caa,
    /// TXT of the challenge name.
    Txt,
    /// DNSKEY of the zone.
    Keys,
}

/// What every address is asked first.
pub(super) const FIRST: [What; 2] = [What::Version, What::Stream];
/// What one is asked that answers.
const FURTHER: [What; 5] = [What::MixedCase, What::Servers, What::Caa, What::Txt, What::Keys];

impl What {
    pub(super) fn rtype(self) -> RecordType {
        match self {
            Self::Version | Self::Stream | Self::WithoutEdns | Self::MixedCase => RecordType::Soa,
            Self::Servers => RecordType::Ns,
            Self::Caa => RecordType::Caa,
            Self::Txt => RecordType::Txt,
            Self::Keys => RecordType::Dnskey,
        }
    }

    /// How it is put to a server that speaks EDNS or not.
    pub(super) fn form(self, edns: bool) -> Form {
        match self {
            Self::Stream => Form::Stream,
            Self::MixedCase => Form::MixedCase,
            Self::WithoutEdns => Form::WithoutEdns,
            _ if edns => Form::Usual,
            _ => Form::WithoutEdns,
        }
    }

    pub(super) fn may_use_tcp(self) -> bool {
        !matches!(self, Self::Version | Self::WithoutEdns | Self::MixedCase)
    }
}

/// An address that is being asked.
#[derive(Debug)]
pub(super) struct Target {
    /// Whose it is.
    pub(super) server: usize,
    /// Whether questions go out with EDNS.
    pub(super) speaks_edns: bool,
    pub(super) seen: SurveyedAddress,
}

impl Target {
    pub(super) fn new(server: usize, address: IpAddr) -> Self {
        Self { server, speaks_edns: true, seen: SurveyedAddress::new(address) }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.seen.address
    }

    /// A question has ended. Gives those that follow from it.
    pub(super) fn handle(
        &mut self,
        what: What,
        lookup: &DnsLookup,
        reading: Reading,
        kept: &mut Kept,
    ) -> &'static [What] {
        self.seen.nsid = self.seen.nsid.take().or_else(|| reading.nsid.clone());
        let seen = &mut self.seen;
        match what {
            What::Stream => seen.over_tcp = outcome(lookup, &reading),
            What::MixedCase => seen.mixed_case = mixed_case(lookup, &reading),
            What::Version => {
                seen.version = kept.answer(what.rtype(), lookup, reading);
                return self.after_version();
            }
            What::WithoutEdns => {
                seen.without_edns = kept.answer(what.rtype(), lookup, reading);
                let answers = seen.without_edns.as_ref().map(|answer| &answer.answer.outcome);
                if answers == Some(&ServerOutcome::Records) {
                    self.speaks_edns = false;
                    // Whether it copies case was to be seen by a question that it answers.
                    return FURTHER.get(1..).unwrap_or_default();
                }
            }
            What::Servers => seen.servers = kept.answer(what.rtype(), lookup, reading),
            What::Caa => seen.caa = kept.answer(what.rtype(), lookup, reading),
            What::Txt => seen.txt = kept.answer(what.rtype(), lookup, reading),
            What::Keys => seen.keys = kept.answer(what.rtype(), lookup, reading),
        }
        &[]
    }

    fn after_version(&self) -> &'static [What] {
        let Some(version) = &self.seen.version else { return &[] };
        match &version.answer.outcome {
            ServerOutcome::Records | ServerOutcome::Truncated => &FURTHER,
            ServerOutcome::Rcode(RCODE_FORMERR | RCODE_NOTIMP | RCODE_BADVERS) | ServerOutcome::Unreadable => {
                &[What::WithoutEdns]
            }
            outcome if is_nothing(outcome) => &[What::WithoutEdns],
            // It does not serve the zone.
            _ => &[],
        }
    }
}

fn mixed_case(lookup: &DnsLookup, reading: &Reading) -> Option<MixedCase> {
    if lookup.tcp_because == Some(TcpReason::CaseNotCopied) {
        return Some(MixedCase::NotCopied);
    }
    Some(match answer(lookup, reading)?.outcome {
        ServerOutcome::Records | ServerOutcome::Truncated => MixedCase::Copied,
        other => MixedCase::Unlike(other),
    })
}
