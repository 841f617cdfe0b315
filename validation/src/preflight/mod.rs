//! What a check of a name would meet, and what to mend before there is one.
//!
//! A pure function of what was asked, of the rules, and of what each perspective saw: its own lookups of CAA and of the
//! challenge name, as a check makes them, and its survey of the zone's name servers. The [`Outlook`] counts by the rule
//! that a verdict is made by ([`crate::verdict::decide()`]); it is no verdict and authorizes nothing, and no attempt uses
//! what was seen here.
//!
//! * `view`: who saw what, and putting servers together that show the same.
//! * `outlook`: what a check would come to.
//! * `reach`, `serving`, `delegation`, `data`, `caa`, `signing`, `resolver`: findings by subject.
//!
//! Left out: domain control. A preflight knows no challenge, so it tells where the challenge record stands and not whether
//! it is right; and it shows no value of it.
//!
//! Invariant: a finding that blocks stands beside an outlook that does not permit, or names what will keep a check from
//! an answer at every server.

mod caa;
mod data;
mod delegation;
mod outlook;
mod reach;
mod resolver;
mod serving;
mod signing;
mod view;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::outlook::{DrawnOutlook, Outlook};
use self::view::{Case, View};
use crate::{
    base::perspective::PerspectiveId,
    explain::Blame,
    observation::Observation,
    record::{Rules, determine, role_at},
    request::CheckRequest,
};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// A check would fail.
    Blocks,
    /// A check may fail, by chance of which server is asked, or with one fault more.
    MayBlock,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocks => "blocks",
            Self::MayBlock => "may block",
            Self::Note => "note",
        })
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// What a finding is, by a name that does not change from version to version.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

codes! {
    /// No zone was found that the name lies in.
    ZoneNotFound = "zone-not-found",
    /// The name exists, and its zone is not one that is surveyed.
    ZoneNotSurveyed = "zone-not-surveyed",
    /// No name server answers any perspective.
    NoServerAnswers = "no-server-answers",
    /// Some perspectives reach no name server (`cases.md` D02).
    PerspectiveReachesNoServer = "perspective-reaches-no-server",
    /// A perspective hears no name server at all, of whatever zone: its own way is closed.
    PerspectiveCannotAsk = "perspective-cannot-ask",
    /// A server's address answers nobody.
    ServerUnreachable = "server-unreachable",
    /// A server's address does not answer some perspectives.
    ServerUnreachableFromSome = "server-unreachable-from-some",
    /// A server answers over TCP and not over UDP.
    UdpNotAnswered = "udp-not-answered",
    /// A server answers over UDP and not over TCP (`cases.md` D33).
    TcpNotAnswered = "tcp-not-answered",
    /// A server does not serve the zone.
    LameServer = "lame-server",
    /// The zone above names no servers of the zone.
    NotDelegated = "not-delegated",
    /// The zone above could not be asked.
    DelegationNotChecked = "delegation-not-checked",
    /// The zone above names a server that the zone does not.
    ServerOnlyAtParent = "server-only-at-parent",
    /// The zone names a server that the zone above does not.
    ServerOnlyAtChild = "server-only-at-child",
    /// The servers do not name the same servers.
    ServerSetsDiffer = "server-sets-differ",
    /// The zone above gives other addresses of a server than its own records do.
    GlueDiffers = "glue-differs",
    /// A server has no address.
    ServerWithoutAddress = "server-without-address",
    /// A server has an address that is not connected to.
    ServerAddressForbidden = "server-address-forbidden",
    /// A server drops what has EDNS.
    EdnsDropped = "edns-dropped",
    /// A server does not know EDNS.
    EdnsNotUnderstood = "edns-not-understood",
    /// A server does not copy the case of names (`cases.md` D23).
    CaseNotCopied = "case-not-copied",
    /// A server has no answer for a name in mixed case (`cases.md` D23).
    MixedCaseNotAnswered = "mixed-case-not-answered",
    /// A server offers recursion to everybody.
    RecursionOffered = "recursion-offered",
    /// Servers hold different versions of the zone (`cases.md` D17).
    SerialsDiffer = "serials-differ",
    /// A server has no answer to CAA (`cases.md` D24, D25, D33).
    CaaNotAnswered = "caa-not-answered",
    /// A server denies CAA without AA and SOA (`cases.md` D26).
    CaaDenialBare = "caa-denial-bare",
    /// Servers hold different CAA records.
    CaaDiffers = "caa-differs",
    /// CAA forbids this CA.
    CaaForbids = "caa-forbids",
    /// CAA permits this CA to some accounts or methods only.
    CaaBinds = "caa-binds",
    /// CAA permits this CA.
    CaaPermits = "caa-permits",
    /// There is no CAA record.
    CaaNone = "caa-none",
    /// Servers hold different records at the challenge name.
    ChallengeDiffers = "challenge-differs",
    /// Some servers have no record at the challenge name, and others have.
    ChallengeMissingAtSome = "challenge-missing-at-some",
    /// There is no record at the challenge name.
    ChallengeMissing = "challenge-missing",
    /// A server has no answer to TXT.
    ChallengeNotAnswered = "challenge-not-answered",
    /// The challenge name is an alias.
    ChallengeIsAlias = "challenge-is-alias",
    /// The challenge name lies in a zone of its own.
    ChallengeDelegated = "challenge-delegated",
    /// A wildcard answers for the challenge name (`cases.md` D22).
    WildcardAnswersChallenge = "wildcard-answers-challenge",
    /// A record at the challenge name is remembered for long.
    ChallengeTtlLong = "challenge-ttl-long",
    /// That there is no record is remembered for long.
    NegativeTtlLong = "negative-ttl-long",
    /// No key of the zone fits the DS of the zone above (`cases.md` D35).
    DsMatchesNoKey = "ds-matches-no-key",
    /// Answers of a signed zone have no signatures.
    SignaturesMissing = "signatures-missing",
    /// Signatures have expired (`cases.md` D34).
    SignaturesExpired = "signatures-expired",
    /// The perspective's own lookup fails, though the servers answer.
    ResolverFails = "resolver-fails",
    /// The perspective's own lookup fails.
    LookupFails = "lookup-fails",
    /// Too few perspectives would confirm, for more reasons than one.
    QuorumMissed = "quorum-missed",
    /// A perspective told nothing.
    PerspectiveSilent = "perspective-silent",
    /// A perspective's node does not know surveys.
    PerspectiveOld = "perspective-old",
    /// Something was left out, or the time ran out.
    SurveyIncomplete = "survey-incomplete",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A server at one address; the address is none if the finding is about its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServerAt {
    /// Its name.
    pub server: String,
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<std::net::IpAddr>,
}

/// Something that should be known or mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is.
    pub code: Code,
    /// Whose turn it is.
    pub blame: Blame,
    /// Servers it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerAt>,
    /// Perspectives that saw it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perspectives: Vec<PerspectiveId>,
    /// What is so and what to do, in sentences.
    pub text: String,
}

/// What a preflight came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// The name, with `*.` if it is a wildcard.
    pub name: String,
    /// Its zone, if one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The instant whose rule is used.
    pub at: Timestamp,
    /// What a check would come to.
    pub outlook: Outlook,
    /// The gravest first.
    pub findings: Vec<Finding>,
}

impl Preflight {
    /// Whether a finding blocks.
    #[must_use]
    pub fn blocks(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Blocks)
    }
}

/// What is asked of a preflight.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The name, as a check of CAA.
    pub request: &'a CheckRequest,
    /// Perspectives, issuer domains and policy rows.
    pub rules: &'a Rules,
    /// The instant whose row is used.
    pub at: Timestamp,
}

/// Judges what was seen: one observation for each perspective of the rules in their order, those on trial last, which are
/// told of and not counted. None stands for one that told nothing.
#[must_use]
pub fn judge(subject: &Subject<'_>, seen: &[Option<&Observation>]) -> Preflight {
    let setup = subject.rules.setup();
    let everybody = setup.perspectives.iter().chain(&setup.conduct.trials);
    let views: Vec<View<'_>> = everybody
        .enumerate()
        .map(|(place, perspective)| {
            let observation = seen.get(place).copied().flatten();
            let determination =
                observation.map(|observation| determine(subject.rules, role_at(place), subject.request, observation));
            let counts = place < setup.perspectives.len();
            View { perspective, observation, determination, counts, strays: false }
        })
        .collect();
    let case = Case::new(subject.request, views);
    let outlook = outlook::outlook(subject, &case);
    let would_fail = outlook.would_fail();
    let mut findings = Vec::new();
    resolver::perspectives(&case, &mut findings);
    reach::findings(&case, would_fail, &mut findings);
    serving::findings(&case, would_fail, &mut findings);
    delegation::findings(&case, &mut findings);
    data::findings(&case, &mut findings);
    caa::findings(&case, would_fail, &mut findings);
    signing::findings(&case, &mut findings);
    resolver::findings(&case, would_fail, &mut findings);
    let blocks = findings.iter().any(|finding| finding.severity == Severity::Blocks);
    let is_told = outlook.permits || (would_fail && blocks);
    if !is_told {
        findings.push(outlook::quorum_missed(&outlook));
    }
    findings.sort_by_key(|finding| finding.severity);
    Preflight { name: subject.request.identifier.to_string(), zone: case.zone, at: subject.at, outlook, findings }
}
