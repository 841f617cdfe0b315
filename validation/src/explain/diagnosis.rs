//! What a zone's own name servers say, in words: which of them does what, whose turn it is.
//!
//! Servers are put into groups by what is wrong with them; each group makes a sentence, and the first one says
//! whose turn it is.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Blame, Retry,
    dns::rcode_name,
    text::{SHOWN_BYTES, list, number, seconds},
};
use crate::{
    base::limits::DIAGNOSED_SERVERS_MAX,
    observation::{
        Diagnosis, DnsFailure, DnsLookup, DnsOutcome, NetworkError, RecordType, ServerAnswer, ServerOutcome, ServerView,
    },
};

/// What a diagnosis comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Whose turn it is, and when to try again, if a fault was found.
    pub(super) fault: Option<(Blame, Retry)>,
    /// The first of them is that signatures expired.
    pub(super) is_expiry: bool,
    /// What was found.
    pub(super) sentences: Vec<String>,
}

/// What is wrong with a server, the most telling first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// It answers A and is silent on the question, over TCP too.
    Drops,
    /// The same, and it answers over TCP.
    DropsUdp,
    /// It answers this code to this question.
    Rcode(u16),
    /// It answers this code to everything.
    RcodeAlways(u16),
    /// The answer needs TCP, which it does not give.
    NoTcp(TcpFault),
    /// Neither AA nor SOA.
    NotAuthoritative,
    /// It refers to this zone's servers in place of an answer.
    Refers(String),
    Unreadable,
    /// All signatures over its answer expired then.
    Expired(Timestamp),
    /// No reply to anything.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TcpFault {
    Refused,
    Silent,
    Broken,
}

/// Whether a diagnosis is about this lookup.
pub(super) fn is_about(diagnosis: &Diagnosis, lookup: &DnsLookup) -> bool {
    let DnsLookup { name, rtype, outcome, validation, .. } = lookup;
    let fault = match outcome {
        DnsOutcome::Failed(DnsFailure::IncompleteChain(target)) if diagnosis.name == *target => return true,
        DnsOutcome::Failed(DnsFailure::Dnssec(fault)) => Some(fault),
        _ => validation.as_ref().and_then(|v| v.first_fault.as_ref().or(v.fault.as_ref())),
    };
    let behind_alias = fault.and_then(|fault| fault.owner()) == Some(diagnosis.name.as_str());
    *rtype == diagnosis.rtype && (*name == diagnosis.name || behind_alias)
}

/// What the servers say.
#[must_use]
pub fn sentences(diagnosis: &Diagnosis) -> Vec<String> {
    told(diagnosis).sentences
}

/// What the servers say, and what follows from it.
pub(super) fn told(diagnosis: &Diagnosis) -> Told {
    let asked: Vec<&ServerView> = diagnosis.servers.iter().filter(|server| is_known(server)).collect();
    if asked.is_empty() {
        return Told::default();
    }
    let mut groups: BTreeMap<Fault, Vec<&ServerView>> = BTreeMap::new();
    for server in &asked {
        if let Some(fault) = fault_of(server, diagnosis) {
            groups.entry(merged(fault)).or_default().push(server);
        }
    }
    let mut told = Told::default();
    for (fault, servers) in &groups {
        let group = Group { diagnosis, servers, of: asked.len() };
        let (blame, retry) = group.fault(fault);
        if told.fault.is_none() {
            told.fault = Some((blame, retry));
            told.is_expiry = matches!(fault, Fault::Expired(_));
        }
        told.sentences.extend(group.say(fault));
    }
    if let Some(text) = versions(diagnosis, &asked) {
        told.fault.get_or_insert((Blame::Dns, Retry::Later));
        told.sentences.push(text);
    }
    told
}

/// That the servers answer us as they should, if they do.
pub(super) fn sound(diagnosis: &Diagnosis) -> Option<String> {
    let asked: Vec<&ServerView> = diagnosis.servers.iter().filter(|server| is_known(server)).collect();
    if asked.is_empty() || asked.iter().any(|server| fault_of(server, diagnosis).is_some()) {
        return None;
    }
    let group = Group { diagnosis, servers: &asked, of: asked.len() };
    Some(format!(
        "Asked by us directly, {} {} {}, so the fault lies between our resolver and them, or is over.",
        group.all(),
        group.verb("answers", "answer"),
        diagnosis.rtype
    ))
}

/// Whether enough was asked of a server to tell of it. Of one that is silent on the question alone, since time ran out
/// before anything else was asked, it is not known whether it is dead.
fn is_known(server: &ServerView) -> bool {
    let silent = |answer: &ServerAnswer| *answer.last() == ServerOutcome::Silent;
    let else_asked = server.contrast.is_some() || server.serial.is_some();
    server.answer.as_ref().is_some_and(|answer| !silent(answer) || else_asked)
}

/// Servers whose signatures expired at different times make one group.
fn merged(fault: Fault) -> Fault {
    match fault {
        Fault::Expired(_) => Fault::Expired(Timestamp::UNIX_EPOCH),
        other => other,
    }
}

fn fault_of(server: &ServerView, diagnosis: &Diagnosis) -> Option<Fault> {
    let answer = server.answer.as_ref()?;
    let contrast = server.contrast.as_ref();
    let speaks = contrast.is_some_and(ServerAnswer::is_reply) || server.serial.is_some();
    let denies = matches!(answer.last(), ServerOutcome::Nodata | ServerOutcome::Nxdomain);
    if denies && !answer.authoritative && !answer.soa {
        return Some(Fault::NotAuthoritative);
    }
    match (&answer.outcome, &answer.over_tcp) {
        (
            ServerOutcome::Silent | ServerOutcome::Network(_),
            None | Some(ServerOutcome::Silent | ServerOutcome::Network(_)),
        ) => Some(if speaks { Fault::Drops } else { Fault::Dead }),
        (ServerOutcome::Silent, Some(_)) => Some(Fault::DropsUdp),
        (ServerOutcome::Truncated | ServerOutcome::Unreadable, Some(ServerOutcome::Silent)) => {
            Some(Fault::NoTcp(TcpFault::Silent))
        }
        (ServerOutcome::Truncated | ServerOutcome::Unreadable, Some(ServerOutcome::Network(error))) => {
            Some(Fault::NoTcp(match error {
                NetworkError::Refused => TcpFault::Refused,
                NetworkError::Timeout => TcpFault::Silent,
                _ => TcpFault::Broken,
            }))
        }
        _ => match answer.last() {
            ServerOutcome::Rcode(code) => {
                let always = contrast.is_some_and(|contrast| *contrast.last() == ServerOutcome::Rcode(*code));
                Some(if always { Fault::RcodeAlways(*code) } else { Fault::Rcode(*code) })
            }
            // A zone below answers for itself.
            ServerOutcome::Referral(zone) if zone.len() <= diagnosis.zone.len() => Some(Fault::Refers(zone.clone())),
            ServerOutcome::Unreadable => Some(Fault::Unreadable),
            _ => server.signatures_expired.map(Fault::Expired),
        },
    }
}

/// Servers with the same fault, out of so many that were asked.
struct Group<'a> {
    diagnosis: &'a Diagnosis,
    servers: &'a [&'a ServerView],
    of: usize,
}

impl Group<'_> {
    fn is_all(&self) -> bool {
        self.servers.len() == self.of
    }

    /// Whether of each server that has an address enough was asked.
    fn are_all_known(&self) -> bool {
        self.diagnosis.servers.iter().filter(|server| server.address.is_some()).count() == self.of
    }

    /// `singular` if one server does it.
    fn verb(&self, singular: &'static str, plural: &'static str) -> &'static str {
        if self.servers.len() == 1 { singular } else { plural }
    }

    /// `198.51.100.1 and 198.51.100.2`.
    fn addresses(&self) -> String {
        let texts: Vec<String> = self.servers.iter().filter_map(|server| Some(server.address?.to_string())).collect();
        list(&texts)
    }

    /// `ns1.customer.example (198.51.100.1) and …`.
    fn names(&self) -> String {
        let texts: Vec<String> = self.servers.iter().map(|server| label(server)).collect();
        list(&texts)
    }

    /// All of them.
    fn all(&self) -> String {
        let zone = &self.diagnosis.zone;
        // There may be more of them than were asked.
        let some = self.diagnosis.servers.len() > self.of || self.of >= DIAGNOSED_SERVERS_MAX;
        let asked = if some { " that we asked" } else { "" };
        match self.of {
            1 if some => format!("the nameserver {} of {zone}, the only one that we could ask,", self.names()),
            1 => format!("the nameserver {} of {zone}", self.names()),
            2 => format!("both nameservers of {zone}{asked}"),
            count => format!("all {} nameservers of {zone}{asked}", number(count)),
        }
    }

    /// All of them, or these by name, as a sentence begins.
    fn whom(&self) -> String {
        if self.is_all() { capital(&self.all()) } else { self.names() }
    }

    fn fault(&self, fault: &Fault) -> (Blame, Retry) {
        match fault {
            Fault::Drops | Fault::DropsUdp | Fault::NoTcp(TcpFault::Silent) => (Blame::Filter, Retry::Fix),
            Fault::Rcode(_)
            | Fault::RcodeAlways(_)
            | Fault::NoTcp(_)
            | Fault::NotAuthoritative
            | Fault::Refers(_)
            | Fault::Unreadable => (Blame::Dns, Retry::Fix),
            Fault::Expired(_) if self.is_all() => (Blame::Record, Retry::Fix),
            Fault::Expired(_) => (Blame::Dns, Retry::Fix),
            Fault::Dead => (Blame::Dns, Retry::Later),
        }
    }

    fn say(&self, fault: &Fault) -> Vec<String> {
        let Diagnosis { rtype, zone, .. } = self.diagnosis;
        let (it, its) = (self.verb("it", "them"), self.verb("Its", "Their"));
        match fault {
            Fault::Drops => self.say_drops(),
            Fault::DropsUdp => vec![format!(
                "{} {} {rtype} over TCP but not over UDP. A firewall in front of {it} is probably discarding such packets.",
                self.addresses(),
                self.verb("answers", "answer")
            )],
            Fault::Rcode(code) => vec![format!(
                "{} {} {} to {rtype} (type {}). {} should answer NOERROR with an empty answer.",
                self.whom(),
                self.verb("answers", "answer"),
                rcode_name(*code),
                rtype.number(),
                self.verb("It", "They")
            )],
            Fault::RcodeAlways(code) => {
                let addresses =
                    if self.is_all() && self.of > 1 { format!(" ({})", self.addresses()) } else { String::new() };
                let advice = match code {
                    2 => "The zone is probably not loaded there, or its copy has run out.",
                    5 => "Serve the zone there, or correct the delegation at the registrar.",
                    _ => "See what is wrong there.",
                };
                let (whom, answer) = (self.whom(), self.verb("answers", "answer"));
                vec![format!("{whom}{addresses} {answer} {} to every question. {advice}", rcode_name(*code))]
            }
            Fault::NoTcp(tcp) => vec![format!(
                "The {rtype} answer does not fit UDP and {} {} TCP port 53.",
                self.addresses(),
                match tcp {
                    TcpFault::Refused => self.verb("refuses", "refuse"),
                    TcpFault::Silent => self.verb("does not answer on", "do not answer on"),
                    TcpFault::Broken => self.verb("gives no answer on", "give no answer on"),
                }
            )],
            Fault::NotAuthoritative => vec![format!(
                "{} {} without the authoritative flag and without SOA; resolvers may reject that.",
                self.names(),
                self.verb("answers", "answer")
            )],
            Fault::Refers(elsewhere) => vec![format!(
                "{} {} to the nameservers of {} in place of an answer: {zone} is not served there.",
                self.names(),
                self.verb("refers", "refer"),
                if elsewhere == "." { "the root" } else { elsewhere }
            )],
            Fault::Unreadable => vec![format!(
                "{} {} to {rtype} with a message that cannot be read.",
                self.names(),
                self.verb("replies", "reply")
            )],
            Fault::Expired(_) => vec![self.say_expired(its)],
            Fault::Dead if self.is_all() && self.are_all_known() => vec![self.say_dead()],
            Fault::Dead => vec![format!("{} {} not answer at all.", self.names(), self.verb("does", "do"))],
        }
    }

    fn say_drops(&self) -> Vec<String> {
        let rtype = self.diagnosis.rtype;
        let contrasts = self.servers.iter().filter_map(|server| server.contrast.as_ref());
        let slowest = contrasts.filter(|contrast| contrast.is_reply()).map(|contrast| contrast.elapsed_us).max();
        let contrast = slowest.map_or("SOA".to_owned(), |us| format!("A in {}", seconds(us)));
        let what = if rtype == RecordType::Caa { "query types it does not know" } else { "such queries" };
        let mut texts = vec![format!(
            "{} {} {contrast} but never {rtype}. A firewall in front of {} is probably discarding {what}.",
            self.addresses(),
            self.verb("answers", "answer"),
            self.verb("it", "them")
        )];
        let tcp = self.servers.iter().find_map(|server| server.answer.as_ref()?.over_tcp.as_ref());
        if let Some(outcome) = tcp {
            texts.push(match outcome {
                ServerOutcome::Network(NetworkError::Refused) => "TCP was tried too, and refused.".to_owned(),
                ServerOutcome::Network(_) => "TCP was tried too, and closed without an answer.".to_owned(),
                _ => "TCP was tried too, and not answered.".to_owned(),
            });
        }
        texts
    }

    fn say_dead(&self) -> String {
        let refused = |server: &&ServerView| {
            let outcome = server.answer.as_ref().map(|answer| &answer.outcome);
            outcome == Some(&ServerOutcome::Network(NetworkError::Refused))
        };
        let closed = if self.servers.iter().all(refused) { " Nothing listens on port 53 there." } else { "" };
        format!("None of the nameservers of {} ({}) answers.{closed}", self.diagnosis.zone, self.addresses())
    }

    /// `cases.md` D34.
    fn say_expired(&self, its: &str) -> String {
        let Diagnosis { zone, name, rtype, .. } = self.diagnosis;
        let mut times: Vec<String> =
            self.servers.iter().filter_map(|server| Some(server.signatures_expired?.to_string())).collect();
        times.sort_unstable();
        times.dedup();
        let (what, when) = (format!("over {rtype} of {name}"), list(&times));
        if self.is_all() {
            let addresses = if self.of == 1 { String::new() } else { format!(" ({})", self.addresses()) };
            return format!(
                "Signatures from {}{addresses} {what} expired {when}. Sign the zone {zone} anew.",
                self.all()
            );
        }
        let others = self.diagnosis.servers.iter().filter(|server| server.signatures_expired.is_none());
        let current =
            others.clone().all(|server| fault_of(server, self.diagnosis).is_none() && server.answer.is_some());
        let others = match (current, others.count()) {
            (false, _) => "",
            (true, 1) => "; the other server is current",
            (true, _) => "; the other servers are current",
        };
        format!("Signatures from {} {what} expired {when}{others}. {its} zone transfer seems stuck.", self.names())
    }
}

fn label(server: &ServerView) -> String {
    server.address.map_or_else(|| server.name.clone(), |address| format!("{} ({address})", server.name))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// That the servers hold different versions of the zone (`cases.md` D17).
fn versions(diagnosis: &Diagnosis, asked: &[&ServerView]) -> Option<String> {
    let mut groups: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for server in asked {
        let (Some(serial), Some(address)) = (server.serial, server.address) else { continue };
        let nsid = server.nsid.as_ref().map(|nsid| format!(" (NSID {})", nsid.shown(SHOWN_BYTES))).unwrap_or_default();
        groups.entry(serial).or_default().push(format!("{address}{nsid}"));
    }
    if groups.len() < 2 {
        return None;
    }
    let most = groups.values().map(Vec::len).max().filter(|most| *most > 1);
    // The largest group comes last and needs no list.
    let (large, small): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(_, servers)| Some(servers.len()) == most);
    let mut texts: Vec<String> =
        small.iter().map(|(serial, servers)| format!("{serial} at {}", list(servers))).collect();
    match large.as_slice() {
        [(serial, _)] if !texts.is_empty() => texts.push(format!("{serial} at the others")),
        large => texts.extend(large.iter().map(|(serial, servers)| format!("{serial} at {}", list(servers)))),
    }
    Some(format!(
        "The nameservers of {} hold different versions of the zone: serial {}.",
        diagnosis.zone,
        texts.join(", ")
    ))
}
